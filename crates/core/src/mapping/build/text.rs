//! Text columns under construction: plain, or a dictionary if a column has few values.

use crate::error::Result;
use crate::mapping::options::{BATCH_BYTES, BATCH_ROWS};
use ahash::RandomState;
use arrow::array::{
    Array, ArrayBuilder, ArrayRef, AsArray, DictionaryArray, GenericByteArray, GenericByteBuilder, Int32Array,
    StringArray, StringBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{ByteArrayType, DataType, Int32Type};
use hashbrown::HashTable;
use std::sync::Arc;

/// A dictionary column with more values than this, or with more bytes of values than a batch, becomes a plain one.
const VALUES_MAX: usize = 4096;
/// Size of the table that finds short values without hashing all of their bytes; a power of two.
const NEAR: usize = 1024;
/// The code of NULL.
const NULL: i32 = -1;

/// A text column under construction.
pub(super) enum Text {
    Plain(StringBuilder),
    /// Each value is stored once and each row holds its code: cheaper to write and to group by if values repeat.
    Dictionary(Box<CodedColumn>),
}

impl Text {
    pub(super) fn new(dictionary: bool) -> Self {
        if dictionary { Text::Dictionary(Box::default()) } else { Text::Plain(StringBuilder::new()) }
    }

    /// Adds a value or NULL; returns the number of bytes of text by which the batch grew.
    #[inline(always)]
    pub(super) fn push(&mut self, value: Option<&str>) -> usize {
        match self {
            Text::Plain(builder) => {
                builder.append_option(value);
                value.map_or(0, str::len)
            }
            Text::Dictionary(dictionary) => dictionary.push(value),
        }
    }

    /// Returns the last value, if the column is plain.
    pub(super) fn last(&self) -> Option<&str> {
        let Text::Plain(builder) = self else { return None };
        let start = builder.offsets_slice().iter().nth_back(1)?;
        std::str::from_utf8(builder.values_slice().get(usize::try_from(*start).ok()?..)?).ok()
    }

    /// Takes the rows so far. A dictionary column with too many values or too long ones is plain from then on.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        match self {
            Text::Plain(builder) => Ok(Arc::new(taken(builder))),
            Text::Dictionary(dictionary) => {
                let array = dictionary.finish()?;
                if dictionary.ends.len() > VALUES_MAX || dictionary.texts.len() > BATCH_BYTES {
                    *self = Text::new(false);
                }
                Ok(array)
            }
        }
    }

    /// Makes a column of another builder for the same texts as if this one, which has no rows, had built it. The other
    /// one has seen no other values than this one, and so is plain only if this one is.
    pub(super) fn adopt(&mut self, column: &mut ArrayRef) -> Result<()> {
        let Some(coded) = column.as_dictionary_opt::<Int32Type>() else { return Ok(()) };
        match self {
            Text::Plain(_) => *column = cast(column, &DataType::Utf8)?,
            Text::Dictionary(dictionary) => {
                dictionary.recode(coded);
                *column = self.finish()?;
            }
        }
        Ok(())
    }

    /// Drops the rows so far.
    pub(super) fn clear(&mut self) -> Result<()> {
        match self {
            Text::Plain(builder) => clear(builder),
            Text::Dictionary(_) => drop(self.finish()?),
        }
        Ok(())
    }
}

/// Takes the array of a builder and reserves 9/8 of its bytes for the next one, because growing copies everything
/// several times. Long records are rare, so no more is reserved than 9/8 of a usual batch.
pub(super) fn taken<T: ByteArrayType>(builder: &mut GenericByteBuilder<T>) -> GenericByteArray<T> {
    let array = builder.finish();
    *builder = GenericByteBuilder::with_capacity(BATCH_ROWS, array.value_data().len().min(BATCH_BYTES) / 8 * 9);
    array
}

/// Drops the rows of a builder and reserves as much for the next ones.
pub(super) fn clear<T: ByteArrayType>(builder: &mut GenericByteBuilder<T>) {
    if !builder.is_empty() {
        let bytes = builder.values_slice().len().min(BATCH_BYTES);
        *builder = GenericByteBuilder::with_capacity(builder.len(), bytes);
    }
}

