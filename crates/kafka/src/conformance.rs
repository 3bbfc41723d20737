//! One suite for every [`RecordSource`]: over brokers in memory, over librdkafka's mock of a cluster, and over a real
//! broker if `EVT_KAFKA` names one.

use super::client::Topics;
use super::fetch::Fetcher;
use super::fetch::broker::Tcp;
use super::fetch::source::FetchSource;
use super::fetch::test_data::{Attributes, FakeKafka};
use super::library::LibraryCluster;
use super::position::{PartitionId, Position};
use super::source::{Message, RecordSink, RecordSource, SourceEvent};
use super::test_data::{FakeSource, partition, start};
use crate::address::Address;
use evt_core::error::Result;
use evt_run::clock::Clock;
use evt_run::run::Run;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// How long brokers may take for a step of the suite.
const ANSWER: Duration = Duration::from_secs(30);
/// How long one wait may take.
const WAIT: Duration = Duration::from_millis(100);

/// A topic of two partitions, and a source of its records.
trait Bench {
    /// Appends records with a key and a header.
    fn append(&self, number: i32, values: &[Option<&str>]);

    fn source(&self) -> Box<dyn RecordSource>;
}

/// Brokers in memory, whose records the fetcher reads.
impl Bench for FakeKafka {
    fn append(&self, number: i32, values: &[Option<&str>]) {
        let records: Vec<_> = (0..).zip(values).map(|(at, value)| (at, 0, *value)).collect();
        self.log(number, |log| log.append_batch(values.len(), Attributes::NONE, &records));
    }

    fn source(&self) -> Box<dyn RecordSource> {
        Box::new(FetchSource::new(self.fetcher(), Box::new(FakeSource::default())))
    }
}

/// Brokers that speak the protocol.
struct Server {
    address: Address,
    cluster: Rc<LibraryCluster>,
    producer: BaseProducer,
    /// Whether the fetcher reads, instead of librdkafka.
    fetches: bool,
}

impl Server {
    fn new(brokers: &str, topic: &str, fetches: bool) -> Self {
        let address = Address::parse(&format!("//{brokers}/{topic}"), &Default::default()).unwrap();
        let run = Rc::new(Run::unwatched("evt-test", Clock::System));
        let cluster = Rc::new(LibraryCluster::new(&Topics::new(&address, &run)).unwrap());
        let producer = config(brokers).create().unwrap();
        Self { address, cluster, producer, fetches }
    }
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

impl Bench for Server {
    fn append(&self, number: i32, values: &[Option<&str>]) {
        for value in values {
            let headers = OwnedHeaders::new().insert(Header { key: "name", value: None::<&str> });
            let mut record: BaseRecord<'_, [u8], str> = BaseRecord::to(&self.address.topics[0]);
            record.payload = *value;
            let record = record.partition(number).key(b"\0\0\0\0key".as_slice()).headers(headers);
            self.producer.send(record).map_err(|(error, _)| error).expect("it is queued");
        }
        self.producer.flush(ANSWER).expect("the records are delivered");
    }

    fn source(&self) -> Box<dyn RecordSource> {
        let library = Box::new(self.cluster.source());
        match self.fetches {
            true => {
                let fetcher = Fetcher::new(&self.address, "evt-test", self.cluster.clone(), Box::new(Tcp));
                Box::new(FetchSource::new(fetcher, library))
            }
            false => library,
        }
    }
}

/// The records that a source has passed: values by partition and offset, from the requested offsets on.
#[derive(Default)]
struct Taken {
    next: BTreeMap<i32, i64>,
    records: Vec<(i32, i64, Option<String>)>,
    ended: BTreeSet<i32>,
    events: Vec<&'static str>,
}

impl RecordSink for Taken {
    fn record(&mut self, id: PartitionId, message: &Message<'_>) -> Result<bool> {
        // Brokers send whole batches, so records before the requested offset may come first.
        let next = self.next.entry(id.number).or_default();
        if message.offset < *next {
            return Ok(false);
        }
        *next = message.offset + 1;
        assert_eq!(message.key, Some(b"\0\0\0\0key".as_slice()));
        let mut headers = vec![];
        message.headers.each(&mut |name, value| headers.push((name.to_owned(), value.map(<[u8]>::to_vec))));
        assert_eq!(headers, [("name".to_owned(), None)]);
        assert!(message.arrival.is_some());
        let value = message.value.map(|value| String::from_utf8(value.to_vec()).unwrap());
        self.records.push((id.number, message.offset, value));
        Ok(false)
    }

    fn read_to(&mut self, id: PartitionId, next: Option<i64>, high: i64) -> Result<bool> {
        if next.or(self.next.get(&id.number).copied()).is_some_and(|next| next >= high) {
            self.ended.insert(id.number);
        }
        Ok(false)
    }
}

struct Reader {
    source: Box<dyn RecordSource>,
    taken: Taken,
}

impl Reader {
    fn set_next(&mut self, starts: &[Position]) {
        starts.iter().for_each(|start| _ = self.taken.next.insert(start.id.number, start.offset));
    }

    fn assign(&mut self, starts: &[Position]) {
        self.set_next(starts);
        self.source.assign(starts).unwrap();
    }

