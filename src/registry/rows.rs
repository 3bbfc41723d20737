//! Encodes rows for a topic in Avro: each after the id of its schema in the registry.
//!
//! The record is `evt.KIND`, its fields the kind's columns; properties and dimensions are JSON text in a string, as in
//! every column. Its subject is the topic's (`TOPIC-value`) unless the registry's `subject=` says otherwise. Events can
//! also be records of another given schema ([`crate::op::record`]): then nothing is registered.

use super::confluent::{Confluent, Strategy};
use super::reader::{self, Choice};
use super::{NAMESPACE, Registration, Registry, VersionConflict, kind_of, place};
use crate::avro::parse_schema;
use crate::client::Caller;
use crate::counts::counted;
use crate::error::{Error, Result};
use crate::format::avro::RowEncoder;
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault};
use crate::op::record::RecordEncoder;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use std::sync::Arc;

/// Encodes rows for one topic.
pub struct AvroRows {
    form: RowFormat,
    /// The schema, for messages.
    name: String,
    /// 00 and the id.
    head: [u8; 5],
    /// Number of rows written, and whether lost properties and lost digits have been reported.
    written: u64,
    has_warned: [bool; 2],
}

enum RowFormat {
    /// The rows as they are.
    Own(Box<RowEncoder>),
    /// Events as records of a given schema.
    Records(Box<RecordEncoder>),
}

/// The topic and schema of rows.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The registry, as in `--schemas`.
    pub schemas: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The schema to use; `None` registers the schema of the rows.
    pub schema_id: Option<&'a Choice>,
}

/// The schema that `schema_id=` gives.
struct GivenSchema {
    id: u32,
    /// Its text with its references written in.
    text: Arc<str>,
    /// Its name in messages: `schema id 7`.
    name: String,
}

impl Target<'_> {
    /// Checks that the registry is available and has the given schema; registers nothing.
    pub fn check(&self, caller: &Caller) -> Result<()> {
        place::check(self.schemas, caller)?;
        let Some(choice) = self.schema_id else { return Ok(()) };
        let registry = place::server_only(self.schemas, caller)?;
        // The rows' kind, which may name the subject, is not known yet.
        let by_kind = *choice == Choice::Latest && registry.strategy().is_some_and(|by| by != Strategy::Topic);
        if by_kind { Ok(()) } else { self.find(choice, &registry, "").map(|_| ()) }
    }

    /// Looks up the given schema.
    fn find(&self, choice: &Choice, registry: &Confluent, kind: &str) -> Result<GivenSchema> {
        let version = match choice {
            Choice::Id(id) => {
                let (text, name) = (reader::by_id(registry, *id)?, format!("schema id {id}"));
                return Ok(GivenSchema { id: *id, text, name });
            }
            Choice::Latest => reader::version(registry, &self.subject(registry, kind), None)?,
            Choice::Subject(subject, number) => reader::version(registry, subject, *number)?,
        };
        let id = u32::try_from(version.id).map_err(|_| Error::config(format!("schema id {}", version.id)))?;
        Ok(GivenSchema { id, text: version.text, name: format!("schema id {id}") })
    }

    fn subject(&self, registry: &Confluent, kind: &str) -> String {
        let strategy = registry.strategy().unwrap_or(Strategy::Topic);
        strategy.subject(self.topic, &format!("{NAMESPACE}.{kind}"))
    }
}

impl AvroRows {
    /// Registers the schema of the rows, or looks up the one of `schema_id=`.
    ///
    /// Errors: exit status 78 if the rows cannot be written with it, 2 if rows of this kind only have their own schema.
    pub fn open(target: Target<'_>, schema: &SchemaRef, caller: &Caller) -> Result<Self> {
        let topic = target.topic;
        let kind = Kind::of(schema).ok_or_else(|| Error::usage(format!("{topic}: expected rows of a known kind")))?;
        let own = RowEncoder::try_new(schema, Some(NAMESPACE))?;
        let mut registry = place::server_only(target.schemas, caller)?;
        let (id, form, name) = match target.schema_id {
            None => {
                let subject = target.subject(&registry, kind.name());
                let id = registered(&mut registry, &subject, own.text())?;
                (id, RowFormat::Own(Box::new(own)), format!("schema id {id}"))
            }
            Some(choice) => {
                let GivenSchema { id, text, name } = target.find(choice, &registry, kind.name())?;
                (id, form(own, kind, &text).map_err(|error| error.at(name.clone()))?, name)
            }
        };
        let mut head = [0; 5];
        head[1..].copy_from_slice(&id.to_be_bytes());
        Ok(Self { form, name, head, written: 0, has_warned: [false; 2] })
    }

