//! Brokers in memory: they speak the wire protocol, and their clock advances only while a caller waits.

use super::batch::AbortedTransaction;
pub use super::batch::tests::Attributes;
use super::batch::tests::{batch, body};
use super::broker::{Connected, Network, Stream};
use super::wire::LENGTH;
use super::{Fetcher, Leader, Leaders, Lookup};
use crate::address::Address;
use evt_core::error::Result;
use evt_core::parse::bytes::Cursor;
use evt_run::input::topic_id::TopicId;
use rustix::event::PollFd;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Maximum bytes per read of a connection, so that an answer arrives in pieces.
const PIECE: usize = 37;
const FETCH: i16 = 1;

/// A partition of a topic.
pub struct Log {
    /// Its leader; negative if it has none.
    pub leader: i32,
    /// Its first and its end offset.
    pub low: i64,
    pub high: i64,
    /// The answer of the leader instead of records.
    pub code: i16,
    /// Aborted transactions: producer and first offset.
    pub aborted: Vec<AbortedTransaction>,
    /// Batches, each with its last offset.
    batches: Vec<(i64, Vec<u8>)>,
}

impl Log {
    /// Makes an empty partition.
    pub fn new(leader: i32) -> Self {
        Self { leader, low: 0, high: 0, code: 0, aborted: vec![], batches: vec![] }
    }

    /// Changes a byte of the records of the last batch.
    pub fn corrupt(&mut self) {
        let (_, bytes) = self.batches.last_mut().unwrap();
        *bytes.last_mut().unwrap() ^= 1;
    }

    /// Appends one batch.
    pub fn append(&mut self, values: &[&str]) {
        let records: Vec<_> = (0..).zip(values).map(|(at, value)| (at, 0, Some(*value))).collect();
        self.append_batch(values.len(), Attributes::NONE, &records);
    }

    /// Appends a batch that takes `count` offsets. Records are (offset from the base, time, value).
    pub fn append_batch(&mut self, count: usize, attributes: Attributes, records: &[(i64, i64, Option<&str>)]) {
        let (last, held) = (i32::try_from(count).unwrap() - 1, i32::try_from(records.len()).unwrap());
        let bytes = batch(self.high, last, attributes, held, &body(records));
        self.high += count as i64;
        self.batches.push((self.high - 1, bytes));
    }
}

/// One broker.
#[derive(Default)]
pub struct FakeBroker {
    /// Whether it cannot be reached.
    pub is_down: bool,
    /// Whether it does not answer.
    pub is_silent: bool,
    /// Whether it is older than the requests.
    pub is_old: bool,
}

/// The state of the brokers.
pub struct State {
    pub now: Instant,
    pub brokers: BTreeMap<i32, FakeBroker>,
    pub logs: BTreeMap<i32, Log>,
    /// Whether the topic exists.
    pub is_known: bool,
    /// The id of the topic, if brokers support requests with it.
    pub topic_id: Option<TopicId>,
    /// The number of fetch requests so far.
    pub requests: usize,
}

/// Brokers with one topic, `t`.
#[derive(Clone)]
pub struct FakeKafka(Arc<Mutex<State>>);