/// A short value in comparable form: its first, middle and last bytes, and its length.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Short {
    words: [u64; 3],
    length: usize,
}

impl Short {
    /// Returns `None` for more than 24 bytes.
    #[inline(always)]
    fn new(text: &[u8]) -> Option<Self> {
        let length = text.len();
        let words = match (text.first_chunk::<8>(), text.last_chunk::<8>()) {
            (Some(first), Some(last)) if length <= 16 => [u64::from_le_bytes(*first), u64::from_le_bytes(*last), 0],
            (Some(first), Some(last)) if length <= 24 => {
                let middle = text[8..].first_chunk::<8>()?;
                [u64::from_le_bytes(*first), u64::from_le_bytes(*last), u64::from_le_bytes(*middle)]
            }
            (Some(_), _) => return None,
            _ => match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
                (Some(first), Some(last)) => [u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into(), 0],
                _ => [text.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0, 0],
            },
        };
        Some(Self { words, length })
    }

    #[inline(always)]
    fn place(self) -> usize {
        let [first, last, middle] = self.words;
        let mixed = (first ^ middle.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ (last.rotate_left(17) ^ self.length as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mixed ^ mixed >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> (usize::BITS - NEAR.ilog2())
    }
}

/// A dictionary column.
#[derive(Default)]
pub(super) struct CodedColumn {
    codes: Vec<i32>,
    nulls: bool,
    /// The values, concatenated, and the end of each.
    texts: String,
    ends: Vec<i32>,
    by_hash: HashTable<i32>,
    state: RandomState,
    /// A direct-mapped cache of short values: most values are found here.
    near: Vec<(Short, i32)>,
    /// The values array; the same for every batch until a value is new.
    values: Option<ArrayRef>,
}

impl CodedColumn {
    /// Adds a value or NULL; returns the bytes of a value that is new.
    #[inline(always)]
    fn push(&mut self, value: Option<&str>) -> usize {
        let before = self.texts.len();
        let code = match value {
            None => {
                self.nulls = true;
                NULL
            }
            Some(value) => self.code(value),
        };
        self.codes.push(code);
        self.texts.len() - before
    }

    #[inline(always)]
    fn code(&mut self, value: &str) -> i32 {
        if let Some(short) = Short::new(value.as_bytes()) {
            let place = short.place();
            return match self.near.get(place) {
                Some((known, code)) if *known == short && *code != NULL => *code,
                _ => self.far(value, Some((short, place))),
            };
        }
        self.far(value, None)
    }

    #[inline(never)]
    fn far(&mut self, value: &str, short: Option<(Short, usize)>) -> i32 {
        let hash = self.state.hash_one(value);
        let (texts, ends) = (&self.texts, &self.ends);
        let code = match self.by_hash.find(hash, |code| text_of(texts, ends, *code) == value) {
            Some(code) => *code,
            None => {
                let code = self.ends.len() as i32;
                self.texts.push_str(value);
                self.ends.push(self.texts.len() as i32);
                let (texts, ends, state) = (&self.texts, &self.ends, &self.state);
                self.by_hash.insert_unique(hash, code, |code| state.hash_one(text_of(texts, ends, *code)));
                self.values = None;
                code
            }
        };
        if let Some((short, place)) = short {
            if self.near.is_empty() {
                self.near = vec![(Short::default(), NULL); NEAR];
            }
            self.near[place] = (short, code);
        }
        code
    }

    /// Adds the rows of another dictionary column. Its values get codes in the order of their rows.
    fn recode(&mut self, column: &DictionaryArray<Int32Type>) {
        let values = column.values().as_string::<i32>();
        let mut codes = vec![NULL; values.len()];
        for key in column.keys() {
            let Some(key) = key else {
                self.push(None);
                continue;
            };
            let code = &mut codes[key as usize];
            if *code == NULL {
                *code = self.code(values.value(key as usize));
            }
            self.codes.push(*code);
        }
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let codes = std::mem::replace(&mut self.codes, Vec::with_capacity(BATCH_ROWS));
        let nulls = std::mem::take(&mut self.nulls);
        let nulls = nulls.then(|| codes.iter().map(|code| *code != NULL).collect::<NullBuffer>());
        let keys = Int32Array::try_new(codes.into(), nulls)?;
        if self.values.is_none() {
            let offsets = [0].into_iter().chain(self.ends.iter().copied()).collect::<ScalarBuffer<i32>>();
            let texts = self.texts.as_bytes().to_vec().into();
            self.values = Some(Arc::new(StringArray::try_new(OffsetBuffer::new(offsets), texts, None)?));
        }
        let values = self.values.clone().unwrap_or_else(|| Arc::new(StringArray::new_null(0)));
        Ok(Arc::new(DictionaryArray::try_new(keys, values)?))
    }
}

fn text_of<'a>(texts: &'a str, ends: &[i32], code: i32) -> &'a str {
    let code = code as usize;
    let start = code.checked_sub(1).map_or(0, |before| ends[before]);
    &texts[start as usize..ends[code] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn built(mut text: Text, rows: &[Option<String>], batch: usize) -> Vec<Option<String>> {
        let mut all = vec![];
        for rows in rows.chunks(batch) {
            for row in rows {
                text.push(row.as_deref());
            }
            let plain = cast(&text.finish().unwrap(), &DataType::Utf8).unwrap();
            all.extend(plain.as_string::<i32>().iter().map(|value| value.map(str::to_owned)));
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_coded_column_holds_what_a_plain_one_holds(
            rows in prop::collection::vec(prop::option::of("[ab\\x00é]{0,9}|[a-c]{1,2}[x-z]{14,24}"), 1..300),
            batch in 1..64usize,
        ) {
            prop_assert_eq!(built(Text::new(true), &rows, batch), rows);
        }
    }

    #[test]
    fn a_column_of_many_values_becomes_plain() {
        let mut text = Text::new(true);
        let rows: Vec<Option<String>> = (0..VALUES_MAX + 10).map(|n| Some(format!("\"{n}\""))).collect();
        for row in &rows {
            text.push(row.as_deref());
        }
        assert_eq!(text.finish().unwrap().len(), rows.len());
        assert_eq!(text.finish().unwrap().data_type(), &DataType::Utf8);
        assert_eq!(built(text, &rows, 1000), rows);
    }

    #[test]
    fn a_column_of_long_values_becomes_plain() {
        let mut text = Text::new(true);
        let long = |sign: &str| sign.repeat(BATCH_BYTES / 2 + 1);
        let rows: Vec<Option<String>> = ["a", "b", "a", "c"].map(|sign| Some(long(sign))).into();
        let grown: Vec<usize> = rows.iter().map(|row| text.push(row.as_deref())).collect();
        assert_eq!(grown, [BATCH_BYTES / 2 + 1, BATCH_BYTES / 2 + 1, 0, BATCH_BYTES / 2 + 1]);
        assert_ne!(text.finish().unwrap().data_type(), &DataType::Utf8);
        assert_eq!(text.finish().unwrap().data_type(), &DataType::Utf8);
        assert_eq!(built(text, &rows, 3), rows);
    }

    #[test]
    fn a_long_value_leaves_no_capacity_behind() {
        let mut builder = StringBuilder::new();
        builder.append_value("x".repeat(16 * BATCH_BYTES));
        taken(&mut builder);
        builder.append_value("y");
        assert!(builder.finish().get_buffer_memory_size() < 2 * BATCH_BYTES);
    }

    #[test]
    fn the_values_are_the_same_array_until_one_is_new() {
        let mut text = Text::new(true);
        let mut values = |value: &str| {
            text.push(Some(value));
            text.finish().unwrap().as_any_dictionary().values().clone()
        };
        let (first, second, third) = (values("a"), values("a"), values("b"));
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&second, &third));
    }
}
