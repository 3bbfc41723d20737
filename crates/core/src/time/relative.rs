//! Reads the instants of flags: absolute ones, and those that are relative to now.

use super::calendar::{DAY, is_in_calendar};
use super::duration::parse_duration;
use super::iso::{TimeFault, local_of, read_iso, start_of_day};
use super::zone::Zone;
use crate::error::{Error, Result};

/// Parses the instant (µs) of a flag: ISO 8601, `now`, `now-2h`, `today` or `yesterday`. A date is its first instant.
/// An instant without an offset is in `zone`, or in UTC.
///
/// Errors: exit status 2 if it is none of these.
pub fn parse_flag_instant(text: &str, now: i64, zone: Option<Zone>) -> Result<i64> {
    let wrong = |cause: Option<String>| {
        let cause = cause.map_or_else(String::new, |cause| format!("; {cause}"));
        let forms = "2024-01-15, 2024-01-15T10:00:00Z, now-2h or yesterday";
        Error::usage(format!("expected an instant like {forms}, found '{text}'{cause}"))
    };
    if let Some(rest) = text.strip_prefix("now").filter(|rest| rest.is_empty() || rest.starts_with(['+', '-'])) {
        let distance = if rest.is_empty() { 0 } else { parse_duration(rest.strip_prefix('+').unwrap_or(rest))? };
        return Some(now.saturating_add(distance)).filter(|at| is_in_calendar(*at)).ok_or_else(|| wrong(None));
    }
    let days_before = match text {
        "today" => 0,
        "yesterday" => 1,
        _ => return read_iso(text, zone).map_err(|fault| wrong(fault.cause())),
    };
    let local = zone.map_or(now, |zone| local_of(now, zone));
    let midnight = (local.div_euclid(DAY) - days_before) * DAY;
    let start = zone.map_or(Some(midnight), |zone| start_of_day(midnight, zone));
    start.filter(|at| is_in_calendar(*at)).ok_or_else(|| wrong(TimeFault::Missing("day").cause()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{format_instant, parse_instant};

    #[test]
    fn instants_are_absolute_or_relative_to_now() {
        let now = parse_instant("2026-07-01T23:30:00Z").unwrap();
        let utc = |text| parse_flag_instant(text, now, None).map(format_instant);
        for (text, instant) in [
            ("2026-02-03", "2026-02-03T00:00:00.000000Z"),
            ("2026-02-03 04:05", "2026-02-03T04:05:00.000000Z"),
            ("now", "2026-07-01T23:30:00.000000Z"),
            ("now-2h", "2026-07-01T21:30:00.000000Z"),
            ("now+1d", "2026-07-02T23:30:00.000000Z"),
            ("today", "2026-07-01T00:00:00.000000Z"),
            ("yesterday", "2026-06-30T00:00:00.000000Z"),
        ] {
            assert_eq!(utc(text).unwrap(), instant, "{text}");
        }
        let zurich = parse_flag_instant("yesterday", now, Some("Europe/Zurich".parse().unwrap())).map(format_instant);
        assert_eq!(zurich.unwrap(), "2026-06-30T22:00:00.000000Z");
        assert!(utc("2026-02-30").unwrap_err().to_string().ends_with("this day does not exist"));
        for text in ["", "noon", "now2h", "now-", "2026"] {
            assert!(utc(text).is_err(), "{text}");
        }
    }
}
