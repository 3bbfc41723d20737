//! Reads times: RFC 3339 first, then by the flags, else as ISO 8601.

use crate::error::{Error, Result};
use crate::json::text::unescape;
use crate::mapping::envelope::Value;
use crate::time::{DAY, Parser, SECOND, TimeFault, Zone, in_zone, is_in_calendar, read_iso, shows_twice, start_of_day};
use chrono::NaiveDate;
use chrono::format::{Fixed, Item, Numeric, Parsed, StrftimeItems};
use std::fmt::Write;
use std::num::IntErrorKind;

/// The unit of times that are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// Microseconds since 1970.
    Microseconds,
    /// Nanoseconds since 1970.
    Nanoseconds,
    /// Days since 1970.
    Days,
}

impl TimeUnit {
    /// Returns the unit of a `--time-unit` word.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "s" => Self::Seconds,
            "ms" => Self::Milliseconds,
            "us" => Self::Microseconds,
            "ns" => Self::Nanoseconds,
            "d" => Self::Days,
            _ => return None,
        })
    }

    /// The units of programs, the longest first.
    pub(super) const FINE: [Self; 4] = [Self::Seconds, Self::Milliseconds, Self::Microseconds, Self::Nanoseconds];

    /// Returns its `--time-unit` word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::Nanoseconds => "ns",
            Self::Days => "d",
        }
    }

    /// Converts `number`, the text of a JSON number, to microseconds, rounded down and clamped to the range of i64.
    pub(super) fn micros(self, number: &str) -> Option<i64> {
        let (scale, divisor) = match self {
            Self::Seconds => (1_000_000, 1),
            Self::Milliseconds => (1_000, 1),
            Self::Microseconds => (1, 1),
            Self::Nanoseconds => (1, 1_000),
            Self::Days => (i128::from(DAY), 1),
        };
        let micros = match number.parse::<i64>() {
            Ok(whole) => (i128::from(whole) * scale).div_euclid(divisor),
            Err(_) => decimal(number, scale, divisor)?,
        };
        Some(micros.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }
}

/// The years in which a number without a unit may lie (µs): 1980 to 2100.
pub(super) const PLAUSIBLE: std::ops::Range<i64> = 315_532_800 * SECOND..4_102_444_800 * SECOND;

/// Reads the instant (µs) of a number in the unit in which it lies from 1980 to 2100: a thousand years are between the
/// instants of two units, so at most one fits.
pub(super) fn in_plausible_unit(number: &str) -> Option<i64> {
    TimeUnit::FINE.into_iter().filter_map(|unit| unit.micros(number)).find(|micros| PLAUSIBLE.contains(micros))
}

/// Digits of a fraction that count. More would overflow times of the calendar in nanoseconds.
const PLACES: usize = 15;

/// Computes `12.345e6` times `scale` over `divisor`, rounded down, exactly. A number beyond the calendar gives one that
/// is beyond it, too.
fn decimal(number: &str, scale: i128, divisor: i128) -> Option<i128> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = match exponent.parse() {
        Ok(exponent) => exponent,
        // Its digits do not fit.
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => i64::MAX / 2,
        Err(error) if *error.kind() == IntErrorKind::NegOverflow => i64::MIN / 2,
        Err(_) => return None,
    };
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    // The digits from this one on are the fraction; it may lie before the first digit or behind the last one.
    let point = (digits.len() as i64 - fraction.len() as i64).saturating_add(exponent);
    let end = usize::try_from(point.saturating_add(PLACES as i64)).unwrap_or(0);
    let (kept, cut) = digits.split_at(end.min(digits.len()));
    let zeros = if kept.is_empty() { 0 } else { end - kept.len() };
    let mut kept = kept.bytes().map(|digit| i128::from(digit - b'0')).chain(std::iter::repeat_n(0, zeros));
    let unscaled = kept.try_fold(0i128, |sum, digit| sum.checked_mul(10)?.checked_add(digit));
    let below = i128::from(sign < 0 && cut.bytes().any(|digit| digit != b'0'));
    let scaled = unscaled.and_then(|unscaled| (sign * unscaled - below).checked_mul(scale));
    Some(scaled.map_or(sign * i128::MAX, |scaled| scaled.div_euclid(10i128.pow(PLACES as u32) * divisor)))
}

