//! Messages about values that do not read as times.

use super::reader::{When, is_number};
use super::suggest;
use crate::json::text::unescape;
use crate::mapping::envelope::Value;
use crate::mapping::path::shown;
use crate::time::{TimeFault, read_iso};
use std::borrow::Cow;

/// Returns the message about a value that does not read as a time: what is expected, and the cause or the flag that reads it.
pub(in crate::mapping) fn message(when: &When, name: &str, value: Value<'_>) -> String {
    let expected = match (&when.format, value) {
        (Some(format), Value::Plain(_) | Value::Escaped(_)) => format!("a time in the format '{format}'"),
        _ => "a time like 2024-01-15T10:00:00Z".to_owned(),
    };
    let cause = cause(when, value).map_or_else(String::new, |cause| format!("; {cause}"));
    format!("{name}: expected {expected}, found {}{cause}", shown(value))
}

fn cause(when: &When, value: Value<'_>) -> Option<String> {
    let text = match value {
        Value::Plain(text) | Value::Escaped(text) => unescape(text),
        Value::Other(text) if is_number(text) => Cow::Borrowed(text),
        Value::Absent | Value::Other(_) => return None,
    };
    let is_text = !matches!(value, Value::Other(_));
    let fault = match is_text {
        true => when.text(&text).err().unwrap_or(TimeFault::Beyond),
        false => when.number(&text).map_or(TimeFault::Form, |_| TimeFault::Beyond),
    };
    if let Some(cause) = fault.cause() {
        return Some(cause);
    }
    if let Some(cause) = read_iso(&text, when.zone).err().and_then(TimeFault::cause).filter(|_| is_text) {
        return Some(cause);
    }
    if is_text && suggest::names_no_year(&text) {
        return Some("it names no year (-f syslog has --time-year)".to_owned());
    }
    let found = suggest::flags(value);
    if found.is_empty() && is_number(&text) && when.unit.is_none() {
        return Some("a number needs --time-unit s|ms|us|ns|d".to_owned());
    }
    let found: Vec<_> = found.iter().map(|flags| flags.trim()).filter(|flags| !flags.is_empty()).collect();
    (!found.is_empty()).then(|| format!("{} reads it", found.join(" or ")))
}
