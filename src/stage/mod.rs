//! A stage: the source, the operator and the outputs of one tool, from the first row to the proven end.
//!
//! ```text
//!          ┌──────── Stage::step ────────┐
//! Source ──┤ batch, control, idle, end ──┼─► Operator ──► Collector: rows, control, dead letters, side output
//!          └ dead letters of records ────┴──────────────► dead letters
//! ```
//!
//! [`Stage::step`] does not wait for input (decision 086 lists what may still block); [`Stage::run`] alternates `step`
//! and `wait`. A simulation steps several stages in one process. The stage keeps the counts and checks the law of
//! counts at its end.
//!
//! - `operator.rs`: the trait of the tools' operators; `setup.rs`: the operator and the settings of a stage.
//! - `outputs.rs`: the outputs; `epochs.rs`: epochs of a checkpoint; `progress.rs`, `summary.rs`: lines on stderr.

pub mod epochs;
pub mod operator;
pub mod outputs;
pub mod progress;
mod setup;
pub mod summary;

pub use self::setup::{OperatorSetup, SourceInfo, StageOptions, StartOperator};

use self::epochs::Epochs;
use self::operator::{Collector, InputEnded, Operator};
use self::outputs::Outputs;
use self::progress::ProgressLine;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::header::{CHECKPOINT_KEY, CheckpointHeader};
use crate::clock::Clock;
use crate::counts::{Counts, DoneRecords};
use crate::emit::{Item, QueuedItem};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{Barrier, Control, End, EndReason};
use crate::input::EndProof;
use crate::kafka::range::ReadMode;
use crate::metrics;
use crate::output::stamped;
use crate::run::{Run, report_file};
use crate::source::Polled;
use crate::stop::Wait;
use crate::time::SECOND;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use summary::{Summary, Totals, lag_of};

/// Maximum number of control messages that are buffered until the first rows. After that the operator is made without
/// rows.
const AHEAD_MAX: usize = 64;

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepResult {
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
    Learning(StartOperator),
    /// The operator processes rows.
    Running(Box<dyn Operator>),
    /// The operator has ended; the last stage of the pipe is to complete the last epoch.
    Ending(Ending),
    /// The stage has ended with this exit status.
    Ended(u8),
}

/// Poll interval of the outputs while the stage waits for them.
const HELD_POLL: Duration = Duration::from_millis(10);

/// The end of a stage whose last epoch a later stage completes.
struct Ending {
    end: End,
    /// The wait for that stage, which a signal bounds.
    wait: Wait,
}

/// The running stage.
pub struct Stage {
    run: Rc<Run>,
    options: StageOptions,
    source: crate::source::Source,
    outputs: Outputs,
    phase: Phase,
    /// Items that the stage takes first: items read before the operator was made, or a barrier or an end that waits.
    ahead: VecDeque<QueuedItem>,
    /// The counts of rows by outcome so far. The source counts records that became no rows.
    counts: Counts,
    /// The largest stream time so far (µs), for the metric.
    stream_time: Option<i64>,
    /// Whether the operator knows that every input has been read to its present end.
    has_caught_up: bool,
    /// The epochs of a run with a checkpoint.
    epochs: Option<Epochs>,
    /// Whether the last step read nothing because outputs must commit an epoch first.
    is_held: bool,
    /// The records that were done before the outputs were ended; `None` until then.
    done: Option<DoneRecords>,
}

