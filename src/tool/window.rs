//! evt-window: events in, metrics of event-time windows out.

use super::hold::Hold;
use crate::cli::Tool;
use crate::cli::args::{CommonArgs, StageArgs, duration};
use crate::cli::check::Findings;
use crate::cli::stage::{FRAMES, Stage, check_side, stamped};
use crate::error::{Error, Result};
use crate::frame::{Control, End, How, State};
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::{Kind, late, metric};
use crate::mapping::{Lean, Provenance};
use crate::metrics;
use crate::op::window::metric::Emit;
use crate::op::window::spec::{self, Inline, Spec};
use crate::op::window::watermark;
use crate::op::window::{MetricCounts, Options, Outcome, Window};
use crate::stream::intake::{Item, count_dead};
use crate::stream::kafka::input::Role;
use crate::stream::output::Output;
use crate::stream::run::Run;
use crate::stream::source::SourceOptions;
use crate::stream::standard::print;
use crate::stream::uri::Uri;
use crate::time::{SECOND, format_duration};
use arrow::array::RecordBatch;
use clap::{Parser, ValueEnum};
use std::ffi::OsString;
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
    /// How far an event may lie behind its partition's stream time
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    out_of_orderness: i64,
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

    /// Two runs over parts of a topic would overwrite each other's rows of the same key.
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

    fn watermark(&self, explicit: bool) -> watermark::Options {
        watermark::Options {
            out_of_orderness: self.watermark.out_of_orderness,
            explicit,
            new_partitions: self.watermark.new_partitions.is_some(),
        }
    }
}

impl Tool for Args {
    const NAME: &'static str = "evt-window";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Count events a minute by type.", "evt-ingest events.jsonl | evt-window --size 1m --by event_type | evt-view"),
        (
            "The 99th percentile of a property over five minutes, every thirty seconds.",
            "evt-ingest events.jsonl | evt-window --size 5m --slide 30s --agg 'p99=approx_percentile(latency_ms, 0.99)' -o csv",
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
        let spec = self.spec()?;
        let mut mapping = self.stage.map.options(Provenance::Keep)?;
        mapping.watch = spec.leaves.properties();
        // Only late rows and dead letters show more of an event than the metrics read.
        let lean = self.late.is_none() && self.stage.output.dlq.is_none();
        let (texts, coded) = spec.leaves.texts();
        mapping.coded = coded;
        mapping.lean = lean.then(|| Lean { columns: spec.leaves.columns(), coded: texts });
        let late = self.late.as_deref().map(|text| check_side(text)?.ask(&run)).transpose()?;
        self.check_whole()?;
        let options = SourceOptions { role: Role::Recomputes, ..self.stage.source(mapping)? };
        if self.stage.common.check {
            print(&spec.explain())?;
            return Stage::check(late.as_ref(), &self.stage, (&options, FRAMES), &run, Findings::default());
        }
        let mut stage = Stage::open_beside(late.as_ref(), &self.stage, options, FRAMES, &run)?;
        stage.expect(Kind::Event, "windows are made of events")?;
        stage.source.set_named(spec.leaves.columns());
        let late = late.map(|late| late.open(&stamped(&Kind::Late.schema(), &run), &run)).transpose()?;
        stage.begin(&Kind::Metric.schema())?;
        let emit = if self.watermark.emit == EmitArg::Final { Emit::Final } else { Emit::Panes };
        let window = Window::new(Options {
            leaves: spec.leaves,
            metrics: spec.metrics,
            watermark: self.watermark(stage.source.is_explicit()),
            emit,
        });
        let metrics = metric::Builder::default();
        let hold = Hold::new(self.watermark.idle_after, run.clock.now());
        Job { args: &self, run, stage, window, hold, late, late_rows: 0, metrics }.run()
    }
}

