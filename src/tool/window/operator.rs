//! The operator of evt-window.

use super::late_output::Late;
use super::progress::StatedProgress;
use super::results::Results;
use super::stall::StallMonitor;
use crate::stage::feeds::FeedInput;
use crate::stage::operator::{Collector, InputEnded, Note, Operator, Snapshot};
use arrow::array::RecordBatch;
use clap::ValueEnum;
use evt_core::counts::{Counts, counted};
use evt_core::error::{Error, Result};
use evt_core::expr::rounded_integers;
use evt_core::frame::{self, Control, EndReason, Progress};
use evt_core::kind::metric;
use evt_core::op::state_storage::StateStorage;
use evt_core::op::window::watermark::{ContinuedTopic, LastPartition, OutOfOrderness};
use evt_core::op::window::{BatchOutcome, MetricCounts, Window};
use evt_core::parse::excerpt::brief;
use evt_core::time::{SECOND, format_instant};
use evt_run::input::UnreadPartition;
use evt_run::metrics;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AtEnd {
    /// All open windows fire
    Fire,
    /// Only those fire that are before the watermark; partitions of topics do not end at end=
    Hold,
}

/// The operator of evt-window: windows, late rows, and reports about a watermark that does not advance.
pub(super) struct Windows {
    pub(super) window: Window,
    pub(super) stall: StallMonitor,
    pub(super) late: Late,
    pub(super) results: Results,
    pub(super) progress: StatedProgress,
    /// All rows.
    pub(super) seen: u64,
    pub(super) at_end: Option<AtEnd>,
    pub(super) bound: OutOfOrderness,
    /// Whether windows that are held are kept in a checkpoint.
    pub(super) is_checkpointed: bool,
    pub(super) strict: bool,
    pub(super) quiet: bool,
    /// Whether the message that reading continues after a signal has been printed.
    pub(super) has_told_stop: bool,
}

impl Operator for Windows {
    fn on_batch(&mut self, batch: RecordBatch, from: FeedInput, out: &mut dyn Collector) -> Result<Counts> {
        if self.window.is_exhausted() {
            return Err(Error::config(
                "expected no further rows after --at-end fire, which has ended all windows of the checkpoint; runs that \
                 continue use --at-end hold",
            ));
        }
        self.progress.see(&batch);
        let outcome = self.window.on_batch(&batch, from.input)?;
        for (row, failed) in &outcome.failed {
            out.dead(&batch, *row, &failed.fault(self.window.metrics()))?;
        }
        if !outcome.late.is_empty() {
            let names: Vec<&str> = self.window.metrics().iter().map(|metric| metric.name.as_str()).collect();
            self.late.take(&batch, &outcome, &names, out)?;
        }
        let taken = batch.num_rows() as u64;
        self.seen += taken;
        self.stall.observe(self.window.watermark(), out.elapsed());
        self.work(out)?;
        let BatchOutcome { counted, late_rows, filtered, .. } = outcome;
        Ok(Counts { taken, out: counted, late: late_rows, filtered, ..Counts::default() })
    }

    fn on_control(&mut self, message: Control, _from: FeedInput, out: &mut dyn Collector) -> Result<()> {
        match message {
            Control::Progress(progress) => {
                self.window.on_progress(&progress)?;
                self.fire(out)?;
                let has_ended = progress.partitions.iter().any(|partition| partition.state == frame::State::Ended);
                let partitions = if has_ended { progress.partitions } else { vec![] };
                out.control(&Control::Progress(Progress { partitions, ..progress }))
            }
            Control::Watermark(instant) => {
                self.window.on_explicit_watermark(instant);
                self.fire(out)
            }
            other => out.control(&other),
        }
    }

    fn on_idle(&mut self, out: &mut dyn Collector) -> Result<()> {
        self.work(out)
    }

    /// Only here a partition becomes idle: the rows of a backlog may be those that it lacks.
    fn on_drained(&mut self, unread: &dyn Fn() -> Vec<UnreadPartition>, out: &mut dyn Collector) -> Result<()> {
        let idle = self.stall.idle(self.window.watermark(), unread, out.elapsed());
        idle.iter().for_each(|partition| self.window.set_idle(*partition));
        if idle.is_empty() { Ok(()) } else { self.fire(out) }
    }

