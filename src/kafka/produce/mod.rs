//! A topic as output: each row is a record, and counts once all in-sync replicas have acknowledged it.
//!
//! ```text
//! rows ─► write (body: the format; limit: the size) ─► librdkafka's queue ─► brokers
//!                                                                              │
//! again: smaller messages or refused rows ◄── batch too large ◄────────────────┘
//! ```
//!
//! The producer is idempotent: librdkafka's retries neither lose, repeat nor reorder messages. Its queue is bounded: slow
//! brokers cause backpressure. A message that is not acknowledged within `wait=` ends the run: nothing is dropped, and only
//! acknowledged rows count as written.
//!
//! [`body`] chooses the format of messages, [`limit`] the largest record, `passed` the headers that are passed on; [`again`]
//! resends messages whose batch was too large.

pub mod again;
pub mod body;
pub mod limit;
mod passed;

use crate::counts::SinkCounts;
use crate::error::{Error, ErrorKind, Result};
use crate::format::cell::{Column, Form as CellForm};
use crate::format::jsonl::Objects;
use crate::frame::Control;
use crate::kafka::client::Returned;
use crate::kafka::client::{self, Context};
use crate::kafka::framing;
use crate::kafka::health::Health;
use crate::kafka::letter::Letters;
use crate::kind::Kind;
use crate::kind::dead::{Fault, Rejected};
use crate::kind::headers::{HeaderRows, Headers as Shown};
use crate::kind::letters;
use crate::metrics::Up;
use crate::run::Run;
use crate::uri::kafka::{Address, Form};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use body::{Body, body, target, usual_key};
use limit::{CUT_HEADER, Limit, RowLimit, headers_size};
use passed::Passed;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long to poll a full queue, or for acknowledgements, before the brokers' health is checked again.
const LULL: Duration = Duration::from_millis(50);
/// Interval at which the progress of the source's partitions is sent again, for readers that begin in the middle.
const REPEAT: Duration = Duration::from_secs(10);

/// An open output: the producer of one topic.
pub struct KafkaOutput {
    run: Rc<Run>,
    address: Address,
    topic: String,
    producer: BaseProducer<Context>,
    schema: SchemaRef,
    body: Body,
    /// The number of partitions of the topic.
    partitions: i32,
    health: Health,
    /// The largest record that is sent, and (`topic_limit`) the topic's own limit.
    limit: Limit,
    up: Up,
    topic_limit: Option<usize>,
    /// Rows that were taken and refused later by the brokers.
    bounced: Vec<Bounced>,
    /// Rows taken, and (`refused`) those that could not be sent.
    taken: u64,
    refused: u64,
    /// Whether a control message was left out because it is too large for the topic.
    leaves_out: bool,
    /// Rows of the present batch that are not in the producer's queue yet.
    unsent: usize,
    value: String,
}

/// A message to be queued.
struct Outgoing<'a> {
    partition: Option<i32>,
    key: Option<&'a [u8]>,
    value: &'a [u8],
    headers: Option<OwnedHeaders>,
}

impl Outgoing<'_> {
    fn size(&self) -> usize {
        limit::size(self.value.len(), self.key.map_or(0, <[u8]>::len), headers_size(self.headers.as_ref()))
    }
}

/// A row that the output took and that the brokers refused later.
pub struct Bounced {
    /// The row; `None` if it cannot be rebuilt from the message.
    pub row: Option<RecordBatch>,
    /// Why.
    pub fault: Fault,
    /// The payload of its message.
    pub payload: Vec<u8>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its headers, as far as they were sent.
    pub headers: Option<OwnedHeaders>,
    /// The topic.
    pub topic: String,
}

impl Shown for Bounced {
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        self.headers.iter().flat_map(OwnedHeaders::iter).for_each(|header| show(header.key, header.value));
    }
}

/// Acts on errors and statistics that librdkafka has reported. Errors: a permanent error ends the run.
fn look(producer: &BaseProducer<Context>, health: &mut Health, (address, run): (&Address, &Rc<Run>)) -> Result<()> {
    match producer.context().take_error() {
        Some(code) if client::is_passing(code) => health.note_error(address, run, code),
        Some(code) => return Err(client::failed(address, "writing failed", &KafkaError::Global(code))),
        None => {}
    }
    if producer.context().take_stats().is_some_and(|stats| stats.is_up) {
        health.note_success(address, run);
    }
    health.report(address, run);
    Ok(())
}

