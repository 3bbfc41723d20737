//! Sorts the rows of a store by some of their columns in bounded memory: sorted runs in temporary files, which are
//! merged.
//!
//! A store returns rows in the order of their keys, which is not the order of a time. A database could sort the rows
//! itself, but Redis and a lake cannot, so this module sorts the rows of all stores.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::row::{Row, RowConverter, Rows, SortField};
use evt_core::error::{Error, ErrorKind, Result};
use evt_run::checkpoint::epoch::Batches;
use evt_store::{batches, rows};
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom};
use std::ops::Range;
use std::rc::Rc;

/// Bytes of rows that the sorter holds in memory. When it has more, it writes them to a file as a run.
const RUN_BYTES: usize = 32 << 20;
/// Bytes that sorting takes for each row in memory: its key and its place.
const KEY_BYTES: usize = 128;
/// Maximum rows of a batch of a run.
const ROWS: usize = 2048;
/// Maximum bytes of a batch of a run, unless one row has more.
const BATCH_BYTES: usize = 1 << 20;
/// Number of runs that are merged into one, because each open run has a file.
const RUNS: usize = 64;

/// The names of the columns that determine the order of rows.
pub type SortColumns = &'static [&'static str];

/// Returns the rows in the order of columns. While the unsorted rows are read, an empty batch is returned for each
/// batch read, so that the reader can react to signals.
pub(super) fn sorted(unsorted: Batches, columns: SortColumns) -> Batches {
    sorted_in_runs(unsorted, columns, RUN_BYTES)
}

fn sorted_in_runs(unsorted: Batches, columns: SortColumns, run_bytes: usize) -> Batches {
    let mut sorter = StoreSorter::new(Some(unsorted), RowOrder::new(columns), run_bytes);
    batches(move || sorter.next_batch())
}

/// The order of rows.
#[derive(Clone)]
struct RowOrder {
    columns: SortColumns,
    /// Encodes the columns as bytes with the same order.
    converter: Option<Rc<RowConverter>>,
}

impl RowOrder {
    fn new(columns: SortColumns) -> Self {
        Self { columns, converter: None }
    }

    /// Returns the keys of the rows of a batch.
    fn of(&mut self, batch: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> =
            self.columns.iter().map(|name| rows::column(batch, name).cloned()).collect::<Result<_>>()?;
        let converter = match &self.converter {
            Some(converter) => converter,
            None => {
                let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
                self.converter.insert(Rc::new(RowConverter::new(fields)?))
            }
        };
        Ok(converter.convert_columns(&columns)?)
    }
}

/// Sorts the rows of a store.
struct StoreSorter {
    /// The batches of the store that are not read yet; `None` once all are read.
    unsorted: Option<Batches>,
    order: RowOrder,
    run_bytes: usize,
    held: Vec<RecordBatch>,
    bytes: usize,
    runs: Vec<SortedRun>,
}

/// Rows in order.
struct SortedRun {
    /// Its current batch.
    next: RecordBatch,
    keys: Rows,
    /// The number of rows of `next` that were returned; always less than the number of its rows.
    taken: usize,
    rest: Batches,
    /// How often its rows were merged.
    level: u32,
}

impl SortedRun {
    fn begin(mut rest: Batches, level: u32, order: &mut RowOrder) -> Result<Option<Self>> {
        let Some(next) = rest.next().transpose()? else { return Ok(None) };
        let keys = order.of(&next)?;
        Ok(Some(Self { next, keys, taken: 0, rest, level }))
    }

    fn last_key(&self) -> Row<'_> {
        self.keys.row(self.next.num_rows() - 1)
    }

    /// Returns the index in `next` after the last row whose key is at most `bound`.
    fn end_of(&self, bound: Row<'_>) -> usize {
        let (mut low, mut high) = (self.taken, self.next.num_rows());
        while low < high {
            let middle = low.midpoint(high);
            if self.keys.row(middle) <= bound { low = middle + 1 } else { high = middle }
        }
        low
    }
}

