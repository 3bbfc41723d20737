//! Fetches records from the leaders of partitions, at less than half the CPU time of reading record by record through
//! librdkafka.
//!
//! ```text
//! Fetcher::wait ─► broker (connection) ─► wire (Fetch answer) ─► Fetcher::pass ─► batch, unpack ─► sink
//! ```
//!
//! An answer is read in place while the next one is on its way. librdkafka still looks up the leaders, keeps the group
//! and commits; its own fetching is paused. librdkafka fetches instead if a setting concerns fetching or the
//! connection, or if brokers answer in a way that is not supported here.
//!
//! [`source`] is the fetcher as a source of records, [`broker`] the connection to one broker, [`wire`] the requests and
//! answers as bytes, [`batch`] the record batches in an answer, and [`mod@unpack`] their decompression.

pub mod batch;
pub mod broker;
pub mod source;
#[cfg(test)]
pub(super) mod test_data;
#[cfg(test)]
mod tests;
pub mod unpack;
pub mod wire;

use crate::address::Address;
use crate::client;
use crate::position::{PartitionId, Position};
use crate::source::{FailingPartition, RECORDS_PER_POLL, RecordSink, SourceEvent};
use batch::Batch;
use broker::{Broker, BrokerEvent, FetchKind, Network, Response};
use evt_core::error::{Error, Result};
use evt_run::input::topic_id::TopicId;
use rustix::event::PollFd;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};
use unpack::unpack;
use wire::{FetchedRecords, RequestedTopics, WantedTopic};

/// Interval between look-ups of leaders.
const LOOKUP_INTERVAL: Duration = Duration::from_millis(200);
/// How long a look-up of leaders must be overdue before a poll without a timeout does it. A look-up blocks.
const LOOKUP_DELAY: Duration = Duration::from_secs(1);
/// The longest time between two calls of [`Fetcher::wait`] that counts as time without an answer. A caller may be busy
/// for longer, and meanwhile nothing is requested.
const UNSERVED: Duration = Duration::from_secs(1);
/// Poll interval while a TCP connect is in progress.
const CONNECT_INTERVAL: Duration = Duration::from_millis(2);

/// Error code of an offset that does not exist.
const OUT_OF_RANGE: i16 = 1;
/// Error codes of a broker that does not know the topic or its id, or does not know the cause of the failure. The next
/// look-up of leaders shows whether the topic exists.
const UNKNOWN_TO_BROKER: [i16; 4] = [-1, 3, 100, 103];

/// Prefixes of settings that concern fetching or the connection: librdkafka fetches if the user sets one of them.
const OF_LIBRARY: [&str; 19] = [
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
    /// The queried broker does not have the topic.
    UnknownTopic,
    /// No broker can be reached.
    Unreachable,
}

/// Looks up the leaders of partitions.
pub trait Leaders {
    /// Queries a broker for the leaders of a topic; takes at most about a second. Errors: exit status 69 if the answer
    /// is a permanent error.
    fn look_up(&self, topic: &str) -> Result<Lookup>;
}

/// One partition being read.
struct FetchedPartition {
    id: PartitionId,
    /// The id of its topic. Partitions that are added later may be of a new topic of the same name.
    topic_id: Option<TopicId>,
    /// Increases with every [`Fetcher::read`], so that answers to requests before it are recognised and ignored.
    generation: u64,
    /// The offset of the next request.
    offset: i64,
    leader: Option<i32>,
    /// Whether the offset does not exist; the caller must handle the gap.
    is_out_of_range: bool,
    /// Whether its leader did not know its topic.
    is_unknown: bool,
    /// When the request was sent whose answer had the last records that were passed on.
    answered: Option<Instant>,
    /// The errors since the last answer without an error; `None` if there were none.
    failure: Option<FetchFailure>,
}

/// The errors of the leader of a partition, of its connection, or of the look-ups, until an answer has no error.
struct FetchFailure {
    /// When the first one occurred.
    since: Instant,
    /// The last one.
    message: String,
}

impl FetchedPartition {
    /// Notes an error: the next look-up finds the leader again.
    fn fail(&mut self, message: String, now: Instant) {
        self.leader = None;
        let since = self.failure.as_ref().map_or(now, |failure| failure.since);
        self.failure = Some(FetchFailure { since, message });
    }
}

/// An answer whose records are being read.
struct OpenAnswer {
    broker: i32,
    response: Response,
    /// The records that have not been read yet.
    partitions: VecDeque<FetchedRecords>,
}

/// The look-ups of leaders.
struct Lookups {
    /// The time of the next one.
    next: Instant,
    /// By topic that is unknown to the brokers, since when.
    unknown: BTreeMap<usize, Instant>,
}

