//! Tumbling, sliding and calendar windows over slices.
//!
//! A slice is a span of event time whose rows are in the same windows. A window is the sum of its slices, so a row is
//! added once however much windows overlap. A row that is too late for the first of its windows still counts for the
//! others. Each slice therefore has one accumulator per key and per first window end that counts the row. A slice
//! without its first windows (a half slice) joins the whole slice, which all windows include, as soon as none of the
//! windows that exclude it can fire again.
//!
//! A window of many slices is summed from the nodes of a [`Tree`] over the whole slices, which takes few merges per
//! result row.

use super::closing::Closing;
use super::ends::{EndRange, Ends, WindowKeys};
use super::part::{Part, SavedPart};
use super::slot_map::SlotMap;
use super::window_spec::WindowSpec;
use crate::error::Result;
use crate::op::snapshot::{Reader, Writer};
use crate::op::window::key::Keys;
use crate::op::window::metric::WindowSpan;
use crate::op::window::slots::Slots;
use crate::op::window::tree::{KeySlot, Leaves, Tree};
use crate::time::{EARLIEST, LATEST};
use ahash::AHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A result row that has its key's number but not yet its text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fired {
    /// The key's number.
    pub key: u32,
    /// The value; `None` is NULL.
    pub value: Option<f64>,
    /// Rows in the window.
    pub rows: u64,
    /// Number of this firing, from 0.
    pub pane: u32,
}

/// A slice, or the part of a slice whose rows count from the window that ends at `first_end`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct SliceId {
    start: i64,
    /// The end of the first window that counts its rows.
    first_end: i64,
}

/// A half slice, in the order in which half slices become whole.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct HalfSlice {
    first_end: i64,
    start: i64,
}

impl SliceId {
    /// Returns an id that is not after those of the slices with this start, for a search of them.
    const fn least(start: i64) -> Self {
        Self { start, first_end: i64::MIN }
    }

    const fn half(self) -> HalfSlice {
        HalfSlice { first_end: self.first_end, start: self.start }
    }
}

/// Approximate bytes of a slice and of its place in a tree, without slots: nodes are half full, and an array of slots
/// is allocated.
const SLICE_BYTES: usize = 2 * size_of::<(SliceId, Slice)>() + 32;
/// Approximate bytes of a window that has fired, likewise.
const FIRED_BYTES: usize = 2 * size_of::<(i64, FiredWindow)>();
/// A window of at most this many slices is summed from them directly, not from nodes.
const FEW: usize = 8;
#[derive(Default)]
struct Slice {
    last_end: i64,
    slots: SlotMap,
}

/// A window that has fired and may fire again: the number of firings of each key, and the keys with new rows.
#[derive(Default)]
struct FiredWindow {
    panes: AHashMap<u32, u32>,
    changed_keys: BTreeSet<u32>,
}

/// The state of one metric of tumbling, sliding or calendar windows.
#[derive(Default)]
pub struct Slices {
    slices: BTreeMap<SliceId, Slice>,
    halves: BTreeSet<HalfSlice>,
    /// Sums of whole slices inside windows that have fired.
    tree: Tree,
    /// Ends of windows that have rows and have not fired.
    waiting: Ends,
    fired: BTreeMap<i64, FiredWindow>,
    /// The slots of the slice that the last row fell into, since most rows fall into the same.
    last: Option<(SliceId, SlotMap)>,
}

impl Leaves for (&BTreeMap<SliceId, Slice>, WindowSpec) {
    fn parts(&self, number: i64) -> Vec<KeySlot> {
        let (slices, spec) = self;
        let start = spec.layout.slice_start(number);
        let whole = spec.first_end(start).and_then(|first_end| slices.get(&SliceId { start, first_end }));
        let mut parts: Vec<KeySlot> = whole
            .into_iter()
            .flat_map(|slice| slice.slots.iter())
            .map(|(key, slot)| KeySlot::borrowed(key, slot))
            .collect();
        parts.sort_unstable_by_key(|part| part.key);
        parts
    }

