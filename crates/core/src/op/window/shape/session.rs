//! Session windows: from a first event to `gap` after the last one, where each is at most `gap` from another.
//!
//! An event at the end of a session belongs to it, so a session is open one instant longer than another window
//! (`closing.rs`). A row merges with sessions only that are open at its bound, and is late iff the merged session would
//! not be. A merge retracts the panes that the merged sessions have fired. The results depend on the partitions'
//! contents alone only if each key occurs in one partition.

use super::closing::Closing;
use super::part::{Part, SavedPart};
use super::slice::Fired;
use crate::error::Result;
use crate::op::snapshot::{Reader, Writer};
use crate::op::window::key::Keys;
use crate::op::window::outcome::RowRef;
use crate::op::window::slots::Slots;
use ahash::AHashMap;
use arrow::array::ArrayRef;
use std::collections::{BTreeMap, BTreeSet};

/// Approximate bytes of a session in the maps, without its slot.
const SESSION_BYTES: usize = 160;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    start: i64,
    end: i64,
    slot: u32,
    fired: Option<SessionFiring>,
    dirty: bool,
}

/// The last firing of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SessionFiring {
    pane: u32,
    /// The rows that it counted.
    rows: u64,
}

/// The key of a session in [`Sessions`]. Sessions are in the order of their keys, then of their ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SessionId {
    key: u32,
    end: i64,
}

/// A session that is to be fired or dropped. These are in the order of the ends of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SessionEnd {
    end: i64,
    key: u32,
    start: i64,
}

/// A retraction of a result row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retraction {
    /// The key's number; the caller must release it once the retraction is written.
    pub key: u32,
    /// Start of the retracted session.
    pub start: i64,
    /// End of the retracted session.
    pub end: i64,
    /// The next pane.
    pub pane: u32,
    /// The rows that the retracted row counted.
    pub rows: u64,
}

/// The state of one session metric.
#[derive(Default)]
pub struct Sessions {
    /// By key and end. No two sessions of a key have the same end: they would overlap and be both alive or both not
    /// alive for a row, so the row that would create the second merges with the first.
    sessions: BTreeMap<SessionId, Session>,
    /// By key, the greatest end of a session that overlaps another one: a row that was too late to merge with a session
    /// began another. Sessions that end later are disjoint.
    overlapped: AHashMap<u32, i64>,
    /// Sessions with rows to fire.
    waiting: BTreeSet<SessionEnd>,
    /// All sessions.
    open: BTreeSet<SessionEnd>,
    /// Retractions to emit, by end.
    retractions: BTreeMap<i64, Vec<Retraction>>,
}

/// The gap and the lateness of a session metric.
#[derive(Clone, Copy, Debug)]
pub struct SessionRule {
    /// The time without an event that ends a session (µs).
    pub gap: i64,
    /// How long a session stays open after its end (µs).
    pub lateness: i64,
}

impl SessionRule {
    /// Returns when its sessions close.
    pub(crate) fn closing(self) -> Closing {
        Closing::of_sessions(self.lateness)
    }
}

