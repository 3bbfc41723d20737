//! Instants and durations: UTC microseconds since 1970, read and written as text.
//!
//! An instant is RFC 3339 (any offset, lower-case `t` and `z`, `:60` read as `:59.999999`); digits beyond the sixth are
//! cut. In UTC it lies within the years 1 to 9999 ([`is_in_calendar`]). A duration is never bare: `90s`, `1h30m`, `2d`, `100ms`.

pub mod calendar;
pub mod duration;
pub mod instant;
pub mod stamp;

use crate::error::{Error, Result};
pub use duration::{format_duration, parse_duration};
pub use instant::{Parser, format_instant, parse_date, parse_instant, write_instant};

/// Microseconds in a millisecond.
pub const MILLISECOND: i64 = 1_000;
/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds in a minute.
pub const MINUTE: i64 = 60 * SECOND;
/// Microseconds in an hour.
pub const HOUR: i64 = 60 * MINUTE;
/// Microseconds in a day.
pub const DAY: i64 = 24 * HOUR;
/// 0001-01-01T00:00:00Z, the earliest instant a Python or SQL reader can hold.
pub const EARLIEST: i64 = -62_135_596_800 * SECOND;
/// 9999-12-31T23:59:59.999999Z, the last instant RFC 3339 can write.
pub const LATEST: i64 = 253_402_300_800 * SECOND - 1;

/// Whether an instant (µs) lies within the years 1 to 9999, UTC: only these are read and written.
#[inline]
pub fn is_in_calendar(micros: i64) -> bool {
    (EARLIEST..=LATEST).contains(&micros)
}

/// An instant (µs): RFC 3339, or `now` with or without a duration: `now-2h`.
pub fn parse_instant_or_now(text: &str, now: i64) -> Result<i64> {
    let instant = match text.strip_prefix("now") {
        Some("") => Some(now),
        Some(rest) => Some(now.saturating_add(parse_duration(rest.strip_prefix('+').unwrap_or(rest))?)),
        None => parse_instant(text),
    };
    instant
        .filter(|instant| is_in_calendar(*instant))
        .ok_or_else(|| Error::usage(format!("'{text}' is no instant: RFC 3339 (2024-01-15T10:00:00Z) or now-2h")))
}
