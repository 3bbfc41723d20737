//! evt-alert while the process, a broker, the rules or an output make no progress; and topics without stamps.

use crate::alert::{at, event, lines, once, rule, rules, series, transitions};
use crate::broker::{Bench, Broker, stopped};
use crate::harness::{Dir, LONG_WAIT, eventually};
use crate::kafka::record;
use crate::notify::webhook;
use crate::receivers::{Receiver, Reply};
use crate::servers::{postgres, psql, redis};
use rdkafka::producer::{BaseProducer, Producer};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Lets wall time pass, which is what these tests are about.
fn pass(seconds: u64) {
    let start = Instant::now();
    eventually("time passes", || start.elapsed() >= Duration::from_secs(seconds));
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_micros()).expect("before the year 290000")
}

/// Sends events of the present time to a topic.
struct Live<'a> {
    producer: BaseProducer,
    topic: &'a str,
    turn: Mutex<()>,
}

impl Live<'_> {
    /// Sends events of the present time, which it returns; no other event comes between them.
    fn send(&self, event_type: &str, count: usize) -> i64 {
        let _turn = self.turn.lock().expect("no panic");
        let at = now();
        let time = evt_core::time::format_instant(at);
        let value = json!({"source": "web", "event_type": event_type, "server_timestamp": time}).to_string();
        for _ in 0..count {
            self.producer.send(record(self.topic, 0, &value)).map_err(|(error, _)| error).expect("it is queued");
        }
        self.producer.poll(Duration::ZERO);
        at
    }

    /// Waits until the broker has all events that were sent.
    fn flush(&self) {
        self.producer.flush(Duration::from_secs(30)).expect("they are delivered");
    }
}

/// Calls `test` while a topic gets five events a second.
fn while_events_arrive<T>(bench: &Bench, topic: &str, test: impl FnOnce(&Live<'_>) -> T) -> T {
    let live = Live { producer: bench.producer(&[]), topic, turn: Mutex::new(()) };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                live.send("view", 1);
                std::thread::park_timeout(Duration::from_millis(200));
            }
        });
        let tested = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&live)));
        is_over.store(true, Ordering::Relaxed);
        live.flush();
        tested.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The first column of a row of the state file; `None` while there is none.
fn state<T: rusqlite::types::FromSql>(dir: &Dir, sql: &str) -> Option<T> {
    let db = Connection::open(dir.path("alerts.db")).expect("it opens");
    db.query_row(sql, [], |row| row.get(0)).ok()
}

/// Waits until the alert clock is at most so many seconds behind the present.
fn catches_up(dir: &Dir, seconds: i64) {
    let clock = || evt_core::time::parse_instant(&state::<String>(dir, "SELECT clock FROM engine")?);
    eventually("the alert clock catches up", || clock().is_some_and(|clock| now() - clock < seconds * 1_000_000));
}

fn firing(dir: &Dir) -> Vec<Value> {
    let rows = std::fs::read(dir.path("out.jsonl")).unwrap_or_default();
    let complete = rows.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = rows[..complete].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let rows = lines.map(|line| serde_json::from_slice::<Value>(line).expect("JSON"));
    rows.filter(|row| row["state"] == "firing").collect()
}

#[test]
fn a_stall_loses_and_moves_no_alert() {
    let Some(bench) = Bench::new("alert-stall") else { return };
    let (dir, topic) = (&bench.dir, bench.topic("t", 1, &[]));
    let fields = json!({"where": "event_type = 'error'", "threshold": 14, "window_seconds": 5, "keep_firing_for": 0});
    dir.write("rules.json", rules(&[rule(&fields)]));
    while_events_arrive(&bench, &topic, |live| {
        let from = bench.uri(&topic, "");
        let run = bench
            .start("evt-alert", &["-q", "--rules", "rules.json", "--state", "alerts.db", "--to", "out.jsonl", &from]);
        let pid = Pid::from_child(&run);
        catches_up(dir, 5);
        for round in 0..2 {
            kill_process(pid, Signal::STOP).expect("it runs");
            pass(3);
            let burst = live.send("error", 20);
            pass(6);
            kill_process(pid, Signal::CONT).expect("it runs");
            eventually("the burst fires", || firing(dir).len() > round);
            let since =
                evt_core::time::parse_instant(firing(dir)[round]["since"].as_str().expect("text")).expect("an instant");
            assert!((0..3_000_000).contains(&(since - burst)), "since {since}, burst at {burst}");
            catches_up(dir, 5);
        }
        let (status, said) = stopped(run);
        assert!(status == 143 && !said.contains("behind the alert clock"), "{status} {said}");
        assert_eq!(firing(dir).len(), 2);
    });
}

