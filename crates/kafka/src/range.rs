//! The offset range of each partition, resolved by the brokers when the run begins or a partition is assigned.

use super::client::Topics;
use super::position::{self, Gap, OffsetSpan, PartitionId, Position};
use super::source::Cluster;
use crate::address::{Address, Bound, TopicFormat};
use evt_core::counts::counted;
use evt_core::error::{Error, Result};
use evt_core::time::parse_flag_instant;
use evt_run::clock::Clock;
use evt_run::input::topic_id::TopicId;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The mode in which a tool reads topics: its range, and its use of committed offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// A bounded read (evt-view): up to the present end, without a group, without commits.
    Bounded,
    /// The same without an end (evt-view --follow).
    Tail,
    /// A tool without state between rows: offsets are committed once the outputs are safe.
    #[default]
    Commit,
    /// A tool whose state a restart loses: the run commits nothing, and a restart reads the rows again.
    Stateful,
    /// A tool whose state and positions are in a checkpoint. The group gets the positions of complete epochs; no run
    /// reads them.
    Checkpoint,
}

impl ReadMode {
    /// Whether a stage of a pipeline reads, not a viewer.
    pub fn is_of_stage(self) -> bool {
        !matches!(self, ReadMode::Bounded | ReadMode::Tail)
    }
}

/// How long the end of a partition must stay before the end of its range until its records count as lost. A new leader
/// may learn the end offset late.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Interval between requests for the extent of such a partition.
const EXTENT_INTERVAL: Duration = Duration::from_secs(1);

/// What to do with a partition that ended before the end of its range.
pub enum ShortAnswer {
    /// Ask again later.
    Wait,
    /// Read it again from its next offset, up to the end of its range.
    ReadAgain,
    /// It ends before its next offset.
    Truncated,
}

/// A partition whose leader gave an end offset before the end of its range. A new leader may not know the end offset
/// yet (KIP-207), or the partition has lost records.
pub struct TruncatedPartition {
    /// The partition.
    pub id: PartitionId,
    /// Whether the leader has given such an end since the partition was last read again.
    pub is_short: bool,
    /// Since when its extent has been too short, on the run's monotonic clock.
    since: Option<Duration>,
    /// When brokers were last asked for its extent.
    asked: Option<Duration>,
    /// Since when a transaction is open before the end of the range.
    open: Option<Duration>,
    /// The offset from which it was read again, because its extent has the end of its range by now.
    pub read_again: Option<i64>,
}

impl TruncatedPartition {
    /// Notes a partition.
    pub fn new(id: PartitionId) -> Self {
        Self { id, is_short: true, since: None, asked: None, open: None, read_again: None }
    }

    /// Requests the extent of the partition, if a request is due. If the extent stays too short, the range ends where
    /// the partition ends. Errors: exit status 65 if the partition has lost records, unless `on_gap=continue`.
    pub fn check(
        &mut self,
        cluster: &dyn Cluster,
        topics: &Topics,
        cursor: &mut PartitionCursor,
    ) -> Result<ShortAnswer> {
        let now = topics.run.clock.monotonic();
        if !self.is_short || self.asked.is_some_and(|asked| now < asked + EXTENT_INTERVAL) {
            return Ok(ShortAnswer::Wait);
        }
        self.asked = Some(now);
        let extent = cluster.extent(self.id)?;
        if cursor.is_before_end(extent.high) {
            let patience = topics.address.options.wait.limit(true).map_or(CATCH_UP, |limit| limit.min(CATCH_UP));
            if now.saturating_sub(*self.since.get_or_insert(now)) < patience {
                return Ok(ShortAnswer::Wait);
            }
            if cursor.next > extent.high {
                return Ok(ShortAnswer::Truncated);
            }
            cursor.shorten(topics, extent)?;
        } else {
            let stable = cluster.stable_end(self.id)?;
            if cursor.is_before_end(stable) {
                return self.wait_for_transaction(topics, stable, now);
            }
            self.open = None;
        }
        (self.is_short, self.since, self.read_again) = (false, None, Some(cursor.next));
        Ok(ShortAnswer::ReadAgain)
    }

