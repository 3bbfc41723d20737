//! Reads a batch into leaves: columns as they are or converted, properties by one walk per row.

use super::bind::article;
use super::leaf::{Leaf, LeafType, Leaves, PathStep, Source};
use super::node::{PathKey, quoted_name};
use super::parse::INTEGER_MAX;
use super::value::{Dictionary, Value, ValueKind, cast, decimal, texts_of};
use crate::error::{Error, Result};
use crate::json::predictor::{KeyPredictor, UNMARKED};
use crate::json::text::unescape;
use crate::json::walk::{items, last_member, members, predicted_members, string_content};
use crate::kind::event::watched_name;
use crate::parse::excerpt::brief;
use crate::time;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Int32Type;
use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Number of bytes of a wrong value that a message shows.
const SHOWN_BYTES_MAX: usize = 40;

/// The values of every leaf for the rows of one batch.
#[derive(Debug)]
pub struct LeafBatch {
    batch: RecordBatch,
    object: Option<usize>,
    leaves: Vec<Arc<Leaf>>,
    columns: Vec<LeafColumn>,
    /// The rows in which a cast fails; `None` unless `failed_casts` is searching for them.
    failed: RefCell<Option<Vec<FailedCast>>>,
}

/// A row in which a strict cast fails.
#[derive(Debug)]
struct FailedCast {
    row: u32,
    message: String,
}

/// The values of a leaf.
#[derive(Debug)]
enum LeafValues {
    Rows(ArrayRef),
    /// A dictionary, and its expanded form for callers that cannot use codes.
    Dictionary(Dictionary, OnceCell<ArrayRef>),
}

/// A value of the wrong type in one row.
#[derive(Clone, Debug)]
pub struct Wrong<'a> {
    row: u32,
    value: WrongValue<'a>,
}

/// The value that has the wrong type.
#[derive(Clone, Debug)]
enum WrongValue<'a> {
    /// A leaf, by its index.
    Leaf(&'a LeafBatch, usize),
    /// A computed value, with the message.
    Computed(String),
}

/// The rows of a batch in which a value has the wrong type, by their indexes, each with the first message: the expected
/// type and the value that was found.
pub type WrongRows = BTreeMap<usize, String>;

impl Wrong<'_> {
    /// Returns the row in the batch.
    pub fn row(&self) -> usize {
        self.row as usize
    }

    /// Adds its row to `rows`, with a message if it is the first of the row.
    pub fn note(&self, rows: &mut WrongRows, message: impl FnOnce(&Self) -> String) {
        rows.entry(self.row()).or_insert_with(|| message(self));
    }

    /// Returns one line for a dead letter: the path, the required type and the value's first 40 bytes.
    pub fn message(&self) -> String {
        let (batch, leaf) = match &self.value {
            WrongValue::Leaf(batch, leaf) => (batch, &batch.leaves[*leaf]),
            WrongValue::Computed(message) => return message.clone(),
        };
        let asked = match leaf.leaf_type {
            LeafType::Kind { kind, .. } => article(kind),
            LeafType::Presence => "a value".to_owned(),
        };
        let value = batch.value_text(leaf, self.row()).unwrap_or_default();
        let cast = self.cast().map(|cast| format!("; {cast} reads it")).unwrap_or_default();
        format!("{}: expected {asked}, found {}{cast}", brief(&leaf.name), shown(&value))
    }

    /// Returns the expression that reads the value as a number, if it has separators of thousands or a decimal comma.
    fn cast(&self) -> Option<String> {
        let WrongValue::Leaf(batch, leaf) = &self.value else { return None };
        let leaf = &batch.leaves[*leaf];
        let is_number = matches!(leaf.leaf_type, LeafType::Kind { kind: ValueKind::Number, .. });
        is_number.then(|| separated_number(&batch.value_text(leaf, self.row())?, &leaf.name)).flatten()
    }

    /// Returns [`Wrong::message`] and what an expression makes of such a value without a dead letter.
    pub fn advice(&self) -> String {
        let message = self.message();
        let WrongValue::Leaf(batch, leaf) = &self.value else { return message };
        let leaf = &batch.leaves[*leaf];
        match leaf.leaf_type {
            LeafType::Kind { kind, .. } if self.cast().is_none() => {
                format!("{message}; try_cast({} as {}) is NULL then", brief(quoted_name(&leaf.name)), kind.cast_name())
            }
            _ => message,
        }
    }
}

