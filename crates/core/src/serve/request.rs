//! The parameters of a request for a metric.

use crate::kind::span::Span;
use crate::parse::nearest;
use crate::time::{HOUR, SECOND, parse_duration, parse_flag_instant};
use serde_json::Value;
use std::collections::BTreeMap;

/// The parameters that a request may have.
const PARAMETERS: [&str; 6] = ["dimensions", "format", "size", "wide", "window_end", "window_start"];

/// Why a request is refused: the parameter, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFault {
    /// The name of the parameter.
    pub parameter: String,
    /// What was expected, and what was found.
    pub message: String,
}

impl RequestFault {
    /// Makes the fault of a parameter.
    pub fn new(parameter: &str, message: impl Into<String>) -> Self {
        Self { parameter: parameter.to_owned(), message: message.into() }
    }
}

/// A request for windows of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricRequest {
    /// The name of the metric.
    pub metric: String,
    /// Windows must lie whole in it.
    pub span: Span,
    /// Whether it ends at an instant that was given, so that the same request always asks for the same windows.
    pub is_closed: bool,
    /// What dimensions must have, in the order of their names.
    pub dimensions: BTreeMap<String, WantedValue>,
    /// The size of the windows (µs), where a metric has several.
    pub size: Option<i64>,
    /// The form of the answer.
    pub form: AnswerForm,
}

/// What a dimension must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedValue {
    /// This text.
    Text(String),
    /// Any text.
    Any,
    /// None: it is NULL.
    Null,
}

impl WantedValue {
    /// Whether dimensions, by their names, are as wanted. A dimension that is not there is none.
    pub fn all(wanted: &BTreeMap<String, Self>, dimensions: &BTreeMap<String, Option<String>>) -> bool {
        wanted.iter().all(|(name, wanted)| match (wanted, dimensions.get(name)) {
            (Self::Text(text), Some(Some(found))) => text == found,
            (Self::Any, Some(Some(_))) | (Self::Null, Some(None)) => true,
            _ => false,
        })
    }
}

/// Returns the dimensions of a row by their names, from their JSON; a dimension that is NULL has none.
pub fn dimensions_of(text: &str) -> BTreeMap<String, Option<String>> {
    let Ok(Value::Object(object)) = serde_json::from_str(text) else { return BTreeMap::new() };
    let value = |value: Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    object.into_iter().map(|(name, found)| (name, value(found))).collect()
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerForm {
    /// A JSON object.
    #[default]
    Json,
    /// A line of CSV for each window.
    Csv,
    /// A line of CSV for each window start, with a column for each set of dimensions.
    WideCsv,
}

impl MetricRequest {
    /// Reads the parameters of a request; `now` is its instant (µs). Without an end it ends now, without a start an
    /// hour before its end.
    pub fn read(metric: &str, parameters: &[(String, String)], now: i64) -> Result<Self, RequestFault> {
        let mut given: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in parameters {
            if !PARAMETERS.contains(&name.as_str()) {
                let hint = nearest::hint(name, &PARAMETERS, ", ");
                return Err(RequestFault::new(name, format!("unknown parameter; {hint}")));
            }
            if given.insert(name, value).is_some() {
                return Err(RequestFault::new(name, "expected it once, found it several times"));
            }
        }
        let instant = |name: &str| given.get(name).map(|text| read_instant(name, text, now)).transpose();
        let (start, end) = (instant("window_start")?, instant("window_end")?);
        let until = end.unwrap_or(now);
        let since = start.unwrap_or_else(|| until.saturating_sub(HOUR));
        if since >= until {
            return Err(RequestFault::new("window_start", "expected an instant before window_end"));
        }
        let is_relative = |name: &str| given.get(name).is_none_or(|text| text.starts_with("now"));
        Ok(Self {
            metric: metric.to_owned(),
            span: Span { since: Some(since), until: Some(until) },
            is_closed: !is_relative("window_start") && !is_relative("window_end"),
            dimensions: given.get("dimensions").map_or(Ok(BTreeMap::new()), |text| read_dimensions(text))?,
            size: given.get("size").map(|text| read_size(text)).transpose()?,
            form: read_form(&given)?,
        })
    }

    /// Whether the dimensions of a row, by their names, are wanted.
    pub fn wants(&self, dimensions: &BTreeMap<String, Option<String>>) -> bool {
        WantedValue::all(&self.dimensions, dimensions)
    }
}

/// Reads an instant: RFC 3339, seconds since 1970, or one relative to now; returns µs.
fn read_instant(parameter: &str, text: &str, now: i64) -> Result<i64, RequestFault> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.abs() < 2.5e11);
    match seconds {
        Some(seconds) => Ok((seconds * SECOND as f64).round() as i64),
        None => parse_flag_instant(text, now, None).map_err(|error| RequestFault::new(parameter, error.to_string())),
    }
}

