//! Compares the verdicts of the parser with those of the specification and of another one, apache-avro.

use super::parse::{parse_lenient, parse_schema};
use super::schema::Logical;
use crate::ErrorKind;
use crate::format::test_data::{data, expected};
use crate::test_cases::cases;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

/// How many schemas are drawn.
const DRAWN: usize = 2_000;

/// A type that may break any rule. It uses few names, so that they occur twice, and few values.
fn any_type() -> impl Strategy<Value = Value> {
    let name = || prop::sample::select(&["a", "b", "n.a", "m.n.b", "int", "1a", "a-b", "", ".a", "record"][..]);
    let word = prop::sample::select(
        &["null", "boolean", "int", "long", "float", "double", "bytes", "string", "a", "b", "n.a", "c", "error"][..],
    );
    let logical = prop::sample::select(
        &["decimal", "uuid", "date", "time-millis", "time-micros", "timestamp-nanos", "duration", "other"][..],
    );
    let size = prop::sample::select(vec![json!(0), json!(2), json!(12), json!(16), json!(-1), json!("2"), json!(null)]);
    let symbols = prop::sample::subsequence(vec![json!("A"), json!("B"), json!("A"), json!("1"), json!(7)], 0..4);
    let default = prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(7),
        json!(3_000_000_000_u64),
        json!(1.5),
        json!("A"),
        json!("\u{ff}\u{100}"),
        json!([]),
        json!([1]),
        json!({}),
        json!({"x": 1}),
    ]);
    let leaf = prop_oneof![
        6 => word.clone().prop_map(|word| json!(word)),
        3 => (word, logical.clone(), 0..6u32, 0..4u32).prop_map(|(word, logical, precision, scale)| {
            json!({"type": word, "logicalType": logical, "precision": precision, "scale": scale})
        }),
        2 => (name(), size, logical).prop_map(|(name, size, logical)| {
            json!({"type": "fixed", "name": name, "size": size, "logicalType": logical, "precision": 4})
        }),
        2 => (name(), name(), symbols, default.clone(), any::<bool>()).prop_map(|(name, alias, symbols, default, has)| {
            let mut found = json!({"type": "enum", "name": name, "aliases": [alias], "symbols": symbols});
            if has {
                found["default"] = default;
            }
            found
        }),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let default = prop::option::of(prop_oneof![2 => Just(None), 1 => default.clone().prop_map(Some)]);
        let field =
            (name(), inner.clone(), default, prop::option::of(name())).prop_map(|(name, inner, default, alias)| {
                let mut field = json!({"name": name, "type": inner});
                let default = default.map(|drawn| drawn.unwrap_or_else(|| fitting(&field["type"])));
                default.into_iter().for_each(|default| field["default"] = default);
                alias.into_iter().for_each(|alias| field["aliases"] = json!([alias]));
                field
            });
        let record = (name(), prop::option::of(name()), prop::collection::vec(field, 0..4)).prop_map(
            |(name, namespace, fields)| match namespace {
                Some(namespace) => json!({"type": "record", "name": name, "namespace": namespace, "fields": fields}),
                None => json!({"type": "record", "name": name, "fields": fields}),
            },
        );
        prop_oneof![
            4 => record,
            2 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            1 => inner.clone().prop_map(|inner| json!({"type": "array", "items": inner})),
            1 => inner.clone().prop_map(|inner| json!({"type": "map", "values": inner})),
            1 => inner.prop_map(|inner| json!({"type": inner})),
        ]
    })
}

/// Returns a value of a type, if it is a simple one.
fn fitting(kind: &Value) -> Value {
    let word = kind.as_str().or(kind["type"].as_str()).unwrap_or_default();
    match word {
        "boolean" => json!(true),
        "int" | "long" => json!(7),
        "float" | "double" => json!(1),
        "string" => json!("ab"),
        "bytes" => json!("\u{1}\u{ff}"),
        "fixed" => json!("\u{ff}".repeat(kind["size"].as_u64().unwrap_or_default() as usize)),
        "enum" => kind["symbols"][0].clone(),
        "array" => json!([fitting(&kind["items"])]),
        "map" => json!({"k": fitting(&kind["values"])}),
        "record" => {
            let fields = kind["fields"].as_array().into_iter().flatten();
            let member = |field: &Value| Some((field["name"].as_str()?.to_owned(), fitting(&field["type"])));
            Value::Object(fields.filter_map(member).collect())
        }
        _ => match kind {
            Value::Array(branches) => branches.last().map_or(Value::Null, fitting),
            Value::Object(object) if object.contains_key("type") => fitting(&object["type"]),
            _ => Value::Null,
        },
    }
}

