//! Events that the input may not hold, because a topic or store no longer has its first records.
//!
//! A partition whose first offset is greater than 1 may have begun with events that are gone. (Offsets of topics begin
//! with 0, line numbers of files with 1.) Their event time is at most the stream time of the first event that is left.
//! A stored cell that may contain such an instant may count these events: it stays if it counts more events than the
//! input gives it. (A first record that was rejected also makes the first offset greater. Then nothing is gone, the
//! stored cell does not count more, and it is corrected like any other.)

use super::cell::{CellContent, CellKey, SessionCells, StoredCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The events that the input may not hold.
#[derive(Clone, Debug, Default)]
pub struct MissingEvents {
    /// The greatest event time of them (µs).
    until: Option<i64>,
    /// The metrics whose windows are sessions.
    sessions: BTreeSet<Arc<str>>,
}

/// Stored cells that stay as they are.
#[derive(Debug, Default)]
pub struct KeptCells {
    /// The cells that are sessions. Each takes the place of right sessions that overlap it.
    sessions: SessionCells,
    keys: BTreeSet<CellKey>,
}

impl KeptCells {
    /// Returns the cells.
    pub fn into_keys(self) -> BTreeSet<CellKey> {
        self.keys
    }

    /// Whether a stored cell stays.
    pub fn contains(&self, key: &CellKey) -> bool {
        self.keys.contains(key)
    }

    /// Whether a right cell is not written, because a stored one stays in its place.
    pub fn hides(&self, key: &CellKey) -> bool {
        self.contains(key) || self.sessions.overlapping(key).next().is_some()
    }
}

impl MissingEvents {
    /// Begins without events; `sessions` are the metrics whose windows are sessions.
    pub fn new(sessions: BTreeSet<Arc<str>>) -> Self {
        Self { until: None, sessions }
    }

    /// Adds the events of a partition before its first event that is left, whose stream time is `until` at most (µs).
    pub fn add(&mut self, until: i64) {
        self.until = self.until.max(Some(until));
    }

    /// Whether the windows of a metric are sessions.
    pub fn is_session(&self, metric: &str) -> bool {
        self.sessions.contains(metric)
    }

    /// Whether a cell may count events that are missing.
    fn touches(&self, key: &CellKey) -> bool {
        self.until.is_some_and(|until| key.start <= until)
    }

    /// Returns the stored cells that stay; besides those that may count missing events, `others` may be among them.
    pub fn kept(
        &self,
        right: &BTreeMap<CellKey, CellContent>,
        stored: &BTreeMap<CellKey, StoredCell>,
        others: &dyn Fn(&CellKey) -> bool,
    ) -> KeptCells {
        let mut kept = KeptCells::default();
        let mut right_sessions = SessionCells::default();
        right.keys().filter(|key| self.sessions.contains(&key.metric)).for_each(|key| right_sessions.add(key));
        for (key, old) in stored.iter().filter(|(key, _)| self.touches(key) || others(key)) {
            let is_whole = |new: &CellKey| right.get(new).is_some_and(|new| new.rows >= old.content.rows);
            let is_session = self.sessions.contains(&key.metric);
            // A right session with as many events contains those of the stored one.
            let is_replaced = if is_session { right_sessions.overlapping(key).any(is_whole) } else { is_whole(key) };
            if !is_replaced {
                kept.keys.insert(key.clone());
                if is_session {
                    kept.sessions.add(key);
                }
            }
        }
        kept
    }
}
