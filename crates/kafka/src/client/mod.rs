//! Clients of librdkafka for consumers and producers: settings, callbacks, error texts, and retries of requests until
//! brokers answer. [`record`] has the records that producers take, `stats` what its statistics say of brokers and
//! partitions, [`ids`] the ids of topics.

pub mod ids;
pub mod record;
pub mod stats;

use self::record::{ProducerRecord, ReturnedRecord};
use self::stats::{ClusterStats, Fetches, KnownBrokers};
use super::position::PartitionId;
use crate::address::Address;
use evt_core::error::{Error, ErrorKind, Result};
use evt_run::client::outage::trying_again;
use evt_run::input::topic_id::TopicId;
use evt_run::run::Run;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Maximum number of queued events that are drained between two attempts of a request; each poll returns at most one.
pub const EVENTS: usize = 64;
/// The setting of the lines that librdkafka logs for debugging.
pub const DEBUG: &str = "debug";
/// The setting of librdkafka for the interval of statistics (ms); 0 for none.
const STATISTICS: &str = "statistics.interval.ms";
/// How long a topic that was read may be away.
pub const GONE: Duration = Duration::from_secs(30);
/// Timeout of one attempt of a request to brokers.
const ANSWER: Duration = Duration::from_secs(4);

/// A rebalance of the group, queued until the thread of the run acts on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// These partitions were assigned to this member.
    Assigned(Vec<PartitionId>),
    /// These partitions were revoked. They stay with this member until it releases them.
    Revoked(Vec<PartitionId>),
}

/// The callback context of a client: callbacks record events here, and the thread of the run handles them.
#[derive(Default)]
pub struct Context {
    /// The topics of the address, in its order.
    topics: Vec<String>,
    notes: Mutex<Notes>,
}

/// Events that callbacks have recorded and the run has not handled yet, and the state of the run that callbacks read.
#[derive(Default)]
pub struct Notes {
    /// Whether the run has begun: brokers have answered every request that opens it. From then on brokers may be
    /// unreachable for `wait=`.
    pub has_begun: bool,
    /// Whether the client is being closed: from now on revoked partitions are released at once.
    pub is_closing: bool,
    /// The last error of the highest rank: a permanent error, then `AllBrokersDown`, then the other transient ones.
    pub error: Option<Code>,
    /// librdkafka's message about the last error.
    pub cause: Option<String>,
    /// Deliveries that failed permanently.
    pub failure: Option<DeliveryFailure>,
    /// Records that brokers rejected because their batch was too large or had an invalid record.
    pub returned: VecDeque<ReturnedRecord>,
    /// Rebalances of the group, in their order.
    pub rebalances: VecDeque<Rebalance>,
    /// The latest statistics.
    pub stats: Option<ClusterStats>,
    /// Whether the client has brokers.
    pub brokers: KnownBrokers,
    /// The fetch requests of librdkafka.
    pub fetches: Fetches,
    /// The ids of topics by name, from a client that logs them.
    pub topic_ids: BTreeMap<String, TopicId>,
    /// The number of lines that this client has logged.
    pub id_lines: u64,
}

/// Deliveries that failed permanently.
#[derive(Clone, Debug)]
pub struct DeliveryFailure {
    /// The error of the first one.
    pub code: Code,
    /// Its topic, which need not be that of the address: the outputs of a transaction share a client.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The number of records.
    pub records: u64,
}

impl Context {
    /// Makes the context of a client that reads or writes these topics.
    pub fn new(topics: &[String]) -> Self {
        Self { topics: topics.to_vec(), ..Self::default() }
    }

