//! `--late-events`: the late events whose windows are corrected.

use super::late_stream::{LateRows, LateStream};
use crate::backfill::{LateCells, Scope};
use crate::error::Result;
use crate::kind::Kind;
use crate::kind::event::column;
use crate::run::Run;
use crate::store::correct::Corrections;
use crate::store::rows::each_key;
use crate::uri::Uri;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::rc::Rc;
use uuid::Uuid;

/// A late event that the raw input has not held yet.
struct PendingEvent {
    /// Its id and position, for messages.
    name: String,
    at: EventIndex,
}

/// The place of a late event; places compare in the order of the input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct EventIndex {
    /// The index of its stream in the input.
    stream: usize,
    /// Its index in the stream.
    event: usize,
}

/// The input of late events.
pub(super) struct LateInput {
    uri: Uri,
    /// Whether the positions in its streams are kept: the run corrects the windows of all of its events.
    keeps_positions: bool,
    streams: Vec<LateStream>,
    /// The late events that were not found in the raw input, by the digest of their key.
    pending: HashMap<u128, PendingEvent>,
    /// The event times of these (µs), from the least to the greatest.
    times: Option<RangeInclusive<i64>>,
}

impl LateInput {
    /// Names the input; its positions are kept if `keeps_positions` and if it can be read from there again.
    pub fn new(uri: &OsStr, keeps_positions: bool) -> Result<Self> {
        let uri = Uri::of_input(uri, false)?;
        let has_positions = match &uri {
            Uri::File(_) => true,
            Uri::Kafka(address) => address.options.start.is_none(),
            _ => false,
        };
        let keeps_positions = keeps_positions && has_positions;
        Ok(Self { uri, keeps_positions, streams: vec![], pending: HashMap::new(), times: None })
    }

    /// Reads the events after the kept positions, and adds the cells that they name.
    pub fn read(
        &mut self,
        late: &mut LateCells,
        scope: &Scope,
        store: &mut dyn Corrections,
        run: &Rc<Run>,
    ) -> Result<()> {
        let streams = match self.keeps_positions {
            true => LateStream::all(&self.uri, run)?,
            false => vec![(LateStream::new(&self.uri), None)],
        };
        for (mut stream, extent) in streams {
            let kept = if self.keeps_positions { store.late_position(stream.name())? } else { None };
            let rows = stream.read(kept, extent, run)?;
            self.streams.push(stream);
            rows.iter().try_for_each(|rows| self.take(rows, late, scope))?;
        }
        Ok(())
    }

    /// Adds the cells that events of the last stream name.
    fn take(&mut self, rows: &LateRows, late: &mut LateCells, scope: &Scope) -> Result<()> {
        let Some(number) = self.streams.len().checked_sub(1) else { return Ok(()) };
        let batch = &rows.batch;
        let named = late.name(batch, scope)?;
        let times = batch.column(column::EVENT_TIME).as_primitive::<TimestampMicrosecondType>().values();
        let keys = each_key(Kind::Event, batch)?;
        let first = self.streams[number].add(rows, &keys);
        for (row, key) in keys.into_iter().enumerate().filter(|(row, _)| named[*row]) {
            let event =
                || PendingEvent { name: name(batch, row), at: EventIndex { stream: number, event: first + row } };
            self.pending.entry(key).or_insert_with(event);
            let known = self.times.take().unwrap_or(times[row]..=times[row]);
            self.times = Some(times[row].min(*known.start())..=times[row].max(*known.end()));
        }
        Ok(())
    }

    /// Returns the number of late events that were read.
    pub fn count(&self) -> usize {
        self.streams.iter().map(LateStream::len).sum()
    }

    /// Notes the late events that a batch of the raw input holds.
    pub fn find(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some(late) = self.times.as_ref().filter(|_| !self.pending.is_empty()) else { return Ok(()) };
        let times = batch.column(column::EVENT_TIME).as_primitive::<TimestampMicrosecondType>().values();
        if times.iter().any(|time| late.contains(time)) {
            for key in each_key(Kind::Event, batch)? {
                self.pending.remove(&key);
            }
        }
        Ok(())
    }

    /// Returns the number of late events that the raw input does not hold, and the first of them.
    pub fn pending(&self) -> Option<(usize, &str)> {
        let first = self.pending.values().min_by_key(|pending| pending.at)?;
        Some((self.pending.len(), &first.name))
    }

    /// Keeps the position before the first pending event of each stream.
    pub fn keep_positions(&self, store: &mut dyn Corrections) -> Result<()> {
        for (number, stream) in self.streams.iter().enumerate().filter(|_| self.keeps_positions) {
            let of_stream = self.pending.values().filter(|pending| pending.at.stream == number);
            if let Some(position) = stream.position(of_stream.map(|pending| pending.at.event).min()) {
                store.set_late_position(stream.name(), &position)?;
            }
        }
        Ok(())
    }
}

/// Names a late event by its id and position.
fn name(batch: &RecordBatch, row: usize) -> String {
    let text = |column: usize| {
        let values = batch.column(column).as_any_dictionary();
        let code = values.normalized_keys().get(row).copied().unwrap_or_default();
        values.values().as_string::<i32>().value(code).to_owned()
    };
    let id = batch.column(column::EVENT_ID).as_fixed_size_binary().value(row);
    let offset = batch.column(column::OFFSET).as_primitive::<Int64Type>().value(row);
    let id = Uuid::from_slice(id).unwrap_or_default();
    format!("{id} at {}/{}@{offset}", text(column::ORIGIN), text(column::PARTITION))
}
