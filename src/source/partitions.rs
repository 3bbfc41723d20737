//! The partitions that the inputs have reported, and those that are not read up to now.
//!
//! If two inputs report the same partition, its stream time goes back in their common stream. So no stage may compute a
//! watermark from that stream before its end.

use ahash::AHashMap;
use evt_core::frame::PartitionState;
use evt_core::kind::PartitionName;
use evt_run::input::{Input, UnreadPartition};
use std::ops::Range;
use std::time::Duration;

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

/// Returns the partitions of which the stage does not have all rows up to now: those of pending inputs, and those that
/// the open inputs name. If the rows of an input have other partitions than the input names, one entry without a name
/// stands for all of its partitions.
pub(super) fn unread<'a>(
    pending: impl Iterator<Item = u32>,
    open: impl Iterator<Item = (u32, &'a dyn Input)>,
    maps_partition: bool,
) -> Vec<UnreadPartition> {
    let mut found: Vec<_> = pending.map(|input| UnreadPartition { input, name: None, answered: None }).collect();
    for (number, input) in open {
        let unread = input.unread();
        if maps_partition || input.reports_partitions() {
            let all = unread.into_iter().map(|one| one.answered);
            let both =
                |one: Range<Duration>, other: Range<Duration>| one.start.max(other.start)..one.end.min(other.end);
            let answered = all.reduce(|one, other| Some(both(one?, other?)));
            found.extend(answered.map(|answered| UnreadPartition { input: number, name: None, answered }));
        } else {
            found.extend(unread.into_iter().map(|one| UnreadPartition { input: number, ..one }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::frame::State;
    use evt_run::emit::RecordEmitter;
    use evt_run::input::Step;

    struct Topic(Vec<UnreadPartition>, bool);

    impl Input for Topic {
        fn step(&mut self, _: &mut RecordEmitter) -> evt_core::error::Result<Step> {
            Ok(Step::Idle)
        }

        fn reports_partitions(&self) -> bool {
            self.1
        }

        fn unread(&self) -> Vec<UnreadPartition> {
            self.0.clone()
        }
    }

    #[test]
    fn the_partitions_of_pending_inputs_are_unread_and_those_of_frames_all_if_one_is() {
        let at = Duration::from_secs;
        let named = |input: u32, name: &str, answered: Option<Range<u64>>| UnreadPartition {
            input,
            name: Some(PartitionName::new("t", name)),
            answered: answered.map(|span| at(span.start)..at(span.end)),
        };
        let all =
            |input: u32, answered: Option<Range<u64>>| UnreadPartition { name: None, ..named(input, "", answered) };
        let answers = [Some(1..9), Some(3..7)];
        for (is_framed, maps, answers, expected) in [
            (false, false, answers.clone(), vec![named(2, "0", Some(1..9)), named(2, "1", Some(3..7))]),
            (true, false, answers.clone(), vec![all(2, Some(3..7))]),
            (false, true, answers, vec![all(2, Some(3..7))]),
            (true, false, [Some(1..9), None], vec![all(2, None)]),
        ] {
            let [one, other] = answers;
            let topic = Topic(vec![named(0, "0", one), named(0, "1", other)], is_framed);
            let pipe = Topic(vec![], is_framed);
            let open: [(u32, &dyn Input); 2] = [(1, &pipe), (2, &topic)];
            let found = unread([3, 4].into_iter(), open.into_iter(), maps);
            assert_eq!(found, [vec![all(3, None), all(4, None)], expected].concat(), "{is_framed} {maps}");
        }
    }

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
