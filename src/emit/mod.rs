//! The record emitter, which all inputs of a run share: it takes records and emits batches, dead letters and control
//! messages.
//!
//! Inputs cut their bytes into records. The emitter maps these to rows and stamps the rows. It passes on rows that
//! already have stamps as batches.
//!
//! ```text
//! text, messages, requests ─► records ─► mapper ─► rows ─► stamp ─┐
//!                                 └────► letters ─────────────────┼─► queue ─► Source
//! frames, containers, stores ─► batches (rows with stamps) ───────┤
//!                           control messages, progress ───────────┘
//! ```
//!
//! - `queue.rs`: the items that the source gives to the stage; `batches.rs`: rows with stamps; `letters.rs`: dead
//!   letters; `control_line.rs`: control messages in text.
//! - `learn.rs`: the kind and the columns of the rows.
//! - `stamp.rs`: what is done in the order of the records, after they are mapped; `ruled.rs`: `--let` and `--where`;
//!   `read.rs`: how far each input is read, for a run that continues; `flags/`: flags that are missing, or have no
//!   effect.

mod batches;
mod control_line;
mod flags;
mod learn;
mod letters;
mod queue;
mod read;
mod ruled;
mod stamp;

use crate::counts::{Counts, counted};
use crate::error::Result;
use crate::format::{Body, Records, one_line};
use crate::kind::Kind;
use crate::kind::dead::Fault;
use crate::kind::event::has_raw;
use crate::mapping::{
    self, Defaults, Facts, FutureCheck, FutureVerdict, KeepRaw, Mapped, Mapper, PendingRecord, RecordMeta,
};
use crate::op::computed::RowRules;
use crate::run::Run;
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use batches::StampedBatches;
use control_line::ControlLine;
use learn::RowForm;
use letters::{held_records, no_time, too_large, unmapped, utf8};
use stamp::Released;
use std::rc::Rc;
use std::time::Duration;

pub use letters::Dead;
pub use queue::{ByteProgress, Item, PendingInputs, QueuedItem};
pub use stamp::Stamp;

/// Takes the records of all inputs, maps them to rows, stamps these, and queues them for the stage.
pub struct RecordEmitter {
    run: Rc<Run>,
    /// `--control`: text may contain control lines.
    control: bool,
    /// The kind and the columns of the rows.
    form: RowForm,
    /// The names of the fields of all records, if the first input declares them.
    declared: Option<Vec<String>>,
    /// Whether a flag maps the partition or the origin of records.
    maps_partition: bool,
    /// The time of reading of the current records (µs).
    now: i64,
    /// Maps records to rows.
    mapper: Mapper,
    /// The partition to which the mapper has turned; `None` before the first record.
    partition: Option<u32>,
    stamp: Stamp,
    /// Rows that have stamps.
    batches: StampedBatches,
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

impl RecordEmitter {
    /// Creates an emitter. Rows that a rule rejects are left out.
    pub fn new(run: Rc<Run>, mut options: RecordOptions) -> Result<Self> {
        let form = RowForm::new(options.kind, options.expected, options.mapping.keep_raw);
        // If a rule makes a dead letter of a row, the letter needs the raw record.
        if options.rules.is_some() && options.mapping.keep_raw == KeepRaw::No {
            options.mapping.keep_raw = KeepRaw::Within;
        }
        let RecordOptions { mapping, control, rules, .. } = options;
        let mut stamp = Stamp::new(run.clone(), &mapping, rules);
        if control {
            stamp.partition_table.set_explicit();
        }
        Ok(Self {
            now: run.clock.now(),
            run,
            control,
            form,
            declared: None,
            maps_partition: mapping.maps_partition(),
            mapper: Mapper::new(mapping)?,
            partition: None,
            stamp,
            batches: StampedBatches::default(),
        })
    }

    /// Returns the schema of the batches. It is final once a record has been read or [`RecordEmitter::has_schema`] is
    /// true.
    pub fn schema(&self) -> SchemaRef {
        let schema = self.batches.schema.clone();
        schema.unwrap_or_else(|| self.form.schema(&self.mapper))
    }

