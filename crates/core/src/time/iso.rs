//! Reads ISO 8601 as people and programs write it: `2024-01-15 10:00:00,5+01`, `2024-01-15T10:00Z`, `2024-01-15`.

use super::calendar::{DAY, HOUR, MINUTE, SECOND, is_in_calendar};
use super::digits::{days_of, fraction_of, two};
use super::zone::{LocalOffset, Zone};

/// Why a text is not an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFault {
    /// It does not have the form.
    Form,
    /// It has the form, but this part does not exist, such as the day of `2026-02-30`.
    Missing(&'static str),
    /// The clocks of this zone skip it.
    Skipped(Zone),
    /// Its abbreviation of a zone is ambiguous without a zone, or is none that the clocks of this zone have then.
    Abbreviation(Option<Zone>),
    /// Its year has fewer than four digits, which `%Y` of a format does not read.
    ShortYear,
    /// It is outside the years 1 to 9999 UTC.
    Beyond,
}

impl TimeFault {
    /// Returns the reason for a message; `None` if the text only has another form.
    pub fn cause(self) -> Option<String> {
        Some(match self {
            Self::Form => return None,
            Self::Missing(part) => format!("this {part} does not exist"),
            Self::Skipped(zone) => format!("this time does not exist in {zone}"),
            Self::Abbreviation(None) => {
                "several zones may have this abbreviation; --time-zone NAME says which one is meant".to_owned()
            }
            Self::Abbreviation(Some(zone)) => format!("the clocks of {zone} do not have this abbreviation then"),
            Self::ShortYear => "%Y needs a year of four digits (%y reads two)".to_owned(),
            Self::Beyond => "it is outside the years 1 to 9999 UTC".to_owned(),
        })
    }
}

/// Reads a date, alone or with a time of day after `T` or a blank. The time of day has no seconds or no fraction, which
/// begins with a point or a comma, if the text leaves them out. An offset is `Z`, `UTC`, `+01`, `+0100` or `+01:00`,
/// with or without a blank before it. Without an offset the time is in `zone`, or in UTC; a date is the first instant
/// of its day.
///
/// Errors: why the text is not an instant.
pub fn read_iso(text: &str, zone: Option<Zone>) -> Result<i64, TimeFault> {
    let bytes = text.as_bytes();
    if let Some(unsigned) = text.strip_prefix(['+', '-']) {
        // The form in which evt writes a year outside 0000–9999.
        let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
        let is_instant = digits >= 4 && read_iso(&format!("2000{}", &unsigned[digits..]), None).is_ok();
        return Err(if is_instant { TimeFault::Beyond } else { TimeFault::Form });
    }
    let (date, rest) =
        bytes.split_first_chunk::<10>().filter(|(date, _)| has_form(*date, b"0000-00-00")).ok_or(TimeFault::Form)?;
    let (time, rest) = match rest {
        [] => (None, rest),
        [b'T' | b't' | b' ', rest @ ..] => {
            let (time, rest) = time_of_day(rest).ok_or(TimeFault::Form)?;
            (Some(time), rest)
        }
        _ => return Err(TimeFault::Form),
    };
    let offset = if rest.is_empty() { None } else { Some(offset(rest).ok_or(TimeFault::Form)?) };
    let days = days_of(date).ok_or(TimeFault::Missing("day"))?;
    let local = days * DAY + time.unwrap_or(Some(0)).ok_or(TimeFault::Missing("time of day"))?;
    let instant = match (offset, zone) {
        (Some(east), _) => local - east.ok_or(TimeFault::Missing("offset"))?,
        (None, None) => local,
        (None, Some(zone)) if time.is_none() => start_of_day(local, zone).ok_or(TimeFault::Missing("day"))?,
        (None, Some(zone)) => in_zone(local, zone)?,
    };
    if is_in_calendar(instant) { Ok(instant) } else { Err(TimeFault::Beyond) }
}

