//! Numbers as JSON text.

use super::text::write_string;
use std::fmt::{Debug, Write};

/// Appends the shortest text that reads back as `value` (`f32` or `f64`); NaN and infinities as strings.
pub fn write_float(out: &mut String, value: impl Into<f64> + Debug + Copy) {
    match special_word(value.into()) {
        Some(word) => write_string(out, word),
        None => {
            let _ = write!(out, "{value:?}");
        }
    }
}

/// Returns the word for a value that JSON cannot express as a number.
pub fn special_word(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_finite() => None,
        _ if value.is_nan() => Some("NaN"),
        _ => Some(if value > 0.0 { "Infinity" } else { "-Infinity" }),
    }
}

/// Returns the value of such a word.
pub fn parse_special(word: &str) -> Option<f64> {
    [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].into_iter().find(|value| special_word(*value) == Some(word))
}

/// Appends the number with these digits and an optional sign, `scale` of them after the point; a negative scale adds
/// zeros. Every digit is kept, even beyond the precision.
pub fn write_decimal(out: &mut String, digits: &str, scale: i32) {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    out.push_str(sign);
    let places = usize::try_from(scale).unwrap_or(0);
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    out.push_str(whole);
    if places > 0 {
        out.push('.');
        out.push_str(fraction);
    } else if whole != "0" {
        out.extend((scale..0).map(|_| '0'));
    }
}
