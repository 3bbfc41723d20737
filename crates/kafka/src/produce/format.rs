//! The formats of records: rows as JSON, in Avro or in frames, or dead letters.

use crate::address::{Address, TopicFormat};
use crate::client::Topics;
use crate::client::record::{ForwardedHeaders, ProducerRecord};
use crate::framing::{self, WriterProgress};
use crate::letter::{self, Letters};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use evt_core::error::{Error, Result};
use evt_core::format::cell::{CellForm, Column};
use evt_core::format::jsonl::Objects;
use evt_core::format::{Format, row};
use evt_core::frame::Frame;
use evt_core::kind::dead::Fault;
use evt_core::kind::headers::HeaderRows;
use evt_core::kind::{Kind, letters};
use evt_core::schema::AVRO;
use evt_run::registry::rows::{RegisteredRows, Target};
use std::borrow::Cow;
use std::time::Duration;

/// Bytes that cutting adds to a dead letter: the header with the original length.
const CUT_HEADER: usize = 64;

/// Returns the column of the default key: rows that belong together stay in order.
pub(super) fn default_key(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::Metric) => "metric_id",
        Some(Kind::Alert) => "alert_id",
        _ => "source",
    }
}

/// Returns the schema location of a topic in Avro.
pub(super) fn target(topics: &Topics) -> Target<'_> {
    let options = &topics.address.options;
    let schemas = options.schemas.as_deref().unwrap_or_default();
    Target { schemas, topic: topics.name(0), schema_id: options.schema_id.as_ref(), language: AVRO }
}

/// The format of the records, and the state that it needs.
pub(super) enum RecordFormat {
    /// One row as JSON; `key` is the column of the key.
    Json { key: Option<usize> },
    /// One row in Avro; `key` is the column of the key.
    Avro { key: Option<usize>, rows: Box<RegisteredRows> },
    /// A dead letter: the payload of its record, and headers.
    Letters,
    /// Rows with their stamps; `progress` is that of the source, and `sent_at` when it was last sent, on the run's
    /// monotonic clock.
    Frames { schema: SchemaRef, progress: WriterProgress, sent_at: Duration },
}

impl RecordFormat {
    /// Chooses the format for rows of `schema`. Errors: exit status 2 if the options do not fit it.
    pub fn open(topics: &Topics, schema: &SchemaRef) -> Result<Self> {
        let Topics { address, run } = topics;
        let (form, kind, key) = (address.options.form, Kind::of(schema), address.options.key.as_deref());
        let wrong = |what: &str| Err(Error::usage(format!("{address}: {what}")));
        match (form, kind, key) {
            (Some(TopicFormat::Frames), _, None) => {
                let (schema, sent_at) = (schema.clone(), run.clock.monotonic());
                return Ok(Self::Frames { schema, progress: WriterProgress::default(), sent_at });
            }
            (Some(TopicFormat::Frames), ..) => return wrong("key= cannot be used with format=frames"),
            (Some(TopicFormat::Avro), Some(Kind::Dead), _) => {
                return wrong("format=avro cannot be used for dead letters");
            }
            (_, Some(Kind::Dead), None | Some("original_key")) => return Ok(Self::Letters),
            (_, Some(Kind::Dead), _) => return wrong("key= cannot be used for dead letters, which keep their key"),
            _ => {}
        }
        let key = match key.unwrap_or_else(|| default_key(kind)) {
            "none" => None,
            name => Some(schema.index_of(name).map_err(|_| {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                let names = names.join(" ");
                Error::usage(format!("{address}: key={name}: unknown column; expected one of none {names}"))
            })?),
        };
        if form != Some(TopicFormat::Avro) {
            return Ok(Self::Json { key });
        }
        Ok(Self::Avro { key, rows: Box::new(RegisteredRows::open(target(topics), schema, &run.caller())?) })
    }

