//! Compares the exact accumulator with rationals of big integers, and its rounding with the definition of a double.

use super::super::decimal;
use super::super::definition::Definition;
use super::super::stddev::STDDEV;
use super::super::sum::{AVG, SUM};
use super::*;
use crate::json::number;
use arrow::array::{ArrayRef, StringArray};
use proptest::prelude::*;
use std::sync::Arc;

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

/// Generates numbers that interact: same magnitudes, cancelling, huge and tiny, of few and of many digits.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        finite().prop_map(|value| format!("{value:e}")),
        (-1_000_000i64..1_000_000, 0u32..9).prop_map(|(digits, places)| format!("{digits}e-{places}")),
        "-?[0-9]{1,18}\\.[0-9]{1,20}",
        "-?[0-9]{1,38}e-?[0-9]{1,2}",
        prop::sample::select(vec!["1e308", "-1e308", "4.9e-324", "0.1", "0.2", "-0", "9007199254740993", "0.5"])
            .prop_map(str::to_owned),
    ]
}

/// Units of the naive model are 10^−PLACES.
const PLACES: i64 = 450;

/// Returns the units of a text, by another parser.
fn units(text: &str) -> BigInt {
    let number::Decimal { is_negative, digits, exponent } = number::Decimal::parse(text).unwrap();
    let digits: BigInt = if digits.is_empty() { BigInt::ZERO } else { digits.parse().unwrap() };
    let units = digits * ten_to((exponent + PLACES) as i32);
    if is_negative { -units } else { units }
}

/// Adds a text in one of the two ways, if both are possible.
fn add(exact: &mut Exact, text: &str) {
    let long = decimal::parse(text).unwrap();
    match i64::try_from(long.mantissa) {
        Ok(mantissa) => exact.add(ShortDecimal { mantissa, exponent: long.exponent }),
        Err(_) => exact.add_long(long),
    }
}

fn add_square(exact: &mut Exact, text: &str) {
    let long = decimal::parse(text).unwrap();
    match i64::try_from(long.mantissa) {
        Ok(mantissa) => exact.add_square(ShortDecimal { mantissa, exponent: long.exponent }),
        Err(_) => exact.add_long_square(long),
    }
}

fn sum_of(texts: &[String]) -> Exact {
    let mut exact = Exact::default();
    texts.iter().for_each(|text| add(&mut exact, text));
    exact
}

fn whole(exact: &Exact, places: i64) -> BigInt {
    // Without a value the power of ten is that of limb 0.
    if exact.limbs.is_empty() { BigInt::ZERO } else { exact.total().at(-places as i32) }
}

fn saved(exact: &Exact) -> Vec<u8> {
    let mut out = vec![];
    exact.save(&mut out);
    out
}

/// Returns a double in units of 2^−1075, by definition of the format; its midpoints have whole ones.
fn half_bits(value: f64) -> BigInt {
    let (size, sign) = (value.abs(), if value < 0.0 { -1 } else { 1 });
    if size == f64::INFINITY {
        return (BigInt::from(sign) << 1024) << 1075;
    }
    let bits = size.to_bits();
    let (exponent, fraction) = (bits >> 52, bits & ((1 << 52) - 1));
    let units = if exponent == 0 { BigInt::from(fraction) } else { BigInt::from(fraction | 1 << 52) << (exponent - 1) };
    units * sign * 2
}

/// Whether `value` is the double nearest to a number, ties to even. `order` compares the number with a multiple of
/// 2^−1075.
fn is_nearest(value: f64, order: impl Fn(&BigInt) -> std::cmp::Ordering) -> bool {
    let even = value.to_bits() & 1 == 0;
    let within = |neighbour: f64, above: bool| {
        let midpoint: BigInt = (half_bits(value) + half_bits(neighbour)) / 2;
        let order = if above { order(&midpoint) } else { order(&midpoint).reverse() };
        order.is_lt() || (order.is_eq() && even)
    };
    let low = value == f64::NEG_INFINITY || within(value.next_down(), false);
    let high = value == f64::INFINITY || within(value.next_up(), true);
    low && high
}

/// Whether `value` is the double nearest to a fraction.
fn is_nearest_fraction(value: f64, numerator: &BigInt, denominator: &BigInt) -> bool {
    let scaled: BigInt = numerator << 1075;
    is_nearest(value, |other| scaled.cmp(&(other * denominator)))
}

