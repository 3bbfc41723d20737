//! A checkpoint in a directory.
//!
//! ```text
//! DIR/log/1, DIR/log/2, …         entries, each created once by link(2)
//! DIR/epochs/R-N/NAME             the parts of epoch (R, N)
//! DIR/epochs/R-N/STAGE.json       what a stage has of the epoch, unless it is the last stage
//! DIR/epochs/R-N/STAGE.committed  the epoch is committed to every output of the stage
//! DIR/epochs/R-0/end              the last stage of run R
//! DIR/state/NAME                  files of state of the newest run; those of an epoch are links to them
//! ```

use super::log::{Entry, EpochPart};
use super::part::PartWriter;
use crate::error::{Error, Result};
use crate::store::Epoch;
use crate::store::disk::{Disk, DiskFile};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// Bytes that are read at once.
const BLOCK: usize = 256 << 10;

/// The directory of a checkpoint.
#[derive(Clone, Debug)]
pub struct CheckpointDir {
    root: PathBuf,
    disk: Disk,
}

impl CheckpointDir {
    /// Names a directory; creates nothing.
    pub fn new(root: PathBuf, disk: Disk) -> Self {
        Self { root, disk }
    }

    /// Returns its path for messages.
    pub fn name(&self) -> String {
        self.root.display().to_string()
    }

