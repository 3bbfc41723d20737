//! The guard of stored metrics: which row of a natural key stays.
//!
//! The state of a key is the greatest (`revision`, `rows`, retracted) that was seen: a row is replaced by one of greater
//! or equal version, a retraction takes back the row of its version (and what came before it), and a row whose
//! retraction this run has seen does not come back. So any order and any repetition of one run's rows ends in the same
//! table. What another run took back is forgotten with that run: its versions speak of other data.

use crate::counts::SinkCounts;

/// What orders the rows of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 0 live, one more for each backfill.
    pub revision: i32,
    /// Events in the row.
    pub rows: i64,
}

/// The row a store holds for a key.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Its version.
    pub version: Version,
    /// Its value.
    pub value: Option<f64>,
}

/// What became of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its key was not there.
    Inserted,
    /// It replaced a row of smaller version, or of the same with another value.
    Updated,
    /// The store says the same already.
    Unchanged,
    /// A retraction: the row is gone.
    Deleted,
    /// Refused: something greater is there.
    Stale,
}

/// The fate of a row of `version` that carries `value` under a key of which `stored` is there and `taken_back` is the
/// greatest version this run retracted.
pub fn judge_row(stored: Option<Stored>, taken_back: Option<Version>, row: Stored) -> Fate {
    if taken_back.is_some_and(|gone| row.version <= gone) {
        return Fate::Stale;
    }
    match stored {
        None => Fate::Inserted,
        Some(there) if row.version < there.version => Fate::Stale,
        Some(there) if row.version == there.version && same_value(row.value, there.value) => Fate::Unchanged,
        Some(_) => Fate::Updated,
    }
}

/// The fate of a retraction of `version`; one of a row that is not there changes nothing.
pub fn judge_retraction(stored: Option<Stored>, version: Version) -> Fate {
    match stored {
        None => Fate::Unchanged,
        Some(there) if there.version <= version => Fate::Deleted,
        Some(_) => Fate::Stale,
    }
}

/// NaN is the same as NaN, and the two zeros are one: not every store keeps the sign.
fn same_value(left: Option<f64>, right: Option<f64>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => left == right || (left.is_nan() && right.is_nan()),
        (None, None) => true,
        _ => false,
    }
}

impl SinkCounts {
    /// Counts a row of that fate.
    pub fn add(&mut self, fate: Fate) {
        self.taken += 1;
        match fate {
            Fate::Inserted => self.inserted += 1,
            Fate::Updated => self.updated += 1,
            Fate::Unchanged => self.unchanged += 1,
            Fate::Deleted => self.deleted += 1,
            Fate::Stale => self.stale += 1,
        }
    }
}

/// Rows of other runs that this one replaced: the sign that two runs wrote parts of one window.
#[derive(Default)]
pub struct Replaced {
    rows: u64,
    first: Option<String>,
}

impl Replaced {
    /// Counts one that held `before` events and holds `now`; `key` names it for a person.
    pub fn add(&mut self, key: impl FnOnce() -> String, before: i64, now: i64) {
        self.rows += 1;
        if self.first.is_none() {
            self.first = Some(format!("{}: rows {before} before, {now} now", key()));
        }
    }

    /// The line for the summary, if there were any.
    pub fn remark(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        let count = self.rows;
        Some(format!("replaced {count} rows of other runs (a metric row is the whole of its window), first {first}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(revision: i32, rows: i64) -> Stored {
        Stored { version: Version { revision, rows }, value: Some(rows as f64) }
    }

    /// Applies (revision, rows, retraction) triples to one key.
    fn apply(rows: &[(i32, i64, bool)]) -> Option<Version> {
        let (mut there, mut gone) = (None, None::<Version>);
        for &(revision, rows, retracted) in rows {
            let row = stored(revision, rows);
            if retracted {
                if judge_retraction(there, row.version) == Fate::Deleted {
                    there = None;
                }
                gone = gone.max(Some(row.version));
            } else if matches!(judge_row(there, gone, row), Fate::Inserted | Fate::Updated) {
                there = Some(row);
            }
        }
        there.map(|row| row.version)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn any_order_and_repetition_of_rows_and_retractions_ends_the_same(
            rows in prop::collection::vec((0..2i32, 0..4i64, any::<bool>()), 0..8),
            shuffled in any::<prop::sample::Index>(),
        ) {
            let mut other = rows.clone();
            other.extend(rows.iter().rev());
            if !other.is_empty() {
                let middle = shuffled.index(other.len());
                other.rotate_left(middle);
            }
            prop_assert_eq!(apply(&rows), apply(&other));
        }
    }

    #[test]
    fn a_smaller_version_is_stale_and_an_equal_one_replaces_only_another_value() {
        let there = Some(stored(1, 5));
        assert_eq!(judge_row(there, None, stored(0, 9)), Fate::Stale);
        assert_eq!(judge_row(there, None, stored(1, 5)), Fate::Unchanged);
        assert_eq!(judge_row(there, None, Stored { value: None, ..stored(1, 5) }), Fate::Updated);
        assert_eq!(judge_row(there, None, stored(2, 0)), Fate::Updated);
        assert_eq!(judge_retraction(there, Version { revision: 0, rows: 9 }), Fate::Stale);
    }
}
