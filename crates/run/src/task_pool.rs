//! The threads of a run that share its work, and tasks whose results come in the order of the tasks.
//!
//! ```text
//! OrderedResults::begin ─► tasks ─┬─► thread ─┐
//!                                 ├─► thread ─┼─► results ─► OrderedResults::take, wait
//!                                 └─► caller ─┘
//! ```
//!
//! The thread of the caller is one of them: it does tasks while it waits for a result. So a pool of one thread starts
//! none, nor does a simulation. A task does not wait for another one. Memory is bounded if the caller begins no task
//! while [`OrderedResults::is_full`].

use crate::thread::{Threads, spawn};
use evt_core::error::{Error, Result};
use evt_core::parallel::{Parallelism, Work, WorkRunner};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Tasks for each thread that are begun and whose results were not taken.
const TASKS_PER_THREAD: usize = 2;

type Task = Box<dyn FnOnce() + Send>;

/// The threads that share work.
pub struct TaskPool {
    threads: Threads,
    queue: Arc<TaskQueue>,
    /// The threads beside those of callers; they start with the first task.
    started: Mutex<Vec<JoinHandle<()>>>,
    /// How many of these there are.
    others: usize,
}

/// The tasks that no thread has begun.
#[derive(Default)]
struct TaskQueue {
    state: Mutex<QueueState>,
    /// There is a task, or no more will come.
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    tasks: VecDeque<Task>,
    is_closed: bool,
    /// The threads that wait for a task.
    waiting: usize,
}

impl TaskPool {
    /// Makes the pool of a run; its threads start with the first task.
    pub fn new(threads: Threads) -> Arc<Self> {
        Self::with_others(threads, threads.count - 1)
    }

    /// Makes a pool without threads of its own: the thread of the caller does all tasks.
    pub fn simulated(count: usize) -> Arc<Self> {
        Self::with_others(Threads::new(Some(count)), 0)
    }

    fn with_others(threads: Threads, others: usize) -> Arc<Self> {
        Arc::new(Self { threads, queue: Arc::default(), started: Mutex::default(), others })
    }

    /// Returns how many threads share the work.
    pub fn threads(&self) -> Threads {
        self.threads
    }

    /// Returns how the core does independent parts of a computation.
    pub fn parallelism(self: &Arc<Self>) -> Parallelism {
        if self.threads.count > 1 { Parallelism::of(Arc::new(PoolWork(self.clone()))) } else { Parallelism::default() }
    }

    fn begin(&self, tasks: Vec<Task>) -> Result<()> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        while started.len() < self.others {
            let queue = self.queue.clone();
            started.push(spawn("task", move || queue.work())?);
        }
        drop(started);
        let mut state = self.queue.state();
        // To wake a thread is a system call, which costs more than many a task.
        let woken = tasks.len().min(state.waiting);
        state.tasks.extend(tasks);
        drop(state);
        (0..woken).for_each(|_| self.queue.changed.notify_one());
        Ok(())
    }

    /// Does a task that no thread has begun; returns whether there was one.
    fn help(&self) -> bool {
        let task = self.queue.state().tasks.pop_front();
        task.map(run).is_some()
    }
}

/// Lets a pool do parts of a computation.
struct PoolWork(Arc<TaskPool>);

impl WorkRunner for PoolWork {
    fn run(&self, parts: Vec<Work>) -> Result<()> {
        let mut results = OrderedResults::new(&self.0);
        results.begin_all(parts)?;
        while results.wait()?.is_some() {}
        Ok(())
    }

    fn count(&self) -> usize {
        self.0.threads.count
    }
}

/// Does a task. If it panics, its result does not come, and whoever takes it has the error.
fn run(task: Task) {
    _ = catch_unwind(AssertUnwindSafe(task));
}

impl TaskQueue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does tasks until no more come.
    fn work(&self) {
        loop {
            let mut state = self.state();
            let task = loop {
                match state.tasks.pop_front() {
                    Some(task) => break task,
                    None if state.is_closed => return,
                    None => {
                        state.waiting += 1;
                        state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                        state.waiting -= 1;
                    }
                }
            };
            drop(state);
            run(task);
        }
    }
}

impl Drop for TaskPool {
    /// Ends the threads, after the tasks that they do now.
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.is_closed = true;
        state.tasks.clear();
        drop(state);
        self.queue.changed.notify_all();
        let started = self.started.get_mut().unwrap_or_else(PoisonError::into_inner);
        started.drain(..).for_each(|thread| _ = thread.join());
    }
}

