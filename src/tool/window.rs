//! evt-window: events in, metrics of event-time windows out.

use super::hold::Hold;
use super::late::Late;
use crate::cli::Tool;
use crate::cli::args::{CommonArgs, StageArgs, duration};
use crate::cli::check::Findings;
use crate::cli::stage::{FRAMES, Stage, check_side, stamped};
use crate::error::{Error, Result};
use crate::frame::{Control, End, How, State};
use crate::ingest::Item;
use crate::kafka::range::Role;
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::event::has_raw;
use crate::kind::{Kind, metric};
use crate::mapping::{Lean, Provenance};
use crate::metrics;
use crate::op::window::metric::Emit;
use crate::op::window::spec::{self, Inline, Spec};
use crate::op::window::watermark;
use crate::op::window::{MetricCounts, Options, Outcome, Window};
use crate::run::Run;
use crate::run::standard::print;
use crate::source::SourceOptions;
use crate::time::SECOND;
use crate::uri::Uri;
use arrow::array::RecordBatch;
use clap::{Parser, ValueEnum};
use rustix::fs::FileType;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::rc::Rc;

/// Aggregate events over event-time windows
#[derive(Parser, Debug)]
pub struct Args {
    /// Metrics to compute (evt-metrics(5))
    #[arg(short, long, value_name = "FILE", help_heading = "Metrics")]
    metrics: Option<String>,
    #[command(flatten)]
    inline: InlineArgs,
    #[command(flatten)]
    watermark: WatermarkArgs,
    /// Where late events go
    #[arg(long, value_name = "URI", help_heading = "Output")]
    late: Option<OsString>,
    /// Write events that some windows did count to --late too
    #[arg(long, help_heading = "Output")]
    late_partial: bool,
    /// No key lies in two partitions: a run may read some of a topic (?partitions=)
    #[arg(long, help_heading = "Input")]
    disjoint: bool,
    #[command(flatten)]
    stage: StageArgs,
}

/// One metric on the command line.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Metrics")]
struct InlineArgs {
    /// An aggregate, repeatable: [NAME=]EXPR; count(*) by default
    #[arg(long, value_name = "[NAME=]EXPR")]
    agg: Vec<String>,
    /// Dimensions: columns and property paths, comma-separated
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    by: Vec<String>,
    /// Count only events for which this is true
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// Length of a window
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    size: Option<i64>,
    /// Distance between two windows; tumbling without it
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    slide: Option<i64>,
    /// Session windows: the silence that ends one
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    gap: Option<i64>,
    /// How long past its end a window stays open
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    lateness: Option<i64>,
    /// Shift window starts, also by a negative duration
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    align: Option<i64>,
}

/// When windows fire.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Time")]
struct WatermarkArgs {
    /// How far an event may lie behind its partition's stream time; with all any distance, and nothing fires before the end
    #[arg(long, value_name = "DURATION|all", default_value = "30s", value_parser = disorder)]
    out_of_orderness: Disorder,
    /// Emit panes as windows fire, or one final row when their state goes
    #[arg(long, value_name = "WHEN", default_value = "panes")]
    emit: EmitArg,
    /// What happens to open windows at the end; by default they fire at an exhausted end and are held at a stopped one
    #[arg(long, value_name = "WHAT")]
    at_end: Option<AtEnd>,
    /// Let a partition that is silent this long hold the watermark back no more (impure)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    idle_after: Option<i64>,
    /// Accept partitions that appear after windows closed without them; their rows may be late (impure)
    #[arg(long, value_name = "HOW")]
    new_partitions: Option<NewPartitions>,
}

/// How far an event may be behind its partition's stream time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disorder {
    /// This far (µs).
    Within(i64),
    /// Any distance.
    All,
}

