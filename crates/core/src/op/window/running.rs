//! One metric with its state: judges each row by the row's own bound and adds it to the slot of its key and windows.

use super::key::Keys;
use super::metric::{Layout, Metric, Shape, WindowSpan};
use super::outcome::{BatchOutcome, FailedRow, FailedRows, LateRow, RowRef};
use super::shape::ends::EndRange;
use super::shape::session::{SessionRule, Sessions};
use super::shape::slice::{Placement, Slices};
use super::shape::spilled::SpilledWindows;
use super::shape::window_spec::WindowSpec;
use super::slots::Slots;
use crate::error::Result;
use crate::expr::{LeafBatch, WrongRows, wrong_of};
use crate::kind::event::{column, instant_buffer};
use crate::kind::values::truth;
use crate::parse::excerpt::brief;
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, ScalarBuffer};

/// Counts of the rows of one metric, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MetricCounts {
    /// Rows in at least one of its windows.
    pub counted: u64,
    /// Rows too late for all of its windows.
    pub late: u64,
    /// Rows that its `where` rejected or that are in no window.
    pub filtered: u64,
    /// Rows for which one of its expressions failed.
    pub failed: u64,
    /// Of the counted, those too late for some of their windows.
    pub half_late: u64,
    /// Rows late only because a partition was idle or new.
    pub late_idle: u64,
    /// Result rows that were not emitted because the metric began inside their window.
    pub partial: u64,
    /// The least out-of-orderness (µs) with which no row would be late or half late, except rows that are late only
    /// because a partition was idle or new.
    pub bound_needed: i64,
}

impl MetricCounts {
    /// Describes the rows that a metric left out; late and failed ones only if there are several metrics
    /// (`with_late`).
    pub fn note(&self, name: &str, with_late: bool) -> Option<String> {
        let Self { late, half_late, failed, partial, .. } = *self;
        let mut parts = vec![];
        if failed > 0 && with_late {
            parts.push(format!("{failed} failed"));
        }
        if late > 0 && with_late {
            parts.push(format!("{late} late"));
        }
        if half_late > 0 && with_late {
            parts.push(format!("{half_late} half late"));
        }
        if partial > 0 {
            parts.push(format!("{partial} partial results not written: their windows began before the metric"));
        }
        (!parts.is_empty()).then(|| format!("{}: {}", brief(name), parts.join(", ")))
    }
}

/// The windows of one metric.
pub(crate) enum MetricWindows {
    Slices(Slices, WindowSpec),
    Sessions(Sessions, SessionRule),
    /// Their state is in files.
    Spilled(SpilledWindows),
}

/// Keys shared by the metrics with the same dimensions: each row's key is looked up once for all of them.
#[derive(Default)]
pub(crate) struct KeyGroup {
    pub(crate) keys: Keys,
    /// The key of each row of the current batch.
    pub(crate) ids: Vec<u32>,
}

/// One metric with its state.
pub(crate) struct RunningMetric {
    pub(crate) slots: Slots,
    pub(crate) windows: MetricWindows,
    /// The greatest stream time (µs) of the rows that came before the metric was added to a restored state; `None` if
    /// the metric has had all rows.
    pub(crate) since: Option<i64>,
    pub(crate) counts: MetricCounts,
}

impl RunningMetric {
    /// Returns how far behind the watermark (µs) a window may fire, because its state is in files.
    pub(crate) fn deferral(&self) -> i64 {
        if let MetricWindows::Spilled(spilled) = &self.windows { spilled.deferral() } else { 0 }
    }

    /// Returns the windows of the metric for the time when its state is in files. `delay` is how long (µs) after its
    /// end a window fires, `fired` the watermark up to which windows have fired.
    pub(crate) fn spilled(&mut self, delay: i64, fired: Option<i64>) -> SpilledWindows {
        match &mut self.windows {
            MetricWindows::Slices(slices, spec) => {
                let mut spilled = SpilledWindows::slices(*spec, delay);
                let (waiting, spans) = slices.ends();
                spilled.take_ends(waiting, spans, fired);
                spilled
            }
            MetricWindows::Sessions(sessions, rule) => {
                let mut spilled = SpilledWindows::sessions(*rule, delay);
                spilled.on_sessions(sessions.earliest(*rule, delay), sessions.held());
                spilled
            }
            MetricWindows::Spilled(_) => SpilledWindows::sessions(SessionRule { gap: 0, lateness: 0 }, delay),
        }
    }

