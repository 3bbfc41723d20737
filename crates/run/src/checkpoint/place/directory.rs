//! A checkpoint in a directory.
//!
//! ```text
//! DIR/log/1, DIR/log/2, …         entries, each created once by link(2)
//! DIR/epochs/R-N/NAME             the parts of epoch R-N
//! DIR/epochs/R-N/STAGE.json       what a stage has of the epoch, unless it is the last stage
//! DIR/epochs/R-N/STAGE.committed  the epoch is committed to every output of the stage
//! DIR/epochs/R-0/end, end-2, …    the last stages of run R, with the stages before them
//! DIR/epochs/R-0/STAGE.joined     a stage of run R, if it has several last stages, locked (flock) while it runs
//! DIR/epochs/R-0/STAGE.followed   followed names and topics that run R has begun
//! DIR/epochs/R-N.removed          epoch R-N is being removed
//! DIR/state/R/NAME                files of state of run R; those of an epoch are links to them
//! ```

use super::files::EpochFiles;
use super::local::{LocalFiles, REMOVED, compare, epoch_key, epoch_of, is_removed};
use crate::checkpoint::epoch::Epoch;
use crate::checkpoint::log::{Complete, EpochPart};
use crate::storage::directory::entries;
use crate::storage::disk::failed;
use crate::storage::{Objects, access};
use evt_core::error::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The files of a checkpoint in a directory: parts are written where they stay.
#[derive(Debug)]
pub struct DirectoryFiles {
    local: LocalFiles,
}

impl DirectoryFiles {
    /// Takes the files of a directory; creates nothing.
    pub fn new(local: LocalFiles) -> Self {
        Self { local }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.local.objects.path(key)
    }

    /// Returns the directories that a run begins with.
    fn directories(&self) -> [PathBuf; 2] {
        ["log", "epochs"].map(|key| self.path(key))
    }

    /// Whether the directory has a log. Errors: exit status 78 if it holds other things.
    fn has_log(&self) -> Result<bool> {
        let (root, has_log) = (self.path(""), self.path("log").exists());
        if !has_log && let Some(other) = entries(&root)?.first() {
            let message = format!("expected an empty directory or a checkpoint, found {}", other.path().display());
            return Err(Error::config(message).at(root.display().to_string()));
        }
        Ok(has_log)
    }

    fn sync(&self, directory: &Path) -> Result<()> {
        self.local.objects.disk.sync_directory(directory).map_err(failed(directory))
    }
}

impl EpochFiles for DirectoryFiles {
    fn objects(&self) -> &dyn Objects {
        &self.local.objects
    }

    fn local(&self) -> &LocalFiles {
        &self.local
    }

    fn check(&self) -> Result<bool> {
        let has_log = self.has_log()?;
        for directory in self.directories() {
            let checked = access::check_directory(&directory).and_then(|()| access::create_trial(&directory));
            checked.map_err(failed(&directory))?;
        }
        Ok(has_log)
    }

    fn create(&self) -> Result<()> {
        self.has_log()?;
        for directory in self.directories() {
            self.local.objects.disk.create_directories(&directory).map_err(failed(&directory))?;
        }
        Ok(())
    }

    fn sync_log(&self) -> Result<()> {
        self.sync(&self.path("log"))
    }

    fn sync_epoch(&self, epoch: Epoch, _parts: &[EpochPart]) -> Result<()> {
        self.sync(&self.local.epoch(epoch))
    }

    fn verify(&self, epoch: Epoch, part: &EpochPart) -> Result<()> {
        let path = self.local.part(epoch, &part.name);
        let shown = path.display().to_string();
        if !path.exists() {
            return Err(Error::corrupt(format!("expected {} bytes, found no file", part.bytes)).at(shown));
        }
        compare(part, &path, &shown)
    }

    fn claim(&self, run: u64, name: &str, text: &str) -> Result<(bool, Option<File>)> {
        let epoch = Epoch { run, number: 0 };
        self.local.make_epoch(epoch)?;
        let key = epoch_key(epoch, name);
        // The file is locked before it has its name, so that no other stage sees a claim that is not locked yet.
        let claimed = self.local.objects.link_new(&key, |mut file| {
            file.write_all(text.as_bytes())?;
            lock(file.file)
        });
        claimed.map_err(failed(&self.path(&key)))
    }

