//! Records read with another schema than their writer's: compared with fastavro, and through Kafka with a real
//! registry.

use crate::broker::Bench;
use crate::harness::{Dir, ask, data, python};
use crate::registry::{BAD, V1, V2, behind, click, put, registry, unique};
use evt_core::avro::compat::check;
use evt_core::avro::decode::Decoder;
use evt_core::avro::parse_schema;
use rdkafka::producer::BaseRecord;
use serde_json::{Value, json};

/// Number of random pairs of schemas, with four values each.
const PAIRS: &str = "1500";

/// The result of evt for a record.
fn read(case: &Value) -> Result<Value, String> {
    let schema = |side: &str| parse_schema(&case[side].to_string()).expect("a schema");
    let (writer, reader) = (schema("writer"), schema("reader"));
    let decoder = Decoder::resolving(&writer, &reader);
    if check(&reader, &writer).is_empty() {
        assert!(decoder.is_ok(), "what is compatible resolves: {case}");
    }
    let mut decoder = decoder.map_err(|error| error.to_string())?;
    let bytes = hex(case["bytes"].as_str().expect("bytes"));
    let (mut input, mut out) = (bytes.as_slice(), String::new());
    decoder.decode(&mut input, &mut out)?;
    assert!(input.is_empty(), "{case}");
    Ok(serde_json::from_str(&out).expect("JSON"))
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// Whether two values are the same; Python has no single precision.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().expect("a number"), b.as_f64().expect("a number"));
            a == b || a as f32 == b as f32
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => ours == theirs,
    }
}

