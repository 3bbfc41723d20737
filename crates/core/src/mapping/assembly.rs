//! Builds one row from the fields of one record.

use super::build::{Row, WatchedRanges};
use super::envelope::{Envelope, Value, Watched, column_of, watched_name};
use super::future::FutureCheck;
use super::id::{hashed_id, parse_uuid};
use super::mapped::InputPartition;
use super::options::TimeFrom;
use super::partitions::{NAMED, UNSTAMPED};
use super::path::{Path, clip, shown};
use super::plan::{MapperState, NamedPath, Plan, RowResult, Stamps, Unmapped};
use super::record::{FutureVerdict, Record};
use super::when::{holds_number, time_fields, too_early, unreadable};
use crate::json::text::{is_text, unescape};
use crate::json::walk::members;
use crate::kind::dead::{ErrorType, Fault};
use crate::kind::event::{ADDED_BITS, COLUMNS, PROVENANCE_BITS, column};
use crate::kind::record_id::made_id;
use std::borrow::Cow;
use std::collections::HashSet;

/// Fields whose column gets another value: they become properties.
#[derive(Clone, Copy, Default)]
struct Replaced<'a> {
    event_time: Value<'a>,
    event_id: Value<'a>,
}

impl<'a> Replaced<'a> {
    /// Returns the fields that are present, each with its column.
    fn fields(self) -> impl Iterator<Item = (usize, Value<'a>)> {
        let fields = [(column::EVENT_ID, self.event_id), (column::EVENT_TIME, self.event_time)];
        fields.into_iter().filter(|(_, value)| *value != Value::Absent)
    }

    #[inline(always)]
    fn is_empty(self) -> bool {
        matches!((self.event_time, self.event_id), (Value::Absent, Value::Absent))
    }
}

/// The id of a record.
enum RecordId<'a> {
    /// The record has none: the id is derived from its position and payload.
    Absent,
    Uuid([u8; 16]),
    /// Text that is hashed with the source.
    Text(Cow<'a, str>),
}

/// One row under construction.
pub(super) struct Assembly<'a, 'm, 's> {
    pub(super) plan: &'s Plan,
    pub(super) out: &'s mut MapperState,
    pub(super) envelope: &'s Envelope<'a, 'm>,
    pub(super) record: Record<'s>,
    /// The partition of its input.
    pub(super) partition: &'s InputPartition,
    /// The stamps that the record carries; without them it is stamped anew.
    pub(super) stamps: Option<Stamps>,
    /// Its raw record, if it has one.
    pub(super) raw: Option<&'s [u8]>,
}

