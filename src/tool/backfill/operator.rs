//! The operator of the correction: validates events again, computes their windows again, and makes the stored cells
//! right.

use super::gaps::Gaps;
use super::late_input::LateInput;
use super::orphans::Orphans;
use super::setup::{InputOrder, Setup, StoreRows};
use crate::stage::feeds::FeedInput;
use crate::stage::operator::{Collector, InputEnded, Note, Operator};
use crate::tool::validation::Validate;
use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use evt_core::backfill::{
    CellContent, CellKey, Changes, Comparison, Coverage, Difference, LateCell, MetricScope, Scope, SessionPlan,
    StepScope,
};
use evt_core::counts::{Counts, counted};
use evt_core::error::{Error, Result};
use evt_core::frame::{self, Control, EndReason};
use evt_core::kind::event::{column, instants};
use evt_core::kind::span::Span;
use evt_core::kind::{self, Kind};
use evt_core::op::window::watermark::{self, Watermark};
use evt_core::op::window::{BatchOutcome, Emitter, Window};
use evt_core::time::{DAY, LATEST, format_instant};
use evt_store::correct::{CorrectionCounts, CorrectionStep, Part};
use std::collections::{BTreeMap, BTreeSet};

/// Number of cells that are compared in one step.
const STEP_CELLS: usize = 20_000;

/// The operator.
pub(super) struct Correct {
    window: Window,
    validate: Option<Validate>,
    setup: Setup,
    /// Right cells that were not compared yet.
    right: BTreeMap<CellKey, CellContent>,
    /// The watermark up to which all cells were compared (µs).
    done: i64,
    /// The day whose rows are read, or the first watermark of a stream (µs).
    day: i64,
    counts: CorrectionCounts,
    notes: ReportCounts,
    gaps: Gaps,
    orphans: Orphans,
    /// The number of rows of stores so far.
    read: u64,
    /// How far the rows of a store may be behind their stream time (µs); `None`: any distance.
    bound: Option<i64>,
    /// The watermark of topics while the windows wait for late events, or for the end.
    closing: Option<Watermark>,
    is_done: bool,
}

/// Counts for the report at the end.
#[derive(Default)]
struct ReportCounts {
    /// Sessions that touch the edge of what was read.
    partial: u64,
    /// Cells that no longer count late events.
    taken_out: u64,
    /// The first stored cell that counts events that the input does not hold.
    first_kept: Option<CellKey>,
    /// The watermark at which the correction ended (µs).
    closed: Option<i64>,
    /// Stored cells of windows that were open then and differ from those of the input.
    differing: u64,
    /// Sessions of late events that are not closed.
    open: u64,
    /// Sessions of late events that extend beyond what is corrected or was read.
    outside: u64,
}

impl Correct {
    /// Makes the operator; `options` are those of the watermark of `window`.
    pub fn new(mut window: Window, validate: Option<Validate>, mut setup: Setup, options: watermark::Options) -> Self {
        let (waits_for_late, order) = (setup.waits_for_late(), &mut setup.input.order);
        let is_store = matches!(order, InputOrder::Stores { .. });
        if waits_for_late || is_store {
            window.hold(); // In a stream the late events of a window follow after it has closed.
        }
        let is_topic = matches!(order, InputOrder::Streams { ends: false, .. });
        let margin = if is_topic { options.out_of_orderness.unwrap_or(i64::MAX) } else { 0 };
        let is_whole = match *order {
            // Raw files are read from their first record, so none is missing.
            InputOrder::Streams { ends, is_whole } => is_whole || ends && !options.explicit,
            InputOrder::Stores { .. } => false,
        };
        let mut gaps = Gaps::new(&setup.scope, margin, is_whole);
        if let InputOrder::Stores { extents, .. } = order {
            gaps.add_store(std::mem::take(extents));
        }
        // Events that are late may follow for windows that have fired, except in the order of days.
        let is_complete = is_store && !matches!(order, InputOrder::Stores { rows: StoreRows::Streams, .. });
        let times = std::mem::take(&mut setup.input.times);
        let orphans = Orphans::new(times, is_complete, setup.input.late_rules.clone());
        Self {
            window,
            validate,
            done: setup.progress.unwrap_or(i64::MIN),
            setup,
            right: BTreeMap::new(),
            day: i64::MIN,
            counts: CorrectionCounts::default(),
            notes: ReportCounts::default(),
            gaps,
            orphans,
            read: 0,
            bound: options.out_of_orderness,
            // Where no event is late, windows are closed that end before the last events of all partitions.
            closing: (is_topic && (waits_for_late || options.out_of_orderness.is_none())).then(|| {
                let bound = Some(options.out_of_orderness.unwrap_or(0));
                Watermark::new(watermark::Options { out_of_orderness: bound, ..options })
            }),
            is_done: false,
        }
    }

