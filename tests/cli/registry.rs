//! Schema registries over HTTP: a real one (`EVT_REGISTRY`, `scripts/services`), and fakes for answers that a real one
//! gives rarely.

use crate::broker::Bench;
use crate::harness::{Dir, ask, cases, in_ci, python};
use evt_core::schema::AVRO;
use evt_core::schema::level::{Level, check_level};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};

pub const V1: &str = r#"{"type":"record","name":"click","fields":[{"name":"event_type","type":"string"},{"name":"page","type":"string"}]}"#;
pub const V2: &str = r#"{"type":"record","name":"click","fields":[{"name":"event_type","type":"string"},{"name":"page","type":"string"},{"name":"n","type":"int","default":0}]}"#;
pub const BAD: &str =
    r#"{"type":"record","name":"click","fields":[{"name":"event_type","type":"string"},{"name":"page","type":"int"}]}"#;

/// The real registry; `None`, with one message, if there is none. CI requires one.
pub fn registry() -> Option<String> {
    let found = std::env::var("EVT_REGISTRY").ok();
    if found.is_none() {
        assert!(!in_ci(), "EVT_REGISTRY must name a registry in CI (scripts/services)");
        eprintln!("skipped: EVT_REGISTRY is not set (scripts/services)");
    }
    found
}

/// A unique name.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// Sends a request to the registry without evt.
pub fn say(base: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = ureq::http::Request::builder().method(method).uri(format!("{base}{path}"));
    let request = request.header("content-type", "application/vnd.schemaregistry.v1+json");
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let answer = agent.run(request.body(body).expect("a request")).expect("an answer");
    let status = answer.status().as_u16();
    let text = answer.into_body().read_to_string().expect("text");
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// Registers a schema without evt; returns its id.
pub fn put(base: &str, subject: &str, schema: &str) -> u32 {
    let (status, body) = say(base, "POST", &format!("/subjects/{subject}/versions"), Some(json!({ "schema": schema })));
    assert_eq!(status, 200, "{body}");
    u32::try_from(body["id"].as_u64().expect("an id")).expect("an id")
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    authorization: Option<String>,
}

/// A fake registry: answers by path, and records its requests.
pub struct Small {
    pub base: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Connections that wait for an answer while it is paused.
    held: Arc<Mutex<Option<Vec<TcpStream>>>>,
    release: mpsc::Sender<TcpStream>,
}

impl Small {
    pub fn new(answer: impl Fn(&Asked) -> (u16, Value) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let held: Arc<Mutex<Option<Vec<TcpStream>>>> = Arc::default();
        let (release, streams) = mpsc::channel();
        let (log, held_back, accepted) = (asked.clone(), held.clone(), release.clone());
        // They end with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                match held_back.lock().expect("no panic").as_mut() {
                    Some(held) => held.push(stream),
                    None => drop(accepted.send(stream)),
                }
            }
        });
        std::thread::spawn(move || {
            for stream in streams {
                // A client may go at any time.
                let _ = serve(stream, &answer, &log);
            }
        });
        Self { base, asked, held, release }
    }

    /// Pauses: it accepts connections and does not answer.
    pub fn mute(&self) {
        self.held.lock().expect("no panic").get_or_insert_default();
    }

    /// Returns the number of connections that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.held.lock().expect("no panic").as_ref().map_or(0, Vec::len)
    }

    /// Answers all waiting connections, and resumes.
    pub fn unmute(&self) {
        for stream in self.held.lock().expect("no panic").take().into_iter().flatten() {
            self.release.send(stream).expect("it serves");
        }
    }

    pub fn asked(&self, path: &str) -> usize {
        self.asked.lock().expect("no panic").iter().filter(|asked| asked.path == path).count()
    }
}

fn serve(stream: TcpStream, answer: &impl Fn(&Asked) -> (u16, Value), log: &Mutex<Vec<Asked>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length, mut authorization) = (String::new(), 0, None);
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap_or(0),
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => authorization = Some(value.to_owned()),
            Some(_) => {}
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    let asked = Asked { path, authorization };
    let (status, body) = answer(&asked);
    log.lock().expect("no panic").push(asked);
    let body = if let Value::String(raw) = body { raw } else { body.to_string() };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    reader.get_mut().write_all((head + &body).as_bytes())
}

pub fn unknown() -> (u16, Value) {
    (404, json!({"error_code": 40401, "message": "not found"}))
}

