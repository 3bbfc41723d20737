//! A stream of late events: the part that a run has read, and the position that the store keeps.
//!
//! A position is the number of the next event: in a file the number of events before it, in a partition of a topic its
//! offset. The digest of the event before it shows whether the stream is still the same one.
//!
//! - [`LateSource`]: a file, or a partition of a topic;
//! - [`LateStream`]: the part of it behind one position, which some metrics of the run have.

use crate::source::{self, SourceOptions};
use crate::stage::feeds::Feeds;
use crate::stage::poll::read_to_end;
use crate::uri::Uri;
use arrow::array::RecordBatch;
use evt_core::backfill::MetricNames;
use evt_core::error::{Error, Result};
use evt_core::frame::Control;
use evt_core::kind::Kind;
use evt_core::mapping::{self, Provenance, TimeFrom};
use evt_kafka::address::{Address, Bound};
use evt_kafka::client::Topics;
use evt_kafka::library::LibraryCluster;
use evt_kafka::position::{self, OffsetSpan};
use evt_kafka::range::{self, ReadMode};
use evt_kafka::source::Cluster;
use evt_run::emit::{Item, RecordOptions};
use evt_run::run::Run;
use evt_store::correct::LatePosition;
use evt_store::rows::each_key;
use std::ops::Range;
use std::rc::Rc;

/// Late events that were read together.
#[derive(Clone)]
pub(super) struct LateRows {
    /// The events.
    pub batch: RecordBatch,
    /// Their numbers. Some of these have no event, or several, in a topic with frames, tombstones or transactions.
    numbers: Range<u64>,
}

impl LateRows {
    /// Whether each number is that of one event.
    fn is_dense(&self) -> bool {
        self.numbers.end - self.numbers.start == self.batch.num_rows() as u64
    }

    /// Returns the number of an event; if single events have no known numbers, the last number of all of these events.
    pub fn number(&self, row: usize) -> u64 {
        if self.is_dense() { self.numbers.start + row as u64 } else { self.numbers.end.saturating_sub(1) }
    }
}

/// The numbers of some successive events.
struct Numbers {
    /// The index of the first one.
    first: usize,
    numbers: Range<u64>,
    is_dense: bool,
}

/// A file, or a partition of a topic.
pub(super) struct LateSource {
    uri: Uri,
    /// The name under which its positions are kept.
    name: String,
    /// The offsets of a partition.
    extent: Option<OffsetSpan>,
    /// The events of a file once it was read: it may be a pipe, which can be read only once.
    whole: Option<Vec<LateRows>>,
}

/// The part of a source that is read for some metrics.
pub(super) struct LateStream {
    /// The name of the source.
    name: String,
    metrics: MetricNames,
    /// The number at which reading begins.
    start: u64,
    /// The number behind the last one that was read.
    end: u64,
    /// The digest of the key of each event, in order.
    keys: Vec<u128>,
    numbers: Vec<Numbers>,
    /// The position that the store has.
    kept: Option<LatePosition>,
}

impl LateSource {
    /// Makes a source that is read from its beginning.
    pub fn new(uri: &Uri) -> Self {
        Self { uri: uri.clone(), name: uri.to_string(), extent: None, whole: None }
    }

    /// Makes the sources of an input, each with positions of its own. Errors: those of the brokers.
    pub fn all(uri: &Uri, run: &Rc<Run>) -> Result<Vec<Self>> {
        let Uri::Kafka(address) = uri else { return Ok(vec![Self::new(uri)]) };
        let (cluster, mut sources) = (LibraryCluster::new(&Topics::new(address, run))?, vec![]);
        for (topic, name) in address.topics.iter().enumerate() {
            for cursor in range::cursors(&cluster, address, topic)? {
                let mut of_topic = Address { topics: vec![name.clone()], ..(**address).clone() };
                of_topic.options.partitions = Some(vec![cursor.id.number]);
                let name = format!("{of_topic}/{}", cursor.id.number);
                let extent = Some(cluster.extent(cursor.id)?);
                sources.push(Self { name, extent, ..Self::new(&Uri::Kafka(Box::new(of_topic))) });
            }
        }
        Ok(sources)
    }

