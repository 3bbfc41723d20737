//! Delivers the outbox: one thread per channel, each on a connection of its own.
//!
//! A failed attempt is repeated after a pause with full jitter, for as long as the channel allows; the last attempt is
//! made at the end of this time. The time begins with the first attempt, but not before the start of the run, so that a
//! machine that starts without its network loses nothing. A receiver that is unreachable or busy pauses its whole
//! channel. A notification that fails for another cause, and recipients of a mail with a temporary refusal, are retried
//! while the channel sends other notifications. A thread that cannot read or write the outbox reports it and continues:
//! the notifications stay in the outbox.

use crate::channel::{Attempt, Missed};
use crate::channels::{Channel, Channels};
use crate::outbox::{DeliveryOutcome, Due, Next, Outbox, Retry};
use crate::pace::{Limiter, pause};
use evt_core::counts::counted;
use evt_core::error::Result;
use evt_core::time::rounded;
use evt_core::time::{SECOND, format_instant};
use evt_run::clock::Clock;
use evt_run::console::Console;
use evt_run::thread;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a run that fails waits for attempts under way.
const ABANDON: Duration = Duration::from_secs(5);
/// The longest sleep of a thread without anything to do.
const IDLE: Duration = Duration::from_secs(5);
/// The pause after a failure of the outbox.
const OUTBOX_PAUSE: Duration = Duration::from_secs(1);
/// Interval of the deletion of old notifications.
const PRUNE: Duration = Duration::from_secs(3600);
/// The longest pause of a channel for one failure, whatever its receiver demands.
const PAUSE_MAX: Duration = Duration::from_secs(900);
/// Maximum number of losses of a channel that are reported one by one; the rest are counted.
const NAMED_MAX: u64 = 20;

/// The outcomes of a channel's notifications since the sender started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelCounts {
    /// Notifications that the receiver accepted.
    pub sent: u64,
    /// Notifications that the receiver refused permanently.
    pub refused: u64,
    /// Notifications that were given up after they were retried for as long as the channel allows.
    pub expired: u64,
    /// Resolves whose firing never arrived.
    pub skipped: u64,
    /// Attempts that failed, but were not refused.
    pub failures: u64,
    /// Notifications that are still due, for the next run.
    pub due: u64,
}

impl ChannelCounts {
    /// Returns the number of notifications that were lost.
    pub fn lost(&self) -> u64 {
        self.refused + self.expired
    }
}

/// Returns `1 notification is due` or `N notifications are due`.
pub fn are_due(count: u64) -> String {
    counted(count, ["notification is due", "notifications are due"])
}

/// The state that the threads share with their owner.
#[derive(Default)]
struct Shared {
    progress: Mutex<SenderProgress>,
    changed: Condvar,
}

#[derive(Default)]
struct SenderProgress {
    /// Grows with each [`Sender::wake`].
    wakes: u64,
    /// Whether threads end once nothing is due.
    is_closing: bool,
    /// Whether threads end before their next attempt.
    is_over: bool,
    counts: BTreeMap<String, ChannelCounts>,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, SenderProgress> {
        // Each change is one assignment or addition, so the data is valid after a panic.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads that deliver the outbox.
pub struct Sender {
    shared: Arc<Shared>,
    ended: Receiver<()>,
    threads: usize,
    outbox: Outbox,
}

impl Sender {
    /// Starts to deliver the outbox of the state file at `state`, whose tables exist.
    ///
    /// Errors: exit status 74 if the file cannot be opened or a thread not be started.
    pub fn start(channels: Channels, state: &Path, console: &Console) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let outbox = Outbox::open(state, "")?;
        for (name, due) in outbox.due_by_channel()?.iter().filter(|(name, _)| !channels.has(name)) {
            console.warn(format!("channel '{name}' no longer exists; {} on it", are_due(*due)));
        }
        let (end, ended) = channel();
        let channels = channels.into_vec();
        let threads = channels.len();
        for channel in channels {
            shared.progress().counts.insert(channel.name.clone(), ChannelCounts::default());
            let outbox = Outbox::open(state, &channel.name)?;
            let worker = Worker::new(channel, outbox, shared.clone(), console.clone());
            let (end, name) = (end.clone(), format!("notify-{}", worker.channel.name));
            let run = move || {
                worker.run();
                // The send fails if the owner no longer waits.
                _ = end.send(());
            };
            thread::spawn(&name, run)?;
        }
        Ok(Self { shared, ended, threads, outbox })
    }

    /// Makes the threads look into the outbox: call it after the commit of a transaction with notifications.
    pub fn wake(&self) {
        self.shared.progress().wakes += 1;
        self.shared.changed.notify_all();
    }

    /// Returns the counts of each channel so far; `due` is 0.
    pub fn counts(&self) -> BTreeMap<String, ChannelCounts> {
        self.shared.progress().counts.clone()
    }

    /// Delivers the due notifications, with their retries, for at most `limit`; then stops and returns the counts.
    /// Notifications that are still due stay in the file. An attempt that is under way at the limit is abandoned: the
    /// next run repeats it under the same key.
    ///
    /// Errors: exit status 74 if the file cannot be read.
    pub fn finish(mut self, limit: Duration) -> Result<BTreeMap<String, ChannelCounts>> {
        self.shared.progress().is_closing = true;
        self.wake();
        self.wait_for_threads(limit);
        let mut counts = self.counts();
        for (name, due) in self.outbox.due_by_channel()? {
            counts.entry(name).or_default().due = due;
        }
        Ok(counts)
    }

    /// Waits until the threads have ended, for at most `limit`; those that have not are abandoned.
    fn wait_for_threads(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        for _ in 0..std::mem::take(&mut self.threads) {
            let rest = deadline.saturating_duration_since(Instant::now());
            if self.ended.recv_timeout(rest).is_err() {
                return;
            }
        }
    }
}

/// Ends the threads. A run that fails waits a moment for the attempts under way, because the next run repeats those
/// whose outcome is not stored.
impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.progress().is_over = true;
        self.shared.changed.notify_all();
        self.wait_for_threads(ABANDON);
    }
}

