//! Events written to a topic in a schema that its readers already use, through Kafka and a real registry.

use crate::broker::Bench;
use crate::harness::{Run, ask, python};
use crate::registry::{put, registry, say, unique};
use serde_json::{Value, json};

/// A schema with a field of every kind.
const VIEW: &str = r#"{"type":"record","name":"PageView","namespace":"shop","fields":[
    {"name":"event_id","type":"string"},
    {"name":"client_timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"event_type","type":{"type":"enum","name":"Type","symbols":["view","buy"]}},
    {"name":"user_id","type":["null","string"],"default":null},
    {"name":"page","type":"string"},
    {"name":"amount","type":["null","double"],"default":null},
    {"name":"visits","type":["null","int","string"],"default":null},
    {"name":"price","type":["null",{"type":"bytes","logicalType":"decimal","precision":8,"scale":2}],"default":null},
    {"name":"day","type":["null",{"type":"int","logicalType":"date"}],"default":null},
    {"name":"at","type":["null",{"type":"int","logicalType":"time-millis"}],"default":null},
    {"name":"seen","type":["null",{"type":"long","logicalType":"timestamp-micros"}],"default":null},
    {"name":"order","type":["null",{"type":"string","logicalType":"uuid"}],"default":null},
    {"name":"digest","type":["null",{"type":"fixed","name":"D","size":3}],"default":null},
    {"name":"tags","type":{"type":"array","items":"string"},"default":["none"]},
    {"name":"labels","type":{"type":"map","values":["null","long"]},"default":{}},
    {"name":"address","type":["null",{"type":"record","name":"Address","fields":[
        {"name":"city","type":"string"},{"name":"zip","type":["null","string"]}]}],"default":null}]}"#;
const ID: &str = "58aedb27-dcc1-534a-ba59-63b291b9768";

/// An event as a producer writes it, with these properties.
fn event(number: usize, properties: &str) -> String {
    format!(
        r#"{{"event_id":"{ID}{number:x}","source":"web","event_type":"view","client_timestamp":"2024-01-15T10:00:0{}.123Z","page":"/p"{properties}}}"#,
        number % 10
    ) + "\n"
}

/// A topic, and a subject of another name with a schema.
struct Topic {
    bench: Bench,
    base: String,
    name: String,
    subject: String,
    id: u32,
}

impl Topic {
    fn new(name: &str, schema: &str) -> Option<Self> {
        let (base, bench) = (registry()?, Bench::new(name)?);
        let (name, subject) = (bench.topic("out", 1, &[]), unique(name));
        let id = put(&base, &subject, schema);
        Some(Self { bench, base, name, subject, id })
    }

    fn uri(&self, options: &str) -> String {
        self.bench.uri(&self.name, &format!("?format=avro&schemas={}{options}", self.base))
    }

    /// Writes `events.jsonl` through a pipe.
    fn write(&self, events: &[String], options: &str) -> Run {
        self.bench.dir.write("events.jsonl", events.concat());
        let to = self.uri(options);
        let line = "evt-ingest -q events.jsonl --time client_timestamp | evt-sink --dlq dead.jsonl";
        self.bench.dir.shell(&format!("{line} --to '{to}'"))
    }

    /// Rows without the columns that evt-ingest or Kafka adds.
    fn rows(&self, args: &[&str]) -> Vec<Value> {
        let args = [args, &["-q", "--time", "client_timestamp", "-o", "jsonl"]].concat();
        let mut rows = self.bench.dir.run("evt-ingest", &args).succeeds().rows();
        let ours = ["origin", "partition", "offset", "ingested_at", "server_timestamp"];
        rows.iter_mut()
            .filter_map(Value::as_object_mut)
            .for_each(|row| row.retain(|name, _| !ours.contains(&name.as_str())));
        rows
    }

    fn dead(&self) -> Vec<(String, String)> {
        let text = |row: &Value, name: &str| row[name].as_str().expect("text").to_owned();
        let rows = self.bench.dir.rows("dead.jsonl");
        rows.iter().map(|row| (text(row, "error_type"), text(row, "error_message"))).collect()
    }
}

