//! Replaces days of a lake by new versions, all days of a run together.
//!
//! ```text
//! DIR/.evt/next/date=2024-01-15/       the new version of a day; after the exchange the old one
//! DIR/.evt/next/date=2024-01-15/.new   marks a new version, in either place
//! DIR/.evt/exchange.json               the manifest: the days that are being exchanged
//! ```
//!
//! 1. The new versions are filled, marked and synced.
//! 2. The manifest is written and synced. From here on the exchange will be completed: by this run or, if it is killed, by
//!    the next run that opens the lake.
//! 3. Each day and its new version are exchanged in one call (renameat2 with RENAME_EXCHANGE); a new day is renamed into
//!    place. A version under `next` without a mark is an old one, so its day is done. All names are synced.
//! 4. The manifest is rewritten: all days are exchanged.
//! 5. The old versions and then the marks are removed, and that is synced; the manifest is removed last.
//!
//! Each step may be repeated. A reader that lists a day gets one version of it.

use crate::error::{Error, ErrorKind, Result};
use crate::store::durable;
use crate::store::lake::disk::{
    day_name, entries, failed, is_whole, read_json, remove_if_there, sync_each, write_json,
};
use crate::store::room;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

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
    root: PathBuf,
    manifest: Manifest,
    /// Number of days done in the present half (exchange or removal).
    done: usize,
}

/// New versions that are not in a manifest yet.
pub struct Staged {
    root: PathBuf,
    days: Vec<i64>,
    /// Paths to sync before the manifest is written.
    unsynced: Vec<PathBuf>,
}

impl Staged {
    /// Begins without days.
    pub fn new(root: &Path) -> Result<Self> {
        let staged = Self { root: root.to_owned(), days: vec![], unsynced: vec![next(root)] };
        fs::create_dir(next(root)).map_err(|e| failed(&next(root), "cannot make the directory", &e))?;
        Ok(staged)
    }

    /// Creates the empty directory of the new version of `day`.
    pub fn add(&mut self, day: i64) -> Result<PathBuf> {
        let version = next(&self.root).join(day_name(day));
        fs::create_dir(&version).map_err(|e| failed(&version, "cannot make the directory", &e))?;
        let mark = version.join(MARK);
        File::create(&mark).map_err(|e| failed(&mark, "cannot create", &e))?;
        self.days.push(day);
        self.unsynced.extend([mark, version.clone()]);
        Ok(version)
    }

    /// Syncs all versions and writes the manifest.
    pub fn begin(self) -> Result<Exchange> {
        let Self { root, days, unsynced } = self;
        sync_each(&root, unsynced)?;
        let exchange = Exchange { root, manifest: Manifest { exchanged: false, days }, done: 0 };
        exchange.write_manifest()?;
        Ok(exchange)
    }
}

