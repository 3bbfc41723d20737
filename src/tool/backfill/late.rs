//! `--late-events`: the late events whose windows are corrected.

use crate::backfill::{LateCells, Scope};
use crate::error::{Error, Result};
use crate::ingest::{Item, Sent};
use crate::kafka::range::ReadMode;
use crate::kind::Kind;
use crate::kind::event::column;
use crate::mapping::{self, Provenance, TimeFrom};
use crate::run::Run;
use crate::source::{Polled, Source, SourceOptions};
use crate::store::correct::{Corrections, LatePosition};
use crate::store::rows::each_key;
use crate::uri::Uri;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::rc::Rc;
use uuid::Uuid;

/// A late event that the raw input has not held yet.
struct PendingEvent {
    /// Its id and position, for messages.
    name: String,
    /// Its number in the stream of late events.
    number: u64,
}

/// The stream of late events.
pub(super) struct LateInput {
    uri: Uri,
    /// Whether the position in the stream is kept: the run corrects the windows of all of its events.
    keeps_position: bool,
    /// The late events that were not found in the raw input, by the digest of their key.
    pending: HashMap<u128, PendingEvent>,
    /// The least and the greatest event time of these (µs).
    times: Option<(i64, i64)>,
    /// The digest of the key of each event after the position, in order.
    keys: Vec<u128>,
    /// Number of events before them.
    skipped: u64,
}

impl LateInput {
    /// Names the stream; its position is kept if `keeps_position` and if it can be read again.
    pub fn new(uri: &OsStr, keeps_position: bool) -> Result<Self> {
        let uri = Uri::parse(uri)?;
        let keeps_position = keeps_position && matches!(uri, Uri::File(_));
        Ok(Self { uri, keeps_position, pending: HashMap::new(), times: None, keys: vec![], skipped: 0 })
    }

    /// Reads the events after the kept position, and adds the cells that they name.
    pub fn read(
        &mut self,
        late: &mut LateCells,
        scope: &Scope,
        store: &mut dyn Corrections,
        run: &Rc<Run>,
    ) -> Result<()> {
        let kept = if self.keeps_position { store.late_position(&self.uri.to_string())? } else { None };
        if let Some(kept) = kept
            && kept.rows > 0
        {
            let (mut number, mut is_same) = (0, false);
            self.each_batch(run, |batch| {
                for key in each_key(Kind::Event, batch)? {
                    number += 1;
                    is_same |= number == kept.rows && text(key) == kept.last;
                }
                Ok(())
            })?;
            if is_same {
                self.skipped = kept.rows;
            } else {
                run.console.say(format!("{}: other late events than before; read from the beginning", self.uri));
            }
        }
        let (mut number, mut batches) = (0, vec![]);
        let skipped = self.skipped;
        self.each_batch(run, |batch| {
            let rows = batch.num_rows();
            let skip = usize::try_from(skipped.saturating_sub(number)).unwrap_or(rows).min(rows);
            number += rows as u64;
            if skip < rows {
                batches.push(batch.slice(skip, rows - skip));
            }
            Ok(())
        })?;
        batches.iter().try_for_each(|batch| self.take(batch, late, scope))
    }

    /// Adds the cells that the events of a batch name.
    fn take(&mut self, batch: &RecordBatch, late: &mut LateCells, scope: &Scope) -> Result<()> {
        let named = late.name(batch, scope)?;
        let times = batch.column(column::EVENT_TIME).as_primitive::<TimestampMicrosecondType>().values();
        for (row, key) in each_key(Kind::Event, batch)?.into_iter().enumerate() {
            if named[row] {
                let number = self.skipped + self.keys.len() as u64;
                self.pending.entry(key).or_insert_with(|| PendingEvent { name: name(batch, row), number });
                let (least, greatest) = self.times.unwrap_or((times[row], times[row]));
                self.times = Some((least.min(times[row]), greatest.max(times[row])));
            }
            self.keys.push(key);
        }
        Ok(())
    }

    /// Calls `take` with each batch of late events.
    fn each_batch(&self, run: &Rc<Run>, mut take: impl FnMut(&RecordBatch) -> Result<()>) -> Result<()> {
        let mapping = mapping::Options { time: TimeFrom::Untimed, provenance: Provenance::Keep, ..Default::default() };
        let read_mode = ReadMode::Bounded;
        let options = SourceOptions { kind: Some(Kind::Late), mapping, read_mode, ..SourceOptions::default() };
        let mut source = Source::open(std::slice::from_ref(&self.uri), options, run.clone())?;
        loop {
            let item = match source.poll()? {
                Polled::Item(Sent { item, .. }) => item,
                Polled::Progress => continue,
                Polled::Waiting(timeout) => {
                    source.wait(timeout)?;
                    continue;
                }
            };
            match item {
                Item::Batch(batch) if source.kind() == Kind::Late => take(&batch)?,
                Item::Batch(_) => {
                    let kind = source.kind().name();
                    return Err(Error::usage(format!("{}: expected late events, found rows of kind {kind}", self.uri)));
                }
                Item::Dead(_) => {
                    return Err(Error::corrupt(format!("{}: expected late events, found a faulty record", self.uri)));
                }
                Item::End(_) => return Ok(()),
                Item::Control(_) | Item::Idle => {}
            }
        }
    }

    /// Notes the late events that a batch of the raw input holds.
    pub fn find(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some((least, greatest)) = self.times.filter(|_| !self.pending.is_empty()) else { return Ok(()) };
        let times = batch.column(column::EVENT_TIME).as_primitive::<TimestampMicrosecondType>().values();
        if times.iter().any(|time| (least..=greatest).contains(time)) {
            for key in each_key(Kind::Event, batch)? {
                self.pending.remove(&key);
            }
        }
        Ok(())
    }

    /// Returns the number of late events that the raw input does not hold, and the first of them.
    pub fn pending(&self) -> Option<(usize, &str)> {
        let first = self.pending.values().min_by_key(|pending| pending.number)?;
        Some((self.pending.len(), &first.name))
    }

    /// Keeps the position before the first pending event.
    pub fn keep_position(&self, store: &mut dyn Corrections) -> Result<()> {
        if !self.keeps_position {
            return Ok(());
        }
        let first = self.pending.values().map(|pending| pending.number).min();
        let rows = first.unwrap_or(self.skipped + self.keys.len() as u64);
        let last = usize::try_from(rows - self.skipped).ok().and_then(|count| self.keys.get(count.checked_sub(1)?));
        match last {
            // No event after the former position is corrected.
            None => Ok(()),
            Some(last) => store.set_late_position(&self.uri.to_string(), &LatePosition { rows, last: text(*last) }),
        }
    }
}

fn text(key: u128) -> String {
    format!("{key:032x}")
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
