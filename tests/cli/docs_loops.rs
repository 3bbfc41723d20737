//! Pipes of README and man pages that read a topic until they are stopped: each event is in their stores once, although
//! a stage is killed.

use crate::broker::{Bench, lines};
use crate::bucket::CheckpointLocation;
use crate::documents::{blocks, inline, typed};
use crate::harness::{Dir, Run, eventually, status};
use crate::kafka;
use crate::listener::Listener;
use crate::servers::{postgres, psql};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::cell::Cell;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

/// Lines of shell that run in a process group of their own until they are stopped.
struct Shell(Child);

impl Shell {
    fn start(dir: &Dir, lines: &str) -> Self {
        let mut command = dir.command("bash", &["-o", "pipefail", "-c", lines]);
        // The last stage writes rows nowhere, and messages of all stages are of use if the test fails.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().expect("it starts"))
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// The running processes of a tool in the group.
    fn stages(&self, dir: &Dir, tool: &str) -> Vec<Pid> {
        let group = self.group().as_raw_nonzero().to_string();
        let found = dir.run("pgrep", &["-g", &group, "-x", tool]).text();
        found.lines().filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw)).collect()
    }

    /// Kills a stage; the loop must start another one.
    fn kill(&self, dir: &Dir, tool: &str) {
        let before = self.stages(dir, tool);
        let [stage] = before[..] else { panic!("expected one {tool}, found {before:?}") };
        kill_process(stage, Signal::KILL).expect("it runs");
        eventually("the loop starts the pipe again", || {
            let now = self.stages(dir, tool);
            now.len() == 1 && now != before
        });
    }

    /// Stops all processes of the group by SIGTERM, and waits until each has ended.
    fn stop(mut self, dir: &Dir) {
        kill_process_group(self.group(), Signal::TERM).expect("it runs");
        let ended = status(self.0.wait().expect("it ends"));
        assert_eq!(ended, 143, "of the shell, or of the only tool that it has become");
        let group = self.group().as_raw_nonzero().to_string();
        eventually("all stages have ended", || dir.run("pgrep", &["-g", &group]).text().is_empty());
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // After a failed test nothing may stay; otherwise the group has ended already.
        _ = kill_process_group(self.group(), Signal::KILL);
        _ = self.0.wait();
    }
}

/// A topic of events, one a second, and the other topics and the schema that the documents name.
struct Events {
    bench: Bench,
    topic: String,
    postgres: String,
    uri: String,
    schema: String,
    sent: Cell<usize>,
}

impl Events {
    fn new(name: &str) -> Option<Self> {
        let (bench, (postgres, uri, schema)) = (Bench::new(name)?, postgres()?);
        let topic = bench.topic("events", 1, &[]);
        ["late", "dead", "valid"].iter().for_each(|name| _ = bench.topic(name, 1, &[]));
        bench.dir.write("metrics.toml", "[[metric]]\nname = \"events\"\nsize = \"1m\"\n");
        bench.dir.write(
            "fast.toml",
            "[evt-ingest]\ncheckpoint-every = \"200ms\"\n[evt-window]\ncheckpoint-every = \"200ms\"\n",
        );
        Some(Self { bench, topic, postgres, uri, schema, sent: Cell::new(0) })
    }

    /// The text of a document with these servers and topics. Epochs are short, so that the test is.
    fn named(&self, text: &str) -> String {
        let place = format!("kafka://{}/{}-", self.bench.brokers, self.bench.prefix);
        let mut text = text.replace("postgres://localhost/evt", &format!("'{}'", self.postgres));
        for told in ["kafka://localhost:9092/", "kafka://$KAFKA/", "kafka://HOST/"] {
            text = text.replace(told, &place);
        }
        format!("export EVT_CONFIG=fast.toml POSTGRES='{}'\n{text}", self.postgres)
    }

    /// Sends the events of these minutes, each of which has sixty.
    fn send(&self, minutes: usize) {
        let event = |number: usize| {
            let (hour, minute, second) = (number / 3600, number / 60 % 60, number % 60);
            let time = format!("2026-01-05T{hour:02}:{minute:02}:{second:02}Z");
            let id = format!("00000000-0000-4000-8000-{number:012}");
            format!(
                "{{\"event_id\":\"{id}\",\"event_type\":\"t\",\"source\":\"s\",\"server_timestamp\":\"{time}\",\"n\":{number}}}"
            )
        };
        let first = self.sent.get();
        let events: Vec<String> = (first..first + 60 * minutes).map(event).collect();
        self.bench.produce(events.iter().map(|event| kafka::record(&self.topic, 0, event)));
        self.sent.set(first + events.len());
    }

