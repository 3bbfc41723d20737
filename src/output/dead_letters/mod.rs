//! Dead letters of a stage: written to `--dlq`, or reported and counted as dropped.
//!
//! ```text
//! source: Dead ─► take ─► WaitingLetters (until the operator has the rows before) ─┐
//! operator, outputs: row and Fault ─► push_row ─► Builder ─────────────────────────┼─► note: counts, a line on stderr
//! brokers: RejectedRecord ─► push_rejected ─► Builder ─────────────────────────────┘     ▼ with --dlq
//! lost: letters that --dlq rejects ◄── --dlq ◄── flush ◄────────────────────────────── LetterBuffer (1024 letters)
//! ```
//!
//! The stage buffers and writes two kinds of letters together: letters of the source (records that could not become
//! rows), and letters of the stage (rows that it or an output rejected). The first row or a full buffer opens the
//! output.

mod reported;

use self::reported::{Reported, Reports};
use crate::output::epochs::{CompleteEpoch, EpochPlan, RejectedByCommit, RejectedLetters};
use crate::output::{Output, OutputPlan, OutputReport, StageRows, stamped};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use evt_core::counts::Counts;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::frame::End;
use evt_core::kind::dead::{ErrorType, Fault, Letter, column};
use evt_core::kind::headers::Headers;
use evt_core::kind::{self, Kind};
use evt_core::op::row_letter::with_letter;
use evt_kafka::produce::RejectedRecord;
use evt_kafka::produce::shared::SharedProducer;
use evt_run::checkpoint::epoch::Epoch;
use evt_run::checkpoint::log::EpochPart;
use evt_run::console::Faulty;
use evt_run::emit::Dead;
use evt_run::run::{Report, Run};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Buffered letters are written when they reach this size (bytes of payloads; letters of the stage also count headers
/// and messages).
const HELD_BYTES: usize = 256 << 10;
/// Buffered letters are written when they reach this number.
const HELD_ROWS: usize = 1024;
/// Interval of the lines about faulty records after the first ones (µs).
const REPORT_EVERY: i64 = 60_000_000;

/// Adds a remedy to the error if two stages of a pipe write an output that allows one writer.
pub fn alone(error: Error) -> Error {
    match error.kind() {
        ErrorKind::InUse => error.because("stages can share a dead-letter output only as JSONL, CSV or SQLite"),
        _ => error,
    }
}

/// The output of dead letters, and whether it is open.
enum LetterOutput {
    /// No output: letters are dropped.
    Nowhere,
    /// An output that is opened by the first row, or when the buffer is full.
    Unopened(Box<OutputPlan>),
    /// An open output.
    Open(Box<Output>),
    /// An output that has ended.
    Ended,
}

/// The output of a stage's faulty records.
pub struct DeadLetters {
    run: Rc<Run>,
    outlet: LetterOutput,
    held: LetterBuffer,
    /// Builds letters of the stage; they follow the batches in `held`.
    builder: kind::letters::Builder,
    /// Number of faulty records for the limit of `--report`, reported or not.
    reported: u64,
    /// Time of the next line about faulty records (µs).
    next_report: i64,
    /// Letters that the output rejected even after truncation.
    pub lost: LostLetters,
    /// The number of letters so far by error type.
    pub by_type: BTreeMap<ErrorType, u64>,
    /// The number of partial letters so far, which are no outcomes.
    pub partial: u64,
    /// The number of letters of records that the source could not make rows of, without letters that still wait in
    /// `hold`.
    pub from_source: u64,
    hold: Option<WaitingLetters>,
    /// The producer whose transactions have the letters, if there is one.
    transactions: Option<Rc<SharedProducer>>,
}

/// The buffer of letters that will be written together.
#[derive(Default)]
struct LetterBuffer {
    batches: Vec<RecordBatch>,
    /// Letters in `batches` and in the builder.
    rows: usize,
    /// Their bytes, as [`HELD_BYTES`] counts them.
    bytes: usize,
    /// Monotonic time at which the first of them was added.
    since: Option<Duration>,
}

/// Letters that could not be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostLetters {
    /// The number of letters of records that the stage found faulty.
    pub of_stage: u64,
    /// The number of letters of rows that an output rejected.
    pub of_outputs: u64,
}

