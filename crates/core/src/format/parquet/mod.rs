//! Reads and writes Parquet files.
//!
//! ```text
//! file ─► footer.rs ─► metadata ─► page.rs: Checked ─► the library ─► batches ─┬─► ContainerRows: rows, JSON text
//!                         └─► leaves.rs: types ─────────────┘                  └─► columns as they are
//! rows ─► RowWriter ─► columns.rs: the first rows decide (columns=auto) ─► the library ─► row groups ─► file
//!                          └─► table_columns.rs: what the files of a table share
//! ```
//!
//! The reader returns a few thousand rows at a time; a corrupt file may make the library panic, which is caught and
//! becomes an error; `column_types.rs` names the column whose type is unknown to it. `footer.rs` and `page.rs` check
//! sizes and counts before the library allocates memory for them. The writer's settings are measured for events: zstd
//! 1, row groups of 131,072 rows, no dictionary where values do not repeat (ids, users, properties, payloads,
//! instants), ids uncompressed because they do not compress, instants as deltas, wide columns without statistics
//! because queries do not prune by them. That is 0.8 CPU-s per million events instead of 1.15 with the defaults, and 7
//! % smaller. At most one row group is in memory; `row_groups.rs` encodes its columns.

mod column_types;
mod columns;
mod footer;
mod leaves;
mod page;
mod row_groups;
mod table_columns;
mod writer;

pub use crate::format::value_type::ValueType;
pub use table_columns::{TableColumn, TableColumns};
pub use writer::{FileLayout, RowWriter, check_columns, parse_columns};

use self::column_types::at_column;
use self::page::{Checked, SharedFile};
use super::container::{BatchPart, opened};
use super::definition::{ColumnBatches, EncodeOptions, Encoder, Format, InputForm, Limits, Opened};
use super::typed::encoder;
use crate::decompression::Ratio;
use crate::error::guarded;
use crate::error::{Error, Result};
use crate::kind::Kind;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::FieldLevels;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

/// Parquet files.
pub const FORMAT: Format = Format {
    name: "parquet",
    extensions: &["parquet", "pq"],
    magic: b"PAR1",
    input: InputForm::Container(open),
    output: Some(|schema, options| {
        encoder(schema, options, |schema, options| Ok(Box::new(Writer::try_new(schema, options)?)))
    }),
    columns: Some(open_columns),
    needs_name: true,
    takes_any_columns: true,
    has_property_columns: true,
    ..Format::BASE
};

const READ_ROWS: usize = 2_048;
/// Rows from which on row groups are a part: smaller groups are read together.
const PART_ROWS: u64 = 8_192;

fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::corrupt("the Parquet file cannot be read").because_library(error)
}

fn open(file: File, limits: Limits) -> Result<Opened> {
    let file = RowGroupFile::open(file, limits)?;
    Ok(opened(&file.schema.clone(), file.parts(), limits))
}

/// Opens a file to read its columns.
fn open_columns(file: File, limits: Limits) -> Result<ColumnBatches> {
    let mut parts = RowGroupFile::open(file, limits)?.parts();
    let mut part = None;
    Ok(Box::new(std::iter::from_fn(move || {
        loop {
            match part.as_mut().map(|part: &mut GroupBatches| guarded(|| part.next())) {
                Some(Ok(Some(batch))) => return Some(batch.map_err(corrupt)),
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(None)) | None => {}
            }
            match parts.next()? {
                Ok(next) => part = Some(next.batches),
                Err(error) => return Some(Err(error)),
            }
        }
    })))
}

/// A file whose row groups several threads may read.
struct RowGroupFile {
    file: Arc<SharedFile>,
    metadata: Arc<ParquetMetaData>,
    schema: SchemaRef,
    levels: Arc<FieldLevels>,
    limits: Limits,
}

impl RowGroupFile {
    fn open(mut file: File, limits: Limits) -> Result<Self> {
        let io = |error| Error::io("cannot read", &error);
        let size = file.metadata().map_err(io)?.len();
        if !footer::is_sound(&mut file, size).map_err(io)? {
            return Err(corrupt("the footer is damaged"));
        }
        let metadata = guarded(|| ParquetMetaDataReader::new().parse_and_finish(&file))?;
        let metadata = Arc::new(metadata.map_err(corrupt)?);
        guarded(|| check_metadata(&metadata, size))??;
        let known = guarded(|| ArrowReaderMetadata::try_new(metadata.clone(), ArrowReaderOptions::new()));
        let known = known.and_then(|known| known.map_err(corrupt)).map_err(|error| at_column(error, &metadata))?;
        let schema = known.schema().clone();
        super::jsonl::unique_names(&schema)?;
        let levels = guarded(|| leaves::levels(&known))?.map_err(corrupt)?;
        let this = Self { file: Arc::new(SharedFile(file)), metadata, schema, levels: Arc::new(levels), limits };
        // Types that cannot be read are an error before the first row.
        guarded(|| this.reader(0..0))?.map_err(corrupt)?;
        Ok(this)
    }

