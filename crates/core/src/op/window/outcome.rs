//! The outcomes of the rows of a batch.

use super::metric::Metric;
use crate::kind::dead::{ErrorType, FailedMetrics, Fault};
use std::collections::BTreeMap;

/// A row that has no slot yet.
#[derive(Clone, Copy)]
pub(crate) struct RowRef {
    /// The row in the batch.
    pub(crate) row: usize,
    /// The number of its key.
    pub(crate) key: u32,
    /// Its event time (µs).
    pub(crate) time: i64,
    /// The bound that it is compared with.
    pub(crate) bound: i64,
    /// The bound from its own stream time alone.
    pub(crate) own: i64,
}

/// A row that is late for a metric, for all or some of its windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateRow {
    /// The row in the batch.
    pub row: u32,
    /// The metric's index.
    pub metric: u32,
    /// Whether some of the metric's windows counted it.
    pub half: bool,
    /// The least out-of-orderness (µs) with which it would count for all its windows; `None` if it is late because a
    /// partition was idle or new.
    pub needed: Option<i64>,
}

/// A row for which expressions of metrics failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedRow {
    /// The first failure: the metric, the expected type and the value that was found.
    pub message: String,
    /// The indexes of the metrics for which it failed.
    pub metrics: Vec<u32>,
    /// Whether the row has another outcome: another metric counted it, or found it late.
    pub is_partial: bool,
}

impl FailedRow {
    /// Returns the fault of its dead letter; `metrics` are those of the operator.
    pub fn fault(&self, metrics: &[Metric]) -> Fault {
        let names: Vec<&str> = self.metrics.iter().map(|index| metrics[*index as usize].name.as_str()).collect();
        let failed = FailedMetrics { names: names.join(","), is_partial: self.is_partial };
        Fault::new(ErrorType::AggregationError, self.message.as_str()).of_metrics(failed)
    }
}

/// The rows of a batch for which expressions failed, by their indexes.
pub type FailedRows = BTreeMap<usize, FailedRow>;

/// The outcomes of the rows of a batch.
#[derive(Debug, Default)]
pub struct BatchOutcome {
    /// Rows for which expressions of some metrics failed; these metrics did not count them.
    pub failed: FailedRows,
    /// Late rows, by row, then metric.
    pub late: Vec<LateRow>,
    /// Rows in at least one window of at least one metric.
    pub counted: u64,
    /// Rows late for some metric and counted by none.
    pub late_rows: u64,
    /// Rows that are neither counted nor late, for which an expression failed.
    pub dead: u64,
    /// Rows that are neither counted, late nor dead.
    pub filtered: u64,
    /// For each row, whether some metric counted it.
    pub is_counted: Vec<bool>,
}

impl BatchOutcome {
    /// Begins with rows that have no outcome.
    pub(crate) fn of_rows(rows: usize) -> Self {
        Self { is_counted: vec![false; rows], ..Self::default() }
    }

    /// Adds the outcomes of the same rows for other metrics.
    pub(crate) fn merge(&mut self, mut others: Self) {
        self.late.append(&mut others.late);
        self.is_counted.iter_mut().zip(others.is_counted).for_each(|(is_counted, other)| *is_counted |= other);
    }

    /// Gives each row one outcome, the first that applies: counted, late, dead, filtered.
    pub(crate) fn finish(&mut self) {
        self.late.sort_unstable_by_key(|late| (late.row, late.metric));
        let mut is_late = vec![false; self.is_counted.len()];
        self.late.iter().filter(|late| !late.half).for_each(|late| is_late[late.row as usize] = true);
        for (row, (counted, late)) in self.is_counted.iter().zip(&is_late).enumerate() {
            match (counted, late) {
                (true, _) => self.counted += 1,
                (_, true) => self.late_rows += 1,
                _ => match self.failed.contains_key(&row) {
                    true => self.dead += 1,
                    false => self.filtered += 1,
                },
            }
        }
        for (row, failed) in &mut self.failed {
            failed.is_partial = self.is_counted[*row] || is_late[*row];
        }
    }
}