fn read_size(text: &str) -> Result<i64, RequestFault> {
    let size = parse_duration(text).map_err(|error| RequestFault::new("size", error.to_string()))?;
    if size > 0 { Ok(size) } else { Err(RequestFault::new("size", format!("expected more than 0s, found '{text}'"))) }
}

fn read_form(given: &BTreeMap<&str, &str>) -> Result<AnswerForm, RequestFault> {
    let is_wide = match given.get("wide").copied() {
        None | Some("false" | "0") => false,
        Some("" | "true" | "1") => true,
        Some(other) => return Err(RequestFault::new("wide", format!("expected true or false, found '{other}'"))),
    };
    match (given.get("format").copied(), is_wide) {
        (None | Some("json"), false) => Ok(AnswerForm::Json),
        (Some("csv"), false) => Ok(AnswerForm::Csv),
        (Some("csv"), true) => Ok(AnswerForm::WideCsv),
        (None | Some("json"), true) => Err(RequestFault::new("wide", "expected format=csv with it")),
        (Some(other), _) => Err(RequestFault::new("format", format!("expected json or csv, found '{other}'"))),
    }
}

/// Reads `country:US,device:ios`. A name or a value with a comma, a colon or a quote is in double quotes, where a quote
/// is written twice; `*` without quotes is any text, nothing without quotes is NULL.
fn read_dimensions(text: &str) -> Result<BTreeMap<String, WantedValue>, RequestFault> {
    let wrong = |message: String| RequestFault::new("dimensions", message);
    let (mut rest, mut wanted) = (text, BTreeMap::new());
    while !rest.is_empty() {
        let (name, after) = read_word(rest).map_err(wrong)?;
        let Some(after) = after.strip_prefix(':') else {
            return Err(wrong(format!("expected NAME:VALUE,NAME:VALUE, found '{rest}'")));
        };
        let (value, after) = read_word(after).map_err(wrong)?;
        let value = match value {
            Word { text, is_quoted: false } if text == "*" => WantedValue::Any,
            Word { text, is_quoted: false } if text.is_empty() => WantedValue::Null,
            Word { text, .. } => WantedValue::Text(text),
        };
        if wanted.insert(name.text.clone(), value).is_some() {
            return Err(wrong(format!("expected the dimension '{}' once", name.text)));
        }
        rest = match after.strip_prefix(',') {
            Some(rest) => rest,
            None if after.is_empty() => after,
            None => return Err(wrong(format!("expected a comma, found '{after}'"))),
        };
    }
    Ok(wanted)
}

/// A name or a value.
struct Word {
    text: String,
    is_quoted: bool,
}

