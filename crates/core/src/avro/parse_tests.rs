//! Tests the parser on third-party schemas, and its messages about invalid ones.

use super::*;
use crate::format::test_data::data;
use std::path::PathBuf;

fn files(name: &str) -> Vec<(String, String)> {
    let Some(dir) = data(name) else { return vec![] };
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| (path.display().to_string(), std::fs::read_to_string(&path).unwrap());
    let files: Vec<_> = entries.map(text).collect();
    assert!(!files.is_empty());
    files
}

#[test]
fn schemas_that_must_pass_do() {
    for (file, text) in files("avro/schema_tests/pass") {
        let schema = parse_schema(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
        let reordered = serde_json::from_str::<Value>(&text).unwrap().to_string();
        assert_eq!(parse_schema(&reordered).unwrap().identity(), schema.identity(), "{file}");
    }
}

#[test]
fn schemas_of_the_specification_are_taken() {
    for (file, text) in files("avro/share/test/schemas").into_iter().filter(|(file, _)| file.ends_with(".avsc")) {
        parse_schema(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
    }
}

#[test]
fn schemas_that_must_fail_do() {
    for (file, text) in files("avro/schema_tests/fail") {
        assert!(parse_schema(&text).is_err(), "{file}");
    }
}

/// Returns the `<<INPUT` and `<<canonical` values of a case, each from its mark to the end of its paragraph.
#[test]
fn canonical_forms_are_those_of_the_specification() {
    let Some(path) = data("avro/share/test/data/schema-tests.txt") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let mut cases = 0;
    for case in text.split("\n<<INPUT").skip(1) {
        let (input, rest) = case.split_once("<<canonical").unwrap();
        let input = input.split("\nINPUT").next().unwrap();
        let canonical = rest.split("\n<<").next().unwrap().split("\n//").next().unwrap();
        let schema =
            parse(&serde_json::from_str(input).unwrap(), true).unwrap_or_else(|e| panic!("{input}: {}", e.why));
        assert_eq!(schema.canonical_form(), canonical.trim());
        cases += 1;
    }
    assert!(cases > 20, "{cases}");
}

fn refusal(text: &str) -> String {
    parse_schema(text).unwrap_err().to_string()
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

#[test]
fn a_refusal_says_where_and_why() {
    for (text, expected) in [
        (r#"{"type":"record","name":"R"}"#.to_owned(), "R: expected an array as 'fields', found nothing"),
        (record(r#"{"name":"a","type":"strin"}"#), "R.a: unknown type 'strin'"),
        (record(r#"{"name":"a"}"#), "R: field 'a': 'type' is missing"),
        (
            record(r#"{"name":"1a","type":"int"}"#),
            "R: expected a field name of letters, digits and _ that does not begin with a digit, found '1a'",
        ),
        (record(r#"{"name":"a","type":"int"},{"name":"a","type":"int"}"#), "R: duplicate field 'a'"),
        (record(r#"{"name":"a","type":"int","default":"x"}"#), "R.a: expected a default of type int, found \"x\""),
        (record(r#"{"name":"a","type":"int","default":null}"#), "R.a: expected a default of type int, found null"),
        (
            record(r#"{"name":"a","type":"int","default":2147483648}"#),
            "R.a: expected a default of type int, found 2147483648",
        ),
        (record(r#"{"name":"a","type":["null",["int"]]}"#), "R.a: a union contains another union"),
        (record(r#"{"name":"a","type":["int","int"]}"#), "R.a: a union contains int twice"),
        (record(r#"{"name":"a","type":{"type":"array"}}"#), "R.a: 'items' is missing"),
        (record(r#"{"name":"a","type":{"type":"map","values":"x"}}"#), "R.a.values: unknown type 'x'"),
        (
            record(r#"{"name":"a","type":{"type":"fixed","name":"F","size":-1}}"#),
            "R.a: expected a number of bytes as 'size', found -1",
        ),
        (record(r#"{"name":"a","type":{"type":"enum","name":"E","symbols":["A","A"]}}"#), "R.a: duplicate symbol 'A'"),
        (
            record(r#"{"name":"a","type":{"type":"enum","name":"E","symbols":["A"],"default":"B"}}"#),
            "R.a: expected one of its symbols as default, found \"B\"",
        ),
        (record(r#"{"name":"a","type":{"type":"record","name":"R","fields":[]}}"#), "R.a: 'R' is defined twice"),
        ("7".to_owned(), "(top): expected a string, an object or an array, found 7"),
        ("{}".to_owned(), "(top): 'type' is missing"),
    ] {
        assert_eq!(refusal(&text), format!("schema: {expected}"));
    }
    assert_eq!(refusal("{"), "schema: invalid JSON: EOF while parsing an object at line 1 column 1");
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = |n: usize| format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(n), "}".repeat(n));
    assert!(parse_schema(&deep(DEPTH_MAX - 1)).is_ok());
    assert!(refusal(&deep(DEPTH_MAX)).contains("nested deeper"));
    assert!(refusal(&" ".repeat(TEXT_BYTES_MAX + 1)).contains("longer than 1024 KiB"));
}

#[test]
fn text_cut_at_any_byte_is_refused_without_a_panic() {
    let text = record(r#"{"name":"a","type":["null",{"type":"map","values":"R"}],"default":null}"#);
    assert!(parse_schema(&text).is_ok());
    for end in 0..text.len() {
        assert!(parse_schema(&text[..end]).is_err(), "{}", &text[..end]);
    }
}

#[test]
fn a_logical_type_that_does_not_fit_is_ignored() {
    let logical = |text: &str| {
        let schema = parse_schema(text).unwrap();
        schema.node(schema.root()).logical
    };
    assert_eq!(logical(r#"{"type":"long","logicalType":"timestamp-millis"}"#), Some(Logical::Timestamp(Unit::Millis)));
    assert_eq!(logical(r#"{"type":"string","logicalType":"timestamp-millis"}"#), None);
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#;
    assert_eq!(logical(decimal), Some(Logical::Decimal { precision: 4, scale: 2 }));
    assert_eq!(logical(&decimal.replace("4", "1")), None);
    let fixed = r#"{"type":"fixed","name":"F","size":2,"logicalType":"decimal","precision":4}"#;
    assert_eq!(logical(fixed), Some(Logical::Decimal { precision: 4, scale: 0 }));
    assert_eq!(logical(&fixed.replace(":4", ":5")), None);
}

#[test]
fn the_identity_holds_what_a_reader_needs_and_nothing_else() {
    let same = |a: &str, b: &str| parse_schema(a).unwrap().identity() == parse_schema(b).unwrap().identity();
    let plain = record(r#"{"name":"a","type":"long"}"#);
    assert!(same(&plain, &record(r#"{"name":"a","type":{"type":"long"},"doc":"x","order":"ignore"}"#)));
    assert!(!same(&plain, &record(r#"{"name":"a","type":"long","default":1}"#)));
    assert!(!same(&plain, &record(r#"{"name":"a","type":"long","aliases":["b"]}"#)));
    assert!(!same(&plain, &record(r#"{"name":"a","type":{"type":"long","logicalType":"timestamp-millis"}}"#)));
}

#[test]
fn a_default_deep_in_unions_of_records_is_judged_without_trying_every_way() {
    let mut value = "{\"x\":7}".to_owned();
    for _ in 0..50 {
        value = format!("{{\"x\":{value}}}");
    }
    let text = format!(
        r#"{{"type":"record","name":"Top","fields":[{{"name":"a","type":{{"type":"record","name":"A","fields":[
            {{"name":"x","type":["A",{{"type":"record","name":"B","fields":[{{"name":"x","type":["A","B"]}}]}}]}}]}},
            "default":{value}}}]}}"#
    );
    assert!(refusal(&text).contains("expected a default of type record A, found"), "{}", refusal(&text));
}
