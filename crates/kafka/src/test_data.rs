//! Fakes of [`RecordSource`] and [`Cluster`] that follow the script of a test and record their calls.

use super::client::Context;
use super::position::{ByPartition, OffsetSpan, PartitionId, Position};
use super::source::{Cluster, Message, RecordSink, RecordSource, SourceEvent};
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::kind::headers::Headers;
use evt_run::clock::SimulatedClock;
use evt_run::input::topic_id::TopicId;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Partition `number` of the first topic.
pub fn partition(number: i32) -> PartitionId {
    PartitionId { topic: 0, number }
}

/// Returns the position `offset` in partition `number` of the first topic, without a stream time.
pub fn start(number: i32, offset: i64) -> Position {
    Position::new(partition(number), offset)
}

/// A recorded call of a fake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Assign(Vec<Position>),
    Reset(Vec<Position>),
    ReadAgain(Position),
    Pause(Vec<PartitionId>),
    Revoke(Vec<PartitionId>),
    Subscribe,
    Commit(Vec<Position>),
    LeaveGroup,
    Abandon,
}

/// A step of the script: the effect of one poll of the fake source.
pub enum Polled {
    /// Passes records (offset, value) of a partition.
    Records(PartitionId, Vec<(i64, Option<String>)>),
    /// Reports how far a partition has been read: the next offset and the end.
    ReadTo(PartitionId, i64, i64),
    /// Ends with an event.
    Event(SourceEvent),
}

/// The calls of both fakes, in order, and the script of the source.
#[derive(Default)]
pub struct Script {
    pub calls: Vec<Call>,
    pub polls: VecDeque<Polled>,
}

/// A source that follows a script.
#[derive(Clone, Default)]
pub struct FakeSource(pub Rc<RefCell<Script>>);

impl FakeSource {
    fn note(&self, call: Call) -> Result<()> {
        self.0.borrow_mut().calls.push(call);
        Ok(())
    }

    /// Takes the calls recorded since the last time.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.borrow_mut().calls)
    }

    /// Adds to the script.
    pub fn will(&self, polled: Polled) {
        self.0.borrow_mut().polls.push_back(polled);
    }
}

/// No headers.
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn each(&self, _: &mut dyn FnMut(&str, Option<&[u8]>)) {}
}

impl RecordSource for FakeSource {
    fn assign(&mut self, starts: &[Position]) -> Result<()> {
        self.note(Call::Assign(starts.to_vec()))
    }

    fn reset(&mut self, starts: &[Position]) -> Result<()> {
        self.note(Call::Reset(starts.to_vec()))
    }

    fn read_again(&mut self, start: Position) -> Result<()> {
        self.note(Call::ReadAgain(start))
    }

    fn pause(&mut self, partitions: &[PartitionId]) -> Result<()> {
        self.note(Call::Pause(partitions.to_vec()))
    }

    fn revoke(&mut self, partitions: &[PartitionId]) -> Result<()> {
        self.note(Call::Revoke(partitions.to_vec()))
    }

    fn poll(&mut self, sink: &mut dyn RecordSink) -> Result<SourceEvent> {
        let polled = self.0.borrow_mut().polls.pop_front();
        let (id, ended) = match polled {
            None => return Ok(SourceEvent::Idle),
            Some(Polled::Event(event)) => return Ok(event),
            Some(Polled::ReadTo(id, next, high)) => (id, sink.read_to(id, Some(next), high)?),
            Some(Polled::Records(id, records)) => {
                let mut ended = false;
                for (offset, value) in &records {
                    let (value, arrival) = (value.as_deref().map(str::as_bytes), Message::arrival(1_000, true));
                    let message = Message { offset: *offset, key: None, value, headers: &NoHeaders, arrival };
                    ended |= sink.record(id, &message)?;
                }
                (id, ended)
            }
        };
        if ended {
            self.pause(&[id])?;
        }
        Ok(SourceEvent::Records)
    }

    fn wait(&mut self, _: Duration) -> Result<()> {
        Ok(())
    }
}

