//! Tests the result of each aggregate, and its syntax.

use super::*;
use crate::error::ErrorKind;
use crate::kind::Kind;
use arrow::array::ArrayRef;
use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray};
use std::sync::Arc;

const MINUTE: i64 = crate::time::MINUTE;

fn called(text: &str) -> (Leaves, AggregateCall) {
    let mut leaves = Leaves::new(&Kind::Event.schema());
    let call = parse(text, &mut leaves).unwrap_or_else(|error| panic!("{text}: {error}"));
    (leaves, call)
}

fn refusal(text: &str) -> String {
    let error = parse(text, &mut Leaves::new(&Kind::Event.schema())).expect_err(text);
    assert_eq!(error.kind(), ErrorKind::Config);
    error.to_string()
}

/// Returns the result over these argument columns, all rows in one slot.
fn result(text: &str, args: &[ArrayRef]) -> Option<f64> {
    let mut aggregate = called(text).1.create();
    aggregate.ensure(1);
    let rows: Vec<u32> = (0..args[0].len() as u32).collect();
    aggregate.add(&vec![0; rows.len()], &rows, args);
    aggregate.result(0, MINUTE)
}

fn numbers(values: &[Option<f64>]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn of(text: &str, values: &[f64]) -> Option<f64> {
    result(text, &[numbers(&values.iter().copied().map(Some).collect::<Vec<_>>())])
}

fn same(found: Option<f64>, expected: f64) -> bool {
    found.is_some_and(|found| found.to_bits() == expected.to_bits())
}

#[test]
fn nulls_are_skipped_and_nothing_but_nulls_is_null() {
    let some = [numbers(&[None, Some(3.0), None, Some(5.0)])];
    let none = [numbers(&[None, None])];
    for (text, expected) in
        [("sum(x)", 8.0), ("avg(x)", 4.0), ("min(x)", 3.0), ("max(x)", 5.0), ("stddev(x)", 2.0f64.sqrt())]
    {
        assert_eq!(result(text, &some), Some(expected), "{text}");
        assert_eq!(result(text, &none), None, "{text}");
    }
    assert_eq!(result("approx_percentile(x, 0)", &some).map(f64::round), Some(3.0));
    assert_eq!(result("approx_percentile(x, 0)", &none), None);
    assert_eq!(result("count(x)", &some), Some(2.0));
    assert_eq!(result("count(x)", &none), Some(0.0));
    assert_eq!(result("rate(x)", &some), Some(2.0 / 60.0));
    assert_eq!(of("stddev(x)", &[7.0]), None);
}

#[test]
fn a_sum_is_exact_where_doubles_are_not() {
    assert_eq!(of("sum(x)", &[1e100, 1.0, -1e100]), Some(1.0));
    assert_eq!(of("sum(x)", &[0.1; 10]), Some(1.0));
    assert_eq!(of("avg(x)", &[f64::MAX, f64::MAX]), Some(f64::MAX));
    assert_eq!(of("sum(x)", &[f64::MAX, f64::MAX]), Some(f64::INFINITY));
    assert_eq!(of("sum(x)", &[f64::MAX, f64::MAX, -f64::MAX]), Some(f64::MAX));
    assert_eq!(of("stddev(x)", &[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]), Some(30.0f64.sqrt()));
    assert_eq!(of("stddev(x)", &[1e200, -1e200]), Some(1e200 * 2.0f64.sqrt()));
    assert_eq!(of("stddev(x)", &[0.1; 1000]), Some(0.0));
}

/// Returns the result over properties of one name, as JSON texts.
fn of_written(text: &str, values: &[&str]) -> Option<f64> {
    let (leaves, call) = called(text);
    let properties: Vec<String> = values.iter().map(|value| format!(r#"{{"ok":true,"x":{value}}}"#)).collect();
    let batch = crate::test_events::events(&properties.iter().map(String::as_str).collect::<Vec<_>>());
    let batch = crate::expr::LeafBatch::read(&leaves, &batch).unwrap();
    let args: Vec<ArrayRef> = call.args().iter().map(|arg| arg.eval(&batch).unwrap()).collect();
    assert!(call.args().iter().all(|arg| arg.wrong(&batch).next().is_none()), "{text}: {values:?}");
    let mut aggregate = call.create();
    aggregate.ensure(1);
    let rows: Vec<u32> = (0..values.len() as u32).collect();
    aggregate.add(&vec![0; rows.len()], &rows, &args);
    aggregate.result(0, MINUTE)
}

#[test]
fn a_sum_is_of_decimals() {
    assert_eq!(of("sum(x)", &[0.1, 0.2]), Some(0.3));
    assert_eq!(of("avg(x)", &[0.1, 0.1, 0.7]), Some(0.3));
    assert_eq!(of("sum(x)", &[1e22, 0.1, -1e22]), Some(0.1));
    assert_eq!(of("stddev(x)", &[0.1, 0.3]), Some(0.02f64.sqrt()));
    let large = ["9007199254740993", "1"];
    let long = ["0.1000000000000000055511151", "-0.1"];
    for (text, values, expected) in [
        ("sum(x)", &["0.10", "0.20"][..], Some(0.3)),
        ("sum(x)", &["0.10", "\"0.20\""], Some(0.3)),
        ("avg(x)", &["0.10", "null", "0.20"], Some(0.15)),
        ("sum(x)", &large, Some(9_007_199_254_740_994.0)),
        ("sum(x)", &["\" 9007199254740993\"", "\"+1.\""], Some(9_007_199_254_740_994.0)),
        ("sum(coalesce(x, 0))", &large, Some(9_007_199_254_740_994.0)),
        ("sum(case when ok then x else 0.5 end)", &large, Some(9_007_199_254_740_994.0)),
        ("sum(x) filter (where ok)", &large, Some(9_007_199_254_740_994.0)),
        // What is computed or cast is a double, and 9007199254740992 its shortest text;
        // the sum with 1 is a tie.
        ("sum(x * 1)", &large, Some(9_007_199_254_740_992.0)),
        ("sum(cast(x as double))", &large, Some(9_007_199_254_740_992.0)),
        ("sum(try_cast(x as double))", &large, Some(9_007_199_254_740_992.0)),
        ("sum(x * 3)", &["0.1", "0.2"], Some(0.900_000_000_000_000_1)),
        ("sum(x)", &long, Some(5.551_115_1e-18)),
        ("sum(cast(x as double))", &long, Some(0.0)),
        ("avg(x)", &long, Some(2.775_557_55e-18)),
        ("max(x)", &long, Some(0.1)),
        // Beyond 38 digits a number is the shortest text of its double.
        ("sum(x)", &["0.1000000000000000000000000000000000000001", "-0.1"], Some(0.0)),
        ("sum(x)", &["0.10000000000000000000000000000000000001", "-0.1"], Some(1e-38)),
        ("sum(x)", &["9007199254740992", "1", "1e-400"], Some(9_007_199_254_740_994.0)),
        ("sum(x)", &["9007199254740993"; 2], Some(18_014_398_509_481_986.0)),
        ("sum(x)", &["9007199254740992", "1"], Some(9_007_199_254_740_992.0)),
        ("stddev(x)", &["9007199254740993", "9007199254740995"], Some(2f64.sqrt())),
        ("stddev(x)", &["123456789012345678901234567.5", "123456789012345678901234568.5"], Some(0.5f64.sqrt())),
    ] {
        assert_eq!(of_written(text, values), expected, "{text}: {values:?}");
    }
}

/// What version 1 saved of 0.1 and 0.2, doubles: their sum is a tie between two doubles.
#[test]
fn a_sum_of_version_1_is_continued() {
    let mut aggregate = called("sum(x)").1.create();
    aggregate.ensure(2);
    let mut bytes = vec![1];
    bytes.extend(2u64.to_le_bytes());
    bytes.extend([0, 0]);
    // (0.1 + 0.2) · 2^1074 is 3 · 3602879701896397 · 2^1019, and 1019 is 31 · 32 + 27.
    let digits = (3 * 3_602_879_701_896_397u128) << 27;
    bytes.extend(31u64.to_le_bytes());
    bytes.extend(3u64.to_le_bytes());
    bytes.extend(&digits.to_le_bytes()[..12]);
    aggregate.load(0, &bytes).unwrap();
    assert_eq!(aggregate.result(0, MINUTE), Some(0.1 + 0.2));
    aggregate.add(&[0, 1], &[0, 0], &[numbers(&[Some(0.3)])]);
    aggregate.merge(1, 0);
    assert_eq!(aggregate.result(0, MINUTE), Some(0.6));
    assert_eq!(aggregate.result(1, MINUTE), Some(0.9));
}

#[test]
fn infinities_and_nan_have_their_own_rules() {
    let (up, down, nan) = (f64::INFINITY, f64::NEG_INFINITY, f64::NAN);
    for text in ["sum(x)", "avg(x)"] {
        assert_eq!(of(text, &[1.0, up]), Some(up));
        assert_eq!(of(text, &[down, f64::MAX]), Some(down));
        assert!(same(of(text, &[up, down]), nan));
        assert!(same(of(text, &[1.0, nan]), nan));
    }
    assert!(same(of("stddev(x)", &[1.0, 2.0, up]), nan));
    assert_eq!(of("min(x)", &[nan, 1.0, down]), Some(down));
    assert!(same(of("max(x)", &[nan, 1.0, up]), nan));
    assert!(same(of("min(x)", &[0.0, -0.0]), -0.0), "totalOrder puts -0 before 0");
    let all = [nan, up, 5.0, 0.0, -5.0, down];
    assert_eq!(of("approx_percentile(x, 0)", &all), Some(down));
    assert_eq!(of("approx_percentile(x, 0.4)", &all), Some(0.0));
    assert_eq!(of("approx_percentile(x, 0.8)", &all), Some(up));
    assert!(same(of("approx_percentile(x, 1)", &all), nan));
}

#[test]
fn first_and_last_go_by_time_then_id_then_text() {
    let text = |values: [&str; 5]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let values = [Some(9.0), Some(10.0), None, Some(7.0), Some(8.0)];
    let args = |times: [i64; 5], ids: [&str; 5]| -> Vec<ArrayRef> {
        vec![numbers(&values), Arc::new(Int64Array::from(times.to_vec())), text(ids), text(["9", "10", "", "7", "8"])]
    };
    for (times, ids, first, last) in [
        ([5, 4, 0, 6, 7], ["a"; 5], 10.0, 8.0),
        ([5, 5, 0, 5, 5], ["b", "c", "a", "d", "a"], 8.0, 7.0),
        // Texts are not numbers: 10 is before 9.
        ([5; 5], ["a"; 5], 10.0, 9.0),
    ] {
        let args = args(times, ids);
        assert_eq!(
            (result("first(x)", &args), result("last(x)", &args)),
            (Some(first), Some(last)),
            "{times:?} {ids:?}"
        );
    }
    let nothing: Vec<ArrayRef> = args([1; 5], ["a"; 5]).iter().map(|column| column.slice(2, 1)).collect();
    assert_eq!(result("last(x)", &nothing), None);
}

#[test]
fn distinct_texts_are_counted_up_to_the_maximum() {
    let texts = |range: std::ops::Range<usize>| -> Vec<ArrayRef> {
        vec![Arc::new(range.map(|at| Some((at / 2).to_string())).collect::<StringArray>())]
    };
    assert_eq!(result("count_distinct(x)", &texts(0..0)), Some(0.0));
    assert_eq!(result("count(distinct x)", &texts(0..7)), Some(4.0));
    assert_eq!(result("count(distinct x)", &texts(0..2 * TEXTS_MAX)), Some(TEXTS_MAX as f64));
    assert_eq!(result("count(distinct x)", &texts(0..2 * TEXTS_MAX + 1)), None);
    let mut aggregate = called("count(distinct x)").1.create();
    aggregate.ensure(3);
    let (first, second) = (texts(0..2 * TEXTS_MAX), texts(2..2 * TEXTS_MAX + 1));
    let add = |aggregate: &mut dyn Aggregate, slot, args: &[ArrayRef]| {
        let rows: Vec<u32> = (0..args[0].len() as u32).collect();
        aggregate.add(&vec![slot; rows.len()], &rows, args);
    };
    add(&mut *aggregate, 0, &first);
    add(&mut *aggregate, 1, &second);
    aggregate.merge(0, 1);
    assert_eq!(aggregate.result(0, MINUTE), None, "the union has one more");
    let mut saved = vec![];
    aggregate.save(0, &mut saved);
    aggregate.load(2, &saved).unwrap();
    aggregate.merge(1, 2);
    assert_eq!((aggregate.result(1, MINUTE), aggregate.size(1) < 100), (None, true));
}

#[test]
fn a_ratio_counts_the_rows_of_each_condition_by_itself() {
    let truths = |values: &[Option<bool>]| -> ArrayRef { Arc::new(BooleanArray::from(values.to_vec())) };
    let cond = truths(&[Some(true), Some(false), None, Some(true), Some(true)]);
    let of = truths(&[Some(true), Some(true), Some(true), None, Some(false)]);
    let none = truths(&[Some(false), None, None, None, None]);
    assert_eq!(result("ratio(a, b)", &[cond.clone(), of]), Some(3.0 / 3.0));
    let views = truths(&[Some(false), Some(true), Some(true), Some(true), Some(false)]);
    let purchases = truths(&[Some(true), Some(false), None, Some(false), Some(false)]);
    assert_eq!(result("ratio(a, b)", &[purchases, views]), Some(1.0 / 3.0));
    assert_eq!(result("ratio(a, b)", &[cond, none]), None);
}

#[test]
fn a_rate_is_a_count_per_second_of_window() {
    let mut aggregate = called("rate(*)").1.create();
    aggregate.ensure(1);
    aggregate.add(&[0, 0, 0], &[0, 1, 2], &[]);
    assert_eq!(aggregate.result(0, MINUTE), Some(0.05));
    assert_eq!(aggregate.result(0, 0), None);
}

#[test]
fn rows_go_to_their_slots_and_a_cleared_slot_is_empty() {
    for definition in ALL {
        let text = format!("{}(x{})", definition.name, if definition.quantile { ", 0.5" } else { "" });
        let mut aggregate = called(&text).1.create();
        aggregate.ensure(3);
        let mut empty = vec![];
        aggregate.save(1, &mut empty);
        aggregate.add(&[2, 0], &[0, 1], &law_tests::arguments(definition, &[Some(1.0), Some(2.0)]));
        let saved = |aggregate: &dyn Aggregate, slot| {
            let mut out = vec![];
            aggregate.save(slot, &mut out);
            out
        };
        assert_eq!(saved(&*aggregate, 1), empty, "{text}");
        assert_ne!(saved(&*aggregate, 2), empty, "{text}");
        aggregate.clear(2);
        assert_eq!(saved(&*aggregate, 2), empty, "{text}");
        assert!(aggregate.size(0) >= aggregate.size(2));
        assert!(aggregate.size(0) < 256, "{text} holds {} bytes for one value", aggregate.size(0));
    }
}

#[test]
fn calls_say_what_they_take() {
    let (leaves, call) = called("count( * )");
    assert!(leaves.is_empty() && call.args().is_empty());
    assert_eq!(call.text(), "count(*)");
    assert_eq!(call.definition().name, "count");
    assert_eq!(called("SUM(price * qty)").1.args().len(), 1);
    assert_eq!(called("ratio(status >= 500, path like '/api%')").1.text(), "ratio(status>=500,path like'/api%')");
    assert_eq!(called("ratio(status >= 500)").1.args().len(), 2);
    let names: Vec<_> = ALL.iter().map(|aggregate| aggregate.name).collect();
    let unknown = format!("unknown aggregate frob; expected one of {}", names.join(" "));
    for (text, part) in [
        ("frob(x)", unknown.as_str()),
        ("sum(*)", "expected sum(x)"),
        ("sum()", "expected sum(x)"),
        ("sum(a, b)", "expected sum(x)"),
        ("approx_percentile(x)", "with q from 0 to 1"),
        ("approx_percentile(x, 99)", "with q from 0 to 1"),
        ("approx_percentile(x, y)", "with q from 0 to 1"),
        ("ratio(a, b, c)", "expected ratio(COND)"),
        ("sum(distinct x)", "count(distinct x) counts distinct values"),
        ("first(x, y)", "expected first(x)"),
        ("sum(event_type)", "use cast(event_type as double)"),
        ("sum(x) over (partition by y)", "arguments and filter"),
        ("sum(x) + 1", "expected one aggregate call"),
        ("min(event_time)", "use cast(event_time as double)"),
    ] {
        let message = refusal(text);
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn a_filter_leaves_out_rows_as_in_sql() {
    for (text, expected) in [
        ("count(*) filter (where ok)", Some(2.0)),
        ("count(x) filter (where ok)", Some(1.0)),
        ("sum(x) filter (where ok)", Some(3.0)),
        ("ratio(x > 2) filter (where ok)", Some(0.5)),
        ("ratio(x > 2, x > 1) filter (where ok)", Some(1.0)),
        ("approx_distinct(x) filter (where not ok)", Some(1.0)),
        ("count(distinct x) filter (where ok)", Some(1.0)),
        ("last(x) filter (where ok)", Some(3.0)),
    ] {
        let (leaves, call) = called(text);
        let batch = crate::test_events::events(&[
            r#"{"ok":true,"x":3}"#,
            r#"{"ok":true}"#,
            r#"{"ok":false,"x":5}"#,
            r#"{"x":7}"#,
        ]);
        let batch = crate::expr::LeafBatch::read(&leaves, &batch).unwrap();
        let args: Vec<ArrayRef> = call.args().iter().map(|arg| arg.eval(&batch).unwrap()).collect();
        let mut aggregate = call.create();
        aggregate.ensure(1);
        aggregate.add(&[0; 4], &[0, 1, 2, 3], &args);
        assert_eq!(aggregate.result(0, MINUTE), expected, "{text}");
    }
}

#[test]
fn what_is_no_saved_form_is_refused_and_changes_nothing() {
    for definition in ALL {
        let mut aggregate = (definition.create)(0.5);
        aggregate.ensure(1);
        let mut saved = vec![];
        aggregate.save(0, &mut saved);
        let mut other_version = saved.clone();
        other_version[0] = 9;
        let mut longer = saved.clone();
        longer.extend([0; 3]);
        for bytes in [&other_version, &longer, &vec![]] {
            let error = aggregate.load(0, bytes).expect_err(definition.name);
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        for end in 1..saved.len() {
            assert!(aggregate.load(0, &saved[..end]).is_err(), "{} cut at {end}", definition.name);
        }
    }
    let mut distinct = (distinct::APPROX_DISTINCT.create)(0.0);
    distinct.ensure(1);
    for bytes in [[5, 0, 0, 0], [54, 1, 0, 0], [1, 0, 16, 0], [0, 1, 0, 0]] {
        let right = bytes[0] == 5;
        let saved: Vec<u8> = std::iter::once(states::VERSION).chain(bytes).collect();
        assert_eq!(distinct.load(0, &saved).is_ok(), right, "{bytes:?}");
    }
}

#[test]
fn every_aggregate_has_a_name_of_its_own_says_what_it_does_and_has_expected_results() {
    for (at, definition) in ALL.iter().enumerate() {
        let Definition { name, usage, about, .. } = definition;
        assert!(usage.starts_with(name));
        assert!(!about.is_empty());
        assert!(ALL[at + 1..].iter().all(|other| other.name != *name));
        assert_eq!(called(&definition.example("x")).1.definition().name, *name);
        let is_tested = include_str!("tests.rs").contains(&format!("\"{name}("));
        assert!(is_tested, "crates/core/src/op/aggregate/tests.rs has no expected result of {name}");
    }
}
