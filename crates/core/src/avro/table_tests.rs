//! Tests the rules of schema resolution, one by one, as in the specification.

use super::compat::check;
use super::decode::{Decoder, UNPLACED};
use super::parse::parse_schema;
use super::schema::Schema;
use crate::ErrorKind;
use crate::kind::Kind;
use serde_json::{Value, json};

fn schema(value: &Value) -> Schema {
    parse_schema(&value.to_string()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

fn resolving(writer: &Value, reader: &Value) -> crate::Result<Decoder> {
    Decoder::resolving(&schema(writer), &schema(reader))
}

/// Decodes bytes with a reader's schema; all must be consumed.
fn text(writer: &Value, reader: &Value, bytes: &[u8]) -> Result<String, &'static str> {
    let mut decoder = resolving(writer, reader).unwrap_or_else(|error| panic!("{error}: {writer} {reader}"));
    let (mut input, mut out) = (bytes, String::new());
    decoder.decode(&mut input, &mut out)?;
    assert!(input.is_empty(), "{input:?} are left: {writer} {reader}");
    assert!(crate::json::scan::is_json(&out), "{out}");
    Ok(out)
}

/// Decodes the one field of a record.
fn value(writer: Value, reader: Value, bytes: &[u8]) -> Result<String, &'static str> {
    let record = |kind: &Value| json!({"type": "record", "name": "r", "fields": [{"name": "v", "type": kind}]});
    let out = text(&record(&writer), &record(&reader), bytes)?;
    Ok(out.strip_prefix("{\"v\":").and_then(|out| out.strip_suffix('}')).unwrap_or_default().to_owned())
}

fn record(fields: Value) -> Value {
    json!({"type": "record", "name": "r", "fields": fields})
}

fn why(writer: &Value, reader: &Value) -> String {
    let Err(error) = resolving(writer, reader) else { panic!("{writer} is read as {reader}") };
    assert_eq!(error.kind(), ErrorKind::Config);
    error.to_string()
}

