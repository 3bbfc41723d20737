//! The code that remote stores share: timeouts, retries with their messages, and TLS.

use crate::console::Console;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Up;
use crate::stop::Stop;
use crate::store::Location;
use crate::time::{MILLISECOND, SECOND, format_duration, parse_duration};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};
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

/// The timeouts of a store.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Timeout of a connection with its handshakes (`?connect=`).
    pub connect: Duration,
    /// Timeout of one answer (`?timeout=`).
    pub timeout: Duration,
    /// How long a request is retried (`?retry=`).
    pub retry: OutageLimit,
}

impl Timeouts {
    /// Parses the options. Errors: exit status 2 for a value that is not a duration longer than 0.
    pub fn try_new(location: &Location) -> Result<Self> {
        let option = |name: &str, usual: i64| {
            let micros = location.options.get(name).map_or(Ok(usual), |text| parse_duration(text))?;
            match u64::try_from(micros) {
                Ok(micros) if micros > 0 => Ok(Duration::from_micros(micros)),
                _ => Err(Error::usage(format!("{location}: {name}: expected a duration longer than 0"))),
            }
        };
        Ok(Self {
            connect: option("connect", 10 * SECOND)?,
            timeout: option("timeout", 30 * SECOND)?,
            retry: match location.options.get("retry") {
                None => OutageLimit::Usual,
                Some(text) => OutageLimit::parse(text).map_err(|error| error.at(format!("{location}: retry")))?,
            },
        })
    }
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
            Self::Transient(cause) => {
                Error::new(ErrorKind::Unavailable, format!("{shown}: unavailable")).because(cause)
            }
            Self::Permanent(error) => error,
        }
    }
}

impl From<Error> for RetryError {
    fn from(error: Error) -> Self {
        Self::Permanent(error)
    }
}

/// Opens a store on the server at `location` with a function that tries once: again as long as `?retry=` allows while
/// the server is unavailable. A run begins so, because a server that starts at the same time, or restarts, may answer
/// seconds later.
///
/// Errors: those of `open`; exit status 69 if `?retry=` or the stop timeout ends first.
pub fn open_at_start<T>(
    location: &Location,
    console: &Console,
    up: Up,
    mut open: impl FnMut() -> Result<T>,
) -> Result<T> {
    let timeouts = Timeouts::try_new(location)?;
    let retries = RetryPolicy::new(location.to_string(), timeouts, console.clone()).with_metrics(up).at_start();
    retries.run(|| {
        open().map_err(|error| match error.kind() {
            ErrorKind::Unavailable => {
                RetryError::Transient(error.cause().map_or_else(|| error.to_string(), str::to_owned))
            }
            _ => RetryError::Permanent(error),
        })
    })
}

/// Shortest and longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The retries of requests that fail with transient errors; the first failure and the success after it are reported.
pub struct RetryPolicy {
    shown: String,
    timeouts: Timeouts,
    console: Console,
    stop: Stop,
    has_answered: AtomicBool,
    up: Up,
}

impl RetryPolicy {
    /// Retries requests to the server `shown`, which has answered before.
    pub fn new(shown: String, timeouts: Timeouts, console: Console) -> Self {
        let has_answered = AtomicBool::new(true);
        Self { shown, timeouts, console, stop: Stop::of_process(), has_answered, up: Up::default() }
    }

    /// Makes the metrics show whether the server is reachable.
    pub fn with_metrics(self, up: Up) -> Self {
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
        let wait = self.stop.server_wait();
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
            let given_up = |why: String| {
                Err(Error::new(ErrorKind::Unavailable, format!("{}: unavailable {why}", self.shown)).because(&cause))
            };
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

/// Formats a duration as on the command line, to the millisecond.
pub fn rounded(duration: Duration) -> String {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / MILLISECOND);
    format_duration(millis.max(1) * MILLISECOND)
}

/// Configures TLS with the certificates of the PEM file that the option `option` names, else with the machine's.
///
/// Errors: exit status 78 if the file cannot be read or has no certificate.
pub fn tls_config(location: &Location, option: &str) -> Result<ClientConfig> {
    use_ring();
    let mut roots = RootCertStore::empty();
    match location.options.get(option) {
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        Some(path) => {
            let wrong = |cause: String| Error::config(format!("{location}: {option}={path}")).because(cause);
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(pem_fault(error)))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| wrong(pem_fault(error)))?;
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("expected a PEM certificate".to_owned()));
            }
        }
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Describes why a PEM file cannot be read: the words of the library list the bytes of a line as numbers.
pub fn pem_fault(error: pem::Error) -> String {
    let text = |line: &[u8]| String::from_utf8_lossy(line).trim_end().to_owned();
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("missing line -----END {}-----", text(&end_marker))
        }
        pem::Error::IllegalSectionStart { line } => format!("invalid line '{}'", text(&line)),
        other => other.to_string(),
    }
}

/// Selects ring as the TLS implementation of all libraries.
pub fn use_ring() {
    // It fails if another part of the program has already done this.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Colour;

    fn timeouts(options: &[(&str, &str)]) -> Result<Timeouts> {
        let pairs = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Timeouts::try_new(&Location { options: pairs.collect(), ..Location::default() })
    }

    #[test]
    fn waits_are_durations_longer_than_nothing() {
        let said = timeouts(&[("timeout", "1m30s")]).unwrap();
        assert_eq!((said.connect, said.timeout), (Duration::from_secs(10), Duration::from_secs(90)));
        assert_eq!(said.retry.limit(false), Some(OUTAGE_MAX_AT_START));
        assert_eq!(said.retry.limit(true), Some(OUTAGE_MAX));
        assert_eq!(timeouts(&[("retry", "3s")]).unwrap().retry.limit(false), Some(Duration::from_secs(3)));
        assert_eq!(timeouts(&[("retry", "forever")]).unwrap().retry.limit(true), None);
        for value in ["0s", "-1s", "7", ""] {
            assert_eq!(timeouts(&[("retry", value)]).err().unwrap().kind(), ErrorKind::Usage, "{value}");
        }
    }

    #[test]
    fn a_trouble_that_passes_is_tried_again_and_one_that_lasts_is_not() {
        let timeouts = timeouts(&[("retry", "400ms")]).unwrap();
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
        let timeouts = timeouts(&[]).unwrap();
        let retries = RetryPolicy::new("x://y".to_owned(), timeouts, Console::new("test", Colour::Off));
        for number in 0..40 {
            let whole = PAUSES.0.saturating_mul(1 << number.min(10)).min(PAUSES.1);
            let pause = retries.pause(number);
            assert!(pause <= whole && pause >= whole / 2, "{number}: {pause:?}");
        }
    }
}
