//! A record's text to a row of a batch.

use super::build::{Builder, Row};
use super::envelope::{Envelope, Reader, Value, WATCH_MAX};
use super::future::{Judged, Lookahead};
use super::id::{hashed_id, made_id, parse_uuid};
use super::place::{Path, clip, shown};
use super::stamp::{Stamper, UNSTAMPED};
use super::{Options, Provenance, TimeFrom, column_index};
use crate::error::{Error, Result};
use crate::json::text::{is_text, unescape, write_string};
use crate::json::walk::members;
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::event::{COLUMNS, column};
use crate::time::Parser;
use arrow::array::{BooleanArray, RecordBatch};
use std::borrow::Cow;
use std::collections::HashSet;

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

/// Says which rows of a batch stay; none for all of them.
pub type Rule<'a> = dyn FnMut(&RecordBatch) -> Result<Option<BooleanArray>> + 'a;

/// Maps records onto rows.
pub struct Mapper {
    reader: Reader,
    plan: Plan,
    out: Out,
}

/// What the flags say, resolved.
struct Plan {
    copies: Vec<(usize, Path)>,
    sets: Vec<(usize, String)>,
    require: Vec<(String, Path)>,
    /// Bits of the columns among them; none where one is a property or set by a flag.
    required: Option<u32>,
    time: Path,
    lean: bool,
    options: Options,
}

/// Where rows go, and memory that is used again for each record.
struct Out {
    builder: Builder,
    properties: String,
    id: Vec<u8>,
    parsers: [Parser; 3],
    defaults: Defaults,
    timed: bool,
    /// Whether the first record had no time, so that none needs one ([`TimeFrom::Untimed`]).
    clocked: bool,
    /// Records that wait for their verdict on `--max-future`.
    lookahead: Option<Lookahead>,
}

const PROVENANCE: [usize; 5] =
    [column::ORIGIN, column::PARTITION, column::OFFSET, column::STREAM_TIME, column::INGESTED_AT];
