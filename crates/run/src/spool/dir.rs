//! The directory of a spool: its segments, up to where each is durable, and the position of the outputs.
//!
//! ```text
//! DIR/lock                       locked (flock) by the run that has the spool; another run exits with status 75
//! DIR/NNNNNNNNNNNNNNNNNNNN.log   segments
//! DIR/id                         a random number, by which a checkpoint identifies the spool
//! DIR/position                   the offset up to which the outputs have everything, and the stream time there
//! DIR/position.new               disk space for the next position, allocated in advance: a spool that has filled its
//!                                disk can still be emptied
//! ```

use super::dedup::{DedupLimits, KEYS_WINDOW};
use super::segment;
use crate::metrics::{Metrics, SPOOL};
use crate::storage::disk::{PRIVATE_DIRECTORY, PRIVATE_FILE, failed, found};
use crate::storage::{access, token};
use evt_core::error::{Error, Result};
use evt_core::time::{format_instant, parse_instant};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The offset of its first record.
    pub first: i64,
    /// The number of its durable bytes.
    pub bytes: u64,
    /// The latest arrival in it (µs).
    pub newest: i64,
    /// Whether some request in it has an `Idempotency-Key`.
    pub keyed: bool,
}

/// The position of the outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Everything before this offset is safe in the outputs.
    pub offset: i64,
    /// The stream time there (µs); `None` before the first event.
    pub stream_time: Option<i64>,
}

/// The end of the stored records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredEnd {
    /// The offset after the last record.
    pub offset: i64,
    /// Whether no more records can be added.
    pub is_final: bool,
}

/// Why segments are removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// The segments are no longer needed.
    Nothing,
    /// There is no space for more records.
    Space,
    /// There is no space for more records, and there is only one segment.
    LastSpace,
}

/// Size of every position in bytes, so that each one can overwrite an older one in place.
const POSITION_BYTES: usize = 128;

/// The JSON of the file `position`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedPosition {
    offset: i64,
    stream_time: Option<String>,
    /// The checksum of the other fields; an older evt wrote none.
    crc32c: Option<u32>,
}

impl SavedPosition {
    fn new(Position { offset, stream_time }: Position) -> Self {
        let stream_time = stream_time.map(format_instant);
        let crc32c = Some(checksum(offset, stream_time.as_deref()));
        Self { offset, stream_time, crc32c }
    }

    /// Returns the position; `None` if the file is damaged.
    fn position(self) -> Option<Position> {
        let is_whole = self.crc32c.is_none_or(|found| found == checksum(self.offset, self.stream_time.as_deref()));
        let stream_time = self.stream_time.map(|text| parse_instant(&text).ok_or(())).transpose().ok()?;
        is_whole.then_some(Position { offset: self.offset, stream_time })
    }
}

/// Returns the position that the spool in `dir` has. Errors: those of [`SpoolDir::position`].
fn saved_position(dir: &Path) -> Result<Option<Position>> {
    let path = dir.join("position");
    let Some(bytes) = found(fs::read(&path)).map_err(failed(&path))? else { return Ok(None) };
    let position = serde_json::from_slice(&bytes).ok().and_then(SavedPosition::position);
    let damaged = || {
        Error::corrupt("invalid position file; without this file all records are read again")
            .at(path.display().to_string())
    };
    position.map(Some).ok_or_else(damaged)
}

fn checksum(offset: i64, stream_time: Option<&str>) -> u32 {
    crc32c::crc32c(format!("{offset} {}", stream_time.unwrap_or_default()).as_bytes())
}

/// The limits of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Bytes of all segments (`--spool-max`).
    pub bytes: u64,
    /// Those of `--dedup`.
    pub dedup: Option<DedupLimits>,
}

