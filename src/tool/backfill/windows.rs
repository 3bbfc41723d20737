//! The correction of windows: computes the windows of a range again, compares them with the rows of a store, and writes
//! the differences.

use super::bounds::{KeptBounds, KnownBounds, LateRules};
use super::late_input::LateInput;
use super::operator::Correct;
use super::setup::{InputOrder, InputRows, KeptRows, Setup, StoreRows, TargetStore, Work};
use crate::cli::args::{StageArgs, instant_of};
use crate::cli::check::CheckReport;
use crate::cli::open::open;
use crate::cli::resolve::{StageSpec, TABLE};
use crate::cli::values::parse_positive;
use crate::source::{SortColumns, SourceOptions, StoreOptions, StoreOrder};
use crate::stage::{OperatorSetup, SourceInfo, Stage};
use crate::tool::metrics::{self, shown};
use crate::tool::pace::Pace;
use crate::tool::validation::{SchemaArgs, Validate, ValidationArgs};
use crate::uri::Uri;
use evt_core::backfill::{Changes, InputTimes, LateCell, LateCells, MetricScope, NameOrigin, Scope};
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use evt_core::kind::event::column;
use evt_core::kind::span::Span;
use evt_core::mapping::{Projection, Provenance};
use evt_core::op::dedup;
use evt_core::op::state_storage::MemoryBound;
use evt_core::op::window::metric::{Emit, Metric, Shape};
use evt_core::op::window::spec::{self, Spec};
use evt_core::op::window::watermark::{self, OutOfOrderness};
use evt_core::op::window::{self, Window};
use evt_core::parallel::Parallelism;
use evt_core::parse::size::parse_memory;
use evt_core::time::{LATEST, Zone, format_instant, parse_duration};
use evt_kafka::address::TopicFormat;
use evt_kafka::range::ReadMode;
use evt_run::checkpoint::state_files::memory_bound;
use evt_run::client::Caller;
use evt_run::metrics::ServerStatus;
use evt_run::run::Run;
use evt_run::run::memory::default_memory;
use evt_store::correct::{Claim, Corrections, shown_range};
use evt_store::{ReadRequest, StreamExtent};
use std::ffi::OsString;
use std::rc::Rc;
use xxhash_rust::xxh3::Xxh3;

/// Flags of the correction of windows.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Correction")]
pub(super) struct WindowsArgs {
    /// Read the metrics from FILE (evt-metrics(5)); their results replace the stored ones
    ///
    /// FILE may also be an object of a bucket: s3://BUCKET/KEY, gs://BUCKET/KEY, az://CONTAINER/KEY.
    #[arg(short, long, value_name = "FILE")]
    metrics: Option<String>,
    /// Correct only this metric (repeatable); the others are still evaluated
    #[arg(long, value_name = "METRIC")]
    only: Vec<String>,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Correct only windows that are closed at INSTANT
    #[arg(long, value_name = "INSTANT")]
    closed_before: Option<String>,
    /// Treat all windows of a store as closed, even if one of its partitions ended before them
    #[arg(long, conflicts_with = "closed_before")]
    all_closed: bool,
    /// The out-of-orderness of the run that wrote the windows (evt-window(1)) [default: as the store keeps it, else
    /// that of the metrics file, else 30s, and then no stored row is lowered or retracted for late events]
    #[arg(long, value_name = "DURATION|all", value_parser = OutOfOrderness::parse)]
    out_of_orderness: Option<OutOfOrderness>,
    /// That of the metrics file.
    #[arg(skip)]
    key: Option<OutOfOrderness>,
    /// What the store keeps of it, if no flag is given.
    #[arg(skip)]
    kept: KeptBounds,
    #[command(flatten)]
    late: LateArgs,
    /// Keep TEXT with the correction in the store
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// End the unfinished correction of a killed run
    #[arg(long)]
    take_over: bool,
}

