//! Positions in a partition: start and end, gaps that retention left, and the metadata of a committed offset.
//!
//! A position is the pair (offset, stream time). A run that resumes a partition resumes its stream time too, so that
//! the same events are late. The stream time is kept in the metadata of the committed offset.

use crate::counts::counted;
use crate::time::{format_instant, parse_instant};
use crate::uri::kafka::{Bound, KeptPosition};
use std::collections::BTreeMap;

/// Prefix of the stream time in the metadata of a committed offset.
const MARK: &str = "evt stream_time=";

/// Returns the metadata of a committed offset with this stream time (µs).
pub fn metadata(stream_time: i64) -> String {
    format!("{MARK}{}", format_instant(stream_time))
}

/// Returns the stream time (µs) in `metadata`; `None` if another program committed the offset.
pub fn stream_time(metadata: &str) -> Option<i64> {
    parse_instant(metadata.strip_prefix(MARK)?)
}

/// A partition of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartitionId {
    /// The index of its topic in the address.
    pub topic: usize,
    /// Its number.
    pub number: i32,
}

impl PartitionId {
    /// Returns its name, for messages; `topics` are those of the address.
    pub fn name(self, topics: &[String]) -> String {
        format!("{}/{}", topics[self.topic], self.number)
    }
}

/// Values by partition.
pub type ByPartition<T> = BTreeMap<PartitionId, T>;

/// A position in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub id: PartitionId,
    /// The next offset.
    pub offset: i64,
    /// The stream time there (µs); `None` before the first row, if another program committed the offset, or if it is
    /// not needed.
    pub stream_time: Option<i64>,
}

/// The offsets that a broker has of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffsetSpan {
    /// The first offset.
    pub low: i64,
    /// The offset after the last one.
    pub high: i64,
}

/// A requested offset that the partition does not contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The requested offset.
    pub wanted: i64,
    /// The offsets of the partition, after retention or of a partition that is now shorter.
    pub extent: OffsetSpan,
}

impl Gap {
    /// Whether the partition ends before the requested offset. Its records are then not those that were read before:
    /// reading begins at its start, without a stream time.
    pub fn is_truncation(&self) -> bool {
        self.wanted > self.extent.high
    }

    /// Describes the loss for a message.
    pub fn describe(&self) -> String {
        let Self { wanted, extent: OffsetSpan { low, high } } = self;
        match self.is_truncation() {
            false => {
                let removed = counted((low - wanted).unsigned_abs(), ["offset was", "offsets were"]);
                format!("{removed} removed by retention: {wanted} to {}", low - 1)
            }
            true => format!("the partition ends at offset {high}, before {wanted}: it lost records or was recreated"),
        }
    }
}

/// Returns the gap if the next offset to be read is outside of the partition.
pub fn gap(wanted: i64, extent: OffsetSpan) -> Option<Gap> {
    (wanted < extent.low || wanted > extent.high).then_some(Gap { wanted, extent })
}

/// Returns the offset that `bound` denotes in a partition. `at_instant` is the first offset at the bound's instant, if
/// the bound is an instant and there is such a record.
pub fn offset_of(bound: &Bound, id: PartitionId, extent: OffsetSpan, at_instant: Option<i64>) -> Option<i64> {
    match bound {
        Bound::Earliest => Some(extent.low),
        Bound::Latest => Some(extent.high),
        Bound::Instant(_) => Some(at_instant.unwrap_or(extent.high)),
        Bound::Offsets(offsets) => offsets.iter().find(|(partition, _)| *partition == id.number).map(|(_, at)| *at),
        Bound::Kept(kept) => Some(kept_of(kept, id).map_or(extent.low, |kept| kept.next)),
    }
}

/// Returns the position of a partition among those that a tool has kept.
pub fn kept_of(kept: &[KeptPosition], id: PartitionId) -> Option<&KeptPosition> {
    kept.iter().find(|kept| (kept.topic, kept.partition) == (id.topic, id.number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SOME: OffsetSpan = OffsetSpan { low: 10, high: 20 };

    #[test]
    fn what_another_program_committed_has_no_stream_time() {
        for text in ["", "consumer-1", "evt", "evt stream_time=", "evt stream_time=soon"] {
            assert_eq!(stream_time(text), None, "{text}");
        }
    }

    #[test]
    fn an_offset_outside_of_its_partition_is_a_gap() {
        assert_eq!(gap(9, SOME), Some(Gap { wanted: 9, extent: SOME }));
        assert_eq!(gap(10, SOME), None);
        assert_eq!(gap(20, SOME), None);
        let beyond = gap(21, SOME).unwrap();
        assert!(beyond.is_truncation());
        assert!(!gap(9, SOME).unwrap().is_truncation());
        assert!(beyond.describe().contains("ends at offset 20"), "{}", beyond.describe());
        assert_eq!(gap(7, SOME).unwrap().describe(), "3 offsets were removed by retention: 7 to 9");
    }

    #[test]
    fn a_bound_names_an_offset_in_each_partition() {
        let [first, second] = [0, 1].map(|number| PartitionId { topic: 0, number });
        assert_eq!(offset_of(&Bound::Earliest, first, SOME, None), Some(10));
        assert_eq!(offset_of(&Bound::Latest, first, SOME, None), Some(20));
        assert_eq!(offset_of(&Bound::Instant("now".into()), first, SOME, Some(12)), Some(12));
        assert_eq!(offset_of(&Bound::Instant("now".into()), first, SOME, None), Some(20));
        let offsets = Bound::Offsets(vec![(1, 15)]);
        assert_eq!(offset_of(&offsets, second, SOME, None), Some(15));
        assert_eq!(offset_of(&offsets, first, SOME, None), None);
        let kept = Bound::Kept(vec![KeptPosition { topic: 1, partition: 0, next: 17, stream_time: None }]);
        assert_eq!(offset_of(&kept, PartitionId { topic: 1, number: 0 }, SOME, None), Some(17));
        assert_eq!(offset_of(&kept, first, SOME, None), Some(10), "another topic");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_committed_stream_time_comes_back_to_the_microsecond(instant in -62_135_596_800_000_000i64..253_402_300_800_000_000) {
            prop_assert_eq!(stream_time(&metadata(instant)), Some(instant));
        }
    }
}