#[test]
fn fields_are_matched_by_name_or_alias_and_what_the_reader_has_not_is_passed_over() {
    let writer = record(json!([
        {"name": "a", "type": "int"},
        {"name": "gone", "type": ["null", {"type": "map", "values": "string"}]},
        {"name": "old", "type": "string"},
        {"name": "z", "type": "long"},
    ]));
    let reader = record(json!([
        {"name": "z", "type": "long"},
        {"name": "new", "aliases": ["older", "old"], "type": "string"},
        {"name": "a", "type": "int"},
    ]));
    let bytes = [2, 2, 2, 2, b'k', 2, b'v', 0, 2, b'x', 4];
    assert_eq!(text(&writer, &reader, &bytes).unwrap(), r#"{"a":1,"new":"x","z":2}"#);
    let cut = |bytes: &[u8]| text(&writer, &reader, bytes).unwrap_err();
    assert_eq!(
        cut(&[2, 4]),
        "expected a branch of the union, found an index outside of it",
        "a fault of what is passed over is one of the record"
    );
    assert_eq!(cut(&[2, 2, 2, 2, 0xff]), "expected a string in UTF-8, found other bytes");
    assert_eq!(cut(&bytes[..3]), "unexpected end of the value");
    let none = record(json!([]));
    assert_eq!(text(&writer, &none, &bytes).unwrap(), "{}");
    let both = record(json!([{"name": "a", "type": "int"}, {"name": "b", "aliases": ["a"], "type": "double"}]));
    assert_eq!(text(&record(json!([{"name": "a", "type": "int"}])), &both, &[2]).unwrap(), r#"{"a":1,"b":1.0}"#);
    let first = record(json!([{"name": "b", "aliases": ["a"], "type": "int"}]));
    let two = record(json!([{"name": "a", "type": "int"}, {"name": "b", "type": "int"}]));
    assert_eq!(text(&two, &first, &[2, 4]).unwrap(), r#"{"b":2}"#, "its own name comes before an alias");
}

#[test]
fn a_field_that_the_writer_has_not_is_its_default_as_a_writer_would_have_written_it() {
    let cases = [
        (json!("null"), json!(null), None),
        (json!(["null", "int"]), json!(null), None),
        (json!(["null", "int"]), json!(7), Some("7")),
        (json!(["int", "null"]), json!(null), None),
        (json!("boolean"), json!(true), Some("true")),
        (json!("int"), json!(-3), Some("-3")),
        (json!("long"), json!(i64::MIN), Some("-9223372036854775808")),
        (json!("float"), json!(0.1), Some("0.1")),
        (json!("double"), json!(3), Some("3.0")),
        (json!("string"), json!("a\"\u{e9}"), Some(r#""a\"é""#)),
        (json!("bytes"), json!("\u{ff}\u{0}a"), Some("\"/wBh\"")),
        (json!({"type": "fixed", "name": "f", "size": 2}), json!("\u{1}\u{fe}"), Some("\"Af4=\"")),
        (json!({"type": "enum", "name": "e", "symbols": ["A", "B"]}), json!("B"), Some("\"B\"")),
        (json!({"type": "array", "items": "long"}), json!([1, 2]), Some("[1,2]")),
        (json!({"type": "array", "items": ["null", "long"]}), json!([]), Some("[]")),
        (
            json!({"type": "map", "values": ["null", "bytes"]}),
            json!({"k": "\u{ff}", "n": null}),
            Some(r#"{"k":"/w==","n":null}"#),
        ),
        (json!({"type": "long", "logicalType": "timestamp-millis"}), json!(1), Some("\"1970-01-01T00:00:00.001000Z\"")),
        (json!({"type": "int", "logicalType": "date"}), json!(-1), Some("\"1969-12-31\"")),
        (
            json!({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}),
            json!("\u{fb}"),
            Some("-0.05"),
        ),
        (
            json!({"type": "record", "name": "i", "fields": [
                {"name": "a", "type": "int"}, {"name": "b", "type": ["null", "int"], "default": null},
                {"name": "c", "type": "string", "default": "C"}]}),
            json!({"a": 1}),
            Some(r#"{"a":1,"c":"C"}"#),
        ),
    ];
    for (kind, default, expected) in cases {
        let writer = record(json!([{"name": "a", "type": "int"}]));
        let reader = record(json!([
            {"name": "d", "type": kind, "default": default},
            {"name": "a", "type": "int"},
        ]));
        let expected = expected.map_or("{\"a\":1}".to_owned(), |text| format!("{{\"a\":1,\"d\":{text}}}"));
        assert_eq!(text(&writer, &reader, &[2]).unwrap(), expected, "{kind} {default}");
    }
    let reader = record(json!([{"name": "d", "type": "int"}]));
    assert_eq!(why(&record(json!([])), &reader), "r.d: the writer has no such field, and the field has no default");
}

#[test]
fn defaults_without_end_or_measure_are_refused() {
    let endless = record(json!([{"name": "n", "type": "r", "default": {}}]));
    let refused = |schema: &Value| parse_schema(&schema.to_string()).map(|_| ()).unwrap_err().to_string();
    assert!(refused(&endless).contains("r.n: the default contains itself"), "{}", refused(&endless));
    let doubled = |at: usize| {
        let inner = if at == 0 { json!("int") } else { json!(format!("d{}", at - 1)) };
        let default = if at == 0 { json!(0) } else { json!({}) };
        let field = |name| json!({"name": name, "type": inner, "default": default});
        json!({"name": format!("f{at}"), "default": {},
               "type": {"type": "record", "name": format!("d{at}"), "fields": [field("x"), field("y")]}})
    };
    let many = record((0..40).map(doubled).collect());
    assert!(refused(&many).ends_with("defaults contain more than 65,536 values"), "{}", refused(&many));
    let long = json!({"name": "l", "type": "string", "default": "x".repeat(30_000)});
    let item = json!({"type": "record", "name": "i", "fields": [long]});
    let many = json!({"type": "array", "items": item});
    let default: Value = (0..100).map(|_| json!({})).collect();
    let long = record(json!([{"name": "many", "type": many, "default": default}]));
    assert_eq!(refused(&long), "schema: r.many: the schema's defaults are longer than 1 MiB");
    assert!(parse_schema(&record((0..10).map(doubled).collect()).to_string()).is_ok());
}

#[test]
fn numbers_are_promoted_and_strings_and_bytes_are_each_other() {
    let int = [0x81, 0x80, 0x80, 0x10];
    for (writer, reader, bytes, expected) in [
        ("int", "int", &int[..], "-16777217"),
        ("int", "long", &int, "-16777217"),
        ("int", "float", &int, "-16777216.0"),
        ("int", "double", &int, "-16777217.0"),
        ("long", "long", &[2], "1"),
        ("long", "float", &[2], "1.0"),
        ("long", "double", &[2], "1.0"),
        ("float", "float", &[0xcd, 0xcc, 0xcc, 0x3d], "0.1"),
        ("float", "double", &[0xcd, 0xcc, 0xcc, 0x3d], "0.10000000149011612"),
        ("float", "double", &[0, 0, 0xc0, 0x7f], "\"NaN\""),
        ("string", "bytes", &[4, 0xc3, 0xa9], "\"w6k=\""),
        ("bytes", "string", &[4, 0xc3, 0xa9], "\"é\""),
    ] {
        assert_eq!(value(json!(writer), json!(reader), bytes).unwrap(), expected, "{writer} {reader}");
    }
    let long = [0xfe, 0xff, 0xff, 0xff, 0xff, 0x01];
    for reader in ["long", "float", "double"] {
        assert_eq!(
            value(json!("int"), json!(reader), &long).unwrap_err(),
            "expected an int of 32 bits, found a longer one"
        );
    }
    assert_eq!(
        value(json!("bytes"), json!("string"), &[2, 0xff]).unwrap_err(),
        "expected a string in UTF-8, found other bytes"
    );
    let primitives = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
    let mut allowed = 0;
    for writer in primitives {
        for reader in primitives {
            let is_allowed = check(&schema(&json!(reader)), &schema(&json!(writer))).is_empty();
            assert_eq!(resolving(&json!(writer), &json!(reader)).is_ok(), is_allowed, "{writer} {reader}");
            allowed += usize::from(is_allowed);
        }
    }
    assert_eq!(allowed, 8 + 6 + 2);
}

#[test]
fn a_symbol_that_the_reader_has_not_is_its_default_or_a_fault_of_the_value() {
    let symbols = |symbols: &[&str], default: Option<&str>| match default {
        Some(default) => json!({"type": "enum", "name": "e", "symbols": symbols, "default": default}),
        None => json!({"type": "enum", "name": "e", "symbols": symbols}),
    };
    let writer = symbols(&["A", "B", "C"], Some("A"));
    assert_eq!(value(writer.clone(), symbols(&["C", "A"], None), &[4]).unwrap(), "\"C\"");
    let missing = value(writer.clone(), symbols(&["C", "A"], None), &[2]);
    assert_eq!(missing.unwrap_err(), UNPLACED[1]);
    assert_eq!(value(writer.clone(), symbols(&["C", "A"], Some("C")), &[2]).unwrap(), "\"C\"");
    let wrong = value(writer, symbols(&["C", "A"], Some("C")), &[6]);
    assert_eq!(wrong.unwrap_err(), "expected a symbol of the enum, found an index outside of it");
}

#[test]
fn a_writers_union_is_read_branch_by_branch() {
    let (bytes, null) = ([2, 2, b'x'], [0]);
    assert_eq!(value(json!(["null", "string"]), json!("string"), &bytes).unwrap(), "\"x\"");
    let unplaced = value(json!(["null", "string"]), json!("string"), &null);
    assert_eq!(unplaced.unwrap_err(), UNPLACED[0]);
    assert_eq!(value(json!(["null", "string"]), json!("bytes"), &bytes).unwrap(), "\"eA==\"");
    let (writer, reader) = (record(json!([{"name": "v", "type": ["int", "null"]}])), json!(["null", "string"]));
    let reader = record(json!([{"name": "v", "type": reader}]));
    assert_eq!(text(&writer, &reader, &[2]).unwrap(), "{}", "the null is left out");
    assert_eq!(text(&writer, &reader, &[0, 2]).unwrap_err(), UNPLACED[0]);
    let nothing = why(&record(json!([{"name": "v", "type": ["int", "boolean"]}])), &reader);
    assert_eq!(nothing, "r.v: no branch of the reader's union reads int");
    assert_eq!(text(&json!(["int", "string"]), &json!("long"), &[0, 2]).unwrap(), r#"{"value":1}"#);
    assert_eq!(
        text(&json!(["null", {"type": "record", "name": "r", "fields": []}]), &record(json!([])), &[2]).unwrap(),
        "{}"
    );
}

#[test]
fn of_a_readers_union_the_own_type_comes_before_a_promotion_and_the_first_before_others() {
    for (writer, reader, bytes, expected) in [
        ("int", json!(["double", "int"]), &[2][..], "1"),
        ("int", json!(["null", "double", "long"]), &[2], "1.0"),
        ("int", json!(["string", "long", "double"]), &[2], "1"),
        ("string", json!(["bytes", "string"]), &[2, b'x'], "\"x\""),
        ("string", json!(["null", "bytes"]), &[2, b'x'], "\"eA==\""),
        ("float", json!(["double", "float"]), &[0xcd, 0xcc, 0xcc, 0x3d], "0.1"),
    ] {
        assert_eq!(value(json!(writer), reader.clone(), bytes).unwrap(), expected, "{writer} {reader}");
    }
    let named = |name: &str, field: &str| json!({"type": "record", "name": name, "fields": [{"name": field, "type": "int", "default": 0}]});
    let reader = json!([named("a.r", "x"), named("b.r", "y")]);
    assert_eq!(text(&named("b.r", "z"), &reader, &[2]).unwrap(), r#"{"y":0}"#, "its full name");
    assert_eq!(text(&named("c.r", "z"), &reader, &[2]).unwrap(), r#"{"x":0}"#, "else the first");
    let strict = json!({"type": "record", "name": "a.r", "fields": [{"name": "x", "type": "int"}]});
    let reader = json!([strict, named("b.r", "y")]);
    assert_eq!(text(&named("c.r", "y"), &reader, &[2]).unwrap(), r#"{"y":1}"#, "what cannot be read is not a match");
}

#[test]
fn named_types_match_by_their_name_without_namespace_or_by_alias_and_fixed_by_size() {
    let fixed = |name: &str, size: u32| json!({"type": "fixed", "name": name, "size": size});
    assert_eq!(value(fixed("a.f", 1), fixed("b.f", 1), &[0xff]).unwrap(), "\"/w==\"");
    let aliased = json!({"type": "fixed", "name": "g", "aliases": ["x.f"], "size": 1});
    assert_eq!(value(fixed("a.f", 1), aliased, &[0xff]).unwrap(), "\"/w==\"");
    let field = |kind: Value| record(json!([{"name": "v", "type": kind}]));
    assert_eq!(
        why(&field(fixed("f", 1)), &field(fixed("g", 1))),
        "r.v: the writer's name is f, the reader's g, and no alias matches"
    );
    assert_eq!(why(&field(fixed("f", 1)), &field(fixed("f", 2))), "r.v: the writer's size is 1 byte, the reader's 2");
    let items = |kind: &str| json!({"type": "array", "items": kind});
    assert_eq!(why(&field(items("string")), &field(items("int"))), "r.v[]: a string cannot be read as int");
    assert_eq!(value(items("int"), items("double"), &[2, 2, 0]).unwrap(), "[1.0]");
}

#[test]
fn recursive_types_are_read_as_recursive_types() {
    let list = |name: &str, alias: &str, kind: &str| {
        json!({"type": "record", "name": name, "aliases": [alias], "fields": [
            {"name": "v", "type": kind}, {"name": "next", "type": ["null", name]}]})
    };
    let (writer, reader) = (list("n", "x", "int"), list("m", "n", "double"));
    assert_eq!(text(&writer, &reader, &[2, 2, 4, 0]).unwrap(), r#"{"v":1.0,"next":{"v":2.0}}"#);
    let unrolled = json!({"type": "record", "name": "n", "fields": [{"name": "v", "type": "int"},
        {"name": "next", "type": ["null", {"type": "record", "name": "k.n", "fields": [{"name": "v", "type": "long"}]}]}]});
    assert_eq!(text(&writer, &unrolled, &[2, 2, 4, 2, 6, 0]).unwrap(), r#"{"v":1,"next":{"v":2}}"#);
    let endless = json!({"type": "record", "name": "n", "fields": [{"name": "n", "type": "n"}]});
    assert_eq!(text(&endless, &endless, &[]).unwrap_err(), "values are nested too deeply");
    let none = json!({"type": "record", "name": "n", "fields": []});
    assert_eq!(text(&endless, &none, &[]).unwrap_err(), "values are nested too deeply", "also where it is passed over");
}

/// A chain of types may be as long as a schema's text, but the stack is bounded.
#[test]
fn long_chains_of_types_need_no_stack() {
    let link = |at: usize| {
        let inner = if at == 0 { json!("int") } else { json!(format!("c{}", at - 1)) };
        let record = json!({"type": "record", "name": format!("c{at}"), "fields": [{"name": "i", "type": inner}]});
        json!({"name": format!("f{at}"), "type": record})
    };
    let writer = record((0..5_000).map(link).collect());
    let reader = record(json!([{"name": "f4999", "type": {"type": "record", "name": "c4999", "fields": []}}]));
    assert!(resolving(&writer, &reader).is_ok());
    assert!(resolving(&writer, &writer).is_ok());
}

#[test]
fn the_readers_logical_types_decide_how_a_value_is_written() {
    let logical = |kind: &str, name: &str| json!({"type": kind, "logicalType": name});
    let (millis, micros) = (logical("long", "timestamp-millis"), logical("long", "timestamp-micros"));
    assert_eq!(value(json!("int"), millis.clone(), &[2]).unwrap(), "\"1970-01-01T00:00:00.001000Z\"");
    assert_eq!(value(json!("long"), micros.clone(), &[2]).unwrap(), "\"1970-01-01T00:00:00.000001Z\"");
    assert_eq!(value(millis, json!("long"), &[2]).unwrap(), "1");
    assert_eq!(value(logical("int", "date"), logical("long", "time-micros"), &[2]).unwrap(), "\"00:00:00.000001\"");
    assert_eq!(value(logical("int", "date"), json!("double"), &[2]).unwrap(), "1.0");
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1});
    assert_eq!(value(json!("string"), decimal, &[2, 7]).unwrap(), "0.7");
    let duration = json!({"type": "fixed", "name": "d", "size": 12, "logicalType": "duration"});
    let plain = json!({"type": "fixed", "name": "d", "size": 12});
    let bytes = [1, 0, 0, 0, 2, 0, 0, 0, 220, 5, 0, 0];
    assert_eq!(value(plain, duration, &bytes).unwrap(), "\"P1M2DT1.500S\"");
}

#[test]
fn records_of_our_rows_are_read_as_our_columns_where_the_readers_schema_is_ours() {
    let row = |fields: Value| json!({"type": "record", "name": "evt.dead", "fields": fields});
    let writer = row(json!([
        {"name": "old", "type": "string"}, {"name": "properties", "type": "bytes"}, {"name": "payload", "type": "string"},
    ]));
    let reader = row(json!([
        {"name": "properties", "type": "string"}, {"name": "payload", "type": ["null", "bytes"]},
        {"name": "key", "type": "bytes", "default": "\u{ff}"},
        {"name": "dimensions", "type": "string", "default": "{}"},
    ]));
    let bytes = [2, b'o', 4, b'{', b'}', 2, b'x'];
    let mut decoder = Decoder::resolving(&schema(&writer), &schema(&reader)).unwrap().for_kind(Some(Kind::Dead));
    let mut out = String::new();
    decoder.decode(&mut &bytes[..], &mut out).unwrap();
    assert_eq!(out, r#"{"properties":{},"payload":"x","key_base64":"/w==","dimensions":{}}"#);
    assert_eq!(
        text(&writer, &reader, &bytes).unwrap(),
        r#"{"properties":"{}","payload":"eA==","key":"/w==","dimensions":"{}"}"#
    );
}

/// Text of skipped values is bounded like written text, because it costs time.
#[test]
fn what_is_passed_over_is_bounded() {
    let nulls = json!({"type": "array", "items": "null"});
    let fields = |count: usize| (0..count).map(|n| json!({"name": format!("f{n}"), "type": nulls})).collect();
    // 10 million nulls each.
    let bytes = [0x80, 0xda, 0xc4, 0x09, 0].repeat(2);
    assert_eq!(
        text(&record(fields(2)), &record(json!([])), &bytes).unwrap_err(),
        "a record is longer than 64 MiB as text"
    );
    assert!(text(&record(fields(1)), &record(json!([])), &bytes[..5]).is_ok());
}

/// A schema resolved with itself reads like the schema alone.
#[test]
fn every_type_read_as_itself_is_read_as_without_a_reader() {
    let all = record(json!([
        {"name": "t", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
        {"name": "u", "type": ["null", "r", {"type": "map", "values": ["null", "bytes"]}]},
        {"name": "e", "type": {"type": "enum", "name": "e", "symbols": ["A", "B"]}},
        {"name": "f", "type": {"type": "fixed", "name": "f", "size": 2}},
    ]));
    let end = [0, 2, 1, 2];
    let inner = [&[4][..], &end].concat();
    let bytes = [&[2, 4, 4, 2, b'k', 2, 2, 9, 2, b'n', 0, 0][..], &end[1..]].concat();
    let nested = [&[2, 2][..], &inner, &end[1..]].concat();
    for bytes in [bytes, nested] {
        let (mut plain, mut out) = (Decoder::of(&schema(&all)), String::new());
        let decoded = plain.decode(&mut &bytes[..], &mut out);
        assert_eq!(text(&all, &all, &bytes).ok(), decoded.is_ok().then_some(out));
        assert_eq!(decoded, Ok(()));
    }
}
