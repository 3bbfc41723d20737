//! The files of tables by their URIs: on this machine, or in buckets. A file is written once and never changed.

use crate::lake::disk::{LakeDir, entries, failed};
use crate::lake::read::source::RowsFile;
use evt_core::error::{Error, Result};
use evt_run::bucket::address::BucketAddress;
use evt_run::bucket::client::{Bucket, ObjectEntry};
use evt_run::bucket::upload::{Upload, upload};
use evt_run::client::Caller;
use evt_run::storage::Objects;
use evt_run::storage::disk::{self, Disk};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// The schemes of buckets, and evt's own.
const BUCKETS: [(&str, &str); 4] = [("s3", "s3"), ("s3a", "s3"), ("s3n", "s3"), ("gs", "gs")];

/// Access to the files of tables. Clones share connections.
#[derive(Clone, Default)]
pub struct TableStorage {
    /// Changes files of this machine.
    pub disk: Disk,
    caller: Caller,
    /// The options of the addresses of all buckets, with their question mark.
    options: String,
    buckets: Rc<RefCell<BTreeMap<String, Arc<Bucket>>>>,
}

/// Where a file is.
enum FilePlace {
    Disk(PathBuf),
    Object(Arc<Bucket>, String),
}

/// A file in a listing.
pub struct ListedFile {
    /// Its URI.
    pub uri: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written (µs since 1970).
    pub changed: i64,
}

impl TableStorage {
    /// Uses a disk, and buckets with these options in their addresses (`?endpoint=…`).
    pub fn new(disk: Disk, caller: Caller, options: &str) -> Self {
        let options = if options.is_empty() { String::new() } else { format!("?{options}") };
        Self { disk, caller, options, buckets: Rc::default() }
    }

    /// Finds a file. Errors: exit status 65 for a URI of another scheme; those of
    /// [`BucketAddress::parse`].
    fn place(&self, uri: &str) -> Result<FilePlace> {
        if let Some(path) = local_path(uri) {
            return Ok(FilePlace::Disk(path));
        }
        let unknown = || Error::corrupt(format!("{uri}: expected a file of this machine, s3:// or gs://"));
        let (scheme, rest) = uri.split_once("://").ok_or_else(unknown)?;
        let (_, scheme) = BUCKETS.into_iter().find(|(known, _)| *known == scheme).ok_or_else(unknown)?;
        let (bucket, key) = rest.split_once('/').ok_or_else(unknown)?;
        let name = format!("{scheme}://{bucket}");
        if let Some(bucket) = self.buckets.borrow().get(&name) {
            return Ok(FilePlace::Object(bucket.clone(), key.to_owned()));
        }
        let address = BucketAddress::parse(&format!("{name}{}", self.options), &self.caller)?;
        let bucket = Arc::new(Bucket::try_new(address)?);
        self.buckets.borrow_mut().insert(name, bucket.clone());
        Ok(FilePlace::Object(bucket, key.to_owned()))
    }

    /// Reads a file; `None` if there is none.
    pub fn find(&self, uri: &str) -> Result<Option<Vec<u8>>> {
        match self.place(uri)? {
            FilePlace::Disk(path) => disk::found(fs::read(&path)).map_err(failed(&path, "cannot read")),
            FilePlace::Object(bucket, key) => bucket.get(&key),
        }
    }

    /// Reads a file. Errors: exit status 65 if it is missing.
    pub fn read(&self, uri: &str) -> Result<Vec<u8>> {
        self.find(uri)?.ok_or_else(|| Error::corrupt(format!("{}: missing", shown(uri))))
    }

    /// Writes a file. It has all of its bytes or is not there.
    pub fn write(&self, uri: &str, bytes: &[u8]) -> Result<()> {
        match self.place(uri)? {
            FilePlace::Disk(path) => {
                if let Some(directory) = path.parent() {
                    self.disk.create_directories(directory).map_err(failed(directory, "cannot make the directory"))?;
                }
                let written = self.disk.write_whole(&path, &path.with_added_extension("new"), bytes);
                written.map_err(failed(&path, "cannot write"))
            }
            FilePlace::Object(bucket, key) => bucket.put(&key, bytes),
        }
    }

