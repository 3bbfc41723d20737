//! The epochs of a stage with a checkpoint.
//!
//! ```text
//! state, positions, rows of outputs ─► Checkpoint::complete ─► Outputs::commit ─► Checkpoint::committed
//! ```

use super::operator::Operator;
use super::outputs::Outputs;
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::metrics;
use crate::run::Run;
use crate::store::Epoch;
use std::rc::Rc;
use std::time::Duration;

/// Ends the epochs of a stage, and restores the last one.
pub struct Epochs {
    run: Rc<Run>,
    checkpoint: Checkpoint,
    /// The monotonic time at which the epoch in progress shall end.
    due: Duration,
}

impl Epochs {
    /// Makes epochs that are kept in `checkpoint`.
    pub fn new(checkpoint: Checkpoint, run: Rc<Run>) -> Self {
        let due = run.clock.monotonic() + checkpoint.every();
        Self { run, checkpoint, due }
    }

    /// Whether the epoch in progress shall end now.
    pub fn is_due(&self) -> bool {
        self.run.clock.monotonic() >= self.due
    }

    /// Returns `operator` with the state of the restored epoch. Errors: exit status 78 if it was saved with other options.
    pub fn restore(&self, mut operator: Box<dyn Operator>) -> Result<Box<dyn Operator>> {
        operator.set_storage(Box::new(self.checkpoint.state_files()));
        match self.checkpoint.restored() {
            Some(restored) => {
                operator.restore(&restored.state).map_err(|error| error.at(self.checkpoint.directory().name()))
            }
            None => Ok(operator),
        }
    }

    /// Commits the restored epoch again: a killed run may have committed it to some outputs only.
    pub fn recover(&self, outputs: &mut Outputs) -> Result<()> {
        let Some(restored) = self.checkpoint.restored() else { return Ok(()) };
        if restored.is_committed {
            // The letters of rejected rows were in the epoch after it, which is lost.
            return outputs.push_rejected_in(restored.epoch);
        }
        outputs.commit_epoch(restored.epoch, &restored.parts)?;
        self.checkpoint.directory().set_committed(restored.epoch)
    }

    /// Ends the epoch in progress: the operator has taken the rows before `positions`, and no others.
    pub fn end(&mut self, operator: &mut dyn Operator, positions: &[u8], outputs: &mut Outputs) -> Result<()> {
        let start = self.run.clock.monotonic();
        let epoch = self.checkpoint.epoch();
        let next = Epoch { number: epoch.number + 1, ..epoch };
        let files = operator.state_files()?;
        let state = operator.snapshot();
        let parts = outputs.seal_epoch(next)?;
        let all = parts.iter().cloned().chain(self.checkpoint.keep_files(&files)?).collect();
        let bytes = self.checkpoint.complete(&state, positions, all, self.run.clock.now())?;
        outputs.commit_epoch(epoch, &parts)?;
        self.checkpoint.committed()?;
        let now = self.run.clock.monotonic();
        self.due = now + self.checkpoint.every();
        let metrics = &self.run.metrics;
        metrics.set(&metrics::CHECKPOINT_DURATION, &[], now.saturating_sub(start).as_secs_f64());
        metrics.set(&metrics::CHECKPOINT_EPOCH, &[], epoch.number as f64);
        metrics.set(&metrics::CHECKPOINT_BYTES, &[], bytes as f64);
        Ok(())
    }
}
