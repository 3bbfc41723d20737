//! Tests the laws of all aggregates with values chosen to break them.

use super::*;
use crate::expr::ValueKind;
use crate::expr::Want;
use arrow::array::ArrayRef;
use arrow::array::{Array, AsArray, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::Float64Type;
use proptest::prelude::*;
use std::sync::Arc;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_algorithm: prop::test_runner::RngAlgorithm::ChaCha,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        Just(None),
        (-20i32..20).prop_map(|value| Some(f64::from(value))),
        any::<f64>().prop_map(Some),
        any::<u64>().prop_map(|bits| Some(f64::from_bits(bits)).filter(|value| !value.is_nan())),
        prop_oneof![Just(1e300), Just(-1e300), Just(5e-324), Just(f64::MAX), Just(0.1)].prop_map(Some),
        prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)].prop_map(Some),
    ]
}

/// Makes arguments of the types that an aggregate takes from numbers.
pub(super) fn arguments(definition: &Definition, values: &[Option<f64>]) -> Vec<ArrayRef> {
    let argument = |(at, want): (usize, &Want)| -> ArrayRef {
        match want {
            Want::Kind(ValueKind::Bool) => {
                let truth = |value: f64| value.to_bits() >> at & 1 == 0;
                Arc::new(values.iter().map(|value| value.map(truth)).collect::<BooleanArray>())
            }
            Want::Kind(ValueKind::Time) => {
                // Many instants and ids are equal, so that later columns decide.
                let instant = |value: f64| (value.to_bits() >> 52) as i64 % 3;
                Arc::new(values.iter().map(|value| value.map(instant)).collect::<Int64Array>())
            }
            Want::Kind(ValueKind::Text) => {
                let id = |value: f64| (value.to_bits() % 3).to_string();
                Arc::new(values.iter().map(|value| value.map(id)).collect::<StringArray>())
            }
            Want::AsText => {
                Arc::new(values.iter().map(|value| value.map(|value| value.to_string())).collect::<StringArray>())
            }
            _ => Arc::new(Float64Array::from(values.to_vec())),
        }
    };
    definition.args.iter().enumerate().map(argument).collect()
}

fn saved(aggregate: &dyn Aggregate, slot: u32) -> Vec<u8> {
    let mut out = vec![];
    aggregate.save(slot, &mut out);
    out
}

/// Returns the saved form and the bits of the result.
fn state(aggregate: &dyn Aggregate, slot: u32) -> (Vec<u8>, Option<u64>) {
    (saved(aggregate, slot), aggregate.result(slot, 60_000_000).map(f64::to_bits))
}

/// Returns the state of all rows in one slot.
fn whole(definition: &Definition, values: &[Option<f64>]) -> (Vec<u8>, Option<u64>) {
    let mut aggregate = (definition.create)(0.9);
    aggregate.ensure(1);
    let rows: Vec<u32> = (0..values.len() as u32).collect();
    aggregate.add(&vec![0; rows.len()], &rows, &arguments(definition, values));
    state(&*aggregate, 0)
}

