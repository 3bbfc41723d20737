//! evt-window: events in, metrics of event-time windows out.
//!
//! ```text
//! Args ─► Spec (evt_core::op::window) ─► Windows ─┬─► Window (evt_core::op::window): state and watermark
//!                                              ├─► Results: `--top`, `--wide` ─► rows
//!                                              └─► Late: `--late` ─► rows
//! ```
//!
//! - `operator.rs`: the operator.
//! - `results.rs`: its results; `progress.rs`: how far they are; `top.rs`: those of `--top`; `wide.rs`: those of
//!   `--wide`.
//! - `late_output.rs`: its late rows; `stall.rs`: partitions that hold its watermark back.

mod late_output;
mod operator;
mod progress;
mod results;
mod stall;
mod top;
mod wide;

use self::late_output::{Late, LateAdvice};
use self::operator::{AtEnd, Windows};
use self::progress::{LeftOut, StatedProgress};
use self::results::Results;
use self::stall::StallMonitor;
use self::top::Top;
use self::wide::Wide;
use crate::cli::args::{BranchArgs, CheckpointArgs, StageArgs, TimeRangeArgs};
use crate::cli::check::CheckReport;
use crate::cli::open::open;
use crate::cli::resolve::{DefaultFormats, StageSpec, output_plans};
use crate::cli::values::parse_positive;
use crate::cli::{Tool, Unit};
use crate::output::OutputPlan;
use crate::source::SourceOptions;
use crate::stage::{OperatorSetup, SourceInfo, Stage};
use crate::tool::metrics::MetricArgs;
use crate::uri::Uri;
use clap::{Parser, ValueEnum};
use evt_core::error::{Error, Result};
use evt_core::format::{csv, table};
use evt_core::frame::RANGED_KEY;
use evt_core::kind::event::{column, has_raw};
use evt_core::kind::{Kind, REFIRING_KEY, SESSIONS_KEY, schema_of_metrics, with_metrics};
use evt_core::mapping::{self, Projection, Provenance, RowCompleter};
use evt_core::op::untimed::UntimedFilter;
use evt_core::op::window::metric::{Emit, Shape};
use evt_core::op::window::spec::Spec;
use evt_core::op::window::watermark::OutOfOrderness;
use evt_core::op::window::{self, Window, check_saved, watermark};
use evt_core::parse::size::parse_memory;
use evt_core::time::parse_duration;
use evt_kafka::range::ReadMode;
use evt_run::checkpoint::header::CHECKPOINT_KEY;
use evt_run::checkpoint::state_files::memory_bound;
use evt_run::run::Run;
use evt_run::run::memory::default_memory;
use std::ffi::OsString;
use std::rc::Rc;

/// Aggregate events over event-time windows
#[derive(Parser, Debug)]
pub struct Args {
    #[command(flatten)]
    metrics: MetricArgs,
    #[command(flatten)]
    watermark: WatermarkArgs,
    #[command(flatten)]
    rows: RowArgs,
    /// Write late events to URI; without it they are counted and lost, and the exit status is 1
    #[arg(long, value_name = "URI", help_heading = "Output")]
    late: Option<OsString>,
    /// Write events that only some of their windows counted to --late, too
    #[arg(long, help_heading = "Output")]
    late_partial: bool,
    /// Allow reading a subset of the partitions of a topic (?partitions=); no key may have rows in two partitions
    #[arg(long, help_heading = "Input")]
    allow_partition_subset: bool,
    /// Keep about SIZE of state in memory, at least 8MiB, and the rest in files, of the checkpoint or in TMPDIR
    /// [default: 1GiB, at most half of the limit of the control group]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, help_heading = "State")]
    memory: Option<usize>,
    #[command(flatten)]
    checkpoint: CheckpointArgs,
    #[command(flatten)]
    branch: BranchArgs,
    #[command(flatten)]
    range: TimeRangeArgs,
    #[command(flatten)]
    stage: StageArgs,
}