fn disorder(text: &str) -> Result<Disorder> {
    match text {
        "all" => Ok(Disorder::All),
        _ => duration(text).map(Disorder::Within),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EmitArg {
    Panes,
    Final,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AtEnd {
    Fire,
    Hold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NewPartitions {
    Late,
}

impl Args {
    fn spec(&self) -> Result<Spec> {
        let inline = Inline {
            aggregates: self.inline.agg.clone(),
            by: self.inline.by.clone(),
            filter: self.inline.filter.clone(),
            size: self.inline.size,
            slide: self.inline.slide,
            gap: self.inline.gap,
            lateness: self.inline.lateness,
            align: self.inline.align,
        };
        match &self.metrics {
            None => spec::inline(&inline),
            Some(_) if !inline.is_empty() => {
                Err(Error::usage("--metrics FILE and inline flags are two specs: say one"))
            }
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| Error::io(path.clone(), &error))?;
                spec::file(&text).map_err(|error| error.at(path.clone()))
            }
        }
    }

    /// `--check`, which also explains the metrics.
    fn check(&self, run: &Rc<Run>) -> Result<u8> {
        let mut findings = Findings::new(run);
        if let Some(spec) = findings.take(self.spec()) {
            print(&spec.explain())?;
        }
        findings.take(self.check_whole());
        findings.take(self.check_end(run));
        let source = |mapping| Ok(SourceOptions { role: Role::Recomputes, ..self.stage.source(mapping)? });
        let options = findings.take(self.stage.map.options(Provenance::Keep).and_then(source));
        findings.stage(&self.stage, FRAMES, options.as_ref(), self.late.as_deref())
    }

    /// Refuses a part of a topic without `--disjoint`: two runs over parts would overwrite each other's rows of the
    /// same key.
    fn check_whole(&self) -> Result<()> {
        let inputs = self.stage.input.uris()?;
        let part = |uri: &Uri| matches!(uri, Uri::Kafka(address) if address.options.partitions.is_some());
        match inputs.iter().find(|uri| part(uri)).filter(|_| !self.disjoint) {
            None => Ok(()),
            Some(uri) => Err(Error::usage(format!(
                "{uri}: partitions= gives this run a part of each window, and the rows of another run over the rest \
                 would replace its own: --disjoint says that no key lies in two partitions"
            ))),
        }
    }

    /// Checks that the input has an end, and that nothing else makes a watermark, if windows wait for the end.
    fn check_end(&self, run: &Run) -> Result<()> {
        if self.watermark.out_of_orderness != Disorder::All {
            return Ok(());
        }
        let why = "--out-of-orderness all waits for the end of the input";
        if self.watermark.idle_after.is_some() {
            return Err(Error::usage(format!("{why}: --idle-after would not be heeded")));
        }
        if self.stage.input.control {
            return Err(Error::usage(format!("{why}: the watermarks of --control would not be heeded")));
        }
        let inputs = self.stage.input.uris()?;
        let endless = |uri: &&Uri| matches!(uri, Uri::Kafka(address) if address.options.end.is_none());
        if let Some(topic) = inputs.iter().find(endless) {
            return Err(Error::usage(format!("{why}: {topic} has none: end=latest, an instant or offsets")));
        }
        let waits = inputs.iter().any(|uri| matches!(uri, Uri::Standard)) && !is_regular(std::io::stdin());
        if waits && !self.stage.common.quiet && !self.stage.common.check {
            run.console.say(format!("{why}: until then no window fires"));
        }
        Ok(())
    }

    /// Returns why a row is late although its own bound would have kept it.
    fn why_not_waited_for(&self) -> &'static str {
        match self.watermark.idle_after.is_some() || self.watermark.new_partitions.is_some() {
            true => "because a partition was idle or new",
            false => "because the stream time of their partition went back",
        }
    }

    fn watermark(&self, explicit: bool) -> watermark::Options {
        watermark::Options {
            out_of_orderness: match self.watermark.out_of_orderness {
                Disorder::Within(bound) => Some(bound),
                Disorder::All => None,
            },
            explicit,
            new_partitions: self.watermark.new_partitions.is_some(),
        }
    }
}

/// Whether it is a regular file, which has an end.
fn is_regular(file: impl AsFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file())
}

