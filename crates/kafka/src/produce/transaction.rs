//! Records in a topic, each exactly once: transactions, each with an epoch, which a group commits as an offset in the
//! transaction.
//!
//! The number of the epoch is the offset, and its run the metadata of the offset. A replay writes batches; they are
//! epochs of run 0.
//!
//! A new producer with the same id aborts the open transaction of an earlier one and fences it. The committed offset
//! then says which epoch was committed last.

use super::limit::Limit;
use super::offsets::GroupOffsets;
use super::producer::{Settings, TopicProducer};
use super::requests::{self, LAST_ABORT};
use super::retention::Retention;
use crate::address::Address;
use crate::client::record::{ProducerRecord, insert, is_of_value};
use crate::client::{Context, EVENTS, Topics};
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::kind::dead::Fault;
use evt_core::kind::headers::Headers;
use evt_core::time::MILLISECOND;
use evt_run::checkpoint::epoch::Epoch;
use evt_run::metrics::ServerStatus;
use evt_run::run::Run;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// The partition whose offset is the number of an epoch.
const PARTITION: i32 = 0;
/// The writer of a topic in transactions: an output of a checkpoint, or a ledger of replays. All of its runs have one
/// transactional id, so the newest run fences the others.
#[derive(Clone, Debug)]
pub struct TransactionOwner {
    /// The group that commits the epochs. The transactional id is the group and the topic.
    pub group: String,
    /// The error of a run whose producer was fenced.
    pub successor: &'static str,
    /// Time after which brokers end an open transaction.
    pub timeout: Duration,
}

/// The transactions of one producer.
pub(super) struct Transactions {
    topics: Topics,
    owner: TransactionOwner,
    /// Never subscribed: it reads the offset of the group and names the group in transactions.
    group: BaseConsumer<Context>,
}

/// The outcome of a transaction.
pub(super) enum TransactionEnd {
    /// Its records are visible.
    Committed,
    /// It was aborted for this reason, and may be repeated.
    Aborted(Error),
}

impl Transactions {
    /// Makes the client that reads the offset of the group; it connects with the first request.
    pub fn new(topics: &Topics, owner: TransactionOwner) -> Result<Self> {
        let settings = [
            ("group.id", owner.group.as_str()),
            ("enable.auto.commit", "false"),
            ("isolation.level", "read_committed"),
            // Nothing takes statistics from this client.
            ("statistics.interval.ms", "0"),
        ];
        Ok(Self { topics: topics.clone(), group: topics.create(&settings)?, owner })
    }

    /// Makes the producer of the transactions, which is not [ready](requests::init) yet.
    pub fn producer(&self, up: ServerStatus) -> Result<TopicProducer> {
        let TransactionOwner { group, timeout, .. } = &self.owner;
        let settings: Settings = vec![
            ("transactional.id", format!("{group}.{}", self.topics.name(0))),
            ("transaction.timeout.ms", timeout.as_millis().to_string()),
        ];
        TopicProducer::transactional(&self.topics, up, settings, self.owner.successor)
    }

    /// Returns the epoch that was committed last. Errors: exit status 69 if brokers do not answer, or if a transaction
    /// that they have not ended holds the offset.
    pub fn committed(&self) -> Result<Option<Epoch>> {
        let topics = &self.topics;
        let limit = topics.address.options.wait.limit(true);
        let drain = || {
            // Without a subscription a poll returns only errors, which the context has noted.
            (0..EVENTS).for_each(|_| _ = self.group.poll(Duration::ZERO));
            self.group.context().notes(|notes| notes.error.take()).into_iter().collect()
        };
        let ask = |timeout| {
            let offsets = self.group.committed_offsets(position(topics.name(0), Offset::Invalid, "")?, timeout)?;
            offsets.elements().iter().try_for_each(|found| found.error())?;
            Ok(offsets)
        };
        let last_error = Cell::new(None);
        let answer = topics.request(self.group.context(), limit, drain, |timeout| {
            ask(timeout).inspect_err(|error: &KafkaError| last_error.set(error.rdkafka_error_code()))
        });
        let offsets = answer.map_err(|error| match last_error.get() {
            Some(Code::OperationTimedOut) => {
                let group = &self.owner.group;
                error.because(format!("timed out; an open transaction may hold the offset of group {group}"))
            }
            _ => error,
        })?;
        let Some(found) = offsets.find_partition(topics.name(0), PARTITION) else { return Ok(None) };
        let epoch = epoch_of(found.offset(), found.metadata());
        epoch.map_err(|error| error.at(format!("{}: group {}", topics.address, self.owner.group)))
    }

