//! The numbers under which outputs record the epochs of a run.
//!
//! The log numbers runs by its entries. After a checkpoint is restored from a backup or copied, a new run may get the
//! number of another run that is not in this log. An output would then take an epoch of the new run for that of the
//! other run, and drop its rows. Outputs therefore record a run under the time at which it began (µs), or, if the clock
//! went back, under the number of the run before plus 1. So if an output has a later epoch than the last one in the
//! log, the log does not know that epoch.

use super::log::LogEntry;
use super::place::CheckpointPlace;
use crate::checkpoint::epoch::Epoch;
use evt_core::error::Result;

/// How outputs record the epochs that a run commits: its own, and the one that it restores.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordedRuns {
    /// The number of the run in the log.
    run: u64,
    recorded_as: u64,
    /// The number of the run that has made the restored epoch.
    restored_as: u64,
    /// The last complete epoch before this run as outputs record it. No output may have a later epoch.
    pub last: Option<Epoch>,
}

impl RecordedRuns {
    /// Reads the numbers of a run that restores an epoch; `last` is the last complete epoch before the run.
    pub fn read(place: &CheckpointPlace, run: u64, restored: Option<Epoch>, last: Option<Epoch>) -> Result<Self> {
        let number = |epoch: Option<Epoch>| epoch.map_or(Ok(0), |epoch| recorded_as(place, epoch.run));
        let last_as = number(last)?;
        let restored_as = if restored == last { last_as } else { number(restored)? };
        let last = last.map(|last| Epoch { run: last_as, ..last });
        Ok(Self { run, recorded_as: recorded_as(place, run)?, restored_as, last })
    }

    /// Returns an epoch as outputs record it: one of this run, or the restored one.
    pub fn epoch(&self, epoch: Epoch) -> Epoch {
        Epoch { run: if epoch.run == self.run { self.recorded_as } else { self.restored_as }, ..epoch }
    }
}

/// Returns the number for a run that begins at `now` (µs) behind these entries.
pub fn next(place: &CheckpointPlace, entries: &[u64], now: i64) -> Result<u64> {
    let before = match entries.last() {
        None => 0,
        Some(last) => match place.entry(*last)? {
            Some(LogEntry::Complete(complete)) => recorded_as(place, complete.epoch.run)?,
            _ => recorded_as(place, *last)?,
        },
    };
    Ok(u64::try_from(now).unwrap_or(0).max(before + 1))
}

/// Returns the number of a run. Outputs record a run of an older version under the number that it has in the log.
fn recorded_as(place: &CheckpointPlace, run: u64) -> Result<u64> {
    Ok(match place.entry(run)? {
        Some(LogEntry::Start(start)) => start.recorded_as.unwrap_or(run),
        _ => run,
    })
}
