//! Rows of batches of metrics, as far as a comparison needs them: the natural key, the value, and the number of rows.
//!
//! A series (name and dimensions) is the partition of its windows, and the start of a window its offset. In a stream
//! the last row of a window is its result, so an entry has the number of its row until [`result`] has chosen the last
//! one.

use super::content::tagged;
use super::entry::{PartitionNames, RowEntry, RowPosition, Side, id_key};
use crate::error::Result;
use crate::kind::metric::MetricColumns;
use arrow::array::RecordBatch;

/// Series whose dimensions are known by name. Of further series only the name of the metric is shown.
const SERIES_MAX: usize = 100_000;
/// The flag of a row that retracts the rows of its key.
const RETRACTED: u8 = 4;

/// Calls `each` for the rows of a batch of metrics, with their numbers from `first` on as their times. Errors: exit
/// status 70 if a column is missing.
pub fn rows(
    batch: &RecordBatch,
    side: Side,
    first: u64,
    names: &mut PartitionNames,
    each: &mut dyn FnMut(RowEntry) -> Result<()>,
) -> Result<()> {
    let columns = MetricColumns::try_new(batch)?;
    for row in 0..batch.num_rows() {
        let (name, dimensions) = (columns.names.value(row), columns.dimensions.value(row));
        let partition = if names.count() < SERIES_MAX {
            names.index(name, dimensions)
        } else {
            names.known_or(name, dimensions, "…")
        };
        let position = RowPosition { partition, offset: columns.starts.value(row) };
        // 0.0 and -0.0 are one value, and so are all NaN.
        let value = columns.value(row).map(|value| if value.is_nan() { f64::NAN } else { value + 0.0 });
        let value = value.map_or(tagged(b'n', b"", 0), |value| tagged(b'v', &value.to_bits().to_le_bytes(), 0));
        each(RowEntry {
            key: id_key(columns.id(row)?),
            side,
            flags: if columns.retracted.value(row) { RETRACTED } else { 0 },
            other: position.key(),
            time: (first + row as u64).cast_signed(),
            content: tagged(b'r', &columns.rows.value(row).to_le_bytes(), value),
        })?;
    }
    Ok(())
}

/// Chooses the result among entries that come in order: the last row of each key and side, unless it retracts.
#[derive(Default)]
pub struct MetricResults {
    last: Option<RowEntry>,
}

impl MetricResults {
    /// Takes the next entry; returns the result of the key and side before it, once it is known.
    pub fn push(&mut self, entry: RowEntry) -> Option<RowEntry> {
        match &mut self.last {
            Some(last) if (last.key, last.side) == (entry.key, entry.side) => {
                if entry.time > last.time {
                    *last = entry;
                }
                None
            }
            last => result(last.replace(entry)),
        }
    }

    /// Returns the result of the last key and side.
    pub fn finish(self) -> Option<RowEntry> {
        result(self.last)
    }
}

/// Returns the entry of a result, with the start of its window as its time.
fn result(last: Option<RowEntry>) -> Option<RowEntry> {
    let last = last.filter(|last| last.flags & RETRACTED == 0)?;
    Some(RowEntry { time: RowPosition::of_key(last.other).offset, ..last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::kind::metric::{Builder, Row};

    fn results(rows: &[(i64, Option<f64>, u64, bool)]) -> Vec<(i64, u64)> {
        let mut builder = Builder::default();
        for (start, value, count, retracted) in rows {
            let row = Row {
                name: "m",
                start: *start,
                end: start + 10,
                dimensions: "{}",
                value: *value,
                rows: *count,
                revision: 0,
                pane: 0,
                retracted: *retracted,
            };
            builder.push(&row).unwrap();
        }
        let batch = builder.finish(Kind::Metric.schema()).unwrap();
        let (mut entries, mut results) = (vec![], MetricResults::default());
        super::rows(&batch, Side::A, 5, &mut PartitionNames::default(), &mut |entry| {
            entries.push(entry);
            Ok(())
        })
        .unwrap();
        entries.sort_unstable();
        let mut found: Vec<RowEntry> = entries.into_iter().filter_map(|entry| results.push(entry)).collect();
        found.extend(results.finish());
        found.sort_by_key(|entry| entry.time);
        found.iter().map(|entry| (entry.time, entry.content)).collect()
    }

    #[test]
    fn the_last_row_of_a_window_is_its_result_unless_it_retracts() {
        let panes = results(&[(0, Some(1.0), 1, false), (0, Some(2.0), 2, false), (10, Some(7.0), 3, false)]);
        let last = results(&[(0, Some(2.0), 2, false), (10, Some(7.0), 3, false)]);
        assert_eq!(panes, last);
        assert_eq!(results(&[(0, Some(1.0), 1, false), (0, Some(1.0), 1, true)]), []);
        assert_eq!(results(&[(0, Some(1.0), 1, true), (0, Some(1.0), 1, false)]), results(&[(0, Some(1.0), 1, false)]));
    }

    #[test]
    fn value_and_rows_are_compared() {
        let of = |value, rows| results(&[(0, value, rows, false)])[0].1;
        assert_eq!(of(Some(0.0), 1), of(Some(-0.0), 1));
        assert_eq!(of(Some(f64::NAN), 1), of(Some(-f64::NAN), 1));
        let different = [of(None, 1), of(Some(0.0), 1), of(Some(0.0), 2), of(Some(1.0), 1), of(Some(f64::NAN), 1)];
        assert!(different.iter().enumerate().all(|(at, one)| !different[..at].contains(one)));
    }
}
