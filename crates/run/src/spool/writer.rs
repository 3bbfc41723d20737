//! The writer of the spool, on its own thread: it takes the queued requests as a group, writes them, syncs once and
//! answers all of them.
//!
//! The writer acknowledges nothing before `fdatasync` has succeeded. If a write fails, the writer truncates it and
//! refuses the whole group. If `fdatasync` fails, the contents of the disk are unknown: the segment ends at its last
//! durable byte, and the next request begins another segment.
//!
//! If the disk is full, the writer removes segments that the outputs have, as if the spool had reached its limit. The
//! last segment is removed too, if no other is left: the disk may be smaller than one segment.

use super::dedup::{DedupWindow, Earlier, IdempotencyKeys, KEYS_WINDOW};
use super::dir::{self, Segment, SpoolDir};
use super::entry::{self, BODY_MAX};
use super::queue::{QueuedRequest, Waker, take_group};
use super::request::{Answer, Entry, RecordOutcome, Request, Responder};
use super::segment::{self, HEADER, Next, SegmentFile, SegmentOffset, SegmentReader};
use crate::run::Run;
use crate::storage::access;
use crate::storage::disk::{PRIVATE_FILE, failed};
use evt_core::error::Result;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Minimum and maximum size of a full segment in bytes.
const SEGMENT_BYTES: (u64, u64) = (4 << 10, 64 << 20);
/// Maximum number of remembered keys; the oldest is dropped for a new one.
const KEYS_MAX: usize = 1 << 20;

/// Interval at which a writer whose disk is full checks whether the outputs have caught up.
const FULL_TRIED: Duration = Duration::from_secs(1);

/// Creates a file to append to.
pub type CreateSegment = fn(&Path) -> std::io::Result<Box<dyn SegmentFile>>;

/// Creates a file on disk.
pub fn create(path: &Path) -> std::io::Result<Box<dyn SegmentFile>> {
    // An earlier run that failed here may have left a file with nothing acknowledged in it.
    Ok(Box::new(File::options().write(true).create(true).truncate(true).mode(PRIVATE_FILE).open(path)?))
}

/// Whether a write failed because the disk is full, or the user's share of it.
fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// The segment being written.
pub struct OpenSegment {
    /// Its file.
    pub file: Box<dyn SegmentFile>,
    /// The offset of its first record.
    pub first: i64,
    /// Its seed.
    pub seed: u64,
    /// The bytes that are valid.
    pub bytes: u64,
}

/// The writer of a spool.
pub struct Writer {
    dir: Arc<SpoolDir>,
    run: Run,
    waker: Waker,
    create: CreateSegment,
    /// The last segment; `None` before the first write, and after a write that failed.
    pub tail: Option<OpenSegment>,
    /// The offset of the next record.
    pub next: i64,
    dedup: Option<DedupWindow>,
    keys: IdempotencyKeys<SegmentOffset>,
    buffer: Vec<u8>,
    /// Whether the last write failed, which has been reported.
    is_failing: bool,
}

/// The answer to a request, once its group is durable.
enum RequestOutcome {
    Answered(Answer),
    /// It repeats the request that is stored at this position.
    Repeated(SegmentOffset),
}

impl RequestOutcome {
    /// Returns the request, if it is stored with this group.
    fn stored(&self) -> Option<&Request> {
        if let Self::Answered(Answer::Stored(entry)) = self { Some(&entry.request) } else { None }
    }
}

impl Writer {
    /// Begins without entries.
    pub fn new(dir: Arc<SpoolDir>, run: Run, waker: Waker, create: CreateSegment) -> Self {
        let (_, seed) = segment::header(0);
        let limits = dir.limits.dedup;
        Self {
            dedup: limits.map(|limits| DedupWindow::new(limits, seed)),
            keys: IdempotencyKeys::new(limits.map_or(KEYS_WINDOW, |limits| limits.window), KEYS_MAX, seed),
            dir,
            run,
            waker,
            create,
            tail: None,
            next: 0,
            buffer: vec![],
            is_failing: false,
        }
    }

    /// Remembers an entry that was read back.
    pub fn learn(&mut self, entry: &Entry, place: SegmentOffset) {
        if let Some(dedup) = &mut self.dedup {
            dedup.learn(&entry.request);
        }
        self.keys.enter(&entry.request, 1, place);
    }

    /// Writes requests until the queue is closed.
    pub fn run(mut self, queue: &Receiver<QueuedRequest>) {
        loop {
            let is_full = self.is_disk_full();
            let Some(requests) = take_group(queue, is_full.then_some(FULL_TRIED)) else { break };
            // Makes space without a request: a server whose disk is full is not ready, so there may be no request whose
            // write would make space.
            while is_full && self.is_disk_full() && self.make_space() {}
            if !requests.is_empty() {
                self.write_group(requests);
            }
            self.waker.wake();
        }
    }

