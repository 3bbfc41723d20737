//! Replaces days of a lake by new versions, all days of a run together.
//!
//! ```text
//! DIR/.evt/next/date=2024-01-15/       the new version of a day; after the exchange the old one
//! DIR/.evt/next/date=2024-01-15/.new   marks a new version, in either place
//! DIR/.evt/exchange.json               the manifest: the days that are being exchanged
//! ```
//!
//! 1. The run fills, marks and syncs the new versions.
//! 2. It writes and syncs the manifest. From here on this run will complete the exchange or, if it is killed, the next
//!    run that opens the lake.
//! 3. It exchanges each day and its new version in one call (renameat2 with RENAME_EXCHANGE), or renames a new day into
//!    place. A version under `next` without a mark is an old one, so its day is done. It syncs all names.
//! 4. It rewrites the manifest, which now states that all days are exchanged.
//! 5. It removes the old versions, then the marks, and syncs that. It removes the manifest last.
//!
//! Each step may be repeated. A reader that lists a day gets one version of it.
//!
//! An exchange moves the entry of a day, not what it leads to: a link would go to `next`, and a mount point cannot be
//! moved. [`check_day`] rejects them before the manifest is written. If a day cannot be exchanged for another reason,
//! the run exchanges the others back and removes the manifest.

use crate::lake::disk::{LakeDir, day_name, entries, failed, found, is_whole, read_json};
use evt_core::error::{Error, Result};
use evt_run::storage::{access, disk};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The hidden directory of new versions.
const NEXT: &str = "next";
/// The hidden file with the manifest.
const MANIFEST: &str = "exchange.json";
/// The name of the mark of a new version.
const MARK: &str = ".new";
/// Prefix of a directory in which an exchange is tried.
const TRIAL: &str = ".exchange-";

/// The manifest of an exchange.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// Whether all days are exchanged, so that versions under `next` are old.
    exchanged: bool,
    /// Days since 1970.
    days: Vec<i64>,
}

/// An exchange in progress, which is done in steps.
#[derive(Debug)]
pub struct Exchange {
    dir: LakeDir,
    manifest: Manifest,
    /// Number of days done in the present half (exchange or removal).
    done: usize,
}

/// New versions that are not in a manifest yet.
pub struct Staged {
    dir: LakeDir,
    days: Vec<i64>,
    /// Paths to sync before the manifest is written.
    unsynced: Vec<PathBuf>,
}

impl Staged {
    /// Begins without days.
    pub fn new(dir: &LakeDir) -> Result<Self> {
        let next = dir.hidden(NEXT);
        dir.create_dir(&next)?;
        Ok(Self { dir: dir.clone(), days: vec![], unsynced: vec![next] })
    }

    /// Creates the empty directory of the new version of `day`. Errors: exit status 78 if the day cannot be exchanged.
    pub fn add(&mut self, day: i64) -> Result<PathBuf> {
        check_day(&self.dir, day)?;
        let version = self.dir.hidden(NEXT).join(day_name(day));
        self.dir.create_dir(&version)?;
        let mark = version.join(MARK);
        let created = self.dir.disk.open(&mark, OpenOptions::new().write(true).create(true));
        created.map_err(failed(&mark, "cannot create"))?;
        self.days.push(day);
        self.unsynced.extend([mark, version.clone()]);
        Ok(version)
    }

    /// Syncs all versions and writes the manifest.
    pub fn begin(self) -> Result<Exchange> {
        let Self { dir, days, unsynced } = self;
        dir.sync_each(&unsynced)?;
        let exchange = Exchange { dir, manifest: Manifest { exchanged: false, days }, done: 0 };
        exchange.write_manifest()?;
        Ok(exchange)
    }
}

impl Exchange {
    /// Returns the exchange that a killed run has begun, if there is one; removes versions without a manifest.
    pub fn left(dir: &LakeDir) -> Result<Option<Self>> {
        if let Some(manifest) = read_json(&dir.hidden(MANIFEST))? {
            return Ok(Some(Self { dir: dir.clone(), manifest, done: 0 }));
        }
        dir.remove(&dir.hidden(NEXT), fs::remove_dir_all).map(|()| None)
    }

    /// Returns the number of its days.
    pub fn days(&self) -> usize {
        self.manifest.days.len()
    }

    /// Does all remaining steps.
    pub fn finish(mut self) -> Result<()> {
        while self.step()? {}
        Ok(())
    }

