//! Signals: SIGINT and SIGTERM reach every stage of a pipe at once.
//!
//! The first signal is stored and wakes a wait for input. A stage that reads raw input then stops reading; a stage that
//! reads frames from a pipe reads on until its source sends the end. A second signal ends the process at once, unless
//! it arrives together with the first.

use crate::clock::Clock;
use evt_core::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Stop timeout: how long a wait for a server may last after the first signal. A stage that reads its source itself
/// thus ends within 5 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);
/// The same for a stage behind a pipe, which must read to the end that its source sends: it ends within 30 s.
const STOP_TIMEOUT_BEHIND_PIPE: Duration = Duration::from_secs(28);
/// How long each further wait may last once the stop timeout has expired: enough for a server that answers.
const STOP_TIMEOUT_EXPIRED: Duration = Duration::from_secs(1);
/// How long a write waits after the first signal for the reader of a pipe that reads nothing: the next stage may wait
/// for its server meanwhile.
const READER_TIMEOUT: Duration = Duration::from_secs(30);
/// A second signal within this time is the same request: timeout(1) sends one to the process and one to its process
/// group.
const REPEATED: Duration = Duration::from_millis(200);
/// Poll interval of waits that a signal does not wake.
pub const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The stop signal of a run. Clones share their state. All times are those of the monotonic clock of the run.
#[derive(Clone, Debug)]
pub struct Stop {
    clock: Clock,
    signal: Arc<AtomicUsize>,
    wake: Option<Arc<UnixStream>>,
    /// When the signal was first seen.
    since: Arc<OnceLock<Duration>>,
    is_behind_pipe: Arc<AtomicBool>,
    has_expired: Arc<AtomicBool>,
    /// The time at which waits for servers end, with or without a signal.
    deadline: Arc<OnceLock<Duration>>,
}

/// The outcome of a wait for input, or of a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Input can be read, or is at its end.
    Ready,
    /// The timeout has passed.
    Timeout,
    /// A signal has arrived.
    Stopped,
}

