//! Topics as input: each topic partition is one partition of the pipeline, with Kafka's offsets.
//!
//! A bounded read (evt-view) reads a range that is fixed when the run begins; it joins no group and commits nothing.
//! Other tools read without an end, or up to `end=`. The input never silently skips an offset that no longer exists: it
//! ends the run, or reports the gap.
//!
//! `check.rs`: the check before a run. `reading.rs`: the partitions that are read, and what is checked about them
//! while they are.

pub mod check;
mod reading;

use self::check::PlannedReading;
use self::reading::ReadPartitions;
use crate::address::{Address, TopicFormat};
use crate::client::{self, Rebalance, Topics};
use crate::group::{CommitMode, CommitPoint, Joined, Membership, Options, TopicOptions};
use crate::health::{Answers, Health, confirmed};
use crate::library::{Connections, LibraryCluster};
use crate::position::{ByPartition, PartitionId, Position};
use crate::range::{self, PartitionCursor, ReadMode};
use crate::records::{self, PartitionSet};
use crate::source::SourceEvent;
use crate::topic_check::{self, AwaitedPartitions, TopicCheck};
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::frame::{Control, EndReason};
use evt_run::emit::{ByteProgress, RecordEmitter};
use evt_run::input::{EndProof, Input, InputEnd, Lag, ReadPosition, Step, UnreadPartition};
use evt_run::registry::place;
use evt_run::run::Run;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::rc::Rc;
use std::time::Duration;

/// Poll interval while the outputs confirm the rows of revoked partitions.
const RELEASE_INTERVAL: Duration = Duration::from_millis(10);

/// An open input.
pub struct KafkaInput {
    reading: ReadPartitions,
    read_mode: ReadMode,
    origin: Option<String>,
    /// The number of partitions of each topic when the run began.
    counts: Vec<usize>,
    group: Option<Membership>,
    health: Health,
    /// Whether librdkafka has reported all brokers down and no fetched record has arrived since. librdkafka reports an
    /// outage once. A group member whose partitions are revoked during the outage has no other sign of the outage.
    reported_down: bool,
    /// When the last records were read, on the run's monotonic clock.
    records_at: Option<Duration>,
    /// When the brokers of the partitions have answered, if the tool finds partitions without records.
    answers: Option<Answers>,
}

impl KafkaInput {
    /// Checks that the topics can be read and their schemas can be loaded; returns the faults. Joins no group and reads
    /// no records.
    pub fn check(address: &Address, reading: PlannedReading, run: &Rc<Run>) -> Result<Vec<Error>> {
        if let Some(schemas) = &address.options.schemas {
            place::check(schemas, &run.caller())?;
            records::wire(address, run)?;
        }
        let topics = Topics::new(address, run);
        check::faults(&LibraryCluster::new(&topics)?, &topics, reading)
    }

    /// Opens the topics: resolves the range of every partition and announces the partitions to the partition table.
    pub fn open(address: &Address, options: Options<'_>, run: &Rc<Run>, emitter: &mut RecordEmitter) -> Result<Self> {
        let topics = Topics::new(address, run);
        Self::begin(Connections::new(&topics, &options.tool)?, &topics, options, emitter)
    }

