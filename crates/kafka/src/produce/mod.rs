//! A topic as output: each row is a record, and counts as written once all in-sync replicas have acknowledged the
//! record.
//!
//! ```text
//! rows ─► format (records) ─► limit (their size) ─► producer (librdkafka's queue) ─► brokers
//!            ▲                                                                          │
//!            └── smaller records, or rejected rows ◄── batch too large, or invalid ◄────┘
//! ```
//!
//! The producer is idempotent: librdkafka's retries neither lose, repeat nor reorder records. Its queue is bounded:
//! slow brokers cause backpressure. If brokers do not acknowledge a record within `wait=`, the run ends with an error.
//! The output drops no record, and only acknowledged rows count as written.
//!
//! - `transaction`: records in transactions, and the `requests` that make them; `epochs`: one transaction for each
//!   epoch of a checkpoint; `shared`: one for the records of all outputs and the `offsets` of the input.
//! - `retention`: the oldest timestamp that a topic keeps.

pub mod epochs;
pub mod format;
pub mod limit;
mod offsets;
mod producer;
mod requests;
mod retention;
pub mod shared;
pub mod transaction;

use crate::address::{Address, TopicFormat};
use crate::client::Topics;
use crate::client::record::ProducerRecord;
use crate::framing;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use evt_core::counts::SinkCounts;
use evt_core::error::{Error, Result};
use evt_core::frame::Control;
use evt_core::kind::Kind;
use evt_core::kind::dead::{Fault, Rejected};
use evt_core::kind::headers::HeaderRows;
use evt_run::metrics::ServerStatus;
use evt_run::registry::place;
use evt_run::run::Run;
use format::{RecordFormat, RowRecords, smaller, target};
use limit::Limit;
use producer::TopicProducer;
use shared::SharedProducer;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// Interval at which the progress of the source's partitions is sent again, for readers that begin in the middle.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// An open output: the producer of one topic, and the format of its records.
pub struct KafkaOutput {
    producer: TopicProducer,
    format: RecordFormat,
    /// The kind of the rows.
    kind: Option<Kind>,
    /// The number of partitions of the topic.
    partition_count: i32,
    /// The largest record that is sent.
    limit: Limit,
    /// Rows that the output accepted and the brokers rejected later.
    rejected: Vec<RejectedRecord>,
    /// The number of rows passed to the output; `rejected_rows` is the number of those that could not be sent or that
    /// brokers rejected.
    taken: u64,
    rejected_rows: u64,
    /// Whether a control message was omitted because it is too large for the topic.
    omits_control: bool,
}

/// A row that the output accepted and that the brokers rejected later.
pub struct RejectedRecord {
    /// The row; `None` if it cannot be rebuilt from the record.
    pub row: Option<RecordBatch>,
    /// Why the brokers rejected it.
    pub fault: Fault,
    /// Its record.
    pub record: ProducerRecord<'static>,
    /// The topic.
    pub topic: String,
}

impl KafkaOutput {
    /// Checks the options of the address, without a broker. Errors: exit status 2 for an option of inputs.
    pub fn check(address: &Address) -> Result<()> {
        address.topic()?;
        let options = &address.options;
        let of_inputs = [
            ("group", options.group.is_some()),
            ("start", options.start.is_some()),
            ("end", options.end.is_some()),
            ("partitions", options.partitions.is_some()),
            ("reader", options.reader.is_some()),
        ];
        if let Some((name, _)) = of_inputs.iter().find(|(_, is_set)| *is_set) {
            return Err(Error::usage(format!("{address}: {name}= is an option of inputs only")));
        }
        Ok(())
    }

    /// Waits for the registry of the topic's schemas, if it is away, as long as its `retry=` says.
    pub fn wait_for_registry(address: &Address, run: &Rc<Run>) -> Result<()> {
        let schemas = address.options.schemas.as_ref().filter(|_| address.options.form == Some(TopicFormat::Avro));
        schemas.map_or(Ok(()), |schemas| place::wait(schemas, &run.caller()))
    }

