//! What the mapping flags say, and how large batches are.

use super::when::When;
use crate::error::{Error, Result};
use crate::kind::event::{COLUMNS, column};

/// Rows in a batch at the most: half as many cost 5 to 10 % more of a whole run, because each batch has its own columns to
/// allocate and its own frame.
pub const BATCH_ROWS: usize = 2048;
/// Bytes of text in a batch at the most, about: what a stage holds of it more than once stays small.
pub const BATCH_BYTES: usize = 1 << 20;

/// What happens to the provenance a record brings along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provenance {
    /// evt-ingest: always ours; what the record had becomes a property.
    #[default]
    Overwrite,
    /// Every other tool: kept where a record carries origin, partition, offset and stream_time, each of its type; any other
    /// record is stamped anew, and what it had becomes a property.
    Keep,
}

/// Where an event's time comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TimeFrom {
    /// `server_timestamp`, or `event_time` where the record brings only that.
    #[default]
    Default,
    /// This column or property path, and nothing else.
    Field(String),
    /// The run's own clock.
    Arrival,
    /// As `Default`, and the run's own clock where there is no time: for validation alone.
    Optional,
    /// As `Default`, and the run's own clock where not even the first record has a time: to be looked at.
    Untimed,
}

/// What becomes of the raw record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepRaw {
    /// Nothing.
    #[default]
    No,
    /// It is a column of views into what was read, for the stage itself ([`event::lent_raw_field`]).
    ///
    /// [`event::lent_raw_field`]: crate::kind::event::lent_raw_field
    Within,
    /// It is a column that goes with the row.
    Column,
    /// The same where records that carry stamps bring it as a field: `raw`, or `raw_base64` where it is no text.
    Brought,
}

/// Everything the mapping flags say.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--field COLUMN=PATH`: columns copied from elsewhere in the record.
    pub fields: Vec<(String, String)>,
    /// `--set COLUMN=TEXT`: columns with one value.
    pub sets: Vec<(String, String)>,
    /// `--time`.
    pub time: TimeFrom,
    /// How times that are not RFC 3339 are read.
    pub when: When,
    /// `--hash-ids`: a string that is no UUID becomes UUIDv5(source, text).
    pub hash_ids: bool,
    /// `--partitions`: all that `--field` or `--set` will name.
    pub partitions: Option<Vec<String>>,
    /// `--require`: columns and property paths that must be there.
    pub require: Vec<String>,
    /// What happens to provenance in the record.
    pub provenance: Provenance,
    /// Whether batches get a column with the raw record.
    pub keep_raw: KeepRaw,
    /// Whether batches get a column with the headers of their records ([`headers`](crate::kind::headers)).
    pub headers: bool,
    /// Whether batches get a column that says whose properties surely name nothing twice ([`event::distinct_field`]).
    ///
    /// [`event::distinct_field`]: crate::kind::event::distinct_field
    pub distinct: bool,
    /// `--max-future` (µs).
    pub max_future: Option<i64>,
    /// Whether the place's arrival is the `server_timestamp` whatever the record says; its own stays a property (HTTP).
    pub stamped_at_arrival: bool,
    /// Properties that the stage reads: batches get a column for each (`event::watched_field`).
    pub watch: Vec<String>,
    /// A bit for each of the watched properties that is read as text and has, in all likelihood, few values: its column is
    /// then a dictionary.
    pub coded: u32,
    /// Where only the watched properties and some columns are read.
    pub lean: Option<Lean>,
}

/// The columns that are read, as bits: the others are left blank, and not copied. Positions and times are always there.
#[derive(Clone, Copy, Debug)]
pub struct Lean {
    /// Those that are read.
    pub columns: u32,
    /// Of those, the ones read as text that have few values: dictionaries then, where that is built.
    pub coded: u32,
}

/// Index of the column called `name`; exit 2 if an event has none.
pub(super) fn column_index(flag: &str, name: &str) -> Result<usize> {
    let index = COLUMNS.iter().position(|column| *column == name).ok_or_else(|| {
        Error::usage(format!("{flag} {name}: an event has no such column: one of {}", COLUMNS.join(" ")))
    })?;
    match index {
        column::PROPERTIES | column::EVENT_TIME | column::STREAM_TIME => {
            Err(Error::usage(format!("{flag} {name}: this column is made by evt{}", way_out(index))))
        }
        _ => Ok(index),
    }
}

fn way_out(index: usize) -> &'static str {
    if index == column::EVENT_TIME { "; --time FIELD says where the event time stands" } else { "" }
}