impl<'a> Assembly<'a, '_, '_> {
    /// Builds the row and adds it to the batch.
    #[inline(always)]
    pub(super) fn run(&mut self) -> RowResult<()> {
        let client_timestamp = self.instant(column::CLIENT_TIMESTAMP, 1)?;
        let own = self.instant(column::SERVER_TIMESTAMP, 2)?;
        let server_timestamp = own.or_else(|| self.arrived());
        let mut replaced = Replaced::default();
        let event_time = match self.stamps {
            Some(_) => self.needed(column::EVENT_TIME)?,
            None => self.event_time(client_timestamp, server_timestamp, &mut replaced)?,
        };
        // Most records have no provenance fields, so none are looked up.
        let bare = self.envelope.lacks(PROVENANCE_BITS) && self.plan.sets.is_empty();
        let partition =
            if bare && self.plan.partitions.is_none() { self.partition.number } else { self.named_partition()? };
        if self.stamps.is_none() {
            let fact = self.record.meta.arrival.filter(|arrival| arrival.is_fact).map(|arrival| arrival.at);
            self.judge(FutureCheck { partition, event_time, arrival: own.or(fact) })?;
        }
        let (offset, ingested_at, schema_id) = match self.stamps {
            Some(stamps) => (stamps.offset, stamps.ingested_at.unwrap_or(self.record.now), stamps.schema_id),
            None if bare => (self.record.meta.offset, self.ingested(), None),
            None => (
                self.integer(column::OFFSET)?.unwrap_or(self.record.meta.offset),
                self.instant(column::INGESTED_AT, 0)?.unwrap_or_else(|| self.ingested()),
                self.integer(column::SCHEMA_ID)?,
            ),
        };
        let id = self.id(&mut replaced)?;
        let source = self.text(column::SOURCE)?;
        let event_type = self.text(column::EVENT_TYPE)?;
        let user_id = self.text(column::USER_ID)?;
        let mut properties = std::mem::take(&mut self.out.properties);
        let whole = self.properties(&mut properties, replaced)?;
        let source = match source {
            Some(source) => source,
            None => {
                self.out.facts.defaults.source = true;
                Cow::Owned(self.name_of(partition).0.to_owned())
            }
        };
        let defaults = &mut self.out.facts.defaults;
        defaults.event_type |= event_type.is_none();
        defaults.filled = Some(defaults.filled.unwrap_or(self.plan.mapped) | self.envelope.filled());
        let found = self.watched(replaced);
        let row = Row {
            event_id: self.event_id(id, &source, partition, offset),
            source: &source,
            event_type: event_type.as_deref().unwrap_or("event"),
            user_id: user_id.as_deref(),
            properties: whole.unwrap_or(&properties),
            client_timestamp,
            server_timestamp,
            ingested_at,
            event_time,
            partition,
            offset,
            stream_time: self.stamps.map_or(UNSTAMPED, |stamps| stamps.stream_time),
            schema_id,
            raw: self.raw,
            watched: WatchedRanges {
                text: self.envelope.text,
                ranges: found.as_ref().unwrap_or(&self.envelope.marks.watched),
            },
            distinct: self.envelope.marks.distinct,
        };
        let pushed = self.out.builder.push(&row).map_err(|error| Box::new(Unmapped::Error(error)));
        self.out.properties = properties;
        pushed
    }

    /// Returns the ranges of the watched properties if a replaced field is one of them.
    #[inline(always)]
    fn watched(&mut self, replaced: Replaced<'a>) -> Option<Watched> {
        if replaced.is_empty() { None } else { self.watched_beside(replaced) }
    }

    #[inline(never)]
    fn watched_beside(&mut self, replaced: Replaced<'a>) -> Option<Watched> {
        let mut found = None;
        for (column, value) in replaced.fields() {
            self.out.facts.shadowed |= 1 << column;
            let at = watched_name(&self.plan.options.reads.properties, COLUMNS[column]);
            if let Some(at) = at.filter(|at| self.envelope.marks.watched.get(*at).is_some_and(Option::is_none)) {
                let watched = found.get_or_insert(self.envelope.marks.watched);
                watched[at] = self.envelope.span(value);
            }
        }
        found
    }

    /// Returns the arrival if it replaces a missing `server_timestamp`. It does not if the record has an `event_time`,
    /// because a later reader would then ignore the `event_time`.
    #[inline(always)]
    fn arrived(&self) -> Option<i64> {
        let arrival = self.record.meta.arrival?;
        let own = self.plan.options.time == TimeFrom::Default
            && !self.plan.options.stamped_at_arrival
            && self.envelope.field(column::EVENT_TIME) != Value::Absent;
        (!own && self.plan.set(column::SERVER_TIMESTAMP).is_none()).then_some(arrival.at)
    }

    /// Returns `ingested_at`: the time of reading or, if the option `ingested_at_arrival` is set, the arrival that the
    /// clock of a server set.
    fn ingested(&self) -> i64 {
        let arrival =
            self.record.meta.arrival.filter(|arrival| self.plan.options.ingested_at_arrival && arrival.is_fact);
        arrival.map_or(self.record.now, |arrival| arrival.at)
    }

    /// Applies `--min-time` to a time that may be too early.
    #[cold]
    fn early(&self, event_time: i64) -> RowResult<()> {
        let options = &self.plan.options;
        match options.min_time.is_some() || event_time >= 0 && self.is_time_number() {
            true => Err(too_early(&options.when, options.min_time, event_time).into()),
            false => Ok(()),
        }
    }

