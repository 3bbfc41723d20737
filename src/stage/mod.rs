//! A stage: the source, the operator and the outputs of one tool, from the first row to the proven end.
//!
//! ```text
//!          ┌──────── Stage::step ────────┐
//! Feeds ───┤ batch, control, idle, end ──┼─► Operator ──► Collector: rows, control, dead letters, side output
//!          └ dead letters of records ────┴──────────────► dead letters
//! ```
//!
//! [`Stage::step`] does not wait for input (decision 086 lists what may still block); [`Stage::run`] alternates `step`
//! and `wait`. A simulation steps several stages in one process. The stage keeps the counts and checks the law of
//! counts at its end.
//!
//! - `feeds.rs`: the sources; `poll.rs`: which of them is read next, and reading
//!   without a stage; `operator.rs`: the traits of the tools' operators;
//!   `setup.rs`: the operator, the settings and the phases of a stage; `range.rs`: the range of event time.
//! - `counts.rs`: records by outcome; `outputs.rs`: the outputs; `epochs/`: epochs of a checkpoint.
//! - `progress.rs`, `summary.rs`: lines on stderr; `gauges.rs`: metrics.

mod counts;
pub mod epochs;
pub mod feeds;
mod gauges;
pub mod operator;
pub mod outputs;
pub mod poll;
pub mod progress;
mod range;
mod setup;
mod summary;

pub use self::setup::{OperatorSetup, SourceInfo, StageOptions, StartAt, StartOperator};

use self::counts::StageCounts;
use self::epochs::Epochs;
use self::feeds::{FeedInput, Feeds};
use self::gauges::Gauges;
use self::operator::{Collector, InputEnded, Operator, OutputsEnded, StageEnd};
use self::outputs::Outputs;
use self::progress::ProgressLine;
use self::range::{RangedBatch, StageRange};
use self::setup::{Ending, Phase};
use crate::output::{StageRows, stamped};
use crate::source::{self, Polled};
use arrow::array::RecordBatch;
use evt_core::counts::Counts;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::frame::{Barrier, Control, End, EndReason};
use evt_kafka::range::ReadMode;
use evt_run::checkpoint::Checkpoint;
use evt_run::checkpoint::header::{CHECKPOINT_KEY, CheckpointHeader};
use evt_run::emit::{Item, QueuedItem};
use evt_run::input::EndProof;
use evt_run::run::Run;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use summary::Summary;

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

/// Poll interval of the outputs while the stage waits for them.
const HELD_POLL: Duration = Duration::from_millis(10);

/// The running stage.
pub struct Stage {
    run: Rc<Run>,
    options: StageOptions,
    feeds: Feeds,
    range: StageRange,
    outputs: Outputs,
    phase: Phase,
    /// Items, with their feeds, that the stage takes first: items read before the operator was made, or a barrier or an
    /// end that waits.
    ahead: VecDeque<(usize, QueuedItem)>,
    counts: StageCounts,
    gauges: Gauges,
    /// Whether the operator knows that every input has been read to its present end.
    has_caught_up: bool,
    /// The epochs of a run with a checkpoint.
    epochs: Option<Epochs>,
    /// Whether the last step read nothing because outputs must commit an epoch first.
    is_held: bool,
}

impl Stage {
    /// Makes a stage; `start` makes its operator when the rows are known.
    pub fn new(
        run: Rc<Run>,
        options: StageOptions,
        feeds: impl Into<Feeds>,
        outputs: Outputs,
        start: StartOperator,
    ) -> Self {
        Self {
            gauges: Gauges::new(run.clone()),
            run,
            range: StageRange::new(options.span),
            options,
            feeds: feeds.into(),
            outputs,
            phase: Phase::Learning(start),
            ahead: VecDeque::new(),
            counts: StageCounts::default(),
            has_caught_up: false,
            epochs: None,
            is_held: false,
        }
    }

    /// Lets the stage end `epochs`, and continue the last one.
    pub fn with_epochs(self, epochs: Option<Epochs>) -> Self {
        Self { epochs, ..self }
    }

