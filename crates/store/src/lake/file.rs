//! Writes rows to one file per day, which stays open until it is rolled, has to make room, or the run ends.
//!
//! The bytes of every file are a function of the rows alone, not of the division into batches: rows are gathered into
//! steps of some megabytes, and decisions are made only between two steps. So a run that is killed and restarted writes
//! the same files as one that is not killed.
//!
//! Days with many rows in a step go directly to their file. Scattered rows (of a stream far out of order) are held back
//! until there are many of them; then the days with the most rows are written first, so that ten years of days do not
//! lead to ten years of tiny files for every step.

use crate::lake::directory::{Lake, LakePart};
use crate::lake::disk::failed;
use crate::lake::extents::{self, Extents};
use crate::lake::waiting::Roll;
use crate::rows;
use arrow::array::{Array, AsArray, RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Schema};
use evt_core::error::{Error, Result};
use evt_core::format::parquet::{FileLayout, RowWriter};
use evt_core::format::properties::is_property;
use evt_core::kind::Kind;
use evt_run::storage::disk::DiskFile;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::collections::BTreeMap;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// The limits of a stream. None depends on time or on the division into batches.
#[derive(Clone, Copy, Debug)]
pub struct FileLimits {
    /// Bytes between two decisions.
    pub step_bytes: usize,
    /// Maximum bytes of scattered rows.
    pub scattered_bytes: usize,
    /// A day with this many rows in one step is written directly.
    pub many_rows: usize,
    /// Maximum number of open files; beyond it the least recently written one is finished.
    pub open_files: usize,
    /// Maximum number of row groups being built, over all files.
    pub row_groups: usize,
    /// Maximum bytes of these row groups.
    pub row_group_bytes: usize,
}

const LIMITS: FileLimits = FileLimits {
    step_bytes: 4 << 20,
    scattered_bytes: 64 << 20,
    many_rows: 1024,
    open_files: 64,
    row_groups: 8,
    row_group_bytes: 64 << 20,
};

/// Approximate bytes of a row besides its text.
const ROW_WEIGHT: usize = 128;

/// A file being written.
pub struct Writing {
    /// The kind of its rows.
    pub kind: Kind,
    day: i64,
    part: String,
    writer: RowWriter<DiskFile>,
    digest: Xxh3,
    extents: Extents,
    rows: u64,
    last_write: u64,
}

impl Writing {
    /// Creates a part for rows of `day`; their properties may get columns.
    pub fn create(lake: &mut Lake, kind: Kind, day: i64, property_columns: bool) -> Result<Self> {
        let (part, file) = lake.create_part()?;
        let (parallelism, has_arrow_types) = (lake.parallelism.clone(), lake.columns.is_none());
        let table = lake.table.clone();
        let layout = FileLayout { property_columns, table, properties, parallelism, has_arrow_types };
        let schema = lake.columns.clone().unwrap_or_else(|| kind.schema());
        let writer = RowWriter::try_new(file, schema, layout);
        let writer = writer.map_err(parquet_failed(&lake.dir.root))?;
        let (digest, extents) = (Xxh3::new(), Extents::default());
        Ok(Self { kind, day, part, writer, digest, extents, rows: 0, last_write: 0 })
    }

    /// Appends rows.
    pub fn write(&mut self, lake: &Lake, batch: &RecordBatch) -> Result<()> {
        rows::digest_keys(self.kind, batch, &mut self.digest)?;
        self.extents.add_rows(self.kind, batch)?;
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).map_err(parquet_failed(&lake.dir.root))
    }

    /// Finishes the file; it must still be synced and renamed.
    pub fn finish(mut self, lake: &Lake) -> Result<LakePart> {
        let name = name(&self.digest);
        let footer = self.extents.footer(self.rows)?;
        let ended = footer.map_or(Ok(()), |text| self.writer.add_to_footer(extents::KEY, text));
        ended.and_then(|()| self.writer.finish()).map_err(parquet_failed(&lake.dir.root))?;
        let Self { part, day, rows, extents, .. } = self;
        Ok(LakePart { part, day, name, replace: false, inserted: rows, extents })
    }

    fn bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }
}

/// Returns the name of a file: the same for the same keys in the same order.
pub fn name(digest: &Xxh3) -> String {
    format!("{:032x}", digest.digest128())
}

/// The rows of one kind on the way to the files of their days.
pub struct Stream {
    kind: Kind,
    /// Whether properties get columns.
    property_columns: bool,
    roll: Roll,
    limits: FileLimits,
    step: Vec<RecordBatch>,
    step_bytes: usize,
    writes: u64,
    scattered: Vec<RecordBatch>,
    scattered_bytes: usize,
    files: BTreeMap<i64, Writing>,
    finished: Vec<LakePart>,
    /// When the first row arrived that is in no finished file.
    since: Option<i64>,
}

