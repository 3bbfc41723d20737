//! Reads the parts of an input ahead on the threads of a run; the items come in the order of the parts. `unpack.rs`: a
//! compressed file.
//!
//! ```text
//! part 3: task, task, … ─► items that wait ─┐
//! part 4: task, task, … ─► items that wait ─┼─► PartsAhead: part 3, then part 4, …
//! ```
//!
//! A task reads a few items of a part and then gives the part back, so no task waits for another. Memory is bounded: as
//! many parts as there are threads are begun, and of each at most twice [`ITEMS`] items wait.

pub mod unpack;

use crate::task_pool::{OrderedResults, TaskPool};
use evt_core::error::{Error, Result};
use std::collections::VecDeque;
use std::sync::Arc;

/// Items that a task reads: while they are taken, another task reads the next ones.
const ITEMS: usize = 4;

/// A part of an input. An error is its end.
pub type InputPart<T> = Box<dyn Iterator<Item = Result<T>> + Send>;

/// What a task returns: the part, unless it is at its end, and its next items.
type Read<T> = (Option<InputPart<T>>, Vec<Result<T>>);

/// The items of all parts, in order. An error is the end; what was read before it has come.
pub struct PartsAhead<P, T> {
    pool: Arc<TaskPool>,
    /// The parts that are not begun; `None` at their end.
    rest: Option<P>,
    begun: VecDeque<BegunPart<T>>,
    /// Why there is no further part.
    error: Option<Error>,
}

struct BegunPart<T> {
    /// `None` while a task has it, and at its end.
    part: Option<InputPart<T>>,
    /// The task that reads it, if one does.
    reading: OrderedResults<Read<T>>,
    items: VecDeque<Result<T>>,
}

impl<T: Send + 'static> BegunPart<T> {
    fn new(part: InputPart<T>, pool: &Arc<TaskPool>) -> Self {
        Self { part: Some(part), reading: OrderedResults::new(pool), items: VecDeque::new() }
    }

    /// Takes what a task has read.
    fn keep(&mut self, (part, items): Read<T>) {
        self.part = part;
        self.items.extend(items);
    }

    /// Takes what the last task has read if it is done, and begins the next one.
    fn go_on(&mut self) -> Result<()> {
        if let Some(read) = self.reading.take()? {
            self.keep(read);
        }
        if self.items.len() >= ITEMS {
            return Ok(());
        }
        match self.part.take() {
            Some(mut part) => self.reading.begin(move || {
                let mut items = vec![];
                while items.len() < ITEMS {
                    let item = part.next();
                    let is_end = !matches!(item, Some(Ok(_)));
                    items.extend(item);
                    if is_end {
                        return (None, items);
                    }
                }
                (Some(part), items)
            }),
            None => Ok(()),
        }
    }
}

impl<T: Send + 'static, P: Iterator<Item = Result<InputPart<T>>>> PartsAhead<P, T> {
    /// Begins with the first parts.
    pub fn new(parts: P, pool: &Arc<TaskPool>) -> Self {
        Self { pool: pool.clone(), rest: Some(parts), begun: VecDeque::new(), error: None }
    }

    fn go_on(&mut self) -> Result<()> {
        while self.begun.len() < self.pool.threads().count
            && let Some(rest) = &mut self.rest
        {
            match rest.next() {
                Some(Ok(part)) => self.begun.push_back(BegunPart::new(part, &self.pool)),
                other => (self.rest, self.error) = (None, other.and_then(Result::err)),
            }
        }
        self.begun.iter_mut().try_for_each(BegunPart::go_on)
    }

    fn step(&mut self) -> Result<Option<T>> {
        loop {
            self.go_on()?;
            let Some(first) = self.begun.front_mut() else { return self.error.take().map_or(Ok(None), Err) };
            if let Some(item) = first.items.pop_front() {
                return item.map(Some);
            }
            match first.reading.wait()? {
                Some(read) => first.keep(read),
                None => _ = self.begun.pop_front(),
            }
        }
    }
}

impl<T: Send + 'static, P: Iterator<Item = Result<InputPart<T>>>> Iterator for PartsAhead<P, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.step();
        if item.is_err() {
            self.rest = None;
            self.begun.clear();
        }
        item.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thread::Threads;

    /// Parts of as many items as their numbers; one fails at an item, and one cannot be begun.
    fn parts(
        count: u64,
        fails: Option<(u64, u64)>,
        missing: Option<u64>,
    ) -> impl Iterator<Item = Result<InputPart<u64>>> {
        (0..count).map(move |number| {
            if missing == Some(number) {
                return Err(Error::corrupt("missing"));
            }
            let item = move |at: u64| match fails == Some((number, at)) {
                true => Err(Error::corrupt("torn")),
                false => Ok(number * 100 + at),
            };
            Ok(Box::new((0..number % 9).map(item)) as InputPart<u64>)
        })
    }

    fn pools() -> impl Iterator<Item = Arc<TaskPool>> {
        let threads = [1, 2, 3, 8].map(|count| TaskPool::new(Threads::new(Some(count))));
        threads.into_iter().chain([TaskPool::simulated(3)])
    }

    #[test]
    fn the_items_of_all_parts_come_in_order() {
        for (fails, missing) in [(None, None), (Some((15, 3)), None), (Some((15, 0)), None), (None, Some(20))] {
            let flat = parts(60, fails, missing)
                .flat_map(|part| part.unwrap_or_else(|error| Box::new(std::iter::once(Err(error)))));
            let mut expected: Vec<_> = flat.collect();
            if let Some(end) = expected.iter().position(Result::is_err) {
                expected.truncate(end + 1);
            }
            let text = |items: Vec<Result<u64>>| items.into_iter().map(|item| item.map_err(|error| error.to_string()));
            let expected: Vec<_> = text(expected).collect();
            for pool in pools() {
                let found = PartsAhead::new(parts(60, fails, missing), &pool).collect();
                assert!(text(found).eq(expected.iter().cloned()), "{fails:?} {missing:?}");
            }
        }
    }

    #[test]
    fn a_panic_is_an_error_not_an_end() {
        for pool in pools() {
            let items = (0..3).map(|item| if item == 2 { panic!("planted") } else { Ok(item) });
            let found: Vec<_> =
                PartsAhead::new(std::iter::once(Ok(Box::new(items) as InputPart<i32>)), &pool).collect();
            assert!(found.last().is_some_and(Result::is_err));
        }
    }

    #[test]
    fn no_more_is_read_ahead_than_is_stated() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let read = Arc::new(AtomicUsize::new(0));
        let pool = TaskPool::new(Threads::new(Some(2)));
        let parts = (0..100).map(|_| {
            let read = read.clone();
            Ok(Box::new((0..100).map(move |_| Ok(read.fetch_add(1, Ordering::Relaxed)))) as InputPart<usize>)
        });
        let mut items = PartsAhead::new(parts, &pool);
        for taken in 0..50 {
            items.next().unwrap().unwrap();
            assert!(read.load(Ordering::Relaxed) <= taken + 1 + 2 * 2 * ITEMS, "{taken}");
        }
    }
}