    fn released(&self, run: u64, suffix: &str) -> Result<Vec<String>> {
        let mut released = vec![];
        for entry in entries(&self.local.epoch(Epoch { run, number: 0 }))? {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(suffix) {
                let file = File::open(entry.path()).map_err(failed(&entry.path()))?;
                released.extend(flock(file, FlockOperation::NonBlockingLockShared).is_ok().then_some(name));
            }
        }
        released.sort();
        Ok(released)
    }

    fn clear(&self, run: u64, _kept: &[Complete], _check: &dyn Fn() -> Result<()>) -> Result<()> {
        // Epochs have links to the files that they need.
        for entry in entries(&self.path("state"))? {
            let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            if name.parse::<u64>().is_ok_and(|other| other >= run) {
                continue;
            }
            match path.is_dir() {
                true => self.local.remove_directory(&path)?,
                // Earlier versions had the files of all runs in one directory.
                false => self.local.objects.delete(&[format!("state/{name}")])?,
            }
        }
        Ok(())
    }

    fn remove_epochs(&self, before: Epoch, _state: &[String]) -> Result<()> {
        let epochs = self.path("epochs");
        for entry in fs::read_dir(&epochs).map_err(failed(&epochs))? {
            let path = entry.map_err(failed(&epochs))?.path();
            if path.extension().is_some_and(|extension| extension == REMOVED) {
                self.local.remove_directory(&path)?;
            } else if let Some(epoch) = path.file_name().and_then(|name| epoch_of(name.to_str()?))
                && is_removed(epoch, before)
            {
                self.local.remove_epoch(epoch)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::place::CheckpointPlace;
    use crate::storage::disk::Disk;

    #[test]
    fn an_epoch_that_a_killed_process_was_removing_is_no_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let place = CheckpointPlace::directory(dir.path().join("ckpt"), &Disk::default());
        place.files.create().unwrap();
        let [old, torn, kept] = [1, 2, 3].map(|number| Epoch { run: 1, number });
        for epoch in [old, torn, kept] {
            place.local().write_part(epoch, "state", b"0123456789").unwrap();
        }
        fs::rename(place.local().epoch(torn), place.local().epoch(torn).with_added_extension(REMOVED)).unwrap();
        assert!(!place.has_epoch(torn).unwrap());
        // An old run that still writes makes the directory anew.
        place.local().write_part(torn, "state", b"0123456789").unwrap();
        place.local().remove_epoch(torn).unwrap();
        assert!(!place.has_epoch(torn).unwrap());
        fs::create_dir(place.local().epoch(torn).with_added_extension(REMOVED)).unwrap();
        place.remove(kept, 0, &[]).unwrap();
        let left = fs::read_dir(dir.path().join("ckpt/epochs")).unwrap();
        assert_eq!(left.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), ["1-3"]);
    }

    #[test]
    fn a_changed_or_missing_part_is_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        let place = CheckpointPlace::directory(dir.path().join("ckpt"), &Disk::default());
        place.files.create().unwrap();
        let epoch = Epoch { run: 1, number: 1 };
        let part = place.local().write_part(epoch, "state", b"0123456789").unwrap();
        place.files.verify(epoch, &part).unwrap();
        let path = dir.path().join("ckpt/epochs/1-1/state");
        for bytes in [&b"0123456788"[..], b"012345678", b"01234567890"] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(place.files.verify(epoch, &part).unwrap_err().kind(), evt_core::ErrorKind::Corrupt);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(place.files.verify(epoch, &part).unwrap_err().kind(), evt_core::ErrorKind::Corrupt);
    }

    #[test]
    fn two_runs_may_write_one_note_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let place = CheckpointPlace::directory(dir.path().join("ckpt"), &Disk::default());
        let epochs: Vec<Epoch> = (1..=300).map(|number| Epoch { run: 1, number }).collect();
        epochs.iter().for_each(|epoch| place.local().make_epoch(*epoch).unwrap());
        let write = || epochs.iter().try_for_each(|epoch| place.set_committed(*epoch, "1-a"));
        let both = std::thread::scope(|scope| [scope.spawn(write), scope.spawn(write)].map(|run| run.join().unwrap()));
        both.into_iter().for_each(Result::unwrap);
        assert!(epochs.iter().all(|epoch| place.is_committed(*epoch, "1-a").unwrap()));
    }

    #[test]
    fn a_directory_with_other_files_is_no_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        let error = CheckpointPlace::directory(dir.path().to_owned(), &Disk::default()).files.create().unwrap_err();
        assert_eq!(error.kind(), evt_core::ErrorKind::Config);
    }
}
