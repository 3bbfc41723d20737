//! Writes CSV and TSV.
//!
//! A header, even without rows; the same text as in JSON lines without the outer quotes, null empty, an empty
//! text as `""`. A column of payloads or keys has a second one, `NAME_base64`, for bytes that are not text. In a file
//! of one column null is `""`, too, because an empty line is not a record. Metrics have a column for each dimension
//! (`metric_columns.rs`, `metric_dimensions.rs`).

use super::cell::{CellForm, Column};
use super::definition::{EncodeOptions, Encoder};
use super::jsonl::{own, unique_names};
use crate::error::Result;
use crate::kind::is_own;
use arrow::array::{AsArray, BinaryArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use std::sync::Arc;

/// Writes a header, then batches.
pub struct Writer {
    delimiter: u8,
    schema: SchemaRef,
    /// Whether the header is written.
    header: bool,
    line: String,
    cell: String,
}

/// One column of the file. Payloads take two: one for text, one for other bytes.
struct Cells<'a> {
    name: String,
    column: Column<'a>,
    only: Option<(&'a BinaryArray, bool)>,
}

fn cells(batch: &RecordBatch) -> Vec<Cells<'_>> {
    let ours = is_own(batch.schema_ref());
    let mut cells = vec![];
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let name = field.name();
        let column = || own(field, array.as_ref(), ours, CellForm::Text);
        match array.as_binary_opt::<i32>() {
            Some(bytes) if ours => {
                cells.push(Cells { name: name.clone(), column: column(), only: Some((bytes, true)) });
                cells.push(Cells { name: format!("{name}_base64"), column: column(), only: Some((bytes, false)) });
            }
            _ => cells.push(Cells { name: name.clone(), column: column(), only: None }),
        }
    }
    cells
}

impl Cells<'_> {
    fn is_empty(&self, row: usize) -> bool {
        self.column.is_null(row)
            || self.only.is_some_and(|(bytes, text)| str::from_utf8(bytes.value(row)).is_ok() != text)
    }
}

impl Writer {
    pub fn new(delimiter: u8, schema: &SchemaRef, options: &EncodeOptions) -> Self {
        let schema = Arc::clone(schema);
        Self { delimiter, schema, header: options.append, line: String::new(), cell: String::new() }
    }

    /// Appends the cell to the line, quoted if its content would be taken for structure.
    fn push(&mut self) {
        let bytes = self.cell.as_bytes();
        let structural = memchr::memchr3(b'"', b'\n', self.delimiter, bytes).is_some();
        let blank = self.line.is_empty() && !bytes.is_empty() && bytes.iter().all(|byte| *byte == b' ');
        if structural || blank || memchr::memchr(b'\r', bytes).is_some() {
            self.line.push('"');
            let mut start = 0;
            for at in memchr::memchr_iter(b'"', bytes) {
                self.line.push_str(&self.cell[start..=at]);
                start = at;
            }
            self.line.push_str(&self.cell[start..]);
            self.line.push('"');
        } else {
            self.line.push_str(&self.cell);
        }
        self.cell.clear();
    }

    /// Ends the line. A single empty cell would read as a blank line, so it gets quotes.
    fn end(&mut self, out: &mut Vec<u8>) {
        if self.line.is_empty() {
            self.line.push_str("\"\"");
        }
        self.line.push('\n');
        out.extend_from_slice(self.line.as_bytes());
        self.line.clear();
    }

    fn write_header(&mut self, cells: &[Cells<'_>], out: &mut Vec<u8>) {
        for (at, cell) in cells.iter().enumerate() {
            if at > 0 {
                self.line.push(char::from(self.delimiter));
            }
            self.cell.push_str(&cell.name);
            self.push();
        }
        self.end(out);
        self.header = true;
    }
}

impl Encoder for Writer {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        unique_names(batch.schema_ref())?;
        let mut cells = cells(batch);
        if !self.header {
            self.write_header(&cells, out);
        }
        for row in 0..batch.num_rows() {
            for (at, cell) in cells.iter_mut().enumerate() {
                if at > 0 {
                    self.line.push(char::from(self.delimiter));
                }
                if !cell.is_empty(row) {
                    cell.column.write(row, &mut self.cell);
                    match self.cell.is_empty() {
                        true => self.line.push_str("\"\""),
                        false => self.push(),
                    }
                }
            }
            self.end(out);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if !self.header {
            // CSV readers reject a file without a header.
            self.write_header(&cells(&RecordBatch::new_empty(Arc::clone(&self.schema))), out);
        }
        Ok(())
    }
}
