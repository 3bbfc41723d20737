//! evt-validate: checks events against their envelope and the schemas of their subjects, and drops duplicates.

use crate::cli::args::StageArgs;
use crate::cli::check::CheckReport;
use crate::cli::open::open;
use crate::cli::resolve::StageSpec;
use crate::cli::{Tool, Unit};
use crate::counts::Counts;
use crate::error::Result;
use crate::kafka::range::ReadMode;
use crate::kind::Kind;
use crate::kind::dead::Rejected;
use crate::kind::event::{DISTINCT, RAW, column, lent_raw_field};
use crate::mapping::{Projection, Provenance, TimeFrom};
use crate::op::dedup::{self, Dedup};
use crate::op::validate::{Options, SubjectOf, Validator};
use crate::output::OutputPlan;
use crate::registry::{Registry, place};
use crate::run::Run;
use crate::source::SourceOptions;
use crate::stage::operator::{Collector, InputEnded, Message, Operator};
use crate::stage::{OperatorSetup, SourceInfo, Stage};
use crate::store::rows;
use crate::time::parse_duration;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::Schema;
use clap::Parser;
use std::ffi::OsString;
use std::rc::Rc;
use std::sync::Arc;

/// Check events against their schemas
#[derive(Parser, Debug)]
pub struct Args {
    #[command(flatten)]
    schema: SchemaArgs,
    /// Write the events that --dedup drops to URI, so that evt-reconcile --plus can account for them
    #[arg(long, value_name = "URI", requires = "dedup", help_heading = "Output")]
    duplicates: Option<OsString>,
    #[command(flatten)]
    stage: StageArgs,
}

/// Flags of the tools that check events against schemas.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Schemas")]
pub(super) struct SchemaArgs {
    /// Validate against this directory or registry of schemas; without it only the envelope is checked
    #[arg(long, value_name = "DIR|URL")]
    pub schemas: Option<String>,
    /// Take the subject from a column or path, or use TEXT for all events (=TEXT)
    #[arg(long, value_name = "PATH|=TEXT", default_value = "event_type")]
    pub subject: SubjectOf,
    /// Reject properties that the schema does not define
    #[arg(long)]
    pub no_extra_fields: bool,
    /// Drop an event whose event_id occurred in its partition within this much stream time
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub dedup: Option<i64>,
}

impl Tool for Args {
    const NAME: &'static str = "evt-validate";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "Write invalid events to a file.",
            "evt-ingest events.jsonl | evt-validate --schemas schemas --dlq dead.jsonl | evt-view",
        ),
        (
            "In CI: report every invalid event on stderr; exit status 1.",
            "evt-validate --schemas schemas --report all --to null: events.jsonl",
        ),
        (
            "Split a file into valid and invalid lines, unchanged.",
            "evt-validate --schemas schemas events.jsonl -o raw --to good.jsonl --dlq bad.jsonl",
        ),
        (
            "Validate against a registry; do not wait while it is unavailable.",
            "evt-ingest events.jsonl | evt-validate --schemas 'http://localhost:8081?down=dead' --dlq dead.jsonl -o jsonl",
        ),
        (
            "Drop duplicates of the last hour, and keep them in a file.",
            "evt-ingest events.jsonl | evt-validate --dedup 1h --duplicates duplicates.jsonl -o jsonl",
        ),
    ];

    const UNIT: Option<Unit> = Some(Unit {
        after: "evt-ingest.service",
        args: "'kafka://localhost:9092/events?format=frames&group=evt-validate' --to 'kafka://localhost:9092/valid?format=frames'",
        settings: "",
        calendar: None,
    });

    fn waits_at_terminal(&self) -> bool {
        self.stage.waits_at_terminal()
    }

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        self.stage(run)?.run()
    }

    fn check(self, _run: &Rc<Run>, findings: &mut CheckReport) {
        let options = findings.take(self.source());
        self.schema.schemas.iter().for_each(|schemas| findings.schemas(schemas));
        findings.stage(self.stage_spec(), options.as_ref());
    }
}