#[test]
fn while_a_broker_does_not_answer_no_silence_fires() {
    let Some(bench) = Bench::new("alert-hang") else { return };
    let broker = Broker { state: bench.dir.path("services"), name: "kafka" };
    let bench = Bench { brokers: broker.start(), ..bench };
    let (dir, topic) = (&bench.dir, bench.topic("t", 1, &[]));
    let fields = json!({"condition": "lt", "threshold": 1, "window_seconds": 12, "keep_firing_for": 0});
    dir.write("rules.json", rules(&[rule(&fields)]));
    let from = bench.uri(&topic, "");
    let args = ["-q", "--rules", "rules.json", "--state", "alerts.db", "--to", "out.jsonl", &from];
    let mut run = None;
    while_events_arrive(&bench, &topic, |live| {
        let mut command = dir.command("evt-alert", &args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(dir.path("said")).expect("writable"));
        let run = run.insert(command.spawn().expect("it starts"));
        let pid = Pid::from_child(run);
        catches_up(dir, 5);
        broker.services(&["pause", "kafka"]);
        pass(20);
        // A stall of the run moves the message to a later time.
        eventually("it says so", || said(dir).contains("the alert clock is paused"));
        assert_eq!(firing(dir), Vec::<Value>::new());
        // After a stall no broker has answered either.
        kill_process(pid, Signal::STOP).expect("it runs");
        pass(2);
        kill_process(pid, Signal::CONT).expect("it runs");
        pass(2);
        assert!(!said(dir).contains("brokers answer again"), "{}", said(dir));
        // The broker gets the events of the pause before a new request of the run. Otherwise it could confirm first
        // that nothing follows, which is a silence.
        kill_process(pid, Signal::STOP).expect("it runs");
        broker.services(&["resume", "kafka"]);
        live.flush();
        kill_process(pid, Signal::CONT).expect("it runs");
        catches_up(dir, 5);
        assert_eq!(firing(dir), Vec::<Value>::new());
        assert!(run.try_wait().expect("it is ours").is_none());
    });
    // A silence that the broker confirms fires.
    eventually("silence fires", || firing(dir).len() == 1);
    let mut run = run.expect("it runs");
    kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
    run.wait().expect("it ends");
    let said = said(dir);
    for line in ["; the alert clock is paused", "brokers answer again after"] {
        assert_eq!(said.matches(line).count(), 1, "{said}");
    }
}

/// A relay to a server that a test can freeze: connections stay open, and nothing passes.
struct Relay {
    address: String,
    is_frozen: Arc<AtomicBool>,
    /// Chunks that wait.
    held: Arc<AtomicUsize>,
}

