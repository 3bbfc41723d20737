//! Checks whether a JSON number or string is a value of an Avro type. The checks are exact, use the text, and allocate
//! only for base64 and durations.
//!
//! Numbers count by value, as in JSON: `1.0` and `1e2` are integers. No digit is lost, because conversion to binary
//! floating point only decides whether a number is finite.

use crate::avro::coerce::duration;
use crate::json::base64;
use crate::time::{parse_date, parse_instant};

/// The value of a JSON number in parts: significant digits times a power of ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number {
    /// Number of digits from the first to the last nonzero one; 0 for zero.
    digits: i64,
    /// Power of ten of the last of these digits.
    exponent: i64,
    /// The digits as a number, if there are at most 38.
    unscaled: Option<u128>,
    negative: bool,
}

impl Number {
    /// Parses a JSON number; `None` otherwise.
    fn parse(text: &str) -> Option<Number> {
        let (mantissa, power) = match text.find(['e', 'E']) {
            Some(at) => (text.get(..at)?, power(text.get(at + 1..)?)?),
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa),
        };
        let fraction = mantissa.find('.').map_or(0, |at| mantissa.len() - at - 1);
        if mantissa.is_empty() || !mantissa.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return None;
        }
        let trimmed = mantissa.trim_end_matches(['0', '.']);
        let zeros = mantissa.bytes().skip(trimmed.len()).filter(|b| *b == b'0').count();
        let (mut digits, mut unscaled) = (0, Some(0u128));
        for byte in trimmed.bytes().filter(u8::is_ascii_digit) {
            digits += i64::from(digits > 0 || byte != b'0');
            let more = |n: u128| n.checked_mul(10)?.checked_add(u128::from(byte - b'0'));
            unscaled = unscaled.and_then(more);
        }
        let shift = i64::try_from(zeros).ok()? - i64::try_from(fraction).ok()?;
        Some(Number { digits, exponent: power.saturating_add(shift), unscaled, negative })
    }

    /// Returns its value if it is an integer of at most 38 digits.
    fn whole(self) -> Option<i128> {
        if self.digits == 0 {
            return Some(0);
        }
        if !(0..=38).contains(&self.exponent) || self.digits.saturating_add(self.exponent) > 38 {
            return None;
        }
        let magnitude = self.unscaled?.checked_mul(10u128.checked_pow(u32::try_from(self.exponent).ok()?)?)?;
        let magnitude = i128::try_from(magnitude).ok()?;
        Some(if self.negative { -magnitude } else { magnitude })
    }
}

/// Parses the digits after an `e`, clamped to the largest value.
fn power(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, text.get(1..)?),
        [b'+', ..] => (false, text.get(1..)?),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
    Some(if negative { -size } else { size })
}

/// Whether `text` is a number: a valid JSON value that starts with a digit or `-` is one.
#[inline]
pub fn is_number(text: &str) -> bool {
    matches!(text.as_bytes().first(), Some(b'-' | b'0'..=b'9'))
}

#[inline]
fn is_plain(text: &str, digits_max: usize) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.len() <= digits_max && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Whether `text` is an integer of 32 bits.
#[inline]
pub fn is_int(text: &str) -> bool {
    is_plain(text, 9) || whole(text).is_some_and(|n| i32::try_from(n).is_ok())
}

/// Whether `text` is an integer of 64 bits.
#[inline]
pub fn is_long(text: &str) -> bool {
    is_plain(text, 18) || whole(text).is_some_and(|n| i64::try_from(n).is_ok())
}

fn whole(text: &str) -> Option<i128> {
    Number::parse(text)?.whole()
}

/// Whether `text` is a number within the range of a double: `1e400` is not.
#[inline]
pub fn is_double(text: &str) -> bool {
    is_number(text) && (fits_without_exponent(text, 300) || text.parse::<f64>().is_ok_and(f64::is_finite))
}

/// Whether `text` is a number within the range of a float.
#[inline]
pub fn is_float(text: &str) -> bool {
    is_number(text) && (fits_without_exponent(text, 38) || text.parse::<f32>().is_ok_and(f32::is_finite))
}

#[inline]
fn fits_without_exponent(text: &str, length_max: usize) -> bool {
    text.len() <= length_max && !text.bytes().any(|b| b | 0x20 == b'e')
}

/// Whether a number (JSON's or the same in a string) fits a decimal of that precision and scale without losing a digit.
pub fn is_decimal(text: &str, precision: u32, scale: u32) -> bool {
    let (precision, scale) = (i64::from(precision), i64::from(scale));
    Number::parse(text).is_some_and(|n| {
        n.digits == 0
            || (n.exponent >= -scale && n.digits.saturating_add(n.exponent).saturating_add(scale) <= precision)
    })
}

/// Whether `text` is an ISO 8601 calendar date, `2024-02-29`.
pub fn is_date(text: &str) -> bool {
    parse_date(text).is_some()
}

/// Whether `text` is an RFC 3339 instant.
pub fn is_instant(text: &str) -> bool {
    parse_instant(text).is_some()
}

/// Whether `text` is an RFC 3339 date and time, with a zone or without.
pub fn is_local_time(text: &str) -> bool {
    is_instant(text) || is_instant_between("", text, "Z")
}

