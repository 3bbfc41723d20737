//! The directory of a spool: which segments there are, up to where each is durable, and what the outputs have.
//!
//! ```text
//! DIR/lock                       held (flock) by the run that has the spool; another one is exit 75
//! DIR/NNNNNNNNNNNNNNNNNNNN.log   segments
//! DIR/position                   the offset up to which the outputs have everything, and the stream time there
//! DIR/position.new               room for the next one, taken while there is some: a spool that has filled its disk can
//!                                still be emptied
//! ```

use super::segment;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Metrics, SPOOL};
use crate::store::room;
use crate::time::{format_instant, parse_instant};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long an `Idempotency-Key` is remembered where `--dedup` says nothing (µs).
pub const KEYS_WINDOW: i64 = 24 * 3600 * 1_000_000;

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The offset of its first record.
    pub first: i64,
    /// Bytes that are durable.
    pub bytes: u64,
    /// The latest arrival in it (µs).
    pub newest: i64,
    /// Whether some request in it has an `Idempotency-Key`.
    pub keyed: bool,
}

/// How far the outputs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Everything before this offset is safe in them.
    pub offset: i64,
    /// The stream time there (µs); none before the first event.
    pub stream_time: Option<i64>,
}

/// Bytes of a position: each takes the room of the one before the last.
const POSITION_BYTES: usize = 128;

#[derive(Serialize, Deserialize)]
struct Saved {
    offset: i64,
    stream_time: Option<String>,
}

/// What bounds a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all segments (`--spool-max`).
    pub bytes: u64,
    /// The window of `--dedup` (µs).
    pub dedup: Option<i64>,
}

/// Makes a directory with those above it that are missing. The name of each is durable, also where an earlier run made it and died.
fn create_synced(dir: &Path) -> std::io::Result<()> {
    let parent = match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    let is_new = match fs::create_dir(dir) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            create_synced(parent)?;
            fs::create_dir(dir)?;
            true
        }
        Err(_) if dir.is_dir() => false,
        Err(error) => return Err(error),
    };
    match File::open(parent).and_then(|parent| parent.sync_all()) {
        // Where it may not be opened, whoever made the directory has seen to it.
        Err(_) if !is_new => Ok(()),
        synced => synced,
    }
}

/// The directory of a spool, locked.
pub struct Shelf {
    dir: PathBuf,
    bounds: Bounds,
    metrics: Metrics,
    state: Mutex<State>,
    _lock: File,
}

#[derive(Default)]
struct State {
    segments: VecDeque<Segment>,
    settled: i64,
    /// The offset behind the last record that is durable.
    kept: i64,
    /// The offset behind the last record, once nothing more will be written.
    end: Option<i64>,
}

impl Shelf {
    /// Looks whether it could be had; leaves nothing behind. Exit 75 where another run has it.
    pub fn check(dir: &Path) -> Result<()> {
        let failed = |error: std::io::Error| Error::io(dir.display().to_string(), &error);
        room::for_directory(dir).and_then(|()| room::try_directory(dir)).map_err(failed)?;
        match File::options().write(true).open(dir.join("lock")) {
            Ok(lock) => claim(&lock, dir),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Makes the directory where there is none, and locks it; exit 75 where another run has it. Its size is shown in `metrics`.
    pub fn open(dir: &Path, bounds: Bounds, metrics: &Metrics) -> Result<Self> {
        let failed = |error: std::io::Error| Error::io(dir.display().to_string(), &error);
        create_synced(dir).map_err(failed)?;
        let lock = File::options().write(true).create(true).truncate(false).open(dir.join("lock")).map_err(failed)?;
        claim(&lock, dir)?;
        let metrics = metrics.clone();
        let shelf = Self { dir: dir.to_owned(), bounds, metrics, state: Mutex::default(), _lock: lock };
        shelf.reserve();
        shelf.show();
        Ok(shelf)
    }

    /// Its path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What bounds it.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked with it left numbers that were right one by one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first offsets of the segments on disk, in order.
    pub fn found(&self) -> Result<Vec<i64>> {
        let failed = |error: std::io::Error| Error::io(self.dir.display().to_string(), &error);
        let mut found = vec![];
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            found.extend(segment::first_of(&entry.map_err(failed)?.path()));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// How far the outputs were when the last run ended; none in a new spool.
    pub fn position(&self) -> Result<Option<Position>> {
        let path = self.dir.join("position");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path.display().to_string(), &error)),
        };
        let position = serde_json::from_str(&text).ok().and_then(|saved: Saved| {
            let stream_time = match &saved.stream_time {
                None => None,
                Some(text) => Some(parse_instant(text)?),
            };
            Some(Position { offset: saved.offset, stream_time })
        });
        let damaged = || {
            Error::corrupt("no position of a spool: without this file all that is left is read again")
                .at(path.display().to_string())
        };
        position.map(Some).ok_or_else(damaged)
    }