impl Args {
    /// Opens the stage.
    pub fn stage(self, run: &Rc<Run>) -> Result<Stage> {
        let options = self.source()?;
        let schemas = self.schema.schemas.as_ref().map(|text| place::open(text, &run.console)).transpose()?;
        let Self { stage, duplicates, .. } = &self;
        let (stage, duplicates) = (stage.clone(), duplicates.clone());
        let spec = StageSpec { side: duplicates.as_deref(), ..StageSpec::new(&stage) };
        let start = move |learned: SourceInfo<'_>| {
            learned.expect(Kind::Event, "expected events")?;
            let schema = learned.source.schema();
            let writes_raw_alone = learned.outputs.iter().all(OutputPlan::asks_raw);
            let lent = if writes_raw_alone { None } else { lent_raw(&schema) };
            let names: Vec<usize> = (0..schema.fields().len()).filter(|column| Some(*column) != lent).collect();
            let schema = Arc::new(schema.project(&names)?);
            let side = Some(Kind::Event.schema());
            let operator = Box::new(Validate { writes_raw_alone, ..Validate::new(self.schema, schemas) });
            Ok(OperatorSetup { operator, schema, side, is_report: false })
        };
        open(spec, options, run, Box::new(start))
    }

    fn stage_spec(&self) -> StageSpec<'_> {
        StageSpec { side: self.duplicates.as_deref(), ..StageSpec::new(&self.stage) }
    }

    fn source(&self) -> Result<SourceOptions> {
        let mut mapping = self.stage.map.options(Provenance::Keep)?;
        if mapping.time == TimeFrom::Default && self.stage.output.to.iter().all(|to| to == "null:") {
            // evt-validate writes no rows, so it needs no event time.
            mapping.time = TimeFrom::Optional;
        }
        mapping.distinct = self.schema.schemas.is_some();
        // A restart loses the ids that were seen.
        let read_mode = if self.schema.dedup.is_some() { ReadMode::Stateful } else { ReadMode::Commit };
        // All columns, because any may be a field of some schema; columns with few values are dictionaries, checked by
        // value.
        let raw_lean = Some(Projection { columns: u32::MAX, coded: 1 << column::SOURCE | 1 << column::EVENT_TYPE });
        let shows_records = self.schema.schemas.is_some();
        Ok(SourceOptions { read_mode, headers: true, raw_lean, shows_records, ..self.stage.source(mapping)? })
    }
}

/// Returns the column of raw records that is kept only for dead letters.
fn lent_raw(schema: &Schema) -> Option<usize> {
    schema.fields().iter().position(|field| **field == lent_raw_field())
}

/// Validates events and leaves out repeated ones.
pub(super) struct Validate {
    validator: Validator,
    schemas: Option<Box<dyn Registry>>,
    dedup: Option<Dedup>,
    /// Whether only the raw record of a row is written.
    writes_raw_alone: bool,
}

impl Operator for Validate {
    fn on_batch(&mut self, batch: RecordBatch, _input: u32, out: &mut dyn Collector) -> Result<Counts> {
        let taken = batch.num_rows() as u64;
        let Kept { batch, duplicate } = self.keep(batch, out)?;
        out.rows(&batch)?;
        Ok(Counts { taken, duplicate, out: batch.num_rows() as u64, ..Counts::default() })
    }

    fn on_end(&mut self, _end: &InputEnded, out: &mut dyn Collector) -> Result<Counts> {
        if let Some(forgotten) = self.dedup.as_ref().map(Dedup::forgotten).filter(|n| *n > 0) {
            let why = "too many ids within --dedup; some duplicates may have passed";
            out.note(Message::Warning(format!("{forgotten} ids were dropped early: {why}")));
        }
        Ok(Counts::default())
    }

    fn snapshot(&mut self) -> Vec<u8> {
        self.dedup.as_ref().map(Dedup::snapshot).unwrap_or_default()
    }

    fn restore(self: Box<Self>, state: &[u8]) -> Result<Box<dyn Operator>> {
        let dedup = self.dedup.map(|dedup| Dedup::restore(dedup.into_options(), state)).transpose()?;
        Ok(Box::new(Self { dedup, ..*self }))
    }
}

/// The rows of a batch that are valid and new.
pub(super) struct Kept {
    /// These rows.
    pub batch: RecordBatch,
    /// Number of repeated rows.
    pub duplicate: u64,
}

impl Validate {
    /// Makes the operator of these flags; `schemas` is what `--schemas` names.
    pub(super) fn new(args: SchemaArgs, schemas: Option<Box<dyn Registry>>) -> Self {
        let validator = Validator::new(Options { subject: args.subject, closed: args.no_extra_fields });
        let dedup = args.dedup.map(|span| Dedup::new(dedup::Options::new(span)));
        Self { validator, schemas, dedup, writes_raw_alone: false }
    }

    /// Leaves out repeated rows, and makes dead letters of invalid ones.
    pub(super) fn keep(&mut self, batch: RecordBatch, out: &mut dyn Collector) -> Result<Kept> {
        let taken = batch.num_rows() as u64;
        let batch = self.without_repeats(batch, out)?;
        let duplicate = taken - batch.num_rows() as u64;
        Ok(Kept { batch: self.valid(batch, out)?, duplicate })
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

    fn valid(&mut self, batch: RecordBatch, out: &mut dyn Collector) -> Result<RecordBatch> {
        let Some(schemas) = &mut self.schemas else { return Ok(batch) };
        let verdicts = self.validator.check(&batch, schemas.as_mut())?;
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
        let own = |batch: &RecordBatch| lent_raw(batch.schema_ref()).or(batch.schema_ref().index_of(DISTINCT).ok());
        while let Some(own) = own(&batch) {
            batch.remove_column(own);
        }
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns[column::SCHEMA_ID] = Arc::new(schema_ids);
        Ok(RecordBatch::try_new(batch.schema(), columns)?)
    }
}
