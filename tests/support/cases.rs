//! How many cases a property is tested with.

use proptest::prelude::ProptestConfig;

/// Returns a configuration with this many cases, the same ones each time.
pub fn cases(cases: u32) -> ProptestConfig {
    let seed = proptest::test_runner::RngSeed::Fixed(7);
    ProptestConfig { cases, rng_seed: seed, failure_persistence: None, ..ProptestConfig::default() }
}
