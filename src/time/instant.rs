//! Reads and writes RFC 3339 instants.

use super::calendar::{DAY, HOUR, MINUTE, SECOND, civil_from_days, days_from_civil, days_in_month, is_in_calendar};
use super::duration::parse_duration;
use crate::error::{Error, Result};

/// Reads RFC 3339 instants; caches the last date, because a stream's dates repeat (saves 3 % of a whole parse).
#[derive(Clone, Debug, Default)]
pub struct Parser {
    /// The last date, and its days since 1970.
    last: Option<([u8; 10], i64)>,
}

impl Parser {
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
            _ => {
                let (fraction, rest) = fraction_of(rest)?;
                (fraction, offset_of(rest)?)
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

/// Whether `text` has the form of RFC 3339, or of [`write_instant`] for other years, and is an instant outside the
/// calendar; for messages about a refused text.
pub fn is_beyond_calendar(text: &str) -> bool {
    let Some(unsigned) = text.strip_prefix(['+', '-']) else {
        return Parser::default().read(text).is_some_and(|micros| !is_in_calendar(micros));
    };
    let year = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    year >= 4 && Parser::default().read(&format!("2000{}", &unsigned[year..])).is_some()
}

/// Returns the part that does not exist (such as the day) of a text in the form of RFC 3339, for messages about a
/// refused text. `None` if the text has another form or is an instant.
pub fn missing_part(text: &str) -> Option<&'static str> {
    let (date, rest) = text.as_bytes().split_first_chunk::<10>()?;
    let time = rest.first_chunk::<9>()?;
    let is_form = |bytes: &[u8], form: &[u8]| {
        bytes.iter().zip(form).all(|(byte, form)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form })
    };
    let has_form = is_form(date, b"0000-00-00") && time[0] | 0x20 == b't' && is_form(&time[1..], b"00:00:00");
    let (_, offset) = fraction_of(rest.get(9..)?).filter(|_| has_form)?;
    let is_offset = match offset {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', hours @ ..] => hours.len() == 5 && is_form(hours, b"00:00"),
        _ => false,
    };
    let reads = |text: &str| Parser::default().read(text).is_some();
    if !is_offset || reads(text) {
        return None;
    }
    let (is_day, is_time) = (days_of(date).is_some(), reads(&format!("{}Z", &text[..19])));
    Some(if !is_day {
        "day"
    } else if !is_time {
        "time of day"
    } else {
        "offset"
    })
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
}

/// Returns the days from 1970-01-01 to the date `YYYY-MM-DD` of RFC 3339; `None` if it is not a date.
pub fn parse_date(text: &str) -> Option<i64> {
    days_of(text.as_bytes().try_into().ok()?)
}

fn days_of(date: &[u8; 10]) -> Option<i64> {
    let &[y3, y2, y1, y0, b'-', m1, m0, b'-', d1, d0] = date else { return None };
    let (year, month, day) = (two(y3, y2)? * 100 + two(y1, y0)?, two(m1, m0)?, two(d1, d0)?);
    let known = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    known.then(|| days_from_civil(year, month, day))
}

/// Returns the microseconds of `.ffffff…` and the bytes after it; digits beyond the sixth are cut.
fn fraction_of(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let kept = digits[..count.min(6)].iter().fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Some((kept * 10i64.pow(6 - count.min(6) as u32), &digits[count..]))
}

/// Returns the offset in microseconds east of UTC.
fn offset_of(bytes: &[u8]) -> Option<i64> {
    match *bytes {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h0, b':', m1, m0] => {
            let (hour, minute) = (two(h1, h0)?, two(m1, m0)?);
            if hour > 23 || minute > 59 {
                return None;
            }
            let east = hour * HOUR + minute * MINUTE;
            Some(if sign == b'-' { -east } else { east })
        }
        _ => None,
    }
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
    let (year, month, day) = civil_from_days(micros.div_euclid(DAY));
    let within = micros.rem_euclid(DAY);
    if (0..=9999).contains(&year) {
        digits(out, year, 4);
    } else {
        out.push_str(&format!("{year:+05}"));
    }
    for (mark, value, width) in [
        ('-', month, 2),
        ('-', day, 2),
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

fn digits(out: &mut String, value: i64, width: u32) {
    for place in (0..width).rev() {
        let digit = value / 10i64.pow(place) % 10;
        out.push(char::from(b'0' + digit as u8));
    }
}

/// Parses an instant (µs): RFC 3339, or `now` with or without a duration: `now-2h`.
pub fn parse_instant_or_now(text: &str, now: i64) -> Result<i64> {
    let instant = match text.strip_prefix("now") {
        Some("") => Some(now),
        Some(rest) => Some(now.saturating_add(parse_duration(rest.strip_prefix('+').unwrap_or(rest))?)),
        None => parse_instant(text),
    };
    instant
        .filter(|instant| is_in_calendar(*instant))
        .ok_or_else(|| Error::usage(format!("expected an instant like 2024-01-15T10:00:00Z or now-2h, found '{text}'")))
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
            assert!(parse_instant(text).is_none() && is_beyond_calendar(text), "{text}");
        }
        for micros in [super::super::EARLIEST - 1, super::super::LATEST + 1] {
            let text = format_instant(micros);
            assert!(parse_instant(&text).is_none() && is_beyond_calendar(&text), "{text}");
        }
        assert_eq!(parse_instant("0000-12-31T23:00:00-01:00"), Some(super::super::EARLIEST));
        assert_eq!(parse_instant("9999-12-31T23:59:60Z"), Some(super::super::LATEST));
        for text in ["2024-01-15T10:00:00Z", "-5", "+", "9999-02-29T00:00:00Z", "-0001", ""] {
            assert!(!is_beyond_calendar(text), "{text}");
        }
    }

    #[test]
    fn a_text_of_the_form_tells_what_of_it_does_not_exist() {
        for text in ["2026-02-29T00:00:00Z", "2026-13-01t00:00:00.5z", "2026-00-01T25:00:00+01:00"] {
            assert_eq!((missing_part(text), parse_instant(text)), (Some("day"), None), "{text}");
        }
        for text in ["2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:61Z"] {
            assert_eq!((missing_part(text), parse_instant(text)), (Some("time of day"), None), "{text}");
        }
        assert_eq!(missing_part("2026-01-01T00:00:00+24:00"), Some("offset"));
        for text in ["", "2026-02-29", "2026-02-29 00:00:00Z", "2026-02-29T00:00:00", "2026-02-28T00:00:00Z", "x"] {
            assert_eq!(missing_part(text), None, "{text}");
        }
        for text in
            ["2026-02-2xT00:00:00Z", "2026-02-29T00:00:00.Z", "2026-02-29T00:00:00+0100", "é026-02-29T00:00:00Z"]
        {
            assert_eq!(missing_part(text), None, "{text}");
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
