//! A stage: a source, the dead letters, the outputs and the counts of one tool, from opening to the proven end.
//!
//! [`Stage::open`], then [`Stage::begin`] with the schema of the rows written, [`Stage::read`] until the end,
//! [`Stage::finish`].

use super::args::{CommonArgs, StageArgs};
pub use super::look::{FRAMES, Usual, check_outputs, check_side};
use super::look::{Looked, alone, brings_headers, check_ends, look, offsets, promise};
use super::progress::ProgressLine;
use super::summary::Summary;
use crate::clock::Clock;
use crate::counts::{Counts, SinkCounts};
use crate::error::{Error, ErrorKind, Result};
use crate::format;
use crate::frame::{Control, End, PIPELINE_KEY, Progress, STAGES_KEY};
use crate::ingest::{Item, Sent};
use crate::kafka::produce::Bounced;
use crate::kind::Kind;
use crate::mapping::KeepRaw;
use crate::metrics;
use crate::output::dead_letters::{DeadLetters, Opening};
use crate::output::{Checked, Output, OutputReport, Refusal, given_up};
use crate::run::Run;
use crate::source::{Source, SourceOptions};
use crate::time::SECOND;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::datatypes::{Schema, SchemaRef};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Returns the schema that this stage writes: appends the stage's name to those before it.
pub fn stamped(schema: &SchemaRef, run: &Run) -> SchemaRef {
    let mut metadata: HashMap<String, String> = schema.metadata().clone();
    let stages = match metadata.get(STAGES_KEY) {
        Some(before) => format!("{before},{}", run.console.tool()),
        None => run.console.tool().to_owned(),
    };
    metadata.insert(STAGES_KEY.to_owned(), stages);
    metadata.entry(PIPELINE_KEY.to_owned()).or_insert_with(|| run.pipeline.clone());
    Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata))
}

/// The running stage.
pub struct Stage {
    run: Rc<Run>,
    common: CommonArgs,
    /// The source of rows.
    pub source: Source,
    /// The output of faulty records.
    pub dead: DeadLetters,
    /// Outputs until [`Stage::begin`].
    checked: Vec<Checked>,
    /// Outputs after it.
    outputs: Vec<Output>,
    schema: SchemaRef,
    /// Counts of the records read, by fate.
    pub counts: Counts,
    /// Whether the source's counts are the stage's.
    passes: bool,
    /// The progress line.
    pub progress: ProgressLine,
    /// Lines about lost rows, which `-q` keeps.
    warnings: Vec<String>,
    notes: Vec<String>,
    details: serde_json::Map<String, serde_json::Value>,
    refused: u64,
    /// Rows that outputs refused and whose dead letters could not be written, as far as no output has counted them.
    lost_rows: u64,
    stream_time: Option<i64>,
}

impl Stage {
    /// Checks all outputs, then opens the dead letters and the source and reads until the schema is known. So failures
    /// that need no input come before any wait for input, and a first record that is refused leaves no output behind.
    pub fn open(args: &StageArgs, options: SourceOptions, usual: Usual, run: &Rc<Run>) -> Result<Self> {
        Self::open_beside(None, args, options, usual, run)
    }

