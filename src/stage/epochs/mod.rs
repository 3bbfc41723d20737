//! The epochs of a stage with a checkpoint.
//!
//! ```text
//! first stage    ──── barrier ───►  middle stage  ──── barrier ───►  last stage
//! seal: state, positions, rows      seal: state, rows                seal; complete: the entry of the log; commit
//! commit once the log has the epoch: dead letters, late rows, positions of groups
//! ```
//!
//! A run of one process is first and last stage at once. The end of the stream is the barrier of the last epoch.
//!
//! Outputs commit an epoch in threads of their own; the stage takes rows of the next one meanwhile. The next epoch ends
//! only when all outputs of all stages have committed the epoch before it, because a restart repeats the commit of one
//! epoch only. At the end of the input a stage waits until all stages have committed the last epoch, so that none of
//! them exits with 0 if one fails to.
//!
//! `waits.rs`: what a stage waits for, and what it says about that.

use super::operator::{Operator, Snapshot};
use super::outputs::Outputs;
use crate::output::epochs::{CompleteEpoch, RejectedLetters};
use crate::source::positions::partition_positions;
use evt_core::error::{Error, Result};
use evt_core::frame::Barrier;
use evt_core::op::window::watermark::ContinuedTopic;
use evt_run::checkpoint::Checkpoint;
use evt_run::checkpoint::epoch::Epoch;
use evt_run::checkpoint::log::EpochPart;
use evt_run::checkpoint::part::SealedParts;
use evt_run::metrics;
use evt_run::run::Run;
use evt_run::stop::Wait;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use waits::{Delay, LaterCommit, Looks, READS_NOTHING, Reports, seconds};

mod waits;

/// Time after which a message says that a later stage delays an epoch.
const SLOW: Duration = Duration::from_secs(30);
/// Time after which a message says that an output delays an epoch.
const SLOW_OUTPUT: Duration = Duration::from_secs(10);
/// Time after the stop timeout in which an output can still report its own error.
const FAILING: Duration = Duration::from_millis(700);
/// Time after which a stage stops waiting for another one that neither completes or commits the last epoch nor fails.
/// Such a stage was killed behind tee, or the reader is a program that is not a stage.
const ENDING_MAX: Duration = Duration::from_secs(600);
/// How long the first stage waits for the outputs of later stages before it ends the next epoch. After that time, a
/// later stage whose outputs have not committed the previous epoch waits at the barrier.
const LATER_MAX: Duration = Duration::from_secs(600);
/// How long a call waits for outputs before it checks the stop signal.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Interval of messages to branches that may have gone.
const PROBE: Duration = Duration::from_secs(5);
/// Number of polls of the log between two checks for failed stages.
const INTERVALS_PER_CHECK: u32 = 20;

/// Ends the epochs of a stage, and restores the last one.
pub struct Epochs {
    run: Rc<Run>,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The time between two epochs; `None` if the stage gets barriers from an earlier one.
    every: Option<Duration>,
    /// The monotonic time at which the epoch in progress shall end.
    due: Duration,
    /// Epochs that this stage has sealed and the last stage has not completed, as far as is known.
    sealed: VecDeque<SealedEpoch>,
    /// The commit in progress.
    commit: Option<Commit>,
    /// The wait for stores that have not answered rows of the epoch that is to end.
    delay: Option<Delay>,
    /// The epoch that other stages may not have committed yet, if this stage is the first one of a pipe, or if the
    /// epoch is the last one.
    later: Option<LaterCommit>,
    /// Whether the epoch in progress is the last one.
    is_ending: bool,
    looks: Looks,
    /// The wait at the end of the input until the epoch before the last one is committed.
    end_wait: Option<Wait>,
}

/// The commit of a complete epoch, which is in progress in some outputs.
struct Commit {
    sealed: SealedEpoch,
    /// The monotonic time at which it began.
    start: Duration,
    /// The wait for the outputs, which a signal bounds.
    wait: Wait,
    /// The monotonic time at which a poll first found that `wait` is over; `None` before.
    over: Option<Duration>,
    reports: Reports,
}

