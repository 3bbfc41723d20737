//! Metrics for Prometheus: the served names, those of the table and those of evt(7) are the same.

use crate::broker::Bench;
use crate::harness::{self, Dir, ROOT, eventually, row_tools};
use crate::kafka::record;
use crate::listener::{Listener, event, read};
use crate::services::{EVENT, Running};
use evt_run::metrics::{self, Definition, Shape};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

/// The status line and the body of an answer.
fn ask(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers and closes");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer}"));
    (head.to_owned(), body.to_owned())
}

fn scrape(address: &str) -> String {
    let (head, body) = ask(address, "GET /metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    body
}

/// Samples: name → labels, as written.
fn samples(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut samples: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (sample, value) = line.rsplit_once(' ').expect("a sample has a value");
        value.parse::<f64>().unwrap_or_else(|_| panic!("no number: {line}"));
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        samples.entry(name.to_owned()).or_default().push(labels.trim_end_matches('}').to_owned());
    }
    samples
}

fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in\n{text}")).parse().expect("a number")
}

/// The names of a metric's samples.
fn sampled(definition: &Definition) -> Vec<String> {
    match definition.shape {
        Shape::Counter | Shape::Gauge => vec![definition.name.to_owned()],
        Shape::Histogram => ["sum", "count", "bucket"].map(|part| format!("{}_{part}", definition.name)).into(),
    }
}

