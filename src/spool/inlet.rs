//! The reading end of a spool: returns entries in order, including those just written, and takes the position up to which the
//! outputs are safe.

use super::entry::Entry;
use super::segment::{self, Entries, HEADER, Next};
use super::shelf::{Position, Shelf};
use crate::clock::Clock;
use crate::error::{Error, Result};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// When the stage must flush its outputs and report their position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Never: nothing depends on it.
    Never,
    /// From time to time: the records are on disk.
    Relaxed,
    /// At once: clients wait for their answers.
    Eager,
}

/// The reading end of a spool.
pub trait Inlet {
    /// Returns the next entry; `None` if there is none at present.
    fn next(&mut self) -> Result<Option<Entry<'_>>>;
    /// Returns the offset after the last record, once no more records can be added.
    fn end(&self) -> Option<i64>;
    /// Returns the offset after the last record that is kept.
    fn kept(&self) -> i64;
    /// Returns the socket that becomes readable when there may be new entries. Read it with [`hear`] before [`Inlet::next`].
    fn bell(&self) -> &UnixStream;
    /// Returns the position of the outputs when the run began. Entries before that offset may be returned again.
    fn start(&self) -> Position;
    /// Returns when the stage must flush its outputs.
    fn pace(&self) -> Pace;
    /// Notes that the outputs have everything before `position`.
    fn settle(&mut self, position: Position) -> Result<()>;
}

/// Empties the bell's socket. The caller then looks for entries.
pub fn hear(mut bell: &UnixStream) {
    let mut rung = [0; 64];
    while bell.read(&mut rung).is_ok_and(|count| count == rung.len()) {}
}

/// The reading end of a spool on disk.
pub struct Log {
    shelf: Arc<Shelf>,
    bell: UnixStream,
    clock: Clock,
    start: Position,
    /// The first offset of the segment that is read.
    first: i64,
    entries: Option<Entries>,
}

impl Log {
    /// Reads from `start` on.
    pub fn new(shelf: Arc<Shelf>, bell: UnixStream, clock: Clock, start: Position) -> Self {
        let first = shelf.holding(start.offset).unwrap_or(start.offset);
        Self { shelf, bell, clock, start, first, entries: None }
    }

    /// Finds the next entry and opens its segment. Returns its length in bytes; `None` if there is no entry at present.
    fn look(&mut self) -> Result<Option<usize>> {
        loop {
            let (Some(segment), following) = self.shelf.segment(self.first) else { return Ok(None) };
            if segment.first != self.first {
                (self.first, self.entries) = (segment.first, None);
            }
            // An empty segment may still be replaced by one with another seed.
            if self.entries.is_none() && segment.bytes > HEADER {
                let path = segment::path(self.shelf.dir(), segment.first);
                self.entries = Some(Entries::open(&path)?.ok_or_else(|| self.damage(0))?);
            }
            let next = self.entries.as_mut().map_or(Ok(Next::Nothing), |entries| entries.next(segment.bytes))?;
            match (next, following) {
                (Next::Entry(length), _) => return Ok(Some(length)),
                (Next::Damaged, _) => return Err(self.damage(self.entries.as_ref().map_or(0, Entries::byte))),
                (Next::Nothing, None) => return Ok(None),
                (Next::Nothing, Some(following)) => (self.first, self.entries) = (following.first, None),
            }
        }
    }

    #[cold]
    fn damage(&self, byte: u64) -> Error {
        let path = segment::path(self.shelf.dir(), self.first);
        Error::corrupt("damaged entry").at(format!("{}: byte {byte}", path.display()))
    }
}

impl Inlet for Log {
    fn next(&mut self) -> Result<Option<Entry<'_>>> {
        let Some(length) = self.look()? else { return Ok(None) };
        let byte = self.entries.as_ref().map_or(0, Entries::byte);
        let damage = Error::corrupt("damaged entry")
            .at(format!("{}: byte {byte}", segment::path(self.shelf.dir(), self.first).display()));
        match self.entries.as_mut().and_then(|entries| entries.take(length)) {
            Some(entry) => Ok(Some(entry)),
            None => Err(damage),
        }
    }

    fn end(&self) -> Option<i64> {
        self.shelf.end()
    }

    fn kept(&self) -> i64 {
        self.shelf.kept()
    }

    fn bell(&self) -> &UnixStream {
        &self.bell
    }

    fn start(&self) -> Position {
        self.start
    }

    fn pace(&self) -> Pace {
        Pace::Relaxed
    }

    fn settle(&mut self, position: Position) -> Result<()> {
        self.shelf.settle(position, self.clock.now())
    }
}
