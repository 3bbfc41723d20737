//! The first records of files and of standard input. If none of them has a readable time, or none can be read at all, a
//! flag is missing, and the run ends before anything is written.

use evt_core::error::Error;
use evt_core::kind::dead::{ErrorType, Fault, Suspect};
use evt_core::mapping::{self, RecordMeta, SplitTime, TimeFrom, TimeSamples};

/// The number of records of an input among which one must have a readable time.
const RECORDS: u64 = 100;

/// Looks for the first record with a readable time, in inputs that end.
pub struct FirstTimes {
    state: State,
    /// Whether a record must have a readable time; else it is enough that it can be read.
    needs_time: bool,
    /// Whether a comparison reads the records. Unreadable records are no error then, because the comparison reports
    /// them.
    is_compared: bool,
    /// Whether a flag, the name of the input or a line of it tells its format.
    has_format: bool,
    /// The name of the field with the event time.
    time: String,
    /// Samples of the records so far, none of which has a readable time. The error suggests flags from them.
    samples: TimeSamples,
    /// Whether a date without a time of day is a fault if the record has a time of day in another field.
    joins_times: bool,
    /// Whether letters are written: the only record of an input may be one.
    writes_letters: bool,
}

enum State {
    /// A record had a readable time, or the run needs none. No record is looked at any more.
    Found,
    /// No input so far has decided whether a flag is missing.
    Waiting,
    /// No record of the current input has had a readable time so far.
    Looking(Box<FirstRecords>),
    /// The records of an input have no readable time, or cannot be read: the run ends.
    Missing,
}

/// The first records of a file.
#[derive(Default)]
struct FirstRecords {
    /// Their number.
    records: u64,
    /// The number of those with a fault.
    faulty: u64,
    /// The first one with a fault.
    first: Option<FaultyRecord>,
    /// The first one without a readable time.
    untimed: Option<FaultyRecord>,
    /// The number of those that are not in UTF-8.
    foreign: u64,
    /// The number of those with other fields than the header.
    other_fields: u64,
}

/// A record with a fault.
struct FaultyRecord {
    /// Its position, as in `in.jsonl:1`.
    position: String,
    fault: Fault,
}

impl FirstTimes {
    /// Begins before the first record.
    pub fn new(options: &mapping::Options) -> Self {
        let is_read = options.time.is_read();
        let is_compared = options.is_compared;
        Self {
            state: if is_read || !is_compared { State::Waiting } else { State::Found },
            needs_time: is_read,
            is_compared,
            has_format: true,
            time: options.time.field().to_owned(),
            samples: TimeSamples::default(),
            joins_times: is_read && options.time != TimeFrom::Untimed && options.when.format.is_none() && !is_compared,
            writes_letters: false,
        }
    }

    /// Whether letters are held back until a record has a readable time.
    pub fn is_looking(&self) -> bool {
        matches!(self.state, State::Looking { .. } | State::Missing)
    }

    /// Whether no record is looked at any more.
    pub fn is_found(&self) -> bool {
        matches!(self.state, State::Found)
    }

    /// Releases the letters that are held back, unless the run ends because a flag is missing.
    pub fn release(&mut self) {
        if !matches!(self.state, State::Missing) {
            self.state = State::Found;
        }
    }

    /// Begins to look at the records of an input, unless an earlier record had a readable time, or the input
    /// `is_resumed`, so that an earlier run has read its first records.
    pub fn begin(&mut self, is_resumed: bool) {
        if matches!(self.state, State::Waiting) && !is_resumed {
            self.state = State::Looking(Box::default());
            self.samples = TimeSamples::default();
        }
    }

    /// Sets whether a flag, the name of the next input or a line of it tells its format.
    pub fn set_has_format(&mut self, has_format: bool) {
        self.has_format = has_format;
    }

    /// Notes the fault of a record.
    #[cold]
    pub fn note(&mut self, fault: &Fault, meta: &RecordMeta<'_>) {
        let State::Looking(found) = &mut self.state else { return };
        let record = || FaultyRecord { position: format!("{}:{}", meta.input, meta.offset), fault: fault.clone() };
        found.faulty += 1;
        found.foreign += u64::from(fault.suspect == Some(Suspect::Encoding));
        found.other_fields += u64::from(fault.suspect == Some(Suspect::Header));
        found.first.get_or_insert_with(record);
        if self.needs_time && fault.error_type == ErrorType::TimestampError {
            found.untimed.get_or_insert_with(record);
        }
    }