/// A zone whose clocks never show the time of UTC.
const FAR: &str = "Pacific/Kiritimati";

/// The flags `--time-unit`, `--time-format` and `--time-zone`.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// The unit of numbers; without it and without a format, a number has the unit in which it lies from 1980 to 2100.
    pub unit: Option<TimeUnit>,
    /// The format (strftime) of text that is not RFC 3339; without it text is ISO 8601.
    pub format: Option<String>,
    /// The zone of text without one; UTC by default.
    pub zone: Option<Zone>,
}

impl When {
    /// Looks up a zone of the IANA database.
    ///
    /// Errors: exit status 2 if there is none of that name.
    pub fn zone(name: &str) -> Result<Zone> {
        name.parse().map_err(|fault| Error::usage(format!("--time-zone: {fault}")))
    }

    /// Checks the format.
    ///
    /// Errors: exit status 2 if the format would misread a part of a text or ignore it, or does not name a day.
    pub fn check(&self) -> Result<()> {
        let Some(format) = &self.format else { return Ok(()) };
        let refused = |why: &str| Err(Error::usage(format!("--time-format {format}: {why}")));
        let (mut is_after_point, mut has_zone) = (false, false);
        for item in StrftimeItems::new(format) {
            match &item {
                Item::Numeric(Numeric::Nanosecond, _) if is_after_point => {
                    return refused(".%f reads the digits as nanoseconds; use %.f for a fraction");
                }
                item if is_zone(item) && std::mem::replace(&mut has_zone, true) => return refused("it has %Z twice"),
                _ => {}
            }
            is_after_point = matches!(&item, Item::Literal(text) if text.ends_with('.'));
        }
        match lacks(format) {
            Some(part) => refused(&format!("it names no {part}, so no text has an instant")),
            None => Ok(()),
        }
    }

    /// Whether a flag says what numbers mean, by a unit or by seconds since 1970 in the format.
    pub(in crate::mapping) fn names_unit(&self) -> bool {
        let is_seconds = |item| matches!(item, Item::Numeric(Numeric::Timestamp, _));
        self.unit.is_some() || self.format.as_deref().is_some_and(|format| StrftimeItems::new(format).any(is_seconds))
    }

    /// Reads the instant (µs) of a value. `None` if the value is absent, is not a time, or is outside the calendar
    /// (years 1 to 9999).
    pub(in crate::mapping) fn read(&self, value: Value<'_>, parser: &mut Parser) -> Option<i64> {
        let instant = match value {
            Value::Absent => None,
            Value::Plain(text) => parser.parse(text).or_else(|| self.text(text).ok()),
            Value::Escaped(raw) => {
                let text = unescape(raw);
                parser.parse(&text).or_else(|| self.text(&text).ok())
            }
            // A date like 20260102 may be a number.
            Value::Other(number) if self.unit.is_none() && is_number(number) => self.text(number).ok(),
            Value::Other(number) => self.number(number),
        };
        instant.filter(|instant| is_in_calendar(*instant))
    }

    /// Whether a value has a local time that the clocks of the zone show twice, `instant` being the first one.
    pub(in crate::mapping) fn is_doubled(&self, value: Value<'_>, instant: i64) -> bool {
        self.zone.is_some_and(|zone| shows_twice(instant, zone)) && self.is_local(value)
    }