    /// Checks that the topic exists and accepts rows, or dead letters (`is_dead`); creates nothing.
    pub fn check_server(address: &Address, is_dead: bool, run: &Rc<Run>) -> Result<()> {
        let topics = Topics::new(address, run);
        if address.options.form == Some(TopicFormat::Avro) {
            target(&topics).check(&run.caller())?;
        }
        let producer = TopicProducer::new(&topics, ServerStatus::default())?;
        producer.partition_count(address.options.wait.limit(false))?;
        if address.exactly_once {
            // Brokers have no least value.
            limit::check_limits(&topics, "transaction.timeout.ms", ["", "transaction.max.timeout.ms"])?;
        }
        limit::check_policy(&topics, is_dead)
    }

    /// Opens the topic for rows of `schema`; with `shared`, its records are in the transactions of that producer.
    pub fn open(
        shared: Option<&SharedProducer>,
        topics: &Topics,
        limit: Limit,
        up: ServerStatus,
        schema: &SchemaRef,
    ) -> Result<Self> {
        let producer = match shared {
            None => TopicProducer::new(topics, up)?,
            Some(shared) => shared.of_topic(topics, up),
        };
        Self::with(producer, limit, schema)
    }

    /// Opens the topic of a producer, and sets the sizes of its records.
    fn with(mut producer: TopicProducer, mut limit: Limit, schema: &SchemaRef) -> Result<Self> {
        let topics = producer.topics.clone();
        let format = RecordFormat::open(&topics, schema)?;
        // Waits for brokers as in a run that has begun: they were reachable before, or the spool takes rows meanwhile.
        let partition_count = producer.partition_count(topics.address.options.wait.limit(true))?;
        limit.learn(&topics)?;
        let kind = Kind::of(schema);
        limit.check_format(&topics.address, kind == Some(Kind::Dead))?;
        producer.set_sizes(&limit.settings())?;
        Ok(Self {
            producer,
            format,
            kind,
            partition_count,
            limit,
            rejected: vec![],
            taken: 0,
            rejected_rows: 0,
            omits_control: false,
        })
    }

    /// Queues each row, with its headers if a record is one row. Returns the rows that the topic does not accept or
    /// that do not fit the schema.
    pub fn write(&mut self, batch: &RecordBatch, headers: Option<HeaderRows<'_>>) -> Result<Vec<Rejected>> {
        let rejected = self.queue_rows(batch, headers)?;
        self.handle_events()?;
        Ok(rejected)
    }

    fn queue_rows(&mut self, batch: &RecordBatch, headers: Option<HeaderRows<'_>>) -> Result<Vec<Rejected>> {
        self.taken += batch.num_rows() as u64;
        let rejected = match self.format.rows(&self.producer.topics, batch, headers)? {
            Some(records) => self.write_rows(batch, records)?,
            None => self.write_frames(batch)?,
        };
        self.rejected_rows += rejected.len() as u64;
        self.producer.unsent = 0;
        Ok(rejected)
    }

    fn write_rows(&mut self, batch: &RecordBatch, mut records: RowRecords<'_>) -> Result<Vec<Rejected>> {
        let mut rejected = vec![];
        for row in 0..batch.num_rows() {
            self.producer.unsent = batch.num_rows() - row;
            let fault = match records.get(row) {
                Err(fault) => Some(fault),
                Ok(record) => match self.send(record)? {
                    Some(_) if self.kind == Some(Kind::Dead) => {
                        self.send_rows(None, &batch.slice(row, 1))?.pop().map(|rejected| rejected.fault)
                    }
                    fault => fault,
                },
            };
            rejected.extend(fault.map(|fault| Rejected { row, fault }));
        }
        Ok(rejected)
    }

    /// Sends the rows of each partition of the topic as one record, or as several records if one would be too large.
    fn write_frames(&mut self, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        self.producer.unsent = batch.num_rows();
        for (number, rows) in framing::split(batch, self.partition_count)? {
            let rejected = self.send_rows(Some(number), &rows)?;
            self.rejected_rows += rejected.len() as u64;
            self.rejected.extend(rejected);
            self.producer.unsent -= rows.num_rows();
        }
        Ok(vec![])
    }