    /// Waits until the database has the windows of all minutes but the last one, which is open.
    #[track_caller]
    fn are_counted(&self) {
        let expected = self.sent.get() / 60 - 1;
        eventually("the windows are stored", || {
            let sql = "SELECT to_regclass('aggregated_metrics') IS NOT NULL";
            psql(&self.bench.dir, &self.uri, &self.schema, sql) == "t\n" && self.stored().0 == expected
        });
        let (windows, rows) = self.stored();
        assert_eq!(rows, windows * 60, "each event is counted once");
    }

    /// The number of windows in the database, and of the events in them.
    fn stored(&self) -> (usize, usize) {
        let sql = "SELECT count(*), coalesce(sum(rows), 0) FROM aggregated_metrics";
        let text = psql(&self.bench.dir, &self.uri, &self.schema, sql);
        let (windows, rows) = text.trim().split_once('|').expect("two columns");
        (windows.parse().expect("a count"), rows.parse().expect("a count"))
    }

    /// Runs an endless pipe, kills one of its stages if it is a loop, and stops it.
    fn run(&self, lines: &str, kill: Option<&str>) {
        let shell = Shell::start(&self.bench.dir, &self.named(lines));
        self.send(3);
        self.are_counted();
        if let Some(tool) = kill {
            shell.kill(&self.bench.dir, tool);
        }
        self.send(3);
        self.are_counted();
        shell.stop(&self.bench.dir);
    }

    fn rows(&self, input: &str) -> Run {
        self.bench.dir.run("evt-view", &["-q", "-o", "jsonl", input]).succeeds()
    }
}

#[test]
fn the_loop_of_the_readme_counts_each_event_once() {
    let Some(events) = Events::new("docs-loop") else { return };
    let [block] = blocks("README.md", "Exactly once").try_into().expect("one");
    let [first, pipe] = typed(&block).try_into().ok().expect("two commands");
    let lines = format!("{}\n{}", first.command, pipe.command);
    for tool in ["evt-window", "evt-ingest"] {
        events.run(&lines, Some(tool));
    }
    // The lake has the same windows.
    let lake = events.rows("parquet:lake/metrics").rows();
    assert_eq!(lake.len(), events.stored().0, "{lake:?}");
    assert!(lake.iter().all(|row| row["rows"] == 60), "{lake:?}");
}

#[test]
fn both_pipes_of_the_page_of_checkpoints_count_each_event_once() {
    let [repeated, divided] = blocks("man/evt-checkpoint.5", "PIPES").try_into().expect("two");
    let Some(events) = Events::new("docs-pipes") else { return };
    events.run(&repeated, Some("evt-sink"));
    let Some(events) = Events::new("docs-branches") else { return };
    // The second run continues the checkpoint of the first one.
    for _ in 0..2 {
        events.run(&divided, None);
    }
    let raw = events.rows("parquet:lake/raw").rows();
    // Files of a lake are read by their names.
    let mut numbers: Vec<u64> = raw.iter().map(|row| row["properties"]["n"].as_u64().expect("a number")).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
    // The signal ends tee, so a branch may end before it commits the last complete epoch; the next run does.
    assert!(numbers.len() >= 60, "{}", numbers.len());
}

