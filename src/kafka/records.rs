//! Passes the payloads of a topic to the ingest, by the topic's format: JSON, Avro, dead letters or frames.

use super::framing::{self, Heard};
use super::letter;
use super::range::Part;
use crate::error::{Error, Result, guarded};
use crate::frame::{Control, Frame, PartitionState, Progress};
use crate::ingest::{Ingest, Spot, Wrapper};
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::headers::Headers;
use crate::mapping::{Arrival, Stamper};
use crate::registry::place;
use crate::registry::wire::{self, Wire};
use crate::run::Run;
use crate::uri::kafka::{Address, Form};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{Message as _, Timestamp};
use std::collections::VecDeque;

/// An item of a message of frames.
pub enum Framed {
    /// The schema of the rows that follow.
    Schema(SchemaRef),
    /// Rows.
    Batch(RecordBatch),
    /// Partitions whose state changed.
    News(Vec<PartitionState>),
    /// A watermark that holds in all partitions of the topic.
    Watermark(i64),
}

/// The partitions being read, and the decoder of their payloads.
pub struct Reading {
    /// The partitions.
    pub parts: Vec<Part>,
    /// Decodes their payloads.
    pub records: Records,
    /// Payload bytes read so far.
    pub bytes: u64,
    /// The part of the last message: most messages belong to the same part as the one before.
    last: usize,
}

impl Reading {
    /// Begins with nothing read.
    pub fn new(parts: Vec<Part>, records: Records) -> Self {
        Self { parts, records, bytes: 0, last: 0 }
    }

    /// Resets the look-up of parts. It must be called after parts were removed.
    pub fn rewind(&mut self) {
        self.last = 0;
    }

    /// Takes a message of part `at`; returns whether the part is at its end.
    #[inline]
    pub fn take(&mut self, at: usize, message: &Message<'_>, topics: &[String], ingest: &mut Ingest) -> Result<bool> {
        let part = &mut self.parts[at];
        let (of, offset, arrival) = ((part.topic, part.number), message.offset, message.arrival);
        if part.is_behind(offset) {
            return Ok(true);
        }
        if offset < part.next {
            return Ok(false);
        }
        (part.next, part.last) = (offset + 1, arrival.map(|arrival| arrival.at));
        let done = part.is_done();
        match message.value {
            // A tombstone is neither an event nor a fault.
            None => ingest.tombstone(),
            Some(payload) => {
                self.bytes += payload.len() as u64;
                let wrapper = Wrapper { key: message.key, headers: message.headers, arrival };
                let spot = Spot { name: &topics[of.0], partition: part.stamp, wrapper: Some(wrapper) };
                self.records.take((payload, offset), of, spot, ingest)?;
            }
        }
        Ok(done)
    }

    /// Notes that the fetched records of part `at` have been read, up to `next`; `high` is its present end offset. Returns
    /// whether the part is at its end.
    pub fn read_to(&mut self, at: usize, (next, high): (Option<i64>, i64)) -> bool {
        let part = &mut self.parts[at];
        part.next = next.unwrap_or(part.next).max(part.next);
        part.extent.high = high;
        part.is_done() || part.end.is_some() && part.next >= high
    }

    /// Returns the index of a partition's part, if it is being read.
    pub fn find(&mut self, (topic, number): (usize, i32)) -> Option<usize> {
        let is_it = |part: &Part| part.number == number && part.topic == topic && !part.ended;
        match self.parts.get(self.last).filter(|part| is_it(part)) {
            Some(_) => Some(self.last),
            None => {
                self.last = self.parts.iter().position(is_it)?;
                Some(self.last)
            }
        }
    }
}

/// A message, fetched by [`fetch`](super::fetch) or by librdkafka.
pub struct Message<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its payload; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a dyn Headers,
    /// When it arrived in Kafka.
    pub arrival: Option<Arrival>,
}

