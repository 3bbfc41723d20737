//! `--checkpoint`: jobs that continue, runs that are killed or replaced, and outputs that get each row once.

use crate::bucket::CheckpointLocation;
use crate::harness::{Dir, Draws, LONG_WAIT, Run, ended, eventually, eventually_within};
use crate::servers::{postgres, psql, redis};
use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Three metrics: tumbling windows with lateness, sliding windows, sessions.
pub const METRICS: &str = r#"
[[metric]]
name = "events"
by = ["event_type"]
size = "1m"
lateness = "20s"
[[metric]]
name = "amount"
aggregate = "sum(amount)"
size = "5m"
slide = "1m"
[[metric]]
name = "visits"
by = ["user_id"]
gap = "30s"
"#;

/// Every kind of output that one process can have: a store, two files, late rows and dead letters.
pub const OUTPUTS: [&str; 10] =
    ["--dlq", "dead.jsonl", "--late", "late.jsonl", "--to", "sqlite:m.db", "--to", "rows.jsonl", "--to", "rows.csv"];

/// The sorted rows of each output.
pub type Results = BTreeMap<&'static str, Vec<String>>;

/// A job over files, with its own state and outputs.
pub struct Job {
    pub dir: Dir,
    pub place: CheckpointLocation,
    flags: Vec<String>,
}

impl Job {
    pub fn new(name: &str, flags: &[&str]) -> Self {
        let dir = Dir::new(name);
        let place = CheckpointLocation::directory(&dir);
        Self::in_place(dir, place, flags)
    }

    /// Jobs that differ in the place of the checkpoint: a directory and, if there is a server, a bucket.
    pub fn in_all_places(name: &str, flags: &[&str]) -> Vec<Self> {
        let dir = Dir::new(&format!("{name}-s3"));
        let in_bucket = CheckpointLocation::bucket(&dir).map(|place| Self::in_place(dir, place, flags));
        std::iter::once(Self::new(name, flags)).chain(in_bucket).collect()
    }

    pub fn in_place(dir: Dir, place: CheckpointLocation, flags: &[&str]) -> Self {
        dir.write("m.toml", METRICS);
        let fixed = ["-m", "m.toml", "--checkpoint", &place.name, "--out-of-orderness", "3s"];
        let flags = fixed.iter().chain(flags).map(|&flag| flag.to_owned()).collect();
        Self { dir, place, flags }
    }

    /// Shows the checkpoint.
    pub fn view(&self) -> Run {
        self.dir.run("evt-view", &[&self.place.name])
    }

    fn args(&self, more: &[&str]) -> Vec<String> {
        self.flags.iter().cloned().chain(more.iter().map(|&arg| arg.to_owned())).collect()
    }

    pub fn run(&self, more: &[&str]) -> Run {
        self.dir.run("evt-window", &self.args(more))
    }

    pub fn start(&self, more: &[&str]) -> Child {
        let mut command = self.dir.command("evt-window", &self.args(more));
        command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
    }

    pub fn results(&self) -> Results {
        let mut found = BTreeMap::from([("m.db", stored(&self.dir)), ("rows.csv", lines(&self.dir, "rows.csv"))]);
        for (name, changing) in [("rows.jsonl", "run"), ("late.jsonl", "ingested_at"), ("dead.jsonl", "failed_at")] {
            let row = |mut row: Value| {
                let columns = row.as_object_mut().expect("a row");
                columns.remove(changing);
                // In a pipe the first stage rejects records.
                columns.remove("stage");
                row.to_string()
            };
            let mut rows: Vec<String> = self.dir.rows(name).into_iter().map(row).collect();
            rows.sort();
            found.insert(name, rows);
        }
        found
    }
}

