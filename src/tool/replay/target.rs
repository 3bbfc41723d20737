//! The target of a replay: a file or a topic, which get each batch exactly once, or another output, which may get a
//! batch again after a crash.

use crate::cli::args::StageArgs;
use crate::cli::resolve::{LINES, output_plans};
use crate::output::file::once::OnceFile;
use crate::output::identity::target as resolved_path;
use crate::output::{Output, OutputPlan};
use crate::uri::Uri;
use arrow::array::{Array, AsArray, RecordBatch};
use evt_core::counts::counted;
use evt_core::error::{Error, Result};
use evt_core::format::jsonl::Objects;
use evt_core::frame::{End, EndReason};
use evt_core::kind::dead::column::{HEADERS, ORIGINAL_KEY};
use evt_core::kind::dead::{Fault, Rejected};
use evt_core::kind::event::column::SOURCE;
use evt_core::kind::headers::Stored;
use evt_core::replay::ledger::{self, BatchClaim, BatchOutcome, Ledger, LetterState, ReplayEntry};
use evt_core::replay::record::replayed;
use evt_core::replay::repair::LetterRows;
use evt_core::time::MILLISECOND;
use evt_kafka::address::{Address, TopicFormat};
use evt_kafka::client::record::ProducerRecord;
use evt_kafka::produce::format::form;
use evt_kafka::produce::transaction::TransactionalTopic;
use evt_run::run::Run;
use evt_run::storage::{self, access};
use evt_store::Notice;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A checked target that is not open yet.
pub(super) enum TargetPlan {
    File(PathBuf),
    Topic(Box<Address>),
    Other { plan: Box<OutputPlan>, keeps_stamps: bool },
}

/// An open target.
pub(super) struct ReplayTarget {
    /// Its URI.
    pub shown: String,
    /// Its name in the ledger.
    identity: String,
    /// The name of this run in the ledger.
    run: String,
    /// Claims so far.
    claims: u64,
    writer: TargetWriter,
}

enum TargetWriter {
    File(OnceFile),
    Topic(Box<TransactionalTopic>),
    Other { output: Box<Output>, keeps_stamps: bool },
}

/// Events that replace letters.
pub(super) struct Replayed<'a> {
    /// The events.
    pub events: &'a RecordBatch,
    /// The letters.
    pub letters: &'a RecordBatch,
    /// For each event, the row of its letter.
    pub rows: &'a [usize],
    /// For each event, its ids.
    pub entries: &'a [ReplayEntry],
}

/// The result of [`ReplayTarget::write`].
pub(super) struct TargetOutcome {
    /// For each event, the state of its letter before.
    pub found: Vec<LetterState>,
    /// Events that the target rejected, by their row.
    pub rejected: Vec<Rejected>,
}

impl TargetPlan {
    /// Checks the target of `--to`. Errors: exit status 2 if there is not one output that acknowledges what it writes.
    pub fn new(args: &StageArgs, run: &Rc<Run>) -> Result<Self> {
        let [to] = args.output.to.as_slice() else {
            return Err(Error::usage("expected one --to, found several"));
        };
        if to == "-" {
            return Err(Error::usage("expected --to URI; a pipe does not acknowledge what it reads"));
        }
        let plan = output_plans(args, LINES, run)?.pop().ok_or_else(|| Error::broken("no output"))?;
        let is_lines = plan.format().is_some_and(|format| format.is_json);
        let is_regular = |path: &Path| std::fs::metadata(path).map_or(true, |found| found.is_file());
        let unacknowledged = || {
            let why = "does not acknowledge rows before the end; replay to JSON lines, a topic or a database";
            Err(Error::usage(format!("{}: {why}", plan.name)))
        };
        let format = args.output.output_format.as_deref().map(evt_core::format::to_write).transpose()?;
        match Uri::of_output(to, &run.caller())? {
            Uri::Null => unacknowledged(),
            Uri::File(path) if !is_regular(&path) => unacknowledged(),
            _ if !plan.acknowledges() => unacknowledged(),
            Uri::File(path) if is_lines => Ok(Self::File(resolved_path(&path))),
            Uri::Kafka(address) if form(&address, format)? == TopicFormat::Json => Ok(Self::Topic(address)),
            uri => {
                let keeps_stamps = matches!(uri, Uri::Store(..) | Uri::Kafka(_));
                Ok(Self::Other { plan: Box::new(plan), keeps_stamps })
            }
        }
    }

