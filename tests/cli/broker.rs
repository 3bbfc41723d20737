//! A real broker for tests: reads and writes its topics without evt. Also a broker that a test can kill.

use crate::harness::{Dir, LONG_WAIT, eventually, eventually_within, in_ci};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Headers;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{Message, Offset};
use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::io::Read;
use std::pin::pin;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Errors of a client for brokers that may be available again soon.
const PASSING: [RDKafkaErrorCode; 2] = [RDKafkaErrorCode::BrokerTransportFailure, RDKafkaErrorCode::AllBrokersDown];

/// Timeout of one request.
pub const ANSWER: Duration = Duration::from_secs(30);

/// How long a run waits for a server after a signal.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// A broker, and a directory for one test.
pub struct Bench {
    pub brokers: String,
    pub prefix: String,
    pub dir: Dir,
}

/// A record as a topic stores it.
#[derive(Debug, PartialEq)]
pub struct Record {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp: Option<i64>,
}

/// The last lines that a client logged. A test prints them if the client gets no answer.
#[derive(Default)]
struct ClientLog {
    lines: Mutex<VecDeque<String>>,
}

impl ClientLog {
    const MAX_LINES: usize = 400;

    fn text(&self) -> String {
        Vec::from(self.lines.lock().expect("a log").clone()).join("\n")
    }
}

impl ClientContext for ClientLog {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        let mut lines = self.lines.lock().expect("a log");
        if lines.len() == Self::MAX_LINES {
            lines.pop_front();
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs_f64();
        lines.push_back(format!("{seconds:.3} {facility} {message}"));
    }
}

impl ConsumerContext for ClientLog {}

impl Bench {
    /// Returns `None`, with one message, if there is no broker. CI requires one.
    pub fn new(name: &str) -> Option<Self> {
        let Ok(brokers) = std::env::var("EVT_KAFKA") else {
            assert!(!in_ci(), "EVT_KAFKA must name a broker in CI (scripts/services)");
            eprintln!("skipped: EVT_KAFKA is not set (scripts/services)");
            return None;
        };
        let prefix = format!("{name}-{}", std::process::id());
        Some(Self { brokers, prefix, dir: Dir::new(name) })
    }

    /// The same with a live directory.
    pub fn live(name: &str) -> Option<Self> {
        Some(Self { dir: Dir::live(name), ..Self::new(name)? })
    }

    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    /// Makes a producer whose retries neither repeat nor reorder records. A producer retries if the
    /// metadata name the leader of a new partition before that broker leads it.
    pub fn producer(&self, settings: &[(&str, &str)]) -> BaseProducer {
        let mut config = self.config();
        config.set("enable.idempotence", "true");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config.create().expect("a client")
    }

