//! The entry point of the mapping: turns a record's text into a row of a batch.

use super::assembly::Assembly;
use super::build::{Builder, ExtraColumns, schema};
use super::envelope::{Envelope, PROPERTIES_MAX, Reader};
use super::future::FutureCheck;
use super::mapped::{Facts, InputPartition, MappedRows, RecordTimes};
use super::options::{KeepRaw, Options, Provenance, TimeFrom, column_index};
use super::partitions::{NAMED, PartitionIndex};
use super::path::{Path, alternatives};
use super::plan::{CopiedColumn, MapperState, NamedPath, Plan, SetColumn, Stamps, Unmapped};
use super::record::Record;
use super::when::{TimeExpr, When, earliest};
use crate::error::Result;
use crate::kind::dead::Fault;
use crate::kind::event::{PROVENANCE_BITS, STAMP_BITS, column};
use crate::time::Parser;
use arrow::buffer::Buffer;

/// The result of mapping a record.
#[derive(Debug)]
pub enum Mapped {
    /// A row.
    Row,
    /// A dead letter.
    Dead(Fault),
    /// It waits for the rows after it ([`Lookahead`](super::Lookahead)); the caller keeps its text.
    Pending(FutureCheck),
    /// It has no time, and no record before it had one.
    NoTime,
}

/// The last row of the batch under construction.
#[derive(Clone, Copy, Debug)]
pub struct LastRow<'a> {
    /// Its `event_id`.
    pub event_id: [u8; 16],
    /// Whether the record or a flag named the `event_id`; else it is derived.
    pub is_named: bool,
    /// Its `source`.
    pub source: &'a str,
}

/// Maps records onto rows.
pub struct Mapper {
    reader: Reader,
    /// Reads records that have provenance fields but carry no stamps, if other records carry stamps.
    plain: Reader,
    /// Whether `plain` read the last record.
    is_plain: bool,
    plan: Plan,
    out: MapperState,
    /// The raw record inside the last record.
    raw: Vec<u8>,
    /// The partition of the records.
    partition: InputPartition,
}

/// The columns that flags fill.
struct FilledColumns {
    copies: Vec<CopiedColumn>,
    sets: Vec<SetColumn>,
    /// Bits of the columns that get a constant or the value of another field.
    mapped: u32,
    /// Bits of the columns copied from their own field.
    copied: u32,
}

impl FilledColumns {
    /// Errors: exit status 2 if the options name a column that does not exist or that evt fills.
    fn of(options: &Options, path_of: fn(&str) -> Path) -> Result<Self> {
        let mut filled = Self { copies: vec![], sets: vec![], mapped: 0, copied: 0 };
        for (name, path) in &options.fields {
            let column = column_index("--field", name)?;
            let path = path_of(path);
            let bits = if path.column() == Some(column) { &mut filled.copied } else { &mut filled.mapped };
            *bits |= 1u32 << column;
            filled.copies.push(CopiedColumn { column, path });
        }
        for (name, text) in &options.sets {
            let column = column_index("--set", name)?;
            filled.mapped |= 1 << column;
            filled.sets.push(SetColumn { column, text: text.clone() });
        }
        Ok(filled)
    }
}

/// Returns the fields of the event time, of which the first one with a value is used.
fn times_of(options: &Options) -> Vec<NamedPath> {
    let path_of = if options.plain { Path::property } else { Path::new };
    match &options.time {
        TimeFrom::Field(text) => {
            let named = |name: &str| NamedPath { name: name.to_owned(), path: path_of(name) };
            alternatives(text).into_iter().map(named).collect()
        }
        _ => vec![NamedPath { name: String::new(), path: Path::Column(column::SERVER_TIMESTAMP) }],
    }
}