impl Tool for Args {
    const NAME: &'static str = "evt-window";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "Count events a minute by type; no event of a file is too late.",
            "evt-ingest events.jsonl | evt-window --size 1m --by event_type --out-of-orderness all | evt-view",
        ),
        (
            "The 99th percentile of a property over five minutes, every thirty seconds.",
            "evt-ingest events.jsonl | evt-window --size 5m --slide 30s --agg 'p99=approx_percentile(latency_ms, 0.99)' --late null: -o csv",
        ),
        (
            "All metrics of a file, late events kept.",
            "evt-ingest events.jsonl | evt-window -m metrics.toml --late late.jsonl -o jsonl",
        ),
        ("Explain a file of metrics.", "evt-window -m metrics.toml --check"),
    ];

    fn common(&self) -> &CommonArgs {
        &self.stage.common
    }

    fn waits_at_terminal(&self) -> bool {
        self.stage.waits_at_terminal()
    }

    fn run(self, run: Rc<Run>) -> Result<u8> {
        if self.stage.common.check {
            return self.check(&run);
        }
        let spec = self.spec()?;
        let mut mapping = self.stage.map.options(Provenance::Keep)?;
        mapping.watch = spec.leaves.properties();
        // Only late rows and dead letters show more of an event than the metrics read.
        let lean = self.late.is_none() && self.stage.output.dlq.is_none();
        let (texts, coded) = spec.leaves.texts();
        mapping.coded = coded;
        mapping.lean = lean.then(|| Lean { columns: spec.leaves.columns(), coded: texts });
        let late = self.late.as_deref().map(|text| check_side(text, &run)?.ask(&run)).transpose()?;
        self.check_whole()?;
        self.check_end(&run)?;
        // A row that a metric cannot read becomes a dead letter with its record.
        let options = SourceOptions { role: Role::Recomputes, shows_records: true, ..self.stage.source(mapping)? };
        let mut stage = Stage::open_beside(late.as_ref(), &self.stage, options, FRAMES, &run)?;
        stage.expect(Kind::Event, "windows are made of events")?;
        stage.source.set_named(spec.leaves.columns());
        let rows = stamped(&Kind::Late.schema_with(has_raw(&stage.source.schema())), &run);
        let late = late.map(|late| late.open(&rows, &run)).transpose()?;
        if stage.source.is_explicit() && self.watermark.out_of_orderness == Disorder::All {
            return Err(Error::usage(
                "--out-of-orderness all: the watermarks that the input brings would not be heeded",
            ));
        }
        stage.begin(&Kind::Metric.schema())?;
        let emit = if self.watermark.emit == EmitArg::Final { Emit::Final } else { Emit::Panes };
        let window = Window::new(Options {
            leaves: spec.leaves,
            metrics: spec.metrics,
            watermark: self.watermark(stage.source.is_explicit()),
            emit,
        });
        let results = Results::default();
        let hold = Hold::new(self.watermark.idle_after, run.clock.now());
        let late = Late::new(late, self.late_partial, self.why_not_waited_for());
        Job { args: &self, run, stage, window, hold, late, results }.run()
    }
}

/// One run of the tool.
struct Job<'a> {
    args: &'a Args,
    run: Rc<Run>,
    stage: Stage,
    window: Window,
    hold: Hold,
    late: Late,
    results: Results,
}

