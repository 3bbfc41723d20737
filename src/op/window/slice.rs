//! Tumbling and sliding windows over slices.
//!
//! A slice is a span of event time whose rows lie in the same windows; a window is the sum of its slices, so that a
//! row is added once whatever the overlap. A row that came too late for the first of its windows counts for the rest:
//! each slice therefore keeps one accumulator per key *and per first end that may see it*.

use super::key::Keys;
use super::metric::Span;
use super::slots::Slots;
use crate::error::Result;
use crate::op::snapshot::{Reader, Writer};
use ahash::AHashMap;
use std::collections::{BTreeMap, BTreeSet};

/// A row of result, before it gets its key's text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fired {
    /// The key's number.
    pub key: u32,
    /// The value; none is NULL.
    pub value: Option<f64>,
    /// Rows in the window.
    pub rows: u64,
    /// Number of this firing, from 0.
    pub pane: u32,
}

/// (start of the slice, first window end that sees its rows).
type SliceId = (i64, i64);

/// Keys numbered below this have their slots in a plain array: no hashing for most metrics (0.03 CPU-s/M each).
const DENSE_KEYS: usize = 4096;
const NO_SLOT: u32 = u32::MAX;

/// The slots of a slice, by key.
#[derive(Default)]
struct SlotMap {
    dense: Vec<u32>,
    hashed: AHashMap<u32, u32>,
}

impl SlotMap {
    #[inline]
    fn get(&self, key: u32) -> Option<u32> {
        match self.dense.get(key as usize) {
            Some(&NO_SLOT) => None,
            Some(slot) => Some(*slot),
            None if self.hashed.is_empty() => None,
            None => self.hashed.get(&key).copied(),
        }
    }

    fn insert(&mut self, key: u32, slot: u32) {
        let at = key as usize;
        if at >= DENSE_KEYS {
            self.hashed.insert(key, slot);
            return;
        }
        if at >= self.dense.len() {
            self.dense.resize(at + 1, NO_SLOT);
        }
        self.dense[at] = slot;
    }

    fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        let dense = (0u32..).zip(self.dense.iter().copied()).filter(|(_, slot)| *slot != NO_SLOT);
        dense.chain(self.hashed.iter().map(|(key, slot)| (*key, *slot)))
    }
}

#[derive(Default)]
struct Slice {
    last_end: i64,
    slots: SlotMap,
}

/// Windows that have fired and may fire again: the number of firings of each key, and the keys with news.
#[derive(Default)]
struct Refire {
    panes: AHashMap<u32, u32>,
    dirty: BTreeSet<u32>,
}

/// The state of one tumbling or sliding metric.
#[derive(Default)]
pub struct Slices {
    slices: BTreeMap<SliceId, Slice>,
    /// Ends of windows that hold rows and have not fired.
    waiting: BTreeSet<i64>,
    fired: BTreeMap<i64, Refire>,
    /// The slice of the row before: most rows fall into the same.
    last: Option<(SliceId, SlotMap)>,
}

/// What a metric's windows are cut by.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Length of a window (µs).
    pub size: i64,
    /// Distance between two starts (µs).
    pub slide: i64,
    /// How long past its end a window stays open (µs).
    pub lateness: i64,
}

impl Slices {
    /// The slot for a row of `key` that lies in `span` and is seen from `first_end` on; `fired` is the watermark up to
    /// which windows have fired.
    #[inline]
    pub fn slot(
        &mut self,
        (span, first_end): (Span, i64),
        key: u32,
        fired: Option<i64>,
        (cut, keys, slots): (Cut, &mut Keys, &mut Slots),
    ) -> u32 {
        let id = (span.slice, first_end);
        if fired.is_some_and(|fired| first_end <= fired) {
            self.mark_dirty(first_end, span.last_end.min(fired.unwrap_or(i64::MIN)), key, cut.slide);
        }
        if let Some((last, known)) = &self.last
            && *last == id
            && let Some(slot) = known.get(key)
        {
            return slot;
        }
        self.find(id, span.last_end, key, (cut, keys, slots))
    }

