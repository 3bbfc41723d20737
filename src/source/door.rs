//! The front door as the source of a stage: requests that were kept, in their order.

use super::{Current, Source, SourceOptions};
use crate::error::{Error, Result};
use crate::frame::How;
use crate::http::Server;
use crate::ingest::ByteProgress;
use crate::ingest::{Ingest, Item, Spot, Wrapper};
use crate::input::Step;
use crate::kind::headers::Headers;
use crate::mapping::Arrival;
use crate::run::Run;
use crate::spool::entry::Entry;
use crate::spool::inlet::{Pace, hear};
use crate::spool::request::Fate;
use crate::spool::shelf::Position;
use crate::spool::{self, SpoolReader};
use crate::stop::Woken;
use crate::uri::Uri;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Entries taken before rows are looked after.
const ENTRIES: usize = 1024;
/// How often the outputs are asked to make safe what is on disk already.
const RELAXED: Duration = Duration::from_secs(1);
/// How long a client waits for others before the outputs are asked.
const EAGER: Duration = Duration::from_millis(50);
/// How long a run that was asked to stop goes on with what is on disk: the rest is there for the next one.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a run that has failed waits until requests under way are kept, so that it can count them.
const LAST_KEPT: Duration = Duration::from_secs(1);

/// The name of the origin where `--origin` gives none.
pub const ORIGIN: &str = "http";

/// Called once when a signal asks to stop: the server takes no more requests, answers those it has, and lets go of its
/// keeper.
pub type Drain = Box<dyn FnOnce()>;

/// What was kept of requests, being read.
pub struct Door {
    inlet: SpoolReader,
    drain: Option<Drain>,
    name: String,
    /// The number of its one partition.
    stamp: u32,
    /// The offset read next.
    next: i64,
    /// The outputs have everything before this offset.
    settled: i64,
    noted: Option<Position>,
    /// When something was read first that the outputs were not asked for yet.
    since: Option<Instant>,
    /// Whether all there was has been read.
    idle: bool,
    /// When nothing more could come.
    closed: Option<Instant>,
    /// How long reading goes on after that.
    patience: Duration,
    troubled: bool,
    bytes: u64,
}

impl Door {
    fn new((inlet, drain): (SpoolReader, Drain), name: &str, stamp: u32) -> Self {
        let offset = inlet.start().offset;
        Self {
            inlet,
            drain: Some(drain),
            name: name.to_owned(),
            stamp,
            next: offset,
            settled: offset,
            noted: None,
            since: None,
            idle: true,
            closed: None,
            patience: PATIENCE,
            troubled: false,
            bytes: 0,
        }
    }

    /// Bytes of payload so far.
    pub(super) fn extent(&self) -> ByteProgress {
        ByteProgress { done: self.bytes, total: None }
    }

    /// Reads for a while.
    fn step(&mut self, ingest: &mut Ingest, run: &Run) -> Result<Step> {
        if run.stop.signal().is_some()
            && let Some(drain) = self.drain.take()
        {
            drain();
        }
        hear(self.inlet.bell());
        // Asked before it is read: what came last is read after that.
        let end = self.inlet.end();
        if let Some(end) = end
            && self.closed.get_or_insert_with(Instant::now).elapsed() >= self.patience
            && self.next < end
            && self.is_left_behind()
        {
            let left = end - self.next;
            run.console.say(format!("{left} records are left in the spool for the next run: the outputs are slow"));
            return Ok(Step::Stopped);
        }
        ingest.look_at_clock();
        let start = Instant::now();
        for taken in 0..ENTRIES {
            self.idle = !self.take(ingest)?;
            if self.idle {
                return match (taken, end) {
                    (0, Some(_)) => Ok(Step::End),
                    (0, None) => self.wait(ingest, run),
                    _ => Ok(Step::More),
                };
            }
            if taken % 64 == 0 && start.elapsed() >= Run::LINGER {
                break;
            }
        }
        Ok(Step::More)
    }

    /// Whether what is not read now is there for the next run.
    fn is_left_behind(&self) -> bool {
        self.inlet.pace() == Pace::Relaxed
    }

