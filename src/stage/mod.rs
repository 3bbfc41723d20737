//! A stage: the source, the operator and the outputs of one tool, from the first row to the proven end.
//!
//! ```text
//!          ┌──────── Stage::step ────────┐
//! Source ──┤ batch, control, idle, end ──┼─► Operator ──► Collector: rows, control, dead letters, side output
//!          └ dead letters of records ────┴──────────────► dead letters
//! ```
//!
//! [`Stage::step`] never blocks on input; [`Stage::run`] alternates `step` and `wait`. A simulation steps several stages in one
//! process. The stage keeps the counts and checks the law of counts at its end.

mod epoch_ends;
pub mod epochs;
pub mod operator;
pub mod outputs;
pub mod progress;
mod summary;

use self::epochs::Epochs;
use self::operator::{Collector, InputEnded, Operator};
use self::outputs::Outputs;
use self::progress::ProgressLine;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::header::{CHECKPOINT_KEY, CheckpointHeader};
use crate::clock::Clock;
use crate::counts::Counts;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{Control, End, How};
use crate::ingest::{Item, Sent};
use crate::input::EndProof;
use crate::kafka::range::ReadMode;
use crate::kind::Kind;
use crate::kind::span::Span;
use crate::metrics;
use crate::output::{OutputPlan, stamped};
use crate::run::Run;
use crate::source::{Polled, Source};
use crate::stop::Wait;
use crate::time::SECOND;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use summary::Summary;

/// Maximum number of control messages that are buffered until the first rows. After that the operator is made without rows.
const AHEAD_MAX: usize = 64;

/// The facts from which a tool makes its operator.
pub struct SourceInfo<'a> {
    /// The source; its schema and kind are final.
    pub source: &'a mut Source,
    /// The first rows; `None` if the schema was known before them, or if there are none.
    pub first: Option<&'a RecordBatch>,
    /// The outputs of rows, which are not open yet.
    pub outputs: &'a [OutputPlan],
}

impl SourceInfo<'_> {
    /// Checks that the rows are of `kind`. Errors: exit status 2 with the message `why`, if they are not.
    pub fn expect(&self, kind: Kind, why: &str) -> Result<()> {
        match self.source.kind() {
            found if found == kind => Ok(()),
            found => Err(Error::usage(format!("{why}, found rows of kind {}", found.name()))),
        }
    }
}

/// An operator and its outputs.
pub struct OperatorSetup {
    /// The operator.
    pub operator: Box<dyn Operator>,
    /// The schema of the rows it writes.
    pub schema: SchemaRef,
    /// The schema of the rows of the side output.
    pub side: Option<SchemaRef>,
    /// Whether it writes a report at the end instead of rows, so that the terminal is free for a progress line.
    pub is_report: bool,
}

