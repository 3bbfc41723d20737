//! Checkpoints: epochs of a run that are complete before their rows become visible, so that a restart repeats or continues them.
//!
//! ```text
//! rows of outputs ─► outbox ┐
//! state of the operator ────┼─► parts of epoch (R, N) ─► `complete` in the log ─► Sink::commit(R, N)
//! positions of the inputs ──┘
//! ```
//!
//! A run restores the last complete epoch, commits it again (a repeated commit changes nothing), and reads on from its positions.
//! What a killed run did after that epoch exists nowhere: its rows waited in outboxes.
//!
//! In a pipe the first stage names the checkpoint. Its barriers pass through all stages; each writes what it has of the epoch before it
//! passes the barrier on, so the last stage knows that the epoch is complete, and writes the entry. The others watch the log for it.
//!
//! - `header.rs`: what the schema of a stream tells the next stage about the checkpoint.
//! - `log.rs`: the entries of the log. The run that writes the greatest entry is the newest; any other run is fenced.
//! - `directory.rs`: a checkpoint in a directory. `part.rs`: files with a checksum, and outboxes.
//! - `state_files.rs`: files for state beyond `--memory`.
//! - `show.rs`: what evt-view shows of a checkpoint.

pub mod directory;
pub mod header;
pub mod log;
pub mod part;
pub mod show;
pub mod state_files;

use self::directory::CheckpointDir;
use self::header::CheckpointHeader;
use self::log::{Complete, Entry, EpochPart, OutputName, StageEpoch, Start, check_outputs};
use self::state_files::CheckpointFiles;
use crate::error::{Error, ErrorKind, Result};
use crate::kind::named_id::named_id;
use crate::run::Run;
use crate::store::Epoch;
use crate::time::format_instant;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

/// Part with the state of the operator.
const STATE: &str = "state";
/// Part with the positions of the inputs.
const POSITIONS: &str = "positions";
/// Entries that are kept for evt-view and people.
const ENTRIES_KEPT: u64 = 1000;

/// Settings of a checkpoint.
#[derive(Clone, Debug)]
pub struct CheckpointOptions {
    /// Its directory.
    pub path: PathBuf,
    /// Time between two epochs.
    pub every: Duration,
    /// Complete epochs that are kept.
    pub kept: usize,
    /// How many epochs before the last complete one the run continues: 0 but after damage.
    pub back: usize,
}

/// The checkpoint of a run, as one of its stages has it.
pub struct Checkpoint {
    directory: CheckpointDir,
    header: CheckpointHeader,
    own: Place,
    /// The epoch in progress.
    epoch: Epoch,
    /// The number of the last entry that this stage knows.
    last_entry: u64,
    /// Complete epochs with their stages, the last one at the end.
    complete: Vec<(Epoch, Vec<String>)>,
    restored: Option<Restored>,
    /// The files of state that epochs have, by name.
    files: BTreeMap<String, EpochPart>,
}

/// What a stage has of the epoch that its run continues.
pub struct Restored {
    /// The epoch.
    pub epoch: Epoch,
    /// Its files, whose checksums are right.
    pub parts: Vec<EpochPart>,
    /// The state of the operator.
    pub state: Vec<u8>,
    /// The positions of the inputs; empty for a stage that reads another one.
    pub positions: Vec<u8>,
    /// Whether all outputs of the stage have its rows.
    pub is_committed: bool,
}