/// Compares the served metrics with a table: names, types, labels. Adds metrics with samples to `seen`.
fn compare(text: &str, table: &[&'static Definition], seen: &mut BTreeSet<&'static str>) {
    let label = regex::Regex::new(r#"(\w+)="(?:[^"\\]|\\.)*""#).expect("a pattern");
    let samples = samples(text);
    let known: BTreeSet<String> = table.iter().flat_map(|definition| sampled(definition)).collect();
    for name in samples.keys() {
        assert!(known.contains(name), "{name} is in no table");
    }
    let typed = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(typed, table.len(), "{text}");
    for definition in table {
        let line = format!("# TYPE {} {}", definition.name, definition.shape.name());
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        let line = format!("# HELP {} {}", definition.name, definition.about);
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        // A bucket has its bound as a further label.
        for found in sampled(definition).iter().take(2).filter_map(|name| samples.get(name)).flatten() {
            let names: Vec<&str> =
                label.captures_iter(found).filter_map(|found| Some(found.get(1)?.as_str())).collect();
            assert_eq!(names, definition.labels, "{}", definition.name);
            seen.insert(definition.name);
        }
    }
}

/// Runs promtool with a file as standard input; returns what it prints.
fn promtool(args: &[&str], input: &Path) -> Option<String> {
    let mut command = Command::new(harness::promtool()?);
    let input = std::fs::File::open(input).expect("a file");
    let output = command.args(args).stdin(input).output().expect("promtool runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    Some(text)
}

#[test]
fn the_rules_for_prometheus_are_valid_and_name_metrics_that_exist() {
    let path = Path::new(ROOT).join("examples/alerts/prometheus.yml");
    if let Some(text) = promtool(&["check", "rules", &path.display().to_string()], &path) {
        assert!(text.contains("5 rules found"), "{text}");
    }
    let rules = std::fs::read_to_string(&path).expect("a file");
    let name = regex::Regex::new(r"\bevt_[a-z_]+").expect("a pattern");
    let used: BTreeSet<&str> = name.find_iter(&rules).map(|found| found.as_str()).collect();
    let mut known: BTreeSet<String> = metrics::all().flat_map(sampled).collect();
    // What evt-reconcile writes for the collector of text files.
    let dir = Dir::new("scrape-age");
    dir.shell("evt-gen --events 9 --seed 1 -q | evt-ingest -q --to a.db").succeeds();
    let text = dir.shell("evt-reconcile --freshness a.db -o prometheus").succeeds().text();
    let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    known.extend(typed.map(str::to_owned));
    assert_eq!(used.len(), 5, "{used:?}");
    assert!(used.iter().all(|name| known.contains(*name)), "{used:?}");
}

#[test]
fn a_run_that_waits_for_its_output_shows_its_metrics() {
    let dir = Dir::new("scrape-away");
    let away = "kafka://127.0.0.1:1/t";
    let args = ["-f", "jsonl", "--to", away, "--prometheus", "127.0.0.1:0"];
    let mut running = Running::new(&mut dir.command("evt-ingest", &args));
    let address = running.address();
    eventually("the output is away", || scrape(&address).contains("evt_output_up{"));
    let text = scrape(&address);
    for sample in [
        "evt_events_total{stage=\"evt-ingest\",outcome=\"in\"}".to_owned(),
        "evt_backpressure_seconds_total{side=\"output\"}".to_owned(),
        format!("evt_sink_rows_total{{output=\"{away}\",outcome=\"written\"}}"),
        format!("evt_output_up{{output=\"{away}\"}}"),
    ] {
        assert_eq!(value(&text, &sample), 0.0, "{sample}");
    }
    running.child.kill().expect("it still waits");
    running.child.wait().expect("it ends");
}

#[test]
fn every_tool_serves_the_metrics_of_the_table_and_no_others() {
    let dir = Dir::new("scrape");
    let mut seen = BTreeSet::new();
    let more: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("evt-window", &["--size", "1m", "--dlq", "dead.jsonl"][..]),
        ("evt-sink", &["--to", "sqlite:x.db"][..]),
    ]);
    for tool in row_tools() {
        let mut args = vec!["-f", "jsonl", "--prometheus", "127.0.0.1:0"];
        args.extend(more.get(tool).copied().unwrap_or_default());
        let mut running = Running::new(&mut dir.command(tool, &args));
        let address = running.address();
        running.give(format!("{EVENT}\nno JSON\n{EVENT}\n").as_bytes());
        let taken = format!("evt_events_total{{stage=\"{tool}\",outcome=\"in\"}}");
        // A run sets its metrics one after the other: evt-window sets the lag of the watermark as the last one.
        let last = if tool == "evt-window" { "evt_watermark_lag_seconds" } else { "evt_dead_letters_total" };
        eventually("three records are counted", || {
            let text = scrape(&address);
            let samples = samples(&text);
            let are_set =
                ["evt_events_total", "evt_dead_letters_total", last].iter().all(|name| samples.contains_key(*name));
            are_set && value(&text, &taken) == 3.0
        });
        // When the count appears, the next wait for input has begun; its time is counted when it ends.
        let text = scrape(&address);
        compare(&text, &metrics::STAGE, &mut seen);
        assert_eq!(value(&text, "evt_dead_letters_total{error_type=\"ParseError\"}"), 1.0);
        let (head, body) = ask(&address, "GET /");
        assert!(head.starts_with("HTTP/1.1 404") && body == "expected /metrics\n", "{head}\n{body}");
        let (head, body) = ask(&address, "POST /metrics");
        assert!(head.starts_with("HTTP/1.1 405") && head.contains("\nallow: GET, HEAD"), "{head}");
        assert_eq!(body, "expected GET, HEAD\n");
        let (head, body) = ask(&address, "HEAD /metrics");
        assert!(head.starts_with("HTTP/1.1 200") && body.is_empty(), "{head}\n{body}");
        let wanted = if tool == "evt-window" { 0 } else { 1 };
        assert_eq!(running.end(), wanted, "{tool}: a record was dropped");
    }
    // Metrics of topics only.
    match Bench::new("scrape-topic") {
        Some(bench) => scrape_topic(&bench, &mut seen),
        None => seen.extend(["evt_consumer_lag_records", "evt_consumer_lag_seconds", "evt_output_up"]),
    }
    scrape_listener(&mut seen);
    // Metrics of rules: alert_faults.rs.
    seen.extend(["evt_firing_alerts", "evt_alert_rejected_rows_total", "evt_alert_notifications"]);
    // Of windows without a value: alert_sparse.rs.
    seen.insert("evt_alert_interruptions_total");
    // Metrics of runs with a checkpoint: checkpoint.rs.
    seen.extend([
        "evt_checkpoint_duration_seconds",
        "evt_checkpoint_epoch",
        "evt_checkpoint_bytes",
        "evt_recovery_seconds",
    ]);
    for definition in metrics::all() {
        assert!(seen.contains(definition.name), "no tool has {}", definition.name);
    }
}

/// An HTTP server also exposes its own metrics and the size of its spool.
fn scrape_listener(seen: &mut BTreeSet<&'static str>) {
    let dir = Dir::new("scrape-listener");
    let listener = Listener::open(&dir, &["--spool", "spool", "--to", "out.jsonl", "--head-timeout", "200ms"]);
    let mut slow = listener.connect();
    slow.write_all(b"GET ").expect("it listens");
    assert!(read(&mut slow).is_none(), "a head that does not end is not a request");
    let metrics = || listener.get("/metrics").body;
    let empty = value(&metrics(), "evt_spool_bytes");
    assert_eq!(listener.json(&event(1, "s")).status, 200);
    let taken = "evt_events_total{stage=\"evt-ingest\",outcome=\"in\"} 1.0";
    eventually("the event is counted", || metrics().lines().any(|line| line == taken));
    let text = metrics();
    let table: Vec<&Definition> = metrics::all().collect();
    compare(&text, &table, seen);
    let segments = std::fs::read_dir(dir.path("spool")).expect("it is there").map(|entry| entry.expect("readable"));
    let segments = segments.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"));
    let bytes: u64 = segments.map(|entry| entry.metadata().expect("it is there").len()).sum();
    assert_eq!(value(&text, "evt_spool_bytes"), bytes as f64);
    assert!(bytes as f64 > empty, "{empty}");
    assert_eq!(value(&text, "evt_http_refused_connections_total{reason=\"slow_head\"}"), 1.0);
    assert!(value(&text, "evt_http_request_seconds_count") >= 3.0, "{text}");
    listener.stop();
}

/// The lag of a run, while it reads and once it has read all records.
fn scrape_topic(bench: &Bench, seen: &mut BTreeSet<&'static str>) {
    let topic = bench.topic("t", 2, &[]);
    let from = bench.uri(&topic, "?rdkafka.statistics.interval.ms=100");
    let to = bench.uri(&bench.topic("out", 1, &[]), "");
    let args = [from.as_str(), "--to", &to, "--prometheus", "127.0.0.1:0"];
    let mut running = Running::new(&mut bench.dir.command("evt-ingest", &args));
    let address = running.address();
    bench.produce((0..2).map(|partition| record(&topic, partition, EVENT)));
    for metric in ["records", "seconds"] {
        let all_read = format!("evt_consumer_lag_{metric}{{topic=\"{topic}\",partition=\"1\"}} 0.0");
        eventually("nothing is left to read", || scrape(&address).lines().any(|line| line == all_read));
    }
    compare(&scrape(&address), &metrics::STAGE, seen);
    let pid = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert_eq!(running.end(), 143);
}

#[test]
fn the_file_of_metrics_is_whole_and_obeys_the_law_of_counts_at_the_end() {
    let dir = Dir::new("textfile");
    let shown = dir.shell(
        "evt-gen --events 20k --seed 7 --late 1% --malformed 1% --prometheus gen.prom \
         | evt-ingest -q --dlq dead.jsonl --prometheus ingest.prom \
         | evt-window -q --size 10s --late null: --prometheus window.prom | evt-sink -q --to sqlite:m.db --prometheus sink.prom",
    );
    shown.succeeds();
    for (file, tool) in [("ingest.prom", "evt-ingest"), ("window.prom", "evt-window"), ("sink.prom", "evt-sink")] {
        let text = String::from_utf8(dir.bytes(file)).expect("text");
        compare(&text, &metrics::STAGE, &mut BTreeSet::new());
        let of = |outcome| value(&text, &format!("evt_events_total{{stage=\"{tool}\",outcome=\"{outcome}\"}}"));
        let outcomes = ["out", "dead", "dropped", "duplicate", "late", "filtered"].map(of);
        assert!(of("in") > 0.0 && of("in") == outcomes.iter().sum::<f64>(), "{text}");
    }
    let text = String::from_utf8(dir.bytes("sink.prom")).expect("text");
    let of = |outcome| value(&text, &format!("evt_sink_rows_total{{output=\"sqlite:m.db\",outcome=\"{outcome}\"}}"));
    let outcomes = ["inserted", "updated", "unchanged", "deleted", "stale", "conflict"].map(of);
    assert_eq!(of("in"), outcomes.iter().sum::<f64>());
    assert!(dir.bytes("gen.prom").len() > 100);
    assert!(!dir.path("sink.prom.part").exists());
    dir.run("evt-view", &["m.db", "--prometheus", "no/such/dir.prom"]).ends_with(74);
    dir.write("e.jsonl", EVENT);
    dir.run("evt-ingest", &["e.jsonl", "--to", "x.jsonl", "--prometheus", "x.jsonl"]).ends_with(2);
}

/// The end of the input fires all windows, so no state is left.
#[test]
fn the_file_of_metrics_had_open_windows_at_the_end_although_all_had_fired() {
    let dir = Dir::new("textfile-end");
    dir.write("e.jsonl", [EVENT, "\n"].concat());
    dir.run("evt-window", &["-q", "e.jsonl", "--size", "1m", "--out-of-orderness", "30s", "--prometheus", "end.prom"])
        .succeeds();
    let text = String::from_utf8(dir.bytes("end.prom")).expect("text");
    for sample in ["evt_open_windows", "evt_state_keys"] {
        assert_eq!(value(&text, sample), 0.0, "{sample}");
    }
    // The lag is that of the last instant before the end.
    assert!(value(&text, "evt_watermark_lag_seconds") > 0.0, "{text}");
}

#[test]
fn a_slow_or_silent_scraper_does_not_hold_up_others_or_the_run() {
    let dir = Dir::new("slow-scraper");
    let mut running = Running::new(&mut dir.command("evt-ingest", &["-f", "jsonl", "--prometheus", "127.0.0.1:0"]));
    let address = running.address();
    let silent: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(&address).expect("it listens")).collect();
    compare(&scrape(&address), &metrics::STAGE, &mut BTreeSet::new());
    running.give(EVENT.as_bytes());
    assert_eq!(running.end(), 0);
    drop(silent);
}

