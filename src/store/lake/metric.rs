//! Collects metrics for a lake: the last row of each key with retractions applied, because a lake holds results and not panes.
//! They stay in memory until the end of the run or of the epoch; there are at most [`KEYS`].

use crate::counts::SinkCounts;
use crate::error::{Error, ErrorKind, Result};
use crate::kind::Kind;
use crate::kind::metric::MetricColumns;
use crate::store::guard::{Overlap, RowOutcome, Stored, Version, judge_retraction, judge_row};
use crate::store::lake::directory::{Lake, LakePart};
use crate::store::lake::file::Writing;
use crate::store::lake::read as lake_read;
use crate::store::rows;
use crate::time::{DAY, format_instant};
use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Maximum number of keys of one run, or of one epoch; about 1 GiB.
pub const KEYS: usize = 4 << 20;

type Id = [u8; 16];

/// A metric row in memory.
#[derive(Clone, Debug)]
struct Row {
    id: Id,
    name: Arc<str>,
    start: i64,
    end: i64,
    dimensions: Box<str>,
    stored: Stored,
    pane: i32,
}

impl Row {
    fn key(&self) -> (&str, i64, i64, &str) {
        (&self.name, self.start, self.end, &self.dimensions)
    }

    /// Returns the key for messages: name, start of the window, dimensions.
    fn shown(&self) -> String {
        format!("{} {} {}", self.name, format_instant(self.start), self.dimensions)
    }
}

/// The state of a key: its row, and the greatest version that was retracted.
#[derive(Default)]
struct Entry {
    row: Option<Row>,
    taken_back: Option<Version>,
}

/// The results of a run.
#[derive(Default)]
pub struct Results {
    entries: HashMap<Id, Entry>,
    names: Names,
    /// Rows with other event counts than those of this run.
    pub overlap: Overlap,
}

impl Results {
    /// Applies rows in order and counts them by outcome within this run. Errors: exit status 74 if there are too many keys.
    pub fn apply(&mut self, batch: &RecordBatch, counts: &mut SinkCounts) -> Result<()> {
        let columns = MetricColumns::try_new(batch)?;
        for row in 0..batch.num_rows() {
            let stored = Stored::of(&columns, row);
            let entry = self.entries.entry(columns.id(row)?).or_default();
            let there = entry.row.as_ref().map(|row| row.stored);
            let outcome = if columns.retracted.value(row) {
                entry.taken_back = entry.taken_back.max(Some(stored.version));
                judge_retraction(there, stored.version)
            } else {
                judge_row(there, entry.taken_back, stored)
            };
            match outcome {
                RowOutcome::Inserted | RowOutcome::Updated => entry.row = Some(row_of(&columns, row, &mut self.names)?),
                RowOutcome::Deleted => entry.row = None,
                RowOutcome::Unchanged | RowOutcome::Stale | RowOutcome::Corrected | RowOutcome::Outnumbered => {}
            }
            self.overlap.judged(columns.id(row)?, outcome, || columns.key(row));
            outcome.count_in(counts);
        }
        if self.entries.len() > KEYS {
            let message = format!("parquet: a run has more than {KEYS} results, which must be in memory until its end");
            return Err(Error::new(ErrorKind::Io, message + "; use sqlite:PATH"));
        }
        Ok(())
    }

    /// Writes one part per day and drops the rows. If the lake has a file of the same keys (a repetition or a backfill),
    /// the guard decides row by row, unless the run replaces the day (`replace`).
    pub fn finish(&mut self, lake: &mut Lake, replace: bool, counts: &mut SinkCounts) -> Result<Vec<LakePart>> {
        let mut days: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
        for row in std::mem::take(&mut self.entries).into_values().filter_map(|entry| entry.row) {
            days.entry(row.start.div_euclid(DAY)).or_default().push(row);
        }
        let mut parts = Vec::new();
        for (day, mut rows) in days {
            rows.sort_by(|left, right| left.key().cmp(&right.key()));
            let mut batch = to_batch(&rows)?;
            let path = lake.file(day, &name_of(&batch)?);
            let merge = !replace && path.exists();
            if merge {
                if !self.merge_with(&path, &mut rows, counts)? {
                    continue;
                }
                batch = to_batch(&rows)?;
            }
            let mut file = Writing::create(lake, Kind::Metric, day, false)?;
            file.write(lake, &batch)?;
            let mut part = file.finish(lake)?;
            if merge {
                (part.replace, part.inserted) = (true, 0);
            }
            parts.push(part);
        }
        Ok(parts)
    }

    /// Replaces elements of `rows` by the stored rows of the same keys that stay, and corrects the counts; returns whether any
    /// row is new.
    fn merge_with(&mut self, path: &std::path::Path, rows: &mut [Row], counts: &mut SinkCounts) -> Result<bool> {
        let mut stored = HashMap::new();
        let mut names = HashMap::new();
        for batch in lake_read::batches(path, Kind::Metric)? {
            let batch = batch?;
            let columns = MetricColumns::try_new(&batch)?;
            for row in 0..batch.num_rows() {
                let row = row_of(&columns, row, &mut names)?;
                stored.insert(row.id, row);
            }
        }
        let mut changed = false;
        for row in rows {
            let there = stored.remove(&row.id);
            let outcome = judge_row(there.as_ref().map(|there| there.stored), None, row.stored);
            // The row was counted as inserted within the run: replace that by its outcome in the lake.
            counts.taken -= 1;
            counts.inserted -= 1;
            outcome.count_in(counts);
            match there {
                Some(there) if !matches!(outcome, RowOutcome::Inserted | RowOutcome::Updated) => {
                    if matches!(outcome, RowOutcome::Outnumbered | RowOutcome::Corrected) {
                        self.overlap.judged(row.id, outcome, || row.shown());
                    }
                    *row = there;
                }
                Some(there) => {
                    self.overlap.replaced(|| row.shown(), there.stored.version.rows, row.stored.version.rows);
                    changed = true;
                }
                None => changed = true,
            }
        }
        Ok(changed)
    }
}

fn name_of(batch: &RecordBatch) -> Result<String> {
    let mut digest = Xxh3::new();
    rows::digest_keys(Kind::Metric, batch, &mut digest)?;
    Ok(super::file::name(&digest))
}

/// Shares names of metrics between their rows.
type Names = HashMap<Box<str>, Arc<str>>;

fn row_of(columns: &MetricColumns<'_>, row: usize, names: &mut Names) -> Result<Row> {
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
