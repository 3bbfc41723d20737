//! The mapping flags as options, and the limits of a batch.

use super::when::{TimeExpr, When};
use crate::error::{Error, Result};
use crate::kind::event::{COLUMNS, column};
use crate::time::Zone;

/// Maximum rows in a batch. Half as many cost 5 to 10 % more of a whole run, because each batch allocates its own
/// columns and needs its own frame.
pub const BATCH_ROWS: usize = 2048;
/// Approximate maximum of text bytes in a batch. A stage holds several copies of a batch's text, so this bounds its
/// memory.
pub const BATCH_BYTES: usize = 1 << 20;

/// The treatment of the provenance columns that a record carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provenance {
    /// evt-ingest: always overwritten; the record's own values become properties.
    #[default]
    Overwrite,
    /// Every other tool: kept if a record carries origin, partition, offset and stream_time, each of its type. Any
    /// other record is stamped anew, and its own values become properties.
    Keep,
}

/// The source of an event's time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TimeFrom {
    /// `server_timestamp`, or `event_time` if the record has only that.
    #[default]
    Default,
    /// This column or property path, and nothing else.
    Field(String),
    /// The value of this expression ([`TimeExpr`]).
    Expr(String),
    /// The clock of the run.
    Arrival,
    /// As `Default`, or the clock of the run if the record has no time. For validation only.
    Optional,
    /// As `Default`, or the clock of the run if not even the first record has a time. For evt-view.
    Untimed,
}

impl TimeFrom {
    /// Parses `--time`: `arrival`, `=EXPR`, or a column or path.
    ///
    /// Errors: exit status 2 if the expression is none, or gives no time.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text.strip_prefix('=') {
            Some(expr) => TimeExpr::parse(expr).map(|_| Self::Expr(expr.to_owned()))?,
            None if text == "arrival" => Self::Arrival,
            None => Self::Field(text.to_owned()),
        })
    }

    /// Returns the name of the field with the event time, for messages.
    pub fn field(&self) -> &str {
        match self {
            TimeFrom::Field(name) => name,
            TimeFrom::Expr(_) => "the time",
            _ => COLUMNS[column::SERVER_TIMESTAMP],
        }
    }

    /// Whether the time of a record is read from its fields, so that the flags are at fault if no record has a readable
    /// time.
    pub fn is_read(&self) -> bool {
        matches!(self, TimeFrom::Default | TimeFrom::Field(_) | TimeFrom::Expr(_) | TimeFrom::Untimed)
    }
}

/// The column in which a batch keeps the raw records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepRaw {
    /// No column.
    #[default]
    No,
    /// A column of views into the read buffers, for use inside the stage ([`event::shared_raw_field`]).
    ///
    /// [`event::shared_raw_field`]: crate::kind::event::shared_raw_field
    Within,
    /// A column that is written with the row.
    Column,
    /// As `Column`, but the raw record of a record with stamps is its field `raw`, or `raw_base64` if it is not text.
    FromInput,
}

/// The parts of a record, beside its value, that rows keep as columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordParts {
    /// None.
    #[default]
    None,
    /// Its headers ([`headers`](crate::kind::headers)).
    Headers,
    /// Its headers, its key and its timestamp ([`record_parts`](crate::kind::record_parts)).
    All,
}

