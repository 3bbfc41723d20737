//! The contract of stores whose metric rows can be corrected.
//!
//! ```text
//! Claim ─► claim ─┬─► Claimed ─► late_cells ─► CorrectionStep ─► apply ─► CorrectionStep ─► apply ─► … ─► finish
//!                 │      │                                        │ one transaction: difference, progress, late cells
//!                 │      └─ killed: the same command continues after the last step
//!                 └─► fault: another correction in flight overlaps
//! ```
//!
//! A correction is claimed first, in the table `corrections`, which shows readers what is in flight. Then its steps are
//! applied: each step compares some right cells with the stored ones and writes the difference by the rules of
//! `store/guard.rs`, together with the progress of the correction and the cells that count late events, in one
//! transaction.
//!
//! `state.rs` has the state of corrections as one document, for stores of files.

pub(crate) mod state;

use crate::progress::KeptProgress;
use evt_core::backfill::{CellContent, CellKey, Comparison, Coverage, Difference, LateCell, StoredCells};
use evt_core::error::{Error, Result};
use evt_core::kind::span::Span;
use evt_core::time::format_instant;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The correction that a run claims: the metrics and the range of its cells, and the user who starts it.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The names of the metrics, sorted.
    pub metrics: Vec<String>,
    /// The range of event time.
    pub range: Span,
    /// The digest of everything else that determines the right cells. With late events, that of a run whose range is
    /// given differs from that of one whose range is that of the late events.
    pub spec: String,
    /// The user.
    pub who: String,
    /// The host.
    pub host: String,
    /// `--reason`.
    pub reason: Option<String>,
    /// Whether other corrections in flight that overlap are ended.
    pub take_over: bool,
    /// Whether the range is that of the cells that late events name, so that another run of the same correction has
    /// another one.
    pub is_late: bool,
}

/// A correction in flight.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// Its id.
    pub id: String,
    /// The names of its metrics, sorted.
    pub metrics: Vec<String>,
    /// Its range.
    pub range: Span,
    /// Its digest.
    pub spec: String,
    /// The user who began it, the host, and the time (RFC 3339), as text for messages.
    pub by: String,
    /// How far it is: the watermark of its last step (µs).
    pub progress: Option<i64>,
}

/// The effect of a claim on the corrections in flight.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The correction that this run continues.
    pub resumed: Option<InFlight>,
    /// The ids of the corrections that this run ends.
    pub ended: Vec<String>,
}

impl Claim {
    /// Decides whether the claim is possible beside the corrections in flight. Errors: exit status 75 if another one
    /// overlaps.
    pub fn judge(&self, in_flight: Vec<InFlight>, shown: &str) -> Result<Claimed> {
        let mut claimed = Claimed::default();
        for other in in_flight {
            let shares = other.metrics.iter().any(|name| self.metrics.contains(name));
            let is_same = other.spec == self.spec && other.metrics == self.metrics;
            if is_same && other.range == self.range {
                // Also if the range is empty: a run without new late events corrects nothing, and may be killed, too.
                claimed.resumed = Some(other);
            } else if is_same && self.is_late || self.take_over && shares && other.range.is_empty() {
                // Wherever its range is: this run has its late events, or it has kept the positions behind them.
                claimed.ended.push(other.id);
            } else if !shares || !other.range.overlaps(self.range) {
                continue;
            } else if self.take_over {
                claimed.ended.push(other.id);
            } else {
                let InFlight { id, by, range, .. } = other;
                let range = shown_range(range);
                let message = format!(
                    "{shown}: correction {id} of {range} is in flight, by {by}; if that run is dead, --take-over ends its correction"
                );
                return Err(Error::busy(message));
            }
        }
        Ok(claimed)
    }
}

/// Makes the error of a run whose correction another run has resumed or ended.
pub fn taken_over(id: &str) -> Error {
    Error::fenced(format!("another run has taken over correction {id}"))
}

/// Formats a range for messages.
pub fn shown_range(range: Span) -> String {
    let instant = |bound: Option<i64>, open: &str| bound.map_or_else(|| open.to_owned(), format_instant);
    format!("{} to {}", instant(range.since, "the beginning"), instant(range.until, "the end"))
}

