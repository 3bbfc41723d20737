//! How far a partition of a topic is read.

use crate::kind::PartitionName;
use crate::uri::topic_id::TopicId;
use std::ops::Range;
use std::time::Duration;

/// The position in one partition, and what is known of its end. Times are those of the run's monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
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
    /// The time of that end: the broker had no record behind it at this time. `None` before the first answer.
    pub confirmed: Option<Duration>,
    /// When the broker of the partition answered last, at the earliest; the present time if it gets no further request.
    pub answered: Option<Duration>,
}

/// A live partition of which the stage does not have all rows up to now: the time in which none could arrive is not
/// idleness. Times are those of the run's monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadPartition {
    /// Its input.
    pub input: u32,
    /// Its name; `None` stands for all partitions of the input.
    pub name: Option<PartitionName>,
    /// The time in which its broker has answered without a longer pause; `None` if it is not read now.
    pub answered: Option<Range<Duration>>,
}