/// Flags of late events.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Correction")]
struct LateArgs {
    /// Count the late events of URI in the windows that they were late for
    #[arg(long, value_name = "URI")]
    late_events: Option<OsString>,
    /// Keep stored rows all of whose events are late in this run
    #[arg(long)]
    keep_late: bool,
    /// Remove the late events that earlier corrections counted
    #[arg(long, conflicts_with_all = ["late_events", "keep_late"])]
    without_late: bool,
}

/// Flags of what is read, validated and written.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct FlowArgs {
    /// Show what would change and write nothing; exit status 1 if anything would
    #[arg(long, help_heading = "Correction")]
    dry_run: bool,
    /// Read at most N events per second
    #[arg(long, value_name = "N", help_heading = "Input", value_parser = parse_positive::<u64>)]
    rate: Option<u64>,
    #[command(flatten)]
    validation: ValidationArgs,
    #[command(flatten)]
    pub stage: StageArgs,
}

/// Flags of the range.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Correction")]
struct RangeArgs {
    /// Correct windows that start at INSTANT or later
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true)]
    since: Option<String>,
    /// Correct windows that end at INSTANT or earlier
    #[arg(long, value_name = "INSTANT")]
    until: Option<String>,
    /// Correct windows that start in the last DURATION, like --since now-DURATION
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "since")]
    last: Option<i64>,
}

impl RangeArgs {
    /// Whether a flag selects a range of time.
    fn is_given(&self) -> bool {
        self.since.is_some() || self.until.is_some() || self.last.is_some()
    }
}

/// Flags of what is read.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Correction")]
struct ReadingArgs {
    /// Read events from this long before --since, in which sessions may begin, and around late events
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    before: i64,
    /// Treat the input as complete, even if a partition of it does not begin with its first offset
    #[arg(long)]
    all_records: bool,
    /// Keep about SIZE of the windows in memory, at least 8MiB, and the rest in files in TMPDIR [default: 1GiB, at most
    /// half of the limit of the control group]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    memory: Option<usize>,
}

/// The file of metrics.
struct MetricsFile {
    path: String,
    text: String,
}

impl MetricsFile {
    fn parse(&self) -> Result<Spec> {
        spec::file(&self.text).map_err(|error| error.at(self.path.clone()))
    }
}

/// The metrics of the windows, and how they are computed.
struct WindowSetup {
    spec: Spec,
    /// The out-of-orderness (µs); `None` for all.
    out_of_orderness: Option<i64>,
    /// The bound of their state (`--memory`).
    memory: MemoryBound,
    /// How rows are added to groups of metrics.
    parallelism: Parallelism,
}

impl WindowsArgs {
    /// Reads the file of metrics, which may be a pipe.
    fn metrics_file(&self, caller: &Caller) -> Result<MetricsFile> {
        let Some(path) = &self.metrics else { return Err(Error::usage("--metrics FILE is required")) };
        Ok(MetricsFile { path: shown(path).to_owned(), text: metrics::read(path, caller)? })
    }

    fn spec(&self, file: &MetricsFile) -> Result<Spec> {
        let spec = file.parse()?;
        match spec.metrics.iter().find(|metric| metric.shape == Shape::ALL && self.corrects(metric)) {
            None => Ok(spec),
            Some(total) => Err(Error::usage(format!(
                "metric '{}': expected windows that close, found size = all; compute it again with evt-window",
                total.name
            ))),
        }
    }

    /// Whether a metric is one of `--only`, or all are corrected.
    fn corrects(&self, metric: &Metric) -> bool {
        self.only.is_empty() || self.only.contains(&metric.name)
    }

    /// Returns the out-of-orderness of this run (µs); `None` for all.
    fn bound(&self) -> Option<i64> {
        self.out_of_orderness.or(self.kept.bound()).or(self.key).map_or(Some(watermark::LIVE), |bound| bound.0)
    }

    /// Returns the metrics for which that of the run that wrote the windows is known.
    fn known(&self) -> KnownBounds {
        let unknown = self.kept.unknown(self.key.is_some());
        match self.out_of_orderness.is_some() || unknown.is_empty() {
            true => KnownBounds::All,
            false => KnownBounds::AllBut(unknown),
        }
    }

