//! Directories and files of a lake: names, listings, JSON files, syncs.

use evt_core::error::{Error, Result};
use evt_core::time::calendar::{CivilDate, civil_from_days};
use evt_run::storage::disk::{self, Disk};
use serde::{Deserialize, Serialize};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

/// Maximum number of files that are synced one by one.
const SYNC_SINGLY: usize = 8;
/// Extension of complete files.
pub const EXTENSION: &str = "parquet";

/// The directory of a lake on its disk. Errors name the path.
#[derive(Clone, Debug)]
pub struct LakeDir {
    /// The directory.
    pub root: PathBuf,
    /// The disk it is on.
    pub disk: Disk,
}

impl LakeDir {
    /// Returns a path in the hidden directory.
    pub fn hidden(&self, name: &str) -> PathBuf {
        self.root.join(".evt").join(name)
    }

    /// Creates a directory.
    pub fn create_dir(&self, path: &Path) -> Result<()> {
        self.disk.create_directory(path).map_err(failed(path, "cannot make the directory"))
    }

    /// Renames a file or directory.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.disk.change(|| fs::rename(from, to)).map_err(failed(to, "cannot rename into place"))
    }

    /// Removes a file or directory by `remove`; it need not exist.
    pub fn remove<'a>(&self, path: &'a Path, remove: fn(&'a Path) -> std::io::Result<()>) -> Result<()> {
        disk::found(self.disk.free(|| remove(path))).map(drop).map_err(failed(path, "cannot remove"))
    }

    /// Writes a JSON file atomically: to a file beside it, which is synced and renamed.
    pub fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> Result<()> {
        let json = serde_json::to_vec(value).map_err(std::io::Error::from);
        let written = json.and_then(|json| self.disk.write_whole(path, &path.with_added_extension("new"), &json));
        written.map_err(failed(path, "cannot write"))
    }

    /// Syncs files or directories: one by one or, if there are many, with the whole file system at once. Ten years of
    /// days are thousands of files, and one sync for each would take minutes.
    pub fn sync_each(&self, paths: &[PathBuf]) -> Result<()> {
        match paths.len() {
            0..=SYNC_SINGLY => {
                paths.iter().try_for_each(|path| self.disk.sync_path(path).map_err(failed(path, "cannot sync")))
            }
            _ => self.disk.sync_file_system(&self.root).map_err(failed(&self.root, "cannot sync")),
        }
    }
}

/// Returns the directories of a lake's days, in order; none if there is no such lake. Errors: exit status 74 if one
/// cannot be reached.
pub fn days(root: &Path) -> Result<Vec<PathBuf>> {
    directories(day_entries(root)?)
}

/// Returns the entries of a lake with the names of days, in order; none if there is no such lake.
pub fn day_entries(root: &Path) -> Result<Vec<PathBuf>> {
    let mut days = entries(root)?;
    days.retain(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"date=")));
    Ok(days)
}

/// Returns those of the paths that are directories. Errors: exit status 74 if one cannot be reached.
pub fn directories(paths: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    let mut directories = vec![];
    for path in paths {
        if is_directory(&path)? {
            directories.push(path);
        }
    }
    Ok(directories)
}

/// Whether a path is a directory, or a link to one. Errors: exit status 74 if it cannot be reached.
pub fn is_directory(path: &Path) -> Result<bool> {
    Ok(found(path)?.is_some_and(|found| found.is_dir()))
}

/// Returns what a path leads to; `None` if it does not exist. Errors: exit status 74 if it cannot be reached, as behind
/// a link to a disk that is not mounted.
pub fn found(path: &Path) -> Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) => none_if_gone(path, error, "cannot read"),
    }
}

/// Returns `None` if `error` says that `path` does not exist; a link that leads to nothing exists.
fn none_if_gone<T>(path: &Path, error: std::io::Error, what: &str) -> Result<Option<T>> {
    if error.kind() != std::io::ErrorKind::NotFound {
        return Err(failed(path, what)(error));
    }
    if path.is_symlink() { Err(failed(path, "cannot follow the link")(error)) } else { Ok(None) }
}

/// Returns the directory name of a day, `date=YYYY-MM-DD`.
pub fn day_name(day: i64) -> String {
    let CivilDate { year, month, day } = civil_from_days(day);
    format!("date={year:04}-{month:02}-{day:02}")
}

/// Whether a name in the directory of a day is a file of the lake.
pub fn is_whole(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == EXTENSION)
}

/// Returns the entries of a directory, sorted; none if it does not exist.
pub fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(directory) {
        Ok(listing) => Some(listing),
        Err(error) => none_if_gone(directory, error, "cannot list")?,
    };
    let Some(listing) = listing else { return Ok(vec![]) };
    let paths: std::io::Result<Vec<PathBuf>> = listing.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(failed(directory, "cannot list"))?;
    paths.sort();
    Ok(paths)
}

/// Reads the file that [`LakeDir::write_json`] wrote; `None` if there is none.
pub fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = disk::found(fs::read(path)).map_err(failed(path, "cannot read"))? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::corrupt(path.display().to_string()).because(e))
}

/// Makes an I/O error of the lake.
pub fn failed(path: &Path, what: &str) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::io(format!("parquet:{}: {what}", path.display()), &error)
}
