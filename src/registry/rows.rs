//! Rows on a topic in Avro: each behind the id of a schema that the registry has.
//!
//! The record is `evt.KIND`, its fields the kind's columns; properties and dimensions are JSON text in a string, as they
//! are in every column. Its subject is the topic's (`TOPIC-value`) unless the registry's `subject=` says otherwise.

use super::confluent::{Confluent, Strategy};
use super::wire::NAMESPACE;
use super::{Registration, Registry, Schema, place, reader};
use crate::console::Console;
use crate::error::{Error, Result};
use crate::format::avro::RowEncoder;
use crate::kind::Kind;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use std::sync::Arc;

/// Encodes rows for one topic.
pub struct AvroRows {
    rows: RowEncoder,
    /// 00 and the id.
    head: [u8; 5],
}

/// Where the rows of a topic have their schema.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The registry, as `--schemas` names it.
    pub schemas: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The schema to use, an id or `latest`; none registers that of the rows.
    pub schema_id: Option<&'a str>,
}

impl AvroRows {
    /// Registers the schema of the rows, or finds the one that `schema_id=` names; 78 if it may not be written.
    pub fn open(target: Target<'_>, schema: &SchemaRef, console: &Console) -> Result<Self> {
        let Target { schemas, topic, schema_id } = target;
        let kind = Kind::of(schema).ok_or_else(|| Error::usage(format!("{topic}: rows of no kind of evt")))?;
        let rows = RowEncoder::try_new(schema, Some(NAMESPACE))?;
        let mut registry = place::server_only(schemas, console)?;
        let strategy = registry.strategy().unwrap_or(Strategy::Topic);
        let subject = strategy.subject(topic, &format!("{NAMESPACE}.{}", kind.name()));
        let id = match schema_id {
            None => registered(&mut registry, &subject, rows.text())?,
            Some("latest") => {
                let latest = reader::version(&registry, &subject, None)?;
                same(&rows, &latest.text, &format!("subject '{subject}' version {}", latest.number))?;
                u32::try_from(latest.id).map_err(|_| Error::config(format!("schema id {}", latest.id)))?
            }
            Some(id) => {
                let id = id.parse().map_err(|_| Error::usage(format!("{topic}: schema_id={id}: no number")))?;
                same(&rows, &reader::by_id(&registry, id)?, &format!("schema id {id}"))?;
                id
            }
        };
        let mut head = [0; 5];
        head[1..].copy_from_slice(&id.to_be_bytes());
        Ok(Self { rows, head })
    }

    /// Rows of a batch, without their heads.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<Bytes>> {
        Ok(self.rows.encode(batch)?.iter().collect())
    }

    /// What stands before each record.
    pub fn head(&self) -> [u8; 5] {
        self.head
    }
}

/// The id of the schema once it is a version of the subject; the gate is the subject's level.
fn registered(registry: &mut Arc<Confluent>, subject: &str, text: &str) -> Result<u32> {
    if let Registration::Refused { conflicts, said } = registry.register(subject, text)? {
        let ours = conflicts.first().map(|(number, conflict)| conflict.describe(&format!("version {number}")));
        let cause = ours.or(said).unwrap_or_default();
        let name = registry.name();
        return Err(Error::config(format!("{name}: subject '{subject}' takes no schema of these rows")).because(cause));
    }
    registry.id(subject, text)
}

/// Refuses a schema by which our bytes would not be read as they are meant.
fn same(rows: &RowEncoder, text: &str, what: &str) -> Result<()> {
    let (ours, theirs) = (Schema::parse(rows.text())?, Schema::parse(text).map_err(|error| error.at(what))?);
    match ours.canonical_form() == theirs.canonical_form() {
        true => Ok(()),
        false => Err(Error::config(format!("{what}: it is another schema than that of the rows: {}", rows.text()))),
    }
}
