//! Encodes events as records and reads them again through the mapping.

use super::*;
use crate::avro::decode::Decoder;
use crate::avro::parse_schema;
use crate::json::text::write_string;
use crate::mapping::{FutureVerdict, Mapped, Mapper, Options, PartitionTable, Record, RecordMeta, TimeFrom};
use crate::schema::language::LostPart;
use crate::test_cases::cases;
use crate::time::{EARLIEST, LATEST, format_instant};
use arrow::array::AsArray;
use proptest::prelude::*;
use serde_json::{Value, json};

const ID: &str = "58aedb27-dcc1-534a-ba59-63b291b9768e";
const NOW: i64 = 1_700_000_000_000_000;
/// A field for every column that a producer fills, and properties.
const VIEW: &str = r#"{"type":"record","name":"PageView","fields":[
    {"name":"event_id","type":{"type":"string","logicalType":"uuid"}},{"name":"source","type":"string"},
    {"name":"event_type","type":{"type":"enum","name":"T","symbols":["view","click"]}},
    {"name":"client_timestamp","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
    {"name":"server_timestamp","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"user_id","type":["null","string"],"default":null},{"name":"page","type":["null","string"]},
    {"name":"amount","type":["null","double"],"default":null},{"name":"tags","type":{"type":"array","items":"string"}},
    {"name":"event_time","type":["null","string"]},{"name":"offset","type":["null","long"]},
    {"name":"extra","type":["null",{"type":"map","values":["null","boolean","long","string"]}]}]}"#;

/// Maps records to rows as a topic's records are.
fn rows(texts: &[impl AsRef<str>]) -> RecordBatch {
    let mut partition_table = PartitionTable::default();
    let partition = partition_table.partition("t", "0");
    let mut mapper = Mapper::new(Options { time: TimeFrom::Optional, ..Options::default() }).unwrap();
    mapper.turn_to(partition, ("t", "0"));
    for (offset, text) in (0..).zip(texts) {
        let meta = RecordMeta::of_file("t", partition).at(offset);
        let record = Record { text: text.as_ref(), raw: b"raw", meta, now: NOW, verdict: FutureVerdict::ByArrival };
        let outcome = mapper.record(record).unwrap();
        assert!(matches!(outcome, Mapped::Row), "{}: {outcome:?}", text.as_ref());
    }
    mapper.finish().unwrap().stamp(&mut partition_table, None).unwrap().unwrap()
}

fn records(schema: &str) -> RecordEncoder {
    RecordEncoder::try_new(&parse_schema(schema).unwrap()).unwrap()
}

/// Returns the records of rows as a decoder reads them, or why there is none.
fn written(schema: &str, batch: &RecordBatch) -> (Vec<Result<String, String>>, Lost) {
    let (mut decoder, mut lost) = (Decoder::of(&parse_schema(schema).unwrap()), Lost::default());
    let mut read = |bytes: Bytes| {
        let (mut bytes, mut text) = (bytes.as_ref(), String::new());
        decoder.decode(&mut bytes, &mut text).unwrap();
        assert!(bytes.is_empty());
        text
    };
    let all = records(schema).encode(batch, &mut lost).unwrap();
    (all.into_iter().map(|bytes| bytes.map(&mut read)).collect(), lost)
}

/// Returns the record of one event as JSON.
fn one(schema: &str, text: &str) -> Value {
    let (all, _) = written(schema, &rows(&[text]));
    serde_json::from_str(all[0].as_ref().unwrap()).unwrap()
}

fn fault(schema: &str, text: &str) -> String {
    written(schema, &rows(&[text])).0.remove(0).unwrap_err()
}

/// Returns why a schema is refused.
fn refusal(fields: &str) -> String {
    let text = format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#);
    RecordEncoder::try_new(&parse_schema(&text).unwrap()).err().unwrap().to_string()
}

fn schema(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"r","fields":[{fields}]}}"#)
}

/// Returns rows in a form that compares properties by value.
fn shown(batch: &RecordBatch) -> Vec<(String, Value)> {
    let properties = batch.column(column::PROPERTIES).as_string::<i32>();
    let mut others = batch.clone();
    others.remove_column(column::PROPERTIES);
    let show = |row: usize| {
        let columns = others.columns().iter().map(|column| format!("{:?};", column.slice(row, 1)));
        (columns.collect(), serde_json::from_str(properties.value(row)).unwrap())
    };
    (0..batch.num_rows()).map(show).collect()
}