    /// Whether a value that is a time is text without an offset.
    pub(in crate::mapping) fn is_local(&self, value: Value<'_>) -> bool {
        let (Value::Plain(text) | Value::Escaped(text)) = value else { return false };
        if self.format.as_deref().is_some_and(has_zone) {
            return false;
        }
        // A text with an offset is the same instant in every zone. Other zones than these two may have the same offset.
        let text = unescape(text);
        let within =
            |zone: Option<Zone>| Self { zone, ..self.clone() }.read(Value::Plain(&text), &mut Parser::default());
        within(None) != within(FAR.parse().ok())
    }

    /// Reads the instant of a number, even outside the calendar.
    pub(super) fn number(&self, number: &str) -> Option<i64> {
        self.unit.map_or_else(|| in_plausible_unit(number), |unit| unit.micros(number))
    }

    /// Reads the instant of text that is not RFC 3339, even outside the calendar: as a number in a string (CSV has only
    /// strings), by the format, or as ISO 8601.
    pub(super) fn text(&self, text: &str) -> std::result::Result<i64, TimeFault> {
        if let Some(unit) = self.unit
            && is_number(text)
        {
            return unit.micros(text).ok_or(TimeFault::Form);
        }
        let Some(format) = self.format.as_deref() else {
            let number = |_| in_plausible_unit(text).filter(|_| is_number(text));
            return read_iso(text, self.zone).or_else(|fault| number(fault).ok_or(fault));
        };
        if let Some((is_negative, unsigned)) = signed_seconds(format, text) {
            return self.text(&unsigned).map(|micros| if is_negative { -micros } else { micros });
        }
        let mut parsed = Parsed::new();
        let abbreviation = parse(&mut parsed, text, format).ok_or(TimeFault::Form)?;
        let means_utc = abbreviation.map(|name| UTC_NAMES.contains(&name));
        let precision = complete(&mut parsed).ok_or(TimeFault::Form)?;
        // %Y reads 26 as the year 26; a text of that year has 0026.
        if let Some(year) = parsed.year().filter(|year| (-999..=999).contains(year))
            && !text.contains(&format!("{:04}", year.abs()))
        {
            return Err(TimeFault::ShortYear);
        }
        if let Some(offset) = parsed.offset() {
            // The offset decides beside an abbreviation, which must not say something else.
            if means_utc == Some(true) && offset != 0 {
                return Err(TimeFault::Form);
            }
            return Ok(parsed.to_datetime().map_err(|_| TimeFault::Form)?.timestamp_micros());
        }
        let local = parsed.to_naive_datetime_with_offset(0).map_err(|_| TimeFault::Form)?.and_utc().timestamp_micros();
        // Seconds since 1970 (%s) are the same instant in every zone.
        let is_seconds = parsed.timestamp().is_some();
        if let (Some(name), Some(false)) = (abbreviation, means_utc) {
            let zone = self.zone.ok_or(TimeFault::Abbreviation(None))?;
            let instant = match precision {
                Precision::Time if !is_seconds => zone.instant_of(local, name),
                Precision::Time => Some(local).filter(|instant| zone.abbreviation(*instant) == name),
                Precision::Day => start_of_day(local, zone).filter(|instant| zone.abbreviation(*instant) == name),
            };
            return instant.ok_or(TimeFault::Abbreviation(Some(zone)));
        }
        let is_instant = is_seconds || names_utc(format) || means_utc.is_some();
        match (self.zone.filter(|_| !is_instant), precision) {
            (None, _) => Ok(local),
            (Some(zone), Precision::Time) => in_zone(local, zone),
            (Some(zone), Precision::Day) => start_of_day(local, zone).ok_or(TimeFault::Missing("day")),
        }
    }
}

/// The abbreviations that mean UTC in every zone.
const UTC_NAMES: [&str; 3] = ["UTC", "GMT", "Z"];

/// Whether an item reads the abbreviation of a zone (`%Z`).
fn is_zone(item: &Item<'_>) -> bool {
    matches!(item, Item::Fixed(Fixed::TimezoneName))
}

