//! The interface of a store while a run writes to it.

use crate::counts::SinkCounts;
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Rejected};
use crate::metrics::ServerStatus;
use crate::storage::disk::Disk;
use ahash::AHashSet;
use arrow::array::RecordBatch;
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

/// An open output of one run. If it is dropped without [`Sink::finish`] it leaves nothing that looks complete. Rows
/// that a store with guarded keys has already applied stay: they are correct, and a replay converges.
pub trait Sink {
    /// Writes rows of `kind`; returns the rows that the store cannot hold, which become dead letters. They are counted
    /// as `dead`; a tool without a dead-letter output counts them as `dropped`.
    fn write(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Rejected>>;

    /// Makes every row written so far durable, if the store [acknowledges](super::Store::acknowledges) rows.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Does the work that is due by time without new rows, such as ending files that are old enough. Called regularly.
    fn tick(&mut self) -> Result<()> {
        Ok(())
    }

    /// Applies the rows of `epoch` and records it, in one transaction where the store has any; a second call changes
    /// nothing.
    ///
    /// Errors: exit status 75 if a later epoch is committed.
    fn commit(&mut self, epoch: Epoch, rows: &mut dyn EpochRows) -> Result<()>;

    /// Whether it stores the positions of epochs, so that it must commit epochs without rows, too.
    fn keeps_positions(&self) -> bool {
        false
    }

    /// Returns the last epoch that was committed here under the key of this sink.
    fn committed(&mut self) -> Result<Option<Epoch>>;

    /// Returns the counts so far; the law of counts holds after every call.
    fn counts(&self) -> SinkCounts;

    /// Ends the output after a proven end of the input: makes durable and visible what no epoch has committed.
    fn finish(self: Box<Self>) -> Result<SinkOutcome>;

    /// Ends the output of a source that was stopped before its own end. A store that replaces rows of other runs
    /// ([`Store::replaces`](super::Store::replaces)) replaces none.
    fn finish_stopped(self: Box<Self>) -> Result<SinkOutcome> {
        self.finish()
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

/// Writes the rows of an epoch with [`Sink::write`], for a store without transactions.
pub fn write_rows(sink: &mut dyn Sink, rows: &mut dyn EpochRows) -> Result<()> {
    let mut rejected = EpochFaults::default();
    for batch in rows.batches()? {
        let batch = batch?;
        rejected.add_batch(sink.write(rows.kind(), &batch)?, batch.num_rows());
    }
    rows.keep_rejected(rejected)
}

/// The result of a finished sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkOutcome {
    /// The counts of its rows.
    pub counts: SinkCounts,
    /// A line for the summary besides the counts (files new or replaced, rows of another run replaced), if any.
    pub remark: Option<String>,
    /// Lines that are printed even if `-q` suppresses the summary.
    pub notices: Vec<Notice>,
}

/// A line about rows that a store replaced or rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The line, without the name of the output.
    pub text: String,
    /// Whether it makes the exit verdict 1.
    pub fails: bool,
}

/// The options with which a sink is opened.
#[derive(Clone)]
pub struct OpenOptions {
    /// Exposes whether the store's server is reachable.
    pub up: ServerStatus,
    /// The key of its epochs: checkpoint and output, or the name of the pipeline in a run without a checkpoint.
    pub pipeline: String,
    /// Name of this run, which distinguishes its rows from those of other runs. All runs of a checkpoint are one.
    pub run: String,
    /// Whether this run commits epochs. A store then publishes nothing before a commit, unless `is_at_once` is set.
    pub epochs: bool,
    /// Whether rows are written before their epoch is complete. After a restart such a run writes the rows since its
    /// last epoch again, so an earlier pane of a window may follow a later one.
    pub is_at_once: bool,
    /// The run's clock (µs), for timestamps of rows and the age of files.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// The disk of a store that is a directory of files.
    pub disk: Disk,
}
