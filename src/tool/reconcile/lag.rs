//! `--lag`: how far a consumer group is behind the end of its topics.
//!
//! The time behind is that of the first record that is not committed, so it is read. The group is not joined.

use super::args::Args;
use super::report::{end, measured};
use crate::uri::Uri;
use evt_core::error::{Error, Result};
use evt_core::reconcile::measure::{PartitionLag, lag_fault, lag_rows, lag_text};
use evt_kafka::client::{Topics, failed, is_transient};
use evt_kafka::group::TopicOptions;
use evt_kafka::library::{Connections, uncommitted_source};
use evt_kafka::position::{ByPartition, PartitionId, Position};
use evt_kafka::range::{self, PartitionCursor};
use evt_kafka::source::{Message, RecordSink, RecordSource, SourceEvent};
use evt_run::run::Run;
use std::ffi::OsString;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

/// How long the first records may take, if `wait=` sets no time.
const WAIT: Duration = Duration::from_secs(30);

/// Measures the lag; returns the exit status.
pub fn measure(args: &Args, text: &OsString, run: &Rc<Run>) -> Result<u8> {
    let uri = Uri::parse(text, &run.caller())?;
    let Uri::Kafka(address) = &uri else {
        return Err(Error::usage(format!("--lag: expected kafka://HOST:PORT/TOPIC?group=NAME, found {uri}")));
    };
    let Some(group) = address.options.group.clone() else {
        return Err(Error::usage(format!("--lag: {address}: expected group=NAME")));
    };
    let topics = Topics::new(address, run);
    let Connections { cluster, mut source } = Connections::new(&topics, &TopicOptions::default())?;
    let (mut lags, mut has_committed) = (vec![], false);
    for topic in 0..topics.address.topics.len() {
        let mut cursors = range::cursors(&*cluster, address, topic)?;
        let ids: Vec<PartitionId> = cursors.iter().map(|cursor| cursor.id).collect();
        let committed = cluster.committed(&ids)?;
        has_committed |= !committed.is_empty();
        let committed = |id: PartitionId| committed.iter().find(|position| position.id == id).map(|one| one.offset);
        let mut is_open = ByPartition::new();
        for cursor in &mut cursors {
            cursor.extent = cluster.extent(cursor.id)?;
            cursor.next = committed(cursor.id).unwrap_or(0).max(cursor.extent.low);
            is_open.insert(cursor.id, cluster.stable_end(cursor.id)? < cursor.extent.high);
        }
        // Behind an open transaction nothing can be read, but records are there.
        let (open, closed): (Vec<_>, Vec<_>) = cursors.iter().cloned().partition(|cursor| is_open[&cursor.id]);
        let mut first = UncommittedRecords::read(&closed, &mut source, &topics)?.records;
        if !open.is_empty() {
            first.extend(UncommittedRecords::read(&open, &mut uncommitted_source(&topics)?, &topics)?.records);
        }
        lags.extend(cursors.iter().map(|cursor| {
            let found = first.get(&cursor.id);
            let behind = found.and_then(|at| *at).map_or(0, |at| run.clock.now().saturating_sub(at).max(0));
            PartitionLag {
                topic: topics.name(topic).to_owned(),
                partition: cursor.id.number,
                committed: committed(cursor.id),
                end: cursor.extent.high,
                records: if found.is_some() { cursor.extent.high - cursor.next } else { 0 },
                behind,
            }
        }));
    }
    if !has_committed {
        run.console.deny(format!(
            "{address}: group {group} has committed no offset: it has not read the topic, or its offsets expired"
        ));
        return end(args, true, None, run);
    }
    let fault = lag_fault(&lags, &group, args.measure.max_lag);
    measured(args, fault, &|| lag_text(&lags, &group), &|| lag_rows(&lags), run)
}

/// The first record of each partition that is not committed.
struct UncommittedRecords {
    /// The timestamps of the records (µs), if they have one.
    records: ByPartition<Option<i64>>,
    /// The partitions that are read, with the offsets that are not committed.
    open: ByPartition<Range<i64>>,
}

impl UncommittedRecords {
    /// Reads from the next offset of each cursor until there is a record, or the end. Errors: exit status 69 if brokers
    /// do not answer in time.
    fn read(cursors: &[PartitionCursor], source: &mut Box<dyn RecordSource>, topics: &Topics) -> Result<Self> {
        let unread = cursors.iter().filter(|cursor| cursor.next < cursor.extent.high);
        let starts: Vec<Position> = unread.map(PartitionCursor::start).collect();
        let offsets = cursors.iter().map(|cursor| (cursor.id, cursor.next..cursor.extent.high));
        let open = offsets.filter(|(_, offsets)| !offsets.is_empty()).collect();
        let mut first = Self { records: ByPartition::new(), open };
        if starts.is_empty() {
            return Ok(first);
        }
        source.assign(&starts)?;
        let (run, limit) = (&topics.run, topics.address.options.wait.limit(false).unwrap_or(WAIT));
        let start = run.clock.monotonic();
        while !first.open.is_empty() {
            match source.poll(&mut first)? {
                SourceEvent::PartitionEnd(number) => first.open.retain(|id, _| id.number != number),
                SourceEvent::Failed(error) if error.rdkafka_error_code().is_some_and(is_transient) => {}
                SourceEvent::Failed(error) => return Err(failed(&topics.address, "reading failed", &error)),
                SourceEvent::Unsupported(why) => {
                    *source = source.fall_back().ok_or_else(|| Error::corrupt(why))?;
                    source.reset(&starts)?;
                }
                SourceEvent::Records
                | SourceEvent::OutOfRange
                | SourceEvent::AfterPause
                | SourceEvent::UnknownTopic => {}
                SourceEvent::Idle | SourceEvent::Unreachable => source.wait(Run::TICK)?,
            }
            if run.stop.signal().is_some() || run.clock.monotonic().saturating_sub(start) > limit {
                let partitions = first.open.keys().map(|id| topics.partition_name(*id)).collect::<Vec<_>>().join(" ");
                let message = format!("{}: no record of {partitions} in time", topics.address);
                return Err(Error::unavailable(message));
            }
        }
        source.revoke(&starts.iter().map(|start| start.id).collect::<Vec<_>>())?;
        Ok(first)
    }
}

impl RecordSink for UncommittedRecords {
    fn record(&mut self, id: PartitionId, message: &Message<'_>) -> Result<bool> {
        let Some(offsets) = self.open.get(&id) else { return Ok(true) };
        if message.offset < offsets.start {
            // A batch of records may begin before the offset that was requested.
            return Ok(false);
        }
        if message.offset < offsets.end {
            self.records.insert(id, message.arrival.map(|arrival| arrival.at));
        }
        self.open.remove(&id);
        Ok(true)
    }

    fn read_to(&mut self, id: PartitionId, next: Option<i64>, _high: i64) -> Result<bool> {
        let is_over = self.open.get(&id).is_none_or(|offsets| next.is_some_and(|next| next >= offsets.end));
        if is_over {
            self.open.remove(&id);
        }
        Ok(is_over)
    }
}
