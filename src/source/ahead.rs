//! Reads the parts of a store on several threads; the rows come in the order of the parts.
//!
//! ```text
//! threads ── batches of part 3 ──► channel ─┐
//!         ── batches of part 4 ──► channel ─┼─► ReadAhead: part 3, then part 4, …
//! ```
//!
//! Memory is bounded: a thread waits when its part is [`BATCHES`] ahead, and begins no part while `threads` parts wait
//! to be read.

use arrow::array::RecordBatch;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::kind::span::Span;
use evt_run::checkpoint::epoch::Batches;
use evt_store::or_error;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Maximum batches of a part that wait to be read.
const BATCHES: usize = 32;

/// A message of a thread about the part that it reads; `None` at its end.
type PartMessage = Option<Result<RecordBatch>>;

/// The parts that no thread has begun.
struct Parts<I> {
    rest: I,
    /// Sends the channel of each part to [`ReadAhead`] when the part is begun.
    begun: SyncSender<Receiver<PartMessage>>,
}

/// The rows of all parts, in order.
pub(super) struct ReadAhead {
    parts: Receiver<Receiver<PartMessage>>,
    part: Option<Receiver<PartMessage>>,
}

impl ReadAhead {
    /// Starts `threads` threads, which read one part each at a time with `read`. Errors: exit status 74 if a thread
    /// cannot start.
    pub(super) fn start(
        threads: usize,
        parts: impl Iterator<Item = Span> + Send + 'static,
        read: impl Fn(Span) -> Result<Batches> + Send + Sync + 'static,
    ) -> Result<Self> {
        let (begun, order) = sync_channel(threads);
        let parts = Arc::new(Mutex::new(Parts { rest: parts, begun }));
        let read = Arc::new(read);
        for _ in 0..threads {
            let (parts, read) = (parts.clone(), read.clone());
            let thread = std::thread::Builder::new().name("read-ahead".to_owned());
            let started = thread.spawn(move || while read_next(&parts, read.as_ref()).is_some() {});
            started.map_err(|error| Error::new(ErrorKind::Io, "cannot start a thread").because(error))?;
        }
        Ok(Self { parts: order, part: None })
    }
}

/// Reads the next part. Returns `None` when no part is left, or when the rows are no longer wanted.
fn read_next(parts: &Mutex<Parts<impl Iterator<Item = Span>>>, read: &impl Fn(Span) -> Result<Batches>) -> Option<()> {
    let (sender, receiver) = sync_channel(BATCHES);
    let span = {
        // The lock is held until the part has its place in the order.
        let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
        let span = parts.rest.next()?;
        parts.begun.send(receiver).ok()?;
        span
    };
    for batch in or_error(read(span)) {
        sender.send(Some(batch)).ok()?;
    }
    sender.send(None).ok()
}

impl Iterator for ReadAhead {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let part = match &self.part {
                Some(part) => part,
                None => self.part.insert(self.parts.recv().ok()?),
            };
            match part.recv() {
                Ok(Some(batch)) => return Some(batch),
                Ok(None) => self.part = None,
                Err(_) => {
                    self.part = None;
                    return Some(Err(Error::broken("a thread that reads a store ended before its part")));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn days(count: i64) -> impl Iterator<Item = Span> + Send {
        (0..count).map(|day| Span { since: Some(day), until: Some(day + 1) })
    }

    /// Reads a part of as many batches as its day.
    fn part(span: Span) -> Batches {
        let day = span.since.unwrap();
        Box::new((0..day).map(move |at| {
            let column = Arc::new(Int64Array::from(vec![day, at]));
            Ok(RecordBatch::try_from_iter([("n", column as _)])?)
        }))
    }

    fn numbers(batch: &RecordBatch) -> Vec<i64> {
        batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
    }

    #[test]
    fn the_rows_of_all_parts_come_in_order() {
        let expected: Vec<Vec<i64>> = (0..60).flat_map(|day| (0..day).map(move |at| vec![day, at])).collect();
        for threads in [1, 2, 3, 8] {
            let rows = ReadAhead::start(threads, days(60), |span| Ok(part(span))).unwrap();
            let found: Vec<Vec<i64>> = rows.map(|batch| numbers(&batch.unwrap())).collect();
            assert_eq!(found, expected, "{threads} threads");
        }
    }

    #[test]
    fn an_error_comes_at_its_place_and_the_other_parts_follow() {
        let rows = ReadAhead::start(2, days(4), |span| match span.since {
            Some(2) => Err(Error::corrupt("torn")),
            _ => Ok(part(span)),
        });
        let found: Vec<String> =
            rows.unwrap().map(|batch| batch.map_or_else(|e| e.to_string(), |b| format!("{:?}", numbers(&b)))).collect();
        assert_eq!(found, ["[1, 0]", "torn", "[3, 0]", "[3, 1]", "[3, 2]"]);
    }

    #[test]
    fn a_thread_that_panics_is_an_error_not_an_end() {
        let rows = ReadAhead::start(1, days(3), |span| {
            assert!(span.since != Some(1), "planted");
            Ok(part(span))
        });
        let found: Vec<bool> = rows.unwrap().map(|batch| batch.is_ok()).collect();
        assert_eq!(found, [false]);
    }

    #[test]
    fn threads_begin_no_more_parts_than_are_read() {
        let begun = Arc::new(AtomicUsize::new(0));
        let counter = begun.clone();
        let mut rows = ReadAhead::start(2, days(1000), move |span| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(part(span))
        })
        .unwrap();
        rows.next().unwrap().unwrap();
        // Two parts are being read, two wait, and two were handed over: parts 0 and 1.
        assert!(begun.load(Ordering::SeqCst) <= 6);
        drop(rows);
    }
}
