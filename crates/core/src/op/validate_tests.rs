//! Tests the validation of event batches: the mapping rule, versions, subjects, and the message of every fault.

use super::*;
use crate::kind::Kind;
use crate::parallel::Backwards;
use crate::schema::AVRO;
use crate::schema::subject::schema_id;
use arrow::array::{
    Array, ArrayRef, DictionaryArray, FixedSizeBinaryArray, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Int32Type};

/// Subjects in memory; counts the look-ups.
#[derive(Default)]
struct Memory {
    subjects: HashMap<String, Arc<Subject>>,
    asked: usize,
    /// Why look-ups fail.
    away: Option<Arc<str>>,
}

impl Memory {
    fn of(subjects: &[(&str, &[&str])]) -> Self {
        let mut memory = Memory::default();
        for (name, texts) in subjects {
            memory.set(name, texts);
        }
        memory
    }

    fn set(&mut self, name: &str, texts: &[&str]) {
        let version = |(n, text): (u32, &&str)| Version {
            number: n,
            id: schema_id(name, n),
            schema: (AVRO.parse)(text).unwrap(),
            text: (*text).into(),
        };
        let versions = (1..).zip(texts.iter()).map(version).collect();
        let subject = Subject { name: name.to_owned(), versions };
        self.subjects.insert(name.to_owned(), Arc::new(subject));
    }
}

impl Schemas for Memory {
    fn subject(&mut self, name: &str) -> Result<Lookup> {
        self.asked += 1;
        if let Some(cause) = &self.away {
            return Ok(Lookup::Unavailable(cause.clone()));
        }
        Ok(self.subjects.get(name).cloned().map_or(Lookup::Unknown, Lookup::Found))
    }
}

/// Type, user and properties of an event.
type Given<'a> = (&'a str, Option<&'a str>, &'a str);

/// Builds events of the given types, users and properties.
fn events(rows: &[Given<'_>]) -> RecordBatch {
    let n = rows.len();
    let time = || Arc::new(TimestampMicrosecondArray::from(vec![1_000_000; n]).with_timezone("UTC")) as ArrayRef;
    let name = || Arc::new(std::iter::repeat_n("file", n).collect::<DictionaryArray<Int32Type>>()) as ArrayRef;
    let text =
        |get: fn(&Given<'_>) -> Option<String>| Arc::new(rows.iter().map(get).collect::<StringArray>()) as ArrayRef;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(FixedSizeBinaryArray::try_from_iter(std::iter::repeat_n([7u8; 16], n)).unwrap()),
        text(|_| Some("ios".to_owned())),
        text(|row| Some(row.0.to_owned())),
        text(|row| row.1.map(str::to_owned)),
        text(|row| Some(row.2.to_owned())),
        new_null_array(&crate::kind::instant_type(), n),
        time(),
        time(),
        time(),
        name(),
        name(),
        Arc::new(Int64Array::from_iter_values(1..=n as i64)),
        time(),
        new_null_array(&DataType::Int64, n),
    ];
    RecordBatch::try_new(Kind::Event.schema(), columns).unwrap()
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"Event","fields":[{fields}]}}"#)
}

/// Returns the message for one event of type `t` under one schema; empty if it is valid.
fn faults(fields: &str, user: Option<&str>, properties: &str, closed: bool) -> String {
    let mut memory = Memory::of(&[("t", &[&record(fields)])]);
    let mut validator = Validator::new(Options { closed, ..Options::default() });
    let verdicts = validator.check(&events(&[("t", user, properties)]), &mut memory).unwrap();
    match &verdicts.faults[..] {
        [] => {
            assert_eq!(verdicts.schema_ids.value(0), schema_id("t", 1));
            String::new()
        }
        [Rejected { row: 0, fault }] => {
            assert_eq!(fault.error_type, ErrorType::SchemaValidationError);
            assert!(verdicts.schema_ids.is_null(0));
            fault.message.clone()
        }
        more => panic!("{more:?}"),
    }
}

const AMOUNT: &str = r#"{"name":"amount","type":"double"}"#;