impl Job<'_> {
    fn run(mut self) -> Result<u8> {
        let mut waited = false;
        loop {
            match self.stage.read()? {
                Item::Batch(batch) => {
                    let outcome = self.window.on_batch(&batch, self.stage.source.given())?;
                    self.settle(&batch, &outcome)?;
                    self.look()?;
                }
                Item::Dead(_) => {}
                Item::Idle => self.look()?,
                Item::Control(Control::Progress(progress)) => {
                    self.window.on_progress(&progress)?;
                    self.fire()?;
                    let news = progress.partitions.iter().any(|partition| partition.state == State::Ended);
                    self.stage.control(&Control::Progress(crate::frame::Progress {
                        partitions: if news { progress.partitions } else { vec![] },
                        ..progress
                    }))?;
                }
                Item::Control(Control::Watermark(instant)) => {
                    self.window.on_promise(instant);
                    self.fire()?;
                }
                Item::Control(other) => self.stage.control(&other)?,
                Item::End(end) => return self.end(end),
            }
            if self.run.stop.signal().is_some()
                && !std::mem::replace(&mut waited, true)
                && !self.args.stage.common.quiet
            {
                self.run.console.say("stopping: reading on to the end that the source sends");
            }
        }
    }

    /// Does what is due by the clock: idle partitions and late rows.
    fn look(&mut self) -> Result<()> {
        let now = self.run.clock.now();
        for partition in self.hold.look(self.window.watermark(), now, &self.run.console) {
            self.window.set_idle(partition);
        }
        self.late.tick(now, self.window.watermark().is_explicit(), &self.run.console)?;
        self.take_bounced()?;
        self.fire()?;
        self.observe(now);
        Ok(())
    }

    /// Sets the Prometheus metrics of windows.
    fn observe(&self, now: i64) {
        let metrics = &self.run.metrics;
        if !metrics.is_on() {
            return;
        }
        metrics.set(&metrics::OPEN_WINDOWS, &[], self.window.held() as f64);
        if let Some(watermark) = self.window.watermark().get() {
            let lag = now.saturating_sub(watermark) as f64 / SECOND as f64;
            metrics.set(&metrics::WATERMARK_LAG, &[], lag);
        }
    }

    /// Counts the fates of a batch's rows and writes dead and late ones.
    fn settle(&mut self, batch: &RecordBatch, outcome: &Outcome) -> Result<()> {
        let counts = &mut self.stage.counts;
        counts.taken += batch.num_rows() as u64;
        counts.out += outcome.counted;
        counts.late += outcome.late_rows;
        counts.filtered += outcome.filtered;
        for (row, message) in &outcome.dead {
            self.stage.dead.count(&mut self.stage.counts);
            self.stage.dead.push_row(batch, *row, &Fault::new(ErrorType::AggregationError, message))?;
        }
        if outcome.late.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.window.metrics().iter().map(|metric| metric.name.as_str()).collect();
        for refusal in self.late.take(batch, outcome, &names)? {
            self.stage.refuse(batch, &refusal)?;
        }
        self.take_bounced()
    }

    /// Makes dead letters of late rows that `--late` took and its brokers refused later.
    fn take_bounced(&mut self) -> Result<()> {
        let bounced = self.late.bounced();
        bounced.iter().try_for_each(|bounced| self.stage.bounce(bounced))
    }

    /// Emits the results that are due.
    fn fire(&mut self) -> Result<()> {
        let results = &mut self.results;
        let stage = &mut self.stage;
        self.window.fire(&mut |row| results.push(stage, row))?;
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        if self.results.rows.is_empty() { Ok(()) } else { self.results.write(&mut self.stage) }
    }

    fn end(mut self, mut end: End) -> Result<u8> {
        let fire = match self.args.watermark.at_end {
            None => end.how == How::Exhausted,
            Some(at_end) => at_end == AtEnd::Fire,
        };
        let mut own = 0;
        if fire {
            let results = &mut self.results;
            let stage = &mut self.stage;
            self.window.on_exhausted(&mut |row| results.push(stage, row))?;
        }
        self.flush()?;
        let held = self.window.held();
        if held > 0 {
            self.stage.warn(format!("{held} windows held: they had not ended (--at-end fire)"));
            own = 1;
        }
        self.stage.counts.add_lost(&self.stage.source.counts());
        self.check_metrics()?;
        self.notes();
        self.stage.detail("held", held);
        if self.late.is_loss() || self.late.is_any() && self.args.stage.common.strict {
            own = 1;
        }
        self.late.conclude()?;
        self.take_bounced()?;
        if let Some(output) = self.late.output.take() {
            self.stage.tell_notices(&output.finish(&end)?, &mut end);
        }
        self.stage.finish(end, own)
    }

    /// Checks the law of counts per metric.
    fn check_metrics(&mut self) -> Result<()> {
        let counts = self.stage.counts;
        let before = self.stage.source.counts();
        let seen = counts.taken - counts.dead - counts.dropped - before.filtered;
        let all = self.window.counts();
        for (metric, each) in self.window.metrics().iter().zip(&all) {
            let MetricCounts { counted, late, filtered, half_late, .. } = *each;
            if seen != counted + late + filtered || half_late > counted {
                let name = &metric.name;
                return Err(Error::broken(format!(
                    "law of counts: {name}: {seen} seen, {counted} counted, {late} late, {filtered} filtered, {half_late} half late"
                )));
            }
        }
        let named: serde_json::Map<_, _> = self
            .window
            .metrics()
            .iter()
            .zip(&all)
            .map(|(metric, counts)| (metric.name.clone(), serde_json::to_value(counts).unwrap_or_default()))
            .collect();
        self.stage.detail("metrics", named);
        self.stage.detail("late_rows", self.late.written());
        Ok(())
    }

    /// Adds notes about the result to the summary.
    fn notes(&mut self) {
        let nulls: Vec<String> = self
            .window
            .always_null()
            .into_iter()
            .map(|(metric, path)| format!("{metric}: {path} was NULL in every event: is that its name?"))
            .collect();
        nulls.into_iter().for_each(|warning| self.stage.warn(warning));
        let explicit = self.window.watermark().is_explicit();
        let is_loss = self.late.is_loss();
        match self.late.rest(explicit) {
            Some(line) if is_loss => self.stage.warn(line),
            Some(line) => self.stage.note(line),
            None => {}
        }
        let counts = self.window.counts();
        let of_each = counts.len() > 1;
        let each = self.window.metrics().iter().zip(counts);
        let notes: Vec<String> = each.filter_map(|(metric, counts)| note(&metric.name, counts, of_each)).collect();
        let panes = self.results.note(&self.stage);
        notes.into_iter().chain(panes).for_each(|note| self.stage.note(note));
    }
}