impl Message<'_> {
    /// Makes the arrival from a Kafka timestamp (ms). It is a fact if the broker set it, else a claim of the producer's clock.
    /// `None` if it is negative or outside of the calendar.
    pub fn arrival((millis, is_fact): (i64, bool)) -> Option<Arrival> {
        let at = millis.checked_mul(1000).filter(|at| crate::time::is_in_calendar(*at))?;
        (millis >= 0).then_some(Arrival { at, is_fact })
    }
}

/// Opens the decoder of topics in Avro; `None` for other topics. Errors: exit status 78 if a schema that is named does not
/// exist, 2 if `schema_id=` is set, which is for writing.
pub fn wire(address: &Address, run: &Run) -> Result<Option<Wire>> {
    let Some(schemas) = &address.options.schemas else { return Ok(None) };
    if address.options.schema_id.is_some() {
        return Err(Error::usage(format!("{address}: schema_id= is an option of outputs; use reader=")));
    }
    let registry = place::server_only(schemas, &run.console)?;
    Ok(Some(match &address.options.reader {
        Some(choice) => Wire::reading(registry, choice, &address.topics)?,
        None => Wire::new(registry),
    }))
}

/// The decoder of the payloads of one input.
pub struct Records {
    form: Form,
    /// Decodes Avro.
    wire: Option<Wire>,
    /// Whether the records are dead letters, decided by the first one.
    letters: Option<bool>,
    heard: Heard,
    framed: VecDeque<Framed>,
    /// The worst exit verdict of the writers whose streams ended.
    verdict: u8,
}

impl Records {
    /// Decodes payloads of this form; `wire` decodes Avro.
    pub fn new(form: Form, wire: Option<Wire>) -> Self {
        Self { form, wire, letters: None, heard: Heard::default(), framed: VecDeque::new(), verdict: 0 }
    }

    /// Announces a partition to the stamper; returns its index there. A topic of frames is silent: its frames announce their
    /// own partitions.
    pub fn announce(&self, stamper: &mut Stamper, origin: &str, number: i32) -> u32 {
        let name = number.to_string();
        match self.form {
            Form::Json | Form::Avro => stamper.partition(origin, &name),
            Form::Frames => stamper.silent(origin, &name),
        }
    }

    /// Takes the next item of the frames read.
    pub fn pop(&mut self) -> Option<Framed> {
        self.framed.pop_front()
    }

    /// Returns the worst exit verdict of the writers whose streams ended.
    pub fn verdict(&self) -> u8 {
        self.verdict
    }

    /// Whether each part that has not ended has received a progress message that lists all partitions of its writer.
    pub fn is_complete(&self, parts: &[Part]) -> bool {
        self.heard.is_complete(parts.iter().map(|part| ((part.topic, part.number), part.ended)))
    }

    /// Returns all partitions that frames announced, as ended.
    pub fn ended(&self) -> Progress {
        Progress { partitions: self.heard.ended(), complete: true, ..Progress::default() }
    }

    /// Decodes one payload of partition `of` (topic, number).
    pub fn take(
        &mut self,
        (payload, offset): (&[u8], i64),
        of: (usize, i32),
        spot: Spot<'_>,
        ingest: &mut Ingest,
    ) -> Result<()> {
        match self.form {
            Form::Json => self.record((payload, offset), spot, ingest),
            Form::Avro => self.avro((payload, offset), (of.0, spot), ingest),
            Form::Frames => match framing::frames(payload) {
                Ok(frames) => {
                    frames.into_iter().for_each(|frame| self.frame(frame, of));
                    Ok(())
                }
                Err(error) => {
                    let fault = Fault::new(ErrorType::ParseError, format!("expected frames: {error}"));
                    ingest.refuse((payload, offset), &fault, spot)
                }
            },
        }
    }

