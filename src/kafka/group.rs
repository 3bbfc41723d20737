//! Membership in a consumer group: what is committed, and when a revoked partition is let go.
//!
//! A commit says that everything before an offset is safe in the outputs. So it is made of positions that were noted
//! when every row before them had been handed out ([`Cut`]), and only after the outputs have said that they are safe.

use super::client::{self, Change, Client, release};
use super::input::KafkaInput;
use super::position;
use super::range::{self, Part, Role};
use crate::error::{Error, ErrorKind, Result};
use crate::run::Run;
use crate::stop::{LOOK, Stop};
use crate::stream::intake::Intake;
use crate::uri::kafka::Address;
use rdkafka::Offset;
use rdkafka::consumer::{CommitMode, Consumer, RebalanceProtocol};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long revoked partitions wait for the outputs: less than a member may be silent (max.poll.interval.ms).
const PATIENCE: Duration = Duration::from_secs(120);

/// How long members that were killed may still count as members: more than their session (45 s by default).
const MEMBERS_GONE: Duration = Duration::from_secs(60);
/// How long the answer to a commit, or to leaving, is waited for before the run goes on without it.
const ANSWERED: Duration = Duration::from_secs(10);
/// How long the last commit of a run is tried.
const AT_END: Duration = Duration::from_secs(5);

/// The offset read next in a partition, and its stream time there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The topic, among those of the address.
    pub topic: usize,
    /// The partition's number.
    pub number: i32,
    /// The offset.
    pub offset: i64,
    /// The stream time (µs); none before the first row.
    pub stream_time: Option<i64>,
}

/// Positions up to which all rows have been handed out.
pub type Cut = Vec<Position>;

/// What becomes of a group's offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offsets {
    /// They stay as they are: some output cannot say that rows are safe.
    #[default]
    Kept,
    /// They are committed once rows are safe; this run reads all partitions.
    Committed,
    /// The same, and the group hands out the partitions to its members.
    Shared,
}

/// Membership of one run.
pub struct Membership {
    subscribed: bool,
    /// How often positions are committed.
    every: Duration,
    due: Instant,
    committed: Cut,
    /// Sent to the group, and not answered yet.
    sent: Option<(Receiver<KafkaResult<()>>, Cut)>,
    /// Noted, and not committed yet.
    noted: Option<Cut>,
    /// Partitions that were revoked: let go once what was read of them is safe.
    leaving: Option<(Vec<(String, i32)>, Instant)>,
    /// Whether the last commit failed.
    failing: bool,
}

impl Membership {
    /// Offsets are committed to the group `every` so often; `subscribed` says whether it also hands out the partitions.
    pub fn new(subscribed: bool, every: Duration) -> Self {
        let due = Instant::now() + every;
        Self { subscribed, every, due, committed: vec![], sent: None, noted: None, leaving: None, failing: false }
    }

    /// Whether the group hands out the partitions.
    pub fn is_subscribed(&self) -> bool {
        self.subscribed
    }

    /// Whether positions should be noted now.
    pub fn is_due(&self) -> bool {
        self.noted.is_none() && (self.leaving.is_some() || Instant::now() >= self.due)
    }

    /// Notes positions before which every row has been handed out.
    pub fn note(&mut self, cut: Cut) {
        self.noted = Some(cut);
    }

    /// Whether positions wait for the outputs.
    pub fn has_noted(&self) -> bool {
        self.noted.is_some()
    }

    /// These partitions will go to another member.
    pub fn leave(&mut self, partitions: Vec<(String, i32)>) {
        self.noted = None;
        self.leaving = Some((partitions, Instant::now()));
    }

    /// Whether partitions wait to be let go, so that nothing more is read.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Whether the outputs take too long for the other members: the partitions go without a commit.
    pub fn is_overdue(&self) -> bool {
        self.leaving.as_ref().is_some_and(|(_, since)| since.elapsed() > PATIENCE)
    }

    /// The partitions to be let go.
    pub fn take_leaving(&mut self) -> Vec<(String, i32)> {
        self.noted = None;
        self.leaving.take().map(|(partitions, _)| partitions).unwrap_or_default()
    }

    /// Whether commits have begun to fail: true once, until one succeeds.
    pub fn begins_to_fail(&mut self) -> bool {
        !std::mem::replace(&mut self.failing, true)
    }

