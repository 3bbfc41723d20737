//! The ingest, which all inputs of a run share: it takes records and queues batches, dead letters and control messages.
//!
//! The ingest maps raw records to rows and stamps these. It passes on rows that already have stamps as batches.
//!
//! ```text
//! text, messages, requests ─► records ─► mapper ─► rows ──────┐
//!                                 └────► letters ─────────────┼─► queue ─► Source
//! frames, containers, stores ─► batches (rows with stamps) ───┤
//!                           control messages, progress ───────┘
//! ```
//!
//! - `item.rs`, `queue.rs`: what the source gives to the stage; `batches.rs`: rows with stamps; `letters.rs`: dead
//!   letters, and `fault.rs`: the faults of records; `control_line.rs`: control messages in text.
//! - `learn.rs`: the kind and the columns of the rows; `ruled.rs`: `--let` and `--where`; `read.rs`: how far each input
//!   is read, for a run that continues.
//! - `first_times.rs`, `unused.rs`: flags that are missing, or have no effect.

mod batches;
mod control_line;
mod fault;
pub mod first_times;
mod item;
mod learn;
mod letters;
mod queue;
mod read;
mod ruled;
mod unused;

use crate::counts::Counts;
use crate::error::Result;
use crate::format::{Body, Records, one_line};
use crate::frame::Control;
use crate::kind::Kind;
use crate::kind::dead::{Fault, Letter};
use crate::kind::event::has_raw;
use crate::mapping::{self, KeepRaw, Lookahead, Mapped, Mapper, PartitionTable, PendingRecord, RecordMeta};
use crate::op::computed::RowRules;
use crate::run::Run;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use batches::StampedBatches;
use control_line::ControlLine;
use fault::{held_records, no_time, too_large, unmapped, utf8};
use first_times::FirstTimes;
use learn::RowForm;
use letters::Letters;
use ruled::Outcomes;
use std::rc::Rc;
use std::time::Duration;
use unused::UnusedFlags;

pub use item::{ByteProgress, Item, QueuedItem};
pub use letters::Dead;
pub use queue::{ItemQueue, PendingInputs};
pub use read::ReadPositions;

/// Maps the records of all inputs to rows, and queues rows, dead letters and control messages for the stage.
pub struct Ingest {
    run: Rc<Run>,
    /// Maps records to rows.
    pub mapper: Mapper,
    /// Partitions and stream time.
    pub partition_table: PartitionTable,
    /// The kind and the columns of the rows.
    form: RowForm,
    /// The records of text and messages by outcome; rows that have stamps are counted in `batches`.
    outcomes: Outcomes,
    /// `--control`: text may contain control lines.
    control: bool,
    /// The queue of items.
    pub queue: ItemQueue,
    open: OpenBatch,
    batches: StampedBatches,
    /// How far each input is read.
    pub read: ReadPositions,
    /// Checks of the mapping flags.
    pub flags: FlagChecks,
    /// The time of reading of the current records (µs).
    now: i64,
}

/// The options for mapping records to rows.
#[derive(Default)]
pub struct RecordOptions {
    /// The mapping flags.
    pub mapping: mapping::Options,
    /// The kind of the rows (`--kind`); without one, the field names of the first record decide it.
    pub kind: Option<Kind>,
    /// The kind that the field names of the first record must have, if any (evt-backfill --dead).
    pub expected: Option<Kind>,
    /// The rules that are applied to rows before they are stamped (`--let` and `--where` of evt-ingest).
    pub rules: Option<RowRules>,
    /// `--control`: text may contain control lines.
    pub control: bool,
}

/// Checks the mapping flags against the records: one may be missing, others have no effect on rows that have stamps.
pub struct FlagChecks {
    /// Whether a record of a file had a readable time.
    pub first_times: FirstTimes,
    unused: UnusedFlags,
}

/// The incomplete batch.
#[derive(Default)]
struct OpenBatch {
    /// The input of its rows. A batch has rows of one input only.
    input: u32,
    /// Monotonic time since which rows wait in it.
    since: Option<Duration>,
}

