//! Durations: `90s`, `1h30m`, `2d`, `100ms`; a unit is required.

use super::calendar::{DAY, HOUR, MILLISECOND, MINUTE, SECOND};
use crate::error::{Error, Result};
use std::time::Duration;

const UNITS: [(&str, i64); 7] =
    [("w", 7 * DAY), ("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", MILLISECOND), ("us", 1)];

/// Parses a duration into microseconds; a leading `-` makes it negative.
///
/// Errors: exit status 2 if it is not a duration.
pub fn parse_duration(text: &str) -> Result<i64> {
    read(text).ok_or_else(|| Error::usage(format!("expected a duration like 90s, 1h30m, 2d or 100ms, found '{text}'")))
}

fn read(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    if rest.is_empty() {
        return None;
    }
    let mut micros = 0i64;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(tail.len()));
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        micros = micros.checked_add(number.parse::<i64>().ok()?.checked_mul(*scale)?)?;
        rest = tail;
    }
    Some(sign * micros)
}

/// Formats a duration as on the command line, to the millisecond.
pub fn rounded(duration: Duration) -> String {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / MILLISECOND);
    format_duration(millis.max(1) * MILLISECOND)
}

/// Formats a duration in whole seconds.
pub fn whole_seconds(duration: Duration) -> String {
    rounded(Duration::from_secs(duration.as_secs()))
}

/// Returns the shortest text that [`parse_duration`] reads as `micros`.
pub fn format_duration(micros: i64) -> String {
    if micros == 0 {
        return "0s".to_owned();
    }
    let mut out = if micros < 0 { "-".to_owned() } else { String::new() };
    let mut rest = micros.unsigned_abs();
    for (name, scale) in UNITS.iter().skip(1) {
        let count = rest / scale.unsigned_abs();
        rest %= scale.unsigned_abs();
        if count > 0 {
            out.push_str(&format!("{count}{name}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write() {
        for (text, micros) in
            [("90s", 90 * SECOND), ("1h30m", 90 * MINUTE), ("2d", 2 * DAY), ("100ms", 100_000), ("-5m", -5 * MINUTE)]
        {
            assert_eq!(parse_duration(text).unwrap(), micros);
            assert_eq!(parse_duration(&format_duration(micros)).unwrap(), micros);
        }
    }

    #[test]
    fn a_bare_or_broken_duration_is_refused() {
        for text in ["", "-", "5", "s", "5x", "1h 30m", "1.5h", "99999999999999d", "1h30"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