    /// Sends rows as one record, or as smaller records if it is too large. Returns the rows that do not fit into a
    /// record of their own.
    fn send_rows(&mut self, partition: Option<i32>, rows: &RecordBatch) -> Result<Vec<RejectedRecord>> {
        let record = self.format.record(partition, rows)?;
        let excess = record.size().saturating_sub(self.limit.get());
        if excess == 0 {
            self.producer.queue(record)?;
            return Ok(vec![]);
        }
        let parts = smaller(rows, excess)?;
        if parts.is_empty() {
            return Ok(vec![self.reject(Some(rows.clone()), record)]);
        }
        let mut rejected = vec![];
        for rows in &parts {
            rejected.extend(self.send_rows(partition, rows)?);
        }
        Ok(rejected)
    }

    fn reject(&self, row: Option<RecordBatch>, record: ProducerRecord<'static>) -> RejectedRecord {
        RejectedRecord { row, fault: self.limit.fault(&record), record, topic: self.producer.topics.name(0).to_owned() }
    }

    /// Queues a record; returns the fault if the topic does not accept it.
    fn send(&mut self, record: ProducerRecord<'_>) -> Result<Option<Fault>> {
        match self.limit.rejection(&record) {
            None => self.producer.queue(record).map(|()| None),
            fault => Ok(fault),
        }
    }

    /// Sends a control frame to every partition of the topic, if the format has control frames.
    pub fn control(&mut self, message: &Control) -> Result<()> {
        let RecordFormat::Frames { schema, progress, sent_at } = &mut self.format else { return Ok(()) };
        match message {
            Control::Progress(message) => {
                progress.apply(message);
                *sent_at = self.producer.topics.run.clock.monotonic();
                self.send_progress()
            }
            Control::Watermark(_) | Control::Metrics(_) | Control::End(_) => {
                let value = framing::control(schema, message)?;
                (0..self.partition_count).try_for_each(|number| self.send_control(number, &value))
            }
            Control::Barrier(_) => Ok(()),
        }
    }

    /// Sends the progress of the source's partitions to every partition of the topic.
    fn send_progress(&mut self) -> Result<()> {
        for number in 0..self.partition_count {
            let RecordFormat::Frames { schema, progress, .. } = &self.format else { return Ok(()) };
            let schema = schema.clone();
            for part in progress.message(number, self.partition_count).parts() {
                self.send_control(number, &framing::control(&schema, &Control::Progress(part))?)?;
            }
        }
        Ok(())
    }

    /// Sends a control message. One that is too large is omitted: rows do not depend on it for their order.
    fn send_control(&mut self, number: i32, value: &[u8]) -> Result<()> {
        let record = ProducerRecord { partition: Some(number), value: value.into(), ..ProducerRecord::default() };
        if let Some(fault) = self.send(record)? {
            self.omit_control(&fault);
        }
        Ok(())
    }

    /// Warns, once, that a control message is omitted.
    #[cold]
    fn omit_control(&mut self, fault: &Fault) {
        if !std::mem::replace(&mut self.omits_control, true) {
            let Topics { address, run } = &self.producer.topics;
            let (why, effect) = (&fault.message, "readers do not receive its times and ends");
            run.console.warn(format!("{address}: a control message is omitted: {why}; {effect}"));
        }
    }

    /// Does the periodic work: repeats the progress, and acts on events.
    pub fn tick(&mut self) -> Result<()> {
        let now = self.producer.topics.run.clock.monotonic();
        if let RecordFormat::Frames { progress, sent_at, .. } = &mut self.format
            && !progress.is_empty()
            && now.saturating_sub(*sent_at) >= PROGRESS_INTERVAL
        {
            *sent_at = now;
            self.send_progress()?;
        }
        self.handle_events()
    }

    /// Acts on librdkafka's events; sends returned records again.
    fn handle_events(&mut self) -> Result<()> {
        self.producer.check()?;
        if self.producer.has_returned() { self.settle() } else { Ok(()) }
    }

    /// Takes the rows that were accepted and rejected later, since the last call.
    pub fn take_rejected(&mut self) -> Vec<RejectedRecord> {
        std::mem::take(&mut self.rejected)
    }

