//! The HTTP server and its queries to a schema registry.

use crate::harness::{Dir, eventually};
use crate::listener::{Listener, Response, read, request};
use crate::registry::{Small, V1, unknown};
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

const JSON: (&str, &str) = ("content-type", "application/json");
/// Maximum number of concurrent queries.
const QUESTIONS_MAX: usize = 64;
/// Limit of a wait for an answer; less than `--request-timeout`, so no answer says that this time is over.
const ANSWER: Duration = Duration::from_secs(60);

/// A registry whose every subject `click…` has the schema V1, with a subject that is not Avro.
fn clicks() -> Small {
    Small::new(|asked| match asked.path.strip_prefix("/subjects/").and_then(|rest| rest.split_once("/versions")) {
        Some((subject, "")) if subject.starts_with("click") || ["page", "torn"].contains(&subject) => (200, json!([1])),
        Some(("torn", "/1")) => (200, json!({"version": 1, "id": 3, "schema": "{\"type\":\"record\""})),
        Some((subject, "/1")) if subject.starts_with("click") => (200, json!({"version": 1, "id": 1, "schema": V1})),
        Some(("page", "/1")) => (200, json!({"version": 1, "id": 2, "schemaType": "JSON", "schema": "{}"})),
        None if asked.path == "/subjects" => (200, json!(["click"])),
        _ => unknown(),
    })
}

fn open(dir: &Dir, small: &Small, options: &str) -> Listener {
    let schemas = format!("{}?{options}", small.base);
    let outputs = ["-q", "--to", "out.jsonl", "--dlq", "dead.jsonl", "--ack", "memory"];
    Listener::open(dir, &[&outputs[..], &["--request-timeout", "10m", "--schemas", &schemas]].concat())
}

