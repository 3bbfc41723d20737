//! The state of a group of metrics in files: saved shards of ranges of keys, and logs of the rows that came after them.
//!
//! ```text
//! rows ─► SpilledWindows (judges them) ─► pending ─► log in a file ┐
//!                                         saved Shards in files ───┴─► Shard of a range of keys ─► fires, is saved
//! ```
//!
//! A range has the state of some keys in some windows (`ranges.rs`). It is a [`Shard`]: the same windows as in memory,
//! for fewer keys. So whatever windows can do in memory they do here too. Rows wait in a log until a window of theirs
//! fires or closes; then the ranges with such windows are read one after another.
//!
//! A file holds blocks of many ranges and is never changed. A range that becomes too large for memory is split when it
//! is read; its parts refer to the same blocks until they are written again.
//!
//! `rows.rs`: the rows of a log; `sorter.rs`: the result rows of a firing, in order.

mod ranges;
mod rows;
mod sorter;
#[cfg(test)]
mod tests;

use self::ranges::{Block, BlockWriter, KeyPlace, Ranges, StoredRange, hash};
use self::rows::RowLayout;
pub(crate) use self::sorter::RowSorter;
use crate::error::Result;
use crate::kind::metric;
use crate::op::snapshot::{Reader, Writer};
use crate::op::state_storage::{StateFile, StateStorage};
use crate::op::window::firing::{Shard, WatermarkFiring};
use crate::op::window::metric::Metric;
use crate::op::window::outcome::BatchOutcome;
use crate::op::window::running::{Bounds, MetricView, MetricWindows};
use crate::op::window::shape::closing::Closing;
use crate::op::window::shape::ends::EndRange;
use crate::op::window::shape::part::{Part, SavedPart};
use crate::op::window::shape::spilled::SpilledWindows;
use crate::op::window::shape::window_spec::WindowSpec;
use arrow::array::{BinaryArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A range of few windows is not split if it has at most this many keys.
const KEYS_LEAST: usize = if cfg!(test) { 1 } else { 64 };
/// Logs are merged into the saved shards when the logs have more than this many times the bytes of the saved shards,
const LOG_FACTOR: u64 = 2;
/// but not before the logs have more than this many times the bytes of a shard in memory,
const LOG_LEAST: u64 = 16;
/// or when a range has more than this many logs,
const BLOCKS_MAX: usize = 512;
/// or when more than this many logs were written since.
const LOG_FILES_MAX: usize = 256;
/// A state returns to memory when it has at most this part (1/4) of the bytes of a shard in memory.
const SMALL_DIVISOR: u64 = 4;
/// The windows of a range that have fired become a range of their own if the range has at least this part (1/16) of the
/// bytes of a shard in memory, so that they are not read at each firing.
const FIRED_DIVISOR: usize = 16;
/// All ranges are written again when the files have more than this many times the bytes of the blocks in them.
const DISK_FACTOR: u64 = 4;
/// So they are when there are more files than this: without a checkpoint each is an open one.
const FILES_MAX: usize = 128;
/// Neighbours that have fired are joined then, while they have at most this part (1/4) of the bytes of a shard in
/// memory.
const JOINED_DIVISOR: usize = 4;

/// The state of a group in files.
#[derive(Debug)]
pub(crate) struct Spilled {
    /// The columns of the logs.
    layout: RowLayout,
    /// For each metric of the saved shards its place in the group; `None` if the group has it no longer.
    places: Vec<Option<usize>>,
    ranges: Ranges,
    /// Rows that no log has yet.
    pending: Vec<RecordBatch>,
    pending_bytes: usize,
    /// The number of logs written since the last merge.
    log_files: usize,
}

/// Which ranges are read.
enum Visit<'a, 'b> {
    All,
    /// Those with logs.
    Logs,
    /// Those with windows that fire or close.
    Due(&'a WatermarkFiring<'b>, &'a mut RowSorter),
}

/// A group, the files, and how much of the group may be in memory.
pub(crate) struct GroupFiles<'a> {
    pub(crate) members: Members<'a>,
    pub(crate) storage: &'a mut dyn StateStorage,
    /// Bytes of rows that wait for a log, and of a shard while it is read.
    pub(crate) limit: usize,
}

/// The metrics of a group.
#[derive(Clone, Copy)]
pub(crate) struct Members<'a> {
    pub(crate) metrics: &'a [Metric],
    /// The indexes of the group's metrics.
    pub(crate) indexes: &'a [usize],
    /// The watermark up to which windows have fired, as in [`Bounds`].
    pub(crate) fired: Option<i64>,
}