/// Returns the cast that reads a number with separators of thousands or with a decimal comma.
#[cold]
fn separated_number(value: &str, name: &str) -> Option<String> {
    let value = value.trim_matches(['"', '\'']);
    let name = quoted_name(name);
    let without =
        |mark: &str| (format!("replace({name}, '{}', '')", mark.replace('\'', "''")), value.replace(mark, ""));
    let with_point = |(expr, value): (String, String)| (format!("replace({expr}, ',', '.')"), value.replace(',', "."));
    let (expr, number) = match (value.rfind(','), value.rfind('.')) {
        (Some(comma), Some(point)) if comma > point => with_point(without(".")),
        (Some(_), Some(_)) => without(","),
        // 6,758 has thousands; 188,61 has a decimal comma.
        (Some(comma), None) if value.len() - comma == 4 || value.matches(',').count() > 1 => without(","),
        (Some(_), None) => with_point((name, value.to_owned())),
        _ => without(["'", "\u{2019}", "\u{a0}", "\u{202f}", " "].into_iter().find(|mark| value.contains(mark))?),
    };
    cast::text_number(&number).map(|_| format!("cast({expr} as double)"))
}

/// Returns the first bytes of a value, on one line.
fn shown(value: &str) -> String {
    let start = &value[..value.floor_char_boundary(SHOWN_BYTES_MAX)];
    let mark = if start.len() < value.len() { "…" } else { "" };
    format!("{}{mark}", start.replace(char::is_control, " "))
}

impl LeafBatch {
    /// Reads every leaf for every row of `batch`, which has the schema that `leaves` were made for.
    ///
    /// Errors: exit status 70, which is a bug.
    pub fn read(leaves: &Leaves, batch: &RecordBatch) -> Result<Self> {
        let watched = if leaves.paths > 0 { watched_columns(leaves, batch) } else { None };
        let is_flat = watched.is_some() && leaves.steps.iter().all(|step| step.below.is_empty());
        let spans = if leaves.paths > 0 && !is_flat { walk(leaves, batch, watched.as_deref())? } else { vec![] };
        let mut columns = Vec::with_capacity(leaves.leaves.len());
        for (index, leaf) in leaves.leaves.iter().enumerate() {
            columns.push(match (dictionary(leaves, index, batch, watched.as_deref())?, &leaf.source) {
                (Some(dictionary), _) if leaf.leaf_type == LeafType::Presence => {
                    LeafColumn::right(LeafValues::Rows(dictionary.presence()))
                }
                // Every JSON value has a text.
                (Some(dictionary), _) => LeafColumn::right(LeafValues::Dictionary(dictionary, OnceCell::new())),
                (None, Source::Column(index, own)) => from_column(batch.column(*index), *own, leaf.leaf_type)?,
                (None, Source::Path(path, _)) => {
                    let is_decimal = leaves.has_decimals(index);
                    match watched_at(leaves, *path, watched.as_deref()) {
                        Some(column) if is_flat => {
                            from_json(column.as_string::<i32>().iter(), leaf.leaf_type, is_decimal)
                        }
                        _ => {
                            let texts = spans.iter().skip(*path).step_by(leaves.paths).copied();
                            from_json(texts, leaf.leaf_type, is_decimal)
                        }
                    }
                }
            });
        }
        Ok(Self {
            batch: batch.clone(),
            object: leaves.object(),
            leaves: leaves.leaves.clone(),
            columns,
            failed: RefCell::default(),
        })
    }

