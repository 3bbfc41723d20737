//! The name of a partition.

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
