//! Writes rows as row groups of a Parquet file. The columns of a row group may be encoded at the same time; the bytes
//! are the same.

use crate::parallel::Parallelism;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnWriter, ArrowLeafColumn, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves,
};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::writer::SerializedFileWriter;
use std::io::Write;

/// Rows of a batch from which on its columns are encoded at the same time.
const PARALLEL_ROWS: usize = 256;

/// A file to which row groups are written.
pub(super) struct RowGroupWriter<W: Write + Send> {
    file: SerializedFileWriter<W>,
    schema: SchemaRef,
    factory: ArrowRowGroupWriterFactory,
    /// Maximum rows of a row group.
    rows_max: usize,
    /// The writers of the columns of the row group in progress, and its rows.
    columns: Vec<ArrowColumnWriter>,
    rows: usize,
    parallelism: Parallelism,
}

impl<W: Write + Send> RowGroupWriter<W> {
    /// Begins a file. `parallelism` encodes columns.
    pub(super) fn new(
        target: W,
        schema: SchemaRef,
        options: ArrowWriterOptions,
        parallelism: Parallelism,
    ) -> Result<Self> {
        let writer = ArrowWriter::try_new_with_options(target, schema.clone(), options)?;
        let (file, factory) = writer.into_serialized_writer()?;
        let rows_max = file.properties().max_row_group_row_count().unwrap_or(usize::MAX);
        Ok(Self { file, schema, factory, rows_max, columns: vec![], rows: 0, parallelism })
    }

    /// Appends rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut from = 0;
        while from < batch.num_rows() {
            let rows = (self.rows_max - self.rows).min(batch.num_rows() - from);
            self.write_to_group(&batch.slice(from, rows))?;
            from += rows;
            if self.rows == self.rows_max {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Appends rows to the row group in progress.
    fn write_to_group(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.rows == 0 {
            self.columns = self.factory.create_column_writers(self.file.flushed_row_groups().len())?;
        }
        self.rows += batch.num_rows();
        let (mut leaves, mut sizes) = (vec![], vec![]);
        for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
            leaves.extend(compute_leaves(field, column)?);
            sizes.resize(leaves.len(), column.to_data().get_slice_memory_size()?);
        }
        if !self.parallelism.is_any() || batch.num_rows() < PARALLEL_ROWS {
            return self.columns.iter_mut().zip(&leaves).try_for_each(|(column, leaf)| column.write(leaf));
        }
        let encode = |(at, (mut column, leaf)): (usize, (ArrowColumnWriter, ArrowLeafColumn))| {
            column.write(&leaf).map(|()| (at, column))
        };
        let mut columns: Vec<_> = self.columns.drain(..).zip(leaves).enumerate().collect();
        // The largest column is encoded first: the others are done meanwhile.
        columns.sort_by_key(|(at, _)| std::cmp::Reverse(sizes[*at]));
        let encoded = self.parallelism.map(columns, encode);
        let encoded = encoded.map_err(|error| ParquetError::General(error.to_string()))?;
        let mut encoded = encoded.into_iter().collect::<Result<Vec<_>>>()?;
        encoded.sort_by_key(|(at, _)| *at);
        self.columns = encoded.into_iter().map(|(_, column)| column).collect();
        Ok(())
    }

    /// Ends the row group in progress.
    pub(super) fn flush(&mut self) -> Result<()> {
        if std::mem::take(&mut self.rows) == 0 {
            return Ok(());
        }
        let closed = self.parallelism.map(self.columns.drain(..).collect(), ArrowColumnWriter::close);
        let mut group = self.file.next_row_group()?;
        for column in closed.map_err(|error| ParquetError::General(error.to_string()))? {
            column?.append_to_row_group(&mut group)?;
        }
        group.close().map(|_| ())
    }

    /// Adds an entry to the footer.
    pub(super) fn add_to_footer(&mut self, entry: KeyValue) {
        self.file.append_key_value_metadata(entry);
    }

    /// Writes the end of the file.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.flush()?;
        self.file.finish().map(|_| ())
    }

    /// Returns the target.
    pub(super) fn target(&mut self) -> &mut W {
        self.file.inner_mut()
    }

    /// Returns the number of rows of the row group in progress.
    pub(super) fn in_progress_rows(&self) -> usize {
        self.rows
    }

    /// Returns the size of the row group in progress in bytes, approximately.
    pub(super) fn in_progress_size(&self) -> usize {
        self.columns.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }

    /// Returns the number of bytes written to the target.
    pub(super) fn bytes_written(&self) -> usize {
        self.file.bytes_written()
    }
}