    /// Takes the next entry, if there is one.
    fn take(&mut self, to: &mut Ingest) -> Result<bool> {
        let Some(entry) = self.inlet.next()? else { return Ok(false) };
        if entry.end() > self.next {
            self.bytes += feed(&entry, (&self.name, self.stamp), self.next, to)?;
            self.next = entry.end();
            self.since.get_or_insert_with(Instant::now);
        }
        Ok(true)
    }

    fn wait(&mut self, ingest: &Ingest, run: &Run) -> Result<Step> {
        let timeout = if ingest.has_rows() { Run::LINGER } else { Run::TICK };
        let heed = self.drain.is_some();
        match run.stop.wait(self.inlet.bell(), heed, Some(timeout))? {
            Woken::Ready | Woken::Stopped => Ok(Step::More),
            Woken::Timeout => Ok(Step::Idle),
        }
    }

    /// Whether the outputs should make safe now what was read.
    fn is_due(&self) -> bool {
        let Some(since) = self.since.filter(|_| self.noted.is_none()) else { return false };
        match self.inlet.pace() {
            Pace::Never => false,
            Pace::Relaxed => since.elapsed() >= RELAXED,
            Pace::Eager => self.idle || since.elapsed() >= EAGER,
        }
    }

    /// Notes where reading is, if that is due: every row before has been handed out once the queue is empty.
    fn note(&mut self, ingest: &mut Ingest) -> Result<bool> {
        if !self.is_due() {
            return Ok(false);
        }
        ingest.flush()?;
        self.since = None;
        self.noted = Some(self.position(ingest));
        Ok(true)
    }

    /// Where the outputs are once they have all rows that were handed out.
    fn position(&self, ingest: &mut Ingest) -> Position {
        let offset = ingest.first_held(self.stamp).unwrap_or(self.next);
        Position { offset, stream_time: ingest.stamper.stream_time(self.stamp) }
    }

    pub(super) fn has_noted(&self) -> bool {
        self.noted.is_some()
    }

    /// The outputs have everything before the noted position.
    pub(super) fn commit(&mut self, run: &Run) -> Result<()> {
        let Some(position) = self.noted.take() else { return Ok(()) };
        match self.inlet.settle(position) {
            Ok(()) => {
                self.settled = position.offset;
                self.troubled = false;
            }
            Err(error) => {
                // The next one says the same and more; the last one of a run must succeed.
                if !std::mem::replace(&mut self.troubled, true) {
                    run.console.say(format!("{error}: trying again"));
                }
                self.since.get_or_insert_with(Instant::now);
            }
        }
        Ok(())
    }

    /// The run fails and the outputs do not have everything: says how many records they lack, and what becomes of these.
    fn tell_left(&mut self, run: &Run) {
        if let Some(drain) = self.drain.take() {
            drain();
        }
        let start = Instant::now();
        while self.is_left_behind() && self.inlet.end().is_none() && start.elapsed() < LAST_KEPT {
            hear(self.inlet.bell());
            if run.stop.wait(self.inlet.bell(), false, Some(EAGER)).is_err() {
                break;
            }
        }
        let kept = self.inlet.end().unwrap_or_else(|| self.inlet.kept());
        let (left, what) = match self.inlet.pace() {
            Pace::Relaxed => (kept - self.settled, "records are left in the spool for the next run"),
            Pace::Eager => {
                (kept - self.settled, "records were not acknowledged: their clients have to send them again")
            }
            Pace::Never => (kept - self.next, "acknowledged records were never read and are lost (--ack memory)"),
        };
        if left > 0 {
            run.console.warn(format!("{left} {what}"));
        }
    }

    /// The run is at its end and the outputs are safe.
    pub(super) fn commit_end(&mut self, ingest: &mut Ingest) -> Result<()> {
        let position = self.position(ingest);
        match self.inlet.pace() {
            Pace::Never => Ok(()),
            _ if position.offset == self.settled => Ok(()),
            _ => self.inlet.settle(position),
        }
    }
}