/// A client that fetches the records of some partitions.
pub struct Fetcher {
    network: Box<dyn Network>,
    leaders: Rc<dyn Leaders>,
    address: Address,
    /// Whether a topic was requested by name.
    has_used_names: bool,
    /// The client id sent to brokers.
    client_id: String,
    /// The partitions being read. Every request moves the first one to the end, so that no partition is always the
    /// last.
    partitions: Vec<FetchedPartition>,
    generation: u64,
    brokers: BTreeMap<i32, Broker>,
    answers: VecDeque<OpenAnswer>,
    unpacked: Vec<u8>,
    lookups: Lookups,
    /// When the connections were last served.
    served_at: Instant,
}

impl Fetcher {
    /// Begins without partitions; `client_id` is sent to brokers.
    pub fn new(address: &Address, client_id: &str, leaders: Rc<dyn Leaders>, network: Box<dyn Network>) -> Self {
        Self {
            lookups: Lookups { next: network.now(), unknown: BTreeMap::new() },
            served_at: network.now(),
            network,
            leaders,
            address: address.clone(),
            has_used_names: false,
            client_id: client_id.to_owned(),
            partitions: vec![],
            generation: 0,
            brokers: BTreeMap::new(),
            answers: VecDeque::new(),
            unpacked: vec![],
        }
    }

    /// Reads a partition from an offset on; replaces its previous position if it has one.
    pub fn read(&mut self, start: Position) {
        let known = self.partitions.extract_if(.., |one| one.id == start.id).next();
        self.generation += 1;
        let (leader, failure) = known.map_or((None, None), |known| (known.leader, known.failure));
        self.partitions.push(FetchedPartition {
            id: start.id,
            topic_id: start.topic_id,
            generation: self.generation,
            offset: start.offset,
            leader,
            is_out_of_range: false,
            is_unknown: false,
            answered: None,
            failure,
        });
    }

    /// Stops reading a partition.
    pub fn remove(&mut self, id: PartitionId) {
        self.partitions.retain(|partition| partition.id != id);
    }

    /// Returns when the last answer was requested whose records of a partition have been passed.
    pub fn answered(&self, id: PartitionId) -> Option<Instant> {
        self.partitions.iter().find(|partition| partition.id == id)?.answered
    }

    /// Whether it reads any partition.
    pub fn is_reading(&self) -> bool {
        !self.partitions.is_empty()
    }

    /// Whether every request had the ids of the topics.
    pub fn reads_by_id(&self) -> bool {
        !self.has_used_names
    }

