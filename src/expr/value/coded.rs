//! Text that has few values: coded, and the values that JSON texts stand for.

use crate::error::{Error, Result};
use crate::json::text::unescape;
use crate::json::walk::string_content;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, StringArray, StringBuilder};
use arrow::compute::{concat, take};
use std::cell::RefCell;
use std::sync::Arc;

/// Room made for each text, in bytes; the builder grows where it is not enough.
const TEXT_BYTES: usize = 16;

/// A text per row, as the index of its value; NULL where the code is, or the value.
#[derive(Clone, Debug)]
pub struct Coded {
    codes: Int32Array,
    values: ArrayRef,
}

impl Coded {
    /// Rows of these codes; each is NULL or the index of one of the values, a `StringArray`.
    pub fn new(codes: Int32Array, values: ArrayRef) -> Self {
        Self { codes, values }
    }

    /// The index of each row's value.
    pub fn codes(&self) -> &Int32Array {
        &self.codes
    }

    /// The values: the same array for every batch until there is a new one.
    pub fn values(&self) -> &ArrayRef {
        &self.values
    }

    /// The value of a row.
    #[inline]
    pub fn value(&self, row: usize) -> Option<&str> {
        let values: &StringArray = self.values.as_string();
        let code = self.codes.is_valid(row).then(|| self.codes.value(row) as usize)?;
        values.is_valid(code).then(|| values.value(code))
    }

    /// The value of every row, written out.
    pub(in crate::expr) fn rows(&self) -> Result<ArrayRef> {
        Ok(take(&self.values, &self.codes, None)?)
    }

    /// As a leaf that asks only whether there is a value.
    pub(in crate::expr) fn presence(&self) -> ArrayRef {
        let present: Vec<bool> = (0..self.values.len()).map(|code| self.values.is_valid(code)).collect();
        let is_there = |code: Option<i32>| code.is_some_and(|code| present[code as usize]).then_some(true);
        Arc::new(self.codes.iter().map(is_there).collect::<BooleanArray>())
    }
}

/// A dimension of the rows of a batch.
#[derive(Debug)]
pub enum Dimension {
    /// A `StringArray`.
    Rows(ArrayRef),
    /// The same, coded.
    Coded(Coded),
}

impl Dimension {
    /// The value of every row, written out.
    pub fn rows(&self) -> Result<ArrayRef> {
        match self {
            Dimension::Rows(array) => Ok(array.clone()),
            Dimension::Coded(coded) => coded.rows(),
        }
    }
}

/// What a leaf made of the values of a dictionary, for the batches that have the same or more of them.
#[derive(Clone, Debug)]
struct Made {
    from: ArrayRef,
    texts: ArrayRef,
}

/// For each leaf what it made of a dictionary's values, so that most batches find it done.
#[derive(Clone, Debug, Default)]
pub(in crate::expr) struct TextCache(RefCell<Vec<Option<Made>>>);

impl TextCache {
    /// The texts that the JSON values `from` are.
    pub(in crate::expr) fn texts(&self, leaf: usize, from: &ArrayRef) -> Result<ArrayRef> {
        let mut all = self.0.borrow_mut();
        if all.len() <= leaf {
            all.resize(leaf + 1, None);
        }
        let made = all.get_mut(leaf).ok_or_else(|| Error::broken("a leaf without a place"))?;
        if let Some(made) = made.as_ref().filter(|made| Arc::ptr_eq(&made.from, from)) {
            return Ok(made.texts.clone());
        }
        // Dictionaries grow: what was made of the values before is still right.
        let before = made.take().filter(|made| begins_with(from.as_string(), made.from.as_string()));
        let done = before.as_ref().map_or(0, |made| made.texts.len());
        let rest = from.slice(done, from.len() - done);
        let texts = rest.as_string::<i32>().iter().map(|text| text.filter(|text| *text != "null"));
        let rest: ArrayRef = Arc::new(texts_of(texts, rest.len()));
        let texts = match before {
            None => rest,
            Some(made) => concat(&[&made.texts, &rest])?,
        };
        *made = Some(Made { from: from.clone(), texts: texts.clone() });
        Ok(texts)
    }
}

/// Whether the first values of `all` are those of `first`; neither has NULLs.
fn begins_with(all: &StringArray, first: &StringArray) -> bool {
    all.value_offsets().starts_with(first.value_offsets()) && all.value_data().starts_with(first.value_data())
}

pub(in crate::expr) fn texts_of<'a>(texts: impl Iterator<Item = Option<&'a str>>, rows: usize) -> StringArray {
    let mut builder = StringBuilder::with_capacity(rows, rows * TEXT_BYTES);
    for text in texts {
        match text.map(|text| string_content(text).unwrap_or(text)) {
            None => builder.append_null(),
            // A backslash stands in strings only, or in a container, which is kept as received.
            Some(content) if content.as_bytes().contains(&b'\\') && text.is_some_and(|text| text.starts_with('"')) => {
                builder.append_value(unescape(content));
            }
            Some(content) => builder.append_value(content),
        }
    }
    builder.finish()
}