impl Relay {
    /// Starts a relay to the server of a URI; returns it with the URI through it.
    fn new(uri: &str) -> (Self, String) {
        let (scheme, rest) = uri.split_once("://").expect("a URI");
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let host = rest[..end].rsplit('@').next().expect("a host").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let relay = Self { address, is_frozen: Arc::default(), held: Arc::default() };
        let through = format!("{scheme}://{}", rest.replacen(&host, &relay.address, 1));
        let (is_frozen, held) = (relay.is_frozen.clone(), relay.held.clone());
        // It ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&host) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    let (is_frozen, held) = (is_frozen.clone(), held.clone());
                    std::thread::spawn(move || copy(from, to, &is_frozen, &held));
                }
            }
        });
        (relay, through)
    }

    fn freeze(&self) {
        self.is_frozen.store(true, Ordering::SeqCst);
    }

    fn thaw(&self) {
        self.is_frozen.store(false, Ordering::SeqCst);
    }

    fn holds(&self) -> bool {
        self.held.load(Ordering::SeqCst) > 0
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, is_frozen: &AtomicBool, held: &AtomicUsize) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        held.fetch_add(1, Ordering::SeqCst);
        while is_frozen.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        held.fetch_sub(1, Ordering::SeqCst);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // The other side may be gone.
    _ = to.shutdown(Shutdown::Both);
}

/// evt-alert that reads events from a pipe; its messages are in the file `said`.
fn piped(dir: &Dir, args: &[&str]) -> (Child, ChildStdin) {
    let said = File::create(dir.path("said")).expect("writable");
    let mut command = dir.command("evt-alert", &[&["-f", "jsonl", "-q"], args].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(said).spawn().expect("it starts");
    let stdin = child.stdin.take().expect("it is piped");
    (child, stdin)
}

fn said(dir: &Dir) -> String {
    String::from_utf8(dir.bytes("said")).expect("text")
}

#[test]
fn an_alert_fires_while_the_database_of_the_rules_does_not_answer() {
    let Some((_, uri, schema)) = postgres() else { return };
    let dir = Dir::new("alert-rules-away");
    dir.write("in.jsonl", event(0.0, &json!({})));
    dir.shell(&format!("evt-ingest in.jsonl -q --to '{uri}?schema={schema}'")).succeeds();
    psql(
        &dir,
        &uri,
        &schema,
        "INSERT INTO alert_rules (name, condition, threshold, window_seconds, definition) VALUES ('errors', 'GREATER_THAN', 5, 10,
         '{\"aggregate\": \"count(*)\", \"where\": \"event_type = ''error''\"}')",
    );
    psql(&dir, &uri, &schema, &format!("CREATE VIEW public.{schema}_away AS SELECT * FROM alert_rules"));
    let (relay, through) = Relay::new(&uri);
    let table = format!("{through}?table={schema}_away&connect=20s&timeout=20s");
    let (mut run, mut stdin) =
        piped(&dir, &["--rules", &table, "--refresh", "1s", "--state", "alerts.db", "--to", "out.jsonl"]);
    eventually("it has rules", || state::<i64>(&dir, "SELECT id FROM engine").is_some());
    relay.freeze();
    eventually("the rules are requested", || relay.holds());
    let start = Instant::now();
    // All events at once: the clock must not advance with wall time before the errors arrive.
    let errors = series(30.0, 40.0, 1.0, &json!({"event_type": "error"}));
    let burst = [series(0.0, 30.0, 1.0, &json!({})), errors, series(40.0, 60.0, 1.0, &json!({}))];
    stdin.write_all(lines(&burst).as_bytes()).expect("it reads");
    eventually("it fires", || firing(&dir).len() == 1);
    assert!(start.elapsed() < Duration::from_secs(15), "the timeouts are 20s: {:?}", start.elapsed());
    eventually("it says so", || said(&dir).contains("the rules stay as they are"));
    relay.thaw();
    eventually("it says that they are back", || said(&dir).contains("the rules can be read again after"));
    assert_eq!(said(&dir).matches("the rules stay as they are").count(), 1, "{}", said(&dir));
    drop(stdin);
    assert!(run.wait().expect("it ends").success());
    psql(&dir, &uri, &schema, &format!("DROP VIEW public.{schema}_away"));
}

