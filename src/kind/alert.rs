//! The kind "alert": a rule that fires or is resolved for one set of dimensions.
//!
//! An alert is one period of a rule and its dimensions: it fires at most once and is resolved at most once, so its rows are
//! identified by (`alert_id`, `state`).

use super::field::{id, instant, json, optional, text};
use super::values::{CellValue, ColumnBuilder};
use crate::error::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, TimestampMicrosecondType};
use std::borrow::Cow;
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

pub(super) fn fields() -> Vec<Field> {
    vec![
        id("alert_id"),
        id("rule_id"),
        text("rule"),
        text("dimensions"),
        text("severity"),
        text("state"),
        text("reason"),
        optional(Field::new("value", DataType::Float64, true)),
        optional(Field::new("threshold", DataType::Float64, true)),
        instant("window_start"),
        instant("window_end"),
        instant("since"),
        instant("at"),
        json("labels").with_nullable(false),
        text("summary"),
        Field::new("caught_up", DataType::Boolean, false),
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
    Uuid::new_v5(&ALERTS, key.as_bytes())
}

/// Returns the `rule_id` that a rules file states: a UUID as it is, else the UUIDv5 of the text. A rule without `rule_id`
/// has the one of its name.
pub fn rule_id(text: &str) -> Uuid {
    Uuid::try_parse(text).unwrap_or_else(|_| Uuid::new_v5(&RULES, text.as_bytes()))
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

/// What the rows of an alert say of its rule.
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
    /// Whether the alert clock was far behind the wall clock: such a firing is no page.
    pub caught_up: bool,
}

impl Alert {
    /// Returns the id of the alert.
    pub fn id(&self) -> Uuid {
        alert_id(self.rule.rule_id, &self.dimensions, self.since)
    }

    /// Returns its values in the order of [`COLUMNS`].
    fn cells(&self) -> Result<[CellValue<'_>; COLUMNS.len()]> {
        let text = |text| CellValue::Text(Some(Cow::Borrowed(text)));
        let id = |id: Uuid| CellValue::Id(Some(id.into_bytes()));
        let instant = |micros| CellValue::Instant(Some(micros));
        let labels = serde_json::to_string(&self.rule.labels).map_err(|e| Error::broken("labels").because(e))?;
        Ok([
            id(self.id()),
            id(self.rule.rule_id),
            text(&self.rule.name),
            text(&self.dimensions),
            text(&self.rule.severity),
            text(self.state.name()),
            text(self.reason.name()),
            CellValue::Double(self.value),
            CellValue::Double(self.rule.threshold),
            instant(self.window_start),
            instant(self.window_end),
            instant(self.since),
            instant(self.at),
            CellValue::Text(Some(Cow::Owned(labels))),
            text(&self.summary),
            CellValue::Bool(Some(self.caught_up)),
        ])
    }
}

/// Makes a batch of alerts, with the kind's schema.
pub fn batch<'a>(alerts: impl IntoIterator<Item = &'a Alert>) -> Result<RecordBatch> {
    let schema = super::Kind::Alert.schema();
    let mut columns: Vec<_> = schema.fields().iter().map(|field| ColumnBuilder::new(field)).collect();
    for alert in alerts {
        for (column, value) in columns.iter_mut().zip(alert.cells()?) {
            column.append(value).ok_or_else(|| Error::broken("an alert does not fit the columns of its kind"))?;
        }
    }
    Ok(RecordBatch::try_new(schema, columns.iter_mut().map(ColumnBuilder::finish).collect())?)
}

/// Reads the alerts of a batch with the kind's schema. Errors: exit status 65 for a state, reason or labels that evt does not
/// write, and for an id that is not the UUIDv5 of its alert.
pub fn read(batch: &RecordBatch) -> Result<Vec<Alert>> {
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| Error::corrupt(format!("alerts: expected a column '{name}'")))
    };
    let columns = COLUMNS.iter().map(|name| column(name)).collect::<Result<Vec<_>>>()?;
    (0..batch.num_rows()).map(|row| Row { columns: &columns, row }.read()).collect()
}

/// One row of a batch of alerts.
struct Row<'a> {
    columns: &'a [&'a ArrayRef],
    row: usize,
}

