//! Opens the segments of an existing spool: verifies every entry once, and truncates a torn last write.
//!
//! A crash may leave
//!
//! - in the last segment, after the entries, any bytes of writes whose `fdatasync` had not returned. Their requests
//!   were not acknowledged. Whole entries among them, up to the first bytes that are not an entry, are records like the
//!   others;
//! - a last segment whose header is incomplete or missing. It has no entries, and the writer creates it again;
//! - in any other segment, bytes after the first offset of the next one: the remains of a write that failed. They are
//!   not read;
//! - segments of which the outputs have all records: the position is durable before a segment is removed;
//! - a position that is older than that of the outputs. The stage reads records again, with the same ids.
//!
//! The recovery truncates only the last segment, after its last whole entry, and reports this in one line. It refuses
//! the spool (exit status 65) if acknowledged records may be missing:
//!
//! - bytes that are not an entry are followed by an entry that was written after they were durable (its `safe`);
//! - another segment than the last has damaged bytes, or ends before the next one begins;
//! - a header is damaged, and its segment is not the last one or has more bytes than a header;
//! - the offset of an entry or a segment is not the next one;
//! - the position file is damaged, or its position is before the first segment or after the last entry.
//!
//! It cannot distinguish damage of the last acknowledged entry from a torn write, so it truncates that entry
//! (docs/decisions/040-the-spool.md).

use super::dir::{Position, Segment, SpoolDir};
use super::request::Entry;
use super::segment::{self, HEADER, Next, SegmentFile, SegmentOffset, SegmentReader, damage};
use super::writer::{OpenSegment, Writer};
use crate::console::Console;
use crate::run::Run;
use crate::storage::disk::failed;
use evt_core::counts::counted;
use evt_core::error::{Error, ErrorKind, Result};
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Reads all segments; passes their entries to the writer and their extents to the directory. Returns the position of
/// the outputs. A new spool begins with the current time (µs), because ids are derived from offsets, which must not be
/// those of an earlier spool that was removed (docs/decisions/291-the-first-offset-of-a-spool.md).
/// Errors: exit status 65 if acknowledged records are missing or damaged.
pub fn recover(dir: &SpoolDir, writer: &mut Writer, run: &Run) -> Result<Position> {
    let firsts = segment::found(&dir.path)?;
    let saved = dir.position()?;
    let begun = firsts.first().copied().or(saved.map(|saved| saved.offset));
    let begun = begun.unwrap_or_else(|| run.clock.now());
    let position = saved.unwrap_or(Position { offset: begun, stream_time: None });
    let mut next = begun;
    for (at, first) in firsts.iter().enumerate() {
        let walk = SegmentWalk::new(&dir.path, &firsts, at);
        let mut found = Segment { first: *first, bytes: HEADER, newest: i64::MIN, keyed: false };
        let walked = walk.run(next, saved, &mut |entry, byte| {
            writer.learn(&entry, SegmentOffset { segment: *first, byte });
            found.newest = found.newest.max(entry.request.arrived_at);
            found.keyed |= entry.request.key.is_some();
        });
        // The writer creates a last segment without a header again under the same name.
        let Some(walked) = walked? else { continue };
        (next, found.bytes) = (walked.next, walked.bytes);
        if walk.following.is_none() {
            writer.tail = Some(walk.tail(&walked, &run.console)?);
        }
        dir.begin(found);
    }
    compare(&dir.path, position.offset, begun..next)?;
    if saved.is_none() {
        // This only allocates space: without a saved position the next run begins at the same one.
        let _ = dir.save(position);
    }
    writer.next = next;
    dir.set_end(next);
    dir.set_settled(position.offset);
    Ok(position)
}

/// Checks that [`recover`] would succeed in a directory with this saved position; changes nothing. Errors: those of it.
pub fn check(dir: &Path, saved: Option<Position>) -> Result<()> {
    let firsts = segment::found(dir)?;
    let Some(begun) = firsts.first().copied() else { return Ok(()) };
    let mut next = begun;
    for at in 0..firsts.len() {
        let walked = SegmentWalk::new(dir, &firsts, at).run(next, saved, &mut |_, _| {})?;
        next = walked.map_or(next, |walked| walked.next);
    }
    compare(dir, saved.map_or(begun, |saved| saved.offset), begun..next)
}

