//! Clients of librdkafka, for consumers and producers: settings, callbacks, error texts, and requests that are repeated until
//! brokers answer.

use super::position::{ByPartition, PartitionId};
use crate::error::{Error, ErrorKind, Result};
use crate::run::Run;
use crate::store::remote::trying_again;
use crate::uri::kafka::Address;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::statistics::{Partition, Statistics};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Maximum number of queued events that are drained between two attempts of a request; each poll returns at most one.
const EVENTS: usize = 64;
/// Timeout of one attempt of a request.
pub const ANSWER: Duration = Duration::from_secs(4);

/// A consumer whose callbacks write to a [`Context`].
pub type Client = BaseConsumer<Context>;

/// A rebalance of the group, queued until the thread of the run acts on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// These partitions were assigned to this member.
    Assigned(Vec<PartitionId>),
    /// These partitions were revoked. They stay with this member until it releases them.
    Revoked(Vec<PartitionId>),
}

/// The callback context of a client: callbacks note events here, and the thread of the run acts on them.
#[derive(Default)]
pub struct Context {
    /// The topics of the address, in its order.
    topics: Vec<String>,
    notes: Mutex<Notes>,
    /// Whether the client is being closed.
    closing: AtomicBool,
    /// Whether the run has begun. From then on the brokers may be unreachable for `wait=`.
    begun: AtomicBool,
}

/// What callbacks have noted and the run has not taken yet.
#[derive(Default)]
struct Notes {
    last_error: Option<Code>,
    cause: Option<String>,
    failure: Option<(Code, i32)>,
    failed: u64,
    returned: VecDeque<Returned>,
    commit_failure: Option<KafkaError>,
    rebalances: VecDeque<Rebalance>,
    stats: Option<ClusterStats>,
}

impl Context {
    /// Makes the context of a client that reads or writes these topics.
    pub fn new(topics: &[String]) -> Self {
        Self { topics: topics.to_vec(), ..Self::default() }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the partition of a topic of the address.
    pub fn partition(&self, topic: &str, number: i32) -> Option<PartitionId> {
        let topic = self.topics.iter().position(|known| known == topic)?;
        Some(PartitionId { topic, number })
    }

    /// Returns the name of the topic of a partition.
    pub fn topic(&self, id: PartitionId) -> &str {
        &self.topics[id.topic]
    }

    /// Returns partitions as a list for librdkafka.
    pub fn list(&self, partitions: &[PartitionId]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for id in partitions {
            list.add_partition(&self.topics[id.topic], id.number);
        }
        list
    }

    /// Returns the number of messages whose delivery failed for good.
    pub fn failed(&self) -> u64 {
        self.notes().failed
    }

    /// Takes the messages that brokers refused as too large since the last call.
    pub fn take_returned(&self) -> VecDeque<Returned> {
        std::mem::take(&mut self.notes().returned)
    }

    /// Whether brokers refused messages as too large since the last [`Context::take_returned`].
    pub fn has_returned(&self) -> bool {
        !self.notes().returned.is_empty()
    }

    /// Takes the error reported since the last call: one that is not transient takes precedence.
    pub fn take_error(&self) -> Option<Code> {
        self.notes().last_error.take()
    }

    /// Returns the first delivery that failed for good: its error and its partition.
    pub fn failure(&self) -> Option<(Code, i32)> {
        self.notes().failure
    }

    /// Takes the error of a commit that failed since the last call.
    pub fn take_commit_failure(&self) -> Option<KafkaError> {
        self.notes().commit_failure.take()
    }

    /// Queues a rebalance.
    pub fn note_rebalance(&self, rebalance: Rebalance) {
        self.notes().rebalances.push_back(rebalance);
    }

    /// Takes the next rebalance.
    pub fn take_rebalance(&self) -> Option<Rebalance> {
        self.notes().rebalances.pop_front()
    }

    /// Notes statistics.
    pub fn note_stats(&self, stats: ClusterStats) {
        self.notes().stats = Some(stats);
    }

    /// Takes the latest statistics since the last call.
    pub fn take_stats(&self) -> Option<ClusterStats> {
        self.notes().stats.take()
    }

    /// Marks the noted statistics as outdated: a broker that was connected before this error need not be connected now.
    pub fn invalidate_stats(&self) {
        if let Some(stats) = &mut self.notes().stats {
            stats.is_up = false;
        }
    }

    /// Marks the run as begun: every request of its opening has been answered once.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Marks the client as closing: from now on revoked partitions are released at once.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Returns librdkafka's message about the last error.
    pub fn cause(&self) -> Option<String> {
        self.notes().cause.clone()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // One file of settings serves consumers and producers; a warning about a setting that only the other uses is noise.
        if level as i32 <= RDKafkaLogLevel::Error as i32 && facility != "CONFWARN" {
            self.notes().cause = Some(shorter(message).to_owned());
        }
    }

    fn error(&self, error: KafkaError, _: &str) {
        self.invalidate_stats();
        let mut notes = self.notes();
        // A transient error must not overwrite a permanent one.
        if notes.last_error.is_none_or(is_passing) {
            notes.last_error = error.rdkafka_error_code();
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.note_stats(ClusterStats::of(&statistics, &self.topics));
    }
}

/// Removes the thread from a message of librdkafka: `[thrd:…]: 127.0.0.1:9/bootstrap: Connect to …`.
fn shorter(message: &str) -> &str {
    message.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(message, |(_, rest)| rest)
}

impl ConsumerContext for Context {
    /// Queues the change, and nothing else: rows that were read from a revoked partition must be in the outputs before it is
    /// released.
    fn rebalance(&self, client: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let elements = list.elements();
        let partitions: Vec<_> =
            elements.iter().filter_map(|one| self.partition(one.topic(), one.partition())).collect();
        if self.closing.load(Ordering::Relaxed) {
            // The client is being closed; there is nobody to report an error to.
            let _ = release(client, &partitions);
            return;
        }
        self.note_rebalance(match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assigned(partitions),
            _ => Rebalance::Revoked(partitions),
        });
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            self.notes().commit_failure = Some(error);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut notes = self.notes();
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            if matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge) {
                notes.returned.push_back(Returned::of(message));
                return;
            }
            notes.failed += 1;
            notes.failure.get_or_insert((code, message.partition()));
        }
    }
}

