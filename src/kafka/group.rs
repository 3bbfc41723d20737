//! Membership in a consumer group: what is committed, and when revoked partitions are released.
//!
//! A committed offset states that the outputs hold all rows before it. So positions ([`Cut`]) are noted when every row before
//! them has been passed on, and committed only after the outputs have confirmed these rows.
//!
//! ```text
//! rows passed on ─► note ─► outputs flushed ─► commit_noted ─► group
//! revoked: stop reading ─► note ─► outputs flushed ─► commit_noted ─► release
//! ```

use super::client::{self, Change, Client, release};
use super::input::KafkaInput;
use super::position;
use super::range::{self, Part, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::ingest::Ingest;
use crate::run::Run;
use crate::stop::{LOOK, Stop};
use crate::uri::kafka::Address;
use rdkafka::Offset;
use rdkafka::consumer::{CommitMode, Consumer, RebalanceProtocol};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Maximum time from a revocation to the release without a commit: less than `max.poll.interval.ms`.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long to wait for the sessions of killed members to expire (45 s by default) before the group counts as in use.
const MEMBERS_GONE: Duration = Duration::from_secs(60);
/// Timeout of a commit, and of leaving the group.
const ANSWERED: Duration = Duration::from_secs(10);
/// How long the last commit of a run is retried.
const AT_END: Duration = Duration::from_secs(5);

/// The next offset of a partition, and the stream time there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The index of the topic in the address.
    pub topic: usize,
    /// The partition's number.
    pub number: i32,
    /// The offset.
    pub offset: i64,
    /// The stream time (µs); `None` before the first row.
    pub stream_time: Option<i64>,
}

/// Positions before which all rows have been passed on.
pub type Cut = Vec<Position>;

/// Whether and how a run commits offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offsets {
    /// It commits nothing: some output cannot confirm its rows.
    #[default]
    Kept,
    /// It commits offsets once rows are safe in the outputs, and reads all partitions itself.
    Committed,
    /// The same, and the group assigns partitions to its members.
    Shared,
}

/// The membership of one run.
pub struct Membership {
    subscribed: bool,
    /// The interval between commits.
    every: Duration,
    due: Instant,
    committed: Cut,
    /// A commit that the group has not answered yet.
    sent: Option<(Receiver<KafkaResult<()>>, Cut)>,
    /// Positions noted and not committed yet.
    noted: Option<Cut>,
    /// Revoked partitions and when they were revoked; they are released once the rows read from them are safe.
    leaving: Option<(Vec<(String, i32)>, Instant)>,
    /// Whether the last commit failed.
    failing: bool,
}

impl Membership {
    /// Makes a membership that commits `every` so often; `subscribed` says whether the group assigns the partitions.
    pub fn new(subscribed: bool, every: Duration) -> Self {
        let due = Instant::now() + every;
        Self { subscribed, every, due, committed: vec![], sent: None, noted: None, leaving: None, failing: false }
    }

    /// Whether the group assigns the partitions.
    pub fn is_subscribed(&self) -> bool {
        self.subscribed
    }

    /// Whether positions must be noted now: a commit is due, or partitions are revoked.
    pub fn is_due(&self) -> bool {
        self.noted.is_none() && (self.leaving.is_some() || Instant::now() >= self.due)
    }

    /// Notes positions before which every row has been passed on.
    pub fn note(&mut self, cut: Cut) {
        self.noted = Some(cut);
    }

    /// Whether noted positions wait for the outputs to confirm their rows.
    pub fn has_noted(&self) -> bool {
        self.noted.is_some()
    }

    /// Marks partitions as revoked; they will be assigned to another member.
    pub fn leave(&mut self, partitions: Vec<(String, i32)>) {
        self.noted = None;
        self.leaving = Some((partitions, Instant::now()));
    }

    /// Whether revoked partitions wait for their release. Nothing is read meanwhile.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Whether revoked partitions have waited so long for the outputs that they must be released without a commit.
    pub fn is_overdue(&self) -> bool {
        self.leaving.as_ref().is_some_and(|(_, since)| since.elapsed() > PATIENCE)
    }

    /// Takes the revoked partitions, and drops the noted positions.
    pub fn take_leaving(&mut self) -> Vec<(String, i32)> {
        self.noted = None;
        self.leaving.take().map(|(partitions, _)| partitions).unwrap_or_default()
    }

