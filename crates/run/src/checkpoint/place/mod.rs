//! The place of a checkpoint: its log, notes and claims as objects, whether they are in a directory or a bucket.
//!
//! ```text
//! CheckpointPlace ─► Objects: log/K, epochs/R-N/NAME
//!        └─► EpochFiles ─┬─► DirectoryFiles: the same directory
//!                        └─► BucketFiles: a staging directory, then the bucket
//! ```
//!
//! - `files.rs`: what differs between a directory (`directory.rs`) and a bucket (`bucket.rs`).
//! - `local.rs`: parts and files of state on this machine. `staging.rs`: a directory of this process for those of a
//!   bucket, which a later process removes if its process was killed.

mod bucket;
mod directory;
mod files;
mod local;
mod staging;
#[cfg(test)]
mod tests;

use self::bucket::BucketFiles;
use self::directory::DirectoryFiles;
use self::files::EpochFiles;
pub use self::files::STATE_FILE;
use self::local::{LocalFiles, epoch_key};
use super::log::{Complete, EpochPart, LogEntry};
use crate::bucket::address::BucketAddress;
use crate::checkpoint::epoch::Epoch;
use crate::storage::Objects;
use crate::storage::disk::Disk;
use evt_core::error::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A place for the log, the parts and the notes of a checkpoint.
///
/// Errors: exit status 74 or 69 if it cannot be read or written.
#[derive(Debug)]
pub struct CheckpointPlace {
    /// Its name for messages.
    pub name: String,
    /// The name by which the other stages of the pipe open it.
    pub shared_name: PathBuf,
    /// The interval at which the log is watched for an epoch.
    pub watch_interval: Duration,
    /// The number of old entries that are removed in one step.
    entries_removed: u64,
    /// The objects, and the files of this process.
    pub files: Box<dyn EpochFiles>,
    known: Mutex<KnownEpochs>,
}

/// What this process has done in the place.
#[derive(Debug, Default)]
struct KnownEpochs {
    /// Epochs that this process has ended itself: no other process writes notes of its stage.
    ended: BTreeSet<Epoch>,
    /// Notes that this process has written.
    notes: BTreeSet<(Epoch, String)>,
    /// The number of steps of old entries that are removed already.
    removed_step: u64,
}

impl CheckpointPlace {
    /// Names a directory; creates nothing.
    pub fn directory(root: PathBuf, disk: &Disk) -> Self {
        Self {
            name: root.display().to_string(),
            shared_name: std::path::absolute(&root).unwrap_or_else(|_| root.clone()),
            watch_interval: Duration::from_millis(10),
            entries_removed: 1,
            files: Box::new(DirectoryFiles::new(LocalFiles::new(root, disk))),
            known: Mutex::default(),
        }
    }

    /// Makes a client of a bucket; sends nothing. Errors: exit status 2 for wrong options, 78 for missing ones, 74.
    pub fn bucket(address: BucketAddress, disk: &Disk) -> Result<Self> {
        Ok(Self {
            name: address.to_string(),
            shared_name: address.shared.clone().into(),
            // Each look at the log is a request.
            watch_interval: Duration::from_millis(200),
            entries_removed: 50,
            files: Box::new(BucketFiles::try_new(address, disk)?),
            known: Mutex::default(),
        })
    }

    fn known(&self) -> MutexGuard<'_, KnownEpochs> {
        // A panic can interrupt only a change of one of these sets, so they stay usable.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the parts and files of state on this machine.
    pub fn local(&self) -> &LocalFiles {
        self.files.local()
    }

