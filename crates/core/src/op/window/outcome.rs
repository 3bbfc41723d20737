//! The outcomes of the rows of a batch.

use crate::expr::WrongRows;

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

/// The outcomes of the rows of a batch.
#[derive(Debug, Default)]
pub struct BatchOutcome {
    /// Rows with a value of the wrong type; no metric counted them.
    pub dead: WrongRows,
    /// Late rows, by row, then metric.
    pub late: Vec<LateRow>,
    /// Rows in at least one window of at least one metric.
    pub counted: u64,
    /// Rows late for some metric and counted by none.
    pub late_rows: u64,
    /// Rows that are neither dead, counted nor late.
    pub filtered: u64,
    /// For each row, whether some metric counted it.
    pub is_counted: Vec<bool>,
}

impl BatchOutcome {
    /// Gives each row one outcome, the first that applies: dead, counted, late, filtered.
    pub(crate) fn finish(&mut self, is_dead: &[bool]) {
        self.late.sort_unstable_by_key(|late| (late.row, late.metric));
        let mut is_late = vec![false; is_dead.len()];
        self.late.iter().filter(|late| !late.half).for_each(|late| is_late[late.row as usize] = true);
        for ((dead, counted), late) in is_dead.iter().zip(&self.is_counted).zip(is_late) {
            match (dead, counted, late) {
                (true, ..) => {}
                (_, true, _) => self.counted += 1,
                (_, _, true) => self.late_rows += 1,
                _ => self.filtered += 1,
            }
        }
    }
}