    /// The slot of a key in the slice of the row before, where it has one there.
    #[inline(always)]
    pub fn at_hand(&self, key: u32) -> Option<u32> {
        self.last.as_ref().and_then(|(_, known)| known.get(key))
    }

    /// Finds slots of keys in the slice `id` (its start and the first end that sees its rows) while they are at hand; how
    /// many it found.
    #[inline(always)]
    pub fn at_hand_of(&self, id: (i64, i64), keys: &[u32], found: &mut [u32]) -> usize {
        let Some((_, known)) = self.last.as_ref().filter(|(last, _)| *last == id) else { return 0 };
        let mut count = 0;
        for (key, found) in keys.iter().zip(found) {
            let Some(slot) = known.get(*key) else { break };
            *found = slot;
            count += 1;
        }
        count
    }

    #[inline(never)]
    fn find(&mut self, id: SliceId, last_end: i64, key: u32, (cut, keys, slots): (Cut, &mut Keys, &mut Slots)) -> u32 {
        if self.last.as_ref().is_none_or(|(last, _)| *last != id) {
            self.put_back();
            if !self.slices.contains_key(&id) {
                let mut end = id.1;
                while end <= last_end {
                    if !self.fired.contains_key(&end) {
                        self.waiting.insert(end);
                    }
                    end += cut.slide;
                }
                self.slices.insert(id, Slice { last_end, slots: SlotMap::default() });
            }
            let known = self.slices.get_mut(&id).map(|slice| std::mem::take(&mut slice.slots)).unwrap_or_default();
            self.last = Some((id, known));
        }
        let known = match &mut self.last {
            Some((_, known)) => known,
            None => return slots.claim(),
        };
        if let Some(slot) = known.get(key) {
            return slot;
        }
        keys.retain(key);
        let slot = slots.claim();
        known.insert(key, slot);
        slot
    }

    /// Returns the slots at hand to their slice.
    fn put_back(&mut self) {
        if let Some((id, known)) = self.last.take()
            && let Some(slice) = self.slices.get_mut(&id)
        {
            slice.slots = known;
        }
    }

    #[cold]
    fn mark_dirty(&mut self, first_end: i64, last_end: i64, key: u32, slide: i64) {
        let mut end = first_end;
        while end <= last_end {
            self.fired.entry(end).or_default().dirty.insert(key);
            end += slide;
        }
    }

    /// Ends of the windows that are due when the watermark has reached `watermark`, in order.
    pub fn due(&mut self, watermark: i64, delay: i64) -> Vec<i64> {
        self.put_back();
        let mut due: Vec<i64> =
            self.waiting.iter().copied().take_while(|end| end.saturating_add(delay) <= watermark).collect();
        due.extend(self.fired.iter().filter(|(_, refire)| !refire.dirty.is_empty()).map(|(end, _)| *end));
        due.sort_unstable();
        due.dedup();
        due
    }

    /// The rows of the window that ends at `end`: all keys the first time, later the keys with news.
    pub fn fire(&mut self, end: i64, cut: Cut, slots: &mut Slots) -> Vec<Fired> {
        self.put_back();
        let first = self.waiting.remove(&end);
        let dirty = self.fired.get_mut(&end).map(|refire| std::mem::take(&mut refire.dirty)).unwrap_or_default();
        let wanted = |key: &u32| first || dirty.contains(key);
        let mut sums: BTreeMap<u32, Sum> = BTreeMap::new();
        for ((_, first_end), slice) in self.slices.range((end - cut.size, i64::MIN)..(end, i64::MIN)) {
            if *first_end > end {
                continue;
            }
            for (key, slot) in slice.slots.iter().filter(|(key, _)| wanted(key)) {
                sums.entry(key).and_modify(|sum| sum.add(slot, slots)).or_insert(Sum { slot, own: false });
            }
        }
        let refire = self.fired.entry(end).or_default();
        let mut rows = Vec::with_capacity(sums.len());
        for (key, sum) in sums {
            let pane = refire.panes.entry(key).and_modify(|pane| *pane += 1).or_insert(0);
            rows.push(Fired { key, value: slots.result(sum.slot, cut.size), rows: slots.rows(sum.slot), pane: *pane });
            if sum.own {
                slots.free(sum.slot);
            }
        }
        rows
    }