    fn is_disk_full(&self) -> bool {
        !access::has_free_space(&self.dir.path)
    }

    /// Removes the oldest segment if it is needed only for `Idempotency-Key`; returns whether a segment was removed.
    fn make_space(&mut self) -> bool {
        let now = self.run.clock.now();
        if self.dir.make_space(now).unwrap_or(false) {
            return true;
        }
        let removed = self.dir.remove_last(now);
        if matches!(removed, Ok(false)) {
            return false;
        }
        // After an error it is unknown whether the file was removed, so the writer does not write to it again.
        let tail = self.tail.take();
        if removed.is_ok()
            && let Some(mut tail) = tail
        {
            // The reading end has read the whole file and may still have it open, so only a truncation frees its disk
            // space now.
            let _ = tail.file.truncate(0);
        }
        removed.is_ok()
    }

    /// Makes a group durable and answers its requests.
    fn write_group(&mut self, requests: Vec<QueuedRequest>) {
        self.buffer.clear();
        let before = self.next;
        let rolled = self.roll();
        let encode = |QueuedRequest { request, size, responder }| (self.encode_request(request, size), responder);
        let outcomes: Vec<(RequestOutcome, Responder)> = requests.into_iter().map(encode).collect();
        let stored = outcomes.iter().filter_map(|(outcome, _)| outcome.stored());
        let written = rolled.and_then(|()| self.write(stored.clone()));
        self.report(&written);
        if let Err(error) = written {
            self.next = before;
            self.dedup.iter_mut().for_each(DedupWindow::forget);
            stored.rev().for_each(|request| self.keys.forget(request));
            let why = error.to_string();
            return outcomes.into_iter().for_each(|(_, responder)| responder.refuse(why.clone()));
        }
        self.dedup.iter_mut().for_each(DedupWindow::settle);
        for (outcome, responder) in outcomes {
            responder.answer(match outcome {
                RequestOutcome::Answered(answer) => answer,
                RequestOutcome::Repeated(place) => self.repeat(place),
            });
        }
    }

    /// Detects whether a request or one of its records is a repetition, and encodes its entry into the buffer.
    fn encode_request(&mut self, mut request: Request, size: usize) -> RequestOutcome {
        let Some(OpenSegment { first, seed, bytes: safe, .. }) = self.tail else {
            return RequestOutcome::Answered(Answer::Unavailable("no segment is open".into()));
        };
        match self.keys.find(&request).filter(|earlier| self.dir.has(earlier.place.segment)) {
            Some(Earlier { is_same: true, place }) => return RequestOutcome::Repeated(place),
            Some(Earlier { is_same: false, .. }) => return RequestOutcome::Answered(Answer::Conflict),
            None => {}
        }
        if request.records.is_empty() {
            return RequestOutcome::Answered(Answer::Stored(Arc::new(Entry { safe, offset: self.next, request })));
        }
        if let Some(refusal) = self.refusal(&request, size) {
            return RequestOutcome::Answered(refusal);
        }
        if let Some(dedup) = &mut self.dedup {
            for record in request.records.iter_mut().filter(|record| record.outcome == RecordOutcome::New) {
                record.outcome = dedup.outcome_of(&request.token, record, request.arrived_at);
            }
        }
        let place = SegmentOffset { segment: first, byte: safe + self.buffer.len() as u64 };
        self.keys.enter(&request, 1, place);
        let entry = Entry { safe, offset: self.next, request };
        entry::encode(&mut self.buffer, seed, &entry);
        self.next = entry.end();
        RequestOutcome::Answered(Answer::Stored(Arc::new(entry)))
    }

