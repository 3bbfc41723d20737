//! The state of a mapper: the resolved flags, and the output that rows go to.

use super::build::Builder;
use super::envelope::{Envelope, Value};
use super::future::{FutureCheck, Lookahead};
use super::options::Options;
use super::path::Path;
use crate::error::Error;
use crate::kind::dead::{ErrorType, Fault};
use crate::time::Parser;

/// The stamps that a record carries.
#[derive(Clone, Copy)]
pub(super) struct Stamps {
    pub(super) offset: i64,
    pub(super) stream_time: i64,
    pub(super) ingested_at: Option<i64>,
    pub(super) schema_id: Option<i64>,
}

/// The columns that records had, and the defaults that the mapper has used in some record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Defaults {
    /// Some record had no `source`.
    pub source: bool,
    /// Some record had no `event_type`.
    pub event_type: bool,
    /// A bit for each column that some record or a flag filled; `None` without records.
    pub filled: Option<u32>,
}

/// A field that a flag names.
pub(super) struct NamedPath {
    /// Its name as written.
    pub(super) name: String,
    pub(super) path: Path,
}

/// A column whose value comes from another field (`--field`).
pub(super) struct CopiedColumn {
    /// The index of the column.
    pub(super) column: usize,
    pub(super) path: Path,
}

/// A column with one value for all records (`--set`).
pub(super) struct SetColumn {
    /// The index of the column.
    pub(super) column: usize,
    pub(super) text: String,
}

/// The mapping flags, resolved.
pub(super) struct Plan {
    pub(super) copies: Vec<CopiedColumn>,
    pub(super) sets: Vec<SetColumn>,
    pub(super) require: Vec<NamedPath>,
    /// Bits of the required columns; `None` if a required name is a property or a flag sets a column.
    pub(super) required: Option<u32>,
    /// Whether records may carry stamps.
    pub(super) keeps: bool,
    /// Bits of the columns whose value comes from another field or from a flag.
    pub(super) mapped: u32,
    /// The fields of the event time; the first one with a value is used.
    pub(super) times: Vec<NamedPath>,
    /// All partitions, if a flag maps the partition and `--partitions` names them.
    pub(super) partitions: Option<Vec<String>>,
    pub(super) options: Options,
}

/// The output of rows, and memory that is reused for each record.
pub(super) struct MapperState {
    pub(super) builder: Builder,
    pub(super) properties: String,
    pub(super) parsers: [Parser; 3],
    pub(super) defaults: Defaults,
    pub(super) timed: bool,
    /// The number of records whose id was derived from their position.
    pub(super) made_ids: u64,
    /// Whether some record kept the stamps that it carries.
    pub(super) kept_stamps: bool,
    /// Number of local times that occur twice because the clocks of the zone go back.
    pub(super) doubled: u64,
    /// Whether the first event time has no offset although `--time-zone` is not given. Set only if windows have a zone.
    pub(super) is_local: Option<bool>,
    /// Whether the first record had no time, so that no record needs one
    /// ([`TimeFrom::Untimed`](super::TimeFrom::Untimed)).
    pub(super) clocked: bool,
    /// Records that wait for their `--max-future` verdict.
    pub(super) lookahead: Option<Lookahead>,
    /// Bits of the columns whose own field became a property because the column has another value.
    pub(super) shadowed: u32,
}

impl Plan {
    /// Returns the first field of the event time with a value, else the first one.
    #[inline]
    pub(super) fn time(&self, envelope: &Envelope<'_, '_>) -> &NamedPath {
        let has_value = |field: &&NamedPath| match &field.path {
            Path::Column(index) if self.set(*index).is_some() => true,
            path => path.value(envelope) != Value::Absent,
        };
        match &self.times[..] {
            [one] => one,
            several => several.iter().find(has_value).unwrap_or(&self.times[0]),
        }
    }

    /// Returns the fault of a record that lacks a name of `--require`.
    #[inline(never)]
    pub(super) fn missing(&self, envelope: &Envelope<'_, '_>) -> Option<Fault> {
        let missing = self.require.iter().find(|NamedPath { path, .. }| {
            let set = path.column().is_some_and(|index| self.set(index).is_some());
            !set && path.value(envelope) == Value::Absent
        })?;
        Some(Fault::new(ErrorType::EnvelopeError, format!("{}: required, but missing or null", missing.name)))
    }

    pub(super) fn set(&self, index: usize) -> Option<&str> {
        self.sets.iter().find(|set| set.column == index).map(|set| set.text.as_str())
    }

    /// Returns the field of a column if no flag maps the column.
    pub(super) fn own_field<'a>(&self, index: usize, envelope: &Envelope<'a, '_>) -> Value<'a> {
        if self.mapped >> index & 1 == 0 { envelope.field(index) } else { Value::Absent }
    }

    pub(super) fn is_copied(&self, index: usize) -> bool {
        self.copies.iter().any(|copied| copied.column == index)
    }
}

/// Why a record yields no row.
pub(super) enum Unmapped {
    Fault(Fault),
    NoTime,
    Pending(FutureCheck),
    Error(Error),
}

impl From<Fault> for Box<Unmapped> {
    fn from(fault: Fault) -> Self {
        Box::new(Unmapped::Fault(fault))
    }
}

/// A value or a refusal; the refusal is boxed because it is rare and values are small.
pub(super) type RowResult<T> = std::result::Result<T, Box<Unmapped>>;
