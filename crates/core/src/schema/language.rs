//! A language of schemas, and what a schema of any language does.

use crate::error::Result;
use crate::kind::Kind;
use crate::kind::dead::Fault;
use crate::kind::rows::RowColumns;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// The namespace of the schemas that evt registers.
pub const NAMESPACE: &str = "evt";

/// A language of schemas.
#[derive(Debug)]
pub struct Language {
    /// Its name in registries.
    pub name: &'static str,
    /// Maximum bytes of the text of a schema.
    pub text_bytes_max: usize,
    /// Parses the text of a schema by all rules of the language.
    ///
    /// Errors: exit status 78 with path and reason if it is not a valid schema.
    pub parse: fn(&str) -> Result<Arc<dyn Schema>>,
    /// Returns the text of a schema with the types written in that it takes from other schemas, the second argument.
    ///
    /// Errors: exit status 78 if the result is not a valid schema.
    pub inline: fn(&str, &[&str]) -> Result<String>,
    /// Makes a decoder of data that were written with the schema of this text; requires only what determines how the
    /// data are read.
    ///
    /// Errors: exit status 65 with path and reason if the text does not determine it.
    pub decoder: fn(&str) -> Result<Box<dyn Decoder>>,
    /// Returns the schema of a kind's rows, named after [`NAMESPACE`] and the kind.
    ///
    /// Errors: exit status 2 if the language lacks a type or a name of a column.
    pub rows: fn(&SchemaRef) -> Result<RowSchema>,
}

/// The schema of rows as evt has them.
pub struct RowSchema {
    /// Its text.
    pub text: String,
    /// Encodes the rows.
    pub encoder: Box<dyn Encoder>,
}

/// The text of a schema, complete without other schemas.
#[derive(Clone, Debug)]
pub struct SchemaText {
    /// Its language.
    pub language: &'static Language,
    /// The text.
    pub text: Arc<str>,
}

/// A parsed schema.
pub trait Schema: Any + Debug + Send + Sync {
    /// Returns the full name of its outermost type; `None` if it has none.
    fn name(&self) -> Option<String>;

    /// Returns a text that is the same for all schemas that determine the same form of the data.
    fn canonical_form(&self) -> String;

    /// Returns a text that is the same for all schemas that are one version: they accept and read the same.
    fn identity(&self) -> String;

    /// Returns every reason why this schema cannot read all data written with `writer`; empty if it can.
    fn incompatibilities(&self, writer: &dyn Schema) -> Vec<Incompatibility>;

    /// Makes a decoder that reads `writer`'s data as this schema's.
    ///
    /// Errors: exit status 78 with path and reason if no value of the one can be read as the other.
    fn decoder(&self, writer: &dyn Schema) -> Result<Box<dyn Decoder>>;

    /// Compiles the check of events; with `closed`, a property that is not in the schema is a fault. Returns the reason
    /// if the schema cannot describe an event.
    fn event_check(&self, closed: bool) -> Result<Box<dyn EventCheck>, String>;

    /// Makes an encoder of events as records of this schema.
    ///
    /// Errors: exit status 78 if no event can be such a record.
    fn event_encoder(&self) -> Result<Box<dyn Encoder>>;

    /// Returns the kind of evt's rows that it describes: evt writes them as `evt.event`, `evt.metric`, …
    fn kind(&self) -> Option<Kind> {
        Kind::from_name(self.name()?.strip_prefix(NAMESPACE)?.strip_prefix('.')?)
    }
}

/// A reason why one schema cannot read the data of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incompatibility {
    /// The path in the reader's schema: `Order.items[].price`; `[]` steps into an array, `{}` into a map.
    pub path: String,
    /// Why.
    pub why: String,
}

/// A row of a batch of events.
#[derive(Clone, Copy)]
pub struct EventRow<'a> {
    /// The columns of the batch; `properties` must be valid JSON objects.
    pub columns: &'a RowColumns<'a>,
    /// The index of the row.
    pub row: usize,
}

/// Checks events against one schema.
pub trait EventCheck: Send {
    /// Prepares for the rows of a batch.
    fn prepare(&mut self, columns: &RowColumns<'_>);

    /// Whether an event of the prepared batch is valid. Stops at the first fault and allocates nothing.
    fn accepts(&mut self, event: EventRow<'_>) -> bool;

    /// Returns the first fault of an event that is not valid: `PATH: WHY (and N more)`.
    fn fault(&self, event: EventRow<'_>) -> String;
}

/// Decodes payloads of one schema. A payload is the bytes of a record without the id of the schema.
pub trait Decoder: Send {
    /// Appends the record at the start of `payload` as a JSON object and removes its bytes; the message of a fault does
    /// not name the position, where `payload` then starts.
    fn decode(&mut self, payload: &mut &[u8], out: &mut String) -> Result<(), Fault>;
}

/// Encodes rows as payloads of one schema.
pub trait Encoder {
    /// Returns the payload of each row, or the path and the reason if the row does not fit the schema. Adds to `lost`
    /// what it left out.
    fn encode(&mut self, batch: &RecordBatch, lost: &mut Lost) -> Result<Vec<Result<Bytes, String>>>;
}

/// Parts of encoded events that were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Properties that no field holds.
    pub properties: LostPart,
    /// Times finer than their fields.
    pub digits: LostPart,
}

/// The extent of one kind of loss.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LostPart {
    /// The number of events.
    pub events: u64,
    /// The first property or field.
    pub first: Option<String>,
}