    /// Lets the only record of an input be a dead letter.
    pub fn set_writes_letters(&mut self) {
        self.writes_letters = true;
    }

    /// Takes the field with the event time, which the first record has shown.
    pub fn set_time(&mut self, field: &str) {
        field.clone_into(&mut self.time);
    }

    /// Counts a record with its JSON text, if it has one. `is_found`: this record or an earlier one had a readable
    /// time. Errors: exit status 2 if its time of day is in another field, and after [`RECORDS`] records as
    /// [`FirstTimes::end`].
    #[cold]
    pub fn count(&mut self, is_found: bool, text: Option<&str>, meta: &RecordMeta<'_>) -> Result<(), Error> {
        if is_found {
            let split = text.filter(|_| self.joins_times).and_then(|text| mapping::split_time(text, &self.time));
            if let Some(SplitTime { date, joined, midnight }) = split {
                self.state = State::Missing;
                let message = format!(
                    "{date} is a date, and the time of day is in another field: {joined} joins them, {midnight} takes midnight"
                );
                return Err(Error::usage(message).at(format!("{}:{}", meta.input, meta.offset)));
            }
            self.state = State::Found;
        }
        let State::Looking(found) = &mut self.state else { return Ok(()) };
        found.records += 1;
        text.into_iter().for_each(|text| self.samples.add(text));
        if found.records < RECORDS { Ok(()) } else { self.end() }
    }

    /// Ends an input. Errors: exit status 2 if its records lack a readable time, or cannot be read.
    pub fn end(&mut self) -> Result<(), Error> {
        let State::Looking(found) = &mut self.state else { return Ok(()) };
        let found = std::mem::take(found);
        let may_be_letter = self.writes_letters && self.has_format && found.records == 1;
        let rejection = self.untimed(&found).or_else(|| self.unreadable(&found)).filter(|_| !may_be_letter);
        self.state = match rejection {
            Some(_) => State::Missing,
            None if found.records < RECORDS => State::Waiting,
            None => State::Found,
        };
        rejection.map_or(Ok(()), Err)
    }

    /// Returns the error of records without a readable time.
    fn untimed(&self, found: &FirstRecords) -> Option<Error> {
        let FaultyRecord { position, fault } = found.untimed.as_ref()?;
        let which = match found.records {
            1 => "the only record has no".to_owned(),
            records @ RECORDS => format!("none of the first {records} records has a"),
            records => format!("none of the {records} records has a"),
        };
        let message = mapping::of_samples(fault, &self.time, &self.samples);
        Some(Error::usage(format!("{which} readable time: {message}")).at(position))
    }

    /// Returns the error of records of which none can be read, with the flag that may be missing. Fewer than
    /// [`RECORDS`] faulty records of a known format become dead letters if no flag would make them readable.
    fn unreadable(&self, found: &FirstRecords) -> Option<Error> {
        let FirstRecords { records, faulty, .. } = *found;
        let FaultyRecord { position, fault } =
            found.first.as_ref().filter(|_| faulty == records && !self.is_compared)?;
        let remedy = if !self.has_format {
            "; the format is none that evt recognises: -f FORMAT names it, -f regex:PATTERN reads any lines"
        } else if found.foreign == records && records > 1 {
            "; --encoding windows-1252 reads text that is not UTF-8"
        } else if found.other_fields == records && records > 1 {
            "; the first line does not fit the records: tail -n +2 leaves out a comment above the header, --header NAMES names the \
             fields"
        } else if records < RECORDS {
            return None;
        } else {
            ""
        };
        let which = match records {
            1 => "the only record cannot be read".to_owned(),
            RECORDS => format!("none of the first {records} records can be read"),
            _ => format!("none of the {records} records can be read"),
        };
        Some(Error::usage(format!("{which}: {}{remedy}", fault.message)).at(position))
    }
}
