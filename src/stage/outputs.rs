//! The outputs of a stage: rows, dead letters, a side output, control messages, and the report at the end.
//!
//! [`Outputs`] is the collector of an operator in a tool. A row that an output rejects, at once or later, becomes a
//! dead letter.

use super::operator::{Collector, Note};
use super::progress::ProgressLine;
use super::setup::StageOptions;
use crate::output::dead_letters::DeadLetters;
use crate::output::epochs::{CompleteEpoch, EpochPlan, RejectedByCommit, RejectedRow};
use crate::output::{Output, OutputPlan, OutputReport, given_up};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use evt_core::counts::{Counts, DoneRecords, SinkCounts, counted};
use evt_core::error::{Error, Result};
use evt_core::format::Format;
use evt_core::frame::{Control, End, Progress};
use evt_core::kind::dead::Fault;
use evt_core::kind::dead::Rejected;
use evt_kafka::produce::RejectedRecord;
use evt_kafka::produce::shared::SharedProducer;
use evt_run::checkpoint::Checkpoint;
use evt_run::checkpoint::epoch::Epoch;
use evt_run::checkpoint::header::CHECKPOINT_KEY;
use evt_run::checkpoint::log::{EpochPart, OutputName};
use evt_run::metrics::{self, Metrics};
use evt_run::run::Run;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The name of the side output in a checkpoint.
const SIDE: &str = "late";
/// The name of the output of dead letters in a checkpoint.
const LETTERS: &str = "dlq";

/// The outputs of a stage.
pub struct Outputs {
    run: Rc<Run>,
    /// The outputs before [`Outputs::open`].
    pub(super) plans: Vec<OutputPlan>,
    /// The side output before [`Outputs::open`].
    side_plan: Option<OutputPlan>,
    /// The outputs after [`Outputs::open`].
    outputs: Vec<Output>,
    /// The side output of late rows.
    side: Option<Output>,
    /// Rows that the side output has accepted.
    side_rows: u64,
    /// The output of faulty records.
    pub dead: DeadLetters,
    /// The schema of the rows that are written.
    schema: SchemaRef,
    /// The header of the checkpoint for the next stage, until the outputs are open; `None` without a checkpoint or a
    /// next stage.
    header: Option<String>,
    /// The producer whose transactions have the records, if there is one.
    transactions: Option<Rc<SharedProducer>>,
    pub(super) progress: ProgressLine,
    /// The last progress message, without its partitions; `None` after the end.
    announced: Option<Progress>,
    /// Whether two inputs reported the same partition.
    pub(super) repeats_partitions: bool,
    /// The counts of input rows that became dead letters and that the stage has not added to its counts yet.
    pub(super) dead_rows: Counts,
    /// The number of rows that outputs rejected.
    pub(super) rejected_rows: u64,
    /// The complete epoch whose dead letters wait for the other outputs.
    letters_due: Option<Arc<CompleteEpoch>>,
    /// The number of rows that outputs rejected and whose dead letters could not be written, until an output counts
    /// them as dropped.
    lost_rows: u64,
    pub(super) report: EndReport,
    /// Whether rows go to standard output and no checkpoint watches its reader.
    watches_reader: bool,
}

/// Returns the names of outputs in a checkpoint.
pub fn output_names(rows: &[OutputPlan], side: Option<&OutputPlan>, letters: Option<&OutputPlan>) -> Vec<OutputName> {
    let name = |key: String, output: &OutputPlan| OutputName { key, uri: output.name.to_owned() };
    let rows = rows.iter().enumerate().map(|(at, output)| name(rows_key(at), output));
    let side = side.map(|output| name(SIDE.to_owned(), output));
    let letters = letters.map(|output| name(LETTERS.to_owned(), output));
    rows.chain(side).chain(letters).collect()
}

/// Returns the name of an output of rows in a checkpoint.
fn rows_key(at: usize) -> String {
    format!("to-{at}")
}