impl KafkaOutput {
    /// Checks the options of the address, without a broker. Errors: exit status 2 for an option of inputs.
    pub fn check(address: &Address) -> Result<()> {
        address.topic()?;
        let options = &address.options;
        let reads = [
            ("group", options.group.is_some()),
            ("start", options.start.is_some()),
            ("end", options.end.is_some()),
            ("partitions", options.partitions.is_some()),
            ("reader", options.reader.is_some()),
        ];
        if let Some((name, _)) = reads.iter().find(|(_, said)| *said) {
            return Err(Error::usage(format!("{address}: {name}= is an option of inputs only")));
        }
        Ok(())
    }

    /// Checks that the topic exists; creates nothing.
    pub fn ask(address: &Address, run: &Rc<Run>) -> Result<()> {
        let topic = address.topic()?;
        if address.options.form == Some(Form::Avro) {
            target(address, topic).check(&run.console)?;
        }
        let producer = producer(address, run, &[])?;
        partitions(&producer, topic, (address, run), address.options.wait.limit(false)).map(|_| ())
    }

    /// Opens the topic for rows of `schema`.
    pub fn open(address: &Address, (limit, up): (Limit, Up), schema: &SchemaRef, run: &Rc<Run>) -> Result<Self> {
        let asking = producer(address, run, &[])?;
        let topic = address.topic()?;
        let body = body(address, schema, run)?;
        // The run has begun: the brokers were reachable before, or the rows that arrive meanwhile are spooled.
        let partitions = partitions(&asking, topic, (address, run), address.options.wait.limit(true))?;
        drop(asking);
        let topic_limit = limit.learn(address, run, topic)?;
        let producer = producer(address, run, &limit.settings(topic_limit))?;
        Ok(Self {
            run: run.clone(),
            topic: topic.to_owned(),
            producer,
            limit,
            up,
            topic_limit,
            bounced: vec![],
            schema: schema.clone(),
            body,
            partitions,
            health: Health::new(address.options.wait),
            address: address.clone(),
            taken: 0,
            refused: 0,
            leaves_out: false,
            unsent: 0,
            value: String::new(),
        })
    }

    /// Queues each row, with its headers if a message is one row. Returns the rows that are too large for any broker or do not
    /// fit the schema.
    pub fn write(&mut self, batch: &RecordBatch, headers: Option<HeaderRows<'_>>) -> Result<Vec<Rejected>> {
        self.taken += batch.num_rows() as u64;
        let refused = match self.body {
            Body::Objects { key } => self.write_objects(batch, key, Passed::new(headers))?,
            Body::Avro { key, .. } => self.write_avro(batch, key, Passed::new(headers))?,
            Body::Letters => self.write_letters(batch)?,
            Body::Frames { .. } => self.write_frames(batch)?,
        };
        self.refused += refused.len() as u64;
        self.unsent = 0;
        self.producer.poll(Duration::ZERO);
        self.look()?;
        self.heed_returned()?;
        Ok(refused)
    }

    fn write_objects(
        &mut self,
        batch: &RecordBatch,
        key: Option<usize>,
        mut passed: Passed<'_>,
    ) -> Result<Vec<Rejected>> {
        let mut objects = Objects::try_new(batch)?;
        let schema = batch.schema();
        let mut key = key.map(|at| Column::new(schema.field(at), batch.column(at).as_ref(), CellForm::Text));
        let (mut value, mut text) = (std::mem::take(&mut self.value), String::new());
        let mut refused = vec![];
        for row in 0..batch.num_rows() {
            value.clear();
            text.clear();
            objects.write(row, &mut value);
            let key = key.as_mut().filter(|column| !column.is_null(row)).map(|column| {
                column.write(row, &mut text);
                text.as_bytes()
            });
            let outgoing = Outgoing { partition: None, key, value: value.as_bytes(), headers: passed.of(row) };
            self.unsent = batch.num_rows() - row;
            refused.extend(self.send(outgoing)?.map(|fault| Rejected { row, fault }));
        }
        self.value = value;
        Ok(refused)
    }

