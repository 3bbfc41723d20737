//! The traits between the reader of topics and Kafka. Each has an implementation for brokers and one for tests.
//!
//! ```text
//! KafkaInput ─► RecordSource   records: librdkafka (library), or evt's own fetching (fetch)
//!            ─► Cluster        offsets, commits, the group, statistics: librdkafka (library)
//! ```

use super::client::Context;
use super::position::{OffsetSpan, PartitionId, Position};
use evt_core::error::Result;
use evt_core::kind::headers::Headers;
use evt_core::mapping::Arrival;
use evt_run::input::topic_id::TopicId;
use rdkafka::error::KafkaError;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Number of records after which a poll ends. A batch that was begun is read to its end.
pub const RECORDS_PER_POLL: usize = 1024;

/// A record of a topic.
pub struct Message<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its payload; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a dyn Headers,
    /// When it arrived in Kafka.
    pub arrival: Option<Arrival>,
}

impl Message<'_> {
    /// Makes the arrival from a Kafka timestamp (ms). `is_fact`: the broker set it (LogAppendTime), not the producer
    /// (CreateTime). `None` if it is negative or outside of the calendar.
    pub fn arrival(millis: i64, is_fact: bool) -> Option<Arrival> {
        let at = millis.checked_mul(1000).filter(|at| evt_core::time::is_in_calendar(*at))?;
        (millis >= 0).then_some(Arrival { at, is_fact })
    }
}

/// The receiver of the records of a poll.
pub trait RecordSink {
    /// Takes a record. Returns whether the reading of its partition ends with it.
    fn record(&mut self, id: PartitionId, message: &Message<'_>) -> Result<bool>;

    /// Notes that the records before `next` have been read and that the partition ends at `high`. `next` is `None` if
    /// no record was read. Returns whether the reading of the partition ends here.
    fn read_to(&mut self, id: PartitionId, next: Option<i64>, high: i64) -> Result<bool>;
}

/// The result of a poll.
pub enum SourceEvent {
    /// Records were read, and there may be more.
    Records,
    /// There is nothing to read now.
    Idle,
    /// No broker can be reached.
    Unreachable,
    /// The next offset of some partition does not exist.
    OutOfRange,
    /// The partition with this number, of the topic that is read, is at its present end.
    PartitionEnd(i32),
    /// The brokers do not know the topic that was read, and they know one of its name: it may have been deleted and
    /// created again.
    UnknownTopic,
    /// After a time without records there are some now; the next poll passes them. The topic may have been deleted and
    /// created again meanwhile.
    AfterPause,
    /// librdkafka reports an error.
    Failed(KafkaError),
    /// The source cannot read on, for this reason; [`RecordSource::fall_back`] returns its replacement.
    Unsupported(String),
}

/// A partition whose leader has given errors and no answer.
#[derive(Clone, Copy, Debug)]
pub struct FailingPartition<'a> {
    /// The partition.
    pub id: PartitionId,
    /// The time for which the leader has given errors and no answer.
    pub time: Duration,
    /// The last error; `None` if brokers do not know its topic any more.
    pub why: Option<&'a str>,
}

/// Reads the records of assigned partitions.
pub trait RecordSource {
    /// Adds partitions to those that are read. A group member calls this for an empty assignment too, to confirm it.
    fn assign(&mut self, starts: &[Position]) -> Result<()>;

    /// Continues at new offsets. `starts` lists all partitions that are read.
    fn reset(&mut self, starts: &[Position]) -> Result<()>;

    /// Reads one of the partitions again from an offset, so that the source reports once more whether the partition
    /// ends there.
    fn read_again(&mut self, start: Position) -> Result<()>;

    /// Stops the reading of partitions that stay assigned.
    fn pause(&mut self, partitions: &[PartitionId]) -> Result<()>;

    /// Stops reading partitions and releases them. Without a group, `partitions` lists all partitions that are read.
    fn revoke(&mut self, partitions: &[PartitionId]) -> Result<()>;

