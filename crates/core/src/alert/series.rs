//! A series: the rows of one kind that pass one filter, as accumulators by second of event time and by group.
//!
//! Seconds are numbered by their end: slice k has the rows with k − 1 s < event time ≤ k. A row counts for the instants
//! from `counts_from` on, so it waits in [`Pending`] until the first of them is evaluated. All rules with the same
//! input, aggregate, filter and dimensions share a series, whatever their windows.
//!
//! The limit of groups applies when rows begin to count, so it depends on the rows and not on how many of them were
//! read at once. Groups of rows that wait have a limit of their own, which only bounds the memory.

use super::rule::Measure;
use crate::error::Result;
use crate::expr::{Dimension as DimensionValues, Expr, LeafBatch, Leaves, ValueKind, Want, Wrong, WrongRows, wrong_of};
use crate::kind::Kind;
use crate::op::aggregate::{self, AggregateCall};
use crate::op::snapshot;
use crate::op::window::key::Keys;
use crate::op::window::metric::Dimension;
use crate::op::window::slots::Slots;
use crate::op::window::tree::{KeySlot, Leaves as TreeLeaves, Tree};
use ahash::AHashMap;
use arrow::array::{Array, ArrayRef, AsArray};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The parsed expressions of a series.
pub struct Expressions {
    /// The aggregate.
    pub call: AggregateCall,
    /// The filter.
    pub filter: Option<Expr>,
    /// The dimensions.
    pub by: Vec<Dimension>,
}

impl Expressions {
    /// Parses the expressions of a measure; their leaves are added to those of its kind.
    ///
    /// Errors: exit status 78 with the expression that is wrong.
    pub fn parse(measure: &Measure, leaves: &mut Leaves) -> Result<Self> {
        let call = aggregate::parse(&measure.aggregate, leaves)?;
        let filter = measure.filter.as_deref();
        let filter = filter.map(|text| Expr::parse(text, Want::Kind(ValueKind::Bool), leaves)).transpose()?;
        Ok(Self { call, filter, by: Dimension::parse_all(&measure.by, leaves)? })
    }

    /// Returns all of them.
    pub fn all(&self) -> impl Iterator<Item = &Expr> {
        self.filter.iter().chain(self.call.args()).chain(self.by.iter().map(|by| &by.expr))
    }

    /// Returns the text that is the same for all rules that share a series.
    pub fn identity(measure: &Measure) -> String {
        let Measure { input, aggregate, filter, by, .. } = measure;
        let (filter, input) = (filter.as_deref().unwrap_or(""), input.name());
        format!("{input}\0{aggregate}\0{filter}\0{}", by.join("\0"))
    }
}

/// The slots of one second, by the number of the group's key.
type SlotsByKey = AHashMap<u32, u32>;

/// The times of the rows of a batch, in seconds of the grid.
pub struct RowTimes {
    /// The slice of each row.
    pub slices: Vec<i64>,
    /// The first instant for which each row counts.
    pub counts_from: Vec<i64>,
}

/// How many rows of a batch a series took, and which it could not read.
#[derive(Default)]
pub struct SeriesOutcome {
    /// Whether each row is in a window that is still to be evaluated.
    pub counted: Vec<bool>,
    /// Whether each row passed the filter.
    pub passed: Vec<bool>,
    /// Rows with a value of the wrong type.
    pub wrong: WrongRows,
}

/// A group that got rows: its key, and its newest slice with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The number of its key.
    pub key: u32,
    /// The newest slice.
    pub slice: i64,
}

/// A slice whose rows wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PendingId {
    /// The first instant that counts them.
    from: i64,
    slice: i64,
}

/// Maximum number of groups whose rows wait, besides those that may count. It is more than the rows of a batch, so only
/// partitions far ahead of the alert clock, or very many groups within a second, reach it.
const PENDING_GROUPS: usize = 100_000;

/// Groups by the number of their keys, with the number of references to each.
#[derive(Default)]
struct GroupReferences(AHashMap<u32, u64>);

impl GroupReferences {
    fn add(&mut self, key: u32) {
        *self.0.entry(key).or_default() += 1;
    }

    /// Removes a reference, and a group without references.
    fn remove(&mut self, key: u32) {
        if let Some(uses) = self.0.get_mut(&key) {
            *uses -= 1;
            if *uses == 0 {
                self.0.remove(&key);
            }
        }
    }

    fn contains(&self, key: u32) -> bool {
        self.0.contains_key(&key)
    }
}