impl Sessions {
    /// Returns the slot for a row; `None` if the row is late. `args` are the columns of the batch: the values of
    /// earlier rows are added before sessions merge.
    pub(crate) fn slot(
        &mut self,
        row: RowRef,
        rule: SessionRule,
        keys: &mut Keys,
        slots: &mut Slots,
        args: &[ArrayRef],
    ) -> Option<u32> {
        let RowRef { key, time, bound, .. } = row;
        let closed = rule.closing().closed_end(bound);
        let (mut start, mut end) = (time, time.saturating_add(rule.gap));
        let mut merged: Vec<Session> = vec![];
        while let Some(session) = self.take_overlapping(key, start, end, closed) {
            (start, end) = (start.min(session.start), end.max(session.end));
            merged.push(session);
        }
        if merged.is_empty() && end <= closed {
            return None;
        }
        let within = SessionId { key, end: start }..SessionId { key, end };
        if let Some((&SessionId { end: overlapped, .. }, _)) = self.sessions.range(within).next_back() {
            let known = self.overlapped.entry(key).or_insert(overlapped);
            *known = overlapped.max(*known);
        }
        if merged.len() > 1 {
            slots.flush(args);
        }
        // The key is retained first, so that releasing the old sessions does not remove it.
        keys.retain(key);
        let same = merged.iter().position(|session| (session.start, session.end) == (start, end));
        let mut session = Session { start, end, slot: 0, fired: None, dirty: true };
        session.fired = same.and_then(|at| merged[at].fired);
        session.slot = merged.first().map_or_else(|| slots.claim(), |first| first.slot);
        for (at, old) in merged.into_iter().enumerate() {
            let old_end = SessionEnd { end: old.end, key, start: old.start };
            self.open.remove(&old_end);
            self.waiting.remove(&old_end);
            if old.slot != session.slot {
                slots.merge(session.slot, old.slot);
                slots.free(old.slot);
            }
            if let (Some(SessionFiring { pane, rows }), true) = (old.fired, same != Some(at)) {
                keys.retain(key);
                let gone = Retraction { key, start: old.start, end: old.end, pane: pane + 1, rows };
                self.retractions.entry(old.end).or_default().push(gone);
            }
            keys.release(key);
        }
        self.open.insert(SessionEnd { end, key, start });
        self.waiting.insert(SessionEnd { end, key, start });
        let slot = session.slot;
        self.sessions.insert(SessionId { key, end }, session);
        Some(slot)
    }

    /// Removes and returns a session of the key that overlaps the span and ends after `closed`.
    fn take_overlapping(&mut self, key: u32, start: i64, end: i64, closed: i64) -> Option<Session> {
        let disjoint = self.overlapped.get(&key).is_none_or(|overlapped| *overlapped <= closed);
        let later = SessionId { key, end: start.max(closed.saturating_add(1)) }..=SessionId { key, end: i64::MAX };
        let mut later = self.sessions.range(later);
        // Disjoint sessions start in the order of their ends, so only the first can overlap.
        let found =
            if disjoint { later.next().filter(|(_, s)| s.start <= end) } else { later.find(|(_, s)| s.start <= end) };
        let id = *found?.0;
        self.sessions.remove(&id)
    }

    /// Returns the ends of sessions that are due at `watermark`, and of retractions, in ascending order.
    pub fn due(&self, watermark: i64, delay: i64) -> Vec<i64> {
        let waiting = self.waiting.iter().map(|session| session.end);
        let firing = Closing::of_sessions(delay);
        let mut due: Vec<i64> = waiting.take_while(|end| !firing.is_open(*end, watermark)).collect();
        due.extend(self.retractions.keys());
        due.sort_unstable();
        due.dedup();
        due
    }

    /// Takes the retractions of sessions that ended at `end`.
    pub fn retract(&mut self, end: i64) -> Vec<Retraction> {
        self.retractions.remove(&end).unwrap_or_default()
    }

    /// Returns the result rows of the sessions that end at `end`, each with its start.
    pub fn fire(&mut self, end: i64, slots: &Slots) -> Vec<(i64, Fired)> {
        let first = SessionEnd { end, key: 0, start: i64::MIN };
        let due: Vec<_> = self.waiting.range(first..).take_while(|session| session.end == end).copied().collect();
        let mut rows = Vec::with_capacity(due.len());
        for entry @ SessionEnd { key, start, .. } in due {
            self.waiting.remove(&entry);
            let session = self.sessions.get_mut(&SessionId { key, end });
            if let Some(session) = session.filter(|session| session.start == start && session.dirty) {
                let pane = session.fired.map_or(0, |fired| fired.pane + 1);
                let count = slots.rows(session.slot);
                session.fired = Some(SessionFiring { pane, rows: count });
                session.dirty = false;
                let value = slots.result(session.slot, end - start);
                rows.push((start, Fired { key, value, rows: count, pane }));
            }
        }
        rows
    }