    /// Whether the schema was set by an input or by [`RecordEmitter::set_schema`].
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
        let Some(batch) = self.stamp.read.take_rows(batch) else { return Ok(()) };
        let of_event = matches!(Kind::of(batch.schema_ref()), Some(Kind::Event | Kind::Late));
        let has_raw = of_event && self.decide_raw(has_raw(batch.schema_ref()));
        if of_event {
            self.stamp.flags.unused.warn_of_rows(name, &self.run.console);
        }
        let mut batch = self.batches.take(batch, has_raw, name, &self.run.console)?;
        let (rows, rows_before, now) = (batch.num_rows(), self.stamp.outcomes.counts.out, self.run.clock.now());
        if let Some(mut ruled) = self.stamp.outcomes.ruled(rows_before, now) {
            batch = ruled.stamped(batch, name)?;
            self.batches.counts.out -= (rows - batch.num_rows()) as u64;
            self.stamp.send_letters()?;
        }
        self.stamp.outcomes.letters.set_rows_before(self.batches.counts.out);
        self.stamp.queue.send_of_current(Item::Batch(batch));
        Ok(())
    }

    /// Returns whether the inputs carry raw records. The first call decides for all inputs, because they have one
    /// schema.
    pub fn decide_raw(&mut self, has_raw: bool) -> bool {
        self.form.decide_raw(has_raw, &mut self.mapper)
    }

    /// Returns the rules of the source.
    pub fn rules(&self) -> Option<&RowRules> {
        self.stamp.outcomes.rules.as_ref()
    }

    /// Returns the counts of records and rows so far, by outcome within the source.
    pub fn counts(&self) -> Counts {
        let (counts, of_batches) = (self.stamp.outcomes.counts, &self.batches.counts);
        Counts { taken: counts.taken + of_batches.taken, out: counts.out + of_batches.out, ..counts }
    }

    /// Returns the context of the run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Whether rows or letters wait in an incomplete batch.
    pub fn has_rows(&self) -> bool {
        !self.stamp.outcomes.letters.is_empty() || self.mapper.rows() > 0 || self.form.rows() > 0
    }

    /// Queues the incomplete batch if it has waited for [`Run::LINGER`], even if records keep coming.
    pub fn flush_due(&mut self) -> Result<()> {
        let waited = self.waited(self.run.clock.monotonic());
        if waited.is_some_and(|waited| waited >= Run::LINGER) { self.flush() } else { Ok(()) }
    }

    /// Returns how long rows or letters have waited in an incomplete batch; `None` if there are none.
    pub fn waited(&mut self, now: Duration) -> Option<Duration> {
        self.has_rows().then(|| self.stamp.waited(now))
    }

    /// Queues [`Item::Idle`]: no records come for now, or the items before it may be committed.
    pub fn idle(&mut self) {
        self.stamp.send(Item::Idle);
    }

    /// Returns the next item of the queue.
    pub fn pop(&mut self) -> Option<QueuedItem> {
        self.stamp.queue.pop()
    }