    /// Does the next step; returns false if it was the last. If a day cannot be exchanged, no day stays exchanged.
    pub fn step(&mut self) -> Result<bool> {
        let next_day = self.manifest.days.get(self.done).copied();
        match (next_day, self.manifest.exchanged) {
            (Some(day), false) => self.exchange(day).inspect_err(|_| {
                // A manifest that stays would make every later run fail at this step.
                let _ = self.undo();
            })?,
            (Some(day), true) => self.tidy(day)?,
            (None, false) => {
                self.dir.sync_each(&[self.dir.root.clone(), self.dir.hidden(NEXT)])?;
                (self.manifest.exchanged, self.done) = (true, 0);
                return self.write_manifest().map(|()| true);
            }
            (None, true) => return self.end().map(|()| false),
        }
        self.done += 1;
        Ok(true)
    }

    fn exchange(&self, day: i64) -> Result<()> {
        let (place, version) = self.paths(day);
        match found(&version.join(MARK))? {
            Some(_) => self.exchange_or_move(&version, &place),
            None => Ok(()),
        }
    }

    /// Exchanges `from` and `to`, or renames `from` if `to` does not exist.
    fn exchange_or_move(&self, from: &Path, to: &Path) -> Result<()> {
        if found(to)?.is_none() {
            return self.dir.rename(from, to);
        }
        self.dir.disk.change(|| exchange(from, to)).map_err(failed(to, "cannot exchange"))
    }

    /// Exchanges back the days that are exchanged, and removes the manifest.
    fn undo(&self) -> Result<()> {
        for day in &self.manifest.days {
            let (place, version) = self.paths(*day);
            if found(&place.join(MARK))?.is_some() {
                self.exchange_or_move(&place, &version)?;
            }
        }
        self.dir.sync_each(&[self.dir.root.clone(), self.dir.hidden(NEXT)])?;
        self.dir.remove(&self.dir.hidden(MANIFEST), fs::remove_file)?;
        self.sync_hidden()
    }

    /// Removes the old version of a day, then the mark. Files that are not the lake's are moved to the new version.
    fn tidy(&self, day: i64) -> Result<()> {
        let (place, version) = self.paths(day);
        for path in entries(&version)? {
            if is_whole(&path) {
                self.dir.remove(&path, fs::remove_file)?;
            } else if let Some(name) = path.file_name() {
                self.dir.rename(&path, &place.join(name))?;
            }
        }
        self.dir.remove(&version, fs::remove_dir)?;
        self.dir.remove(&place.join(MARK), fs::remove_file)?;
        if entries(&place)?.is_empty() { self.dir.remove(&place, fs::remove_dir) } else { Ok(()) }
    }

    fn end(&self) -> Result<()> {
        // A mark that reappeared after a power failure would make an old version look new.
        let places = self.manifest.days.iter().map(|day| self.paths(*day).0).filter(|place| place.exists());
        self.dir.sync_each(&Vec::from_iter(places.chain([self.dir.root.clone()])))?;
        self.dir.remove(&self.dir.hidden(MANIFEST), fs::remove_file)?;
        self.dir.remove(&self.dir.hidden(NEXT), fs::remove_dir)?;
        self.sync_hidden()
    }

    fn sync_hidden(&self) -> Result<()> {
        let hidden = hidden(&self.dir.root);
        self.dir.disk.sync_directory(&hidden).map_err(failed(&hidden, "cannot sync"))
    }

    fn paths(&self, day: i64) -> (PathBuf, PathBuf) {
        let name = day_name(day);
        (self.dir.root.join(&name), self.dir.hidden(NEXT).join(name))
    }

    fn write_manifest(&self) -> Result<()> {
        self.dir.write_json(&self.dir.hidden(MANIFEST), &self.manifest)
    }
}

/// Checks that a day of a lake is a directory that can be exchanged, if it exists. Errors: exit status 78 if it is a
/// link, or on another file system.
pub fn check_day(dir: &LakeDir, day: i64) -> Result<()> {
    let (place, hidden) = (dir.root.join(day_name(day)), hidden(&dir.root));
    let entry = disk::found(fs::symlink_metadata(&place)).map_err(failed(&place, "cannot read"))?;
    let Some(entry) = entry else { return Ok(()) };
    let lake = fs::metadata(&hidden).map_err(failed(&hidden, "cannot read"))?;
    let what = match entry.file_type() {
        kind if kind.is_symlink() => "a symbolic link",
        kind if !kind.is_dir() => "no directory",
        _ if entry.dev() != lake.dev() => "another file system",
        _ => return Ok(()),
    };
    let place = place.display();
    let message =
        format!("parquet:{place}: cannot be replaced: expected a directory on the disk of the lake, found {what}");
    Err(Error::config(message))
}

