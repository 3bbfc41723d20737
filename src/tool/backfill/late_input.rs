//! `--late-events`: the late events whose windows are corrected.
//!
//! The store keeps a position for each metric in each stream, because a run reads only the events of its own metrics.
//! A run whose metrics have several positions reads the stream in parts, one for each position.

use super::late_stream::{LateRows, LateSource, LateStream};
use crate::stage::operator::{Collector, Note};
use crate::uri::Uri;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use evt_core::backfill::{EventOfMetric, LateCells, MetricNames, Scope};
use evt_core::error::{Error, Result};
use evt_core::kind::event::{column, instants};
use evt_core::kind::{Kind, PartitionColumns, PartitionName};
use evt_run::client::Caller;
use evt_run::run::Run;
use evt_store::correct::{Corrections, LatePosition};
use evt_store::rows::each_key;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::rc::Rc;
use uuid::Uuid;

/// A late event that the raw input has not held yet.
struct PendingEvent {
    /// Its id and position, for messages.
    name: String,
    /// Its places in the parts that were read.
    places: Vec<EventIndex>,
}

/// The place of a late event; places compare in the order of the input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct EventIndex {
    /// The index of its part in the input.
    part: usize,
    /// Its index in the part.
    event: usize,
}

/// Late events that the run does not count.
#[derive(Default)]
struct UncountedEvents {
    /// The digests of their keys.
    events: BTreeSet<u128>,
    /// The metrics that they name.
    metrics: BTreeSet<String>,
}

impl UncountedEvents {
    fn add(&mut self, key: u128, metric: &str) {
        self.events.insert(key);
        if !self.metrics.contains(metric) {
            self.metrics.insert(metric.to_owned());
        }
    }