fn event(event_type: &str, more: &str) -> String {
    format!(r#"{{"source":"s","event_type":"{event_type}"{more}}}"#)
}

/// Sends a request; the test reads its answer later.
fn send(listener: &Listener, event_type: &str) -> TcpStream {
    let mut stream = listener.connect();
    stream.set_read_timeout(Some(ANSWER)).expect("a socket");
    let body = event(event_type, r#","page":"/""#);
    stream.write_all(&request(&[JSON], body.as_bytes())).expect("sent");
    stream
}

fn is_put_off(response: &Response) -> bool {
    response.status == 503 && response.header("retry-after").is_some()
}

/// The limit counts queries: a request whose schemas are cached needs no query.
#[test]
fn a_silent_registry_keeps_nobody_out_whose_type_is_known_and_is_told_at_readyz() {
    let (dir, small) = (Dir::new("questions-silent"), clicks());
    let listener = open(&dir, &small, "refresh=0s&timeout=10m");
    let known = event("click", r#","page":"/""#);
    assert_eq!(listener.json(&known).status, 200);
    small.mute();
    let mut waiting: Vec<TcpStream> = (0..QUESTIONS_MAX).map(|number| send(&listener, &format!("t{number}"))).collect();
    eventually("every question is asked", || small.waiting() == QUESTIONS_MAX);
    for _ in 0..3 {
        let response = listener.json(&known);
        assert_eq!(response.status, 200, "{response:?}");
    }
    let many = format!("{{\"events\":[{known},{known}]}}");
    assert_eq!(listener.json(&many).status, 200);
    let response = listener.json(&event("other", ""));
    assert!(is_put_off(&response), "{response:?}");
    assert!(is_put_off(&listener.json(&event("click", ""))), "another version might take it");
    eventually("it is not ready", || listener.get("/readyz").status == 503);
    assert_eq!(listener.get("/healthz").status, 200);
    small.unmute();
    eventually("it is ready", || listener.get("/readyz").status == 200);
    for stream in &mut waiting {
        let response = read(stream).expect("an answer");
        assert_eq!(response.status, 422, "{response:?}");
        assert_eq!(response.json()["errors"][0]["error_type"], "UnknownSchemaError");
    }
    assert_eq!(listener.json(&event("click", "")).status, 422);
    listener.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 6);
}

#[test]
fn requests_of_one_type_wait_for_one_answer() {
    let (dir, small) = (Dir::new("questions-one"), clicks());
    let listener = open(&dir, &small, "refresh=1h");
    small.mute();
    let mut waiting: Vec<TcpStream> = (0..2 * QUESTIONS_MAX).map(|_| send(&listener, "click")).collect();
    eventually("it is asked", || small.waiting() > 0);
    small.unmute();
    for stream in &mut waiting {
        assert_eq!(read(stream).map(|response| response.status), Some(200));
    }
    for path in ["/subjects/click/versions", "/subjects/click/versions/1"] {
        assert_eq!(small.asked(path), 1, "{path}");
    }
    listener.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 2 * QUESTIONS_MAX);
}

/// A query frees its slot when the server gives up on the registry, not only after `retry=`.
#[test]
fn a_question_that_is_not_answered_fails_after_one_attempt_and_its_place_is_free() {
    let (dir, small) = (Dir::new("questions-late"), clicks());
    let listener = open(&dir, &small, "connect=100ms&timeout=100ms&retry=1h");
    small.mute();
    for round in 0..3 {
        let types = (0..QUESTIONS_MAX).map(|number| format!("t{round}-{number}"));
        let mut waiting: Vec<TcpStream> = types.map(|event_type| send(&listener, &event_type)).collect();
        for stream in &mut waiting {
            assert!(is_put_off(&read(stream).expect("an answer")));
        }
        // A request that finds no free place gets the same answer, but its question does not reach the registry.
        eventually("a question of this round reaches the registry", || small.waiting() > round * QUESTIONS_MAX);
    }
    assert_eq!(listener.get("/readyz").status, 503);
    small.unmute();
    eventually("it is ready", || listener.get("/readyz").status == 200);
    // On a busy machine the registry may need more than the 200 ms of an attempt.
    eventually("the registry's answer counts", || {
        let response = listener.json(&event("other", ""));
        assert!(response.status == 422 || is_put_off(&response), "{response:?}");
        response.status == 422
    });
    listener.stop();
}

#[test]
fn a_schema_that_cannot_be_parsed_refuses_its_records_for_good_and_nothing_else() {
    let (dir, small) = (Dir::new("questions-torn"), clicks());
    let listener = open(&dir, &small, "");
    let (torn, click) = (event("torn", ""), event("click", r#","page":"/""#));
    for _ in 0..2 {
        let response = listener.json(&torn);
        assert_eq!((response.status, response.header("retry-after")), (422, None), "{response:?}");
        let fault = &response.json()["errors"][0];
        assert_eq!(fault["error_type"], "UnknownSchemaError");
        assert!(
            fault["reason"].as_str().is_some_and(|why| why.contains("cannot be used: version 1: ")),
            "{response:?}"
        );
    }
    assert_eq!(listener.json(&click).status, 200);
    assert_eq!(listener.get("/readyz").status, 200);
    listener.stop();
    dir.write("in.jsonl", format!("{torn}\n{click}\n"));
    let args = ["in.jsonl", "--schemas", &small.base, "-o", "jsonl", "--dlq", "refused.jsonl", "--time", "arrival"];
    assert_eq!(dir.run("evt-validate", &args).succeeds().rows().len(), 1);
    assert_eq!(dir.rows("refused.jsonl")[0]["error_type"], "UnknownSchemaError");
}

#[test]
fn a_subject_that_is_not_avro_refuses_its_records_and_nothing_else() {
    let (dir, small) = (Dir::new("questions-json"), clicks());
    let listener = open(&dir, &small, "");
    let (page, click) = (event("page", ""), event("click", r#","page":"/""#));
    let response = listener.json(&page);
    assert_eq!(response.status, 422, "{response:?}");
    let fault = &response.json()["errors"][0];
    assert_eq!(fault["error_type"], "UnknownSchemaError");
    assert!(
        fault["reason"].as_str().is_some_and(|why| why.contains("version 1: expected an Avro schema, found type JSON")),
        "{response:?}"
    );
    let response = listener.json(&format!("{{\"events\":[{page},{click}]}}"));
    assert_eq!((response.status, &response.json()["rejected"]), (200, &json!(1)), "{response:?}");
    listener.stop();
    assert_eq!(dir.rows("dead.jsonl").len(), 2);

    dir.write("in.jsonl", format!("{page}\n{click}\n"));
    let args = ["in.jsonl", "--schemas", &small.base, "-o", "jsonl", "--dlq", "refused.jsonl", "--time", "arrival"];
    let run = dir.run("evt-validate", &args).succeeds();
    assert_eq!(run.rows().len(), 1);
    let letters = dir.rows("refused.jsonl");
    assert_eq!((letters.len(), &letters[0]["error_type"]), (1, &json!("UnknownSchemaError")), "{letters:?}");
    let run = dir.run("evt-schema", &["show", "page", "--schemas", &small.base]).ends_with(78);
    assert!(run.stderr().contains("type JSON"), "{run}");
}

/// The path of a request cannot have these names, and the server was asked for another path again and again.
#[test]
fn a_schema_is_not_registered_under_a_name_that_no_registry_can_have() {
    let (dir, small) = (Dir::new("odd_subjects"), Small::new(|_| unknown()));
    dir.write("v1.avsc", V1);
    let long = "x".repeat(600);
    for subject in [".", "..", "", "a\nb", &long] {
        for command in ["register", "check"] {
            let args = [command, "v1.avsc", "--subject", subject, "--schemas", &small.base];
            let run = dir.run("evt-schema", &args).ends_with(2);
            assert!(run.stderr().contains(": a registry over HTTP cannot have the subject '"), "{run}");
            dir.run("evt-schema", &[&args[..], &["--check"]].concat()).ends_with(2);
        }
    }
    let paths = ["/subjects/.", "/subjects/..", "/subjects/./versions", "/subjects/../versions", "/config"];
    assert!(paths.iter().all(|path| small.asked(path) == 0));
    // A directory has them.
    std::fs::create_dir_all(dir.path("schemas")).expect("a directory");
    let args = ["register", "v1.avsc", "--subject", "..", "--schemas", "schemas"];
    assert_eq!(dir.run("evt-schema", &args).succeeds().text(), ".. 1\n");
}
