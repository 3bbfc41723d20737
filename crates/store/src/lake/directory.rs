//! The directory of a lake.
//!
//! ```text
//! DIR/date=2024-01-15/0f3c….parquet    complete files only, named by a digest of their rows' keys
//! DIR/.evt/lock                        locked (flock) by the writing run; a second one exits with status 75. A run
//!                                      with a checkpoint locks it for each commit only
//! DIR/.evt                             locked by a run while it renames complete files or exchanges days
//! DIR/.evt/correct                     locked by the run that corrects metrics; holds its parts
//! DIR/.evt/NAME.part                   files being written; readers skip the directory, which begins with a dot
//! DIR/.evt/KEY.committed               the last epoch committed, and the files whose rows wait (module `waiting`)
//! DIR/.evt/KEY-R-N.rows                rows of a committed epoch that do not show yet
//! DIR/.evt/progress/KEY.json           how far the metrics of a pipeline are, once their rows are visible
//! DIR/.evt/next, DIR/.evt/exchange.json  days that get a new version (mode=replace): see the module `exchange`
//! ```
//!
//! A part is synced, then renamed into place, then the directories are synced: a file exists completely or not at all.
//! Parts and unfinished JSON files of a run that has ended are useless: a run that fails removes them, or the next run
//! if it was killed.

use crate::lake::disk::{EXTENSION, LakeDir, day_name, entries, failed, is_directory, is_whole, read_json};
use crate::lake::exchange::{Exchange, Staged, remove_trials};
use crate::lake::extents::Extents;
use crate::lake::waiting::{CommittedEpochs, WaitingFile};
use crate::progress::{KeptProgress, NotedMetrics, PipelineMetrics, from_json};
use arrow::datatypes::SchemaRef;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::format::parquet::TableColumns;
use evt_core::parallel::Parallelism;
use evt_run::checkpoint::epoch::Epoch;
use evt_run::client::Location;
use evt_run::storage::access;
use evt_run::storage::disk::{Disk, DiskFile, LOCK_WAIT, found, lock_within};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// The directory of a correction below `.evt`.
pub const CORRECTION: &str = "correct/";

/// The scheme of its URIs.
pub const SCHEME: &str = "parquet";
/// The options of its URIs.
pub const OPTIONS: [&str; 5] = ["columns", "mode", "roll", "shrink", "table"];

/// Returns the directory in a URI. Errors: exit status 2 for an unknown option.
pub fn root(location: &Location) -> Result<PathBuf> {
    location.check_options(SCHEME, &OPTIONS)?;
    if location.path.is_empty() {
        return Err(Error::usage("parquet: expected parquet:DIR, found no directory"));
    }
    Ok(PathBuf::from(&location.path))
}

/// Whether rows of the epochs that an output has committed do not show yet.
pub fn waits(location: &Location, pipeline: &str) -> Result<bool> {
    let dir = LakeDir { root: root(location)?, disk: Disk::default() };
    let committed: Option<CommittedEpochs> = read_json(&dir.hidden(&committed_name(&pipeline_id(pipeline))))?;
    Ok(committed.is_some_and(|committed| !committed.waiting.is_empty()))
}

/// Returns the name of an output in the names of its files.
pub fn pipeline_id(pipeline: &str) -> String {
    format!("{:016x}", xxh3_64(pipeline.as_bytes()))
}

fn committed_name(pipeline_id: &str) -> String {
    format!("{pipeline_id}.committed")
}

/// The directory of the files about metrics.
const PROGRESS: &str = "progress";

/// Returns what a lake has recorded of these metrics.
pub fn kept_metrics(root: &Path, metrics: &[String]) -> Result<Vec<KeptProgress>> {
    let mut kept = vec![];
    for file in progress_files(root)? {
        let of_metrics = metrics.iter().filter_map(|name| file.metrics.get(name).and_then(from_json));
        kept.extend(of_metrics.map(|metric| KeptProgress { pipeline: file.pipeline.clone(), metric }));
    }
    Ok(kept)
}

/// Reads what a lake has recorded of the metrics of a pipeline. Errors: exit status 65 if it is damaged.
fn read_progress(path: &Path) -> Result<Option<PipelineMetrics>> {
    read_json(path).map_err(|error| match error.kind() {
        ErrorKind::Corrupt => {
            let message = "damaged; it says how far the metrics of a pipeline are: restore it, or move it away, and give \
                           evt-backfill --out-of-orderness, without which it changes no row for late events then";
            Error::corrupt(message).because(error.cause().unwrap_or_default()).at(path.display().to_string())
        }
        _ => error,
    })
}

