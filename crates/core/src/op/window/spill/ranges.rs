//! The ranges of state in files: which keys and windows each has, and the blocks of files that have its state.
//!
//! ```text
//!  hashes of keys
//!  ▲ ┌────────┬───┬────────┐
//!  │ │        ├───┤        │   many windows: ranges of their ends;
//!  │ │        ├───┤        │   the keys of few windows: ranges of their hashes
//!  │ └────────┴───┴────────┘
//!  └────────────────────────► ends of windows
//! ```
//!
//! A row of windows that overlap is in several ranges if its windows are, and counts in each for the windows of the
//! range. Sessions have ranges of hashes only, because their ends are not known before their rows.

use crate::error::{Error, Result};
use crate::op::snapshot::{Reader, Writer};
use crate::op::state_storage::{NewStateFile, StateFile, StateStorage};
use crate::op::window::shape::ends::{EndRange, WindowKeys};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use xxhash_rust::xxh3::xxh3_64;

/// Base-2 logarithm of the number of ranges at first.
const RANGE_BITS: u32 = if cfg!(test) { 1 } else { 6 };
/// Base-2 logarithm of the number of parts into which a range that is too large is split.
const SPLIT_BITS: u32 = 2;

/// A range is split by windows if their ends are further apart than this many times the overlap of two windows.
const OVERLAPS: i64 = 4;

/// Windows that become a range, and the number of their keys.
#[derive(Clone, Copy)]
struct Begun {
    ends: EndRange,
    keys: usize,
}

impl Begun {
    /// Whether the windows are enough for a range.
    fn is_long(self, most: usize, overlap: i64) -> bool {
        self.keys > most && self.ends.width() >= overlap.saturating_mul(OVERLAPS)
    }
}

/// A row and the index of a range that it is in.
struct RoutedRow {
    row: u32,
    range: usize,
}

/// The state of some keys in some windows.
#[derive(Clone, Debug)]
pub(super) struct StoredRange {
    /// The ends of its windows, or all.
    pub(super) ends: EndRange,
    /// The hashes of its keys. They are all, unless `ends` has few windows or is not known.
    pub(super) hashes: Hashes,
    /// Its keys as of the last reading.
    pub(super) keys: u64,
    pub(super) saved: Option<Block>,
    pub(super) logs: Vec<Block>,
    /// Whether the saved state may have rows for windows that have fired and shall fire again.
    pub(super) has_changed: bool,
}

/// A part of a file.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) file: Rc<dyn StateFile>,
    pub(super) at: Range<u64>,
    /// Whether all of the block is in the range.
    pub(super) is_whole: bool,
    /// Approximate bytes of the block that belong to the range, if hashes and ends are uniform.
    pub(super) share: u64,
    /// No window of the range that has rows in the block ends outside.
    pub(super) ends: EndRange,
}

/// The place of a row among the ranges: a row may be in several, with some of its windows each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyPlace {
    /// The ends of the windows that count it; all of sessions.
    pub(super) ends: EndRange,
    pub(super) hash: u64,
}

/// Returns the hash that assigns a key to a range. It is the same in every run.
pub(crate) fn hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

impl StoredRange {
    pub(super) fn empty(ends: EndRange, hashes: Hashes) -> Self {
        Self { ends, hashes, keys: 0, saved: None, logs: vec![], has_changed: false }
    }

    /// Returns the ranges of the keys of these windows at first.
    fn split_evenly(ends: EndRange) -> impl Iterator<Item = Self> {
        let hashes = Hashes::ALL.split(RANGE_BITS).unwrap_or_default().into_iter();
        hashes.map(move |hashes| Self::empty(ends, hashes))
    }

    pub(super) fn contains(&self, place: KeyPlace) -> bool {
        !self.ends.meet(place.ends).is_empty() && self.hashes.contains(place.hash)
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.saved.iter().chain(&self.logs)
    }

    /// Returns the blocks with rows that may fire windows again.
    pub(super) fn unfired(&self) -> impl Iterator<Item = &Block> {
        self.saved.iter().filter(|_| self.has_changed).chain(&self.logs)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks().next().is_none()
    }

    pub(super) fn share(&self) -> u64 {
        self.blocks().map(|block| block.share).sum()
    }