/// Describes the rows that one metric left out; late ones only if there are several metrics.
fn note(name: &str, counts: MetricCounts, with_late: bool) -> Option<String> {
    let MetricCounts { late, half_late, partial, .. } = counts;
    let mut told = vec![];
    if late > 0 && with_late {
        told.push(format!("{late} late"));
    }
    if half_late > 0 && with_late {
        told.push(format!("{half_late} half late"));
    }
    if partial > 0 {
        told.push(format!("{partial} results left out as partial: the metric began within their window"));
    }
    (!told.is_empty()).then(|| format!("{name}: {}", told.join(", ")))
}

/// Result rows that are not written yet.
#[derive(Default)]
struct Results {
    rows: metric::Builder,
    /// Number of rows of windows that had already fired.
    later_panes: u64,
}

impl Results {
    fn push(&mut self, stage: &mut Stage, row: &metric::Row<'_>) -> Result<()> {
        self.later_panes += u64::from(row.pane > 0 && !row.retracted);
        self.rows.push(row)?;
        if self.rows.is_full() { self.write(stage) } else { Ok(()) }
    }

    fn write(&mut self, stage: &mut Stage) -> Result<()> {
        let batch = self.rows.finish(stage.schema())?;
        stage.write(&batch)
    }

    /// Returns a note for readers of a file: stores and stages keep only the last row of a window, a file has all.
    fn note(&self, stage: &Stage) -> Option<String> {
        let is_read_as_it_is = stage.formats().any(|format| format != "frames");
        (self.later_panes > 0 && is_read_as_it_is).then(|| {
            let later = self.later_panes;
            format!(
                "{later} rows are later panes: the last row of a window is its result (--emit final writes no other)"
            )
        })
    }
}