/// A batch for a group, and what becomes of its rows.
pub(crate) struct Arrivals<'a> {
    /// The key of each row.
    pub(crate) keys: &'a BinaryArray,
    /// The views of the group's metrics.
    pub(crate) views: Vec<&'a MetricView>,
    pub(crate) bounds: &'a Bounds,
    pub(crate) outcome: &'a mut BatchOutcome,
}

impl<'a> Members<'a> {
    pub(crate) fn each(self) -> impl Iterator<Item = &'a Metric> {
        self.indexes.iter().map(move |index| &self.metrics[*index])
    }

    /// Returns the columns of the logs of these metrics.
    fn layout(self) -> RowLayout {
        RowLayout::new(&self.each().collect::<Vec<_>>())
    }

    /// Returns the windows of the metrics, which are the same, unless they are sessions.
    fn spec(self) -> Option<WindowSpec> {
        self.each().next().and_then(WindowSpec::of)
    }

    /// Returns how much of a window (µs) is also in the next one.
    fn overlap(self) -> i64 {
        self.spec().map_or(0, |spec| spec.layout.overlap())
    }

    /// Returns the ends of the windows of a shard; all of sessions.
    fn extent(self, shard: &Shard) -> EndRange {
        self.spec().map_or(EndRange::ALL, |_| shard.extent())
    }

    /// Returns, for each metric, its index in the group.
    fn places(self) -> Vec<Option<usize>> {
        (0..self.indexes.len()).map(Some).collect()
    }
}

impl Spilled {
    /// Makes the state of a group with these ranges.
    fn new(members: Members<'_>, ranges: Ranges) -> Self {
        let (layout, places) = (members.layout(), members.places());
        Self { layout, places, ranges, pending: vec![], pending_bytes: 0, log_files: 0 }
    }

    /// Moves the state of a shard into files.
    pub(crate) fn begin(shard: &mut Shard, context: &mut GroupFiles<'_>) -> Result<Self> {
        let hashes: Vec<u64> = shard.group.keys.each_bytes().map(hash).collect();
        let mut ranges = match context.members.spec() {
            Some(spec) => Ranges::of_windows(shard.slot_count(), shard.keys_by_end(), spec.layout.overlap()),
            None => Ranges::of_hashes(),
        };
        let mut writer = BlockWriter::begin(context.storage)?;
        for range in ranges.each() {
            let has_key = |key: u32| range.hashes.contains(hashes[key as usize]);
            let ends = context.members.extent(shard).meet(range.ends);
            let part = Part { has_key: &has_key, ends: range.ends };
            let state = if ends.is_empty() { vec![] } else { shard.snapshot(part) };
            writer.write(&state, ends)?;
        }
        for (range, block) in ranges.each_mut().zip(writer.finish()?) {
            range.saved = block;
        }
        ranges.get_mut(0).keys = shard.group.keys.count() as u64;
        Ok(Self::new(context.members, ranges))
    }

    /// Returns the approximate bytes in memory.
    pub(crate) fn allocated(&self) -> usize {
        let blocks = self.ranges.each().map(|range| range.logs.len() + 2).sum::<usize>();
        self.pending_bytes + blocks * size_of::<Block>()
    }

    /// Returns the keys in files as of the last reading; at least as many are there.
    pub(crate) fn keys(&self) -> u64 {
        self.ranges.keys()
    }

