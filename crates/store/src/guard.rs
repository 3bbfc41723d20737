//! The rules of stored metrics, which decide which row of a natural key stays.
//!
//! The state of a key is the greatest (`revision`, `rows`, retracted) seen. A row replaces one of an equal or smaller
//! version; a retraction removes the row of its version or of a smaller one; a row whose retraction this run has seen
//! is rejected. So any order and any repetition of one run's rows lead to the same table. Retractions of other runs
//! have no effect, because their versions describe other data.

use crate::Notice;
use ahash::{AHashMap, AHashSet};
use evt_core::counts::{SinkCounts, counted};
use evt_core::kind::metric::{MetricColumns, same_value};

/// The order of the rows of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 0 for live rows, one more for each correction that changed the row.
    pub revision: i32,
    /// Events in the row.
    pub rows: i64,
}

/// The stored row of a key.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Its version.
    pub version: Version,
    /// Its value.
    pub value: Option<f64>,
}

impl Stored {
    /// Returns the row to store from a row of a batch.
    pub fn of(columns: &MetricColumns<'_>, row: usize) -> Self {
        let version = Version { revision: columns.revisions.value(row), rows: columns.rows.value(row) };
        Self { version, value: columns.value(row) }
    }
}

/// The outcome of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOutcome {
    /// Its key was not stored.
    Inserted,
    /// It replaced a row of a smaller version, or of the same version with another value.
    Updated,
    /// The same row is stored already.
    Unchanged,
    /// A retraction that removed the stored row.
    Deleted,
    /// Rejected: this run has retracted the row, or has stored a later pane of it before a restart.
    Stale,
    /// Rejected: a correction of a greater revision is stored.
    Corrected,
    /// Rejected: a row of the same revision with more events is stored.
    Outnumbered,
}

/// Decides the outcome of `row`. `stored` is the stored row of its key, `taken_back` the greatest version that this run
/// has retracted.
pub fn judge_row(stored: Option<Stored>, taken_back: Option<Version>, row: Stored) -> RowOutcome {
    if taken_back.is_some_and(|gone| row.version <= gone) {
        return RowOutcome::Stale;
    }
    match stored {
        None => RowOutcome::Inserted,
        Some(there) if row.version < there.version => rejected(row.version, there.version),
        Some(there) if row.version == there.version && same_value(row.value, there.value) => RowOutcome::Unchanged,
        Some(_) => RowOutcome::Updated,
    }
}

/// Decides the outcome of a retraction of `version`; without a stored row it changes nothing.
pub fn judge_retraction(stored: Option<Stored>, version: Version) -> RowOutcome {
    match stored {
        None => RowOutcome::Unchanged,
        Some(there) if there.version <= version => RowOutcome::Deleted,
        Some(there) => rejected(version, there.version),
    }
}

fn rejected(version: Version, there: Version) -> RowOutcome {
    if version.revision == there.revision { RowOutcome::Outnumbered } else { RowOutcome::Corrected }
}

impl RowOutcome {
    /// Returns the outcome of a run that repeats rows (`is_at_once`): a later pane that an earlier process of the run
    /// has stored is not a conflict.
    pub fn repeated(self, is_at_once: bool, is_own: bool) -> Self {
        if is_at_once && is_own && self == RowOutcome::Outnumbered { RowOutcome::Stale } else { self }
    }

    /// Counts a row with this outcome.
    pub fn count_in(self, counts: &mut SinkCounts) {
        counts.taken += 1;
        match self {
            RowOutcome::Inserted => counts.inserted += 1,
            RowOutcome::Updated => counts.updated += 1,
            RowOutcome::Unchanged => counts.unchanged += 1,
            RowOutcome::Deleted => counts.deleted += 1,
            RowOutcome::Stale | RowOutcome::Corrected | RowOutcome::Outnumbered => counts.stale += 1,
        }
    }
}

/// Maximum number of keys kept whose last row was rejected, about 40 MB.
const REJECTED_MAX: usize = 1 << 20;
/// Maximum number of these keys kept with their name, and maximum bytes of a name.
const NAMED_MAX: usize = 1 << 10;
const NAME_MAX: usize = 512;

/// Stored rows with other event counts than the rows of this run: a sign that two runs wrote parts of one window.
#[derive(Clone, Default)]
pub struct ConflictReport {
    /// Number of replaced rows of other runs; `first` describes the first of them.
    replaced: u64,
    first: Option<String>,
    /// Number of rows rejected because of a correction; the name of the first of them.
    corrected: u64,
    first_corrected: Option<String>,
    /// Keys whose last row was rejected because the stored one counts more events.
    rejected: AHashSet<u128>,
    /// The names of some of them.
    names: AHashMap<u128, RejectedName>,
    named: u64,
    /// Rejected rows beyond [`REJECTED_MAX`].
    beyond: u64,
}

/// The name of a key whose row was rejected.
#[derive(Clone)]
struct RejectedName {
    /// Its index in the order of rejections.
    order: u64,
    name: String,
}

impl ConflictReport {
    /// Counts a replaced row of another run with `before` events, now `now`; `key` returns its name for messages.
    pub fn replaced(&mut self, key: impl FnOnce() -> String, before: i64, now: i64) {
        self.replaced += 1;
        if self.first.is_none() {
            self.first = Some(format!("{}: rows {before} before, {now} now", key()));
        }
    }

