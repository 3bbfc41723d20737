//! Topics with `cleanup.policy=compact`, which refuse records without a key: a row without one does not end a run.

use crate::broker::{ANSWER, Bench, Record, stopped, wait};
use crate::harness::{LONG_WAIT, ended, eventually};
use crate::kafka::{event, record};
use crate::listener::Listener;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::Value;
use std::io::Read;

const COMPACT: [(&str, &str); 1] = [("cleanup.policy", "compact")];

/// An event of a user, whose id is the key.
fn of_user(number: usize) -> String {
    event(number, "web").replacen('{', r#"{"user_id":"u","#, 1)
}

/// Three events; the second one has no user.
fn three() -> [String; 3] {
    [of_user(1), event(2, "web"), of_user(3)]
}

/// The numbers of the events in a topic.
fn numbers(records: &[Record]) -> Vec<i64> {
    let number = |record: &Record| {
        let value: Value = serde_json::from_slice(record.value.as_deref().expect("a value")).expect("JSON");
        value["properties"]["n"].as_i64().expect("a number")
    };
    records.iter().map(number).collect()
}

/// Checks that these are the letters of one row without a key.
#[track_caller]
fn is_one_row_without_a_key(letters: &[Value]) {
    let [letter] = letters else { panic!("{letters:?}") };
    assert_eq!(letter["error_type"], "SinkError");
    assert!(letter["error_message"].as_str().expect("text").contains("without a key"), "{letter}");
}

fn header<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let found = record.headers.iter().find(|(found, _)| found == name)?;
    std::str::from_utf8(found.1.as_deref()?).ok()
}

/// Makes a topic compacted.
fn compact(bench: &Bench, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = bench.config().create().expect("a client");
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("cleanup.policy", "compact");
    let options = AdminOptions::new().operation_timeout(Some(ANSWER));
    let changed = wait(admin.alter_configs(&[change], &options)).expect("an answer");
    changed.into_iter().for_each(|one| _ = one.expect("it is changed"));
    // The controller confirms a change before the broker has it. Committed readers do not see the records of the probe.
    let reader: BaseConsumer =
        bench.config().set("group.id", "test").set("isolation.level", "read_uncommitted").create().expect("a client");
    let end = || reader.fetch_watermarks(topic, 0, ANSWER).expect("an answer").1;
    let producer = bench.producer(&[("transactional.id", &format!("{topic}-probe"))]);
    producer.init_transactions(ANSWER).expect("a coordinator");
    eventually("the broker refuses a record without a key", || {
        let before = end();
        producer.begin_transaction().expect("begun");
        let probe = BaseRecord::<(), [u8]>::to(topic).payload(&b"{}"[..]);
        producer.send(probe).map_err(|(error, _)| error).expect("it is queued");
        producer.flush(LONG_WAIT).expect("it is answered");
        let is_refused = end() == before;
        producer.abort_transaction(ANSWER).expect("it is aborted");
        is_refused
    });
}

#[test]
fn a_row_without_a_key_for_a_compacted_topic_is_a_dead_letter() {
    let Some(bench) = Bench::new("compacted_row") else { return };
    bench.dir.write("in.jsonl", three().join("\n"));
    let checkpoint: &[&str] = &["--checkpoint", "state"];
    for (name, policy, flags) in
        [("plain", "compact", &[][..]), ("both", "compact,delete", &[]), ("epochs", "compact", checkpoint)]
    {
        let topic = bench.topic(name, 1, &[("cleanup.policy", policy)]);
        let (to, dead) = (bench.uri(&topic, "?key=user_id"), format!("{name}.jsonl"));
        let args = [&["in.jsonl", "-q", "--to", &to, "--dlq", &dead], flags].concat();
        bench.dir.run("evt-ingest", &args).succeeds();
        eventually("the rows are visible", || bench.records(&topic).len() == 2);
        assert_eq!(numbers(&bench.records(&topic)), [1, 3], "{name}");
        is_one_row_without_a_key(&bench.dir.rows(&dead));
    }
}

#[test]
fn an_event_without_a_key_for_a_compacted_topic_does_not_end_the_listener() {
    let Some(bench) = Bench::new("compacted_listener") else { return };
    let topic = bench.topic("t", 1, &COMPACT);
    let to = bench.uri(&topic, "?key=user_id");
    let listener = Listener::open(&bench.dir, &["-q", "--spool", "spool", "--to", &to, "--dlq", "dead.jsonl"]);
    assert_eq!(listener.json(&event(1, "web")).status, 200);
    assert_eq!(listener.json(&of_user(2)).status, 200);
    eventually("the second event is there", || bench.records(&topic).len() == 1);
    listener.stop();
    is_one_row_without_a_key(&bench.dir.rows("dead.jsonl"));
}

