//! The epochs of a stage with a checkpoint.
//!
//! ```text
//! first stage    ──── barrier ───►  middle stage  ──── barrier ───►  last stage
//! seal: state, positions, rows      seal: state, rows                seal; complete: the entry of the log; commit
//! commit once the log has the epoch: dead letters, late rows, positions of groups
//! ```
//!
//! A run of one process is first and last stage at once. The end of the stream is the barrier of the last epoch.

use super::operator::Operator;
use super::outputs::Outputs;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::log::EpochPart;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Barrier;
use crate::metrics;
use crate::op::window::watermark::ContinuedInput;
use crate::output::epochs::CompleteEpoch;
use crate::run::Run;
use crate::source::positions::partition_positions;
use crate::store::Epoch;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// Time after which a message says that a later stage holds an epoch.
const SLOW: Duration = Duration::from_secs(30);

/// Interval of messages to branches that may have gone.
const PROBE: Duration = Duration::from_secs(5);

/// Ends the epochs of a stage, and restores the last one.
pub struct Epochs {
    run: Rc<Run>,
    checkpoint: Checkpoint,
    /// The time between two epochs; `None` if the stage gets barriers from an earlier one.
    every: Option<Duration>,
    /// The monotonic time at which the epoch in progress shall end.
    due: Duration,
    /// Epochs that this stage has sealed and the last stage has not completed, as far as is known.
    sealed: VecDeque<SealedEpoch>,
    /// The monotonic time at which the log is to be watched again.
    watched: Duration,
    /// The monotonic time of the last message to branches that may have gone.
    probed: Duration,
}

/// An epoch that the last stage completes.
struct SealedEpoch {
    epoch: Epoch,
    parts: Vec<EpochPart>,
    /// The watermark of the operator at its end (µs).
    watermark: Option<i64>,
    /// The monotonic time at which its end began.
    start: Duration,
    bytes: u64,
    /// Whether the delay has been reported.
    is_reported: bool,
}

impl SealedEpoch {
    fn of(epoch: Epoch, parts: Vec<EpochPart>, watermark: Option<i64>) -> Self {
        Self { epoch, parts, watermark, start: Duration::ZERO, bytes: 0, is_reported: false }
    }
}

impl Epochs {
    /// Makes the epochs of the first stage, which end `every` so often.
    pub fn begun(checkpoint: Checkpoint, every: Duration, run: Rc<Run>) -> Self {
        let due = run.clock.monotonic() + every;
        Self {
            run,
            checkpoint,
            every: Some(every),
            due,
            sealed: VecDeque::new(),
            watched: Duration::ZERO,
            probed: Duration::ZERO,
        }
    }

    /// Makes the epochs of a later stage, which end at the barriers of the first one.
    pub fn joined(checkpoint: Checkpoint, run: Rc<Run>) -> Self {
        Self {
            run,
            checkpoint,
            every: None,
            due: Duration::MAX,
            sealed: VecDeque::new(),
            watched: Duration::ZERO,
            probed: Duration::ZERO,
        }
    }

    /// Returns the checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Returns the interval at which the log is watched for an epoch.
    pub fn watch_interval(&self) -> Duration {
        self.checkpoint.store().watch_interval()
    }

    /// Returns why the stage failed: a newer run, or `error`.
    pub fn cause(&self, error: Error) -> Error {
        self.checkpoint.cause(error)
    }

    /// Whether this is the first stage of the pipe, which decides when epochs end.
    pub fn is_first(&self) -> bool {
        self.every.is_some()
    }

    /// Whether the epoch in progress shall end now. At most one epoch is under way through the pipe.
    pub fn is_due(&self) -> bool {
        self.every.is_some() && self.sealed.is_empty() && self.run.clock.monotonic() >= self.due
    }