    /// Whether a window that starts at `start` may have rows that came before the metric was added. A row at `since` is
    /// in a window that starts there; for sessions, it is also in one that starts up to a gap later.
    pub(crate) fn is_partial(&self, start: i64, shape: Shape) -> bool {
        let reach = if let Shape::Session { gap } = shape { gap } else { 0 };
        self.since.is_some_and(|since| start <= since.saturating_add(reach))
    }

    /// Creates a metric without state.
    pub(crate) fn new(metric: &Metric) -> Self {
        let lateness = metric.lateness;
        let slices = |layout| MetricWindows::Slices(Slices::default(), WindowSpec { layout, lateness });
        let windows = match metric.shape {
            Shape::Sliding { size, slide, align } => slices(Layout::Even { size, slide, align }),
            Shape::Calendar(calendar) => slices(Layout::Calendar(calendar)),
            Shape::Session { gap } => MetricWindows::Sessions(Sessions::default(), SessionRule { gap, lateness }),
        };
        Self { slots: Slots::new(metric.call.create()), windows, since: None, counts: MetricCounts::default() }
    }
}

/// The columns of a batch that one metric reads.
pub(crate) struct MetricView {
    /// The metric's index.
    pub(crate) metric: u32,
    pub(crate) event_times: ScalarBuffer<i64>,
    pub(crate) stream_times: ScalarBuffer<i64>,
    /// The rows that pass its `where`; `None` if there is no `where`.
    pub(crate) passed: Option<BooleanBuffer>,
    /// The rows for which no expression of the metric failed; `None` if none failed for any row.
    pub(crate) living: Option<BooleanBuffer>,
    pub(crate) args: Vec<ArrayRef>,
}

/// The bounds that rows are compared with.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) out_of_orderness: i64,
    /// The watermark up to which state has been dropped. It is greater than a row's own bound only if a partition was
    /// idle or new.
    pub(crate) closed: Option<i64>,
    /// The watermark up to which windows have fired; `None` if a window fires when its state is dropped.
    pub(crate) fired: Option<i64>,
    /// Least and greatest event time, and greatest stream time, of all rows.
    pub(crate) extent: TimeBounds,
    /// The ends of the windows that count rows: all, or a range of state in files.
    pub(crate) ends: EndRange,
}

impl Bounds {
    /// Returns the bound (µs) of a row by its own stream time.
    #[inline]
    fn own(&self, stream_time: i64) -> i64 {
        stream_time.saturating_sub(self.out_of_orderness)
    }

    /// Returns the bound (µs) of a row that its windows are compared with, which is never before the watermark up to
    /// which state has been dropped.
    #[inline]
    pub(crate) fn of_row(&self, stream_time: i64) -> i64 {
        self.own(stream_time).max(self.closed.unwrap_or(i64::MIN))
    }
}

/// Least and greatest event time, and greatest stream time, of the rows of a batch.
#[derive(Clone, Copy)]
pub(crate) struct TimeBounds {
    least: i64,
    greatest: i64,
    stream: i64,
}

impl TimeBounds {
    pub(crate) fn new(event_times: &[i64], stream_times: &[i64]) -> Self {
        Self {
            least: event_times.iter().copied().min().unwrap_or(i64::MAX),
            greatest: event_times.iter().copied().max().unwrap_or(i64::MIN),
            stream: stream_times.iter().copied().max().unwrap_or(i64::MIN),
        }
    }
}

impl MetricView {
    /// Evaluates the expressions of each metric, but for its dimensions.
    pub(crate) fn of_metrics(metrics: &[Metric], batch: &RecordBatch, leaves: &LeafBatch) -> Result<Vec<Self>> {
        let view = |(index, metric): (u32, &Metric)| {
            let passed = metric.filter.as_ref().map(|filter| filter.eval(leaves)).transpose()?;
            let args: Vec<ArrayRef> = metric.call.args().iter().map(|arg| arg.eval(leaves)).collect::<Result<_>>()?;
            Ok(Self {
                metric: index,
                event_times: instant_buffer(batch, column::EVENT_TIME),
                stream_times: instant_buffer(batch, column::STREAM_TIME),
                passed: passed.map(|array| truth(array.as_boolean())),
                living: None,
                args,
            })
        };
        (0..).zip(metrics).map(view).collect()
    }

    #[inline]
    pub(crate) fn passes(&self, row: usize) -> bool {
        self.passed.as_ref().is_none_or(|passed| passed.value(row))
    }
}

/// The time span of the slice that was used last. Most rows fall into the same slice, count for its first window, and
/// belong to no window that has fired.
#[derive(Clone, Copy)]
struct CachedSlice {
    start: i64,
    width: u64,
    /// The slice counts a row only if the bound of the row is below this (µs).
    open: i64,
}