    /// Waits for the end of a transaction that is open at the offset `stable`, before the end of the range. Errors:
    /// exit status 69 if it is open for longer than `wait=` allows.
    #[cold]
    fn wait_for_transaction(&mut self, topics: &Topics, stable: i64, now: Duration) -> Result<ShortAnswer> {
        let name = topics.partition_name(self.id);
        if self.open.is_none() {
            topics.say(format!(
                "{name}@{stable}: waiting for the end of a transaction that is open before the end of the range"
            ));
        }
        let open = now.saturating_sub(*self.open.get_or_insert(now));
        match topics.address.options.wait.limit(true) {
            Some(limit) if open > limit => {
                let message =
                    format!("{name}@{stable}: a transaction before the end of the range did not end in time (wait=)");
                Err(Error::unavailable(message))
            }
            _ => Ok(ShortAnswer::Wait),
        }
    }
}

/// The read state of one partition of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionCursor {
    /// The partition.
    pub id: PartitionId,
    /// Its index in the run's partition table.
    pub partition_index: u32,
    /// Its offsets when the run began; `high` is updated later.
    pub extent: OffsetSpan,
    /// The next offset to read.
    pub next: i64,
    /// The first offset that is not read any more; `None` without an end.
    pub end: Option<i64>,
    /// The stream time (µs) that was committed with the offset.
    pub stream_time: Option<i64>,
    /// Whether the reading of the partition has ended.
    pub ended: bool,
    /// Whether it is to be read after other topics.
    pub waits: bool,
    /// The Kafka timestamp of the last record read (µs).
    pub last: Option<i64>,
    /// The time at which statistics show that the end was at most `extent.high`.
    pub confirmed: Option<Instant>,
    /// Whether the partition was added after the run or its group had begun, so that it is read from its start.
    pub is_new: bool,
    /// Its topic.
    pub topic: KnownTopic,
}

/// The topic that is read, as far as brokers have told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownTopic {
    /// Its id, if the run compares ids and brokers give topics ids.
    pub id: Option<TopicId>,
    /// The next offset at which it was last known to have this id.
    pub checked: i64,
    /// The number of its partitions, as [`Position::partitions`]; before the range is resolved, that of the run.
    pub partitions: Option<i32>,
}

impl PartitionCursor {
    /// Makes the cursor of a partition whose range is not resolved yet.
    pub fn new(id: PartitionId) -> Self {
        Self { id, ..Self::default() }
    }

    /// Whether it is being read.
    #[inline]
    pub fn is_read(&self) -> bool {
        !self.ended && !self.waits
    }

    /// Whether `offset` is at or after the end. Compaction and transactions may leave no record at the last offsets
    /// before the end.
    pub fn is_at_or_after_end(&self, offset: i64) -> bool {
        self.end.is_some_and(|end| offset >= end)
    }

    /// Whether `offset` is before the end, if there is one.
    pub fn is_before_end(&self, offset: i64) -> bool {
        self.end.is_some_and(|end| offset < end)
    }

    /// Whether the next offset is at or after the end.
    pub fn is_done(&self) -> bool {
        self.is_at_or_after_end(self.next)
    }

    /// Whether the partition has no stream time yet: none was committed, and there is no record to read now.
    pub fn has_not_begun(&self) -> bool {
        self.stream_time.is_none() && self.next >= self.extent.high
    }

    /// Returns the position at which reading continues.
    pub fn start(&self) -> Position {
        self.position(None, None)
    }

    /// Returns the position before which every row has been passed on, given the first record that is held back and the
    /// stream time of the partition.
    pub fn position(&self, first_held: Option<i64>, stream_time: Option<i64>) -> Position {
        let (offset, KnownTopic { id: topic_id, partitions, .. }) = (first_held.unwrap_or(self.next), self.topic);
        Position { id: self.id, offset, stream_time, topic_id, partitions }
    }

