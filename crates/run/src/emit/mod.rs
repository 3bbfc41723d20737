//! The record emitter, which all inputs of a run share: it takes records and emits batches, dead letters and control
//! messages.
//!
//! Inputs cut their bytes into chunks of whole records. A mapper, which knows nothing but the chunk, makes rows and
//! letters of these. The stamp takes both in the order of the records. Rows that have stamps pass as batches.
//!
//! ```text
//! cut (input)                map                            stamp
//! text, containers ─► chunk ─┐
//! messages, requests ─ record ┴► ChunkMapper ─► rows, letters ─► Stamp ─┐
//! frames, stores ─► batches (rows with stamps) ─────────────────────────┼─► queue ─► Source
//!                   control messages, progress ─────────────────────────┘
//! ```
//!
//! - `chunk.rs`: chunks, and what maps them; `batch_mapper.rs` chooses the thread that does, `tasks.rs` shares batches
//!   among several; `letters.rs`: dead letters.
//! - `stamp.rs`: what is done in the order of the records, after they are mapped; `queue.rs`: the items that the source
//!   gives to the stage; `ruled.rs`: `--let` and `--where`; `read_positions.rs`: how far each input is read, for a
//!   run that continues.
//! - `learn.rs`: the kind and the columns of the rows, which the first record decides; `flags/`: its time, and flags
//!   that are missing, or have no effect.
//! - `batches.rs`: rows with stamps; `control_line.rs`: control messages in text.

mod batch_mapper;
mod batches;
mod chunk;
mod control_line;
mod flags;
mod learn;
mod letters;
mod queue;
mod read_positions;
mod ruled;
mod stamp;
mod tasks;

use crate::run::Run;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use batch_mapper::BatchMapper;
use batches::StampedBatches;
use chunk::{ChunkMapper, ChunkRecord, Held, MappedChunk, Pause, RecordLimits};
use control_line::ControlLine;
use evt_core::counts::Counts;
use evt_core::error::Result;
use evt_core::format::{Records, one_line};
use evt_core::kind::Kind;
use evt_core::kind::dead::Fault;
use evt_core::kind::event::has_raw;
use evt_core::mapping::{self, Defaults, Facts, FutureCheck, FutureVerdict, Judged, KeepRaw};
use evt_core::mapping::{Lookahead, Reach, RecordMeta, Rest};
use evt_core::op::computed::RowRules;
use learn::RowForm;
use letters::{HELD_REPORT, Letters, held_records};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tasks::{Done, LoneRecord, MappedTask};

pub use chunk::Chunk;
pub use learn::RecordOptions;
pub use letters::{Dead, too_large};
use queue::InputStep;
pub use queue::{ByteProgress, Item, ItemQueue, PendingInputs, QueuedItem};
pub use stamp::Stamp;
pub use tasks::MessageText;

/// Takes the records of all inputs, maps them to rows, stamps these, and queues them for the stage.
pub struct RecordEmitter {
    run: Rc<Run>,
    /// `--control`: text may contain control lines.
    control: bool,
    /// The kind and the columns of the rows.
    form: RowForm,
    /// The names of the fields of all records, if the first input declares them.
    declared: Option<Vec<String>>,
    /// The time of reading of the current records (µs).
    now: i64,
    batch: BatchMapper,
    /// What the current records are read from.
    reach: Reach,
    stamp: Stamp,
    /// Rows that have stamps.
    batches: StampedBatches,
}

impl RecordEmitter {
    /// Creates an emitter. Rows that a rule rejects are left out.
    pub fn new(run: Rc<Run>, mut options: RecordOptions) -> Result<Self> {
        let form = RowForm::new(options.kind, options.expected, options.mapping.keep_raw);
        // If a rule makes a dead letter of a row, the letter needs the raw record.
        if options.rules.is_some() && options.mapping.keep_raw == KeepRaw::No {
            options.mapping.keep_raw = KeepRaw::Within;
        }
        let RecordOptions { mapping, control, rules, untimed, named, .. } = options;
        let mut stamp = Stamp::new(run.clone(), &mapping, rules);
        if control {
            stamp.partition_table.set_explicit();
        }
        let limits = RecordLimits { record_max: run.record_max, line_max: run.line_max(), batch_max: run.batch_max };
        let letters = Letters::new(run.console.tool(), &Run::host());
        Ok(Self {
            now: run.clock.now(),
            control,
            form,
            declared: None,
            batch: BatchMapper::new(ChunkMapper::new(mapping, untimed, limits, letters)?, &run),
            reach: Reach::default(),
            stamp,
            batches: StampedBatches { named, ..StampedBatches::default() },
            run,
        })
    }

