//! The inputs of a stage, one after another, as one stream of items with a proven end.
//!
//! ```text
//! URIs ─► open ─► Box<dyn Input> ─step─► RecordEmitter ─► queue ─► Source::poll ─► stage
//! ```
//!
//! An input is opened when the one before it has ended. Inputs with `--follow` never end: they are all open and take
//! turns. [`Source::poll`] does not wait for input; [`Source::wait`] does. Consumer groups and spools commit positions.
//!
//! `open.rs` opens inputs by `options.rs`, `inputs.rs` has those that are open, `objects.rs` finds those of buckets;
//! `polled.rs` is the result of a poll. `positions/` are those of a checkpoint; `partitions.rs`, `origin.rs` check the
//! inputs; `bounded.rs` knows which end; `ahead.rs` reads stores on several threads, and `sort.rs` sorts their rows.

use crate::uri::Uri;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bounded::KnownEnd;
use evt_core::counts::{Counts, DoneRecords};
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::frame::{Control, End, EndReason, WATERMARK_KEY};
use evt_core::kind::shadow::Shadows;
use evt_core::kind::{DIMENSIONS_KEY, Kind};
use evt_core::mapping::{self, Rest};
use evt_core::op::computed::RowRules;
use evt_core::op::window::watermark::ContinuedTopic;
use evt_kafka::range::ReadMode;
use evt_run::emit::{ByteProgress, Item, PendingInputs, QueuedItem, RecordEmitter};
use evt_run::input::follow::watch::POLL_INTERVAL;
use evt_run::input::spool::Shutdown;
use evt_run::input::{EndProof, Input, InputEnd, Lag, ReadPosition, Step, UnreadPartition};
use evt_run::run::Run;
use evt_run::spool::SpoolReader;
use inputs::{NumberedInput, OpenInputs};
use open::Opener;
pub use options::{
    InputOptions, ListenerOptions, PartitionNames, SortColumns, SourceOptions, StoreOptions, StoreOrder, ToolNeeds,
    UnreadableReports,
};
pub use origin::check_unopened;
use partitions::ReportedPartitions;
pub use polled::Polled;
use positions::Positions;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

mod ahead;
mod bounded;
mod inputs;
pub mod objects;
mod open;
mod options;
mod origin;
mod partitions;
mod polled;
pub mod positions;
mod sort;

/// All inputs of a stage.
pub struct Source {
    run: Rc<Run>,
    /// The requirements of the tool on its source, beside the rows.
    needs: ToolNeeds,
    /// `--control`.
    has_control: bool,
    opener: Opener,
    /// Inputs that are not open yet, with their numbers on the command line.
    pending: VecDeque<(u32, Uri)>,
    inputs: OpenInputs,
    /// The number of successive inputs that had nothing to read.
    idle_turns: usize,
    /// The monotonic time since which nothing could be read.
    idle_since: Option<Duration>,
    /// The partitions that the inputs have reported.
    reported: ReportedPartitions,
    emitter: RecordEmitter,
    /// Detects properties that have the name of a column in an expression.
    shadows: Shadows,
    /// The positions of the inputs in a checkpoint; `None` without one.
    positions: Option<Positions>,
    /// Whether the schema of the rows is in the checkpoint.
    is_continued: bool,
    /// Whether all rows are of one stream, whose schema says what they have in common.
    is_one_stream: bool,
    /// The error of an input, returned after the items before it.
    failure: Option<Error>,
    /// The ends of the inputs so far: whether one was stopped, the weakest proof and the worst exit status.
    end: InputEnd,
}

