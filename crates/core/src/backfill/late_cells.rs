//! Cells that count their late events.
//!
//! A late event names the cells that did not count it: the windows of its metrics that had closed by its own stream
//! time, or all of them if none had. A named cell counts the rows that evt-window counted and, besides, the late ones
//! whose stream time is at most its `late_until`. So a later run that reads further late events from the raw input
//! computes the same cell, until these events name it too.
//!
//! A late event of a session metric names its instant and its dimensions, as the cell of the session that it would be
//! alone; see `session.rs`.

use super::cell::{CellContent, CellKey};
use super::input_times::{InputTimes, Slice};
use super::scope::Scope;
use super::session::{FoundSession, NameOrigin, NamedInstant, NamedKeys, SessionRow};
use crate::error::{Error, Result};
use crate::expr::{LeafBatch, Leaves, write_dimensions};
use crate::kind::event::{column, instants};
use crate::kind::late::LATE_FOR;
use crate::kind::span::Span;
use crate::op::window::BatchOutcome;
use crate::op::window::metric::{Metric, Shape, WindowSpan};
use crate::op::window::shape::window_spec::WindowSpec;
use crate::op::window::slots::Slots;
use crate::op::window::spec::Spec;
use crate::time::{EARLIEST, LATEST};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, RecordBatch};
use arrow::compute::filter_record_batch;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A cell that counts late events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateCell {
    /// Its key.
    pub key: CellKey,
    /// The greatest stream time of the late events that named it (µs).
    pub late_until: i64,
}

/// Names of metrics.
pub type MetricNames = BTreeSet<Arc<str>>;

/// A late event of a batch, and one of the metrics that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventOfMetric {
    /// The index of its row.
    pub row: usize,
    /// The name of the metric.
    pub metric: String,
}

/// What the late events of a batch name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundNames {
    /// Whether each row named a cell.
    pub named: Vec<bool>,
    /// The events that would name a cell of a metric if its `where` did not reject them.
    pub rejected: Vec<EventOfMetric>,
    /// The events that name a cell of which rows were removed because of their age.
    pub expired: Vec<EventOfMetric>,
}

/// The cells of a run that count late events.
pub struct LateCells {
    leaves: Leaves,
    metrics: Vec<Metric>,
    out_of_orderness: i64,
    cells: Vec<MetricCells>,
    sessions: Vec<SessionKeys>,
}

/// The named keys of a session metric.
struct SessionKeys {
    /// The index of the metric.
    metric: usize,
    gap: i64,
    keys: NamedKeys,
}

/// A session that contains named instants.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedSession {
    /// Its key.
    pub key: CellKey,
    /// Its content; `None` if there is a named instant without a session.
    pub content: Option<CellContent>,
    /// The cells that name its instants.
    pub names: Vec<LateCell>,
    /// The origin of the names: `Input` if one of them has it.
    pub origin: NameOrigin,
}

/// The cells of one metric whose windows are not sessions.
struct MetricCells {
    /// The index of the metric.
    metric: usize,
    windows: WindowSpec,
    slots: Slots,
    /// By window end and dimensions.
    cells: BTreeMap<i64, HashMap<String, NamedCell>>,
}

/// One cell, and the slot of its state once it has counted a row.
struct NamedCell {
    late_until: i64,
    slot: Option<u32>,
}

/// The rows of a batch as one metric reads them.
struct EventRows<'a> {
    event_times: &'a [i64],
    stream_times: &'a [i64],
    /// The rows that pass the filter.
    passed: Option<BooleanArray>,
    /// The rows for which an expression of the metric failed, ascending.
    failed: Vec<usize>,
    names: Vec<&'a str>,
    dimensions: Vec<ArrayRef>,
}

impl<'a> EventRows<'a> {
    fn new(metric: &'a Metric, batch: &'a RecordBatch, leaves: &LeafBatch) -> Result<Self> {
        let passed = metric.filter.as_ref().map(|filter| filter.eval(leaves)).transpose()?;
        let dimensions = metric.by.iter().map(|by| by.expr.dimension(leaves)?.rows());
        Ok(Self {
            event_times: instants(batch, column::EVENT_TIME),
            stream_times: instants(batch, column::STREAM_TIME),
            passed: passed.map(|array| array.as_boolean().clone()),
            failed: vec![],
            names: metric.by.iter().map(|by| by.name.as_str()).collect(),
            dimensions: dimensions.collect::<Result<_>>()?,
        })
    }