    /// Returns the schema of the batches. It is final once a record has been read or [`RecordEmitter::has_schema`] is
    /// true.
    pub fn schema(&self) -> SchemaRef {
        let schema = self.batches.schema.clone();
        schema.unwrap_or_else(|| self.form.schema(&self.batch.alone))
    }

    /// Whether the schema was set by an input or by [`RecordEmitter::set_schema`].
    pub fn has_schema(&self) -> bool {
        self.batches.schema.is_some()
    }

    /// Takes the schema of an input whose rows have stamps. Errors: exit status 65 if it lacks the columns of its kind,
    /// 2 if an earlier input has rows of another kind, or `--kind` names another one.
    pub fn take_schema(&mut self, schema: SchemaRef, name: &str) -> Result<()> {
        let kind = self.batches.take_schema(schema.clone(), name)?;
        self.form.expect(kind)?;
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
        self.finish_tasks()?;
        let Some(batch) = self.stamp.read.take_rows(batch) else { return Ok(()) };
        let of_event = matches!(Kind::of(batch.schema_ref()), Some(Kind::Event | Kind::Late));
        let has_raw = of_event && self.decide_raw(has_raw(batch.schema_ref()));
        if of_event {
            self.stamp.flags.unused.warn_of_rows(name, &self.run.console);
        }
        let batch = self.batches.take(batch, has_raw, name, &self.run.console)?;
        let rows = batch.num_rows();
        let batch = self.stamp.ruled(batch, name)?;
        self.batches.counts.out -= (rows - batch.num_rows()) as u64;
        self.stamp.queue.send_of_current(Item::Batch(batch));
        Ok(())
    }

    /// Returns whether the inputs carry raw records. The first call decides for all inputs, because they have one
    /// schema.
    pub fn decide_raw(&mut self, has_raw: bool) -> bool {
        self.form.decide_raw(has_raw, &mut self.batch.alone)
    }

    /// Returns the counts of records and rows so far, by outcome within the source.
    pub fn counts(&self) -> Counts {
        let mut counts = self.stamp.outcomes.counts;
        counts.add(self.batch.alone.counts());
        counts.add(&self.batches.counts);
        counts
    }

