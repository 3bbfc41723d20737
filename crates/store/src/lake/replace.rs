//! `?mode=replace`: decides which days a run may replace.
//!
//! A day is replaced as a whole, so a run that read only a part of its rows would lose the others. Before the run
//! replaces a day, it compares each day with its new version: no origin may lose rows. It never replaces days with rows
//! of standard input, because every standard input has the same origin. It compares kinds without an origin by key: the
//! run must have each key, with at least as many events or a greater revision. `shrink=ok` skips the comparison.
//!
//! Only the compared columns of files are read, one batch at a time. The module `exchange` replaces the days.

use crate::cells::Cells;
use crate::guard::{Stored, Version};
use crate::lake::metric::KEYS;
use crate::lake::read::Day;
use crate::rows;
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use evt_core::counts::counted;
use evt_core::error::{Error, Result};
use evt_core::format::jsonl::Objects;
use evt_core::kind::Kind;
use evt_core::kind::metric::MetricColumns;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// The origin of rows from standard input.
const STANDARD_INPUT: &str = "-";

/// The keys of a run, for kinds without an origin.
#[derive(Default)]
pub struct RunKeys {
    /// The greatest version of each key by the digest of the key, retractions included.
    versions: HashMap<u128, Version>,
}

/// A day that a run must not replace.
#[derive(Debug, PartialEq, Eq)]
pub struct Loss {
    day: String,
    rows_before: u64,
    rows_after: u64,
    cause: Option<Cause>,
}

/// Why a day would lose rows.
#[derive(Debug, PartialEq, Eq)]
enum Cause {
    /// This many rows come from standard input.
    Nameless(u64),
    /// The first origin that would lose rows.
    Origin { name: String, rows: RowCounts },
    /// The key of the first stored row that the run does not write again.
    Key(String),
    /// Rows with more events than the run's row of the same key, and the first of them.
    Events { keys: u64, first: String, before: i64, after: i64 },
}

/// The number of rows of one origin in a day and in its new version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RowCounts {
    before: u64,
    after: u64,
}

/// Returns the column with the origin of a row.
fn origin_column(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Event | Kind::Late => Some("origin"),
        Kind::Dead => Some("source_topic"),
        Kind::Metric | Kind::Alert => None,
    }
}

impl RunKeys {
    /// Notes rows of the run.
    pub fn take(&mut self, kind: Kind, batch: &RecordBatch) -> Result<()> {
        if origin_column(kind).is_some() {
            return Ok(());
        }
        let versions = versions(kind, batch)?;
        for (row, key) in rows::each_key(kind, batch)?.into_iter().enumerate() {
            let version = version(versions.as_ref(), row);
            self.versions.entry(key).and_modify(|known| *known = version.max(*known)).or_insert(version);
        }
        if self.versions.len() > KEYS {
            return Err(too_many("keys in one run"));
        }
        Ok(())
    }

    /// Returns the loss if `new` replaced `day`: fewer rows, or rows of the day that `new` does not have; `None` if
    /// there is none.
    pub fn judge(&self, kind: Kind, day: Day, new: Day) -> Result<Option<Loss>> {
        let (rows_before, rows_after, name) = (day.rows()?, new.rows()?, day.name().to_owned());
        let cause = match origin_column(kind) {
            Some(column) => fewer_rows(kind, column, day, new)?,
            None => self.missing(kind, day)?,
        };
        let loses = rows_after < rows_before || cause.is_some();
        Ok(loses.then_some(Loss { day: name, rows_before, rows_after, cause }))
    }

    /// Returns a key of the day that the run does not have, else the keys with more events in the day.
    fn missing(&self, kind: Kind, day: Day) -> Result<Option<Cause>> {
        let columns = [rows::key_columns(kind), version_columns(kind)].concat();
        let mut outnumbered = None;
        for batch in day.columns(kind, &columns)? {
            let batch = batch?;
            let versions = versions(kind, &batch)?;
            for (row, key) in rows::each_key(kind, &batch)?.into_iter().enumerate() {
                let Some(version) = self.versions.get(&key) else {
                    return Ok(Some(Cause::Key(key_text(kind, &batch, row)?)));
                };
                let there = self::version(versions.as_ref(), row);
                if there.rows <= version.rows || there.revision < version.revision {
                    continue;
                }
                match &mut outnumbered {
                    Some(Cause::Events { keys, .. }) => *keys += 1,
                    _ => {
                        let first = key_text(kind, &batch, row)?;
                        outnumbered = Some(Cause::Events { keys: 1, first, before: there.rows, after: version.rows });
                    }
                }
            }
        }
        Ok(outnumbered)
    }
}

