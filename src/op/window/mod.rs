//! Event-time windows: takes batches of events, emits result rows, and reports late and dead rows.
//!
//! A row counts for a window iff stream time − out-of-orderness < end + lateness. Only the row's own stream time
//! decides this, per window. So the results are a function of the partitions' contents, not of batch sizes, timing or
//! interleaving. The watermark only decides when windows fire and when state is dropped.
//!
//! A batch passes through [`Window::on_batch`]: `running.rs` judges its rows for each metric and adds them to slots.
//! [`Window::fire`] emits what is due.
//!
//! - `spec.rs`, `metric.rs`: the metrics as written, and resolved.
//! - `watermark.rs`: the watermark from the partitions' stream times.
//! - `running.rs`: one metric with its state; `outcome.rs`: the outcome of each row.
//! - `slice.rs`, `tree.rs`, `ends.rs`: tumbling and sliding windows; `session.rs`: session windows.
//! - `key.rs`, `slots.rs`: the tuples of dimensions, and the accumulators.

mod ends;
pub mod key;
pub mod metric;
mod outcome;
mod running;
pub mod session;
pub mod slice;
pub mod slots;
pub mod spec;
pub(crate) mod tree;
pub mod watermark;

use self::key::Keys;
use self::metric::{Emit, Metric};
pub use self::outcome::{LateRow, Outcome};
pub use self::running::MetricCounts;
use self::running::{Bounds, Extent, Group, Running, View, Windows};
use self::session::Sessions;
use self::slice::Slices;
use self::watermark::{ContinuedInput, Watermark};
use crate::error::{Error, Result};
use crate::expr::{Dimension, LeafBatch, Leaves, Nulls};
use crate::frame::Progress;
use crate::kind::event::column;
use crate::kind::metric::Row;
use crate::op::snapshot::{Reader, Writer};
use crate::time::{EARLIEST, LATEST};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;

/// The options of the operator.
pub struct Options {
    /// The leaves of all metrics' expressions.
    pub leaves: Leaves,
    /// The metrics; their names differ.
    pub metrics: Vec<Metric>,
    /// How the watermark is computed.
    pub watermark: watermark::Options,
    /// When rows are emitted.
    pub emit: Emit,
}

/// Receives result rows.
pub type Emitter<'a> = dyn FnMut(&Row<'_>) -> Result<()> + 'a;

/// The window operator.
pub struct Window {
    options: Options,
    watermark: Watermark,
    /// The watermark up to which windows have fired.
    fired: Option<i64>,
    running: Vec<Running>,
    groups: Vec<Group>,
    /// Indexes of the metrics, sorted by name.
    order: Vec<usize>,
    /// Names that have been NULL in every row so far.
    nulls: Nulls,
    /// Metrics of the restored snapshot that the options do not have.
    ended: Vec<String>,
}

/// Version of the snapshot.
const VERSION: u8 = 2;
/// The version whose partitions had no input number.
const WITHOUT_INPUTS: u8 = 1;

fn instants(batch: &RecordBatch, column: usize) -> &[i64] {
    batch.column(column).as_primitive::<TimestampMicrosecondType>().values()
}

