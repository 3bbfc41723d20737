//! Reading a batch into leaves: columns as they are or converted, properties by one walk per row.

use super::ValueKind;
use super::cast;
use super::leaf::{Ask, Leaf, Leaves, Source, Step};
use crate::error::{Error, Result};
use crate::json::text::unescape;
use crate::json::walk::{members, string_content};
use crate::time;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder,
};
use arrow::buffer::BooleanBuffer;
use std::borrow::Cow;
use std::sync::Arc;

/// How many bytes of a wrong value a message shows.
const SHOWN_BYTES_MAX: usize = 40;
/// Room made for each text, in bytes; the builder grows where it is not enough.
const TEXT_BYTES: usize = 16;

/// The values of every leaf for the rows of one batch.
#[derive(Debug)]
pub struct LeafBatch {
    batch: RecordBatch,
    object: Option<usize>,
    leaves: Vec<Arc<Leaf>>,
    arrays: Vec<ArrayRef>,
    wrong: Vec<Vec<u32>>,
}

/// A leaf whose value in one row is of another type than asked.
#[derive(Clone, Copy, Debug)]
pub struct Wrong<'a> {
    batch: &'a LeafBatch,
    leaf: usize,
    row: u32,
}

impl Wrong<'_> {
    /// The row in the batch.
    pub fn row(&self) -> u32 {
        self.row
    }

    /// One line for a dead letter: the path, the kind asked and the value's first 40 bytes.
    pub fn message(&self) -> String {
        let leaf = &self.batch.leaves[self.leaf];
        let asked = match leaf.ask {
            Ask::Kind { kind, .. } => kind.name(),
            Ask::Presence => "value",
        };
        let value = self.batch.value_text(leaf, self.row as usize).unwrap_or_default();
        format!("{}: {} is no {asked}", leaf.name, shown(&value))
    }
}

/// The first bytes of a value, on one line.
fn shown(value: &str) -> String {
    let start = &value[..value.floor_char_boundary(SHOWN_BYTES_MAX)];
    let mark = if start.len() < value.len() { "…" } else { "" };
    format!("{}{mark}", start.replace(char::is_control, " "))
}

impl LeafBatch {
    /// How many rows it has.
    pub fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether no leaf of any expression is of the wrong type in any row.
    pub fn is_right(&self) -> bool {
        self.wrong.iter().all(Vec::is_empty)
    }

    pub(super) fn array(&self, leaf: usize) -> Result<&ArrayRef> {
        self.arrays.get(leaf).ok_or_else(|| Error::broken("an expression over other leaves than were read"))
    }

    pub(super) fn wrong(&self, leaf: usize) -> impl Iterator<Item = Wrong<'_>> {
        let rows = self.wrong.get(leaf).map_or(&[][..], Vec::as_slice);
        rows.iter().map(move |row| Wrong { batch: self, leaf, row: *row })
    }

    /// The value of a leaf as it was received.
    fn value_text(&self, leaf: &Leaf, row: usize) -> Option<String> {
        match &leaf.source {
            Source::Column(column, _) => {
                let texts = cast::column(self.batch.column(*column), ValueKind::Text).ok()?;
                Some(format!("'{}'", texts.as_string_opt::<i32>()?.value(row)))
            }
            Source::Path(_, parts) => {
                let mut value = self.batch.column(self.object?).as_string_opt::<i32>()?.value(row);
                for part in parts {
                    value = last_member(value, part)?;
                }
                Some(value.to_owned())
            }
        }
    }
}

fn last_member<'a>(object: &'a str, wanted: &str) -> Option<&'a str> {
    let mut found = None;
    members(object, |key, value| {
        if unescape(key) == wanted {
            found = Some(value);
        }
        true
    });
    found
}

impl Leaves {
    /// Reads every leaf for every row of `batch`, which has the schema these leaves were made for. An error is a bug (70).
    pub fn read(&self, batch: &RecordBatch) -> Result<LeafBatch> {
        let rows = batch.num_rows();
        let mut columns: Vec<Column> = self.leaves.iter().map(|leaf| Column::new(leaf, rows)).collect();
        if self.paths > 0 {
            self.walk(batch, &mut columns)?;
        }
        let mut arrays = Vec::with_capacity(columns.len());
        let mut wrong = Vec::with_capacity(columns.len());
        for (leaf, column) in self.leaves.iter().zip(columns) {
            let (array, rows) = match &leaf.source {
                Source::Column(index, own) => from_column(batch.column(*index), *own, leaf.ask)?,
                Source::Path(..) => column.finish(),
            };
            arrays.push(array);
            wrong.push(rows);
        }
        Ok(LeafBatch { batch: batch.clone(), object: self.object(), leaves: self.leaves.clone(), arrays, wrong })
    }

    fn walk(&self, batch: &RecordBatch, columns: &mut [Column]) -> Result<()> {
        let objects = self.object().and_then(|column| batch.column(column).as_string_opt::<i32>());
        let objects = objects.ok_or_else(|| Error::broken("properties are no text"))?;
        let mut wanted: Vec<(usize, &mut Column)> = vec![];
        for (leaf, column) in self.leaves.iter().zip(columns) {
            if let Source::Path(path, _) = leaf.source {
                wanted.push((path, column));
            }
        }
        let mut spans: Vec<Option<&str>> = vec![None; self.paths];
        for row in 0..objects.len() {
            spans.fill(None);
            find(&self.steps, objects.value(row), &mut spans);
            for (path, column) in &mut wanted {
                column.push(spans[*path], row);
            }
        }
        Ok(())
    }
}

