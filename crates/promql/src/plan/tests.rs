//! What is refused, and how; and text that is no query.

use super::Query;
use proptest::prelude::*;

/// Queries that are refused, with the words that say why.
const REFUSED: [[&str; 2]; 25] = [
    ["rate(m[5m])", "the sum per second is sum_over_time(m[5m]) / 300"],
    ["increase(m[5m])", "increase is for counters that only grow"],
    ["irate(m[5m])", "irate is for counters that only grow"],
    ["delta(m[5m])", "delta is for counters that only grow"],
    ["histogram_quantile(0.9, m)", "the function histogram_quantile is not supported here"],
    ["label_replace(m, \"a\", \"$1\", \"b\", \"(.*)\")", "the function label_replace is not supported here"],
    ["predict_linear(m[5m], 60)", "the function predict_linear is not supported here"],
    ["timestamp(m)", "the function timestamp is not supported here"],
    ["quantile(0.5, m)", "the aggregation quantile is not supported here"],
    ["stddev(m)", "the aggregation stddev is not supported here"],
    ["count_values(\"v\", m)", "the aggregation count_values is not supported here"],
    ["a and b", "the operator and is not supported here"],
    ["a or b", "the operator or is not supported here"],
    ["a unless b", "the operator unless is not supported here"],
    ["a atan2 b", "the operator atan2 is not supported here"],
    ["a * on (x) group_left b", "group_left is not supported here"],
    ["a * on (x) group_right b", "group_right is not supported here"],
    ["sum_over_time(m[5m:1m])", "a subquery is not supported here"],
    ["m[5m]", "is the argument of a function: sum_over_time(m[5m])"],
    ["\"text\"", "a text as a query is not supported here"],
    ["1 > 2", "comparisons between scalars must use BOOL modifier"],
    ["m{a=~\"(\"}", "illegal regex"],
    ["{}", "at least one non-empty matcher"],
    ["sum(", "parse error: "],
    ["", "parse error: "],
];

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for [text, why] in REFUSED {
        let error = Query::parse(text).map(drop).unwrap_err();
        assert_eq!(error.kind(), crate::error::QueryErrorKind::BadData);
        assert!(error.to_string().contains(why), "{text}: {error}");
    }
}

#[test]
fn a_query_that_is_too_long_or_too_deep_is_refused() {
    for text in [
        "(".repeat(3_000),
        "-".repeat(3_000),
        "abs(".repeat(3_000),
        format!("m{}", "+m".repeat(5_000)),
        "m".repeat(20_000),
    ] {
        let error = Query::parse(&text).map(drop).unwrap_err().to_string();
        let is_known = ["nested too deeply", "expected a query of at most"].iter().any(|known| error.contains(known));
        assert!(is_known, "{error}");
    }
    assert!(Query::parse(&format!("m{}", "+m".repeat(90))).is_ok());
}

const WORDS: [&str; 40] = [
    "m",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "5m",
    "sum",
    "by",
    "without",
    "on",
    "ignoring",
    "bool",
    "offset",
    "@",
    "1",
    "-",
    "+",
    "*",
    "/",
    "%",
    "^",
    "==",
    "<",
    ">",
    "=~",
    "!=",
    "\"a\"",
    ",",
    "topk",
    "sum_over_time",
    "abs",
    "scalar",
    "start",
    "a",
    "=",
    "'",
    "é",
    " ",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(words in prop::collection::vec(0..WORDS.len(), 0..25), text in ".{0,40}") {
        let words: Vec<&str> = words.iter().map(|word| WORDS[*word]).collect();
        let _ = Query::parse(&words.join(" "));
        let _ = Query::parse(&words.concat());
        let _ = Query::parse(&text);
    }
}