impl Source {
    /// Opens the inputs as far as their order allows.
    pub fn open(inputs: &[Uri], mut options: SourceOptions, run: Rc<Run>) -> Result<Self> {
        let named_kind = options.records.kind;
        let inputs = &options.prepare(&objects::find(inputs, options.positions.as_ref())?)?;
        let SourceOptions { records, inputs: opening, range, needs, positions, opened, generated } = options;
        let shadows = Shadows::new(records.rules.as_ref().map_or(0, RowRules::columns));
        let has_control = records.control;
        let mut emitter = RecordEmitter::new(run.clone(), records)?;
        let is_continued = positions.as_ref().is_some_and(|positions| positions.begin_run(&mut emitter));
        if opening.files.follow {
            emitter.use_one_thread();
            emitter.stamp_mut().release_letters();
        }
        let mut source = Self {
            opener: Opener::new(inputs, opening, opened, run.clone())?,
            run,
            needs,
            has_control,
            pending: (0..).zip(inputs.iter().cloned()).collect(),
            inputs: OpenInputs::default(),
            idle_turns: 0,
            idle_since: None,
            reported: ReportedPartitions::default(),
            emitter,
            shadows,
            positions,
            is_continued,
            is_one_stream: matches!(&inputs[..], [input] if !matches!(input, Uri::Kafka(_))),
            failure: None,
            end: InputEnd { how: EndReason::Exhausted, proof: EndProof::Proven, verdict: 0 },
        };
        if source.needs.writes_letters {
            source.emitter.stamp_mut().set_writes_letters();
        }
        if source.opener.known_end == KnownEnd::All && !source.needs.keeps_state {
            source.emitter.stamp_mut().seek_time();
        }
        source.opener.known_end.limit(range, source.emitter.stamp_mut());
        source.opener.options.names.check_topics(inputs)?;
        origin::check(inputs, &source.opener.options, named_kind, &source.run)?;
        source.opener.announce(inputs, &mut source.emitter)?;
        generated.into_iter().for_each(|input| source.inputs.add(0, input));
        // All inputs exist, so the service is ready; the first record may follow hours later. A server and a topic that
        // is read from its end say it themselves.
        if !inputs.iter().any(Uri::begins_when_open) {
            source.run.service.ready();
        }
        source.open_next()?;
        while source.opener.options.files.follow && !source.pending.is_empty() {
            source.open_next()?;
        }
        source.turn_to_first();
        Ok(source)
    }

    /// Makes a source that reads only the requests in a spool; calls `shutdown` at a signal.
    pub fn of_spool(reader: SpoolReader, shutdown: Shutdown, mut options: SourceOptions, run: Rc<Run>) -> Result<Self> {
        options.inputs.files.raw_only = true;
        let mut source = Self::open(&[], options, run)?;
        let input = source.opener.spool(reader, shutdown, &mut source.emitter);
        source.inputs.add(0, input);
        source.turn_to_first();
        Ok(source)
    }

    /// Returns whether inputs wait to be opened, and whether all partitions are known already. The partitions in the
    /// frames of a topic are known only when the topic is read.
    fn rest(&self) -> PendingInputs {
        let is_named = !self.emitter.stamp().maps_partition() || self.opener.options.names.partitions.is_some();
        let complete = is_named && !self.opener.has_framed_topics();
        PendingInputs { pending: !self.pending.is_empty(), complete }
    }

    /// Opens the next input.
    fn open_next(&mut self) -> Result<()> {
        let Some((number, uri)) = self.pending.pop_front() else { return Ok(()) };
        let rest = self.rest();
        self.emitter.turn_to(number, ByteProgress::default(), rest);
        if let Some(positions) = &mut self.positions {
            let origin = self.opener.options.names.origin_of(&uri);
            self.opener.position = positions.begin(&uri, number, &origin, &mut self.emitter, &self.run)?;
        }
        let input = self.opener.open(&uri, self.pending.is_empty(), &mut self.emitter)?;
        if let Some(positions) = &mut self.positions {
            positions.keep_starts(&uri, number, &*input, &mut self.emitter)?;
        }
        self.inputs.add(number, input);
        Ok(())
    }

    /// Returns the schema of the batches. It is final if [`Source::has_schema`], or after the first batch.
    pub fn schema(&self) -> SchemaRef {
        let schema = self.emitter.schema();
        let has_dimensions = schema.metadata().contains_key(DIMENSIONS_KEY);
        if !self.has_control && (self.is_one_stream || !has_dimensions) {
            return schema;
        }
        let mut schema = Schema::clone(&schema);
        if self.has_control {
            schema.metadata.insert(WATERMARK_KEY.to_owned(), "explicit".to_owned());
        }
        if !self.is_one_stream {
            // The rows of the other inputs may have other dimensions.
            schema.metadata.remove(DIMENSIONS_KEY);
        }
        Arc::new(schema)
    }