/// Whether a format reads the abbreviation of a zone.
fn has_zone(format: &str) -> bool {
    format.contains("%Z") && StrftimeItems::new(format).any(|item| is_zone(&item))
}

/// Parses a text by a format; `None` if it has another form. Returns the abbreviation that `%Z` reads: letters, or the
/// digits of a zone that has no letters (`+03`). chrono would pass over it.
fn parse<'t>(parsed: &mut Parsed, text: &'t str, format: &str) -> Option<Option<&'t str>> {
    let mut items = StrftimeItems::new(format);
    if !has_zone(format) {
        return chrono::format::parse(parsed, text, items).ok().map(|()| None);
    }
    let before: Vec<Item<'_>> = items.by_ref().take_while(|item| !is_zone(item)).collect();
    let rest = chrono::format::parse_and_remainder(parsed, text, before.iter()).ok()?;
    let is_part = |char: char| char.is_ascii_alphanumeric() || matches!(char, '+' | '-');
    let (name, rest) = rest.split_at(rest.find(|char| !is_part(char)).unwrap_or(rest.len()));
    chrono::format::parse(parsed, rest, items).ok().filter(|()| !name.is_empty())?;
    Some(Some(name))
}

/// Returns whether the seconds since 1970 in a text are negative, and the text without their sign. `None` if they have
/// none, or if the format has none of them (%s) behind literal text: chrono reads only digits.
fn signed_seconds(format: &str, text: &str) -> Option<(bool, String)> {
    let before = format.split_once("%s")?.0;
    let signed = text.strip_prefix(before).filter(|_| !before.contains('%'))?;
    let unsigned = signed.strip_prefix(['+', '-']).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))?;
    Some((signed.starts_with('-'), format!("{before}{unsigned}")))
}

/// Whether a format has the letters of UTC, as in `%H:%M:%SZ`: its texts have an offset, although no part of it is
/// read.
fn names_utc(format: &str) -> bool {
    format.ends_with('Z') && !format.ends_with("%Z") || format.contains("GMT") || format.contains("UTC")
}

/// Whether a text is a JSON number.
pub(super) fn is_number(text: &str) -> bool {
    crate::json::scan::number_end(text.as_bytes(), 0) == Some(text.len())
}

/// How much of an instant a text has.
#[derive(Clone, Copy)]
enum Precision {
    /// A date, which means the first instant of its day.
    Day,
    /// A time of day, too, or seconds since 1970.
    Time,
}

/// Fills in what a format leaves out: a year means its first day, a month too, a date midnight, an hour its first
/// minute. Returns `None` if a part is present without a larger one, or a 12-hour hour without AM or PM.
fn complete(parsed: &mut Parsed) -> Option<Precision> {
    if parsed.timestamp().is_some() {
        return Some(Precision::Time);
    }
    let days = [
        parsed.day(),
        parsed.quarter(),
        parsed.ordinal(),
        parsed.isoweek(),
        parsed.week_from_sun(),
        parsed.week_from_mon(),
    ];
    let is_year_or_month = parsed.year().is_some() && days.iter().all(Option::is_none) && parsed.weekday().is_none();
    if is_year_or_month && parsed.hour_mod_12().is_none() {
        if parsed.month().is_none() {
            parsed.set_month(1).ok()?;
        }
        parsed.set_day(1).ok()?;
    }
    let hour = match (parsed.hour_div_12(), parsed.hour_mod_12()) {
        (None, None) => None,
        (Some(_), Some(hour)) => Some(hour),
        _ => return None,
    };
    let smaller = [parsed.minute(), parsed.second(), parsed.nanosecond()];
    let is_gap = |pair: &[Option<u32>]| pair[0].is_none() && pair[1].is_some();
    if hour.is_none() && smaller[0].is_some() || smaller.windows(2).any(is_gap) {
        return None;
    }
    if hour.is_none() {
        parsed.set_hour(0).ok()?;
    }
    if smaller[0].is_none() {
        parsed.set_minute(0).ok()?;
    }
    Some(if hour.is_none() { Precision::Day } else { Precision::Time })
}

