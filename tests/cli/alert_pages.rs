//! evt-alert: which pages are sent, to which channels, and what is said of those that are not.

use crate::alert::{at, event, lines, rule, rules, series};
use crate::harness::{Dir, Draws, LONG_WAIT, ended, eventually, eventually_within};
use crate::notify::webhook;
use crate::receivers::{Receiver, Reply};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Channels a and b, each with a receiver.
fn two_channels(dir: &Dir) -> [Receiver; 2] {
    let receivers = [(); 2].map(|()| Receiver::new(|_, _| Reply::Status(200)));
    let channel = |(name, receiver): (&str, &Receiver)| {
        let url = format!("{}/hook", receiver.base);
        format!("[[channel]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"{url}\"\ntimeout = \"2m\"\n")
    };
    dir.write("channels.toml", ["a", "b"].into_iter().zip(&receivers).map(channel).collect::<String>());
    receivers
}

/// The states that a receiver has been sent, in order.
fn states(receiver: &Receiver) -> Vec<String> {
    receiver.posted().iter().map(|posted| posted.body["state"].as_str().expect("a state").to_owned()).collect()
}

/// Events with errors from 0 to 80 s, cut at `end`.
fn errors(end: f64) -> String {
    let errors = series(0.0, end.min(80.0), 0.5, &json!({"event_type": "error"}));
    lines(&[errors, series(0.0, end, 1.0, &json!({}))])
}

/// Runs over the events up to `end` at that time; `fields` change the rule, `null` deletes it.
fn run_to(dir: &Dir, end: f64, fields: &Value, args: &[&str]) -> crate::harness::Run {
    let base = json!({
        "where": "event_type = 'error'", "threshold": 10, "window_seconds": 10, "keep_firing_for": 0,
        "notification_channel": "a",
    });
    let mut fired = rule(&base);
    let other = rule(&json!({"name": "other", "threshold": 1000}));
    let all = match fields.as_object() {
        Some(fields) => {
            fields.iter().for_each(|(name, value)| fired[name] = value.clone());
            vec![fired, other]
        }
        None => vec![other],
    };
    dir.write("rules.json", rules(&all));
    dir.write("in.jsonl", errors(end));
    let now = at(end);
    let mut all = vec!["--once", "--rules", "rules.json", "--now", &now, "--state", "alerts.db"];
    all.extend(args);
    all.push("in.jsonl");
    dir.run("evt-alert", &all).stays_calm()
}

const NOTIFY: [&str; 2] = ["--notify", "channels.toml"];

#[test]
fn a_rule_that_moves_to_another_channel_while_it_fires_is_resolved_where_it_fired() {
    let dir = Dir::new("alert-moves");
    let [a, b] = two_channels(&dir);
    run_to(&dir, 50.0, &json!({}), &NOTIFY).ends_with(1);
    assert_eq!((states(&a), states(&b)), (vec!["firing".to_owned()], vec![]));
    // The new channel gets a firing of its own, under the same alert; the old one is not paged again.
    let moved = json!({"notification_channel": "b"});
    run_to(&dir, 70.0, &moved, &NOTIFY).ends_with(1);
    assert_eq!((states(&a), states(&b)), (vec!["firing".to_owned()], vec!["firing".to_owned()]));
    run_to(&dir, 120.0, &moved, &NOTIFY).succeeds();
    for receiver in [&a, &b] {
        assert_eq!(states(receiver), ["firing", "resolved"]);
        let posted = receiver.posted();
        assert_eq!(posted[0].body["alert_id"], posted[1].body["alert_id"]);
    }
    assert_eq!(a.posted()[0].body["alert_id"], b.posted()[0].body["alert_id"]);
}

