//! The id of a record, derived from its position and its bytes: the `event_id` of an event that has none, and the `letter_id` of
//! a dead letter.

use uuid::Uuid;

/// UUIDv5 of the name `evt.event` in the DNS namespace.
pub const NAMESPACE: Uuid = uuid::uuid!("58aedb27-dcc1-534a-ba59-63b291b9768e");

/// Derives the id of a record: UUIDv5 of `origin NUL partition NUL offset NUL payload`.
///
/// A replay derives the same id. The offset distinguishes equal lines of one file. `scratch` is memory that is used
/// again.
pub fn made_id(scratch: &mut Vec<u8>, origin: &str, partition: &str, offset: i64, payload: &[u8]) -> [u8; 16] {
    scratch.clear();
    let offset = offset.to_string();
    for part in [origin.as_bytes(), b"\0", partition.as_bytes(), b"\0", offset.as_bytes(), b"\0", payload] {
        scratch.extend_from_slice(part);
    }
    *Uuid::new_v5(&NAMESPACE, scratch).as_bytes()
}
