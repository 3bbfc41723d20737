//! One feed of evt-alert: its name, the positions of its partitions, and the rows for the engine.

use super::known::files::{FileLetters, FileMark};
use super::known::stored::time_columns;
use super::known::{KnownRows, LeftOut, SelectedRows, UnmarkedRows, UnstampedRows, check_final};
use super::positions::{FramePartition, FramePartitions, PartitionTimes, RowPosition, TopicNames, WHOLE};
use super::topic::{HELD_MAX, NotedEnds, TopicEnds};
use crate::source;
use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use evt_core::alert::clock::{AlertClock, PartitionKey, ReadState};
use evt_core::alert::engine::{AlertEngine, TimedRows};
use evt_core::counts::Counts;
use evt_core::error::{Error, Result};
use evt_core::frame::{self, EndReason, Progress};
use evt_core::kind::dead::{self, ErrorType, Fault};
use evt_core::kind::event::{column, instants};
use evt_core::kind::span::Span;
use evt_core::kind::{Kind, PartitionColumns, PartitionName, array};
use evt_run::emit::Dead;
use evt_run::input::ReadPosition;
use evt_run::run::Run;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// What the rows of all feeds change.
pub struct Evaluation {
    /// The rules.
    pub engine: AlertEngine,
    /// The alert clock.
    pub clock: AlertClock,
    /// The positions of topics.
    pub positions: BTreeMap<PartitionKey, RowPosition>,
}

/// A row that the rules could not evaluate.
pub struct FaultyRow {
    /// Its batch.
    pub batch: RecordBatch,
    /// Its index in the batch.
    pub row: usize,
    /// Why.
    pub fault: Fault,
}

/// The run of a step: its time and its limits for rows.
pub struct FeedRun {
    /// The run.
    pub run: Rc<Run>,
    /// The monotonic time.
    pub now: Duration,
    /// Rows without stamps that are later than this (µs) are left out: the wall time and what `--max-future` permits.
    pub latest: i64,
    /// Rows outside of it are left out.
    pub range: Span,
    /// Whether inputs may be quiet without having ended; a job of cron waits for their ends.
    pub is_live: bool,
}

/// Returns what finds the name of a row in a column of names.
fn names_in<'a>(column: &'a ArrayRef) -> impl Fn(usize) -> &'a str {
    let names = column.as_any_dictionary();
    let (values, keys) = (names.values().as_string::<i32>(), names.normalized_keys());
    move |row| values.value(keys[row])
}

/// The whole input as one partition.
struct WholeInput {
    /// Its key, which holds the clock until the partitions are known.
    key: PartitionKey,
    /// Whether the rows have no stamps, so that it is the only partition.
    is_only: bool,
    /// Whether letters of it may not be durable yet.
    has_letters: bool,
    left_out: LeftOut,
}

/// The form of an input of evt-alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedForm {
    /// A file or a pipe.
    Bytes,
    /// A store.
    Store,
    /// Topics whose partitions are those of the rows.
    Records,
    /// Topics whose rows have partitions of their own, in frames or named by a flag; the first topic.
    Frames(String),
}

/// A feed.
pub struct Feed {
    /// Its name.
    pub name: String,
    /// The rows that an earlier run has evaluated.
    pub known: KnownRows,
    form: FeedForm,
    /// The kind of its rows, as far as the source knows it.
    kind: Kind,
    rows: FeedRows,
    /// The dead letters of a file.
    pub letters: FileLetters,
    ends: TopicEnds,
    /// The names of the partitions of topics.
    topics: TopicNames,
    /// How far a topic was read when the state began to be stored.
    storing: Option<NotedEnds>,
    /// Whether the source has named the partitions.
    has_partitions: bool,
    whole: WholeInput,
}

/// The rows of a feed so far.
struct FeedRows {
    /// Rows by outcome that are not in the counts of the stage yet.
    counts: Counts,
    /// The number of all rows.
    taken: u64,
    /// Those that were left out, because an earlier run may have read them.
    repeats: RepeatedRows,
}

/// Rows of an input that some rule would have counted and that an earlier run may have read.
#[derive(Clone, Copy, Debug)]
pub struct RepeatedRows {
    /// Their number.
    pub count: u64,
    /// The greatest stream time (µs) up to which that run has read their partitions.
    pub up_to: i64,
}