    /// Prepares the records of rows, one for each row; `None` for frames, which hold several rows.
    pub fn rows<'a>(
        &mut self,
        topics: &Topics,
        batch: &'a RecordBatch,
        headers: Option<HeaderRows<'a>>,
    ) -> Result<Option<RowRecords<'a>>> {
        let (values, key) = match self {
            Self::Json { key } => (Payloads::Json { objects: Objects::try_new(batch)?, value: String::new() }, *key),
            Self::Avro { key, rows } => {
                let (head, bodies) = (rows.head(), rows.encode(batch)?);
                rows.warnings().iter().for_each(|warning| topics.say(warning));
                (Payloads::Avro { head, bodies, value: vec![] }, *key)
            }
            Self::Letters => (Payloads::Letters(Letters::new(batch)), None),
            Self::Frames { .. } => return Ok(None),
        };
        Ok(Some(RowRecords { values, key: KeyColumn::new(batch, key), headers: ForwardedHeaders::new(headers) }))
    }

    /// Makes one record: frames with `rows`, or a dead letter, the one row of `rows`.
    pub fn record(&self, partition: Option<i32>, rows: &RecordBatch) -> Result<ProducerRecord<'static>> {
        match self {
            Self::Frames { schema, .. } => {
                let value = framing::rows(schema, rows)?.into();
                Ok(ProducerRecord { partition, value, ..ProducerRecord::default() })
            }
            _ => Ok(ProducerRecord { partition, ..Letters::new(rows).record(0).into_owned() }),
        }
    }

    /// Returns the rows of a record; `None` of a control message, or if they cannot be rebuilt. `kind` is that of the
    /// rows.
    pub fn rows_of(&self, kind: Option<Kind>, record: &ProducerRecord<'_>) -> Result<Option<RecordBatch>> {
        let object = match (self, str::from_utf8(&record.value)) {
            (Self::Frames { .. }, _) => {
                let rows = |frame| if let Frame::Batch(rows) = frame { Some(rows) } else { None };
                return Ok(framing::frames(&record.value)?.into_iter().find_map(rows));
            }
            (Self::Letters, _) => letter::to_json(&record.value, record.key.as_deref(), record),
            (Self::Json { .. }, Ok(text)) => text.to_owned(),
            _ => return Ok(None),
        };
        let Some(mut rows) = kind.map(row::Builder::new) else { return Ok(None) };
        match rows.push(&object) {
            Ok(()) => rows.finish().map(Some),
            Err(_) => Ok(None),
        }
    }
}

/// Splits rows that are too large for one record by `excess` bytes into two halves, or cuts a single dead letter.
/// Returns no rows if neither is possible.
pub(super) fn smaller(rows: &RecordBatch, excess: usize) -> Result<Vec<RecordBatch>> {
    match rows.num_rows() {
        1 if Kind::of(rows.schema_ref()) == Some(Kind::Dead) => {
            Ok(letters::cut(rows, excess + CUT_HEADER)?.into_iter().collect())
        }
        0 | 1 => Ok(vec![]),
        count => Ok(vec![rows.slice(0, count / 2), rows.slice(count / 2, count - count / 2)]),
    }
}

/// The records of the rows of a batch.
pub(super) struct RowRecords<'a> {
    values: Payloads<'a>,
    key: KeyColumn<'a>,
    headers: ForwardedHeaders<'a>,
}

/// The payloads of the rows of a batch; `value` holds the last one.
enum Payloads<'a> {
    Json { objects: Objects<'a>, value: String },
    Avro { head: [u8; 5], bodies: Vec<Result<Bytes, Fault>>, value: Vec<u8> },
    Letters(Letters<'a>),
}

impl RowRecords<'_> {
    /// Returns the record of a row, or the fault if the row does not fit the schema.
    pub fn get(&mut self, row: usize) -> Result<ProducerRecord<'_>, Fault> {
        let value = match &mut self.values {
            Payloads::Json { objects, value } => {
                value.clear();
                objects.write(row, value);
                value.as_bytes()
            }
            Payloads::Avro { head, bodies, value } => {
                value.clear();
                value.extend_from_slice(head);
                value.extend_from_slice(bodies[row].as_ref().map_err(Fault::clone)?);
                value.as_slice()
            }
            Payloads::Letters(letters) => return Ok(letters.record(row)),
        };
        let (key, headers) = (self.key.get(row).map(Cow::Borrowed), self.headers.of(row));
        Ok(ProducerRecord { key, value: Cow::Borrowed(value), headers, ..ProducerRecord::default() })
    }
}

/// The keys of rows: the text of a column.
pub(super) struct KeyColumn<'a> {
    column: Option<Column<'a>>,
    text: String,
}