/// Rows that wait until they count.
#[derive(Default)]
struct Pending {
    cells: BTreeMap<PendingId, SlotsByKey>,
    groups: GroupReferences,
}

/// The state of a series.
pub struct EventSeries {
    /// [`Expressions::identity`].
    pub identity: String,
    /// The kind of its rows.
    pub kind: Kind,
    /// Its expressions.
    pub expressions: Expressions,
    slots: Slots,
    keys: Keys,
    ids: Vec<u32>,
    pending: Pending,
    slices: BTreeMap<i64, SlotsByKey>,
    tree: Tree,
    /// The longest window of its rules (seconds).
    pub length: i64,
    /// The groups whose rows count, and those that views know.
    groups: GroupReferences,
    /// Rows of groups beyond the limit, since the engine was made or restored.
    pub rejected: u64,
}

impl TreeLeaves for &BTreeMap<i64, SlotsByKey> {
    fn parts(&self, number: i64) -> Vec<KeySlot> {
        let cell = self.get(&number);
        let mut parts: Vec<KeySlot> =
            cell.into_iter().flatten().map(|(key, slot)| KeySlot::borrowed(*key, *slot)).collect();
        parts.sort_unstable_by_key(|part| part.key);
        parts
    }

    fn is_empty(&self, numbers: Range<i64>) -> bool {
        self.range(numbers).next().is_none()
    }
}

/// A window of at most this many slices is summed from them directly.
const FEW: usize = 8;

impl EventSeries {
    /// Makes a series without rows.
    pub fn new(measure: &Measure, leaves: &mut Leaves) -> Result<Self> {
        let expressions = Expressions::parse(measure, leaves)?;
        let slots = Slots::new(expressions.call.create());
        Ok(Self {
            identity: Expressions::identity(measure),
            kind: measure.input,
            expressions,
            slots,
            keys: Keys::default(),
            ids: vec![],
            pending: Pending::default(),
            slices: BTreeMap::new(),
            tree: Tree::default(),
            length: 0,
            groups: GroupReferences::default(),
            rejected: 0,
        })
    }

    /// Returns the series with its expressions parsed anew, over other leaves.
    pub fn with(self, expressions: Expressions) -> Self {
        Self { expressions, ..self }
    }

    /// Adds the rows of a batch. Rows of groups beyond `max_groups` and [`PENDING_GROUPS`] together are left out, and
    /// counted.
    pub fn add(&mut self, batch: &LeafBatch, times: &RowTimes, max_groups: usize) -> Result<SeriesOutcome> {
        let Expressions { call, filter, by, .. } = &self.expressions;
        let rows = batch.num_rows();
        let truth = filter.as_ref().map(|filter| filter.eval(batch)).transpose()?;
        let passes =
            |row: usize| truth.as_ref().is_none_or(|truth| truth.is_valid(row) && truth.as_boolean().value(row));
        let mut outcome = SeriesOutcome {
            counted: vec![false; rows],
            passed: (0..rows).map(passes).collect(),
            wrong: self.expressions.wrong(batch, &passes),
        };
        outcome.wrong.keys().for_each(|row| outcome.passed[*row] = false);
        let values: Vec<DimensionValues> = by.iter().map(|by| by.expr.dimension(batch)).collect::<Result<_>>()?;
        let args: Vec<ArrayRef> = call.args().iter().map(|arg| arg.eval(batch)).collect::<Result<_>>()?;
        let mut ids = std::mem::take(&mut self.ids);
        self.keys.ids(&values, rows, &mut ids)?;
        self.slots.reserve(rows);
        let mut row = 0;
        while row < rows {
            let id_of = |row: usize| PendingId { from: times.counts_from[row], slice: times.slices[row] };
            let id = id_of(row);
            let end = (row..rows).find(|row| id_of(*row) != id).unwrap_or(rows);
            // A row counts if its slice is in the longest window at the first instant that counts it.
            if id.slice > id.from - self.length && outcome.passed[row..end].contains(&true) {
                let mut cell = self.pending.cells.remove(&id).unwrap_or_default();
                for row in (row..end).filter(|row| outcome.passed[*row]) {
                    if let Some(slot) = self.slot(ids[row], &mut cell, max_groups) {
                        self.slots.add(slot, row as u32);
                        outcome.counted[row] = true;
                    }
                }
                if !cell.is_empty() {
                    self.pending.cells.insert(id, cell);
                }
            }
            row = end;
        }
        self.slots.flush(&args);
        self.keys.sweep();
        self.ids = ids;
        Ok(outcome)
    }

