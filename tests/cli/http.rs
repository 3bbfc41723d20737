//! The HTTP server: requests, responses and events.

use crate::harness::{Dir, Run, data, eventually};
use crate::listener::{Listener, Response, event, request};
use crate::registry::{Small, put, registry, unique};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};

const KEEP: [&str; 6] = ["--ack", "memory", "--to", "out.jsonl", "--dlq", "dead.jsonl"];
const JSON: (&str, &str) = ("content-type", "application/json");

fn ids(response: &Response) -> Vec<Value> {
    response.json()["event_ids"].as_array().expect("an array").clone()
}

#[test]
fn every_form_of_body_becomes_events_with_the_ids_that_were_answered() {
    let dir = Dir::new("http-forms");
    let listener = Listener::open(&dir, &KEEP);
    let lines = format!("{}\n\n  {{\"source\":\"s\", \"event_type\":\"t\",\"x\":1.50}}\r\n", event(3, "s"));
    let mut answered = vec![];
    for (kind, body) in [
        ("application/json", event(1, "s")),
        (
            "application/json; charset=UTF-8",
            r#"{"source":"s","event_type":"t","server_timestamp":"2001-01-01T00:00:00Z"}"#.into(),
        ),
        (
            "application/json",
            format!("{{\"events\": [{},\n {{\"source\":\"s\",\n\"event_type\":\"t\"}}]}}", event(2, "s")),
        ),
        ("application/x-ndjson", lines),
    ] {
        let response = listener.post(&[("content-type", kind)], body.as_bytes());
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!((&response.json()["rejected"], &response.json()["errors"]), (&json!(0), &json!([])));
        answered.extend(ids(&response));
    }
    let said = listener.stop();
    assert!(said.contains("in 6 out 6") && said.contains("stopped"), "{said}");
    let rows = dir.rows("out.jsonl");
    assert_eq!(rows.iter().map(|row| row["event_id"].clone()).collect::<Vec<_>>(), answered);
    assert!(
        rows.iter()
            .all(|row| row["server_timestamp"].as_str() > Some("2026") && row["event_time"] == row["server_timestamp"])
    );
    assert_eq!(rows[1]["properties"], json!({"server_timestamp": "2001-01-01T00:00:00Z"}));
    assert!(String::from_utf8(dir.bytes("out.jsonl")).expect("UTF-8").contains(r#""properties":{"x":1.50}"#));
}

#[test]
fn a_body_of_several_events_in_no_form_of_the_server_is_told_what_to_send() {
    let dir = Dir::new("http-several");
    let listener = Listener::open(&dir, &KEEP);
    let (one, two) = (event(1, "s"), event(2, "s"));
    let told = |body: &str| {
        let response = listener.json(body);
        assert_eq!((response.status / 100, &response.json()["rejected"]), (4, &json!(1)), "{response:?}");
        response.json()["errors"][0]["reason"].as_str().unwrap_or_else(|| panic!("{response:?}")).to_owned()
    };
    let array = told(&format!("[{one},{two}]"));
    assert!(array.contains("found an array") && array.ends_with("; send {\"events\":[…]}"), "{array}");
    for between in ["\n", ""] {
        let several = told(&format!("{one}{between}{two}"));
        assert!(
            several.contains(
                "found several; send {\"events\":[…]}, or lines with content-type: application/x-ndjson (curl --data-binary keeps line ends)"
            ),
            "{several}"
        );
    }
    // What the messages say is accepted.
    assert_eq!(listener.json(&format!("{{\"events\":[{one},{two}]}}")).status, 200);
    let lines = [("content-type", "application/x-ndjson")];
    assert_eq!(listener.post(&lines, format!("{one}\n{two}\n").as_bytes()).status, 200);
    // An array as a line is still a record of its own.
    assert_eq!(listener.post(&lines, format!("[{one}]\n").as_bytes()).status, 422);
    listener.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 4);
}

#[test]
fn a_compressed_body_without_its_header_is_told_the_header() {
    let dir = Dir::new("http-packed");
    let listener = Listener::open(&dir, &KEEP);
    let body = event(1, "s");
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    gzip.write_all(body.as_bytes()).expect("memory");
    let packed =
        [("gzip", gzip.finish().expect("memory")), ("zstd", zstd::encode_all(body.as_bytes(), 1).expect("memory"))];
    for (name, bytes) in packed {
        for kind in ["application/json", "application/x-ndjson"] {
            let response = listener.post(&[("content-type", kind)], &bytes);
            assert_eq!(response.status, 400, "{response:?}");
            assert!(response.body.contains(&format!("send the header content-encoding: {name}")), "{response:?}");
            let response = listener.post(&[("content-type", kind), ("content-encoding", name)], &bytes);
            assert_eq!(response.status, 200, "{response:?}");
        }
    }
    listener.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 4);
}