#[test]
fn a_rule_that_loses_its_channel_or_goes_is_resolved_where_it_fired() {
    for edit in [json!({"notification_channel": null}), Value::Null, json!({"enabled": false})] {
        let dir = Dir::new("alert-loses");
        let [a, b] = two_channels(&dir);
        run_to(&dir, 50.0, &json!({}), &NOTIFY).ends_with(1);
        run_to(&dir, 120.0, &edit, &NOTIFY).succeeds();
        assert_eq!((states(&a), b.count()), (vec!["firing".to_owned(), "resolved".to_owned()], 0), "{edit}");
    }
}

#[test]
fn a_resolve_of_a_run_without_notify_is_named_and_sent_by_the_next_run_with_it() {
    let dir = Dir::new("alert-no-notify");
    let [a, _] = two_channels(&dir);
    run_to(&dir, 50.0, &json!({}), &NOTIFY).ends_with(1);
    run_to(&dir, 120.0, &json!({}), &[]).succeeds();
    assert_eq!(states(&a), ["firing"]);
    let run = run_to(&dir, 121.0, &json!({}), &[]).succeeds();
    assert!(run.stderr().contains("channel 'a': 1 notification is due, but there is no --notify\n"), "{run}");
    let run = run_to(&dir, 122.0, &json!({}), &NOTIFY).succeeds();
    assert_eq!((states(&a), run.stderr()), (vec!["firing".to_owned(), "resolved".to_owned()], String::new()));
}

#[test]
fn a_rule_with_a_channel_and_no_notify_is_named_once() {
    let dir = Dir::new("alert-unsent");
    dir.write("in.jsonl", errors(30.0));
    let named = |name: &str| rule(&json!({"name": name, "threshold": 1000, "notification_channel": "ops"}));
    dir.write("rules.json", rules(&[rule(&json!({"threshold": 1000})), named("x"), named("y")]));
    let run = dir.run("evt-alert", &["-q", "--rules", "rules.json", "in.jsonl"]).succeeds();
    let told = "evt-alert: rule x has notification_channel ops (and another rule), but there is no --notify\n";
    assert_eq!(run.stderr(), told);
}

/// A live run with a state that reads what is written to its standard input.
struct Live {
    child: Child,
    stdin: ChildStdin,
}

impl Live {
    fn new(dir: &Dir) -> Self {
        // After the first events the clock advances with wall time. With a long window the rule does not fire before a
        // test locks or removes the state.
        dir.write("rules.json", rules(&[rule(&json!({"window_seconds": 50}))]));
        let args = ["-f", "jsonl", "--rules", "rules.json", "--state", "alerts.db", "--to", "out.jsonl"];
        let said = File::create(dir.path("said")).expect("writable");
        let child = dir.command("evt-alert", &args).stdin(Stdio::piped()).stderr(said).spawn();
        let mut child = child.expect("it starts");
        let stdin = child.stdin.take().expect("it is piped");
        Self { child, stdin }
    }

    fn give(&mut self, seconds: std::ops::Range<i32>) {
        let text: String = seconds.map(|second| event(f64::from(second), &json!({}))).collect();
        self.stdin.write_all(text.as_bytes()).expect("it reads");
    }
}

/// Starts a live run; returns it once its state is stored.
fn with_state(dir: &Dir) -> Live {
    let mut live = Live::new(dir);
    live.give(0..5);
    let has = |sql: &str| {
        let db = Connection::open(dir.path("alerts.db")).expect("it opens");
        db.query_row(sql, [], |row| row.get::<_, i64>(0)).is_ok_and(|count| count > 0)
    };
    eventually("the state is stored", || dir.path("alerts.db").exists() && has("SELECT count(*) FROM engine"));
    live
}

/// Starts a live run and locks its state; returns the holder of the lock once the run has noticed.
fn locked(dir: &Dir) -> (Live, Connection) {
    let mut live = with_state(dir);
    let other = Connection::open(dir.path("alerts.db")).expect("it opens");
    eventually("nobody writes", || other.execute_batch("BEGIN IMMEDIATE").is_ok());
    live.give(5..60);
    let told = "alerts.db: cannot store the state: another program holds the lock: retrying for up to 2m";
    eventually("the run says that it waits", || said(dir).contains(told));
    (live, other)
}