    fn reset(&mut self, starts: &[Position]) {
        self.set_next(starts);
        self.source.reset(starts).unwrap();
    }

    /// Reads until `is_done`.
    fn until(&mut self, what: &str, is_done: impl Fn(&Taken) -> bool) {
        for _ in 0..ANSWER.as_millis() / WAIT.as_millis() {
            loop {
                match self.source.poll(&mut self.taken).unwrap() {
                    SourceEvent::Records | SourceEvent::Unreachable | SourceEvent::Failed(_) => {}
                    SourceEvent::AfterPause | SourceEvent::UnknownTopic => {}
                    SourceEvent::Idle => break,
                    SourceEvent::OutOfRange => self.taken.events.push("out of range"),
                    SourceEvent::PartitionEnd(number) => _ = self.taken.ended.insert(number),
                    SourceEvent::Unsupported(why) => panic!("{what}: {why}"),
                }
                if is_done(&self.taken) {
                    return;
                }
            }
            self.source.wait(WAIT).unwrap();
        }
        panic!("{what}: {:?}", self.taken.records);
    }

    /// Reads this many records; returns them by partition and offset.
    fn read(&mut self, count: usize) -> Vec<(i32, i64, Option<String>)> {
        self.until(&format!("{count} records"), |taken| taken.records.len() >= count);
        let mut records = std::mem::take(&mut self.taken.records);
        records.sort();
        records
    }
}

fn record(number: i32, offset: i64, value: &str) -> (i32, i64, Option<String>) {
    (number, offset, Some(value.to_owned()))
}

/// Runs all checks of the suite on one source.
fn conforms(bench: &dyn Bench) {
    bench.append(0, &[Some("a"), Some("b")]);
    bench.append(1, &[Some("c"), None]);
    let mut reader = Reader { source: bench.source(), taken: Taken::default() };
    reader.assign(&[]);
    reader.assign(&[start(0, 0), start(1, 0)]);
    let all = [record(0, 0, "a"), record(0, 1, "b"), record(1, 0, "c"), (1, 1, None)];
    assert_eq!(reader.read(4), all);
    reader.until("both ends", |taken| taken.ended.len() == 2);
    for at in [start(0, 2), start(1, 2)] {
        reader.taken.ended.clear();
        reader.source.read_again(at).unwrap();
        reader.until("the end once more", |taken| taken.ended.contains(&at.id.number));
    }
    assert_eq!(reader.taken.records, []);
    bench.append(0, &[Some("d")]);
    assert_eq!(reader.read(1), [record(0, 2, "d")]);

    reader.source.pause(&[partition(0)]).unwrap();
    bench.append(0, &[Some("e")]);
    bench.append(1, &[Some("f")]);
    assert_eq!(reader.read(1), [record(1, 2, "f")]);

    reader.reset(&[start(0, 1), start(1, 3)]);
    assert_eq!(reader.read(3), [record(0, 1, "b"), record(0, 2, "d"), record(0, 3, "e")]);

    reader.reset(&[start(0, 100), start(1, 3)]);
    reader.until("an offset out of range", |taken| taken.events.contains(&"out of range"));
    bench.append(0, &[Some("g")]);
    bench.append(1, &[Some("h")]);
    reader.reset(&[start(0, 4), start(1, 3)]);
    assert_eq!(reader.read(2), [record(0, 4, "g"), record(1, 3, "h")]);

    reader.source.revoke(&[partition(0), partition(1)]).unwrap();
    bench.append(0, &[Some("i")]);
    bench.append(1, &[Some("j")]);
    reader.assign(&[start(1, 4)]);
    assert_eq!(reader.read(1), [record(1, 4, "j")]);
}

#[test]
fn the_fetcher_conforms_over_brokers_in_memory() {
    conforms(&FakeKafka::new(&[1, 2]));
}

#[test]
fn both_sources_conform_over_a_mock_of_a_cluster() {
    let cluster = MockCluster::new(2).expect("a mock of a cluster");
    for fetches in [false, true] {
        let topic = if fetches { "fetched" } else { "polled" };
        cluster.create_topic(topic, 2, 1).expect("a topic");
        conforms(&Server::new(&cluster.bootstrap_servers(), topic, fetches));
    }
}

#[test]
fn both_sources_conform_over_a_real_broker() {
    let Ok(brokers) = std::env::var("EVT_KAFKA") else {
        assert!(!crate::in_ci::in_ci(), "EVT_KAFKA is not set (scripts/services)");
        println!("skipped: EVT_KAFKA is not set (scripts/services)");
        return;
    };
    let admin: AdminClient<DefaultClientContext> = config(&brokers).create().unwrap();
    for fetches in [false, true] {
        let topic = format!("conformance-{fetches}-{}", std::process::id());
        let new = NewTopic::new(&topic, 2, TopicReplication::Fixed(-1));
        let options = AdminOptions::new().operation_timeout(Some(ANSWER));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let made = runtime.block_on(admin.create_topics([&new], &options)).expect("an answer");
        assert!(made.iter().all(|made| made.is_ok()), "{made:?}");
        conforms(&Server::new(&brokers, &topic, fetches));
    }
}
