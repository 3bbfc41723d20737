//! Metrics in text for people (CSV, TSV, tables): each dimension has a column.
//!
//! The columns are the name and the window of a metric, the dimensions that the stream names (`evt.dimensions`), its
//! value, and the rest. A stream that does not name its dimensions has one column with all of them as JSON. A dimension
//! that is NULL and one that the row's metric does not have are both an empty field; `metric_dimensions.rs` reads them
//! back.

use super::definition::{EncodeOptions, Encoder, MakeEncoder};
use crate::error::{Error, Result};
use crate::json::text::unescape;
use crate::json::walk::{members, string_content};
use crate::kind::metric::{COLUMNS, column};
use crate::kind::{Kind, SELECTION_KEY, dimensions_of};
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use std::borrow::Cow;
use std::sync::Arc;

/// The columns of a metric before its dimensions.
const BEFORE: [usize; 3] = [column::METRIC_NAME, column::WINDOW_START, column::WINDOW_END];
/// The columns of a metric after its dimensions.
const AFTER: [usize; 6] =
    [column::VALUE, column::ROWS, column::METRIC_ID, column::REVISION, column::PANE, column::RETRACTED];
/// The prefix in the name of a dimension's column. It is used if the name of the dimension is empty, begins with the
/// prefix, or is the name of another column.
const PREFIX: &str = "dimensions.";

/// Returns the name of the column of a dimension, in a file with `others`. A name that begins like a prefixed one is
/// prefixed, too.
pub fn column_name<'a>(dimension: &'a str, others: &[&str]) -> Cow<'a, str> {
    match dimension.is_empty() || dimension.starts_with(PREFIX) || others.contains(&dimension) {
        true => format!("{PREFIX}{dimension}").into(),
        false => dimension.into(),
    }
}

/// Returns the name of the dimension of a column.
pub fn dimension_name(column: &str) -> &str {
    column.strip_prefix(PREFIX).unwrap_or(column)
}

/// Appends the dimensions of a row, a JSON object of texts and nulls, to one column for each name. A dimension that the
/// row does not have is NULL.
///
/// Errors: exit status 65 if the row has a dimension that is not among `names`, or one that is neither text nor null.
pub fn push_dimensions(object: &str, names: &[String], columns: &mut [StringBuilder]) -> Result<()> {
    let mut cells: Vec<Option<Cow<'_, str>>> = vec![None; names.len()];
    let mut wrong = None;
    members(object, |key, value| {
        let key = unescape(key);
        match (names.iter().position(|name| *name == key), string_content(value)) {
            (Some(at), Some(text)) => cells[at] = Some(unescape(text)),
            (Some(at), None) if value == "null" => cells[at] = None,
            (Some(_), None) => wrong = Some(format!("dimension '{key}': expected text or null, found {value}")),
            (None, _) => wrong = Some(format!("expected the dimensions {}, found '{key}'", names.join(", "))),
        }
        wrong.is_none()
    });
    if let Some(message) = wrong {
        return Err(Error::corrupt(message));
    }
    columns.iter_mut().zip(cells).for_each(|(column, cell)| column.append_option(cell));
    Ok(())
}

/// Makes the encoder of a format for people. Dimensions of metrics become columns.
pub(super) fn encoder(schema: &SchemaRef, options: &EncodeOptions, open: MakeEncoder) -> Result<Box<dyn Encoder>> {
    if !has_metrics(schema) {
        return open(schema, options);
    }
    let columns = MetricColumns::new(schema);
    // The first rows tell which columns a brief table has.
    let encoder = if options.brief { None } else { Some(open(&columns.schema, options)?) };
    Ok(Box::new(MetricEncoder { open, options: options.clone(), columns, encoder }))
}

/// Whether rows of a schema are metrics, perhaps with computed columns (`--let`) after those of metrics.
fn has_metrics(schema: &Schema) -> bool {
    let is_selection = schema.metadata().get(SELECTION_KEY).is_some_and(|kind| kind == Kind::Metric.name());
    let is_whole = || {
        schema.fields().len() > COLUMNS.len()
            && schema.fields().iter().zip(COLUMNS).all(|(field, name)| field.name() == name)
    };
    Kind::of(schema) == Some(Kind::Metric) || is_selection && is_whole()
}