impl Feed {
    /// Makes a feed, and announces it to the clock.
    pub fn new(topics: TopicNames, name: String, form: FeedForm, clock: &mut AlertClock) -> Self {
        let key = PartitionKey::new(topics.input, name.clone(), "");
        clock.announce(key.clone(), None);
        Self {
            ends: TopicEnds::new(name.clone()),
            topics,
            name,
            known: KnownRows::Unmarked(UnmarkedRows::default()),
            form,
            kind: Kind::Event,
            rows: FeedRows { counts: Counts::default(), taken: 0, repeats: RepeatedRows { count: 0, up_to: i64::MIN } },
            letters: FileLetters::default(),
            storing: None,
            has_partitions: false,
            whole: WholeInput { key, is_only: false, has_letters: false, left_out: LeftOut::default() },
        }
    }

    /// Returns the number of its input on the command line.
    pub fn number(&self) -> u32 {
        self.topics.input
    }

    fn is_topic(&self) -> bool {
        matches!(self.form, FeedForm::Records | FeedForm::Frames(_))
    }

    /// Whether the partitions of the rows are none of those of the topics.
    fn has_other_partitions(&self) -> bool {
        self.whole.is_only || matches!(self.form, FeedForm::Frames(_))
    }

    /// Returns the mark of a file of which a row was evaluated or a dead letter was written. A file without such a mark
    /// is not known to later runs, which read it again.
    pub fn read_mark(&self) -> Option<&FileMark> {
        self.known.mark().filter(|mark| mark.last_row >= 0 || mark.last_letter >= 0)
    }

    /// Whether a broker does not answer.
    pub fn is_silent(&self) -> bool {
        self.ends.is_silent()
    }

    /// Sets the mark of a file once it is stored.
    pub fn set_mark(&mut self, stored: FileMark) {
        self.known.mark_mut().into_iter().for_each(|mark| mark.clone_from(&stored));
    }

    /// Leaves out the rows that an earlier run has evaluated.
    pub fn set_known(&mut self, known: KnownRows) {
        self.letters = known.mark().map_or_else(FileLetters::default, |mark| FileLetters::new(mark.last_letter));
        self.known = known;
    }

    /// Whether the engine has rows of a store that is not read whole: no position says which of them are known.
    pub fn is_within_store(&self) -> bool {
        matches!(&self.known, KnownRows::Store(stored) if stored.has_begun())
    }

    /// Returns the rows that were left out, because an earlier run may have read them; `None` if there are none.
    pub fn repeats(&self) -> Option<RepeatedRows> {
        Some(self.rows.repeats).filter(|repeats| repeats.count > 0)
    }

    /// Notes that the state has the effect of all rows that were taken.
    pub fn set_stored(&mut self) {
        self.known.set_stored(self.rows.taken);
    }

    /// Does what is due before the source is polled.
    pub fn before_poll(&mut self, source: &mut source::Source, to: &mut Evaluation, context: &FeedRun) -> Result<()> {
        self.kind = source.kind();
        if source.defaults().keeps_stamps {
            self.known.keeps_stamps();
        }
        if source.maps_partition() {
            self.known.names_partitions();
        }
        if let Some(leaves) = to.engine.leaves(self.kind) {
            source.set_named(leaves.columns());
        }
        if context.is_live && self.is_topic() { self.note_ends(source, &mut to.clock, context) } else { Ok(()) }
    }

    /// Updates the clock when nothing can be read. Rows that were read and wait for others are rows of a backlog. The
    /// program that writes a pipe may have one too. Records that `--max-future` holds become rows before the clock
    /// passes them.
    pub fn on_waiting(&self, source: &mut source::Source, clock: &mut AlertClock, context: &FeedRun) -> Result<()> {
        if !context.is_live || self.is_topic() {
            return Ok(());
        }
        source.release_waited(context.run.clock.now() - HELD_MAX)?;
        if !source.holds_rows() {
            for key in clock.of_input(self.number()) {
                clock.read(key, ReadState::Waiting, context.now);
            }
        }
        Ok(())
    }

    /// Updates the clock with the ends of a topic, once the rows before them are taken.
    fn note_ends(&mut self, source: &mut source::Source, clock: &mut AlertClock, context: &FeedRun) -> Result<()> {
        let FeedRun { run, now, .. } = context;
        let Some(reached) = self.ends.note(source, run, *now)? else { return Ok(()) };
        self.update_ends(&reached, clock, *now);
        self.ends.report_silence(&reached, clock.resumed(), run, *now);
        Ok(())
    }

