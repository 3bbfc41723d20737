//! A record's text to a row of a batch.

use super::assembly::Assembly;
use super::build::{Beside, Builder};
use super::envelope::{Envelope, Reader, Value, WATCH_MAX};
use super::future::{Arrival, Judged, Lookahead};
use super::place::Path;
use super::stamp::Stamper;
use super::{Options, Provenance, TimeFrom, column_index};
use crate::error::{Error, Result};
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::event::{COLUMNS, column};
use crate::kind::headers::Headers;
use crate::time::Parser;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::Buffer;

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

/// What became of a record.
#[derive(Debug)]
pub enum Outcome {
    /// A row.
    Row,
    /// A dead letter.
    Dead(Fault),
    /// It waits for the rows after it ([`Lookahead`]); the caller keeps its text.
    Held(Judged),
    /// It has no time, and no record before it had one: the run ends before anything is written.
    NoTime,
}

/// What the mapper said once and for all about defaults it used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Defaults {
    /// Some record had no `source`.
    pub source: bool,
    /// Some record had no `event_type`.
    pub event_type: bool,
}

/// Says which rows of a batch stay.
pub type Rule<'a> = dyn FnMut(&RecordBatch) -> Result<BooleanArray> + 'a;

/// Maps records onto rows.
pub struct Mapper {
    reader: Reader,
    plan: Plan,
    out: Out,
}

/// What the flags say, resolved.
pub(super) struct Plan {
    copies: Vec<(usize, Path)>,
    pub(super) sets: Vec<(usize, String)>,
    require: Vec<(String, Path)>,
    /// Bits of the columns among them; none where one is a property or set by a flag.
    required: Option<u32>,
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
}

pub(super) const PROVENANCE: [usize; 5] =
    [column::ORIGIN, column::PARTITION, column::OFFSET, column::STREAM_TIME, column::INGESTED_AT];
/// The same, and `schema_id`, as bits.
pub(super) const PROVENANCE_BITS: u32 = 1 << column::ORIGIN
    | 1 << column::PARTITION
    | 1 << column::OFFSET
    | 1 << column::STREAM_TIME
    | 1 << column::INGESTED_AT
    | 1 << column::SCHEMA_ID;

impl Mapper {
    /// A mapper by these options; exit 2 where they name what is not there.
    pub fn new(options: Options) -> Result<Self> {
        let mut own = [true; COLUMNS.len()];
        if options.provenance == Provenance::Overwrite {
            PROVENANCE.into_iter().chain([column::SCHEMA_ID]).for_each(|index| own[index] = false);
        }
        own[column::SERVER_TIMESTAMP] = !options.stamped_at_arrival;
        let mut copies = vec![];
        for (name, path) in &options.fields {
            let index = column_index("--field", name)?;
            let path = Path::new(path);
            // A column copied from itself is read from the record, whatever becomes of provenance otherwise.
            own[index] = matches!(path, Path::Column(same) if same == index);
            copies.push((index, path));
        }
        let mut sets = vec![];
        for (name, text) in &options.sets {
            sets.push((column_index("--set", name)?, text.clone()));
        }
        let time = match &options.time {
            TimeFrom::Field(path) => Path::new(path),
            _ => Path::Column(column::SERVER_TIMESTAMP),
        };
        let require: Vec<_> = options.require.iter().map(|name| (name.clone(), Path::new(name))).collect();
        let bit = |(_, path): &(String, Path)| match path {
            Path::Column(index) if sets.is_empty() => Some(1 << index),
            _ => None,
        };
        let required = require.iter().try_fold(0, |bits, one| Some(bits | bit(one)?));
        let watch: Vec<String> = if options.watch.len() <= WATCH_MAX { options.watch.clone() } else { vec![] };
        let lean = options.lean.filter(|_| watch.len() == options.watch.len());
        let (raw, distinct, headers) = (options.keep_raw, options.distinct, options.headers);
        let beside = Beside { raw, watch: &watch, distinct, headers };
        let out = Out {
            builder: Builder::new(beside, options.coded, lean),
            properties: String::new(),
            id: vec![],
            parsers: Default::default(),
            defaults: Defaults::default(),
            timed: false,
            clocked: false,
            lookahead: options.max_future.map(Lookahead::new),
        };
        let mut mapped = copies.iter().map(|(index, _)| index).chain(sets.iter().map(|(index, _)| index));
        let promised = options.partitions.clone().filter(|_| mapped.any(|index| *index == column::PARTITION));
        let plan = Plan { copies, sets, require, required, time, promised, options };
        Ok(Self { reader: Reader::new(own, watch), plan, out })
    }