/// Silent connections would be closed after their time anyway: those that are still open show that the scraper did not
/// wait for that.
#[test]
fn silent_connections_keep_no_scraper_out() {
    let dir = Dir::new("silent-scrapers");
    let mut running = Running::new(&mut dir.command("evt-ingest", &["-f", "jsonl", "--prometheus", "127.0.0.1:0"]));
    let address = running.address();
    for sent in ["", "GET /metrics HTTP/1.1\r\nHo"] {
        eventually("a scrape is answered while silent connections are open", || {
            let connect = || {
                let mut stream = TcpStream::connect(&address).expect("it listens");
                stream.write_all(sent.as_bytes()).expect("it is open");
                stream.set_nonblocking(true).expect("a socket");
                stream
            };
            let mut silent: Vec<TcpStream> = (0..200).map(|_| connect()).collect();
            compare(&scrape(&address), &metrics::STAGE, &mut BTreeSet::new());
            let is_open = |stream: &mut TcpStream| matches!(stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
            silent.iter_mut().map(is_open).filter(|is_open| *is_open).count() > 32
        });
    }
    running.give(EVENT.as_bytes());
    assert_eq!(running.end(), 0);
}

#[test]
fn the_page_of_words_lists_every_metric() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("man/evt.7")).expect("it is there");
    let text = text.replace("\\-", "-");
    for definition in metrics::all() {
        let labels =
            if definition.labels.is_empty() { String::new() } else { format!("{{{}}}", definition.labels.join(",")) };
        let entry = format!(".TP\n.B {}{labels}\n{}: {}\n", definition.name, definition.shape.name(), definition.about);
        assert!(text.contains(&entry), "evt(7) has no:\n{entry}");
    }
    let page: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix(".B ")).collect();
    let named = page.iter().filter(|line| line.starts_with("evt_") || line.starts_with("process_"));
    assert_eq!(named.count(), metrics::all().count(), "evt(7) lists what is not there");
}