    /// Opens the target: closes the open batch of a killed run.
    pub fn open(self, shown: &str, ledger: &mut dyn Ledger, run: &Rc<Run>) -> Result<ReplayTarget> {
        // The id of the run has only its start and its process, which two hosts may share.
        let token = format!("{}-{}", run.id, storage::token());
        let identity = match &self {
            Self::File(path) => {
                let directory = access::parent(path).canonicalize().map_err(|error| Error::io(shown, &error))?;
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                format!("file:{}:{}/{name}", Run::host(), directory.display())
            }
            Self::Topic(address) => TransactionalTopic::identity(address, run)?,
            Self::Other { .. } => String::new(),
        };
        let writer = ledger::Writer { target: &identity, run: &token, claim: 0 };
        let opened = match self {
            Self::File(path) => {
                let mut file = OnceFile::new(path, ledger.id(), run.io.disk());
                begin_file(&mut file, ledger, writer)?;
                file.unlock();
                TargetWriter::File(file)
            }
            Self::Topic(address) => {
                ledger.own(writer)?;
                let topic = TransactionalTopic::open(&address, ledger.id(), run)?;
                for batch in ledger.open_batches(Some(&identity))? {
                    let is_written = topic.committed()? == Some(batch);
                    ledger.close(batch, if is_written { BatchOutcome::Done } else { BatchOutcome::Void })?;
                }
                TargetWriter::Topic(Box::new(topic))
            }
            Self::Other { plan, keeps_stamps } => {
                let why = "at least once: records in flight are written again after a crash";
                run.console.warn(format!("{shown}: {why}"));
                let schema = schema_of(keeps_stamps)?;
                TargetWriter::Other { output: Box::new(plan.check_server(run)?.open(&schema, run)?), keeps_stamps }
            }
        };
        Ok(ReplayTarget { shown: shown.to_owned(), identity, run: token, claims: 0, writer: opened })
    }
}

/// Returns the schema of the events for another output.
fn schema_of(keeps_stamps: bool) -> Result<arrow::datatypes::SchemaRef> {
    let events = RecordBatch::new_empty(evt_core::kind::Kind::Event.schema());
    Ok(if keeps_stamps { events.schema() } else { replayed(&events)?.schema() })
}

/// Locks a file, and closes the open batch of a killed run: its intent says whether it was being written.
fn begin_file(file: &mut OnceFile, ledger: &mut dyn Ledger, writer: ledger::Writer<'_>) -> Result<()> {
    file.lock()?;
    ledger.own(writer)?;
    // Another name of the file may have been used to write the batch of an intent.
    let open = ledger.open_batches(None)?;
    for batch in file.finish_intents(|batch| open.contains(&batch))? {
        ledger.close(batch, BatchOutcome::Done)?;
    }
    for batch in ledger.open_batches(Some(writer.target))? {
        ledger.close(batch, BatchOutcome::Void)?;
    }
    file.close()
}

impl ReplayTarget {
    /// Returns the fault of each event that the target cannot hold, by its row.
    pub fn rejected(&self, replayed: &Replayed<'_>) -> Result<Vec<Rejected>> {
        let TargetWriter::Topic(topic) = &self.writer else { return Ok(vec![]) };
        let lines = lines_of(replayed.events)?;
        let columns = LetterRows::new(replayed.letters);
        let fault =
            |row: usize| -> Option<Fault> { topic.rejected(&replayed.record(row, &columns, lines[row].as_bytes())) };
        Ok((0..lines.len()).filter_map(|row| Some(Rejected { row, fault: fault(row)? })).collect())
    }

    /// Writes the events of letters that are due, and records them in the ledger.
    pub fn write(&mut self, replayed: &Replayed<'_>, ledger: &mut dyn Ledger) -> Result<TargetOutcome> {
        self.claims += 1;
        let writer = ledger::Writer { target: &self.identity, run: &self.run, claim: self.claims };
        let claim = match &mut self.writer {
            TargetWriter::Other { output, keeps_stamps } => {
                return write_other(output, *keeps_stamps, replayed, ledger);
            }
            TargetWriter::File(file) => {
                begin_file(file, ledger, writer)?;
                let claim = ledger.claim(writer, replayed.entries)?;
                if claim.batch != 0 {
                    let lines = lines_of(replayed.events)?;
                    let due = due(&claim).map(|row| lines[row].clone() + "\n");
                    file.append(claim.batch, due.collect::<String>().as_bytes())?;
                    ledger.close(claim.batch, BatchOutcome::Done)?;
                    file.close()?;
                }
                file.unlock();
                claim
            }
            TargetWriter::Topic(topic) => {
                let claim = ledger.claim(writer, replayed.entries)?;
                if claim.batch != 0 {
                    let (lines, columns) = (lines_of(replayed.events)?, LetterRows::new(replayed.letters));
                    let record = |row: usize| replayed.record(row, &columns, lines[row].as_bytes());
                    topic.write(claim.batch, due(&claim).map(record).collect())?;
                    ledger.close(claim.batch, BatchOutcome::Done)?;
                }
                claim
            }
        };
        Ok(TargetOutcome { found: claim.found, rejected: vec![] })
    }

