//! Names that survive a loss of power: a file that has been synced is found again only if the directory that holds its
//! name has been synced too.

use super::room;
use rustix::fs::syncfs;
use std::fs::{self, File};
use std::io::{ErrorKind, Result};
use std::path::Path;

/// Makes the names in `directory` durable.
pub fn sync_directory(directory: &Path) -> Result<()> {
    match File::open(directory).and_then(|opened| opened.sync_all()) {
        // This file system has no way to sync a directory alone.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// Makes the name of `path`, which is there, durable.
pub fn sync_name(path: &Path) -> Result<()> {
    match sync_directory(room::parent(path)) {
        // A directory may be writable and not readable: its whole file system is synced instead.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(syncfs(File::open(path)?)?),
        synced => synced,
    }
}

/// Makes the directory `path` and every directory above it that is missing, and their names durable.
pub fn create_directories(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Ok(()) => sync_name(path),
        Err(error) if error.kind() == ErrorKind::NotFound && path != room::parent(path) => {
            create_directories(room::parent(path))?;
            create_directories(path)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_level_is_made_and_one_that_is_there_stays() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c");
        create_directories(&deep).unwrap();
        create_directories(&deep).unwrap();
        assert!(deep.is_dir());
        fs::write(root.path().join("file"), "").unwrap();
        assert!(create_directories(&root.path().join("file")).is_err());
        assert!(create_directories(&root.path().join("file/below")).is_err());
        sync_name(&root.path().join("file")).unwrap();
        assert_eq!(sync_directory(&root.path().join("none")).err().unwrap().kind(), ErrorKind::NotFound);
    }
}
