//! Files for state beyond `--memory`, on the disk of the run.
//!
//! With a checkpoint they are in its directory, and the epochs that need them have links to them: a file that several epochs need is
//! written once, and is gone with the last of them. Without a checkpoint they have no names: they are in the directory for temporary files (`TMPDIR`), and are gone with the process, however
//! it ends.

use super::directory::CheckpointDir;
use crate::error::{Error, Result};
use crate::op::state::storage::{NewStateFile, StateFile, StateStorage};
use crate::store::Epoch;
use crate::store::disk::{Disk, DiskFile};
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::rc::Rc;

/// Files without names, in the directory for temporary files.
#[derive(Debug)]
pub struct TemporaryFiles {
    disk: Disk,
    directory: PathBuf,
    made: u64,
}

impl TemporaryFiles {
    /// Makes files in `TMPDIR`; creates nothing.
    pub fn new(disk: Disk) -> Self {
        Self { disk, directory: std::env::temp_dir(), made: 0 }
    }
}

impl StateStorage for TemporaryFiles {
    fn create(&mut self) -> Result<Box<dyn NewStateFile>> {
        self.made += 1;
        let name = format!("{}: state beyond --memory (TMPDIR)", self.directory.display());
        let file = self.disk.change(|| tempfile::tempfile_in(&self.directory));
        let file = self.disk.file(file.map_err(|error| Error::io(name.clone(), &error))?);
        Ok(Box::new(NewFile { file, name, key: self.made.to_string(), length: 0, path: None }))
    }

    fn open(&mut self, name: &str) -> Result<Rc<dyn StateFile>> {
        Err(Error::broken(format!("file {name} of a state without a checkpoint")))
    }
}

/// Files of a checkpoint.
#[derive(Debug)]
pub struct CheckpointFiles {
    directory: CheckpointDir,
    run: u64,
    /// The epoch that the run continues.
    restored: Option<Epoch>,
    made: u64,
}

impl CheckpointFiles {
    /// Makes files in `directory` for a run that continues the epoch `restored`.
    pub fn new(directory: CheckpointDir, run: u64, restored: Option<Epoch>) -> Self {
        Self { directory, run, restored, made: 0 }
    }
}

impl StateStorage for CheckpointFiles {
    fn create(&mut self) -> Result<Box<dyn NewStateFile>> {
        self.made += 1;
        let key = format!("state-{}-{}", self.run, self.made);
        let (file, path) = self.directory.create_state(&key)?;
        Ok(Box::new(NewFile { file, name: path.display().to_string(), key, length: 0, path: Some(path) }))
    }

    fn open(&mut self, name: &str) -> Result<Rc<dyn StateFile>> {
        let Some(epoch) = self.restored else { return Err(Error::broken("a state without an epoch")) };
        let is_plain = name
            .strip_prefix("state-")
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'));
        if !is_plain {
            return Err(Error::corrupt(format!("snapshot: expected the name of a file of state, found {name}")));
        }
        let path = self.directory.restore_state(epoch, name)?;
        let length = std::fs::metadata(&path).map_err(|error| Error::io(path.display().to_string(), &error))?.len();
        Ok(Rc::new(NamedFile { path, key: name.to_owned(), length }))
    }
}

/// A file of a checkpoint. It loses its name here when nothing in this run refers to it; epochs have names of their own for it.
#[derive(Debug)]
struct NamedFile {
    path: PathBuf,
    key: String,
    length: u64,
}

impl StateFile for NamedFile {
    fn name(&self) -> &str {
        &self.key
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, at: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; (at.end - at.start) as usize];
        let read = File::open(&self.path).and_then(|file| file.read_exact_at(&mut bytes, at.start));
        read.map(|()| bytes).map_err(|error| Error::io(self.path.display().to_string(), &error))
    }
}

impl Drop for NamedFile {
    fn drop(&mut self) {
        // The next run removes it if this fails.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A file that is being written.
struct NewFile {
    file: DiskFile,
    /// Its name in messages.
    name: String,
    key: String,
    length: u64,
    /// Its path, if it has one.
    path: Option<PathBuf>,
}

impl NewStateFile for NewFile {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.length += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|error| Error::io(self.name.clone(), &error))
    }

    fn finish(self: Box<Self>) -> Result<Rc<dyn StateFile>> {
        let Self { file, name, key, length, path } = *self;
        Ok(match path {
            Some(path) => Rc::new(NamedFile { path, key, length }),
            None => Rc::new(TemporaryFile { file: file.file, name, key, length }),
        })
    }
}

/// A file without a name.
#[derive(Debug)]
struct TemporaryFile {
    file: File,
    name: String,
    key: String,
    length: u64,
}

impl StateFile for TemporaryFile {
    fn name(&self) -> &str {
        &self.key
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, at: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; (at.end - at.start) as usize];
        self.file.read_exact_at(&mut bytes, at.start).map_err(|error| Error::io(self.name.clone(), &error))?;
        Ok(bytes)
    }
}
