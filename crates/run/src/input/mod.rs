//! Inputs of a stage: one [`Input`] for each kind of source.
//!
//! ```text
//! file, pipe ─► bytes ─► unopened: finds the format ─┬─► text       records of a text format         ┐
//!                                                    ├─► frames     rows with their stamps           │
//!                                                    └─► container  rows of Parquet, Avro, …         ├─► emitter ─►
//! --follow ─► follow::watch ─► unopened ───────────────► follow     lines of all files of one name   │   batches,
//! store ───────────────────────────────────────────────► container  rows of a table                  │   dead
//! HTTP server ─► crate::spool ─────────────────────────► spool      records of kept requests         │   letters,
//! topics ──────────────────────────────────────────────► evt_kafka::input                         │   control
//! evt-gen ─────────────────────────────────────────────► generated  records from a seed              ┘   messages
//! ```
//!
//! All inputs of a run share one [`RecordEmitter`]. [`Input::step`] reads what is available and [`Input::wait`] waits
//! for more. A step on a compressed pipe may wait, because its decompressor cannot stop inside a block. A step that
//! opens a container from a pipe waits for all of it, and copies it to a temporary file.
//!
//! `buffer_pool` has the buffers of bytes, `content/` knows files by their content, `position` tells where an input
//! continues, `lag` and `reached` how far topics are read, `topic_id` the id of a topic.
//!
//! Failures: a record that cannot be read becomes a dead letter and reading continues. Input that breaks off within a
//! frame or a container is torn, and a damaged one is corrupt; the rows before the fault are passed on, then the run
//! ends with exit status 65. [`EndProof`] states whether the input could have lost rows without a trace.

pub mod buffer_pool;
pub mod bytes;
#[cfg(test)]
mod bytes_tests;
pub mod container;
pub mod content;
pub mod follow;
pub mod frames;
pub mod generated;
mod lag;
pub mod position;
mod reached;
pub mod spool;
#[cfg(test)]
mod test_data;
pub mod text;
pub mod topic_id;
pub mod unopened;

use crate::emit::{ByteProgress, RecordEmitter};
use evt_core::counts::DoneRecords;
use evt_core::error::Result;
use evt_core::frame::EndReason;
use evt_core::mapping::Reach;
use std::time::Duration;

pub use lag::Lag;
pub use position::InputPosition;
pub use reached::{ReadPosition, UnreadPartition};

/// The result of a step of an input.
pub enum Step {
    /// There may be more.
    More,
    /// There is nothing to read now.
    Idle,
    /// The input has ended.
    End,
    /// A signal stopped the reading.
    Stopped,
    /// The format is known: this input replaces the one that found it.
    Opened(Box<dyn Input>),
}

/// One input of a run.
pub trait Input {
    /// Reads the available records into `emitter`, at most about a batch. Does not wait for more.
    fn step(&mut self, emitter: &mut RecordEmitter) -> Result<Step>;

    /// Waits until there may be something to read, a signal arrives, or `timeout` has passed.
    /// An input whose steps are never [`Step::Idle`] has nothing to wait for.
    fn wait(&mut self, _timeout: Duration) -> Result<()> {
        Ok(())
    }

    /// Returns the number of bytes read, and the total if it is known.
    fn progress(&self) -> ByteProgress {
        ByteProgress::default()
    }

    /// Whether an unknown time may pass before the next rows, as with a pipe. A file that the run reads to its end is
    /// not live: its batches, and so the panes of its windows, must not depend on the load of the machine.
    fn is_live(&self) -> bool {
        true
    }

    /// Returns what records without an arrival are read from: it decides how many rows `--max-future` reads ahead.
    fn reach(&self) -> Reach {
        Reach::Live
    }

    /// Whether the input reports its partitions itself, as frames do. The source reports those of the other inputs.
    fn reports_partitions(&self) -> bool {
        false
    }

    /// Whether the partitions end with the input. They do not if the input reports its partitions itself, or if a later
    /// run continues them.
    fn ends_partitions(&self) -> bool {
        !self.reports_partitions()
    }

    /// Whether the input never ends, so that the source must read other inputs in between (`--follow`).
    fn takes_turns(&self) -> bool {
        false
    }

