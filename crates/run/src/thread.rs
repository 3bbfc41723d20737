//! Threads with a name, by which tools of the system show them, and how many of them share the records of a run.

use evt_core::error::{Error, Result};
use std::thread::{Builder, JoinHandle, available_parallelism};

/// How many threads share the records of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    /// Their number, the thread of the run included.
    pub count: usize,
    /// The bytes of input from which on there is more than one.
    pub from_bytes: u64,
}

impl Threads {
    /// The thread of the run alone.
    pub const ONE: Self = Self { count: 1, from_bytes: 0 };
    /// The maximum that is chosen.
    const CORES_MAX: usize = 16;
    /// Input from which on more than one thread is chosen: a smaller one is read within milliseconds.
    const FROM_BYTES: u64 = 4 << 20;

    /// Returns the threads that `--threads` names. Without it they are the cores that the process may use, by its
    /// control group and its affinity.
    pub fn new(named: Option<usize>) -> Self {
        let cores = || available_parallelism().map_or(1, usize::from).min(Self::CORES_MAX);
        named.map_or_else(
            || Self { count: cores(), from_bytes: Self::FROM_BYTES },
            |count| Self { count, from_bytes: 0 },
        )
    }
}

/// Starts a thread. Errors: exit status 74 if the system has none left.
pub fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(work).map_err(|error| Error::io("a thread", &error))
}
