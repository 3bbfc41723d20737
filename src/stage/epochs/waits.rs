//! What a stage waits for between the end of an epoch and its commit in every output, and what it says about that.

use evt_core::time::rounded;
use evt_run::checkpoint::epoch::Epoch;
use std::time::Duration;

/// Interval of the messages about one wait.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// The clause about a stage that reads nothing.
pub(super) const READS_NOTHING: &str = "no more rows may wait, so the stage reads nothing";

/// An epoch that this stage has committed and that another stage may not have committed yet.
pub(super) struct LaterCommit {
    pub(super) epoch: Epoch,
    /// The monotonic time at which this stage had committed it.
    pub(super) start: Duration,
    pub(super) reports: Reports,
}

/// The wait for stores that have not answered rows of the epoch that is to end.
pub(super) struct Delay {
    /// The monotonic time at which it began.
    pub(super) start: Duration,
    pub(super) reports: Reports,
}

/// The monotonic times at which a stage looks at what other stages do.
#[derive(Default)]
pub(super) struct Looks {
    /// When the log is to be watched again.
    pub(super) log: Duration,
    /// The last message to branches that may have gone.
    pub(super) probe: Duration,
    /// The last check for failed stages.
    pub(super) failure: Duration,
}

/// The messages about a wait.
#[derive(Default)]
pub(super) struct Reports {
    /// The names of the outputs in the last message, separated by commas; empty if there was none.
    pub(super) named: String,
    /// The monotonic time from which the next message may be printed.
    next: Duration,
    /// Whether the last message said that the stage reads nothing.
    is_held: bool,
}

impl Reports {
    /// Returns whether a message is due: `slow` after `start`, then once in [`REPORT_EVERY`], and at once when the
    /// stage stops reading.
    pub(super) fn is_due(&mut self, now: Duration, start: Duration, slow: Duration, is_held: bool) -> bool {
        let stops = is_held && !self.is_held;
        if !stops && (now < start + slow || now < self.next) {
            return false;
        }
        (self.next, self.is_held) = (now + REPORT_EVERY, is_held);
        true
    }
}

/// Returns the clause about the effect of an epoch that is not committed; `is_idle` if the stage does nothing else.
pub(super) fn effect(is_idle: bool, is_held: bool) -> &'static str {
    match (is_idle, is_held) {
        (true, _) => "the run waits for it",
        (false, true) => READS_NOTHING,
        (false, false) => "the stage reads on; its rows wait for the next epoch",
    }
}

/// Returns a time as messages show it, in whole seconds.
pub(super) fn seconds(time: Duration) -> String {
    rounded(Duration::from_secs(time.as_secs().max(1)))
}
