//! Objects that are the files of a directory.

use super::disk::{Disk, DiskFile, failed, found};
use super::{Objects, access, token};
use evt_core::error::Result;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The extension of a file that is being written; before it stands a random token.
const PART: &str = "part";
/// Digits of the token.
const TOKEN: usize = 16;

/// The files of a directory as objects. Clones are the same directory.
#[derive(Clone, Debug)]
pub struct DirectoryObjects {
    root: PathBuf,
    /// The disk it is on.
    pub disk: Disk,
}

impl DirectoryObjects {
    /// Names a directory; creates nothing.
    pub fn new(root: PathBuf, disk: Disk) -> Self {
        Self { root, disk }
    }

    /// Returns the path of an object or of a directory of objects; `key` may be empty.
    pub fn path(&self, key: &str) -> PathBuf {
        if key.is_empty() { self.root.clone() } else { self.root.join(key) }
    }

    /// Writes a complete new file and links it to a key, unless there is an object under it: so no process sees an
    /// object that is not complete. Returns whether it was linked, and what `write` returns. The name is not durable.
    pub fn link_new<T>(&self, key: &str, write: impl FnOnce(DiskFile) -> io::Result<T>) -> io::Result<(bool, T)> {
        let path = self.path(key);
        let (part, file) = self.create_beside(&path)?;
        let written = write(file)?;
        let linked = match self.disk.change(|| fs::hard_link(&part, &path)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            linked => linked.map(|()| true)?,
        };
        self.disk.free(|| fs::remove_file(&part))?;
        Ok((linked, written))
    }

    /// Creates a temporary file beside `path`; returns it and its path, which no other process uses. Its name is
    /// random, because processes on different hosts may have the same process id.
    fn create_beside(&self, path: &Path) -> io::Result<(PathBuf, DiskFile)> {
        let part = path.with_added_extension(format!("{}.{PART}", token()));
        let file = self.disk.open(&part, OpenOptions::new().write(true).create_new(true))?;
        Ok((part, file))
    }

    /// Appends the keys of the files below the directory `key` that begin with `start`.
    fn append_keys(&self, key: &str, start: &str, keys: &mut Vec<String>) -> Result<()> {
        for entry in entries(&self.path(key))? {
            // Nobody can write a key that is not UTF-8.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let below = if key.is_empty() { name } else { format!("{key}/{name}") };
            let is_directory = entry.file_type().map_err(failed(&entry.path()))?.is_dir();
            if is_directory && (below.starts_with(start) || start.starts_with(&format!("{below}/"))) {
                self.append_keys(&below, start, keys)?;
            } else if !is_directory && below.starts_with(start) && !is_temporary(&below) {
                keys.push(below);
            }
        }
        Ok(())
    }
}

impl Objects for DirectoryObjects {
    fn name(&self, key: &str) -> String {
        self.path(key).display().to_string()
    }

    fn get_all(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        let paths = keys.iter().map(|key| self.path(key));
        paths.map(|path| found(fs::read(&path)).map_err(failed(&path))).collect()
    }

    fn range(&self, key: &str, at: Range<u64>) -> Result<Option<Vec<u8>>> {
        let path = self.path(key);
        let read = || {
            let file = File::open(&path)?;
            let end = at.end.min(file.metadata()?.len());
            let mut bytes = vec![0; usize::try_from(end.saturating_sub(at.start)).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, at.start)?;
            Ok(bytes)
        };
        found(read()).map_err(failed(&path))
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(key);
        let put = || {
            let (part, file) = self.create_beside(&path)?;
            write_synced(file, bytes)?;
            self.disk.change(|| fs::rename(&part, &path))?;
            self.disk.sync_name(&path)
        };
        put().map_err(failed(&path))
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        let path = self.path(key);
        let put = || {
            let (is_new, ()) = self.link_new(key, |file| write_synced(file, bytes))?;
            self.disk.sync_directory(access::parent(&path))?;
            // A directory is no object that another process has written.
            if !is_new && path.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Ok(is_new)
        };
        put().map_err(failed(&path))
    }

    fn token(&self) -> Option<String> {
        None
    }

    fn list(&self, start: &str) -> Result<Vec<String>> {
        let mut keys = vec![];
        self.append_keys(start.rsplit_once('/').map_or("", |(directory, _)| directory), start, &mut keys)?;
        keys.sort_unstable();
        Ok(keys)
    }

    fn delete(&self, keys: &[String]) -> Result<()> {
        for path in keys.iter().map(|key| self.path(key)) {
            found(self.disk.free(|| fs::remove_file(&path))).map_err(failed(&path))?;
        }
        Ok(())
    }
}

/// Returns the entries of a directory; none if it does not exist.
pub fn entries(directory: &Path) -> Result<Vec<DirEntry>> {
    let entries = found(fs::read_dir(directory)).and_then(|entries| entries.into_iter().flatten().collect());
    entries.map_err(failed(directory))
}

fn write_synced(mut file: DiskFile, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync()
}

/// Whether a key is the name of a temporary file.
fn is_temporary(key: &str) -> bool {
    let token = key.strip_suffix(PART).and_then(|key| key.strip_suffix('.')?.rsplit_once('.'));
    token.is_some_and(|(_, token)| token.len() == TOKEN && token.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
