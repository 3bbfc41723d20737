//! Whether a file or a directory could be written, asked so that nothing is left behind: an output that will fail shall
//! fail before the input is read, and one may not be needed after all.

use rustix::fs::{Access, access, statvfs};
use std::io::{ErrorKind, Result};
use std::path::Path;

/// Whether the file `path` could be made or, where it is there, written to.
pub fn for_file(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(_) => Ok(access(path, Access::WRITE_OK)?),
        Err(error) if error.kind() == ErrorKind::NotFound => in_directory(parent(path)),
        Err(error) => Err(error),
    }
}

/// Whether the directory `path` is there, and files could be made in it.
pub fn in_directory(path: &Path) -> Result<()> {
    if !std::fs::metadata(path)?.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    Ok(access(path, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Whether the directory `path` could be written to, or made with all that is missing above it.
pub fn for_directory(path: &Path) -> Result<()> {
    match in_directory(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && path != parent(path) => for_directory(parent(path)),
        other => other,
    }
}

/// Makes a file in the directory `path`, or below it the first directory that is missing, and removes it again: a file
/// system may refuse what the permissions of a directory allow.
pub fn try_directory(path: &Path) -> Result<()> {
    let name = format!(".evt-check-{}", std::process::id());
    if path.is_dir() {
        let file = path.join(name);
        std::fs::File::create_new(&file)?;
        return std::fs::remove_file(&file);
    }
    match parent(path) {
        above if above == path || above.is_dir() => {
            std::fs::create_dir(path)?;
            std::fs::remove_dir(path)
        }
        above => try_directory(above),
    }
}

/// Whether the file system of `path` has a free block; true where it does not say.
pub fn is_left(path: &Path) -> bool {
    statvfs(path).map_or(true, |found| found.f_bavail > 0 || found.f_blocks == 0)
}

/// The directory a path lies in.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        None => path,
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
    }
}