    /// Moves the next offset to the start of `extent`, the present offsets of the partition, if it is outside of them.
    /// Returns whether the partition has other records now, because it lost records or was recreated; it then has no
    /// stream time. Errors: exit status 65, unless `on_gap=continue`, which only reports the gap.
    pub fn skip_gap(&mut self, topics: &Topics, extent: OffsetSpan) -> Result<bool> {
        self.extent = extent;
        match position::gap(self.next, extent) {
            Some(gap) => self.skip(topics, gap),
            None => Ok(false),
        }
    }

    /// Skips a known gap, as [`PartitionCursor::skip_gap`].
    pub fn skip(&mut self, topics: &Topics, gap: Gap) -> Result<bool> {
        let (OffsetSpan { low, high }, is_of_other_records) = (gap.extent, gap.is_of_other_records());
        self.report(topics, gap, &format!("reading on at {low}"))?;
        self.next = low;
        self.end = self.end.map(|end| if is_of_other_records { end.min(high) } else { end });
        self.stream_time = self.stream_time.filter(|_| !is_of_other_records);
        Ok(is_of_other_records)
    }

    /// Ends the range where the partition ends. Errors: exit status 65, unless `on_gap=continue`.
    fn shorten(&mut self, topics: &Topics, extent: OffsetSpan) -> Result<()> {
        let wanted = self.end.unwrap_or(extent.high);
        self.end = Some(extent.high);
        self.report(topics, Gap { wanted, extent, recreated: None }, "reading up to there")
    }

    /// Reports a gap, and what the run does then. Errors: exit status 65, unless `on_gap=continue`.
    fn report(&self, topics: &Topics, gap: Gap, how: &str) -> Result<()> {
        let message = format!("{}@{}: {}", topics.partition_name(self.id), gap.wanted, gap.describe());
        if !topics.address.options.skips_gaps {
            return Err(Error::corrupt(format!("{message} (on_gap=continue reads on)")));
        }
        topics.run.console.say(format!("{message}; {how}"));
        Ok(())
    }
}

/// Returns the partitions of one topic, or those that `partitions=` names. Errors: exit status 2 if one does not exist.
pub fn cursors(cluster: &dyn Cluster, address: &Address, topic: usize) -> Result<Vec<PartitionCursor>> {
    let (name, count) = (&address.topics[topic], count(cluster, address, topic)?);
    let numbers = match &address.options.partitions {
        Some(numbers) => numbers.clone(),
        None => (0..count).collect(),
    };
    if let Some(number) = numbers.iter().find(|number| **number >= count) {
        let count = partitions(count);
        return Err(Error::usage(format!("{address}: {name} has no partition {number}; it has {count}")));
    }
    let known = KnownTopic { partitions: Some(count), ..KnownTopic::default() };
    let cursor = |number| PartitionCursor { topic: known, ..PartitionCursor::new(PartitionId { topic, number }) };
    Ok(numbers.into_iter().map(cursor).collect())
}

/// Returns these partitions; `counts`: the number of partitions of each topic when the run began. Reports those that
/// were added since.
pub fn assigned(topics: &Topics, partitions: &[PartitionId], counts: &[usize]) -> Vec<PartitionCursor> {
    let cursor = |id: &PartitionId| {
        let count = i32::try_from(counts[id.topic]).ok();
        let is_new = count.is_some_and(|count| id.number >= count);
        if is_new {
            report_new(topics, *id);
        }
        let topic = KnownTopic { partitions: count, ..KnownTopic::default() };
        PartitionCursor { is_new, topic, ..PartitionCursor::new(*id) }
    };
    partitions.iter().map(cursor).collect()
}

fn report_new(topics: &Topics, id: PartitionId) {
    topics.run.console.say(format!("{}: new partition, reading from its start", topics.partition_name(id)));
}

/// Returns the partitions of all topics. Errors: exit status 2 if one that the address names does not exist.
pub fn all_cursors(cluster: &dyn Cluster, address: &Address) -> Result<Vec<PartitionCursor>> {
    let mut all = vec![];
    for topic in 0..address.topics.len() {
        all.extend(cursors(cluster, address, topic)?);
    }
    check_bounds(cluster, address)?;
    Ok(all)
}

