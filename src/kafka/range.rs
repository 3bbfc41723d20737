//! The range that is read of each partition: asked of the brokers once, when the run begins.

use super::client::{self, Client};
use super::position::{self, Extent, Gap};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::run::Run;
use crate::time::parse_instant_or_now;
use crate::uri::kafka::{Address, Bound};
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::collections::HashMap;

/// What the tool does with what it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It looks: a range with an end, no group, no commits.
    Looks,
    /// It looks, and goes on as records come.
    Follows,
    /// It works and keeps nothing from one row to the next: offsets are committed when the outputs are safe.
    #[default]
    Works,
    /// It works and holds state that a restart loses: nothing is committed, a restart recomputes.
    Recomputes,
}

/// What is known of partitions, by topic and number.
pub type ByPart<T> = HashMap<(usize, i32), T>;

/// One partition of a topic that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its topic, among those of the address.
    pub topic: usize,
    /// Its number.
    pub number: i32,
    /// Its number in the run's stamper.
    pub stamp: u32,
    /// What was there when the run began.
    pub extent: Extent,
    /// The offset read next.
    pub next: i64,
    /// The first offset that is not read any more; none where there is no end.
    pub end: Option<i64>,
    /// The stream time that was committed with the offset.
    pub stream_time: Option<i64>,
    /// Whether all of it has been read.
    pub ended: bool,
    /// The time that Kafka keeps for the record read last (µs).
    pub last: Option<i64>,
    /// Whether the topic got it while the run was on: all of it is to be read.
    pub is_new: bool,
}

impl Part {
    /// Partition `number` of topic `topic`, of which nothing is known yet.
    pub fn new(topic: usize, number: i32) -> Self {
        let extent = Extent::default();
        Self {
            topic,
            number,
            stamp: 0,
            extent,
            next: 0,
            end: None,
            stream_time: None,
            ended: false,
            last: None,
            is_new: false,
        }
    }

    /// Whether a record at `offset` lies behind the end: the last offsets before it may be none of records.
    pub fn is_behind(&self, offset: i64) -> bool {
        self.end.is_some_and(|end| offset >= end)
    }

    /// Whether the next offset lies behind the end.
    pub fn is_done(&self) -> bool {
        self.is_behind(self.next)
    }

    /// Whether nothing of it has a place in stream time yet: it has no rows, and is read from its end.
    pub fn has_not_begun(&self) -> bool {
        self.stream_time.is_none() && self.next >= self.extent.high
    }
}

/// The partitions of the topics, or those that `partitions=` names; exit 2 where one is not there.
pub fn parts(client: &Client, address: &Address, run: &Run) -> Result<Vec<Part>> {
    let mut parts = vec![];
    for at in 0..address.topics.len() {
        parts.extend(parts_of(client, address, run, at)?);
    }
    Ok(parts)
}

/// The same for one topic, by its index in the address.
pub fn parts_of(client: &Client, address: &Address, run: &Run, at: usize) -> Result<Vec<Part>> {
    let topic = &address.topics[at];
    let count = count(client, address, run, topic)?;
    let numbers = match &address.options.partitions {
        Some(numbers) => numbers.clone(),
        None => (0..count).collect(),
    };
    if let Some(number) = numbers.iter().find(|number| **number >= count) {
        return Err(Error::usage(format!("{address}: {topic} has no partition {number}, only {count}")));
    }
    Ok(numbers.into_iter().map(|number| Part::new(at, number)).collect())
}

/// How many partitions a topic has; exit 2 where it is not there.
fn count(client: &Client, address: &Address, run: &Run, topic: &str) -> Result<i32> {
    match client::ask(address, run, client, |timeout| client::count(client.client(), topic, timeout))? {
        Some(count) => Ok(count),
        None => Err(Error::usage(format!("{address}: there is no topic {topic} that may be read"))),
    }
}

/// What the broker has of a partition now.
pub fn extent(client: &Client, address: &Address, run: &Run, part: &Part) -> Result<Extent> {
    let question = |timeout| client.fetch_watermarks(&address.topics[part.topic], part.number, timeout);
    client::ask(address, run, client, question).map(|(low, high)| Extent { low, high })
}

