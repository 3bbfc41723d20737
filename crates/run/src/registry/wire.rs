//! Records of topics: each with the id of its writer's schema, before it or in a header.
//!
//! ```text
//! 00 IIIIIIII body…    the id, big-endian, then the record as the schema's language encodes it
//! 01 G×16 body…        the GUID of the schema
//! ```
//!
//! The header `__value_schema_id` may have the same five or seventeen bytes instead; then the record is the body alone.
//! A record is decoded by the schema it was written with, to the JSON text that the mapping reads. With a reader's
//! schema ([`super::reader`]), the text is that of the record as the reader reads it.

use super::confluent::recall::Recall;
use super::confluent::{Confluent, SchemaKey};
use super::reader::{Choice, Readers};
use evt_core::counts::counted;
use evt_core::kind::dead::{ErrorType, Fault};
use evt_core::parse::bytes::Cursor;
use evt_core::schema::language::{self, SchemaText};
use evt_core::schema::subject::Lookup;
use std::collections::HashMap;
use std::sync::Arc;

/// The header with the id of a value's schema.
pub const HEADER: &str = "__value_schema_id";
/// Maximum number of compiled decoders; beyond that all are dropped and compiled again on use.
const DECODERS_MAX: usize = 1024;

/// The key of a compiled decoder: the reader's and the writer's schema.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct DecoderKey {
    /// The reader number of the topic; 0 without a reader's schema.
    reader: usize,
    /// The writer's schema.
    schema: SchemaKey,
}

/// Decodes records of one registry. Each thread has its own.
pub struct WireDecoder {
    registry: Arc<Confluent>,
    readers: Option<Readers>,
    /// Compiled decoders, or why there is none.
    ready: HashMap<DecoderKey, Result<Box<dyn language::Decoder>, Fault>, ahash::RandomState>,
    text: String,
}

impl WireDecoder {
    /// Creates a decoder without schemas that reads every record with its writer's schema.
    pub fn new(registry: Arc<Confluent>) -> Self {
        Self { registry, readers: None, ready: HashMap::default(), text: String::new() }
    }

    /// Creates a decoder that reads the records of `topics` with a reader's schema.
    ///
    /// Errors: exit status 78 if it does not exist, 69 if the registry is unavailable.
    pub fn reading(registry: Arc<Confluent>, choice: &Choice, topics: &[String]) -> evt_core::Result<Self> {
        let readers = Some(Readers::open(choice, topics, &registry)?);
        Ok(Self { readers, ..Self::new(registry) })
    }

    /// Returns the JSON text of a record of the topic with that number, or its fault; `header` is the content of
    /// [`HEADER`]. Fails only if the registry is unavailable for longer than `retry=`, or refuses access.
    pub fn text(
        &mut self,
        payload: &[u8],
        header: Option<&[u8]>,
        topic: usize,
    ) -> evt_core::Result<Result<&str, Fault>> {
        let (schema, body) = match framed(payload, header) {
            Ok(framed) => framed,
            Err(fault) => return Ok(Err(fault)),
        };
        let reader = self.readers.as_ref().map_or(0, |readers| readers.line(topic));
        let key = DecoderKey { reader, schema };
        if !self.ready.contains_key(&key) {
            let found = self.registry.schema(schema)?;
            if let Err(fault) = self.prepare(key, found)? {
                return Ok(Err(fault));
            }
        }
        Ok(self.decode(key, payload, body))
    }

    /// Decodes a record without a request to the registry; `None` if one is needed.
    pub fn recalled(&mut self, payload: &[u8], recall: &mut Recall) -> evt_core::Result<Option<Result<&str, Fault>>> {
        let (schema, body) = match framed(payload, None) {
            Ok(framed) => framed,
            Err(fault) => return Ok(Some(Err(fault))),
        };
        let key = DecoderKey { reader: 0, schema };
        if !self.ready.contains_key(&key) {
            let Some(found) = recall.schema(schema) else { return Ok(None) };
            if let Err(fault) = self.prepare(key, found)? {
                return Ok(Some(Err(fault)));
            }
        }
        Ok(Some(self.decode(key, payload, body)))
    }