    /// Notes a failed commit; true for the first one since a commit succeeded.
    pub fn begins_to_fail(&mut self) -> bool {
        !std::mem::replace(&mut self.failing, true)
    }

    /// Commits the noted positions.
    pub fn commit_noted(&mut self, client: &Arc<Client>, address: &Address) -> Result<()> {
        match self.noted.take() {
            Some(cut) => self.commit(client, address, &cut),
            None => Ok(()),
        }
    }

    /// Commits the positions in `cut` that changed, and waits for the answer of the group. Errors: exit status 69 if there is
    /// no answer in time. The commit runs on a thread of its own because librdkafka's call has no timeout.
    pub fn commit(&mut self, client: &Arc<Client>, address: &Address, cut: &Cut) -> Result<()> {
        self.due = Instant::now() + self.every;
        if self.sent.is_some() {
            // Its result does not matter: this commit contains those positions and later ones.
            let _ = self.answered(address)?;
        }
        let mut list = TopicPartitionList::new();
        for position in cut.iter().filter(|position| !self.committed.contains(position)) {
            let topic = &address.topics[position.topic];
            let mut element = list.add_partition(topic, position.number);
            element
                .set_offset(Offset::Offset(position.offset))
                .map_err(|error| Error::broken(format!("{topic}/{}", position.number)).because(error))?;
            element.set_metadata(position::metadata(position.stream_time));
        }
        if list.count() == 0 {
            return Ok(());
        }
        let (sender, answer) = channel();
        let client = client.clone();
        let spawned = std::thread::Builder::new().name("commit".into()).spawn(move || {
            let done = client.commit(&list, CommitMode::Sync);
            // The last reference must be dropped on the run's thread, because the drop leaves the group.
            drop(client);
            let _ = sender.send(done);
        });
        spawned.map_err(|error| Error::io("a thread", &error))?;
        self.sent = Some((answer, cut.clone()));
        let answered = self.answered(address)?;
        answered.map_err(|error| client::failed(address, "offsets cannot be committed", &error))?;
        self.failing = false;
        Ok(())
    }

    /// Whether the last commit has no answer yet.
    fn is_unanswered(&self) -> bool {
        self.sent.is_some()
    }

