//! Fetches records from the leaders of partitions, at less than half the CPU time of reading record by record through
//! librdkafka.
//!
//! ```text
//! Fetcher::wait ─► broker (connection) ─► wire (Fetch answer) ─► Fetcher::piece ─► batch, unpack ─► source ─► sink
//! ```
//!
//! An answer is read in place while the next one is on its way. librdkafka still looks up the leaders, keeps the group and
//! commits; its own fetching is paused. librdkafka fetches instead if a setting concerns fetching or the connection, or if
//! brokers answer in a way that is not supported here.
//!
//! [`source`] is the fetcher as a source of records, [`broker`] the connection to one broker, [`wire`] the requests and answers
//! as bytes, [`batch`] the record batches in an answer, and [`unpack`] their decompression.

pub mod batch;
pub mod broker;
pub mod source;
#[cfg(test)]
pub(super) mod test_data;
#[cfg(test)]
mod tests;
pub mod unpack;
pub mod wire;

use crate::error::{Error, ErrorKind, Result};
use crate::kafka::position::PartitionId;
use crate::kafka::source::{SourceEvent, Start};
use crate::uri::kafka::Address;
use batch::{Aborted, Batch, BatchRecords, Found};
use broker::{Broker, BrokerEvent, Network, Response};
use rustix::event::PollFd;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};
use unpack::unpack;
use wire::{FetchLimits, Fetched};

/// Limits of one request. A batch cut off at the end of an answer is fetched again, so large answers waste less.
const LIMITS: FetchLimits = FetchLimits { wait: 500, bytes: 4 << 20, partition_bytes: 2 << 20 };
/// Interval between look-ups of leaders.
const LOOKUP_INTERVAL: Duration = Duration::from_millis(200);
/// If the caller did not serve the connections for this long, their silence timeouts restart. A caller that does not wait looks
/// up leaders only once the look-up is overdue by this time.
const UNSERVED: Duration = Duration::from_secs(1);
/// How long a topic may be unknown before it counts as missing: brokers learn of a new topic one after the other.
const UNKNOWN: Duration = Duration::from_secs(30);
/// Poll interval while a TCP connect is in progress.
const CONNECT_INTERVAL: Duration = Duration::from_millis(2);

/// Error code of an offset that does not exist.
const OUT_OF_RANGE: i16 = 1;
/// Transient error codes: another broker leads, or this one is not ready yet.
const PASSING: [i16; 12] = [-1, 3, 5, 6, 7, 9, 13, 56, 74, 75, 78, 100];

/// Prefixes of settings that concern fetching or the connection: librdkafka fetches if the user sets one of them.
const OF_LIBRARY: [&str; 20] = [
    "api.version.",
    "broker.",
    "check.crcs",
    "client.dns.",
    "client.rack",
    "connections.",
    "debug",
    "enable.sasl.",
    "fetch.",
    "https.",
    "isolation.level",
    "max.partition.",
    "oauthbearer",
    "plugin.",
    "queued.",
    "receive.",
    "reconnect.",
    "sasl.",
    "socket.",
    "ssl.",
];

/// Whether records are fetched here, given the user's settings.
pub fn is_supported<'a>(mut settings: impl Iterator<Item = &'a (String, String)>) -> bool {
    settings.all(|(name, value)| match name.as_str() {
        "security.protocol" => value.eq_ignore_ascii_case("plaintext"),
        name => !OF_LIBRARY.iter().any(|prefix| name.starts_with(prefix)),
    })
}

/// The leader of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The number of the partition.
    pub partition: i32,
    /// The id of the broker.
    pub broker: i32,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// The result of a look-up.
pub enum Lookup {
    /// The leaders of the partitions that have one.
    Leaders(Vec<Leader>),
    /// The topic is unknown to the broker that was asked.
    UnknownTopic,
    /// No broker can be reached.
    Unreachable,
}