    /// Returns the name under which its positions are kept.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads all events from a number on; a file only from its beginning.
    fn rows_from(&mut self, start: u64, run: &Rc<Run>) -> Result<Vec<LateRows>> {
        let mut uri = self.uri.clone();
        if let (Uri::Kafka(address), Some(extent)) = (&mut uri, self.extent) {
            if start >= extent.high.unsigned_abs() {
                return Ok(vec![]);
            }
            let number = address.options.partitions.as_ref().and_then(|numbers| numbers.first());
            address.options.start = number.map(|number| Bound::Offsets(vec![(*number, start.cast_signed())]));
            return LateReader::read(&uri, start, run);
        }
        if self.whole.is_none() {
            self.whole = Some(LateReader::read(&uri, start, run)?);
        }
        Ok(self.whole.clone().unwrap_or_default())
    }
}

impl LateStream {
    /// Makes a part that is read for these metrics of a source.
    pub fn new(name: &str, metrics: MetricNames) -> Self {
        let name = name.to_owned();
        Self { name, metrics, start: 0, end: 0, keys: vec![], numbers: vec![], kept: None }
    }

    /// Returns the name of the source.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the metrics for which it is read.
    pub fn metrics(&self) -> &MetricNames {
        &self.metrics
    }

    /// Returns the number of events that were read.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Reads the events behind the position that the store has. If the source is another one than before, it is read
    /// from its beginning.
    pub fn read(
        &mut self,
        kept: Option<LatePosition>,
        source: &mut LateSource,
        run: &Rc<Run>,
    ) -> Result<Vec<LateRows>> {
        let extent = source.extent;
        self.kept.clone_from(&kept);
        let kept = kept.filter(|kept| kept.next > 0).and_then(|kept| self.present(kept, extent, run));
        let least = extent.map_or(0, |extent| extent.low.unsigned_abs());
        if let Some(LatePosition { next, last }) = kept {
            let first = if last.is_empty() { next } else { next - 1 };
            let rows = source.rows_from(if extent.is_some() { first } else { 0 }, run)?;
            if let Some(rows) = behind(rows, next, &last)? {
                self.begin_at(next);
                return Ok(rows);
            }
            run.console.say(format!("{}: other late events than before; read from the beginning", self.name));
        }
        self.begin_at(least);
        source.rows_from(least, run)
    }

    /// Returns the position if the partition still has it, without the digest of an event that it no longer has.
    fn present(&self, kept: LatePosition, extent: Option<OffsetSpan>, run: &Run) -> Option<LatePosition> {
        let Some(extent) = extent else { return Some(kept) };
        let next = kept.next.cast_signed();
        if let Some(gap) = position::gap(next, extent) {
            let line = format!("{}: {}; late events are read from offset {}", self.name, gap.describe(), extent.low);
            run.console.say(line);
            return None;
        }
        let last = if next > extent.low { kept.last } else { String::new() };
        Some(LatePosition { last, ..kept })
    }

    fn begin_at(&mut self, number: u64) {
        (self.start, self.end) = (number, number);
    }

    /// Adds the events of a batch; returns the index of the first one.
    pub fn add(&mut self, rows: &LateRows, keys: &[u128]) -> usize {
        let first = self.keys.len();
        self.end = rows.numbers.end;
        self.numbers.push(Numbers { first, numbers: rows.numbers.clone(), is_dense: rows.is_dense() });
        self.keys.extend_from_slice(keys);
        first
    }

    /// Returns the position before the event with the index `first_pending`, else behind the last one; `None` if it is
    /// that of the store.
    pub fn position(&self, first_pending: Option<usize>) -> Option<LatePosition> {
        let next = first_pending.map_or(self.end, |index| self.number(index));
        if next == self.kept.as_ref().map_or(0, |kept| kept.next) {
            return None;
        }
        let holds = |numbers: &&Numbers| numbers.is_dense && numbers.numbers.contains(&(next.wrapping_sub(1)));
        let last = self.numbers.iter().find(holds).and_then(|numbers| {
            let at = usize::try_from(next - 1 - numbers.numbers.start).ok()?;
            self.keys.get(numbers.first + at).map(|key| text(*key))
        });
        Some(LatePosition { next, last: last.unwrap_or_default() })
    }

    /// Returns the number at which the event with this index is read again.
    fn number(&self, index: usize) -> u64 {
        let at = self.numbers.partition_point(|numbers| numbers.first <= index);
        let Some(Numbers { first, numbers, is_dense }) = at.checked_sub(1).and_then(|at| self.numbers.get(at)) else {
            return self.start;
        };
        numbers.start + if *is_dense { (index - first) as u64 } else { 0 }
    }
}