    /// Raises the watermark to the first row of a batch of a store, if its rows are in order.
    fn advance_explicit_watermark(&mut self, batch: &RecordBatch, out: &mut dyn Collector) -> Result<()> {
        let InputOrder::Stores { rows, closed: Some(closed), work, .. } = self.setup.input.order else { return Ok(()) };
        self.read += batch.num_rows() as u64;
        let times = match rows {
            StoreRows::Streams => instants(batch, column::STREAM_TIME),
            StoreRows::Days => instants(batch, column::EVENT_TIME),
        };
        let part = work.part(times, self.read);
        out.show_part(part.done, part.whole);
        match rows {
            StoreRows::Days => self.begin_day(times, closed, out),
            // The late events of a window follow after it has closed.
            StoreRows::Streams if self.setup.waits_for_late() => Ok(()),
            StoreRows::Streams => {
                let promised = times.first().zip(self.bound).map(|(first, bound)| first.saturating_sub(bound));
                promised.into_iter().for_each(|promised| self.window.on_explicit_watermark(promised.min(closed)));
                self.fire(false, out)
            }
        }
    }

    /// Raises the watermark to the day of the first row of a batch.
    fn begin_day(&mut self, times: &[i64], closed: i64, out: &mut dyn Collector) -> Result<()> {
        let Some(least) = times.iter().min() else { return Ok(()) };
        let day = least.div_euclid(DAY).saturating_mul(DAY);
        if day > self.day {
            self.day = day;
            self.window.on_explicit_watermark(day.min(closed));
            self.fire(true, out)?;
        }
        Ok(())
    }

    /// Computes the windows of a batch.
    fn compute(&mut self, batch: &RecordBatch, input: u32, out: &mut dyn Collector) -> Result<Counts> {
        self.orphans.times.add(instants(batch, column::EVENT_TIME));
        self.advance_explicit_watermark(batch, out)?;
        if let Some(closing) = &mut self.closing {
            closing.on_batch(batch, input)?;
        }
        let inside = match self.setup.input.span.keep(Kind::Event, batch) {
            Some(keep) => filter_record_batch(batch, &keep)?,
            None => batch.clone(),
        };
        let outside = (batch.num_rows() - inside.num_rows()) as u64;
        if outside > 0 {
            self.window.on_others(batch, input)?;
        }
        let mut counts = Counts { filtered: outside, ..Counts::default() };
        if inside.num_rows() > 0 {
            let outcome = self.window.on_batch(&inside, input)?;
            for (row, failed) in &outcome.failed {
                out.dead(&inside, *row, &failed.fault(self.window.metrics()))?;
            }
            if !self.setup.late.is_empty() {
                self.setup.late.on_batch(&inside, &outcome)?;
            }
            if !self.setup.removes_late {
                self.setup.late.note_late(&inside, &outcome, &mut self.orphans.times)?;
            }
            if let Some(late) = &mut self.setup.late_input {
                late.find(&inside)?;
            }
            let BatchOutcome { counted, late_rows, filtered, .. } = outcome;
            counts.add(&Counts { out: counted, late: late_rows, filtered, ..Counts::default() });
        }
        Ok(counts)
    }

