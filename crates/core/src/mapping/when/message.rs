//! Messages about values that do not read as times.

use super::formats;
use super::reader::{When, is_number};
use super::suggest::TimeSamples;
use crate::json::text::unescape;
use crate::kind::dead::{ErrorType, Fault, TimeProposal};
use crate::mapping::envelope::Value;
use crate::mapping::path::shown;
use crate::time::{TimeFault, read_iso};
use std::borrow::Cow;

/// Returns the fault of a value that does not read as a time: what is expected, and the cause or the flag that reads
/// it.
pub(in crate::mapping) fn fault(when: &When, name: &str, value: Value<'_>) -> Fault {
    let expected = match (&when.format, value) {
        (Some(format), value) if is_read_as_text(when, value) => format!("a time in the format '{format}'"),
        _ => "a time like 2024-01-15T10:00:00Z".to_owned(),
    };
    let mut message = format!("{name}: expected {expected}, found {}", shown(value));
    let Cause { reason, proposal } = cause(when, value);
    let mut add = |text: Option<String>| {
        text.into_iter().for_each(|text| message.extend(["; ", &text]));
        message.len()
    };
    let at = add(reason);
    add(proposal);
    Fault::new(ErrorType::TimestampError, message).with_proposal(TimeProposal { is_missing: false, at })
}

/// Why a value does not read as a time.
#[derive(Default)]
struct Cause {
    reason: Option<String>,
    /// The flags that read it.
    proposal: Option<String>,
}

impl Cause {
    fn reason(text: impl Into<String>) -> Self {
        Self { reason: Some(text.into()), proposal: None }
    }
}

/// Whether [`When::read`] reads the value as text: as a number only if a flag names its unit.
fn is_read_as_text(when: &When, value: Value<'_>) -> bool {
    match value {
        Value::Plain(_) | Value::Escaped(_) => true,
        Value::Other(text) => when.unit.is_none() && is_number(text),
        Value::Absent => false,
    }
}

fn cause(when: &When, value: Value<'_>) -> Cause {
    let text = match value {
        Value::Plain(text) | Value::Escaped(text) => unescape(text),
        Value::Other(text) if is_number(text) => Cow::Borrowed(text),
        Value::Absent | Value::Other(_) => return Cause::default(),
    };
    let is_text = !matches!(value, Value::Other(_));
    let fault = match is_read_as_text(when, value) {
        true => when.text(&text).err().unwrap_or(TimeFault::Beyond),
        false => when.number(&text).map_or(TimeFault::Form, |_| TimeFault::Beyond),
    };
    let found = formats::flags(value);
    let needs_no_flag = found.iter().any(String::is_empty);
    let found: Vec<_> = found.iter().map(|flags| flags.trim()).filter(|flags| !flags.is_empty()).collect();
    let proposal = match needs_no_flag && when.format.is_some() {
        true => Some("it is read without --time-format".to_owned()),
        false => (!found.is_empty()).then(|| format!("{} reads it", found.join(" or "))),
    };
    if let Some(cause) = fault.cause() {
        let proposal = proposal.filter(|_| fault == TimeFault::ShortYear);
        return Cause { reason: Some(cause), proposal };
    }
    if let Some(cause) = read_iso(&text, when.zone).err().and_then(TimeFault::cause).filter(|_| is_text) {
        return Cause::reason(cause);
    }
    if is_text && formats::names_no_year(&text) {
        return Cause::reason("it names no year (-f syslog has --time-year)");
    }
    if found.is_empty() && is_number(&text) && when.unit.is_none() && when.format.is_none() {
        return match text.parse() {
            Ok(1500..2500) => Cause::reason("--time-format %Y reads a year, --time-unit s|ms|us|ns|d a number"),
            _ => Cause::reason(
                "in no unit it is from 1980 to 2100; --time-unit s|ms|us|ns|d with --min-time 1970-01-01 reads any number",
            ),
        };
    }
    if proposal.is_none() && is_text && formats::may_be_date(&text) {
        return Cause::reason("no known format reads it; --time-format FORMAT (strftime) names one");
    }
    Cause { reason: None, proposal }
}

/// Returns the message about the first of several records without a readable time, with the flags that read all or most
/// of them. `time` is the field with the time.
pub fn of_samples(fault: &Fault, time: &str, samples: &TimeSamples) -> String {
    let Some(TimeProposal { is_missing, at }) = fault.proposal else { return fault.message.clone() };
    let proposal = match is_missing {
        true => Some(samples.way_out_of_file()),
        false => samples.reads(time),
    };
    match proposal {
        Some(proposal) => format!("{}; {proposal}", &fault.message[..at]),
        None => fault.message.clone(),
    }
}
