//! Signals: SIGINT and SIGTERM reach every stage of a pipe at once.
//!
//! The first is noted and wakes whoever waits for input; a stage that reads raw input then stops reading, one whose
//! frames come through a pipe reads on to the end that its source sends. A second one ends the process at once, unless it comes
//! with the first.

use crate::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long a wait for a server goes on after the first signal: a stage that reads its source itself ends within 5 s of it.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);
/// The same for a stage behind a pipe, which has to read on to the end that its source sends: within 30 s.
const STOP_TIMEOUT_BEHIND_PIPE: Duration = Duration::from_secs(28);
/// How long further waits go on once the stop timeout has expired: enough for a server that answers.
const STOP_TIMEOUT_EXPIRED: Duration = Duration::from_secs(1);
/// A signal that comes this soon after the first is the same request: timeout(1) sends one to the process and one to its group.
const REPEATED: Duration = Duration::from_millis(200);
/// How often a wait looks whether a signal has come, where nothing wakes it.
pub const LOOK: Duration = Duration::from_millis(100);

/// The handle of the signals of this process, once it listens for them.
static PROCESS: OnceLock<Stop> = OnceLock::new();

/// Whether, and by which signal, the run is asked to stop. Clones are of the same run.
#[derive(Clone)]
pub struct Stop {
    signal: Arc<AtomicUsize>,
    wake: Option<Arc<UnixStream>>,
    /// When the signal was first seen.
    since: Arc<OnceLock<Instant>>,
    is_behind_pipe: Arc<AtomicBool>,
    has_expired: Arc<AtomicBool>,
    /// When waits for servers end, signal or not.
    deadline: Arc<OnceLock<Instant>>,
}

/// What a wait for input ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// There is something to read, or the end.
    Ready,
    /// The time is over.
    Timeout,
    /// A signal asks to stop.
    Stopped,
}

impl Stop {
    /// Never asked to stop: for tests and for library callers.
    pub fn never() -> Self {
        Self {
            signal: Arc::default(),
            wake: None,
            since: Arc::default(),
            is_behind_pipe: Arc::default(),
            has_expired: Arc::default(),
            deadline: Arc::default(),
        }
    }

    /// Listens for SIGINT and SIGTERM from here on.
    pub fn on_signals() -> Result<Self> {
        let failed = |error: std::io::Error| Error::io("signal handlers", &error);
        let (read, write) = UnixStream::pair().map_err(failed)?;
        let stop = Self { wake: Some(Arc::new(read)), ..Self::never() };
        let armed = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // The first step comes first: from then on no signal is lost.
            signal_hook::flag::register_usize(number, stop.signal.clone(), number as usize).map_err(failed)?;
            signal_hook::flag::register_conditional_default(number, armed.clone()).map_err(failed)?;
            let write = write.try_clone().map_err(failed)?;
            signal_hook::low_level::pipe::register(number, write).map_err(failed)?;
        }
        // Whoever waits in a call that no signal ends learns afterwards how long ago it came.
        let seen = stop.clone();
        let watch = move || {
            if seen.wait_for_signal() {
                seen.since();
                std::thread::sleep(REPEATED);
                armed.store(true, Ordering::Relaxed);
            }
        };
        std::thread::Builder::new().name("signal".to_owned()).spawn(watch).map_err(failed)?;
        Ok(PROCESS.get_or_init(|| stop).clone())
    }

    /// The signals of this process: for clients of servers, which outlive no run. Never asked to stop where it does not listen.
    pub fn of_process() -> Self {
        PROCESS.get().cloned().unwrap_or_else(Self::never)
    }

    /// Whether the run reads what other stages send: it then waits longer for servers, so that their end is not lost.
    pub fn set_behind_pipe(&self, is_behind_pipe: bool) {
        self.is_behind_pipe.store(is_behind_pipe, Ordering::Relaxed);
    }

    /// Ends all waits for servers at `deadline`, whatever their own limits are. The first call counts.
    pub fn set_deadline(&self, deadline: Instant) {
        _ = self.deadline.set(deadline);
    }

    /// A wait for a server, which the first signal bounds.
    pub fn server_wait(&self) -> Wait {
        Wait { stop: self.clone(), from: Instant::now(), least: i32::MAX }
    }

    /// When a signal asked to stop, if one did.
    fn since(&self) -> Option<Instant> {
        self.signal().map(|_| *self.since.get_or_init(Instant::now))
    }

    /// Waits for the first signal; false at once where none is listened for.
    pub fn wait_for_signal(&self) -> bool {
        let Some(wake) = self.wake.as_deref() else { return false };
        while self.signal().is_none() {
            if self.wait(&wake, false, None).is_err() {
                return false;
            }
        }
        true
    }

    /// The signal that asked to stop, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }

    /// Waits until `input` can be read, a signal comes (if `heed`), or `timeout` is over.
    pub fn wait(&self, input: &impl AsFd, heed: bool, timeout: Option<Duration>) -> Result<Woken> {
        if heed && self.signal().is_some() {
            return Ok(Woken::Stopped);
        }
        let mut fds = vec![PollFd::new(input, PollFlags::IN)];
        if let (true, Some(wake)) = (heed, self.wake.as_deref()) {
            fds.push(PollFd::new(wake, PollFlags::IN));
        }
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => Ok(Woken::Timeout),
            Ok(_) if fds.get(1).is_some_and(|wake| !wake.revents().is_empty()) => Ok(Woken::Stopped),
            Ok(_) => Ok(Woken::Ready),
            // A signal that is not heeded must not look like the end of a wait that has none.
            Err(rustix::io::Errno::INTR) => self.wait(input, heed, timeout.map(|_| Duration::ZERO)),
            Err(errno) => Err(Error::io("waiting for input", &errno.into())),
        }
    }

    /// Sleeps for `time`, or until a signal comes.
    pub fn sleep(&self, time: Duration) -> Result<Woken> {
        // One that came before its wake-up was registered has left nothing to wake by.
        if self.signal().is_some() {
            return Ok(Woken::Stopped);
        }
        let Some(wake) = self.wake.as_deref() else {
            std::thread::sleep(time);
            return Ok(Woken::Timeout);
        };
        match self.wait(wake, false, Some(time))? {
            Woken::Ready => Ok(Woken::Stopped),
            other => Ok(other),
        }
    }
}