    /// Notes how far a topic is read, for [`Feed::settle`]. Returns the number of items that the engine must have
    /// before that; `None` if it may have any. The positions of events in json or avro are those of their offsets, and
    /// always agree with the rows unless their topic was created again.
    pub fn begin_store(&mut self, source: &mut source::Source, to: &Evaluation) -> Result<Option<u64>> {
        if !self.is_topic() {
            return Ok(None);
        }
        let noted = self.storing.insert(NotedEnds::new(source, true)?);
        let is_new = self.topics.are_new(&to.positions, &noted.reached);
        let items = noted.items;
        Ok((is_new || self.has_other_partitions()).then_some(items))
    }

    /// Makes the positions those of the rows that the engine has, so that both can be stored together. A partition
    /// without rows gets its position too, because the next run must not start it where a new topic is started. Returns
    /// whether all letters must be durable before, because no later run reads their records, and the state has none of
    /// them.
    pub fn settle(&mut self, source: &source::Source, to: &mut Evaluation) -> bool {
        let Some(NotedEnds { items, reached }) = self.storing.take() else { return false };
        if !self.has_other_partitions() {
            self.topics.set_ids(&mut to.positions, &reached);
            let is_all = source.taken() >= items && source.kind() == Kind::Event;
            if is_all {
                self.topics.advance(&mut to.positions, reached, |_, _| false);
            }
            return false;
        }
        let stream_time = to.clock.stream_time(&self.whole.key).filter(|_| self.whole.is_only);
        for one in reached {
            if self.whole.is_only {
                let key = PartitionKey::new(self.number(), one.topic.clone(), WHOLE);
                to.positions.insert(key, RowPosition { stream_time, ..RowPosition::default() });
            }
            let key = PartitionKey::new(self.number(), one.topic, one.partition.to_string());
            to.positions.insert(key, RowPosition { next: one.next, stream_time: None, topic_id: one.topic_id });
        }
        std::mem::take(&mut self.whole.has_letters)
    }

    /// Returns the partitions of the rows of topics of frames, which hold the clock of a later run too.
    pub fn frames(&self, clock: &AlertClock) -> Option<FramePartitions> {
        let FeedForm::Frames(topic) = &self.form else { return None };
        let open = clock.open_of_input(self.number()).filter(|(key, _)| **key != self.whole.key);
        let open = open.map(|(key, stream_time)| {
            let (origin, partition) = (key.origin.clone(), key.partition.clone());
            FramePartition { origin, partition, stream_time }
        });
        Some(FramePartitions { topic: topic.clone(), open: open.collect() })
    }

    /// At the end of the input, moves the positions of a topic of events past records that became no rows. Returns
    /// whether the letters must be durable before the positions are stored, because no later run reads these records.
    fn end_topic(&mut self, source: &mut source::Source, to: &mut Evaluation) -> Result<bool> {
        let (_, reached) = source.reached(true)?;
        let is_by_offset = !self.has_other_partitions() && source.kind() == Kind::Event;
        let moved = is_by_offset && self.topics.advance(&mut to.positions, reached, |known, reached| known < reached);
        Ok(moved && std::mem::take(&mut self.whole.has_letters))
    }

    /// Continues a topic whose rows have no stamps at a stream time (µs).
    pub fn resume_whole(&mut self, stream_time: Option<i64>, clock: &mut AlertClock) {
        self.whole.is_only = true;
        clock.announce(self.whole.key.clone(), stream_time);
    }

    /// Continues topics of frames with the partitions of their rows that had not ended.
    pub fn resume_frames(&mut self, partitions: Vec<FramePartition>, clock: &mut AlertClock) {
        self.has_partitions |= !partitions.is_empty();
        for FramePartition { origin, partition, stream_time } in partitions {
            clock.withdraw(&self.whole.key);
            clock.announce(PartitionKey::new(self.number(), origin, partition), stream_time);
        }
    }