    /// Takes what the store keeps of the out-of-orderness of metrics, unless the flag is given. Errors: exit status 2,
    /// as [`KeptBounds::of`].
    fn take_kept(&mut self, spec: &Spec, corrections: &mut dyn Corrections, quiet: bool, run: &Run) -> Result<()> {
        if self.out_of_orderness.is_some() {
            return Ok(());
        }
        let corrected = || spec.metrics.iter().filter(|metric| self.corrects(metric));
        let names = Vec::from_iter(corrected().map(|metric| metric.name.clone()));
        self.kept = KeptBounds::of(corrected(), &corrections.metric_progress(&names)?, self.key)?;
        self.kept.line().iter().filter(|_| !quiet).for_each(|line| run.console.say(line));
        Ok(())
    }

    fn windows(&self, spec: Spec, run: &Run) -> WindowSetup {
        let memory = memory_bound(self.reading.memory.unwrap_or_else(default_memory), run.io.disk());
        WindowSetup { spec, out_of_orderness: self.bound(), memory, parallelism: run.pool.parallelism() }
    }

    /// Returns the scope of the correction: the metrics of `--only`, or all; the range; the bound of `--closed-before`.
    /// Errors: exit status 2 for an unknown metric or an invalid range.
    fn scope(&self, spec: &Spec, now: i64, zone: Option<Zone>) -> Result<Scope> {
        let names: Vec<&str> = spec.metrics.iter().map(|metric| metric.name.as_str()).collect();
        if let Some(unknown) = self.only.iter().find(|name| !names.contains(&name.as_str())) {
            let names = names.join(", ");
            return Err(Error::usage(format!("--only: expected one of {names}, found {unknown}")));
        }
        let instant = |flag: &str, text: &Option<String>| instant_of(flag, text.as_deref(), now, zone);
        let RangeArgs { since, until, last } = &self.range;
        let first = last.map(|last| now.saturating_sub(last));
        let range = Span { since: first.or(instant("--since", since)?), until: instant("--until", until)? };
        if range.since.zip(range.until).is_some_and(|(since, until)| since >= until) {
            return Err(Error::usage(format!("expected --since before --until, found {}", shown_range(range))));
        }
        let mut scope = Scope {
            metrics: spec.metrics.iter().filter(|metric| self.corrects(metric)).map(MetricScope::of).collect(),
            range,
            closed_before: instant("--closed-before", &self.closed_before)?,
            read_since: None,
            kept_since: None,
        };
        scope.read_since = scope.reading(self.reading.before).since;
        Ok(scope)
    }

    /// Returns the scope without the windows of which rows were removed because of their age; says so unless only the
    /// windows of late events are corrected. Errors: those of [`Self::scope`]; exit status 2 if a flag names such
    /// windows.
    fn kept_scope(&self, spec: &Spec, flow: &FlowArgs, target: &TargetStore, run: &Run) -> Result<Scope> {
        let mut scope = self.scope(spec, run.clock.now(), flow.stage.map.zone()?)?;
        if let Some(kept) = KeptRows::of(&checked_inputs(flow, run)?, target)? {
            let line = kept.limit(&mut scope)?;
            if self.late.late_events.is_none() && !flow.stage.common.quiet {
                run.console.say(line);
            }
        }
        Ok(scope)
    }

    /// Returns the digest of everything but metrics and range that determines the right cells.
    fn digest(&self, spec: &Spec, flow: &FlowArgs) -> String {
        let mut digest = Xxh3::new();
        let ReadingArgs { before, all_records, .. } = self.reading;
        let Self { closed_before, all_closed, .. } = self;
        let LateArgs { late_events, keep_late, without_late } = &self.late;
        let out_of_orderness = OutOfOrderness(self.bound());
        for metric in &spec.metrics {
            digest.update(format!("{}\0", metric.text).as_bytes());
        }
        let closing = (closed_before, all_closed, out_of_orderness, self.known(), keep_late);
        let flags = (before, all_records, closing, late_events, without_late, &flow.validation, &flow.stage.map);
        digest.update(format!("{flags:?}").as_bytes());
        if late_events.is_some() && self.range.is_given() {
            digest.update(b"range"); // A run of all late events ends no correction of a range.
        }
        format!("{:032x}", digest.digest128())
    }

