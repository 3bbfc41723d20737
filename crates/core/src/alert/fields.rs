//! The fields of a rule as a file or a table row has them: names with JSON values.

use crate::error::{Error, Result};
use crate::parse::nearest::EDITS_MAX;
use crate::time::{SECOND, parse_duration};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use strsim::levenshtein;

/// The names of the fields of a rule.
const FIELDS: [&str; 26] = [
    "rule_id",
    "name",
    "metric_name",
    "aggregate",
    "where",
    "by",
    "input",
    "window_seconds",
    "share_of",
    "compare",
    "anomaly",
    "condition",
    "threshold",
    "resolve_threshold",
    "for",
    "keep_firing_for",
    "no_data",
    "null_as",
    "forget_after",
    "enabled",
    "is_active",
    "severity",
    "labels",
    "summary",
    "notification_channel",
    "repeat",
];

/// The fields of one rule that have not been read yet.
pub struct RuleFields {
    fields: Map<String, Value>,
    /// `z` of `anomaly`.
    z: Option<f64>,
}

/// The table `anomaly` of a rule.
pub struct AnomalyFields {
    /// How far back earlier windows reach (seconds).
    pub baseline: i64,
    /// Minimum number of earlier windows; with fewer, the z-score is NULL.
    pub min: usize,
}

fn expected(name: &str, what: &str, found: &Value) -> Error {
    Error::config(format!("{name}: expected {what}, found {found}"))
}

fn text_of(name: &str, value: Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(expected(name, "text", &other)),
    }
}

/// Reads a number of seconds, or a duration with whole seconds.
fn seconds_of(name: &str, value: &Value, range: &RangeInclusive<i64>) -> Result<i64> {
    let (least, most) = (range.start(), range.end());
    let what = format!("whole seconds from {least} to {most}, or such a duration like 5m");
    let seconds = match value {
        Value::String(text) => match text.parse() {
            Ok(seconds) => Some(seconds),
            Err(_) => parse_duration(text).ok().filter(|micros| micros % SECOND == 0).map(|micros| micros / SECOND),
        },
        other => other.as_i64().or_else(|| other.as_f64().filter(|number| number.fract() == 0.0).map(|n| n as i64)),
    };
    seconds.filter(|seconds| range.contains(seconds)).ok_or_else(|| expected(name, &what, value))
}

impl RuleFields {
    /// Makes the fields of a rule from all names with their values; NULL is the same as no field.
    pub fn new(mut fields: Map<String, Value>) -> Self {
        fields.retain(|_, value| !value.is_null());
        Self { fields, z: None }
    }

    /// Reads text.
    pub fn text(&mut self, name: &str) -> Result<Option<String>> {
        self.fields.remove(name).map(|value| text_of(name, value)).transpose()
    }

    /// Returns a text that is read later.
    pub fn peek(&self, name: &str) -> Option<String> {
        self.fields.get(name).and_then(Value::as_str).map(str::to_owned)
    }

    /// Reads a finite number.
    pub fn number(&mut self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.fields.remove(name) else { return Ok(None) };
        let number = match &value {
            // SQLite and Postgres keep decimals of any precision as text.
            Value::String(text) => text.parse().ok(),
            other => other.as_f64(),
        };
        number.filter(|number| number.is_finite()).map(Some).ok_or_else(|| expected(name, "a number", &value))
    }

    /// Reads a boolean; SQLite keeps 0 or 1.
    pub fn truth(&mut self, name: &str) -> Result<Option<bool>> {
        let Some(value) = self.fields.remove(name) else { return Ok(None) };
        let truth = value.as_bool().or_else(|| value.as_i64().filter(|n| (0..=1).contains(n)).map(|n| n == 1));
        truth.map(Some).ok_or_else(|| expected(name, "true or false", &value))
    }

    /// Reads whole seconds within `range`: a number, or a duration.
    pub fn seconds(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>> {
        self.fields.remove(name).map(|value| seconds_of(name, &value, &range)).transpose()
    }

    /// Reads a list of names: an array, its text as JSON, or text with commas.
    pub fn names(&mut self, name: &str) -> Result<Vec<String>> {
        let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.starts_with('['));
        let has_commas = self.fields.get(name).is_some_and(is_text);
        let mut names = self.texts(name)?;
        if has_commas {
            names = names.iter().flat_map(|text| text.split(',')).map(|name| name.trim().to_owned()).collect();
        }
        names.retain(|name| !name.is_empty());
        Ok(names)
    }