    /// Returns the slot of a group in a cell of rows that wait; `None` if the group is one too many.
    fn slot(&mut self, key: u32, cell: &mut SlotsByKey, max_groups: usize) -> Option<u32> {
        if let Some(slot) = cell.get(&key) {
            return Some(*slot);
        }
        let Pending { groups, .. } = &mut self.pending;
        if !groups.contains(key) && groups.0.len() >= max_groups.saturating_add(PENDING_GROUPS) {
            self.rejected += 1;
            return None;
        }
        groups.add(key);
        self.keys.retain(key);
        let slot = self.slots.claim();
        cell.insert(key, slot);
        Some(slot)
    }

    /// Counts one more reference to a group.
    pub fn retain(&mut self, key: u32) {
        self.keys.retain(key);
        self.groups.add(key);
    }

    /// Releases a reference to a group; removes a group without references.
    pub fn release(&mut self, key: u32) {
        self.keys.release(key);
        self.groups.remove(key);
    }

    /// Returns the key of the group with these values, which it retains.
    pub fn key_of(&mut self, bytes: &[u8]) -> Result<u32> {
        let key = self.keys.restore(bytes)?;
        self.retain(key);
        self.keys.sweep();
        Ok(key)
    }

    /// Returns the bytes of a group's key.
    pub fn key_bytes(&self, key: u32) -> &[u8] {
        self.keys.bytes_of(key)
    }

    /// Returns the values of a group's dimensions.
    pub fn values(&self, key: u32) -> Vec<Option<String>> {
        self.keys.values(key).into_iter().map(|value| value.map(str::to_owned)).collect()
    }

    /// Returns the first instant at which rows that wait begin to count.
    pub fn next_arrival(&self) -> Option<i64> {
        self.pending.cells.keys().next().map(|id| id.from)
    }

    /// Returns the first slice after `number` that has rows.
    pub fn slice_after(&self, number: i64) -> Option<i64> {
        self.slices.range(number + 1..).next().map(|(slice, _)| *slice)
    }

    /// Returns the groups of the slices in `numbers`.
    pub fn groups_of(&self, numbers: Range<i64>) -> impl Iterator<Item = u32> {
        self.slices.range(numbers).flat_map(|(_, cell)| cell.keys().copied())
    }

    /// Moves the rows that count from instant `g` on from the waiting rows to the slices; returns their groups. Rows of
    /// groups beyond `max_groups` are dropped and counted in `rejected`.
    pub fn arrive(&mut self, g: i64, max_groups: usize) -> Vec<Arrival> {
        let beyond = self.beyond(g, max_groups);
        let mut newest: BTreeMap<u32, i64> = BTreeMap::new();
        while let Some(entry) = self.pending.cells.first_entry().filter(|entry| entry.key().from <= g) {
            let (PendingId { slice, .. }, cell) = entry.remove_entry();
            self.tree.forget(slice, &mut self.slots);
            let mut into = self.slices.remove(&slice).unwrap_or_default();
            for (key, slot) in cell {
                self.pending.groups.remove(key);
                if beyond.contains(&key) {
                    self.rejected += self.slots.rows(slot);
                    self.slots.free(slot);
                    self.keys.release(key);
                    continue;
                }
                let known = newest.entry(key).or_insert(slice);
                *known = slice.max(*known);
                match into.get(&key) {
                    None => {
                        into.insert(key, slot);
                        self.groups.add(key);
                    }
                    Some(sum) => {
                        self.slots.merge(*sum, slot);
                        self.slots.free(slot);
                        self.keys.release(key);
                    }
                }
            }
            if !into.is_empty() {
                self.slices.insert(slice, into);
            }
        }
        newest.into_iter().map(|(key, slice)| Arrival { key, slice }).collect()
    }

    /// Returns the new groups of instant `g` that are too many. Those whose values come first stay: this order, unlike
    /// that of the numbers of keys, does not depend on which rows were read before.
    fn beyond(&self, g: i64, max_groups: usize) -> BTreeSet<u32> {
        let arriving = self.pending.cells.iter().take_while(|(id, _)| id.from <= g);
        let new = arriving.flat_map(|(_, cell)| cell.keys().copied()).filter(|key| !self.groups.contains(*key));
        let new: BTreeSet<u32> = new.collect();
        let room = max_groups.saturating_sub(self.groups.0.len());
        if new.len() <= room {
            return BTreeSet::new();
        }
        let mut new: Vec<u32> = new.into_iter().collect();
        new.sort_by_cached_key(|key| self.keys.values(*key));
        new.split_off(room).into_iter().collect()
    }