    /// Returns the bytes in files.
    pub(crate) fn disk(&self) -> u64 {
        self.files().values().map(|file| file.length()).sum()
    }

    /// Returns the files, by name.
    pub(crate) fn files(&self) -> BTreeMap<&str, &Rc<dyn StateFile>> {
        self.ranges.files()
    }

    /// Returns the window ends of each range with state, each once.
    #[cfg(test)]
    pub(crate) fn each_ends(&self) -> Vec<EndRange> {
        let mut ends: Vec<EndRange> =
            self.ranges.each().filter(|range| !range.is_empty()).map(|range| range.ends).collect();
        ends.dedup();
        ends
    }

    fn share(&self) -> u64 {
        self.ranges.each().map(StoredRange::share).sum()
    }

    /// Whether no row waits and the state is so small that it can return to memory. Ranges of windows that overlap have
    /// some rows in common, so they cannot become one.
    pub(crate) fn is_small(&self, context: &GroupFiles<'_>) -> bool {
        self.pending.is_empty()
            && self.share() * SMALL_DIVISOR <= context.limit as u64
            && (context.members.overlap() == 0 || self.ranges.have_same_ends())
    }

    /// Takes the rows of a batch that the windows of `shard` have kept, and lets the state judge the undecided rows.
    pub(crate) fn push(
        &mut self,
        arrivals: &mut Arrivals<'_>,
        shard: &mut Shard,
        context: &mut GroupFiles<'_>,
    ) -> Result<()> {
        let (mut masks, mut undecided) = (vec![], BTreeSet::new());
        for running in &shard.running {
            let MetricWindows::Spilled(spilled) = &running.windows else { continue };
            masks.push(spilled.kept());
            undecided.extend(spilled.undecided());
        }
        let Some(mut kept) = masks.iter().cloned().reduce(|a, b| &a | &b) else { return Ok(()) };
        if !undecided.is_empty() {
            kept = self.decide(arrivals, &kept, &undecided, shard, context)?;
        }
        if kept.count_set_bits() == 0 {
            return Ok(());
        }
        let rows = self.layout.log(arrivals.keys, &kept, &arrivals.views, &masks, arrivals.bounds)?;
        self.pending_bytes += rows::size(&rows);
        self.pending.push(rows);
        if self.pending_bytes >= context.limit { self.flush(context) } else { Ok(()) }
    }

    /// Lets the state judge the `undecided` rows, which may be late: reads the ranges of their keys, adds the rows of
    /// the batch in these ranges, and saves the ranges. Returns the `kept` rows of the other ranges.
    fn decide(
        &mut self,
        arrivals: &mut Arrivals<'_>,
        kept: &BooleanBuffer,
        undecided: &BTreeSet<usize>,
        shard: &mut Shard,
        context: &mut GroupFiles<'_>,
    ) -> Result<BooleanBuffer> {
        self.flush(context)?;
        let Arrivals { keys, views, bounds, outcome } = arrivals;
        let place = |row: usize| {
            let mut found = self.ranges.find(KeyPlace { ends: EndRange::ALL, hash: hash(keys.value(row)) });
            found.next().unwrap_or_default()
        };
        let places: Vec<Option<usize>> =
            (0..kept.len()).map(|row| (kept.value(row) || undecided.contains(&row)).then(|| place(row))).collect();
        let read: BTreeSet<usize> = undecided.iter().filter_map(|row| places[*row]).collect();
        for at in &read {
            let of_range = |row: usize| places[row] == Some(*at);
            let chosen = BooleanBuffer::collect_bool(kept.len(), of_range);
            let masks: Vec<BooleanBuffer> = shard.running.iter().map(|running| running.kept_or_undecided()).collect();
            let rows = self.layout.log(keys, &chosen, views, &masks, bounds)?;
            let mut state = Shard::new(context.members.each());
            self.load(self.ranges.get(*at), context.members, usize::MAX, &mut state)?;
            let judged = self.layout.replay(&rows, context.members.fired, EndRange::ALL, &mut state)?;
            let indexes: Vec<usize> = chosen.set_indices().collect();
            let late: BTreeSet<(usize, usize)> =
                judged.late.iter().map(|late| (indexes[late.row as usize], late.metric as usize)).collect();
            for (member, running) in shard.running.iter_mut().enumerate() {
                let is_late = |row| of_range(row).then(|| late.contains(&(row, member)));
                running.decided(views[member], bounds, outcome, is_late);
            }
            let mut writer = BlockWriter::begin(context.storage)?;
            writer.write(&state.snapshot(Part::ALL), EndRange::ALL)?;
            observe(&state, shard);
            let range = self.ranges.get_mut(*at);
            range.logs.clear();
            range.saved = writer.finish()?.pop().flatten();
        }
        let is_other = |row: usize| kept.value(row) && places[row].is_some_and(|place| !read.contains(&place));
        Ok(BooleanBuffer::collect_bool(kept.len(), is_other))
    }