impl Ingest {
    /// Creates an ingest. Rows that a rule rejects are left out.
    pub fn new(run: Rc<Run>, options: RecordOptions) -> Result<Self> {
        let RecordOptions { mut mapping, kind, expected, rules, control } = options;
        let form = RowForm::new(kind, expected, mapping.keep_raw);
        // If a rule makes a dead letter of a row, the letter needs the raw record.
        if rules.is_some() && mapping.keep_raw == KeepRaw::No {
            mapping.keep_raw = KeepRaw::Within;
        }
        let mut partition_table = PartitionTable::default();
        if control {
            partition_table.set_explicit();
        }
        let flags = FlagChecks { first_times: FirstTimes::new(&mapping), unused: UnusedFlags::new(&mapping) };
        let mapper = Mapper::new(mapping)?;
        let outcomes = Outcomes { rules, counts: Counts::default(), letters: Letters::new(run.console.tool()) };
        Ok(Self {
            now: run.clock.now(),
            run,
            mapper,
            partition_table,
            form,
            outcomes,
            control,
            queue: ItemQueue::new(),
            open: OpenBatch::default(),
            batches: StampedBatches::default(),
            read: ReadPositions::default(),
            flags,
        })
    }

    /// Returns the schema of the batches. It is final once a record has been read or [`Ingest::has_schema`] is true.
    pub fn schema(&self) -> SchemaRef {
        let schema = self.batches.schema.clone();
        schema.unwrap_or_else(|| self.form.schema(&self.mapper))
    }

    /// Whether the schema was set by an input or by [`Ingest::set_schema`].
    pub fn has_schema(&self) -> bool {
        self.batches.schema.is_some()
    }

    /// Takes the schema of an input whose rows have stamps. Errors: exit status 65 if it lacks the columns of its kind,
    /// 2 if an earlier input has rows of another kind.
    pub fn take_schema(&mut self, schema: SchemaRef, name: &str) -> Result<()> {
        self.batches.take_schema(schema.clone(), name)?;
        self.decide_raw(has_raw(&schema));
        Ok(())
    }

    /// Sets the schema of the batches, before the first one.
    pub fn set_schema(&mut self, schema: SchemaRef) {
        self.batches.schema = Some(schema);
    }

    /// Queues rows that have stamps, or that are raw records alone. Errors: exit status 65 if a time lies outside of
    /// the calendar.
    pub fn batch(&mut self, batch: RecordBatch, name: &str) -> Result<()> {
        let Some(batch) = self.read.take_rows(batch) else { return Ok(()) };
        let of_event = matches!(Kind::of(batch.schema_ref()), Some(Kind::Event | Kind::Late));
        let has_raw = of_event && self.decide_raw(has_raw(batch.schema_ref()));
        if of_event {
            self.flags.unused.warn_of_rows(name, &self.run.console);
        }
        let mut batch = self.batches.take(batch, has_raw, name, &self.run.console)?;
        let (rows, rows_before, now) = (batch.num_rows(), self.outcomes.counts.out, self.run.clock.now());
        if let Some(mut ruled) = self.outcomes.ruled(rows_before, now) {
            batch = ruled.stamped(batch, name)?;
            self.batches.counts.out -= (rows - batch.num_rows()) as u64;
            self.send_letters()?;
        }
        self.outcomes.letters.set_rows_before(self.batches.counts.out);
        self.queue.send_of_current(Item::Batch(batch));
        Ok(())
    }

    /// Returns whether the inputs carry raw records. The first call decides for all inputs, because they have one
    /// schema.
    pub fn decide_raw(&mut self, has_raw: bool) -> bool {
        self.form.decide_raw(has_raw, &mut self.mapper)
    }

    /// Returns the rules of the source.
    pub fn rules(&self) -> Option<&RowRules> {
        self.outcomes.rules.as_ref()
    }