/// An epoch whose parts this stage has written; the last stage of the pipe completes it.
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
    /// Makes the epochs of the first stage, which end at intervals of `every`.
    pub fn begun(checkpoint: Checkpoint, every: Duration, run: Rc<Run>) -> Self {
        let due = run.clock.monotonic() + every;
        Self { every: Some(every), due, ..Self::joined(checkpoint, run) }
    }

    /// Makes the epochs of a later stage, which end at the barriers of the first one.
    pub fn joined(checkpoint: Checkpoint, run: Rc<Run>) -> Self {
        Self {
            run,
            checkpoint,
            every: None,
            due: Duration::MAX,
            sealed: VecDeque::new(),
            commit: None,
            delay: None,
            later: None,
            is_ending: false,
            looks: Looks::default(),
            end_wait: None,
        }
    }

    /// Returns the interval at which the log is watched for an epoch.
    pub fn watch_interval(&self) -> Duration {
        self.checkpoint.place.watch_interval
    }

    /// Tells the other stages that this one fails. Returns the error: exit status 75 if a newer run has begun, else
    /// `error`.
    pub fn fail(&self, error: Error) -> Error {
        self.checkpoint.note_failure();
        self.checkpoint.cause(error)
    }

    /// Whether the epoch in progress shall end now. At most one epoch is under way through the pipe.
    pub fn is_due(&self) -> bool {
        self.every.is_some() && self.has_ended() && self.run.clock.monotonic() >= self.due
    }

    /// Returns `operator` with the state of the restored epoch. Errors: exit status 78 if it was saved with other
    /// options.
    pub fn restore(&self, mut operator: Box<dyn Operator>, continued: &[ContinuedTopic]) -> Result<Box<dyn Operator>> {
        operator.set_storage(Box::new(self.checkpoint.state_files()));
        let Some(restored) = self.checkpoint.restored.as_ref() else { return Ok(operator) };
        let restored = operator.restore(&restored.state);
        let mut operator = restored.map_err(|error| error.at(&self.checkpoint.place.name))?;
        operator.begin_run(continued);
        Ok(operator)
    }

    /// Commits the restored epoch again: a killed run may have committed it to some outputs only.
    pub fn recover(&mut self, operator: &dyn Operator, outputs: &mut Outputs) -> Result<()> {
        self.commit_restored(operator, outputs)?;
        // The clock counts from the start of the process.
        let seconds = self.run.clock.monotonic().as_secs_f64();
        self.run.metrics.set(&metrics::RECOVERY, &[], seconds);
        outputs.report.details.insert("recovery_seconds".to_owned(), seconds.into());
        Ok(())
    }

    fn commit_restored(&mut self, operator: &dyn Operator, outputs: &mut Outputs) -> Result<()> {
        let Some(restored) = self.checkpoint.restored.as_ref() else { return Ok(()) };
        let epoch = restored.epoch;
        if restored.is_committed {
            return self.checkpoint.place.release(epoch);
        }
        let sealed = SealedEpoch::of(epoch, restored.parts.clone(), operator.watermark());
        self.begin_commit(sealed, outputs)?;
        self.finish_commit(outputs)
    }

    /// Ends the epoch in progress: the operator has taken the rows before `positions`, and no others. The last stage
    /// begins to commit it, the last one of several that seals it. Returns the barrier for later stages.
    pub fn end(
        &mut self,
        operator: &mut dyn Operator,
        positions: &[u8],
        outputs: &mut Outputs,
    ) -> Result<Option<Barrier>> {
        let (start, began) = (self.run.clock.monotonic(), self.run.clock.now());
        let epoch = self.checkpoint.epoch;
        let next = Epoch { number: epoch.number + 1, ..epoch };
        let files = operator.state_files()?;
        let Snapshot { spec, state } = operator.snapshot();
        let mut outboxes = outputs.seal_epoch(next)?;
        outboxes.extend(self.checkpoint.keep_files(&files)?);
        let watermark = operator.watermark();
        let parts = SealedParts { began, spec: &spec, state: &state, watermark, positions, outboxes };
        let own = self.checkpoint.seal(parts)?;
        let bytes = own.parts.iter().map(|part| part.bytes).sum();
        let sealed = SealedEpoch { start, bytes, ..SealedEpoch::of(epoch, own.parts.clone(), watermark) };
        let has_readers = self.checkpoint.own.has_readers;
        if !has_readers && self.checkpoint.complete(epoch, own, self.run.clock.now())? {
            return self.begin_commit(sealed, outputs).map(|()| None);
        }
        self.sealed.push_back(sealed);
        Ok(has_readers.then_some(Barrier { run: epoch.run, number: epoch.number }))
    }

    /// Begins to write the rows of a complete epoch to every output, with what databases store of its positions.
    fn begin_commit(&mut self, sealed: SealedEpoch, outputs: &mut Outputs) -> Result<()> {
        let epoch = sealed.epoch;
        // Windows may be in a stage before this one.
        let watermark = sealed.watermark.or_else(|| self.checkpoint.earlier_watermark(epoch));
        let positions = partition_positions(&self.checkpoint.positions(epoch)?, &self.run.pipeline, watermark)?;
        let now = self.run.clock.now();
        let (recorded, parts) = (self.checkpoint.recorded.epoch(epoch), sealed.parts.clone());
        outputs.begin_commit(CompleteEpoch {
            epoch,
            recorded,
            parts,
            positions,
            now,
            letters: RejectedLetters::default(),
        })?;
        let (start, wait) = (self.run.clock.monotonic(), self.run.stop.server_wait());
        self.due = start + self.every.unwrap_or_default();
        self.commit = Some(Commit { sealed, start, wait, over: None, reports: Reports::default() });
        Ok(())
    }

    /// Whether outputs are committing an epoch.
    pub fn is_committing(&self) -> bool {
        self.commit.is_some()
    }

    /// Waits for the commit in progress, for at most `limit`. Returns whether this call has ended a commit.
    fn poll_commit(&mut self, outputs: &mut Outputs, limit: Duration) -> Result<bool> {
        if self.commit.is_none() {
            return Ok(false);
        }
        if !outputs.poll_commit(limit)? {
            return self.report_commit(outputs, !limit.is_zero()).map(|()| false);
        }
        let Some(Commit { sealed, start: began, reports, .. }) = self.commit.take() else { return Ok(false) };
        let SealedEpoch { epoch, start, bytes, .. } = sealed;
        self.checkpoint.committed(epoch)?;
        let now = self.run.clock.monotonic();
        if !reports.named.is_empty() {
            let (named, waited) = (reports.named, seconds(now.saturating_sub(began)));
            self.run.console.say(format!("{named}: epoch {epoch} is committed after {waited}"));
        }
        if self.is_ending || self.every.is_some() && self.checkpoint.own.has_readers {
            self.later = Some(LaterCommit { epoch, start: now, reports: Reports::default() });
        }
        // A restored epoch was sealed by another run.
        if bytes > 0 {
            let metrics = &self.run.metrics;
            metrics.set(&metrics::CHECKPOINT_DURATION, &[], now.saturating_sub(start).as_secs_f64());
            metrics.set(&metrics::CHECKPOINT_EPOCH, &[], epoch.number as f64);
            metrics.set(&metrics::CHECKPOINT_BYTES, &[], bytes as f64);
        }
        Ok(true)
    }

    /// Reports the outputs that a slow commit waits for; `waits` if the stage does nothing else. Errors: exit status 69
    /// if the commit is not done some time after a signal.
    fn report_commit(&mut self, outputs: &mut Outputs, waits: bool) -> Result<()> {
        let is_held = !waits && self.is_held(outputs);
        let Some(commit) = &mut self.commit else { return Ok(()) };
        let now = self.run.clock.monotonic();
        let (epoch, waited) = (commit.sealed.epoch, seconds(now.saturating_sub(commit.start)));
        if commit.wait.is_over() {
            let over = *commit.over.get_or_insert(now);
            if now.saturating_sub(over) >= FAILING {
                let names = outputs.committing().join(", ");
                let message =
                    format!("{names}: epoch {epoch} is not committed after {waited}; the next run commits it");
                return Err(Error::unavailable(message));
            }
        }
        if commit.reports.is_due(now, commit.start, SLOW_OUTPUT, is_held) {
            commit.reports.named = outputs.committing().join(", ");
            let named = &commit.reports.named;
            let effect = waits::effect(waits || self.is_ending, is_held);
            self.run.console.say(format!("{named}: epoch {epoch} is not committed after {waited}; {effect}"));
        }
        Ok(())
    }

    /// Waits until every output has the epoch whose commit is in progress.
    pub fn finish_commit(&mut self, outputs: &mut Outputs) -> Result<()> {
        while self.commit.is_some() {
            self.poll_commit(outputs, STOP_CHECK_INTERVAL)?;
        }
        Ok(())
    }

    /// Whether the stage is to read nothing: its outputs have as many rows of the epoch in progress as may wait for the
    /// one before.
    pub fn is_held(&self, outputs: &mut Outputs) -> bool {
        let is_waiting = self.commit.is_some() || self.later.is_some() || self.delay.is_some();
        is_waiting && outputs.epoch_bytes() >= self.run.ahead_max
    }

    /// Whether the epoch that is to end must wait for stores that have not answered its rows. Prints the names of the
    /// stores.
    pub fn waits_for_outputs(&mut self, outputs: &mut Outputs, is_at_barrier: bool) -> bool {
        let named = outputs.writing().join(", ");
        if named.is_empty() {
            self.delay = None;
            return false;
        }
        let (now, is_held) = (self.run.clock.monotonic(), self.is_held(outputs));
        let epoch = self.checkpoint.epoch;
        let delay = self.delay.get_or_insert_with(|| Delay { start: now, reports: Reports::default() });
        if delay.reports.is_due(now, delay.start, SLOW_OUTPUT, is_held) {
            let waited = seconds(now.saturating_sub(delay.start));
            let effect = match (is_at_barrier, is_held) {
                (true, _) => "the stage waits at its barrier",
                (false, true) => READS_NOTHING,
                (false, false) => "the stage reads on",
            };
            self.run.console.say(format!("{named}: rows of epoch {epoch} are not written after {waited}; {effect}"));
        }
        true
    }

    /// Makes the epoch in progress the last one: the stage ends when all stages have committed it.
    pub fn begin_last(&mut self) {
        self.is_ending = true;
    }

    /// Whether every stage has committed all epochs, as far as this one must know.
    pub fn has_ended(&self) -> bool {
        self.is_settled() && self.later.is_none()
    }

    /// Whether this stage, which has waited since the end of its input, stops waiting for others to complete or commit
    /// the last epoch. It waits for their commits from its own commit on.
    pub fn gives_up(&self, wait: &Wait) -> bool {
        match &self.later {
            Some(later) if self.is_settled() => {
                wait.is_over() || self.run.clock.monotonic().saturating_sub(later.start) >= ENDING_MAX
            }
            _ => is_over(wait),
        }
    }

    /// Returns the words for a neighbour in the pipe that has ended; `None` if none has. The stage before this one ends
    /// before it only if it was killed or has failed.
    fn lost_neighbour(&self) -> Option<&'static str> {
        if self.checkpoint.own.has_readers && self.run.io.has_lost_reader(Duration::ZERO) {
            return Some("a later stage");
        }
        (self.every.is_none() && self.run.io.has_lost_writer()).then_some("an earlier stage")
    }

    /// Checks whether the other stages have committed the epoch in `later`. Stops waiting for them after [`LATER_MAX`],
    /// unless the epoch is the last one.
    ///
    /// Errors: exit status 75 if a stage has ended before it committed the epoch.
    fn watch_later(&mut self, outputs: &mut Outputs, now: Duration) -> Result<()> {
        let is_held = self.is_held(outputs);
        // Before the marks: the neighbour may have ended because all epochs are committed.
        let lost = self.lost_neighbour();
        let Some(later) = &mut self.later else { return Ok(()) };
        let stages = self.checkpoint.uncommitted(later.epoch)?;
        let (epoch, waited) = (later.epoch, now.saturating_sub(later.start));
        if stages.is_empty() || waited >= LATER_MAX && !self.is_ending {
            self.later = None;
            return Ok(());
        }
        let named = stages.join(", ");
        if let Some(lost) = lost {
            let message =
                format!("{named}: epoch {epoch} is not committed, because {lost} has ended; the next run commits it");
            return Err(Error::incomplete(message));
        }
        if later.reports.is_due(now, later.start, SLOW, is_held) {
            let effect = waits::effect(self.is_ending, is_held);
            let waited = seconds(waited);
            self.run.console.say(format!("{named}: epoch {epoch} is not committed after {waited}; {effect}"));
        }
        Ok(())
    }

    /// Polls the commit in progress. If there is none, and the log is to be read now or `at_once`, begins to commit the
    /// epoch that the last stage has completed. Returns whether this call has ended a commit.
    ///
    /// Errors: exit status 75 if a newer run has begun, or if a later stage has ended and an epoch is not complete or
    /// not committed.
    pub fn watch(&mut self, outputs: &mut Outputs, at_once: bool) -> Result<bool> {
        if self.poll_commit(outputs, Duration::ZERO)? {
            return Ok(true);
        }
        let now = self.run.clock.monotonic();
        if self.commit.is_some() || now < self.looks.log && !at_once {
            return Ok(false);
        }
        self.looks.log = now + self.watch_interval();
        if self.sealed.is_empty() && self.later.is_none() {
            // The first stage sends no barrier while a later stage has not committed, and a quiet stream without
            // barriers writes nothing, so no write would show that a later stage was killed.
            let is_lost = self.checkpoint.own.has_readers && self.run.io.has_lost_reader(Duration::ZERO);
            return if is_lost { Err(self.lost()) } else { Ok(false) };
        }
        // Before the log and the marks: a stage may have failed after it has committed the epoch.
        let failed = self.look_for_failure(now)?;
        self.watch_later(outputs, now)?;
        self.watch_log(now)?.map_or(Ok(()), |complete| self.begin_commit(complete, outputs))?;
        if let Some(stage) = failed.filter(|_| !self.sealed.is_empty() || self.later.is_some()) {
            return Err(self.abandoned_for(&stage));
        }
        self.probe(now, outputs)?;
        self.poll_commit(outputs, Duration::ZERO)
    }

    /// Returns the epoch that the last stage has completed, if there is one.
    fn watch_log(&mut self, now: Duration) -> Result<Option<SealedEpoch>> {
        let Some(first) = self.sealed.front_mut() else { return Ok(None) };
        // Before the log: the reader may have ended because it has completed the epoch.
        let is_lost = self.checkpoint.own.has_readers && self.run.io.has_lost_reader(Duration::ZERO);
        if self.checkpoint.is_complete(first.epoch)? {
            return Ok(self.sealed.pop_front());
        }
        let waited = now.saturating_sub(first.start);
        if is_lost {
            return Err(self.lost());
        }
        if self.every.is_some() && waited >= SLOW && !std::mem::replace(&mut first.is_reported, true) {
            let missing = self.checkpoint.missing(first.epoch)?;
            let line = format!("epoch {} is not complete after {} s: {missing}", first.epoch, waited.as_secs());
            self.run.console.say(line);
        }
        Ok(None)
    }

    /// Returns the name of a stage of the run that has failed; `None` if no stage has failed, or if the next check is
    /// not due. After a failure, an epoch that waits for other stages never becomes complete or committed to all
    /// outputs.
    fn look_for_failure(&mut self, now: Duration) -> Result<Option<String>> {
        let sealed = self.sealed.front().map(|sealed| sealed.start);
        let since = sealed.into_iter().chain(self.later.as_ref().map(|later| later.start)).max().unwrap_or(now);
        if now < self.looks.failure.max(since) + INTERVALS_PER_CHECK * self.watch_interval() {
            return Ok(None);
        }
        self.looks.failure = now;
        let awaited = self.sealed.front().map(|sealed| sealed.epoch).or(self.later.as_ref().map(|later| later.epoch));
        awaited.map_or(Ok(None), |epoch| self.checkpoint.failed(epoch))
    }

    /// Repeats the last progress message while an epoch waits for branches: the write fails if the reader of a branch
    /// has ended.
    fn probe(&mut self, now: Duration, outputs: &mut Outputs) -> Result<()> {
        let Some(first) = self.sealed.front().filter(|_| self.checkpoint.has_branches()) else { return Ok(()) };
        if now < self.looks.probe.max(first.start) + PROBE {
            return Ok(());
        }
        self.looks.probe = now;
        outputs.repeat_progress()
    }

    /// Whether every output of this stage has committed all epochs that the stage has sealed.
    pub fn is_settled(&self) -> bool {
        self.sealed.is_empty() && self.commit.is_none()
    }

    /// Whether the epoch in progress can end at a barrier; not while outputs commit the epoch before. Errors: exit
    /// status 65 if the barrier is not its end, or if the epoch before is not complete: the first stage sends barriers
    /// one after another, and a restart commits only the last complete epoch again.
    pub fn is_ready(&mut self, barrier: &Barrier, outputs: &mut Outputs) -> Result<bool> {
        self.check(barrier)?;
        if self.is_committing() {
            return Ok(false);
        }
        // The store of the letters may not answer these promptly.
        outputs.dead.flush()?;
        if self.waits_for_outputs(outputs, true) {
            return Ok(false);
        }
        let early = || Error::corrupt("a barrier arrived before the previous epoch was complete");
        if self.is_settled() { Ok(true) } else { Err(early()) }
    }

    /// Returns how long to wait, at the end of the input, until the next check of the epoch before the last one; `None`
    /// if that epoch is committed. Errors: exit status 75 if a later stage does not complete it.
    pub fn wait_before_last(&mut self) -> Result<Option<Duration>> {
        if self.is_settled() || self.is_committing() {
            return Ok(self.is_committing().then_some(STOP_CHECK_INTERVAL));
        }
        let wait = self.end_wait.get_or_insert_with(|| self.run.stop.server_wait());
        if is_over(wait) { Err(self.abandoned()) } else { Ok(Some(self.watch_interval())) }
    }

    /// Checks that a barrier ends the epoch in progress. Errors: exit status 65 if not.
    fn check(&self, barrier: &Barrier) -> Result<()> {
        let expected = self.checkpoint.epoch;
        let found = Epoch { run: barrier.run, number: barrier.number };
        match found == expected {
            true => Ok(()),
            false => Err(Error::corrupt(format!("expected the barrier of epoch {expected}, found that of {found}"))),
        }
    }

    /// Makes the error of a run that has waited long enough for its later stages. Exit status 75.
    #[cold]
    pub fn abandoned(&self) -> Error {
        if let (Some(later), true) = (&self.later, self.sealed.is_empty()) {
            let waited = seconds(self.run.clock.monotonic().saturating_sub(later.start));
            let message = format!(
                "epoch {} is not committed: other stages have not committed it within {waited}; the next run commits it",
                later.epoch
            );
            return Error::incomplete(message);
        }
        let Some(signal) = self.run.stop.since() else { return self.lost() };
        let (epoch, waited) = (self.waiting_epoch(), seconds(self.run.clock.monotonic().saturating_sub(signal)));
        let message = format!(
            "epoch {epoch} is not complete: the later stages have not completed it within {waited} of the signal; the \
             next run continues after the last complete epoch"
        );
        Error::incomplete(message)
    }

    /// Makes the error of a run whose later stages have ended before the last epoch was complete. Exit status 75.
    #[cold]
    fn lost(&self) -> Error {
        self.abandoned_because("a later stage has ended, or a program in the pipe is not a stage of evt")
    }

    /// Makes the error of a run in which `stage` has failed before an epoch was complete or committed. Exit status 75.
    #[cold]
    fn abandoned_for(&self, stage: &str) -> Error {
        if let (Some(later), true) = (&self.later, self.sealed.is_empty()) {
            let epoch = later.epoch;
            let message =
                format!("epoch {epoch} is not committed, because {stage} has failed; the next run commits it");
            return Error::incomplete(message);
        }
        self.abandoned_because(&format!("{stage} has failed"))
    }

    /// Returns the epoch that other stages have not completed, or the one in progress.
    fn waiting_epoch(&self) -> Epoch {
        self.sealed.front().map_or(self.checkpoint.epoch, |sealed| sealed.epoch)
    }

    fn abandoned_because(&self, why: &str) -> Error {
        let epoch = self.waiting_epoch();
        let message =
            format!("epoch {epoch} is not complete, because {why}; the next run continues after the previous epoch");
        Error::incomplete(message)
    }
}

/// Whether a stage stops waiting for other stages to complete an epoch.
fn is_over(wait: &Wait) -> bool {
    wait.is_over() || wait.idle() >= ENDING_MAX
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

/// Makes the error of a stage that reads other inputs beside a pipe with a checkpoint.
#[cold]
pub fn only_input() -> Error {
    Error::usage("expected the pipe with a checkpoint as the only input, found others")
}
