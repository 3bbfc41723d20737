//! The mapping of a chunk: records that an input has cut from its bytes become rows without stamps, dead letters, and
//! counts. The step before is sequential, because it cuts; so is the step after ([`super::Stamp`]), because it knows
//! the records before.
//!
//! A mapper knows no clock, no partition but that of the chunk, and no position. What the first records of a run decide
//! for all (the kind of the rows, whether records have times) it has seen before it maps whole chunks, and a second
//! mapper has it of the first one ([`ChunkMapper::another`]). It stops where the records before a record decide about
//! it ([`Pause`]).
//!
//! A batch ends behind the same record whoever maps it and whatever becomes of its records, because the records are
//! counted as they are cut ([`BatchFill`]).

use super::letters::{Dead, Letters, no_time, too_large};
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use evt_core::counts::Counts;
use evt_core::error::Result;
use evt_core::format::{self, Body, Records, not_utf8, row};
use evt_core::json::text::part;
use evt_core::kind::dead::{ErrorType, Fault, Letter};
use evt_core::mapping::{
    self, BATCH_BYTES, FutureCheck, FutureVerdict, Mapped, MappedRows, Mapper, PendingLetter, RecordMeta,
};
use evt_core::op::computed::RowRules;
use evt_core::op::untimed::UntimedFilter;
use std::ops::Range;
use std::sync::Arc;

/// Records that an input has cut from its bytes, in their order. They belong to one partition.
pub struct Chunk {
    pub(super) records: Records,
    /// The bytes of which the records are ranges; empty for records of a container.
    bytes: Buffer,
    /// Whether rows may refer to the bytes, which live as long then; else they copy their records.
    is_shared: bool,
    /// The name of the input, for messages.
    pub(super) input: Arc<str>,
    pub(super) partition: u32,
    /// When the records are read (µs).
    pub(super) now: i64,
    /// Records up to this number are passed over, because an earlier run has read them.
    pub(super) passed: i64,
}

/// The records of the batch under construction. Their number and their bytes decide where it ends.
#[derive(Clone, Copy, Default)]
pub(super) struct BatchFill {
    records: usize,
    bytes: usize,
}

impl BatchFill {
    /// Adds a record of `bytes` bytes; returns whether the batch, of at most `records_max` records, ends behind it.
    #[inline(always)]
    pub(super) fn add(&mut self, bytes: usize, records_max: usize) -> bool {
        self.records += 1;
        self.bytes += bytes;
        self.records >= records_max || self.bytes >= BATCH_BYTES
    }

    pub(super) fn is_empty(self) -> bool {
        self.records == 0
    }
}

/// The limits for the length of a record (bytes), and for the records of a batch.
#[derive(Clone, Copy)]
pub(super) struct RecordLimits {
    /// `--max-record`.
    pub(super) record_max: usize,
    /// The limit for a line, which may be a row of evt with such a record and its own columns.
    pub(super) line_max: usize,
    /// Maximum number of records of a batch.
    pub(super) batch_max: usize,
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
    /// The batch is full.
    Full,
    /// The record waits.
    Held(Held),
}

/// What a record waits for.
pub(super) enum Held {
    /// For the rows after it, which decide about it.
    ForRows(FutureCheck),
    /// For the records of its partition before it, if any wait. It has become a letter.
    AsLetter(Box<PendingLetter>),
}

/// The rows and letters of one or more chunks.
pub(super) struct MappedChunk {
    pub(super) rows: ChunkRows,
    /// The number of rows.
    pub(super) count: usize,
    /// The letters; `None` if there are none, or they were not asked for.
    pub(super) letters: Option<Dead>,
    /// The records by outcome: read, filtered and dead ones.
    pub(super) counts: Counts,
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
    /// The records of the batch under construction, by outcome.
    counts: Counts,
    fill: BatchFill,
    /// The fault of the last letter.
    last_fault: Option<Fault>,
    /// Memory for the text of a record that is read as it is mapped.
    unread: String,
}

impl Chunk {
    /// Makes a chunk of records that are text already, as those of a container.
    pub fn new(records: Records, input: Arc<str>, partition: u32) -> Self {
        let bytes = Buffer::from_vec(Vec::<u8>::new());
        Self { records, bytes, is_shared: false, input, partition, now: 0, passed: i64::MIN }
    }