#[test]
fn the_checkpoint_in_a_bucket_is_continued_and_shown() {
    let (Some(events), Some(_)) = (Events::new("docs-bucket"), CheckpointLocation::bucket(&Dir::new("docs-bucket")))
    else {
        return;
    };
    let [syntax, block] = blocks("man/evt-checkpoint.5", "BUCKETS").try_into().expect("two");
    assert_eq!(syntax.trim(), "s3://BUCKET[/PREFIX][?OPTION=VALUE&...]");
    let variable = |name: &str| std::env::var(name).expect("scripts/services sets it");
    let place = format!("s3://evt-tests/{}", events.bench.prefix);
    let block = block
        .replace("eu-central-1", &variable("EVT_S3_REGION"))
        .replace("KEY_ID=...", &format!("KEY_ID={}", variable("EVT_S3_ACCESS_KEY")))
        .replace("ACCESS_KEY=...", &format!("ACCESS_KEY={}", variable("EVT_S3_SECRET_KEY")))
        .replace("s3://company-state/metrics", &place);
    let (export, rest) = block.split_once('\n').expect("three commands");
    let (window, view) = rest.trim_end().rsplit_once('\n').expect("three commands");
    let export = format!("{export} AWS_ENDPOINT_URL_S3={}\n", variable("EVT_S3"));
    for _ in 0..2 {
        events.run(&format!("{export}exec {window}"), None);
    }
    let shown = events.bench.dir.shell(&format!("{export}{view}")).succeeds().text();
    assert!(shown.contains(" 2 runs, ") && shown.contains("committed, verified"), "{shown}");
}

#[test]
fn a_stage_without_state_commits_its_rows_and_offsets_together() {
    let [page] = blocks("man/evt.7", "KAFKA").try_into().expect("one");
    let readme = inline("README.md", "Exactly once").into_iter().find(|command| command.contains("exactly_once=true"));
    for (name, command) in [("docs-once-page", page), ("docs-once-readme", readme.expect("a command"))] {
        let Some(events) = Events::new(name) else { return };
        let (dir, schema) = (&events.bench.dir, r#"{"type":"record","name":"t","fields":[{"name":"n","type":"int"}]}"#);
        dir.write("schemas/t/1.avsc", schema);
        let valid = format!("{}-valid", events.bench.prefix);
        for minutes in [1, 2] {
            let shell = Shell::start(dir, &events.named(&format!("exec {command}")));
            events.send(minutes);
            eventually("the rows are there", || events.bench.committed_records(&valid).len() == events.sent.get());
            shell.stop(dir);
        }
        let rows = events.bench.committed_records(&valid);
        assert!(rows.iter().enumerate().all(|(number, row)| row["properties"]["n"] == number), "{rows:?}");
    }
}

#[test]
fn the_other_commands_of_the_readme_with_a_checkpoint_continue_where_they_were() {
    let commands = inline("README.md", "Exactly once");
    let with = |word: &str| commands.iter().find(|command| command.contains(word)).expect("a command").clone();
    // A log.
    let dir = Dir::new("docs-follow");
    let line = |number: usize| format!("{{\"server_timestamp\":\"2026-01-05T00:00:{number:02}Z\",\"n\":{number}}}\n");
    dir.write("app.log", line(0) + &line(1));
    for wanted in [2, 4] {
        let shell = Shell::start(&dir, &format!("exec {} --to rows.jsonl", with("--follow")));
        eventually("the rows are there", || lines(&dir, "rows.jsonl") == wanted);
        shell.stop(&dir);
        dir.write("app.log", (0..wanted + 2).map(line).collect::<String>());
    }
    assert!(dir.rows("rows.jsonl").iter().enumerate().all(|(number, row)| row["properties"]["n"] == number));
    // Requests.
    let dir = Dir::new("docs-spool");
    let command = with("--spool").replace("http://127.0.0.1:8080", "http://127.0.0.1:0");
    for number in [1, 2] {
        let line = format!("exec {command} --checkpoint-every 200ms --to requests.jsonl");
        let listener = Listener::of(&mut dir.command("bash", &["-c", &line])).listening();
        assert_eq!(listener.json(&crate::listener::event(number, "s")).status, 200);
        eventually("the row is there", || lines(&dir, "requests.jsonl") == number);
        listener.stop();
        assert_eq!(lines(&dir, "requests.jsonl"), number);
    }
    // One process.
    let Some(events) = Events::new("docs-one") else { return };
    let dir = &events.bench.dir;
    let command = events.named(&format!("exec {}", with("evt-window")));
    let stored = || dir.run("evt-view", &["-q", "-o", "jsonl", "sqlite:metrics.db?table=aggregated_metrics"]).text();
    for windows in [1, 3] {
        let shell = Shell::start(dir, &command);
        events.send(2);
        eventually("the windows are stored", || stored().lines().count() == windows);
        shell.stop(dir);
    }
    assert_eq!(stored().matches("\"rows\":60,").count(), 3, "{}", stored());
}