    /// Whether the schema is known before the first rows.
    pub fn has_schema(&self) -> bool {
        self.emitter.has_schema() || self.is_continued
    }

    /// Returns the kind of the rows. It is final once the schema is.
    pub fn kind(&self) -> Kind {
        Kind::of(&self.schema()).unwrap_or(Kind::Event)
    }

    /// Whether every input ends by itself. It is final once the schema is.
    pub fn is_bounded(&self) -> bool {
        self.opener.known_end.is_bounded(&self.emitter.schema())
    }

    /// Whether the rows may continue those of earlier runs: they come from a stage whose inputs did not begin at their
    /// beginning. It is final once the schema is.
    pub fn continues_pipe(&self) -> bool {
        self.has_schema() && !self.is_bounded()
    }

    /// Whether watermarks come only from control lines or control frames.
    pub fn is_explicit(&self) -> bool {
        self.schema().metadata().contains_key(WATERMARK_KEY)
    }

    /// Returns the mode in which the tool reads topics.
    pub fn read_mode(&self) -> ReadMode {
        self.opener.options.topics.read_mode
    }

    /// Returns the weakest proof of an end so far.
    pub fn proof(&self) -> EndProof {
        self.end.proof
    }

    /// Whether every input has ended.
    pub fn has_ended(&self) -> bool {
        self.inputs.running_count() == 0 && self.pending.is_empty()
    }

    /// Whether there is one input.
    pub fn is_single(&self) -> bool {
        self.pending.len() + self.inputs.all().count() <= 1
    }

    /// Returns the counts of records read, by outcome within the source.
    pub fn counts(&self) -> Counts {
        self.emitter.counts()
    }

    /// Returns the defaults that the mapping used.
    pub fn defaults(&self) -> mapping::Defaults {
        self.emitter.defaults()
    }

    /// Whether a flag maps the partition or the origin of records.
    pub fn maps_partition(&self) -> bool {
        self.emitter.stamp().maps_partition()
    }

    /// Returns the names of the fields of all records, if the first input declares them.
    pub fn declared(&self) -> Option<&[String]> {
        self.emitter.declared()
    }

    /// Returns warnings about all records: names in the rules of the source that had no value, and ambiguous times,
    /// records without ids.
    pub fn warnings(&self) -> Vec<String> {
        self.emitter.warnings(self.needs.finds_repeats)
    }

    /// Sets the columns that expressions and `--columns` name, as bits: a property with such a name causes a warning.
    pub fn set_named(&mut self, columns: u32) {
        self.shadows = Shadows::new(columns);
    }

    /// Warns of properties in a batch that have the name of a column in an expression.
    pub fn warn_of_shadows(&mut self, batch: &RecordBatch) {
        let found = self.shadows.found(batch) | self.emitter.facts().shadowed;
        self.shadows.warnings(found).for_each(|warning| self.run.console.say(warning));
    }

    /// Whether two inputs reported the same partition. In one stream of both, the partition's stream time goes back.
    pub fn repeats_partitions(&self) -> bool {
        self.reported.is_repeated()
    }

    /// Returns the next item, or does one step of reading. Does not block. The end is the last item.
    pub fn poll(&mut self) -> Result<Polled> {
        if let Some(sent) = self.emitter.pop() {
            return Ok(self.take(sent).map_or(Polled::Progress, Polled::Item));
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.has_ended() {
            let end = End { how: self.end.how, rows: 0, verdict: self.end.verdict };
            return Ok(Polled::Item(QueuedItem { input: 0, item: Item::End(end) }));
        }
        self.step().or_else(|error| {
            let salvages = self.needs.salvage && matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io);
            if salvages {
                self.emitter.release(|held| held.judge_all(Rest::None))?;
            }
            self.emitter.end(salvages)?;
            self.failure = Some(error);
            Ok(Polled::Progress)
        })
    }

