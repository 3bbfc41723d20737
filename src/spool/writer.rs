//! The writer of the spool, on its own thread: it takes the queued requests as a group, writes them, syncs once and answers all
//! of them.
//!
//! Nothing is acknowledged before `fdatasync` has succeeded. If a write fails, the writer truncates it and refuses the whole
//! group. If `fdatasync` fails, the contents of the disk are unknown: the segment ends where it was last durable, and the next
//! request begins another one.

use super::entry::{self, BODY_MAX, Entry, Spot};
use super::known::{IdempotencyKeys, Ids};
use super::queue::{Asked, Bell, Done, Queue};
use super::request::{Answer, Kept, RecordFate, Request};
use super::segment::{self, Entries, HEADER, Medium, Next, SegmentOffset};
use super::shelf::{self, KEYS_WINDOW, Segment, Shelf};
use crate::clock::Clock;
use crate::console::Console;
use crate::error::{Error, Result};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Minimum and maximum size of a full segment in bytes.
const SEGMENT_BYTES: (u64, u64) = (4 << 10, 64 << 20);

/// Creates a file to append to.
pub type Create = fn(&Path) -> std::io::Result<Box<dyn Medium>>;

/// Creates a file on disk.
pub fn create(path: &Path) -> std::io::Result<Box<dyn Medium>> {
    // An earlier run that failed here may have left a file with nothing acknowledged in it.
    Ok(Box::new(File::options().write(true).create(true).truncate(true).open(path)?))
}

/// The segment being written.
pub struct Tail {
    /// Its file.
    pub medium: Box<dyn Medium>,
    /// The offset of its first record.
    pub first: i64,
    /// Its seed.
    pub seed: u64,
    /// The bytes that are valid.
    pub bytes: u64,
}

/// What the writer needs of the run.
pub struct Voice {
    /// Writes messages.
    pub console: Console,
    /// The run's clock.
    pub clock: Clock,
    /// Wakes the reading end.
    pub bell: Bell,
}

/// The writer of a spool.
pub struct Writer {
    shelf: Arc<Shelf>,
    voice: Voice,
    create: Create,
    /// `None` before the first write, and after one that failed.
    tail: Option<Tail>,
    /// The offset of the next record.
    next: i64,
    ids: Option<Ids>,
    keys: IdempotencyKeys,
    buffer: Vec<u8>,
    /// Whether the last write failed, which has been reported.
    troubled: bool,
}

/// The answer to a request, once its group is durable.
enum Outcome {
    Kept(Kept),
    Repeated(SegmentOffset),
    Conflict,
    TooLarge(String),
    Refused(String),
}

/// A group of requests being written.
#[derive(Default)]
struct Group {
    outcomes: Vec<(Outcome, Done)>,
    /// Keys of its requests, which are dropped if the write fails.
    keyed: Vec<(String, String)>,
    newest: i64,
    tried_to_trim: bool,
}

impl Writer {
    /// Begins with offset `next`, after the segments on the shelf.
    pub fn new(shelf: Arc<Shelf>, next: i64, voice: Voice, create: Create) -> Self {
        let (_, seed) = segment::header(next);
        let dedup = shelf.bounds().dedup;
        Self {
            ids: dedup.map(|window| Ids::new(window, seed)),
            keys: IdempotencyKeys::new(dedup.unwrap_or(KEYS_WINDOW), seed),
            shelf,
            voice,
            create,
            tail: None,
            next,
            buffer: vec![],
            troubled: false,
        }
    }

    /// Remembers an entry that was read back.
    pub fn learn(&mut self, entry: &Entry<'_>, place: SegmentOffset) {
        if let Some(ids) = &mut self.ids {
            ids.learn(entry);
        }
        if let Some(once) = entry.once {
            self.keys.enter(entry.token, once, entry.arrived_at, place);
        }
        self.next = entry.end();
    }

    /// Sets the offset of the next record.
    pub fn set_next(&mut self, next: i64) {
        self.next = next;
    }

    /// Continues a segment.
    pub fn resume(&mut self, tail: Tail) {
        self.tail = Some(tail);
    }

    /// Writes requests until the queue is closed.
    pub fn run(mut self, queue: &Queue) {
        let mut asked = vec![];
        while queue.take(&mut asked) {
            let bytes = asked.iter().map(|asked| asked.size).sum();
            self.group(asked.drain(..));
            queue.answered(bytes);
            self.voice.bell.ring();
        }
    }