    /// Commits what was noted.
    pub fn commit_noted(&mut self, client: &Arc<Client>, address: &Address) -> Result<()> {
        match self.noted.take() {
            Some(cut) => self.commit(client, address, &cut),
            None => Ok(()),
        }
    }

    /// Commits what is new in `cut`; returns when the group has it. Exit 69 where it does not answer: librdkafka would wait
    /// for it without end.
    pub fn commit(&mut self, client: &Arc<Client>, address: &Address, cut: &Cut) -> Result<()> {
        self.due = Instant::now() + self.every;
        if self.sent.is_some() {
            // Whether it failed does not matter: this one says the same and more.
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
            // The run's own thread shall be the last that has it: that one leaves the group.
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

    /// Whether the group has not answered the last commit.
    fn is_unanswered(&self) -> bool {
        self.sent.is_some()
    }

    /// Waits for the answer to what was sent last.
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
                Err(Error::new(ErrorKind::Unavailable, message).because("the group does not answer"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::broken("a commit has no answer")),
        }
    }
}

/// Joins the group.
pub fn subscribe(client: &Client, address: &Address) -> Result<()> {
    let topics: Vec<&str> = address.topics.iter().map(String::as_str).collect();
    client.subscribe(&topics).map_err(|error| client::failed(address, "the group cannot be joined", &error))
}

/// Positions of the parts, as they stand.
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
    /// Notes positions where a commit is due: every row before them has been handed out once the queue is empty.
    pub fn note(&mut self, intake: &mut Intake) -> Result<bool> {
        if !self.group.as_ref().is_some_and(Membership::is_due) {
            return Ok(false);
        }
        intake.flush()?;
        let cut = self.cut(intake);
        if let Some(group) = &mut self.group {
            group.note(cut);
        }
        Ok(true)
    }

    /// Where each partition stands: at the first record that still waits for its verdict, else behind the last one read.
    fn cut(&self, intake: &mut Intake) -> Cut {
        cut(&self.reading.parts, |part| {
            let offset = intake.first_held(part.stamp).unwrap_or(part.next);
            (offset, intake.stamper.stream_time(part.stamp))
        })
    }

    /// Whether positions wait for the outputs.
    pub fn has_noted(&self) -> bool {
        self.group.as_ref().is_some_and(Membership::has_noted)
    }

    /// The outputs are safe: commits what was noted, and lets go what was revoked.
    pub fn commit(&mut self, intake: &mut Intake) -> Result<()> {
        let Some(group) = &mut self.group else { return Ok(()) };
        match group.commit_noted(&self.client, &self.address) {
            Ok(()) => self.let_go(intake),
            // The group has gone on without this member: what it read since is another's to read again.
            Err(error) if error.kind() == ErrorKind::Fenced => {
                self.run.console.say(error);
                self.let_go(intake)
            }
            // The next commit says the same and more, and what is to be let go waits for it; the last one of a run must
            // succeed. That brokers are away has been said.
            Err(error) => {
                if group.begins_to_fail() && self.health.is_good() {
                    self.run.console.say(format!("{error}: trying again"));
                }
                Ok(())
            }
        }
    }

    /// The run is at its end and the outputs are safe.
    pub fn commit_end(&mut self, intake: &mut Intake) -> Result<()> {
        let cut = self.cut(intake);
        let Some(group) = &mut self.group else { return Ok(()) };
        let (start, wait) = (Instant::now(), self.run.stop.server_wait());
        loop {
            let committed = group.commit(&self.client, &self.address, &cut);
            let passes = matches!(&committed, Err(error) if error.kind() == ErrorKind::Unavailable);
            // While others join or leave, the group takes no commits for a moment.
            if !passes || start.elapsed() >= AT_END || !wait.pause(Duration::from_millis(100)) {
                return committed;
            }
        }
    }

    /// The run stops: records that wait for those after them are left to the run that goes on from the last commit.
    pub fn stop(&mut self, intake: &mut Intake) {
        if self.group.is_some() {
            self.reading.parts.iter_mut().for_each(|part| {
                part.next = intake.first_held(part.stamp).unwrap_or(part.next);
                intake.forget(part.stamp);
            });
        }
    }

