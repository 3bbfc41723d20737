//! Tests the walk: what each type accepts, its messages, and that it agrees with a naive check of the parsed value.

use super::*;
use crate::avro::parse_schema;
use proptest::prelude::*;
use serde_json::{Value, json};

fn checks(schema: &str, closed: bool) -> (Checks, NodeId) {
    let schema = parse_schema(schema).unwrap_or_else(|e| panic!("{e}: {schema}"));
    let checks = Checks::new(&schema, closed);
    (checks, schema.root())
}

/// Returns the message or an empty text; the quiet walk must reach the same verdict.
fn verdict(schema: &str, text: &str, closed: bool) -> String {
    let (checks, root) = checks(schema, closed);
    let mut report = Explain::default();
    report.enter(WalkStep::Name("x"));
    checks.value(root, text, &mut report);
    let message = report.message().unwrap_or_default();
    assert_eq!(checks.value(root, text, &mut StopAtFirst::default()), message.is_empty(), "{schema} {text} {message}");
    message
}

fn takes(schema: &str, text: &str) -> bool {
    verdict(schema, text, false).is_empty()
}

#[test]
fn each_type_takes_what_the_decoder_makes_of_it() {
    for (kind, value) in crate::format::test_data::decoded_values() {
        assert_eq!(verdict(&kind, value, false), "", "{kind} {value}");
    }
    for value in ["\"Zm9vYg==\"", "\"Zm8=\"", "\"Zm9*\""] {
        assert!(!takes(crate::format::test_data::FIXED, value), "{value}");
    }
    for value in ["\"nan\"", "\"inf\"", "\"+Infinity\"", "\"1\""] {
        assert!(!takes("\"double\"", value), "{value}");
    }
}

