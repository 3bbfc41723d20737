//! Suggests the `--time` flags for records without a readable time: lists the fields that read as times, and the formats and units
//! that read a value. Every suggestion has been tried by the reader of times itself.

use super::reader::{TimeUnit, When, is_number};
use crate::json::text::unescape;
use crate::json::walk::members;
use crate::mapping::envelope::Value;
use crate::time::{DAY, read_iso};

/// Formats of programs and spreadsheets, in the order in which they are tried.
const FORMATS: [&str; 28] = [
    "%d/%b/%Y:%H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S GMT",
    "%a %b %e %H:%M:%S %Y",
    "%a %b %e %H:%M:%S UTC %Y",
    "%b %e, %Y, %I:%M:%S %p",
    "%b %e, %Y",
    "%e %b %Y %H:%M:%S",
    "%e %b %Y",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%Y-%m-%d %I:%M:%S %p",
    "%Y%m%dT%H%M%S%z",
    "%Y%m%dT%H%M%SZ",
    "%Y%m%dT%H%M%S",
    "%Y-%m-%dT%H-%M-%S",
    "%Y-%m-%d-%H-%M-%S",
    "%Y-%m-%d_%H:%M:%S",
    "%d.%m.%Y %H:%M:%S%.f",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y, %H:%M:%S",
    "%d.%m.%Y",
    "%d-%m-%Y %H:%M:%S%.f",
    "%d-%m-%Y %H:%M",
    "%d-%m-%Y",
    "%d-%b-%Y %H:%M:%S%.f",
    "%d-%b-%Y",
];
/// Times of day after a date whose month and day may be in either order.
const AFTER_SLASHES: [&str; 6] = ["", " %H:%M", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p", ", %I:%M:%S %p"];
/// Dates whose order only some texts tell.
const SLASHES: [&str; 4] = ["%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y"];

/// Returns up to five ways to take the time of the record `text` (a JSON object), each as the flags to type. A number in quotes is
/// taken for a time only if nothing else is one, because it may be an id.
pub fn time_fields(text: &str) -> Vec<String> {
    let mut found = Found::default();
    visit(text, "", 0, &mut found);
    let mut ways = if found.sure.is_empty() { found.quoted } else { found.sure };
    ways.truncate(WAYS);
    ways
}

/// The number of ways to take the time that a message names.
const WAYS: usize = 5;

/// The fields of a record that read as times, as the flags to type.
#[derive(Default)]
struct Found {
    sure: Vec<String>,
    /// Numbers in quotes.
    quoted: Vec<String>,
}

fn visit(object: &str, prefix: &str, depth: u32, found: &mut Found) {
    members(object, |key, value| {
        let path = format!("{prefix}{}", unescape(key));
        match Value::of(value) {
            Value::Other(inner) if inner.starts_with('{') && depth < 3 => {
                let inside = if depth == 0 && path == "properties" { String::new() } else { format!("{path}.") };
                visit(inner, &inside, depth + 1, found);
            }
            value => {
                let ways = if matches!(value, Value::Plain(text) if is_number(text)) {
                    &mut found.quoted
                } else {
                    &mut found.sure
                };
                ways.extend(flags(value).iter().map(|flags| format!("--time {}{flags}", quoted(&path))));
            }
        }
        found.sure.len() < WAYS
    });
}

/// Returns a path as a shell reads it.
fn quoted(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-@:/".contains(&byte);
    if path.bytes().all(is_plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// Returns the flags, beside `--time`, with which a value reads as a time; several if a date may be read in several ways. A number
/// must be an instant between 1990 and 2100.
pub(super) fn flags(value: Value<'_>) -> Vec<String> {
    match value {
        Value::Plain(text) if read_iso(text, None).is_ok() => vec![String::new()],
        Value::Plain(text) | Value::Other(text) if is_number(text) => {
            unit_of(text).map(|unit| format!(" --time-unit {unit}")).into_iter().collect()
        }
        Value::Plain(text) => formats_of(text).iter().map(|format| format!(" --time-format '{format}'")).collect(),
        _ => vec![],
    }
}

/// Returns the first unit in which a number is an instant between 1990 and 2100.
fn unit_of(number: &str) -> Option<&'static str> {
    let value: f64 = number.parse().ok()?;
    let (from, to) = (20.0 * 365.25, 130.0 * 365.25);
    let day = DAY as f64 / 1e6;
    let units = [("s", day), ("ms", day * 1e3), ("us", day * 1e6), ("ns", day * 1e9)];
    let (unit, _) = units.into_iter().find(|(_, scale)| (from * scale..to * scale).contains(&value))?;
    TimeUnit::from_name(unit)?.micros(number).map(|_| unit)
}

/// Returns the formats that read a text: one, or two if a date has its month or its day first.
fn formats_of(text: &str) -> Vec<String> {
    if !text.bytes().any(|byte| byte.is_ascii_digit()) || text.len() > 64 {
        return vec![];
    }
    let reads = |format: &str| When { format: Some(format.to_owned()), ..When::default() }.text(text).is_ok();
    if let Some(format) = FORMATS.iter().find(|format| reads(format)) {
        return vec![(*format).to_owned()];
    }
    let is_short = text
        .split_once('/')
        .and_then(|(_, rest)| rest.split_once('/'))
        .is_some_and(|(_, year)| year.bytes().take_while(u8::is_ascii_digit).count() == 2);
    let dates = if is_short { &SLASHES[2..] } else { &SLASHES[..2] };
    let of_date = |date: &&str| AFTER_SLASHES.iter().map(|time| format!("{date}{time}")).find(|format| reads(format));
    dates.iter().filter_map(of_date).collect()
}

/// Whether a text is a time of syslog or the like, whose date has no year.
pub(super) fn names_no_year(text: &str) -> bool {
    let with_year = format!("2000 {text}");
    [
        "%Y %b %e %H:%M:%S%.f",
        "%Y %a %b %e %H:%M:%S%.f",
        "%Y %m-%d %H:%M:%S%.f",
        "%Y %m/%d %H:%M:%S%.f",
        "%Y %e %b %H:%M:%S%.f",
    ]
    .iter()
    .any(|format| chrono::NaiveDateTime::parse_from_str(&with_year, format).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_flags_to_type() {
        let record = r#"{"id":"2489368070","created_at":"2015-01-01 00:00","a":{"ts":1101258284},"day":"31.12.2014",
            "properties":{"my t":1442018818771},"n":5}"#;
        assert_eq!(
            time_fields(record),
            [
                "--time created_at",
                "--time a.ts --time-unit s",
                "--time day --time-format '%d.%m.%Y'",
                "--time 'my t' --time-unit ms",
            ]
        );
    }

    #[test]
    fn every_suggested_format_is_one_that_reads_and_names_a_whole_date() {
        let all = SLASHES.iter().flat_map(|date| AFTER_SLASHES.iter().map(move |time| format!("{date}{time}")));
        for format in FORMATS.iter().map(|format| (*format).to_owned()).chain(all) {
            assert!(When { format: Some(format.clone()), ..When::default() }.check().is_ok(), "{format}");
        }
    }

    #[test]
    fn an_order_that_a_text_does_not_tell_gives_two_formats() {
        assert_eq!(formats_of("31/12/2014 10:00"), ["%d/%m/%Y %H:%M"]);
        assert_eq!(formats_of("12/31/14 10:00 PM"), ["%m/%d/%y %I:%M %p"]);
        assert_eq!(formats_of("01/02/2014"), ["%m/%d/%Y", "%d/%m/%Y"]);
        assert_eq!(formats_of("17/May/2015:10:05:03 +0000"), ["%d/%b/%Y:%H:%M:%S %z"]);
        assert_eq!(formats_of("Thu, 01 Jan 2015 00:00:00 GMT"), ["%a, %d %b %Y %H:%M:%S GMT"]);
        assert!(formats_of("v1.2").is_empty());
        assert!(names_no_year("Nov  1 09:42:05") && !names_no_year("2026-11-01 09:42:05"));
    }
}