/// Returns the part of a date that a format leaves out: a text that has the format reads as no instant.
fn lacks(format: &str) -> Option<&'static str> {
    let sample = NaiveDate::from_ymd_opt(2001, 2, 3)?.and_hms_opt(16, 5, 6)?.and_utc();
    let reads = |format: &str| {
        let mut text = String::new();
        let written = write!(text, "{}", sample.format_with_items(StrftimeItems::new(format)));
        let when = When { format: Some(format.to_owned()), ..When::default() };
        written.is_ok() && when.text(&text).is_ok()
    };
    if reads(format) {
        return None;
    }
    let with = |more: &str| reads(&format!("{more} {format}"));
    [
        ("%Y", "year"),
        ("%m", "month"),
        ("%d", "day"),
        ("%p", "AM or PM (%p)"),
        ("%m %d", "month and day"),
        ("%F", "date"),
    ]
    .into_iter()
    .find(|(more, _)| with(more))
    .map_or(Some("whole date"), |(_, part)| Some(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::when::unreadable;

    fn read(when: &When, value: Value<'_>) -> Option<i64> {
        when.read(value, &mut Parser::default())
    }

    #[test]
    fn numbers_need_a_unit_and_keep_their_digits() {
        assert_eq!(read(&When::default(), Value::Other("5")), None);
        for number in ["1772323200", "1772323200000", "1772323200000000", "1772323200000000000", "1.7723232e9"] {
            for value in [Value::Other(number), Value::Plain(number)] {
                assert_eq!(read(&When::default(), value), Some(1_772_323_200_000_000), "{number}");
            }
        }
        for other in ["315532799", "4102444800", "20260301", "20260301000000", "-1772323200", "0"] {
            assert_eq!(read(&When::default(), Value::Other(other)), None, "{other}");
        }
        let unit = |unit| When { unit: Some(unit), ..When::default() };
        assert_eq!(read(&unit(TimeUnit::Seconds), Value::Other("1101258284")), Some(1_101_258_284_000_000));
        assert_eq!(read(&unit(TimeUnit::Seconds), Value::Other("1.0000019")), Some(1_000_001));
        assert_eq!(read(&unit(TimeUnit::Milliseconds), Value::Plain("-1")), Some(-1000));
        assert_eq!(read(&unit(TimeUnit::Nanoseconds), Value::Other("-1")), Some(-1));
        assert_eq!(read(&unit(TimeUnit::Days), Value::Other("16071")), Some(16_071 * DAY));
        assert_eq!(read(&unit(TimeUnit::Seconds), Value::Other("1e9")), Some(1_000_000_000_000_000));
        for none in ["true", "{}"] {
            assert_eq!(read(&unit(TimeUnit::Seconds), Value::Other(none)), None, "{none}");
        }
        for beyond in
            ["9e99", "-1e400", "99999999999999999999", "9223372036854775807", "-62135596801", "253402300800.0"]
        {
            assert_eq!(read(&unit(TimeUnit::Seconds), Value::Other(beyond)), None, "{beyond}");
            let message = unreadable(&unit(TimeUnit::Seconds), "t", Value::Other(beyond)).message;
            assert!(message.contains("outside the years"), "{message}");
        }
    }

    #[test]
    fn numbers_are_read_exactly_and_rounded_down() {
        use TimeUnit::{Days, Microseconds, Milliseconds, Nanoseconds, Seconds};
        for (number, unit, micros) in [
            ("1.762964535943952e+18", Nanoseconds, Some(1_762_964_535_943_952)),
            ("1762964535943952999.9", Nanoseconds, Some(1_762_964_535_943_952)),
            ("1.7629645359439519999E18", Nanoseconds, Some(1_762_964_535_943_951)),
            ("2.9742151278655993E+16", Microseconds, Some(29_742_151_278_655_993)),
            ("1767225600.123456789012345", Seconds, Some(1_767_225_600_123_456)),
            ("1767225600.000000000000000000000000000001", Seconds, Some(1_767_225_600_000_000)),
            ("17672256001234567e-7", Seconds, Some(1_767_225_600_123_456)),
            ("20454.5", Days, Some(20_454 * DAY + DAY / 2)),
            ("+0.05e2", Milliseconds, Some(5_000)),
            ("-0.0000001", Seconds, Some(-1)),
            ("-1.0000000000000000001", Seconds, Some(-1_000_001)),
            ("-1e-30", Seconds, Some(-1)),
            ("1e-99999999999999999999", Seconds, Some(0)),
            ("0e99999999999999999999", Seconds, Some(0)),
            ("1e99999999999999999999", Seconds, Some(i64::MAX)),
            ("-1e400", Nanoseconds, Some(i64::MIN)),
            ("e5", Seconds, None),
            ("1e", Seconds, None),
            ("", Seconds, None),
            ("1.5.2", Seconds, None),
            ("1.00000000000000000x", Seconds, None),
        ] {
            assert_eq!(unit.micros(number), micros, "{number} {unit:?}");
        }
    }

    #[test]
    fn formats_read_local_times_in_their_zone() {
        let when = When { format: Some("%Y-%m-%d %H:%M:%S".into()), zone: None, unit: None };
        assert_eq!(read(&when, Value::Plain("2010-12-01 08:26:00")), Some(1_291_191_960_000_000));
        let berlin = When { zone: Some(When::zone("Europe/Berlin").unwrap()), ..when };
        assert_eq!(read(&berlin, Value::Plain("2010-12-01 08:26:00")), Some(1_291_188_360_000_000));
        let west = When { zone: Some(When::zone("America/New_York").unwrap()), ..berlin };
        assert_eq!(read(&west, Value::Plain("9999-12-31 23:00:00")), None);
        assert!(unreadable(&west, "t", Value::Plain("9999-12-31 23:00:00")).message.contains("outside the years"));
        let day = When { format: Some("%Y-%m-%d".into()), ..When::default() };
        assert_eq!(read(&day, Value::Plain("1970-01-02")), Some(DAY));
    }

    #[test]
    fn a_year_of_two_digits_is_no_year_of_four() {
        let read = |format: &str, text| read(&When { format: Some(format.into()), ..When::default() }, text);
        for (format, text) in [("%Y/%m/%d", "1/2/26"), ("%d.%m.%Y", "13.01.26"), ("%d-%b-%Y", "02-Jan-126")] {
            assert_eq!(read(format, Value::Plain(text)), None, "{text}");
            let when = When { format: Some(format.into()), ..When::default() };
            let message = unreadable(&when, "t", Value::Plain(text)).message;
            assert!(message.contains("%Y needs a year of four digits"), "{message}");
        }
        assert!(read("%Y-%m-%d", Value::Plain("0026-01-02")).is_some());
        let day = read("%Y%m%d", Value::Other("20260102"));
        assert!(day.is_some() && day == read("%d.%m.%y", Value::Plain("02.01.26")));
    }

    #[test]
    fn a_format_without_a_whole_date_is_found() {
        for (format, part) in
            [("%b %d %T", "year"), ("%H:%M", "date"), ("%Y-%m-%d %I:%M", "AM or PM (%p)"), ("%Y-%d", "month")]
        {
            assert_eq!(lacks(format), Some(part), "{format}");
        }
        for format in ["%s", "%s%.3f", "%Y-%m-%d", "%F %T %z", "%Y%j", "%Y-%m-%d %H", "%c"] {
            assert_eq!(lacks(format), None, "{format}");
        }
    }
}