    fn on_end(&mut self, ended: &InputEnded, out: &mut dyn Collector) -> Result<Counts> {
        let fires = match self.at_end {
            None => ended.end.how == EndReason::Exhausted && !self.is_checkpointed,
            // A checkpoint whose windows have fired takes no further rows, so a run that was stopped must not fire
            // them.
            Some(at_end) => at_end == AtEnd::Fire && (ended.end.how == EndReason::Exhausted || !self.is_checkpointed),
        };
        let Self { results, progress, window, .. } = self;
        let mut emit = |row: &metric::Row<'_>| {
            progress.state_first(out)?;
            results.push(row, out)
        };
        if fires {
            window.on_exhausted(&mut emit)?;
        }
        window.settle(&mut emit)?;
        self.results.write(out)?;
        let has_fired_all = fires && ended.end.how == EndReason::Exhausted;
        if has_fired_all {
            self.progress.state_all(out)?;
        } else {
            self.progress.state(self.window.emitted(), out)?;
        }
        self.set_metrics(out);
        let held = self.window.held();
        if held > 0 && self.is_checkpointed {
            out.note(self.held_message(held));
        } else if held > 0 {
            let windows = counted(held, ["open window", "open windows"]);
            out.warn(match self.window.watermark().waits_for_end() {
                true => format!(
                    "nothing has fired, {windows} held: --out-of-orderness all, the default for inputs that end, waits for the \
                     end; --out-of-orderness 30s fires windows before it, --at-end fire also at a signal"
                ),
                false => format!("{windows} held, not emitted (--at-end fire emits them)"),
            });
            out.set_verdict(1);
        }
        for metric in self.window.ended_metrics() {
            let line = format!("{metric}: in the checkpoint and not in this run; its open windows are dropped");
            out.warn(line);
        }
        self.check_metrics(out)?;
        self.report(out);
        out.detail("out_of_orderness", self.bound.to_string().into());
        out.detail("held", held.into());
        out.detail("state_written", self.window.size().written.into());
        out.detail("late_rows", out.side_rows().into());
        if self.late.is_any() && (!out.has_side() || self.strict) {
            out.set_verdict(1);
        }
        Ok(Counts::default())
    }

    fn watermark(&self) -> Option<i64> {
        self.window.watermark().get()
    }

    fn snapshot(&mut self) -> Snapshot {
        Snapshot { spec: self.window.spec(), state: self.window.snapshot() }
    }

    fn set_storage(&mut self, storage: Box<dyn StateStorage>) {
        self.window.set_storage(storage);
    }

    fn state_files(&mut self) -> Result<Vec<String>> {
        self.window.files()
    }

    fn restore(self: Box<Self>, state: &[u8]) -> Result<Box<dyn Operator>> {
        let window = Window::restore(self.window.into_options(), state)?;
        let mut restored = Self { window, ..*self };
        let had_rows = restored.window.watermark().greatest_ever().is_some();
        restored.progress.continues(restored.window.emitted(), had_rows);
        Ok(Box::new(restored))
    }

    fn begin_run(&mut self, continued: &[ContinuedTopic]) {
        self.window.begin_run(continued);
    }
}

impl Windows {
    /// Does the time-driven work: prints reports, fires windows, sets metrics.
    fn work(&mut self, out: &mut dyn Collector) -> Result<()> {
        if let Some(line) = self.stall.stalled(self.window.watermark(), out.elapsed()) {
            out.report(Note::Info(line));
        }
        if let Some(line) = if out.has_side() { None } else { self.late.due(out.now()) } {
            out.report(Note::Warning(line));
        }
        if out.is_stopping() && !std::mem::replace(&mut self.has_told_stop, true) && !self.quiet {
            out.report(Note::Info("stopping; reading up to the end that the first stage sends".to_owned()));
        }
        self.fire(out)?;
        self.set_metrics(out);
        Ok(())
    }

