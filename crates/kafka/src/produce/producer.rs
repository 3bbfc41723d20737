//! The producer of one topic: queues records and waits for their acknowledgement.

use crate::client::record::{ProducerRecord, ReturnedRecord};
use crate::client::{self, Context, Topics};
use crate::health::Health;
use evt_core::counts::counted;
use evt_core::error::{Error, Result};
use evt_run::metrics::ServerStatus;
use evt_run::stop::Wait;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long to poll a full queue, or for acknowledgements, before the brokers' health is checked again.
const POLL_TIMEOUT: Duration = Duration::from_millis(50);
/// Messages that are lost, for [`counted`].
const UNACKNOWLEDGED: [&str; 2] = ["message was not acknowledged and is", "messages were not acknowledged and are"];

/// Settings of librdkafka.
pub type Settings = Vec<(&'static str, String)>;

/// The producer of one topic.
#[derive(Clone)]
pub struct TopicProducer {
    /// The topic, the only one of its address.
    pub topics: Topics,
    /// The client; other threads may call it, too.
    pub client: Arc<BaseProducer<Context>>,
    /// The settings besides those of all producers.
    settings: Settings,
    /// How long to wait for acknowledgements without progress.
    acknowledgement_timeout: Option<Duration>,
    /// The error of this producer when it is fenced, if its records are in transactions, which brokers accept or reject
    /// as a whole.
    successor: Option<&'static str>,
    /// Whether other outputs use the client, too.
    is_shared: bool,
    health: Rc<Health>,
    up: ServerStatus,
    /// Whether a record of the client was queued since its last flush, or was in flight when the outage began. Its
    /// acknowledgement ends the outage.
    awaits_acknowledgement: Rc<Cell<bool>>,
    /// Rows of the present batch that are not in the queue yet, for messages.
    pub unsent: usize,
}

impl TopicProducer {
    /// Makes a producer; it connects with the first request.
    pub fn new(topics: &Topics, up: ServerStatus) -> Result<Self> {
        let wait = topics.address.options.wait.limit(true);
        // 0 means no limit.
        let timeout = wait.map_or(0, |limit| limit.as_millis().clamp(1000, i32::MAX as u128)).to_string();
        let settings = vec![("message.timeout.ms", timeout)];
        // librdkafka fails a record after `wait=`; this limit covers records that it would never report.
        Self::create(topics, up, settings, wait.map(|limit| limit * 2))
    }

    /// Makes a producer whose records are in transactions with these settings; `successor` is the error of a fenced
    /// one. librdkafka fails a record when the transaction times out.
    pub fn transactional(
        topics: &Topics,
        up: ServerStatus,
        settings: Settings,
        successor: &'static str,
    ) -> Result<Self> {
        let producer = Self::create(topics, up, settings, topics.address.options.wait.limit(true))?;
        Ok(Self { successor: Some(successor), ..producer })
    }

    /// Makes a producer of another topic with the same client and the same transactions.
    pub fn sharing(&self, topics: &Topics, up: ServerStatus) -> Self {
        Self {
            topics: topics.clone(),
            settings: vec![],
            acknowledgement_timeout: topics.address.options.wait.limit(true),
            is_shared: true,
            up,
            unsent: 0,
            ..self.clone()
        }
    }

    fn create(
        topics: &Topics,
        up: ServerStatus,
        settings: Settings,
        acknowledgement_timeout: Option<Duration>,
    ) -> Result<Self> {
        Ok(Self {
            topics: topics.clone(),
            client: Arc::new(create(topics, &settings, &[])?),
            settings,
            acknowledgement_timeout,
            successor: None,
            is_shared: false,
            health: Rc::new(Health::new(topics)),
            up,
            awaits_acknowledgement: Rc::default(),
            unsent: 0,
        })
    }

    /// Replaces the client by a client with the settings `sizes`. Does nothing if other outputs share the client, which
    /// has settings for all of them. Every record must be acknowledged before.
    pub fn set_sizes(&mut self, sizes: &[(&'static str, String)]) -> Result<()> {
        if !self.is_shared {
            self.client = Arc::new(create(&self.topics, &self.settings, sizes)?);
        }
        Ok(())
    }

    /// Repeats a request until brokers answer, for at most `limit`.
    pub fn request<T>(&self, limit: Option<Duration>, request: impl Fn(Duration) -> KafkaResult<T>) -> Result<T> {
        self.topics.request(self.client.context(), limit, || self.drain(), request)
    }

    /// Takes the errors from the event queue.
    pub fn drain(&self) -> Vec<Code> {
        (0..client::EVENTS).for_each(|_| self.client.poll(Duration::ZERO));
        self.client.context().notes(|notes| notes.error.take()).into_iter().collect()
    }

    /// Returns the number of partitions of the topic, and waits for brokers for at most `limit`. Errors: exit status 2
    /// if the topic does not exist.
    pub fn partition_count(&self, limit: Option<Duration>) -> Result<i32> {
        let Topics { address, .. } = &self.topics;
        let topic = self.topics.name(0);
        let missing = || Error::usage(format!("{address}: topic {topic} does not exist or may not be written"));
        self.request(limit, |timeout| client::count(self.client.client(), topic, timeout))?.ok_or_else(missing)
    }

    /// Takes the records that brokers rejected because their batch was too large or had an invalid record.
    pub fn take_returned(&self) -> VecDeque<ReturnedRecord> {
        self.client.context().notes(|notes| std::mem::take(&mut notes.returned))
    }

    /// Whether brokers rejected such records.
    pub fn has_returned(&self) -> bool {
        self.client.context().notes(|notes| !notes.returned.is_empty())
    }

    /// Queues a record; waits while the queue is full.
    pub fn queue(&self, record: ProducerRecord<'_>) -> Result<()> {
        let ProducerRecord { partition, key, value, headers, timestamp } = record;
        let mut record = BaseRecord::to(self.topics.name(0)).payload(&*value);
        (record.partition, record.key, record.headers) = (partition, key.as_deref(), headers);
        record.timestamp = timestamp;
        let mut wait = None;
        loop {
            let (error, back) = match self.client.send(record) {
                Ok(()) => {
                    self.awaits_acknowledgement.set(true);
                    return Ok(());
                }
                Err(failed) => failed,
            };
            if error.rdkafka_error_code() != Some(Code::QueueFull) {
                self.check_fence()?;
                return Err(client::failed(&self.topics.address, "a record cannot be sent", &error));
            }
            record = back;
            self.client.poll(POLL_TIMEOUT);
            self.update_health()?;
            let wait = wait.get_or_insert_with(|| self.topics.run.stop.server_wait());
            wait.left(self.client.in_flight_count());
            if wait.is_over() {
                return Err(self.stopped());
            }
            self.check_patience(wait)?;
        }
    }

    /// Acts on errors and statistics that librdkafka has reported. Errors: a permanent error ends the run.
    fn update_health(&self) -> Result<()> {
        let (error, stats) = self.client.context().notes(|notes| (notes.error.take(), notes.stats.take()));
        self.topics.check_brokers(self.client.context())?;
        if let Some(code) = error {
            if !client::is_transient(code) {
                self.check_fence()?;
                return Err(client::failed(&self.topics.address, "writing failed", &KafkaError::Global(code)));
            }
            let was_up = self.health.is_up();
            self.health.note_error(code);
            if was_up && !self.health.is_up() {
                // Records that were acknowledged before the outage do not end it.
                self.awaits_acknowledgement.set(self.has_records_in_flight());
            }
        }
        if stats.is_some_and(|stats| stats.is_up) {
            self.health.note_success();
        }
        self.health.report();
        self.up.set(self.health.is_up());
        Ok(())
    }

    /// Processes librdkafka's events. Errors: exit status 69 if a record was not delivered, or if brokers rejected one
    /// of a transaction.
    pub fn check(&self) -> Result<()> {
        self.client.poll(Duration::ZERO);
        self.check_fence()?;
        self.update_health()?;
        let context = self.client.context();
        if self.successor.is_some()
            && let Some(rejected) = context.notes(|notes| notes.returned.front().map(rejected_in_transaction))
        {
            return Err(rejected);
        }
        let Some(failure) = context.notes(|notes| notes.failure.clone()) else { return Ok(()) };
        let (place, lost) = (format!("{}/{}", failure.topic, failure.partition), failure.records);
        let message = format!("{place}: {} not counted as written", counted(lost, UNACKNOWLEDGED));
        let cause = match failure.code {
            Code::MessageTimedOut => context.cause().unwrap_or_else(|| client::describe(failure.code)),
            code => client::describe(code),
        };
        Err(Error::unavailable(message).because(cause))
    }

    /// Errors: exit status 75 if another producer with the same transactional id has begun, or brokers have ended the
    /// transaction. librdkafka drops the records in its queue then, and their error would be `purged in queue`.
    fn check_fence(&self) -> Result<()> {
        let fatal = self.client.client().fatal_error().map(|(code, _)| code);
        let failure = self.client.context().notes(|notes| notes.failure.as_ref().map(|failure| failure.code));
        let is_fenced = self.successor.is_some() && fatal.into_iter().chain(failure).any(client::is_fenced);
        if is_fenced { Err(self.fenced()) } else { Ok(()) }
    }

    /// Makes the error of a transactional producer that is fenced.
    #[cold]
    pub fn fenced(&self) -> Error {
        Error::fenced(format!("{}: {}", self.topics.address, self.successor.unwrap_or_default()))
    }

    /// Waits until every record is acknowledged or returned.
    pub fn flush(&self) -> Result<()> {
        let mut wait = self.topics.run.stop.server_wait();
        while self.client.in_flight_count() > 0 {
            // A flush sends queued records now instead of waiting for further records.
            let _ = self.client.flush(POLL_TIMEOUT);
            // A flush without records does not process pending errors and statistics: the check does.
            self.check()?;
            let now = self.client.in_flight_count();
            wait.left(now);
            if now > 0 && wait.is_over() {
                return Err(self.stopped());
            }
            self.check_patience(&wait)?;
        }
        self.check()?;
        // librdkafka does not report acknowledgements, and it may receive all of them before the flush begins.
        if self.awaits_acknowledgement.take() {
            self.health.note_acknowledgement();
        }
        Ok(())
    }

    /// Errors: exit status 69 if brokers have acknowledged nothing for too long.
    fn check_patience(&self, wait: &Wait) -> Result<()> {
        let left = self.client.in_flight_count();
        if left == 0 || self.acknowledgement_timeout.is_none_or(|limit| wait.idle() <= limit) {
            return Ok(());
        }
        let left = counted(u64::from(left.unsigned_abs()), ["message was", "messages were"]);
        let message = format!("{}: {left} not acknowledged", self.topics.address);
        Err(self.unavailable(message))
    }

    /// Makes the error of records that are not acknowledged.
    #[cold]
    fn unavailable(&self, message: String) -> Error {
        let cause = self.client.context().cause().unwrap_or_else(|| "no broker responds".to_owned());
        Error::unavailable(message).because(cause)
    }

    /// Whether a record is in flight. The client's own count includes pending errors and statistics; a flush considers
    /// only records.
    fn has_records_in_flight(&self) -> bool {
        self.client.flush(Duration::ZERO).is_err()
    }

    /// Makes the error of a wait for acknowledgements that a signal ended.
    #[cold]
    fn stopped(&self) -> Error {
        let unsent = match self.unsent {
            0 => String::new(),
            rows => format!(", {} not sent", counted(rows as u64, ["row was", "rows were"])),
        };
        self.unavailable(format!(
            "{}: stopped: {} not counted as written{unsent}",
            self.topics.address,
            counted(u64::from(self.client.in_flight_count().unsigned_abs()), UNACKNOWLEDGED)
        ))
    }
}

/// Makes the error of a record of a transaction that brokers rejected.
#[cold]
pub fn rejected_in_transaction(returned: &ReturnedRecord) -> Error {
    let ReturnedRecord { record, topic, is_invalid } = returned;
    let what = if *is_invalid { "invalid" } else { "too large" };
    let error = Error::unavailable(format!("{topic}: brokers rejected a record of a transaction as {what}"));
    match *is_invalid && record.key.is_none() {
        true => error.because("it has no key, which a topic with cleanup.policy=compact requires"),
        false => error,
    }
}

fn create(topics: &Topics, own: &[(&str, String)], sizes: &[(&str, String)]) -> Result<BaseProducer<Context>> {
    let settings = [
        ("enable.idempotence", "true"),
        ("acks", "all"),
        // A record that is no longer in flight is acknowledged, so that reports of successes add nothing. They cost a
        // third of the work.
        ("delivery.report.only.error", "true"),
        // Bounds the memory of the queue behind slow brokers.
        ("queue.buffering.max.kbytes", "65536"),
        ("queue.buffering.max.messages", "200000"),
        // Java's partitioner: a key goes to the same partition as from a Java producer.
        ("partitioner", "murmur2_random"),
    ];
    let own = own.iter().chain(sizes).map(|(name, value)| (*name, value.as_str()));
    topics.create(&settings.into_iter().chain(own).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use evt_run::clock::{Clock, SimulatedClock};
    use evt_run::run::Run;

    #[test]
    fn pending_events_without_an_acknowledgement_do_not_end_an_outage() {
        let clock = SimulatedClock::default();
        let run = Rc::new(Run::unwatched("evt-test", Clock::Simulated(clock.clone())));
        let address = Address::parse("//127.0.0.1:1/t?rdkafka.statistics.interval.ms=50", &Default::default()).unwrap();
        let producer = TopicProducer::new(&Topics::new(&address, &run), ServerStatus::default()).unwrap();
        while producer.health.is_up() {
            producer.client.poll(POLL_TIMEOUT);
            producer.check().unwrap();
        }
        // A success soon after the outage began would not end it.
        clock.advance(Duration::from_secs(2));
        while producer.client.in_flight_count() == 0 {
            std::thread::yield_now();
        }
        producer.flush().unwrap();
        assert!(!producer.health.is_up());
    }
}
