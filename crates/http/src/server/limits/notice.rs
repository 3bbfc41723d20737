//! Messages about recurring problems, written at most once a minute.

use evt_run::console::Console;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Minimum interval between two messages of the same reason.
const NOTICE_EVERY: Duration = Duration::from_secs(60);

/// A writer of messages about recurring problems, at most one a minute per reason.
pub struct Notices {
    console: Option<Console>,
    said: Mutex<HashMap<&'static str, Instant>>,
}

impl Notices {
    /// Writes to this console; without one, nothing.
    pub fn new(console: Option<Console>) -> Self {
        Self { console, said: Mutex::default() }
    }

    /// Writes the message unless one of the same `reason` was written within the last minute.
    pub fn say(&self, reason: &'static str, message: impl Fn() -> String) {
        let Some(console) = &self.console else { return };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if said.get(reason).is_none_or(|last| now.duration_since(*last) >= NOTICE_EVERY) {
            said.insert(reason, now);
            drop(said);
            console.say(message());
        }
    }
}