pub fn lines(dir: &Dir, name: &str) -> Vec<String> {
    let text = String::from_utf8(dir.bytes(name)).expect("UTF-8");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The rows of the store, without the columns that differ between runs.
pub fn stored(dir: &Dir) -> Vec<String> {
    let db = Connection::open(dir.path("m.db")).expect("a database");
    let sql = r#"SELECT metric_name || ' ' || window_start || ' ' || window_end || ' ' || dimensions || ' ' ||
        coalesce(value, 'null') || ' ' || "rows" || ' ' || revision || ' ' || pane FROM aggregated_metrics"#;
    let mut select = db.prepare(sql).expect("the table");
    let mut rows: Vec<String> =
        select.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect();
    rows.sort();
    rows
}

/// Events with faults, late and repeated ones.
pub fn generated(dir: &Dir, events: u64) -> Vec<u8> {
    let events = events.to_string();
    let faults = ["--rate", "20", "--seed", "5", "--late", "0.02", "--late-by", "2m", "--malformed", "0.01", "-q"];
    let args = [&["--events", events.as_str()], &faults[..]].concat();
    dir.run("evt-gen", &args).succeeds().stdout().to_vec()
}

/// Compares results; shows only how they differ.
#[track_caller]
pub fn assert_same(found: &Results, expected: &Results, context: &str) {
    for (name, rows) in expected {
        let found = &found[name];
        if found == rows {
            continue;
        }
        let (of_found, of_rows) = (BTreeSet::from_iter(found), BTreeSet::from_iter(rows));
        let (missing, extra) = (of_rows.difference(&of_found).next(), of_found.difference(&of_rows).next());
        let (count, wanted) = (found.len(), rows.len());
        panic!("{context}: {name}: expected {wanted} rows, found {count}; missing {missing:?}, extra {extra:?}");
    }
}

/// Cuts lines into files.
pub fn cut(dir: &Dir, bytes: &[u8], files: &[(&str, usize)]) {
    let mut rest = bytes;
    for (name, lines) in files {
        let end = memchr::memchr_iter(b'\n', rest).nth(lines - 1).map_or(rest.len(), |at| at + 1);
        dir.write(name, &rest[..end]);
        rest = &rest[end..];
    }
}

/// Kills a run at a moment that the seed determines: after a number of new entries of its log, which had `before`, and
/// some polls. Returns whether the run had not ended. The number of entries, other than a time, kills runs on machines
/// of any speed.
pub fn kill_within(place: &CheckpointLocation, before: usize, run: &mut Child, draws: &mut Draws) -> bool {
    // The first new entry begins the run, and each later one completes an epoch.
    let wanted = before + [0, 1, 1, 2, 2, 3, 4, 6][draws.below(8) as usize];
    let mut polls = draws.below(20);
    eventually_within(LONG_WAIT, "the run is killed or has ended", || {
        polls = if place.entries() >= wanted { polls.saturating_sub(1) } else { polls };
        polls == 0 && place.entries() >= wanted || run.try_wait().expect("a child").is_some()
    });
    run.kill().expect("killed");
    ended("the killed run", run) == 137
}

/// Kills a run up to `times` times at positions that the seed determines, then lets it end.
pub fn run_with_kills(job: &Job, args: &[&str], draws: &mut Draws, times: u64) -> u32 {
    let mut kills = 0;
    for _ in 0..times {
        let before = job.place.entries();
        let mut run = job.start(&[&["--checkpoint-every", "5ms"], args].concat());
        kills += u32::from(kill_within(&job.place, before, &mut run, draws));
    }
    // The server of a bucket may execute the last request of a killed run after the next run has read the log.
    let attempts = if job.place.is_bucket() { 5 } else { 1 };
    let mut runs = (0..attempts).map(|_| job.run(args));
    runs.find(|run| run.status() != 75).expect("a run that no other one has replaced").succeeds();
    kills
}

/// Events in the order of their times, so that none is late for a window that another file has closed.
pub fn ordered(minutes: std::ops::Range<i64>) -> String {
    let line = |second: i64| {
        let at = format!("2026-01-01T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60);
        let (user, kind) = (second / 40 % 7, ["view", "buy"][usize::from(second % 3 == 0)]);
        format!(
            "{{\"source\":\"web\",\"event_type\":\"{kind}\",\"event_id\":\"00000000-0000-4000-8000-{second:012}\",\"user_id\":\"u{user}\",\
             \"server_timestamp\":\"{at}\",\"amount\":{second}}}\n"
        )
    };
    (minutes.start * 60..minutes.end * 60).step_by(4).map(line).collect()
}

#[test]
fn windows_and_sessions_that_span_files_are_counted_once_and_whole() {
    let whole = Job::new("span-whole", &OUTPUTS);
    let parts = Job::new("span-parts", &OUTPUTS);
    whole.dir.write("all.jsonl", ordered(0..61));
    whole.run(&["--at-end", "fire", "all.jsonl"]).succeeds();
    for (name, minutes) in [("a.jsonl", 0..13), ("b.jsonl", 13..40), ("c.jsonl", 40..61)] {
        parts.dir.write(name, ordered(minutes));
        let said = parts.run(&[name]).succeeds().stderr();
        assert!(said.contains("open windows are held in the checkpoint"), "{said}");
    }
    parts.run(&["--at-end", "fire", "/dev/null"]).succeeds();
    let expected = whole.results();
    assert!(expected["m.db"].len() > 250, "{}", expected["m.db"].len());
    assert_same(&parts.results(), &expected, "in parts");
}

/// The same line of cron is given a file again, renamed, compressed or grown.
#[test]
fn a_file_is_known_by_its_content_and_continues_at_its_position() {
    let job = Job::new("known-files", &OUTPUTS);
    let text = ordered(0..30);
    let half = text.len() / 2 - 10;
    let half = half + text[half..].find('\n').expect("a line") + 1;
    job.dir.write("a.jsonl", &text[..half]);
    let records = |run: Run| -> u64 {
        let said = run.succeeds().stderr();
        let summary =
            said.lines().find_map(|line| line.strip_prefix("evt-window: in ")).unwrap_or_else(|| panic!("{said}"));
        summary.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    let first = text[..half].lines().count() as u64;
    assert_eq!(records(job.run(&["a.jsonl"])), first);
    assert_eq!(records(job.run(&["a.jsonl"])), 0, "the same file again");
    std::fs::rename(job.dir.path("a.jsonl"), job.dir.path("b.jsonl")).expect("renamed");
    let renamed = job.run(&["b.jsonl"]);
    assert!(renamed.stderr().contains("b.jsonl: continues a.jsonl, which has the same content"), "{renamed}");
    assert_eq!(records(renamed), 0);
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    packed.write_all(&text.as_bytes()[..half]).expect("packed");
    job.dir.write("c.jsonl.gz", packed.finish().expect("packed"));
    assert_eq!(records(job.run(&["c.jsonl.gz", "b.jsonl"])), 0, "compressed, and twice");
    job.dir.write("b.jsonl", &text);
    assert_eq!(records(job.run(&["b.jsonl"])), text.lines().count() as u64 - first, "grown");
    job.dir.write("b.jsonl", &text[..text.len() - 400]);
    let shorter = job.run(&["b.jsonl"]).ends_with(65).stderr();
    assert!(shorter.contains("which an earlier run has read"), "{shorter}");
    job.dir.write("b.jsonl", ordered(30..40));
    assert_eq!(records(job.run(&["b.jsonl"])), 150, "another file under the same name");
    job.run(&["-q", "--at-end", "fire", "/dev/null"]).succeeds();

    let whole = Job::new("known-whole", &OUTPUTS);
    whole.dir.write("all.jsonl", ordered(0..40));
    whole.run(&["--at-end", "fire", "all.jsonl"]).succeeds();
    assert_same(&job.results(), &whole.results(), "in parts");
}

#[test]
fn a_checkpoint_is_described_and_verified() {
    // One epoch, however long the run takes.
    let flags = ["--checkpoint-every", "1h", "--late", "null:", "--to", "sqlite:m.db"];
    let duration = regex::Regex::new(r"(?m)^epoch 1-1: \S+Z after [0-9a-z]+, \d+ bytes in ").expect("a pattern");
    for job in Job::in_all_places("described", &flags) {
        job.dir.write("a.jsonl", ordered(0..5));
        job.run(&["-q", "--prometheus", "run.prom", "a.jsonl"]).succeeds();
        let metrics = String::from_utf8(job.dir.bytes("run.prom")).expect("text");
        let value = |name: &str| -> f64 {
            let sample =
                metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{metrics}"));
            sample.trim().parse().expect("a number")
        };
        assert_eq!(value("evt_checkpoint_epoch "), 1.0);
        assert!(value("evt_checkpoint_bytes ") > 500.0 && value("evt_checkpoint_duration_seconds ") > 0.0, "{metrics}");
        assert!(value("evt_recovery_seconds ") > 0.0, "{metrics}");
        let said = job.view().succeeds().text();
        assert!(duration.is_match(&said), "{said}");
        let bytes = job.dir.bytes("a.jsonl").len();
        for words in [
            ": 1 runs, 1 complete epochs",
            "epoch 1-1: ",
            " committed, verified",
            "outputs: to-0 sqlite:m.db, late null:",
            "watermark: 2026-01-01T00:04:53.000000Z",
            &format!("a.jsonl: {bytes} bytes, read up to record 75, stream time 2026-01-01T00:04:56.000000Z"),
        ] {
            assert!(said.contains(words), "{words} in {said}");
        }
        job.run(&["-q", "--at-end", "fire", "/dev/null"]).succeeds();
        let said = job.view().succeeds().text();
        assert!(said.contains("watermark: the end"), "{said}");
    }
}

#[test]
fn an_incomplete_last_line_is_left_for_the_next_run() {
    let job = Job::new("open-line", &OUTPUTS);
    let text = ordered(0..20);
    let torn = text.len() - 30;
    job.dir.write("a.jsonl", &text[..torn]);
    let said = job.run(&["-q", "a.jsonl"]).succeeds().stderr();
    assert_eq!(said, "evt-window: a.jsonl: the last line has no line break; it is left for the next run\n");
    // A whole last line without a line break is read.
    job.dir.write("a.jsonl", text.trim_end());
    job.run(&["-q", "a.jsonl"]).succeeds();
    job.dir.write("a.jsonl", text.clone() + &ordered(20..25));
    job.run(&["-q", "--at-end", "fire", "a.jsonl"]).succeeds();
    let whole = Job::new("open-line-whole", &OUTPUTS);
    whole.dir.write("all.jsonl", ordered(0..25));
    whole.run(&["-q", "--at-end", "fire", "all.jsonl"]).succeeds();
    assert_same(&job.results(), &whole.results(), "in parts");
}

/// A writer that was killed repairs its torn last line before it continues. The file is the same one.
#[test]
fn a_file_whose_torn_last_line_was_repaired_continues() {
    for (name, header, row) in [
        ("a.jsonl", "", r#"{"source":"web","event_type":"t","server_timestamp":"2026-01-01T00:00:00Z","amount":N}"#),
        ("a.csv", "source,event_type,server_timestamp,amount\n", "web,t,2026-01-01T00:00:00Z,N"),
    ] {
        let job = Job::new("repaired", &["--late", "null:", "--to", "sqlite:m.db"]);
        let rows = |range: std::ops::Range<i64>| -> String {
            range.map(|n| row.replace('N', &(10_000 + n).to_string()) + "\n").collect()
        };
        let whole = format!("{header}{}", rows(0..100));
        job.dir.write(name, &whole[..whole.len() - 4]);
        job.run(&["-q", name]).succeeds();
        let evt_view = || job.dir.run("evt-view", &["state"]).succeeds().text();
        let last = if header.is_empty() { 99 } else { 100 };
        assert!(evt_view().contains(&format!("read up to record {last},")), "{}", evt_view());
        job.dir.write(name, format!("{header}{}", rows(0..120)));
        job.run(&["-q", "--at-end", "fire", name]).succeeds();
        let of_amount = stored(&job.dir).into_iter().find(|row| row.starts_with("events ")).expect("a row");
        assert!(of_amount.contains(" 120.0 120 "), "{name}: {of_amount}");
    }
}

#[test]
fn a_file_that_was_truncated_or_changed_is_not_taken_for_the_same_file() {
    let job = Job::new("changed", &["--late", "null:", "--to", "sqlite:m.db"]);
    let text = ordered(0..5);
    job.dir.write("a.jsonl", &text);
    job.run(&["-q", "a.jsonl"]).succeeds();
    for lines in [1, 5, 70] {
        let end = memchr::memchr_iter(b'\n', text.as_bytes()).nth(lines - 1).expect("a line") + 1;
        job.dir.write("a.jsonl", &text[..end]);
        let said = job.run(&["-q", "a.jsonl"]).ends_with(65).stderr();
        assert!(said.contains("which an earlier run has read"), "{lines}: {said}");
    }
    // One byte in the middle.
    job.dir.write("a.jsonl", text.replace("\"amount\":152}", "\"amount\":153}"));
    let said = job.run(&["a.jsonl"]).succeeds().stderr();
    assert!(said.contains("evt-window: in 75 "), "{said}");
}

/// Neither a pipe nor a run that was stopped closes a job.
#[test]
fn a_pipe_is_no_input_and_a_stopped_run_fires_nothing() {
    let job = Job::new("pipes", &["--late", "null:", "--to", "sqlite:m.db"]);
    job.dir.shell("mkfifo in.pipe").succeeds();
    let said = job.run(&["in.pipe"]).ends_with(2).stderr();
    assert!(said.contains("in.pipe: --checkpoint: expected topics, regular files, followed files"), "{said}");
    let calm = Job::new("stopped-calm", &OUTPUTS);
    let stopped = Job::new("stopped", &OUTPUTS);
    let events = generated(&calm.dir, 60_000);
    for job in [&calm, &stopped] {
        job.dir.write("a.jsonl", &events);
    }
    calm.run(&["-q", "--at-end", "fire", "a.jsonl"]).succeeds();
    let mut run = stopped.start(&["-q", "--at-end", "fire", "--checkpoint-every", "1ms", "a.jsonl"]);
    eventually("an epoch is complete", || stopped.place.entries() >= 3);
    kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
    ended("the stopped run", &mut run);
    stopped.run(&["-q", "--at-end", "fire", "a.jsonl"]).succeeds();
    let results = |job: &Job| {
        let db = Connection::open(job.dir.path("m.db")).expect("a database");
        let sql = r#"SELECT count(*) || ' ' || sum("rows") || ' ' || sum(value) FROM aggregated_metrics"#;
        let row: String = db.query_row(sql, [], |row| row.get(0)).expect("a row");
        row
    };
    assert_eq!(results(&stopped), results(&calm));
}

#[test]
fn a_last_line_without_a_line_break_is_read_when_the_job_is_closed() {
    let job = Job::new("closing-line", &["--late", "null:", "--dlq", "dead.jsonl", "--to", "sqlite:m.db"]);
    let text = ordered(0..2);
    job.dir.write("a.jsonl", &text[..text.len() - 5]);
    job.run(&["-q", "--at-end", "fire", "a.jsonl"]).succeeds();
    assert_eq!(job.dir.rows("dead.jsonl").len(), 1);
}

#[test]
fn a_job_that_has_fired_its_windows_takes_no_further_rows() {
    let job = Job::new("closed-job", &OUTPUTS);
    job.dir.write("a.jsonl", ordered(0..5));
    job.dir.write("b.jsonl", ordered(5..6));
    job.run(&["-q", "--at-end", "fire", "a.jsonl"]).succeeds();
    let before = job.results();
    for again in [&["-q", "a.jsonl"][..], &["-q", "--at-end", "fire", "/dev/null"]] {
        job.run(again).succeeds();
        assert_same(&job.results(), &before, again[1]);
    }
    let more = job.run(&["-q", "b.jsonl"]).ends_with(78).stderr();
    assert!(more.contains("--at-end hold"), "{more}");
    assert_same(&job.results(), &before, "after an error");
}

#[test]
fn runs_that_are_killed_at_random_leave_what_undisturbed_runs_leave() {
    let mut draws = Draws::new();
    let calm = Job::new("kills-calm", &OUTPUTS);
    let events = generated(&calm.dir, 40_000);
    let files = [("a.jsonl", 14_000), ("b.jsonl", 13_000), ("c.jsonl", 20_000)];
    let args =
        |(file, _): (&'static str, usize)| ["-q", "--at-end", if file == "c.jsonl" { "fire" } else { "hold" }, file];
    cut(&calm.dir, &events, &files);
    files.into_iter().for_each(|file| drop(calm.run(&args(file)).succeeds()));
    let expected = calm.results();
    for (name, rows) in &expected {
        assert!(rows.len() > 50, "{name}: {}", rows.len());
    }
    for wild in Job::in_all_places("kills-wild", &OUTPUTS) {
        cut(&wild.dir, &events, &files);
        let kills: u32 = files.into_iter().map(|file| run_with_kills(&wild, &args(file), &mut draws, 6)).sum();
        assert!(kills >= 4, "{draws}: only {kills} runs were killed");
        assert_same(&wild.results(), &expected, &draws.to_string());
    }
}

/// Whether a process holds the lock of an output, for which another run would wait.
pub fn holds_a_lock(dir: &Dir) -> bool {
    let db = Connection::open(dir.path("m.db")).expect("a database");
    db.busy_timeout(Duration::ZERO).expect("set");
    let is_locked = db.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_err();
    let files = ["rows.jsonl", "rows.csv", "late.jsonl", "dead.jsonl"];
    let file = |name: &&str| {
        File::open(dir.path(name)).is_ok_and(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_err())
    };
    is_locked || files.iter().any(file)
}

#[test]
fn what_a_checkpoint_cannot_hold_is_a_usage_error_before_anything_is_made() {
    let job = Job::new("unfit", &[]);
    job.dir.write("a.jsonl", ordered(0..5));
    for (args, words) in [
        (&["-", "--to", "o.jsonl"][..], "expected topics, regular files, followed files"),
        (&["a.jsonl", "--to", "o.parquet"], "expected a file that is appended to"),
        (&["a.jsonl", "--to", "o.jsonl", "--overwrite"], "expected a file that is appended to"),
        (&["a.jsonl", "--to", "kafka://localhost:1/t?format=frames"], "found format=frames"),
        (&["a.jsonl", "--to", "o.jsonl", "--late", "late.frames"], "found a file of frames"),
    ] {
        let said = job.run(args).ends_with(2).stderr();
        assert!(said.contains("--checkpoint") && said.contains(words), "{args:?}: {said}");
    }
    assert!(!job.dir.path("state").exists());
    let every = job.dir.run("evt-window", &["--checkpoint-every", "1s", "a.jsonl"]).ends_with(2).stderr();
    assert!(every.contains("--checkpoint"), "{every}");
}

/// The complete entry of an epoch has the fingerprint of what each state is the state of.
#[test]
fn an_epoch_has_the_fingerprint_of_its_metrics() {
    let job = Job::new("fingerprint", &["--late", "null:", "--to", "sqlite:m.db"]);
    job.dir.write("a.jsonl", ordered(0..10));
    let pattern = regex::Regex::new("; fingerprint of its settings: ([0-9a-f]{32})\n").expect("a pattern");
    let fingerprint = |metrics: &str| {
        job.dir.write("m.toml", metrics);
        job.run(&["-q", "a.jsonl"]).succeeds();
        let said = job.view().succeeds().text();
        pattern.captures(&said).unwrap_or_else(|| panic!("{said}"))[1].to_owned()
    };
    let first = fingerprint(METRICS);
    assert_eq!(fingerprint(&format!("# The same metrics.\n{METRICS}")), first);
    assert_ne!(fingerprint(&METRICS.replace("30s", "40s")), first);
}

/// A metric that the former runs did not have begins with its first whole window; the others continue.
#[test]
fn a_new_metric_begins_with_its_first_whole_window() {
    let job = Job::new("new-metric", &["--late", "null:", "--to", "sqlite:m.db"]);
    job.dir.write("a.jsonl", ordered(0..10));
    job.dir.write("b.jsonl", ordered(10..20));
    job.run(&["-q", "a.jsonl"]).succeeds();
    job.dir.write("m.toml", format!("{METRICS}\n[[metric]]\nname = \"added\"\nsize = \"4m\"\n"));
    job.run(&["-q", "--at-end", "fire", "b.jsonl"]).succeeds();
    let rows = stored(&job.dir);
    let of = |name: &str| rows.iter().filter(|row| row.starts_with(name)).collect::<Vec<_>>();
    let added = of("added ");
    assert_eq!(added.len(), 2, "{added:?}");
    assert!(added[0].contains("T00:12:00.000000Z 2026-01-01T00:16:00.000000Z {} 60.0 60 "), "{added:?}");
    assert_eq!(of("events ").len(), 40, "20 minutes of two types");
}

#[test]
fn a_metric_that_a_run_does_not_have_ends_and_is_named() {
    let job = Job::new("ended-metric", &["--late", "null:", "--to", "sqlite:m.db"]);
    job.dir.write("a.jsonl", ordered(0..10));
    job.run(&["-q", "a.jsonl"]).succeeds();
    job.dir.write("m.toml", METRICS.replace("30s", "40s"));
    let said = job.run(&["-q", "--at-end", "fire", "/dev/null"]).succeeds().stderr();
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        matches!(lines[..], [line] if line.contains("visits") && line.ends_with("its open windows are dropped")),
        "{said}"
    );
}

/// The last row of each window as a store shows it.
pub fn shown(dir: &Dir, uri: &str) -> Vec<String> {
    let text = |row: &Value| {
        let names = ["metric_name", "window_start", "window_end", "dimensions", "value", "rows"];
        names.map(|name| row[name].to_string()).join(" ")
    };
    let mut rows: Vec<String> =
        dir.run("evt-view", &["-q", "-o", "jsonl", uri]).succeeds().rows().iter().map(text).collect();
    rows.sort();
    rows
}

#[test]
fn every_store_gets_each_row_once_although_runs_are_killed() {
    let (Some((redis, ..)), Some((postgres, server, schema))) = (redis(), postgres()) else { return };
    let mut draws = Draws::new();
    let calm = Job::new("stores-calm", &OUTPUTS);
    let flags = ["--dlq", "null:", "--late", "null:", "--to", &postgres, "--to", &redis, "--to", "parquet:lake"];
    let wild = Job::new("stores-wild", &flags);
    let events = generated(&calm.dir, 12_000);
    let mut kills = 0;
    for (file, at_end, lines) in [("a.jsonl", "hold", 6_000), ("b.jsonl", "fire", 7_000)] {
        for job in [&calm, &wild] {
            cut(&job.dir, &events, &[("a.jsonl", 6_000), ("b.jsonl", lines)]);
        }
        let args = ["-q", "--at-end", at_end, file];
        calm.run(&args).succeeds();
        kills += run_with_kills(&wild, &args, &mut draws, 6);
    }
    assert!(kills >= 3, "{draws}: only {kills} runs were killed");
    let expected = shown(&calm.dir, "sqlite:m.db?table=aggregated_metrics");
    assert!(expected.len() > 1000, "{}", expected.len());
    let table = format!("{postgres}&table=aggregated_metrics");
    for uri in ["parquet:lake", &redis, &table] {
        assert!(shown(&wild.dir, uri) == expected, "{draws}: {uri}");
    }
    let counted = psql(&wild.dir, &server, &schema, r#"SELECT count(*), sum("rows") FROM aggregated_metrics"#);
    let db = Connection::open(calm.dir.path("m.db")).expect("a database");
    let sql = r#"SELECT count(*) || '|' || sum("rows") FROM aggregated_metrics"#;
    let of_calm: String = db.query_row(sql, [], |row| row.get(0)).expect("a row");
    assert_eq!(counted.trim(), of_calm);
}

/// A store rejects a row when its epoch is committed, or at once.
#[test]
fn a_row_that_a_store_cannot_hold_is_one_dead_letter() {
    for visible in ["epoch", "now"] {
        let Some((postgres, server, schema)) = postgres() else { return };
        let to = format!("{postgres}&visible={visible}");
        let job = Job::new("rejected", &["--late", "null:", "--dlq", "dead.jsonl", "--to", &to]);
        job.dir.write("m.toml", "[[metric]]\nname = \"n\"\nby = [\"user_id\"]\nsize = \"1m\"\n");
        job.dir.write("a.jsonl", ordered(0..3).replacen("\"u0\"", "\"u\\u0000\"", 1));
        job.dir.write("b.jsonl", ordered(3..6));
        job.run(&["-q", "a.jsonl"]).succeeds();
        let letters = job.dir.rows("dead.jsonl");
        assert_eq!(letters.len(), 1, "{visible}: {letters:?}");
        assert_eq!(letters[0]["error_type"], "SinkError");
        job.run(&["-q", "a.jsonl"]).succeeds();
        job.run(&["-q", "--at-end", "fire", "b.jsonl"]).succeeds();
        assert_eq!(job.dir.rows("dead.jsonl").len(), 1, "{visible}");
        let events = psql(&job.dir, &server, &schema, r#"SELECT sum("rows") FROM aggregated_metrics"#);
        assert_eq!(events.trim(), "89", "{visible}: all but one of 90 events");
    }
}
