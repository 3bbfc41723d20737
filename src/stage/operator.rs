//! Operators, which process the rows of a tool, and collectors, which take their results.
//!
//! An operator gets no files, outputs or clock from the stage, so the same operator runs in a tool and in a simulation.
//! The operators of evt-backfill have their own store, target and ledger; the operator of evt-validate has a registry.

use super::feeds::{FeedInput, Feeds};
use crate::output::OutputReport;
use crate::source;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use evt_core::counts::Counts;
use evt_core::error::Result;
use evt_core::format::Format;
use evt_core::frame::{Control, End, EndReason};
use evt_core::kind::dead::{ErrorType, Fault, Rejected};
use evt_core::op::state_storage::StateStorage;
use evt_core::op::window::watermark::ContinuedTopic;
use evt_run::emit::Dead;
use evt_run::input::UnreadPartition;
use evt_run::metrics::Metrics;
use std::collections::BTreeMap;
use std::time::Duration;

/// Processes the rows of one stage.
pub trait Operator {
    /// Processes a batch. Returns the counts of its rows: `taken` is all of them, and each has one outcome. Rows given
    /// to [`Collector::dead`] are not in `dead`: the stage counts them.
    fn on_batch(&mut self, batch: RecordBatch, from: FeedInput, out: &mut dyn Collector) -> Result<Counts>;

    /// Processes a control message other than an end. Passes it on by default.
    fn on_control(&mut self, message: Control, _from: FeedInput, out: &mut dyn Collector) -> Result<()> {
        out.control(&message)
    }

    /// Does time-driven work. The stage calls it if no record has arrived for some time, or before a commit.
    fn on_idle(&mut self, _out: &mut dyn Collector) -> Result<()> {
        Ok(())
    }

    /// The stage calls it when the operator has all rows read so far, before it waits for input. `unread` returns the
    /// partitions of which rows may be missing.
    fn on_drained(&mut self, _unread: &dyn Fn() -> Vec<UnreadPartition>, _out: &mut dyn Collector) -> Result<()> {
        Ok(())
    }

    /// The stage calls it once, when every input has been read to its present end. Returns the counts of rows that had
    /// no outcome yet.
    fn on_caught_up(&mut self, _out: &mut dyn Collector) -> Result<Counts> {
        Ok(Counts::default())
    }

    /// Emits the remaining results at the end of the input; returns the counts of rows that have had no outcome before.
    /// The stage does not call it if an input is torn.
    fn on_end(&mut self, _end: &InputEnded, _out: &mut dyn Collector) -> Result<Counts> {
        Ok(Counts::default())
    }

    /// Shows the results so far after reading has failed (evt-view).
    fn on_failure(&mut self, _out: &mut dyn Collector) -> Result<()> {
        Ok(())
    }

    /// Whether the operator needs no more rows.
    fn is_done(&self) -> bool {
        false
    }

    /// Returns the watermark (µs) up to which the operator has written all results; `None` if it has no watermark.
    fn watermark(&self) -> Option<i64> {
        None
    }

    /// Returns the state of the operator, with the settings that the state depends on. The default is an empty state.
    fn snapshot(&mut self) -> Snapshot {
        Snapshot::default()
    }

    /// Lets state that exceeds memory go to files of a checkpoint. The stage calls it before anything else, if there is
    /// a checkpoint.
    fn set_storage(&mut self, _storage: Box<dyn StateStorage>) {}

    /// Returns the names of the files that the next [`Operator::snapshot`] refers to. Errors: exit status 74.
    fn state_files(&mut self) -> Result<Vec<String>> {
        Ok(vec![])
    }

    /// Returns the part of an operator that keeps the positions of its feeds itself.
    fn feeds(&mut self) -> Option<&mut dyn FeedOperator> {
        None
    }

    /// Returns the operator with the state of an [`Operator::snapshot`]. Errors: exit status 78 if the state was
    /// made with other options, 65 if it is damaged.
    fn restore(self: Box<Self>, state: &[u8]) -> Result<Box<dyn Operator>>;

    /// Begins another run after [`Operator::restore`]: its inputs are new, but for those that it continues.
    fn begin_run(&mut self, _continued: &[ContinuedTopic]) {}
}

/// An operator over several feeds, which stores its state and the positions of its feeds itself (evt-alert).
pub trait FeedOperator {
    /// Returns the stream time (µs) to which a feed was read. The feed with the least one is polled first.
    fn read_to(&self, feed: usize) -> Option<i64>;

    /// The stage calls it before it polls a feed.
    fn before_poll(&mut self, feed: usize, source: &mut source::Source) -> Result<()>;

    /// The stage calls it when a feed has nothing to read now.
    fn on_waiting(&mut self, feed: usize, source: &mut source::Source) -> Result<()>;

    /// Takes dead letters of the records of a feed, and writes them.
    fn on_letters(&mut self, feed: usize, letters: Dead) -> Result<()>;

    /// The stage calls it when a feed has ended and the operator has all its rows.
    fn on_feed_end(&mut self, feed: usize, source: &mut source::Source, how: EndReason) -> Result<()>;

    /// Does the time-driven work. The stage calls it in every step.
    fn on_step(&mut self, out: &mut dyn Collector) -> Result<()>;

    /// Whether the committed offsets of a feed may move to where it was read: the state with its positions is stored.
    /// If it is not, the operator may request that it is stored ([`FeedOperator::begin_store`]).
    fn is_stored(&mut self, feed: usize) -> bool;

    /// Begins to store the state, if that is due. Returns the feeds of which the stage must pass on all items so far
    /// first, with the number of these items; `None` if nothing is to be stored now.
    fn begin_store(&mut self, feeds: &mut Feeds) -> Result<Option<Vec<(usize, u64)>>>;

