//! The clock: the one place that asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

/// What processing time is. It never decides a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// Always this instant (µs): `--now`, for output that can be repeated.
    Fixed(i64),
}

impl Clock {
    /// Now, in microseconds since 1970.
    pub fn now(self) -> i64 {
        match self {
            Clock::Fixed(instant) => instant,
            Clock::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
        }
    }
}
