//! The state of a mapper: the resolved flags, and the output that rows go to.

use super::build::Builder;
use super::envelope::{Envelope, Value};
use super::future::FutureCheck;
use super::mapped::{Facts, RecordTimes};
use super::options::Options;
use super::partitions::PartitionIndex;
use super::path::Path;
use super::when::TimeExpr;
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
    /// The event time (µs) from which on no time is too early.
    pub(super) earliest: i64,
    /// The expression that gives the event time instead.
    pub(super) expr: Option<TimeExpr>,
    /// All partitions, if a flag maps the partition and `--partitions` names them.
    pub(super) partitions: Option<Vec<String>>,
    pub(super) options: Options,
}

/// The output of rows, and memory that is reused for each record.
pub(super) struct MapperState {
    pub(super) builder: Builder,
    pub(super) properties: String,
    pub(super) parsers: [Parser; 3],
    /// The partitions that records name; a group is the partition of their input.
    pub(super) named: PartitionIndex,
    pub(super) facts: Facts,
    pub(super) times: RecordTimes,
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