impl LostLetters {
    /// Returns the number of all of them.
    pub fn total(&self) -> u64 {
        self.of_stage + self.of_outputs
    }
}

/// Letters of the source that wait until the operator has processed the rows before them.
struct WaitingLetters {
    /// Letters before row number `end` are released.
    end: u64,
    waiting: VecDeque<Dead>,
}

impl WaitingLetters {
    /// Removes the first letters that are released; `None` if there are none left.
    fn release(&mut self) -> Option<RecordBatch> {
        let front = self.waiting.front_mut()?;
        let released = front.split_before(self.end);
        if front.after.is_empty() {
            self.waiting.pop_front();
        }
        (released.num_rows() > 0).then_some(released)
    }
}

impl DeadLetters {
    /// Creates the output of a run's letters. Without a `plan` letters are dropped.
    pub fn new(run: Rc<Run>, plan: Option<OutputPlan>) -> Self {
        let builder = kind::letters::Builder::new(run.console.tool(), &Run::host());
        Self {
            run,
            outlet: plan.map_or(LetterOutput::Nowhere, |plan| LetterOutput::Unopened(Box::new(plan))),
            held: LetterBuffer::default(),
            builder,
            reported: 0,
            next_report: i64::MIN,
            lost: LostLetters::default(),
            by_type: BTreeMap::new(),
            partial: 0,
            from_source: 0,
            hold: None,
            transactions: None,
        }
    }

    /// Lets the letters be in the transactions of the producer.
    pub fn in_transactions(&mut self, producer: Rc<SharedProducer>) {
        self.transactions = Some(producer);
    }

    /// Opens the output, if there is one that is not open yet.
    pub fn open(&mut self) -> Result<()> {
        self.outlet = match std::mem::replace(&mut self.outlet, LetterOutput::Nowhere) {
            LetterOutput::Unopened(plan) => {
                let schema = stamped(&Kind::Dead.schema(), StageRows::default(), &self.run);
                let opened = plan.open_in(self.transactions.as_deref(), &schema, &self.run);
                LetterOutput::Open(Box::new(opened.map_err(alone)?))
            }
            other => other,
        };
        Ok(())
    }

    /// Returns the output before it is open.
    pub fn plan(&self) -> Option<&OutputPlan> {
        if let LetterOutput::Unopened(plan) = &self.outlet { Some(plan) } else { None }
    }

    /// Lets letters wait in a checkpoint until their epoch is complete.
    pub fn in_epochs(&mut self, epochs: EpochPlan) {
        self.outlet = match std::mem::replace(&mut self.outlet, LetterOutput::Nowhere) {
            LetterOutput::Unopened(plan) => LetterOutput::Unopened(Box::new(plan.in_epochs(epochs))),
            other => other,
        };
    }

    /// Returns the output, if it is open.
    pub fn output(&mut self) -> Option<&mut Output> {
        if let LetterOutput::Open(output) = &mut self.outlet { Some(output) } else { None }
    }

    /// Drops an output that was not opened, so that its buffered letters are never written: the run fails with a usage
    /// error.
    pub fn discard(&mut self) {
        if let LetterOutput::Unopened(_) = self.outlet {
            self.outlet = LetterOutput::Nowhere;
        }
    }

    /// Whether letters are written; if not, their records count as `dropped`.
    pub fn is_written(&self) -> bool {
        !matches!(self.outlet, LetterOutput::Nowhere)
    }

    /// Returns the number of letters so far.
    pub fn total(&self) -> u64 {
        self.by_type.values().sum()
    }

    /// Makes letters of the source wait until [`DeadLetters::release_before`] releases them.
    pub fn hold(&mut self) {
        self.hold = Some(WaitingLetters { end: 0, waiting: VecDeque::new() });
    }

    /// Adds letters of the source.
    pub fn take(&mut self, dead: &Dead) -> Result<()> {
        let Some(hold) = &mut self.hold else {
            self.from_source += dead.letters.num_rows() as u64;
            return self.push_batch(&dead.letters);
        };
        let mut waiting = dead.clone();
        let released = waiting.split_before(hold.end);
        if !waiting.after.is_empty() {
            hold.waiting.push_back(waiting);
        }
        self.from_source += released.num_rows() as u64;
        self.push_batch(&released)
    }

    /// Adds letters that an earlier run has counted.
    pub fn take_again(&mut self, letters: &RecordBatch) -> Result<()> {
        self.push_batch(letters)
    }