/// The flags that limit the rows of results, and set their form.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
struct RowArgs {
    /// Write only the rows of the N keys of each window with the greatest values; implies --emit final
    #[arg(long, value_name = "N", value_parser = parse_positive::<u32>)]
    top: Option<u32>,
    /// Rank the keys by this metric [default: the first metric of those with the same dimensions and windows]
    #[arg(long, value_name = "METRIC", requires = "top")]
    of: Option<String>,
    /// Write the metrics of a window and key side by side in one row, in CSV unless -o or a name says otherwise;
    /// implies --emit final
    #[arg(long)]
    wide: bool,
}

impl RowArgs {
    fn first_keys(&self, spec: &Spec) -> Result<Option<Top>> {
        let Some(keys) = self.top else { return Ok(None) };
        Top::new(keys as usize, self.of.as_deref(), &spec.metrics).map(Some)
    }

    fn side_by_side(&self, spec: &Spec) -> Result<Option<Wide>> {
        self.wide.then(|| Wide::new(spec)).transpose()
    }

    /// Returns the flag that needs final rows, and why.
    fn needs_final(&self) -> Option<(&'static str, &'static str)> {
        match (self.top, self.wide) {
            (Some(_), _) => Some(("--top", "the first keys of a window are known only when the window is final")),
            (None, true) => Some(("--wide", "the metrics of a window are in one row when it is final")),
            (None, false) => None,
        }
    }
}

