//! Notices that a topic was deleted and created again under a run that reads it.
//!
//! A source that fetches by id reads nothing of the new topic, and reports that brokers do not know the id. A source
//! that fetches by name reads on at the same offset of the new topic. What it has read is of the topic with the id of
//! its positions if brokers give this id afterwards, because no topic gets the id of an earlier one. So they are asked
//! at intervals, after each pause, and before positions are stored.

use super::client::Topics;
use super::position::{ByPartition, PartitionId, Position};
use super::range::{self, KnownTopic, PartitionCursor};
use super::source::Cluster;
use evt_core::counts::counted;
use evt_core::error::{Error, Result};
use evt_run::input::topic_id::TopicId;
use std::time::Duration;

/// Longest time between two requests for the ids, while records are read by name.
const EVERY: Duration = Duration::from_secs(10);
/// Number of partitions whose extents are requested at a time.
const ASKED_AT_ONCE: usize = 8;
/// Time for which a new topic may have records of which none is read.
const SILENT: Duration = Duration::from_secs(30);
/// Shortest time between two of them, if not before positions are stored.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// When brokers were asked for the ids of topics that are read by name.
#[derive(Debug, Default)]
pub struct TopicCheck {
    /// On the run's monotonic clock; `None` if they were not asked yet.
    asked: Option<Duration>,
}

impl TopicCheck {
    /// Whether a request is due; `is_after_pause`: there are records after a time without records. Notes it as made.
    pub fn is_due(&mut self, now: Duration, is_after_pause: bool) -> bool {
        let interval = if is_after_pause { AT_MOST_EVERY } else { EVERY };
        let is_due = self.asked.is_none_or(|asked| now >= asked + interval);
        if is_due {
            self.asked = Some(now);
        }
        is_due
    }
}

/// Partitions that librdkafka reads, of which nothing was read yet.
///
/// librdkafka ignores what brokers tell of a topic if its leader epochs are lower than before, as those of a new topic
/// are if brokers were restarted under the earlier one. It then reads nothing, and reports nothing, not even the end of
/// the partition.
#[derive(Debug, Default)]
pub struct AwaitedPartitions {
    waiting: Vec<AwaitedPartition>,
    /// When brokers were last asked for their extents, or when the partitions were begun, on the run's monotonic clock.
    asked: Duration,
}

#[derive(Debug)]
struct AwaitedPartition {
    id: PartitionId,
    /// The offset from which it is read.
    next: i64,
    /// Whether it had records when brokers were last asked.
    has_records: bool,
    /// The end that librdkafka had reached in an earlier topic of that name.
    earlier: Option<i64>,
}

impl AwaitedPartitions {
    /// Adds partitions that are read from these positions on.
    ///
    /// `earlier` has the ends that librdkafka had reached in an earlier topic of that name.
    pub fn begin(&mut self, starts: &[Position], earlier: &ByPartition<i64>, now: Duration) {
        self.waiting.retain(|one| starts.iter().all(|start| start.id != one.id));
        let awaited = |start: &Position| AwaitedPartition {
            id: start.id,
            next: start.offset,
            has_records: false,
            earlier: earlier.get(&start.id).copied(),
        };
        self.waiting.extend(starts.iter().map(awaited));
        self.asked = now;
    }

    /// Notes that librdkafka has reached the end of a partition of the only topic.
    pub fn note_end(&mut self, number: i32) {
        self.waiting.retain(|one| one.id.number != number);
    }