impl Stage {
    /// Makes a stage; `start` makes its operator when the rows are known.
    pub fn new(
        run: Rc<Run>,
        options: StageOptions,
        source: crate::source::Source,
        outputs: Outputs,
        start: StartOperator,
    ) -> Self {
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
            is_held: false,
            done: None,
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
                StepResult::Ready => {}
                StepResult::Waiting(timeout) => self.wait(timeout)?,
                StepResult::Ended(status) => return Ok(status),
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
    pub fn step(&mut self) -> Result<StepResult> {
        self.is_held = false;
        let step = match &self.phase {
            Phase::Learning(_) => self.learn(),
            Phase::Running(_) => self.advance(),
            Phase::Ending(_) => self.await_epoch(),
            Phase::Ended(status) => Ok(StepResult::Ended(*status)),
        };
        step.map_err(|error| {
            self.source.report_lost(self.source.is_single().then(|| self.done()));
            match &self.epochs {
                Some(epochs) => epochs.fail(error),
                None => error,
            }
        })
    }

    /// Returns the records that are done if the run fails now.
    fn done(&self) -> DoneRecords {
        let without_row = |counts: &Counts| counts.sum() - counts.out;
        self.done.unwrap_or_else(|| {
            let confirmed = self.outputs.confirmed();
            // Dead letters count as done: the client or a line of the run names the fault.
            let left_out = without_row(&self.counts) + without_row(&self.source.counts());
            DoneRecords { count: confirmed.count + left_out, ..confirmed }
        })
    }

    /// Does one step before the operator is made: reads until the schema is known.
    fn learn(&mut self) -> Result<StepResult> {
        if self.source.has_schema() && !self.options.needs_rows {
            return self.start(None);
        }
        if self.source.can_commit() {
            // So far there were only dead letters and records without rows: no output has anything to make durable.
            self.outputs.dead.settle()?;
            self.source.commit()?;
        }
        let QueuedItem { input, item } = match self.source.poll() {
            Ok(Polled::Item(sent)) => sent,
            Ok(Polled::Progress) => return Ok(StepResult::Ready),
            Ok(Polled::Waiting(timeout)) => return Ok(StepResult::Waiting(timeout)),
            Err(error) => {
                if error.kind() == ErrorKind::Usage {
                    self.outputs.dead.discard();
                }
                return Err(error);
            }
        };
        let first = match &item {
            Item::Dead(letters) => return self.outputs.dead.take(letters).map(|()| StepResult::Ready),
            Item::Idle => return self.outputs.idle().map(|()| StepResult::Ready),
            Item::Batch(batch) => Some(batch.clone()),
            Item::Control(_) | Item::End(_) => None,
        };
        let is_known = first.is_some() || matches!(item, Item::End(_)) || self.ahead.len() + 1 >= AHEAD_MAX;
        self.ahead.push_back(QueuedItem { input, item });
        if is_known { self.start(first.as_ref()) } else { Ok(StepResult::Ready) }
    }

    /// Makes the operator and opens the outputs.
    fn start(&mut self, first: Option<&RecordBatch>) -> Result<StepResult> {
        self.join()?;
        self.outputs.dead.open()?;
        let Phase::Learning(start) = std::mem::replace(&mut self.phase, Phase::Ended(0)) else {
            return Err(Error::broken("a stage starts twice"));
        };
        let info = SourceInfo { source: &mut self.source, first, outputs: &self.outputs.plans };
        let OperatorSetup { mut operator, schema, side, is_report } = start(info)?;
        if self.source.read_mode() == ReadMode::Commit && !operator.snapshot().state.is_empty() {
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
        Ok(StepResult::Ready)
    }

    /// Does one step with the operator.
    fn advance(&mut self) -> Result<StepResult> {
        self.set_metrics();
        match self.next() {
            Ok(None) => Ok(self.wait_for_outputs()),
            Ok(Some(Polled::Item(sent))) => self.take(sent),
            Ok(Some(Polled::Progress)) => Ok(StepResult::Ready),
            Ok(Some(Polled::Waiting(timeout))) => {
                if let Self { phase: Phase::Running(operator), source, outputs, .. } = self {
                    operator.on_drained(&|| source.unread(), outputs)?;
                }
                Ok(StepResult::Waiting(timeout))
            }
            Err(error) => {
                self.outputs.progress = ProgressLine::hidden();
                let (operator, outputs) = self.parts()?;
                operator.on_failure(outputs)?;
                Err(error)
            }
        }
    }

    /// Does the time-driven work of the outputs, commits if possible, and returns the next item; `None` if outputs must
    /// get the rows before it first.
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

    /// Waits before the next look at outputs that must commit an epoch first.
    fn wait_for_outputs(&mut self) -> StepResult {
        self.is_held = true;
        StepResult::Waiting(HELD_POLL)
    }

    /// Puts an item back at the front of `ahead`; the stage takes it again after `interval`.
    fn wait_with(&mut self, sent: QueuedItem, interval: Duration) -> StepResult {
        self.ahead.push_front(sent);
        self.is_held = true;
        StepResult::Waiting(interval)
    }

    /// Ends the epoch in progress at a barrier.
    fn take_barrier(&mut self, barrier: Barrier, input: u32) -> Result<StepResult> {
        self.watch_epochs(true)?;
        let Some(epochs) = &mut self.epochs else { return Ok(StepResult::Ready) };
        if epochs.is_ready(&barrier, &mut self.outputs)? {
            return self.end_epoch(false).map(|()| StepResult::Ready);
        }
        Ok(self.wait_with(QueuedItem { input, item: Item::Control(Control::Barrier(barrier)) }, HELD_POLL))
    }

    /// Waits until every output has the epoch that is being committed, and commits the positions of the source.
    fn finish_commit(&mut self) -> Result<()> {
        let Some(epochs) = self.epochs.as_mut().filter(|epochs| epochs.is_committing()) else { return Ok(()) };
        epochs.finish_commit(&mut self.outputs)?;
        self.source.commit()
    }

    /// Whether the epoch in progress is to end, and can.
    fn can_end_epoch(&mut self) -> Result<bool> {
        let Some(epochs) = self.epochs.as_mut().filter(|epochs| epochs.is_due()) else { return Ok(false) };
        if epochs.waits_for_outputs(&mut self.outputs, false) || !self.source.can_end_epoch()? {
            return Ok(false);
        }
        // The store of the letters may not answer these promptly.
        self.outputs.dead.flush()?;
        Ok(!epochs.waits_for_outputs(&mut self.outputs, false))
    }

    /// Ends the epoch in progress, if there is a checkpoint: the stage has taken the rows before the positions of the
    /// source, and no others.
    fn end_epoch(&mut self, is_last: bool) -> Result<()> {
        let (Some(epochs), Phase::Running(operator)) = (&mut self.epochs, &mut self.phase) else { return Ok(()) };
        match epochs.end(operator.as_mut(), &self.source.positions()?, &mut self.outputs)? {
            // The end of the stream is the barrier of the last epoch.
            Some(_) if is_last => Ok(()),
            Some(barrier) => self.outputs.control(&Control::Barrier(barrier)),
            // A last stage commits the epoch now, unless another last stage has not sealed it yet.
            None => self.watch_epochs(false),
        }
    }

    /// Commits the epochs that the last stage of the pipe has completed; `at_once` even if the log was just watched.
    fn watch_epochs(&mut self, at_once: bool) -> Result<()> {
        let Some(epochs) = &mut self.epochs else { return Ok(()) };
        if epochs.watch(&mut self.outputs, at_once)? { self.source.commit() } else { Ok(()) }
    }

    /// Ends the stage once the last stage of the pipe has completed the last epoch. Errors: exit status 75 if that
    /// stage ends before.
    fn await_epoch(&mut self) -> Result<StepResult> {
        let Phase::Ending(Ending { end, wait }) = &self.phase else {
            return Err(Error::broken("a stage ends without an epoch"));
        };
        let end = *end;
        let is_over = epochs::is_over(wait);
        self.watch_epochs(is_over)?;
        match &self.epochs {
            Some(epochs) if !epochs.is_settled() && !epochs.is_committing() && is_over => Err(epochs.abandoned()),
            Some(epochs) if !epochs.is_settled() => Ok(StepResult::Waiting(epochs.watch_interval())),
            _ => self.close(end),
        }
    }

    /// Ends the last epoch of the run.
    fn end_last_epoch(&mut self) -> Result<()> {
        if self.epochs.is_none() {
            return Ok(());
        }
        // A run with wrong counts commits nothing.
        self.with_lost(false).check()?;
        self.finish_commit()?;
        self.end_epoch(true)?;
        self.finish_commit()
    }

    /// Returns the operator and the outputs.
    fn parts(&mut self) -> Result<(&mut Box<dyn Operator>, &mut Outputs)> {
        match &mut self.phase {
            Phase::Running(operator) => Ok((operator, &mut self.outputs)),
            _ => Err(Error::broken("a stage without an operator")),
        }
    }

    /// Processes an item.
    fn take(&mut self, QueuedItem { input, item }: QueuedItem) -> Result<StepResult> {
        if let Item::Batch(batch) = &item {
            self.see_time(batch);
        }
        if let Item::Control(Control::Barrier(barrier)) = &item
            && self.epochs.is_some()
        {
            return self.take_barrier(barrier.clone(), input);
        }
        if matches!(item, Item::End(_))
            && let Some(epochs) = &mut self.epochs
            && let Some(interval) = epochs.wait_before_last()?
        {
            return Ok(self.wait_with(QueuedItem { input, item }, interval));
        }
        // The item may be the progress message that names a partition for the second time.
        self.outputs.repeats_partitions = self.source.repeats_partitions();
        let span = self.options.span;
        let catches_up = matches!(item, Item::Idle) && !self.has_caught_up && self.source.has_caught_up();
        self.has_caught_up |= catches_up;
        if let Item::Batch(batch) = &item
            && self.epochs.is_some()
        {
            self.outputs.report.passed_over += span.rows_behind(batch);
        }
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
                outputs.idle()?;
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
            true => self.finish(End { how: EndReason::Exhausted, rows: 0, verdict: 0 }, true),
            false => Ok(StepResult::Ready),
        }
    }

    /// Adds these counts of rows, and the dead rows since the last call.
    fn count(&mut self, counts: &Counts) {
        self.counts.add(counts);
        self.counts.add(&std::mem::take(&mut self.outputs.dead_rows));
    }

    /// Ends the stage at the end of the input, or early because the operator needs no more rows: checks the law of
    /// counts, ends the outputs, writes the summary. Errors: exit status 70 if the counts do not add up.
    fn finish(&mut self, end: End, is_early: bool) -> Result<StepResult> {
        self.outputs.progress = ProgressLine::hidden();
        let rows = self.source.counts().out;
        let ended =
            InputEnded { end: End { rows, ..end }, is_proven: !is_early && self.source.proof() == EndProof::Proven };
        let (operator, outputs) = self.parts()?;
        let counts = operator.on_end(&ended, outputs)?;
        self.count(&counts);
        self.outputs.conclude()?;
        self.end_last_epoch()?;
        self.done = Some(self.done());
        self.counts = self.with_lost(is_early);
        self.counts.check()?;
        self.run.service.stopping();
        if self.epochs.as_ref().is_some_and(|epochs| !epochs.is_settled()) {
            self.raise_verdict_for_losses();
            let end = End { verdict: self.outputs.report.verdict.max(end.verdict), ..end };
            self.outputs.send_end(&end)?;
            self.phase = Phase::Ending(Ending { end, wait: self.run.stop.server_wait() });
            return Ok(StepResult::Ready);
        }
        self.close(end)
    }

    /// Makes the exit status at least 1 if records or rows so far were lost, or were dead under `--strict`.
    fn raise_verdict_for_losses(&mut self) {
        let (strict, rejected) = (self.options.strict, self.outputs.rejected_rows);
        if self.counts.dropped > 0
            || self.outputs.dead.lost().total() > 0
            || strict && self.counts.dead + rejected > 0
            || rejected > 0 && !self.outputs.dead.is_written()
        {
            self.outputs.set_verdict(1);
        }
    }

    /// Ends the outputs, which have all epochs, and writes the summary. Errors: exit status 70 if the counts do not add
    /// up.
    fn close(&mut self, mut end: End) -> Result<StepResult> {
        let of_stage = self.outputs.dead.lost().of_stage.min(self.counts.dead);
        self.counts.dead -= of_stage;
        self.counts.dropped += of_stage;
        self.raise_verdict_for_losses();
        self.counts.check()?;
        self.set_counts(&self.counts);
        self.outputs.set_metrics();
        end.verdict = end.verdict.max(self.outputs.report.verdict);
        let reports = self.outputs.finish(&mut end)?;
        self.source.commit_end()?;
        self.outputs.report.warnings.extend(self.source.warnings());
        self.outputs.report.warn_of_passed_over();
        self.run.console.set_progress(None);
        let totals = Totals {
            run: &self.run,
            counts: &self.counts,
            dead: self.outputs.dead.by_type(),
            end: &end,
            outputs: &reports,
            lag: lag_of(std::iter::once(&self.source)),
        };
        let summary = Summary { totals, source: &self.source, report: &self.outputs.report };
        summary.say(self.options.quiet);
        if let Some(path) = &self.options.stats {
            report_file::write(path, &format!("{}\n", summary.stats()))?;
        }
        self.phase = Phase::Ended(end.verdict);
        Ok(StepResult::Ended(end.verdict))
    }

    /// Returns the counts by outcome so far, including records that became no rows. At an early end only the records
    /// before the last row count.
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
            run.metrics.set_consumer_lag(lags.iter().map(Into::into));
        }
    }

    /// Sets the metric of records by outcome.
    fn set_counts(&self, counts: &Counts) {
        let metrics = &self.run.metrics;
        for (outcome, records) in counts.outcomes() {
            metrics.set(&metrics::EVENTS, &[self.run.console.tool(), outcome], records as f64);
        }
    }

    /// Sets the metric of stream time from a batch's last row, which has the largest stream time of its partition so
    /// far.
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
