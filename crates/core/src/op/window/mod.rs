//! Event-time windows: takes batches of events, emits result rows, and reports late and dead rows.
//!
//! ```text
//! batch ─► key (dimensions) ─► running ─┬─► slots of windows (slice, session) ─► fire ─► result rows
//!                                       ├─► late rows: every window of the row is closed
//!                                       └─► faults: an expression cannot be evaluated
//! progress of partitions ─► watermark ─► which windows fire, and which are dropped
//! ```
//!
//! `shape/closing.rs` has the rule that says which windows count a row. The row's own stream time decides, so the
//! results are a function of the partitions' contents, not of batch sizes, timing or interleaving. The watermark
//! decides when windows fire and when state is dropped; a row of a partition that was idle or is new may be behind it,
//! and is late for what was dropped.
//!
//! A batch passes through [`Window::on_batch`]: `running.rs` judges its rows for each metric and adds them to slots.
//! [`Window::fire`] emits what is due.
//!
//! - `spec.rs`, `metric.rs`: the metrics as written, and resolved.
//! - `watermark.rs`: the watermark from the partitions' stream times.
//! - `running.rs`: one metric with its state; `outcome.rs`: the outcome of each row.
//! - `shape/`: the windows of a metric: tumbling and sliding, sessions, those whose state is in files.
//! - `firing.rs`: the state of metrics with the same keys, and how it fires.
//! - `group.rs`: this state in memory or in files; `spill/`: the files.
//! - `key.rs`, `slots.rs`, `tree.rs`: the tuples of dimensions, the accumulators, and sums of many accumulators.

pub(crate) mod firing;
pub(crate) mod group;
pub mod key;
pub mod metric;
pub(crate) mod outcome;
pub(crate) mod running;
pub(crate) mod shape;
pub mod slots;
pub mod spec;
pub(crate) mod spill;
pub(crate) mod tree;
pub mod watermark;

pub use self::firing::Emitter;
use self::firing::WatermarkFiring;
use self::group::{GroupShard, GroupState};
use self::metric::{Emit, Metric};
pub use self::outcome::{BatchOutcome, FailedRow, FailedRows, LateRow};
pub use self::running::MetricCounts;
use self::running::{Bounds, MetricView, MetricWindows, RunningMetric, TimeBounds};
use self::shape::ends::EndRange;
use self::shape::part::{Part, SavedPart};
use self::spill::{GroupFiles, Members, RowSorter, SavedLayouts};
use self::watermark::{ContinuedTopic, Watermark};
use crate::error::{Error, Result};
use crate::expr::{Dimension, Expr, LeafBatch, Leaves, ObservedLeaves};
use crate::frame::Progress;
use crate::kind::event::{column, instants};
#[cfg(test)]
use crate::kind::metric::Row;
use crate::op::snapshot::{Reader, Writer};
use crate::op::state_storage::{MemoryBound, StateSize, StateStorage};
use crate::parallel::Parallelism;
use arrow::array::RecordBatch;
use std::sync::Arc;

/// The options of the operator.
pub struct Options {
    /// The leaves of all metrics' expressions.
    pub leaves: Leaves,
    /// The metrics; their names differ.
    pub metrics: Vec<Metric>,
    /// The options of the watermark.
    pub watermark: watermark::Options,
    /// When rows are emitted.
    pub emit: Emit,
    /// How much state is in memory, and where the rest is; `None` if all is in memory.
    pub memory: Option<MemoryBound>,
    /// How rows are added to the groups of metrics with different dimensions.
    pub parallelism: Parallelism,
}

/// The bound of memory is divided into this many shares: one for the rows that wait for a log, one for the shard that
/// is read, one for its result rows. Once a group is in files, the groups in memory get half of the bound.
const SHARES: usize = 8;
/// Most bytes of a share: glibc keeps the memory of state that has moved to files, and uses it for blocks up to 32 MiB.
const SHARE_MAX: usize = 32 << 20;

