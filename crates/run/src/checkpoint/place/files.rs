//! What differs between a checkpoint in a directory and one in a bucket: where the files of an epoch are before it
//! ends, what a name is locked with, and how epochs are removed.

use super::local::LocalFiles;
use crate::checkpoint::epoch::Epoch;
use crate::checkpoint::log::{Complete, EpochPart};
use crate::storage::Objects;
use evt_core::error::Result;
use std::fmt::Debug;
use std::fs::File;

/// The prefix of the names of files of state. No name of a stage has it.
pub const STATE_FILE: &str = "state-";

/// The objects of a checkpoint, and the files that become some of them.
pub trait EpochFiles: Debug + Send + Sync {
    /// Returns the objects.
    fn objects(&self) -> &dyn Objects;

    /// Returns the parts and files of state that this process writes, or has verified.
    fn local(&self) -> &LocalFiles;

    /// Checks that `create` would succeed; changes nothing. Returns whether a log exists. Errors: those of `create`.
    fn check(&self) -> Result<bool>;

    /// Makes the place ready. Errors: exit status 78 if it holds other things and no log.
    fn create(&self) -> Result<()>;

    /// Makes the entries that this process has read durable: another stage may have created an entry and not synced its
    /// name yet.
    fn sync_log(&self) -> Result<()> {
        Ok(())
    }

    /// Makes the parts that a stage has written of an epoch durable objects.
    fn sync_epoch(&self, epoch: Epoch, parts: &[EpochPart]) -> Result<()>;

    /// Makes a part a local file, and compares it with its length and checksum. Errors: exit status 65 if it differs or
    /// is missing.
    fn verify(&self, epoch: Epoch, part: &EpochPart) -> Result<()>;

    /// Frees the copies of the parts of an epoch, without removing the epoch.
    fn release(&self, _epoch: Epoch) -> Result<()> {
        Ok(())
    }

    /// Writes the text of a claim unless there is one. Returns whether it is new, and its file, which is locked until
    /// it is closed; `None` where there are no locks.
    fn claim(&self, run: u64, name: &str, text: &str) -> Result<(bool, Option<File>)>;

    /// Returns the claimed names of a run with this suffix whose lock is free; none where there are no locks.
    fn released(&self, _run: u64, _suffix: &str) -> Result<Vec<String>> {
        Ok(vec![])
    }

    /// Removes the files that runs before `run` have left and the epochs `kept` do not need. Where the files of a newer
    /// run may be among them, `check` finds that run after they are listed.
    fn clear(&self, run: u64, kept: &[Complete], check: &dyn Fn() -> Result<()>) -> Result<()>;

    /// Removes all epochs before `before` (`is_removed`). `state`: files of state of these epochs that no kept epoch
    /// has.
    fn remove_epochs(&self, before: Epoch, state: &[String]) -> Result<()>;
}