impl Window {
    /// Creates an operator without state.
    pub fn new(options: Options) -> Self {
        let mut groups: Vec<Group> = vec![];
        let mut running = vec![];
        for (index, metric) in options.metrics.iter().enumerate() {
            let names = |metric: &Metric| metric.by.iter().map(|by| by.name.clone()).collect::<Vec<_>>();
            let same = groups.iter().position(|group| names(&options.metrics[group.first]) == names(metric));
            let group = same.unwrap_or(groups.len());
            if same.is_none() {
                groups.push(Group { first: index, keys: Keys::default(), ids: vec![] });
            }
            running.push(Running::new(metric, group));
        }
        let mut order: Vec<usize> = (0..running.len()).collect();
        order.sort_by_key(|index| options.metrics[*index].name.clone());
        let watermark = Watermark::new(options.watermark);
        let nulls = Nulls::new(&options.leaves);
        Self { options, watermark, fired: None, running, groups, order, nulls, ended: vec![] }
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> &[Metric] {
        &self.options.metrics
    }

    /// Returns the metrics of the restored snapshot that are not computed any more, as they were written.
    pub fn ended_metrics(&self) -> &[String] {
        &self.ended
    }

    /// Returns the options.
    pub fn into_options(self) -> Options {
        self.options
    }

    /// Returns the operator's watermark.
    pub fn watermark(&self) -> &Watermark {
        &self.watermark
    }

    /// Excludes an idle partition, by its number in the watermark, from the minimum.
    pub fn set_idle(&mut self, partition: usize) {
        self.watermark.set_idle(partition);
    }

    /// Returns the counts of each metric.
    pub fn counts(&self) -> Vec<MetricCounts> {
        self.running.iter().map(|running| running.counts).collect()
    }

    /// Returns pairs of a metric and a name that was NULL in every row so far.
    pub fn always_null(&self) -> Vec<(&str, String)> {
        let mut found = vec![];
        for metric in &self.options.metrics {
            let expressions = metric.by.iter().map(|by| &by.expr).chain(metric.call.args()).chain(&metric.filter);
            let names = expressions.flat_map(|expr| self.nulls.names(&self.options.leaves, expr));
            found.extend(names.map(|name| (metric.name.as_str(), name)));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Returns the number of windows that hold rows and have not fired.
    pub fn held(&self) -> u64 {
        self.running
            .iter()
            .map(|running| match &running.windows {
                Windows::Slices(slices, spec) => slices.held(*spec),
                Windows::Sessions(sessions, _) => sessions.held(),
            })
            .sum()
    }

    /// Takes what the source reports of its partitions.
    pub fn on_progress(&mut self, progress: &Progress) -> Result<()> {
        self.watermark.on_progress(progress)
    }

    /// Begins another run over a restored state: its partitions are new, and begin where the watermark stands, but for those of
    /// continued inputs.
    pub fn begin_run(&mut self, continued: &[ContinuedInput]) {
        self.watermark.begin_run(continued);
    }

    /// Whether every window has fired because all inputs had ended.
    pub fn is_exhausted(&self) -> bool {
        self.watermark.get() == Some(i64::MAX)
    }

    /// Lets only promises raise the watermark ([`Watermark::hold`]).
    pub fn hold(&mut self) {
        self.watermark.hold();
    }

    /// Advances the stream times of partitions by rows that no window counts.
    pub fn on_others(&mut self, batch: &RecordBatch, input: u32) -> Result<()> {
        self.watermark.on_batch(batch, input)
    }

    /// Takes an explicit watermark.
    pub fn on_promise(&mut self, watermark: i64) {
        self.watermark.on_promise(watermark);
    }

    /// Adds a batch of events from input number `input`; returns the outcome of each row.
    pub fn on_batch(&mut self, batch: &RecordBatch, input: u32) -> Result<Outcome> {
        let leaves = LeafBatch::read(&self.options.leaves, batch)?;
        let views = self.views(batch, &leaves)?;
        let dead = self.wrong(&views, &leaves);
        let mut outcome = Outcome { is_counted: vec![false; batch.num_rows()], ..Outcome::default() };
        let mut is_dead = vec![false; batch.num_rows()];
        dead.iter().for_each(|(row, _)| is_dead[*row] = true);
        let bounds = Bounds {
            out_of_orderness: match self.options.watermark {
                watermark::Options { explicit: true, .. } => 0,
                watermark::Options { out_of_orderness, .. } => out_of_orderness.unwrap_or(i64::MAX),
            },
            closed: self.fired,
            fired: if self.options.emit == Emit::Final { None } else { self.fired },
            extent: Extent::new(instants(batch, column::EVENT_TIME), instants(batch, column::STREAM_TIME)),
            living: (!dead.is_empty()).then(|| is_dead.iter().map(|dead| !dead).collect()),
        };
        for (running, view) in self.running.iter_mut().zip(&views) {
            running.add(view, &bounds, &mut self.groups, &mut outcome);
        }
        self.groups.iter_mut().for_each(|group| group.keys.sweep());
        outcome.dead = dead;
        outcome.finish(&is_dead);
        self.watermark.on_batch(batch, input)?;
        Ok(outcome)
    }

    fn views<'a>(&mut self, batch: &'a RecordBatch, leaves: &LeafBatch) -> Result<Vec<View<'a>>> {
        let mut dimensions: Vec<Vec<Dimension>> = vec![];
        for group in &mut self.groups {
            let by = &self.options.metrics[group.first].by;
            let values: Vec<Dimension> = by.iter().map(|by| by.expr.dimension(leaves)).collect::<Result<_>>()?;
            group.keys.ids(&values, batch.num_rows(), &mut group.ids)?;
            dimensions.push(values);
        }
        self.nulls.observe(leaves);
        let mut views = vec![];
        for (index, metric) in (0..).zip(&self.options.metrics) {
            let passed = metric.filter.as_ref().map(|filter| filter.eval(leaves)).transpose()?;
            let args: Vec<ArrayRef> = metric.call.args().iter().map(|arg| arg.eval(leaves)).collect::<Result<_>>()?;
            let passed = passed.map(|array| running::truth(array.as_boolean()));
            views.push(View {
                metric: index,
                event_times: instants(batch, column::EVENT_TIME),
                stream_times: instants(batch, column::STREAM_TIME),
                passed,
                args,
            });
        }
        Ok(views)
    }

    /// Returns the rows in which a leaf had the wrong type: a leaf of a `where` in any row, a leaf of an argument only
    /// in rows that pass the `where`.
    fn wrong(&self, views: &[View<'_>], leaves: &LeafBatch) -> Vec<(usize, String)> {
        if leaves.is_right() {
            return vec![];
        }
        let mut found: std::collections::BTreeMap<usize, String> = std::collections::BTreeMap::new();
        for (metric, view) in self.options.metrics.iter().zip(views) {
            let asked = metric.filter.iter().flat_map(|filter| filter.wrong(leaves)).map(|wrong| (wrong, true));
            let rest = metric.by.iter().map(|by| &by.expr).chain(metric.call.args());
            let rest = rest.flat_map(|expr| expr.wrong(leaves)).map(|wrong| (wrong, false));
            for (wrong, of_filter) in asked.chain(rest) {
                let row = wrong.row() as usize;
                if of_filter || view.passes(row) {
                    found.entry(row).or_insert_with(|| format!("{}: {}", metric.name, wrong.message()));
                }
            }
        }
        found.into_iter().collect()
    }

    /// Fires the windows that are due, in the order of due time, window end, metric and dimensions; then drops state
    /// that no later row can reach.
    pub fn fire(&mut self, emit: &mut Emitter<'_>) -> Result<()> {
        let Some(watermark) = self.watermark.get() else { return Ok(()) };
        let mut due: Vec<(i64, i64, usize)> = vec![];
        for (place, index) in self.order.iter().enumerate() {
            let delay = self.delay(*index);
            let ends = match &mut self.running[*index].windows {
                Windows::Slices(slices, spec) => slices.due(watermark, delay, *spec),
                Windows::Sessions(sessions, _) => sessions.due(watermark, delay),
            };
            due.extend(ends.into_iter().map(|end| (end.saturating_add(delay), end, place)));
        }
        due.sort_unstable();
        for (_, end, place) in due {
            self.fire_window(self.order[place], end, watermark, emit)?;
        }
        for running in &mut self.running {
            let keys = &mut self.groups[running.group].keys;
            match &mut running.windows {
                Windows::Slices(slices, spec) => slices.close(watermark, *spec, keys, &mut running.slots),
                Windows::Sessions(sessions, rule) => sessions.close(watermark, *rule, keys, &mut running.slots),
            }
        }
        self.fired = Some(watermark);
        Ok(())
    }

    /// Returns how long after its end (µs) a window of this metric fires.
    fn delay(&self, index: usize) -> i64 {
        match self.options.emit {
            Emit::Panes => 0,
            Emit::Final => self.options.metrics[index].lateness,
        }
    }

    fn fire_window(&mut self, index: usize, end: i64, watermark: i64, emit: &mut Emitter<'_>) -> Result<()> {
        let due = end.saturating_add(self.delay(index)) <= watermark;
        let metric = &self.options.metrics[index];
        let running = &mut self.running[index];
        let keys = &mut self.groups[running.group].keys;
        let names: Vec<&str> = metric.by.iter().map(|by| by.name.as_str()).collect();
        let mut rows: Vec<(String, i64, bool, slice::Fired)> = vec![];
        let dimensions = |keys: &Keys, key: u32| {
            let mut text = String::new();
            crate::expr::write_dimensions(&names, &keys.values(key), &mut text);
            text
        };
        match &mut running.windows {
            Windows::Slices(slices, spec) => {
                // Windows that end later will fire, and so may all windows that rows can still reach.
                slices.join(end.min(watermark.saturating_sub(spec.lateness)), *spec, keys, &mut running.slots);
                for fired in slices.fire(end, *spec, &mut running.slots) {
                    rows.push((dimensions(keys, fired.key), end - spec.size, false, fired));
                }
            }
            Windows::Sessions(sessions, _) => {
                for gone in sessions.retract(end) {
                    let text = dimensions(keys, gone.key);
                    let fired = slice::Fired { key: gone.key, value: None, rows: gone.rows, pane: gone.pane };
                    keys.release(gone.key);
                    rows.push((text, gone.start, true, fired));
                }
                for (start, fired) in sessions.fire(end, &running.slots).into_iter().filter(|_| due) {
                    rows.push((dimensions(keys, fired.key), start, false, fired));
                }
            }
        }
        rows.sort_by(|a, b| (&a.0, a.1, !a.2).cmp(&(&b.0, b.1, !b.2)));
        for (dimensions, start, retracted, fired) in &rows {
            if running.since.is_some_and(|since| *start < since) {
                running.counts.partial += 1;
                continue;
            }
            let (name, start, retracted) = (metric.name.as_str(), *start, *retracted);
            let (value, rows, pane) = (fired.value, fired.rows, fired.pane);
            // A window that extends beyond the calendar is truncated there. No window is longer than the calendar, so
            // only one of its ends is truncated, and the other still distinguishes it from its neighbours.
            let (start, end) = (start.max(EARLIEST), end.min(LATEST));
            emit(&Row { name, start, end, dimensions, value, rows, revision: 0, pane, retracted })?;
        }
        Ok(())
    }

    /// Fires everything, because every input has ended.
    pub fn on_exhausted(&mut self, emit: &mut Emitter<'_>) -> Result<()> {
        self.watermark.on_exhausted();
        self.fire(emit)
    }

    /// Returns the state as bytes.
    pub fn snapshot(&mut self) -> Vec<u8> {
        let mut out = Writer::default();
        out.byte(VERSION);
        out.text(&self.fingerprint());
        self.watermark.snapshot(&mut out);
        out.optional(self.fired);
        out.count(self.running.len());
        for (metric, running) in self.options.metrics.iter().zip(&mut self.running) {
            out.text(&metric.text);
            // Counts and the names that are always NULL belong to the run.
            let Running { group, slots, windows, since, counts: _ } = running;
            let keys = &self.groups[*group].keys;
            out.optional(*since);
            let mut state = Writer::default();
            match windows {
                Windows::Slices(slices, spec) => slices.snapshot(*spec, keys, slots, &mut state),
                Windows::Sessions(sessions, _) => sessions.snapshot(keys, slots, &mut state),
            }
            out.bytes(&state.finish());
        }
        out.finish()
    }

    /// Returns the options that a snapshot must share, beside each metric's own text.
    fn fingerprint(&self) -> String {
        let watermark::Options { out_of_orderness, explicit, new_partitions: _ } = self.options.watermark;
        let bound = out_of_orderness.map_or_else(|| "all".to_owned(), |bound| bound.to_string());
        format!("out_of_orderness {bound} explicit {explicit} emit {:?}", self.options.emit)
    }

    /// Restores an operator from the bytes of [`Window::snapshot`]. A metric that is not in the snapshot begins with
    /// the first window after it.
    pub fn restore(options: Options, bytes: &[u8]) -> Result<Self> {
        let mut saved = Reader::new(bytes);
        let version = saved.byte()?;
        if version != VERSION && version != WITHOUT_INPUTS {
            return Err(Error::corrupt("snapshot of windows: unknown version"));
        }
        let mut restored = Self::new(options);
        if saved.text()? != restored.fingerprint() {
            return Err(Error::config("snapshot of windows: saved with another --out-of-orderness or --emit"));
        }
        restored.watermark = Watermark::restore(restored.options.watermark, version == VERSION, &mut saved)?;
        restored.fired = saved.optional()?;
        let begins = restored.watermark.stream_time();
        restored.running.iter_mut().for_each(|running| running.since = begins);
        for _ in 0..saved.count()? {
            let (text, since, state) = (saved.text()?, saved.optional()?, saved.bytes()?);
            let Some(at) = restored.options.metrics.iter().position(|metric| metric.text == text) else {
                restored.ended.push(text);
                continue;
            };
            let Running { group, slots, windows, since: begun, .. } = &mut restored.running[at];
            let keys = &mut restored.groups[*group].keys;
            let mut state = Reader::new(state);
            match windows {
                Windows::Slices(slices, spec) => *slices = Slices::restore(*spec, keys, slots, &mut state)?,
                Windows::Sessions(sessions, _) => *sessions = Sessions::restore(keys, slots, &mut state)?,
            }
            state.finish()?;
            *begun = since;
        }
        saved.finish()?;
        Ok(restored)
    }
}

/// Returns the watermark in the bytes of [`Window::snapshot`]. Errors: exit status 65 if they are no snapshot.
pub fn saved_watermark(bytes: &[u8]) -> Result<Option<i64>> {
    let mut saved = Reader::new(bytes);
    let (_version, _fingerprint, _complete) = (saved.byte()?, saved.text()?, saved.flag()?);
    saved.optional()
}

#[cfg(test)]
mod tests;
