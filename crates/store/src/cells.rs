//! The cells of a column by type, for stores that write row by row.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array,
    ListArray, MapArray, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use evt_core::error::{Error, Result};

/// The cells of a column.
pub enum Cells<'a> {
    /// Ids of 16 bytes.
    Id(&'a FixedSizeBinaryArray),
    /// Text.
    Text(&'a StringArray),
    /// Dictionary-encoded text: keys and values.
    Word(&'a Int32Array, &'a StringArray),
    /// Instants.
    Instant(&'a TimestampMicrosecondArray),
    /// Whole numbers of 64 bits.
    Long(&'a Int64Array),
    /// Whole numbers of 32 bits.
    Whole(&'a Int32Array),
    /// Numbers.
    Real(&'a Float64Array),
    /// Booleans.
    Flag(&'a BooleanArray),
    /// Bytes.
    Bytes(&'a BinaryArray),
    /// Lists of names.
    Names(&'a ListArray),
    /// Maps of headers.
    Headers(&'a MapArray),
}

impl<'a> Cells<'a> {
    /// Wraps one column. Errors: exit status 70 for a type that no kind has.
    pub fn try_new(array: &'a ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::FixedSizeBinary(16) => Self::Id(array.as_fixed_size_binary()),
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::Dictionary(_, _) => {
                let words = array.as_dictionary::<Int32Type>();
                Self::Word(words.keys(), words.values().as_string())
            }
            DataType::Timestamp(_, _) => Self::Instant(array.as_primitive::<TimestampMicrosecondType>()),
            DataType::Int64 => Self::Long(array.as_primitive::<Int64Type>()),
            DataType::Int32 => Self::Whole(array.as_primitive::<Int32Type>()),
            DataType::Float64 => Self::Real(array.as_primitive::<Float64Type>()),
            DataType::Boolean => Self::Flag(array.as_boolean()),
            DataType::Binary => Self::Bytes(array.as_binary()),
            DataType::List(_) => Self::Names(array.as_list()),
            DataType::Map(_, _) => Self::Headers(array.as_map()),
            other => return Err(Error::broken(format!("no cell is of type {other}"))),
        })
    }

    /// Whether the cell of `row` is NULL.
    pub fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Id(array) => array.is_null(row),
            Self::Text(array) => array.is_null(row),
            Self::Word(array, _) => array.is_null(row),
            Self::Instant(array) => array.is_null(row),
            Self::Long(array) => array.is_null(row),
            Self::Whole(array) => array.is_null(row),
            Self::Real(array) => array.is_null(row),
            Self::Flag(array) => array.is_null(row),
            Self::Bytes(array) => array.is_null(row),
            Self::Names(array) => array.is_null(row),
            Self::Headers(array) => array.is_null(row),
        }
    }

    /// Returns the text of a row that is not NULL. Errors: exit status 70 if the cells are not text.
    pub fn text(&self, row: usize) -> Result<&'a str> {
        match self {
            Self::Text(texts) => Ok(texts.value(row)),
            Self::Word(keys, values) => {
                let place = usize::try_from(keys.value(row)).ok().filter(|place| *place < values.len());
                Ok(values.value(place.ok_or_else(|| Error::broken("a dictionary key without its value"))?))
            }
            _ => Err(Error::broken("expected a column of text")),
        }
    }
}