    /// Reads a list of texts: an array, its text as JSON, or one text.
    pub fn texts(&mut self, name: &str) -> Result<Vec<String>> {
        let value = match self.fields.remove(name) {
            None => return Ok(vec![]),
            Some(Value::String(text)) if text.starts_with('[') => {
                serde_json::from_str(&text).map_err(|_| expected(name, "a list of names", &Value::String(text)))?
            }
            Some(value) => value,
        };
        match value {
            Value::String(text) => Ok(vec![text]),
            Value::Array(items) => items.into_iter().map(|item| text_of(name, item)).collect(),
            other => Err(expected(name, "a list of names", &other)),
        }
    }

    /// Reads a field that is a table, or its text as JSON.
    fn table(&mut self, name: &str) -> Result<Option<Map<String, Value>>> {
        let value = match self.fields.remove(name) {
            None => return Ok(None),
            Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            Some(value) => value,
        };
        match value {
            Value::Object(table) => Ok(Some(table)),
            Value::Null => Ok(None),
            other => Err(expected(name, "a table", &other)),
        }
    }

    /// Reads `labels`.
    pub fn labels(&mut self) -> Result<BTreeMap<String, String>> {
        let labels = self.table("labels")?.unwrap_or_default();
        labels.into_iter().map(|(name, value)| Ok((name.clone(), text_of(&format!("labels.{name}"), value)?))).collect()
    }

    /// Reads `anomaly = {z, baseline, min}`; returns `baseline` and `min`, and keeps `z` for [`Self::z`].
    pub fn anomaly(&mut self) -> Result<Option<AnomalyFields>> {
        let Some(table) = self.table("anomaly")? else { return Ok(None) };
        let mut fields = Self::new(table);
        let z = fields.number("z")?.filter(|z| *z != 0.0);
        self.z = Some(z.ok_or_else(|| Error::config("anomaly: expected z, a number other than 0"))?);
        let baseline = fields.seconds("baseline", 1..=i64::from(i32::MAX))?;
        let baseline = baseline.ok_or_else(|| Error::config("anomaly: expected baseline"))?;
        let min = fields.seconds("min", 2..=1_000_000)?.unwrap_or(30);
        if let Some(name) = fields.fields.keys().next() {
            return Err(Error::config(format!("anomaly: unknown field {name}; expected z, baseline, min")));
        }
        Ok(Some(AnomalyFields { baseline, min: usize::try_from(min).unwrap_or(usize::MAX) }))
    }

    /// Returns `z` of `anomaly`, if it was read.
    pub fn z(&self) -> Option<f64> {
        self.z
    }

    /// Checks that all fields are known. `created_at` and `updated_at` of a table are not part of a rule.
    pub fn check_names(&self) -> Result<()> {
        let known = |name: &String| FIELDS.contains(&name.as_str()) || name == "created_at" || name == "updated_at";
        let unknown = self.fields.keys().find(|name| !known(name));
        match unknown {
            None => Ok(()),
            Some(name) => Err(Error::config(format!("unknown field {name}; {}", hint(name)))),
        }
    }
}

/// Returns the hint for an unknown field: the nearest known one, or all of them.
fn hint(name: &str) -> String {
    let is_start = |known: &str| name.len() >= 3 && known.starts_with(name);
    let near = |known: &&&str| {
        is_start(known) || levenshtein(name, known) <= EDITS_MAX || known.split('_').any(|word| word == name)
    };
    match FIELDS.iter().filter(near).min_by_key(|known| (!is_start(known), levenshtein(name, known))) {
        Some(known) => format!("did you mean {known}?"),
        None => format!("expected one of {}", FIELDS.join(" ")),
    }
}

impl AnomalyFields {
    /// Checks that the baseline has room for `min` windows of so many seconds.
    ///
    /// Errors: exit status 78 if not, or if it is longer than `span_max`.
    pub fn checked(self, window: i64, span_max: i64) -> Result<Self> {
        let Self { baseline, min } = self;
        let windows = baseline / window;
        if baseline > span_max || i64::try_from(min).is_ok_and(|min| min > windows) {
            return Err(Error::config(format!(
                "anomaly: expected a baseline of at least {min} (min) windows of {window}s and at most {span_max}s, found {baseline}s, which has {windows}"
            )));
        }
        Ok(self)
    }
}
