//! `--let` and `--where` of evt-ingest: what they leave of a batch.

use super::letters::Letters;
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::kind::event::column;
use crate::op::computed::{RowRules, RuledRows};
use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;

/// Applies the rules; counts the rows that they leave out, and makes letters of those for which an expression cannot be evaluated.
pub(super) struct RuledIngest<'a> {
    pub(super) rules: &'a mut RowRules,
    pub(super) counts: &'a mut Counts,
    pub(super) letters: &'a mut Letters,
    /// The number of rows of the source before the letters.
    pub(super) rows_before: u64,
    /// The current time (µs).
    pub(super) now: i64,
}

impl RuledIngest<'_> {
    /// Applies the rules to rows that are not stamped yet.
    pub(super) fn apply(&mut self, batch: &RecordBatch) -> Result<RuledRows> {
        let ruled = self.rules.apply(batch)?;
        self.counts.dead += ruled.wrong.len() as u64;
        self.letters.push_wrong(batch, &ruled.wrong, self.rows_before, self.now)?;
        self.counts.filtered += (batch.num_rows() - ruled.keep.true_count() - ruled.wrong.len()) as u64;
        Ok(ruled)
    }

    /// Returns what the rules leave of rows that have stamps, which they keep. Errors: exit status 2 if the rows are no events.
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