/// Whether `text` is a time of day, `10:00:00.5`.
pub fn is_time_of_day(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) && is_instant_between("1970-01-01T", text, "Z")
}

/// Whether the three parts together are an instant; joined on the stack.
fn is_instant_between(before: &str, text: &str, after: &str) -> bool {
    let mut buffer = [0u8; 64];
    let mut length = 0;
    for part in [before, text, after] {
        let Some(room) = buffer.get_mut(length..length + part.len()) else { return false };
        room.copy_from_slice(part.as_bytes());
        length += part.len();
    }
    str::from_utf8(&buffer[..length]).is_ok_and(is_instant)
}

/// Whether every character of `text` encodes a byte, as in Avro's JSON encoding; ASCII always does.
pub fn is_bytes(text: &str) -> bool {
    text.is_ascii() || text.chars().all(|c| u32::from(c) <= 0xff)
}

/// Whether `text` encodes exactly `size` bytes: in base64, as evt writes Avro's bytes, or in Avro's JSON encoding. No
/// text is both, because base64 is longer than its bytes.
pub fn is_fixed(text: &str, size: usize) -> bool {
    is_bytes(text) && text.chars().count() == size
        || text.len() == size.div_ceil(3).saturating_mul(4)
            && base64::decode(text).is_some_and(|bytes| bytes.len() == size)
}

/// Whether `text` is a duration as evt writes Avro's twelve bytes, or encodes these bytes.
pub fn is_duration(text: &str) -> bool {
    duration(text).is_some() || is_fixed(text, 12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_numbers_count_by_value() {
        for text in [
            "0",
            "-0",
            "1",
            "-1",
            "1.0",
            "1e2",
            "1.50e1",
            "10E-1",
            "2147483647",
            "-2147483648",
            "0e999999999999999999999",
        ] {
            assert!(is_int(text), "{text}");
        }
        for text in
            ["1.5", "1e-1", "2147483648", "-2147483649", "1e10", "1e99999999999999999999", "\"1\"", "true", "", "-"]
        {
            assert!(!is_int(text), "{text}");
        }
        for text in
            ["9223372036854775807", "-9223372036854775808", "9223372036854775807.000", "9.223372036854775807e18"]
        {
            assert!(is_long(text), "{text}");
        }
        for text in ["9223372036854775808", "-9223372036854775809", "9223372036854775807.5", "1e19", "1e400"] {
            assert!(!is_long(text), "{text}");
        }
    }

    #[test]
    fn a_number_beyond_its_type_is_none() {
        assert!(is_double("1e308") && !is_double("1e309") && !is_double("-1e400") && is_double("1e-400"));
        assert!(is_float("3.4e38") && !is_float("3.5e38") && is_double("3.5e38"));
        assert!(!is_double(&"9".repeat(310)) && is_double(&format!("0.{}", "9".repeat(310))));
        assert!(!is_double("\"1\"") && !is_double("null"));
    }

    #[test]
    fn a_decimal_loses_no_digit() {
        for text in ["0", "1.23", "12.30", "-99.99", "1e1", "0.00", "12.3000", "1200e-2"] {
            assert!(is_decimal(text, 4, 2), "{text}");
        }
        for text in ["1.234", "100", "1e2", "0.001", "x", "", "1e", "--1", "1-", "Infinity"] {
            assert!(!is_decimal(text, 4, 2), "{text}");
        }
    }

    #[test]
    fn dates_times_and_ids_are_read_by_their_rules() {
        assert!(is_date("2024-02-29") && !is_date("2023-02-29") && !is_date("2024-1-1") && !is_date("2024-13-01"));
        assert!(is_time_of_day("10:00:00") && is_time_of_day("23:59:59.999") && !is_time_of_day("24:00:00"));
        assert!(!is_time_of_day("10:00:00Z") && !is_time_of_day("10:00:00+01:00") && !is_time_of_day(&"1".repeat(80)));
        assert!(is_local_time("2024-01-01T10:00:00") && is_local_time("2024-01-01T10:00:00Z"));
        assert!(is_fixed("ab\u{ff}", 3) && !is_fixed("ab", 3) && !is_bytes("\u{100}"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(3), ..Default::default() })]

        #[test]
        fn shifting_the_point_does_not_change_the_verdict(n in any::<i64>(), places in 0usize..25, zeros in 0usize..5) {
            let zeros = "0".repeat(zeros);
            let exponent = format!("{n}.{zeros}e0");
            let plain = n.to_string();
            prop_assert!(is_long(&plain));
            if !zeros.is_empty() {
                prop_assert!(is_long(&exponent));
            }
            let raised = format!("{n}{}e-{places}", "0".repeat(places));
            prop_assert!(is_long(&raised), "{raised}");
            prop_assert_eq!(is_int(&plain), i32::try_from(n).is_ok());
            prop_assert_eq!(is_int(&raised), i32::try_from(n).is_ok());
        }

        #[test]
        fn doubles_agree_with_the_standard_library(
            text in "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?",
        ) {
            prop_assert_eq!(is_double(&text), text.parse::<f64>().unwrap().is_finite());
            prop_assert_eq!(is_float(&text), text.parse::<f32>().unwrap().is_finite());
        }
    }
}