    /// Acts on a change of the group's members; true while nothing may be read.
    pub(super) fn follow_group(&mut self, intake: &mut Intake) -> Result<bool> {
        let Some(group) = &mut self.group else { return Ok(false) };
        if group.is_overdue() {
            self.run.console.say(format!(
                "{}: partitions go to another member without a commit: the outputs took too long",
                self.address
            ));
            self.let_go(intake)?;
            return Ok(true);
        }
        if group.is_leaving() {
            // Whoever asks again has not brought the rows into the outputs yet.
            self.run.stop.sleep(Duration::from_millis(10))?;
            return Ok(true);
        }
        match self.client.context().take_change() {
            None => return Ok(false),
            Some(Change::Assigned(partitions)) => self.take_over(&partitions, intake)?,
            Some(Change::Revoked(partitions)) => {
                group.leave(partitions.clone());
                self.tell_of_change("lets go", &partitions);
                if self.client.assignment_lost() {
                    self.run.console.say(format!("{}: the group had given the partitions away already: another member reads again what was not committed", self.address));
                    self.let_go(intake)?;
                }
            }
        }
        Ok(true)
    }

    /// Partitions that are ours from now on, from where the group left them.
    fn take_over(&mut self, partitions: &[(String, i32)], intake: &mut Intake) -> Result<()> {
        self.tell_of_change("takes", partitions);
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
            part.stamp = self.announce_one(part, intake);
            range::add(&mut list, &self.address.topics[part.topic], (part.number, part.next))?;
        }
        self.reading.parts.append(&mut parts);
        let assigned = match self.client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.client.incremental_assign(&list),
            _ => self.client.assign(&list),
        };
        assigned.map_err(|error| client::failed(&self.address, "partitions cannot be taken over", &error))?;
        self.fetch_from(&list)
    }

    /// Lets go what was revoked.
    fn let_go(&mut self, intake: &mut Intake) -> Result<()> {
        let Some(group) = self.group.as_mut().filter(|group| group.is_leaving()) else { return Ok(()) };
        let leaving = group.take_leaving();
        let topics = &self.address.topics;
        self.reading.parts.retain(|part| {
            let stays = !leaving.iter().any(|(topic, number)| *topic == topics[part.topic] && *number == part.number);
            if !stays {
                intake.forget(part.stamp);
                if let Some(fetcher) = &mut self.fetcher {
                    fetcher.leave((part.topic, part.number));
                }
            }
            stays
        });
        self.reading.rewind();
        release(&self.client, &leaving)
            .map_err(|error| client::failed(&self.address, "partitions cannot be let go", &error))
    }

    /// Tells the group that this member leaves. Where nobody hears it in time, the client stays until the process has gone.
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

    fn tell_of_change(&self, what: &str, partitions: &[(String, i32)]) {
        if !partitions.is_empty() {
            let group = self.address.options.group.as_deref().unwrap_or_default();
            let list: Vec<String> = partitions.iter().map(|(topic, number)| format!("{topic}/{number}")).collect();
            self.run.console.say(format!("group {group}: {what} {}", list.join(" ")));
        }
    }
}

/// Leaving the group asks once more what to do with the partitions: nobody but the callback is there to answer.
impl Drop for KafkaInput {
    fn drop(&mut self) {
        self.client.context().close();
        if !self.health.is_good() || self.group.as_ref().is_some_and(Membership::is_unanswered) {
            // Nobody is there who could be told that this member leaves, and librdkafka would wait for that without end: the
            // client stays until the process has gone.
            std::mem::forget(self.client.clone());
            return;
        }
        if let Some(group) = self.group.as_mut().filter(|group| group.is_leaving()) {
            // The group learns by itself that this member is gone.
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

/// Resolves the range of a run that reads all partitions of a group by itself, and commits where it begins: while members are
/// at work, or were killed a moment ago, the group takes no commit of others. Exit 75 where it never does.
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
                    run.console.say(format!("{address}: the group has members at work: waiting until they are gone"));
                }
                run.stop.sleep(Duration::from_millis(500))?;
            }
            Err(error) if error.kind() == ErrorKind::Fenced => {
                return Err(
                    error.because("the group has members at work, and this run would read their partitions too")
                );
            }
            committed => return committed,
        }
    }
}

/// How often offsets are committed: librdkafka's setting says it, though librdkafka never commits by itself here.
pub(super) fn commit_interval(address: &Address, run: &Run) -> Duration {
    let settings = run.kafka.iter().chain(&address.options.settings);
    let said = settings.rev().find(|(name, _)| name == "auto.commit.interval.ms");
    let millis = said.and_then(|(_, value)| value.parse().ok()).unwrap_or(5000);
    Duration::from_millis(millis).max(Run::LINGER)
}
