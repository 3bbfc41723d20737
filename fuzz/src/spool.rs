//! Entries of the spool: any bytes under a right checksum are a request or none, and a request is written as it was.

use evt::spool::entry::{HEAD, encode, read, seal};

/// The seed of all segments of this target.
const SEED: u64 = 7;

/// The input is the body of an entry.
pub fn run(input: &[u8]) {
    assert!(read(input, SEED).is_none_or(|entry| entry.end() >= entry.offset));
    let mut bytes = vec![0; HEAD];
    bytes.extend_from_slice(input);
    seal(&mut bytes, SEED);
    let Some(entry) = read(&bytes, SEED) else { return };
    let mut again = vec![];
    encode(&mut again, SEED, &entry);
    assert_eq!(read(&again, SEED), Some(entry));
}