/// Makes the error of a partition that `start=` does not name. Exit status 2.
#[cold]
pub fn no_start(topics: &Topics, id: PartitionId) -> Error {
    Error::usage(format!("{}: start= has no offset for partition {}", topics.address, id.number))
}

fn count(cluster: &dyn Cluster, address: &Address, topic: usize) -> Result<i32> {
    let missing =
        || Error::usage(format!("{address}: topic {} does not exist or may not be read", address.topics[topic]));
    cluster.partition_count(topic)?.ok_or_else(missing)
}

/// Checks the partitions that `start=` and `end=` name. Errors: exit status 2 if no topic has one of them.
pub fn check_bounds(cluster: &dyn Cluster, address: &Address) -> Result<()> {
    for (name, bound) in [("start", &address.options.start), ("end", &address.options.end)] {
        let Some(Bound::Offsets(offsets)) = bound else { continue };
        let counts: Vec<i32> =
            (0..address.topics.len()).map(|at| count(cluster, address, at)).collect::<Result<_>>()?;
        let most = counts.into_iter().max().unwrap_or(0);
        if let Some((number, _)) = offsets.iter().find(|(number, _)| *number >= most) {
            let (topics, most) = (address.topics.join(","), partitions(most));
            return Err(Error::usage(format!(
                "{address}: {name}={number}: {topics} has no partition {number}; it has {most}"
            )));
        }
    }
    Ok(())
}

fn partitions(count: i32) -> String {
    counted(u64::from(count.unsigned_abs()), ["partition", "partitions"])
}

/// Reports that nothing is committed although the user named a group.
pub fn report_no_commits(topics: &Topics, read_mode: ReadMode) {
    if let Some(group) = topics.address.options.group.as_ref().filter(|_| read_mode.is_of_stage()) {
        topics.say(format!(
            "group {group} commits nothing, because an output cannot confirm rows or the tool keeps state; a restart reads the \
             records again"
        ));
    }
}

/// Warns of empty partitions in a run without an end: each holds the watermark back until its first record.
pub fn report_empty(topics: &Topics, cursors: &[PartitionCursor]) {
    let is_frames = topics.address.options.form == Some(TopicFormat::Frames);
    let empty = cursors.iter().filter(|cursor| cursor.end.is_none() && cursor.has_not_begun());
    // Frames carry partitions of their own, whose stream time does not depend on where the topic is read from.
    let empty = empty.filter(|cursor| !is_frames || cursor.extent.high <= cursor.extent.low);
    let empty: Vec<PartitionId> = empty.map(|cursor| cursor.id).collect();
    if !empty.is_empty() && empty.len() < cursors.len() {
        let list = names(topics, &empty);
        topics.run.console.say(format!(
            "{list}: empty; evt-window fires no window before each has a record (--idle-after DURATION or end=latest avoids this)"
        ));
    }
}

/// Returns partitions as a list for messages.
pub fn names(topics: &Topics, partitions: &[PartitionId]) -> String {
    let names: Vec<String> = partitions.iter().map(|id| topics.partition_name(*id)).collect();
    names.join(" ")
}