    /// Ends a transaction: commits it with `epoch`, or aborts it if its records could not be queued.
    ///
    /// Errors: exit status 75 if a producer with the same id has begun since or brokers have ended the transaction, 69
    /// if brokers do not answer; then only [`Transactions::committed`] after [`requests::init`] of a new producer
    /// shows whether it was committed.
    pub fn end(&self, producer: &TopicProducer, epoch: Epoch, queued: Result<()>) -> Result<TransactionEnd> {
        let error = match queued.and_then(|()| self.commit(producer, epoch)) {
            Ok(None) => return Ok(TransactionEnd::Committed),
            Ok(Some(cause)) => Ok(cause),
            Err(error) => Err(error),
        };
        if let Some(fatal) = requests::fatal(producer) {
            return Err(fatal);
        }
        let (failure, has_returned) =
            producer.client.context().notes(|notes| (notes.failure.clone(), !notes.returned.is_empty()));
        // librdkafka aborts the transaction of a record that it cannot deliver.
        let may_repeat = match &error {
            Ok(cause) => !cause.rdkafka_error_code().is_some_and(is_denied),
            Err(_) => has_returned || failure.is_some_and(|failure| !is_denied(failure.code)),
        };
        let error = error.map_or_else(|error| error, |cause| requests::failed(producer, &cause));
        let limit = if may_repeat { self.topics.address.options.wait.limit(true) } else { Some(LAST_ABORT) };
        let aborted = requests::abort(producer, limit);
        producer.client.context().notes(|notes| notes.failure = None);
        // Some brokers report a newer producer only at the abort.
        if let Some(fatal) = requests::fatal(producer).filter(|fatal| fatal.kind() == ErrorKind::Fenced) {
            return Err(fatal);
        }
        match may_repeat {
            true => aborted.map(|()| TransactionEnd::Aborted(error)),
            // Reports the error of the transaction, not the error of its end.
            false => Err(error),
        }
    }

    /// Commits the open transaction with `epoch`; returns the cause if it must be aborted instead.
    fn commit(&self, producer: &TopicProducer, epoch: Epoch) -> Result<Option<KafkaError>> {
        let offset = Offset::Offset(epoch.signed()?.number);
        let offset = position(self.topics.name(0), offset, &epoch.run.to_string());
        let offset = offset.map_err(|error| requests::failed(producer, &error))?;
        let group = self.group.group_metadata().ok_or_else(|| Error::broken("a consumer without a group"))?;
        requests::commit(producer, GroupOffsets { list: offset, group })
    }
}

/// Returns an epoch as the offset of a group: its number, with its run as metadata.
fn position(topic: &str, offset: Offset, run: &str) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    let mut partition = list.add_partition(topic, PARTITION);
    partition.set_offset(offset)?;
    if !run.is_empty() {
        partition.set_metadata(run);
    }
    Ok(list)
}

/// Returns the epoch that an offset of a group means; `None` if there is no offset. Offsets of older versions have no
/// metadata.
///
/// Errors: exit status 65 if the metadata is not the number of a run: another program has committed the offset.
fn epoch_of(offset: Offset, metadata: &str) -> Result<Option<Epoch>> {
    let Offset::Offset(number) = offset else { return Ok(None) };
    let run = if metadata.is_empty() { Ok(0) } else { metadata.parse() };
    match (run, u64::try_from(number)) {
        (Ok(run), Ok(number)) => Ok(Some(Epoch { run, number })),
        _ => Err(Error::corrupt(format!(
            "expected an offset that evt committed (an epoch, with its run as metadata), found offset {number} with \
             metadata '{metadata}'"
        ))),
    }
}

/// Whether brokers have denied a request, so that a repetition would not help.
fn is_denied(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
    )
}

/// A topic to which a replay writes batches of records.
pub struct TransactionalTopic {
    producer: TopicProducer,
    transactions: Transactions,
    limit: Limit,
    retention: Retention,
    /// Records that got the current time as timestamp.
    restamped: u64,
}

impl TransactionalTopic {
    /// Opens the topic for the batches of a ledger: ends the transaction of an earlier producer. Errors: exit status 2
    /// if the topic does not exist, 69 if no broker answers.
    pub fn open(address: &Address, ledger: &str, run: &Rc<Run>) -> Result<Self> {
        let (topics, mut limit) = (Topics::new(address, run), Limit::new(address, run));
        let transactions = Transactions::new(
            &topics,
            TransactionOwner {
                group: format!("evt.{ledger}"),
                successor: "another replay with this ledger has taken over, or brokers have ended a transaction that took too long",
                timeout: Duration::from_secs(60),
            },
        )?;
        let mut producer = transactions.producer(ServerStatus::default())?;
        producer.partition_count(address.options.wait.limit(true))?;
        limit.learn(&topics)?;
        producer.set_sizes(&limit.settings())?;
        let retention = Retention::learn(&topics, 0)?;
        requests::init(&producer)?;
        Ok(Self { producer, transactions, limit, retention, restamped: 0 })
    }

