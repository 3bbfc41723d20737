//! Durable names: after a power failure a synced file is only found if the directory with its name was synced too.

use super::room;
use rustix::fs::syncfs;
use std::fs::{self, File};
use std::io::{ErrorKind, Result};
use std::path::Path;

/// Makes the entries of `directory` durable.
pub fn sync_directory(directory: &Path) -> Result<()> {
    match File::open(directory).and_then(|opened| opened.sync_all()) {
        // This file system cannot sync a directory.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// Makes the name of the existing `path` durable.
pub fn sync_name(path: &Path) -> Result<()> {
    match sync_directory(room::parent(path)) {
        // A directory may be writable but not readable: sync its whole file system instead.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(syncfs(File::open(path)?)?),
        synced => synced,
    }
}

/// Creates the directory `path` and its missing parents, and makes their names durable.
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
