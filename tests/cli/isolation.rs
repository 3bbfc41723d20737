//! Databases whose transactions have one snapshot by default: evt asks for the level that its statements need.

use crate::check_servers::User;
use crate::harness::{Dir, eventually, status};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

const LEVELS: [&str; 2] = ["repeatable read", "serializable"];

/// A user whose transactions have `level` by default.
fn user(name: &str, level: &str) -> Option<User> {
    let user = User::new(name, "SUPERUSER")?;
    user.sql(&format!("ALTER ROLE {} SET default_transaction_isolation = '{level}'", user.name));
    Some(user)
}

/// A transaction of another program, which holds locks until it is dropped.
pub struct Transaction(Child);

impl Transaction {
    /// Begins it with a statement that returns one row.
    pub fn begin(dir: &Dir, user: &User, sql: &str) -> Self {
        let mut command = dir.command("psql", &["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", &user.admin]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let line = format!("SET search_path = {}; BEGIN; {sql};\n", user.name);
        child.stdin.as_mut().expect("piped").write_all(line.as_bytes()).expect("it reads");
        let mut answer = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut answer).expect("text");
        assert!(answer.ends_with('\n'), "{sql}: it has ended");
        Self(child)
    }

    pub fn commit(mut self) {
        self.0.stdin.as_mut().expect("piped").write_all(b"COMMIT;\n").expect("it reads");
        drop(self.0.stdin.take());
        assert!(self.0.wait().expect("it ends").success());
    }
}

/// Waits until `count` sessions of `user` wait for a lock.
pub fn await_waiting(user: &User, count: usize) {
    let sql =
        format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}' AND wait_event_type = 'Lock'", user.name);
    eventually("all wait for the lock", || user.sql(&sql).trim() == count.to_string());
}

#[test]
fn stages_that_start_at_once_make_the_tables_once_whatever_the_isolation_of_the_database_is() {
    for level in LEVELS {
        let Some(user) = user("isolation-start", level) else { return };
        let dir = Dir::new("isolation-start-runs");
        dir.write("in.jsonl", "{\"event_time\":\"2026-01-01T00:00:00Z\"}\n");
        // The key of the lock under which the tables are made.
        let lock = i64::from_be_bytes(*b"evt_migr");
        let transaction = Transaction::begin(&dir, &user, &format!("SELECT pg_advisory_xact_lock({lock})"));
        let start = |origin: usize| {
            let origin = format!("o{origin}");
            let args = ["-q", "in.jsonl", "--origin", &origin, "--to", &user.to];
            dir.command("evt-ingest", &args).stderr(Stdio::piped()).spawn().expect("it starts")
        };
        let children: Vec<Child> = (0..3).map(start).collect();
        await_waiting(&user, children.len());
        transaction.commit();
        for child in children {
            let ended = child.wait_with_output().expect("it ends");
            assert_eq!(status(ended.status), 0, "{level}: {}", String::from_utf8_lossy(&ended.stderr));
        }
        assert_eq!(user.sql("SELECT count(*) FROM raw_events"), "3\n", "{level}");
    }
}

#[test]
fn runs_with_one_ledger_wait_for_each_other_whatever_the_isolation_of_the_database_is() {
    for level in LEVELS {
        let Some(user) = user("isolation-ledger", level) else { return };
        let dir = Dir::new("isolation-ledger-runs");
        dir.write("in.jsonl", "{\"source\":\"a\",\"server_timestamp\":\"yesterday\"}\n");
        dir.write("good.jsonl", "{\"server_timestamp\":\"2026-01-01\"}\n");
        dir.shell("evt-ingest -q good.jsonl in.jsonl --dlq dead.jsonl --to null:").succeeds();
        dir.shell("sed 's/yesterday/2026-01-01T00:00:00Z/' dead.jsonl > repaired.jsonl").succeeds();
        let args = ["repaired.jsonl", "--ledger", &user.to, "--to", "replayed.jsonl"];
        dir.run("evt-replay", &args).succeeds();
        let change = "UPDATE replay_targets SET owner = 'another' RETURNING 1";
        let transaction = Transaction::begin(&dir, &user, change);
        let child = dir.command("evt-replay", &args).stderr(Stdio::piped()).spawn().expect("it starts");
        await_waiting(&user, 1);
        transaction.commit();
        let ended = child.wait_with_output().expect("it ends");
        assert_eq!(status(ended.status), 0, "{level}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}
