//! Lines of README and man pages that need servers and end: HTTP, Kafka, alerts, corrections, reconciliation.

use crate::broker::{Bench, judged, stopped};
use crate::docs::stage;
use crate::docs_files::of_cron;
use crate::documents::{Typed, blocks, typed};
use crate::edges::Edges;
use crate::harness::{Dir, LONG_WAIT, ROOT, eventually, eventually_within};
use crate::listener::Listener;
use crate::receivers::{Receiver, Reply};
use crate::servers::{postgres, redis};
use serde_json::Value;
use std::process::Stdio;
use std::time::SystemTime;

/// Events one second apart that end at this instant (microseconds since 1970), as lines.
fn events_until(end: i64, count: i64, kind: &str) -> String {
    let event = |number: i64| {
        let time = evt_core::time::format_instant(end - (count - number) * 1_000_000);
        format!("{{\"event_type\":\"{kind}\",\"source\":\"web\",\"server_timestamp\":\"{time}\",\"amount\":1.5}}\n")
    };
    (0..count).map(event).collect()
}

/// The wall time, with which the tools compare what they read.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later than 1970");
    i64::try_from(since.as_micros()).expect("it is before the year 294247")
}

/// The text of a document with the topics of a test.
fn on_topics(bench: &Bench, text: &str) -> String {
    let place = format!("kafka://{}/{}-", bench.brokers, bench.prefix);
    text.replace("kafka://localhost:9092/", &place).replace("kafka://$KAFKA/", &place)
}

/// Starts the HTTP server of a document on a free port.
fn server(dir: &Dir, command: &str, variables: &str) -> Listener {
    let command = command.trim_end_matches(" &").replace("http://127.0.0.1:8080", "http://127.0.0.1:0");
    Listener::of(&mut dir.command("bash", &["-c", &format!("{variables}\nexec {command}")])).listening()
}

#[test]
fn events_over_http_get_the_answer_that_the_readme_shows() {
    let Some(bench) = Bench::new("docs-http") else { return };
    let [block] = blocks("README.md", "Over HTTP").try_into().expect("one");
    let [listen, post] = typed(&block).try_into().ok().expect("two commands");
    let topic = bench.topic("events", 1, &[]);
    let listener = server(&bench.dir, &on_topics(&bench, &listen.command), "");
    let run = bench.dir.shell(&post.command.replace("127.0.0.1:8080", &listener.host)).succeeds();
    // The id is random, and shown in part.
    let without_id = |text: &str| text.split_once("\"event_ids\":[\"").expect("an id").0.to_owned();
    assert_eq!(without_id(&run.text()), without_id(post.output.trim()), "{run}");
    eventually("it is in the topic", || bench.committed_records(&topic).len() == 1);
    let stored = &bench.committed_records(&topic)[0];
    assert_eq!(stored["properties"], serde_json::json!({"amount": 9.9}), "{stored}");
    let answer: Value = serde_json::from_slice(run.stdout()).expect("JSON");
    assert_eq!(answer["event_ids"][0], stored["event_id"]);
    listener.stop();
}

