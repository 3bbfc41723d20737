//! `--checkpoint` with stores that get rows before their epoch is complete: Redis, and databases with `?visible=now`.

use crate::broker::{Bench, stopped};
use crate::checkpoint::{Job, cut, generated, ordered, run_with_kills};
use crate::checkpoint_old_runs::topic_with_events;
use crate::harness::{Dir, Draws, ended, eventually, suspend};
use crate::kafka::record;
use crate::servers::{postgres, psql, redis};
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// What differs between two runs over the same events. Panes depend on batches.
const CHANGING: [&str; 6] = ["run", "pane", "updated_at", "ingested_at", "failed_at", "stage"];

/// The URIs of the stores with and without rows of epochs in progress.
struct Stores {
    at_once: Vec<String>,
    /// Database and schema of PostgreSQL.
    server: Option<(String, String)>,
}

impl Stores {
    /// A file, and the servers that there are.
    fn new() -> Self {
        let (postgres, redis) = (postgres(), redis());
        let mut at_once = vec!["sqlite:m.db?visible=now".to_owned()];
        at_once.extend(postgres.iter().map(|(uri, ..)| format!("{uri}&visible=now")));
        at_once.extend(redis.into_iter().map(|(uri, ..)| uri));
        Self { at_once, server: postgres.map(|(_, server, schema)| (server, schema)) }
    }

    /// Returns the flags of outputs: rows to all stores, late events and dead letters to the file.
    fn flags(&self) -> Vec<&str> {
        let rows = self.at_once.iter().flat_map(|uri| ["--to", uri]);
        ["--late", &self.at_once[0], "--dlq", &self.at_once[0]].into_iter().chain(rows).collect()
    }

    /// Returns the rows of each store that holds metrics, and those of the other tables.
    fn results(&self, dir: &Dir) -> Vec<(String, Vec<String>)> {
        let metrics = self.at_once.iter().map(|uri| (uri.clone(), table(dir, uri, "aggregated_metrics")));
        let others = ["late_events", "dead_letters"].map(|name| (name.to_owned(), table(dir, &self.at_once[0], name)));
        metrics.chain(others).collect()
    }

    /// Whether PostgreSQL works for a run. It may wait for the rest of a COPY, which no timeout of the server ends; an
    /// idle transaction ends after `?timeout=`. While it works on another statement, a COPY may be on its way.
    fn is_working(&self, dir: &Dir) -> bool {
        self.server.as_ref().is_some_and(|(server, schema)| {
            let active = "SELECT count(*) FROM pg_stat_activity JOIN pg_locks USING (pid) JOIN pg_class c ON relation = c.oid \
                          WHERE state = 'active' AND pid <> pg_backend_pid()";
            let here = format!("{active} AND relnamespace = '{schema}'::regnamespace");
            psql(dir, server, schema, &here).trim() != "0"
        })
    }

    fn drop(self, dir: &Dir) {
        if let Some((server, schema)) = self.server {
            psql(dir, &server, &schema, &format!("DROP SCHEMA {schema} CASCADE"));
        }
    }
}

/// The rows of a table of a store, sorted, without what differs between runs.
pub fn table(dir: &Dir, uri: &str, name: &str) -> Vec<String> {
    let mark = if uri.contains('?') { '&' } else { '?' };
    let uri = format!("{uri}{mark}table={name}");
    let mut rows = dir.run("evt-view", &["-q", "-o", "jsonl", &uri]).succeeds().rows();
    for row in &mut rows {
        row.as_object_mut().expect("a row").retain(|name, _| !CHANGING.contains(&name.as_str()));
    }
    let mut rows: Vec<String> = rows.iter().map(Value::to_string).collect();
    rows.sort();
    rows
}

#[track_caller]
fn assert_same(found: &[(String, Vec<String>)], expected: &[(String, Vec<String>)], context: &str) {
    for (store, rows) in found {
        let wanted = expected.iter().find(|(name, _)| name == store).or(expected.first()).expect("rows");
        let extra = rows.iter().find(|row| wanted.1.binary_search(row).is_err());
        let missing = wanted.1.iter().find(|row| rows.binary_search(row).is_err());
        let (count, expected) = (rows.len(), wanted.1.len());
        assert!(*rows == wanted.1, "{context}: {store}: expected {expected}, found {count}: {extra:?}, {missing:?}");
    }
}