/// Resolves the first and the end offset of each cursor from the options and the offsets that the group committed.
/// Returns the first positions of partitions without a committed offset, if the next run would find others.
pub fn resolve(
    cluster: &dyn Cluster,
    topics: &Topics,
    read_mode: ReadMode,
    cursors: &mut [PartitionCursor],
) -> Result<Vec<Position>> {
    let options = &topics.address.options;
    let topic_ids = set_extents(cluster, cursors)?;
    let start = options.start.clone().unwrap_or(Bound::Earliest);
    let starts = offsets(cluster, &start, cursors)?;
    let end = options.end.clone().or((read_mode == ReadMode::Bounded).then_some(Bound::Latest));
    if let Some(end) = end {
        set_ends(cluster, topics, &end, cursors)?;
    }
    let kept = match &start {
        Bound::Kept(kept) => Some(kept),
        _ => None,
    };
    // For topics whose positions the tool keeps, the positions that the group has committed are ignored.
    let is_of_group = |id: &PartitionId| kept.is_none_or(|kept| kept.others.is_some() && !kept.has(id.topic));
    let of_group: Vec<PartitionId> = match (read_mode, &options.group) {
        (ReadMode::Bounded | ReadMode::Tail, _) | (_, None) => vec![],
        (_, Some(_)) => ids(cursors).into_iter().filter(is_of_group).collect(),
    };
    let committed = if of_group.is_empty() { vec![] } else { cluster.committed(&of_group)? };
    let is_first = |id: &PartitionId| start.changes() && !committed.iter().any(|position| position.id == *id);
    let first: Vec<PartitionId> = of_group.into_iter().filter(is_first).collect();
    mark_added(cluster, topics, &first, cursors)?;
    let mut resolved = vec![];
    for (at, cursor) in cursors.iter_mut().enumerate() {
        let committed = committed.iter().find(|position| position.id == cursor.id);
        let kept = kept.and_then(|kept| kept.of(cursor.id.topic, cursor.id.number));
        let kept_time = kept.and_then(|kept| kept.stream_time);
        cursor.stream_time = committed.and_then(|position| position.stream_time).or(kept_time);
        cursor.next = match committed {
            Some(position) => position.offset,
            None if cursor.is_new => cursor.extent.low,
            None => starts[at].ok_or_else(|| no_start(topics, cursor.id))?,
        };
        let topic_id = topic_ids.get(cursor.id.topic).copied().flatten();
        cursor.topic.id = committed.map_or_else(|| kept?.topic_id, |position| position.topic_id);
        match position::recreated(&cursor.start(), topic_id, cursor.extent, None) {
            Some(gap) => cursor.skip(topics, gap)?,
            None => cursor.skip_gap(topics, cursor.extent)?,
        };
        let is_first = first.contains(&cursor.id);
        let partitions = match committed {
            Some(position) => position.partitions,
            None => cursor.topic.partitions.filter(|_| is_first),
        };
        cursor.topic = KnownTopic { id: topic_id, checked: cursor.next, partitions };
        if is_first && !cursor.is_new {
            resolved.push(cursor.start());
        }
    }
    Ok(resolved)
}

/// Sets the present offsets of each cursor; returns the ids of the topics.
fn set_extents(cluster: &dyn Cluster, cursors: &mut [PartitionCursor]) -> Result<Vec<Option<TopicId>>> {
    // Before the offsets: those of a later topic are read by the id of the earlier one, which brokers do not know.
    let mut topic_ids = cluster.topic_ids()?;
    loop {
        for cursor in cursors.iter_mut() {
            cursor.extent = cluster.extent(cursor.id)?;
        }
        let lacks = |cursor: &PartitionCursor| topic_ids.get(cursor.id.topic).copied().flatten().is_none();
        if !cursors.iter().any(lacks) {
            break;
        }
        // A topic that was away when its id was asked for may have been created since, with these offsets.
        let known = std::mem::replace(&mut topic_ids, cluster.topic_ids()?);
        if known == topic_ids {
            break;
        }
    }
    Ok(topic_ids)
}

/// Marks those of the partitions `first`, which have no committed offset, that were added to their topics after the
/// group had begun to read these, and reports them.
fn mark_added(
    cluster: &dyn Cluster,
    topics: &Topics,
    first: &[PartitionId],
    cursors: &mut [PartitionCursor],
) -> Result<()> {
    let is_first = |cursor: &PartitionCursor| first.contains(&cursor.id) && !cursor.is_new;
    let of_topic = |cursor: &PartitionCursor| {
        let topic = cursor.id.topic;
        (0..cursor.topic.partitions.unwrap_or(0)).map(move |number| PartitionId { topic, number })
    };
    let all: BTreeSet<PartitionId> = cursors.iter().filter(|cursor| is_first(cursor)).flat_map(of_topic).collect();
    if all.is_empty() {
        return Ok(());
    }
    let committed = cluster.committed(&all.into_iter().collect::<Vec<_>>())?;
    for cursor in cursors.iter_mut().filter(|cursor| is_first(cursor)) {
        cursor.is_new = position::is_added(cursor.id, &committed);
        if cursor.is_new {
            report_new(topics, cursor.id);
        }
    }
    Ok(())
}