    /// Begins to read through these connections.
    fn begin(
        connections: Connections,
        topics: &Topics,
        options: Options<'_>,
        emitter: &mut RecordEmitter,
    ) -> Result<Self> {
        let Connections { cluster, source } = connections;
        let Options { tool: TopicOptions { read_mode, commit_mode, has_clock, finds_silence, stays_live }, origin } =
            options;
        let Topics { address, run } = topics;
        let partitions = PartitionSet::new(address, stays_live || read_mode == ReadMode::Checkpoint, run)?;
        let set = &address.options;
        let is_transactional = matches!(commit_mode, CommitMode::Transactions(_));
        let is_shared = is_transactional || matches!(commit_mode, CommitMode::Subscribe);
        let subscribes = PlannedReading { read_mode, is_shared, has_positions: false }.subscribes(set);
        let commits = match read_mode {
            ReadMode::Commit => !matches!(commit_mode, CommitMode::None) && set.group.is_some(),
            ReadMode::Checkpoint => set.group.is_some(),
            ReadMode::Bounded | ReadMode::Tail | ReadMode::Stateful => false,
        };
        let mut cursors = range::all_cursors(&*cluster, address)?;
        let count = |topic| cursors.iter().filter(|cursor| cursor.id.topic == topic).count();
        let counts = (0..address.topics.len()).map(count).collect();
        let mut group = commits.then(|| Membership::new(topics, subscribes));
        if is_transactional {
            group = group.map(Membership::in_transactions);
        }
        match &mut group {
            Some(_) if subscribes => cursors.clear(),
            Some(group) => group.acquire(&*cluster, &mut cursors)?,
            None => _ = range::resolve(&*cluster, topics, read_mode, &mut cursors)?,
        }
        let mut input = Self {
            reading: ReadPartitions {
                topics: topics.clone(),
                cluster,
                source,
                partitions,
                check: TopicCheck::default(),
                awaited: AwaitedPartitions::default(),
                missing_since: None,
                subscribed: vec![],
            },
            read_mode,
            origin: origin.map(str::to_owned),
            counts,
            group,
            health: Health::new(topics),
            reported_down: false,
            records_at: None,
            answers: finds_silence.then(Answers::default),
        };
        if !subscribes {
            if !has_clock {
                range::report_empty(topics, &cursors);
            }
            // A bounded run reads one topic at a time: librdkafka's end of a partition does not name its topic.
            let is_bounded = cursors.iter().any(|cursor| cursor.end.is_some());
            cursors.iter_mut().for_each(|cursor| cursor.waits = is_bounded && cursor.id.topic > 0);
            input.add(cursors, emitter)?;
        }
        if input.group.is_none() {
            range::report_no_commits(topics, read_mode);
        }
        input.reading.cluster.context().notes(|notes| notes.has_begun = true);
        Ok(input)
    }

    /// Announces partitions whose range is resolved, and reads them: all topics at once, or the first one if there is
    /// an end.
    fn add(&mut self, mut cursors: Vec<PartitionCursor>, emitter: &mut RecordEmitter) -> Result<()> {
        for cursor in &mut cursors {
            self.reading.partitions.announce(cursor, self.origin.as_deref(), emitter);
            if cursor.is_done() {
                cursor.ended = true;
                self.reading.partitions.end_partition(cursor.partition_index, emitter);
            }
        }
        let read = cursors.iter().filter(|cursor| cursor.is_read());
        let starts: Vec<_> = read.map(PartitionCursor::start).collect();
        self.reading.partitions.cursors.append(&mut cursors);
        self.reading.source.assign(&starts)?;
        self.reading.begin_awaiting(&starts, &ByPartition::new());
        // What is written from now on is read, even from start=latest.
        self.reading.topics.run.service.ready();
        Ok(())
    }

    /// Whether it has no end.
    pub fn is_endless(&self) -> bool {
        self.is_subscribed() || self.reading.partitions.cursors.iter().any(|cursor| cursor.end.is_none())
    }

    /// Makes the error of an endless input that is followed by another one. Exit status 2.
    #[cold]
    pub fn endless(&self) -> Error {
        let why = "it has no end, so the next input is never read; set end=latest or name all topics in one URI";
        Error::usage(format!("{}: {why}", self.reading.topics.address))
    }