#[test]
fn drawn_pairs_and_those_of_the_collection_are_read_as_fastavro_reads_them() {
    let (Some(pairs), Some(python)) = (data("compat/pairs.jsonl"), python()) else { return };
    let seed = std::env::var("EVT_SEED").unwrap_or("1".to_owned());
    let dir = Dir::new("resolution");
    let cases = ask(&dir, &python, "resolution.py", &[&seed, PAIRS, &pairs.display().to_string()]).rows();
    let (mut alike, mut refused, mut wrong) = (0, 0, vec![]);
    for case in &cases {
        match (read(case), case.get("expected")) {
            (Ok(ours), Some(theirs)) if same(&ours, theirs) => alike += 1,
            (Err(_), None) => refused += 1,
            // fastavro detects the mismatch only when it reads the value, and never in an empty list.
            (Err(_), Some(_)) if case["compatible"] == false => refused += 1,
            (ours, _) => wrong.push(format!("seed {seed}: {case}: {ours:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong[..wrong.len().min(5)].join("\n"));
    assert!(alike > 5_000 && refused > 300, "{alike} alike, {refused} refused");
}

/// The same event as [`click`], with a page that may be missing.
const NULLABLE: &str = r#"{"type":"record","name":"click","fields":[{"name":"event_type","type":"string"},{"name":"page","type":["null","string"]}]}"#;
const V3: &str = r#"{"type":"record","name":"click","fields":[{"name":"event_type","type":"string"},{"name":"url","aliases":["page"],"type":"string"},{"name":"n","type":"double","default":0.5}]}"#;

/// Writes these records to a topic and reads them with evt.
struct Topic {
    bench: Bench,
    base: String,
    name: String,
}

impl Topic {
    fn new(name: &str) -> Option<Self> {
        let (base, bench) = (registry()?, Bench::new(name)?);
        let name = bench.topic("in", 1, &[]);
        Some(Self { bench, base, name })
    }

    fn produce(&self, records: &[Vec<u8>]) {
        let record = |value| BaseRecord::<[u8], [u8]>::to(&self.name).partition(0).payload(value);
        self.bench.produce(records.iter().map(|value| record(value.as_slice())));
    }

    fn run(&self, options: &str) -> crate::harness::Run {
        let uri = self.bench.uri(&self.name, &format!("?format=avro&end=latest&schemas={}{options}", self.base));
        self.bench.dir.run("evt-ingest", &[&uri, "--time", "arrival", "-o", "jsonl", "--dlq", "dead.jsonl"])
    }

    fn properties(&self, options: &str) -> Vec<Value> {
        let rows = self.run(options).succeeds().rows();
        rows.into_iter().map(|mut row| row["properties"].take()).collect()
    }
}

#[test]
fn records_of_several_versions_are_read_as_the_one_that_is_named() {
    let Some(topic) = Topic::new("reader") else { return };
    let subject = format!("{}-value", topic.name);
    let (first, second) = (put(&topic.base, &subject, V1), put(&topic.base, &subject, V2));
    topic.produce(&[behind(first, &click("/a", None)), behind(second, &click("/b", Some(7)))]);
    let as_written = [json!({"page": "/a"}), json!({"page": "/b", "n": 7})];
    let as_first = [json!({"page": "/a"}), json!({"page": "/b"})];
    let as_second = [json!({"page": "/a", "n": 0}), json!({"page": "/b", "n": 7})];
    assert_eq!(topic.properties(""), as_written);
    assert_eq!(topic.properties(&format!("&reader={first}")), as_first);
    assert_eq!(topic.properties(&format!("&reader={second}")), as_second);
    assert_eq!(topic.properties("&reader=latest"), as_second);
    assert_eq!(topic.properties(&format!("&reader={subject}:1")), as_first);
    assert_eq!(topic.properties(&format!("&reader={subject}")), as_second);
    put(&topic.base, &subject, V3);
    let as_third = [json!({"url": "/a", "n": 0.5}), json!({"url": "/b", "n": 7.0})];
    assert_eq!(topic.properties("&reader=latest"), as_third);
    let other = topic.bench.topic("other", 1, &[]);
    put(&topic.base, &format!("{other}-value"), V1);
    let two = Topic { name: format!("{},{other}", topic.name), ..topic };
    two.bench
        .produce([BaseRecord::<[u8], [u8]>::to(&other).partition(0).payload(&behind(second, &click("/c", Some(1))))]);
    let [a, b] = as_third;
    assert_eq!(two.properties("&reader=latest"), [a, b, json!({"page": "/c"})], "each topic has its own subject");
}

#[test]
fn where_records_name_their_subject_each_is_read_as_the_latest_of_its_own() {
    let Some(topic) = Topic::new("names") else { return };
    let names = ["click", "view"].map(|name| format!("{name}_{}", std::process::id()));
    let [clicks, views] = names.clone().map(|name| {
        let named = |text: &str| text.replace("\"click\"", &format!("\"{name}\""));
        let first = put(&topic.base, &name, &named(V1));
        if name == names[0] {
            put(&topic.base, &name, &named(V2));
        }
        put(&topic.base, &format!("{}-{name}", topic.name), &named(V3));
        first
    });
    let unknown = put(&topic.base, &unique("elsewhere"), &V1.replace("\"click\"", "\"nobody\""));
    topic.produce(&[clicks, views, unknown, clicks].map(|id| behind(id, &click("/", None))));
    let (with, without) = (json!({"page": "/", "n": 0}), json!({"page": "/"}));
    assert_eq!(topic.properties("?subject=record&reader=latest"), [with.clone(), without, with]);
    let dead = topic.bench.dir.rows("dead.jsonl");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["error_type"], "UnknownSchemaError");
    assert!(dead[0]["error_message"].as_str().is_some_and(|text| text.ends_with("unknown subject 'nobody'")));
    let third = json!({"url": "/", "n": 0.5});
    assert_eq!(topic.properties("?subject=topic-record&reader=latest"), [third.clone(), third.clone(), third]);
}

#[test]
fn records_that_the_reader_cannot_read_are_kept_with_both_schemas_and_the_rest_goes_on() {
    let Some(topic) = Topic::new("unreadable") else { return };
    let subjects = ["good", "bad", "nullable"].map(unique);
    let [good, bad, nullable] = [V1, BAD, NULLABLE];
    let ids = [(&subjects[0], good), (&subjects[1], bad), (&subjects[2], nullable)];
    let [good, bad, nullable] = ids.map(|(subject, text)| put(&topic.base, subject, text));
    let number = [&click("", None)[..6], &[8]].concat();
    let page = [&click("", None)[..6], &[2, 4, b'/', b'n']].concat();
    let none = [&click("", None)[..6], &[0]].concat();
    topic.produce(&[
        behind(bad, &number),
        behind(nullable, &page),
        behind(nullable, &none),
        behind(bad, &number),
        behind(good, &click("/g", None)),
    ]);
    let rows = topic.properties(&format!("&reader={good}"));
    assert_eq!(rows, [json!({"page": "/n"}), json!({"page": "/g"})]);
    let dead = topic.bench.dir.rows("dead.jsonl");
    let said: Vec<_> = dead.iter().map(|row| (row["error_type"].as_str(), row["error_message"].as_str())).collect();
    let unresolved = format!(
        "schema id {bad}: incompatible with the reader's schema, schema id {good}: click.page: a int cannot be read \
         as string"
    );
    let unplaced =
        format!("byte 13: schema id {nullable}: the reader's schema cannot represent this branch of a union");
    let unresolved = (Some("UnknownSchemaError"), Some(unresolved.as_str()));
    assert_eq!(said, [unresolved, (Some("SchemaValidationError"), Some(unplaced.as_str())), unresolved]);
}

#[test]
fn a_reader_that_is_not_there_or_has_no_place_ends_the_run_before_the_first_record() {
    let Some(mut topic) = Topic::new("nobody") else { return };
    let no_subject = topic.run("&reader=latest").ends_with(78);
    assert!(no_subject.stderr().contains(&format!("unknown subject '{}-value'", topic.name)), "{no_subject}");
    assert!(topic.run("&reader=999999").ends_with(78).stderr().contains("unknown schema id 999999"));
    put(&topic.base, &format!("{}-value", topic.name), V1);
    let no_version = topic.run(&format!("&reader={}-value:7", topic.name)).ends_with(78);
    assert!(no_version.stderr().contains("has no version 7"), "{no_version}");
    let check = |uri: &str| topic.bench.dir.run("evt-ingest", &[uri, "--check"]);
    let uri = |reader: &str| topic.bench.uri(&topic.name, &format!("?format=avro&schemas={}{reader}", topic.base));
    check(&uri("&reader=latest")).succeeds();
    check(&uri("&reader=999999")).ends_with(78);
    topic.bench.dir.write("events.jsonl", "{\"event_type\":\"click\"}\n");
    let output = topic.bench.dir.run("evt-ingest", &["events.jsonl", "--to", &uri("&reader=latest")]).ends_with(2);
    assert!(output.stderr().contains("reader= is an option of inputs only"), "{output}");
    let json = topic.bench.dir.run("evt-view", &[&topic.bench.uri(&topic.name, "?reader=7")]).ends_with(2);
    assert!(json.stderr().contains("reader= require format=avro"), "{json}");
    topic.base = "http://127.0.0.1:9?retry=200ms%26connect=100ms".to_owned();
    topic.run("&reader=latest").ends_with(69);
    topic.run("%26down=dead&reader=latest").ends_with(69);
}

#[test]
fn a_tool_that_takes_subjects_as_they_are_refuses_an_address_that_makes_others_of_them() {
    let dir = Dir::new("plain");
    dir.write("v1.avsc", V1);
    for option in ["subject=topic-record", "topic=orders"] {
        let schemas = format!("http://127.0.0.1:9?{option}");
        for args in [
            &["register", "v1.avsc", "--subject", "click"][..],
            &["check", "v1.avsc", "--subject", "click"],
            &["show", "click"],
            &["list"],
        ] {
            for check in [&[][..], &["--check"]] {
                let run = dir.run("evt-schema", &[check, args, &["--schemas", &schemas]].concat()).ends_with(2);
                let name = option.split('=').next().expect("a name");
                assert!(
                    run.stderr().contains(&format!("remove {name}=; the subject is given by its full name")),
                    "{run}"
                );
            }
        }
    }
}

#[test]
fn a_correction_with_the_newest_version_counts_what_live_counted_with_it() {
    let Some(topic) = Topic::new("reader-backfill") else { return };
    let (dir, subject) = (&topic.bench.dir, format!("{}-value", topic.name));
    let (first, second) = (put(&topic.base, &subject, V1), put(&topic.base, &subject, V2));
    put(&topic.base, &subject, V3);
    let values = [behind(first, &click("/a", None)), behind(second, &click("/b", Some(7)))];
    // The last record closes the window of the others.
    let records = [(&values[0], 0), (&values[1], 1), (&values[1], 7200)];
    let start = 1_767_225_600_000;
    let record = |(value, second)| {
        BaseRecord::<[u8], [u8]>::to(&topic.name).partition(0).payload(value).timestamp(start + second * 1000)
    };
    topic.bench.produce(records.map(|(value, second): (&Vec<u8>, i64)| record((value.as_slice(), second))));
    dir.write("m.toml", "[[metric]]\nname = 'n'\naggregate = 'sum(n)'\nsize = '1h'\n");
    let uri = |options: &str| {
        topic.bench.uri(&topic.name, &format!("?format=avro&end=latest&schemas={}{options}", topic.base))
    };
    let newest = uri("&reader=latest");
    dir.shell(&format!("evt-window -q '{newest}' --time server_timestamp -m m.toml --late null: --to sqlite:m.db"))
        .succeeds();
    let backfill = |uri: &str| {
        dir.shell(&format!("evt-backfill '{uri}' --time server_timestamp -m m.toml --to sqlite:m.db --dry-run"))
    };
    let said = backfill(&newest).succeeds();
    assert!(
        said.stderr().contains("0 would be corrected, 0 would be inserted, 0 would be retracted, 1 right"),
        "{said}"
    );
    // With the schema of its writer the first record has no n.
    let changes = backfill(&uri("")).ends_with(1).rows();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!((&changes[0]["value"], &changes[0]["old_value"]), (&json!(7.0), &json!(7.5)), "{changes:?}");
}