    /// Emits the results that are due.
    fn fire(&mut self, out: &mut dyn Collector) -> Result<()> {
        let Self { results, progress, window, .. } = self;
        let mut has_fired = false;
        window.fire(&mut |row| {
            has_fired = true;
            progress.state_first(out)?;
            results.push(row, out)
        })?;
        self.results.write(out)?;
        if has_fired { self.progress.state(self.window.emitted(), out) } else { Ok(()) }
    }

    /// Returns the message about open windows in the checkpoint: how many, and what they wait for.
    fn held_message(&self, held: u64) -> Note {
        let windows = counted(held, ["open window is", "open windows are"]);
        let watermark = self.window.watermark();
        let last = watermark.last();
        // Mapped partitions become known at the end of the input, when the watermark is held.
        let never_was = watermark.get().is_none() && last.is_none() && !watermark.waits_for_end();
        // A run without rows learns of no partitions.
        if never_was || self.seen > 0 && !watermark.is_complete() {
            return Note::Warning(format!(
                "{windows} held in the checkpoint, and none can fire: --field maps the partition; list the mapped \
                 partitions with --partitions NAME,…"
            ));
        }
        let mut line = format!("{windows} held in the checkpoint");
        if let Some(LastPartition { origin, name, stream_time, greatest }) = last {
            let at = stream_time.map_or("has no events".to_owned(), |time| format!("is at {}", format_instant(time)));
            line += &format!(
                "; partition {name} of {origin} {at}, the partition furthest ahead at {}",
                format_instant(greatest)
            );
        }
        Note::Info(line)
    }

    fn set_metrics(&mut self, out: &mut dyn Collector) {
        let (now, metrics) = (out.now(), out.metrics());
        if !metrics.is_on() {
            return;
        }
        metrics.set_state(&self.window.size());
        metrics.set(&metrics::OPEN_WINDOWS, &[], self.window.held() as f64);
        // Once all inputs have ended, the watermark is no instant.
        if let Some(watermark) = self.window.watermark().get().filter(|_| !self.window.is_exhausted()) {
            let lag = now.saturating_sub(watermark) as f64 / SECOND as f64;
            metrics.set(&metrics::WATERMARK_LAG, &[], lag);
        }
    }

    /// Checks the law of counts per metric.
    fn check_metrics(&self, out: &mut dyn Collector) -> Result<()> {
        let mut named = serde_json::Map::new();
        for (metric, counts) in self.window.metrics().iter().zip(self.window.counts()) {
            let (name, seen) = (&metric.name, self.seen);
            let MetricCounts { counted, late, filtered, failed, half_late, .. } = counts;
            if seen != counted + late + filtered + failed || half_late > counted {
                return Err(Error::broken(format!(
                    "law of counts: {name}: {seen} seen, {counted} counted, {late} late, {filtered} filtered, {failed} failed, \
                     {half_late} half late"
                )));
            }
            // Counts always serialize.
            named.insert(name.clone(), serde_json::to_value(counts).unwrap_or_default());
        }
        out.detail("metrics", named.into());
        Ok(())
    }

    /// Adds notes about the result to the summary.
    fn report(&self, out: &mut dyn Collector) {
        for (metric, line) in self.window.null_lines() {
            out.warn(format!("{}: {line}", brief(metric)));
        }
        for (metric, path) in self.window.rounded() {
            out.warn(format!("{}: {}", brief(metric), rounded_integers(&path)));
        }
        match self.late.rest(out.has_side()) {
            Some(line) if !out.has_side() => out.warn(line),
            Some(line) => out.inform(line),
            None => {}
        }
        let counts = self.window.counts();
        let of_each = counts.len() > 1;
        let each = self.window.metrics().iter().zip(counts);
        let notes = each.filter_map(|(metric, counts)| counts.note(&metric.name, of_each));
        notes.for_each(|note| out.inform(note));
        self.results.notes(out).into_iter().for_each(|note| out.note(note));
    }
}