/// Headers of a request.
struct Around<'a>(&'a Entry<'a>);

impl Headers for Around<'_> {
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        self.0.headers().for_each(|(name, value)| show(name, Some(value.as_bytes())));
    }
}

/// Gives the records of an entry that stand at offset `from` or behind to the ingest; bytes of payload.
fn feed(entry: &Entry<'_>, (name, partition): (&str, u32), from: i64, ingest: &mut Ingest) -> Result<u64> {
    let around = Around(entry);
    let arrival = Some(Arrival { at: entry.arrived_at, is_fact: true });
    let spot = Spot { name, partition, wrapper: Some(Wrapper { key: None, headers: &around, arrival }) };
    let mut bytes = 0;
    for (seen, offset) in entry.records().zip(entry.offset..).filter(|(_, offset)| *offset >= from) {
        bytes += seen.payload.len() as u64;
        match &seen.fate {
            Fate::New => ingest.message(seen.payload, offset, spot)?,
            Fate::Duplicate => ingest.duplicate(),
            Fate::Rejected(fault) => ingest.refuse((seen.payload, offset), fault, spot)?,
        }
    }
    Ok(bytes)
}

impl Source {
    /// A source of nothing but the requests that `reader` has; `drain` is called when a signal asks to stop.
    pub fn of_door(reader: SpoolReader, drain: Drain, options: SourceOptions, run: Rc<Run>) -> Result<Self> {
        let mut source = Self::open(&[], SourceOptions { raw_only: true, ..options }, run)?;
        source.open_door(reader, drain);
        Ok(source)
    }

    /// The next input is what was kept of requests. It never ends by itself: nothing can follow it.
    pub(super) fn open_door(&mut self, reader: SpoolReader, drain: Drain) {
        let origin = self.options.origin.clone().unwrap_or_else(|| ORIGIN.to_owned());
        let stamp = self.ingest.stamper.partition(&origin, "0");
        self.ingest.stamper.resume(stamp, reader.start().stream_time);
        // What rows are is known: requests are answered while none has come yet.
        self.schema = Some(self.ingest.schema());
        self.current = Some(Current::Door(Box::new(Door::new((reader, drain), &origin, stamp))));
    }

    /// Opens the front door: what its keeper has is read here.
    pub(super) fn listen(&mut self, uri: &Uri) -> Result<()> {
        let Some(options) = self.options.http.take() else {
            return Err(Error::usage(format!("{uri}: only evt-ingest listens")));
        };
        let Some(promise) = &self.options.promise else {
            return Err(Error::broken(format!("{uri}: nobody says what an acknowledgement promises")));
        };
        let (keeper, reader) = spool::open(promise, &self.run)?;
        let server = Server::open(*options, keeper, &self.run)?;
        self.run.service.ready();
        self.open_door(reader, Box::new(move || server.drain()));
        Ok(())
    }

    /// The run fails: says how many records of requests the outputs lack.
    pub fn tell_left(&mut self) {
        let reading = if let Some(Current::Door(door)) = &mut self.current { Some(door) } else { self.door.as_mut() };
        if let Some(door) = reading {
            door.tell_left(&self.run);
        }
    }

    pub(super) fn step_door(&mut self, mut door: Box<Door>) -> Result<()> {
        let step = door.step(&mut self.ingest, &self.run)?;
        let noted = door.note(&mut self.ingest)?;
        let stopped = self.run.stop.signal().is_some() || step == Step::Stopped;
        match step {
            Step::More | Step::Idle => {
                if step == Step::Idle {
                    self.ingest.flush()?;
                }
                self.tell(door.extent());
                if step == Step::Idle || noted {
                    // Whoever asks next has taken in all that came before.
                    self.send(Item::Idle);
                }
                self.current = Some(Current::Door(door));
            }
            Step::End | Step::Stopped => {
                self.read = door.extent();
                match stopped {
                    true => self.stop()?,
                    false => self.finish_raw(true)?,
                }
                self.how = if stopped { How::Stopped } else { self.how };
                self.door = Some(door);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