proptest! {
    #![proptest_config(config(150))]

    /// Any split into slots, added in any order, merged in any tree, saved and loaded anywhere equals one slot with all
    /// rows, bit for bit.
    #[test]
    fn a_split_merged_again_is_the_whole(
        values in prop::collection::vec((value(), 0u32..4), 0..60), shuffle in any::<u64>(), left in any::<bool>(),
    ) {
        let numbers: Vec<Option<f64>> = values.iter().map(|(value, _)| *value).collect();
        for definition in ALL {
            let args = arguments(definition, &numbers);
            let mut aggregate = (definition.create)(0.9);
            aggregate.ensure(5);
            let mut rows: Vec<u32> = (0..values.len() as u32).collect();
            rows.sort_by_key(|row| u64::from(*row).wrapping_mul(shuffle | 1).rotate_left(17));
            for part in rows.chunks(7) {
                let slots: Vec<u32> = part.iter().map(|row| values[*row as usize].1).collect();
                aggregate.add(&slots, part, &args);
            }
            for slot in 0..4 {
                let before = state(&*aggregate, slot);
                aggregate.load(4, &before.0).unwrap();
                prop_assert_eq!(&before, &state(&*aggregate, 4), "{} loaded", definition.name);
                aggregate.clear(slot);
                aggregate.merge(slot, 4);
                prop_assert_eq!(&before, &state(&*aggregate, slot), "{} merged into nothing", definition.name);
            }
            let pairs: [(u32, u32); 3] = if left { [(0, 1), (0, 2), (0, 3)] } else { [(2, 3), (1, 2), (0, 1)] };
            pairs.iter().for_each(|(into, from)| aggregate.merge(*into, *from));
            prop_assert_eq!(state(&*aggregate, 0), whole(definition, &numbers), "{}", definition.name);
        }
    }

    #[test]
    fn a_merge_gives_the_same_both_ways(
        a in prop::collection::vec(value(), 0..30), b in prop::collection::vec(value(), 0..30),
    ) {
        for definition in ALL {
            let mut states = vec![];
            for (first, second) in [(&a, &b), (&b, &a)] {
                let mut aggregate = (definition.create)(0.5);
                aggregate.ensure(2);
                for (slot, values) in [(0, first), (1, second)] {
                    let rows: Vec<u32> = (0..values.len() as u32).collect();
                    aggregate.add(&vec![slot; rows.len()], &rows, &arguments(definition, values));
                }
                aggregate.merge(0, 1);
                states.push(state(&*aggregate, 0));
            }
            prop_assert_eq!(&states[0], &states[1], "{}", definition.name);
        }
    }

    #[test]
    fn a_percentile_is_within_one_percent_of_the_value_at_its_rank(
        values in prop::collection::vec(value(), 1..200), q in 0u32..=1000, decimals in 0u32..4,
    ) {
        let scale = 10u32.pow(decimals);
        percentile_holds(&values, q % (scale + 1), scale)?;
    }
}

/// Checks a percentile against the naive model: of n sorted values the one of rank max(1, ⌈part · n / whole⌉), in
/// integers.
fn percentile_holds(values: &[Option<f64>], part: u32, whole: u32) -> Result<(), TestCaseError> {
    let q = f64::from(part) / f64::from(whole);
    let mut sorted: Vec<f64> = values.iter().flatten().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let mut aggregate = (percentile::APPROX_PERCENTILE.create)(q);
    aggregate.ensure(1);
    let rows: Vec<u32> = (0..values.len() as u32).collect();
    aggregate.add(&vec![0; rows.len()], &rows, &arguments(&percentile::APPROX_PERCENTILE, values));
    let found = aggregate.result(0, 1);
    if sorted.is_empty() {
        prop_assert_eq!(found, None);
        return Ok(());
    }
    let rank = (part as usize * sorted.len()).div_ceil(whole as usize).max(1);
    let exact = sorted[rank - 1];
    let found = found.unwrap_or(0.0);
    let right = if exact.is_finite() {
        (found - exact).abs() <= exact.abs() * 0.01
    } else {
        found.to_bits() == exact.to_bits()
    };
    prop_assert!(right, "found {} for {} at {}", found, exact, q);
    Ok(())
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn a_double_is_its_shortest_text(values in prop::collection::vec(value(), 0..60)) {
        for definition in [&sum::SUM, &sum::AVG, &stddev::STDDEV] {
            let text = |value: f64| if value.is_finite() { format!("{value:e}") } else { value.to_string() };
            let texts: ArrayRef = Arc::new(values.iter().map(|value| value.map(text)).collect::<StringArray>());
            let mut aggregate = (definition.create)(0.0);
            aggregate.ensure(1);
            let rows: Vec<u32> = (0..values.len() as u32).collect();
            aggregate.add(&vec![0; rows.len()], &rows, &[texts]);
            prop_assert_eq!(state(&*aggregate, 0), whole(definition, &values), "{}", definition.name);
        }
    }
}