    /// Drops the sessions that no later row can reach.
    pub fn close(&mut self, watermark: i64, rule: SessionRule, keys: &mut Keys, slots: &mut Slots) {
        while let Some(entry @ SessionEnd { end, key, .. }) = self.open.first().copied() {
            if rule.closing().is_open(end, watermark) {
                return;
            }
            self.open.remove(&entry);
            self.waiting.remove(&entry);
            if let Some(session) = self.sessions.remove(&SessionId { key, end }) {
                slots.free(session.slot);
                keys.release(key);
            }
            if self.overlapped.get(&key).is_some_and(|overlapped| *overlapped <= end) {
                self.overlapped.remove(&key);
            }
        }
    }

    /// Returns the number of sessions with rows to fire.
    pub fn held(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Whether there are neither sessions nor retractions.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.retractions.is_empty()
    }

    /// Returns the approximate bytes of what is not in slots.
    pub fn allocated(&self) -> usize {
        self.sessions.len() * SESSION_BYTES
    }

    /// Returns the first watermark (µs) at which a session fires or is dropped.
    pub fn earliest(&self, rule: SessionRule, delay: i64) -> Option<i64> {
        let fires = self.waiting.first().map(|session| Closing::of_sessions(delay).at(session.end));
        let drops = self.open.first().map(|session| rule.closing().at(session.end));
        fires.into_iter().chain(drops).min()
    }

    /// Saves a part of the state: sessions in the order of their ends, then of their keys' bytes.
    pub(crate) fn snapshot(&self, keys: &Keys, slots: &Slots, part: Part<'_>, out: &mut Writer) {
        let Sessions { sessions, overlapped: _, waiting: _, open: _, retractions } = self;
        let selected = sessions.iter().filter(|(id, _)| (part.has_key)(id.key));
        let mut sorted: Vec<(&[u8], &Session)> =
            selected.map(|(id, session)| (keys.bytes_of(id.key), session)).collect();
        sorted.sort_by_key(|(key, session)| (session.end, *key, session.start));
        out.count(sorted.len());
        for (key, Session { start, end, slot, fired, dirty }) in sorted {
            out.bytes(key);
            out.number(*start);
            out.number(*end);
            slots.save(*slot, out);
            out.flag(fired.is_some());
            if let Some(SessionFiring { pane, rows }) = fired {
                out.number(i64::from(*pane));
                out.number(*rows as i64);
            }
            out.flag(*dirty);
        }
        let mut sorted: Vec<&Retraction> =
            retractions.values().flatten().filter(|gone| (part.has_key)(gone.key)).collect();
        sorted.sort_by_key(|gone| (gone.end, keys.bytes_of(gone.key), gone.start));
        out.count(sorted.len());
        for Retraction { key, start, end, pane, rows } in sorted {
            out.bytes(keys.bytes_of(*key));
            out.number(*start);
            out.number(*end);
            out.number(i64::from(*pane));
            out.number(*rows as i64);
        }
    }

    /// Adds a part of what [`Sessions::snapshot`] saved; there are no sessions of its keys here.
    pub(crate) fn restore_part(
        &mut self,
        keys: &mut Keys,
        slots: &mut Slots,
        saved: &mut Reader<'_>,
        part: SavedPart<'_>,
    ) -> Result<()> {
        for _ in 0..saved.count()? {
            let key = saved.bytes()?;
            let is_selected = (part.has_key)(key);
            let (start, end) = (saved.instant()?, saved.instant()?);
            let place = match is_selected {
                true => Some((keys.restore(key)?, slots.load(saved)?)),
                false => Slots::skip(saved).map(|()| None)?,
            };
            let fired =
                if saved.flag()? { Some(SessionFiring { pane: saved.pane()?, rows: saved.rows()? }) } else { None };
            let dirty = saved.flag()?;
            let Some((key, slot)) = place else { continue };
            keys.retain(key);
            self.open.insert(SessionEnd { end, key, start });
            if dirty {
                self.waiting.insert(SessionEnd { end, key, start });
            }
            self.sessions.insert(SessionId { key, end }, Session { start, end, slot, fired, dirty });
        }
        self.find_overlapped();
        for _ in 0..saved.count()? {
            let key = saved.bytes()?;
            let is_selected = (part.has_key)(key);
            let (start, end) = (saved.instant()?, saved.instant()?);
            let (pane, rows) = (saved.pane()?, saved.rows()?);
            if is_selected {
                let key = keys.restore(key)?;
                keys.retain(key);
                self.retractions.entry(end).or_default().push(Retraction { key, start, end, pane, rows });
            }
        }
        Ok(())
    }