    /// Joins the checkpoint of the pipe that the stage reads, if it has one. Errors: exit status 2 if the stage cannot.
    fn join(&mut self) -> Result<()> {
        let schema = self.feeds.only().schema();
        let Some(header) = schema.metadata().get(CHECKPOINT_KEY).filter(|_| self.epochs.is_none()) else {
            return epochs::check_branch(self.options.branch.as_deref());
        };
        if !self.feeds.only().is_single() {
            return Err(epochs::only_input());
        }
        self.outputs.check_epochs()?;
        let header = CheckpointHeader::parse(header)?.in_branch(self.options.branch.as_deref());
        let checkpoint =
            Checkpoint::join(header, self.outputs.names(), self.outputs.has_readers(), evt_store::known, &self.run)?;
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
        if matches!(self.phase, Phase::Ending(_)) || self.is_held || self.feeds.have_ended() {
            self.run.io.wait_for_others(timeout);
            return Ok(());
        }
        let waited = self.feeds.wait(timeout, &self.run);
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
            self.feeds.report_lost(self.counts.done(&self.feeds, &self.outputs));
            if let Some(operator) = self.phase.feeds() {
                operator.lost(&self.feeds).iter().for_each(|line| self.run.console.warn(line));
            }
            match &self.epochs {
                Some(epochs) => epochs.fail(error),
                None => error,
            }
        })
    }

    /// Does one step before the operator is made: reads until the schema is known.
    fn learn(&mut self) -> Result<StepResult> {
        let start_at = self.options.start_at;
        if start_at == StartAt::Once || start_at == StartAt::Schema && self.feeds.only().has_schema() {
            return self.start(None);
        }
        if self.feeds.only().can_commit() {
            // So far there were only dead letters and records without rows: no output has anything to make durable.
            self.outputs.dead.settle()?;
            self.feeds.only().commit()?;
        }
        let (feed, QueuedItem { input, item }) = match poll::poll(&mut self.feeds, None) {
            Ok((feed, Polled::Item(sent))) => (feed, sent),
            Ok((_, Polled::Progress)) => return Ok(StepResult::Ready),
            Ok((_, Polled::Waiting(timeout))) => return Ok(StepResult::Waiting(timeout)),
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
        self.ahead.push_back((feed, QueuedItem { input, item }));
        if is_known { self.start(first.as_ref()) } else { Ok(StepResult::Ready) }
    }

    /// Makes the operator and opens the outputs.
    fn start(&mut self, first: Option<&RecordBatch>) -> Result<StepResult> {
        self.join()?;
        self.outputs.dead.open()?;
        let Phase::Learning(start) = std::mem::replace(&mut self.phase, Phase::Ended(0)) else {
            return Err(Error::broken("a stage starts twice"));
        };
        let info = SourceInfo { source: self.feeds.only(), first, outputs: &self.outputs.plans };
        info.check_beginning(self.epochs.is_some())?;
        let OperatorSetup { mut operator, schema, side, is_report } = start(info)?;
        if self.feeds.only().read_mode() == ReadMode::Commit && !operator.snapshot().state.is_empty() {
            return Err(Error::broken(
                "an operator with state reads topics as ReadMode::Stateful: a restart would lose its state",
            ));
        }
        let are_bounded = self.epochs.is_none() && self.feeds.are_bounded();
        let rows = StageRows { are_bounded, are_ranged: self.options.span.is_given() };
        let of_stage = |schema| stamped(&schema, rows, &self.run);
        self.outputs.open(of_stage(schema), side.map(of_stage), self.feeds.counts().taken)?;
        if let Some(epochs) = &mut self.epochs {
            operator = epochs.restore(operator, self.feeds.only().continued_topics())?;
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
        let result = match self.next() {
            Ok(None) => {
                self.is_held = true;
                StepResult::Waiting(HELD_POLL)
            }
            Ok(Some((feed, Polled::Item(sent)))) => self.take(feed, sent)?,
            Ok(Some((_, Polled::Progress))) => StepResult::Ready,
            Ok(Some((_, Polled::Waiting(timeout)))) => {
                if let Self { phase: Phase::Running(operator), feeds, outputs, .. } = self {
                    operator.on_drained(&|| feeds.sources().flat_map(source::Source::unread).collect(), outputs)?;
                }
                StepResult::Waiting(timeout)
            }
            Err(error) => {
                self.outputs.progress.hide();
                let (operator, outputs) = self.parts()?;
                operator.on_failure(outputs)?;
                return Err(error);
            }
        };
        if let Some(operator) = self.phase.feeds() {
            operator.on_step(&mut self.outputs)?;
            while self.store()? {}
        }
        Ok(result)
    }

    /// Lets the operator store its state with the positions of its feeds, if that is due: first it gets the rows before
    /// these positions. Returns whether it was due; more may be due then.
    fn store(&mut self) -> Result<bool> {
        let Some(operator) = self.phase.feeds() else { return Ok(false) };
        let Some(wanted) = operator.begin_store(&mut self.feeds)? else { return Ok(false) };
        for (feed, items) in wanted {
            while self.feeds.source(feed).taken() < items {
                if let Polled::Item(sent) = self.feeds.source(feed).poll()? {
                    self.take(feed, sent)?;
                }
            }
        }
        self.phase.feeds().map_or(Ok(()), |operator| operator.store(&mut self.feeds)).map(|()| true)
    }

    /// Does the time-driven work of the outputs, commits if possible, and returns the next item; `None` if outputs must
    /// get the rows before it first.
    fn next(&mut self) -> Result<Option<(usize, Polled)>> {
        self.outputs.tick()?;
        self.watch_epochs(false)?;
        if let Some((feed, sent)) = self.ahead.pop_front() {
            if let Item::Batch(batch) = &sent.item {
                // The columns that expressions name were not known when the batch was read.
                self.feeds.source(feed).warn_of_shadows(batch);
            }
            return Ok(Some((feed, Polled::Item(sent))));
        }
        if self.epochs.as_ref().is_some_and(|epochs| epochs.is_held(&mut self.outputs)) {
            return Ok(None);
        }
        // With a checkpoint the positions are committed once their epoch is complete.
        if self.epochs.is_none() {
            self.commit()?;
        }
        if self.can_end_epoch()? {
            self.end_epoch(false)?;
        }
        poll::poll(&mut self.feeds, self.phase.feeds()).map(Some)
    }

    /// Commits the positions of each feed that has noted some and whose rows the operator has.
    fn commit(&mut self) -> Result<()> {
        for feed in self.feeds.committable() {
            if self.phase.feeds().is_none_or(|operator| operator.is_stored(feed)) {
                self.outputs.settle()?;
                self.feeds.source(feed).commit()?;
            }
        }
        Ok(())
    }

    /// Puts an item of the only feed back at the front of `ahead`; the stage takes it again after `interval`.
    fn wait_with(&mut self, sent: QueuedItem, interval: Duration) -> StepResult {
        self.ahead.push_front((0, sent));
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
        self.feeds.only().commit()
    }

    /// Whether the epoch in progress is to end, and can.
    fn can_end_epoch(&mut self) -> Result<bool> {
        let Some(epochs) = self.epochs.as_mut().filter(|epochs| epochs.is_due()) else { return Ok(false) };
        if epochs.waits_for_outputs(&mut self.outputs, false) || !self.feeds.only().can_end_epoch()? {
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
        match epochs.end(operator.as_mut(), &self.feeds.only().positions()?, &mut self.outputs)? {
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
        if epochs.watch(&mut self.outputs, at_once)? { self.feeds.only().commit() } else { Ok(()) }
    }

    /// Ends the stage once the last stage of the pipe has completed the last epoch. Errors: exit status 75 if that
    /// stage ends before.
    fn await_epoch(&mut self) -> Result<StepResult> {
        let Phase::Ending(Ending { end, counts, .. }) = &self.phase else {
            return Err(Error::broken("a stage ends without an epoch"));
        };
        let (end, counts) = (*end, *counts);
        let gives_up = |stage: &Self| match (&stage.phase, &stage.epochs) {
            (Phase::Ending(Ending { wait, .. }), Some(epochs)) => epochs.gives_up(wait),
            _ => false,
        };
        self.watch_epochs(gives_up(self))?;
        match &self.epochs {
            Some(epochs) if !epochs.has_ended() && !epochs.is_committing() && gives_up(self) => Err(epochs.abandoned()),
            Some(epochs) if !epochs.has_ended() => Ok(StepResult::Waiting(epochs.watch_interval())),
            _ => self.close(end, counts),
        }
    }

    /// Ends the last epoch of the run.
    fn end_last_epoch(&mut self) -> Result<()> {
        if self.epochs.is_none() {
            return Ok(());
        }
        // A run with wrong counts commits nothing.
        self.all_counts(false).check()?;
        self.finish_commit()?;
        self.epochs.iter_mut().for_each(Epochs::begin_last);
        self.end_epoch(true)?;
        self.finish_commit()?;
        self.watch_epochs(true)
    }

    /// Returns the operator and the outputs.
    fn parts(&mut self) -> Result<(&mut Box<dyn Operator>, &mut Outputs)> {
        self.phase.operator().map(|operator| (operator, &mut self.outputs))
    }

    /// Processes an item of a feed.
    fn take(&mut self, feed: usize, QueuedItem { input, item }: QueuedItem) -> Result<StepResult> {
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
        let source = self.feeds.source(feed);
        self.outputs.repeats_partitions = source.repeats_partitions();
        let from = FeedInput { feed, input };
        let catches_up = matches!(item, Item::Idle) && !self.has_caught_up && source.has_caught_up();
        self.has_caught_up |= catches_up;
        let mut counts = Counts::default();
        match item {
            Item::Batch(batch) => counts = self.take_batch(batch, from)?,
            Item::Control(control) if !self.range.passes(&control) => {}
            Item::Control(control) => {
                let (operator, outputs) = self.parts()?;
                operator.on_control(control, from, outputs)?;
            }
            Item::Dead(letters) => {
                let (operator, outputs) = self.parts()?;
                match operator.feeds() {
                    Some(operator) => operator.on_letters(feed, letters)?,
                    None => outputs.dead.take(&letters)?,
                }
            }
            Item::Idle => {
                let (operator, outputs) = self.parts()?;
                outputs.idle()?;
                if catches_up {
                    counts = operator.on_caught_up(outputs)?;
                }
                operator.on_idle(outputs)?;
            }
            Item::End(end) => return self.end_feed(feed, end),
        }
        let is_done = self.parts()?.0.is_done();
        self.counts.add(&counts, &mut self.outputs);
        match is_done {
            true => self.finish(End { how: EndReason::Exhausted, rows: 0, verdict: 0 }, true),
            false => Ok(StepResult::Ready),
        }
    }

    /// Processes the rows of a batch that are in the range.
    fn take_batch(&mut self, batch: RecordBatch, from: FeedInput) -> Result<Counts> {
        self.gauges.see_time(&batch);
        let source = self.feeds.source(from.feed);
        let RangedBatch { rows, filtered, behind, progress } =
            self.range.select(batch, from.input, || source.is_bounded())?;
        self.outputs.report.passed_over += if self.epochs.is_some() { behind } else { 0 };
        let (operator, outputs) = self.parts()?;
        let mut counts = Counts::default();
        if rows.num_rows() > 0 {
            counts = operator.on_batch(rows, from, outputs)?;
        }
        counts.taken += filtered;
        counts.filtered += filtered;
        if let Some(progress) = progress {
            operator.on_control(progress, from, outputs)?;
        }
        Ok(counts)
    }

    /// Ends a feed, and the stage with the last one.
    fn end_feed(&mut self, feed: usize, end: End) -> Result<StepResult> {
        if let Some(operator) = self.phase.feeds() {
            operator.on_feed_end(feed, self.feeds.source(feed), end.how)?;
        }
        match self.feeds.end(feed, end) {
            Some(end) => self.finish(end, false),
            None => Ok(StepResult::Ready),
        }
    }

    /// Ends the stage at the end of the input, or early because the operator needs no more rows: checks the law of
    /// counts, ends the outputs, writes the summary. Errors: exit status 70 if the counts do not add up.
    fn finish(&mut self, end: End, is_early: bool) -> Result<StepResult> {
        self.outputs.progress.hide();
        let rows = self.feeds.counts().out;
        let ended =
            InputEnded { end: End { rows, ..end }, is_proven: !is_early && self.feeds.proof() == EndProof::Proven };
        let (operator, outputs) = self.parts()?;
        let counts = operator.on_end(&ended, outputs)?;
        self.counts.add(&counts, &mut self.outputs);
        while self.store()? {}
        self.outputs.conclude()?;
        if let Some(operator) = self.phase.feeds() {
            operator.conclude(&mut self.outputs)?;
        }
        self.end_last_epoch()?;
        self.counts.end(&self.feeds, &self.outputs);
        let counts = self.all_counts(is_early);
        counts.check()?;
        self.run.service.stopping();
        if self.epochs.as_ref().is_some_and(|epochs| !epochs.has_ended()) {
            self.outputs.judge(&counts, &self.options);
            let end = End { verdict: self.outputs.report.verdict.max(end.verdict), ..end };
            if self.epochs.as_ref().is_some_and(|epochs| !epochs.is_settled()) {
                self.outputs.send_end(&end)?;
            }
            self.phase = Phase::Ending(Ending { end, counts, wait: self.run.stop.server_wait() });
            return Ok(StepResult::Ready);
        }
        self.close(end, counts)
    }

    /// Ends the outputs, which have all epochs, and writes the summary. Errors: exit status 70 if the counts do not add
    /// up.
    fn close(&mut self, mut end: End, mut counts: Counts) -> Result<StepResult> {
        let of_stage = self.outputs.dead.lost.of_stage.min(counts.dead);
        counts.dead -= of_stage;
        counts.dropped += of_stage;
        self.outputs.judge(&counts, &self.options);
        counts.check()?;
        self.gauges.set_counts(&counts);
        self.outputs.set_metrics();
        end.verdict = end.verdict.max(self.outputs.report.verdict);
        let mut reports = self.outputs.finish(&mut end)?;
        let mut dead = self.outputs.dead.by_type.clone();
        match self.phase.feeds() {
            Some(operator) => {
                let run = StageEnd { counts: &counts, feeds: &self.feeds };
                OutputsEnded { outputs: reports, dead } = operator.close(&mut end, &run, &mut self.outputs)?;
            }
            None => self.feeds.sources().for_each(|source| self.outputs.report.warnings.extend(source.warnings())),
        }
        self.feeds.commit_end()?;
        self.outputs.report.warn_of_passed_over();
        self.run.console.set_progress(None);
        let (run, feeds, report) = (&self.run, &self.feeds, &self.outputs.report);
        let summary = Summary { run, counts: &counts, dead: &dead, end: &end, outputs: &reports, feeds, report };
        summary.publish(&self.options)?;
        self.phase = Phase::Ended(end.verdict);
        Ok(StepResult::Ended(end.verdict))
    }

    /// Returns the counts of all records so far ([`StageCounts::all`]).
    fn all_counts(&mut self, is_early: bool) -> Counts {
        self.counts.all(&self.feeds, &self.outputs, self.phase.feeds(), is_early)
    }

    /// Sets the metrics and the status of the service manager.
    fn set_metrics(&mut self) {
        if self.gauges.are_watched() {
            let counts = self.all_counts(false);
            let figures = self.phase.feeds().map(|operator| operator.status()).unwrap_or_default();
            self.gauges.set(&counts, &figures, &self.feeds, &self.outputs);
        }
    }
}

#[cfg(test)]
mod tests;