    /// Leaves out the rows for which an expression of metric number `metric` failed.
    fn without_failed(mut self, outcome: &BatchOutcome, metric: usize) -> Self {
        let of_metric = outcome.failed.iter().filter(|(_, failed)| failed.metrics.contains(&(metric as u32)));
        self.failed = of_metric.map(|(row, _)| *row).collect();
        self
    }

    fn passes(&self, row: usize) -> bool {
        let has_failed = !self.failed.is_empty() && self.failed.binary_search(&row).is_ok();
        !has_failed && self.passed.as_ref().is_none_or(|passed| passed.is_valid(row) && passed.value(row))
    }

    /// Returns the dimensions of a row as canonical JSON.
    fn dimensions(&self, row: usize) -> String {
        let texts = self.dimensions.iter().map(|array| array.as_string::<i32>());
        let values: Vec<Option<&str>> = texts.map(|texts| texts.is_valid(row).then(|| texts.value(row))).collect();
        let mut text = String::new();
        write_dimensions(&self.names, &values, &mut text);
        text
    }
}

impl LateCells {
    /// Begins without cells; `out_of_orderness` is that of the live run (µs).
    pub fn new(spec: Spec, out_of_orderness: i64) -> Self {
        let Spec { leaves, metrics, .. } = spec;
        let (mut cells, mut sessions) = (vec![], vec![]);
        for (at, metric) in metrics.iter().enumerate() {
            match (metric.shape, WindowSpec::of(metric)) {
                (Shape::Session { gap }, _) => {
                    sessions.push(SessionKeys { metric: at, gap, keys: NamedKeys::new(gap, metric.call.create()) });
                }
                (_, windows) => cells.extend(windows.map(|windows| MetricCells {
                    metric: at,
                    windows,
                    slots: Slots::new(metric.call.create()),
                    cells: BTreeMap::new(),
                })),
            }
        }
        Self { leaves, metrics, out_of_orderness, cells, sessions }
    }

    /// Returns the cells of a metric, unless its windows are sessions.
    fn cells_of(&mut self, name: &str) -> Option<&mut MetricCells> {
        self.cells.iter_mut().find(|one| self.metrics[one.metric].name == name)
    }

    /// Whether there are no cells.
    pub fn is_empty(&self) -> bool {
        self.cells.iter().all(|metric| metric.cells.is_empty())
            && self.sessions.iter().all(|session| session.keys.is_empty())
    }

    /// Adds a cell, or raises its `late_until`. Cells of session metrics and of unknown ones are ignored.
    pub fn add(&mut self, cell: &LateCell) {
        let Some(MetricCells { cells, .. }) = self.cells_of(&cell.key.metric) else { return };
        let cells = cells.entry(cell.key.end).or_default();
        let known = cells.entry(cell.key.dimensions.clone()).or_insert(NamedCell { late_until: i64::MIN, slot: None });
        known.late_until = known.late_until.max(cell.late_until);
    }

    /// Adds the instant of a key that a cell of a session metric names. Cells of other metrics are ignored.
    pub fn add_name(&mut self, cell: &LateCell, origin: NameOrigin) {
        let Self { metrics, sessions, .. } = self;
        let found = sessions.iter_mut().find(|session| metrics[session.metric].name == *cell.key.metric);
        let name = NamedInstant { time: cell.key.start, late_until: cell.late_until, origin };
        found.into_iter().for_each(|session| session.keys.name(&cell.key.dimensions, name));
    }

    /// Raises the `late_until` of known cells to those of `stored`.
    pub fn raise(&mut self, stored: &[LateCell]) {
        for cell in stored {
            let known = self.cells_of(&cell.key.metric).and_then(|of_metric| of_metric.cells.get_mut(&cell.key.end));
            let known = known.and_then(|cells| cells.get_mut(&cell.key.dimensions));
            known.into_iter().for_each(|known| known.late_until = known.late_until.max(cell.late_until));
        }
    }