/// Reads a word; returns it and what follows.
fn read_word(text: &str) -> Result<(Word, &str), String> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([',', ':', '"']).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        return Ok((Word { text: word.to_owned(), is_quoted: false }, rest));
    };
    let mut word = String::new();
    loop {
        let Some((part, after)) = rest.split_once('"') else {
            return Err(format!("expected a closing quote, found '{text}'"));
        };
        word.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                word.push('"');
                rest = after;
            }
            None => return Ok((Word { text: word, is_quoted: true }, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_instant;

    fn read(parameters: &[(&str, &str)]) -> Result<MetricRequest, RequestFault> {
        let parameters: Vec<_> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        MetricRequest::read("m", &parameters, parse_instant("2026-01-05T12:00:00Z").unwrap())
    }

    #[test]
    fn a_request_is_for_the_last_hour_unless_it_says_otherwise() {
        let at = |text: &str| parse_instant(text);
        let span = |parameters: &[(&str, &str)]| {
            let request = read(parameters).unwrap();
            (request.span.since, request.span.until, request.is_closed)
        };
        assert_eq!(span(&[]), (at("2026-01-05T11:00:00Z"), at("2026-01-05T12:00:00Z"), false));
        assert_eq!(
            span(&[("window_start", "now-2h"), ("window_end", "now-1h")]),
            (at("2026-01-05T10:00:00Z"), at("2026-01-05T11:00:00Z"), false)
        );
        assert_eq!(
            span(&[("window_start", "2026-01-01"), ("window_end", "1767312000.5")]),
            (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00.5Z"), true)
        );
    }

    #[test]
    fn dimensions_are_a_text_any_text_or_null() {
        let wanted =
            read(&[("dimensions", "country:US,device:*,\"a,b\":\"x:\"\"y\"\"\",city:,star:\"*\",none:\"\"")]).unwrap();
        let text = |text: &str| WantedValue::Text(text.to_owned());
        let expected = [
            ("country", text("US")),
            ("device", WantedValue::Any),
            ("a,b", text("x:\"y\"")),
            ("city", WantedValue::Null),
            ("star", text("*")),
            ("none", text("")),
        ];
        assert_eq!(wanted.dimensions, expected.map(|(name, value)| (name.to_owned(), value)).into());
        let row = |country: Option<&str>| BTreeMap::from([("country".to_owned(), country.map(str::to_owned))]);
        let wants = |text: &str, country: Option<&str>| read(&[("dimensions", text)]).unwrap().wants(&row(country));
        assert!(wants("country:US", Some("US")) && !wants("country:US", Some("DE")) && !wants("country:US", None));
        assert!(wants("country:*", Some("DE")) && !wants("country:*", None) && wants("country:", None));
        assert!(!wants("city:", Some("US")) && wants("", None));
    }

    #[test]
    fn a_refusal_names_the_parameter() {
        for (parameters, parameter, message) in [
            (&[("windowstart", "1")][..], "windowstart", "unknown parameter; did you mean window_start?"),
            (&[("size", "1m"), ("size", "1m")], "size", "expected it once, found it several times"),
            (&[("window_start", "noon")], "window_start", "expected an instant like"),
            (&[("window_start", "now")], "window_start", "expected an instant before window_end"),
            (&[("window_end", "1e300")], "window_end", "expected an instant like"),
            (&[("dimensions", "country")], "dimensions", "expected NAME:VALUE,NAME:VALUE, found 'country'"),
            (&[("dimensions", "a:b,a:c")], "dimensions", "expected the dimension 'a' once"),
            (&[("dimensions", "a:\"b")], "dimensions", "expected a closing quote"),
            (&[("dimensions", "a:b:c")], "dimensions", "expected a comma, found ':c'"),
            (&[("size", "0s")], "size", "expected more than 0s"),
            (&[("format", "xml")], "format", "expected json or csv, found 'xml'"),
            (&[("wide", "yes")], "wide", "expected true or false"),
            (&[("wide", "")], "wide", "expected format=csv with it"),
        ] {
            let fault = read(parameters).unwrap_err();
            assert_eq!(fault.parameter, parameter);
            assert!(fault.message.contains(message), "{fault:?}");
        }
        assert_eq!(read(&[("format", "csv"), ("wide", "")]).unwrap().form, AnswerForm::WideCsv);
    }
}
