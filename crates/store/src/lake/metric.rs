//! Collects metrics for a lake: the last row of each key with retractions applied, because a lake holds results and not
//! panes. They stay in memory until the end of the run or of the epoch; there are at most [`KEYS`].

use crate::guard::{ConflictReport, RowOutcome, Stored, Version, judge_retraction, judge_row};
use crate::lake::directory::{Lake, LakePart};
use crate::lake::extents::Extents;
use crate::lake::file::Writing;
use crate::lake::read::file::LakeFile;
use crate::lake::repeat::StoredFiles;
use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use evt_core::counts::SinkCounts;
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use evt_core::kind::metric::MetricColumns;
use evt_core::time::{DAY, format_instant};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Maximum number of keys of one run, or of one epoch; about 1 GiB.
pub const KEYS: usize = 4 << 20;

type RowId = [u8; 16];

/// A metric row in memory.
#[derive(Clone, Debug)]
struct Row {
    id: RowId,
    name: Arc<str>,
    start: i64,
    end: i64,
    dimensions: Box<str>,
    stored: Stored,
    pane: i32,
}

impl Row {
    /// Returns the key: name, start and end of the window, dimensions. Rows are ordered by it.
    fn key(&self) -> (&str, i64, i64, &str) {
        (&self.name, self.start, self.end, &self.dimensions)
    }

    /// Returns the key in the order by name, dimensions and window.
    fn key_of_dimensions(&self) -> (&str, &str, i64, i64) {
        (&self.name, &self.dimensions, self.start, self.end)
    }

    /// Returns the key for messages: name, start of the window, dimensions.
    fn shown(&self) -> String {
        format!("{} {} {}", self.name, format_instant(self.start), self.dimensions)
    }
}

/// The state of a key: its row, and the greatest version that was retracted.
#[derive(Clone, Default)]
struct KeyState {
    row: Option<Row>,
    last_retraction: Option<Version>,
    /// The last retraction, if it may remove a row of an earlier epoch.
    retraction: Option<Retraction>,
}

/// A retraction that may remove a row of an earlier epoch.
#[derive(Clone)]
struct Retraction {
    /// The row that is retracted.
    row: Row,
    /// Whether it found no row in its own epoch, and was counted as unchanged.
    is_unchanged: bool,
}

/// The results of a run.
#[derive(Clone, Default)]
pub struct Results {
    entries: HashMap<RowId, KeyState>,
    names: MetricNames,
    /// Whether the run commits epochs.
    has_epochs: bool,
    /// Whether they are those of a table of Iceberg: rows of a file are ordered by their dimensions before their
    /// windows, and a retraction removes the row of an earlier epoch.
    is_of_table: bool,
    /// The names of files of which no row is left.
    pub emptied: Vec<String>,
    /// Rows with other event counts than those of this run.
    pub overlap: ConflictReport,
}

impl Results {
    /// Makes the results of a run, which may commit epochs.
    pub fn new(has_epochs: bool) -> Self {
        Self { has_epochs, ..Self::default() }
    }

    /// Makes them those of a table of Iceberg: rows of a file are ordered by their dimensions before their windows, and
    /// a retraction removes the row of an earlier epoch.
    pub fn of_table(self) -> Self {
        Self { is_of_table: true, ..self }
    }

