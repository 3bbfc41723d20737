//! A value in a thread of its own: jobs for it run one after another, beside the thread of the run.
//!
//! ```text
//! thread of the run ─ begin: a job ─► thread of the worker: the value
//!                   ◄─ poll, wait: its answer ─┘
//! ```
//!
//! A simulation has no threads: a job runs in the thread of the run, once its answer has been polled a number of times.

use super::Run;
use super::io::Io;
use crate::thread;
use evt_core::error::{Error, Result};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a call waits for an answer before it checks again.
const STOP_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A job of a worker, which gets the worker's value; `None` once an earlier job has taken the value.
type Job<T> = Box<dyn FnOnce(&mut Option<T>) + Send>;

/// A value in a thread of its own. It is dropped there, too.
pub struct Worker<T>(Place<T>);

enum Place<T> {
    Thread {
        jobs: Option<Sender<Job<T>>>,
        thread: Option<JoinHandle<()>>,
        /// Jobs that are not done.
        waiting: Arc<AtomicUsize>,
    },
    /// In the thread of the run. Each job has the number of polls after which it runs.
    Simulated { value: Option<T>, jobs: VecDeque<(u32, Job<T>)>, lag: u32 },
}

/// The answer of a job, which may not be there yet.
pub struct JobAnswer<R>(Receiver<R>);

impl<T: 'static> Worker<T> {
    /// Starts a thread, and waits until `open` has made the value there. Errors: those of `open`, 74 if no thread can
    /// start.
    pub fn start(run: &Rc<Run>, open: impl FnOnce(&Rc<Run>) -> Result<T> + Send + 'static) -> Result<Self> {
        if let Io::Simulated { lag, .. } = run.io {
            return Ok(Self(Place::Simulated { value: Some(open(run)?), jobs: VecDeque::new(), lag }));
        }
        let (jobs, received) = channel::<Job<T>>();
        let (opened, is_open) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        // The outages are shared, because inputs and outputs may have the same brokers.
        let (run, done) = (Run { outages: run.outages.clone(), ..run.for_thread() }, waiting.clone());
        let work = move || {
            let value = open(&Rc::new(run));
            let (mut value, outcome) = match value {
                Ok(value) => (Some(value), Ok(())),
                Err(error) => (None, Err(error)),
            };
            if outcome.is_err() || opened.send(Ok(())).is_err() {
                _ = outcome.map_err(|error| opened.send(Err(error)));
                return;
            }
            for job in received {
                job(&mut value);
                done.fetch_sub(1, Ordering::AcqRel);
            }
        };
        let thread = thread::spawn("output", work)?;
        is_open.recv().unwrap_or_else(|_| Err(ended()))?;
        Ok(Self(Place::Thread { jobs: Some(jobs), thread: Some(thread), waiting }))
    }

    fn send(&mut self, job: Job<T>) -> Result<()> {
        match &mut self.0 {
            Place::Simulated { jobs, lag, .. } => jobs.push_back((*lag, job)),
            Place::Thread { jobs, waiting, .. } => {
                waiting.fetch_add(1, Ordering::AcqRel);
                jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(ended)?;
            }
        }
        Ok(())
    }

    /// Begins a job, which runs after those before it.
    pub fn begin<R: Send + 'static>(&mut self, job: impl FnOnce(&mut T) -> R + Send + 'static) -> Result<JobAnswer<R>> {
        let (answer, answered) = channel();
        self.send(Box::new(move |value| {
            if let Some(value) = value {
                // Nothing receives the answer if the run has failed.
                _ = answer.send(job(value));
            }
        }))?;
        Ok(JobAnswer(answered))
    }

    /// Returns the answer of a job if it is there. Errors: exit status 70 if the thread has panicked.
    pub fn poll<R>(&mut self, answer: &JobAnswer<R>) -> Result<Option<R>> {
        self.run_due(false);
        match answer.0.try_recv() {
            Ok(answer) => Ok(Some(answer)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(ended()),
        }
    }

    /// Waits for the answer of a job, for at most `limit`. Errors: exit status 70 if the thread has panicked.
    pub fn wait<R>(&mut self, answer: &JobAnswer<R>, limit: Duration) -> Result<Option<R>> {
        self.run_due(true);
        match answer.0.recv_timeout(limit) {
            Ok(answer) => Ok(Some(answer)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }

    /// Does a job, and waits for its answer.
    pub fn call<R: Send + 'static>(&mut self, job: impl FnOnce(&mut T) -> R + Send + 'static) -> Result<R> {
        let answer = self.begin(job)?;
        loop {
            if let Some(answer) = self.wait(&answer, STOP_CHECK_INTERVAL)? {
                return Ok(answer);
            }
        }
    }

    /// Takes the value: does the last job with it, and waits for its answer.
    pub fn end<R: Send + 'static>(mut self, job: impl FnOnce(T) -> R + Send + 'static) -> Result<R> {
        let (answer, answered) = channel();
        self.send(Box::new(move |value| {
            if let Some(value) = value.take() {
                _ = answer.send(job(value));
            }
        }))?;
        self.run_due(true);
        answered.recv().map_err(|_| ended())
    }

    /// Runs the jobs of a simulation that are due, or all.
    fn run_due(&mut self, all: bool) {
        let Place::Simulated { value, jobs, .. } = &mut self.0 else { return };
        while let Some((polls, _)) = jobs.front_mut() {
            if *polls > 0 && !all {
                *polls -= 1;
                return;
            }
            if let Some((_, job)) = jobs.pop_front() {
                job(value);
            }
        }
    }
}

