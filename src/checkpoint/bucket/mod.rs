//! A checkpoint in a bucket of S3.
//!
//! ```text
//! PREFIX/log/1, PREFIX/log/2, …          entries, each written once (If-None-Match: *)
//! PREFIX/epochs/R-N/NAME                 parts and notes of epoch R-N, as in a directory
//! PREFIX/epochs/R-0/end                  the last stage of run R
//! PREFIX/state/state-R-STAGE-K           files of state: written once, for all epochs that need them
//! ```
//!
//! Each process has a directory of its own in `TMPDIR`. There it writes the parts of an epoch, which are uploaded when
//! the stage ends the epoch, and there it reads the parts that it has downloaded.
//!
//! `staging.rs`: that directory, which a later process removes if its process was killed.

mod staging;
#[cfg(test)]
mod tests;

use self::staging::StagingDirectory;
use super::directory::CheckpointDir;
use super::log::{Complete, EpochPart, LogEntry};
use super::part::PartWriter;
use super::store::{CheckpointStore, Claim, Removed, STATE_FILE, compare, epoch_of, fenced, is_removed};
use crate::console::Console;
use crate::error::{Error, Result};
use crate::s3::address::S3Address;
use crate::s3::bucket::{S3Bucket, Upload};
use crate::storage::disk::{Disk, DiskFile};
use crate::store::Epoch;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Interval at which the log is watched. Each check is a request.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// Number of old entries that are removed in one step.
const ENTRIES_REMOVED: u64 = 50;

/// The objects of a checkpoint, and the directory of this process.
#[derive(Debug)]
pub struct CheckpointBucket {
    objects: S3Bucket,
    local: CheckpointDir,
    _staging: StagingDirectory,
    known: Mutex<KnownObjects>,
}

/// The objects and epochs of the bucket that this process knows without a request.
#[derive(Debug, Default)]
struct KnownObjects {
    /// Files of state that are objects.
    state: BTreeSet<String>,
    /// Files of state that were downloaded.
    downloaded: BTreeMap<String, PathBuf>,
    /// Epochs that this process has ended itself: no other process writes notes of its stage.
    epochs: BTreeSet<Epoch>,
    /// Notes that this process has written.
    notes: BTreeSet<(Epoch, String)>,
    /// The number of steps of [`ENTRIES_REMOVED`] entries that are removed already.
    removed_step: u64,
}

/// Returns the run that has made a file of state.
fn run_of_state(key: &str) -> Option<u64> {
    key.strip_prefix("state/")?.strip_prefix(STATE_FILE)?.split('-').next()?.parse().ok()
}

