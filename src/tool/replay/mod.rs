//! evt-replay: repairs dead letters, validates them again and replays each once.
//!
//! ```text
//! dead letters ─► letters: patch, repair, validate ─► ledger claims a batch ─► target ─► ledger closes it
//! ```
//!
//! - `letters.rs`: the operator; `target.rs`: where the records go.

mod letters;
mod target;

use crate::cli::Tool;
use crate::cli::args::{StageArgs, TextArgs};
use crate::cli::check::CheckReport;
use crate::cli::open::open;
use crate::cli::resolve::{LINES, StageSpec, resolve};
use crate::cli::values::parse_positive;
use crate::source::{PartitionNames, SourceOptions};
use crate::stage::{OperatorSetup, SourceInfo};
use crate::tool::pace::Pace;
use crate::tool::validation::SchemaArgs;
use crate::uri::Uri;
use clap::Parser;
use evt_core::error::{Error, Result};
use evt_core::format::{self, CsvHeader, Format, InputForm};
use evt_core::frame::EndReason;
use evt_core::kind::Kind;
use evt_core::mapping::Provenance;
use evt_core::op::validate::Validator;
use evt_core::replay::patch::Patch;
use evt_core::replay::repair::{RecordFormat, Repair};
use evt_kafka::range::ReadMode;
use evt_run::client::Location;
use evt_run::run::Run;
use evt_store::LedgerStore;
use letters::Replay;
use std::cell::RefCell;
use std::ffi::OsString;
use std::rc::Rc;
use target::TargetPlan;

/// Repair dead letters and replay each of them once
#[derive(Parser, Debug)]
pub struct Args {
    /// Repair each record by assignments: set NAME = EXPRESSION, ... (evt-metrics(5))
    #[arg(long, value_name = "TEXT", help_heading = "Replay")]
    patch: Option<String>,
    /// Keep what was replayed in this database, so that no letter is replayed twice (sqlite: or postgres:)
    #[arg(long, value_name = "URI", help_heading = "Replay")]
    ledger: Option<OsString>,
    /// Show what would become of each letter and write nothing; exit status 1 if anything would change
    #[arg(long, help_heading = "Replay")]
    dry_run: bool,
    /// Read at most N letters per second
    #[arg(long, value_name = "N", help_heading = "Input", value_parser = parse_positive::<u64>)]
    rate: Option<u64>,
    #[command(flatten)]
    schema: SchemaArgs,
    #[command(flatten)]
    stage: StageArgs,
}

impl Tool for Args {
    const NAME: &'static str = "evt-replay";
    const USUAL_FLAGS: &'static [&'static str] =
        &["patch", "ledger", "dry-run", "rate", "schemas", "subject", "input-format", "time", "to", "dlq", "quiet"];
    const NEGATIVE: &'static str = "The verdict is negative: letters are still faulty, were skipped or were not replayed, or --dry-run shows that any would change.";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "Show what would become of each letter; exit status 1 while any is not replayed.",
            "evt-replay dead.jsonl --patch \"set latency_ms = try_cast(latency_ms as double)\" --schemas schemas --dry-run -o table",
        ),
        (
            "Repair dead letters, validate them and replay each once; exit status 1 while some are still faulty.",
            "evt-replay dead.jsonl --patch \"set latency_ms = try_cast(latency_ms as double)\" --schemas schemas --ledger sqlite:replay.db --to replayed.jsonl --dlq faulty.jsonl",
        ),
    ];

    fn waits_at_terminal(&self) -> bool {
        self.stage.waits_at_terminal()
    }

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        replay(&self, run)
    }

    fn check(self, run: &Rc<Run>, findings: &mut CheckReport) {
        check(&self, run, findings);
    }
}

/// Replays the letters; returns the exit status.
fn replay(args: &Args, run: &Rc<Run>) -> Result<u8> {
    let stage = stage_args(args)?;
    // Without a target: `--dry-run` shows what it would do on standard output.
    let (plan, ledger) = match args.dry_run {
        true if args.ledger.is_none() => (None, None),
        true => {
            let (ledger, location) = ledger_of(args, run)?;
            (None, (ledger.open_to_read)(&location)?)
        }
        false => {
            resolve(spec(&stage), false, run).sound()?;
            let plan = TargetPlan::new(&stage, run)?;
            let (ledger, location) = ledger_of(args, run)?;
            (Some(plan), Some((ledger.open)(&location)?))
        }
    };
    let (repair, options) = (repair(args)?, source(&stage, run)?);
    let schemas = args.schema.open(run)?;
    let validator = Validator::new(args.schema.options());
    let (target, ledger) = match (plan, ledger) {
        (Some(plan), Some(mut ledger)) => {
            let shown = stage.output.to[0].to_string_lossy().into_owned();
            (Some(plan.open(&shown, ledger.as_mut(), run)?), Some(ledger))
        }
        (_, ledger) => (None, ledger),
    };
    let replay = Replay::new(repair, schemas, validator, Pace::new(args.rate), run.clone()).with(target, ledger);
    let replay = Rc::new(RefCell::new(replay));
    let shared = replay.clone();
    let start = move |info: SourceInfo<'_>| {
        info.expect(Kind::Dead, "expected dead letters")?;
        Ok(OperatorSetup::new(shared, Replay::report_schema()))
    };
    let mut stage = stage;
    stage.output.to = if args.dry_run { vec!["-".into()] } else { vec![] };
    let mut status = open(spec(&stage), options, run, Box::new(start))?.run()?;
    if let Some(target) = replay.borrow_mut().take_target() {
        let how = if run.stop.signal().is_some() { EndReason::Stopped } else { EndReason::Exhausted };
        let shown = target.shown.clone();
        for notice in target.finish(how)? {
            run.console.warn(format!("{shown}: {}", notice.text));
            status = status.max(u8::from(notice.fails));
        }
    }
    Ok(status)
}

