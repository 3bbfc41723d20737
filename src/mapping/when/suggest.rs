//! Suggests `--time` flags when the first record has no time: lists the fields that read as times.

use crate::json::text::unescape;
use crate::json::walk::members;
use crate::mapping::envelope::Value;
use crate::time::{DAY, parse_instant};

/// Returns up to five fields of the record `text` (a JSON object) that read as times, each as the flags that select it.
pub fn time_fields(text: &str) -> Vec<String> {
    let mut found = vec![];
    visit(text, "", 0, &mut found);
    found
}

fn visit(object: &str, prefix: &str, depth: u32, found: &mut Vec<String>) {
    members(object, |key, value| {
        let path = format!("{prefix}{}", unescape(key));
        match Value::of(value) {
            Value::Other(inner) if inner.starts_with('{') && depth < 3 => {
                let inside = if depth == 0 && path == "properties" { String::new() } else { format!("{path}.") };
                visit(inner, &inside, depth + 1, found);
            }
            value => found.extend(flags(value).map(|flags| format!("--time {path}{flags}"))),
        }
        found.len() < 5
    });
}

/// Returns the flags, beside `--time`, with which a value reads as a time; `None` if no flags do. A number must be an
/// instant between 1990 and 2100.
pub(super) fn flags(value: Value<'_>) -> Option<String> {
    match value {
        Value::Plain(text) if parse_instant(text).is_some() => Some(String::new()),
        Value::Plain(text) => format_of(text).map(|format| format!(" --time-format '{format}'")),
        Value::Other(number) => unit_of(number).map(|unit| format!(" --time-unit {unit}")),
        _ => None,
    }
}

/// Returns the first unit in which a number is an instant between 1990 and 2100.
fn unit_of(number: &str) -> Option<&'static str> {
    let value: f64 = number.parse().ok()?;
    let (from, to) = (20.0 * 365.25, 130.0 * 365.25);
    let day = DAY as f64 / 1e6;
    [("s", day), ("ms", day * 1e3), ("us", day * 1e6), ("ns", day * 1e9)]
        .into_iter()
        .find(|(_, scale)| (from * scale..to * scale).contains(&value))
        .map(|(unit, _)| unit)
}

fn format_of(text: &str) -> Option<&'static str> {
    let date = "%Y-%m-%d";
    let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S%.f", "%m/%d/%Y %H:%M"];
    let known = formats.into_iter().find(|format| chrono::NaiveDateTime::parse_from_str(text, format).is_ok());
    known.or_else(|| chrono::NaiveDate::parse_from_str(text, date).is_ok().then_some(date))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_flags_to_type() {
        let record = r#"{"id":"2489368070","created_at":"2015-01-01T00:00:00Z","a":{"ts":1101258284},"day":"2014-01-01",
            "properties":{"t":1442018818771},"n":5}"#;
        assert_eq!(
            time_fields(record),
            [
                "--time created_at",
                "--time a.ts --time-unit s",
                "--time day --time-format '%Y-%m-%d'",
                "--time t --time-unit ms",
            ]
        );
    }
}