    /// Adds the waiting letters that come before row number `end`, counted from 0.
    pub fn release_before(&mut self, end: u64) -> Result<()> {
        let Some(hold) = &mut self.hold else { return Ok(()) };
        hold.end = hold.end.max(end);
        let released = Vec::from_iter(std::iter::from_fn(|| hold.release()));
        for letters in &released {
            self.from_source += letters.num_rows() as u64;
            self.push_batch(letters)?;
        }
        Ok(())
    }

    /// Counts letters. Buffers them for the output; without an output, or with `--report all`, also reports them.
    fn push_batch(&mut self, letters: &RecordBatch) -> Result<()> {
        if letters.num_rows() == 0 {
            return Ok(());
        }
        self.note_batch(letters);
        if self.is_written() {
            self.end_batch()?;
            self.held.batches.push(letters.clone());
            self.count_buffered(letters.num_rows(), payload_bytes(letters))?;
        }
        Ok(())
    }

    /// Counts letters; without an output, or with `--report all`, also reports them.
    fn note_batch(&mut self, letters: &RecordBatch) {
        let faults = Reports::of(letters);
        (0..letters.num_rows()).for_each(|row| self.note(&faults.row(row)));
    }

    /// Counts one letter; without an output, or with `--report all`, also reports it.
    fn note(&mut self, reported: &Reported<'_>) {
        match reported.is_partial {
            true => self.partial += 1,
            false => *self.by_type.entry(reported.error_type).or_default() += 1,
        }
        if !self.is_written() || self.run.report == Report::All {
            self.report(reported);
        }
    }

    /// Adds one letter; `has_position` is false if its record has only a name.
    fn push(&mut self, letter: &Letter<'_>, has_position: bool) -> Result<()> {
        self.note(&Reported::of(letter, has_position));
        if self.is_written() {
            let before = self.builder.bytes();
            self.builder.push(letter, self.run.clock.now())?;
            self.count_buffered(1, self.builder.bytes() - before)?;
        }
        Ok(())
    }

    /// Appends the letters in the builder to the buffered batches, so that letters stay in their order.
    fn end_batch(&mut self) -> Result<()> {
        if !self.builder.is_empty() {
            self.held.batches.push(self.builder.finish()?);
        }
        Ok(())
    }

    /// Counts letters that were added to the buffer; writes the buffer if it is full.
    fn count_buffered(&mut self, rows: usize, bytes: usize) -> Result<()> {
        let held = &mut self.held;
        held.rows += rows;
        held.bytes += bytes;
        held.since.get_or_insert(self.run.clock.monotonic());
        if held.rows >= HELD_ROWS || held.bytes >= HELD_BYTES { self.flush() } else { Ok(()) }
    }

    /// Adds the letter of a row that the stage or an output rejected. A row that is a dead letter itself stays a
    /// letter, with the new fault.
    pub fn push_row(&mut self, batch: &RecordBatch, row: usize, fault: &Fault) -> Result<()> {
        if Kind::of(batch.schema_ref()) == Some(Kind::Dead) {
            let letter = self.builder.failed_again(batch, row, fault, self.run.clock.now())?;
            return self.push_batch(&letter);
        }
        with_letter(batch, row, fault, None, |letter, has_position| self.push(letter, has_position))
    }

    /// Counts one faulty record: as dead if letters are written, otherwise as dropped.
    pub fn count(&self, counts: &mut Counts) {
        if self.is_written() {
            counts.dead += 1;
        } else {
            counts.dropped += 1;
        }
    }

    /// Adds the letter of a row that an output accepted and its brokers rejected later.
    pub fn push_rejected(&mut self, rejected: &RejectedRecord) -> Result<()> {
        let RejectedRecord { row, fault, record, topic } = rejected;
        let headers = record.headers.is_some().then_some(record as &dyn Headers);
        if let Some(row) = row {
            return with_letter(row, 0, fault, headers, |letter, has_position| self.push(letter, has_position));
        }
        let (key, origin, partition) = (record.key.as_deref(), topic.as_str(), "0");
        let letter =
            Letter { payload: &record.value, key, headers, arrived_at: None, fault, origin, partition, offset: 0 };
        self.push(&letter, false)
    }