    /// Whether the event time was read from a number, or from a text that is one.
    fn is_time_number(&self) -> bool {
        let of_column = |index| self.plan.set(index).map_or(self.envelope.field(index), Value::Plain);
        let value = match (&self.plan.options.time, &self.plan.time(self.envelope).path) {
            (TimeFrom::Arrival, _) => Value::Absent,
            (TimeFrom::Expr(_), _) => {
                return self.plan.expr.as_ref().is_some_and(|expr| expr.gives_number(self.record.text));
            }
            (TimeFrom::Field(_), Path::Column(index)) => of_column(*index),
            (TimeFrom::Field(_), path) => path.value(self.envelope),
            _ => match of_column(column::SERVER_TIMESTAMP) {
                Value::Absent if self.arrived().is_none() => of_column(column::EVENT_TIME),
                value => value,
            },
        };
        // A format with %s reads a number, whatever stands around it.
        let when = &self.plan.options.when;
        holds_number(value) || value != Value::Absent && when.unit.is_none() && when.names_unit()
    }

    /// Applies `--min-time` and `--max-future`: the record passes, becomes a dead letter, or waits. A call costs 19
    /// instructions, so most records pass without one.
    #[inline(always)]
    fn judge(&self, check: FutureCheck) -> RowResult<()> {
        let passes = check.event_time >= self.plan.earliest && self.plan.options.max_future.is_none();
        if passes { Ok(()) } else { self.examine(check) }
    }

    #[inline(never)]
    fn examine(&self, check: FutureCheck) -> RowResult<()> {
        if check.event_time < self.plan.earliest {
            self.early(check.event_time)?;
        }
        let Some(limit) = self.plan.options.max_future else { return Ok(()) };
        let known = match self.record.verdict {
            FutureVerdict::Passed => return Ok(()),
            FutureVerdict::ByArrival => check.by_arrival(limit),
            FutureVerdict::Waits => None,
        };
        match known {
            Some(verdict) => Ok(verdict?),
            None => Err(Box::new(Unmapped::Pending(check))),
        }
    }

    /// Returns the event time; an `event_time` field with another value is replaced.
    fn event_time(
        &mut self,
        client_timestamp: Option<i64>,
        server_timestamp: Option<i64>,
        replaced: &mut Replaced<'a>,
    ) -> RowResult<i64> {
        let unused = self.envelope.field(column::EVENT_TIME);
        let plan = self.plan;
        let NamedPath { name, path } = plan.time(self.envelope);
        let time = match (&plan.options.time, path) {
            (TimeFrom::Arrival, _) => {
                replaced.event_time = unused;
                return Ok(self.record.now);
            }
            (TimeFrom::Expr(text), _) => {
                let found = plan
                    .expr
                    .as_ref()
                    .map(|expr| expr.read(self.record.text, &plan.options.when, &mut self.out.parsers[0]));
                found.transpose()?.flatten().ok_or_else(|| self.no_time(text))?
            }
            (TimeFrom::Field(_), Path::Column(column::EVENT_TIME)) => return self.timed(column::EVENT_TIME),
            (TimeFrom::Field(_), Path::Column(index)) => {
                let known = match *index {
                    column::CLIENT_TIMESTAMP => client_timestamp,
                    column::SERVER_TIMESTAMP => server_timestamp,
                    _ => self.instant(*index, 0)?,
                };
                known.ok_or_else(|| self.no_time(COLUMNS[*index]))?
            }
            (TimeFrom::Field(all), path) => {
                let value = path.value(self.envelope);
                self.read(value, name, 0)?.ok_or_else(|| self.no_time(all))?
            }
            (policy, _) => match server_timestamp {
                Some(time) => time,
                None if unused != Value::Absent => {
                    let time = self.needed(column::EVENT_TIME)?;
                    self.out.times.timed = true;
                    return Ok(time);
                }
                None if *policy == TimeFrom::Optional => self.record.now,
                None if *policy == TimeFrom::Untimed && self.out.times.timed == self.out.times.clocked => {
                    self.out.times.clocked = true;
                    self.record.now
                }
                None => return Err(self.no_time(COLUMNS[column::SERVER_TIMESTAMP])),
            },
        };
        self.out.times.timed = true;
        replaced.event_time = unused;
        Ok(time)
    }

