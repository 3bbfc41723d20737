//! Numbers as their decimals: columns of doubles or, if some decimal differs from the shortest text of its double, of
//! texts.

use super::cast::{BLANKS, cast};
use super::kind::ValueKind;
use crate::error::Result;
use crate::json::text::unescape;
use crate::json::walk::string_content;
use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::datatypes::DataType;
use std::borrow::Cow;
use std::sync::Arc;

/// Whether a number may differ from the shortest text of its double. A double keeps 15 digits, unless it is subnormal.
#[inline]
pub(in crate::expr) fn may_be_long(text: &str, number: f64) -> bool {
    text.len() > 15 || number.abs() < f64::MIN_POSITIVE && text.contains(['e', 'E'])
}

/// Returns the texts of numbers, which are JSON values; NULL where there is no number.
#[cold]
pub(in crate::expr) fn written<'a>(values: impl Iterator<Item = Option<&'a str>>, numbers: &ArrayRef) -> ArrayRef {
    let text = |value: &'a str| match string_content(value) {
        Some(content) => unescape(content),
        None => Cow::Borrowed(value),
    };
    let mut builder = StringBuilder::new();
    for (row, value) in values.enumerate() {
        let number = value.filter(|_| numbers.is_valid(row)).map(text);
        builder.append_option(number.as_deref().map(|number| number.trim_matches(BLANKS)));
    }
    Arc::new(builder.finish())
}

/// Returns a column of decimals as texts; doubles have their shortest texts.
pub(crate) fn decimal_texts(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Float64 => cast(column, ValueKind::Number, ValueKind::Text),
        _ => Ok(column.clone()),
    }
}
