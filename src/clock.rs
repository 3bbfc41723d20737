//! The clock: the one place that reads the current time.

use std::time::{SystemTime, UNIX_EPOCH};

/// The source of processing time. It never decides a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// Always this instant (µs): `--now`, for repeatable output.
    Fixed(i64),
}

impl Clock {
    /// Returns the current time in microseconds since 1970.
    pub fn now(self) -> i64 {
        match self {
            Clock::Fixed(instant) => instant,
            Clock::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
        }
    }
}
