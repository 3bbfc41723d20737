//! librdkafka as [`Cluster`] and as [`RecordSource`].

use super::client::ids::TopicIds;
use super::client::{self, Context, Topics};
use super::fetch::broker::Tcp;
use super::fetch::source::FetchSource;
use super::fetch::{self, Fetcher, Leader, Leaders, Lookup};
use super::group::{CommitMode, TopicOptions};
use super::position::{OffsetSpan, PartitionId, Position};
use super::produce::shared::SharedProducer;
use super::source::{Cluster, Message, RECORDS_PER_POLL, RecordSink, RecordSource, SourceEvent};
use crate::address::Address;
use evt_core::error::{Error, Result, guarded};
use evt_core::kind::headers::Headers;
use evt_run::input::topic_id::TopicId;
use evt_run::run::Run;
use evt_run::stop::STOP_CHECK_INTERVAL;
use evt_run::thread;
use rdkafka::consumer::{BaseConsumer, CommitMode as CommitCall, Consumer, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{Headers as _, OwnedMessage};
use rdkafka::topic_partition_list::{TopicPartitionList, TopicPartitionListElem};
use rdkafka::{Message as LibraryMessage, Offset, Timestamp};
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Messages are dropped in groups of at most this many payload bytes. librdkafka's thread allocated their memory:
/// dropping them one by one makes both threads contend for one lock, which costs a seventh of all CPU time.
const HELD_BYTES: usize = 1 << 20;
/// Timeout of leaving the group.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Times that a commit is sent again to a coordinator that loads the offsets of its groups, and the time between them.
const COMMIT_RETRIES: u32 = 100;
const COMMIT_BACKOFF: Duration = Duration::from_millis(100);
/// Timeout of one look-up of leaders, or of an extent.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Isolation level: no records of open and aborted transactions are read.
const READ_COMMITTED: &str = "read_committed";
/// Isolation level: all records are read.
const READ_UNCOMMITTED: &str = "read_uncommitted";

/// The connections of an input.
pub struct Connections {
    /// Offsets, the group, statistics.
    pub cluster: Rc<dyn Cluster>,
    /// Records.
    pub source: Box<dyn RecordSource>,
}

impl Connections {
    /// Makes a consumer of librdkafka. Records are fetched without it, unless the settings concern fetching or the
    /// connection.
    pub fn new(topics: &Topics, options: &TopicOptions) -> Result<Self> {
        let Topics { address, run } = topics;
        let mut cluster = LibraryCluster::with_statistics(topics, options.statistics_interval())?;
        if let CommitMode::Transactions(producer) = &options.commit_mode {
            cluster.transactions = Some(producer.clone());
        }
        let cluster = Rc::new(cluster);
        let mut source: Box<dyn RecordSource> = Box::new(cluster.source());
        if fetch::is_supported(client::settings(address, run)) {
            let client_id = client::setting(address, run, "client.id").unwrap_or(run.console.tool());
            let fetcher = Fetcher::new(address, client_id, cluster.clone(), Box::new(Tcp));
            source = Box::new(FetchSource::new(fetcher, source));
        }
        Ok(Self { cluster, source })
    }
}

/// Returns the source of all records, also of those in transactions that are open or were aborted.
pub fn uncommitted_source(topics: &Topics) -> Result<Box<dyn RecordSource>> {
    Ok(Box::new(source(consumer(topics, "0", READ_UNCOMMITTED)?, topics)))
}

/// Makes a consumer that notes statistics at this interval (ms).
fn consumer(topics: &Topics, statistics: &str, isolation: &str) -> Result<Arc<BaseConsumer<Context>>> {
    // librdkafka needs a group id even if the consumer never joins the group.
    let group = topics.address.options.group.as_deref().unwrap_or("evt");
    let client = topics.create(&[
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
        ("statistics.interval.ms", statistics),
        ("isolation.level", isolation),
        ("partition.assignment.strategy", "cooperative-sticky"),
        // Bounds the memory of librdkafka's queue behind a slow reader.
        ("queued.min.messages", "20000"),
        ("queued.max.messages.kbytes", "16384"),
        // The reader empties a full queue in milliseconds; librdkafka's default would pause fetching for one second.
        ("fetch.queue.backoff.ms", "5"),
    ])?;
    Ok(Arc::new(client))
}

fn source(client: Arc<BaseConsumer<Context>>, topics: &Topics) -> LibrarySource {
    LibrarySource { client, topics: topics.clone(), waited: None, is_quiet: false }
}

/// A consumer of librdkafka.
pub struct LibraryCluster {
    client: Arc<BaseConsumer<Context>>,
    /// The consumer that sees the records of open transactions, too, so that it knows where partitions end.
    uncommitted: OnceCell<Arc<BaseConsumer<Context>>>,
    topics: Topics,
    /// The producer whose transactions have the offsets, if there is one.
    transactions: Option<Rc<SharedProducer>>,
    /// The client that asks for these ids while records are read.
    topic_ids: RefCell<Option<TopicIds>>,
}

impl LibraryCluster {
    /// Makes a consumer; it connects with the first request.
    pub fn new(topics: &Topics) -> Result<Self> {
        Self::with_statistics(topics, TopicOptions::default().statistics_interval())
    }

    /// Makes a consumer that notes statistics at this interval (ms).
    fn with_statistics(topics: &Topics, interval: &str) -> Result<Self> {
        let (client, topics) = (consumer(topics, interval, READ_COMMITTED)?, topics.clone());
        let (uncommitted, topic_ids) = (OnceCell::new(), RefCell::default());
        Ok(Self { client, uncommitted, topics, transactions: None, topic_ids })
    }

    /// Returns the source of its records.
    pub fn source(&self) -> LibrarySource {
        source(self.client.clone(), &self.topics)
    }

    /// Repeats a request of the consumer that sees the records of open transactions, until brokers answer.
    fn request_uncommitted<T>(
        &self,
        question: impl Fn(&BaseConsumer<Context>, Duration) -> KafkaResult<T>,
    ) -> Result<T> {
        if self.uncommitted.get().is_none() {
            _ = self.uncommitted.set(consumer(&self.topics, "0", READ_UNCOMMITTED)?);
        }
        let Some(client) = self.uncommitted.get() else { return Err(Error::broken("a consumer that was not kept")) };
        let has_begun = self.context().notes(|notes| notes.has_begun);
        client.context().notes(|notes| notes.has_begun = has_begun);
        let limit = self.topics.address.options.wait.limit(has_begun);
        let drain = || client::queued_errors(client);
        self.topics.request(client.context(), limit, drain, |timeout| question(client, timeout))
    }

    /// Repeats a request until brokers answer.
    fn request<T>(&self, question: impl Fn(Duration) -> KafkaResult<T>) -> Result<T> {
        let limit = self.topics.address.options.wait.limit(self.context().notes(|notes| notes.has_begun));
        self.topics.request(self.context(), limit, || client::queued_errors(&self.client), question)
    }

    /// Commits positions in the open transaction of the outputs. Errors: exit status 75 if this member has lost its
    /// partitions.
    fn commit_in(&self, transactions: &SharedProducer, positions: &[Position]) -> Result<()> {
        let list = list_of(&self.topics, positions)?;
        let group = self.client.group_metadata().ok_or_else(|| Error::broken("a consumer without a group"))?;
        // A consumer that is not a member has metadata that brokers do not check. When the consumer is removed from the
        // group, it drops its membership and notes the loss at once. So if no loss is noted, the metadata is that of
        // the member to which the partitions were assigned.
        if self.client.assignment_lost() {
            let message = format!("{}: the group has removed this member", self.topics.address);
            return Err(Error::fenced(message));
        }
        transactions.commit(list, group)
    }

    /// Returns the elements of a list that have a real offset.
    fn positions(&self, list: &TopicPartitionList) -> Vec<Position> {
        let position = |element: &TopicPartitionListElem<'_>| {
            let Offset::Offset(offset) = element.offset() else { return None };
            let id = self.context().partition(element.topic(), element.partition())?;
            Some(Position::new(id, offset).with_metadata(element.metadata()))
        };
        list.elements().iter().filter_map(position).collect()
    }
}

