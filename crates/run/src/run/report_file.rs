//! Files with a report of a run: `--stats`, and the metrics of `--prometheus`.

use crate::storage::disk::failed;
use evt_core::error::Result;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes a report to `NAME.part` beside the file `NAME`, and renames it to `NAME`. So a reader finds the former
/// content or the whole new content, whenever the process is killed. A path that is not a regular file, or that may be
/// standard output, is written directly.
///
/// Errors: exit status 74.
pub fn write(path: impl AsRef<Path>, content: &str) -> Result<()> {
    let path = path.as_ref();
    let written = match replaced(path) {
        Some(target) => replace(&target, content),
        None => append(path, content),
    };
    written.map_err(failed(path))
}

/// Returns the regular file that a path names, or will name; `None` if it names another file. `/dev/stdout` may be a
/// regular file that other programs write too.
fn replaced(path: &Path) -> Option<PathBuf> {
    if ["/dev", "/proc"].iter().any(|devices| path.starts_with(devices)) {
        return None;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => fs::canonicalize(path).ok().as_deref().and_then(replaced),
        Ok(found) => found.is_file().then(|| path.to_owned()),
        Err(_) => Some(path.to_owned()),
    }
}

fn append(path: &Path, content: &str) -> std::io::Result<()> {
    OpenOptions::new().create(true).append(true).open(path)?.write_all(content.as_bytes())
}

fn replace(target: &Path, content: &str) -> std::io::Result<()> {
    let mut part = OsString::from(target);
    part.push(".part");
    fs::write(&part, content)?;
    if let Ok(former) = fs::metadata(target) {
        fs::set_permissions(&part, former.permissions())?;
    }
    fs::rename(&part, target)
}