    /// Returns the counts of records and rows so far, by outcome within the source.
    pub fn counts(&self) -> Counts {
        let (counts, of_batches) = (self.outcomes.counts, &self.batches.counts);
        Counts { taken: counts.taken + of_batches.taken, out: counts.out + of_batches.out, ..counts }
    }

    /// Returns the context of the run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Whether rows or letters wait in an incomplete batch.
    pub fn has_rows(&self) -> bool {
        !self.outcomes.letters.is_empty() || self.mapper.rows() > 0 || self.form.rows() > 0
    }

    /// Queues the incomplete batch if it has waited for [`Run::LINGER`], even if records keep coming.
    pub fn flush_due(&mut self) -> Result<()> {
        let waited = self.waited(self.run.clock.monotonic());
        if waited.is_some_and(|waited| waited >= Run::LINGER) { self.flush() } else { Ok(()) }
    }

    /// Returns how long rows or letters have waited in an incomplete batch; `None` if there are none.
    pub fn waited(&mut self, now: Duration) -> Option<Duration> {
        self.has_rows().then(|| now.saturating_sub(*self.open.since.get_or_insert(now)))
    }

    /// Queues [`Item::Idle`]: no records come for now, or the items before it may be committed.
    pub fn idle(&mut self) {
        self.queue.send(self.open.input, Item::Idle);
    }

    /// Returns the next item of the queue.
    pub fn pop(&mut self) -> Option<QueuedItem> {
        self.queue.pop()
    }

    /// Whether there are letters that are not queued yet.
    pub fn has_letters(&self) -> bool {
        !self.outcomes.letters.is_empty()
    }

    /// Maps `records`, which are ranges of `input`; `whole` is `input` as text if all of it is UTF-8. `meta` holds for
    /// all of them, but for the offset.
    pub fn records(
        &mut self,
        records: &Records,
        input: &[u8],
        whole: Option<&str>,
        meta: RecordMeta<'_>,
    ) -> Result<()> {
        self.now = self.run.clock.now();
        self.flags.first_times.begin(self.read.is_resumed());
        let (line_max, record_max) = (self.run.line_max(), self.run.record_max);
        for record in &records.rows {
            let meta = meta.at(record.line as i64);
            let raw = &input[record.raw.clone()];
            if raw.len() > line_max {
                // An input rejects a longer line unless it arrives whole; the outcome is the same.
                self.reject_oversized(&raw[..record_max], raw.len() as u64, meta)?;
                continue;
            }
            let text = match &record.body {
                Body::Raw => whole.map_or_else(|| utf8(raw), |whole| Ok(&whole[record.raw.clone()])),
                Body::Text(range) => Ok(&records.text[range.clone()]),
                Body::Fault(fault) => Err(fault.clone()),
                body => {
                    let (head, fault) = unmapped(body, &self.run);
                    match fault {
                        Some(fault) => self.reject(&records.text.as_bytes()[head], &fault, meta)?,
                        None if self.read.take(meta.offset) => self.tombstone(),
                        None => {}
                    }
                    continue;
                }
            };
            // A container's record has no raw bytes: a dead letter gets its JSON text.
            let raw = text.as_ref().map_or(raw, |text| if record.raw.is_empty() { text.as_bytes() } else { raw });
            let sample = text.as_ref().ok().copied();
            self.record(raw, text, meta)?;
            if self.flags.first_times.is_looking() {
                let is_found = self.mapper.has_time() || self.form.is_other() || self.mapper.rows() > 0;
                self.flags.first_times.count(is_found || self.outcomes.counts.out > 0, sample)?;
            }
        }
        Ok(())
    }

