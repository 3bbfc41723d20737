//! The state of a group of metrics in files: saved shards of ranges of keys, and logs of the rows that came after them.
//!
//! ```text
//! rows ─► SpilledWindows (judges them) ─► pending ─► log in a file ┐
//!                                         saved Shards in files ───┴─► Shard of a range of keys ─► fires, is saved
//! ```
//!
//! A key belongs to a range of hashes. The state of a range is a [`Shard`]: the same windows as in memory, for fewer
//! keys. So whatever windows can do in memory they do here too. Rows wait in a log until a window of theirs fires or
//! closes; then all ranges are read one after another.
//!
//! A file holds blocks of many ranges and is never changed. A range that becomes too large for memory is split when it
//! is read; its parts refer to the same blocks until they are written again.
//!
//! `rows.rs`: the rows of a log; `sorter.rs`: the result rows of a firing, in order.

mod rows;
mod sorter;
#[cfg(test)]
mod tests;

use self::rows::{Hashes, RowLayout, hash};
pub(crate) use self::sorter::RowSorter;
use crate::error::{Error, Result};
use crate::kind::metric;
use crate::op::snapshot::{Reader, Writer};
use crate::op::state_storage::{NewStateFile, StateFile, StateStorage};
use crate::op::window::firing::{Shard, WatermarkFiring};
use crate::op::window::metric::Metric;
use crate::op::window::outcome::BatchOutcome;
use crate::op::window::running::{Bounds, MetricView, MetricWindows};
use arrow::array::{BinaryArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

/// Base-2 logarithm of the number of ranges at first.
const RANGE_BITS: u32 = if cfg!(test) { 1 } else { 6 };
/// Base-2 logarithm of the number of parts into which a range that is too large is split.
const SPLIT_BITS: u32 = 2;
/// A range with at most this many keys is not split.
const KEYS_LEAST: usize = if cfg!(test) { 1 } else { 64 };
/// Logs are merged into the saved shards when the logs have more than this many times the bytes of the saved shards,
const LOG_FACTOR: u64 = 2;
/// but not before the logs have more than this many times the bytes of a shard in memory,
const LOG_LEAST: u64 = 16;
/// or when a range has more than this many logs.
const BLOCKS_MAX: usize = 512;
/// A state returns to memory when it has at most this part (1/4) of the bytes of a shard in memory.
const SMALL_DIVISOR: u64 = 4;

/// The state of a group in files.
#[derive(Debug)]
pub(crate) struct Spilled {
    /// The columns of the logs.
    layout: RowLayout,
    /// For each metric of the saved shards its place in the group; `None` if the group has it no longer.
    places: Vec<Option<usize>>,
    /// In order; they contain every hash.
    ranges: Vec<StoredRange>,
    /// Rows that no log has yet.
    pending: Vec<RecordBatch>,
    pending_bytes: usize,
    /// Keys in the saved shards, as of the last reading.
    keys: u64,
}

/// The state of the keys in one range.
#[derive(Clone, Debug)]
struct StoredRange {
    hashes: Hashes,
    saved: Option<Block>,
    logs: Vec<Block>,
}

/// A part of a file.
#[derive(Clone, Debug)]
struct Block {
    file: Rc<dyn StateFile>,
    at: Range<u64>,
    /// Whether all keys of the block are in the range.
    is_whole: bool,
    /// Approximate bytes of the block that belong to keys in the range, if the hashes of keys are uniform.
    share: u64,
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
    pub(crate) views: Vec<&'a MetricView<'a>>,
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

    /// Returns, for each metric, its index in the group.
    fn places(self) -> Vec<Option<usize>> {
        (0..self.indexes.len()).map(Some).collect()
    }
}

impl StoredRange {
    fn share(&self) -> u64 {
        self.saved.iter().chain(&self.logs).map(|block| block.share).sum()
    }

    /// Splits the range; `None` if it is too short.
    fn split(&self) -> Option<Vec<Self>> {
        let part = |block: &Block| Block { is_whole: false, share: block.share >> SPLIT_BITS, ..block.clone() };
        let range =
            |hashes| Self { hashes, saved: self.saved.as_ref().map(part), logs: self.logs.iter().map(part).collect() };
        Some(self.hashes.split(SPLIT_BITS)?.into_iter().map(range).collect())
    }
}

impl Spilled {
    /// Makes the state of a group without keys.
    pub(crate) fn new(members: Members<'_>) -> Self {
        let (layout, places) = (members.layout(), members.places());
        Self { layout, places, ranges: vec![], pending: vec![], pending_bytes: 0, keys: 0 }
    }

    /// Moves the state of a shard into files.
    pub(crate) fn begin(shard: &mut Shard, context: &mut GroupFiles<'_>) -> Result<Self> {
        let hashes: Vec<u64> = shard.group.keys.each_bytes().map(hash).collect();
        let mut begun = Self::new(context.members);
        let mut writer = BlockWriter::begin(context.storage)?;
        for range in Hashes::ALL.split(RANGE_BITS).unwrap_or_default() {
            let state = shard.snapshot(&|key| range.contains(hashes[key as usize]));
            writer.write(&state)?;
            begun.ranges.push(StoredRange { hashes: range, saved: None, logs: vec![] });
        }
        for (range, block) in begun.ranges.iter_mut().zip(writer.finish()?) {
            range.saved = block;
        }
        begun.keys = shard.group.keys.count() as u64;
        Ok(begun)
    }

    /// Returns the approximate bytes in memory.
    pub(crate) fn allocated(&self) -> usize {
        let blocks = self.ranges.iter().map(|range| range.logs.len() + 2).sum::<usize>();
        self.pending_bytes + blocks * size_of::<Block>()
    }

    /// Returns the keys in files as of the last reading.
    pub(crate) fn keys(&self) -> u64 {
        self.keys
    }

    /// Returns the bytes in files.
    pub(crate) fn disk(&self) -> u64 {
        self.files().values().map(|file| file.length()).sum()
    }

    /// Returns the files, by name.
    pub(crate) fn files(&self) -> BTreeMap<&str, &Rc<dyn StateFile>> {
        let blocks = self.ranges.iter().flat_map(|range| range.saved.iter().chain(&range.logs));
        blocks.map(|block| (block.file.name(), &block.file)).collect()
    }

    /// Whether no row waits and the state is so small that it can return to memory.
    pub(crate) fn is_small(&self, limit: usize) -> bool {
        self.pending.is_empty()
            && self.ranges.iter().map(StoredRange::share).sum::<u64>() * SMALL_DIVISOR <= limit as u64
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
            let hash = hash(keys.value(row));
            self.ranges.partition_point(|range| range.hashes.last < hash)
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
            self.load(&self.ranges[*at], context.members, usize::MAX, &mut state)?;
            let judged = self.layout.replay(&rows, context.members.fired, &mut state)?;
            let indexes: Vec<usize> = chosen.set_indices().collect();
            let late: BTreeSet<(usize, usize)> =
                judged.late.iter().map(|late| (indexes[late.row as usize], late.metric as usize)).collect();
            for (member, running) in shard.running.iter_mut().enumerate() {
                let is_late = |row| of_range(row).then(|| late.contains(&(row, member)));
                running.decided(views[member], bounds, outcome, is_late);
            }
            let mut writer = BlockWriter::begin(context.storage)?;
            writer.write(&state.snapshot(&|_| true))?;
            observe(&state, shard);
            let range = &mut self.ranges[*at];
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
        let rows = rows::joined(pending)?;
        let limit = context.limit as u64;
        self.ranges = std::mem::take(&mut self.ranges)
            .into_iter()
            .flat_map(|range| if range.share() > limit { range.split().unwrap_or(vec![range]) } else { vec![range] })
            .collect();
        let ranges: Vec<Hashes> = self.ranges.iter().map(|range| range.hashes).collect();
        let (indices, places) = rows::route(&rows::hashes(&rows), &ranges);
        let (mut writer, mut block) = (BlockWriter::begin(context.storage)?, vec![]);
        for place in places {
            block.clear();
            if !place.is_empty() {
                rows::encode(&rows::take_rows(&rows, &indices[place])?, &mut block)?;
            }
            writer.write(&block)?;
        }
        for (range, block) in self.ranges.iter_mut().zip(writer.finish()?) {
            range.logs.extend(block);
        }
        Ok(())
    }

    /// Whether the logs shall be merged into the saved shards.
    pub(crate) fn has_long_logs(&self, limit: usize) -> bool {
        let bytes = |blocks: &mut dyn Iterator<Item = &Block>| blocks.map(|block| block.share).sum::<u64>();
        let logs = bytes(&mut self.ranges.iter().flat_map(|range| &range.logs));
        let saved = bytes(&mut self.ranges.iter().flat_map(|range| &range.saved));
        logs > (limit as u64 * LOG_LEAST).max(saved * LOG_FACTOR)
            || self.ranges.iter().any(|range| range.logs.len() > BLOCKS_MAX)
    }

    /// Reads all ranges, one after another, fires their due windows if `firing` is given, and saves the ranges again.
    /// `shard` has the windows whose state is in files.
    pub(crate) fn visit(
        &mut self,
        shard: &mut Shard,
        context: &mut GroupFiles<'_>,
        mut firing: Option<(&WatermarkFiring<'_>, &mut RowSorter)>,
    ) -> Result<()> {
        self.flush(context)?;
        let members = context.members;
        for running in &mut shard.running {
            let MetricWindows::Spilled(spilled) = &mut running.windows else { continue };
            spilled.begin_reading();
        }
        let mut todo = std::mem::take(&mut self.ranges);
        todo.reverse();
        let mut writer = BlockWriter::begin(context.storage)?;
        self.keys = 0;
        while let Some(range) = todo.pop() {
            let mut state = Shard::new(members.each());
            if !self.load(&range, members, context.limit, &mut state)? {
                todo.extend(range.split().into_iter().flatten().rev());
                continue;
            }
            for (running, known) in state.running.iter_mut().zip(&shard.running) {
                running.since = known.since;
            }
            if let Some((firing, sorter)) = &mut firing {
                let mut push = |order, row: &metric::Row<'_>| sorter.push(order, row, context.storage);
                firing.fire(&mut [(members.indexes, &mut state)], &mut push)?;
            }
            observe(&state, shard);
            self.keys += state.group.keys.count() as u64;
            let block = if state.is_empty() { vec![] } else { state.snapshot(&|_| true) };
            writer.write(&block)?;
            self.ranges.push(StoredRange { hashes: range.hashes, saved: None, logs: vec![] });
        }
        for (range, block) in self.ranges.iter_mut().zip(writer.finish()?) {
            range.saved = block;
        }
        Ok(())
    }

    /// Saves the state again if it was saved for other metrics than those of the group. Metrics that the group has no
    /// longer are left out, and new ones begin without state.
    pub(crate) fn fit(&mut self, shard: &mut Shard, context: &mut GroupFiles<'_>) -> Result<()> {
        let members = context.members;
        if self.places != members.places() {
            self.visit(shard, context, None)?;
            self.places = members.places();
        }
        self.layout = members.layout();
        Ok(())
    }

    /// Returns the whole state in memory.
    pub(crate) fn collect(&self, members: Members<'_>) -> Result<Shard> {
        let mut state = Shard::new(members.each());
        self.ranges.iter().try_for_each(|range| self.load(range, members, usize::MAX, &mut state).map(|_| ()))?;
        Ok(state)
    }

    /// Adds the state of a range to `state`; returns false if it exceeds `limit` and the range can be split.
    fn load(&self, range: &StoredRange, members: Members<'_>, limit: usize, state: &mut Shard) -> Result<bool> {
        let contains = |key: &[u8]| range.hashes.contains(hash(key));
        let can_split = limit < usize::MAX && range.hashes.split(SPLIT_BITS).is_some();
        let exceeds =
            |state: &mut Shard| can_split && state.group.keys.count() > KEYS_LEAST && state.allocated() > limit;
        if let Some(Block { file, at, is_whole, .. }) = &range.saved {
            let saved = file.read(at.clone())?;
            state.restore_selected(&saved, &self.places, &|key| *is_whole || contains(key))?;
        }
        for Block { file, at, is_whole, .. } in &range.logs {
            for mut rows in rows::decode(&file.read(at.clone())?, self.layout.columns())? {
                if !is_whole {
                    let hashes = rows::hashes(&rows).into_iter().zip(0u32..);
                    let chosen: Vec<u32> =
                        hashes.filter(|(hash, _)| range.hashes.contains(*hash)).map(|(_, row)| row).collect();
                    rows = rows::take_rows(&rows, &chosen)?;
                }
                self.layout.replay(&rows, members.fired, state)?;
            }
            if exceeds(state) {
                return Ok(false);
            }
        }
        Ok(!exceeds(state))
    }

    /// Saves the layout and, for each range, the blocks that it refers to. No row may wait.
    pub(crate) fn snapshot(&self, out: &mut Writer) {
        let Self { layout, places: _, ranges, pending, pending_bytes: _, keys } = self;
        debug_assert!(pending.is_empty(), "rows that wait are in no file");
        layout.snapshot(out);
        out.count(*keys as usize);
        out.count(ranges.len());
        for StoredRange { hashes, saved, logs } in ranges {
            out.number(hashes.first as i64);
            out.number(hashes.last as i64);
            for blocks in [saved.as_slice(), logs] {
                out.count(blocks.len());
                for Block { file, at, is_whole, share } in blocks {
                    out.text(file.name());
                    out.number(at.start as i64);
                    out.number(at.end as i64);
                    out.flag(*is_whole);
                    out.number(*share as i64);
                }
            }
        }
    }

    /// Restores the state that [`Spilled::snapshot`] saved. `places` has, for each saved metric, its index in the
    /// group, or none if the group no longer has the metric. `has_layout` says whether the state has the columns of the
    /// logs; if it does not, the group must have the metrics for which it was saved.
    pub(crate) fn restore(
        context: &mut GroupFiles<'_>,
        saved: &[u8],
        places: Vec<Option<usize>>,
        has_layout: bool,
    ) -> Result<Self> {
        let (members, storage, mut saved) = (context.members, &mut *context.storage, Reader::new(saved));
        let mut restored = Self::new(members);
        if has_layout {
            restored.layout = RowLayout::restore(&members.each().collect::<Vec<_>>(), &places, &mut saved)?;
        }
        restored.places = places;
        let mut known: BTreeMap<String, Rc<dyn StateFile>> = BTreeMap::new();
        restored.keys = saved.rows()?;
        let mut next = Some(0);
        for _ in 0..saved.count()? {
            let hashes = Hashes { first: saved.le()?, last: saved.le()? };
            if next != Some(hashes.first) || hashes.last < hashes.first {
                return Err(Error::corrupt("snapshot: expected ranges in order"));
            }
            next = hashes.last.checked_add(1);
            let mut blocks = [vec![], vec![]];
            for blocks in &mut blocks {
                for _ in 0..saved.count()? {
                    let (name, at) = (saved.text()?, saved.le()?..saved.le()?);
                    let (is_whole, share) = (saved.flag()?, saved.rows()?);
                    let file = match known.get(&name) {
                        Some(file) => file.clone(),
                        None => known.entry(name.clone()).or_insert(storage.open(&name)?).clone(),
                    };
                    if at.start > at.end || at.end > file.length() {
                        return Err(Error::corrupt(format!(
                            "{name}: expected {} bytes, found {}",
                            at.end,
                            file.length()
                        )));
                    }
                    blocks.push(Block { file, at, is_whole, share });
                }
            }
            let [mut saved_block, logs] = blocks;
            restored.ranges.push(StoredRange { hashes, saved: saved_block.pop(), logs });
        }
        if next.is_some() {
            return Err(Error::corrupt("snapshot: expected ranges that cover all keys, found them incomplete"));
        }
        saved.finish()?;
        Ok(restored)
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

/// Writes one file of blocks.
struct BlockWriter {
    file: Box<dyn NewStateFile>,
    length: u64,
    blocks: Vec<Range<u64>>,
}

impl BlockWriter {
    fn begin(storage: &mut dyn StateStorage) -> Result<Self> {
        Ok(Self { file: storage.create()?, length: 0, blocks: vec![] })
    }

    /// Appends a block; without bytes it is `None` in the result of [`BlockWriter::finish`].
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let start = self.length;
        self.file.write(bytes)?;
        self.length += bytes.len() as u64;
        self.blocks.push(start..self.length);
        Ok(())
    }

    /// Returns the blocks.
    fn finish(self) -> Result<Vec<Option<Block>>> {
        let file = self.file.finish()?;
        let block = |at: Range<u64>| {
            let share = at.end - at.start;
            (share > 0).then(|| Block { file: file.clone(), at, is_whole: true, share })
        };
        Ok(self.blocks.into_iter().map(block).collect())
    }
}