/// Encodes metrics with a column for each dimension.
struct MetricEncoder {
    open: MakeEncoder,
    options: EncodeOptions,
    columns: MetricColumns,
    /// `None` until the columns are known.
    encoder: Option<Box<dyn Encoder>>,
}

/// The columns of metrics in text for people.
struct MetricColumns {
    /// The names of the dimensions; `None` if the stream does not name them.
    dimensions: Option<Vec<String>>,
    /// The columns after them. Those that are not of metrics are computed.
    after: Vec<usize>,
    /// The schema of the metrics.
    metrics: SchemaRef,
    /// The schema of the text.
    schema: SchemaRef,
}

impl MetricColumns {
    fn new(metrics: &SchemaRef) -> Self {
        let after = AFTER.into_iter().chain(COLUMNS.len()..metrics.fields().len()).collect();
        let schema = Arc::new(Schema::empty());
        let mut columns = Self { dimensions: dimensions_of(metrics), after, metrics: metrics.clone(), schema };
        columns.set_schema();
        columns
    }

    /// Leaves out ids, and the columns that are zero or false in all of these metrics.
    fn leave_out(&mut self, metrics: &RecordBatch) {
        let is_kept = |at: usize| match at {
            column::METRIC_ID => false,
            column::REVISION | column::PANE | column::RETRACTED => has_nonzero(metrics.column(at)),
            _ => true,
        };
        self.after.retain(|at| is_kept(*at));
        self.set_schema();
    }

    fn set_schema(&mut self) {
        let field = |at: usize| self.metrics.field(at).clone();
        let others: Vec<&str> = self.metrics.fields().iter().map(|field| field.name().as_str()).collect();
        let text = |name: &String| Field::new(column_name(name, &others), DataType::Utf8, true);
        let mut fields: Vec<Field> = BEFORE.map(field).to_vec();
        match &self.dimensions {
            Some(names) => fields.extend(names.iter().map(text)),
            None => fields.push(field(column::DIMENSIONS)),
        }
        fields.extend(self.after.iter().map(|at| field(*at)));
        // Without a kind: its text columns hold text, whatever their names.
        self.schema = Arc::new(Schema::new(fields));
    }

    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let column = |at: usize| batch.column(at).clone();
        let mut columns: Vec<ArrayRef> = BEFORE.map(column).to_vec();
        match &self.dimensions {
            None => columns.push(column(column::DIMENSIONS)),
            Some(names) => {
                let mut cells: Vec<StringBuilder> = names.iter().map(|_| StringBuilder::new()).collect();
                let objects = batch.column(column::DIMENSIONS).as_string::<i32>();
                for object in objects {
                    push_dimensions(object.unwrap_or_default(), names, &mut cells)?;
                }
                columns.extend(cells.into_iter().map(|mut cells| Arc::new(cells.finish()) as ArrayRef));
            }
        }
        columns.extend(self.after.iter().map(|at| column(*at)));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// Whether a number or flag is not zero in some row.
fn has_nonzero(values: &ArrayRef) -> bool {
    let numbers = cast(values, &DataType::Int64);
    numbers.is_ok_and(|numbers| numbers.as_primitive::<Int64Type>().iter().flatten().any(|value| value != 0))
}

impl MetricEncoder {
    /// Returns the encoder and the columns; `first` are the first rows.
    fn opened(&mut self, first: &RecordBatch) -> Result<(&mut Box<dyn Encoder>, &MetricColumns)> {
        let encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => {
                self.columns.leave_out(first);
                (self.open)(&self.columns.schema, &self.options)?
            }
        };
        Ok((self.encoder.insert(encoder), &self.columns))
    }
}

impl Encoder for MetricEncoder {
    fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let (encoder, columns) = self.opened(batch)?;
        encoder.encode(&columns.apply(batch)?, out)
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        self.encoder.iter_mut().for_each(|encoder| encoder.flush(out));
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let none = RecordBatch::new_empty(self.columns.metrics.clone());
        self.opened(&none)?.0.finish(out)
    }
}
