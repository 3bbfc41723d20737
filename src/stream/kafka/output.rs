//! A topic as output: each row a record, acknowledged by all replicas before it counts.
//!
//! The producer is idempotent and numbers its messages, so that librdkafka's retries neither lose, repeat nor reorder any.
//! Its queue is bounded: where brokers are slow, writing waits. A message that is not acknowledged within `wait=` ends
//! the run: nothing is dropped, and nothing that was not acknowledged is counted out.

use super::address::{Address, Form};
use super::client::{self, Context, Health};
use super::framing::{self, Table};
use super::letter::{self, Letters};
use crate::counts::SinkCounts;
use crate::error::{Error, ErrorKind, Result};
use crate::format::cell::{Column, Form as CellForm};
use crate::format::jsonl::Objects;
use crate::frame::Control;
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::headers::Rows;
use crate::registry::rows::{AvroRows, Target as Schemas};
use crate::stream::run::Run;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a full queue is waited for before brokers are looked after again.
const LULL: Duration = Duration::from_millis(50);
/// How often what is known of partitions is said again, for readers that begin in the middle.
const REPEAT: Duration = Duration::from_secs(10);

/// What makes a record's key where nothing is said: what stays together then stays in order.
fn usual_key(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::Metric) => "metric_id",
        Some(Kind::Alert) => "rule",
        _ => "source",
    }
}

/// A producer for one topic.
pub struct KafkaOutput {
    run: Rc<Run>,
    address: Address,
    topic: String,
    producer: BaseProducer<Context>,
    schema: SchemaRef,
    body: Body,
    /// Partitions of the topic.
    partitions: i32,
    health: Health,
    /// Rows taken, and those among them that can never be sent.
    taken: u64,
    refused: u64,
    /// Rows of the batch that is being written that are not in the producer's queue yet.
    unsent: usize,
    value: String,
}

/// What messages hold.
enum Body {
    /// A row as JSON; the column that makes the key.
    Objects { key: Option<usize> },
    /// A row in Avro; the column that makes the key.
    Avro { key: Option<usize>, rows: Box<AvroRows> },
    /// A dead letter: its payload, and headers.
    Letters,
    /// Rows with their stamps; what the source has said of its partitions, and when that was repeated.
    Frames { table: Table, told: Instant },
}

/// A message to be sent.
struct Outgoing<'a> {
    partition: Option<i32>,
    key: Option<&'a [u8]>,
    value: &'a [u8],
    headers: Option<OwnedHeaders>,
}

/// What the names of headers begin with that say how the value of their record is to be read, or what had become of it:
/// our value is another one.
const OF_VALUE: [&str; 4] = ["__", "evt.", "ce_", "content-"];

fn is_of_value(name: &str) -> bool {
    let begins = |with: &&str| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    OF_VALUE.iter().any(begins)
}

/// Headers of the records that rows were made of, as librdkafka takes them: made anew only where they change.
struct Passed<'a> {
    rows: Option<Rows<'a>>,
    last: Option<(usize, Option<OwnedHeaders>)>,
}

impl<'a> Passed<'a> {
    fn new(rows: Option<Rows<'a>>) -> Self {
        Self { rows, last: None }
    }

    /// Those of a row; none where there are none to pass on.
    fn of(&mut self, row: usize) -> Option<OwnedHeaders> {
        let rows = self.rows?;
        let code = rows.code(row)?;
        if self.last.as_ref().is_none_or(|(last, _)| *last != code) {
            let made = letter::insert(OwnedHeaders::new(), &rows.get(code), |name| !is_of_value(name));
            self.last = Some((code, Some(made).filter(|made| made.count() > 0)));
        }
        self.last.as_ref().and_then(|(_, headers)| headers.clone())
    }
}

/// Brokers that go, and what librdkafka cannot go on after.
fn look(producer: &BaseProducer<Context>, health: &mut Health, (address, run): (&Address, &Rc<Run>)) -> Result<()> {
    match producer.context().take_trouble() {
        Some(code) if client::is_passing(code) => health.trouble(address, run, code),
        Some(code) => return Err(client::failed(address, "writing failed", &KafkaError::Global(code))),
        None => {}
    }
    if producer.context().take_told().is_some_and(|told| told.is_up) {
        health.good(address, run);
    }
    health.stand(address, run);
    Ok(())
}

