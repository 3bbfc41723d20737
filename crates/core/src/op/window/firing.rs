//! The state of metrics with the same keys, for all of their keys or for a range of them; and how it fires.

use super::key::Keys;
use super::metric::{Emit, Metric};
use super::outcome::BatchOutcome;
use super::running::{Bounds, KeyGroup, MetricView, MetricWindows, RunningMetric};
use super::shape::closing::Closing;
use super::shape::ends::{EndRange, WindowKeys};
use super::shape::part::{Part, SavedPart};
use super::shape::slice::{Fired, Slices};
use super::shape::spilled::SpilledWindows;
use crate::error::Result;
use crate::kind;
use crate::op::snapshot::{Reader, Writer};
use crate::time::{EARLIEST, LATEST};

/// Slices can be divided by windows if they span this many times the overlap of two windows.
const SPANS: i64 = 16;

/// Receives result rows.
pub type Emitter<'a> = dyn FnMut(&kind::metric::Row<'_>) -> Result<()> + 'a;

/// Keys, and the windows of metrics over them.
#[derive(Default)]
pub(crate) struct Shard {
    pub(crate) group: KeyGroup,
    /// In the order of the members of the group.
    pub(crate) running: Vec<RunningMetric>,
}

impl Shard {
    /// Adds the rows of a batch to the slots of the metrics, each with its columns.
    pub(crate) fn add<'a>(
        &mut self,
        views: impl Iterator<Item = &'a MetricView>,
        bounds: &Bounds,
        outcome: &mut BatchOutcome,
    ) {
        for (running, view) in self.running.iter_mut().zip(views) {
            running.add(view, bounds, &mut self.group, outcome);
        }
        self.group.keys.sweep();
    }

    /// Makes the state of these metrics, empty.
    pub(crate) fn new<'a>(metrics: impl Iterator<Item = &'a Metric>) -> Self {
        Self { group: KeyGroup::default(), running: metrics.map(RunningMetric::new).collect() }
    }

    /// Whether it holds no state.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.iter().all(|running| match &running.windows {
            MetricWindows::Slices(slices, _) => slices.is_empty(),
            MetricWindows::Sessions(sessions, _) => sessions.is_empty(),
            MetricWindows::Spilled(_) => true,
        })
    }

    /// Returns the approximate bytes in memory.
    pub(crate) fn allocated(&mut self) -> usize {
        let of_metric = |running: &mut RunningMetric| {
            let rest = match &running.windows {
                MetricWindows::Slices(slices, _) => slices.allocated(),
                MetricWindows::Sessions(sessions, _) => sessions.allocated(),
                MetricWindows::Spilled(spilled) => return spilled.allocated(),
            };
            running.slots.allocated() + rest
        };
        self.group.keys.size() + self.running.iter_mut().map(of_metric).sum::<usize>()
    }

    /// Returns the slices of a metric that has the most of them.
    fn longest(&mut self) -> Option<&mut Slices> {
        let slices = self.running.iter_mut().filter_map(|running| match &mut running.windows {
            MetricWindows::Slices(slices, _) => Some(slices),
            MetricWindows::Sessions(..) | MetricWindows::Spilled(_) => None,
        });
        slices.max_by_key(|slices| slices.count())
    }

    /// Returns the number of slices in memory of the metric with the most, if they can be divided by windows.
    pub(crate) fn divisible_slices(&self) -> usize {
        let windows = |running: &RunningMetric| match &running.windows {
            MetricWindows::Slices(slices, spec) if slices.span() / SPANS >= spec.layout.overlap() => slices.count(),
            MetricWindows::Slices(..) | MetricWindows::Sessions(..) | MetricWindows::Spilled(_) => 0,
        };
        self.running.iter().map(windows).max().unwrap_or(0)
    }

    /// Returns the number of keys of each slice of the metric with the most, by its last window.
    pub(crate) fn keys_by_end(&mut self) -> impl Iterator<Item = WindowKeys> {
        self.longest().into_iter().flat_map(Slices::keys_by_end)
    }

    /// Returns the sum of these numbers.
    pub(crate) fn slot_count(&mut self) -> usize {
        self.keys_by_end().map(|window| window.keys).sum()
    }

    /// Returns the windows whose state is in files.
    pub(crate) fn spilled(&self) -> impl Iterator<Item = &SpilledWindows> {
        self.running.iter().filter_map(|running| match &running.windows {
            MetricWindows::Spilled(spilled) => Some(spilled),
            MetricWindows::Slices(..) | MetricWindows::Sessions(..) => None,
        })
    }

    /// Returns the windows whose state is in files, to be changed.
    pub(crate) fn spilled_mut(&mut self) -> impl Iterator<Item = &mut SpilledWindows> {
        self.running.iter_mut().filter_map(|running| match &mut running.windows {
            MetricWindows::Spilled(spilled) => Some(spilled),
            MetricWindows::Slices(..) | MetricWindows::Sessions(..) => None,
        })
    }

    /// Whether these windows are sessions.
    pub(crate) fn has_spilled_sessions(&self) -> bool {
        self.spilled().any(|spilled| spilled.session_rule().is_some())
    }

    /// Returns the range of the ends of its windows.
    pub(crate) fn extent(&self) -> EndRange {
        let extent = |running: &RunningMetric| match &running.windows {
            MetricWindows::Slices(slices, _) => slices.extent(),
            MetricWindows::Sessions(..) | MetricWindows::Spilled(_) => EndRange::EMPTY,
        };
        self.running.iter().map(extent).fold(EndRange::EMPTY, EndRange::join)
    }

    /// Saves a part of one metric.
    pub(crate) fn snapshot_metric(&mut self, member: usize, part: Part<'_>) -> Vec<u8> {
        let (keys, running) = (&self.group.keys, &mut self.running[member]);
        let mut state = Writer::default();
        match &mut running.windows {
            MetricWindows::Slices(slices, spec) => slices.snapshot(*spec, keys, &running.slots, part, &mut state),
            MetricWindows::Sessions(sessions, _) => sessions.snapshot(keys, &running.slots, part, &mut state),
            MetricWindows::Spilled(spilled) => spilled.snapshot(&mut state),
        }
        state.finish()
    }

    /// Adds a part of the saved state of one metric; this shard must have no state of it. `has_runs` is that of
    /// [`SpilledWindows::restore`].
    pub(crate) fn restore_metric(
        &mut self,
        member: usize,
        saved: &[u8],
        part: SavedPart<'_>,
        has_runs: bool,
    ) -> Result<()> {
        let (keys, running) = (&mut self.group.keys, &mut self.running[member]);
        let mut saved = Reader::new(saved);
        match &mut running.windows {
            MetricWindows::Slices(slices, spec) => {
                slices.restore_part(*spec, keys, &mut running.slots, &mut saved, part)?;
            }
            MetricWindows::Sessions(sessions, _) => {
                sessions.restore_part(keys, &mut running.slots, &mut saved, part)?
            }
            MetricWindows::Spilled(spilled) => spilled.restore(&mut saved, has_runs)?,
        }
        saved.finish()
    }

    /// Saves a part of all metrics.
    pub(crate) fn snapshot(&mut self, part: Part<'_>) -> Vec<u8> {
        let mut out = Writer::default();
        (0..self.running.len()).for_each(|member| out.bytes(&self.snapshot_metric(member, part)));
        out.finish()
    }

    /// Adds a part of the state that [`Shard::snapshot`] saved; this shard must have no state of it. `places` has, for
    /// each saved metric, its index in this shard, or none.
    pub(crate) fn restore_part(&mut self, saved: &[u8], places: &[Option<usize>], part: SavedPart<'_>) -> Result<()> {
        let mut saved = Reader::new(saved);
        for place in places {
            let state = saved.bytes()?;
            place.map_or(Ok(()), |member| self.restore_metric(member, state, part, true))?;
        }
        saved.finish()
    }
}