    fn claim(&self, scope: &Scope, spec: String) -> Claim {
        let mut metrics: Vec<String> = scope.metrics.iter().map(|metric| metric.name.to_string()).collect();
        metrics.sort();
        let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
        Claim {
            metrics,
            range: scope.range,
            spec,
            who: user.unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw())),
            host: Run::host(),
            reason: self.reason.clone(),
            take_over: self.take_over,
            is_late: self.late.late_events.is_some() && !self.range.is_given(),
        }
    }
}

/// Returns the inputs, of which all are stores or none. Errors: exit status 2 if some are stores and others are not, or
/// if a flag requires another order of their rows.
fn checked_inputs(flow: &FlowArgs, run: &Run) -> Result<Vec<Uri>> {
    let inputs = flow.stage.input.uris(run)?;
    let stores = inputs.iter().filter(|uri| matches!(uri, Uri::Store(..))).count();
    if stores > 0 && stores < inputs.len() {
        return Err(Error::usage("expected either stores or files and topics as inputs, found both"));
    }
    if stores > 0 && flow.validation.dedup.is_some() {
        return Err(Error::usage(
            "--dedup requires raw records in the order of their arrival; a store is written behind evt-validate --dedup",
        ));
    }
    Ok(inputs)
}

/// Returns the extents of the partitions in the stores among the inputs. A run waits for a server that is away;
/// `--check` does not.
fn stream_extents(flow: &FlowArgs, run: &Run) -> Result<Vec<StreamExtent>> {
    let mut extents = vec![];
    for uri in checked_inputs(flow, run)? {
        let Uri::Store(store, location) = &uri else { continue };
        let Some(of_store) = store.reader.stream_extents else {
            return Err(Error::usage(format!("{uri}: expected a store of events")));
        };
        extents.extend(match flow.stage.common.check {
            true => of_store(location)?,
            false => store.at_start(location, ServerStatus::default(), || of_store(location))?,
        });
    }
    Ok(extents)
}

/// Returns the order of the rows of the inputs, whose event time is in `span`; with `has_sessions` the rows of stores
/// are sorted.
fn order(
    args: &WindowsArgs,
    inputs: &[Uri],
    mut extents: Vec<StreamExtent>,
    span: Span,
    has_sessions: bool,
) -> InputOrder {
    if !inputs.iter().any(|uri| matches!(uri, Uri::Store(..))) {
        let ends = !inputs.iter().any(|uri| matches!(uri, Uri::Kafka(_)));
        return InputOrder::Streams { ends, is_whole: args.reading.all_records };
    }
    let least = extents.iter().min_by_key(|extent| extent.last_time);
    let held_by = least.map(|least| format!("partition {} of {} ends there", least.partition, least.origin));
    let all_records = args.reading.all_records;
    let closed = match least {
        Some(least) if !args.all_closed => Some(least.last_time.saturating_sub(args.bound().unwrap_or(0))),
        // Of stores without rows that hold all records, no window is open.
        least => (least.is_some() || all_records).then_some(LATEST),
    };
    let knows_span = |uri: &Uri| matches!(uri, Uri::Store(store, _) if store.reader.extent.is_some());
    let work = Work::of(&extents, span);
    if all_records {
        extents.clear();
    }
    let has_days = inputs.len() == 1 && (span.since.is_some() && span.until.is_some() || inputs.iter().all(knows_span));
    let rows = match has_sessions && args.bound().is_some() {
        true => StoreRows::Streams,
        false => StoreRows::Days,
    };
    let sort = sort_columns(args, has_sessions, has_days);
    InputOrder::Stores { closed, held_by, rows, sort, work, extents }
}

