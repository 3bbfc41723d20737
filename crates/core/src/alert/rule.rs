//! One rule: what it measures, when its value is a breach, and what its alerts say.

use super::fields::{AnomalyFields, RuleFields};
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::kind::alert::AlertRule;
use crate::op::window::metric::split_list;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Longest window (seconds): a window holds a slice for each second that has rows.
pub const WINDOW_MAX: i64 = 7 * 86_400;
/// Longest `compare` and `baseline` (seconds).
const SPAN_MAX: i64 = 31 * 86_400;
/// Longest `forget_after` (seconds): ten years.
const FORGET_MAX: i64 = 3_660 * 86_400;

/// A comparison of the value with the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `>`
    Gt,
    /// `<`
    Lt,
    /// `>=`
    Ge,
    /// `<=`
    Le,
    /// `=`
    Eq,
    /// `<>`
    Ne,
}

impl Condition {
    /// Each condition with its short word, its long word and its signs.
    const ALL: [(Self, &'static str, &'static str, &'static [&'static str]); 6] = [
        (Self::Gt, "gt", "GREATER_THAN", &[">"]),
        (Self::Lt, "lt", "LESS_THAN", &["<"]),
        (Self::Ge, "ge", "GREATER_THAN_OR_EQUAL", &[">="]),
        (Self::Le, "le", "LESS_THAN_OR_EQUAL", &["<="]),
        (Self::Eq, "eq", "EQUAL", &["==", "="]),
        (Self::Ne, "ne", "NOT_EQUAL", &["!=", "<>"]),
    ];

    /// Returns the condition of a sign, a short or a long word; `EQUALS` and `NOT_EQUALS` are accepted too.
    pub fn from_name(name: &str) -> Option<Self> {
        let is_it = |(_, short, long, signs): &&(Self, &str, &str, &[&str])| {
            let is_plural = long.ends_with("EQUAL") && name.strip_suffix('S') == Some(*long);
            *short == name || *long == name || signs.contains(&name) || is_plural
        };
        Self::ALL.iter().find(is_it).map(|(condition, ..)| *condition)
    }

    /// Returns the short word.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(condition, ..)| *condition == self).map_or("", |(_, short, ..)| *short)
    }

    /// Whether `value` is a breach of `threshold`. NaN is one of no condition but `ne`.
    #[inline]
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Gt => value > threshold,
            Self::Lt => value < threshold,
            Self::Ge => value >= threshold,
            Self::Le => value <= threshold,
            Self::Eq => value == threshold,
            Self::Ne => value != threshold,
        }
    }
}

/// The function that makes the value of a rule from the aggregate of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Derived {
    /// The aggregate itself.
    Plain,
    /// The aggregate divided by the number of all rows of a kind in the same window.
    ShareOf(Kind),
    /// The aggregate divided by that of so many seconds before.
    Compare(i64),
    /// The z-score of the aggregate against those of earlier windows, which do not overlap.
    Anomaly {
        /// How far back earlier windows reach (seconds).
        baseline: i64,
        /// Minimum number of earlier windows; with fewer, the z-score is NULL.
        min: usize,
    },
}

/// The definition of the value of a rule. A change of it starts the rule anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// The kind of the rows.
    pub input: Kind,
    /// The aggregate.
    pub aggregate: String,
    /// Only rows for which this is true count.
    pub filter: Option<String>,
    /// The dimensions.
    pub by: Vec<String>,
    /// Length of the window (seconds).
    pub window: i64,
    /// The function that makes the value from the aggregate.
    pub derived: Derived,
}

/// How long before an instant the values lie that a rule compares with: one step, two steps, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lags {
    /// The step (seconds).
    pub step: i64,
    /// The number of values.
    pub count: i64,
}

impl Lags {
    /// Returns each lag, ascending.
    pub fn each(self) -> impl Iterator<Item = i64> {
        (1..=self.count).map(move |number| number * self.step)
    }

    /// Returns the greatest lag.
    pub fn span(self) -> i64 {
        self.count * self.step
    }

    /// Returns the least lag beyond `seconds`.
    pub fn after(self, seconds: i64) -> Option<i64> {
        let number = (seconds.div_euclid(self.step) + 1).max(1);
        (number <= self.count).then_some(number * self.step)
    }
}