impl CachedSlice {
    const NOTHING: Self = Self { start: 0, width: 0, open: i64::MIN };

    fn new(span: WindowSpan, first_end: i64, spec: WindowSpec, fired: Option<i64>) -> Self {
        let even = spec.layout.is_even() && first_end == span.first_end;
        if !even || fired.is_some_and(|fired| first_end <= fired) {
            return Self::NOTHING;
        }
        let width = u64::try_from(span.first_end - span.slice).unwrap_or(0);
        Self { start: span.slice, width, open: spec.closing().at(first_end) }
    }

    #[inline(always)]
    fn holds(self, time: i64, bound: i64) -> bool {
        (time.wrapping_sub(self.start) as u64) < self.width && bound < self.open
    }
}

/// The slot of a row that is not in a cached slice, or why it has none.
enum Assignment {
    /// The row goes to this slot. The second field is the time (µs) at which the first of its windows closes, if that
    /// window does not count the row.
    Slot(u32, Option<i64>),
    /// The row is too late. The fields are the times (µs) at which the first and the last of its windows close.
    Late { first: i64, last: i64 },
    /// The row is in no window.
    Outside,
    /// The row counts for state in files; the field is as the second one of `Slot`.
    Kept(Option<i64>),
    /// Only the state in files can judge the row.
    Undecided,
}

impl RunningMetric {
    /// Adds the rows of a batch to the slots and records their outcomes.
    pub(crate) fn add(&mut self, view: &MetricView, bounds: &Bounds, group: &mut KeyGroup, outcome: &mut BatchOutcome) {
        let rows = group.ids.len();
        match &mut self.windows {
            MetricWindows::Spilled(spilled) => spilled.begin(rows),
            _ => self.slots.reserve(rows),
        }
        let asked = match (&view.passed, &view.living) {
            (None, None) => None,
            (Some(passed), None) => Some(passed.clone()),
            (None, Some(living)) => Some(living.clone()),
            (Some(passed), Some(living)) => Some(passed & living),
        };
        let living = view.living.as_ref().map_or(rows, BooleanBuffer::count_set_bits);
        self.counts.failed += (rows - living) as u64;
        match &asked {
            None if self.together(bounds, group, outcome) => {}
            None => self.rows(0..rows, view, bounds, group, outcome),
            Some(asked) => {
                self.counts.filtered += (living - asked.count_set_bits()) as u64;
                self.rows(asked.set_indices(), view, bounds, group, outcome);
            }
        }
        self.slots.flush(&view.args);
    }

    /// Adds all rows at once if they are in one slice, count for its first window, and belong to no window that has
    /// fired. Returns whether it did.
    fn together(&mut self, bounds: &Bounds, group: &mut KeyGroup, outcome: &mut BatchOutcome) -> bool {
        let KeyGroup { keys, ids, .. } = group;
        if ids.is_empty() {
            return true;
        }
        let spec = match &self.windows {
            MetricWindows::Slices(_, spec) => Some(*spec),
            MetricWindows::Spilled(spilled) => spilled.spec(),
            MetricWindows::Sessions(..) => None,
        };
        let Some(spec) = spec else { return false };
        let TimeBounds { least, greatest, stream } = bounds.extent;
        let bound = bounds.of_row(stream);
        let Some(span) = spec.layout.windows_of(least) else { return false };
        let first_end = span.first_end;
        let slice = CachedSlice::new(span, first_end, spec, bounds.fired);
        if !bounds.ends.contains(first_end) || !bounds.ends.contains(span.last_end) {
            return false;
        }
        if !slice.holds(least, bound) || !slice.holds(greatest, bound) {
            return false;
        }
        match &mut self.windows {
            MetricWindows::Slices(slices, _) => {
                let mut found = self.slots.take_list();
                found.resize(ids.len(), 0);
                let mut done = 0;
                while done < ids.len() {
                    done += slices.cached_slots(span.slice, first_end, &ids[done..], &mut found[done..]);
                    if let (Some(&key), Some(found)) = (ids.get(done), found.get_mut(done)) {
                        let place = Placement { key, span, first_end };
                        *found = slices.slot(place, bounds.fired, spec, keys, &mut self.slots);
                        done += 1;
                    }
                }
                self.slots.add_all(found);
            }
            MetricWindows::Spilled(spilled) => spilled.keep_all(span, first_end, bounds.fired),
            MetricWindows::Sessions(..) => return false,
        }
        self.counts.counted += ids.len() as u64;
        outcome.is_counted.fill(true);
        true
    }