    /// Adds the cells of `metrics` in `scope` that a batch of late events names.
    ///
    /// Errors: exit status 65 if the batch holds no late events.
    pub fn name(&mut self, batch: &RecordBatch, scope: &Scope, metrics: &MetricNames) -> Result<FoundNames> {
        let late_for = late_for(batch)?;
        let mut names = FoundNames { named: vec![false; batch.num_rows()], rejected: vec![], expired: vec![] };
        let mut found = vec![];
        let leaves = LeafBatch::read(&self.leaves, batch)?;
        for metric in self.metrics.iter().filter(|metric| metrics.contains(metric.name.as_str())) {
            let of_metric = |row: &usize| {
                let names = late_for.value(*row);
                names.as_string::<i32>().iter().flatten().any(|name| name == metric.name)
            };
            let rows: Vec<usize> = (0..batch.num_rows()).filter(of_metric).collect();
            let read = EventRows::new(metric, batch, &leaves)?;
            for row in rows {
                let keys = self.missed(metric, &read, row);
                if read.passes(row) && keys.iter().any(|key| !scope.is_kept(key)) {
                    names.expired.push(EventOfMetric { row, metric: metric.name.clone() });
                }
                let mut keys = keys.into_iter().filter(|key| scope.covers(key)).peekable();
                match (keys.peek(), read.passes(row)) {
                    (None, _) => {}
                    (Some(_), false) => names.rejected.push(EventOfMetric { row, metric: metric.name.clone() }),
                    (Some(_), true) => {
                        names.named[row] = true;
                        found.extend(keys.map(|key| LateCell { key, late_until: read.stream_times[row] }));
                    }
                }
            }
        }
        for cell in &found {
            self.add(cell);
            self.add_name(cell, NameOrigin::Input);
        }
        Ok(names)
    }

    /// Returns the metrics that late events in the range of `scope` name and that are not known.
    ///
    /// Errors: exit status 65 if the batch holds no late events.
    pub fn unknown(&self, batch: &RecordBatch, scope: &Scope) -> Result<Vec<EventOfMetric>> {
        let (late_for, times) = (late_for(batch)?, instants(batch, column::EVENT_TIME));
        let mut unknown = vec![];
        for row in (0..batch.num_rows()).filter(|row| scope.range.contains(times[*row])) {
            let names = late_for.value(row);
            let names = names.as_string::<i32>().iter().flatten();
            let others = names.filter(|name| self.metrics.iter().all(|metric| metric.name != *name));
            unknown.extend(others.map(|name| EventOfMetric { row, metric: name.to_owned() }));
        }
        Ok(unknown)
    }

    /// Returns the cells that did not count a late event: its windows that had closed, or the session that it would be
    /// alone.
    fn missed(&self, metric: &Metric, read: &EventRows<'_>, row: usize) -> Vec<CellKey> {
        let time = read.event_times[row];
        let key =
            |start, end| CellKey { end, start, metric: metric.name.as_str().into(), dimensions: read.dimensions(row) };
        match (metric.shape, WindowSpec::of(metric)) {
            (_, Some(windows)) => {
                let bound = read.stream_times[row].saturating_sub(self.out_of_orderness);
                let (layout, closing) = (windows.layout, windows.closing());
                let Some(WindowSpan { first_end, last_end, .. }) = layout.windows_of(time) else { return vec![] };
                // Without a closed window, the live run called it late because a partition was idle or new.
                let none_closed = closing.is_open(first_end, bound);
                let ends = (0..).map(|at| first_end + at * layout.step()).take_while(|end| *end <= last_end);
                let missed = ends.take_while(|end| none_closed || !closing.is_open(*end, bound));
                missed.map(|end| key(layout.start_of(end), end)).collect()
            }
            (Shape::Session { gap }, _) => vec![key(time, time.saturating_add(gap).min(LATEST))],
            (Shape::Sliding { .. } | Shape::Calendar(_), None) => vec![],
        }
    }

    /// Returns the least span that contains the windows of all cells and, for each instant of a session metric that
    /// late events of this run name, the time from `around` and the gap before it to `around` and the gap after it;
    /// `None` without either.
    pub fn span(&self, around: i64) -> Option<Span> {
        let mut span: Option<(i64, i64)> = None;
        let mut widen =
            |since: i64, until: i64| span = Some(span.map_or((since, until), |(a, b)| (a.min(since), b.max(until))));
        for MetricCells { windows, cells, .. } in &self.cells {
            let ends = cells.first_key_value().zip(cells.last_key_value());
            ends.into_iter().for_each(|((first, _), (last, _))| widen(windows.layout.start_of(*first), *last));
        }
        for SessionKeys { gap, keys, .. } in &self.sessions {
            let around = around.saturating_add(*gap);
            let times = keys.of_input();
            times.for_each(|time| {
                widen(time.saturating_sub(around).max(EARLIEST), time.saturating_add(around).min(LATEST))
            });
        }
        span.map(|(since, until)| Span { since: Some(since), until: Some(until) })
    }