    /// Whether the group assigns the partitions.
    fn is_subscribed(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.is_subscribed)
    }

    fn waits_for_topics(&self) -> bool {
        self.group.as_ref().is_none_or(|group| group.joined != Joined::Assigned) && self.reading.can_wait_for_topics()
    }

    /// Acts on the statistics since the last call: brokers that are reachable again, end offsets, new partitions.
    fn follow_stats(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        let stats = self.reading.cluster.context().notes(|notes| notes.stats.take());
        if stats.as_ref().is_some_and(|stats| stats.is_up) {
            self.reported_down = false;
            if !self.reading.source.has_own_connections() {
                self.health.note_success();
            }
        }
        self.health.report();
        let Some(stats) = stats else { return Ok(()) };
        for cursor in &mut self.reading.partitions.cursors {
            if let Some(high) = stats.ends.get(&cursor.id).copied().flatten() {
                cursor.extent.high = high;
                cursor.confirmed = stats.confirmed.get(&cursor.id).copied();
            }
        }
        let is_bounded = self.reading.partitions.cursors.iter().any(|cursor| cursor.end.is_some());
        // With a subscription the group assigns new partitions.
        if is_bounded || self.is_subscribed() || self.reading.topics.address.options.partitions.is_some() {
            return Ok(());
        }
        let is_known = |id: &PartitionId| self.reading.partitions.cursors.iter().any(|cursor| cursor.id == *id);
        let new: Vec<PartitionId> = stats.ends.keys().copied().filter(|id| !is_known(id)).collect();
        if new.is_empty() { Ok(()) } else { self.acquire(&new, emitter) }
    }

    /// Acts on a rebalance; returns the result of the step if nothing may be read in it, else `None`.
    fn follow_group(&mut self, emitter: &mut RecordEmitter) -> Result<Option<Step>> {
        let Some(group) = &mut self.group else { return Ok(None) };
        if group.joins() {
            self.reading.subscribe()?;
        }
        if group.is_overdue() {
            group.check_release()?;
            self.reading.topics.say("releasing revoked partitions without a commit, because the outputs are too slow");
            self.release_revoked(emitter)?;
            return Ok(Some(Step::More));
        }
        if group.is_revoked() {
            // The outputs have not confirmed all rows yet, or the positions cannot be committed.
            return self.check_health().map(|()| Some(Step::Idle));
        }
        match self.reading.cluster.context().notes(|notes| notes.rebalances.pop_front()) {
            None => return Ok(None),
            Some(Rebalance::Assigned(partitions)) => {
                group.note_assigned(&partitions);
                self.report_rebalance("assigned", &partitions);
                self.acquire(&partitions, emitter)?;
            }
            Some(Rebalance::Revoked(partitions)) => {
                group.revoke(partitions.clone());
                let may_be_lost = group.check_release();
                self.report_rebalance("revoked", &partitions);
                if self.reading.cluster.is_assignment_lost() {
                    may_be_lost?;
                    self.reading
                        .topics
                        .say("the partitions were already reassigned; another member reads uncommitted records again");
                    self.release_revoked(emitter)?;
                }
            }
        }
        Ok(Some(Step::More))
    }

    /// Begins to read partitions: from the committed offsets, or, if they were added to a topic during the run, from
    /// their start, without regard to `start=`, because all their records are newer than the run.
    fn acquire(&mut self, partitions: &[PartitionId], emitter: &mut RecordEmitter) -> Result<()> {
        let (cluster, topics) = (&*self.reading.cluster, &self.reading.topics);
        let mut cursors = range::assigned(topics, partitions, &self.counts);
        let starts = range::resolve(cluster, topics, self.read_mode, &mut cursors)?;
        if let Some(group) = self.group.as_ref().filter(|group| group.is_subscribed) {
            group.commit_starts(cluster, &starts)?;
        }
        self.add(cursors, emitter)
    }

    /// Releases revoked partitions.
    fn release_revoked(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        let Some(revoked) = self.group.as_mut().and_then(Membership::take_revoked) else { return Ok(()) };
        for cursor in self.reading.partitions.remove(&revoked) {
            emitter.forget(cursor.partition_index);
        }
        self.reading.source.revoke(&revoked)
    }

    fn report_rebalance(&self, what: &str, partitions: &[PartitionId]) {
        let topics = &self.reading.topics;
        if !partitions.is_empty() {
            let group = topics.address.options.group.as_deref().unwrap_or_default();
            topics.run.console.say(format!("group {group}: {what} {}", range::names(topics, partitions)));
        }
    }

    /// Begins the next topic once all partitions being read have ended; returns whether all topics have ended.
    fn is_at_end(&mut self, emitter: &mut RecordEmitter) -> Result<bool> {
        while !self.is_subscribed() && !self.reading.partitions.cursors.iter().any(PartitionCursor::is_read) {
            let cursors = &mut self.reading.partitions.cursors;
            let read: Vec<_> = cursors.iter().filter(|cursor| !cursor.waits).map(|cursor| cursor.id).collect();
            let waiting = cursors.iter().filter(|cursor| cursor.waits);
            let Some(next) = waiting.map(|cursor| cursor.id.topic).min() else { return Ok(true) };
            cursors.iter_mut().for_each(|cursor| cursor.waits &= cursor.id.topic != next);
            self.reading.source.revoke(&read)?;
            self.reading.source.assign(&self.reading.partitions.starts())?;
            self.reading.confirm_unread(emitter)?;
        }
        Ok(false)
    }

    /// Acts on the result of a poll.
    fn handle(&mut self, event: SourceEvent, emitter: &mut RecordEmitter) -> Result<Step> {
        self.reading.check_missing(emitter)?;
        match event {
            SourceEvent::Records => {
                self.reported_down = false;
                self.records_at = Some(self.reading.topics.run.clock.monotonic());
                self.health.note_success();
                self.health.check_partitions(self.reading.source.failing())?;
            }
            SourceEvent::Idle => {
                if self.health.is_up() && topic_check::has_unchecked(&self.reading.partitions.cursors) {
                    self.reading.check_topics(true, emitter)?;
                }
                if self.health.is_up() {
                    self.reading.check_awaited()?;
                    if self.is_subscribed() {
                        self.reading.check_unassigned()?;
                    }
                }
                return self.check_health().map(|()| Step::Idle);
            }
            SourceEvent::AfterPause => self.reading.check_topics(true, emitter)?,
            SourceEvent::UnknownTopic => {
                let present = self.reading.cluster.topic_ids()?;
                self.reading.compare_topics(&present, emitter)?;
            }
            SourceEvent::Unreachable => {
                self.health.note_error(Code::AllBrokersDown);
                return self.check_health().map(|()| Step::Idle);
            }
            SourceEvent::OutOfRange => self.reading.skip_gaps(emitter)?,
            SourceEvent::PartitionEnd(number) => self.end_partition(number, emitter)?,
            SourceEvent::Failed(error) => {
                self.reading.check_unknown(&error, emitter)?;
                self.handle_error(&error)?;
            }
            SourceEvent::Unsupported(why) => {
                self.reading.topics.say(format!("{why}; librdkafka fetches from now on"));
                let other = self.reading.source.fall_back();
                self.reading.source = other.ok_or_else(|| Error::broken("no other source of records"))?;
                self.reading.source.reset(&self.reading.partitions.starts())?;
            }
        }
        Ok(Step::More)
    }

    /// Errors: exit status 69 if all brokers, or the leader of a partition, have given no answer for `wait=`.
    fn check_health(&self) -> Result<()> {
        self.health.check(self.reading.cluster.context())?;
        self.health.check_partitions(self.reading.source.failing())
    }

    /// Ends the partition with this number of the topic being read, because the input has reached its present end.
    fn end_partition(&mut self, number: i32, emitter: &mut RecordEmitter) -> Result<()> {
        if self.reading.topics.address.topics.len() == 1 {
            self.reading.awaited.note_end(number);
        }
        let is_it = |one: &PartitionCursor| one.id.number == number && one.end.is_some() && one.is_read();
        let Some(at) = self.reading.partitions.cursors.iter().position(is_it) else { return Ok(()) };
        // The records up to the end may be those of a new topic.
        match !self.reading.confirm_topics(emitter)? && self.reading.partitions.read_to_end(at, emitter)? {
            true => self.reading.source.pause(&[self.reading.partitions.cursors[at].id]),
            false => Ok(()),
        }
    }

    /// Handles an error of librdkafka. Its transient errors do not count while records arrive through other
    /// connections.
    fn handle_error(&mut self, error: &KafkaError) -> Result<()> {
        match error.rdkafka_error_code().unwrap_or(Code::Unknown) {
            code if client::is_transient(code) && self.reading.source.has_own_connections() => {
                self.reported_down |= code == Code::AllBrokersDown;
                // Each attempt to commit during an outage queues such an error, so polls may return only errors. So the
                // health is checked here too.
                self.check_health()
            }
            code if client::is_transient(code) => {
                self.reading.cluster.context().invalidate_stats();
                self.health.note_error(code);
                self.health.check(self.reading.cluster.context())
            }
            // The source waits for a missing topic, but for none whose partitions a group has assigned.
            code if client::is_missing(code) && self.waits_for_topics() => {
                self.reading.note_missing();
                Ok(())
            }
            code if client::is_missing(code) => Err(client::missing(&self.reading.topics.address)),
            // This run neither joins the group nor commits.
            Code::GroupAuthorizationFailed if self.group.is_none() => Ok(()),
            Code::PollExceeded => {
                self.reading.topics.say("outputs exceeded max.poll.interval.ms; rejoining the group");
                Ok(())
            }
            _ => Err(client::failed(&self.reading.topics.address, "reading failed", error)),
        }
    }

    /// Returns the position of each partition: the offset of its first held record, else its next offset.
    fn commit_point(&self, emitter: &mut RecordEmitter) -> CommitPoint {
        self.reading.partitions.cursors.iter().map(|cursor| position_of(cursor, emitter)).collect()
    }

    /// Drops the held records: the next run reads them again from the last commit.
    fn stop(&mut self, emitter: &mut RecordEmitter) {
        if self.group.is_some() || self.read_mode == ReadMode::Checkpoint {
            for cursor in &mut self.reading.partitions.cursors {
                cursor.next = emitter.stamp().first_held(cursor.partition_index).unwrap_or(cursor.next);
                emitter.forget(cursor.partition_index);
            }
        }
    }
}