/// The thread of one channel.
struct Worker {
    channel: Channel,
    limiter: Limiter,
    outbox: Outbox,
    shared: Arc<Shared>,
    console: Console,
    /// Failures of the receiver since its last answer to a notification.
    failures: u32,
    /// The time of the first failed attempt since that answer, whatever its cause; `None` if there was none.
    away_since: Option<Instant>,
    /// The channel sends nothing before this time.
    paused_until: Option<Instant>,
    pruned_at: Option<Instant>,
    /// The wall time (µs) at which the thread started.
    started_at: i64,
    /// The monotonic time at which it started.
    began: Instant,
    /// An attempt whose end could not be stored. The thread stores it before the next attempt; otherwise it would send
    /// the same notification again and again while the disk is full.
    unsaved: Option<Ended>,
}

/// An attempt that has ended.
struct Ended {
    due: Due,
    attempt: Attempt,
    /// When it began (µs, wall time).
    tried_at: i64,
}

/// The result of a step of a thread: when it takes the next one.
enum SenderStep {
    /// There may be more to do.
    Again,
    /// Nothing to do for this long.
    Wait(Duration),
    /// Nothing is due, now or later.
    Idle,
}

impl Worker {
    fn new(channel: Channel, outbox: Outbox, shared: Arc<Shared>, console: Console) -> Self {
        let (limiter, started_at) = (channel.rate.limiter(), Clock::System.now());
        Self {
            channel,
            limiter,
            outbox,
            shared,
            console,
            failures: 0,
            away_since: None,
            paused_until: None,
            pruned_at: None,
            started_at,
            began: Instant::now(),
            unsaved: None,
        }
    }

    /// Returns the wall time (µs) at the start plus the monotonic time since then, so that a clock that is set
    /// meanwhile changes no pause.
    fn now(&self) -> i64 {
        self.started_at.saturating_add(length(self.began.elapsed()))
    }

