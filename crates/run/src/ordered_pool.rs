//! Threads that share tasks; the results come in the order of the tasks.
//!
//! ```text
//! begin ─► tasks ─┬─► thread ─┐
//!                 ├─► thread ─┼─► results ─► take, wait
//!                 └─► caller ─┘
//! ```
//!
//! The thread of the caller is one of them: it does tasks while it waits for a result, so a pool of one thread starts
//! none. That is also how a simulation uses it. Memory is bounded if the caller begins no task while the pool
//! [is full](OrderedPool::is_full).

use crate::thread;
use evt_core::error::{Error, Result};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;

/// Tasks for each thread that are begun and whose results were not taken.
const TASKS_PER_THREAD: usize = 2;

/// A task that waits for a thread.
struct Job<T, R> {
    task: T,
    result: SyncSender<R>,
}

/// Threads that do tasks of type `T`, each with a result of type `R`.
pub struct OrderedPool<T, R> {
    jobs: Option<Sender<Job<T, R>>>,
    waiting: Arc<Mutex<Receiver<Job<T, R>>>>,
    /// The results of the tasks that are begun, in their order.
    results: VecDeque<Receiver<R>>,
    /// What the thread of the caller does with a task.
    own: Box<dyn FnMut(T) -> R>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static, R: Send + 'static> OrderedPool<T, R> {
    /// Starts a thread for each of `others`, which does tasks so; the thread of the caller does them by `own`. Errors:
    /// exit status 74 if no thread can start.
    pub fn start<W: FnMut(T) -> R + Send + 'static>(own: impl FnMut(T) -> R + 'static, others: Vec<W>) -> Result<Self> {
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let threads = others.into_iter().map(|work| {
            let waiting = waiting.clone();
            thread::spawn("worker", move || do_tasks(&waiting, work))
        });
        let threads = threads.collect::<Result<_>>()?;
        Ok(Self { jobs: Some(jobs), waiting, results: VecDeque::new(), own: Box::new(own), threads })
    }

    /// Whether the caller should take results before it begins more tasks.
    pub fn is_full(&self) -> bool {
        self.results.len() >= TASKS_PER_THREAD * (self.threads.len() + 1)
    }

    /// Begins a task.
    pub fn begin(&mut self, task: T) {
        let (result, taken) = sync_channel(1);
        self.results.push_back(taken);
        // The pool has the receiver, so the channel is open.
        _ = self.jobs.as_ref().map(|jobs| jobs.send(Job { task, result }));
    }

    /// Does a task in the thread of the caller.
    pub fn run(&mut self, task: T) -> R {
        (self.own)(task)
    }

    /// Returns the first result that was not taken, if it is there. Errors: exit status 70 if its thread has panicked.
    pub fn take(&mut self) -> Result<Option<R>> {
        match self.results.front().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => Ok(None),
            Some(Err(TryRecvError::Disconnected)) => Err(panicked()),
            Some(Ok(result)) => {
                self.results.pop_front();
                Ok(Some(result))
            }
        }
    }

    /// Waits for the first result that was not taken, and does tasks meanwhile; `None` if there is none. Errors: exit
    /// status 70 if its thread has panicked.
    pub fn wait(&mut self) -> Result<Option<R>> {
        loop {
            if let Some(result) = self.take()? {
                return Ok(Some(result));
            }
            if !self.help() {
                break;
            }
        }
        let Some(first) = self.results.pop_front() else { return Ok(None) };
        first.recv().map(Some).map_err(|_| panicked())
    }

    /// Does a task that waits; returns whether there was one. A thread that waits for tasks holds the lock.
    fn help(&mut self) -> bool {
        let job = match self.waiting.try_lock() {
            Ok(waiting) => waiting.try_recv().ok(),
            Err(TryLockError::Poisoned(waiting)) => waiting.into_inner().try_recv().ok(),
            Err(TryLockError::WouldBlock) => None,
        };
        let Some(Job { task, result }) = job else { return false };
        _ = result.send((self.own)(task));
        true
    }
}

fn do_tasks<T, R>(waiting: &Mutex<Receiver<Job<T, R>>>, mut work: impl FnMut(T) -> R) {
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { task, result }) = job else { return };
        // The result is not taken if the run has failed.
        _ = result.send(work(task));
    }
}

impl<T, R> Drop for OrderedPool<T, R> {
    /// Ends the threads, after the tasks that they do now.
    fn drop(&mut self) {
        self.jobs = None;
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.try_iter().for_each(drop);
        drop(waiting);
        // That a thread has panicked was reported when its result was taken.
        self.threads.drain(..).for_each(|thread| _ = thread.join());
    }
}

#[cold]
fn panicked() -> Error {
    Error::broken("a thread that maps records has panicked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Begins tasks while the pool has room, and takes all results.
    fn results(pool: &mut OrderedPool<u64, u64>, tasks: u64) -> Vec<u64> {
        let mut results = vec![];
        for task in 0..tasks {
            while pool.is_full() {
                results.extend(pool.wait().unwrap());
            }
            pool.begin(task);
            while let Some(result) = pool.take().unwrap() {
                results.push(result);
            }
        }
        while let Some(result) = pool.wait().unwrap() {
            results.push(result);
        }
        results
    }

    #[test]
    fn the_results_have_the_order_of_the_tasks() {
        // Tasks take different times.
        let work = |task: u64| (0..task % 7 * 1000).fold(task, |sum, n| sum ^ n ^ n) * 2;
        for threads in [1, 2, 3, 8] {
            let mut pool = OrderedPool::start(work, vec![work; threads - 1]).unwrap();
            for tasks in [0, 1, 1000] {
                assert_eq!(results(&mut pool, tasks), (0..tasks).map(|task| task * 2).collect::<Vec<_>>());
            }
            assert_eq!(pool.run(21), 42);
        }
    }

    #[test]
    fn a_task_whose_thread_panics_is_an_error_at_its_place() {
        let work = |task: u64| {
            assert!(task != 1, "planted");
            task
        };
        // The caller does no task: the result of the first one is taken before the second one begins.
        let mut pool = OrderedPool::start(|_| unreachable!(), vec![work]).unwrap();
        pool.begin(0);
        let first = loop {
            if let Some(first) = pool.take().unwrap() {
                break first;
            }
            std::thread::yield_now();
        };
        pool.begin(1);
        let error = loop {
            match pool.take() {
                Ok(None) => std::thread::yield_now(),
                other => break other,
            }
        };
        assert_eq!((first, error.unwrap_err().kind()), (0, evt_core::error::ErrorKind::Broken));
    }

    #[test]
    fn tasks_that_no_thread_has_begun_are_dropped_with_the_pool() {
        let done = Arc::new(AtomicUsize::new(0));
        let mut pool = OrderedPool::start(|_: u64| 0, Vec::<fn(u64) -> u64>::new()).unwrap();
        let counter = done.clone();
        pool.own = Box::new(move |task| {
            counter.fetch_add(1, Ordering::Relaxed);
            task
        });
        (0..3).for_each(|task| pool.begin(task));
        assert_eq!(pool.wait().unwrap(), Some(0));
        drop(pool);
        assert_eq!(done.load(Ordering::Relaxed), 1);
    }
}