/// Brokers refuse the whole batch; its records are sent again one by one.
#[test]
fn a_topic_that_becomes_compacted_while_a_run_writes_refuses_only_rows_without_a_key() {
    let Some(bench) = Bench::new("compacted_later") else { return };
    let topic = bench.topic("t", 1, &[]);
    let to = bench.uri(&topic, "?key=user_id");
    let listener = Listener::open(&bench.dir, &["-q", "--spool", "spool", "--to", &to, "--dlq", "dead.jsonl"]);
    assert_eq!(listener.json(&event(0, "web")).status, 200);
    eventually("the output is open", || bench.records(&topic).len() == 1);
    compact(&bench, &topic);
    assert_eq!(listener.json(&format!("{{\"events\":[{}]}}", three().join(","))).status, 200);
    eventually("the rest is there", || bench.records(&topic).len() == 3);
    assert_eq!(listener.json(&of_user(4)).status, 200);
    eventually("the next event is there", || bench.records(&topic).len() == 4);
    listener.stop();
    assert_eq!(numbers(&bench.records(&topic)), [0, 1, 3, 4]);
    is_one_row_without_a_key(&bench.dir.rows("dead.jsonl"));
}

#[test]
fn a_compacted_topic_that_would_refuse_every_record_or_lose_dead_letters_is_refused() {
    let Some(bench) = Bench::new("compacted_refused") else { return };
    bench.dir.write("in.jsonl", three().join("\n"));
    let topic = bench.topic("t", 1, &COMPACT);
    for (flag, options, why) in [
        ("--to", "?key=none", "key=none"),
        ("--to", "?format=frames", "format=frames"),
        ("--dlq", "", "keeps only the last dead letter of each key"),
    ] {
        let uri = bench.uri(&topic, options);
        let other: &[&str] = if flag == "--dlq" { &["--to", "null:"] } else { &[] };
        for check in [&["--check"][..], &[]] {
            let args = [&["in.jsonl", "-q", flag, &uri], other, check].concat();
            // A topic whose policy a broker does not tell in time counts as one that is not compacted.
            let mut runs = (0..5).map(|_| bench.dir.run("evt-ingest", &args));
            let run = runs.find(|run| run.status() == 78).expect("a run that refuses the topic");
            let said = format!("{}{}", run.text(), run.stderr());
            assert!(said.contains(why) && said.contains("cleanup.policy=delete"), "{flag} {options}: {said}");
        }
    }
    assert!(bench.records(&topic).is_empty());
}

/// A transaction is written as a whole. The run whose transaction the brokers refuse ends, and names the topic; the
/// next one knows that the topic is compacted.
#[test]
fn a_transaction_with_a_row_without_a_key_is_written_with_its_dead_letter() {
    let Some(bench) = Bench::new("compacted_once") else { return };
    let topic = |name: &str| bench.topic(name, 1, &[]);
    let (input, rows, dead) = (topic("in"), topic("rows"), topic("dead"));
    let from = bench.uri(&input, &format!("?group={}-g&rdkafka.session.timeout.ms=15000", bench.prefix));
    let (to, dlq) = (bench.uri(&rows, "?exactly_once=true&key=user_id"), bench.uri(&dead, ""));
    let start = || bench.start("evt-validate", &[&from, "--to", &to, "--dlq", &dlq]);
    let first = event(0, "web");
    bench.produce([record(&input, 0, &first)]);
    let mut child = start();
    eventually("the output is open", || bench.records(&rows).len() == 1);
    compact(&bench, &rows);
    let values = three();
    bench.produce(values.iter().map(|value| record(&input, 0, value)));
    let status = ended("the run", &mut child);
    let mut said = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
    assert_eq!(status, 69, "{said}");
    assert!(said.contains(&format!("{rows}: brokers rejected a record of a transaction as invalid")), "{said}");
    let child = start();
    eventually("the rest is there", || bench.records(&rows).len() == 3);
    eventually("the dead letter is there", || bench.records(&dead).len() == 1);
    assert_eq!(stopped(child).0, 143);
    assert_eq!(numbers(&bench.records(&rows)), [0, 1, 3]);
    let letters = bench.records(&dead);
    assert_eq!(header(&letters[0], "evt.error_type"), Some("SinkError"));
    assert_eq!(header(&letters[0], "evt.offset"), Some("2"));
}
