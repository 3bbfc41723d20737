//! The evaluation against a naive one, which looks at all windows at every instant; what an answer warns of, and its
//! limit. That answers are those of Prometheus is a test of its own (tests/cli/promql.rs).

use super::answer::{AnswerSeries, AnswerValue};
use super::evaluate;
use crate::error::QueryErrorKind;
use crate::labels::LabelSet;
use crate::plan::Query;
use crate::range::QueryRange;
use crate::series::{WindowSeries, WindowValue};
use proptest::prelude::*;

fn series(name: &str, ends: &[i64], lookback: i64) -> WindowSeries {
    let windows = ends.iter().map(|end| WindowValue { end: *end, value: *end as f64 }).collect();
    WindowSeries { labels: LabelSet::new([("__name__", name)]), windows, lookback, not_additive: None }
}

fn answered(text: &str, range: QueryRange, series: &[WindowSeries]) -> Vec<AnswerSeries> {
    let query = Query::parse(text).unwrap();
    let of_selectors = vec![series.to_vec(); query.selections(&range).len()];
    match evaluate(&query, &range, &of_selectors, 1_000_000).unwrap().value {
        AnswerValue::Series(series) => series,
        AnswerValue::Scalar(values) => vec![AnswerSeries { labels: LabelSet::default(), values }],
    }
}

#[test]
fn each_series_has_a_lookback_of_its_own() {
    let [hourly, daily] = [series("hourly", &[3_600], 3_600), series("daily", &[3_600], 86_400)];
    let names = |at: i64| -> Vec<String> {
        let found = answered("{__name__=~'.+'}", QueryRange::instant(at), &[hourly.clone(), daily.clone()]);
        found.iter().map(|series| series.labels.value("__name__").to_owned()).collect()
    };
    assert_eq!(names(3_599), [""; 0]);
    assert_eq!(names(3_600), ["hourly", "daily"]);
    assert_eq!(names(7_199), ["hourly", "daily"]);
    assert_eq!(names(7_200), ["daily"]);
}

#[test]
fn what_has_no_sum_is_warned_of_and_only_where_it_is_added_up() {
    let average = WindowSeries { not_additive: Some("averages"), ..series("latency", &[10], 10) };
    let warnings = |text: &str| {
        let (query, range) = (Query::parse(text).unwrap(), QueryRange::instant(10));
        evaluate(&query, &range, &[vec![average.clone()]], 10).unwrap().warnings
    };
    assert_eq!(
        warnings("sum_over_time(latency[5m])"),
        ["sum_over_time adds up averages of latency, which has no meaning as a sum"]
    );
    assert_eq!(warnings("avg_over_time(latency[5m])"), [""; 0]);
}

#[test]
fn an_answer_has_a_limit() {
    let (query, range) = (Query::parse("m").unwrap(), QueryRange::new(0, 99, 1).unwrap());
    let windows = vec![vec![series("m", &(0..100).collect::<Vec<_>>(), 1)]];
    assert!(evaluate(&query, &range, &windows, 100).is_ok());
    let error = evaluate(&query, &range, &windows, 99).unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Execution);
    assert_eq!(error.to_string(), "the answer has more than 99 values; ask for fewer series or steps");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_instant_sees_the_windows_that_a_look_at_all_of_them_finds(
        gaps in prop::collection::vec(1..9i64, 0..40),
        (start, length, step) in (-20..120i64, 0..150i64, 1..17i64),
        (lookback, over, offset) in (1..12i64, 1..40i64, -9..9i64),
    ) {
        let ends: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
        let windows = [series("m", &ends, lookback)];
        let range = QueryRange::new(start, start + length, step).unwrap();
        let later = if offset == 0 { String::new() } else { format!(" offset {offset}ms") };
        let last = answered(&format!("m{later}"), range, &windows);
        let sum = answered(&format!("sum_over_time(m[{over}ms]{later})"), range, &windows);
        let within = |at: i64, length: i64| ends.iter().filter(move |end| **end > at - offset - length && **end <= at - offset);
        let found = |series: &[AnswerSeries]| -> Vec<(i64, f64)> {
            series.iter().flat_map(|series| series.values.iter().map(|value| (value.at, value.value))).collect()
        };
        let expected: Vec<_> = range.steps().filter_map(|at| Some((at, *within(at, lookback).next_back()? as f64))).collect();
        prop_assert_eq!(found(&last), expected);
        let sums = range.steps().filter(|at| within(*at, over).next().is_some());
        let expected: Vec<_> = sums.map(|at| (at, within(at, over).sum::<i64>() as f64)).collect();
        prop_assert_eq!(found(&sum), expected);
    }
}
