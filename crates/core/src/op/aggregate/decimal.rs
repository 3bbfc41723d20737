//! Decimals: an integer times a power of ten, as a text has it, or as the shortest text of a double has it.

use std::fmt::Write;

/// Maximum number of significant digits of a text that counts as written.
const DIGITS_MAX: i64 = 38;
/// Bytes that hold the shortest text of any double.
const TEXT_BYTES: usize = 32;
/// Number of digits that 64 bits hold.
const SHORT_DIGITS: i64 = 18;
/// The powers of ten between which the digits of a text are that counts as written.
const POWERS: std::ops::RangeInclusive<i64> = -400..=400;
/// Adding and subtracting it rounds a double below 2⁵¹ to an integer.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// Of two decimals of at most 15 digits no double is nearest to both.
const SHORT_MAX: f64 = 1e15;
/// Every integer below it is a double.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// The decimal `mantissa · 10^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    /// Its digits, with its sign.
    pub(super) mantissa: i128,
    /// The power of ten of its last digit.
    pub(super) exponent: i32,
}

/// A decimal of at most 18 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShortDecimal {
    /// Its digits, with its sign.
    pub(super) mantissa: i64,
    /// The power of ten of its last digit.
    pub(super) exponent: i32,
}

/// Parses a number; `None` for other text, for one of more than 38 significant digits, and for one with a digit beyond
/// 10^±400.
pub(super) fn parse(text: &str) -> Option<Decimal> {
    let text = text.as_bytes();
    let (is_negative, text) = match text.first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    // Up to 18 digits need only 64 bits.
    let (mut short, mut mantissa) = (0u64, 0i128);
    let (mut digits, mut zeros, mut places, mut exponent) = (0i64, 0i64, None, 0i64);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                places = places.map(|places: i64| places + 1);
                if *byte == b'0' {
                    zeros += i64::from(digits > 0);
                    continue;
                }
                digits += zeros + 1;
                if digits > DIGITS_MAX {
                    return None;
                }
                let zeros = std::mem::take(&mut zeros);
                if digits <= SHORT_DIGITS {
                    (0..zeros).for_each(|_| short *= 10);
                    short = short * 10 + u64::from(byte - b'0');
                    continue;
                }
                if mantissa == 0 {
                    mantissa = short.into();
                }
                (0..=zeros).for_each(|_| mantissa *= 10);
                mantissa += i128::from(byte - b'0');
            }
            b'.' => places = Some(0),
            b'e' | b'E' => {
                exponent = std::str::from_utf8(&text[at + 1..]).ok()?.parse::<i32>().ok()?.into();
                break;
            }
            _ => return None,
        }
    }
    if digits == 0 {
        return Some(Decimal { mantissa: 0, exponent: 0 });
    }
    if digits <= SHORT_DIGITS {
        mantissa = short.into();
    }
    let exponent = exponent + zeros - places.unwrap_or(0);
    let is_near = POWERS.contains(&exponent) && POWERS.contains(&(exponent + digits));
    let mantissa = if is_negative { -mantissa } else { mantissa };
    is_near.then_some(Decimal { mantissa, exponent: exponent as i32 })
}

/// Returns the decimal of the shortest text that reads back as a finite double.
#[inline(always)]
pub(super) fn shortest(value: f64) -> ShortDecimal {
    // Most numbers have at most four decimals and eleven digits before the point.
    match scaled(value, 4) {
        Some(found) => found,
        None => shortest_of_any(value),
    }
}

/// Powers of ten that are doubles.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Returns the decimal with so many places and at most 15 digits to which a double is nearest. No other one of so few
/// digits has this double, so it is the one of the shortest text. The quotient is rounded once, as that of the text is,
/// because both operands are exact.
#[inline(always)]
fn scaled(value: f64, places: usize) -> Option<ShortDecimal> {
    let mantissa = (value * TENS[places] + ROUNDER) - ROUNDER;
    let found = mantissa.abs() < SHORT_MAX && mantissa / TENS[places] == value;
    found.then_some(ShortDecimal { mantissa: mantissa as i64, exponent: -(places as i32) })
}

#[inline(never)]
fn shortest_of_any(value: f64) -> ShortDecimal {
    if value.abs() < INTEGER_MAX && value.trunc() == value {
        return ShortDecimal { mantissa: value as i64, exponent: 0 };
    }
    // The number of places that give 15 digits, or 16: the logarithm is one of a power of two below the value.
    let power = ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    let places = 14 - ((power * 1233) >> 12);
    if (1..TENS.len() as i32).contains(&places) {
        let places = places as usize;
        if let Some(found) = scaled(value, places).or_else(|| scaled(value, places - 1)) {
            return found;
        }
    }
    // Other libraries choose another one of two shortest texts that are equally near; evt writes this one.
    let mut text = String::with_capacity(TEXT_BYTES);
    // Writing to a String cannot fail.
    _ = write!(text, "{value:e}");
    let Decimal { mantissa, exponent } = parse(&text).unwrap_or(Decimal { mantissa: 0, exponent: 0 });
    // The shortest text has at most 17 digits.
    ShortDecimal { mantissa: mantissa as i64, exponent }
}

#[cfg(test)]
#[path = "decimal_tests.rs"]
mod tests;