/// Returns the columns by which the rows of stores are sorted: for sessions the order of events in a partition matters,
/// and `has_days` tells whether the only store returns the days of event time in order.
fn sort_columns(args: &WindowsArgs, has_sessions: bool, has_days: bool) -> Option<SortColumns> {
    match args.bound() {
        Some(_) if has_sessions => Some(&["stream_time", "origin", "partition", "offset"]),
        // No event is late, so that no order changes a session.
        None if has_sessions => Some(&["event_time", "origin", "partition", "offset"]),
        _ => (!has_days).then_some(&["event_time"]),
    }
}

/// Corrects the windows; returns the exit status.
pub(super) fn run(args: WindowsArgs, flow: FlowArgs, run: &Rc<Run>) -> Result<u8> {
    stage(args, flow, run)?.run()
}

/// Opens the stage.
fn stage(mut args: WindowsArgs, mut flow: FlowArgs, run: &Rc<Run>) -> Result<Stage> {
    let file = args.metrics_file(&run.caller())?;
    let (spec, target) = (args.spec(&file)?, TargetStore::of(&flow.stage.output.to, run)?);
    args.key = spec.out_of_orderness;
    let inputs = checked_inputs(&flow, run)?;
    let mut scope = args.kept_scope(&spec, &flow, &target, run)?;
    // Another run corrects the windows that this one does not.
    let corrects_all = scope.range == Span::default() && scope.closed_before.is_none();
    let late_events = args.late.late_events.as_deref();
    let mut late_input = late_events.map(|uri| LateInput::new(uri, corrects_all, &run.caller())).transpose()?;
    // `--dry-run` opens the store to compare it only.
    let mut corrections = target.open(flow.dry_run, run)?;
    let names: Vec<String> = scope.metrics.iter().map(|metric| metric.name.to_string()).collect();
    args.take_kept(&spec, corrections.as_mut(), flow.stage.common.quiet, run)?;
    let digest = args.digest(&spec, &flow);
    let mut late = LateCells::new(file.parse()?, args.bound().unwrap_or(i64::MAX));
    let stored = corrections.late_cells(&names)?;
    if let Some(input) = &mut late_input {
        input.read(&mut late, &scope, corrections.as_mut(), run)?;
    }
    let only_late = late_input.is_some() && scope.range == Span::default();
    let shortest = scope.metrics.iter().map(MetricScope::shortest).min().unwrap_or(1);
    let times = InputTimes::new(shortest, scope.range, args.reading.all_records);
    if only_late {
        // Only the cells that late events name are corrected.
        scope.range = late.span(args.reading.before).unwrap_or(Span { since: Some(0), until: Some(0) });
        scope.read_since = scope.range.since;
        late.raise(&stored);
    } else if !args.late.without_late {
        stored.iter().filter(|cell| scope.covers(&cell.key)).for_each(|cell| late.add(cell));
    }
    let claim = args.claim(&scope, digest);
    // The range of cells that late events name has room for the sessions around them.
    let reading = scope.reading(if only_late { 0 } else { args.reading.before });
    let origin = if args.late.without_late { NameOrigin::Removed } else { NameOrigin::Store };
    let is_session = |cell: &LateCell| scope.metric(&cell.key.metric).is_some_and(MetricScope::is_session);
    let (names, stored): (Vec<LateCell>, Vec<LateCell>) = stored.into_iter().partition(is_session);
    names.iter().filter(|cell| reading.contains(cell.key.start)).for_each(|cell| late.add_name(cell, origin));
    let has_sessions = scope.metrics.iter().any(MetricScope::is_session);
    let order = order(&args, &inputs, stream_extents(&flow, run)?, reading, has_sessions);
    set_outputs(&mut flow, run);
    let mut source = source(&args, &flow, &spec, &order, run)?;
    source.inputs.stores.request.span = reading;
    let validate = validate(&flow, run)?;
    let late_rules = LateRules { known: args.known(), keeps_late: args.late.keep_late };
    let mut setup = Setup {
        scope,
        input: InputRows { span: reading, order, times, late_rules },
        corrections,
        late,
        only_late,
        late_input,
        removes_late: args.late.without_late,
        without_late: if args.late.without_late { stored } else { vec![] },
        progress: None,
        dry_run: flow.dry_run,
        pace: Pace::new(flow.rate),
        run: run.clone(),
    };
    let (windows, quiet) = (args.windows(spec, run), flow.stage.common.quiet);
    let start = move |info: SourceInfo<'_>| {
        if !setup.dry_run {
            // The inputs can be read, and nothing is compared yet.
            claim_cells(&mut setup, &claim, quiet)?;
        }
        start(info, windows, validate, setup)
    };
    let stage = StageSpec { formats: TABLE, ..StageSpec::new(&flow.stage) };
    open(stage, source, run, Box::new(start))
}