    fn timed(&mut self, index: usize) -> RowResult<i64> {
        let time = self.instant(index, 0)?.ok_or_else(|| self.no_time(COLUMNS[index]))?;
        self.out.times.timed = true;
        Ok(time)
    }

    #[cold]
    fn no_time(&self, name: &str) -> Box<Unmapped> {
        if !self.out.times.timed {
            return Box::new(Unmapped::NoTime);
        }
        let samples = time_fields(self.record.text);
        let others = samples.names();
        let message = match others.is_empty() {
            true => format!("{name}: missing or null, and the event has no other time"),
            false => format!("{name}: missing or null; the event has other times: {}", others.join(", ")),
        };
        Fault::new(ErrorType::TimestampError, message).into()
    }

    /// Reads the instant of a column that must have one.
    fn needed(&mut self, index: usize) -> RowResult<i64> {
        let missing = || Fault::new(ErrorType::TimestampError, format!("{}: missing or null", COLUMNS[index]));
        Ok(self.instant(index, 0)?.ok_or_else(missing)?)
    }

    /// Reads the instant of a column, if it has one. `slot` selects a parser, which caches the last date per busy
    /// column.
    #[inline(always)]
    fn instant(&mut self, index: usize, slot: usize) -> RowResult<Option<i64>> {
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
    fn unusual_instant(&mut self, index: usize, slot: usize) -> RowResult<Option<i64>> {
        if let Some(text) = self.plan.set(index) {
            let text = text.to_owned();
            return self.read(Value::Plain(&text), COLUMNS[index], slot);
        }
        self.read(self.envelope.field(index), COLUMNS[index], slot)
    }

    fn read(&mut self, value: Value<'_>, name: &str, slot: usize) -> RowResult<Option<i64>> {
        if value == Value::Absent {
            return Ok(None);
        }
        let when = &self.plan.options.when;
        match when.read(value, &mut self.out.parsers[slot]) {
            Some(instant) => {
                // A record that waited for its verdict is read again.
                let is_first = self.record.verdict != FutureVerdict::Passed;
                self.out.facts.doubled += u64::from(is_first && when.is_doubled(value, instant));
                if self.out.facts.is_local.is_none() && self.plan.options.window_zone.is_some() {
                    self.out.facts.is_local = Some(when.zone.is_none() && when.is_local(value));
                }
                Ok(Some(instant))
            }
            None => {
                let fault = unreadable(when, name, value);
                let is_event_time = name == self.plan.options.time.field();
                Err(Fault { proposal: fault.proposal.filter(|_| is_event_time), ..fault }.into())
            }
        }
    }

    /// Reads the text of a column: a string, or the text of any scalar if `--field` copied it.
    #[inline(always)]
    fn text(&self, index: usize) -> RowResult<Option<Cow<'a, str>>> {
        match self.envelope.field(index) {
            Value::Plain(text) if self.plan.sets.is_empty() => Ok(Some(Cow::Borrowed(text))),
            Value::Absent if self.plan.sets.is_empty() => Ok(None),
            _ => self.unusual_text(index),
        }
    }

