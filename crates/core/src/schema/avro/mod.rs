//! Avro as a language of schemas.
//!
//! ```text
//! schema ─► walk::compile ─► fields (columns, properties) ─► checks
//!                                                              │
//! event: columns, JSON of properties ──────────► walk, scalar ─┴─► whether it is valid, or its fault
//! ```
//!
//! - `event.rs`: the check of an event; `walk.rs` compiles a schema to checks and walks JSON text, `fields.rs` looks up
//!   the fields of a record, `scalar.rs` checks numbers and strings.
//! - `record.rs`: encodes events as records of a given schema.

mod event;
mod fields;
mod record;
mod scalar;
pub mod walk;

use self::event::{AvroCheck, EventPlan};
use self::record::RecordEncoder;
use self::walk::StopAtFirst;
use super::language::{Decoder, Encoder, EventCheck, Incompatibility, Language, Lost, NAMESPACE, RowSchema, Schema};
use crate::avro::decode::{self, UNPLACED};
use crate::avro::parse::TEXT_BYTES_MAX;
use crate::avro::reference::inlined;
use crate::avro::schema::{SchemaFault, TypeName};
use crate::avro::{self, compat, parse_lenient, parse_schema};
use crate::error::{Error, Result};
use crate::format::avro::RowEncoder;
use crate::kind::dead::{ErrorType, Fault};
use arrow::array::RecordBatch;
use bytes::Bytes;
use std::any::Any;
use std::sync::Arc;

/// Avro.
pub const LANGUAGE: Language = Language {
    name: "AVRO",
    text_bytes_max: TEXT_BYTES_MAX,
    parse: |text| Ok(Arc::new(parse_schema(text)?)),
    inline: inlined,
    decoder: |text| parse_lenient(text).map(|schema| boxed(decode::Decoder::of(&schema), &schema)),
    rows: |columns| {
        let rows = RowEncoder::try_new(columns, Some(NAMESPACE))?;
        Ok(RowSchema { text: rows.text().to_owned(), encoder: Box::new(rows) })
    },
};

/// The reason why a schema of another language is not compatible.
const OTHER_LANGUAGE: &str = "the schemas are in different languages";

/// Returns a decoder that writes the columns of evt's kinds in their own forms, if `reader` describes one of them.
fn boxed(decoder: decode::Decoder, reader: &avro::Schema) -> Box<dyn Decoder> {
    Box::new(decoder.for_kind(reader.kind()))
}

/// Returns a schema as Avro's; `None` if it is in another language.
fn as_avro(schema: &dyn Schema) -> Option<&avro::Schema> {
    let schema: &dyn Any = schema;
    schema.downcast_ref()
}

impl Schema for avro::Schema {
    fn name(&self) -> Option<String> {
        self.node(self.root()).avro_type.name().map(TypeName::full)
    }

    fn canonical_form(&self) -> String {
        self.canonical_form()
    }

    fn identity(&self) -> String {
        self.identity()
    }

    fn incompatibilities(&self, writer: &dyn Schema) -> Vec<Incompatibility> {
        let Some(writer) = as_avro(writer) else {
            return vec![Incompatibility { path: self.title(), why: OTHER_LANGUAGE.to_owned() }];
        };
        let faults = compat::check(self, writer).into_iter();
        faults.map(|SchemaFault { path, why }| Incompatibility { path, why }).collect()
    }

    fn decoder(&self, writer: &dyn Schema) -> Result<Box<dyn Decoder>> {
        let writer = as_avro(writer).ok_or_else(|| Error::config(OTHER_LANGUAGE).at(self.title()))?;
        Ok(boxed(decode::Decoder::resolving(writer, self)?, self))
    }

    fn event_check(&self, closed: bool) -> Result<Box<dyn EventCheck>, String> {
        Ok(Box::new(AvroCheck { plan: EventPlan::try_new(self, closed)?, quiet: StopAtFirst::default() }))
    }

    fn event_encoder(&self) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(RecordEncoder::try_new(self)?))
    }
}