/// The stored cells of one metric that a step compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The metric.
    pub metric: String,
    /// Windows that end later than this (µs).
    pub after: i64,
    /// Windows that end at this instant at the latest (µs).
    pub to: i64,
    /// Windows that start at this instant at the earliest (µs).
    pub since: i64,
}

/// A step of a correction.
pub struct CorrectionStep<'a> {
    /// The stored cells to compare.
    pub parts: Vec<Part>,
    /// Returns whether the correction compares a stored cell and, if it does not, the reason.
    pub covers: &'a dyn Fn(&CellKey) -> Coverage,
    /// The right cells.
    pub right: BTreeMap<CellKey, CellContent>,
    /// The rules of the comparison.
    pub comparison: Comparison<'a>,
    /// Cells that count late events; they are kept.
    pub late: Vec<LateCell>,
    /// Cells that no longer count late events (`--without-late`).
    pub without_late: Vec<CellKey>,
    /// The watermark up to which the correction is complete after this step (µs), but for the stored cells without a
    /// right one that the step finds.
    pub progress: i64,
    /// Whether these cells wait for the end of the input.
    pub orphans_wait: bool,
}

impl CorrectionStep<'_> {
    /// Compares the right cells with the stored ones.
    pub fn compare(&self, stored: &StoredCells) -> Difference {
        self.comparison.compare(&self.right, stored)
    }

    /// Returns the watermark up to which the correction is complete after this step (µs). Cells that wait are known to
    /// this run alone, so a run that resumes the correction must compare them again.
    pub fn progress_after(&self, difference: &Difference) -> i64 {
        let first = difference.orphans.first_key_value().filter(|_| self.orphans_wait);
        first.map_or(self.progress, |(key, _)| self.progress.min(key.end.saturating_sub(1)))
    }

    /// Returns the cells that no longer count late events once the step is applied. Stored cells that stay as they are
    /// still count them.
    pub fn released<'a>(&'a self, difference: &'a Difference) -> impl Iterator<Item = &'a CellKey> {
        let mut kept: HashMap<(&str, &str), BTreeSet<(i64, i64)>> = HashMap::new();
        if !self.without_late.is_empty() {
            for CellKey { end, start, metric, dimensions } in difference.kept.iter().chain(difference.orphans.keys()) {
                kept.entry((metric, dimensions)).or_default().insert((*end, *start));
            }
        }
        let stays = move |key: &CellKey| {
            let Some(kept) = kept.get(&(&*key.metric, key.dimensions.as_str())) else { return false };
            match self.comparison.missing.is_session(&key.metric) {
                // A cell of a session metric names an instant within a session.
                true => kept.range((key.start, i64::MIN)..).any(|(_, start)| *start <= key.start),
                false => kept.contains(&(key.end, key.start)),
            }
        };
        self.without_late.iter().filter(move |key| !stays(key))
    }
}

/// The counts of a correction so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CorrectionCounts {
    /// Cells that were not stored.
    pub inserted: u64,
    /// Cells that were wrong.
    pub corrected: u64,
    /// Stored cells without a right one.
    pub retracted: u64,
    /// Stored cells that were right.
    pub unchanged: u64,
    /// Stored cells that count events that the input does not hold; they stay as they are.
    pub kept: u64,
    /// Stored cells that the input cannot correct, or whose events are all late in this run; they stay as they are.
    pub left: u64,
}

impl CorrectionCounts {
    /// Adds the cells of a step.
    pub fn add(&mut self, difference: &Difference) {
        self.unchanged += difference.unchanged;
        self.kept += difference.kept.len() as u64;
        for change in &difference.changes {
            match (change.old, change.new) {
                (None, _) => self.inserted += 1,
                (Some(_), Some(_)) => self.corrected += 1,
                (Some(_), None) => self.retracted += 1,
            }
        }
    }

    /// Returns the number of cells that changed.
    pub fn changes(&self) -> u64 {
        self.inserted + self.corrected + self.retracted
    }
}

/// The position in a stream of late events, a file or a partition of a topic, up to which all are corrected.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct LatePosition {
    /// The number of the next one: the number of events before it, or its offset in a partition of a topic.
    #[serde(rename = "rows")]
    pub next: u64,
    /// The digest of the key of the event before it, as text; empty if that is not known.
    pub last: String,
}