    fn is_empty(&self, numbers: Range<i64>) -> bool {
        let (slices, spec) = self;
        slices
            .range(
                SliceId::least(spec.layout.slice_start(numbers.start))
                    ..SliceId::least(spec.layout.slice_start(numbers.end)),
            )
            .next()
            .is_none()
    }
}

/// The place of a row among the slices.
#[derive(Clone, Copy)]
pub struct Placement {
    /// The number of its key.
    pub key: u32,
    /// Its windows and its slice.
    pub span: WindowSpan,
    /// The end of the first window that counts it.
    pub first_end: i64,
}

impl Placement {
    fn id(self) -> SliceId {
        SliceId { start: self.span.slice, first_end: self.first_end }
    }
}

impl Slices {
    /// Returns the slot of a row; `fired` is the watermark up to which windows have fired.
    #[inline]
    pub fn slot(
        &mut self,
        place: Placement,
        fired: Option<i64>,
        spec: WindowSpec,
        keys: &mut Keys,
        slots: &mut Slots,
    ) -> u32 {
        let Placement { key, span, first_end } = place;
        if fired.is_some_and(|fired| first_end <= fired) {
            self.mark_dirty(first_end, span.last_end.min(fired.unwrap_or(i64::MIN)), key, spec.layout.step());
            self.tree.forget(spec.layout.number(span.slice), slots);
        }
        if let Some((last, known)) = &self.last
            && *last == place.id()
            && let Some(slot) = known.get(key)
        {
            return slot;
        }
        self.find(place, spec, keys, slots)
    }

    /// Returns the slot of a key in the slice of the last row, if it has one there.
    #[inline(always)]
    pub fn cached_slot(&self, key: u32) -> Option<u32> {
        self.last.as_ref().and_then(|(_, known)| known.get(key))
    }

