//! Cells, and their changes.

use crate::kind::metric;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The natural key of a cell, in the order of window end and start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKey {
    /// End of the window (µs).
    pub end: i64,
    /// Its start (µs).
    pub start: i64,
    /// The metric's name.
    pub metric: Arc<str>,
    /// The dimensions as canonical JSON.
    pub dimensions: String,
}

/// Cells of session metrics, by metric and dimensions, in the order of their ends.
#[derive(Clone, Debug, Default)]
pub struct SessionCells(HashMap<(Arc<str>, String), BTreeSet<CellKey>>);

impl SessionCells {
    /// Adds a cell.
    pub fn add(&mut self, key: &CellKey) {
        self.0.entry((key.metric.clone(), key.dimensions.clone())).or_default().insert(key.clone());
    }

    /// Returns the cells that overlap a cell. Sessions that are the gap apart are one, so an end that is a start
    /// overlaps it.
    pub fn overlapping<'a>(&'a self, key: &'a CellKey) -> impl Iterator<Item = &'a CellKey> {
        let of_key = match self.0.is_empty() {
            true => None,
            false => self.0.get(&(key.metric.clone(), key.dimensions.clone())),
        };
        let first = CellKey { end: key.start, start: i64::MIN, metric: key.metric.clone(), dimensions: String::new() };
        of_key.into_iter().flat_map(move |cells| cells.range(&first..)).filter(|cell| cell.start <= key.end)
    }
}

/// The content of a right cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CellContent {
    /// The value; `None` is NULL.
    pub value: Option<f64>,
    /// Events in the window.
    pub rows: i64,
}

/// The content of a stored cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StoredCell {
    /// Value and number of events.
    pub content: CellContent,
    /// 0 for live rows, one more for each correction.
    pub revision: i32,
}

/// A cell that a correction changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its key.
    pub key: CellKey,
    /// The stored cell; `None` if there is none.
    pub old: Option<StoredCell>,
    /// The right cell; `None` if there is none, so that the stored one is retracted.
    pub new: Option<CellContent>,
}

impl Change {
    /// Returns the change of the cell, for reports: inserted, corrected or retracted.
    pub fn change_name(&self) -> &'static str {
        match (self.old, self.new) {
            (None, _) => "inserted",
            (Some(_), Some(_)) => "corrected",
            (Some(_), None) => "retracted",
        }
    }

    /// Returns the row that makes the change by the rules of stores: a wrong cell gets the stored revision and one
    /// more, and a retraction has the stored revision and rows.
    pub fn row(&self) -> metric::Row<'_> {
        let Self { key, old, new } = self;
        let stored = old.map_or(0, |old| old.revision);
        let (content, revision) = match (new, old) {
            (Some(new), Some(_)) => (*new, stored.saturating_add(1)),
            (Some(new), None) => (*new, 0),
            (None, old) => (CellContent { value: None, rows: old.map_or(0, |old| old.content.rows) }, stored),
        };
        metric::Row {
            name: &key.metric,
            start: key.start,
            end: key.end,
            dimensions: &key.dimensions,
            value: content.value,
            rows: u64::try_from(content.rows).unwrap_or(0),
            revision,
            pane: 0,
            retracted: new.is_none(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn key(n: u8) -> CellKey {
        CellKey { end: i64::from(n), start: 0, metric: "m".into(), dimensions: "{}".to_owned() }
    }

    pub fn content(n: i64) -> CellContent {
        CellContent { value: (n > 0).then_some(n as f64), rows: n }
    }

    #[test]
    fn a_wrong_cell_gets_the_next_revision_and_a_retraction_the_stored_version() {
        let old = Some(StoredCell { content: content(3), revision: 2 });
        let row = |old, new| {
            let change = Change { key: key(1), old, new };
            let row = change.row();
            (row.value, row.rows, row.revision, row.retracted)
        };
        assert_eq!(row(old, Some(content(5))), (Some(5.0), 5, 3, false));
        assert_eq!(row(None, Some(content(5))), (Some(5.0), 5, 0, false));
        assert_eq!(row(old, None), (None, 3, 2, true));
    }
}