    /// Returns the ends of its windows with rows, if they are known.
    fn found(&self) -> Option<EndRange> {
        let found = self.blocks().fold(EndRange::EMPTY, |found, block| found.join(block.ends)).meet(self.ends);
        (self.hashes == Hashes::ALL && !found.is_empty() && found != EndRange::ALL).then_some(found)
    }

    /// Whether it has so many windows, each with `overlap` µs of the next one, that it is split by them: of the rows of
    /// a part, not many are also in another one.
    pub(super) fn has_windows(&self, overlap: i64) -> bool {
        self.found().is_some_and(|found| found.width() > overlap.saturating_mul(OVERLAPS))
    }

    /// Splits the range: by its windows if it has many, else by the hashes of its keys. `None` if it is too short.
    pub(super) fn split(&self, overlap: i64) -> Option<Vec<Self>> {
        let EndRange { first, last } = self.ends;
        match self.found() {
            Some(found) if self.has_windows(overlap) => {
                let width = i128::from(found.last) - i128::from(found.first);
                let cut = |at: i128| (i128::from(found.first) + ((width * at) >> SPLIT_BITS)) as i64;
                let mut cuts: Vec<i64> = (1..1 << SPLIT_BITS).map(cut).collect();
                cuts.dedup();
                let starts = std::iter::once(first).chain(cuts.iter().map(|cut| cut + 1));
                let lasts = cuts.iter().copied().chain([last]);
                let parts = starts.zip(lasts).map(|(first, last)| EndRange { first, last });
                Some(parts.map(|ends| self.part(ends, self.hashes)).collect())
            }
            Some(found) => {
                let before = EndRange { first, last: found.first.saturating_sub(1) };
                let after = EndRange { first: found.last.saturating_add(1), last };
                let mut parts = vec![];
                for ends in [before, found, after] {
                    let hashes = if ends == found { self.hashes.split(SPLIT_BITS)? } else { vec![self.hashes] };
                    parts.extend(hashes.into_iter().filter(|_| !ends.is_empty()).map(|hashes| self.part(ends, hashes)));
                }
                Some(parts)
            }
            None => {
                let parts = self.hashes.split(SPLIT_BITS)?;
                Some(parts.into_iter().map(|hashes| self.part(self.ends, hashes)).collect())
            }
        }
    }

    /// Whether it can be one range with that before it: all of its windows have fired.
    pub(super) fn joins(&self, before: &Self, fired: Option<i64>) -> bool {
        let is_next = before.ends.last.checked_add(1) == Some(self.ends.first);
        is_next && self.hashes == Hashes::ALL && before.hashes == Hashes::ALL && Some(self.ends.last) <= fired
    }

    /// Returns the ends of the range as one or two ranges: of the windows with rows, `found`, those that have fired at
    /// a watermark and those that have not.
    pub(super) fn ends_apart(&self, fired: Option<i64>, found: EndRange, overlap: i64) -> Vec<EndRange> {
        let EndRange { first, last } = self.ends;
        let is_long = |fired: i64| fired.saturating_sub(found.first) >= overlap.saturating_mul(OVERLAPS);
        match fired {
            Some(fired) if self.hashes == Hashes::ALL && is_long(fired) && fired < found.last => {
                vec![EndRange { first, last: fired }, EndRange { first: fired + 1, last }]
            }
            _ => vec![self.ends],
        }
    }

    /// Returns the part with these ends and hashes.
    fn part(&self, ends: EndRange, hashes: Hashes) -> Self {
        let part = |block: &Block| {
            let within = block.ends.meet(ends);
            let is_narrower = within != block.ends || hashes != self.hashes;
            let width = |ends: EndRange| ends.last as f64 - ends.first as f64 + 1.0;
            let share = block.share as f64 * width(within) / width(block.ends) * hashes.width() / self.hashes.width();
            let part =
                Block { is_whole: block.is_whole && !is_narrower, share: share as u64, ends: within, ..block.clone() };
            (!within.is_empty()).then_some(part)
        };
        let (saved, logs) = (self.saved.as_ref().and_then(part), self.logs.iter().filter_map(part).collect());
        Self { ends, hashes, keys: 0, saved, logs, has_changed: self.has_changed }
    }

