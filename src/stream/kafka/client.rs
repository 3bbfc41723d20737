//! What consumers and producers share: their settings, what librdkafka has to say, and how long brokers may be away.

use super::address::Address;
use super::watch::{Returned, Told};
use crate::error::{Error, ErrorKind, Result};
use crate::secret;
use crate::store::remote::{Away, rounded, trying_again};
use crate::stream::run::Run;
use rdkafka::Message;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long what had come before its brokers went may still be handed out.
const LEFTOVERS: Duration = Duration::from_secs(1);
/// How long after brokers were back a client may still speak of the time before: its words lie in its queue until it is heard,
/// and brokers that start may fall once more.
const ECHO: Duration = Duration::from_secs(15);
/// How long it must have stood by what it says then to be believed: longer than a client that is idle takes to tell of itself.
const STANDS: Duration = Duration::from_secs(7);
/// How many things a client may have to say while it is asked: one at a time is heard.
const WORDS: usize = 64;
/// How long one question waits for its answer.
pub const ANSWER: Duration = Duration::from_secs(4);

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
pub fn count<C: ClientContext>(client: &Client<C>, topic: &str, timeout: Duration) -> KafkaResult<Option<i32>> {
    let metadata = client.fetch_metadata(Some(topic), timeout)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    if let Some(code) = found.error().map(Code::from).filter(|code| is_passing(*code)) {
        return Err(KafkaError::MetadataFetch(code));
    }
    let count = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
    Ok((found.error().is_none() && count > 0).then_some(count))
}

/// Brokers that were away in this run: whoever of its clients notices it first says so, and whoever has an answer first.
#[derive(Default)]
pub struct Outages(RefCell<BTreeMap<String, Outage>>);

/// The last one of some brokers.
#[derive(Clone, Copy)]
struct Outage {
    number: u64,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Since(Instant),
    Over(Instant),
}

impl Outages {
    /// A client has found these brokers away since then, and has had no answer since. The number of the outage that it speaks
    /// of, and whether it is news: soon after the end of one it is believed once it has stood for a while.
    fn begin(&self, brokers: &str, (since, now): (Instant, Instant)) -> (u64, bool) {
        let mut known = self.0.borrow_mut();
        let (number, since) = match known.get(brokers) {
            None => (1, since),
            Some(Outage { number, state: State::Since(_) }) => return (*number, false),
            Some(Outage { number, state: State::Over(at) }) => {
                let since = since.max(*at);
                let is_late_word = since.saturating_duration_since(*at) <= ECHO;
                if is_late_word && now.saturating_duration_since(since) < STANDS {
                    return (*number, false);
                }
                (number + 1, since)
            }
        };
        known.insert(brokers.to_owned(), Outage { number, state: State::Since(since) });
        (number, true)
    }

    /// A client that found these brokers away in outage `number` has an answer; for how long they were, where nobody has said
    /// so.
    fn end(&self, brokers: &str, number: u64, now: Instant) -> Option<Duration> {
        let mut known = self.0.borrow_mut();
        let outage = known.get_mut(brokers).filter(|outage| outage.number == number)?;
        let State::Since(since) = outage.state else { return None };
        outage.state = State::Over(now);
        Some(now.saturating_duration_since(since))
    }
}

/// Whether brokers are there, and since when not: said when they go and when they are back.
pub struct Health {
    wait: Away,
    down_since: Option<Instant>,
    /// The last outage that this client has spoken of.
    outage: Option<u64>,
}

impl Health {
    /// Brokers may be away for so long.
    pub fn new(wait: Away) -> Self {
        Self { wait, down_since: None, outage: None }
    }

    /// Something that passes went wrong.
    pub fn trouble(&mut self, address: &Address, run: &Run, code: Code) {
        // Only this one says that nobody is there at all; it may come again with every attempt.
        if code == Code::AllBrokersDown {
            self.down_since.get_or_insert_with(Instant::now);
            self.stand(address, run);
        }
    }

    /// What has been heard stands as long as nothing good comes: says so once that is sure.
    pub fn stand(&mut self, address: &Address, run: &Run) {
        if self.down_since.is_some() && self.is_news(&run.outages, &address.brokers, Instant::now()) {
            let (brokers, cause) = (secret::shown(&address.brokers), describe(Code::AllBrokersDown));
            run.console.say(format!("kafka://{brokers}: {cause}: {}", trying_again(self.wait.limit(true), "wait")));
        }
    }

    /// Something has come or gone through: not what lay here already when the brokers went.
    pub fn good(&mut self, address: &Address, run: &Run) {
        // Asked for every record.
        if self.down_since.is_none() {
            return;
        }
        if let Some(away) = self.come_back(&run.outages, &address.brokers, Instant::now()) {
            let brokers = secret::shown(&address.brokers);
            run.console.say(format!("kafka://{brokers}: brokers are back after {}", whole_seconds(away)));
        }
    }