#[test]
fn fields_with_an_envelope_name_are_columns_and_all_others_properties() {
    let envelope = r#"{"name":"event_id","type":{"type":"string","logicalType":"uuid"}},
        {"name":"source","type":{"type":"enum","name":"Source","symbols":["ios","web"]}},
        {"name":"event_type","type":"string"},
        {"name":"user_id","type":["null","string"],"default":null},
        {"name":"client_timestamp","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
        {"name":"server_timestamp","type":"string"},"#;
    let schema = format!("{envelope}{AMOUNT}");
    assert_eq!(faults(&schema, None, r#"{"amount":1.5}"#, true), "");
    assert_eq!(faults(&schema, Some("u"), r#" {"amount":1.5, "more":1}"#, false), "");
    assert_eq!(
        faults(&schema, None, r#"{"amount":"x"}"#, false),
        r#"properties.amount: expected double, found string "x""#
    );
    assert_eq!(faults(&schema, None, "{}", false), "properties.amount: missing");
}

#[test]
fn each_fault_of_a_column_says_what_it_holds() {
    let field = |name: &str, kind: &str| format!(r#"{{"name":"{name}","type":{kind}}}"#);
    let web = r#"{"type":"enum","name":"Source","symbols":["web"]}"#;
    for (name, kind, user, expected) in [
        ("source", web, None, r#"source: expected one of web, found string "ios""#),
        ("source", "\"int\"", None, r#"source: expected int (32 bits), found string "ios""#),
        ("user_id", "\"string\"", None, "user_id: missing"),
        ("user_id", "\"string\"", Some("u"), ""),
        ("user_id", r#"["null","int"]"#, Some("u"), r#"user_id: expected null or int (32 bits), found string "u""#),
        ("user_id", r#"["null","int"]"#, None, ""),
        (
            "user_id",
            r#"{"type":"string","logicalType":"uuid"}"#,
            Some("u"),
            r#"user_id: expected uuid, found string "u""#,
        ),
        ("event_id", "\"long\"", None, "event_id: expected long (64 bits), found a UUID"),
        ("client_timestamp", "\"long\"", None, "client_timestamp: missing"),
        ("server_timestamp", "\"boolean\"", None, "server_timestamp: expected boolean, found an instant"),
        ("server_timestamp", r#"{"type":"long","logicalType":"timestamp-micros"}"#, None, ""),
        ("event_time", "\"long\"", None, ""),
    ] {
        assert_eq!(faults(&field(name, kind), user, "{}", true), expected, "{name} {kind}");
    }
}

#[test]
fn a_field_with_a_default_or_that_takes_null_may_be_absent() {
    assert_eq!(
        faults(
            r#"{"name":"n","type":"int","default":0},{"name":"user_id","type":"string","default":""}"#,
            None,
            "{}",
            true
        ),
        ""
    );
    // Null is left out of records read from Avro, with a default or without.
    assert_eq!(faults(r#"{"name":"n","type":["null","int"]}"#, None, "{}", true), "");
    assert_eq!(faults(r#"{"name":"n","type":["int","string"]}"#, None, "{}", true), "properties.n: missing");
}

#[test]
fn the_first_fault_is_told_and_the_others_counted() {
    let schema = format!(r#"{AMOUNT},{{"name":"user_id","type":"string"}},{{"name":"currency","type":"string"}}"#);
    assert_eq!(faults(&schema, None, r#"{"amount":"x"}"#, false), "user_id: missing (and 2 more)");
    let message = faults(&schema, Some("u"), r#"{"more":1,"amount":"x","other":2}"#, true);
    assert_eq!(message, "properties.more: not defined in the schema (and 3 more)");
}

#[test]
fn provenance_is_the_producers_property_where_there_is_one_and_the_column_otherwise() {
    let schema = r#"{"name":"offset","type":"string"}"#;
    assert_eq!(faults(schema, None, r#"{"offset":"x"}"#, true), "");
    assert_eq!(faults(schema, None, r#"{"offset":5}"#, true), "properties.offset: expected string, found number 5");
    assert_eq!(faults(schema, None, "{}", true), "properties.offset: expected string, found number 1");
    assert_eq!(faults(r#"{"name":"offset","type":"long"},{"name":"origin","type":"string"}"#, None, "{}", true), "");
    assert_eq!(faults(r#"{"name":"schema_id","type":"long"}"#, None, "{}", true), "properties.schema_id: missing");
}

#[test]
fn a_record_called_properties_holds_properties() {
    let nested =
        |kind: &str| format!(r#"{{"name":"properties","type":{kind}}},{{"name":"top","type":"int","default":0}}"#);
    let inner = format!(r#"{{"type":"record","name":"P","fields":[{AMOUNT}]}}"#);
    let plain = nested(&inner);
    assert_eq!(faults(&plain, None, r#"{"amount":1,"top":2}"#, true), "");
    assert_eq!(faults(&plain, None, "{}", true), "properties.amount: missing");
    assert_eq!(faults(&plain, None, r#"{"amount":1,"x":2}"#, true), "properties.x: not defined in the schema");
    let optional = nested(&format!(r#"["null",{inner}]"#));
    assert_eq!(faults(&optional, None, " { } ", true), "");
    assert_eq!(faults(&optional, None, r#"{"amount":true}"#, true), "properties.amount: expected double, found true");
    let map = nested(r#"{"type":"map","values":"int"}"#);
    assert_eq!(faults(&map, None, r#"{"a":1,"top":2}"#, true), "");
    assert_eq!(faults(&map, None, r#"{"a":"b"}"#, true), r#"properties.a: expected int (32 bits), found string "b""#);
}

#[test]
fn a_field_that_is_there_twice_is_a_bad_schema() {
    let text = record(&format!(
        r#"{AMOUNT},{{"name":"properties","type":{{"type":"record","name":"P","fields":[{AMOUNT}]}}}}"#
    ));
    let mut memory = Memory::of(&[("t", &[&text]), ("list", &["{\"type\":\"array\",\"items\":\"int\"}"])]);
    let mut check =
        |kind| Validator::new(Options::default()).check(&events(&[(kind, None, "{}")]), &mut memory).unwrap_err();
    assert_eq!(
        check("t").to_string(),
        "subject 't' version 1: 'amount': duplicate field, in the record and in its 'properties'"
    );
    assert_eq!(check("list").to_string(), "subject 'list' version 1: expected a record schema, found array");
}

const V1: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
const V2: &str = r#"{"type":"record","name":"R","fields":[{"name":"b","type":"int"}]}"#;
const UNKNOWN: &str = "no schema for subject 'other'; known: t (--subject =t validates all rows by this one)";

#[test]
fn events_of_several_versions_pass_on_one_stream_and_the_latest_one_words_the_fault() {
    let mut memory = Memory::of(&[("t", &[V1, V2])]);
    let batch = events(&[
        ("t", None, r#"{"a":1}"#),
        ("t", None, r#"{"b":1}"#),
        ("t", None, r#"{"a":1,"b":1}"#),
        ("t", None, r#"{"a":"x","b":"x"}"#),
        ("other", None, "{}"),
    ]);
    let verdicts = Validator::new(Options::default()).check(&batch, &mut memory).unwrap();
    let (v1, v2) = (Some(schema_id("t", 1)), Some(schema_id("t", 2)));
    assert_eq!(verdicts.schema_ids.iter().collect::<Vec<_>>(), [v1, v2, v2, None, None]);
    let faults: Vec<_> = verdicts
        .faults
        .iter()
        .map(|Rejected { row, fault }| (*row, fault.error_type, fault.message.as_str()))
        .collect();
    assert_eq!(
        faults,
        [
            (3, ErrorType::SchemaValidationError, r#"properties.b: expected int (32 bits), found string "x""#),
            (4, ErrorType::UnknownSchemaError, UNKNOWN),
        ]
    );
}

#[test]
fn a_version_added_while_the_stream_runs_counts_from_the_next_event_that_needs_it() {
    let mut memory = Memory::of(&[("t", &[V1])]);
    let mut validator = Validator::new(Options::default());
    let mut faults = |memory: &mut Memory, kind| {
        validator.check(&events(&[(kind, None, r#"{"b":1}"#)]), memory).unwrap().faults.len()
    };
    assert_eq!((faults(&mut memory, "t"), faults(&mut memory, "u")), (1, 1));
    memory.set("t", &[V1, V2]);
    memory.set("u", &[V2]);
    assert_eq!((faults(&mut memory, "t"), faults(&mut memory, "u")), (0, 0));
}

#[test]
fn a_subject_is_asked_for_once_however_many_events_and_once_a_batch_where_they_fail() {
    let mut memory = Memory::of(&[("t", &[V1])]);
    let mut validator = Validator::new(Options::default());
    for _ in 0..3 {
        validator.check(&events(&[("t", None, r#"{"a":1}"#); 50]), &mut memory).unwrap();
    }
    assert_eq!(memory.asked, 1);
    for _ in 0..3 {
        validator
            .check(&events(&[("t", None, "{}"), ("u", None, "{}"), ("t", None, "{}"), ("u", None, "{}")]), &mut memory)
            .unwrap();
    }
    assert_eq!(memory.asked, 7);
}

#[test]
fn a_registry_that_is_away_makes_nobody_guess_and_stops_nobody_who_knows() {
    let mut memory = Memory::of(&[("t", &[V1])]);
    let mut validator = Validator::new(Options::default());
    let mut faults = |memory: &mut Memory, rows: &[Given<'_>]| -> Vec<String> {
        let faults = validator.check(&events(rows), memory).unwrap().faults;
        faults
            .into_iter()
            .map(|Rejected { row, fault }| format!("{row} {}: {}", fault.error_type.name(), fault.message))
            .collect()
    };
    assert_eq!(faults(&mut memory, &[("t", None, r#"{"a":1}"#)]), [""; 0]);
    memory.away = Some("it is silent".into());
    let unknown = |row, name| format!("{row} UnknownSchemaError: subject '{name}' cannot be fetched: it is silent");
    let rows = [("t", None, r#"{"a":1}"#), ("t", None, "{}"), ("u", None, "{}"), ("t", None, r#"{"a":2}"#)];
    assert_eq!(faults(&mut memory, &rows), [unknown(1, "t"), unknown(2, "u")]);
    memory.away = None;
    assert!(faults(&mut memory, &rows)[0].starts_with("1 SchemaValidationError"));
}

#[test]
fn the_subject_may_be_fixed_another_column_or_a_property() {
    let mut memory = Memory::of(&[("ios", &[V1]), ("x", &[V1]), ("7", &[V1])]);
    let mut verdict = |subject: SubjectOf, properties: &str| {
        let options = Options { subject, ..Options::default() };
        let verdicts = Validator::new(options).check(&events(&[("t", None, properties)]), &mut memory).unwrap();
        verdicts
            .faults
            .into_iter()
            .map(|Rejected { fault, .. }| format!("{}: {}", fault.error_type.name(), fault.message))
            .collect::<String>()
    };
    let column = |name: &str| SubjectOf::Column(name.to_owned());
    let a = r#"{"a":1,"meta":{"kind":"x","n":7,"none":null}}"#;
    assert_eq!(verdict(SubjectOf::Fixed("x".to_owned()), a), "");
    assert_eq!(verdict(column("source"), a), "");
    assert_eq!(verdict(column("meta.kind"), a), "");
    assert_eq!(verdict(column("meta.kind"), r#"{"a":1,"meta":{"k\u0069nd":"\u0078"}}"#), "");
    assert_eq!(verdict(column("meta.n"), a), "");
    for missing in ["user_id", "meta.none", "meta.kind.x", "nothing"] {
        let remedy = format!("(--subject ={missing} is that name itself)");
        let expected = format!("UnknownSchemaError: {missing}: missing, but required as the subject {remedy}");
        assert_eq!(verdict(column(missing), a), expected);
    }
}

#[test]
fn columns_that_are_not_those_of_events_are_refused() {
    let mut memory = Memory::default();
    let metrics = RecordBatch::new_empty(Kind::Metric.schema());
    let error = Validator::new(Options::default()).check(&metrics, &mut memory).unwrap_err();
    assert_eq!(error.to_string(), "expected events with a text column 'properties'");
}

#[test]
fn rows_that_are_validated_at_the_same_time_have_the_verdicts_of_one_after_another() {
    let validators = [Parallelism::default(), Parallelism::of(Arc::new(Backwards))];
    let verdicts = validators.map(|parallelism| {
        let mut memory = Memory::of(&[("t", &[V1]), ("u", &[V2, V1])]);
        let mut validator = Validator::new(Options::default()).by(parallelism);
        let mut found = vec![];
        for round in 0..40usize {
            let row = |at: usize| -> Given<'_> {
                let kind = ["t", "u", "v", "t"][(at + round) % 4];
                (kind, None, [r#"{"a":1}"#, r#"{"b":1}"#, "{}", r#"{"a":2}"#, r#"{"a":"x"}"#][at * (round + 1) % 5])
            };
            let rows: Vec<Given<'_>> = (0..=round * 3 % 50).map(row).collect();
            let Verdicts { schema_ids, faults } = validator.check(&events(&rows), &mut memory).unwrap();
            let faults = faults.into_iter().map(|Rejected { row, fault }| (row, fault.message));
            found.push((schema_ids, faults.collect::<Vec<_>>()));
            match round {
                10 => memory.set("v", &[V1]),
                20 => memory.set("t", &[V1, V2]),
                30 => _ = memory.subjects.remove("u"),
                _ => {}
            }
        }
        found
    });
    assert!(verdicts[0] == verdicts[1]);
    let faults = verdicts[0].iter().map(|(_, faults)| faults.len()).sum::<usize>();
    let accepted = verdicts[0].iter().map(|(ids, _)| ids.len() - ids.null_count()).sum::<usize>();
    assert!(faults > 100 && accepted > 100, "{faults} {accepted}");
}
