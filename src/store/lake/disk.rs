//! Directories and files of a lake: names, listings, JSON files, syncs.

use crate::error::{Error, Result};
use crate::store::durable;
use crate::time::calendar::civil_from_days;
use rustix::fs::syncfs;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Maximum number of files that are synced one by one.
const SYNC_SINGLY: usize = 8;
/// Extension of complete files.
pub const EXTENSION: &str = "parquet";

/// Writes a JSON file atomically: to a file beside it, which is synced and renamed.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let beside = path.with_added_extension("new");
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        durable::sync_name(path)
    };
    write().map_err(|e| failed(path, "cannot write", &e))
}

/// Returns the directories of a lake's days, in order; none if there is no such lake.
pub fn days(root: &Path) -> Result<Vec<PathBuf>> {
    let mut days = entries(root)?;
    let is_day = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"date="));
    days.retain(|path| is_day(path) && path.is_dir());
    Ok(days)
}

/// Returns the directory name of a day, `date=YYYY-MM-DD`.
pub fn day_name(day: i64) -> String {
    let (year, month, day) = civil_from_days(day);
    format!("date={year:04}-{month:02}-{day:02}")
}

/// Whether a name in the directory of a day is a file of the lake.
pub fn is_whole(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == EXTENSION)
}

/// Returns the entries of a directory, sorted; none if it does not exist.
pub fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(directory, "cannot list", &error)),
    };
    let paths: std::io::Result<Vec<PathBuf>> = listing.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(|e| failed(directory, "cannot list", &e))?;
    paths.sort();
    Ok(paths)
}

/// Reads what [`write_json`] wrote, if it exists.
pub fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, "cannot read", &error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::corrupt(path.display().to_string()).because(e))
}

/// Removes a file, which need not exist.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(path, "cannot remove", &error)),
        _ => Ok(()),
    }
}

/// Syncs files or directories of the lake: one by one or, if there are many, with the whole file system at once. Ten years of
/// days are thousands of files, and one sync for each would take minutes.
pub fn sync_each(root: &Path, paths: Vec<PathBuf>) -> Result<()> {
    if paths.len() <= SYNC_SINGLY {
        return paths.iter().try_for_each(|path| sync(path));
    }
    let failed = |e: std::io::Error| failed(root, "cannot sync", &e);
    let root = File::open(root).map_err(failed)?;
    syncfs(&root).map_err(|e| failed(e.into()))
}

/// Syncs one file or directory.
pub fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| failed(path, "cannot sync", &e))
}

/// Makes an I/O error of the lake.
pub fn failed(path: &Path, what: &str, error: &std::io::Error) -> Error {
    Error::io(format!("parquet:{}: {what}", path.display()), error)
}