/// The operator's report at the end of a stage.
#[derive(Default)]
pub struct EndReport {
    /// Lines about lost rows, which `-q` keeps.
    pub warnings: Vec<String>,
    /// Lines that `-q` leaves out.
    pub notes: Vec<String>,
    /// Entries that the operator and the checkpoint add to `--stats`.
    pub details: serde_json::Map<String, serde_json::Value>,
    /// The operator's figures in the line of counts.
    pub figures: Option<String>,
    /// Whether the line of counts is left out.
    pub is_silent: bool,
    /// The lowest exit status that the run may have.
    pub verdict: u8,
    /// The number of rows at or after `--until` that a run with a checkpoint left out. Its positions are behind these
    /// rows.
    pub passed_over: u64,
}

impl EndReport {
    /// Adds a warning about the rows in `passed_over`, which no later run reads.
    pub fn warn_of_passed_over(&mut self) {
        if self.passed_over > 0 {
            let rows = counted(self.passed_over, ["row", "rows"]);
            self.warnings
                .push(format!("{rows} at or after --until left out; no later run of the checkpoint reads them"));
        }
    }
}

impl Outputs {
    /// Makes the outputs of a stage; none is open yet.
    pub fn new(run: Rc<Run>, plans: Vec<OutputPlan>, side: Option<OutputPlan>, dead: DeadLetters, quiet: bool) -> Self {
        // A progress line between rows on the same terminal would garble both.
        let watches_reader = plans.iter().any(OutputPlan::is_standard);
        let shows_rows = run.io.has_terminal() && watches_reader;
        let progress = ProgressLine::new(&run, quiet || shows_rows);
        Self {
            run,
            plans,
            side_plan: side,
            outputs: vec![],
            side: None,
            side_rows: 0,
            dead,
            schema: Arc::new(Schema::empty()),
            header: None,
            transactions: None,
            progress,
            announced: Some(Progress::default()),
            repeats_partitions: false,
            dead_rows: Counts::default(),
            rejected_rows: 0,
            letters_due: None,
            lost_rows: 0,
            report: EndReport::default(),
            watches_reader,
        }
    }

    /// Passes on dead letters and bytes that wait while no records come. Errors: the reader of standard output has
    /// gone, which a stage without rows for it would notice only at its next write.
    pub fn idle(&mut self) -> Result<()> {
        self.dead.flush()?;
        self.of_rows().try_for_each(Output::idle)?;
        match self.watches_reader && self.run.io.has_lost_reader(Duration::ZERO) {
            true => Err(Error::io("stdout", &std::io::ErrorKind::BrokenPipe.into())),
            false => Ok(()),
        }
    }

    /// Returns the outputs, which are not open yet, as a checkpoint names them.
    pub fn names(&self) -> Vec<OutputName> {
        output_names(&self.plans, self.side_plan.as_ref(), self.dead.plan())
    }

    /// Whether a later stage of the pipe reads the rows.
    pub fn has_readers(&self) -> bool {
        self.plans.iter().any(OutputPlan::is_stream)
    }

    /// Checks that the rows of the outputs can wait for their epoch. Errors: exit status 2 if not.
    pub fn check_epochs(&self) -> Result<()> {
        self.plans
            .iter()
            .chain(&self.side_plan)
            .chain(self.dead.plan())
            .try_for_each(|output| output.check_epochs(&self.run.io))
    }

    /// Lets the rows of the outputs, which are not open yet, wait in a checkpoint until their epoch is complete.
    pub fn in_epochs(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        // A checkpoint says what a reader that has gone leaves uncommitted.
        self.watches_reader = false;
        let epochs = |key: &str| EpochPlan {
            place: checkpoint.place.clone(),
            checkpoint: checkpoint.own.checkpoint.to_owned(),
            stage: checkpoint.own.stage.to_owned(),
            key: key.to_owned(),
            epoch: checkpoint.epoch,
            last_recorded: checkpoint.recorded.last,
        };
        let plans = self.plans.drain(..).enumerate();
        self.plans = plans.map(|(at, output)| output.in_epochs(epochs(&rows_key(at)))).collect();
        self.side_plan = self.side_plan.take().map(|output| output.in_epochs(epochs(SIDE)));
        self.dead.in_epochs(epochs(LETTERS));
        self.header = checkpoint.header().map(|header| header.to_text()).transpose()?;
        Ok(())
    }

