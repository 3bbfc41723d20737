//! The time of records whose field no flag names: usual names of fields, and dates whose time of day is in another
//! field.

use super::formats::flags;
use super::reader::When;
use crate::json::text::unescape;
use crate::json::walk::members;
use crate::kind::event::{COLUMNS, column};
use crate::mapping::envelope::Value;
use crate::mapping::path::alternatives;
use crate::time::{Parser, read_iso};

/// The names of fields that are taken for the event time, in this order; upper and lower case are equal.
pub const TIME_NAMES: [&str; 14] = [
    "timestamp",
    "@timestamp",
    "time",
    "ts",
    "datetime",
    "date_time",
    "created_at",
    "createdat",
    "eventtime",
    "event_ts",
    "occurred_at",
    "logged_at",
    "_time",
    "date",
];

/// Returns the field of a record (a JSON object) that is taken for the event time where no flag names one: the first of
/// [`TIME_NAMES`] with a readable time. `None` if the record has a time of its own, or none of these.
pub fn usual_time(record: &str, when: &When) -> Option<String> {
    let own = [COLUMNS[column::SERVER_TIMESTAMP], COLUMNS[column::EVENT_TIME]];
    let (mut best, mut has_own): (Option<(usize, String)>, bool) = (None, false);
    members(record, |key, value| {
        let (name, value) = (unescape(key), Value::of(value));
        has_own |= own.contains(&name.as_ref()) && value != Value::Absent;
        let at = TIME_NAMES.iter().position(|usual| usual.eq_ignore_ascii_case(&name));
        if let Some(at) = at.filter(|at| best.as_ref().is_none_or(|(best, _)| at < best))
            && when.read(value, &mut Parser::in_zone(when.zone)).is_some()
        {
            best = Some((at, name.into_owned()));
        }
        true
    });
    best.filter(|_| !has_own).map(|(_, name)| name)
}

/// A date whose time of day is in another field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitTime {
    /// The field of the date.
    pub date: String,
    /// The flags that join both.
    pub joined: String,
    /// The flags that take midnight instead.
    pub midnight: String,
}

/// Returns the date in the field of `--time` and the time of day that another field of the record has; `None` if the
/// field has a time of day, or no other field has one.
pub fn split_time(record: &str, time: &str) -> Option<SplitTime> {
    let mut fields = vec![];
    members(record, |key, value| {
        if let Value::Plain(text) = Value::of(value) {
            fields.push((unescape(key).into_owned(), text));
        }
        true
    });
    let named = |name: &str| fields.iter().find(|(field, _)| field == name.strip_prefix("properties.").unwrap_or(name));
    let (date, day) = alternatives(time).into_iter().find_map(named)?;
    if !is_date(day) {
        return None;
    }
    let (clock, hour) = fields.iter().find(|(name, text)| name != date && is_time_of_day(text))?;
    let joined = format!("{day} {hour}");
    let more = flags(Value::Plain(&joined)).into_iter().next().unwrap_or_default();
    Some(SplitTime {
        joined: format!("--time \"={} || ' ' || {}\"{more}", quoted(date), quoted(clock)),
        midnight: format!("--time \"={}\"", quoted(date)),
        date: date.clone(),
    })
}

/// Whether a text is a date without a time of day.
fn is_date(text: &str) -> bool {
    !text.contains(':')
        && !flags(Value::Plain(text)).is_empty()
        && text.len() <= 12
        && {
            // A basic form may have hours without colons.
            read_iso(text, None).is_ok() || !text.contains(['T', ' '])
        }
        && !text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text is a time of day: `9:05`, `10:00:00.5`, `1:30 PM`.
fn is_time_of_day(text: &str) -> bool {
    let clock = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let half = text[clock.len()..].trim();
    let mut parts = clock.split(':');
    let number = |part: Option<&str>, digits: std::ops::RangeInclusive<usize>, limit: u32| {
        part.is_some_and(|part| digits.contains(&part.len()) && part.parse::<u32>().is_ok_and(|part| part < limit))
    };
    let is_clock = number(parts.next(), 1..=2, 24) && number(parts.next(), 2..=2, 60);
    let second = parts.next().map(|second| second.split_once(['.', ',']).unwrap_or((second, "0")));
    let is_second = second.is_none_or(|(whole, fraction)| {
        number(Some(whole), 2..=2, 61) && fraction.bytes().all(|digit| digit.is_ascii_digit())
    });
    is_clock && is_second && parts.next().is_none() && matches!(half, "" | "AM" | "PM" | "am" | "pm")
}

/// Returns a name as an expression has it, within double quotes of a shell.
fn quoted(name: &str) -> String {
    let is_word = name
        .bytes()
        .enumerate()
        .all(|(at, byte)| byte == b'_' || byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit());
    if is_word { name.to_owned() } else { format!("\\\"{name}\\\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_usual_name_with_a_readable_time_is_taken() {
        let found = |record: &str| usual_time(record, &When::default());
        for (record, name) in [
            (r#"{"ts":1772323200,"date":"2026-03-01"}"#, Some("ts")),
            (r#"{"time":"10:00:00","Date":"2026-03-01"}"#, Some("Date")),
            (r#"{"ts":5,"Timestamp":"2026-03-01T00:00:00Z","@timestamp":"2026-03-01T00:00:00Z"}"#, Some("Timestamp")),
            (r#"{"ts":1772323200,"server_timestamp":"2026-03-01T00:00:00Z"}"#, None),
            (r#"{"ts":1772323200,"event_time":"no time"}"#, None),
            (r#"{"ts":1772323200,"event_time":null}"#, Some("ts")),
            (r#"{"when":1772323200,"a":{"ts":1772323200}}"#, None),
        ] {
            assert_eq!(found(record).as_deref(), name, "{record}");
        }
    }

    #[test]
    fn a_date_and_a_time_of_day_are_joined() {
        for (record, time, flags) in [
            (r#"{"Datum":"2026-03-01","Zeit":"10:00:00"}"#, "Datum", Some(r#"--time "=Datum || ' ' || Zeit""#)),
            (r#"{"Datum":"2026-03-01","Zeit":"10:00"}"#, "Datum,Zeit", Some(r#"--time "=Datum || ' ' || Zeit""#)),
            (
                r#"{"d d":"01.03.2026","z":"9:05","x":"1"}"#,
                "d d",
                Some(r#"--time "=\"d d\" || ' ' || z" --time-format '%d.%m.%Y %H:%M'"#),
            ),
            (
                r#"{"d":"2026-03-01","z":"1:30:00 PM"}"#,
                "d",
                Some(r#"--time "=d || ' ' || z" --time-format '%Y-%m-%d %I:%M:%S %p'"#),
            ),
            (r#"{"d":"2026-03-01T00:00:00","z":"10:00"}"#, "d", None),
            (r#"{"d":"2026-03-01","z":"x 10:00"}"#, "d", None),
            (r#"{"d":"2026-03-01","z":"25:00"}"#, "d", None),
            (r#"{"d":"1772323200","z":"10:00"}"#, "d", None),
            (r#"{"z":"10:00"}"#, "d", None),
        ] {
            assert_eq!(split_time(record, time).map(|split| split.joined).as_deref(), flags, "{record}");
        }
    }
}
