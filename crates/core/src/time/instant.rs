//! Reads and writes RFC 3339 instants.

use super::calendar::{CivilDate, DAY, HOUR, MINUTE, SECOND, civil_from_days, is_in_calendar};
use super::digits::{days_of, fraction_of};
use super::iso::{offset, read_iso};
use super::zone::Zone;

/// Reads RFC 3339 instants; caches the last date, because a stream's dates repeat (saves 3 % of a whole parse).
#[derive(Clone, Debug, Default)]
pub struct Parser {
    /// The last date, and its days since 1970.
    last: Option<([u8; 10], i64)>,
    /// The zone of times without an offset; UTC without one.
    zone: Option<Zone>,
}

impl Parser {
    /// Makes a parser that reads times without an offset in `zone`, or in UTC.
    pub fn in_zone(zone: Option<Zone>) -> Self {
        Self { last: None, zone }
    }

    /// Parses ISO 8601 in any form of [`read_iso`] (µs); `None` if it is not an instant.
    #[inline]
    pub fn parse_any(&mut self, text: &str) -> Option<i64> {
        self.parse(text).or_else(|| read_iso(text, self.zone).ok())
    }

    /// Parses `text` (µs); `None` if it is not RFC 3339 or is outside the calendar in UTC.
    #[inline]
    pub fn parse(&mut self, text: &str) -> Option<i64> {
        self.read(text).filter(|micros| is_in_calendar(*micros))
    }

    /// Parses `text` without the bound.
    #[inline(always)]
    fn read(&mut self, text: &str) -> Option<i64> {
        let bytes = text.as_bytes();
        let (date, rest) = bytes.split_first_chunk::<10>()?;
        let days = match self.last {
            Some((known, days)) if known == *date => days,
            _ => {
                let days = days_of(date)?;
                self.last = Some((*date, days));
                days
            }
        };
        let (&[separator, h1, h0, b':', m1, m0, b':', s1, s0], rest) = rest.split_first_chunk::<9>()? else {
            return None;
        };
        let (hour, minute, second) = (pair(h1, h0), pair(m1, m0), pair(s1, s0));
        if separator | 0x20 != b't' || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let (fraction, offset) = match *rest {
            // The most common form: milliseconds, UTC.
            [b'.', a, b, c, b'Z'] if pair(a, b) < 100 && c.is_ascii_digit() => {
                (i64::from(pair(a, b) * 10 + u32::from(c - b'0')) * 1000, 0)
            }
            [b'Z'] => (0, 0),
            [b',', ..] => return None,
            _ => {
                let (fraction, rest) = fraction_of(rest)?;
                let is_strict = matches!(rest, [b'Z' | b'z'] | [_, _, _, b':', _, _]);
                let east = if is_strict { offset(rest) } else { None };
                // There is no text of an offset, or the offset does not exist.
                (fraction, east.flatten()?)
            }
        };
        let within = if second == 60 { 60 * SECOND - 1 } else { i64::from(second) * SECOND + fraction };
        Some(days * DAY + i64::from(hour) * HOUR + i64::from(minute) * MINUTE + within - offset)
    }
}

/// Returns the number of two digits; 100 or more if one is not a digit.
#[inline(always)]
fn pair(tens: u8, ones: u8) -> u32 {
    let (tens, ones) = (u32::from(tens.wrapping_sub(b'0')), u32::from(ones.wrapping_sub(b'0')));
    if tens > 9 || ones > 9 { 100 } else { tens * 10 + ones }
}

/// Parses `text` (µs); `None` if it is not RFC 3339 or is outside the calendar in UTC.
pub fn parse_instant(text: &str) -> Option<i64> {
    Parser::default().parse(text)
}

/// Returns the days from 1970-01-01 to the date `YYYY-MM-DD` of RFC 3339; `None` if it is not a date.
pub fn parse_date(text: &str) -> Option<i64> {
    days_of(text.as_bytes().try_into().ok()?)
}

/// Formats an instant as RFC 3339 UTC with six digits: `2024-01-15T10:00:00.000000Z`. A year outside 0000–9999 gets its
/// sign.
pub fn format_instant(micros: i64) -> String {
    let mut out = String::with_capacity(27);
    write_instant(&mut out, micros);
    out
}

/// Appends the text of [`format_instant`].
pub fn write_instant(out: &mut String, micros: i64) {
    write_date(out, micros.div_euclid(DAY));
    let within = micros.rem_euclid(DAY);
    for (mark, value, width) in [
        ('T', within / HOUR, 2),
        (':', within / MINUTE % 60, 2),
        (':', within / SECOND % 60, 2),
        ('.', within % SECOND, 6),
    ] {
        out.push(mark);
        digits(out, value, width);
    }
    out.push('Z');
}

/// Appends the date of a number of days from 1970-01-01; a year outside 0000–9999 gets its sign.
pub fn write_date(out: &mut String, days: i64) {
    let CivilDate { year, month, day } = civil_from_days(days);
    if (0..=9999).contains(&year) {
        digits(out, year, 4);
    } else {
        out.push_str(&format!("{year:+05}"));
    }
    for value in [month, day] {
        out.push('-');
        digits(out, value, 2);
    }
}

fn digits(out: &mut String, value: i64, width: u32) {
    for place in (0..width).rev() {
        let digit = value / 10i64.pow(place) % 10;
        out.push(char::from(b'0' + digit as u8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for micros in [0, -1, 1, 1_447_200_000_123_456, super::super::EARLIEST, super::super::LATEST] {
            assert_eq!(parse_instant(&format_instant(micros)), Some(micros));
        }
    }

    #[test]
    fn an_instant_outside_the_calendar_in_utc_is_refused_whatever_its_own_year_says() {
        for text in ["0001-01-01T00:00:00+01:00", "0000-06-01T00:00:00Z", "9999-12-31T23:59:59-00:01"] {
            assert_eq!(parse_instant(text), None, "{text}");
        }
        for micros in [super::super::EARLIEST - 1, super::super::LATEST + 1] {
            assert_eq!(parse_instant(&format_instant(micros)), None);
        }
        assert_eq!(parse_instant("0000-12-31T23:00:00-01:00"), Some(super::super::EARLIEST));
        assert_eq!(parse_instant("9999-12-31T23:59:60Z"), Some(super::super::LATEST));
    }

    #[test]
    fn only_rfc_3339_is_an_exact_instant() {
        for text in
            ["2026-01-01", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00,5Z", "2026-01-01T00:00Z"]
        {
            assert_eq!((parse_instant(text), Parser::default().parse_any(text).is_some()), (None, true), "{text}");
        }
    }

    #[test]
    fn a_leap_second_is_the_last_microsecond_before_it() {
        assert_eq!(parse_instant("1990-12-31T23:59:60Z"), parse_instant("1990-12-31T23:59:59.999999Z"));
    }

    #[test]
    fn text_cut_at_any_byte_is_refused() {
        let text = "1985-04-12T23:20:50.52+01:30";
        assert!(parse_instant(text).is_some());
        for end in 0..text.len() {
            assert_eq!(parse_instant(&text[..end]), None);
        }
    }
}
