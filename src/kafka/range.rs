//! The offset range of each partition, resolved by the brokers when the run begins or a partition is assigned.

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

/// How a tool reads topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// A bounded read (evt-view): up to the present end, without a group, without commits.
    Looks,
    /// The same without an end (evt-view --follow).
    Follows,
    /// A tool without state between rows: offsets are committed once the outputs are safe.
    #[default]
    Works,
    /// A tool whose state a restart loses: it commits nothing, and a restart reads the rows again.
    Recomputes,
}

/// Values by topic (index in the address) and partition number.
pub type ByPart<T> = HashMap<(usize, i32), T>;

/// The read state of one partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The index of its topic in the address.
    pub topic: usize,
    /// Its number.
    pub number: i32,
    /// Its index in the run's stamper.
    pub stamp: u32,
    /// Its offsets when the run began; `high` is updated later.
    pub extent: Extent,
    /// The next offset to read.
    pub next: i64,
    /// The first offset that is not read any more; `None` without an end.
    pub end: Option<i64>,
    /// The stream time (µs) that was committed with the offset.
    pub stream_time: Option<i64>,
    /// Whether all of it has been read.
    pub ended: bool,
    /// The Kafka timestamp of the last record read (µs).
    pub last: Option<i64>,
    /// Whether the partition was added during the run, so that it is read from its start.
    pub is_new: bool,
}

impl Part {
    /// Makes partition `number` of topic `topic`, not resolved yet.
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

    /// Whether `offset` is at or after the end. Compaction and transactions may leave no record at the last offsets before the
    /// end.
    pub fn is_behind(&self, offset: i64) -> bool {
        self.end.is_some_and(|end| offset >= end)
    }

    /// Whether the next offset is at or after the end.
    pub fn is_done(&self) -> bool {
        self.is_behind(self.next)
    }

    /// Whether the partition has no stream time yet: none was committed, and there is no record to read now.
    pub fn has_not_begun(&self) -> bool {
        self.stream_time.is_none() && self.next >= self.extent.high
    }
}

/// Returns the partitions of the topics, or those that `partitions=` names. Errors: exit status 2 if one does not exist.
pub fn parts(client: &Client, address: &Address, run: &Run) -> Result<Vec<Part>> {
    let mut parts = vec![];
    for at in 0..address.topics.len() {
        parts.extend(parts_of(client, address, run, at)?);
    }
    Ok(parts)
}

/// Returns the partitions of one topic, by its index in the address. Errors: exit status 2 if one does not exist.
pub fn parts_of(client: &Client, address: &Address, run: &Run, at: usize) -> Result<Vec<Part>> {
    let topic = &address.topics[at];
    let count = count(client, address, run, topic)?;
    let numbers = match &address.options.partitions {
        Some(numbers) => numbers.clone(),
        None => (0..count).collect(),
    };
    if let Some(number) = numbers.iter().find(|number| **number >= count) {
        return Err(Error::usage(format!("{address}: {topic} has no partition {number}; it has {count} partitions")));
    }
    Ok(numbers.into_iter().map(|number| Part::new(at, number)).collect())
}

/// Returns the number of partitions of a topic. Errors: exit status 2 if the topic does not exist.
fn count(client: &Client, address: &Address, run: &Run, topic: &str) -> Result<i32> {
    match client::ask(address, run, client, |timeout| client::count(client.client(), topic, timeout))? {
        Some(count) => Ok(count),
        None => Err(Error::usage(format!("{address}: topic {topic} does not exist or may not be read"))),
    }
}

/// Asks the broker for the first and the end offset of a partition.
pub fn extent(client: &Client, address: &Address, run: &Run, part: &Part) -> Result<Extent> {
    let question = |timeout| client.fetch_watermarks(&address.topics[part.topic], part.number, timeout);
    client::ask(address, run, client, question).map(|(low, high)| Extent { low, high })
}

/// Resolves the first and the end offset of each part from the options and the offsets that the group committed.
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
            Error::usage(format!("{address}: start= has no offset for partition {}", part.number))
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

/// Handles a gap. Errors: exit status 65, unless `on_gap=continue`, which only reports it.
pub fn settle_gap((address, run): (&Address, &Run), (topic, number): (&str, i32), gap: Gap) -> Result<()> {
    let message = format!("{topic}/{number}@{}: {}", gap.wanted, gap.describe());
    if !address.options.skips_gaps {
        return Err(Error::new(ErrorKind::Corrupt, format!("{message} (on_gap=continue reads on)")));
    }
    run.console.say(format!("{message}; reading on at {}", gap.found));
    Ok(())
}

/// Resolves a bound in each part.
fn offsets(
    client: &Client,
    address: &Address,
    run: &Run,
    (bound, parts): (&Bound, &[Part]),
) -> Result<Vec<Option<i64>>> {
    let instants = match bound {
        Bound::Instant(text) => {
            // `now` in `start=` and `end=` is the system clock, whatever `--now` is: it is compared with the brokers'
            // timestamps.
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

/// Asks for the first offset in each part whose record has a timestamp of `instant` (µs) or later; parts without such a record
/// are left out.
fn at_instant(client: &Client, address: &Address, run: &Run, (instant, parts): (i64, &[Part])) -> Result<ByPart<i64>> {
    // Kafka has millisecond timestamps: round up.
    let millis = instant.div_euclid(1000) + i64::from(instant.rem_euclid(1000) > 0);
    let mut list = TopicPartitionList::new();
    for part in parts {
        add(&mut list, &address.topics[part.topic], (part.number, millis.max(0)))?;
    }
    let question = |timeout| client.offsets_for_times(list.clone(), timeout);
    let answer = client::ask(address, run, client, question)?;
    Ok(by_part(address, &answer, |_, offset| offset))
}

/// Asks for the offset and stream time that the group committed in each part.
pub fn committed(client: &Client, address: &Address, run: &Run, parts: &[Part]) -> Result<ByPart<(i64, Option<i64>)>> {
    let mut list = TopicPartitionList::new();
    for part in parts {
        list.add_partition(&address.topics[part.topic], part.number);
    }
    let question = |timeout| client.committed_offsets(list.clone(), timeout);
    let answer = client::ask(address, run, client, question)?;
    Ok(by_part(address, &answer, |metadata, offset| (offset, position::stream_time(metadata))))
}

/// Collects the elements of a list that have a real offset.
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

/// Adds a partition with its offset to a list.
pub fn add(list: &mut TopicPartitionList, topic: &str, (number, offset): (i32, i64)) -> Result<()> {
    list.add_partition_offset(topic, number, Offset::Offset(offset))
        .map_err(|error| Error::broken(format!("{topic}/{number}: offset {offset}")).because(error))
}
