//! The search for entries after damage.

use super::*;
use crate::spool::request::{Record, Request};

const SEED: u64 = 7;
const DAMAGED: u64 = 1000;

fn search() -> LaterEntry {
    LaterEntry { damaged: DAMAGED, seed: SEED, hashed: 0 }
}

/// Returns an entry of one record that was written when the bytes up to `safe` were durable.
fn entry(safe: u64, payload: Vec<u8>) -> Vec<u8> {
    let records = vec![Record::new(payload.into())];
    let request = Request { arrived_at: 0, token: String::new(), headers: vec![], key: None, records };
    let mut bytes = vec![];
    entry::encode(&mut bytes, SEED, &Entry { safe, offset: 0, request });
    bytes
}

/// Returns bytes of a client that look like the beginning of an entry every 24 bytes, each of them up to the end.
fn marks(length: usize, safe: impl Fn(usize) -> u64) -> Vec<u8> {
    let mut bytes = vec![];
    while bytes.len() + 24 <= length {
        let at = bytes.len();
        let body = u32::try_from(length - at - entry::HEAD).unwrap();
        bytes.extend([&entry::MARK[..], b"AAAAAAAA", &body.to_le_bytes(), &safe(at).to_le_bytes()].concat());
    }
    bytes.resize(length, b'A');
    bytes
}

#[test]
fn an_entry_after_the_damage_is_found_only_if_the_damaged_bytes_were_durable_before_it() {
    let torn = b"torn".to_vec();
    for (safe, is_found) in
        [(0, false), (DAMAGED, false), (DAMAGED + 1, true), (DAMAGED + 4, true), (DAMAGED + 5, false)]
    {
        let rest = [torn.clone(), entry(safe, b"x".to_vec())].concat();
        assert_eq!(search().is_in(&Bytes::from(rest)), is_found, "{safe}");
    }
}

#[test]
fn a_torn_write_full_of_marks_of_a_client_is_recovered_without_hashing_each_of_them_to_the_end() {
    const LENGTH: usize = 4 << 20;
    // Whatever a client writes at the place of `safe`, it does not know the byte of the segment.
    for safe in [0, DAMAGED, u64::from_le_bytes(*b"evt\x01AAAA")] {
        let rest = Bytes::from(marks(LENGTH, |_| safe));
        let mut search = search();
        assert!(!search.is_in(&rest), "{safe}");
        assert_eq!(search.hashed, 0, "{safe}");
        // The entry of a later write is still found.
        let later = [&rest[..], &entry(DAMAGED + LENGTH as u64, b"x".to_vec())].concat();
        assert!(search.is_in(&Bytes::from(later)), "{safe}");
        assert!(search.hashed < 200, "{safe}: {}", search.hashed);
    }
}

#[test]
fn marks_with_a_place_that_a_client_has_guessed_are_damage_after_a_bounded_number_of_hashed_bytes() {
    const LENGTH: usize = 4 << 20;
    let mut search = search();
    assert!(search.is_in(&Bytes::from(marks(LENGTH, |at| DAMAGED + at as u64))));
    assert!(search.hashed <= (HASHED_MAX + 1) * LENGTH, "{}", search.hashed);
}