    fn write_avro(&mut self, batch: &RecordBatch, key: Option<usize>, mut passed: Passed<'_>) -> Result<Vec<Rejected>> {
        let Body::Avro { rows, .. } = &mut self.body else { return Ok(vec![]) };
        let (head, bodies) = (rows.head(), rows.encode(batch)?);
        for news in rows.news() {
            self.run.console.say(format!("{}: {news}", self.address));
        }
        let schema = batch.schema();
        let mut key = key.map(|at| Column::new(schema.field(at), batch.column(at).as_ref(), CellForm::Text));
        let (mut value, mut text) = (vec![], String::new());
        let mut refused = vec![];
        for (row, body) in bodies.into_iter().enumerate() {
            let body = match body {
                Ok(body) => body,
                Err(fault) => {
                    refused.push(Rejected { row, fault });
                    continue;
                }
            };
            value.clear();
            value.extend_from_slice(&head);
            value.extend_from_slice(&body);
            text.clear();
            let key = key.as_mut().filter(|column| !column.is_null(row)).map(|column| {
                column.write(row, &mut text);
                text.as_bytes()
            });
            self.unsent = batch.num_rows() - row;
            let fault = self.send(Outgoing { partition: None, key, value: &value, headers: passed.of(row) })?;
            refused.extend(fault.map(|fault| Rejected { row, fault }));
        }
        Ok(refused)
    }

    fn write_letters(&mut self, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        let mut letters = Letters::new(batch);
        let mut refused = vec![];
        for row in 0..batch.num_rows() {
            let (key, value) = (letters.key(row), letters.payload(row));
            let outgoing = Outgoing { partition: None, key, value, headers: Some(letters.headers(row)) };
            self.unsent = batch.num_rows() - row;
            let fault = match outgoing.size() <= self.limit.get() {
                true => self.send(outgoing)?,
                false => self.send_cut(batch.slice(row, 1))?,
            };
            refused.extend(fault.map(|fault| Rejected { row, fault }));
        }
        Ok(refused)
    }

    /// Sends as much of a dead letter as the limit allows.
    fn send_cut(&mut self, mut letter: RecordBatch) -> Result<Option<Fault>> {
        loop {
            let row = letter.clone();
            let mut letters = Letters::new(&row);
            let (key, value, headers) = (letters.key(0), letters.payload(0), Some(letters.headers(0)));
            let outgoing = Outgoing { partition: None, key, value, headers };
            let excess = outgoing.size().saturating_sub(self.limit.get());
            let shorter = if excess > 0 { letters::cut(&row, excess + CUT_HEADER)? } else { None };
            match shorter {
                Some(cut) => letter = cut,
                // It fits, or cannot be cut further.
                None => return self.send(outgoing),
            }
        }
    }

    fn write_frames(&mut self, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        self.unsent = batch.num_rows();
        for (number, rows) in framing::split(batch, self.partitions)? {
            self.send_frame(number, &rows)?;
            self.unsent -= rows.num_rows();
        }
        Ok(vec![])
    }

    /// Sends rows as one message, or in two halves if they are too large.
    fn send_frame(&mut self, number: i32, rows: &RecordBatch) -> Result<()> {
        let value = framing::rows(&self.schema, rows)?;
        let count = rows.num_rows();
        let outgoing = Outgoing { partition: Some(number), key: None, value: &value, headers: None };
        match self.send(outgoing)? {
            None => Ok(()),
            Some(fault) if count < 2 => {
                let excess = limit::size(value.len(), 0, 0).saturating_sub(self.limit.get());
                let is_letter = Kind::of(&self.schema) == Some(Kind::Dead);
                match if is_letter { letters::cut(rows, excess + CUT_HEADER)? } else { None } {
                    Some(cut) => self.send_frame(number, &cut),
                    None => {
                        let message = Returned { partition: number, key: None, value: vec![], headers: None };
                        self.bounce(Some(rows.clone()), fault, message);
                        Ok(())
                    }
                }
            }
            Some(_) => {
                self.send_frame(number, &rows.slice(0, count / 2))?;
                self.send_frame(number, &rows.slice(count / 2, count - count / 2))
            }
        }
    }

    /// Sends a control frame to every partition of the topic, if the format has control frames.
    pub fn control(&mut self, message: &Control) -> Result<()> {
        let Body::Frames { table, told } = &mut self.body else { return Ok(()) };
        match message {
            Control::Progress(progress) => {
                table.apply(progress);
                *told = Instant::now();
                self.repeat()
            }
            Control::Watermark(_) | Control::End(_) => {
                let value = framing::control(&self.schema, message)?;
                (0..self.partitions).try_for_each(|number| self.send_control(number, &value))
            }
            Control::Barrier(_) => Ok(()),
        }
    }

