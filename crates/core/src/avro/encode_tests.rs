//! Encodes values and reads them back with the decoder.

use super::decode::Decoder;
use super::encode::{Encoder, Loss, RecordBuffer};
use super::parse::parse_schema;
use crate::format::test_data::{FIXED, POINT, SYMBOLS, decimal, decoded_values, logical};
use crate::test_cases::cases;
use proptest::prelude::*;

/// Returns the schema of a record with these fields.
fn schema(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#)
}

/// Returns the schema of a record with the field `v` of a type.
fn of(kind: &str) -> String {
    schema(&format!(r#"{{"name":"v","type":{kind}}}"#))
}

/// Encodes an object; returns the bytes and the loss.
fn bytes(schema: &str, object: &str) -> Result<(Vec<u8>, Loss), String> {
    let parsed = parse_schema(schema).unwrap();
    let encoder = Encoder::try_new(&parsed).unwrap();
    let mut run = RecordBuffer::default();
    run.begin();
    encoder.json(&mut run, parsed.root().index(), object).map_err(|error| error.to_string())?;
    Ok((run.out, run.loss))
}

fn decoded(schema: &str, bytes: &[u8]) -> String {
    let (mut input, mut out) = (bytes, String::new());
    Decoder::of(&parse_schema(schema).unwrap()).decode(&mut input, &mut out).unwrap();
    assert_eq!(input, b"", "{schema}");
    out
}

/// Encodes an object without loss and decodes it again.
fn back(schema: &str, object: &str) -> String {
    let (bytes, loss) = bytes(schema, object).unwrap_or_else(|why| panic!("{schema} {object}: {why}"));
    assert_eq!(loss, Loss::default(), "{schema} {object}");
    decoded(schema, &bytes)
}

const PLACE: &str =
    r#"{"type":"record","name":"q","fields":[{"name":"x","type":"int"},{"name":"y","type":["null","string"]}]}"#;

#[test]
fn what_a_decoder_makes_of_a_type_is_taken_back_by_it() {
    for (kind, value) in decoded_values() {
        let (schema, object) = (of(&kind), format!("{{\"v\":{value}}}"));
        assert_eq!(back(&schema, &object), object, "{schema}");
    }
}

#[test]
fn the_same_value_may_be_written_another_way() {
    for (kind, value, expected) in [
        ("\"int\"", "1.0", "1"),
        ("\"long\"", "1e3", "1000"),
        ("\"double\"", "7", "7.0"),
        ("\"double\"", "100000000000000000000000", "1e23"),
        ("\"double\"", "0.10000000000000001", "0.1"),
        ("\"string\"", r#""\u0041""#, "\"A\""),
        (&logical("\"int\"", "date"), "19737", "\"2024-01-15\""),
        (&logical("\"long\"", "timestamp-millis"), "1705312800000", "\"2024-01-15T10:00:00.000000Z\""),
        (&logical("\"long\"", "timestamp-micros"), "\"2024-01-15T11:00:00+01:00\"", "\"2024-01-15T10:00:00.000000Z\""),
        (&logical("\"long\"", "local-timestamp-millis"), "\"2024-01-15T10:00:00Z\"", "\"2024-01-15T10:00:00.000000\""),
        (&decimal(r#""type":"bytes""#), "\"12e1\"", "120.00"),
        (&decimal(r#""type":"bytes""#), "0", "0.00"),
    ] {
        assert_eq!(back(&of(kind), &format!("{{ \"v\" : {value} }}")), format!("{{\"v\":{expected}}}"), "{kind}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_path() {
    let int = "expected int (32 bits), found";
    for (kind, value, why) in [
        ("\"int\"", "\"1\"", format!("v: {int} string \"1\"")),
        ("\"int\"", "2147483648", format!("v: {int} number 2147483648")),
        ("\"int\"", "1.5", format!("v: {int} number 1.5")),
        ("\"int\"", "null", format!("v: {int} null")),
        ("\"long\"", "9223372036854775808", "v: expected long (64 bits), found number 9223372036854775808".into()),
        ("\"double\"", "1e400", "v: expected double, found number 1e400".into()),
        ("\"double\"", "1e-400", "v: expected double, found number 1e-400".into()),
        ("\"double\"", "9007199254740993", "v: expected double, found number 9007199254740993".into()),
        ("\"float\"", "16777217", "v: expected float, found number 16777217".into()),
        ("\"string\"", "7", "v: expected string, found number 7".into()),
        ("\"string\"", r#""\ud800""#, "v: the string holds a lone surrogate".into()),
        ("\"bytes\"", "\"no base64\"", "v: expected bytes (base64), found string \"no base64\"".into()),
        (FIXED, "\"Zm9vYg==\"", "v: expected fixed (base64 of 3 bytes), found string \"Zm9vYg==\"".into()),
        (SYMBOLS, "\"C\"", "v: expected one of A, B, found string \"C\"".into()),
        (
            &logical("\"int\"", "date"),
            "\"2023-02-29\"",
            "v: expected date (YYYY-MM-DD or days since 1970), found string \"2023-02-29\"".into(),
        ),
        (
            &logical("\"string\"", "uuid"),
            "\"58aedb27dcc1534aba5963b291b9768e\"",
            "v: expected uuid, found string \"58aedb27dcc1534aba5963b291b9768e\"".into(),
        ),
        (&decimal(r#""type":"bytes""#), "1.001", "v: expected decimal(6, 2), found number 1.001".into()),
        (&decimal(r#""type":"bytes""#), "10000", "v: expected decimal(6, 2), found number 10000".into()),
        (r#"["null","int"]"#, "\"x\"", "v: expected null or int (32 bits), found string \"x\"".into()),
        (r#"["null","int"]"#, "3e9", format!("v: {int} number 3e9")),
        (r#"{"type":"array","items":"int"}"#, r#"[1,"x"]"#, format!("v[1]: {int} string \"x\"")),
        (r#"{"type":"map","values":"int"}"#, r#"{"a":1,"b":true}"#, format!("v.b: {int} true")),
        (r#"{"type":"array","items":["null","int"]}"#, "{}", "v: expected array, found object {}".into()),
        (&format!(r#"{{"type":"array","items":{POINT}}}"#), r#"[{"x":[]}]"#, format!("v[0].x: {int} array []")),
        (POINT, "{}", "v.x: missing, and it has no default".into()),
        (
            &format!("[{POINT},{PLACE}]"),
            r#"{"x":"a"}"#,
            "v: expected record (an object) or record (an object), found object {\"x\":\"a\"}".into(),
        ),
    ] {
        assert_eq!(bytes(&of(kind), &format!("{{\"v\":{value}}}")).unwrap_err(), why, "{kind}");
    }
    assert_eq!(bytes(&of("\"int\""), "{}").unwrap_err(), "v: missing, and it has no default");
}

#[test]
fn a_union_gives_a_value_its_nearest_branch() {
    let long = |name| logical("\"long\"", name);
    let timed = format!(r#"["string",{}]"#, long("timestamp-micros"));
    for (kind, value, branch) in [
        (r#"["null","long","int"]"#, "1", 1),
        (r#"["int","long"]"#, "1", 0),
        (r#"["int","long"]"#, "3000000000", 1),
        (r#"["float","double"]"#, "0.1", 1),
        (r#"["double","int"]"#, "1", 1),
        (r#"["double","int"]"#, "1.0", 0),
        (r#"["bytes","string"]"#, "\"abcd\"", 1),
        (r#"["double","string"]"#, "\"NaN\"", 1),
        (r#"["null","bytes","double"]"#, "\"Infinity\"", 2),
        (r#"[{"type":"fixed","name":"f","size":6},"float"]"#, "\"Infinity\"", 1),
        (r#"["null","bytes"]"#, "\"Infinity\"", 1),
        (&timed, "\"2024-01-15T10:00:00Z\"", 1),
        (&timed, "\"soon\"", 0),
        (&format!(r#"["string",{SYMBOLS}]"#), "\"B\"", 1),
        (&format!(r#"["string",{SYMBOLS}]"#), "\"C\"", 0),
        (&format!("[{POINT},{PLACE}]"), r#"{"x":1}"#, 0),
        (&format!("[{POINT},{PLACE}]"), r#"{"x":1,"y":"a"}"#, 1),
        (&format!(r#"[{POINT},{{"type":"map","values":"int"}}]"#), r#"{"x":1}"#, 0),
        (&format!(r#"[{POINT},{{"type":"map","values":"int"}}]"#), r#"{"x":1,"z":2}"#, 1),
    ] {
        let (bytes, loss) = bytes(&of(kind), &format!("{{\"v\":{value}}}")).unwrap();
        assert_eq!((bytes[0], loss), (2 * branch, Loss::default()), "{kind} {value}");
    }
}

#[test]
fn a_field_that_is_not_there_has_its_default_else_null() {
    let schema = schema(
        r#"{"name":"a","type":["null","int"]},{"name":"b","type":"string","default":"x"},
        {"name":"c","type":{"type":"map","values":"int"},"default":{"k":7}},{"name":"d","type":"null"}"#,
    );
    assert_eq!(back(&schema, "{}"), r#"{"b":"x","c":{"k":7}}"#);
    assert_eq!(back(&schema, r#"{"a":null,"b":"y","c":{}}"#), r#"{"b":"y","c":{}}"#);
    assert_eq!(back(&schema, r#"{"a":1,"a":2,"\u0062":"z"}"#), r#"{"a":2,"b":"z","c":{"k":7}}"#, "the last counts");
}

#[test]
fn what_has_no_place_is_counted() {
    let lost = |kind: &str, value: &str| bytes(&of(kind), &format!("{{\"v\":{value},\"w\":1}}")).unwrap().1;
    assert_eq!(lost("\"int\"", "1"), Loss { members: 1, digits: 0 });
    assert_eq!(lost(POINT, r#"{"x":1,"y":2,"z":3}"#), Loss { members: 3, digits: 0 });
    assert_eq!(lost(&format!("[{POINT},{PLACE}]"), r#"{"x":1,"y":"a","z":3}"#), Loss { members: 2, digits: 0 });
    let millis = logical("\"long\"", "timestamp-millis");
    let time = "\"2024-01-15T10:00:00.123999Z\"";
    assert_eq!(lost(&millis, time), Loss { members: 1, digits: 1 });
    let schema = of(&millis);
    let floored = bytes(&schema, "{\"v\":\"1969-12-31T23:59:59.999999Z\"}").unwrap().0;
    assert_eq!(decoded(&schema, &floored), "{\"v\":\"1969-12-31T23:59:59.999000Z\"}");
    let both = format!("[{millis},{}]", logical("\"int\"", "time-millis"));
    assert_eq!(lost(&both, "\"10:00:00.1234\""), Loss { members: 1, digits: 1 });
    let micros = of(&logical("\"long\"", "timestamp-micros"));
    assert_eq!(bytes(&micros, "{\"v\":\"2024-01-15T10:00:00.1234567Z\"}").unwrap().1.digits, 1);
    assert_eq!(bytes(&micros, "{\"v\":\"2024-01-15T10:00:00.123456000Z\"}").unwrap().1.digits, 0);
}

#[test]
fn nested_unions_of_records_take_no_more_than_the_product_of_types_and_places() {
    let fields = r#"[{"name":"n","type":["null","a","b"]},{"name":"v","type":"int"}]"#;
    let b = format!(r#"{{"type":"record","name":"b","fields":{fields}}}"#);
    let a = format!(
        r#"{{"type":"record","name":"a","fields":[{{"name":"n","type":["null","a",{b}]}},{{"name":"v","type":"int"}}]}}"#
    );
    let deep = |inner: &str| format!(r#"{}{inner}{}"#, r#"{"v":1,"n":"#.repeat(100), "}".repeat(100));
    let object = deep("null");
    let expected = [&r#"{"n":"#.repeat(99), r#"{"v":1}"#, &r#","v":1}"#.repeat(99)].concat();
    assert_eq!(back(&a, &object), expected);
    assert!(bytes(&a, &deep("7")).is_err());
    assert!(bytes(&a, &deep(&deep("null"))).is_err());
    let lists = r#"{"type":"record","name":"l","fields":[{"name":"v","type":{"type":"array","items":["int","l"]}}]}"#;
    let endless = [r#"{"v":["#.repeat(100_000), "]}".repeat(100_000)].concat();
    assert!(bytes(lists, &endless).unwrap_err().ends_with("nested too deeply"));
    assert_eq!(bytes(&a, &deep(r#"{"v":1,"w":2}"#)).unwrap().1.members, 1);
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn numbers_and_times_survive(
        long: i64, double in any::<f64>().prop_filter("finite", |value| value.is_finite()),
        float in any::<f32>().prop_filter("finite", |value| value.is_finite()),
        micros in crate::time::EARLIEST..crate::time::LATEST, text: String, numbers: Vec<i32>,
    ) {
        let schema = schema(
            r#"{"name":"l","type":"long"},{"name":"d","type":["null","double"]},{"name":"f","type":"float"},
            {"name":"t","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"s","type":"string"},
            {"name":"a","type":{"type":"array","items":"int"}}"#,
        );
        let object = format!(
            r#"{{"l":{long},"d":{double:?},"f":{float:?},"t":"{}","s":{},"a":{}}}"#,
            crate::time::format_instant(micros),
            serde_json::Value::from(text),
            serde_json::Value::from(numbers),
        );
        let read = back(&schema, &object);
        prop_assert_eq!(
            serde_json::from_str::<serde_json::Value>(&read).unwrap(),
            serde_json::from_str::<serde_json::Value>(&object).unwrap()
        );
        prop_assert_eq!(back(&schema, &read), read);
    }

    #[test]
    fn decimals_keep_every_digit(unscaled: i64, scale in 0usize..12) {
        let kind = format!(r#"{{"type":"bytes","logicalType":"decimal","precision":40,"scale":{scale}}}"#);
        let mut number = String::new();
        crate::json::number::write_decimal(&mut number, &unscaled.to_string(), scale as i32);
        let object = format!("{{\"v\":{number}}}");
        prop_assert_eq!(back(&of(&kind), &object), object);
    }
}