/// The answer of the fake group to a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitAnswer {
    #[default]
    Done,
    Failed(ErrorKind),
    /// The answer comes with [`FakeCluster::answer_late`].
    Late,
}

/// A cluster of the first topic's partitions.
#[derive(Default)]
pub struct FakeCluster {
    context: Context,
    pub source: FakeSource,
    pub extents: RefCell<ByPartition<OffsetSpan>>,
    pub committed: RefCell<ByPartition<Position>>,
    /// The present ids of the topics.
    pub topic_ids: RefCell<Vec<Option<TopicId>>>,
    /// The answers to the first requests for the ids.
    pub first_ids: RefCell<VecDeque<Vec<Option<TopicId>>>>,
    pub answer: RefCell<CommitAnswer>,
    pub is_lost: RefCell<bool>,
    /// How long a commit takes.
    pub commit_time: Option<(SimulatedClock, Duration)>,
    senders: RefCell<Vec<Sender<Result<()>>>>,
}

impl FakeCluster {
    /// Makes partitions of the first topic with these first and end offsets.
    pub fn new(topics: &[String], extents: &[(i64, i64)]) -> Self {
        let cluster = Self { context: Context::new(topics), ..Self::default() };
        for (number, (low, high)) in (0..).zip(extents) {
            cluster.set_extent(number, *low, *high);
        }
        cluster
    }

    pub fn set_extent(&self, number: i32, low: i64, high: i64) {
        self.extents.borrow_mut().insert(partition(number), OffsetSpan { low, high });
    }

    /// Answers the commits so far.
    pub fn answer_late(&self) {
        for sender in self.senders.borrow_mut().drain(..) {
            // The receiver of a commit that was answered before is gone.
            let _ = sender.send(Ok(()));
        }
    }
}

impl Cluster for FakeCluster {
    fn context(&self) -> &Context {
        &self.context
    }

    fn partition_count(&self, topic: usize) -> Result<Option<i32>> {
        let count = self.extents.borrow().keys().filter(|id| id.topic == topic).count();
        Ok(i32::try_from(count).ok().filter(|count| *count > 0))
    }

    fn extent(&self, id: PartitionId) -> Result<OffsetSpan> {
        Ok(self.extents.borrow()[&id])
    }

    fn topic_ids(&self) -> Result<Vec<Option<TopicId>>> {
        let first = self.first_ids.borrow_mut().pop_front();
        Ok(first.unwrap_or_else(|| self.topic_ids.borrow().clone()))
    }

    fn topic_ids_now(&self) -> Option<Vec<Option<TopicId>>> {
        Some(self.topic_ids.borrow().clone())
    }

    fn offsets_at(&self, _: &[PartitionId], _: i64) -> Result<Vec<Position>> {
        Ok(vec![])
    }

    fn committed(&self, partitions: &[PartitionId]) -> Result<Vec<Position>> {
        let committed = self.committed.borrow();
        Ok(partitions.iter().filter_map(|id| committed.get(id).cloned()).collect())
    }

    fn subscribe(&self) -> Result<()> {
        self.source.note(Call::Subscribe)
    }

    fn commit(&self, positions: &[Position]) -> Result<Receiver<Result<()>>> {
        if let Some((clock, time)) = &self.commit_time {
            clock.advance(*time);
        }
        let (sender, receiver) = channel();
        self.source.note(Call::Commit(positions.to_vec()))?;
        match *self.answer.borrow() {
            CommitAnswer::Late => {}
            CommitAnswer::Failed(kind) => sender.send(Err(Error::new(kind, "the commit is rejected"))).unwrap(),
            CommitAnswer::Done => {
                for position in positions.iter().copied() {
                    self.committed.borrow_mut().insert(position.id, position);
                }
                sender.send(Ok(())).unwrap();
            }
        }
        self.senders.borrow_mut().push(sender);
        Ok(receiver)
    }

    fn is_assignment_lost(&self) -> bool {
        *self.is_lost.borrow()
    }

    fn leave_group(&self) {
        self.source.note(Call::LeaveGroup).unwrap();
    }

    fn abandon(&self) {
        self.source.note(Call::Abandon).unwrap();
    }
}