impl FakeKafka {
    /// Makes brokers 1 and 2; each partition has one of them as its leader.
    pub fn new(leaders: &[i32]) -> Self {
        let brokers = [1, 2].map(|id| (id, FakeBroker::default())).into();
        let logs = (0..).zip(leaders.iter().map(|leader| Log::new(*leader))).collect();
        let state = State { now: Instant::now(), brokers, logs, is_known: true, topic_id: None, requests: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Changes a partition.
    pub fn log<T>(&self, number: i32, change: impl FnOnce(&mut Log) -> T) -> T {
        change(self.state().logs.get_mut(&number).unwrap())
    }

    pub fn fetcher(&self) -> Fetcher {
        Fetcher::new(&address(), "evt-test", Rc::new(self.clone()), Box::new(self.clone()))
    }
}

/// The address of the topic.
pub fn address() -> Address {
    Address::parse("//fake:9092/t", &Default::default()).unwrap()
}

impl Network for FakeKafka {
    fn now(&self) -> Instant {
        self.state().now
    }

    fn connect(&self, _: &str, port: u16) -> Receiver<Connected> {
        let (sender, receiver) = sync_channel(1);
        let broker = i32::from(port);
        let connected: Connected = match self.state().brokers[&broker].is_down {
            true => Err(ErrorKind::ConnectionRefused.into()),
            false => {
                Ok(Box::new(FakeStream { kafka: self.clone(), broker, request: vec![], answer: vec![], since: None }))
            }
        };
        sender.send(connected).unwrap();
        receiver
    }

    fn wait(&self, _: &mut [PollFd<'_>], timeout: Duration) {
        self.state().now += timeout.max(Duration::from_millis(1));
    }
}

impl Leaders for FakeKafka {
    fn look_up(&self, topic: &str) -> Result<Lookup> {
        let state = self.state();
        if state.brokers.values().all(|broker| broker.is_down) {
            return Ok(Lookup::Unreachable);
        }
        if topic != "t" || !state.is_known {
            return Ok(Lookup::UnknownTopic);
        }
        let leader = |(number, log): (&i32, &Log)| Leader {
            partition: *number,
            broker: log.leader,
            host: "fake".into(),
            port: u16::try_from(log.leader).unwrap(),
        };
        Ok(Lookup::Leaders(state.logs.iter().filter(|(_, log)| log.leader > 0).map(leader).collect()))
    }
}

/// A connection to a broker.
struct FakeStream {
    kafka: FakeKafka,
    broker: i32,
    request: Vec<u8>,
    answer: Vec<u8>,
    /// When the unanswered request arrived.
    since: Option<Instant>,
}

impl FakeStream {
    /// Answers the request if it is complete and its answer is due.
    fn serve(&mut self) {
        let Some(length) = self.request.first_chunk::<LENGTH>() else { return };
        let length = LENGTH + u32::from_be_bytes(*length) as usize;
        if self.request.len() < length || self.kafka.state().brokers[&self.broker].is_silent {
            return;
        }
        let [key, version] = [4, 6].map(|at| i16::from_be_bytes([self.request[at], self.request[at + 1]]));
        let body = match key {
            FETCH if version == 13 => self.fetch_by_id(),
            FETCH => self.fetch(),
            _ => Some(self.versions()),
        };
        let Some(body) = body else { return };
        self.answer.extend(u32::try_from(4 + body.len()).unwrap().to_be_bytes());
        self.answer.extend(&self.request[8..12]);
        self.answer.extend(body);
        self.request.clear();
        self.since = None;
    }

    fn versions(&self) -> Vec<u8> {
        let state = self.kafka.state();
        let newest = if state.topic_id.is_some() { 13_i16 } else { 11 };
        let last = if state.brokers[&self.broker].is_old { 10 } else { newest };
        let mut body = vec![0, 0, 0, 0, 0, 1];
        [FETCH, 4, last].iter().for_each(|number| body.extend(number.to_be_bytes()));
        body
    }

    /// Returns the answer to a fetch of one partition by id.
    fn fetch_by_id(&mut self) -> Option<Vec<u8>> {
        let state = self.kafka.state();
        // The id, the number of partitions, the partition, and four bytes of what is empty.
        let end = &self.request[self.request.len() - (16 + 1 + 33 + 4)..];
        let (id, rest) = (&end[..16], &end[17..]);
        let (number, offset) = (rest[..4].try_into().unwrap(), rest[8..16].try_into().unwrap());
        let (number, offset) = (i32::from_be_bytes(number), i64::from_be_bytes(offset));
        let log = &state.logs[&number];
        let is_known = state.topic_id.is_some_and(|known| known.as_ref() == id);
        let code: i16 = match log.code {
            _ if !is_known => 100,
            0 if offset > log.high => 1,
            code => code,
        };
        let batches = log.batches.iter().filter(|(last, _)| code == 0 && *last >= offset);
        let records: Vec<u8> = batches.flat_map(|(_, bytes)| bytes.clone()).collect();
        let since = *self.since.get_or_insert(state.now);
        if code == 0 && records.is_empty() && state.now < since + Duration::from_millis(500) {
            return None;
        }
        let mut body = vec![0; 11];
        body.push(2);
        body.extend(id);
        body.push(2);
        body.extend(number.to_be_bytes());
        body.extend(code.to_be_bytes());
        [log.high, log.high, log.low].iter().for_each(|offset| body.extend(offset.to_be_bytes()));
        body.push(0);
        body.extend((-1_i32).to_be_bytes());
        // The length and one, in two bytes.
        let length = records.len() + 1;
        body.extend([(length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
        body.extend(records);
        body.extend([0, 0, 0]);
        Some(body)
    }

    /// Returns the answer to a fetch: at once if it has news, else once the request's maximum wait has passed.
    fn fetch(&mut self) -> Option<Vec<u8>> {
        let mut state = self.kafka.state();
        let mut cursor = Cursor::new(&self.request[12..]);
        let client: i16 = cursor.be().unwrap();
        cursor.take(client as usize).unwrap();
        let (_replica, wait) = (cursor.be::<i32>(), cursor.be::<i32>().unwrap());
        cursor.take(4 + 4 + 1 + 4 + 4).unwrap();
        assert_eq!((cursor.be::<i32>(), cursor.be::<i16>()), (Some(1), Some(1)), "one topic with a name of one byte");
        assert_eq!(cursor.take(1), Some(b"t".as_slice()));
        let (mut partitions, mut has_changes) = (vec![], false);
        let count: i32 = cursor.be().unwrap();
        for _ in 0..count {
            let (number, _epoch) = (cursor.be().unwrap(), cursor.be::<i32>());
            let offset: i64 = cursor.be().unwrap();
            cursor.take(8 + 4).unwrap();
            let log = &state.logs[&number];
            let code = match log.code {
                0 if log.leader != self.broker => 6,
                0 if offset < log.low || offset > log.high => 1,
                code => code,
            };
            let records: Vec<u8> = match code {
                0 => log
                    .batches
                    .iter()
                    .filter(|(last, _)| *last >= offset)
                    .flat_map(|(_, bytes)| bytes.clone())
                    .collect(),
                _ => vec![],
            };
            has_changes |= code != 0 || !records.is_empty();
            partitions.extend(number.to_be_bytes());
            partitions.extend(code.to_be_bytes());
            [log.high, log.high, log.low].iter().for_each(|offset| partitions.extend(offset.to_be_bytes()));
            partitions.extend(u32::try_from(log.aborted.len()).unwrap().to_be_bytes());
            for AbortedTransaction { first, producer } in &log.aborted {
                partitions.extend(producer.to_be_bytes());
                partitions.extend(first.to_be_bytes());
            }
            partitions.extend((-1_i32).to_be_bytes());
            partitions.extend(u32::try_from(records.len()).unwrap().to_be_bytes());
            partitions.extend(records);
        }
        let now = state.now;
        if self.since.is_none() {
            state.requests += 1;
        }
        let since = *self.since.get_or_insert(now);
        if !has_changes && now < since + Duration::from_millis(u64::try_from(wait).unwrap()) {
            return None;
        }
        let mut body = vec![0; 10];
        body.extend(1_i32.to_be_bytes());
        body.extend([0, 1, b't']);
        body.extend(count.to_be_bytes());
        body.extend(partitions);
        Some(body)
    }
}

impl Read for FakeStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.kafka.state().brokers[&self.broker].is_down {
            return Ok(0);
        }
        if self.answer.is_empty() {
            self.serve();
        }
        let count = self.answer.len().min(bytes.len()).min(PIECE);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        bytes[..count].copy_from_slice(&self.answer[..count]);
        self.answer.drain(..count);
        Ok(count)
    }
}

impl Write for FakeStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE);
        self.request.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for FakeStream {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
