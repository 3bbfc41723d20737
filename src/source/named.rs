//! Which partitions the inputs have named.

use crate::frame::{PartitionState, State};
use crate::kind::Kind;
use crate::kind::event::column;
use ahash::{AHashMap, AHashSet};
use arrow::array::{AnyDictionaryArray, AsArray, RecordBatch};

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

/// The partitions in the rows of one input that brings no progress messages: a file or a store that holds rows of ours.
#[derive(Default)]
pub(super) struct Carried(AHashSet<(String, String)>);

impl Carried {
    /// Learns the partitions of a batch of events.
    pub(super) fn learn(&mut self, batch: &RecordBatch) {
        if Kind::of(batch.schema_ref()) != Some(Kind::Event) {
            return;
        }
        let origins = batch.column(column::ORIGIN).as_any_dictionary();
        let names = batch.column(column::PARTITION).as_any_dictionary();
        let mut known = AHashSet::new();
        let mut last = None;
        for code in origins.normalized_keys().into_iter().zip(names.normalized_keys()) {
            if last.replace(code) != Some(code) && known.insert(code) {
                self.0.insert((text(origins, code.0), text(names, code.1)));
            }
        }
    }

    /// All of them, ended, in the order of their names; the next input has none yet.
    pub(super) fn ended(&mut self, input: u32) -> Vec<PartitionState> {
        let mut names: Vec<(String, String)> = self.0.drain().collect();
        names.sort_unstable();
        let ended = |(origin, partition)| {
            let (stream_time, state) = (None, State::Ended);
            PartitionState { input, origin, partition, stream_time, state }
        };
        names.into_iter().map(ended).collect()
    }
}

fn text(column: &dyn AnyDictionaryArray, code: usize) -> String {
    column.values().as_string::<i32>().value(code).to_owned()
}