/// The metrics whose windows fire, and the watermark at which they fire.
#[derive(Clone, Copy)]
pub(crate) struct WatermarkFiring<'a> {
    /// All metrics.
    pub(crate) metrics: &'a [Metric],
    /// The place of each metric in the order of names.
    pub(crate) places: &'a [usize],
    pub(crate) emit: Emit,
    pub(crate) watermark: i64,
}

/// The place of a window in a firing; the order of the fields is the order in which windows fire.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct FiringOrder {
    /// The watermark at which it fires.
    pub(crate) due: i64,
    pub(crate) end: i64,
    /// The place of its metric in the order of names.
    pub(crate) place: usize,
}

/// A window that fires.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct DueWindow {
    order: FiringOrder,
    /// The indexes of its shard and of its metric in the shard.
    shard: usize,
    member: usize,
}

/// A result of a window that fires.
struct WindowResult {
    dimensions: String,
    start: i64,
    is_retracted: bool,
    fired: Fired,
}

impl WatermarkFiring<'_> {
    /// Fires the windows that are due, in the order of due time, window end, metric and dimensions; then drops state
    /// that no later row can reach. Each shard stands beside the indexes of its metrics. `emit` also gets the place of
    /// the row's window.
    pub(crate) fn fire<E>(&self, shards: &mut [(&[usize], &mut Shard)], emit: &mut E) -> Result<()>
    where
        E: FnMut(FiringOrder, &kind::metric::Row<'_>) -> Result<()>,
    {
        let mut due: Vec<DueWindow> = vec![];
        for (at, (indexes, shard)) in shards.iter_mut().enumerate() {
            for (member, (metric, running)) in indexes.iter().zip(&mut shard.running).enumerate() {
                let delay = delay(self.emit, &self.metrics[*metric]);
                let ends = match &mut running.windows {
                    MetricWindows::Slices(slices, spec) => slices.due(self.watermark, delay, *spec),
                    MetricWindows::Sessions(sessions, _) => sessions.due(self.watermark, delay),
                    MetricWindows::Spilled(_) => vec![],
                };
                let place = self.places[*metric];
                let firing = Closing::of(self.metrics[*metric].shape, delay);
                let order = |end: i64| FiringOrder { due: firing.at(end), end, place };
                let window = |end: i64| DueWindow { order: order(end), shard: at, member };
                due.extend(ends.into_iter().map(window));
            }
        }
        due.sort_unstable();
        for DueWindow { order, shard, member } in due {
            let (indexes, shard) = &mut shards[shard];
            let Shard { group, running } = &mut **shard;
            let mut emit = |row: &kind::metric::Row<'_>| emit(order, row);
            let metric = &self.metrics[indexes[member]];
            self.fire_window(metric, &mut running[member], &mut group.keys, order.end, &mut emit)?;
        }
        for (_, shard) in shards {
            let Shard { group, running } = &mut **shard;
            for RunningMetric { slots, windows, .. } in running {
                match windows {
                    MetricWindows::Slices(slices, spec) => slices.close(self.watermark, *spec, &mut group.keys, slots),
                    MetricWindows::Sessions(sessions, rule) => {
                        sessions.close(self.watermark, *rule, &mut group.keys, slots)
                    }
                    MetricWindows::Spilled(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Fires the window of one metric that ends at `end`.
    fn fire_window(
        &self,
        metric: &Metric,
        running: &mut RunningMetric,
        keys: &mut Keys,
        end: i64,
        emit: &mut Emitter<'_>,
    ) -> Result<()> {
        let watermark = self.watermark;
        let names: Vec<&str> = metric.by.iter().map(|by| by.name.as_str()).collect();
        let mut rows: Vec<WindowResult> = vec![];
        let result = |dimensions, start, fired| WindowResult { dimensions, start, is_retracted: false, fired };
        let dimensions = |keys: &Keys, key: u32| {
            let mut text = String::new();
            crate::expr::write_dimensions(&names, &keys.values(key), &mut text);
            text
        };
        match &mut running.windows {
            MetricWindows::Slices(slices, spec) => {
                // Half slices stay apart for windows that end later, which will fire, and for windows that rows can
                // still reach.
                slices.join(end.min(spec.closing().closed_end(watermark)), *spec, keys, &mut running.slots);
                let start = spec.layout.start_of(end);
                for fired in slices.fire(end, *spec, &mut running.slots) {
                    rows.push(result(dimensions(keys, fired.key), start, fired));
                }
            }
            MetricWindows::Sessions(sessions, _) => {
                for gone in sessions.retract(end) {
                    let dimensions = dimensions(keys, gone.key);
                    let fired = Fired { key: gone.key, value: None, rows: gone.rows, pane: gone.pane };
                    keys.release(gone.key);
                    rows.push(WindowResult { dimensions, start: gone.start, is_retracted: true, fired });
                }
                // A retraction may come before a session of the same end is due.
                if !Closing::of_sessions(delay(self.emit, metric)).is_open(end, watermark) {
                    for (start, fired) in sessions.fire(end, &running.slots) {
                        rows.push(result(dimensions(keys, fired.key), start, fired));
                    }
                }
            }
            MetricWindows::Spilled(_) => {}
        }
        rows.sort_by(|a, b| (&a.dimensions, a.start, !a.is_retracted).cmp(&(&b.dimensions, b.start, !b.is_retracted)));
        for WindowResult { dimensions, start, is_retracted, fired } in &rows {
            if running.is_partial(*start, metric.shape) {
                running.counts.partial += 1;
                continue;
            }
            let (name, start, retracted) = (metric.name.as_str(), *start, *is_retracted);
            let (value, rows, pane) = (fired.value, fired.rows, fired.pane);
            // A window that extends beyond the calendar is truncated there. No window is longer than the calendar, so
            // only one of its ends is truncated, and the other still distinguishes it from its neighbours.
            let (start, end) = (start.max(EARLIEST), end.min(LATEST));
            emit(&kind::metric::Row { name, start, end, dimensions, value, rows, revision: 0, pane, retracted })?;
        }
        Ok(())
    }
}

/// Returns how long after its end (µs) a window of a metric fires.
pub(crate) fn delay(emit: Emit, metric: &Metric) -> i64 {
    match emit {
        Emit::Panes => 0,
        Emit::Final => metric.lateness,
    }
}