/// Claims the correction, and finds the progress of the one that it continues.
fn claim_cells(setup: &mut Setup, claim: &Claim, quiet: bool) -> Result<()> {
    let claimed = setup.corrections.claim(claim)?;
    report_claimed(&claimed, &setup.run, quiet);
    // Late events may name cells before the progress of a correction that did not know them.
    setup.progress = claimed.resumed.and_then(|resumed| resumed.progress).filter(|_| setup.late_input.is_none());
    Ok(())
}

fn report_claimed(claimed: &evt_store::correct::Claimed, run: &Run, quiet: bool) {
    if quiet {
        return;
    }
    for id in &claimed.ended {
        run.console.say(format!("ended correction {id}"));
    }
    if let Some(resumed) = &claimed.resumed {
        let after = resumed.progress.map_or_else(String::new, |at| format!(", complete to {}", format_instant(at)));
        run.console.say(format!("resuming correction {} by {}{after}", resumed.id, resumed.by));
    }
}

/// Sets the outputs of the stage: the changes of `--dry-run`, and dead letters only if `--dlq` is given on the command
/// line.
fn set_outputs(flow: &mut FlowArgs, run: &Run) {
    let output = &mut flow.stage.output;
    output.to = if flow.dry_run { vec!["-".into()] } else { vec![] };
    let given = output.dlq.take().filter(|dlq| run.letters.as_ref() != Some(dlq));
    output.dlq = Some(given.unwrap_or_else(|| "null:".into()));
}

/// Makes the validation of the events, if there are schemas or repeated events are left out.
fn validate(flow: &FlowArgs, run: &Run) -> Result<Option<Validate>> {
    let schemas = flow.validation.schema.open(run)?;
    let validates = schemas.is_some() || flow.validation.dedup.is_some();
    let ids = memory_bound(dedup::MEMORY, run.io.disk());
    Ok(validates.then(|| Validate::new(flow.validation.clone(), schemas, ids, run.pool.parallelism())))
}

/// Returns the options of the source, which reads rows of any time.
fn source(args: &WindowsArgs, flow: &FlowArgs, spec: &Spec, order: &InputOrder, run: &Run) -> Result<SourceOptions> {
    let inputs = flow.stage.input.uris(run)?;
    let has_letters = flow.stage.output.dlq.as_deref().is_some_and(|dlq| dlq != "null:");
    let is_raw = |uri: &Uri| matches!(uri, Uri::Kafka(address) if address.options.form != Some(TopicFormat::Frames));
    let provenance = if inputs.iter().any(is_raw) { Provenance::Overwrite } else { Provenance::Keep };
    let mut mapping = flow.stage.map.options(provenance)?;
    mapping.reads.properties = spec.leaves.properties();
    mapping.reads.distinct_names = flow.validation.schema.schemas.is_some();
    let texts = spec.leaves.texts();
    mapping.reads.dictionaries = texts.properties;
    let validates = flow.validation.schema.schemas.is_some() || flow.validation.dedup.is_some();
    let is_projected = !validates && !has_letters && args.late.late_events.is_none();
    mapping.reads.columns =
        is_projected.then(|| Projection { columns: spec.leaves.columns(), dictionaries: texts.columns });
    let order = match order {
        InputOrder::Stores { sort: Some(columns), .. } if inputs.len() > 1 => StoreOrder::Joined(columns),
        InputOrder::Stores { sort: Some(columns), .. } => StoreOrder::Events(columns),
        _ => StoreOrder::Stored,
    };
    let mut options = flow.stage.source(mapping, run)?;
    options.needs.finds_repeats = flow.validation.dedup.is_some();
    options.needs.shows_records = has_letters;
    options.inputs.topics.read_mode = ReadMode::Bounded;
    let columns = is_projected.then(|| stored_columns(spec));
    let request = ReadRequest { span: Span::default(), columns, threads: run.pool.threads().count };
    options.inputs.stores = StoreOptions { request, order, unreadable: None };
    Ok(options)
}