    /// Adds the rows of a batch of events to the cells; `outcome` has the outcomes of the rows by the rule of the live
    /// run.
    pub fn on_batch(&mut self, batch: &RecordBatch, outcome: &BatchOutcome) -> Result<()> {
        let keep: Vec<bool> = instants(batch, column::EVENT_TIME).iter().map(|time| self.touches(*time)).collect();
        if keep.contains(&true) {
            // Failed rows are known by their indexes in the whole batch.
            let batch = match outcome.failed.is_empty() {
                true => filter_record_batch(batch, &BooleanArray::from(keep))?,
                false => batch.clone(),
            };
            let leaves = LeafBatch::read(&self.leaves, &batch)?;
            for cells in self.cells.iter_mut().filter(|cells| !cells.cells.is_empty()) {
                let metric = &self.metrics[cells.metric];
                let rows = EventRows::new(metric, &batch, &leaves)?.without_failed(outcome, cells.metric);
                cells.count(&rows, self.out_of_orderness);
                cells.slots.flush(&arguments(metric, &leaves)?);
            }
        }
        match self.sessions.iter().all(|session| session.keys.is_empty()) {
            true => Ok(()),
            false => self.count_sessions(batch, outcome),
        }
    }

    /// Adds the rows of a batch to the sessions of named keys.
    fn count_sessions(&mut self, batch: &RecordBatch, outcome: &BatchOutcome) -> Result<()> {
        let leaves = LeafBatch::read(&self.leaves, batch)?;
        for SessionKeys { metric: at, keys, .. } in self.sessions.iter_mut().filter(|session| !session.keys.is_empty())
        {
            let metric = &self.metrics[*at];
            let read = EventRows::new(metric, batch, &leaves)?.without_failed(outcome, *at);
            let mut is_late = vec![false; batch.num_rows()];
            let of_metric = outcome.late.iter().filter(|late| late.metric as usize == *at && !late.half);
            of_metric.for_each(|late| is_late[late.row as usize] = true);
            let mut rows = vec![];
            for row in (0..batch.num_rows()).filter(|row| read.passes(*row)) {
                let (time, stream_time) = (read.event_times[row], read.stream_times[row]);
                let found = SessionRow { row: row as u32, time, stream_time, is_late: is_late[row] };
                let dimensions = read.dimensions(row);
                if keys.counts(&dimensions, found) {
                    rows.push((dimensions, found));
                }
            }
            if !rows.is_empty() {
                keys.add(&rows, &arguments(metric, &leaves)?);
            }
        }
        Ok(())
    }

