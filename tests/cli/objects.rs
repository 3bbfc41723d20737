//! Objects of a bucket as inputs: they are read as files are.

use crate::bucket::{CheckpointLocation, Fault, Proxy};
use crate::harness::{Dir, Run};
use crate::servers::server;
use evt_run::storage::Objects;
use serde_json::Value;
use std::fmt::Write;

/// A prefix of a bucket, and objects in it.
pub struct Prefix {
    pub dir: Dir,
    pub place: CheckpointLocation,
}

impl Prefix {
    /// An empty prefix; `None`, with one message, if there is no server.
    pub fn new(name: &str) -> Option<Self> {
        let dir = Dir::new(name);
        let place = CheckpointLocation::bucket(&dir)?;
        Some(Self { dir, place })
    }

    /// Writes a file of the test to an object of its name.
    fn put(&self, name: &str) {
        self.place.client(&self.dir).put(name, &self.dir.bytes(name)).expect("written");
    }

    /// Returns the URI of objects below the prefix.
    pub fn uri(&self, names: &str) -> String {
        let (path, options) = self.place.name.split_once('?').expect("options");
        format!("{path}/{names}?{options}")
    }

    pub fn run(&self, tool: &str, args: &[&str]) -> Run {
        self.dir.run(tool, args)
    }

    /// Returns the numbers of the events of an output, in its order.
    pub fn numbers(&self, file: &str) -> Vec<i64> {
        let number = |row: &Value| row["properties"]["n"].as_i64().expect("a number");
        self.dir.rows(file).iter().map(number).collect()
    }
}

pub fn events(numbers: std::ops::Range<i64>) -> String {
    let mut text = String::new();
    for n in numbers {
        let (hour, minute, second) = (n / 3600 % 24, n / 60 % 60, n % 60);
        let time = format!("2026-01-01T{hour:02}:{minute:02}:{second:02}Z");
        writeln!(text, "{{\"event_type\":\"t\",\"event_time\":\"{time}\",\"n\":{n}}}").expect("text");
    }
    text
}

