//! Encodes one scalar value in an Avro type, if it fits.
//!
//! The output of the decoder ([`super::value`]) is accepted back: bytes are base64, instants RFC 3339, a double may be
//! the word `NaN`. So are the numbers of days and ticks that a producer may write itself. Values are not changed to
//! fit, except in two ways that readers of these types expect: a fraction is rounded to the nearest double or float,
//! and an instant finer than the unit of its type is rounded down, which is reported.

use super::schema::Unit;
use crate::format::avro::{write_bytes, write_long};
use crate::json::base64;
use crate::time::{parse_date, parse_instant, write_instant};
use num_bigint::{BigInt, Sign};
use std::borrow::Cow;
use std::collections::HashMap;

/// Maximum digits of a decimal: a decoder reads at most 4,096 bytes of one.
const DIGITS_MAX: u32 = 9_800;
/// Maximum number of enum symbols in a message.
const SYMBOLS_MAX: usize = 8;

/// A value to encode.
#[derive(Clone, Debug)]
pub enum Given<'a> {
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

/// The form of a value, by which a union's branches are preselected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
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
    NoNumber,
    /// An instant.
    Instant,
    /// A UUID.
    Uuid,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// All forms.
pub const FORMS: [Form; 10] = [
    Form::Null,
    Form::Boolean,
    Form::Whole,
    Form::Fraction,
    Form::String,
    Form::NoNumber,
    Form::Instant,
    Form::Uuid,
    Form::Array,
    Form::Object,
];

impl Given<'_> {
    /// Returns its form.
    pub fn form(&self) -> Form {
        match self {
            Given::Null => Form::Null,
            Given::Boolean(_) => Form::Boolean,
            Given::Number(text) if text.contains(['.', 'e', 'E']) => Form::Fraction,
            Given::Number(_) | Given::Whole(_) => Form::Whole,
            Given::String(text) if is_no_number(text) => Form::NoNumber,
            Given::String(_) => Form::String,
            Given::Instant(_) => Form::Instant,
            Given::Uuid(_) => Form::Uuid,
            Given::Array(_) => Form::Array,
            Given::Object(_) => Form::Object,
        }
    }
}

/// A type that contains no other type.
#[derive(Clone, Debug)]
pub enum Leaf {
    /// `null`.
    Null,
    /// `boolean`.
    Boolean,
    /// `int`.
    Int,
    /// `long`.
    Long,
    /// `float`.
    Float,
    /// `double`.
    Double,
    /// `string`.
    String,
    /// A UUID as text, or as 16 bytes.
    Uuid(bool),
    /// `bytes`, or `fixed` with a size.
    Bytes(Option<u64>),
    /// Days since 1970.
    Date,
    /// A time of day.
    Time(Unit),
    /// An instant.
    Timestamp(Unit),
    /// An instant without zone, which is taken as UTC.
    Local(Unit),
    /// A decimal.
    Decimal {
        /// Its size in bytes; `None` for `bytes`.
        size: Option<u64>,
        /// Maximum number of digits.
        precision: u32,
        /// Digits after the point.
        scale: u32,
    },
    /// Months, days and milliseconds.
    Duration,
    /// Symbols with their numbers.
    Enum(HashMap<String, i64>),
}

impl Leaf {
    /// Returns the distance of a form of value from this type, for the branches of a union: the least is tried first;
    /// `None` if the type never accepts the form.
    pub fn rank(&self, form: Form) -> Option<u8> {
        use Form::{Boolean, Fraction, Instant, NoNumber, Null, String, Uuid, Whole};
        Some(match (self, form) {
            (Leaf::Null, Null) | (Leaf::Boolean, Boolean) | (Leaf::Int | Leaf::Long, Whole) => 0,
            (Leaf::Uuid(_), String | Uuid) | (Leaf::Timestamp(_), String | Instant) => 0,
            (Leaf::Date | Leaf::Time(_) | Leaf::Local(_) | Leaf::Duration | Leaf::Enum(_), String) => 0,
            (Leaf::Decimal { .. }, Fraction) => 0,
            (Leaf::Decimal { .. } | Leaf::Double, Whole) | (Leaf::Double, Fraction) => 1,
            (Leaf::String, String | Uuid) | (Leaf::Local(_), Instant) => 1,
            (Leaf::Float, Whole | Fraction) | (Leaf::String, Instant) | (Leaf::Bytes(Some(_)), String) => 2,
            (Leaf::Date | Leaf::Time(_) | Leaf::Timestamp(_) | Leaf::Local(_), Whole) => 3,
            (Leaf::Int | Leaf::Long, Fraction) | (Leaf::Bytes(None), String) => 3,
            (Leaf::Decimal { .. }, String) => 4,
            (Leaf::Double, String) => 5,
            (Leaf::Float, String) => 6,
            // `Infinity` would be base64 too.
            (Leaf::String | Leaf::Enum(_), NoNumber) => 0,
            (Leaf::Double, NoNumber) => 1,
            (Leaf::Float, NoNumber) => 2,
            (Leaf::Bytes(_), NoNumber) => 3,
            _ => return None,
        })
    }