    /// Writes objects of one bucket with the bytes of files of this machine.
    pub fn upload(&self, files: &[(PathBuf, String)]) -> Result<()> {
        let (mut uploads, mut found) = (vec![], None);
        for (path, uri) in files {
            let FilePlace::Object(bucket, key) = self.place(uri)? else {
                return Err(Error::broken(format!("{uri}: expected an object")));
            };
            uploads.push(Upload { key, path: path.clone() });
            found = Some(bucket);
        }
        found.map_or(Ok(()), |bucket| upload(&bucket, &uploads))
    }

    /// Removes a file that nothing names; it need not exist.
    pub fn remove(&self, uri: &str) -> Result<()> {
        match self.place(uri)? {
            FilePlace::Disk(path) => {
                LakeDir { root: PathBuf::new(), disk: self.disk.clone() }.remove(&path, fs::remove_file)
            }
            FilePlace::Object(bucket, key) => bucket.delete(&[key]),
        }
    }

    /// Returns the files of a directory, whose URI has no slash at its end, and of those below; none if there is none.
    pub fn list(&self, directory: &str) -> Result<Vec<ListedFile>> {
        let mut found = vec![];
        match self.place(directory)? {
            FilePlace::Disk(path) => files_below(&path, directory, &mut found)?,
            FilePlace::Object(bucket, key) => {
                let start = format!("{key}/");
                let entries = bucket.entries(&start)?;
                let listed = |ObjectEntry { key, size, changed, .. }: ObjectEntry| {
                    let uri = format!("{directory}/{}", key.strip_prefix(&start)?);
                    Some(ListedFile { uri, bytes: size, changed })
                };
                found.extend(entries.into_iter().filter_map(listed));
            }
        }
        Ok(found)
    }

    /// Returns a file of rows, of which a manifest says the size (bytes).
    pub fn rows(&self, uri: &str, bytes: u64) -> Result<RowsFile> {
        Ok(match self.place(uri)? {
            FilePlace::Disk(path) => RowsFile::Disk(path),
            FilePlace::Object(bucket, key) => {
                RowsFile::object(bucket, ObjectEntry { key, size: bytes, version: None, changed: 0 })
            }
        })
    }
}

/// Adds the files below a directory. A file that goes meanwhile is left out.
fn files_below(path: &Path, uri: &str, found: &mut Vec<ListedFile>) -> Result<()> {
    for path in entries(path)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let uri = format!("{uri}/{name}");
        let Some(metadata) = crate::lake::disk::found(&path)? else { continue };
        if metadata.is_dir() {
            files_below(&path, &uri, found)?;
            continue;
        }
        let changed = metadata.modified().map_err(failed(&path, "cannot read"))?;
        let since = changed.duration_since(UNIX_EPOCH);
        let changed = since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        found.push(ListedFile { uri, bytes: metadata.len(), changed });
    }
    Ok(())
}

/// Returns the URI of a file of this machine.
pub fn local_uri(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Returns the path of a file; `None` if it is not on this machine.
pub fn local_path(uri: &str) -> Option<PathBuf> {
    let path = uri.strip_prefix("file://").or_else(|| uri.strip_prefix("file:")).unwrap_or(uri);
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// Returns the name of a file in messages.
pub fn shown(uri: &str) -> String {
    local_path(uri).map_or_else(|| uri.to_owned(), |path| path.display().to_string())
}

/// Returns the URI by which files are compared: other writers write the same path in several ways.
pub fn normal(uri: &str) -> String {
    match local_path(uri) {
        Some(path) => local_uri(&path),
        None => match uri.split_once("://") {
            Some((scheme, rest)) => match BUCKETS.into_iter().find(|(known, _)| *known == scheme) {
                Some((_, scheme)) => format!("{scheme}://{rest}"),
                None => uri.to_owned(),
            },
            None => uri.to_owned(),
        },
    }
}
