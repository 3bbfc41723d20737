//! Selects an excerpt of a stream: its first rows, then the last of those.

use crate::error::Result;
use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use std::collections::VecDeque;

/// The first rows of a stream, and the last of those.
#[derive(Debug, Default)]
pub struct Excerpt {
    /// Rows still to be taken; `None` means all.
    left: Option<u64>,
    tail: Option<LastRows>,
}

#[derive(Debug)]
struct LastRows {
    limit: usize,
    rows: usize,
    batches: VecDeque<RecordBatch>,
}

impl Excerpt {
    /// Creates an excerpt of the first `head` rows, and of the last `tail` of those.
    pub fn new(head: Option<u64>, tail: Option<usize>) -> Self {
        Self { left: head, tail: tail.map(|limit| LastRows { limit, rows: 0, batches: VecDeque::new() }) }
    }

    /// Whether no further row is shown.
    pub fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    /// Returns how many rows of the next batch must be examined until the excerpt is full; `keep` selects the rows that
    /// count.
    pub fn needed(&self, keep: &BooleanArray) -> usize {
        let Some(left) = self.left.and_then(|left| usize::try_from(left).ok()) else { return keep.len() };
        match left.checked_sub(1) {
            None => 0,
            Some(before) => {
                let chosen = (0..keep.len()).filter(|row| keep.is_valid(*row) && keep.value(*row));
                chosen.skip(before).map(|row| row + 1).next().unwrap_or(keep.len())
            }
        }
    }

    /// Takes the rows of `batch` in `keep`; returns the rows to show now.
    pub fn take(&mut self, batch: &RecordBatch, keep: &BooleanArray) -> Result<Option<RecordBatch>> {
        let chosen = if keep.true_count() == keep.len() { batch.clone() } else { filter_record_batch(batch, keep)? };
        let count = self.left.map_or(chosen.num_rows(), |left| {
            usize::try_from(left).map_or(chosen.num_rows(), |left| left.min(chosen.num_rows()))
        });
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(count as u64);
        }
        let chosen = chosen.slice(0, count);
        match &mut self.tail {
            _ if count == 0 => Ok(None),
            Some(tail) => {
                tail.push(chosen);
                Ok(None)
            }
            None => Ok(Some(chosen)),
        }
    }

    /// Returns the last rows, at the end of the stream or once it has been read up to now. Rows that follow are then
    /// shown at once.
    pub fn finish(&mut self) -> Vec<RecordBatch> {
        let Some(tail) = self.tail.take() else { return vec![] };
        let mut surplus = tail.rows.saturating_sub(tail.limit);
        let mut shown = vec![];
        for batch in tail.batches {
            let skipped = surplus.min(batch.num_rows());
            surplus -= skipped;
            if skipped < batch.num_rows() {
                shown.push(batch.slice(skipped, batch.num_rows() - skipped));
            }
        }
        shown
    }
}

impl LastRows {
    fn push(&mut self, batch: RecordBatch) {
        self.rows += batch.num_rows();
        self.batches.push_back(batch);
        while let Some(first) = self.batches.front()
            && self.rows - first.num_rows() >= self.limit
        {
            self.rows -= first.num_rows();
            self.batches.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::kind::span::Span;
    use crate::test_events::events;
    use arrow::array::AsArray;
    use arrow::datatypes::TimestampMicrosecondType;
    use proptest::prelude::*;

    fn numbered(count: usize) -> RecordBatch {
        let texts: Vec<String> = (0..count).map(|at| format!("{{\"n\":{at}}}")).collect();
        events(&texts.iter().map(String::as_str).collect::<Vec<_>>())
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..Default::default() })]
        #[test]
        fn head_then_tail_is_what_the_shell_pipes_give(
            keep in proptest::collection::vec(any::<bool>(), 0..40),
            cut in 1usize..9,
            head in proptest::option::of(0u64..30),
            tail in proptest::option::of(0usize..20),
        ) {
            let batch = numbered(keep.len());
            let mut excerpt = Excerpt::new(head, tail);
            let mut shown = vec![];
            let mut row = 0;
            while row < keep.len() && !excerpt.is_full() {
                let count = cut.min(keep.len() - row);
                let keep = BooleanArray::from(keep[row..row + count].to_vec());
                let needed = excerpt.needed(&keep);
                shown.extend(excerpt.take(&batch.slice(row, needed), &keep.slice(0, needed)).unwrap());
                row += count;
            }
            shown.extend(excerpt.finish());
            let got: Vec<String> = shown.iter().flat_map(|batch| {
                batch["properties"].as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>()
            }).collect();
            let mut wanted: Vec<String> = (0..keep.len()).filter(|at| keep[*at]).map(|at| format!("{{\"n\":{at}}}")).collect();
            wanted.truncate(head.map_or(usize::MAX, |head| head as usize));
            if let Some(tail) = tail {
                wanted.drain(..wanted.len().saturating_sub(tail));
            }
            prop_assert_eq!(got, wanted);
        }
    }

    #[test]
    fn a_span_has_its_first_instant_and_not_its_last() {
        let batch = numbered(3);
        let time = batch["event_time"].as_primitive::<TimestampMicrosecondType>().value(0);
        let kept = |since, until| Span { since, until }.keep(Kind::Event, &batch).map(|keep| keep.true_count());
        assert_eq!(kept(None, None), None);
        assert_eq!(kept(Some(time), None), Some(3));
        assert_eq!(kept(Some(time + 1), None), Some(0));
        assert_eq!(kept(None, Some(time)), Some(0));
        assert_eq!(kept(None, Some(time + 1)), Some(3));
    }
}