    /// Lets go of the state that no later row can reach.
    pub fn close(&mut self, watermark: i64, cut: Cut, keys: &mut Keys, slots: &mut Slots) {
        self.put_back();
        let reachable = |end: i64| end.saturating_add(cut.lateness) > watermark;
        self.fired.retain(|end, _| reachable(*end));
        // A slice's last end is less than its start + slide + size, so slices from there on are all reachable.
        let beyond = watermark.saturating_sub(cut.lateness);
        let gone: Vec<SliceId> = self
            .slices
            .range(..(beyond, i64::MAX))
            .filter(|(_, slice)| !reachable(slice.last_end))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            let Some(slice) = self.slices.remove(&id) else { continue };
            for (key, slot) in slice.slots.iter() {
                slots.free(slot);
                keys.release(key);
            }
        }
    }

    /// Windows that hold rows and have not fired.
    pub fn held(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// The saved form: slices in order, keys by their bytes.
    pub fn snapshot(&mut self, keys: &Keys, slots: &Slots, out: &mut Writer) {
        self.put_back();
        let Slices { slices, waiting, fired, last: _ } = &*self;
        out.count(slices.len());
        for ((start, first_end), Slice { last_end, slots: known }) in slices {
            out.number(*start);
            out.number(*first_end);
            out.number(*last_end);
            let sorted: BTreeMap<&[u8], u32> = known.iter().map(|(key, slot)| (keys.bytes_of(key), slot)).collect();
            out.count(sorted.len());
            for (key, slot) in sorted {
                out.bytes(key);
                slots.save(slot, out);
            }
        }
        out.count(waiting.len());
        waiting.iter().for_each(|end| out.number(*end));
        out.count(fired.len());
        for (end, Refire { panes, dirty }) in fired {
            out.number(*end);
            let panes: BTreeMap<&[u8], u32> = panes.iter().map(|(key, pane)| (keys.bytes_of(*key), *pane)).collect();
            out.count(panes.len());
            for (key, pane) in panes {
                out.bytes(key);
                out.number(i64::from(pane));
            }
            let dirty: BTreeSet<&[u8]> = dirty.iter().map(|key| keys.bytes_of(*key)).collect();
            out.count(dirty.len());
            dirty.iter().for_each(|key| out.bytes(key));
        }
    }

    /// What [`Slices::snapshot`] saved.
    pub fn restore(keys: &mut Keys, slots: &mut Slots, saved: &mut Reader<'_>) -> Result<Self> {
        let mut restored = Self::default();
        for _ in 0..saved.count()? {
            let (start, first_end, last_end) = (saved.instant()?, saved.instant()?, saved.instant()?);
            let mut known = SlotMap::default();
            for _ in 0..saved.count()? {
                let key = keys.restore(saved.bytes()?)?;
                keys.retain(key);
                known.insert(key, slots.load(saved)?);
            }
            restored.slices.insert((start, first_end), Slice { last_end, slots: known });
        }
        for _ in 0..saved.count()? {
            restored.waiting.insert(saved.instant()?);
        }
        for _ in 0..saved.count()? {
            let end = saved.instant()?;
            let mut refire = Refire::default();
            for _ in 0..saved.count()? {
                let key = keys.restore(saved.bytes()?)?;
                refire.panes.insert(key, saved.pane()?);
            }
            for _ in 0..saved.count()? {
                refire.dirty.insert(keys.restore(saved.bytes()?)?);
            }
            restored.fired.insert(end, refire);
        }
        Ok(restored)
    }
}

/// The sum of a key's slots in one window: the only slot itself, or a slot claimed for the sum.
struct Sum {
    slot: u32,
    own: bool,
}

impl Sum {
    fn add(&mut self, slot: u32, slots: &mut Slots) {
        if !self.own {
            let sum = slots.claim();
            slots.merge(sum, self.slot);
            *self = Sum { slot: sum, own: true };
        }
        slots.merge(self.slot, slot);
    }
}
