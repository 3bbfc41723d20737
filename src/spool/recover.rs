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
use super::segment::{self, HEADER, Next, SegmentFile, SegmentOffset, SegmentReader, damage};
use super::writer::{OpenSegment, Writer};
use crate::console::Console;
use crate::counts::counted;
use crate::error::{Error, ErrorKind, Result};
use crate::run::Run;
use crate::storage::disk::failed;
use std::fs::{self, File};
use std::path::PathBuf;

/// Reads all segments; passes their entries to the writer and their extents to the directory. Returns the position of
/// the outputs. A new spool begins with the current time (µs), because ids are derived from offsets, which must not be
/// those of an earlier spool that was removed (docs/decisions/291-the-first-offset-of-a-spool.md).
/// Errors: exit status 65 if acknowledged records are missing or damaged.
pub fn recover(dir: &SpoolDir, writer: &mut Writer, run: &Run) -> Result<Position> {
    let firsts = dir.found()?;
    let saved = dir.position()?;
    let begun = firsts.first().copied().or(saved.map(|saved| saved.offset));
    let mut next = begun.unwrap_or_else(|| run.clock.now());
    let position = saved.unwrap_or(Position { offset: next, stream_time: None });
    let missing = |gap: String| Err(Error::corrupt(gap).at(dir.path.display().to_string()));
    if position.offset < next {
        let last = next - 1;
        return missing(format!("records {} to {last} are missing: their segments do not exist", position.offset));
    }
    for (at, first) in firsts.iter().enumerate() {
        let following = firsts.get(at + 1).copied();
        let is_settled = following.is_some_and(|following| saved.is_some_and(|saved| following <= saved.offset));
        let recovery = SegmentRecovery {
            dir,
            console: &run.console,
            path: segment::path(&dir.path, *first),
            first: *first,
            following,
        };
        let recovered = recovery.run(writer, next);
        next = recovered.map_err(|error| if is_settled { unneeded(error) } else { error })?;
    }
    if position.offset > next {
        return missing(format!("the spool ends at offset {next}, before the outputs at {}", position.offset));
    }
    if saved.is_none() {
        // This only allocates space: without a saved position the next run begins at the same one.
        let _ = dir.save(position);
    }
    writer.next = next;
    dir.set_end(next);
    dir.set_settled(position.offset);
    Ok(position)
}

/// The recovery of one segment.
struct SegmentRecovery<'a> {
    dir: &'a SpoolDir,
    console: &'a Console,
    path: PathBuf,
    first: i64,
    /// The first offset of the next segment.
    following: Option<i64>,
}

impl SegmentRecovery<'_> {
    /// Passes the entries of the segment, which must begin with offset `next`, to the writer; returns the offset after
    /// them.
    fn run(&self, writer: &mut Writer, mut next: i64) -> Result<i64> {
        let length = fs::metadata(&self.path).map_err(failed(&self.path))?.len();
        let Some(mut reader) = SegmentReader::open(&self.path)? else {
            // An earlier run was killed while it created the last segment, or the header is damaged.
            return match length > HEADER || self.following.is_some() {
                true => Err(self.damage(0, "damaged segment header")),
                // The writer creates it again under the same name.
                false => Ok(next),
            };
        };
        if (self.first, reader.first) != (next, next) {
            return Err(self.damage(0, format!("expected offset {next} at the beginning, found {}", reader.first)));
        }
        let mut found = Segment { first: self.first, bytes: HEADER, newest: i64::MIN, keyed: false };
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
                    writer.learn(&entry, SegmentOffset { segment: self.first, byte });
                    next = entry.end();
                    found.newest = found.newest.max(entry.request.arrived_at);
                    found.keyed |= entry.request.key.is_some();
                    found.bytes = reader.byte();
                }
            }
        }
        match self.following {
            Some(following) if following != next => {
                let gap = format!("the segment ends at offset {next}, before {following}");
                return Err(self.damage(found.bytes, gap));
            }
            Some(_) => {}
            None => writer.tail = Some(self.tail(found.bytes, length, reader.seed)?),
        }
        self.dir.begin(found);
        Ok(next)
    }

    /// Opens the last segment for writing; truncates the bytes of a torn write after `bytes`.
    fn tail(&self, bytes: u64, length: u64, seed: u64) -> Result<OpenSegment> {
        let mut file = File::options().write(true).open(&self.path).map_err(failed(&self.path))?;
        file.truncate(bytes).and_then(|()| file.sync_all()).map_err(failed(&self.path))?;
        if length > bytes {
            let (path, torn) = (self.path.display(), counted(length - bytes, ["byte", "bytes"]));
            self.console.say(format!("{path}: byte {bytes}: removed {torn} of a torn write"));
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