impl CheckpointBucket {
    /// Makes the client and the directory; sends nothing. Errors: exit status 2 for wrong options, 78 for missing ones,
    /// 74.
    pub fn try_new(address: S3Address, disk: &Disk, console: &Console) -> Result<Self> {
        let staging = StagingDirectory::create()?;
        let local = CheckpointDir::new(staging.path().to_owned(), disk);
        Ok(Self { objects: S3Bucket::try_new(address, console)?, local, _staging: staging, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, KnownObjects> {
        // A panic can interrupt only a change of one of these sets, so they stay usable.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the keys of the objects of epochs, with their epochs.
    fn epochs(&self) -> Result<Vec<(Epoch, String)>> {
        let epoch = |key: String| Some((epoch_of(key.strip_prefix("epochs/")?.split('/').next()?)?, key));
        Ok(self.objects.list("epochs/")?.into_iter().filter_map(epoch).collect())
    }

    /// Removes all epochs before `before`.
    fn remove_epochs(&self, before: Epoch) -> Result<()> {
        let old = self.epochs()?.into_iter().filter(|(epoch, _)| is_removed(*epoch, before));
        self.objects.delete(&old.map(|(_, key)| key).collect::<Vec<_>>())
    }
}

fn entry_key(number: u64) -> String {
    format!("log/{number}")
}

fn note_key(epoch: Epoch, name: &str) -> String {
    format!("epochs/{epoch}/{name}")
}

fn state_key(name: &str) -> String {
    format!("state/{name}")
}

fn part_key(epoch: Epoch, name: &str) -> String {
    if name.starts_with(STATE_FILE) { state_key(name) } else { note_key(epoch, name) }
}

/// Returns a token by which a process recognises its own object.
fn new_token() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

impl CheckpointStore for CheckpointBucket {
    fn name(&self) -> String {
        self.objects.address().to_string()
    }

    fn shared_name(&self) -> PathBuf {
        self.objects.address().shared().into()
    }

    fn watch_interval(&self) -> Duration {
        WATCH_INTERVAL
    }

    fn check(&self) -> Result<bool> {
        let has_log = !self.entries()?.is_empty();
        if !has_log && let Some(other) = self.objects.any("")? {
            let message = format!("expected no objects or a checkpoint, found {}", self.objects.name(&other));
            return Err(Error::config(message).at(self.name()));
        }
        Ok(has_log)
    }

    fn create(&self) -> Result<()> {
        self.local.create()?;
        self.check().map(drop)
    }

    fn entries(&self) -> Result<Vec<u64>> {
        let keys = self.objects.list("log/")?;
        let mut numbers: Vec<u64> = keys.iter().filter_map(|key| key.strip_prefix("log/")?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn entry(&self, number: u64) -> Result<Option<LogEntry>> {
        Ok(self.read_entries(&[number])?.pop())
    }

    fn read_entries(&self, numbers: &[u64]) -> Result<Vec<LogEntry>> {
        let keys: Vec<String> = numbers.iter().map(|number| entry_key(*number)).collect();
        let found = self.objects.get_all(&keys)?.into_iter().zip(&keys);
        let parse = |(bytes, key): (Option<Vec<u8>>, &String)| {
            bytes.map(|bytes| LogEntry::parse(&bytes).map_err(|error| error.at(self.objects.name(key))))
        };
        found.filter_map(parse).collect()
    }

    fn put(&self, number: u64, entry: &LogEntry) -> Result<bool> {
        let (key, bytes) = (entry_key(number), entry.to_bytes(Some(&new_token()))?);
        if !self.objects.put_new(&key, &bytes)? {
            return Ok(false);
        }
        if matches!(entry, LogEntry::Start(_)) && !self.objects.has_put_new(&key, &bytes)? {
            let message = "expected a server that does not replace an object (If-None-Match), found one that does";
            return Err(Error::config(message).at(self.name()));
        }
        Ok(self.entries()?.last() == Some(&number))
    }

    fn clear(&self, run: u64, kept: &[Complete]) -> Result<()> {
        if let Some(oldest) = kept.first() {
            self.remove_epochs(oldest.epoch)?;
        }
        let needed: BTreeSet<String> =
            kept.iter().flat_map(Complete::parts).map(|part| state_key(&part.name)).collect();
        let state = self.objects.list("state/")?;
        // If this run was suspended, the list may have files of a newer run. That run has written its entry before its
        // files, so the entry is visible now.
        if let Some(newer) = self.entries()?.last().filter(|last| **last != run) {
            return Err(fenced(self, *newer));
        }
        let is_old = |key: &String| !needed.contains(key) && run_of_state(key).is_none_or(|made| made < run);
        self.objects.delete(&state.into_iter().filter(is_old).collect::<Vec<_>>())
    }

    fn has_epoch(&self, epoch: Epoch) -> Result<bool> {
        Ok(self.objects.any(&note_key(epoch, ""))?.is_some())
    }

    fn create_part(&self, epoch: Epoch, name: &str) -> Result<PartWriter> {
        self.local.create_part(epoch, name)
    }

    fn sync_epoch(&self, epoch: Epoch, parts: &[EpochPart]) -> Result<()> {
        let is_new = |part: &&EpochPart| !self.known().state.contains(&part.name);
        let new: Vec<&EpochPart> = parts.iter().filter(is_new).collect();
        let upload = |part: &&EpochPart| Upload {
            key: part_key(epoch, &part.name),
            path: self.local.part_path(epoch, &part.name),
        };
        self.objects.upload(&new.iter().map(upload).collect::<Vec<_>>())?;
        let mut known = self.known();
        known.epochs.insert(epoch);
        known.state =
            parts.iter().map(|part| &part.name).filter(|name| name.starts_with(STATE_FILE)).cloned().collect();
        Ok(())
    }

    fn verify(&self, epoch: Epoch, part: &EpochPart) -> Result<()> {
        let (key, path) = (part_key(epoch, &part.name), self.local.part_path(epoch, &part.name));
        let former = self.known().downloaded.get(&key).cloned();
        self.local.make_epoch(epoch)?;
        match former {
            // An earlier epoch has the same file.
            Some(former) if former == path || fs::hard_link(&former, &path).is_ok() => {}
            _ if self.objects.download(&key, &path, part.bytes)? => {}
            _ => {
                let message = format!("expected {} bytes, found no object", part.bytes);
                return Err(Error::corrupt(message).at(self.objects.name(&key)));
            }
        }
        self.known().downloaded.insert(key.clone(), path.clone());
        compare(part, &path, &self.objects.name(&key))
    }

    fn open_part(&self, epoch: Epoch, name: &str) -> Result<File> {
        self.local.open_part(epoch, name)
    }

    fn release(&self, epoch: Epoch) -> Result<()> {
        {
            let mut known = self.known();
            known.downloaded.clear();
            known.epochs.retain(|other| *other > epoch);
            known.notes.retain(|(other, _)| *other > epoch);
        }
        self.local.remove_epoch(epoch)
    }

    fn create_state(&self, run: u64, name: &str) -> Result<(DiskFile, PathBuf)> {
        self.local.create_state(run, name)
    }

    fn restore_state(&self, run: u64, epoch: Epoch, name: &str) -> Result<PathBuf> {
        self.known().state.insert(name.to_owned());
        self.local.restore_state(run, epoch, name)
    }

    fn link_part(&self, epoch: Epoch, name: &str, known: Option<&EpochPart>) -> Result<EpochPart> {
        self.local.link_part(epoch, name, known)
    }

    fn put_note(&self, epoch: Epoch, name: &str, bytes: &[u8]) -> Result<()> {
        self.known().notes.insert((epoch, name.to_owned()));
        self.objects.put(&note_key(epoch, name), bytes)
    }

    fn note(&self, epoch: Epoch, name: &str) -> Result<Option<Vec<u8>>> {
        match self.local.note(epoch, name)? {
            // A part that this process has written.
            Some(bytes) => Ok(Some(bytes)),
            None => self.objects.get(&note_key(epoch, name)),
        }
    }

    fn own_note(&self, epoch: Epoch, name: &str) -> Result<Option<Vec<u8>>> {
        let is_absent = {
            let known = self.known();
            known.epochs.contains(&epoch) && !known.notes.contains(&(epoch, name.to_owned()))
        };
        if is_absent { Ok(None) } else { self.note(epoch, name) }
    }

    fn claim(&self, run: u64, name: &str, path: &str) -> Result<Claim> {
        let key = note_key(Epoch { run, number: 0 }, name);
        match self.objects.put_new(&key, format!("{path}\n{}", new_token()).as_bytes())? {
            true => Ok(Claim::Made(None)),
            false => Ok(Claim::Taken(self.claimed(run, name)?.unwrap_or_default())),
        }
    }

    fn claimed(&self, run: u64, name: &str) -> Result<Option<String>> {
        let found = self.objects.get(&note_key(Epoch { run, number: 0 }, name))?;
        Ok(found.map(|bytes| String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned()))
    }

    fn remove(&self, removed: &Removed<'_>) -> Result<()> {
        self.remove_epochs(removed.before)?;
        let state: Vec<String> = removed.state.iter().map(|name| state_key(name)).collect();
        self.objects.delete(&state)?;
        let step = removed.entries_before / ENTRIES_REMOVED;
        if step <= std::mem::replace(&mut self.known().removed_step, step) {
            return Ok(());
        }
        // Deletes entries one by one in their order, so that no entry is removed before an earlier one.
        for number in self.entries()?.into_iter().filter(|number| (2..removed.entries_before).contains(number)) {
            self.objects.delete(&[entry_key(number)])?;
        }
        Ok(())
    }
}