/// Whether both parsers agree, except for known deviations of apache-avro.
fn agree(text: &str) -> bool {
    match (parse_schema(text), apache_avro::Schema::parse_str(text)) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(canonical(&ours.canonical_form()), canonical(&theirs.canonical_form()), "{text}");
            // The other rules only allow more.
            assert_eq!(parse_lenient(text).unwrap().canonical_form(), ours.canonical_form(), "{text}");
            true
        }
        // apache-avro requires defaults of logical types in other forms than the specification, and refuses an alias
        // that is a field.
        (Ok(_), Err(why)) => match why.to_string() {
            why if why.starts_with("`default`'s value type") && text.contains("logicalType") => false,
            why if why.starts_with("Duplicate field name") && text.contains("aliases") => false,
            why => panic!("only evt takes {text}: {why}"),
        },
        // apache-avro accepts more names and aliases, two definitions of a name, and any text as bytes of any length.
        (Err(why), Ok(_)) => {
            let (why, known) =
                (why.to_string(), ["found '.", "found ''", "an alias of", "a primitive type", "is defined twice"]);
            let is_known = known.iter().any(|known| why.contains(known))
                || ["bytes", "fixed"]
                    .iter()
                    .any(|of| why.contains(&format!("a default of type {of}")) && why.ends_with('"'));
            assert!(is_known, "only evt refuses {text}: {why}");
            false
        }
        (Err(_), Err(_)) => true,
    }
}