    /// Returns the number of rows.
    pub fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Evaluates an expression, and returns the rows in which a strict cast fails.
    pub(super) fn failed_casts<T>(&self, eval: impl FnOnce() -> Result<T>) -> Vec<Wrong<'_>> {
        self.failed.replace(Some(vec![]));
        // An error is ignored here, because the evaluation that returns the result reports it.
        _ = eval();
        let failed = self.failed.take().unwrap_or_default();
        let wrong = |FailedCast { row, message }| Wrong { row, value: WrongValue::Computed(message) };
        failed.into_iter().map(wrong).collect()
    }

    /// Notes the rows in which the cast of `value` to `kind` fails, if they are looked for.
    pub(super) fn note_failed(&self, value: &Value, cast: &ArrayRef, kind: ValueKind) -> Result<()> {
        let mut failed = self.failed.borrow_mut();
        let Some(failed) = failed.as_mut() else { return Ok(()) };
        if cast.null_count() == value.array.null_count() {
            return Ok(());
        }
        let texts = cast::column(&value.array, ValueKind::Text)?;
        let texts = texts.as_string::<i32>();
        for row in 0..self.num_rows() {
            let at = if value.scalar { 0 } else { row };
            if cast.is_null(at) && value.array.is_valid(at) {
                let found = shown(&format!("'{}'", texts.value(at)));
                let message = format!("cast: expected {}, found {found}", article(kind));
                failed.push(FailedCast { row: row as u32, message });
            }
        }
        Ok(())
    }

    /// Whether a leaf has an integer that has no double of the same value.
    pub(super) fn is_rounded(&self, leaf: usize) -> bool {
        self.columns.get(leaf).is_some_and(|column| column.is_rounded)
    }

    /// Whether a lenient leaf is NULL in some row because its value there has another type.
    pub(super) fn is_uncast(&self, leaf: usize) -> bool {
        self.columns.get(leaf).is_some_and(|column| column.is_uncast)
    }

    /// Whether a leaf has no value in any row.
    pub(super) fn is_all_null(&self, leaf: usize) -> bool {
        let Some(LeafColumn { values, wrong, .. }) = self.columns.get(leaf) else { return true };
        wrong.is_empty()
            && match values {
                LeafValues::Rows(array) => array.logical_null_count() == array.len(),
                LeafValues::Dictionary(dictionary, _) => {
                    (0..self.num_rows()).all(|row| dictionary.value(row).is_none())
                }
            }
    }

    fn values(&self, leaf: usize) -> Option<&LeafValues> {
        self.columns.get(leaf).map(|column| &column.values)
    }

    pub(super) fn array(&self, leaf: usize) -> Result<&ArrayRef> {
        match self.values(leaf) {
            None => Err(Error::broken("an expression over other leaves than were read")),
            Some(LeafValues::Rows(array)) => Ok(array),
            Some(LeafValues::Dictionary(dictionary, rows)) => {
                if rows.get().is_none() {
                    _ = rows.set(dictionary.rows()?);
                }
                rows.get().ok_or_else(|| Error::broken("rows that were set"))
            }
        }
    }

    /// Returns the numbers of a leaf as decimals: texts, or doubles if each has the decimal as its shortest text.
    pub(super) fn decimals(&self, leaf: usize) -> Result<&ArrayRef> {
        match self.columns.get(leaf).and_then(|column| column.decimals.as_ref()) {
            Some(texts) => Ok(texts),
            None => self.array(leaf),
        }
    }

    /// Returns the dictionary of a leaf, if it is one.
    pub(super) fn dictionary(&self, leaf: usize) -> Option<&Dictionary> {
        match self.values(leaf) {
            Some(LeafValues::Dictionary(dictionary, _)) => Some(dictionary),
            _ => None,
        }
    }

    pub(super) fn wrong(&self, leaf: usize) -> impl Iterator<Item = Wrong<'_>> {
        let rows = self.columns.get(leaf).into_iter().flat_map(|column| &column.wrong);
        rows.map(move |row| Wrong { row: *row, value: WrongValue::Leaf(self, leaf) })
    }

    /// Returns the value of a leaf as received.
    fn value_text(&self, leaf: &Leaf, row: usize) -> Option<String> {
        match &leaf.source {
            Source::Column(column, _) => {
                let texts = cast::column(self.batch.column(*column), ValueKind::Text).ok()?;
                Some(format!("'{}'", texts.as_string_opt::<i32>()?.value(row)))
            }
            Source::Path(_, steps) => {
                let (PathKey::Member(first), below) = steps.split_first()? else { return None };
                // A stage that reads raw records may leave the object blank.
                let watched = self.batch.column_by_name(&watched_name(first));
                let own = watched.and_then(|column| cast::column(column, ValueKind::Text).ok());
                let object = self.batch.column(self.object?).as_string_opt::<i32>()?.value(row);
                let mut value = match &own {
                    Some(texts) => texts.as_string_opt::<i32>()?.value(row),
                    None => last_member(object, first)?,
                };
                for step in below {
                    value = value_at(value, step)?;
                }
                Some(value.to_owned())
            }
        }
    }
}

