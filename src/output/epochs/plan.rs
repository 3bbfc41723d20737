//! A complete epoch as an output sees it.

use super::rejected::RejectedLetters;
use evt_run::checkpoint::epoch::{Epoch, PartitionPosition};
use evt_run::checkpoint::log::{EpochPart, outbox_name, target_key};
use evt_run::checkpoint::part::part_name;
use evt_run::checkpoint::place::CheckpointPlace;
use std::sync::Arc;

/// An output of a checkpoint: the checkpoint, the names of the stage and the output in it, and the epoch in progress.
#[derive(Clone, Debug)]
pub struct EpochPlan {
    /// The directory or the bucket of the checkpoint.
    pub place: Arc<CheckpointPlace>,
    /// The id of the checkpoint.
    pub checkpoint: String,
    /// The name of the stage.
    pub stage: String,
    /// The name of the output in the stage: `to-0`, `late`, `dlq`.
    pub key: String,
    /// The epoch in progress.
    pub epoch: Epoch,
    /// The last complete epoch before the run, as outputs record it.
    pub last_recorded: Option<Epoch>,
}

impl EpochPlan {
    /// Returns the key of the epochs that a target has committed.
    pub fn key(&self) -> String {
        target_key(&self.checkpoint, &self.stage, &self.key)
    }

    /// Returns the name of the run in rows, which is the same in all runs of the checkpoint.
    pub fn run(&self) -> String {
        format!("{}/{}", self.checkpoint, self.stage)
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
    /// The epoch as outputs record it.
    pub recorded: Epoch,
    /// The files of this stage in the epoch.
    pub parts: Vec<EpochPart>,
    /// The positions of the input at its end.
    pub positions: Vec<PartitionPosition>,
    /// The time at which the commit began (µs).
    pub now: i64,
    /// The dead letters of rows that other outputs could not hold at this commit. Empty except for the output of dead
    /// letters.
    pub letters: RejectedLetters,
}