    /// Creates a topic; returns its full name.
    pub fn topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
        let topic = format!("{}-{name}", self.prefix);
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("a client");
        let mut new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(-1));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(ANSWER));
        let exists = RDKafkaErrorCode::TopicAlreadyExists;
        request_until_done("the topic is made", exists, || wait(admin.create_topics([&new], &options)));
        // The controller confirms the topic, but a broker under load may receive its metadata later.
        for broker in self.brokers.split(',') {
            let led = || {
                // A new client knows no other broker when it asks.
                let client: BaseConsumer = self.config().set("bootstrap.servers", broker).create().ok()?;
                let metadata = client.fetch_metadata(Some(&topic), ANSWER).ok()?;
                let found = metadata.topics().first()?.partitions();
                Some(
                    found.len() == partitions as usize
                        && found.iter().all(|one| one.error().is_none() && one.leader() >= 0),
                )
            };
            eventually("each broker knows the topic", || led() == Some(true));
        }
        topic
    }

    /// Deletes a topic.
    pub fn delete(&self, topic: &str) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("a client");
        let options = AdminOptions::new().operation_timeout(Some(ANSWER));
        let missing = RDKafkaErrorCode::UnknownTopicOrPartition;
        request_until_done("the topic is deleted", missing, || wait(admin.delete_topics(&[topic], &options)));
    }

    /// Deletes a topic of one partition and creates it again.
    pub fn recreate(&self, name: &str) -> String {
        let topic = format!("{}-{name}", self.prefix);
        self.delete(&topic);
        let client: BaseConsumer = self.config().create().expect("a client");
        eventually("the topic is gone", || {
            let metadata = client.fetch_metadata(None, ANSWER).expect("an answer");
            metadata.topics().iter().all(|one| one.name() != topic)
        });
        self.topic(name, 1, &[])
    }

    pub fn uri(&self, topic: &str, options: &str) -> String {
        format!("kafka://{}/{topic}{options}", self.brokers)
    }

    /// Puts records into a topic.
    pub fn produce<'a>(&self, records: impl IntoIterator<Item = BaseRecord<'a, [u8], [u8]>>) {
        let producer = self.producer(&[]);
        for record in records {
            producer.send(record).map_err(|(error, _)| error).expect("it is queued");
        }
        // A broker that is stopped stays in the set of replicas until the others have noticed.
        producer.flush(LONG_WAIT).expect("they are delivered");
    }

    /// Waits until no record of a topic is in an open transaction, for about two seconds at most. A broker confirms the
    /// end of a transaction before its markers are in the partitions, and until then readers do not see its records.
    fn wait_for_markers(&self, topic: &str, count: i32, committed: &BaseConsumer<ClientLog>) {
        let all: BaseConsumer = self
            .config()
            .set("group.id", "test")
            .set("isolation.level", "read_uncommitted")
            .create()
            .expect("a client");
        let is_open = |number: i32| {
            let visible = committed.fetch_watermarks(topic, number, ANSWER).ok();
            visible.is_none() || visible != all.fetch_watermarks(topic, number, ANSWER).ok()
        };
        let (start, mut looks) = (Instant::now(), 0);
        // If the broker is paused, one look may take this time, so the looks are counted, too.
        let is_over = |looks: u32| {
            let elapsed = start.elapsed();
            elapsed >= Duration::from_secs(2) && (looks >= 50 || elapsed >= ANSWER * 2)
        };
        while (0..count).any(is_open) && !is_over(looks) {
            looks += 1;
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// All committed records of a topic.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        self.read(topic, "read_committed")
    }

    /// All records of a topic, also those of transactions that are open or were aborted.
    pub fn records_of_all(&self, topic: &str) -> Vec<Record> {
        self.read(topic, "read_uncommitted")
    }

    /// Reads a topic. A client may lose all brokers and find none again (decision 292), so a client without an answer
    /// for a minute, in which a broker that was killed has recovered its log, is replaced by another one.
    fn read(&self, topic: &str, isolation: &str) -> Vec<Record> {
        let mut logs = vec![];
        while logs.len() < 3 {
            match self.read_once(topic, isolation) {
                Ok(records) => return records,
                Err(log) => logs.push(log),
            }
        }
        panic!("a broker that answers; logs of the clients:\n{}", logs.join("\n\n"))
    }

    /// Reads a topic with a new client. Errors: the log of a client that gets no answer.
    fn read_once(&self, topic: &str, isolation: &str) -> Result<Vec<Record>, String> {
        let mut config = self.config();
        config.set("group.id", "test").set("enable.partition.eof", "true").set("isolation.level", isolation);
        config.set("debug", "broker,topic,metadata,fetch,protocol").set_log_level(RDKafkaLogLevel::Debug);
        let consumer: BaseConsumer<ClientLog> = config.create_with_context(ClientLog::default()).expect("a client");
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER).expect("an answer");
        let count = metadata.topics()[0].partitions().len() as i32;
        let mut list = TopicPartitionList::new();
        for number in 0..count {
            list.add_partition_offset(topic, number, Offset::Beginning).expect("an offset");
        }
        // An assigned consumer fetches at once, and its queue may have the end of a partition before the markers.
        if isolation == "read_committed" {
            self.wait_for_markers(topic, count, &consumer);
        }
        consumer.assign(&list).expect("assigned");
        // A client that has to connect again reports the end of a partition twice.
        let (mut records, mut ended, mut silences, start) = (vec![], BTreeSet::new(), 0, Instant::now());
        while ended.len() < count as usize {
            let Some(polled) = consumer.poll(ANSWER) else {
                silences += 1;
                if silences == 2 {
                    return Err(consumer.context().text());
                }
                continue;
            };
            match polled {
                Err(rdkafka::error::KafkaError::PartitionEOF(partition)) => {
                    ended.insert(partition);
                }
                // One of several brokers may be down; a broker under load may close a connection.
                Err(error) if error.rdkafka_error_code().is_some_and(|code| PASSING.contains(&code)) => {
                    assert!(start.elapsed() < ANSWER * 5, "brokers that are there: {error}");
                }
                Err(error) => panic!("{error}"),
                Ok(message) => {
                    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
                    records.push(Record {
                        partition: message.partition(),
                        key: message.key().map(<[u8]>::to_vec),
                        value: message.payload().map(<[u8]>::to_vec),
                        headers: headers
                            .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                            .collect(),
                        timestamp: message.timestamp().to_millis(),
                    });
                }
            }
        }
        Ok(records)
    }

    /// The values of all records of a topic that committed transactions wrote, as JSON.
    pub fn committed_records(&self, topic: &str) -> Vec<serde_json::Value> {
        let values = self.records(topic).into_iter().filter_map(|record| record.value);
        values.map(|value| serde_json::from_slice(&value).expect("JSON")).collect()
    }

    /// Returns the commits of a group: offset and metadata, by partition.
    pub fn committed(&self, group: &str, topic: &str, count: i32) -> Vec<(Option<i64>, String)> {
        let consumer: BaseConsumer = self.config().set("group.id", group).create().expect("a client");
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, count - 1);
        let mut found = None;
        // A coordinator that was just elected loads its groups first.
        eventually("the group's coordinator answers", || {
            found = consumer.committed_offsets(list.clone(), ANSWER).ok();
            found.is_some()
        });
        let list = found.expect("an answer");
        let offset = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
        list.elements().iter().map(|one| (offset(one.offset()), one.metadata().to_owned())).collect()
    }

    /// Commits an offset of partition 0, as a program does that mirrors offsets.
    pub fn commit(&self, group: &str, topic: &str, offset: i64, metadata: &str) {
        let member: BaseConsumer = self.config().set("group.id", group).create().expect("a client");
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(topic, 0);
        element.set_offset(Offset::Offset(offset)).expect("an offset");
        element.set_metadata(metadata);
        eventually("the group takes it", || member.commit(&list, CommitMode::Sync).is_ok());
    }

    pub fn start(&self, program: &str, args: &[&str]) -> Child {
        let mut command = self.dir.command(program, args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("it starts")
    }
}