    /// Looks at some of the partitions while there is nothing to read. Errors: exit status 69 if one has had records
    /// for [`SILENT`], and none was read.
    ///
    /// With its end, librdkafka does not tell of which topic a partition is. Its statistics do; without them nothing is
    /// known of partitions of several topics, which may have no records but those of transactions that were aborted.
    pub fn check(
        &mut self,
        cluster: &dyn Cluster,
        topics: &Topics,
        cursors: &[PartitionCursor],
        now: Duration,
    ) -> Result<()> {
        let is_unread = |one: &AwaitedPartition| {
            cursors.iter().any(|cursor| cursor.id == one.id && cursor.next == one.next && cursor.is_read())
        };
        self.waiting.retain(is_unread);
        if self.waiting.is_empty() || now < self.asked + SILENT {
            return Ok(());
        }
        let reached = match topics.address.topics.len() {
            1 => ByPartition::new(),
            _ => match reached(cluster) {
                Some(reached) => reached,
                None => return Ok(()),
            },
        };
        self.asked = now;
        // Each request waits for its answer; there may be many partitions without a record.
        let next = self.waiting.len().min(ASKED_AT_ONCE);
        self.waiting.rotate_left(next);
        let rest = self.waiting.len() - next;
        for one in &mut self.waiting[rest..] {
            // The leader of the partition may be away; the other partitions are read meanwhile.
            let Some(high) = cluster.stable_end_now(one.id) else {
                one.has_records = false;
                break;
            };
            let is_at_end =
                reached.get(&one.id).is_some_and(|reached| *reached >= high && Some(*reached) != one.earlier);
            let has_records = high > one.next && !is_at_end;
            if has_records && one.has_records {
                let (name, next) = (topics.partition_name(one.id), one.next);
                let message = format!(
                    "{name}@{next}: librdkafka reads none of the records up to offset {high}, as of a topic that was \
                     recreated after a restart of brokers. Start again: the next run reads them"
                );
                return Err(Error::unavailable(message));
            }
            one.has_records = has_records;
        }
        Ok(())
    }
}

/// Returns the ends that librdkafka has reached; `None` without statistics.
pub fn reached(cluster: &dyn Cluster) -> Option<ByPartition<i64>> {
    cluster.context().notes(|notes| notes.fetches.reached.clone())
}

/// Whether records were read since the ids of their topics were compared.
pub fn has_unchecked(cursors: &[PartitionCursor]) -> bool {
    cursors.iter().any(|cursor| cursor.topic.id.is_some() && cursor.next != cursor.topic.checked)
}

/// Compares the topics of the cursors with the present ids. Moves the cursors of topics that were created again to the
/// start, and returns their indices. `is_by_id`: nothing of a new topic was read. Errors: exit status 65, unless
/// `on_gap=continue`, and always if records of the new topic may have been read.
pub fn compare(
    cluster: &dyn Cluster,
    topics: &Topics,
    cursors: &mut [PartitionCursor],
    present: &[Option<TopicId>],
    is_by_id: bool,
) -> Result<Vec<usize>> {
    let is_new = |cursor: &PartitionCursor| {
        // What was to be read has been read, of the earlier topic.
        if cursor.ended && (is_by_id || cursor.next == cursor.topic.checked) {
            return None;
        }
        // A topic that does not exist at this moment has no id.
        let id = present.get(cursor.id.topic).copied().flatten()?;
        Some((id, cursor.topic.id.is_some_and(|read| read != id)))
    };
    for cursor in cursors.iter().filter(|cursor| is_new(cursor).is_some_and(|(_, is_new)| is_new)) {
        let count = cluster.partition_count(cursor.id.topic)?;
        if let Some(count) = count.filter(|count| *count <= cursor.id.number) {
            return Err(gone(topics, cursor, count));
        }
    }
    let mut moved = vec![];
    for (at, cursor) in cursors.iter_mut().enumerate() {
        let Some((id, is_new)) = is_new(cursor) else { continue };
        if is_new {
            if !is_by_id && cursor.next != cursor.topic.checked {
                return Err(mixed(topics, cursor, id));
            }
            range::begin_again(cluster, topics, cursor, id)?;
            moved.push(at);
        }
        cursor.topic.checked = cursor.next;
    }
    Ok(moved)
}

/// Makes the error of a partition that the new topic does not have.
#[cold]
fn gone(topics: &Topics, cursor: &PartitionCursor, count: i32) -> Error {
    let name = topics.partition_name(cursor.id);
    let partitions = counted(count.unsigned_abs().into(), ["partition", "partitions"]);
    let message =
        format!("{name}: the topic was recreated with {partitions}; another run reads them with on_gap=continue");
    Error::corrupt(message)
}

/// Makes the error of a topic of which records were read although they may be those of a new one.
#[cold]
fn mixed(topics: &Topics, cursor: &PartitionCursor, present: TopicId) -> Error {
    let PartitionCursor { id, next, topic: KnownTopic { checked, .. }, .. } = cursor;
    let read = cursor.topic.id.map(|id| id.to_string()).unwrap_or_default();
    let message = format!(
        "{}@{checked}: expected the topic with the id {read}, found {present}: the topic was recreated. Of the records \
         from offset {checked} on, which were read up to {next}, some may be of the new topic; its records from offset 0 \
         on are missing (another run reads them with on_gap=continue)",
        topics.partition_name(*id)
    );
    Error::corrupt(message)
}
