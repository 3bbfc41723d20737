//! The first records of files and of standard input. If none of them has a readable time, a flag is missing, and the
//! run ends before anything is written.

use crate::console::Console;
use crate::error::Error;
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::event::column;
use crate::mapping::{self, RecordMeta, TimeSamples, TimeUnit};
use crate::time::format_instant;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;

/// The number of records of an input among which one must have a readable time.
const RECORDS: u64 = 100;

/// Looks for the first record with a readable time. An input that never ends is not looked at.
pub struct FirstTimes {
    state: State,
    /// The name of the field with the event time.
    time: String,
    /// What the records say whose times are not readable.
    samples: TimeSamples,
    /// `--time-unit`, until the first rows were looked at.
    unit: Option<TimeUnit>,
}

enum State {
    /// Some record had one, or the run needs none.
    Found,
    /// No file has been read yet that decides it.
    Waiting,
    /// The records of a file so far have none.
    Looking {
        /// Their number.
        records: u64,
        /// The first one that lacks a readable time.
        first: Option<Unreadable>,
    },
    /// A file has none: the run ends.
    Missing,
}

/// A record without a readable time.
struct Unreadable {
    /// Its position, as in `in.jsonl:1`.
    position: String,
    fault: Fault,
}

impl FirstTimes {
    /// Begins before the first record.
    pub fn new(options: &mapping::Options) -> Self {
        let is_read = options.time.is_read();
        Self {
            state: if is_read { State::Waiting } else { State::Found },
            time: options.time.field().to_owned(),
            samples: TimeSamples::default(),
            unit: options.when.unit.filter(|_| is_read),
        }
    }

    /// Returns the name of the field with the event time.
    pub fn field(&self) -> &str {
        &self.time
    }

    /// Whether letters are held back until a record has a readable time.
    pub fn is_looking(&self) -> bool {
        matches!(self.state, State::Looking { .. } | State::Missing)
    }

    /// Ends the holding back of letters, unless the run ends because of it.
    pub fn release(&mut self) {
        if !matches!(self.state, State::Missing) {
            self.state = State::Found;
        }
    }

    /// Begins to look, unless a record had a readable time or this input `is_resumed`: an earlier run read its first records.
    pub fn begin(&mut self, is_resumed: bool) {
        if matches!(self.state, State::Waiting) && !is_resumed {
            self.state = State::Looking { records: 0, first: None };
            self.samples = TimeSamples::default();
        }
    }

    /// Notes the fault of a record.
    #[cold]
    pub fn note(&mut self, fault: &Fault, meta: &RecordMeta<'_>) {
        if let State::Looking { first: first @ None, .. } = &mut self.state
            && fault.error_type == ErrorType::TimestampError
        {
            *first = Some(Unreadable { position: format!("{}:{}", meta.input, meta.offset), fault: fault.clone() });
        }
    }

    /// Counts a record with its JSON text, if it has one; `is_found`: it or one before it had a readable time. Errors:
    /// exit status 2 if as many records as are looked at have none.
    #[cold]
    pub fn count(&mut self, is_found: bool, text: Option<&str>) -> Result<(), Error> {
        if is_found {
            self.state = State::Found;
        }
        let State::Looking { records, .. } = &mut self.state else { return Ok(()) };
        *records += 1;
        text.into_iter().for_each(|text| self.samples.add(text));
        if *records < RECORDS { Ok(()) } else { self.end() }
    }

    /// Ends an input. Errors: exit status 2 if its records lack a readable time.
    pub fn end(&mut self) -> Result<(), Error> {
        let State::Looking { records, first } = &mut self.state else { return Ok(()) };
        let (records, first) = (*records, first.take());
        let Some(Unreadable { position, fault }) = first else {
            // Its records have other faults.
            self.state = if records < RECORDS { State::Waiting } else { State::Found };
            return Ok(());
        };
        let which = match records {
            1 => "the only record has no".to_owned(),
            RECORDS => format!("none of the first {records} records has a"),
            _ => format!("none of the {records} records has a"),
        };
        self.state = State::Missing;
        let message = mapping::of_samples(&fault, &self.time, &self.samples);
        Err(Error::usage(format!("{which} readable time: {message}")).at(position))
    }

    /// Warns if the first rows have times of 1970 that another `--time-unit` puts between 1990 and 2100.
    pub fn check_unit(&mut self, rows: &RecordBatch, console: &Console) {
        let Some(unit) = self.unit.take_if(|_| rows.num_rows() > 0) else { return };
        let times = rows.column(column::EVENT_TIME).as_primitive::<TimestampMicrosecondType>().values();
        let times = &times[..times.len().min(RECORDS as usize)];
        if let Some(other) = mapping::other_unit(unit, times) {
            let (first, unit, other) = (format_instant(times[0]), unit.name(), other.name());
            let what = if times.len() == 1 { "the first time is" } else { "the first times are" };
            console.warn(format!("{what} of 1970 ({first}) with --time-unit {unit}; --time-unit {other} may be right"));
        }
    }
}