impl Measure {
    /// Returns the lags of the earlier values that it needs, if it needs some.
    pub fn lags(&self) -> Option<Lags> {
        match self.derived {
            Derived::Plain | Derived::ShareOf(_) => None,
            Derived::Compare(before) => Some(Lags { step: before, count: 1 }),
            Derived::Anomaly { baseline, .. } => Some(Lags { step: self.window, count: baseline / self.window }),
        }
    }
}

/// What a rule does with a value that is NULL, as that of most aggregates over a window without rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NullAs {
    /// NULL is no breach: it interrupts `for`, and resolves an alert.
    #[default]
    Ok,
    /// NULL is a breach.
    Breach,
    /// It changes nothing: an alert that waits for `for` still waits, and one that fires still fires.
    Keep,
}

impl NullAs {
    const ALL: [(Self, &'static str); 3] = [(Self::Ok, "ok"), (Self::Breach, "breach"), (Self::Keep, "keep")];

    fn from_name(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, word)| *word == name).map(|(null_as, _)| *null_as);
        found.ok_or_else(|| Error::config(format!("null_as: expected breach, keep or ok, found '{name}'")))
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(null_as, _)| *null_as == self).map_or("", |(_, word)| *word)
    }
}

/// When an alert fires and when it is resolved. All times are seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The comparison; `None` for an anomaly in either direction.
    pub condition: Option<Condition>,
    /// The threshold while the alert does not fire.
    pub threshold: f64,
    /// The threshold while the alert fires.
    pub resolve_threshold: f64,
    /// How long the condition must have held.
    pub hold: i64,
    /// How long an alert keeps firing after its condition became false.
    pub keep_firing: i64,
    /// Whether a window without rows is a breach.
    pub no_data: bool,
    /// What a value that is NULL is.
    pub null_as: NullAs,
    /// How long after the last row of a group its alert ends; `None` if it fires until rows come back.
    pub forget_after: Option<i64>,
}

impl Policy {
    /// Whether `value` is a breach; `is_firing` selects the threshold.
    #[inline]
    pub fn is_breach(&self, value: Option<f64>, is_firing: bool) -> bool {
        let threshold = if is_firing { self.resolve_threshold } else { self.threshold };
        match (value, self.condition) {
            (None, _) => false,
            (Some(value), Some(condition)) => condition.holds(value, threshold),
            (Some(value), None) => value.abs() > threshold,
        }
    }
}