    /// Returns `operator` with the state of the restored epoch. Errors: exit status 78 if it was saved with other options.
    pub fn restore(&self, mut operator: Box<dyn Operator>, continued: &[ContinuedInput]) -> Result<Box<dyn Operator>> {
        operator.set_storage(Box::new(self.checkpoint.state_files()));
        let Some(restored) = self.checkpoint.restored() else { return Ok(operator) };
        let restored = operator.restore(&restored.state);
        let mut operator = restored.map_err(|error| error.at(self.checkpoint.store().name()))?;
        operator.begin_run(continued);
        Ok(operator)
    }

    /// Commits the restored epoch again: a killed run may have committed it to some outputs only.
    pub fn recover(&mut self, operator: &dyn Operator, outputs: &mut Outputs) -> Result<()> {
        self.commit_restored(operator, outputs)?;
        // The clock counts from the start of the process.
        self.run.metrics.set(&metrics::RECOVERY, &[], self.run.clock.monotonic().as_secs_f64());
        Ok(())
    }

    fn commit_restored(&mut self, operator: &dyn Operator, outputs: &mut Outputs) -> Result<()> {
        let Some(restored) = self.checkpoint.restored() else { return Ok(()) };
        let epoch = restored.epoch;
        if restored.is_committed {
            // The letters of rejected rows were in the epoch after it, which is lost.
            outputs.push_rejected_in(epoch)?;
            return self.checkpoint.store().release(epoch);
        }
        let sealed = SealedEpoch::of(epoch, restored.parts.clone(), operator.watermark());
        self.commit_outputs(&sealed, outputs)?;
        self.checkpoint.committed(epoch)
    }

    /// Writes the rows of a complete epoch to every output, with what databases store of its positions.
    fn commit_outputs(&self, sealed: &SealedEpoch, outputs: &mut Outputs) -> Result<()> {
        let SealedEpoch { epoch, parts, watermark, .. } = sealed;
        let positions = partition_positions(&self.checkpoint.positions(*epoch)?, &self.run.pipeline, *watermark)?;
        outputs.commit_epoch(CompleteEpoch { epoch: *epoch, parts, positions: &positions })
    }

    /// Ends the epoch in progress: the operator has taken the rows before `positions`, and no others. The last stage
    /// commits it, the last one of several that seals it. Returns the barrier for later stages.
    pub fn end(
        &mut self,
        operator: &mut dyn Operator,
        positions: &[u8],
        outputs: &mut Outputs,
    ) -> Result<Option<Barrier>> {
        let start = self.run.clock.monotonic();
        let epoch = self.checkpoint.epoch();
        let next = Epoch { number: epoch.number + 1, ..epoch };
        let files = operator.state_files()?;
        let state = operator.snapshot();
        let mut parts = outputs.seal_epoch(next)?;
        parts.extend(self.checkpoint.keep_files(&files)?);
        let own = self.checkpoint.seal(&state, positions, parts)?;
        let bytes = own.parts.iter().map(|part| part.bytes).sum();
        let sealed = SealedEpoch { start, bytes, ..SealedEpoch::of(epoch, own.parts.clone(), operator.watermark()) };
        let has_readers = self.checkpoint.has_readers();
        if !has_readers && self.checkpoint.complete(epoch, own, self.run.clock.now())? {
            return self.commit(&sealed, outputs).map(|()| None);
        }
        self.sealed.push_back(sealed);
        Ok(has_readers.then_some(Barrier { run: epoch.run, number: epoch.number }))
    }

    /// Commits a complete epoch.
    fn commit(&mut self, sealed: &SealedEpoch, outputs: &mut Outputs) -> Result<()> {
        self.commit_outputs(sealed, outputs)?;
        let SealedEpoch { epoch, start, bytes, .. } = sealed;
        self.checkpoint.committed(*epoch)?;
        let now = self.run.clock.monotonic();
        self.due = now + self.every.unwrap_or_default();
        let metrics = &self.run.metrics;
        metrics.set(&metrics::CHECKPOINT_DURATION, &[], now.saturating_sub(*start).as_secs_f64());
        metrics.set(&metrics::CHECKPOINT_EPOCH, &[], epoch.number as f64);
        metrics.set(&metrics::CHECKPOINT_BYTES, &[], *bytes as f64);
        Ok(())
    }