/// All mapping flags.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--field COLUMN=PATH`: columns copied from another field.
    pub fields: Vec<(String, String)>,
    /// `--set COLUMN=TEXT`: columns with one value.
    pub sets: Vec<(String, String)>,
    /// `--time`.
    pub time: TimeFrom,
    /// The unit, format and zone of times that are not RFC 3339.
    pub when: When,
    /// `--plain`: no field of a record fills a column because of its name.
    pub plain: bool,
    /// `--hash-ids`: an id that is not a UUID becomes UUIDv5(source, text).
    pub hash_ids: bool,
    /// `--partitions`: all partitions that `--field` or `--set` may name.
    pub partitions: Option<Vec<String>>,
    /// `--require`: columns and property paths that must have a value.
    pub require: Vec<String>,
    /// The treatment of the provenance columns that a record carries.
    pub provenance: Provenance,
    /// Whether batches get a column with the raw record.
    pub keep_raw: KeepRaw,
    /// The parts of their records that batches get columns for.
    pub parts: RecordParts,
    /// `--min-time` (µs). Without it numbers of 0 and more whose unit is given are from 1980.
    pub min_time: Option<i64>,
    /// `--max-future` (µs).
    pub max_future: Option<i64>,
    /// Whether the arrival is the `server_timestamp` whatever the record says; the record's own stays a property
    /// (HTTP).
    pub stamped_at_arrival: bool,
    /// The zone of the windows that events are counted in, if they have one.
    pub window_zone: Option<Zone>,
    /// Whether a second input is read with the same flags, and only one of the two may have stamps (evt-reconcile).
    pub is_compared: bool,
    /// Whether `ingested_at` is the time at which a broker appended the record, if it is known (evt-reconcile).
    pub ingested_at_arrival: bool,
    /// The columns and properties that the stage reads.
    pub reads: ReadColumns,
}

/// The columns and properties that a stage reads: the mapping prepares them, and may leave out the others.
#[derive(Clone, Debug, Default)]
pub struct ReadColumns {
    /// The properties that expressions read: batches get a column for each (`event::watched_field`).
    pub properties: Vec<String>,
    /// A bit per such property that is read as text and probably has few values: its column is then a dictionary.
    pub dictionaries: u32,
    /// The columns that are read, if only they and these properties are.
    pub columns: Option<Projection>,
    /// Whether batches get a column that marks the rows whose properties certainly contain no name twice
    /// ([`event::distinct_field`]).
    ///
    /// [`event::distinct_field`]: crate::kind::event::distinct_field
    pub distinct_names: bool,
    /// Whether batches also keep the text of each record, so that a row can get the columns that were left out
    /// ([`RowCompleter`](super::RowCompleter)).
    pub completes_rows: bool,
}

impl Options {
    /// Whether the fields of a record fill the columns of their names, and its row depends on no other record. The
    /// fields of its times are [`Options::time`].
    pub fn maps_by_name(&self) -> bool {
        let Self { fields, sets, plain, require, min_time, max_future, stamped_at_arrival, keep_raw, reads, .. } = self;
        fields.is_empty()
            && sets.is_empty()
            && !plain
            && require.is_empty()
            && min_time.is_none()
            && max_future.is_none()
            && !stamped_at_arrival
            && *keep_raw == KeepRaw::No
            && reads.properties.is_empty()
    }
}

/// The columns that are read, as bits. The others stay blank and are not copied. Positions and times are always filled.
#[derive(Clone, Copy, Debug)]
pub struct Projection {
    /// The columns that are read.
    pub columns: u32,
    /// Of those, the columns read as text that probably have few values: they are built as dictionaries.
    pub dictionaries: u32,
}

/// Returns the index of the column called `name`.
///
/// Errors: exit status 2 if an event has no such column, or evt fills it.
pub(super) fn column_index(flag: &str, name: &str) -> Result<usize> {
    let index = COLUMNS
        .iter()
        .position(|column| *column == name)
        .ok_or_else(|| Error::usage(format!("{flag} {name}: expected one of {}", COLUMNS.join(" "))))?;
    match index {
        column::PROPERTIES | column::EVENT_TIME | column::STREAM_TIME => {
            Err(Error::usage(format!("{flag} {name}: evt sets this column{}", remedy(index))))
        }
        _ => Ok(index),
    }
}

fn remedy(index: usize) -> &'static str {
    if index == column::EVENT_TIME { "; --time FIELD selects the event time" } else { "" }
}

impl Options {
    /// Whether a flag maps the partition or the origin of records.
    pub fn maps_partition(&self) -> bool {
        self.maps("partition") || self.maps("origin")
    }

    /// Whether a flag maps a column.
    pub fn maps(&self, column: &str) -> bool {
        self.fields.iter().chain(&self.sets).any(|(name, _)| name == column)
    }
}