/// Repeats a request for one topic until it is done. On a loaded machine brokers may not answer for a minute; they may
/// have done what the request asks, and then the next one ends with the error `repeated`.
#[track_caller]
fn request_until_done(
    what: &str,
    repeated: RDKafkaErrorCode,
    mut request: impl FnMut() -> KafkaResult<Vec<TopicResult>>,
) {
    let mut has_timed_out = false;
    eventually_within(LONG_WAIT, what, || {
        let results = match request() {
            Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut)) => {
                vec![Err((String::new(), RDKafkaErrorCode::RequestTimedOut))]
            }
            results => results.expect("an answer"),
        };
        match &results[..] {
            [Err((_, RDKafkaErrorCode::RequestTimedOut))] => {
                has_timed_out = true;
                false
            }
            [Err((_, code))] if has_timed_out && *code == repeated => true,
            _ => is_done(&results),
        }
    });
}

/// Whether topics or partitions were made or deleted. They were not made if no broker could hold them: one that was
/// paused for some seconds counts as down until its next heartbeat. Other errors must not occur.
pub fn is_done(results: &[TopicResult]) -> bool {
    results.iter().all(|result| match result {
        Err((_, RDKafkaErrorCode::InvalidReplicationFactor)) => false,
        result => result.as_ref().map(|_| true).expect("it is done"),
    })
}

/// Returns the number of lines of a file; 0 if it does not exist.
pub fn lines(dir: &Dir, name: &str) -> usize {
    std::fs::read(dir.path(name)).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

/// Waits for what librdkafka's own thread completes.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Thread(std::thread::Thread);
    impl Wake for Thread {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Thread(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park_timeout(ANSWER),
        }
    }
}

/// Kills a tool.
pub fn killed(mut child: Child) {
    child.kill().and_then(|()| child.wait()).expect("it runs");
}

/// Stops a tool by a signal; returns its status and its messages.
pub fn stopped(mut child: Child) -> (i32, String) {
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let status = crate::harness::status(child.wait().expect("it ends"));
    let mut said = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
    (status, said)
}

/// Stops a tool by a signal; returns its messages. `None` if that took so long that the tool may not have waited for
/// its brokers: the caller repeats its round.
#[track_caller]
pub fn stopped_in_time(child: Child) -> Option<String> {
    let start = Instant::now();
    let (status, said) = stopped(child);
    assert_eq!(status, 143, "{said}");
    (start.elapsed() < STOP_TIMEOUT).then_some(said)
}

/// Repeats a round, which gets its number, until brokers were fast enough for it to be judged.
#[track_caller]
pub fn judged<T>(round: impl FnMut(usize) -> Option<T>) -> T {
    (0..10).find_map(round).expect("brokers are fast enough in one of ten rounds")
}

/// A broker or another server for one test only, which may kill it. Dropping this ends the server.
pub struct Broker {
    pub state: std::path::PathBuf,
    /// Its name in `scripts/services`: `kafka`, or `kafka3` for three brokers.
    pub name: &'static str,
}

impl Broker {
    pub fn services(&self, args: &[&str]) -> String {
        let mut command = std::process::Command::new(format!("{}/scripts/services", crate::harness::ROOT));
        let output = command.args(args).env("EVT_SERVICES", &self.state).output().expect("it runs");
        assert!(output.status.success(), "scripts/services {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts it; returns its address.
    pub fn start(&self) -> String {
        self.services(&["start", self.name]);
        let env = self.services(&["env", self.name]);
        let variable = format!("export EVT_{}=", self.name.to_uppercase());
        let line = env.lines().find_map(|line| line.strip_prefix(&variable));
        // The line is quoted for a shell.
        line.expect("it says where it is").replace(['\'', '"', '\\'], "")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let mut command = std::process::Command::new(format!("{}/scripts/services", crate::harness::ROOT));
        // What is left is only litter below target/.
        let _ = command.args(["stop", "--wipe", self.name]).env("EVT_SERVICES", &self.state).output();
    }
}