/// Looks up the leaders of partitions.
pub trait Leaders {
    /// Asks a broker for the leaders of a topic, for at most about a second. Errors: exit status 69 if the answer is an error
    /// that lasts.
    fn look_up(&self, topic: &str) -> Result<Lookup>;
}

/// One partition being read.
struct FetchedPartition {
    id: PartitionId,
    /// Changes with every [`Fetcher::read`], so that answers to requests before it are recognised and ignored.
    generation: u64,
    /// The offset of the next request.
    offset: i64,
    leader: Option<i32>,
    /// Whether the offset does not exist; the caller must handle the gap.
    is_out_of_range: bool,
}

/// The records of one partition in an answer.
struct PartitionRecords {
    generation: u64,
    range: Range<usize>,
    /// The offset after it; `None` if it holds no whole batch.
    next: Option<i64>,
    high: i64,
    aborted: Aborted,
}

/// An answer that is being read.
struct OpenAnswer {
    broker: i32,
    answer: Response,
    partitions: VecDeque<PartitionRecords>,
}

/// A piece of an answer.
pub enum Piece<'a> {
    /// Records of a partition. They may begin before the requested offset, since batches come whole.
    Records {
        /// The partition.
        id: PartitionId,
        /// The name of its topic.
        name: &'a str,
        /// Its records.
        records: BatchRecords<'a>,
    },
    /// All records of one partition in an answer have been read.
    End {
        /// The partition.
        id: PartitionId,
        /// The next offset, if it changed.
        next: Option<i64>,
        /// The offset after the last one that may be read.
        high: i64,
    },
    /// librdkafka must fetch, for this reason.
    Unsupported(String),
}

/// A client that fetches the records of some partitions.
pub struct Fetcher {
    network: Box<dyn Network>,
    leaders: Rc<dyn Leaders>,
    /// The address, for messages.
    name: String,
    /// The client id sent to brokers.
    client: String,
    topics: Vec<String>,
    partitions: Vec<FetchedPartition>,
    generation: u64,
    connections: Connections,
    answers: VecDeque<OpenAnswer>,
    unpacked: Vec<u8>,
    lookups: Lookups,
    /// Since when there has been an error and no answer, and the error.
    failure: Option<(Instant, String)>,
}

/// The connections to brokers, by the id of the broker.
struct Connections {
    brokers: BTreeMap<i32, Broker>,
    /// The generations of the partitions in each broker's last request.
    requested: BTreeMap<i32, Vec<u64>>,
    /// Index of the partition that the next request begins with: it advances, so that no partition is always the last.
    turn: usize,
    served: Instant,
}

/// The state of the look-ups of leaders.
struct Lookups {
    next: Instant,
    unknown_since: Option<Instant>,
}

impl Fetcher {
    /// Begins without partitions; `client` is the client id sent to brokers.
    pub fn new(address: &Address, client: &str, leaders: Rc<dyn Leaders>, network: Box<dyn Network>) -> Self {
        let now = network.now();
        Self {
            network,
            leaders,
            name: address.to_string(),
            client: client.to_owned(),
            topics: address.topics.clone(),
            partitions: vec![],
            generation: 0,
            connections: Connections { brokers: BTreeMap::new(), requested: BTreeMap::new(), turn: 0, served: now },
            answers: VecDeque::new(),
            unpacked: vec![],
            lookups: Lookups { next: now, unknown_since: None },
            failure: None,
        }
    }

    /// Reads a partition from an offset on; replaces its previous position if it has one.
    pub fn read(&mut self, start: Start) {
        let leader = self.partitions.iter().find(|one| one.id == start.id).and_then(|one| one.leader);
        self.remove(start.id);
        self.generation += 1;
        let (generation, offset) = (self.generation, start.offset);
        self.partitions.push(FetchedPartition { id: start.id, generation, offset, leader, is_out_of_range: false });
    }

    /// Stops reading a partition.
    pub fn remove(&mut self, id: PartitionId) {
        self.partitions.retain(|partition| partition.id != id);
    }