/// When windows fire.
#[derive(clap::Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Time")]
struct WatermarkArgs {
    /// Allow events this far behind the stream time of their partition; with all, windows fire only at the end
    /// [default: all if every input ends, else 30s]
    #[arg(long, value_name = "DURATION|all", value_parser = OutOfOrderness::parse)]
    out_of_orderness: Option<OutOfOrderness>,
    /// Emit a pane whenever a window fires, or one final row when its state is dropped [default: final if all outputs
    /// are CSV, TSV or tables, else panes]
    #[arg(long, value_name = "WHEN")]
    emit: Option<EmitArg>,
    /// Fire or hold open windows at the end [default: fire at the end of the input, hold after a signal and with
    /// --checkpoint]
    #[arg(long, value_name = "WHAT")]
    at_end: Option<AtEnd>,
    /// Exclude a partition from the watermark once it is idle this long; results then depend on timing
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    idle_after: Option<i64>,
    /// Accept partitions that appear after windows have closed, as with --checkpoint; their rows may be late, and
    /// results depend on timing
    #[arg(long, value_name = "HOW")]
    new_partitions: Option<NewPartitions>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EmitArg {
    Panes,
    Final,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NewPartitions {
    Late,
}

impl WatermarkArgs {
    /// Takes the out-of-orderness of a metrics file, unless the flag has one.
    fn take_key(&mut self, spec: &Spec) {
        self.out_of_orderness = self.out_of_orderness.or(spec.out_of_orderness);
    }

    /// Whether the flag says that windows wait for the end of the input.
    fn waits_for_end(&self) -> bool {
        matches!(self.out_of_orderness, Some(OutOfOrderness(None)))
    }

    /// Returns the out-of-orderness of a run (µs), `None` for all. `is_bounded`: all inputs end, and no run continues
    /// them; watermarks of the input, idle and new partitions, and windows that are held at the end need a bound
    /// nevertheless.
    fn bound(&self, is_bounded: bool, is_explicit: bool) -> Option<i64> {
        let is_live = self.idle_after.is_some() || self.new_partitions.is_some() || self.at_end == Some(AtEnd::Hold);
        let ends = is_bounded && !is_explicit && !is_live;
        let default = if ends { None } else { Some(watermark::LIVE) };
        self.out_of_orderness.map_or(default, |flag| flag.0)
    }
}

impl Args {
    /// Returns when rows are emitted; `None` if that depends on the outputs. Errors: exit status 2 if another flag
    /// needs final rows.
    fn emit(&self) -> Result<Option<Emit>> {
        match (self.watermark.emit, self.rows.needs_final()) {
            (Some(EmitArg::Panes), Some((flag, why))) => {
                Err(Error::usage(format!("{flag} cannot be used with --emit panes, because {why}")))
            }
            (Some(EmitArg::Final), _) | (None, Some(_)) => Ok(Some(Emit::Final)),
            (Some(EmitArg::Panes), None) => Ok(Some(Emit::Panes)),
            (None, None) => Ok(None),
        }
    }

    /// Returns when rows are emitted to these outputs: people read a table of results, and other readers keep the last
    /// row of a window.
    fn emit_to(&self, outputs: &[OutputPlan]) -> Result<Emit> {
        let is_for_people = |output: &OutputPlan| output.format().is_some_and(|format| format.is_for_people);
        let default = if outputs.iter().all(is_for_people) { Emit::Final } else { Emit::Panes };
        Ok(self.emit()?.unwrap_or(default))
    }

    /// Checks the flags, the inputs and the outputs; a run ends with the first fault, and `--check` reports all.
    fn checks(&self, run: &Run) -> [Result<()>; 3] {
        [self.check_whole(run), self.emit().map(drop), self.check_wide_outputs(run)]
    }

    /// Checks that the flags and the inputs fit the metrics.
    fn checks_of_metrics(&self, spec: &Spec, run: &Run) -> [Result<()>; 3] {
        [self.check_end(spec, run), self.rows.first_keys(spec).map(drop), self.rows.side_by_side(spec).map(drop)]
    }

    /// Refuses outputs that expect rows of kind metric where `--wide` makes other ones.
    fn check_wide_outputs(&self, run: &Run) -> Result<()> {
        if !self.rows.wide {
            return Ok(());
        }
        // The stage reports outputs that cannot be written.
        let outputs = output_plans(&self.stage, self.stage_spec().formats, run).unwrap_or_default();
        match outputs.iter().find(|output| !output.takes_any_columns()) {
            None => Ok(()),
            Some(output) => {
                let name = &output.name;
                Err(Error::usage(format!(
                    "{name}: --wide: expected a file or stdout in csv, tsv, table, jsonl, parquet or arrow"
                )))
            }
        }
    }

    /// Refuses a part of a topic without `--allow-partition-subset`: two runs over parts would overwrite each other's
    /// rows of the same key.
    fn check_whole(&self, run: &Run) -> Result<()> {
        let inputs = self.stage.input.uris(run)?;
        let part = |uri: &Uri| matches!(uri, Uri::Kafka(address) if address.options.partitions.is_some());
        match inputs.iter().find(|uri| part(uri)).filter(|_| !self.allow_partition_subset) {
            None => Ok(()),
            Some(uri) => Err(Error::usage(format!(
                "{uri}: with partitions= each window has only a part of its rows, and a run over the other \
                 partitions would replace its results; if no key has rows in both, use --allow-partition-subset"
            ))),
        }
    }

    /// Returns an input that never ends.
    fn endless_topic(&self, run: &Run) -> Result<Option<Uri>> {
        let endless = |uri: &Uri| matches!(uri, Uri::Kafka(address) if address.options.end.is_none());
        Ok(self.stage.input.uris(run)?.into_iter().find(endless))
    }

    /// Returns what the results leave out; `is_bounded`: all inputs end.
    fn left_out(&self, source: &crate::source::Source, run: &Run) -> Result<LeftOut> {
        let inputs = self.stage.input.uris(run)?;
        let reads_files =
            inputs.iter().all(|uri| matches!(uri, Uri::File(_) | Uri::Bucket(_)) && !uri.is_pipe(&run.io));
        let TimeRangeArgs { since, until, last } = &self.range;
        let has_range = since.is_some() || until.is_some() || last.is_some();
        let is_ranged = has_range || source.schema().metadata().contains_key(RANGED_KEY);
        Ok(LeftOut { earlier: !source.is_bounded() && !reads_files, some: is_ranged || self.rows.top.is_some() })
    }

    /// Checks that the input has an end if windows wait for it, and that nothing else makes a watermark if all of them
    /// do.
    fn check_end(&self, spec: &Spec, run: &Run) -> Result<()> {
        let has_total = spec.metrics.iter().any(|metric| metric.shape == Shape::ALL);
        let why = match self.watermark.waits_for_end() {
            true => "--out-of-orderness all waits for the end of the input",
            false if has_total => "a window over all time (size all) waits for the end of the input",
            false => return Ok(()),
        };
        if let Some(topic) = self.endless_topic(run)? {
            return Err(Error::usage(format!("{why}; set end= for {topic}: latest, an instant or offsets")));
        }
        if !self.watermark.waits_for_end() {
            return Ok(());
        }
        if self.checkpoint.checkpoint.is_some() {
            return Err(all_with_checkpoint("--checkpoint"));
        }
        if self.watermark.idle_after.is_some() {
            return Err(Error::usage(format!("{why}; it cannot be used with --idle-after")));
        }
        if self.stage.input.control {
            return Err(Error::usage(format!("{why}; it cannot be used with --control")));
        }
        let waits = self.stage.input.uris(run)?.iter().any(|uri| matches!(uri, Uri::Standard))
            && !run.io.stdin_metadata().is_some_and(|found| found.is_file());
        if waits && !self.stage.common.quiet && !self.stage.common.check {
            run.console.say(format!("{why}; no window fires before"));
        }
        Ok(())
    }
}

/// Makes the error for windows that wait for an end which a run with a checkpoint does not have: the next run
/// continues.
fn all_with_checkpoint(which: &str) -> Error {
    Error::usage(format!(
        "--out-of-orderness all cannot be used with {which}: it waits for the end of the input, but with a checkpoint the next \
         run continues the input"
    ))
}

impl Tool for Args {
    const NAME: &'static str = "evt-window";
    const USUAL_FLAGS: &'static [&'static str] = &[
        "metrics",
        "agg",
        "by",
        "where",
        "size",
        "slide",
        "gap",
        "lateness",
        "out-of-orderness",
        "emit",
        "top",
        "wide",
        "late",
        "to",
        "output-format",
        "input-format",
        "checkpoint",
        "time",
        "quiet",
    ];
    const NEGATIVE: &'static str = "The verdict is negative: events were late without --late (with --strict: any event was late), \
        records were rejected without --dlq, open windows were held without --checkpoint, an output kept a \
        row of the same revision from another run, or the input had a negative verdict.";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "Count events per minute by type.",
            "evt-ingest events.jsonl | evt-window --size 1m --by event_type | evt-view",
        ),
        (
            "Count requests per hour and class of status: 2, 3, 4, 5.",
            "evt-ingest access.log.gz -f clf | evt-window --size 1h --by class='floor(status / 100)' | evt-view",
        ),
        (
            "Write the ten paths with the most bytes of the whole file, and their requests.",
            "evt-ingest access.log.gz -f clf | evt-window --size all --by path --agg 'sum(bytes)' --agg 'count(*)' --top 10 | evt-view",
        ),
        (
            "Write requests and their bytes per status side by side, as CSV.",
            "evt-ingest access.log.gz -f clf | evt-window --size 1h --by status --agg 'n=count(*)' --agg 'sum(bytes)' --wide > requests.csv",
        ),
        (
            "Compute the 99th percentile of a property over five minutes, every thirty seconds.",
            "evt-ingest events.jsonl | evt-window --size 5m --slide 30s --agg 'p99=approx_percentile(latency_ms, 0.99)' -o csv",
        ),
        (
            "Compute the metrics of a file; keep late events.",
            "evt-ingest events.jsonl | evt-window -m metrics.toml --late late.jsonl -o jsonl",
        ),
        (
            "Continue with the open windows of the previous run, as a job of cron does.",
            "evt-window --checkpoint state/ -m metrics.toml events.jsonl --late late.jsonl --to sqlite:m.db",
        ),
        ("Check and explain a metrics file.", "evt-window -m metrics.toml --check"),
    ];

    const UNIT: Option<Unit> = Some(Unit {
        after: "evt-validate.service",
        args: "'kafka://localhost:9092/valid?format=frames&group=evt-window' --to 'kafka://localhost:9092/metrics?format=frames'",
        settings: "",
        calendar: None,
    });

    fn waits_at_terminal(&self) -> bool {
        self.stage.waits_at_terminal()
    }

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        self.stage(run)?.run()
    }

    /// Also explains the metrics.
    fn check(mut self, run: &Rc<Run>, findings: &mut CheckReport) {
        if let Some(spec) = findings.take(self.metrics.spec(&run.caller())) {
            self.watermark.take_key(&spec);
            findings.take(run.io.print(&spec.explain()));
            self.checks_of_metrics(&spec, run).into_iter().for_each(|found| _ = findings.take(found));
        }
        self.checks(run).into_iter().for_each(|found| _ = findings.take(found));
        // The stage reports outputs that cannot be written.
        let plans = output_plans(&self.stage, self.stage_spec().formats, run).and_then(|plans| self.emit_to(&plans));
        if let Ok(emit) = plans {
            let bounds = [false, true].map(|explicit| self.watermark.bound(false, explicit));
            findings.state(move |state| check_saved(state, emit, |explicit| bounds[usize::from(explicit)]));
        }
        let mapping = self.stage.map.options(Provenance::Keep);
        let options = findings.take(mapping.and_then(|mapping| self.source(mapping, run)));
        findings.stage(self.stage_spec(), options);
    }
}