    /// Updates the clock with the partitions of a topic that are read to their end.
    fn update_ends(&mut self, reached: &[ReadPosition], clock: &mut AlertClock, now: Duration) {
        let state = |one: &ReadPosition| match one.confirmed.filter(|_| one.is_at_end) {
            Some(at) => (ReadState::AtEnd, at),
            None => (ReadState::Behind, now),
        };
        if self.has_other_partitions() {
            // The partitions of the rows are not those of the topic.
            let is_at_end = reached.iter().all(|one| state(one).0 == ReadState::AtEnd);
            let at = reached.iter().map(|one| state(one).1).min().unwrap_or(now);
            let state = if is_at_end { ReadState::AtEnd } else { ReadState::Behind };
            for key in clock.of_input(self.number()) {
                clock.read(key, state, at);
            }
            return;
        }
        if !reached.is_empty() {
            clock.withdraw(&self.whole.key);
        }
        for one in reached {
            let (state, at) = state(one);
            clock.read(self.topics.key(one), state, at);
        }
    }

    /// Takes the partitions that the source reports. Rows without stamps belong to none of them.
    pub fn on_progress(&mut self, progress: Progress, clock: &mut AlertClock, now: Duration) {
        if self.whole.is_only || self.kind != Kind::Event {
            return;
        }
        self.has_partitions |= !progress.partitions.is_empty();
        for partition in progress.partitions {
            clock.withdraw(&self.whole.key);
            let key = PartitionKey::new(self.number(), partition.origin, partition.partition);
            clock.announce(key.clone(), None);
            if partition.state == frame::State::Ended {
                clock.read(key, ReadState::Ended, now);
            }
        }
    }

    /// Returns the letters of records that no earlier run has written.
    pub fn new_letters(&mut self, letters: Dead) -> Result<Option<Dead>> {
        self.whole.has_letters = true;
        let letters = self.letters.take(letters)?;
        Ok((!letters.after.is_empty()).then_some(letters))
    }

    /// Returns those of some letters whose records no later run reads again if these positions are stored.
    pub fn passed(&self, letters: &RecordBatch, to: &Evaluation) -> Result<RecordBatch> {
        let offsets = letters.column(dead::column::OFFSET).as_primitive::<Int64Type>();
        let [topic_of, partition_of] =
            [dead::column::SOURCE_TOPIC, dead::column::PARTITION].map(|at| names_in(letters.column(at)));
        let is_passed = |row: usize| match (&self.form, self.known.mark()) {
            (FeedForm::Bytes, mark) => mark.is_none_or(|mark| offsets.value(row) <= mark.last_letter),
            (FeedForm::Records, _) if !self.has_other_partitions() => {
                let key = PartitionKey::new(self.number(), topic_of(row), partition_of(row));
                to.positions.get(&key).is_some_and(|position| offsets.value(row) < position.next)
            }
            // Their letters are durable before the positions are stored.
            _ => false,
        };
        let keep = (0..letters.num_rows()).map(|row| Some(is_passed(row)));
        Ok(filter_record_batch(letters, &keep.collect())?)
    }

    /// Ends the feed. Returns whether all letters must be durable before the state is stored. What a stopped run has
    /// not read yet holds the clock: the next run reads it.
    pub fn end(
        &mut self,
        source: &mut source::Source,
        how: EndReason,
        to: &mut Evaluation,
        now: Duration,
    ) -> Result<bool> {
        let mut settles = self.is_topic() && self.end_topic(source, to)?;
        if let Some((mark, written)) = self.known.mark_mut().zip(self.letters.written()) {
            mark.last_letter = written;
            settles = true;
        }
        if how == EndReason::Exhausted {
            to.clock.withdraw(&self.whole.key);
            for key in to.clock.of_input(self.number()) {
                to.clock.read(key, ReadState::Ended, now);
            }
            if let KnownRows::Store(stored) = &mut self.known {
                stored.end(source.kind(), self.topics.input, &mut to.positions);
            }
        }
        Ok(settles)
    }

    /// Takes a batch; returns its rows by outcome, and those that the rules could not evaluate. Errors: exit status 2
    /// if rules know no rows of this kind.
    pub fn take(
        &mut self,
        batch: RecordBatch,
        to: &mut Evaluation,
        context: &FeedRun,
    ) -> Result<(Counts, Vec<FaultyRow>)> {
        let faulty = match self.kind {
            Kind::Event => self.events(batch, to, context.range)?,
            _ => self.others(batch, to, context)?,
        };
        let counts = std::mem::take(&mut self.rows.counts);
        self.rows.taken += counts.taken;
        Ok((counts, faulty))
    }

