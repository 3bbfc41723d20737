//! Dead letters of evt-alert with a state, while outputs are away and the run is killed.

use crate::alert::{event, rule, rules};
use crate::harness::{Dir, eventually};
use rusqlite::Connection;
use serde_json::json;
use std::io::Write;
use std::process::Stdio;

/// The number of letters in the state, which have one line each.
const KEPT: &str =
    "SELECT coalesce(sum(length(letters) - length(replace(letters, 'broken', 'broke'))), 0) FROM unwritten_letters";

/// An output that does not answer delays the letters behind its rows. The state passes their records meanwhile.
#[test]
fn letters_that_wait_for_an_output_are_written_by_the_next_run() {
    let dir = Dir::new("alert-letters-kept");
    dir.write("rules.json", rules(&[rule(&json!({"window_seconds": 1, "by": "user_id"}))]));
    let args = ["-q", "-f", "jsonl", "-", "--rules", "rules.json", "--state", "alerts.db", "--dlq", "dead.jsonl"];
    let start = || {
        let mut command = dir.command("evt-alert", &[&args[..], &["--to", "sqlite:out.db?wait=60s"]].concat());
        command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts")
    };
    let good = |second: u32| event(f64::from(second), &json!({"user_id": second.to_string()}));
    let count = |file: &str, query: &str| {
        let db = Connection::open(dir.path(file)).expect("it opens");
        db.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap_or(0)
    };
    let mut run = start();
    let mut stdin = run.stdin.take().expect("a pipe");
    (0..5).for_each(|second| stdin.write_all(good(second).as_bytes()).expect("it reads"));
    eventually("an alert is written", || count("out.db", "SELECT count(*) FROM alerts") > 0);
    let lock = Connection::open(dir.path("out.db")).expect("it opens");
    eventually("the output is locked", || lock.execute_batch("BEGIN EXCLUSIVE").is_ok());
    (5..10).for_each(|second| stdin.write_all(good(second).as_bytes()).expect("it reads"));
    let waits = r#"SELECT count(*) FROM unconfirmed WHERE alert LIKE '%"user_id":"6"%'"#;
    eventually("an alert waits", || count("alerts.db", waits) > 0);
    for second in 10..15 {
        let (before, behind) = (good(2 * second - 10), good(2 * second - 9));
        write!(stdin, "{before}broken {second}\n{behind}").expect("it reads");
    }
    eventually("the state has the letters", || count("alerts.db", KEPT) == 5);
    run.kill().expect("it runs");
    run.wait().expect("it ends");
    drop(lock);
    let mut run = start();
    run.stdin.take().expect("a pipe").write_all(good(40).as_bytes()).expect("it reads");
    assert!(run.wait().expect("it ends").success());
    let mut payloads: Vec<_> = dir.rows("dead.jsonl").iter().map(|row| row["original_payload"].to_string()).collect();
    payloads.sort();
    assert_eq!(payloads, (10..15).map(|second| format!("\"broken {second}\"")).collect::<Vec<_>>());
    assert_eq!(count("alerts.db", "SELECT count(*) FROM unwritten_letters"), 0);
    assert_eq!(count("out.db", "SELECT count(DISTINCT alert_id) FROM alerts WHERE state = 'firing'"), 20);
}