    /// Applies rows in order and counts them by outcome within this run. Errors: exit status 74 if there are too many
    /// keys.
    pub fn apply(&mut self, batch: &RecordBatch, counts: &mut SinkCounts) -> Result<()> {
        let columns = MetricColumns::try_new(batch)?;
        for row in 0..batch.num_rows() {
            let stored = Stored::of(&columns, row);
            let entry = self.entries.entry(columns.id(row)?).or_default();
            let there = entry.row.as_ref().map(|row| row.stored);
            let outcome = if columns.retracted.value(row) {
                entry.last_retraction = entry.last_retraction.max(Some(stored.version));
                judge_retraction(there, stored.version)
            } else {
                judge_row(there, entry.last_retraction, stored)
            };
            match outcome {
                RowOutcome::Inserted | RowOutcome::Updated => {
                    (entry.row, entry.retraction) = (Some(row_of(&columns, row, &mut self.names)?), None);
                }
                RowOutcome::Deleted => entry.row = None,
                RowOutcome::Unchanged | RowOutcome::Stale | RowOutcome::Corrected | RowOutcome::Outnumbered => {}
            }
            if self.is_of_table && self.has_epochs && columns.retracted.value(row) && entry.row.is_none() {
                // The earliest one was counted for the row that is stored.
                let is_unchanged =
                    entry.retraction.as_ref().map_or(outcome == RowOutcome::Unchanged, |known| known.is_unchanged);
                entry.retraction = Some(Retraction { row: row_of(&columns, row, &mut self.names)?, is_unchanged });
            }
            self.overlap.judged(columns.id(row)?, outcome, || columns.key(row));
            outcome.count_in(counts);
        }
        if self.entries.len() > KEYS {
            let message = format!("parquet: a run has more than {KEYS} results, which must be in memory until its end");
            return Err(Error::failed(message + "; use sqlite:PATH"));
        }
        Ok(())
    }

    /// Writes one part per day and drops the rows. If files of the lake have some of the keys (a repetition, a later
    /// pane, other windows), the guard decides row by row, and such a file gets a new version with the rows that it
    /// replaces. `known` is `None` if the run replaces the days.
    pub fn finish(
        &mut self,
        lake: &mut Lake,
        mut known: Option<&mut dyn StoredFiles>,
        counts: &mut SinkCounts,
    ) -> Result<Vec<LakePart>> {
        let mut days: BTreeMap<i64, (Vec<Row>, Vec<Retraction>)> = BTreeMap::new();
        for entry in std::mem::take(&mut self.entries).into_values() {
            let of_day = |row: &Row| row.start.div_euclid(DAY);
            if let Some(row) = entry.row {
                days.entry(of_day(&row)).or_default().0.push(row);
            } else if let Some(retraction) = entry.retraction {
                days.entry(of_day(&retraction.row)).or_default().1.push(retraction);
            }
        }
        let mut parts = Vec::new();
        for (day, (mut rows, retractions)) in days {
            self.sort(&mut rows);
            if let Some(known) = &mut known {
                let mut extents = Extents::default();
                if !rows.is_empty() {
                    extents.add_rows(Kind::Metric, &to_batch(&rows)?)?;
                }
                for retraction in &retractions {
                    extents.add_rows(Kind::Metric, &to_batch(std::slice::from_ref(&retraction.row))?)?;
                }
                let mut new = DayRows {
                    rows: rows.into_iter().map(|row| (row.id, row)).collect(),
                    gone: retractions.into_iter().map(|gone| (gone.row.id, gone)).collect(),
                };
                lake.rely_on(day);
                for file in known.overlapping(lake, day, Kind::Metric, &extents)? {
                    parts.extend(self.merge_with(lake, StoredFile { day, file }, &mut new, counts)?);
                }
                rows = new.rows.into_values().collect();
                self.sort(&mut rows);
            }
            if !rows.is_empty() {
                parts.push(write(lake, day, &rows)?);
            }
        }
        Ok(parts)
    }

    /// Orders the rows of a file.
    fn sort(&self, rows: &mut [Row]) {
        match self.is_of_table {
            true => rows.sort_by(|left, right| left.key_of_dimensions().cmp(&right.key_of_dimensions())),
            false => rows.sort_by(|left, right| left.key().cmp(&right.key())),
        }
    }

