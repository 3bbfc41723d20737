//! The epoch that a run continues, and what each stage has of it. If that epoch is damaged, the error names the epoch
//! before it, and the outputs that get rows twice when a run continues from there.

use super::last_stages::{self, StagePath};
use super::log::{Complete, EpochPart, LogEntry, OutputName, StageEpoch, check_output_names, target_key};
use super::part::{POSITIONS, STATE, part_name};
use super::place::CheckpointPlace;
use crate::checkpoint::epoch::Epoch;
use crate::client::Location;
use evt_core::error::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// Reads the last `kept` complete epochs of a log with the entries `entries`, in order, without epochs after `until`.
pub fn last_complete(
    place: &CheckpointPlace,
    entries: &[u64],
    kept: usize,
    until: Option<Epoch>,
) -> Result<Vec<Complete>> {
    let mut complete = vec![];
    for entry in entries.iter().rev() {
        if complete.len() >= kept.max(1) {
            break;
        }
        if let Some(LogEntry::Complete(found)) = place.entry(*entry)?
            && until.is_none_or(|until| found.epoch <= until)
        {
            complete.insert(0, found);
        }
    }
    Ok(complete)
}

/// Returns the epoch that a run continues: the last one, or one that is `back` epochs before it. Errors: exit status 78
/// if that epoch is not kept.
pub fn continued<'a>(place: &CheckpointPlace, complete: &'a [Complete], back: usize) -> Result<Option<&'a Complete>> {
    let epoch = complete.iter().rev().nth(back);
    if back > 0 && !epoch.map_or(Ok(false), |epoch| place.has_epoch(epoch.epoch))? {
        let message = format!("--restore n-{back}: expected a complete epoch that is kept, found none");
        return Err(Error::config(message).at(&place.name));
    }
    Ok(epoch)
}

/// What a checkpoint needs to know of a store that an output names.
#[derive(Clone, Copy)]
pub struct KnownStore {
    /// Whether rows of a checkpoint's epochs at this location, under this key, are not visible yet; `None` if rows
    /// always are. Errors: exit status 69 or 74.
    pub waits: Option<fn(&Location, &str) -> Result<bool>>,
}

/// Returns the store with this scheme, if there is one.
pub type StoreLookup = fn(&str) -> Option<KnownStore>;

/// Adds to the error of a damaged epoch how to continue without it, and which outputs get rows twice then.
pub fn with_restore_advice(
    error: Error,
    place: &CheckpointPlace,
    complete: &[Complete],
    back: usize,
    stores: StoreLookup,
) -> Result<Error> {
    let epochs = complete.iter().rev().nth(back).zip(complete.iter().rev().nth(back + 1));
    let Some((damaged, before)) = epochs.filter(|_| error.kind() == ErrorKind::Corrupt) else { return Ok(error) };
    if !place.has_epoch(before.epoch)? {
        return Ok(error);
    }
    // Every epoch after the one that is restored is written again.
    let lost = complete.iter().filter(|complete| complete.epoch > before.epoch);
    // A store identifies rows by their keys, so it has a repeated row only once.
    let is_keyed = |uri: &str| uri.split_once(':').is_some_and(|(scheme, _)| stores(scheme).is_some());
    let (mut keyed, mut repeated) = (BTreeSet::new(), BTreeSet::new());
    for output in lost.flat_map(Complete::outputs_with_rows) {
        let outputs = if is_keyed(&output.uri) { &mut keyed } else { &mut repeated };
        outputs.insert(format!("{} {}", output.key, output.uri));
    }
    let [keyed, repeated] = [keyed, repeated].map(|outputs| Vec::from_iter(outputs).join(", "));
    let twice = match (repeated.is_empty(), keyed.is_empty()) {
        (true, true) => "no output has rows of it".to_owned(),
        (true, false) => format!("no output gets rows of it twice; keyed stores have each once: {keyed}"),
        (false, true) => format!("the rows after it are written a second time to {repeated}"),
        (false, false) => {
            format!("the rows after it are written a second time to {repeated}; keyed stores have each once: {keyed}")
        }
    };
    let back = back + 1;
    let (damaged, before) = (damaged.epoch, before.epoch);
    Ok(error.because(format!("epoch {damaged} is damaged; --restore n-{back} continues {before}; {twice}")))
}

