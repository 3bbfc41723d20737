//! Threads with a name, by which tools of the system show them.

use evt_core::error::{Error, Result};
use std::thread::{Builder, JoinHandle};

/// Starts a thread. Errors: exit status 74 if the system has none left.
pub fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(work).map_err(|error| Error::io("a thread", &error))
}