    /// Keeps the cells that the window emits by `emit`.
    fn take_rows(&mut self, emit: impl FnOnce(&mut Window, &mut Emitter<'_>) -> Result<()>) -> Result<()> {
        let Self { window, setup, right, notes, .. } = self;
        emit(window, &mut |row| {
            take(row, &setup.scope, right, &mut notes.partial);
            Ok(())
        })
    }

    /// Takes the cells that are complete, and compares them if there are many of them or if `all`.
    fn fire(&mut self, all: bool, out: &mut dyn Collector) -> Result<()> {
        self.take_rows(Window::fire)?;
        let Some(watermark) = self.window.watermark().get() else { return Ok(()) };
        if watermark <= self.done {
            // An earlier run has made these cells right.
            self.right.clear();
        }
        if self.day == i64::MIN {
            self.day = watermark;
        }
        let far = watermark.saturating_sub(self.done.max(self.day)) >= DAY;
        if watermark > self.done && (all || far || self.right.len() >= STEP_CELLS) {
            // A stored cell whose session waits in a file would be taken for one without a right cell.
            self.take_rows(Window::settle)?;
            self.step(watermark, out)?;
        }
        let longest = self.setup.scope.metrics.iter().map(|metric| metric.lateness).max().unwrap_or(0);
        let until = self.setup.scope.range.until;
        let is_after = until.is_some_and(|until| watermark >= until.saturating_add(longest).saturating_add(1));
        self.is_done = is_after && !self.orphans.are_waiting();
        Ok(())
    }

    /// Compares the cells that are closed at `watermark`.
    fn step(&mut self, watermark: i64, out: &mut dyn Collector) -> Result<()> {
        let after = std::mem::replace(&mut self.done, watermark);
        let mut right = std::mem::take(&mut self.right);
        let Setup { scope, late, only_late, without_late, corrections, dry_run, .. } = &mut self.setup;
        let parts: Vec<Part> =
            scope.metrics.iter().map(|metric| part(metric, scope.range.since, after, watermark)).collect();
        let is_of_step = |key: &CellKey| {
            let of_part = |part: &Part| *part.metric == *key.metric && (part.after..part.to).contains(&(key.end - 1));
            scope.covers(key) && parts.iter().any(of_part)
        };
        let mut kept = vec![];
        for Part { metric, to, .. } in &parts {
            for (cell, content) in late.take(metric, *to) {
                if scope.covers(&cell.key) {
                    right.remove(&cell.key);
                    right.extend(content.map(|content| (cell.key.clone(), content)));
                    kept.push(cell);
                }
            }
        }
        let named: BTreeSet<CellKey> = kept.iter().map(|cell| cell.key.clone()).collect();
        let of_step = StepScope { scope, watermark, is_of_step: &is_of_step, only_late: *only_late };
        let mut plan = SessionPlan::new(late.take_sessions(), &of_step);
        plan.replace(&mut right);
        kept.append(&mut plan.kept);
        let (removed, rest): (Vec<LateCell>, Vec<LateCell>) = std::mem::take(without_late)
            .into_iter()
            .partition(|cell| is_of_step(&cell.key) && self.orphans.times.coverage(&cell.key) == Coverage::Compared);
        *without_late = rest;
        plan.to_remove.extend(removed.into_iter().map(|cell| cell.key));
        let without_late = std::mem::take(&mut plan.to_remove);
        self.notes.open += plan.open;
        self.notes.outside += plan.outside;
        let compares = |key: &CellKey| plan.compares(key).unwrap_or(!*only_late || named.contains(key));
        right.retain(|key, _| compares(key) && is_of_step(key));
        let covers = |key: &CellKey| match scope.covers(key) && compares(key) {
            true => self.orphans.coverage(key),
            false => Coverage::Other,
        };
        let (missing, first) = (&self.gaps.missing, self.orphans.first_so_far());
        let may_count_more = |key: &CellKey| self.orphans.is_undecided(key);
        let is_named = |key: &CellKey| named.contains(key) || plan.compares(key).is_some();
        let may_be_part = |key: &CellKey| self.orphans.is_undecided(key) && !is_named(key);
        let retracts = |key: &CellKey, rows| self.orphans.retracts(key, rows);
        let comparison = Comparison {
            missing,
            retracts: &retracts,
            may_count_more: &may_count_more,
            may_be_part: &may_be_part,
            first,
        };
        let (progress, orphans_wait) = (self.orphans.progress(watermark), !self.orphans.is_complete);
        let late = kept;
        let step =
            CorrectionStep { parts, covers: &covers, right, comparison, late, without_late, progress, orphans_wait };
        let difference = if *dry_run { corrections.compare(&step)? } else { corrections.apply(&step)? };
        self.notes.taken_out += step.released(&difference).count() as u64;
        let is_session = |key: &CellKey| self.gaps.missing.is_session(&key.metric);
        self.orphans.take(&difference, step.right.keys(), &is_session);
        self.count(&difference, out)
    }

    /// Counts the stored cells of windows that were open at `closed` and differ from those of the input.
    fn compare_open(&mut self, closed: i64) -> Result<()> {
        self.notes.closed = Some(closed);
        let Self { window, setup: Setup { scope, corrections, .. }, right, gaps, .. } = self;
        if closed == LATEST || scope.closed_before.is_some() || self.setup.only_late || !self.setup.late.is_empty() {
            return Ok(());
        }
        let mut differing = 0;
        let mut compare = |right: &mut BTreeMap<CellKey, CellContent>| -> Result<()> {
            let step = CorrectionStep {
                parts: parts_of(right.keys()),
                covers: &|key| if scope.covers(key) { Coverage::Compared } else { Coverage::Other },
                right: std::mem::take(right),
                comparison: Comparison::new(&gaps.missing, &|_, _| false),
                late: vec![],
                without_late: vec![],
                progress: closed,
                orphans_wait: false,
            };
            let changes = corrections.compare(&step)?.changes;
            differing += changes.iter().filter(|change| change.old.is_some() && change.new.is_some()).count() as u64;
            Ok(())
        };
        let mut end = i64::MIN;
        window.on_explicit_watermark(LATEST);
        window.fire(&mut |row| {
            // The windows of one end are compared together, so that the stored ones are read once.
            if std::mem::replace(&mut end, row.end) != row.end && right.len() >= STEP_CELLS {
                compare(right)?;
            }
            take(row, scope, right, &mut 0);
            Ok(())
        })?;
        compare(right)?;
        self.notes.differing = differing;
        Ok(())
    }

    /// Retracts the cells that have waited for the end of the stream, if they have no right one still.
    fn settle(&mut self, out: &mut dyn Collector) -> Result<()> {
        loop {
            let gone = self.orphans.next_retracted(STEP_CELLS);
            if gone.is_empty() {
                return Ok(());
            }
            let covers = |key: &CellKey| if gone.contains(key) { Coverage::Compared } else { Coverage::Other };
            let step = CorrectionStep {
                parts: parts_of(gone.iter()),
                covers: &covers,
                right: BTreeMap::new(),
                comparison: Comparison::new(&self.gaps.missing, &|_, _| true),
                late: vec![],
                without_late: vec![],
                progress: self.orphans.progress(self.done),
                orphans_wait: false,
            };
            let Setup { corrections, dry_run, .. } = &mut self.setup;
            let difference = if *dry_run { corrections.compare(&step)? } else { corrections.apply(&step)? };
            self.count(&difference, out)?;
        }
    }

    fn count(&mut self, difference: &Difference, out: &mut dyn Collector) -> Result<()> {
        self.counts.add(difference);
        let first_kept = self.orphans.take_kept(&difference.kept);
        self.notes.first_kept = self.notes.first_kept.take().or(first_kept);
        match self.setup.dry_run && !difference.changes.is_empty() {
            true => out.rows(&Changes::batch(&difference.changes, out.schema())?),
            false => Ok(()),
        }
    }

    /// Compares the remaining windows once all rows are read, and ends the correction; a stopped run only reports that.
    fn conclude(&mut self, how: EndReason, out: &mut dyn Collector) -> Result<()> {
        self.orphans.is_complete |= how != EndReason::Stopped;
        match &self.setup.input.order {
            _ if how == EndReason::Stopped => {
                out.warn("stopped; the same command resumes the correction");
                return Ok(());
            }
            InputOrder::Streams { ends: true, .. } if !self.is_done => {
                self.take_rows(Window::on_exhausted)?;
                self.step(i64::MAX, out)?;
            }
            InputOrder::Streams { .. } => {
                if let Some(watermark) = self.closing.as_ref().and_then(Watermark::get) {
                    self.window.on_explicit_watermark(watermark);
                }
                self.fire(true, out)?;
            }
            InputOrder::Stores { closed, .. } => {
                if let Some(closed) = *closed {
                    self.window.on_explicit_watermark(closed);
                    self.fire(true, out)?;
                    self.compare_open(closed)?;
                }
            }
        }
        self.notes.closed = self.notes.closed.or(self.window.watermark().get());
        self.settle(out)?;
        self.counts.left = self.orphans.left();
        if self.setup.dry_run {
            return Ok(());
        }
        let is_complete =
            self.setup.late.is_empty() && self.notes.open + self.notes.outside + self.orphans.undecided() == 0;
        let late = self.setup.late_input.as_ref().filter(|_| is_complete);
        let positions = late.map(LateInput::positions_to_keep).transpose()?;
        self.setup.corrections.finish(&positions.unwrap_or_default())
    }

    /// Adds the results to the report at the end.
    fn report(&mut self, how: EndReason, out: &mut dyn Collector) {
        out.detail("state_written", self.window.size().written.into());
        let CorrectionCounts { inserted, corrected, retracted, unchanged, .. } = self.counts;
        let would = if self.setup.dry_run { "would be " } else { "" };
        out.inform(format!(
            "cells: {corrected} {would}corrected, {inserted} {would}inserted, {retracted} {would}retracted, {unchanged} right"
        ));
        let metrics = self.window.metrics().iter().zip(self.window.counts());
        let late = metrics.filter_map(|(metric, counts)| counts.note(&metric.name, true));
        late.for_each(|line| out.inform(line));
        self.report_kept(out);
        let ReportCounts { partial, taken_out, open, outside, .. } = self.notes;
        if partial > 0 && !self.setup.only_late {
            let sessions = counted(partial, ["session", "sessions"]);
            out.inform(format!("{sessions} may begin before what was read (--before); not corrected"));
        }
        if taken_out > 0 {
            let cells = counted(taken_out, ["cell no longer counts", "cells no longer count"]);
            let would = if self.setup.dry_run { " after the correction" } else { "" };
            out.inform(format!("{cells} late events{would}"));
        }
        if how != EndReason::Stopped {
            if !self.setup.only_late {
                self.orphans.report(self.bound, out);
            }
            self.orphans.report_undecided(self.bound, out);
            self.report_open(out);
        }
        self.setup.late_input.iter().for_each(|late| late.report(out));
        if self.setup.late_input.is_some() && (!self.setup.late.is_empty() || open > 0) {
            let line = "some windows of late events are not closed by the input; the next run tries them again";
            out.warn(line);
            out.set_verdict(1);
        }
        if outside > 0 {
            let beyond = if self.setup.only_late { "was read (--before)" } else { "is corrected or was read" };
            let sessions = counted(outside, ["session", "sessions"]);
            let they = if outside == 1 { "it" } else { "they" };
            let line =
                format!("{sessions} of late events not corrected, because {they} may extend beyond what {beyond}");
            out.warn(line);
            out.set_verdict(u8::from(self.setup.only_late));
        }
        if self.setup.dry_run && self.counts.changes() > 0 {
            out.set_verdict(1);
        }
        // Counts always serialize.
        out.detail("cells", serde_json::to_value(self.counts).unwrap_or_default());
    }

    /// Warns of stored cells that count events that the input does not hold.
    fn report_kept(&self, out: &mut dyn Collector) {
        let (Some(key), Some(first)) = (&self.notes.first_kept, &self.gaps.first) else { return };
        let CellKey { metric, start, dimensions, .. } = key;
        out.warn(format!(
            "{} events that the input does not hold; not corrected, first {metric} {dimensions} from {}; \
             the input begins at {first} (if it holds all records that the live run read, use --all-records)",
            counted(self.counts.kept - self.orphans.undecided(), ["stored window counts", "stored windows count"]),
            format_instant(*start)
        ));
        if self.setup.late_input.is_some() {
            out.set_verdict(1);
        }
    }

    /// Reports the windows of the range that are not closed yet.
    fn report_open(&self, out: &mut dyn Collector) {
        let ReportCounts { closed, differing, .. } = self.notes;
        let Scope { range: Span { since, until }, closed_before, .. } = self.setup.scope;
        let line = match (&self.setup.input.order, closed) {
            (InputOrder::Streams { ends: true, .. }, _) if closed_before.is_none() => return,
            (_, closed) if closed_before.is_some_and(|before| closed.is_none_or(|closed| before < closed)) => {
                let before = format_instant(closed_before.unwrap_or_default());
                format!("windows that were open at {before} (--closed-before) are not corrected")
            }
            (InputOrder::Streams { ends: true, .. }, _) | (_, Some(LATEST)) => return,
            (_, Some(closed)) if until.is_some_and(|until| until <= closed) => return,
            (InputOrder::Stores { held_by: Some(held_by), .. }, Some(closed)) => {
                let differ = counted(differing, ["stored row of them differs", "stored rows of them differ"]);
                let differ = if differing > 0 { format!("{differ} from the input; ") } else { String::new() };
                format!(
                    "windows that were open at {} are not corrected; {differ}{held_by}; --all-closed corrects them, too, if no more \
                     rows come",
                    format_instant(closed)
                )
            }
            (_, Some(closed)) => {
                let slowest = self.window.watermark().slowest();
                let held_by =
                    slowest.map(|(origin, partition)| format!("; partition {partition} of {origin} ends there"));
                let held_by = held_by.unwrap_or_default();
                format!("windows that were open at {} are not corrected{held_by}", format_instant(closed))
            }
            (_, None) => "no window is closed; nothing was corrected".to_owned(),
        };
        // A range that was named has not been corrected as a whole, or not at all.
        let is_named = until.is_some() || since.is_some_and(|since| closed.is_none_or(|closed| closed <= since));
        out.note(if is_named || differing > 0 { Note::Warning(line) } else { Note::Info(line) });
    }
}

/// Returns the stored cells of a metric that close between two watermarks.
fn part(metric: &MetricScope, since: Option<i64>, after: i64, watermark: i64) -> Part {
    let closing = metric.closing();
    let (after, to) = (closing.closed_end(after), closing.closed_end(watermark));
    let since = since.unwrap_or(i64::MIN);
    let since = metric.shape.layout().map_or(since, |layout| since.max(layout.first_start(after)));
    Part { metric: metric.name.to_string(), after, to, since }
}

/// Returns the stored cells among which cells in the order of their keys are.
fn parts_of<'a>(keys: impl Iterator<Item = &'a CellKey>) -> Vec<Part> {
    let mut parts: BTreeMap<&str, Part> = BTreeMap::new();
    for CellKey { end, start, metric, .. } in keys {
        let new = || Part { metric: metric.to_string(), after: end.saturating_sub(1), to: *end, since: *start };
        let part = parts.entry(metric).or_insert_with(new);
        (part.to, part.since) = (*end, part.since.min(*start));
    }
    parts.into_values().collect()
}