/// Metrics that share their keys, with their state.
struct Group {
    /// The indexes of the metrics.
    metrics: Vec<usize>,
    state: GroupState,
}

/// A group whose state may leave memory.
struct Bounded<'a> {
    state: &'a mut GroupState,
    files: GroupFiles<'a>,
    /// What fires at the present watermark; `None` before it.
    firing: Option<WatermarkFiring<'a>>,
}

/// The group of a metric, and the index of the metric in the group.
#[derive(Clone, Copy)]
struct Member {
    /// The index of its group.
    group: usize,
    /// Its index in the group.
    index: usize,
}

/// Whether a group in files has windows that are due at a watermark.
type IsDue = fn(&GroupState, i64) -> bool;

/// The window operator.
pub struct Window {
    options: Options,
    watermark: Watermark,
    /// The watermark up to which windows have fired.
    fired: Option<i64>,
    /// The watermark up to which windows are closed: no further row counts for them, also if they have not fired.
    closed: Option<i64>,
    /// Whether due windows wait for sessions in files ([`Window::keep_order`]).
    keeps_order: bool,
    groups: Vec<Group>,
    /// The place of each metric.
    members: Vec<Member>,
    /// The place of each metric in the order of names.
    places: Vec<usize>,
    /// Names that have been NULL in every row so far.
    observed: ObservedLeaves,
    /// Metrics of the restored snapshot that the options do not have.
    ended: Vec<String>,
}

/// Version of the snapshot.
const VERSION: u8 = 6;
/// The version whose state in files was in ranges of keys only. Sums of version 4 are of doubles.
const WITHOUT_ENDS: u8 = 5;
/// The version whose files can be read only for the metrics for which they were saved.
const WITHOUT_LAYOUTS: u8 = 3;
/// The version whose state was in memory.
const WITHOUT_FILES: u8 = 2;
/// The version whose partitions had no input number.
const WITHOUT_INPUTS: u8 = 1;

