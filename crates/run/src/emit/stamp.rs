//! Stamps mapped rows in the order of their records, and queues them. This is the sequential part behind the mapping:
//! it owns the partitions with their stream times, the records that wait for `--max-future`, the checks of the first
//! records, the positions, and the queue.

use super::chunk::ChunkRows;
use super::flags::FlagChecks;
use super::learn::RowForm;
use super::letters::{Dead, Letters};
use super::queue::{ByteProgress, InputStep, Item, ItemQueue, PendingInputs};
use super::read_positions::ReadPositions;
use super::ruled::Outcomes;
use super::tasks::{LastRecord, MappedTask};
use crate::run::Run;
use arrow::array::RecordBatch;
use evt_core::counts::Counts;
use evt_core::error::Result;
use evt_core::frame::Control;
use evt_core::kind::dead::Fault;
use evt_core::kind::span::Span;
use evt_core::mapping::{
    self, Facts, FutureCheck, FutureVerdict, Lookahead, MappedRows, PartitionStreamTime, PartitionTable, PendingRecord,
    RowFilter,
};
use evt_core::op::computed::RowRules;
use std::rc::Rc;
use std::time::Duration;

/// Stamps rows and queues items for the stage.
pub struct Stamp {
    run: Rc<Run>,
    /// Partitions and stream time.
    pub(super) partition_table: PartitionTable,
    /// Whether a flag maps the partition or the origin of records.
    maps_partition: bool,
    /// Records that wait for their `--max-future` verdict.
    pub(super) waiting: Option<Lookahead>,
    /// How far each input is read.
    pub(super) read: ReadPositions,
    /// Checks of the mapping flags.
    pub(super) flags: FlagChecks,
    /// The facts about the records of all mapped rows.
    pub(super) facts: Facts,
    /// The records of text and messages by outcome; rows that have stamps are counted apart.
    pub(super) outcomes: Outcomes,
    /// The number of rows that came with stamps.
    rows_of_batches: u64,
    pub(super) queue: ItemQueue,
    open: OpenBatch,
}

/// The incomplete batch.
#[derive(Default)]
struct OpenBatch {
    /// The input of its rows. A batch has rows of one input only.
    input: u32,
    /// Monotonic time since which rows wait in it.
    since: Option<Duration>,
}

impl Stamp {
    /// Begins with the mapping flags and the rules of a run.
    pub(super) fn new(run: Rc<Run>, options: &mapping::Options, rules: Option<RowRules>) -> Self {
        let letters = Letters::new(run.console.tool(), &Run::host());
        Self {
            run,
            partition_table: PartitionTable::default(),
            maps_partition: options.maps_partition(),
            waiting: options.max_future.map(Lookahead::new),
            read: ReadPositions::default(),
            flags: FlagChecks::new(options),
            facts: Facts::default(),
            outcomes: Outcomes { rules, range: Span::default(), counts: Counts::default(), letters },
            rows_of_batches: 0,
            queue: ItemQueue::new(),
            open: OpenBatch::default(),
        }
    }

    /// Takes the range of event time of the rows that leave the stage, and that of the rows that advance stream time.
    pub fn set_range(&mut self, range: Span, advances: Span) {
        self.outcomes.range = range;
        self.partition_table.advance_within(advances);
    }

    /// Lets the only record of an input be a dead letter, instead of ending the run because a flag may be missing.
    pub fn set_writes_letters(&mut self) {
        self.flags.first_times.set_writes_letters();
    }

    /// Lets the first record of a file show which field is its time, if no flag names one and it has no usual time.
    pub fn seek_time(&mut self) {
        self.flags.seeks_time = true;
    }

    /// Begins a batch of an input; the batch before has ended.
    pub(super) fn begin_batch(&mut self, input: u32) {
        self.open.input = input;
    }

    /// Ends the incomplete batch: no rows wait in it.
    pub(super) fn end_batch(&mut self) {
        self.open.since = None;
    }

    /// Returns how long rows or letters have waited at this monotonic time.
    pub(super) fn waited(&mut self, now: Duration) -> Duration {
        now.saturating_sub(*self.open.since.get_or_insert(now))
    }

    /// Makes `input` the current input, of which `bytes` have been read; `rest` describes the inputs that are not open
    /// yet.
    pub fn turn_to(&mut self, input: u32, bytes: ByteProgress, rest: PendingInputs) {
        self.read_from(input);
        self.queue.turn_to(input, bytes, rest);
    }

    /// Makes `input` the one that is read; items may still be those of an input before.
    pub(super) fn read_from(&mut self, input: u32) {
        self.read.turn_to(input);
        self.partition_table.set_input(input);
    }

