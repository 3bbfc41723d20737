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
    let mut digits = [[0; 16]; 2];
    let [first, second] = &mut digits;
    first[..8].copy_from_slice(&bytes[..8]);
    first[8..12].copy_from_slice(&bytes[9..13]);
    first[12..].copy_from_slice(&bytes[14..18]);
    second[..4].copy_from_slice(&bytes[19..23]);
    second[4..].copy_from_slice(&bytes[24..]);
    let mut id = [0; 16];
    let (upper, lower) = id.split_at_mut(8);
    upper.copy_from_slice(&unhex(*first)?);
    lower.copy_from_slice(&unhex(*second)?);
    Some(id)
}

/// Decodes sixteen hexadecimal digits, all at once, because every event has an id.
#[inline]
fn unhex(digits: [u8; 16]) -> Option<[u8; 8]> {
    let text = u8x16::from(digits);
    let decimal = text - u8x16::splat(b'0');
    let letter = (text | u8x16::splat(0x20)) - u8x16::splat(b'a');
    let is_decimal = decimal.min(u8x16::splat(9)).simd_eq(decimal);
    let is_letter = letter.min(u8x16::splat(5)).simd_eq(letter);
    if (is_decimal | is_letter).to_bitmask() != 0xffff {
        return None;
    }
    let nibbles = is_decimal.select(decimal, letter + u8x16::splat(10)).to_array();
    // Each even byte takes the digit before it as its upper half.
    let pairs = u128::from_le_bytes(nibbles);
    let bytes = (pairs << 4 | pairs >> 8).to_le_bytes();
    Some(std::array::from_fn(|at| bytes[2 * at]))
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