    /// Whether no place is between the range and the one before it.
    fn follows(&self, before: Option<&Self>) -> bool {
        let is_next_hash = |last: u64| last.checked_add(1) == Some(self.hashes.first);
        let begins = match before {
            None => self.ends.first == i64::MIN && self.hashes.first == 0,
            Some(before) if before.hashes.last == u64::MAX => {
                before.ends.last.checked_add(1) == Some(self.ends.first) && self.hashes.first == 0
            }
            Some(before) => before.ends == self.ends && is_next_hash(before.hashes.last),
        };
        begins && !self.ends.is_empty() && self.hashes.first <= self.hashes.last
    }
}

/// The ranges of a group, in the order of their ends, then of their hashes. They contain every place once.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<StoredRange>);

impl Ranges {
    /// Makes ranges of hashes, without state.
    pub(super) fn of_hashes() -> Self {
        Self(StoredRange::split_evenly(EndRange::ALL).collect())
    }

    /// Makes ranges of ends, without state, so that all will have about as many of the `total` keys of windows.
    /// `windows` are in order, each with `overlap` µs of the next one.
    pub(super) fn of_windows(total: usize, windows: impl Iterator<Item = WindowKeys>, overlap: i64) -> Self {
        let most = total >> RANGE_BITS;
        let (mut ranges, mut first, mut begun) = (vec![], i64::MIN, None::<Begun>);
        let mut end = |begun: Begun| {
            let ends = EndRange { first, last: begun.ends.last };
            first = begun.ends.last + 1;
            match begun.keys > 2 * most {
                true => ranges.extend(StoredRange::split_evenly(ends)),
                false => ranges.push(StoredRange::empty(ends, Hashes::ALL)),
            }
        };
        for WindowKeys { end: at, keys } in windows {
            begun = match begun.take() {
                // Slices may have the same last window.
                Some(known) if known.ends.last == at => Some(Begun { keys: known.keys + keys, ..known }),
                // A window with many keys is alone.
                Some(known) if known.is_long(most, overlap) || overlap == 0 && keys > most => {
                    end(known);
                    Some(Begun { ends: EndRange::of(at), keys })
                }
                Some(known) => Some(Begun { ends: known.ends.join(EndRange::of(at)), keys: known.keys + keys }),
                None => Some(Begun { ends: EndRange::of(at), keys }),
            };
        }
        begun.into_iter().for_each(end);
        ranges.push(StoredRange::empty(EndRange { first, last: i64::MAX }, Hashes::ALL));
        Self(ranges)
    }

    pub(super) fn each(&self) -> impl DoubleEndedIterator<Item = &StoredRange> {
        self.0.iter()
    }

    pub(super) fn each_mut(&mut self) -> impl Iterator<Item = &mut StoredRange> {
        self.0.iter_mut()
    }

    pub(super) fn get(&self, at: usize) -> &StoredRange {
        &self.0[at]
    }

    pub(super) fn get_mut(&mut self, at: usize) -> &mut StoredRange {
        &mut self.0[at]
    }

    pub(super) fn take(&mut self) -> Vec<StoredRange> {
        std::mem::take(&mut self.0)
    }

    /// Replaces the ranges by these, which are in order; neighbours without state become one.
    pub(super) fn set(&mut self, ranges: Vec<StoredRange>) {
        for same in ranges.chunk_by(|a, b| a.ends == b.ends) {
            let (ends, is_empty) = (same[0].ends, same.iter().all(StoredRange::is_empty));
            match self.0.last_mut() {
                Some(last) if is_empty && last.hashes == Hashes::ALL && last.is_empty() => last.ends.last = ends.last,
                _ if is_empty && ends != EndRange::ALL => self.0.push(StoredRange::empty(ends, Hashes::ALL)),
                _ => self.0.extend_from_slice(same),
            }
        }
    }

    /// Splits the ranges with more than `limit` bytes in files.
    pub(super) fn split_larger(&mut self, limit: u64, overlap: i64) {
        let split = |range: StoredRange| match range.share() > limit {
            true => range.split(overlap).unwrap_or(vec![range]),
            false => vec![range],
        };
        self.0 = self.take().into_iter().flat_map(split).collect();
    }

