//! Notifies a service manager (sd_notify(3)): ready, status, stopping. Without a manager it does nothing.

use sd_notify::NotifyState;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Interval of status updates.
const EVERY: Duration = Duration::from_secs(5);

/// The service manager that started this process, if any.
pub struct Service {
    listens: bool,
    next: Cell<Instant>,
    ready: Cell<bool>,
    stopping: Cell<bool>,
}

impl Service {
    /// Reads the manager from the environment.
    pub fn of_environment() -> Self {
        Self::that_listens(std::env::var_os("NOTIFY_SOCKET").is_some())
    }

    /// No manager: for the stages of a pipeline behind the first one, which are ready before it.
    pub fn none() -> Self {
        Self::that_listens(false)
    }

    /// The same manager, for another thread.
    pub fn for_thread(&self) -> Self {
        Self::that_listens(self.listens)
    }

    fn that_listens(listens: bool) -> Self {
        let (ready, stopping) = (Cell::new(false), Cell::new(false));
        Self { listens, next: Cell::new(Instant::now()), ready, stopping }
    }

    /// Whether there is a manager.
    pub fn listens(&self) -> bool {
        self.listens
    }

    /// Reports that inputs and outputs are open, so that dependent services may start.
    pub fn ready(&self) {
        if !self.ready.replace(true) {
            self.notify(&[NotifyState::Ready]);
        }
    }

    /// Reports the status, at most every 5 s.
    pub fn status(&self, text: impl FnOnce() -> String) {
        if self.listens && Instant::now() >= self.next.get() {
            self.next.set(Instant::now() + EVERY);
            self.notify(&[NotifyState::Status(&text())]);
        }
    }

    /// Reports that the process is stopping, and completes its work.
    pub fn stopping(&self) {
        if !self.stopping.replace(true) {
            self.notify(&[NotifyState::Stopping]);
        }
    }

    fn notify(&self, states: &[NotifyState<'_>]) {
        if self.listens {
            // A failed notification cannot be reported.
            let _ = sd_notify::notify(states);
        }
    }
}
