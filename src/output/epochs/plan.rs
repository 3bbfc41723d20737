//! A complete epoch as an output sees it, and the rows that its target could not hold.

use crate::checkpoint::log::{EpochPart, outbox_name};
use crate::checkpoint::part::read_outbox;
use crate::checkpoint::part_name;
use crate::checkpoint::store::CheckpointStore;
use crate::error::{Error, Result};
use crate::kind::dead::{ErrorType, Fault};
use crate::store::{Batches, Epoch, PartitionPosition};
use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What an output in a checkpoint is opened with.
#[derive(Clone, Debug)]
pub struct EpochPlan {
    /// Where the checkpoint is kept.
    pub store: Arc<dyn CheckpointStore>,
    /// The id of the checkpoint.
    pub checkpoint: String,
    /// The name of the stage.
    pub stage: String,
    /// The name of the output in it: `to-0`, `late`, `dlq`.
    pub key: String,
    /// The epoch in progress.
    pub epoch: Epoch,
}

impl EpochPlan {
    /// Returns the key of the epochs that a target has committed.
    pub fn key(&self) -> String {
        format!("{}/{}", self.run(), self.key)
    }

    /// Returns what rows name as their run: the same in all runs of the checkpoint.
    pub fn run(&self) -> String {
        format!("{}/{}", self.checkpoint, self.stage)
    }

    /// Reads the rows of this output in an epoch that has some.
    pub(super) fn rows(&self, epoch: Epoch) -> Result<Batches> {
        let name = self.part();
        Ok(Box::new(read_outbox(self.store.open_part(epoch, &name)?, &name)?))
    }

    /// Returns the rows of a committed epoch that the store could not hold.
    pub(super) fn rejected(&self, epoch: Epoch) -> Result<Vec<RejectedRow>> {
        let Some(note) = self.store.own_note(epoch, &self.note())? else { return Ok(vec![]) };
        let kept: Vec<KeptFault> =
            serde_json::from_slice(&note).map_err(|error| Error::corrupt(self.note()).because(error))?;
        let mut kept = kept.into_iter().peekable();
        let (mut rejected, mut before) = (vec![], 0);
        for batch in self.rows(epoch)? {
            let batch = batch?;
            let end = before + batch.num_rows();
            while let Some(KeptFault { row, error_type, message }) = kept.next_if(|kept| kept.row < end) {
                let error_type = ErrorType::from_name(&error_type).unwrap_or(ErrorType::SinkError);
                rejected
                    .push(RejectedRow { row: batch.slice(row - before, 1), fault: Fault::new(error_type, message) });
            }
            before = end;
        }
        Ok(rejected)
    }

    /// Returns the name of the part with the rows of this output.
    pub(super) fn part(&self) -> String {
        outbox_name(&self.stage, &self.key)
    }

    /// Returns the name of the note with the rows that the store could not hold.
    pub(super) fn note(&self) -> String {
        part_name(&self.stage, &format!("rejected-{}", self.key))
    }
}

/// A complete epoch, whose rows outputs get.
#[derive(Clone, Debug)]
pub struct CompleteEpoch {
    /// The epoch.
    pub epoch: Epoch,
    /// Its files.
    pub parts: Vec<EpochPart>,
    /// The positions of the input at its end.
    pub positions: Vec<PartitionPosition>,
}

/// A row that a store could not hold when its epoch was committed.
pub struct RejectedRow {
    /// The row.
    pub row: RecordBatch,
    /// The reason.
    pub fault: Fault,
}

/// The reason for a rejected row, as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptFault {
    pub(super) row: usize,
    pub(super) error_type: String,
    pub(super) message: String,
}