    /// Writes the waiting rows to a log.
    pub(crate) fn flush(&mut self, context: &mut GroupFiles<'_>) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        if pending.is_empty() {
            return Ok(());
        }
        self.log_files += 1;
        let rows = rows::joined(pending)?;
        self.ranges.split_larger(context.limit as u64, context.members.overlap());
        let places = rows::places(&rows, context.members.spec());
        let (indices, parts) = self.ranges.route(&places);
        let (mut writer, mut block) = (BlockWriter::begin(context.storage)?, vec![]);
        for (range, part) in self.ranges.each().zip(parts) {
            block.clear();
            let chosen = &indices[part];
            if !chosen.is_empty() {
                rows::encode(&rows::take_rows(&rows, chosen)?, &mut block)?;
            }
            let ends = chosen.iter().map(|row| places[*row as usize].ends).fold(EndRange::EMPTY, EndRange::join);
            writer.write(&block, ends.meet(range.ends))?;
        }
        for (range, block) in self.ranges.each_mut().zip(writer.finish()?) {
            range.logs.extend(block);
        }
        Ok(())
    }

    /// Merges the logs into the saved shards if the logs are long.
    pub(crate) fn merge_logs(&mut self, shard: &mut Shard, context: &mut GroupFiles<'_>) -> Result<()> {
        let bytes = |blocks: &mut dyn Iterator<Item = &Block>| blocks.map(|block| block.share).sum::<u64>();
        let logs = bytes(&mut self.ranges.each().flat_map(|range| &range.logs));
        let saved = bytes(&mut self.ranges.each().flat_map(|range| &range.saved));
        let is_long = logs > (context.limit as u64 * LOG_LEAST).max(saved * LOG_FACTOR)
            || self.ranges.each().any(|range| range.logs.len() > BLOCKS_MAX)
            || self.log_files > LOG_FILES_MAX;
        if !is_long {
            return Ok(());
        }
        self.log_files = 0;
        self.visit(shard, context, Visit::Logs)
    }

    /// Reads the ranges with windows that fire or close, fires these, and saves the ranges again. `shard` has the
    /// windows whose state is in files.
    pub(crate) fn fire(
        &mut self,
        shard: &mut Shard,
        context: &mut GroupFiles<'_>,
        firing: &WatermarkFiring<'_>,
        sorter: &mut RowSorter,
    ) -> Result<()> {
        self.visit(shard, context, Visit::Due(firing, sorter))?;
        let files = self.files();
        let disk: u64 = files.values().map(|file| file.length()).sum();
        let is_sparse = disk > DISK_FACTOR * self.share() + LOG_LEAST * context.limit as u64;
        if is_sparse || files.len() > FILES_MAX { self.visit(shard, context, Visit::All) } else { Ok(()) }
    }

    /// Reads all ranges, so that the counts of sessions are exact.
    pub(crate) fn read_all(&mut self, shard: &mut Shard, context: &mut GroupFiles<'_>) -> Result<()> {
        self.visit(shard, context, Visit::All)
    }

    /// Reads ranges, one after another, fires their due windows, and saves the ranges again.
    fn visit(&mut self, shard: &mut Shard, context: &mut GroupFiles<'_>, mut visit: Visit<'_, '_>) -> Result<()> {
        self.flush(context)?;
        let members = context.members;
        shard.spilled_mut().for_each(SpilledWindows::begin_reading);
        let (mut todo, mut done) = (self.ranges.take(), vec![]);
        todo.reverse();
        let mut written = vec![];
        let mut writer = BlockWriter::begin(context.storage)?;
        while let Some(mut range) = todo.pop() {
            if !visit.takes(&range, shard, members) {
                done.push(range);
                continue;
            }
            let mut state = Shard::new(members.each());
            if !self.load(&range, members, context.limit, &mut state)? {
                todo.extend(range.split(members.overlap()).into_iter().flatten().rev());
                continue;
            }
            while let (Visit::All, 0) = (&visit, members.overlap())
                && state.allocated() <= context.limit / JOINED_DIVISOR
                && let Some(next) = todo.pop_if(|next| next.joins(&range, members.fired))
            {
                self.load(&next, members, usize::MAX, &mut state)?;
                range.ends.last = next.ends.last;
                range.has_changed |= next.has_changed || !next.logs.is_empty();
            }
            for (running, known) in state.running.iter_mut().zip(&shard.running) {
                running.since = known.since;
            }
            let (mut fired, mut has_changed) = (None, range.has_changed || !range.logs.is_empty());
            if let Visit::Due(firing, sorter) = &mut visit {
                let mut push = |order, row: &metric::Row<'_>| sorter.push(order, row, context.storage);
                firing.fire(&mut [(members.indexes, &mut state)], &mut push)?;
                has_changed = false;
                fired = Some(firing.watermark).filter(|_| state.allocated() * FIRED_DIVISOR > context.limit);
            }
            observe(&state, shard);
            for ends in range.ends_apart(fired, members.extent(&state), members.overlap()) {
                let part = Part { ends, ..Part::ALL };
                let block = if state.is_empty() { vec![] } else { state.snapshot(part) };
                writer.write(&block, members.extent(&state).meet(ends))?;
                written.push(done.len());
                let keys = state.group.keys.count() as u64;
                done.push(StoredRange { keys, has_changed, ..StoredRange::empty(ends, range.hashes) });
            }
        }
        for (at, block) in written.into_iter().zip(writer.finish()?) {
            done[at].saved = block;
        }
        self.ranges.set(done);
        Ok(())
    }

    /// Saves the state again if it was saved for other metrics than those of the group. Metrics that the group has no
    /// longer are left out, and new ones begin without state.
    pub(crate) fn fit(&mut self, shard: &mut Shard, context: &mut GroupFiles<'_>) -> Result<()> {
        let members = context.members;
        if self.places != members.places() {
            self.visit(shard, context, Visit::All)?;
            self.places = members.places();
        }
        self.layout = members.layout();
        Ok(())
    }

    /// Returns the whole state in memory.
    pub(crate) fn collect(&self, members: Members<'_>) -> Result<Shard> {
        let mut state = Shard::new(members.each());
        self.ranges.each().try_for_each(|range| self.load(range, members, usize::MAX, &mut state).map(|_| ()))?;
        Ok(state)
    }

    /// Adds the state of a range to `state`; returns false if it exceeds `limit` and the range can be split.
    fn load(&self, range: &StoredRange, members: Members<'_>, limit: usize, state: &mut Shard) -> Result<bool> {
        let has_windows = range.has_windows(members.overlap());
        let can_split = limit < usize::MAX && range.split(members.overlap()).is_some();
        let exceeds = |state: &mut Shard| {
            can_split && (has_windows || state.group.keys.count() > KEYS_LEAST) && state.allocated() > limit
        };
        if let Some(Block { file, at, is_whole, .. }) = &range.saved {
            let saved = file.read(at.clone())?;
            let has_key = |key: &[u8]| *is_whole || range.hashes.contains(hash(key));
            let part = SavedPart { has_key: &has_key, ends: range.ends };
            state.restore_part(&saved, &self.places, part)?;
        }
        for Block { file, at, is_whole, .. } in &range.logs {
            for mut rows in rows::decode(&file.read(at.clone())?, self.layout.columns())? {
                if !is_whole {
                    let places = rows::places(&rows, members.spec()).into_iter().zip(0u32..);
                    let chosen: Vec<u32> =
                        places.filter(|(place, _)| range.contains(*place)).map(|(_, row)| row).collect();
                    rows = rows::take_rows(&rows, &chosen)?;
                }
                self.layout.replay(&rows, members.fired, range.ends, state)?;
            }
            if exceeds(state) {
                return Ok(false);
            }
        }
        Ok(!exceeds(state))
    }

    /// Saves the layout and the ranges. No row may wait.
    pub(crate) fn snapshot(&self, out: &mut Writer) {
        let Self { layout, places: _, ranges, pending, pending_bytes: _, log_files: _ } = self;
        debug_assert!(pending.is_empty(), "rows that wait are in no file");
        layout.snapshot(out);
        ranges.snapshot(out);
    }

    /// Restores the state that [`Spilled::snapshot`] saved. `places` has, for each saved metric, its index in the
    /// group, or none if the group no longer has the metric. If the state does not have the columns of the logs, the
    /// group must have the metrics for which it was saved.
    pub(crate) fn restore(
        context: &mut GroupFiles<'_>,
        saved: &[u8],
        places: Vec<Option<usize>>,
        layouts: SavedLayouts,
    ) -> Result<Self> {
        let (members, mut saved) = (context.members, Reader::new(saved));
        let layout = match layouts.has_columns {
            true => RowLayout::restore(&members.each().collect::<Vec<_>>(), &places, &mut saved)?,
            false => members.layout(),
        };
        let ranges = Ranges::restore(context.storage, layouts.has_ends, &mut saved)?;
        saved.finish()?;
        Ok(Self { layout, places, ..Self::new(members, ranges) })
    }
}

