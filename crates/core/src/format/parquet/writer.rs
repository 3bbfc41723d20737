//! Writes rows to a Parquet file, with or without columns for properties.

use super::columns::PropertyColumns;
use super::row_groups::RowGroupWriter;
use super::table_columns::TableColumns;
use crate::error::{Error, Result};
use crate::format::first_rows::{FirstRows, SAMPLE_ROWS};
use crate::format::properties::is_property;
use crate::kind::Kind;
use crate::parallel::Parallelism;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::io::Write;

/// Maximum rows of a row group. The rows of the first one decide about columns.
pub const ROW_GROUP_ROWS: usize = SAMPLE_ROWS;

/// The layout of a Parquet file.
#[derive(Clone, Debug)]
pub struct FileLayout {
    /// Whether properties get columns (`columns=auto`).
    pub property_columns: bool,
    /// The columns that properties have in the table of the file.
    pub table: Option<TableColumns>,
    /// Returns the settings of a file with a schema.
    pub properties: fn(&Schema) -> WriterProperties,
    /// How its columns are encoded.
    pub parallelism: Parallelism,
    /// Whether the footer says the types of Arrow, which only readers of Arrow know.
    pub has_arrow_types: bool,
}

impl FileLayout {
    /// Returns the settings of a file with a schema.
    fn options(&self, schema: &Schema) -> ArrowWriterOptions {
        let options = ArrowWriterOptions::new().with_properties((self.properties)(schema));
        options.with_skip_arrow_metadata(!self.has_arrow_types)
    }
}

impl Default for FileLayout {
    fn default() -> Self {
        Self {
            property_columns: false,
            table: None,
            properties: writer_properties,
            parallelism: Parallelism::default(),
            has_arrow_types: true,
        }
    }
}

/// Parses the value of the option `columns` of a URI. Errors: exit status 2.
pub fn parse_columns(word: &str) -> Result<()> {
    match word {
        "auto" => Ok(()),
        other => Err(Error::usage(format!("columns: expected auto, found '{other}'"))),
    }
}

/// Checks that rows of a schema have properties, which may get columns. Errors: exit status 2.
pub fn check_columns(kind: Option<Kind>) -> Result<()> {
    match kind {
        Some(Kind::Event | Kind::Late) => Ok(()),
        Some(other) => Err(Error::usage(format!(
            "columns=auto: expected events, whose properties get columns, found {}",
            other.table()
        ))),
        None => Err(Error::usage(
            "columns=auto: expected events, whose properties get columns; those of --columns, --let and --wide have types without it",
        )),
    }
}

/// A file that is written.
pub struct RowWriter<W: Write + Send> {
    state: State<W>,
    layout: FileLayout,
    schema: SchemaRef,
}

enum State<W: Write + Send> {
    /// Rows wait until there are enough of them to decide about columns.
    Sampling {
        target: Option<W>,
        sample: FirstRows,
    },
    Writing {
        writer: Box<RowGroupWriter<W>>,
        columns: Option<PropertyColumns>,
    },
}

impl<W: Write + Send> RowWriter<W> {
    /// Makes the writer of a file for rows of `schema`.
    pub fn try_new(target: W, schema: SchemaRef, layout: FileLayout) -> ParquetResult<Self> {
        let may_add = layout.property_columns || layout.table.as_ref().is_some_and(TableColumns::may_add);
        let state = match may_add {
            true => State::Sampling { target: Some(target), sample: FirstRows::default() },
            false => {
                let columns = layout.table.as_ref().map(|table| PropertyColumns::of_table(&schema, &[], table));
                let written = columns.as_ref().map_or(&schema, PropertyColumns::schema);
                let options = layout.options(written);
                let writer = RowGroupWriter::new(target, written.clone(), options, layout.parallelism.clone())?;
                State::Writing { writer: Box::new(writer), columns }
            }
        };
        Ok(Self { state, layout, schema })
    }