/// Keeps a computed cell that the correction covers.
fn take(row: &kind::metric::Row<'_>, scope: &Scope, right: &mut BTreeMap<CellKey, CellContent>, partial: &mut u64) {
    let Some(metric) = scope.metric(row.name).filter(|_| scope.range.holds(row.start, row.end) && !row.retracted)
    else {
        return;
    };
    let dimensions = row.dimensions.to_owned();
    let key = CellKey { end: row.end, start: row.start, metric: metric.name.clone(), dimensions };
    if scope.covers(&key) {
        let rows = i64::try_from(row.rows).unwrap_or(i64::MAX);
        right.insert(key, CellContent { value: row.value, rows });
    } else if scope.is_partial(metric, &key) {
        *partial += 1;
    }
}

impl Operator for Correct {
    fn on_batch(&mut self, batch: RecordBatch, from: FeedInput, out: &mut dyn Collector) -> Result<Counts> {
        let mut counts = Counts { taken: batch.num_rows() as u64, ..Counts::default() };
        self.setup.pace.wait(counts.taken, &self.setup.run)?;
        if let InputOrder::Streams { ends, .. } = self.setup.input.order {
            for first in self.gaps.add_batch(&batch).into_iter().filter(|_| !ends) {
                out.report(Note::Warning(format!(
                    "{first}: records before it are missing, so its stream time is unknown; rows that were late in the \
                     live run may be counted"
                )));
            }
        }
        let batch = match &mut self.validate {
            Some(validate) => validate.keep(batch, &mut counts, out)?,
            None => batch,
        };
        let computed = self.compute(&batch, from.input, out)?;
        self.fire(false, out)?;
        Ok(Counts { taken: counts.taken, duplicate: counts.duplicate, ..computed })
    }