    /// Returns the identity of the topic: the same for each name of its brokers.
    pub fn identity(address: &Address, run: &Rc<Run>) -> Result<String> {
        let topics = Topics::new(address, run);
        let producer = TopicProducer::new(&topics, ServerStatus::default())?;
        let found = producer.request(address.options.wait.limit(false), |timeout| {
            let id = producer.client.client().fetch_cluster_id(timeout);
            id.ok_or(KafkaError::MetadataFetch(Code::BrokerTransportFailure))
        });
        Ok(format!("kafka:{}/{}", found?, topics.name(0)))
    }

    /// Returns the number of the batch that was committed last.
    pub fn committed(&self) -> Result<Option<i64>> {
        let committed = self.transactions.committed()?;
        Ok(committed.map(Epoch::signed).transpose()?.map(|signed| signed.number))
    }

    /// Returns the fault of a record that the topic does not accept.
    pub fn rejected(&self, record: &ProducerRecord<'_>) -> Option<Fault> {
        self.limit.rejection(record)
    }

    /// Returns headers of a letter's record as they are sent: without those about its old value.
    pub fn headers(own: &dyn Headers) -> Option<OwnedHeaders> {
        use rdkafka::message::Headers as _;
        Some(insert(OwnedHeaders::new(), own, |name| !is_of_value(name))).filter(|made| made.count() > 0)
    }

    /// Returns the number of records whose timestamp was too old for the topic, so that they got the current time.
    pub fn restamped(&self) -> u64 {
        self.restamped
    }

    /// Writes a batch in one transaction. Errors: exit status 75 if a producer with the same id has begun since or
    /// brokers have ended the transaction, 69 if brokers do not answer; then only [`TransactionalTopic::committed`] of
    /// a new producer shows whether the batch was written.
    pub fn write(&mut self, batch: i64, records: Vec<ProducerRecord<'_>>) -> Result<()> {
        let number = u64::try_from(batch).map_err(|_| Error::broken(format!("batch {batch}")))?;
        let Self { producer, transactions, retention, restamped, .. } = self;
        requests::begin(producer)?;
        let now = transactions.topics.run.clock.now().div_euclid(MILLISECOND);
        let mut records = records.into_iter();
        let queued = records.try_for_each(|mut record| {
            if record.timestamp.is_some_and(|timestamp| !retention.keeps(timestamp, now)) {
                record.timestamp = None;
                *restamped += 1;
            }
            producer.queue(record)
        });
        match transactions.end(producer, Epoch { run: 0, number }, queued)? {
            TransactionEnd::Committed => Ok(()),
            TransactionEnd::Aborted(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_read_back_from_the_offset_of_its_group() {
        for (run, number) in [(0, 1), (7, 1), (1_000_000, 123_456)] {
            let epoch = Epoch { run, number };
            let list = position("t", Offset::Offset(epoch.signed().unwrap().number), &run.to_string()).unwrap();
            let found = list.find_partition("t", PARTITION).unwrap();
            assert_eq!(epoch_of(found.offset(), found.metadata()).unwrap(), Some(epoch));
        }
        assert_eq!(epoch_of(Offset::Invalid, "").unwrap(), None);
        assert_eq!(epoch_of(Offset::Offset(5), "").unwrap(), Some(Epoch { run: 0, number: 5 }), "of a replay");
        for metadata in ["x", "-1", "1 ", "99999999999999999999"] {
            let error = epoch_of(Offset::Offset(5), metadata).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{metadata}");
        }
    }

    #[test]
    fn epochs_are_compared_as_pairs() {
        let due = |run, number, offset, metadata: &str| {
            Epoch { run, number }.is_due(epoch_of(Offset::Offset(offset), metadata).unwrap(), "t")
        };
        assert!(due(9, 1, 50, "3").unwrap(), "a newer run has smaller numbers");
        assert!(due(3, 51, 50, "3").unwrap());
        assert!(!due(3, 50, 50, "3").unwrap(), "the same epoch is done");
        for (run, number) in [(3, 49), (2, 50), (2, 999)] {
            assert_eq!(due(run, number, 50, "3").unwrap_err().kind(), ErrorKind::Fenced, "({run}, {number})");
        }
        assert!(Epoch { run: 1, number: 1 }.is_due(epoch_of(Offset::Invalid, "").unwrap(), "t").unwrap());
    }
}