    /// Whether it is to be said now that no broker is there.
    fn is_news(&mut self, outages: &Outages, brokers: &str, now: Instant) -> bool {
        let Some(since) = self.down_since else { return false };
        let (number, is_news) = outages.begin(brokers, (since, now));
        self.outage = Some(number);
        is_news
    }

    /// Some broker is there; for how long none was, where that is to be said.
    fn come_back(&mut self, outages: &Outages, brokers: &str, now: Instant) -> Option<Duration> {
        self.down_since.take_if(|since| now.saturating_duration_since(*since) > LEFTOVERS)?;
        outages.end(brokers, self.outage?, now)
    }

    /// Whether no trouble is known.
    pub fn is_good(&self) -> bool {
        self.down_since.is_none()
    }

    /// Exit 69 once they have been away for too long.
    pub fn check(&self, address: &Address, context: &Context) -> Result<()> {
        match self.down_since.zip(self.wait.limit(true)) {
            Some((since, limit)) if since.elapsed() >= limit => {
                let message = format!("{address}: no broker for {}", whole_seconds(since.elapsed()));
                let cause = context.cause().unwrap_or_else(|| describe(Code::AllBrokersDown));
                Err(Error::new(ErrorKind::Unavailable, message).because(cause))
            }
            _ => Ok(()),
        }
    }
}

/// A time as lines about outages show it.
pub fn whole_seconds(time: Duration) -> String {
    rounded(Duration::from_secs(time.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients of the same brokers in one run, and a clock that stands at milliseconds after its start.
    struct Clients {
        outages: Outages,
        start: Instant,
        healths: [Health; 2],
    }

    impl Clients {
        fn new() -> Self {
            let (outages, start) = (Outages::default(), Instant::now());
            Self { outages, start, healths: [Health::new(Away::Usual), Health::new(Away::Usual)] }
        }

        /// A client says that there is no broker, or stands by it.
        fn go(&mut self, client: usize, millis: u64) -> bool {
            let now = self.start + Duration::from_millis(millis);
            self.healths[client].down_since.get_or_insert(now);
            self.healths[client].is_news(&self.outages, "a", now)
        }

        fn come_back(&mut self, client: usize, millis: u64) -> Option<u128> {
            let now = self.start + Duration::from_millis(millis);
            self.healths[client].come_back(&self.outages, "a", now).map(|away| away.as_millis())
        }
    }

    #[test]
    fn one_outage_of_some_brokers_is_news_once_and_is_over_once() {
        let mut clients = Clients::new();
        assert_eq!(clients.come_back(0, 0), None);
        assert!(clients.go(0, 0));
        assert!(!clients.go(1, 10), "another client of the same brokers");
        assert!(!clients.go(0, 20), "the next attempt");
        assert!(clients.outages.begin("b", (clients.start, clients.start)).1, "other brokers");
        assert_eq!(clients.come_back(0, 900), None, "what lay here before they went");
        assert_eq!(clients.come_back(0, 2000), Some(2000));
        assert_eq!((clients.come_back(1, 2010), clients.come_back(0, 2020)), (None, None));
    }

    #[test]
    fn an_outage_soon_after_another_is_news_once_it_stands_and_a_late_word_on_the_first_is_none() {
        let mut clients = Clients::new();
        assert!(clients.go(0, 0));
        assert_eq!(clients.come_back(0, 3000), Some(3000));
        assert!(!clients.go(1, 3500), "a client that was asked late");
        assert_eq!(clients.come_back(1, 8000), None, "the first one ended long ago");
        assert!(!clients.go(0, 9000) && !clients.go(1, 9100), "the second outage, or a late word");
        assert!(clients.go(0, 16_000), "it stands");
        assert!(!clients.go(1, 16_100) && !clients.go(0, 30_000), "it is said once");
        assert_eq!(clients.come_back(1, 40_000), Some(31_000), "it began when it was heard");
        assert_eq!(clients.come_back(0, 40_100), None);
    }

    #[test]
    fn an_outage_long_after_another_is_news_at_once() {
        let mut clients = Clients::new();
        assert!(clients.go(0, 0));
        assert_eq!(clients.come_back(0, 2000), Some(2000));
        assert!(clients.go(1, 17_001));
    }

    #[test]
    fn who_has_had_no_answer_since_an_outage_that_is_over_begins_no_other() {
        let mut clients = Clients::new();
        assert!(clients.go(0, 0) && !clients.go(1, 100));
        assert_eq!(clients.come_back(0, 60_000), Some(60_000));
        assert!(!clients.go(1, 60_100) && !clients.go(1, 66_900), "idle, and about to hear that they are back");
        assert_eq!(clients.come_back(1, 66_950), None);
    }

    #[test]
    fn what_was_told_before_brokers_went_is_no_sign_of_them() {
        let context = Context::default();
        context.news().told = Some(Told { is_up: true, ..Told::default() });
        context.error(KafkaError::Global(Code::AllBrokersDown), "");
        assert_eq!(context.take_told().map(|told| told.is_up), Some(false));
    }
}
