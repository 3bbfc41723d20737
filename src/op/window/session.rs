//! Session windows: from an event to `gap` after the last that is not further than `gap` from another.
//!
//! For a row a session is alive iff its bound (stream time − out-of-orderness) < end + lateness; a row merges with
//! alive sessions only, and is late iff the merged one would not be alive. A merge takes back what has fired. Results
//! are pure when a key lives in one partition.

use super::key::Keys;
use super::slice::Fired;
use super::slots::Slots;
use crate::error::Result;
use crate::op::snapshot::{Reader, Writer};
use ahash::AHashMap;
use arrow::array::ArrayRef;
use std::collections::BTreeSet;

/// Rows whose values still have to be added to their slots.
#[derive(Default)]
pub struct Pending {
    /// The slot of each row.
    pub slots: Vec<u32>,
    /// The row in the batch.
    pub rows: Vec<u32>,
}

impl Pending {
    /// Adds them.
    pub fn flush(&mut self, slots: &mut Slots, args: &[ArrayRef]) {
        if !self.rows.is_empty() {
            slots.aggregate().add(&self.slots, &self.rows, args);
            self.slots.clear();
            self.rows.clear();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    start: i64,
    end: i64,
    slot: u32,
    /// The last firing: its number and how many rows it counted.
    fired: Option<(u32, u64)>,
    dirty: bool,
}

/// A row of result that is no longer true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retraction {
    /// The key's number; it must be released when the row is written.
    pub key: u32,
    /// Start of the session that was.
    pub start: i64,
    /// Its end.
    pub end: i64,
    /// The next pane.
    pub pane: u32,
    /// The rows the row to take back counted.
    pub rows: u64,
}

/// The state of one session metric.
#[derive(Default)]
pub struct Sessions {
    sessions: AHashMap<u32, Vec<Session>>,
    /// (end, key, start) of sessions that have something to fire.
    waiting: BTreeSet<(i64, u32, i64)>,
    /// (end, key, start) of all sessions.
    open: BTreeSet<(i64, u32, i64)>,
    retractions: Vec<Retraction>,
}

/// What a session metric is told.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The silence that ends a session (µs).
    pub gap: i64,
    /// How long past its end a session stays open (µs).
    pub lateness: i64,
}

impl Sessions {
    /// The slot for a row of `key` at `time`, judged by `bound`; none if it is late.
    pub fn slot(
        &mut self,
        (key, time, bound): (u32, i64, i64),
        rule: Rule,
        (keys, slots): (&mut Keys, &mut Slots),
        (pending, args): (&mut Pending, &[ArrayRef]),
    ) -> Option<u32> {
        let alive = |end: i64| bound < end.saturating_add(rule.lateness);
        let list = self.sessions.entry(key).or_default();
        let (mut start, mut end) = (time, time.saturating_add(rule.gap));
        let mut merged: Vec<Session> = vec![];
        while let Some(at) = list.iter().position(|s| alive(s.end) && s.start <= end && start <= s.end) {
            let session = list.swap_remove(at);
            (start, end) = (start.min(session.start), end.max(session.end));
            merged.push(session);
        }
        if merged.is_empty() && !alive(end) {
            if list.is_empty() {
                self.sessions.remove(&key);
            }
            return None;
        }
        if merged.len() > 1 {
            pending.flush(slots, args);
        }
        // First, so that letting go of the old sessions does not take the key away.
        keys.retain(key);
        let same = merged.iter().position(|session| (session.start, session.end) == (start, end));
        let mut session = Session { start, end, slot: 0, fired: None, dirty: true };
        session.fired = same.and_then(|at| merged[at].fired);
        session.slot = merged.first().map_or_else(|| slots.claim(), |first| first.slot);
        for (at, old) in merged.into_iter().enumerate() {
            self.open.remove(&(old.end, key, old.start));
            self.waiting.remove(&(old.end, key, old.start));
            if old.slot != session.slot {
                slots.merge(session.slot, old.slot);
                slots.free(old.slot);
            }
            if let (Some((pane, rows)), true) = (old.fired, same != Some(at)) {
                keys.retain(key);
                self.retractions.push(Retraction { key, start: old.start, end: old.end, pane: pane + 1, rows });
            }
            keys.release(key);
        }
        self.open.insert((end, key, start));
        self.waiting.insert((end, key, start));
        let slot = session.slot;
        self.sessions.entry(key).or_default().push(session);
        Some(slot)
    }

