//! What happens again and again is said once a minute.

use crate::console::Console;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the same notice is not said again.
const NOTICE_EVERY: Duration = Duration::from_secs(60);
/// Says what happens again and again once a minute.
pub struct Notices {
    console: Console,
    said: Mutex<HashMap<&'static str, Instant>>,
}

impl Notices {
    /// Notices on this console.
    pub fn new(console: Console) -> Self {
        Self { console, said: Mutex::default() }
    }

    /// Says it unless something about `reason` was said within the last minute.
    pub fn say(&self, reason: &'static str, message: impl Fn() -> String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if said.get(reason).is_none_or(|last| now.duration_since(*last) >= NOTICE_EVERY) {
            said.insert(reason, now);
            drop(said);
            self.console.say(message());
        }
    }
}