#[test]
fn a_record_holds_columns_properties_defaults_and_nulls() {
    let full = format!(
        r#"{{"event_id":"{ID}","source":"web","event_type":"view","user_id":"u","client_timestamp":"2024-01-15T10:00:00.5Z",
        "server_timestamp":"2024-01-15T10:00:01Z","page":"/\u0061","amount":1.5,"tags":["a","b"],"extra":{{"k":true,"n":null}}}}"#
    );
    let expected = json!({"event_id": ID, "source": "web", "event_type": "view", "user_id": "u",
        "client_timestamp": "2024-01-15T10:00:00.500000Z", "server_timestamp": "2024-01-15T10:00:01.000000Z",
        "page": "/a", "amount": 1.5, "tags": ["a", "b"], "extra": {"k": true, "n": null},
        "event_time": "2024-01-15T10:00:01.000000Z", "offset": 0});
    assert_eq!(one(VIEW, &full), expected);
    let bare = format!(
        r#"{{"event_id":"{ID}","source":"web","event_type":"click","server_timestamp":"2024-01-15T10:00:01Z","tags":[]}}"#
    );
    let expected = json!({"event_id": ID, "source": "web", "event_type": "click", "tags": [], "offset": 0,
        "server_timestamp": "2024-01-15T10:00:01.000000Z", "event_time": "2024-01-15T10:00:01.000000Z"});
    assert_eq!(one(VIEW, &bare), expected);
}