impl Policy {
    /// Returns a name for a rule that has none: what it measures, the condition and the threshold.
    fn describe(&self, measured: &str) -> String {
        format!("{measured} {} {}", self.condition.map_or("anomaly", Condition::name), self.threshold)
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleDefinition {
    /// The fields that the rows of its alerts contain.
    pub rule: Arc<AlertRule>,
    /// The definition of its value.
    pub measure: Measure,
    /// When it fires.
    pub policy: Policy,
    /// The channels that are notified.
    pub channels: Vec<String>,
    /// The template of the summary.
    pub summary: String,
    /// Whether it is evaluated.
    pub is_enabled: bool,
    /// Interval between two notifications of an alert that fires (seconds).
    pub repeat: Option<i64>,
}

/// An aggregate of the metrics file that rules name.
#[derive(Clone, Debug)]
pub struct NamedMetric {
    /// Its name.
    pub name: String,
    /// The aggregate.
    pub aggregate: String,
    /// Its filter.
    pub filter: Option<String>,
    /// Its dimensions.
    pub by: Vec<String>,
    /// Whether its windows are sessions. A rule that names such a metric is invalid.
    pub is_session: bool,
}

impl RuleDefinition {
    /// Reads a rule from its fields. `metrics` are those of `-m`; `None` without `-m`.
    ///
    /// Errors: exit status 78 with the field that is wrong.
    pub fn parse(fields: Map<String, Value>, metrics: Option<&[NamedMetric]>) -> Result<Self> {
        let mut fields = RuleFields::new(fields);
        fields.check_names()?;
        let rule_id = fields.text("rule_id")?;
        let name = fields.text("name")?;
        let id = rule_id.as_ref().or(name.as_ref()).ok_or_else(|| Error::config("expected name or rule_id"))?;
        let rule_id = crate::kind::alert::rule_id(id);
        let metric = fields.peek("metric_name");
        let measure = measure(&mut fields, metrics)?;
        let policy = policy(&mut fields, &measure)?;
        let name = name.unwrap_or_else(|| policy.describe(metric.as_deref().unwrap_or(&measure.aggregate)));
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(Error::config("expected a name that is not empty and has no control characters"));
        }
        let channels = fields.names("notification_channel")?;
        let severity = fields.text("severity")?.unwrap_or_else(|| "warning".to_owned());
        let labels = fields.labels()?;
        let summary = fields.text("summary")?.unwrap_or_default();
        let enabled = match (fields.truth("enabled")?, fields.truth("is_active")?) {
            (Some(_), Some(_)) => return Err(Error::config("expected enabled or is_active, found both")),
            (one, other) => one.or(other).unwrap_or(true),
        };
        let repeat = fields.seconds("repeat", 1..=SPAN_MAX)?;
        super::summary::check(&summary, &measure.by)?;
        let rule = AlertRule { rule_id, name, severity, threshold: Some(policy.threshold), labels };
        Ok(Self { rule: Arc::new(rule), measure, policy, channels, summary, is_enabled: enabled, repeat })
    }

    /// Returns fields that [`RuleDefinition::parse`] reads as the same rule, without a metrics file.
    pub fn to_fields(&self) -> Value {
        let Self { rule, measure, policy, channels, summary, is_enabled, repeat } = self;
        let seconds = |seconds: i64| format!("{seconds}s");
        let mut fields = json!({
            "rule_id": rule.rule_id.to_string(), "name": rule.name, "severity": rule.severity, "labels": rule.labels,
            "input": measure.input.name(), "aggregate": measure.aggregate, "by": measure.by,
            "window_seconds": measure.window, "threshold": policy.threshold,
            "resolve_threshold": policy.resolve_threshold, "for": seconds(policy.hold),
            "keep_firing_for": seconds(policy.keep_firing), "no_data": policy.no_data,
            "notification_channel": channels, "summary": summary, "enabled": is_enabled,
        });
        let mut set = |name: &str, value: Value| fields[name] = value;
        if let Some(filter) = &measure.filter {
            set("where", json!(filter));
        }
        if let Some(condition) = policy.condition {
            set("condition", json!(condition.name()));
        }
        match measure.derived {
            Derived::Plain => {}
            Derived::ShareOf(kind) => set("share_of", json!(kind.name())),
            Derived::Compare(before) => set("compare", json!(seconds(before))),
            Derived::Anomaly { baseline, min } => {
                set("anomaly", json!({"z": policy.threshold, "baseline": seconds(baseline), "min": min}));
            }
        }
        if let Some(repeat) = repeat {
            set("repeat", json!(seconds(*repeat)));
        }
        if policy.null_as != NullAs::Ok {
            set("null_as", json!(policy.null_as.name()));
        }
        if let Some(after) = policy.forget_after {
            set("forget_after", json!(seconds(after)));
        }
        fields
    }
}

fn kind_of(name: &str, field: &str) -> Result<Kind> {
    let known = Kind::from_name(name).filter(|kind| matches!(kind, Kind::Event | Kind::Dead | Kind::Metric));
    known.ok_or_else(|| Error::config(format!("{field}: expected event, dead or metric, found '{name}'")))
}

fn measure(fields: &mut RuleFields, metrics: Option<&[NamedMetric]>) -> Result<Measure> {
    let (named, aggregate) = (fields.text("metric_name")?, fields.text("aggregate")?);
    let (filter, by) = (fields.text("where")?, fields.texts("by")?);
    let by: Vec<String> =
        by.iter().flat_map(|text| split_list(text)).filter(|text| !text.is_empty()).map(str::to_owned).collect();
    let input = fields.text("input")?.map_or(Ok(Kind::Event), |name| kind_of(&name, "input"))?;
    let (aggregate, filter, by) = match (named, aggregate) {
        (Some(name), None) if filter.is_none() && by.is_empty() && input == Kind::Event => {
            let metric = metric(&name, metrics)?;
            (metric.aggregate.clone(), metric.filter.clone(), metric.by.clone())
        }
        (Some(name), _) => {
            let why = "has its own aggregate, where, by and input";
            return Err(Error::config(format!(
                "metric_name: {name} {why}; expected metric_name alone, or these fields"
            )));
        }
        (None, Some(aggregate)) => (aggregate, filter, by),
        (None, None) => return Err(Error::config("expected metric_name or aggregate")),
    };
    let window = fields.seconds("window_seconds", 1..=WINDOW_MAX)?;
    let window = window.ok_or_else(|| Error::config("expected window_seconds"))?;
    let share = fields.text("share_of")?.map(|name| kind_of(&name, "share_of").map(Derived::ShareOf)).transpose()?;
    if share.is_some() && !is_count(&aggregate) {
        return Err(Error::config(format!("share_of: expected the aggregate count(…), found {aggregate}")));
    }
    let compare = fields.seconds("compare", 1..=SPAN_MAX)?.map(Derived::Compare);
    let anomaly = fields.anomaly()?.map(|anomaly| anomaly.checked(window, SPAN_MAX)).transpose()?;
    let anomaly = anomaly.map(|AnomalyFields { baseline, min }| Derived::Anomaly { baseline, min });
    let mut derived = [share, compare, anomaly].into_iter().flatten();
    let first = derived.next().unwrap_or(Derived::Plain);
    if derived.next().is_some() {
        return Err(Error::config("expected one of share_of, compare and anomaly, found two"));
    }
    Ok(Measure { input, aggregate, filter, by, window, derived: first })
}

/// Whether an aggregate counts rows.
fn is_count(aggregate: &str) -> bool {
    let (name, _) = aggregate.split_once('(').unwrap_or((aggregate, ""));
    name.trim().eq_ignore_ascii_case("count")
}

fn metric<'a>(name: &str, metrics: Option<&'a [NamedMetric]>) -> Result<&'a NamedMetric> {
    let Some(metrics) = metrics else {
        return Err(Error::config(format!("metric_name: {name} needs the metrics file (-m)")));
    };
    match metrics.iter().find(|metric| metric.name == name) {
        None => Err(Error::config(format!("metric_name: the metrics file has no metric '{name}'"))),
        Some(metric) if metric.is_session => {
            Err(Error::config(format!("metric_name: {name} has session windows, which a rule cannot use")))
        }
        Some(metric) => Ok(metric),
    }
}