/// Returns the JSON text of every path of every row, row by row.
fn walk<'a>(leaves: &Leaves, batch: &'a RecordBatch, watched: Option<&[&'a ArrayRef]>) -> Result<Vec<Option<&'a str>>> {
    let objects = leaves.object().and_then(|column| batch.column(column).as_string_opt::<i32>());
    let objects = objects.ok_or_else(|| Error::broken("expected text in the column properties"))?;
    let mut spans = vec![None; leaves.paths * objects.len()];
    if let Some(watched) = watched {
        for (step, column) in leaves.steps.iter().zip(watched) {
            // Of a dictionary column the values are read, not the rows.
            let Some(column) = column.as_string_opt::<i32>() else { continue };
            for (row, spans) in spans.chunks_exact_mut(leaves.paths).enumerate() {
                if column.is_valid(row) {
                    note(step, column.value(row), spans);
                }
            }
        }
        return Ok(spans);
    }
    let mut predictor = KeyPredictor::default();
    let meaning = |key: &str| step_of(&leaves.steps, key).and_then(|at| u32::try_from(at).ok()).unwrap_or(UNMARKED);
    for (row, spans) in spans.chunks_exact_mut(leaves.paths).enumerate() {
        predicted_members(objects.value(row), &mut predictor, meaning, |member| {
            if member.mark != UNMARKED {
                note(&leaves.steps[member.mark as usize], member.value(), spans);
            }
            true
        });
    }
    Ok(spans)
}

/// Returns the columns that already contain the properties, if the batch has one for each.
fn watched_columns<'a>(leaves: &Leaves, batch: &'a RecordBatch) -> Option<Vec<&'a ArrayRef>> {
    let column = |step: &PathStep| batch.column_by_name(&watched_name(step.name()));
    leaves.steps.iter().map(column).collect()
}

/// Returns the column of a path of one part.
fn watched_at<'a>(leaves: &Leaves, path: usize, watched: Option<&[&'a ArrayRef]>) -> Option<&'a ArrayRef> {
    let step = leaves.steps.iter().position(|step| step.path == Some(path))?;
    watched?.get(step).copied()
}

/// Returns the dictionary values of a leaf, if the batch has a dictionary column for it.
fn dictionary(
    leaves: &Leaves,
    index: usize,
    batch: &RecordBatch,
    watched: Option<&[&ArrayRef]>,
) -> Result<Option<Dictionary>> {
    let leaf = &leaves.leaves[index];
    if matches!(leaf.leaf_type, LeafType::Kind { kind, .. } if kind != ValueKind::Text) {
        return Ok(None);
    }
    let column = match &leaf.source {
        Source::Column(column, _) => Some(batch.column(*column)),
        Source::Path(path, _) => watched_at(leaves, *path, watched),
    };
    let Some(dictionary) = column.and_then(|column| column.as_dictionary_opt::<Int32Type>()) else {
        return Ok(None);
    };
    if dictionary.values().as_string_opt::<i32>().is_none() {
        return Ok(None);
    }
    let values = match leaf.source {
        Source::Column(..) => dictionary.values().clone(),
        Source::Path(..) => leaves.made.texts(index, dictionary.values())?,
    };
    Ok(Some(Dictionary::new(dictionary.keys().clone(), values)))
}