impl Checkpoint {
    /// Opens a checkpoint, or creates one, and begins a run as its first stage: writes `start`. An older run is fenced from now on.
    ///
    /// Errors: exit status 65 if the log or the last epoch is damaged, 74 if it cannot be read or written, 75 if another run begins
    /// at the same moment, 78 if the outputs do not fit.
    pub fn open(options: CheckpointOptions, outputs: Vec<OutputName>, has_readers: bool, run: &Run) -> Result<Self> {
        let directory = CheckpointDir::new(options.path.clone(), run.io.disk());
        directory.create()?;
        let entries = directory.entries()?;
        let number = entries.last().map_or(1, |last| last + 1);
        let id = match entries.first() {
            None => new_id(run),
            Some(first) => match directory.entry(*first)? {
                Entry::Start(start) if *first == 1 => start.checkpoint,
                _ => return Err(Error::corrupt("expected the entry log/1, found later ones only").at(directory.name())),
            },
        };
        let mut complete = vec![];
        for entry in entries.iter().rev() {
            if let Entry::Complete(found) = directory.entry(*entry)? {
                // The last epoch must be there; of those before it, some are removed.
                if complete.is_empty() || directory.has_epoch(found.epoch) {
                    complete.insert(0, found);
                }
                if complete.len() > options.kept.max(options.back) {
                    break;
                }
            }
        }
        let own = Place { stage: format!("1-{}", run.console.tool()), outputs, has_readers };
        let continued = continued(&complete, options.back).map_err(|error| error.at(directory.name()))?;
        let restored = continued.map(|last| own.restore(&[], &directory, last)).transpose();
        let restored = restored.map_err(|error| with_way_back(error, &complete, options.back))?;
        let start = Entry::Start(Start {
            checkpoint: id.clone(),
            restored: restored.as_ref().map(|restored| restored.epoch),
            at: format_instant(run.clock.now()),
            host: Run::host(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        if !directory.put(number, &start)? {
            return Err(fenced(&directory, number));
        }
        directory.clear_state()?;
        let header = CheckpointHeader {
            path: std::path::absolute(&options.path).unwrap_or(options.path),
            id,
            run: number,
            restored: restored.as_ref().map(|restored| restored.epoch),
            kept: options.kept,
            stages: vec![],
        };
        let kept = complete.split_off(complete.len().saturating_sub(header.kept.max(1)));
        Ok(Self::begin(directory, header, own, kept.iter().map(kept_epoch).collect(), restored))
    }

    /// Takes part in a run that an earlier stage of the pipe has begun.
    ///
    /// Errors: exit status 65 if the epoch to be restored is damaged, 74 if it cannot be read, 75 if a newer run has begun, 78 if the
    /// stage or its outputs do not fit, or if the run has another last stage.
    pub fn join(header: CheckpointHeader, outputs: Vec<OutputName>, has_readers: bool, run: &Run) -> Result<Self> {
        let directory = CheckpointDir::new(header.path.clone(), run.io.disk());
        let stage = format!("{}-{}", header.stages.len() + 1, run.console.tool());
        let own = Place { stage, outputs, has_readers };
        let (mut complete, mut restored) = (vec![], None);
        for entry in directory.entries()? {
            match directory.entry(entry)? {
                Entry::Start(_) if entry > header.run => return Err(fenced(&directory, entry)),
                Entry::Complete(found) if entry < header.run => {
                    complete.push(kept_epoch(&found));
                    restored = Some(found).filter(|found| header.restored == Some(found.epoch)).or(restored);
                }
                _ => {}
            }
        }
        let restored = match header.restored {
            None => None,
            Some(epoch) => match restored {
                Some(restored) => Some(own.restore(&header.stages, &directory, &restored)?),
                None => {
                    let Epoch { run, number } = epoch;
                    return Err(Error::corrupt(format!("expected the epoch ({run}, {number}), found none"))
                        .at(directory.name()));
                }
            },
        };
        if !has_readers {
            directory.claim_end(header.run, &own.stage)?;
        }
        let complete = complete.split_off(complete.len().saturating_sub(header.kept.max(1)));
        Ok(Self::begin(directory, header, own, complete, restored))
    }

    fn begin(
        directory: CheckpointDir,
        header: CheckpointHeader,
        own: Place,
        complete: Vec<(Epoch, Vec<String>)>,
        restored: Option<Restored>,
    ) -> Self {
        Self {
            directory,
            own,
            epoch: Epoch { run: header.run, number: 1 },
            last_entry: header.run,
            complete,
            restored,
            files: BTreeMap::new(),
            header,
        }
    }

    /// Returns the id of the checkpoint, which all of its runs share.
    pub fn id(&self) -> &str {
        &self.header.id
    }

    /// Returns the name of this stage.
    pub fn stage(&self) -> &str {
        &self.own.stage
    }

    /// Returns its directory.
    pub fn directory(&self) -> &CheckpointDir {
        &self.directory
    }

    /// Returns the epoch in progress.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether stages read what this one writes.
    pub fn has_readers(&self) -> bool {
        self.own.has_readers
    }

    /// Returns what the next stage must know, if there is one.
    pub fn header(&self) -> Option<CheckpointHeader> {
        let mut header = self.header.clone();
        header.stages.push(self.own.stage.clone());
        self.own.has_readers.then_some(header)
    }

    /// Returns the epoch that the run continues; `None` if it is the first.
    pub fn restored(&self) -> Option<&Restored> {
        self.restored.as_ref()
    }

    /// Returns the files of state of this run.
    pub fn state_files(&self) -> CheckpointFiles {
        CheckpointFiles::new(
            self.directory.clone(),
            self.epoch.run,
            self.restored.as_ref().map(|restored| restored.epoch),
        )
    }

    /// Makes these files of state parts of the epoch in progress, without writing their bytes again. Errors: exit status 74.
    pub fn keep_files(&mut self, names: &[String]) -> Result<Vec<EpochPart>> {
        self.files.retain(|name, _| names.contains(name));
        for name in names {
            let known = self.files.get(name);
            let part = self.directory.link_part(self.epoch, name, known)?;
            self.files.insert(name.clone(), part);
        }
        Ok(self.files.values().cloned().collect())
    }

    /// Ends the epoch in progress in this stage: writes its state and positions, and, if there are later stages, what it has of the
    /// epoch. Begins the next epoch.
    ///
    /// Errors: exit status 74 if it cannot be written.
    pub fn seal(&mut self, state: &[u8], positions: &[u8], outboxes: Vec<EpochPart>) -> Result<StageEpoch> {
        let epoch = self.epoch;
        let mut parts = outboxes;
        for (name, bytes) in [(STATE, state), (POSITIONS, positions)] {
            if !bytes.is_empty() {
                parts.push(self.directory.write_part(epoch, &part_name(&self.own.stage, name), bytes)?);
            }
        }
        self.directory.sync_epoch(epoch)?;
        let sealed = StageEpoch { stage: self.own.stage.clone(), outputs: self.own.outputs.clone(), parts };
        if self.own.has_readers {
            let bytes = serde_json::to_vec(&sealed).map_err(|error| Error::broken(format!("a stage: {error}")))?;
            self.directory.put_note(epoch, &manifest_name(&self.own.stage), &bytes)?;
        }
        self.epoch.number += 1;
        Ok(sealed)
    }

    /// Completes an epoch, as the last stage: writes the entry that names the files of all stages. From now on a restart commits this
    /// epoch. Every stage before has written what it has of the epoch, because it has passed the barrier on.
    ///
    /// Errors: exit status 75 if a newer run has begun, 74 if it cannot be written.
    pub fn complete(&mut self, epoch: Epoch, own: StageEpoch, now: i64) -> Result<()> {
        let mut stages = vec![];
        for stage in &self.header.stages {
            let name = manifest_name(stage);
            let missing = || Error::corrupt(format!("expected {name}, found no file")).at(self.directory.name());
            let bytes = self.directory.note(epoch, &name)?.ok_or_else(missing)?;
            stages.push(serde_json::from_slice(&bytes).map_err(|error| Error::corrupt(name).because(error))?);
        }
        stages.push(own);
        let complete = Complete { epoch, at: format_instant(now), stages };
        let kept = kept_epoch(&complete);
        let number = self.last_entry + 1;
        if !self.directory.put(number, &Entry::Complete(complete))? {
            return Err(fenced(&self.directory, number));
        }
        self.last_entry = number;
        self.complete.push(kept);
        Ok(())
    }

    /// Returns the positions that the first stage has saved in an epoch; empty if it has none.
    pub fn positions(&self, epoch: Epoch) -> Result<Vec<u8>> {
        let first = self.header.stages.first().unwrap_or(&self.own.stage);
        Ok(self.directory.note(epoch, &part_name(first, POSITIONS))?.unwrap_or_default())
    }

    /// Whether the last stage has completed an epoch. Errors: exit status 75 if a newer run has begun.
    pub fn is_complete(&mut self, epoch: Epoch) -> Result<bool> {
        while self.directory.has_entry(self.last_entry + 1) {
            self.last_entry += 1;
            match self.directory.entry(self.last_entry)? {
                Entry::Start(_) => return Err(fenced(&self.directory, self.last_entry)),
                Entry::Complete(complete) if complete.epoch == epoch => return Ok(true),
                Entry::Complete(_) => {}
            }
        }
        Ok(false)
    }

    /// Notes that every output of this stage has the rows of a complete epoch. The last stage removes epochs that are no longer kept.
    pub fn committed(&mut self, epoch: Epoch) -> Result<()> {
        self.directory.set_committed(epoch, &self.own.stage)?;
        if self.own.has_readers {
            return Ok(());
        }
        let is_done = |(epoch, stages): &(Epoch, Vec<String>)| {
            stages.iter().all(|stage| self.directory.is_committed(*epoch, stage))
        };
        let excess = self.complete.len().saturating_sub(self.header.kept.max(1));
        // A stage that has not committed an epoch needs its files.
        let removed = self.complete[..excess].iter().take_while(|epoch| is_done(epoch)).count();
        self.complete.drain(..removed);
        let oldest = self.complete.first().map_or(epoch, |(epoch, _)| *epoch);
        self.directory.remove_before(oldest, self.last_entry.saturating_sub(ENTRIES_KEPT))
    }
}

/// The place of a stage in its pipe.
struct Place {
    /// Its name.
    stage: String,
    outputs: Vec<OutputName>,
    /// Whether stages read what this one writes. Then the last one of them completes the epochs.
    has_readers: bool,
}

impl Place {
    /// Reads and verifies what the stage, which follows those of `before`, has of the last complete epoch. Errors: exit status 78 if
    /// the pipe had other stages.
    fn restore(&self, before: &[String], directory: &CheckpointDir, last: &Complete) -> Result<Restored> {
        let epoch = last.epoch;
        let names = last.stage_names();
        let now = Vec::from_iter(before.iter().chain([&self.stage]).map(String::as_str));
        let fits = if self.has_readers { names.len() > now.len() && names.starts_with(&now) } else { names == now };
        let own = last.stages.iter().find(|stage| stage.stage == self.stage).filter(|_| fits);
        let own = own.ok_or_else(|| {
            let more = if self.has_readers { " | …" } else { "" };
            let (expected, found) = (names.join(" | "), now.join(" | "));
            Error::config(format!("expected the stages {expected}, as in the checkpoint, found {found}{more}"))
                .at(directory.name())
        })?;
        let is_committed = directory.is_committed(epoch, &self.stage);
        check_outputs(&own.outputs, &self.outputs, is_committed).map_err(|error| error.at(directory.name()))?;
        for part in &own.parts {
            directory.verify(epoch, part)?;
        }
        let read = |name: &str| {
            let name = part_name(&self.stage, name);
            match own.parts.iter().any(|part| part.name == name) {
                true => directory.read_part(epoch, &name),
                // An empty part is not written.
                false => Ok(vec![]),
            }
        };
        let (state, positions) = (read(STATE)?, read(POSITIONS)?);
        Ok(Restored { epoch, parts: own.parts.clone(), state, positions, is_committed })
    }
}

/// Returns the name of a part of a stage.
pub fn part_name(stage: &str, name: &str) -> String {
    format!("{stage}.{name}")
}

fn manifest_name(stage: &str) -> String {
    format!("{stage}.json")
}

fn kept_epoch(complete: &Complete) -> (Epoch, Vec<String>) {
    (complete.epoch, complete.stages.iter().map(|stage| stage.stage.clone()).collect())
}
fn new_id(run: &Run) -> String {
    let text = format!("checkpoint {} {:016x}", run.id, RandomState::new().build_hasher().finish());
    named_id(&crate::kind::record_id::NAMESPACE, &[text.as_bytes()]).to_string()
}

/// Returns the epoch that a run continues: the last one, or one that is `back` epochs before it. Errors: exit status 78 if that one is
/// not kept.
fn continued(complete: &[Complete], back: usize) -> Result<Option<&Complete>> {
    match complete.iter().rev().nth(back) {
        None if back > 0 => {
            let found = complete.len();
            let needed = back + 1;
            Err(Error::config(format!("--restore n-{back}: expected {needed} complete epochs, found {found}")))
        }
        epoch => Ok(epoch),
    }
}

/// Adds to the error of a damaged epoch how to continue without it, and which outputs get rows twice then.
fn with_way_back(error: Error, complete: &[Complete], back: usize) -> Error {
    let epochs = complete.iter().rev().nth(back).zip(complete.iter().rev().nth(back + 1));
    let Some((damaged, before)) = epochs.filter(|_| error.kind() == ErrorKind::Corrupt) else { return error };
    // Every epoch between the one that is restored and the last one is written again.
    let lost = complete.iter().filter(|complete| complete.epoch > before.epoch);
    let outputs = lost.flat_map(Complete::outputs_with_rows).map(|output| format!("{} {}", output.key, output.uri));
    let outputs = Vec::from_iter(outputs.collect::<BTreeSet<_>>()).join(", ");
    let (Epoch { run, number }, Epoch { run: before_run, number: before_number }) = (damaged.epoch, before.epoch);
    let twice = match outputs.is_empty() {
        true => "no output has rows of it".to_owned(),
        false => format!("these outputs get the rows behind it a second time, but for keyed stores: {outputs}"),
    };
    error.because(format!(
        "epoch ({run}, {number}) is damaged; --restore n-{} continues ({before_run}, {before_number}); {twice}",
        back + 1
    ))
}

fn fenced(directory: &CheckpointDir, number: u64) -> Error {
    let message = format!("another run has written entry {number} of the log; this run ends");
    Error::new(ErrorKind::Fenced, message).at(directory.name())
}