fn policy(fields: &mut RuleFields, measure: &Measure) -> Result<Policy> {
    let condition = fields.text("condition")?.map(|name| {
        let words = "gt lt ge le eq ne, > < >= <= == != or GREATER_THAN …";
        let unknown = || Error::config(format!("condition: expected {words}, found '{name}'"));
        Condition::from_name(&name).ok_or_else(unknown)
    });
    let (condition, threshold) = (condition.transpose()?, fields.number("threshold")?);
    let threshold = match (measure.derived, threshold) {
        (Derived::Anomaly { .. }, found) => {
            // `lt` means that the value is too small, so its limit is negative.
            let z = fields.z().unwrap_or(f64::NAN);
            let is_low = matches!(condition, Some(Condition::Lt | Condition::Le));
            let z = match condition {
                None => z.abs(),
                Some(_) if is_low => -z.abs(),
                Some(_) => z,
            };
            if found.is_some_and(|found| found != z) {
                return Err(Error::config("threshold: anomaly has its own, z"));
            }
            z
        }
        (_, Some(threshold)) if condition.is_some() => threshold,
        (_, Some(_)) => return Err(Error::config("expected condition")),
        (_, None) => return Err(Error::config("expected threshold")),
    };
    let hold = fields.seconds("for", 0..=SPAN_MAX)?.unwrap_or(0);
    let forget_after = fields.seconds("forget_after", 1..=FORGET_MAX)?;
    let least = measure.window + hold;
    if forget_after.is_some_and(|after| after <= least) {
        let why = "an alert about missing rows would end before it fires";
        return Err(Error::config(format!(
            "forget_after: expected more than window_seconds and for ({least}s): {why}"
        )));
    }
    Ok(Policy {
        condition,
        threshold,
        resolve_threshold: fields.number("resolve_threshold")?.unwrap_or(threshold),
        hold,
        keep_firing: fields.seconds("keep_firing_for", 0..=SPAN_MAX)?.unwrap_or(30),
        no_data: fields.truth("no_data")?.unwrap_or(false),
        null_as: fields.text("null_as")?.map_or(Ok(NullAs::Ok), |name| NullAs::from_name(&name))?,
        forget_after,
    })
}