    /// Returns the context of the run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Whether rows or letters wait in an incomplete batch.
    pub fn has_rows(&self) -> bool {
        self.batch.has_rows()
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

    /// Returns the next item of the queue.
    pub fn pop(&mut self) -> Option<QueuedItem> {
        self.stamp.queue.pop()
    }

    /// Whether there are letters that are not queued yet.
    pub fn has_letters(&self) -> bool {
        self.batch.has_letters()
    }

    /// Maps the records of a chunk. Returns memory for those of another one.
    pub fn records(&mut self, mut chunk: Chunk) -> Result<Records> {
        self.now = self.run.clock.now();
        self.stamp.flags.first_times.begin(self.stamp.read.is_resumed());
        self.turn_to_partition(chunk.partition)?;
        (chunk.now, chunk.passed) = (self.now, self.stamp.read.passed());
        self.batch.count(&chunk);
        let mut range = 0..chunk.records.rows.len();
        while !range.is_empty() {
            if self.control || self.form.is_unknown() || self.stamp.flags.are_looking() {
                self.first_record(&chunk, &mut range)?;
            } else if self.batch.shares(self.stamp.allows_threads())? {
                let memory = chunk.records.same_capacity();
                return self.begin_tasks(&Arc::new(chunk), range).map(|()| memory);
            } else {
                self.map(&chunk, &mut range)?;
            }
        }
        chunk.records.clear();
        Ok(chunk.records)
    }

    /// Lets the thread of the run map all records alone.
    pub fn use_one_thread(&mut self) {
        self.batch.use_one_thread();
    }

    /// Lets the threads map the records of a range of a chunk.
    fn begin_tasks(&mut self, chunk: &Arc<Chunk>, mut range: Range<usize>) -> Result<()> {
        while !range.is_empty() {
            if self.batch.begin(chunk, &mut range)? {
                self.stamp.end_batch();
            }
            self.take_tasks()?;
        }
        Ok(())
    }

    /// Stamps batches that are mapped, and waits for one if too many are not.
    fn take_tasks(&mut self) -> Result<()> {
        while self.take_task(self.batch.is_full())? {}
        Ok(())
    }

    /// Stamps the next batch that the threads have mapped, if there is one; `waits` for it if it is not mapped yet.
    fn take_task(&mut self, waits: bool) -> Result<bool> {
        match self.batch.next(waits)? {
            None => return Ok(false),
            Some(Done::Input(step)) => self.stamp.input_step(step),
            Some(Done::Batch(mapped)) => self.stamp.send_mapped(mapped, &mut self.form)?,
        }
        Ok(true)
    }

    /// Waits until all complete batches are mapped and stamped; returns whether there were any.
    pub fn finish_tasks(&mut self) -> Result<bool> {
        let mut is_any = false;
        while self.take_task(true)? {
            is_any = true;
        }
        Ok(is_any)
    }

    /// Maps the records of a range of the chunk up to one behind which something must be done, and does it.
    fn map(&mut self, chunk: &Chunk, range: &mut Range<usize>) -> Result<()> {
        let pause = self.batch.alone.map(chunk, range, self.stamp.verdict())?;
        let Some(last) = range.start.checked_sub(1) else { return Ok(()) };
        self.stamp.read.note(chunk.records.rows[last].line as i64);
        // Other partitions' records may be released and mapped between two records of the chunk.
        let limits = self.batch.alone.limits();
        let mut unread = String::new();
        self.settle(pause, || chunk.record(last, limits, &mut unread))?;
        self.turn_to_partition(chunk.partition)
    }

    /// Maps the first record of the range, alone, because it may decide something for those that follow: the kind of
    /// the rows, a watermark, or that a flag is missing.
    #[cold]
    fn first_record(&mut self, chunk: &Chunk, range: &mut Range<usize>) -> Result<()> {
        let record = &chunk.records.rows[range.start];
        let mut one = range.start..range.start + 1;
        range.start += 1;
        if chunk.passes_over(record) {
            return Ok(());
        }
        let mut unread = String::new();
        let found = chunk.record(one.start, self.batch.alone.limits(), &mut unread);
        let text = found.as_ref().and_then(|found| found.text.as_ref().ok().copied());
        let meta = chunk.meta(record);
        self.stamp.read.note(meta.offset);
        if found.is_some() && self.decides(text, meta)? {
            return Ok(());
        }
        flags::usual_time::choose(text, &mut self.batch.alone, &mut self.stamp.flags, &self.run.console);
        self.batch.alone.take_fault();
        let filtered = self.counts().filtered;
        self.map(chunk, &mut one)?;
        if self.stamp.flags.first_times.is_looking() && self.counts().filtered == filtered {
            if let Some(fault) = self.batch.alone.take_fault() {
                self.stamp.flags.first_times.note(&fault, &meta);
            }
            let is_found = self.batch.alone.is_readable() || self.stamp.outcomes.counts.out > 0;
            self.stamp.flags.first_times.count(is_found, text, &meta)?;
        }
        Ok(())
    }

    /// Executes a control line (`--control`), and learns the kind of the rows from the first record. Returns whether
    /// the record is a control line.
    fn decides(&mut self, text: Option<&str>, meta: RecordMeta<'_>) -> Result<bool> {
        if self.control && self.control_line(text.unwrap_or(""), meta)? {
            return Ok(true);
        }
        if let Some(text) = text.filter(|_| self.form.is_unknown()) {
            self.form.learn(text, meta.input, &mut self.batch.alone)?;
        }
        Ok(false)
    }

    /// Maps a record that its input reads alone, or makes a dead letter of it.
    #[inline(always)]
    pub fn message(&mut self, payload: &[u8], text: MessageText<'_>, meta: RecordMeta<'_>) -> Result<()> {
        let is_free = self.stamp.allows_threads_alone() && !self.control && !self.form.is_unknown();
        if self.batch.shares_message(payload.len(), is_free)? {
            if meta.offset > self.stamp.read.passed() {
                self.turn_to_partition(meta.partition)?;
                if self.batch.begin_message(LoneRecord { payload, text, meta, now: self.now })? {
                    self.stamp.end_batch();
                    self.take_tasks()?;
                }
            }
            return Ok(());
        }
        if !self.stamp.read.take(meta.offset) {
            return Ok(());
        }
        match text {
            MessageText::Text(text) => self.record(payload, Ok(text), meta),
            MessageText::Fault(fault) => {
                self.record(payload, Err(fault.clone()), meta)?;
                self.stamp.flags.first_times.note(fault, &meta);
                self.stamp.flags.first_times.count(false, None, &meta)
            }
            MessageText::Payload => {
                let text = one_line(payload);
                self.record(payload, text.as_ref().map(AsRef::as_ref).map_err(Clone::clone), meta)
            }
        }
    }

    /// Maps a record in the thread of the run.
    #[inline(always)]
    fn record(&mut self, raw: &[u8], text: Result<&str, Fault>, meta: RecordMeta<'_>) -> Result<()> {
        let known = text.as_ref().ok().copied();
        if (self.control || self.form.is_unknown()) && self.decides(known, meta)? {
            return Ok(());
        }
        self.turn_to_partition(meta.partition)?;
        let pause = self.batch.alone.record(ChunkRecord { text, raw, meta }, self.now, self.stamp.verdict())?;
        self.settle(pause, || known.map(|text| ChunkRecord { text: Ok(text), raw, meta }))
    }

    /// Does what must be done behind a record that was mapped.
    #[inline(always)]
    fn settle<'a>(&mut self, pause: Option<Pause>, record: impl FnOnce() -> Option<ChunkRecord<'a>>) -> Result<()> {
        match pause {
            None => Ok(()),
            Some(Pause::Full) => self.flush(),
            Some(Pause::Held(Held::AsLetter(letter))) => self.release(|waiting| waiting.push_letter(*letter)),
            Some(Pause::Held(Held::ForRows(check))) => match record() {
                Some(ChunkRecord { text: Ok(text), raw, meta }) => {
                    let verdict = FutureVerdict::Passed;
                    self.hold(mapping::Record { text, raw, meta, now: self.now, verdict }, check)
                }
                _ => Ok(()),
            },
        }
    }