    /// Returns the text of the record `body` of a payload, with a compiled decoder.
    fn decode(&mut self, key: DecoderKey, payload: &[u8], body: &[u8]) -> Result<&str, Fault> {
        let decoder = match self.ready.get_mut(&key) {
            Some(Ok(decoder)) => decoder,
            Some(Err(fault)) => return Err(fault.clone()),
            None => return Err(unknown(key.schema, "unknown")),
        };
        self.text.clear();
        let mut rest = body;
        let fault = match decoder.decode(&mut rest, &mut self.text) {
            Ok(()) if rest.is_empty() => return Ok(&self.text),
            Ok(()) => {
                let rest = counted(rest.len() as u64, ["byte", "bytes"]);
                Fault::new(ErrorType::ParseError, format!("expected the end of the record, found {rest} more"))
            }
            Err(fault) => fault,
        };
        let byte = payload.len() - rest.len() + 1;
        Err(Fault::new(fault.error_type, format!("byte {byte}: {}: {}", shown(key.schema), fault.message)))
    }

    /// Compiles the schema of a key. A fault that may be temporary is not kept.
    #[cold]
    fn prepare(&mut self, key: DecoderKey, found: Lookup<SchemaText>) -> evt_core::Result<Result<(), Fault>> {
        let SchemaText { language, text } = match found {
            Lookup::Found(text) => text,
            Lookup::Unknown => {
                return Ok(Err(unknown(key.schema, &format!("unknown to {}", self.registry.name()))));
            }
            Lookup::Useless(why) => return Ok(Err(unknown(key.schema, &why))),
            Lookup::Unavailable(why) => {
                return Ok(Err(unknown(key.schema, &format!("cannot be fetched: {why}"))));
            }
        };
        let decoder = match &self.readers {
            None => (language.decoder)(&text).map_err(|error| error.to_string()),
            Some(readers) => match (language.parse)(&text) {
                Err(error) => Err(error.to_string()),
                Ok(writer) => match readers.find(key.reader, writer.as_ref(), &self.registry)? {
                    Ok(reader) => reader.decoder(writer.as_ref()),
                    Err(why) => return Ok(Err(unknown(key.schema, &why))),
                },
            },
        };
        if self.ready.len() >= DECODERS_MAX {
            self.ready.clear();
        }
        self.ready.insert(key, decoder.map_err(|why| unknown(key.schema, &why)));
        Ok(Ok(()))
    }
}

/// Splits a record into the key of its schema and the body.
pub fn framed<'a>(payload: &'a [u8], header: Option<&[u8]>) -> Result<(SchemaKey, &'a [u8]), Fault> {
    let wrong = |why: String| Fault::new(ErrorType::ParseError, why);
    match header {
        None => split(payload).ok_or_else(|| {
            let start = payload.first().map_or("no data".to_owned(), |byte| match byte {
                0 | 1 => counted(payload.len() as u64, ["byte", "bytes"]),
                byte => format!("first byte {byte:02x}"),
            });
            wrong(format!("byte 1: expected a schema id (00 and 4 bytes, or 01 and 16), found {start}"))
        }),
        Some(header) => match split(header) {
            Some((key, [])) => Ok((key, payload)),
            _ => {
                let found = counted(header.len() as u64, ["byte", "bytes"]);
                Err(wrong(format!("header {HEADER}: expected a schema id, found {found}")))
            }
        },
    }
}

fn split(bytes: &[u8]) -> Option<(SchemaKey, &[u8])> {
    let mut cursor = Cursor::new(bytes);
    let key = match cursor.be::<u8>()? {
        0 => SchemaKey::Id(cursor.be()?),
        1 => SchemaKey::Guid(cursor.array()?),
        _ => return None,
    };
    Some((key, cursor.rest()))
}

fn shown(key: SchemaKey) -> String {
    match key {
        SchemaKey::Id(id) => format!("schema id {id}"),
        SchemaKey::Guid(guid) => format!("schema {}", uuid::Uuid::from_bytes(guid)),
    }
}

#[cold]
fn unknown(key: SchemaKey, why: &str) -> Fault {
    Fault::new(ErrorType::UnknownSchemaError, format!("{}: {why}", shown(key)))
}
