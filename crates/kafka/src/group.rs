//! Membership in a consumer group: commits offsets, and decides when to release revoked partitions.
//!
//! A committed offset states that the outputs hold all rows before it. So the input notes a position ([`CommitPoint`])
//! when it has passed on every row before it, and commits the position only after the outputs have confirmed these
//! rows.
//!
//! ```text
//! rows passed on ─► note ─► outputs flushed ─► commit_noted ─► group
//! revoked: stop reading ─► note ─► outputs flushed ─► commit_noted ─► release
//! ```

use super::client::{self, Topics};
use super::position::{PartitionId, Position};
use super::produce::shared::{self, SharedProducer};
use super::range::{self, PartitionCursor, ReadMode};
use super::source::Cluster;
use evt_core::error::{Error, ErrorKind, Result};
use evt_run::run::Run;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Default of `max.poll.interval.ms`: the group removes a member that has not released revoked partitions within this
/// time.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);
/// How long to wait for the sessions of killed members to expire (45 s by default) before the group counts as in use.
const SESSIONS_EXPIRED: Duration = Duration::from_secs(60);
/// How long the last commit of a run is retried.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// The setting of the interval between commits.
const INTERVAL: &str = "auto.commit.interval.ms";
/// Its default for transactions. It is short, because readers get rows only when they are committed.
const TRANSACTION_INTERVAL: Duration = Duration::from_secs(1);
/// Timeout of a commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long reading pauses for the answer to a commit. A later answer is taken when the next commit is due.
const READING_PAUSE: Duration = Duration::from_millis(100);

/// Positions before which the input has passed on all rows.
pub type CommitPoint = Vec<Position>;

/// Whether and how a run commits offsets.
#[derive(Clone, Default)]
pub enum CommitMode {
    /// The run commits nothing, because some output cannot confirm its rows.
    #[default]
    None,
    /// The run commits offsets once rows are safe in the outputs, and reads all partitions itself.
    Assign,
    /// As [`CommitMode::Assign`], but the group assigns partitions to its members.
    Subscribe,
    /// As [`CommitMode::Subscribe`], and the offsets are in the transactions of the records that the outputs write.
    Transactions(Rc<SharedProducer>),
}

/// The options with which a tool reads topics.
#[derive(Clone, Default)]
pub struct TopicOptions {
    /// The mode of reading: bounded or endless, with or without commits.
    pub read_mode: ReadMode,
    /// Whether and how offsets are committed.
    pub commit_mode: CommitMode,
    /// Whether the tool has a clock of its own, which no partition without records delays (evt-alert).
    pub has_clock: bool,
    /// Whether the tool finds partitions without records, so that it needs to know when the broker of each partition
    /// has answered (`--idle-after`).
    pub finds_silence: bool,
    /// Whether partitions stay live at the end of their range, because it is not the end of what the tool has open
    /// (`--at-end hold`).
    pub stays_live: bool,
}

impl TopicOptions {
    /// Returns the interval (ms) of librdkafka's statistics, which alone show that a broker has answered without
    /// records.
    pub fn statistics_interval(&self) -> &'static str {
        if self.has_clock || self.finds_silence { "1000" } else { "5000" }
    }

    /// Whether the tool keeps the positions itself: in a checkpoint, or in the state of evt-alert.
    pub fn keeps_positions(&self) -> bool {
        match self.read_mode {
            ReadMode::Checkpoint => true,
            ReadMode::Commit => self.has_clock,
            ReadMode::Bounded | ReadMode::Tail | ReadMode::Stateful => false,
        }
    }
}

/// The options with which a run reads the topics of one address.
#[derive(Clone, Default)]
pub struct Options<'a> {
    /// The options of the tool.
    pub tool: TopicOptions,
    /// The origin of all rows instead of the name of their topic.
    pub origin: Option<&'a str>,
}

/// A commit that the group has not answered yet.
struct SentCommit {
    answer: Receiver<Result<()>>,
    point: CommitPoint,
    /// When it was sent, on the run's monotonic clock.
    at: Duration,
}

/// Revoked partitions that wait for their release.
struct Revoked {
    partitions: Vec<PartitionId>,
    /// When they were revoked, on the run's monotonic clock.
    since: Duration,
}

/// How far a run has come into its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Joined {
    /// Not at all.
    #[default]
    No,
    /// The input has subscribed.
    Subscribed,
    /// The group has assigned a partition to it.
    Assigned,
}