    /// Ends of the sessions that are due when the watermark has reached `watermark`, in order, and of rows to take back.
    pub fn due(&self, watermark: i64, delay: i64) -> Vec<i64> {
        let waiting = self.waiting.iter().map(|(end, ..)| *end);
        let mut due: Vec<i64> = waiting.take_while(|end| end.saturating_add(delay) <= watermark).collect();
        due.extend(self.retractions.iter().map(|retraction| retraction.end));
        due.sort_unstable();
        due.dedup();
        due
    }

    /// The rows to take back of sessions that ended at `end`.
    pub fn retract(&mut self, end: i64) -> Vec<Retraction> {
        let (now, later) = std::mem::take(&mut self.retractions).into_iter().partition(|r| r.end == end);
        self.retractions = later;
        now
    }

    /// The rows of the sessions that end at `end`, each with its start, if `watermark` lets them fire.
    pub fn fire(&mut self, end: i64, slots: &Slots) -> Vec<(i64, Fired)> {
        let due: Vec<_> = self.waiting.range((end, 0, i64::MIN)..=(end, u32::MAX, i64::MAX)).copied().collect();
        let mut rows = Vec::with_capacity(due.len());
        for entry @ (_, key, start) in due {
            self.waiting.remove(&entry);
            let list = self.sessions.get_mut(&key).into_iter().flatten();
            for session in list.filter(|session| (session.start, session.end) == (start, end) && session.dirty) {
                let pane = session.fired.map_or(0, |(pane, _)| pane + 1);
                let count = slots.rows(session.slot);
                session.fired = Some((pane, count));
                session.dirty = false;
                let value = slots.result(session.slot, end - start);
                rows.push((start, Fired { key, value, rows: count, pane }));
            }
        }
        rows
    }

    /// Lets go of the sessions that no later row can reach.
    pub fn close(&mut self, watermark: i64, rule: Rule, keys: &mut Keys, slots: &mut Slots) {
        while let Some(entry @ (end, key, start)) = self.open.first().copied() {
            if end.saturating_add(rule.lateness) > watermark {
                return;
            }
            self.open.remove(&entry);
            self.waiting.remove(&entry);
            if let Some(list) = self.sessions.get_mut(&key)
                && let Some(at) = list.iter().position(|session| (session.start, session.end) == (start, end))
            {
                slots.free(list.swap_remove(at).slot);
                keys.release(key);
                if list.is_empty() {
                    self.sessions.remove(&key);
                }
            }
        }
    }

    /// Sessions that have something to fire.
    pub fn held(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// The saved form: sessions in the order of their ends, then of their keys' bytes.
    pub fn snapshot(&self, keys: &Keys, slots: &Slots, out: &mut Writer) {
        let Sessions { sessions, waiting: _, open: _, retractions } = self;
        let mut sorted: Vec<(&[u8], &Session)> =
            sessions.iter().flat_map(|(key, list)| list.iter().map(|s| (keys.bytes_of(*key), s))).collect();
        sorted.sort_by_key(|(key, session)| (session.end, *key, session.start));
        out.count(sorted.len());
        for (key, Session { start, end, slot, fired, dirty }) in sorted {
            out.bytes(key);
            out.number(*start);
            out.number(*end);
            slots.save(*slot, out);
            out.flag(fired.is_some());
            if let Some((pane, rows)) = fired {
                out.number(i64::from(*pane));
                out.number(*rows as i64);
            }
            out.flag(*dirty);
        }
        out.count(retractions.len());
        for Retraction { key, start, end, pane, rows } in retractions {
            out.bytes(keys.bytes_of(*key));
            out.number(*start);
            out.number(*end);
            out.number(i64::from(*pane));
            out.number(*rows as i64);
        }
    }

    /// What [`Sessions::snapshot`] saved.
    pub fn restore(keys: &mut Keys, slots: &mut Slots, saved: &mut Reader<'_>) -> Result<Self> {
        let mut restored = Self::default();
        for _ in 0..saved.count()? {
            let key = keys.restore(saved.bytes()?)?;
            keys.retain(key);
            let (start, end) = (saved.instant()?, saved.instant()?);
            let slot = slots.load(saved)?;
            let fired = if saved.flag()? { Some((saved.pane()?, saved.rows()?)) } else { None };
            let dirty = saved.flag()?;
            restored.open.insert((end, key, start));
            if dirty {
                restored.waiting.insert((end, key, start));
            }
            restored.sessions.entry(key).or_default().push(Session { start, end, slot, fired, dirty });
        }
        for _ in 0..saved.count()? {
            let key = keys.restore(saved.bytes()?)?;
            keys.retain(key);
            let (start, end) = (saved.instant()?, saved.instant()?);
            let (pane, rows) = (saved.pane()?, saved.rows()?);
            restored.retractions.push(Retraction { key, start, end, pane, rows });
        }
        Ok(restored)
    }
}