    /// Describes it for messages.
    pub fn describe(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Leaf::Null => "null",
            Leaf::Boolean => "boolean",
            Leaf::Int => "int (32 bits)",
            Leaf::Long => "long (64 bits)",
            Leaf::Float => "float",
            Leaf::Double => "double",
            Leaf::String => "string",
            Leaf::Uuid(_) => "uuid",
            Leaf::Bytes(None) => "bytes (base64)",
            Leaf::Bytes(Some(size)) => return format!("fixed (base64 of {size} bytes)").into(),
            Leaf::Date => "date (YYYY-MM-DD or days since 1970)",
            Leaf::Time(_) => "time (HH:MM:SS or a whole number)",
            Leaf::Timestamp(_) => "timestamp (RFC 3339 or a whole number)",
            Leaf::Local(_) => "local timestamp (RFC 3339 or a whole number)",
            Leaf::Decimal { precision, scale, .. } => return format!("decimal({precision}, {scale})").into(),
            Leaf::Duration => "duration (PnMnDTn.nnnS)",
            Leaf::Enum(symbols) => return named(symbols).into(),
        })
    }

    /// Appends a value; returns whether it was exact, or `None` if it does not fit. `out` is then undefined.
    pub fn write(&self, given: &Given<'_>, out: &mut Vec<u8>, scratch: &mut String) -> Option<bool> {
        match (self, given) {
            (Leaf::Null, Given::Null) => {}
            (Leaf::Boolean, Given::Boolean(value)) => out.push(u8::from(*value)),
            (Leaf::Int, _) => write_long(out, int(given)?.into()),
            (Leaf::Long, _) => write_long(out, whole(given)?),
            (Leaf::Double, _) => out.extend(double(given)?.to_le_bytes()),
            (Leaf::Float, _) => out.extend(float(given)?.to_le_bytes()),
            (Leaf::String, _) => write_bytes(out, text(given, scratch)?.as_bytes()),
            (Leaf::Uuid(false), Given::String(text)) => write_bytes(out, uuid(text).map(|_| text.as_bytes())?),
            (Leaf::Uuid(false), _) => write_bytes(out, text(given, scratch)?.as_bytes()),
            (Leaf::Uuid(true), Given::String(text)) => out.extend(uuid(text)?.into_bytes()),
            (Leaf::Uuid(true), Given::Uuid(id)) => out.extend(id),
            (Leaf::Bytes(None), Given::String(text)) => write_bytes(out, &base64::decode(text)?),
            (Leaf::Bytes(Some(size)), Given::String(text)) => {
                out.extend(base64::decode(text).filter(|bytes| bytes.len() as u64 == *size)?);
            }
            (Leaf::Enum(symbols), Given::String(text)) => write_long(out, *symbols.get(text.as_ref())?),
            (Leaf::Decimal { size, precision, scale }, _) => {
                write_decimal(out, &decimal(given, *precision, *scale)?, *size)?;
            }
            (Leaf::Duration, Given::String(text)) => out.extend(duration(text)?),
            (Leaf::Date, Given::String(text)) => write_long(out, parse_date(text)?),
            (Leaf::Date | Leaf::Time(Unit::Millis), Given::Number(_) | Given::Whole(_)) => {
                write_long(out, int(given)?.into());
            }
            (Leaf::Time(_) | Leaf::Timestamp(_) | Leaf::Local(_), Given::Number(_) | Given::Whole(_)) => {
                write_long(out, whole(given)?);
            }
            (Leaf::Time(unit), Given::String(text)) => {
                return write_ticks(out, time_of_day(text, scratch)?, (*unit, text));
            }
            (Leaf::Timestamp(unit), Given::String(text)) => {
                return write_ticks(out, parse_instant(text)?, (*unit, text));
            }
            (Leaf::Local(unit), Given::String(text)) => return write_ticks(out, local(text, scratch)?, (*unit, text)),
            (Leaf::Timestamp(unit) | Leaf::Local(unit), Given::Instant(micros)) => {
                return write_ticks(out, *micros, (*unit, ""));
            }
            _ => return None,
        }
        Some(true)
    }
}

/// Returns the first symbols of an enum, in its order.
fn named(symbols: &HashMap<String, i64>) -> String {
    let mut list: Vec<_> = symbols.iter().map(|(symbol, number)| (*number, symbol.as_str())).collect();
    list.sort_unstable();
    let names: Vec<&str> = list.iter().take(SYMBOLS_MAX).map(|(_, symbol)| *symbol).collect();
    match list.len().saturating_sub(SYMBOLS_MAX) {
        0 => format!("one of {}", names.join(", ")),
        more => format!("one of {} and {more} more", names.join(", ")),
    }
}

fn text<'a>(given: &'a Given<'_>, scratch: &'a mut String) -> Option<&'a str> {
    scratch.clear();
    match given {
        Given::String(text) => return Some(text),
        Given::Instant(micros) => write_instant(scratch, *micros),
        Given::Uuid(id) => crate::format::cell::write_uuid(scratch, id),
        _ => return None,
    }
    Some(scratch)
}