    /// Does what an input does between its records.
    pub(super) fn input_step(&mut self, step: InputStep) {
        match step {
            InputStep::Progress(bytes) => self.report_progress(bytes),
            InputStep::Batch(input) => self.begin_batch(input),
            InputStep::End(bytes) => self.end_input(bytes, false),
            InputStep::Turn { input, bytes, rest } => self.queue.turn_to(input, bytes, rest),
        }
    }

    /// Returns the queue of items for the stage.
    pub fn queue(&self) -> &ItemQueue {
        &self.queue
    }

    /// Counts a record that repeats an earlier one.
    pub fn duplicate(&mut self) {
        self.outcomes.counts.taken += 1;
        self.outcomes.counts.duplicate += 1;
    }

    /// Queues an item of the incomplete batch's input.
    pub(super) fn send(&mut self, item: Item) {
        self.queue.send(self.open.input, item);
    }

    /// Queues [`Item::Idle`]: no records come for now, or the items before it may be committed.
    pub fn idle(&mut self) {
        self.send(Item::Idle);
    }

    /// Queues a batch of rows that have stamps, or need none.
    fn send_rows(&mut self, batch: RecordBatch) {
        self.outcomes.counts.out += batch.num_rows() as u64;
        self.send(Item::Batch(batch));
    }

    /// Queues the letters of mapped records, which follow the rows that were queued so far.
    pub(super) fn send_letters(&mut self, letters: Option<Dead>) {
        if let Some(letters) = letters {
            let rows = self.outcomes.counts.out + self.rows_of_batches;
            self.send(Item::Dead(letters.behind(rows)));
        }
    }

    /// Queues the letters of rows that the rules reject.
    pub(super) fn send_ruled(&mut self) -> Result<()> {
        if let Some(letters) = self.outcomes.letters.take()? {
            self.send(Item::Dead(letters));
        }
        Ok(())
    }

    /// Queues the letters and the rows of a mapped batch.
    pub(super) fn send_mapped(&mut self, MappedTask { chunk, last }: MappedTask, form: &mut RowForm) -> Result<()> {
        last.into_iter().for_each(|LastRecord { input, number }| self.read.complete_to(input, number));
        self.outcomes.counts.add(&chunk.counts);
        self.send_letters(chunk.letters);
        match chunk.rows {
            ChunkRows::Others(batch) => self.send_rows(batch),
            ChunkRows::Events(rows) => {
                if let Some(batch) = self.rows(*rows, chunk.count)? {
                    self.send_rows(form.written(batch)?);
                }
            }
        }
        Ok(())
    }

    /// Stamps mapped rows, `count` of them, after the rules; `None` if no row is left. Queues the letters of those that
    /// the rules reject.
    fn rows(&mut self, mapped: MappedRows, count: usize) -> Result<Option<RecordBatch>> {
        self.facts.add(mapped.facts());
        // Letters of rows that a rule rejects are last.
        let before = self.outcomes.counts.out + self.rows_of_batches + count as u64;
        let ruled = self.outcomes.ruled(before, self.run.clock.now());
        let mut rule = ruled
            .map(|mut ruled| move |batch: &RecordBatch| ruled.apply(batch).map(|ruled| (ruled.properties, ruled.keep)));
        let rule = rule.as_mut().map(|rule| rule as &mut RowFilter<'_>);
        let batch = mapped.stamp(&mut self.partition_table, rule)?;
        self.send_ruled()?;
        if batch.is_some() && self.facts.kept_stamps {
            self.flags.unused.warn_of_text(&self.run.console);
        }
        Ok(batch)
    }

    /// Applies the rules to rows that have stamps; returns those that they leave.
    pub(super) fn ruled(&mut self, batch: RecordBatch, name: &str) -> Result<RecordBatch> {
        let before = self.outcomes.counts.out + self.rows_of_batches;
        let ruled = match self.outcomes.ruled(before, self.run.clock.now()) {
            Some(mut ruled) => ruled.stamped(batch, name)?,
            None => batch,
        };
        self.send_ruled()?;
        self.rows_of_batches += ruled.num_rows() as u64;
        Ok(ruled)
    }

    /// Whether several threads may map the records of chunks: no check looks at the next ones, and none waits for
    /// others.
    pub(super) fn allows_threads(&self) -> bool {
        self.flags.first_times.is_found() && self.waiting.is_none()
    }

    /// The same for records that came alone, whose times no check looks at.
    #[inline(always)]
    pub(super) fn allows_threads_alone(&self) -> bool {
        !self.flags.first_times.is_looking() && self.waiting.is_none()
    }

    /// Returns how `--max-future` judges the next record.
    #[inline(always)]
    pub(super) fn verdict(&self) -> FutureVerdict {
        match &self.waiting {
            Some(waiting) if waiting.held() > 0 => FutureVerdict::Waits,
            _ => FutureVerdict::ByArrival,
        }
    }

    /// Returns the verdict on a record if it need not wait.
    pub(super) fn judge(&self, check: FutureCheck) -> Option<Result<(), Fault>> {
        self.waiting.as_ref()?.at_once(check)
    }

    /// Whether records wait, so that they are not rows yet.
    pub(super) fn holds_records(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.held() > 0)
    }

