//! Fetches records from the leaders of partitions, at less than half the CPU time of reading record by record through
//! librdkafka.
//!
//! ```text
//! Fetcher::wait ─► broker (connection) ─► wire (Fetch answer) ─► Fetcher::piece ─► batch, unpack ─► step ─► records
//! ```
//!
//! An answer is read in place while the next one is on its way. librdkafka still finds the leaders, keeps the group and
//! commits; its own fetching is paused. librdkafka fetches instead if a setting concerns fetching or the connection, or if
//! brokers answer in a way that is not supported here.
//!
//! [`step`] feeds the run from the fetcher, [`broker`] is the connection to one broker, [`wire`] the requests and answers as
//! bytes, [`batch`] the record batches in an answer, and [`unpack`] their decompression.

pub mod batch;
pub mod broker;
pub mod step;
pub mod unpack;
pub mod wire;

use crate::error::{Error, Result};
use crate::kafka::client::{self, Client};
use batch::{Aborted, Batch, Found, Records};
use broker::{Answer, Broker, Event};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::Metadata;
use rustix::event::PollFd;
use rustix::fs::Timespec;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use unpack::unpack;
use wire::{Fetched, Limits};

/// Limits of one request. A batch cut off at the end of an answer is fetched again, so large answers waste less.
const LIMITS: Limits = Limits { wait: 500, bytes: 4 << 20, partition_bytes: 2 << 20 };
/// Interval and timeout of leader look-ups.
const LOOKS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// How long a topic may be unknown before it counts as missing: brokers learn of a new topic one after the other.
const UNKNOWN: Duration = Duration::from_secs(30);
/// Poll interval while a TCP connect is in progress.
const CALLED: Duration = Duration::from_millis(2);

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
pub fn is_ours<'a>(mut settings: impl Iterator<Item = &'a (String, String)>) -> bool {
    settings.all(|(name, value)| match name.as_str() {
        "security.protocol" => value.eq_ignore_ascii_case("plaintext"),
        name => !OF_LIBRARY.iter().any(|prefix| name.starts_with(prefix)),
    })
}

/// One partition being read.
struct Part {
    /// Changes with every [`Fetcher::read`], so that answers to requests before it are recognised and ignored.
    id: u64,
    topic: usize,
    number: i32,
    /// The offset of the next request.
    offset: i64,
    leader: Option<i32>,
    /// Whether the offset does not exist; the caller must handle the gap.
    is_lost: bool,
}

/// The records of one partition in an answer.
struct Set {
    part: u64,
    range: Range<usize>,
    /// The offset after it; `None` if it holds no whole batch.
    next: Option<i64>,
    high: i64,
    aborted: Aborted,
}

/// An answer that is being read.
struct Reading {
    broker: i32,
    answer: Answer,
    sets: VecDeque<Set>,
}

/// What [`Fetcher::wait`] ended with.
pub enum News {
    /// A broker has answered: there may be pieces.
    Answer,
    /// Nothing yet.
    Quiet,
    /// No broker can be reached.
    Away,
    /// The offset of some partition does not exist.
    Gap,
    /// librdkafka must fetch, for this reason.
    Unfit(String),
}

/// A piece of an answer.
pub enum Piece<'a> {
    /// Records of a partition (topic and number). They may begin before the requested offset, since batches come whole.
    Records((usize, i32), Records<'a>),
    /// All records of one partition in an answer have been read.
    Read {
        /// Topic and number.
        of: (usize, i32),
        /// The next offset, if it changed.
        next: Option<i64>,
        /// The offset after the last one that may be read.
        high: i64,
    },
    /// librdkafka must fetch, for this reason.
    Unfit(String),
}

/// A client that fetches the records of some partitions.
pub struct Fetcher {
    client: Arc<Client>,
    /// The client id sent to brokers.
    name: String,
    topics: Vec<String>,
    parts: Vec<Part>,
    ids: u64,
    brokers: BTreeMap<i32, Broker>,
    /// The ids of the parts in each broker's last request.
    asked: BTreeMap<i32, Vec<u64>>,
    readings: VecDeque<Reading>,
    unpacked: Vec<u8>,
    /// Index of the part that the next request begins with: it advances, so that no part is always the last.
    turn: usize,
    look_at: Instant,
    unknown_since: Option<Instant>,
    waited_until: Instant,
    /// Since when there has been an error and no answer, and the error.
    trouble: Option<(Instant, String)>,
}