/// Returns what a lake has recorded of the metrics of each pipeline.
fn progress_files(root: &Path) -> Result<Vec<PipelineMetrics>> {
    let mut files = vec![];
    for path in entries(&root.join(".evt").join(PROGRESS))? {
        // A killed run may leave a file that is not complete.
        if path.extension().is_some_and(|extension| extension == "json") {
            files.extend(read_progress(&path)?);
        }
    }
    Ok(files)
}

/// A finished file without its final name.
#[derive(Clone, Debug)]
pub struct LakePart {
    /// Its name under `.evt`.
    pub part: String,
    /// The day of its rows (days since 1970).
    pub day: i64,
    /// Its final name.
    pub name: String,
    /// Whether it replaces a file of that name; otherwise the file stays, because it holds the same rows.
    pub replace: bool,
    /// Its rows, which are counted as inserted.
    pub inserted: u64,
    /// The positions of its rows.
    pub extents: Extents,
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

/// A lake open for writing.
pub struct Lake {
    /// The directory.
    pub dir: LakeDir,
    /// Keeps the lock of those that write; `None` between two commits.
    lock: Option<File>,
    /// The directory of its parts below `.evt`, with a slash; empty for `.evt` itself.
    parts: &'static str,
    pipeline: String,
    next_part: u64,
    /// Number of days whose exchange a killed run had begun and this one completed.
    pub finished: usize,
    /// Directories whose entries have changed since their last sync, or may have been changed by a killed run.
    dirty: BTreeSet<PathBuf>,
    /// The days on which this run has relied ([`Lake::rely_on`]).
    found: BTreeSet<i64>,
    /// How its files are encoded.
    pub parallelism: Parallelism,
    /// The schema of its files, if it is not that of their kind: with the numbers of a table's columns.
    pub columns: Option<SchemaRef>,
    /// The columns that properties have in the table of its files.
    pub table: Option<TableColumns>,
}

/// Removes the files that a failed run leaves, which would otherwise fill the disk until the next run.
impl Drop for Lake {
    fn drop(&mut self) {
        // The next run removes what is left. Without the lock, parts are those of another run.
        if self.lock.is_some()
            && let Ok(_names) = self.lock_names()
        {
            let _ = self.remove_orphans();
            let _ = Exchange::left(&self.dir);
        }
    }
}

impl Lake {
    /// Opens or creates the directory, locks it, and completes or removes what a killed run left. Errors: exit status
    /// 75 if another run has it.
    pub fn open(root: &Path, pipeline: &str, disk: Disk) -> Result<Self> {
        let mut lake = Self::create(root, pipeline, disk)?;
        lake.lock_within(START_WAIT)?;
        Ok(lake)
    }

    /// Waits for the lock, and completes or removes what a killed run left. Errors: exit status 75 if another run has
    /// it for long.
    pub fn lock(&mut self) -> Result<()> {
        self.lock_within(LOCK_WAIT)
    }

    /// Releases the lock. Every part is published or removed.
    pub fn unlock(&mut self) {
        self.lock = None;
    }

    /// Opens or creates the directory, and does not lock it ([`Lake::lock`]).
    pub fn create(root: &Path, pipeline: &str, disk: Disk) -> Result<Self> {
        let dir = LakeDir { root: root.to_owned(), disk };
        dir.disk.create_directories(&root.join(".evt")).map_err(failed(root, "cannot make the directory"))?;
        Ok(Self::of(dir, "", pipeline_id(pipeline)))
    }

    fn of(dir: LakeDir, parts: &'static str, pipeline: String) -> Self {
        let (dirty, found) = (BTreeSet::new(), BTreeSet::new());
        Self {
            dir,
            lock: None,
            parts,
            pipeline,
            next_part: 0,
            finished: 0,
            dirty,
            found,
            parallelism: Parallelism::default(),
            columns: None,
            table: None,
        }
    }

    /// Takes the lock and keeps it; completes or removes what a killed run left.
    fn lock_within(&mut self, limit: Duration) -> Result<()> {
        let path = self.dir.hidden("lock");
        let lock = self.dir.disk.open(&path, OpenOptions::new().create(true).truncate(false).write(true));
        let lock = lock.map_err(failed(&path, "cannot open"))?.file;
        take_lock(&lock, &self.dir.root, limit)?;
        self.lock = Some(lock);
        remove_trials(&self.dir.root.join(".evt"));
        let _names = lock_names(&self.dir)?;
        self.finished += finish_exchange(&self.dir)?;
        self.remove_orphans()
    }