fn whole(given: &Given<'_>) -> Option<i64> {
    match given {
        Given::Whole(value) => Some(*value),
        Given::Number(text) => text.parse().ok().or_else(|| i64::try_from(unscaled(text, 19, 0)?).ok()),
        _ => None,
    }
}

fn int(given: &Given<'_>) -> Option<i32> {
    i32::try_from(whole(given)?).ok()
}

/// Whether text is evt's word for a double that is NaN or infinite.
pub fn is_no_number(text: &str) -> bool {
    matches!(text, "NaN" | "Infinity" | "-Infinity")
}

/// Converts to a double, unless the number is an integer that would change, or out of range.
fn double(given: &Given<'_>) -> Option<f64> {
    match given {
        Given::Whole(value) => double(&Given::Number(&value.to_string())),
        Given::Number(text) => {
            let value = text.parse::<f64>().ok().filter(|value| value.is_finite())?;
            keeps(text, value == 0.0, 15, || value.to_string()).then_some(value)
        }
        Given::String(text) => match text.as_ref() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn float(given: &Given<'_>) -> Option<f32> {
    match given {
        Given::Whole(value) => float(&Given::Number(&value.to_string())),
        Given::Number(text) => {
            let value = text.parse::<f32>().ok().filter(|value| value.is_finite())?;
            keeps(text, value == 0.0, 6, || value.to_string()).then_some(value)
        }
        Given::String(_) => double(given).map(|value| value as f32),
        _ => None,
    }
}

/// Whether a number survives in binary floating point: an integer prints unchanged; a fraction is the nearest double and
/// does not become zero. Up to `safe` digits always survive.
fn keeps(text: &str, is_zero: bool, safe: usize, printed: impl FnOnce() -> String) -> bool {
    if is_zero {
        let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
        return !mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    }
    text.len() <= safe || text.contains(['.', 'e', 'E']) || printed() == text
}

/// Returns the digits of a JSON number with the point moved right by `scale`, if none are left after it and at most
/// `precision` before it.
fn unscaled(text: &str, precision: u32, scale: u32) -> Option<BigInt> {
    let (mantissa, power) = match text.split_once(['e', 'E']) {
        Some((mantissa, power)) => (mantissa, power.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or((Sign::Plus, whole), |whole| (Sign::Minus, whole));
    let digits = [whole, fraction].concat();
    let kept = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - kept.len()).ok()? - i64::try_from(fraction.len()).ok()?;
    let kept = kept.trim_start_matches('0');
    if kept.is_empty() {
        return whole.bytes().next().map(|_| BigInt::ZERO);
    }
    let places = usize::try_from(power.checked_add(zeros)?.checked_add(scale.into())?).ok()?;
    if kept.len().checked_add(places)? > precision.min(DIGITS_MAX) as usize {
        return None;
    }
    let magnitude = format!("{kept}{:0<places$}", "");
    let magnitude = magnitude.bytes().all(|byte| byte.is_ascii_digit()).then(|| magnitude.parse().ok())??;
    Some(BigInt::from_biguint(sign, magnitude))
}

fn decimal(given: &Given<'_>, precision: u32, scale: u32) -> Option<BigInt> {
    match given {
        Given::Number(text) => unscaled(text, precision, scale),
        Given::String(text) => unscaled(text, precision, scale),
        Given::Whole(value) => unscaled(&value.to_string(), precision, scale),
        _ => None,
    }
}

fn write_decimal(out: &mut Vec<u8>, value: &BigInt, size: Option<u64>) -> Option<()> {
    let bytes = value.to_signed_bytes_be();
    let Some(size) = size else {
        write_bytes(out, &bytes);
        return Some(());
    };
    // No decimal takes more bytes than that, whatever size its schema declares.
    let more = usize::try_from(size).ok()?.checked_sub(bytes.len()).filter(|more| *more <= DIGITS_MAX as usize)?;
    let fill = if value.sign() == Sign::Minus { 0xff } else { 0 };
    out.resize(out.len() + more, fill);
    out.extend(bytes);
    Some(())
}

fn uuid(text: &str) -> Option<uuid::Uuid> {
    // Hyphenated, as a decoder writes it.
    uuid::Uuid::try_parse(text).ok().filter(|_| text.len() == 36)
}

fn joined(scratch: &mut String, parts: [&str; 3]) -> Option<i64> {
    scratch.clear();
    parts.iter().for_each(|part| scratch.push_str(part));
    parse_instant(scratch)
}

fn time_of_day(text: &str, scratch: &mut String) -> Option<i64> {
    joined(scratch, ["1970-01-01T", text, "Z"])
}

fn local(text: &str, scratch: &mut String) -> Option<i64> {
    parse_instant(text).or_else(|| joined(scratch, ["", text, "Z"]))
}

/// Appends ticks of a unit; returns whether they are exact. `text` may have digits beyond the microsecond.
fn write_ticks(out: &mut Vec<u8>, micros: i64, (unit, text): (Unit, &str)) -> Option<bool> {
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
            // The least nanosecond lies between two microseconds of which the first is out of range.
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
