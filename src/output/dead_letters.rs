//! Dead letters of a stage: written to `--dlq`, or reported and counted as dropped.

use super::{Output, OutputReport};
use crate::console::Faulty;
use crate::counts::Counts;
use crate::error::Result;
use crate::frame::End;
use crate::ingest::Dead;
use crate::kafka::produce::Bounced;
use crate::kind::dead::{ErrorType, Fault, Letter, column};
use crate::kind::headers::Headers;
use crate::kind::letters::Builder;
use crate::op::row_letter::with_letter;
use crate::run::{Report, Run};
use arrow::array::{Array, ArrayAccessor, ArrayRef, AsArray, RecordBatch, StringArray, TypedDictionaryArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;
use arrow::datatypes::Int64Type;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

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
    held: Held,
    /// Letters of the stage, which come behind those that are held.
    builder: Builder,
    reported: u64,
    next_report: i64,
    /// Letters that no output could hold, however short.
    lost: Lost,
    counts: BTreeMap<ErrorType, u64>,
    /// Letters of records that the source could not make rows of.
    from_source: u64,
    hold: Option<Hold>,
}

/// Letters that wait to be written together.
#[derive(Default)]
struct Held {
    batches: Vec<RecordBatch>,
    /// Letters among them and in the builder, and their bytes.
    rows: usize,
    bytes: usize,
    /// When the first of them came.
    since: Option<Duration>,
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
    waiting: VecDeque<(u64, RecordBatch)>,
}

/// What a line says of a letter.
struct Reported<'a> {
    error_type: ErrorType,
    message: &'a str,
    origin: &'a str,
    partition: &'a str,
    /// None where it goes by its name alone.
    offset: Option<i64>,
    has_headers: bool,
}

/// The same for each letter of a batch.
struct Reports<'a> {
    error_types: Texts<'a>,
    messages: &'a StringArray,
    origins: Texts<'a>,
    partitions: Texts<'a>,
    offsets: &'a [i64],
    headers: &'a ArrayRef,
}

type Texts<'a> = TypedDictionaryArray<'a, Int32Type, StringArray>;

impl<'a> Reports<'a> {
    fn of(letters: &'a RecordBatch) -> Self {
        let texts = |index: usize| {
            let dictionary = letters.column(index).as_dictionary::<Int32Type>();
            dictionary.downcast_dict::<StringArray>().expect("a letter's column of texts")
        };
        Self {
            error_types: texts(column::ERROR_TYPE),
            messages: letters.column(column::ERROR_MESSAGE).as_string(),
            origins: texts(column::SOURCE_TOPIC),
            partitions: texts(column::PARTITION),
            offsets: letters.column(column::OFFSET).as_primitive::<Int64Type>().values(),
            headers: letters.column(column::HEADERS),
        }
    }

