//! A checkpoint in a directory.
//!
//! ```text
//! DIR/log/1, DIR/log/2, …         entries, each created once by link(2)
//! DIR/epochs/R-N/NAME             the parts of epoch R-N
//! DIR/epochs/R-N/STAGE.json       what a stage has of the epoch, unless it is the last stage
//! DIR/epochs/R-N/STAGE.committed  the epoch is committed to every output of the stage
//! DIR/epochs/R-0/end, end-2, …    the last stages of run R, with the stages before them
//! DIR/epochs/R-0/STAGE.joined     a stage of run R, if it has several last stages, locked (flock) while it runs
//! DIR/epochs/R-0/STAGE.followed   followed names that run R has begun
//! DIR/epochs/R-N.removed          epoch R-N is being removed
//! DIR/state/R/NAME                files of state of run R; those of an epoch are links to them
//! ```

use super::log::{Complete, EpochPart, LogEntry};
use super::part::PartWriter;
use super::store::{CheckpointStore, Claim, Removed, compare, digest, epoch_of, is_removed};
use crate::error::{Error, Result};
use crate::storage::access;
use crate::storage::disk::{Disk, DiskFile};
use crate::store::Epoch;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Interval at which the log is watched.
const WATCH_INTERVAL: Duration = Duration::from_millis(10);

/// Extension of the directory of an epoch that is being removed.
const REMOVED: &str = "removed";

/// The directory of a checkpoint.
#[derive(Clone, Debug)]
pub struct CheckpointDir {
    root: PathBuf,
    disk: Disk,
}

impl CheckpointDir {
    /// Names a directory; creates nothing.
    pub fn new(root: PathBuf, disk: &Disk) -> Self {
        Self { root, disk: disk.private() }
    }

    fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Returns the directories that a run begins with.
    fn directories(&self) -> [PathBuf; 2] {
        [self.log(), self.root.join("epochs")]
    }

    /// Whether the directory has a log. Errors: exit status 78 if it holds other things.
    fn has_log(&self) -> Result<bool> {
        let has_log = self.log().exists();
        if !has_log && self.root.exists() {
            let mut entries = fs::read_dir(&self.root).map_err(|error| self.failed(&self.root, &error))?;
            if let Some(Ok(entry)) = entries.next() {
                let message = format!("expected an empty directory or a checkpoint, found {}", entry.path().display());
                return Err(Error::config(message).at(self.name()));
            }
        }
        Ok(has_log)
    }

    fn epoch(&self, epoch: Epoch) -> PathBuf {
        self.root.join("epochs").join(epoch.to_string())
    }

    /// Returns the path of a part.
    pub fn part_path(&self, epoch: Epoch, name: &str) -> PathBuf {
        self.epoch(epoch).join(name)
    }

    /// Creates the directory of an epoch of this run.
    pub fn make_epoch(&self, epoch: Epoch) -> Result<()> {
        let directory = self.epoch(epoch);
        self.make(&directory).map_err(|error| self.failed(&directory, &error))
    }

    /// Creates a directory of this run. Another stage that has created it syncs its name before it seals an epoch.
    fn make(&self, directory: &Path) -> std::io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        match self.disk.create_directory(directory) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            // The local parts of a checkpoint in a bucket.
            Err(error) if error.kind() == ErrorKind::NotFound => self.disk.create_directories(directory),
            made => made.and_then(|()| self.disk.sync_name(directory)),
        }
    }

    /// Removes the directory of an epoch. Renames the directory first, so that a process that is killed during the
    /// removal does not leave an epoch with missing files, which would look damaged.
    pub fn remove_epoch(&self, epoch: Epoch) -> Result<()> {
        let path = self.epoch(epoch);
        let removed = path.with_added_extension(REMOVED);
        self.remove_directory(&removed)?;
        match self.disk.free(|| fs::rename(&path, &removed)) {
            // An old run removes the same epoch at the same time.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(()),
            renamed => {
                renamed.map_err(|error| self.failed(&path, &error))?;
                self.remove_directory(&removed)
            }
        }
    }

    fn remove_directory(&self, path: &Path) -> Result<()> {
        match self.disk.free(|| fs::remove_dir_all(path)) {
            // An old run still writes into the directory, or removes it at the same time.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(()),
            removed => removed.map_err(|error| self.failed(path, &error)),
        }
    }

    /// Returns the directory for the files of state of a run. Each run has its own directory, because an older run may
    /// remove its files at any time.
    fn state(&self, run: u64) -> PathBuf {
        self.root.join("state").join(run.to_string())
    }

    fn failed(&self, path: &Path, error: &std::io::Error) -> Error {
        Error::io(path.display().to_string(), error)
    }
}

