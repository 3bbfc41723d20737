//! The operator that checks events and drops duplicates, and its flags: evt-validate, and evt-backfill for raw records;
//! evt-replay has those of schemas.

use crate::cli::values::parse_registry;
use crate::stage::feeds::FeedInput;
use crate::stage::operator::{Collector, InputEnded, Operator, Snapshot};
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::Schema;
use evt_core::counts::{Counts, counted};
use evt_core::error::Result;
use evt_core::frame::Control;
use evt_core::kind::Kind;
use evt_core::kind::dead::{ErrorType, Rejected};
use evt_core::kind::event::{DISTINCT, RAW, column, shared_raw_field};
use evt_core::op::dedup::{self, Dedup};
use evt_core::op::state_storage::{MemoryBound, StateStorage};
use evt_core::op::validate::{self, SubjectOf, Validator};
use evt_core::op::window::watermark::ContinuedTopic;
use evt_core::parallel::Parallelism;
use evt_core::time::parse_duration;
use evt_run::registry::{Registry, place};
use evt_run::run::Run;
use evt_store::rows;
use std::sync::Arc;

/// Flags of the tools that check events against schemas.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Schemas")]
pub struct SchemaArgs {
    /// Validate against this directory or registry of schemas; without it only the envelope is checked
    #[arg(long, value_name = "DIR|URL", value_parser = parse_registry)]
    pub schemas: Option<String>,
    /// Take the subject from a column or path, or use TEXT for all events (=TEXT)
    #[arg(long, value_name = "PATH|=TEXT", default_value = "event_type")]
    pub subject: SubjectOf,
    /// Reject properties that the schema does not define
    #[arg(long)]
    pub no_extra_fields: bool,
}

/// Flags of the tools that check events and drop duplicates.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Schemas")]
pub struct ValidationArgs {
    #[command(flatten)]
    pub schema: SchemaArgs,
    /// Drop an event whose event_id occurred in its partition within this much stream time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub dedup: Option<i64>,
}

impl SchemaArgs {
    /// Returns the options of a validator.
    pub fn options(&self) -> validate::Options {
        validate::Options { subject: self.subject.clone(), closed: self.no_extra_fields }
    }

    /// Opens the registry of the schemas, if the events are validated.
    pub fn open(&self, run: &Run) -> Result<Option<Box<dyn Registry>>> {
        self.schemas.as_ref().map(|text| place::open(text, &run.caller())).transpose()
    }
}

/// Returns the column of raw records that is kept only for dead letters.
pub fn shared_raw(schema: &Schema) -> Option<usize> {
    schema.fields().iter().position(|field| **field == shared_raw_field())
}

/// Validates events and leaves out repeated ones.
pub struct Validate {
    validator: Validator,
    schemas: Option<Box<dyn Registry>>,
    dedup: Option<Dedup>,
    /// The number of events whose subject has no schema.
    unknown: u64,
    /// Whether an event had a subject with a schema.
    has_known: bool,
    /// Whether only the raw record of a row is written.
    pub writes_raw_alone: bool,
}

impl Operator for Validate {
    fn on_batch(&mut self, batch: RecordBatch, _from: FeedInput, out: &mut dyn Collector) -> Result<Counts> {
        let mut counts = Counts { taken: batch.num_rows() as u64, ..Counts::default() };
        let batch = self.keep(batch, &mut counts, out)?;
        out.rows(&batch)?;
        self.set_metrics(out);
        Ok(Counts { out: batch.num_rows() as u64, ..counts })
    }

    fn on_control(&mut self, message: Control, _from: FeedInput, out: &mut dyn Collector) -> Result<()> {
        if let (Some(dedup), Control::Progress(progress)) = (&mut self.dedup, &message) {
            dedup.on_progress(progress);
        }
        out.control(&message)
    }

    fn on_end(&mut self, _end: &InputEnded, out: &mut dyn Collector) -> Result<Counts> {
        if let Some(dedup) = &self.dedup {
            out.detail("state_written", dedup.size().written.into());
        }
        // A registry that does not answer now has no advice.
        let subjects = self
            .schemas
            .as_mut()
            .filter(|_| self.unknown > 0 && !self.has_known)
            .and_then(|schemas| schemas.subjects().ok());
        if let Some([subject]) = subjects.as_deref() {
            let events = counted(self.unknown, ["event has", "events have"]);
            let remedy = format!("--subject ={subject} takes the only one, for all events");
            out.warn(format!("{events} a subject without a schema; {remedy}"));
        }
        Ok(Counts::default())
    }

    fn snapshot(&mut self) -> Snapshot {
        let of = |dedup: &Dedup| Snapshot { spec: format!("span {}", dedup.options().span), state: dedup.snapshot() };
        self.dedup.as_ref().map(of).unwrap_or_default()
    }