fn said(dir: &Dir) -> String {
    std::fs::read_to_string(dir.path("said")).expect("text")
}

#[test]
fn a_live_run_waits_for_another_program_that_locks_its_state() {
    let dir = Dir::new("alert-locked");
    let (mut live, other) = locked(&dir);
    assert_eq!(dir.path("out.jsonl").metadata().map_or(0, |found| found.len()), 0, "a row before its state");
    other.execute_batch("ROLLBACK").expect("it was begun");
    eventually("it continues", || std::fs::read_to_string(dir.path("out.jsonl")).is_ok_and(|t| t.contains("firing")));
    drop(live.stdin);
    assert!(live.child.wait().expect("it ends").success(), "{}", said(&dir));
    let said = said(&dir);
    assert!(said.contains("alerts.db: the lock is free again after "), "{said}");
    assert_eq!(said.matches("retrying").count(), 1, "{said}");
}

#[test]
fn a_run_that_is_stopped_while_its_state_is_locked_says_what_to_do() {
    let dir = Dir::new("alert-locked-stop");
    let (mut live, _other) = locked(&dir);
    kill_process(Pid::from_child(&live.child), Signal::TERM).expect("it is ours");
    let status = live.child.wait().expect("it ends");
    assert!(!status.success(), "{}", said(&dir));
    let told = "end its transaction and start evt-alert again, which continues where the state was stored last";
    assert!(said(&dir).contains(told), "{}", said(&dir));
}

/// SQLite writes on to a file without a name, and the state would be gone with the process.
#[test]
fn a_run_whose_state_is_removed_ends_with_an_error() {
    let dir = Dir::new("alert-removed");
    let mut live = with_state(&dir);
    std::fs::remove_file(dir.path("alerts.db")).expect("it is there");
    let events: String = (5..60).map(|second| event(f64::from(second), &json!({}))).collect();
    // The run may have ended already.
    let _ = live.stdin.write_all(events.as_bytes());
    assert_eq!(ended("the run", &mut live.child), 74, "{}", said(&dir));
    let expected = "alerts.db: cannot store the state: the file was removed or replaced while this run used it";
    assert!(said(&dir).contains(expected), "{}", said(&dir));
    assert!(!dir.path("out.jsonl").exists() || dir.bytes("out.jsonl").is_empty(), "a row without its state");
}

/// Groups whose alert fires and is resolved in the test of kills.
const GROUPS: u32 = 120;

/// Writes events, rules and a channel; returns the receiver and the arguments of a run.
fn with_many_pages(dir: &Dir, receiver: &Receiver) -> Vec<String> {
    let errors = |n: u32| {
        let (from, source) = (2.0 * f64::from(n), format!("s{n}"));
        series(from, from + 12.0, 1.0, &json!({"event_type": "error", "source": source}))
    };
    let mut all: Vec<_> = (0..GROUPS).map(errors).collect();
    all.push(series(0.0, 290.0, 0.1, &json!({})));
    dir.write("in.jsonl", lines(&all));
    let burst = json!({
        "where": "event_type = 'error'", "by": ["source"], "threshold": 5, "window_seconds": 10, "keep_firing_for": 0,
        "notification_channel": "hook",
    });
    dir.write("rules.json", rules(&[rule(&burst)]));
    dir.write("channels.toml", webhook(receiver, "rate = \"100000/s\""));
    let now = at(290.0);
    let args = ["-q", "--once", "--now", &now, "--rules", "rules.json", "--state", "alerts.db", "--to", "out.jsonl"];
    [&args[..], &NOTIFY, &["in.jsonl"]].concat().into_iter().map(str::to_owned).collect()
}

