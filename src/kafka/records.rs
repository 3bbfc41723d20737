//! Payloads of a topic, by what the topic holds: JSON, Avro, dead letters, or frames.

use super::framing::{self, Heard};
use super::letter;
use super::range::Part;
use crate::error::{Error, Result, guarded};
use crate::frame::{Control, Frame, PartitionState, Progress};
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::headers::Headers;
use crate::mapping::{Arrival, Stamper};
use crate::registry::place;
use crate::registry::wire::{self, Wire};
use crate::run::Run;
use crate::stream::intake::{Intake, Spot, Wrapper};
use crate::uri::kafka::{Address, Form};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{Message as _, Timestamp};
use std::collections::VecDeque;

/// What a message of frames held.
pub enum Framed {
    /// What the rows are.
    Schema(SchemaRef),
    /// Rows.
    Batch(RecordBatch),
    /// Partitions of which there is news.
    News(Vec<PartitionState>),
    /// A promise that holds in all partitions of the topic.
    Watermark(i64),
}

/// The partitions that are read, and what comes of them.
pub struct Reading {
    /// The partitions.
    pub parts: Vec<Part>,
    /// Their payloads.
    pub records: Records,
    /// Bytes of payload so far.
    pub bytes: u64,
    /// The part of the last message: the next one is mostly of the same.
    last: usize,
}

impl Reading {
    /// Nothing read yet.
    pub fn new(parts: Vec<Part>, records: Records) -> Self {
        Self { parts, records, bytes: 0, last: 0 }
    }

    /// Some parts have gone.
    pub fn rewind(&mut self) {
        self.last = 0;
    }

    /// Takes a message of part `at`; whether it brings the part to its end.
    #[inline]
    pub fn take(
        &mut self,
        at: usize,
        message: &Message<'_>,
        (topics, intake): (&[String], &mut Intake),
    ) -> Result<bool> {
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
            // A key is no more: no event, and no error.
            None => intake.tombstone(),
            Some(payload) => {
                self.bytes += payload.len() as u64;
                let wrapper = Wrapper { key: message.key, headers: message.headers, arrival };
                let spot = Spot { name: &topics[of.0], partition: part.stamp, wrapper: Some(wrapper) };
                self.records.take((payload, offset), of, spot, intake)?;
            }
        }
        Ok(done)
    }

    /// All that came of part `at` has been read, up to `next`; `high` is one behind its last offset by now. Whether it is at its
    /// end.
    pub fn read_to(&mut self, at: usize, (next, high): (Option<i64>, i64)) -> bool {
        let part = &mut self.parts[at];
        part.next = next.unwrap_or(part.next).max(part.next);
        part.extent.high = high;
        part.is_done() || part.end.is_some() && part.next >= high
    }

    /// The part of a topic's partition, if it is read.
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

/// A message of a topic, whoever has fetched it.
pub struct Message<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its payload; none says that the key is no more.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a dyn Headers,
    /// When it arrived.
    pub arrival: Option<Arrival>,
}

impl Message<'_> {
    /// When it arrived, by the milliseconds that Kafka keeps: a fact where the broker says so, else what the producer's clock
    /// said.
    pub fn arrival((millis, is_fact): (i64, bool)) -> Option<Arrival> {
        let at = millis.checked_mul(1000).filter(|at| crate::time::is_in_calendar(*at))?;
        (millis >= 0).then_some(Arrival { at, is_fact })
    }
}

/// What reads the records of topics in Avro; none where they are not. 78 where a schema that is asked for is not there, 2
/// where one is named to write by.
pub fn wire(address: &Address, run: &Run) -> Result<Option<Wire>> {
    let Some(schemas) = &address.options.schemas else { return Ok(None) };
    if address.options.schema_id.is_some() {
        return Err(Error::usage(format!("{address}: schema_id= is for writing: reader= names the schema to read as")));
    }
    let registry = place::server_only(schemas, &run.console)?;
    Ok(Some(match &address.options.reader {
        Some(choice) => Wire::reading(registry, choice, &address.topics)?,
        None => Wire::new(registry),
    }))
}

/// Takes the payloads of one input.
pub struct Records {
    form: Form,
    /// Reads Avro.
    wire: Option<Wire>,
    /// Whether the records are dead letters: the first one tells.
    letters: Option<bool>,
    heard: Heard,
    framed: VecDeque<Framed>,
    /// The worst verdict of the writers that ended.
    verdict: u8,
}

