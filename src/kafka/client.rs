//! What consumers and producers share: their settings, what librdkafka has to say, and how long brokers may be away.

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
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many things a client may have to say while it is asked: one at a time is heard.
const WORDS: usize = 64;
/// How long one question waits for its answer.
pub const ANSWER: Duration = Duration::from_secs(4);

/// A consumer that calls back to what we note.
pub type Client = BaseConsumer<Context>;

/// A change of the group's members, until the run's own thread acts on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These partitions are ours from now on.
    Assigned(Vec<(String, i32)>),
    /// These partitions are ours until we let them go.
    Revoked(Vec<(String, i32)>),
}

/// What librdkafka calls back with: noted here, acted on by the thread of the run.
#[derive(Default)]
pub struct Context {
    news: Mutex<News>,
    /// Whether the client is being closed.
    closing: AtomicBool,
    /// Whether the run has begun: from then on its brokers may be away for `wait=`.
    begun: AtomicBool,
}

#[derive(Default)]
struct News {
    trouble: Option<Code>,
    cause: Option<String>,
    failure: Option<(Code, i32)>,
    failed: u64,
    returned: VecDeque<Returned>,
    commit_failure: Option<KafkaError>,
    changes: VecDeque<Change>,
    told: Option<Told>,
}

impl Context {
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages that were given up.
    pub fn failed(&self) -> u64 {
        self.news().failed
    }

    /// Messages since the last call whose batch the brokers found too large.
    pub fn take_returned(&self) -> VecDeque<Returned> {
        std::mem::take(&mut self.news().returned)
    }

    /// Whether there are such messages.
    pub fn has_returned(&self) -> bool {
        !self.news().returned.is_empty()
    }

    /// Trouble since the last call.
    pub fn take_trouble(&self) -> Option<Code> {
        self.news().trouble.take()
    }

    /// The first delivery that failed for good, and its partition.
    pub fn failure(&self) -> Option<(Code, i32)> {
        self.news().failure
    }

    /// A commit that failed since the last call.
    pub fn take_commit_failure(&self) -> Option<KafkaError> {
        self.news().commit_failure.take()
    }

    /// The next change of the group's members.
    pub fn take_change(&self) -> Option<Change> {
        self.news().changes.pop_front()
    }

    /// What librdkafka has told of itself since the last call.
    pub fn take_told(&self) -> Option<Told> {
        self.news().told.take()
    }

    /// Something has gone wrong since: that a broker was connected before is no sign that one is.
    pub fn distrust(&self) {
        if let Some(told) = &mut self.news().told {
            told.is_up = false;
        }
    }

    /// Every question has been answered once: the run begins.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// From here on a revoked partition is let go at once.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// librdkafka's own words on the last thing that went wrong.
    pub fn cause(&self) -> Option<String> {
        self.news().cause.clone()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // A file of settings serves consumers and producers: that each ignores some is no news.
        if level as i32 <= RDKafkaLogLevel::Error as i32 && facility != "CONFWARN" {
            self.news().cause = Some(shorter(message).to_owned());
        }
    }

    fn error(&self, error: KafkaError, _: &str) {
        self.distrust();
        let mut news = self.news();
        // What does not pass is not forgotten over what does.
        if news.trouble.is_none_or(is_passing) {
            news.trouble = error.rdkafka_error_code();
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.news().told = Some(Told::of(&statistics));
    }
}

/// `[thrd:…]: 127.0.0.1:9/bootstrap: Connect to …` without the thread.
fn shorter(message: &str) -> &str {
    message.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(message, |(_, rest)| rest)
}

impl ConsumerContext for Context {
    /// Nothing is assigned or let go here: what was read of a revoked partition has to be safe first.
    fn rebalance(&self, client: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<_> = list.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect();
        if self.closing.load(Ordering::Relaxed) {
            // The client is on its way out: nobody can be told.
            let _ = release(client, &partitions);
            return;
        }
        self.news().changes.push_back(match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Change::Assigned(partitions),
            _ => Change::Revoked(partitions),
        });
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            self.news().commit_failure = Some(error);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut news = self.news();
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            if matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge) {
                news.returned.push_back(Returned::of(message));
                return;
            }
            news.failed += 1;
            news.failure.get_or_insert((code, message.partition()));
        }
    }
}

/// The settings of a client of `address`: ours, then the user's.
pub fn config(address: &Address, run: &Run, ours: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Error);
    config.set("bootstrap.servers", &address.brokers).set("client.id", run.console.tool());
    // Brokers that are back shall be found soon, and so shall new partitions.
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

/// A client of these settings; exit 2 where one of them is none of librdkafka's.
pub fn create<T: FromClientConfigAndContext<Context>>(config: &ClientConfig, address: &Address) -> Result<T> {
    config.create_with_context(Context::default()).map_err(|error| match error {
        KafkaError::ClientConfig(_, why, name, _) => Error::usage(format!("{address}: setting {name}")).because(why),
        other => failed(address, "a client cannot be made", &other),
    })
}

/// An error of librdkafka that ends the run.
#[cold]
pub fn failed(address: &Address, what: &str, error: &KafkaError) -> Error {
    let kind = match error.rdkafka_error_code() {
        Some(Code::Fenced | Code::FencedInstanceId | Code::UnknownMemberId | Code::IllegalGeneration) => {
            ErrorKind::Fenced
        }
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => ErrorKind::Usage,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("{address}: {what}")).because(words(error))
}

/// What an error says, without the names that librdkafka and its binding put around it.
pub fn words(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), describe)
}

