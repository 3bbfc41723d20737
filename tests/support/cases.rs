//! How many cases a property is tested with.

use proptest::prelude::ProptestConfig;

/// Returns a configuration with this many cases, the same ones each time, or with the share of them that
/// `EVT_CASES_PERCENT` says. `PROPTEST_CASES` would replace the number of each property.
pub fn cases(cases: u32) -> ProptestConfig {
    let percent = std::env::var("EVT_CASES_PERCENT").map_or(100, |text| text.parse().expect("a percentage"));
    let cases = cases.saturating_mul(percent).div_ceil(100);
    let seed = proptest::test_runner::RngSeed::Fixed(7);
    ProptestConfig { cases, rng_seed: seed, failure_persistence: None, ..ProptestConfig::default() }
}