/// Returns the first origin with fewer rows in the new version of a day; first of all, rows of standard input.
fn fewer_rows(kind: Kind, column: &str, day: Day, new: Day) -> Result<Option<Cause>> {
    let mut origins: BTreeMap<String, RowCounts> = BTreeMap::new();
    for batch in day.columns(kind, &[column])? {
        let batch = batch?;
        each_origin(&batch, column, |origin| match origins.get_mut(origin) {
            Some(rows) => rows.before += 1,
            None => drop(origins.insert(origin.to_owned(), RowCounts { before: 1, after: 0 })),
        })?;
        if origins.len() > KEYS {
            return Err(too_many("origins in one day"));
        }
    }
    if let Some(rows) = origins.get(STANDARD_INPUT) {
        return Ok(Some(Cause::Nameless(rows.before)));
    }
    for batch in new.columns(kind, &[column])? {
        each_origin(&batch?, column, |origin| origins.get_mut(origin).into_iter().for_each(|rows| rows.after += 1))?;
    }
    let fewer = origins.into_iter().find(|(_, rows)| rows.after < rows.before);
    Ok(fewer.map(|(name, rows)| Cause::Origin { name, rows }))
}

fn too_many(what: &str) -> Error {
    let message = format!("parquet: more than {KEYS} {what}, the limit with mode=replace");
    Error::failed(message)
}

/// Formats the key of a row as JSON.
fn key_text(kind: Kind, batch: &RecordBatch, row: usize) -> Result<String> {
    let columns = rows::key_columns(kind).iter().map(|name| batch.schema_ref().index_of(name));
    let batch = batch.project(&columns.collect::<std::result::Result<Vec<_>, _>>()?)?;
    // The projected schema is not that of a kind; with the kind's metadata the columns are formatted by kind, so that
    // JSON is not quoted as text.
    let schema = Schema::new_with_metadata(batch.schema_ref().fields().clone(), kind.schema().metadata().clone());
    let mut text = String::new();
    Objects::try_new(&batch.with_schema(Arc::new(schema))?)?.write(row, &mut text);
    Ok(text)
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { day, rows_before, rows_after, cause } = self;
        let rows = counted(*rows_before, ["row", "rows"]);
        write!(f, "nothing was replaced: {day} has {rows} and would have {rows_after}")?;
        if let Some(cause) = cause {
            write!(f, "; {cause}")?;
        }
        f.write_str(" (shrink=ok replaces it anyway)")
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nameless(rows) => write!(
                f,
                "{} from standard input, which has no name, so evt cannot tell whether both \
                 runs read the same input (set --origin NAME)",
                counted(*rows, ["of its rows comes", "of its rows come"])
            ),
            Self::Origin { name, rows } => write!(f, "rows of {name}: {} before, {} after", rows.before, rows.after),
            Self::Key(key) => write!(f, "its row {key} is missing from this run"),
            Self::Events { keys, first, before, after } => write!(
                f,
                "{} more events there than in this run (a metric row covers its whole window), first \
                 {first}: rows {before} before, {after} after",
                counted(*keys, ["key has", "keys have"])
            ),
        }
    }
}

/// Returns the columns of a row's version.
fn version_columns(kind: Kind) -> &'static [&'static str] {
    if kind == Kind::Metric { &["revision", "rows"] } else { &[] }
}

/// Returns the version of a row; all are equal if the kind has no versions.
fn version(columns: Option<&MetricColumns<'_>>, row: usize) -> Version {
    columns.map_or(Version { revision: 0, rows: 0 }, |columns| Stored::of(columns, row).version)
}

/// Returns the columns with the versions of a batch, if its kind has versions.
fn versions(kind: Kind, batch: &RecordBatch) -> Result<Option<MetricColumns<'_>>> {
    (kind == Kind::Metric).then(|| MetricColumns::try_new(batch)).transpose()
}

/// Calls `see` with the origin of each row of a batch.
fn each_origin(batch: &RecordBatch, column: &str, mut see: impl FnMut(&str)) -> Result<()> {
    let origins = Cells::try_new(rows::column(batch, column)?)?;
    for row in 0..batch.num_rows() {
        see(origins.text(row)?);
    }
    Ok(())
}