impl Cluster for LibraryCluster {
    fn context(&self) -> &Context {
        self.client.context()
    }

    fn partition_count(&self, topic: usize) -> Result<Option<i32>> {
        let name = self.topics.name(topic);
        self.request(|timeout| client::count(self.client.client(), name, timeout))
    }

    fn extent(&self, id: PartitionId) -> Result<OffsetSpan> {
        let name = self.topics.name(id.topic);
        let found = self.request_uncommitted(|client, timeout| {
            let found = client.fetch_watermarks(name, id.number, timeout);
            if found.as_ref().is_err_and(|error| error.rdkafka_error_code() == Some(Code::UnknownPartition)) {
                // This client keeps the number of partitions for minutes: it reads none, which would renew it.
                client.fetch_metadata(Some(name), timeout)?;
                return client.fetch_watermarks(name, id.number, timeout);
            }
            found
        });
        found.map(|(low, high)| OffsetSpan { low, high })
    }

    fn stable_end(&self, id: PartitionId) -> Result<i64> {
        let name = self.topics.name(id.topic);
        let (_, end) = self.request(|timeout| self.client.fetch_watermarks(name, id.number, timeout))?;
        Ok(end)
    }

    fn stable_end_now(&self, id: PartitionId) -> Option<i64> {
        let found = self.client.fetch_watermarks(self.topics.name(id.topic), id.number, LOOKUP_TIMEOUT);
        found.ok().map(|(_, end)| end)
    }

