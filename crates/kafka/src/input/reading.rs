//! The partitions that are read, and what happens to those that do not have the records that were to be read next:
//! retention has removed them, the partition has become shorter, or its topic was deleted and created again.

use crate::client::{GONE, Topics, is_missing, missing};
use crate::position::{ByPartition, Position};
use crate::range::{KnownTopic, PartitionCursor, ShortAnswer};
use crate::records::PartitionSet;
use crate::source::{Cluster, RecordSource};
use crate::topic_check::{self, AwaitedPartitions, TopicCheck};
use evt_core::error::Result;
use evt_core::mapping::Rest;
use evt_run::emit::RecordEmitter;
use evt_run::input::topic_id::TopicId;
use rdkafka::error::KafkaError;
use std::rc::Rc;
use std::time::Duration;

/// The partitions of some topics, and where their records come from.
pub struct ReadPartitions {
    pub topics: Topics,
    pub cluster: Rc<dyn Cluster>,
    pub source: Box<dyn RecordSource>,
    pub partitions: PartitionSet,
    pub check: TopicCheck,
    pub awaited: AwaitedPartitions,
    /// Since when librdkafka reads nothing of a topic that was deleted, or a group has nothing to assign because of it,
    /// on the run's monotonic clock.
    pub missing_since: Option<Duration>,
    /// The last known ids of the topics that the run has subscribed to.
    pub subscribed: Vec<Option<TopicId>>,
}

impl ReadPartitions {
    /// Handles an offset that no longer exists. The source has stopped reading there and does not report the partition,
    /// so all partitions are checked.
    pub fn skip_gaps(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        let cursors = &mut self.partitions.cursors;
        let is_by_id = self.source.reads_by_id();
        let present = if is_by_id { vec![] } else { self.cluster.topic_ids()? };
        let mut moved = vec![];
        for (at, cursor) in cursors.iter_mut().enumerate().filter(|(_, cursor)| cursor.is_read()) {
            if cursor.skip_gap(&self.topics, self.cluster.extent(cursor.id)?)? {
                // Nothing of a topic that ends before the offset was read.
                let present = present.get(cursor.id.topic).copied().flatten();
                cursor.topic = KnownTopic { id: present.or(cursor.topic.id), checked: cursor.next, ..cursor.topic };
                moved.push(at);
            }
        }
        moved.extend(topic_check::compare(&*self.cluster, &self.topics, cursors, &present, is_by_id)?);
        self.begin_anew(&moved, emitter)?;
        self.source.reset(&self.partitions.starts())
    }

    /// Begins partitions again, which have other records now: without a stream time.
    fn begin_anew(&mut self, moved: &[usize], emitter: &mut RecordEmitter) -> Result<()> {
        let cursors = || moved.iter().map(|at| &self.partitions.cursors[*at]);
        for cursor in cursors() {
            emitter.release(|held| held.judge(cursor.partition_index, Rest::Unknown))?;
            emitter.flush()?;
            emitter.stamp_mut().resume(cursor.partition_index, None);
        }
        let starts: Vec<Position> = cursors().map(PartitionCursor::start).collect();
        self.begin_awaiting(&starts, &topic_check::reached(&*self.cluster).unwrap_or_default());
        Ok(())
    }

    /// Begins to check that something is read of these partitions, if librdkafka reads them.
    pub fn begin_awaiting(&mut self, starts: &[Position], earlier: &ByPartition<i64>) {
        if !self.source.has_own_connections() {
            self.awaited.begin(starts, earlier, self.topics.run.clock.monotonic());
        }
    }

    /// Checks, while there is nothing to read, that new topics are read. Errors: exit status 69 if one is not.
    pub fn check_awaited(&mut self) -> Result<()> {
        self.awaited.check(&*self.cluster, &self.topics, &self.partitions.cursors, self.topics.run.clock.monotonic())
    }

    /// Asks brokers for the ids of topics that are read by name, if that is due. Reachable brokers answer at once.
    pub fn check_topics(&mut self, is_pause: bool, emitter: &mut RecordEmitter) -> Result<()> {
        let is_by_id = self.source.reads_by_id() || !self.partitions.cursors.iter().any(|one| one.topic.id.is_some());
        if is_by_id || !self.check.is_due(self.topics.run.clock.monotonic(), is_pause) {
            return Ok(());
        }
        self.compare_now(emitter)
    }

    /// Joins the group, which assigns the partitions. Waits for a topic that is away: librdkafka would not notice that
    /// it is created again.
    pub fn subscribe(&mut self) -> Result<()> {
        self.subscribed = self.cluster.topic_ids()?;
        self.cluster.subscribe()
    }

    /// Joins the group again if a topic has been created again while the run has no partitions: the group may have
    /// assigned them while the topic was away.
    pub fn check_unassigned(&mut self) -> Result<()> {
        if !self.partitions.cursors.is_empty() || !self.check.is_due(self.topics.run.clock.monotonic(), false) {
            return Ok(());
        }
        let Some(present) = self.cluster.topic_ids_now() else { return Ok(()) };
        if !self.note_ids(&present) {
            return Ok(());
        }
        self.topics.say("a topic was recreated before the group had assigned its partitions; joining the group again");
        self.cluster.subscribe()
    }

