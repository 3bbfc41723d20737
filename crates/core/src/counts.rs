//! The law of counts: in = out + dead + dropped + duplicate + late + filtered, one outcome each.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Counts of the rows of one stage, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records read.
    #[serde(rename = "in")]
    pub taken: u64,
    /// Rows passed on (for windows: counted in at least one).
    pub out: u64,
    /// Dead letters written.
    pub dead: u64,
    /// Faulty records without a dead-letter output, or whose letters could not be written: reported and counted.
    pub dropped: u64,
    /// Repeats of an event already seen.
    pub duplicate: u64,
    /// Events too late for every window.
    pub late: u64,
    /// Rows left out by a user's rule.
    pub filtered: u64,
}

impl Counts {
    /// Returns the sum of all outcomes.
    pub fn sum(&self) -> u64 {
        self.out + self.dead + self.dropped + self.duplicate + self.late + self.filtered
    }

    /// Adds other rows and their outcomes.
    pub fn add(&mut self, other: &Counts) {
        let Counts { taken, out, dead, dropped, duplicate, late, filtered } = *other;
        self.taken += taken;
        self.out += out;
        self.dead += dead;
        self.dropped += dropped;
        self.duplicate += duplicate;
        self.late += late;
        self.filtered += filtered;
    }

    /// Adds records of the source that were lost before they became rows.
    pub fn add_lost(&mut self, source: &Counts) {
        let Counts { dead, dropped, duplicate, filtered, .. } = *source;
        let taken = dead + dropped + duplicate + filtered;
        self.add(&Counts { taken, dead, dropped, duplicate, filtered, ..Counts::default() });
    }

    /// Returns each outcome by its name, `in` first.
    pub fn outcomes(&self) -> [(&'static str, u64); 7] {
        let Counts { taken, out, dead, dropped, duplicate, late, filtered } = *self;
        [
            ("in", taken),
            ("out", out),
            ("dead", dead),
            ("dropped", dropped),
            ("duplicate", duplicate),
            ("late", late),
            ("filtered", filtered),
        ]
    }

    /// Checks that every record has exactly one outcome.
    ///
    /// Errors: exit status 70 if not.
    pub fn check(&self) -> Result<()> {
        if self.taken == self.sum() {
            return Ok(());
        }
        Err(Error::broken(format!(
            "law of counts: expected outcomes for {} rows, found {} ({self})",
            self.taken,
            self.sum()
        )))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in {} out {}", self.taken, self.out)?;
        for (word, n) in self.outcomes().into_iter().skip(2) {
            if n > 0 {
                write!(f, " {word} {n}")?;
            }
        }
        Ok(())
    }
}

/// The number of records whose rows every output has confirmed, or which became no rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoneRecords {
    /// The number.
    pub count: u64,
    /// Whether there may be fewer, because an output does not tell which rows it has.
    pub is_at_most: bool,
}

/// Counts of the rows of one output of a sink, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkCounts {
    /// Rows written to it.
    #[serde(rename = "in")]
    pub taken: u64,
    /// Keys that were new.
    pub inserted: u64,
    /// Keys whose row was replaced: by a greater (`revision`, `rows`), or by an equal one with another value.
    pub updated: u64,
    /// Keys whose row was already the same.
    pub unchanged: u64,
    /// Rows removed by a retraction.
    pub deleted: u64,
    /// Rows rejected because the store has a greater (`revision`, `rows`), a retraction or a correction of their key.
    pub stale: u64,
    /// Events rejected because other content is stored under their key.
    pub conflict: u64,
    /// Rows that the store rejected, written as dead letters.
    pub dead: u64,
    /// Rows that the store rejected, without a dead-letter output.
    pub dropped: u64,
}

impl SinkCounts {
    /// Returns the sums of both.
    pub fn plus(&self, other: &SinkCounts) -> SinkCounts {
        let SinkCounts { taken, inserted, updated, unchanged, deleted, stale, conflict, dead, dropped } = other;
        SinkCounts {
            taken: self.taken + taken,
            inserted: self.inserted + inserted,
            updated: self.updated + updated,
            unchanged: self.unchanged + unchanged,
            deleted: self.deleted + deleted,
            stale: self.stale + stale,
            conflict: self.conflict + conflict,
            dead: self.dead + dead,
            dropped: self.dropped + dropped,
        }
    }

    /// Counts rows whose key is stored with other content.
    pub fn add_conflicts(&mut self, rows: u64) {
        self.taken += rows;
        self.conflict += rows;
    }

    /// Counts every row that is neither dead nor dropped as stale, because the store was left unchanged.
    pub fn reject_all(&mut self) {
        let SinkCounts { taken, dead, dropped, .. } = *self;
        *self = SinkCounts { taken, dead, dropped, stale: taken - dead - dropped, ..SinkCounts::default() };
    }

    /// Returns each outcome by its name, `in` first.
    pub fn outcomes(&self) -> [(&'static str, u64); 9] {
        let SinkCounts { taken, inserted, updated, unchanged, deleted, stale, conflict, dead, dropped } = *self;
        [
            ("in", taken),
            ("inserted", inserted),
            ("updated", updated),
            ("unchanged", unchanged),
            ("deleted", deleted),
            ("stale", stale),
            ("conflict", conflict),
            ("dead", dead),
            ("dropped", dropped),
        ]
    }

    /// Checks that every row has exactly one outcome.
    ///
    /// Errors: exit status 70 if not.
    pub fn check(&self) -> Result<()> {
        let outcomes: u64 = self.outcomes().iter().skip(1).map(|(_, rows)| rows).sum();
        if self.taken == outcomes {
            return Ok(());
        }
        Err(Error::broken(format!(
            "law of counts: expected outcomes for {} rows, found {outcomes} ({self})",
            self.taken
        )))
    }
}

impl fmt::Display for SinkCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in {}", self.taken)?;
        for (word, n) in self.outcomes().into_iter().skip(1) {
            if n > 0 {
                write!(f, " {word} {n}")?;
            }
        }
        Ok(())
    }
}

/// Returns a number with its noun or verb in the singular or plural form: `1 record`, `2 records`.
pub fn counted(count: u64, [one, many]: [&str; 2]) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_an_outcome_breaks_the_law() {
        let counts = Counts { taken: 3, out: 1, dead: 1, ..Counts::default() };
        assert!(counts.check().is_err());
        assert!(Counts { filtered: 1, ..counts }.check().is_ok());
    }
}