/// The keys of the requests so far.
fn keys(receiver: &Receiver) -> Vec<String> {
    receiver.posted().iter().map(|posted| posted.key().to_owned()).collect()
}

/// Runs evt-alert, which sends for ten seconds at most, until all pages are sent; returns the number of runs.
fn send_rest(dir: &Dir, args: &[String], receiver: &Receiver) -> u32 {
    let mut runs = 0;
    eventually_within(LONG_WAIT, "all pages are sent", || {
        let sent: BTreeSet<String> = keys(receiver).into_iter().collect();
        let is_done = sent.len() as u32 >= 2 * GROUPS;
        if !is_done {
            dir.run("evt-alert", args);
            runs += 1;
        }
        is_done
    });
    runs
}

/// Returns a receiver that fails now and then, and a limit: a request whose number is greater waits until it is raised.
fn limited() -> (Receiver, Arc<AtomicUsize>) {
    let limit = Arc::new(AtomicUsize::new(0));
    let last = limit.clone();
    let receiver = Receiver::new(move |_, before| {
        while before > last.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        match before % 41 {
            5 => Reply::Drop,
            23 => Reply::Status(503),
            _ => Reply::Status(200),
        }
    });
    (receiver, limit)
}

/// Kills at random moments, most of them between the first page and the last: each page is sent, under one key, and the
/// resolve of an alert after its firing.
#[test]
fn a_run_that_is_killed_while_it_sends_pages_loses_none() {
    let calm = Dir::new("alert-pages-calm");
    let all = Receiver::new(|_, _| Reply::Status(200));
    let args = with_many_pages(&calm, &all);
    calm.run("evt-alert", &args).ends_with(1);
    let repeats = send_rest(&calm, &args, &all);
    let expected: BTreeSet<String> = keys(&all).into_iter().collect();
    assert_eq!(expected.len() as u32, 2 * GROUPS);
    // A run that ends after ten seconds may leave one attempt to the next run.
    assert!(all.count() as u32 <= 2 * GROUPS + repeats, "{} requests of {repeats} further runs", all.count());
    let dir = Dir::new("alert-pages-killed");
    let (receiver, limit) = limited();
    let args = with_many_pages(&dir, &receiver);
    let (mut draws, mut kills) = (Draws::new(), 0);
    for _ in 0..30 {
        let mut run = dir.command("evt-alert", &args).spawn().expect("it starts");
        let until = receiver.count() as u64 + draws.below(12);
        // A run gets at most 15 answers: 11 that the test waits for, and four more. So it takes more than 15 runs to
        // send all pages, and each of them but the last is alive when the kill comes.
        limit.store(until as usize + 3, Ordering::SeqCst);
        eventually("it sends pages, or has ended", || {
            receiver.count() as u64 >= until || run.try_wait().expect("a child").is_some()
        });
        // A little later, so that the kill comes at any point of an attempt.
        std::thread::park_timeout(Duration::from_micros(draws.below(5_000)));
        run.kill().expect("a child");
        kills += u32::from(ended("the run", &mut run) == 137);
    }
    assert!(kills >= 15, "{draws}: {kills} kills");
    limit.store(usize::MAX, Ordering::SeqCst);
    dir.run("evt-alert", &args);
    let repeats = send_rest(&dir, &args, &receiver);
    let sent = keys(&receiver);
    assert_eq!(sent.iter().cloned().collect::<BTreeSet<_>>(), expected, "{draws}");
    let first = |key: &str| sent.iter().position(|one| one == key);
    for firing in expected.iter().filter(|key| key.ends_with(".firing")) {
        assert!(first(firing) < first(&firing.replace(".firing", ".resolved")), "{draws}: {firing}");
    }
    // A page is repeated after an attempt that failed, or that a kill or the end of a run has hidden.
    let most = expected.len() + sent.len() * 2 / 41 + 2 + (kills + repeats) as usize;
    assert!(sent.len() <= most, "{draws}: {} requests, expected at most {most}", sent.len());
}