    /// Returns the partition that has had errors and no answer for the longest time.
    pub fn failing(&self) -> Option<FailingPartition<'_>> {
        let failing = self.partitions.iter().filter_map(|one| Some((one.id, one.failure.as_ref()?)));
        let (id, FetchFailure { since, message }) = failing.min_by_key(|(_, failure)| failure.since)?;
        let why = Some(message.as_str()).filter(|_| !self.lookups.unknown.contains_key(&id.topic));
        Some(FailingPartition { id, time: self.served_at.saturating_duration_since(*since), why })
    }

    /// Notes that the connections are served now. Of the time since the last call at most [`UNSERVED`] counts as time
    /// without an answer.
    fn note_served(&mut self, now: Instant) {
        let unserved = now.saturating_duration_since(self.served_at).saturating_sub(UNSERVED);
        self.partitions.iter_mut().filter_map(|one| one.failure.as_mut()).for_each(|failure| failure.since += unserved);
        self.served_at = now;
    }

    /// Waits for an answer for at most `timeout`; returns at once while there are records to pass. `Unsupported` means
    /// that librdkafka must fetch.
    pub fn wait(&mut self, timeout: Duration) -> Result<SourceEvent> {
        let mut now = self.network.now();
        self.note_served(now);
        if !self.answers.is_empty() {
            return Ok(SourceEvent::Records);
        }
        if self.partitions.iter().any(|partition| partition.is_out_of_range) {
            return Ok(SourceEvent::OutOfRange);
        }
        // A look-up blocks. A caller that does not wait makes one only if no other call has made it in time.
        let delay = if timeout.is_zero() { LOOKUP_DELAY } else { Duration::ZERO };
        if now >= self.lookups.next + delay
            && !self.look_up_leaders(now)?
            && self.brokers.values().all(|broker| !broker.is_up())
        {
            // The caller reports the outage of all brokers. The time without an answer of each partition begins anew
            // after the outage.
            self.partitions.iter_mut().for_each(|partition| partition.failure = None);
            return Ok(SourceEvent::Unreachable);
        }
        self.served_at = self.network.now();
        if self.has_found_unknown() {
            return Ok(SourceEvent::UnknownTopic);
        }
        let deadline = now + timeout;
        loop {
            let ids: Vec<i32> = self.brokers.keys().copied().collect();
            for id in ids {
                if let Err(error) = self.serve(id, now) {
                    return Ok(SourceEvent::Unsupported(error.to_string()));
                }
            }
            if !self.answers.is_empty() {
                return Ok(SourceEvent::Records);
            }
            // Returns when a look-up of leaders is due, because the next call makes it.
            let is_led = self.partitions.iter().all(|partition| partition.leader.is_some());
            let until = if is_led { deadline } else { deadline.min(self.lookups.next) };
            if now >= until {
                return Ok(SourceEvent::Idle);
            }
            self.poll(until.saturating_duration_since(now));
            now = self.network.now();
            self.note_served(now);
        }
    }

    /// Whether there is a topic again that leaders did not know. Each of their answers counts once.
    fn has_found_unknown(&mut self) -> bool {
        let found = |one: &&mut FetchedPartition| one.is_unknown && one.leader.is_some();
        self.partitions.iter_mut().filter(found).map(|one| one.is_unknown = false).count() > 0
    }

    /// Waits until a connection can be read or written.
    fn poll(&self, timeout: Duration) {
        let is_connecting = self.brokers.values().any(Broker::is_connecting);
        let timeout = if is_connecting { timeout.min(CONNECT_INTERVAL) } else { timeout };
        let mut interests: Vec<PollFd<'_>> = self.brokers.values().filter_map(Broker::interest).collect();
        self.network.wait(&mut interests, timeout);
    }

    /// Advances the connection to one broker as far as possible without waiting. Errors: why librdkafka must fetch.
    fn serve(&mut self, id: i32, now: Instant) -> Result<()> {
        let leads = self.partitions.iter().any(|partition| partition.leader == Some(id));
        let Some(broker) = self.brokers.get_mut(&id) else { return Ok(()) };
        if leads {
            broker.connect(&*self.network, now);
        }
        match broker.serve(now, &self.client_id) {
            None => {}
            Some(BrokerEvent::Answer(response)) => self.take(id, response, now)?,
            Some(BrokerEvent::Lost(why)) => self.lose_leader(id, &why, now),
            Some(BrokerEvent::Unsupported) => return Err(Error::corrupt("a broker is older than Kafka 2.3")),
        }
        self.request(id, now);
        Ok(())
    }

    /// Handles a lost connection: another broker may lead its partitions now.
    fn lose_leader(&mut self, id: i32, why: &str, now: Instant) {
        let led = self.partitions.iter_mut().filter(|partition| partition.leader == Some(id));
        led.for_each(|partition| partition.fail(why.to_owned(), now));
    }

    /// Requests records of the partitions that a broker leads, unless the broker has not answered the last request.
    fn request(&mut self, id: i32, now: Instant) {
        let Some(broker) = self.brokers.get_mut(&id).filter(|broker| broker.is_free()) else { return };
        let mut wanted: Vec<WantedTopic<'_>> = vec![];
        for partition in self.partitions.iter().filter(|one| one.leader == Some(id) && !one.is_out_of_range) {
            let (name, id) = (self.address.topics[partition.id.topic].as_str(), partition.topic_id);
            let position = (partition.id.number, partition.offset);
            match wanted.iter_mut().find(|known| (known.name, known.id) == (name, id)) {
                Some(known) => known.partitions.push(position),
                None => wanted.push(WantedTopic { name, id, partitions: vec![position] }),
            }
        }
        if wanted.is_empty() {
            return;
        }
        let is_by_id = broker.has_ids && wanted.iter().all(|topic| topic.id.is_some());
        self.has_used_names |= !is_by_id;
        let encode = |correlation| wire::fetch_request(is_by_id, correlation, &self.client_id, &wanted);
        let kind = FetchKind { generation: self.generation, is_by_id };
        if let Some(BrokerEvent::Lost(why)) = broker.fetch(now, kind, encode) {
            self.lose_leader(id, &why, now);
        }
        self.partitions.rotate_left(1);
    }

    /// Stores the records of an answer, without partitions that were reset or removed since its request.
    fn take(&mut self, id: i32, response: Response, now: Instant) -> Result<()> {
        let mut partitions = VecDeque::new();
        let ids = || self.partitions.iter().filter_map(|one| Some((one.topic_id?, one.id.topic)));
        let topics = match response.kind.is_by_id {
            true => RequestedTopics::ById(ids().collect()),
            false => RequestedTopics::ByName(&self.address.topics),
        };
        for fetched in wire::fetched(response.body(), &topics)? {
            let Some(partition) = requested(&mut self.partitions, fetched.id, response.kind.generation) else {
                continue;
            };
            match fetched.code {
                0 => {
                    partition.failure = None;
                    partition.offset = fetched.next.unwrap_or(partition.offset);
                    partitions.push_back(fetched);
                }
                OUT_OF_RANGE => (partition.is_out_of_range, partition.failure) = (true, None),
                code if client::is_transient_number(code) || UNKNOWN_TO_BROKER.contains(&code) => {
                    partition.is_unknown |= UNKNOWN_TO_BROKER.contains(&code);
                    partition.fail(format!("the leader responds with error {code}"), now);
                }
                code => return Err(wire::refused(code)),
            }
        }
        self.answers.push_back(OpenAnswer { broker: id, response, partitions });
        Ok(())
    }

    /// Looks up unknown leaders; returns false if no broker can be reached.
    fn look_up_leaders(&mut self, now: Instant) -> Result<bool> {
        let is_reached = self.ask_for_leaders(now)?;
        for partition in self.partitions.iter_mut().filter(|one| one.leader.is_none() && one.failure.is_none()) {
            partition.fail("no broker knows its leader".to_owned(), now);
        }
        Ok(is_reached)
    }

    fn ask_for_leaders(&mut self, now: Instant) -> Result<bool> {
        for topic in 0..self.address.topics.len() {
            if self.partitions.iter().all(|one| one.id.topic != topic || one.leader.is_some()) {
                self.lookups.unknown.remove(&topic);
                continue;
            }
            let answer = self.leaders.look_up(&self.address.topics[topic])?;
            self.lookups.next = self.network.now() + LOOKUP_INTERVAL;
            match answer {
                Lookup::Leaders(leaders) => {
                    self.lookups.unknown.remove(&topic);
                    self.set_leaders(topic, &leaders, now);
                }
                Lookup::UnknownTopic => _ = self.lookups.unknown.entry(topic).or_insert(now),
                Lookup::Unreachable => return Ok(false),
            }
        }
        let is_gone = |since: &Instant| now.saturating_duration_since(*since) > client::GONE;
        match self.lookups.unknown.values().any(is_gone) {
            true => Err(client::missing(&self.address)),
            false => Ok(true),
        }
    }

    /// Sets the leaders of the partitions of a topic that have none.
    fn set_leaders(&mut self, topic: usize, leaders: &[Leader], now: Instant) {
        for partition in self.partitions.iter_mut().filter(|one| one.id.topic == topic && one.leader.is_none()) {
            let Some(leader) = leaders.iter().find(|leader| leader.partition == partition.id.number) else { continue };
            let new = || Broker::new(&leader.host, leader.port, now);
            let broker = self.brokers.entry(leader.broker).or_insert_with(new);
            if !broker.is_at(&leader.host, leader.port) {
                *broker = new();
            }
            partition.leader = Some(leader.broker);
        }
    }

    /// Passes the records of the answers to `sink`, at most about [`RECORDS_PER_POLL`]. They may begin before the
    /// requested offset, because brokers send whole batches. Errors: exit status 65 if a batch is corrupt.
    pub fn pass(&mut self, sink: &mut dyn RecordSink) -> Result<()> {
        let mut passed = 0;
        while passed < RECORDS_PER_POLL
            && let Some(open) = self.answers.front_mut()
        {
            let Some(fetched) = open.partitions.front_mut() else {
                if let Some(done) = self.answers.pop_front()
                    && let Some(broker) = self.brokers.get_mut(&done.broker)
                {
                    broker.recycle(done.response);
                }
                continue;
            };
            let id = fetched.id;
            let Some(partition) = requested(&mut self.partitions, id, open.response.kind.generation) else {
                open.partitions.pop_front();
                continue;
            };
            let place = |error: Error| error.at(id.name(&self.address.topics));
            let mut is_ended = false;
            match Batch::first(&open.response.body()[fetched.range.clone()], true).map_err(place)? {
                None => {
                    is_ended = sink.read_to(id, fetched.next, fetched.high)?;
                    partition.answered = Some(open.response.asked_at);
                    open.partitions.pop_front();
                }
                Some(batch) => {
                    fetched.range.start += batch.size;
                    let mut body = batch.body;
                    if batch.compression() != 0 {
                        unpack(batch.compression(), batch.body, &mut self.unpacked).map_err(place)?;
                        body = &self.unpacked;
                    }
                    if fetched.aborted.hides(&batch, body) {
                        continue;
                    }
                    let mut records = batch.records(body);
                    while !is_ended && let Some(message) = records.read().map_err(place)? {
                        passed += 1;
                        is_ended = sink.record(id, &message)?;
                    }
                }
            }
            if is_ended {
                self.partitions.retain(|partition| partition.id != id);
            }
        }
        Ok(())
    }
}

/// Returns a partition that is read, unless it was reset after the request of this generation.
fn requested(partitions: &mut [FetchedPartition], id: PartitionId, generation: u64) -> Option<&mut FetchedPartition> {
    partitions.iter_mut().find(|one| one.id == id && one.generation <= generation)
}