    /// Waits until every record is acknowledged or its row is rejected. Records whose batch the brokers rejected are
    /// sent again, each one alone, so that only those that are too large or invalid by themselves are rejected.
    pub fn settle(&mut self) -> Result<()> {
        self.producer.flush()?;
        let returned = self.producer.take_returned();
        if returned.is_empty() {
            return Ok(());
        }
        self.learn_limit()?;
        let mut records: VecDeque<_> = returned.into_iter().map(|returned| returned.record).collect();
        while let Some(record) = records.pop_front() {
            let mut is_invalid = self.limit.lacks_key(&record);
            if self.limit.rejection(&record).is_none() {
                self.producer.queue(record.clone())?;
                self.producer.flush()?;
                let Some(again) = self.producer.take_returned().pop_front() else { continue };
                is_invalid = again.is_invalid;
            }
            if is_invalid {
                self.reject_invalid(record)?;
                continue;
            }
            for smaller in self.replace(record)?.into_iter().rev() {
                records.push_front(smaller);
            }
        }
        Ok(())
    }

    /// Queries the limits of the topic again, which may have changed. Errors: see [`Limit::check_format`].
    fn learn_limit(&mut self) -> Result<()> {
        if self.limit.learn(&self.producer.topics)? {
            self.producer.set_sizes(&self.limit.settings())?;
        }
        self.limit.check_format(&self.producer.topics.address, self.kind == Some(Kind::Dead))
    }

    /// Rejects the rows of a record that is invalid by itself. Errors: exit status 69 if it has dead letters, which
    /// must not be lost.
    fn reject_invalid(&mut self, record: ProducerRecord<'static>) -> Result<()> {
        let (topics, fault) = (&self.producer.topics, limit::invalid(&record));
        if self.kind == Some(Kind::Dead) {
            let message = format!("{}: brokers rejected a dead letter", topics.address);
            return Err(Error::unavailable(message).because(fault.message));
        }
        let rows = self.format.rows_of(self.kind, &record)?;
        let is_framed = matches!(self.format, RecordFormat::Frames { .. });
        let rows = match rows {
            None if is_framed => {
                self.omit_control(&fault);
                return Ok(());
            }
            None => vec![None],
            Some(rows) => (0..rows.num_rows()).map(|row| Some(rows.slice(row, 1))).collect(),
        };
        for row in rows {
            let (fault, topic) = (fault.clone(), self.producer.topics.name(0).to_owned());
            // Frames have nothing besides their rows.
            let record = if is_framed { ProducerRecord::default() } else { record.clone() };
            self.rejected_rows += 1;
            self.rejected.push(RejectedRecord { row, fault, record, topic });
        }
        Ok(())
    }

    /// Returns smaller records that replace a record that is too large by itself; no records if its row is rejected or
    /// the control message is omitted.
    fn replace(&mut self, record: ProducerRecord<'static>) -> Result<Vec<ProducerRecord<'static>>> {
        let excess = self.limit.excess(record.size());
        let rows = self.format.rows_of(self.kind, &record)?;
        let parts = rows.as_ref().map_or(Ok(vec![]), |rows| smaller(rows, excess))?;
        if parts.is_empty() {
            // A record of frames without rows is a control message.
            if rows.is_none() && matches!(self.format, RecordFormat::Frames { .. }) {
                self.omit_control(&self.limit.fault(&record));
            } else {
                self.rejected_rows += 1;
                self.rejected.push(self.reject(rows, record));
            }
            return Ok(vec![]);
        }
        parts.iter().map(|rows| self.format.record(record.partition, rows)).collect()
    }

    /// Ends the output once everything is acknowledged; returns the counts.
    pub fn finish(mut self) -> Result<SinkCounts> {
        self.settle()?;
        if let RecordFormat::Avro { rows, .. } = &self.format
            && let Some(summary) = rows.summary()
        {
            self.producer.topics.say(summary);
        }
        Ok(SinkCounts {
            taken: self.taken,
            inserted: self.taken - self.rejected_rows,
            dead: self.rejected_rows,
            ..SinkCounts::default()
        })
    }
}