/// The results of tasks, in the order of the tasks.
pub struct OrderedResults<R> {
    pool: Arc<TaskPool>,
    results: VecDeque<Receiver<R>>,
}

impl<R: Send + 'static> OrderedResults<R> {
    /// Begins without tasks.
    pub fn new(pool: &Arc<TaskPool>) -> Self {
        Self { pool: pool.clone(), results: VecDeque::new() }
    }

    /// Whether results should be taken before more tasks are begun.
    pub fn is_full(&self) -> bool {
        self.results.len() >= TASKS_PER_THREAD * self.pool.threads.count
    }

    /// Begins a task. Errors: exit status 74 if no thread can start.
    pub fn begin(&mut self, task: impl FnOnce() -> R + Send + 'static) -> Result<()> {
        self.begin_all(vec![task])
    }

    /// Begins tasks at once. Errors: as [`OrderedResults::begin`].
    pub fn begin_all(&mut self, tasks: Vec<impl FnOnce() -> R + Send + 'static>) -> Result<()> {
        let begun = tasks.into_iter().map(|task| -> Task {
            let (result, taken) = sync_channel(1);
            self.results.push_back(taken);
            // Nobody takes the result if the run has failed.
            Box::new(move || _ = result.send(task()))
        });
        self.pool.begin(begun.collect())
    }

    /// Returns the first result that was not taken, if it is there. Errors: exit status 70 if its task has panicked.
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
    /// status 70 if its task has panicked.
    pub fn wait(&mut self) -> Result<Option<R>> {
        loop {
            if let Some(result) = self.take()? {
                return Ok(Some(result));
            }
            if self.results.is_empty() || !self.pool.help() {
                break;
            }
        }
        let Some(first) = self.results.pop_front() else { return Ok(None) };
        first.recv().map(Some).map_err(|_| panicked())
    }
}

#[cold]
fn panicked() -> Error {
    Error::broken("a thread has panicked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::error::ErrorKind;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Tasks take different times.
    fn double(task: u64) -> u64 {
        (0..task % 7 * 1000).fold(task, |sum, n| sum ^ n ^ n) * 2
    }

    /// Begins tasks while there is room, and takes all results.
    fn results(ordered: &mut OrderedResults<u64>, tasks: u64) -> Vec<u64> {
        let mut results = vec![];
        for task in 0..tasks {
            while ordered.is_full() {
                results.extend(ordered.wait().unwrap());
            }
            ordered.begin(move || double(task)).unwrap();
            while let Some(result) = ordered.take().unwrap() {
                results.push(result);
            }
        }
        while let Some(result) = ordered.wait().unwrap() {
            results.push(result);
        }
        results
    }

    #[test]
    fn the_results_have_the_order_of_the_tasks() {
        let threads = [1, 2, 3, 8].map(|count| TaskPool::new(Threads::new(Some(count))));
        for pool in threads.into_iter().chain([TaskPool::simulated(3)]) {
            let (mut one, mut other) = (OrderedResults::new(&pool), OrderedResults::new(&pool));
            for tasks in [0, 1, 1000] {
                other.begin(|| 7).unwrap();
                assert_eq!(results(&mut one, tasks), (0..tasks).map(|task| task * 2).collect::<Vec<_>>());
                assert_eq!(other.wait().unwrap(), Some(7));
            }
        }
    }

    #[test]
    fn a_task_that_panics_is_an_error_at_its_place_and_ends_no_thread() {
        for pool in [TaskPool::simulated(2), TaskPool::new(Threads::new(Some(2)))] {
            let mut ordered = OrderedResults::new(&pool);
            let task = |number: u64| move || if number == 1 { panic!("planted") } else { number };
            (0..3).for_each(|number| ordered.begin(task(number)).unwrap());
            assert_eq!(ordered.wait().unwrap(), Some(0));
            assert_eq!(ordered.wait().unwrap_err().kind(), ErrorKind::Broken);
            let mut other = OrderedResults::new(&pool);
            assert_eq!(results(&mut other, 10).len(), 10);
        }
    }

    #[test]
    fn tasks_that_no_thread_has_begun_are_dropped_with_the_workers() {
        let done = Arc::new(AtomicUsize::new(0));
        let pool = TaskPool::simulated(2);
        let mut ordered = OrderedResults::new(&pool);
        for _ in 0..3 {
            let done = done.clone();
            ordered.begin(move || done.fetch_add(1, Ordering::Relaxed)).unwrap();
        }
        assert_eq!(ordered.wait().unwrap(), Some(0));
        drop((pool, ordered));
        assert_eq!(done.load(Ordering::Relaxed), 1);
    }
}
