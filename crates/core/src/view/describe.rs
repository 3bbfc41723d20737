//! Describes the contents of a stream: counts, rates, time range, disorder, shares of NULL, frequent values. Memory is
//! bounded.

use super::disorder::{self, LatenessReport, aggregate_of, share};
use crate::error::Result;
use crate::json::text::unescape;
use crate::json::walk::members;
use crate::kind::{Kind, array, holds_json};
use crate::op::aggregate::Aggregate;
use ahash::AHashMap;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, Schema};
use serde::Serialize;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Maximum number of distinct values per column that are counted one by one; later ones are counted together.
const VALUES_MAX: usize = 10_000;
/// Number of values shown per column.
const VALUES_SHOWN: usize = 10;
/// Maximum number of distinct property paths that are counted.
const PATHS_MAX: usize = 10_000;
/// Number of property paths shown.
const PATHS_SHOWN: usize = 50;
/// Maximum depth of a property path.
const PATH_PARTS: usize = 8;

/// The description of a stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Kind of the rows.
    pub kind: &'static str,
    /// Number of rows.
    pub rows: u64,
    /// Their time range; `None` if there are no rows, or none with a time of its own.
    pub time: Option<Range>,
    /// How far events are behind their partitions; `None` for kinds other than events.
    pub disorder: Option<disorder::Described>,
    /// Every column.
    pub columns: Vec<Nulls>,
    /// Paths into the properties or dimensions.
    pub paths: Option<Paths>,
    /// Frequent values of some columns.
    pub values: Vec<Values>,
}

/// A range in time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Range {
    /// The column with the times.
    pub column: &'static str,
    /// The first instant, RFC 3339.
    pub first: String,
    /// The last instant, RFC 3339.
    pub last: String,
    /// Seconds from the first to the last.
    pub seconds: f64,
    /// Rows per second over the range; `None` if there is only one instant.
    pub rows_per_second: Option<f64>,
}

/// The number of NULLs of a column or path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Nulls {
    /// The column or path.
    pub name: String,
    /// Rows without a value.
    pub nulls: u64,
    /// Their share of all rows.
    pub null_share: f64,
}

/// Paths into an object column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paths {
    /// The object column.
    pub column: &'static str,
    /// Number of distinct paths that were counted.
    pub distinct: usize,
    /// Whether there were more than the maximum.
    pub more: bool,
    /// The most frequent ones.
    pub most_frequent: Vec<Nulls>,
}

/// Values of one column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Values {
    /// The column.
    pub column: &'static str,
    /// Number of distinct values.
    pub distinct: u64,
    /// Whether that number is exact; else it is within a few percent.
    pub exact: bool,
    /// The most frequent ones, with their rows.
    pub most_frequent: Vec<(String, u64)>,
}

/// Describes batches of one schema.
pub struct Describe {
    kind: Kind,
    timed: bool,
    rows: u64,
    columns: Vec<Nulls>,
    /// From the least to the greatest.
    times: Option<RangeInclusive<i64>>,
    disorder: Option<LatenessReport>,
    paths: Option<PathCounts>,
    values: Vec<ValueCounts>,
}

impl Describe {
    /// Creates a describer for batches of `schema`, which has the kind `kind`; `timed` says whether rows have times of
    /// their own.
    pub fn try_new(kind: Kind, schema: &Schema, timed: bool) -> Result<Self> {
        let names = schema.fields().iter().map(|field| field.name().clone());
        let columns = names.map(|name| Nulls { name, nulls: 0, null_share: 0.0 }).collect();
        let disorder = (timed && matches!(kind, Kind::Event | Kind::Late)).then(LatenessReport::try_new).transpose()?;
        let paths = match kind {
            Kind::Event | Kind::Late => Some(PathCounts::new("properties")),
            Kind::Metric | Kind::Alert => Some(PathCounts::new("dimensions")),
            Kind::Dead => None,
        };
        let words: &[&'static str] = match kind {
            Kind::Event | Kind::Late => &["source", "event_type", "user_id"],
            Kind::Metric => &["metric_name", "dimensions"],
            Kind::Dead => &["error_type", "source_topic", "stage"],
            Kind::Alert => &["rule", "state", "severity", "reason"],
        };
        let values = words.iter().map(|column| ValueCounts::try_new(column)).collect::<Result<_>>()?;
        Ok(Self { kind, timed, rows: 0, columns, times: None, disorder, paths, values })
    }

    /// Adds the rows of a batch.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.rows += batch.num_rows() as u64;
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            column.nulls += array.logical_null_count() as u64;
        }
        if self.timed
            && let Some(times) = array::<TimestampMicrosecondArray>(batch, self.kind.time_column())
            && let (Some(first), Some(last)) = (min(times), max(times))
        {
            let known = self.times.take().unwrap_or(first..=last);
            self.times = Some(first.min(*known.start())..=last.max(*known.end()));
        }
        if let Some(disorder) = &mut self.disorder {
            disorder.push(batch)?;
        }
        if let Some(paths) = &mut self.paths {
            paths.push(batch);
        }
        self.values.iter_mut().try_for_each(|values| values.push(batch))
    }

    /// Returns the description.
    pub fn finish(self) -> Description {
        let rows = self.rows;
        let mut columns = self.columns;
        columns.iter_mut().for_each(|column| column.null_share = share(column.nulls, rows));
        Description {
            kind: self.kind.name(),
            rows,
            time: self.times.as_ref().map(|times| range(self.kind.time_column(), *times.start(), *times.end(), rows)),
            disorder: self.disorder.map(LatenessReport::finish),
            columns,
            paths: self.paths.map(|paths| paths.finish(rows)),
            values: self.values.into_iter().map(ValueCounts::finish).collect(),
        }
    }
}