    /// Turns to the records of a partition.
    #[inline(always)]
    fn turn_to_partition(&mut self, partition: u32) -> Result<()> {
        if self.batch.is_at(partition) { Ok(()) } else { self.begin_partition(partition) }
    }

    /// Turns to the records of another partition. A batch has rows of one input only.
    #[cold]
    fn begin_partition(&mut self, partition: u32) -> Result<()> {
        let input = self.stamp.partition_table.input_of(partition);
        if input != self.batch.input() && !self.batch.keeps_behind_batch(InputStep::Batch(input))? {
            self.flush_batch()?;
            self.stamp.begin_batch(input);
        }
        self.batch.turn_to(partition, input, self.stamp.partition_table.name(partition));
        Ok(())
    }

    /// Holds a record until `--max-future` has judged it.
    fn hold(&mut self, record: mapping::Record<'_>, mut check: FutureCheck) -> Result<()> {
        if let Some((origin, name)) = self.batch.alone.events().named(check) {
            check.partition = self.stamp.partition_table.beside(record.meta.partition, origin, name);
        }
        if let Some(verdict) = self.stamp.judge(check) {
            return self.judged(record, verdict, check.partition);
        }
        let reach = self.reach;
        self.release(|waiting| waiting.push(mapping::PendingRecord::new(record, check), reach))
    }

    /// Lets `judge` judge held records. Maps those that have a verdict then, or makes dead letters of them.
    pub fn release(&mut self, judge: impl FnOnce(&mut Lookahead)) -> Result<()> {
        self.stamp.waiting.as_mut().map(judge);
        while let Some(judged) = self.stamp.waiting.as_mut().and_then(Lookahead::pop_judged) {
            match judged {
                Judged::Record(held, verdict) => self.judged(held.record(), verdict, held.check.partition)?,
                Judged::Letter(letter) => {
                    self.judged(letter.record(), Err(letter.fault.clone()), letter.meta.partition)?
                }
            }
        }
        Ok(())
    }

    /// Maps a record that `--max-future` has judged. Its dead letter has the partition that the record names.
    fn judged(&mut self, record: mapping::Record<'_>, verdict: Result<(), Fault>, partition: u32) -> Result<()> {
        let record = match verdict {
            Ok(()) => record,
            Err(_) => mapping::Record { now: self.run.clock.now(), ..record },
        };
        self.turn_to_partition(if verdict.is_ok() { record.meta.partition } else { partition })?;
        let pause = self.batch.alone.judged(record, verdict)?;
        self.settle(pause, || None)
    }

    /// Releases the held records if they name their partitions: the position of an input is before those of its own.
    pub fn drain_named(&mut self) -> Result<()> {
        if self.stamp.maps_partition() { self.release(|held| held.judge_all(Rest::Unknown)) } else { Ok(()) }
    }

    /// Queues the incomplete batch because no records come for now; reports once that records are held for long.
    pub fn flush_idle(&mut self) -> Result<()> {
        self.flush()?;
        if let Some(held) = self.stamp.unreported(self.run.clock.now() - HELD_REPORT) {
            self.run.console.say(held_records(held));
        }
        Ok(())
    }