/// The metric rows of a store, open for a correction.
pub trait Corrections {
    /// Claims the correction; returns the progress of the one that it resumes, if any. Errors: exit status 75 if
    /// another one in flight overlaps.
    fn claim(&mut self, claim: &Claim) -> Result<Claimed>;

    /// Returns the cells of these metrics that count late events.
    fn late_cells(&mut self, metrics: &[String]) -> Result<Vec<LateCell>>;

    /// Returns how far the runs were that wrote the rows of these metrics.
    fn metric_progress(&mut self, metrics: &[String]) -> Result<Vec<KeptProgress>>;

    /// Returns the position in the stream of late events `source`.
    fn late_position(&mut self, source: &str) -> Result<Option<LatePosition>>;

    /// Compares the right cells of a step with the stored ones; writes nothing.
    fn compare(&mut self, step: &CorrectionStep<'_>) -> Result<Difference>;

    /// Compares them and makes the stored ones right. Errors: exit status 75 if another run has taken over the
    /// correction.
    fn apply(&mut self, step: &CorrectionStep<'_>) -> Result<Difference>;

    /// Ends the correction, and keeps its positions in streams of late events at the same time: behind them, no run
    /// would find the events of a correction in flight.
    fn finish(&mut self, positions: &[(String, LatePosition)]) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::error::ErrorKind;

    fn claim(since: i64, until: i64, spec: &str) -> Claim {
        let text = |text: &str| text.to_owned();
        let range = Span { since: Some(since), until: Some(until) };
        Claim {
            metrics: vec![text("m")],
            range,
            spec: text(spec),
            who: text("w"),
            host: text("h"),
            reason: None,
            take_over: false,
            is_late: false,
        }
    }

    fn in_flight(claim: &Claim) -> InFlight {
        let Claim { metrics, range, spec, .. } = claim.clone();
        InFlight { id: "1".to_owned(), metrics, range, spec, by: "w on h".to_owned(), progress: Some(7) }
    }

    #[test]
    fn an_overlapping_correction_is_resumed_if_it_is_the_same_and_ended_only_on_request() {
        let mine = claim(0, 10, "a");
        let judge = |mine: &Claim, other: &Claim| mine.judge(vec![in_flight(other)], "s");
        assert_eq!(judge(&mine, &mine).unwrap().resumed.unwrap().progress, Some(7));
        assert!(judge(&mine, &claim(10, 20, "b")).unwrap().resumed.is_none());
        // A run without new late events corrects an empty range. If it is killed, it is in the way of no other one.
        let empty = claim(0, 0, "a");
        assert!(judge(&empty, &empty).unwrap().resumed.is_some());
        for range in [Span::default(), Span { since: None, until: Some(10) }, Span { since: Some(-5), until: Some(5) }]
        {
            let claimed = judge(&Claim { range, ..claim(0, 0, "b") }, &empty).unwrap();
            assert!(claimed.resumed.is_none() && claimed.ended.is_empty());
        }
        let other = Claim { metrics: vec!["n".to_owned()], ..claim(0, 10, "b") };
        assert!(judge(&mine, &other).unwrap().ended.is_empty());
        for other in [claim(0, 10, "b"), claim(9, 20, "a")] {
            let rejected = judge(&mine, &other).unwrap_err();
            assert_eq!(rejected.kind(), ErrorKind::Busy);
            assert!(
                rejected.to_string().contains("by w on h") && rejected.to_string().contains("--take-over"),
                "{rejected}"
            );
            let grown = Claim { is_late: true, ..mine.clone() };
            assert_eq!(
                judge(&grown, &other).is_ok(),
                other.spec == "a",
                "late events were added since the other began"
            );
            let far = judge(&Claim { range: Span { since: Some(50), until: Some(60) }, ..grown }, &other).unwrap();
            assert_eq!(far.ended.len(), usize::from(other.spec == "a"), "it has the same late events");
            let forced = Claim { take_over: true, ..mine.clone() };
            assert_eq!(judge(&forced, &other).unwrap().ended, ["1"]);
        }
    }
}