    /// Makes a group durable and answers its requests.
    fn group(&mut self, asked: impl Iterator<Item = Asked>) {
        self.buffer.clear();
        let before = self.next;
        let rolled = self.roll();
        let mut group = Group { newest: i64::MIN, ..Group::default() };
        for Asked { request, size, done } in asked {
            let outcome = match &rolled {
                Ok(()) => self.place(&request, size, &mut group),
                Err(error) => Outcome::Refused(error.to_string()),
            };
            group.outcomes.push((outcome, done));
        }
        let written = rolled.and_then(|()| self.write(&group));
        self.tell(&written);
        if let Err(error) = written {
            self.next = before;
            if let Some(ids) = &mut self.ids {
                ids.forget();
            }
            group.keyed.iter().for_each(|(token, key)| self.keys.forget(token, key));
            let why = error.to_string();
            return group.outcomes.into_iter().for_each(|(_, done)| done.refuse(why.clone()));
        }
        if let Some(ids) = &mut self.ids {
            ids.settle();
        }
        for (outcome, done) in group.outcomes {
            done.answer(match outcome {
                Outcome::Kept(kept) => Answer::Kept(kept),
                Outcome::Conflict => Answer::Conflict,
                Outcome::TooLarge(why) => Answer::TooLarge(why),
                Outcome::Refused(why) => Answer::Unavailable(why),
                Outcome::Repeated(place) => self.repeat(place),
            });
        }
    }

    /// Judges a request and encodes its entry into the buffer.
    fn place(&mut self, request: &Request, size: usize, group: &mut Group) -> Outcome {
        let Some(tail) = &self.tail else { return Outcome::Refused("no segment is open".into()) };
        let place = SegmentOffset { segment: tail.first, byte: tail.bytes + self.buffer.len() as u64 };
        let spot = Spot { seed: tail.seed, safe: tail.bytes, offset: self.next };
        if let Some(used) = self.keys.find(request) {
            let is_there = self.shelf.segment(used.place.segment).0.is_some_and(|s| s.first == used.place.segment);
            match request.once.as_ref().is_some_and(|(_, body)| *body == used.body) {
                _ if !is_there => {}
                true => return Outcome::Repeated(used.place),
                false => return Outcome::Conflict,
            }
        }
        if request.records.is_empty() {
            return Outcome::Kept(Kept { offset: self.next, fates: vec![] });
        }
        if let Some(why) = self.too_large(size) {
            return Outcome::TooLarge(why);
        }
        if let Some(why) = self.no_room(request, size, group) {
            return Outcome::Refused(why);
        }
        let fates = self.judge(request);
        entry::encode(&mut self.buffer, spot, request, &fates);
        if let Some((key, body)) = &request.once {
            self.keys.enter(&request.token, (key, *body), request.arrived_at, place);
            group.keyed.push((request.token.clone(), key.clone()));
        }
        group.newest = group.newest.max(request.arrived_at);
        // The cast is exact: an entry has more bytes than records.
        self.next += fates.len() as i64;
        Outcome::Kept(Kept { offset: spot.offset, fates })
    }

    /// Returns why a request can never be kept, if so.
    fn too_large(&self, size: usize) -> Option<String> {
        let max = self.shelf.bounds().bytes.min(BODY_MAX as u64);
        (size as u64 > max)
            .then(|| format!("the request takes {size} bytes in the spool, more than {max} (--spool-max)"))
    }

    /// Returns why a request cannot be kept at present, if so.
    fn no_room(&mut self, request: &Request, size: usize, group: &mut Group) -> Option<String> {
        let count = request.records.iter().filter(|record| record.event_id.is_some()).count();
        if let Some(ids) = &mut self.ids {
            ids.expire(request.arrived_at);
            if !ids.has_room(count) {
                return Some("too many events within --dedup".into());
            }
        }
        let max = self.shelf.bounds().bytes;
        let wanted = (self.buffer.len() + size) as u64;
        if self.shelf.bytes() + wanted > max && !std::mem::replace(&mut group.tried_to_trim, true) {
            // An error does not matter: the size is compared again below.
            let _ = self.shelf.trim(self.voice.clock.now().max(request.arrived_at), true);
        }
        if self.shelf.bytes() + wanted <= max {
            return None;
        }
        // Without --dedup everything that the outputs have was removed.
        let why = match (self.shelf.is_settled(), &self.ids) {
            (false, _) => ": its records are waiting for the outputs",
            (true, Some(_)) => ", mostly with records kept for --dedup",
            (true, None) => "",
        };
        Some(format!("the spool is full (--spool-max){why}"))
    }