    /// Whether it reads any partition.
    pub fn is_reading(&self) -> bool {
        !self.partitions.is_empty()
    }

    /// Returns for how long there has been an error and no answer, and the error.
    pub fn failing(&self) -> Option<(Duration, &str)> {
        let (since, why) = self.failure.as_ref()?;
        Some((self.network.now().saturating_duration_since(*since), why))
    }

    /// Waits for an answer for at most `timeout`; returns at once while there are pieces to read. `Unsupported` means that
    /// librdkafka must fetch.
    pub fn wait(&mut self, timeout: Duration) -> Result<SourceEvent> {
        if !self.answers.is_empty() {
            return Ok(SourceEvent::Records);
        }
        if self.partitions.iter().any(|partition| partition.is_out_of_range) {
            return Ok(SourceEvent::OutOfRange);
        }
        let mut now = self.network.now();
        // A look-up blocks. A caller that does not wait makes one only if no other call has made it in time.
        let patience = if timeout.is_zero() { UNSERVED } else { Duration::ZERO };
        if now >= self.lookups.next + patience
            && !self.look_up_leaders(now)?
            && self.connections.brokers.values().all(|broker| !broker.is_up())
        {
            return Ok(SourceEvent::Unreachable);
        }
        if now.saturating_duration_since(self.connections.served) > UNSERVED {
            self.connections.brokers.values_mut().for_each(|broker| broker.restart_timeout(now));
        }
        let deadline = now + timeout;
        loop {
            let ids: Vec<i32> = self.connections.brokers.keys().copied().collect();
            let mut answered = false;
            for id in ids {
                match self.serve(id, now) {
                    SourceEvent::Idle => {}
                    SourceEvent::Records => answered = true,
                    event => return Ok(event),
                }
            }
            self.connections.served = now;
            // The next call looks up leaders, if that is due.
            let is_led = self.partitions.iter().all(|partition| partition.leader.is_some());
            let until = if is_led { deadline } else { deadline.min(self.lookups.next) };
            if answered || now >= until {
                break Ok(if answered { SourceEvent::Records } else { SourceEvent::Idle });
            }
            self.poll(until.saturating_duration_since(now));
            now = self.network.now();
        }
    }

    /// Waits until a connection can be read or written.
    fn poll(&self, timeout: Duration) {
        let brokers = &self.connections.brokers;
        let is_connecting = brokers.values().any(Broker::is_connecting);
        let timeout = if is_connecting { timeout.min(CONNECT_INTERVAL) } else { timeout };
        let mut interests: Vec<PollFd<'_>> = brokers.values().filter_map(Broker::interest).collect();
        self.network.wait(&mut interests, timeout);
    }

    /// Advances the connection to one broker as far as possible without waiting.
    fn serve(&mut self, id: i32, now: Instant) -> SourceEvent {
        let leads = self.partitions.iter().any(|partition| partition.leader == Some(id));
        let Some(broker) = self.connections.brokers.get_mut(&id) else { return SourceEvent::Idle };
        if leads {
            broker.connect(&*self.network, now);
        }
        let event = broker.serve(now, &self.client).or_else(|| self.request(id, now));
        match event {
            None => SourceEvent::Idle,
            Some(BrokerEvent::Unsupported) => SourceEvent::Unsupported("a broker is older than Kafka 2.3".into()),
            Some(BrokerEvent::Ready) => {
                let event = self.request(id, now);
                self.lost(id, event, now);
                SourceEvent::Idle
            }
            Some(BrokerEvent::Answer(answer)) => self.take(id, answer, now),
            event => {
                self.lost(id, event, now);
                SourceEvent::Idle
            }
        }
    }

