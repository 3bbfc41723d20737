//! The reading end: entries in their order, also those just written, and the word that the outputs have them.

use super::entry::Entry;
use super::segment::{self, Entries, HEADER, Next};
use super::shelf::{Position, Shelf};
use crate::clock::Clock;
use crate::error::{Error, Result};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// When the outputs are asked to make safe what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Never: nobody waits for it.
    Never,
    /// Now and then: it is on disk.
    Relaxed,
    /// At once: clients wait for it.
    Eager,
}

/// What a door reads from.
pub trait Inlet {
    /// The next entry; none where there is none now.
    fn next(&mut self) -> Result<Option<Entry<'_>>>;
    /// The offset behind the last record, once nothing will come any more but what is there.
    fn end(&self) -> Option<i64>;
    /// The offset behind the last record that is kept.
    fn kept(&self) -> i64;
    /// What can be read from as soon as there may be more. It is heard here, before [`Inlet::next`] is asked.
    fn bell(&self) -> &UnixStream;
    /// Where the outputs are: entries from before that offset may come again.
    fn start(&self) -> Position;
    /// When the outputs are asked to make safe what was read.
    fn pace(&self) -> Pace;
    /// The outputs have everything before `position`.
    fn settle(&mut self, position: Position) -> Result<()>;
}

/// Hears the bell: what rang so far is answered by looking.
pub fn hear(mut bell: &UnixStream) {
    let mut rung = [0; 64];
    while bell.read(&mut rung).is_ok_and(|count| count == rung.len()) {}
}

/// Reads a spool.
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
    /// Reads on from `start`.
    pub fn new(shelf: Arc<Shelf>, bell: UnixStream, clock: Clock, start: Position) -> Self {
        let first = shelf.holding(start.offset).unwrap_or(start.offset);
        Self { shelf, bell, clock, start, first, entries: None }
    }

    /// The length of the next entry, if one is there; its segment is then open.
    fn look(&mut self) -> Result<Option<usize>> {
        loop {
            let (Some(segment), following) = self.shelf.segment(self.first) else { return Ok(None) };
            if segment.first != self.first {
                (self.first, self.entries) = (segment.first, None);
            }
            // A segment without an entry may still be begun anew.
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
        Error::corrupt("an entry is damaged").at(format!("{}: byte {byte}", path.display()))
    }
}

impl Inlet for Log {
    fn next(&mut self) -> Result<Option<Entry<'_>>> {
        let Some(length) = self.look()? else { return Ok(None) };
        let byte = self.entries.as_ref().map_or(0, Entries::byte);
        let damage = Error::corrupt("an entry is damaged")
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