/// The membership of one run.
pub struct Membership {
    topics: Topics,
    /// Whether the group assigns the partitions.
    pub is_subscribed: bool,
    /// How far the run has come into the group.
    pub joined: Joined,
    /// The interval between commits.
    interval: Duration,
    /// Maximum time from a revocation to the release without a commit.
    release_timeout: Duration,
    /// When the next commit is due, on the run's monotonic clock.
    due: Duration,
    committed: CommitPoint,
    sent: Option<SentCommit>,
    /// Positions before which the input has passed on all rows, until the outputs have confirmed these rows.
    pub noted: Option<CommitPoint>,
    /// Revoked partitions; they are released once the rows read from them are safe.
    revoked: Option<Revoked>,
    /// Whether the last commit failed.
    failing: bool,
    /// Whether a commit makes the records of the outputs visible. Commits are then necessary even without new
    /// positions, and no partition may be released without a commit.
    pub is_transactional: bool,
}

impl Membership {
    /// Makes the membership of a run; `is_subscribed`: the group assigns the partitions.
    ///
    /// Offsets are committed every `auto.commit.interval.ms` (5 s by default), although librdkafka's own auto-commit is
    /// off here. Revoked partitions are released within two fifths of `max.poll.interval.ms`, so that a rebalance ends
    /// before the group removes this member.
    pub fn new(topics: &Topics, is_subscribed: bool) -> Self {
        let Topics { address, run } = topics;
        let millis = |name: &str| Some(Duration::from_millis(client::setting(address, run, name)?.parse().ok()?));
        let interval = millis(INTERVAL).unwrap_or(Duration::from_secs(5)).max(Run::LINGER);
        Self {
            topics: topics.clone(),
            is_subscribed,
            joined: Joined::default(),
            interval,
            release_timeout: millis("max.poll.interval.ms").unwrap_or(MAX_POLL_INTERVAL) * 2 / 5,
            due: run.clock.monotonic() + interval,
            committed: vec![],
            sent: None,
            noted: None,
            revoked: None,
            failing: false,
            is_transactional: false,
        }
    }

    /// Lets commits end transactions, every second by default, and before brokers would end them.
    pub fn in_transactions(mut self) -> Self {
        let Topics { address, run } = &self.topics;
        if client::setting(address, run, INTERVAL).is_none() {
            self.interval = TRANSACTION_INTERVAL;
        }
        self.interval = self.interval.min(shared::TIMEOUT / 2);
        self.due = run.clock.monotonic() + self.interval;
        self.is_transactional = true;
        self
    }

    /// Checks that partitions may be released without a commit. Errors: exit status 75 if their rows are in an open
    /// transaction.
    pub fn check_release(&self) -> Result<()> {
        match self.is_transactional {
            false => Ok(()),
            true => Err(Error::fenced(format!(
                "{}: partitions were reassigned before their transaction was committed; another member reads their records",
                self.topics.address
            ))),
        }
    }

    /// Whether the input must subscribe now: at its first step. The group removes a member that does not poll, and the
    /// inputs before this one may take long.
    pub fn joins(&mut self) -> bool {
        let joins = self.is_subscribed && self.joined == Joined::No;
        if joins {
            self.joined = Joined::Subscribed;
        }
        joins
    }

    /// Notes partitions that the group assigns.
    pub fn note_assigned(&mut self, partitions: &[PartitionId]) {
        if !partitions.is_empty() {
            self.joined = Joined::Assigned;
        }
    }

    /// Returns the run's monotonic clock.
    fn now(&self) -> Duration {
        self.topics.run.clock.monotonic()
    }

    /// Whether positions must be noted now: a commit is due, or partitions are revoked.
    pub fn is_due(&self) -> bool {
        self.noted.is_none() && (self.revoked.is_some() || self.now() >= self.due)
    }

    /// Marks partitions as revoked; they will be assigned to another member.
    pub fn revoke(&mut self, partitions: Vec<PartitionId>) {
        self.noted = None;
        self.revoked = Some(Revoked { partitions, since: self.now() });
    }

    /// Whether revoked partitions wait for their release. The input reads nothing meanwhile.
    pub fn is_revoked(&self) -> bool {
        self.revoked.is_some()
    }

    /// Whether revoked partitions have waited so long for the outputs that they must be released without a commit.
    pub fn is_overdue(&self) -> bool {
        let waited = |revoked: &Revoked| self.now().saturating_sub(revoked.since);
        self.revoked.as_ref().is_some_and(|revoked| waited(revoked) > self.release_timeout)
    }

    /// Takes the revoked partitions, and drops the noted positions.
    pub fn take_revoked(&mut self) -> Option<Vec<PartitionId>> {
        self.noted = None;
        self.revoked.take().map(|revoked| revoked.partitions)
    }