    /// Adds the rows of a batch that are late for a metric to the times of their cells.
    pub fn note_late(&self, batch: &RecordBatch, outcome: &BatchOutcome, times: &mut InputTimes) -> Result<()> {
        if outcome.late.is_empty() {
            return Ok(());
        }
        let leaves = LeafBatch::read(&self.leaves, batch)?;
        for (at, metric) in self.metrics.iter().enumerate() {
            let mut of_metric = outcome.late.iter().filter(|late| late.metric as usize == at).peekable();
            if of_metric.peek().is_some() {
                let read = EventRows::new(metric, batch, &leaves)?;
                for row in of_metric.map(|late| late.row as usize) {
                    let time = read.event_times[row];
                    if let Some(slice) = slice_of(metric.shape, time) {
                        times.add_late(metric.name.as_str().into(), read.dimensions(row), slice, time);
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes the names of all session metrics; returns the sessions that contain them.
    pub fn take_sessions(&mut self) -> Vec<NamedSession> {
        let mut taken = vec![];
        for SessionKeys { metric, gap, keys } in &mut self.sessions {
            let name: Arc<str> = self.metrics[*metric].name.as_str().into();
            for (dimensions, sessions) in keys.take() {
                let key = |start: i64, end: i64| CellKey {
                    end: end.min(LATEST),
                    start,
                    metric: name.clone(),
                    dimensions: dimensions.clone(),
                };
                for FoundSession { start, end, content, names } in sessions {
                    let mut origins = names.iter().map(|name| name.origin);
                    let is_input = origins.clone().any(|origin| origin == NameOrigin::Input);
                    let origin = origins.next_back().filter(|_| !is_input).unwrap_or(NameOrigin::Input);
                    let cell = |name: &NamedInstant| LateCell {
                        key: key(name.time, name.time.saturating_add(*gap)),
                        late_until: name.late_until,
                    };
                    let names = names.iter().map(cell).collect();
                    taken.push(NamedSession { key: key(start, end), content, names, origin });
                }
            }
        }
        taken
    }

    /// Whether an instant is in the window of a cell.
    fn touches(&self, time: i64) -> bool {
        self.cells.iter().filter(|metric| !metric.cells.is_empty()).any(|MetricCells { windows, cells, .. }| {
            windows.layout.windows_of(time).is_some_and(|WindowSpan { first_end, last_end, .. }| {
                cells.range(first_end..=last_end).any(|(end, _)| windows.layout.has_end(*end))
            })
        })
    }

    /// Removes the cells of a metric whose windows end at `end` at most, and returns them with their right content;
    /// `None` if they count no row.
    pub fn take(&mut self, name: &str, end: i64) -> Vec<(LateCell, Option<CellContent>)> {
        let mut taken = vec![];
        let Some(MetricCells { windows, slots, cells, .. }) = self.cells_of(name) else { return taken };
        while let Some(first) = cells.first_entry().filter(|first| *first.key() <= end) {
            let (end, start) = (*first.key(), windows.layout.start_of(*first.key()));
            for (dimensions, NamedCell { late_until, slot }) in first.remove() {
                let key = CellKey { end, start, metric: name.into(), dimensions };
                let content = slot.map(|slot| CellContent {
                    value: slots.result(slot, end - start),
                    rows: i64::try_from(slots.rows(slot)).unwrap_or(i64::MAX),
                });
                slot.into_iter().for_each(|slot| slots.free(slot));
                taken.push((LateCell { key, late_until }, content));
            }
        }
        taken
    }
}

fn late_for(batch: &RecordBatch) -> Result<&ListArray> {
    let late_for = batch.columns().get(LATE_FOR).and_then(|column| column.as_list_opt::<i32>());
    late_for.ok_or_else(|| Error::corrupt("expected late events with a column 'late_for'"))
}

fn arguments(metric: &Metric, leaves: &LeafBatch) -> Result<Vec<ArrayRef>> {
    metric.call.args().iter().map(|arg| arg.eval(leaves)).collect()
}

impl MetricCells {
    /// Counts the rows in the slots of their cells.
    fn count(&mut self, rows: &EventRows<'_>, out_of_orderness: i64) {
        let windows = self.windows;
        for (row, time) in rows.event_times.iter().enumerate().filter(|(row, _)| rows.passes(*row)) {
            let stream_time = rows.stream_times[row];
            let bound = stream_time.saturating_sub(out_of_orderness);
            let mut dimensions = None;
            let Some(WindowSpan { first_end, last_end, .. }) = windows.layout.windows_of(*time) else { continue };
            // A row may be in very many windows, of which few are named.
            let named = self.cells.range_mut(first_end..=last_end);
            for (end, cells) in named.filter(|(end, _)| windows.layout.has_end(**end)) {
                let dimensions = dimensions.get_or_insert_with(|| rows.dimensions(row));
                let Some(cell) = cells.get_mut(dimensions.as_str()) else { continue };
                if windows.closing().is_open(*end, bound) || stream_time <= cell.late_until {
                    let slot = *cell.slot.get_or_insert_with(|| self.slots.claim());
                    self.slots.add(slot, row as u32);
                }
            }
        }
    }
}

/// Returns the slice of an instant; `None` if it is in no window.
fn slice_of(shape: Shape, time: i64) -> Option<Slice> {
    Some(match shape {
        Shape::Session { gap } => Slice { start: time.div_euclid(gap) * gap, gap: Some(gap) },
        Shape::Sliding { .. } | Shape::Calendar(_) => {
            Slice { start: shape.layout()?.windows_of(time)?.slice, gap: None }
        }
    })
}

#[cfg(test)]
#[path = "late_cells_tests.rs"]
pub(super) mod tests;
