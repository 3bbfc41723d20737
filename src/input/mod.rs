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
pub mod container;
pub mod follow;
pub mod frames;
mod lag;
pub mod spool;
pub mod text;
pub mod unopened;

use crate::error::Result;
use crate::frame::How;
use crate::ingest::{ByteProgress, Ingest};
use std::time::Duration;

pub use lag::Lag;

/// How a step of an input ended.
pub enum Step {
    /// There may be more.
    More,
    /// There is nothing to read now.
    Idle,
    /// The input is at its end.
    End,
    /// A signal stopped the reading.
    Stopped,
    /// The format is known: this input takes the place of the one that found it.
    Opened(Box<dyn Input>),
}

/// One input of a run.
pub trait Input {
    /// Reads what is there, at most about a batch, into `ingest`. Does not wait for more.
    fn step(&mut self, ingest: &mut Ingest) -> Result<Step>;

    /// Waits until there may be something to read, a signal arrives, or `timeout` has passed.
    fn wait(&mut self, timeout: Duration) -> Result<()>;

    /// Returns how much of it has been read.
    fn progress(&self) -> ByteProgress;

    /// Whether the next rows may be a while in coming. A file that is read to its end has them all: its batches, and with them
    /// the panes of its windows, do not depend on how busy the machine is.
    fn is_live(&self) -> bool {
        true
    }

    /// Whether the input reports its partitions itself, as frames do. The source reports those of the other inputs.
    fn reports_partitions(&self) -> bool {
        false
    }

    /// Whether it never ends, so that the other inputs must have their turn while it is read (`--follow`).
    fn takes_turns(&self) -> bool {
        false
    }

    /// Returns what is known of its end, once it has ended or was stopped.
    fn end(&self) -> InputEnd {
        InputEnd { how: How::Exhausted, is_proven: true, verdict: 0 }
    }

    /// Whether it commits positions. Such an input is kept until the run has ended.
    fn commits(&self) -> bool {
        false
    }

    /// Notes the positions before which every record has been handed to `ingest`, if a commit is due; returns whether it did.
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

    /// Reports the records that were acknowledged and that the outputs lack: the run fails.
    fn report_lost(&mut self) {}
}

/// What is known of the end of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputEnd {
    /// How the stages before this one ended.
    pub how: How,
    /// Whether it is proven that nothing is missing.
    pub is_proven: bool,
    /// The worst verdict of the stages before this one, and of the input itself.
    pub verdict: u8,
}
