//! The mapping of a chunk: records that an input has cut from its bytes become rows without stamps, dead letters, and
//! counts. The step before is sequential, because it cuts; so is the step after ([`super::Stamp`]), because it knows
//! the records before.
//!
//! A mapper knows no clock, no partition but that of the chunk, and no position. What the first records of a run decide
//! for all (the kind of the rows, whether records have times) it is told or has seen before it maps whole chunks, so a
//! second mapper must be given it: `others`, `has_rows_of_evt` and the `RecordTimes` of `events`. It stops where the
//! records before a record decide about it ([`Pause`]).

use super::letters::{Dead, Letters, no_time, too_large};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use evt_core::counts::Counts;
use evt_core::error::Result;
use evt_core::format::{self, Body, Records, not_utf8, row};
use evt_core::json::text::part;
use evt_core::kind::dead::{ErrorType, Fault, Letter};
use evt_core::mapping::{
    self, BATCH_BYTES, BATCH_ROWS, FutureCheck, FutureVerdict, Mapped, MappedRows, Mapper, RecordMeta,
};
use evt_core::op::computed::RowRules;
use evt_core::op::untimed::UntimedFilter;
use std::ops::Range;

/// Records that an input has cut from its bytes, in their order.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub(super) records: &'a Records,
    /// The bytes of which the records are ranges; empty for records of a container.
    pub(super) bytes: &'a [u8],
    /// The bytes as text if all of them are UTF-8.
    pub(super) whole: Option<&'a str>,
    /// The metadata of all records, but for the offset.
    pub(super) meta: RecordMeta<'a>,
    /// When the records are read (µs).
    pub(super) now: i64,
    /// Records up to this number are passed over, because an earlier run has read them.
    pub(super) passed: i64,
}

/// The limits for the length of a record (bytes).
#[derive(Clone, Copy)]
pub(super) struct RecordLimits {
    /// `--max-record`.
    pub(super) record_max: usize,
    /// The limit for a line, which may be a row of evt with such a record and its own columns.
    pub(super) line_max: usize,
}

/// A record of a chunk, or one that came alone.
#[derive(Clone)]
pub(super) struct ChunkRecord<'a> {
    /// Its JSON text, or why it has none.
    pub(super) text: Result<&'a str, Fault>,
    /// Its exact bytes.
    pub(super) raw: &'a [u8],
    pub(super) meta: RecordMeta<'a>,
}

/// Why a mapper has stopped behind a record.
pub(super) enum Pause {
    /// The rows are a full batch.
    Rows,
    /// The letters fill their buffer.
    Letters,
    /// The record waits for the rows after it.
    Pending(FutureCheck),
}

/// The rows and letters of one or more chunks.
pub(super) struct MappedChunk {
    pub(super) rows: ChunkRows,
    /// The number of rows.
    pub(super) count: usize,
    /// The letters; `None` if there are none, or they were not asked for.
    pub(super) letters: Option<Dead>,
}

/// Rows without stamps.
pub(super) enum ChunkRows {
    Events(Box<MappedRows>),
    /// Rows of another kind, which have no stamps.
    Others(RecordBatch),
}

/// Maps chunks.
pub(super) struct ChunkMapper {
    events: Mapper,
    /// Builds the rows if they are of another kind than event.
    others: Option<row::Builder>,
    limits: RecordLimits,
    /// The name of the field with the event time.
    time: String,
    /// Whether records may be longer than `--max-record`, because they are rows of evt that contain a raw record.
    has_rows_of_evt: bool,
    letters: Letters,
    /// What `--where` needs no time for.
    untimed: Option<UntimedFilter>,
    /// The records of all chunks so far, by outcome.
    counts: Counts,
    /// The fault of the last letter.
    last_fault: Option<Fault>,
}

