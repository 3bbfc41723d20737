//! The outage of a server: how long a run waits for it, retries with their messages, timeouts.

use crate::console::Console;
use crate::metrics::ServerStatus;
use crate::stop::Stop;
use evt_core::error::{Error, Result};
use evt_core::time::{parse_duration, rounded};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_64;

/// How long a server may be unreachable after the run has begun, by default.
pub const OUTAGE_MAX: Duration = Duration::from_secs(300);
/// The same before its first answer, so that a wrong address fails early.
const OUTAGE_MAX_AT_START: Duration = Duration::from_secs(30);
/// The value of an option without limit.
pub const FOREVER: &str = "forever";

/// How long a server may be unreachable: `?wait=` of Kafka, `?retry=` of other servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutageLimit {
    /// The default: 30 s at the start of a run, later 5 minutes.
    #[default]
    Usual,
    /// This long, at the start too.
    Limited(Duration),
    /// Without limit.
    Forever,
}

impl OutageLimit {
    /// Parses the value of an option: a duration longer than 0, or `forever`.
    pub fn parse(text: &str) -> Result<Self> {
        if text == FOREVER {
            return Ok(Self::Forever);
        }
        let micros = u64::try_from(parse_duration(text)?).ok().filter(|micros| *micros > 0);
        let too_short = || Error::usage(format!("expected a duration longer than 0 or {FOREVER}, found '{text}'"));
        Ok(Self::Limited(Duration::from_micros(micros.ok_or_else(too_short)?)))
    }

    /// Returns the limit, depending on whether the server has ever answered; `None` for no limit.
    pub fn limit(self, has_answered: bool) -> Option<Duration> {
        match self {
            Self::Usual => Some(if has_answered { OUTAGE_MAX } else { OUTAGE_MAX_AT_START }),
            Self::Limited(limit) => Some(limit),
            Self::Forever => None,
        }
    }
}

/// Describes further attempts in a message.
pub fn trying_again(limit: Option<Duration>, option: &str) -> String {
    match limit {
        Some(limit) => format!("retrying for up to {} (?{option}=)", rounded(limit)),
        None => "retrying without a limit".to_owned(),
    }
}

/// What bounds the calls of a server.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Timeout of a connection with its handshakes (`?connect=`).
    pub connect: Duration,
    /// Timeout of one answer (`?timeout=`).
    pub timeout: Duration,
    /// How long a request is retried (`?retry=`).
    pub retry: OutageLimit,
    /// The stop signal of the run, which bounds all of them.
    pub stop: Stop,
}

/// Why a request failed.
pub enum RetryError {
    /// Transient: the server is unreachable or busy. A retry may succeed, and repeating the request changes nothing.
    Transient(String),
    /// Permanent: a retry would fail too.
    Permanent(Error),
}

impl RetryError {
    /// Adds the place of a permanent failure.
    pub fn at(self, place: impl FnOnce() -> String) -> Self {
        match self {
            Self::Permanent(error) => Self::Permanent(error.at(place())),
            transient => transient,
        }
    }

    /// Converts it to the error of a request that is not retried.
    pub fn into_error(self, shown: &str) -> Error {
        match self {
            Self::Transient(cause) => Error::unavailable(format!("{shown}: unavailable")).because(cause),
            Self::Permanent(error) => error,
        }
    }
}

impl From<Error> for RetryError {
    fn from(error: Error) -> Self {
        Self::Permanent(error)
    }
}

/// Shortest and longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The retries of requests that fail with transient errors; the first failure and the success after it are reported.
pub struct RetryPolicy {
    shown: String,
    timeouts: Timeouts,
    console: Console,
    has_answered: AtomicBool,
    up: ServerStatus,
}

impl RetryPolicy {
    /// Retries requests to the server `shown`, which has answered before.
    pub fn new(shown: String, timeouts: Timeouts, console: Console) -> Self {
        let has_answered = AtomicBool::new(true);
        Self { shown, timeouts, console, has_answered, up: ServerStatus::default() }
    }

    /// Makes the metrics show whether the server is reachable.
    pub fn with_metrics(self, up: ServerStatus) -> Self {
        Self { up, ..self }
    }

