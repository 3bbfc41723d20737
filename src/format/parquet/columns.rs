//! `columns=auto`: properties of events as typed columns.
//!
//! The first rows of a file decide which properties get a column, and its type: the type of most of their values.
//! A value stays in `properties` if its column has another type, if the column could not return a value that is equal to it
//! (integers beyond 64 bits, numbers with more digits than a double has, text with a lone surrogate, `null`), or if the row
//! has its name twice. [`crate::format::properties`] reads the columns back.

use crate::error::Result;
use crate::format::properties::property_field;
use crate::json::guide::{Guide, UNMARKED};
use crate::json::number::Decimal;
use crate::json::text::{is_text, unescape};
use crate::json::walk::{guided, string_content};
use crate::kind::event::{COLUMNS, RAW, RAW_BASE64, column};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Maximum rows of a row group.
pub(super) const ROW_GROUP_ROWS: usize = 131_072;
/// Rows that decide about columns: those of the first row group.
const SAMPLE_ROWS: usize = ROW_GROUP_ROWS;
/// Bytes of their properties, at most, because they are in memory.
const SAMPLE_BYTES: usize = 16 << 20;
/// Maximum number of columns: those of the properties that most rows have.
const COLUMNS_MAX: usize = 256;
/// Decimal digits that a double always returns.
const EXACT_DIGITS: usize = 15;
/// The column that readers of a lake make of the names of its directories.
const DATE: &str = "date";

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PropertyType {
    Boolean,
    Integer,
    Double,
    Text,
}

impl PropertyType {
    fn data_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Text => DataType::Utf8,
        }
    }
}

/// How many values of a property each type can hold.
#[derive(Clone, Copy, Debug, Default)]
struct TypeCounts {
    booleans: u32,
    integers: u32,
    doubles: u32,
    texts: u32,
}

impl TypeCounts {
    fn add(&mut self, value: &str) {
        match value.as_bytes().first() {
            Some(b't' | b'f') => self.booleans += 1,
            Some(b'"') => self.texts += u32::from(text(value).is_some()),
            Some(b'-' | b'0'..=b'9') => {
                self.integers += u32::from(integer(value).is_some());
                self.doubles += u32::from(double(value).is_some());
            }
            _ => {}
        }
    }

    /// Returns the column of a property: of the type that holds most values, of two such types the narrower. `None` if no type
    /// holds one.
    fn column(self, name: String) -> Option<ChosenColumn> {
        let counts = [
            (PropertyType::Boolean, self.booleans),
            (PropertyType::Integer, self.integers),
            (PropertyType::Double, self.doubles),
            (PropertyType::Text, self.texts),
        ];
        let most = counts.iter().map(|(_, count)| *count).max()?;
        let (kind, values) = counts.into_iter().find(|(_, count)| *count == most && most > 0)?;
        Some(ChosenColumn { name, kind, values, integers: self.integers > 0 })
    }
}

/// The column of a property.
struct ChosenColumn {
    name: String,
    kind: PropertyType,
    /// The number of values that it holds.
    values: u32,
    /// Whether some of them were written as integers.
    integers: bool,
}

impl ChosenColumn {
    fn field(&self) -> Field {
        property_field(&self.name, self.kind.data_type(), self.kind == PropertyType::Double && self.integers)
    }
}

/// The first rows of a file.
#[derive(Default)]
pub(super) struct FirstRows {
    pub(super) rows: Vec<RecordBatch>,
    /// The number of the rows.
    pub(super) count: usize,
    /// The bytes of their properties.
    pub(super) bytes: usize,
}

impl FirstRows {
    /// Takes rows; returns whether there are enough.
    pub(super) fn push(&mut self, batch: &RecordBatch) -> bool {
        self.count += batch.num_rows();
        self.bytes += properties(batch).iter().flatten().map(str::len).sum::<usize>();
        self.rows.push(batch.clone());
        self.count >= SAMPLE_ROWS || self.bytes >= SAMPLE_BYTES
    }

    /// Returns the properties of the rows that decide: the same rows however they were divided into batches.
    fn objects(&self) -> impl Iterator<Item = &str> {
        let mut bytes = 0;
        let objects = self.rows.iter().flat_map(|batch| properties(batch).iter().flatten()).take(SAMPLE_ROWS);
        objects.take_while(move |object| {
            bytes += object.len();
            bytes - object.len() < SAMPLE_BYTES
        })
    }
}

/// The columns of the properties of a file.
pub(super) struct PropertyColumns {
    /// The schema of the file.
    schema: SchemaRef,
    types: Vec<PropertyType>,
    /// The index in `types` of each name.
    index: HashMap<String, u32>,
    guide: Guide,
}