impl Fetcher {
    /// Begins without partitions.
    pub fn new(client: Arc<Client>, name: &str, topics: &[String]) -> Self {
        let now = Instant::now();
        Self {
            client,
            name: name.to_owned(),
            topics: topics.to_vec(),
            parts: vec![],
            ids: 0,
            brokers: BTreeMap::new(),
            asked: BTreeMap::new(),
            readings: VecDeque::new(),
            unpacked: vec![],
            turn: 0,
            look_at: now,
            unknown_since: None,
            waited_until: now,
            trouble: None,
        }
    }

    /// Reads a partition from `offset` on, instead of where it was read before.
    pub fn read(&mut self, (topic, number): (usize, i32), offset: i64) {
        let leader = self.leave((topic, number));
        self.ids += 1;
        self.parts.push(Part { id: self.ids, topic, number, offset, leader, is_lost: false });
    }

    /// Stops reading a partition; returns its leader, if known.
    pub fn leave(&mut self, of: (usize, i32)) -> Option<i32> {
        let at = self.parts.iter().position(|part| (part.topic, part.number) == of)?;
        self.parts.remove(at).leader
    }

    /// Whether it reads any partition.
    pub fn reads(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Returns since when there has been an error and no answer, and the error.
    pub fn trouble(&self) -> Option<&(Instant, String)> {
        self.trouble.as_ref()
    }

    /// Waits for an answer for at most `timeout`; returns at once while there are pieces to read.
    pub fn wait(&mut self, timeout: Duration) -> Result<News, KafkaError> {
        if !self.readings.is_empty() {
            return Ok(News::Answer);
        }
        if self.parts.iter().any(|part| part.is_lost) {
            return Ok(News::Gap);
        }
        let mut now = Instant::now();
        if !self.look_for_leaders(now)? && self.brokers.values().all(|broker| !broker.is_up()) {
            return Ok(News::Away);
        }
        if now.saturating_duration_since(self.waited_until) > LOOKS[1] {
            self.brokers.values_mut().for_each(|broker| broker.listen_again(now));
        }
        let deadline = now + timeout;
        loop {
            let ids: Vec<i32> = self.brokers.keys().copied().collect();
            let mut quiet = true;
            for id in ids {
                match self.serve(id, now) {
                    News::Quiet => {}
                    News::Answer => quiet = false,
                    news => return Ok(news),
                }
            }
            self.waited_until = now;
            // The next call looks up leaders, if that is due.
            let is_led = self.parts.iter().all(|part| part.leader.is_some());
            let until = if is_led { deadline } else { deadline.min(self.look_at) };
            if !quiet || now >= until {
                break Ok(if quiet { News::Quiet } else { News::Answer });
            }
            self.poll(until.saturating_duration_since(now));
            now = Instant::now();
        }
    }

    /// Waits until a connection can be read or written.
    fn poll(&self, timeout: Duration) {
        let called = self.brokers.values().any(Broker::is_called);
        let timeout = if called { timeout.min(CALLED) } else { timeout };
        let mut interests: Vec<PollFd<'_>> = self.brokers.values().filter_map(Broker::interest).collect();
        let timeout = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
        // A signal may end it early, which is harmless.
        let _ = rustix::event::poll(&mut interests, Some(&timeout));
    }

    /// Advances the connection to one broker as far as possible without waiting.
    fn serve(&mut self, id: i32, now: Instant) -> News {
        let leads = self.parts.iter().any(|part| part.leader == Some(id));
        let Some(broker) = self.brokers.get_mut(&id) else { return News::Quiet };
        if leads {
            broker.call(now);
        }
        let event = broker.serve(now, &self.name).or_else(|| self.ask(id, now));
        match event {
            None => News::Quiet,
            Some(Event::Unfit) => News::Unfit("a broker is older than Kafka 2.3".into()),
            Some(Event::Ready) => self.ask(id, now).map_or(News::Quiet, |event| self.lost(id, event)),
            Some(Event::Answer(answer)) => self.take(id, answer, now),
            Some(event) => self.lost(id, event),
        }
    }

    /// Handles a lost connection: another broker may lead its partitions now.
    fn lost(&mut self, id: i32, event: Event) -> News {
        if let Event::Lost(why) = event
            && self.forget_leader(id)
        {
            self.trouble.get_or_insert_with(|| (Instant::now(), String::new())).1 = why;
        }
        News::Quiet
    }

    /// Forgets the leader `id`; returns whether it led any partition.
    fn forget_leader(&mut self, id: i32) -> bool {
        let led = self.parts.iter_mut().filter(|part| part.leader == Some(id));
        led.map(|part| part.leader = None).count() > 0
    }

    /// Sends a request for the partitions that a broker leads, unless one is unanswered.
    fn ask(&mut self, id: i32, now: Instant) -> Option<Event> {
        let broker = self.brokers.get_mut(&id).filter(|broker| broker.is_free())?;
        let count = self.parts.len().max(1);
        let in_turn = (0..self.parts.len()).map(|at| &self.parts[(self.turn + at) % count]);
        let mut wanted: Vec<(&str, Vec<(i32, i64)>)> = vec![];
        let mut asked = vec![];
        for part in in_turn.filter(|part| part.leader == Some(id) && !part.is_lost) {
            let topic = self.topics[part.topic].as_str();
            asked.push(part.id);
            match wanted.iter_mut().find(|(known, _)| *known == topic) {
                Some((_, partitions)) => partitions.push((part.number, part.offset)),
                None => wanted.push((topic, vec![(part.number, part.offset)])),
            }
        }
        if wanted.is_empty() {
            return None;
        }
        self.turn = (self.turn + 1) % count;
        self.asked.insert(id, asked);
        broker.ask(now, |number| wire::ask_records((number, &self.name), LIMITS, &wanted))
    }

    /// Stores an answer, and sends the next request.
    fn take(&mut self, id: i32, answer: Answer, now: Instant) -> News {
        self.trouble = None;
        let sets = match wire::fetched(answer.body()) {
            Ok(Ok(fetched)) => self.sets(id, answer.body(), &fetched),
            Ok(Err(code)) => Err(format!("a broker responds with error {code}")),
            Err(error) => Err(error.to_string()),
        };
        match sets {
            Err(why) => News::Unfit(why),
            Ok(sets) => {
                self.readings.push_back(Reading { broker: id, answer, sets });
                self.ask(id, now).map(|event| self.lost(id, event));
                News::Answer
            }
        }
    }

    /// Collects the sets of the parts that were requested and have not been reset or removed since.
    fn sets(&mut self, id: i32, answer: &[u8], fetched: &[Fetched<'_>]) -> Result<VecDeque<Set>, String> {
        let asked = self.asked.remove(&id).unwrap_or_default();
        let mut sets = VecDeque::with_capacity(fetched.len());
        for told in fetched {
            let topics = &self.topics;
            let is_it = |part: &&mut Part| part.number == told.number && topics[part.topic].as_bytes() == told.topic;
            let Some(part) = self.parts.iter_mut().find(is_it).filter(|part| asked.contains(&part.id)) else {
                continue;
            };
            match told.code {
                0 => {
                    let next = batch::next_offset(&answer[told.records.clone()]).map_err(|error| error.to_string())?;
                    part.offset = next.unwrap_or(part.offset);
                    let aborted = Aborted::new(&told.aborted);
                    sets.push_back(Set { part: part.id, range: told.records.clone(), next, high: told.high, aborted });
                }
                OUT_OF_RANGE => part.is_lost = true,
                code if PASSING.contains(&code) => {
                    part.leader = None;
                    let why = format!("{}/{}: the broker responds with error {code}", topics[part.topic], part.number);
                    self.trouble.get_or_insert_with(|| (Instant::now(), why));
                }
                code => return Err(format!("a broker responds with error {code}")),
            }
        }
        Ok(sets)
    }

    /// Looks up unknown leaders through librdkafka; returns false if no broker can be reached.
    fn look_for_leaders(&mut self, now: Instant) -> Result<bool, KafkaError> {
        if now < self.look_at || self.parts.iter().all(|part| part.leader.is_some()) {
            return Ok(true);
        }
        let mut all_known = true;
        for topic in 0..self.topics.len() {
            if self.parts.iter().all(|part| part.topic != topic || part.leader.is_some()) {
                continue;
            }
            let told = self.client.client().fetch_metadata(Some(&self.topics[topic]), LOOKS[1]);
            match told {
                Ok(metadata) => all_known &= self.learn(topic, &metadata)?,
                Err(error) => {
                    self.look_at = Instant::now() + LOOKS[0];
                    let passes = error.rdkafka_error_code().is_some_and(client::is_passing);
                    return if passes { Ok(false) } else { Err(error) };
                }
            }
        }
        self.look_at = Instant::now() + LOOKS[0];
        let since = if all_known { None } else { Some(self.unknown_since.unwrap_or(now)) };
        self.unknown_since = since;
        match since.is_some_and(|since| now.saturating_duration_since(since) > UNKNOWN) {
            true => Err(KafkaError::MetadataFetch(Code::UnknownTopicOrPartition)),
            false => Ok(true),
        }
    }

    /// Applies the leaders in a topic's metadata; returns whether the topic is known.
    fn learn(&mut self, topic: usize, metadata: &Metadata) -> Result<bool, KafkaError> {
        let Some(found) = metadata.topics().iter().find(|found| found.name() == self.topics[topic]) else {
            return Ok(false);
        };
        match found.error().map(Code::from) {
            None => {}
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Ok(false),
            Some(code) if client::is_passing(code) => return Ok(true),
            Some(code) => return Err(KafkaError::MetadataFetch(code)),
        }
        for part in self.parts.iter_mut().filter(|part| part.topic == topic && part.leader.is_none()) {
            let partition = found.partitions().iter().find(|partition| partition.id() == part.number);
            let leader = partition.map(|partition| partition.leader());
            let Some(told) = metadata.brokers().iter().find(|broker| Some(broker.id()) == leader) else { continue };
            let address = (told.host().to_owned(), u16::try_from(told.port()).unwrap_or(0));
            let broker = self.brokers.entry(told.id()).or_insert_with(|| Broker::new(address.clone()));
            if *broker.address() != address {
                *broker = Broker::new(address);
            }
            part.leader = leader;
        }
        Ok(true)
    }

    /// Returns the next piece of the answers; `None` if more must be waited for. Errors: exit status 65 if a batch is corrupt.
    pub fn piece(&mut self) -> Result<Option<Piece<'_>>> {
        let (of, batch) = loop {
            let Some(reading) = self.readings.front_mut() else { return Ok(None) };
            let Some(set) = reading.sets.front_mut() else {
                if let Some(done) = self.readings.pop_front()
                    && let Some(broker) = self.brokers.get_mut(&done.broker)
                {
                    broker.recycle(done.answer);
                }
                continue;
            };
            let Some(part) = self.parts.iter().find(|part| part.id == set.part) else {
                reading.sets.pop_front();
                continue;
            };
            let of = (part.topic, part.number);
            let place = |error: Error| error.at(format!("{}/{}", self.topics[of.0], of.1));
            match Batch::first(&reading.answer.body()[set.range.clone()], true).map_err(place)? {
                Found::Old => return Ok(Some(Piece::Unfit("records are in a format before 0.11".into()))),
                Found::Cut => {
                    let (next, high) = (set.next, set.high);
                    reading.sets.pop_front();
                    return Ok(Some(Piece::Read { of, next, high }));
                }
                Found::Batch(batch, length) => {
                    set.range.start += length;
                    let is_packed = batch.packing() != 0;
                    if is_packed && !unpack(batch.packing(), batch.body, &mut self.unpacked).map_err(place)? {
                        return Ok(Some(Piece::Unfit("records have an unknown compression".into())));
                    }
                    let body = if is_packed { &self.unpacked } else { batch.body };
                    if !set.aborted.hides(&batch, body) {
                        let end = set.range.start;
                        break (of, (end - batch.body.len()..end, batch.records(&[]), is_packed));
                    }
                }
            }
        };
        let (range, records, is_packed) = batch;
        let Some(reading) = self.readings.front() else { return Ok(None) };
        let body = if is_packed { self.unpacked.as_slice() } else { &reading.answer.body()[range] };
        Ok(Some(Piece::Records(of, records.of(body))))
    }
}