/// `--check`: adds the faults of the flags to `findings`.
fn check(args: &Args, run: &Rc<Run>, findings: &mut CheckReport) {
    let Some(mut stage) = findings.take(stage_args(args)) else { return };
    findings.take(repair(args));
    let options = findings.take(source(&stage, run));
    if args.dry_run {
        stage.output.to = vec!["-".into()];
    } else {
        findings.take(TargetPlan::new(&stage, run));
    }
    if (!args.dry_run || args.ledger.is_some())
        && let Some((ledger, location)) = findings.take(ledger_of(args, run))
    {
        // A dry run only reads the ledger.
        let checked = if args.dry_run { (ledger.open_to_read)(&location).map(drop) } else { (ledger.check)(&location) };
        if findings.take(checked).is_some() {
            findings.ready(location);
        }
    }
    args.schema.schemas.iter().for_each(|schemas| findings.schemas_of(schemas, &args.schema.subject));
    findings.stage(spec(&stage), options);
}

fn spec(stage: &StageArgs) -> StageSpec<'_> {
    StageSpec { formats: LINES, kind: Some(Kind::Event), continues: true, ..StageSpec::new(stage) }
}

/// Returns the flags of the stage that reads the letters. Errors: exit status 2 for flags that do not apply.
fn stage_args(args: &Args) -> Result<StageArgs> {
    let mut stage = args.stage.clone();
    stage.input.kind = Some(Kind::Dead.name().to_owned());
    let (format, _) = stage.input.text.options(stage.input.input_format.as_deref())?;
    if records(args)?.is_some() || format.is_some_and(|format| format.is_json) {
        // The flags determine how the records in the letters are read; the format of the letters is detected.
        (stage.input.input_format, stage.input.text) = (None, TextArgs::default());
    }
    Ok(stage)
}

/// Returns the format of the records in the letters, if the flags name one that letters cannot have: a format of raw
/// records, or CSV whose header is not the first line.
///
/// Errors: exit status 2 if letters that are not CSV are to be read as CSV.
fn records(args: &Args) -> Result<Option<RecordFormat>> {
    let input = &args.stage.input;
    let (format, options) = input.text.options(input.input_format.as_deref())?;
    let Some(Format { name, delimiter, input: InputForm::Text(make_splitter), is_json: false, .. }) = format else {
        return Ok(None);
    };
    if delimiter.is_some() && options.header == CsvHeader::FirstLine {
        let is_other = |letters: &&OsString| {
            format::by_extension(&letters.to_string_lossy()).is_some_and(|format| format.delimiter.is_none())
        };
        return match input.inputs.iter().find(is_other) {
            Some(letters) => Err(Error::usage(format!(
                "{}: expected --header NAMES, because records of {name} in dead letters have no header; copy the first \
                 line of the input",
                letters.to_string_lossy()
            ))),
            None => Ok(None),
        };
    }
    Ok(Some(RecordFormat { make_splitter: *make_splitter, options }))
}

fn source(stage: &StageArgs, run: &Run) -> Result<SourceOptions> {
    // The letters are rows already: the mapping applies to the records in them.
    let mut options = stage.source(evt_core::mapping::Options::default(), run)?;
    options.records.expected = options.records.named.take();
    options.needs.first_rows = true;
    options.inputs.topics.read_mode = ReadMode::Bounded;
    options.inputs.names = PartitionNames::default();
    Ok(options)
}

fn repair(args: &Args) -> Result<Repair> {
    let patch = args.patch.as_deref().map(Patch::parse).transpose()?;
    Repair::new(records(args)?, patch, args.stage.map.options(Provenance::Keep)?)
}

fn ledger_of(args: &Args, run: &Run) -> Result<(LedgerStore, Location)> {
    let Some(text) = &args.ledger else {
        return Err(Error::usage("expected --ledger URI, which records the replayed letters, or --dry-run"));
    };
    match Uri::of_output(text, &run.caller())? {
        Uri::Store(store, location) => Ok((evt_store::ledger(store, &location)?, location)),
        other => Err(Error::usage(format!("{other}: expected a ledger in sqlite:PATH or postgres://HOST/DATABASE"))),
    }
}