    /// Sets the bytes of which the records are ranges. `is_shared`: rows may refer to them instead of copying them.
    pub fn of(mut self, bytes: Buffer, is_shared: bool) -> Self {
        (self.bytes, self.is_shared) = (bytes, is_shared);
        self
    }

    /// Returns the number of bytes of the records.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len().max(self.records.text.len())
    }

    /// Returns the metadata of a record.
    pub(super) fn meta(&self, record: &format::Record) -> RecordMeta<'_> {
        RecordMeta::of_file(&self.input, self.partition).at(record.line as i64)
    }

    /// Whether an earlier run has read a record.
    #[inline(always)]
    pub(super) fn passes_over(&self, record: &format::Record) -> bool {
        record.line as i64 <= self.passed
    }

    /// Returns the bytes that a record adds to a batch.
    #[inline(always)]
    pub(super) fn length(&self, record: &format::Record) -> usize {
        match &record.body {
            Body::Text(range) => range.len(),
            _ => record.raw.len(),
        }
    }

    /// Returns the bytes of a range of records as text, if all of them are UTF-8, and where they begin.
    fn text(&self, range: &Range<usize>) -> Option<KnownText<'_>> {
        let records = &self.records.rows[range.clone()];
        let is_in_bytes = |record: &&format::Record| matches!(record.body, Body::Raw | Body::Unread);
        let first = records.first().filter(is_in_bytes)?;
        // A document without records has no place in the bytes.
        let last = records.iter().rfind(is_in_bytes)?;
        let (start, end) = (first.raw.start, last.raw.end);
        let text = simdutf8::basic::from_utf8(self.bytes.get(start..end)?).ok()?;
        Some(KnownText { text, start })
    }

    /// Returns a record that is mapped; `None` if it is longer than a line may be, or no record but a document. `whole`
    /// is the text of the record and others, if it is known. `unread` becomes the text of a record that was not read
    /// before.
    #[inline(always)]
    fn mapped<'a>(
        &'a self,
        record: &format::Record,
        whole: Option<KnownText<'a>>,
        limits: RecordLimits,
        unread: &'a mut String,
    ) -> Option<ChunkRecord<'a>> {
        let raw = &self.bytes[record.raw.clone()];
        if raw.len() > limits.line_max {
            return None;
        }
        let text = || match whole {
            Some(whole) => Ok(part(whole.text, record.raw.start - whole.start..record.raw.end - whole.start)),
            None => std::str::from_utf8(raw).map_err(|error| not_utf8(&error)),
        };
        let text = self.records.json(record, text, unread)?;
        // A container's record has no raw bytes: a dead letter gets its JSON text.
        let raw = text.as_ref().map_or(raw, |text| if record.raw.is_empty() { text.as_bytes() } else { raw });
        Some(ChunkRecord { text, raw, meta: self.meta(record) })
    }

    /// Returns record number `at`, if it is one that is mapped. `unread` becomes the text of a record that was not read
    /// before.
    pub(super) fn record<'a>(
        &'a self,
        at: usize,
        limits: RecordLimits,
        unread: &'a mut String,
    ) -> Option<ChunkRecord<'a>> {
        self.mapped(&self.records.rows[at], None, limits, unread)
    }

    /// Returns the first bytes of a record that is not mapped, and its fault; without a fault it is filtered.
    #[cold]
    fn unmapped(&self, record: &format::Record, limits: RecordLimits) -> (&[u8], Option<Fault>) {
        let RecordLimits { record_max, line_max, .. } = limits;
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
            Body::Raw | Body::Unread | Body::Text(_) | Body::Fault(_) => {
                let raw = &self.bytes[record.raw.clone()];
                (&raw[..record_max], Some(too_large(&raw.len().to_string(), raw.len() as u64, record_max)))
            }
        }
    }
}