impl<'a> KeyColumn<'a> {
    /// Prepares the column at this index; without one, rows have no key.
    pub fn new(batch: &'a RecordBatch, at: Option<usize>) -> Self {
        let column = |at: usize| Column::new(batch.schema_ref().field(at), batch.column(at).as_ref(), CellForm::Text);
        Self { column: at.map(column), text: String::new() }
    }

    /// Returns the key of a row.
    pub fn get(&mut self, row: usize) -> Option<&[u8]> {
        let column = self.column.as_mut().filter(|column| !column.is_null(row))?;
        self.text.clear();
        column.write(row, &mut self.text);
        Some(self.text.as_bytes())
    }
}

/// Combines `-o` and `format=`, which takes precedence.
pub fn form(address: &Address, named: Option<&Format>) -> Result<TopicFormat> {
    let by_flag = match named {
        None => None,
        Some(format) if format.is_json => Some(TopicFormat::Json),
        Some(format) if format.is_frames() => Some(TopicFormat::Frames),
        Some(other) => {
            let forms = "expected format=json, format=avro or format=frames";
            return Err(Error::usage(format!("{address}: -o {}: {forms}", other.name)));
        }
    };
    Ok(address.options.form.or(by_flag).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::kind::dead::{ErrorType, Letter};
    use evt_core::kind::letters::Builder;

    const DEAD: Option<Kind> = Some(Kind::Dead);

    fn letters(payloads: &[&[u8]]) -> RecordBatch {
        let mut builder = Builder::new("evt-test", "host");
        let fault = Fault::new(ErrorType::ParseError, "no JSON");
        for (offset, payload) in (0..).zip(payloads) {
            let (key, fault) = (Some(b"k".as_slice()), &fault);
            let letter =
                Letter { payload, key, headers: None, arrived_at: None, fault, origin: "t", partition: "0", offset };
            builder.push(&letter, 7).unwrap();
        }
        builder.finish().unwrap()
    }

    fn frames() -> RecordFormat {
        let (schema, progress) = (Kind::Dead.schema(), WriterProgress::default());
        RecordFormat::Frames { schema, progress, sent_at: Duration::ZERO }
    }

    #[test]
    fn the_rows_of_a_record_are_those_that_it_was_made_of() {
        for (format, rows) in [(frames(), letters(&[b"a", b"\xff"])), (RecordFormat::Letters, letters(&[b"a"]))] {
            let record = format.record(Some(3), &rows).unwrap();
            assert_eq!(record.partition, Some(3));
            assert_eq!(format.rows_of(DEAD, &record).unwrap(), Some(rows));
        }
    }

    #[test]
    fn a_control_message_and_a_value_that_is_no_row_have_no_rows() {
        let record = |value: Vec<u8>| ProducerRecord { value: value.into(), ..ProducerRecord::default() };
        let watermark = framing::control(&Kind::Dead.schema(), &evt_core::frame::Control::Watermark(1)).unwrap();
        assert_eq!(frames().rows_of(DEAD, &record(watermark)).unwrap(), None);
        let json = RecordFormat::Json { key: None };
        for value in [b"{}".as_slice(), b"\xff"] {
            assert_eq!(json.rows_of(Some(Kind::Event), &record(value.to_vec())).unwrap(), None);
        }
        assert_eq!(json.rows_of(None, &record(b"{}".to_vec())).unwrap(), None);
    }

    #[test]
    fn rows_are_halved_and_a_single_dead_letter_is_cut() {
        let rows = letters(&[b"a", b"b", b"c"]);
        assert_eq!(smaller(&rows, 1).unwrap(), [rows.slice(0, 1), rows.slice(1, 2)]);
        let row = letters(&[&[b'x'; 200]]);
        let size = |row: &RecordBatch| RecordFormat::Letters.record(None, row).unwrap().size();
        let [cut] = smaller(&row, 50).unwrap().try_into().unwrap();
        assert!(size(&cut) <= size(&row) - 50, "{} of {}", size(&cut), size(&row));
        assert_eq!(smaller(&row, 500).unwrap(), [], "it does not have that many bytes");
        assert_eq!(smaller(&RecordBatch::new_empty(Kind::Event.schema()), 1).unwrap(), []);
    }
}