    /// Returns the indexes of the ranges with a place.
    pub(super) fn find(&self, KeyPlace { ends, hash }: KeyPlace) -> impl Iterator<Item = usize> {
        let of_ends = move |at: usize| {
            let range = self.0.get(at).filter(|range| range.ends.first <= ends.last)?;
            let last = range.ends.last;
            Some(at + self.0[at..].partition_point(|range| range.ends.last == last && range.hashes.last < hash))
        };
        let first =
            if ends.is_empty() { self.0.len() } else { self.0.partition_point(|range| range.ends.last < ends.first) };
        std::iter::successors(of_ends(first), move |at| {
            let last = self.0[*at].ends.last;
            of_ends(at + self.0[*at..].partition_point(|range| range.ends.last == last))
        })
    }

    /// Whether all state is in ranges of the same windows.
    pub(super) fn have_same_ends(&self) -> bool {
        let mut ends = self.each().filter(|range| !range.is_empty()).map(|range| range.ends);
        ends.next().is_none_or(|first| ends.all(|other| other == first))
    }

    /// Sorts rows by their ranges. Returns the indexes of the rows in this order and, for each range, the part of this
    /// list that has the rows of the range.
    pub(super) fn route(&self, places: &[KeyPlace]) -> (Vec<u32>, Vec<Range<usize>>) {
        let found: Vec<RoutedRow> = (0..)
            .zip(places)
            .flat_map(|(row, place)| self.find(*place).map(move |range| RoutedRow { row, range }))
            .collect();
        let mut starts = vec![0usize; self.0.len() + 1];
        found.iter().for_each(|routed| starts[routed.range + 1] += 1);
        (1..starts.len()).for_each(|at| starts[at] += starts[at - 1]);
        let (mut next, mut indices) = (starts.clone(), vec![0u32; found.len()]);
        for RoutedRow { row, range } in found {
            indices[next[range]] = row;
            next[range] += 1;
        }
        (indices, starts.windows(2).map(|pair| pair[0]..pair[1]).collect())
    }

    /// Returns the keys as of the last reading: those of the ends with the most.
    pub(super) fn keys(&self) -> u64 {
        let same = self.0.chunk_by(|a, b| a.ends == b.ends);
        same.map(|same| same.iter().map(|range| range.keys).sum()).max().unwrap_or(0)
    }

    /// Returns the files, by name.
    pub(super) fn files(&self) -> BTreeMap<&str, &Rc<dyn StateFile>> {
        self.each().flat_map(StoredRange::blocks).map(|block| (block.file.name(), &block.file)).collect()
    }

    /// Saves each range and the blocks that it refers to.
    pub(super) fn snapshot(&self, out: &mut Writer) {
        out.count(self.0.len());
        for StoredRange { ends, hashes, keys, saved, logs, has_changed } in &self.0 {
            out.number(ends.first);
            out.number(ends.last);
            out.number(hashes.first as i64);
            out.number(hashes.last as i64);
            out.count(*keys as usize);
            out.flag(*has_changed);
            for blocks in [saved.as_slice(), logs] {
                out.count(blocks.len());
                for Block { file, at, is_whole, share, ends } in blocks {
                    out.text(file.name());
                    out.number(at.start as i64);
                    out.number(at.end as i64);
                    out.flag(*is_whole);
                    out.number(*share as i64);
                    out.number(ends.first);
                    out.number(ends.last);
                }
            }
        }
    }