    /// Opens a stage for a tool with one more output, which it opens itself.
    pub fn open_beside(
        side: Option<&Checked>,
        args: &StageArgs,
        mut options: SourceOptions,
        usual: Usual,
        run: &Rc<Run>,
    ) -> Result<Self> {
        let common = args.common.clone();
        let looked = look(side, args, options.follow, usual, run).sound()?;
        check_ends(&options, &looked.inputs, looked.checked.iter().chain(&looked.dlq).chain(side))?;
        show(run, &looked.checked, looked.dlq.as_ref());
        // A spool stores requests while the servers behind it are unavailable, so it accepts them before the servers
        // are asked.
        let is_kept = options.keeping.spool.is_some();
        let Looked { inputs, checked, dlq, .. } = if is_kept { looked.without_limit() } else { looked.ask(run)? };
        if checked.iter().any(Checked::asks_raw) && options.mapping.keep_raw == KeepRaw::No {
            let alone = checked.iter().all(Checked::asks_raw);
            options.mapping.keep_raw = if alone { KeepRaw::Within } else { KeepRaw::Column };
            options.mapping.lean = options.mapping.lean.or(options.raw_lean.filter(|_| alone));
        }
        if options.shows_records && dlq.is_some() && options.mapping.keep_raw == KeepRaw::No {
            options.mapping.keep_raw = KeepRaw::Within;
        }
        options.mapping.headers = options.headers && brings_headers(&inputs, &checked, options.filter.is_some());
        options.offsets = offsets(checked.iter().chain(&dlq));
        options.promise = promise(&options, &inputs, checked.iter().chain(&dlq))?;
        let holds_letters = options.holds_letters;
        if let Some(door) = &mut options.http {
            let limits: Option<Vec<_>> = checked.iter().map(Checked::row_limit).collect();
            door.edge.limits = limits.unwrap_or_default();
        }
        let opening = dlq.map(|dlq| -> Opening {
            let run = run.clone();
            Box::new(move || dlq.open(&stamped(&Kind::Dead.schema(), &run), &run).map_err(alone))
        });
        let mut dead = DeadLetters::new(run.clone(), opening);
        let mut source = Source::open(&inputs, options, run.clone())?;
        if is_kept {
            dead.open().inspect_err(|_| source.report_lost())?;
        }
        if holds_letters {
            dead.hold();
        }
        let learned = if source.has_schema() { Ok(None) } else { look_ahead(&mut source, &mut dead) };
        if learned.as_ref().is_err_and(|error| error.kind() == ErrorKind::Usage) {
            dead.discard();
        }
        learned?;
        dead.open()?;
        // A progress line between rows on the same terminal would garble both.
        let shows_rows = checked.iter().any(Checked::is_terminal);
        Ok(Self {
            run: run.clone(),
            schema: source.schema(),
            source,
            dead,
            checked,
            outputs: vec![],
            counts: Counts::default(),
            passes: false,
            progress: ProgressLine::new(run, common.quiet || shows_rows),
            common,
            warnings: vec![],
            notes: vec![],
            details: serde_json::Map::new(),
            refused: 0,
            lost_rows: 0,
            stream_time: None,
        })
    }

    /// Refuses rows of another kind.
    ///
    /// Errors: exit status 2.
    pub fn expect(&self, kind: Kind, why: &str) -> Result<()> {
        match self.source.kind() {
            found if found == kind => Ok(()),
            found => Err(Error::usage(format!("{why}, these rows are of kind {}", found.name()))),
        }
    }

    /// Opens the outputs for rows of `schema`.
    pub fn begin(&mut self, schema: &SchemaRef) -> Result<()> {
        self.schema = stamped(schema, &self.run);
        let outcome = match self.source.counts().taken {
            0 => "nothing is written".to_owned(),
            rows => format!("none of the {rows} rows that were read is counted as written"),
        };
        for checked in self.checked.drain(..) {
            let name = checked.name().to_owned();
            let opened = checked.open(&self.schema, &self.run);
            self.outputs.push(opened.map_err(|error| given_up(error, &name, &outcome))?);
        }
        Ok(())
    }

    /// Passes all rows on unchanged; returns the exit status.
    pub fn pass(mut self) -> Result<u8> {
        self.passes = true;
        let end = self.pass_rows().inspect_err(|_| self.source.report_lost())?;
        self.counts = self.source.counts();
        self.finish(end, 0)
    }

    fn pass_rows(&mut self) -> Result<End> {
        self.begin(&self.source.schema())?;
        loop {
            match self.read()? {
                Item::Batch(batch) => self.write(&batch)?,
                Item::Control(control) => self.control(&control)?,
                Item::Dead(_) | Item::Idle => {}
                Item::End(end) => return Ok(end),
            }
        }
    }

    /// Reads the next item of the source. Before that, outputs do what is due by the clock.
    pub fn read(&mut self) -> Result<Item> {
        self.observe();
        self.outputs.iter_mut().try_for_each(Output::tick)?;
        self.take_bounced()?;
        self.dead.tick()?;
        if self.source.can_commit() {
            self.outputs.iter_mut().try_for_each(Output::settle)?;
            self.take_bounced()?;
            self.dead.settle()?;
            self.source.commit()?;
        }
        loop {
            match self.source.next_item()? {
                Item::Dead(letters) => self.dead.take(&letters)?,
                Item::Idle => {
                    self.dead.flush()?;
                    return Ok(Item::Idle);
                }
                item => {
                    if let Item::Batch(batch) = &item {
                        self.see_time(batch);
                    }
                    return Ok(item);
                }
            }
        }
    }

