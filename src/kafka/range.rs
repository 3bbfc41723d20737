//! The offset range of each partition, resolved by the brokers when the run begins or a partition is assigned.

use super::position::{self, ByPartition, Committed, Extent, Gap, PartitionId, Position};
use super::source::{Cluster, Start};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::run::Run;
use crate::time::parse_instant_or_now;
use crate::uri::kafka::{Address, Bound};

/// How a tool reads topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// A bounded read (evt-view): up to the present end, without a group, without commits.
    Bounded,
    /// The same without an end (evt-view --follow).
    Tail,
    /// A tool without state between rows: offsets are committed once the outputs are safe.
    #[default]
    Commit,
    /// A tool whose state a restart loses: it commits nothing, and a restart reads the rows again.
    Stateful,
}

/// The read state of one partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionCursor {
    /// The partition.
    pub id: PartitionId,
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

impl PartitionCursor {
    /// Makes the cursor of a partition whose range is not resolved yet.
    pub fn new(id: PartitionId) -> Self {
        let extent = Extent::default();
        let (end, stream_time, last) = (None, None, None);
        Self { id, stamp: 0, extent, next: 0, end, stream_time, ended: false, last, is_new: false }
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

    /// Returns where reading goes on.
    pub fn start(&self) -> Start {
        Start { id: self.id, offset: self.next }
    }

    /// Returns the position before which every row has been passed on, given the first record that is held back and the stream
    /// time of the partition.
    pub fn position(&self, first_held: Option<i64>, stream_time: Option<i64>) -> Position {
        Position { id: self.id, offset: first_held.unwrap_or(self.next), stream_time }
    }
}

/// Returns the partitions of one topic, or those that `partitions=` names. Errors: exit status 2 if one does not exist.
pub fn cursors(cluster: &dyn Cluster, address: &Address, topic: usize) -> Result<Vec<PartitionCursor>> {
    let name = &address.topics[topic];
    let Some(count) = cluster.partition_count(topic)? else {
        return Err(Error::usage(format!("{address}: topic {name} does not exist or may not be read")));
    };
    let numbers = match &address.options.partitions {
        Some(numbers) => numbers.clone(),
        None => (0..count).collect(),
    };
    if let Some(number) = numbers.iter().find(|number| **number >= count) {
        return Err(Error::usage(format!("{address}: {name} has no partition {number}; it has {count} partitions")));
    }
    Ok(numbers.into_iter().map(|number| PartitionCursor::new(PartitionId { topic, number })).collect())
}

/// Resolves the first and the end offset of each cursor from the options and the offsets that the group committed.
pub fn resolve(
    cluster: &dyn Cluster,
    address: &Address,
    run: &Run,
    read_mode: ReadMode,
    cursors: &mut [PartitionCursor],
) -> Result<()> {
    let options = &address.options;
    for cursor in cursors.iter_mut() {
        cursor.extent = cluster.extent(cursor.id)?;
    }
    let start = options.start.clone().unwrap_or(Bound::Earliest);
    let starts = offsets(cluster, &start, cursors)?;
    let end = options.end.clone().or((read_mode == ReadMode::Bounded).then_some(Bound::Latest));
    let ends = end.map(|end| offsets(cluster, &end, cursors)).transpose()?;
    let committed = match (read_mode, &options.group) {
        (ReadMode::Bounded | ReadMode::Tail, _) | (_, None) => ByPartition::new(),
        (_, Some(_)) => cluster.committed(&ids(cursors))?,
    };
    for (at, cursor) in cursors.iter_mut().enumerate() {
        cursor.end = ends.as_ref().map(|ends| ends[at].unwrap_or(cursor.extent.high).min(cursor.extent.high));
        let wanted = match committed.get(&cursor.id) {
            Some(Committed { offset, stream_time }) => {
                cursor.stream_time = *stream_time;
                *offset
            }
            None => {
                cursor.stream_time = None;
                let start = if cursor.is_new { Some(cursor.extent.low) } else { starts[at] };
                let number = cursor.id.number;
                start.ok_or_else(|| Error::usage(format!("{address}: start= has no offset for partition {number}")))?
            }
        };
        cursor.next = wanted;
        if let Some(gap) = position::gap(wanted, cursor.extent) {
            skip_gap(address, run, cursor, gap)?;
            if gap.is_truncation() {
                cursor.stream_time = None;
            }
        }
    }
    Ok(())
}

/// Moves a cursor over a gap. Errors: exit status 65, unless `on_gap=continue`, which only reports the gap.
pub fn skip_gap(address: &Address, run: &Run, cursor: &mut PartitionCursor, gap: Gap) -> Result<()> {
    let name = &address.topics[cursor.id.topic];
    let message = format!("{name}/{}@{}: {}", cursor.id.number, gap.wanted, gap.describe());
    if !address.options.skips_gaps {
        return Err(Error::new(ErrorKind::Corrupt, format!("{message} (on_gap=continue reads on)")));
    }
    run.console.say(format!("{message}; reading on at {}", gap.found));
    cursor.next = gap.found;
    Ok(())
}

fn ids(cursors: &[PartitionCursor]) -> Vec<PartitionId> {
    cursors.iter().map(|cursor| cursor.id).collect()
}

/// Resolves a bound in each partition.
fn offsets(cluster: &dyn Cluster, bound: &Bound, cursors: &[PartitionCursor]) -> Result<Vec<Option<i64>>> {
    let instants = match bound {
        Bound::Instant(text) => {
            // `now` in `start=` and `end=` is the system clock, whatever `--now` is: it is compared with the brokers'
            // timestamps.
            let instant = parse_instant_or_now(text, Clock::System.now())?;
            // Kafka has millisecond timestamps: round up.
            let millis = instant.div_euclid(1000) + i64::from(instant.rem_euclid(1000) > 0);
            cluster.offsets_at(&ids(cursors), millis.max(0))?
        }
        _ => ByPartition::new(),
    };
    let offset = |cursor: &PartitionCursor| {
        position::offset_of(bound, cursor.id.number, cursor.extent, instants.get(&cursor.id).copied())
    };
    Ok(cursors.iter().map(offset).collect())
}
