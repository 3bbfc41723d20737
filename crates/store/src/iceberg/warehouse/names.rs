//! Names that no other process gives to a file, a snapshot or a table.

use std::hash::{BuildHasher, RandomState};
use uuid::Uuid;

/// Returns a number, never 0, that no other process has, with high probability.
pub fn random() -> u64 {
    // The standard library's only source of randomness: each new state has other keys.
    RandomState::new().hash_one(0).max(1)
}

/// Returns a UUID for the name of a file.
pub fn random_uuid() -> Uuid {
    uuid::Builder::from_random_bytes((u128::from(random()) << 64 | u128::from(random())).to_be_bytes()).into_uuid()
}
