//! Membership in a consumer group: what is committed, and when a revoked partition is let go.
//!
//! A commit says that everything before an offset is safe in the outputs. So it is made of positions that were noted
//! when every row before them had been handed out ([`Cut`]), and only after the outputs have said that they are safe.

use super::address::Address;
use super::client;
use super::input::Client;
use super::position;
use super::range::Part;
use crate::error::{Error, Result};
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::time::{Duration, Instant};

/// How long revoked partitions wait for the outputs: less than a member may be silent (max.poll.interval.ms).
const PATIENCE: Duration = Duration::from_secs(120);

/// The offset read next in a partition, and its stream time there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The topic, among those of the address.
    pub topic: usize,
    /// The partition's number.
    pub number: i32,
    /// The offset.
    pub offset: i64,
    /// The stream time (µs); none before the first row.
    pub stream_time: Option<i64>,
}

/// Positions up to which all rows have been handed out.
pub type Cut = Vec<Position>;

/// What becomes of a group's offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offsets {
    /// They stay as they are: some output cannot say that rows are safe.
    #[default]
    Kept,
    /// They are committed once rows are safe; this run reads all partitions.
    Committed,
    /// The same, and the group hands out the partitions to its members.
    Shared,
}

/// Membership of one run.
pub struct Membership {
    subscribed: bool,
    /// How often positions are committed.
    every: Duration,
    due: Instant,
    committed: Cut,
    /// Noted, and not committed yet.
    noted: Option<Cut>,
    /// Partitions that were revoked: let go once what was read of them is safe.
    leaving: Option<(Vec<(String, i32)>, Instant)>,
    /// Whether the last commit failed.
    failing: bool,
}

impl Membership {
    /// Offsets are committed to the group `every` so often; `subscribed` says whether it also hands out the partitions.
    pub fn new(subscribed: bool, every: Duration) -> Self {
        let due = Instant::now() + every;
        Self { subscribed, every, due, committed: vec![], noted: None, leaving: None, failing: false }
    }

    /// Whether the group hands out the partitions.
    pub fn is_subscribed(&self) -> bool {
        self.subscribed
    }

    /// Whether positions should be noted now.
    pub fn is_due(&self) -> bool {
        self.noted.is_none() && (self.leaving.is_some() || Instant::now() >= self.due)
    }

    /// Notes positions before which every row has been handed out.
    pub fn note(&mut self, cut: Cut) {
        self.noted = Some(cut);
    }

    /// Whether positions wait for the outputs.
    pub fn has_noted(&self) -> bool {
        self.noted.is_some()
    }

    /// These partitions will go to another member.
    pub fn leave(&mut self, partitions: Vec<(String, i32)>) {
        self.noted = None;
        self.leaving = Some((partitions, Instant::now()));
    }

    /// Whether partitions wait to be let go, so that nothing more is read.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Whether the outputs take too long for the other members: the partitions go without a commit.
    pub fn is_overdue(&self) -> bool {
        self.leaving.as_ref().is_some_and(|(_, since)| since.elapsed() > PATIENCE)
    }

    /// The partitions to be let go.
    pub fn take_leaving(&mut self) -> Vec<(String, i32)> {
        self.noted = None;
        self.leaving.take().map(|(partitions, _)| partitions).unwrap_or_default()
    }

    /// Whether commits have begun to fail: true once, until one succeeds.
    pub fn begins_to_fail(&mut self) -> bool {
        !std::mem::replace(&mut self.failing, true)
    }

    /// Commits what was noted.
    pub fn commit_noted(&mut self, client: &Client, address: &Address) -> Result<()> {
        match self.noted.take() {
            Some(cut) => self.commit(client, address, &cut),
            None => Ok(()),
        }
    }

    /// Commits what is new in `cut`; returns when the group has it.
    pub fn commit(&mut self, client: &Client, address: &Address, cut: &Cut) -> Result<()> {
        self.due = Instant::now() + self.every;
        let mut list = TopicPartitionList::new();
        for position in cut.iter().filter(|position| !self.committed.contains(position)) {
            let topic = &address.topics[position.topic];
            let mut element = list.add_partition(topic, position.number);
            element
                .set_offset(Offset::Offset(position.offset))
                .map_err(|error| Error::broken(format!("{topic}/{}", position.number)).because(error))?;
            element.set_metadata(position::metadata(position.stream_time));
        }
        if list.count() == 0 {
            return Ok(());
        }
        client
            .commit(&list, rdkafka::consumer::CommitMode::Sync)
            .map_err(|error| client::failed(address, "offsets cannot be committed", &error))?;
        self.committed.clone_from(cut);
        self.failing = false;
        Ok(())
    }
}

/// Joins the group.
pub fn subscribe(client: &Client, address: &Address) -> Result<()> {
    let topics: Vec<&str> = address.topics.iter().map(String::as_str).collect();
    client.subscribe(&topics).map_err(|error| client::failed(address, "the group cannot be joined", &error))
}

/// Positions of the parts, as they stand.
pub fn cut(parts: &[Part], mut position: impl FnMut(&Part) -> (i64, Option<i64>)) -> Cut {
    parts
        .iter()
        .map(|part| {
            let (offset, stream_time) = position(part);
            Position { topic: part.topic, number: part.number, offset, stream_time }
        })
        .collect()
}