#[test]
fn percentiles_hold_on_sorted_constant_huge_and_tiny_values() {
    let shapes: [Vec<f64>; 7] = [
        (0..5000).map(f64::from).collect(),
        (0..5000).rev().map(f64::from).collect(),
        vec![0.1; 5000],
        (0..2000).map(|n| 1.5f64.powi(n - 1000)).collect(),
        (0..2000).map(|n| -(1.3f64.powi(n - 1000))).collect(),
        (1..3000).map(f64::from_bits).collect(),
        vec![f64::MAX, -f64::MAX, f64::MIN_POSITIVE, 0.0, 5e-324, -5e-324],
    ];
    for shape in shapes {
        let values: Vec<Option<f64>> = shape.into_iter().map(Some).collect();
        for part in [0, 1, 250, 290, 500, 750, 900, 990, 999, 1000] {
            percentile_holds(&values, part, 1000).unwrap();
        }
    }
}

fn distinct_of(texts: impl Iterator<Item = String>) -> f64 {
    let mut aggregate = (distinct::APPROX_DISTINCT.create)(0.0);
    aggregate.ensure(1);
    let texts: Vec<String> = texts.collect();
    for chunk in texts.chunks(1000) {
        let rows: Vec<u32> = (0..chunk.len() as u32).collect();
        let array: ArrayRef = Arc::new(StringArray::from_iter_values(chunk));
        aggregate.add(&vec![0; rows.len()], &rows, &[array]);
    }
    aggregate.result(0, 1).unwrap_or(f64::NAN)
}

#[test]
fn distinct_counts_are_within_three_standard_errors_at_every_size() {
    assert_eq!(distinct_of(std::iter::empty()), 0.0);
    assert_eq!(distinct_of(std::iter::repeat_n("same".to_owned(), 5000)), 1.0);
    for size in [1u32, 2, 10, 100, 500, 1000, 1024, 2000, 5000, 10_000, 50_000, 200_000] {
        for shape in ["", "user-", "https://example.org/a/very/long/path/that/never/ends/"] {
            let found = distinct_of((0..size).chain(0..size / 2).map(|n| format!("{shape}{n}")));
            let error = (found / f64::from(size) - 1.0).abs();
            assert!(error <= 3.0 * 1.04 / 64.0, "{found} for {size} of '{shape}'");
            assert!(size > 10 || found == f64::from(size), "{found} for {size}");
        }
    }
}

#[test]
fn distinct_is_one_state_whether_it_grew_dense_by_values_or_by_merges() {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..3000).map(|n| n.to_string())));
    let mut aggregate = (distinct::APPROX_DISTINCT.create)(0.0);
    aggregate.ensure(4);
    let rows: Vec<u32> = (0..3000).collect();
    aggregate.add(&[0; 3000], &rows, std::slice::from_ref(&texts));
    let slots: Vec<u32> = rows.iter().map(|row| 1 + row % 3).collect();
    aggregate.add(&slots, &rows, &[texts]);
    assert!(saved(&*aggregate, 1).len() < 4096);
    aggregate.merge(1, 2);
    aggregate.merge(1, 3);
    assert_eq!(state(&*aggregate, 0), state(&*aggregate, 1));
    assert_eq!(saved(&*aggregate, 0).len(), 1 + 4096);
    aggregate.merge(2, 0);
    assert_eq!(state(&*aggregate, 2), state(&*aggregate, 0), "a dense state into a sparse one");
    let before = state(&*aggregate, 0);
    aggregate.load(3, &before.0).unwrap();
    assert_eq!(state(&*aggregate, 3), before);
}

#[test]
fn nulls_of_the_arguments_count_for_nothing() {
    let values = [Some(1.0), None, Some(-7.5), None, None, Some(1e300)];
    let present: Vec<Option<f64>> = values.iter().copied().filter(Option::is_some).collect();
    for definition in ALL {
        assert_eq!(whole(definition, &values), whole(definition, &present), "{}", definition.name);
        let args = arguments(definition, &values);
        assert!(args.iter().all(|arg| arg.null_count() == 3));
    }
    assert_eq!(arguments(&sum::SUM, &values)[0].as_primitive::<Float64Type>().len(), 6);
}
