//! The place of a checkpoint: the trait that a directory and a bucket implement.

use super::log::{Complete, EpochPart, LogEntry};
use super::part::PartWriter;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::disk::DiskFile;
use crate::store::Epoch;
use std::fmt::Debug;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use xxhash_rust::xxh3::Xxh3;

/// The prefix of the names of files of state. No name of a stage has it.
pub const STATE_FILE: &str = "state-";
/// Bytes that are read at once.
const BLOCK: usize = 256 << 10;

/// A place for the log, the parts and the notes of a checkpoint. Parts that are written or verified are files of this
/// machine.
///
/// Errors: exit status 74 or 69 if it cannot be read or written.
pub trait CheckpointStore: Debug + Send + Sync {
    /// Returns its name for messages.
    fn name(&self) -> String;

    /// Returns the name by which the other stages of the pipe open it.
    fn shared_name(&self) -> PathBuf;

    /// Returns the interval at which the log is watched for an epoch.
    fn watch_interval(&self) -> Duration;

    /// Checks that `create` would succeed; changes nothing. Returns whether a log exists. Errors: those of `create`.
    fn check(&self) -> Result<bool>;

    /// Makes the place ready. Errors: exit status 78 if it holds other things and no log.
    fn create(&self) -> Result<()>;

    /// Returns the numbers of the entries, in order.
    fn entries(&self) -> Result<Vec<u64>>;

    /// Reads an entry; `None` if there is none. Errors: exit status 65 if it is damaged.
    fn entry(&self, number: u64) -> Result<Option<LogEntry>>;

    /// Reads entries; leaves out those that do not exist.
    fn read_entries(&self, numbers: &[u64]) -> Result<Vec<LogEntry>> {
        numbers.iter().filter_map(|number| self.entry(*number).transpose()).collect()
    }

    /// Creates an entry durably, unless the entry or a later one exists; returns whether it was created. Old entries
    /// are removed, so a free number alone does not prove that no newer run has begun.
    fn put(&self, number: u64, entry: &LogEntry) -> Result<bool>;

    /// Makes the entries that this process has read durable: another stage may have created an entry and not synced its
    /// name yet.
    fn sync_log(&self) -> Result<()> {
        Ok(())
    }

    /// Removes the files that runs before `run` have left and the epochs `kept` do not need. Errors: exit status 75 if
    /// a newer run has begun.
    fn clear(&self, run: u64, kept: &[Complete]) -> Result<()>;

    /// Whether the parts of an epoch are kept.
    fn has_epoch(&self, epoch: Epoch) -> Result<bool>;

    /// Creates a part of an epoch.
    fn create_part(&self, epoch: Epoch, name: &str) -> Result<PartWriter>;

    /// Writes a whole part of an epoch.
    fn write_part(&self, epoch: Epoch, name: &str, bytes: &[u8]) -> Result<EpochPart> {
        let mut part = self.create_part(epoch, name)?;
        part.write_all(bytes).map_err(|error| Error::io(part.place(), &error))?;
        part.finish()
    }

    /// Makes the parts that a stage has written of an epoch durable.
    fn sync_epoch(&self, epoch: Epoch, parts: &[EpochPart]) -> Result<()>;

    /// Compares a part with its length and checksum. Errors: exit status 65 if it differs or is missing.
    fn verify(&self, epoch: Epoch, part: &EpochPart) -> Result<()>;

    /// Opens a part that this process has written or verified.
    fn open_part(&self, epoch: Epoch, name: &str) -> Result<File>;

    /// Reads a part that this process has written or verified.
    fn read_part(&self, epoch: Epoch, name: &str) -> Result<Vec<u8>> {
        let mut bytes = vec![];
        let read = self.open_part(epoch, name)?.read_to_end(&mut bytes);
        read.map(|_| bytes).map_err(|error| Error::io(name, &error))
    }

    /// Frees the local copies of the parts of an epoch, without removing the epoch.
    fn release(&self, _epoch: Epoch) -> Result<()> {
        Ok(())
    }

    /// Creates a file of state of a run. Returns it and its path, which no other run uses.
    fn create_state(&self, run: u64, name: &str) -> Result<(DiskFile, PathBuf)>;

    /// Links a verified file of state of an epoch into the directory of a run. Returns the path of the link, which no
    /// other run uses.
    fn restore_state(&self, run: u64, epoch: Epoch, name: &str) -> Result<PathBuf>;

    /// Makes a file of state a part of an epoch of the same run. `known` is the same part of an earlier epoch; without
    /// it, the file is read to get its length and checksum.
    fn link_part(&self, epoch: Epoch, name: &str, known: Option<&EpochPart>) -> Result<EpochPart>;

    /// Writes a note of an epoch, whole or not at all.
    fn put_note(&self, epoch: Epoch, name: &str, bytes: &[u8]) -> Result<()>;

    /// Reads a note, or a part whose checksum need not be verified; `None` if there is none.
    fn note(&self, epoch: Epoch, name: &str) -> Result<Option<Vec<u8>>>;

    /// Reads a note that only this stage writes.
    fn own_note(&self, epoch: Epoch, name: &str) -> Result<Option<Vec<u8>>> {
        self.note(epoch, name)
    }