/// Returns the columns of stored events that the windows need, as bits.
fn stored_columns(spec: &Spec) -> u32 {
    let stamps = [column::EVENT_TIME, column::ORIGIN, column::PARTITION, column::OFFSET, column::STREAM_TIME];
    let properties = (!spec.leaves.properties().is_empty()).then_some(column::PROPERTIES);
    let bits = stamps.into_iter().chain(properties).fold(0, |bits, column| bits | 1 << column);
    bits | spec.leaves.columns()
}

/// Makes the operator once the rows are known.
fn start(
    info: SourceInfo<'_>,
    windows: WindowSetup,
    validate: Option<Validate>,
    mut setup: Setup,
) -> Result<OperatorSetup> {
    let WindowSetup { spec, out_of_orderness, memory, parallelism } = windows;
    info.expect(Kind::Event, "expected events")?;
    let SourceInfo { source, .. } = info;
    source.set_named(spec.leaves.columns());
    let explicit = source.is_explicit();
    // Such watermarks say which rows are late, in every run.
    if explicit {
        setup.input.late_rules.known = KnownBounds::All;
    }
    let watermark = watermark::Options { out_of_orderness, explicit, new_partitions: false };
    let options = window::Options {
        leaves: spec.leaves,
        metrics: spec.metrics,
        watermark,
        emit: Emit::Final,
        memory: Some(memory),
        parallelism,
    };
    let is_report = !setup.dry_run;
    let operator = Correct::new(Window::new(options), validate, setup, watermark);
    Ok(OperatorSetup { is_report, ..OperatorSetup::new(operator, Changes::schema()) })
}

/// `--check`: adds the faults of the flags, of the inputs and of the store to `findings`.
pub(super) fn check(args: WindowsArgs, flow: FlowArgs, run: &Rc<Run>, findings: &mut CheckReport) {
    let spec = findings.take(args.metrics_file(&run.caller()).and_then(|file| args.spec(&file)));
    let target = findings.take(TargetStore::of(&flow.stage.output.to, run));
    if let Some(spec) = &spec {
        let now = run.clock.now();
        findings.take(match &target {
            Some(target) => args.kept_scope(spec, &flow, target, run),
            None => flow.stage.map.zone().and_then(|zone| args.scope(spec, now, zone)),
        });
    }
    let extents = stream_extents(&flow, run).and_then(|extents| Ok((checked_inputs(&flow, run)?, extents)));
    let order = extents.map(|(inputs, extents)| order(&args, &inputs, extents, Span::default(), false));
    let order = findings.take(order);
    let SchemaArgs { schemas, subject, .. } = &flow.validation.schema;
    schemas.iter().for_each(|schemas| findings.schemas_of(schemas, subject));
    findings.inputs(args.late.late_events.iter());
    let parts = spec.zip(order);
    let options = parts.and_then(|(spec, order)| findings.take(source(&args, &flow, &spec, &order, run)));
    let spec =
        StageSpec { kind: Some(Kind::Metric), corrects: true, needs_events: true, ..StageSpec::new(&flow.stage) };
    findings.stage(spec, options);
}