/// The same, and `schema_id`, as bits.
const PROVENANCE_BITS: u32 = 1 << column::ORIGIN
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
        let out = Out {
            builder: Builder::new(options.keep_raw, &watch),
            properties: String::new(),
            id: vec![],
            parsers: Default::default(),
            defaults: Defaults::default(),
            timed: false,
            clocked: false,
            lookahead: options.max_future.map(Lookahead::new),
        };
        let lean = options.lean && watch.len() == options.watch.len();
        let plan = Plan { copies, sets, require, required, time, lean, options };
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

    /// Records that wait for their verdict on `--max-future`.
    pub fn lookahead(&mut self) -> Option<&mut Lookahead> {
        self.out.lookahead.as_mut()
    }

    /// The rows so far as a batch, stamped; none where there are no rows. `rule` sees them first and says which stay:
    /// only rows that leave as events move stream time.
    pub fn batch(&mut self, stamper: &mut Stamper, rule: Option<&mut Rule<'_>>) -> Result<Option<RecordBatch>> {
        let mut rows = self.out.builder.finish();
        if let (Some(rule), false) = (rule, rows.is_empty())
            && let Some(keep) = rule(&rows.preview(stamper)?)?
        {
            rows.filter(&keep)?;
        }
        if rows.is_empty() { Ok(None) } else { rows.stamp(stamper).map(Some) }
    }

    /// Maps one record; an error only where a batch cannot be built.
    #[inline]
    pub fn record(&mut self, text: &str, place: Place<'_>, stamper: &mut Stamper) -> Result<Outcome> {
        if let Err(fault) = self.reader.read(text) {
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

    fn set(&self, index: usize) -> Option<&str> {
        self.sets.iter().find(|(set, _)| *set == index).map(|(_, text)| text.as_str())
    }

    fn is_copied(&self, index: usize) -> bool {
        self.copies.iter().any(|(copy, _)| *copy == index)
    }
}

/// Why a record makes no row.
enum Refusal {
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
type Wanted<T> = std::result::Result<T, Box<Refusal>>;

/// One row in the making.
struct Assembly<'a, 'm, 's> {
    plan: &'s Plan,
    out: &'s mut Out,
    envelope: &'s Envelope<'a, 'm>,
    place: Place<'s>,
    stamper: &'s mut Stamper,
}

impl<'a> Assembly<'a, '_, '_> {
    #[inline(always)]
    fn run(&mut self) -> Wanted<()> {
        let kept = self.kept()?;
        let client_timestamp = self.instant(column::CLIENT_TIMESTAMP, 1)?;
        let server_timestamp = self.instant(column::SERVER_TIMESTAMP, 2)?;
        let (event_time, leftover) = match kept {
            Some(_) => (self.needed(column::EVENT_TIME)?, Value::Absent),
            None => self.event_time(client_timestamp, server_timestamp)?,
        };
        // Most records bring no provenance: nothing to look for.
        let bare = self.envelope.lacks(PROVENANCE_BITS) && self.plan.sets.is_empty();
        let partition = if bare { self.place.partition } else { self.partition()? };
        if kept.is_none() {
            self.judge(Judged { partition, event_time, arrival: server_timestamp })?;
        }
        let (offset, ingested_at, schema_id) = match bare {
            true => (self.place.offset, self.place.now, None),
            false => (
                self.integer(column::OFFSET)?.unwrap_or(self.place.offset),
                self.instant(column::INGESTED_AT, 0)?.unwrap_or(self.place.now),
                self.integer(column::SCHEMA_ID)?,
            ),
        };
        let source = self.text(column::SOURCE)?;
        let event_type = self.text(column::EVENT_TYPE)?;
        let user_id = self.text(column::USER_ID)?;
        let mut properties = std::mem::take(&mut self.out.properties);
        let whole = self.properties(&mut properties, leftover)?;
        let source = match source {
            Some(source) => source,
            None => {
                self.out.defaults.source = true;
                Cow::Owned(self.stamper.name(partition).0.to_owned())
            }
        };
        let event_id = self.event_id(&source, (partition, offset))?;
        self.out.defaults.event_type |= event_type.is_none();
        let row = Row {
            event_id,
            source: &source,
            event_type: event_type.as_deref().unwrap_or("event"),
            user_id: user_id.as_deref(),
            properties: if self.plan.lean { "{}" } else { whole.unwrap_or(&properties) },
            client_timestamp,
            server_timestamp,
            ingested_at,
            event_time,
            partition,
            offset,
            stream_time: kept.unwrap_or(UNSTAMPED),
            schema_id,
            raw: self.place.raw,
            watched: (self.envelope.text, &self.envelope.marks.watched),
        };
        let pushed = self.out.builder.push(&row).map_err(|error| Box::new(Refusal::Error(error)));
        self.out.properties = properties;
        pushed
    }

    /// The stream time of a row that brings all of its provenance; none of a row that brings nothing.
    fn kept(&mut self) -> Wanted<Option<i64>> {
        if self.plan.options.provenance == Provenance::Overwrite || self.envelope.lacks(PROVENANCE_BITS) {
            return Ok(None);
        }
        let copied = |index: usize| self.plan.is_copied(index);
        let missing = PROVENANCE.into_iter().find(|index| self.envelope.field(*index) == Value::Absent);
        let there =
            PROVENANCE.into_iter().find(|index| self.envelope.field(*index) != Value::Absent && !copied(*index));
        match (missing, there) {
            (_, None) => Ok(None),
            (None, _) => self.instant(column::STREAM_TIME, 0),
            (Some(missing), Some(there)) => Err(Fault::new(
                ErrorType::EnvelopeError,
                format!(
                    "{} without {}: a row keeps its provenance where it has all of it; evt-ingest stamps anew",
                    COLUMNS[there], COLUMNS[missing]
                ),
            )
            .into()),
        }
    }

    /// `--max-future`: passes, is dead, or waits.
    fn judge(&self, judged: Judged) -> Wanted<()> {
        let Some(lookahead) = self.out.lookahead.as_ref().filter(|_| !self.place.judged) else { return Ok(()) };
        match lookahead.at_once(judged) {
            Some(verdict) => Ok(verdict?),
            None => Err(Box::new(Refusal::Held(judged))),
        }
    }

    /// The event time, and an `event_time` field that was not used, which becomes a property.
    fn event_time(&mut self, client_timestamp: Option<i64>, server_timestamp: Option<i64>) -> Wanted<(i64, Value<'a>)> {
        let unused = self.envelope.field(column::EVENT_TIME);
        let time = match (&self.plan.options.time, &self.plan.time) {
            (TimeFrom::Arrival, _) => return Ok((self.place.now, unused)),
            (TimeFrom::Field(_), Path::Column(column::EVENT_TIME)) => {
                return Ok((self.timed(column::EVENT_TIME)?, Value::Absent));
            }
            (TimeFrom::Field(_), Path::Column(index)) => {
                let known = match *index {
                    column::CLIENT_TIMESTAMP => client_timestamp,
                    column::SERVER_TIMESTAMP => server_timestamp,
                    _ => self.instant(*index, 0)?,
                };
                known.ok_or_else(|| self.no_time(COLUMNS[*index]))?
            }
            (TimeFrom::Field(name), path) => {
                let value = self.envelope.value(path);
                let name = name.clone();
                self.read(value, &name, 0)?.ok_or_else(|| self.no_time(&name))?
            }
            (policy, _) => match server_timestamp {
                Some(time) => time,
                None if unused != Value::Absent => {
                    let time = self.needed(column::EVENT_TIME)?;
                    self.out.timed = true;
                    return Ok((time, Value::Absent));
                }
                None if *policy == TimeFrom::Optional => self.place.now,
                None if *policy == TimeFrom::Untimed && self.out.timed == self.out.clocked => {
                    self.out.clocked = true;
                    self.place.now
                }
                None => return Err(self.no_time(COLUMNS[column::SERVER_TIMESTAMP])),
            },
        };
        self.out.timed = true;
        Ok((time, unused))
    }

    fn timed(&mut self, index: usize) -> Wanted<i64> {
        let time = self.instant(index, 0)?.ok_or_else(|| self.no_time(COLUMNS[index]))?;
        self.out.timed = true;
        Ok(time)
    }

    #[cold]
    fn no_time(&self, name: &str) -> Box<Refusal> {
        if !self.out.timed {
            return Box::new(Refusal::NoTime);
        }
        Fault::new(ErrorType::TimestampError, format!("{name}: missing or null, and the event has no other time"))
            .into()
    }

    /// The instant in a column that must have one.
    fn needed(&mut self, index: usize) -> Wanted<i64> {
        let missing = || Fault::new(ErrorType::TimestampError, format!("{}: missing or null", COLUMNS[index]));
        Ok(self.instant(index, 0)?.ok_or_else(missing)?)
    }

    /// The instant in a column, if it has one; `slot` keeps the parser of each busy column apart.
    #[inline(always)]
    fn instant(&mut self, index: usize, slot: usize) -> Wanted<Option<i64>> {
        match self.envelope.field(index) {
            Value::Absent if self.plan.sets.is_empty() => Ok(None),
            Value::Plain(text) if self.plan.sets.is_empty() => match self.out.parsers[slot].parse(text) {
                Some(instant) => Ok(Some(instant)),
                None => self.unusual_instant(index, slot),
            },
            _ => self.unusual_instant(index, slot),
        }
    }

    #[inline(never)]
    fn unusual_instant(&mut self, index: usize, slot: usize) -> Wanted<Option<i64>> {
        if let Some(text) = self.plan.set(index) {
            let text = text.to_owned();
            return self.read(Value::Plain(&text), COLUMNS[index], slot);
        }
        self.read(self.envelope.field(index), COLUMNS[index], slot)
    }

    fn read(&mut self, value: Value<'_>, name: &str, slot: usize) -> Wanted<Option<i64>> {
        if value == Value::Absent {
            return Ok(None);
        }
        let when = &self.plan.options.when;
        match when.read(value, &mut self.out.parsers[slot]) {
            Some(instant) => Ok(Some(instant)),
            None => {
                let message = format!("{name}: {} is no instant: {}", shown(value), when.advice(value));
                Err(Fault::new(ErrorType::TimestampError, message).into())
            }
        }
    }

    /// The text in a column: a string, or any scalar's text where a flag copied it.
    #[inline(always)]
    fn text(&self, index: usize) -> Wanted<Option<Cow<'a, str>>> {
        match self.envelope.field(index) {
            Value::Plain(text) if self.plan.sets.is_empty() => Ok(Some(Cow::Borrowed(text))),
            Value::Absent if self.plan.sets.is_empty() => Ok(None),
            _ => self.unusual_text(index),
        }
    }

    #[inline(never)]
    fn unusual_text(&self, index: usize) -> Wanted<Option<Cow<'a, str>>> {
        if let Some(text) = self.plan.set(index) {
            return Ok(Some(Cow::Owned(text.to_owned())));
        }
        let name = COLUMNS[index];
        match self.envelope.field(index) {
            Value::Absent => Ok(None),
            Value::Plain(text) => Ok(Some(Cow::Borrowed(text))),
            Value::Escaped(raw) if is_text(raw) => Ok(Some(unescape(raw))),
            Value::Escaped(_) => {
                Err(Fault::new(ErrorType::EnvelopeError, format!("{name}: the string holds a lone surrogate")).into())
            }
            Value::Other(text) if self.plan.is_copied(index) && !text.starts_with(['{', '[']) => {
                Ok(Some(Cow::Borrowed(text)))
            }
            value => {
                let way_out = match value {
                    Value::Other(text) if !text.starts_with(['{', '[']) => {
                        format!("; --field {name}={name} takes its text")
                    }
                    _ => String::new(),
                };
                let message = format!("{name}: a string is asked for, not {}{way_out}", shown(value));
                Err(Fault::new(ErrorType::EnvelopeError, message).into())
            }
        }
    }

    fn integer(&self, index: usize) -> Wanted<Option<i64>> {
        let text = match (self.plan.set(index), self.envelope.field(index)) {
            (Some(text), _) => text,
            (None, Value::Absent) => return Ok(None),
            (None, Value::Plain(text) | Value::Escaped(text) | Value::Other(text)) => text,
        };
        text.parse().map(Some).map_err(|_| {
            let message = format!("{}: an integer is asked for, not {}", COLUMNS[index], clip(text));
            Fault::new(ErrorType::EnvelopeError, message).into()
        })
    }

    /// The number of the row's partition.
    fn partition(&mut self) -> Wanted<u32> {
        let (origin, name) = (self.text(column::ORIGIN)?, self.text(column::PARTITION)?);
        if origin.is_none() && name.is_none() {
            return Ok(self.place.partition);
        }
        let (own_origin, own_name) = self.stamper.name(self.place.partition);
        let origin = origin.unwrap_or_else(|| Cow::Owned(own_origin.to_owned()));
        let name = name.unwrap_or_else(|| Cow::Owned(own_name.to_owned()));
        Ok(self.stamper.partition(&origin, &name))
    }

    fn event_id(&mut self, source: &str, (partition, offset): (u32, i64)) -> Wanted<[u8; 16]> {
        let Some(text) = self.text(column::EVENT_ID)? else {
            let (origin, name) = self.stamper.name(partition);
            return Ok(made_id(&mut self.out.id, (origin, name, offset), self.place.raw));
        };
        match parse_uuid(&text) {
            Some(id) => Ok(id),
            None if self.plan.options.hash_ids => Ok(hashed_id(source, &text)),
            None => {
                let message = format!("event_id: {} is no UUID; --hash-ids makes one of any text", clip(&text));
                Err(Fault::new(ErrorType::EnvelopeError, message).into())
            }
        }
    }

    /// The properties: the record's own object as it stands, or written to `out`.
    fn properties(&self, out: &mut String, leftover: Value<'a>) -> Wanted<Option<&'a str>> {
        out.clear();
        let object = match self.envelope.properties {
            Value::Other(object) if object.starts_with('{') => Some(object),
            Value::Absent => None,
            value => {
                let message = format!("properties: an object is asked for, not {}", shown(value));
                return Err(Fault::new(ErrorType::EnvelopeError, message).into());
            }
        };
        if let (Some(object), true, Value::Absent) = (object, self.envelope.marks.members.is_empty(), leftover) {
            return Ok(Some(object));
        }
        if let Some(object) = object {
            self.no_name_twice(object)?;
            out.push_str(object[..object.len() - 1].trim_end());
        } else {
            out.push('{');
        }
        for member in &self.envelope.marks.members {
            separate(out);
            out.push('"');
            out.push_str(member.key(self.envelope.text));
            out.push_str("\":");
            out.push_str(member.value(self.envelope.text));
        }
        self.leftover(out, leftover);
        out.push('}');
        Ok(None)
    }

    fn leftover(&self, out: &mut String, leftover: Value<'a>) {
        let text = match leftover {
            Value::Absent => return,
            Value::Plain(text) | Value::Escaped(text) => format!("\"{text}\""),
            Value::Other(text) => text.to_owned(),
        };
        separate(out);
        write_string(out, COLUMNS[column::EVENT_TIME]);
        out.push(':');
        out.push_str(&text);
    }

    /// A name both in `properties` and beside it would be two values for one thing.
    fn no_name_twice(&self, object: &str) -> Wanted<()> {
        let members_beside = &self.envelope.marks.members;
        let names = || members_beside.iter().map(|member| unescape(member.key(self.envelope.text)));
        // Few names are compared one by one; of many that would take the square of a record's length.
        let many: HashSet<Cow<'_, str>> = if members_beside.len() > 16 { names().collect() } else { HashSet::new() };
        let mut twice = None;
        members(object, |key, _| {
            let key = unescape(key);
            if many.contains(&key) || many.is_empty() && names().any(|name| name == key) {
                twice = Some(key.into_owned());
            }
            twice.is_none()
        });
        match twice {
            None => Ok(()),
            Some(name) => {
                let message = format!("{}: the name stands both in properties and beside it", clip(&name));
                Err(Fault::new(ErrorType::EnvelopeError, message).into())
            }
        }
    }
}

fn separate(out: &mut String) {
    if !out.ends_with('{') {
        out.push(',');
    }
}