impl Exchange {
    /// Returns the exchange that a killed run has begun, if there is one; removes versions without a manifest.
    pub fn left(root: &Path) -> Result<Option<Self>> {
        if let Some(manifest) = read_json(&manifest_path(root))? {
            return Ok(Some(Self { root: root.to_owned(), manifest, done: 0 }));
        }
        match fs::remove_dir_all(next(root)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed(&next(root), "cannot remove", &error))
            }
            _ => Ok(None),
        }
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

    /// Does the next step; returns false if it was the last.
    pub fn step(&mut self) -> Result<bool> {
        let next_day = self.manifest.days.get(self.done).copied();
        match (next_day, self.manifest.exchanged) {
            (Some(day), false) => self.exchange(day)?,
            (Some(day), true) => self.tidy(day)?,
            (None, false) => {
                sync_each(&self.root, vec![self.root.clone(), next(&self.root)])?;
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
        if !version.join(MARK).exists() {
            return Ok(());
        }
        let renamed = if place.exists() { exchange(&version, &place) } else { fs::rename(&version, &place) };
        renamed.map_err(|e| failed(&place, "cannot exchange", &e))
    }

    /// Removes the old version of a day, then the mark. Files that are not the lake's are moved to the new version.
    fn tidy(&self, day: i64) -> Result<()> {
        let (place, version) = self.paths(day);
        for path in entries(&version)? {
            if is_whole(&path) {
                remove_if_there(&path)?;
            } else if let Some(name) = path.file_name() {
                fs::rename(&path, place.join(name)).map_err(|e| failed(&path, "cannot move back", &e))?;
            }
        }
        if version.exists() {
            fs::remove_dir(&version).map_err(|e| failed(&version, "cannot remove", &e))?;
        }
        remove_if_there(&place.join(MARK))?;
        if place.exists() && entries(&place)?.is_empty() {
            fs::remove_dir(&place).map_err(|e| failed(&place, "cannot remove", &e))?;
        }
        Ok(())
    }

    fn end(&self) -> Result<()> {
        // A mark that reappeared after a power failure would make an old version look new.
        let places = self.manifest.days.iter().map(|day| self.paths(*day).0).filter(|place| place.exists());
        sync_each(&self.root, places.chain([self.root.clone()]).collect())?;
        remove_if_there(&manifest_path(&self.root))?;
        let next = next(&self.root);
        if next.exists() {
            fs::remove_dir(&next).map_err(|e| failed(&next, "cannot remove", &e))?;
        }
        let hidden = hidden(&self.root);
        durable::sync_directory(&hidden).map_err(|e| failed(&hidden, "cannot sync", &e))
    }

    fn paths(&self, day: i64) -> (PathBuf, PathBuf) {
        let name = day_name(day);
        (self.root.join(&name), next(&self.root).join(name))
    }

    fn write_manifest(&self) -> Result<()> {
        write_json(&manifest_path(&self.root), &self.manifest)
    }
}

/// Checks that the file system of a lake can exchange two directories, by trying it in a directory that is removed again.
/// Errors: exit status 78 if it cannot.
pub fn check(root: &Path) -> Result<()> {
    let mut place = hidden(root);
    while !place.exists() && place != room::parent(&place) {
        place = room::parent(&place).to_owned();
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
            Error::new(ErrorKind::Config, format!("parquet:{}: {message}", root.display()))
        }
        _ => failed(root, "cannot exchange two directories", &error),
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
            // Before the lock, another run may have removed it as left over.
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

fn next(root: &Path) -> PathBuf {
    hidden(root).join("next")
}

fn manifest_path(root: &Path) -> PathBuf {
    hidden(root).join("exchange.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::lake::directory::Lake;
    use std::collections::BTreeMap;

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
                } else if name != ".evt/lock" {
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

    /// Four days: one that shrinks and also has files that are not a lake's, one whose file keeps its name, one that is new,
    /// one that becomes empty; and a fifth one that is not exchanged.
    fn staged(root: &Path) -> Staged {
        fs::create_dir_all(hidden(root)).unwrap();
        for (name, text) in [("02/a.parquet", "a"), ("02/b.parquet", "b"), ("02/notes.txt", "n"), ("02/sub/x", "x")] {
            write(root, &format!("date=1970-01-{name}"), text);
        }
        write(root, "date=1970-01-03/c.parquet", "old");
        write(root, "date=1970-01-05/d.parquet", "d");
        write(root, "date=1970-01-06/e.parquet", "e");
        let mut staged = Staged::new(root).unwrap();
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
                if let Some(mut left) = Exchange::left(image.path()).unwrap() {
                    let _ = (0..again).any(|_| !left.step().unwrap());
                }
                drop(Lake::open(image.path(), "p").unwrap());
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
    fn versions_that_no_manifest_names_are_removed_and_the_days_stay() {
        let directory = tempfile::tempdir().unwrap();
        drop(staged(directory.path()));
        let mut before = tree(directory.path());
        before.retain(|name, _| !name.starts_with(".evt/"));
        drop(Lake::open(directory.path(), "p").unwrap());
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
