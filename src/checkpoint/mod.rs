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
//! - `log.rs`: the entries of the log. The run that writes the greatest entry is the newest; any other run is fenced.
//! - `directory.rs`: a checkpoint in a directory. `part.rs`: files with a checksum, and outboxes.
//! - `state_files.rs`: files for state beyond `--memory`.
//! - `show.rs`: what evt-view shows of a checkpoint.

pub mod directory;
pub mod log;
pub mod part;
pub mod show;
pub mod state_files;

use self::directory::CheckpointDir;
use self::log::{Complete, Entry, EpochPart, OutputName, Start, check_outputs};
use self::state_files::CheckpointFiles;
use crate::error::{Error, ErrorKind, Result};
use crate::run::Run;
use crate::store::Epoch;
use crate::time::format_instant;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

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
}

/// The checkpoint of a run.
pub struct Checkpoint {
    directory: CheckpointDir,
    id: String,
    options: CheckpointOptions,
    outputs: Vec<OutputName>,
    /// The epoch in progress.
    epoch: Epoch,
    /// The number of the last entry.
    last_entry: u64,
    /// Complete epochs, the last one at the end.
    complete: Vec<Epoch>,
    restored: Option<Restored>,
    /// The files of state that epochs have, by name.
    files: BTreeMap<String, EpochPart>,
}

/// The epoch that a run continues.
pub struct Restored {
    /// The epoch.
    pub epoch: Epoch,
    /// Its files, whose checksums are right.
    pub parts: Vec<EpochPart>,
    /// The state of the operator.
    pub state: Vec<u8>,
    /// The positions of the inputs.
    pub positions: Vec<u8>,
    /// Whether all outputs have its rows.
    pub is_committed: bool,
}

impl Checkpoint {
    /// Opens a checkpoint, or creates one, and begins a run: writes `start`. An older run is fenced from now on.
    ///
    /// Errors: exit status 65 if the log or the last epoch is damaged, 74 if it cannot be read or written, 75 if another run begins
    /// at the same moment, 78 if the outputs do not fit.
    pub fn open(options: CheckpointOptions, outputs: Vec<OutputName>, run: &Run) -> Result<Self> {
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
                complete.insert(0, found);
                if complete.len() >= options.kept.max(1) {
                    break;
                }
            }
        }
        let restored = complete.last().map(|last| restore(&directory, last, &outputs)).transpose()?;
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
        let complete = complete.iter().map(|complete| complete.epoch).collect();
        let epoch = Epoch { run: number, number: 1 };
        Ok(Self {
            directory,
            id,
            options,
            outputs,
            epoch,
            last_entry: number,
            complete,
            restored,
            files: BTreeMap::new(),
        })
    }

    /// Returns the id of the checkpoint, which all of its runs share.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns its directory.
    pub fn directory(&self) -> &CheckpointDir {
        &self.directory
    }

    /// Returns the epoch in progress.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns the time between two epochs.
    pub fn every(&self) -> Duration {
        self.options.every
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

    /// Completes the epoch in progress: writes its state and positions, and then the entry that names all of its files. From now on
    /// a restart commits this epoch. Returns its bytes.
    ///
    /// Errors: exit status 75 if a newer run has begun, 74 if it cannot be written.
    pub fn complete(&mut self, state: &[u8], positions: &[u8], outboxes: Vec<EpochPart>, now: i64) -> Result<u64> {
        let epoch = self.epoch;
        let mut parts = outboxes;
        parts.push(self.directory.write_part(epoch, STATE, state)?);
        parts.push(self.directory.write_part(epoch, POSITIONS, positions)?);
        self.directory.sync_epoch(epoch)?;
        let bytes = parts.iter().map(|part| part.bytes).sum();
        let complete = Complete { epoch, at: format_instant(now), parts, outputs: self.outputs.clone() };
        let number = self.last_entry + 1;
        if !self.directory.put(number, &Entry::Complete(complete))? {
            return Err(fenced(&self.directory, number));
        }
        self.last_entry = number;
        self.complete.push(epoch);
        Ok(bytes)
    }

    /// Notes that every output has the rows of the last complete epoch, removes epochs that are no longer kept, and begins the next
    /// epoch.
    pub fn committed(&mut self) -> Result<()> {
        let epoch = self.epoch;
        self.directory.set_committed(epoch)?;
        let excess = self.complete.len().saturating_sub(self.options.kept.max(1));
        self.complete.drain(..excess);
        let oldest = self.complete.first().copied().unwrap_or(epoch);
        self.directory.remove_before(oldest, self.last_entry.saturating_sub(ENTRIES_KEPT))?;
        self.epoch.number += 1;
        Ok(())
    }
}

/// Reads and verifies the last complete epoch.
fn restore(directory: &CheckpointDir, last: &Complete, outputs: &[OutputName]) -> Result<Restored> {
    let Complete { epoch, parts, .. } = last;
    let is_committed = directory.is_committed(*epoch);
    check_outputs(&last.outputs, outputs, is_committed).map_err(|error| error.at(directory.name()))?;
    for part in parts {
        directory.verify(*epoch, part)?;
    }
    let read = |name: &str| match parts.iter().any(|part| part.name == name) {
        true => directory.read_part(*epoch, name),
        false => {
            Err(Error::corrupt(format!("epoch ({}, {}): expected a part {name}, found none", epoch.run, epoch.number))
                .at(directory.name()))
        }
    };
    let (state, positions) = (read(STATE)?, read(POSITIONS)?);
    Ok(Restored { epoch: *epoch, parts: parts.clone(), state, positions, is_committed })
}

/// Makes the id of a checkpoint. The id of the run has only its start and its process, which two hosts may share.
fn new_id(run: &Run) -> String {
    let text = format!("checkpoint {} {:016x}", run.id, RandomState::new().build_hasher().finish());
    Uuid::new_v5(&crate::kind::record_id::NAMESPACE, text.as_bytes()).to_string()
}

fn fenced(directory: &CheckpointDir, number: u64) -> Error {
    let message = format!("another run has written entry {number} of the log; this run ends");
    Error::new(ErrorKind::Fenced, message).at(directory.name())
}