#[test]
fn the_pipe_of_the_readme_through_kafka_fills_both_stores() {
    let (Some(edges), Some((postgres, ..)), Some((redis, ..))) = (Edges::new("docs-kafka"), postgres(), redis()) else {
        return;
    };
    let (bench, dir) = (&edges.bench, &edges.bench.dir);
    let [block] = blocks("README.md", "Through Kafka").try_into().expect("one");
    let [listen, pipe] = typed(&block).try_into().ok().expect("two commands");
    ["events", "events.dead", "events.invalid", "events.late"].iter().for_each(|name| _ = bench.topic(name, 1, &[]));
    dir.shell(&format!(
        "cp {ROOT}/examples/metrics.toml . && evt-gen -q --events 5k --rate 20 --seed 7 --late 1% --malformed 1% --invalid 1% \
         --start 2026-01-01T00:00:00Z > events.jsonl"
    ))
    .succeeds();
    // The subjects of the schemas are those of this test.
    let subjects = edges.register();
    let variables = format!("export REGISTRY='{}' REDIS='{redis}' POSTGRES='{postgres}'", edges.registry);
    let named =
        |text: &str| on_topics(bench, text).replace("--schemas \"$REGISTRY\"", &format!("--schemas '{subjects}'"));
    let listener = server(dir, &named(&listen.command), &variables);
    let mut accepted = 0;
    // Some lines are not UTF-8.
    let sent = dir.bytes("events.jsonl");
    for lines in sent.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>().chunks(500) {
        let answer = listener.post(&[("content-type", "application/x-ndjson")], &lines.concat());
        accepted += answer.json()["accepted"].as_u64().expect("a count");
    }
    let topic = |name: &str| bench.records(&format!("{}-{name}", bench.prefix)).len() as u64;
    // A run that is stopped leaves what a slow broker does not take to the next one.
    eventually_within(LONG_WAIT, "Kafka has all of it", || {
        topic("events") == accepted && topic("events.dead") + accepted == 5_000
    });
    listener.stop();
    assert!(accepted > 4_800, "{accepted}");
    dir.shell(&format!("{variables}\n{}", named(&pipe.command))).succeeds();
    let stored = |uri: &str| {
        let mut rows = dir.run("evt-view", &["-q", "-o", "jsonl", uri]).succeeds().rows();
        rows.sort_by_key(Value::to_string);
        rows
    };
    let found = stored(&format!("{postgres}&table=aggregated_metrics"));
    assert!(found.len() > 500, "{}", found.len());
    assert_eq!(found, stored(&redis));
    assert_eq!(topic("events"), accepted);
    assert_eq!(topic("events.dead") + accepted, 5_000);
    assert!(topic("events.invalid") > 10 && topic("events.late") > 10);
    // An event counts in the metric of all event types unless it is invalid, a duplicate or late.
    let counted =
        found.iter().filter(|row| row["metric_name"] == "events").map(|row| row["rows"].as_u64().expect("a count"));
    let counted = counted.sum::<u64>() + topic("events.invalid") + topic("events.late");
    assert!(counted >= accepted, "{counted} {accepted}");
}

#[test]
fn the_readme_s_alerts_proofs_and_repairs_work() {
    let Some(bench) = Bench::new("docs-alerts") else { return };
    let [block] = blocks("README.md", "Alerts, proof and repair").try_into().expect("one");
    let [live, once, reconcile, correct, replay] = typed(&block).try_into().ok().expect("five commands");
    alerts(&bench, &live, &once);
    let dir = Dir::new("docs-proof");
    dir.shell(&format!(
        "cp -r {ROOT}/examples/metrics.toml . \
         && evt-gen -q --events 20k --rate 1 --seed 4 --malformed 1% --start 2026-01-01T01:00:00Z > events.jsonl \
         && evt-ingest -q events.jsonl --dlq dead.jsonl --to sqlite:metrics.db --to parquet:lake/raw \
         && sed 's/sum(amount)/max(amount)/' metrics.toml > wrong.toml \
         && evt-window -q parquet:lake/raw -m wrong.toml --late null: --to sqlite:metrics.db"
    ))
    .succeeds();
    let run = dir.shell(&reconcile.command).succeeds();
    assert!(run.stderr().contains("all 20000 records are accounted for"), "{run}");
    let shown = dir.shell(&correct.command).ends_with(1).text();
    assert!(shown.contains("revenue") && !shown.contains("visitors"), "{shown}");
    // Letters whose amounts are text, and one that nothing repairs.
    let schema = r#"{"type":"record","name":"view","fields":[{"name":"amount","type":"double"}]}"#;
    dir.write("schemas/view/1.avsc", schema);
    let events = events_until(1_767_225_600_000_000, 20, "view").replace(":1.5}", ":\"1.5\"}");
    dir.write("texts.jsonl", events.replacen("\"1.5\"", "\"n/a\"", 1));
    dir.shell("rm dead.jsonl; evt-validate -q texts.jsonl --schemas schemas --dlq dead.jsonl --to null:").succeeds();
    for _ in 0..2 {
        dir.shell(&replay.command).ends_with(1);
        assert_eq!(dir.rows("replayed.jsonl").len(), 19, "each letter is replayed once");
    }
}