    /// Marks an epoch as committed to every output of a stage.
    fn set_committed(&self, epoch: Epoch, stage: &str) -> Result<()> {
        self.put_note(epoch, &format!("{stage}.committed"), b"")
    }

    /// Whether an epoch is marked as committed to every output of a stage.
    fn is_committed(&self, epoch: Epoch, stage: &str) -> Result<bool> {
        Ok(self.note(epoch, &format!("{stage}.committed"))?.is_some())
    }

    /// Claims a name of a run for the stage at the end of `path`, unless another stage has it.
    fn claim(&self, run: u64, name: &str, path: &str) -> Result<Claim>;

    /// Returns the path of the stage that has claimed a name of a run.
    fn claimed(&self, run: u64, name: &str) -> Result<Option<String>>;

    /// Returns the claimed names of a run with this suffix whose stage has ended for any reason, so that the lock of
    /// the claim is free. Returns no names if the store has no locks.
    fn released(&self, _run: u64, _suffix: &str) -> Result<Vec<String>> {
        Ok(vec![])
    }

    /// Removes the epochs that are no longer kept. Later epochs stay: if this process was suspended, a newer run has
    /// written them.
    fn remove(&self, removed: &Removed<'_>) -> Result<()>;
}

/// The outcome of a claim of a name.
#[derive(Debug)]
pub enum Claim {
    /// The name is that of the stage. The file is locked until it is closed; `None` where there are no locks.
    Made(Option<File>),
    /// The path of the stage that has the name.
    Taken(String),
}

/// The epochs, entries and files of state that a checkpoint no longer keeps.
#[derive(Clone, Copy, Debug)]
pub struct Removed<'a> {
    /// All epochs before this one ([`is_removed`]).
    pub before: Epoch,
    /// All entries before this one, but for the first, which holds the id.
    pub entries_before: u64,
    /// Files of state of removed epochs that no kept epoch has.
    pub state: &'a [String],
}

/// Whether `epoch` is removed together with all epochs before `before`. Entries of epoch number 0, which the last
/// stages of a run claim, stay until the epochs of the run are removed, because each epoch is complete when these
/// stages have sealed it.
pub fn is_removed(epoch: Epoch, before: Epoch) -> bool {
    epoch < before && (epoch.run < before.run || epoch.number > 0)
}

/// Makes the error of a run that is no longer the newest: another one has written the entry `number`.
pub fn fenced(store: &dyn CheckpointStore, number: u64) -> Error {
    let message = format!("another run has written entry {number} of the log; this run ends");
    Error::new(ErrorKind::Fenced, message).at(store.name())
}

/// Checks that no other run has written the entry `next` or a later one, with which this run is to begin. If this
/// process was suspended since it read the log, other runs may have removed the epoch that it continues. Errors: exit
/// status 75 if one has.
pub fn check_last(store: &dyn CheckpointStore, next: u64) -> Result<()> {
    match store.entries()?.pop().filter(|last| *last >= next) {
        None => Ok(()),
        Some(last) => Err(fenced(store, last)),
    }
}

/// Returns the cause of `error`: the outcome of a check of the log if another run has written it, because that run
/// removes files that this one reads; otherwise `error`.
pub fn or_fenced(checked: Result<()>, error: Error) -> Error {
    match checked {
        Err(fenced) if fenced.kind() == ErrorKind::Fenced => fenced,
        _ => error,
    }
}

/// Checks that the last entry of the log is of `run`. Old entries are removed, so the number of the entry that this run
/// expects next may be free again. A stage of this run may then have created the entry although a newer run has begun.
/// Errors: exit status 75 if a newer run has begun.
pub fn check_newest(store: &dyn CheckpointStore, run: u64) -> Result<()> {
    let Some(last) = store.entries()?.pop() else { return Ok(()) };
    let newest = match store.entry(last)? {
        Some(LogEntry::Start(_)) => last,
        Some(LogEntry::Complete(complete)) => complete.epoch.run,
        None => 0,
    };
    if newest == run { Ok(()) } else { Err(fenced(store, last)) }
}

/// Compares a file with the length and checksum of a part that is called `shown`. Errors: exit status 65 if it differs.
pub fn compare(part: &EpochPart, path: &Path, shown: &str) -> Result<()> {
    let read = File::open(path).and_then(|mut file| digest(&mut file));
    let (length, checksum) = read.map_err(|error| Error::io(path.display().to_string(), &error))?;
    let damaged = |what: String| Err(Error::corrupt(what).at(shown));
    match (length == part.bytes, checksum == part.checksum) {
        (true, true) => Ok(()),
        (false, _) => damaged(format!("expected {} bytes, found {length}", part.bytes)),
        (true, false) => damaged(format!("expected the checksum {}, found {checksum}", part.checksum)),
    }
}

/// Returns the length (bytes) and the checksum of a file.
pub fn digest(file: &mut File) -> std::io::Result<(u64, String)> {
    let (mut digest, mut length, mut buffer) = (Xxh3::new(), 0, vec![0; BLOCK]);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((length, format!("{:032x}", digest.digest128())));
        }
        digest.update(&buffer[..count]);
        length += count as u64;
    }
}

/// Returns the epoch of a name.
pub fn epoch_of(name: &str) -> Option<Epoch> {
    let (run, number) = name.split_once('-')?;
    Some(Epoch { run: run.parse().ok()?, number: number.parse().ok()? })
}