    fn topic_ids(&self) -> Result<Vec<Option<TopicId>>> {
        TopicIds::new(&self.topics)?.wait(self.context().notes(|notes| notes.has_begun))
    }

    fn topic_ids_now(&self) -> Option<Vec<Option<TopicId>>> {
        let mut client = self.topic_ids.borrow_mut();
        if client.is_none() {
            // Settings that were accepted when the run began are accepted now.
            *client = TopicIds::new(&self.topics).ok();
        }
        client.as_ref()?.ask()
    }

    fn offsets_at(&self, partitions: &[PartitionId], millis: i64) -> Result<Vec<Position>> {
        let position = |id: &PartitionId| Position::new(*id, millis);
        let list = list_of(&self.topics, &partitions.iter().map(position).collect::<Vec<_>>())?;
        let answer = self.request_uncommitted(|client, timeout| client.offsets_for_times(list.clone(), timeout))?;
        Ok(self.positions(&answer))
    }

    fn committed(&self, partitions: &[PartitionId]) -> Result<Vec<Position>> {
        let list = self.context().list(partitions);
        let answer = self.request(|timeout| {
            let found = self.client.committed_offsets(list.clone(), timeout)?;
            // An offset in an open transaction has an error of its own.
            found.elements().iter().try_for_each(TopicPartitionListElem::error)?;
            Ok(found)
        })?;
        Ok(self.positions(&answer))
    }

    fn subscribe(&self) -> Result<()> {
        let names: Vec<&str> = self.topics.address.topics.iter().map(String::as_str).collect();
        // A second subscription to the same topics changes nothing.
        self.client.unsubscribe();
        let subscribed = self.client.subscribe(&names);
        subscribed.map_err(|error| client::failed(&self.topics.address, "joining the group failed", &error))
    }

    fn commit(&self, positions: &[Position]) -> Result<Receiver<Result<()>>> {
        let Some(transactions) = &self.transactions else { return self.commit_starts(positions) };
        let (sender, answer) = channel();
        // The receiver is `answer`.
        let _ = sender.send(self.commit_in(transactions, positions));
        Ok(answer)
    }

    /// Runs on a thread of its own because librdkafka's call has no timeout.
    fn commit_starts(&self, positions: &[Position]) -> Result<Receiver<Result<()>>> {
        let (sender, answer) = channel();
        let list = list_of(&self.topics, positions)?;
        let (client, address) = (self.client.clone(), Address::clone(&self.topics.address));
        thread::spawn("commit", move || {
            let mut committed = client.commit(&list, CommitCall::Sync);
            // A coordinator that has just been elected loads the offsets of its groups first.
            for _ in 0..COMMIT_RETRIES {
                match committed.as_ref().map_err(KafkaError::rdkafka_error_code) {
                    Err(Some(Code::CoordinatorLoadInProgress)) => std::thread::sleep(COMMIT_BACKOFF),
                    _ => break,
                }
                committed = client.commit(&list, CommitCall::Sync);
            }
            // The last reference must be dropped on the run's thread, because the drop leaves the group.
            drop(client);
            let failed = |error| client::failed(&address, "offsets cannot be committed", &error);
            let _ = sender.send(committed.map_err(failed));
        })?;
        Ok(answer)
    }

    fn is_assignment_lost(&self) -> bool {
        self.client.assignment_lost()
    }