    /// Whether there are letters that are not queued yet.
    pub fn has_letters(&self) -> bool {
        !self.stamp.outcomes.letters.is_empty()
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
        self.stamp.flags.first_times.begin(self.stamp.read.is_resumed());
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
                        None if self.stamp.read.take(meta.offset) => self.tombstone(),
                        None => {}
                    }
                    continue;
                }
            };
            // A container's record has no raw bytes: a dead letter gets its JSON text.
            let raw = text.as_ref().map_or(raw, |text| if record.raw.is_empty() { text.as_bytes() } else { raw });
            let sample = text.as_ref().ok().copied();
            self.record(raw, text, meta)?;
            if self.stamp.flags.first_times.is_looking() {
                let is_found = self.mapper.has_time() || self.form.is_other() || self.mapper.rows() > 0;
                self.stamp.flags.first_times.count(is_found || self.stamp.outcomes.counts.out > 0, sample)?;
            }
        }
        Ok(())
    }

    /// Maps a record with the bytes `raw`. `text` is its JSON text, or the fault of a record without one.
    #[inline(always)]
    fn record(&mut self, raw: &[u8], text: Result<&str, Fault>, meta: RecordMeta<'_>) -> Result<()> {
        if !self.stamp.read.take(meta.offset) {
            return Ok(());
        }
        if self.control && self.control_line(text.as_deref().unwrap_or(""), meta)? {
            return Ok(());
        }
        self.stamp.outcomes.counts.taken += 1;
        let text = match text {
            Err(fault) => return self.letter(raw, &fault, meta),
            Ok(text) if raw.len() > self.run.record_max && !self.may_be_longer(text, meta)? => {
                let fault = too_large(&raw.len().to_string(), raw.len() as u64, self.run.record_max);
                return self.letter(&raw[..self.run.record_max], &fault, meta);
            }
            Ok(text) => text,
        };
        self.map(mapping::Record { text, raw, meta, now: self.now, verdict: self.stamp.verdict() })
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
        if self.partition != Some(record.meta.partition) {
            self.turn_to_partition(record.meta.partition)?;
        }
        match self.mapper.record(record)? {
            Mapped::Row if self.mapper.is_full() => self.flush(),
            Mapped::Row => Ok(()),
            Mapped::Dead(fault) => self.letter(record.raw, &fault, record.meta),
            Mapped::NoTime => {
                let fault = no_time(record.text, self.stamp.flags.first_times.field());
                self.letter(record.raw, &fault, record.meta)
            }
            Mapped::Pending(check) => self.hold(record, check),
        }
    }

    /// Turns to the records of a partition. A batch has rows of one input only.
    #[cold]
    fn turn_to_partition(&mut self, partition: u32) -> Result<()> {
        let input = self.stamp.partition_table.input_of(partition);
        if input != self.stamp.input() {
            self.flush_batch()?;
            self.stamp.begin_batch(input);
        }
        self.mapper.turn_to(partition, self.stamp.partition_table.name(partition));
        self.partition = Some(partition);
        Ok(())
    }

    /// Holds a record until `--max-future` has judged it.
    fn hold(&mut self, record: mapping::Record<'_>, mut check: FutureCheck) -> Result<()> {
        if let Some((origin, name)) = self.mapper.named(check) {
            check.partition = self.stamp.partition_table.beside(record.meta.partition, origin, name);
        }
        match self.stamp.judge(check) {
            Some(Ok(())) => self.map(mapping::Record { verdict: FutureVerdict::Passed, ..record }),
            Some(Err(fault)) => self.letter(record.raw, &fault, record.meta),
            None => match self.stamp.hold(PendingRecord::new(record, check)) {
                Some(released) => self.release(released),
                None => Ok(()),
            },
        }
    }

    /// Maps a held record after its `--max-future` check, or makes a dead letter of it.
    fn release(&mut self, (held, verdict): Released) -> Result<()> {
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
        self.stamp.held_partitions().into_iter().try_for_each(|partition| self.drain_one(partition))
    }

    /// Releases the held records of one partition.
    pub fn drain_one(&mut self, partition: u32) -> Result<()> {
        while let Some(released) = self.stamp.pop_held(partition) {
            self.release(released)?;
        }
        Ok(())
    }

    /// Releases the held records that were read before `before` (µs). The check compares them with their arrival, or,
    /// without one, with the time at which they were read.
    pub fn release_waited(&mut self, before: i64) -> Result<()> {
        while let Some(released) = self.stamp.pop_waited(before) {
            self.release(released)?;
        }
        Ok(())
    }

    /// Queues the incomplete batch because no records come for now; reports once that records are held.
    pub fn flush_idle(&mut self) -> Result<()> {
        self.flush()?;
        if let Some(held) = self.stamp.unreported() {
            self.run.console.say(held_records(held));
        }
        Ok(())
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
        if !self.stamp.read.take(meta.offset) {
            return Ok(());
        }
        self.stamp.outcomes.counts.taken += 1;
        self.letter(payload, fault, meta)?;
        self.stamp.flags.first_times.count(false, None)
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
        self.stamp.outcomes.counts.taken += 1;
        self.stamp.outcomes.counts.filtered += 1;
    }

    /// Counts a record that repeats an earlier one.
    pub fn duplicate(&mut self) {
        self.stamp.outcomes.counts.taken += 1;
        self.stamp.outcomes.counts.duplicate += 1;
    }

    /// Sets the time of reading of the records that follow to the current time.
    pub fn update_time(&mut self) {
        self.now = self.run.clock.now();
    }

    /// Counts a dead record and adds its letter.
    fn letter(&mut self, payload: &[u8], fault: &Fault, meta: RecordMeta<'_>) -> Result<()> {
        self.stamp.letter(payload, fault, meta, self.mapper.rows() + self.form.rows())
    }

    /// Queues the letters and the rows of the incomplete batch, the letters first.
    pub fn flush(&mut self) -> Result<()> {
        self.flush_batch()?;
        if !self.stamp.flags.first_times.is_looking() {
            self.stamp.read.end_batch();
        }
        Ok(())
    }

    fn flush_batch(&mut self) -> Result<()> {
        self.stamp.end_batch();
        if let Some(batch) = self.form.finish()? {
            self.stamp.send_letters()?;
            self.stamp.send_rows(batch);
        }
        let count = self.mapper.rows();
        if let Some(batch) = self.stamp.rows(self.mapper.finish()?, count)? {
            self.stamp.send_rows(self.form.written(batch)?);
        }
        Ok(())
    }

    /// Queues the letters so far after reading has failed, and the rows if `with_rows`.
    pub fn end(&mut self, with_rows: bool) -> Result<()> {
        self.stamp.flags.first_times.release();
        if with_rows { self.flush() } else { self.stamp.send_letters() }
    }

    /// Executes `text` if it is a control line (`--control`); returns whether it is one.
    fn control_line(&mut self, text: &str, meta: RecordMeta<'_>) -> Result<bool> {
        match control_line::parse(text, meta.input, meta.offset)? {
            None => return Ok(false),
            Some(ControlLine::PassedOver) => {}
            Some(ControlLine::Watermark(watermark)) => {
                self.flush()?;
                self.stamp.watermark(meta.partition, watermark);
            }
        }
        Ok(true)
    }

    /// Returns what follows the mapping: partitions and positions.
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// The same, to continue or to end them.
    pub fn stamp_mut(&mut self) -> &mut Stamp {
        &mut self.stamp
    }

    /// Makes `input` the current input, of which `bytes` have been read; `rest` describes the inputs that are not open
    /// yet.
    pub fn turn_to(&mut self, input: u32, bytes: ByteProgress, rest: PendingInputs) {
        self.stamp.read.turn_to(input);
        self.stamp.partition_table.set_input(input);
        self.stamp.queue.turn_to(input, bytes, rest);
    }

    /// Whether a flag maps the partition or the origin of records.
    pub fn maps_partition(&self) -> bool {
        self.maps_partition
    }

    /// Returns the number of the partition for records of `origin` that name none.
    pub fn partition(&mut self, origin: &str) -> u32 {
        match self.maps_partition {
            true => self.stamp.partition_table.unnamed(origin),
            false => self.stamp.announce(origin, "0"),
        }
    }

    /// Returns the number of items so far, taken or not.
    pub fn queued(&self) -> u64 {
        self.stamp.queue.queued()
    }

    /// Returns the number of items that the stage has taken.
    pub fn taken(&self) -> u64 {
        self.stamp.queue.taken()
    }

    /// Sets the read buffer that raw records are ranges of from now on; `None` if it cannot be kept.
    pub fn share_buffer(&mut self, block: Option<Buffer>) {
        self.mapper.share_buffer(block);
    }

    /// Returns the names of the fields of all records, if the first input declares them.
    pub fn declared(&self) -> Option<&[String]> {
        self.declared.as_deref()
    }

    /// Sets the names of the fields of all records, unless an earlier input has declared them.
    pub fn declare(&mut self, names: impl FnOnce() -> Option<Vec<String>>) {
        if self.declared.is_none() {
            self.declared = names();
        }
    }

    /// Returns the facts about all records so far.
    fn facts(&self) -> Facts {
        let mut facts = self.stamp.facts;
        facts.add(self.mapper.facts());
        facts
    }

    /// Returns the defaults that the mapping used.
    pub fn defaults(&self) -> Defaults {
        let facts = self.facts();
        Defaults { keeps_stamps: facts.kept_stamps || self.batches.counts.taken > 0, ..facts.defaults }
    }

    /// Returns the bits of the columns whose name some record has had as a property.
    pub fn shadowed(&self) -> u32 {
        self.facts().shadowed
    }

    /// Returns warnings about all records: about names in the rules of the source that had no value, ambiguous times,
    /// and, if repeats are found by ids, about records without ids.
    pub fn warnings(&self, finds_repeats: bool) -> Vec<String> {
        let facts = self.facts();
        let mut warnings = self.rules().map_or(vec![], RowRules::warnings);
        warnings.extend(self.mapper.warnings(&facts));
        if finds_repeats && facts.made_ids > 0 {
            let records = counted(facts.made_ids, ["record has", "records have"]);
            warnings.push(format!(
                "{records} no event_id, so --dedup cannot find repeats; --field event_id=FIELD --hash-ids derives ids from FIELD"
            ));
        }
        warnings
    }
}