#[test]
fn another_client_and_evt_read_the_records_that_events_were_written_as() {
    let (Some(topic), Some(python)) = (Topic::new("record", VIEW), python()) else { return };
    let all = format!(
        r#","user_id":"u","amount":0.1,"visits":7,"price":12.5,"day":"2024-02-29","at":"10:00:00.500","seen":"2024-01-15T10:00:00.000001Z","order":"{ID}0","digest":"Zm9v","tags":["a","é"],"labels":{{"x":1,"y":null}},"address":{{"city":"Ulm"}}"#
    );
    let few = r#","visits":"many","tags":[],"address":null"#;
    let events = [event(0, &all), event(1, few), event(2, "")];
    let subjects = || say(&topic.base, "GET", "/subjects", None).1;
    let count = || say(&topic.base, "GET", &format!("/subjects/{}/versions", topic.subject), None).1;
    topic.write(&events[..1], &format!("&schema_id={}", topic.id)).succeeds();
    topic.write(&events[1..2], &format!("&schema_id={}", topic.subject)).succeeds();
    let said = topic.write(&events[2..], &format!("&schema_id={}:1", topic.subject)).succeeds();
    assert!(!said.stderr().contains("no field"), "{said}");
    assert!(!subjects().to_string().contains(&topic.name) && count() == json!([1]), "nothing is registered");
    let theirs =
        ask(&topic.bench.dir, &python, "avro_record.py", &[&topic.bench.brokers, &topic.base, &topic.name]).rows();
    let base = |number: usize| {
        json!({"event_id": format!("{ID}{number}"), "client_timestamp": format!("2024-01-15T10:00:0{number}.123000+00:00"),
            "event_type": "view", "user_id": null, "page": "/p", "amount": null, "visits": null, "price": null, "day": null,
            "at": null, "seen": null, "order": null, "digest": null, "tags": ["none"], "labels": {}, "address": null})
    };
    let mut expected = [base(0), base(1), base(2)];
    for (name, value) in [
        ("user_id", json!("u")),
        ("amount", json!(0.1)),
        ("visits", json!(7)),
        ("price", json!("12.50")),
        ("day", json!("2024-02-29")),
        ("at", json!("10:00:00.500000")),
        ("seen", json!("2024-01-15T10:00:00.000001+00:00")),
        ("order", json!(format!("{ID}0"))),
        ("digest", json!("Zm9v")),
        ("tags", json!(["a", "é"])),
        ("labels", json!({"x": 1, "y": null})),
        ("address", json!({"city": "Ulm", "zip": null})),
    ] {
        expected[0][name] = value;
    }
    (expected[1]["visits"], expected[1]["tags"]) = (json!("many"), json!([]));
    assert_eq!(theirs, expected);
    let back = topic.rows(&[&topic.uri("&end=latest"), "--set", "source=web"]);
    topic.bench.dir.write("events.jsonl", events.concat());
    let mut were = topic.rows(&["events.jsonl"]);
    were[0]["properties"]["price"] = json!(12.50);
    were[0]["properties"]["seen"] = json!("2024-01-15T10:00:00.000001Z");
    were[1]["properties"].as_object_mut().expect("an object").remove("address");
    (were[1]["properties"]["labels"], were[2]["properties"]["labels"]) = (json!({}), json!({}));
    were[2]["properties"]["tags"] = json!(["none"]);
    assert_eq!(back, were, "but for defaults and nulls the events are the same");
}

