//! What a store is while a run writes to it.

use crate::console::Console;
use crate::counts::SinkCounts;
use crate::error::Result;
use crate::kind::Kind;
use crate::kind::dead::Fault;
use crate::metrics::Up;
use arrow::array::RecordBatch;
use std::sync::Arc;

/// The identity of a checkpoint's epoch: run, then number within the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch {
    /// The run that made it.
    pub run: u64,
    /// Its number in that run, from 1.
    pub number: u64,
}

/// A row the store refused, with the reason.
pub struct Refused {
    /// Index of the row in the batch that was written.
    pub row: usize,
    /// Why.
    pub fault: Fault,
}

/// One open output of one run. Dropped without [`Sink::finish`] it leaves nothing that looks whole; rows that a store
/// with guarded keys has applied already stay: they are right, and a replay converges.
pub trait Sink {
    /// Takes rows of `kind`; rows the store cannot hold come back and become dead letters. They are counted as `dead`:
    /// a tool without a dead-letter output counts them as `dropped`.
    fn write(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Refused>>;

    /// Makes every row written so far safe, where the store says [`Store::acknowledges`].
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Does what is due by the clock alone, though nothing is written.
    fn tick(&mut self) -> Result<()> {
        Ok(())
    }

    /// Makes every row written so far durable under `epoch`, without a reader seeing half of them.
    fn prepare(&mut self, epoch: Epoch) -> Result<()>;

    /// Applies what was prepared for `epoch`; a second call changes nothing.
    fn commit(&mut self, epoch: Epoch) -> Result<()>;

    /// The last epoch committed here by the pipeline of this sink, if any.
    fn committed(&mut self) -> Result<Option<Epoch>>;

    /// What happened to the rows so far; the law of counts holds after every call.
    fn counts(&self) -> SinkCounts;

    /// The proven end: makes durable and visible whatever no epoch has committed.
    fn finish(self: Box<Self>) -> Result<Outcome>;

    /// The proven end of a source that was stopped before its own end: a store that replaces the rows of other runs
    /// ([`Store::replaces`]) replaces none.
    fn finish_stopped(self: Box<Self>) -> Result<Outcome> {
        self.finish()
    }
}

/// What a finished sink has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What happened to the rows.
    pub counts: SinkCounts,
    /// One line for the summary beyond the counts (files new or replaced, rows of another run replaced), if any.
    pub remark: Option<String>,
    /// Lines that are printed even where `-q` leaves the summary out.
    pub notices: Vec<Notice>,
}

/// A line about rows that a store replaced or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The line, without the name of the output.
    pub text: String,
    /// Whether it makes the verdict of the run 1.
    pub fails: bool,
}

/// How a sink is opened.
#[derive(Clone)]
pub struct OpenOptions {
    /// Says whether the store's server is there.
    pub up: Up,
    /// Name of the pipeline: the key of its epochs.
    pub pipeline: String,
    /// Name of this run: tells its rows from those of other runs.
    pub run: String,
    /// Whether epochs are committed here: what a store publishes early then waits for its commit.
    pub epochs: bool,
    /// The run's clock (µs), for times of writing and the age of a file.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// The tool's voice, for what a store has to say before it ends: a server that is away, and back.
    pub console: Console,
}
