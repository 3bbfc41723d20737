//! Checkpoints: epochs of a run that are complete before their rows become visible, so that a restart repeats or
//! continues them.
//!
//! ```text
//! rows of outputs ─► outbox ┐
//! state of the operator ────┼─► parts of epoch R-N ─► `complete` in the log ─► Sink::commit(R-N)
//! positions of the inputs ──┘
//! ```
//!
//! A run restores the last complete epoch, commits it again (a repeated commit changes nothing), and reads on from its
//! positions. Rows after that epoch were only in outboxes, so nothing of them is visible; only an output that is
//! written at once (Redis, `?visible=now`) may have some.
//!
//! In a pipe the first stage names the checkpoint. Its barriers pass through all stages; each writes what it has of the
//! epoch before it passes the barrier on, so the last stage knows that the epoch is complete, and writes the entry. The
//! others watch the log for it.
//!
//! - `begun.rs`: followed names and topics that a run has begun, and that are in no complete epoch.
//! - `last_stages.rs`: the last stages of a run, one or several.
//! - `epoch.rs`: an epoch and its rows.
//! - `header.rs`: the checkpoint in the schema of a stream, for the next stage.
//! - `log.rs`: the entries of the log. The run that writes the greatest entry is the newest; any other run is fenced.
//! - `place`: the place of a checkpoint, a directory or a bucket of S3.
//! - `part.rs`: files with a checksum, and outboxes.
//! - `recorded.rs`: the numbers under which outputs record epochs, so that those of two copies differ.
//! - `restore.rs`: the epoch that a run continues.
//! - `state_files.rs`: files for state beyond `--memory`.
//! - `show.rs`: the description of a checkpoint that evt-view shows.

pub mod begun;
pub mod epoch;
pub mod header;
mod last_stages;
pub mod log;
pub mod part;
pub mod place;
mod recorded;
pub mod restore;
pub mod show;
pub mod state_files;

use self::begun::BegunInputs;
use self::header::{CheckpointHeader, CheckpointOptions};
use self::log::{Complete, EpochPart, LogEntry, OutputName, StageEpoch, Start, manifest_name};
use self::part::{POSITIONS, STATE, SealedParts, of_json, part_name, to_json};
use self::place::{CheckpointPlace, STATE_FILE, or_fenced};
use self::recorded::RecordedRuns;
use self::restore::{Restored, StageRole, StoreLookup, continued, last_complete, with_restore_advice};
use self::state_files::CheckpointFiles;
use crate::bucket::address::{BucketAddress, is_address};
use crate::checkpoint::epoch::Epoch;
use crate::client::Caller;
use crate::run::Run;
use crate::storage;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::kind::named_id::named_id;
use evt_core::time::format_instant;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// The number of entries that are kept for evt-view and for people who read the log. Together with the entries that a
/// bucket removes in its next step, they fit into one page of a list request.
const ENTRIES_KEPT: u64 = 900;

/// The checkpoint of a run, as one of its stages has it.
pub struct Checkpoint {
    /// Its place.
    pub place: Arc<CheckpointPlace>,
    header: CheckpointHeader,
    /// This stage.
    pub own: StageRole,
    /// The epoch in progress.
    pub epoch: Epoch,
    /// The number of the last entry that this stage knows.
    last_entry: u64,
    /// Complete epochs that are kept, the last one at the end.
    complete: Vec<KeptEpoch>,
    /// The epoch that the run continues; `None` if it is the first.
    pub restored: Option<Restored>,
    /// How outputs record the epochs of this run and the restored one.
    pub recorded: RecordedRuns,
    /// Inputs that earlier runs have begun after the restored epoch.
    followed: Vec<serde_json::Value>,
    /// The files of state that epochs have, by name.
    files: BTreeMap<String, EpochPart>,
    /// The stages that have not committed the last complete epoch, as far as this stage knows.
    uncommitted: Vec<String>,
    /// The claim of the stage's name, locked while it runs; `None` unless a directory has a run with several last
    /// stages.
    _claim: Option<File>,
}

