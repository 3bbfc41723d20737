//! Late rows: evt-window writes them to `--late`, or reports them as lost and exits with status 1.

use crate::stage::operator::Collector;
use arrow::array::RecordBatch;
use evt_core::counts::counted;
use evt_core::error::Result;
use evt_core::kind::dead::Rejected;
use evt_core::mapping::RowCompleter;
use evt_core::op::late_rows;
use evt_core::op::window::{BatchOutcome, LateRow};
use evt_core::time::{MINUTE, format_duration};

/// The late rows of a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LateCounts {
    /// Rows that some metric lost.
    whole: u64,
    /// Rows that every metric counted, but not in all their windows.
    half: u64,
    /// Of both, rows that are late only because a partition was idle or new.
    idle: u64,
    /// The least out-of-orderness (µs) with which none of the others would be late.
    needed: i64,
}

/// What reports of late rows say beside their number.
#[derive(Clone, Copy, Debug)]
pub struct LateAdvice {
    /// Why a row is late although its own bound would have kept it.
    pub why: &'static str,
    /// Whether watermarks come from the input, so that no flag would have kept a row.
    pub is_explicit: bool,
    /// Whether windows could wait for the end of the input.
    pub can_wait: bool,
}

/// Writes the late rows of batches to the side output, and counts them for the reports.
pub struct Late {
    /// `--late-partial`.
    partial: bool,
    advice: LateAdvice,
    /// Makes the columns of late rows that the stage does not read; `None` if it has all.
    completer: Option<RowCompleter>,
    counts: LateCounts,
    /// The counts of the last report, and when the next one is due.
    reported: LateCounts,
    due: Option<i64>,
}

impl Late {
    /// Writes half-late rows too if `partial`.
    pub fn new(partial: bool, advice: LateAdvice, completer: Option<RowCompleter>) -> Self {
        Self { partial, advice, completer, counts: LateCounts::default(), reported: LateCounts::default(), due: None }
    }

    /// Writes the late rows of a batch to the side output; `names` are those of the metrics.
    pub fn take(
        &mut self,
        batch: &RecordBatch,
        outcome: &BatchOutcome,
        names: &[&str],
        out: &mut dyn Collector,
    ) -> Result<()> {
        let mut rows = vec![];
        for late in outcome.late.chunk_by(|one, other| one.row == other.row) {
            let row = late[0].row as usize;
            self.counts.add(late);
            let metrics = late.iter().filter(|late| self.partial || !late.half).map(|late| late.metric as usize);
            let metrics: Vec<usize> = metrics.collect();
            if !metrics.is_empty() {
                rows.push(late_rows::Row { row, metrics, partial: outcome.is_counted[row] });
            }
        }
        if rows.is_empty() || !out.has_side() {
            return Ok(());
        }
        let numbers: Vec<usize> = rows.iter().map(|late| late.row).collect();
        let written = match &mut self.completer {
            Some(completer) => {
                let events = completer.complete(batch, &numbers)?;
                let rows: Vec<_> = (0..).zip(rows).map(|(row, late)| late_rows::Row { row, ..late }).collect();
                late_rows::batch(&events, &rows, names)?
            }
            None => late_rows::batch(batch, &rows, names)?,
        };
        for rejected in out.side(&written)? {
            out.rejected(batch, &Rejected { row: numbers[rejected.row], ..rejected })?;
        }
        Ok(())
    }

    /// Returns a report of lost rows a minute after the first one, then once a minute while their number grows.
    pub fn due(&mut self, now: i64) -> Option<String> {
        if self.counts == self.reported || now < *self.due.get_or_insert(now.saturating_add(MINUTE)) {
            return None;
        }
        self.due = Some(now.saturating_add(MINUTE));
        self.reported = self.counts;
        Some(self.line(false))
    }

    /// Whether rows were late.
    pub fn is_any(&self) -> bool {
        self.counts != LateCounts::default()
    }

    /// Returns how many rows were late and the out-of-orderness that would have kept them, unless already reported.
    pub fn rest(&self, is_kept: bool) -> Option<String> {
        (self.counts != self.reported).then(|| self.line(is_kept))
    }

    fn line(&self, is_kept: bool) -> String {
        let LateAdvice { why, is_explicit, can_wait } = self.advice;
        let LateCounts { whole, half, idle, needed } = self.counts;
        let parts = [
            (whole, ["event was late", "events were late"]),
            (half, ["event was late for some of its windows", "events were late for some of their windows"]),
        ];
        let parts: Vec<String> =
            parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, words)| counted(n, words)).collect();
        let mut advice = vec![];
        if idle > 0 {
            advice.push(format!("{idle} {why}"));
        }
        if whole + half > idle && !is_explicit {
            let others = if idle > 0 { " of the others" } else { "" };
            let all = if can_wait { "all counts every event of an input that ends, and " } else { "" };
            advice.push(format!("--out-of-orderness {all}{} would have counted all{others}", format_duration(needed)));
        }
        if !is_kept {
            advice.push(format!("--late FILE{} keeps them", if half > 0 { " --late-partial" } else { "" }));
        }
        match advice.is_empty() {
            true => parts.join(", "),
            false => format!("{} ({})", parts.join(", "), advice.join("; ")),
        }
    }
}

impl LateCounts {
    /// Adds one row with the metrics it is late for.
    fn add(&mut self, late: &[LateRow]) {
        if late.iter().all(|late| late.half) {
            self.half += 1;
        } else {
            self.whole += 1;
        }
        match late.iter().filter_map(|late| late.needed).max() {
            Some(needed) => self.needed = self.needed.max(needed),
            None => self.idle += 1,
        }
    }
}