    #[inline(always)]
    fn rows(
        &mut self,
        rows: impl Iterator<Item = usize>,
        view: &MetricView,
        bounds: &Bounds,
        group: &mut KeyGroup,
        outcome: &mut BatchOutcome,
    ) {
        let KeyGroup { keys, ids, .. } = group;
        let mut cached = CachedSlice::NOTHING;
        for row in rows {
            let (key, time, bound) = (ids[row], view.event_times[row], bounds.of_row(view.stream_times[row]));
            if cached.holds(time, bound) {
                match &mut self.windows {
                    MetricWindows::Slices(slices, ..) => {
                        if let Some(slot) = slices.cached_slot(key) {
                            self.put(row, slot, outcome);
                            continue;
                        }
                    }
                    MetricWindows::Spilled(spilled) => {
                        spilled.keep_same(row);
                        self.count(row, outcome);
                        continue;
                    }
                    MetricWindows::Sessions(..) => {}
                }
            }
            let coming = RowRef { row, key, time, bound, own: bounds.own(view.stream_times[row]) };
            match self.assign(coming, view, bounds, keys, &mut cached) {
                Assignment::Outside => self.counts.filtered += 1,
                Assignment::Late { first, last } => self.reject(coming, first, last, view, outcome),
                Assignment::Slot(slot, missed) => {
                    self.put(row, slot, outcome);
                    self.miss(coming, missed, view, outcome);
                }
                Assignment::Kept(missed) => {
                    self.count(row, outcome);
                    self.miss(coming, missed, view, outcome);
                }
                Assignment::Undecided => {}
            }
        }
    }

    #[inline(always)]
    fn put(&mut self, row: usize, slot: u32, outcome: &mut BatchOutcome) {
        self.slots.add(slot, row as u32);
        self.count(row, outcome);
    }

    #[inline(always)]
    fn count(&mut self, row: usize, outcome: &mut BatchOutcome) {
        self.counts.counted += 1;
        outcome.is_counted[row] = true;
    }

    /// Notes that a row is late for all of its windows; the first and the last close at these times.
    fn reject(&mut self, coming: RowRef, first: i64, last: i64, view: &MetricView, outcome: &mut BatchOutcome) {
        self.counts.late += 1;
        self.counts.late_idle += u64::from(coming.own < last);
        let needed = if coming.own < last { None } else { self.needed(coming, first, view) };
        outcome.late.push(LateRow { row: coming.row as u32, metric: view.metric, half: false, needed });
    }

    /// Returns the rows of the batch that state in files counts or decides about.
    pub(crate) fn kept_or_undecided(&self) -> BooleanBuffer {
        let MetricWindows::Spilled(spilled) = &self.windows else { return BooleanBuffer::new_unset(0) };
        let mut undecided = vec![false; spilled.kept().len()];
        spilled.undecided().iter().for_each(|row| undecided[*row] = true);
        &spilled.kept() | &BooleanBuffer::from(undecided.as_slice())
    }

    /// Records the outcomes of undecided rows: `is_late` returns the outcome of a row, or `None` if it is not known
    /// yet.
    pub(crate) fn decided(
        &mut self,
        view: &MetricView,
        bounds: &Bounds,
        outcome: &mut BatchOutcome,
        is_late: impl Fn(usize) -> Option<bool>,
    ) {
        let MetricWindows::Spilled(spilled) = &self.windows else { return };
        let Some(rule) = spilled.session_rule() else { return };
        for row in spilled.undecided().to_vec() {
            match is_late(row) {
                None => {}
                Some(false) => self.count(row, outcome),
                Some(true) => {
                    let (time, stream_time) = (view.event_times[row], view.stream_times[row]);
                    let (bound, own) = (bounds.of_row(stream_time), bounds.own(stream_time));
                    let closes = rule.closing().at(time.saturating_add(rule.gap));
                    let coming = RowRef { row, key: 0, time, bound, own };
                    self.reject(coming, closes, closes, view, outcome);
                }
            }
        }
    }

    /// Notes that the first window of a counted row, which closes at `missed`, does not count it.
    #[inline(always)]
    fn miss(&mut self, coming: RowRef, missed: Option<i64>, view: &MetricView, outcome: &mut BatchOutcome) {
        if let Some(first) = missed {
            self.counts.half_late += 1;
            let needed = self.needed(coming, first, view);
            outcome.late.push(LateRow { row: coming.row as u32, metric: view.metric, half: true, needed });
        }
    }