/// Returns the instant (µs) of a local time (µs since 1970 as its clock shows it); the earlier one if the clock shows
/// it twice.
///
/// Errors: the clocks of the zone skip it.
pub fn in_zone(local: i64, zone: Zone) -> Result<i64, TimeFault> {
    match zone.local_offset(local) {
        LocalOffset::One(offset) | LocalOffset::Two { first: offset, .. } => Ok(local.saturating_sub(offset)),
        LocalOffset::Skipped => Err(TimeFault::Skipped(zone)),
    }
}

/// Whether the clocks of a zone show the local time of `instant` (µs) again later.
pub fn shows_twice(instant: i64, zone: Zone) -> bool {
    let offset = zone.offset(instant);
    matches!(zone.local_offset(local_of(instant, zone)), LocalOffset::Two { first, .. } if first == offset)
}

/// Returns the first instant (µs) of a day of a zone; `midnight` is the local time at which it begins. `None` if the
/// zone skips the day.
pub fn start_of_day(midnight: i64, zone: Zone) -> Option<i64> {
    if let Ok(instant) = in_zone(midnight, zone) {
        return Some(instant);
    }
    // The clocks skip midnight, so the day begins when its offset changes.
    let start = midnight.div_euclid(SECOND);
    let (mut before, mut after) = (start - 86_400, start + 86_400);
    let old = zone.offset(before * SECOND);
    while after - before > 1 {
        let middle = before.midpoint(after);
        if zone.offset(middle * SECOND) == old { before = middle } else { after = middle }
    }
    let start = after * SECOND;
    (local_of(start, zone).div_euclid(DAY) == midnight.div_euclid(DAY)).then_some(start)
}

/// Returns the local time (µs since 1970 as its clock shows it) of an instant.
pub fn local_of(instant: i64, zone: Zone) -> i64 {
    instant.saturating_add(zone.offset(instant))
}

/// Reads `10:00`, `10:00:00` or `10:00:00.5`; returns the bytes after it. The time since midnight (µs) is `None` if it
/// does not exist; a leap second is the last microsecond before it.
fn time_of_day(bytes: &[u8]) -> Option<(Option<i64>, &[u8])> {
    let (&[h1, h0, b':', m1, m0], mut rest) = bytes.split_first_chunk::<5>()? else { return None };
    let (hour, minute, mut second, mut fraction) = (two(h1, h0)?, two(m1, m0)?, 0, 0);
    if let Some((&[b':', s1, s0], after)) = rest.split_first_chunk::<3>() {
        second = two(s1, s0)?;
        (fraction, rest) = fraction_of(after)?;
    }
    let within = if second == 60 { 60 * SECOND - 1 } else { second * SECOND + fraction };
    let exists = hour <= 23 && minute <= 59 && second <= 60;
    Some((exists.then_some(hour * HOUR + minute * MINUTE + within), rest))
}

/// Reads an offset that ends the text: microseconds east of UTC, which are `None` if it does not exist.
pub(super) fn offset(bytes: &[u8]) -> Option<Option<i64>> {
    let bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
    let (sign, digits) = match bytes {
        [b'Z' | b'z'] | b"UTC" => return Some(Some(0)),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [h1, h0] => (two(h1, h0)?, 0),
        [h1, h0, m1, m0] | [h1, h0, b':', m1, m0] => (two(h1, h0)?, two(m1, m0)?),
        _ => return None,
    };
    Some((hours <= 23 && minutes <= 59).then_some(sign * (hours * HOUR + minutes * MINUTE)))
}

