//! The directory of a lake.
//!
//! ```text
//! DIR/date=2024-01-15/0f3c….parquet    complete files only, named by a digest of their rows' keys
//! DIR/.evt/lock                        locked (flock) by the writing run; a second one exits with status 75
//! DIR/.evt/NAME.part                   files being written; readers skip the directory, which begins with a dot
//! DIR/.evt/PIPELINE-RUN-N.prepared     the parts of an epoch that waits for its commit
//! DIR/.evt/PIPELINE.committed          the last epoch committed
//! DIR/.evt/next, DIR/.evt/exchange.json  days that get a new version (mode=replace): see the module `exchange`
//! ```
//!
//! A part is synced, then renamed into place, then the directories are synced: a file exists completely or not at all. Parts
//! that belong to no prepared epoch are useless: a run that fails removes them, or the next run if it was killed.

use crate::error::{Error, ErrorKind, Result};
use crate::store::lake::disk::{
    EXTENSION, day_name, entries, failed, is_whole, read_json, remove_if_there, sync_each, write_json,
};
use crate::store::lake::exchange::{Exchange, Staged, remove_trials};
use crate::store::{Epoch, Location, durable, room};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// The scheme of its URIs.
pub const SCHEME: &str = "parquet";
/// The options of its URIs.
pub const OPTIONS: [&str; 4] = ["mode", "roll", "shrink", "table"];

/// Returns the directory in a URI. Errors: exit status 2 for an unknown option.
pub fn root(location: &Location) -> Result<PathBuf> {
    location.check_options(SCHEME, &OPTIONS)?;
    if location.path.is_empty() {
        return Err(Error::usage("parquet: expected parquet:DIR, found no directory"));
    }
    Ok(PathBuf::from(&location.path))
}

/// A finished file without its final name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LakePart {
    /// Its name under `.evt`.
    pub part: String,
    /// The day of its rows, since 1970.
    pub day: i64,
    /// Its final name.
    pub name: String,
    /// Whether it replaces a file of that name; otherwise the file stays, because it holds the same rows.
    pub replace: bool,
    /// Its rows that this process counted as inserted; parts of another process were counted there.
    #[serde(skip)]
    pub inserted: u64,
}

/// The outcome of publishing a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// There was no file of its name.
    New,
    /// It replaced the file of its name.
    Replaced,
    /// A file of its name existed and stayed.
    Present,
}

/// A lake open for writing; it is locked until this is dropped.
pub struct Lake {
    root: PathBuf,
    /// Keeps the lock.
    _lock: File,
    pipeline: String,
    next_part: u64,
    /// Number of days whose exchange a killed run had begun and this one completed.
    finished: usize,
    /// Directories whose entries have changed since their last sync.
    dirty: BTreeSet<PathBuf>,
}

/// Removes what a failed run leaves, which would otherwise fill the disk until the next run.
impl Drop for Lake {
    fn drop(&mut self) {
        // The next run removes what is left.
        let _ = self.remove_orphans();
        let _ = Exchange::left(&self.root);
    }
}

