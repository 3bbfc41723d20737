//! The difference between right and stored cells.

use super::cell::{CellContent, CellKey, Change, SessionCells, StoredCell};
use super::input_times::Coverage;
use super::missing::MissingEvents;
use crate::kind::metric::same_value;
use std::collections::{BTreeMap, BTreeSet};

/// The difference between right and stored cells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// The cells that differ, in the order of their keys.
    pub changes: Vec<Change>,
    /// Number of stored cells that are right.
    pub unchanged: u64,
    /// Stored cells that stay because they may count events that the input does not hold.
    pub kept: BTreeSet<CellKey>,
    /// Stored cells without a right one that are not retracted, and how many events each counts.
    pub orphans: BTreeMap<CellKey, i64>,
    /// Number of stored cells before the first event of the input, which were not compared.
    pub before: u64,
    /// Number of stored cells after the last event of the input, which were not compared.
    pub after: u64,
}

/// The stored cells of a step.
#[derive(Debug, Default)]
pub struct StoredCells {
    /// Those that are compared.
    pub cells: BTreeMap<CellKey, StoredCell>,
    /// Number of those before the first event of the input.
    pub before: u64,
    /// Number of those after its last event.
    pub after: u64,
}

impl StoredCells {
    /// Counts a stored cell; returns whether it is compared.
    pub fn takes(&mut self, coverage: Coverage) -> bool {
        self.before += u64::from(coverage == Coverage::Before);
        self.after += u64::from(coverage == Coverage::After);
        coverage == Coverage::Compared
    }
}

/// The rules by which stored cells are compared with right ones.
pub struct Comparison<'a> {
    /// Events that the input may not hold.
    pub missing: &'a MissingEvents,
    /// Whether a stored cell without a right one that counts so many events is retracted, unless a right session takes
    /// its place.
    pub retracts: &'a dyn Fn(&CellKey, i64) -> bool,
    /// Whether a stored cell stays, as one with missing events does, if it counts more events than the right one.
    pub may_count_more: &'a dyn Fn(&CellKey) -> bool,
    /// Whether a right session without a stored one is not written, because it may be a part of one.
    pub may_be_part: &'a dyn Fn(&CellKey) -> bool,
    /// The first event so far (µs), if earlier ones may follow. Stored cells that end before it are left as cells
    /// without a right one until the first event is known.
    pub first: Option<i64>,
}