    fn find_overlapped(&mut self) {
        // Backwards: the key, and the least start of its sessions that end later.
        let mut after: Option<(u32, i64)> = None;
        for (SessionId { key, end }, session) in self.sessions.iter().rev() {
            let least = after.filter(|(known, _)| known == key).map(|(_, least)| least);
            if least.is_some_and(|least| least <= *end) {
                self.overlapped.entry(*key).or_insert(*end);
            }
            after = Some((*key, least.map_or(session.start, |least| least.min(session.start))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Leaves;
    use crate::kind::Kind;
    use crate::op::aggregate;
    use proptest::prelude::*;

    /// The naive model: every row scans a list of sessions.
    fn naive(list: &mut Vec<(i64, i64, u64)>, time: i64, bound: i64, rule: SessionRule) -> bool {
        let alive = |end: i64| bound <= end + rule.lateness;
        let mut merged = (time, time + rule.gap, 1);
        let mut any = false;
        while let Some(at) = list.iter().position(|s| alive(s.1) && s.0 <= merged.1 && merged.0 <= s.1) {
            let one = list.swap_remove(at);
            merged = (merged.0.min(one.0), merged.1.max(one.1), merged.2 + one.2);
            any = true;
        }
        let counted = any || alive(merged.1);
        if counted {
            list.push(merged);
        }
        counted
    }

    fn held(sessions: &Sessions, slots: &Slots) -> Vec<(i64, i64, u64)> {
        let all = sessions.sessions.values();
        let mut held: Vec<_> = all.map(|session| (session.start, session.end, slots.rows(session.slot))).collect();
        held.sort_unstable();
        held
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Bounds rise and fall, as when a key occurs in several partitions. So sessions overlap others that were
        /// closed for one row and are alive for the next.
        #[test]
        fn sessions_found_by_their_ends_are_those_that_a_list_finds(
            rows in prop::collection::vec((0i64..120, -10i64..110), 1..80), gap in 1i64..12, lateness in 0i64..8,
        ) {
            let rule = SessionRule { gap, lateness };
            let call = aggregate::parse("count(*)", &mut Leaves::new(&Kind::Event.schema())).unwrap();
            let (mut keys, mut slots) = (Keys::default(), Slots::new(call.create()));
            let mut sessions = Sessions::default();
            let mut ids = vec![];
            keys.ids(&[], 1, &mut ids).unwrap();
            let mut list = vec![];
            for (time, bound) in rows {
                let coming = RowRef { row: 0, key: ids[0], time, bound, own: bound };
                let slot = sessions.slot(coming, rule, &mut keys, &mut slots, &[]);
                prop_assert_eq!(slot.is_some(), naive(&mut list, time, bound, rule));
                slot.into_iter().for_each(|slot| slots.add(slot, 0));
                slots.flush(&[]);
                list.sort_unstable();
                prop_assert_eq!(held(&sessions, &slots), list.clone());
                let mut again = Sessions { sessions: std::mem::take(&mut sessions.sessions), ..Sessions::default() };
                again.find_overlapped();
                let known = |sessions: &Sessions| sessions.overlapped.get(&ids[0]).copied();
                prop_assert!(known(&again) <= known(&sessions), "what is found anew is all that there is");
                sessions.sessions = again.sessions;
            }
        }
    }
}