/// Makes the settings of a client of `address`: defaults, then `ours`, then those of the user, each overriding the ones before.
pub fn config(address: &Address, run: &Run, ours: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Error);
    config.set("bootstrap.servers", &address.brokers).set("client.id", run.console.tool());
    // Reconnect soon after an outage, and notice new partitions within a minute.
    config.set("reconnect.backoff.max.ms", "2000");
    config.set("topic.metadata.refresh.interval.ms", "60000");
    config.set("statistics.interval.ms", "5000");
    for (name, value) in ours {
        config.set(*name, *value);
    }
    for (name, value) in run.kafka.iter().chain(&address.options.settings) {
        config.set(name, value);
    }
    config
}

/// Creates a client of these settings. Errors: exit status 2 if librdkafka does not accept a setting.
pub fn create<T: FromClientConfigAndContext<Context>>(config: &ClientConfig, address: &Address) -> Result<T> {
    config.create_with_context(Context::new(&address.topics)).map_err(|error| match error {
        KafkaError::ClientConfig(_, why, name, _) => Error::usage(format!("{address}: setting {name}")).because(why),
        other => failed(address, "creating a client failed", &other),
    })
}

/// Converts an error of librdkafka to an error that ends the run.
#[cold]
pub fn failed(address: &Address, what: &str, error: &KafkaError) -> Error {
    let kind = match error.rdkafka_error_code() {
        Some(Code::Fenced | Code::FencedInstanceId | Code::UnknownMemberId | Code::IllegalGeneration) => {
            ErrorKind::Fenced
        }
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => ErrorKind::Usage,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("{address}: {what}")).because(error_text(error))
}

/// Returns the text of an error, without the names of its code that librdkafka and its binding add.
pub fn error_text(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), describe)
}

/// Releases revoked partitions: all of them under the eager protocol, only `partitions` under the cooperative one.
pub fn release(client: &BaseConsumer<Context>, partitions: &[PartitionId]) -> KafkaResult<()> {
    match client.rebalance_protocol() {
        RebalanceProtocol::Cooperative => client.incremental_unassign(&client.context().list(partitions)),
        _ => client.unassign(),
    }
}

/// Returns the text of an error code: `broker transport failure` for `BrokerTransportFailure (Local: Broker transport
/// failure)`.
pub fn describe(code: Code) -> String {
    let text = code.to_string();
    let inner = text.split_once(" (").and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(&text);
    inner.trim_start_matches("Local: ").trim_start_matches("Broker: ").to_lowercase()
}

/// Whether an error is transient: it ends once brokers are reachable.
pub fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::TimedOutQueue
            | Code::WaitingForCoordinator
            | Code::NodeUpdate
            | Code::Retry
            | Code::RequestTimedOut
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::NetworkException
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::BrokerDestroy
    )
}

/// A client that [`ask`] can send requests with.
pub trait Requester {
    /// Returns its callback context.
    fn callbacks(&self) -> &Context;

    /// Drains its event queue; returns a permanent error, if there was one. For use only while nothing else polls the client.
    fn drain_events(&self) -> Option<Code>;
}

impl Requester for BaseConsumer<Context> {
    fn callbacks(&self) -> &Context {
        self.context()
    }

    fn drain_events(&self) -> Option<Code> {
        let codes = (0..EVENTS).filter_map(|_| self.poll(Duration::ZERO)?.err()?.rdkafka_error_code());
        // The fold runs the iterator to its end, because each poll removes one event from the queue.
        codes.filter(|code| !is_passing(*code)).fold(None, |_, code| Some(code))
    }
}

impl Requester for BaseProducer<Context> {
    fn callbacks(&self) -> &Context {
        self.context()
    }