/// Notes the value of every wanted path in `object`; the last of equal names counts, so the walk goes to the end.
#[inline]
fn find<'a>(steps: &[Step], object: &'a str, spans: &mut [Option<&'a str>]) {
    members(object, |key, value| {
        let found = if key.as_bytes().contains(&b'\\') {
            let key = unescape(key);
            steps.iter().find(|step| step.key == key)
        } else {
            steps.iter().find(|step| step.key == key)
        };
        if let Some(step) = found {
            note(step, value, spans);
        }
        true
    });
}

#[inline]
fn note<'a>(step: &Step, value: &'a str, spans: &mut [Option<&'a str>]) {
    if let Some(path) = step.path {
        spans[path] = Some(value);
    }
    if !step.below.is_empty() {
        below(&step.below, value, spans);
    }
}

/// Steps into `value`; what an earlier member of the same name held counts no more.
fn below<'a>(steps: &[Step], value: &'a str, spans: &mut [Option<&'a str>]) {
    forget(steps, spans);
    if value.starts_with('{') {
        find(steps, value, spans);
    }
}

fn forget(steps: &[Step], spans: &mut [Option<&str>]) {
    for step in steps {
        if let Some(path) = step.path {
            spans[path] = None;
        }
        forget(&step.below, spans);
    }
}

/// The values of one property leaf as they are read.
struct Column {
    values: Values,
    lenient: bool,
    wrong: Vec<u32>,
}

enum Values {
    Number(Float64Builder),
    Text(StringBuilder),
    Bool(BooleanBuilder),
    Time(Int64Builder, time::Parser),
    Presence(BooleanBuilder),
}

impl Column {
    fn new(leaf: &Leaf, rows: usize) -> Self {
        let rows = if matches!(leaf.source, Source::Path(..)) { rows } else { 0 };
        let (values, lenient) = match leaf.ask {
            Ask::Presence => (Values::Presence(BooleanBuilder::with_capacity(rows)), false),
            Ask::Kind { kind, lenient } => (Values::new(kind, rows), lenient),
        };
        Self { values, lenient, wrong: vec![] }
    }

    /// Adds the value of `row`: its JSON text, or none.
    #[inline]
    fn push(&mut self, value: Option<&str>, row: usize) {
        let value = value.filter(|value| *value != "null");
        let right = match (&mut self.values, value) {
            (values, None) => {
                values.push_null();
                true
            }
            (Values::Number(builder), Some(value)) => {
                let number = number(value);
                builder.append_option(number);
                number.is_some()
            }
            (Values::Text(builder), Some(value)) => {
                match string_content(value) {
                    Some(content) => builder.append_value(unescape(content)),
                    None => builder.append_value(value),
                }
                true
            }
            (Values::Bool(builder), Some(value)) => {
                let truth = boolean(value);
                builder.append_option(truth);
                truth.is_some()
            }
            (Values::Time(builder, parser), Some(value)) => {
                let micros = string_content(value).and_then(|content| parser.parse(&unescape(content)));
                builder.append_option(micros);
                micros.is_some()
            }
            (Values::Presence(builder), Some(_)) => {
                builder.append_value(true);
                true
            }
        };
        if !right && !self.lenient {
            self.wrong.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
    }

    fn finish(self) -> (ArrayRef, Vec<u32>) {
        let array: ArrayRef = match self.values {
            Values::Number(mut builder) => Arc::new(builder.finish()),
            Values::Text(mut builder) => Arc::new(builder.finish()),
            Values::Bool(mut builder) | Values::Presence(mut builder) => Arc::new(builder.finish()),
            Values::Time(mut builder, _) => Arc::new(builder.finish()),
        };
        (array, self.wrong)
    }
}

impl Values {
    fn new(kind: ValueKind, rows: usize) -> Self {
        match kind {
            ValueKind::Number => Self::Number(Float64Builder::with_capacity(rows)),
            ValueKind::Text => Self::Text(StringBuilder::with_capacity(rows, rows * TEXT_BYTES)),
            ValueKind::Bool => Self::Bool(BooleanBuilder::with_capacity(rows)),
            ValueKind::Time => Self::Time(Int64Builder::with_capacity(rows), time::Parser::default()),
        }
    }

    #[inline]
    fn push_null(&mut self) {
        match self {
            Self::Number(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Bool(builder) | Self::Presence(builder) => builder.append_null(),
            Self::Time(builder, _) => builder.append_null(),
        }
    }
}

/// The number a JSON value is: a number, or a string that is one as a whole.
#[inline]
fn number(value: &str) -> Option<f64> {
    match value.as_bytes().first()? {
        b'-' | b'0'..=b'9' => cast::finite(value),
        b'"' => cast::text_number(&content(value)),
        _ => None,
    }
}

#[inline]
fn boolean(value: &str) -> Option<bool> {
    match value {
        "true" => Some(true),
        "false" => Some(false),
        _ if value.starts_with('"') => cast::text_bool(&content(value)),
        _ => None,
    }
}

fn content(value: &str) -> Cow<'_, str> {
    unescape(string_content(value).unwrap_or_default())
}

/// A column as a leaf asks for it, and the rows of the wrong type.
fn from_column(column: &ArrayRef, own: ValueKind, ask: Ask) -> Result<(ArrayRef, Vec<u32>)> {
    let Ask::Kind { kind, lenient } = ask else {
        let present = BooleanArray::new(BooleanBuffer::new_set(column.len()), column.logical_nulls());
        return Ok((Arc::new(present), vec![]));
    };
    let values = cast::column(column, own)?;
    let array = cast::cast(&values, own, kind)?;
    let mut wrong = vec![];
    if array.null_count() > values.null_count() && !lenient {
        let rows = (0..values.len()).filter(|row| array.is_null(*row) && values.is_valid(*row));
        wrong.extend(rows.map(|row| u32::try_from(row).unwrap_or(u32::MAX)));
    }
    Ok((array, wrong))
}