/// A reader that has opened the former file still finds all of it, so the run put another file in its place.
#[test]
fn a_reader_of_stats_finds_the_former_file_or_all_of_the_new_one() {
    let dir = Dir::new("stats-whole");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    dir.write(
        "rules.toml",
        "[[rule]]\nname = \"r\"\naggregate = \"count(*)\"\ncondition = \"gt\"\nthreshold = 5\nwindow_seconds = 60\n",
    );
    let former = "former\n".repeat(1_000);
    let lines = [
        "evt-ingest -q in.jsonl --to events.frames --overwrite",
        "evt-reconcile -q in.jsonl in.jsonl --to null:",
        "evt-alert -q --rules rules.toml --to null: in.jsonl",
        "evt-schema list -q --schemas schemas",
    ];
    std::fs::create_dir(dir.path("schemas")).expect("a directory");
    for line in lines {
        dir.write("stats.json", &former);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        std::fs::set_permissions(dir.path("stats.json"), mode).expect("set");
        let mut reader = std::fs::File::open(dir.path("stats.json")).expect("a file");
        dir.shell(&format!("ln -sf stats.json link; {line} --stats link")).succeeds();
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, former, "{line}");
        let stats: serde_json::Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
        assert_eq!(stats["verdict"], 0, "{line}: {stats}");
        let found = dir.shell("stat -c %a stats.json; ls stats.json.part link.part; readlink link").text();
        assert_eq!(found, "640\nstats.json\n", "{line}");
        // What is not a file is written itself; standard output may be a file of several programs.
        for whole in
            [format!("{line} --stats /dev/stdout | cat"), format!("(echo; {line} --stats /dev/stdout) > out; cat out")]
        {
            let told = dir.shell(&whole).succeeds().text();
            let stats = told.lines().rfind(|line| line.starts_with('{')).unwrap_or_default();
            assert!(stats.contains("\"verdict\":0"), "{whole}: {told}");
            assert_eq!(told.starts_with('\n'), whole.starts_with('('), "{whole}: {told}");
        }
    }
}
