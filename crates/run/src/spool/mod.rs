//! The spool: keeps acknowledged requests on disk until the outputs have their records; or in memory without `--spool`.
//!
//! ```text
//! HTTP server ─► RequestLog::append ─► queue ─► writer ─► segments (DIR/*.log) ─► SpoolReader ─► stage ─► outputs
//!                answer ◄────────────────────── after fdatasync                       │
//!                position, removal of segments ◄──── EntrySource::settle ◄────────────┘
//! ```
//!
//! The HTTP server passes each request to a [`request::RequestLog`], on any thread; the stage reads them in order from
//! a [`SpoolReader`] and reports the position up to which its outputs are safe. [`open`] makes both ends.
//! docs/decisions/040 describes the files.
//!
//! [`request`] holds the types of both ends, [`ack`] the policy that decides when a request is acknowledged. On disk:
//! `queue` is the bounded queue to the `writer`, which detects duplicates with `dedup`; [`entry`] and `segment` are the
//! formats of entries and files, [`dir`] is the directory, `recover` reads it at the start, and [`reader`] is the
//! reading end. `memory` is both ends without a disk.

pub mod ack;
pub mod dedup;
pub mod dir;
pub mod entry;
mod memory;
mod queue;
pub mod reader;
mod recover;
pub mod request;
mod segment;
mod writer;

use crate::run::Run;
use ack::AckPolicy;
use dir::{Position, SpoolDir, SpoolLimits};
use evt_core::error::{Error, ErrorKind, Result};
use queue::{SpoolLog, Waker};
pub use reader::SpoolReader;
use reader::{DirEntries, Pace};
use request::RequestLog;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use writer::{CreateSegment, Writer};

/// How long to wait for another run's lock: the system may release the lock of a killed process late.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Time after which a wait for the lock is reported.
const LOCK_SILENCE: Duration = Duration::from_secs(1);
/// Interval between attempts to lock.
const LOCK_TRIED: Duration = Duration::from_millis(50);

/// The position at which the stage begins to read a spool on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpoolStart {
    /// At the outputs' position, which the spool stores.
    Kept,
    /// At the position in a checkpoint; at that of the spool if the checkpoint has none.
    Checkpoint(Option<CheckpointPosition>),
}

/// How far a checkpoint has read a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointPosition {
    /// The id of the spool, if it has one.
    pub id: Option<String>,
    /// The position.
    pub position: Position,
}

/// Opens both ends of the spool that `policy` needs. The reading end ends once every reference to the log is dropped
/// and everything in it has been read. Errors: exit status 75 if another run has the spool, 65 if the spool is damaged.
pub fn open(policy: &AckPolicy, start: SpoolStart, run: &Run) -> Result<(Arc<dyn RequestLog>, SpoolReader)> {
    match policy {
        AckPolicy::Spool { dir, limits } => on_disk(dir, *limits, run, start, writer::create),
        AckPolicy::Output | AckPolicy::Memory => {
            let (log, reader) = memory::open(run.clock.now(), *policy == AckPolicy::Output)?;
            Ok((Arc::new(log), reader))
        }
    }
}

/// Checks that the spool of a directory could be opened: verifies all entries, as its opening does, and leaves nothing
/// behind. Errors: exit status 75 if another run has it, 65 if it is damaged.
pub fn check(path: &Path) -> Result<()> {
    let saved = SpoolDir::check(path)?;
    if path.exists() { recover::check(path, saved) } else { Ok(()) }
}

fn on_disk(
    path: &Path,
    limits: SpoolLimits,
    run: &Run,
    start: SpoolStart,
    create: CreateSegment,
) -> Result<(Arc<dyn RequestLog>, SpoolReader)> {
    let dir = Arc::new(lock(path, limits, run)?);
    let (waker, wakeups) = Waker::new().map_err(|error| Error::io("a pair of sockets", &error))?;
    let mut writer = Writer::new(dir.clone(), run.for_thread(), waker, create);
    let kept = recover::recover(&dir, &mut writer, run)?;
    let (start, pace) = match start {
        SpoolStart::Kept => (kept, Pace::Relaxed),
        SpoolStart::Checkpoint(position) => (continued(&dir, kept, position, run)?, Pace::WithEpochs),
    };
    let id = dir.id.clone();
    let entries = Box::new(DirEntries::new(dir, run.clock.clone(), start.offset)?);
    let (log, queue) = SpoolLog::new(path.to_owned());
    let spawned = std::thread::Builder::new().name("spool".into()).spawn(move || writer.run(&queue));
    spawned.map_err(|error| Error::io("the thread that writes the spool", &error))?;
    Ok((Arc::new(log), SpoolReader { wakeups, id, start, pace, entries }))
}

/// Returns the position at which a run with a checkpoint begins; `kept` is the position of the spool, and `position`
/// that of the checkpoint.
///
/// Errors: exit status 78 if the checkpoint has read another spool, or if the spool ends before the position; 65 if the
/// spool no longer has all records after the position.
fn continued(dir: &SpoolDir, kept: Position, position: Option<CheckpointPosition>, run: &Run) -> Result<Position> {
    let Some(CheckpointPosition { id, position }) = position else { return Ok(kept) };
    let (shown, end) = (dir.path.display().to_string(), dir.end().offset);
    if id.is_some() && dir.id.is_some() && id != dir.id {
        return Err(Error::config("expected the spool that the checkpoint has read, found another one").at(shown));
    }
    let first = dir.segment(i64::MIN).0.map_or(end, |segment| segment.first);
    if position.offset > end {
        let found = format!("found one that ends at offset {end}");
        let why = format!("expected the spool that the checkpoint has read up to offset {}, {found}", position.offset);
        return Err(Error::config(why).at(shown));
    }
    if position.offset < first {
        let why =
            format!("records {} to {} are missing, which the checkpoint has not read", position.offset, first - 1);
        return Err(Error::corrupt(why).at(shown));
    }
    if position.offset < kept.offset {
        let (from, to) = (position.offset, kept.offset - 1);
        let why = "a run without this checkpoint has read them, or an earlier epoch is restored";
        run.console.warn(format!("{shown}: records {from} to {to} are read again: {why}"));
    }
    dir.set_settled(position.offset.min(kept.offset));
    Ok(position)
}

/// Waits until no other run has the spool of a policy, if it has one. A run that cannot open the spool must not begin a
/// run of the checkpoint, because that would fence the run that has the spool. Errors: exit status 75 if another run
/// keeps the lock.
pub fn wait_until_free(policy: Option<&AckPolicy>, run: &Run) -> Result<()> {
    match policy {
        Some(AckPolicy::Spool { dir, limits }) => lock(dir, *limits, run).map(drop),
        Some(AckPolicy::Output | AckPolicy::Memory) | None => Ok(()),
    }
}

/// Opens and locks the directory. Errors: exit status 75 if another run keeps the lock.
fn lock(path: &Path, limits: SpoolLimits, run: &Run) -> Result<SpoolDir> {
    let (start, mut is_reported) = (Instant::now(), false);
    loop {
        let error = match SpoolDir::open(path, limits, &run.metrics) {
            Err(error) if error.kind() == ErrorKind::Busy => error,
            opened => return opened,
        };
        let waited = start.elapsed();
        if waited >= LOCK_WAIT || run.stop.signal().is_some() {
            return Err(error);
        }
        if waited >= LOCK_SILENCE && !std::mem::replace(&mut is_reported, true) {
            run.console.say(format!("{error}; waiting for the lock"));
        }
        run.stop.sleep(LOCK_TRIED)?;
    }
}

#[cfg(test)]
mod tests;