#[test]
fn each_type_takes_its_values_and_no_others() {
    let logical = |base: &str, word: &str| format!(r#"{{"type":"{base}","logicalType":"{word}"}}"#);
    let (date, time, stamp) =
        (logical("int", "date"), logical("long", "time-micros"), logical("long", "timestamp-millis"));
    let (local, uuid) = (logical("long", "local-timestamp-micros"), logical("string", "uuid"));
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#;
    let cases: [(&str, &[&str], &[&str]); 17] = [
        ("\"null\"", &["null"], &["0", "\"null\"", "{}", "false"]),
        ("\"boolean\"", &["true", "false"], &["1", "\"true\"", "null"]),
        ("\"int\"", &["0", "-1", "1.0", "2147483647"], &["1.5", "2147483648", "\"1\"", "null", "[]"]),
        ("\"long\"", &["0", "9223372036854775807", "1e3"], &["9223372036854775808", "0.1", "true"]),
        ("\"float\"", &["0", "1.5", "3e38", "\"NaN\""], &["1e39", "\"1.5\"", "\"nan\""]),
        ("\"double\"", &["0", "-1.5e-7", "1e308", "123456789012345678901234567890"], &["1e309", "\"x\"", "null"]),
        ("\"string\"", &["\"\"", "\"x\"", r#""\u00e9\n""#, r#""\ud83d\ude00""#], &["1", "null", r#""\ud800""#, "{}"]),
        ("\"bytes\"", &["\"abc=\"", "\"\u{ff}\"", r#""\u00ff""#], &["\"\u{100}\"", r#""\u0100""#, "[1,2]"]),
        (r#"{"type":"fixed","name":"F","size":2}"#, &["\"ab\"", r#""\u0000\u00ff""#], &["\"a\"", "\"abc\"", "12"]),
        (r#"{"type":"enum","name":"E","symbols":["A","B"]}"#, &["\"A\"", r#""\u0041""#], &["\"a\"", "\"\"", "0"]),
        (decimal, &["1.23", "\"12.30\"", "-99.99"], &["1.234", "\"100\"", "\"x\"", "null", "true"]),
        (&date, &["19000", "\"2024-02-29\""], &["\"2024-02-30\"", "1.5", "\"19000\""]),
        (&time, &["86399999999", "\"10:00:00.25\""], &["\"25:00:00\"", "null"]),
        (
            &stamp,
            &["1705312800000", "\"2024-01-15T10:00:00Z\"", "\"2024-01-15t10:00:00+01:00\""],
            &["\"2024-01-15\"", "1.5"],
        ),
        (&local, &["0", "\"2024-01-15T10:00:00\""], &["\"10:00\""]),
        (&uuid, &["\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\""], &["\"6ba7b8109dad11d180b400c04fd430c8\"", "1"]),
        (r#"["null","int"]"#, &["null", "5"], &["\"5\"", "{\"int\":5}", "5.5"]),
    ];
    for (schema, good, bad) in cases {
        for text in good {
            assert!(takes(schema, text), "{schema} {text}");
        }
        for text in bad {
            assert!(!takes(schema, text), "{schema} {text}");
        }
    }
}

const ORDER: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"id","type":"string"},
    {"name":"state","type":{"type":"enum","name":"State","symbols":["NEW","PAID"]},"default":"NEW"},
    {"name":"items","type":{"type":"array","items":{"type":"record","name":"Item","fields":[
        {"name":"price","type":"double"},{"name":"count","type":["null","int"],"default":null}]}}},
    {"name":"tags","type":{"type":"map","values":"string"},"default":{}},
    {"name":"next","type":["null","Order"],"default":null}]}"#;

#[test]
fn each_fault_says_its_path_and_why() {
    let order = |members: &str| format!(r#"{{"id":"1","items":[],{members}}}"#);
    for (text, expected) in [
        (order(r#""tags":{"a":"b"}"#), ""),
        (" {\"items\" : [ { \"price\" : 1 } ] , \"id\" : \"x\" }".trim().to_owned(), ""),
        ("5".to_owned(), "x: expected record (an object), found number 5"),
        ("{}".to_owned(), "x.id: missing (and 1 more)"),
        (order(r#""state":"LOST""#), r#"x.state: expected one of NEW, PAID, found string "LOST""#),
        (order(r#""tags":{"a":"b","c d":7}"#), "x.tags.c d: expected string, found number 7"),
        (order(r#""tags":[]"#), "x.tags: expected map (an object), found array []"),
        (
            r#"{"id":1,"items":[{"price":1},{"price":"x"},{"price":2,"count":1.5}, {}]}"#.to_owned(),
            "x.id: expected string, found number 1 (and 3 more)",
        ),
        (
            r#"{"id":"1","items":[{"price":1},{"price":"x"}]}"#.to_owned(),
            r#"x.items[1].price: expected double, found string "x""#,
        ),
        (
            order(r#""items":[{"price":2,"count":1.5}]"#),
            "x.items[0].count: expected null or int (32 bits), found number 1.5",
        ),
        (order(r#""next":{"id":"2"}"#), "x.next.items: missing"),
        (order(r#""next":7"#), "x.next: expected null or record (an object), found number 7"),
        (order(r#""id":true"#), "x.id: expected string, found true"),
        (order(r#""\u0069d":true"#), r"x.\u0069d: expected string, found true"),
    ] {
        assert_eq!(verdict(ORDER, &text, false), expected, "{text}");
    }
}

#[test]
fn a_message_is_short_and_clean_whatever_the_value() {
    let long = format!("\"{}\"", "y".repeat(1000));
    let message = verdict("\"int\"", &long, false);
    assert!(message.len() < 120 && message.ends_with('…'), "{message}");
    assert_eq!(verdict("\"int\"", "\"\u{9b}31m\"", false), "x: expected int (32 bits), found string \"?31m\"");
    let symbols: Vec<String> = (0..20).map(|n| format!("\"S{n}\"")).collect();
    let schema = format!(r#"{{"type":"enum","name":"E","symbols":[{}]}}"#, symbols.join(","));
    assert_eq!(
        verdict(&schema, "null", false),
        "x: expected one of S0, S1, S2, S3, S4, S5, S6, S7 and 12 more, found null"
    );
}

#[test]
fn a_member_that_is_no_field_is_a_fault_only_where_the_schema_is_closed() {
    let text = r#"{"id":"1","more":1,"items":[{"price":1,"cost":2}]}"#;
    assert_eq!(verdict(ORDER, text, false), "");
    assert_eq!(verdict(ORDER, text, true), "x.more: not defined in the schema (and 1 more)");
}

#[test]
fn a_name_that_comes_twice_must_be_right_each_time() {
    assert_eq!(verdict(ORDER, r#"{"id":"1","id":2,"items":[]}"#, false), "x.id: expected string, found number 2");
}

#[test]
fn records_of_many_fields_are_met_in_full() {
    let field = |n: usize| format!(r#"{{"name":"f{n}","type":"int"}}"#);
    let schema = |count: usize| {
        let fields: Vec<String> = (0..count).map(field).collect();
        format!(r#"{{"type":"record","name":"R","fields":[{}]}}"#, fields.join(","))
    };
    let object = |count: usize, without: usize| {
        let members = (0..count).filter(|n| *n != without).map(|n| format!("\"f{n}\":{n}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    };
    for count in [1, 64, 65, 256, 257, 400] {
        assert!(takes(&schema(count), &object(count, count)));
        assert_eq!(verdict(&schema(count), &object(count, count - 1), false), format!("x.f{}: missing", count - 1));
    }
}

/// Two records that differ only in a leaf, nested in each other: without cached verdicts every level would double the
/// work.
#[test]
fn a_value_that_is_wrong_deep_inside_ambiguous_unions_is_refused_in_time() {
    let schema = r#"{"type":"record","name":"A","fields":[
        {"name":"next","type":["null","A",{"type":"record","name":"B","fields":[
            {"name":"next","type":["null","A","B"]},{"name":"leaf","type":"int"}]}]},
        {"name":"leaf","type":"string"}]}"#;
    for bottom in ["1", "true"] {
        let text = format!("{}null{}", "{\"next\":".repeat(100), format!(",\"leaf\":{bottom}}}").repeat(100));
        assert!(!takes(schema, &text));
    }
    let right = format!("{{\"next\":{}null{},\"leaf\":\"x\"}}", "{\"next\":".repeat(99), ",\"leaf\":1}".repeat(99));
    assert!(takes(schema, &right));
}

#[test]
fn text_cut_short_does_not_panic() {
    let text = r#"{"id":"1","items":[{"price":1.5,"count":null}],"tags":{"a":"\u00e9"},"next":{"id":"2","items":[]}}"#;
    let (checks, root) = checks(ORDER, true);
    assert!(checks.value(root, text, &mut StopAtFirst::default()));
    for end in 0..text.len() {
        checks.value(root, &text[..end], &mut Explain::default());
    }
}

fn schema_strategy() -> impl Strategy<Value = Value> {
    let leaf = prop::sample::select(vec!["null", "boolean", "int", "long", "double", "string"]).prop_map(|s| json!(s));
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            inner.clone().prop_map(|values| json!({"type": "map", "values": values})),
            prop::collection::vec((inner.clone(), any::<bool>()), 0..4).prop_map(|fields| record_of(&fields)),
            inner.prop_map(|other| if other == json!("null") || other.is_array() {
                other
            } else {
                json!(["null", other])
            }),
        ]
    })
}

/// Builds a record schema; fields that are not `required` get a default.
fn record_of(fields: &[(Value, bool)]) -> Value {
    let fields: Vec<Value> = fields
        .iter()
        .enumerate()
        .map(|(n, (kind, required))| json!({"name": format!("f{n}"), "type": kind, "required": required}))
        .collect();
    json!({"type": "record", "fields": fields})
}

/// Returns the same schema in Avro's form, with names and defaults.
fn avro(schema: &Value, names: &mut usize) -> Value {
    match schema {
        Value::Array(branches) => branches.iter().map(|branch| avro(branch, names)).collect(),
        Value::Object(object) if object.contains_key("fields") => {
            *names += 1;
            let name = format!("R{names}");
            let fields = object["fields"].as_array().unwrap().iter().map(|field| {
                let kind = avro(&field["type"], names);
                let optional = !field["required"].as_bool().unwrap();
                // Null is a default only for a type that takes null; the union around it is part of the oracle's
                // schema.
                match optional && field["type"].is_array() {
                    true => json!({"name": field["name"], "type": kind, "default": null}),
                    false => json!({"name": field["name"], "type": kind}),
                }
            });
            json!({"type": "record", "name": name, "fields": fields.collect::<Vec<_>>()})
        }
        Value::Object(object) => {
            let mut object = object.clone();
            for key in ["items", "values"] {
                if let Some(inner) = object.get(key).cloned() {
                    object.insert(key.to_owned(), avro(&inner, names));
                }
            }
            Value::Object(object)
        }
        plain => plain.clone(),
    }
}

/// The rules, applied naively to the parsed value.
fn oracle(schema: &Value, value: &Value) -> bool {
    match schema {
        Value::Array(branches) => branches.iter().any(|branch| oracle(branch, value)),
        Value::String(word) => match word.as_str() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "int" => {
                value.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
                    || value.as_f64().is_some_and(|n| n.fract() == 0.0 && n.abs() < 1e9)
            }
            "long" => {
                value.is_i64() || value.as_f64().is_some_and(|n| value.is_f64() && n.fract() == 0.0 && n.abs() < 1e18)
            }
            "double" => value.is_number(),
            _ => value.is_string(),
        },
        Value::Object(object) => match object["type"].as_str().unwrap() {
            "array" => value.as_array().is_some_and(|list| list.iter().all(|item| oracle(&object["items"], item))),
            "map" => value.as_object().is_some_and(|map| map.values().all(|item| oracle(&object["values"], item))),
            _ => value.as_object().is_some_and(|members| {
                object["fields"].as_array().unwrap().iter().all(|field| {
                    match members.get(field["name"].as_str().unwrap()) {
                        Some(value) => oracle(&field["type"], value),
                        // An absent field is null, with a default or without.
                        None => oracle(&field["type"], &json!(null)),
                    }
                })
            }),
        },
        _ => unreachable!(),
    }
}

fn any_value() -> BoxedStrategy<Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        (-100i32..100).prop_map(|n| json!(f64::from(n) / 2.0)),
        "[a-z\"\\\\é]{0,20}".prop_map(|s| json!(s)),
        Just(json!([])),
        Just(json!({})),
    ]
    .boxed()
}

/// Generates mostly values of the schema, sometimes others.
fn value_of(schema: &Value) -> BoxedStrategy<Value> {
    let right = match schema {
        Value::Array(branches) => prop::strategy::Union::new(branches.iter().map(value_of)).boxed(),
        Value::String(word) => match word.as_str() {
            "null" => Just(json!(null)).boxed(),
            "boolean" => any::<bool>().prop_map(|b| json!(b)).boxed(),
            "int" => any::<i32>().prop_map(|n| json!(n)).boxed(),
            "long" => any::<i64>().prop_map(|n| json!(n)).boxed(),
            "double" => (-1e6..1e6f64).prop_map(|n| json!(n)).boxed(),
            _ => "[a-z\"\\\\\u{1}é😀]{0,40}".prop_map(|s| json!(s)).boxed(),
        },
        Value::Object(object) => match object["type"].as_str().unwrap() {
            "array" => prop::collection::vec(value_of(&object["items"]), 0..3).prop_map(|list| json!(list)).boxed(),
            "map" => prop::collection::btree_map("[a-c\"]{0,2}", value_of(&object["values"]), 0..3)
                .prop_map(|map| json!(map))
                .boxed(),
            _ => {
                let fields = object["fields"].as_array().unwrap();
                let members: Vec<_> = fields
                    .iter()
                    .map(|field| (Just(field["name"].clone()), prop::option::weighted(0.9, value_of(&field["type"]))))
                    .collect();
                let object = |members: Vec<(Value, Option<Value>)>| {
                    let present =
                        members.into_iter().filter_map(|(name, value)| Some((name.as_str()?.to_owned(), value?)));
                    Value::Object(present.chain([("unknown".to_owned(), json!(1))]).collect())
                };
                members.prop_map(object).boxed()
            }
        },
        _ => unreachable!(),
    };
    prop_oneof![15 => right, 1 => any_value()].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..Default::default()
    })]

    #[test]
    fn the_walk_agrees_with_a_naive_reading(
        (schema, value) in schema_strategy().prop_flat_map(|schema| (Just(schema.clone()), value_of(&schema))),
        pretty in any::<bool>(),
    ) {
        let avro = avro(&schema, &mut 0).to_string();
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let message = verdict(&avro, &text, false);
        prop_assert_eq!(message.is_empty(), oracle(&schema, &value), "{} {} {}", avro, text, message);
    }
}