/// A subject `click` with these schemas, its ids from 1.
fn clicks(schemas: &'static [&'static str]) -> Small {
    Small::new(move |asked| {
        let number = asked.path.rsplit('/').next().and_then(|number| number.parse::<usize>().ok());
        let schema = number.and_then(|number| schemas.get(number - 1));
        match (asked.path.as_str(), schema) {
            ("/subjects/click/versions", _) => (200, json!((1..=schemas.len()).collect::<Vec<_>>())),
            (path, Some(schema)) if path.starts_with("/subjects/click/versions/") => {
                (200, json!({"subject": "click", "version": number, "id": number, "schema": schema}))
            }
            (path, Some(schema)) if path.starts_with("/schemas/ids/") => (200, json!({ "schema": schema })),
            _ => unknown(),
        }
    })
}

fn events(properties: &[&str]) -> String {
    let event = |(n, properties): (usize, &&str)| {
        format!(r#"{{"event_type":"click","source":"s","server_timestamp":"2024-01-15T10:00:{n:02}Z",{properties}}}"#)
    };
    properties.iter().enumerate().map(|one| event(one) + "\n").collect()
}

/// A path that is not a registry has no subjects either: evt must not reject events for that.
#[test]
fn a_wrong_base_path_ends_the_run_instead_of_calling_every_schema_unknown() {
    let small = Small::new(|asked| (404, if asked.path.len() > 30 { json!(null) } else { json!({"error_code": 404}) }));
    let dir = Dir::new("base");
    dir.write("events.jsonl", events(&[r#""page":"a""#]));
    for base in [small.base.clone(), format!("{}/a/base/path/that/is/long", small.base)] {
        let args = ["events.jsonl", "--schemas", &base, "--dlq", "dead.jsonl", "--to", "out.jsonl"];
        let run = dir.run("evt-validate", &args).ends_with(78);
        assert!(run.stderr().contains("/subjects/click/versions: status 404"), "{run}");
    }
}

#[test]
fn a_real_registry_takes_what_is_compatible_and_refuses_the_rest_with_its_reasons_and_ours() {
    let Some(base) = registry() else { return };
    let (dir, subject) = (Dir::new("live"), unique("repo%push"));
    [("v1.avsc", V1), ("v2.avsc", V2), ("bad.avsc", BAD)].iter().for_each(|(name, text)| dir.write(name, text));
    let register = |new: &str| dir.run("evt-schema", &["register", new, "--subject", &subject, "--schemas", &base]);
    assert_eq!(register("v1.avsc").succeeds().text(), format!("{subject} 1\n"));
    assert_eq!(register("v2.avsc").succeeds().text(), format!("{subject} 2\n"));
    assert_eq!(register("v1.avsc").succeeds().text(), format!("{subject} 1\n"), "a known schema keeps its number");
    let refused = register("bad.avsc").ends_with(1);
    for reason in ["click.page: a string cannot be read as int", "the registry rejected it (409): ", "/fields/1/type"] {
        assert!(refused.stderr().contains(reason), "{reason}: {refused}");
    }
    let check = |new: &str| dir.run("evt-schema", &["check", new, "--subject", &subject, "--schemas", &base]);
    assert_eq!(check("v2.avsc").succeeds().stderr(), "");
    assert!(check("bad.avsc").ends_with(1).stderr().contains("the registry: "));
    let list = dir.run("evt-schema", &["list", "--schemas", &base]).succeeds();
    assert!(list.text().contains(&format!("{subject} BACKWARD 1 2\n")), "{list}");
    let show = dir.run("evt-schema", &["show", &subject, "--number", "1", "--schemas", &base]).succeeds();
    assert_eq!(show.text(), format!("{V1}\n"));
    dir.run("evt-schema", &["show", &subject, "--number", "7", "--schemas", &base]).ends_with(78);
}

/// Ids of cases. None: evt and Apicurio 3.3.3 agree on all 184. What looks like a difference is none: a schema that is
/// a version of its subject already is not judged when it is registered again, by the registry as by evt.
const DIFFERING: [&str; 0] = [];

#[test]
fn evt_and_a_real_registry_give_the_same_verdict_but_for_what_is_named_here() {
    let Some(base) = registry() else { return };
    let (mut differing, mut wrong) = (vec![], vec![]);
    for (file, new, history) in [("pairs", "reader", "writer"), ("levels", "new", "history")] {
        for case in cases(&format!("compat/{file}.jsonl")) {
            let history: Vec<Value> = match &case[history] {
                Value::Array(all) if file == "levels" => all.clone(),
                one => vec![one.clone()],
            };
            let subject = unique(case["id"].as_str().expect("an id"));
            let level = case["level"].as_str().expect("a level");
            let (ours, known) = verdict(&case[new], &history, level);
            assert_eq!(ours, case["expected"] == true, "{}", case["name"]);
            let (judged, taken) = their_verdict(&base, &subject, &case[new], &history, level);
            if judged != ours {
                differing.push(case["id"].as_str().expect("an id").to_owned());
            } else if taken != (ours || known) {
                wrong.push(format!("{}: {} is registered: {taken}", case["id"], case["name"]));
            }
        }
    }
    assert_eq!(differing, DIFFERING);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether the schema may follow the others, and whether it is one of them.
fn verdict(new: &Value, history: &[Value], level: &str) -> (bool, bool) {
    let parse = |value: &Value| (AVRO.parse)(&value.to_string()).expect("a schema");
    let (new, history): (_, Vec<_>) = (parse(new), history.iter().map(|old| (String::new(), parse(old))).collect());
    let level = Level::from_name(level).expect("a level");
    let known = history.iter().any(|(_, old)| old.identity() == new.identity());
    (check_level(new.as_ref(), &history, level).is_empty(), known)
}

/// The registry's verdict, and whether it registers the schema.
fn their_verdict(base: &str, subject: &str, new: &Value, history: &[Value], level: &str) -> (bool, bool) {
    let config = |level: &str| {
        let (status, body) = say(base, "PUT", &format!("/config/{subject}"), Some(json!({ "compatibility": level })));
        assert_eq!(status, 200, "{body}");
    };
    config("NONE");
    history.iter().for_each(|old| _ = put(base, subject, &old.to_string()));
    config(level);
    let new = || Some(json!({ "schema": new.to_string() }));
    // Without a version, Apicurio checks against all versions at any level, and Confluent's registry against the last
    // one unless the level is transitive. evt uses a request that means the same to both.
    let latest = if level.ends_with("_TRANSITIVE") { "" } else { "/latest" };
    let judged = match say(base, "POST", &format!("/compatibility/subjects/{subject}/versions{latest}"), new()) {
        (200, body) => body["is_compatible"].as_bool().expect("a verdict"),
        (404, _) => true,
        (_, body) => panic!("{body}"),
    };
    match say(base, "POST", &format!("/subjects/{subject}/versions"), new()) {
        (200, _) => (judged, true),
        (409, _) => (judged, false),
        (_, body) => panic!("{body}"),
    }
}

#[test]
fn events_are_validated_by_the_versions_of_a_real_registry_and_by_a_new_one_without_a_restart() {
    let Some(base) = registry() else { return };
    let (dir, subject) = (Dir::new("versions"), unique("click"));
    let first = put(&base, &subject, V1);
    let second = put(&base, &subject, V2);
    dir.write(
        "events.jsonl",
        events(&[r#""page":"/""#, r#""page":"/","n":7"#, r#""page":7"#, r#""page":"/","n":"x""#]),
    );
    let named = format!("={subject}");
    let args = ["events.jsonl", "--schemas", &base, "--subject", &named, "-o", "jsonl", "--dlq", "dead.jsonl"];
    let run = dir.run("evt-validate", &args).succeeds();
    let ids: Vec<Value> = run.rows().iter().map(|row| row["schema_id"].clone()).collect();
    assert_eq!(ids, [json!(second), json!(second), json!(first)], "v1 takes what it does not know");
    let dead = dir.rows("dead.jsonl");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["error_message"], "properties.page: expected string, found number 7");
    let nobody = format!("={}", unique("nobody"));
    let args = ["events.jsonl", "--schemas", &base, "--subject", &nobody, "-o", "jsonl", "--dlq", "all.jsonl"];
    assert_eq!(dir.run("evt-validate", &args).succeeds().rows().len(), 0);
    assert!(dir.rows("all.jsonl").iter().all(|row| row["error_type"] == "UnknownSchemaError"));
}

/// Events may have any event type: no name ends the run, with a registry as with a directory.
#[test]
fn a_type_that_no_registry_can_have_is_unknown() {
    let Some(base) = registry() else { return };
    let dir = Dir::new("odd_types");
    let long = "x".repeat(600);
    let types = ["", ".", "..", "a\\nb", "a\\u2028b", "a/b", "a b", "%2f", "?x", "#", "\u{fc}", &long];
    let event = |name: &&str| format!("{{\"event_type\":\"{name}\",\"server_timestamp\":\"2024-01-15T10:00:00Z\"}}\n");
    dir.write("events.jsonl", types.iter().map(event).collect::<String>());
    for schemas in [base.as_str(), "schemas"] {
        std::fs::create_dir_all(dir.path("schemas")).expect("a directory");
        let dead = format!("dead-{}.jsonl", schemas.len());
        let args = ["events.jsonl", "--schemas", schemas, "-o", "jsonl", "--dlq", &dead];
        assert_eq!(dir.run("evt-validate", &args).succeeds().rows().len(), 0);
        let letters = dir.rows(&dead);
        assert_eq!(letters.len(), types.len(), "{schemas}");
        assert!(letters.iter().all(|letter| letter["error_type"] == "UnknownSchemaError"), "{letters:?}");
    }
}

#[test]
fn a_version_that_is_not_there_is_named_without_the_secrets_of_the_address() {
    let (dir, small) = (Dir::new("show_secret"), clicks(&[V1]));
    let address = small.base.replace("://", "://user:hunter2@") + "?token=hunter3";
    for schemas in
        [address.clone(), small.base.replace("://", "://user:hunter2@"), small.base.clone() + "?token=hunter3"]
    {
        let said = dir.run("evt-schema", &["show", "click", "--number", "7", "--schemas", &schemas]);
        assert!(said.status() != 0 && !said.stderr().contains("hunter"), "{said}");
    }
}

/// evt does not read an answer to its end if it is too long for a schema.
#[test]
fn a_schema_file_without_end_is_refused() {
    let dir = Dir::new("endless_schema");
    let run = dir.shell("ulimit -v 4000000; evt-schema check /dev/zero").ends_with(78);
    assert!(run.stderr().contains("longer than 1024 KiB"), "{run}");
}

#[test]
fn what_never_changes_is_fetched_once_however_many_events() {
    let (dir, small) = (Dir::new("once"), clicks(&[V1, V2]));
    dir.write("events.jsonl", events(&[r#""page":"/""#; 60]).repeat(400));
    let run = dir.run("evt-validate", &["events.jsonl", "--schemas", &small.base, "-o", "jsonl"]).succeeds();
    assert_eq!(run.rows().len(), 24_000);
    for path in ["/subjects/click/versions", "/subjects/click/versions/1", "/subjects/click/versions/2"] {
        assert_eq!(small.asked(path), 1, "{path}");
    }
}

#[test]
fn a_registry_that_is_silent_is_waited_for_and_then_the_run_ends_or_its_events_are_kept() {
    let dir = Dir::new("silent");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let base = format!("http://user:secret@{}", silent.local_addr().expect("an address"));
    dir.write("events.jsonl", events(&[r#""page":"/""#; 3]));
    let validate = |options: &str| {
        let schemas = format!("{base}?connect=1s&timeout=1s&{options}");
        dir.run("evt-validate", &["events.jsonl", "--schemas", &schemas, "-o", "jsonl", "--dlq", "dead.jsonl"])
    };
    let run = validate("retry=500ms").ends_with(69);
    assert!(run.stderr().contains("no response for 1s: retrying for up to 500ms"), "{run}");
    assert!(!run.stderr().contains("secret"), "{run}");
    let run = validate("down=dead").succeeds();
    assert_eq!(run.stderr().matches("no response").count(), 1, "{run}");
    let dead = dir.rows("dead.jsonl");
    assert_eq!(dead.len(), 3);
    for letter in dead {
        assert_eq!(letter["error_type"], "UnknownSchemaError");
        assert!(letter["error_message"].as_str().is_some_and(|text| text.contains("cannot be fetched")), "{letter}");
    }
}

#[test]
fn a_registry_that_stumbles_is_asked_again() {
    let (dir, tries) = (Dir::new("stumbles"), Mutex::new(0));
    let small = Small::new(move |_| {
        let mut tries = tries.lock().expect("no panic");
        *tries += 1;
        if *tries < 3 { (503, json!({})) } else { (200, json!(["click"])) }
    });
    dir.run("evt-schema", &["list", "--schemas", &small.base]).ends_with(78);
    assert!(small.asked("/subjects") == 3);
}

#[test]
fn a_schema_that_is_none_is_named_with_subject_and_version() {
    let (dir, small) = (Dir::new("syntax"), clicks(&[V1, r#"{"type":"record","name":"click""#]));
    dir.write("events.jsonl", events(&[r#""page":"/""#]));
    let run = dir.run("evt-validate", &["events.jsonl", "--schemas", &small.base, "-o", "jsonl"]).ends_with(1);
    assert!(run.stderr().contains("version 2: schema: invalid JSON"), "{run}");
}

#[test]
fn answers_that_make_no_sense_end_the_run_with_one_line() {
    let dir = Dir::new("nonsense");
    let large = "x".repeat(9 << 20);
    for (status, body, words) in [
        (200, json!("<html>"), "expected a JSON response"),
        (200, json!({"a": 1}), "expected a list of"),
        (200, json!([-1]), "expected a list of"),
        (200, json!(large), "exceeds 8 MiB"),
        (400, json!({"message": "bad\nrequest"}), "status 400: bad"),
    ] {
        let small = Small::new(move |_| (status, body.clone()));
        dir.write("events.jsonl", events(&[r#""page":"/""#]));
        let run = dir.run("evt-validate", &["events.jsonl", "--schemas", &small.base, "-o", "jsonl"]).ends_with(78);
        assert!(run.stderr().contains(words) && run.stderr().lines().count() <= 2, "{words}: {run}");
    }
}

#[test]
fn who_we_are_is_said_with_every_request_and_never_shown() {
    let dir = Dir::new("auth");
    for (who, option, expected) in [("me:p%40ss@", "", "Basic bWU6cEBzcw=="), ("", "?token=t0ken", "Bearer t0ken")] {
        let small = Small::new(move |asked| match asked.authorization.as_deref() == Some(expected) {
            true => (200, json!([])),
            false => (401, json!({"message": "who are you?"})),
        });
        let host = small.base.trim_start_matches("http://");
        let list = |who: &str, option: &str| {
            dir.run("evt-schema", &["list", "--schemas", &format!("http://{who}{host}{option}")])
        };
        assert_eq!(list(who, option).succeeds().text(), "");
        let run = list("me:wrong@", "").ends_with(78);
        assert!(run.stderr().contains("access denied: who are you?") && !run.stderr().contains("wrong"), "{run}");
    }
}

#[test]
fn types_of_other_subjects_are_found_by_reference() {
    let money = r#"{"type":"record","name":"Money","namespace":"shop","fields":[{"name":"cents","type":"long"}]}"#;
    let click = r#"{"type":"record","name":"click","fields":[{"name":"price","type":"shop.Money"},{"name":"tax","type":"shop.Money"}]}"#;
    let small = Small::new(move |asked| match asked.path.as_str() {
        "/subjects/click/versions" => (200, json!([1])),
        "/subjects/click/versions/1" => {
            let references = json!([{"name": "shop.Money", "subject": "money", "version": 3}]);
            (200, json!({"id": 9, "version": 1, "schema": click, "references": references}))
        }
        "/subjects/money/versions/3" => (200, json!({"id": 8, "version": 3, "schema": money})),
        _ => unknown(),
    });
    let dir = Dir::new("references");
    dir.write("events.jsonl", events(&[r#""price":{"cents":1},"tax":{"cents":2}"#, r#""price":{"cents":1},"tax":{}"#]));
    let args = ["events.jsonl", "--schemas", &small.base, "-o", "jsonl", "--dlq", "dead.jsonl"];
    assert_eq!(dir.run("evt-validate", &args).succeeds().rows().len(), 1);
    assert_eq!(dir.rows("dead.jsonl")[0]["error_message"], "properties.tax.cents: missing");
}

/// A record of V1 or V2 in Avro.
pub fn click(page: &str, n: Option<u8>) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len() * 2).expect("a short text")], text.as_bytes()].concat();
    let mut record = [text("click"), text(page)].concat();
    record.extend(n.map(|n| n * 2));
    record
}

pub fn behind(id: u32, record: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], record].concat()
}

#[test]
fn a_topic_in_avro_is_read_by_the_schemas_of_its_writers_and_what_is_none_is_kept() {
    let (Some(base), Some(bench)) = (registry(), Bench::new("avro-in")) else { return };
    let (first, second) = (put(&base, &unique("one"), V1), put(&base, &unique("two"), V2));
    let topic = bench.topic("in", 1, &[]);
    let good =
        [behind(first, &click("/a", None)), behind(second, &click("/b", Some(7))), behind(first, &click("/c", None))];
    let bad = [
        behind(999_999, &click("/x", None)),
        behind(second, &click("/cut", None)),
        behind(first, &click("/long", Some(1))),
        behind(first, b"\x02\xff\x02a"),
        br#"{"event_type":"click"}"#.to_vec(),
        vec![0, 0, 0],
        vec![],
    ];
    let headers = OwnedHeaders::new().insert(Header { key: "trace", value: Some("abc") });
    let record =
        |value| BaseRecord::to(&topic).partition(0).key(b"k".as_slice()).payload(value).headers(headers.clone());
    bench.produce(good.iter().chain(&bad).map(|value| record(value.as_slice())));
    let id = behind(second, &[]);
    let header = OwnedHeaders::new().insert(Header { key: "__value_schema_id", value: Some(&id) });
    let bare = click("/header", Some(1));
    bench.produce([BaseRecord::<[u8], [u8]>::to(&topic).partition(0).payload(&bare).headers(header)]);
    let uri = bench.uri(&topic, &format!("?format=avro&schemas={base}&end=latest"));
    let args = [&uri, "--time", "arrival", "-o", "jsonl", "--dlq", "dead.jsonl"];
    let run = bench.dir.run("evt-ingest", &args).succeeds();
    let pages: Vec<String> = run.rows().iter().map(|row| row["properties"].to_string()).collect();
    let expected = [r#"{"page":"/a"}"#, r#"{"page":"/b","n":7}"#, r#"{"page":"/c"}"#, r#"{"page":"/header","n":1}"#]
        .map(|text| serde_json::from_str::<Value>(text).expect("JSON").to_string());
    assert_eq!(pages, expected);
    let dead = bench.dir.rows("dead.jsonl");
    let said: Vec<&str> = dead.iter().filter_map(|letter| letter["error_message"].as_str()).collect();
    let words = [
        "unknown to ",
        "unexpected end of the value",
        "expected the end of the record, found 1 byte more",
        "expected a string in UTF-8, found other bytes",
        "found first byte 7b",
        "found 3 bytes",
        "found no data",
    ];
    assert_eq!(said.len(), words.len(), "{said:?}");
    for (at, (said, words)) in said.iter().zip(words).enumerate() {
        assert!(said.contains(words), "{said}: {words}");
        let kind = if at == 0 { "UnknownSchemaError" } else { "ParseError" };
        assert_eq!(dead[at]["error_type"], kind);
        assert_eq!((&dead[at]["original_key"], &dead[at]["headers"]["trace"]), (&json!("k"), &json!("abc")));
        assert_eq!(dead[at]["offset"], json!(at + good.len()));
    }
    let letters = bench.topic("dlq", 1, &[]);
    let dlq = bench.uri(&letters, "");
    bench.dir.run("evt-ingest", &[&uri, "--time", "arrival", "--to", "null:", "--dlq", &dlq]).succeeds();
    let kept: Vec<Option<Vec<u8>>> = bench.records(&letters).into_iter().map(|record| record.value).collect();
    assert_eq!(kept, bad.map(Some), "payloads byte for byte");
}

#[test]
fn what_evt_writes_in_avro_is_read_by_evt_and_by_another_client() {
    let (Some(base), Some(bench), Some(python)) = (registry(), Bench::new("avro-out"), python()) else { return };
    bench.dir.shell("evt-gen --events 2k --seed 3 > events.jsonl").succeeds();
    let rows = bench.dir.run("evt-ingest", &["events.jsonl", "-o", "jsonl"]).succeeds();
    bench.dir.write("rows.jsonl", rows.stdout());
    let topic = bench.topic("events", 2, &[]);
    let uri = bench.uri(&topic, &format!("?format=avro&schemas={base}"));
    bench.dir.run("evt-ingest", &["events.jsonl", "--to", &uri]).succeeds();
    ask(&bench.dir, &python, "avro_topic.py", &[&bench.brokers, &base, &topic, "rows.jsonl"]);
    let back = bench.dir.run("evt-view", &[&uri, "-o", "jsonl"]).succeeds();
    let sorted = |mut rows: Vec<Value>| {
        rows.iter_mut().filter_map(Value::as_object_mut).for_each(|row| row.retain(|name, _| name != "ingested_at"));
        rows.sort_by_key(|row| row["event_id"].to_string());
        rows
    };
    assert_eq!(sorted(back.rows()), sorted(rows.rows()), "what was written is read");
    let metrics = bench.topic("metrics", 1, &[]);
    let to = bench.uri(&metrics, &format!("?format=avro&schemas={base}?subject=topic-record"));
    let line = format!("evt-ingest -q events.jsonl | evt-window -q --size 1m --by event_type --to '{to}'");
    bench.dir.shell(&line).succeeds();
    let (_, subjects) = say(&base, "GET", "/subjects", None);
    let subject = format!("{metrics}-evt.metric");
    assert!(subjects.as_array().is_some_and(|all| all.contains(&json!(subject))), "{subjects}");
    let read = bench.uri(&metrics, &format!("?format=avro&schemas={base}"));
    let shown = bench.dir.run("evt-view", &[&read, "-o", "jsonl"]).succeeds();
    assert!(shown.rows().iter().all(|row| row["metric_name"].is_string() && row["dimensions"].is_object()), "{shown}");
}

#[test]
fn rows_go_under_a_schema_that_is_theirs_or_nowhere() {
    let (Some(base), Some(bench)) = (registry(), Bench::new("avro-gate")) else { return };
    bench.dir.write("events.jsonl", events(&[r#""page":"/""#]));
    let topic = bench.topic("gate", 1, &[]);
    let other = r#"{"type":"record","name":"event","namespace":"evt","fields":[{"name":"source","type":"string"}]}"#;
    let id = put(&base, &unique("other"), other);
    let write = |options: &str| {
        let to = bench.uri(&topic, &format!("?format=avro&schemas={base}{options}"));
        bench.dir.run("evt-ingest", &["events.jsonl", "--to", &to])
    };
    assert!(write("&schema_id=latest").ends_with(78).stderr().contains("unknown subject"));
    assert!(write(&format!("&schema_id={id}")).ends_with(78).stderr().contains("expected the schema of the rows"));
    assert!(write("&schema_id=999999").ends_with(78).stderr().contains("unknown schema id 999999"));
    put(&base, &format!("{topic}-value"), V1);
    let refused = write("").ends_with(78);
    assert!(refused.stderr().contains("rejected the schema"), "{refused}");
    assert!(bench.records(&topic).is_empty(), "nothing was written");
    say(&base, "PUT", &format!("/config/{topic}-value"), Some(json!({"compatibility": "NONE"})));
    write("").succeeds();
    write("&schema_id=latest").succeeds();
    assert_eq!(bench.records(&topic).len(), 2);
}

/// In a topic's URI the options of the registry are escaped: without the `%3F` they become a part of its host.
#[test]
fn options_of_a_registry_behind_no_question_mark_are_refused_at_once() {
    let dir = Dir::new("no_question_mark");
    dir.write("in.jsonl", "{}\n");
    let topic = "kafka://127.0.0.1:1/t?format=avro&schemas=http://127.0.0.1:1%26retry=3s";
    for args in [["in.jsonl", "--to", topic], [topic, "--to", "null:"]] {
        let run = dir.run("evt-ingest", &args).ends_with(2);
        assert!(run.stderr().contains("expected '?' before the first option, found '&'"), "{run}");
    }
    let args = ["in.jsonl", "--schemas", "http://127.0.0.1:1&retry=3s", "--to", "null:"];
    dir.run("evt-validate", &args).ends_with(2);
}

#[test]
fn a_redirect_of_a_registry_is_named_and_not_followed() {
    let dir = Dir::new("redirect");
    dir.write("in.jsonl", "{\"event_type\":\"t\",\"server_timestamp\":\"2024-01-15T10:00:00Z\"}\n");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it connects");
        let mut head = std::io::BufReader::new(&stream);
        let mut line = String::new();
        while std::io::BufRead::read_line(&mut head, &mut line).expect("a head") > 2 {
            line.clear();
        }
        let answer = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/elsewhere\r\ncontent-length: 0\r\n\r\n";
        std::io::Write::write_all(&mut stream, answer).expect("it reads");
    });
    let args = ["in.jsonl", "--schemas", &format!("http://{address}"), "--to", "null:"];
    let run = dir.run("evt-validate", &args).ends_with(78);
    assert!(run.stderr().contains("status 302: redirects to http://127.0.0.1:1/elsewhere are not followed"), "{run}");
    answering.join().expect("no panic");
}
