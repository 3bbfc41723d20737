//! Dead letters of a stage: written to `--dlq`, or reported and counted as dropped.

use super::output::{Output, OutputReport};
use crate::console::Faulty;
use crate::error::Result;
use crate::frame::End;
use crate::kafka::produce::Bounced;
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault, Letter, column};
use crate::kind::event::RAW;
use crate::kind::headers::{self, Headers};
use crate::kind::letters::Builder;
use crate::run::{Report, Run};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

/// Letters held before they are written, in bytes.
const HELD_BYTES: usize = 256 << 10;
/// Letters held before they are written.
const HELD_ROWS: usize = 1024;
/// Without `--dlq`, one line this often after the first ones (µs).
const REPORT_EVERY: i64 = 60_000_000;

/// Opens the output of dead letters.
pub type Opening = Box<dyn FnOnce() -> Result<Output>>;

/// Where letters are written.
enum Outlet {
    /// Nowhere: they are dropped.
    Nowhere,
    /// An output that is not open until the first row, or more letters than are held, have come.
    Unopened(Opening),
    /// An open output.
    Open(Box<Output>),
    /// An output that has ended.
    Ended,
}

/// Where a stage's faulty records go.
pub struct DeadLetters {
    run: Rc<Run>,
    outlet: Outlet,
    builder: Builder,
    /// When the first of the letters that are held came.
    since: Option<Instant>,
    reported: u64,
    next_report: i64,
    /// Letters that no output could hold, however short.
    lost: Lost,
    counts: BTreeMap<ErrorType, u64>,
    /// Letters of records that the source could not make rows of.
    from_source: u64,
    rows_before: u64,
    hold: Option<Hold>,
}

/// Letters that could not be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Of records that the stage found faulty.
    pub of_stage: u64,
    /// Of rows that an output refused.
    pub of_outputs: u64,
}

impl Lost {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.of_stage + self.of_outputs
    }
}

/// Letters that wait until it is known that the rows before them are looked at.
struct Hold {
    /// Letters that come before row number `end` are not held.
    end: u64,
    waiting: VecDeque<(u64, OwnedLetter)>,
}

struct OwnedLetter {
    payload: Vec<u8>,
    key: Option<Vec<u8>>,
    headers: Option<Vec<(String, Option<Vec<u8>>)>>,
    arrived_at: Option<i64>,
    fault: Fault,
    origin: String,
    partition: String,
    offset: i64,
}

impl Headers for Vec<(String, Option<Vec<u8>>)> {
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        self.iter().for_each(|(name, value)| show(name, value.as_deref()));
    }
}

impl OwnedLetter {
    fn of(letter: &Letter<'_>) -> Self {
        let headers = letter.headers.map(|headers| {
            let mut kept = vec![];
            headers.each(&mut |name, value| kept.push((name.to_owned(), value.map(<[u8]>::to_vec))));
            kept
        });
        Self {
            payload: letter.payload.to_vec(),
            key: letter.key.map(<[u8]>::to_vec),
            headers,
            arrived_at: letter.arrived_at,
            fault: letter.fault.clone(),
            origin: letter.origin.to_owned(),
            partition: letter.partition.to_owned(),
            offset: letter.offset,
        }
    }

    fn lend(&self) -> Letter<'_> {
        Letter {
            payload: &self.payload,
            key: self.key.as_deref(),
            headers: self.headers.as_ref().map(|headers| headers as &dyn Headers),
            arrived_at: self.arrived_at,
            fault: &self.fault,
            origin: &self.origin,
            partition: &self.partition,
            offset: self.offset,
        }
    }
}

impl DeadLetters {
    /// Letters of this run, written to what `opening` opens if there is such a thing.
    pub fn new(run: Rc<Run>, opening: Option<Opening>) -> Self {
        let builder = Builder::new(run.console.tool(), &Run::host());
        let counts = BTreeMap::new();
        Self {
            run,
            outlet: opening.map_or(Outlet::Nowhere, Outlet::Unopened),
            builder,
            since: None,
            reported: 0,
            next_report: i64::MIN,
            lost: Lost::default(),
            counts,
            from_source: 0,
            rows_before: 0,
            hold: None,
        }
    }