    /// Opens it to change it beside a run that writes, with parts in a directory below `.evt`, whose name ends with a
    /// slash. Errors: exit status 75 if another run has that directory.
    pub fn open_beside(root: &Path, parts: &'static str, disk: Disk) -> Result<Self> {
        let dir = LakeDir { root: root.to_owned(), disk };
        let own = dir.hidden(parts);
        dir.disk.create_directories(&own).map_err(failed(root, "cannot make the directory"))?;
        let lock = File::open(&own).map_err(failed(&own, "cannot open"))?;
        take_lock(&lock, root, START_WAIT)?;
        let names = lock_names(&dir)?;
        let finished = finish_exchange(&dir)?;
        let mut lake = Self::of(dir, parts, String::new());
        (lake.lock, lake.finished) = (Some(lock), finished);
        let removed = lake.remove_orphans();
        drop(names);
        removed.map(|()| lake)
    }

    /// Waits for the right to rename complete files, and keeps it until the result is dropped. Errors: exit status 75
    /// if another run keeps it for long.
    pub fn lock_names(&self) -> Result<NamesLock> {
        lock_names(&self.dir)
    }

    /// Checks that it could be opened, without creating anything.
    pub fn check(root: &Path) -> Result<()> {
        let hidden = root.join(".evt");
        let what = if hidden.exists() { "cannot write" } else { "cannot make the directory" };
        let room = access::check_directory(&hidden).and_then(|()| access::create_trial(&hidden));
        room.map_err(failed(root, what))?;
        match found(File::open(hidden.join("lock"))).map_err(failed(root, "cannot lock"))? {
            Some(lock) => take_lock(&lock, root, START_WAIT),
            None => Ok(()),
        }
    }

    /// Removes the parts of killed runs.
    fn remove_orphans(&self) -> Result<()> {
        for entry in entries(&self.dir.root.join(".evt").join(self.parts))? {
            if entry.extension().is_some_and(|extension| extension == "part" || extension == "new") {
                self.dir.remove(&entry, fs::remove_file)?;
            }
        }
        Ok(())
    }

    /// Creates a part; returns its name and file.
    pub fn create_part(&mut self) -> Result<(String, DiskFile)> {
        loop {
            let name = format!("{}{}.part", self.parts, self.next_part);
            self.next_part += 1;
            let path = self.dir.hidden(&name);
            match self.dir.disk.open(&path, OpenOptions::new().create_new(true).write(true)) {
                Ok(file) => return Ok((name, file)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&path, "cannot create")(error)),
            }
        }
    }

