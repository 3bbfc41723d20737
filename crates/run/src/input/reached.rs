//! How far a partition of a topic is read.

use crate::input::topic_id::TopicId;
use evt_core::kind::PartitionName;
use std::ops::Range;
use std::time::Duration;

/// The position in one partition, and what is known of its end. Times are those of the run's monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadPosition {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The id of the topic; `None` if it is not known.
    pub topic_id: Option<TopicId>,
    /// The offset before which every row has been passed on.
    pub next: i64,
    /// The stream time there (µs).
    pub stream_time: Option<i64>,
    /// Whether the position is the end of the partition, as far as it is known.
    pub is_at_end: bool,
    /// The time at which the broker had no record after the known end of the partition; `None` before the first answer.
    pub confirmed: Option<Duration>,
    /// A lower bound of the time of the broker's last answer for the partition; the present time if the run no longer
    /// reads the partition.
    pub answered: Option<Duration>,
}

/// A live partition of which the stage does not have all rows up to now. The time in which its rows could not arrive
/// does not count as idleness. Times are those of the run's monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadPartition {
    /// Its input.
    pub input: u32,
    /// Its name; `None` stands for all partitions of the input.
    pub name: Option<PartitionName>,
    /// The time span in which its broker has answered without a longer pause; `None` if the partition is not read now
    /// or has had no answer.
    pub answered: Option<Range<Duration>>,
}