    /// Opens the output, if that has not been done.
    pub fn open(&mut self) -> Result<()> {
        self.outlet = match std::mem::replace(&mut self.outlet, Outlet::Nowhere) {
            Outlet::Unopened(open) => Outlet::Open(Box::new(open()?)),
            other => other,
        };
        Ok(())
    }

    fn output(&mut self) -> Option<&mut Output> {
        if let Outlet::Open(output) = &mut self.outlet { Some(output) } else { None }
    }

    /// Forgets the letters that are held where the output has not been opened: the run ends before anything is written.
    pub fn discard(&mut self) {
        if let Outlet::Unopened(_) = self.outlet {
            self.outlet = Outlet::Nowhere;
        }
    }

    /// Whether they are written; if not, they are `dropped`.
    pub fn is_written(&self) -> bool {
        !matches!(self.outlet, Outlet::Nowhere)
    }

    /// Letters so far.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Letters among them that could not be written.
    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// Letters so far, by what was wrong.
    pub fn by_type(&self) -> &BTreeMap<ErrorType, u64> {
        &self.counts
    }

    /// From here on letters of the source wait until the row before them is looked at.
    pub fn hold(&mut self) {
        self.hold = Some(Hold { end: 0, waiting: VecDeque::new() });
    }

    /// Letters of records that the source could not make rows of, those that wait left out.
    pub fn from_source(&self) -> u64 {
        self.from_source
    }

    /// Rows of the source that were no raw records, from here on.
    pub fn set_rows_before(&mut self, rows: u64) {
        self.rows_before = rows;
    }

    /// Takes one letter of the source, which comes after `rows` rows of raw records.
    pub fn push_after(&mut self, rows: u64, letter: &Letter<'_>) -> Result<()> {
        let rows = rows + self.rows_before;
        if let Some(hold) = self.hold.as_mut().filter(|hold| rows >= hold.end) {
            hold.waiting.push_back((rows, OwnedLetter::of(letter)));
            return Ok(());
        }
        self.from_source += 1;
        self.push(letter)
    }

    /// Takes the letters that waited and come before row number `end`, counted from 0.
    pub fn release_before(&mut self, end: u64) -> Result<()> {
        let Some(hold) = &mut self.hold else { return Ok(()) };
        hold.end = hold.end.max(end);
        let count = hold.waiting.iter().take_while(|(rows, _)| *rows < end).count();
        let released: Vec<_> = hold.waiting.drain(..count).collect();
        self.from_source += released.len() as u64;
        released.iter().try_for_each(|(_, letter)| self.push(&letter.lend()))
    }

    /// Takes one letter.
    pub fn push(&mut self, letter: &Letter<'_>) -> Result<()> {
        self.push_at(letter, true)
    }

