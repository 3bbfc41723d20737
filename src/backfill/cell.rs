//! Cells, and the difference between right and stored ones.

use super::missing::MissingEvents;
use crate::kind::metric::{Row, same_value};
use std::collections::BTreeMap;
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
    /// Returns what happens to the cell: inserted, corrected or retracted.
    pub fn what(&self) -> &'static str {
        match (self.old, self.new) {
            (None, _) => "inserted",
            (Some(_), Some(_)) => "corrected",
            (Some(_), None) => "retracted",
        }
    }

    /// Returns the row that makes the change by the rules of stores: a wrong cell gets the stored revision and one more, and a
    /// retraction has the stored revision and rows.
    pub fn row(&self) -> Row<'_> {
        let Self { key, old, new } = self;
        let stored = old.map_or(0, |old| old.revision);
        let (content, revision) = match (new, old) {
            (Some(new), Some(_)) => (*new, stored.saturating_add(1)),
            (Some(new), None) => (*new, 0),
            (None, old) => (CellContent { value: None, rows: old.map_or(0, |old| old.content.rows) }, stored),
        };
        Row {
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

/// The difference between right and stored cells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// The cells that differ, in the order of their keys.
    pub changes: Vec<Change>,
    /// Number of stored cells that are right.
    pub unchanged: u64,
    /// Number of stored cells that stay because they may count events that the input does not hold.
    pub kept: u64,
    /// The first of these.
    pub first_kept: Option<CellKey>,
}

/// Compares the right cells with the stored ones.
pub fn compare(
    right: &BTreeMap<CellKey, CellContent>,
    stored: &BTreeMap<CellKey, StoredCell>,
    missing: &MissingEvents,
) -> Difference {
    let kept = missing.kept(right, stored);
    let mut difference =
        Difference { kept: kept.len() as u64, first_kept: kept.keys().next().cloned(), ..Difference::default() };
    for (key, new) in right.iter().filter(|(key, _)| !kept.hides(key)) {
        let old = stored.get(key).copied();
        match old {
            Some(old) if old.content.rows == new.rows && same_value(old.content.value, new.value) => {
                difference.unchanged += 1;
            }
            _ => difference.changes.push(Change { key: key.clone(), old, new: Some(*new) }),
        }
    }
    let gone = stored.iter().filter(|(key, _)| !right.contains_key(*key) && !kept.contains(key));
    difference.changes.extend(gone.map(|(key, old)| Change { key: key.clone(), old: Some(*old), new: None }));
    difference.changes.sort_by(|one, other| one.key.cmp(&other.key));
    difference
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u8) -> CellKey {
        CellKey { end: i64::from(n), start: 0, metric: "m".into(), dimensions: "{}".to_owned() }
    }

    fn content(n: i64) -> CellContent {
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

    #[test]
    fn nan_and_null_are_equal_to_themselves_only() {
        let values = [Some(f64::NAN), None, Some(0.0), Some(1.0)];
        for one in values {
            for other in values {
                let right = BTreeMap::from([(key(1), CellContent { value: one, rows: 1 })]);
                let stored = StoredCell { content: CellContent { value: other, rows: 1 }, revision: 0 };
                let is_same = format!("{one:?}") == format!("{other:?}");
                assert_eq!(
                    compare(&right, &BTreeMap::from([(key(1), stored)]), &MissingEvents::default()).unchanged,
                    u64::from(is_same)
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_changes_turn_the_stored_cells_into_the_right_ones_and_then_nothing_differs(
            right in prop::collection::btree_map(0u8..12, 0i64..4, 0..8),
            stored in prop::collection::btree_map(0u8..12, (0i64..4, 0i32..3), 0..8),
        ) {
            let right: BTreeMap<_, _> = right.into_iter().map(|(n, rows)| (key(n), content(rows))).collect();
            let mut table: BTreeMap<_, _> = stored.into_iter()
                .map(|(n, (rows, revision))| (key(n), StoredCell { content: content(rows), revision })).collect();
            let difference = compare(&right, &table, &MissingEvents::default());
            prop_assert!(difference.changes.is_sorted_by(|one, other| one.key < other.key));
            for change in &difference.changes {
                prop_assert_eq!(change.old, table.get(&change.key).copied());
                let revision = change.row().revision;
                match change.new {
                    Some(content) => _ = table.insert(change.key.clone(), StoredCell { content, revision }),
                    None => _ = table.remove(&change.key),
                }
            }
            let now: BTreeMap<_, _> = table.iter().map(|(key, cell)| (key.clone(), cell.content)).collect();
            prop_assert_eq!(&now, &right);
            let again = compare(&right, &table, &MissingEvents::default());
            prop_assert_eq!((again.changes.len(), again.unchanged), (0, right.len() as u64));
        }
    }
}
