//! Dictionary-encoded text, and the texts of JSON values.

use crate::error::{Error, Result};
use crate::json::text::unescape;
use crate::json::walk::string_content;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, StringArray, StringBuilder};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{concat, take};
use std::cell::RefCell;
use std::sync::Arc;

/// Initial bytes per text; the builder grows if that is not enough.
const TEXT_BYTES: usize = 16;

/// One text per row, as the index of its value; NULL if the code or the value is.
#[derive(Clone, Debug)]
pub struct Dictionary {
    codes: Int32Array,
    values: ArrayRef,
}

impl Dictionary {
    /// Creates rows from codes; each is NULL or the index of one of the values, a `StringArray`.
    pub fn new(codes: Int32Array, values: ArrayRef) -> Self {
        Self { codes, values }
    }

    /// Returns the index of each row's value.
    pub fn codes(&self) -> &Int32Array {
        &self.codes
    }

    /// Returns the values; the same array for every batch until a value is new.
    pub fn values(&self) -> &ArrayRef {
        &self.values
    }

    /// Returns the value of a row.
    #[inline]
    pub fn value(&self, row: usize) -> Option<&str> {
        let values: &StringArray = self.values.as_string();
        let code = self.codes.is_valid(row).then(|| self.codes.value(row) as usize)?;
        values.is_valid(code).then(|| values.value(code))
    }

    /// Returns the value of every row, expanded.
    pub(in crate::expr) fn rows(&self) -> Result<ArrayRef> {
        Ok(take(&self.values, &self.codes, None)?)
    }

    /// Returns, for each row, true if it has a value, else NULL, as a leaf that requires only presence.
    pub(in crate::expr) fn presence(&self) -> ArrayRef {
        let has_value: Vec<bool> = (0..self.values.len()).map(|code| self.values.is_valid(code)).collect();
        let codes = self.codes.values();
        // The code of a NULL row may be anything.
        let is_there = |row: usize| has_value.get(codes[row] as usize).is_some_and(|has_value| *has_value);
        let mut there = BooleanBuffer::collect_bool(codes.len(), is_there);
        if let Some(nulls) = self.codes.nulls() {
            there = &there & nulls.inner();
        }
        Arc::new(BooleanArray::new(BooleanBuffer::new_set(codes.len()), Some(NullBuffer::new(there))))
    }
}

/// A dimension of the rows of a batch.
#[derive(Debug)]
pub enum Dimension {
    /// A `StringArray`.
    Rows(ArrayRef),
    /// The same as a dictionary.
    Dictionary(Dictionary),
}

impl Dimension {
    /// Returns the value of every row, expanded.
    pub fn rows(&self) -> Result<ArrayRef> {
        match self {
            Dimension::Rows(array) => Ok(array.clone()),
            Dimension::Dictionary(dictionary) => dictionary.rows(),
        }
    }
}

/// The texts of a leaf for the values of a dictionary. Batches whose dictionary begins with the same values use them
/// again.
#[derive(Clone, Debug)]
struct CachedTexts {
    from: ArrayRef,
    texts: ArrayRef,
}

/// The texts of each leaf for the values of its dictionary, which most batches share.
#[derive(Clone, Debug, Default)]
pub(in crate::expr) struct TextCache(RefCell<Vec<Option<CachedTexts>>>);

impl TextCache {
    /// Returns the texts of the JSON values `from`.
    pub(in crate::expr) fn texts(&self, leaf: usize, from: &ArrayRef) -> Result<ArrayRef> {
        let mut all = self.0.borrow_mut();
        if all.len() <= leaf {
            all.resize(leaf + 1, None);
        }
        let made = all.get_mut(leaf).ok_or_else(|| Error::broken("a leaf without a place"))?;
        if let Some(made) = made.as_ref().filter(|made| Arc::ptr_eq(&made.from, from)) {
            return Ok(made.texts.clone());
        }
        // Dictionaries grow: the texts of earlier values remain valid.
        let before = made.take().filter(|made| begins_with(from.as_string(), made.from.as_string()));
        let done = before.as_ref().map_or(0, |made| made.texts.len());
        let rest = from.slice(done, from.len() - done);
        let texts = rest.as_string::<i32>().iter().map(|text| text.filter(|text| *text != "null"));
        let rest: ArrayRef = Arc::new(texts_of(texts, rest.len()));
        let texts = match before {
            None => rest,
            Some(made) => concat(&[&made.texts, &rest])?,
        };
        *made = Some(CachedTexts { from: from.clone(), texts: texts.clone() });
        Ok(texts)
    }
}

/// Whether `all` begins with the values of `first`; neither has NULL.
fn begins_with(all: &StringArray, first: &StringArray) -> bool {
    all.value_offsets().starts_with(first.value_offsets()) && all.value_data().starts_with(first.value_data())
}

pub(in crate::expr) fn texts_of<'a>(texts: impl Iterator<Item = Option<&'a str>>, rows: usize) -> StringArray {
    let mut builder = StringBuilder::with_capacity(rows, rows * TEXT_BYTES);
    for text in texts {
        match text.map(|text| string_content(text).unwrap_or(text)) {
            None => builder.append_null(),
            // A backslash occurs in strings only, or in a container, which is kept as received.
            Some(content) if content.as_bytes().contains(&b'\\') && text.is_some_and(|text| text.starts_with('"')) => {
                builder.append_value(unescape(content));
            }
            Some(content) => builder.append_value(content),
        }
    }
    builder.finish()
}