/// A stage that a run would have.
pub struct PlannedStage {
    /// The names of the stages before it.
    pub before: Vec<String>,
    /// Its name.
    pub stage: String,
    /// Its outputs.
    pub outputs: Vec<OutputName>,
    /// Whether other stages read what it writes; `None` if that is not known.
    pub has_readers: Option<bool>,
    /// Checks the state that it would continue.
    pub state: Option<StateCheck>,
}

/// Checks that a stage could continue the saved state of its operator. Errors: exit status 78 if it could not, 65 if
/// the state is damaged.
pub type StateCheck = Box<dyn FnOnce(&[u8]) -> Result<()> + Send>;

/// A complete epoch that is kept.
struct KeptEpoch {
    epoch: Epoch,
    stages: Vec<String>,
    /// Its files of state.
    state: BTreeSet<String>,
    /// The watermark of each stage that has one (µs).
    watermarks: BTreeMap<String, i64>,
}

impl KeptEpoch {
    fn of(complete: &Complete) -> Self {
        let state = complete.parts().map(|part| &part.name).filter(|name| name.starts_with(STATE_FILE)).cloned();
        let stages = complete.stages.iter().map(|stage| stage.stage.clone()).collect();
        let watermarks = complete.stages.iter().filter_map(|stage| Some((stage.stage.clone(), stage.watermark?)));
        Self { epoch: complete.epoch, stages, state: state.collect(), watermarks: watermarks.collect() }
    }
}

/// Whether the name of a checkpoint is that of a bucket.
pub fn is_in_bucket(path: &Path) -> bool {
    path.to_str().is_some_and(is_address)
}

/// Checks the name of a checkpoint, without opening it. Errors: exit status 2 or 78 for the URI of a bucket.
pub fn check_name(path: &Path, caller: &Caller) -> Result<()> {
    match path.to_str().filter(|_| is_in_bucket(path)) {
        Some(uri) => BucketAddress::parse(uri, caller).map(drop),
        None => Ok(()),
    }
}

/// Opens the place of a checkpoint; changes nothing there.
fn open_place(path: &Path, run: &Run) -> Result<Arc<CheckpointPlace>> {
    Ok(Arc::new(match path.to_str().filter(|_| is_in_bucket(path)) {
        Some(uri) => CheckpointPlace::bucket(BucketAddress::parse(uri, &run.caller())?, &run.io.disk())?,
        None => CheckpointPlace::directory(path.to_owned(), &run.io.disk()),
    }))
}