impl Records {
    /// Payloads of this form; `wire` reads those in Avro.
    pub fn new(form: Form, wire: Option<Wire>) -> Self {
        Self { form, wire, letters: None, heard: Heard::default(), framed: VecDeque::new(), verdict: 0 }
    }

    /// The number of a partition, known from now on. Frames bring partitions of their own.
    pub fn announce(&self, stamper: &mut Stamper, origin: &str, number: i32) -> u32 {
        let name = number.to_string();
        match self.form {
            Form::Json | Form::Avro => stamper.partition(origin, &name),
            Form::Frames => stamper.silent(origin, &name),
        }
    }

    /// What came in frames.
    pub fn pop(&mut self) -> Option<Framed> {
        self.framed.pop_front()
    }

    /// The worst verdict of the writers that ended.
    pub fn verdict(&self) -> u8 {
        self.verdict
    }

    /// Whether each of `parts` has said that it knows all partitions, or has ended.
    pub fn is_complete(&self, parts: &[Part]) -> bool {
        self.heard.is_complete(parts.iter().map(|part| ((part.topic, part.number), part.ended)))
    }

    /// All partitions that were heard of, at their end.
    pub fn ended(&self) -> Progress {
        Progress { partitions: self.heard.ended(), complete: true, ..Progress::default() }
    }

    /// Takes one payload of partition `of`.
    pub fn take(
        &mut self,
        (payload, offset): (&[u8], i64),
        of: (usize, i32),
        spot: Spot<'_>,
        intake: &mut Intake,
    ) -> Result<()> {
        match self.form {
            Form::Json => self.record((payload, offset), spot, intake),
            Form::Avro => self.avro((payload, offset), (of.0, spot), intake),
            Form::Frames => match framing::frames(payload) {
                Ok(frames) => {
                    frames.into_iter().for_each(|frame| self.frame(frame, of));
                    Ok(())
                }
                Err(error) => {
                    let fault = Fault::new(ErrorType::ParseError, format!("no frames: {error}"));
                    intake.refuse((payload, offset), &fault, spot)
                }
            },
        }
    }

    fn record(&mut self, (payload, offset): (&[u8], i64), spot: Spot<'_>, intake: &mut Intake) -> Result<()> {
        let Some(wrapper) = spot.wrapper else { return intake.message(payload, offset, spot) };
        let letters =
            *self.letters.get_or_insert_with(|| letter::is_letter(wrapper.headers) && intake.becomes(Kind::Dead));
        if !letters {
            // A letter that is read as the record it was must be whole.
            return match letter::whole_length(wrapper.headers) {
                None => intake.message(payload, offset, spot),
                Some(length) => intake.refuse((payload, offset), &cut_short(payload.len(), length), spot),
            };
        }
        if !letter::is_letter(wrapper.headers) {
            let fault = Fault::new(ErrorType::EnvelopeError, "no dead letter: its headers say nothing of a failure");
            return intake.refuse((payload, offset), &fault, spot);
        }
        let json = letter::to_json(payload, wrapper.key, wrapper.headers);
        intake.text((payload, &json), offset, spot)
    }

    fn avro(
        &mut self,
        (payload, offset): (&[u8], i64),
        (topic, spot): (usize, Spot<'_>),
        intake: &mut Intake,
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
            Ok(text) => intake.text((payload, text), offset, spot),
            Err(fault) => intake.refuse((payload, offset), &fault, spot),
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

/// Why the payload of a letter is not the record that it was.
#[cold]
fn cut_short(kept: usize, length: u64) -> Fault {
    let message = format!("{kept} of the record's {length} bytes were kept when it became a dead letter");
    Fault::new(ErrorType::TooLargeError, message).of_cut(length)
}

/// A message that librdkafka has fetched.
pub struct Borrowed<'a, 'b>(pub &'a BorrowedMessage<'b>);

impl Borrowed<'_, '_> {
    /// What it holds.
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
            // Brokers take any bytes for a name; the binding panics on one that is no text, and that one is passed over.
            if let Ok(Some(header)) = guarded(|| headers.try_get(at)) {
                show(header.key, header.value);
            }
        }
    }
}