impl PropertyColumns {
    /// Chooses the columns by the first rows of a file, whose schema without these columns is `schema`.
    pub(super) fn choose(schema: &SchemaRef, sample: &FirstRows) -> Self {
        let mut found: BTreeMap<String, TypeCounts> = BTreeMap::new();
        let mut guide = Guide::default();
        for object in sample.objects() {
            guided(
                object,
                &mut guide,
                |_| UNMARKED,
                |member| {
                    // A name that is no text stays as it is written.
                    if !is_text(member.key()) {
                        return true;
                    }
                    let name = unescape(member.key());
                    match found.get_mut(&*name) {
                        Some(counts) => counts.add(member.value()),
                        None => found.entry(name.into_owned()).or_default().add(member.value()),
                    }
                    true
                },
            );
        }
        let mut chosen: Vec<ChosenColumn> =
            found.into_iter().filter_map(|(name, counts)| counts.column(name)).collect();
        chosen.sort_by_key(|column| Reverse(column.values));
        // DuckDB and Spark find a column by its name in any case.
        let mut taken: HashSet<String> = schema.fields().iter().map(|field| field.name().to_lowercase()).collect();
        taken.extend(COLUMNS.iter().chain(&[RAW, RAW_BASE64, DATE, ""]).map(|name| (*name).to_owned()));
        chosen.retain(|column| taken.insert(column.name.to_lowercase()));
        chosen.truncate(COLUMNS_MAX);
        chosen.sort_by(|one, other| one.name.cmp(&other.name));
        let fields = chosen.iter().map(|column| Arc::new(column.field()));
        let fields: Vec<_> = schema.fields().iter().cloned().chain(fields).collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let types = chosen.iter().map(|column| column.kind).collect();
        let index = chosen.into_iter().zip(0..).map(|(column, index)| (column.name, index)).collect();
        Self { schema, types, index, guide: Guide::default() }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Moves the properties that have a column into it.
    pub(super) fn split(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let objects = properties(batch);
        let mut builders: Vec<PropertyBuilder> = self.types.iter().map(|kind| PropertyBuilder::new(*kind)).collect();
        let mut rest = StringBuilder::with_capacity(objects.len(), 0);
        let (mut members, mut counts, mut text) = (vec![], vec![0u32; self.types.len()], String::new());
        for object in objects {
            members.clear();
            counts.fill(0);
            let index = &self.index;
            let meaning = |key| index.get(&*unescape(key)).copied().filter(|_| is_text(key)).unwrap_or(UNMARKED);
            guided(object.unwrap_or_default(), &mut self.guide, meaning, |member| {
                if let Some(count) = counts.get_mut(member.mark as usize) {
                    *count += 1;
                }
                members.push(member);
                true
            });
            text.clear();
            text.push('{');
            for member in &members {
                let place = member.mark as usize;
                let is_single = counts.get(place) == Some(&1);
                if let Some(builder) = builders.get_mut(place).filter(|_| is_single)
                    && builder.append(member.value())
                {
                    continue;
                }
                text.push_str(if text.len() == 1 { "\"" } else { ",\"" });
                text.extend([member.key(), "\":", member.value()]);
            }
            text.push('}');
            rest.append_value(&text);
            builders.iter_mut().for_each(PropertyBuilder::end_row);
        }
        let mut columns = batch.columns().to_vec();
        columns[column::PROPERTIES] = Arc::new(rest.finish());
        columns.extend(builders.into_iter().map(PropertyBuilder::finish));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

fn properties(batch: &RecordBatch) -> &StringArray {
    batch.column(column::PROPERTIES).as_string()
}

/// Returns the value of an integer that its column returns as the same text.
fn integer(value: &str) -> Option<i64> {
    let is_whole = value != "-0" && value.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
    value.parse().ok().filter(|_| is_whole)
}

/// Returns the double that equals a number.
fn double(value: &str) -> Option<f64> {
    let number: f64 = value.parse().ok()?;
    let is_short =
        value.len() <= EXACT_DIGITS && value.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    let is_exact = || {
        let exact = Decimal::parse(value);
        number.is_finite() && exact.is_some() && exact == Decimal::parse(&format!("{number:?}"))
    };
    (is_short || is_exact()).then_some(number)
}

/// Returns the content of a string, still escaped, if it is text.
fn text(value: &str) -> Option<&str> {
    string_content(value).filter(|content| is_text(content))
}

/// A column with the value of the row in progress.
enum PropertyBuilder {
    Boolean(BooleanBuilder, Option<bool>),
    Integer(Int64Builder, Option<i64>),
    Double(Float64Builder, Option<f64>),
    Text(StringBuilder, bool),
}

impl PropertyBuilder {
    fn new(kind: PropertyType) -> Self {
        match kind {
            PropertyType::Boolean => Self::Boolean(BooleanBuilder::new(), None),
            PropertyType::Integer => Self::Integer(Int64Builder::new(), None),
            PropertyType::Double => Self::Double(Float64Builder::new(), None),
            PropertyType::Text => Self::Text(StringBuilder::new(), false),
        }
    }

    /// Takes the value of a row; returns false if the column cannot hold it.
    fn append(&mut self, value: &str) -> bool {
        match self {
            Self::Boolean(_, slot) => {
                *slot = matches!(value, "true" | "false").then_some(value == "true");
                slot.is_some()
            }
            Self::Integer(_, slot) => {
                *slot = integer(value);
                slot.is_some()
            }
            Self::Double(_, slot) => {
                *slot = Some(value).filter(|value| !value.starts_with(['"', 't', 'f', 'n', '{', '['])).and_then(double);
                slot.is_some()
            }
            Self::Text(builder, has_value) => {
                let content = text(value);
                content.iter().for_each(|content| builder.append_value(unescape(content)));
                *has_value = content.is_some();
                *has_value
            }
        }
    }

    /// Ends a row, which has no value if none was appended.
    fn end_row(&mut self) {
        match self {
            Self::Boolean(builder, slot) => builder.append_option(slot.take()),
            Self::Integer(builder, slot) => builder.append_option(slot.take()),
            Self::Double(builder, slot) => builder.append_option(slot.take()),
            Self::Text(builder, has_value) => {
                if !std::mem::take(has_value) {
                    builder.append_null();
                }
            }
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Boolean(mut builder, _) => Arc::new(builder.finish()),
            Self::Integer(mut builder, _) => Arc::new(builder.finish()),
            Self::Double(mut builder, _) => Arc::new(builder.finish()),
            Self::Text(mut builder, _) => Arc::new(builder.finish()),
        }
    }
}
