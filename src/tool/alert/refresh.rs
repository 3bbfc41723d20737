//! Reads the rules again on a thread of its own: a database that does not answer stops no evaluation.

use super::load::RuleLoader;
use crate::alert::rules::RuleSet;
use crate::console::Console;
use crate::error::{Error, Result};
use crate::store::remote::rounded;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

/// The rules of a run, which are read every `--refresh`. At most one reading is in progress.
pub struct RuleRefresh {
    loader: Arc<RuleLoader>,
    every: Duration,
    /// When the last reading began, on the monotonic clock.
    begun: Duration,
    pending: Option<Receiver<Result<RuleSet>>>,
    /// Why the rules cannot be read.
    failure: Option<ReadFailure>,
}

/// The failure of all readings since some time.
struct ReadFailure {
    /// On the monotonic clock.
    since: Duration,
    why: String,
}

impl RuleRefresh {
    /// Begins with rules that are read at monotonic time `now`.
    pub fn new(loader: RuleLoader, every: Duration, now: Duration) -> Self {
        Self { loader: Arc::new(loader), every, begun: now, pending: None, failure: None }
    }

    /// Reads the rules now.
    pub fn load(&self) -> Result<RuleSet> {
        self.loader.load()
    }

    /// Makes the error of rules of which none can be used.
    pub fn no_rule(&self) -> Error {
        self.loader.no_rule()
    }

    /// Begins a reading if one is due; returns the rules of one that has ended. Reports once that the rules cannot be
    /// read, and once that they can be read again.
    pub fn poll(&mut self, now: Duration, console: &Console) -> Option<RuleSet> {
        let Some(pending) = &self.pending else {
            if now.saturating_sub(self.begun) >= self.every {
                self.begun = now;
                self.pending = Some(self.start());
            }
            return None;
        };
        let loaded = match pending.try_recv() {
            Ok(loaded) => loaded,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(Error::broken("the thread that reads the rules has ended")),
        };
        self.pending = None;
        match loaded {
            Ok(rules) => {
                if let Some(ReadFailure { since, .. }) = self.failure.take() {
                    let duration = rounded(Duration::from_secs(now.saturating_sub(since).as_secs()));
                    console.say(format!("the rules can be read again after {duration}"));
                }
                Some(rules)
            }
            Err(error) => {
                let why = error.to_string();
                if self.failure.as_ref().is_none_or(|known| known.why != why) {
                    console.warn(format!("the rules stay as they are: {why}"));
                }
                let since = self.failure.take().map_or(self.begun, |failure| failure.since);
                self.failure = Some(ReadFailure { since, why });
                None
            }
        }
    }

    fn start(&self) -> Receiver<Result<RuleSet>> {
        let (sender, receiver) = channel();
        let loader = self.loader.clone();
        // Without a thread the sender is dropped, which is an error of the reading.
        _ = std::thread::Builder::new().name("rules".to_owned()).spawn(move || {
            // The run may have ended.
            _ = sender.send(loader.load());
        });
        receiver
    }
}