    fn drain_events(&self) -> Option<Code> {
        (0..EVENTS).for_each(|_| self.poll(Duration::ZERO));
        self.context().take_error().filter(|code| !is_passing(*code))
    }
}

/// Repeats `question` until brokers answer, for as long as [`Away`](crate::store::remote::Away) (`wait=`) allows before or
/// after the beginning of the run.
pub fn ask<T>(
    address: &Address,
    run: &Run,
    client: &impl Requester,
    question: impl Fn(Duration) -> KafkaResult<T>,
) -> Result<T> {
    let begun = client.callbacks().begun.load(Ordering::Relaxed);
    ask_for(address.options.wait.limit(begun), (address, run), client, question)
}

/// Repeats `question`, which gets the timeout of an attempt, until brokers answer, `limit` has passed or a stop timeout
/// expires. The first transient failure is reported. Errors: exit status 69 if there is no answer in time, 78 if authentication
/// or TLS fails.
pub fn ask_for<T>(
    limit: Option<Duration>,
    (address, run): (&Address, &Run),
    client: &impl Requester,
    question: impl Fn(Duration) -> KafkaResult<T>,
) -> Result<T> {
    let start = Instant::now();
    let begun = client.callbacks().begun.load(Ordering::Relaxed);
    let (mut said, wait) = (false, run.stop.server_wait());
    let limit = wait.limit(limit);
    loop {
        let error = match question(wait.call_timeout(ANSWER)) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // Once the run has begun its reader polls the client, and must not miss an event.
        let failure = if begun { None } else { client.drain_events() };
        let because = |error: Error| match client.callbacks().cause() {
            Some(cause) => error.because(cause),
            None => error,
        };
        if let Some(code @ (Code::Authentication | Code::SSL)) = failure {
            return Err(because(Error::config(format!("{address}: {}", describe(code)))));
        }
        // A new partition is in one broker's metadata before the others and the client know it.
        let passing = error.rdkafka_error_code().is_some_and(|code| is_passing(code) || code == Code::UnknownPartition);
        if !passing || limit.is_some_and(|limit| start.elapsed() > limit) || wait.is_over() {
            let failed = failed(address, "no response", &error);
            return Err(if passing { because(failed) } else { failed });
        }
        if !std::mem::replace(&mut said, true) {
            run.console.say(format!("{address}: {}: {}", error_text(&error), trying_again(limit, "wait")));
        }
        wait.pause(Duration::from_millis(200));
    }
}

/// Returns the number of partitions of a topic; `None` if it does not exist or must not be accessed.
pub fn count<C: ClientContext>(
    client: &rdkafka::client::Client<C>,
    topic: &str,
    timeout: Duration,
) -> KafkaResult<Option<i32>> {
    let metadata = client.fetch_metadata(Some(topic), timeout)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    if let Some(code) = found.error().map(Code::from).filter(|code| is_passing(*code)) {
        return Err(KafkaError::MetadataFetch(code));
    }
    let count = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
    Ok((found.error().is_none() && count > 0).then_some(count))
}

/// A message that librdkafka returned because brokers refused its batch as too large.
pub struct Returned {
    /// The partition it was sent to.
    pub partition: i32,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its headers.
    pub headers: Option<OwnedHeaders>,
}

impl Returned {
    /// Copies a message that librdkafka returned.
    pub fn of(message: &BorrowedMessage<'_>) -> Self {
        Self {
            partition: message.partition(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: message.headers().map(|headers| headers.detach()),
        }
    }
}

/// What librdkafka's statistics contain about brokers and partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterStats {
    /// Whether any broker is connected.
    pub is_up: bool,
    /// The offset after the last one that may be read; `None` before the first fetch of a partition.
    pub ends: ByPartition<Option<i64>>,
}

impl ClusterStats {
    /// Extracts these facts about `topics` from `statistics`.
    pub fn of(statistics: &Statistics, topics: &[String]) -> Self {
        let mut ends = ByPartition::new();
        for (topic, name) in topics.iter().enumerate() {
            let partitions = statistics.topics.get(name).into_iter().flat_map(|found| &found.partitions);
            // Negative partition numbers are internal queues of librdkafka.
            for (number, partition) in partitions.filter(|(number, found)| **number >= 0 && !found.unknown) {
                ends.insert(PartitionId { topic, number: *number }, end(partition));
            }
        }
        Self { is_up: statistics.brokers.values().any(|broker| broker.state == "UP"), ends }
    }
}

/// Returns the last stable offset, or the high watermark if there is none: records after the former belong to open
/// transactions.
fn end(partition: &Partition) -> Option<i64> {
    [partition.ls_offset, partition.hi_offset].into_iter().find(|offset| *offset >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_from_before_an_outage_do_not_end_it() {
        let context = Context::default();
        context.note_stats(ClusterStats { is_up: true, ..ClusterStats::default() });
        context.error(KafkaError::Global(Code::AllBrokersDown), "");
        assert_eq!(context.take_stats().map(|stats| stats.is_up), Some(false));
    }
}