    /// Makes dead letters of rows that outputs took and their brokers refused later.
    fn take_bounced(&mut self) -> Result<()> {
        let bounced: Vec<Bounced> = self.outputs.iter_mut().flat_map(Output::bounced).collect();
        bounced.iter().try_for_each(|bounced| self.bounce(bounced))
    }

    /// Makes a dead letter of a row that brokers refused after an output took it.
    pub fn bounce(&mut self, bounced: &Bounced) -> Result<()> {
        self.refused += 1;
        self.dead.push_bounced(bounced)
    }

    /// Sets the metrics and tells the service manager, after each batch.
    fn observe(&mut self) {
        let run = &self.run;
        if run.stop.signal().is_some() {
            run.service.stopping();
        }
        run.service.status(|| self.live_counts().to_string());
        if run.metrics.is_on() {
            self.set_counts(&self.live_counts());
            self.set_rows();
            self.set_lag();
        }
    }

    fn set_lag(&self) {
        let lags = self.source.lag(Clock::System.now());
        let lags = lags.iter().map(|lag| (lag.topic.as_str(), lag.partition, lag.records, lag.seconds));
        self.run.metrics.set_consumer_lag(lags);
    }

    fn set_rows(&self) {
        for output in &self.outputs {
            match output.fates() {
                Some(mut counts) => {
                    if !self.dead.is_written() {
                        counts.dropped += std::mem::take(&mut counts.dead);
                    }
                    self.set_fates(output.name(), &counts);
                }
                None => self.run.metrics.set(&metrics::SINK_ROWS, &[output.name(), "written"], output.rows() as f64),
            }
        }
    }

    fn set_fates(&self, output: &str, counts: &SinkCounts) {
        for (outcome, rows) in counts.outcomes() {
            self.run.metrics.set(&metrics::SINK_ROWS, &[output, outcome], rows as f64);
        }
    }

    /// Returns the fates so far. Until the end, records that were lost before they became rows are counted separately.
    fn live_counts(&self) -> Counts {
        let of_source = self.source.counts();
        let mut counts = if self.passes { of_source } else { self.counts };
        if !self.passes {
            counts.add_lost(&of_source);
        }
        self.fates(counts)
    }

    /// The same where letters that are not written are dropped.
    fn fates(&self, mut counts: Counts) -> Counts {
        if !self.dead.is_written() {
            counts.dropped += std::mem::take(&mut counts.dead);
        }
        counts
    }

    fn set_counts(&self, counts: &Counts) {
        let metrics = &self.run.metrics;
        for (outcome, records) in counts.outcomes() {
            metrics.set(&metrics::EVENTS, &[self.run.console.tool(), outcome], records as f64);
        }
        for (error_type, letters) in self.dead.by_type() {
            metrics.set(&metrics::DEAD_LETTERS, &[error_type.name()], *letters as f64);
        }
    }

    /// Records the stream time of a batch's last row, which is the largest of its partition so far.
    fn see_time(&mut self, batch: &RecordBatch) {
        let Some(times) = batch.column_by_name("stream_time").filter(|_| self.run.metrics.is_on()) else { return };
        let times = times.as_primitive_opt::<TimestampMicrosecondType>();
        let last = times.and_then(|times| Some(times.value(times.len().checked_sub(1)?)));
        self.stream_time = self.stream_time.max(last);
        if let Some(stream_time) = self.stream_time {
            self.run.metrics.set(&metrics::STREAM_TIME, &[], stream_time as f64 / SECOND as f64);
        }
    }