#[test]
fn alerts_are_paged_while_an_output_does_not_answer() {
    let redis = redis().map(|(uri, ..)| uri);
    for uri in [redis, postgres().map(|(uri, ..)| uri)].into_iter().flatten() {
        let dir = Dir::new("alert-output-away");
        let (relay, through) = Relay::new(&uri);
        let receiver = Receiver::new(|_, _| Reply::Status(200));
        dir.write("channels.toml", webhook(&receiver, ""));
        let errors = |name: &str, event_type: &str| {
            let fields = json!({"name": name, "where": format!("event_type = '{event_type}'"), "threshold": 5,
                "window_seconds": 10, "notification_channel": "hook"});
            rule(&fields)
        };
        dir.write("rules.json", rules(&[errors("a", "error"), errors("b", "panic")]));
        let clock = at(60.0);
        let args = ["--rules", "rules.json", "--now", &clock, "--state", "alerts.db", "--notify", "channels.toml"];
        let (mut run, mut stdin) = piped(&dir, &[&args[..], &["--to", &through]].concat());
        eventually("it has begun", || state::<i64>(&dir, "SELECT id FROM engine").is_some());
        relay.freeze();
        let start = Instant::now();
        let burst = |from: f64, event_type: &str| {
            let views = series(from - 20.0, from + 20.0, 1.0, &json!({}));
            lines(&[views, series(from, from + 10.0, 1.0, &json!({"event_type": event_type}))])
        };
        stdin.write_all(burst(20.0, "error").as_bytes()).expect("it reads");
        eventually("it pages", || receiver.count() >= 1);
        assert!(start.elapsed() < Duration::from_secs(25), "{uri}: ?timeout= is 30s: {:?}", start.elapsed());
        eventually("it says so", || said(&dir).contains("the outputs have not confirmed rows for 5s"));
        stdin.write_all(burst(60.0, "panic").as_bytes()).expect("it reads");
        eventually("it pages the next alert", || receiver.count() >= 2);
        assert!(state::<i64>(&dir, "SELECT count(*) FROM unconfirmed").is_some_and(|rows| rows >= 2), "{}", said(&dir));
        assert_eq!(said(&dir).matches("have not confirmed").count(), 1, "{}", said(&dir));
        relay.thaw();
        eventually("it says that they are back", || said(&dir).contains("the outputs confirm rows again after"));
        eventually("the rows are confirmed", || state(&dir, "SELECT count(*) FROM unconfirmed") == Some(0_i64));
        drop(stdin);
        assert!(run.wait().expect("it ends").success(), "{}", said(&dir));
    }
}

#[test]
fn a_topic_of_dead_letters_is_continued_after_a_kill_and_its_offsets_are_committed() {
    let Some(bench) = Bench::new("alert-dead") else { return };
    let (dir, topic, group) = (&bench.dir, bench.topic("dead", 1, &[]), format!("{}-g", bench.prefix));
    let letters = |count: usize, seconds: f64| {
        // A file of which no record can be read is exit status 2.
        let good = json!({"source": "s", "event_type": "t", "server_timestamp": "2026-01-01T00:00:00Z"});
        dir.write("bad.jsonl", format!("{good}\n{}", "{\n".repeat(count)));
        let dlq = bench.uri(&topic, "");
        let args = ["-q", "bad.jsonl", "--now", &at(seconds), "--to", "null:", "--dlq", &dlq, "--report", "0"];
        dir.run("evt-ingest", &args).ends_with(0);
    };
    letters(1, 0.0);
    letters(20_000, 100.0);
    letters(1, 110.0);
    let counts = |name: &str, threshold: u32| {
        rule(&json!({"name": name, "input": "dead", "threshold": threshold, "window_seconds": 5}))
    };
    dir.write("rules.json", rules(&[counts("all", 19_999), counts("more", 20_000)]));
    let from = bench.uri(&topic, &format!("?group={group}&rdkafka.auto.commit.interval.ms=100"));
    let args = ["--rules", "rules.json", "--state", "alerts.db", &from];
    let position = || state::<i64>(dir, "SELECT next_offset FROM positions WHERE partition = '0'").unwrap_or(0);
    let mut rows = vec![];
    for kill in 0..6 {
        let before = position();
        let name = format!("out{kill}.jsonl");
        let (output, errors) = (File::create(dir.path(&name)), File::create(dir.path("said")));
        let mut command = dir.command("evt-alert", &args);
        command.stdin(Stdio::null()).stdout(output.expect("writable")).stderr(errors.expect("writable"));
        let mut run = command.spawn().expect("it starts");
        eventually("it reads on, or is at the end", || position() > before || position() == 20_002);
        if kill == 5 {
            eventually("it fires", || dir.bytes(&name).contains(&b'\n') || !rows.is_empty());
            let committed = || bench.committed(&group, &topic, 1)[0].0;
            eventually("the offsets are committed", || committed() == Some(20_002));
        }
        run.kill().and_then(|()| run.wait()).expect("it is ours");
        assert!(!said(dir).contains("commits nothing"), "{}", said(dir));
        rows.extend(dir.rows(&name));
    }
    let found: Vec<String> = transitions(&rows).into_iter().filter(|line| line.contains("firing")).collect();
    assert!(!found.is_empty() && found.iter().all(|line| line.starts_with("all firing")), "{found:?}");
    assert_eq!(rows[0]["value"], json!(20_000.0));
    // Nothing is read again, and what is new is read.
    letters(5, 120.0);
    let bounded = bench.uri(&topic, "?end=latest");
    let run = once(dir, &["--state", "alerts.db", "--stats", "stats.json", &bounded]);
    let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
    assert_eq!(stats["counts"]["in"], json!(5), "{run}");
    assert_eq!(position(), 20_007);
}

