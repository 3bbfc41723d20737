//! Dimensions: text per row, coded where it has few values, and their RFC 8785 canonical JSON object, which is part of a
//! metric's natural key.

use super::ValueKind;
use super::leaf::{Ask, Leaf, Leaves, Source};
use super::read::texts_of;
use crate::error::{Error, Result};
use crate::json::text::write_string;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, RecordBatch, StringArray};
use arrow::compute::{concat, take};
use arrow::datatypes::Int32Type;
use std::sync::Arc;

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
    pub(super) fn rows(&self) -> Result<ArrayRef> {
        Ok(take(&self.values, &self.codes, None)?)
    }

    /// As a leaf that asks only whether there is a value.
    pub(super) fn presence(&self) -> ArrayRef {
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
pub(super) struct Made {
    from: ArrayRef,
    texts: ArrayRef,
}

impl Leaves {
    /// The columns that are read as text, as bits, and the same of the wanted properties ([`Leaves::properties`]): where
    /// they have few values they are best coded.
    pub fn texts(&self) -> (u32, u32) {
        let bit = |index: usize| u32::try_from(index).ok().and_then(|index| 1u32.checked_shl(index)).unwrap_or(0);
        let is_text = |leaf: &Arc<Leaf>| !matches!(leaf.ask, Ask::Kind { kind, .. } if kind != ValueKind::Text);
        let (mut columns, mut others) = (0, 0);
        let mut properties = 0;
        for leaf in &self.leaves {
            match &leaf.source {
                Source::Column(column, _) if is_text(leaf) => columns |= bit(*column),
                Source::Column(column, _) => others |= bit(*column),
                Source::Path(..) => {}
            }
        }
        for (index, step) in self.steps.iter().enumerate() {
            let of_step = |leaf: &&Arc<Leaf>| matches!(&leaf.source, Source::Path(path, _) if Some(*path) == step.path);
            if step.below.is_empty() && self.leaves.iter().filter(of_step).all(is_text) {
                properties |= bit(index);
            }
        }
        (columns & !others, properties)
    }

    /// A leaf of a coded column, if the batch has one for it.
    pub(super) fn coded(
        &self,
        index: usize,
        batch: &RecordBatch,
        watched: Option<&[&ArrayRef]>,
    ) -> Result<Option<Coded>> {
        let leaf = &self.leaves[index];
        if matches!(leaf.ask, Ask::Kind { kind, .. } if kind != ValueKind::Text) {
            return Ok(None);
        }
        let column = match &leaf.source {
            Source::Column(column, _) => Some(batch.column(*column)),
            Source::Path(path, _) => self.watched_at(*path, watched),
        };
        let Some(dictionary) = column.and_then(|column| column.as_dictionary_opt::<Int32Type>()) else {
            return Ok(None);
        };
        if dictionary.values().as_string_opt::<i32>().is_none() {
            return Ok(None);
        }
        let values = match leaf.source {
            Source::Column(..) => dictionary.values().clone(),
            Source::Path(..) => self.made(index, dictionary.values())?,
        };
        Ok(Some(Coded::new(dictionary.keys().clone(), values)))
    }

    /// The texts that the JSON values `from` are.
    fn made(&self, index: usize, from: &ArrayRef) -> Result<ArrayRef> {
        let mut all = self.made.borrow_mut();
        if all.len() < self.leaves.len() {
            all.resize(self.leaves.len(), None);
        }
        let made = all.get_mut(index).ok_or_else(|| Error::broken("a leaf without a place"))?;
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

/// Appends the canonical object of `names` and their `values`, a missing one as null: keys in the order of their
/// UTF-16 code units, no blanks. Of equal names the last counts.
pub fn write_dimensions(names: &[&str], values: &[Option<&str>], out: &mut String) {
    let mut order: Vec<(&str, Option<&str>)> = names.iter().copied().zip(values.iter().copied()).collect();
    order.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    out.push('{');
    for (at, (name, value)) in order.iter().enumerate() {
        if order.get(at + 1).is_some_and(|(next, _)| next == name) {
            continue;
        }
        if !out.ends_with('{') {
            out.push(',');
        }
        write_string(out, name);
        out.push(':');
        match value {
            Some(value) => write_string(out, value),
            None => out.push_str("null"),
        }
    }
    out.push('}');
}

/// Dimensions as [`write_dimensions`] writes them, whatever the order of their names, blanks and escapes; none where `text` is
/// no object of strings and nulls.
pub fn canonical_dimensions(text: &str) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    let mut names = Vec::with_capacity(object.len());
    let mut values = Vec::with_capacity(object.len());
    for (name, value) in &object {
        names.push(name.as_str());
        values.push(match value {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(text.as_str()),
            _ => return None,
        });
    }
    let mut canonical = String::with_capacity(text.len());
    write_dimensions(&names, &values, &mut canonical);
    Some(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(names: &[&str], values: &[Option<&str>]) -> String {
        let mut out = String::new();
        write_dimensions(names, values, &mut out);
        out
    }

    #[test]
    fn dimensions_are_canonical_json() {
        assert_eq!(written(&[], &[]), "{}");
        assert_eq!(written(&["b", "a"], &[Some("x\"\n"), None]), r#"{"a":null,"b":"x\"\n"}"#);
    }

    #[test]
    fn keys_are_in_the_order_of_their_utf16_code_units() {
        // RFC 8785 3.2.3: U+1F600 is D83D DE00 in UTF-16 and so comes before U+FB33, unlike in UTF-8.
        assert_eq!(
            written(&["\u{fb33}", "\u{1f600}"], &[Some("1"), Some("2")]),
            "{\"\u{1f600}\":\"2\",\"\u{fb33}\":\"1\"}"
        );
    }

    #[test]
    fn another_spelling_of_dimensions_has_the_same_canonical_form() {
        for text in [
            r#"{"b":"é\n","a":null}"#,
            r#" { "a" : null , "b" : "\u00e9\u000a" } "#,
            r#"{"b":"x","a":null,"\u0062":"é\n"}"#,
        ] {
            assert_eq!(canonical_dimensions(text).as_deref(), Some(r#"{"a":null,"b":"é\n"}"#), "{text}");
        }
        for text in [r#"{"a":1}"#, "[]", "{", r#"{"a":"\ud800"}"#] {
            assert_eq!(canonical_dimensions(text), None, "{text}");
        }
    }

    #[test]
    fn of_equal_names_the_last_counts() {
        assert_eq!(written(&["a", "a"], &[Some("1"), Some("2")]), r#"{"a":"2"}"#);
    }
}
