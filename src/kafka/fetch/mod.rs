//! Fetching records from the leaders of partitions: less than half the work of one record after the other through librdkafka.
//!
//! An answer of a broker is read as it lies in memory, and the next one is on its way meanwhile. librdkafka says who leads,
//! keeps the group and commits; its own fetching is paused. It fetches itself where a setting says how that shall be done,
//! or where we do not understand what comes.

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

/// What is asked for at a time. A batch that is cut off at the end comes once more: the more at a time, the less of that.
const LIMITS: Limits = Limits { wait: 500, bytes: 4 << 20, partition_bytes: 2 << 20 };
/// How often it is looked who leads, where that is not known, and how long that may take.
const LOOKS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// How long a topic may be unknown before it is not there: each broker learns of it in its own time.
const UNKNOWN: Duration = Duration::from_secs(30);
/// How often it is looked whether a broker that is called has answered.
const CALLED: Duration = Duration::from_millis(2);

/// An offset that is not there, as brokers number errors.
const OUT_OF_RANGE: i16 = 1;
/// What passes by itself: another broker leads, or this one is not ready yet.
const PASSING: [i16; 12] = [-1, 3, 5, 6, 7, 9, 13, 56, 74, 75, 78, 100];

/// Settings by which librdkafka fetches: it does so itself where one of them is said.
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

/// Whether records are fetched here, by the settings that were said.
pub fn is_ours<'a>(mut settings: impl Iterator<Item = &'a (String, String)>) -> bool {
    settings.all(|(name, value)| match name.as_str() {
        "security.protocol" => value.eq_ignore_ascii_case("plaintext"),
        name => !OF_LIBRARY.iter().any(|prefix| name.starts_with(prefix)),
    })
}

/// One partition that is read.
struct Part {
    /// Tells it from the same partition read from elsewhere: answers to what was asked before are of no use.
    id: u64,
    topic: usize,
    number: i32,
    /// What is asked for next.
    offset: i64,
    leader: Option<i32>,
    /// Whether its offset is not there: the caller has to say what now.
    is_lost: bool,
}

/// What an answer has for one partition.
struct Set {
    part: u64,
    range: Range<usize>,
    /// The offset behind it; none where it holds no whole batch.
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

/// What waiting has brought.
pub enum News {
    /// Some broker has answered: there may be pieces.
    Answer,
    /// Nothing yet.
    Quiet,
    /// No broker can be reached.
    Away,
    /// Some offset is not there.
    Gap,
    /// librdkafka shall do it, because of this.
    Unfit(String),
}

/// A piece of an answer.
pub enum Piece<'a> {
    /// Records of a partition (topic and number), which may begin before what was asked for.
    Records((usize, i32), Records<'a>),
    /// All that came of a partition has been read.
    Read {
        /// Topic and number.
        of: (usize, i32),
        /// The offset read next, where it is another than before.
        next: Option<i64>,
        /// One behind the last offset that may be read.
        high: i64,
    },
    /// librdkafka shall do it, because of this.
    Unfit(String),
}

/// Fetches the records of some partitions.
pub struct Fetcher {
    client: Arc<Client>,
    /// The name that brokers are told.
    name: String,
    topics: Vec<String>,
    parts: Vec<Part>,
    ids: u64,
    brokers: BTreeMap<i32, Broker>,
    /// The parts that each broker has been asked for last.
    asked: BTreeMap<i32, Vec<u64>>,
    readings: VecDeque<Reading>,
    unpacked: Vec<u8>,
    /// Where the next request begins among the parts: none shall always be the last.
    turn: usize,
    look_at: Instant,
    unknown_since: Option<Instant>,
    waited_until: Instant,
    /// Since when something is wrong without any answer, and what.
    trouble: Option<(Instant, String)>,
}

impl Fetcher {
    /// Fetches nothing yet.
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

    /// Reads a partition from `offset` on, wherever it was read before.
    pub fn read(&mut self, (topic, number): (usize, i32), offset: i64) {
        let leader = self.leave((topic, number));
        self.ids += 1;
        self.parts.push(Part { id: self.ids, topic, number, offset, leader, is_lost: false });
    }

    /// Reads a partition no more; its leader, where that is known.
    pub fn leave(&mut self, of: (usize, i32)) -> Option<i32> {
        let at = self.parts.iter().position(|part| (part.topic, part.number) == of)?;
        self.parts.remove(at).leader
    }

    /// Whether it has anything to read.
    pub fn reads(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Since when something is wrong without any answer, and what.
    pub fn trouble(&self) -> Option<&(Instant, String)> {
        self.trouble.as_ref()
    }

    /// Waits for an answer, at most `timeout`; not at all while there are pieces.
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
            // Who leads is looked for by the next call, where that is due.
            let is_led = self.parts.iter().all(|part| part.leader.is_some());
            let until = if is_led { deadline } else { deadline.min(self.look_at) };
            if !quiet || now >= until {
                break Ok(if quiet { News::Quiet } else { News::Answer });
            }
            self.poll(until.saturating_duration_since(now));
            now = Instant::now();
        }
    }

    /// Waits until a broker has something to say, or can be told something.
    fn poll(&self, timeout: Duration) {
        let called = self.brokers.values().any(Broker::is_called);
        let timeout = if called { timeout.min(CALLED) } else { timeout };
        let mut interests: Vec<PollFd<'_>> = self.brokers.values().filter_map(Broker::interest).collect();
        let timeout = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
        // A signal ends it early, and that is as well.
        let _ = rustix::event::poll(&mut interests, Some(&timeout));
    }

    /// Goes on with one broker as far as it can.
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

    /// A connection is lost: somebody else may lead by now.
    fn lost(&mut self, id: i32, event: Event) -> News {
        if let Event::Lost(why) = event
            && self.forget_leader(id)
        {
            self.trouble.get_or_insert_with(|| (Instant::now(), String::new())).1 = why;
        }
        News::Quiet
    }

    /// Whether it led anything.
    fn forget_leader(&mut self, id: i32) -> bool {
        let led = self.parts.iter_mut().filter(|part| part.leader == Some(id));
        led.map(|part| part.leader = None).count() > 0
    }

    /// Asks a broker for what it leads, unless it has not answered yet.
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

    /// Takes in an answer, and asks for what follows it.
    fn take(&mut self, id: i32, answer: Answer, now: Instant) -> News {
        self.trouble = None;
        let sets = match wire::fetched(answer.body()) {
            Ok(Ok(fetched)) => self.sets(id, answer.body(), &fetched),
            Ok(Err(code)) => Err(format!("a broker answers with error {code}")),
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

    /// What an answer has for the parts that it was asked for and that are still read from there.
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
                    let why = format!("{}/{}: the broker answers with error {code}", topics[part.topic], part.number);
                    self.trouble.get_or_insert_with(|| (Instant::now(), why));
                }
                code => return Err(format!("a broker answers with error {code}")),
            }
        }
        Ok(sets)
    }

    /// Asks librdkafka who leads the parts of which that is not known; false where no broker can be asked.
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

    /// Learns who leads the partitions of a topic; whether it knows the topic.
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

    /// The next piece of what has come; none where more has to be waited for.
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
                        return Ok(Some(Piece::Unfit("records are packed in a way that is not known".into())));
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
