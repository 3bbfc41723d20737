//! Encodes rows for a topic: each after the id of its schema in the registry.
//!
//! The record is `evt.KIND`, its fields the kind's columns; properties and dimensions are JSON text in a string, as in
//! every column. Its subject is the topic's (`TOPIC-value`) unless the registry's `subject=` says otherwise. Events can
//! also be records of another given schema: then nothing is registered.

use super::confluent::{Confluent, Strategy};
use super::reader::{self, Choice};
use super::{Registration, Registry, place};
use crate::client::Caller;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use evt_core::counts::counted;
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use evt_core::kind::dead::Fault;
use evt_core::schema::language::{self, Language, Lost, NAMESPACE, RowSchema, Schema};
use std::sync::Arc;

/// Encodes rows for one topic.
pub struct RegisteredRows {
    encoder: Box<dyn language::Encoder>,
    /// The schema, for messages.
    name: String,
    /// 00 and the id.
    head: [u8; 5],
    /// Number of rows written, what they lost, and whether lost properties and lost digits have been reported.
    written: u64,
    lost: Lost,
    has_warned: [bool; 2],
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
    /// The language of the schema of the rows.
    pub language: &'static Language,
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

    /// Looks up the given schema and its id.
    fn find(&self, choice: &Choice, registry: &Confluent, kind: &str) -> Result<(u32, Arc<dyn Schema>)> {
        let version = match choice {
            Choice::Id(id) => return Ok((*id, reader::by_id(registry, *id)?)),
            Choice::Latest => reader::version(registry, &self.subject(registry, kind), None)?,
            Choice::Subject(subject, number) => reader::version(registry, subject, *number)?,
        };
        let id = u32::try_from(version.id).map_err(|_| Error::config(format!("schema id {}", version.id)))?;
        Ok((id, version.schema))
    }

    fn subject(&self, registry: &Confluent, kind: &str) -> String {
        let strategy = registry.strategy().unwrap_or(Strategy::Topic);
        strategy.subject(self.topic, &format!("{NAMESPACE}.{kind}"))
    }
}

impl RegisteredRows {
    /// Registers the schema of the rows, or looks up the one of `schema_id=`.
    ///
    /// Errors: exit status 78 if the rows cannot be written with it, 2 if rows of this kind only have their own schema.
    pub fn open(target: Target<'_>, schema: &SchemaRef, caller: &Caller) -> Result<Self> {
        let topic = target.topic;
        let kind = Kind::of(schema).ok_or_else(|| Error::usage(format!("{topic}: expected rows of a known kind")))?;
        let RowSchema { text: own, encoder: rows } = (target.language.rows)(schema)?;
        let mut registry = place::server_only(target.schemas, caller)?;
        let (id, encoder) = match target.schema_id {
            None => {
                let subject = target.subject(&registry, kind.name());
                (registered(&mut registry, &subject, &own)?, rows)
            }
            Some(choice) => {
                let (id, theirs) = target.find(choice, &registry, kind.name())?;
                let is_own = (target.language.parse)(&own)?.canonical_form() == theirs.canonical_form();
                let records = || records(kind, theirs.as_ref(), &own);
                (id, if is_own { rows } else { records().map_err(|error| error.at(format!("schema id {id}")))? })
            }
        };
        let mut head = [0; 5];
        head[1..].copy_from_slice(&id.to_be_bytes());
        let name = format!("schema id {id}");
        Ok(Self { encoder, name, head, written: 0, lost: Lost::default(), has_warned: [false; 2] })
    }

    /// Encodes the rows of a batch, without the id of the schema; returns a fault for each row that does not fit the
    /// schema.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<Result<Bytes, Fault>>> {
        let rows = self.encoder.encode(batch, &mut self.lost)?;
        self.written += rows.iter().filter(|row| row.is_ok()).count() as u64;
        let fault = |why| Fault::of_sink(format!("{}: {why}", self.name));
        Ok(rows.into_iter().map(|row| row.map_err(fault)).collect())
    }

    /// Returns the bytes before each record.
    pub fn head(&self) -> [u8; 5] {
        self.head
    }

    /// Returns notices about the rows so far, each once.
    pub fn warnings(&mut self) -> Vec<String> {
        let Self { name, lost, .. } = self;
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
        let lost = &self.lost;
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

/// Returns an encoder of rows of a kind with a schema that is not `own`, the text of their own schema.
fn records(kind: Kind, theirs: &dyn Schema, own: &str) -> Result<Box<dyn language::Encoder>> {
    // Readers take a record with evt's name for evt's rows.
    if theirs.kind().is_some() {
        return Err(Error::config(format!("expected the schema of the rows: {own}")));
    }
    match kind {
        Kind::Event => theirs.event_encoder(),
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
        let ours = conflicts.into_iter().next().map(|conflict| conflict.message);
        let cause = ours.or(said).unwrap_or_default();
        let name = registry.name();
        return Err(Error::config(format!("{name}: subject '{subject}' rejected the schema")).because(cause));
    }
    registry.id(subject, text)
}
