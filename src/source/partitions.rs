//! The partitions that the inputs have reported.
//!
//! If two inputs report the same partition, its stream time goes back in their common stream. So no stage may compute a
//! watermark from that stream before its end.

use crate::frame::PartitionState;
use crate::kind::PartitionName;
use ahash::AHashMap;

/// The partitions that the inputs of a run have reported.
#[derive(Default)]
pub(super) struct ReportedPartitions {
    /// The first input that reported each partition.
    inputs: AHashMap<PartitionName, u32>,
    repeated: bool,
}

impl ReportedPartitions {
    /// Adds the partitions of a progress message.
    pub(super) fn learn(&mut self, partitions: &[PartitionState]) {
        for reported in partitions {
            self.repeated |= *self.inputs.entry(reported.name()).or_insert(reported.input) != reported.input;
        }
    }

    /// Whether two inputs reported the same partition.
    pub(super) fn is_repeated(&self) -> bool {
        self.repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::State;

    #[test]
    fn a_partition_is_repeated_if_another_input_reports_it() {
        let report = |input: u32, origin: &str, partition: &str| {
            let (origin, partition) = (origin.to_owned(), partition.to_owned());
            [PartitionState { input, origin, partition, stream_time: None, state: State::Live }]
        };
        let mut reported = ReportedPartitions::default();
        reported.learn(&report(0, "a", "0"));
        reported.learn(&report(0, "a", "0"));
        reported.learn(&report(1, "a", "1"));
        reported.learn(&report(1, "b", "0"));
        assert!(!reported.is_repeated());
        reported.learn(&report(1, "a", "0"));
        reported.learn(&[]);
        assert!(reported.is_repeated(), "it stays so");
    }
}