impl Args {
    /// Opens the stage.
    pub fn stage(mut self, run: &Rc<Run>) -> Result<Stage> {
        let spec = self.metrics.spec(&run.caller())?;
        self.watermark.take_key(&spec);
        let mut mapping = self.stage.map.options(Provenance::Keep)?;
        mapping.reads.properties = spec.leaves.properties();
        mapping.window_zone = spec.zone();
        let texts = spec.leaves.texts();
        mapping.reads.dictionaries = texts.properties;
        // Late rows show more of an event than the metrics read: their records are mapped again. For a record of a
        // topic that would take its timestamp, too.
        let reads_topics = self.stage.input.uris(run)?.iter().any(|uri| matches!(uri, Uri::Kafka(_)));
        mapping.reads.completes_rows = self.late.is_some() && !reads_topics;
        // A dead letter shows the raw record and, as the time of its arrival, `server_timestamp`.
        let of_letters = if self.stage.output.dlq.is_some() { 1 << column::SERVER_TIMESTAMP } else { 0 };
        let columns = Projection { columns: spec.leaves.columns() | of_letters, dictionaries: texts.columns };
        mapping.reads.columns = (self.late.is_none() || mapping.reads.completes_rows).then_some(columns);
        let completer = mapping.reads.completes_rows.then(|| RowCompleter::new(&mapping)).transpose()?;
        self.checks(run).into_iter().collect::<Result<()>>()?;
        self.checks_of_metrics(&spec, run).into_iter().collect::<Result<()>>()?;
        if let Some(line) = spec.thursdays().filter(|_| !self.stage.common.quiet) {
            run.console.say(line);
        }
        let (args, of_start) = (Rc::new(self), run.clone());
        let of_args = args.clone();
        let start = move |info: SourceInfo<'_>| of_args.start(info, spec, completer, &of_start);
        open(args.stage_spec(), args.source(mapping, run)?, run, Box::new(start))
    }