    /// Looks up the cached slots of `keys` in a slice, given by its start and the first end that counts its rows, up to
    /// the first key without one; returns how many it found.
    #[inline(always)]
    pub fn cached_slots(&self, start: i64, first_end: i64, keys: &[u32], found: &mut [u32]) -> usize {
        let id = SliceId { start, first_end };
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
    fn find(&mut self, place: Placement, spec: WindowSpec, keys: &mut Keys, slots: &mut Slots) -> u32 {
        let (Placement { key, span, .. }, id) = (place, place.id());
        if self.last.as_ref().is_none_or(|(last, _)| *last != id) {
            self.put_back();
            if !self.slices.contains_key(&id) {
                self.wait_for(id.first_end, span.last_end, spec.layout.step());
                if id.first_end > span.first_end {
                    self.halves.insert(id.half());
                }
                self.slices.insert(id, Slice { last_end: span.last_end, slots: SlotMap::default() });
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

    /// Marks the windows with these ends as holding rows. A window that has fired is not added, because it fires again
    /// through its changed keys.
    fn wait_for(&mut self, mut end: i64, last_end: i64, slide: i64) {
        let latest = self.fired.last_key_value().map_or(i64::MIN, |(end, _)| *end);
        while end <= last_end.min(latest) {
            if !self.fired.contains_key(&end) {
                self.waiting.insert(end, end, slide);
            }
            end += slide;
        }
        if end <= last_end {
            self.waiting.insert(end, last_end, slide);
        }
    }

    /// Returns the cached slots to their slice.
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
            self.fired.entry(end).or_default().changed_keys.insert(key);
            end += slide;
        }
    }

    /// Returns the ends of the windows that are due at `watermark`, in ascending order.
    pub fn due(&mut self, watermark: i64, delay: i64, spec: WindowSpec) -> Vec<i64> {
        self.put_back();
        let firing = Closing::of_windows(delay);
        let mut due: Vec<i64> =
            self.waiting.iter(spec.layout.step()).take_while(|end| !firing.is_open(*end, watermark)).collect();
        due.extend(
            self.fired.iter().filter(|(_, fired_window)| !fired_window.changed_keys.is_empty()).map(|(end, _)| *end),
        );
        due.sort_unstable();
        due.dedup();
        due
    }

    /// Returns the result rows of the window that ends at `end`: all keys the first time, later only the changed keys.
    pub fn fire(&mut self, end: i64, spec: WindowSpec, slots: &mut Slots) -> Vec<Fired> {
        self.put_back();
        let first = self.waiting.remove(end, spec.layout.step());
        let changed_keys = self
            .fired
            .get_mut(&end)
            .map(|fired_window| std::mem::take(&mut fired_window.changed_keys))
            .unwrap_or_default();
        let asked: Option<Vec<u32>> = (!first).then(|| changed_keys.into_iter().collect());
        let sums = self.sums(end, asked.as_deref(), spec, slots);
        let length = end - spec.layout.start_of(end);
        let fired_window = self.fired.entry(end).or_default();
        let mut rows = Vec::with_capacity(sums.len());
        for (key, sum) in sums {
            let pane = fired_window.panes.entry(key).and_modify(|pane| *pane += 1).or_insert(0);
            rows.push(Fired { key, value: slots.result(sum.slot, length), rows: slots.rows(sum.slot), pane: *pane });
            sum.free(slots);
        }
        rows
    }

    /// Returns the state of each key, or of those in `asked`, in the window that ends at `end`.
    fn sums(&mut self, end: i64, asked: Option<&[u32]>, spec: WindowSpec, slots: &mut Slots) -> BTreeMap<u32, KeySlot> {
        let Self { slices, halves, tree, .. } = self;
        let mut sums: BTreeMap<u32, KeySlot> = BTreeMap::new();
        let mut add = |key: u32, slot: u32, slots: &mut Slots| {
            sums.entry(key).and_modify(|sum| sum.add(slot, slots)).or_insert(KeySlot::borrowed(key, slot));
        };
        let is_asked = |key: &u32| asked.is_none_or(|asked| asked.binary_search(key).is_ok());
        let mut add_slice = |slice: &Slice, slots: &mut Slots| {
            slice.slots.iter().filter(|(key, _)| is_asked(key)).for_each(|(key, slot)| add(key, slot, slots));
        };
        let from = spec.layout.start_of(end);
        let within = slices.range(SliceId::least(from)..SliceId::least(end));
        if within.clone().nth(FEW).is_none() {
            within.filter(|(id, _)| id.first_end <= end).for_each(|(_, slice)| add_slice(slice, slots));
            return sums;
        }
        let halves = halves.range(..=HalfSlice { first_end: end, start: i64::MAX });
        for HalfSlice { first_end, start } in halves.copied().filter(|half| half.start >= from) {
            slices.get(&SliceId { start, first_end }).into_iter().for_each(|slice| add_slice(slice, slots));
        }
        let (mut within, leaves) = (within.map(|(id, _)| spec.layout.number(id.start)), (&*slices, spec));
        let low = within.next().unwrap_or_default();
        for node in Tree::cover(low..within.next_back().unwrap_or(low) + 1) {
            tree.each(node, asked, &leaves, slots, |part, slots| add(part.key, part.slot, slots));
        }
        sums
    }

    /// Merges half slices into whole ones. A half slice counts for only some windows of its slice. The other windows
    /// end at `least` or before and fire no more, so the difference no longer matters.
    pub fn join(&mut self, least: i64, spec: WindowSpec, keys: &mut Keys, slots: &mut Slots) {
        self.put_back();
        while let Some(HalfSlice { first_end, start }) = self.halves.first().copied()
            && first_end <= least
        {
            self.halves.pop_first();
            let Some(half) = self.slices.remove(&SliceId { start, first_end }) else { continue };
            self.tree.forget(spec.layout.number(start), slots);
            let id = SliceId { start, first_end: spec.first_end(start).unwrap_or(first_end) };
            let whole = self.slices.entry(id).or_insert(Slice { last_end: half.last_end, slots: SlotMap::default() });
            for (key, slot) in half.slots.iter() {
                match whole.slots.get(key) {
                    None => whole.slots.insert(key, slot),
                    Some(into) => {
                        slots.merge(into, slot);
                        slots.free(slot);
                        keys.release(key);
                    }
                }
            }
        }
    }

    /// Drops the state that no later row can reach.
    pub fn close(&mut self, watermark: i64, spec: WindowSpec, keys: &mut Keys, slots: &mut Slots) {
        self.put_back();
        let reachable = |end: i64| spec.closing().is_open(end, watermark);
        self.fired.retain(|end, _| reachable(*end));
        // A slice's last end is less than its start + slide + size, so slices from there on are all reachable.
        let closed = spec.closing().closed_end(watermark);
        // Last ends are in the order of the starts.
        let old = self
            .slices
            .range(..SliceId { start: closed, first_end: i64::MAX })
            .take_while(|(_, slice)| !reachable(slice.last_end));
        let gone: Vec<SliceId> = old.map(|(id, _)| *id).collect();
        for id in gone {
            let Some(slice) = self.slices.remove(&id) else { continue };
            self.halves.remove(&id.half());
            self.tree.forget(spec.layout.number(id.start), slots);
            for (key, slot) in slice.slots.iter() {
                slots.free(slot);
                keys.release(key);
            }
        }
    }

    /// Returns the number of windows that hold rows and have not fired.
    pub fn held(&self, spec: WindowSpec) -> u64 {
        self.waiting.len(spec.layout.step()) as u64
    }

    /// Returns the ends of windows that have rows and have not fired, and the first and last window end of each slice.
    pub(crate) fn ends(&mut self) -> (&Ends, impl Iterator<Item = EndRange>) {
        self.put_back();
        (&self.waiting, self.slices.iter().map(|(id, slice)| EndRange { first: id.first_end, last: slice.last_end }))
    }

    /// Whether there are neither rows nor panes.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty() && self.fired.is_empty()
    }

    /// Returns the approximate bytes of what is not in slots.
    pub fn allocated(&self) -> usize {
        let fired = self
            .fired
            .values()
            .map(|fired_window| FIRED_BYTES + fired_window.panes.len() * 2 * size_of::<(u32, u32)>())
            .sum::<usize>();
        fired + self.slices.len() * SLICE_BYTES + self.waiting.allocated()
    }

    /// Returns the number of slices.
    pub(crate) fn count(&self) -> usize {
        self.slices.len()
    }

    /// Returns the distance of the first slice from the last (µs).
    pub(crate) fn span(&self) -> i64 {
        let first = self.slices.first_key_value().zip(self.slices.last_key_value());
        first.map_or(0, |((first, _), (last, _))| last.start.saturating_sub(first.start))
    }

    /// Returns the number of keys of each slice, by its last window.
    pub(crate) fn keys_by_end(&mut self) -> impl Iterator<Item = WindowKeys> {
        self.put_back();
        self.slices.values().map(|slice| WindowKeys { end: slice.last_end, keys: slice.slots.len() })
    }

    /// Returns the range of the ends of its windows.
    pub(crate) fn extent(&self) -> EndRange {
        let slices = self.slices.iter().map(|(id, slice)| EndRange { first: id.first_end, last: slice.last_end });
        slices.chain(self.fired.keys().copied().map(EndRange::of)).fold(EndRange::EMPTY, EndRange::join)
    }

    /// Saves a part of the state: slices in order, keys by their bytes.
    pub(crate) fn snapshot(&mut self, spec: WindowSpec, keys: &Keys, slots: &Slots, part: Part<'_>, out: &mut Writer) {
        self.put_back();
        // The half slices follow from the spec, and the tree from the slices.
        let Slices { slices, halves: _, tree: _, waiting, fired, last: _ } = &*self;
        let (selects, ends) = (part.has_key, part.ends);
        let from = match ends.first {
            i64::MIN => i64::MIN,
            first => spec.layout.first_start((first - 1).clamp(EARLIEST, LATEST)),
        };
        let within = || {
            // A slice begins before its first window ends.
            let slices = slices.range(SliceId::least(from)..).take_while(|(id, _)| id.start < ends.last);
            slices.filter(|(id, slice)| id.first_end <= ends.last && ends.first <= slice.last_end)
        };
        out.count(within().count());
        for (SliceId { start, first_end }, Slice { last_end, slots: known }) in within() {
            out.number(*start);
            out.number(*first_end);
            out.number(*last_end);
            let selected = known.iter().filter(|(key, _)| selects(*key));
            let mut sorted: Vec<(&[u8], u32)> = selected.map(|(key, slot)| (keys.bytes_of(key), slot)).collect();
            sorted.sort_unstable();
            out.count(sorted.len());
            for (key, slot) in sorted {
                out.bytes(key);
                slots.save(slot, out);
            }
        }
        let waiting = || waiting.within(ends, spec.layout.step());
        out.count(waiting().count());
        waiting().for_each(|end| out.number(end));
        let fired = || fired.range(ends.first..=ends.last);
        out.count(fired().count());
        for (end, FiredWindow { panes, changed_keys }) in fired() {
            out.number(*end);
            let panes = panes.iter().filter(|(key, _)| selects(**key));
            let panes: BTreeMap<&[u8], u32> = panes.map(|(key, pane)| (keys.bytes_of(*key), *pane)).collect();
            out.count(panes.len());
            for (key, pane) in panes {
                out.bytes(key);
                out.number(i64::from(pane));
            }
            let changed_keys = changed_keys.iter().filter(|key| selects(**key));
            let changed_keys: BTreeSet<&[u8]> = changed_keys.map(|key| keys.bytes_of(*key)).collect();
            out.count(changed_keys.len());
            changed_keys.iter().for_each(|key| out.bytes(key));
        }
    }

    /// Adds a part of what [`Slices::snapshot`] saved; a slice that is here gets the saved rows, too.
    pub(crate) fn restore_part(
        &mut self,
        spec: WindowSpec,
        keys: &mut Keys,
        slots: &mut Slots,
        saved: &mut Reader<'_>,
        part: SavedPart<'_>,
    ) -> Result<()> {
        self.put_back();
        for _ in 0..saved.count()? {
            let (start, first_end, last_end) = (saved.instant()?, saved.instant()?, saved.instant()?);
            spec.check_slice(start, last_end)?;
            let count = saved.count()?;
            let clipped = spec.clip(EndRange { first: first_end, last: last_end }, part.ends);
            // Of several slices with one start those parts may be left that count for the same windows.
            let id = SliceId { start, first_end: clipped.map_or(first_end, |ends| ends.first) };
            let last_end = clipped.map_or(last_end, |ends| ends.last);
            let slice = self.slices.entry(id).or_insert(Slice { last_end, slots: SlotMap::default() });
            for _ in 0..count {
                let key = saved.bytes()?;
                if clipped.is_none() || !(part.has_key)(key) {
                    Slots::skip(saved)?;
                    continue;
                }
                let (key, slot) = (keys.restore(key)?, slots.load(saved)?);
                slice.slots.add(key, slot, keys, slots);
            }
            if slice.slots.is_empty() {
                self.slices.remove(&id);
            } else if spec.first_end(start).is_some_and(|whole| whole < id.first_end) {
                self.halves.insert(id.half());
            }
        }
        for _ in 0..saved.count()? {
            let end = saved.instant()?;
            spec.check_end(end)?;
            if part.ends.contains(end) {
                self.waiting.insert(end, end, spec.layout.step());
            }
        }
        for _ in 0..saved.count()? {
            let end = saved.instant()?;
            let has_key = |key: &[u8]| part.ends.contains(end) && (part.has_key)(key);
            let mut fired_window = FiredWindow::default();
            for _ in 0..saved.count()? {
                let (key, pane) = (saved.bytes()?, saved.pane()?);
                if has_key(key) {
                    fired_window.panes.insert(keys.restore(key)?, pane);
                }
            }
            for _ in 0..saved.count()? {
                let key = saved.bytes()?;
                if has_key(key) {
                    fired_window.changed_keys.insert(keys.restore(key)?);
                }
            }
            if part.ends.contains(end) {
                let known = self.fired.entry(end).or_default();
                known.panes.extend(fired_window.panes);
                known.changed_keys.append(&mut fired_window.changed_keys);
            }
        }
        Ok(())
    }
}
