//! Signals: SIGINT and SIGTERM reach every stage of a pipe at once.
//!
//! The first is noted and wakes whoever waits for input; a stage that reads raw input then stops reading, one whose
//! frames come through a pipe reads on to the end that its source sends. A second one acts at once.

use crate::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Whether, and by which signal, the run is asked to stop.
pub struct Stop {
    signal: Arc<AtomicUsize>,
    wake: Option<UnixStream>,
}

/// What a wait for input ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// There is something to read, or the end.
    Ready,
    /// The time is over.
    Timeout,
    /// A signal asks to stop.
    Stopped,
}

impl Stop {
    /// Never asked to stop: for tests and for library callers.
    pub fn never() -> Self {
        Self { signal: Arc::new(AtomicUsize::new(0)), wake: None }
    }

    /// Listens for SIGINT and SIGTERM from here on.
    pub fn on_signals() -> Result<Self> {
        let failed = |error: std::io::Error| Error::io("signal handlers", &error);
        let (read, write) = UnixStream::pair().map_err(failed)?;
        let signal = Arc::new(AtomicUsize::new(0));
        let armed = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // In this order: none is lost from the first step on, and the second finds the flag set and acts at once.
            signal_hook::flag::register_usize(number, signal.clone(), number as usize).map_err(failed)?;
            signal_hook::flag::register_conditional_default(number, armed.clone()).map_err(failed)?;
            signal_hook::flag::register(number, armed.clone()).map_err(failed)?;
            let write = write.try_clone().map_err(failed)?;
            signal_hook::low_level::pipe::register(number, write).map_err(failed)?;
        }
        Ok(Self { signal, wake: Some(read) })
    }

    /// The signal that asked to stop, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }

    /// Waits until `input` can be read, a signal comes (if `heed`), or `timeout` is over.
    pub fn wait(&self, input: &impl AsFd, heed: bool, timeout: Option<Duration>) -> Result<Woken> {
        if heed && self.signal().is_some() {
            return Ok(Woken::Stopped);
        }
        let mut fds = vec![PollFd::new(input, PollFlags::IN)];
        if let (true, Some(wake)) = (heed, &self.wake) {
            fds.push(PollFd::new(wake, PollFlags::IN));
        }
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => Ok(Woken::Timeout),
            Ok(_) if fds.get(1).is_some_and(|wake| !wake.revents().is_empty()) => Ok(Woken::Stopped),
            Ok(_) => Ok(Woken::Ready),
            // A signal that is not heeded must not look like the end of a wait that has none.
            Err(rustix::io::Errno::INTR) => self.wait(input, heed, timeout.map(|_| Duration::ZERO)),
            Err(errno) => Err(Error::io("waiting for input", &errno.into())),
        }
    }

    /// Sleeps for `time`, or until a signal comes.
    pub fn sleep(&self, time: Duration) -> Result<Woken> {
        let Some(wake) = &self.wake else {
            std::thread::sleep(time);
            return Ok(Woken::Timeout);
        };
        match self.wait(wake, false, Some(time))? {
            Woken::Ready => Ok(Woken::Stopped),
            other => Ok(other),
        }
    }
}