    /// Maps a record with the bytes `raw`. `text` is its JSON text, or the fault of a record without one.
    #[inline(always)]
    fn record(&mut self, raw: &[u8], text: Result<&str, Fault>, meta: RecordMeta<'_>) -> Result<()> {
        if !self.read.take(meta.offset) {
            return Ok(());
        }
        if self.control && self.control_line(text.as_deref().unwrap_or(""), meta)? {
            return Ok(());
        }
        self.outcomes.counts.taken += 1;
        let text = match text {
            Err(fault) => return self.letter(raw, &fault, meta),
            Ok(text) if raw.len() > self.run.record_max && !self.may_be_longer(text, meta)? => {
                let fault = too_large(&raw.len().to_string(), raw.len() as u64, self.run.record_max);
                return self.letter(&raw[..self.run.record_max], &fault, meta);
            }
            Ok(text) => text,
        };
        self.map(mapping::Record { text, raw, meta, now: self.now, is_judged: false })
    }

    /// Whether the records are rows that evt wrote and that contain a raw record. Such rows may be longer than
    /// `--max-record`.
    #[cold]
    fn may_be_longer(&mut self, text: &str, meta: RecordMeta<'_>) -> Result<bool> {
        self.form.learn(text, meta.input, &mut self.mapper)?;
        Ok(self.form.is_other() || self.form.inputs_have_raw())
    }

    /// Adds a record of a kind other than event.
    fn row(&mut self, record: mapping::Record<'_>) -> Result<()> {
        match self.form.push(record.text) {
            Err(fault) => self.letter(record.raw, &fault, record.meta),
            Ok(()) if self.form.is_full() => self.flush(),
            Ok(()) => Ok(()),
        }
    }

    /// Maps a record to a row or a dead letter, or holds it. `--max-future` holds a record if its check needs later
    /// rows of the partition. Also maps a held record whose check is complete now.
    fn map(&mut self, record: mapping::Record<'_>) -> Result<()> {
        if self.form.is_unknown() {
            self.form.learn(record.text, record.meta.input, &mut self.mapper)?;
        }
        if self.form.is_other() {
            return self.row(record);
        }
        let input = self.partition_table.input_of(record.meta.partition);
        if input != self.open.input {
            self.flush_batch()?;
            self.open.input = input;
        }
        match self.mapper.record(record, &mut self.partition_table)? {
            Mapped::Row if self.mapper.is_full() => self.flush(),
            Mapped::Row => Ok(()),
            Mapped::Dead(fault) => self.letter(record.raw, &fault, record.meta),
            Mapped::NoTime => {
                self.letter(record.raw, &no_time(record.text, self.flags.first_times.field()), record.meta)
            }
            Mapped::Pending(check) => {
                let held = PendingRecord::new(record, check);
                match self.mapper.lookahead().and_then(|lookahead| lookahead.push(held)) {
                    Some((held, verdict)) => self.release(&held, verdict),
                    None => Ok(()),
                }
            }
        }
    }

    /// Maps a held record after its `--max-future` check, or makes a dead letter of it.
    fn release(&mut self, held: &PendingRecord, verdict: Result<(), Fault>) -> Result<()> {
        let record = held.record();
        match verdict {
            Ok(()) => self.map(record),
            Err(fault) => {
                self.letter(record.raw, &fault, RecordMeta { partition: held.check.partition, ..record.meta })
            }
        }
    }

    /// Releases all held records, because no more rows of their partitions follow.
    pub fn drain(&mut self) -> Result<()> {
        for partition in self.mapper.lookahead().map(|lookahead| lookahead.waiting()).unwrap_or_default() {
            self.drain_one(partition)?;
        }
        Ok(())
    }

    /// Releases the held records of one partition.
    pub fn drain_one(&mut self, partition: u32) -> Result<()> {
        while let Some((held, verdict)) = self.mapper.lookahead().and_then(|lookahead| lookahead.pop(partition)) {
            self.release(&held, verdict)?;
        }
        Ok(())
    }

    /// Releases the held records that were read before `before` (µs). The check compares them with their arrival, or,
    /// without one, with the time at which they were read.
    pub fn release_waited(&mut self, before: i64) -> Result<()> {
        while let Some((held, verdict)) = self.mapper.lookahead().and_then(|waiting| waiting.pop_waited(before)) {
            self.release(&held, verdict)?;
        }
        Ok(())
    }