#[test]
fn names_of_provenance_are_the_producers_where_there_are_some() {
    let schema = schema(r#"{"name":"offset","type":["long","string"]},{"name":"origin","type":"string"}"#);
    let time = r#""server_timestamp":"2024-01-15T10:00:01Z""#;
    assert_eq!(one(&schema, &format!("{{{time}}}")), json!({"offset": 0, "origin": "t"}));
    let own = format!(r#"{{{time},"offset":"x","origin":"mine"}}"#);
    assert_eq!(one(&schema, &own), json!({"offset": "x", "origin": "mine"}));
}

#[test]
fn an_event_time_is_the_producers_only_beside_a_time_that_counts_before_it() {
    let text = r#"{"server_timestamp":"2024-01-15T10:00:01Z","event_time":"2023-01-01"}"#;
    let alone = schema(r#"{"name":"event_time","type":"string"}"#);
    assert_eq!(one(&alone, text), json!({"event_time": "2024-01-15T10:00:01.000000Z"}));
    let beside = schema(
        r#"{"name":"event_time","type":"string"},{"name":"server_timestamp","type":{"type":"long","logicalType":"timestamp-millis"}}"#,
    );
    assert_eq!(
        one(&beside, text),
        json!({"event_time": "2023-01-01", "server_timestamp": "2024-01-15T10:00:01.000000Z"})
    );
}

#[test]
fn a_field_called_properties_holds_its_fields_or_all_others() {
    let text = r#"{"event_type":"x","properties":{"a":1,"b":"two"},"c":3}"#;
    let record = |name: &str, more: &str| {
        schema(&format!(
            r#"{{"name":"{name}","type":["null","long"]}},{{"name":"properties","type":{{"type":"record","name":"P",
            "fields":[{{"name":"b","type":"string"}},{{"name":"z","type":"int","default":9}}]}}{more}}}"#
        ))
    };
    assert_eq!(one(&record("a", ""), text), json!({"a": 1, "properties": {"b": "two", "z": 9}}));
    assert_eq!(written(&record("a", ""), &rows(&[text])).1.properties, LostPart { events: 1, first: Some("c".into()) });
    let defaulted = record("a", r#","default":{"b":"none"}"#);
    assert_eq!(one(&defaulted, text), json!({"a": 1, "properties": {"b": "two", "z": 9}}));
    assert_eq!(one(&defaulted, r#"{"a":1}"#), json!({"a": 1, "properties": {"b": "none", "z": 9}}));
    assert_eq!(fault(&defaulted, r#"{"d":1}"#), "properties.b: missing, and it has no default");
    let map =
        schema(r#"{"name":"c","type":"int"},{"name":"properties","type":{"type":"map","values":["long","string"]}}"#);
    assert_eq!(one(&map, text), json!({"c": 3, "properties": {"a": 1, "b": "two"}}));
    assert_eq!(one(&map, r#"{"c":3}"#), json!({"c": 3, "properties": {}}));
    assert_eq!(written(&map, &rows(&[text])).1, Lost::default());
}

#[test]
fn what_does_not_fit_is_the_fault_of_its_event_and_the_others_go_on() {
    let event = |more: &str| {
        format!(
            r#"{{"event_id":"{ID}","source":"web","event_type":"view","server_timestamp":"2024-01-15T10:00:01Z"{more}}}"#
        )
    };
    let texts = [
        event(r#","tags":["a"]"#),
        event(""),
        event(r#","tags":["a",7]"#),
        event(r#","tags":[],"amount":"1""#),
        event(r#","tags":[],"extra":{"a b":1.5}"#),
        event(r#","tags":[]"#).replace("view", "buy"),
        event(r#","tags":[],"page":null"#),
    ];
    let (all, _) = written(VIEW, &rows(&texts));
    let whys: Vec<Option<&str>> = all.iter().map(|one| one.as_ref().err().map(String::as_str)).collect();
    assert_eq!(
        whys,
        [
            None,
            Some("tags: missing, and it has no default"),
            Some("tags[1]: expected string, found number 7"),
            Some("amount: expected double, found string \"1\""),
            Some("extra.a b: expected long (64 bits), found number 1.5"),
            Some("event_type: expected one of view, click, found string \"buy\""),
            None,
        ]
    );
}

#[test]
fn what_the_schema_does_not_hold_is_counted_by_event() {
    let millis = schema(
        r#"{"name":"client_timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"page","type":"int"}"#,
    );
    let event = |micros: &str, more: &str| {
        format!(r#"{{"client_timestamp":"2024-01-15T10:00:00.001{micros}Z","page":{more}}}"#)
    };
    let texts = [
        event("", "1"),
        event("999", "2,\"a\":1,\"b\":2"),
        event("001", "3"),
        event("999", "\"dead\",\"c\":1"),
        event("", "4,\"d\":1"),
    ];
    let (all, lost) = written(&millis, &rows(&texts));
    assert_eq!(all[1].as_deref(), Ok(r#"{"client_timestamp":"2024-01-15T10:00:00.001000Z","page":2}"#));
    assert_eq!(all.iter().filter(|one| one.is_err()).count(), 1);
    assert_eq!(
        lost,
        Lost {
            properties: LostPart { events: 2, first: Some("a".into()) },
            digits: LostPart { events: 2, first: Some("client_timestamp".into()) },
        }
    );
}

#[test]
fn a_schema_that_no_event_has_a_place_in_is_refused_at_once() {
    let long = r#"{"name":"client_timestamp","type":["null","long"]}"#;
    assert!(
        refusal(long)
            .contains("client_timestamp: an instant cannot be written as null or long (64 bits); use timestamp-millis")
    );
    assert!(refusal(r#"{"name":"event_id","type":"bytes"}"#).contains("event_id: a UUID cannot be written as bytes"));
    assert!(refusal(r#"{"name":"user_id","type":"long"}"#).contains("user_id: a string cannot be written as long"));
    assert!(refusal(r#"{"name":"properties","type":"string"}"#).contains("properties: an object cannot be"));
    let twice = r#"{"name":"a","type":"int"},{"name":"properties","type":{"type":"record","name":"P","fields":[{"name":"a","type":"int"}]}}"#;
    assert!(refusal(twice).contains("'a': duplicate field, in the record and in its 'properties'"));
    let error = RecordEncoder::try_new(&parse_schema("\"string\"").unwrap()).err().unwrap();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (crate::ErrorKind::Config, "expected a record schema, found string")
    );
}

/// Quotes a JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    write_string(&mut out, text);
    out
}

type Drawn =
    ((u128, String, bool, Option<String>), (i64, Option<i64>, Option<f64>), (Vec<String>, Option<String>, Option<i64>));

/// Returns an event as a producer writes it.
fn drawn(event: &Drawn, nested: bool) -> String {
    let ((id, source, view, user), (server, client, amount), (tags, page, n)) = event;
    let user = user.as_ref().map_or("null".to_owned(), |value| quoted(value));
    let kind = if *view { "view" } else { "click" };
    let client = client.map_or("null".to_owned(), |client| quoted(&format_instant(client)));
    let amount = amount.map_or(String::new(), |amount| format!(",\"amount\":{amount:?}"));
    let page = page.as_ref().map_or(String::new(), |page| format!(",\"page\":{}", quoted(page)));
    let extra = n.map_or(String::new(), |n| format!(",\"extra\":{{\"n\":{n},\"t\":true,\"s\":\"\"}}"));
    let tags = format!("\"event_time\":\"mine\",\"offset\":{},\"tags\":{}", tags.len(), Value::from(tags.clone()));
    let mine = format!("{tags}{amount}{page}{extra}");
    let mine = if nested { format!("\"properties\":{{{mine}}}") } else { mine };
    let (id, source, server) = (uuid::Uuid::from_u128(*id), quoted(source), quoted(&format_instant(*server)));
    format!(
        "{{\"event_id\":\"{id}\",\"source\":{source},\"event_type\":\"{kind}\",\"user_id\":{user},\
        \"client_timestamp\":{client},\"server_timestamp\":{server},{mine}}}"
    )
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_is_read_back_is_the_event_that_was_written(
        events in prop::collection::vec(
            (
                (any::<u128>(), "[a-z é\"\\\\]{0,9}", prop::bool::ANY, prop::option::of(any::<String>())),
                (EARLIEST..=LATEST, prop::option::of(EARLIEST..=LATEST), prop::option::of(-1e300..1e300)),
                (prop::collection::vec(".{0,5}", 0..4), prop::option::of(".{0,5}"), prop::option::of(any::<i64>())),
            ),
            1..8,
        ),
        nested: bool,
    ) {
        let batch = rows(&events.iter().map(|event| drawn(event, nested)).collect::<Vec<_>>());
        let (all, lost) = written(VIEW, &batch);
        prop_assert_eq!(lost, Lost::default());
        let again = rows(&all.into_iter().map(Result::unwrap).collect::<Vec<_>>());
        prop_assert_eq!(shown(&again), shown(&batch));
    }
}
