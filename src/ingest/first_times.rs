//! The first records of files and of standard input. If none of them has a readable time, a flag is missing, and the run ends before
//! anything is written.

use crate::error::Error;
use crate::kind::dead::{ErrorType, Fault};
use crate::mapping::RecordMeta;

/// The number of records of an input among which one must have a readable time.
const RECORDS: u64 = 100;

/// Looks for the first record with a readable time. An input that never ends is not looked at.
pub enum FirstTimes {
    /// Some record had one, or the run needs none.
    Found,
    /// No file has been read yet that decides it.
    Waiting,
    /// The records of a file so far have none.
    Looking {
        /// Their number.
        records: u64,
        /// The fault of the first one that lacks a readable time, at its position.
        first: Option<(String, String)>,
    },
    /// A file has none: the run ends.
    Missing,
}

impl FirstTimes {
    /// Whether letters are held back until a record has a readable time.
    pub fn is_looking(&self) -> bool {
        matches!(self, Self::Looking { .. } | Self::Missing)
    }

    /// Ends the holding back of letters, unless the run ends because of it.
    pub fn release(&mut self) {
        if !matches!(self, Self::Missing) {
            *self = Self::Found;
        }
    }

    /// Begins to look, unless a record had a readable time or this input `is_resumed`: an earlier run read its first records.
    pub fn begin(&mut self, is_resumed: bool) {
        if matches!(self, Self::Waiting) && !is_resumed {
            *self = Self::Looking { records: 0, first: None };
        }
    }

    /// Notes the fault of a record.
    #[cold]
    pub fn note(&mut self, fault: &Fault, meta: &RecordMeta<'_>) {
        if let Self::Looking { first: first @ None, .. } = self
            && fault.error_type == ErrorType::TimestampError
        {
            *first = Some((format!("{}:{}", meta.input, meta.offset), fault.message.to_string()));
        }
    }

    /// Counts a record; `is_found`: it or one before it had a readable time. Errors: exit status 2 if as many records as are looked
    /// at have none.
    #[cold]
    pub fn count(&mut self, is_found: bool) -> Result<(), Error> {
        if is_found {
            *self = Self::Found;
        }
        let Self::Looking { records, .. } = self else { return Ok(()) };
        *records += 1;
        if *records < RECORDS { Ok(()) } else { self.end() }
    }

    /// Ends an input. Errors: exit status 2 if its records lack a readable time.
    pub fn end(&mut self) -> Result<(), Error> {
        let Self::Looking { records, first } = self else { return Ok(()) };
        let (records, first) = (*records, first.take());
        let Some((place, message)) = first else {
            // Its records have other faults.
            *self = if records < RECORDS { Self::Waiting } else { Self::Found };
            return Ok(());
        };
        let which = match records {
            1 => "the only record has no".to_owned(),
            RECORDS => format!("none of the first {records} records has a"),
            _ => format!("none of the {records} records has a"),
        };
        *self = Self::Missing;
        Err(Error::usage(format!("{which} readable time: {message}")).at(place))
    }
}