/// Checks that the file system of a lake can exchange two directories, by trying it in a directory that is removed
/// again. Errors: exit status 78 if it cannot.
pub fn check(root: &Path) -> Result<()> {
    let mut place = hidden(root);
    while !place.exists() && place != access::parent(&place) {
        place = access::parent(&place).to_owned();
    }
    remove_trials(&place);
    let tried = || {
        let trial = Trial::new(&place)?;
        let [left, right] = ["left", "right"].map(|name| trial.directory.path().join(name));
        fs::create_dir(&left)?;
        fs::create_dir(&right)?;
        exchange(&left, &right)
    };
    tried().map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            let message = "mode=replace requires a file system that can exchange two directories";
            Error::config(format!("parquet:{}: {message}", root.display()))
        }
        _ => failed(root, "cannot exchange two directories")(error),
    })
}

/// A directory in which an exchange is tried. It is locked against other runs, and removed at the end.
struct Trial {
    directory: TempDir,
    /// Keeps the lock.
    _lock: File,
}

impl Trial {
    fn new(place: &Path) -> std::io::Result<Self> {
        loop {
            let directory = tempfile::Builder::new().prefix(TRIAL).tempdir_in(place)?;
            let lock = match File::open(directory.path()) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                lock => lock?,
            };
            // If directories cannot be locked, no run removes any.
            let is_taken = flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK);
            // Before this run locked it, another run may have removed it as the directory of a killed run.
            if !is_taken && directory.path().exists() {
                return Ok(Self { directory, _lock: lock });
            }
        }
    }
}

/// Removes trial directories of killed runs, which are not locked. One that cannot be removed is harmless.
pub fn remove_trials(place: &Path) {
    let is_trial = |path: &&PathBuf| path.file_name().is_some_and(|name| name.as_bytes().starts_with(TRIAL.as_bytes()));
    for trial in entries(place).unwrap_or_default().iter().filter(is_trial) {
        let Ok(lock) = File::open(trial) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(trial);
        }
    }
}

fn exchange(left: &Path, right: &Path) -> std::io::Result<()> {
    Ok(renameat_with(CWD, left, CWD, right, RenameFlags::EXCHANGE)?)
}