    /// Ends the target at the end of the run; returns its messages.
    pub fn finish(self, how: EndReason) -> Result<Vec<Notice>> {
        match self.writer {
            TargetWriter::Other { output, .. } => Ok(output.finish(&End { how, rows: 0, verdict: 0 })?.notices),
            TargetWriter::File(_) => Ok(vec![]),
            TargetWriter::Topic(topic) => Ok(restamped(topic.restamped()).into_iter().collect()),
        }
    }

    /// Whether each record is written exactly once.
    pub fn is_once(&self) -> bool {
        !matches!(self.writer, TargetWriter::Other { .. })
    }
}

/// Reports records that have the time of the replay as timestamp, because brokers would delete or reject older ones.
fn restamped(records: u64) -> Option<Notice> {
    let (subject, verb) = if records == 1 { ("timestamp", "is") } else { ("timestamps", "are") };
    let text = format!(
        "the {subject} of {} {verb} older than the topic keeps or accepts (retention.ms, \
         message.timestamp.before.max.ms); the time of the replay is used",
        counted(records, ["record", "records"])
    );
    (records > 0).then_some(Notice { text, fails: false })
}

/// Returns the rows of a claim whose letters were due.
fn due(claim: &BatchClaim) -> impl Iterator<Item = usize> {
    claim.found.iter().enumerate().filter(|(_, found)| **found == LetterState::Due).map(|(row, _)| row)
}

/// Returns the events as lines of JSON, without line ends.
fn lines_of(events: &RecordBatch) -> Result<Vec<String>> {
    let records = replayed(events)?;
    let mut objects = Objects::try_new(&records)?;
    let line = |row: usize| {
        let mut line = String::new();
        objects.write(row, &mut line);
        line
    };
    Ok((0..records.num_rows()).map(line).collect())
}

/// Writes events to an output that does not record batches, and marks their letters once the output has acknowledged
/// them.
fn write_other(
    output: &mut Output,
    keeps_stamps: bool,
    replay: &Replayed<'_>,
    ledger: &mut dyn Ledger,
) -> Result<TargetOutcome> {
    let letters: Vec<_> = replay.entries.iter().map(|entry| entry.letter_id).collect();
    let found = ledger.states(&letters)?;
    let due: Vec<usize> = (0..found.len()).filter(|row| found[*row] == LetterState::Due).collect();
    if due.is_empty() {
        return Ok(TargetOutcome { found, rejected: vec![] });
    }
    let indices = arrow::array::UInt32Array::from_iter_values(due.iter().filter_map(|row| u32::try_from(*row).ok()));
    let events = arrow::compute::take_record_batch(replay.events, &indices)?;
    let rejected = output.write(&if keeps_stamps { events } else { replayed(&events)? })?;
    output.settle()?;
    if !output.take_rejected().is_empty() {
        let message = format!("{}: records were rejected after they had been accepted", output.name);
        return Err(Error::failed(message));
    }
    let is_rejected = |at: usize| rejected.iter().any(|rejected| rejected.row == at);
    let accepted = due.iter().enumerate().filter(|(at, _)| !is_rejected(*at)).map(|(_, row)| replay.entries[*row]);
    ledger.mark(&accepted.collect::<Vec<_>>())?;
    let rejected = rejected.into_iter().map(|Rejected { row, fault }| Rejected { row: due[row], fault }).collect();
    Ok(TargetOutcome { found, rejected })
}

impl<'a> Replayed<'a> {
    /// Returns the record of an event, with the headers and the timestamp of the record that failed; `columns` are
    /// those of the letters. Its key is that of the dead letter; without one, it is the event's source.
    fn record(&self, row: usize, columns: &LetterRows<'a>, line: &'a [u8]) -> ProducerRecord<'a> {
        let letter = self.rows[row];
        let keys = self.letters.column(ORIGINAL_KEY).as_binary::<i32>();
        let sources = self.events.column(SOURCE).as_string::<i32>();
        let key = if keys.is_valid(letter) { keys.value(letter) } else { sources.value(row).as_bytes() };
        let headers = TransactionalTopic::headers(&Stored::new(self.letters.column(HEADERS).as_map(), letter));
        let timestamp = columns.arrived_at(letter).map(|at| at.div_euclid(MILLISECOND));
        ProducerRecord { partition: None, key: Some(key.into()), value: line.into(), headers, timestamp }
    }
}
