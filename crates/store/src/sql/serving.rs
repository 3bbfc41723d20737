//! Metrics of a database that evt-serve answers with.

use super::correct::in_flight;
use super::progress::kept;
use super::{SqlConnection, SqlDatabase, SqlRow, SqlValue};
use crate::serving::{
    FoundWindows, MetricSample, MetricStanding, SAMPLE_ROWS, ServedMetrics, StoredCorrection, StoredMetric,
    WindowsRequest,
};
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use evt_core::kind::span::Span;
use evt_core::serve::answer::ServedWindow;
use evt_core::serve::request::{WantedValue, dimensions_of};
use evt_core::time::{EARLIEST, LATEST, format_instant};
use std::collections::BTreeSet;

/// The last corrections that are looked at.
const CORRECTIONS_MAX: usize = 10_000;

/// The metrics of a database.
pub struct SqlServing<D>(D);

impl<D: SqlDatabase + Send + 'static> SqlServing<D> {
    /// Answers from a database. Errors: it cannot be read.
    pub fn open(mut database: D) -> Result<Box<dyn ServedMetrics>> {
        database.read(|connection| connection.has_table(Kind::Metric.table()))?;
        Ok(Box::new(Self(database)))
    }
}

fn foreign(column: &str) -> Error {
    Error::corrupt(format!("aggregated_metrics: column '{column}' has a value evt did not write"))
}

impl<D: SqlDatabase + Send> ServedMetrics for SqlServing<D> {
    fn metrics(&mut self) -> Result<Vec<StoredMetric>> {
        self.0.read(
            |connection| if connection.has_table(Kind::Metric.table())? { metrics(connection) } else { Ok(vec![]) },
        )
    }

    fn windows(&mut self, request: &WindowsRequest<'_>) -> Result<FoundWindows> {
        self.0.read(|connection| {
            let standing = standing(connection, request.metric)?;
            match connection.has_table(Kind::Metric.table())? {
                true => Ok(FoundWindows { standing, ..windows(connection, request)? }),
                false => Ok(FoundWindows { standing, ..FoundWindows::default() }),
            }
        })
    }

    fn corrections(&mut self) -> Result<Vec<StoredCorrection>> {
        self.0.read(|connection| {
            let is_there = connection.has_table("corrections")? && connection.may_select("corrections")?;
            if is_there { corrections(connection) } else { Ok(vec![]) }
        })
    }
}

/// Returns the last corrections. A window that ended after the last change of one was not closed then.
fn corrections<C: SqlConnection>(connection: &C) -> Result<Vec<StoredCorrection>, C::Failure> {
    let sql = format!(
        "SELECT CAST(metrics AS TEXT), since, until, updated_at FROM corrections
        ORDER BY updated_at DESC LIMIT {CORRECTIONS_MAX}"
    );
    let (mut found, mut names) = (vec![], BTreeSet::new());
    for row in connection.query(&sql, &[])? {
        let metrics = row.text(0).and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
        let last_end = row.instant(3).ok_or_else(|| foreign("updated_at"))?;
        let range = Span { since: row.instant(1), until: row.instant(2) };
        for metric in metrics.ok_or_else(|| foreign("metrics"))? {
            names.insert(metric.clone());
            found.push(StoredCorrection { metric, range, last_end });
        }
    }
    let progress = kept(connection, &Vec::from_iter(names))?;
    Ok(found.into_iter().map(|correction| correction.until_watermark(&progress)).collect())
}

fn standing<C: SqlConnection>(connection: &C, metric: &str) -> Result<MetricStanding, C::Failure> {
    let progress = kept(connection, &[metric.to_owned()])?;
    let has_corrections = connection.has_table("corrections")? && connection.may_select("corrections")?;
    let running = if has_corrections { in_flight(connection)? } else { vec![] };
    let of_metric = running.into_iter().filter(|one| one.metrics.iter().any(|name| name == metric));
    let corrections = of_metric.map(|one| one.range).collect();
    Ok(MetricStanding { progress, corrections, kept_since: None })
}

