//! The pace of a channel: pauses between attempts, and its rate.

use evt_core::error::{Error, Result};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// The bound of the first pause; it doubles with each attempt, up to [`PAUSE_BOUND_MAX`].
const FIRST: Duration = Duration::from_secs(1);
/// The largest bound of a pause.
const PAUSE_BOUND_MAX: Duration = Duration::from_secs(60);
/// The least pause.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// Returns the pause after `failures` failures (at least one): full jitter, anything from almost nothing to a bound
/// that grows exponentially, so that many senders that failed together do not return together. `seed` makes the choice
/// repeatable.
pub fn pause(failures: u32, seed: &str) -> Duration {
    let bound = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(PAUSE_BOUND_MAX);
    let share = xxh3_64(format!("{seed} {failures}").as_bytes()) % 1000;
    (bound * share as u32 / 1000).max(PAUSE_MIN)
}

/// The largest number of requests that a channel may make in some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    requests: NonZeroU32,
    per: Duration,
}

impl RateLimit {
    /// Makes a rate of `requests` a minute.
    pub const fn per_minute(requests: NonZeroU32) -> Self {
        Self { requests, per: Duration::from_secs(60) }
    }

    /// Parses a rate: `COUNT/s`, `COUNT/m` or `COUNT/h`. Errors: exit status 78.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::config(format!("expected COUNT/s, COUNT/m or COUNT/h, found '{text}'"));
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let per = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        Ok(Self { requests: count.parse().map_err(|_| wrong())?, per: Duration::from_secs(per) })
    }

    /// Makes a limiter that has admitted no request yet. The whole number of requests may come at once.
    pub fn limiter(self) -> Limiter {
        let step = (self.per / self.requests.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(step).map(|quota| quota.allow_burst(self.requests));
        Limiter(quota.map(RateLimiter::direct))
    }
}

/// Admits requests at a rate.
pub struct Limiter(Option<DefaultDirectRateLimiter>);

impl Limiter {
    /// Admits one request, or returns the time until the next one.
    pub fn admit(&self) -> Result<(), Duration> {
        let Some(limiter) = &self.0 else { return Ok(()) };
        limiter.check().map_err(|until| until.wait_time_from(DefaultClock::default().now()).max(PAUSE_MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_below_a_bound_that_grows_to_its_limit() {
        for failures in 1..20 {
            let bound = FIRST.saturating_mul(1 << (failures - 1).min(10)).min(PAUSE_BOUND_MAX);
            let pauses: Vec<Duration> = (0..200).map(|seed| pause(failures, &seed.to_string())).collect();
            assert!(pauses.iter().all(|pause| (PAUSE_MIN..=bound).contains(pause)), "{failures}: {pauses:?}");
            let (low, high) = (bound / 4, bound * 3 / 4);
            assert!(pauses.iter().any(|pause| *pause < low) && pauses.iter().any(|pause| *pause > high));
        }
        assert_eq!(pause(3, "a"), pause(3, "a"));
    }

    #[test]
    fn a_rate_admits_its_number_at_once_and_then_names_the_wait() {
        let rate = RateLimit::parse("120/m").unwrap();
        let limiter = rate.limiter();
        assert_eq!((0..120).filter(|_| limiter.admit().is_ok()).count(), 120);
        let wait = limiter.admit().unwrap_err();
        assert!(wait <= Duration::from_millis(500), "{wait:?}");
        for wrong in ["", "5", "0/s", "-1/s", "5/d", "x/s", "5/"] {
            assert_eq!(RateLimit::parse(wrong).unwrap_err().kind(), evt_core::ErrorKind::Config, "{wrong}");
        }
    }
}
