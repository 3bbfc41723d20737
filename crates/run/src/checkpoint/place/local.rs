//! Parts of epochs and files of state on this machine: those of the checkpoint itself, or of this process until its
//! bucket has them.

use crate::checkpoint::epoch::Epoch;
use crate::checkpoint::log::EpochPart;
use crate::checkpoint::part::PartWriter;
use crate::storage::directory::DirectoryObjects;
use crate::storage::disk::{Disk, DiskFile, failed};
use evt_core::error::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// Extension of the directory of an epoch that is being removed.
pub const REMOVED: &str = "removed";
/// Bytes that are read at once.
const BLOCK: usize = 256 << 10;

/// The files below a directory.
#[derive(Debug)]
pub struct LocalFiles {
    /// The files as objects.
    pub objects: DirectoryObjects,
}

impl LocalFiles {
    /// Names a directory; creates nothing. New files are for their owner only.
    pub fn new(root: PathBuf, disk: &Disk) -> Self {
        Self { objects: DirectoryObjects::new(root, disk.private()) }
    }

    fn disk(&self) -> &Disk {
        &self.objects.disk
    }

    /// Returns the directory of an epoch.
    pub fn epoch(&self, epoch: Epoch) -> PathBuf {
        self.objects.path(&format!("epochs/{epoch}"))
    }

    /// Returns the path of a part.
    pub fn part(&self, epoch: Epoch, name: &str) -> PathBuf {
        self.objects.path(&epoch_key(epoch, name))
    }

    /// Returns the path of a file of state of a run. Each run has its own directory, because an older run may remove
    /// its files at any time.
    fn state(&self, run: u64, name: &str) -> PathBuf {
        self.objects.path(&format!("state/{run}/{name}"))
    }

    /// Creates the directory of an epoch of this run.
    pub fn make_epoch(&self, epoch: Epoch) -> Result<()> {
        let directory = self.epoch(epoch);
        self.make(&directory).map_err(failed(&directory))
    }