/// Checks that the outputs continue at an offset of these. Errors: exit status 65.
fn compare(dir: &Path, offset: i64, stored: Range<i64>) -> Result<()> {
    let (begun, end) = (stored.start, stored.end);
    let gap = if offset < begun {
        format!("records {offset} to {} are missing: their segments do not exist", begun - 1)
    } else if offset > end {
        format!("the spool ends at offset {end}, before the outputs at {offset}")
    } else {
        return Ok(());
    };
    Err(Error::corrupt(gap).at(dir.display().to_string()))
}

/// The reading of one segment from its first to its last entry.
struct SegmentWalk {
    path: PathBuf,
    first: i64,
    /// The first offset of the next segment.
    following: Option<i64>,
}

/// What a walk has found.
struct Walked {
    /// The offset after the entries.
    next: i64,
    /// The byte after them.
    bytes: u64,
    /// The length of the file.
    length: u64,
    /// The seed of the entries.
    seed: u64,
}

impl SegmentWalk {
    /// Makes the walk of segment number `at` of those with these first offsets.
    fn new(dir: &Path, firsts: &[i64], at: usize) -> Self {
        Self { path: segment::path(dir, firsts[at]), first: firsts[at], following: firsts.get(at + 1).copied() }
    }

    /// Passes each entry of the segment, which must begin with offset `next`, to `learn` with the byte at which it
    /// begins; `saved` is the position of the outputs. Returns `None` if it is the last segment and has no header: an
    /// earlier run was killed while it created the segment.
    fn run(&self, next: i64, saved: Option<Position>, learn: &mut dyn FnMut(Entry, u64)) -> Result<Option<Walked>> {
        let is_settled = self.following.is_some_and(|following| saved.is_some_and(|saved| following <= saved.offset));
        self.read(next, learn).map_err(|error| if is_settled { unneeded(error) } else { error })
    }

    fn read(&self, mut next: i64, learn: &mut dyn FnMut(Entry, u64)) -> Result<Option<Walked>> {
        let length = fs::metadata(&self.path).map_err(failed(&self.path))?.len();
        let Some(mut reader) = SegmentReader::open(&self.path)? else {
            return match length > HEADER || self.following.is_some() {
                true => Err(self.damage(0, "damaged segment header")),
                false => Ok(None),
            };
        };
        if (self.first, reader.first) != (next, next) {
            return Err(self.damage(0, format!("expected offset {next} at the beginning, found {}", reader.first)));
        }
        let mut bytes = HEADER;
        // Bytes after the first offset of the next segment are the remains of a failed write.
        while self.following != Some(next) {
            let byte = reader.byte();
            match reader.next(length)? {
                Next::Damaged if self.following.is_some() || reader.is_damage(byte)? => {
                    return Err(self.damage(byte, "damaged entry before other entries"));
                }
                Next::Nothing | Next::Damaged => break,
                Next::Entry(entry) => {
                    if entry.offset != next {
                        return Err(self.damage(byte, format!("expected offset {next}, found {}", entry.offset)));
                    }
                    (next, bytes) = (entry.end(), reader.byte());
                    learn(entry, byte);
                }
            }
        }
        match self.following {
            Some(following) if following != next => {
                Err(self.damage(bytes, format!("the segment ends at offset {next}, before {following}")))
            }
            _ => Ok(Some(Walked { next, bytes, length, seed: reader.seed })),
        }
    }

    /// Opens the last segment for writing; truncates the bytes of a torn write after the entries.
    fn tail(&self, walked: &Walked, console: &Console) -> Result<OpenSegment> {
        let Walked { bytes, length, seed, .. } = *walked;
        let mut file = File::options().write(true).open(&self.path).map_err(failed(&self.path))?;
        file.truncate(bytes).and_then(|()| file.sync_all()).map_err(failed(&self.path))?;
        if length > bytes {
            let (path, torn) = (self.path.display(), counted(length - bytes, ["byte", "bytes"]));
            console.say(format!("{path}: byte {bytes}: removed {torn} of a torn write"));
        }
        Ok(OpenSegment { file: Box::new(file), first: self.first, seed, bytes })
    }

    fn damage(&self, byte: u64, what: impl Into<String>) -> Error {
        damage(&self.path, byte, what)
    }
}

/// Adds advice to an error about a damaged segment: the outputs have all its records.
#[cold]
fn unneeded(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Corrupt => error.because(
            "the outputs have all records of this file: move it and the files with smaller numbers away; --dedup and \
             Idempotency-Key then no longer know their requests",
        ),
        _ => error,
    }
}