impl Stream {
    /// Makes a stream of `kind`, whose files are rolled by `roll`.
    pub fn new(kind: Kind, roll: Roll) -> Self {
        Self {
            kind,
            property_columns: false,
            roll,
            limits: LIMITS,
            step: Vec::new(),
            step_bytes: 0,
            writes: 0,
            scattered: Vec::new(),
            scattered_bytes: 0,
            files: BTreeMap::new(),
            finished: Vec::new(),
            since: None,
        }
    }

    /// Gives properties columns, if asked.
    pub fn with_property_columns(self, property_columns: bool) -> Self {
        Self { property_columns, ..self }
    }

    /// Replaces the limits, for small tests.
    #[cfg(test)]
    pub fn with_limits(self, limits: FileLimits) -> Self {
        Self { limits, ..self }
    }

    /// Takes rows; returns the finished files.
    pub fn push(&mut self, lake: &mut Lake, batch: &RecordBatch, now: i64) -> Result<Vec<LakePart>> {
        let mut start = 0;
        for (row, weight) in weights(batch).into_iter().enumerate() {
            self.step_bytes += weight;
            if self.step_bytes >= self.limits.step_bytes {
                self.step.push(batch.slice(start, row + 1 - start));
                start = row + 1;
                self.take_step(lake)?;
            }
        }
        if start < batch.num_rows() {
            self.step.push(batch.slice(start, batch.num_rows() - start));
        }
        self.since.get_or_insert(now);
        self.roll_old(lake, now)
    }

    /// Finishes the files if they are old enough; returns the finished ones. The age depends on the clock: it is the
    /// only property of files that a repeated run does not repeat.
    pub fn roll_old(&mut self, lake: &mut Lake, now: i64) -> Result<Vec<LakePart>> {
        match (self.since, self.roll.age) {
            (Some(since), Some(age)) if now - since >= age => self.finish(lake),
            _ => Ok(std::mem::take(&mut self.finished)),
        }
    }

    /// Finishes all files.
    pub fn finish(&mut self, lake: &mut Lake) -> Result<Vec<LakePart>> {
        self.since = None;
        self.take_step(lake)?;
        self.spill(lake, 0)?;
        for (_, file) in std::mem::take(&mut self.files) {
            self.finished.push(file.finish(lake)?);
        }
        Ok(std::mem::take(&mut self.finished))
    }

    /// Distributes the gathered rows to their days and decides which files to finish.
    fn take_step(&mut self, lake: &mut Lake) -> Result<()> {
        self.step_bytes = 0;
        if self.step.is_empty() {
            return Ok(());
        }
        let batch = concat_batches(&self.kind.schema(), &std::mem::take(&mut self.step))?;
        let mut scattered = Vec::new();
        for (day, rows) in by_day(self.kind, &batch)? {
            if rows.len() == batch.num_rows() {
                return self.write(lake, day, &batch);
            }
            if rows.len() >= self.limits.many_rows {
                self.write(lake, day, &pick(&batch, rows)?)?;
            } else {
                scattered.extend(rows);
            }
        }
        if !scattered.is_empty() {
            scattered.sort_unstable();
            self.hold_back(pick(&batch, scattered)?);
        }
        if self.scattered_bytes > self.limits.scattered_bytes {
            self.spill(lake, self.limits.scattered_bytes / 2)?;
        }
        Ok(())
    }

    fn hold_back(&mut self, batch: RecordBatch) {
        self.scattered_bytes += weights(&batch).into_iter().sum::<usize>();
        self.scattered.push(batch);
    }

    /// Writes scattered rows, days with the most rows first, until at most `keep` bytes are left.
    fn spill(&mut self, lake: &mut Lake, keep: usize) -> Result<()> {
        if self.scattered.is_empty() {
            return Ok(());
        }
        let batch = concat_batches(&self.kind.schema(), &std::mem::take(&mut self.scattered))?;
        let weights = weights(&batch);
        let mut left = std::mem::take(&mut self.scattered_bytes);
        let mut days: Vec<(i64, Vec<u64>)> = by_day(self.kind, &batch)?.into_iter().collect();
        days.sort_by_key(|(_, rows)| std::cmp::Reverse(rows.len()));
        let mut kept = Vec::new();
        for (day, rows) in days {
            if left > keep {
                left -= rows.iter().filter_map(|row| weights.get(*row as usize)).sum::<usize>();
                self.write(lake, day, &pick(&batch, rows)?)?;
            } else {
                kept.extend(rows);
            }
        }
        if !kept.is_empty() {
            kept.sort_unstable();
            self.hold_back(pick(&batch, kept)?);
        }
        Ok(())
    }