    /// Releases records that `--max-future` has held since before `before` (µs) for the rows that follow them.
    pub fn release_waited(&mut self, before: i64) -> Result<()> {
        self.emitter.release(|held| held.judge_waited(before))
    }

    /// Queues the rows that were read so far. Returns how far the partitions of the current input, or of the last one,
    /// are read, and the number of items after which the stage has every row before these positions.
    pub fn reached(&mut self, stores: bool) -> Result<(u64, Vec<ReadPosition>)> {
        if stores { self.emitter.drain_named() } else { Ok(()) }?;
        self.emitter.flush()?;
        let (emitter, last) = (&mut self.emitter, self.inputs.last_mut());
        let reached = last.map_or(Ok(vec![]), |last| last.input.reached_now(stores, emitter))?;
        Ok((emitter.stamp().queue().queued(), reached))
    }

    /// Whether every input has been read to its present end. Call it when there is nothing to read: every input but a
    /// topic is at its end then, and the brokers of a topic may not have answered yet.
    pub fn has_caught_up(&mut self) -> bool {
        let Self { inputs, emitter, .. } = self;
        let is_at_end = |one: &ReadPosition| one.is_at_end && one.confirmed.is_some();
        self.pending.is_empty() && inputs.running().all(|one| one.input.reached(emitter).iter().all(is_at_end))
    }

    /// Returns the number of items that the stage has taken.
    pub fn taken(&self) -> u64 {
        self.emitter.stamp().queue().taken()
    }

    /// Whether the stage has not taken every item.
    fn is_queued(&self) -> bool {
        self.emitter.stamp().queue().queued() > self.emitter.stamp().queue().taken()
    }

    /// Whether the rows of the current input carry partitions of their own, as frames do.
    pub fn reports_partitions(&self) -> bool {
        self.inputs.current().is_some_and(|one| one.input.reports_partitions())
    }

    /// Whether the stage has not taken all rows that were read. Records that wait for later ones (`--max-future`) are
    /// no rows yet.
    pub fn holds_rows(&self) -> bool {
        self.is_queued() || self.emitter.has_rows()
    }

    /// Waits until an input may have something to read, a signal arrives, or `timeout` has passed.
    pub fn wait(&mut self, timeout: Duration) -> Result<()> {
        match self.inputs.running_mut() {
            [] => Ok(()),
            [one] => one.input.wait(timeout),
            _ => self.run.stop.sleep(timeout.min(POLL_INTERVAL)).map(|_| ()),
        }
    }

    /// Returns the item for the stage; `None` for a watermark of an input that is not the last one, because it does not
    /// apply to the other inputs.
    fn take(&mut self, sent: QueuedItem) -> Option<QueuedItem> {
        match &sent.item {
            Item::Batch(batch) => self.warn_of_shadows(batch),
            Item::Control(Control::Progress(progress)) => self.reported.learn(&progress.partitions),
            Item::Control(Control::Watermark(_)) if !self.pending.is_empty() || self.inputs.running_count() > 1 => {
                return None;
            }
            Item::Control(_) | Item::Dead(_) | Item::Idle | Item::End(_) => {}
        }
        Some(sent)
    }

    /// Opens the next input, or does one step of the current one.
    fn step(&mut self) -> Result<Polled> {
        let Some(NumberedInput { input, .. }) = self.inputs.current_mut() else {
            self.open_next()?;
            self.turn_to_first();
            return Ok(Polled::Progress);
        };
        if let Some(positions) = self.positions.as_mut().filter(|_| input.takes_turns()) {
            // Before the first record of a followed name is read.
            positions.keep_begun()?;
        }
        self.emitter.set_reach(input.reach());
        let step = input.step(&mut self.emitter)?;
        let noted = input.note(&mut self.emitter)?;
        let (is_live, takes_turns) = (input.is_live(), input.takes_turns());
        if matches!(step, Step::More | Step::Idle) && !input.reports_partitions() {
            self.emitter.report_progress(input.progress());
        }
        match step {
            Step::Opened(opened) => self.begin(opened)?,
            Step::Idle if !noted => return self.idle(),
            Step::More | Step::Idle => {
                if let Step::More = step {
                    (self.idle_turns, self.idle_since) = (0, None);
                }
                if is_live {
                    self.emitter.flush_due()?;
                }
                if noted {
                    // The stage commits once it has taken all items before this one.
                    self.emitter.stamp_mut().idle();
                }
                if takes_turns {
                    self.turn()?;
                }
            }
            Step::End => self.end_input()?,
            Step::Stopped => self.stop()?,
        }
        Ok(Polled::Progress)
    }