/// The lines of evt-alert: a live one that notifies, and one of a job.
fn alerts(bench: &Bench, live: &Typed, once: &Typed) {
    let (dir, topic) = (&bench.dir, bench.topic("raw", 1, &[]));
    let rule = &blocks("man/evt-rules.5", "DESCRIPTION")[0];
    dir.write("rules.toml", format!("{rule}notification_channel = 'oncall'\n"));
    let receiver = Receiver::new(|_, _| Reply::Status(200));
    let channel = format!("[[channel]]\nname = 'oncall'\ntype = 'webhook'\nurl = '{}/hook'\n", receiver.base);
    dir.write("channels.toml", channel);
    let end = now();
    let lines = events_until(end - 200_000_000, 600, "view") + &events_until(end, 200, "error");
    dir.write("yesterday.jsonl", &lines);
    let job = format!("gzip -k yesterday.jsonl\n{}", once.command.replace("alerts.db", "job.db"));
    let run = dir.shell(&job).ends_with(1);
    assert!(run.rows().iter().any(|row| row["rule"] == "error_share" && row["state"] == "firing"), "{run}");
    bench.produce(lines.lines().map(|line| crate::kafka::record(&topic, 0, line)));
    let line = format!("exec {}", on_topics(bench, &live.command));
    let mut command = dir.command("bash", &["-c", &line]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    eventually("the page arrives", || receiver.count() > 0);
    let (status, said) = stopped(child);
    assert_eq!(status, 143, "{said}");
}

#[test]
fn corrections_reach_redis_and_the_nightly_line_is_silent() {
    let (Some((postgres, ..)), Some((redis, ..))) = (postgres(), redis()) else { return };
    let [hot, nightly] = blocks("man/about/evt-backfill", "").try_into().expect("two");
    let dir = Dir::new("docs-corrections");
    let nightly =
        of_cron(nightly.trim()).replace("/etc/", "etc/").replace(":/var/", ":var/").replace(" /var/", " var/");
    let nightly = nightly.replace("postgres://evt@localhost/evt", &postgres);
    let live = |store: &str| {
        format!(
            "evt-window -q parquet:var/lib/evt/raw -m etc/evt/metrics.toml --out-of-orderness 30s --late var/lib/evt/late.jsonl --to '{store}'"
        )
    };
    dir.write("etc/evt/metrics.toml", "[[metric]]\nname = \"events\"\nsize = \"1m\"\n");
    dir.shell(
        "evt-gen -q --events 3k --rate 5 --seed 7 --late 1% | evt-ingest -q --origin in --to parquet:var/lib/evt/raw",
    )
    .succeeds();
    dir.shell(&live(&postgres)).succeeds();
    let run = dir.shell(&nightly).succeeds();
    assert_eq!((run.text(), run.stderr()), (String::new(), String::new()));
    // The same into SQLite, whose corrections the other line writes to Redis.
    dir.shell(&format!("rm var/lib/evt/late.jsonl; {}", live("sqlite:metrics.db"))).succeeds();
    dir.shell(&nightly.replace(&postgres, "sqlite:metrics.db")).succeeds();
    dir.shell(&hot.replace("redis://localhost/0", &format!("'{redis}'"))).succeeds();
    let rows = |uri: &str| {
        let mut rows = dir.run("evt-view", &["-q", "-o", "jsonl", "--where", "revision > 0", uri]).succeeds().rows();
        rows.sort_by_key(Value::to_string);
        rows
    };
    let corrected = rows("sqlite:metrics.db?table=aggregated_metrics");
    assert!(!corrected.is_empty());
    assert_eq!(rows(&redis), corrected);
    assert_eq!(rows(&format!("{postgres}&table=aggregated_metrics")), corrected);
}

#[test]
fn the_crontab_of_evt_reconcile_is_silent_if_all_is_well() {
    let (Some(bench), Some((postgres, ..))) = (Bench::new("docs-cron"), postgres()) else { return };
    let [crontab] = blocks("man/about/evt-reconcile", "CRON").try_into().expect("one");
    let (dir, end) = (&bench.dir, now());
    ["events", "events.dlq"].iter().for_each(|name| _ = bench.topic(name, 1, &[]));
    let day = 86_400_000_000;
    let lines = events_until(end - day, 600, "view") + "broken\n" + &events_until(end, 3_600, "view");
    bench.produce(lines.lines().map(|line| {
        let topic = format!("{}-events", bench.prefix);
        rdkafka::producer::BaseRecord::to(Box::leak(topic.into_boxed_str())).payload(line.as_bytes())
    }));
    dir.write("metrics.toml", "[[metric]]\nname = \"events_per_minute\"\nsize = \"1m\"\n");
    let topic = |options: &str| on_topics(&bench, &format!("kafka://localhost:9092/{options}"));
    let (archive, all, dlq) =
        (topic("events?group=archive&end=latest"), topic("events?end=latest"), topic("events.dlq"));
    // A lake cannot confirm rows, so its group would commit nothing.
    dir.shell(&format!(
        "mkdir -p var/lib/node_exporter && evt-sink -q '{archive}' --dlq '{dlq}' --to '{postgres}' \
         && evt-sink -q '{all}' --dlq null: --to parquet:lake/raw && evt-window -q parquet:lake/raw -m metrics.toml --to '{postgres}'"
    ))
    .succeeds();
    let lines: Vec<&str> = crontab.lines().collect();
    assert_eq!(lines.len(), 6);
    for line in lines {
        let command = on_topics(&bench, &of_cron(line)).replace("/var/", "var/");
        let command = command.replace("postgres://evt@localhost/evt?", &format!("{postgres}&"));
        // A run reports a broker that does not answer for some seconds.
        let run = judged(|_| {
            let run = dir.shell(&command).succeeds();
            (!run.stderr().contains("retrying")).then_some(run)
        });
        assert_eq!((run.text(), run.stderr()), (String::new(), String::new()), "{line}");
    }
    let metrics = String::from_utf8(dir.bytes("var/lib/node_exporter/lag.prom")).expect("text");
    assert!(metrics.contains("group=\"archive\""), "{metrics}");
}

#[test]
fn letters_repaired_by_a_program_are_replayed_to_a_topic_once() {
    let Some(bench) = Bench::new("docs-repair") else { return };
    let lines = blocks("man/evt.7", "REPAIR AND REPLAY");
    let line = lines.iter().find(|line| line.contains("kafka:")).expect("a line");
    let (dir, topic) = (stage(false), bench.topic("events", 1, &[]));
    let repaired = dir.shell("evt-view -q dead.jsonl -o jsonl | grep -c '\"yesterday'").text();
    let repaired: usize = repaired.trim().parse().expect("a count");
    assert!(repaired > 0);
    for _ in 0..2 {
        // Letters of other faults stay faulty.
        dir.shell(&on_topics(&bench, line)).ends_with(1);
        // The broker shows the records of a transaction some time after it has acknowledged the commit.
        let mut replayed = 0;
        eventually("the replayed letters are visible", || {
            replayed = bench.committed_records(&topic).len();
            replayed > 0
        });
        assert!(replayed <= repaired, "{replayed} of {repaired}");
    }
    let replayed = bench.committed_records(&topic);
    assert!(replayed.iter().all(|row| row.to_string().contains("2026-01-01T00:00:00")), "{replayed:?}");
}