    /// Queues the incomplete batch because no records come for now; reports once that records are held.
    pub fn flush_idle(&mut self) -> Result<()> {
        self.flush()?;
        if let Some(held) = self.mapper.lookahead().and_then(Lookahead::unreported) {
            self.run.console.say(held_records(held));
        }
        Ok(())
    }

    /// Drops the held records of a partition that this run stops reading: the next reader of the partition reads them
    /// again.
    pub fn forget(&mut self, partition: u32) {
        let forgotten = self.mapper.lookahead().map_or(0, |lookahead| lookahead.forget(partition));
        self.outcomes.counts.taken -= forgotten as u64;
    }

    /// Maps a record whose `payload` is one JSON object.
    pub fn message(&mut self, payload: &[u8], meta: RecordMeta<'_>) -> Result<()> {
        let text = one_line(payload);
        self.record(payload, text.as_ref().map(AsRef::as_ref).map_err(Clone::clone), meta)
    }

    /// Maps a record that its input has converted to JSON text.
    pub fn text(&mut self, payload: &[u8], text: &str, meta: RecordMeta<'_>) -> Result<()> {
        self.record(payload, Ok(text), meta)
    }

    /// Makes a dead letter of a record that cannot be mapped.
    pub fn reject(&mut self, payload: &[u8], fault: &Fault, meta: RecordMeta<'_>) -> Result<()> {
        if !self.read.take(meta.offset) {
            return Ok(());
        }
        self.outcomes.counts.taken += 1;
        self.letter(payload, fault, meta)?;
        self.flags.first_times.count(false, None)
    }

    /// Makes a dead letter of a record of `length` bytes that is larger than `--max-record`; `start` has the first
    /// bytes of the record, which the letter keeps.
    pub fn reject_oversized(&mut self, start: &[u8], length: u64, meta: RecordMeta<'_>) -> Result<()> {
        self.reject(start, &too_large(&length.to_string(), length, self.run.record_max), meta)
    }

    /// Sets the kind of the records if it is not known yet; returns whether it is `kind` now.
    pub fn becomes(&mut self, kind: Kind) -> bool {
        self.form.becomes(kind)
    }

    /// Counts a tombstone (a record without a payload that deletes its key) or an empty document as filtered.
    pub fn tombstone(&mut self) {
        self.outcomes.counts.taken += 1;
        self.outcomes.counts.filtered += 1;
    }

    /// Counts a record that repeats an earlier one.
    pub fn duplicate(&mut self) {
        self.outcomes.counts.taken += 1;
        self.outcomes.counts.duplicate += 1;
    }

    /// Sets the time of reading of the records that follow to the current time.
    pub fn update_time(&mut self) {
        self.now = self.run.clock.now();
    }

    /// Counts a dead record and adds its letter.
    fn letter(&mut self, payload: &[u8], fault: &Fault, meta: RecordMeta<'_>) -> Result<()> {
        self.outcomes.counts.dead += 1;
        self.flags.first_times.note(fault, &meta);
        let RecordMeta { partition, offset, key, headers, arrival, .. } = meta;
        let (origin, partition) = self.partition_table.name(partition);
        let arrived_at = arrival.map(|arrival| arrival.at);
        let rows = self.outcomes.counts.out + (self.mapper.rows() + self.form.rows()) as u64;
        let letter = Letter { payload, key, headers, arrived_at, fault, origin, partition, offset };
        self.outcomes.letters.push(rows, &letter, self.run.clock.now())?;
        if self.outcomes.letters.is_full() && !self.flags.first_times.is_looking() {
            self.read.set_ahead();
            return self.send_letters();
        }
        Ok(())
    }

    /// Queues the letters and the rows of the incomplete batch, the letters first.
    pub fn flush(&mut self) -> Result<()> {
        self.flush_batch()?;
        if !self.flags.first_times.is_looking() {
            self.read.end_batch();
        }
        Ok(())
    }

