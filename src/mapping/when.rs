//! How times are read: RFC 3339 first, then what the flags name.

use super::envelope::Value;
use crate::error::{Error, Result};
use crate::json::text::unescape;
use crate::time::{DAY, EARLIEST, LATEST, Parser};
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;

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
    /// The unit a word of `--time-unit` names.
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

    /// Microseconds of `number`, a JSON number's text, floored; none outside of the calendar of RFC 3339.
    fn micros(self, number: &str) -> Option<i64> {
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
        i64::try_from(micros).ok().filter(|micros| (EARLIEST..=LATEST).contains(micros))
    }
}

/// `12.345` times `scale` over `divisor`, floored, exactly; a number with an exponent goes through f64.
fn decimal(number: &str, scale: i128, divisor: i128) -> Option<i128> {
    if number.contains(['e', 'E']) {
        let micros = (number.parse::<f64>().ok()? * scale as f64 / divisor as f64).floor();
        return (micros.abs() < 1e18).then_some(micros as i128);
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = &fraction[..fraction.len().min(18)];
    let digits = format!("{whole}{fraction}");
    let unscaled = digits.parse::<i128>().ok().filter(|n| n.unsigned_abs() < 1 << 80)?;
    let places = 10i128.pow(fraction.len() as u32);
    Some((unscaled.checked_mul(scale)?).div_euclid(places * divisor))
}

/// What the flags `--time-unit`, `--time-format` and `--time-zone` say.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// The unit of numbers; without it a number is no time.
    pub unit: Option<TimeUnit>,
    /// How text that is not RFC 3339 is read (strftime).
    pub format: Option<String>,
    /// The zone of text without one; UTC by default.
    pub zone: Option<Tz>,
}

impl When {
    /// The zone a name of the IANA database stands for; exit 2 if there is none.
    pub fn zone(name: &str) -> Result<Tz> {
        name.parse().map_err(|_| Error::usage(format!("--time-zone {name}: no such zone in the IANA database")))
    }

    /// The instant (µs) a value names.
    pub(super) fn read(&self, value: Value<'_>, parser: &mut Parser) -> Option<i64> {
        match value {
            Value::Absent => None,
            Value::Plain(text) => parser.parse(text).or_else(|| self.text(text)),
            Value::Escaped(raw) => {
                let text = unescape(raw);
                parser.parse(&text).or_else(|| self.text(&text))
            }
            Value::Other(number) => self.unit?.micros(number),
        }
    }

    /// Text that is no RFC 3339: by the format, or a number in a string (CSV has no other).
    fn text(&self, text: &str) -> Option<i64> {
        if let Some(unit) = self.unit
            && crate::json::scan::number_end(text.as_bytes(), 0) == Some(text.len())
        {
            return unit.micros(text);
        }
        let format = self.format.as_deref()?;
        if let Ok(instant) = DateTime::parse_from_str(text, format) {
            return Some(instant.timestamp_micros());
        }
        let local = NaiveDateTime::parse_from_str(text, format)
            .or_else(|_| NaiveDate::parse_from_str(text, format).map(|date| date.and_time(NaiveTime::MIN)))
            .ok()?;
        match self.zone {
            None => Some(local.and_utc().timestamp_micros()),
            Some(zone) => zone.from_local_datetime(&local).earliest().map(|instant| instant.timestamp_micros()),
        }
    }

    /// What a person can do about a value that does not read as a time.
    pub(super) fn advice(&self, value: Value<'_>) -> &'static str {
        match (value, self.unit, &self.format) {
            (Value::Other(text), None, _) if !text.starts_with(['{', '[', 't', 'f']) => {
                "a number needs --time-unit s|ms|us|ns|d"
            }
            (Value::Plain(_) | Value::Escaped(_), _, None) => "text that is not RFC 3339 needs --time-format",
            _ => "it does not read as an instant",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(when: &When, value: Value<'_>) -> Option<i64> {
        when.read(value, &mut Parser::default())
    }

    #[test]
    fn numbers_need_a_unit_and_keep_their_digits() {
        assert_eq!(read(&When::default(), Value::Other("5")), None);
        let unit = |unit| When { unit: Some(unit), ..When::default() };
        assert_eq!(read(&unit(TimeUnit::Seconds), Value::Other("1101258284")), Some(1_101_258_284_000_000));
        assert_eq!(read(&unit(TimeUnit::Seconds), Value::Other("1.0000019")), Some(1_000_001));
        assert_eq!(read(&unit(TimeUnit::Milliseconds), Value::Plain("-1")), Some(-1000));
        assert_eq!(read(&unit(TimeUnit::Nanoseconds), Value::Other("-1")), Some(-1));
        assert_eq!(read(&unit(TimeUnit::Days), Value::Other("16071")), Some(16_071 * DAY));
        assert_eq!(read(&unit(TimeUnit::Seconds), Value::Other("1e9")), Some(1_000_000_000_000_000));
        for beyond in ["9e99", "99999999999999999999", "9223372036854775807", "true", "{}"] {
            assert_eq!(read(&unit(TimeUnit::Seconds), Value::Other(beyond)), None, "{beyond}");
        }
    }

    #[test]
    fn formats_read_local_times_in_their_zone() {
        let when = When { format: Some("%Y-%m-%d %H:%M:%S".into()), zone: None, unit: None };
        assert_eq!(read(&when, Value::Plain("2010-12-01 08:26:00")), Some(1_291_191_960_000_000));
        let berlin = When { zone: Some(When::zone("Europe/Berlin").unwrap()), ..when };
        assert_eq!(read(&berlin, Value::Plain("2010-12-01 08:26:00")), Some(1_291_188_360_000_000));
        let day = When { format: Some("%Y-%m-%d".into()), ..When::default() };
        assert_eq!(read(&day, Value::Plain("1970-01-02")), Some(DAY));
    }
}