    /// Notes that everything before `position` is safe in the outputs, and removes what nobody needs any more.
    pub fn settle(&self, position: Position, now: i64) -> Result<()> {
        let saved = Saved { offset: position.offset, stream_time: position.stream_time.map(format_instant) };
        let (path, beside) = (self.dir.join("position"), self.dir.join("position.new"));
        let text = format!("{:POSITION_BYTES$}", serde_json::json!(saved).to_string());
        let replace = || match renameat_with(CWD, &beside, CWD, &path, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()),
            // There was none yet, or the file system cannot do it: the room is taken anew.
            Err(_) => fs::rename(&beside, &path).map(|()| self.reserve()),
        };
        let written = overwrite(&beside, &text).and_then(|()| replace());
        written.map_err(|error| Error::io(path.display().to_string(), &error))?;
        sync(&self.dir)?;
        self.settled(position.offset);
        self.trim(now, false)
    }

    /// Takes the room for a position. Without it one is still written where the disk has some.
    fn reserve(&self) {
        let _ = overwrite(&self.dir.join("position.new"), &" ".repeat(POSITION_BYTES));
    }

    /// Everything before this offset is safe in the outputs.
    pub fn settled(&self, offset: i64) {
        self.state().settled = offset;
    }

    /// Everything before this offset is durable.
    pub fn set_kept(&self, offset: i64) {
        self.state().kept = offset;
    }

    /// The offset behind the last record that is durable.
    pub fn kept(&self) -> i64 {
        self.state().kept
    }

    /// Removes segments from the front that nobody needs any more; those that hold nothing but keys of `Idempotency-Key`
    /// too where room is `wanted`.
    pub fn trim(&self, now: i64, wanted: bool) -> Result<()> {
        while let Some(first) = self.removable(now, wanted) {
            let path = segment::path(&self.dir, first);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(path.display().to_string(), &error));
                }
                _ => {}
            }
            // One after the other: there is never a gap.
            sync(&self.dir)?;
            // The writer and the stage may remove the same segment at the same time.
            self.state().segments.pop_front_if(|segment| segment.first == first);
            self.show();
        }
        Ok(())
    }

    /// The first segment, if the outputs have all of it and no window reaches back to it.
    fn removable(&self, now: i64, wanted: bool) -> Option<i64> {
        let state = self.state();
        let (segment, next) = (state.segments.front()?, state.segments.get(1)?);
        let past = |window: i64| segment.newest.saturating_add(window) <= now;
        let is_past = match self.bounds.dedup {
            Some(window) => past(window),
            None => !segment.keyed || wanted || past(KEYS_WINDOW),
        };
        (next.first <= state.settled && is_past).then_some(segment.first)
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.state().segments.iter().map(|segment| segment.bytes).sum()
    }

    fn show(&self) {
        if self.metrics.is_on() {
            self.metrics.set(&SPOOL, &[], self.bytes() as f64);
        }
    }

    /// Whether the outputs have all but the last segment: what is left is kept for `--dedup`.
    pub fn is_settled(&self) -> bool {
        let state = self.state();
        state.segments.back().is_none_or(|last| last.first <= state.settled)
    }

    /// A segment follows, or takes the place of one that holds nothing.
    pub fn begin(&self, segment: Segment) {
        let mut state = self.state();
        state.segments.pop_back_if(|last| last.first == segment.first);
        state.segments.push_back(segment);
        drop(state);
        self.show();
    }

    /// The last segment has grown.
    pub fn grow(&self, bytes: u64, newest: i64, keyed: bool) {
        if let Some(last) = self.state().segments.back_mut() {
            last.bytes = bytes;
            last.newest = last.newest.max(newest);
            last.keyed |= keyed;
        }
        self.show();
    }

    /// The segment with this first offset, or the one after where it is gone; and the one that follows it.
    pub fn segment(&self, first: i64) -> (Option<Segment>, Option<Segment>) {
        let state = self.state();
        let at = state.segments.partition_point(|segment| segment.first < first);
        (state.segments.get(at).copied(), state.segments.get(at + 1).copied())
    }

    /// The first offset of the segment that holds this offset, or will.
    pub fn holding(&self, offset: i64) -> Option<i64> {
        let state = self.state();
        let after = state.segments.partition_point(|segment| segment.first <= offset);
        state.segments.get(after.saturating_sub(1)).map(|segment| segment.first)
    }

    /// Nothing more will be written, and `end` is the offset behind the last record.
    pub fn close(&self, end: i64) {
        self.state().end = Some(end);
    }

    /// The offset behind the last record, once nothing more will be written.
    pub fn end(&self) -> Option<i64> {
        self.state().end
    }
}

/// Locks a spool for as long as `lock` is open.
fn claim(lock: &File, dir: &Path) -> Result<()> {
    match flock(lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error::new(ErrorKind::Fenced, format!("{}: another run has this spool", dir.display())))
        }
        Err(errno) => Err(Error::io(dir.display().to_string(), &errno.into())),
    }
}

/// Writes `text`, as long as all are, where the file stands on the disk already.
fn overwrite(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(false).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Makes the names in a directory durable.
pub fn sync(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| Error::io(dir.display().to_string(), &error))
}