/// Returns the rows behind a position; `None` if the event before it has another digest than `last`, unless that is
/// empty.
fn behind(rows: Vec<LateRows>, next: u64, last: &str) -> Result<Option<Vec<LateRows>>> {
    let (mut left, mut is_same) = (vec![], last.is_empty());
    for rows in rows {
        // Of rows that are not dense the first one has the first number.
        let known = match rows.is_dense() {
            true => next.saturating_sub(rows.numbers.start),
            false => u64::from(rows.numbers.start < next && !last.is_empty()),
        };
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(rows.batch.num_rows());
        if let Some(before) = known.checked_sub(1)
            && (!rows.is_dense() || rows.numbers.start + known as u64 == next)
        {
            is_same |= each_key(Kind::Event, &rows.batch)?.get(before).is_some_and(|key| text(*key) == last);
        }
        let LateRows { batch, numbers } = rows;
        if known < batch.num_rows() {
            let start = if known > 0 { (numbers.start + known as u64).min(numbers.end) } else { numbers.start };
            left.push(LateRows { batch: batch.slice(known, batch.num_rows() - known), numbers: start..numbers.end });
        }
    }
    Ok(is_same.then_some(left))
}

fn text(key: u128) -> String {
    format!("{key:032x}")
}

/// The late events of an input that were read so far.
struct LateReader {
    is_topic: bool,
    /// The number of the next event.
    next: u64,
    /// Events whose numbers are not known yet.
    open: Vec<RecordBatch>,
    rows: Vec<LateRows>,
}

impl LateReader {
    /// Reads an input to its end; its first event has the number `next`.
    fn read(uri: &Uri, next: u64, run: &Rc<Run>) -> Result<Vec<LateRows>> {
        let mapping = mapping::Options { time: TimeFrom::Untimed, provenance: Provenance::Keep, ..Default::default() };
        let mut options = SourceOptions::default();
        options.records = RecordOptions { kind: Some(Kind::Late), mapping, ..options.records };
        options.inputs.topics.read_mode = ReadMode::Bounded;
        let mut feeds = Feeds::from(source::Source::open(std::slice::from_ref(uri), options, run.clone())?);
        let mut reader = Self { is_topic: matches!(uri, Uri::Kafka(_)), next, open: vec![], rows: vec![] };
        read_to_end(&mut feeds, run, &mut |source, item| {
            match item {
                Some(Item::Batch(batch)) if source.kind() == Kind::Late => reader.open.push(batch),
                Some(Item::Batch(_)) => {
                    let kind = source.kind();
                    return Err(Error::usage(format!("{uri}: expected late events, found rows of kind {kind}")));
                }
                Some(Item::Dead(_)) => {
                    return Err(Error::corrupt(format!("{uri}: expected late events, found a faulty record")));
                }
                // Only rows are read: watermarks, progress and epochs of the stream say nothing about them.
                Some(
                    Item::Control(
                        Control::Progress(_)
                        | Control::Watermark(_)
                        | Control::Barrier(_)
                        | Control::Metrics(_)
                        | Control::End(_),
                    )
                    | Item::Idle,
                ) => return Ok(()),
                Some(Item::End(_)) | None => {}
            }
            reader.close(source)
        })?;
        Ok(reader.rows)
    }

    /// Numbers the events that were read, once all before the present position of a partition are taken.
    fn close(&mut self, source: &mut source::Source) -> Result<()> {
        if !self.is_topic {
            for batch in std::mem::take(&mut self.open) {
                let end = self.next + batch.num_rows() as u64;
                self.push(batch, end);
            }
            return Ok(());
        }
        let (items, reached) = source.reached(true)?;
        let [reached] = &reached[..] else {
            // The events of several partitions have no position.
            std::mem::take(&mut self.open).into_iter().for_each(|batch| self.push(batch, 0));
            return Ok(());
        };
        if source.taken() < items || self.open.is_empty() {
            return Ok(());
        }
        let end = reached.next.unsigned_abs();
        let batch = arrow::compute::concat_batches(&self.open[0].schema(), &self.open)?;
        self.open.clear();
        self.push(batch, end);
        Ok(())
    }

    fn push(&mut self, batch: RecordBatch, end: u64) {
        let numbers = self.next..end.max(self.next);
        self.next = numbers.end;
        self.rows.push(LateRows { batch, numbers });
    }
}