    /// Takes a record: a dead letter, or the value of an event.
    fn record(&mut self, (payload, offset): (&[u8], i64), spot: Spot<'_>, ingest: &mut Ingest) -> Result<()> {
        let Some(wrapper) = spot.wrapper else { return ingest.message(payload, offset, spot) };
        let letters =
            *self.letters.get_or_insert_with(|| letter::is_letter(wrapper.headers) && ingest.becomes(Kind::Dead));
        if !letters {
            // A dead letter read as its original record must hold all of that record.
            return match letter::whole_length(wrapper.headers) {
                None => ingest.message(payload, offset, spot),
                Some(length) => ingest.refuse((payload, offset), &cut_short(payload.len(), length), spot),
            };
        }
        if !letter::is_letter(wrapper.headers) {
            let fault = Fault::new(ErrorType::EnvelopeError, "expected a dead letter, found no headers of a failure");
            return ingest.refuse((payload, offset), &fault, spot);
        }
        let json = letter::to_json(payload, wrapper.key, wrapper.headers);
        ingest.text((payload, &json), offset, spot)
    }

    fn avro(
        &mut self,
        (payload, offset): (&[u8], i64),
        (topic, spot): (usize, Spot<'_>),
        ingest: &mut Ingest,
    ) -> Result<()> {
        let Some(wire) = &mut self.wire else { return Err(Error::broken("a topic in Avro without its registry")) };
        let mut header = None;
        if let Some(wrapper) = spot.wrapper {
            wrapper.headers.each(&mut |name, value| {
                if name == wire::HEADER {
                    header = Some(value.unwrap_or_default().to_vec());
                }
            });
        }
        match wire.text(payload, header.as_deref(), topic)? {
            Ok(text) => ingest.text((payload, text), offset, spot),
            Err(fault) => ingest.refuse((payload, offset), &fault, spot),
        }
    }

    fn frame(&mut self, frame: Frame, of: (usize, i32)) {
        match frame {
            Frame::Schema(schema) => self.framed.push_back(Framed::Schema(schema)),
            Frame::Batch(batch) => self.framed.push_back(Framed::Batch(batch)),
            Frame::Control(Control::Progress(progress)) => {
                if progress.complete {
                    self.heard.complete(of);
                }
                let news = self.heard.news(progress);
                self.framed.push_back(Framed::News(news));
            }
            Frame::Control(Control::Watermark(instant)) => {
                self.framed.extend(self.heard.promise(of, instant).map(Framed::Watermark));
            }
            Frame::Control(Control::End(end)) => self.verdict = self.verdict.max(end.verdict),
            Frame::Control(Control::Barrier(_)) | Frame::Eos => {}
        }
    }
}

/// Makes the fault of a dead letter that holds only the beginning of its record.
#[cold]
fn cut_short(kept: usize, length: u64) -> Fault {
    let message = format!("the dead letter has only {kept} of the record's {length} bytes");
    Fault::new(ErrorType::TooLargeError, message).of_cut(length)
}

/// A message that librdkafka fetched.
pub struct Borrowed<'a, 'b>(pub &'a BorrowedMessage<'b>);

impl Borrowed<'_, '_> {
    /// Returns its contents.
    pub fn message(&self) -> Message<'_> {
        let time = match self.0.timestamp() {
            Timestamp::NotAvailable => (-1, false),
            Timestamp::CreateTime(millis) => (millis, false),
            Timestamp::LogAppendTime(millis) => (millis, true),
        };
        let (offset, key, value) = (self.0.offset(), self.0.key(), self.0.payload());
        Message { offset, key, value, headers: self, arrival: Message::arrival(time) }
    }
}

impl Headers for Borrowed<'_, '_> {
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let Some(headers) = self.0.headers() else { return };
        for at in 0..headers.count() {
            // Brokers accept header names that are not UTF-8, and the binding panics on them: such a header is skipped.
            if let Ok(Some(header)) = guarded(|| headers.try_get(at)) {
                show(header.key, header.value);
            }
        }
    }
}