    fn leave_group(&self) {
        let run = &self.topics.run;
        let (end, wait) = (run.clock.monotonic() + LEAVE_TIMEOUT, run.stop.server_wait());
        if self.client.close_queue().is_err() {
            return;
        }
        while !self.client.closed() {
            self.client.poll(STOP_CHECK_INTERVAL);
            if wait.is_over() || run.clock.monotonic() >= end {
                return self.abandon();
            }
        }
    }

    fn abandon(&self) {
        std::mem::forget(self.client.clone());
    }
}

impl Leaders for LibraryCluster {
    fn look_up(&self, topic: &str) -> Result<Lookup> {
        let failed = |error: KafkaError| client::failed(&self.topics.address, "reading failed", &error);
        let metadata = match self.client.client().fetch_metadata(Some(topic), LOOKUP_TIMEOUT) {
            Ok(metadata) => metadata,
            Err(error) if error.rdkafka_error_code().is_some_and(client::is_transient) => {
                return Ok(Lookup::Unreachable);
            }
            Err(error) => return Err(failed(error)),
        };
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(Lookup::UnknownTopic);
        };
        match found.error().map(Code::from) {
            None => {}
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Ok(Lookup::UnknownTopic),
            Some(code) if client::is_transient(code) => return Ok(Lookup::Leaders(vec![])),
            Some(code) => return Err(failed(KafkaError::MetadataFetch(code))),
        }
        let leader = |partition: &rdkafka::metadata::MetadataPartition| {
            let broker = metadata.brokers().iter().find(|broker| broker.id() == partition.leader())?;
            let port = u16::try_from(broker.port()).unwrap_or(0);
            Some(Leader { partition: partition.id(), broker: broker.id(), host: broker.host().to_owned(), port })
        };
        Ok(Lookup::Leaders(found.partitions().iter().filter_map(leader).collect()))
    }
}

/// Makes a list of positions for librdkafka.
fn list_of(topics: &Topics, positions: &[Position]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for position @ Position { id, offset, .. } in positions {
        let mut element = list.add_partition(topics.name(id.topic), id.number);
        let set = element.set_offset(Offset::Offset(*offset));
        set.map_err(|error| Error::broken(format!("offset {offset}")).because(error))?;
        if let Some(metadata) = position.metadata() {
            element.set_metadata(metadata);
        }
    }
    Ok(list)
}

/// Reads records through librdkafka's queue.
pub struct LibrarySource {
    client: Arc<BaseConsumer<Context>>,
    topics: Topics,
    /// A message or error that a wait, or the end of a poll, has taken from the queue. The next poll returns it.
    waited: Option<KafkaResult<OwnedMessage>>,
    /// Whether the queue was empty, and no message has come since.
    is_quiet: bool,
}

impl LibrarySource {
    fn checked(&self, what: &str, result: KafkaResult<()>) -> Result<()> {
        result.map_err(|error| client::failed(&self.topics.address, what, &error))
    }

    /// Whether the next message is the first one since the queue was empty. The message stays in the queue.
    fn ends_pause(&mut self) -> bool {
        if !self.is_quiet {
            return false;
        }
        if self.waited.is_none() {
            self.waited = self.client.poll(Duration::ZERO).map(|polled| polled.map(|message| message.detach()));
        }
        let has_message = matches!(self.waited, Some(Ok(_)));
        self.is_quiet = !has_message;
        has_message
    }

    /// Passes a message to `sink`, unless its topic is not of the address.
    fn pass(&mut self, message: &impl LibraryMessage, sink: &mut dyn RecordSink) -> Result<()> {
        let topic = match self.topics.address.topics.as_slice() {
            [_] => 0,
            topics => match topics.iter().position(|topic| topic == message.topic()) {
                Some(topic) => topic,
                None => return Ok(()),
            },
        };
        let (millis, is_fact) = match message.timestamp() {
            Timestamp::NotAvailable => (-1, false),
            Timestamp::CreateTime(millis) => (millis, false),
            Timestamp::LogAppendTime(millis) => (millis, true),
        };
        let headers = MessageHeaders(message);
        let arrival = Message::arrival(millis, is_fact);
        let (offset, key, value) = (message.offset(), message.key(), message.payload());
        let id = PartitionId { topic, number: message.partition() };
        match sink.record(id, &Message { offset, key, value, headers: &headers, arrival })? {
            true => self.pause(&[id]),
            false => Ok(()),
        }
    }
}