    /// Creates the directory and those in it. Errors: exit status 78 if it holds other files and no log.
    pub fn create(&self) -> Result<()> {
        if !self.log().exists() && self.root.exists() {
            let mut entries = fs::read_dir(&self.root).map_err(|error| self.failed(&self.root, &error))?;
            if let Some(Ok(entry)) = entries.next() {
                let message = format!("expected an empty directory or a checkpoint, found {}", entry.path().display());
                return Err(Error::config(message).at(self.name()));
            }
        }
        for directory in [self.log(), self.root.join("epochs")] {
            self.disk.create_directories(&directory).map_err(|error| self.failed(&directory, &error))?;
        }
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Returns the numbers of the entries, in order.
    pub fn entries(&self) -> Result<Vec<u64>> {
        let log = self.log();
        let mut numbers = vec![];
        for entry in fs::read_dir(&log).map_err(|error| self.failed(&log, &error))? {
            let entry = entry.map_err(|error| self.failed(&log, &error))?;
            numbers.extend(entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Whether there is an entry with this number.
    pub fn has_entry(&self, number: u64) -> bool {
        self.log().join(number.to_string()).exists()
    }

    /// Reads an entry. Errors: exit status 65 if it is damaged.
    pub fn entry(&self, number: u64) -> Result<Entry> {
        let path = self.log().join(number.to_string());
        let bytes = fs::read(&path).map_err(|error| self.failed(&path, &error))?;
        Entry::parse(&bytes).map_err(|error| error.at(path.display().to_string()))
    }

    /// Creates an entry durably, unless it exists. Returns false if it exists, or if a later one does: older entries are
    /// removed, so the number of an old run may be free again.
    pub fn put(&self, number: u64, entry: &Entry) -> Result<bool> {
        let path = self.log().join(number.to_string());
        // Two processes on different hosts may have the same id.
        let token = RandomState::new().build_hasher().finish();
        let part = self.log().join(format!("{number}.{token:016x}.part"));
        let bytes = entry.to_bytes()?;
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

    fn epoch(&self, epoch: Epoch) -> PathBuf {
        self.root.join("epochs").join(format!("{}-{}", epoch.run, epoch.number))
    }

    /// Whether the parts of an epoch are kept.
    pub fn has_epoch(&self, epoch: Epoch) -> bool {
        self.epoch(epoch).is_dir()
    }

    /// Creates a part of an epoch.
    pub fn create_part(&self, epoch: Epoch, name: &str) -> Result<PartWriter> {
        let directory = self.epoch(epoch);
        self.disk.create_directories(&directory).map_err(|error| self.failed(&directory, &error))?;
        let path = directory.join(name);
        let file = self.disk.open(&path, OpenOptions::new().write(true).create(true).truncate(true));
        Ok(PartWriter::new(file.map_err(|error| self.failed(&path, &error))?, path, name))
    }

    /// Writes a whole part of an epoch durably.
    pub fn write_part(&self, epoch: Epoch, name: &str, bytes: &[u8]) -> Result<EpochPart> {
        let mut part = self.create_part(epoch, name)?;
        part.write_all(bytes).map_err(|error| self.failed(&self.epoch(epoch).join(name), &error))?;
        part.finish()
    }

    /// Makes the names of the parts of an epoch durable.
    pub fn sync_epoch(&self, epoch: Epoch) -> Result<()> {
        let directory = self.epoch(epoch);
        self.disk.sync_directory(&directory).map_err(|error| self.failed(&directory, &error))
    }

    /// Opens a part whose bytes were [verified](CheckpointDir::verify).
    pub fn open_part(&self, epoch: Epoch, name: &str) -> Result<File> {
        let path = self.epoch(epoch).join(name);
        File::open(&path).map_err(|error| self.failed(&path, &error))
    }

    /// Reads a whole part that was verified.
    pub fn read_part(&self, epoch: Epoch, name: &str) -> Result<Vec<u8>> {
        let path = self.epoch(epoch).join(name);
        fs::read(&path).map_err(|error| self.failed(&path, &error))
    }

    /// Compares a part with its length and checksum. Errors: exit status 65 if it differs or is missing.
    pub fn verify(&self, epoch: Epoch, part: &EpochPart) -> Result<()> {
        let path = self.epoch(epoch).join(&part.name);
        let damaged = |what: String| Error::corrupt(what).at(path.display().to_string());
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(damaged(format!("expected {} bytes, found no file", part.bytes)));
            }
            opened => opened.map_err(|error| self.failed(&path, &error))?,
        };
        let (length, checksum) = digest(&mut file).map_err(|error| self.failed(&path, &error))?;
        match (length == part.bytes, checksum == part.checksum) {
            (true, true) => Ok(()),
            (false, _) => Err(damaged(format!("expected {} bytes, found {length}", part.bytes))),
            (true, false) => Err(damaged(format!("expected the checksum {}, found {checksum}", part.checksum))),
        }
    }

    fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Removes the files of state of older runs; those of epochs stay there.
    pub fn clear_state(&self) -> Result<()> {
        let state = self.state();
        match self.disk.free(|| fs::remove_dir_all(&state)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|error| self.failed(&state, &error)),
        }
    }

    /// Creates a file of state. Returns it and its path.
    pub fn create_state(&self, name: &str) -> Result<(DiskFile, PathBuf)> {
        let (state, path) = (self.state(), self.state().join(name));
        let created = self.disk.create_directories(&state);
        let options = OpenOptions::new().read(true).write(true).create_new(true).clone();
        let file =
            created.and_then(|()| self.disk.open(&path, &options)).map_err(|error| self.failed(&path, &error))?;
        Ok((file, path))
    }

    /// Makes a file of state of an epoch one of this run. Returns its path.
    pub fn restore_state(&self, epoch: Epoch, name: &str) -> Result<PathBuf> {
        let (state, path, part) = (self.state(), self.state().join(name), self.epoch(epoch).join(name));
        let linked = self.disk.create_directories(&state);
        let linked = linked.and_then(|()| self.disk.change(|| fs::hard_link(&part, &path)));
        linked.map(|()| path).map_err(|error| self.failed(&part, &error))
    }

    /// Makes a file of state a part of an epoch. A file that is not a part of an epoch before (`known`) becomes durable.
    pub fn link_part(&self, epoch: Epoch, name: &str, known: Option<&EpochPart>) -> Result<EpochPart> {
        let (directory, path) = (self.epoch(epoch), self.state().join(name));
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
            self.disk.create_directories(&directory)?;
            self.disk.change(|| fs::hard_link(&path, directory.join(name))).map(|()| part)
        };
        link().map_err(|error| self.failed(&path, &error))
    }

    /// Writes a file beside the parts of a complete epoch, whole or not at all.
    pub fn put_note(&self, epoch: Epoch, name: &str, bytes: &[u8]) -> Result<()> {
        let (path, part) = (self.epoch(epoch).join(name), self.epoch(epoch).join(format!("{name}.part")));
        let put = || {
            let mut file = self.disk.open(&part, OpenOptions::new().write(true).create(true).truncate(true))?;
            file.write_all(bytes)?;
            file.sync()?;
            self.disk.change(|| fs::rename(&part, &path))?;
            self.disk.sync_name(&path)
        };
        put().map_err(|error| self.failed(&path, &error))
    }

    /// Reads a file that [`CheckpointDir::put_note`] wrote; `None` if there is none.
    pub fn note(&self, epoch: Epoch, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.epoch(epoch).join(name);
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(|error| self.failed(&path, &error)),
        }
    }