    /// Prints a line about a faulty record, as `--report` limits them.
    fn report(&mut self, reported: &Reported<'_>) {
        let console = &self.run.console;
        let line = || {
            let Reported { error_type, message, origin, partition, offset, has_headers, .. } = *reported;
            let position = match (partition, offset) {
                // A metric has only a name.
                (_, None) => origin.to_owned(),
                // A file has no partitions.
                ("0", Some(offset)) if !has_headers => format!("{origin}:{offset}"),
                (partition, Some(offset)) => format!("{origin}/{partition}@{offset}"),
            };
            let (offset, error_type) = (offset.unwrap_or(0), error_type.name());
            console.report(&Faulty { position, origin, partition, offset, error_type }, message);
        };
        self.reported += 1;
        match self.run.report {
            Report::All => line(),
            // Only the summary reports faulty records.
            Report::First(0) => {}
            Report::First(limit) if self.reported <= limit => line(),
            Report::First(limit) => {
                let now = self.run.clock.now();
                if self.reported == limit + 1 {
                    console.say("further faulty records are counted in one line per minute (--report all reports each, --dlq FILE keeps them)");
                    self.next_report = now + REPORT_EVERY;
                } else if now >= self.next_report {
                    console.say(format!("{} faulty records so far", self.reported));
                    self.next_report = now + REPORT_EVERY;
                }
            }
        }
    }

    /// Does time-driven work: writes letters that have waited long enough, and lets the output do its own time-driven
    /// work.
    pub fn tick(&mut self) -> Result<()> {
        self.flush_due()?;
        self.output().map_or(Ok(()), Output::tick)?;
        self.take_rejected();
        Ok(())
    }