impl Row<'_> {
    fn read(&self) -> Result<Alert> {
        let (text, state, reason) = (|at| self.text(at), self.text(5)?, self.text(6)?);
        let labels = serde_json::from_str(text(13)?).map_err(|_| fault("labels", text(13).unwrap_or_default()))?;
        let alert = Alert {
            rule: Arc::new(AlertRule {
                rule_id: self.id(1)?,
                name: text(2)?.to_owned(),
                severity: text(4)?.to_owned(),
                threshold: self.number(8)?,
                labels,
            }),
            dimensions: text(3)?.to_owned(),
            state: AlertState::from_name(state).ok_or_else(|| fault("state", state))?,
            reason: AlertReason::from_name(reason).ok_or_else(|| fault("reason", reason))?,
            value: self.number(7)?,
            window_start: self.instant(9)?,
            window_end: self.instant(10)?,
            since: self.instant(11)?,
            at: self.instant(12)?,
            summary: text(14)?.to_owned(),
            caught_up: self.columns[15].as_boolean_opt().ok_or_else(|| unexpected(15))?.value(self.row),
        };
        let (expected, found) = (alert.id(), self.id(0)?);
        if expected != found {
            let message = format!("alert_id: expected {expected} (of rule_id, dimensions and since), found {found}");
            return Err(Error::corrupt(message));
        }
        Ok(alert)
    }

    fn text(&self, at: usize) -> Result<&str> {
        Ok(self.columns[at].as_string_opt::<i32>().ok_or_else(|| unexpected(at))?.value(self.row))
    }

    fn id(&self, at: usize) -> Result<Uuid> {
        let ids = self.columns[at].as_fixed_size_binary_opt().ok_or_else(|| unexpected(at))?;
        Uuid::from_slice(ids.value(self.row)).map_err(|_| unexpected(at))
    }

    fn number(&self, at: usize) -> Result<Option<f64>> {
        let numbers = self.columns[at].as_primitive_opt::<Float64Type>().ok_or_else(|| unexpected(at))?;
        Ok(numbers.is_valid(self.row).then(|| numbers.value(self.row)))
    }

    fn instant(&self, at: usize) -> Result<i64> {
        let instants = self.columns[at].as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| unexpected(at))?;
        Ok(instants.value(self.row))
    }
}

fn fault(name: &str, found: &str) -> Error {
    Error::corrupt(format!("{name}: expected one of an alert, found '{found}'"))
}

fn unexpected(at: usize) -> Error {
    Error::corrupt(format!("alerts: column '{}' has another type", COLUMNS[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert() -> Alert {
        let labels = BTreeMap::from([("team".to_owned(), "shop \"1\"".to_owned())]);
        let (rule_id, name) = (rule_id("errors"), "errors".to_owned());
        Alert {
            rule: Arc::new(AlertRule { rule_id, name, severity: "critical".to_owned(), threshold: Some(0.01), labels }),
            dimensions: r#"{"country":"DE"}"#.to_owned(),
            state: AlertState::Firing,
            reason: AlertReason::Condition,
            value: Some(f64::INFINITY),
            window_start: -1_000_000,
            window_end: 59_000_000,
            since: 59_000_000,
            at: 89_000_000,
            summary: "errors of DE".to_owned(),
            caught_up: false,
        }
    }

    #[test]
    fn the_ids_are_these_bytes() {
        // Python: uuid5(uuid5(NAMESPACE_DNS, 'evt.rule'), 'errors'), and uuid5(uuid5(NAMESPACE_DNS, 'evt.alert'), …).
        assert_eq!(rule_id("errors").to_string(), "ab9e9ef6-aada-5d9d-9f62-427420199093");
        assert_eq!(alert().id().to_string(), "5a04d119-aec2-5255-979e-7c1ab7bc2ec7");
        assert_eq!(rule_id("58AEDB27-dcc1-534a-ba59-63b291b9768e").to_string(), "58aedb27-dcc1-534a-ba59-63b291b9768e");
    }

    #[test]
    fn alerts_are_read_as_they_were_made() {
        let firing = alert();
        let resolved = AlertReason::ALL.map(|reason| Alert {
            state: AlertState::Resolved,
            reason,
            value: None,
            at: 120_000_000,
            caught_up: true,
            ..alert()
        });
        let alerts: Vec<Alert> = std::iter::once(firing).chain(resolved).collect();
        let rows = batch(&alerts).unwrap();
        assert_eq!(read(&rows).unwrap(), alerts);
        assert_eq!(read(&rows.slice(3, 2)).unwrap(), alerts[3..5]);
    }

    #[test]
    fn an_id_of_another_alert_is_refused() {
        let rows = batch([&alert(), &Alert { since: 0, ..alert() }]).unwrap();
        let mut columns = rows.columns().to_vec();
        columns[0] = arrow::compute::take(&columns[0], &arrow::array::UInt32Array::from(vec![1, 0]), None).unwrap();
        let error = read(&RecordBatch::try_new(rows.schema(), columns).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("alert_id: expected "), "{error}");
    }
}
