//! An epoch and its rows, as a checkpoint has them and a store commits them.

use ahash::AHashSet;
use arrow::array::RecordBatch;
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use evt_core::kind::dead::{ErrorType, Rejected};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::sync::Arc;

/// The identity of a checkpoint's epoch: run, then number within the run. Outputs number runs by the time at which they
/// began, so that the epochs of two copies of a checkpoint differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch {
    /// The run that made it.
    pub run: u64,
    /// Its number in that run, from 1.
    pub number: u64,
}

/// `RUN-NUMBER`: its name in messages, and in the names of directories and files.
impl Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.run, self.number)
    }
}

/// An [`Epoch`] in signed numbers.
#[derive(Clone, Copy, Debug)]
pub struct SignedEpoch {
    /// The run that made it.
    pub run: i64,
    /// Its number in that run, from 1.
    pub number: i64,
}

impl Epoch {
    /// Whether it must be committed to a store whose last epoch is `committed`; not if it is that epoch.
    ///
    /// Errors: exit status 75 if the store has a later epoch: a newer run has committed it.
    pub fn is_due(self, committed: Option<Epoch>, shown: impl Display) -> Result<bool> {
        match committed {
            Some(later) if later > self => Err(self.replaced_by(later.run, shown)),
            other => Ok(other != Some(self)),
        }
    }

    /// Makes the error of a run that commits after a newer one, `newer`.
    pub fn replaced_by(self, newer: u64, shown: impl Display) -> Error {
        Error::fenced(format!("{shown}: run {} was replaced by run {newer}", self.run))
    }

    /// Returns the epoch as SQL has it. Errors: exit status 70 if run or number is too large.
    pub fn signed(self) -> Result<SignedEpoch> {
        let signed = |number: u64| i64::try_from(number).map_err(|_| Error::broken(format!("epoch number {number}")));
        Ok(SignedEpoch { run: signed(self.run)?, number: signed(self.number)? })
    }
}

/// How far a partition of the input is read at the end of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionPosition {
    /// The consumer group; for files the name of the pipeline.
    pub group: String,
    /// The topic, or the name of the file.
    pub topic: String,
    /// The partition; 0 for a file.
    pub partition: i32,
    /// The offset of the next record.
    pub offset: i64,
    /// The watermark of the stage (µs); `None` before the first one.
    pub watermark: Option<i64>,
}

/// Batches that are read back.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch>>>;

/// The rows of one epoch for one store.
pub trait EpochRows {
    /// Returns their kind.
    fn kind(&self) -> Kind;

    /// Returns the positions of the input at the end of the epoch, each partition once, in the order of group, topic
    /// and partition. A database stores them in the transaction of the rows.
    fn positions(&self) -> &[PartitionPosition] {
        &[]
    }

    /// Reads the rows from the first one on. A store reads them again after a lost connection.
    fn batches(&self) -> Result<Batches>;

    /// Keeps the rows that the store cannot hold, by their numbers in the epoch. Called before the store commits the
    /// others, because the letters of these rows must survive a crash after it, and again if the commit is repeated.
    fn keep_rejected(&mut self, rejected: EpochFaults) -> Result<()>;
}

/// A row of an epoch that a store cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochFault {
    /// Its number in the epoch.
    pub row: usize,
    /// The type of its fault.
    pub error_type: ErrorType,
    /// The message of its fault.
    pub message: Arc<str>,
}

/// The rows of an epoch that a store cannot hold, in their order. These may be millions, with few different messages.
#[derive(Clone, Debug, Default)]
pub struct EpochFaults {
    /// The rows.
    pub rows: Vec<EpochFault>,
    /// The first different messages, at most `SHARED_MAX`, which the rows share.
    messages: AHashSet<Arc<str>>,
    /// Rows of the batches so far.
    before: usize,
}

impl EpochFaults {
    /// Maximum number of messages that rows share.
    const SHARED_MAX: usize = 1024;

    /// Adds those of the next batch, which has `rows` rows.
    pub fn add_batch(&mut self, rejected: Vec<Rejected>, rows: usize) {
        for Rejected { row, fault } in rejected {
            self.push(self.before + row, fault.error_type, &fault.message);
        }
        self.before += rows;
    }

    /// Adds the row with a number.
    pub fn push(&mut self, row: usize, error_type: ErrorType, message: &str) {
        let message = match self.messages.get(message) {
            Some(shared) => shared.clone(),
            None => {
                let message: Arc<str> = message.into();
                if self.messages.len() < Self::SHARED_MAX {
                    self.messages.insert(message.clone());
                }
                message
            }
        };
        self.rows.push(EpochFault { row, error_type, message });
    }
}
