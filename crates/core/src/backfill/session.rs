//! Sessions that contain named instants.
//!
//! A late event of a session metric names its instant and its dimensions, its *key*. Of the keys with names all
//! sessions are computed without lateness: from the rows that evt-window counted, and the late rows whose own instant
//! is named with a `late_until` that their stream time does not exceed. Two rows of a key that are at most the gap
//! apart are in one session, whatever their order. Only the sessions that contain a named instant are right ones; the
//! others are left to the rule of the live run.

use super::cell::CellContent;
use crate::op::aggregate::Aggregate;
use crate::op::window::slots::Slots;
use arrow::array::ArrayRef;
use std::collections::{BTreeMap, HashMap};

/// The source of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameOrigin {
    /// A late event of this run.
    Input,
    /// The store.
    Store,
    /// The store, from which the name is removed (`--without-late`).
    Removed,
}

/// A named instant of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NamedInstant {
    /// The instant (µs).
    pub time: i64,
    /// The greatest stream time of the late events with this instant (µs).
    pub late_until: i64,
    /// The source of its name.
    pub origin: NameOrigin,
}

/// A row of a named key.
#[derive(Clone, Copy, Debug)]
pub(super) struct SessionRow {
    /// The row in the batch.
    pub row: u32,
    /// Its event time (µs).
    pub time: i64,
    /// Its stream time (µs).
    pub stream_time: i64,
    /// Whether the live run calls it late.
    pub is_late: bool,
}

/// A session that contains named instants, or a named instant without a session.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FoundSession {
    /// Start (µs).
    pub start: i64,
    /// End (µs).
    pub end: i64,
    /// Its content; `None` if there is no session.
    pub content: Option<CellContent>,
    /// The named instants.
    pub names: Vec<NamedInstant>,
}

struct Session {
    end: i64,
    slot: u32,
}

/// One key.
#[derive(Default)]
struct NamedKey {
    /// By instant.
    names: BTreeMap<i64, NamedInstant>,
    /// By start; they are disjoint.
    sessions: BTreeMap<i64, Session>,
}

/// The named keys of one session metric.
pub(super) struct NamedKeys {
    gap: i64,
    slots: Slots,
    /// By dimensions as canonical JSON.
    keys: HashMap<String, NamedKey>,
}

impl NamedKey {
    fn counts(&self, row: SessionRow) -> bool {
        let is_named = || self.names.get(&row.time).is_some_and(|name| row.stream_time <= name.late_until);
        !row.is_late || is_named()
    }

    /// Counts a row in its session, which is merged from those that the row connects. `args` are the columns of its
    /// batch.
    fn add(&mut self, row: SessionRow, gap: i64, slots: &mut Slots, args: &[ArrayRef]) {
        let (mut start, mut end, mut slot) = (row.time, row.time.saturating_add(gap), None);
        let connected = |(_, session): &(&i64, &Session)| session.end >= row.time;
        let merged: Vec<i64> =
            self.sessions.range(..=end).rev().take_while(connected).map(|(start, _)| *start).collect();
        for session in merged.into_iter().filter_map(|at| self.sessions.remove_entry(&at)) {
            let (began, session) = session;
            (start, end) = (start.min(began), end.max(session.end));
            match slot {
                None => slot = Some(session.slot),
                Some(slot) => {
                    slots.flush(args);
                    slots.merge(slot, session.slot);
                    slots.free(session.slot);
                }
            }
        }
        let slot = slot.unwrap_or_else(|| slots.claim());
        slots.add(slot, row.row);
        self.sessions.insert(start, Session { end, slot });
    }

    /// Returns the sessions with named instants, and the named instants without a session.
    fn found(&self, gap: i64, slots: &Slots) -> Vec<FoundSession> {
        let mut found: Vec<FoundSession> = vec![];
        for name in self.names.values() {
            let session = self.sessions.range(..=name.time).next_back().filter(|(_, session)| name.time <= session.end);
            let (start, end) =
                session.map_or((name.time, name.time.saturating_add(gap)), |(start, session)| (*start, session.end));
            let content = session.map(|(_, Session { slot, .. })| CellContent {
                value: slots.result(*slot, end - start),
                rows: i64::try_from(slots.rows(*slot)).unwrap_or(i64::MAX),
            });
            match found.last_mut().filter(|last| last.content.is_some() && (last.start, last.end) == (start, end)) {
                Some(last) => last.names.push(*name),
                None => found.push(FoundSession { start, end, content, names: vec![*name] }),
            }
        }
        found
    }
}

impl NamedKeys {
    /// Begins without names.
    pub fn new(gap: i64, aggregate: Box<dyn Aggregate>) -> Self {
        Self { gap, slots: Slots::new(aggregate), keys: HashMap::new() }
    }

    /// Whether there are no names.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Names an instant, or raises its `late_until`. A late event of this run outweighs the origin in the store.
    pub fn name(&mut self, dimensions: &str, name: NamedInstant) {
        let names = &mut self.keys.entry(dimensions.to_owned()).or_default().names;
        let known = names.entry(name.time).or_insert(name);
        known.late_until = known.late_until.max(name.late_until);
        if name.origin == NameOrigin::Input {
            known.origin = NameOrigin::Input;
        }
    }

    /// Returns the instants that events of this run name.
    pub fn of_input(&self) -> impl Iterator<Item = i64> {
        let names = self.keys.values().flat_map(|key| key.names.values());
        names.filter(|name| name.origin == NameOrigin::Input).map(|name| name.time)
    }

    /// Whether a row with these dimensions is in a session of its key.
    pub fn counts(&self, dimensions: &str, row: SessionRow) -> bool {
        self.keys.get(dimensions).is_some_and(|key| key.counts(row))
    }

    /// Counts rows of a batch with their dimensions; `args` are the columns of the batch.
    pub fn add(&mut self, rows: &[(String, SessionRow)], args: &[ArrayRef]) {
        for (dimensions, row) in rows {
            let key = self.keys.get_mut(dimensions);
            key.into_iter().for_each(|key| key.add(*row, self.gap, &mut self.slots, args));
        }
        self.slots.flush(args);
    }

    /// Removes all keys; returns for each its dimensions and its sessions that contain named instants.
    pub fn take(&mut self) -> Vec<(String, Vec<FoundSession>)> {
        let mut taken = vec![];
        for (dimensions, key) in self.keys.drain() {
            taken.push((dimensions, key.found(self.gap, &self.slots)));
            key.sessions.values().for_each(|session| self.slots.free(session.slot));
        }
        taken
    }
}