#[test]
fn stores_that_get_rows_at_once_hold_each_window_once_although_runs_are_killed() {
    let mut draws = Draws::new();
    let (calm_stores, stores) = (Stores { at_once: vec!["sqlite:m.db".to_owned()], server: None }, Stores::new());
    let (calm, wild) = (Job::new("at-once-calm", &calm_stores.flags()), Job::new("at-once-wild", &stores.flags()));
    let events = generated(&calm.dir, 24_000);
    let files = [("a.jsonl", 9_000), ("b.jsonl", 9_000), ("c.jsonl", 9_000)];
    cut(&calm.dir, &events, &files);
    cut(&wild.dir, &events, &files);
    let mut kills = 0;
    for (file, at_end) in [("a.jsonl", "hold"), ("b.jsonl", "hold"), ("c.jsonl", "fire")] {
        let args = ["-q", "--at-end", at_end, file];
        calm.run(&args).succeeds();
        kills += run_with_kills(&wild, &args, &mut draws, 6);
    }
    assert!(kills >= 4, "{draws}: only {kills} runs were killed");
    let expected = calm_stores.results(&calm.dir);
    assert!(expected.iter().all(|(_, rows)| rows.len() > 50), "{:?}", expected.iter().map(|(_, rows)| rows.len()));
    assert_same(&stores.results(&wild.dir), &expected, &draws.to_string());
    stores.drop(&wild.dir);
}

/// The end of an epoch is far away. A window is visible before it, a session is not; it grows before the next run fires
/// it again.
#[test]
fn windows_are_visible_before_their_epoch_and_a_session_that_grew_after_a_kill_is_one_row() {
    let Some(bench) = Bench::new("at-once") else { return };
    let stores = Stores::new();
    let topic = bench.topic("in", 1, &[]);
    let flags = [&stores.flags()[..], &["-q", "--checkpoint-every", "1h"]].concat();
    let job = Job::new("at-once-sessions", &flags);
    let metric = |name: &str, shape: &str| {
        format!("[[metric]]\nname = \"{name}\"\nby = [\"user_id\"]\n{shape}\nlateness = \"5m\"\n")
    };
    job.dir.write("m.toml", metric("hits", "size = \"10s\"") + &metric("visits", "gap = \"30s\""));
    let event = |user: &str, second: u32| {
        let at = format!("2026-01-01T00:{:02}:{:02}Z", second / 60, second % 60);
        json!({"source": "s", "event_type": "t", "user_id": user, "server_timestamp": at}).to_string()
    };
    let send = |events: &[(&str, u32)]| {
        let lines: Vec<String> = events.iter().map(|(user, second)| event(user, *second)).collect();
        bench.produce(lines.iter().map(|line| record(&topic, 0, line)));
    };
    // The seconds of the windows of ada, and their events.
    let windows = |uri: &str, metric: &str| -> Vec<(String, String, u64)> {
        let rows = table(&job.dir, uri, "aggregated_metrics");
        let rows = rows.iter().map(|row| serde_json::from_str::<Value>(row).expect("a row"));
        let found = rows.filter(|row| row["dimensions"]["user_id"] == "ada" && row["metric_name"] == metric);
        let second = |value: &Value| value.as_str().expect("a text")[17..19].to_owned();
        found
            .map(|row| {
                let rows = row["rows"].as_u64().expect("a number");
                (second(&row["window_start"]), second(&row["window_end"]), rows)
            })
            .collect()
    };
    let are_hits = |uri: &str, wanted: usize| {
        let is_open = uri.starts_with("sqlite") && !job.dir.path("m.db").exists();
        !is_open && has_metrics(&job.dir, uri) && windows(uri, "hits").len() == wanted
    };
    // The session of ada is [0, 30 s); the event of bob lifts the watermark over its end.
    send(&[("ada", 0), ("bob", 60)]);
    let mut killed = job.start(&[&bench.uri(&topic, "?start=earliest")]);
    for uri in &stores.at_once {
        eventually("the window is visible", || are_hits(uri, 1));
    }
    assert_eq!(job.place.entries(), 1, "no epoch is complete");
    killed.kill().expect("killed");
    ended("the killed run", &mut killed);
    // Now it has an event more at 20 s: [0, 50 s).
    send(&[("ada", 20), ("bob", 200)]);
    let next = job.start(&[&bench.uri(&topic, "?start=earliest")]);
    for uri in &stores.at_once {
        eventually("the other window is visible", || are_hits(uri, 2));
        assert!(windows(uri, "visits").is_empty(), "{uri}: a session is visible before its epoch");
    }
    kill_process(Pid::from_child(&next), Signal::TERM).expect("it runs");
    let (status, said) = stopped(next);
    assert_eq!(status, 143, "{said}");
    let row = |start: &str, end: &str, rows| (start.to_owned(), end.to_owned(), rows);
    for uri in &stores.at_once {
        assert_eq!(windows(uri, "visits"), [row("00", "50", 2)], "{uri}");
        assert_eq!(windows(uri, "hits"), [row("00", "10", 1), row("20", "30", 1)], "{uri}");
    }
    stores.drop(&job.dir);
}

