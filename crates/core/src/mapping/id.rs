//! Event ids that the record has: parsed, or derived from a text that is not a UUID. [`crate::kind::record_id`] derives
//! the others.

use crate::kind::named_id::named_id;
use crate::kind::record_id::NAMESPACE;
use uuid::Uuid;
use wide::u8x16;

/// Parses a hyphenated UUID, in upper or lower case, into its 16 bytes.
#[inline]
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let bytes: &[u8; 36] = text.as_bytes().try_into().ok()?;
    if bytes[8] != b'-' || bytes[13] != b'-' || bytes[18] != b'-' || bytes[23] != b'-' {
        return None;
    }
    let four = |at: usize| Some(u64::from(u32::from_le_bytes(*bytes[at..].first_chunk()?)));
    let eight = |at: usize| Some(u64::from_le_bytes(*bytes[at..].first_chunk()?));
    let upper = unhex(eight(0)?, four(9)? | four(14)? << 32)?;
    let lower = unhex(four(19)? | four(24)? << 32, eight(28)?)?;
    Some((u128::from(lower) << 64 | u128::from(upper)).to_le_bytes())
}

/// Decodes sixteen hexadecimal digits, eight in each word, all at once, because every event has an id. The first digit
/// is in the lowest byte.
#[inline(always)]
fn unhex(first: u64, second: u64) -> Option<u64> {
    let text = u8x16::from((u128::from(second) << 64 | u128::from(first)).to_le_bytes());
    let decimal = text - u8x16::splat(b'0');
    let letter = (text | u8x16::splat(0x20)) - u8x16::splat(b'a');
    let is_decimal = decimal.min(u8x16::splat(9)).simd_eq(decimal);
    let is_letter = letter.min(u8x16::splat(5)).simd_eq(letter);
    if (is_decimal | is_letter).to_bitmask() != 0xffff {
        return None;
    }
    let nibbles = u128::from_le_bytes(is_decimal.select(decimal, letter + u8x16::splat(10)).to_array());
    Some(packed(nibbles as u64) | packed((nibbles >> 64) as u64) << 32)
}

/// Packs eight digits, one in each byte, into four bytes.
#[inline(always)]
fn packed(digits: u64) -> u64 {
    // Each even byte takes the digit before it as its upper half; then the even bytes move together.
    let pairs = (digits << 4 | digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    (fours | fours >> 16) & 0xffff_ffff
}

/// Derives the id of a record whose `event_id` is a string but not a UUID (`--hash-ids`): UUIDv5 of `source NUL text`.
pub(super) fn hashed_id(source: &str, text: &str) -> [u8; 16] {
    named_id(&NAMESPACE, &[source.as_bytes(), b"\0", text.as_bytes()]).into_bytes()
}

/// Returns `text` as a UUID in canonical form, or the UUID that `--hash-ids` derives from it.
pub fn uuid_of(source: &str, text: &str) -> String {
    Uuid::from_bytes(parse_uuid(text).unwrap_or_else(|| hashed_id(source, text))).hyphenated().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_reads_in_any_case_and_nothing_else_does() {
        let text = "58aedb27-dcc1-534a-BA59-63b291b9768E";
        assert_eq!(parse_uuid(text), Some(*NAMESPACE.as_bytes()));
        for end in 0..text.len() {
            assert_eq!(parse_uuid(&text[..end]), None);
        }
        assert_eq!(parse_uuid("58aedb27-dcc1-534a-ba59-63b291b9768g"), None);
        assert_eq!(parse_uuid("58aedb27edcc1-534a-ba59-63b291b9768e"), None);
        for byte in 0..=127u8 {
            for place in (0..36).filter(|place| ![8, 13, 18, 23].contains(place)) {
                let mut changed = text.as_bytes().to_vec();
                changed[place] = byte;
                let changed = String::from_utf8(changed).unwrap();
                assert_eq!(parse_uuid(&changed), Uuid::try_parse(&changed).ok().map(Uuid::into_bytes), "{changed}");
            }
        }
    }
}