    /// Lets the records of the outputs, which are not open yet, be in the transactions of the producer.
    pub fn in_transactions(&mut self, producer: &Rc<SharedProducer>) {
        self.dead.in_transactions(producer.clone());
        self.transactions = Some(producer.clone());
    }

    /// Opens the outputs for rows of `schema`, and the side output for rows of `side`; `taken` rows have been read.
    pub fn open(&mut self, schema: SchemaRef, side: Option<SchemaRef>, taken: u64) -> Result<()> {
        let mut schema = Schema::clone(&schema);
        schema.metadata.remove(CHECKPOINT_KEY);
        schema.metadata.extend(self.header.take().map(|header| (CHECKPOINT_KEY.to_owned(), header)));
        self.schema = Arc::new(schema);
        if let Some((plan, schema)) = self.side_plan.take().zip(side) {
            self.side = Some(plan.open(&schema, &self.run)?);
        }
        let outcome = match taken {
            0 => "nothing is written".to_owned(),
            rows => format!("none of the {rows} rows that were read is counted as written"),
        };
        for plan in self.plans.drain(..) {
            let name = plan.name.to_owned();
            let opened = plan.open_in(self.transactions.as_deref(), &self.schema, &self.run);
            self.outputs.push(opened.map_err(|error| given_up(error, &name, &outcome))?);
        }
        Ok(())
    }

    /// Does the time-driven work of all outputs.
    pub fn tick(&mut self) -> Result<()> {
        self.of_rows().try_for_each(Output::tick)?;
        self.take_rejected()?;
        self.dead.tick()
    }

    /// Returns the least number of rows that an output of rows has confirmed: all of them get the same rows in the same
    /// order.
    pub fn confirmed(&self) -> DoneRecords {
        let confirmed = self.outputs.iter().map(Output::confirmed);
        let least = confirmed.reduce(|one, other| DoneRecords {
            count: one.count.min(other.count),
            is_at_most: one.is_at_most || other.is_at_most,
        });
        least.unwrap_or_default()
    }

    /// Makes every row and dead letter so far durable.
    pub fn settle(&mut self) -> Result<()> {
        self.of_rows().try_for_each(Output::settle)?;
        self.take_rejected()?;
        self.dead.settle()
    }

    /// Ends the epoch in progress in every output and begins `next`. Returns the parts with their rows, which are
    /// durable.
    pub fn seal_epoch(&mut self, next: Epoch) -> Result<Vec<EpochPart>> {
        let mut parts = vec![];
        for output in self.of_rows() {
            parts.extend(output.seal_epoch(next)?);
        }
        // The dead letters of rows that outputs rejected after they accepted them belong to this epoch.
        self.take_rejected()?;
        parts.extend(self.dead.seal_epoch(next)?);
        Ok(parts)
    }

    /// Returns the open outputs but for that of dead letters.
    fn of_rows(&mut self) -> impl Iterator<Item = &mut Output> {
        self.outputs.iter_mut().chain(&mut self.side)
    }

    /// Returns all open outputs.
    fn all(&mut self) -> impl Iterator<Item = &mut Output> {
        self.outputs.iter_mut().chain(&mut self.side).chain(self.dead.output())
    }

    /// Begins to write the rows of a complete epoch to every output. [`Outputs::poll_commit`] begins with the dead
    /// letters.
    pub fn begin_commit(&mut self, complete: CompleteEpoch) -> Result<()> {
        let complete = Arc::new(complete);
        self.of_rows().try_for_each(|output| output.begin_commit(&complete))?;
        self.letters_due = Some(complete);
        Ok(())
    }