#[test]
fn objects_of_every_container_are_read_like_files_in_the_order_of_their_names() {
    let Some(prefix) = Prefix::new("objects-formats") else { return };
    let dir = &prefix.dir;
    std::fs::create_dir(dir.path("in")).expect("a directory");
    dir.write("in/a.jsonl", events(0..100));
    for (name, numbers) in [("b", 100..200), ("c", 200..300), ("d", 300..400), ("e", 400..30_000)] {
        dir.write(&format!("{name}.jsonl"), events(numbers));
    }
    dir.shell("gzip < b.jsonl > in/b.jsonl.gz; zstd -q < e.jsonl > in/e.jsonl.zst").succeeds();
    dir.run("evt-ingest", &["-q", "c.jsonl", "--to", "in/c.parquet"]).succeeds();
    dir.run("evt-ingest", &["-q", "d.jsonl", "--to", "in/d.avro"]).succeeds();
    let names = ["in/a.jsonl", "in/b.jsonl.gz", "in/c.parquet", "in/d.avro", "in/e.jsonl.zst"];
    names.iter().for_each(|name| prefix.put(name));
    prefix.run("evt-ingest", &["-q", &prefix.uri("in/"), "--to", "all.jsonl"]).succeeds();
    assert_eq!(prefix.numbers("all.jsonl"), Vec::from_iter(0..30_000));
    let origins: Vec<Value> = dir.rows("all.jsonl").iter().map(|row| row["origin"].clone()).collect();
    assert!(origins[150].as_str().is_some_and(|origin| origin.ends_with("/in/b.jsonl")), "{}", origins[150]);
    prefix.run("evt-ingest", &["-q", &prefix.uri("in/*.jsonl*"), "--to", "some.jsonl"]).succeeds();
    assert_eq!(prefix.numbers("some.jsonl"), Vec::from_iter((0..200).chain(400..30_000)));
    prefix
        .run("evt-ingest", &["-q", &prefix.uri("in/d.avro"), &prefix.uri("in/a.jsonl"), "--to", "two.jsonl"])
        .succeeds();
    assert_eq!(prefix.numbers("two.jsonl"), Vec::from_iter((300..400).chain(0..100)));
    let shown = prefix.run("evt-view", &[&prefix.uri("in/c.parquet"), "--head", "1", "-o", "jsonl"]).succeeds();
    assert_eq!(shown.rows()[0]["properties"]["n"], 200);
    let windows = ["-q", "--size", "1h", "--agg", "count(*)", "--at-end", "fire", "-o", "jsonl"];
    let local: Vec<String> = names.iter().map(|name| dir.path(name).display().to_string()).collect();
    let local = dir.run("evt-window", &[&windows[..], &local.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    let remote = dir.run("evt-window", &[&windows[..], &[&prefix.uri("in/")]].concat());
    assert_eq!(remote.succeeds().text(), local.succeeds().text());
}

#[test]
fn a_checkpoint_has_the_objects_that_were_read_and_later_runs_read_new_and_replaced_ones() {
    let Some(prefix) = Prefix::new("objects-checkpoint") else { return };
    let dir = &prefix.dir;
    std::fs::create_dir(dir.path("in")).expect("a directory");
    dir.write("in/a.jsonl", events(0..100));
    dir.write("in/b.jsonl", events(100..200));
    prefix.put("in/a.jsonl");
    prefix.put("in/b.jsonl");
    let uri = prefix.uri("in/");
    let ingest = |file: &str| {
        let args = ["--checkpoint", "state", &uri, "--to", "sqlite:e.db"];
        let said = prefix.run("evt-ingest", &args).succeeds().stderr();
        prefix.run("evt-view", &["-q", "sqlite:e.db?table=raw_events", "-o", "jsonl", "--to", file]).succeeds();
        let mut numbers = prefix.numbers(file);
        numbers.sort_unstable();
        (said, numbers)
    };
    let (said, numbers) = ingest("1.jsonl");
    assert!(said.contains("in 200 "), "{said}");
    assert_eq!(numbers, Vec::from_iter(0..200));
    let (said, _) = ingest("2.jsonl");
    assert!(said.contains("in 0 "), "{said}");
    dir.write("in/c.jsonl", events(200..250));
    prefix.put("in/c.jsonl");
    let (said, numbers) = ingest("3.jsonl");
    assert!(said.contains("in 50 "), "{said}");
    assert_eq!(numbers, Vec::from_iter(0..250));
    // Another object has the name.
    dir.write("in/a.jsonl", events(250..300));
    prefix.put("in/a.jsonl");
    let (said, numbers) = ingest("4.jsonl");
    assert!(said.contains("in 50 "), "{said}");
    assert_eq!(numbers, Vec::from_iter(0..300));
    let shown = prefix.run("evt-view", &["state"]).succeeds().text();
    assert!(shown.contains("committed, verified"), "{shown}");
}

/// Its rows are neither lost nor read twice.
#[test]
fn a_run_that_is_killed_within_an_object_is_continued_there() {
    let Some(prefix) = Prefix::new("objects-killed") else { return };
    let dir = &prefix.dir;
    dir.write("a.jsonl", events(0..60_000));
    prefix.put("a.jsonl");
    let line =
        format!("evt-ingest -q --checkpoint state --checkpoint-every 1ms '{}' --to sqlite:e.db", prefix.uri("a.jsonl"));
    for millis in ["0.2", "0.4", "0.6"] {
        dir.shell(&format!("timeout -s KILL {millis} {line}; true")).succeeds();
    }
    dir.shell(&line).succeeds();
    prefix.run("evt-view", &["-q", "sqlite:e.db?table=raw_events", "-o", "jsonl", "--to", "all.jsonl"]).succeeds();
    let mut numbers = prefix.numbers("all.jsonl");
    numbers.sort_unstable();
    assert_eq!(numbers, Vec::from_iter(0..60_000));
}

#[test]
fn requests_that_fail_are_repeated_and_what_is_missing_is_said() {
    let Some(prefix) = Prefix::new("objects-faults") else { return };
    let dir = &prefix.dir;
    dir.write("a.jsonl", events(0..60_000));
    prefix.put("a.jsonl");
    let proxy = Proxy::new(|_, number| match number % 5 {
        1 => Some(Fault::Fails),
        2 => Some(Fault::Cuts),
        3 if number < 10 => Some(Fault::Hangs),
        _ => None,
    });
    let behind = prefix.place.behind(&proxy);
    let (path, options) = behind.name.split_once('?').expect("options");
    let uri = format!("{path}/a.jsonl?{options}&timeout=1s");
    let said = prefix.run("evt-ingest", &["-q", &uri, "--to", "all.jsonl"]).succeeds().stderr();
    assert!(said.contains(": available again after "), "{said}");
    assert_eq!(prefix.numbers("all.jsonl"), Vec::from_iter(0..60_000));
    for (name, status, words) in [
        ("b.jsonl", 74, "expected an object, found none"),
        ("none/", 74, "expected an object, found none"),
        ("*.csv", 74, "expected an object, found none"),
    ] {
        let said = prefix.run("evt-ingest", &["-q", &prefix.uri(name), "--to", "null:"]).ends_with(status).stderr();
        assert!(said.contains(words) && said.contains(name) && !said.contains("secret"), "{said}");
    }
    let checked = prefix.run("evt-ingest", &["--check", &prefix.uri("*"), "--to", "null:"]).succeeds().text();
    assert!(checked.contains("a.jsonl") || checked.contains("/*"), "{checked}");
}

#[test]
fn an_output_is_an_object_that_appears_whole_and_replaces_another_one_only_with_overwrite() {
    let Some(prefix) = Prefix::new("objects-outputs") else { return };
    let dir = &prefix.dir;
    dir.write("a.jsonl", [events(0..1_000), "broken\n".to_owned()].concat());
    dir.write("large.jsonl", events(0..150_000));
    let file = |name: &str| prefix.place.files.join(name);
    for name in ["out/x.jsonl", "x.csv.gz", "x.parquet", "x.avro"] {
        let (to, dlq) = (prefix.uri(name), prefix.uri(&format!("dead/{name}.jsonl")));
        let args = ["-q", "a.jsonl", "--to", &to, "--dlq", &dlq];
        prefix.run("evt-ingest", &args).succeeds();
        assert_eq!(prefix.run("evt-view", &["-q", &to, "-o", "jsonl"]).succeeds().rows().len(), 1_000, "{name}");
        assert_eq!(prefix.run("evt-view", &["-q", &dlq, "-o", "jsonl"]).succeeds().rows().len(), 1);
        let before = std::fs::read(file(name)).expect("the object");
        let said = prefix.run("evt-ingest", &["-q", "large.jsonl", "--to", &to]).ends_with(2).stderr();
        assert!(said.contains("the object exists; --overwrite replaces it"), "{said}");
        assert_eq!(std::fs::read(file(name)).expect("the object"), before);
        prefix.run("evt-ingest", &["-q", "large.jsonl", "--to", &to, "--overwrite"]).succeeds();
        assert_ne!(std::fs::read(file(name)).expect("the object"), before);
    }
    // Larger than a part.
    for to in [&prefix.uri("y.jsonl"), "y.jsonl"] {
        prefix.run("evt-ingest", &["-q", "--now", "2026-02-01T00:00:00Z", "large.jsonl", "--to", to]).succeeds();
    }
    assert!(std::fs::read(file("y.jsonl")).expect("the object") == dir.bytes("y.jsonl"));
    // A run that fails leaves none.
    dir.shell("gzip < large.jsonl > whole.gz; head -c 100000 whole.gz > torn.jsonl.gz").succeeds();
    prefix.run("evt-ingest", &["-q", "torn.jsonl.gz", "--to", &prefix.uri("z.jsonl")]).ends_with(65);
    assert!(!file("z.jsonl").exists());
    for (args, words) in [
        (&["--to", &prefix.uri("w/")][..], "expected the key of one object, or --checkpoint"),
        (&["--to", &prefix.uri("w.jsonl"), "--append"], "--append: expected JSON lines, CSV or another text"),
        (
            &["--to", &prefix.uri("w.jsonl"), "--checkpoint", "state"],
            "expected a prefix that ends in /, whose objects are the epochs",
        ),
        (&["--to", &prefix.uri("w.rows")], "unknown extension"),
    ] {
        let said = prefix.run("evt-ingest", &[&["-q", "a.jsonl"][..], args].concat()).ends_with(2).stderr();
        assert!(said.contains(words) && !said.contains("secret"), "{said}");
    }
    let both = prefix.uri("y.jsonl");
    let said = prefix.run("evt-ingest", &["-q", &both, "--to", &both, "--overwrite"]).ends_with(2).stderr();
    assert!(said.contains("also an input"), "{said}");
    assert!(!file("w.jsonl").exists());
}

#[test]
fn metrics_may_be_an_object() {
    let Some(prefix) = Prefix::new("objects-metrics") else { return };
    let dir = &prefix.dir;
    dir.write("a.jsonl", events(0..1_000));
    dir.write("m.toml", "[[metric]]\nname = 'events'\nsize = '1m'\n");
    dir.write("wrong.toml", "[[metric]]\nnam = 'events'\n");
    dir.write("latin.toml", b"name = '\xe9'\n");
    ["m.toml", "wrong.toml", "latin.toml"].iter().for_each(|name| prefix.put(name));
    let of_object = prefix.run("evt-window", &["-q", "-m", &prefix.uri("m.toml"), "a.jsonl", "-o", "jsonl"]).succeeds();
    assert_eq!(of_object.text(), dir.shell("evt-window -q -m m.toml a.jsonl -o jsonl").succeeds().text());
    dir.shell("evt-window -q -m m.toml a.jsonl --to sqlite:m.db").succeeds();
    let flags = ["-q", "-m", &prefix.uri("m.toml"), "a.jsonl", "--to", "sqlite:m.db", "--dry-run"];
    prefix.run("evt-backfill", &flags).succeeds();
    for (name, status, words) in [
        ("wrong.toml", 78, "wrong.toml: line 2: unknown field nam"),
        ("latin.toml", 78, "latin.toml: expected UTF-8"),
        ("none.toml", 78, "none.toml: there is no such object"),
        ("*.toml", 2, "*.toml: expected the key of one object, found those of several"),
    ] {
        for tool in ["evt-window", "evt-backfill"] {
            let flags = ["-q", "-m", &prefix.uri(name), "a.jsonl", "--to", "sqlite:none.db"];
            let said = prefix.run(tool, &flags).ends_with(status).stderr();
            assert!(said.contains(words) && !said.contains("secret"), "{said}");
        }
    }
}

/// A checkpoint, inputs and outputs in a container of Azure.
#[test]
fn azure_has_checkpoints_inputs_and_outputs() {
    let Some(container) = server("EVT_AZURE") else { return };
    let variable = |name: &str| std::env::var(name).expect("scripts/services sets it");
    let dir = Dir::new("objects-azure");
    dir.write("azure.key", variable("EVT_AZURE_KEY"));
    let prefix = dir.path("").file_name().expect("a name").to_string_lossy().into_owned();
    let options = format!(
        "?endpoint={}&account={}&access_key={{file:azure.key}}&retry=1m",
        variable("EVT_AZURE_ENDPOINT"),
        variable("EVT_AZURE_ACCOUNT")
    );
    let uri = |names: &str| format!("{container}/{prefix}/{names}{options}");
    dir.write("a.jsonl", events(0..150_000));
    dir.write("b.jsonl", events(150_000..150_100));
    for (file, to) in [("a.jsonl", "in/a.jsonl"), ("b.jsonl", "in/b.jsonl.gz")] {
        dir.run("evt-ingest", &["-q", file, "--to", &uri(to)]).succeeds();
    }
    let said = dir.run("evt-ingest", &["-q", "b.jsonl", "--to", &uri("in/b.jsonl.gz")]).ends_with(2).stderr();
    assert!(said.contains("the object exists; --overwrite replaces it"), "{said}");
    let ingest = || {
        let args = ["--checkpoint", &uri("state"), "--checkpoint-every", "100ms", &uri("in/*"), "--to", "sqlite:e.db"];
        dir.run("evt-ingest", &args).succeeds().stderr()
    };
    let said = ingest();
    assert!(said.contains("in 150100 "), "{said}");
    assert!(ingest().contains("in 0 "), "read again");
    for numbers in ["b.jsonl", "none.jsonl"] {
        dir.write("none.jsonl", "");
        let to = uri("out/");
        dir.run("evt-ingest", &["-q", "-f", "jsonl", "--checkpoint", "own", numbers, "--to", &to]).succeeds();
    }
    assert_eq!(dir.run("evt-view", &["-q", &uri("out/"), "-o", "jsonl"]).succeeds().rows().len(), 100);
    let shown = dir.run("evt-view", &[&uri("state")]).succeeds().text();
    assert!(shown.contains("2 runs") && shown.contains("committed, verified"), "{shown}");
    dir.write("azure.key", "d3Jvbmc=");
    let said = dir.run("evt-ingest", &["-q", &uri("in/"), "--to", "null:"]).ends_with(78).stderr();
    assert!(said.contains("access denied: status 403: AuthorizationFailure"), "{said}");
}