    /// Commits the epochs that the last stage has completed, if the log is to be watched now or `at_once`; returns
    /// whether there was one.
    ///
    /// Errors: exit status 75 if a newer run has begun, or if a later stage has ended and an epoch is not complete.
    pub fn watch(&mut self, outputs: &mut Outputs, at_once: bool) -> Result<bool> {
        if self.sealed.is_empty() {
            return Ok(false);
        }
        let now = self.run.clock.monotonic();
        if now < self.watched && !at_once {
            return Ok(false);
        }
        self.watched = now + self.watch_interval();
        // Before the log: the reader may have ended because it has completed the epoch.
        let is_lost = self.checkpoint.has_readers() && self.run.io.has_lost_reader(Duration::ZERO);
        let mut is_any = false;
        while let Some(first) = self.sealed.front_mut() {
            let Epoch { run, number } = first.epoch;
            if !self.checkpoint.is_complete(first.epoch)? {
                let waited = now.saturating_sub(first.start);
                if is_lost {
                    return Err(self.abandoned());
                }
                if self.every.is_some() && waited >= SLOW && !std::mem::replace(&mut first.is_reported, true) {
                    let seconds = waited.as_secs();
                    let missing = self.checkpoint.missing(first.epoch)?;
                    let line = format!("epoch ({run}, {number}) is not complete after {seconds} s: {missing}");
                    self.run.console.say(line);
                }
                if self.checkpoint.has_branches() && now >= self.probed.max(first.start) + PROBE {
                    self.probed = now;
                    outputs.repeat_progress()?;
                }
                break;
            }
            if let Some(first) = self.sealed.pop_front() {
                self.commit(&first, outputs)?;
            }
            is_any = true;
        }
        Ok(is_any)
    }

    /// Whether the last stage has completed all epochs that this one has sealed.
    pub fn is_settled(&self) -> bool {
        self.sealed.is_empty()
    }

    /// Checks that every epoch that this stage has sealed is committed. Errors: exit status 65 if not.
    pub fn check_settled(&self) -> Result<()> {
        let early = || Error::corrupt("a barrier arrived before the previous epoch was complete");
        if self.is_settled() { Ok(()) } else { Err(early()) }
    }

    /// Checks that a barrier ends the epoch in progress. Errors: exit status 65 if not.
    pub fn check(&self, barrier: &Barrier) -> Result<()> {
        let Epoch { run, number } = self.checkpoint.epoch();
        match (barrier.run, barrier.number) == (run, number) {
            true => Ok(()),
            false => {
                let (of_run, of_number) = (barrier.run, barrier.number);
                Err(Error::corrupt(format!("expected the barrier ({run}, {number}), found ({of_run}, {of_number})")))
            }
        }
    }

    /// Makes the error of a run whose later stages have ended before the last epoch was complete. Exit status 75.
    #[cold]
    pub fn abandoned(&self) -> Error {
        let Epoch { run, number } = self.sealed.front().map_or(self.checkpoint.epoch(), |sealed| sealed.epoch);
        let message = format!(
            "epoch ({run}, {number}) is not complete, because a later stage has ended, or takes no part; the next run repeats \
             what follows the epoch before"
        );
        Error::new(ErrorKind::Fenced, message)
    }
}

/// Checks the `--branch` of a stage whose input has no checkpoint. Errors: exit status 2 if there is one.
pub fn check_branch(branch: Option<&str>) -> Result<()> {
    match branch {
        Some(branch) => {
            Err(Error::usage(format!("--branch {branch}: expected a pipe with a checkpoint, found one without")))
        }
        None => Ok(()),
    }
}
