//! Followed names that a run has begun before an epoch has their positions.
//!
//! Only a complete epoch has positions. A run that is killed before its first complete epoch leaves no positions, and
//! by the next run a rotation may have given the name to another file. So the first stage writes the first file of a
//! name to the note `STAGE.followed` of the run, before it reads the first record of the file. The next run copies the
//! names of this note into its entry `start`, until an epoch has their positions.
//!
//! Each name is kept as JSON that the source makes, in the form that the positions of an epoch have.

use super::log::{LogEntry, Start};
use super::part::{of_json, part_name, to_json};
use super::place::CheckpointPlace;
use crate::checkpoint::epoch::Epoch;
use evt_core::error::Result;
use serde_json::Value;
use std::sync::Arc;

/// The note with the names that a run has begun.
const FOLLOWED: &str = "followed";

/// The followed names that earlier runs have begun, and where this run keeps those that it begins.
pub struct BegunNames {
    place: Arc<CheckpointPlace>,
    run: u64,
    note: String,
    /// The names that earlier runs have begun, in the order of the runs.
    pub former: Vec<Value>,
}

impl BegunNames {
    pub(super) fn new(place: Arc<CheckpointPlace>, run: u64, stage: &str, former: Vec<Value>) -> Self {
        Self { place, run, note: part_name(stage, FOLLOWED), former }
    }

    /// Writes all names that this run has begun to the note of the run, durably. Errors: exit status 74 if the note
    /// cannot be written.
    pub fn keep(&self, names: &[Value]) -> Result<()> {
        let bytes = to_json("followed names", names)?;
        self.place.put_note(Epoch { run: self.run, number: 0 }, &self.note, &bytes)
    }
}

/// Returns the names that runs have begun since the epoch `restored`, in the order of the runs; the result may also
/// have names whose positions that epoch has. `stage`: the first stage. Errors: exit status 65 if a note is damaged.
pub fn since(place: &CheckpointPlace, entries: &[u64], restored: Option<Epoch>, stage: &str) -> Result<Vec<Value>> {
    let note = part_name(stage, FOLLOWED);
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
            let names: Vec<Value> = of_json(&note, &bytes)?;
            found.splice(0..0, names);
        }
        // The restored epoch has the positions of all names that its run knew at its start.
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