impl<'a> Chunk<'a> {
    /// Returns a record that is mapped; `None` if it is longer than a line may be, or no record but a document.
    #[inline(always)]
    fn mapped(&self, record: &format::Record, limits: RecordLimits) -> Option<ChunkRecord<'a>> {
        let (chunk, raw) = (*self, &self.bytes[record.raw.clone()]);
        if raw.len() > limits.line_max {
            return None;
        }
        let text = match &record.body {
            Body::Raw => match chunk.whole {
                Some(whole) => Ok(part(whole, record.raw.clone())),
                None => std::str::from_utf8(raw).map_err(|error| not_utf8(&error)),
            },
            Body::Text(range) => Ok(&chunk.records.text[range.clone()]),
            Body::Fault(fault) => Err(fault.clone()),
            Body::Cut(_) | Body::Document { .. } => return None,
        };
        // A container's record has no raw bytes: a dead letter gets its JSON text.
        let raw = text.as_ref().map_or(raw, |text| if record.raw.is_empty() { text.as_bytes() } else { raw });
        Some(ChunkRecord { text, raw, meta: self.meta.at(record.line as i64) })
    }

    /// Returns record number `at`, if it is one that is mapped.
    pub(super) fn record(&self, at: usize, limits: RecordLimits) -> Option<ChunkRecord<'a>> {
        self.mapped(&self.records.rows[at], limits)
    }

    /// Returns the first bytes of a record that is not mapped, and its fault; without a fault it is filtered.
    #[cold]
    fn unmapped(&self, record: &format::Record, limits: RecordLimits) -> (&'a [u8], Option<Fault>) {
        let RecordLimits { record_max, line_max } = limits;
        let text = |range: &Range<usize>| {
            let end = range.end.min(range.start + record_max);
            &self.records.text.as_bytes()[range.start..end]
        };
        match &record.body {
            Body::Document { head, fault } => (text(head), fault.clone()),
            Body::Cut(range) => {
                let bytes = format!("more than {line_max}");
                (text(range), Some(too_large(&bytes, range.len() as u64, record_max)))
            }
            // An input rejects a longer line unless it arrives whole; the outcome is the same.
            Body::Raw | Body::Text(_) | Body::Fault(_) => {
                let raw = &self.bytes[record.raw.clone()];
                (&raw[..record_max], Some(too_large(&raw.len().to_string(), raw.len() as u64, record_max)))
            }
        }
    }
}

impl ChunkMapper {
    /// Creates a mapper, which adds letters to `letters`; `untimed` are the rules of records without a readable time.
    /// Errors: exit status 2, as [`Mapper::new`].
    pub(super) fn new(
        options: mapping::Options,
        untimed: Option<RowRules>,
        limits: RecordLimits,
        letters: Letters,
    ) -> Result<Self> {
        Ok(Self {
            time: options.time.field().to_owned(),
            others: None,
            limits,
            has_rows_of_evt: false,
            letters,
            untimed: untimed.map(|rules| UntimedFilter::new(&options, rules)).transpose()?,
            events: Mapper::new(options)?,
            counts: Counts::default(),
            last_fault: None,
        })
    }

    /// Returns what maps events.
    pub(super) fn events(&self) -> &Mapper {
        &self.events
    }

    /// The same, to turn to a partition or to share a buffer.
    pub(super) fn events_mut(&mut self) -> &mut Mapper {
        &mut self.events
    }

    /// Takes the event time from a field. Must be called before the first row.
    pub(super) fn take_time_from(&mut self, field: &str) {
        field.clone_into(&mut self.time);
        self.events.take_time_from(field);
    }

    /// Returns the limits for the length of a record.
    pub(super) fn limits(&self) -> RecordLimits {
        self.limits
    }

    /// Sets that the rows are of another kind than event, with this schema. Such rows may be longer than
    /// `--max-record`.
    pub(super) fn build_others(&mut self, schema: SchemaRef) {
        self.others = Some(row::Builder::with_schema(schema));
        self.has_rows_of_evt = true;
    }

    /// Whether the rows are known to be of another kind than event.
    #[inline]
    pub(super) fn builds_others(&self) -> bool {
        self.others.is_some()
    }

    /// Takes raw records from the rows of evt that contain them. Must be called before the first row.
    pub(super) fn take_raw_from_input(&mut self) {
        self.events.take_raw_from_input();
        self.has_rows_of_evt = true;
    }

    /// Returns the number of rows that wait.
    pub(super) fn rows(&self) -> usize {
        self.events.rows() + self.others.as_ref().map_or(0, row::Builder::len)
    }

    /// Whether letters wait.
    pub(super) fn has_letters(&self) -> bool {
        !self.letters.is_empty()
    }

    /// Returns the counts of all records so far: read, filtered and dead ones.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Takes records out of the counts that another run will read again.
    pub(super) fn forget(&mut self, records: u64) {
        self.counts.taken -= records;
    }

    /// Returns the fault of the last letter, once.
    pub(super) fn take_fault(&mut self) -> Option<Fault> {
        self.last_fault.take()
    }

    /// Whether a record had a readable time, or a row has been built.
    pub(super) fn is_readable(&self) -> bool {
        self.events.has_time() || self.builds_others() || self.rows() > 0
    }

    /// Maps the records of a range of the chunk and removes them from the range. Stops behind a record after which
    /// something must be done first. `verdict` is how `--max-future` judges the records.
    pub(super) fn map(
        &mut self,
        chunk: &Chunk<'_>,
        range: &mut Range<usize>,
        verdict: FutureVerdict,
    ) -> Result<Option<Pause>> {
        for record in &chunk.records.rows[range.clone()] {
            range.start += 1;
            if record.line as i64 <= chunk.passed {
                continue;
            }
            let pause = match chunk.mapped(record, self.limits) {
                Some(record) => self.record(record, chunk.now, verdict)?,
                None => {
                    let (head, fault) = chunk.unmapped(record, self.limits);
                    match fault {
                        Some(fault) => self.reject(head, fault, &chunk.meta.at(record.line as i64), chunk.now)?,
                        None => self.filtered(),
                    }
                }
            };
            if pause.is_some() {
                return Ok(pause);
            }
        }
        Ok(None)
    }

