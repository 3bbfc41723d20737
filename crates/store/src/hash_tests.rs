//! The hash of an event's content and the comparison of stored events agree on what is the same.

use super::repeat::is_same_json;
use evt_core::reconcile::content::of_json;
use proptest::prelude::*;

#[test]
fn json_is_the_same_in_another_order_and_spelling() {
    for (left, right, same) in [
        (r#"{"a":1,"b":[1.50,"x"]}"#, r#"{ "b": [1.5, "\u0078"], "a": 1.0 }"#, true),
        (r#"{"a":1}"#, r#"{"a":2}"#, false),
        (r#"{"a":1}"#, r#"{"a":1,"b":null}"#, false),
        (r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#, false),
        (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#, false),
        (r#"{"a":[[1],2]}"#, r#"{"a":[1,[2]]}"#, false),
        (r#"{"a":[]}"#, r#"{"a":{}}"#, false),
        (r#"{"a":"1"}"#, r#"{"a":1}"#, false),
        (r#"{"a":"b"}"#, r#"{"b":"a"}"#, false),
        (r#"{"a":18446744073709551616}"#, r#"{"a":18446744073709551617}"#, false),
        (r#"{"a":0.1}"#, r#"{"a":0.10000000000000000001}"#, false),
        (r#"{"a":1e-400}"#, r#"{"a":0}"#, false),
        (r#"{"a":1e400}"#, r#"{"a":10e399}"#, true),
        (r#"{"a":-0.0}"#, r#"{"a":0}"#, true),
        (r#"{"a":120}"#, r#"{"a":1.2E+2}"#, true),
        (r#"{"a":0.00120}"#, r#"{"a":1.2e-3}"#, true),
        (r#"{"a":-1}"#, r#"{"a":1}"#, false),
        (r#"{"a":10}"#, r#"{"a":1}"#, false),
        (r#"{"a":true}"#, r#"{"a":false}"#, false),
        (r#"{"a":{"b":1},"c":2}"#, r#"{"a":{"b":2},"c":1}"#, false),
    ] {
        assert_eq!(of_json(left, 7) == of_json(right, 7), same, "{left} {right}");
        assert_eq!(is_same_json(left, right), same, "the store's comparison: {left} {right}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn numbers_are_hashed_as_the_store_compares_them(
        left in "-?(0|[1-9][0-9]{0,5})(\\.[0-9]{1,4})?([eE][+-]?[0-3])?",
        right in "-?(0|[1-9][0-9]{0,2})(\\.[0-9]{1,2})?([eE][+-]?[0-3])?",
    ) {
        prop_assert_eq!(of_json(&left, 1) == of_json(&right, 1), is_same_json(&left, &right));
        let padded = if left.contains(['.', 'e', 'E']) { left.clone() } else { format!("{left}.000") };
        prop_assert_eq!(of_json(&left, 1), of_json(&padded, 1));
    }
}