/// Creates a directory and its missing parents. It syncs the name of each, even of an existing one, because the run
/// that created it may have been killed before its sync.
fn create_synced(path: &Path, sync: &mut impl FnMut(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    let parent = access::parent(path);
    if parent == path {
        return Ok(());
    }
    let create = || DirBuilder::new().mode(PRIVATE_DIRECTORY).create(path);
    let is_new = match create() {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            create_synced(parent, sync)?;
            create()?;
            true
        }
        Err(_) if path.is_dir() => false,
        Err(error) => return Err(error),
    };
    match sync(parent) {
        // If the parent cannot be opened, the creator of the existing directory has synced it.
        Err(_) if !is_new => Ok(()),
        synced => synced,
    }
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// The directory of a spool, locked.
pub struct SpoolDir {
    /// Its path.
    pub path: PathBuf,
    /// Its id; `None` if it has none yet and its disk is full.
    pub id: Option<String>,
    /// Its limits.
    pub limits: SpoolLimits,
    metrics: Metrics,
    state: Mutex<State>,
    _lock: File,
}

/// The state that the writer and the reading end share.
#[derive(Default)]
struct State {
    segments: VecDeque<Segment>,
    /// Everything before this offset is safe in the outputs.
    settled: i64,
    /// The offset after the last durable record.
    end: i64,
    /// Whether no more records will be written.
    is_closed: bool,
}

impl SpoolDir {
    /// Checks that a directory could be opened, and returns its saved position; leaves nothing behind. Errors: exit
    /// status 75 if another run has it, 65 if its position is damaged.
    pub fn check(path: &Path) -> Result<Option<Position>> {
        access::check_directory(path).and_then(|()| access::create_trial(path)).map_err(failed(path))?;
        let lock = found(File::options().write(true).open(path.join("lock"))).map_err(failed(path))?;
        lock.map_or(Ok(()), |lock| claim(&lock, path))?;
        saved_position(path)
    }

    /// Creates the directory if it does not exist, and locks it; its size is shown in `metrics`. Errors: exit status 75
    /// if another run has it.
    pub fn open(path: &Path, limits: SpoolLimits, metrics: &Metrics) -> Result<Self> {
        create_synced(path, &mut sync_directory).map_err(failed(path))?;
        let options = File::options().write(true).create(true).truncate(false).mode(PRIVATE_FILE).clone();
        let lock = options.open(path.join("lock"));
        let lock = lock.map_err(failed(path))?;
        claim(&lock, path)?;
        let metrics = metrics.clone();
        let id = id_of(path)?;
        let dir = Self { path: path.to_owned(), id, limits, metrics, state: Mutex::default(), _lock: lock };
        dir.reserve();
        dir.show();
        Ok(dir)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each field is valid by itself at any time, so a panic under the lock leaves the state usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the position that [`SpoolDir::settle`] saved last; `None` in a new spool. Errors: exit status 65 if the
    /// file is damaged, 74 if it cannot be read.
    pub fn position(&self) -> Result<Option<Position>> {
        saved_position(&self.path)
    }

    /// Saves the position up to which the outputs are safe, and removes the segments that are no longer needed.
    pub fn settle(&self, position: Position, now: i64) -> Result<()> {
        self.save(position)?;
        self.set_settled(position.offset);
        self.trim(now)
    }

    /// Saves the position up to which the outputs are safe. In a new spool this call also allocates the space of a
    /// second position, so that each later call overwrites one of the two files.
    pub fn save(&self, position: Position) -> Result<()> {
        let saved = SavedPosition::new(position);
        let (path, beside) = (self.path.join("position"), self.path.join("position.new"));
        let text = format!("{:POSITION_BYTES$}", serde_json::json!(saved).to_string());
        let replace = || match renameat_with(CWD, &beside, CWD, &path, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()),
            // There is no position yet, or the file system cannot exchange files: allocate the next one again.
            Err(_) => fs::rename(&beside, &path).map(|()| self.reserve()),
        };
        let written = overwrite(&beside, &text).and_then(|()| replace());
        written.map_err(failed(&path))?;
        sync(&self.path)?;
        Ok(())
    }

    /// Allocates the space of the next position. If this fails, a position is still written when there is space.
    fn reserve(&self) {
        let _ = overwrite(&self.path.join("position.new"), &" ".repeat(POSITION_BYTES));
    }

    /// Sets the offset before which the outputs are safe, without saving it.
    pub fn set_settled(&self, offset: i64) {
        self.state().settled = offset;
    }

    /// Sets the offset after the last durable record.
    pub fn set_end(&self, offset: i64) {
        self.state().end = offset;
    }

    /// Notes that no more records will be written.
    pub fn close(&self) {
        self.state().is_closed = true;
    }

    /// Returns the end of the durable records.
    pub fn end(&self) -> StoredEnd {
        let state = self.state();
        StoredEnd { offset: state.end, is_final: state.is_closed }
    }

    /// Removes segments from the front that are no longer needed.
    pub fn trim(&self, now: i64) -> Result<()> {
        while self.remove(self.removable(now, Need::Nothing))? {}
        Ok(())
    }

    /// Removes the first segment if another segment follows, and the first one is needed only for `Idempotency-Key`.
    /// Returns whether a segment was removed.
    pub fn make_space(&self, now: i64) -> Result<bool> {
        self.remove(self.removable(now, Need::Space))
    }

    /// Removes the last segment if it is the only one, and needed only for `Idempotency-Key`. Returns whether it was
    /// removed. Only the writer calls this, because it must not write to that segment any more.
    pub fn remove_last(&self, now: i64) -> Result<bool> {
        self.remove(self.removable(now, Need::LastSpace))
    }

    /// Removes the segment with this first offset; returns whether there is one to remove.
    fn remove(&self, first: Option<i64>) -> Result<bool> {
        let Some(first) = first else { return Ok(false) };
        let path = segment::path(&self.path, first);
        found(fs::remove_file(&path)).map_err(failed(&path))?;
        // Sync after each one: the remaining segments never have a gap.
        sync(&self.path)?;
        // The writer and the stage may remove the same segment concurrently.
        self.state().segments.pop_front_if(|segment| segment.first == first);
        self.show();
        Ok(true)
    }

    /// Returns the first offset of the first segment, if the outputs have all of its records and no window reaches back
    /// to it. If space is needed, the window of `Idempotency-Key` without `--dedup` does not count.
    fn removable(&self, now: i64, need: Need) -> Option<i64> {
        let state = self.state();
        let (segment, next) = (state.segments.front()?, state.segments.get(1));
        let end = match (next, need) {
            (None, Need::LastSpace) => state.end,
            (Some(next), Need::Nothing | Need::Space) => next.first,
            (None, Need::Nothing | Need::Space) | (Some(_), Need::LastSpace) => return None,
        };
        let past = |window: i64| segment.newest.saturating_add(window) <= now;
        let is_past = match self.limits.dedup {
            Some(limits) => past(limits.window),
            None => !segment.keyed || need != Need::Nothing || past(KEYS_WINDOW),
        };
        // Keeps an empty segment: its name is the next offset if no position is saved.
        (segment.first < end && end <= state.settled && is_past).then_some(segment.first)
    }

    /// Returns the durable bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.state().segments.iter().map(|segment| segment.bytes).sum()
    }

    fn show(&self) {
        if self.metrics.is_on() {
            self.metrics.set(&SPOOL, &[], self.bytes() as f64);
        }
    }

    /// Whether the outputs have all records before the last segment. Older segments are then kept only for `--dedup`
    /// and `Idempotency-Key`.
    pub fn is_settled(&self) -> bool {
        let state = self.state();
        state.segments.back().is_none_or(|last| last.first <= state.settled)
    }

    /// Appends a segment; it replaces an empty last segment of the same name.
    pub fn begin(&self, segment: Segment) {
        let mut state = self.state();
        state.segments.pop_back_if(|last| last.first == segment.first);
        state.segments.push_back(segment);
        drop(state);
        self.show();
    }

    /// Notes that the last segment has grown to `bytes`.
    pub fn grow(&self, bytes: u64, newest: i64, keyed: bool) {
        if let Some(last) = self.state().segments.back_mut() {
            last.bytes = bytes;
            last.newest = last.newest.max(newest);
            last.keyed |= keyed;
        }
        self.show();
    }

    /// Returns the segment that begins at offset `first`, and the segment after it. If the first one has been removed,
    /// the next one takes its place.
    pub fn segment(&self, first: i64) -> (Option<Segment>, Option<Segment>) {
        let state = self.state();
        let at = state.segments.partition_point(|segment| segment.first < first);
        (state.segments.get(at).copied(), state.segments.get(at + 1).copied())
    }

    /// Whether the segment with this first offset exists.
    pub fn has(&self, first: i64) -> bool {
        self.segment(first).0.is_some_and(|segment| segment.first == first)
    }

    /// Returns the first offset of the segment that contains this offset, or will contain it.
    pub fn segment_of(&self, offset: i64) -> Option<i64> {
        let state = self.state();
        let after = state.segments.partition_point(|segment| segment.first <= offset);
        state.segments.get(after.saturating_sub(1)).map(|segment| segment.first)
    }
}

