//! The hash of an event's content. Two events have the same content if event_id, source, event_type, user_id,
//! client_timestamp and event_time are equal, and properties are the same JSON value: in any order of members and any
//! spelling of strings and numbers.

use crate::json::number::{Decimal, write_float};
use crate::json::text::unescape;
use crate::json::walk::{items, members, string_content};
use crate::kind::event::column;
use crate::kind::rows::{Cell, RowColumns};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The columns that are compared, besides the properties; the event time is the last one.
const COLUMNS: [usize; 6] = [
    column::EVENT_ID,
    column::SOURCE,
    column::EVENT_TYPE,
    column::USER_ID,
    column::CLIENT_TIMESTAMP,
    column::EVENT_TIME,
];
/// The length of a number that is hashed as an integer: its digits fit into 64 bits.
const DIGITS: usize = 18;

/// Returns the hash of the content of a row, without its event time if `omits_time`.
pub fn of_event(rows: &RowColumns<'_>, row: usize, omits_time: bool) -> u64 {
    let columns = COLUMNS[..COLUMNS.len() - usize::from(omits_time)].iter();
    of_json(rows.properties(row), columns.fold(0, |hash, column| of_cell(rows.cell(*column, row), hash)))
}

/// Returns the hash of the value of a column; `seed` is the hash of the columns before it.
#[inline]
pub fn of_cell(cell: Cell<'_>, seed: u64) -> u64 {
    match cell {
        Cell::None => tagged(b'n', b"", seed),
        Cell::Text(text) => tagged(b't', text.as_bytes(), seed),
        Cell::Number(number) | Cell::Instant(number) => tagged(b'i', &number.to_le_bytes(), seed),
        Cell::Uuid(id) => tagged(b'u', &id, seed),
    }
}

/// Returns the hash of bytes of one type.
#[inline]
pub fn tagged(tag: u8, bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, scrambled(seed.rotate_left(8) ^ u64::from(tag)))
}

/// The finalizer of SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>), a bijection. XXH3 adds the seed to constants
/// and combines the sum with the bytes by XOR: for two close seeds, a small change of the bytes can cancel the
/// difference of the seeds.
#[inline]
fn scrambled(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

/// Returns the hash of a JSON value.
pub fn of_json(text: &str, seed: u64) -> u64 {
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => {
            let mut object = ObjectHash::default();
            members(text, |key, value| {
                object.add(of_name(&unescape(key)), of_json(value, 0));
                true
            });
            object.finish(seed)
        }
        Some(b'[') => {
            let mut hash = 0;
            items(text.trim_ascii_start(), |_, value| {
                hash = of_json(value, hash ^ 1);
                true
            });
            tagged(b'a', &hash.to_le_bytes(), seed)
        }
        Some(b'"') => {
            let content = string_content(text.trim_ascii()).unwrap_or(text);
            of_string(&unescape(content), seed)
        }
        Some(b'-' | b'0'..=b'9') => of_number(text.trim_ascii(), seed),
        _ => tagged(b'w', text.trim_ascii().as_bytes(), seed),
    }
}

/// The hash of a JSON object. Its members come in any order.
#[derive(Clone, Copy, Default)]
pub struct ObjectHash(u64);

impl ObjectHash {
    /// Adds a member: the hash of its name ([`of_name`]), and that of its value with the seed 0.
    #[inline]
    pub fn add(&mut self, name: u64, value: u64) {
        self.0 = self.0.wrapping_add(scrambled(name ^ scrambled(value)));
    }

    /// Returns the hash.
    #[inline]
    pub fn finish(self, seed: u64) -> u64 {
        tagged(b'o', &self.0.to_le_bytes(), seed)
    }
}

/// Returns the hash of the name of a member, unescaped.
#[inline]
pub fn of_name(name: &str) -> u64 {
    tagged(b'm', name.as_bytes(), 0)
}