impl KafkaOutput {
    /// Looks at what the address says, by itself.
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
            return Err(Error::usage(format!("{address}: {name}= is for reading")));
        }
        Ok(())
    }

    /// Asks whether the topic is there; makes nothing.
    pub fn ask(address: &Address, run: &Rc<Run>) -> Result<()> {
        let topic = address.topic()?;
        if address.options.form == Some(Form::Avro) {
            target(address, topic).check(&run.console)?;
        }
        let producer = producer(address, run)?;
        partitions(&producer, topic, (address, run), address.options.wait.limit(false)).map(|_| ())
    }

    /// Opens it for rows of `schema`.
    pub fn open(address: &Address, schema: &SchemaRef, run: &Rc<Run>) -> Result<Self> {
        let producer = producer(address, run)?;
        let topic = address.topic()?;
        let body = body(address, schema, run)?;
        // It has answered before, or what comes meanwhile is kept.
        let partitions = partitions(&producer, topic, (address, run), address.options.wait.limit(true))?;
        Ok(Self {
            run: run.clone(),
            topic: topic.to_owned(),
            producer,
            schema: schema.clone(),
            body,
            partitions,
            health: Health::new(address.options.wait),
            address: address.clone(),
            taken: 0,
            refused: 0,
            unsent: 0,
            value: String::new(),
        })
    }

    /// Sends each row with the headers it has, where a record of the topic is a row; those that are too large for any
    /// broker come back.
    pub fn write(&mut self, batch: &RecordBatch, headers: Option<Rows<'_>>) -> Result<Vec<(usize, Fault)>> {
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
        Ok(refused)
    }

    fn write_objects(
        &mut self,
        batch: &RecordBatch,
        key: Option<usize>,
        mut passed: Passed<'_>,
    ) -> Result<Vec<(usize, Fault)>> {
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
            refused.extend(self.send(outgoing)?.map(|fault| (row, fault)));
        }
        self.value = value;
        Ok(refused)
    }

    fn write_avro(
        &mut self,
        batch: &RecordBatch,
        key: Option<usize>,
        mut passed: Passed<'_>,
    ) -> Result<Vec<(usize, Fault)>> {
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
                    refused.push((row, fault));
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
            refused.extend(fault.map(|fault| (row, fault)));
        }
        Ok(refused)
    }

    fn write_letters(&mut self, batch: &RecordBatch) -> Result<Vec<(usize, Fault)>> {
        let mut letters = Letters::new(batch);
        let mut refused = vec![];
        for row in 0..batch.num_rows() {
            let (key, value) = (letters.key(row), letters.payload(row));
            let headers = Some(letters.headers(row));
            self.unsent = batch.num_rows() - row;
            let fault = self.send(Outgoing { partition: None, key, value, headers })?;
            refused.extend(fault.map(|fault| (row, fault)));
        }
        Ok(refused)
    }

    fn write_frames(&mut self, batch: &RecordBatch) -> Result<Vec<(usize, Fault)>> {
        self.unsent = batch.num_rows();
        for (number, rows) in framing::split(batch, self.partitions)? {
            self.send_frame(number, &rows)?;
            self.unsent -= rows.num_rows();
        }
        Ok(vec![])
    }

    /// One message of rows, or two of half as many where they are too much for one.
    fn send_frame(&mut self, number: i32, rows: &RecordBatch) -> Result<()> {
        let value = framing::rows(&self.schema, rows)?;
        let count = rows.num_rows();
        let outgoing = Outgoing { partition: Some(number), key: None, value: &value, headers: None };
        match self.send(outgoing)? {
            None => Ok(()),
            Some(fault) if count < 2 => {
                Err(Error::new(ErrorKind::Io, format!("{}/{number}: {}", self.topic, fault.message)))
            }
            Some(_) => {
                self.send_frame(number, &rows.slice(0, count / 2))?;
                self.send_frame(number, &rows.slice(count / 2, count - count / 2))
            }
        }
    }

    /// Passes a control message on, where the form can carry it: in every partition of the topic.
    pub fn control(&mut self, message: &Control) -> Result<()> {
        let Body::Frames { table, told } = &mut self.body else { return Ok(()) };
        match message {
            Control::Progress(progress) => {
                table.learn(progress);
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

    /// Says in every partition what is known of the source's.
    fn repeat(&mut self) -> Result<()> {
        for number in 0..self.partitions {
            let Body::Frames { table, .. } = &self.body else { return Ok(()) };
            for part in table.told_in(number, self.partitions).parts() {
                let value = framing::control(&self.schema, &Control::Progress(part))?;
                self.send_control(number, &value)?;
            }
        }
        Ok(())
    }

    fn send_control(&mut self, number: i32, value: &[u8]) -> Result<()> {
        let fault = self.send(Outgoing { partition: Some(number), key: None, value, headers: None })?;
        match fault {
            None => Ok(()),
            Some(fault) => Err(Error::new(ErrorKind::Io, format!("{}/{number}: {}", self.topic, fault.message))),
        }
    }

    /// Queues a message; waits where the queue is full.
    fn send(&mut self, outgoing: Outgoing<'_>) -> Result<Option<Fault>> {
        let Outgoing { partition, key, value, headers } = outgoing;
        let mut record = BaseRecord::to(&self.topic).payload(value);
        (record.partition, record.key, record.headers) = (partition, key, headers);
        let mut wait = None;
        loop {
            let (error, back) = match self.producer.send(record) {
                Ok(()) => return Ok(None),
                Err(failed) => failed,
            };
            match error.rdkafka_error_code() {
                Some(Code::QueueFull) => {
                    record = back;
                    self.producer.poll(LULL);
                    look(&self.producer, &mut self.health, (&self.address, &self.run))?;
                    let wait = wait.get_or_insert_with(|| self.run.stop.server_wait());
                    wait.left(self.producer.in_flight_count());
                    if wait.is_over() {
                        return Err(self.stopped());
                    }
                }
                Some(Code::MessageSizeTooLarge) => return Ok(Some(too_large(value, key, back.headers.as_ref()))),
                _ => return Err(client::failed(&self.address, "a record cannot be sent", &error)),
            }
        }
    }

    fn look(&mut self) -> Result<()> {
        look(&self.producer, &mut self.health, (&self.address, &self.run))?;
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

    /// What is due by the clock alone.
    pub fn tick(&mut self) -> Result<()> {
        self.producer.poll(Duration::ZERO);
        if let Body::Frames { table, told } = &mut self.body
            && !table.is_empty()
            && told.elapsed() >= REPEAT
        {
            *told = Instant::now();
            self.repeat()?;
        }
        self.look()
    }

    /// Waits until every message is acknowledged.
    pub fn settle(&mut self) -> Result<()> {
        let waiting = self.producer.in_flight_count();
        let mut wait = self.run.stop.server_wait();
        // librdkafka gives a message up by itself after `wait=`; this bound is for what it forgets.
        let limit = self.address.options.wait.limit(true).map(|limit| limit * 2);
        while self.producer.in_flight_count() > 0 {
            // Without lingering for more.
            let _ = self.producer.flush(LULL);
            // Errors and statistics count as in flight too; a flush without messages leaves them where they are.
            self.producer.poll(Duration::ZERO);
            self.look()?;
            let now = self.producer.in_flight_count();
            wait.left(now);
            if now > 0 && wait.is_over() {
                return Err(self.stopped());
            }
            if limit.is_some_and(|limit| wait.idle() > limit) {
                let message = format!("{}: {now} messages were never acknowledged", self.address);
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        }
        self.look()?;
        if waiting > 0 {
            // Fewer messages in flight are no sign of a broker: errors and statistics count among them.
            self.health.good(&self.address, &self.run);
        }
        Ok(())
    }

    /// A signal has ended the wait for acknowledgements.
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
        let cause = self.producer.context().cause().unwrap_or_else(|| "no broker answers".to_owned());
        Error::new(ErrorKind::Unavailable, message).because(cause)
    }

    /// The proven end: everything is acknowledged.
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

/// Where the rows of a topic in Avro have their schema.
fn target<'a>(address: &'a Address, topic: &'a str) -> Schemas<'a> {
    let schemas = address.options.schemas.as_deref().unwrap_or_default();
    Schemas { schemas, topic, schema_id: address.options.schema_id.as_ref() }
}

/// How many partitions the topic has; exit 2 where it is not there.
fn partitions(
    producer: &BaseProducer<Context>,
    topic: &str,
    (address, run): (&Address, &Rc<Run>),
    limit: Option<Duration>,
) -> Result<i32> {
    match client::ask_for(limit, (address, run), producer, || client::count(producer.client(), topic))? {
        Some(count) => Ok(count),
        None => Err(Error::usage(format!("{address}: there is no topic {topic} that may be written"))),
    }
}

fn body(address: &Address, schema: &SchemaRef, run: &Run) -> Result<Body> {
    let (kind, key) = (Kind::of(schema), address.options.key.as_deref());
    if address.options.form == Some(Form::Frames) {
        return match key {
            None => Ok(Body::Frames { table: Table::default(), told: Instant::now() }),
            Some(_) => Err(Error::usage(format!("{address}: key=: frames lie where the partition of their rows does"))),
        };
    }
    if kind == Some(Kind::Dead) {
        return match key {
            _ if address.options.form == Some(Form::Avro) => {
                Err(Error::usage(format!("{address}: format=avro: the value of a dead letter is its record's payload")))
            }
            None | Some("original_key") => Ok(Body::Letters),
            Some(_) => Err(Error::usage(format!("{address}: key=: a dead letter keeps the key of its record"))),
        };
    }
    let key = match key.unwrap_or_else(|| usual_key(kind)) {
        "none" => None,
        name => match schema.index_of(name) {
            Ok(at) => Some(at),
            Err(_) => {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                let names = names.join(" ");
                let why = format!("{address}: key={name}: these rows have no such column: none {names}");
                return Err(Error::usage(why));
            }
        },
    };
    match address.options.form {
        Some(Form::Avro) => {
            let rows = AvroRows::open(target(address, address.topic()?), schema, &run.console)?;
            Ok(Body::Avro { key, rows: Box::new(rows) })
        }
        _ => Ok(Body::Objects { key }),
    }
}

#[cold]
fn too_large(value: &[u8], key: Option<&[u8]>, headers: Option<&OwnedHeaders>) -> Fault {
    let one = |header: Header<'_, &[u8]>| header.key.len() + header.value.map_or(0, <[u8]>::len);
    let headers: usize = headers.into_iter().flat_map(Headers::iter).map(one).sum();
    let (value, key) = (value.len(), key.map_or(0, <[u8]>::len));
    let message = format!(
        "a record of {} bytes (value {value}, key {key}, headers {headers}) is more than message.max.bytes \
         (rdkafka.message.max.bytes=N)",
        value + key + headers
    );
    Fault::new(ErrorType::SinkError, message)
}

fn producer(address: &Address, run: &Rc<Run>) -> Result<BaseProducer<Context>> {
    // 0 stands for no limit.
    let timeout = address.options.wait.limit(true).map_or(0, |limit| limit.as_millis().clamp(1000, i32::MAX as u128));
    let timeout = timeout.to_string();
    let settings = [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        // That a message is no longer in flight says as much: a third of the work.
        ("delivery.report.only.error", "true"),
        ("message.timeout.ms", timeout.as_str()),
        // The queue bounds what slow brokers make us hold.
        ("queue.buffering.max.kbytes", "65536"),
        ("queue.buffering.max.messages", "200000"),
        // Java's: a key lies where a Java producer puts it.
        ("partitioner", "murmur2_random"),
    ];
    client::create(&client::config(address, run, &settings), address)
}

/// What `-o` and `format=` say together.
pub fn form(address: &Address, named: Option<&str>) -> Result<Form> {
    let by_flag = match named {
        None => None,
        Some("jsonl") => Some(Form::Json),
        Some("frames") => Some(Form::Frames),
        Some(other) => {
            let forms = "a topic gets format=json, format=avro or format=frames";
            return Err(Error::usage(format!("{address}: -o {other}: {forms}")));
        }
    };
    match (address.options.form, by_flag) {
        (Some(said), _) => Ok(said),
        (None, by_flag) => Ok(by_flag.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::headers::{self, Coded, Headers as Shown};
    use arrow::datatypes::Schema;
    use std::sync::Arc;

    struct Given<'a>(&'a [(&'a str, Option<&'a [u8]>)]);

    impl Shown for Given<'_> {
        fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
            self.0.iter().for_each(|(name, value)| show(name, *value));
        }
    }

    #[test]
    fn headers_pass_in_their_order_but_for_those_that_tell_of_the_value() {
        let some = Given(&[("a", Some(b"1")), ("__TypeId__", Some(b"x")), ("b", None), ("a", Some(b""))]);
        let told = Given(&[("content-type", Some(b"x")), ("CE_type", None), ("evt.stage", Some(b"x"))]);
        let mut coded = Coded::default();
        for row in [Some(&some), Some(&some), None, Some(&told), Some(&some)] {
            coded.push(row.map(|row| row as &dyn Shown)).unwrap();
        }
        let schema = Arc::new(Schema::new(vec![headers::field()]));
        let batch = RecordBatch::try_new(schema, vec![coded.finish().unwrap()]).unwrap();
        let mut passed = Passed::new(Rows::of(&batch));
        let mut of = |row| {
            let pair = |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
            passed.of(row).map(|headers| headers.iter().map(pair).collect::<Vec<_>>())
        };
        let wanted =
            Some(vec![("a".to_owned(), Some(b"1".to_vec())), ("b".to_owned(), None), ("a".to_owned(), Some(vec![]))]);
        assert_eq!([of(0), of(1), of(2), of(3), of(4)], [wanted.clone(), wanted.clone(), None, None, wanted]);
        assert!(Passed::new(None).of(0).is_none());
    }
}
