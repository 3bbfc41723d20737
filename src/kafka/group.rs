//! Membership in a consumer group: commits offsets, and decides when revoked partitions are released.
//!
//! A committed offset states that the outputs hold all rows before it. So positions ([`CommitPoint`]) are noted when every row
//! before them has been passed on, and committed only after the outputs have confirmed these rows.
//!
//! ```text
//! rows passed on ─► note ─► outputs flushed ─► commit_noted ─► group
//! revoked: stop reading ─► note ─► outputs flushed ─► commit_noted ─► release
//! ```

use super::position::{PartitionId, Position};
use super::range::{self, PartitionCursor, ReadMode};
use super::source::Cluster;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::run::Run;
use crate::stop::Stop;
use crate::uri::kafka::Address;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Default of `max.poll.interval.ms`: the group removes a member that has not released revoked partitions within this time.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);
/// How long to wait for the sessions of killed members to expire (45 s by default) before the group counts as in use.
const SESSIONS_EXPIRED: Duration = Duration::from_secs(60);
/// How long the last commit of a run is retried.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Positions before which all rows have been passed on.
pub type CommitPoint = Vec<Position>;

/// Whether and how a run commits offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitMode {
    /// It commits nothing: some output cannot confirm its rows.
    #[default]
    None,
    /// It commits offsets once rows are safe in the outputs, and reads all partitions itself.
    Assign,
    /// The same, and the group assigns partitions to its members.
    Subscribe,
}

/// How a run reads topics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// How the tool reads.
    pub read_mode: ReadMode,
    /// Whether and how offsets are committed.
    pub commit_mode: CommitMode,
    /// The origin of all rows instead of the name of their topic.
    pub origin: Option<&'a str>,
}

/// Revoked partitions that wait for their release.
struct Revoked {
    partitions: Vec<PartitionId>,
    /// When they were revoked, on the run's monotonic clock.
    since: Duration,
}

/// The membership of one run.
pub struct Membership {
    /// The address, for messages.
    name: String,
    clock: Clock,
    stop: Stop,
    subscribed: bool,
    /// The interval between commits.
    interval: Duration,
    /// Maximum time from a revocation to the release without a commit.
    release_timeout: Duration,
    /// When the next commit is due, on the run's monotonic clock.
    due: Duration,
    committed: CommitPoint,
    /// A commit that the group has not answered yet.
    sent: Option<(Receiver<Result<()>>, CommitPoint)>,
    /// Positions noted and not committed yet.
    noted: Option<CommitPoint>,
    /// Revoked partitions; they are released once the rows read from them are safe.
    revoked: Option<Revoked>,
    /// Whether the last commit failed.
    failing: bool,
}

impl Membership {
    /// Makes the membership of a run; `subscribed` says whether the group assigns the partitions.
    ///
    /// Offsets are committed every `auto.commit.interval.ms` (5 s by default), although librdkafka's own auto-commit is off here.
    /// Revoked partitions are released within two fifths of `max.poll.interval.ms`, so that a rebalance ends before the group
    /// removes this member.
    pub fn new(address: &Address, run: &Run, subscribed: bool) -> Self {
        let millis = |name: &str| {
            let settings = run.kafka.iter().chain(&address.options.settings);
            let value = settings.rev().find(|(set, _)| set == name)?.1.parse().ok()?;
            Some(Duration::from_millis(value))
        };
        let interval = millis("auto.commit.interval.ms").unwrap_or(Duration::from_secs(5)).max(Run::LINGER);
        Self {
            name: address.to_string(),
            clock: run.clock.clone(),
            stop: run.stop.clone(),
            subscribed,
            interval,
            release_timeout: millis("max.poll.interval.ms").unwrap_or(MAX_POLL_INTERVAL) * 2 / 5,
            due: run.clock.monotonic() + interval,
            committed: vec![],
            sent: None,
            noted: None,
            revoked: None,
            failing: false,
        }
    }

    /// Whether the group assigns the partitions.
    pub fn is_subscribed(&self) -> bool {
        self.subscribed
    }