    /// Encodes the rows of a batch, without the id of the schema; returns a fault for each row that does not fit the
    /// schema.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<std::result::Result<Bytes, Fault>>> {
        let records = match &mut self.form {
            RowFormat::Own(rows) => return Ok(rows.encode(batch)?.iter().map(Ok).collect()),
            RowFormat::Records(records) => records,
        };
        let (mut bytes, mut rows) = (Vec::new(), Vec::with_capacity(batch.num_rows()));
        records.encode(batch, |record| {
            let start = bytes.len();
            rows.push(record.map(|record| {
                bytes.extend_from_slice(record);
                start..bytes.len()
            }));
        })?;
        let bytes = Bytes::from(bytes);
        let name = &self.name;
        let fault = |why| Fault::new(ErrorType::SinkError, format!("{name}: {why}"));
        let rows: Vec<_> = rows.into_iter().map(|row| row.map(|row| bytes.slice(row)).map_err(fault)).collect();
        self.written += rows.iter().filter(|row| row.is_ok()).count() as u64;
        Ok(rows)
    }

    /// Returns the bytes before each record.
    pub fn head(&self) -> [u8; 5] {
        self.head
    }

    /// Returns notices about the rows so far, each once.
    pub fn warnings(&mut self) -> Vec<String> {
        let RowFormat::Records(records) = &self.form else { return vec![] };
        let (name, lost) = (&self.name, records.lost());
        let mut warnings = vec![];
        if let (true, Some(property)) = (lost.properties.events > 0 && !self.has_warned[0], &lost.properties.first) {
            warnings.push(format!("{name} has no field for '{property}'; properties without a field are not written"));
            self.has_warned[0] = true;
        }
        if let (true, Some(field)) = (lost.digits.events > 0 && !self.has_warned[1], &lost.digits.first) {
            warnings.push(format!("{name}: {field}: times are truncated to the unit of this field"));
            self.has_warned[1] = true;
        }
        warnings
    }

    /// Returns how many rows were written incompletely; `None` if all were complete.
    pub fn summary(&self) -> Option<String> {
        let RowFormat::Records(records) = &self.form else { return None };
        let lost = records.lost();
        let part = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let parts = [
            part(lost.properties.events, "without properties that have no field"),
            part(lost.digits.events, "with truncated times"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let written = counted(self.written, ["event", "events"]);
        let said = || format!("{}: {written} written, {}", self.name, parts.join(", "));
        (!parts.is_empty()).then(said)
    }
}

/// Returns the form in which rows of a kind are written with the schema `text`.
fn form(own: RowEncoder, kind: Kind, text: &str) -> Result<RowFormat> {
    let theirs = parse_schema(text)?;
    if parse_schema(own.text())?.canonical_form() == theirs.canonical_form() {
        return Ok(RowFormat::Own(Box::new(own)));
    }
    // Readers take a record with evt's name for evt's rows.
    if kind_of(&theirs).is_some() {
        return Err(Error::config(format!("expected the schema of the rows: {}", own.text())));
    }
    match kind {
        Kind::Event => Ok(RowFormat::Records(Box::new(RecordEncoder::try_new(&theirs)?))),
        other => {
            let name = other.name();
            let why = format!("schema_id= is supported for events only; remove it for rows of {name}");
            Err(Error::usage(why))
        }
    }
}

/// Registers the schema, subject to the subject's level; returns its id.
fn registered(registry: &mut Arc<Confluent>, subject: &str, text: &str) -> Result<u32> {
    if let Registration::Refused { conflicts, said } = registry.register(subject, text)? {
        let ours = conflicts.first().map(VersionConflict::describe);
        let cause = ours.or(said).unwrap_or_default();
        let name = registry.name();
        return Err(Error::config(format!("{name}: subject '{subject}' rejected the schema")).because(cause));
    }
    registry.id(subject, text)
}