    /// Notes the present ids of topics; returns whether one is another than before. A topic that is away has none.
    fn note_ids(&mut self, present: &[Option<TopicId>]) -> bool {
        let mut is_new = false;
        for (known, present) in self.subscribed.iter_mut().zip(present).filter(|(_, present)| present.is_some()) {
            is_new |= std::mem::replace(known, *present) != *present;
        }
        is_new
    }

    /// Whether the ids of all topics are known, so that one that was away is recognised, or the source waits itself.
    pub fn can_wait_for_topics(&self) -> bool {
        let has_id = |cursor: &PartitionCursor| cursor.topic.id.is_some();
        self.source.has_own_connections() || self.partitions.cursors.iter().all(has_id)
    }

    /// Notes that librdkafka has ended the reading of a topic, or has none to subscribe to, because brokers do not know
    /// it.
    pub fn note_missing(&mut self) {
        if !self.source.has_own_connections() || self.partitions.cursors.is_empty() {
            self.missing_since.get_or_insert(self.topics.run.clock.monotonic());
        }
    }

    /// Reads topics that were missing, once brokers have all of them again. Errors: exit status 69 if one is missing
    /// for [`GONE`].
    pub fn check_missing(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        let Some(since) = self.missing_since else { return Ok(()) };
        let now = self.topics.run.clock.monotonic();
        if !self.check.is_due(now, true) {
            return Ok(());
        }
        match self.cluster.topic_ids_now() {
            Some(present) if present.iter().all(Option::is_some) => {
                self.missing_since = None;
                // The group assigns the partitions.
                if self.partitions.cursors.is_empty() || self.compare_topics(&present, emitter)? {
                    return Ok(());
                }
                self.source.reset(&self.partitions.starts())
            }
            Some(_) if now.saturating_sub(since) > GONE => Err(missing(&self.topics.address)),
            _ => Ok(()),
        }
    }

    /// Reads topics that have been created again from their start; returns whether there is one.
    pub fn compare_topics(&mut self, present: &[Option<TopicId>], emitter: &mut RecordEmitter) -> Result<bool> {
        let (cursors, is_by_id) = (&mut self.partitions.cursors, self.source.reads_by_id());
        let moved = topic_check::compare(&*self.cluster, &self.topics, cursors, present, is_by_id)?;
        if moved.is_empty() {
            return Ok(false);
        }
        self.note_ids(present);
        self.begin_anew(&moved, emitter)?;
        self.source.reset(&self.partitions.starts()).map(|()| true)
    }

    /// Checks, if brokers do not know a partition, whether its topic was created again with fewer partitions. Errors:
    /// exit status 65 if it was.
    pub fn check_unknown(&mut self, error: &KafkaError, emitter: &mut RecordEmitter) -> Result<()> {
        if error.rdkafka_error_code().is_some_and(is_missing) { self.compare_now(emitter) } else { Ok(()) }
    }

    /// Compares the topics with their present ids. Reachable brokers answer at once.
    fn compare_now(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        match self.cluster.topic_ids_now() {
            Some(present) => self.compare_topics(&present, emitter).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Checks, before a group's positions are committed, that what was read is of the topics that they name. If brokers
    /// do not answer, the positions have the id that brokers gave before: a topic with another id is read from its
    /// start by the next run. Returns whether a topic was created again.
    pub fn confirm_topics(&mut self, emitter: &mut RecordEmitter) -> Result<bool> {
        match self.has_unconfirmed().then(|| self.cluster.topic_ids_now()).flatten() {
            Some(present) => self.compare_topics(&present, emitter),
            None => Ok(false),
        }
    }

    /// The same before positions are stored together with rows, which the next run would repeat. Waits until brokers
    /// answer.
    pub fn confirm_rows(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        if self.has_unconfirmed() { self.confirm(emitter) } else { Ok(()) }
    }

    /// The same before a topic is read by name that has waited for others. It may have been created again meanwhile,
    /// and nothing of it has been read yet.
    pub fn confirm_unread(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        if self.source.reads_by_id() { Ok(()) } else { self.confirm(emitter) }
    }

    fn confirm(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        let present = self.cluster.topic_ids_now().map_or_else(|| self.cluster.topic_ids(), Ok)?;
        self.compare_topics(&present, emitter).map(|_| ())
    }

    fn has_unconfirmed(&self) -> bool {
        !self.source.reads_by_id() && topic_check::has_unchecked(&self.partitions.cursors)
    }

    /// Requests the extents of partitions whose leaders gave an end before the end of their range, and reads these
    /// partitions on up to the end of the range.
    pub fn check_ends(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        for mut short in std::mem::take(&mut self.partitions.short) {
            let Some(at) = self.partitions.find(short.id) else { continue };
            let cursor = &mut self.partitions.cursors[at];
            match short.check(&*self.cluster, &self.topics, cursor)? {
                ShortAnswer::Wait => {}
                ShortAnswer::ReadAgain => self.source.read_again(cursor.start())?,
                ShortAnswer::Truncated => self.skip_gaps(emitter)?,
            }
            self.partitions.short.push(short);
        }
        Ok(())
    }
}