    /// Waits until every output has the rows, for at most `limit`; returns whether they have. Dead letters of the epoch
    /// are written when all other outputs have its rows. Dead letters of rows that an output cannot hold belong to the
    /// same epoch: the output has made the numbers of these rows durable before its commit, so a repeated commit has
    /// the same letters.
    pub fn poll_commit(&mut self, limit: Duration) -> Result<bool> {
        let mut is_done = true;
        for output in self.of_rows() {
            // Polls every output, so that the error of one output does not wait for the commit of another.
            is_done &= output.poll_commit(if is_done { limit } else { Duration::ZERO })?;
        }
        if !is_done {
            return Ok(false);
        }
        if let Some(complete) = self.letters_due.take() {
            // In the order of the outputs: a repeated commit has the same letters in the same order.
            let rejected: Vec<RejectedByCommit> = self.of_rows().filter_map(Output::take_rejected_by_commit).collect();
            self.rejected_rows += rejected.iter().map(|rejected| rejected.faults.len() as u64).sum::<u64>();
            self.dead.begin_commit(&complete, rejected)?;
        }
        self.dead.poll_commit(limit)
    }

    /// Returns the names of the outputs that do not have the rows of a complete epoch yet.
    pub fn committing(&mut self) -> Vec<String> {
        self.all().filter(|output| output.is_committing()).map(|output| output.name.to_owned()).collect()
    }

    /// Whether a store has not answered rows that it gets before their epoch is complete, so that the epoch cannot end.
    pub fn is_writing(&self) -> bool {
        self.outputs.iter().chain(&self.side).any(Output::is_writing) || self.dead.is_writing()
    }

    /// Returns the names of the outputs whose stores have not answered rows that they got before their epoch was
    /// complete.
    pub fn writing(&mut self) -> Vec<String> {
        self.all().filter(|output| output.is_writing()).map(|output| output.name.to_owned()).collect()
    }

    /// Returns the bytes of the rows that outputs have in the epoch in progress.
    pub fn epoch_bytes(&mut self) -> u64 {
        self.all().map(|output| output.epoch_bytes()).sum()
    }

    /// Makes dead letters of rows that outputs accepted and their brokers or stores rejected later.
    fn take_rejected(&mut self) -> Result<()> {
        for output in self.outputs.iter_mut().chain(&mut self.side) {
            for RejectedRow { row, fault } in output.take_late() {
                self.rejected_rows += 1;
                self.dead.push_row(&row, 0, &fault)?;
            }
        }
        self.dead.take_late();
        let rejected: Vec<RejectedRecord> = self.outputs.iter_mut().flat_map(Output::take_rejected).collect();
        let of_side = self.side.as_mut().map_or(vec![], Output::take_rejected);
        self.side_rows -= of_side.len() as u64;
        for record in rejected.iter().chain(&of_side) {
            self.rejected_rows += 1;
            self.dead.push_rejected(record)?;
        }
        Ok(())
    }

    /// Waits until every row is accepted or rejected, makes dead letters of those that brokers or stores rejected, and
    /// waits for all letters.
    pub fn conclude(&mut self) -> Result<()> {
        self.of_rows().try_for_each(Output::conclude)?;
        self.take_rejected()?;
        self.dead.settle()
    }

    /// Makes the exit status at least 1 if records or rows were lost, or were dead under `--strict`. `counts` are those
    /// of all records.
    pub(super) fn judge(&mut self, counts: &Counts, options: &StageOptions) {
        let rejected = self.rejected_rows;
        let unwritten = rejected + self.dead.partial;
        let has_lost = counts.dropped > 0 || self.dead.lost.total() > 0 || unwritten > 0 && !self.dead.is_written();
        let is_faulty = counts.dead + counts.dropped + unwritten > 0;
        if has_lost && !options.tolerates_losses || options.strict && is_faulty {
            self.set_verdict(1);
        }
    }