    fn row(&self, row: usize) -> Reported<'a> {
        Reported {
            error_type: ErrorType::from_name(self.error_types.value(row)).unwrap_or(ErrorType::ParseError),
            message: self.messages.value(row),
            origin: self.origins.value(row),
            partition: self.partitions.value(row),
            offset: Some(self.offsets[row]),
            has_headers: self.headers.is_valid(row),
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
            held: Held::default(),
            builder,
            reported: 0,
            next_report: i64::MIN,
            lost: Lost::default(),
            counts,
            from_source: 0,
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

    /// Takes letters of the source.
    pub fn take(&mut self, dead: &Dead) -> Result<()> {
        let Some(hold) = &mut self.hold else {
            self.from_source += dead.letters.num_rows() as u64;
            return self.push_batch(&dead.letters);
        };
        let end = hold.end;
        let released = dead.after.partition_point(|rows| *rows < end);
        hold.waiting.extend((released..dead.after.len()).map(|row| (dead.after[row], dead.letters.slice(row, 1))));
        self.from_source += released as u64;
        self.push_batch(&dead.letters.slice(0, released))
    }

    /// Takes the letters that waited and come before row number `end`, counted from 0.
    pub fn release_before(&mut self, end: u64) -> Result<()> {
        let Some(hold) = &mut self.hold else { return Ok(()) };
        hold.end = hold.end.max(end);
        let count = hold.waiting.partition_point(|(rows, _)| *rows < end);
        let released: Vec<_> = hold.waiting.drain(..count).collect();
        self.from_source += count as u64;
        released.iter().try_for_each(|(_, letter)| self.push_batch(letter))
    }

    fn push_batch(&mut self, letters: &RecordBatch) -> Result<()> {
        if letters.num_rows() == 0 {
            return Ok(());
        }
        let faults = Reports::of(letters);
        for row in 0..letters.num_rows() {
            let report = faults.row(row);
            *self.counts.entry(report.error_type).or_default() += 1;
            if !self.is_written() || self.run.report == Report::All {
                self.report(&report);
            }
        }
        if self.is_written() {
            self.end_batch()?;
            self.held.batches.push(letters.clone());
            self.hold_on(letters.num_rows(), payload_bytes(letters))?;
        }
        Ok(())
    }

    /// Takes one letter, of something that has a position or goes by its name alone.
    fn push(&mut self, letter: &Letter<'_>, has_position: bool) -> Result<()> {
        *self.counts.entry(letter.fault.error_type).or_default() += 1;
        if !self.is_written() || self.run.report == Report::All {
            self.report(&Reported {
                error_type: letter.fault.error_type,
                message: &letter.fault.message,
                origin: letter.origin,
                partition: letter.partition,
                offset: has_position.then_some(letter.offset),
                has_headers: letter.headers.is_some(),
            });
        }
        if self.is_written() {
            let before = self.builder.bytes();
            self.builder.push(letter, self.run.clock.now())?;
            self.hold_on(1, self.builder.bytes() - before)?;
        }
        Ok(())
    }

    /// Letters of the stage come behind those of the source that are held.
    fn end_batch(&mut self) -> Result<()> {
        if !self.builder.is_empty() {
            self.held.batches.push(self.builder.finish()?);
        }
        Ok(())
    }

    /// Holds so many letters more, unless they are too many.
    fn hold_on(&mut self, rows: usize, bytes: usize) -> Result<()> {
        let held = &mut self.held;
        held.rows += rows;
        held.bytes += bytes;
        held.since.get_or_insert(self.run.clock.monotonic());
        if held.rows >= HELD_ROWS || held.bytes >= HELD_BYTES { self.flush() } else { Ok(()) }
    }

    /// Takes the letter of a row of the stage.
    pub fn push_row(&mut self, batch: &RecordBatch, row: usize, fault: &Fault) -> Result<()> {
        with_letter(batch, row, fault, None, |letter, has_position| self.push(letter, has_position))
    }

    /// Counts one more faulty record: dead where letters are written, else dropped.
    pub fn count(&self, counts: &mut Counts) {
        if self.is_written() {
            counts.dead += 1;
        } else {
            counts.dropped += 1;
        }
    }

    /// Takes the letter of a row that an output took and refused later.
    pub fn push_bounced(&mut self, bounced: &Bounced) -> Result<()> {
        let Bounced { row, fault, payload, key, headers, topic } = bounced;
        let headers = headers.is_some().then_some(bounced as &dyn Headers);
        if let Some(row) = row {
            return with_letter(row, 0, fault, headers, |letter, has_position| self.push(letter, has_position));
        }
        let (key, origin, partition) = (key.as_deref(), topic.as_str(), "0");
        let letter = Letter { payload, key, headers, arrived_at: None, fault, origin, partition, offset: 0 };
        self.push(&letter, false)
    }

    fn report(&mut self, reported: &Reported<'_>) {
        let console = &self.run.console;
        let line = || {
            let Reported { error_type, message, origin, partition, offset, has_headers } = *reported;
            let position = match (partition, offset) {
                // A metric has its name alone.
                (_, None) => origin.to_owned(),
                // A file has no partitions.
                ("0", Some(offset)) if !has_headers => format!("{origin}:{offset}"),
                (partition, Some(offset)) => format!("{origin}/{partition}@{offset}"),
            };
            let (offset, error_type) = (offset.unwrap_or(0), error_type.name());
            console.report(&Faulty { position, origin, partition, offset, error_type }, message);
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
                    console.say("more faulty records; one line per minute from now on (--report all, --dlq FILE)");
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
        if !is_held
            && self.held.since.is_some_and(|since| self.run.clock.monotonic().saturating_sub(since) >= Run::LINGER)
        {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Writes what is held.
    pub fn flush(&mut self) -> Result<()> {
        self.end_batch()?;
        if self.held.batches.is_empty() {
            return Ok(());
        }
        self.open()?;
        let held = std::mem::take(&mut self.held).batches;
        let Outlet::Open(output) = &mut self.outlet else { return Ok(()) };
        let letters = match held.as_slice() {
            [letters] => letters.clone(),
            several => concat_batches(&several[0].schema(), several)?,
        };
        let refused = output.write(&letters)?;
        output.flush()?;
        refused.iter().for_each(|rejected| self.lose(&rejected.fault, is_of_output(&letters, rejected.row)));
        self.take_bounced();
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
            self.run.console.warn(format!("{name}: {lost} dead letters cannot be written and are dropped"));
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

/// Returns the bytes of the payloads of `letters`. Their arrays may be slices of larger ones.
fn payload_bytes(letters: &RecordBatch) -> usize {
    let offsets = letters.column(column::ORIGINAL_PAYLOAD).as_binary::<i32>().value_offsets();
    offsets.first().zip(offsets.last()).map_or(0, |(first, last)| (last - first) as usize)
}

/// Whether a letter is that of a row which an output refused.
fn is_of_output(letters: &RecordBatch, row: usize) -> bool {
    let types = letters.column(column::ERROR_TYPE).as_any_dictionary_opt();
    types.is_some_and(|types| {
        let key = types.normalized_keys()[row];
        types.values().as_string_opt::<i32>().is_some_and(|names| names.value(key) == ErrorType::SinkError.name())
    })
}
