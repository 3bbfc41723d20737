//! Reads a file of another program by its columns, as far as possible.

use crate::source::SourceOptions;
use crate::uri::Uri;
use crate::uri::readable;
use evt_core::format::{ColumnBatches, Limits};
use evt_core::reconcile::foreign::{ForeignColumns, ForeignRows};
use evt_core::reconcile::rows::RowOptions;
use evt_run::run::Run;
use std::rc::Rc;

/// A file whose columns are read.
pub struct ForeignFile {
    batches: ColumnBatches,
    columns: ForeignColumns,
}

impl ForeignFile {
    /// Opens a regular file. `None` if it has to be read with the mapping, whose errors are those of the run.
    pub fn open(uri: &Uri, options: &SourceOptions, rows: RowOptions, run: &Rc<Run>) -> Option<Self> {
        let Uri::File(path) = uri else { return None };
        let columns =
            ForeignColumns::new(&options.records.mapping, rows, run.record_max, options.inputs.names.origin_of(uri))?;
        if !std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
            return None;
        }
        let mut bytes = readable::open(uri, run.clone(), false).ok()?.in_encoding(options.inputs.files.text.encoding);
        if options.inputs.files.format.is_none() {
            bytes.read_head(None).ok()?;
        }
        let open = options.inputs.reading().format_of(&bytes, false).ok()?.columns?;
        let limits = Limits { ratio: run.ratio_max, text: run.line_max() };
        Some(Self { batches: open(bytes.whole_file().ok()?, limits).ok()?, columns })
    }

    /// Returns the next rows; `Some(None)` at the end of the file, `None` if the rest has to be read with the mapping.
    pub fn next_rows(&mut self) -> Option<Option<ForeignRows>> {
        match self.batches.next() {
            None => Some(None),
            Some(batch) => self.columns.read(&batch.ok()?).map(Some),
        }
    }
}