    /// Sends the progress of the source's partitions to every partition of the topic.
    fn repeat(&mut self) -> Result<()> {
        for number in 0..self.partitions {
            let Body::Frames { table, .. } = &self.body else { return Ok(()) };
            for part in table.message(number, self.partitions).parts() {
                let value = framing::control(&self.schema, &Control::Progress(part))?;
                self.send_control(number, &value)?;
            }
        }
        Ok(())
    }

    /// Sends a control message. One that is too large is left out: rows do not depend on it for their order.
    fn send_control(&mut self, number: i32, value: &[u8]) -> Result<()> {
        if let Some(fault) = self.send(Outgoing { partition: Some(number), key: None, value, headers: None })? {
            self.leave_out(&fault);
        }
        Ok(())
    }

    /// Warns, once, that a control message is left out.
    #[cold]
    fn leave_out(&mut self, fault: &Fault) {
        if !std::mem::replace(&mut self.leaves_out, true) {
            let why = &fault.message;
            let effect = "readers do not receive its times and ends";
            self.run.console.warn(format!("{}: a control message is omitted: {why}; {effect}", self.address));
        }
    }

    /// Queues a message; returns the fault if it is too large.
    fn send(&mut self, outgoing: Outgoing<'_>) -> Result<Option<Fault>> {
        if outgoing.size() <= self.limit.get() {
            return self.queue(outgoing).map(|()| None);
        }
        let Outgoing { key, value, headers, .. } = outgoing;
        Ok(Some(self.limit.fault(value.len(), key.map_or(0, <[u8]>::len), headers_size(headers.as_ref()))))
    }

    /// Queues a message; waits while the queue is full.
    fn queue(&mut self, outgoing: Outgoing<'_>) -> Result<()> {
        let Outgoing { partition, key, value, headers } = outgoing;
        let mut record = BaseRecord::to(&self.topic).payload(value);
        (record.partition, record.key, record.headers) = (partition, key, headers);
        let mut wait = None;
        loop {
            let (error, back) = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            match error.rdkafka_error_code() {
                Some(Code::QueueFull) => {
                    record = back;
                    self.producer.poll(LULL);
                    look(&self.producer, &mut self.health, (&self.address, &self.run))?;
                    self.up.set(self.health.is_up());
                    let wait = wait.get_or_insert_with(|| self.run.stop.server_wait());
                    wait.left(self.producer.in_flight_count());
                    if wait.is_over() {
                        return Err(self.stopped());
                    }
                }
                _ => return Err(client::failed(&self.address, "a record cannot be sent", &error)),
            }
        }
    }

    /// Checks the producer. Errors: exit status 69 if a message was not delivered.
    fn look(&mut self) -> Result<()> {
        look(&self.producer, &mut self.health, (&self.address, &self.run))?;
        self.up.set(self.health.is_up());
        let Some((code, partition)) = self.producer.context().failure() else { return Ok(()) };
        let (topic, lost) = (&self.topic, self.producer.context().failed());
        let message =
            format!("{topic}/{partition}: {lost} messages were not acknowledged and are not counted as written");
        let cause = match code {
            Code::MessageTimedOut => self.producer.context().cause().unwrap_or_else(|| client::describe(code)),
            code => client::describe(code),
        };
        Err(Error::new(ErrorKind::Unavailable, message).because(cause))
    }

    /// Does the periodic work: polls the producer, repeats the progress, resends returned messages.
    pub fn tick(&mut self) -> Result<()> {
        self.producer.poll(Duration::ZERO);
        if let Body::Frames { table, told } = &mut self.body
            && !table.is_empty()
            && told.elapsed() >= REPEAT
        {
            *told = Instant::now();
            self.repeat()?;
        }
        self.look()?;
        self.heed_returned()
    }

    /// Takes the rows that were taken and refused later, since the last call.
    pub fn bounced(&mut self) -> Vec<Bounced> {
        std::mem::take(&mut self.bounced)
    }

    fn heed_returned(&mut self) -> Result<()> {
        if self.producer.context().has_returned() { self.settle() } else { Ok(()) }
    }

    /// Waits until every message is acknowledged or its row is refused.
    pub fn settle(&mut self) -> Result<()> {
        self.acknowledged()?;
        self.send_again()
    }

