//! Entries of the spool: any bytes under a right checksum are a request or none, and a request is written as it was.

use bytes::Bytes;
use evt_run::spool::entry::{self, HEAD, encode, seal};

/// The seed of all segments of this target.
const SEED: u64 = 7;

fn read(bytes: &[u8]) -> Option<evt_run::spool::request::Entry> {
    entry::read(&Bytes::copy_from_slice(bytes), SEED)
}

/// The input is the body of an entry.
pub fn run(input: &[u8]) {
    assert!(read(input).is_none_or(|entry| entry.end() >= entry.offset));
    let mut bytes = vec![0; HEAD];
    bytes.extend_from_slice(input);
    seal(&mut bytes, SEED);
    let Some(entry) = read(&bytes) else { return };
    let mut again = vec![];
    encode(&mut again, SEED, &entry);
    assert_eq!(read(&again), Some(entry));
}