    /// Calls `access` with the events that callbacks have recorded. It must not call librdkafka, whose callbacks would
    /// wait for it.
    pub fn notes<T>(&self, access: impl FnOnce(&mut Notes) -> T) -> T {
        access(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the partition of a topic of the address.
    pub fn partition(&self, topic: &str, number: i32) -> Option<PartitionId> {
        let topic = self.topics.iter().position(|known| known == topic)?;
        Some(PartitionId { topic, number })
    }

    /// Returns partitions as a list for librdkafka.
    pub fn list(&self, partitions: &[PartitionId]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for id in partitions {
            list.add_partition(&self.topics[id.topic], id.number);
        }
        list
    }

    /// Marks the noted statistics as outdated: a broker that was connected before this error need not be connected now.
    pub fn invalidate_stats(&self) {
        self.notes(|notes| notes.stats.iter_mut().for_each(|stats| stats.is_up = false));
    }

    /// Returns librdkafka's message about the last error.
    pub fn cause(&self) -> Option<String> {
        self.notes(|notes| notes.cause.clone())
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.notes(|notes| {
            notes.id_lines += 1;
            notes.topic_ids.extend(logged_id(shorter(message)).map(|(topic, id)| (topic.to_owned(), id)));
        });
        // One file of settings serves consumers and producers, so warnings about settings that only the other client
        // uses are dropped.
        if level as i32 <= RDKafkaLogLevel::Error as i32 && facility != "CONFWARN" {
            self.notes(|notes| notes.cause = Some(shorter(message).to_owned()));
        }
    }

    fn error(&self, error: KafkaError, _: &str) {
        self.invalidate_stats();
        self.notes(|notes| {
            let code = error.rdkafka_error_code();
            // A broker that fails to reconnect reports errors of its own right after `AllBrokersDown`.
            if rank(code) >= rank(notes.error) {
                notes.error = code;
            }
        });
    }

    fn stats(&self, statistics: Statistics) {
        self.notes(|notes| {
            notes.brokers.note(&statistics);
            notes.stats = Some(ClusterStats::of(&statistics, &self.topics, &mut notes.fetches));
        });
    }
}

/// Takes the errors from the event queue of a consumer.
pub fn queued_errors(client: &BaseConsumer<Context>) -> Vec<Code> {
    (0..EVENTS).filter_map(|_| client.poll(Duration::ZERO)?.err()?.rdkafka_error_code()).collect()
}

/// Ranks the errors of a client: a noted error is replaced only by one of at least its rank.
fn rank(code: Option<Code>) -> u8 {
    match code {
        None => 0,
        Some(Code::AllBrokersDown) => 2,
        Some(code) if is_transient(code) => 1,
        Some(_) => 3,
    }
}

/// Removes the thread from a message of librdkafka: `[thrd:…]: 127.0.0.1:9/bootstrap: Connect to …`.
fn shorter(message: &str) -> &str {
    message.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(message, |(_, rest)| rest)
}

/// Returns the name and the id of a topic if this is the line that librdkafka logs when it learns the id.
fn logged_id(message: &str) -> Option<(&str, TopicId)> {
    let (topic, ids) = message.strip_prefix("Topic ")?.split_once(" changed id from ")?;
    let (_, id) = ids.split_once(" to ")?;
    Some((topic, TopicId::parse(id)?))
}

impl ConsumerContext for Context {
    /// Only queues the rebalance: rows that were read from a revoked partition must be in the outputs before the
    /// partition is released.
    fn rebalance(&self, client: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let elements = list.elements();
        let partitions: Vec<_> =
            elements.iter().filter_map(|one| self.partition(one.topic(), one.partition())).collect();
        if self.notes(|notes| notes.is_closing) {
            // The client is being closed, so an error cannot be reported.
            let _ = release(client, &partitions);
            return;
        }
        let rebalance = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assigned(partitions),
            _ => Rebalance::Revoked(partitions),
        };
        self.notes(|notes| notes.rebalances.push_back(rebalance));
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, message)) = result else { return };
        let (code, topic) = (error.rdkafka_error_code().unwrap_or(Code::Unknown), message.topic().to_owned());
        let is_invalid = matches!(code, Code::InvalidRecord | Code::InvalidDifferentRecord);
        if is_invalid || matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge) {
            let record = ProducerRecord::returned(message);
            self.notes(|notes| notes.returned.push_back(ReturnedRecord { record, topic, is_invalid }));
            return;
        }
        self.notes(|notes| {
            let first = DeliveryFailure { code, topic, partition: message.partition(), records: 0 };
            notes.failure.get_or_insert(first).records += 1;
        });
    }
}