    /// Waits until every message is acknowledged or returned.
    fn acknowledged(&mut self) -> Result<()> {
        let waiting = self.producer.in_flight_count();
        let mut wait = self.run.stop.server_wait();
        // librdkafka fails a message after `wait=`; this limit covers messages that it would never report.
        let limit = self.address.options.wait.limit(true).map(|limit| limit * 2);
        while self.producer.in_flight_count() > 0 {
            // The flush sends now instead of waiting for further messages.
            let _ = self.producer.flush(LULL);
            // Pending errors and statistics count as in flight, and a flush without messages does not process them: poll.
            self.producer.poll(Duration::ZERO);
            self.look()?;
            let now = self.producer.in_flight_count();
            wait.left(now);
            if now > 0 && wait.is_over() {
                return Err(self.stopped());
            }
            if limit.is_some_and(|limit| wait.idle() > limit) {
                let message = format!("{}: {now} messages were not acknowledged", self.address);
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        }
        self.look()?;
        if waiting > 0 {
            // Only now: inside the loop a falling number in flight does not prove a reachable broker, because errors and statistics
            // count too.
            self.health.note_success(&self.address, &self.run);
        }
        Ok(())
    }

    /// Makes the error of a wait for acknowledgements that a signal ended.
    #[cold]
    fn stopped(&self) -> Error {
        let unsent = match self.unsent {
            0 => String::new(),
            rows => format!(", {rows} rows were not sent"),
        };
        let message = format!(
            "{}: stopped: {} messages were not acknowledged and are not counted as written{unsent}",
            self.address,
            self.producer.in_flight_count()
        );
        let cause = self.producer.context().cause().unwrap_or_else(|| "no broker responds".to_owned());
        Error::new(ErrorKind::Unavailable, message).because(cause)
    }

    /// Ends the output once everything is acknowledged; returns the counts.
    pub fn finish(mut self) -> Result<SinkCounts> {
        self.settle()?;
        if let Body::Avro { rows, .. } = &self.body
            && let Some(summary) = rows.summary()
        {
            self.run.console.say(format!("{}: {summary}", self.address));
        }
        Ok(SinkCounts {
            taken: self.taken,
            inserted: self.taken - self.refused,
            dead: self.refused,
            ..SinkCounts::default()
        })
    }
}

/// Returns the size limit of events for a topic.
pub fn row_limit(address: &Address, limit: &Limit) -> RowLimit {
    let key = match address.options.key.as_deref() {
        Some("none") => None,
        key => Some(key.unwrap_or_else(|| usual_key(Some(Kind::Event))).to_owned()),
    };
    RowLimit::new(limit.clone(), address.options.form == Some(Form::Frames), key)
}

/// Returns the number of partitions of the topic. Errors: exit status 2 if it does not exist.
fn partitions(
    producer: &BaseProducer<Context>,
    topic: &str,
    (address, run): (&Address, &Rc<Run>),
    limit: Option<Duration>,
) -> Result<i32> {
    match client::ask_for(limit, (address, run), producer, |timeout| client::count(producer.client(), topic, timeout))?
    {
        Some(count) => Ok(count),
        None => Err(Error::usage(format!("{address}: topic {topic} does not exist or may not be written"))),
    }
}

fn producer(address: &Address, run: &Rc<Run>, sizes: &[(&str, String)]) -> Result<BaseProducer<Context>> {
    // 0 means no limit.
    let timeout = address.options.wait.limit(true).map_or(0, |limit| limit.as_millis().clamp(1000, i32::MAX as u128));
    let timeout = timeout.to_string();
    let settings = [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        // A message that is no longer in flight is acknowledged, so that reports of successes add nothing. They cost a third of
        // the work.
        ("delivery.report.only.error", "true"),
        ("message.timeout.ms", timeout.as_str()),
        // Bounds the memory of the queue behind slow brokers.
        ("queue.buffering.max.kbytes", "65536"),
        ("queue.buffering.max.messages", "200000"),
        // Java's partitioner: a key goes to the same partition as from a Java producer.
        ("partitioner", "murmur2_random"),
    ];
    let sizes = sizes.iter().map(|(name, value)| (*name, value.as_str()));
    let settings: Vec<_> = settings.into_iter().chain(sizes).collect();
    client::create(&client::config(address, run, &settings), address)
}
