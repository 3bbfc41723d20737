//! Instants and durations: UTC microseconds since 1970, read and written as text.
//!
//! An instant is RFC 3339 (any offset, lower-case `t` and `z`, `:60` read as `:59.999999`); digits beyond the sixth are
//! cut. In UTC it lies within the years 1 to 9999 ([`is_in_calendar`]). A duration is never bare: `90s`, `1h30m`, `2d`, `100ms`.

pub mod calendar;
pub mod duration;
pub mod instant;
pub mod stamp;

pub use calendar::{DAY, EARLIEST, HOUR, LATEST, MILLISECOND, MINUTE, SECOND, is_in_calendar};
pub use duration::{format_duration, parse_duration};
pub use instant::{Parser, format_instant, parse_date, parse_instant, parse_instant_or_now, write_instant};
