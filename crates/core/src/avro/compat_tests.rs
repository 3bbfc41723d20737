//! Tests compatibility against third-party facts, and the reasons evt reports.

use super::*;
use crate::avro::parse_schema;
use crate::format::test_data::data;
use serde_json::Value;

fn lines(name: &str) -> Vec<Value> {
    let Some(path) = data(name) else { return vec![] };
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn schema(value: &Value) -> Schema {
    parse_schema(&value.to_string()).unwrap_or_else(|e| panic!("{e}: {value}"))
}

fn parsed(text: &str) -> Schema {
    parse_schema(text).unwrap()
}

fn reasons(reader: &str, writer: &str) -> Vec<String> {
    check(&parsed(reader), &parsed(writer)).iter().map(SchemaFault::to_string).collect()
}

#[test]
fn all_pairs_of_the_collection_get_their_verdict() {
    let pairs = lines("compat/pairs.jsonl");
    for pair in &pairs {
        let found = check(&schema(&pair["reader"]), &schema(&pair["writer"]));
        assert_eq!(found.is_empty(), pair["expected"].as_bool().unwrap(), "{pair} {found:?}");
    }
    assert!(pairs.is_empty() || pairs.len() == 109);
}

const ORDER: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"id","type":"string"},
    {"name":"state","type":{"type":"enum","name":"State","symbols":["NEW","PAID","SENT"]}},
    {"name":"items","type":{"type":"array","items":{"type":"record","name":"Item","fields":[
        {"name":"price","type":"double"}]}}},
    {"name":"tags","type":{"type":"map","values":"string"}},
    {"name":"note","type":["null","string"],"default":null}]}"#;

#[test]
fn each_reason_names_its_path_and_why() {
    let reader = r#"{"type":"record","name":"Order","fields":[
        {"name":"key","type":"string"},
        {"name":"state","type":{"type":"enum","name":"State","symbols":["NEW"]}},
        {"name":"items","type":{"type":"array","items":{"type":"record","name":"Item","fields":[
            {"name":"price","type":"long"},{"name":"count","type":"int"}]}}},
        {"name":"tags","type":{"type":"map","values":"boolean"}},
        {"name":"note","type":["null","int"]}]}"#;
    assert_eq!(
        reasons(reader, ORDER),
        [
            "Order.key: the writer has no such field, and the field has no default",
            "Order.state: the reader has neither the symbols PAID, SENT nor a default",
            "Order.items[].count: the writer has no such field, and the field has no default",
            "Order.items[].price: a double cannot be read as long",
            "Order.tags{}: a string cannot be read as boolean",
            "Order.note: no branch of the reader's union reads string",
        ]
    );
}

#[test]
fn names_sizes_and_shapes_are_told_apart() {
    let record = |name: &str| format!(r#"{{"type":"record","name":"{name}","fields":[]}}"#);
    assert_eq!(
        reasons(&record("ns.New"), &record("Old")),
        ["New: the writer's name is Old, the reader's New, and no alias matches"]
    );
    let fixed = |size: u32| format!(r#"{{"type":"fixed","name":"F","size":{size}}}"#);
    assert_eq!(reasons(&fixed(4), &fixed(8)), ["F: the writer's size is 8 bytes, the reader's 4"]);
    assert_eq!(reasons("\"int\"", ORDER), ["int: a record Order cannot be read as int"]);
}

#[test]
fn a_record_meant_in_a_union_gets_its_own_reasons() {
    let wrap = |fields: &str| format!(r#"["null",{{"type":"record","name":"A","fields":[{fields}]}}]"#);
    let reader = wrap(r#"{"name":"x","type":"int"}"#);
    assert_eq!(reasons(&reader, &wrap("")), ["union.x: the writer has no such field, and the field has no default"]);
}

#[test]
fn a_recursive_type_that_disagrees_deep_inside_is_refused_once() {
    let tree = |leaf: &str| {
        format!(
            r#"{{"type":"record","name":"Tree","fields":[
                {{"name":"left","type":["null","Tree"]}},{{"name":"right","type":["null","Tree"]}},
                {{"name":"leaf","type":"{leaf}"}}]}}"#
        )
    };
    assert_eq!(reasons(&tree("long"), &tree("int")), Vec::<String>::new());
    assert_eq!(reasons(&tree("int"), &tree("string")), ["Tree.leaf: a string cannot be read as int"]);
}

/// A pair that fails only through a cycle must not be proved by the initial assumption.
#[test]
fn a_branch_that_holds_only_by_assumption_does_not_hold() {
    let reader = r#"{"type":"record","name":"A","fields":[
        {"name":"any","type":["null",{"type":"record","name":"B","fields":[{"name":"up","type":["null","A"]}]}]},
        {"name":"x","type":"int"}]}"#;
    let writer = r#"{"type":"record","name":"A","fields":[
        {"name":"any","type":["null",{"type":"record","name":"B","fields":[{"name":"up","type":["null","A"]}]}]},
        {"name":"x","type":"string"}]}"#;
    assert_eq!(reasons(reader, writer), ["A.x: a string cannot be read as int"]);
}

/// Returns a union of records, each with a field of the one before; the first has a field of `kind`.
fn chain(length: usize, kind: &str) -> Schema {
    let record = |at: usize| {
        let inner = if at == 0 { kind.to_owned() } else { format!("R{}", at - 1) };
        format!(r#"{{"type":"record","name":"R{at}","fields":[{{"name":"a","type":"{inner}"}}]}}"#)
    };
    parse_schema(&format!("[{}]", (0..length).map(record).collect::<Vec<_>>().join(","))).unwrap()
}

#[test]
fn large_schemas_are_compared_in_less_than_the_cube_of_their_size() {
    let (int, string) = (chain(700, "int"), chain(700, "string"));
    assert_eq!(check(&int, &int), []);
    let found = check(&string, &int);
    assert_eq!(found.len(), 1, "each pair is told once");
    assert_eq!(found[0].to_string(), "union.a: a int cannot be read as string");
}