#[test]
fn an_event_that_the_schema_has_no_place_for_is_a_dead_letter_that_says_where() {
    let Some(topic) = Topic::new("misfit", VIEW) else { return };
    let faults = [
        (r#","amount":"1""#, "amount: expected double, found string \"1\""),
        (r#","amount":1e400"#, "amount: expected double, found number 1e400"),
        (r#","visits":3000000000"#, "visits: expected int (32 bits), found number 3000000000"),
        (r#","visits":true"#, "visits: expected null or int (32 bits) or string, found true"),
        (r#","price":1.005"#, "price: expected decimal(8, 2), found number 1.005"),
        (r#","day":"2023-02-29""#, "day: expected date (YYYY-MM-DD or days since 1970), found string \"2023-02-29\""),
        (r#","at":"25:00""#, "at: expected time (HH:MM:SS or a whole number), found string \"25:00\""),
        (r#","seen":"soon""#, "seen: expected timestamp (RFC 3339 or a whole number), found string \"soon\""),
        (r#","order":"x""#, "order: expected uuid, found string \"x\""),
        (r#","digest":"Zm9vYg==""#, "digest: expected fixed (base64 of 3 bytes), found string \"Zm9vYg==\""),
        (r#","tags":["a",1]"#, "tags[1]: expected string, found number 1"),
        (r#","tags":null"#, "tags: expected array, found null"),
        (r#","labels":{"x":1.5}"#, "labels.x: expected long (64 bits), found number 1.5"),
        (r#","address":{"zip":"1"}"#, "address.city: missing, and it has no default"),
        (r#","address":{"city":"\ud800"}"#, "address.city: the string holds a lone surrogate"),
    ];
    let mut events: Vec<String> = faults.iter().map(|(property, _)| event(0, property)).collect();
    events.push(event(1, "").replace("\"view\"", "\"sell\""));
    events.push(event(2, "").replace("\"page\":", "\"url\":"));
    events.push(
        event(3, "")
            .replace("\"client_timestamp\"", "\"server_timestamp\"")
            .replace("\"source\"", "\"client_timestamp\":null,\"source\""),
    );
    events.push(event(4, ""));
    topic.bench.dir.write("events.jsonl", events.concat());
    let to = topic.uri(&format!("&schema_id={}", topic.id));
    let args = ["events.jsonl", "--time", "arrival", "--to", &to, "--dlq", "dead.jsonl"];
    let run = topic.bench.dir.run("evt-ingest", &args).succeeds();
    let others = [
        "event_type: expected one of view, buy, found string \"sell\"",
        "page: missing, and it has no default",
        "client_timestamp: missing, and it has no default",
    ];
    let whys = faults.iter().map(|(_, why)| *why).chain(others);
    let expected: Vec<_> = whys.map(|why| ("SinkError".to_owned(), format!("schema id {}: {why}", topic.id))).collect();
    assert_eq!(topic.dead(), expected, "{run}");
    assert_eq!(topic.bench.records(&topic.name).len(), 1, "the others continue");
    assert!(run.stderr().contains("inserted 1 dead 18"), "{run}");
}

#[test]
fn what_the_schema_has_no_field_for_is_said_once_and_counted() {
    let Some(topic) = Topic::new("narrow", VIEW) else { return };
    let mut events: Vec<String> = (0..5).map(|number| event(number, r#","referrer":"x","campaign":1"#)).collect();
    events.push(event(5, "").replace(".123Z", ".123456Z"));
    let run = topic.write(&events, &format!("&schema_id={}", topic.id)).succeeds();
    let said = run.stderr();
    let id = topic.id;
    for words in [
        format!("schema id {id} has no field for 'referrer'; properties without a field are not written"),
        format!("schema id {id}: client_timestamp: times are truncated to the unit of this field"),
        "6 events written, 5 without properties that have no field, 1 with truncated times".to_owned(),
    ] {
        assert_eq!(said.matches(&words).count(), 1, "{words}: {run}");
    }
    assert_eq!(topic.bench.records(&topic.name).len(), 6);
}

#[test]
fn a_schema_that_the_rows_have_no_place_in_ends_the_run_before_the_first_record() {
    let Some(topic) = Topic::new("no-record", "\"string\"") else { return };
    let events = [event(0, "")];
    let ends = |options: &str, status: i32, words: &str| {
        let run = topic.write(&events, options).ends_with(status);
        assert!(run.stderr().contains(words), "{words}: {run}");
    };
    ends(&format!("&schema_id={}", topic.id), 78, "expected a record schema, found string");
    ends("&schema_id=999999", 78, "unknown schema id 999999");
    ends("&schema_id=nobody", 78, "unknown subject 'nobody'");
    ends(&format!("&schema_id={}:9", topic.subject), 78, "has no version 9");
    let long = r#"{"type":"record","name":"l","fields":[{"name":"client_timestamp","type":"long"}]}"#;
    let long = put(&topic.base, &unique("long"), long);
    ends(
        &format!("&schema_id={long}"),
        78,
        "client_timestamp: an instant cannot be written as long (64 bits); use timestamp-millis",
    );
    let view = put(&topic.base, &unique("view"), VIEW);
    let line = "evt-ingest -q events.jsonl --time client_timestamp | evt-window -q --size 1m --to";
    let metrics = topic.bench.dir.shell(&format!("{line} '{}'", topic.uri(&format!("&schema_id={view}"))));
    assert!(metrics.ends_with(2).stderr().contains("schema_id= is supported for events only"));
    let check = |options: &str| topic.bench.dir.run("evt-sink", &["--to", &topic.uri(options), "--check"]);
    check(&format!("&schema_id={view}")).succeeds();
    assert!(check("&schema_id=999999").ends_with(78).stderr().contains("unknown schema id 999999"));
    let read = topic.bench.dir.run("evt-view", &[&topic.uri(&format!("&schema_id={view}"))]);
    assert!(read.ends_with(2).stderr().contains("schema_id= is an option of outputs; use reader="));
    assert!(topic.bench.records(&topic.name).is_empty());
}