    /// The schema of the batches.
    pub fn schema(&self) -> arrow::datatypes::SchemaRef {
        self.out.builder.schema()
    }

    /// Which defaults have been used so far.
    pub fn defaults(&self) -> Defaults {
        self.out.defaults
    }

    /// Whether a batch is full.
    pub fn is_full(&self) -> bool {
        self.out.builder.is_full()
    }

    /// Rows in the batch under construction.
    pub fn rows(&self) -> usize {
        self.out.builder.rows()
    }

    /// The `event_id` of the row mapped last and whether the record named it, and its `source`.
    pub fn last(&self) -> Option<([u8; 16], bool, &str)> {
        let (id, source) = self.out.builder.last()?;
        let set = self.plan.set(column::EVENT_ID).is_some();
        Some((id, set || self.reader.marks.has(column::EVENT_ID), source))
    }

    /// Raw records stand in `block` from now on, if in anything that can be kept.
    pub fn lend(&mut self, block: Option<Buffer>) {
        self.out.builder.lend(block);
    }

    /// Says what stood around the record of the row mapped last: asked for each row where [`Options::headers`] is set.
    #[inline]
    pub fn wrap(&mut self, headers: Option<&dyn Headers>) -> Result<()> {
        self.out.builder.wrap(headers)
    }

    /// Records that wait for their verdict on `--max-future`.
    pub fn lookahead(&mut self) -> Option<&mut Lookahead> {
        self.out.lookahead.as_mut()
    }

    /// The rows so far as a batch, stamped; none where there are no rows. `rule` sees them first and says which stay:
    /// only rows that leave as events move stream time.
    pub fn batch(&mut self, stamper: &mut Stamper, rule: Option<&mut Rule<'_>>) -> Result<Option<RecordBatch>> {
        let mut rows = self.out.builder.finish()?;
        if let (Some(rule), false) = (rule, rows.is_empty()) {
            rows.filter(&rule(&rows.preview(stamper)?)?)?;
        }
        if rows.is_empty() { Ok(None) } else { rows.stamp(stamper).map(Some) }
    }

    /// Maps one record; an error only where a batch cannot be built.
    #[inline]
    pub fn record(&mut self, text: &str, place: Place<'_>, stamper: &mut Stamper) -> Result<Outcome> {
        let read = match self.plan.options.distinct {
            true => self.reader.read_names(text),
            false => self.reader.read::<false>(text),
        };
        if let Err(fault) = read {
            return Ok(Outcome::Dead(fault));
        }
        let (plan, out) = (&self.plan, &mut self.out);
        if !self.reader.watch.is_empty() && !self.reader.marks.members.is_empty() {
            self.reader.watch_members(text);
        }
        let properties = self.reader.marks.field(column::PROPERTIES, text);
        for (index, path) in &plan.copies {
            let value = Envelope { text, marks: &self.reader.marks, properties }.value(path);
            self.reader.marks.set(*index, value, text);
        }
        let envelope = Envelope { text, marks: &self.reader.marks, properties };
        if plan.required.is_none_or(|columns| !envelope.has(columns))
            && let Some(fault) = plan.missing(&envelope)
        {
            return Ok(Outcome::Dead(fault));
        }
        match (Assembly { plan, out, envelope: &envelope, place, stamper }).run() {
            Ok(()) => Ok(Outcome::Row),
            Err(refusal) => match *refusal {
                Refusal::Fault(fault) => Ok(Outcome::Dead(fault)),
                Refusal::NoTime => Ok(Outcome::NoTime),
                Refusal::Held(judged) => Ok(Outcome::Held(judged)),
                Refusal::Error(error) => Err(error),
            },
        }
    }
}

impl Plan {
    /// The fault of a record that lacks what `--require` asks for.
    #[inline(never)]
    fn missing(&self, envelope: &Envelope<'_, '_>) -> Option<Fault> {
        let (name, _) = self.require.iter().find(|(_, path)| {
            let set = matches!(path, Path::Column(index) if self.sets.iter().any(|(set, _)| set == index));
            !set && envelope.value(path) == Value::Absent
        })?;
        Some(Fault::new(ErrorType::EnvelopeError, format!("{name}: required, but missing or null")))
    }

    pub(super) fn set(&self, index: usize) -> Option<&str> {
        self.sets.iter().find(|(set, _)| *set == index).map(|(_, text)| text.as_str())
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