    /// Passes records to `sink`, at most about [`RECORDS_PER_POLL`]. Does not wait for more.
    fn poll(&mut self, sink: &mut dyn RecordSink) -> Result<SourceEvent>;

    /// Waits until there may be something to poll, for at most `timeout`.
    fn wait(&mut self, timeout: Duration) -> Result<()>;

    /// Returns the source that replaces this one, if there is one. It has the same partitions; the caller must
    /// [`reset`] them.
    ///
    /// [`reset`]: RecordSource::reset
    fn fall_back(&mut self) -> Option<Box<dyn RecordSource>> {
        None
    }

    /// Whether the source reads through its own connections. librdkafka's transient errors then do not concern the
    /// records.
    fn has_own_connections(&self) -> bool {
        false
    }

    /// Whether every record that was passed is of the topic with the id with which its partition was assigned. If not,
    /// it may be of a later topic of the same name.
    fn reads_by_id(&self) -> bool {
        false
    }

    /// Returns the send time of the last request whose response reached the end of the partition: at that time the
    /// broker had no further record. `None` if the source does not know it; then use the statistics of [`Cluster`].
    fn confirmed(&self, _: PartitionId) -> Option<Instant> {
        None
    }

    /// Returns the partition whose leader has given errors and no answer for the longest time.
    fn failing(&self) -> Option<FailingPartition<'_>> {
        None
    }
}

/// The cluster as the reader uses it besides records: offsets, the consumer group, statistics.
pub trait Cluster {
    /// Returns the events that callbacks have recorded: rebalances, statistics, errors.
    fn context(&self) -> &Context;

    /// Returns the number of partitions of a topic; `None` if it does not exist or must not be read.
    fn partition_count(&self, topic: usize) -> Result<Option<i32>>;

    /// Returns the first and the end offset of a partition.
    fn extent(&self, id: PartitionId) -> Result<OffsetSpan>;

    /// Returns the offset up to which a partition can be read: its end, or the first offset of a transaction that is
    /// open (Kafka's last stable offset).
    fn stable_end(&self, id: PartitionId) -> Result<i64> {
        self.extent(id).map(|extent| extent.high)
    }

    /// The same with one request; `None` if the broker does not answer at once.
    fn stable_end_now(&self, id: PartitionId) -> Option<i64> {
        self.stable_end(id).ok()
    }

    /// Returns the present ids of the topics: `None` for a topic that does not exist, or to which brokers give no id;
    /// none at all if the run does not compare them. Waits until brokers answer.
    fn topic_ids(&self) -> Result<Vec<Option<TopicId>>> {
        Ok(vec![])
    }

    /// The same with one request for each topic; `None` if a broker does not answer at once.
    fn topic_ids_now(&self) -> Option<Vec<Option<TopicId>>> {
        None
    }

    /// Returns the first position in each partition whose record has a timestamp of `millis` or later. Partitions
    /// without such a record are left out.
    fn offsets_at(&self, partitions: &[PartitionId], millis: i64) -> Result<Vec<Position>>;

    /// Returns the positions that the group committed. Partitions without one are left out.
    fn committed(&self, partitions: &[PartitionId]) -> Result<Vec<Position>>;

    /// Subscribes to the topics, which joins the group.
    fn subscribe(&self) -> Result<()>;

    /// Commits positions; the answer of the group arrives in the channel.
    fn commit(&self, positions: &[Position]) -> Result<Receiver<Result<()>>>;

    /// The same outside of the transactions of the outputs, if there are any.
    fn commit_starts(&self, starts: &[Position]) -> Result<Receiver<Result<()>>> {
        self.commit(starts)
    }

    /// Whether the group gave the partitions to other members before this member could release them.
    fn is_assignment_lost(&self) -> bool;

    /// Leaves the group.
    fn leave_group(&self);

    /// Keeps the connections until the process ends, because closing them would wait for brokers that do not answer.
    fn abandon(&self);
}