/// The files, state and positions that a stage has in the epoch that its run continues.
pub struct Restored {
    /// The epoch.
    pub epoch: Epoch,
    /// Its files, whose checksums are right.
    pub parts: Vec<EpochPart>,
    /// The state of the operator.
    pub state: Vec<u8>,
    /// The positions of the inputs; empty for a stage that reads another stage.
    pub positions: Vec<u8>,
    /// Whether all outputs of the stage have its rows.
    pub is_committed: bool,
}

/// The place of a stage in its pipe.
pub struct StageRole {
    /// The id of the checkpoint.
    pub checkpoint: String,
    /// Its name.
    pub stage: String,
    /// Its outputs.
    pub outputs: Vec<OutputName>,
    /// Whether other stages read what this stage writes. Then a last stage among them completes the epochs.
    pub has_readers: bool,
    /// The number of last stages of the run.
    pub ends: usize,
    /// The stores that outputs may be.
    pub stores: StoreLookup,
}

impl StageRole {
    /// Returns the names of the stages up to this one, which follows those of `before`.
    pub fn path(&self, before: &[String]) -> StagePath {
        before.iter().chain([&self.stage]).cloned().collect()
    }

    /// Returns the outputs and files of the stage in the last complete epoch, and whether all its outputs have the
    /// rows. `before`: the names of the stages before this stage. Errors: exit status 78 if the pipe had other stages
    /// or outputs.
    pub fn check<'a>(
        &self,
        before: &[String],
        place: &CheckpointPlace,
        last: &'a Complete,
    ) -> Result<(&'a StageEpoch, bool)> {
        let checked = last_stages::check_place(&last.branches(), &self.path(before), self.has_readers, self.ends);
        checked.map_err(|error| error.at(&place.name))?;
        let own = last.stages.iter().find(|stage| stage.stage == self.stage);
        let own = own.ok_or_else(|| Error::corrupt(format!("expected {} in the epoch, found none", self.stage)))?;
        let is_committed = place.is_committed(last.epoch, &self.stage)?;
        let fits = check_output_names(&own.outputs, &self.outputs, is_committed);
        fits.and_then(|()| self.check_shown(&own.outputs)).map_err(|error| error.at(&place.name))?;
        Ok((own, is_committed))
    }

    /// Checks that every output of `former` which the run no longer has shows all of its rows. Errors: exit status 78
    /// if not: only a run with this output can make the rows visible.
    fn check_shown(&self, former: &[OutputName]) -> Result<()> {
        let is_kept = |output: &OutputName| {
            self.outputs.iter().any(|other| other.key == output.key && is_same_place(&other.uri, &output.uri))
        };
        for output in former.iter().filter(|output| !is_kept(output)) {
            let Some((scheme, path)) = output.uri.split_once(':') else { continue };
            let Some(waits) = (self.stores)(scheme).and_then(|store| store.waits) else { continue };
            let location = Location { scheme: scheme.to_owned(), path: path.to_owned(), ..Location::default() };
            if waits(&location, &target_key(&self.checkpoint, &self.stage, &output.key))? {
                return Err(Error::config(format!(
                    "{} (output {}) has rows that are not visible yet; start once with this output, then without it",
                    output.uri, output.key
                )));
            }
        }
        Ok(())
    }

    /// Reads and verifies the files, state and positions of the stage in the last complete epoch. `before`: the names
    /// of the stages before this stage. Errors: exit status 65 if it is damaged, 78 if the pipe had other stages or
    /// outputs.
    pub fn restore(&self, before: &[String], place: &CheckpointPlace, last: &Complete) -> Result<Restored> {
        let (own, is_committed) = self.check(before, place, last)?;
        let epoch = last.epoch;
        for part in &own.parts {
            place.files.verify(epoch, part)?;
        }
        let read = |name: &str| {
            let name = part_name(&self.stage, name);
            match own.parts.iter().any(|part| part.name == name) {
                true => place.local().read_part(epoch, &name),
                // An empty part is not written.
                false => Ok(vec![]),
            }
        };
        let (state, positions) = (read(STATE)?, read(POSITIONS)?);
        Ok(Restored { epoch, parts: own.parts.clone(), state, positions, is_committed })
    }
}

/// Whether two URIs name one place.
fn is_same_place(one: &str, other: &str) -> bool {
    let place = |uri: &str| {
        let (scheme, path) = uri.split_once(':')?;
        Some((scheme.to_owned(), Path::new(path).canonicalize().ok()?))
    };
    one == other || place(one).is_some_and(|one| Some(one) == place(other))
}