    /// Makes an opened input the current one. A followed name notes its first file, and the next input is opened before
    /// it is read, so that the files of all names are kept at once.
    fn begin(&mut self, opened: Box<dyn Input>) -> Result<()> {
        let Some(NumberedInput { number, input }) = self.inputs.current_mut() else { return Ok(()) };
        *input = opened;
        let Some(positions) = self.positions.as_mut().filter(|_| input.takes_turns()) else { return Ok(()) };
        positions.note_first(*number, input.as_mut())?;
        self.turn()
    }

    /// Handles an input with nothing to read: turns to the next input. If no input has anything to read, queues rows
    /// that have waited for [`Run::LINGER`], and an idle item.
    fn idle(&mut self) -> Result<Polled> {
        if self.emitter.finish_tasks()? {
            return Ok(Polled::Progress);
        }
        self.idle_turns += 1;
        if self.idle_turns < self.inputs.running_count() {
            self.turn()?;
            return Ok(Polled::Progress);
        }
        self.idle_turns = 0;
        self.turn()?;
        let now = self.run.clock.monotonic();
        let since = *self.idle_since.get_or_insert(now);
        let due = match self.emitter.waited(now) {
            Some(waited) => Run::LINGER.saturating_sub(waited),
            None => Run::TICK.saturating_sub(now.saturating_sub(since)),
        };
        if !due.is_zero() {
            return Ok(Polled::Waiting(due));
        }
        self.idle_since = Some(now);
        self.emitter.flush_idle()?;
        self.emitter.stamp_mut().idle();
        Ok(Polled::Progress)
    }

    /// Makes the input that has waited longest the current one.
    fn turn(&mut self) -> Result<()> {
        if self.inputs.running_count() > 1 {
            // A batch has rows of one input only.
            self.emitter.flush()?;
            self.inputs.turn();
            self.turn_to_first();
        }
        Ok(())
    }

    /// Passes the number and the progress of the current input to the emitter.
    fn turn_to_first(&mut self) {
        let rest = self.rest();
        if let Some(NumberedInput { number, input }) = self.inputs.current() {
            self.emitter.turn_to(*number, input.progress(), rest);
        }
    }

    /// Ends the current input and its partitions.
    fn end_input(&mut self) -> Result<()> {
        let Some(NumberedInput { input, .. }) = self.inputs.current() else { return Ok(()) };
        self.end.add(input.end());
        let (ends_partitions, bytes) = (input.ends_partitions(), input.progress());
        self.emitter.stamp_mut().end_first_records()?;
        self.emitter.release(|held| held.judge_all(Rest::None))?;
        // If nobody notes where this input ends, a file may be read before the rows of this one are queued.
        let is_followed_by_file = matches!(self.pending.front(), Some((_, Uri::File(_) | Uri::Bucket(_))));
        let is_noted = self.positions.is_some() || self.needs.keeps_state || self.inputs.running_count() > 1;
        if is_followed_by_file && !is_noted && ends_partitions && self.emitter.end_input_later(bytes)? {
            self.inputs.end_current();
            return Ok(());
        }
        self.emitter.flush()?;
        if let Some(positions) = &mut self.positions {
            self.end.verdict = self.end.verdict.max(positions.end(&mut self.emitter, true)?);
        }
        let is_more = self.inputs.end_current() || !self.pending.is_empty();
        if ends_partitions {
            self.emitter.stamp_mut().end_input(bytes, !is_more);
        }
        self.turn_to_first();
        Ok(())
    }