    /// Restores the ranges that [`Ranges::snapshot`] saved. Without `has_ends` they are of hashes only, and the number
    /// of keys is one for all.
    ///
    /// Errors: exit status 65 if they do not contain every place once, or if a file is missing or too short.
    pub(super) fn restore(storage: &mut dyn StateStorage, has_ends: bool, saved: &mut Reader<'_>) -> Result<Self> {
        let mut known: BTreeMap<String, Rc<dyn StateFile>> = BTreeMap::new();
        let all_keys = if has_ends { 0 } else { saved.rows()? };
        let mut ranges: Vec<StoredRange> = vec![];
        for _ in 0..saved.count()? {
            let ends = EndRange::restore(has_ends, saved)?;
            let hashes = Hashes { first: saved.le()?, last: saved.le()? };
            let keys = if has_ends { saved.rows()? } else { all_keys * u64::from(ranges.is_empty()) };
            let has_changed = !has_ends || saved.flag()?;
            let mut range = StoredRange { keys, has_changed, ..StoredRange::empty(ends, hashes) };
            let mut blocks = [vec![], vec![]];
            for blocks in &mut blocks {
                for _ in 0..saved.count()? {
                    blocks.push(Block::restore(storage, &mut known, has_ends, saved)?);
                }
            }
            let [mut saved_block, logs] = blocks;
            (range.saved, range.logs) = (saved_block.pop(), logs);
            let is_outside = |block: &Block| block.ends.meet(ends) != block.ends;
            if !range.follows(ranges.last()) || range.blocks().any(is_outside) {
                return Err(Error::corrupt("snapshot: expected ranges in order"));
            }
            ranges.push(range);
        }
        let is_last = |range: &StoredRange| range.ends.last == i64::MAX && range.hashes.last == u64::MAX;
        if !ranges.last().is_some_and(is_last) {
            return Err(Error::corrupt(
                "snapshot: expected ranges that cover all keys and windows, found them incomplete",
            ));
        }
        Ok(Self(ranges))
    }
}

impl Block {
    fn restore(
        storage: &mut dyn StateStorage,
        known: &mut BTreeMap<String, Rc<dyn StateFile>>,
        has_ends: bool,
        saved: &mut Reader<'_>,
    ) -> Result<Self> {
        let (name, at) = (saved.text()?, saved.le()?..saved.le()?);
        let (is_whole, share) = (saved.flag()?, saved.rows()?);
        let ends = EndRange::restore(has_ends, saved)?;
        let file = match known.get(&name) {
            Some(file) => file.clone(),
            None => known.entry(name.clone()).or_insert(storage.open(&name)?).clone(),
        };
        if at.start > at.end || at.end > file.length() {
            return Err(Error::corrupt(format!("{name}: expected {} bytes, found {}", at.end, file.length())));
        }
        Ok(Self { file, at, is_whole, share, ends })
    }
}

/// Writes one file of blocks.
pub(super) struct BlockWriter {
    file: Box<dyn NewStateFile>,
    length: u64,
    blocks: Vec<WrittenBlock>,
}

struct WrittenBlock {
    at: Range<u64>,
    ends: EndRange,
}

impl BlockWriter {
    pub(super) fn begin(storage: &mut dyn StateStorage) -> Result<Self> {
        Ok(Self { file: storage.create()?, length: 0, blocks: vec![] })
    }

    /// Appends a block of windows with these ends; without bytes it is `None` in the result of [`BlockWriter::finish`].
    pub(super) fn write(&mut self, bytes: &[u8], ends: EndRange) -> Result<()> {
        let start = self.length;
        self.file.write(bytes)?;
        self.length += bytes.len() as u64;
        self.blocks.push(WrittenBlock { at: start..self.length, ends });
        Ok(())
    }

    /// Returns the blocks.
    pub(super) fn finish(self) -> Result<Vec<Option<Block>>> {
        let file = self.file.finish()?;
        let block = |WrittenBlock { at, ends }| {
            let share = at.end - at.start;
            (share > 0).then(|| Block { file: file.clone(), at, is_whole: true, share, ends })
        };
        Ok(self.blocks.into_iter().map(block).collect())
    }
}

/// Minimum length of a range.
const SHORTEST: u64 = if cfg!(test) { 1 << 57 } else { 1 << 32 };

/// A range of hashes of keys, from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hashes {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Hashes {
    /// All hashes.
    pub(crate) const ALL: Self = Self { first: 0, last: u64::MAX };

    pub(crate) fn contains(self, hash: u64) -> bool {
        (self.first..=self.last).contains(&hash)
    }

    /// Splits the range into 2^`bits` equal ones; `None` if it is too short.
    pub(crate) fn split(self, bits: u32) -> Option<Vec<Self>> {
        let step = (self.last - self.first) >> bits;
        if step < SHORTEST {
            return None;
        }
        let first = |at: u64| self.first + at * (step + 1);
        Some((0..1 << bits).map(|at| Self { first: first(at), last: first(at) + step }).collect())
    }

    fn width(self) -> f64 {
        self.last as f64 - self.first as f64 + 1.0
    }
}
