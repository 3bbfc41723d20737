//! Batches of alerts: builds and reads them, and completes those of older versions.

use super::Kind;
use super::alert::{Alert, AlertReason, AlertRule, AlertState, COLUMNS, OLDER_COLUMNS, alert_id, rule_id};
use super::values::{CellValue, ColumnBuilder};
use crate::error::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

/// Returns the values of an alert in the order of [`COLUMNS`].
fn cells(alert: &Alert) -> Result<[CellValue<'_>; COLUMNS.len()]> {
    let text = |text| CellValue::Text(Some(Cow::Borrowed(text)));
    let id = |id: Uuid| CellValue::Id(Some(id.into_bytes()));
    let instant = |micros| CellValue::Instant(Some(micros));
    let labels = serde_json::to_string(&alert.rule.labels).map_err(|e| Error::broken("labels").because(e))?;
    Ok([
        id(alert.id()),
        id(alert.rule.rule_id),
        text(&alert.rule.name),
        text(&alert.dimensions),
        text(&alert.rule.severity),
        text(alert.state.name()),
        text(alert.reason.name()),
        CellValue::Double(alert.value),
        CellValue::Double(alert.rule.threshold),
        instant(alert.window_start),
        instant(alert.window_end),
        instant(alert.since),
        instant(alert.at),
        CellValue::Text(Some(Cow::Owned(labels))),
        text(&alert.summary),
        CellValue::Bool(Some(alert.caught_up)),
    ])
}

/// Makes a batch of alerts, with the kind's schema.
pub fn batch<'a>(alerts: impl IntoIterator<Item = &'a Alert>) -> Result<RecordBatch> {
    let schema = Kind::Alert.schema();
    let mut columns: Vec<_> = schema.fields().iter().map(|field| ColumnBuilder::new(field)).collect();
    for alert in alerts {
        for (column, value) in columns.iter_mut().zip(cells(alert)?) {
            column.append(value).ok_or_else(|| Error::broken("an alert does not fit the columns of its kind"))?;
        }
    }
    Ok(RecordBatch::try_new(schema, columns.iter_mut().map(ColumnBuilder::finish).collect())?)
}

/// Reads the alerts of a batch with the kind's schema. Errors: exit status 65 for a state, reason or labels that evt
/// does not write, and for an id that is not the UUIDv5 of its alert.
pub fn read(batch: &RecordBatch) -> Result<Vec<Alert>> {
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| Error::corrupt(format!("alerts: expected a column '{name}'")))
    };
    let columns = COLUMNS.iter().map(|name| column(name)).collect::<Result<Vec<_>>>()?;
    (0..batch.num_rows()).map(|row| Row { columns: &columns, row }.read()).collect()
}

/// Completes the rows of older versions for a store, whose keys have no NULL: the id is that of an alert without
/// dimensions.
pub fn completed(batch: &RecordBatch) -> Result<RecordBatch> {
    let added = COLUMNS.iter().enumerate().filter(|(_, name)| !OLDER_COLUMNS.contains(*name) && **name != "threshold");
    let added: Vec<usize> = added.map(|(at, _)| at).filter(|at| batch.column(*at).null_count() > 0).collect();
    if added.is_empty() {
        return Ok(batch.clone());
    }
    let (schema, mut columns) = (batch.schema(), batch.columns().to_vec());
    let all: Vec<&ArrayRef> = batch.columns().iter().collect();
    for at in added {
        let mut column = ColumnBuilder::new(schema.field(at));
        for row in 0..batch.num_rows() {
            let row = Row { columns: &all, row };
            column.append(row.completed(at)?).ok_or_else(|| unexpected(at))?;
        }
        columns[at] = column.finish();
    }
    Ok(RecordBatch::try_new(schema, columns)?)
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
            caught_up: self.flag(15)?,
        };
        let (expected, found) = (alert.id(), self.id(0)?);
        if expected != found {
            let message = format!("alert_id: expected {expected} (of rule_id, dimensions and since), found {found}");
            return Err(Error::corrupt(message));
        }
        Ok(alert)
    }

    /// Returns the value of an added column, or what it is in a row of an older version.
    fn completed(&self, at: usize) -> Result<CellValue<'_>> {
        let text = |text| Ok(CellValue::Text(Some(Cow::Borrowed(text))));
        let is_there = |at: usize| self.columns[at].is_valid(self.row);
        let rule = || if is_there(1) { self.id(1) } else { Ok(rule_id(self.text(2)?)) };
        let dimensions = || if is_there(3) { self.text(3) } else { Ok("{}") };
        match (at, is_there(at)) {
            (0 | 1, true) => Ok(CellValue::Id(Some(self.id(at)?.into_bytes()))),
            (0, false) => {
                let id = alert_id(rule()?, dimensions()?, self.instant(11)?);
                Ok(CellValue::Id(Some(id.into_bytes())))
            }
            (1, false) => Ok(CellValue::Id(Some(rule()?.into_bytes()))),
            (12, true) => Ok(CellValue::Instant(Some(self.instant(12)?))),
            (12, false) => Ok(CellValue::Instant(Some(self.instant(10)?))),
            (15, there) => Ok(CellValue::Bool(Some(there && self.flag(15)?))),
            (at, true) => text(self.text(at)?),
            (3 | 13, false) => text("{}"),
            (4, false) => text("unknown"),
            (6, false) => text(AlertReason::Condition.name()),
            (_, false) => text(""),
        }
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

    fn flag(&self, at: usize) -> Result<bool> {
        Ok(self.columns[at].as_boolean_opt().ok_or_else(|| unexpected(at))?.value(self.row))
    }

    fn instant(&self, at: usize) -> Result<i64> {
        let instants = self.columns[at].as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| unexpected(at))?;
        Ok(instants.value(self.row))
    }
}

fn fault(name: &str, found: &str) -> Error {
    Error::corrupt(format!("{name}: expected a value that evt-alert writes, found '{found}'"))
}

fn unexpected(at: usize) -> Error {
    Error::corrupt(format!("alerts: column '{}' has another type", COLUMNS[at]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

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
    fn rows_of_older_versions_are_completed_and_others_stay() {
        let rows = batch([&alert(), &Alert { value: None, ..alert() }]).unwrap();
        assert_eq!(completed(&rows).unwrap(), rows);
        let schema = rows.schema();
        let older = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
            let is_older = OLDER_COLUMNS.contains(&field.name().as_str());
            if is_older { column.clone() } else { arrow::array::new_null_array(field.data_type(), 2) }
        });
        let older = RecordBatch::try_new(schema.clone(), older.collect()).unwrap();
        let expected = |value| Alert {
            rule: Arc::new(AlertRule {
                severity: "unknown".to_owned(),
                threshold: None,
                labels: BTreeMap::new(),
                ..(*alert().rule).clone()
            }),
            dimensions: "{}".to_owned(),
            value,
            at: alert().window_end,
            summary: String::new(),
            ..alert()
        };
        assert_eq!(read(&completed(&older).unwrap()).unwrap(), [expected(alert().value), expected(None)]);
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