    /// Sets the kind of the records if it is not known yet; returns whether it is `kind` now.
    pub fn becomes(&mut self, kind: Kind) -> bool {
        self.form.becomes(kind, &mut self.batch.alone)
    }

    /// Counts a tombstone (a record without a payload that deletes its key) or an empty document as filtered.
    pub fn tombstone(&mut self) {
        self.batch.alone.filtered();
    }

    /// Sets the time of reading of the records that follow to the current time.
    pub fn update_time(&mut self) {
        self.now = self.run.clock.now();
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
        let mapped = self.finish_batch()?;
        self.stamp.send_mapped(mapped, &mut self.form)
    }

    /// Maps the rest of the incomplete batch.
    fn finish_batch(&mut self) -> Result<MappedTask> {
        self.finish_tasks()?;
        self.batch.finish(!self.stamp.flags.first_times.is_looking())
    }

    /// Queues the letters so far after reading has failed, and the rows if `with_rows`.
    pub fn end(&mut self, with_rows: bool) -> Result<()> {
        self.stamp.flags.first_times.release();
        if with_rows {
            return self.flush();
        }
        let MappedChunk { letters, counts, .. } = self.finish_batch()?.chunk;
        self.stamp.outcomes.counts.add(&counts);
        self.stamp.send_letters(letters);
        Ok(())
    }

    /// Executes `text` if it is a control line (`--control`); returns whether it is one.
    fn control_line(&mut self, text: &str, meta: RecordMeta<'_>) -> Result<bool> {
        match control_line::parse(text, meta.input, meta.offset)? {
            None => return Ok(false),
            Some(ControlLine::PassedOver) => {}
            Some(ControlLine::Watermark(watermark)) => {
                self.release(|held| held.judge_all(Rest::Unknown))?;
                self.flush()?;
                self.stamp.watermark(meta.partition, watermark);
                self.turn_to_partition(meta.partition)?;
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

    /// Queues a progress message if one is due, but not before the first record, because the kind is not known then.
    pub fn report_progress(&mut self, bytes: ByteProgress) {
        if !self.batch.keeps(InputStep::Progress(bytes)) && self.counts().taken > 0 {
            self.stamp.report_progress(bytes);
        }
    }

    /// Makes `input` the current input, of which `bytes` have been read; `rest` describes the inputs that are not open
    /// yet.
    pub fn turn_to(&mut self, input: u32, bytes: ByteProgress, rest: PendingInputs) {
        match self.batch.keeps(InputStep::Turn { input, bytes, rest }) {
            true => self.stamp.read_from(input),
            false => self.stamp.turn_to(input, bytes, rest),
        }
    }

    /// Ends the current input and its partitions after `bytes` bytes, as soon as the threads have mapped its records;
    /// the next input may be read before. Returns false if no records are mapped by threads now, or if records name
    /// partitions, which have numbers in the order of the rows.
    pub fn end_input_later(&mut self, bytes: ByteProgress) -> Result<bool> {
        let is_kept = !self.stamp.maps_partition() && self.batch.keeps_behind_batch(InputStep::End(bytes))?;
        self.take_tasks()?;
        Ok(is_kept)
    }

    /// Drops the held records of a partition that this run stops reading; its next reader reads them again.
    pub fn forget(&mut self, partition: u32) {
        let forgotten = self.stamp.forget(partition);
        self.stamp.outcomes.counts.add(&self.batch.alone.take_counts());
        self.stamp.outcomes.counts.taken -= forgotten as u64;
    }

    /// Sets what the records that follow are read from.
    pub fn set_reach(&mut self, reach: Reach) {
        self.reach = reach;
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
    pub fn facts(&self) -> Facts {
        let mut facts = self.stamp.facts;
        facts.add(self.batch.alone.events().facts());
        facts
    }

    /// Returns the defaults that the mapping used.
    pub fn defaults(&self) -> Defaults {
        let facts = self.facts();
        Defaults { keeps_stamps: facts.kept_stamps || self.batches.counts.taken > 0, ..facts.defaults }
    }

    /// Returns warnings about all records: about names in the rules of the source that had no value, ambiguous times,
    /// and, if repeats are found by ids, about records without ids.
    pub fn warnings(&self, finds_repeats: bool) -> Vec<String> {
        let mut warnings = self.stamp.outcomes.rules.as_ref().map_or(vec![], RowRules::warnings);
        warnings.extend(self.batch.alone.events().warnings(&self.facts(), finds_repeats));
        warnings
    }
}