    /// Waits for the answer to the last commit.
    fn answered(&mut self, address: &Address) -> Result<KafkaResult<()>> {
        let Some((answer, cut)) = self.sent.take() else { return Ok(Ok(())) };
        match Stop::of_process().server_wait().receive(&answer, ANSWERED) {
            Ok(Ok(())) => {
                self.committed = cut;
                Ok(Ok(()))
            }
            Ok(Err(error)) => Ok(Err(error)),
            Err(RecvTimeoutError::Timeout) => {
                self.sent = Some((answer, cut));
                let message = format!("{address}: offsets cannot be committed");
                Err(Error::new(ErrorKind::Unavailable, message).because("no response of the group"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::broken("a commit has no answer")),
        }
    }
}

/// Subscribes to the topics, which joins the group.
pub fn subscribe(client: &Client, address: &Address) -> Result<()> {
    let topics: Vec<&str> = address.topics.iter().map(String::as_str).collect();
    client.subscribe(&topics).map_err(|error| client::failed(address, "joining the group failed", &error))
}

/// Makes a cut from the position of each part.
pub fn cut(parts: &[Part], mut position: impl FnMut(&Part) -> (i64, Option<i64>)) -> Cut {
    parts
        .iter()
        .map(|part| {
            let (offset, stream_time) = position(part);
            Position { topic: part.topic, number: part.number, offset, stream_time }
        })
        .collect()
}

impl KafkaInput {
    /// Notes positions if a commit is due; returns whether it did. Every row before them has been passed on once the ingest's
    /// queue is empty.
    pub fn note_positions(&mut self, ingest: &mut Ingest) -> Result<bool> {
        if !self.group.as_ref().is_some_and(Membership::is_due) {
            return Ok(false);
        }
        ingest.flush()?;
        let cut = self.cut(ingest);
        if let Some(group) = &mut self.group {
            group.note(cut);
        }
        Ok(true)
    }

    /// Returns the position of each partition: its first record that still waits for a verdict, else its next offset.
    fn cut(&self, ingest: &mut Ingest) -> Cut {
        cut(&self.reading.parts, |part| {
            let offset = ingest.first_held(part.stamp).unwrap_or(part.next);
            (offset, ingest.stamper.stream_time(part.stamp))
        })
    }

    /// Whether noted positions wait for the outputs to confirm their rows.
    pub fn has_noted_positions(&self) -> bool {
        self.group.as_ref().is_some_and(Membership::has_noted)
    }

    /// Commits the noted positions, whose rows the outputs have confirmed, and releases revoked partitions.
    pub fn commit_positions(&mut self, ingest: &mut Ingest) -> Result<()> {
        let Some(group) = &mut self.group else { return Ok(()) };
        match group.commit_noted(&self.client, &self.address) {
            Ok(()) => self.let_go(ingest),
            // The group has removed this member: another member reads again what was not committed.
            Err(error) if error.kind() == ErrorKind::Fenced => {
                self.run.console.say(error);
                self.let_go(ingest)
            }
            // The next commit contains these positions and later ones, and revoked partitions wait for it. Only the last commit
            // of a run must succeed. An outage has already been reported.
            Err(error) => {
                if group.begins_to_fail() && self.health.is_good() {
                    self.run.console.say(format!("{error}; retrying"));
                }
                Ok(())
            }
        }
    }

    /// Commits the end of the run, once the outputs have confirmed all rows.
    pub fn commit_last(&mut self, ingest: &mut Ingest) -> Result<()> {
        let cut = self.cut(ingest);
        let Some(group) = &mut self.group else { return Ok(()) };
        let (start, wait) = (Instant::now(), self.run.stop.server_wait());
        loop {
            let committed = group.commit(&self.client, &self.address, &cut);
            let passes = matches!(&committed, Err(error) if error.kind() == ErrorKind::Unavailable);
            // During a rebalance the group rejects commits for a moment.
            if !passes || start.elapsed() >= AT_END || !wait.pause(Duration::from_millis(100)) {
                return committed;
            }
        }
    }

    /// Drops the records that still wait for later ones: the next run reads them again from the last commit.
    pub fn stop(&mut self, ingest: &mut Ingest) {
        if self.group.is_some() {
            self.reading.parts.iter_mut().for_each(|part| {
                part.next = ingest.first_held(part.stamp).unwrap_or(part.next);
                ingest.forget(part.stamp);
            });
        }
    }

    /// Acts on a rebalance; returns true while nothing may be read.
    pub(super) fn follow_group(&mut self, ingest: &mut Ingest) -> Result<bool> {
        let Some(group) = &mut self.group else { return Ok(false) };
        if group.is_overdue() {
            self.run.console.say(format!(
                "{}: releasing revoked partitions without a commit, because the outputs are too slow",
                self.address
            ));
            self.let_go(ingest)?;
            return Ok(true);
        }
        if group.is_leaving() {
            // The caller has not yet written all rows to the outputs.
            self.run.stop.sleep(Duration::from_millis(10))?;
            return Ok(true);
        }
        match self.client.context().take_change() {
            None => return Ok(false),
            Some(Change::Assigned(partitions)) => self.take_over(&partitions, ingest)?,
            Some(Change::Revoked(partitions)) => {
                group.leave(partitions.clone());
                self.tell_of_change("revoked", &partitions);
                if self.client.assignment_lost() {
                    self.run.console.say(format!(
                        "{}: the partitions were already reassigned; another member reads uncommitted records again",
                        self.address
                    ));
                    self.let_go(ingest)?;
                }
            }
        }
        Ok(true)
    }

    /// Begins to read assigned partitions, from the committed offsets.
    fn take_over(&mut self, partitions: &[(String, i32)], ingest: &mut Ingest) -> Result<()> {
        self.tell_of_change("assigned", partitions);
        let mut parts = vec![];
        for (topic, number) in partitions {
            if let Some(topic) = self.address.topics.iter().position(|known| known == topic) {
                let is_new = usize::try_from(*number).is_ok_and(|number| number >= self.counts[topic]);
                let part = Part { is_new, ..Part::new(topic, *number) };
                if is_new {
                    self.tell_of_new(&part);
                }
                parts.push(part);
            }
        }
        range::resolve(&self.client, &self.address, &self.run, (self.role, &mut parts))?;
        let mut list = TopicPartitionList::new();
        for part in &mut parts {
            part.stamp = self.announce_one(part, ingest);
            range::add(&mut list, &self.address.topics[part.topic], (part.number, part.next))?;
        }
        self.reading.parts.append(&mut parts);
        let assigned = match self.client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.client.incremental_assign(&list),
            _ => self.client.assign(&list),
        };
        assigned.map_err(|error| client::failed(&self.address, "assigned partitions cannot be read", &error))?;
        self.fetch_from(&list)
    }

    /// Releases revoked partitions.
    fn let_go(&mut self, ingest: &mut Ingest) -> Result<()> {
        let Some(group) = self.group.as_mut().filter(|group| group.is_leaving()) else { return Ok(()) };
        let leaving = group.take_leaving();
        let topics = &self.address.topics;
        self.reading.parts.retain(|part| {
            let stays = !leaving.iter().any(|(topic, number)| *topic == topics[part.topic] && *number == part.number);
            if !stays {
                ingest.forget(part.stamp);
                if let Some(fetcher) = &mut self.fetcher {
                    fetcher.leave((part.topic, part.number));
                }
            }
            stays
        });
        self.reading.rewind();
        release(&self.client, &leaving)
            .map_err(|error| client::failed(&self.address, "revoked partitions cannot be released", &error))
    }

    /// Leaves the group. If no response of the group in time the client stays alive until the process ends.
    fn leave_group(&self) {
        let (start, wait) = (Instant::now(), self.run.stop.server_wait());
        if self.client.close_queue().is_err() {
            return;
        }
        while !self.client.closed() {
            self.client.poll(LOOK);
            if wait.is_over() || start.elapsed() >= ANSWERED {
                return std::mem::forget(self.client.clone());
            }
        }
    }

    /// Reports a rebalance.
    fn tell_of_change(&self, what: &str, partitions: &[(String, i32)]) {
        if !partitions.is_empty() {
            let group = self.address.options.group.as_deref().unwrap_or_default();
            let list: Vec<String> = partitions.iter().map(|(topic, number)| format!("{topic}/{number}")).collect();
            self.run.console.say(format!("group {group}: {what} {}", list.join(" ")));
        }
    }
}

/// Leaves the group. librdkafka then revokes the partitions once more; the callback releases them itself.
impl Drop for KafkaInput {
    fn drop(&mut self) {
        self.client.context().close();
        if !self.health.is_good() || self.group.as_ref().is_some_and(Membership::is_unanswered) {
            // The group cannot be reached, and librdkafka would wait for it without a timeout: the client stays alive until the
            // process ends.
            std::mem::forget(self.client.clone());
            return;
        }
        if let Some(group) = self.group.as_mut().filter(|group| group.is_leaving()) {
            // An error does not matter: the group removes a member that is gone.
            let _ = release(&self.client, &group.take_leaving());
        }
        while let Some(change) = self.client.context().take_change() {
            if let Change::Revoked(partitions) = change {
                let _ = release(&self.client, &partitions);
            }
        }
        if self.is_subscribed() {
            self.leave_group();
        }
    }
}

/// Resolves the range of a run that reads all partitions itself, and commits its beginning. The group rejects that commit while
/// it has members, or members that were killed less than a session timeout ago. Errors: exit status 75 if it still does after
/// [`MEMBERS_GONE`].
pub(super) fn claim(
    client: &Arc<Client>,
    address: &Address,
    run: &Run,
    (group, parts): (&mut Membership, &mut [Part]),
) -> Result<()> {
    let start = Instant::now();
    let mut said = false;
    loop {
        range::resolve(client, address, run, (Role::Works, parts))?;
        let cut = cut(parts, |part| (part.next, part.stream_time));
        match group.commit(client, address, &cut) {
            Err(error) if error.kind() == ErrorKind::Fenced && start.elapsed() < MEMBERS_GONE => {
                if run.stop.signal().is_some() {
                    return Err(error);
                }
                if !std::mem::replace(&mut said, true) {
                    run.console.say(format!("{address}: the group has active members; waiting until they have left"));
                }
                run.stop.sleep(Duration::from_millis(500))?;
            }
            Err(error) if error.kind() == ErrorKind::Fenced => {
                return Err(
                    error.because("the group has active members, and this run would also read their partitions")
                );
            }
            committed => return committed,
        }
    }
}

/// Returns the commit interval: librdkafka's `auto.commit.interval.ms`, although librdkafka never commits by itself here; 5 s
/// by default.
pub(super) fn commit_interval(address: &Address, run: &Run) -> Duration {
    let settings = run.kafka.iter().chain(&address.options.settings);
    let said = settings.rev().find(|(name, _)| name == "auto.commit.interval.ms");
    let millis = said.and_then(|(_, value)| value.parse().ok()).unwrap_or(5000);
    Duration::from_millis(millis).max(Run::LINGER)
}