/// One run of the tool.
struct Job<'a> {
    args: &'a Args,
    run: Rc<Run>,
    stage: Stage,
    window: Window,
    hold: Hold,
    late: Option<Output>,
    late_rows: u64,
    metrics: metric::Builder,
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

    /// What the clock alone changes, and what is due after it.
    fn look(&mut self) -> Result<()> {
        let now = self.run.clock.now();
        for partition in self.hold.look(self.window.watermark(), now, &self.run.console) {
            self.window.set_idle(partition);
        }
        if let Some(late) = &mut self.late {
            late.tick()?;
        }
        self.fire()?;
        self.observe(now);
        Ok(())
    }

    /// Sets the metrics that only windows have.
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

    /// Each row of a batch meets its fate.
    fn settle(&mut self, batch: &RecordBatch, outcome: &Outcome) -> Result<()> {
        let counts = &mut self.stage.counts;
        counts.taken += batch.num_rows() as u64;
        counts.out += outcome.counted;
        counts.late += outcome.late_rows;
        counts.filtered += outcome.filtered;
        for (row, message) in &outcome.dead {
            count_dead(&mut self.stage.counts, &self.stage.dead);
            self.stage.dead.push_row(batch, *row, &Fault::new(ErrorType::AggregationError, message))?;
        }
        let Some(output) = self.late.as_mut().filter(|_| !outcome.late.is_empty()) else { return Ok(()) };
        let names: Vec<&str> = self.window.metrics().iter().map(|metric| metric.name.as_str()).collect();
        let rows = late_rows(outcome, self.args.late_partial);
        if rows.is_empty() {
            return Ok(());
        }
        self.late_rows += rows.len() as u64;
        output.write(&late::batch(batch, &rows, &names)?).map(|_| ())
    }

    /// Emits what is due.
    fn fire(&mut self) -> Result<()> {
        let (stage, metrics) = (&mut self.stage, &mut self.metrics);
        self.window.fire(&mut |row| emit(stage, metrics, row))?;
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        if self.metrics.is_empty() {
            return Ok(());
        }
        let batch = self.metrics.finish(self.stage.schema())?;
        self.stage.write(&batch)
    }

    fn end(mut self, mut end: End) -> Result<u8> {
        let fire = match self.args.watermark.at_end {
            None => end.how == How::Exhausted,
            Some(at_end) => at_end == AtEnd::Fire,
        };
        let mut own = 0;
        if fire {
            let (stage, metrics) = (&mut self.stage, &mut self.metrics);
            self.window.on_exhausted(&mut |row| emit(stage, metrics, row))?;
        }
        self.flush()?;
        let held = self.window.held();
        if held > 0 {
            self.stage.note(format!("{held} windows held: they had not ended (--at-end fire)"));
            own = 1;
        }
        self.stage.counts.add_lost(&self.stage.source.counts());
        self.check_metrics()?;
        self.notes();
        self.stage.detail("held", held);
        if let Some(late) = self.late.take() {
            self.stage.tell_notices(&late.finish(&end)?, &mut end);
        }
        self.stage.finish(end, own)
    }

    /// The law of counts, per metric.
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
        self.stage.detail("late_rows", self.late_rows);
        Ok(())
    }

    /// What a person should know about the result.
    fn notes(&mut self) {
        let nulls: Vec<String> = self
            .window
            .always_null()
            .into_iter()
            .map(|(metric, path)| format!("{metric}: {path} was NULL in every event: is that its name?"))
            .collect();
        nulls.into_iter().for_each(|note| self.stage.note(note));
        let counts = self.window.counts();
        let notes: Vec<String> = self
            .window
            .metrics()
            .iter()
            .zip(counts)
            .filter_map(|(metric, counts)| late_note(&metric.name, counts, self))
            .collect();
        notes.into_iter().for_each(|note| self.stage.note(note));
    }
}

fn late_note(name: &str, counts: MetricCounts, job: &Job<'_>) -> Option<String> {
    let MetricCounts { late, half_late, late_idle, partial, bound_needed, .. } = counts;
    let mut told = vec![];
    if late > 0 {
        let bound = format_duration(bound_needed.max(0));
        told.push(match late > late_idle && !job.window.watermark().is_explicit() {
            true => format!("{late} late (--out-of-orderness {bound} would have lost none)"),
            false => format!("{late} late"),
        });
    }
    if half_late > 0 {
        told.push(format!("{half_late} half late"));
    }
    if late_idle > 0 {
        let flags = &job.args.watermark;
        let why = match flags.idle_after.is_some() || flags.new_partitions.is_some() {
            true => "because a partition was idle or new",
            false => "because the stream time of their partition went back",
        };
        told.push(format!("{late_idle} late {why}"));
    }
    if partial > 0 {
        told.push(format!("{partial} results left out as partial: the metric began within their window"));
    }
    (!told.is_empty()).then(|| format!("{name}: {}", told.join(", ")))
}

fn emit(stage: &mut Stage, metrics: &mut metric::Builder, row: &metric::Row<'_>) -> Result<()> {
    metrics.push(row)?;
    if metrics.is_full() {
        let batch = metrics.finish(stage.schema())?;
        stage.write(&batch)?;
    }
    Ok(())
}

/// Which rows go to `--late`: those late for some metric, and with `--late-partial` the half-late.
fn late_rows(outcome: &Outcome, with_partial: bool) -> Vec<late::Row> {
    let mut rows: Vec<late::Row> = vec![];
    for late in outcome.late.iter().filter(|late| with_partial || !late.half) {
        let counted = outcome.is_counted[late.row as usize];
        match rows.last_mut().filter(|row| row.row == late.row as usize) {
            Some(row) => row.metrics.push(late.metric as usize),
            None => {
                rows.push(late::Row { row: late.row as usize, metrics: vec![late.metric as usize], partial: counted })
            }
        }
    }
    rows
}