    /// Notes a failed commit; returns whether it is the first failure since a commit succeeded.
    pub fn note_failed_commit(&mut self) -> bool {
        !std::mem::replace(&mut self.failing, true)
    }

    /// Commits the noted positions. A group that does not answer, because its coordinator is away, does not stop the
    /// reading, unless revoked partitions wait for the commit. Errors: exit status 69 if there is no answer in time.
    pub fn commit_noted(&mut self, cluster: &dyn Cluster) -> Result<()> {
        let Some(point) = self.noted.take() else { return Ok(()) };
        if self.is_revoked() {
            return self.commit(cluster, &point);
        }
        let committed = self.commit_within(READING_PAUSE, cluster, &point);
        match &self.sent {
            Some(sent) if self.now() < sent.at + COMMIT_TIMEOUT => Ok(()),
            _ => committed,
        }
    }

    /// Commits the positions that changed, and waits for the answer of the group. Errors: exit status 69 if there is no
    /// answer in time.
    pub fn commit(&mut self, cluster: &dyn Cluster, point: &CommitPoint) -> Result<()> {
        self.commit_within(COMMIT_TIMEOUT, cluster, point)
    }

    fn commit_within(&mut self, timeout: Duration, cluster: &dyn Cluster, point: &CommitPoint) -> Result<()> {
        self.due = self.now() + self.interval;
        // The result of an earlier commit does not matter, because this commit contains its positions or later ones.
        // But two commits must not be in progress at once.
        let _ = self.receive_answer(timeout);
        if self.sent.is_some() {
            return Err(self.no_answer());
        }
        let changed: Vec<Position> =
            point.iter().filter(|position| !self.committed.contains(position)).copied().collect();
        if changed.is_empty() && !self.is_transactional {
            return Ok(());
        }
        self.sent = Some(SentCommit { answer: cluster.commit(&changed)?, point: point.clone(), at: self.now() });
        self.receive_answer(timeout)?;
        self.failing = false;
        Ok(())
    }

    /// Commits where the reading of assigned partitions begins, before the first record: the next member would find
    /// another beginning. The commit is in no transaction, because an open one has records of other partitions whose
    /// offsets it would not have. Waits until the group answers. Errors: exit status 69 if it does not, or rejects the
    /// commit, for as long as `wait=` says; 75 if it has removed a member whose outputs are in transactions.
    pub fn commit_starts(&self, cluster: &dyn Cluster, starts: &[Position]) -> Result<()> {
        if starts.is_empty() {
            return Ok(());
        }
        let stop = &self.topics.run.stop;
        let limit = self.topics.address.options.wait.limit(true).unwrap_or(Duration::MAX);
        let (start, wait, mut is_reported) = (self.now(), stop.server_wait(), false);
        loop {
            let left = limit.saturating_sub(self.now().saturating_sub(start));
            // A later attempt must not be overtaken by this one, so its answer is awaited.
            let answer = wait.receive(&cluster.commit_starts(starts)?, left).map_err(|_| self.no_answer())?;
            match answer {
                Err(error) if error.kind() == ErrorKind::Unavailable && !left.is_zero() => {
                    if !std::mem::replace(&mut is_reported, true) {
                        self.topics.run.console.say(format!("{error}; retrying"));
                    }
                    if !wait.pause(Duration::from_millis(100)) {
                        return Err(error);
                    }
                }
                // The group revokes the partitions, and the next member begins them.
                Err(error) if error.kind() == ErrorKind::Fenced && !self.is_transactional => {
                    self.topics.run.console.say(error);
                    return Ok(());
                }
                answer => return answer,
            }
        }
    }

    /// Resolves the range of a run that reads all partitions itself, and commits its beginning. The group rejects that
    /// commit while it has members, or members that were killed less than a session timeout ago. Errors: exit status 75
    /// if the group still rejects the commit after [`SESSIONS_EXPIRED`].
    pub fn acquire(&mut self, cluster: &dyn Cluster, cursors: &mut [PartitionCursor]) -> Result<()> {
        let (end, mut is_reported) = (self.now() + SESSIONS_EXPIRED, false);
        loop {
            range::resolve(cluster, &self.topics, ReadMode::Commit, cursors)?;
            let point = cursors.iter().map(|cursor| cursor.position(None, cursor.stream_time)).collect();
            match self.commit(cluster, &point) {
                Err(error) if error.kind() == ErrorKind::Fenced && self.now() < end => {
                    if self.topics.run.stop.signal().is_some() {
                        return Err(error);
                    }
                    if !std::mem::replace(&mut is_reported, true) {
                        self.topics.say("the group has active members; waiting until they have left");
                    }
                    self.topics.run.stop.sleep(Duration::from_millis(500))?;
                }
                Err(error) if error.kind() == ErrorKind::Fenced => {
                    let cause = "the group has active members, and this run would also read their partitions";
                    return Err(error.because(cause));
                }
                committed => return committed,
            }
        }
    }

