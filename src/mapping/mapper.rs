//! A record's text to a row of a batch.

use super::assembly::Assembly;
use super::build::{Beside, Builder};
use super::columns::{PROVENANCE_BITS, STAMP_BITS};
use super::envelope::{Envelope, Reader, WATCH_MAX};
use super::future::{Judged, Lookahead};
use super::options::{KeepRaw, Options, Provenance, TimeFrom, column_index};
use super::place::Path;
use super::plan::{Defaults, Out, Place, Plan, Refusal, Stamps};
use super::stamp::Stamper;
use crate::error::Result;
use crate::kind::dead::Fault;
use crate::kind::event::column;
use crate::kind::headers::Headers;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::Buffer;

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

/// Says which rows of a batch stay.
pub type Rule<'a> = dyn FnMut(&RecordBatch) -> Result<BooleanArray> + 'a;

/// Maps records onto rows.
pub struct Mapper {
    reader: Reader,
    /// Reads what carries no stamps though it has fields of their names, where others carry some.
    plain: Reader,
    /// Whether the record read last carries no stamps.
    is_plain: bool,
    plan: Plan,
    out: Out,
    /// The raw record that the record read last brings.
    raw: Vec<u8>,
}

impl Mapper {
    /// A mapper by these options; exit 2 where they name what is not there.
    pub fn new(options: Options) -> Result<Self> {
        let arrival = u32::from(options.stamped_at_arrival) << column::SERVER_TIMESTAMP;
        // Columns that other fields are copied to, and those that are copied from their own.
        let (mut mapped, mut copied) = (0, 0);
        let mut copies = vec![];
        for (name, path) in &options.fields {
            let index = column_index("--field", name)?;
            let path = Path::new(path);
            let bits = if path.column() == Some(index) { &mut copied } else { &mut mapped };
            *bits |= 1u32 << index;
            copies.push((index, path));
        }
        let mut sets = vec![];
        for (name, text) in &options.sets {
            let index = column_index("--set", name)?;
            mapped |= 1 << index;
            sets.push((index, text.clone()));
        }
        let own = !(mapped | arrival & !copied);
        // A column copied from itself is read from the record, whatever becomes of stamps otherwise.
        let plain = own & (!PROVENANCE_BITS | copied);
        // What a flag maps is not carried.
        let keeps = options.provenance == Provenance::Keep && (mapped | copied) & STAMP_BITS == 0;
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
        let out = Out {
            builder: builder(&options, &watch),
            properties: String::new(),
            id: vec![],
            parsers: Default::default(),
            defaults: Defaults::default(),
            timed: false,
            clocked: false,
            lookahead: options.max_future.map(Lookahead::new),
            shadowed: 0,
        };
        let promised = options.partitions.clone().filter(|_| (mapped | copied) >> column::PARTITION & 1 == 1);
        let plan = Plan { copies, sets, require, required, keeps, mapped, time, promised, options };
        let reader = Reader::new(if keeps { own } else { plain }, watch.clone());
        Ok(Self { reader, plain: Reader::new(plain, watch), is_plain: false, plan, out, raw: vec![] })
    }

    /// Whether stamps that a record carries are kept.
    pub fn keeps_stamps(&self) -> bool {
        self.plan.keeps
    }

    /// From here on, before the first row, records that carry stamps bring their raw records.
    pub fn bring_raw(&mut self) {
        self.plan.options.keep_raw = KeepRaw::Brought;
        self.out.builder = builder(&self.plan.options, &self.reader.watch);
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
        let reader = if self.is_plain { &self.plain } else { &self.reader };
        Some((id, set || reader.marks.has(column::EVENT_ID), source))
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
        let mut read = self.reader.read_as(text, self.plan.options.distinct);
        let mut stamps = None;
        self.is_plain = false;
        if self.plan.keeps && self.reader.marks.saw(PROVENANCE_BITS) {
            stamps = if read.is_ok() { self.stamps(text) } else { None };
            if stamps.is_none() {
                self.is_plain = true;
                read = self.plain.read_as(text, self.plan.options.distinct);
            }
        }
        if let Err(fault) = read {
            return Ok(Outcome::Dead(fault));
        }
        let (plan, out) = (&self.plan, &mut self.out);
        let reader = if self.is_plain { &mut self.plain } else { &mut self.reader };
        let mut raw = Some(place.raw);
        if plan.options.keep_raw == KeepRaw::Brought && stamps.is_some() {
            raw = reader.marks.take_raw(text, &mut self.raw).then_some(&self.raw);
        }
        if !reader.watch.is_empty() && !reader.marks.members.is_empty() {
            reader.watch_members(text);
        }
        let properties = reader.marks.field(column::PROPERTIES, text);
        for (index, path) in &plan.copies {
            let value = Envelope { text, marks: &reader.marks, properties }.value(path);
            reader.marks.set(*index, value, text);
        }
        let envelope = Envelope { text, marks: &reader.marks, properties };
        if plan.required.is_none_or(|columns| !envelope.has(columns))
            && let Some(fault) = plan.missing(&envelope)
        {
            return Ok(Outcome::Dead(fault));
        }
        match (Assembly { plan, out, envelope: &envelope, place, stamper, stamps, raw }).run() {
            Ok(()) => Ok(Outcome::Row),
            Err(refusal) => match *refusal {
                Refusal::Fault(fault) => Ok(Outcome::Dead(fault)),
                Refusal::NoTime => Ok(Outcome::NoTime),
                Refusal::Held(judged) => Ok(Outcome::Held(judged)),
                Refusal::Error(error) => Err(error),
            },
        }
    }

    /// The stamps of the record read last, if it carries some: all that it must have, each of its type.
    fn stamps(&mut self, text: &str) -> Option<Stamps> {
        let marks = &self.reader.marks;
        if marks.present(STAMP_BITS) != STAMP_BITS {
            return None;
        }
        let parser = &mut self.out.parsers[0];
        let mut instant = |index| marks.field(index, text).string().and_then(|text| parser.parse(&text));
        let optional = |index| marks.has(index);
        let stream_time = instant(column::STREAM_TIME)?;
        let ingested_at = if optional(column::INGESTED_AT) { Some(instant(column::INGESTED_AT)?) } else { None };
        let offset = marks.field(column::OFFSET, text).integer()?;
        let schema_id = match optional(column::SCHEMA_ID) {
            true => Some(marks.field(column::SCHEMA_ID, text).integer()?),
            false => None,
        };
        let named = [column::ORIGIN, column::PARTITION].map(|index| marks.field(index, text).string());
        named.iter().all(Option::is_some).then_some(Stamps { offset, stream_time, ingested_at, schema_id })
    }

    /// Bits of the columns of whose name some record has had a property.
    pub fn shadowed(&self) -> u32 {
        self.reader.shadowed() | self.plain.shadowed() | self.out.shadowed
    }
}

/// Builds batches by these options, with a column for each watched name.
fn builder(options: &Options, watch: &[String]) -> Builder {
    let lean = options.lean.filter(|_| watch.len() == options.watch.len());
    let Options { keep_raw: raw, distinct, headers, coded, .. } = *options;
    Builder::new(Beside { raw, watch, distinct, headers }, coded, lean)
}
