//! `--dead`: repairs dead letters, validates them again and replays them.

use super::letters::Replay;
use super::setup::BothArgs;
use super::target::TargetPlan;
use crate::cli::args::{StageArgs, TextArgs};
use crate::cli::check::CheckReport;
use crate::cli::open::open;
use crate::cli::resolve::{LINES, StageSpec, resolve};
use crate::source::{PartitionNames, SourceOptions};
use crate::stage::{OperatorSetup, SourceInfo};
use crate::uri::Uri;
use evt_core::error::{Error, Result};
use evt_core::format::{self, CsvHeader, Format, InputForm};
use evt_core::frame::EndReason;
use evt_core::kind::Kind;
use evt_core::mapping::Provenance;
use evt_core::replay::patch::Patch;
use evt_core::replay::repair::{RecordFormat, Repair};
use evt_kafka::range::ReadMode;
use evt_run::client::Location;
use evt_run::run::Run;
use evt_store::LedgerStore;
use std::cell::RefCell;
use std::ffi::OsString;
use std::rc::Rc;

/// Flags of the replay of dead letters.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Replay")]
pub(super) struct ReplayArgs {
    /// Replay the dead letters of URI instead of correcting windows; -f, --header and --time-year are those of their
    /// records
    #[arg(long, value_name = "URI")]
    pub dead: Option<OsString>,
    /// Repair each record by assignments: set NAME = EXPRESSION, ... (evt-metrics(5))
    #[arg(long, value_name = "TEXT", requires = "dead")]
    pub patch: Option<String>,
    /// Keep what was replayed in this database, so that no letter is replayed twice (sqlite: or postgres:)
    #[arg(long, value_name = "URI", requires = "dead")]
    pub ledger: Option<OsString>,
}

/// Replays the letters; returns the exit status.
pub(super) fn run(args: ReplayArgs, both: BothArgs, run: &Rc<Run>) -> Result<u8> {
    let stage = stage_args(&args, &both)?;
    // Without a target: `--dry-run` shows what it would do on standard output.
    let (plan, ledger) = match both.dry_run {
        true if args.ledger.is_none() => (None, None),
        true => {
            let (ledger, location) = ledger_of(&args, run)?;
            (None, (ledger.open_to_read)(&location)?)
        }
        false => {
            resolve(spec(&stage), false, run).sound()?;
            let plan = TargetPlan::new(&stage, run)?;
            let (ledger, location) = ledger_of(&args, run)?;
            (Some(plan), Some((ledger.open)(&location)?))
        }
    };
    let (repair, options) = (repair(&args, &both)?, source(&stage, run)?);
    let schemas = both.schema.open(run)?;
    let (target, ledger) = match (plan, ledger) {
        (Some(plan), Some(mut ledger)) => {
            let shown = stage.output.to[0].to_string_lossy().into_owned();
            (Some(plan.open(&shown, ledger.as_mut(), run)?), Some(ledger))
        }
        (_, ledger) => (None, ledger),
    };
    let replay = Replay::new(repair, schemas, &both, run.clone()).with(target, ledger);
    let replay = Rc::new(RefCell::new(replay));
    let shared = replay.clone();
    let start = move |info: SourceInfo<'_>| {
        info.expect(Kind::Dead, "--dead: expected dead letters")?;
        Ok(OperatorSetup::new(shared, Replay::report_schema()))
    };
    let mut stage = stage;
    stage.output.to = if both.dry_run { vec!["-".into()] } else { vec![] };
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
pub(super) fn check(args: ReplayArgs, both: BothArgs, run: &Rc<Run>, findings: &mut CheckReport) {
    let Some(mut stage) = findings.take(stage_args(&args, &both)) else { return };
    findings.take(repair(&args, &both));
    let options = findings.take(source(&stage, run));
    if both.dry_run {
        stage.output.to = vec!["-".into()];
    } else {
        findings.take(TargetPlan::new(&stage, run));
    }
    if (!both.dry_run || args.ledger.is_some())
        && let Some((ledger, location)) = findings.take(ledger_of(&args, run))
    {
        // A dry run only reads the ledger.
        let checked = if both.dry_run { (ledger.open_to_read)(&location).map(drop) } else { (ledger.check)(&location) };
        if findings.take(checked).is_some() {
            findings.ready(location);
        }
    }
    both.schema.schemas.iter().for_each(|schemas| findings.schemas(schemas));
    findings.stage(spec(&stage), options.as_ref());
}