    /// Whether positions must be noted now: a commit is due, or partitions are revoked.
    pub fn is_due(&self) -> bool {
        self.noted.is_none() && (self.revoked.is_some() || self.clock.monotonic() >= self.due)
    }

    /// Notes positions before which every row has been passed on.
    pub fn note(&mut self, point: CommitPoint) {
        self.noted = Some(point);
    }

    /// Whether noted positions wait for the outputs to confirm their rows.
    pub fn has_noted(&self) -> bool {
        self.noted.is_some()
    }

    /// Marks partitions as revoked; they will be assigned to another member.
    pub fn revoke(&mut self, partitions: Vec<PartitionId>) {
        self.noted = None;
        self.revoked = Some(Revoked { partitions, since: self.clock.monotonic() });
    }

    /// Whether revoked partitions wait for their release. Nothing is read meanwhile.
    pub fn is_revoked(&self) -> bool {
        self.revoked.is_some()
    }

    /// Whether revoked partitions have waited so long for the outputs that they must be released without a commit.
    pub fn is_overdue(&self) -> bool {
        let waited = |revoked: &Revoked| self.clock.monotonic().saturating_sub(revoked.since);
        self.revoked.as_ref().is_some_and(|revoked| waited(revoked) > self.release_timeout)
    }

    /// Takes the revoked partitions, and drops the noted positions.
    pub fn take_revoked(&mut self) -> Option<Vec<PartitionId>> {
        self.noted = None;
        self.revoked.take().map(|revoked| revoked.partitions)
    }

    /// Notes a failed commit; true for the first one since a commit succeeded.
    pub fn begins_to_fail(&mut self) -> bool {
        !std::mem::replace(&mut self.failing, true)
    }

    /// Commits the noted positions.
    pub fn commit_noted(&mut self, cluster: &dyn Cluster) -> Result<()> {
        match self.noted.take() {
            Some(point) => self.commit(cluster, &point),
            None => Ok(()),
        }
    }

    /// Commits the positions that changed, and waits for the answer of the group. Errors: exit status 69 if there is no answer
    /// in time.
    pub fn commit(&mut self, cluster: &dyn Cluster, point: &CommitPoint) -> Result<()> {
        self.due = self.clock.monotonic() + self.interval;
        // The result of an earlier commit does not matter: this one contains those positions and later ones. But two commits
        // must not be under way at once.
        let _ = self.receive_answer();
        if self.sent.is_some() {
            return Err(self.no_answer());
        }
        let changed: Vec<&Position> = point.iter().filter(|position| !self.committed.contains(position)).collect();
        if changed.is_empty() {
            return Ok(());
        }
        self.sent = Some((cluster.commit(&changed)?, point.clone()));
        self.receive_answer()?;
        self.failing = false;
        Ok(())
    }

    /// Commits the last positions of a run; retries for a moment, because the group rejects commits during a rebalance.
    pub fn commit_last(&mut self, cluster: &dyn Cluster, point: &CommitPoint) -> Result<()> {
        let (start, wait) = (self.clock.monotonic(), self.stop.server_wait());
        loop {
            let committed = self.commit(cluster, point);
            let passes = matches!(&committed, Err(error) if error.kind() == ErrorKind::Unavailable);
            if !passes
                || self.clock.monotonic() >= start + LAST_COMMIT_TIMEOUT
                || !wait.pause(Duration::from_millis(100))
            {
                return committed;
            }
        }
    }

    /// Whether the last commit has no answer yet.
    pub fn is_unanswered(&self) -> bool {
        self.sent.is_some()
    }