impl Window {
    /// Creates an operator without state.
    pub fn new(options: Options) -> Self {
        let (mut groups, mut members): (Vec<Group>, Vec<Member>) = (vec![], vec![]);
        // The state of a group is read as a whole, so metrics of one bounded group fire together.
        let is_bounded = options.memory.is_some();
        let is_same = |a: &Metric, b: &Metric| {
            a.by.iter().map(|by| &by.text).eq(b.by.iter().map(|by| &by.text))
                && (!is_bounded || (a.shape, a.lateness) == (b.shape, b.lateness))
        };
        for (index, metric) in options.metrics.iter().enumerate() {
            let same = groups.iter().position(|group| is_same(&options.metrics[group.metrics[0]], metric));
            let group = same.unwrap_or(groups.len());
            if same.is_none() {
                groups.push(Group { metrics: vec![], state: GroupState::default() });
            }
            members.push(Member { group, index: groups[group].metrics.len() });
            groups[group].metrics.push(index);
            groups[group].state.shard.running.push(RunningMetric::new(metric));
        }
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|index| &options.metrics[*index].name);
        let mut places = vec![0; members.len()];
        order.iter().enumerate().for_each(|(place, index)| places[*index] = place);
        let watermark = Watermark::new(options.watermark);
        let observed = ObservedLeaves::new(&options.leaves);
        let (fired, closed, keeps_order) = (None, None, false);
        Self { options, watermark, fired, closed, keeps_order, groups, members, places, observed, ended: vec![] }
    }

    fn running(&self) -> impl Iterator<Item = &RunningMetric> {
        self.members.iter().map(|member| &self.groups[member.group].state.shard.running[member.index])
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> &[Metric] {
        &self.options.metrics
    }

    /// Returns the metrics of the restored snapshot that are not computed any more, for messages.
    pub fn ended_metrics(&self) -> &[String] {
        &self.ended
    }

    /// Sets the storage for state beyond the bound of memory. Must be called before any state is in files.
    pub fn set_storage(&mut self, storage: Box<dyn StateStorage>) {
        if let Some(memory) = &mut self.options.memory {
            memory.storage = storage;
        }
    }

    /// Returns the options.
    pub fn into_options(self) -> Options {
        self.options
    }

    /// Returns the operator's watermark.
    pub fn watermark(&self) -> &Watermark {
        &self.watermark
    }

    /// Returns, for each metric, the instant (µs) up to which all windows that end there have been emitted.
    pub fn emitted(&self) -> Vec<Option<i64>> {
        let of_metric = |(metric, running): (&Metric, &RunningMetric)| {
            let waits = running.deferral() + i64::from(metric.shape.layout().is_none());
            let delay = firing::delay(self.options.emit, metric);
            self.fired.map(|watermark| watermark.saturating_sub(delay).saturating_sub(waits))
        };
        self.options.metrics.iter().zip(self.running()).map(of_metric).collect()
    }

    /// Excludes an idle partition, by its number in the watermark, from the minimum.
    pub fn set_idle(&mut self, partition: usize) {
        self.watermark.set_idle(partition);
    }

    /// Returns the counts of each metric.
    pub fn counts(&self) -> Vec<MetricCounts> {
        self.running().map(|running| running.counts).collect()
    }

    /// Returns pairs of a metric and a line about a name that was NULL in every row so far.
    pub fn null_lines(&self) -> Vec<(&str, String)> {
        self.names(|expr| self.observed.null_lines(expr, "event"))
    }

    /// Returns pairs of a metric and a name that had integers beyond 2^53 which were rounded.
    pub fn rounded(&self) -> Vec<(&str, String)> {
        self.names(|expr| self.observed.rounded(expr))
    }

    /// Returns the names, or lines about them, that `of` finds in the expressions of each metric.
    fn names(&self, of: impl Fn(&Expr) -> Vec<String>) -> Vec<(&str, String)> {
        let mut found = vec![];
        for metric in &self.options.metrics {
            let expressions = metric.by.iter().map(|by| &by.expr).chain(metric.call.args()).chain(&metric.filter);
            let names = expressions.flat_map(&of);
            found.extend(names.map(|name| (metric.name.as_str(), name)));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Returns the number of windows that hold rows and have not fired; of sessions in files, as of [`Window::settle`].
    pub fn held(&self) -> u64 {
        self.running()
            .map(|running| match &running.windows {
                MetricWindows::Slices(slices, spec) => slices.held(*spec),
                MetricWindows::Sessions(sessions, _) => sessions.held(),
                MetricWindows::Spilled(spilled) => spilled.held(),
            })
            .sum()
    }

    /// Returns the size of the state.
    pub fn size(&mut self) -> StateSize {
        let written = self.options.memory.as_ref().map_or(0, |memory| memory.storage.written());
        let mut size = StateSize { written, ..StateSize::default() };
        self.groups.iter_mut().for_each(|group| group.state.add_to(&mut size));
        size
    }

    /// Applies the progress that the source reports of its partitions.
    pub fn on_progress(&mut self, progress: &Progress) -> Result<()> {
        self.watermark.on_progress(progress)
    }

    /// Begins another run over a restored state: keeps the partitions of continued inputs and forgets the others. The
    /// watermark stays.
    pub fn begin_run(&mut self, continued: &[ContinuedTopic]) {
        self.watermark.begin_run(continued);
    }

    /// Whether every window has fired because all inputs had ended.
    pub fn is_exhausted(&self) -> bool {
        self.watermark.get() == Some(i64::MAX)
    }

    /// Lets due windows wait for sessions in files, so that final rows come in the same order as those of state in
    /// memory. The state of such an operator must not be saved.
    pub fn keep_order(&mut self) {
        self.keeps_order = self.options.emit == Emit::Final;
    }

    /// Lets only explicit watermarks raise the watermark ([`Watermark::hold`]).
    pub fn hold(&mut self) {
        self.watermark.hold();
    }

    /// Advances the stream times of partitions by rows that no window counts.
    pub fn on_others(&mut self, batch: &RecordBatch, input: u32) -> Result<()> {
        self.watermark.on_batch(batch, input)
    }

    /// Takes an explicit watermark.
    pub fn on_explicit_watermark(&mut self, watermark: i64) {
        self.watermark.on_explicit_watermark(watermark);
    }

    /// Adds a batch of events from input number `input`; returns the outcome of each row.
    pub fn on_batch(&mut self, batch: &RecordBatch, input: u32) -> Result<BatchOutcome> {
        let leaves = LeafBatch::read(&self.options.leaves, batch)?;
        self.take_keys(&leaves, batch.num_rows())?;
        self.observed.observe(&leaves);
        let mut views = MetricView::of_metrics(&self.options.metrics, batch, &leaves)?;
        let mut outcome = BatchOutcome::of_rows(batch.num_rows());
        outcome.failed = running::failed_rows(&self.options.metrics, &mut views, &leaves);
        let bounds = Bounds {
            out_of_orderness: match self.options.watermark {
                watermark::Options { explicit: true, .. } => 0,
                watermark::Options { out_of_orderness, .. } => out_of_orderness.unwrap_or(i64::MAX),
            },
            closed: self.closed,
            fired: self.fired_bound(),
            extent: TimeBounds::new(instants(batch, column::EVENT_TIME), instants(batch, column::STREAM_TIME)),
            ends: EndRange::ALL,
        };
        let views = Arc::new(views);
        let groups = self.groups.iter_mut();
        let shards =
            groups.map(|group| GroupShard { metrics: &group.metrics, shard: &mut group.state.shard }).collect();
        group::add(shards, &views, &bounds, &self.options.parallelism, &mut outcome)?;
        for at in 0..self.groups.len() {
            let of_group = self.groups[at].metrics.iter().map(|metric| &views[*metric]).collect();
            if let Some(mut bounded) = self.bounded(at) {
                bounded.state.push(of_group, &bounds, &mut bounded.files, &mut outcome)?;
            }
        }
        outcome.finish();
        self.watermark.on_batch(batch, input)?;
        Ok(outcome)
    }

    /// Looks up the key of each row for each group.
    fn take_keys(&mut self, leaves: &LeafBatch, rows: usize) -> Result<()> {
        for Group { metrics, state } in &mut self.groups {
            let by = &self.options.metrics[metrics[0]].by;
            let values: Vec<Dimension> = by.iter().map(|by| by.expr.dimension(leaves)).collect::<Result<_>>()?;
            state.take_keys(&values, rows)?;
        }
        Ok(())
    }

    /// Fires the due windows in the order of due time, window end, metric and dimensions; then drops state that no
    /// later row can reach. In files, windows that have fired and sessions may wait until more is due.
    pub fn fire(&mut self, emit: &mut Emitter<'_>) -> Result<()> {
        let Some(watermark) = self.watermark.get() else { return self.bound() };
        self.closed = Some(watermark);
        let is_any = |is_due: IsDue| self.groups.iter().any(|group| is_due(&group.state, watermark));
        let waits = self.keeps_order && is_any(GroupState::is_due) && !is_any(GroupState::is_overdue);
        if !waits {
            let is_due = if self.keeps_order { GroupState::is_due } else { GroupState::is_overdue };
            self.fire_groups(watermark, is_due, emit)?;
        }
        self.bound()
    }

    /// Fires the due windows of the groups in memory and of those groups in files that `is_due` chooses.
    fn fire_groups(&mut self, watermark: i64, is_due: IsDue, emit: &mut Emitter<'_>) -> Result<()> {
        let due: Vec<bool> = self.groups.iter().map(|group| is_due(&group.state, watermark)).collect();
        let mut sorter = due.contains(&true).then(|| RowSorter::new(self.share()));
        let Options { metrics, emit: when, memory, .. } = &mut self.options;
        let firing = WatermarkFiring { metrics, places: &self.places, emit: *when, watermark };
        let in_memory = self.groups.iter_mut().filter(|group| !group.state.is_spilled());
        let mut shards: Vec<_> = in_memory.map(|group| (group.metrics.as_slice(), &mut group.state.shard)).collect();
        match (&mut sorter, memory) {
            (Some(sorter), Some(memory)) => {
                firing.fire(&mut shards, &mut |order, row| sorter.push(order, row, memory.storage.as_mut()))?;
            }
            _ => firing.fire(&mut shards, &mut |_, row| emit(row))?,
        }
        for at in (0..due.len()).filter(|at| due[*at]) {
            let Some(Bounded { state, mut files, firing: Some(firing) }) = self.bounded(at) else { break };
            sorter.as_mut().map_or(Ok(()), |sorter| state.fire(&mut files, &firing, sorter))?;
        }
        self.fired = Some(watermark);
        let Options { metrics, memory, .. } = &mut self.options;
        let (Some(sorter), Some(memory)) = (sorter, memory) else { return Ok(()) };
        sorter.finish(metrics, &self.places, memory.storage.as_mut(), emit)
    }

    /// Returns a group whose state may leave memory; `None` if it may not.
    fn bounded(&mut self, group: usize) -> Option<Bounded<'_>> {
        let (fired, limit) = (self.fired_bound(), self.share());
        let Group { metrics: indexes, state } = &mut self.groups[group];
        let Options { metrics, memory, emit, .. } = &mut self.options;
        let (members, storage) = (Members { metrics, indexes, fired }, memory.as_mut()?.storage.as_mut());
        let firing = |watermark| WatermarkFiring { metrics, places: &self.places, emit: *emit, watermark };
        let files = GroupFiles { members, storage, limit };
        Some(Bounded { state, files, firing: self.watermark.get().map(firing) })
    }

    /// Returns the watermark up to which windows have fired, if a window may fire again.
    fn fired_bound(&self) -> Option<i64> {
        self.fired.filter(|_| self.options.emit != Emit::Final)
    }

    /// Returns, for each group in files, the maximum bytes of rows that wait for a log, and of a shard that is read.
    fn share(&self) -> usize {
        let spilled = self.groups.iter().filter(|group| group.state.is_spilled()).count();
        let memory = self.options.memory.as_ref();
        memory.map_or(usize::MAX, |memory| (memory.bytes / (SHARES * spilled.max(1))).min(SHARE_MAX))
    }

    /// Merges the long logs of groups in files, then moves the largest groups into files until the state in memory is
    /// within its bound.
    fn bound(&mut self) -> Result<()> {
        for at in 0..self.groups.len() {
            let Some(Bounded { state, mut files, .. }) = self.bounded(at) else { return Ok(()) };
            state.merge_logs(&mut files)?;
        }
        loop {
            let Some(memory) = &self.options.memory else { return Ok(()) };
            let is_any_spilled = self.groups.iter().any(|group| group.state.is_spilled());
            let (mut bytes, mut largest) = (0, None);
            for (at, Group { state, .. }) in self.groups.iter_mut().enumerate() {
                if state.is_spilled() {
                    continue;
                }
                let size = state.allocated();
                bytes += size;
                if state.can_spill() && largest.is_none_or(|(known, _)| known < size) {
                    largest = Some((size, at));
                }
            }
            let bound = if is_any_spilled { memory.bytes / 2 } else { memory.bytes };
            let Some((_, largest)) = largest.filter(|_| bytes > bound) else { return Ok(()) };
            let (emit, fired) = (self.options.emit, self.fired);
            let Some(Bounded { state, mut files, .. }) = self.bounded(largest) else { return Ok(()) };
            state.spill(&mut files, emit, fired)?;
        }
    }

    /// Fires the due windows that wait for more sessions in files to be due, so that the counts of sessions are exact.
    pub fn settle(&mut self, emit: &mut Emitter<'_>) -> Result<()> {
        if let Some(watermark) = self.watermark.get() {
            return self.fire_groups(watermark, GroupState::settles, emit);
        }
        for at in 0..self.groups.len() {
            let Some(Bounded { state, mut files, .. }) = self.bounded(at) else { break };
            state.read_sessions(&mut files)?;
        }
        Ok(())
    }

    /// Fires everything, because every input has ended.
    pub fn on_exhausted(&mut self, emit: &mut Emitter<'_>) -> Result<()> {
        self.watermark.on_exhausted();
        self.fire(emit)
    }

    /// Writes rows that wait for state in files, and returns the names of the files that the next snapshot refers to.
    pub fn files(&mut self) -> Result<Vec<String>> {
        let mut names = vec![];
        for at in 0..self.groups.len() {
            let Some(Bounded { state, mut files, .. }) = self.bounded(at) else { break };
            names.extend(state.files(&mut files)?);
        }
        Ok(names)
    }

    /// Returns the state as bytes. They refer to the files whose names [`Window::files`] has just returned.
    pub fn snapshot(&mut self) -> Vec<u8> {
        let mut out = Writer::default();
        out.byte(VERSION);
        out.text(&self.fingerprint());
        self.watermark.snapshot(&mut out);
        out.optional(self.fired);
        let files: Vec<_> =
            self.groups.iter().filter_map(|group| Some((group, group.state.snapshot_files()?))).collect();
        out.count(files.len());
        for (Group { metrics, .. }, state) in files {
            out.count(metrics.len());
            metrics.iter().for_each(|metric| out.text(&self.options.metrics[*metric].text));
            out.bytes(&state);
        }
        out.count(self.members.len());
        for (metric, Member { group, index }) in self.options.metrics.iter().zip(&self.members) {
            let shard = &mut self.groups[*group].state.shard;
            out.text(&metric.text);
            // Counts, and the names that are always NULL, are not saved: they are those of a run.
            out.optional(shard.running[*index].since);
            out.bytes(&shard.snapshot_metric(*index, Part::ALL));
        }
        out.finish()
    }

    /// Returns the options that a snapshot must share, beside each metric's own text.
    fn fingerprint(&self) -> String {
        let watermark::Options { out_of_orderness, explicit, new_partitions: _ } = self.options.watermark;
        metric::fingerprint(out_of_orderness, explicit, self.options.emit)
    }

    /// Returns the options that a snapshot must share, and the text of each metric, one a line.
    pub fn spec(&self) -> String {
        let mut metrics: Vec<&str> = self.options.metrics.iter().map(|metric| metric.text.as_str()).collect();
        metrics.sort_unstable();
        [&[self.fingerprint().as_str()], metrics.as_slice()].concat().join("\n")
    }

    /// Restores the groups whose state is in files. A group whose metrics have changed gets the state of the metrics
    /// that it still has.
    fn restore_files(&mut self, saved: &mut Reader<'_>, layouts: SavedLayouts) -> Result<()> {
        for _ in 0..saved.count()? {
            let texts = (0..saved.count()?).map(|_| saved.text()).collect::<Result<Vec<_>>>()?;
            let state = saved.bytes()?;
            let Options { metrics, emit, memory, .. } = &self.options;
            let place = |text: &String| Some(self.members[metrics.iter().position(|metric| metric.text == *text)?]);
            let found: Vec<Option<Member>> = texts.iter().map(place).collect();
            // If the run has none of these metrics, their state is dropped.
            let Some(Member { group, .. }) = found.iter().flatten().next() else { continue };
            if memory.is_none() {
                return Err(Error::broken("state in files of a window whose state has no bound"));
            }
            let (group, emit, indexes) = (*group, *emit, &self.groups[*group].metrics);
            if found.iter().flatten().any(|member| member.group != group) {
                return Err(Error::corrupt("snapshot: expected metrics of one group, found those of several"));
            }
            if !layouts.has_columns && texts.iter().ne(indexes.iter().map(|metric| &metrics[*metric].text)) {
                let texts = texts.iter().map(|text| metric::shown(text)).collect::<Vec<_>>().join("; ");
                return Err(Error::config(format!(
                    "expected exactly these metrics for their dimensions and windows, because an older version has saved their state: \
                     {texts}; start once with them, then add or remove others"
                )));
            }
            let places = found.iter().map(|place| place.map(|member| member.index)).collect();
            let Some(mut bounded) = self.bounded(group) else { continue };
            bounded.state.restore_files(&mut bounded.files, emit, state, places, layouts)?;
        }
        Ok(())
    }

    /// Restores an operator from the bytes of [`Window::snapshot`]. A metric that is not in the snapshot begins with
    /// the first window that no earlier event can be in ([`RunningMetric::is_partial`]).
    pub fn restore(options: Options, bytes: &[u8]) -> Result<Self> {
        let mut saved = Reader::new(bytes);
        let version = saved.byte()?;
        if !(WITHOUT_INPUTS..=VERSION).contains(&version) {
            return Err(Error::corrupt("snapshot of windows: unknown version"));
        }
        let mut restored = Self::new(options);
        metric::check_fingerprint(&saved.text()?, &restored.fingerprint())?;
        restored.watermark = Watermark::restore(restored.options.watermark, version != WITHOUT_INPUTS, &mut saved)?;
        restored.fired = saved.optional()?;
        restored.closed = restored.fired;
        let layouts = SavedLayouts { has_columns: version > WITHOUT_LAYOUTS, has_ends: version > WITHOUT_ENDS };
        if version > WITHOUT_FILES {
            restored.restore_files(&mut saved, layouts)?;
        }
        let begins = restored.watermark.greatest_ever();
        let running = restored.groups.iter_mut().flat_map(|group| &mut group.state.shard.running);
        running.for_each(|running| running.since = begins);
        for _ in 0..saved.count()? {
            let (text, since, state) = (saved.text()?, saved.optional()?, saved.bytes()?);
            let Some(at) = restored.options.metrics.iter().position(|metric| metric.text == text) else {
                restored.ended.push(metric::shown(&text));
                continue;
            };
            let Member { group, index } = restored.members[at];
            let shard = &mut restored.groups[group].state.shard;
            shard.restore_metric(index, state, SavedPart::ALL, layouts.has_ends)?;
            shard.running[index].since = since;
        }
        saved.finish()?;
        Ok(restored)
    }
}

/// Checks that a run continues the bytes of [`Window::snapshot`] if it emits rows as `emit` says; `bound` returns its
/// out-of-orderness (µs) for a stream with watermarks of its own (true) or without, which only the stream shows.
/// Errors: exit status 78 if the options differ, 65 if the bytes are not a snapshot.
pub fn check_saved(bytes: &[u8], emit: Emit, bound: impl Fn(bool) -> Option<i64>) -> Result<()> {
    let mut saved = Reader::new(bytes);
    let (_version, fingerprint) = (saved.byte()?, saved.text()?);
    let explicit = metric::is_explicit(&fingerprint);
    metric::check_fingerprint(&fingerprint, &metric::fingerprint(bound(explicit), explicit, emit))
}

/// Returns the watermark in the bytes of [`Window::snapshot`]. Errors: exit status 65 if they are not a snapshot.
pub fn saved_watermark(bytes: &[u8]) -> Result<Option<i64>> {
    let mut saved = Reader::new(bytes);
    let (_version, _fingerprint, _complete) = (saved.byte()?, saved.text()?, saved.flag()?);
    saved.optional()
}

#[cfg(test)]
mod tests;