fn spec(stage: &StageArgs) -> StageSpec<'_> {
    StageSpec { formats: LINES, kind: Some(Kind::Event), ..StageSpec::new(stage) }
}

/// Returns the flags of the stage that reads the letters. Errors: exit status 2 for flags that do not apply.
fn stage_args(args: &ReplayArgs, both: &BothArgs) -> Result<StageArgs> {
    let mut stage = both.stage.clone();
    if stage.input.inputs != ["-"] {
        return Err(Error::usage("--dead names the input; remove the other inputs"));
    }
    if both.schema.dedup.is_some() {
        return Err(Error::usage("--dedup does not apply to --dead; the ledger prevents a second replay"));
    }
    stage.input.inputs = args.dead.iter().cloned().collect();
    stage.input.kind = Some(Kind::Dead.name().to_owned());
    let (format, _) = stage.input.text.options(stage.input.input_format.as_deref())?;
    if records(args, both)?.is_some() || format.is_some_and(|format| format.is_json) {
        // The flags determine how the records in the letters are read; the format of the letters is detected.
        (stage.input.input_format, stage.input.text) = (None, TextArgs::default());
    }
    Ok(stage)
}

/// Returns the format of the records in the letters, if the flags name one that letters cannot have: a format of raw
/// records, or CSV whose header is not the first line.
///
/// Errors: exit status 2 if letters that are not CSV are to be read as CSV.
fn records(args: &ReplayArgs, both: &BothArgs) -> Result<Option<RecordFormat>> {
    let input = &both.stage.input;
    let (format, options) = input.text.options(input.input_format.as_deref())?;
    let Some(Format { name, delimiter, input: InputForm::Text(make_splitter), is_json: false, .. }) = format else {
        return Ok(None);
    };
    if delimiter.is_some() && options.header == CsvHeader::FirstLine {
        let letters = args.dead.as_ref().map(|dead| dead.to_string_lossy()).unwrap_or_default();
        let other = format::by_extension(&letters).filter(|format| format.delimiter.is_none());
        return match other {
            Some(_) => Err(Error::usage(format!(
                "{letters}: expected --header NAMES, because records of {name} in dead letters have no header; copy the first line of \
                 the input"
            ))),
            None => Ok(None),
        };
    }
    Ok(Some(RecordFormat { make_splitter: *make_splitter, options }))
}

fn source(stage: &StageArgs, run: &Run) -> Result<SourceOptions> {
    // The letters are rows already: the mapping applies to the records in them.
    let mut options = stage.source(evt_core::mapping::Options::default(), run)?;
    options.records.expected = options.records.kind;
    options.needs.first_rows = true;
    options.inputs.topics.read_mode = ReadMode::Bounded;
    options.inputs.names = PartitionNames::default();
    Ok(options)
}

fn repair(args: &ReplayArgs, both: &BothArgs) -> Result<Repair> {
    let patch = args.patch.as_deref().map(Patch::parse).transpose()?;
    Repair::new(records(args, both)?, patch, both.stage.map.options(Provenance::Keep)?)
}

fn ledger_of(args: &ReplayArgs, run: &Run) -> Result<(LedgerStore, Location)> {
    let Some(text) = &args.ledger else {
        return Err(Error::usage("--dead requires --ledger URI, which records the replayed letters, or --dry-run"));
    };
    match Uri::of_output(text, &run.caller())? {
        Uri::Store(store, location) => Ok((evt_store::ledger(store, &location)?, location)),
        other => Err(Error::usage(format!("{other}: expected a ledger in sqlite:PATH or postgres://HOST/DATABASE"))),
    }
}