    /// Creates a directory of this run. Another stage that has created it syncs its name before it seals an epoch.
    fn make(&self, directory: &Path) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        match self.disk().create_directory(directory) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            // The local parts of a checkpoint in a bucket.
            Err(error) if error.kind() == ErrorKind::NotFound => self.disk().create_directories(directory),
            made => made.and_then(|()| self.disk().sync_name(directory)),
        }
    }

    /// Creates a part of an epoch.
    pub fn create_part(&self, epoch: Epoch, name: &str) -> Result<PartWriter> {
        self.make_epoch(epoch)?;
        let path = self.part(epoch, name);
        let file = self.disk().open(&path, OpenOptions::new().write(true).create(true).truncate(true));
        Ok(PartWriter::new(file.map_err(failed(&path))?, path, name))
    }

    /// Writes a whole part of an epoch.
    pub fn write_part(&self, epoch: Epoch, name: &str, bytes: &[u8]) -> Result<EpochPart> {
        let mut part = self.create_part(epoch, name)?;
        part.write_all(bytes).map_err(failed(&self.part(epoch, name)))?;
        part.finish()
    }

    /// Opens a part that this process has written or verified.
    pub fn open_part(&self, epoch: Epoch, name: &str) -> Result<File> {
        let path = self.part(epoch, name);
        File::open(&path).map_err(failed(&path))
    }

    /// Reads a part that this process has written or verified.
    pub fn read_part(&self, epoch: Epoch, name: &str) -> Result<Vec<u8>> {
        let path = self.part(epoch, name);
        fs::read(&path).map_err(failed(&path))
    }

    /// Creates a file of state of a run. Returns it and its path, which no other run uses.
    pub fn create_state(&self, run: u64, name: &str) -> Result<(DiskFile, PathBuf)> {
        let path = self.state(run, name);
        let options = OpenOptions::new().read(true).write(true).create_new(true).clone();
        let created = self.make(&self.state(run, ""));
        let file = created.and_then(|()| self.disk().open(&path, &options)).map_err(failed(&path))?;
        Ok((file, path))
    }

    /// Links a verified file of state of an epoch into the directory of a run. Returns the path of the link, which no
    /// other run uses.
    pub fn restore_state(&self, run: u64, epoch: Epoch, name: &str) -> Result<PathBuf> {
        let (path, part) = (self.state(run, name), self.part(epoch, name));
        let linked = self.make(&self.state(run, ""));
        let linked = linked.and_then(|()| self.disk().change(|| fs::hard_link(&part, &path)));
        linked.map(|()| path).map_err(failed(&part))
    }

    /// Makes a file of state a part of an epoch of the same run. `known` is the same part of an earlier epoch; without
    /// it, the file is read to get its length and checksum.
    pub fn link_part(&self, epoch: Epoch, name: &str, known: Option<&EpochPart>) -> Result<EpochPart> {
        let path = self.state(epoch.run, name);
        let link = || {
            let part = match known {
                Some(part) => part.clone(),
                None => {
                    let mut file = self.disk().file(File::open(&path)?);
                    file.sync()?;
                    let (bytes, checksum) = digest(&mut file.file)?;
                    EpochPart { name: name.to_owned(), bytes, checksum }
                }
            };
            self.make(&self.epoch(epoch))?;
            self.disk().change(|| fs::hard_link(&path, self.part(epoch, name))).map(|()| part)
        };
        link().map_err(failed(&path))
    }

    /// Removes the directory of an epoch. Renames the directory first, so that a process that is killed during the
    /// removal does not leave an epoch with missing files, which would look damaged.
    pub fn remove_epoch(&self, epoch: Epoch) -> Result<()> {
        let path = self.epoch(epoch);
        let removed = path.with_added_extension(REMOVED);
        self.remove_directory(&removed)?;
        match self.disk().free(|| fs::rename(&path, &removed)) {
            // An old run removes the same epoch at the same time.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(()),
            renamed => renamed.map_err(failed(&path)).and_then(|()| self.remove_directory(&removed)),
        }
    }

    /// Removes a directory with its files.
    pub fn remove_directory(&self, path: &Path) -> Result<()> {
        match self.disk().free(|| fs::remove_dir_all(path)) {
            // An old run still writes into the directory, or removes it at the same time.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(()),
            removed => removed.map_err(failed(path)),
        }
    }
}

/// Returns the key of a part, a note or a claim.
pub fn epoch_key(epoch: Epoch, name: &str) -> String {
    format!("epochs/{epoch}/{name}")
}

/// Returns the epoch of a name.
pub fn epoch_of(name: &str) -> Option<Epoch> {
    let (run, number) = name.split_once('-')?;
    Some(Epoch { run: run.parse().ok()?, number: number.parse().ok()? })
}

/// Whether `epoch` is removed together with all epochs before `before`. Entries of epoch number 0, which the last
/// stages of a run claim, stay until the epochs of the run are removed, because each epoch is complete when these
/// stages have sealed it.
pub fn is_removed(epoch: Epoch, before: Epoch) -> bool {
    epoch < before && (epoch.run < before.run || epoch.number > 0)
}

/// Compares a file with the length and checksum of a part that is called `shown`. Errors: exit status 65 if it differs.
pub fn compare(part: &EpochPart, path: &Path, shown: &str) -> Result<()> {
    let (length, checksum) = File::open(path).and_then(|mut file| digest(&mut file)).map_err(failed(path))?;
    let damaged = |what: String| Err(Error::corrupt(what).at(shown));
    match (length == part.bytes, checksum == part.checksum) {
        (true, true) => Ok(()),
        (false, _) => damaged(format!("expected {} bytes, found {length}", part.bytes)),
        (true, false) => damaged(format!("expected the checksum {}, found {checksum}", part.checksum)),
    }
}

/// Returns the length (bytes) and the checksum of a file.
fn digest(file: &mut File) -> io::Result<(u64, String)> {
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