    /// Returns the schema of the rows written.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Writes a batch to every output; a row that a store refuses becomes a dead letter.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.dead.flush_due()?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.progress.rows(batch.num_rows());
        for output in &mut self.outputs {
            for refusal in output.write(batch)? {
                self.refused += 1;
                self.dead.push_row(batch, refusal.row, &refusal.fault)?;
            }
        }
        self.take_bounced()
    }

    /// Makes a dead letter of a row that an output of the tool refused.
    pub fn refuse(&mut self, batch: &RecordBatch, refusal: &Refusal) -> Result<()> {
        self.refused += 1;
        self.dead.push_row(batch, refusal.row, &refusal.fault)
    }

    /// Passes a control message on. The output is one stream: if two inputs named the same partition, its stream time
    /// goes back there, so no watermark may be computed from it before its end.
    pub fn control(&mut self, message: &Control) -> Result<()> {
        let Control::Progress(progress) = message else {
            return self.outputs.iter_mut().try_for_each(|output| output.control(message));
        };
        self.progress.progress(progress);
        let complete = progress.complete && !self.source.repeats_partitions();
        let message = Control::Progress(Progress { complete, ..progress.clone() });
        self.outputs.iter_mut().try_for_each(|output| output.control(&message))
    }

    /// Makes the rows so far visible to a waiting reader.
    pub fn flush(&mut self) -> Result<()> {
        self.outputs.iter_mut().try_for_each(Output::flush)
    }

    /// Whether only the raw record of a row is written.
    pub fn writes_raw_alone(&self) -> bool {
        self.checked.iter().all(Checked::asks_raw)
            && self.outputs.iter().all(|output| output.format() == Some(format::raw::FORMAT.name))
    }

    /// Returns the format of each output that has one.
    pub fn formats(&self) -> impl Iterator<Item = &'static str> {
        self.outputs.iter().filter_map(Output::format)
    }

    /// Writes text of the tool: `text` returns it for the format of an output, or `None`.
    pub fn text(&mut self, text: impl Fn(&str) -> Option<String>) -> Result<()> {
        for output in &mut self.outputs {
            if let Some(text) = output.format().and_then(&text) {
                output.text(&text)?;
            }
        }
        Ok(())
    }

    /// Adds a line to the summary.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds a line about lost rows to the end; `-q` keeps it.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Adds an entry to `--stats`.
    pub fn detail(&mut self, name: &str, value: impl serde::Serialize) {
        // Counts and names always serialize.
        self.details.insert(name.to_owned(), serde_json::to_value(value).unwrap_or_default());
    }

    /// Adds a line to the end: no row had a value for a name of `--where`.
    pub fn warn_of_null(&mut self, name: &str) {
        self.warn(format!("--where: {name} was NULL in every row: is that its name?"));
    }

    /// Ends the stage at the proven end: checks the law of counts, ends the outputs, writes the summary; returns the
    /// exit status.
    pub fn finish(mut self, end: End, own: u8) -> Result<u8> {
        let mut own = own;
        self.counts = self.fates(self.counts);
        self.conclude().inspect_err(|_| self.source.report_lost())?;
        let lost = self.dead.lost().of_stage.min(self.counts.dead);
        self.counts.dead -= lost;
        self.counts.dropped += lost;
        if self.counts.dropped > 0
            || self.dead.lost().total() > 0
            || self.common.strict && self.counts.dead + self.refused > 0
            || self.refused > 0 && !self.dead.is_written()
        {
            own = own.max(1);
        }
        self.counts.check()?;
        self.set_counts(&self.counts);
        self.run.service.stopping();
        self.set_rows();
        let mut end = End { verdict: own.max(end.verdict), ..end };
        let reports = self.finish_outputs(&mut end).inspect_err(|_| self.source.report_lost())?;
        self.source.commit_end()?;
        self.source.always_null().iter().for_each(|name| self.warn_of_null(name));
        self.summary(&end, &reports)?;
        Ok(end.verdict)
    }

    /// Makes everything durable, and makes dead letters of rows that brokers refused.
    fn conclude(&mut self) -> Result<()> {
        self.outputs.iter_mut().try_for_each(Output::conclude)?;
        self.take_bounced()?;
        self.dead.settle()
    }

    /// Ends the outputs, stores and dead letters first, because rows that they refuse change the verdict in the end of
    /// a stream. The reports are in the order of the command line.
    fn finish_outputs(&mut self, end: &mut End) -> Result<Vec<OutputReport>> {
        // The output of a lost dead letter is not known, so it counts with the first one that refused rows.
        self.lost_rows = self.dead.lost().of_outputs;
        let outputs = std::mem::take(&mut self.outputs).into_iter().enumerate();
        let (stores, streams): (Vec<_>, Vec<_>) = outputs.partition(|(_, output)| output.fates().is_some());
        let mut reports = self.finish_each(stores, end)?;
        if let Some(report) = self.dead.finish(end)? {
            self.tell_notices(&report, end);
        }
        reports.extend(self.finish_each(streams, end)?);
        reports.sort_by_key(|(position, _)| *position);
        Ok(reports.into_iter().map(|(_, report)| report).collect())
    }

    /// Ends outputs, each with its position on the command line.
    fn finish_each(&mut self, outputs: Vec<(usize, Output)>, end: &mut End) -> Result<Vec<(usize, OutputReport)>> {
        let mut reports = vec![];
        for (position, output) in outputs {
            let is_store = output.fates().is_some();
            let mut report = output.finish(end)?;
            if let Some(counts) = &mut report.counts {
                let dropped = if self.dead.is_written() { counts.dead.min(self.lost_rows) } else { counts.dead };
                self.lost_rows = self.lost_rows.saturating_sub(dropped);
                counts.dead -= dropped;
                counts.dropped += dropped;
                counts.check()?;
                if is_store {
                    self.set_fates(&report.name, counts);
                }
            }
            self.tell_notices(&report, end);
            reports.push((position, report));
        }
        Ok(reports)
    }

    /// Prints the notices of an output, even without a summary, and updates the verdict.
    pub fn tell_notices(&self, report: &OutputReport, end: &mut End) {
        for notice in &report.notices {
            self.run.console.warn(format!("{}: {}", report.name, notice.text));
            end.verdict = end.verdict.max(u8::from(notice.fails));
        }
    }

    /// Prints the summary of the run, and writes `--stats`.
    fn summary(&mut self, end: &End, reports: &[OutputReport]) -> Result<()> {
        self.run.console.set_progress(None);
        self.progress = ProgressLine::hidden();
        let summary = Summary {
            run: &self.run,
            source: &self.source,
            dead: &self.dead,
            counts: &self.counts,
            warnings: &self.warnings,
            notes: &self.notes,
            details: &self.details,
            end,
            reports,
        };
        summary.say(self.common.quiet);
        let Some(path) = &self.common.stats else { return Ok(()) };
        let stats = summary.stats();
        std::fs::write(path, format!("{stats}\n")).map_err(|error| Error::io(path.clone(), &error))
    }
}