impl CheckpointStore for CheckpointDir {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn shared_name(&self) -> PathBuf {
        std::path::absolute(&self.root).unwrap_or_else(|_| self.root.clone())
    }

    fn watch_interval(&self) -> Duration {
        WATCH_INTERVAL
    }

    fn check(&self) -> Result<bool> {
        let has_log = self.has_log()?;
        for directory in self.directories() {
            let checked = access::check_directory(&directory).and_then(|()| access::create_trial(&directory));
            checked.map_err(|error| self.failed(&directory, &error))?;
        }
        Ok(has_log)
    }

    fn create(&self) -> Result<()> {
        self.has_log()?;
        for directory in self.directories() {
            self.disk.create_directories(&directory).map_err(|error| self.failed(&directory, &error))?;
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<u64>> {
        let log = self.log();
        let mut numbers = vec![];
        for entry in fs::read_dir(&log).map_err(|error| self.failed(&log, &error))? {
            let entry = entry.map_err(|error| self.failed(&log, &error))?;
            numbers.extend(entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn entry(&self, number: u64) -> Result<Option<LogEntry>> {
        let path = self.log().join(number.to_string());
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| self.failed(&path, &error))?,
        };
        LogEntry::parse(&bytes).map(Some).map_err(|error| error.at(path.display().to_string()))
    }

    fn put(&self, number: u64, entry: &LogEntry) -> Result<bool> {
        let path = self.log().join(number.to_string());
        let part = temporary(&path);
        let bytes = entry.to_bytes(None)?;
        let put = || {
            let mut file = self.disk.open(&part, OpenOptions::new().write(true).create_new(true))?;
            file.write_all(&bytes)?;
            file.sync()?;
            let is_new = match self.disk.change(|| fs::hard_link(&part, &path)) {
                Ok(()) => true,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
                Err(error) => return Err(error),
            };
            self.disk.free(|| fs::remove_file(&part))?;
            self.disk.sync_directory(&self.log())?;
            Ok(is_new)
        };
        let is_new = put().map_err(|error| self.failed(&path, &error))?;
        Ok(is_new && self.entries()?.last() == Some(&number))
    }

    fn sync_log(&self) -> Result<()> {
        let log = self.log();
        self.disk.sync_directory(&log).map_err(|error| self.failed(&log, &error))
    }

    fn clear(&self, run: u64, _kept: &[Complete]) -> Result<()> {
        // Epochs have links to the files that they need.
        let state = self.root.join("state");
        let entries = match fs::read_dir(&state) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|error| self.failed(&state, &error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| self.failed(&state, &error))?;
            let other = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            if other.is_some_and(|other| other >= run) {
                continue;
            }
            let path = entry.path();
            if entry.file_type().is_ok_and(|found| found.is_dir()) {
                self.remove_directory(&path)?;
                continue;
            }
            // Earlier versions had the files of all runs in one directory.
            match self.disk.free(|| fs::remove_file(&path)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed.map_err(|error| self.failed(&path, &error))?,
            }
        }
        Ok(())
    }

    fn has_epoch(&self, epoch: Epoch) -> Result<bool> {
        Ok(self.epoch(epoch).is_dir())
    }

    fn create_part(&self, epoch: Epoch, name: &str) -> Result<PartWriter> {
        self.make_epoch(epoch)?;
        let path = self.part_path(epoch, name);
        let file = self.disk.open(&path, OpenOptions::new().write(true).create(true).truncate(true));
        Ok(PartWriter::new(file.map_err(|error| self.failed(&path, &error))?, path, name))
    }

    fn sync_epoch(&self, epoch: Epoch, _parts: &[EpochPart]) -> Result<()> {
        let directory = self.epoch(epoch);
        self.disk.sync_directory(&directory).map_err(|error| self.failed(&directory, &error))
    }

    fn verify(&self, epoch: Epoch, part: &EpochPart) -> Result<()> {
        let path = self.part_path(epoch, &part.name);
        let shown = path.display().to_string();
        if !path.exists() {
            return Err(Error::corrupt(format!("expected {} bytes, found no file", part.bytes)).at(shown));
        }
        compare(part, &path, &shown)
    }

    fn open_part(&self, epoch: Epoch, name: &str) -> Result<File> {
        let path = self.epoch(epoch).join(name);
        File::open(&path).map_err(|error| self.failed(&path, &error))
    }

    fn create_state(&self, run: u64, name: &str) -> Result<(DiskFile, PathBuf)> {
        let (state, path) = (self.state(run), self.state(run).join(name));
        let created = self.make(&state);
        let options = OpenOptions::new().read(true).write(true).create_new(true).clone();
        let file =
            created.and_then(|()| self.disk.open(&path, &options)).map_err(|error| self.failed(&path, &error))?;
        Ok((file, path))
    }

    fn restore_state(&self, run: u64, epoch: Epoch, name: &str) -> Result<PathBuf> {
        let (state, path, part) = (self.state(run), self.state(run).join(name), self.epoch(epoch).join(name));
        let linked = self.make(&state);
        let linked = linked.and_then(|()| self.disk.change(|| fs::hard_link(&part, &path)));
        linked.map(|()| path).map_err(|error| self.failed(&part, &error))
    }

    fn link_part(&self, epoch: Epoch, name: &str, known: Option<&EpochPart>) -> Result<EpochPart> {
        let (directory, path) = (self.epoch(epoch), self.state(epoch.run).join(name));
        let link = || {
            let part = match known {
                Some(part) => part.clone(),
                None => {
                    let mut file = self.disk.file(File::open(&path)?);
                    file.sync()?;
                    let (bytes, checksum) = digest(&mut file.file)?;
                    EpochPart { name: name.to_owned(), bytes, checksum }
                }
            };
            self.make(&directory)?;
            self.disk.change(|| fs::hard_link(&path, directory.join(name))).map(|()| part)
        };
        link().map_err(|error| self.failed(&path, &error))
    }

    fn put_note(&self, epoch: Epoch, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.epoch(epoch).join(name);
        if epoch.number == 0 {
            // The notes of a run are in epoch 0, which has no parts, so no part has created its directory.
            self.make_epoch(epoch)?;
        }
        // An old run that has not seen the new one yet may write the same note.
        let part = temporary(&path);
        let put = || {
            let mut file = self.disk.open(&part, OpenOptions::new().write(true).create_new(true))?;
            file.write_all(bytes)?;
            file.sync()?;
            self.disk.change(|| fs::rename(&part, &path))?;
            self.disk.sync_name(&path)
        };
        put().map_err(|error| self.failed(&path, &error))
    }

    fn note(&self, epoch: Epoch, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.epoch(epoch).join(name);
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(|error| self.failed(&path, &error)),
        }
    }

    fn claim(&self, run: u64, name: &str, path: &str) -> Result<Claim> {
        let epoch = Epoch { run, number: 0 };
        self.make_epoch(epoch)?;
        let claim = self.part_path(epoch, name);
        // Links a complete and locked file to the name, so that no other stage sees a claim that is incomplete or not
        // locked yet.
        let part = temporary(&claim);
        let mut locked = None;
        let mut put = || {
            let mut file = self.disk.open(&part, OpenOptions::new().write(true).create_new(true))?;
            file.write_all(path.as_bytes())?;
            locked = lock(file.file)?;
            let is_new = match self.disk.change(|| fs::hard_link(&part, &claim)) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
                linked => linked.map(|()| true),
            };
            self.disk.free(|| fs::remove_file(&part))?;
            is_new
        };
        match put().map_err(|error| self.failed(&claim, &error))? {
            true => Ok(Claim::Made(locked)),
            false => Ok(Claim::Taken(self.claimed(run, name)?.unwrap_or_default())),
        }
    }