/// Text of several records, and its place in the bytes of their chunk.
#[derive(Clone, Copy)]
struct KnownText<'a> {
    text: &'a str,
    start: usize,
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
            fill: BatchFill::default(),
            last_fault: None,
            unread: String::new(),
        })
    }

    /// Creates a mapper of the same records, with what the first records have decided.
    pub(super) fn another(&self) -> Result<Self> {
        Ok(Self {
            events: self.events.another()?,
            others: self.others.as_ref().map(|others| row::Builder::with_schema(others.schema())),
            letters: self.letters.another(),
            untimed: self.untimed.as_ref().map(UntimedFilter::another).transpose()?,
            time: self.time.clone(),
            counts: Counts::default(),
            fill: BatchFill::default(),
            last_fault: None,
            unread: String::new(),
            ..*self
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

    /// Sets that the rows are of another kind than event, with this schema.
    pub(super) fn build_others(&mut self, schema: SchemaRef) {
        self.others = Some(row::Builder::with_schema(schema));
        self.expect_rows_of_evt();
    }

    /// Sets that evt wrote the rows. They may be longer than `--max-record`, because they have the columns of evt and
    /// the escapes of JSON beside the record from which they were made.
    pub(super) fn expect_rows_of_evt(&mut self) {
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
        self.expect_rows_of_evt();
    }

    /// Returns the number of rows that wait.
    pub(super) fn rows(&self) -> usize {
        self.events.rows() + self.others.as_ref().map_or(0, row::Builder::len)
    }

    /// Whether letters wait.
    pub(super) fn has_letters(&self) -> bool {
        !self.letters.is_empty()
    }

    /// Returns the counts of the records of the batch under construction: read, filtered and dead ones.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Takes these counts.
    pub(super) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Whether the records so far have decided all that they decide for those that follow.
    pub(super) fn is_decided(&self) -> bool {
        self.events.is_decided() || self.builds_others()
    }

    /// Whether no record is in the batch under construction.
    pub(super) fn is_empty(&self) -> bool {
        self.fill.is_empty() && !self.has_letters() && self.rows() == 0
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
        chunk: &Chunk,
        range: &mut Range<usize>,
        verdict: FutureVerdict,
    ) -> Result<Option<Pause>> {
        self.events.share_buffer(chunk.is_shared.then(|| chunk.bytes.clone()));
        let mut unread = std::mem::take(&mut self.unread);
        let pause = self.map_records(chunk, range, verdict, &mut unread);
        self.unread = unread;
        self.events.share_buffer(None);
        pause
    }

    fn map_records(
        &mut self,
        chunk: &Chunk,
        range: &mut Range<usize>,
        verdict: FutureVerdict,
        unread: &mut String,
    ) -> Result<Option<Pause>> {
        let whole = chunk.text(range);
        for record in &chunk.records.rows[range.clone()] {
            range.start += 1;
            if chunk.passes_over(record) {
                continue;
            }
            let held = match chunk.mapped(record, whole, self.limits, unread) {
                Some(record) => self.map_one(record, chunk.now, verdict)?,
                None => match chunk.unmapped(record, self.limits) {
                    (raw, Some(fault)) => {
                        self.counts.taken += 1;
                        let (meta, now) = (chunk.meta(record), chunk.now);
                        self.letter(mapping::Record { text: "", raw, meta, now, verdict }, fault)?
                    }
                    (_, None) => {
                        self.filtered();
                        None
                    }
                },
            };
            if held.is_some() {
                return Ok(held.map(Pause::Held));
            }
            if self.fill.add(chunk.length(record), self.limits.batch_max) {
                return Ok(Some(Pause::Full));
            }
        }
        Ok(None)
    }

    /// Maps a record that came alone and is read at `now` (µs).
    #[inline(always)]
    pub(super) fn record(
        &mut self,
        record: ChunkRecord<'_>,
        now: i64,
        verdict: FutureVerdict,
    ) -> Result<Option<Pause>> {
        let bytes = record.raw.len();
        let held = self.map_one(record, now, verdict)?;
        Ok(if held.is_some() { held.map(Pause::Held) } else { self.add(bytes) })
    }

    /// Adds a record of `bytes` bytes that came alone to the batch under construction. Its key and headers count, too.
    #[inline(always)]
    fn add(&mut self, bytes: usize) -> Option<Pause> {
        (self.fill.add(bytes, self.limits.batch_max) || self.events.is_full()).then_some(Pause::Full)
    }

    /// Maps a record that is read at `now` (µs); returns what it waits for, if it waits.
    #[inline(always)]
    fn map_one(&mut self, record: ChunkRecord<'_>, now: i64, verdict: FutureVerdict) -> Result<Option<Held>> {
        self.counts.taken += 1;
        let ChunkRecord { text, raw, meta } = record;
        let record_max = self.limits.record_max;
        match text {
            Err(fault) => self.letter(mapping::Record { text: "", raw, meta, now, verdict }, fault),
            Ok(text) if raw.len() > record_max && !self.has_rows_of_evt => {
                let fault = too_large(&raw.len().to_string(), raw.len() as u64, record_max);
                self.letter(mapping::Record { text, raw: &raw[..record_max], meta, now, verdict }, fault)
            }
            Ok(text) => self.row(mapping::Record { text, raw, meta, now, verdict }),
        }
    }

    /// Adds the row of a record that has waited, or its letter if it has a fault. The record is counted already.
    pub(super) fn judged(&mut self, record: mapping::Record<'_>, verdict: Result<(), Fault>) -> Result<Option<Pause>> {
        match verdict {
            Ok(()) => self.row(record)?,
            Err(fault) => self.letter(record, fault)?,
        };
        Ok(self.add(record.raw.len()))
    }

    /// Adds the row of a record that is counted already.
    #[inline]
    fn row(&mut self, record: mapping::Record<'_>) -> Result<Option<Held>> {
        if let Some(rows) = &mut self.others {
            return match rows.push(record.text) {
                Err(fault) => self.letter(record, fault),
                Ok(()) => Ok(None),
            };
        }
        match self.events.record(record)? {
            Mapped::Row => Ok(None),
            Mapped::Dead(fault) if fault.error_type == ErrorType::TimestampError => self.without_time(record, fault),
            Mapped::Dead(fault) => self.letter(record, fault),
            Mapped::NoTime => {
                let fault = no_time(record.text, &self.time);
                self.without_time(record, fault)
            }
            Mapped::Pending(check) => Ok(Some(Held::ForRows(check))),
        }
    }

    /// Makes a dead letter of a record without a readable time, unless `--where` is false for it.
    #[cold]
    fn without_time(&mut self, record: mapping::Record<'_>, fault: Fault) -> Result<Option<Held>> {
        let partition = self.events.partition();
        let excluded = self.untimed.as_mut().map(|filter| filter.excludes(&record, partition)).transpose()?;
        if excluded == Some(true) {
            self.counts.filtered += 1;
            return Ok(None);
        }
        self.letter(record, fault)
    }

    /// Counts a document without records, or a record that deletes its key, as filtered.
    pub(super) fn filtered(&mut self) {
        self.counts.taken += 1;
        self.counts.filtered += 1;
    }

    /// Counts a dead record, of which `raw` are the bytes of its letter, and adds the letter; or returns it if records
    /// may wait before it.
    #[cold]
    fn letter(&mut self, record: mapping::Record<'_>, fault: Fault) -> Result<Option<Held>> {
        if record.verdict == FutureVerdict::Waits {
            return Ok(Some(Held::AsLetter(Box::new(PendingLetter::new(record, fault)))));
        }
        self.counts.dead += 1;
        let (origin, partition) = self.events.partition();
        let RecordMeta { offset, key, headers, arrival, .. } = record.meta;
        let (payload, arrived_at) = (record.raw, arrival.map(|arrival| arrival.at));
        let letter = Letter { payload, key, headers, arrived_at, fault: &fault, origin, partition, offset };
        self.letters.push(self.rows() as u64, &letter, record.now)?;
        self.last_fault = Some(fault);
        Ok(None)
    }

    /// Takes the rows so far, and the letters `with_letters`.
    pub(super) fn finish(&mut self, with_letters: bool) -> Result<MappedChunk> {
        let (count, letters) = (self.rows(), if with_letters { self.letters.take()? } else { None });
        self.fill = BatchFill::default();
        let rows = match self.others.as_mut().filter(|rows| !rows.is_empty()) {
            Some(rows) => ChunkRows::Others(rows.finish()?),
            None => ChunkRows::Events(Box::new(self.events.finish()?)),
        };
        Ok(MappedChunk { rows, count, letters, counts: self.take_counts() })
    }
}

#[cfg(test)]
#[path = "chunk_tests.rs"]
mod tests;