/// Whether `value` is the double nearest to the root of a fraction.
fn is_nearest_root(value: f64, numerator: &BigInt, denominator: &BigInt) -> bool {
    let scaled: BigInt = numerator << 2150;
    is_nearest(value, |other| {
        let square = if other.sign() == Sign::Minus { -other.pow(2) } else { other.pow(2) };
        scaled.cmp(&(square * denominator))
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_sum_is_the_big_integers_and_its_rounding_the_nearest_double(
        values in prop::collection::vec(number(), 0..40), divisor in 1u64..1000,
    ) {
        let exact = sum_of(&values);
        let naive: BigInt = values.iter().map(|value| units(value)).sum();
        prop_assert_eq!(whole(&exact, PLACES), naive.clone());
        let unit = ten_to(PLACES as i32);
        prop_assert!(is_nearest_fraction(exact.divided(1), &naive, &unit));
        prop_assert!(is_nearest_fraction(exact.divided(divisor), &naive, &(unit * divisor)));
    }

    #[test]
    fn a_sum_of_squares_is_the_big_integers_and_its_root_the_nearest_double(
        values in prop::collection::vec(number(), 1..20), divisor in 1u64..1000,
    ) {
        let mut exact = Exact::default();
        values.iter().for_each(|value| add_square(&mut exact, value));
        let naive: BigInt = values.iter().map(|value| units(value) * units(value)).sum();
        prop_assert_eq!(whole(&exact, 2 * PLACES), naive.clone());
        let Total { mantissa, exponent } = exact.total();
        let found = root(&mantissa, &divisor.into(), exponent);
        let scale = ten_to(2 * PLACES as i32) * divisor;
        prop_assert!(is_nearest_root(found, &naive, &scale), "{}", found);
    }

    #[test]
    fn a_carry_a_merge_or_a_saved_form_at_any_point_changes_neither_the_sum_nor_its_saved_form(
        values in prop::collection::vec(number(), 1..40), cut in 0usize..40,
    ) {
        let plain = sum_of(&values);
        let (first, rest) = values.split_at(cut % values.len());
        let mut carried = sum_of(first);
        carried.carry();
        rest.iter().for_each(|value| add(&mut carried, value));
        let mut loaded = Exact::load(&mut Reader::new(&saved(&sum_of(rest)))).unwrap();
        loaded.merge(&sum_of(first));
        for other in [carried, loaded] {
            prop_assert_eq!(whole(&plain, PLACES), whole(&other, PLACES));
            prop_assert_eq!(saved(&plain), saved(&other));
        }
    }

    /// sum, avg and stddev of texts that are divided among slots, which are saved, loaded and merged.
    #[test]
    fn aggregates_of_texts_are_the_fractions(
        values in prop::collection::vec((number(), 0u32..4, any::<bool>()), 1..40),
    ) {
        let texts: ArrayRef = Arc::new(values.iter().map(|(text, ..)| Some(text)).collect::<StringArray>());
        let result = |definition: &Definition| {
            let mut aggregate = (definition.create)(0.0);
            aggregate.ensure(4);
            for (row, (_, slot, is_saved)) in (0..).zip(&values) {
                aggregate.add(&[*slot], &[row], std::slice::from_ref(&texts));
                if *is_saved {
                    let mut bytes = vec![];
                    aggregate.save(*slot, &mut bytes);
                    aggregate.load(*slot, &bytes).unwrap();
                }
            }
            [(0, 1), (2, 3), (0, 2)].into_iter().for_each(|(into, from)| aggregate.merge(into, from));
            aggregate.result(0, 1)
        };
        let units: Vec<BigInt> = values.iter().map(|(text, ..)| units(text)).collect();
        let (count, unit) = (units.len(), ten_to(PLACES as i32));
        let sum: BigInt = units.iter().sum();
        prop_assert!(is_nearest_fraction(result(&SUM).unwrap(), &sum, &unit));
        prop_assert!(is_nearest_fraction(result(&AVG).unwrap(), &sum, &(&unit * count)));
        // Σ(x − mean)² / (n − 1), times n².
        let squares: BigInt = units.iter().map(|value| (value * count - &sum).pow(2)).sum();
        let scale: BigInt = unit.pow(2) * count * count * count.saturating_sub(1);
        match result(&STDDEV) {
            None => prop_assert_eq!(count, 1),
            Some(found) => prop_assert!(is_nearest_root(found, &squares, &scale), "{}", found),
        }
    }

    #[test]
    fn one_value_rounds_to_itself(value in finite()) {
        let (mut exact, mut squares) = (Exact::default(), Exact::default());
        exact.add(decimal::shortest(value));
        squares.add_square(decimal::shortest(value));
        prop_assert_eq!(exact.divided(1), value);
        let Total { mantissa, exponent } = squares.total();
        prop_assert_eq!(root(&mantissa, &BigInt::from(1), exponent), value.abs());
    }

    /// The bytes of version 1 are those of its code: digits in base 2^32, in units of 2^−unit.
    #[test]
    fn a_sum_of_version_1_keeps_its_value(
        digits in prop::collection::vec(any::<u32>(), 0..70), first in 0u64..70, is_negative in any::<bool>(), twice in any::<bool>(),
    ) {
        let unit = if twice { 2 * BINARY_UNIT } else { BINARY_UNIT };
        let mut bytes = vec![u8::from(is_negative)];
        put_u64(&mut bytes, first);
        put_u64(&mut bytes, digits.len() as u64);
        digits.iter().for_each(|digit| bytes.extend(digit.to_le_bytes()));
        let found = Exact::load_binary(&mut Reader::new(&bytes), unit).unwrap();
        let sum = BigInt::from(BigUint::new(digits)) << (32 * first);
        let sum = if is_negative { -sum } else { sum };
        prop_assert_eq!(whole(&found, -i64::from(LOWEST)) << unit, sum * ten_to(-LOWEST));
        prop_assert_eq!(saved(&Exact::load(&mut Reader::new(&saved(&found))).unwrap()), saved(&found));
    }
}

#[test]
fn the_limits_carry_before_they_overflow() {
    let greatest = Decimal { mantissa: 10i128.pow(38) - 1, exponent: 8 };
    let mut exact = Exact { additions: ADDITIONS_MAX - 2, ..Exact::default() };
    for _ in 0..5 {
        exact.add_long(greatest);
    }
    assert!(exact.additions < 20);
    let five = (ten_to(38) - 1) * ten_to(8) * 5;
    assert_eq!(whole(&exact, 0), five);
    let mut other = Exact { additions: ADDITIONS_MAX - 1, ..exact.clone() };
    other.merge(&exact);
    assert!(other.additions < 10);
    assert_eq!(whole(&other, 0), &five * 2);
    let mut negative = Exact::default();
    negative.add_long(Decimal { mantissa: -greatest.mantissa, ..greatest });
    (0..3).for_each(|_| negative.carry());
    assert_eq!(whole(&negative, 0) * 5, -five);
    // A limb holds the greatest parts up to a carry.
    let part = i128::from(i64::MAX) * 100_000_000;
    assert!(part.checked_mul(i128::from(ADDITIONS_MAX)).is_some());
}

#[test]
fn rounding_is_right_at_the_edges() {
    let two = |exponent: u32| BigUint::from(1u8) << exponent;
    let rounded = |numerator: i64, denominator: u64, exponent: i32| match u32::try_from(exponent) {
        Ok(exponent) => round(&(BigInt::from(numerator) << exponent), &denominator.into()),
        Err(_) => round(&numerator.into(), &(two(exponent.unsigned_abs()) * denominator)),
    };
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
    let root_of = |numerator: i64, exponent| root(&numerator.into(), &BigInt::from(1), exponent);
    assert_eq!(root_of(0, 0), 0.0);
    assert_eq!(root_of(2, 0), 2f64.sqrt());
    assert_eq!(root_of(4, 616), f64::INFINITY);
    assert_eq!(root_of(9, -646), 3e-323);
}

#[test]
fn a_few_values_of_one_magnitude_take_little_memory() {
    let mut exact = Exact::default();
    for value in [12.5, 99.99, 0.01, 1500.0, -3.0] {
        exact.add(decimal::shortest(value));
    }
    assert_eq!(exact.heap(), 16);
}