    fn claimed(&self, run: u64, name: &str) -> Result<Option<String>> {
        let found = self.note(Epoch { run, number: 0 }, name)?;
        Ok(found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn released(&self, run: u64, suffix: &str) -> Result<Vec<String>> {
        let directory = self.epoch(Epoch { run, number: 0 });
        let failed = |error: std::io::Error| self.failed(&directory, &error);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
            opened => opened.map_err(failed)?,
        };
        let mut released = vec![];
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(suffix) {
                let file = File::open(entry.path()).map_err(failed)?;
                released.extend(flock(file, FlockOperation::NonBlockingLockShared).is_ok().then_some(name));
            }
        }
        released.sort();
        Ok(released)
    }

    fn remove(&self, removed: &Removed<'_>) -> Result<()> {
        let epochs = self.root.join("epochs");
        for entry in fs::read_dir(&epochs).map_err(|error| self.failed(&epochs, &error))? {
            let entry = entry.map_err(|error| self.failed(&epochs, &error))?;
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == REMOVED) {
                self.remove_directory(&path)?;
                continue;
            }
            let epoch = entry.file_name().to_str().and_then(epoch_of);
            if let Some(epoch) = epoch.filter(|epoch| is_removed(*epoch, removed.before)) {
                self.remove_epoch(epoch)?;
            }
        }
        for number in self.entries()?.into_iter().filter(|number| (2..removed.entries_before).contains(number)) {
            let path = self.log().join(number.to_string());
            match self.disk.free(|| fs::remove_file(&path)) {
                // An old run removes the same entry at the same time.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed.map_err(|error| self.failed(&path, &error))?,
            }
        }
        Ok(())
    }
}

