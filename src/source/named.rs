//! Which partitions the inputs have named.

use crate::frame::PartitionState;
use ahash::AHashMap;

/// The partitions that the inputs of a run have told of.
#[derive(Default)]
pub(super) struct Named {
    inputs: AHashMap<(String, String), u32>,
    repeated: bool,
}

impl Named {
    /// Learns what a progress message tells.
    pub(super) fn learn(&mut self, partitions: &[PartitionState]) {
        for told in partitions {
            let name = (told.origin.clone(), told.partition.clone());
            self.repeated |= *self.inputs.entry(name).or_insert(told.input) != told.input;
        }
    }

    /// Whether two inputs told of one partition.
    pub(super) fn is_repeated(&self) -> bool {
        self.repeated
    }
}
