//! Values as the bytes of a bound: little-endian numbers, the bytes of texts and of UUIDs.

/// Bytes of a text that a bound keeps.
const TEXT_MAX: usize = 16;

/// Returns the bound of an integer of 32 bits, a date included.
pub fn int(value: i32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

/// Returns the bound of an integer of 64 bits, an instant (µs) included.
pub fn long(value: i64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

/// Returns the bound of a double.
pub fn double(value: f64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

/// Returns the least bound of a text: its first characters.
pub fn least_text(text: &str) -> Vec<u8> {
    text.as_bytes()[..text.floor_char_boundary(TEXT_MAX)].to_vec()
}

/// Returns the greatest bound of a text: its first characters, the last of them increased if some were left out; `None`
/// if none can be.
pub fn greatest_text(text: &str) -> Option<Vec<u8>> {
    let end = text.floor_char_boundary(TEXT_MAX);
    if end == text.len() {
        return Some(text.as_bytes().to_vec());
    }
    let mut kept = text[..end].to_owned();
    while let Some(last) = kept.pop() {
        if let Some(next) = (u32::from(last) + 1..=0x10_FFFF).find_map(char::from_u32) {
            kept.push(next);
            return Some(kept.into_bytes());
        }
    }
    None
}

/// Reads the bound of an integer of 64 bits; one of 32 bits counts as it, because a column may have become wider.
pub fn read_long(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        4 => Some(i64::from(i32::from_le_bytes(bytes.try_into().ok()?))),
        _ => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greatest_text_is_not_less_than_the_text() {
        for text in ["", "short", "exactly 16 bytes", "a text that is longer than a bound", "ÿÿÿÿÿÿÿÿÿÿÿÿÿÿÿÿÿÿ"]
        {
            let (least, greatest) = (least_text(text), greatest_text(text).unwrap());
            assert!(&*least <= text.as_bytes() && text.as_bytes() <= &*greatest, "{text}");
            assert!(least.len() <= TEXT_MAX && str::from_utf8(&greatest).is_ok());
        }
        assert_eq!(greatest_text(&"\u{10FFFF}".repeat(9)), None);
        assert_eq!(greatest_text("0123456789abcd\u{D7FF}xyz"), Some("0123456789abce".into()));
    }

    #[test]
    fn a_number_is_little_endian() {
        assert_eq!((int(1), long(-2)), (vec![1, 0, 0, 0], (-2_i64).to_le_bytes().to_vec()));
        assert_eq!(
            (read_long(&int(-7)), read_long(&long(1 << 40)), read_long(b"abc")),
            (Some(-7), Some(1 << 40), None)
        );
    }
}
