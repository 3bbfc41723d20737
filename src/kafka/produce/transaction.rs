//! Batches of records in a topic, each exactly once: one transaction per batch, with the number of the batch as the offset that
//! a group commits in it.
//!
//! A new producer with the same id aborts the open transaction of an earlier one and fences it. The committed offset then says which
//! batch was committed last.

use super::limit::Limit;
use super::record::{ProducerRecord, insert, is_of_value};
use crate::error::{Error, ErrorKind, Result};
use crate::kafka::client::{self, Context, EVENTS, Topics};
use crate::kind::dead::Fault;
use crate::kind::headers::Headers;
use crate::run::Run;
use crate::uri::kafka::Address;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::rc::Rc;
use std::time::Duration;

/// How long to poll a full queue.
const POLL_TIMEOUT: Duration = Duration::from_millis(50);

/// The partition whose offset is the number of a batch.
const PARTITION: i32 = 0;

/// A record of a batch.
pub struct TimedRecord<'a> {
    /// Its key, payload and headers.
    pub record: ProducerRecord<'a>,
    /// Its timestamp (ms since 1970); `None` for the current time.
    pub timestamp: Option<i64>,
}

/// A topic that is written in transactions.
pub struct TransactionalTopic {
    topics: Topics,
    client: BaseProducer<Context>,
    /// Never subscribed: it reads the offset of the group and names the group in transactions.
    group: BaseConsumer<Context>,
    limit: Limit,
}

impl TransactionalTopic {
    /// Opens the topic for the batches of a ledger: ends the transaction of an earlier producer. Errors: exit status 2 if the topic
    /// does not exist, 69 if no broker answers.
    pub fn open(address: &Address, ledger: &str, run: &Rc<Run>) -> Result<Self> {
        let (topics, mut limit) = (Topics::new(address, run), Limit::new(address, run));
        limit.learn(&topics)?;
        let group = format!("evt.{ledger}");
        let id = format!("{group}.{}", topics.name(0));
        let sizes = limit.settings();
        let settings = [
            ("transactional.id", id.as_str()),
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("delivery.report.only.error", "true"),
            ("partitioner", "murmur2_random"),
        ];
        let sizes = sizes.iter().map(|(name, value)| (*name, value.as_str()));
        let client: BaseProducer<Context> = topics.create(&settings.into_iter().chain(sizes).collect::<Vec<_>>())?;
        let settings =
            [("group.id", group.as_str()), ("enable.auto.commit", "false"), ("isolation.level", "read_committed")];
        let group: BaseConsumer<Context> = topics.create(&settings)?;
        let topic = Self { topics, client, group, limit };
        let count = |timeout| client::count(topic.client.client(), topic.topics.name(0), timeout);
        let name = topic.topics.name(0);
        let missing = || Error::usage(format!("{address}: topic {name} does not exist or may not be written"));
        topic.ask(count)?.ok_or_else(missing)?;
        topic.ask(|timeout| topic.client.init_transactions(timeout))?;
        Ok(topic)
    }

    /// Returns the identity of the topic: the same for each name of its brokers.
    pub fn identity(address: &Address, run: &Rc<Run>) -> Result<String> {
        let topics = Topics::new(address, run);
        let client: BaseProducer<Context> = topics.create(&[])?;
        let drain = || drain(&client);
        let limit = address.options.wait.limit(false);
        let found = topics.ask(client.context(), limit, drain, |timeout| {
            client.client().fetch_cluster_id(timeout).ok_or(KafkaError::MetadataFetch(Code::BrokerTransportFailure))
        });
        Ok(format!("kafka:{}/{}", found?, topics.name(0)))
    }

    /// Returns the number of the batch that was committed last.
    pub fn committed(&self) -> Result<Option<i64>> {
        let offsets = self.ask(|timeout| self.group.committed_offsets(self.offset(Offset::Invalid)?, timeout))?;
        let found = offsets.find_partition(self.topics.name(0), PARTITION).map(|found| found.offset());
        Ok(if let Some(Offset::Offset(batch)) = found { Some(batch) } else { None })
    }

    /// Returns the fault of a record that is too large for the topic.
    pub fn refused(&self, record: &ProducerRecord<'_>) -> Option<Fault> {
        (record.size() > self.limit.get()).then(|| self.limit.fault(record))
    }