    /// Returns the offset of the first record of a partition that `--max-future` holds.
    pub fn first_held(&self, partition: u32) -> Option<i64> {
        self.waiting.as_ref()?.first(partition).map(PendingRecord::offset)
    }

    /// Returns the number of records that wait, the first time that one was read before `before` (µs).
    pub(super) fn unreported(&mut self, before: i64) -> Option<usize> {
        self.waiting.as_mut()?.unreported(before)
    }

    /// Drops the held records of a partition; returns their number.
    pub(super) fn forget(&mut self, partition: u32) -> usize {
        self.waiting.as_mut().map_or(0, |waiting| waiting.forget(partition))
    }

    /// Sets the explicit watermark (µs) of the input of a partition and queues it.
    pub(super) fn watermark(&mut self, partition: u32, watermark: i64) {
        self.partition_table.set_watermark(partition, watermark);
        self.send(Item::Control(Control::Watermark(watermark)));
    }

    /// Whether a flag maps the partition or the origin of records.
    pub fn maps_partition(&self) -> bool {
        self.maps_partition
    }

    /// Returns the number of the partition for records of `origin` that name none.
    pub fn unnamed(&mut self, origin: &str) -> u32 {
        if self.maps_partition { self.partition_table.unnamed(origin) } else { self.announce(origin, "0") }
    }

    /// Returns the number of a partition of the current input; announces it if it is new.
    pub fn announce(&mut self, origin: &str, name: &str) -> u32 {
        self.partition_table.partition(origin, name)
    }

    /// Returns the number of a partition of the current input that is not announced before a row of it is stamped.
    pub fn silent(&mut self, origin: &str, name: &str) -> u32 {
        self.partition_table.silent(origin, name)
    }

    /// Gives a partition the stream time (µs) with which it continues. It is live again.
    pub fn resume(&mut self, partition: u32, stream_time: Option<i64>) {
        self.partition_table.resume(partition, stream_time);
        if let (Some(waiting), Some(stream_time)) = (&mut self.waiting, stream_time) {
            waiting.resume(partition, stream_time);
        }
    }

    /// Returns the stream time of a partition (µs), if it has had a row.
    pub fn stream_time(&self, partition: u32) -> Option<i64> {
        self.partition_table.stream_time(partition)
    }

    /// Returns the stream times of the partitions of an input that have had a row.
    pub fn stream_times(&self, input: u32) -> impl Iterator<Item = PartitionStreamTime<'_>> {
        self.partition_table.stream_times(input)
    }

    /// Ends one partition.
    pub fn end_partition(&mut self, partition: u32) {
        self.partition_table.end_one(partition);
    }

    /// Passes over the records of the current input up to number `last`, which earlier runs have read. The input began
    /// with this stream time (µs).
    pub fn continue_after(&mut self, last: i64, began: Option<i64>) {
        self.read.skip_to(last);
        self.read.begin(began);
    }

    /// Begins the records of the current input, in a partition, unless this or an earlier run has begun. Returns the
    /// stream time (µs) with which the input has begun.
    pub fn begin_records(&mut self, partition: u32) -> Option<i64> {
        let stream_time = self.stream_time(partition);
        self.read.begin(stream_time)
    }

    /// Returns the stream time (µs) with which the current input began, if it had one.
    pub fn began(&self) -> Option<i64> {
        self.read.began()
    }

    /// Returns the number of the last record of the current input that is in a complete batch; `None` before the first
    /// one.
    pub fn complete(&self) -> Option<i64> {
        self.read.complete()
    }

    /// Whether every record that was read is a row or letter of the queue, or behind the position of the current input.
    pub fn is_exact(&self) -> bool {
        !self.holds_records()
    }

    /// Queues a progress message if partitions are new or have ended, or enough bytes have been read.
    pub(super) fn report_progress(&mut self, bytes: ByteProgress) {
        self.queue.report_progress(&mut self.partition_table, bytes);
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

    /// Sets whether a flag, the name of the next input or a line of it tells its format.
    pub fn set_has_format(&mut self, has_format: bool) {
        self.flags.first_times.set_has_format(has_format);
    }

    /// Releases letters that are held back because a flag may be missing.
    pub fn release_letters(&mut self) {
        self.flags.first_times.release();
    }

    /// Ends the first records of an input. Errors: exit status 2 if a flag is missing, because none of them has a
    /// readable time, or can be read.
    pub fn end_first_records(&mut self) -> Result<()> {
        self.flags.first_times.end()
    }
}