    #[inline(never)]
    fn unusual_text(&self, index: usize) -> RowResult<Option<Cow<'a, str>>> {
        if let Some(text) = self.plan.set(index) {
            return Ok(Some(Cow::Owned(text.to_owned())));
        }
        let name = COLUMNS[index];
        match self.envelope.field(index) {
            Value::Absent => Ok(None),
            Value::Plain(text) => Ok(Some(Cow::Borrowed(text))),
            Value::Escaped(raw) if is_text(raw) => Ok(Some(unescape(raw))),
            Value::Escaped(_) => {
                Err(Fault::new(ErrorType::EnvelopeError, format!("{name}: the string has a lone surrogate")).into())
            }
            Value::Other(text) if self.plan.is_copied(index) && !text.starts_with(['{', '[']) => {
                Ok(Some(Cow::Borrowed(text)))
            }
            Value::Other(number) if matches!(index, column::EVENT_ID | column::USER_ID) && is_number(number) => {
                Ok(Some(Cow::Borrowed(number)))
            }
            value => {
                let remedy = match value {
                    Value::Other(text) if !text.starts_with(['{', '[']) => {
                        format!("; --field {name}={name} converts it to text")
                    }
                    _ => String::new(),
                };
                let message = format!("{name}: expected a string, found {}{remedy}", shown(value));
                Err(Fault::new(ErrorType::EnvelopeError, message).into())
            }
        }
    }

    fn integer(&self, index: usize) -> RowResult<Option<i64>> {
        let text = match (self.plan.set(index), self.envelope.field(index)) {
            (Some(text), _) => text,
            (None, Value::Absent) => return Ok(None),
            (None, Value::Plain(text) | Value::Escaped(text) | Value::Other(text)) => text,
        };
        text.parse().map(Some).map_err(|_| {
            let message = format!("{}: expected an integer, found {}", COLUMNS[index], clip(text));
            Fault::new(ErrorType::EnvelopeError, message).into()
        })
    }

    /// Returns the (origin, partition) of a number.
    fn name_of(&self, partition: u32) -> (&str, &str) {
        match partition.checked_sub(NAMED) {
            Some(named) => self.out.named.name(named),
            None => (&self.partition.origin, &self.partition.name),
        }
    }

    /// Returns the number of the row's partition, which the record may name.
    fn named_partition(&mut self) -> RowResult<u32> {
        let (origin, name) = (self.text(column::ORIGIN)?, self.text(column::PARTITION)?);
        let InputPartition { number, origin: own_origin, name: own_name } = self.partition;
        if let Some(partitions) = &self.plan.partitions {
            let name = name.as_deref().unwrap_or(own_name.as_str());
            // evt-window waits for the partitions that are named. Rows of any other would be late or not depending on
            // timing.
            if !partitions.iter().any(|one| one == name) {
                let message = format!("partition: expected one of --partitions, found \"{}\"", clip(name));
                return Err(Fault::new(ErrorType::EnvelopeError, message).into());
            }
        }
        if origin.is_none() && name.is_none() {
            return Ok(*number);
        }
        let (origin, name) = (origin.as_deref().unwrap_or(own_origin), name.as_deref().unwrap_or(own_name));
        Ok(NAMED + self.out.named.number(*number, origin, name))
    }

    /// Reads the record's id. Text that is hashed stays a property if it is the value of the column's own field.
    #[inline(always)]
    fn id(&self, replaced: &mut Replaced<'a>) -> RowResult<RecordId<'a>> {
        let Some(text) = self.text(column::EVENT_ID)? else { return Ok(RecordId::Absent) };
        match parse_uuid(&text) {
            Some(id) => Ok(RecordId::Uuid(id)),
            None if self.plan.options.hash_ids => {
                replaced.event_id = self.plan.own_field(column::EVENT_ID, self.envelope);
                Ok(RecordId::Text(text))
            }
            None => {
                let message = format!("event_id: expected a UUID, found \"{}\"; --hash-ids derives one", clip(&text));
                Err(Fault::new(ErrorType::EnvelopeError, message).into())
            }
        }
    }

    fn event_id(&mut self, id: RecordId<'a>, source: &str, partition: u32, offset: i64) -> [u8; 16] {
        match id {
            RecordId::Uuid(id) => id,
            RecordId::Text(text) => hashed_id(source, &text),
            RecordId::Absent => {
                self.out.facts.made_ids += 1;
                let (origin, name) = self.name_of(partition);
                made_id(origin, name, offset, self.record.raw)
            }
        }
    }

    /// Returns the record's own properties object unchanged, or `None` after writing the properties to `out`.
    fn properties(&self, out: &mut String, replaced: Replaced<'a>) -> RowResult<Option<&'a str>> {
        out.clear();
        let object = match self.envelope.properties {
            Value::Other(object) if object.starts_with('{') => Some(object),
            Value::Absent => None,
            value => {
                let message = format!("properties: expected an object, found {}", shown(value));
                return Err(Fault::new(ErrorType::EnvelopeError, message).into());
            }
        };
        if let (Some(object), true, true) = (object, self.envelope.marks.members.is_empty(), replaced.is_empty()) {
            return Ok(Some(object));
        }
        let mut first = 0;
        if let Some(object) = object {
            first = self.names_in_both(object, replaced)?;
            out.push_str(object[..object.len() - 1].trim_end());
        } else {
            out.push('{');
        }
        for member in &self.envelope.marks.members {
            let (key, value) = (member.key(self.envelope.text), member.value(self.envelope.text));
            if first == 0 || column_of(&unescape(key)).is_none_or(|at| first >> at & 1 == 0) {
                write_member(out, key, value);
            }
        }
        for (column, value) in replaced.fields().filter(|(column, _)| first >> column & 1 == 0) {
            if let Some(range) = self.envelope.span(value) {
                write_member(out, COLUMNS[column], range.of(self.envelope.text));
            }
        }
        out.push('}');
        Ok(None)
    }

    /// Checks for names both in `properties` and beside it, which would be two values of one property. Only columns
    /// that evt fills may occur twice: every topic of raw records that an event passes adds its own, and the first
    /// stays. Returns the columns of such names, as bits.
    fn names_in_both(&self, object: &str, replaced: Replaced<'a>) -> RowResult<u32> {
        let members_beside = &self.envelope.marks.members;
        let names = || {
            let beside = members_beside.iter().map(|one| unescape(one.key(self.envelope.text)));
            beside.chain(replaced.fields().map(|(column, _)| Cow::Borrowed(COLUMNS[column])))
        };
        let traces = names().fold(0, |traces, name| traces | trace(&name));
        // Up to 16 names are compared one by one; for more that would be quadratic.
        let many: HashSet<Cow<'_, str>> = if members_beside.len() > 16 { names().collect() } else { HashSet::new() };
        let (mut first, mut twice) = (0, None);
        members(object, |key, _| {
            let key = unescape(key);
            if traces & trace(&key) == 0 {
                return true;
            }
            if many.contains(&key) || many.is_empty() && names().any(|name| name == key) {
                match column_of(&key).filter(|index| ADDED_BITS >> index & 1 == 1) {
                    Some(index) => first |= 1 << index,
                    None => twice = Some(key.into_owned()),
                }
            }
            twice.is_none()
        });
        match twice {
            None => Ok(first),
            Some(name) => {
                let message =
                    format!("{}: duplicate name, in the record and in its properties; --plain keeps both", clip(&name));
                Err(Fault::new(ErrorType::EnvelopeError, message).into())
            }
        }
    }
}

/// Whether a JSON value that is not a string is a number.
fn is_number(text: &str) -> bool {
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// Returns a bit chosen by a name's length and its first and last byte. Names with different bits differ, so most names
/// need no comparison.
fn trace(name: &str) -> u64 {
    let end = |byte: Option<&u8>| byte.map_or(0, |byte| usize::from(*byte));
    1 << ((name.len() + end(name.as_bytes().first()) * 5 + end(name.as_bytes().last()) * 11) % 64)
}

/// Adds a member to an object that is not closed; `key` is escaped.
fn write_member(out: &mut String, key: &str, value: &str) {
    out.push_str(if out.ends_with('{') { "\"" } else { ",\"" });
    out.push_str(key);
    out.push_str("\":");
    out.push_str(value);
}