impl Checkpoint {
    /// Opens a checkpoint, or creates one, and begins a run as its first stage: writes `start`. An older run is fenced
    /// from now on.
    ///
    /// Errors: exit status 65 if the log or the last epoch is damaged, 74 if it cannot be read or written, 75 if
    /// another run begins at the same moment, 78 if the outputs do not fit.
    pub fn open(
        options: CheckpointOptions,
        outputs: Vec<OutputName>,
        has_readers: bool,
        stores: StoreLookup,
        run: &Run,
    ) -> Result<Self> {
        let place = open_place(&options.path, run)?;
        place.files.create()?;
        let entries = place.entries()?;
        let number = entries.last().map_or(1, |last| last + 1);
        let id = id_of(&place, &entries)?.unwrap_or_else(|| new_id(run));
        let mut complete = last_complete(&place, &entries, options.kept.max(options.back + 1), None)?;
        let (checkpoint, stage) = (id.clone(), first_stage(run));
        let own = StageRole { checkpoint, stage, outputs, has_readers, ends: options.ends, stores };
        let continued = continued(&place, &complete, options.back)?;
        let restored = continued.map(|last| own.restore(&[], &place, last)).transpose();
        let restored = restored.or_else(|error| {
            let error = or_fenced(place.check_last(number), error);
            Err(with_restore_advice(error, &place, &complete, options.back, stores)?)
        })?;
        let continues = restored.as_ref().map(|restored| restored.epoch);
        let followed = begun::since(&place, &entries, continues, &own.stage)?;
        let start = LogEntry::Start(Start {
            checkpoint: id.clone(),
            restored: continues,
            at: format_instant(run.clock.now()),
            host: Run::host(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            recorded_as: Some(recorded::next(&place, &entries, run.clock.now())?),
            followed: followed.clone(),
        });
        if !place.put(number, &start)? {
            return Err(place.fenced(number));
        }
        let last = complete.last().map(|last| last.epoch);
        let recorded = RecordedRuns::read(&place, number, continues, last)?;
        // With `--restore`, the epochs after the restored one keep their files until newer epochs are complete.
        place.clear(number, &complete)?;
        complete.truncate(complete.len().saturating_sub(options.back));
        let header = CheckpointHeader {
            path: place.shared_name.clone(),
            id,
            run: number,
            restored: continues,
            kept: options.kept,
            ends: options.ends,
            branch: None,
            stages: vec![],
        };
        let kept = complete.split_off(complete.len().saturating_sub(header.kept.max(1)));
        let begun = Self::begin(place, header, own, kept.iter().map(KeptEpoch::of).collect(), restored);
        Ok(Self { followed, recorded, ..begun })
    }

    /// Checks that a run could begin or join as a stage of a checkpoint, or create it; changes nothing and verifies no
    /// part. `planned` is `None` if the outputs of the stage are faulty themselves.
    ///
    /// Errors: those of [`Checkpoint::open`] and [`Checkpoint::join`], except for damaged parts and other runs; those
    /// of [`PlannedStage::state`].
    pub fn check(
        options: &CheckpointOptions,
        planned: Option<PlannedStage>,
        stores: StoreLookup,
        run: &Run,
    ) -> Result<()> {
        let place = open_place(&options.path, run)?;
        if !place.files.check()? {
            return Ok(());
        }
        let entries = place.entries()?;
        let complete = last_complete(&place, &entries, options.kept.max(options.back + 1), None)?;
        let Some(last) = continued(&place, &complete, options.back)? else { return Ok(()) };
        let Some(PlannedStage { before, stage, outputs, has_readers, state }) = planned else { return Ok(()) };
        let checkpoint = id_of(&place, &entries)?.unwrap_or_default();
        // Else takes `has_readers` from the checkpoint, because the output of `--check` may be a terminal even if a
        // stage reads that of the run.
        let has_readers = has_readers.unwrap_or_else(|| last.branches().iter().any(|branch| branch.len() > 1));
        let own = StageRole { checkpoint, stage, outputs, has_readers, ends: options.ends, stores };
        let (saved, _) = own.check(&before, &place, last)?;
        let Some(state) = state else { return Ok(()) };
        let name = part_name(&own.stage, STATE);
        let bytes = match saved.parts.iter().any(|part| part.name == name) {
            true => place.part(last.epoch, &name)?.unwrap_or_default(),
            // An empty part is not written.
            false => vec![],
        };
        state(&bytes).map_err(|error| error.at(&place.name))
    }

    /// Takes part in a run that an earlier stage of the pipe has begun.
    ///
    /// Errors: exit status 65 if the epoch to be restored is damaged, 74 if it cannot be read, 75 if a newer run has
    /// begun, 78 if the stage or its outputs do not fit, or if the run has another last stage.
    pub fn join(
        header: CheckpointHeader,
        outputs: Vec<OutputName>,
        has_readers: bool,
        stores: StoreLookup,
        run: &Run,
    ) -> Result<Self> {
        let place = open_place(&header.path, run)?;
        let stage = header.next_stage(run.console.tool());
        let checkpoint = header.id.clone();
        let own = StageRole { checkpoint, stage, outputs, has_readers, ends: header.ends, stores };
        Self::join_at(place.clone(), header.clone(), own)
            .map_err(|error| or_fenced(place.check_newest(header.run), error))
            .inspect_err(|_| last_stages::note_failure(&place, header.run, &header.next_stage(run.console.tool())))
    }

    fn join_at(place: Arc<CheckpointPlace>, header: CheckpointHeader, own: StageRole) -> Result<Self> {
        let entries = place.entries()?;
        let (before, after) = entries.split_at(entries.partition_point(|entry| *entry < header.run));
        if after.is_empty() {
            let message = format!("expected entry {} of the log, found none", header.run);
            return Err(Error::failed(message).at(&place.name));
        }
        for entry in after.iter().filter(|entry| **entry > header.run) {
            if let Some(LogEntry::Start(_)) = place.entry(*entry)? {
                return Err(place.fenced(*entry));
            }
        }
        let complete = last_complete(&place, before, header.kept, header.restored)?;
        let restored = match header.restored {
            None => None,
            Some(epoch) => match complete.last().filter(|last| last.epoch == epoch) {
                Some(last) => Some(own.restore(&header.stages, &place, last)?),
                None => {
                    return Err(Error::corrupt(format!("expected epoch {epoch}, found none")).at(&place.name));
                }
            },
        };
        let path = own.path(&header.stages);
        let claim = match header.ends {
            1 => None,
            _ => last_stages::claim_stage(&place, header.run, &path)?,
        };
        if !own.has_readers {
            last_stages::claim_end(&place, header.run, &path, header.ends)?;
        }
        // With --restore, the last complete epoch is later than the restored one.
        let last = last_complete(&place, before, 1, None)?.pop().map(|last| last.epoch);
        let recorded = RecordedRuns::read(&place, header.run, header.restored, last)?;
        let complete = complete.iter().map(KeptEpoch::of).collect();
        Ok(Self { _claim: claim, recorded, ..Self::begin(place, header, own, complete, restored) })
    }

    fn begin(
        place: Arc<CheckpointPlace>,
        header: CheckpointHeader,
        own: StageRole,
        complete: Vec<KeptEpoch>,
        restored: Option<Restored>,
    ) -> Self {
        Self {
            place,
            own,
            epoch: Epoch { run: header.run, number: 1 },
            last_entry: header.run,
            complete,
            restored,
            recorded: RecordedRuns::default(),
            followed: vec![],
            files: BTreeMap::new(),
            uncommitted: vec![],
            _claim: None,
            header,
        }
    }

    /// Whether this is the first stage, and tee(1) divides what it or a later one writes.
    pub fn has_branches(&self) -> bool {
        self.own.ends > 1 && self.header.stages.is_empty()
    }

    /// Returns the header for the next stage; `None` if there is none.
    pub fn header(&self) -> Option<CheckpointHeader> {
        let mut header = self.header.clone();
        header.stages.push(self.own.stage.clone());
        self.own.has_readers.then_some(header)
    }

    /// Returns the inputs that earlier runs have begun, and where this run keeps those that it begins.
    pub fn begun_inputs(&self) -> BegunInputs {
        BegunInputs::new(self.place.clone(), self.epoch.run, &self.own.stage, self.followed.clone())
    }

    /// Returns the files of state of this stage in this run.
    pub fn state_files(&self) -> CheckpointFiles {
        let restored = self.restored.as_ref().map(|restored| restored.epoch);
        CheckpointFiles::new(self.place.clone(), self.epoch.run, &self.own.stage, restored)
    }

    /// Makes the files of state `names` parts of the epoch in progress, without writing their bytes again; returns the
    /// parts. Errors: exit status 74.
    pub fn keep_files(&mut self, names: &[String]) -> Result<Vec<EpochPart>> {
        self.files.retain(|name, _| names.contains(name));
        for name in names {
            let known = self.files.get(name);
            let part = self.place.local().link_part(self.epoch, name, known)?;
            self.files.insert(name.clone(), part);
        }
        Ok(self.files.values().cloned().collect())
    }

    /// Ends the epoch in progress in this stage: writes its state and positions, and, if another stage may complete it,
    /// what this stage has of the epoch. Begins the next epoch.
    ///
    /// Errors: exit status 74 if it cannot be written.
    pub fn seal(&mut self, sealed: SealedParts<'_>) -> Result<StageEpoch> {
        let epoch = self.epoch;
        let fingerprint = sealed.fingerprint();
        let SealedParts { began, spec: _, state, watermark, positions, outboxes: mut parts } = sealed;
        for (name, bytes) in [(STATE, state), (POSITIONS, positions)] {
            if !bytes.is_empty() {
                parts.push(self.place.local().write_part(epoch, &part_name(&self.own.stage, name), bytes)?);
            }
        }
        self.place.sync_epoch(epoch, &parts)?;
        let sealed = StageEpoch {
            stage: self.own.stage.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            began: Some(format_instant(began)),
            fingerprint,
            watermark,
            outputs: self.own.outputs.clone(),
            parts,
        };
        if self.own.has_readers || self.own.ends > 1 {
            let bytes = to_json("a stage", &sealed)?;
            self.place.put_note(epoch, &manifest_name(&self.own.stage), &bytes)?;
        }
        self.epoch.number += 1;
        Ok(sealed)
    }

    /// Completes an epoch, as a last stage: writes the entry that names the files of all stages. From now on a restart
    /// commits this epoch. Every stage before has written what it has of the epoch, because it has passed the barrier
    /// on. Returns false if another last stage has not sealed the epoch yet; that stage completes the epoch later.
    ///
    /// Errors: exit status 75 if a newer run has begun, 74 if it cannot be written.
    pub fn complete(&mut self, epoch: Epoch, own: StageEpoch, now: i64) -> Result<bool> {
        let ends = self.own.ends;
        let branches = match ends {
            1 => Some(vec![self.own.path(&self.header.stages)]),
            _ => last_stages::branches(&self.place, self.header.run, ends)?,
        };
        let Some(branches) = branches else { return Ok(false) };
        let mut stages: Vec<StageEpoch> = vec![];
        for stage in branches.iter().flatten() {
            if stages.iter().any(|known| known.stage == *stage) {
                continue;
            }
            if *stage == own.stage {
                stages.push(own.clone());
                continue;
            }
            let name = manifest_name(stage);
            match self.place.note(epoch, &name)? {
                Some(bytes) => {
                    stages.push(of_json(&name, &bytes)?);
                }
                None if self.header.stages.contains(stage) => {
                    return Err(Error::corrupt(format!("expected {name}, found no file")).at(&self.place.name));
                }
                None => return Ok(false),
            }
        }
        let branches = if ends > 1 { branches } else { vec![] };
        let complete = Complete { epoch, at: format_instant(now), stages, branches };
        let kept = KeptEpoch::of(&complete);
        let number = self.last_entry + 1;
        if self.place.put(number, &LogEntry::Complete(complete))? {
            self.last_entry = number;
            self.uncommitted.clone_from(&kept.stages);
            self.complete.push(kept);
            return Ok(true);
        }
        // Two last stages may complete an epoch at once.
        if ends > 1 && self.is_complete(epoch)? { Ok(true) } else { Err(self.place.fenced(number)) }
    }

    /// Returns the positions that the first stage has saved in an epoch; empty if it has none.
    pub fn positions(&self, epoch: Epoch) -> Result<Vec<u8>> {
        let first = self.header.stages.first().unwrap_or(&self.own.stage);
        Ok(self.place.part(epoch, &part_name(first, POSITIONS))?.unwrap_or_default())
    }

    /// Returns the watermark (µs) that the nearest stage before this one had at the end of a complete epoch; `None` if
    /// none of them has one.
    pub fn earlier_watermark(&self, epoch: Epoch) -> Option<i64> {
        let kept = self.complete.iter().find(|kept| kept.epoch == epoch)?;
        self.header.stages.iter().rev().find_map(|stage| kept.watermarks.get(stage).copied())
    }

    /// Whether a last stage has completed an epoch. Errors: exit status 75 if a newer run has begun.
    pub fn is_complete(&mut self, epoch: Epoch) -> Result<bool> {
        while let Some(entry) = self.place.entry(self.last_entry + 1)? {
            self.last_entry += 1;
            match entry {
                LogEntry::Start(_) => return Err(self.place.fenced(self.last_entry)),
                LogEntry::Complete(complete) if complete.epoch == epoch => {
                    self.place.check_newest(self.header.run)?;
                    self.place.files.sync_log()?;
                    let kept = KeptEpoch::of(&complete);
                    self.uncommitted.clone_from(&kept.stages);
                    // Only last stages track the kept epochs, because they remove them.
                    if !self.own.has_readers {
                        self.complete.push(kept);
                    }
                    return Ok(true);
                }
                LogEntry::Complete(_) => {}
            }
        }
        Ok(false)
    }

    /// Notes that this stage fails, so that no other stage waits for it.
    pub fn note_failure(&self) {
        last_stages::note_failure(&self.place, self.header.run, &self.own.stage);
    }

    /// Returns a stage that will not commit an epoch of this run, if there is one.
    pub fn failed(&self, epoch: Epoch) -> Result<Option<String>> {
        last_stages::failed(&self.place, epoch, self.own.ends)
    }

    /// Returns the reason why an epoch is not complete.
    pub fn missing(&self, epoch: Epoch) -> Result<String> {
        last_stages::missing(&self.place, epoch, self.own.ends)
    }

    /// Returns the stages that have not committed the last complete epoch, `epoch`, to every output.
    pub fn uncommitted(&mut self, epoch: Epoch) -> Result<&[String]> {
        last_stages::retain_uncommitted(&self.place, epoch, &mut self.uncommitted)?;
        Ok(&self.uncommitted)
    }

    /// Returns the cause of `error`: exit status 75 if a newer run has begun, because it removes the files of this run;
    /// otherwise `error`.
    pub fn cause(&self, error: Error) -> Error {
        if !matches!(error.kind(), ErrorKind::Io | ErrorKind::Corrupt) {
            return error;
        }
        let mut number = self.last_entry + 1;
        while let Ok(Some(entry)) = self.place.entry(number) {
            if matches!(entry, LogEntry::Start(_)) {
                return self.place.fenced(number);
            }
            number += 1;
        }
        error
    }

    /// Notes that every output of this stage has the rows of a complete epoch. A last stage removes epochs that are no
    /// longer kept.
    pub fn committed(&mut self, epoch: Epoch) -> Result<()> {
        self.place.set_committed(epoch, &self.own.stage)?;
        self.place.release(epoch)?;
        if self.own.has_readers {
            return Ok(());
        }
        let excess = self.complete.len().saturating_sub(self.header.kept.max(1));
        // Keeps the files of epochs that a stage has not committed yet.
        let mut done = 0;
        while done < excess && self.is_done(&self.complete[done])? {
            done += 1;
        }
        let dropped: BTreeSet<String> = self.complete.drain(..done).flat_map(|epoch| epoch.state).collect();
        let is_needed = |name: &String| self.complete.iter().any(|epoch| epoch.state.contains(name));
        let state: Vec<String> = dropped.into_iter().filter(|name| !is_needed(name)).collect();
        let oldest = self.complete.first().map_or(epoch, |kept| kept.epoch);
        // Keeps the entries from the run of the oldest kept epoch on, so that a later run finds the entry of the epoch
        // that it restores, however many runs fail in between.
        let entries_before = oldest.run.min(self.last_entry.saturating_sub(ENTRIES_KEPT));
        self.place.remove(oldest, entries_before, &state)
    }

    /// Whether all stages have committed an epoch, or an earlier run has removed it.
    fn is_done(&self, kept: &KeptEpoch) -> Result<bool> {
        for stage in &kept.stages {
            if !self.place.is_committed(kept.epoch, stage)? {
                return Ok(!self.place.has_epoch(kept.epoch)?);
            }
        }
        Ok(true)
    }
}

/// Returns the name of the first stage of a run.
fn first_stage(run: &Run) -> String {
    format!("1-{}", run.console.tool())
}

/// Returns the id of a checkpoint; `None` if it has no run. Errors: exit status 65 if its first entry is missing.
fn id_of(place: &CheckpointPlace, entries: &[u64]) -> Result<Option<String>> {
    let Some(first) = entries.first() else { return Ok(None) };
    match place.entry(*first)? {
        Some(LogEntry::Start(start)) if *first == 1 => Ok(Some(start.checkpoint)),
        _ => Err(Error::corrupt("expected the entry log/1, found later ones only").at(&place.name)),
    }
}

fn new_id(run: &Run) -> String {
    let text = format!("checkpoint {} {}", run.id, storage::token());
    named_id(&evt_core::kind::record_id::NAMESPACE, &[text.as_bytes()]).to_string()
}
