//! Positions in a partition: start and end, gaps that retention left, and the metadata of a committed offset.
//!
//! A position is the pair (offset, stream time). A run that resumes a partition resumes its stream time too, so that
//! the same events are late. The stream time is kept in the metadata of the committed offset.

use crate::address::Bound;
use evt_core::counts::counted;
use evt_core::time::{format_instant, parse_instant};
use evt_run::input::topic_id::TopicId;
use std::collections::BTreeMap;

/// First word of the metadata of an offset that evt has committed.
const MARK: &str = "evt";
/// The names of the stream time and of the id of the topic in the metadata of a committed offset.
const STREAM_TIME: &str = "stream_time=";
const TOPIC_ID: &str = "topic_id=";
/// The name of the number of partitions there.
const PARTITIONS: &str = "partitions=";

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
    /// The id of the topic; `None` if it is not known.
    pub topic_id: Option<TopicId>,
    /// The number of partitions of the topic when its group began to read the partition: later ones were added. `None`
    /// if it does not matter where new partitions begin.
    pub partitions: Option<i32>,
}

impl Position {
    /// Makes a position without what only some commits have.
    pub fn new(id: PartitionId, offset: i64) -> Self {
        Self { id, offset, stream_time: None, topic_id: None, partitions: None }
    }

    /// Returns the metadata of the committed offset; `None` if there is nothing to keep.
    pub fn metadata(&self) -> Option<String> {
        let stream_time = self.stream_time.map(|time| format!(" {STREAM_TIME}{}", format_instant(time)));
        let topic_id = self.topic_id.map(|id| format!(" {TOPIC_ID}{id}"));
        let partitions = self.partitions.map(|count| format!(" {PARTITIONS}{count}"));
        let fields: String = stream_time.into_iter().chain(topic_id).chain(partitions).collect();
        (!fields.is_empty()).then(|| format!("{MARK}{fields}"))
    }

    /// Adds what the metadata of its committed offset has: nothing if another program committed it.
    pub fn with_metadata(mut self, metadata: &str) -> Self {
        let mut words = metadata.split(' ');
        if words.next() == Some(MARK) {
            for word in words {
                if let Some(time) = word.strip_prefix(STREAM_TIME) {
                    self.stream_time = parse_instant(time);
                } else if let Some(id) = word.strip_prefix(TOPIC_ID) {
                    self.topic_id = TopicId::parse(id);
                } else if let Some(count) = word.strip_prefix(PARTITIONS) {
                    self.partitions = count.parse().ok();
                }
            }
        }
        self
    }
}

/// The offsets that a broker has of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffsetSpan {
    /// The first offset.
    pub low: i64,
    /// The offset after the last one.
    pub high: i64,
}

/// The ids of a topic that was recreated since a position in it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecreatedTopic {
    /// The id of the topic that was read.
    pub read: TopicId,
    /// The id of the present topic.
    pub present: TopicId,
}

/// A requested offset that the partition does not contain, or that is one of an earlier topic of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The requested offset.
    pub wanted: i64,
    /// The offsets of the partition, after retention or of a partition that is now shorter.
    pub extent: OffsetSpan,
    /// The ids of the topic, if they show that it was recreated.
    pub recreated: Option<RecreatedTopic>,
}

impl Gap {
    /// Whether the topic was recreated, or the partition ends before the requested offset. The records of the partition
    /// are then not those that were read before: reading begins at its start, without a stream time.
    pub fn is_of_other_records(&self) -> bool {
        self.recreated.is_some() || self.wanted > self.extent.high
    }

    /// Describes the loss for a message.
    pub fn describe(&self) -> String {
        let Self { wanted, extent: OffsetSpan { low, high }, recreated } = self;
        if let Some(RecreatedTopic { read, present }) = recreated {
            return format!("expected the topic with the id {read}, found {present}: the topic was recreated");
        }
        match self.is_of_other_records() {
            false => {
                let removed = counted((low - wanted).unsigned_abs(), ["offset was", "offsets were"]);
                format!("{removed} removed by retention: {wanted} to {}", low - 1)
            }
            true => format!("the partition ends at offset {high}, before {wanted}: it lost records or was recreated"),
        }
    }
}

/// Whether a partition without a committed offset was added to its topic after its group had begun to read that.
/// `committed`: what the group has committed of its topics. Another program, or evt without a `start=` that changes,
/// commits no number of partitions; all that it has read then have offsets.
pub fn is_added(id: PartitionId, committed: &[Position]) -> bool {
    let mut of_topic = committed.iter().filter(|one| one.id.topic == id.topic);
    of_topic.any(|one| one.partitions.is_none_or(|count| id.number >= count))
}

/// Returns the gap if the next offset to be read is outside of the partition.
pub fn gap(wanted: i64, extent: OffsetSpan) -> Option<Gap> {
    (wanted < extent.low || wanted > extent.high).then_some(Gap { wanted, extent, recreated: None })
}

/// Returns the gap if a position is one of an earlier topic of the same name. `present` is the id of the topic, and
/// `end` that of the range in the earlier one. A topic without an id is not compared, and nothing is lost if the
/// earlier topic was not read yet, unless records before the end were to be read.
pub fn recreated(position: &Position, present: Option<TopicId>, extent: OffsetSpan, end: Option<i64>) -> Option<Gap> {
    let recreated = RecreatedTopic { read: position.topic_id?, present: present? };
    let is_lost = position.offset > 0 || end.is_some_and(|end| end > position.offset);
    let is_gap = is_lost && recreated.read != recreated.present;
    is_gap.then_some(Gap { wanted: position.offset, extent, recreated: Some(recreated) })
}

