//! The ends of epochs in the loop of a stage: barriers, commits, and the last epoch of a run.

use super::epochs::Epochs;
use super::operator::Collector;
use super::{ENDING_MAX, Ending, Phase, Progress, Stage};
use crate::error::{Error, Result};
use crate::frame::{Barrier, Control, End};
use crate::ingest::{Item, Sent};
use std::time::Duration;

/// Interval at which a stage that reads nothing looks at its outputs.
const HELD: Duration = Duration::from_millis(10);

impl Stage {
    /// Waits before the next look at outputs that must commit an epoch first.
    pub(super) fn wait_for_outputs(&mut self) -> Progress {
        self.is_held = true;
        Progress::Waiting(HELD)
    }

    /// Waits before this item is taken again.
    pub(super) fn wait_with(&mut self, sent: Sent, interval: Duration) -> Progress {
        self.ahead.push_front(sent);
        self.is_held = true;
        Progress::Waiting(interval)
    }

    /// Ends the epoch in progress at a barrier.
    pub(super) fn take_barrier(&mut self, barrier: Barrier, input: u32) -> Result<Progress> {
        self.epochs.as_ref().map_or(Ok(()), |epochs| epochs.check(&barrier))?;
        // The first stage sends a barrier when the epoch before is complete. A restart commits only the last complete epoch again.
        self.watch_epochs(true)?;
        let is_delayed = |epochs: &mut Epochs| epochs.is_committing() || epochs.is_delayed(&mut self.outputs);
        if self.epochs.as_mut().is_some_and(is_delayed) {
            return Ok(self.wait_with(Sent { input, item: Item::Control(Control::Barrier(barrier)) }, HELD));
        }
        self.epochs.as_ref().map_or(Ok(()), Epochs::check_settled)?;
        self.end_epoch(false).map(|()| Progress::Ready)
    }

    /// Returns how long to wait, at the end of the input, for the epoch before the last one; `None` if it is committed.
    pub(super) fn wait_for_epoch_before(&mut self) -> Result<Option<Duration>> {
        let Some(epochs) = self.epochs.as_ref().filter(|epochs| !epochs.is_settled()) else { return Ok(None) };
        if epochs.is_committing() {
            return Ok(Some(HELD));
        }
        let wait = self.end_wait.get_or_insert_with(|| self.run.stop.server_wait());
        if wait.is_over() || wait.idle() >= ENDING_MAX {
            return Err(epochs.abandoned());
        }
        Ok(Some(epochs.watch_interval()))
    }

    /// Waits until every output has the epoch that is being committed, and commits its positions.
    fn finish_commit(&mut self) -> Result<()> {
        let Some(epochs) = self.epochs.as_mut().filter(|epochs| epochs.is_committing()) else { return Ok(()) };
        epochs.finish_commit(&mut self.outputs)?;
        self.source.commit()
    }

    /// Whether the epoch in progress is to end, and can.
    pub(super) fn can_end_epoch(&mut self) -> Result<bool> {
        let Some(epochs) = self.epochs.as_mut().filter(|epochs| epochs.is_due()) else { return Ok(false) };
        if epochs.is_delayed(&mut self.outputs) { Ok(false) } else { self.source.is_at_cut() }
    }

    /// Ends the epoch in progress, if there is a checkpoint: the stage has taken the rows before the positions of the source, and no
    /// others.
    pub(super) fn end_epoch(&mut self, is_last: bool) -> Result<()> {
        let (Some(epochs), Phase::Running(operator)) = (&mut self.epochs, &mut self.phase) else { return Ok(()) };
        match epochs.end(operator.as_mut(), &self.source.positions()?, &mut self.outputs)? {
            // The end of the stream is the barrier of the last epoch.
            Some(_) if is_last => Ok(()),
            Some(barrier) => self.outputs.control(&Control::Barrier(barrier)),
            // This stage commits it, unless another last stage has not sealed it yet.
            None => self.watch_epochs(false),
        }
    }

    /// Reports rows that an output rejected when the last epoch was committed, if there are more than `before`: no epoch of this run
    /// can hold their letters.
    fn report_deferred(&mut self, before: u64) {
        let letters = self.outputs.refused - before;
        if letters > 0 {
            let line = format!("the dead letters of {letters} rows are in the first epoch of the next run");
            self.outputs.report.warnings.push(line);
            self.outputs.set_verdict(1);
        }
    }

    /// Commits the epochs that the last stage of the pipe has completed; `at_once` even if the log was just watched.
    pub(super) fn watch_epochs(&mut self, at_once: bool) -> Result<()> {
        let Some(epochs) = &mut self.epochs else { return Ok(()) };
        if epochs.watch(&mut self.outputs, at_once)? { self.source.commit() } else { Ok(()) }
    }

    /// Ends the stage once the last stage of the pipe has completed the last epoch. Errors: exit status 75 if that stage ends before.
    pub(super) fn await_epoch(&mut self) -> Result<Progress> {
        let Phase::Ending(Ending { end, refused, wait }) = &self.phase else {
            return Err(Error::broken("a stage ends without an epoch"));
        };
        let (end, refused) = (*end, *refused);
        let is_over = wait.is_over() || wait.idle() >= ENDING_MAX;
        self.watch_epochs(is_over)?;
        match &self.epochs {
            Some(epochs) if !epochs.is_settled() && !epochs.is_committing() && is_over => Err(epochs.abandoned()),
            Some(epochs) if !epochs.is_settled() => Ok(Progress::Waiting(epochs.watch_interval())),
            _ => {
                self.report_deferred(refused);
                let verdict = end.verdict.max(self.outputs.report.verdict);
                self.close(End { verdict, ..end })
            }
        }
    }

    /// Ends the last epoch of the run. Rows that a store rejects at its commit become dead letters in one more epoch.
    pub(super) fn end_last_epoch(&mut self) -> Result<()> {
        if self.epochs.is_none() {
            return Ok(());
        }
        // A run with wrong counts commits nothing.
        self.with_lost(false).check()?;
        loop {
            self.finish_commit()?;
            let refused = self.outputs.refused;
            self.end_epoch(true)?;
            self.finish_commit()?;
            if self.outputs.refused == refused {
                return Ok(());
            }
            if !self.epochs.as_ref().is_some_and(Epochs::is_first) {
                self.report_deferred(refused);
                return Ok(());
            }
        }
    }
}