/// Returns a canonical form in one order of attributes; the other parser keeps attributes that have no place there.
fn canonical(text: &str) -> Value {
    fn without(value: &mut Value) {
        match value {
            Value::Object(object) => {
                object.retain(|key, _| !["precision", "scale", "order"].contains(&key.as_str()));
                if object.len() == 1
                    && let Some(inner) = object.remove("type")
                {
                    *value = inner;
                    return without(value);
                }
                object.values_mut().for_each(without);
            }
            Value::Array(items) => items.iter_mut().for_each(without),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(text).unwrap();
    without(&mut value);
    value
}

#[test]
fn drawn_schemas_get_the_verdict_and_the_canonical_form_of_another_parser() {
    let (mut runner, schemas) = (TestRunner::new(cases(1)), any_type());
    let (mut valid, mut agreed) = (0, 0);
    for _ in 0..DRAWN {
        let text = schemas.new_tree(&mut runner).unwrap().current().to_string();
        agreed += usize::from(agree(&text));
        valid += usize::from(parse_schema(&text).is_ok());
    }
    assert!(valid > DRAWN / 5 && valid < DRAWN / 2, "{valid} of {DRAWN} are valid");
    assert!(agreed > DRAWN * 9 / 10, "{agreed} of {DRAWN} verdicts are the same");
}

/// The texts of all schemas of third parties, each with its origin.
fn collected() -> Vec<(String, String)> {
    let mut found = vec![];
    for dir in ["avro/schema_tests/pass", "avro/schema_tests/fail", "avro/share/test/schemas"] {
        let Some(path) = data(dir) else { return vec![] };
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
    for (at, pair) in expected("compat/pairs.jsonl").iter().enumerate() {
        found.extend(["reader", "writer"].map(|side| (format!("pair {at}, {side}"), pair[side].to_string())));
    }
    for line in expected("avro/expected.jsonl") {
        let path = data("avro").unwrap().join(line["file"].as_str().unwrap());
        let bytes = std::fs::read(&path).unwrap();
        if let Ok(reader) = apache_avro::Reader::new(&bytes[..]) {
            found.push((path.display().to_string(), serde_json::to_string(reader.writer_schema()).unwrap()));
        }
    }
    found
}

#[test]
fn schemas_of_third_parties_get_the_verdict_of_another_parser() {
    let collected = collected();
    let agreed = collected.iter().filter(|(_, text)| agree(text)).count();
    assert!(
        collected.is_empty() || collected.len() > 250 && agreed + 10 > collected.len(),
        "{agreed} of {}",
        collected.len()
    );
}

/// Returns a record with a field `f` of a type and, where it is not empty, more of the field.
fn field(kind: &str, more: &str) -> String {
    format!(r#"{{"type":"record","name":"r","fields":[{{"name":"f","type":{kind}{more}}}]}}"#)
}

fn default(kind: &str, value: &str) -> String {
    field(kind, &format!(r#","default":{value}"#))
}

#[test]
fn what_the_specification_allows_is_taken() {
    let fixed = r#"{"type":"fixed","name":"x","size":2}"#;
    let symbols = r#"{"type":"enum","name":"e","symbols":["A","B"],"default":"B"}"#;
    for text in [
        // Names and namespaces.
        r#"{"type":"record","name":"n.s.r","namespace":"ignored","fields":[{"name":"f","type":["null","r"]}]}"#.to_owned(),
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"f","type":{"type":"fixed","name":"x","namespace":"","size":1}},{"name":"g","type":"n.r"}]}"#.to_owned(),
        r#"{"type":"record","name":"_R9","aliases":["a","n.b"],"fields":[{"name":"_9","type":"int","aliases":["x"]}]}"#.to_owned(),
        // Recursion, through every container.
        field(r#"["null","r"]"#, ""),
        field(r#"{"type":"array","items":"r"}"#, ""),
        field(r#"{"type":"map","values":["null","r"]}"#, ""),
        // Unions.
        field("[]", ""),
        field(r#"["null","string","bytes",{"type":"array","items":"int"},{"type":"map","values":"int"}]"#, ""),
        field(&format!(r#"[{fixed},{{"type":"fixed","name":"y","size":2}}]"#), ""),
        // Defaults; a union takes one of any branch since 1.12.
        default(r#"["null","int"]"#, "null"),
        default(r#"["null","int"]"#, "7"),
        default(r#"["int","null"]"#, "null"),
        default("\"long\"", "-9223372036854775808"),
        default("\"float\"", "1"),
        default("\"bytes\"", "\"\u{ff}\""),
        default(fixed, "\"\u{ff}a\""),
        default(symbols, "\"A\""),
        default(r#"{"type":"array","items":"int"}"#, "[]"),
        default(r#"{"type":"map","values":"int"}"#, r#"{"k":1}"#),
        default(r#"{"type":"record","name":"i","fields":[{"name":"a","type":"int","default":1}]}"#, "{}"),
        // Sizes, symbols, and attributes without meaning.
        field(r#"{"type":"fixed","name":"x","size":0}"#, ""),
        field(r#"{"type":"enum","name":"e","symbols":[]}"#, ""),
        field("\"int\"", r#","order":"descending","doc":"d","other":{"x":[1]}"#),
        field(r#"{"type":{"type":"int"}}"#, ""),
        // A logical type that is unknown, on a wrong base or wrong in itself is ignored.
        field(r#"{"type":"string","logicalType":"date"}"#, ""),
        field(r#"{"type":"int","logicalType":"timestamp-millis"}"#, ""),
        field(r#"{"type":"bytes","logicalType":"decimal"}"#, ""),
        field(r#"{"type":"bytes","logicalType":"decimal","precision":2,"scale":3}"#, ""),
        field(r#"{"type":"fixed","name":"x","size":3,"logicalType":"duration"}"#, ""),
        field(r#"{"type":"fixed","name":"x","size":3,"logicalType":"uuid"}"#, ""),
        field(r#"{"type":"long","logicalType":"nonsense"}"#, ""),
    ] {
        parse_schema(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(agree(&text), "{text}");
    }
}

#[test]
fn what_the_specification_forbids_is_refused() {
    let fixed = r#"{"type":"fixed","name":"x","size":2}"#;
    for (text, why) in [
        // Names and namespaces.
        (r#"{"type":"record","name":"n..r","fields":[]}"#.to_owned(), "does not begin with a digit"),
        (r#"{"type":"record","name":"r","namespace":"n-s","fields":[]}"#.to_owned(), "does not begin with a digit"),
        (r#"{"type":"record","name":"r","aliases":["1"],"fields":[]}"#.to_owned(), "an alias"),
        (r#"{"type":"record","fields":[]}"#.to_owned(), "'name' of a type"),
        (field(&format!(r#"[{fixed},"y"]"#), ""), "unknown type 'y'"),
        (field(r#"{"type":"record","name":"n.i","fields":[{"name":"g","type":"r"}]}"#, ""), "unknown type 'r'"),
        // Unions and recursion.
        (field(r#"["int",["null"]]"#, ""), "contains another union"),
        (field(r#"["int","int"]"#, ""), "contains int twice"),
        (field(r#"["int",{"type":"int","logicalType":"date"}]"#, ""), "contains int twice"),
        (field(r#"["null","r","r"]"#, ""), "contains r twice"),
        (field(r#"[{"type":"array","items":"int"},{"type":"array","items":"long"}]"#, ""), "contains array twice"),
        // Defaults.
        (default(r#"["null","int"]"#, "\"x\""), "a default of type union"),
        (default("\"int\"", "2147483648"), "a default of type int"),
        (default("\"int\"", "1.5"), "a default of type int"),
        (default(fixed, "[]"), "a default of type fixed x"),
        (default(r#"{"type":"enum","name":"e","symbols":["A"]}"#, "\"B\""), "a default of type enum e"),
        (default(r#"{"type":"array","items":"int"}"#, "[null]"), "a default of type array"),
        (
            default(r#"{"type":"record","name":"i","fields":[{"name":"a","type":"int"}]}"#, "{}"),
            "a default of type record i",
        ),
        // Sizes, symbols and fields.
        (r#"{"type":"fixed","name":"x"}"#.to_owned(), "found nothing"),
        (r#"{"type":"fixed","name":"x","size":-1}"#.to_owned(), "found -1"),
        (r#"{"type":"fixed","name":"x","size":1.5}"#.to_owned(), "found 1.5"),
        (r#"{"type":"enum","name":"e","symbols":["A","A"]}"#.to_owned(), "duplicate symbol"),
        (r#"{"type":"enum","name":"e","symbols":["a-b"]}"#.to_owned(), "a symbol"),
        (r#"{"type":"enum","name":"e","symbols":["A"],"default":"B"}"#.to_owned(), "one of its symbols"),
        (r#"{"type":"enum","name":"e","symbols":["A"],"default":0}"#.to_owned(), "one of its symbols"),
        (field("\"int\"", r#"},{"name":"f","type":"int""#), "duplicate field"),
        (field(r#"{"type":"int","logicalType":7}"#, ""), "a string as 'logicalType'"),
    ] {
        let Err(error) = parse_schema(&text) else { panic!("{text} is taken") };
        assert!(error.to_string().contains(why), "{text}: {error}");
        assert!(agree(&text), "{text}");
    }
}

#[test]
fn two_parsers_differ_where_the_other_one_is_not_the_specification() {
    let uuid = r#"{"type":"string","logicalType":"uuid"}"#;
    for text in [
        default(uuid, "\"none\""),
        default(
            r#"{"type":"fixed","name":"x","size":12,"logicalType":"duration"}"#,
            &format!("\"{}\"", "a".repeat(12)),
        ),
        field("\"int\"", r#","aliases":["g"]},{"name":"g","type":"int""#),
    ] {
        assert!(parse_schema(&text).is_ok() && !agree(&text), "{text}");
    }
    for text in [
        r#"{"type":"record","name":".r","fields":[]}"#.to_owned(),
        r#"{"type":"record","name":"int","fields":[]}"#.to_owned(),
        field(r#"{"type":"fixed","name":"r","size":1}"#, ""),
        default("\"bytes\"", "\"\u{100}\""),
        default(r#"{"type":"fixed","name":"x","size":2}"#, "\"a\""),
    ] {
        assert!(parse_schema(&text).is_err() && !agree(&text), "{text}");
    }
}

/// A file says with its schema how its bytes are read, however the writer got it.
#[test]
fn the_schema_of_a_file_may_break_rules_that_reading_does_not_need() {
    for text in [
        default("\"int\"", "null"),
        field(r#"["int",["null","int"]]"#, ""),
        field(r#"["null","null"]"#, ""),
        field(r#"{"type":"fixed","name":"r","size":1}"#, ""),
        field("\"int\"", r#","aliases":7"#),
        r#"{"type":"error","name":"my-error","namespace":7,"fields":[{"name":"a b","type":"int"}]}"#.to_owned(),
        r#"{"type":"enum","name":"e","symbols":["a-b","a-b"],"default":"none"}"#.to_owned(),
        r#"{"type":"record","name":"r","fields":[{"name":"f","type":{"type":"fixed","name":"m.x","size":1}},
            {"name":"g","type":{"type":"record","name":"n.s","fields":[{"name":"h","type":["null","r"]}]}}]}"#
            .to_owned(),
    ] {
        parse_lenient(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    }
    for text in [field("\"int\"", r#"},{"name":"f","type":"int""#), field("\"unknown\"", ""), field("7", "")] {
        assert_eq!(parse_lenient(&text).unwrap_err().kind(), ErrorKind::Corrupt, "{text}");
    }
    let decimal = parse_lenient(r#"{"type":"bytes","logicalType":"decimal","scale":2}"#).unwrap();
    assert!(matches!(decimal.node(decimal.root()).logical, Some(Logical::Decimal { scale: 2, .. })));
}
