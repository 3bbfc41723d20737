//! Instants and durations: UTC microseconds since 1970, parsed from text and formatted.
//!
//! An instant is RFC 3339 (any offset, lower-case `t` and `z`, `:60` read as `:59.999999`); digits beyond the sixth are
//! cut. In UTC it is within the years 1 to 9999 ([`is_in_calendar`]). A duration always has a unit: `90s`, `1h30m`,
//! `2d`, `100ms`.
//!
//! ```text
//! text ─► instant, iso, relative ─► µs since 1970 ─► instant, stamp ─► text
//! ```
//!
//! Users may write other forms of ISO 8601 (`2024-01-15 10:00`), which `iso.rs` reads; flags also accept `now-2h` and
//! `yesterday` (`relative.rs`). `calendar.rs` has units and dates, `instant.rs` and `duration.rs` parse and format,
//! `stamp.rs` formats whole columns fast. `period.rs` has the days, weeks, months, quarters and years of a time zone,
//! and `zone.rs` the zones.

pub mod calendar;
mod digits;
pub mod duration;
pub mod instant;
pub mod iso;
pub mod period;
mod relative;
pub mod stamp;
mod zone;

pub use calendar::{
    CivilDate, DAY, EARLIEST, HOUR, LATEST, MILLISECOND, MINUTE, MONTHS, SECOND, civil_from_days, days_from_civil,
    is_in_calendar,
};
pub use duration::{format_duration, parse_duration, rounded, whole_seconds};
pub use instant::{Parser, format_instant, parse_date, parse_instant, write_instant};
pub use iso::{TimeFault, in_zone, read_iso, shows_twice, start_of_day};
pub use period::{Calendar, CalendarUnit};
pub use relative::parse_flag_instant;
pub use zone::{ZONES_VERSION, Zone};