impl Input for KafkaInput {
    fn step(&mut self, emitter: &mut RecordEmitter) -> Result<Step> {
        if self.reading.topics.run.stop.signal().is_some() {
            self.stop(emitter);
            return Ok(Step::Stopped);
        }
        self.follow_stats(emitter)?;
        if let Some(answers) = &mut self.answers {
            answers.update(&self.reading.partitions.cursors, &*self.reading.source, &self.reading.topics.run.clock);
        }
        if let Some(step) = self.follow_group(emitter)? {
            return Ok(step);
        }
        if self.is_at_end(emitter)? {
            self.reading.confirm_topics(emitter)?;
            if let Some(progress) = self.reading.partitions.ended() {
                emitter.stamp_mut().control(Control::Progress(progress));
            }
            return Ok(Step::End);
        }
        if self.reported_down && !self.reading.source.has_own_connections() {
            self.reported_down = false;
            self.health.note_error(Code::AllBrokersDown);
        }
        emitter.update_time();
        if self.health.is_up() {
            self.reading.check_topics(false, emitter)?;
        }
        self.reading.check_ends(emitter)?;
        let event =
            self.reading.source.poll(&mut records::Sink { partitions: &mut self.reading.partitions, emitter })?;
        self.handle(event, emitter)
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        if self.group.as_ref().is_some_and(Membership::is_revoked) {
            return self.reading.topics.run.stop.sleep(timeout.min(RELEASE_INTERVAL)).map(|_| ());
        }
        let run = &self.reading.topics.run;
        let start = run.clock.monotonic();
        // A signal does not interrupt librdkafka's wait.
        let waited = self.reading.source.wait(timeout.min(Run::TICK));
        run.metrics.blocked("input", run.clock.monotonic().saturating_sub(start));
        waited
    }