    fn set_storage(&mut self, storage: Box<dyn StateStorage>) {
        if let Some(dedup) = &mut self.dedup {
            dedup.set_storage(storage);
        }
    }

    fn state_files(&mut self) -> Result<Vec<String>> {
        self.dedup.as_mut().map_or(Ok(vec![]), Dedup::files)
    }

    fn restore(self: Box<Self>, state: &[u8]) -> Result<Box<dyn Operator>> {
        let dedup = self.dedup.map(|dedup| Dedup::restore(dedup.into_options(), state)).transpose()?;
        Ok(Box::new(Self { dedup, ..*self }))
    }

    fn begin_run(&mut self, _continued: &[ContinuedTopic]) {
        if let Some(dedup) = &mut self.dedup {
            dedup.begin_run();
        }
    }
}

impl Validate {
    /// Makes the operator of these flags; `schemas` is what `--schemas` names, and `memory` the bound of the ids of
    /// `--dedup`.
    pub fn new(
        args: ValidationArgs,
        schemas: Option<Box<dyn Registry>>,
        memory: MemoryBound,
        parallelism: Parallelism,
    ) -> Self {
        let validator = Validator::new(args.schema.options()).by(parallelism);
        let dedup = args.dedup.map(|span| Dedup::new(dedup::Options { span, memory }));
        Self { validator, schemas, dedup, unknown: 0, has_known: false, writes_raw_alone: false }
    }

    /// Leaves out repeated rows, which it adds to `counts`, and makes dead letters of invalid ones; returns the others.
    pub fn keep(&mut self, batch: RecordBatch, counts: &mut Counts, out: &mut dyn Collector) -> Result<RecordBatch> {
        let taken = batch.num_rows() as u64;
        let batch = self.without_repeats(batch, out)?;
        counts.duplicate += taken - batch.num_rows() as u64;
        self.valid(batch, out)
    }

    /// Leaves out repeated rows, and writes them to the side output.
    fn without_repeats(&mut self, batch: RecordBatch, out: &mut dyn Collector) -> Result<RecordBatch> {
        let Some(dedup) = &mut self.dedup else { return Ok(batch) };
        let keep = dedup.on_batch(&batch)?;
        if keep.true_count() == batch.num_rows() {
            return Ok(batch);
        }
        if out.has_side() {
            let repeated = filter_record_batch(&batch, &not(&keep)?)?;
            for rejected in out.side(&rows::align(Kind::Event, &repeated)?)? {
                out.rejected(&repeated, &rejected)?;
            }
        }
        Ok(filter_record_batch(&batch, &keep)?)
    }

    fn set_metrics(&self, out: &mut dyn Collector) {
        let metrics = out.metrics();
        if let Some(dedup) = self.dedup.as_ref().filter(|_| metrics.is_on()) {
            metrics.set_state(&dedup.size());
        }
    }

    fn valid(&mut self, batch: RecordBatch, out: &mut dyn Collector) -> Result<RecordBatch> {
        let Some(schemas) = &mut self.schemas else { return Ok(batch) };
        let verdicts = self.validator.check(&batch, schemas.as_mut())?;
        let is_unknown = |rejected: &&Rejected| rejected.fault.error_type == ErrorType::UnknownSchemaError;
        let unknown = verdicts.faults.iter().filter(is_unknown).count();
        self.unknown += unknown as u64;
        self.has_known |= unknown < batch.num_rows();
        for Rejected { row, fault } in &verdicts.faults {
            out.dead(&batch, *row, fault)?;
        }
        let rows = batch.num_rows();
        let batch = self.written(batch, verdicts.schema_ids)?;
        if verdicts.faults.is_empty() {
            return Ok(batch);
        }
        let mut keep = vec![true; rows];
        verdicts.faults.iter().for_each(|rejected| keep[rejected.row] = false);
        Ok(filter_record_batch(&batch, &BooleanArray::from(keep))?)
    }

    /// Returns the columns that are written, the schema ids included.
    fn written(&self, mut batch: RecordBatch, schema_ids: Int64Array) -> Result<RecordBatch> {
        if let Some(raw) = batch.schema_ref().index_of(RAW).ok().filter(|_| self.writes_raw_alone) {
            return Ok(batch.project(&[raw])?);
        }
        let own = |batch: &RecordBatch| shared_raw(batch.schema_ref()).or(batch.schema_ref().index_of(DISTINCT).ok());
        while let Some(own) = own(&batch) {
            batch.remove_column(own);
        }
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns[column::SCHEMA_ID] = Arc::new(schema_ids);
        Ok(RecordBatch::try_new(batch.schema(), columns)?)
    }
}