    /// Returns the directory of a day.
    pub fn day(&self, day: i64) -> PathBuf {
        self.dir.root.join(day_name(day))
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

    /// Makes the files of a day durable with the next sync of names, if this run finds them there: a run that was
    /// killed may have renamed them and not synced their names.
    pub fn rely_on(&mut self, day: i64) {
        let directory = self.day(day);
        if self.found.insert(day) && directory.exists() {
            self.dirty.extend([directory, self.dir.root.clone()]);
        }
    }

    /// Renames a part to its final name. A part that no longer exists has been published.
    pub fn publish(&mut self, part: &LakePart) -> Result<Published> {
        self.rely_on(part.day);
        let from = self.dir.hidden(&part.part);
        let target = self.file(part.day, &part.name);
        let there = target.exists();
        if there && (!part.replace || !from.exists()) {
            self.remove_hidden(&part.part)?;
            return Ok(Published::Present);
        }
        let directory = self.day(part.day);
        if !directory.exists() {
            self.dir.create_dir(&directory)?;
            self.dirty.insert(self.dir.root.clone());
        }
        self.dir.rename(&from, &target)?;
        self.dirty.insert(directory);
        Ok(if there { Published::Replaced } else { Published::New })
    }

    /// Undoes [`Lake::publish`] of a new file: it is a part again.
    pub fn withdraw(&self, part: &LakePart) -> Result<()> {
        self.dir.rename(&self.file(part.day, &part.name), &self.dir.hidden(&part.part))
    }

    /// Replaces each day by its parts, which must be synced. The caller holds the lock of names; a day without parts
    /// becomes empty.
    pub fn replace(&self, days: &BTreeMap<i64, Vec<LakePart>>) -> Result<()> {
        let mut staged = Staged::new(&self.dir)?;
        for (day, parts) in days {
            let version = staged.add(*day)?;
            for part in parts {
                let to = version.join(format!("{}.{EXTENSION}", part.name));
                self.dir.rename(&self.dir.hidden(&part.part), &to)?;
            }
        }
        staged.begin()?.finish()
    }

    /// Makes the bytes of `parts` durable before they are renamed. Parts whose rows exist already are not needed.
    pub fn sync_parts(&self, parts: &[LakePart]) -> Result<()> {
        let new = parts.iter().filter(|part| part.replace || !self.file(part.day, &part.name).exists());
        self.dir.sync_each(&Vec::from_iter(new.map(|part| self.dir.hidden(&part.part))))
    }

    /// Makes renames and removals durable.
    pub fn sync_names(&mut self) -> Result<()> {
        self.dir.sync_each(&Vec::from_iter(std::mem::take(&mut self.dirty)))
    }

    fn last_committed(&self) -> PathBuf {
        self.dir.hidden(&committed_name(&self.pipeline))
    }

    /// Stores the committed epochs.
    pub fn write_committed(&self, committed: &CommittedEpochs) -> Result<()> {
        self.dir.write_json(&self.last_committed(), committed)
    }

    /// Returns the committed epochs; none if none were stored.
    pub fn committed(&self) -> Result<CommittedEpochs> {
        Ok(read_json(&self.last_committed())?.unwrap_or_default())
    }

    /// Returns the name of the hidden file with the rows of an epoch that wait.
    pub fn waiting_file(&self, epoch: Epoch) -> WaitingFile {
        WaitingFile::new(&self.dir, format!("{}-{epoch}.rows", self.pipeline))
    }

    /// Removes the rows that waited and do so no longer. The lake is locked.
    pub fn remove_shown(&self, committed: &CommittedEpochs) -> Result<()> {
        for path in entries(&self.dir.root.join(".evt"))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_own = name.ends_with(".rows") && name.starts_with(&format!("{}-", self.pipeline));
            if is_own && !committed.waiting.iter().any(|file| file.name == name) {
                self.remove_hidden(name)?;
            }
        }
        Ok(())
    }

    /// Keeps what was noted of metrics in `.evt/progress/ID.json` ([`PipelineMetrics::changed`]).
    pub fn keep_metrics(&self, pipeline: &str, noted: &NotedMetrics, are_visible: bool) -> Result<()> {
        let changed = PipelineMetrics::changed(&progress_files(&self.dir.root)?, pipeline, noted, are_visible);
        let directory = self.dir.hidden(PROGRESS);
        if !changed.is_empty() && !is_directory(&directory)? {
            self.dir.create_dir(&directory)?;
        }
        changed.iter().try_for_each(|file| {
            let path = directory.join(format!("{}.json", pipeline_id(&file.pipeline)));
            self.dir.write_json(&path, file)
        })
    }

    /// Removes a file in the hidden directory; it need not exist.
    pub fn remove_hidden(&self, name: &str) -> Result<()> {
        self.dir.remove(&self.dir.hidden(name), fs::remove_file)
    }
}

/// The right to rename complete files.
pub struct NamesLock {
    /// Keeps the lock.
    _lock: File,
}

/// How long a run waits that begins beside another one. A run without a checkpoint keeps its lock until its end.
const START_WAIT: Duration = Duration::from_secs(5);

fn lock_names(dir: &LakeDir) -> Result<NamesLock> {
    let path = dir.root.join(".evt");
    let lock = File::open(&path).map_err(failed(&path, "cannot open"))?;
    take_lock(&lock, &dir.root, LOCK_WAIT).map(|()| NamesLock { _lock: lock })
}

/// Completes an exchange that a killed run had begun; returns the number of its days. The caller holds the lock of
/// names.
fn finish_exchange(dir: &LakeDir) -> Result<usize> {
    let left = Exchange::left(dir)?;
    let finished = left.as_ref().map_or(0, Exchange::days);
    left.map_or(Ok(()), Exchange::finish)?;
    Ok(finished)
}

/// Locks a lake until `lock` is closed. Errors: exit status 75 if another run keeps it for `limit`.
fn take_lock(lock: &File, root: &Path, limit: Duration) -> Result<()> {
    match lock_within(lock, limit) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(Error::new(ErrorKind::InUse, format!("parquet:{}: another run is writing here", root.display())))
        }
        Err(errno) => Err(failed(root, "cannot lock")(errno.into())),
    }
}