impl Mapper {
    /// Creates a mapper.
    ///
    /// Errors: exit status 2 if the options name a column that does not exist or that evt fills.
    pub fn new(options: Options) -> Result<Self> {
        let arrival = u32::from(options.stamped_at_arrival) << column::SERVER_TIMESTAMP;
        let path_of = if options.plain { Path::property } else { Path::new };
        let FilledColumns { copies, sets, mapped, copied } = FilledColumns::of(&options, path_of)?;
        let replaced = mapped | arrival & !copied;
        let own = if options.plain { 0 } else { !replaced };
        // A path names a field of the record itself, even if another value fills the column of that name.
        let in_record = |CopiedColumn { column, path }| CopiedColumn { column, path: path.in_record(replaced) };
        let copies = copies.into_iter().map(in_record).collect();
        // A column copied from itself is read from the record even if the record carries no stamps.
        let plain = own & (!PROVENANCE_BITS | copied);
        // Stamps that a flag maps are not kept.
        let keeps = options.provenance == Provenance::Keep && !options.plain && (mapped | copied) & STAMP_BITS == 0;
        let named = |name: &str| NamedPath { name: name.to_owned(), path: path_of(name) };
        let expr = if let TimeFrom::Expr(text) = &options.time { Some(TimeExpr::parse(text)?) } else { None };
        let times = times_of(&options);
        let require: Vec<NamedPath> = options.require.iter().map(|name| named(name)).collect();
        let bit = |field: &NamedPath| match &field.path {
            Path::Column(index) if sets.is_empty() => Some(1 << index),
            _ => None,
        };
        let required = require.iter().try_fold(0, |bits, one| Some(bits | bit(one)?));
        let read = &options.reads.properties;
        let properties = if read.len() <= PROPERTIES_MAX { read.clone() } else { vec![] };
        let out = MapperState {
            builder: builder(&options, &properties),
            properties: String::new(),
            parsers: std::array::from_fn(|_| Parser::in_zone(options.when.zone)),
            named: PartitionIndex::default(),
            facts: Facts::default(),
            times: RecordTimes::default(),
        };
        let partitions = options.partitions.clone().filter(|_| (mapped | copied) >> column::PARTITION & 1 == 1);
        let earliest = earliest(&options.when, options.min_time);
        let plan = Plan { copies, sets, require, required, keeps, mapped, times, earliest, expr, partitions, options };
        let reader = Reader::new(if keeps { own } else { plain }, properties.clone());
        Ok(Self {
            reader,
            plain: Reader::new(plain, properties),
            is_plain: false,
            plan,
            out,
            raw: vec![],
            partition: InputPartition::default(),
        })
    }

    /// Creates a mapper of the same records, which knows what the records so far have decided.
    pub fn another(&self) -> Result<Self> {
        let mut another = Self::new(self.plan.options.clone())?;
        another.out.times = self.out.times;
        Ok(another)
    }

    /// Whether the records so far have decided all that they decide for those that follow.
    pub fn is_decided(&self) -> bool {
        self.has_time() || self.plan.options.time == TimeFrom::Arrival
    }

    /// Gives rows of [another](Self::another) mapper the dictionaries of this one, as if this one had mapped them.
    pub fn adopt(&mut self, rows: &mut MappedRows) -> Result<()> {
        self.out.builder.adopt(&mut rows.rows)
    }

    /// Takes the event time from a field from now on. Must be called before the first row.
    pub fn take_time_from(&mut self, field: &str) {
        self.plan.options.time = TimeFrom::Field(field.to_owned());
        self.plan.times = times_of(&self.plan.options);
    }

    /// Whether each record must have a time.
    pub fn needs_time(&self) -> bool {
        !matches!(self.plan.options.time, TimeFrom::Optional | TimeFrom::Untimed)
    }

    /// Returns how times are read, if a record without a usual time may have it in another field.
    pub fn seeks_time(&self) -> Option<&When> {
        let is_mapped = self.plan.mapped >> column::SERVER_TIMESTAMP & 1 == 1;
        let seeks = matches!(self.plan.options.time, TimeFrom::Default | TimeFrom::Optional | TimeFrom::Untimed);
        (seeks && !is_mapped).then_some(&self.plan.options.when)
    }

    /// Whether the mapper keeps the stamps that a record carries.
    pub fn keeps_stamps(&self) -> bool {
        self.plan.keeps
    }

    /// Takes the raw record of records with stamps from their fields. Must be called before the first row.
    pub fn take_raw_from_input(&mut self) {
        self.plan.options.keep_raw = KeepRaw::FromInput;
        // The raw record is not the one that is mapped, so a row is complete from the beginning.
        self.plan.options.reads.columns = None;
        self.out.builder = builder(&self.plan.options, &self.reader.properties);
    }

    /// Returns the schema of the batches.
    pub fn schema(&self) -> arrow::datatypes::SchemaRef {
        self.out.builder.schema()
    }

    /// Returns the schema of the rows that leave the stage, with the raw records that `keep_raw` implies.
    pub fn written_schema(&self, keep_raw: KeepRaw) -> arrow::datatypes::SchemaRef {
        schema(keep_raw, self.plan.options.parts)
    }

    /// Turns to the records of a partition of the [`PartitionTable`](super::PartitionTable).
    pub fn turn_to(&mut self, number: u32, (origin, name): (&str, &str)) {
        let partition = &mut self.partition;
        partition.number = number;
        origin.clone_into(&mut partition.origin);
        name.clone_into(&mut partition.name);
    }

    /// Returns the origin and the name of this partition.
    pub fn partition(&self) -> (&str, &str) {
        (&self.partition.origin, &self.partition.name)
    }

    /// Returns warnings about the records of all chunks: about their times and, if repeats are found by ids, about
    /// records without ids.
    pub fn warnings(&self, facts: &Facts, finds_repeats: bool) -> Vec<String> {
        facts.warnings(&self.plan.options, finds_repeats)
    }

    /// Whether some record had a readable time, or the run needs none.
    pub fn has_time(&self) -> bool {
        self.out.times.timed || self.out.times.clocked
    }