/// Returns the index of the step for a key, which is still escaped.
fn step_of(steps: &[PathStep], key: &str) -> Option<usize> {
    let key = unescape(key);
    steps.iter().position(|step| step.key.is_member(&key))
}

/// Records the value at a step. The last of equal names counts, so a walk goes to the end and later values replace
/// earlier ones.
#[inline]
fn note<'a>(step: &PathStep, value: &'a str, spans: &mut [Option<&'a str>]) {
    if let Some(path) = step.path {
        spans[path] = Some(value);
    }
    if !step.below.is_empty() {
        below(&step.below, value, spans);
    }
}

/// Steps into `value`; discards what an earlier member of the same name contained.
fn below<'a>(steps: &[PathStep], value: &'a str, spans: &mut [Option<&'a str>]) {
    forget(steps, spans);
    if value.starts_with('{') {
        members(value, |key, value| {
            if let Some(at) = step_of(steps, key) {
                note(&steps[at], value, spans);
            }
            true
        });
    } else if value.starts_with('[') {
        let count = elements(steps.iter().map(|step| &step.key), value);
        items(value, |index, value| {
            steps.iter().filter(|step| step.key.is_element(index, count)).for_each(|step| note(step, value, spans));
            true
        });
    }
}

/// Returns the number of elements of an array, if a step counts from its end.
fn elements<'a>(mut steps: impl Iterator<Item = &'a PathKey>, array: &str) -> usize {
    let mut count = 0;
    if steps.any(|step| matches!(step, PathKey::Element(..0))) {
        items(array, |_, _| {
            count += 1;
            true
        });
    }
    count
}

/// Returns the JSON value at one step below `value`.
pub(crate) fn value_at<'a>(value: &'a str, step: &PathKey) -> Option<&'a str> {
    let mut found = None;
    match step {
        PathKey::Member(name) if value.starts_with('{') => found = last_member(value, name),
        PathKey::Element(_) if value.starts_with('[') => {
            let count = elements(std::iter::once(step), value);
            items(value, |index, item| {
                found = step.is_element(index, count).then_some(item);
                found.is_none()
            });
        }
        _ => {}
    }
    found
}

fn forget(steps: &[PathStep], spans: &mut [Option<&str>]) {
    for step in steps {
        if let Some(path) = step.path {
            spans[path] = None;
        }
        forget(&step.below, spans);
    }
}

/// The values of one leaf in a batch.
#[derive(Debug)]
struct LeafColumn {
    values: LeafValues,
    /// The rows with a value of the wrong type.
    wrong: Vec<u32>,
    /// Whether some integer has no double of the same value.
    is_rounded: bool,
    /// Whether some value is NULL because it has another type, which a lenient leaf permits.
    is_uncast: bool,
    /// The numbers as written, if they may differ from the shortest texts of the doubles.
    decimals: Option<ArrayRef>,
}

impl LeafColumn {
    /// Returns values that all have the right type.
    fn right(values: LeafValues) -> Self {
        Self { values, wrong: vec![], is_rounded: false, is_uncast: false, decimals: None }
    }
}