/// The topics of an address, and the run that reads or writes them.
#[derive(Clone)]
pub struct Topics {
    /// The address.
    pub address: Rc<Address>,
    /// The run.
    pub run: Rc<Run>,
}

impl Topics {
    /// Combines an address and a run.
    pub fn new(address: &Address, run: &Rc<Run>) -> Self {
        Self { address: Rc::new(address.clone()), run: run.clone() }
    }

    /// Writes a message about the topics.
    pub fn say(&self, message: impl std::fmt::Display) {
        self.run.console.say(format!("{}: {message}", self.address));
    }

    /// Returns the name of a topic.
    pub fn name(&self, topic: usize) -> &str {
        &self.address.topics[topic]
    }

    /// Returns the name of a partition, for messages.
    pub fn partition_name(&self, id: PartitionId) -> String {
        id.name(&self.address.topics)
    }

    /// Checks that the client still has a broker. A broker that has just started, or that was paused, may answer a
    /// request for metadata with topics and without brokers. librdkafka 2.12 then removes all brokers, those of the
    /// address included, and may never add them again (<https://github.com/confluentinc/librdkafka/issues/5301>).
    /// Errors: exit status 69, whatever `wait=` is; another run connects again.
    pub fn check_brokers(&self, context: &Context) -> Result<()> {
        if !context.notes(|notes| notes.brokers.are_lost) {
            return Ok(());
        }
        let message = format!("{}: librdkafka has lost all brokers and finds none again", self.address);
        let cause = "a broker that had just started named no broker; the next run connects again";
        Err(Error::unavailable(message).because(cause))
    }

    /// Creates a client. Its settings are defaults, then `ours`, then those of the user, each overriding the ones
    /// before. Errors: exit status 2 if librdkafka does not accept a setting.
    pub fn create<T: FromClientConfigAndContext<Context>>(&self, ours: &[(&str, &str)]) -> Result<T> {
        let Self { address, run } = self;
        let mut config = ClientConfig::new();
        let shows_debug = ours.iter().any(|(name, _)| *name == DEBUG);
        config.set_log_level(if shows_debug { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Error });
        config.set("bootstrap.servers", &address.brokers).set("client.id", run.console.tool());
        // Reconnect soon after an outage, and notice new partitions within a minute.
        config.set("reconnect.backoff.max.ms", "2000");
        config.set("topic.metadata.refresh.interval.ms", "60000");
        config.set(STATISTICS, "5000");
        for (name, value) in ours {
            config.set(*name, *value);
        }
        // Statistics of a client whose log is read would come between its lines.
        let is_ours = |name: &str| shows_debug && [DEBUG, STATISTICS].contains(&name);
        for (name, value) in settings(address, run).filter(|(name, _)| !is_ours(name)) {
            config.set(name, value);
        }
        config.create_with_context(Context::new(&address.topics)).map_err(|error| match error {
            KafkaError::ClientConfig(_, why, name, _) => {
                Error::usage(format!("{address}: setting {name}")).because(why)
            }
            // Settings that do not go together. No broker takes part here; only a thread may be missing besides.
            KafkaError::ClientCreation(why) if !why.contains("thread") => {
                Error::usage(format!("{address}: librdkafka rejects the settings")).because(why)
            }
            other => failed(address, "creating a client failed", &other),
        })
    }

