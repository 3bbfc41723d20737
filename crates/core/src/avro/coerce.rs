//! Encodes one value as a scalar, if it fits.
//!
//! The output of the decoder ([`super::decode`]) is accepted back: bytes are base64, instants RFC 3339, a double may be
//! the word `NaN`. So are the numbers of days and ticks that a producer may write itself. Values are not changed to
//! fit, except in two ways that readers of these types expect: a fraction is rounded to the nearest double or float,
//! and an instant finer than the unit of its type is rounded down, which is reported.

use super::binary::{write_bytes, write_long};
use super::scalar::Scalar;
use super::schema::Unit;
use crate::json::base64;
use crate::json::number::{Decimal, parse_special};
use crate::json::text::{excerpt, write_uuid};
use crate::time::{format_instant, parse_date, parse_instant, write_instant};
use num_bigint::{BigInt, Sign};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Maximum digits of a decimal: a decoder reads at most 4,096 bytes of one.
const DIGITS_MAX: u32 = 9_800;

/// A value to encode.
#[derive(Clone, Debug)]
pub enum AvroInput<'a> {
    /// Null.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A JSON number's text.
    Number(&'a str),
    /// An integer.
    Whole(i64),
    /// Text.
    String(Cow<'a, str>),
    /// An instant (µs).
    Instant(i64),
    /// A UUID.
    Uuid([u8; 16]),
    /// A JSON array's text.
    Array(&'a str),
    /// A JSON object's text.
    Object(&'a str),
}

/// The class of a value, by which a union's branches are preselected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueClass {
    /// Null.
    Null,
    /// A boolean.
    Boolean,
    /// An integer without point and exponent.
    Whole,
    /// Any other number.
    Fraction,
    /// Text.
    String,
    /// Text for a number that JSON cannot express (NaN, infinities).
    Special,
    /// An instant.
    Instant,
    /// A UUID.
    Uuid,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl ValueClass {
    /// All classes, each at the index of its number.
    pub const ALL: [Self; 10] = [
        Self::Null,
        Self::Boolean,
        Self::Whole,
        Self::Fraction,
        Self::String,
        Self::Special,
        Self::Instant,
        Self::Uuid,
        Self::Array,
        Self::Object,
    ];
}

impl AvroInput<'_> {
    /// Returns its class.
    pub fn class(&self) -> ValueClass {
        match self {
            Self::Null => ValueClass::Null,
            Self::Boolean(_) => ValueClass::Boolean,
            Self::Number(text) if text.contains(['.', 'e', 'E']) => ValueClass::Fraction,
            Self::Number(_) | Self::Whole(_) => ValueClass::Whole,
            Self::String(text) if parse_special(text).is_some() => ValueClass::Special,
            Self::String(_) => ValueClass::String,
            Self::Instant(_) => ValueClass::Instant,
            Self::Uuid(_) => ValueClass::Uuid,
            Self::Array(_) => ValueClass::Array,
            Self::Object(_) => ValueClass::Object,
        }
    }
}

/// Describes the value for messages.
impl fmt::Display for AvroInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Number(text) => write!(f, "number {}", excerpt(text)),
            Self::Whole(value) => write!(f, "number {value}"),
            Self::String(text) => write!(f, "string \"{}\"", excerpt(text)),
            Self::Instant(micros) => write!(f, "instant {}", format_instant(*micros)),
            Self::Uuid(_) => f.write_str("a UUID"),
            Self::Array(text) => write!(f, "array {}", excerpt(text)),
            Self::Object(text) => write!(f, "object {}", excerpt(text)),
        }
    }
}

/// Returns the distance of a class of value from a type, for the branches of a union: the least is tried first; `None`
/// if the type never accepts the class.
pub fn distance(scalar: &Scalar, class: ValueClass) -> Option<u8> {
    use Scalar as S;
    use ValueClass::{Boolean, Fraction, Instant, Null, Special, String, Uuid, Whole};
    Some(match (scalar, class) {
        (S::Null, Null) | (S::Boolean, Boolean) | (S::Int | S::Long, Whole) => 0,
        (S::UuidText | S::Uuid, String | Uuid) | (S::Timestamp(_), String | Instant) => 0,
        (S::Date | S::Time(_) | S::LocalTimestamp(_) | S::Duration, String) => 0,
        (S::Decimal { .. }, Fraction) => 0,
        (S::Decimal { .. } | S::Double, Whole) | (S::Double, Fraction) => 1,
        (S::String, String | Uuid) | (S::LocalTimestamp(_), Instant) => 1,
        (S::Float, Whole | Fraction) | (S::String, Instant) | (S::Bytes(Some(_)), String) => 2,
        (S::Date | S::Time(_) | S::Timestamp(_) | S::LocalTimestamp(_), Whole) => 3,
        (S::Int | S::Long, Fraction) | (S::Bytes(None), String) => 3,
        (S::Decimal { .. }, String) => 4,
        (S::Double, String) => 5,
        (S::Float, String) => 6,
        // `Infinity` would be base64 too.
        (S::String, Special) => 0,
        (S::Double, Special) => 1,
        (S::Float, Special) => 2,
        (S::Bytes(_), Special) => 3,
        _ => return None,
    })
}

