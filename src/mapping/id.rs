//! Event ids: read, or made so that a replay makes the same.

use uuid::Uuid;

/// UUIDv5 of the name `evt.event` in the DNS namespace.
const NAMESPACE: Uuid = uuid::uuid!("58aedb27-dcc1-534a-ba59-63b291b9768e");

/// The 16 bytes of a hyphenated UUID, in any case of letters.
#[inline]
pub(super) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let bytes: &[u8; 36] = text.as_bytes().try_into().ok()?;
    if bytes[8] != b'-' || bytes[13] != b'-' || bytes[18] != b'-' || bytes[23] != b'-' {
        return None;
    }
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let mut id = [0; 16];
    let mut wrong = 0;
    for (byte, place) in id.iter_mut().zip(PLACES) {
        let (high, low) = (HEX[usize::from(bytes[place])], HEX[usize::from(bytes[place + 1])]);
        wrong |= high | low;
        *byte = high << 4 | low & 0x0f;
    }
    (wrong & 0xf0 == 0).then_some(id)
}

/// The value of a hexadecimal digit; 0xff for any other byte.
const HEX: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit] as usize] = digit as u8;
        table[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
};

/// The id of a record that brought none: UUIDv5 of `origin NUL partition NUL offset NUL payload`.
///
/// A replay gives the same id, and line 1 of tomorrow's file is another event.
pub(super) fn made_id(scratch: &mut Vec<u8>, place: (&str, &str, i64), payload: &[u8]) -> [u8; 16] {
    scratch.clear();
    for part in [place.0.as_bytes(), b"\0", place.1.as_bytes(), b"\0", place.2.to_string().as_bytes(), b"\0", payload] {
        scratch.extend_from_slice(part);
    }
    *Uuid::new_v5(&NAMESPACE, scratch).as_bytes()
}

/// The id of a record whose own is a string but no UUID (`--hash-ids`): UUIDv5 of `source NUL text`.
pub(super) fn hashed_id(source: &str, text: &str) -> [u8; 16] {
    *Uuid::new_v5(&NAMESPACE, format!("{source}\0{text}").as_bytes()).as_bytes()
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
    }
}
