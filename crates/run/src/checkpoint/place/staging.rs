//! A directory of this process for the files of a checkpoint in a bucket.
//!
//! A killed process cannot remove its directory. So the process locks it, and a later process removes the directories
//! that nobody has locked.

use evt_core::error::{Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The prefix of the name of a directory that its process has locked.
const PREFIX: &str = "evt-checkpoint-";
/// The prefix of the name of a directory that its process has not locked yet.
const NEW: &str = "evt-new-";

/// A directory in `TMPDIR`; removed with this value.
#[derive(Debug)]
pub struct StagingDirectory {
    path: PathBuf,
    /// Holds the lock.
    _locked: File,
}

impl StagingDirectory {
    /// Makes an empty directory, and removes those of killed processes. Errors: exit status 74.
    pub fn create() -> Result<Self> {
        Self::create_in(&std::env::temp_dir())
    }

    fn create_in(root: &Path) -> Result<Self> {
        let make = || {
            remove_abandoned(root)?;
            let new = tempfile::Builder::new().prefix(NEW).tempdir_in(root)?;
            let locked = open_directory(new.path())?;
            flock(&locked, FlockOperation::NonBlockingLockExclusive)?;
            let name = new.path().file_name().map(|name| name.to_string_lossy().replacen(NEW, PREFIX, 1));
            let path = root.join(name.unwrap_or_default());
            fs::rename(new.path(), &path)?;
            // The directory was renamed, so there is nothing to remove under its first name.
            _ = new.keep();
            Ok(Self { path, _locked: locked })
        };
        make().map_err(|error| Error::io(format!("{}: files of a checkpoint (TMPDIR)", root.display()), &error))
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StagingDirectory {
    fn drop(&mut self) {
        // A later process removes the directory if this fails.
        _ = fs::remove_dir_all(&self.path);
    }
}

/// Opens a directory. Others may put anything into `TMPDIR`: a link is not followed, and a FIFO is not waited for.
fn open_directory(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Removes directories whose processes were killed.
fn remove_abandoned(root: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(root)?.filter_map(std::result::Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(PREFIX)
            && let Ok(directory) = open_directory(&entry.path())
            && flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            // Another process may remove it at the same time.
            _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directories_of_killed_processes_are_removed_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let abandoned = root.path().join("evt-checkpoint-killed");
        fs::create_dir_all(abandoned.join("epochs")).unwrap();
        fs::create_dir(root.path().join("other")).unwrap();
        let first = StagingDirectory::create_in(root.path()).unwrap();
        let second = StagingDirectory::create_in(root.path()).unwrap();
        assert!(!abandoned.exists() && first.path().is_dir() && second.path().is_dir());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists() && second.path().is_dir());
        drop(second);
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["other"]);
    }

    #[test]
    fn a_fifo_or_a_link_in_tmpdir_neither_blocks_a_start_nor_is_removed() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let fifo = root.path().join("evt-checkpoint-fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        fs::write(elsewhere.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join("evt-checkpoint-link")).unwrap();
        let made = StagingDirectory::create_in(root.path()).unwrap();
        assert!(made.path().is_dir() && fifo.exists() && elsewhere.path().join("file").exists());
        assert!(root.path().join("evt-checkpoint-link").is_symlink());
    }
}