    /// Sends the end to later stages of the pipe, which complete the last epoch.
    pub fn send_end(&mut self, end: &End) -> Result<()> {
        self.announced = None;
        self.outputs.iter_mut().try_for_each(|output| output.send_end(end))
    }

    /// Ends the outputs: the side output, stores and dead letters first, because rows that they reject change the
    /// verdict in the end of a stream. The reports are in the order of the command line.
    pub fn finish(&mut self, end: &mut End) -> Result<Vec<OutputReport>> {
        if let Some(side) = self.side.take() {
            let report = side.finish(end)?;
            self.report_notices(&report, end);
        }
        // The stage does not track which output rejected the row of a lost dead letter, so the first output that
        // rejected rows counts it.
        self.lost_rows = self.dead.lost.of_outputs;
        let outputs = std::mem::take(&mut self.outputs).into_iter().enumerate();
        let (stores, streams): (Vec<_>, Vec<_>) = outputs.partition(|(_, output)| output.row_counts().is_some());
        let mut reports = self.finish_each(stores, end)?;
        if let Some(report) = self.dead.finish(end)? {
            self.report_notices(&report, end);
        }
        reports.extend(self.finish_each(streams, end)?);
        reports.sort_by_key(|(position, _)| *position);
        Ok(reports.into_iter().map(|(_, report)| report).collect())
    }

    /// Ends outputs, each with its position on the command line.
    fn finish_each(&mut self, outputs: Vec<(usize, Output)>, end: &mut End) -> Result<Vec<(usize, OutputReport)>> {
        let mut reports = vec![];
        for (position, output) in outputs {
            let is_store = output.row_counts().is_some();
            let mut report = output.finish(end)?;
            if let Some(counts) = &mut report.counts {
                let dropped = if self.dead.is_written() { counts.dead.min(self.lost_rows) } else { counts.dead };
                self.lost_rows = self.lost_rows.saturating_sub(dropped);
                counts.dead -= dropped;
                counts.dropped += dropped;
                counts.check()?;
                if is_store {
                    self.set_row_counts(&report.name, counts);
                }
            }
            self.report_notices(&report, end);
            reports.push((position, report));
        }
        Ok(reports)
    }

    /// Prints the notices of an output, even without a summary, and updates the verdict.
    fn report_notices(&self, report: &OutputReport, end: &mut End) {
        for notice in &report.notices {
            self.run.console.warn(format!("{}: {}", report.name, notice.text));
            end.verdict = end.verdict.max(u8::from(notice.fails));
        }
    }

    /// Sets the metrics of the outputs.
    pub fn set_metrics(&self) {
        for output in &self.outputs {
            match output.row_counts() {
                Some(mut counts) => {
                    if !self.dead.is_written() {
                        counts.dropped += std::mem::take(&mut counts.dead);
                    }
                    self.set_row_counts(&output.name, &counts);
                }
                None => {
                    self.run.metrics.set(&metrics::SINK_ROWS, &[&output.name, "written"], output.accepted_rows() as f64)
                }
            }
        }
        for (error_type, letters) in &self.dead.by_type {
            self.run.metrics.set(&metrics::DEAD_LETTERS, &[error_type.name()], *letters as f64);
        }
    }

    /// Sets the metric of an output's rows by outcome.
    fn set_row_counts(&self, output: &str, counts: &SinkCounts) {
        for (outcome, rows) in counts.outcomes() {
            self.run.metrics.set(&metrics::SINK_ROWS, &[output, outcome], rows as f64);
        }
    }

    /// Writes the last progress message again, which changes nothing: a program between two stages, such as tee(1),
    /// notices only at a write that its reader has gone.
    pub(super) fn repeat_progress(&mut self) -> Result<()> {
        let Some(announced) = self.announced.clone() else { return Ok(()) };
        let message = Control::Progress(announced);
        self.outputs.iter_mut().try_for_each(|output| output.control(&message))
    }
}

