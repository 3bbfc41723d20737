//! The settings of a checkpoint, and the header in the schema of a stream, from which the next stage learns of the
//! checkpoint.

use crate::checkpoint::epoch::Epoch;
use evt_core::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a checkpoint.
#[derive(Clone, Debug)]
pub struct CheckpointOptions {
    /// Its directory, or the URI of its bucket.
    pub path: PathBuf,
    /// Time between two epochs.
    pub every: Duration,
    /// The number of complete epochs that are kept.
    pub kept: usize,
    /// How many epochs before the last complete one the run continues: 0 but after damage.
    pub back: usize,
    /// The number of last stages.
    pub ends: usize,
}

/// Key of the header in the metadata of a schema.
pub const CHECKPOINT_KEY: &str = "evt.checkpoint";

/// The checkpoint of a run, for the stages behind the first one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointHeader {
    /// Its directory, absolute, or the URI of its bucket, without secrets.
    pub path: PathBuf,
    /// Its id.
    pub id: String,
    /// The run.
    pub run: u64,
    /// The epoch that the run continues.
    pub restored: Option<Epoch>,
    /// The number of complete epochs that are kept.
    pub kept: usize,
    /// The number of last stages (`--ends`): more than one behind tee(1).
    pub ends: usize,
    /// The branch that the stages before belong to, if they name one (`--branch`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The stages so far, in the order of the pipe.
    pub stages: Vec<String>,
}

impl CheckpointHeader {
    /// Makes the header of a run that may begin: it has no number yet, and no stage.
    pub fn planned(options: &CheckpointOptions) -> Self {
        Self {
            path: options.path.clone(),
            id: String::new(),
            run: 0,
            restored: None,
            kept: options.kept,
            ends: options.ends,
            branch: None,
            stages: vec![],
        }
    }

    /// Makes the stages from now on those of a branch, if it is named.
    pub fn in_branch(self, branch: Option<&str>) -> Self {
        Self { branch: branch.map(str::to_owned).or(self.branch), ..self }
    }

    /// Returns the name of the next stage, which runs `tool`.
    pub fn next_stage(&self, tool: &str) -> String {
        let branch = self.branch.as_ref().map_or_else(String::new, |branch| format!("-{branch}"));
        format!("{}-{tool}{branch}", self.stages.len() + 1)
    }

    /// Returns the header as metadata.
    pub fn to_text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::broken(format!("{CHECKPOINT_KEY}: {error}")))
    }

    /// Reads metadata. Errors: exit status 65 if it is damaged.
    pub fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| Error::corrupt(CHECKPOINT_KEY).because(error))
    }
}