impl RecordSource for LibrarySource {
    fn assign(&mut self, starts: &[Position]) -> Result<()> {
        let list = list_of(&self.topics, starts)?;
        let assigned = match self.client.rebalance_protocol() {
            RebalanceProtocol::Eager => self.client.assign(&list),
            _ => self.client.incremental_assign(&list),
        };
        self.checked("partitions cannot be read", assigned)
    }

    /// librdkafka rejects a seek on a partition that it has stopped reading, so the partitions are assigned again. They
    /// are resumed before the assignment: librdkafka's thread begins to fetch some time after the assignment, and a
    /// resumption at that moment can make it discard everything that it fetches (`rktp_version` would be newer than the
    /// fetch).
    fn reset(&mut self, starts: &[Position]) -> Result<()> {
        let list = list_of(&self.topics, starts)?;
        // It may be one after the offset that the partition is read from now.
        self.waited.take_if(|waited| waited.is_ok());
        let what = "partitions cannot be read on";
        self.checked(what, self.client.resume(&list))?;
        let assigned = match self.client.rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                self.client.incremental_unassign(&list).and_then(|()| self.client.incremental_assign(&list))
            }
            _ => self.client.assign(&list),
        };
        self.checked(what, assigned)
    }

    fn read_again(&mut self, start: Position) -> Result<()> {
        let (topic, number, offset) = (self.topics.name(start.id.topic), start.id.number, Offset::Offset(start.offset));
        // Drops an end of the partition that was reported before, because the caller asks for a new report.
        self.waited.take_if(|waited| matches!(waited, Err(KafkaError::PartitionEOF(ended)) if *ended == number));
        // Without a timeout the call does not wait for brokers.
        self.checked("a partition cannot be read again", self.client.seek(topic, number, offset, Duration::ZERO))
    }

    fn pause(&mut self, partitions: &[PartitionId]) -> Result<()> {
        let paused = self.client.pause(&self.client.context().list(partitions));
        self.checked("a partition cannot be paused", paused)
    }

    fn revoke(&mut self, partitions: &[PartitionId]) -> Result<()> {
        self.checked("revoked partitions cannot be released", client::release(&self.client, partitions))
    }

    fn poll(&mut self, sink: &mut dyn RecordSink) -> Result<SourceEvent> {
        let (client, start) = (self.client.clone(), Instant::now());
        let (mut held, mut held_bytes, mut taken) = (Vec::with_capacity(RECORDS_PER_POLL), 0, 0);
        if self.ends_pause() {
            return Ok(SourceEvent::AfterPause);
        }
        match self.waited.take() {
            Some(Ok(message)) => {
                self.pass(&message, sink)?;
                taken = 1;
            }
            Some(Err(error)) => return Ok(event(error)),
            None => {}
        }
        while taken < RECORDS_PER_POLL && (taken % 64 != 1 || start.elapsed() < Run::LINGER) {
            match client.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    self.pass(&message, sink)?;
                    held_bytes += message.payload_len();
                    held.push(message);
                    taken += 1;
                }
                Some(Err(error)) if taken == 0 => return Ok(event(error)),
                Some(Err(error)) => {
                    self.waited = Some(Err(error));
                    break;
                }
                None => break,
            }
            if held_bytes >= HELD_BYTES {
                held.clear();
                held_bytes = 0;
            }
        }
        self.is_quiet = taken == 0;
        Ok(if taken == 0 { SourceEvent::Idle } else { SourceEvent::Records })
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        if self.waited.is_none() {
            self.waited = self.client.poll(timeout).map(|polled| polled.map(|message| message.detach()));
        }
        Ok(())
    }
}

fn event(error: KafkaError) -> SourceEvent {
    match error {
        KafkaError::PartitionEOF(number) => SourceEvent::PartitionEnd(number),
        error => match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => SourceEvent::OutOfRange,
            _ => SourceEvent::Failed(error),
        },
    }
}

/// The headers of a message.
struct MessageHeaders<'a, M>(&'a M);

impl<M: LibraryMessage> Headers for MessageHeaders<'_, M> {
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let Some(headers) = self.0.headers() else { return };
        for at in 0..headers.count() {
            // Brokers accept header names that are not UTF-8, and the binding panics on them: such a header is skipped.
            if let Ok(Some(header)) = guarded(|| headers.try_get(at)) {
                show(header.key, header.value);
            }
        }
    }
}