impl Collector for Outputs {
    fn rows(&mut self, batch: &RecordBatch) -> Result<()> {
        self.dead.flush_due()?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.progress.rows(batch.num_rows());
        for output in &mut self.outputs {
            for rejected in output.write(batch)? {
                self.rejected_rows += 1;
                self.dead.push_row(batch, rejected.row, &rejected.fault)?;
            }
        }
        self.take_rejected()
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn control(&mut self, message: &Control) -> Result<()> {
        // A copy of a stream with a checkpoint, in a file, has barriers that end no epoch of this stage.
        if matches!(message, Control::Barrier(_)) && !self.schema.metadata().contains_key(CHECKPOINT_KEY) {
            return Ok(());
        }
        let Control::Progress(progress) = message else {
            return self.outputs.iter_mut().try_for_each(|output| output.control(message));
        };
        self.progress.progress(progress);
        // The output is one stream. If two inputs reported the same partition, its stream time goes back in this
        // stream, so no watermark may be computed from it before its end.
        let complete = progress.complete && !self.repeats_partitions;
        let message = Control::Progress(Progress { complete, ..progress.clone() });
        self.announced = Some(Progress { complete, partitions: vec![], ..*progress });
        self.outputs.iter_mut().try_for_each(|output| output.control(&message))
    }

    fn show_part(&mut self, done: u64, total: u64) {
        self.progress.part(done, total);
    }

    fn dead(&mut self, batch: &RecordBatch, row: usize, fault: &Fault) -> Result<()> {
        if !fault.is_partial() {
            self.dead.count(&mut self.dead_rows);
        }
        self.dead.push_row(batch, row, fault)
    }

    fn side(&mut self, rows: &RecordBatch) -> Result<Vec<Rejected>> {
        let Some(side) = &mut self.side else { return Ok(vec![]) };
        let rejected = side.write(rows)?;
        self.side_rows += (rows.num_rows() - rejected.len()) as u64;
        Ok(rejected)
    }

    fn has_side(&self) -> bool {
        self.side.is_some()
    }

    fn side_rows(&self) -> u64 {
        self.side_rows
    }

    fn rejected(&mut self, batch: &RecordBatch, rejected: &Rejected) -> Result<()> {
        self.rejected_rows += 1;
        self.dead.push_row(batch, rejected.row, &rejected.fault)
    }

    fn release_letters(&mut self, end: u64) -> Result<()> {
        self.dead.release_before(end)
    }

    fn flush(&mut self) -> Result<()> {
        self.outputs.iter_mut().try_for_each(Output::flush)?;
        self.dead.flush()
    }

    fn text(&mut self, text: &dyn Fn(&Format) -> Option<String>) -> Result<()> {
        for output in &mut self.outputs {
            if let Some(text) = output.format().and_then(text) {
                output.text(&text)?;
            }
        }
        Ok(())
    }

    fn formats(&self) -> Vec<&'static Format> {
        self.outputs.iter().filter_map(Output::format).collect()
    }

    fn now(&self) -> i64 {
        self.run.clock.now()
    }

    fn elapsed(&self) -> Duration {
        self.run.clock.monotonic()
    }

    fn is_stopping(&self) -> bool {
        self.run.stop.signal().is_some()
    }

    fn metrics(&self) -> &Metrics {
        &self.run.metrics
    }

    fn report(&mut self, message: Note) {
        match message {
            Note::Info(line) => self.run.console.say(line),
            Note::Warning(line) => self.run.console.warn(line),
        }
    }

    fn note(&mut self, message: Note) {
        match message {
            Note::Info(line) => self.report.notes.push(line),
            Note::Warning(line) => self.report.warnings.push(line),
        }
    }

    fn figures(&mut self, text: Option<String>) {
        self.report.is_silent = text.is_none();
        self.report.figures = text;
    }

    fn detail(&mut self, name: &str, value: serde_json::Value) {
        self.report.details.insert(name.to_owned(), value);
    }

    fn set_verdict(&mut self, verdict: u8) {
        self.report.verdict = self.report.verdict.max(verdict);
    }
}