/// Converts JSON texts to a leaf's type; `is_decimal` keeps the decimals of numbers.
fn from_json<'a>(
    texts: impl ExactSizeIterator<Item = Option<&'a str>> + Clone,
    leaf_type: LeafType,
    is_decimal: bool,
) -> LeafColumn {
    let rows = texts.len();
    let texts = texts.map(|text| text.filter(|text| *text != "null"));
    let LeafType::Kind { kind, lenient } = leaf_type else {
        let present: BooleanArray = texts.map(|text| text.map(|_| true)).collect();
        return LeafColumn::right(LeafValues::Rows(Arc::new(present)));
    };
    let mut wrong = vec![];
    let (mut is_rounded, mut is_long) = (false, false);
    let written = is_decimal.then(|| texts.clone());
    let array: ArrayRef = match kind {
        ValueKind::Text => Arc::new(texts_of(texts, rows)),
        ValueKind::Number => {
            let mut builder = Float64Builder::with_capacity(rows);
            let number = |text| {
                let number = number(text)?;
                is_long |= decimal::may_be_long(text, number);
                is_rounded |= number.abs() > INTEGER_MAX && is_rounded_integer(text, number);
                Some(number)
            };
            each(texts, number, |number| builder.append_option(number), &mut wrong);
            Arc::new(builder.finish())
        }
        ValueKind::Bool => {
            let mut builder = BooleanBuilder::with_capacity(rows);
            each(texts, boolean, |truth| builder.append_option(truth), &mut wrong);
            Arc::new(builder.finish())
        }
        ValueKind::Time => {
            let mut parser = time::Parser::default();
            let mut builder = Int64Builder::with_capacity(rows);
            let instant = |text: &str| string_content(text).and_then(|content| parser.parse_any(&unescape(content)));
            each(texts, instant, |micros| builder.append_option(micros), &mut wrong);
            Arc::new(builder.finish())
        }
    };
    let is_uncast = lenient && !wrong.is_empty();
    if lenient {
        wrong.clear();
    }
    let decimals = written.filter(|_| is_long).map(|texts| decimal::written(texts, &array));
    LeafColumn { values: LeafValues::Rows(array), wrong, is_rounded, is_uncast, decimals }
}

/// Reads each text and appends its value, or NULL; records the rows with a text of the wrong type.
#[inline(always)]
fn each<'a, T>(
    texts: impl Iterator<Item = Option<&'a str>>,
    mut read: impl FnMut(&'a str) -> Option<T>,
    mut append: impl FnMut(Option<T>),
    wrong: &mut Vec<u32>,
) {
    for (row, text) in (0..).zip(texts) {
        let value = text.and_then(&mut read);
        if value.is_none() && text.is_some() {
            wrong.push(row);
        }
        append(value);
    }
}

/// Reads a JSON value as a number: a number, or a string that is entirely one.
#[inline]
fn number(value: &str) -> Option<f64> {
    match value.as_bytes().first()? {
        b'-' | b'0'..=b'9' => cast::finite(value),
        b'"' => cast::text_number(&content(value)),
        _ => None,
    }
}

/// Whether a JSON value is an integer, or a string with one, of which `number` is not the exact value.
#[cold]
fn is_rounded_integer(value: &str, number: f64) -> bool {
    let digits = value.trim_matches('"').trim();
    digits.parse::<i128>().is_ok_and(|exact| exact != number as i128)
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

/// Converts a column to a leaf's type.
fn from_column(column: &ArrayRef, own: ValueKind, leaf_type: LeafType) -> Result<LeafColumn> {
    let LeafType::Kind { kind, lenient } = leaf_type else {
        let present = BooleanArray::new(BooleanBuffer::new_set(column.len()), column.logical_nulls());
        return Ok(LeafColumn::right(LeafValues::Rows(Arc::new(present))));
    };
    let values = cast::column(column, own)?;
    let array = cast::cast(&values, own, kind)?;
    let mut wrong = vec![];
    let has_other = array.null_count() > values.null_count();
    if has_other && !lenient {
        let rows = (0..values.len()).filter(|row| array.is_null(*row) && values.is_valid(*row));
        wrong.extend(rows.map(|row| u32::try_from(row).unwrap_or(u32::MAX)));
    }
    Ok(LeafColumn {
        values: LeafValues::Rows(array),
        wrong,
        is_rounded: false,
        is_uncast: has_other && lenient,
        decimals: None,
    })
}