fn has_form(bytes: &[u8], form: &[u8]) -> bool {
    bytes.iter().zip(form).all(|(byte, form)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_instant;

    fn zone(name: &str) -> Zone {
        name.parse().unwrap()
    }

    fn utc(text: &str) -> Result<i64, TimeFault> {
        read_iso(text, None)
    }

    #[test]
    fn one_instant_has_many_forms() {
        let instant = parse_instant("2026-01-02T03:04:00Z");
        for text in [
            "2026-01-02T03:04:00Z",
            "2026-01-02 03:04:00Z",
            "2026-01-02t03:04z",
            "2026-01-02 03:04",
            "2026-01-02 03:04:00",
            "2026-01-02T04:04:00+01:00",
            "2026-01-02 04:04:00+0100",
            "2026-01-02 04:04:00 +0100",
            "2026-01-02 04:04+01",
            "2026-01-01 21:34-05:30",
            "2026-01-02 03:04:00,000",
            "2026-01-02 03:04:00.000000000 UTC",
        ] {
            assert_eq!(utc(text).ok(), instant, "{text}");
        }
        assert_eq!(utc("2026-01-02").ok(), parse_instant("2026-01-02T00:00:00Z"));
        assert_eq!(utc("2026-01-02 03:04:05,123").ok(), parse_instant("2026-01-02T03:04:05.123Z"));
    }

    #[test]
    fn other_text_has_no_form_at_any_cut() {
        let text = "2026-01-02 03:04:05.6 +01:00";
        let whole = [
            "2026-01-02",
            "2026-01-02 03:04",
            "2026-01-02 03:04:05",
            "2026-01-02 03:04:05.6",
            "2026-01-02 03:04:05.6 +01",
            text,
        ];
        for end in 0..=text.len() {
            assert_eq!(utc(&text[..end]).is_ok(), whole.contains(&&text[..end]), "{}", &text[..end]);
        }
        for text in [
            "20260102",
            "2026-1-2",
            "2026-01-02Z",
            "2026-01-02 3:04",
            "2026-01-02  03:04",
            "2026-01-02 03:04 CET",
            "é026-01-02",
        ] {
            assert_eq!(utc(text), Err(TimeFault::Form), "{text}");
        }
    }

    #[test]
    fn a_text_of_the_form_tells_what_of_it_does_not_exist() {
        for text in ["2026-02-29T00:00:00Z", "2026-13-01t00:00:00.5z", "2026-00-01 25:00:00+01:00", "2026-02-29"] {
            assert_eq!(utc(text), Err(TimeFault::Missing("day")), "{text}");
        }
        for text in ["2026-01-01T24:00:00Z", "2026-01-01 00:60", "2026-01-01T00:00:61Z"] {
            assert_eq!(utc(text), Err(TimeFault::Missing("time of day")), "{text}");
        }
        assert_eq!(utc("2026-01-01T00:00:00+24:00"), Err(TimeFault::Missing("offset")));
        for text in [
            "0001-01-01T00:00:00+01:00",
            "0000-06-01",
            "9999-12-31T23:59:59-00:01",
            "+10000-01-01T00:00:00Z",
            "-0001-01-01",
        ] {
            assert_eq!(utc(text), Err(TimeFault::Beyond), "{text}");
        }
    }

    #[test]
    fn a_time_without_an_offset_is_in_the_zone() {
        let zurich = |text| read_iso(text, Some(zone("Europe/Zurich")));
        assert_eq!(zurich("2026-07-01 12:00").ok(), parse_instant("2026-07-01T10:00:00Z"));
        assert_eq!(zurich("2026-07-01 12:00Z").ok(), parse_instant("2026-07-01T12:00:00Z"));
        assert_eq!(zurich("2026-07-01").ok(), parse_instant("2026-06-30T22:00:00Z"));
        // Clocks go from 02:00 to 03:00, and from 03:00 to 02:00.
        assert_eq!(zurich("2026-03-29 02:30"), Err(TimeFault::Skipped(zone("Europe/Zurich"))));
        assert_eq!(zurich("2026-10-25 02:30").ok(), parse_instant("2026-10-25T00:30:00Z"));
    }

    #[test]
    fn a_day_without_midnight_begins_with_its_first_instant() {
        let first = |day, name| read_iso(day, Some(zone(name))).ok();
        assert_eq!(first("2018-11-04", "America/Sao_Paulo"), parse_instant("2018-11-04T03:00:00Z"));
        // 1919-03-30 23:30 was followed by 00:30.
        assert_eq!(first("1919-03-31", "America/Toronto"), parse_instant("1919-03-31T04:30:00Z"));
        assert_eq!(read_iso("2011-12-30", Some(zone("Pacific/Apia"))), Err(TimeFault::Missing("day")));
    }
}