    fn on_control(&mut self, message: Control, _from: FeedInput, out: &mut dyn Collector) -> Result<()> {
        match message {
            Control::Progress(mut progress) => {
                if let InputOrder::Streams { ends: false, .. } = self.setup.input.order {
                    // The end of a topic is not the end of its stream: a partition with records stays in the minimum.
                    let with_rows = progress.partitions.iter_mut().filter(|partition| partition.stream_time.is_some());
                    with_rows.for_each(|partition| partition.state = frame::State::Live);
                }
                if let InputOrder::Streams { .. } = self.setup.input.order {
                    self.window.on_progress(&progress)?;
                }
                if let Some(closing) = &mut self.closing {
                    closing.on_progress(&progress)?;
                }
                self.fire(false, out)?;
                out.control(&Control::Progress(progress))
            }
            // The late events of a window follow after it has closed.
            Control::Watermark(instant) if self.setup.waits_for_late() => {
                self.closing.iter_mut().for_each(|closing| closing.on_explicit_watermark(instant));
                Ok(())
            }
            Control::Watermark(instant) => {
                self.window.on_explicit_watermark(instant);
                self.fire(false, out)
            }
            other => out.control(&other),
        }
    }

    fn on_end(&mut self, ended: &InputEnded, out: &mut dyn Collector) -> Result<Counts> {
        self.conclude(ended.end.how, out)?;
        self.report(ended.end.how, out);
        Ok(Counts::default())
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn restore(self: Box<Self>, _state: &[u8]) -> Result<Box<dyn Operator>> {
        Err(Error::broken("a correction has no checkpoint; it resumes from its progress in the store"))
    }
}