/// Ends each range where the bound is in the partition, at its present end at the latest. Warns of records behind an
/// open transaction that `latest` leaves out.
fn set_ends(cluster: &dyn Cluster, topics: &Topics, bound: &Bound, cursors: &mut [PartitionCursor]) -> Result<()> {
    let ends = offsets(cluster, bound, cursors)?;
    for (cursor, end) in cursors.iter_mut().zip(ends) {
        let high = cursor.extent.high;
        let end = end.map_or(high, |end| end.min(high));
        if *bound == Bound::Latest && end < high {
            let name = topics.partition_name(cursor.id);
            topics.run.console.warn(format!(
                "{name}: a transaction is open at offset {end}; its records and those after it are not read (up to offset {})",
                high - 1
            ));
        }
        cursor.end = Some(end);
    }
    Ok(())
}

/// Moves a cursor to the start of a topic that was created again. A range with an end gets an end in the new topic.
/// Errors: exit status 65 if records of the earlier topic were to be read, unless `on_gap=continue`.
pub fn begin_again(
    cluster: &dyn Cluster,
    topics: &Topics,
    cursor: &mut PartitionCursor,
    present: TopicId,
) -> Result<()> {
    // The first offset of a new topic. If brokers have removed its first records since, the source reports it.
    cursor.extent = OffsetSpan { low: 0, ..cluster.extent(cursor.id)? };
    match position::recreated(&cursor.start(), Some(present), cursor.extent, cursor.end) {
        Some(gap) => _ = cursor.skip(topics, gap)?,
        None => cursor.next = 0,
    }
    if cursor.end.is_some() {
        let end = topics.address.options.end.as_ref().unwrap_or(&Bound::Latest);
        set_ends(cluster, topics, end, std::slice::from_mut(cursor))?;
    }
    cursor.topic.id = Some(present);
    Ok(())
}

fn ids(cursors: &[PartitionCursor]) -> Vec<PartitionId> {
    cursors.iter().map(|cursor| cursor.id).collect()
}

/// Resolves a bound in each partition.
fn offsets(cluster: &dyn Cluster, bound: &Bound, cursors: &[PartitionCursor]) -> Result<Vec<Option<i64>>> {
    let of_others = match bound {
        Bound::Kept(kept) => kept.others.as_deref(),
        bound => Some(bound),
    };
    let instants = match of_others {
        // Brokers refuse a question about no partition, as a member of a group without partitions would ask it.
        Some(Bound::Instant(text)) if !cursors.is_empty() => {
            // `now` in `start=` and `end=` is the system clock, whatever `--now` is: it is compared with the brokers'
            // timestamps.
            let instant = parse_flag_instant(text, Clock::System.now(), None)?;
            // Kafka has millisecond timestamps: round up.
            let millis = instant.div_euclid(1000) + i64::from(instant.rem_euclid(1000) > 0);
            cluster.offsets_at(&ids(cursors), millis.max(0))?
        }
        _ => vec![],
    };
    let is_latest = matches!(of_others, Some(Bound::Latest));
    let offset = |cursor: &PartitionCursor| {
        let at_instant = instants.iter().find(|position| position.id == cursor.id).map(|position| position.offset);
        let mut extent = cursor.extent;
        if is_latest {
            // Asked after the end, so an offset before that is one of an open transaction.
            extent.high = cluster.stable_end(cursor.id)?.min(extent.high);
        }
        Ok(position::offset_of(bound, cursor.id, extent, at_instant))
    };
    cursors.iter().map(offset).collect()
}