impl Lake {
    /// Opens or creates the directory, locks it, and completes or removes what a killed run left. Errors: exit status 75 if
    /// another run has it.
    pub fn open(root: &Path, pipeline: &str) -> Result<Self> {
        let hidden = root.join(".evt");
        durable::create_directories(&hidden).map_err(|e| failed(root, "cannot make the directory", &e))?;
        let path = hidden.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|e| failed(&path, "cannot open", &e))?;
        take_lock(&lock, root)?;
        remove_trials(&hidden);
        let left = Exchange::left(root)?;
        let finished = left.as_ref().map_or(0, Exchange::days);
        left.map_or(Ok(()), Exchange::finish)?;
        let pipeline = format!("{:016x}", xxh3_64(pipeline.as_bytes()));
        let lake =
            Self { root: root.to_owned(), _lock: lock, pipeline, next_part: 0, finished, dirty: BTreeSet::new() };
        lake.remove_orphans()?;
        Ok(lake)
    }

    /// Checks that it could be opened, without creating anything.
    pub fn check(root: &Path) -> Result<()> {
        let hidden = root.join(".evt");
        let what = if hidden.exists() { "cannot write" } else { "cannot make the directory" };
        room::for_directory(&hidden).map_err(|e| failed(root, what, &e))?;
        match File::open(hidden.join("lock")) {
            Ok(lock) => take_lock(&lock, root),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(root, "cannot lock", &error)),
        }
    }

    /// Returns the directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn hidden(&self, name: &str) -> PathBuf {
        self.root.join(".evt").join(name)
    }

    fn remove_orphans(&self) -> Result<()> {
        let hidden = self.root.join(".evt");
        let mut parts = Vec::new();
        let mut prepared = BTreeSet::new();
        for entry in entries(&hidden)? {
            match entry.extension().and_then(|extension| extension.to_str()) {
                Some("part") => parts.push(entry),
                Some("prepared") => {
                    let parts: Option<Vec<LakePart>> = read_json(&entry)?;
                    prepared.extend(parts.into_iter().flatten().map(|part| part.part));
                }
                _ => {}
            }
        }
        for part in parts {
            let name = part.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !prepared.contains(name) {
                fs::remove_file(&part).map_err(|e| failed(&part, "cannot remove", &e))?;
            }
        }
        Ok(())
    }

    /// Creates a part; returns its name and file.
    pub fn create_part(&mut self) -> Result<(String, File)> {
        loop {
            let name = format!("{}.part", self.next_part);
            self.next_part += 1;
            let path = self.hidden(&name);
            match OpenOptions::new().create_new(true).write(true).open(&path) {
                Ok(file) => return Ok((name, file)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&path, "cannot create", &error)),
            }
        }
    }

    /// Returns the directory of a day.
    pub fn day(&self, day: i64) -> PathBuf {
        self.root.join(day_name(day))
    }

    /// Returns the path of a complete file.
    pub fn file(&self, day: i64, name: &str) -> PathBuf {
        self.day(day).join(format!("{name}.{EXTENSION}"))
    }

    /// Returns the names of the complete files of a day.
    pub fn names(&self, day: i64) -> Result<BTreeSet<String>> {
        let files = entries(&self.day(day))?;
        let stems = files.iter().filter(|path| is_whole(path)).filter_map(|path| path.file_stem()?.to_str());
        Ok(stems.map(str::to_owned).collect())
    }

    /// Renames a part to its final name. A part that no longer exists has been published.
    pub fn publish(&mut self, part: &LakePart) -> Result<Published> {
        let from = self.hidden(&part.part);
        let target = self.file(part.day, &part.name);
        let there = target.exists();
        if there && (!part.replace || !from.exists()) {
            remove_if_there(&from)?;
            return Ok(Published::Present);
        }
        let directory = self.day(part.day);
        if !directory.exists() {
            fs::create_dir(&directory).map_err(|e| failed(&directory, "cannot make the directory", &e))?;
            self.dirty.insert(self.root.clone());
        }
        fs::rename(&from, &target).map_err(|e| failed(&target, "cannot rename into place", &e))?;
        self.dirty.insert(directory);
        Ok(if there { Published::Replaced } else { Published::New })
    }

    /// Returns the number of days whose exchange a killed run had begun and this one completed.
    pub fn finished(&self) -> usize {
        self.finished
    }

    /// Replaces each day by its parts, which must be synced; a day without parts becomes empty.
    pub fn replace(&self, days: &BTreeMap<i64, Vec<LakePart>>) -> Result<()> {
        let mut staged = Staged::new(&self.root)?;
        for (day, parts) in days {
            let version = staged.add(*day)?;
            for part in parts {
                let (from, to) = (self.hidden(&part.part), version.join(format!("{}.{EXTENSION}", part.name)));
                fs::rename(&from, &to).map_err(|e| failed(&to, "cannot rename into place", &e))?;
            }
        }
        staged.begin()?.finish()
    }

    /// Makes the bytes of `parts` durable before they are renamed. Parts whose rows exist already are not needed.
    pub fn sync_parts(&self, parts: &[LakePart]) -> Result<()> {
        let new = parts.iter().filter(|part| part.replace || !self.file(part.day, &part.name).exists());
        sync_each(&self.root, new.map(|part| self.hidden(&part.part)).collect())
    }

    /// Makes renames and removals durable.
    pub fn sync_names(&mut self) -> Result<()> {
        sync_each(&self.root, std::mem::take(&mut self.dirty).into_iter().collect())
    }

    /// Records `parts` as those of `epoch`.
    pub fn write_prepared(&self, epoch: Epoch, parts: &[LakePart]) -> Result<()> {
        self.write_json(&self.manifest(epoch), &parts)
    }

    /// Returns the parts prepared for `epoch`, by this process or by one that died.
    pub fn prepared(&self, epoch: Epoch) -> Result<Vec<LakePart>> {
        Ok(read_json(&self.hidden(&self.manifest(epoch)))?.unwrap_or_default())
    }

    fn manifest(&self, epoch: Epoch) -> String {
        format!("{}-{}-{}.prepared", self.pipeline, epoch.run, epoch.number)
    }

    /// Records that `epoch` is committed.
    pub fn write_committed(&self, epoch: Epoch) -> Result<()> {
        self.write_json(&format!("{}.committed", self.pipeline), &(epoch.run, epoch.number))?;
        remove_if_there(&self.hidden(&self.manifest(epoch)))
    }

    /// Returns the last epoch committed.
    pub fn committed(&self) -> Result<Option<Epoch>> {
        let found: Option<(u64, u64)> = read_json(&self.hidden(&format!("{}.committed", self.pipeline)))?;
        Ok(found.map(|(run, number)| Epoch { run, number }))
    }

    fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        write_json(&self.hidden(name), value)
    }
}

/// Locks a lake until `lock` is closed. Errors: exit status 75 if another run has it.
fn take_lock(lock: &File, root: &Path) -> Result<()> {
    match flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error::new(ErrorKind::Fenced, format!("parquet:{}: another run is writing here", root.display())))
        }
        Err(errno) => Err(failed(root, "cannot lock", &errno.into())),
    }
}