/// Where each part begins and ends, by the options and by what the group has committed.
pub fn resolve(client: &Client, address: &Address, run: &Run, (role, parts): (Role, &mut [Part])) -> Result<()> {
    let options = &address.options;
    for part in parts.iter_mut() {
        part.extent = extent(client, address, run, part)?;
    }
    let start = options.start.clone().unwrap_or(Bound::Earliest);
    let starts = offsets(client, address, run, (&start, parts))?;
    let end = options.end.clone().or((role == Role::Looks).then_some(Bound::Latest));
    let ends = end.map(|end| offsets(client, address, run, (&end, parts))).transpose()?;
    let committed = match (role, &options.group) {
        (Role::Looks | Role::Follows, _) | (_, None) => HashMap::new(),
        (_, Some(_)) => committed(client, address, run, parts)?,
    };
    for (at, part) in parts.iter_mut().enumerate() {
        let name = address.topics[part.topic].as_str();
        let kept = committed.get(&(part.topic, part.number));
        let wanted = kept
            .map(|(offset, _)| *offset)
            .or(if part.is_new { Some(part.extent.low) } else { starts[at] })
            .ok_or_else(|| {
            Error::usage(format!("{address}: start= says no offset for partition {}", part.number))
        })?;
        part.stream_time = kept.and_then(|(_, stream_time)| *stream_time);
        part.end = ends.as_ref().map(|ends| ends[at].unwrap_or(part.extent.high).min(part.extent.high));
        part.next = match position::gap(wanted, part.extent) {
            None => wanted,
            Some(gap) => {
                settle_gap((address, run), (name, part.number), gap)?;
                if gap.begins_anew() {
                    part.stream_time = None;
                }
                gap.found
            }
        };
    }
    Ok(())
}

/// Exit 65 with the gap, unless `on_gap=continue`: then it is said.
pub fn settle_gap((address, run): (&Address, &Run), (topic, number): (&str, i32), gap: Gap) -> Result<()> {
    let message = format!("{topic}/{number}@{}: {}", gap.wanted, gap.describe());
    if !address.options.skips_gaps {
        return Err(Error::new(ErrorKind::Corrupt, format!("{message} (on_gap=continue reads on)")));
    }
    run.console.say(format!("{message}: reading on at {}", gap.found));
    Ok(())
}

/// What a bound means in each part.
fn offsets(
    client: &Client,
    address: &Address,
    run: &Run,
    (bound, parts): (&Bound, &[Part]),
) -> Result<Vec<Option<i64>>> {
    let instants = match bound {
        Bound::Instant(text) => {
            // The range is a matter of the real clock, whatever --now says: what it names lies on a broker.
            let instant = parse_instant_or_now(text, Clock::System.now())?;
            at_instant(client, address, run, (instant, parts))?
        }
        _ => HashMap::new(),
    };
    let offset = |part: &Part| {
        let at_instant = instants.get(&(part.topic, part.number)).copied();
        position::offset_of(bound, part.number, part.extent, at_instant)
    };
    Ok(parts.iter().map(offset).collect())
}

/// The first offset in each part whose record is of `instant` or later; none where there is no such record.
fn at_instant(client: &Client, address: &Address, run: &Run, (instant, parts): (i64, &[Part])) -> Result<ByPart<i64>> {
    // Kafka counts milliseconds; an instant between two is the later one.
    let millis = instant.div_euclid(1000) + i64::from(instant.rem_euclid(1000) > 0);
    let mut list = TopicPartitionList::new();
    for part in parts {
        add(&mut list, &address.topics[part.topic], (part.number, millis.max(0)))?;
    }
    let question = |timeout| client.offsets_for_times(list.clone(), timeout);
    let answer = client::ask(address, run, client, question)?;
    Ok(by_part(address, &answer, |_, offset| offset))
}

/// What the group has committed: offset and stream time.
pub fn committed(client: &Client, address: &Address, run: &Run, parts: &[Part]) -> Result<ByPart<(i64, Option<i64>)>> {
    let mut list = TopicPartitionList::new();
    for part in parts {
        list.add_partition(&address.topics[part.topic], part.number);
    }
    let question = |timeout| client.committed_offsets(list.clone(), timeout);
    let answer = client::ask(address, run, client, question)?;
    Ok(by_part(address, &answer, |metadata, offset| (offset, position::stream_time(metadata))))
}

/// The real offsets of a list.
fn by_part<T>(address: &Address, list: &TopicPartitionList, value: impl Fn(&str, i64) -> T) -> ByPart<T> {
    let mut values = HashMap::new();
    for element in list.elements() {
        if let (Offset::Offset(offset), Some(topic)) =
            (element.offset(), address.topics.iter().position(|topic| topic == element.topic()))
        {
            values.insert((topic, element.partition()), value(element.metadata(), offset));
        }
    }
    values
}

/// Adds a partition with an offset.
pub fn add(list: &mut TopicPartitionList, topic: &str, (number, offset): (i32, i64)) -> Result<()> {
    list.add_partition_offset(topic, number, Offset::Offset(offset))
        .map_err(|error| Error::broken(format!("{topic}/{number}: offset {offset}")).because(error))
}
