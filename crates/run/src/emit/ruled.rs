//! The outcomes of records, and the rules `--let` and `--where` of evt-ingest, which are applied to batches.

use super::letters::Letters;
use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use evt_core::counts::Counts;
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use evt_core::kind::event::{column, instants};
use evt_core::kind::span::Span;
use evt_core::op::computed::{RowRules, RuledRows};

/// The rules, with the outcomes of the rows that they reject.
pub(super) struct Outcomes {
    pub(super) rules: Option<RowRules>,
    /// The event times of the rows that leave the stage. An expression that fails for another row is no fault.
    pub(super) range: Span,
    /// The rows that leave the source, and those that the rules reject, by outcome.
    pub(super) counts: Counts,
    /// The letters of rows that the rules reject.
    pub(super) letters: Letters,
}

impl Outcomes {
    /// Returns the rules for the batch after `rows_before` rows, if there are rules; `now` is the current time (µs).
    pub(super) fn ruled(&mut self, rows_before: u64, now: i64) -> Option<RuledIngest<'_>> {
        let Self { rules, counts, letters, range } = self;
        rules.as_mut().map(|rules| RuledIngest { rules, range: *range, counts, letters, rows_before, now })
    }
}

/// Applies the rules to batches. Counts the rows that the rules leave out, and makes dead letters of rows for which an
/// expression cannot be evaluated.
pub(super) struct RuledIngest<'a> {
    rules: &'a mut RowRules,
    range: Span,
    counts: &'a mut Counts,
    letters: &'a mut Letters,
    /// The number of rows of the source before the letters.
    rows_before: u64,
    /// The current time (µs).
    now: i64,
}

impl RuledIngest<'_> {
    /// Applies the rules to rows that are not stamped yet.
    pub(super) fn apply(&mut self, batch: &RecordBatch) -> Result<RuledRows> {
        let mut ruled = self.rules.apply(batch)?;
        let times = instants(batch, column::EVENT_TIME);
        ruled.wrong.retain(|row, _| self.range.contains(times[*row]));
        self.counts.dead += ruled.wrong.len() as u64;
        self.letters.push_wrong(batch, &ruled.wrong, self.rows_before, self.now)?;
        self.counts.filtered += (batch.num_rows() - ruled.keep.true_count() - ruled.wrong.len()) as u64;
        Ok(ruled)
    }

    /// Applies the rules to rows that have stamps and returns the rows that they leave, with the same stamps. Errors:
    /// exit status 2 if the rows are not events.
    pub(super) fn stamped(&mut self, batch: RecordBatch, name: &str) -> Result<RecordBatch> {
        let kind = Kind::of(batch.schema_ref()).unwrap_or(Kind::Event);
        if kind != Kind::Event {
            let message = format!(
                "--let and --where of evt-ingest: expected events, found rows of kind {}; use evt-view",
                kind.name()
            );
            return Err(Error::usage(message).at(name));
        }
        let ruled = self.apply(&batch)?;
        let mut columns = batch.columns().to_vec();
        if let Some(properties) = ruled.properties {
            columns[column::PROPERTIES] = properties;
        }
        Ok(filter_record_batch(&RecordBatch::try_new(batch.schema(), columns)?, &ruled.keep)?)
    }
}