/// Locks a file that no other process knows; `None` if its file system has no locks.
fn lock(file: File) -> std::io::Result<Option<File>> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::NOTSUP | Errno::INVAL | Errno::NOLCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the path of a temporary file beside `path` that no other process uses. Its name is random, because processes
/// on different hosts may have the same process id.
fn temporary(path: &Path) -> PathBuf {
    let token = RandomState::new().build_hasher().finish();
    path.with_added_extension(format!("{token:016x}.part"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_a_killed_process_was_removing_is_no_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let log = CheckpointDir::new(dir.path().join("ckpt"), &Disk::default());
        log.create().unwrap();
        let [old, torn, kept] = [1, 2, 3].map(|number| Epoch { run: 1, number });
        for epoch in [old, torn, kept] {
            log.write_part(epoch, "state", b"0123456789").unwrap();
        }
        fs::rename(log.epoch(torn), log.epoch(torn).with_added_extension(REMOVED)).unwrap();
        assert!(!log.has_epoch(torn).unwrap());
        // An old run that still writes makes the directory anew.
        log.write_part(torn, "state", b"0123456789").unwrap();
        log.remove_epoch(torn).unwrap();
        assert!(!log.has_epoch(torn).unwrap());
        fs::create_dir(log.epoch(torn).with_added_extension(REMOVED)).unwrap();
        log.remove(&Removed { before: kept, entries_before: 0, state: &[] }).unwrap();
        let left = fs::read_dir(dir.path().join("ckpt/epochs")).unwrap();
        assert_eq!(left.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), ["1-3"]);
    }

    #[test]
    fn a_changed_or_missing_part_is_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        let log = CheckpointDir::new(dir.path().join("ckpt"), &Disk::default());
        log.create().unwrap();
        let epoch = Epoch { run: 1, number: 1 };
        let part = log.write_part(epoch, "state", b"0123456789").unwrap();
        log.verify(epoch, &part).unwrap();
        let path = dir.path().join("ckpt/epochs/1-1/state");
        for bytes in [&b"0123456788"[..], b"012345678", b"01234567890"] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(log.verify(epoch, &part).unwrap_err().kind(), crate::ErrorKind::Corrupt);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(log.verify(epoch, &part).unwrap_err().kind(), crate::ErrorKind::Corrupt);
    }

    #[test]
    fn two_runs_may_write_one_note_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let log = CheckpointDir::new(dir.path().join("ckpt"), &Disk::default());
        let epochs: Vec<Epoch> = (1..=300).map(|number| Epoch { run: 1, number }).collect();
        epochs.iter().for_each(|epoch| log.make_epoch(*epoch).unwrap());
        let write = || epochs.iter().try_for_each(|epoch| log.set_committed(*epoch, "1-a"));
        let both = std::thread::scope(|scope| [scope.spawn(write), scope.spawn(write)].map(|run| run.join().unwrap()));
        both.into_iter().for_each(Result::unwrap);
        assert!(epochs.iter().all(|epoch| log.is_committed(*epoch, "1-a").unwrap()));
    }

    #[test]
    fn a_directory_with_other_files_is_no_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        let error = CheckpointDir::new(dir.path().to_owned(), &Disk::default()).create().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Config);
    }
}