    #[inline(never)]
    fn assign(
        &mut self,
        coming: RowRef,
        view: &MetricView,
        bounds: &Bounds,
        keys: &mut Keys,
        cached: &mut CachedSlice,
    ) -> Assignment {
        let (RowRef { row, key, time, .. }, fired) = (coming, bounds.fired);
        match &mut self.windows {
            MetricWindows::Slices(slices, spec) => {
                let WindowPlace { span, first_end, missed } = match place(coming, *spec, bounds.ends) {
                    Ok(placed) => placed,
                    Err(without) => return without,
                };
                *cached = CachedSlice::new(span, first_end, *spec, fired);
                let slot = slices.slot(Placement { key, span, first_end }, fired, *spec, keys, &mut self.slots);
                Assignment::Slot(slot, missed)
            }
            MetricWindows::Spilled(spilled) => match spilled.spec() {
                Some(spec) => {
                    let WindowPlace { span, first_end, missed } = match place(coming, spec, bounds.ends) {
                        Ok(placed) => placed,
                        Err(without) => return without,
                    };
                    *cached = CachedSlice::new(span, first_end, spec, fired);
                    spilled.keep(row, span, first_end, fired);
                    Assignment::Kept(missed)
                }
                None if spilled.keep_session(coming) => Assignment::Kept(None),
                None => Assignment::Undecided,
            },
            MetricWindows::Sessions(sessions, rule) => {
                match sessions.slot(coming, *rule, keys, &mut self.slots, &view.args) {
                    Some(slot) => Assignment::Slot(slot, None),
                    None => {
                        let closes = rule.closing().at(time.saturating_add(rule.gap));
                        Assignment::Late { first: closes, last: closes }
                    }
                }
            }
        }
    }

    /// Returns the out-of-orderness with which a late row would count for its first window, which closes at `first`;
    /// `None` if the row is late only because a partition was idle or new.
    #[cold]
    fn needed(&mut self, coming: RowRef, first: i64, view: &MetricView) -> Option<i64> {
        if coming.own < first {
            return None;
        }
        let needed = view.stream_times[coming.row].saturating_sub(first).saturating_add(1);
        self.counts.bound_needed = self.counts.bound_needed.max(needed);
        Some(needed)
    }
}

/// The windows of a row that at least one of them counts.
struct WindowPlace {
    span: WindowSpan,
    /// The end of the first window that counts the row (µs).
    first_end: i64,
    /// The instant at which the first window of `span` closes (µs), if that window does not count the row.
    missed: Option<i64>,
}

/// Returns the windows of a row that end within a range, or why no window counts it.
#[inline]
fn place(coming: RowRef, spec: WindowSpec, range: EndRange) -> Result<WindowPlace, Assignment> {
    let Some(span) = spec.layout.windows_of(coming.time) else {
        return Err(Assignment::Outside);
    };
    let closing = spec.closing();
    let Some(first_end) = closing.first_window_open(span, spec.layout.step(), coming.bound) else {
        return Err(Assignment::Late { first: closing.at(span.first_end), last: closing.at(span.last_end) });
    };
    let missed = (first_end > span.first_end).then(|| closing.at(span.first_end));
    if range == EndRange::ALL {
        return Ok(WindowPlace { span, first_end, missed });
    }
    let ends = EndRange { first: first_end, last: span.last_end };
    let Some(EndRange { first, last }) = spec.clip(ends, range) else { return Err(Assignment::Outside) };
    Ok(WindowPlace { span: WindowSpan { last_end: last, ..span }, first_end: first, missed })
}

/// Returns the rows for which expressions of metrics failed, and removes these from the views of the metrics that have
/// the expressions. A value of the wrong type fails in a `where` in any row, in another expression only in rows that
/// pass the `where`.
pub(crate) fn failed_rows(metrics: &[Metric], views: &mut [MetricView], leaves: &LeafBatch) -> FailedRows {
    let mut failed = FailedRows::new();
    for (metric, view) in metrics.iter().zip(views) {
        let mut wrong = WrongRows::new();
        let rest = metric.by.iter().map(|by| &by.expr).chain(metric.call.args());
        for found in wrong_of(metric.filter.as_ref(), rest, leaves, |row| view.passes(row)) {
            found.note(&mut wrong, |found| format!("{}: {}", brief(&metric.name), found.advice()));
        }
        let living = || (0..view.event_times.len()).map(|row| !wrong.contains_key(&row)).collect();
        view.living = (!wrong.is_empty()).then(living);
        for (row, message) in wrong {
            let found = failed.entry(row).or_insert_with(|| FailedRow { message, ..FailedRow::default() });
            found.metrics.push(view.metric);
        }
    }
    failed
}
