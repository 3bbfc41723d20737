//! Checks the batches of inputs whose rows have stamps already (frames, containers, stores), and gives them one schema.
//!
//! All batches of a run have the same columns: those of the kind, with raw records if the first rows had them.

use crate::console::Console;
use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};
use evt_core::counts::Counts;
use evt_core::error::{Error, Result};
use evt_core::kind::event::{self, RAW};
use evt_core::kind::{Kind, letters, older};

/// The schema and the counts of the batches that inputs deliver.
#[derive(Default)]
pub(super) struct StampedBatches {
    /// The kind that every input must have, if the user names it.
    pub(super) named: Option<Kind>,
    /// The schema of the first input that delivers batches.
    pub(super) schema: Option<SchemaRef>,
    /// The counts of their rows.
    pub(super) counts: Counts,
    /// Whether the warning about dropped raw records has been printed.
    pub(super) reported_raw: bool,
}

/// Returns the error of inputs of two kinds.
pub(super) fn several_kinds(known: Kind, found: Kind) -> Error {
    Error::usage(format!("expected inputs of one kind, found {} and {}", known.name(), found.name()))
}

impl StampedBatches {
    /// Checks the schema of an input and keeps the first one; returns its kind. Errors: exit status 65 if it lacks the
    /// columns of its kind, 2 if an earlier input has rows of another kind, or `--kind` names another one.
    pub(super) fn take_schema(&mut self, schema: SchemaRef, name: &str) -> Result<Kind> {
        let Some(kind) = Kind::of(&schema) else {
            return Err(Error::corrupt("rows of no known kind").at(name));
        };
        if !kind.leads(&schema) {
            let message = format!("expected the columns of kind {kind}, found others");
            return Err(Error::corrupt(message).at(name));
        }
        if let Some(named) = self.named.filter(|named| *named != kind) {
            return Err(Error::usage(format!("expected rows of kind {named} (--kind), found kind {kind}")).at(name));
        }
        match self.schema.as_ref().and_then(|schema| Kind::of(schema)) {
            Some(known) if known != kind => Err(several_kinds(known, kind)),
            _ => {
                self.schema.get_or_insert(schema);
                Ok(kind)
            }
        }
    }

    /// Counts a batch and returns it with the columns of its kind; with raw records if `has_raw`. Errors: exit status
    /// 65 if a time lies outside of the calendar.
    pub(super) fn take(
        &mut self,
        batch: RecordBatch,
        has_raw: bool,
        name: &str,
        console: &Console,
    ) -> Result<RecordBatch> {
        self.counts.taken += batch.num_rows() as u64;
        self.counts.out += batch.num_rows() as u64;
        match Kind::of(batch.schema_ref()) {
            Some(kind @ (Kind::Event | Kind::Late)) => {
                if !event::has_instants_in_calendar(&batch) {
                    return Err(Error::corrupt("a time is outside the years 1 to 9999").at(name));
                }
                self.conform(batch, kind, has_raw, |message| console.warn(format!("{name}: {message}")))
            }
            Some(Kind::Dead) => letters::completed(batch),
            Some(Kind::Alert) => older::widened(batch),
            _ => Ok(batch),
        }
    }

    /// Adds or removes the column `raw`, so that all rows of a run have the columns of the first ones.
    fn conform(
        &mut self,
        batch: RecordBatch,
        kind: Kind,
        has_raw: bool,
        warn: impl FnOnce(&str),
    ) -> Result<RecordBatch> {
        let at = batch.schema_ref().index_of(RAW).ok();
        if has_raw == at.is_some() {
            return Ok(batch);
        }
        if !has_raw && !std::mem::replace(&mut self.reported_raw, true) {
            warn("raw records are dropped, because the first input has none");
        }
        let mut columns = batch.columns()[..kind.schema().fields().len()].to_vec();
        if has_raw {
            columns.push(new_null_array(&DataType::Binary, batch.num_rows()));
        }
        Ok(RecordBatch::try_new(kind.schema_with(has_raw), columns)?)
    }
}