    /// Repeats the request `question`, which gets the timeout of an attempt, until brokers answer, `limit` has passed
    /// or a stop timeout expires. `drain` takes the errors from the client's event queue. The first transient failure
    /// is reported. Errors: exit status 69 if there is no answer in time, 78 if authentication or TLS fails.
    pub fn request<T>(
        &self,
        context: &Context,
        limit: Option<Duration>,
        drain: impl Fn() -> Vec<Code>,
        question: impl Fn(Duration) -> KafkaResult<T>,
    ) -> Result<T> {
        let Self { address, run } = self;
        let start = run.clock.monotonic();
        let (mut is_reported, wait) = (false, run.stop.server_wait());
        let limit = wait.limit(limit);
        loop {
            let error = match question(wait.call_timeout(ANSWER)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // Once the run has begun, its reader polls the client: draining the queue here would take events from that
            // reader.
            let errors = if context.notes(|notes| notes.has_begun) { vec![] } else { drain() };
            self.check_brokers(context)?;
            let because = |error: Error| match context.cause() {
                Some(cause) => error.because(cause),
                None => error,
            };
            if let Some(code) = errors.into_iter().find(|code| matches!(code, Code::Authentication | Code::SSL)) {
                return Err(because(Error::config(format!("{address}: {}", describe(code)))));
            }
            let code = error.rdkafka_error_code();
            let passed = run.clock.monotonic().saturating_sub(start);
            // One broker has a new partition in its metadata before the other brokers and the client have it. A topic
            // that was read may be deleted and created again.
            let may_come = |code: Code| {
                let has_begun = context.notes(|notes| notes.has_begun);
                code == Code::UnknownPartition || is_missing(code) && has_begun && passed < GONE
            };
            let is_transient = code.is_some_and(|code| is_transient(code) || may_come(code));
            let is_over = limit.is_some_and(|limit| passed > limit);
            if !is_transient || is_over || wait.is_over() {
                let failed = match code {
                    // A topic that brokers do not know is a wrong address, unless the run has read the topic before.
                    Some(code) if is_missing(code) && !context.notes(|notes| notes.has_begun) => {
                        Error::usage(format!("{address}: no response")).because(describe(code))
                    }
                    _ => failed(address, "no response", &error),
                };
                return Err(if is_transient { because(failed) } else { failed });
            }
            if !std::mem::replace(&mut is_reported, true) {
                self.say(format!("{}: {}", error_text(&error), trying_again(limit, "wait")));
            }
            wait.pause(Duration::from_millis(200));
        }
    }
}

/// Returns the settings of librdkafka that the user made; the last one of a name counts.
pub fn settings<'a>(address: &'a Address, run: &'a Run) -> impl DoubleEndedIterator<Item = &'a (String, String)> {
    run.kafka.iter().chain(&address.options.settings)
}

/// Returns the user's value of a setting.
pub fn setting<'a>(address: &'a Address, run: &'a Run, name: &str) -> Option<&'a str> {
    settings(address, run).rev().find(|(set, _)| set == name).map(|(_, value)| value.as_str())
}

/// Converts an error of librdkafka to an error that ends the run. Topics have been checked before, so one that is
/// unknown now may exist again for the next run. Settings that brokers reject are those of the next run, too.
#[cold]
pub fn failed(address: &Address, what: &str, error: &KafkaError) -> Error {
    let kind = match error.rdkafka_error_code() {
        Some(Code::Fenced | Code::FencedInstanceId | Code::UnknownMemberId | Code::IllegalGeneration) => {
            ErrorKind::Fenced
        }
        Some(Code::InvalidSessionTimeout | Code::InconsistentGroupProtocol | Code::InvalidTransactionTimeout) => {
            ErrorKind::Config
        }
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("{address}: {what}")).because(error_text(error))
}

/// Makes the error of a run whose topic is away for longer than [`GONE`]. It was there when the run began, and may be
/// there again for the next run.
#[cold]
pub fn missing(address: &Address) -> Error {
    let error = Error::unavailable(format!("{address}: reading failed"));
    let which = if address.topics.len() > 1 { "one of the topics" } else { "the topic" };
    error.because(format!("{which} does not exist any more"))
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

/// The transient errors: they end once brokers are reachable, have elected leaders and coordinators, or have caught up.
const TRANSIENT: [Code; 27] = [
    Code::AllBrokersDown,
    Code::BrokerTransportFailure,
    Code::Resolve,
    Code::OperationTimedOut,
    Code::MessageTimedOut,
    Code::TimedOutQueue,
    Code::WaitingForCoordinator,
    Code::NodeUpdate,
    Code::Retry,
    Code::RequestTimedOut,
    Code::LeaderNotAvailable,
    Code::NotLeaderForPartition,
    Code::NetworkException,
    Code::CoordinatorNotAvailable,
    Code::CoordinatorLoadInProgress,
    Code::NotCoordinator,
    Code::NotEnoughReplicas,
    Code::NotEnoughReplicasAfterAppend,
    Code::BrokerNotAvailable,
    Code::ReplicaNotAvailable,
    Code::UnstableOffsetCommit,
    Code::BrokerDestroy,
    // The cluster has fenced the broker that was asked.
    Code::DestroyBroker,
    Code::KafkaStorageError,
    Code::FencedLeaderEpoch,
    Code::UnknownLeaderEpoch,
    Code::OffsetNotAvailable,
];

/// Whether an error is transient.
pub fn is_transient(code: Code) -> bool {
    TRANSIENT.contains(&code)
}

/// Whether the error with this number in an answer of a broker is transient.
pub fn is_transient_number(number: i16) -> bool {
    TRANSIENT.iter().any(|code| *code as i32 == i32::from(number))
}

/// Whether a topic or a partition does not exist, at least at this moment.
pub fn is_missing(code: Code) -> bool {
    matches!(code, Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition)
}

/// Whether brokers reject a transactional producer: one with the same id has begun since, or they have ended its
/// transaction.
pub fn is_fenced(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

/// Returns the number of partitions of a topic; `None` if it does not exist or must not be accessed.
pub fn count(client: &Client<Context>, topic: &str, timeout: Duration) -> KafkaResult<Option<i32>> {
    let metadata = client.fetch_metadata(Some(topic), timeout)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    if let Some(code) = found.error().map(Code::from).filter(|code| is_transient(*code)) {
        return Err(KafkaError::MetadataFetch(code));
    }
    let count = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
    Ok((found.error().is_none() && count > 0).then_some(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_from_before_an_outage_do_not_end_it() {
        let context = Context::default();
        context.notes(|notes| notes.stats = Some(ClusterStats { is_up: true, ..ClusterStats::default() }));
        context.error(KafkaError::Global(Code::AllBrokersDown), "");
        assert_eq!(context.notes(|notes| notes.stats.take()).map(|stats| stats.is_up), Some(false));
    }

    #[test]
    fn an_error_that_a_later_request_does_not_get_is_transient() {
        // What brokers answer to requests for offsets and metadata while leaders and coordinators change.
        let numbers = [5, 6, 7, 8, 9, 13, 14, 15, 16, 19, 20, 56, 74, 75, 78, 88];
        assert_eq!((-1..200).filter(|number| is_transient_number(*number)).collect::<Vec<i16>>(), numbers);
        for (code, expected) in [
            (Code::OffsetNotAvailable, true),
            (Code::KafkaStorageError, true),
            (Code::FencedLeaderEpoch, true),
            (Code::UnknownLeaderEpoch, true),
            (Code::AllBrokersDown, true),
            (Code::UnknownTopicOrPartition, false),
            (Code::TopicAuthorizationFailed, false),
            (Code::OffsetOutOfRange, false),
        ] {
            assert_eq!(is_transient(code), expected, "{code:?}");
        }
    }

    #[test]
    fn an_error_of_one_broker_does_not_replace_the_error_of_all_brokers() {
        let noted = |codes: &[Code]| {
            let context = Context::default();
            codes.iter().for_each(|code| context.error(KafkaError::Global(*code), ""));
            context.notes(|notes| notes.error)
        };
        let (all, one, permanent) = (Code::AllBrokersDown, Code::BrokerTransportFailure, Code::Authentication);
        assert_eq!(noted(&[one, all, one]), Some(all));
        assert_eq!(noted(&[all, permanent, all, one]), Some(permanent));
        assert_eq!(noted(&[one, Code::Resolve]), Some(Code::Resolve));
    }
}