/// Returns the hash of a JSON string by its content.
#[inline]
pub fn of_string(content: &str, seed: u64) -> u64 {
    tagged(b's', content.as_bytes(), seed)
}

/// Returns the hash of a JSON number that is an integer.
#[inline]
pub fn of_integer(number: i64, seed: u64) -> u64 {
    match significant(number.unsigned_abs(), 0) {
        (digits, exponent) if digits < 10u64.pow(DIGITS as u32) => of_short(digits, number < 0, exponent, seed),
        _ => of_number(&number.to_string(), seed),
    }
}

/// Returns the hash of the JSON value that [`write_float`] writes. Decimals of up to 15 digits are numbers of their own
/// among doubles, so if one is the double, its digits are those of the text.
#[inline]
pub fn of_double(number: f64, seed: u64) -> u64 {
    for (places, scale) in [(4, 1e4), (9, 1e9)] {
        let scaled = (number * scale).round();
        if scaled.abs() < 1e15 && scaled / scale == number {
            let (digits, exponent) = significant(scaled.abs() as u64, -places);
            return of_short(digits, scaled < 0.0, exponent, seed);
        }
    }
    let mut text = String::new();
    write_float(&mut text, number);
    of_json(&text, seed)
}

/// Returns the hash of a JSON number: of its sign, its significant digits and its exponent.
fn of_number(text: &str, seed: u64) -> u64 {
    if text.len() <= DIGITS
        && let Some((number, exponent)) = short_number(text)
    {
        return of_short(number, text.starts_with('-'), exponent, seed);
    }
    match Decimal::parse(text) {
        None => tagged(b'w', text.as_bytes(), seed),
        Some(Decimal { digits, .. }) if digits.is_empty() => of_short(0, false, 0, seed),
        Some(Decimal { is_negative, digits, exponent }) => match digits.parse().ok().filter(|_| digits.len() <= DIGITS)
        {
            Some(number) => of_short(number, is_negative, exponent, seed),
            None => {
                let sign = if is_negative { b'-' } else { b'+' };
                tagged(sign, digits.as_bytes(), tagged(b'e', &exponent.to_le_bytes(), seed))
            }
        },
    }
}

/// Returns the significant digits of a number without an exponent as an integer, and the power of ten that it is
/// multiplied by.
#[inline]
fn short_number(text: &str) -> Option<(u64, i64)> {
    let (mut number, mut exponent, mut is_fraction) = (0u64, 0i64, false);
    for byte in text.strip_prefix('-').unwrap_or(text).bytes() {
        match byte {
            b'0'..=b'9' => {
                number = number * 10 + u64::from(byte - b'0');
                exponent -= i64::from(is_fraction);
            }
            b'.' => is_fraction = true,
            _ => return None,
        }
    }
    Some(significant(number, exponent))
}

/// Returns a number without zeros at its end, and the power of ten that it is multiplied by.
#[inline]
fn significant(mut number: u64, mut exponent: i64) -> (u64, i64) {
    if number == 0 {
        return (0, 0);
    }
    while number.is_multiple_of(10) {
        number /= 10;
        exponent += 1;
    }
    (number, exponent)
}

fn of_short(number: u64, is_negative: bool, exponent: i64, seed: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&exponent.to_le_bytes());
    tagged(if is_negative && number != 0 { b'-' } else { b'+' }, &bytes, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_small_numbers_have_different_hashes() {
        for seed in [0, 1, 7, u64::MAX] {
            let mut hashes = std::collections::BTreeMap::new();
            for digits in (-300..=300).filter(|digits| digits % 10 != 0 || *digits == 0) {
                for exponent in if digits == 0 { 0..=0 } else { -8..=8 } {
                    let text = format!("{digits}E{exponent}");
                    let known = hashes.insert(of_json(&text, seed), text.clone());
                    assert_eq!(known, None, "{text} has the same hash");
                }
            }
        }
    }
}
