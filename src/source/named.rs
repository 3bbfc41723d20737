//! The partitions that the inputs have reported.
//!
//! If two inputs report the same partition, no watermark may be computed from their common stream before its end.

use crate::frame::PartitionState;
use ahash::AHashMap;

/// The partitions that the inputs of a run have reported.
#[derive(Default)]
pub(super) struct Named {
    /// The first input that reported each partition, by origin and name.
    inputs: AHashMap<(String, String), u32>,
    repeated: bool,
}

impl Named {
    /// Adds the partitions of a progress message.
    pub(super) fn learn(&mut self, partitions: &[PartitionState]) {
        for told in partitions {
            let name = (told.origin.clone(), told.partition.clone());
            self.repeated |= *self.inputs.entry(name).or_insert(told.input) != told.input;
        }
    }

    /// Whether two inputs reported the same partition.
    pub(super) fn is_repeated(&self) -> bool {
        self.repeated
    }
}