    /// Appends rows to a day's file, opening it if needed, and rolls it by size.
    fn write(&mut self, lake: &mut Lake, day: i64, batch: &RecordBatch) -> Result<()> {
        let mut file = match self.files.remove(&day) {
            Some(file) => file,
            None => {
                if self.files.len() >= self.limits.open_files {
                    self.finish_oldest(lake)?;
                }
                Writing::create(lake, self.kind, day, self.property_columns)?
            }
        };
        file.write(lake, batch)?;
        self.writes += 1;
        file.last_write = self.writes;
        if self.roll.bytes.is_some_and(|limit| file.bytes() >= limit) {
            self.finished.push(file.finish(lake)?);
        } else {
            self.files.insert(day, file);
        }
        self.close_row_groups(lake)
    }

    fn finish_oldest(&mut self, lake: &Lake) -> Result<()> {
        let oldest = self.files.values().min_by_key(|file| file.last_write).map(|file| file.day);
        if let Some(file) = oldest.and_then(|day| self.files.remove(&day)) {
            self.finished.push(file.finish(lake)?);
        }
        Ok(())
    }

    /// Finishes row groups of the least recently written files until few enough are being built: each column has its
    /// own compressor, so a row group takes some 13 MB however little it holds.
    fn close_row_groups(&mut self, lake: &Lake) -> Result<()> {
        loop {
            let mut open: Vec<&mut Writing> =
                self.files.values_mut().filter(|file| file.writer.in_progress_rows() > 0).collect();
            let bytes: usize = open.iter().map(|file| file.writer.in_progress_size()).sum();
            if open.len() <= self.limits.row_groups && bytes <= self.limits.row_group_bytes {
                return Ok(());
            }
            if let Some(oldest) = open.iter_mut().min_by_key(|file| file.last_write) {
                oldest.writer.flush().map_err(parquet_failed(&lake.dir.root))?;
            }
        }
    }
}

/// Returns the weight of each row in bytes: a function of its content, unlike the memory of a batch.
fn weights(batch: &RecordBatch) -> Vec<usize> {
    let mut weights = vec![ROW_WEIGHT; batch.num_rows()];
    for column in batch.columns() {
        let offsets = match column.data_type() {
            DataType::Utf8 => column.as_string::<i32>().value_offsets(),
            DataType::Binary => column.as_binary::<i32>().value_offsets(),
            _ => continue,
        };
        for (weight, ends) in weights.iter_mut().zip(offsets.windows(2)) {
            *weight += usize::try_from(ends[1] - ends[0]).unwrap_or(0);
        }
    }
    weights
}

/// Returns the row indices of each day, both in order.
fn by_day(kind: Kind, batch: &RecordBatch) -> Result<BTreeMap<i64, Vec<u64>>> {
    let mut found: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
    for (row, day) in rows::days(kind, batch)?.into_iter().enumerate() {
        found.entry(day).or_default().push(row as u64);
    }
    Ok(found)
}

fn pick(batch: &RecordBatch, rows: Vec<u64>) -> Result<RecordBatch> {
    Ok(take_record_batch(batch, &UInt64Array::from(rows))?)
}

/// Chooses encodings by column: ids do not compress, wide text gains nothing from dictionaries and statistics, growing
/// numbers are stored as differences.
fn properties(schema: &Schema) -> WriterProperties {
    let level = ZstdLevel::try_new(1).map_or(Compression::UNCOMPRESSED, Compression::ZSTD);
    let mut properties = WriterProperties::builder()
        .set_created_by("evt".to_owned())
        .set_compression(level)
        .set_max_row_group_row_count(Some(131_072))
        .set_write_batch_size(4096);
    for field in schema.fields().iter().filter(|field| !is_property(field)) {
        let path = ColumnPath::from(field.name().as_str());
        properties = match (field.name().as_str(), field.data_type()) {
            (_, DataType::FixedSizeBinary(_)) => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
                .set_column_statistics_enabled(path, EnabledStatistics::None),
            ("properties" | "user_id" | "original_payload" | "original_key", _) => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path.clone(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
                .set_column_statistics_enabled(path, EnabledStatistics::None),
            (_, DataType::Timestamp(_, _) | DataType::Int64) => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            _ => properties,
        };
    }
    properties.build()
}

/// Makes the error of a file of the lake; an I/O error keeps its own cause.
pub fn parquet_failed(path: &Path) -> impl Fn(ParquetError) -> Error {
    move |error| match error {
        ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
            Ok(io) => failed(path, "cannot write")(*io),
            Err(other) => Error::broken(format!("parquet:{}", path.display())).because(other),
        },
        other => Error::broken(format!("parquet:{}", path.display())).because(other),
    }
}
