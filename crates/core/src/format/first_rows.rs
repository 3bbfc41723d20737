//! The first rows of a file whose columns depend on the values in it.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;

/// Maximum number of rows that decide about columns: those of one row group of Parquet.
pub const SAMPLE_ROWS: usize = 131_072;
/// Maximum bytes of the values of these rows that have no fixed size, because the rows are in memory.
const SAMPLE_BYTES: usize = 16 << 20;

/// The first rows, which wait in memory until there are enough of them. The same rows decide however they were divided
/// into batches.
#[derive(Default)]
pub struct FirstRows {
    rows: Vec<RecordBatch>,
    count: usize,
    bytes: usize,
    /// The number of rows of the last batch that still decide.
    of_last: usize,
}

impl FirstRows {
    /// Takes rows; returns whether there are enough.
    pub fn push(&mut self, batch: &RecordBatch) -> bool {
        let mut ends = vec![0; batch.num_rows()];
        batch.columns().iter().for_each(|column| add_bytes(column, &mut ends));
        // The row that reaches a limit is the last one that decides.
        let below = ends.partition_point(|end| self.bytes + end < SAMPLE_BYTES);
        self.of_last = (below + 1).min(batch.num_rows()).min(SAMPLE_ROWS.saturating_sub(self.count));
        self.count += batch.num_rows();
        self.bytes += ends.last().copied().unwrap_or_default();
        self.rows.push(batch.clone());
        self.count >= SAMPLE_ROWS || self.bytes >= SAMPLE_BYTES
    }

    /// Returns the rows that decide.
    pub fn deciding(&self) -> Vec<RecordBatch> {
        let mut rows = self.rows.clone();
        if let Some(last) = rows.last_mut() {
            *last = last.slice(0, self.of_last);
        }
        rows
    }

    /// Returns all rows.
    pub fn into_rows(self) -> Vec<RecordBatch> {
        self.rows
    }

    /// Returns the number of rows.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the bytes of their values that have no fixed size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Adds to each of `ends` the bytes of the texts, binaries and lists of `array` up to and with this row.
fn add_bytes(array: &ArrayRef, ends: &mut [usize]) {
    match array.data_type() {
        DataType::Utf8 => add_lengths(array.as_string::<i32>().value_offsets(), |length| length, ends),
        DataType::Binary => add_lengths(array.as_binary::<i32>().value_offsets(), |length| length, ends),
        DataType::List(_) => add_items(array.as_list::<i32>().value_offsets(), array.as_list::<i32>().values(), ends),
        DataType::Map(..) => {
            let map = array.as_map();
            [map.keys(), map.values()].into_iter().for_each(|items| add_items(map.value_offsets(), items, ends));
        }
        _ => {}
    }
}

/// Adds the bytes of the items of each row, whose ends are in `offsets`.
fn add_items(offsets: &[i32], items: &ArrayRef, ends: &mut [usize]) {
    let mut of_items = vec![0; items.len()];
    add_bytes(items, &mut of_items);
    let fixed = size_of::<i64>();
    let end = |items: usize| items * fixed + items.checked_sub(1).map_or(0, |last| of_items[last]);
    add_lengths(offsets, end, ends);
}

/// Adds to each of `ends` the size of its row and the rows before it. `size` returns the bytes before an offset; the
/// offsets need not start at 0.
fn add_lengths(offsets: &[i32], size: impl Fn(usize) -> usize, ends: &mut [usize]) {
    let at = |offset: i32| size(usize::try_from(offset).unwrap_or_default());
    let start = at(offsets[0]);
    ends.iter_mut().zip(&offsets[1..]).for_each(|(end, offset)| *end += at(*offset) - start);
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BinaryArray, Int64Array, StringArray};
    use std::sync::Arc;

    fn rows(texts: &[String]) -> RecordBatch {
        let payloads = BinaryArray::from_iter_values(texts);
        let numbers = Int64Array::from_iter_values(0..texts.len() as i64);
        let texts = StringArray::from_iter_values(texts);
        RecordBatch::try_from_iter([
            ("a", Arc::new(texts) as ArrayRef),
            ("b", Arc::new(payloads) as ArrayRef),
            ("c", Arc::new(numbers) as ArrayRef),
        ])
        .unwrap()
    }

    fn deciding(batches: &[RecordBatch]) -> (usize, usize) {
        let mut first = FirstRows::default();
        let taken = 1 + batches.iter().position(|batch| first.push(batch)).expect("enough rows");
        let all: usize = batches[..taken].iter().map(RecordBatch::num_rows).sum();
        assert_eq!(first.count(), all);
        (first.deciding().iter().map(RecordBatch::num_rows).sum(), all)
    }

    #[test]
    fn the_same_rows_decide_however_they_are_divided() {
        // Each row has 2 × 100 KiB; row 82 reaches 16 MiB.
        let large = rows(&vec!["x".repeat(100 << 10); 200]);
        // Rows without texts are bounded by their number.
        let small = rows(&vec![String::new(); 140_000]);
        for (all, expected) in [(&large, 82), (&small, SAMPLE_ROWS)] {
            for size in [1, 7, 50, 81, 82, 83, 200, 140_000] {
                if size < 50 && all.num_rows() > 1_000 {
                    continue;
                }
                let starts = (0..all.num_rows()).step_by(size);
                let parts: Vec<_> = starts.map(|start| all.slice(start, size.min(all.num_rows() - start))).collect();
                assert_eq!(deciding(&parts).0, expected, "batches of {size}");
            }
        }
    }

    #[test]
    fn lists_count_with_their_items() {
        use arrow::array::{ListBuilder, StringBuilder};
        let mut lists = ListBuilder::new(StringBuilder::new());
        for texts in [&["ab", "c"][..], &[], &["defg"]] {
            texts.iter().for_each(|text| lists.values().append_value(text));
            lists.append(true);
        }
        let lists: ArrayRef = Arc::new(lists.finish());
        let mut ends = [0; 3];
        add_bytes(&lists, &mut ends);
        assert_eq!(ends, [19, 19, 31]);
        let mut ends = [0; 2];
        add_bytes(&lists.slice(1, 2), &mut ends);
        assert_eq!(ends, [0, 12]);
    }
}
