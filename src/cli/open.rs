//! Opens a stage: its source, its dead letters and the plan of its outputs.

use super::args::{CheckpointArgs, CommonArgs};
use super::exactly_once;
use super::resolve::{Resolved, StageSpec, resolve};
use crate::output::OutputPlan;
use crate::output::dead_letters::DeadLetters;
use crate::source::SourceOptions;
use crate::source::positions::Positions;
use crate::stage::epochs::Epochs;
use crate::stage::operator::Pass;
use crate::stage::outputs::Outputs;
use crate::stage::{OperatorSetup, SourceInfo, Stage, StageOptions, StartAt, StartOperator};
use evt_core::counts::Counts;
use evt_core::error::Result;
use evt_core::kind::span::Span;
use evt_core::mapping::KeepRaw;
use evt_kafka::group::CommitMode;
use evt_kafka::produce::shared::SharedProducer;
use evt_kafka::range::ReadMode;
use evt_run::metrics;
use evt_run::run::Run;
use evt_run::spool;
use std::rc::Rc;
use std::time::Duration;

/// Checks all outputs, then opens the dead letters and the source; `start` makes the operator when the rows are known.
/// So a fault that needs no input ends the run before it waits for input, and a run that rejects its first record
/// creates no output.
pub fn open(spec: StageSpec<'_>, mut options: SourceOptions, run: &Rc<Run>, start: StartOperator) -> Result<Stage> {
    let resolved = resolve(spec, options.inputs.files.follow, run).sound()?;
    resolved.check_ends(&options.inputs)?;
    let checkpoint = spec.checkpoint.and_then(CheckpointArgs::options);
    let resolved = exactly_once::in_transactions(resolved, &options, spec.checkpoint)?;
    init_metrics(run, &resolved);
    // A spool stores requests while the servers behind it are unavailable, so it accepts them before the run has
    // checked the servers.
    let is_kept = options.inputs.listener.ack_flags.spool.is_some();
    let resolved = if is_kept { resolved.without_limit() } else { resolved.check_servers(run)? };
    let listener = &mut options.inputs.listener;
    listener.ack_policy = resolved.ack_policy(listener, checkpoint.is_some())?;
    spool::wait_until_free(listener.ack_policy.as_ref().filter(|_| checkpoint.is_some()), run)?;
    let epochs = match checkpoint {
        Some(checkpoint) => {
            let every = checkpoint.every;
            let checkpoint = resolved.begin_run(checkpoint, run)?;
            let positions = checkpoint.restored.as_ref().map_or(&[][..], |restored| &restored.positions);
            options.positions = Some(Positions::restore(positions)?.with_begun(checkpoint.begun_inputs())?);
            options.inputs.topics.read_mode = ReadMode::Checkpoint;
            options.inputs.continuation.is_continued = true;
            Some(Epochs::begun(checkpoint, every, run.clone()))
        }
        None => None,
    };
    // A stage with several inputs cannot join: the rows of the other inputs would be in no epoch.
    options.inputs.continuation.joins = epochs.is_none() && resolved.inputs.len() <= 1 && !options.needs.whole_input;
    keep_raw(&mut options, &resolved);
    options.records.mapping.parts = resolved.record_parts(&options);
    // Makes the producer before the input: it ends the transaction of a killed run, and only then the committed offsets
    // are final.
    let producer = match exactly_once::addresses(&resolved) {
        Some((outputs, input)) => Some(Rc::new(SharedProducer::begin(&outputs, input, run)?)),
        None => None,
    };
    options.inputs.topics.commit_mode = match &producer {
        Some(producer) => CommitMode::Transactions(producer.clone()),
        None => resolved.commit_mode(),
    };
    let Resolved { inputs, plans, dlq, side, span, .. } = resolved;
    options.needs.writes_letters = dlq.is_some();
    if spec.range.is_some() {
        options.inputs.stores.request.span = span;
        options.range = span;
    }
    let stage = stage_options(spec, options.needs.first_rows, span);
    let ordered_letters = options.needs.ordered_letters;
    if let Some(server) = &mut options.inputs.listener.server {
        let limits: Option<Vec<_>> = plans.iter().map(OutputPlan::row_limit).collect();
        server.events.validation.limits = limits.unwrap_or_default();
    }
    let dead = DeadLetters::new(run.clone(), dlq);
    let mut source = crate::source::Source::open(&inputs, options, run.clone())?;
    let mut outputs = Outputs::new(run.clone(), plans, side, dead, stage.quiet);
    if let Some(producer) = &producer {
        outputs.in_transactions(producer);
    }
    if let Some(epochs) = &epochs {
        outputs.in_epochs(&epochs.checkpoint)?;
    }
    if is_kept {
        outputs.dead.open().inspect_err(|_| source.report_lost(None))?;
    }
    if ordered_letters {
        outputs.dead.hold();
    }
    Ok(Stage::new(run.clone(), stage, source, outputs, start).with_epochs(epochs))
}

fn stage_options(spec: StageSpec<'_>, needs_rows: bool, span: Span) -> StageOptions {
    let start_at = if needs_rows { StartAt::Rows } else { StartAt::Schema };
    let CommonArgs { quiet, ref stats, .. } = spec.args.common;
    let strict = spec.args.records.strict;
    let (stats, branch) = (stats.clone(), spec.branch.map(str::to_owned));
    StageOptions { quiet, strict, stats, start_at, span, branch, ..StageOptions::default() }
}

/// Keeps raw records beside the rows if an output writes them, or if dead letters of rows have to show them.
fn keep_raw(options: &mut SourceOptions, resolved: &Resolved) {
    let (mapping, plans) = (&mut options.records.mapping, &resolved.plans);
    if plans.iter().any(OutputPlan::needs_raw) && mapping.keep_raw == KeepRaw::No {
        let alone = plans.iter().all(OutputPlan::needs_raw);
        mapping.keep_raw = if alone { KeepRaw::Within } else { KeepRaw::Column };
        mapping.reads.columns = mapping.reads.columns.or(options.needs.raw_columns.filter(|_| alone));
    }
    let shows_records = options.needs.shows_records && resolved.dlq.is_some();
    if (shows_records || mapping.reads.completes_rows) && mapping.keep_raw == KeepRaw::No {
        mapping.keep_raw = KeepRaw::Within;
    }
}

/// Starts a stage that passes its rows on unchanged.
pub fn pass(info: SourceInfo<'_>) -> Result<OperatorSetup> {
    Ok(OperatorSetup::new(Pass, info.source.schema()))
}

/// Sets the metrics of a stage to 0 before it waits for any server.
fn init_metrics(run: &Run, resolved: &Resolved) {
    let metrics = &run.metrics;
    for (outcome, _) in Counts::default().outcomes() {
        metrics.set(&metrics::EVENTS, &[run.console.tool(), outcome], 0.0);
    }
    ["input", "output"].iter().for_each(|side| metrics.blocked(side, Duration::ZERO));
    resolved.plans.iter().for_each(|output| output.init_metrics(metrics));
    resolved.dlq.iter().for_each(|output| output.init_server(metrics));
}