fn range(column: &'static str, first: i64, last: i64, rows: u64) -> Range {
    let seconds = last.saturating_sub(first) as f64 / 1e6;
    let text = crate::time::format_instant;
    let rows_per_second = (seconds > 0.0).then(|| rows as f64 / seconds);
    Range { column, first: text(first), last: text(last), seconds, rows_per_second }
}

/// Counts the rows in which each path has a value.
struct PathCounts {
    column: &'static str,
    counts: Tallies,
    path: String,
}

impl PathCounts {
    fn new(column: &'static str) -> Self {
        Self { column, counts: Tallies::new(PATHS_MAX), path: String::new() }
    }

    fn push(&mut self, batch: &RecordBatch) {
        let objects = batch.schema_ref().fields().iter().position(|field| holds_json(field));
        let objects = objects.and_then(|index| batch.column(index).as_string_opt::<i32>());
        for object in objects.into_iter().flatten().flatten() {
            self.walk(object, 1);
        }
    }

    /// Counts the paths below an object whose path is in `self.path`.
    fn walk(&mut self, object: &str, depth: usize) {
        let length = self.path.len();
        members(object, |key, value| {
            if value == "null" {
                return true;
            }
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&unescape(key));
            if value.starts_with('{') && value.len() > 2 && depth < PATH_PARTS {
                self.walk(value, depth + 1);
            } else {
                self.counts.add(&self.path, 1);
            }
            self.path.truncate(length);
            true
        });
    }

    fn finish(self, rows: u64) -> Paths {
        let (distinct, more) = (self.counts.counts.len(), self.counts.more);
        let nulls = self.counts.most_frequent(PATHS_SHOWN).into_iter().map(|(name, count)| {
            // A name that occurs twice in an object is counted twice.
            let nulls = rows.saturating_sub(count);
            Nulls { name, nulls, null_share: share(nulls, rows) }
        });
        Paths { column: self.column, distinct, more, most_frequent: nulls.collect() }
    }
}

/// Counts of distinct texts, up to `limit`.
struct Tallies {
    counts: AHashMap<String, u64>,
    limit: usize,
    /// Whether some text was not counted because of the limit.
    more: bool,
}

impl Tallies {
    fn new(limit: usize) -> Self {
        Self { counts: AHashMap::new(), limit, more: false }
    }

    fn add(&mut self, text: &str, times: u64) {
        if let Some(count) = self.counts.get_mut(text) {
            *count += times;
        } else if self.counts.len() < self.limit {
            self.counts.insert(text.to_owned(), times);
        } else {
            self.more = true;
        }
    }

    /// Returns the greatest counts first, equal ones in the order of their text.
    fn most_frequent(self, limit: usize) -> Vec<(String, u64)> {
        let mut counts: Vec<(String, u64)> = self.counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts.truncate(limit);
        counts
    }
}

/// Counts the values of one column.
struct ValueCounts {
    column: &'static str,
    counts: Tallies,
    distinct: Box<dyn Aggregate>,
}

impl ValueCounts {
    fn try_new(column: &'static str) -> Result<Self> {
        let distinct = aggregate_of("approx_distinct(x)", DataType::Utf8)?;
        Ok(Self { column, counts: Tallies::new(VALUES_MAX), distinct })
    }

    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(column) = batch.column_by_name(self.column) else { return Ok(()) };
        let (words, times) = words_of(column)?;
        let rows: Vec<u32> = (0..).take(words.len()).collect();
        let array: ArrayRef = Arc::new(words.clone());
        self.distinct.add(&vec![0; rows.len()], &rows, &[array]);
        for (at, word) in words.iter().enumerate() {
            if let Some(word) = word {
                self.counts.add(word, times.as_ref().map_or(1, |times| times[at]));
            }
        }
        Ok(())
    }

    fn finish(self) -> Values {
        let exact = !self.counts.more;
        let distinct = match exact {
            true => self.counts.counts.len() as u64,
            false => self.distinct.result(0, 1).unwrap_or(0.0) as u64,
        };
        Values { column: self.column, distinct, exact, most_frequent: self.counts.most_frequent(VALUES_SHOWN) }
    }
}

/// Returns the words of a column, and the number of rows of each; `None` means one each.
fn words_of(column: &ArrayRef) -> Result<(StringArray, Option<Vec<u64>>)> {
    let Some(dictionary) = column.as_any_dictionary_opt() else {
        return Ok((arrow::compute::cast(column, &DataType::Utf8)?.as_string::<i32>().clone(), None));
    };
    let values = dictionary.values().as_string::<i32>();
    let mut times = vec![0; values.len()];
    for (row, key) in dictionary.normalized_keys().into_iter().enumerate() {
        if column.is_valid(row) {
            times[key] += 1;
        }
    }
    let used = values.iter().zip(&times).filter(|(_, times)| **times > 0);
    let (words, counts): (Vec<Option<&str>>, Vec<u64>) = used.map(|(word, times)| (word, *times)).unzip();
    Ok((words.into(), Some(counts)))
}

#[cfg(test)]
#[path = "describe_tests.rs"]
mod tests;