    /// Marks an epoch as committed to every output of a stage.
    pub fn set_committed(&self, epoch: Epoch, stage: &str) -> Result<()> {
        self.put_note(epoch, &format!("{stage}.committed"), b"")
    }

    /// Whether an epoch is marked as committed to every output of a stage.
    pub fn is_committed(&self, epoch: Epoch, stage: &str) -> bool {
        self.epoch(epoch).join(format!("{stage}.committed")).exists()
    }

    /// Makes `stage` the last one of a run. Errors: exit status 78 if the run has another last stage.
    pub fn claim_end(&self, run: u64, stage: &str) -> Result<()> {
        let directory = self.epoch(Epoch { run, number: 0 });
        self.disk.create_directories(&directory).map_err(|error| self.failed(&directory, &error))?;
        let path = directory.join("end");
        match self.disk.open(&path, OpenOptions::new().write(true).create_new(true)) {
            Ok(mut file) => file.write_all(stage.as_bytes()).map_err(|error| self.failed(&path, &error)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let other = fs::read_to_string(&path).unwrap_or_default();
                let message =
                    format!("expected one last stage, found {stage} and {other}; a pipe with a checkpoint has one end");
                Err(Error::config(message).at(self.name()))
            }
            Err(error) => Err(self.failed(&path, &error)),
        }
    }

    /// Removes the parts of all epochs before `kept`, and entries before number `first`, but for the first one, which holds the id.
    /// Later epochs stay: they are those of a newer run, if this one is an old one that has just woken up.
    pub fn remove_before(&self, kept: Epoch, first: u64) -> Result<()> {
        let epochs = self.root.join("epochs");
        for entry in fs::read_dir(&epochs).map_err(|error| self.failed(&epochs, &error))? {
            let entry = entry.map_err(|error| self.failed(&epochs, &error))?;
            if entry.file_name().to_str().and_then(epoch_of).is_some_and(|epoch| epoch < kept) {
                let path = entry.path();
                match self.disk.free(|| fs::remove_dir_all(&path)) {
                    // Its run is an old one that still writes, or removes it too.
                    Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {}
                    removed => removed.map_err(|error| self.failed(&path, &error))?,
                }
            }
        }
        for number in self.entries()?.into_iter().filter(|number| (2..first).contains(number)) {
            let path = self.log().join(number.to_string());
            self.disk.free(|| fs::remove_file(&path)).map_err(|error| self.failed(&path, &error))?;
        }
        Ok(())
    }

    fn failed(&self, path: &Path, error: &std::io::Error) -> Error {
        Error::io(path.display().to_string(), error)
    }
}

/// Returns the length and the checksum of what a file holds.
fn digest(file: &mut File) -> std::io::Result<(u64, String)> {
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

/// Returns the epoch of a directory.
fn epoch_of(name: &str) -> Option<Epoch> {
    let (run, number) = name.split_once('-')?;
    Some(Epoch { run: run.parse().ok()?, number: number.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::log::Start;

    fn start() -> Entry {
        Entry::Start(Start {
            checkpoint: "x".to_owned(),
            restored: None,
            at: String::new(),
            host: String::new(),
            pid: 1,
            version: String::new(),
        })
    }

    #[test]
    fn an_entry_is_created_once_and_never_behind_a_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let log = CheckpointDir::new(dir.path().join("ckpt"), Disk::default());
        log.create().unwrap();
        for number in [1, 2, 3, 4] {
            assert!(log.put(number, &start()).unwrap());
            assert!(!log.put(number, &start()).unwrap());
        }
        let epochs = [(1, 1), (1, 2), (3, 1), (10, 1)].map(|(run, number)| Epoch { run, number });
        epochs.iter().for_each(|epoch| drop(log.write_part(*epoch, "state", b"").unwrap()));
        log.remove_before(epochs[1], 4).unwrap();
        let left = epochs.map(|epoch| log.open_part(epoch, "state").is_ok());
        assert_eq!(left, [false, true, true, true], "epochs of a newer run stay");
        assert_eq!(log.entries().unwrap(), [1, 4]);
        assert!(!log.put(3, &start()).unwrap(), "the number of a removed entry");
        assert!(log.put(5, &start()).unwrap());
    }

    #[test]
    fn a_changed_or_missing_part_is_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        let log = CheckpointDir::new(dir.path().join("ckpt"), Disk::default());
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
    fn a_directory_with_other_files_is_no_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        let error = CheckpointDir::new(dir.path().to_owned(), Disk::default()).create().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Config);
    }
}
