//! Independent parts of a computation, which the caller may let several threads do. The core starts no threads.

use crate::error::Result;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;
use std::sync::mpsc::channel;

/// A part of a computation.
pub type Work = Box<dyn FnOnce() + Send>;

/// Does parts of a computation, perhaps at the same time.
pub trait WorkRunner: Send + Sync {
    /// Does all parts, and returns once they are done. Errors: exit status 70 if one has panicked, 74 if no thread can
    /// start.
    fn run(&self, parts: Vec<Work>) -> Result<()>;

    /// Returns how many parts it does at the same time.
    fn count(&self) -> usize;
}

/// How the parts of a computation are done: one after another by default.
#[derive(Clone, Default)]
pub struct Parallelism(Option<Arc<dyn WorkRunner>>);

impl Parallelism {
    /// Lets `parallel` do the parts.
    pub fn of(parallel: Arc<dyn WorkRunner>) -> Self {
        Self(Some(parallel))
    }

    /// Returns how many parts are done at the same time.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |parallel| parallel.count())
    }

    /// Whether several parts are.
    pub fn is_any(&self) -> bool {
        self.count() > 1
    }

    /// Returns the result of `work` for each item, in the order of the items. Work that begins first should be that of
    /// the largest item. Errors: as [`WorkRunner::run`].
    pub fn map<T: Send + 'static, R: Send + 'static>(
        &self,
        items: Vec<T>,
        work: impl Fn(T) -> R + Clone + Send + 'static,
    ) -> Result<Vec<R>> {
        let Some(parallel) = &self.0 else { return Ok(items.into_iter().map(work).collect()) };
        let (done, results) = channel();
        let part = |(at, item)| -> Work {
            let (done, work) = (done.clone(), work.clone());
            // The results are taken below.
            Box::new(move || _ = done.send((at, work(item))))
        };
        parallel.run(items.into_iter().enumerate().map(part).collect())?;
        drop(done);
        let mut results: Vec<(usize, R)> = results.iter().collect();
        results.sort_unstable_by_key(|(at, _)| *at);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }
}

impl Debug for Parallelism {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_any() { "parallel" } else { "one after another" })
    }
}

/// Does the last part first, for tests.
#[cfg(test)]
pub(crate) struct Backwards;

#[cfg(test)]
impl WorkRunner for Backwards {
    fn run(&self, parts: Vec<Work>) -> Result<()> {
        parts.into_iter().rev().for_each(|part| part());
        Ok(())
    }

    fn count(&self) -> usize {
        3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_have_the_order_of_the_items_in_whatever_order_they_are_made() {
        for parts in [Parallelism::default(), Parallelism::of(Arc::new(Backwards))] {
            assert_eq!(parts.map((0..9).collect(), |n: u32| n * n).unwrap(), [0, 1, 4, 9, 16, 25, 36, 49, 64]);
            assert_eq!(parts.map(vec![], |n: u32| n).unwrap(), [0; 0]);
        }
    }
}