/// A wait for a server. Before a signal it has no end of its own; the first signal leaves it the stop timeout.
pub struct Wait {
    stop: Stop,
    /// When the wait began, or the server made progress last.
    from: Instant,
    /// The least that there was left to wait for.
    least: i32,
}

impl Wait {
    /// Whether the stop timeout has expired.
    pub fn is_over(&self) -> bool {
        if self.stop.deadline.get().is_some_and(|deadline| Instant::now() >= *deadline) {
            return true;
        }
        let is_over = self.stop_timeout().is_some_and(|left| left.is_zero());
        if is_over {
            self.stop.has_expired.store(true, Ordering::Relaxed);
        }
        is_over
    }

    /// What is left of the stop timeout, once a signal has come.
    fn stop_timeout(&self) -> Option<Duration> {
        let since = self.stop.since()?;
        let period = match self.stop.has_expired.load(Ordering::Relaxed) {
            true => STOP_TIMEOUT_EXPIRED,
            false if self.stop.is_behind_pipe.load(Ordering::Relaxed) => STOP_TIMEOUT_BEHIND_PIPE,
            false => STOP_TIMEOUT,
        };
        Some(period.saturating_sub(since.max(self.from).elapsed()))
    }

    /// How long a call may take that no signal ends, where it would wait for `most`: no longer than this wait.
    pub fn call_timeout(&self, most: Duration) -> Duration {
        let deadline = self.stop.deadline.get().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        [self.stop_timeout(), deadline].into_iter().flatten().fold(most, Duration::min)
    }