#[test]
fn an_emptied_file_is_a_new_file_and_its_old_content_is_known_under_another_name() {
    let dir = Dir::new("alert-rotated");
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    let read = |files: &[&str]| {
        let args = [&["--state", "alerts.db", "--stats", "stats.json"], files].concat();
        let run = once(&dir, &args).succeeds();
        let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
        (["in", "out", "duplicate"].map(|name| stats["counts"][name].as_u64().unwrap_or(9)), run.stderr())
    };
    dir.write("app.jsonl", lines(&[series(0.0, 300.0, 1.0, &json!({}))]));
    assert_eq!(read(&["app.jsonl"]).0, [300, 300, 0]);
    dir.shell("mv app.jsonl app.jsonl.1 && : > app.jsonl").succeeds();
    assert_eq!(read(&["app.jsonl"]).0, [0, 0, 0]);
    let (counts, stderr) = read(&["app.jsonl.1", "app.jsonl"]);
    assert_eq!(counts, [300, 0, 300]);
    assert!(stderr.contains("app.jsonl.1: the same content as app.jsonl"), "{stderr}");
    dir.write("app.jsonl", lines(&[series(300.0, 310.0, 1.0, &json!({}))]));
    assert_eq!(read(&["app.jsonl"]).0, [10, 10, 0]);
    assert_eq!(read(&["app.jsonl.1", "app.jsonl"]).0, [310, 0, 310]);
    // A CSV file begins with its header.
    let table = |rows: u32| {
        let row = |second: u32| format!("web,view,{}\n", at(400.0 + f64::from(second)));
        format!("source,event_type,server_timestamp\n{}", (0..rows).map(row).collect::<String>())
    };
    dir.write("app.csv", table(20));
    assert_eq!(read(&["app.csv"]).0[1], 20);
    dir.write("app.csv", table(0));
    assert_eq!(read(&["app.csv"]).0, [0, 0, 0]);
}

#[test]
fn the_same_content_twice_is_read_once() {
    let dir = Dir::new("alert-twice");
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 60}))]));
    let all = lines(&[series(0.0, 300.0, 1.0, &json!({}))]);
    dir.write("a.jsonl", &all);
    dir.write("half.jsonl", &all[..all.len() / 300 * 150]);
    dir.shell("gzip -k a.jsonl").succeeds();
    let args = ["--state", "alerts.db", "--stats", "stats.json", "a.jsonl", "a.jsonl.gz", "half.jsonl"];
    let run = once(&dir, &args).succeeds();
    let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
    assert_eq!(stats["counts"]["in"], json!(300), "{run}");
    for name in ["a.jsonl.gz", "half.jsonl"] {
        assert!(run.stderr().contains(&format!("{name}: the same content as a.jsonl, read once")), "{run}");
    }
}

