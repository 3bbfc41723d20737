//! The reading end of a spool: returns entries in order, including those just written, and takes the position up to
//! which the outputs are safe.

use super::dir::{Position, Segment, SpoolDir, StoredEnd};
use super::request::Entry;
use super::segment::{self, HEADER, Next, SegmentReader, damage};
use crate::clock::Clock;
use evt_core::error::Result;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// When the stage must flush its outputs and report their position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Never: no acknowledgement and no disk space depends on the position.
    Never,
    /// From time to time, to free disk space: the records are on disk, and their clients have their answers.
    Relaxed,
    /// When an epoch of a checkpoint is complete. The epoch has the position, too.
    WithEpochs,
    /// At once: clients wait for their answers.
    Eager,
}

/// Entries on disk or in memory.
pub trait EntrySource {
    /// Returns the next entry; `None` if there is none at present.
    fn next(&mut self) -> Result<Option<Arc<Entry>>>;
    /// Returns the end of the stored records.
    fn end(&self) -> StoredEnd;
    /// Notes that the outputs have everything before `position`.
    fn settle(&mut self, position: Position) -> Result<()>;
}

/// The reading end of a spool.
pub struct SpoolReader {
    /// The socket that becomes readable when there may be new entries. [`SpoolReader::clear`] it before reading
    /// entries.
    pub wakeups: UnixStream,
    /// The id of the spool, if it is on disk and could be given one.
    pub id: Option<String>,
    /// The position of the outputs when the run began. Entries before that offset may be returned again.
    pub start: Position,
    /// When the stage must flush its outputs.
    pub pace: Pace,
    /// The entries.
    pub entries: Box<dyn EntrySource>,
}

impl SpoolReader {
    /// Empties the socket.
    pub fn clear(&self) {
        let mut bytes = [0; 64];
        while (&self.wakeups).read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
    }
}

/// The entries of a spool on disk.
pub struct DirEntries {
    dir: Arc<SpoolDir>,
    clock: Clock,
    /// The first offset of the segment that is read.
    first: i64,
    open: Option<SegmentReader>,
}

impl DirEntries {
    /// Makes the entries from `offset` on. Call it before the writer runs.
    pub fn new(dir: Arc<SpoolDir>, clock: Clock, offset: i64) -> Result<Self> {
        let first = dir.segment_of(offset).unwrap_or(offset);
        let mut entries = Self { dir, clock, first, open: None };
        let last = entries.dir.segment(first).0.filter(|segment| segment.bytes > HEADER);
        if let Some(last) = last.filter(|_| offset == entries.dir.end().offset) {
            // Opens the last segment now: the writer may remove its file on a full disk, because the outputs have all
            // of its records.
            let mut reader = entries.reader(&last)?;
            reader.seek(last.bytes)?;
            entries.open = Some(reader);
        }
        Ok(entries)
    }

    /// Opens a segment.
    fn reader(&self, segment: &Segment) -> Result<SegmentReader> {
        let path = segment::path(&self.dir.path, segment.first);
        SegmentReader::open(&path)?.ok_or_else(|| damage(&path, 0, "damaged entry"))
    }
}

impl EntrySource for DirEntries {
    fn next(&mut self) -> Result<Option<Arc<Entry>>> {
        loop {
            let (Some(segment), following) = self.dir.segment(self.first) else {
                // The last segment was removed. Closes its file, because the file takes disk space until then.
                self.open = None;
                return Ok(None);
            };
            if segment.first != self.first {
                (self.first, self.open) = (segment.first, None);
            }
            // Opens no empty segment: the writer may still replace it by a segment with another seed.
            if self.open.is_none() && segment.bytes > HEADER {
                self.open = Some(self.reader(&segment)?);
            }
            let next = match &mut self.open {
                None => Next::Nothing,
                Some(reader) => match reader.next(segment.bytes)? {
                    Next::Damaged => {
                        let path = segment::path(&self.dir.path, segment.first);
                        return Err(damage(&path, reader.byte(), "damaged entry"));
                    }
                    next => next,
                },
            };
            match (next, following) {
                (Next::Entry(entry), _) => return Ok(Some(Arc::new(entry))),
                (_, None) => return Ok(None),
                (_, Some(following)) => (self.first, self.open) = (following.first, None),
            }
        }
    }

    fn end(&self) -> StoredEnd {
        self.dir.end()
    }

    fn settle(&mut self, position: Position) -> Result<()> {
        self.dir.settle(position, self.clock.now())
    }
}