    /// Returns the outcome of the input, once it has ended or was stopped.
    fn end(&self) -> InputEnd {
        InputEnd { how: EndReason::Exhausted, proof: EndProof::Proven, verdict: 0 }
    }

    /// Whether the input commits positions or writes a report at the end. Such an input is kept until the run has
    /// ended.
    fn commits(&self) -> bool {
        false
    }

    /// Notes the positions before which `emitter` has received every record, if a commit is due; returns whether it has
    /// noted positions.
    fn note(&mut self, _emitter: &mut RecordEmitter) -> Result<bool> {
        Ok(false)
    }

    /// Notes the positions of an epoch, which are committed once it is complete.
    fn note_epoch(&mut self, _emitter: &mut RecordEmitter) {}

    /// Whether noted positions wait for their commit.
    fn has_noted(&self) -> bool {
        false
    }

    /// Commits the noted positions. The caller has made every row before them durable in the outputs.
    fn commit(&mut self, _emitter: &mut RecordEmitter) -> Result<()> {
        Ok(())
    }

    /// Commits the last positions or writes the report, after the run has ended and its outputs are durable.
    fn commit_end(&mut self, _emitter: &mut RecordEmitter) -> Result<()> {
        Ok(())
    }

    /// Handles an incomplete last record when a signal stops the run before the end of the input: reads it, leaves it
    /// to a later run, or reports that it is not read.
    fn stop(&mut self, _emitter: &mut RecordEmitter) -> Result<()> {
        Ok(())
    }

    /// Returns how far a followed name or a spool is read, for a checkpoint: every record before the position has been
    /// passed on. `None` for other inputs, and for a spool without a position noted for the epoch.
    fn checkpoint_position(&mut self) -> Result<Option<InputPosition>> {
        Ok(None)
    }

    /// Checks that what was read is of the topics that [`Input::reached`] names, before positions are stored.
    fn confirm(&mut self, _emitter: &mut RecordEmitter) -> Result<()> {
        Ok(())
    }

    /// Returns how far each partition of a topic is read: every row before its position is in the queue of `emitter`.
    fn reached(&self, _emitter: &mut RecordEmitter) -> Vec<ReadPosition> {
        vec![]
    }

    /// The same; `stores`: the positions are to be stored.
    fn reached_now(&mut self, stores: bool, emitter: &mut RecordEmitter) -> Result<Vec<ReadPosition>> {
        if stores {
            self.confirm(emitter)?;
        }
        Ok(self.reached(emitter))
    }

    /// Returns the live partitions of which the input has not read all rows up to now. The source sets
    /// [`UnreadPartition::input`].
    fn unread(&self) -> Vec<UnreadPartition> {
        vec![]
    }

    /// Returns the lag of each partition of a topic; `now` is the current time (µs).
    fn lag(&self, _now: i64) -> Vec<Lag> {
        vec![]
    }

    /// Reports, in a run that fails, the acknowledged records that the outputs do not have. `done` counts records of
    /// this input; `None` if the run has others.
    fn report_lost(&mut self, _done: Option<DoneRecords>) {}
}

/// Whether an input has proved that no row is missing; the weakest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndProof {
    /// The input may have been truncated without a trace: a pipe of text, or rows that another program wrote.
    Missing,
    /// A file of text or of Avro has no mark at its end.
    Impossible,
    /// The input has proved that it is complete.
    Proven,
}

impl EndProof {
    /// Returns the proof of an input without a mark at its end: a regular file, or a pipe.
    pub fn of_unmarked(is_regular: bool) -> Self {
        if is_regular { Self::Impossible } else { Self::Missing }
    }
}

/// The outcome of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputEnd {
    /// The reason for the end: a signal may have stopped this stage or one before it.
    pub how: EndReason,
    /// Whether no row is missing.
    pub proof: EndProof,
    /// The worst exit verdict of the stages before this one and of the input itself.
    pub verdict: u8,
}

impl InputEnd {
    /// Adds the end of a further input: keeps the weakest proof, the worst verdict, and whether any input was stopped.
    pub fn add(&mut self, other: Self) {
        let how = if other.how == EndReason::Stopped { other.how } else { self.how };
        *self = Self { how, proof: self.proof.min(other.proof), verdict: self.verdict.max(other.verdict) };
    }
}
