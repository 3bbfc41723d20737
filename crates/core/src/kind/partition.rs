//! The names of partitions, and those in the columns of events.

use super::event::column;
use arrow::array::{AnyDictionaryArray, AsArray, RecordBatch};

/// The name of a partition: a file or topic, and a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionName {
    /// The file or topic.
    pub origin: String,
    /// The partition there.
    pub partition: String,
}

impl PartitionName {
    /// Makes the name of `partition` of `origin`.
    pub fn new(origin: impl Into<String>, partition: impl Into<String>) -> Self {
        Self { origin: origin.into(), partition: partition.into() }
    }
}

/// The partitions of the rows of a batch of events.
#[derive(Clone, Copy)]
pub struct PartitionColumns<'a>([&'a dyn AnyDictionaryArray; 2]);

impl<'a> PartitionColumns<'a> {
    /// Takes the columns of a batch.
    pub fn new(batch: &'a RecordBatch) -> Self {
        Self([column::ORIGIN, column::PARTITION].map(|at| batch.column(at).as_any_dictionary()))
    }

    /// Returns the code of the partition of each row, the same for all rows of a partition.
    pub fn codes(self) -> impl Iterator<Item = (usize, usize)> {
        let [origins, names] = self.0.map(AnyDictionaryArray::normalized_keys);
        origins.into_iter().zip(names)
    }

    /// Returns the name of the partition with a code.
    pub fn name(self, (origin, name): (usize, usize)) -> PartitionName {
        let text = |column: usize, code| self.0[column].values().as_string::<i32>().value(code);
        PartitionName::new(text(0, origin), text(1, name))
    }
}