/// Lets revoked partitions go, as the group's protocol wants it.
pub fn release(client: &BaseConsumer<Context>, partitions: &[(String, i32)]) -> KafkaResult<()> {
    if !matches!(client.rebalance_protocol(), RebalanceProtocol::Cooperative) {
        return client.unassign();
    }
    let mut list = TopicPartitionList::new();
    for (topic, number) in partitions {
        list.add_partition(topic, *number);
    }
    client.incremental_unassign(&list)
}

/// A code in words: `BrokerTransportFailure (Local: Broker transport failure)` is said once.
pub fn describe(code: Code) -> String {
    let text = code.to_string();
    let inner = text.split_once(" (").and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(&text);
    inner.trim_start_matches("Local: ").trim_start_matches("Broker: ").to_lowercase()
}

/// Whether an error passes by itself once brokers are back.
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

/// Who is asked.
pub trait Asked {
    /// What it calls back to.
    fn notes(&self) -> &Context;

    /// Hears what it has to say where nothing else is expected of it; what has gone wrong.
    fn listen(&self) -> Option<Code>;
}

impl Asked for BaseConsumer<Context> {
    fn notes(&self) -> &Context {
        self.context()
    }

    fn listen(&self) -> Option<Code> {
        let heard = (0..WORDS).filter_map(|_| self.poll(Duration::ZERO)?.err()?.rdkafka_error_code());
        heard.filter(|code| !is_passing(*code)).fold(None, |_, code| Some(code))
    }
}

impl Asked for BaseProducer<Context> {
    fn notes(&self) -> &Context {
        self.context()
    }

    fn listen(&self) -> Option<Code> {
        (0..WORDS).for_each(|_| self.poll(Duration::ZERO));
        self.context().take_trouble().filter(|code| !is_passing(*code))
    }
}

/// Asks `question` until it has an answer: brokers that start are waited for, as long as those of a run that begins are or
/// those of one that has begun.
pub fn ask<T>(
    address: &Address,
    run: &Run,
    asked: &impl Asked,
    question: impl Fn(Duration) -> KafkaResult<T>,
) -> Result<T> {
    let begun = asked.notes().begun.load(Ordering::Relaxed);
    ask_for(address.options.wait.limit(begun), (address, run), asked, question)
}

/// Asks `question`, which is told how long it may wait, until it has an answer: brokers that are away are waited for, bounded,
/// and said once. Exit 78 where they do not know us.
pub fn ask_for<T>(
    limit: Option<Duration>,
    (address, run): (&Address, &Run),
    asked: &impl Asked,
    question: impl Fn(Duration) -> KafkaResult<T>,
) -> Result<T> {
    let start = Instant::now();
    let begun = asked.notes().begun.load(Ordering::Relaxed);
    let (mut said, wait) = (false, run.stop.server_wait());
    let limit = wait.limit(limit);
    loop {
        let error = match question(wait.call_timeout(ANSWER)) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // A run that has begun listens where it reads.
        let heard = if begun { None } else { asked.listen() };
        let because = |error: Error| match asked.notes().cause() {
            Some(cause) => error.because(cause),
            None => error,
        };
        if let Some(code @ (Code::Authentication | Code::SSL)) = heard {
            return Err(because(Error::config(format!("{address}: {}", describe(code)))));
        }
        // A partition that was counted a moment ago is known to each broker and client in its own time.
        let passing = error.rdkafka_error_code().is_some_and(|code| is_passing(code) || code == Code::UnknownPartition);
        if !passing || limit.is_some_and(|limit| start.elapsed() > limit) || wait.is_over() {
            let failed = failed(address, "no answer", &error);
            return Err(if passing { because(failed) } else { failed });
        }
        if !std::mem::replace(&mut said, true) {
            run.console.say(format!("{address}: {}: {}", words(&error), trying_again(limit, "wait")));
        }
        wait.pause(Duration::from_millis(200));
    }
}

/// How many partitions a topic has; none where there is no such topic for us.
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

/// A message whose batch brokers found too large: librdkafka gives it back.
pub struct Returned {
    /// Where it was sent.
    pub partition: i32,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its headers.
    pub headers: Option<OwnedHeaders>,
}

impl Returned {
    /// A copy of what librdkafka gives back.
    pub fn of(message: &BorrowedMessage<'_>) -> Self {
        Self {
            partition: message.partition(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: message.headers().map(|headers| headers.detach()),
        }
    }
}

/// The last word of librdkafka on its brokers and partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Whether any broker is connected.
    pub is_up: bool,
    /// One behind the last offset that may be read, by topic and partition; none where nothing has been fetched yet.
    pub ends: BTreeMap<String, BTreeMap<i32, Option<i64>>>,
}

impl Told {
    /// What `statistics` say.
    pub fn of(statistics: &Statistics) -> Self {
        let ends = statistics.topics.iter().map(|(topic, told)| {
            // Negative numbers are queues of librdkafka's own.
            let real = told.partitions.iter().filter(|(number, told)| **number >= 0 && !told.unknown);
            (topic.clone(), real.map(|(number, told)| (*number, end(told))).collect())
        });
        Self { is_up: statistics.brokers.values().any(|broker| broker.state == "UP"), ends: ends.collect() }
    }
}

/// Records behind the last stable offset are of transactions that are open: they are not there yet.
fn end(told: &Partition) -> Option<i64> {
    [told.ls_offset, told.hi_offset].into_iter().find(|offset| *offset >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_before_brokers_went_is_no_sign_of_them() {
        let context = Context::default();
        context.news().told = Some(Told { is_up: true, ..Told::default() });
        context.error(KafkaError::Global(Code::AllBrokersDown), "");
        assert_eq!(context.take_told().map(|told| told.is_up), Some(false));
    }
}