impl<'a> Comparison<'a> {
    /// Makes rules by which every stored cell that differs is changed, if its events are all there.
    pub fn new(missing: &'a MissingEvents, retracts: &'a dyn Fn(&CellKey, i64) -> bool) -> Self {
        Self { missing, retracts, may_count_more: &|_| false, may_be_part: &|_| false, first: None }
    }
    /// Compares the right cells with the stored ones.
    pub fn compare(&self, right: &BTreeMap<CellKey, CellContent>, found: &StoredCells) -> Difference {
        let StoredCells { cells: stored, before, after } = found;
        let kept = self.missing.kept(right, stored, self.may_count_more);
        let mut difference = Difference { before: *before, after: *after, ..Difference::default() };
        let mut stored_sessions = SessionCells::default();
        // One that is right says nothing about others: a correction before this one may have written it.
        let is_wrong = |key: &&CellKey| self.missing.is_session(&key.metric) && !right.contains_key(*key);
        stored.keys().filter(is_wrong).for_each(|key| stored_sessions.add(key));
        // A new session may be a part of a stored one that is not compared.
        let is_part = |key: &CellKey| {
            let is_new = || stored_sessions.overlapping(key).next().is_none();
            self.missing.is_session(&key.metric) && is_new() && (self.may_be_part)(key)
        };
        for (key, new) in right.iter().filter(|(key, _)| !kept.hides(key)) {
            let old = stored.get(key).copied();
            match old {
                None if is_part(key) => _ = difference.kept.insert(key.clone()),
                Some(old) if old.content.rows == new.rows && same_value(old.content.value, new.value) => {
                    difference.unchanged += 1;
                }
                _ => difference.changes.push(Change { key: key.clone(), old, new: Some(*new) }),
            }
        }
        let (mut hidden, mut written) = (SessionCells::default(), SessionCells::default());
        for key in right.keys().filter(|key| self.missing.is_session(&key.metric)) {
            if kept.hides(key) { hidden.add(key) } else { written.add(key) }
        }
        let touches = |sessions: &SessionCells, key: &CellKey| sessions.overlapping(key).next().is_some();
        let is_replaced = |key: &CellKey| touches(&written, key);
        let is_early = |key: &CellKey| self.first.is_some_and(|first| key.end <= first);
        let stays = |key: &CellKey| kept.contains(key) && !is_early(key);
        for (key, old) in stored.iter().filter(|(key, _)| !right.contains_key(*key) && !stays(key)) {
            if is_replaced(key) {
                difference.changes.push(Change { key: key.clone(), old: Some(*old), new: None });
            } else if touches(&hidden, key) {
                // The right session that has its events is not written.
                difference.kept.insert(key.clone());
            } else if (self.retracts)(key, old.content.rows) {
                difference.changes.push(Change { key: key.clone(), old: Some(*old), new: None });
            } else {
                difference.orphans.insert(key.clone(), old.content.rows);
            }
        }
        difference.changes.sort_by(|one, other| one.key.cmp(&other.key));
        difference.kept.extend(kept.into_keys());
        difference.kept.retain(|key| !is_early(key));
        difference
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::tests::{content, key};
    use super::*;
    use proptest::prelude::*;

    fn compare(
        right: &BTreeMap<CellKey, CellContent>,
        stored: &BTreeMap<CellKey, StoredCell>,
        missing: &MissingEvents,
    ) -> Difference {
        let stored = StoredCells { cells: stored.clone(), ..StoredCells::default() };
        Comparison::new(missing, &|_, _| true).compare(right, &stored)
    }

    #[test]
    fn nan_and_null_are_equal_to_themselves_only() {
        let values = [Some(f64::NAN), None, Some(0.0), Some(1.0)];
        for one in values {
            for other in values {
                let right = BTreeMap::from([(key(1), CellContent { value: one, rows: 1 })]);
                let stored = StoredCell { content: CellContent { value: other, rows: 1 }, revision: 0 };
                let is_same = format!("{one:?}") == format!("{other:?}");
                let stored = BTreeMap::from([(key(1), stored)]);
                assert_eq!(compare(&right, &stored, &MissingEvents::default()).unchanged, u64::from(is_same));
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

    fn cell(metric: &str, start: i64, end: i64) -> CellKey {
        CellKey { end, start, metric: metric.into(), dimensions: "{}".to_owned() }
    }

    fn difference(right: &[(CellKey, i64)], stored: &[(CellKey, i64)], until: i64) -> Difference {
        let mut missing = MissingEvents::new(BTreeSet::from(["s".into()]));
        missing.add(until);
        let right = right.iter().map(|(key, rows)| (key.clone(), content(*rows))).collect();
        let row = |rows| StoredCell { content: content(rows), revision: 0 };
        let stored = stored.iter().map(|(key, rows)| (key.clone(), row(*rows))).collect();
        compare(&right, &stored, &missing)
    }

    fn changed(difference: &Difference) -> Vec<(&'static str, i64)> {
        difference.changes.iter().map(|change| (change.change_name(), change.key.start)).collect()
    }

    #[test]
    fn a_window_with_missing_events_is_neither_lowered_nor_retracted() {
        let [first, second, third, fourth] = [0, 10, 20, 30].map(|start| cell("w", start, start + 10));
        let stored = [(first.clone(), 5), (second.clone(), 5), (third.clone(), 5), (fourth.clone(), 5)];
        let right = [(second, 2), (third.clone(), 6), (fourth, 2)];
        // The first event that is left has stream time 20: the third window may lack events, the fourth has all of
        // them.
        let found = difference(&right, &stored, 20);
        assert_eq!(changed(&found), [("corrected", 20), ("corrected", 30)]);
        assert_eq!((found.kept.len(), found.kept.first()), (2, Some(&first)));
        let whole = difference(&right, &[(first, 5), (third, 6)], -1);
        assert_eq!(changed(&whole), [("retracted", 0), ("inserted", 10), ("inserted", 30)]);
    }

    #[test]
    fn a_session_that_lost_its_first_events_stays_and_hides_the_rest_of_it() {
        let found = difference(&[(cell("s", 12, 30), 3)], &[(cell("s", 2, 30), 9)], 12);
        assert_eq!((changed(&found), found.kept.len()), (vec![], 1));
        // The right session contains the stored one and more.
        let found = difference(&[(cell("s", 2, 40), 9)], &[(cell("s", 2, 30), 7)], 12);
        assert_eq!((changed(&found), found.kept.len()), (vec![("retracted", 2), ("inserted", 2)], 0));
        // A stored session whose events are in a right one that is hidden is not retracted for it.
        let found = difference(&[(cell("s", 12, 50), 5)], &[(cell("s", 2, 30), 9), (cell("s", 40, 50), 3)], 12);
        assert_eq!((changed(&found), found.kept.len()), (vec![], 2));
        // Sessions of another time are judged by themselves.
        let found = difference(&[(cell("s", 50, 60), 3)], &[(cell("s", 2, 30), 9), (cell("s", 45, 60), 9)], 12);
        assert_eq!((changed(&found), found.kept.len()), (vec![("retracted", 45), ("inserted", 50)], 1));
    }

    #[test]
    fn a_cell_that_is_not_retracted_stays_unless_a_right_session_takes_its_place() {
        let missing = MissingEvents::new(BTreeSet::from(["s".into()]));
        let of_cells = |cells: &[CellKey]| {
            let row = StoredCell { content: content(1), revision: 0 };
            StoredCells { cells: cells.iter().map(|key| (key.clone(), row)).collect(), before: 2, after: 1 }
        };
        let stored = of_cells(&[cell("w", 0, 10), cell("s", 0, 10), cell("s", 20, 30)]);
        let right = BTreeMap::from([(cell("w", 10, 20), content(1)), (cell("s", 10, 15), content(1))]);
        let found = Comparison::new(&missing, &|_, _| false).compare(&right, &stored);
        assert_eq!(changed(&found), [("retracted", 0), ("inserted", 10), ("inserted", 10)]);
        assert_eq!(found.orphans, BTreeMap::from([(cell("w", 0, 10), 1), (cell("s", 20, 30), 1)]));
        assert_eq!((found.before, found.after), (2, 1));
    }
}