    fn judge(&mut self, request: &Request) -> Vec<RecordFate> {
        let (token, now) = (&request.token, request.arrived_at);
        let ids = &mut self.ids;
        let fate = |record: &super::request::Record| match (&record.fault, ids.as_mut()) {
            (Some(fault), _) => RecordFate::Rejected(fault.clone()),
            (None, Some(ids)) => ids.judge(token, record, now),
            (None, None) => RecordFate::New,
        };
        request.records.iter().map(fate).collect()
    }

    /// Begins another segment if the last one is full or was abandoned.
    fn roll(&mut self) -> Result<()> {
        let (least, most) = SEGMENT_BYTES;
        let full = (self.shelf.bounds().bytes / 16).clamp(least, most);
        if self.tail.as_ref().is_some_and(|tail| tail.bytes < full) {
            return Ok(());
        }
        let path = segment::path(self.shelf.dir(), self.next);
        let failed = |error: std::io::Error| Error::io(path.display().to_string(), &error);
        let (header, seed) = segment::header(self.next);
        let mut medium = (self.create)(&path).map_err(failed)?;
        medium.append(&header).and_then(|()| medium.sync()).map_err(failed)?;
        shelf::sync(self.shelf.dir())?;
        self.tail = Some(Tail { medium, first: self.next, seed, bytes: HEADER });
        self.shelf.begin(Segment { first: self.next, bytes: HEADER, newest: i64::MIN, keyed: false });
        Ok(())
    }

    /// Writes the buffer and syncs it; truncates a write that failed.
    fn write(&mut self, group: &Group) -> Result<()> {
        let Some(tail) = self.tail.as_mut().filter(|_| !self.buffer.is_empty()) else { return Ok(()) };
        let path = segment::path(self.shelf.dir(), tail.first);
        let failed = |error: std::io::Error| Error::io(path.display().to_string(), &error);
        if let Err(error) = tail.medium.append(&self.buffer) {
            if tail.medium.cut(tail.bytes).is_err() {
                self.tail = None;
            }
            return Err(failed(error));
        }
        if let Err(error) = tail.medium.sync() {
            // The kernel may treat the lost pages as written from now on, so this file is not written to again. If it cannot be
            // truncated, the remains lie after the first offset of the next segment and are ignored.
            let _ = tail.medium.cut(tail.bytes);
            self.tail = None;
            return Err(failed(error));
        }
        tail.bytes += self.buffer.len() as u64;
        self.shelf.grow(tail.bytes, group.newest, !group.keyed.is_empty());
        self.shelf.set_kept(self.next);
        Ok(())
    }

    /// Reports the first failure, and the first success after it.
    fn tell(&mut self, written: &Result<()>) {
        match written {
            Err(error) if !self.troubled => {
                self.voice.console.say(format!("{error}; requests are rejected until writing succeeds"));
            }
            Ok(()) if self.troubled => {
                self.voice.console.say(format!("{}: writing again", self.shelf.dir().display()));
            }
            _ => {}
        }
        self.troubled = written.is_err();
    }

    /// Reads the request at a place, for the answer to a repeated request.
    fn repeat(&self, place: SegmentOffset) -> Answer {
        let read = || -> Result<Option<Answer>> {
            let path = segment::path(self.shelf.dir(), place.segment);
            let Some(mut entries) = Entries::open(&path)? else { return Ok(None) };
            entries.seek(place.byte)?;
            let Next::Entry(length) = entries.next(u64::MAX)? else { return Ok(None) };
            let answer = |entry: Entry<'_>| Answer::Repeated(Box::new(entry.request()), entry.kept());
            Ok(entries.take(length).map(answer))
        };
        match read() {
            Ok(Some(answer)) => answer,
            Ok(None) => Answer::Unavailable("the stored answer cannot be read".into()),
            Err(error) => Answer::Unavailable(error.to_string()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shelf.close(self.next);
        self.voice.bell.ring();
    }
}