/// Returns the id of a spool, which gets one if it has none. A full disk is not an error, because the spool must be
/// read to empty it.
///
/// Errors: exit status 74 if it has one that cannot be read: with another one no checkpoint would know the spool.
fn id_of(path: &Path) -> Result<Option<String>> {
    let (name, part) = (path.join("id"), path.join("id.new"));
    match fs::read_to_string(&name) {
        Ok(id) => return Ok(Some(id.trim_end().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&name)(error)),
    }
    let id = token();
    let written = overwrite(&part, &format!("{id}\n")).and_then(|()| fs::rename(&part, &name));
    Ok(written.ok().filter(|()| sync(path).is_ok()).map(|()| id))
}

/// Locks a spool until `lock` is closed.
fn claim(lock: &File, path: &Path) -> Result<()> {
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(Error::busy(format!("{}: another run has locked this spool", path.display())))
        }
        Err(TryLockError::Error(error)) => Err(failed(path)(error)),
    }
}

/// Overwrites a file in place with `text`, which always has the same length, and syncs it.
fn overwrite(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(false).mode(PRIVATE_FILE).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Makes the entries of a directory durable.
pub fn sync(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_cannot_be_read_is_an_error_and_not_a_new_id() {
        let root = tempfile::tempdir().unwrap();
        let id = id_of(root.path()).unwrap().expect("the disk is not full");
        assert_eq!(id_of(root.path()).unwrap(), Some(id));
        fs::remove_file(root.path().join("id")).unwrap();
        fs::create_dir(root.path().join("id")).unwrap();
        assert_eq!(id_of(root.path()).unwrap_err().kind(), evt_core::error::ErrorKind::Io);
        assert!(!root.path().join("id.new").exists());
    }

    #[test]
    fn every_level_of_a_new_directory_is_synced_and_the_last_one_of_an_existing_one_again() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/c");
        let synced = |fails: &Path| {
            let mut synced = vec![];
            let outcome = create_synced(&path, &mut |parent| {
                synced.push(parent.strip_prefix(root.path()).unwrap().display().to_string());
                if parent == fails { Err(std::io::ErrorKind::Other.into()) } else { Ok(()) }
            });
            (synced, outcome.is_ok())
        };
        let levels = |levels: &[&str]| levels.iter().map(|level| (*level).to_owned()).collect::<Vec<_>>();
        assert_eq!(synced(&root.path().join("a/b")), (levels(&["", "a", "a/b"]), false), "a failed sync is an error");
        assert!(path.is_dir());
        assert_eq!(
            synced(Path::new("/")),
            (levels(&["a/b"]), true),
            "its creator may have been killed before the sync"
        );
    }
}
