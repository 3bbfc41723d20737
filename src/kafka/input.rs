//! Topics as input: each topic partition is one partition of the pipeline, with Kafka's offsets.
//!
//! A bounded read (evt-view) takes a range that is fixed when the run begins; it joins no group and commits nothing. Other
//! tools read on, or up to `end=`. An offset that no longer exists is never skipped silently: it ends the run, or is reported.

use super::client::{self, Client};
use super::group::{self, Membership, Offsets, claim, commit_interval};
use super::health::Health;
use super::position;
use super::range::{self, Part, Role};
use super::records::{self, Borrowed, Framed, Reading, Records};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Progress;
use crate::ingest::{ByteProgress, Ingest};
use crate::input::Step;
use crate::kafka::fetch::Fetcher;
use crate::registry::place;
use crate::run::Run;
use crate::uri::kafka::{Address, Form};
use rdkafka::consumer::{Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::TopicPartitionList;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum number of messages per step.
const MESSAGES: usize = 1024;
/// Messages are dropped in groups of at most this many payload bytes. librdkafka's thread allocated their memory: dropping them
/// one by one makes both threads contend for one lock, which costs a seventh of all CPU time.
const HELD_BYTES: usize = 1 << 20;

/// An open input.
pub struct KafkaInput {
    pub(crate) run: Rc<Run>,
    pub(crate) address: Address,
    pub(crate) client: Arc<Client>,
    pub(super) role: Role,
    origin: Option<String>,
    pub(crate) reading: Reading,
    /// The number of partitions of each topic when the run began.
    pub(super) counts: Vec<usize>,
    /// Topics to be read later. A bounded run reads one topic at a time, because librdkafka's end-of-partition event does not
    /// name the topic.
    pub(crate) waiting: Vec<usize>,
    /// Fetches records; `None` if librdkafka fetches them.
    pub(crate) fetcher: Option<Fetcher>,
    pub(super) group: Option<Membership>,
    pub(crate) health: Health,
    /// Whether librdkafka has reported all brokers down and no fetched record has arrived since. librdkafka reports an outage
    /// once; for a group member whose partitions are revoked during the outage this is the only sign of it.
    pub(crate) reported_down: bool,
}

impl KafkaInput {
    /// Checks that the topics can be read and their schemas be loaded, and returns the faults; joins, reads and commits
    /// nothing.
    pub fn check(address: &Address, run: &Rc<Run>) -> Result<Vec<Error>> {
        if let Some(schemas) = &address.options.schemas {
            place::check(schemas, &run.console)?;
            records::wire(address, run)?;
        }
        let (client, mut faults) = (client(address, run)?, vec![]);
        for at in 0..address.topics.len() {
            match range::parts_of(&client, address, run, at) {
                Ok(_) => {}
                // Unreachable brokers would fail every other topic too.
                Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
                Err(error) => faults.push(error),
            }
        }
        Ok(faults)
    }

    /// Opens the topics: resolves the range of every partition and announces the partitions to the stamper.
    pub fn open(
        address: &Address,
        (role, offsets): (Role, Offsets),
        origin: Option<&str>,
        run: &Rc<Run>,
        ingest: &mut Ingest,
    ) -> Result<Self> {
        if origin.is_some() && address.topics.len() > 1 {
            return Err(Error::usage(format!(
                "{address}: --origin requires one topic, because partitions of several topics would have the same name"
            )));
        }
        let client = Arc::new(client(address, run)?);
        let options = &address.options;
        let wire = records::wire(address, run)?;
        let commits = offsets != Offsets::Kept && role == Role::Works && options.group.is_some();
        let whole = options.partitions.is_none() && options.end.is_none() && options.form != Some(Form::Frames);
        let subscribes = commits && offsets == Offsets::Shared && whole;
        let mut parts = range::parts(&client, address, run)?;
        let count = |topic| parts.iter().filter(|part| part.topic == topic).count();
        let counts = (0..address.topics.len()).map(count).collect();
        let mut group = commits.then(|| Membership::new(subscribes, commit_interval(address, run)));
        match &mut group {
            Some(group) if !subscribes => claim(&client, address, run, (group, &mut parts))?,
            Some(_) => {}
            None => range::resolve(&client, address, run, (role, &mut parts))?,
        }
        let mut input = Self {
            run: run.clone(),
            health: Health::new(address.options.wait),
            reported_down: false,
            address: address.clone(),
            fetcher: Fetcher::of(&client, address, run),
            client,
            role,
            origin: origin.map(str::to_owned),
            reading: Reading::new(parts, Records::new(address.options.form.unwrap_or_default(), wire)),
            counts,
            waiting: vec![],
            group,
        };
        if subscribes {
            input.reading.parts.clear();
            group::subscribe(&input.client, address)?;
        } else {
            input.announce(ingest);
            input.tell_of_empty();
            input.begin(ingest)?;
        }
        input.tell_of_commits();
        input.client.context().begin();
        Ok(input)
    }

    /// Announces every partition, with its committed stream time.
    fn announce(&mut self, ingest: &mut Ingest) {
        for at in 0..self.reading.parts.len() {
            self.reading.parts[at].stamp = self.announce_one(&self.reading.parts[at], ingest);
        }
    }

    /// Announces a partition with its committed stream time; returns its index in the run's stamper.
    pub(super) fn announce_one(&self, part: &Part, ingest: &mut Ingest) -> u32 {
        let origin = self.origin.as_deref().unwrap_or(&self.address.topics[part.topic]);
        let stamp = self.reading.records.announce(&mut ingest.stamper, origin, part.number);
        ingest.stamper.resume(stamp, part.stream_time);
        stamp
    }

    /// Reports that nothing is committed, if the user named a group.
    fn tell_of_commits(&self) {
        let Self { address, run, .. } = self;
        match (&address.options.group, self.role) {
            (_, Role::Looks | Role::Follows) | (None, _) => {}
            (Some(_), _) if self.group.is_some() => {}
            (Some(group), _) => run.console.say(format!(
                "{address}: group {group} commits nothing, because of a pipe or state; a restart reads the records again"
            )),
        }
    }

    /// Begins to read: all topics at once, or the first one if there is an end.
    fn begin(&mut self, ingest: &mut Ingest) -> Result<()> {
        let bounded = self.reading.parts.iter().any(|part| part.end.is_some());
        self.waiting = if bounded { (1..self.address.topics.len()).rev().collect() } else { vec![] };
        for at in 0..self.reading.parts.len() {
            if self.reading.parts[at].is_done() {
                self.reading.parts[at].ended = true;
                ingest.stamper.end_one(self.reading.parts[at].stamp);
            }
        }
        self.assign(if bounded { Some(0) } else { None })
    }

    /// Assigns the parts of a topic, or of all, from their next offset on.
    fn assign(&mut self, topic: Option<usize>) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for part in
            self.reading.parts.iter().filter(|part| !part.ended && topic.is_none_or(|topic| part.topic == topic))
        {
            range::add(&mut list, &self.address.topics[part.topic], (part.number, part.next))?;
        }
        let assigned = self.client.assign(&list);
        assigned.map_err(|error| client::failed(&self.address, "partitions cannot be read", &error))?;
        self.fetch_from(&list)
    }

    /// Returns the number of payload bytes read so far.
    pub fn extent(&self) -> ByteProgress {
        ByteProgress { done: self.reading.bytes, total: None }
    }

    /// Returns its address, for messages.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Whether it has no end.
    pub fn is_endless(&self) -> bool {
        self.is_subscribed() || self.reading.parts.iter().any(|part| part.end.is_none())
    }

    /// Whether the group assigns the partitions.
    pub(super) fn is_subscribed(&self) -> bool {
        self.group.as_ref().is_some_and(Membership::is_subscribed)
    }

    /// Whether the messages are frames, whose rows already have stamps.
    pub fn is_framed(&self) -> bool {
        self.address.options.form == Some(Form::Frames)
    }

    /// Takes the next item of the frames read, and whether all partitions of their writers are known.
    pub fn framed(&mut self) -> Option<(Framed, bool)> {
        let framed = self.reading.records.pop()?;
        Some((framed, self.reading.records.is_complete(&self.reading.parts)))
    }

    /// Returns all partitions that frames announced, as ended, and the worst exit verdict of their writers.
    pub fn framed_end(&self) -> (Progress, u8) {
        (self.reading.records.ended(), self.reading.records.verdict())
    }

    /// Reads one step: at most about `MESSAGES` records or [`Run::TICK`] of waiting.
    pub fn read(&mut self, ingest: &mut Ingest) -> Result<Step> {
        if self.run.stop.signal().is_some() {
            return Ok(Step::Stopped);
        }
        self.watch(ingest)?;
        if self.follow_group(ingest)? {
            return Ok(Step::More);
        }
        if let Some(step) = self.next_topic()? {
            return Ok(step);
        }
        ingest.look_at_clock();
        if self.fetcher.is_some() { self.fetch(ingest) } else { self.poll(ingest) }
    }

    /// Takes messages from librdkafka's queue.
    fn poll(&mut self, ingest: &mut Ingest) -> Result<Step> {
        let start = Instant::now();
        let mut timeout = if ingest.has_rows() { Run::LINGER } else { Run::TICK };
        let client = self.client.clone();
        let (mut held, mut held_bytes) = (Vec::with_capacity(MESSAGES), 0);
        for taken in 0..MESSAGES {
            let polled = client.poll(timeout);
            if taken == 0 {
                self.run.metrics.blocked("input", start.elapsed());
            }
            match polled {
                Some(Ok(message)) => {
                    self.health.good(&self.address, &self.run);
                    if let Some(at) = self.part_of(&message)
                        && self.reading.take(at, &Borrowed(&message).message(), &self.address.topics, ingest)?
                    {
                        self.end(at, ingest)?;
                    }
                    held_bytes += message.payload_len();
                    held.push(message);
                    if held_bytes >= HELD_BYTES {
                        held.clear();
                        held_bytes = 0;
                    }
                }
                Some(Err(error)) => self.trouble(&error, ingest)?,
                None if taken == 0 => {
                    self.health.check(&self.address, self.client.context())?;
                    return Ok(Step::Idle);
                }
                None => break,
            }
            if taken % 64 == 0 && start.elapsed() >= Run::LINGER {
                break;
            }
            timeout = Duration::ZERO;
        }
        Ok(Step::More)
    }

    /// Returns the index of the part that a message belongs to, if it is being read.
    fn part_of(&mut self, message: &BorrowedMessage<'_>) -> Option<usize> {
        let topic = match self.address.topics.as_slice() {
            [_] => 0,
            topics => topics.iter().position(|topic| topic == message.topic())?,
        };
        self.reading.find((topic, message.partition()))
    }

    /// Begins the next topic, or returns the end, once all parts being read have ended.
    fn next_topic(&mut self) -> Result<Option<Step>> {
        if self.is_subscribed() {
            return Ok(None);
        }
        loop {
            let reading = |topic: &usize| !self.waiting.contains(topic);
            if self.reading.parts.iter().any(|part| !part.ended && reading(&part.topic)) {
                return Ok(None);
            }
            match self.waiting.pop() {
                None => return Ok(Some(Step::End)),
                Some(topic) => self.assign(Some(topic))?,
            }
        }
    }

    /// Ends a part: it no longer takes part in the minimum that makes the watermark.
    pub(crate) fn end(&mut self, at: usize, ingest: &mut Ingest) -> Result<()> {
        let part = &mut self.reading.parts[at];
        if std::mem::replace(&mut part.ended, true) {
            return Ok(());
        }
        let (stamp, number, topic) = (part.stamp, part.number, part.topic);
        ingest.drain_one(stamp)?;
        ingest.flush()?;
        ingest.stamper.end_one(stamp);
        if let Some(fetcher) = &mut self.fetcher {
            fetcher.leave((topic, number));
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.address.topics[topic], number);
        self.client.pause(&list).map_err(|error| client::failed(&self.address, "a partition cannot be paused", &error))
    }

    /// Handles an error that polling returned; an end of partition is one of them.
    pub(crate) fn trouble(&mut self, error: &KafkaError, ingest: &mut Ingest) -> Result<()> {
        let code = match error {
            KafkaError::PartitionEOF(number) => return self.at_end(*number, ingest),
            error => error.rdkafka_error_code().unwrap_or(Code::Unknown),
        };
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange => self.look_for_gaps(ingest),
            // This run neither joins the group nor commits.
            Code::GroupAuthorizationFailed if self.group.is_none() => Ok(()),
            Code::PollExceeded => {
                self.run
                    .console
                    .say(format!("{}: outputs exceeded max.poll.interval.ms; rejoining the group", self.address));
                Ok(())
            }
            code if client::is_passing(code) => {
                self.client.context().distrust();
                self.health.trouble(&self.address, &self.run, code);
                self.health.check(&self.address, self.client.context())
            }
            _ => Err(client::failed(&self.address, "reading failed", error)),
        }
    }

    /// Ends the part with this number of the topic being read: it has reached its present end.
    fn at_end(&mut self, number: i32, ingest: &mut Ingest) -> Result<()> {
        let reading = |part: &Part| part.end.is_some() && !self.waiting.contains(&part.topic) && !part.ended;
        match self.reading.parts.iter().position(|part| part.number == number && reading(part)) {
            Some(at) => self.end(at, ingest),
            None => Ok(()),
        }
    }

    /// Handles an offset that no longer exists: librdkafka has stopped reading there and does not say in which partition, so
    /// that all parts are checked.
    pub(crate) fn look_for_gaps(&mut self, ingest: &mut Ingest) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for at in 0..self.reading.parts.len() {
            let part = &self.reading.parts[at];
            if part.ended || self.waiting.contains(&part.topic) {
                continue;
            }
            let (name, number, stamp) = (&self.address.topics[part.topic], part.number, part.stamp);
            let extent = range::extent(&self.client, &self.address, &self.run, part)?;
            if let Some(gap) = position::gap(part.next, extent) {
                range::settle_gap((&self.address, &self.run), (name, number), gap)?;
                (self.reading.parts[at].next, self.reading.parts[at].extent) = (gap.found, extent);
                if gap.begins_anew() {
                    ingest.drain_one(stamp)?;
                    ingest.flush()?;
                    ingest.stamper.resume(stamp, None);
                }
            }
            range::add(&mut list, name, (number, self.reading.parts[at].next))?;
        }
        self.begin_again(&list)
    }

    /// Reads partitions from new offsets. librdkafka rejects a seek on a partition that it has stopped reading, so they are
    /// assigned again.
    pub(crate) fn begin_again(&mut self, list: &TopicPartitionList) -> Result<()> {
        if self.fetcher.is_some() {
            return self.fetch_from(list);
        }
        let assigned = match self.client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                self.client.incremental_unassign(list).and_then(|()| self.client.incremental_assign(list))
            }
            _ => self.client.assign(list),
        };
        assigned.map_err(|error| client::failed(&self.address, "partitions cannot be read on", &error))
    }
}

fn client(address: &Address, run: &Run) -> Result<Client> {
    // librdkafka needs a group id even if the consumer never joins the group.
    let group = address.options.group.as_deref().unwrap_or("evt");
    let settings = [
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
        // Records of aborted transactions must not be read.
        ("isolation.level", "read_committed"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        // Bounds the memory of librdkafka's queue behind a slow reader.
        ("queued.min.messages", "20000"),
        ("queued.max.messages.kbytes", "16384"),
        // The reader empties a full queue in milliseconds; librdkafka's default would pause fetching for one second.
        ("fetch.queue.backoff.ms", "5"),
    ];
    client::create(&client::config(address, run, &settings), address)
}

/// Makes the error of an endless input that is followed by another one. Exit status 2.
#[cold]
pub fn endless(name: &str) -> Error {
    Error::new(
        ErrorKind::Usage,
        format!("{name}: it has no end, so the next input is never read; set end=latest or name all topics in one URI"),
    )
}