    fn flush_batch(&mut self) -> Result<()> {
        self.open.since = None;
        if let Some(batch) = self.form.finish()? {
            self.send_letters()?;
            self.outcomes.counts.out += batch.num_rows() as u64;
            self.queue.send(self.open.input, Item::Batch(batch));
        }
        // Letters of rows that a rule rejects are last.
        let rows_before = self.outcomes.counts.out + self.mapper.rows() as u64;
        let ruled = self.outcomes.ruled(rows_before, self.run.clock.now());
        let mut rule = ruled
            .map(|mut ruled| move |batch: &RecordBatch| ruled.apply(batch).map(|ruled| (ruled.properties, ruled.keep)));
        let rule = rule.as_mut().map(|rule| rule as &mut mapping::RowFilter<'_>);
        let batch = self.mapper.batch(&mut self.partition_table, rule)?;
        self.send_letters()?;
        if let Some(mut batch) = batch {
            if self.mapper.has_kept_stamps() {
                self.flags.unused.warn_of_text(&self.run.console);
            }
            self.flags.first_times.check_unit(&batch, &self.run.console);
            batch = self.form.written(batch)?;
            self.outcomes.counts.out += batch.num_rows() as u64;
            self.queue.send(self.open.input, Item::Batch(batch));
        }
        Ok(())
    }

    /// Queues the letters so far after reading has failed, and the rows if `with_rows`.
    pub fn end(&mut self, with_rows: bool) -> Result<()> {
        self.flags.first_times.release();
        if with_rows { self.flush() } else { self.send_letters() }
    }

    /// Queues the letters so far, unless [`FirstTimes`] holds them back because a flag may be missing.
    fn send_letters(&mut self) -> Result<()> {
        if !self.flags.first_times.is_looking()
            && let Some(dead) = self.outcomes.letters.take()?
        {
            self.queue.send(self.open.input, Item::Dead(dead));
        }
        Ok(())
    }

    /// Makes `input` the current input, of which `bytes` have been read; `rest` describes the inputs that are not open
    /// yet.
    pub fn turn_to(&mut self, input: u32, bytes: ByteProgress, rest: PendingInputs) {
        self.read.turn_to(input);
        self.partition_table.set_input(input);
        self.queue.turn_to(input, bytes, rest);
    }

    /// Returns the number of the partition for records of `origin` that name none.
    pub fn partition(&mut self, origin: &str) -> u32 {
        if self.mapper.maps_partition {
            self.partition_table.unnamed(origin)
        } else {
            self.partition_table.partition(origin, "0")
        }
    }

    /// Queues a progress message if partitions are new or have ended, or enough bytes have been read. Does nothing
    /// before the first record, because the kind of the rows is not known.
    pub fn report_progress(&mut self, bytes: ByteProgress) {
        if self.outcomes.counts.taken > 0 {
            self.queue.report_progress(&mut self.partition_table, bytes);
        }
    }

    /// Ends the partitions of the current input, after `bytes` bytes; `complete` if no input follows.
    pub fn end_input(&mut self, bytes: ByteProgress, complete: bool) {
        self.queue.end_input(&mut self.partition_table, bytes, complete);
    }

    /// Queues a control message of the current input. Partitions are complete only if no input is pending.
    pub fn control(&mut self, control: Control) {
        self.queue.control(&mut self.partition_table, control);
    }

    /// Withdraws the partitions announced for the current input, because its stream reports its own.
    pub fn withdraw(&mut self) {
        self.queue.withdraw(&mut self.partition_table);
    }

    /// Executes `text` if it is a control line (`--control`); returns whether it is one.
    fn control_line(&mut self, text: &str, meta: RecordMeta<'_>) -> Result<bool> {
        match control_line::parse(text, meta.input, meta.offset)? {
            None => return Ok(false),
            Some(ControlLine::PassedOver) => {}
            Some(ControlLine::Watermark(watermark)) => {
                self.flush()?;
                self.partition_table.set_watermark(meta.partition, watermark);
                self.queue.send(self.open.input, Item::Control(Control::Watermark(watermark)));
            }
        }
        Ok(true)
    }
}