/// Appends a value; returns whether it was exact, or `None` if it does not fit. `out` is then undefined.
pub fn coerce(scalar: &Scalar, input: &AvroInput<'_>, out: &mut Vec<u8>, scratch: &mut String) -> Option<bool> {
    use AvroInput::{Boolean, Instant, Null, Number, String, Uuid, Whole};
    match (scalar, input) {
        (Scalar::Null, Null) => {}
        (Scalar::Boolean, Boolean(value)) => out.push(u8::from(*value)),
        (Scalar::Int, _) => write_long(out, int(input)?.into()),
        (Scalar::Long, _) => write_long(out, whole(input)?),
        (Scalar::Double, _) => out.extend(float(input, 15, |value| value)?.to_le_bytes()),
        (Scalar::Float, _) => out.extend(float(input, 6, |value| value as f32)?.to_le_bytes()),
        (Scalar::UuidText, String(text)) => write_bytes(out, uuid(text).map(|_| text.as_bytes())?),
        (Scalar::String | Scalar::UuidText, _) => write_bytes(out, text(input, scratch)?.as_bytes()),
        (Scalar::Uuid, String(text)) => out.extend(uuid(text)?.into_bytes()),
        (Scalar::Uuid, Uuid(id)) => out.extend(id),
        (Scalar::Bytes(None), String(text)) => write_bytes(out, &base64::decode(text)?),
        (Scalar::Bytes(Some(size)), String(text)) => {
            out.extend(base64::decode(text).filter(|bytes| bytes.len() == *size)?);
        }
        (Scalar::Decimal { size, precision, scale }, _) => {
            write_decimal(out, &decimal(input, *precision, *scale)?, *size)?;
        }
        (Scalar::Duration, String(text)) => out.extend(duration(text)?),
        (Scalar::Date, String(text)) => write_long(out, parse_date(text)?),
        (Scalar::Date | Scalar::Time(Unit::Millis), Number(_) | Whole(_)) => write_long(out, int(input)?.into()),
        (Scalar::Time(_) | Scalar::Timestamp(_) | Scalar::LocalTimestamp(_), Number(_) | Whole(_)) => {
            write_long(out, whole(input)?);
        }
        (Scalar::Time(unit), String(text)) => {
            let micros = joined(scratch, ["1970-01-01T", text, "Z"])?;
            return write_ticks(out, micros, *unit, text);
        }
        (Scalar::Timestamp(unit), String(text)) => return write_ticks(out, parse_instant(text)?, *unit, text),
        (Scalar::LocalTimestamp(unit), String(text)) => {
            let micros = parse_instant(text).or_else(|| joined(scratch, ["", text, "Z"]))?;
            return write_ticks(out, micros, *unit, text);
        }
        (Scalar::Timestamp(unit) | Scalar::LocalTimestamp(unit), Instant(micros)) => {
            return write_ticks(out, *micros, *unit, "");
        }
        _ => return None,
    }
    Some(true)
}

fn text<'a>(input: &'a AvroInput<'_>, scratch: &'a mut String) -> Option<&'a str> {
    scratch.clear();
    match input {
        AvroInput::String(text) => return Some(text),
        AvroInput::Instant(micros) => write_instant(scratch, *micros),
        AvroInput::Uuid(id) => write_uuid(scratch, id),
        _ => return None,
    }
    Some(scratch)
}

fn whole(input: &AvroInput<'_>) -> Option<i64> {
    match input {
        AvroInput::Whole(value) => Some(*value),
        AvroInput::Number(text) => text.parse().ok().or_else(|| i64::try_from(unscaled(text, 19, 0)?).ok()),
        _ => None,
    }
}

fn int(input: &AvroInput<'_>) -> Option<i32> {
    i32::try_from(whole(input)?).ok()
}

/// Converts to binary floating point, unless the number is an integer that would change, or out of range. All numbers
/// of up to `safe` digits keep their value; `special` converts NaN and infinities.
fn float<T: FromStr + ToString + Copy + Into<f64>>(
    input: &AvroInput<'_>,
    safe: usize,
    special: fn(f64) -> T,
) -> Option<T> {
    match input {
        AvroInput::Whole(value) => float(&AvroInput::Number(&value.to_string()), safe, special),
        AvroInput::Number(text) => {
            let value = text.parse::<T>().ok().filter(|value| (*value).into().is_finite())?;
            keeps(text, value.into() == 0.0, safe, || value.to_string()).then_some(value)
        }
        AvroInput::String(text) => parse_special(text).map(special),
        _ => None,
    }
}

