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
    /// Returns the time of the machine (µs since 1970), also in a run with another one.
    pub fn of_machine() -> i64 {
        Self::System.now()
    }

    /// Returns the current time in microseconds since 1970.
    pub fn now(&self) -> i64 {
        match self {
            Clock::Fixed(instant) => *instant,
            Clock::Simulated(clock) => clock.wall_time(),
            Clock::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
        }
    }

    /// Returns the monotonic time, for timeouts and delays. It counts from the first call, nearly the start of the
    /// process.
    pub fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        match self {
            Clock::Simulated(clock) => clock.monotonic(),
            Clock::System | Clock::Fixed(_) => START.get_or_init(Instant::now).elapsed(),
        }
    }
}

/// A clock that advances only by explicit calls. Clones share their time.
#[derive(Clone, Debug, Default)]
pub struct SimulatedClock(Arc<SimulatedTimes>);

#[derive(Debug, Default)]
struct SimulatedTimes {
    /// The monotonic time (µs).
    monotonic: AtomicI64,
    /// The wall time (µs since 1970) minus the monotonic one.
    offset: AtomicI64,
}

impl SimulatedClock {
    /// Makes a clock at `now` (µs since 1970).
    pub fn at(now: i64) -> Self {
        let clock = Self::default();
        clock.jump(now);
        clock
    }

    /// Lets `time` pass.
    pub fn advance(&self, time: Duration) {
        self.0.monotonic.fetch_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Sets the wall time forward by `micros`, or back if it is negative; no time passes.
    pub fn jump(&self, micros: i64) {
        self.0.offset.fetch_add(micros, Ordering::Relaxed);
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.monotonic.load(Ordering::Relaxed).unsigned_abs())
    }

    fn wall_time(&self) -> i64 {
        self.0.monotonic.load(Ordering::Relaxed) + self.0.offset.load(Ordering::Relaxed)
    }
}