/// What a snapshot says about state in files.
#[derive(Clone, Copy)]
pub(crate) struct SavedLayouts {
    /// The columns of the logs.
    pub(crate) has_columns: bool,
    /// The ends of windows of each range and block, and runs of window ends.
    pub(crate) has_ends: bool,
}

impl Visit<'_, '_> {
    /// Whether a range is read. `shard` knows the windows whose state is in files.
    fn takes(&self, range: &StoredRange, shard: &Shard, members: Members<'_>) -> bool {
        if members.spec().is_none() {
            // The number of sessions is that of all ranges.
            return true;
        }
        match self {
            Self::All => true,
            Self::Logs => !range.logs.is_empty(),
            Self::Due(firing, _) => {
                let watermark = firing.watermark;
                let fires = |spilled: &SpilledWindows, block: &Block| {
                    !Closing::of_windows(spilled.delay()).is_open(block.ends.first, watermark)
                };
                !range.is_empty()
                    && shard.spilled().any(|spilled| {
                        range.unfired().any(|block| fires(spilled, block))
                            || spilled.is_due_within(range.ends, watermark)
                    })
            }
        }
    }
}

/// Adds the first due instant, the number of waiting sessions and the number of partial windows of a range that was
/// read to `shard`.
fn observe(state: &Shard, shard: &mut Shard) {
    for (read, running) in state.running.iter().zip(&mut shard.running) {
        running.counts.partial += read.counts.partial;
        if let (MetricWindows::Sessions(sessions, rule), MetricWindows::Spilled(spilled)) =
            (&read.windows, &mut running.windows)
        {
            spilled.on_sessions(sessions.earliest(*rule, spilled.delay()), sessions.held());
        }
    }
}
