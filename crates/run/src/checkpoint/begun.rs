//! Inputs that a run has begun before an epoch has their positions: followed names, and topics from `start=latest`.
//!
//! Only a complete epoch has positions. A run that is killed before its first complete epoch leaves no positions. By
//! the next run a rotation may have given the name to another file, and the topic has another end. So the first stage
//! writes the first file of a name, and the first offset of each partition, to the note `STAGE.followed` of the run,
//! before it reads the first record. The next run copies this note into its entry `start`, until an epoch has the
//! positions.
//!
//! Each position is kept as JSON that the source makes, in the form that the positions of an epoch have.

use super::log::{LogEntry, Start};
use super::part::{of_json, part_name, to_json};
use super::place::CheckpointPlace;
use crate::checkpoint::epoch::Epoch;
use evt_core::error::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// The note with the inputs that a run has begun. It had followed names only when it got its name.
const BEGUN: &str = "followed";

/// The inputs that earlier runs have begun, and those that this run begins.
pub struct BegunInputs {
    place: Arc<CheckpointPlace>,
    run: u64,
    note: String,
    /// The positions that earlier runs have begun, in the order of the runs.
    pub former: Vec<Value>,
    /// The positions that this run has begun, as they were before their first record.
    begun: Vec<Value>,
    /// The number of entries of `begun` that the note has on disk.
    kept: usize,
}

impl BegunInputs {
    pub(super) fn new(place: Arc<CheckpointPlace>, run: u64, stage: &str, former: Vec<Value>) -> Self {
        Self { place, run, note: part_name(stage, BEGUN), former, begun: vec![], kept: 0 }
    }

    /// Adds a position that this run begins.
    pub fn add(&mut self, position: &impl Serialize) -> Result<()> {
        let position = serde_json::to_value(position);
        self.begun.push(position.map_err(|error| Error::broken(format!("a position: {error}")))?);
        Ok(())
    }

    /// Writes all positions that this run has begun to the note of the run, durably, if there are new ones. Errors:
    /// exit status 74 if the note cannot be written.
    pub fn keep(&mut self) -> Result<()> {
        if self.kept < self.begun.len() {
            let bytes = to_json("positions", &self.begun)?;
            self.place.put_note(Epoch { run: self.run, number: 0 }, &self.note, &bytes)?;
            self.kept = self.begun.len();
        }
        Ok(())
    }
}

/// Returns the positions that runs have begun since the epoch `restored`, in the order of the runs; the result may also
/// have inputs whose positions that epoch has. `stage`: the first stage. Errors: exit status 65 if a note is damaged.
pub fn since(place: &CheckpointPlace, entries: &[u64], restored: Option<Epoch>, stage: &str) -> Result<Vec<Value>> {
    let note = part_name(stage, BEGUN);
    let mut found = vec![];
    let mut next = entries.last().copied();
    while let Some(number) = next.filter(|number| *number > 0) {
        let Start { restored: continued, followed, .. } = match place.entry(number)? {
            Some(LogEntry::Start(start)) => start,
            Some(LogEntry::Complete(complete)) => {
                next = Some(complete.epoch.run);
                continue;
            }
            None => break,
        };
        if let Some(bytes) = place.note(Epoch { run: number, number: 0 }, &note)? {
            let begun: Vec<Value> = of_json(&note, &bytes)?;
            found.splice(0..0, begun);
        }
        // The restored epoch has the positions of all inputs that its run knew at its start.
        if restored.is_some_and(|restored| restored.run >= number) {
            break;
        }
        found.splice(0..0, followed);
        if continued == restored {
            break;
        }
        next = Some(number - 1);
    }
    Ok(found)
}