#[test]
fn a_run_that_fails_has_read_no_file() {
    let dir = Dir::new("alert-unread");
    dir.write("rules.json", rules(&[rule(&json!({}))]));
    let line = "{\"source\": \"web\", \"event_type\": \"view\", \"n\": 1}\n";
    for count in [20, 10] {
        dir.write("in.jsonl", line.repeat(count));
        let run = once(&dir, &["--state", "alerts.db", "in.jsonl"]).ends_with(2);
        assert!(!run.stderr().contains("earlier run"), "{run}");
    }
}

#[test]
fn losses_are_reported_while_the_run_goes_on() {
    let dir = Dir::new("alert-losses");
    dir.write("rules.json", rules(&[rule(&json!({"by": ["user_id"], "window_seconds": 5}))]));
    let args = ["--rules", "rules.json", "--max-groups", "1", "--to", "out.jsonl", "--prometheus", "metrics.prom"];
    let (mut run, mut stdin) = piped(&dir, &args);
    let users = |user: &str| series(0.0, 30.0, 1.0, &json!({"user_id": user}));
    stdin.write_all(lines(&[users("a"), users("b")]).as_bytes()).expect("it reads");
    // The row of the last second begins to count when this second is evaluated, which may be before the report.
    let line = |rows| format!("so far {rows} rows of groups beyond --max-groups were left out");
    eventually("it says so", || [29, 30].iter().any(|rows| said(&dir).contains(&line(rows))));
    drop(stdin);
    assert!(run.wait().expect("it ends").success());
    let metrics = String::from_utf8(dir.bytes("metrics.prom")).expect("text");
    assert!(
        metrics.contains("evt_alert_rejected_rows_total 30") && metrics.contains("evt_firing_alerts 1"),
        "{metrics}"
    );
}

#[test]
fn a_partition_with_a_stuck_clock_does_not_silence_the_others() {
    let Some(bench) = Bench::new("alert-stuck") else { return };
    let (dir, topic) = (&bench.dir, bench.topic("t", 2, &[]));
    let fields = json!({"where": "event_type = 'error'", "window_seconds": 5, "by": ["partition"]});
    dir.write("rules.json", rules(&[rule(&fields)]));
    let from = bench.uri(&topic, "");
    let mut run = dir
        .command("evt-alert", &["-q", "--rules", "rules.json", "--to", "out.jsonl", &from])
        .spawn()
        .expect("it starts");
    let (producer, mut second) = (bench.producer(&[]), 0);
    eventually("the errors of partition 0 fire", || {
        // Both partitions get records all the time. The clock of partition 1 is stuck from second 10 on.
        let kind = if second > 20 { "error" } else { "view" };
        let live = event(f64::from(second), &json!({"event_type": kind}));
        let stuck = event(f64::from(second.min(10)), &json!({}));
        for record in [record(&topic, 0, live.trim_end()), record(&topic, 1, stuck.trim_end())] {
            producer.send(record).map_err(|(error, _)| error).expect("it is queued");
        }
        producer.flush(LONG_WAIT).expect("they are delivered");
        second += 1;
        std::fs::read_to_string(dir.path("out.jsonl")).is_ok_and(|rows| rows.contains("firing"))
    });
    run.kill().and_then(|()| run.wait()).expect("it runs");
    assert_eq!(dir.rows("out.jsonl")[0]["dimensions"], json!({"partition": "0"}));
}

