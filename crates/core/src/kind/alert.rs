//! The kind "alert": a rule that fires or is resolved for one set of dimensions.
//!
//! An alert is one period of a rule and its dimensions: it fires at most once and is resolved at most once, so its rows
//! are identified by (`alert_id`, `state`).

use super::field::{id, instant, json, optional, text};
use super::named_id::named_id;
use arrow::datatypes::{DataType, Field};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Columns of an alert, in order.
pub const COLUMNS: [&str; 16] = [
    "alert_id",
    "rule_id",
    "rule",
    "dimensions",
    "severity",
    "state",
    "reason",
    "value",
    "threshold",
    "window_start",
    "window_end",
    "since",
    "at",
    "labels",
    "summary",
    "caught_up",
];

/// Columns of an alert in older versions. The others may be NULL: they are in rows that such a version wrote.
pub const OLDER_COLUMNS: [&str; 6] = ["rule", "state", "value", "window_start", "window_end", "since"];

pub(super) fn fields() -> Vec<Field> {
    vec![
        optional(id("alert_id")),
        optional(id("rule_id")),
        text("rule"),
        optional(text("dimensions")),
        optional(text("severity")),
        text("state"),
        optional(text("reason")),
        optional(Field::new("value", DataType::Float64, true)),
        optional(Field::new("threshold", DataType::Float64, true)),
        instant("window_start"),
        instant("window_end"),
        instant("since"),
        optional(instant("at")),
        json("labels"),
        optional(text("summary")),
        Field::new("caught_up", DataType::Boolean, true),
    ]
}

/// UUIDv5 of the name `evt.alert` in the DNS namespace.
const ALERTS: Uuid = uuid::uuid!("1247305e-7581-5261-be58-911528052c61");
/// UUIDv5 of the name `evt.rule` in the DNS namespace.
const RULES: Uuid = uuid::uuid!("892ef64c-d2dd-544f-a5a4-42e16b26dfea");

/// Derives the id of an alert: UUIDv5 of `rule_id NUL dimensions NUL since`; `rule_id` is hyphenated and in lower case,
/// `dimensions` is canonical JSON, `since` is decimal microseconds since 1970.
pub fn alert_id(rule_id: Uuid, dimensions: &str, since: i64) -> Uuid {
    let key = format!("{}\0{dimensions}\0{since}", rule_id.hyphenated());
    named_id(&ALERTS, &[key.as_bytes()])
}

/// Returns the `rule_id` that a rules file states: a UUID as it is, else the UUIDv5 of the text. For a rule
/// without `rule_id` the text is its name.
pub fn rule_id(text: &str) -> Uuid {
    Uuid::try_parse(text).unwrap_or_else(|_| named_id(&RULES, &[text.as_bytes()]))
}

/// The state in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlertState {
    /// The rule began to fire.
    Firing,
    /// It ceased to fire.
    Resolved,
}

impl AlertState {
    /// Both, in the order of an alert's rows.
    pub const ALL: [Self; 2] = [Self::Firing, Self::Resolved];

    /// Returns the word in the column `state`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }

    /// Returns the state of a word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Why an alert changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AlertReason {
    /// The condition began or ceased to hold.
    Condition,
    /// No row of the group arrived, or rows arrived again.
    NoData,
    /// The rule was changed.
    RuleChanged,
    /// The rule was deleted.
    RuleGone,
    /// The rule was disabled.
    Disabled,
    /// The group has had no row for too long.
    GroupGone,
}

impl AlertReason {
    /// Every reason, in the order of the manual.
    pub const ALL: [Self; 6] =
        [Self::Condition, Self::NoData, Self::RuleChanged, Self::RuleGone, Self::Disabled, Self::GroupGone];

    /// Returns the words in the column `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Condition => "condition",
            Self::NoData => "no_data",
            Self::RuleChanged => "rule changed",
            Self::RuleGone => "rule gone",
            Self::Disabled => "disabled",
            Self::GroupGone => "group gone",
        }
    }

    /// Returns the reason of these words.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// The fields of a rule that the rows of its alerts contain.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRule {
    /// The rule's id.
    pub rule_id: Uuid,
    /// Its name.
    pub name: String,
    /// Its severity.
    pub severity: String,
    /// The threshold of its condition.
    pub threshold: Option<f64>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// One transition of one alert: a row of the kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The rule.
    pub rule: Arc<AlertRule>,
    /// The dimensions as canonical JSON; `{}` if the rule has none.
    pub dimensions: String,
    /// Whether it fires or is resolved.
    pub state: AlertState,
    /// Why.
    pub reason: AlertReason,
    /// The rule's value at [`Alert::at`]; `None` is NULL.
    pub value: Option<f64>,
    /// Start of the window of the value (µs).
    pub window_start: i64,
    /// Its end (µs).
    pub window_end: i64,
    /// Since when the condition has held (µs): part of the id, the same in both rows of an alert.
    pub since: i64,
    /// When the state changed, on the alert clock (µs).
    pub at: i64,
    /// One line of text.
    pub summary: String,
    /// Whether the alert clock was far behind the wall clock: such a firing is not paged.
    pub caught_up: bool,
}

impl Alert {
    /// Returns the id of the alert.
    pub fn id(&self) -> Uuid {
        alert_id(self.rule.rule_id, &self.dimensions, self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_are_these_bytes() {
        // Python: uuid5(uuid5(NAMESPACE_DNS, 'evt.rule'), 'errors'), and uuid5(uuid5(NAMESPACE_DNS, 'evt.alert'), …).
        assert_eq!(rule_id("errors").to_string(), "ab9e9ef6-aada-5d9d-9f62-427420199093");
        assert_eq!(
            alert_id(rule_id("errors"), r#"{"country":"DE"}"#, 59_000_000).to_string(),
            "5a04d119-aec2-5255-979e-7c1ab7bc2ec7"
        );
        assert_eq!(rule_id("58AEDB27-dcc1-534a-ba59-63b291b9768e").to_string(), "58aedb27-dcc1-534a-ba59-63b291b9768e");
    }
}