fn hidden(root: &Path) -> PathBuf {
    root.join(".evt")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::directory::Lake;
    use evt_run::storage::disk::{Disk, DiskFault};
    use std::collections::BTreeMap;

    fn lake(root: &Path) -> LakeDir {
        LakeDir { root: root.to_owned(), disk: Disk::default() }
    }

    /// Every file and directory below `root` with its text, except the lock.
    fn tree(root: &Path) -> BTreeMap<String, Option<String>> {
        let mut found = BTreeMap::new();
        let mut waiting = vec![root.to_owned()];
        while let Some(directory) = waiting.pop() {
            for path in entries(&directory).unwrap() {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                if path.is_dir() {
                    waiting.push(path);
                    found.insert(name, None);
                } else if name != ".evt/lock" && name != ".evt/names.lock" {
                    found.insert(name, Some(fs::read_to_string(&path).unwrap()));
                }
            }
        }
        found
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for path in entries(from).unwrap() {
            let target = to.join(path.file_name().unwrap());
            if path.is_dir() {
                copy(&path, &target);
            } else {
                fs::copy(&path, target).unwrap();
            }
        }
    }

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Four days: one that shrinks and also has files that are not a lake's, one whose file keeps its name, one that is
    /// new, one that becomes empty; and a fifth one that is not exchanged.
    fn staged(root: &Path) -> Staged {
        fs::create_dir_all(hidden(root)).unwrap();
        for (name, text) in [("02/a.parquet", "a"), ("02/b.parquet", "b"), ("02/notes.txt", "n"), ("02/sub/x", "x")] {
            write(root, &format!("date=1970-01-{name}"), text);
        }
        write(root, "date=1970-01-03/c.parquet", "old");
        write(root, "date=1970-01-05/d.parquet", "d");
        write(root, "date=1970-01-06/e.parquet", "e");
        let mut staged = Staged::new(&lake(root)).unwrap();
        for (day, names) in [(1, &["n"][..]), (2, &["c"]), (3, &["f", "g"]), (4, &[])] {
            let version = staged.add(day).unwrap();
            names.iter().for_each(|name| fs::write(version.join(format!("{name}.parquet")), "new").unwrap());
        }
        staged
    }

    fn expected() -> BTreeMap<String, Option<String>> {
        let text = |text: &str| Some(text.to_owned());
        let files = [
            (".evt", None),
            ("date=1970-01-02", None),
            ("date=1970-01-02/n.parquet", text("new")),
            ("date=1970-01-02/notes.txt", text("n")),
            ("date=1970-01-02/sub", None),
            ("date=1970-01-02/sub/x", text("x")),
            ("date=1970-01-03", None),
            ("date=1970-01-03/c.parquet", text("new")),
            ("date=1970-01-04", None),
            ("date=1970-01-04/f.parquet", text("new")),
            ("date=1970-01-04/g.parquet", text("new")),
            ("date=1970-01-06", None),
            ("date=1970-01-06/e.parquet", text("e")),
        ];
        files.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
    }

    #[test]
    fn an_exchange_that_is_killed_after_any_step_is_finished_by_the_next_run_whatever_kills_that_one() {
        let mut steps = 0;
        for killed in 0.. {
            let directory = tempfile::tempdir().unwrap();
            let mut exchange = staged(directory.path()).begin().unwrap();
            let is_over = (0..killed).any(|_| !exchange.step().unwrap());
            for again in 0..=12 {
                let image = tempfile::tempdir().unwrap();
                copy(directory.path(), image.path());
                if let Some(mut left) = Exchange::left(&lake(image.path())).unwrap() {
                    let _ = (0..again).any(|_| !left.step().unwrap());
                }
                drop(Lake::open(image.path(), "p", Disk::default()).unwrap());
                assert_eq!(tree(image.path()), expected(), "killed after {killed} and then {again} steps");
            }
            if is_over {
                steps = killed;
                break;
            }
        }
        assert_eq!(steps, 4 + 1 + 4 + 1);
    }

    #[test]
    fn an_exchange_that_fails_at_any_day_leaves_all_days_as_they_were() {
        for after in 0..4 {
            let directory = tempfile::tempdir().unwrap();
            let mut exchange = staged(directory.path()).begin().unwrap();
            let before = tree(directory.path());
            let fault = DiskFault { after, torn: 0, errno: Errno::BUSY, is_lasting: false };
            exchange.dir.disk = Disk::failing(fault);
            let error = exchange.finish().unwrap_err();
            assert!(error.to_string().contains("cannot"), "{error}");
            let mut left = before.clone();
            left.remove(".evt/exchange.json");
            assert_eq!(tree(directory.path()), left, "the exchange of day {after}");
            drop(Lake::open(directory.path(), "p", Disk::default()).unwrap());
            left.retain(|name, _| !name.starts_with(".evt/"));
            assert_eq!(tree(directory.path()), left, "the exchange of day {after}");
        }
    }

    #[test]
    fn versions_that_no_manifest_names_are_removed_and_the_days_stay() {
        let directory = tempfile::tempdir().unwrap();
        drop(staged(directory.path()));
        let mut before = tree(directory.path());
        before.retain(|name, _| !name.starts_with(".evt/"));
        drop(Lake::open(directory.path(), "p", Disk::default()).unwrap());
        assert_eq!(tree(directory.path()), before);
    }

    #[test]
    fn what_a_killed_trial_left_is_removed_and_a_trial_of_another_run_stays() {
        let directory = tempfile::tempdir().unwrap();
        let live = Trial::new(directory.path()).unwrap();
        let names = [".exchange-dead/left", ".exchange-dead/right", ".exchange", "exchange-other"];
        names.iter().for_each(|name| fs::create_dir_all(directory.path().join(name)).unwrap());
        remove_trials(directory.path());
        let left: Vec<String> = tree(directory.path()).into_keys().collect();
        let live = live.directory.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(left, [".exchange", live, "exchange-other"]);
    }

    #[test]
    fn whether_directories_can_be_exchanged_is_tried_out_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        check(&directory.path().join("a/lake")).unwrap();
        assert!(tree(directory.path()).is_empty());
    }
}
