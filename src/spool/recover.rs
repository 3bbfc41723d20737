//! Opens the segments of an existing spool: verifies every entry once, and truncates a torn last write.

use super::segment::{self, Entries, HEADER, Next, SegmentOffset};
use super::shelf::{Position, Segment, Shelf};
use super::writer::{Tail, Writer};
use crate::console::Console;
use crate::error::{Error, ErrorKind, Result};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::Path;

/// Reads all segments: the writer learns their entries, the shelf their extents. Returns the position of the outputs. Errors:
/// exit status 65 if acknowledged records are missing or damaged.
pub fn recover(shelf: &Shelf, writer: &mut Writer, console: &Console) -> Result<Position> {
    let firsts = shelf.found()?;
    let saved = shelf.position()?;
    let mut next = firsts.first().copied().or(saved.map(|saved| saved.offset)).unwrap_or(0);
    let position = saved.unwrap_or(Position { offset: next, stream_time: None });
    if position.offset < next {
        let gap = format!("records {} to {} are missing: their segments do not exist", position.offset, next - 1);
        return Err(Error::corrupt(gap).at(shelf.dir().display().to_string()));
    }
    for (at, first) in firsts.iter().enumerate() {
        let following = firsts.get(at + 1).copied();
        let is_settled = following.is_some_and(|following| saved.is_some_and(|saved| following <= saved.offset));
        let learned = Look { shelf, console, first: *first, following }.learn(writer, next);
        next = learned.map_err(|error| if is_settled { unneeded(error) } else { error })?;
    }
    if position.offset > next {
        let gap = format!("the spool ends at offset {next}, before the outputs at {}", position.offset);
        return Err(Error::corrupt(gap).at(shelf.dir().display().to_string()));
    }
    writer.set_next(next);
    shelf.set_kept(next);
    shelf.settled(position.offset);
    Ok(position)
}

/// The recovery of one segment.
struct Look<'a> {
    shelf: &'a Shelf,
    console: &'a Console,
    first: i64,
    /// The first offset of the next segment.
    following: Option<i64>,
}

impl Look<'_> {
    /// Passes the entries of the segment, which must begin with offset `next`, to the writer; returns the offset after them.
    fn learn(&self, writer: &mut Writer, mut next: i64) -> Result<i64> {
        let path = segment::path(self.shelf.dir(), self.first);
        let Some(mut entries) = Entries::open(&path)? else { return self.without_header(&path, next) };
        if (self.first, entries.first) != (next, next) {
            return Err(damage(&path, 0, format!("expected offset {next} at the beginning, found {}", entries.first)));
        }
        let length = fs::metadata(&path).map_err(|error| failed(&path, &error))?.len();
        let mut found = Segment { first: self.first, bytes: HEADER, newest: i64::MIN, keyed: false };
        // Bytes after the first offset of the next segment are the remains of a failed write.
        while self.following != Some(next) {
            let byte = entries.byte();
            let looked = entries.next(length)?;
            let entry = match looked {
                Next::Nothing => break,
                Next::Entry(length) => entries.take(length),
                Next::Damaged => None,
            };
            let Some(entry) = entry else {
                self.cut(&mut entries, &path, length)?;
                break;
            };
            if entry.offset != next {
                return Err(damage(&path, byte, format!("expected offset {next}, found {}", entry.offset)));
            }
            writer.learn(&entry, SegmentOffset { segment: self.first, byte });
            next = entry.end();
            found.newest = found.newest.max(entry.arrived_at);
            found.keyed |= entry.once.is_some();
            found.bytes = entries.byte();
        }
        match self.following {
            Some(following) if following != next => {
                return Err(damage(
                    &path,
                    found.bytes,
                    format!("the segment ends at offset {next}, before {following}"),
                ));
            }
            Some(_) => {}
            None => {
                let mut file = File::options().write(true).open(&path).map_err(|error| failed(&path, &error))?;
                file.seek(SeekFrom::Start(found.bytes)).map_err(|error| failed(&path, &error))?;
                let (first, seed, bytes) = (self.first, entries.seed, found.bytes);
                writer.resume(Tail { medium: Box::new(file), first, seed, bytes });
            }
        }
        self.shelf.begin(found);
        Ok(next)
    }

    /// Handles a segment without a valid header: an earlier run was killed while it created the last segment, or the header is
    /// damaged. Errors: exit status 65 if it is damaged.
    fn without_header(&self, path: &Path, next: i64) -> Result<i64> {
        let length = fs::metadata(path).map_err(|error| failed(path, &error))?.len();
        if length > HEADER || self.following.is_some() {
            return Err(damage(path, 0, "damaged segment header"));
        }
        // The writer creates it again under the same name.
        Ok(next)
    }

    /// Truncates a torn write. Errors: exit status 65 if the damage is not a torn write.
    fn cut(&self, entries: &mut Entries, path: &Path, length: u64) -> Result<()> {
        let byte = entries.byte();
        if self.following.is_some() || entries.is_damage(byte)? {
            return Err(damage(path, byte, "damaged entry before other entries"));
        }
        let cut = File::options().write(true).open(path).and_then(|file| {
            file.set_len(byte)?;
            file.sync_all()
        });
        cut.map_err(|error| failed(path, &error))?;
        let bytes = length - byte;
        self.console.say(format!("{}: byte {byte}: removed {bytes} bytes of a torn write", path.display()));
        Ok(())
    }
}

/// Adds advice to an error about a damaged segment: the outputs have all its records.
#[cold]
fn unneeded(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Corrupt => error.because(
            "the outputs have all of its records: move this file and those with smaller numbers away; --dedup and \
             Idempotency-Key then forget their requests",
        ),
        _ => error,
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::io(path.display().to_string(), error)
}

fn damage(path: &Path, byte: u64, what: impl Into<String>) -> Error {
    Error::corrupt(what).at(format!("{}: byte {byte}", path.display()))
}