    fn metrics(&self) -> String {
        self.metrics.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// The input of late events.
pub(super) struct LateInput {
    uri: Uri,
    /// Whether the positions in its streams are kept: the run corrects all windows of its metrics.
    keeps_positions: bool,
    /// The parts of its streams that were read.
    parts: Vec<LateStream>,
    /// The number of events that were read.
    count: usize,
    /// The late events that were not found in the raw input, by the digest of their key.
    pending: HashMap<u128, PendingEvent>,
    /// The event times of these (µs), from the least to the greatest.
    times: Option<RangeInclusive<i64>>,
    /// Those of metrics that the metrics file does not have.
    unknown: UncountedEvents,
    /// Whether no run has corrected one of these metrics.
    is_unread: bool,
    /// Those that the `where` of their metric rejects.
    rejected: UncountedEvents,
    /// Those that name windows of which rows were removed.
    expired: UncountedEvents,
}

impl LateInput {
    /// Names the input; its positions are kept if `keeps_positions` and if it can be read from there again.
    pub fn new(uri: &OsStr, keeps_positions: bool, caller: &Caller) -> Result<Self> {
        let uri = Uri::of_input(uri, false, caller)?;
        let has_positions = match &uri {
            Uri::File(_) => true,
            Uri::Kafka(address) => address.options.start.is_none(),
            _ => false,
        };
        Ok(Self {
            uri,
            keeps_positions: keeps_positions && has_positions,
            parts: vec![],
            count: 0,
            pending: HashMap::new(),
            times: None,
            unknown: UncountedEvents::default(),
            is_unread: false,
            rejected: UncountedEvents::default(),
            expired: UncountedEvents::default(),
        })
    }

    /// Reads the events after the kept positions, and adds the cells that they name.
    pub fn read(
        &mut self,
        late: &mut LateCells,
        scope: &Scope,
        store: &mut dyn Corrections,
        run: &Rc<Run>,
    ) -> Result<()> {
        let sources = match self.keeps_positions {
            true => LateSource::all(&self.uri, run)?,
            false => vec![LateSource::new(&self.uri)],
        };
        for mut source in sources {
            let mut longest = 0;
            for (kept, metrics) in self.positions(&source, scope, store)? {
                let mut part = LateStream::new(source.name(), metrics);
                let rows = part.read(kept, &mut source, run)?;
                self.parts.push(part);
                for rows in &rows {
                    self.take(rows, late, scope)?;
                    self.take_unknown(rows, &late.unknown(&rows.batch, scope)?, store)?;
                }
                longest = longest.max(self.parts.last().map_or(0, LateStream::len));
            }
            self.count += longest;
        }
        Ok(())
    }

    /// Returns the positions in a stream at which metrics of the run begin, in ascending order.
    fn positions(
        &self,
        source: &LateSource,
        scope: &Scope,
        store: &mut dyn Corrections,
    ) -> Result<BTreeMap<Option<LatePosition>, MetricNames>> {
        let mut positions: BTreeMap<Option<LatePosition>, MetricNames> = BTreeMap::new();
        // An older version has kept one position for all metrics.
        let of_all = if self.keeps_positions { store.late_position(source.name())? } else { None };
        for metric in &scope.metrics {
            let own = match self.keeps_positions {
                true => store.late_position(&position_name(source.name(), &metric.name)?)?,
                false => None,
            };
            positions.entry(own.or_else(|| of_all.clone())).or_default().insert(metric.name.clone());
        }
        Ok(positions)
    }

    /// Adds the cells that events of the last part name.
    fn take(&mut self, rows: &LateRows, late: &mut LateCells, scope: &Scope) -> Result<()> {
        let Some((number, part)) = self.parts.iter_mut().enumerate().next_back() else { return Ok(()) };
        let batch = &rows.batch;
        let found = late.name(batch, scope, part.metrics())?;
        let times = instants(batch, column::EVENT_TIME);
        let keys = each_key(Kind::Event, batch)?;
        let first = part.add(rows, &keys);
        for rejected in &found.rejected {
            self.rejected.add(keys[rejected.row], &rejected.metric);
        }
        for expired in &found.expired {
            self.expired.add(keys[expired.row], &expired.metric);
        }
        for (row, key) in keys.into_iter().enumerate().filter(|(row, _)| found.named[*row]) {
            let event = || PendingEvent { name: name(batch, row), places: vec![] };
            let place = EventIndex { part: number, event: first + row };
            self.pending.entry(key).or_insert_with(event).places.push(place);
            let known = self.times.take().unwrap_or(times[row]..=times[row]);
            self.times = Some(times[row].min(*known.start())..=times[row].max(*known.end()));
        }
        Ok(())
    }

    /// Notes events of metrics that the metrics file does not have, if they are behind the positions of these metrics.
    fn take_unknown(&mut self, rows: &LateRows, unknown: &[EventOfMetric], store: &mut dyn Corrections) -> Result<()> {
        let (Some(part), false) = (self.parts.last(), unknown.is_empty()) else { return Ok(()) };
        let keys = each_key(Kind::Event, &rows.batch)?;
        let mut positions: BTreeMap<&str, Option<LatePosition>> = BTreeMap::new();
        for event in unknown {
            if !positions.contains_key(event.metric.as_str()) {
                let position = store.late_position(&position_name(part.name(), &event.metric)?)?;
                positions.insert(&event.metric, position);
            }
            let position = positions.get(event.metric.as_str()).and_then(Option::as_ref);
            if position.is_none_or(|position| rows.number(event.row) >= position.next) {
                self.unknown.add(keys[event.row], &event.metric);
                self.is_unread |= position.is_none();
            }
        }
        Ok(())
    }

    /// Notes the late events that a batch of the raw input holds.
    pub fn find(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(late) = self.times.as_ref().filter(|_| !self.pending.is_empty()) else { return Ok(()) };
        let times = instants(batch, column::EVENT_TIME);
        if times.iter().any(|time| late.contains(time)) {
            for key in each_key(Kind::Event, batch)? {
                self.pending.remove(&key);
            }
        }
        Ok(())
    }

    /// Returns the position of each metric, before the first pending event of its part, by its name in the store.
    pub fn positions_to_keep(&self) -> Result<Vec<(String, LatePosition)>> {
        let mut kept = vec![];
        for (number, part) in self.parts.iter().enumerate().filter(|_| self.keeps_positions) {
            let places = self.pending.values().flat_map(|pending| &pending.places);
            let of_part = places.filter(|place| place.part == number);
            if let Some(position) = part.position(of_part.map(|place| place.event).min()) {
                for metric in part.metrics() {
                    kept.push((position_name(part.name(), metric)?, position.clone()));
                }
            }
        }
        Ok(kept)
    }

    /// Reports the events that were read, and those that the run did not count.
    pub fn report(&self, out: &mut dyn Collector) {
        out.detail("late_events", self.count.into());
        if let Some(first) = self.pending.values().min_by_key(|pending| pending.places.iter().min()) {
            let (count, first) = (self.pending.len(), &first.name);
            let line = format!("late events pending: {count}; the input does not hold them, first {first}");
            out.warn(line);
            out.detail("late_pending", count.into());
            out.set_verdict(1);
        }
        if !self.unknown.events.is_empty() {
            let (count, metrics) = (self.unknown.events.len(), self.unknown.metrics());
            let line = format!(
                "late events of other metrics: {count}; the file of --metrics does not have {metrics}; a run with these \
                 metrics counts them"
            );
            // A metric that has a position has a run of its own, which reads these events.
            out.note(if self.is_unread { Note::Warning(line) } else { Note::Info(line) });
        }
        if !self.expired.events.is_empty() {
            let (count, metrics) = (self.expired.events.len(), self.expired.metrics());
            out.warn(format!(
                "late events of removed days: {count}; windows of {metrics} that they are in are not corrected, because rows of \
                 them have expired"
            ));
            out.detail("late_expired", count.into());
            out.set_verdict(1);
        }
        if !self.rejected.events.is_empty() {
            let (count, metrics) = (self.rejected.events.len(), self.rejected.metrics());
            out.warn(format!(
                "late events rejected: {count}; `where` of {metrics} does not select them; if `where` was wrong, a run with \
                 --since and --until counts them"
            ));
        }
    }
}

/// Returns the name of the position of a metric in a stream.
fn position_name(stream: &str, metric: &str) -> Result<String> {
    serde_json::to_string(&[stream, metric]).map_err(|error| Error::broken(format!("position: {error}")))
}

/// Names a late event by its id and position.
fn name(batch: &RecordBatch, row: usize) -> String {
    let partitions = PartitionColumns::new(batch);
    let PartitionName { origin, partition } = partitions.name(partitions.codes().nth(row).unwrap_or_default());
    let id = batch.column(column::EVENT_ID).as_fixed_size_binary().value(row);
    let offset = batch.column(column::OFFSET).as_primitive::<Int64Type>().value(row);
    let id = Uuid::from_slice(id).unwrap_or_default();
    format!("{id} at {origin}/{partition}@{offset}")
}