    fn reader(&self, groups: Range<usize>) -> parquet::errors::Result<ParquetRecordBatchReader> {
        let ratio = Ratio::new(self.limits.ratio);
        let groups = Checked::new(self.file.clone(), self.metadata.clone(), groups, ratio);
        ParquetRecordBatchReader::try_new_with_row_groups(&self.levels, &groups, READ_ROWS, None)
    }

    /// Returns the rows in parts of whole row groups. Errors: exit status 65 if the file states that its groups are a
    /// decompression bomb.
    fn parts(self) -> impl Iterator<Item = Result<BatchPart<GroupBatches>>> {
        let (mut next, mut ratio) = (0, Ratio::new(self.limits.ratio));
        let this = Arc::new(self);
        std::iter::from_fn(move || {
            let (start, mut rows) = (next, 0);
            while let Some(group) = this.metadata.row_groups().get(next).filter(|_| rows < PART_ROWS) {
                let number = |number: i64| u64::try_from(number).unwrap_or(0);
                let bytes = [group.compressed_size(), group.total_byte_size()].map(number);
                if let Err(error) = ratio.take("a row group", bytes[0], bytes[1]) {
                    return Some(Err(error));
                }
                rows += number(group.num_rows());
                next += 1;
            }
            let batches = GroupBatches::Unopened(this.clone(), start..next);
            (start < next).then_some(Ok(BatchPart { rows, batches }))
        })
    }
}

/// The batches of some row groups.
enum GroupBatches {
    Unopened(Arc<RowGroupFile>, Range<usize>),
    Opened(ParquetRecordBatchReader),
    Ended,
}

impl Iterator for GroupBatches {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Self::Unopened(file, groups) = self {
            match file.reader(groups.clone()) {
                Ok(reader) => *self = Self::Opened(reader),
                Err(error) => {
                    *self = Self::Ended;
                    return Some(Err(error.into()));
                }
            }
        }
        match self {
            Self::Opened(reader) => reader.next(),
            Self::Unopened(..) | Self::Ended => None,
        }
    }
}

/// Checks that column chunks are inside the file, because the library allocates the memory that a chunk declares before
/// it reads the chunk. Checks that the file states as many rows as its row groups, because it is unknown which number
/// is right.
fn check_metadata(metadata: &ParquetMetaData, size: u64) -> Result<()> {
    let rows = metadata.file_metadata().num_rows();
    let grouped = metadata.row_groups().iter().fold(0i64, |sum, group| sum.saturating_add(group.num_rows()));
    if rows != grouped {
        return Err(corrupt(format!("expected {rows} rows as in the footer, found {grouped} in the row groups")));
    }
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let (start, length) = column.byte_range();
        if start.checked_add(length).is_none_or(|end| end > size) {
            return Err(corrupt(format!("column {} extends beyond the end of the file", column.column_path())));
        }
    }
    Ok(())
}

/// Writes a file; its bytes are returned with each row group.
struct Writer {
    writer: RowWriter<Vec<u8>>,
}

impl Writer {
    fn try_new(schema: &SchemaRef, options: &EncodeOptions) -> Result<Self> {
        if options.property_columns {
            check_columns(Kind::of(schema))?;
        }
        let EncodeOptions { property_columns, ref parallelism, .. } = *options;
        let layout = FileLayout { property_columns, parallelism: parallelism.clone(), ..FileLayout::default() };
        let wrong = |error| Error::usage("these columns cannot be written as Parquet").because(error);
        Ok(Self { writer: RowWriter::try_new(vec![], schema.clone(), layout).map_err(wrong)? })
    }

    fn take_bytes(&mut self, out: &mut Vec<u8>) {
        if let Some(bytes) = self.writer.target() {
            out.append(bytes);
        }
    }
}

fn broken(error: parquet::errors::ParquetError) -> Error {
    Error::broken("parquet").because(error)
}

impl Encoder for Writer {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        self.writer.write(batch).map_err(broken)?;
        self.take_bytes(out);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.writer.finish().map_err(broken)?;
        self.take_bytes(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
