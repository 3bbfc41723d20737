//! What a service manager is told (sd_notify(3)): ready, what is going on, stopping. Without one, nothing.

use sd_notify::NotifyState;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How often the status line changes.
const EVERY: Duration = Duration::from_secs(5);

/// The manager that started this process, if one did.
pub struct Service {
    listens: bool,
    next: Cell<Instant>,
    stopping: Cell<bool>,
}

impl Service {
    /// Whoever the environment names.
    pub fn of_environment() -> Self {
        let listens = std::env::var_os("NOTIFY_SOCKET").is_some();
        Self { listens, next: Cell::new(Instant::now()), stopping: Cell::new(false) }
    }

    /// Inputs and outputs are open: whoever waits for this service may go on.
    pub fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// What is going on, now and then.
    pub fn status(&self, text: impl FnOnce() -> String) {
        if self.listens && Instant::now() >= self.next.get() {
            self.next.set(Instant::now() + EVERY);
            self.tell(&[NotifyState::Status(&text())]);
        }
    }

    /// Asked to stop: what is under way is brought to its end.
    pub fn stopping(&self) {
        if !self.stopping.replace(true) {
            self.tell(&[NotifyState::Stopping]);
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if self.listens {
            // A manager that has gone cannot be told so.
            let _ = sd_notify::notify(states);
        }
    }
}
