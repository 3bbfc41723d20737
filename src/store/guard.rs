//! The guard of stored metrics: which row of a natural key stays.
//!
//! The state of a key is the greatest (`revision`, `rows`, retracted) that was seen: a row is replaced by one of greater
//! or equal version, a retraction takes back the row of its version (and what came before it), and a row whose
//! retraction this run has seen does not come back. So any order and any repetition of one run's rows ends in the same
//! table. What another run took back is forgotten with that run: its versions speak of other data.

use crate::counts::SinkCounts;
use crate::store::Notice;
use ahash::{AHashMap, AHashSet};

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
    /// Refused: a row of greater revision is there, or this run has taken the row back.
    Stale,
    /// Refused: a row of the same revision that counts more events is there.
    Outnumbered,
}

/// The fate of a row of `version` that carries `value` under a key of which `stored` is there and `taken_back` is the
/// greatest version this run retracted.
pub fn judge_row(stored: Option<Stored>, taken_back: Option<Version>, row: Stored) -> Fate {
    if taken_back.is_some_and(|gone| row.version <= gone) {
        return Fate::Stale;
    }
    match stored {
        None => Fate::Inserted,
        Some(there) if row.version < there.version => refused(row.version, there.version),
        Some(there) if row.version == there.version && same_value(row.value, there.value) => Fate::Unchanged,
        Some(_) => Fate::Updated,
    }
}

/// The fate of a retraction of `version`; one of a row that is not there changes nothing.
pub fn judge_retraction(stored: Option<Stored>, version: Version) -> Fate {
    match stored {
        None => Fate::Unchanged,
        Some(there) if there.version <= version => Fate::Deleted,
        Some(there) => refused(version, there.version),
    }
}

fn refused(version: Version, there: Version) -> Fate {
    if version.revision == there.revision { Fate::Outnumbered } else { Fate::Stale }
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
            Fate::Stale | Fate::Outnumbered => self.stale += 1,
        }
    }
}

/// Keys whose last row was refused are remembered up to this number, about 40 MB.
const REFUSED_MAX: usize = 1 << 20;
/// Of these, so many by name, and bytes of a name.
const NAMED_MAX: usize = 1 << 10;
const NAME_MAX: usize = 512;

/// What this run met of rows that count other events: the sign that two runs wrote parts of one window.
#[derive(Default)]
pub struct Overlap {
    /// Rows of other runs that were replaced, and the first of them.
    replaced: u64,
    first: Option<String>,
    /// Keys whose last row was refused because the stored one counts more events.
    refused: AHashSet<u128>,
    /// Some of them by name, each with its place in the order of refusals.
    names: AHashMap<u128, (u64, String)>,
    named: u64,
    /// Refused rows that [`REFUSED_MAX`] left no room for.
    beyond: u64,
}

impl Overlap {
    /// Counts a replaced row of another run that held `before` events and holds `now`; `key` names it for a person.
    pub fn replaced(&mut self, key: impl FnOnce() -> String, before: i64, now: i64) {
        self.replaced += 1;
        if self.first.is_none() {
            self.first = Some(format!("{}: rows {before} before, {now} now", key()));
        }
    }

    /// Sees the fate of a row of the metric `id`; the last row of each decides.
    pub fn judged(&mut self, id: [u8; 16], fate: Fate, key: impl FnOnce() -> String) {
        let id = u128::from_be_bytes(id);
        if fate != Fate::Outnumbered {
            if !self.refused.is_empty() && self.refused.remove(&id) {
                self.names.remove(&id);
            }
        } else if self.refused.len() >= REFUSED_MAX && !self.refused.contains(&id) {
            self.beyond += 1;
        } else if self.refused.insert(id) && self.names.len() < NAMED_MAX {
            let mut name = key();
            name.truncate(name.floor_char_boundary(NAME_MAX));
            self.named += 1;
            self.names.insert(id, (self.named, name));
        }
    }

    /// The lines for the end of the run.
    pub fn notices(&self) -> Vec<Notice> {
        let mut notices = vec![];
        if let Some(first) = &self.first {
            let text = format!(
                "replaced {} rows of other runs (a metric row is the whole of its window), first {first}",
                self.replaced
            );
            notices.push(Notice { text, fails: false });
        }
        let keys = self.refused.len();
        if keys > 0 || self.beyond > 0 {
            let mut text =
                format!("conflict: {keys} keys keep a row that counts more events than the last one of this run");
            if let Some((_, name)) = self.names.values().min_by_key(|(order, _)| order) {
                text.push_str(&format!(" (a metric row is the whole of its window), first {name}"));
            }
            if self.beyond > 0 {
                text.push_str(&format!("; {} more refused rows may be of other keys", self.beyond));
            }
            notices.push(Notice { text, fails: true });
        }
        notices
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
        assert_eq!(judge_row(there, None, stored(1, 4)), Fate::Outnumbered);
        assert_eq!(judge_retraction(there, Version { revision: 1, rows: 4 }), Fate::Outnumbered);
        assert_eq!(judge_retraction(there, Version { revision: 0, rows: 9 }), Fate::Stale);
    }

    fn conflicts(overlap: &Overlap) -> Option<String> {
        overlap.notices().into_iter().find(|notice| notice.fails).map(|notice| notice.text)
    }

    #[test]
    fn the_last_row_of_a_key_decides_whether_it_is_a_conflict() {
        let mut overlap = Overlap::default();
        let id = |n: u128| n.to_be_bytes();
        overlap.judged(id(1), Fate::Outnumbered, || "one".to_owned());
        overlap.judged(id(2), Fate::Outnumbered, || "two".to_owned());
        overlap.judged(id(2), Fate::Outnumbered, || "again".to_owned());
        let told = conflicts(&overlap).unwrap();
        assert!(told.starts_with("conflict: 2 keys") && told.ends_with("first one"), "{told}");
        overlap.judged(id(1), Fate::Unchanged, String::new);
        let told = conflicts(&overlap).unwrap();
        assert!(told.starts_with("conflict: 1 keys") && told.ends_with("first two"), "{told}");
        overlap.judged(id(2), Fate::Stale, String::new);
        assert_eq!(conflicts(&overlap), None);
    }

    #[test]
    fn refused_keys_are_remembered_up_to_a_bound_and_counted_beyond_it() {
        let mut overlap = Overlap::default();
        for n in 0..REFUSED_MAX as u128 + 3 {
            overlap.judged(n.to_be_bytes(), Fate::Outnumbered, || n.to_string());
        }
        assert_eq!((overlap.refused.len(), overlap.names.len(), overlap.beyond), (REFUSED_MAX, NAMED_MAX, 3));
        for n in 0..REFUSED_MAX as u128 {
            overlap.judged(n.to_be_bytes(), Fate::Unchanged, String::new);
        }
        let told = conflicts(&overlap).unwrap();
        assert!(told.ends_with("0 keys keep a row that counts more events than the last one of this run; 3 more refused rows may be of other keys"), "{told}");
    }
}