    /// Uses the limit for a server that has never answered.
    pub fn at_start(self) -> Self {
        Self { has_answered: AtomicBool::new(false), ..self }
    }

    /// Calls `attempt` until it succeeds or fails permanently. Errors: exit status 69 if `?retry=` or the stop timeout
    /// ends first.
    pub fn run<T>(&self, mut attempt: impl FnMut() -> Result<T, RetryError>) -> Result<T> {
        let mut began = None;
        let wait = self.timeouts.stop.server_wait();
        for number in 0u32.. {
            let cause = match attempt() {
                Ok(done) => {
                    self.has_answered.store(true, Ordering::Relaxed);
                    if let Some(began) = began {
                        let waited = rounded(Instant::now().saturating_duration_since(began));
                        self.console.say(format!("{}: available again after {waited}", self.shown));
                        self.up.set(true);
                    }
                    return Ok(done);
                }
                // `--check` says how things are now.
                Err(failure) if self.timeouts.stop.has_deadline() => return Err(failure.into_error(&self.shown)),
                Err(RetryError::Permanent(error)) => return Err(error),
                Err(RetryError::Transient(cause)) => cause,
            };
            let limit = wait.limit(self.timeouts.retry.limit(self.has_answered.load(Ordering::Relaxed)));
            let began = *began.get_or_insert_with(|| {
                self.console.say(format!("{}: {cause}: {}", self.shown, trying_again(limit, "retry")));
                self.up.set(false);
                Instant::now()
            });
            let pause = self.pause(number);
            let given_up =
                |why: String| Err(Error::unavailable(format!("{}: unavailable {why}", self.shown)).because(&cause));
            let left = limit.map(|limit| limit.saturating_sub(began.elapsed()));
            if let Some(limit) = limit.filter(|_| left == Some(Duration::ZERO)) {
                return given_up(format!("for {} (?retry= sets the limit)", rounded(limit)));
            }
            // The last attempt comes when the limit has passed.
            if !wait.pause(left.map_or(pause, |left| pause.min(left))) {
                return given_up("when the run was stopped".to_owned());
            }
        }
        Err(Error::broken("attempts without end"))
    }

    /// Returns the pause after attempt `number`: exponential backoff, with up to half of it taken off by jitter so that
    /// many writers do not return at once.
    fn pause(&self, number: u32) -> Duration {
        let (least, most) = PAUSES;
        let whole = least.saturating_mul(1 << number.min(10)).min(most);
        let seed = format!("{} {} {number}", std::process::id(), self.shown);
        let share = (xxh3_64(seed.as_bytes()) % 1000) as u32;
        whole - whole / 2 * share / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::console::Colour;
    use evt_core::error::ErrorKind;

    fn timeouts(retry: OutageLimit) -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            retry,
            stop: Stop::never(&Clock::default()),
        }
    }

    #[test]
    fn a_trouble_that_passes_is_tried_again_and_one_that_lasts_is_not() {
        let timeouts = timeouts(OutageLimit::parse("400ms").unwrap());
        let retries = RetryPolicy::new("x://y".to_owned(), timeouts, Console::new("test", Colour::Off));
        let mut tries = 0;
        let done = retries.run(|| {
            tries += 1;
            if tries < 3 { Err(RetryError::Transient("away".to_owned())) } else { Ok(tries) }
        });
        assert_eq!(done.unwrap(), 3);
        let lasting = retries.run::<()>(|| Err(Error::config("wrong password").into())).unwrap_err();
        assert_eq!(lasting.kind(), ErrorKind::Config);
        let over = retries.run::<()>(|| Err(RetryError::Transient("connection refused".to_owned()))).unwrap_err();
        assert_eq!(over.kind(), ErrorKind::Unavailable);
        let said = over.to_string();
        assert_eq!(said, "x://y: unavailable for 400ms (?retry= sets the limit): connection refused");
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let timeouts = timeouts(OutageLimit::Usual);
        let retries = RetryPolicy::new("x://y".to_owned(), timeouts, Console::new("test", Colour::Off));
        for number in 0..40 {
            let whole = PAUSES.0.saturating_mul(1 << number.min(10)).min(PAUSES.1);
            let pause = retries.pause(number);
            assert!(pause <= whole && pause >= whole / 2, "{number}: {pause:?}");
        }
    }
}
