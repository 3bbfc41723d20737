//! The law of counts: in = out + dead + dropped + duplicate + late + filtered, one fate each.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Fates of the rows of one stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records that came in.
    #[serde(rename = "in")]
    pub taken: u64,
    /// Rows that went on (for windows: counted in at least one).
    pub out: u64,
    /// Dead letters written.
    pub dead: u64,
    /// Faulty records without a dead-letter output: reported and counted.
    pub dropped: u64,
    /// Repeats of an event already seen.
    pub duplicate: u64,
    /// Events that came too late for every window.
    pub late: u64,
    /// Left out by a user's rule.
    pub filtered: u64,
}

impl Counts {
    /// The sum of all fates.
    pub fn fates(&self) -> u64 {
        self.out + self.dead + self.dropped + self.duplicate + self.late + self.filtered
    }

    /// Adds what was lost before it became a row: a stage that reads raw records lost it itself.
    pub fn add_lost(&mut self, before: &Counts) {
        self.taken += before.dead + before.dropped + before.filtered;
        self.dead += before.dead;
        self.dropped += before.dropped;
        self.filtered += before.filtered;
    }

    /// Each outcome by its name, `in` first.
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

    /// Exit 70 unless every record has exactly one fate.
    pub fn check(&self) -> Result<()> {
        if self.taken == self.fates() {
            return Ok(());
        }
        Err(Error::broken(format!("law of counts: in {} but fates add up to {} ({self})", self.taken, self.fates())))
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

/// Fates of the rows of one output of a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkCounts {
    /// Rows written to it.
    #[serde(rename = "in")]
    pub taken: u64,
    /// Keys that were not there.
    pub inserted: u64,
    /// Keys whose row was replaced by a greater (`revision`, `rows`).
    pub updated: u64,
    /// Keys whose row was the same already.
    pub unchanged: u64,
    /// Rows taken back by a retraction.
    pub deleted: u64,
    /// Rows refused because a greater (`revision`, `rows`) is there.
    pub stale: u64,
    /// Events refused because other content is stored under their key.
    pub conflict: u64,
    /// Rows the store could not hold, written as dead letters.
    pub dead: u64,
    /// The same without a dead-letter output.
    pub dropped: u64,
}

impl SinkCounts {
    /// The sums of both.
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

    /// Counts every row that was to be applied as stale: the store was left as it was.
    pub fn refuse_all(&mut self) {
        let SinkCounts { taken, dead, dropped, .. } = *self;
        *self = SinkCounts { taken, dead, dropped, stale: taken - dead - dropped, ..SinkCounts::default() };
    }

    /// Each outcome by its name, `in` first.
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

    /// Exit 70 unless every row has exactly one fate.
    pub fn check(&self) -> Result<()> {
        let fates: u64 = self.outcomes().iter().skip(1).map(|(_, rows)| rows).sum();
        if self.taken == fates {
            return Ok(());
        }
        Err(Error::broken(format!("law of counts: in {} but fates add up to {fates} ({self})", self.taken)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_a_fate_breaks_the_law() {
        let counts = Counts { taken: 3, out: 1, dead: 1, ..Counts::default() };
        assert!(counts.check().is_err());
        assert!(Counts { filtered: 1, ..counts }.check().is_ok());
    }
}