    fn stage_spec(&self) -> StageSpec<'_> {
        let new = StageSpec::new(&self.stage);
        let pipe = if self.rows.wide { &csv::CSV } else { new.formats.pipe };
        // Of several panes of a window, the last one has the greatest number.
        let brief = self.watermark.emit != Some(EmitArg::Panes);
        let formats = DefaultFormats { pipe, terminal: &table::FORMAT, brief, ..new.formats };
        let (range, checkpoint) = (Some(&self.range), Some(&self.checkpoint));
        let branch = self.branch.branch.as_deref();
        let (kind, side_kind) = (Some(Kind::Metric), Some(Kind::Late));
        let new = StageSpec { kind, side_kind, needs_events: true, ..new };
        StageSpec { formats, side: self.late.as_deref(), checkpoint, range, branch, ..new }
    }

    fn source(&self, mapping: mapping::Options, run: &Run) -> Result<SourceOptions> {
        let mut options = self.stage.source(mapping, run)?;
        options.records.untimed = UntimedFilter::rules(&[], self.metrics.filter());
        // A row that a metric cannot read becomes a dead letter with its record.
        options.needs.shows_records = true;
        options.inputs.topics.read_mode = ReadMode::Stateful;
        options.inputs.topics.finds_silence = self.watermark.idle_after.is_some();
        options.inputs.topics.stays_live = self.watermark.at_end == Some(AtEnd::Hold);
        options.inputs.continuation.is_last = self.watermark.at_end == Some(AtEnd::Fire);
        Ok(options)
    }

    /// Makes the operator once the rows are known.
    fn start(
        &self,
        info: SourceInfo<'_>,
        spec: Spec,
        completer: Option<RowCompleter>,
        run: &Run,
    ) -> Result<OperatorSetup> {
        info.expect(Kind::Event, "expected events")?;
        let SourceInfo { source, outputs, .. } = info;
        source.set_named(spec.leaves.columns());
        let side = Some(Kind::Late.schema_with(has_raw(&source.schema())));
        let WatermarkArgs { at_end, idle_after, new_partitions, .. } = self.watermark;
        let explicit = source.is_explicit();
        if explicit && self.watermark.waits_for_end() {
            return Err(Error::usage("--out-of-orderness all cannot be used with an input that has watermarks"));
        }
        let is_piped = source.schema().metadata().contains_key(CHECKPOINT_KEY);
        if is_piped && self.watermark.waits_for_end() {
            return Err(all_with_checkpoint("the --checkpoint of the pipe"));
        }
        let is_checkpointed = self.checkpoint.checkpoint.is_some() || is_piped;
        // A run that continues a checkpoint takes partitions that were added before it, so every run takes those that
        // are added during it: where a run is stopped then decides nothing.
        let new = new_partitions.is_some() || is_checkpointed;
        let is_finite = source.is_bounded() && !is_checkpointed;
        let out_of_orderness = self.watermark.bound(is_finite, explicit);
        let watermark = watermark::Options { out_of_orderness, explicit, new_partitions: new };
        // Why a row is late although its own bound would have kept it.
        let why = match idle_after.is_some() || new_partitions.is_some() {
            true => "because a partition was idle or new",
            false if is_checkpointed => "because an earlier input had closed their windows",
            false => "because the stream time of their partition went back",
        };
        let is_live = idle_after.is_some() || new_partitions.is_some();
        let can_wait = !is_checkpointed && !is_live && self.endless_topic(run)?.is_none();
        let wide = self.rows.side_by_side(&spec)?;
        let emit = self.emit_to(outputs)?;
        // If all windows wait for the end, none fires twice.
        let refires = emit == Emit::Panes && out_of_orderness.is_some();
        let refiring = if refires { spec.with_lateness() } else { vec![] };
        let metrics = || {
            let metrics = with_metrics(&schema_of_metrics(&spec.dimensions()), SESSIONS_KEY, &spec.sessions());
            with_metrics(&metrics, REFIRING_KEY, &refiring)
        };
        let schema = wide.as_ref().map_or_else(metrics, Wide::schema);
        let results = Results::new(self.rows.first_keys(&spec)?, wide, &spec.metrics);
        let progress = StatedProgress::new(&spec.metrics, watermark, self.left_out(source, run)?);
        let memory = Some(memory_bound(self.memory.unwrap_or_else(default_memory), run.io.disk()));
        let (Spec { leaves, metrics, .. }, parallelism) = (spec, run.pool.parallelism());
        let mut window = Window::new(window::Options { leaves, metrics, watermark, emit, memory, parallelism });
        // Who waits for the end of the inputs does not miss what waits for sessions in files.
        if is_finite {
            window.keep_order();
        }
        let operator = Windows {
            window,
            stall: StallMonitor::new(idle_after, run.clock.monotonic()),
            late: Late::new(self.late_partial, LateAdvice { why, is_explicit: explicit, can_wait }, completer),
            results,
            progress,
            seen: 0,
            at_end,
            bound: OutOfOrderness(out_of_orderness),
            is_checkpointed,
            strict: self.stage.records.strict,
            quiet: self.stage.common.quiet,
            has_told_stop: false,
        };
        Ok(OperatorSetup { side, ..OperatorSetup::new(operator, schema) })
    }
}
