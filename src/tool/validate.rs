//! evt-validate: checks events against their envelope and the schemas of their subjects, and drops duplicates.

use super::validation::{SchemaArgs, Validate, ValidationArgs, shared_raw};
use crate::cli::args::{BranchArgs, StageArgs, TimeRangeArgs};
use crate::cli::check::CheckReport;
use crate::cli::open::open;
use crate::cli::resolve::StageSpec;
use crate::cli::{Tool, Unit};
use crate::output::OutputPlan;
use crate::source::{SourceOptions, ToolNeeds};
use crate::stage::{OperatorSetup, SourceInfo, Stage};
use clap::Parser;
use evt_core::error::Result;
use evt_core::kind::Kind;
use evt_core::kind::event::column;
use evt_core::mapping::{Projection, Provenance, TimeFrom};
use evt_core::op::dedup;
use evt_core::parse::size::parse_memory;
use evt_kafka::range::ReadMode;
use evt_run::checkpoint::state_files::memory_bound;
use evt_run::run::Run;
use std::ffi::OsString;
use std::rc::Rc;
use std::sync::Arc;

/// Check events against their schemas and drop duplicates
#[derive(Parser, Debug)]
pub struct Args {
    #[command(flatten)]
    validation: ValidationArgs,
    /// Write the events that --dedup drops to URI, so that evt-reconcile --plus can account for them
    #[arg(long, value_name = "URI", requires = "dedup", help_heading = "Output")]
    duplicates: Option<OsString>,
    /// Keep about SIZE of ids in memory, at least 8MiB, and the rest in files, of the checkpoint or in TMPDIR [default:
    /// 128MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, requires = "dedup", help_heading = "State")]
    memory: Option<usize>,
    #[command(flatten)]
    range: TimeRangeArgs,
    #[command(flatten)]
    branch: BranchArgs,
    #[command(flatten)]
    stage: StageArgs,
}

impl Tool for Args {
    const NAME: &'static str = "evt-validate";
    const USUAL_FLAGS: &'static [&'static str] = &[
        "schemas",
        "subject",
        "dedup",
        "duplicates",
        "to",
        "output-format",
        "dlq",
        "report",
        "input-format",
        "time",
        "quiet",
    ];
    const NEGATIVE: &'static str = "The verdict is negative: events or records were rejected without --dlq, with --strict any was \
        rejected, or the input had a negative verdict.";
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

    const PASSES_ROWS_ON: bool = true;

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

    fn check(self, run: &Rc<Run>, findings: &mut CheckReport) {
        let options = findings.take(self.source(run));
        let SchemaArgs { schemas, subject, .. } = &self.validation.schema;
        schemas.iter().for_each(|schemas| findings.schemas_of(schemas, subject));
        if let Some(span) = self.validation.dedup {
            findings.state(move |state| dedup::check_saved(state, span));
        }
        findings.stage(self.stage_spec(), options);
    }
}

impl Args {
    /// Opens the stage.
    pub fn stage(self, run: &Rc<Run>) -> Result<Stage> {
        let options = self.source(run)?;
        let schemas = self.validation.schema.open(run)?;
        let flags = self.validation.clone();
        let memory = memory_bound(self.memory.unwrap_or(dedup::MEMORY), run.io.disk());
        let parallelism = run.pool.parallelism();
        let start = move |info: SourceInfo<'_>| {
            info.expect(Kind::Event, "expected events")?;
            let schema = info.source.schema();
            let writes_raw_alone = info.outputs.iter().all(OutputPlan::needs_raw);
            let shared = if writes_raw_alone { None } else { shared_raw(&schema) };
            let names: Vec<usize> = (0..schema.fields().len()).filter(|column| Some(*column) != shared).collect();
            let schema = Arc::new(schema.project(&names)?);
            let mut operator = Validate::new(flags, schemas, memory, parallelism);
            operator.writes_raw_alone = writes_raw_alone;
            Ok(OperatorSetup { side: Some(Kind::Event.schema()), ..OperatorSetup::new(operator, schema) })
        };
        open(self.stage_spec(), options, run, Box::new(start))
    }

    fn stage_spec(&self) -> StageSpec<'_> {
        let (side, branch) = (self.duplicates.as_deref(), self.branch.branch.as_deref());
        let (range, kind) = (Some(&self.range), Some(Kind::Event));
        let new = StageSpec::new(&self.stage);
        StageSpec { side, range, branch, kind, side_kind: kind, needs_events: true, ..new }
    }

    fn source(&self, run: &Run) -> Result<SourceOptions> {
        let mut mapping = self.stage.map.options(Provenance::Keep)?;
        if mapping.time == TimeFrom::Default && self.stage.output.to.iter().all(|to| to == "null:") {
            // evt-validate writes no rows, so it needs no event time.
            mapping.time = TimeFrom::Optional;
        }
        mapping.reads.distinct_names = self.validation.schema.schemas.is_some();
        // A restart loses the ids that were seen.
        let read_mode = if self.validation.dedup.is_some() { ReadMode::Stateful } else { ReadMode::Commit };
        // All columns, because any may be a field of some schema; columns with few values are dictionaries, checked by
        // value.
        let raw_columns =
            Some(Projection { columns: u32::MAX, dictionaries: 1 << column::SOURCE | 1 << column::EVENT_TYPE });
        let shows_records = self.validation.schema.schemas.is_some();
        let finds_repeats = self.validation.dedup.is_some();
        let mut options = self.stage.source(mapping, run)?;
        options.needs = ToolNeeds { headers: true, raw_columns, shows_records, finds_repeats, ..options.needs };
        options.inputs.topics.read_mode = read_mode;
        Ok(options)
    }
}
