//! Numbers as JSON text.

use super::text::write_string;
use std::fmt::{Debug, Display, LowerExp, Write};

/// Appends the shortest text that reads back as `value` (`f32` or `f64`); NaN and infinities as strings.
pub fn write_float(out: &mut String, value: impl Into<f64> + Debug + Copy) {
    match special_word(value.into()) {
        Some(word) => write_string(out, word),
        None => {
            let _ = write!(out, "{value:?}");
        }
    }
}

/// Appends a number (`f32` or `f64`) as in RFC 8785: the shortest digits, without an exponent from 1e-6 to 1e21, whole
/// numbers without a fraction, NaN and infinities as words. A zero keeps its sign, so the text reads back as the same
/// number.
pub fn write_number<T: Into<f64> + Display + LowerExp + Copy>(out: &mut String, number: T) {
    let size = number.into().abs();
    // Writing to a String cannot fail.
    let _ = match size {
        _ if !size.is_finite() => write!(out, "{}", special_word(number.into()).unwrap_or_default()),
        1e21..f64::INFINITY => {
            let text = format!("{number:e}");
            write!(out, "{}", text.replace('e', "e+"))
        }
        _ if size > 0.0 && size < 1e-6 => write!(out, "{number:e}"),
        _ => write!(out, "{number}"),
    };
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

/// The value of a JSON number, without loss. Numbers of equal value are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decimal {
    /// Whether it is below zero.
    pub is_negative: bool,
    /// Its digits from the first to the last that is not zero; empty for zero.
    pub digits: String,
    /// The power of ten of the last digit.
    pub exponent: i64,
}

impl Decimal {
    /// Parses a number; `None` for other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (is_negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = [whole, fraction].concat();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let exponent = exponent.parse::<i64>().ok()?;
        let significant = digits.trim_end_matches('0');
        let kept = significant.trim_start_matches('0').to_owned();
        if kept.is_empty() {
            return Some(Self::default());
        }
        let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
        let places = i64::try_from(fraction.len()).ok()?;
        Some(Self { is_negative, digits: kept, exponent: exponent.checked_sub(places)?.checked_add(zeros)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_ecmascript_does() {
        for (number, expected) in [
            (4.0, "4"),
            (-0.0, "-0"),
            (-0.5, "-0.5"),
            (1e15, "1000000000000000"),
            (1e16, "10000000000000000"),
            (333_333_333.333_333_3, "333333333.3333333"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (5e-324, "5e-324"),
            (-1.25e-9, "-1.25e-9"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let mut text = String::new();
            write_number(&mut text, number);
            assert_eq!(text, expected);
            assert!(number.is_infinite() || text.parse::<f64>().unwrap().to_bits() == number.to_bits());
        }
    }
}
