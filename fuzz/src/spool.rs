//! Entries of the spool: any bytes under a right checksum are a request or none, and a request is written as it was.

use evt::spool::entry::{HEAD, Spot, encode, read, seal};

/// The seed of all segments of this target.
const SEED: u64 = 7;

/// The input is the body of an entry.
pub fn run(input: &[u8]) {
    assert!(read(input, SEED).is_none_or(|entry| entry.end() >= entry.offset));
    let mut bytes = vec![0; HEAD];
    bytes.extend_from_slice(input);
    seal(&mut bytes, SEED);
    let Some(entry) = read(&bytes, SEED) else { return };
    let (request, kept) = (entry.request(), entry.kept());
    assert_eq!(request.records.len(), kept.fates.len());
    let mut again = vec![];
    encode(&mut again, Spot { seed: SEED, safe: entry.safe, offset: entry.offset }, &request, &kept.fates);
    let twice = read(&again, SEED).expect("what was written");
    assert_eq!((twice.request(), twice.kept()), (request, kept));
}
