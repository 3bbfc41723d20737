//! The id of a record, derived from its position and its bytes: the `event_id` of an event that has none, and the
//! `letter_id` of a dead letter.

use super::named_id::named_id;
use uuid::Uuid;

/// UUIDv5 of the name `evt.event` in the DNS namespace.
pub const NAMESPACE: Uuid = uuid::uuid!("58aedb27-dcc1-534a-ba59-63b291b9768e");

/// Maximum number of characters of an offset.
const OFFSET_DIGITS: usize = 20;

/// Derives the id of a record: UUIDv5 of `origin NUL partition NUL offset NUL payload`.
///
/// A replay derives the same id. The offset distinguishes equal lines of one file.
pub fn made_id(origin: &str, partition: &str, offset: i64, payload: &[u8]) -> [u8; 16] {
    let mut digits = [0; OFFSET_DIGITS];
    let offset = decimal(offset, &mut digits);
    let name = [origin.as_bytes(), b"\0", partition.as_bytes(), b"\0", offset, b"\0", payload];
    named_id(&NAMESPACE, &name).into_bytes()
}

/// Writes a number at the end of `digits`; returns what it has written.
fn decimal(number: i64, digits: &mut [u8; OFFSET_DIGITS]) -> &[u8] {
    let (mut rest, mut start) = (number.unsigned_abs(), OFFSET_DIGITS);
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        start -= 1;
        digits[start] = b'-';
    }
    &digits[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, -7, 10, 1_234_567_890, i64::MAX, i64::MIN] {
            assert_eq!(decimal(number, &mut [0; OFFSET_DIGITS]), number.to_string().as_bytes());
        }
    }

    /// The expected ids are those of tests/oracle/letter_ids.py.
    #[test]
    fn an_id_is_the_one_that_other_programs_derive() {
        let made = |origin, offset, payload: &[u8]| Uuid::from_bytes(made_id(origin, "0", offset, payload)).to_string();
        assert_eq!(made("o", 1, b"yy"), "9f8151d6-5158-53d3-b80b-833891418f2d");
        assert_eq!(made("in.jsonl", 2, b"\xff\xfe"), "a4d99c9b-45fa-5d75-a195-611701dd3583");
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"evt.event"));
    }
}