    /// Handles a lost connection: another broker may lead its partitions now.
    fn lost(&mut self, id: i32, event: Option<BrokerEvent>, now: Instant) {
        let Some(BrokerEvent::Lost(why)) = event else { return };
        let mut led = self.partitions.iter_mut().filter(|partition| partition.leader == Some(id)).peekable();
        if led.peek().is_some() {
            led.for_each(|partition| partition.leader = None);
            self.failure.get_or_insert_with(|| (now, String::new())).1 = why;
        }
    }

    /// Sends a request for the partitions that a broker leads, unless one is unanswered.
    fn request(&mut self, id: i32, now: Instant) -> Option<BrokerEvent> {
        let Connections { brokers, requested, turn, .. } = &mut self.connections;
        let broker = brokers.get_mut(&id).filter(|broker| broker.is_free())?;
        let count = self.partitions.len().max(1);
        let in_turn = (0..self.partitions.len()).map(|at| &self.partitions[(*turn + at) % count]);
        let mut wanted: Vec<(&str, Vec<(i32, i64)>)> = vec![];
        let mut generations = vec![];
        for partition in in_turn.filter(|one| one.leader == Some(id) && !one.is_out_of_range) {
            let topic = self.topics[partition.id.topic].as_str();
            let position = (partition.id.number, partition.offset);
            generations.push(partition.generation);
            match wanted.iter_mut().find(|(known, _)| *known == topic) {
                Some((_, positions)) => positions.push(position),
                None => wanted.push((topic, vec![position])),
            }
        }
        if wanted.is_empty() {
            return None;
        }
        *turn = (*turn + 1) % count;
        requested.insert(id, generations);
        broker.ask(now, |number| wire::ask_records((number, &self.client), LIMITS, &wanted))
    }

    /// Stores an answer, and sends the next request.
    fn take(&mut self, id: i32, answer: Response, now: Instant) -> SourceEvent {
        self.failure = None;
        let partitions = match wire::fetched(answer.body()) {
            Ok(Ok(fetched)) => self.partitions(id, answer.body(), &fetched, now),
            Ok(Err(code)) => Err(format!("a broker responds with error {code}")),
            Err(error) => Err(error.to_string()),
        };
        match partitions {
            Err(why) => SourceEvent::Unsupported(why),
            Ok(partitions) => {
                self.answers.push_back(OpenAnswer { broker: id, answer, partitions });
                let event = self.request(id, now);
                self.lost(id, event, now);
                SourceEvent::Records
            }
        }
    }

