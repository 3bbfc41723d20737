//! Types that hold JSON values exactly: which type holds the values of a column, and builders of such columns.

use crate::json::number::Decimal;
use crate::json::text::{is_text, unescape};
use crate::json::walk::string_content;
use arrow::array::{ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow::datatypes::DataType;
use std::sync::Arc;

/// Decimal digits that a double always returns.
const EXACT_DIGITS: usize = 15;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// `true` and `false`.
    Boolean,
    /// Integers of 64 bits.
    Integer,
    /// Doubles.
    Double,
    /// Text.
    Text,
}

impl ValueType {
    /// Returns the type of the column.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Text => DataType::Utf8,
        }
    }

    /// Returns the words for one of its values in a message.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "a boolean",
            Self::Integer => "an integer",
            Self::Double => "a number",
            Self::Text => "text",
        }
    }
}

/// How many values each type can hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct TypeCounts {
    booleans: u32,
    integers: u32,
    doubles: u32,
    texts: u32,
}

impl TypeCounts {
    pub fn add(&mut self, value: &str) {
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

    /// Returns the type that holds the most values, and their number. Of two types that hold equally many, it is the
    /// narrower one. `None` if no type holds a value.
    pub fn most(&self) -> Option<(ValueType, u32)> {
        let counts = [
            (ValueType::Boolean, self.booleans),
            (ValueType::Integer, self.integers),
            (ValueType::Double, self.doubles),
            (ValueType::Text, self.texts),
        ];
        let most = counts.iter().map(|(_, count)| *count).max()?;
        counts.into_iter().find(|(_, count)| *count == most && most > 0)
    }

    /// Whether some values were written as integers.
    pub fn has_integers(&self) -> bool {
        self.integers > 0
    }
}

/// Returns the value of an integer whose text a column of integers reproduces; `None` for any other text.
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
pub enum ValueBuilder {
    Boolean(BooleanBuilder, Option<bool>),
    Integer(Int64Builder, Option<i64>),
    Double(Float64Builder, Option<f64>),
    Text(StringBuilder, bool),
}

impl ValueBuilder {
    pub fn new(kind: ValueType) -> Self {
        match kind {
            ValueType::Boolean => Self::Boolean(BooleanBuilder::new(), None),
            ValueType::Integer => Self::Integer(Int64Builder::new(), None),
            ValueType::Double => Self::Double(Float64Builder::new(), None),
            ValueType::Text => Self::Text(StringBuilder::new(), false),
        }
    }

    /// Takes the value of a row; returns false if the column cannot hold it.
    pub fn append(&mut self, value: &str) -> bool {
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
    pub fn end_row(&mut self) {
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

    pub fn finish(self) -> ArrayRef {
        match self {
            Self::Boolean(mut builder, _) => Arc::new(builder.finish()),
            Self::Integer(mut builder, _) => Arc::new(builder.finish()),
            Self::Double(mut builder, _) => Arc::new(builder.finish()),
            Self::Text(mut builder, _) => Arc::new(builder.finish()),
        }
    }
}