    /// Writes the buffer if its oldest letter has waited for [`Run::LINGER`]. Letters are not written one by one,
    /// because a batch of one letter costs as much as a hundred rows. Does nothing before the output is open.
    pub fn flush_due(&mut self) -> Result<()> {
        let is_held = matches!(self.outlet, LetterOutput::Unopened(_));
        if !is_held
            && self.held.since.is_some_and(|since| self.run.clock.monotonic().saturating_sub(since) >= Run::LINGER)
        {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Writes the buffered letters; opens the output if necessary.
    pub fn flush(&mut self) -> Result<()> {
        self.end_batch()?;
        if self.held.batches.is_empty() {
            return Ok(());
        }
        self.open()?;
        let held = std::mem::take(&mut self.held).batches;
        let LetterOutput::Open(output) = &mut self.outlet else { return Ok(()) };
        let letters = match held.as_slice() {
            [letters] => letters.clone(),
            several => concat_batches(&several[0].schema(), several)?,
        };
        let rejected = output.write(&letters)?;
        output.flush()?;
        rejected.iter().for_each(|rejected| self.lose(&rejected.fault, is_of_output(&letters, rejected.row)));
        self.take_rejected();
        Ok(())
    }

    /// Counts the letters that brokers rejected even after truncation.
    fn take_rejected(&mut self) {
        for lost in self.output().map_or(vec![], Output::take_rejected) {
            self.lose(&lost.fault, lost.row.as_ref().is_some_and(|letter| is_of_output(letter, 0)));
        }
    }

    /// Counts a letter that cannot be written, and warns of the first one.
    fn lose(&mut self, fault: &Fault, of_output: bool) {
        match of_output {
            true => self.lost.of_outputs += 1,
            false => self.lost.of_stage += 1,
        }
        if self.lost.total() == 1 {
            let name = self.output().map_or("", |output| &output.name).to_owned();
            self.run.console.warn(format!("{name}: a dead letter cannot be written and is dropped: {}", fault.message));
        }
    }

    /// Writes the buffered letters and makes all letters so far durable.
    pub fn settle(&mut self) -> Result<()> {
        self.flush()?;
        if let Some(output) = self.output() {
            output.conclude()?;
            output.settle()?;
        }
        self.take_late();
        self.take_rejected();
        Ok(())
    }

    /// Ends the epoch in progress with the letters so far, and begins `next`; returns the part with these letters.
    pub fn seal_epoch(&mut self, next: Epoch) -> Result<Option<EpochPart>> {
        self.flush()?;
        let part = self.output().map_or(Ok(None), |output| output.seal_epoch(next))?;
        self.take_late();
        Ok(part)
    }

    /// Begins to write the letters of a complete epoch to the output, followed by the letters of rows that other
    /// outputs could not hold at this commit.
    pub fn begin_commit(&mut self, complete: &Arc<CompleteEpoch>, rejected: Vec<RejectedByCommit>) -> Result<()> {
        rejected.iter().try_for_each(|rejected| self.note_rejected(rejected))?;
        let letters = RejectedLetters::new(self.run.console.tool(), rejected);
        let Some(output) = self.output() else { return Ok(()) };
        match letters.is_empty() {
            true => output.begin_commit(complete),
            false => output.begin_commit(&Arc::new(CompleteEpoch { letters, ..CompleteEpoch::clone(complete) })),
        }
    }

    /// Waits for the commit that has begun, for at most `limit`; returns whether it has ended. Counts the letters that
    /// the output could not hold.
    pub fn poll_commit(&mut self, limit: Duration) -> Result<bool> {
        let Some(output) = self.output() else { return Ok(true) };
        let (is_done, rejected) = (output.poll_commit(limit)?, output.take_rejected_by_commit());
        if let Some(rejected) = rejected {
            rejected.each(|letters, row, fault| {
                self.lose(fault, is_of_output(letters, row));
                Ok(())
            })?;
        }
        Ok(is_done)
    }

    /// Whether a store has not answered letters that it gets before their epoch is complete.
    pub fn is_writing(&self) -> bool {
        matches!(&self.outlet, LetterOutput::Open(output) if output.is_writing())
    }

    /// Counts the letters that the output rejected after it had accepted them.
    pub fn take_late(&mut self) {
        for rejected in self.output().map_or(vec![], Output::take_late) {
            self.lose(&rejected.fault, is_of_output(&rejected.row, 0));
        }
    }

    /// Counts the rows that outputs could not hold at a commit; without an output, or with `--report all`, also reports
    /// them.
    fn note_rejected(&mut self, rejected: &RejectedByCommit) -> Result<()> {
        if self.is_written() && self.run.report != Report::All {
            rejected.faults.iter().for_each(|fault| *self.by_type.entry(fault.error_type).or_default() += 1);
            return Ok(());
        }
        rejected.each(|batch, row, fault| {
            if Kind::of(batch.schema_ref()) == Some(Kind::Dead) {
                let letter = self.builder.failed_again(batch, row, fault, rejected.attempt.failed_at)?;
                self.note_batch(&letter);
                return Ok(());
            }
            with_letter(batch, row, fault, None, |letter, has_position| {
                self.note(&Reported::of(letter, has_position));
                Ok(())
            })
        })
    }

    /// Ends the output at `end`; returns its report, or `None` if there is no output.
    pub fn finish(&mut self, end: &End) -> Result<Option<OutputReport>> {
        self.flush()?;
        self.open()?;
        if !self.is_written() {
            return Ok(None);
        }
        let LetterOutput::Open(output) = std::mem::replace(&mut self.outlet, LetterOutput::Ended) else {
            return Ok(None);
        };
        if self.lost.total() > 1 {
            let (name, lost) = (&output.name, self.lost.total());
            self.run.console.warn(format!("{name}: {lost} dead letters cannot be written and are dropped"));
        }
        output.finish(end).map(Some)
    }
}

/// Writes the buffered letters of a run that ends with an error.
impl Drop for DeadLetters {
    fn drop(&mut self) {
        // The run reports the error that ended the run, not the error of this write.
        let _ = self.flush();
    }
}

/// Returns the bytes of the payloads of `letters`. Their arrays may be slices of larger ones.
fn payload_bytes(letters: &RecordBatch) -> usize {
    let offsets = letters.column(column::ORIGINAL_PAYLOAD).as_binary::<i32>().value_offsets();
    offsets.first().zip(offsets.last()).map_or(0, |(first, last)| (last - first) as usize)
}

/// Whether a letter is that of a row that an output rejected.
fn is_of_output(letters: &RecordBatch, row: usize) -> bool {
    let types = letters.column(column::ERROR_TYPE).as_any_dictionary_opt();
    types.is_some_and(|types| {
        let key = types.normalized_keys()[row];
        types.values().as_string_opt::<i32>().is_some_and(|names| names.value(key) == ErrorType::SinkError.name())
    })
}

#[cfg(test)]
mod tests;