impl StoreSorter {
    fn new(unsorted: Option<Batches>, order: RowOrder, run_bytes: usize) -> Self {
        Self { unsorted, order, run_bytes, held: vec![], bytes: 0, runs: vec![] }
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let Some(unsorted) = &mut self.unsorted else { return self.merge() };
        let Some(batch) = unsorted.next().transpose()? else {
            self.unsorted = None;
            let last = self.take_held()?;
            let last = SortedRun::begin(Box::new(last.into_iter().map(Ok)), 0, &mut self.order)?;
            self.runs.extend(last);
            return self.merge();
        };
        let empty = batch.slice(0, 0);
        if batch.num_rows() > 0 {
            self.bytes += batch.get_array_memory_size() + batch.num_rows() * KEY_BYTES;
            self.held.push(batch);
        }
        if self.bytes > self.run_bytes {
            let batches = self.take_held()?;
            self.add_run(batches.into_iter().map(Ok), 0)?;
        }
        Ok(Some(empty))
    }

    /// Writes batches in order to a file as a run. [`RUNS`] runs of a level become one of the next level.
    fn add_run(&mut self, batches: impl Iterator<Item = Result<RecordBatch>>, level: u32) -> Result<()> {
        self.runs.extend(SortedRun::begin(written(batches)?, level, &mut self.order)?);
        if self.runs.iter().filter(|run| run.level == level).count() < RUNS {
            return Ok(());
        }
        let (runs, others) = std::mem::take(&mut self.runs).into_iter().partition(|run| run.level == level);
        self.runs = others;
        let mut merged = Self { runs, ..Self::new(None, self.order.clone(), self.run_bytes) };
        let merged: Batches = Box::new(std::iter::from_fn(move || merged.merge().transpose()));
        self.add_run(merged, level + 1)
    }

    /// Returns the rows that are held, in order.
    fn take_held(&mut self) -> Result<Vec<RecordBatch>> {
        let bytes = std::mem::take(&mut self.bytes);
        let parts = std::mem::take(&mut self.held);
        let keys: Vec<Rows> = parts.iter().map(|part| self.order.of(part)).collect::<Result<_>>()?;
        let order = in_order(keys.iter().zip(&parts).map(|(keys, part)| (keys, 0..part.num_rows())));
        let parts: Vec<&RecordBatch> = parts.iter().collect();
        order.chunks(rows_of_batch(bytes, order.len())).map(|rows| Ok(interleave_record_batch(&parts, rows)?)).collect()
    }

    /// Returns the next rows of all runs in order; `None` at the end. The rows are those with keys up to the least of
    /// the last keys of the current batches.
    fn merge(&mut self) -> Result<Option<RecordBatch>> {
        let Some(bound) = self.runs.iter().map(SortedRun::last_key).min() else { return Ok(None) };
        let ends: Vec<usize> = self.runs.iter().map(|run| run.end_of(bound)).collect();
        let order = in_order(self.runs.iter().zip(&ends).map(|(run, end)| (&run.keys, run.taken..*end)));
        let one = order.first().map(|(first, _)| *first).filter(|first| order.iter().all(|(part, _)| part == first));
        let merged = match one {
            Some(part) => self.runs[part].next.slice(self.runs[part].taken, order.len()),
            None => interleave_record_batch(&self.runs.iter().map(|run| &run.next).collect::<Vec<_>>(), &order)?,
        };
        for (mut run, end) in std::mem::take(&mut self.runs).into_iter().zip(ends) {
            if end < run.next.num_rows() {
                run.taken = end;
                self.runs.push(run);
            } else {
                self.runs.extend(SortedRun::begin(run.rest, run.level, &mut self.order)?);
            }
        }
        Ok(Some(merged))
    }
}