    /// Ends all inputs at a signal.
    fn stop(&mut self) -> Result<()> {
        self.emitter.stamp_mut().release_letters();
        let rest = self.rest();
        for NumberedInput { number, input } in self.inputs.running_mut() {
            self.emitter.flush()?;
            self.emitter.stamp_mut().turn_to(*number, input.progress(), rest);
            input.stop(&mut self.emitter)?;
        }
        self.emitter.release(|held| held.judge_all(Rest::None))?;
        self.emitter.flush()?;
        self.end.how = EndReason::Stopped;
        if let Some(positions) = &mut self.positions {
            self.end.verdict = self.end.verdict.max(positions.end(&mut self.emitter, false)?);
        }
        self.pending.clear();
        while let Some(stopped) = self.inputs.current() {
            self.end.verdict = self.end.verdict.max(stopped.input.end().verdict);
            self.inputs.end_current();
        }
        Ok(())
    }

    /// Whether the current input has noted positions and the stage has taken every row and letter before them. The
    /// stage then makes its outputs durable and calls [`Source::commit`].
    pub fn can_commit(&self) -> bool {
        let noted = self.inputs.current().is_some_and(|current| current.input.has_noted());
        noted && !self.is_queued() && !self.emitter.has_letters()
    }

    /// Commits the noted positions. Call it only after the outputs have made every row before them durable.
    pub fn commit(&mut self) -> Result<()> {
        let Some(NumberedInput { input, .. }) = self.inputs.current_mut() else { return Ok(()) };
        input.commit(&mut self.emitter)
    }

    /// Commits the last positions of all inputs. Call it only after the outputs have ended and are durable.
    pub fn commit_end(&mut self) -> Result<()> {
        self.inputs.all_mut().try_for_each(|one| one.input.commit_end(&mut self.emitter))
    }

    /// Whether the stage has taken exactly the records before [`Source::positions`], so that an epoch may end here.
    ///
    /// The incomplete batch of a file stays as it is: batches, and so the panes of windows, do not depend on the time
    /// at which epochs end. The incomplete batch of a live input, such as a topic, is queued now, because its batches
    /// depend on time anyway.
    pub fn can_end_epoch(&mut self) -> Result<bool> {
        if self.inputs.current().is_some_and(|current| current.input.is_live()) {
            // A restart reads held records of topics again, because the positions are before them. Held records of
            // followed names are released now, because a restart does not read them again.
            if self.opener.options.files.follow {
                self.emitter.release(|held| held.judge_waited(i64::MAX))?;
            }
            self.emitter.flush()?;
            return Ok(!self.is_queued());
        }
        Ok(!self.is_queued() && self.emitter.stamp().is_exact())
    }

    /// Returns the positions of the inputs for a checkpoint, and notes them for groups. The stage has taken every row
    /// before them.
    pub fn positions(&mut self) -> Result<Vec<u8>> {
        let Some(positions) = &mut self.positions else { return Ok(vec![]) };
        for NumberedInput { number, input } in self.inputs.all_mut() {
            input.note_epoch(&mut self.emitter);
            positions.note(*number, &mut **input, &mut self.emitter)?;
        }
        positions.to_part(&mut self.emitter)
    }

    /// Returns the inputs whose topics this run continues.
    pub fn continued_topics(&self) -> &[ContinuedTopic] {
        self.positions.as_ref().map_or(&[], Positions::continued_topics)
    }

    /// Returns the live partitions of which the stage does not have all rows up to now.
    pub fn unread(&self) -> Vec<UnreadPartition> {
        let open = self.inputs.running().map(|one| (one.number, one.input.as_ref()));
        partitions::unread(self.pending.iter().map(|(number, _)| *number), open, self.emitter.stamp().maps_partition())
    }

    /// Returns the lag of each partition of the topics; `now` is the current time (µs).
    pub fn lag(&self, now: i64) -> Vec<Lag> {
        self.inputs.all().flat_map(|one| one.input.lag(now)).collect()
    }

    /// Reports records that were acknowledged to clients and are lost because the run fails before the outputs have
    /// them.
    pub fn report_lost(&mut self, done: Option<DoneRecords>) {
        self.inputs.all_mut().for_each(|one| one.input.report_lost(done));
    }
}

#[cfg(test)]
mod spool_tests;
#[cfg(test)]
mod tests;