    /// Whether the batch is full.
    pub fn is_full(&self) -> bool {
        self.out.builder.is_full()
    }

    /// Returns the number of rows in the batch under construction.
    pub fn rows(&self) -> usize {
        self.out.builder.rows()
    }

    /// Returns the last row; `None` if the batch under construction has none.
    pub fn last(&self) -> Option<LastRow<'_>> {
        let (event_id, source) = self.out.builder.last()?;
        let set = self.plan.set(column::EVENT_ID).is_some();
        let reader = if self.is_plain { &self.plain } else { &self.reader };
        Some(LastRow { event_id, is_named: set || reader.marks.has(column::EVENT_ID), source })
    }

    /// Sets the read buffer that raw records are ranges of from now on; `None` if it cannot be kept.
    pub fn share_buffer(&mut self, block: Option<Buffer>) {
        self.out.builder.share_buffer(block);
    }

    /// Returns the partition that the last record names beside its input's own: (origin, name); `None` if it is the
    /// input's own.
    pub fn named(&self, check: FutureCheck) -> Option<(&str, &str)> {
        check.partition.checked_sub(NAMED).map(|named| self.out.named.name(named))
    }

    /// Returns the facts about the records so far.
    pub fn facts(&self) -> Facts {
        let shadowed = self.out.facts.shadowed | self.reader.shadowed() | self.plain.shadowed();
        Facts { shadowed, ..self.out.facts }
    }

    /// Takes the rows so far, and the facts about their records.
    pub fn finish(&mut self) -> Result<MappedRows> {
        let facts = self.facts();
        self.out.facts = Facts::default();
        Ok(MappedRows { rows: self.out.builder.finish()?, named: std::mem::take(&mut self.out.named), facts })
    }

    /// Drops the rows so far.
    pub fn clear(&mut self) -> Result<()> {
        self.out.named = PartitionIndex::default();
        self.out.builder.clear()
    }

    /// Maps one record; an error only if a batch cannot be built.
    #[inline]
    pub fn record(&mut self, record: Record<'_>) -> Result<Mapped> {
        let text = record.text;
        let mut read = self.reader.read_as(text, self.plan.options.reads.distinct_names);
        let mut stamps = None;
        self.is_plain = false;
        if self.plan.keeps && self.reader.marks.saw(PROVENANCE_BITS) {
            stamps = if read.is_ok() { self.stamps(text) } else { None };
            self.out.facts.kept_stamps |= stamps.is_some();
            if stamps.is_none() {
                self.is_plain = true;
                read = self.plain.read_as(text, self.plan.options.reads.distinct_names);
            }
        }
        if let Err(fault) = read {
            return Ok(Mapped::Dead(fault));
        }
        let (plan, out) = (&self.plan, &mut self.out);
        let reader = if self.is_plain { &mut self.plain } else { &mut self.reader };
        let mut raw = Some(record.raw);
        if plan.options.keep_raw == KeepRaw::FromInput && stamps.is_some() {
            raw = reader.marks.take_raw(text, &mut self.raw).then_some(&self.raw);
        }
        if !reader.properties.is_empty() && !reader.marks.members.is_empty() {
            reader.watch_members(text);
        }
        let properties = reader.marks.field(column::PROPERTIES, text);
        for CopiedColumn { column, path } in &plan.copies {
            let value = path.value(&Envelope { text, marks: &reader.marks, properties });
            reader.marks.set(*column, value, text);
        }
        let envelope = Envelope { text, marks: &reader.marks, properties };
        if plan.required.is_none_or(|columns| !envelope.has(columns))
            && let Some(fault) = plan.missing(&envelope)
        {
            return Ok(Mapped::Dead(fault));
        }
        let partition = &self.partition;
        match (Assembly { plan, out, envelope: &envelope, record, partition, stamps, raw }).run() {
            Ok(()) => {
                self.out.builder.push_parts(&record.meta)?;
                Ok(Mapped::Row)
            }
            Err(refusal) => match *refusal {
                Unmapped::Fault(fault) => Ok(Mapped::Dead(fault)),
                Unmapped::NoTime => Ok(Mapped::NoTime),
                Unmapped::Pending(check) => Ok(Mapped::Pending(check)),
                Unmapped::Error(error) => Err(error),
            },
        }
    }

    /// Returns the stamps of the last record if it carries all required ones, each of its type.
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
}

/// Creates the batch builder for these options, with a column per watched name.
fn builder(options: &Options, properties: &[String]) -> Builder {
    let Options { keep_raw: raw, parts, ref reads, .. } = *options;
    let columns = reads.columns.filter(|_| properties.len() == reads.properties.len());
    let texts = reads.completes_rows && columns.is_some();
    let extra = ExtraColumns { raw, texts, properties, distinct_names: reads.distinct_names, parts };
    Builder::new(extra, reads.dictionaries, columns)
}
