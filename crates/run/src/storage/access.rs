//! Checks whether files and directories can be written, and leaves nothing behind: an output that will fail must fail
//! before the input is read, and a run may not use all of its outputs.

use rustix::fs::{Access, access, statvfs};
use std::io::{ErrorKind, Result};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Checks that the file `path` can be created or, if it exists, written.
pub fn check_file(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(_) => Ok(access(path, Access::WRITE_OK)?),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            check_existing_directory(parent(path))?;
            create_trial(parent(path))
        }
        Err(error) => Err(error),
    }
}

/// Checks that the directory `path` exists and files can be created in it.
pub fn check_existing_directory(path: &Path) -> Result<()> {
    if !std::fs::metadata(path)?.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    Ok(access(path, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Checks that the directory `path` can be written or, with its missing parents, created.
pub fn check_directory(path: &Path) -> Result<()> {
    match check_existing_directory(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && path != parent(path) => check_directory(parent(path)),
        other => other,
    }
}

/// Creates and removes a file in the directory `path` or, if it is missing, a directory in its first parent that
/// exists: a file system may reject what the permissions allow.
pub fn create_trial(path: &Path) -> Result<()> {
    // Several outputs are checked at the same time.
    static TRIALS: AtomicU64 = AtomicU64::new(0);
    let name = format!(".evt-check-{}-{}", std::process::id(), TRIALS.fetch_add(1, Ordering::Relaxed));
    if path.is_dir() {
        let file = path.join(name);
        std::fs::File::create_new(&file)?;
        return std::fs::remove_file(&file);
    }
    match parent(path) {
        above if above == path || above.is_dir() => {
            let directory = above.join(name);
            std::fs::create_dir(&directory)?;
            std::fs::remove_dir(&directory)
        }
        above => create_trial(above),
    }
}

/// Whether the file system of `path` has a free block; true if it does not report them.
pub fn has_free_space(path: &Path) -> bool {
    statvfs(path).map_or(true, |found| found.f_bavail > 0 || found.f_blocks == 0)
}

/// Returns the directory of a path.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        None => path,
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
    }
}