/// Returns the metrics. Names and extents are found by the key of the table, whatever its size, and so are the last
/// windows.
fn metrics<C: SqlConnection>(connection: &C) -> Result<Vec<StoredMetric>, C::Failure> {
    let (mut found, mut after) = (vec![], String::new());
    let next = "SELECT metric_name, window_start FROM aggregated_metrics WHERE metric_name > $1
        ORDER BY metric_name, window_start LIMIT 1";
    let last = format!(
        "SELECT window_start, window_end, dimensions FROM aggregated_metrics WHERE metric_name = $1
        ORDER BY window_start DESC LIMIT {SAMPLE_ROWS}"
    );
    while let Some(row) = connection.query(next, &[(&after).into()])?.first() {
        let name = row.text(0).ok_or_else(|| foreign("metric_name"))?.to_owned();
        let first = row.instant(1).ok_or_else(|| foreign("window_start"))?;
        let (mut sample, mut last_end) = (MetricSample::default(), first);
        for row in connection.query(&last, &[(&name).into()])? {
            let start = row.instant(0).ok_or_else(|| foreign("window_start"))?;
            let end = row.instant(1).ok_or_else(|| foreign("window_end"))?;
            last_end = last_end.max(end);
            sample.add(start, end, row.text(2).unwrap_or_default());
        }
        found.push(sample.finish(&name, first, last_end));
        after = name;
    }
    Ok(found)
}

/// Returns the windows of a request.
fn windows<C: SqlConnection>(connection: &C, request: &WindowsRequest<'_>) -> Result<FoundWindows, C::Failure> {
    let WindowsRequest { metric, starts, last_end, dimensions, limit } = *request;
    let bound = |instant: i64| SqlValue::from(&format_instant(instant.clamp(EARLIEST, LATEST)));
    let since = bound(starts.since.unwrap_or(EARLIEST));
    let until = bound(starts.until.map_or(last_end, |until| until.min(last_end)));
    let mut values = vec![SqlValue::from(metric), since, until, bound(last_end)];
    let mut conditions = String::new();
    for (name, wanted) in dimensions {
        // SQLite takes some texts for paths, and finds no name with a quote; the dimensions are compared again below.
        let is_escaped = name.contains(|one: char| matches!(one, '"' | '\\') || one.is_control());
        if is_escaped || !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
            continue;
        }
        values.push(SqlValue::from(name));
        let name = values.len();
        match wanted {
            WantedValue::Any => conditions.push_str(&format!(" AND dimensions ->> ${name} IS NOT NULL")),
            WantedValue::Null => conditions.push_str(&format!(" AND dimensions ->> ${name} IS NULL")),
            WantedValue::Text(value) => {
                values.push(SqlValue::from(value));
                conditions.push_str(&format!(" AND dimensions ->> ${name} = ${}", values.len()));
            }
        }
    }
    let sql = format!(
        r#"SELECT window_start, window_end, dimensions, value, "rows", revision, pane FROM aggregated_metrics
           WHERE metric_name = $1 AND window_start >= $2 AND window_start < $3 AND window_end <= $4{conditions}
           ORDER BY window_start, window_end, dimensions LIMIT {}"#,
        limit.saturating_add(1)
    );
    let rows = connection.query(&sql, &values)?;
    let mut found = FoundWindows { is_more: rows.len() > limit, ..FoundWindows::default() };
    for row in rows {
        let window = window(&row)?;
        let is_wanted = starts.until.is_none_or(|until| window.start < until)
            && WantedValue::all(dimensions, &dimensions_of(&window.dimensions));
        // It has one row more to know whether there is one.
        if is_wanted && found.windows.len() < limit {
            found.windows.push(window);
        }
    }
    Ok(found)
}

fn window(row: &SqlRow) -> Result<ServedWindow> {
    let long = |column: usize, name: &str| row.long(column).ok_or_else(|| foreign(name));
    let instant = |column: usize, name: &str| row.instant(column).ok_or_else(|| foreign(name));
    let number = |column: usize, name: &str| i32::try_from(long(column, name)?).map_err(|_| foreign(name));
    Ok(ServedWindow {
        start: instant(0, "window_start")?,
        end: instant(1, "window_end")?,
        dimensions: row.text(2).ok_or_else(|| foreign("dimensions"))?.into(),
        value: row.real(3),
        rows: long(4, "rows")?,
        revision: number(5, "revision")?,
        pane: number(6, "pane")?,
        is_final: None,
    })
}