    fn progress(&self) -> ByteProgress {
        ByteProgress { done: self.reading.partitions.bytes, total: None }
    }

    /// Messages of frames hold rows that already have stamps.
    fn reports_partitions(&self) -> bool {
        self.reading.topics.address.options.form == Some(TopicFormat::Frames)
    }

    fn ends_partitions(&self) -> bool {
        !self.reports_partitions() && self.read_mode != ReadMode::Checkpoint
    }

    fn end(&self) -> InputEnd {
        InputEnd { how: EndReason::Exhausted, proof: EndProof::Proven, verdict: self.reading.partitions.verdict() }
    }

    fn commits(&self) -> bool {
        true
    }

    /// Every row before the positions has been passed on once the emitter's queue is empty.
    fn note(&mut self, emitter: &mut RecordEmitter) -> Result<bool> {
        if self.read_mode == ReadMode::Checkpoint || !self.group.as_ref().is_some_and(Membership::is_due) {
            return Ok(false);
        }
        self.reading.confirm_topics(emitter)?;
        emitter.flush()?;
        self.note_epoch(emitter);
        Ok(true)
    }

    fn note_epoch(&mut self, emitter: &mut RecordEmitter) {
        let point = self.commit_point(emitter);
        if let Some(group) = &mut self.group {
            group.noted = Some(point);
        }
    }