    fn events(&mut self, batch: RecordBatch, to: &mut Evaluation, range: Span) -> Result<Vec<FaultyRow>> {
        // The first rows may come before the source has named all partitions: until then the input holds the clock.
        if self.has_partitions {
            to.clock.withdraw(&self.whole.key);
        }
        let is_new = self.known.new_events(&batch);
        let batch = self.keep(batch, is_new)?;
        if batch.num_rows() == 0 {
            return Ok(vec![]);
        }
        let offsets = batch.column(column::OFFSET).as_primitive::<Int64Type>().values();
        let mut stream_times = instants(&batch, column::STREAM_TIME).to_vec();
        let names = PartitionColumns::new(&batch);
        let codes: Vec<_> = names.codes().collect();
        let mut repeats = vec![];
        let mut partitions: BTreeMap<(usize, usize), (usize, usize)> = BTreeMap::new();
        for (row, code) in codes.iter().enumerate() {
            partitions.entry(*code).and_modify(|(_, last)| *last = row).or_insert((row, row));
        }
        for (code, (first, last)) in partitions {
            let PartitionName { origin, partition } = names.name(code);
            let key = PartitionKey::new(self.number(), origin, partition);
            // A store returns the rows of a partition in another order than that in which they came.
            let known = to.clock.stream_time(&key).filter(|_| self.form != FeedForm::Store);
            let (mut least, mut greatest) = (i64::MAX, i64::MIN);
            for row in first..=last {
                if codes[row] == code {
                    stream_times[row] = known.map_or(stream_times[row], |known| known.max(stream_times[row]));
                    (least, greatest) = (least.min(stream_times[row]), greatest.max(stream_times[row]));
                }
            }
            let is_cut = self.is_topic() && offsets[first] > 0;
            let after = self.known.after(Kind::Event, Some(&key));
            if let Some(after) = after.filter(|after| least <= *after) {
                repeats.resize(codes.len(), false);
                let rows = (first..=last).filter(|row| codes[*row] == code);
                rows.for_each(|row| repeats[row] = stream_times[row] <= after);
            }
            let least = self.first_counted(least, after);
            let stream_time = to.clock.rows(key.clone(), least, greatest, is_cut);
            if self.form == FeedForm::Records {
                let key = self.topics.key_of_rows(key);
                let (next, known) = (offsets[last] + 1, to.positions.get(&key));
                let topic_id = known.and_then(|known| known.topic_id);
                to.positions.insert(key, RowPosition { next, stream_time: Some(stream_time), topic_id });
            }
        }
        let event_times = instants(&batch, column::EVENT_TIME);
        let (kind, stream_times) = (Kind::Event, &stream_times);
        let rows = TimedRows { kind, batch: &batch, event_times, stream_times, repeats: &repeats };
        self.add(&rows, &mut to.engine, range)
    }

    /// Returns the first instant (µs) of rows that count, of rows that begin at `first`; an earlier run may have read
    /// those up to `after`.
    fn first_counted(&mut self, first: i64, after: Option<i64>) -> i64 {
        let Some(after) = after.filter(|after| first <= *after) else { return first };
        self.rows.repeats.up_to = self.rows.repeats.up_to.max(after);
        after.saturating_add(1)
    }

    /// Returns how far partitions were read, by their keys in the state.
    pub fn partitions(&self, clock: &AlertClock) -> PartitionTimes {
        let mut read = PartitionTimes::new();
        for key in clock.of_input(self.number()) {
            let Some(stream_time) = clock.stream_time(&key) else { continue };
            let partition = self.known.partition(Some(&key).filter(|key| **key != self.whole.key));
            read.entry(partition).and_modify(|known| *known = stream_time.max(*known)).or_insert(stream_time);
        }
        read
    }

    /// Returns the rows of a batch that are new; the others are repeats.
    fn keep(&mut self, batch: RecordBatch, is_new: Option<Vec<bool>>) -> Result<RecordBatch> {
        let Some(is_new) = is_new else { return Ok(batch) };
        let known = is_new.iter().filter(|is_new| !**is_new).count() as u64;
        self.rows.counts.add(&Counts { taken: known, duplicate: known, ..Counts::default() });
        Ok(if known == 0 { batch } else { filter_record_batch(&batch, &is_new.into())? })
    }