    /// Notes the outcome of a row; `id` is the id of its key. The last row of each key decides.
    pub fn judged(&mut self, id: [u8; 16], outcome: RowOutcome, key: impl Fn() -> String) {
        let id = u128::from_be_bytes(id);
        if outcome == RowOutcome::Corrected {
            self.corrected += 1;
            if self.first_corrected.is_none() {
                self.first_corrected = Some(key());
            }
        }
        if outcome != RowOutcome::Outnumbered {
            if !self.rejected.is_empty() && self.rejected.remove(&id) {
                self.names.remove(&id);
            }
        } else if self.rejected.len() >= REJECTED_MAX && !self.rejected.contains(&id) {
            self.beyond += 1;
        } else if self.rejected.insert(id) && self.names.len() < NAMED_MAX {
            let mut name = key();
            name.truncate(name.floor_char_boundary(NAME_MAX));
            self.named += 1;
            self.names.insert(id, RejectedName { order: self.named, name });
        }
    }

    /// Returns the lines for the end of the run.
    pub fn notices(&self) -> Vec<Notice> {
        let mut notices = vec![];
        if let Some(first) = &self.first {
            let text = format!(
                "replaced {} (a metric row covers its whole window), first {first}",
                counted(self.replaced, ["row of another run", "rows of other runs"])
            );
            notices.push(Notice { text, fails: false });
        }
        if let Some(first) = &self.first_corrected {
            let (rows, stored) = match self.corrected {
                1 => ("1 row of this run was".to_owned(), "row"),
                many => (format!("{many} rows of this run were"), "rows"),
            };
            let text =
                format!("{rows} rejected, because evt-backfill has corrected the stored {stored}; first {first}");
            notices.push(Notice { text, fails: false });
        }
        let keys = self.rejected.len();
        if keys > 0 || self.beyond > 0 {
            let mut text = format!(
                "conflict: {} a stored row with more events than the last row of this run",
                counted(keys as u64, ["key keeps", "keys keep"])
            );
            if let Some(first) = self.names.values().min_by_key(|rejected| rejected.order) {
                text.push_str(&format!(" (a metric row covers its whole window), first {}", first.name));
            }
            if self.beyond > 0 {
                let beyond = counted(self.beyond, ["more rejected row", "more rejected rows"]);
                text.push_str(&format!("; {beyond} may have other keys"));
            }
            text.push_str("; evt-backfill computes the right rows");
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
                if judge_retraction(there, row.version) == RowOutcome::Deleted {
                    there = None;
                }
                gone = gone.max(Some(row.version));
            } else if matches!(judge_row(there, gone, row), RowOutcome::Inserted | RowOutcome::Updated) {
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
        assert_eq!(judge_row(there, None, stored(0, 9)), RowOutcome::Corrected);
        assert_eq!(judge_row(there, None, stored(1, 5)), RowOutcome::Unchanged);
        assert_eq!(judge_row(there, None, Stored { value: None, ..stored(1, 5) }), RowOutcome::Updated);
        assert_eq!(judge_row(there, None, stored(2, 0)), RowOutcome::Updated);
        assert_eq!(judge_row(there, None, stored(1, 4)), RowOutcome::Outnumbered);
        assert_eq!(judge_retraction(there, Version { revision: 1, rows: 4 }), RowOutcome::Outnumbered);
        assert_eq!(judge_retraction(there, Version { revision: 0, rows: 9 }), RowOutcome::Corrected);
    }

    fn conflicts(overlap: &ConflictReport) -> Option<String> {
        overlap.notices().into_iter().find(|notice| notice.fails).map(|notice| notice.text)
    }

    #[test]
    fn the_last_row_of_a_key_decides_whether_it_is_a_conflict() {
        let mut overlap = ConflictReport::default();
        let id = |n: u128| n.to_be_bytes();
        overlap.judged(id(1), RowOutcome::Outnumbered, || "one".to_owned());
        overlap.judged(id(2), RowOutcome::Outnumbered, || "two".to_owned());
        overlap.judged(id(2), RowOutcome::Outnumbered, || "again".to_owned());
        let message = conflicts(&overlap).unwrap();
        assert!(message.starts_with("conflict: 2 keys") && message.contains(", first one; "), "{message}");
        overlap.judged(id(1), RowOutcome::Unchanged, String::new);
        let message = conflicts(&overlap).unwrap();
        assert!(message.starts_with("conflict: 1 key ") && message.contains(", first two; "), "{message}");
        overlap.judged(id(2), RowOutcome::Stale, String::new);
        assert_eq!(conflicts(&overlap), None);
    }

    #[test]
    fn rows_rejected_because_of_corrections_are_named_once_and_fail_nothing() {
        let mut overlap = ConflictReport::default();
        for name in ["one", "two"] {
            overlap.judged([0; 16], RowOutcome::Corrected, || name.to_owned());
        }
        let notices = overlap.notices();
        assert_eq!(notices.len(), 1);
        assert!(
            !notices[0].fails && notices[0].text.starts_with("2 rows of this run were rejected"),
            "{}",
            notices[0].text
        );
        assert!(notices[0].text.ends_with("first one"), "{}", notices[0].text);
    }

    #[test]
    fn rejected_keys_are_remembered_up_to_a_bound_and_counted_beyond_it() {
        let mut overlap = ConflictReport::default();
        for n in 0..REJECTED_MAX as u128 + 3 {
            overlap.judged(n.to_be_bytes(), RowOutcome::Outnumbered, || n.to_string());
        }
        assert_eq!((overlap.rejected.len(), overlap.names.len(), overlap.beyond), (REJECTED_MAX, NAMED_MAX, 3));
        for n in 0..REJECTED_MAX as u128 {
            overlap.judged(n.to_be_bytes(), RowOutcome::Unchanged, String::new);
        }
        let message = conflicts(&overlap).unwrap();
        let said = "0 keys keep a stored row with more events than the last row of this run";
        assert!(
            message.ends_with(&format!(
                "{said}; 3 more rejected rows may have other keys; evt-backfill computes the right rows"
            )),
            "{message}"
        );
    }
}
