//! Late rows of evt-window: written to `--late`, or lost, which is reported and makes the verdict 1.

use crate::console::Console;
use crate::error::Result;
use crate::kafka::produce::Bounced;
use crate::op::late_rows;
use crate::op::window::{LateRow, Outcome};
use crate::output::{Output, Refusal};
use crate::time::{MINUTE, format_duration};
use arrow::array::RecordBatch;

/// The late rows of a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    /// Rows that some metric lost.
    whole: u64,
    /// Rows that every metric counted, but not in all their windows.
    half: u64,
    /// Of both, rows that are late only because a partition was idle or new.
    idle: u64,
    /// The least out-of-orderness (µs) with which none of the others would be late.
    needed: i64,
}

/// The output of late rows, and the reports about them.
pub struct Late {
    /// `--late`.
    pub output: Option<Output>,
    /// `--late-partial`.
    partial: bool,
    /// Why a row is late although its own bound would have kept it.
    why: &'static str,
    /// Rows written to `--late`.
    written: u64,
    tally: Tally,
    /// The counts of the last report, and when the next one is due.
    said: Tally,
    due: Option<i64>,
}

impl Late {
    /// Sends late rows to `output`, with `partial` half-late ones too; `why` explains why a row is late although its
    /// own bound would have kept it.
    pub fn new(output: Option<Output>, partial: bool, why: &'static str) -> Self {
        Self { output, partial, why, written: 0, tally: Tally::default(), said: Tally::default(), due: None }
    }

    /// Takes the late rows of a batch; `names` are those of the metrics. Returns the rows that the output refused.
    pub fn take(&mut self, batch: &RecordBatch, outcome: &Outcome, names: &[&str]) -> Result<Vec<Refusal>> {
        let mut rows = vec![];
        for late in outcome.late.chunk_by(|one, other| one.row == other.row) {
            let row = late[0].row as usize;
            self.tally.add(late);
            let metrics = late.iter().filter(|late| self.partial || !late.half).map(|late| late.metric as usize);
            let metrics: Vec<usize> = metrics.collect();
            if !metrics.is_empty() {
                rows.push(late_rows::Row { row, metrics, partial: outcome.is_counted[row] });
            }
        }
        let Some(output) = self.output.as_mut().filter(|_| !rows.is_empty()) else { return Ok(vec![]) };
        let refused = output.write(&late_rows::batch(batch, &rows, names)?)?;
        self.written += (rows.len() - refused.len()) as u64;
        Ok(refused.into_iter().map(|refusal| Refusal { row: rows[refusal.row].row, ..refusal }).collect())
    }

    /// Returns the rows that the output took and its brokers refused since the last call.
    pub fn bounced(&mut self) -> Vec<Bounced> {
        let bounced = self.output.as_mut().map_or(vec![], Output::bounced);
        self.written -= bounced.len() as u64;
        bounced
    }

    /// Waits until the output has accepted or refused every row.
    pub fn conclude(&mut self) -> Result<()> {
        self.output.as_mut().map_or(Ok(()), Output::conclude)
    }

    /// Does what is due by the clock. Lost rows are reported a minute after the first one, then once a minute while
    /// their number grows.
    pub fn tick(&mut self, now: i64, explicit: bool, console: &Console) -> Result<()> {
        if let Some(output) = &mut self.output {
            return output.tick();
        }
        if self.tally != self.said && now >= *self.due.get_or_insert(now.saturating_add(MINUTE)) {
            self.due = Some(now.saturating_add(MINUTE));
            self.said = self.tally;
            console.warn(self.line(explicit));
        }
        Ok(())
    }

    /// Whether rows were late and there is no `--late`.
    pub fn is_loss(&self) -> bool {
        self.output.is_none() && self.tally != Tally::default()
    }

    /// Whether rows were late, with `--late` or without.
    pub fn is_any(&self) -> bool {
        self.tally != Tally::default()
    }

    /// Returns the number of rows written to `--late`.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Returns how many rows were late and the out-of-orderness that would have kept them, unless already reported;
    /// `explicit` if the watermarks come from the input, so that no flag would have.
    pub fn rest(&self, explicit: bool) -> Option<String> {
        (self.tally != self.said).then(|| self.line(explicit))
    }

    fn line(&self, explicit: bool) -> String {
        let Tally { whole, half, idle, needed } = self.tally;
        let told = [(whole, "late"), (half, "half late")];
        let told: Vec<String> = told.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
        let mut advice = vec![];
        if idle > 0 {
            advice.push(format!("{idle} {}", self.why));
        }
        if whole + half > idle && !explicit {
            let others = if idle > 0 { " of the others" } else { "" };
            advice.push(format!("--out-of-orderness {} would have lost none{others}", format_duration(needed)));
        }
        if self.output.is_none() {
            advice.push(format!("--late FILE{} keeps them", if half > 0 { " --late-partial" } else { "" }));
        }
        match advice.is_empty() {
            true => told.join(", "),
            false => format!("{} ({})", told.join(", "), advice.join("; ")),
        }
    }
}

impl Tally {
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