/// Whether a number keeps its value in binary floating point: an integer prints unchanged; a fraction becomes the
/// nearest double, but not zero. Numbers of up to `safe` digits always do.
fn keeps(text: &str, is_zero: bool, safe: usize, printed: impl FnOnce() -> String) -> bool {
    if is_zero {
        let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
        return !mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    }
    text.len() <= safe || text.contains(['.', 'e', 'E']) || printed() == text
}

/// Returns a JSON number whose point is moved right by `scale`; `None` if digits remain after the point, or more than
/// `precision` before it.
fn unscaled(text: &str, precision: u32, scale: u32) -> Option<BigInt> {
    let Decimal { is_negative, digits, exponent } = Decimal::parse(text)?;
    if digits.is_empty() {
        return Some(BigInt::ZERO);
    }
    let places = usize::try_from(exponent.checked_add(scale.into())?).ok()?;
    if digits.len().checked_add(places)? > precision.min(DIGITS_MAX) as usize {
        return None;
    }
    let sign = if is_negative { Sign::Minus } else { Sign::Plus };
    Some(BigInt::from_biguint(sign, format!("{digits}{:0<places$}", "").parse().ok()?))
}

fn decimal(input: &AvroInput<'_>, precision: u32, scale: u32) -> Option<BigInt> {
    match input {
        AvroInput::Number(text) => unscaled(text, precision, scale),
        AvroInput::String(text) => unscaled(text, precision, scale),
        AvroInput::Whole(value) => unscaled(&value.to_string(), precision, scale),
        _ => None,
    }
}

fn write_decimal(out: &mut Vec<u8>, value: &BigInt, size: Option<usize>) -> Option<()> {
    let bytes = value.to_signed_bytes_be();
    let Some(size) = size else {
        write_bytes(out, &bytes);
        return Some(());
    };
    // No decimal takes more bytes than that, whatever size its schema declares.
    let more = size.checked_sub(bytes.len()).filter(|more| *more <= DIGITS_MAX as usize)?;
    let fill = if value.sign() == Sign::Minus { 0xff } else { 0 };
    out.resize(out.len() + more, fill);
    out.extend(bytes);
    Some(())
}

/// Parses a UUID: 8-4-4-4-12 hexadecimal digits, as a decoder writes it.
pub fn uuid(text: &str) -> Option<uuid::Uuid> {
    uuid::Uuid::try_parse(text).ok().filter(|_| text.len() == 36)
}

fn joined(scratch: &mut String, parts: [&str; 3]) -> Option<i64> {
    scratch.clear();
    parts.iter().for_each(|part| scratch.push_str(part));
    parse_instant(scratch)
}

/// Appends ticks of a unit; returns whether they are exact. `text` may have digits beyond the microsecond.
fn write_ticks(out: &mut Vec<u8>, micros: i64, unit: Unit, text: &str) -> Option<bool> {
    let finer = match text.split_once('.') {
        Some((_, rest)) => rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]).get(6..),
        None => None,
    };
    let finer = finer.unwrap_or_default().trim_end_matches('0');
    let (ticks, exact) = match unit {
        Unit::Millis => (micros.div_euclid(1_000), micros.rem_euclid(1_000) == 0 && finer.is_empty()),
        Unit::Micros => (micros, finer.is_empty()),
        Unit::Nanos => {
            let nanos: i64 = format!("{:0<3.3}", finer).parse().ok()?;
            // The smallest nanosecond in range is between two microseconds, the first of which is out of range.
            (i64::try_from(i128::from(micros) * 1_000 + i128::from(nanos)).ok()?, finer.len() <= 3)
        }
    };
    write_long(out, ticks);
    Some(exact)
}

/// Encodes `P1M2DT3.004S`: months, days and milliseconds.
pub fn duration(text: &str) -> Option<Vec<u8>> {
    let (months, rest) = text.strip_prefix('P')?.split_once('M')?;
    let (days, rest) = rest.split_once("DT")?;
    let (seconds, millis) = rest.strip_suffix('S')?.split_once('.')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
    let millis = number(millis).filter(|_| millis.len() == 3)?;
    let parts = [number(months)?, number(days)?, number(seconds)?.checked_mul(1_000)?.checked_add(millis)?];
    Some(parts.iter().flat_map(|part| part.to_le_bytes()).collect())
}
