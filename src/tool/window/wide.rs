//! `--wide`: the metrics of one window and key are columns of one row.

use arrow::array::{ArrayRef, Float64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use evt_core::error::{Error, Result};
use evt_core::format::metric_columns::{column_name, push_dimensions};
use evt_core::kind::metric::{COLUMNS, column};
use evt_core::kind::{self, instant_type};
use evt_core::op::window::metric::Metric;
use evt_core::op::window::spec::Spec;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The columns of a row's window.
const WINDOW: [&str; 2] = [COLUMNS[column::WINDOW_START], COLUMNS[column::WINDOW_END]];
/// Maximum rows in a batch.
const BATCH_ROWS: usize = 1024;

/// The rows of windows that fire, until all of their metrics have come.
pub struct Wide {
    dimensions: Vec<String>,
    /// The index of each metric by its name.
    metrics: HashMap<String, usize>,
    windows: BTreeMap<WindowBounds, WindowRows>,
}

/// A window (µs); windows are in the order of their ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct WindowBounds {
    end: i64,
    start: i64,
}

/// The rows of one window.
#[derive(Default)]
struct WindowRows {
    /// The index of the row of each key.
    indices: HashMap<String, usize>,
    rows: Vec<WideRow>,
}

/// A key, as canonical JSON, and the value of each metric; NULL too if the metric has counted no event of the key.
struct WideRow {
    dimensions: String,
    values: Vec<Option<f64>>,
}

/// The columns of a batch.
struct Columns {
    starts: TimestampMicrosecondBuilder,
    ends: TimestampMicrosecondBuilder,
    dimensions: Vec<StringBuilder>,
    values: Vec<Float64Builder>,
    rows: usize,
}

impl Wide {
    /// Checks that the metrics of a spec can stand side by side.
    ///
    /// Errors: exit status 2 if they have several dimensions, windows or latenesses, or if two columns have one name.
    pub fn new(spec: &Spec) -> Result<Self> {
        let key = |metric: &Metric| {
            let mut by: Vec<String> = metric.by.iter().map(|by| by.text.clone()).collect();
            by.sort_unstable();
            (by, metric.shape, metric.lateness)
        };
        let other = spec.metrics.iter().skip(1).find(|other| key(other) != key(&spec.metrics[0]));
        if let Some(other) = other {
            return Err(Error::usage(format!(
                "--wide: expected metrics with the same by, windows and lateness, found {} and {}",
                spec.metrics[0].name, other.name
            )));
        }
        let names = spec.metrics.iter().map(|metric| metric.name.clone());
        let metrics = names.zip(0..).collect();
        let wide = Self { dimensions: spec.dimensions(), metrics, windows: BTreeMap::new() };
        let schema = wide.schema();
        let columns: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
        match columns.iter().enumerate().find(|(at, name)| columns[..*at].contains(name)) {
            None => Ok(wide),
            Some((_, name)) => Err(Error::usage(format!(
                "--wide: expected one column {name}, found two; give the metric another name"
            ))),
        }
    }

    /// Returns the schema of its rows, which are of no kind: no store and no stage takes them for metrics.
    pub fn schema(&self) -> SchemaRef {
        let mut names: Vec<(&String, usize)> = self.metrics.iter().map(|(name, at)| (name, *at)).collect();
        names.sort_unstable_by_key(|(_, at)| *at);
        let others: Vec<&str> = WINDOW.into_iter().chain(names.iter().map(|(name, _)| name.as_str())).collect();
        let text = |name: &String| Field::new(column_name(name, &others), DataType::Utf8, true);
        let instants = WINDOW.map(|name| Field::new(name, instant_type(), false)).into_iter();
        let values = names.iter().map(|(name, _)| Field::new(name.as_str(), DataType::Float64, true));
        Arc::new(Schema::new(instants.chain(self.dimensions.iter().map(text)).chain(values).collect::<Vec<_>>()))
    }

    /// Takes a final row of a metric.
    pub fn push(&mut self, row: &kind::metric::Row<'_>) -> Result<()> {
        let Some(metric) = self.metrics.get(row.name) else {
            return Err(Error::broken(format!("a row of an unknown metric {}", row.name)));
        };
        let WindowRows { indices, rows } =
            self.windows.entry(WindowBounds { end: row.end, start: row.start }).or_default();
        let at = match indices.get(row.dimensions) {
            Some(at) => *at,
            None => {
                indices.insert(row.dimensions.to_owned(), rows.len());
                rows.push(WideRow { dimensions: row.dimensions.to_owned(), values: vec![None; self.metrics.len()] });
                rows.len() - 1
            }
        };
        rows[at].values[*metric] = row.value;
        Ok(())
    }

    /// Emits the rows that came, by window. Those of a window are in the order of their dimensions, or as they came if
    /// `is_ranked`.
    pub fn finish(&mut self, is_ranked: bool, emit: &mut dyn FnMut(Vec<ArrayRef>) -> Result<()>) -> Result<()> {
        let mut columns = self.columns();
        for (WindowBounds { end, start }, WindowRows { mut rows, .. }) in std::mem::take(&mut self.windows) {
            if !is_ranked {
                rows.sort_unstable_by(|one, other| one.dimensions.cmp(&other.dimensions));
            }
            for WideRow { dimensions, values } in rows {
                columns.starts.append_value(start);
                columns.ends.append_value(end);
                push_dimensions(&dimensions, &self.dimensions, &mut columns.dimensions)?;
                columns.values.iter_mut().zip(values).for_each(|(column, value)| column.append_option(value));
                columns.rows += 1;
                if columns.rows == BATCH_ROWS {
                    emit(std::mem::replace(&mut columns, self.columns()).finish())?;
                }
            }
        }
        if columns.rows > 0 { emit(columns.finish()) } else { Ok(()) }
    }

    fn columns(&self) -> Columns {
        Columns {
            starts: TimestampMicrosecondBuilder::new(),
            ends: TimestampMicrosecondBuilder::new(),
            dimensions: self.dimensions.iter().map(|_| StringBuilder::new()).collect(),
            values: self.metrics.iter().map(|_| Float64Builder::new()).collect(),
            rows: 0,
        }
    }
}

impl Columns {
    fn finish(mut self) -> Vec<ArrayRef> {
        let starts: ArrayRef = Arc::new(self.starts.finish().with_timezone("UTC"));
        let ends: ArrayRef = Arc::new(self.ends.finish().with_timezone("UTC"));
        let dimensions = self.dimensions.iter_mut().map(|texts| Arc::new(texts.finish()) as ArrayRef);
        let values = self.values.iter_mut().map(|values| Arc::new(values.finish()) as ArrayRef);
        [starts, ends].into_iter().chain(dimensions).chain(values).collect()
    }
}