impl Decoder for decode::Decoder {
    fn decode(&mut self, payload: &mut &[u8], out: &mut String) -> Result<(), Fault> {
        self.decode(payload, out).map_err(|why| {
            let is_unplaced = UNPLACED.contains(&why);
            Fault::new(if is_unplaced { ErrorType::SchemaValidationError } else { ErrorType::ParseError }, why)
        })
    }
}

impl Encoder for RowEncoder {
    fn encode(&mut self, batch: &RecordBatch, _: &mut Lost) -> Result<Vec<Result<Bytes, String>>> {
        Ok(self.encode(batch)?.iter().map(Ok).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;

    /// A schema of another language.
    #[derive(Debug)]
    struct Foreign;

    impl Schema for Foreign {
        fn name(&self) -> Option<String> {
            Some("evt.metric".to_owned())
        }

        fn canonical_form(&self) -> String {
            String::new()
        }

        fn identity(&self) -> String {
            String::new()
        }

        fn incompatibilities(&self, _: &dyn Schema) -> Vec<Incompatibility> {
            vec![]
        }

        fn decoder(&self, _: &dyn Schema) -> Result<Box<dyn Decoder>> {
            Err(Error::config("none"))
        }

        fn event_check(&self, _: bool) -> Result<Box<dyn EventCheck>, String> {
            Err("none".to_owned())
        }

        fn event_encoder(&self) -> Result<Box<dyn Encoder>> {
            Err(Error::config("none"))
        }
    }

    fn parsed(text: &str) -> Arc<dyn Schema> {
        (LANGUAGE.parse)(text).unwrap()
    }

    fn named(name: &str) -> Arc<dyn Schema> {
        parsed(&format!(r#"{{"type":"enum","name":"{name}","symbols":["A"]}}"#))
    }

    #[test]
    fn a_schema_of_another_language_is_neither_compatible_nor_readable() {
        let [reason] = named("x.E").incompatibilities(&Foreign).try_into().unwrap();
        assert_eq!((reason.path.as_str(), reason.why.as_str()), ("E", OTHER_LANGUAGE));
        let error = named("x.E").decoder(&Foreign).err().unwrap();
        assert_eq!(error.to_string(), "E: the schemas are in different languages");
    }

    #[test]
    fn the_kind_of_a_schema_is_told_from_its_full_name() {
        assert_eq!(Foreign.kind(), Some(Kind::Metric));
        let kinds =
            ["evt.event", "event", "evt.x.event", "x.event", "evtevent", "evt.x"].map(|name| named(name).kind());
        assert_eq!(kinds, [Some(Kind::Event), None, None, None, None, None]);
        assert_eq!((parsed("\"int\"").name(), parsed("\"int\"").kind()), (None, None));
    }

    #[test]
    fn a_value_without_a_counterpart_violates_the_readers_schema_and_other_bytes_are_corrupt() {
        let writer = parsed(r#"{"type":"enum","name":"E","symbols":["A","B"]}"#);
        let mut decoder = named("E").decoder(writer.as_ref()).unwrap();
        let mut decode = |bytes: &[u8]| {
            let (mut payload, mut text) = (bytes, String::new());
            let decoded = decoder.decode(&mut payload, &mut text);
            decoded.map(|()| text).map_err(|fault| fault.error_type)
        };
        assert_eq!(decode(&[0]), Ok(r#"{"value":"A"}"#.to_owned()));
        assert_eq!(decode(&[2]), Err(ErrorType::SchemaValidationError));
        assert_eq!(decode(&[4]), Err(ErrorType::ParseError));
    }

    #[test]
    fn rows_are_payloads_of_the_schema_of_their_kind() {
        let RowSchema { text, mut encoder } = (LANGUAGE.rows)(&Kind::Metric.schema()).unwrap();
        assert_eq!(parsed(&text).kind(), Some(Kind::Metric));
        let (batch, mut lost) = (RecordBatch::new_empty(Kind::Metric.schema()), Lost::default());
        assert_eq!(encoder.encode(&batch, &mut lost).unwrap(), []);
        assert_eq!(lost, Lost::default());
    }
}