#[test]
fn partial_success_is_success_and_each_error_is_told_by_its_index() {
    let dir = Dir::new("http-partial");
    let listener = Listener::open(&dir, &KEEP);
    let future = r#"{"source":"s","event_type":"t","client_timestamp":"x"}"#;
    let response = listener.json(&format!(r#"{{"events":[{},{{"event_type":"t"}},7,{future}]}}"#, event(1, "s")));
    assert_eq!(response.status, 200);
    let answer = response.json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(1), &json!(3)));
    let told: Vec<_> = answer["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|e| (e["index"].clone(), e["error_type"].clone()))
        .collect();
    let wanted = [(1, "EnvelopeError"), (2, "EnvelopeError"), (3, "TimestampError")];
    assert_eq!(told, wanted.map(|(index, name)| (json!(index), json!(name))));
    assert_eq!(ids(&response)[1..], [Value::Null, Value::Null, Value::Null]);
    listener.stop();
    let dead = dir.rows("dead.jsonl");
    let payloads: Vec<_> = dead.iter().map(|row| row["original_payload"].as_str().expect("text")).collect();
    assert_eq!(payloads, [r#"{"event_type":"t"}"#, "7", future]);
    assert_eq!(dir.rows("out.jsonl").len(), 1);
}

/// A request (headers and body), and the status of its response.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [u8], u16);

#[test]
fn what_cannot_be_taken_has_its_status() {
    let dir = Dir::new("http-status");
    let listener = Listener::open(&dir, &KEEP);
    let one = event(1, "s");
    let many = "1\n".repeat(70_000);
    let cases: [Case; 20] = [
        (&[], one.as_bytes(), 200),
        (&[JSON], br#"{"events":[]}"#, 200),
        (&[JSON], b"{", 400),
        (&[JSON], b"", 400),
        (&[JSON], b" \r\n\t", 400),
        (&[], b"", 400),
        (&[JSON], b"{\"source\":\"\xff\"}", 400),
        (&[JSON], br#"{"events":[{}],"more":1}"#, 422),
        (&[JSON], br#"{"source":"s"}"#, 422),
        (&[JSON], br#"{"source":"s","event_type":"t","event_id":"x"}"#, 422),
        (&[("content-type", "text/plain")], one.as_bytes(), 415),
        (&[("content-type", "application/json; charset=utf-16")], one.as_bytes(), 415),
        (&[("content-type", "application/vnd.confluent.avro")], b"\0\0\0\0\x01", 415),
        (&[("content-type", "avro/binary")], b"\0\0\0\0\x01", 415),
        (&[JSON, ("content-encoding", "br")], one.as_bytes(), 415),
        (&[JSON, ("content-encoding", "gzip")], one.as_bytes(), 400),
        (&[JSON, ("idempotency-key", "a"), ("idempotency-key", "b")], one.as_bytes(), 400),
        (&[("content-type", "application/x-ndjson")], many.as_bytes(), 413),
        (&[("content-type", "application/x-ndjson")], b"\n \n", 400),
        (&[("content-type", "application/cloudevents+json")], b"", 400),
    ];
    for (headers, body, status) in cases {
        let response = listener.post(headers, body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]);
        assert_eq!(response.status, status, "{headers:?} {shown}: {response:?}");
        assert!(response.json().is_object());
    }
    assert_eq!(listener.get("/v1/events").status, 405);
    let unknown = listener.get("/v1");
    let paths = "{\"error\":\"expected /v1/events /healthz /readyz or /metrics\"}\n";
    assert_eq!((unknown.status, unknown.body.as_str()), (404, paths));
    assert_eq!(listener.get("/v1/events").header("allow"), Some("POST"));
    assert_eq!(listener.get("/v2").status, 404);
    assert_eq!((listener.get("/healthz").status, listener.get("/readyz").status), (200, 200));
    // A client may read its response before the server counts the end of the connection, and before the next stage
    // counts the event.
    for line in [
        r#"evt_http_events_total{outcome="accepted"} 1"#,
        r#"evt_http_events_total{outcome="rejected"} 5"#,
        r#"evt_events_total{stage="evt-ingest",outcome="in"} 6"#,
        r#"evt_http_requests_total{status="415"} 5"#,
        "\nevt_http_connections 1\n",
    ] {
        listener.wait_for_metric(line);
    }
    listener.stop();
}

#[test]
fn packed_bodies_are_unpacked() {
    let dir = Dir::new("http-packed");
    let listener = Listener::open(&dir, &KEEP);
    let body = format!(r#"{{"events":[{}]}}"#, (0..500).map(|n| event(n, "s")).collect::<Vec<_>>().join(","));
    let mut gzip = vec![];
    flate2::bufread::GzEncoder::new(body.as_bytes(), flate2::Compression::fast())
        .read_to_end(&mut gzip)
        .expect("it packs");
    let zstd = zstd::encode_all(body.as_bytes(), 3).expect("it packs");
    for (name, packed) in [("gzip", gzip), ("zstd", zstd)] {
        let response = listener.post(&[JSON, ("content-encoding", name)], &packed);
        assert_eq!((response.status, &response.json()["accepted"]), (200, &json!(500)), "{name}");
    }
    listener.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 1000);
}

#[test]
fn names_of_a_request_are_answered_and_go_into_dead_letters() {
    let dir = Dir::new("http-trace");
    let listener = Listener::open(&dir, &[&KEEP[..], &["--log-requests"]].concat());
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let given = listener.post(&[JSON, ("traceparent", parent), ("x-request-id", "abc-1")], b"{}");
    assert_eq!((given.header("traceparent"), given.header("x-request-id")), (Some(parent), Some("abc-1")));
    let mut made = std::collections::BTreeSet::new();
    for bad in ["", "00-0-0-01", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", &parent.to_uppercase()] {
        let response = listener.post(&[JSON, ("traceparent", bad), ("x-request-id", "a b")], event(1, "s").as_bytes());
        let trace = response.header("traceparent").expect("one is made").to_owned();
        assert!(trace.len() == 55 && trace.starts_with("00-") && trace != bad, "{trace}");
        assert!(made.insert(trace) && made.insert(response.header("x-request-id").expect("one is made").to_owned()));
    }
    let said = listener.stop();
    assert!(said.contains("POST /v1/events 422 ") && said.contains(&format!("request=abc-1 trace={parent}")), "{said}");
    let headers = dir.rows("dead.jsonl")[0]["headers"].to_string();
    assert!(headers.contains(parent) && headers.contains("abc-1"), "{headers}");
}

#[test]
fn a_logged_request_has_the_id_of_its_trace_in_its_line_of_json() {
    let dir = Dir::new("http-trace-json");
    let listener = Listener::open(&dir, &[&KEEP[..], &["--log-requests", "--log-format", "json"]].concat());
    let id = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{id}-b7ad6b7169203331-01");
    listener.post(&[JSON, ("traceparent", &parent)], event(1, "s").as_bytes());
    let said = listener.stop();
    let lines = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let logged: Vec<_> =
        lines.filter(|line| line["message"].as_str().is_some_and(|text| text.contains("POST /v1/events"))).collect();
    assert_eq!(logged.len(), 1, "{said}");
    assert_eq!(logged[0]["trace_id"], id, "{said}");
}

/// An example of a scenario, its headers and its body.
type Scenario = (String, Vec<(String, String)>, String);

/// The request of a Gherkin scenario, its body without the indentation, and the same for each example.
fn scenarios() -> Vec<Scenario> {
    let Some(path) = data("cloudevents/features/http-protocol-binding.feature") else { return vec![] };
    let text = std::fs::read_to_string(path).expect("the data is complete");
    let mut found = vec![];
    for scenario in text.split("Scenario Outline:").skip(1) {
        let quoted = scenario.split("\"\"\"").nth(1).expect("a request");
        let lines: Vec<&str> = quoted.lines().map(|line| line.strip_prefix("        ").unwrap_or(line)).collect();
        let blank = lines.iter().skip(1).position(|line| line.trim().is_empty()).expect("a blank line") + 1;
        let headers = lines[2..blank].iter().filter_map(|line| line.split_once(": "));
        let headers: Vec<_> = headers.filter(|(name, _)| !["Host", "Content-Length"].contains(name)).collect();
        let examples = scenario.split("Examples:").nth(1).expect("examples").lines().skip(2);
        for example in examples.filter_map(|line| line.split('|').nth(1)).map(str::trim) {
            let own = headers.iter().map(|(name, value)| (name.to_string(), value.replace("<contentType>", example)));
            found.push((example.to_owned(), own.collect(), lines[blank + 1..].join("\n")));
        }
    }
    found
}

#[test]
fn cloud_events_of_the_conformance_suite_become_events() {
    let dir = Dir::new("http-cloud");
    let scenarios = scenarios();
    if scenarios.is_empty() {
        return;
    }
    assert_eq!(scenarios.len(), 4);
    let listener = Listener::open(&dir, &KEEP);
    for (name, headers, body) in &scenarios {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let response = listener.post(&headers, body.as_bytes());
        assert_eq!(response.status, 200, "{name}: {response:?}");
    }
    let one = r#"{"specversion":"1.0","type":"t","id":"4321","source":"/s","time":"2018-04-05T03:56:24Z","comexampleextension1":"value","data":[1]}"#;
    let batch =
        listener.post(&[("content-type", "application/cloudevents-batch+json")], format!("[{one},{{}}]").as_bytes());
    assert_eq!((batch.status, &batch.json()["accepted"], &batch.json()["rejected"]), (200, &json!(1), &json!(1)));
    listener.stop();
    let rows = dir.rows("out.jsonl");
    assert_eq!(rows.len(), 5);
    for row in &rows[..4] {
        assert_eq!(
            (&row["source"], &row["event_type"]),
            (&json!("/mycontext/subcontext"), &json!("com.example.someevent"))
        );
        assert!(row["client_timestamp"].as_str().is_some_and(|time| time.starts_with("2018-04-05T03:56:24")), "{row}");
        assert_eq!(row["properties"]["message"], json!("Hello World!"));
        assert_eq!(row["event_id"], rows[0]["event_id"], "an id of one source is one id");
    }
    assert_eq!(rows[4]["properties"], json!({"data": [1], "comexampleextension1": "value"}));
}

/// Every document of the JSON parsing suite, as the value of a property.
#[test]
fn the_json_suite_is_judged_as_it_should_be_and_kept_byte_for_byte() {
    let dir = Dir::new("http-json");
    let Some(suite) = data("json/JSONTestSuite") else { return };
    let mut documents: BTreeMap<String, Vec<u8>> = ["test_parsing", "test_transform"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(suite.join(folder)).expect("the suite"))
        .map(|entry| entry.expect("it").path())
        .map(|path| {
            (path.file_name().expect("a name").to_string_lossy().into_owned(), std::fs::read(&path).expect("readable"))
        })
        .collect();
    assert!(documents.len() > 200);
    documents.insert("y_number_beyond_f64".to_owned(), b"[1e400,-1e400,1e-400]".to_vec());
    let listener = Listener::open(&dir, &KEEP);
    let (mut kept, mut refused) = (vec![], vec![]);
    for (name, document) in &documents {
        let body = [br#"{"source":"s","event_type":"t","properties":{"x":"#, &document[..], b"}}"].concat();
        let response = listener.post(&[JSON], &body);
        // evt keeps the text of a number, however large; a reader may round it.
        let good = ["y_", "i_number", "number_"].iter().any(|start| name.starts_with(start));
        match (response.status, good, name.starts_with("n_")) {
            (200, _, false) => kept.push([br#"{"x":"#, &document[..], b"}"].concat()),
            (400, false, _) => refused.push(body),
            _ => panic!("{name}: {response:?}"),
        }
    }
    listener.stop();
    let lines = dir.bytes("out.jsonl");
    let lines: Vec<&[u8]> = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), kept.len());
    for (line, document) in lines.iter().zip(&kept) {
        // A row is one line, so evt replaces line breaks between tokens by blanks.
        let wanted: Vec<u8> =
            document.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
        assert!(memchr::memmem::find(line, &wanted).is_some(), "{}", String::from_utf8_lossy(document));
    }
    assert_eq!(dir.rows("dead.jsonl").len(), refused.len());
}

#[test]
fn schemas_refuse_at_the_edge() {
    let dir = Dir::new("http-schemas");
    dir.write("schemas/t/1.avsc", r#"{"type":"record","name":"t","fields":[{"name":"n","type":"long"}]}"#);
    let listener = Listener::open(&dir, &[&KEEP[..], &["--schemas", "schemas"]].concat());
    let other = r#"{"source":"s","event_type":"u"}"#;
    let wrong = r#"{"source":"s","event_type":"t","n":"x"}"#;
    let response = listener.json(&format!(r#"{{"events":[{wrong},{},{other}]}}"#, event(1, "s")));
    let told: Vec<_> =
        response.json()["errors"].as_array().expect("errors").iter().map(|e| e["error_type"].clone()).collect();
    assert_eq!(told, ["SchemaValidationError", "UnknownSchemaError"]);
    // The server uses a schema that is added later without a restart.
    dir.write("schemas/u/1.avsc", r#"{"type":"record","name":"u","fields":[]}"#);
    assert_eq!(listener.json(other).status, 200);
    assert_eq!(listener.json(wrong).status, 422);
    listener.stop();
    assert_eq!((dir.rows("out.jsonl").len(), dir.rows("dead.jsonl").len()), (2, 3));
}

/// A record of the schema [`CLICK`] in Avro, after its schema id.
fn avro(id: u32, event_type: &str, n: u8) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short") << 1], text.as_bytes()].concat();
    [&[0][..], &id.to_be_bytes(), &text("ios"), &text(event_type), &[n << 1]].concat()
}

const CLICK: &str = r#"{"type":"record","name":"click","fields":[{"name":"source","type":"string"},{"name":"event_type","type":"string"},{"name":"n","type":"long"}]}"#;
const AVRO: (&str, &str) = ("content-type", "application/vnd.confluent.avro");

/// Checks a server with the schemas of the registry at `base`, which has [`CLICK`] as `event_type` under `id`.
fn avro_is_taken(dir: &Dir, base: &str, id: u32, event_type: &str) {
    let listener = Listener::open(dir, &[&KEEP[..], &["--schemas", base]].concat());
    let mut sent = vec![];
    for (kind, n) in [(AVRO, 1), (("content-type", "avro/binary"), 2)] {
        let response = listener.post(&[kind], &avro(id, event_type, n));
        assert_eq!(response.status, 200, "{response:?}");
        sent.extend(ids(&response));
    }
    let two = [avro(id, event_type, 1), avro(id, event_type, 2)[5..].to_vec()].concat();
    let unknown = avro(id + 100_000, event_type, 1);
    let wrong = format!(r#"{{"source":"s","event_type":"{event_type}","n":"x"}}"#).into_bytes();
    let faults = [
        (AVRO, &two, 400, "ParseError"),
        (AVRO, &b"{}".to_vec(), 400, "ParseError"),
        (AVRO, &unknown, 422, "UnknownSchemaError"),
        (JSON, &wrong, 422, "SchemaValidationError"),
    ];
    for (kind, body, status, error) in &faults {
        let response = listener.post(&[*kind], body);
        let told = response.json()["errors"][0]["error_type"].clone();
        assert_eq!((response.status, told), (*status, json!(error)), "{response:?}");
    }
    assert_eq!(listener.post(&[AVRO], b"").status, 400);
    listener.stop();
    let rows = dir.rows("out.jsonl");
    assert_eq!(rows.iter().map(|row| row["event_id"].clone()).collect::<Vec<_>>(), sent);
    assert_eq!((&rows[0]["source"], &rows[0]["event_type"]), (&json!("ios"), &json!(event_type)));
    assert_eq!(rows[1]["properties"], json!({"n": 2}));
    assert_eq!(dir.rows("dead.jsonl").len(), faults.len());
}

#[test]
fn avro_is_taken_where_a_registry_knows_its_schema() {
    let small = Small::new(|asked| match asked.path.as_str() {
        "/schemas/ids/7" => (200, json!({ "schema": CLICK })),
        "/subjects/click/versions" => (200, json!([1])),
        "/subjects/click/versions/1" => (200, json!({"subject": "click", "version": 1, "id": 7, "schema": CLICK})),
        _ => (404, json!({"error_code": 40403, "message": "not there"})),
    });
    avro_is_taken(&Dir::new("http-avro"), &small.base, 7, "click");
    if let Some(real) = registry() {
        let event_type = unique("listener");
        let id = put(&real, &event_type, CLICK);
        avro_is_taken(&Dir::new("http-avro-real"), &real, id, &event_type);
    }
}

#[test]
fn a_registry_that_is_away_puts_requests_off_and_nothing_else() {
    let dir = Dir::new("http-away");
    let flags = ["--schemas", "http://127.0.0.1:1", "--request-timeout", "300ms"];
    let listener = Listener::open(&dir, &[&KEEP[..], &flags].concat());
    for (kind, body) in [(AVRO, avro(7, "click", 1)), (JSON, event(1, "s").into_bytes())] {
        let response = listener.post(&[kind], &body);
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{response:?}");
    }
    assert_eq!(listener.get("/healthz").status, 200);
    listener.stop();
    let nothing = |name: &str| !dir.path(name).exists() || dir.bytes(name).is_empty();
    assert!(nothing("out.jsonl") && nothing("dead.jsonl"));
}

#[test]
fn a_signal_lets_requests_under_way_finish_and_nobody_else_in() {
    let dir = Dir::new("http-drain");
    let listener = Listener::open(&dir, &KEEP);
    let whole = request(&[JSON], event(1, "s").as_bytes());
    let (first, rest) = whole.split_at(whole.len() - 10);
    let mut stream = listener.connect();
    // `100 Continue` shows that the server has read the whole head, so the request is in progress.
    let head = first.len() - (event(1, "s").len() - 10);
    let (head, body) = first.split_at(head);
    let head = String::from_utf8(head.to_vec()).expect("ASCII").replace("connection: close", "expect: 100-continue");
    stream.write_all(head.as_bytes()).expect("it listens");
    let mut told = [0; 25];
    stream.read_exact(&mut told).expect("an answer");
    assert!(told.starts_with(b"HTTP/1.1 100 "));
    stream.write_all(body).expect("it listens");
    let mut idle = listener.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").expect("it listens");
    let mut byte = [0];
    idle.read_exact(&mut byte).expect("an answer");
    listener.signal(Signal::TERM);
    // The server closes a connection without a request. By then it no longer listens.
    let mut left = vec![];
    idle.read_to_end(&mut left).expect("it is closed");
    eventually("nobody listens", || std::net::TcpStream::connect(&listener.host).is_err());
    stream.write_all(rest).expect("the request continues");
    let response = crate::listener::read(&mut stream).expect("an answer");
    assert_eq!(response.status, 200, "{response:?}");
    let (ended, said) = listener.wait();
    assert_eq!(ended, 128 + 15, "{said}");
    assert!(said.contains("in 1 out 1") && said.contains("stopped"), "{said}");
    assert_eq!(dir.rows("out.jsonl").len(), 1);
}

#[test]
fn an_idempotency_key_has_the_stored_answer_and_another_body_is_refused() {
    let dir = Dir::new("http-once");
    let listener =
        Listener::open(&dir, &["--spool", "spool", "--dedup", "1h", "--to", "out.jsonl", "--dlq", "dead.jsonl"]);
    let post = |number: usize| listener.post(&[JSON, ("idempotency-key", "k")], event(number, "s").as_bytes());
    let first = post(1);
    assert_eq!(first.status, 200);
    assert_eq!((post(1).body, post(2).status), (first.body, 422));
    // The same event without a key is a duplicate: the server acknowledges and counts it, and does not pass it on.
    assert_eq!(listener.json(&event(1, "s")).json()["accepted"], json!(1));
    // The server also counts a repeated request as duplicate, although it is not a record of the run.
    assert!(listener.get("/metrics").body.contains(r#"outcome="duplicate"} 2"#));
    let said = listener.stop();
    assert!(said.contains("duplicate 1"), "{said}");
    assert_eq!(dir.rows("out.jsonl").len(), 1);
}

fn refused(args: &[&str], program: &str, why: &str) {
    let dir = Dir::new("http-usage");
    dir.write("tokens.toml", "[[token]]\nname = \"a\"\nsecret = \"secret-of-a\"\n");
    let run: Run = dir.run(program, args).ends_with(2);
    assert!(run.stderr().contains(why), "{run}");
}

#[test]
fn a_listener_that_may_not_be_opened_is_refused_with_the_way_out() {
    let here = "http://127.0.0.1:0";
    let keep = |rest: &[&'static str]| [rest, &["--ack", "memory", "--to", "null:"]].concat();
    refused(&[here], "evt-ingest", "--ack memory");
    refused(&[here, "--spool", "s"], "evt-ingest", "the spool could never be emptied");
    refused(&keep(&["http://0.0.0.0:0"]), "evt-ingest", "--anonymous");
    refused(&keep(&["https://127.0.0.1:0"]), "evt-ingest", "--tls-cert");
    refused(&keep(&["http://127.0.0.1"]), "evt-ingest", "http://HOST:PORT");
    refused(&keep(&["http://127.0.0.1:0", "x.jsonl"]), "evt-ingest", "another input");
    refused(&keep(&["http://127.0.0.1:0", "--set", "origin=x"]), "evt-ingest", "origin");
    refused(&["x.jsonl", "--tokens", "tokens.toml"], "evt-ingest", "--tokens");
    refused(&["x.jsonl", "--schemas", "s"], "evt-ingest", "evt-validate");
    refused(&["-", "--to", "http://127.0.0.1:0"], "evt-ingest", "not an output");
    refused(&[here], "evt-validate", "a listener requires evt-ingest");
}

#[test]
fn generated_events_come_through_a_listener_to_their_truth() {
    let dir = Dir::new("listener-truth");
    let flags = "--events 8k --rate 100 --seed 5 --late 1% --duplicates 1% --future 0.5% --malformed 5% --invalid 1%";
    let rules =
        "--truth truth.json --truth-as http --time client_timestamp --by event_type,source --out-of-orderness 5s";
    dir.shell(&format!("evt-gen {flags} {rules} -q > events.jsonl")).succeeds();
    let listener = Listener::open(&dir, &["--time", "client_timestamp", "--to", "events.out.jsonl", "--dlq", "null:"]);
    let text = dir.bytes("events.jsonl");
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let mut rejected = 0;
    for batch in lines.chunks(500) {
        let answer = listener.post(&[("content-type", "application/x-ndjson")], &batch.concat()).json();
        rejected += answer["rejected"].as_u64().expect("a count");
    }
    listener.stop();
    let truth: Value = serde_json::from_slice(&dir.bytes("truth.json")).expect("JSON");
    assert!(truth["defects"]["time_unreadable"].as_u64() > Some(10), "{truth}");
    assert_eq!(truth["counts"]["dead"], rejected, "{}", truth["counts"]);
    let window =
        "evt-window events.out.jsonl --size 1m --by event_type,source --out-of-orderness 5s -q --late null: -o jsonl";
    let run = dir.shell(window);
    let key = |row: &Value| (row["window_start"].to_string(), row["dimensions"].to_string());
    let counted: std::collections::BTreeMap<_, _> =
        run.rows().iter().map(|row| (key(row), row["value"].as_f64())).collect();
    let wanted: std::collections::BTreeMap<_, _> =
        truth["windows"].as_array().expect("windows").iter().map(|row| (key(row), row["value"].as_f64())).collect();
    assert!(wanted.len() > 20 && counted == wanted, "{} of {} windows\n{run}", counted.len(), wanted.len());
}

#[test]
fn a_truth_over_http_asks_for_a_time_that_the_listener_leaves_alone() {
    let dir = Dir::new("listener-truth-rules");
    let run = dir.run("evt-gen", &["--truth", "t.json", "--truth-as", "http"]).ends_with(2);
    assert!(run.stderr().contains("--time client_timestamp"), "{run}");
}
