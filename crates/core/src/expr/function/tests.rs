//! Tests functions and steps into arrays by their results for a row.

use crate::expr::tests::{dead, number, refused_filter, string, truth};

#[test]
fn date_trunc_gives_the_start_of_its_unit() {
    for (unit, expected) in [
        ("second", "2024-01-15T10:20:30Z"),
        ("minute", "2024-01-15T10:20:00Z"),
        ("hour", "2024-01-15T10:00:00Z"),
        ("day", "2024-01-15T00:00:00Z"),
        ("week", "2024-01-15T00:00:00Z"),
        ("month", "2024-01-01T00:00:00Z"),
        ("quarter", "2024-01-01T00:00:00Z"),
        ("year", "2024-01-01T00:00:00Z"),
    ] {
        assert_eq!(truth(&format!("date_trunc('{unit}', event_time) = '{expected}'"), "{}"), Some(true), "{unit}");
    }
    let sunday = r#"{"t":"1969-12-28T23:59:59Z"}"#;
    assert_eq!(truth("date_trunc('week', t) = '1969-12-22T00:00:00Z'", sunday), Some(true));
    assert!(
        refused_filter("date_trunc('eon', event_time) = event_time")
            .contains("expected a unit of date_trunc ('second'")
    );
}

#[test]
fn parts_of_texts_are_those_of_postgresql_and_duckdb() {
    let row = r#"{"x":"a,b,c","e":"","u":"/api/v1/users/17?x=é","n":2}"#;
    for (text, expected) in [
        ("split_part(x, ',', 2)", Some("b")),
        ("split_part(x, ',', n + 1)", Some("c")),
        ("split_part(x, ',', -1)", Some("c")),
        ("split_part(x, ',', -3)", Some("a")),
        ("split_part(x, ',', 4)", Some("")),
        ("split_part(x, ',', 0)", Some("")),
        ("split_part(x, '', 1)", Some("a,b,c")),
        ("split_part(x, '', 2)", Some("")),
        ("split_part(e, ',', 1)", Some("")),
        ("replace(x, ',', ';;')", Some("a;;b;;c")),
        ("replace(x, 'a,b,c', '')", Some("")),
        ("replace(x, '', 'z')", Some("a,b,c")),
        ("replace(e, 'a', 'b')", Some("")),
        ("replace(x, none, '')", None),
        ("replace(replace('1.528,30', '.', ''), ',', '.')", Some("1528.30")),
        ("split_part(x, none, 1)", None),
        ("split_part(x, ',', z)", None),
        ("split_part(x, ',', 1e300)", Some("")),
        ("regexp_extract(u, 'v[0-9]+')", Some("v1")),
        ("regexp_extract(u, '/users/([0-9]+)', 1)", Some("17")),
        ("regexp_extract(u, '(q)?x', 1)", Some("")),
        ("regexp_extract(u, 'nothing')", Some("")),
        ("regexp_extract(u, 'é')", Some("é")),
        ("regexp_extract(none, 'a')", None),
        ("substr(u, 20, 1)", Some("é")),
        ("upper(regexp_extract('ab', 'b'))", Some("B")),
    ] {
        assert_eq!(string(text, row).as_deref(), expected, "{text}");
    }
    for (text, part) in [
        ("regexp_extract(u, x) = 'a'", "expected a text constant as a regular expression, found x"),
        ("regexp_extract(u, '(a)', 2) = 'a'", "expected the number of a group of '(a)', from 0 to 1, found 2"),
        ("regexp_extract(u, '(') = 'a'", "invalid regular expression '('"),
        ("regexp_extract(u, '(a{9999}){9999}') = 'a'", "invalid regular expression"),
    ] {
        assert!(refused_filter(text).contains(part), "{}", refused_filter(text));
    }
}

#[test]
fn a_position_steps_into_arrays() {
    let rows = r#"{"a":[1,[2,"x"],{"b":[true,"é\n"]}],"o":{"1":7},"s":"[1]","a.b":[5]}"#;
    for (text, expected) in [
        ("a[1]", Some("1")),
        ("a[2]", Some(r#"[2,"x"]"#)),
        ("a[2][2]", Some("x")),
        ("a[-1].b[2]", Some("é\n")),
        ("a[3].b[-2]", Some("true")),
        ("a[-3]", Some("1")),
        ("a[-4]", None),
        ("a[4]", None),
        ("a[1][1]", None),
        ("a[1].b", None),
        ("o[1]", None),
        ("s[1]", None),
        (r#""a.b"[1]"#, Some("5")),
        ("properties.a[1]", Some("1")),
        ("lower(a[2][2]) || 'y'", Some("xy")),
    ] {
        assert_eq!(string(text, rows).as_deref(), expected, "{text}");
    }
    assert_eq!(number("a[1] + a[2][1]", rows), Some(3.0));
    assert_eq!(dead("a[2] > 1", rows), r#"a[2]: expected a number, found [2,"x"]"#);
    assert_eq!(dead("a[-1].b[-1]", rows), r#"a[-1].b[-1]: expected a boolean, found "é\n""#);
    // Of equal names the last counts, also where the earlier one is an array with the element.
    assert_eq!(string("a[1]", r#"{"a":[1],"a":[]}"#), None);
    for (text, part) in [
        ("a[0] = 1", "expected a position from 1, or from -1 at the end, found [0]"),
        ("a[1.5] = 1", "expected a position from 1"),
        ("a[b] = 1", "expected a position from 1"),
        ("a['b'] = 1", "expected a position from 1"),
        ("a[1:2] = 1", "unsupported syntax"),
        ("lower(a)[1] = 1", "expected an element of a property, like items[1]"),
        ("event_type[1] = 'x'", "event_type is a column without members; use properties.event_type[1]"),
        ("properties[1] = 'x'", "properties is an object, not an array"),
    ] {
        assert!(refused_filter(text).contains(part), "{text}: {}", refused_filter(text));
    }
}