    fn run(mut self) {
        let mut is_failing = false;
        loop {
            let SenderProgress { wakes, is_closing, is_over, .. } = *self.shared.progress();
            if is_over {
                return;
            }
            let step = match self.step() {
                Ok(step) => {
                    is_failing = false;
                    step
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        self.console.warn(format!("channel '{}': {error}: retrying", self.channel.name));
                    }
                    SenderStep::Wait(OUTBOX_PAUSE)
                }
            };
            match step {
                SenderStep::Again => {}
                SenderStep::Idle if is_closing => return,
                SenderStep::Idle => self.sleep(wakes, IDLE),
                SenderStep::Wait(time) => self.sleep(wakes, time.min(IDLE)),
            }
        }
    }

    /// Sleeps for `time`, or until something changes after `wakes` was read.
    fn sleep(&self, wakes: u64, time: Duration) {
        let is_unchanged = |progress: &mut SenderProgress| progress.wakes == wakes && !progress.is_over;
        _ = self.shared.changed.wait_timeout_while(self.shared.progress(), time, is_unchanged);
    }

    fn step(&mut self) -> Result<SenderStep> {
        if let Some(ended) = self.unsaved.take() {
            return self.settle(ended);
        }
        let now = self.now();
        if self.pruned_at.is_none_or(|at| at.elapsed() > PRUNE) {
            self.outbox.end_pauses(now, length(PAUSE_MAX))?;
            self.outbox.prune(now)?;
            self.pruned_at = Some(Instant::now());
        }
        let pause = self.paused_until.map(|until| until.saturating_duration_since(Instant::now()));
        let pause = pause.filter(|pause| !pause.is_zero());
        let due = match (self.outbox.next(now)?, pause) {
            // The end of the run does not wait for a pause after which nothing is sent.
            (Next::Due(_) | Next::Later(_), Some(pause)) => return Ok(SenderStep::Wait(pause)),
            (next, _) => next,
        };
        let due = match due {
            Next::Due(due) => due,
            Next::Unreadable(error) => {
                self.count(|counts| counts.refused += 1);
                self.console.warn(format!("channel '{}': a notification is lost: {error}", self.channel.name));
                return Ok(SenderStep::Again);
            }
            Next::Later(at) => return Ok(SenderStep::Wait(micros(at - now))),
            Next::Idle => return Ok(SenderStep::Idle),
        };
        if due.firing_never_arrived {
            self.outbox.finish(&due, DeliveryOutcome::Skipped, now, None)?;
            self.count(|counts| counts.skipped += 1);
            return Ok(SenderStep::Again);
        }
        if let Err(wait) = self.limiter.admit() {
            return Ok(SenderStep::Wait(wait));
        }
        self.outbox.begin(&due)?;
        let attempt = self.channel.transport.deliver(&due.notification);
        self.settle(Ended { due: *due, attempt, tried_at: now })
    }

    /// Stores the outcome of an attempt. If that fails, the next step stores it.
    fn settle(&mut self, ended: Ended) -> Result<SenderStep> {
        let stored = self.store(&ended);
        self.unsaved = if stored.is_err() { Some(ended) } else { None };
        stored.map(|()| SenderStep::Again)
    }

    fn store(&mut self, ended: &Ended) -> Result<()> {
        let Ended { due, attempt, .. } = ended;
        let now = self.now();
        match attempt {
            Attempt::Sent => {
                self.outbox.finish(due, DeliveryOutcome::Sent, now, None)?;
                self.answered();
                self.count(|counts| counts.sent += 1);
            }
            Attempt::SentInPart { refused, waiting } => {
                self.store_part(ended, refused, waiting)?;
                self.answered();
            }
            Attempt::Refused(cause) => {
                let cause = self.console.secrets.hide(cause);
                self.give_up(due, DeliveryOutcome::Refused, &cause)?;
            }
            Attempt::Failed { cause, after, is_unclear, is_of_receiver } => {
                let cause = self.console.secrets.hide(cause);
                let wait = self.fail(&cause, *after, *is_of_receiver);
                let end = self.end(ended);
                let due_at = self.due_at(due, wait).min(end.max(now));
                let (tried_at, is_unclear) = (self.first_tried(ended), *is_unclear);
                self.outbox.retry(due, &Retry { tried_at, due_at, cause: &cause, is_unclear, waiting: &[] })?;
                if after.is_some() && *is_of_receiver {
                    self.outbox.pause(now.saturating_add(length(wait)))?;
                }
                self.count(|counts| counts.failures += 1);
                if now >= end {
                    self.give_up(due, DeliveryOutcome::Expired, &cause)?;
                }
            }
        }
        Ok(())
    }

    /// Returns when the first attempt of this run began (µs).
    fn first_tried(&self, ended: &Ended) -> i64 {
        let of_this_run = |tried_at: &i64| (self.started_at..=self.now()).contains(tried_at);
        ended.due.tried_at.filter(of_this_run).unwrap_or(ended.tried_at)
    }

    /// Returns when the last attempt of a notification is made (µs).
    fn end(&self, ended: &Ended) -> i64 {
        self.first_tried(ended) + length(self.channel.retry)
    }

    /// Returns when the next attempt of a notification is made (µs), after at least the pause `wait`.
    fn due_at(&self, due: &Due, wait: Duration) -> i64 {
        let own = pause(due.attempts + 1, &format!("{} {}", std::process::id(), due.id));
        self.now() + length(own.max(wait))
    }

    /// Stores an attempt by which some recipients did not get the notification, and reports these recipients. The
    /// waiting recipients are retried alone, and the channel does not pause for them.
    fn store_part(&mut self, ended: &Ended, refused: &[Missed], waiting: &[Missed]) -> Result<()> {
        let due = &ended.due;
        let (now, end, tried_at) = (self.now(), self.end(ended), self.first_tried(ended));
        let [refused_list, waiting_list] =
            [refused, waiting].map(|missed| self.console.secrets.hide(&Missed::list(missed)));
        let (name, limit) = (self.channel.name.clone(), rounded(self.channel.retry));
        let is_again = !waiting.is_empty() && now < end;
        if is_again {
            let due_at = self.due_at(due, Duration::ZERO).min(end);
            self.outbox.retry(due, &Retry { tried_at, due_at, cause: &waiting_list, is_unclear: true, waiting })?;
            self.count(|counts| counts.failures += 1);
        } else {
            let cause = if waiting.is_empty() { &refused_list } else { &waiting_list };
            self.outbox.finish(due, DeliveryOutcome::Sent, now, Some(cause))?;
            self.count(|counts| counts.sent += 1);
        }
        if !refused.is_empty() {
            self.console.warn(format!("channel '{name}': sent, but not to all recipients: {refused_list}"));
        }
        if is_again && due.notification.recipients.only.is_empty() {
            let text = format!("{waiting_list}: retrying these alone for up to {limit} (retry of the channel)");
            self.console.say(format!("channel '{name}': sent, but not yet to all recipients: {text}"));
        } else if !waiting.is_empty() && !is_again {
            let text = format!("given up after {limit} (retry of the channel): {waiting_list}");
            self.console.warn(format!("channel '{name}': sent, but not to all recipients: {text}"));
        }
        Ok(())
    }

    /// Stores the outcome of a notification that is not retried, and reports it. If some recipients have it, it was
    /// sent.
    fn give_up(&mut self, due: &Due, outcome: DeliveryOutcome, cause: &str) -> Result<()> {
        let missed = &due.notification.recipients.only;
        let is_sent = !missed.is_empty();
        let stored = if is_sent { DeliveryOutcome::Sent } else { outcome };
        self.outbox.finish(due, stored, self.now(), Some(cause))?;
        let is_refused = outcome == DeliveryOutcome::Refused;
        let why = if is_refused {
            self.answered();
            format!("refused: {cause}")
        } else {
            format!("given up after {} (retry of the channel): {cause}", rounded(self.channel.retry))
        };
        if is_sent {
            self.count(|counts| counts.sent += 1);
            let (name, missed) = (&self.channel.name, missed.join(", "));
            self.console.warn(format!("channel '{name}': sent, but not to all recipients: {missed}: {why}"));
        } else {
            self.lose(due, &why, |counts| if is_refused { counts.refused += 1 } else { counts.expired += 1 });
        }
        Ok(())
    }

    /// Notes a failure of an attempt; returns how long the channel pauses for it.
    fn fail(&mut self, cause: &str, after: Option<Duration>, is_of_receiver: bool) -> Duration {
        if self.away_since.is_none() {
            self.away_since = Some(Instant::now());
            let (name, limit) = (&self.channel.name, rounded(self.channel.retry));
            self.console.say(format!("channel '{name}': {cause}: retrying for up to {limit} (retry of the channel)"));
        }
        if !is_of_receiver {
            return Duration::ZERO;
        }
        self.failures += 1;
        let seed = format!("{} {}", std::process::id(), self.channel.name);
        let wait = after.unwrap_or_else(|| pause(self.failures, &seed)).min(PAUSE_MAX);
        self.paused_until = Some(Instant::now() + wait);
        wait
    }

    /// Ends the channel's pause after the receiver accepted a notification or refused it permanently; reports the end
    /// of an outage.
    fn answered(&mut self) {
        (self.failures, self.paused_until) = (0, None);
        if let Some(since) = self.away_since.take() {
            let waited = rounded(since.elapsed());
            self.console.say(format!("channel '{}': available again after {waited}", self.channel.name));
        }
    }

    /// Counts and reports a notification that will not arrive.
    fn lose(&self, due: &Due, why: &str, count: impl FnOnce(&mut ChannelCounts)) {
        let lost = self.count(|counts| {
            count(counts);
            counts.lost()
        });
        let (alert, name) = (&due.notification.alert, &self.channel.name);
        let (id, rule, state, since) = (alert.id(), &alert.rule.name, alert.state.name(), format_instant(alert.since));
        match lost {
            ..=NAMED_MAX => {
                let which = format!("{state} of rule '{rule}' {} since {since} (alert {id})", alert.dimensions);
                self.console.warn(format!("channel '{name}': {which}: {why}"));
            }
            lost if lost == NAMED_MAX + 1 => {
                self.console
                    .warn(format!("channel '{name}': more than {NAMED_MAX} are lost; further ones are counted"));
            }
            _ => {}
        }
    }

    fn count<T>(&self, change: impl FnOnce(&mut ChannelCounts) -> T) -> T {
        change(self.shared.progress().counts.entry(self.channel.name.clone()).or_default())
    }
}

/// Converts a duration to microseconds.
fn length(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

/// Converts microseconds to a duration, at most a minute.
fn micros(micros: i64) -> Duration {
    Duration::from_micros(micros.clamp(0, 60 * SECOND).unsigned_abs())
}