    /// Returns the numbers of the entries, in order.
    pub fn entries(&self) -> Result<Vec<u64>> {
        let keys = self.files.objects().list("log/")?;
        let mut numbers: Vec<u64> = keys.iter().filter_map(|key| key.strip_prefix("log/")?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Reads an entry; `None` if there is none. Errors: exit status 65 if it is damaged.
    pub fn entry(&self, number: u64) -> Result<Option<LogEntry>> {
        Ok(self.read_entries(&[number])?.pop())
    }

    /// Reads entries; leaves out those that do not exist.
    pub fn read_entries(&self, numbers: &[u64]) -> Result<Vec<LogEntry>> {
        let (objects, keys) = (self.files.objects(), numbers.iter().map(|number| entry_key(*number)));
        let keys = Vec::from_iter(keys);
        let parse = |(bytes, key): (Option<Vec<u8>>, &String)| {
            bytes.map(|bytes| LogEntry::parse(&bytes).map_err(|error| error.at(objects.name(key))))
        };
        objects.get_all(&keys)?.into_iter().zip(&keys).filter_map(parse).collect()
    }

    /// Creates an entry durably, unless the entry or a later one exists; returns whether it was created. Old entries
    /// are removed, so a free number alone does not prove that no newer run has begun. Errors: exit status 78 if a
    /// server replaces entries.
    pub fn put(&self, number: u64, entry: &LogEntry) -> Result<bool> {
        let (objects, key) = (self.files.objects(), entry_key(number));
        if !objects.put_if_absent(&key, &entry.to_bytes(objects.token().as_deref())?)? {
            return Ok(false);
        }
        if matches!(entry, LogEntry::Start(_))
            && let Some(token) = objects.token()
            && objects.put_if_absent(&key, &entry.to_bytes(Some(&token))?)?
        {
            let message = "expected a server that does not replace an object (If-None-Match), found one that does";
            return Err(Error::config(message).at(&self.name));
        }
        Ok(self.entries()?.last() == Some(&number))
    }

    /// Removes the files that runs before `run` have left and the epochs `kept` do not need. Errors: exit status 75 if
    /// a newer run has begun.
    pub fn clear(&self, run: u64, kept: &[Complete]) -> Result<()> {
        // If this run was suspended, a list of files may have those of a newer run. That run has written its entry
        // before its files, so the entry is visible after the list.
        self.files.clear(run, kept, &|| self.check_last(run + 1))
    }

    /// Whether the parts of an epoch are kept.
    pub fn has_epoch(&self, epoch: Epoch) -> Result<bool> {
        Ok(self.files.objects().any(&epoch_key(epoch, ""))?.is_some())
    }

    /// Makes the parts that a stage has written of an epoch durable.
    pub fn sync_epoch(&self, epoch: Epoch, parts: &[EpochPart]) -> Result<()> {
        self.files.sync_epoch(epoch, parts)?;
        self.known().ended.insert(epoch);
        Ok(())
    }

    /// Frees the copies of the parts of an epoch, without removing the epoch.
    pub fn release(&self, epoch: Epoch) -> Result<()> {
        let mut known = self.known();
        known.ended.retain(|other| *other > epoch);
        known.notes.retain(|(other, _)| *other > epoch);
        drop(known);
        self.files.release(epoch)
    }

    /// Writes a note of an epoch, whole or not at all.
    pub fn put_note(&self, epoch: Epoch, name: &str, bytes: &[u8]) -> Result<()> {
        if epoch.number == 0 {
            // The notes of a run are in epoch 0, which has no parts, so no part has created its directory.
            self.local().make_epoch(epoch)?;
        }
        self.known().notes.insert((epoch, name.to_owned()));
        self.files.objects().put(&epoch_key(epoch, name), bytes)
    }

    /// Reads a part of any stage, whose checksum need not be verified; `None` if there is none.
    pub fn part(&self, epoch: Epoch, name: &str) -> Result<Option<Vec<u8>>> {
        // This process may have written it.
        let local = self.local().objects.get(&epoch_key(epoch, name))?;
        local.map_or_else(|| self.note(epoch, name), |bytes| Ok(Some(bytes)))
    }

    /// Reads a note; `None` if there is none.
    pub fn note(&self, epoch: Epoch, name: &str) -> Result<Option<Vec<u8>>> {
        self.files.objects().get(&epoch_key(epoch, name))
    }

    /// Reads a note that only this stage writes.
    pub fn own_note(&self, epoch: Epoch, name: &str) -> Result<Option<Vec<u8>>> {
        let known = self.known();
        let is_absent = known.ended.contains(&epoch) && !known.notes.contains(&(epoch, name.to_owned()));
        drop(known);
        if is_absent { Ok(None) } else { self.note(epoch, name) }
    }

    /// Marks an epoch as committed to every output of a stage.
    pub fn set_committed(&self, epoch: Epoch, stage: &str) -> Result<()> {
        self.put_note(epoch, &format!("{stage}.committed"), b"")
    }

    /// Whether an epoch is marked as committed to every output of a stage.
    pub fn is_committed(&self, epoch: Epoch, stage: &str) -> Result<bool> {
        Ok(self.note(epoch, &format!("{stage}.committed"))?.is_some())
    }

    /// Claims a name of a run for the stage at the end of `path`, unless another stage has it.
    pub fn claim(&self, run: u64, name: &str, path: &str) -> Result<Claim> {
        match self.files.claim(run, name, path)? {
            (true, locked) => Ok(Claim::Made(locked)),
            (false, _) => Ok(Claim::Taken(self.claimed(run, name)?.unwrap_or_default())),
        }
    }

    /// Returns the path of the stage that has claimed a name of a run.
    pub fn claimed(&self, run: u64, name: &str) -> Result<Option<String>> {
        let found = self.note(Epoch { run, number: 0 }, name)?;
        // A token may follow.
        Ok(found.map(|bytes| String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned()))
    }

    /// Removes the epochs that are no longer kept: all before `before` (`is_removed`), with the files of state `state`,
    /// which no kept epoch has, and all entries before `entries_before` but for the first, which holds the id. Later
    /// epochs stay: if this process was suspended, a newer run has written them.
    pub fn remove(&self, before: Epoch, entries_before: u64, state: &[String]) -> Result<()> {
        self.files.remove_epochs(before, state)?;
        let step = entries_before / self.entries_removed;
        if step <= std::mem::replace(&mut self.known().removed_step, step) {
            return Ok(());
        }
        // Deletes entries one by one in their order, so that no entry is removed before an earlier one.
        for number in self.entries()?.into_iter().filter(|number| (2..entries_before).contains(number)) {
            self.files.objects().delete(&[entry_key(number)])?;
        }
        Ok(())
    }

    /// Makes the error of a run that is no longer the newest: another one has written the entry `number`.
    pub fn fenced(&self, number: u64) -> Error {
        let message = format!("another run has written entry {number} of the log; this run ends");
        Error::fenced(message).at(&self.name)
    }

    /// Checks that no other run has written the entry `next` or a later one, with which this run is to begin. If this
    /// process was suspended since it read the log, other runs may have removed the epoch that it continues. Errors:
    /// exit status 75 if one has.
    pub fn check_last(&self, next: u64) -> Result<()> {
        match self.entries()?.pop().filter(|last| *last >= next) {
            None => Ok(()),
            Some(last) => Err(self.fenced(last)),
        }
    }

    /// Checks that the last entry of the log is of `run`. Old entries are removed, so the number of the entry that this
    /// run expects next may be free again. A stage of this run may then have created the entry although a newer run has
    /// begun. Errors: exit status 75 if a newer run has begun.
    pub fn check_newest(&self, run: u64) -> Result<()> {
        let Some(last) = self.entries()?.pop() else { return Ok(()) };
        let newest = match self.entry(last)? {
            Some(LogEntry::Start(_)) => last,
            Some(LogEntry::Complete(complete)) => complete.epoch.run,
            None => 0,
        };
        if newest == run { Ok(()) } else { Err(self.fenced(last)) }
    }
}

fn entry_key(number: u64) -> String {
    format!("log/{number}")
}

/// The outcome of a claim of a name.
#[derive(Debug)]
pub enum Claim {
    /// The name is that of the stage. The file is locked until it is closed; `None` where there are no locks.
    Made(Option<File>),
    /// The path of the stage that has the name.
    Taken(String),
}

/// Returns the cause of `error`: the outcome of a check of the log if another run has written it, because that run
/// removes files that this one reads; otherwise `error`.
pub fn or_fenced(checked: Result<()>, error: Error) -> Error {
    match checked {
        Err(fenced) if fenced.kind() == ErrorKind::Fenced => fenced,
        _ => error,
    }
}