    /// Removes from `new` the rows whose keys a file has, and corrects their counts; returns a new version of the file
    /// if it replaces any.
    fn merge_with(
        &mut self,
        lake: &mut Lake,
        StoredFile { day, file }: StoredFile,
        new: &mut DayRows,
        counts: &mut SinkCounts,
    ) -> Result<Option<LakePart>> {
        let (mut rows, mut names, mut is_changed) = (vec![], HashMap::new(), false);
        for batch in file.rows()? {
            let batch = batch?;
            let columns = MetricColumns::try_new(&batch)?;
            for row in 0..batch.num_rows() {
                let there = row_of(&columns, row, &mut names)?;
                let Some(row) = new.rows.remove(&there.id) else {
                    match new.retracts(&there, counts) {
                        true => is_changed = true,
                        false => rows.push(there),
                    }
                    continue;
                };
                let outcome = judge_row(Some(there.stored), None, row.stored);
                // The row was counted as inserted within the run: replace that by its outcome in the lake.
                counts.taken -= 1;
                counts.inserted -= 1;
                outcome.count_in(counts);
                if outcome == RowOutcome::Updated {
                    // An epoch replaces the earlier panes of the same run.
                    if !self.has_epochs || row.pane <= there.pane {
                        self.overlap.replaced(|| row.shown(), there.stored.version.rows, row.stored.version.rows);
                    }
                    is_changed = true;
                } else if outcome != RowOutcome::Unchanged {
                    self.overlap.judged(row.id, outcome, || row.shown());
                }
                rows.push(if outcome == RowOutcome::Updated { row } else { there });
            }
        }
        if !is_changed {
            return Ok(None);
        }
        if self.is_of_table {
            // Another writer may have ordered them otherwise.
            self.sort(&mut rows);
        }
        let name = file.file.path().file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if rows.is_empty() {
            self.emptied.push(name);
            return Ok(None);
        }
        Ok(Some(LakePart { replace: true, inserted: 0, name, ..write(lake, day, &rows)? }))
    }
}

/// The rows of a day that are written, and the retractions of rows that are stored.
struct DayRows {
    rows: HashMap<RowId, Row>,
    gone: HashMap<RowId, Retraction>,
}

impl DayRows {
    /// Whether a stored row is retracted; then it is counted as deleted.
    fn retracts(&self, there: &Row, counts: &mut SinkCounts) -> bool {
        let Some(Retraction { row, is_unchanged }) = self.gone.get(&there.id) else { return false };
        let is_gone = judge_retraction(Some(there.stored), row.stored.version) == RowOutcome::Deleted;
        if is_gone && *is_unchanged {
            counts.unchanged -= 1;
            counts.deleted += 1;
        }
        is_gone
    }
}

/// A file with metrics of a day.
struct StoredFile {
    day: i64,
    file: LakeFile,
}

fn write(lake: &mut Lake, day: i64, rows: &[Row]) -> Result<LakePart> {
    let mut file = Writing::create(lake, Kind::Metric, day, false)?;
    file.write(lake, &to_batch(rows)?)?;
    file.finish(lake)
}

/// Shares names of metrics between their rows.
type MetricNames = HashMap<Box<str>, Arc<str>>;

fn row_of(columns: &MetricColumns<'_>, row: usize, names: &mut MetricNames) -> Result<Row> {
    let name = columns.names.value(row);
    let name = match names.get(name) {
        Some(known) => known.clone(),
        None => names.entry(name.into()).or_insert_with(|| name.into()).clone(),
    };
    Ok(Row {
        id: columns.id(row)?,
        name,
        start: columns.starts.value(row),
        end: columns.ends.value(row),
        dimensions: columns.dimensions.value(row).into(),
        stored: Stored::of(columns, row),
        pane: columns.panes.value(row),
    })
}

fn to_batch(rows: &[Row]) -> Result<RecordBatch> {
    let instants = |of: fn(&Row) -> i64| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row))).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(FixedSizeBinaryArray::try_from_iter(rows.iter().map(|row| row.id))?),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.name))),
        instants(|row| row.start),
        instants(|row| row.end),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.dimensions))),
        Arc::new(rows.iter().map(|row| row.stored.value).collect::<Float64Array>()),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.stored.version.rows))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.stored.version.revision))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.pane))),
        Arc::new(BooleanArray::from(vec![false; rows.len()])),
    ];
    Ok(RecordBatch::try_new(Kind::Metric.schema(), columns)?)
}