    /// Maps a record that is read at `now` (µs).
    #[inline(always)]
    pub(super) fn record(
        &mut self,
        record: ChunkRecord<'_>,
        now: i64,
        verdict: FutureVerdict,
    ) -> Result<Option<Pause>> {
        self.counts.taken += 1;
        let ChunkRecord { text, raw, meta } = record;
        let record_max = self.limits.record_max;
        match text {
            Err(fault) => self.letter(raw, fault, &meta, now),
            Ok(_) if raw.len() > record_max && !self.has_rows_of_evt => {
                let fault = too_large(&raw.len().to_string(), raw.len() as u64, record_max);
                self.letter(&raw[..record_max], fault, &meta, now)
            }
            Ok(text) => self.row(mapping::Record { text, raw, meta, now, verdict }),
        }
    }

    /// Adds the row of a record that is counted already.
    #[inline]
    pub(super) fn row(&mut self, record: mapping::Record<'_>) -> Result<Option<Pause>> {
        if let Some(rows) = &mut self.others {
            return match rows.push(record.text) {
                Err(fault) => self.letter(record.raw, fault, &record.meta, record.now),
                Ok(()) => Ok((rows.len() >= BATCH_ROWS || rows.bytes() >= BATCH_BYTES).then_some(Pause::Rows)),
            };
        }
        match self.events.record(record)? {
            Mapped::Row => Ok(self.events.is_full().then_some(Pause::Rows)),
            Mapped::Dead(fault) if fault.error_type == ErrorType::TimestampError => self.without_time(record, fault),
            Mapped::Dead(fault) => self.letter(record.raw, fault, &record.meta, record.now),
            Mapped::NoTime => {
                let fault = no_time(record.text, &self.time);
                self.without_time(record, fault)
            }
            Mapped::Pending(check) => Ok(Some(Pause::Pending(check))),
        }
    }

    /// Makes a dead letter of a record without a readable time, unless `--where` is false for it.
    #[cold]
    fn without_time(&mut self, record: mapping::Record<'_>, fault: Fault) -> Result<Option<Pause>> {
        let partition = self.events.partition();
        let excluded = self.untimed.as_mut().map(|filter| filter.excludes(&record, partition)).transpose()?;
        if excluded == Some(true) {
            self.counts.filtered += 1;
            return Ok(None);
        }
        self.letter(record.raw, fault, &record.meta, record.now)
    }

    /// Makes a dead letter of a record that cannot be mapped.
    pub(super) fn reject(
        &mut self,
        payload: &[u8],
        fault: Fault,
        meta: &RecordMeta<'_>,
        now: i64,
    ) -> Result<Option<Pause>> {
        self.counts.taken += 1;
        self.letter(payload, fault, meta, now)
    }

    /// Counts a document without records, or a record that deletes its key, as filtered.
    pub(super) fn filtered(&mut self) -> Option<Pause> {
        self.counts.taken += 1;
        self.counts.filtered += 1;
        None
    }

    /// Counts a dead record and adds its letter, which fails at `now` (µs).
    #[cold]
    pub(super) fn letter(
        &mut self,
        payload: &[u8],
        fault: Fault,
        meta: &RecordMeta<'_>,
        now: i64,
    ) -> Result<Option<Pause>> {
        self.counts.dead += 1;
        let (origin, partition) = self.events.partition();
        let &RecordMeta { offset, key, headers, arrival, .. } = meta;
        let arrived_at = arrival.map(|arrival| arrival.at);
        let letter = Letter { payload, key, headers, arrived_at, fault: &fault, origin, partition, offset };
        self.letters.push(self.rows() as u64, &letter, now)?;
        self.last_fault = Some(fault);
        Ok(self.letters.is_full().then_some(Pause::Letters))
    }

    /// Takes the letters so far.
    pub(super) fn finish_letters(&mut self) -> Result<Option<Dead>> {
        self.letters.take()
    }

    /// Takes the rows so far, and the letters `with_letters`.
    pub(super) fn finish(&mut self, with_letters: bool) -> Result<MappedChunk> {
        let (count, letters) = (self.rows(), if with_letters { self.letters.take()? } else { None });
        let rows = match self.others.as_mut().filter(|rows| !rows.is_empty()) {
            Some(rows) => ChunkRows::Others(rows.finish()?),
            None => ChunkRows::Events(Box::new(self.events.finish()?)),
        };
        Ok(MappedChunk { rows, count, letters })
    }
}

#[cfg(test)]
#[path = "chunk_tests.rs"]
mod tests;