    fn has_noted(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.noted.is_some())
    }

    /// Commits the noted positions, and releases revoked partitions.
    fn commit(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        let Some(group) = &mut self.group else { return Ok(()) };
        match group.commit_noted(&*self.reading.cluster) {
            Ok(()) => self.release_revoked(emitter),
            // A transaction that was not committed is aborted.
            Err(error) if group.is_transactional => Err(error),
            // The group has removed this member. Another member reads the uncommitted records again.
            Err(error) if error.kind() == ErrorKind::Fenced => {
                self.reading.topics.run.console.say(error);
                self.release_revoked(emitter)
            }
            // The next commit contains these positions or later ones, and revoked partitions wait for that commit. Only
            // the last commit of a run must succeed. An outage has already been reported.
            Err(error) => {
                if group.note_failed_commit() && self.health.is_up() {
                    self.reading.topics.run.console.say(format!("{error}; retrying"));
                }
                Ok(())
            }
        }
    }

    fn commit_end(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        self.reading.confirm_topics(emitter)?;
        let point = self.commit_point(emitter);
        let Some(group) = &mut self.group else { return Ok(()) };
        group.commit_last(&*self.reading.cluster, &point)
    }

    fn confirm(&mut self, emitter: &mut RecordEmitter) -> Result<()> {
        self.reading.confirm_rows(emitter)
    }

    fn reached(&self, emitter: &mut RecordEmitter) -> Vec<ReadPosition> {
        let clock = &self.reading.topics.run.clock;
        let mut reached = |cursor: &PartitionCursor| {
            let confirmed = confirmed(cursor, &*self.reading.source, clock);
            let position = position_of(cursor, emitter);
            ReadPosition {
                topic: self.reading.topics.name(cursor.id.topic).to_owned(),
                partition: cursor.id.number,
                topic_id: cursor.topic.id,
                next: position.offset,
                stream_time: position.stream_time,
                is_at_end: position.offset >= cursor.extent.high,
                confirmed,
                answered: match (cursor.is_read(), self.reading.source.has_own_connections()) {
                    (false, _) => Some(clock.monotonic()),
                    (true, true) => confirmed,
                    (true, false) => confirmed.max(self.records_at),
                },
            }
        };
        self.reading.partitions.cursors.iter().map(&mut reached).collect()
    }

    fn unread(&self) -> Vec<UnreadPartition> {
        let Some(answers) = &self.answers else { return vec![] };
        let origin = |topic| self.origin.as_deref().unwrap_or(self.reading.topics.name(topic));
        answers.unread(&self.reading.partitions.cursors, origin)
    }

    /// End offsets are those of the last answer, or as old as the last statistics of librdkafka.
    fn lag(&self, now: i64) -> Vec<Lag> {
        let lag = |cursor: &PartitionCursor| {
            let topic = self.reading.topics.name(cursor.id.topic);
            Lag::new(topic, cursor.id.number, cursor.next..cursor.extent.high, cursor.last, now)
        };
        self.reading.partitions.cursors.iter().map(lag).collect()
    }
}

/// Leaves the group. librdkafka then revokes the partitions once more; the callback releases them itself.
impl Drop for KafkaInput {
    fn drop(&mut self) {
        self.reading.cluster.context().notes(|notes| notes.is_closing = true);
        if !self.health.is_up() || self.group.as_mut().is_some_and(Membership::is_unanswered) {
            return self.reading.cluster.abandon();
        }
        let mut revoked: Vec<_> = self.group.as_mut().and_then(Membership::take_revoked).into_iter().collect();
        for rebalance in self.reading.cluster.context().notes(|notes| std::mem::take(&mut notes.rebalances)) {
            if let Rebalance::Revoked(partitions) = rebalance {
                revoked.push(partitions);
            }
        }
        // An error does not matter: the group removes a member that is gone.
        revoked.iter().for_each(|partitions| _ = self.reading.source.revoke(partitions));
        if self.group.as_ref().is_some_and(|group| group.is_subscribed && group.joined != Joined::No) {
            self.reading.cluster.leave_group();
        }
    }
}

/// Returns the position of a partition: the offset of its first held record, else its next offset.
fn position_of(cursor: &PartitionCursor, emitter: &RecordEmitter) -> Position {
    let index = cursor.partition_index;
    cursor.position(emitter.stamp().first_held(index), emitter.stamp().stream_time(index))
}

#[cfg(test)]
mod tests;
