//! What stores behind a network share: how long they wait, when they try again, and what of an address may be shown.

use crate::console::Console;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Location;
use crate::time::{MILLISECOND, SECOND, format_duration, parse_duration};
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_64;

/// Options every remote store takes.
pub const OPTIONS: [&str; 3] = ["connect", "timeout", "retry"];

/// How long a store waits for its server.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection, with its handshakes (`?connect=`).
    pub connect: Duration,
    /// For one answer (`?timeout=`).
    pub timeout: Duration,
    /// Until a server that does not answer is given up (`?retry=`).
    pub retry: Duration,
}

impl Patience {
    /// What the options say; exit 2 for what is no duration, or none at all.
    pub fn try_new(location: &Location) -> Result<Self> {
        let option = |name: &str, usual: i64| {
            let micros = location.options.get(name).map_or(Ok(usual), |text| parse_duration(text))?;
            match u64::try_from(micros) {
                Ok(micros) if micros > 0 => Ok(Duration::from_micros(micros)),
                _ => Err(Error::usage(format!("{location}: {name}: a time to wait is longer than 0"))),
            }
        };
        Ok(Self {
            connect: option("connect", 10 * SECOND)?,
            timeout: option("timeout", 30 * SECOND)?,
            retry: option("retry", 300 * SECOND)?,
        })
    }
}

/// Why something did not work.
pub enum Trouble {
    /// The server is away or busy: the same may work later, and a repetition changes nothing.
    Passing(String),
    /// It will not work.
    Lasting(Error),
}

impl Trouble {
    /// The error where nobody tries again.
    pub fn into_error(self, shown: &str) -> Error {
        match self {
            Self::Passing(cause) => Error::new(ErrorKind::Unavailable, format!("{shown}: unavailable")).because(cause),
            Self::Lasting(error) => error,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Lasting(error)
    }
}

/// The shortest and the longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Tries again what troubles that pass have hindered, and says so: one line when it begins, one when it is over.
pub struct Persistence {
    shown: String,
    patience: Patience,
    console: Console,
}

impl Persistence {
    /// For the server `shown`.
    pub fn new(shown: String, patience: Patience, console: Console) -> Self {
        Self { shown, patience, console }
    }

    /// Calls `attempt` until it works, fails for good, or the patience ends (exit 69).
    pub fn run<T>(&self, mut attempt: impl FnMut() -> Result<T, Trouble>) -> Result<T> {
        let mut began = None;
        for number in 0u32.. {
            let cause = match attempt() {
                Ok(done) => {
                    if let Some(began) = began {
                        let waited = rounded(Instant::now().saturating_duration_since(began));
                        self.console.say(format!("{}: is back after {waited}", self.shown));
                    }
                    return Ok(done);
                }
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing(cause)) => cause,
            };
            let limit = rounded(self.patience.retry);
            let began = *began.get_or_insert_with(|| {
                let line = format!("{}: {cause}: trying again for up to {limit} (?retry=)", self.shown);
                self.console.say(line);
                Instant::now()
            });
            let pause = self.pause(number);
            if began.elapsed() + pause > self.patience.retry {
                let message = format!("{}: unavailable for {limit} (?retry= waits longer)", self.shown);
                return Err(Error::new(ErrorKind::Unavailable, message).because(cause));
            }
            std::thread::sleep(pause);
        }
        Err(Error::broken("attempts without end"))
    }

    /// Twice as long after every attempt, less up to half of it, so that many writers do not come back at once.
    fn pause(&self, number: u32) -> Duration {
        let (least, most) = PAUSES;
        let whole = least.saturating_mul(1 << number.min(10)).min(most);
        let seed = format!("{} {} {number}", std::process::id(), self.shown);
        let share = (xxh3_64(seed.as_bytes()) % 1000) as u32;
        whole - whole / 2 * share / 1000
    }
}

/// A duration as it is written on the command line, to the millisecond.
pub fn rounded(duration: Duration) -> String {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / MILLISECOND);
    format_duration(millis.max(1) * MILLISECOND)
}

/// TLS by one implementation, however many others a library brings along.
pub fn use_ring() {
    // Another part of the program may have been first, with the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Colour;

    fn patience(options: &[(&str, &str)]) -> Result<Patience> {
        let pairs = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Patience::try_new(&Location { options: pairs.collect(), ..Location::default() })
    }

    #[test]
    fn waits_are_durations_longer_than_nothing() {
        let said = patience(&[("timeout", "1m30s")]).unwrap();
        assert_eq!((said.connect, said.timeout), (Duration::from_secs(10), Duration::from_secs(90)));
        for value in ["0s", "-1s", "7", ""] {
            assert_eq!(patience(&[("retry", value)]).err().unwrap().kind(), ErrorKind::Usage, "{value}");
        }
    }

    #[test]
    fn a_trouble_that_passes_is_tried_again_and_one_that_lasts_is_not() {
        let patience = patience(&[("retry", "400ms")]).unwrap();
        let persistence = Persistence::new("x://y".to_owned(), patience, Console::new("test", Colour::Off));
        let mut tries = 0;
        let done = persistence.run(|| {
            tries += 1;
            if tries < 3 { Err(Trouble::Passing("away".to_owned())) } else { Ok(tries) }
        });
        assert_eq!(done.unwrap(), 3);
        let lasting = persistence.run::<()>(|| Err(Error::config("wrong password").into())).unwrap_err();
        assert_eq!(lasting.kind(), ErrorKind::Config);
        let over = persistence.run::<()>(|| Err(Trouble::Passing("connection refused".to_owned()))).unwrap_err();
        assert_eq!(over.kind(), ErrorKind::Unavailable);
        let said = over.to_string();
        assert_eq!(said, "x://y: unavailable for 400ms (?retry= waits longer): connection refused");
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let patience = patience(&[]).unwrap();
        let persistence = Persistence::new("x://y".to_owned(), patience, Console::new("test", Colour::Off));
        for number in 0..40 {
            let whole = PAUSES.0.saturating_mul(1 << number.min(10)).min(PAUSES.1);
            let pause = persistence.pause(number);
            assert!(pause <= whole && pause >= whole / 2, "{number}: {pause:?}");
        }
    }
}