    /// Waits for the answer to the last commit, if there is none yet.
    fn receive_answer(&mut self) -> Result<()> {
        let Some((answer, point)) = self.sent.take() else { return Ok(()) };
        match self.stop.server_wait().receive(&answer, COMMIT_TIMEOUT) {
            Ok(answer) => {
                answer?;
                self.committed = point;
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => {
                self.sent = Some((answer, point));
                Err(self.no_answer())
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::broken("a commit has no answer")),
        }
    }

    #[cold]
    fn no_answer(&self) -> Error {
        let message = format!("{}: offsets cannot be committed", self.name);
        Error::new(ErrorKind::Unavailable, message).because("no response of the group")
    }
}

/// Resolves the range of a run that reads all partitions itself, and commits its beginning. The group rejects that commit while
/// it has members, or members that were killed less than a session timeout ago. Errors: exit status 75 if it still does after
/// [`SESSIONS_EXPIRED`].
pub fn acquire(
    cluster: &dyn Cluster,
    address: &Address,
    run: &Run,
    group: &mut Membership,
    cursors: &mut [PartitionCursor],
) -> Result<()> {
    let start = run.clock.monotonic();
    let mut reported = false;
    loop {
        range::resolve(cluster, address, run, ReadMode::Commit, cursors)?;
        let point = cursors.iter().map(|cursor| cursor.position(None, cursor.stream_time)).collect();
        match group.commit(cluster, &point) {
            Err(error) if error.kind() == ErrorKind::Fenced && run.clock.monotonic() < start + SESSIONS_EXPIRED => {
                if run.stop.signal().is_some() {
                    return Err(error);
                }
                if !std::mem::replace(&mut reported, true) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;
    use crate::kafka::test_data::{Call, CommitAnswer, FakeCluster, partition};

    fn position(number: i32, offset: i64) -> Position {
        Position { id: partition(number), offset, stream_time: None }
    }

    fn rig(settings: &str) -> (Address, Run, SimulatedClock) {
        let clock = SimulatedClock::at(0);
        let run = Run::unwatched("evt-test", Clock::Simulated(clock.clone()));
        (Address::parse(&format!("//b:9092/t?group=g{settings}")).unwrap(), run, clock)
    }

    #[test]
    fn the_intervals_are_those_of_the_settings() {
        for (settings, interval, release_timeout) in [
            ("", 5_000, 120_000),
            ("&rdkafka.auto.commit.interval.ms=700&rdkafka.max.poll.interval.ms=45000", 700, 18_000),
            ("&rdkafka.auto.commit.interval.ms=1", 100, 120_000),
        ] {
            let (address, run, _) = rig(settings);
            let group = Membership::new(&address, &run, true);
            let millis = [group.interval, group.release_timeout].map(|time| time.as_millis());
            assert_eq!(millis, [interval, release_timeout], "{settings}");
        }
    }

    #[test]
    fn a_commit_contains_the_positions_that_changed_since_the_last_one_that_succeeded() {
        let (address, run, _) = rig("");
        let cluster = FakeCluster::new(&address.topics, &[(0, 9), (0, 9)]);
        let mut group = Membership::new(&address, &run, true);
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
    fn a_revocation_drops_what_was_noted_before_it() {
        let (address, run, clock) = rig("");
        let mut group = Membership::new(&address, &run, true);
        assert!(!group.is_due());
        clock.advance(Duration::from_secs(5));
        assert!(group.is_due());
        group.note(vec![position(0, 1)]);
        assert!(!group.is_due() && group.has_noted());
        group.revoke(vec![partition(0)]);
        assert!(group.is_due() && !group.has_noted(), "rows that were read since must be committed too");
        assert_eq!(group.take_revoked(), Some(vec![partition(0)]));
        assert!(!group.is_revoked() && group.take_revoked().is_none());
    }

    #[test]
    fn a_group_with_members_keeps_its_partitions() {
        let (address, run, clock) = rig("&end=latest");
        let mut cluster = FakeCluster::new(&address.topics, &[(0, 9)]);
        *cluster.answer.borrow_mut() = CommitAnswer::Failed(ErrorKind::Fenced);
        // Sessions of killed members have expired by then.
        cluster.commit_time = Some((clock, SESSIONS_EXPIRED));
        let mut group = Membership::new(&address, &run, false);
        let mut cursors = range::cursors(&cluster, &address, 0).unwrap();
        let error = acquire(&cluster, &address, &run, &mut group, &mut cursors).unwrap_err();
        assert!(error.kind() == ErrorKind::Fenced && error.to_string().contains("active members"), "{error}");
        assert_eq!(cluster.source.calls(), [Call::Commit(vec![position(0, 0)])]);
    }
}