    /// Returns the answer to a request that cannot be stored, if it cannot.
    fn refusal(&mut self, request: &Request, size: usize) -> Option<Answer> {
        let spool_max = self.dir.limits.bytes;
        let max = spool_max.min(BODY_MAX as u64);
        if size as u64 > max {
            let why = format!("the request takes {size} bytes in the spool, more than {max} (--spool-max)");
            return Some(Answer::TooLarge(why));
        }
        if let Some(dedup) = &mut self.dedup {
            dedup.expire(request.arrived_at);
            if !dedup.has_space(request.records.iter().filter(|record| record.event_id.is_some()).count()) {
                return Some(Answer::Unavailable("too many events within --dedup".into()));
            }
        }
        let wanted = (self.buffer.len() + size) as u64;
        let has_space = || self.dir.bytes() + wanted <= spool_max;
        if has_space() {
            return None;
        }
        let now = self.run.clock.now().max(request.arrived_at);
        // After an error of the removal, the size is compared once more.
        while !has_space() && self.dir.make_space(now).unwrap_or(false) {}
        if has_space() {
            return None;
        }
        // Without --dedup, every segment that the outputs have was removed.
        let why = match (self.dir.is_settled(), &self.dedup) {
            (false, _) => ": its records are waiting for the outputs",
            (true, Some(_)) => ", mostly with records kept for --dedup",
            (true, None) => "",
        };
        Some(Answer::Unavailable(format!("the spool is full (--spool-max){why}")))
    }

    /// Begins another segment if the last one is full or was abandoned.
    fn roll(&mut self) -> Result<()> {
        let (least, most) = SEGMENT_BYTES;
        let full = (self.dir.limits.bytes / 16).clamp(least, most);
        if self.tail.as_ref().is_some_and(|tail| tail.bytes < full) {
            return Ok(());
        }
        let first = self.next;
        let path = segment::path(&self.dir.path, first);
        let (header, seed) = segment::header(first);
        let begin = |create: CreateSegment| {
            let mut file = create(&path)?;
            file.append(&header).and_then(|()| file.sync()).map(|()| file)
        };
        let file = loop {
            match begin(self.create) {
                Err(error) if is_full(&error) && self.make_space() => {}
                begun => break begun.map_err(failed(&path))?,
            }
        };
        dir::sync(&self.dir.path)?;
        self.tail = Some(OpenSegment { file, first, seed, bytes: HEADER });
        self.dir.begin(Segment { first, bytes: HEADER, newest: i64::MIN, keyed: false });
        Ok(())
    }

    /// Appends the buffer to the last segment; truncates a write that failed. On a full disk, makes space and tries
    /// again. Fails if the last segment itself had to be removed; the next group begins another segment.
    fn append(&mut self) -> Result<()> {
        while let Some(tail) = &mut self.tail {
            let Err(error) = tail.file.append(&self.buffer) else { break };
            let path = segment::path(&self.dir.path, tail.first);
            if tail.file.truncate(tail.bytes).is_err() {
                self.tail = None;
            }
            if self.tail.is_none() || !is_full(&error) || !self.make_space() || self.tail.is_none() {
                return Err(failed(&path)(error));
            }
        }
        Ok(())
    }

    /// Writes the buffer with the entries of these requests and syncs it.
    fn write<'a>(&mut self, stored: impl Iterator<Item = &'a Request> + Clone) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.append()?;
        let Some(tail) = self.tail.as_mut() else { return Ok(()) };
        let path = segment::path(&self.dir.path, tail.first);
        if let Err(error) = tail.file.sync() {
            // The kernel may treat the lost pages as written from now on, so this file is not written to again. If it
            // cannot be truncated, the remains lie after the first offset of the next segment and are ignored.
            let _ = tail.file.truncate(tail.bytes);
            self.tail = None;
            return Err(failed(&path)(error));
        }
        tail.bytes += self.buffer.len() as u64;
        let newest = stored.clone().map(|request| request.arrived_at).max().unwrap_or(i64::MIN);
        self.dir.grow(tail.bytes, newest, stored.into_iter().any(|request| request.key.is_some()));
        self.dir.set_end(self.next);
        Ok(())
    }

    /// Reports the first failure, and the first success after it.
    fn report(&mut self, written: &Result<()>) {
        let console = &self.run.console;
        match written {
            Err(error) if !self.is_failing => {
                console.say(format!("{error}; requests are rejected until writing succeeds"));
            }
            Ok(()) if self.is_failing => console.say(format!("{}: writing again", self.dir.path.display())),
            _ => {}
        }
        self.is_failing = written.is_err();
    }

    /// Reads the request at a place, for the answer to a repeated request.
    fn repeat(&self, place: SegmentOffset) -> Answer {
        let read = || -> Result<Option<Next>> {
            let Some(mut reader) = SegmentReader::open(&segment::path(&self.dir.path, place.segment))? else {
                return Ok(None);
            };
            reader.seek(place.byte)?;
            reader.next(u64::MAX).map(Some)
        };
        match read() {
            Ok(Some(Next::Entry(entry))) => Answer::Repeated(Arc::new(entry)),
            Ok(_) => Answer::Unavailable("the stored answer cannot be read".into()),
            Err(error) => Answer::Unavailable(error.to_string()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.dir.close();
        self.waker.wake();
    }
}