/// Drops the value in its thread. A thread that does a job, such as one that waits for a server, is left behind.
impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        let Place::Thread { jobs, thread, waiting } = &mut self.0 else { return };
        *jobs = None;
        if waiting.load(Ordering::Acquire) == 0 {
            // The error of a thread that panicked was reported before.
            _ = thread.take().map(JoinHandle::join);
        }
    }
}

#[cold]
fn ended() -> Error {
    Error::broken("the thread of an output has ended")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::run::io::Pipe;
    use crate::storage::disk::Disk;

    fn run(io: Io) -> Rc<Run> {
        Rc::new(Run { io, ..Run::unwatched("evt-test", Clock::System) })
    }

    fn simulated(lag: u32) -> Rc<Run> {
        run(Io::Simulated { stdin: Pipe::default(), stdout: Pipe::default(), disk: Disk::default(), lag })
    }

    #[test]
    fn jobs_run_one_after_another_and_the_value_stays_between_them() {
        for run in [run(Io::Process), simulated(0), simulated(7)] {
            let mut worker = Worker::start(&run, |_| Ok(Rc::new(vec![1]))).unwrap();
            let push = |value: i32| move |values: &mut Rc<Vec<i32>>| Rc::make_mut(values).push(value);
            let first = worker.begin(push(2)).unwrap();
            worker.call(push(3)).unwrap();
            assert_eq!(worker.poll(&first).unwrap(), Some(()));
            assert_eq!(worker.end(|values| values.to_vec()).unwrap(), [1, 2, 3]);
        }
    }

    #[test]
    fn a_simulated_job_runs_after_a_number_of_polls() {
        let mut worker = Worker::start(&simulated(2), |_| Ok(1)).unwrap();
        let answer = worker.begin(|value| *value).unwrap();
        let polled = [(); 3].map(|()| worker.poll(&answer).unwrap());
        assert_eq!(polled, [None, None, Some(1)]);
    }

    #[test]
    fn what_cannot_be_opened_fails_and_a_thread_that_hangs_is_left_behind() {
        let run = run(Io::Process);
        let failed = Worker::<()>::start(&run, |_| Err(Error::config("closed")));
        assert_eq!(failed.err().unwrap().to_string(), "closed");
        let (release, hold) = channel::<()>();
        let mut worker = Worker::start(&run, |_| Ok(())).unwrap();
        let answer = worker.begin(move |()| hold.recv()).unwrap();
        assert_eq!(worker.poll(&answer).unwrap(), None);
        drop(worker);
        drop(release);
        assert!(answer.0.recv().unwrap().is_err());
    }
}
