//! Inputs: what a stage reads, one file for each sort.
//!
//! ```text
//! bytes (a file, a pipe) ─► text      records of a text format    ┐
//!                        ─► frames    rows with their stamps      ├─► Ingest ─► batches, dead letters, control messages
//!                        ─► container rows of Parquet, Avro, …    ┘
//! ```
//!
//! Every input reads what is there and never waits in [`Input::step`]; [`Input::wait`] waits. What it reads goes to the
//! [`Ingest`] that all inputs of a run share.

pub mod buffer_pool;
pub mod bytes;
pub mod follow;
pub mod frames;
mod lag;
pub mod text;

use crate::error::Result;
use crate::ingest::{ByteProgress, Ingest};
use std::time::Duration;

pub use lag::Lag;

/// How a step of an input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There may be more.
    More,
    /// There is nothing to read now.
    Idle,
    /// The input is at its end.
    End,
    /// A signal stopped the reading.
    Stopped,
}

/// One input of a run.
pub trait Input {
    /// Reads what is there, at most about a batch, into `ingest`. Never waits.
    fn step(&mut self, ingest: &mut Ingest) -> Result<Step>;

    /// Waits until there may be something to read, a signal arrives, or `timeout` has passed.
    fn wait(&mut self, timeout: Duration) -> Result<()>;

    /// Returns how far the reading is.
    fn extent(&self) -> ByteProgress;

    /// Whether the input brings the progress messages of its partitions itself, as frames do. The source makes those of the
    /// other inputs.
    fn tells_progress(&self) -> bool {
        false
    }

    /// Notes the positions before which every row has been handed to `ingest`, if a commit is due; returns whether it did.
    fn note(&mut self, _ingest: &mut Ingest) -> Result<bool> {
        Ok(false)
    }

    /// Whether positions are noted and not committed yet.
    fn has_noted(&self) -> bool {
        false
    }

    /// Commits the noted positions: the outputs have made every row before them durable.
    fn commit(&mut self, _ingest: &mut Ingest) -> Result<()> {
        Ok(())
    }

    /// Commits the last positions: the run has ended and its outputs are durable.
    fn commit_end(&mut self, _ingest: &mut Ingest) -> Result<()> {
        Ok(())
    }

    /// Returns how far reading is behind, by partition of a topic; `now` is the current time (µs).
    fn lag(&self, _now: i64) -> Vec<Lag> {
        vec![]
    }

    /// Reports the records that were read or acknowledged and that the outputs lack: the run fails.
    fn report_lost(&mut self) {}
}