/// Returns the offset that `bound` denotes in a partition. `at_instant` is the first offset at the bound's instant, if
/// the bound is an instant and there is such a record.
pub fn offset_of(bound: &Bound, id: PartitionId, extent: OffsetSpan, at_instant: Option<i64>) -> Option<i64> {
    match bound {
        Bound::Earliest => Some(extent.low),
        Bound::Latest => Some(extent.high),
        Bound::Instant(_) => Some(at_instant.unwrap_or(extent.high)),
        Bound::Offsets(offsets) => offsets.iter().find(|(partition, _)| *partition == id.number).map(|(_, at)| *at),
        Bound::Kept(kept) => match (kept.of(id.topic, id.number), &kept.others) {
            (Some(kept), _) => Some(kept.next),
            (None, Some(others)) if !kept.has(id.topic) => offset_of(others, id, extent, at_instant),
            (None, _) => Some(extent.low),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{KeptPosition, KeptPositions};
    use proptest::prelude::*;

    const SOME: OffsetSpan = OffsetSpan { low: 10, high: 20 };

    #[test]
    fn what_another_program_committed_has_no_stream_time() {
        let texts = [
            "",
            "consumer-1",
            "evt",
            "evt stream_time=",
            "evt stream_time=soon",
            "evt topic_id=AAAA",
            "other topic_id=x",
        ];
        for text in texts {
            assert_eq!(at(15).with_metadata(text), at(15), "{text}");
        }
    }

    #[test]
    fn an_offset_outside_of_its_partition_is_a_gap() {
        assert_eq!(gap(9, SOME), Some(Gap { wanted: 9, extent: SOME, recreated: None }));
        assert_eq!(gap(10, SOME), None);
        assert_eq!(gap(20, SOME), None);
        let beyond = gap(21, SOME).unwrap();
        assert!(beyond.is_of_other_records());
        assert!(!gap(9, SOME).unwrap().is_of_other_records());
        assert!(beyond.describe().contains("ends at offset 20"), "{}", beyond.describe());
        assert_eq!(gap(7, SOME).unwrap().describe(), "3 offsets were removed by retention: 7 to 9");
    }

    fn at(offset: i64) -> Position {
        Position::new(PartitionId::default(), offset)
    }

    fn kept(next: i64, topic_id: Option<TopicId>) -> KeptPosition {
        KeptPosition { topic: 1, partition: 0, next, stream_time: None, topic_id }
    }

    #[test]
    fn a_position_in_an_earlier_topic_of_the_name_is_a_gap() {
        let [read, present] = ["sVv-a5OcT9-0w_YkfEzn3g", "1QvNQ1nxRzaB5uPfYQ1aJg"].map(TopicId::parse);
        let kept = |offset, topic_id| Position { topic_id, ..at(offset) };
        let recreated = |position: &Position, present| recreated(position, present, SOME, None);
        let found = recreated(&kept(15, read), present).unwrap();
        assert!(found.is_of_other_records());
        assert!(
            found.describe().contains("found 1QvNQ1nxRzaB5uPfYQ1aJg: the topic was recreated"),
            "{}",
            found.describe()
        );
        assert_eq!(recreated(&kept(15, read), read), None);
        assert_eq!(recreated(&kept(0, read), present), None, "nothing was read");
        assert_eq!(recreated(&kept(15, None), present), None, "kept by an earlier version");
        assert_eq!(recreated(&kept(15, read), None), None, "a broker without ids");
        let unread = |end| super::recreated(&kept(0, read), present, SOME, Some(end)).map(|gap| gap.wanted);
        assert_eq!((unread(3), unread(0)), (Some(0), None), "records before the end were to be read");
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
        let [of_topic, new_of_topic] = [0, 1].map(|number| PartitionId { topic: 1, number });
        for (others, at) in [(None, 10), (Some(Bound::Latest), 20), (Some(Bound::Instant("now".into())), 12)] {
            let kept = Bound::Kept(KeptPositions { positions: vec![kept(17, None)], others: others.map(Box::new) });
            assert_eq!(offset_of(&kept, of_topic, SOME, Some(12)), Some(17));
            assert_eq!(offset_of(&kept, new_of_topic, SOME, Some(12)), Some(10), "a partition that was added");
            assert_eq!(offset_of(&kept, first, SOME, Some(12)), Some(at), "another topic");
        }
    }

    #[test]
    fn a_partition_was_added_if_a_commit_knows_fewer_partitions_or_no_number() {
        let of = |topic, number, partitions| Position { partitions, ..Position::new(PartitionId { topic, number }, 0) };
        let is_added = |committed: &[Position]| is_added(PartitionId { topic: 0, number: 1 }, committed);
        assert!(!is_added(&[]), "the group begins");
        assert!(!is_added(&[of(1, 0, None)]), "another topic");
        assert!(!is_added(&[of(0, 0, Some(2))]), "another member has begun at the same time");
        assert!(!is_added(&[of(0, 0, Some(2)), of(0, 2, Some(3))]));
        assert!(is_added(&[of(0, 0, Some(1))]));
        assert!(is_added(&[of(0, 0, Some(1)), of(0, 2, Some(3))]));
        assert!(is_added(&[of(0, 0, None)]), "another program");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_committed_position_comes_back_to_the_microsecond(instant in -62_135_596_800_000_000i64..253_402_300_800_000_000) {
            let topic_id = TopicId::parse("sVv-a5OcT9-0w_YkfEzn3g");
            for (stream_time, topic_id, partitions) in
                [(Some(instant), None, None), (Some(instant), topic_id, Some(3)), (None, topic_id, None), (None, None, Some(1))]
            {
                let position = Position { stream_time, topic_id, partitions, ..at(15) };
                prop_assert_eq!(at(15).with_metadata(&position.metadata().unwrap()), position);
            }
            prop_assert_eq!(at(15).metadata(), None);
        }
    }
}
