//! Feeds the run with the records of the fetcher.

use super::batch::{Record, Records};
use super::{Fetcher, News, Piece, is_ours};
use crate::error::{Error, ErrorKind, Result};
use crate::ingest::Ingest;
use crate::input::Step;
use crate::kafka::client::{self, Client};
use crate::kafka::health;
use crate::kafka::input::KafkaInput;
use crate::kafka::range;
use crate::kafka::records::{Message, Reading};
use crate::run::Run;
use crate::uri::kafka::Address;
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::TopicPartitionList;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Number of records after which a step ends; a batch that was begun is read to its end.
const RECORDS: usize = 1024;

/// Number of polls of librdkafka's queue per step. A poll may return nothing although further events wait.
const WORDS: usize = 8;

impl Fetcher {
    /// Makes the fetcher of a client; `None` if its settings leave fetching to librdkafka.
    pub fn of(client: &Arc<Client>, address: &Address, run: &Run) -> Option<Self> {
        let settings = || run.kafka.iter().chain(&address.options.settings);
        let name = settings().rev().find(|(name, _)| name == "client.id").map(|(_, value)| value.as_str());
        is_ours(settings()).then(|| Self::new(client.clone(), name.unwrap_or(run.console.tool()), &address.topics))
    }
}

impl KafkaInput {
    /// Fetches these partitions, which are assigned in librdkafka, from these offsets on.
    pub(crate) fn fetch_from(&mut self, list: &TopicPartitionList) -> Result<()> {
        let Some(fetcher) = &mut self.fetcher else { return Ok(()) };
        let paused = self.client.pause(list);
        paused.map_err(|error| client::failed(&self.address, "a partition cannot be paused", &error))?;
        for element in list.elements() {
            let topic = self.address.topics.iter().position(|topic| topic == element.topic());
            if let (Some(topic), Offset::Offset(offset)) = (topic, element.offset()) {
                fetcher.read((topic, element.partition()), offset);
            }
        }
        Ok(())
    }

    /// Reads one step of what has been fetched.
    pub(crate) fn fetch(&mut self, ingest: &mut Ingest) -> Result<Step> {
        self.hear(ingest)?;
        if self.reported_down && !self.is_fetching() {
            self.reported_down = false;
            self.health.trouble(&self.address, &self.run, Code::AllBrokersDown);
        }
        let Some(fetcher) = &mut self.fetcher else { return Ok(Step::More) };
        let start = Instant::now();
        let news = fetcher.wait(if ingest.has_rows() { Run::LINGER } else { Run::TICK });
        self.run.metrics.blocked("input", start.elapsed());
        match news.map_err(|error| client::failed(&self.address, "reading failed", &error))? {
            News::Answer => {
                self.reported_down = false;
                self.health.good(&self.address, &self.run);
                self.take_pieces(ingest)?;
            }
            News::Gap => self.look_for_gaps(ingest)?,
            News::Unfit(why) => self.leave_to_library(&why)?,
            News::Quiet => {
                self.check_health()?;
                return Ok(Step::Idle);
            }
            News::Away => {
                self.health.trouble(&self.address, &self.run, Code::AllBrokersDown);
                self.check_health()?;
                return Ok(Step::Idle);
            }
        }
        Ok(Step::More)
    }

    /// Handles librdkafka's events: it keeps the group. Its transient errors are ignored while the fetcher reads, because the
    /// fetcher's own connections tell more.
    fn hear(&mut self, ingest: &mut Ingest) -> Result<()> {
        let reads = self.is_fetching();
        for _ in 0..WORDS {
            // A message was fetched before the partition was paused.
            let Some(Err(error)) = self.client.clone().poll(Duration::ZERO) else { continue };
            let code = error.rdkafka_error_code();
            self.reported_down |= reads && code == Some(Code::AllBrokersDown);
            let is_ours = |code: Code| reads && client::is_passing(code) || code == Code::AutoOffsetReset;
            if !matches!(error, KafkaError::PartitionEOF(_)) && !code.is_some_and(is_ours) {
                self.trouble(&error, ingest)?;
            }
        }
        Ok(())
    }

    /// Whether the fetcher reads any partition. Then its connections decide whether brokers are reachable.
    pub(crate) fn is_fetching(&self) -> bool {
        self.fetcher.as_ref().is_some_and(Fetcher::reads)
    }

    /// Checks how long brokers have not answered. Errors: exit status 69 if they have been unreachable, or silent, for `wait=`.
    fn check_health(&self) -> Result<()> {
        self.health.check(&self.address, self.client.context())?;
        // An outage has its own message.
        let trouble = self.fetcher.as_ref().and_then(Fetcher::trouble).filter(|_| self.health.is_good());
        let limit = self.address.options.wait.limit(true);
        match trouble.filter(|(since, _)| limit.is_some_and(|limit| since.elapsed() >= limit)) {
            None => Ok(()),
            Some((since, why)) => {
                let message = format!("{}: no response for {}", self.address, health::whole_seconds(since.elapsed()));
                Err(Error::new(ErrorKind::Unavailable, message).because(why))
            }
        }
    }

    /// Reads pieces of answers, up to about [`RECORDS`] records.
    fn take_pieces(&mut self, ingest: &mut Ingest) -> Result<()> {
        let mut taken = 0;
        while taken < RECORDS {
            let Some(fetcher) = &mut self.fetcher else { break };
            let done = match fetcher.piece()? {
                None => break,
                Some(Piece::Unfit(why)) => return self.leave_to_library(&why),
                Some(Piece::Read { of, next, high }) => {
                    self.reading.find(of).filter(|at| self.reading.read_to(*at, (next, high)))
                }
                Some(Piece::Records(of, records)) => {
                    taken += records.left();
                    let Some(at) = self.reading.find(of) else { continue };
                    let topics = self.address.topics.as_slice();
                    take_records(&mut self.reading, at, records, topics, ingest)?.then_some(at)
                }
            };
            if let Some(at) = done {
                self.end(at, ingest)?;
            }
        }
        Ok(())
    }

    /// Drops the fetcher: librdkafka fetches from here on.
    fn leave_to_library(&mut self, why: &str) -> Result<()> {
        self.run.console.say(format!("{}: {why}; librdkafka fetches from now on", self.address));
        self.fetcher = None;
        let mut list = TopicPartitionList::new();
        for part in self.reading.parts.iter().filter(|part| !part.ended && !self.waiting.contains(&part.topic)) {
            range::add(&mut list, &self.address.topics[part.topic], (part.number, part.next))?;
        }
        self.begin_again(&list)?;
        let resumed = self.client.resume(&list);
        resumed.map_err(|error| client::failed(&self.address, "partitions cannot be read on", &error))
    }
}

/// Takes the records of a batch into part `at`; returns whether the part is at its end.
fn take_records(
    reading: &mut Reading,
    at: usize,
    records: Records<'_>,
    topics: &[String],
    ingest: &mut Ingest,
) -> Result<bool> {
    for record in records {
        let record = record.map_err(|error| {
            let part = &reading.parts[at];
            error.at(format!("{}/{}", topics[part.topic], part.number))
        })?;
        let Record { offset, key, value, headers, .. } = &record;
        let arrival = Message::arrival((record.time, record.is_fact));
        let message = Message { offset: *offset, key: *key, value: *value, headers, arrival };
        if reading.take(at, &message, topics, ingest)? {
            return Ok(true);
        }
    }
    Ok(false)
}
