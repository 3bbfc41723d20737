//! Compares the exact accumulator with rationals of big integers, and its rounding with the definition of a double.

use super::*;
use proptest::prelude::*;

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 400,
        rng_algorithm: prop::test_runner::RngAlgorithm::ChaCha,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Generates any finite double, subnormal ones included, from its bits.
fn finite() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |value| value.is_finite())
}

/// Generates doubles that interact: same magnitudes, cancelling, huge and tiny.
fn meeting() -> impl Strategy<Value = f64> {
    prop_oneof![
        finite(),
        (-1000i32..1000).prop_map(f64::from),
        -1e3..1e3,
        Just(f64::MAX),
        Just(-f64::MAX),
        Just(f64::from_bits(1)),
        Just(-f64::MIN_POSITIVE),
        Just(1e16),
        Just(-1e16),
        Just(0.0),
        Just(-0.0),
    ]
}

/// Returns the value in units of 2⁻¹⁰⁷⁴, by definition of the format.
fn units(value: f64) -> BigInt {
    let (mantissa, shift) = parts(value);
    BigInt::from(mantissa) << shift
}

fn whole(exact: &Exact) -> BigInt {
    let (total, shift) = exact.total();
    total << shift
}

/// Whether `value` is the double nearest to `numerator / denominator · 2⁻¹⁰⁷⁴`, ties to even: compares it with the
/// midpoints to its neighbours, in integers.
fn is_nearest(value: f64, numerator: &BigInt, denominator: u64) -> bool {
    let double = |value: f64| -> BigInt {
        match value {
            f64::INFINITY => BigInt::from(1) << (1024 + 1074),
            f64::NEG_INFINITY => BigInt::from(-1) << (1024 + 1074),
            value => units(value),
        }
    };
    let even = value.to_bits() & 1 == 0;
    let twice: BigInt = numerator * 2;
    let within = |neighbour: f64, above: bool| {
        let midpoint: BigInt = (double(value) + double(neighbour)) * denominator;
        let order = if above { twice.cmp(&midpoint) } else { midpoint.cmp(&twice) };
        order.is_lt() || (order.is_eq() && even)
    };
    let low = value == f64::NEG_INFINITY || within(value.next_down(), false);
    let high = value == f64::INFINITY || within(value.next_up(), true);
    low && high
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_sum_is_the_big_integers_and_its_rounding_the_nearest_double(
        values in prop::collection::vec(meeting(), 0..40), divisor in 1u64..1000,
    ) {
        let mut exact = Exact::default();
        let mut naive = BigInt::ZERO;
        for value in &values {
            exact.add(*value);
            naive += units(*value);
        }
        prop_assert_eq!(whole(&exact), naive.clone());
        let (total, shift) = exact.total();
        prop_assert!(is_nearest(round(&total, 1, UNIT + shift), &naive, 1));
        prop_assert!(is_nearest(round(&total, divisor, UNIT + shift), &naive, divisor));
    }

    #[test]
    fn a_sum_of_squares_is_the_big_integers(values in prop::collection::vec(meeting(), 0..20)) {
        let mut exact = Exact::default();
        values.iter().for_each(|value| exact.add_square(*value));
        let naive: BigInt = values.iter().map(|value| units(*value) * units(*value)).sum();
        prop_assert_eq!(whole(&exact), naive);
    }

    #[test]
    fn a_carry_at_any_point_changes_neither_the_sum_nor_the_saved_form(
        values in prop::collection::vec(meeting(), 1..40), cut in 0usize..40,
    ) {
        let (mut plain, mut carried) = (Exact::default(), Exact::default());
        for (at, value) in values.iter().enumerate() {
            plain.add(*value);
            carried.add(*value);
            if at == cut % values.len() {
                carried.carry();
            }
        }
        prop_assert_eq!(whole(&plain), whole(&carried));
        let (mut a, mut b) = (vec![], vec![]);
        plain.save(&mut a);
        carried.save(&mut b);
        prop_assert_eq!(a, b);
    }

    #[test]
    fn one_value_rounds_to_itself(value in finite()) {
        let mut exact = Exact::default();
        exact.add(value);
        let (total, shift) = exact.total();
        prop_assert_eq!(round(&total, 1, UNIT + shift), value);
    }

    #[test]
    fn the_root_of_a_square_is_within_one_unit_in_the_last_place(value in finite()) {
        let mut exact = Exact::default();
        exact.add_square(value);
        let (total, shift) = exact.total();
        let found = root(total.magnitude(), &BigUint::from(1u8), SQUARE_UNIT + shift);
        let distance = found.to_bits().abs_diff(value.abs().to_bits());
        prop_assert!(distance <= 1, "{} {}", found, value);
    }
}

#[test]
fn the_limits_carry_before_they_overflow() {
    let mut exact = Exact { additions: ADDITIONS_MAX - 2, ..Exact::default() };
    for _ in 0..5 {
        exact.add(f64::MAX);
    }
    assert!(exact.additions < 10);
    assert_eq!(whole(&exact), units(f64::MAX) * 5);
    let mut other = Exact { additions: ADDITIONS_MAX - 1, ..exact.clone() };
    other.merge(&exact);
    assert!(other.additions < 10);
    assert_eq!(whole(&other), units(f64::MAX) * 10);
    let mut negative = Exact::default();
    negative.add(-f64::MAX);
    (0..3).for_each(|_| negative.carry());
    assert_eq!(whole(&negative), -units(f64::MAX));
}

#[test]
fn rounding_is_right_at_the_edges() {
    let rounded = |numerator: i64, denominator, exponent| round(&BigInt::from(numerator), denominator, exponent);
    assert_eq!(rounded(0, 3, 0), 0.0);
    assert_eq!(rounded(1, 3, 0), 1.0 / 3.0);
    assert_eq!(rounded(-2, 3, 0), -2.0 / 3.0);
    assert_eq!(rounded((1 << 53) + 1, 1, 0), 9_007_199_254_740_992.0, "a tie goes to even");
    assert_eq!(rounded((1 << 53) + 3, 1, 0), 9_007_199_254_740_996.0, "a tie goes to even");
    assert_eq!(rounded(1, 2, -1074), 0.0, "half of the least subnormal is a tie");
    assert_eq!(rounded(3, 2, -1074), f64::from_bits(2));
    assert_eq!(rounded(1, 1, -1022), f64::MIN_POSITIVE);
    assert_eq!(rounded((1 << 53) - 1, 1, 971), f64::MAX);
    assert_eq!(rounded((1 << 54) - 1, 1, 970), f64::INFINITY, "the first value that rounds beyond the range");
    assert_eq!(rounded(1, 1, 1024), f64::INFINITY);
    assert_eq!(rounded(1, 1, 100_000), f64::INFINITY);
    assert_eq!(rounded(1, 1, -100_000), 0.0);
}

#[test]
fn a_few_values_of_one_magnitude_take_little_memory() {
    let mut exact = Exact::default();
    for value in [12.5, 99.99, 0.01, 1500.0, -3.0] {
        exact.add(value);
    }
    assert!(exact.heap() <= 64, "{}", exact.heap());
}