    /// Commits the last positions of a run. Retries for `LAST_COMMIT_TIMEOUT`, because the group rejects commits
    /// during a rebalance; a transaction is not retried.
    pub fn commit_last(&mut self, cluster: &dyn Cluster, point: &CommitPoint) -> Result<()> {
        let (start, wait) = (self.now(), self.topics.run.stop.server_wait());
        loop {
            let committed = self.commit(cluster, point);
            // A transaction that was not committed is aborted.
            let passes =
                !self.is_transactional && matches!(&committed, Err(error) if error.kind() == ErrorKind::Unavailable);
            if !passes || self.now() >= start + LAST_COMMIT_TIMEOUT || !wait.pause(Duration::from_millis(100)) {
                return committed;
            }
        }
    }

    /// Waits for the answer to the last commit, as long as one may take: the client cannot leave the group before.
    /// Returns whether there is none.
    pub fn is_unanswered(&mut self) -> bool {
        if let Some(sent) = &self.sent {
            let left = (sent.at + COMMIT_TIMEOUT).saturating_sub(self.now());
            // The run ends, whatever the answer is.
            _ = self.receive_answer(left);
        }
        self.sent.is_some()
    }

    /// Waits for the answer to the last commit, if there is none yet.
    fn receive_answer(&mut self, timeout: Duration) -> Result<()> {
        let Some(sent) = self.sent.take() else { return Ok(()) };
        match self.topics.run.stop.server_wait().receive(&sent.answer, timeout) {
            Ok(answer) => {
                answer?;
                self.committed = sent.point;
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => {
                self.sent = Some(sent);
                Err(self.no_answer())
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::broken("a commit has no answer")),
        }
    }

    #[cold]
    fn no_answer(&self) -> Error {
        let message = format!("{}: offsets cannot be committed", self.topics.address);
        Error::unavailable(message).because("the group coordinator did not respond")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::test_data::{Call, CommitAnswer, FakeCluster, partition};
    use evt_run::clock::{Clock, SimulatedClock};
    use std::rc::Rc;

    fn position(number: i32, offset: i64) -> Position {
        Position::new(partition(number), offset)
    }

    fn rig(settings: &str) -> (Topics, SimulatedClock) {
        let clock = SimulatedClock::at(0);
        let run = Run::unwatched("evt-test", Clock::Simulated(clock.clone()));
        let address = Address::parse(&format!("//b:9092/t?group=g{settings}"), &Default::default()).unwrap();
        (Topics::new(&address, &Rc::new(run)), clock)
    }

    #[test]
    fn the_intervals_are_those_of_the_settings() {
        for (settings, interval, release_timeout) in [
            ("", 5_000, 120_000),
            ("&rdkafka.auto.commit.interval.ms=700&rdkafka.max.poll.interval.ms=45000", 700, 18_000),
            ("&rdkafka.auto.commit.interval.ms=1", 100, 120_000),
        ] {
            let (topics, _) = rig(settings);
            let group = Membership::new(&topics, true);
            let millis = [group.interval, group.release_timeout].map(|time| time.as_millis());
            assert_eq!(millis, [interval, release_timeout], "{settings}");
        }
    }

    #[test]
    fn a_commit_contains_the_positions_that_changed_since_the_last_one_that_succeeded() {
        let (topics, _) = rig("");
        let cluster = FakeCluster::new(&topics.address.topics, &[(0, 9), (0, 9)]);
        let mut group = Membership::new(&topics, true);
        let mut commit = |answer: CommitAnswer, offsets: [i64; 2]| {
            *cluster.answer.borrow_mut() = answer;
            let done = group.commit(&cluster, &vec![position(0, offsets[0]), position(1, offsets[1])]).is_ok();
            (done, cluster.source.calls())
        };
        let sent = |positions: &[Position]| vec![Call::Commit(positions.to_vec())];
        assert_eq!(commit(CommitAnswer::Done, [1, 2]), (true, sent(&[position(0, 1), position(1, 2)])));
        assert_eq!(commit(CommitAnswer::Done, [1, 2]), (true, vec![]));
        let failed = CommitAnswer::Failed(ErrorKind::Unavailable);
        assert_eq!(commit(failed, [1, 3]), (false, sent(&[position(1, 3)])));
        assert_eq!(commit(CommitAnswer::Done, [1, 4]), (true, sent(&[position(1, 4)])));
    }

    #[test]
    fn reading_goes_on_while_the_group_does_not_answer_a_commit() {
        let (topics, clock) = rig("");
        let cluster = FakeCluster::new(&topics.address.topics, &[(0, 9)]);
        *cluster.answer.borrow_mut() = CommitAnswer::Late;
        let mut group = Membership::new(&topics, true);
        let mut commit = |offset: i64| {
            group.noted = Some(vec![position(0, offset)]);
            let done = group.commit_noted(&cluster).map_err(|error| error.kind());
            (done, cluster.source.calls().len())
        };
        assert_eq!(commit(1), (Ok(()), 1));
        clock.advance(COMMIT_TIMEOUT / 2);
        assert_eq!(commit(2), (Ok(()), 0), "two commits are never under way");
        clock.advance(COMMIT_TIMEOUT / 2);
        assert_eq!(commit(3), (Err(ErrorKind::Unavailable), 0));
        cluster.answer_late();
        *cluster.answer.borrow_mut() = CommitAnswer::Done;
        assert_eq!(commit(4), (Ok(()), 1));
        assert!(!group.is_unanswered());
        assert_eq!(cluster.committed.borrow().get(&partition(0)).map(|position| position.offset), Some(4));
    }

    #[test]
    fn a_revocation_drops_what_was_noted_before_it() {
        let (topics, clock) = rig("");
        let mut group = Membership::new(&topics, true);
        assert!(!group.is_due());
        clock.advance(Duration::from_secs(5));
        assert!(group.is_due());
        group.noted = Some(vec![position(0, 1)]);
        assert!(!group.is_due() && group.noted.is_some());
        group.revoke(vec![partition(0)]);
        assert!(group.is_due() && group.noted.is_none(), "rows that were read since must be committed too");
        assert_eq!(group.take_revoked(), Some(vec![partition(0)]));
        assert!(!group.is_revoked() && group.take_revoked().is_none());
    }

    #[test]
    fn commits_of_transactions_make_records_visible_every_second_even_without_new_positions() {
        let (topics, clock) = rig("");
        let cluster = FakeCluster::new(&topics.address.topics, &[(0, 9)]);
        let mut group = Membership::new(&topics, true).in_transactions();
        assert!(!group.is_due());
        clock.advance(Duration::from_secs(1));
        assert!(group.is_due());
        for _ in 0..2 {
            group.commit(&cluster, &vec![position(0, 1)]).unwrap();
        }
        assert_eq!(cluster.source.calls(), [Call::Commit(vec![position(0, 1)]), Call::Commit(vec![])]);
        let (slow, _) = rig("&rdkafka.auto.commit.interval.ms=7000");
        assert_eq!(Membership::new(&slow, true).in_transactions().interval, Duration::from_secs(7));
    }

    #[test]
    fn a_transaction_that_is_not_committed_is_not_repeated_and_releases_no_partition() {
        let (topics, _) = rig("");
        let cluster = FakeCluster::new(&topics.address.topics, &[(0, 9)]);
        *cluster.answer.borrow_mut() = CommitAnswer::Failed(ErrorKind::Unavailable);
        let mut group = Membership::new(&topics, true);
        assert!(group.check_release().is_ok(), "rows are written again");
        group = group.in_transactions();
        group.commit_last(&cluster, &vec![position(0, 1)]).unwrap_err();
        assert_eq!(cluster.source.calls().len(), 1);
        assert_eq!(group.check_release().unwrap_err().kind(), ErrorKind::Fenced);
    }

    #[test]
    fn a_group_with_members_keeps_its_partitions() {
        let (topics, clock) = rig("&end=latest");
        let mut cluster = FakeCluster::new(&topics.address.topics, &[(0, 9)]);
        *cluster.answer.borrow_mut() = CommitAnswer::Failed(ErrorKind::Fenced);
        // Sessions of killed members have expired by then.
        cluster.commit_time = Some((clock, SESSIONS_EXPIRED));
        let mut group = Membership::new(&topics, false);
        let mut cursors = range::cursors(&cluster, &topics.address, 0).unwrap();
        let error = group.acquire(&cluster, &mut cursors).unwrap_err();
        assert!(error.kind() == ErrorKind::Fenced && error.to_string().contains("active members"), "{error}");
        assert_eq!(cluster.source.calls(), [Call::Commit(vec![position(0, 0)])]);
    }
}