/// Events out of order make sessions that overlap (evt-window(1)): each of them is a result.
#[test]
fn sessions_that_overlap_stay_in_stores_that_get_rows_at_once() {
    let event = |minute: &str, key: &str| format!("{{\"ts\":\"2026-01-05T{minute}Z\",\"k\":\"{key}\"}}\n");
    let times = ["10:01:00", "10:02:40", "10:01:50", "10:01:20", "10:00:50"];
    let events: Vec<String> = times.iter().map(|time| event(time, "k")).chain([event("12:00:00", "end")]).collect();
    for (name, sink) in [("overlap-one", ""), ("overlap-pipe", "| evt-sink -q")] {
        let (dir, stores) = (Dir::new(name), Stores::new());
        let to: Vec<String> = stores.at_once.iter().map(|uri| format!("--to '{uri}'")).collect();
        for (lines, at_end) in [(2, "hold"), (6, "fire")] {
            dir.write("ov.jsonl", events[..lines].concat());
            let line = format!(
                "evt-window -q ov.jsonl --time ts --checkpoint ck --by k --agg 'n=count(*)' --gap 75s --late null: \
                 --out-of-orderness 0s --at-end {at_end} {sink} {} --to sqlite:calm.db",
                to.join(" ")
            );
            dir.shell(&line).succeeds();
        }
        let calm = table(&dir, "sqlite:calm.db", "aggregated_metrics");
        assert!(calm.len() > 2, "{calm:?}");
        for uri in &stores.at_once {
            assert_eq!(table(&dir, uri, "aggregated_metrics"), calm, "{name}: {uri}");
        }
        stores.drop(&dir);
    }
}

/// Whether a store has tables; one that is being made is read later.
fn has_metrics(dir: &Dir, uri: &str) -> bool {
    if !uri.starts_with("sqlite") {
        return dir.run("evt-view", &["-q", "-o", "jsonl", &format!("{uri}&table=aggregated_metrics")]).status() == 0;
    }
    let db = Connection::open_with_flags(dir.path("m.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
    db.and_then(|db| db.query_row("SELECT count(*) FROM aggregated_metrics", [], |row| row.get::<_, i64>(0))).is_ok()
}

/// A run that was stopped (SIGSTOP) while a newer one took over repeats guarded rows at most, and ends with 75 at its
/// next barrier. It reads a topic without an end, so that it has not ended before it is stopped.
#[test]
fn an_old_run_that_wakes_up_is_fenced_and_leaves_the_rows_as_they_are() {
    let Some(bench) = Bench::new("at-once-old") else { return };
    let topic = topic_with_events(&bench, 60_000);
    let (endless, whole) = (bench.uri(&topic, ""), bench.uri(&topic, "?end=latest"));
    let to_the_end = ["-q", "--emit", "final", "--at-end", "fire", &whole];
    let stores = Stores::new();
    let calm_stores = Stores { at_once: vec!["sqlite:m.db".to_owned()], server: None };
    let (calm, job) = (Job::new("at-once-old-calm", &calm_stores.flags()), Job::new("at-once-old", &stores.flags()));
    calm.run(&to_the_end).succeeds();
    let old = job.start(&["-q", "--emit", "final", "--checkpoint-every", "1ms", &endless]);
    let free = || {
        // A lock that it holds would hold the new run, too.
        let db = Connection::open(job.dir.path("m.db")).expect("a database");
        db.busy_timeout(std::time::Duration::ZERO).expect("a setting");
        // The server may still read what the run had sent: asked twice, it has.
        let rests = || !stores.is_working(&job.dir);
        db.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() && rests() && rests()
    };
    eventually("epochs are complete", || job.place.entries() >= 4);
    eventually("it is stopped while it holds no lock", || {
        suspend(&old);
        let is_free = free();
        if !is_free {
            kill_process(Pid::from_child(&old), Signal::CONT).expect("it runs");
        }
        is_free
    });
    job.run(&to_the_end).succeeds();
    kill_process(Pid::from_child(&old), Signal::CONT).expect("it runs");
    let output = old.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(75), "{}", String::from_utf8_lossy(&output.stderr));
    assert_same(&stores.results(&job.dir), &calm_stores.results(&calm.dir), "after the old run");
    stores.drop(&job.dir);
}

#[test]
fn visible_is_now_or_epoch_and_a_lake_does_not_know_it() {
    let dir = Dir::new("visible");
    dir.write("a.jsonl", ordered(0..3));
    let run = |to: &str| dir.run("evt-window", &["-q", "--size", "1m", "--late", "null:", "--to", to, "a.jsonl"]);
    let said = run("sqlite:m.db?visible=later").ends_with(2).stderr();
    assert!(said.contains("visible: expected now or epoch, found 'later'"), "{said}");
    let said = run("parquet:lake?visible=now").ends_with(2).stderr();
    assert!(said.contains("unknown option 'visible'"), "{said}");
    // Without a checkpoint rows are visible at once anyway.
    run("sqlite:m.db?visible=epoch").succeeds();
}