    /// Takes rows without stamps: the whole input is one partition. Errors: exit status 2 if the rules know no rows of
    /// this kind.
    fn others(&mut self, batch: RecordBatch, to: &mut Evaluation, context: &FeedRun) -> Result<Vec<FaultyRow>> {
        let (kind, name) = (self.kind, self.name.clone());
        if self.form == FeedForm::Bytes {
            check_final(batch.schema_ref(), &name)?;
        }
        let Some(time) = time_columns(kind).and_then(<[_]>::first) else {
            return Err(Error::usage(format!("{name}: expected rows of kind event, dead or metric, found {kind}")));
        };
        let times = |batch: &RecordBatch| -> Result<Vec<i64>> {
            let times = array::<TimestampMicrosecondArray>(batch, time);
            Ok(times.ok_or_else(|| Error::corrupt(format!("{name}: no {time}")))?.values().to_vec())
        };
        let is_new = self.known.new_others(kind, &times(&batch)?, context.latest);
        let batch = self.keep(batch, is_new)?;
        let is_stored = self.form == FeedForm::Store;
        let rows = UnstampedRows { name: &name, kind, is_stored, batch: &batch, column: time, times: &times(&batch)? };
        let left_out = self.whole.left_out.rows(&rows, context.latest, &context.run.console)?;
        let count = left_out.iter().filter(|is_left_out| **is_left_out).count() as u64;
        self.rows.counts.add(&Counts { taken: count, filtered: count, ..Counts::default() });
        let batch = &match count {
            0 => batch,
            _ => filter_record_batch(&batch, &arrow::compute::not(&left_out.into())?)?,
        };
        if batch.num_rows() == 0 {
            return Ok(vec![]);
        }
        let times = times(batch)?;
        if !std::mem::replace(&mut self.whole.is_only, true) {
            for key in to.clock.of_input(self.number()) {
                to.clock.withdraw(&key);
            }
        }
        let mut latest = to.clock.stream_time(&self.whole.key).unwrap_or(i64::MIN);
        let mut stream_times = Vec::with_capacity(times.len());
        for time in &times {
            latest = latest.max(*time);
            stream_times.push(latest);
        }
        let after = self.known.after(kind, None);
        if let (Some(first), Some(last)) = (stream_times.first(), stream_times.last()) {
            let first = self.first_counted(*first, after);
            to.clock.rows(self.whole.key.clone(), first, *last, false);
        }
        let repeats = after.map(|after| stream_times.iter().map(|time| *time <= after).collect::<Vec<_>>());
        let (event_times, stream_times, repeats) = (&times, &stream_times, &repeats.unwrap_or_default());
        let rows = TimedRows { kind, batch, event_times, stream_times, repeats };
        self.add(&rows, &mut to.engine, context.range)
    }

    /// Adds the rows of the range to the engine, and those before it that make groups known.
    fn add(&mut self, rows: &TimedRows<'_>, engine: &mut AlertEngine, range: Span) -> Result<Vec<FaultyRow>> {
        let (kind, event_times) = (rows.kind, rows.event_times);
        let keep: Vec<bool> = event_times.iter().map(|time| range.contains(*time)).collect();
        if !keep.contains(&false) {
            return self.evaluate(rows, engine);
        }
        let before = Span { since: engine.known_from(kind), until: range.since };
        if before.since.is_some() {
            let is_before = event_times.iter().map(|time| before.contains(*time));
            engine.add_before(&SelectedRows::new(rows, is_before.collect())?.timed(kind))?;
        }
        let filtered = keep.iter().filter(|keep| !**keep).count() as u64;
        self.rows.counts.add(&Counts { taken: filtered, filtered, ..Counts::default() });
        self.evaluate(&SelectedRows::new(rows, keep)?.timed(kind), engine)
    }

    fn evaluate(&mut self, rows: &TimedRows<'_>, engine: &mut AlertEngine) -> Result<Vec<FaultyRow>> {
        let (taken, batch) = (engine.add(rows)?, rows.batch);
        self.rows.repeats.count += taken.repeated;
        let faulty = taken.wrong.iter().map(|(row, message)| FaultyRow {
            batch: batch.clone(),
            row: *row,
            fault: Fault::new(ErrorType::AggregationError, message),
        });
        let faulty = faulty.collect();
        let (out, late, filtered, dead) = (taken.counted, taken.late, taken.filtered, taken.wrong.len() as u64);
        self.rows.counts.add(&Counts {
            taken: batch.num_rows() as u64,
            out,
            late,
            filtered,
            dead,
            ..Counts::default()
        });
        Ok(faulty)
    }
}