/// Returns the places (part, row) of the rows of several parts in the order of their keys. Rows with the same key stay
/// in the order of their places.
fn in_order<'a>(parts: impl Iterator<Item = (&'a Rows, Range<usize>)>) -> Vec<(usize, usize)> {
    let mut keys: Vec<(Row<'_>, usize, usize)> = vec![];
    for (part, (rows, range)) in parts.enumerate() {
        keys.extend(range.map(|row| (rows.row(row), part, row)));
    }
    keys.sort_unstable();
    keys.into_iter().map(|(_, part, row)| (part, row)).collect()
}

/// Returns how many rows a batch gets, if `rows` rows have `bytes` bytes.
fn rows_of_batch(bytes: usize, rows: usize) -> usize {
    (rows.saturating_mul(BATCH_BYTES) / bytes.max(1)).clamp(1, ROWS)
}

/// Writes rows to a temporary file; returns an iterator that reads them from the file. Errors: exit status 74.
fn written(mut rows: impl Iterator<Item = Result<RecordBatch>>) -> Result<Batches> {
    let Some(first) = rows.next().transpose()? else { return Ok(Box::new(std::iter::empty())) };
    let file = tempfile::tempfile().map_err(|error| Error::io(PLACE, &error))?;
    let mut stream = StreamWriter::try_new(BufWriter::new(file), first.schema_ref()).map_err(failed)?;
    for batch in std::iter::once(Ok(first)).chain(rows) {
        // A batch of merged rows may be large.
        let batch = batch?;
        let (rows, most) = (batch.num_rows(), rows_of_batch(batch.get_array_memory_size(), batch.num_rows()));
        for start in (0..rows).step_by(most) {
            stream.write(&batch.slice(start, most.min(rows - start))).map_err(failed)?;
        }
    }
    let buffer = stream.finish().and_then(|()| stream.into_inner()).map_err(failed)?;
    let mut file: File = buffer.into_inner().map_err(|error| Error::io(PLACE, error.error()))?;
    file.seek(SeekFrom::Start(0)).map_err(|error| Error::io(PLACE, &error))?;
    let stream = StreamReader::try_new(BufReader::new(file), None).map_err(failed)?;
    Ok(Box::new(stream.map(|batch| batch.map_err(failed))))
}

const PLACE: &str = "the temporary file for sorting (TMPDIR)";

fn failed(error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => Error::io(PLACE, &error),
        error => Error::new(ErrorKind::Io, PLACE).because(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
    use evt_core::format::row;
    use evt_core::kind::Kind;
    use evt_core::time::{SECOND, format_instant};
    use proptest::prelude::*;
    use serde_json::json;

    /// A batch of metrics: the ends of their windows (s) and their values.
    fn batch(rows: &[(i64, u32)]) -> RecordBatch {
        let mut builder = row::Builder::with_schema(Kind::Metric.schema());
        for (end, value) in rows {
            let row = json!({
                "metric_id": uuid::Uuid::from_u128(u128::from(*value)).to_string(), "metric_name": format!("m{}", value % 3),
                "window_start": format_instant((end - 60) * SECOND), "window_end": format_instant(end * SECOND),
                "dimensions": "{}", "value": f64::from(*value), "rows": 1, "revision": 0, "pane": 0, "retracted": false,
            });
            builder.push(&row.to_string()).map_err(|fault| fault.message).unwrap();
        }
        builder.finish().unwrap()
    }

    fn rows_of(batch: &RecordBatch) -> Vec<(i64, u32)> {
        let values = batch["value"].as_primitive::<Float64Type>().values();
        let ends = batch["window_end"].as_primitive::<TimestampMicrosecondType>().values();
        ends.iter().zip(values).map(|(at, value)| (at / SECOND, *value as u32)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn rows_come_in_the_order_of_columns_however_many_runs_they_make(
            ends in proptest::collection::vec(0i64..50, 0..400),
            cut in 1usize..8,
            run_bytes in prop_oneof![Just(0usize), Just(20_000), Just(usize::MAX)],
        ) {
            let rows: Vec<(i64, u32)> = ends.into_iter().zip(0..).collect();
            let unsorted: Vec<Result<RecordBatch>> = rows.chunks(cut).map(|rows| Ok(batch(rows))).collect();
            let sorted = sorted_in_runs(Box::new(unsorted.into_iter()), &["window_end", "metric_name"], run_bytes);
            let found: Vec<(i64, u32)> = sorted.flat_map(|batch| rows_of(&batch.unwrap())).collect();
            let order = |(end, value): &(i64, u32)| (*end, value % 3);
            prop_assert!(found.is_sorted_by_key(order), "{found:?}");
            let (mut found, mut expected) = (found, rows);
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn few_files_are_open_however_many_runs_there_are() {
        let rows: Vec<(i64, u32)> = (0..300).map(|n| (i64::from(n * 7 % 300), n)).collect();
        let unsorted: Vec<Result<RecordBatch>> = rows.chunks(1).map(|rows| Ok(batch(rows))).collect();
        let mut sorter = StoreSorter::new(Some(Box::new(unsorted.into_iter())), RowOrder::new(&["window_end"]), 0);
        let (mut most, mut ends) = (0, vec![]);
        while let Some(batch) = sorter.next_batch().unwrap() {
            most = most.max(sorter.runs.len());
            ends.extend(rows_of(&batch).into_iter().map(|(end, _)| end));
        }
        assert_eq!((most < 2 * RUNS, ends), (true, (0..300).collect()));
    }
}