    /// Stores the state with the positions that the feeds had in [`FeedOperator::begin_store`].
    fn store(&mut self, feeds: &mut Feeds) -> Result<()>;

    /// Corrects the counts of the stage by what is known only later, and by dead letters that could not be written.
    fn recount(&self, counts: &mut Counts);

    /// Returns figures for the status of the service manager, beside the counts.
    fn status(&self) -> String;

    /// Waits until the outputs of the operator have accepted or rejected every row, at the end.
    fn conclude(&mut self, out: &mut dyn Collector) -> Result<()>;

    /// Returns a line for each feed whose rows are lost if the run fails now.
    fn lost(&self, feeds: &Feeds) -> Vec<String>;

    /// Ends the outputs of the operator at `end`, and may change its exit status.
    fn close(&mut self, end: &mut End, run: &StageEnd<'_>, out: &mut dyn Collector) -> Result<OutputsEnded>;
}

/// A stage at its end.
pub struct StageEnd<'a> {
    /// The counts of all records.
    pub counts: &'a Counts,
    /// The feeds.
    pub feeds: &'a Feeds,
}

/// The results of the outputs of an operator.
pub struct OutputsEnded {
    /// The report of each output.
    pub outputs: Vec<OutputReport>,
    /// The number of dead letters by type.
    pub dead: BTreeMap<ErrorType, u64>,
}

/// The state of an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The settings that the state depends on, as text: metrics, spans and others; empty if there is no state.
    pub spec: String,
    /// The serialized state; empty if there is none.
    pub state: Vec<u8>,
}

/// The end of an operator's input.
#[derive(Clone, Copy, Debug)]
pub struct InputEnded {
    /// The end; its `rows` is the number of rows that were read.
    pub end: End,
    /// Whether every input has proved that no row is missing, as `evt.end` does. A file of text has no such proof, so
    /// false does not mean that its rows are missing.
    pub is_proven: bool,
}

/// Takes the results of an operator.
pub trait Collector {
    /// Writes rows to every output.
    fn rows(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Returns the schema of the rows that are written.
    fn schema(&self) -> SchemaRef;

    /// Writes a control message to the outputs that carry them.
    fn control(&mut self, message: &Control) -> Result<()>;

    /// Shows that `done` of `total` units of work are done. An operator calls it if it knows its progress better than
    /// the source.
    fn show_part(&mut self, done: u64, total: u64);

    /// Makes a dead letter of a row of the input and counts it.
    fn dead(&mut self, batch: &RecordBatch, row: usize, fault: &Fault) -> Result<()>;

    /// Writes rows to the side output, if there is one. Returns the rows that it rejected.
    fn side(&mut self, rows: &RecordBatch) -> Result<Vec<Rejected>>;

    /// Whether there is a side output.
    fn has_side(&self) -> bool;

    /// Returns how many rows the side output has accepted.
    fn side_rows(&self) -> u64;

    /// Makes a dead letter of a row that the side output rejected.
    fn rejected(&mut self, batch: &RecordBatch, rejected: &Rejected) -> Result<()>;

    /// Writes the waiting dead letters of records before row number `end` of the input, counted from 0.
    fn release_letters(&mut self, end: u64) -> Result<()>;

    /// Writes buffered rows and dead letters, so that a waiting reader gets them.
    fn flush(&mut self) -> Result<()>;

    /// Writes the tool's own text to the outputs; `text` returns it for the format of an output, or `None`.
    fn text(&mut self, text: &dyn Fn(&Format) -> Option<String>) -> Result<()>;

    /// Returns the format of each output that has one.
    fn formats(&self) -> Vec<&'static Format>;

    /// Returns the current time (µs since 1970).
    fn now(&self) -> i64;

    /// Returns the monotonic time.
    fn elapsed(&self) -> Duration;

    /// Whether a signal has requested that the run stop.
    fn is_stopping(&self) -> bool;

    /// Returns the metrics of the run.
    fn metrics(&self) -> &Metrics;

    /// Prints a message at once.
    fn report(&mut self, message: Note);

    /// Adds a message to the report at the end of the run.
    fn note(&mut self, message: Note);

    /// Sets figures that stand behind the counts in the line at the end; `None` leaves out the line.
    fn figures(&mut self, text: Option<String>);

    /// Adds an entry to `--stats`.
    fn detail(&mut self, name: &str, value: serde_json::Value);

    /// Raises the exit status of the run to at least `verdict`.
    fn set_verdict(&mut self, verdict: u8);
}

impl dyn Collector + '_ {
    /// Adds a line about lost rows to the report at the end of the run; `-q` keeps it.
    pub fn warn(&mut self, line: impl Into<String>) {
        self.note(Note::Warning(line.into()));
    }

    /// Adds a line to the report at the end of the run that `-q` leaves out.
    pub fn inform(&mut self, line: impl Into<String>) {
        self.note(Note::Info(line.into()));
    }
}

/// A line of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A line that `-q` leaves out.
    Info(String),
    /// A line about lost rows, which `-q` keeps.
    Warning(String),
}

/// Passes rows and control messages on unchanged (evt-ingest, evt-sink).
pub struct Pass;

impl Operator for Pass {
    fn on_batch(&mut self, batch: RecordBatch, _from: FeedInput, out: &mut dyn Collector) -> Result<Counts> {
        out.rows(&batch)?;
        let rows = batch.num_rows() as u64;
        Ok(Counts { taken: rows, out: rows, ..Counts::default() })
    }

    fn restore(self: Box<Self>, _state: &[u8]) -> Result<Box<dyn Operator>> {
        Ok(self)
    }
}