#[test]
fn a_record_that_cannot_be_read_is_a_dead_letter_of_one_run_only() {
    let dir = Dir::new("alert-letters");
    let all = series(0.0, 40.0, 1.0, &json!({}));
    let good = |from: usize, to: usize| all[from..to].iter().map(|(_, line)| line.as_str()).collect::<String>();
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    let args = ["--state", "alerts.db", "--dlq", "dead.jsonl", "--strict", "in.jsonl"];
    let run = |status: i32, letters: usize| {
        let run = once(&dir, &args).ends_with(status);
        assert_eq!((run.stderr(), dir.rows("dead.jsonl").len()), (String::new(), letters));
    };
    dir.write("in.jsonl", good(0, 10) + "no JSON\n" + &good(10, 20));
    run(1, 1);
    run(0, 1);
    // A faulty record at the end of the file.
    dir.write("in.jsonl", good(0, 10) + "no JSON\n" + &good(10, 20) + "nor this\n");
    run(1, 2);
    run(0, 2);
    // The last line is still being written: it is not a faulty record, and the next run reads it. The line before it is
    // faulty.
    let (last, text) = (good(20, 21), good(0, 10) + "no JSON\n" + &good(10, 20) + "nor this\n");
    let text = text + "nor that\n";
    dir.write("in.jsonl", text.clone() + &last[..last.len() / 2]);
    run(1, 3);
    run(0, 3);
    dir.write("in.jsonl", text + &good(20, 40));
    once(&dir, &[&args[..], &["--stats", "stats.json"]].concat()).succeeds();
    assert_eq!(dir.rows("dead.jsonl").len(), 3);
    let counts = &dir.rows("stats.json")[0]["counts"];
    assert_eq!((&counts["out"], &counts["duplicate"], &counts["dead"]), (&json!(20), &json!(23), &json!(0)));
}

#[test]
fn rows_with_the_stamps_of_several_partitions_are_known_by_their_numbers() {
    let dir = Dir::new("alert-stamped");
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000}))]));
    for (name, from) in [("a", 0.0), ("b", 100.0)] {
        dir.write(&format!("{name}.jsonl"), lines(&[series(from, from + 10.0, 1.0, &json!({}))]));
        dir.shell(&format!("evt-ingest -q {name}.jsonl -o jsonl > {name}.rows")).succeeds();
    }
    let args = ["--state", "alerts.db", "--dlq", "dead.jsonl", "--stats", "stats.json", "in.jsonl"];
    let run = |counts: [u64; 3]| {
        once(&dir, &args).succeeds();
        let found = &dir.rows("stats.json")[0]["counts"];
        assert_eq!(["out", "duplicate", "dead"].map(|name| found[name].as_u64().expect("a count")), counts);
    };
    // The rows of the second partition have the same offsets; a faulty line has a number that is an offset of rows.
    dir.shell("cat a.rows > in.jsonl").succeeds();
    run([10, 0, 0]);
    dir.shell("(cat a.rows; echo no JSON) > in.jsonl").succeeds();
    run([0, 10, 1]);
    dir.shell("(cat a.rows; echo no JSON; cat b.rows; echo nor this) > in.jsonl").succeeds();
    run([10, 11, 1]);
    run([0, 22, 0]);
    assert_eq!(dir.rows("dead.jsonl").len(), 2);
}

#[test]
fn a_faulty_record_at_the_end_of_a_topic_is_a_dead_letter_of_one_run_only_and_a_new_state_begins_at_the_first_record() {
    let Some(bench) = Bench::new("alert-tail") else { return };
    let (dir, topic) = (&bench.dir, bench.topic("t", 2, &[]));
    let all = series(0.0, 40.0, 1.0, &json!({}));
    let values: Vec<&str> = all.iter().map(|(_, line)| line.trim_end()).chain(["no JSON"]).collect();
    bench.produce(values.iter().map(|value| record(&topic, 0, value)));
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 5, "window_seconds": 10}))]));
    let from = bench.uri(&topic, &format!("?end=latest&group={}-g", bench.prefix));
    for state in ["one.db", "two.db"] {
        for rows in [1, 0] {
            let run = once(dir, &["--state", state, "--dlq", &format!("{state}.jsonl"), &from]).ends_with(1);
            assert_eq!((run.rows().len(), dir.rows(&format!("{state}.jsonl")).len()), (rows, 1), "{state}: {run}");
        }
    }
}
