//! The formats of messages: rows as JSON, in Avro or in frames, or dead letters.

use crate::error::{Error, Result};
use crate::format::Format;
use crate::kafka::framing::WriterProgress;
use crate::kind::Kind;
use crate::registry::rows::{AvroRows, Target as Schemas};
use crate::run::Run;
use crate::uri::kafka::{Address, Form};
use arrow::datatypes::SchemaRef;
use std::time::Instant;

/// Returns the column of the default key: rows that belong together stay in order.
pub(super) fn usual_key(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::Metric) => "metric_id",
        Some(Kind::Alert) => "rule",
        _ => "source",
    }
}

/// The format of the messages, and the state that it needs.
pub(super) enum Body {
    /// One row as JSON; `key` is the column of the key.
    Objects { key: Option<usize> },
    /// One row in Avro; `key` is the column of the key.
    Avro { key: Option<usize>, rows: Box<AvroRows> },
    /// A dead letter: the payload of its record, and headers.
    Letters,
    /// Rows with their stamps; `table` is the progress of the source, and `told` is when it was last sent.
    Frames { table: WriterProgress, told: Instant },
}

/// Returns the schema location of a topic in Avro.
pub(super) fn target<'a>(address: &'a Address, topic: &'a str) -> Schemas<'a> {
    let schemas = address.options.schemas.as_deref().unwrap_or_default();
    Schemas { schemas, topic, schema_id: address.options.schema_id.as_ref() }
}

/// Chooses the format for rows of `schema`. Errors: exit status 2 if the options do not fit it.
pub(super) fn body(address: &Address, schema: &SchemaRef, run: &Run) -> Result<Body> {
    let (kind, key) = (Kind::of(schema), address.options.key.as_deref());
    if address.options.form == Some(Form::Frames) {
        return match key {
            None => Ok(Body::Frames { table: WriterProgress::default(), told: Instant::now() }),
            Some(_) => Err(Error::usage(format!("{address}: key= excludes format=frames"))),
        };
    }
    if kind == Some(Kind::Dead) {
        return match key {
            _ if address.options.form == Some(Form::Avro) => {
                Err(Error::usage(format!("{address}: format=avro excludes dead letters")))
            }
            None | Some("original_key") => Ok(Body::Letters),
            Some(_) => Err(Error::usage(format!("{address}: key= excludes dead letters, which keep their key"))),
        };
    }
    let key = match key.unwrap_or_else(|| usual_key(kind)) {
        "none" => None,
        name => match schema.index_of(name) {
            Ok(at) => Some(at),
            Err(_) => {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                let names = names.join(" ");
                let why = format!("{address}: key={name}: unknown column; expected one of none {names}");
                return Err(Error::usage(why));
            }
        },
    };
    match address.options.form {
        Some(Form::Avro) => {
            let rows = AvroRows::open(target(address, address.topic()?), schema, &run.console)?;
            Ok(Body::Avro { key, rows: Box::new(rows) })
        }
        _ => Ok(Body::Objects { key }),
    }
}

/// Combines `-o` and `format=`, which takes precedence.
pub fn form(address: &Address, named: Option<&Format>) -> Result<Form> {
    let by_flag = match named {
        None => None,
        Some(format) if format.is_json => Some(Form::Json),
        Some(format) if format.is_frames() => Some(Form::Frames),
        Some(other) => {
            let forms = "expected format=json, format=avro or format=frames";
            return Err(Error::usage(format!("{address}: -o {}: {forms}", other.name)));
        }
    };
    match (address.options.form, by_flag) {
        (Some(said), _) => Ok(said),
        (None, by_flag) => Ok(by_flag.unwrap_or_default()),
    }
}
