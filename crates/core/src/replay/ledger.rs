//! The ledger of replays: it records each letter that was replayed, so that none is replayed twice.
//!
//! ```text
//! own (a run takes a target) ─► open (the batch of a killed run) ─► close it ─► claim ─► write to the target ─► close
//! ```
//!
//! A letter is due, claimed by a batch, or done. A batch belongs to one target; at most one batch of a target is open,
//! because a run closes the open one before it claims another, and only the run that owns a target may claim. The
//! target itself records whether the open batch of a killed run was written: the intent beside a file, the offset of a
//! group on Kafka.

use crate::error::Result;

/// An id of a letter or of an event.
pub type Id = [u8; 16];

/// A letter and the event that replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayEntry {
    /// The letter.
    pub letter_id: Id,
    /// The event.
    pub event_id: Id,
}

/// A run that writes to a target.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The name of the target, the same in each run.
    pub target: &'a str,
    /// The id of the run.
    pub run: &'a str,
    /// The number of the claim in its run: a claim that is repeated because its answer was lost changes nothing.
    pub claim: u64,
}

/// The letters that a batch has claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchClaim {
    /// The number of the batch; greater than those of all earlier ones. 0 if no letter could be claimed.
    pub batch: i64,
    /// The state of each letter before the claim, in the order of the entries.
    pub found: Vec<LetterState>,
}

/// The state of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterState {
    /// It was due, and is claimed now if that was requested.
    Due,
    /// It was replayed.
    Done,
    /// Another batch has claimed it and is not closed yet.
    Claimed,
}

/// The outcome with which a batch is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// Its records are in the target: its letters are done.
    Done,
    /// None of its records is in the target: its letters are due again.
    Void,
}

/// A ledger. Several runs may use it at the same time.
///
/// Errors of each method: exit status 69 if the server does not answer, 75 if another run holds the lock or owns the
/// target, 74 and 65 of a file.
pub trait Ledger {
    /// Returns its id, made once, which names the transactions of its replays.
    fn id(&self) -> &str;

    /// Makes `writer` the owner of its target.
    fn own(&mut self, writer: Writer<'_>) -> Result<()>;

    /// Returns the numbers of the open batches of a target, or of all targets.
    fn open_batches(&mut self, target: Option<&str>) -> Result<Vec<i64>>;

    /// Closes a batch; nothing happens if it is closed.
    fn close(&mut self, batch: i64, outcome: BatchOutcome) -> Result<()>;

    /// Claims the due letters among `entries` for a new batch of the writer's target.
    fn claim(&mut self, writer: Writer<'_>, entries: &[ReplayEntry]) -> Result<BatchClaim>;

    /// Returns the states of letters.
    fn states(&mut self, letters: &[Id]) -> Result<Vec<LetterState>>;

    /// Marks letters as done that no batch has claimed: for targets that cannot record a batch.
    fn mark(&mut self, entries: &[ReplayEntry]) -> Result<()>;

    /// Returns how often events have been tried.
    fn attempts(&mut self, events: &[Id]) -> Result<Vec<i64>>;

    /// Counts an attempt that failed for each of the events.
    fn count_failed(&mut self, events: &[Id]) -> Result<()>;
}
