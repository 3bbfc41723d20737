//! Messages about values that do not read as times.

use super::reader::{When, is_number};
use super::suggest::{self, TimeSamples};
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
    let found = suggest::flags(value);
    let found: Vec<_> = found.iter().map(|flags| flags.trim()).filter(|flags| !flags.is_empty()).collect();
    let proposal = (!found.is_empty()).then(|| format!("{} reads it", found.join(" or ")));
    if let Some(cause) = fault.cause() {
        return Some(match proposal.filter(|_| fault == TimeFault::ShortYear) {
            Some(proposal) => format!("{cause}; {proposal}"),
            None => cause,
        });
    }
    if let Some(cause) = read_iso(&text, when.zone).err().and_then(TimeFault::cause).filter(|_| is_text) {
        return Some(cause);
    }
    if is_text && suggest::names_no_year(&text) {
        return Some("it names no year (-f syslog has --time-year)".to_owned());
    }
    if found.is_empty() && is_number(&text) && when.unit.is_none() {
        return Some("a number needs --time-unit s|ms|us|ns|d".to_owned());
    }
    proposal.or_else(|| {
        let is_date = is_text && suggest::may_be_date(&text);
        is_date.then(|| "no known format reads it; --time-format FORMAT (strftime) names one".to_owned())
    })
}

/// Returns the message about the first of several records without a readable time, with the flags that read all or most of them.
/// `time` is the field with the time.
pub fn of_samples(message: &str, time: &str, samples: &TimeSamples) -> String {
    let missing = format!("{time}: missing or null; ");
    if message.starts_with(&missing) {
        let way_out = match (samples.way_out(), samples.explode()) {
            (way_out, None) => way_out,
            (way_out, Some(explode)) if way_out.starts_with("use ") => format!("{way_out}; {explode}"),
            (_, Some(explode)) => explode,
        };
        return format!("{missing}{way_out}");
    }
    let is_proposal = |(_, tail): &(&str, &str)| tail.ends_with(" reads it");
    let of_first = message.rsplit_once("; --time-").filter(is_proposal).map_or(message, |(head, _)| head);
    match samples.reads(time).filter(|_| message.starts_with(&format!("{time}: "))) {
        Some(proposal) => format!("{of_first}; {proposal}"),
        None => message.to_owned(),
    }
}