    /// Appends rows.
    pub fn write(&mut self, batch: &RecordBatch) -> ParquetResult<()> {
        match &mut self.state {
            State::Writing { writer, columns: None } => writer.write(batch),
            State::Writing { writer, columns: Some(columns) } => writer.write(&columns.split(batch).map_err(failed)?),
            State::Sampling { sample, .. } => match sample.push(batch) {
                true => self.decide().map(|_| ()),
                false => Ok(()),
            },
        }
    }

    /// Chooses the columns of properties, if that is not done yet, and writes the sampled rows. Returns the writer of
    /// further rows.
    fn decide(&mut self) -> ParquetResult<&mut RowGroupWriter<W>> {
        if let State::Sampling { target, sample } = &mut self.state
            && let Some(target) = target.take()
        {
            let sample = std::mem::take(sample);
            let mut columns = match &self.layout.table {
                Some(table) => PropertyColumns::of_table(&self.schema, &sample.deciding(), table),
                None => PropertyColumns::choose(&self.schema, &sample.deciding()),
            };
            let options = self.layout.options(columns.schema());
            let (schema, parallelism) = (columns.schema().clone(), self.layout.parallelism.clone());
            let mut writer = Box::new(RowGroupWriter::new(target, schema, options, parallelism)?);
            for batch in sample.into_rows() {
                writer.write(&columns.split(&batch).map_err(failed)?)?;
            }
            self.state = State::Writing { writer, columns: Some(columns) };
        }
        match &mut self.state {
            State::Writing { writer, .. } => Ok(writer),
            State::Sampling { .. } => Err(failed("the file failed before")),
        }
    }

    /// Ends the row group in progress.
    pub fn flush(&mut self) -> ParquetResult<()> {
        self.decide()?.flush()
    }

    /// Adds an entry to the footer.
    pub fn add_to_footer(&mut self, key: &str, value: String) -> ParquetResult<()> {
        self.decide()?.add_to_footer(KeyValue::new(key.to_owned(), value));
        Ok(())
    }

    /// Writes the end of the file.
    pub fn finish(&mut self) -> ParquetResult<()> {
        self.decide()?.finish()
    }

    /// Returns the target, if bytes may have been written to it.
    pub fn target(&mut self) -> Option<&mut W> {
        match &mut self.state {
            State::Sampling { .. } => None,
            State::Writing { writer, .. } => Some(writer.target()),
        }
    }

    /// Returns the number of rows that are not in a finished row group.
    pub fn in_progress_rows(&self) -> usize {
        match &self.state {
            State::Sampling { sample, .. } => sample.count(),
            State::Writing { writer, .. } => writer.in_progress_rows(),
        }
    }

    /// Returns the size of these rows in bytes, approximately.
    pub fn in_progress_size(&self) -> usize {
        match &self.state {
            State::Sampling { sample, .. } => sample.bytes(),
            State::Writing { writer, .. } => writer.in_progress_size(),
        }
    }

    /// Returns the number of bytes written to the target.
    pub fn bytes_written(&self) -> usize {
        match &self.state {
            State::Sampling { .. } => 0,
            State::Writing { writer, .. } => writer.bytes_written(),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> parquet::errors::ParquetError {
    parquet::errors::ParquetError::General(error.to_string())
}

/// Returns the writer settings for rows of `schema`.
fn writer_properties(schema: &Schema) -> WriterProperties {
    let level = ZstdLevel::try_new(1).map_or(Compression::UNCOMPRESSED, Compression::ZSTD);
    let mut properties = WriterProperties::builder()
        .set_compression(level)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_write_batch_size(4_096);
    let repeats = Kind::of(schema) == Some(Kind::Metric);
    for field in schema.fields().iter().filter(|field| !is_property(field)) {
        let path = ColumnPath::from(field.name().as_str());
        properties = match (field.name().as_str(), field.data_type()) {
            (_, DataType::FixedSizeBinary(16)) => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
                .set_column_statistics_enabled(path, EnabledStatistics::None),
            ("properties" | "user_id", DataType::Utf8) | ("original_payload" | "raw", DataType::Binary) => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path.clone(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
                .set_column_statistics_enabled(path, EnabledStatistics::None),
            (_, DataType::Timestamp(..)) | ("offset", DataType::Int64) if !repeats => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            _ => properties,
        };
    }
    properties.build()
}