    /// Collects the partitions of an answer that were requested and have not been reset or removed since.
    fn partitions(
        &mut self,
        id: i32,
        answer: &[u8],
        fetched: &[Fetched<'_>],
        now: Instant,
    ) -> Result<VecDeque<PartitionRecords>, String> {
        let requested = self.connections.requested.remove(&id).unwrap_or_default();
        let mut found = VecDeque::with_capacity(fetched.len());
        for answered in fetched {
            let topics = &self.topics;
            let is_it = |one: &&mut FetchedPartition| {
                one.id.number == answered.number && topics[one.id.topic].as_bytes() == answered.topic
            };
            let partition = self.partitions.iter_mut().find(is_it);
            let Some(partition) = partition.filter(|one| requested.contains(&one.generation)) else { continue };
            match answered.code {
                0 => {
                    let range = answered.records.clone();
                    let next = batch::next_offset(&answer[range.clone()]).map_err(|error| error.to_string())?;
                    partition.offset = next.unwrap_or(partition.offset);
                    let (generation, high) = (partition.generation, answered.high);
                    let aborted = Aborted::new(&answered.aborted);
                    found.push_back(PartitionRecords { generation, range, next, high, aborted });
                }
                OUT_OF_RANGE => partition.is_out_of_range = true,
                code if PASSING.contains(&code) => {
                    partition.leader = None;
                    let name = format!("{}/{}", topics[partition.id.topic], partition.id.number);
                    let why = format!("{name}: the broker responds with error {code}");
                    self.failure.get_or_insert((now, why));
                }
                code => return Err(format!("a broker responds with error {code}")),
            }
        }
        Ok(found)
    }

    /// Looks up unknown leaders; returns false if no broker can be reached.
    fn look_up_leaders(&mut self, now: Instant) -> Result<bool> {
        let mut unknown = false;
        for topic in 0..self.topics.len() {
            if self.partitions.iter().all(|one| one.id.topic != topic || one.leader.is_some()) {
                continue;
            }
            let answer = self.leaders.look_up(&self.topics[topic])?;
            self.lookups.next = self.network.now() + LOOKUP_INTERVAL;
            match answer {
                Lookup::Leaders(leaders) => self.set_leaders(topic, &leaders, now),
                Lookup::UnknownTopic => unknown = true,
                Lookup::Unreachable => return Ok(false),
            }
        }
        self.lookups.unknown_since = unknown.then(|| self.lookups.unknown_since.unwrap_or(now));
        match self.lookups.unknown_since {
            Some(since) if now.saturating_duration_since(since) > UNKNOWN => {
                let error = Error::new(ErrorKind::Usage, format!("{}: reading failed", self.name));
                Err(error.because("unknown topic or partition"))
            }
            _ => Ok(true),
        }
    }

    /// Sets the leaders of the partitions of a topic that have none.
    fn set_leaders(&mut self, topic: usize, leaders: &[Leader], now: Instant) {
        for partition in self.partitions.iter_mut().filter(|one| one.id.topic == topic && one.leader.is_none()) {
            let Some(leader) = leaders.iter().find(|leader| leader.partition == partition.id.number) else { continue };
            let new = || Broker::new(&leader.host, leader.port, now);
            let broker = self.connections.brokers.entry(leader.broker).or_insert_with(new);
            if !broker.is_at(&leader.host, leader.port) {
                *broker = new();
            }
            partition.leader = Some(leader.broker);
        }
    }

    /// Returns the next piece of the answers; `None` if more must be waited for. Errors: exit status 65 if a batch is corrupt.
    pub fn piece(&mut self) -> Result<Option<Piece<'_>>> {
        let (id, range, records, is_packed) = loop {
            let Some(open) = self.answers.front_mut() else { return Ok(None) };
            let Some(found) = open.partitions.front_mut() else {
                if let Some(done) = self.answers.pop_front()
                    && let Some(broker) = self.connections.brokers.get_mut(&done.broker)
                {
                    broker.recycle(done.answer);
                }
                continue;
            };
            let Some(partition) = self.partitions.iter().find(|one| one.generation == found.generation) else {
                open.partitions.pop_front();
                continue;
            };
            let id = partition.id;
            let place = |error: Error| error.at(format!("{}/{}", self.topics[id.topic], id.number));
            match Batch::first(&open.answer.body()[found.range.clone()], true).map_err(place)? {
                Found::Old => return Ok(Some(Piece::Unsupported("records are in a format before 0.11".into()))),
                Found::Cut => {
                    let (next, high) = (found.next, found.high);
                    open.partitions.pop_front();
                    return Ok(Some(Piece::End { id, next, high }));
                }
                Found::Batch(batch, length) => {
                    found.range.start += length;
                    let is_packed = batch.packing() != 0;
                    if is_packed && !unpack(batch.packing(), batch.body, &mut self.unpacked).map_err(place)? {
                        return Ok(Some(Piece::Unsupported("records have an unknown compression".into())));
                    }
                    let body = if is_packed { &self.unpacked } else { batch.body };
                    if !found.aborted.hides(&batch, body) {
                        let end = found.range.start;
                        break (id, end - batch.body.len()..end, batch.records(&[]), is_packed);
                    }
                }
            }
        };
        let Some(open) = self.answers.front() else { return Ok(None) };
        let body = if is_packed { self.unpacked.as_slice() } else { &open.answer.body()[range] };
        Ok(Some(Piece::Records { id, name: &self.topics[id.topic], records: records.of(body) }))
    }
}