/// Makes the operator once the rows are known.
pub type Start = Box<dyn FnOnce(SourceInfo<'_>) -> Result<OperatorSetup>>;

/// Settings of a stage.
#[derive(Clone, Debug, Default)]
pub struct StageOptions {
    /// `-q`.
    pub quiet: bool,
    /// `--strict`.
    pub strict: bool,
    /// `--stats`.
    pub stats: Option<String>,
    /// Whether the operator needs the first rows to start, even if the schema is known.
    pub needs_rows: bool,
    /// The time of the rows that the operator gets; others are counted as filtered.
    pub span: Span,
    /// `--branch`.
    pub branch: Option<String>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The step made progress; step again at once.
    Ready,
    /// There is no input. Wait for it, and step again after this time at the latest.
    Waiting(Duration),
    /// The stage has ended with this exit status.
    Ended(u8),
}

/// The phase of a stage.
enum Phase {
    /// The schema of the rows is not known yet.
    Learning(Start),
    /// The operator processes rows.
    Running(Box<dyn Operator>),
    /// The operator has ended; the last stage of the pipe is to complete the last epoch.
    Ending(Ending),
    /// The stage has ended with this exit status.
    Ended(u8),
}

/// Time after which a stage no longer waits for a later one that neither completes the last epoch nor ends, as behind tee.
const ENDING_MAX: Duration = Duration::from_secs(600);

/// The end of a stage whose last epoch a later stage completes.
struct Ending {
    end: End,
    /// Rows that outputs have rejected so far.
    refused: u64,
    /// The wait for that stage, which a signal bounds.
    wait: Wait,
}

/// The running stage.
pub struct Stage {
    run: Rc<Run>,
    options: StageOptions,
    source: Source,
    outputs: Outputs,
    phase: Phase,
    /// Items that were read before the operator was made.
    ahead: VecDeque<Sent>,
    /// The counts of rows by outcome so far. The source counts records that became no rows.
    counts: Counts,
    /// The largest stream time so far (µs), for the metric.
    stream_time: Option<i64>,
    /// Whether the operator knows that every input has been read to its present end.
    has_caught_up: bool,
    /// The epochs of a run with a checkpoint.
    epochs: Option<Epochs>,
    /// The wait for an epoch before the last one, at the end of the input.
    end_wait: Option<Wait>,
    /// Whether the last step read nothing because outputs must commit an epoch first.
    is_held: bool,
}

impl Stage {
    /// Makes a stage; `start` makes its operator when the rows are known.
    pub fn new(run: Rc<Run>, options: StageOptions, source: Source, outputs: Outputs, start: Start) -> Self {
        Self {
            run,
            options,
            source,
            outputs,
            phase: Phase::Learning(start),
            ahead: VecDeque::new(),
            counts: Counts::default(),
            stream_time: None,
            has_caught_up: false,
            epochs: None,
            end_wait: None,
            is_held: false,
        }
    }

    /// Lets the stage end `epochs`, and continue the last one.
    pub fn with_epochs(self, epochs: Option<Epochs>) -> Self {
        Self { epochs, ..self }
    }

    /// Joins the checkpoint of the pipe that the stage reads, if it has one. Errors: exit status 2 if the stage cannot.
    fn join(&mut self) -> Result<()> {
        let schema = self.source.schema();
        let Some(header) = schema.metadata().get(CHECKPOINT_KEY).filter(|_| self.epochs.is_none()) else {
            return epochs::check_branch(self.options.branch.as_deref());
        };
        if !self.source.is_single() {
            return Err(Error::usage("expected the pipe with a checkpoint as the only input, found others"));
        }
        self.outputs.check_epochs()?;
        let header = CheckpointHeader::parse(header)?.in_branch(self.options.branch.as_deref());
        let checkpoint = Checkpoint::join(header, self.outputs.names(), self.outputs.has_readers(), &self.run)?;
        self.outputs.in_epochs(&checkpoint)?;
        self.epochs = Some(Epochs::joined(checkpoint, self.run.clone()));
        Ok(())
    }

    /// Runs the stage to its end; returns the exit status.
    pub fn run(mut self) -> Result<u8> {
        loop {
            match self.step()? {
                Progress::Ready => {}
                Progress::Waiting(timeout) => self.wait(timeout)?,
                Progress::Ended(status) => return Ok(status),
            }
        }
    }

    /// Waits until an input may have something to read, a signal arrives, or `timeout` has passed.
    fn wait(&mut self, timeout: Duration) -> Result<()> {
        let start = self.run.clock.monotonic();
        if matches!(self.phase, Phase::Ending(_)) || self.is_held || self.source.has_ended() {
            self.run.io.wait_for_others(timeout);
            return Ok(());
        }
        let waited = self.source.wait(timeout);
        self.run.metrics.blocked("input", self.run.clock.monotonic().saturating_sub(start));
        waited
    }

    /// Does one step: processes one item, or does one step of reading. Does not block on input.
    pub fn step(&mut self) -> Result<Progress> {
        self.is_held = false;
        let step = match &self.phase {
            Phase::Learning(_) => self.learn(),
            Phase::Running(_) => self.advance(),
            Phase::Ending(_) => self.await_epoch(),
            Phase::Ended(status) => Ok(Progress::Ended(*status)),
        };
        step.map_err(|error| {
            self.source.report_lost();
            match &self.epochs {
                Some(epochs) => epochs.cause(error),
                None => error,
            }
        })
    }

    /// Does one step before the operator is made: reads until the schema is known.
    fn learn(&mut self) -> Result<Progress> {
        if self.source.has_schema() && !self.options.needs_rows {
            return self.start(None);
        }
        if self.source.can_commit() {
            // So far there were only dead letters and records without rows: no output has anything to make durable.
            self.outputs.dead.settle()?;
            self.source.commit()?;
        }
        let Sent { input, item } = match self.source.poll() {
            Ok(Polled::Item(sent)) => sent,
            Ok(Polled::Progress) => return Ok(Progress::Ready),
            Ok(Polled::Waiting(timeout)) => return Ok(Progress::Waiting(timeout)),
            Err(error) => {
                if error.kind() == ErrorKind::Usage {
                    self.outputs.dead.discard();
                }
                return Err(error);
            }
        };
        let first = match &item {
            Item::Dead(letters) => return self.outputs.dead.take(letters).map(|()| Progress::Ready),
            Item::Idle => return self.outputs.dead.flush().map(|()| Progress::Ready),
            Item::Batch(batch) => Some(batch.clone()),
            Item::Control(_) | Item::End(_) => None,
        };
        let is_known = first.is_some() || matches!(item, Item::End(_)) || self.ahead.len() + 1 >= AHEAD_MAX;
        self.ahead.push_back(Sent { input, item });
        if is_known { self.start(first.as_ref()) } else { Ok(Progress::Ready) }
    }

    /// Makes the operator and opens the outputs.
    fn start(&mut self, first: Option<&RecordBatch>) -> Result<Progress> {
        self.join()?;
        self.outputs.dead.open()?;
        let Phase::Learning(start) = std::mem::replace(&mut self.phase, Phase::Ended(0)) else {
            return Err(Error::broken("a stage starts twice"));
        };
        let learned = SourceInfo { source: &mut self.source, first, outputs: &self.outputs.checked };
        let OperatorSetup { mut operator, schema, side, is_report } = start(learned)?;
        if self.source.read_mode() == ReadMode::Commit && !operator.snapshot().is_empty() {
            return Err(Error::broken(
                "an operator with state reads topics as ReadMode::Stateful: a restart would lose its state",
            ));
        }
        let side = side.map(|schema| stamped(&schema, &self.run));
        self.outputs.open(stamped(&schema, &self.run), side, self.source.counts().taken)?;
        if let Some(epochs) = &mut self.epochs {
            operator = epochs.restore(operator, self.source.continued_inputs())?;
            epochs.recover(operator.as_ref(), &mut self.outputs)?;
        }
        if is_report {
            self.outputs.progress = ProgressLine::new(&self.run, self.options.quiet);
        }
        self.phase = Phase::Running(operator);
        Ok(Progress::Ready)
    }

    /// Does one step with the operator.
    fn advance(&mut self) -> Result<Progress> {
        self.set_metrics();
        match self.next() {
            Ok(None) => Ok(self.wait_for_outputs()),
            Ok(Some(Polled::Item(sent))) => self.take(sent),
            Ok(Some(Polled::Progress)) => Ok(Progress::Ready),
            Ok(Some(Polled::Waiting(timeout))) => {
                let (operator, outputs) = self.parts()?;
                operator.on_drained(outputs)?;
                Ok(Progress::Waiting(timeout))
            }
            Err(error) => {
                self.outputs.progress = ProgressLine::hidden();
                let (operator, outputs) = self.parts()?;
                operator.on_failure(outputs)?;
                Err(error)
            }
        }
    }

    /// Does the time-driven work of the outputs, commits if possible, and returns the next item; `None` if outputs must get the rows
    /// before it first.
    fn next(&mut self) -> Result<Option<Polled>> {
        self.outputs.tick()?;
        self.watch_epochs(false)?;
        if let Some(sent) = self.ahead.pop_front() {
            if let Item::Batch(batch) = &sent.item {
                // The columns that expressions name were not known when the batch was read.
                self.source.warn_of_shadows(batch);
            }
            return Ok(Some(Polled::Item(sent)));
        }
        if self.epochs.as_ref().is_some_and(|epochs| epochs.is_held(&mut self.outputs)) {
            return Ok(None);
        }
        // With a checkpoint the positions are committed once their epoch is complete.
        if self.epochs.is_none() && self.source.can_commit() {
            self.outputs.settle()?;
            self.source.commit()?;
        }
        if self.can_end_epoch()? {
            self.end_epoch(false)?;
        }
        self.source.poll().map(Some)
    }

    /// Returns the operator and the outputs.
    fn parts(&mut self) -> Result<(&mut Box<dyn Operator>, &mut Outputs)> {
        match &mut self.phase {
            Phase::Running(operator) => Ok((operator, &mut self.outputs)),
            _ => Err(Error::broken("a stage without an operator")),
        }
    }

    /// Processes an item.
    fn take(&mut self, Sent { input, item }: Sent) -> Result<Progress> {
        if let Item::Batch(batch) = &item {
            self.see_time(batch);
        }
        if let Item::Control(Control::Barrier(barrier)) = &item
            && self.epochs.is_some()
        {
            return self.take_barrier(barrier.clone(), input);
        }
        if matches!(item, Item::End(_))
            && let Some(interval) = self.wait_for_epoch_before()?
        {
            return Ok(self.wait_with(Sent { input, item }, interval));
        }
        // The item may be the progress message that names a partition for the second time.
        self.outputs.repeats_partitions = self.source.repeats_partitions();
        let span = self.options.span;
        let catches_up = matches!(item, Item::Idle) && !self.has_caught_up && self.source.has_caught_up();
        self.has_caught_up |= catches_up;
        let (operator, outputs) = self.parts()?;
        let mut counts = Counts::default();
        match item {
            Item::Batch(batch) => {
                let read = batch.num_rows();
                let batch = span.select(batch)?;
                let filtered = (read - batch.num_rows()) as u64;
                if batch.num_rows() > 0 {
                    counts = operator.on_batch(batch, input, outputs)?;
                }
                counts.taken += filtered;
                counts.filtered += filtered;
            }
            Item::Control(control) => operator.on_control(control, outputs)?,
            Item::Dead(letters) => outputs.dead.take(&letters)?,
            Item::Idle => {
                outputs.dead.flush()?;
                if catches_up {
                    counts = operator.on_caught_up(outputs)?;
                }
                operator.on_idle(outputs)?;
            }
            Item::End(end) => return self.finish(end, false),
        }
        let is_done = operator.is_done();
        self.count(&counts);
        match is_done {
            true => self.finish(End { how: How::Exhausted, rows: 0, verdict: 0 }, true),
            false => Ok(Progress::Ready),
        }
    }

    /// Adds these counts of rows, and the dead rows since the last call.
    fn count(&mut self, counts: &Counts) {
        self.counts.add(counts);
        self.counts.add(&std::mem::take(&mut self.outputs.dead_rows));
    }

    /// Ends the stage at the end of the input, or early because the operator needs no more rows: checks the law of counts, ends the
    /// outputs, writes the summary. Errors: exit status 70 if the counts do not add up.
    fn finish(&mut self, end: End, is_early: bool) -> Result<Progress> {
        self.outputs.progress = ProgressLine::hidden();
        let rows = self.source.counts().out;
        let ended =
            InputEnded { end: End { rows, ..end }, is_proven: !is_early && self.source.proof() == EndProof::Proven };
        let (operator, outputs) = self.parts()?;
        let counts = operator.on_end(&ended, outputs)?;
        self.count(&counts);
        self.outputs.conclude()?;
        self.end_last_epoch()?;
        self.counts = self.with_lost(is_early);
        let lost = self.outputs.dead.lost();
        let of_stage = lost.of_stage.min(self.counts.dead);
        self.counts.dead -= of_stage;
        self.counts.dropped += of_stage;
        let (strict, refused) = (self.options.strict, self.outputs.refused);
        if self.counts.dropped > 0
            || lost.total() > 0
            || strict && self.counts.dead + refused > 0
            || refused > 0 && !self.outputs.dead.is_written()
        {
            self.outputs.set_verdict(1);
        }
        self.counts.check()?;
        self.set_counts(&self.counts);
        self.run.service.stopping();
        self.outputs.set_metrics();
        let end = End { verdict: self.outputs.report.verdict.max(end.verdict), ..end };
        if self.epochs.as_ref().is_some_and(|epochs| !epochs.is_settled()) {
            self.outputs.send_end(&end)?;
            self.phase =
                Phase::Ending(Ending { end, refused: self.outputs.refused, wait: self.run.stop.server_wait() });
            return Ok(Progress::Ready);
        }
        self.close(end)
    }

    /// Ends the outputs and writes the summary.
    fn close(&mut self, mut end: End) -> Result<Progress> {
        let reports = self.outputs.finish(&mut end)?;
        self.source.commit_end()?;
        self.outputs.report.warnings.extend(self.source.warnings());
        self.run.console.set_progress(None);
        let summary = Summary {
            run: &self.run,
            source: &self.source,
            dead: &self.outputs.dead,
            counts: &self.counts,
            report: &self.outputs.report,
            end: &end,
            outputs: &reports,
        };
        summary.say(self.options.quiet);
        if let Some(path) = &self.options.stats {
            std::fs::write(path, format!("{}\n", summary.stats())).map_err(|error| Error::io(path.clone(), &error))?;
        }
        self.phase = Phase::Ended(end.verdict);
        Ok(Progress::Ended(end.verdict))
    }

    /// Returns the counts by outcome so far, including records that became no rows. At an early end only the records before
    /// the last row count.
    fn with_lost(&self, is_early: bool) -> Counts {
        let mut lost = self.source.counts();
        if is_early {
            lost = Counts { dead: self.outputs.dead.from_source(), ..Counts::default() };
        }
        let mut counts = self.counts;
        counts.add_lost(&lost);
        if !self.outputs.dead.is_written() {
            counts.dropped += std::mem::take(&mut counts.dead);
        }
        counts
    }

    /// Sets the metrics and the status of the service manager.
    fn set_metrics(&self) {
        let run = &self.run;
        if run.stop.signal().is_some() {
            run.service.stopping();
        }
        run.service.status(|| self.with_lost(false).to_string());
        if run.metrics.is_on() {
            self.set_counts(&self.with_lost(false));
            self.outputs.set_metrics();
            let lags = self.source.lag(Clock::System.now());
            let lags = lags.iter().map(|lag| (lag.topic.as_str(), lag.partition, lag.records, lag.seconds));
            run.metrics.set_consumer_lag(lags);
        }
    }

    /// Sets the metric of records by outcome.
    fn set_counts(&self, counts: &Counts) {
        let metrics = &self.run.metrics;
        for (outcome, records) in counts.outcomes() {
            metrics.set(&metrics::EVENTS, &[self.run.console.tool(), outcome], records as f64);
        }
    }

    /// Sets the metric of stream time from a batch's last row, which has the largest stream time of its partition so far.
    fn see_time(&mut self, batch: &RecordBatch) {
        let Some(times) = batch.column_by_name("stream_time").filter(|_| self.run.metrics.is_on()) else { return };
        let times = times.as_primitive_opt::<TimestampMicrosecondType>();
        let last = times.and_then(|times| Some(times.value(times.len().checked_sub(1)?)));
        self.stream_time = self.stream_time.max(last);
        if let Some(stream_time) = self.stream_time {
            self.run.metrics.set(&metrics::STREAM_TIME, &[], stream_time as f64 / SECOND as f64);
        }
    }
}

#[cfg(test)]
mod tests;
