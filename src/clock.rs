//! The clock of a run.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The source of processing time. It never decides a window.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// Always this instant (µs): `--now`, for repeatable output. Timeouts follow the machine's clock.
    Fixed(i64),
    /// A clock that a test advances.
    Simulated(SimulatedClock),
}

impl Clock {
    /// Returns the current time in microseconds since 1970.
    pub fn now(&self) -> i64 {
        match self {
            Clock::Fixed(instant) => *instant,
            Clock::Simulated(clock) => clock.micros(),
            Clock::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
        }
    }

    /// Returns the time since the process began, nearly (its first call): for timeouts and delays.
    pub fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        match self {
            Clock::Simulated(clock) => Duration::from_micros(clock.micros().unsigned_abs()),
            Clock::System | Clock::Fixed(_) => START.get_or_init(Instant::now).elapsed(),
        }
    }
}

/// A clock that advances only by explicit calls. Clones share their time.
#[derive(Clone, Debug, Default)]
pub struct SimulatedClock(Arc<AtomicI64>);

impl SimulatedClock {
    /// Makes a clock at `now` (µs since 1970).
    pub fn at(now: i64) -> Self {
        Self(Arc::new(AtomicI64::new(now)))
    }

    /// Lets `time` pass.
    pub fn advance(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    fn micros(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}