    /// Returns headers of a letter's record as they are sent: without those about its old value.
    pub fn headers(own: &dyn Headers) -> Option<OwnedHeaders> {
        Some(insert(OwnedHeaders::new(), own, |name| !is_of_value(name))).filter(|made| made.count() > 0)
    }

    /// Writes a batch in one transaction. Errors: exit status 75 if a producer with the same id has begun since, 69 if brokers do
    /// not answer; then only [`TransactionalTopic::committed`] of a new producer tells whether the batch was written.
    pub fn write(&self, batch: i64, records: &[TimedRecord<'_>]) -> Result<()> {
        self.client.begin_transaction().map_err(|error| self.failed(&error))?;
        let written = self.fill(batch, records);
        if written.is_err() {
            // Readers need not wait for the timeout of the transaction. The error of the write is reported.
            let _ = self.client.abort_transaction(Duration::from_secs(5));
        }
        written
    }

    fn fill(&self, batch: i64, records: &[TimedRecord<'_>]) -> Result<()> {
        records.iter().try_for_each(|record| self.queue(record))?;
        let offset = self.offset(Offset::Offset(batch)).map_err(|error| self.failed(&error))?;
        let group = self.group.group_metadata().ok_or_else(|| Error::broken("a consumer without a group"))?;
        self.request(|timeout| self.client.send_offsets_to_transaction(&offset, &group, timeout))?;
        self.request(|timeout| self.client.commit_transaction(timeout))
    }

    /// Queues a record; waits while the queue is full.
    fn queue(&self, TimedRecord { record, timestamp }: &TimedRecord<'_>) -> Result<()> {
        let mut queued = BaseRecord::to(self.topics.name(0)).payload(&*record.value);
        (queued.key, queued.headers) = (record.key.as_deref(), record.headers.clone());
        queued.timestamp = *timestamp;
        loop {
            let (error, back) = match self.client.send(queued) {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            if error.rdkafka_error_code() != Some(Code::QueueFull) {
                return Err(self.failed(&error));
            }
            queued = back;
            self.client.poll(POLL_TIMEOUT);
            if self.topics.run.stop.server_wait().is_over() {
                return Err(Error::new(ErrorKind::Unavailable, format!("{}: stopped", self.topics.address)));
            }
        }
    }

    /// Returns the number of a batch as an offset.
    fn offset(&self, offset: Offset) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(self.topics.name(0), PARTITION, offset)?;
        Ok(list)
    }

    /// Repeats a request of a transaction until brokers answer. Errors: see [`TransactionalTopic::write`].
    fn request<T>(&self, request: impl Fn(Duration) -> KafkaResult<T>) -> Result<T> {
        // The error of a transaction that cannot continue; a repetition would not help.
        let last = std::cell::RefCell::new(None);
        let answer = self.ask(|timeout| {
            request(timeout).map_err(|error| match &error {
                KafkaError::Transaction(cause) if cause.txn_requires_abort() || cause.is_fatal() => {
                    *last.borrow_mut() = Some(error);
                    KafkaError::Canceled
                }
                _ => error,
            })
        });
        answer.map_err(|error| last.into_inner().map_or(error, |cause| self.failed(&cause)))
    }

    fn ask<T>(&self, request: impl Fn(Duration) -> KafkaResult<T>) -> Result<T> {
        let limit = self.topics.address.options.wait.limit(true);
        self.topics.ask(self.client.context(), limit, || drain(&self.client), request)
    }

    #[cold]
    fn failed(&self, error: &KafkaError) -> Error {
        match is_fenced(error) {
            true => self.taken_over(),
            false => client::failed(&self.topics.address, "the transaction failed", error),
        }
    }

    #[cold]
    fn taken_over(&self) -> Error {
        Error::new(
            ErrorKind::Fenced,
            format!("{}: another replay with this ledger has taken over", self.topics.address),
        )
    }
}

/// Whether a producer with the same id has begun since.
fn is_fenced(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch))
}

/// Takes the errors from the event queue of a producer.
fn drain(client: &BaseProducer<Context>) -> Vec<Code> {
    (0..EVENTS).for_each(|_| {
        client.poll(Duration::ZERO);
    });
    client.context().notes(|notes| notes.error.take()).into_iter().collect()
}
