//! Completes rows of batches that have only the columns that a stage reads: maps their records again.
//!
//! Few rows are late. Keeping a view of each record until its batch ends costs less than building all columns of all
//! rows.

use super::mapper::{Mapped, Mapper};
use super::options::{Options, ReadColumns, RecordParts, TimeFrom};
use super::partitions::PartitionTable;
use super::record::{FutureVerdict, Record, RecordMeta};
use crate::error::{Error, Result};
use crate::kind::array;
use crate::kind::event::{TEXT, column, instants, shared_raw};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use arrow::compute::{concat_batches, take, take_record_batch};
use arrow::datatypes::{Int32Type, Int64Type};

/// Makes all columns of rows whose batches have [`ReadColumns::completes_rows`].
pub struct RowCompleter {
    mapper: Mapper,
    partition_table: PartitionTable,
}

impl RowCompleter {
    /// Creates a completer of rows that are mapped with these options. Errors: exit status 2, as [`Mapper::new`].
    pub fn new(options: &Options) -> Result<Self> {
        let mapper = Mapper::new(Options {
            // The time of a row is known; it may be that of a field that the first record has shown, or of the clock.
            time: if options.time == TimeFrom::Default { TimeFrom::Optional } else { options.time.clone() },
            min_time: Some(i64::MIN),
            max_future: None,
            parts: RecordParts::None,
            reads: ReadColumns::default(),
            ..options.clone()
        })?;
        Ok(Self { mapper, partition_table: PartitionTable::default() })
    }

    /// Returns the rows with these numbers with all columns of an event. A batch without texts of records is complete.
    pub fn complete(&mut self, batch: &RecordBatch, rows: &[usize]) -> Result<RecordBatch> {
        let numbers: UInt64Array = rows.iter().map(|row| *row as u64).collect();
        let Some(texts) = array::<StringArray>(batch, TEXT) else {
            return Ok(take_record_batch(batch, &numbers)?);
        };
        let mut parts = vec![];
        for row in rows {
            self.map(batch, texts, *row)?;
            if self.mapper.is_full() {
                parts.extend(self.mapper.finish()?.stamp(&mut self.partition_table, None)?);
            }
        }
        parts.extend(self.mapper.finish()?.stamp(&mut self.partition_table, None)?);
        let completed = concat_batches(&self.mapper.schema(), &parts)?;
        let mut columns = completed.columns().to_vec();
        // The stream time depends on the rows before the row, and the event time may be that of the clock.
        for column in [column::STREAM_TIME, column::EVENT_TIME] {
            columns[column] = take(batch.column(column), &numbers, None)?;
        }
        Ok(RecordBatch::try_new(completed.schema(), columns)?)
    }

    /// Maps the record of a row again.
    fn map(&mut self, batch: &RecordBatch, texts: &StringArray, row: usize) -> Result<()> {
        let raw = shared_raw(batch, row).unwrap_or_default();
        let text = match texts.is_valid(row) {
            true => texts.value(row),
            false => std::str::from_utf8(raw).map_err(|_| Error::broken("the text of a record is not UTF-8"))?,
        };
        let (origin, name) = (name(batch.column(column::ORIGIN), row), name(batch.column(column::PARTITION), row));
        let offset = batch.column(column::OFFSET).as_primitive::<Int64Type>().value(row);
        let partition = self.partition_table.partition(origin, name);
        self.mapper.turn_to(partition, (origin, name));
        let meta = RecordMeta { partition, offset, ..RecordMeta::of_file("", partition) };
        let now = instants(batch, column::INGESTED_AT)[row];
        match self.mapper.record(Record { text, raw, meta, now, verdict: FutureVerdict::Passed })? {
            Mapped::Row => Ok(()),
            other => Err(Error::broken(format!("a record that was a row is none now: {other:?}"))),
        }
    }
}

/// Returns the text in a row of a dictionary column.
fn name(column: &ArrayRef, row: usize) -> &str {
    let dictionary = column.as_dictionary::<Int32Type>();
    dictionary.values().as_string::<i32>().value(dictionary.keys().value(row) as usize)
}