    /// The limit of this wait where its own is `limit`: the deadline may come first.
    pub fn limit(&self, limit: Option<Duration>) -> Option<Duration> {
        let left = self.stop.deadline.get().map(|deadline| deadline.saturating_duration_since(self.from));
        // To whole seconds, as a person reads it: [`Wait::is_over`] heeds the rest.
        let left = left.map(|left| Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0)));
        limit.into_iter().chain(left).min()
    }

    /// Notes how much is left to wait for: less than ever before is progress, and the stop timeout begins anew.
    pub fn left(&mut self, count: i32) {
        if count < self.least {
            (self.least, self.from) = (count, Instant::now());
        }
    }

    /// How long there has been no progress.
    pub fn idle(&self) -> Duration {
        self.from.elapsed()
    }

    /// Sleeps for `time` before the next attempt, or until a signal comes. False where there is no next attempt.
    pub fn pause(&self, time: Duration) -> bool {
        let goes_on = |wait: &Self| !wait.is_over() && !wait.stop.has_expired.load(Ordering::Relaxed);
        if goes_on(self) {
            match self.stop.signal() {
                // Without a clock to poll by, a later look is all that is lost.
                None => _ = self.stop.sleep(time),
                Some(_) => std::thread::sleep(time.min(LOOK)),
            }
        }
        goes_on(self)
    }

    /// What another thread sends within `limit`; a time-out too once the stop timeout has expired.
    pub fn receive<T>(&self, from: &Receiver<T>, limit: Duration) -> Result<T, RecvTimeoutError> {
        let start = Instant::now();
        loop {
            let left = limit.saturating_sub(start.elapsed());
            match from.recv_timeout(left.min(LOOK)) {
                Err(RecvTimeoutError::Timeout) if !left.is_zero() && !self.is_over() => {}
                received => return received,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asked to stop, `ago` before now.
    fn signalled(ago: Duration) -> Stop {
        let stop = Stop::never();
        stop.signal.store(15, Ordering::Relaxed);
        stop.since.set(before(ago)).unwrap();
        stop
    }

    /// A wait that began `ago` before now.
    fn since(stop: &Stop, ago: Duration) -> Wait {
        Wait { from: before(ago), ..stop.server_wait() }
    }

    fn before(time: Duration) -> Instant {
        Instant::now().checked_sub(time).unwrap()
    }

    #[test]
    fn a_wait_without_a_signal_goes_on() {
        let wait = since(&Stop::never(), Duration::from_secs(1000));
        assert!(wait.pause(Duration::ZERO) && !wait.is_over());
    }

    #[test]
    fn the_stop_timeout_begins_with_the_signal_or_with_a_later_wait() {
        let stop = signalled(STOP_TIMEOUT);
        assert!(!stop.server_wait().is_over());
        assert!(since(&stop, STOP_TIMEOUT).is_over());
    }

    #[test]
    fn once_one_has_expired_there_is_no_next_attempt_and_a_short_wait_for_an_answer() {
        let stop = signalled(STOP_TIMEOUT);
        assert!(stop.server_wait().pause(Duration::ZERO));
        assert!(since(&stop, STOP_TIMEOUT).is_over());
        let second = stop.server_wait();
        assert!(!second.pause(Duration::ZERO) && !second.is_over());
        assert!(since(&stop, STOP_TIMEOUT_EXPIRED).is_over());
    }

    #[test]
    fn progress_and_a_pipe_extend_it() {
        let stop = signalled(STOP_TIMEOUT);
        let mut wait = since(&stop, STOP_TIMEOUT);
        stop.set_behind_pipe(true);
        assert!(!wait.is_over());
        stop.set_behind_pipe(false);
        wait.left(7);
        assert!(!wait.is_over());
        wait.from = before(STOP_TIMEOUT);
        wait.left(7);
        assert!(wait.is_over());
    }

    #[test]
    fn a_deadline_ends_every_wait_and_bounds_longer_limits() {
        let stop = Stop::never();
        let wait = stop.server_wait();
        assert_eq!(wait.limit(None), None);
        stop.set_deadline(wait.from + Duration::from_secs(10));
        assert!(!wait.is_over());
        let limits = [None, Some(Duration::from_secs(300)), Some(Duration::from_secs(3))];
        assert_eq!(limits.map(|limit| wait.limit(limit).map(|limit| limit.as_secs())), [Some(10), Some(10), Some(3)]);
        let stop = Stop::never();
        stop.set_deadline(before(Duration::from_secs(1)));
        let wait = stop.server_wait();
        assert!(wait.is_over() && !wait.pause(Duration::ZERO));
        assert_eq!(wait.limit(None), Some(Duration::ZERO));
    }

    #[test]
    fn a_call_that_no_signal_ends_takes_no_longer_than_the_wait_that_it_is_part_of() {
        let most = Duration::from_secs(3600);
        assert_eq!(Stop::never().server_wait().call_timeout(most), most);
        let wait = since(&signalled(Duration::from_secs(1)), Duration::from_secs(1000));
        let left = wait.call_timeout(most);
        assert!(left <= STOP_TIMEOUT.saturating_sub(Duration::from_secs(1)), "{left:?}");
        assert_eq!(since(&signalled(STOP_TIMEOUT), STOP_TIMEOUT).call_timeout(most), Duration::ZERO);
        assert_eq!(wait.call_timeout(Duration::from_millis(1)), Duration::from_millis(1));
    }

    #[test]
    fn what_another_thread_sends_is_received_and_its_silence_ends() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let wait = Stop::never().server_wait();
        assert_eq!(wait.receive(&receiver, Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
        sender.send(7).unwrap();
        assert_eq!(wait.receive(&receiver, Duration::from_secs(60)), Ok(7));
        drop(sender);
        assert_eq!(wait.receive(&receiver, Duration::from_secs(60)), Err(RecvTimeoutError::Disconnected));
    }
}
