//! What stands behind a mapper: what the flags ask of a record, and where its row goes.

use super::build::Builder;
use super::envelope::{Envelope, Value};
use super::future::{Arrival, Judged, Lookahead};
use super::options::Options;
use super::place::Path;
use crate::error::Error;
use crate::kind::dead::{ErrorType, Fault};
use crate::time::Parser;

/// Where a record stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its exact bytes.
    pub raw: &'a [u8],
    /// Its number in its partition; a file's line.
    pub offset: i64,
    /// The partition it is of where the record does not say: a number of the [`Stamper`].
    pub partition: u32,
    /// When it is read (µs).
    pub now: i64,
    /// Whether `--max-future` has let it pass already.
    pub judged: bool,
    /// When it came to where it is read from, if that place says so.
    pub arrival: Option<Arrival>,
}

/// The stamps that a record carries.
#[derive(Clone, Copy)]
pub(super) struct Stamps {
    pub(super) offset: i64,
    pub(super) stream_time: i64,
    pub(super) ingested_at: Option<i64>,
    pub(super) schema_id: Option<i64>,
}

/// What the mapper said once and for all about defaults it used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Defaults {
    /// Some record had no `source`.
    pub source: bool,
    /// Some record had no `event_type`.
    pub event_type: bool,
}

/// What the flags say, resolved.
pub(super) struct Plan {
    pub(super) copies: Vec<(usize, Path)>,
    pub(super) sets: Vec<(usize, String)>,
    pub(super) require: Vec<(String, Path)>,
    /// Bits of the columns among them; none where one is a property or set by a flag.
    pub(super) required: Option<u32>,
    /// Whether records may carry stamps.
    pub(super) keeps: bool,
    /// Bits of the columns that have the value of another field, or of a flag.
    pub(super) mapped: u32,
    pub(super) time: Path,
    /// All partitions that there will be, where they are mapped and somebody has named them.
    pub(super) promised: Option<Vec<String>>,
    pub(super) options: Options,
}

/// Where rows go, and memory that is used again for each record.
pub(super) struct Out {
    pub(super) builder: Builder,
    pub(super) properties: String,
    pub(super) id: Vec<u8>,
    pub(super) parsers: [Parser; 3],
    pub(super) defaults: Defaults,
    pub(super) timed: bool,
    /// Whether the first record had no time, so that none needs one ([`TimeFrom::Untimed`]).
    pub(super) clocked: bool,
    /// Records that wait for their verdict on `--max-future`.
    pub(super) lookahead: Option<Lookahead>,
    /// Bits of the columns whose field became a property because the column has another value.
    pub(super) shadowed: u32,
}

impl Plan {
    /// The fault of a record that lacks what `--require` asks for.
    #[inline(never)]
    pub(super) fn missing(&self, envelope: &Envelope<'_, '_>) -> Option<Fault> {
        let (name, _) = self.require.iter().find(|(_, path)| {
            let set = path.column().is_some_and(|index| self.set(index).is_some());
            !set && envelope.value(path) == Value::Absent
        })?;
        Some(Fault::new(ErrorType::EnvelopeError, format!("{name}: required, but missing or null")))
    }

    pub(super) fn set(&self, index: usize) -> Option<&str> {
        self.sets.iter().find(|(set, _)| *set == index).map(|(_, text)| text.as_str())
    }

    /// The field of a column, if the column has its value.
    pub(super) fn own_field<'a>(&self, index: usize, envelope: &Envelope<'a, '_>) -> Value<'a> {
        if self.mapped >> index & 1 == 0 { envelope.field(index) } else { Value::Absent }
    }

    pub(super) fn is_copied(&self, index: usize) -> bool {
        self.copies.iter().any(|(copy, _)| *copy == index)
    }
}

/// Why a record makes no row.
pub(super) enum Refusal {
    Fault(Fault),
    NoTime,
    Held(Judged),
    Error(Error),
}

impl From<Fault> for Box<Refusal> {
    fn from(fault: Fault) -> Self {
        Box::new(Refusal::Fault(fault))
    }
}

/// A value, or a refusal: boxed, because it is rare and values are small.
pub(super) type Wanted<T> = std::result::Result<T, Box<Refusal>>;