impl Stop {
    /// Makes a stop signal that never arrives, whose waits follow `clock`: for tests and library callers.
    pub fn never(clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            signal: Arc::default(),
            wake: None,
            since: Arc::default(),
            is_behind_pipe: Arc::default(),
            has_expired: Arc::default(),
            deadline: Arc::default(),
        }
    }

    /// Stores a signal, as its handler does.
    pub fn raise(&self, number: i32) {
        self.signal.store(number.unsigned_abs() as usize, Ordering::Relaxed);
    }

    /// Makes the stop signal of a run with this clock, which SIGINT and SIGTERM of the process raise.
    pub fn on_signals(clock: &Clock) -> Result<Self> {
        let stops = Self::all_on_signals(clock, 1)?;
        Ok(stops.into_iter().next().unwrap_or_else(|| Self::never(clock)))
    }

    /// Makes the stop signals of `count` runs of the process, each with handlers of its own, which stay until the
    /// process ends.
    pub fn all_on_signals(clock: &Clock, count: usize) -> Result<Vec<Self>> {
        let failed = |error: std::io::Error| Error::io("signal handlers", &error);
        let stops: Vec<_> = (0..count).map(|_| Self::never(clock)).collect();
        // Handlers run in the order of their registration. All numbers are stored before anything wakes: a stage that
        // ends because of a signal cannot be read to its end by one that has not got the signal.
        for stop in &stops {
            for number in [SIGINT, SIGTERM] {
                signal_hook::flag::register_usize(number, stop.signal.clone(), number as usize).map_err(failed)?;
            }
        }
        // Unless the signal is handled, a file beyond the limit (ulimit -f) ends the process instead of the write.
        signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(failed)?;
        stops.into_iter().map(|stop| stop.woken_by_signals().map_err(failed)).collect()
    }

    /// Lets signals end waits of this run, and the second one the process.
    fn woken_by_signals(self) -> std::io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let stop = Self { wake: Some(Arc::new(read)), ..self };
        let armed = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_default(number, armed.clone())?;
            signal_hook::low_level::pipe::register(number, write.try_clone()?)?;
        }
        // This thread notes the time of the signal for code that is in a call that no signal interrupts.
        let seen = stop.clone();
        let watch = move || {
            if seen.wait_for_signal() {
                seen.since();
                std::thread::sleep(REPEATED);
                armed.store(true, Ordering::Relaxed);
            }
        };
        std::thread::Builder::new().name("signal".to_owned()).spawn(watch)?;
        Ok(stop)
    }

    /// Sets whether the run reads from another stage: the stop timeout is then longer, so that the end of the stream is
    /// not lost.
    pub fn set_behind_pipe(&self, is_behind_pipe: bool) {
        self.is_behind_pipe.store(is_behind_pipe, Ordering::Relaxed);
    }

    /// Ends all waits for servers after `time`, whatever their own limits are. Only the first call has an effect.
    pub fn set_deadline(&self, time: Duration) {
        _ = self.deadline.set(self.clock.monotonic() + time);
    }

    /// Whether a deadline ends all waits for servers, as in `--check`.
    pub fn has_deadline(&self) -> bool {
        self.deadline.get().is_some()
    }

    /// Begins a wait for a server, which the first signal bounds.
    pub fn server_wait(&self) -> Wait {
        Wait { stop: self.clone(), from: self.clock.monotonic(), least: i32::MAX }
    }

    /// Returns when the first signal was noted.
    pub fn since(&self) -> Option<Duration> {
        self.signal().map(|_| *self.since.get_or_init(|| self.clock.monotonic()))
    }

    /// Returns the time left until the deadline, if there is one.
    fn to_deadline(&self) -> Option<Duration> {
        self.deadline.get().map(|deadline| deadline.saturating_sub(self.clock.monotonic()))
    }

    /// Waits for the first signal; returns false at once if no handlers are installed.
    pub fn wait_for_signal(&self) -> bool {
        let Some(wake) = self.wake.as_deref() else { return false };
        while self.signal().is_none() {
            if self.wait(&wake, false, None).is_err() {
                return false;
            }
        }
        true
    }

    /// Returns the number of the first signal, if there was one.
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }

    /// Waits until `input` can be read, a signal arrives (if `ends_at_signal`), or `timeout` has passed.
    pub fn wait(&self, input: &impl AsFd, ends_at_signal: bool, timeout: Option<Duration>) -> Result<Woken> {
        if ends_at_signal && self.signal().is_some() {
            return Ok(Woken::Stopped);
        }
        let mut fds = vec![PollFd::new(input, PollFlags::IN)];
        if let (true, Some(wake)) = (ends_at_signal, self.wake.as_deref()) {
            fds.push(PollFd::new(wake, PollFlags::IN));
        }
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => Ok(Woken::Timeout),
            Ok(_) if fds.get(1).is_some_and(|wake| !wake.revents().is_empty()) => Ok(Woken::Stopped),
            Ok(_) => Ok(Woken::Ready),
            // An ignored signal must not look like the end of a wait without a timeout.
            Err(rustix::io::Errno::INTR) => self.wait(input, ends_at_signal, timeout.map(|_| Duration::ZERO)),
            Err(errno) => Err(Error::io("waiting for input", &errno.into())),
        }
    }

    /// Waits until the reader of a full pipe has read something, or has gone. Returns false if it has done nothing for
    /// [`READER_TIMEOUT`] since this wait began and the first signal arrived.
    pub fn wait_for_reader(&self, pipe: &impl AsFd) -> std::io::Result<bool> {
        let began = self.clock.monotonic();
        loop {
            let since = self.since();
            let waited = since.map(|since| self.clock.monotonic().saturating_sub(since.max(began)));
            let left = waited.map(|waited| READER_TIMEOUT.saturating_sub(waited));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(false);
            }
            let mut fds = vec![PollFd::new(pipe, PollFlags::OUT)];
            fds.extend(self.wake.as_deref().filter(|_| since.is_none()).map(|wake| PollFd::new(wake, PollFlags::IN)));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) if !fds[0].revents().is_empty() => return Ok(true),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Sleeps for `time`, or until a signal arrives.
    pub fn sleep(&self, time: Duration) -> Result<Woken> {
        // A signal that arrived before the wake-up was registered does not wake the sleep.
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

/// A wait for a server. Without a signal it has no end of its own; the first signal limits it to the stop timeout.
pub struct Wait {
    stop: Stop,
    /// When the wait began, or the server last made progress.
    from: Duration,
    /// The smallest amount of work left so far.
    least: i32,
}

impl Wait {
    /// Whether the stop timeout or the deadline has passed.
    pub fn is_over(&self) -> bool {
        if self.stop.to_deadline().is_some_and(|left| left.is_zero()) {
            return true;
        }
        let is_over = self.stop_timeout().is_some_and(|left| left.is_zero());
        if is_over {
            self.stop.has_expired.store(true, Ordering::Relaxed);
        }
        is_over
    }

    /// Returns the time left of the stop timeout; `None` before a signal.
    fn stop_timeout(&self) -> Option<Duration> {
        let since = self.stop.since()?;
        let period = match self.stop.has_expired.load(Ordering::Relaxed) {
            true => STOP_TIMEOUT_EXPIRED,
            false if self.stop.is_behind_pipe.load(Ordering::Relaxed) => STOP_TIMEOUT_BEHIND_PIPE,
            false => STOP_TIMEOUT,
        };
        Some(period.saturating_sub(self.stop.clock.monotonic().saturating_sub(since.max(self.from))))
    }

    /// Returns the timeout of a call that no signal interrupts: `most`, or what is left of this wait.
    pub fn call_timeout(&self, most: Duration) -> Duration {
        [self.stop_timeout(), self.stop.to_deadline()].into_iter().flatten().fold(most, Duration::min)
    }

    /// Returns the smaller of `limit` and the time to the deadline.
    pub fn limit(&self, limit: Option<Duration>) -> Option<Duration> {
        let left = self.stop.deadline.get().map(|deadline| deadline.saturating_sub(self.from));
        // Round up to whole seconds for messages; [`Wait::is_over`] compares exactly.
        let left = left.map(|left| Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0)));
        limit.into_iter().chain(left).min()
    }

    /// Notes how much work is left: less than ever before is progress, which restarts the stop timeout.
    pub fn left(&mut self, count: i32) {
        if count < self.least {
            (self.least, self.from) = (count, self.stop.clock.monotonic());
        }
    }

    /// Returns the time since the last progress.
    pub fn idle(&self) -> Duration {
        self.stop.clock.monotonic().saturating_sub(self.from)
    }

    /// Sleeps for `time`, or until a signal arrives; returns whether there is another attempt.
    pub fn pause(&self, time: Duration) -> bool {
        let goes_on = |wait: &Self| !wait.is_over() && !wait.stop.has_expired.load(Ordering::Relaxed);
        if goes_on(self) {
            match self.stop.signal() {
                // If the sleep fails, the next attempt only comes early.
                None => _ = self.stop.sleep(time),
                Some(_) => std::thread::sleep(time.min(STOP_CHECK_INTERVAL)),
            }
        }
        goes_on(self)
    }

    /// Receives a message of another thread within `limit`; times out early if the stop timeout expires. The other
    /// thread takes real time, so `limit` is counted in waits of [`STOP_CHECK_INTERVAL`] and not read from the clock of
    /// the run.
    pub fn receive<T>(&self, from: &Receiver<T>, limit: Duration) -> Result<T, RecvTimeoutError> {
        let mut left = limit;
        loop {
            match from.recv_timeout(left.min(STOP_CHECK_INTERVAL)) {
                Err(RecvTimeoutError::Timeout) if left > STOP_CHECK_INTERVAL && !self.is_over() => {
                    left -= STOP_CHECK_INTERVAL
                }
                received => return received,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;

    /// A stop signal that does not arrive, after some time of its clock.
    fn silent() -> Stop {
        let clock = SimulatedClock::default();
        clock.advance(Duration::from_secs(1000));
        Stop::never(&Clock::Simulated(clock))
    }

    /// A stop signal that arrived `ago` before now.
    fn signalled(ago: Duration) -> Stop {
        let stop = silent();
        stop.raise(15);
        stop.since.set(stop.clock.monotonic() - ago).unwrap();
        stop
    }

    /// A wait that began `ago` before now.
    fn since(stop: &Stop, ago: Duration) -> Wait {
        Wait { from: stop.clock.monotonic() - ago, ..stop.server_wait() }
    }

    #[test]
    fn timeouts_follow_the_clock_of_the_run() {
        let clock = SimulatedClock::default();
        let stop = Stop::never(&Clock::Simulated(clock.clone()));
        let wait = stop.server_wait();
        clock.advance(Duration::from_secs(1000));
        assert_eq!((wait.is_over(), wait.idle()), (false, Duration::from_secs(1000)));
        stop.raise(15);
        assert!(!wait.is_over());
        clock.advance(STOP_TIMEOUT - Duration::from_millis(1));
        assert!(!wait.is_over());
        clock.advance(Duration::from_millis(1));
        assert!(wait.is_over());
    }

    #[test]
    fn a_wait_without_a_signal_goes_on() {
        let wait = since(&silent(), Duration::from_secs(1000));
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
        wait.from = stop.clock.monotonic() - STOP_TIMEOUT;
        wait.left(7);
        assert!(wait.is_over());
    }

    #[test]
    fn a_deadline_ends_every_wait_and_bounds_longer_limits() {
        let stop = silent();
        let wait = stop.server_wait();
        assert_eq!(wait.limit(None), None);
        stop.set_deadline(Duration::from_secs(10));
        assert!(!wait.is_over());
        let limits = [None, Some(Duration::from_secs(300)), Some(Duration::from_secs(3))];
        assert_eq!(limits.map(|limit| wait.limit(limit).map(|limit| limit.as_secs())), [Some(10), Some(10), Some(3)]);
        let stop = silent();
        stop.set_deadline(Duration::ZERO);
        let wait = stop.server_wait();
        assert!(wait.is_over() && !wait.pause(Duration::ZERO));
        assert_eq!(wait.limit(None), Some(Duration::ZERO));
    }

    #[test]
    fn a_call_that_no_signal_ends_takes_no_longer_than_the_wait_that_it_is_part_of() {
        let most = Duration::from_secs(3600);
        assert_eq!(silent().server_wait().call_timeout(most), most);
        let wait = since(&signalled(Duration::from_secs(1)), Duration::from_secs(1000));
        assert_eq!(wait.call_timeout(most), STOP_TIMEOUT - Duration::from_secs(1));
        assert_eq!(since(&signalled(STOP_TIMEOUT), STOP_TIMEOUT).call_timeout(most), Duration::ZERO);
        assert_eq!(wait.call_timeout(Duration::from_millis(1)), Duration::from_millis(1));
    }

    #[test]
    fn what_another_thread_sends_is_received_and_its_silence_ends() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let wait = silent().server_wait();
        assert_eq!(wait.receive(&receiver, Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
        sender.send(7).unwrap();
        assert_eq!(wait.receive(&receiver, Duration::from_secs(60)), Ok(7));
        drop(sender);
        assert_eq!(wait.receive(&receiver, Duration::from_secs(60)), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_signal_of_the_process_raises_all_runs_and_each_raises_itself_only() {
        let [one, other] = Stop::all_on_signals(&Clock::System, 2).unwrap().try_into().unwrap();
        one.clone().raise(SIGINT);
        assert_eq!((one.signal(), other.signal()), (Some(SIGINT), None));
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert_eq!((one.signal(), other.signal()), (Some(SIGTERM), Some(SIGTERM)));
        assert_eq!(other.sleep(Duration::from_secs(60)).unwrap(), Woken::Stopped);
    }
}
