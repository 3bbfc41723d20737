//! Opens a stage: its source, its dead letters and the plan of its outputs.

use super::args::StageArgs;
use super::look::{Looked, Usual, alone, brings_headers, check_ends, commit_mode, look, promise};
use crate::counts::Counts;
use crate::error::Result;
use crate::format::Format;
use crate::kind::Kind;
use crate::mapping::KeepRaw;
use crate::metrics;
use crate::output::Checked;
use crate::output::dead_letters::{DeadLetters, Opening};
use crate::run::Run;
use crate::source::{Source, SourceOptions};
use crate::stage::operator::Pass;
use crate::stage::outputs::Outputs;
use crate::stage::{Learned, Stage, StageOptions, Start, Started, stamped};
use std::rc::Rc;
use std::time::Duration;

/// A stage without its operator.
pub struct OpenedStage {
    run: Rc<Run>,
    options: StageOptions,
    source: Source,
    dead: DeadLetters,
    checked: Vec<Checked>,
}

/// Checks all outputs, then opens the dead letters and the source. So failures that need no input come before any wait for
/// input, and a first record that is refused leaves no output behind.
pub fn open(args: &StageArgs, options: SourceOptions, usual: Usual, run: &Rc<Run>) -> Result<OpenedStage> {
    open_beside(None, args, options, usual, run)
}

/// Opens a stage for a tool with one more output, which it opens itself.
pub fn open_beside(
    side: Option<&Checked>,
    args: &StageArgs,
    mut options: SourceOptions,
    usual: Usual,
    run: &Rc<Run>,
) -> Result<OpenedStage> {
    let looked = look(side, args, options.follow, usual, run).sound()?;
    check_ends(&options, &looked.inputs, looked.checked.iter().chain(&looked.dlq).chain(side))?;
    show(run, &looked.checked, looked.dlq.as_ref());
    // A spool stores requests while the servers behind it are unavailable, so it accepts them before the servers
    // are asked.
    let is_kept = options.keeping.spool.is_some();
    let Looked { inputs, checked, dlq, .. } = if is_kept { looked.without_limit() } else { looked.ask(run)? };
    keep_raw(&mut options, &checked, dlq.is_some());
    options.mapping.headers = options.headers && brings_headers(&inputs, &checked, options.filter.is_some());
    options.commit_mode = commit_mode(checked.iter().chain(&dlq));
    options.promise = promise(&options, &inputs, checked.iter().chain(&dlq))?;
    let holds_letters = options.holds_letters;
    if let Some(server) = &mut options.http {
        let limits: Option<Vec<_>> = checked.iter().map(Checked::row_limit).collect();
        server.edge.limits = limits.unwrap_or_default();
    }
    let opening = dlq.map(|dlq| -> Opening {
        let run = run.clone();
        Box::new(move || dlq.open(&stamped(&Kind::Dead.schema(), &run), &run).map_err(alone))
    });
    let mut dead = DeadLetters::new(run.clone(), opening);
    let mut source = Source::open(&inputs, options, run.clone())?;
    if is_kept {
        dead.open().inspect_err(|_| source.report_lost())?;
    }
    if holds_letters {
        dead.hold();
    }
    let common = &args.common;
    let options =
        StageOptions { quiet: common.quiet, strict: common.strict, stats: common.stats.clone(), needs_rows: false };
    Ok(OpenedStage { run: run.clone(), options, source, dead, checked })
}

/// Keeps raw records beside the rows if an output writes them, or if dead letters of rows have to show them.
fn keep_raw(options: &mut SourceOptions, checked: &[Checked], has_dlq: bool) {
    let mapping = &mut options.mapping;
    if checked.iter().any(Checked::asks_raw) && mapping.keep_raw == KeepRaw::No {
        let alone = checked.iter().all(Checked::asks_raw);
        mapping.keep_raw = if alone { KeepRaw::Within } else { KeepRaw::Column };
        mapping.lean = mapping.lean.or(options.raw_lean.filter(|_| alone));
    }
    if options.shows_records && has_dlq && mapping.keep_raw == KeepRaw::No {
        mapping.keep_raw = KeepRaw::Within;
    }
}

impl OpenedStage {
    /// Makes the operator wait for the first rows, even if the schema is known before.
    pub fn with_first_rows(mut self) -> Self {
        self.options.needs_rows = true;
        self
    }

    /// Whether only the raw record of a row is written.
    pub fn writes_raw_alone(&self) -> bool {
        self.checked.iter().all(Checked::asks_raw)
    }

    /// Returns the format of each output that has one.
    pub fn formats(&self) -> Vec<&'static Format> {
        self.checked.iter().filter_map(Checked::format).collect()
    }

    /// Returns the stage; `start` makes its operator when the rows are known.
    pub fn stage(self, start: Start) -> Stage {
        let Self { run, options, source, dead, checked } = self;
        let outputs = Outputs::new(run.clone(), checked, dead, source.schema(), options.quiet);
        Stage::new(run, options, source, outputs, start)
    }
}

/// Starts a stage that passes its rows on unchanged.
pub fn pass(learned: Learned<'_>) -> Result<Started> {
    Ok(Started { operator: Box::new(Pass), schema: learned.source.schema(), side: None, is_report: false })
}

/// Sets the metrics of a stage to 0 before it waits for any server.
fn show(run: &Run, checked: &[Checked], dlq: Option<&Checked>) {
    let metrics = &run.metrics;
    for (outcome, _) in Counts::default().outcomes() {
        metrics.set(&metrics::EVENTS, &[run.console.tool(), outcome], 0.0);
    }
    ["input", "output"].iter().for_each(|side| metrics.blocked(side, Duration::ZERO));
    checked.iter().for_each(|output| output.show(metrics));
    dlq.into_iter().for_each(|output| output.show_server(metrics));
}