    /// Takes one letter, of something that has a position or goes by its name alone.
    fn push_at(&mut self, letter: &Letter<'_>, has_position: bool) -> Result<()> {
        *self.counts.entry(letter.fault.error_type).or_default() += 1;
        if !self.is_written() || self.run.report == Report::All {
            self.report(letter, has_position);
        }
        if self.is_written() {
            self.builder.push(letter, self.run.clock.now())?;
            self.since.get_or_insert_with(Instant::now);
            if self.builder.len() >= HELD_ROWS || self.builder.bytes() >= HELD_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Takes the letter of a row: its raw record where the batch has it, else the row as JSON.
    pub fn push_row(&mut self, batch: &RecordBatch, row: usize, fault: &Fault) -> Result<()> {
        let around = headers::Rows::of(batch).and_then(|rows| Some(rows.get(rows.code(row)?)));
        self.push_row_with(batch, row, fault, around.as_ref().map(|around| around as &dyn Headers))
    }

    fn push_row_with(
        &mut self,
        batch: &RecordBatch,
        row: usize,
        fault: &Fault,
        headers: Option<&dyn Headers>,
    ) -> Result<()> {
        let written;
        let payload = match raw_of(batch, row) {
            Some(raw) => raw,
            None => {
                written = row_text(batch, row)?;
                written.as_bytes()
            }
        };
        let text = |name: &str| {
            let values = batch.column_by_name(name)?.as_any_dictionary_opt()?;
            let key = values.normalized_keys()[row];
            Some(values.values().as_string_opt::<i32>()?.value(key).to_owned())
        };
        // A dead letter's origin is called source_topic; a metric has none and goes by its own name.
        let name = || Some(batch.column_by_name("metric_name")?.as_string_opt::<i32>()?.value(row).to_owned());
        let origin = text("origin").or_else(|| text("source_topic")).or_else(name).unwrap_or_default();
        let partition = text("partition").unwrap_or_else(|| "0".to_owned());
        let offsets = batch.column_by_name("offset").and_then(|offset| offset.as_primitive_opt::<Int64Type>());
        let offset = offsets.map_or(0, |offsets| offsets.value(row));
        let arrived = batch.column_by_name("server_timestamp");
        let arrived = arrived.and_then(|arrived| arrived.as_primitive_opt::<TimestampMicrosecondType>());
        let arrived_at = arrived.filter(|arrived| arrived.is_valid(row)).map(|arrived| arrived.value(row));
        let (origin, partition) = (&origin, &partition);
        let letter = Letter { payload, key: None, headers, arrived_at, fault, origin, partition, offset };
        self.push_at(&letter, offsets.is_some())
    }

    /// Takes the letter of a row that an output took and refused later.
    pub fn push_bounced(&mut self, bounced: &Bounced) -> Result<()> {
        let Bounced { row, fault, payload, key, headers, topic } = bounced;
        let headers = headers.is_some().then_some(bounced as &dyn Headers);
        if let Some(row) = row {
            return self.push_row_with(row, 0, fault, headers);
        }
        let (key, origin, partition) = (key.as_deref(), topic.as_str(), "0");
        let letter = Letter { payload, key, headers, arrived_at: None, fault, origin, partition, offset: 0 };
        self.push_at(&letter, false)
    }

    fn report(&mut self, letter: &Letter<'_>, has_position: bool) {
        let console = &self.run.console;
        let line = || {
            let fault = letter.fault;
            let place = match letter.partition {
                // A metric has its name alone.
                _ if !has_position => letter.origin.to_owned(),
                // A file has no partitions.
                "0" if letter.headers.is_none() => format!("{}:{}", letter.origin, letter.offset),
                partition => format!("{}/{partition}@{}", letter.origin, letter.offset),
            };
            let (origin, partition, offset) = (letter.origin, letter.partition, letter.offset);
            let error_type = fault.error_type.name();
            console.report(&Faulty { position: place, origin, partition, offset, error_type }, &fault.message);
        };
        self.reported += 1;
        match self.run.report {
            Report::All => line(),
            // Nothing but the summary is wanted.
            Report::First(0) => {}
            Report::First(limit) if self.reported <= limit => line(),
            Report::First(limit) => {
                let now = self.run.clock.now();
                if self.reported == limit + 1 {
                    console.say("more faulty records: one line a minute from here on (--report all, --dlq FILE)");
                    self.next_report = now + REPORT_EVERY;
                } else if now >= self.next_report {
                    console.say(format!("{} faulty records so far", self.reported));
                    self.next_report = now + REPORT_EVERY;
                }
            }
        }
    }

    /// Does what is due by the clock.
    pub fn tick(&mut self) -> Result<()> {
        self.flush_due()?;
        self.output().map_or(Ok(()), Output::tick)?;
        self.take_bounced();
        Ok(())
    }

    /// Writes what has been held for long enough: a batch of one letter costs as much as a hundred rows.
    pub fn flush_due(&mut self) -> Result<()> {
        let is_held = matches!(self.outlet, Outlet::Unopened(_));
        if !is_held && self.since.is_some_and(|since| since.elapsed() >= Run::LINGER) { self.flush() } else { Ok(()) }
    }

    /// Writes what is held.
    pub fn flush(&mut self) -> Result<()> {
        if !self.builder.is_empty() {
            self.open()?;
        }
        if let (Outlet::Open(output), false) = (&mut self.outlet, self.builder.is_empty()) {
            self.since = None;
            let letters = self.builder.finish()?;
            let refused = output.write(&letters)?;
            output.flush()?;
            refused.iter().for_each(|refusal| self.lose(&refusal.fault, is_of_output(&letters, refusal.row)));
            self.take_bounced();
        }
        Ok(())
    }

    /// Letters that brokers could not be given, however short.
    fn take_bounced(&mut self) {
        let bounced = self.output().map_or(vec![], Output::bounced);
        for lost in &bounced {
            self.lose(&lost.fault, lost.row.as_ref().is_some_and(|letter| is_of_output(letter, 0)));
        }
    }

    /// A letter for which there is no place: said once, and counted.
    fn lose(&mut self, fault: &Fault, of_output: bool) {
        match of_output {
            true => self.lost.of_outputs += 1,
            false => self.lost.of_stage += 1,
        }
        if self.lost.total() == 1 {
            let name = self.output().map_or("", |output| output.name()).to_owned();
            self.run.console.warn(format!("{name}: a dead letter cannot be written and is dropped: {}", fault.message));
        }
    }

    /// Writes what is held, and makes all letters so far safe.
    pub fn settle(&mut self) -> Result<()> {
        self.flush()?;
        self.output().map_or(Ok(()), Output::settle)?;
        self.take_bounced();
        Ok(())
    }

    /// Ends the output at a proven end; says what became of it, if there is one.
    pub fn finish(&mut self, end: &End) -> Result<Option<OutputReport>> {
        self.flush()?;
        self.open()?;
        if !self.is_written() {
            return Ok(None);
        }
        let Outlet::Open(output) = std::mem::replace(&mut self.outlet, Outlet::Ended) else { return Ok(None) };
        if self.lost.total() > 1 {
            let (name, lost) = (output.name(), self.lost.total());
            self.run.console.warn(format!("{name}: {lost} dead letters in all cannot be written and are dropped"));
        }
        output.finish(end).map(Some)
    }

    /// `FutureTimestampError 41, ParseError 2`: for the summary.
    pub fn describe(&self) -> String {
        let each: Vec<_> = self.counts.iter().map(|(error_type, n)| format!("{} {n}", error_type.name())).collect();
        each.join(", ")
    }
}

/// A run that ends in an error has still found these letters dead.
impl Drop for DeadLetters {
    fn drop(&mut self) {
        // The error that ended the run is the one to report.
        let _ = self.flush();
    }
}

/// The raw record of a row, where the batch has it.
fn raw_of(batch: &RecordBatch, row: usize) -> Option<&[u8]> {
    let column = batch.column_by_name(RAW).filter(|column| column.is_valid(row))?;
    let lent = || column.as_binary_view_opt().map(|lent| lent.value(row));
    column.as_binary_opt::<i32>().map(|copied| copied.value(row)).or_else(lent)
}

/// Whether a letter is that of a row which an output refused.
fn is_of_output(letters: &RecordBatch, row: usize) -> bool {
    let types = letters.column(column::ERROR_TYPE).as_any_dictionary_opt();
    types.is_some_and(|types| {
        let key = types.normalized_keys()[row];
        types.values().as_string_opt::<i32>().is_some_and(|names| names.value(key) == ErrorType::SinkError.name())
    })
}

/// The row as one line of JSON, properties byte for byte.
fn row_text(batch: &RecordBatch, row: usize) -> Result<String> {
    let mut text = String::new();
    // Without the columns that a stage added for itself.
    let columns = Kind::of(batch.schema_ref()).map_or(batch.num_columns(), |kind| kind.schema().fields().len());
    let batch = batch.project(&(0..columns.min(batch.num_columns())).collect::<Vec<_>>())?;
    crate::format::jsonl::Objects::try_new(&batch)?.write(row, &mut text);
    Ok(text)
}