/// Control messages that are kept while the first rows are awaited; they decide what the text of an input holds.
const AHEAD_MAX: usize = 64;

/// Reads up to the first rows and puts back what was read. Dead letters are taken at once. Returns the first batch; none if the
/// end, or [`AHEAD_MAX`] control messages, come before it.
pub fn look_ahead(source: &mut Source, dead: &mut DeadLetters) -> Result<Option<RecordBatch>> {
    let mut ahead = VecDeque::new();
    let first = loop {
        if source.can_commit() {
            // Only dead letters and records without content came: no output has rows to write.
            dead.settle()?;
            source.commit()?;
        }
        let item = match source.next_item()? {
            Item::Dead(letters) => {
                dead.take(&letters)?;
                continue;
            }
            Item::Idle => {
                dead.flush()?;
                continue;
            }
            item => item,
        };
        let first = if let Item::Batch(batch) = &item { Some(batch.clone()) } else { None };
        let ended = matches!(item, Item::End(_));
        ahead.push_back(Sent { input: source.given(), item });
        if first.is_some() || ended || ahead.len() >= AHEAD_MAX {
            break first;
        }
    };
    source.put_back(ahead);
    Ok(first)
}

/// Sets the metrics of a stage to 0 before it waits for any server.
fn show(run: &Run, checked: &[Checked], dlq: Option<&Checked>) {
    let metrics = &run.metrics;
    for (outcome, _) in Counts::default().outcomes() {
        metrics.set(&metrics::EVENTS, &[run.console.tool(), outcome], 0.0);
    }
    ["input", "output"].iter().for_each(|side| metrics.blocked(side, Duration::ZERO));
    checked.iter().for_each(|output| output.show(metrics));
    dlq.into_iter().for_each(|output| output.show_server(metrics));
}