    /// Returns value and rows of the groups in `keys` (ascending) over the slices in `numbers`; those without rows are
    /// left out.
    pub fn sums(&mut self, numbers: Range<i64>, keys: &[u32]) -> BTreeMap<u32, (Option<f64>, u64)> {
        let micros = (numbers.end - numbers.start) * crate::time::SECOND;
        let Self { slices, tree, slots, .. } = self;
        let mut sums: BTreeMap<u32, KeySlot> = BTreeMap::new();
        let mut add = |key: u32, slot: u32, slots: &mut Slots| {
            sums.entry(key).and_modify(|sum| sum.add(slot, slots)).or_insert(KeySlot::borrowed(key, slot));
        };
        let within = slices.range(numbers.clone());
        if within.clone().nth(FEW).is_none() {
            for (_, cell) in within {
                let found = keys.iter().filter_map(|key| cell.get(key).map(|slot| (*key, *slot)));
                found.for_each(|(key, slot)| add(key, slot, slots));
            }
        } else {
            let leaves = &*slices;
            for node in Tree::cover(numbers) {
                tree.each(node, Some(keys), &leaves, slots, |part, slots| add(part.key, part.slot, slots));
            }
        }
        let read = |(key, sum): (u32, KeySlot)| {
            let found = (slots.result(sum.slot, micros), slots.rows(sum.slot));
            sum.free(slots);
            (key, found)
        };
        sums.into_iter().map(read).collect()
    }

    /// Returns the value of a window of so many seconds without rows.
    pub fn empty_value(&mut self, window: i64) -> Option<f64> {
        let slot = self.slots.claim();
        let value = self.slots.result(slot, window * crate::time::SECOND);
        self.slots.free(slot);
        value
    }

    /// Drops the slices that have left every window at instant `g`.
    pub fn prune(&mut self, g: i64) {
        while let Some(entry) = self.slices.first_entry().filter(|entry| *entry.key() <= g - self.length) {
            let (slice, cell) = entry.remove_entry();
            self.tree.forget(slice, &mut self.slots);
            for (key, slot) in cell {
                self.slots.free(slot);
                self.release(key);
            }
        }
    }

    /// Saves the rows.
    pub fn save(&self, out: &mut snapshot::Writer) {
        out.text(&self.identity);
        out.number(self.rejected.try_into().unwrap_or(i64::MAX));
        let cells = self.pending.cells.iter().map(|(id, cell)| (id.from, id.slice, cell));
        let slices = self.slices.iter().map(|(slice, cell)| (i64::MIN, *slice, cell));
        out.count(self.pending.cells.len() + self.slices.len());
        for (from, slice, cell) in cells.chain(slices) {
            out.number(from);
            out.number(slice);
            out.count(cell.len());
            for (key, slot) in cell {
                out.bytes(self.keys.bytes_of(*key));
                self.slots.save(*slot, out);
            }
        }
    }

    /// Restores rows that [`EventSeries::save`] saved after the identity.
    pub fn load(&mut self, saved: &mut snapshot::Reader<'_>) -> Result<()> {
        // Skips the number of rows that earlier runs rejected, which these runs have reported.
        saved.number()?;
        for _ in 0..saved.count()? {
            let (from, slice) = (saved.number()?, saved.number()?);
            let mut cell = SlotsByKey::default();
            for _ in 0..saved.count()? {
                let key = self.keys.restore(saved.bytes()?)?;
                self.keys.retain(key);
                let groups = if from == i64::MIN { &mut self.groups } else { &mut self.pending.groups };
                groups.add(key);
                cell.insert(key, self.slots.load(saved)?);
            }
            match from {
                i64::MIN => _ = self.slices.insert(slice, cell),
                from => _ = self.pending.cells.insert(PendingId { from, slice }, cell),
            }
        }
        self.keys.sweep();
        Ok(())
    }
}

impl Expressions {
    /// Returns the rows in which a leaf has the wrong type: one of the filter in any row, others in rows that pass it.
    fn wrong(&self, batch: &LeafBatch, passes: &dyn Fn(usize) -> bool) -> WrongRows {
        let mut rows = WrongRows::new();
        let rest = self.by.iter().map(|by| &by.expr).chain(self.call.args());
        let found = wrong_of(self.filter.as_ref(), rest, batch, passes);
        found.for_each(|found| found.note(&mut rows, Wrong::message));
        rows
    }
}
