//! What a failed run with `--ack memory` reports as lost: the acknowledged records that the output does not have.

use crate::check_servers::User;
use crate::harness::{Dir, eventually};
use crate::isolation::{Transaction, await_waiting};
use crate::listener::Listener;
use rusqlite::Connection;

#[track_caller]
fn post(listener: &Listener, n: usize) {
    let answer = listener.json(&format!("{{\"source\":\"s\",\"event_type\":\"t\",\"n\":{n}}}"));
    assert_eq!(answer.status, 200, "{answer:?}");
}

const ONE: &str = "evt-ingest: 1 acknowledged record was not confirmed by every output and is lost (--ack memory)\n";

#[test]
fn acknowledged_events_of_a_batch_that_an_output_rejects_are_counted_as_lost() {
    let Some(user) = User::new("lost-rejected", "") else { return };
    let (dir, name) = (Dir::new("lost-rejected-runs"), &user.name);
    user.make_tables();
    user.sql(&format!("GRANT USAGE ON SCHEMA {name} TO {name}; GRANT ALL ON ALL TABLES IN SCHEMA {name} TO {name}"));
    let listener = Listener::open(&dir, &["-q", "--ack", "memory", "--to", &user.to]);
    post(&listener, 1);
    eventually("the first event is stored", || user.sql("SELECT count(*) FROM raw_events") == "2\n");
    let revoke = format!("LOCK TABLE raw_events; REVOKE INSERT ON raw_events FROM {name}; SELECT 1");
    let transaction = Transaction::begin(&dir, &user, &revoke);
    post(&listener, 2);
    await_waiting(&user, 1);
    (3..6).for_each(|n| post(&listener, n));
    transaction.commit();
    let (ended, said) = listener.wait();
    let lost = "evt-ingest: 4 acknowledged records were not confirmed by every output and are lost (--ack memory)\n";
    assert!(ended == 78 && said.contains("permission denied") && said.contains(lost), "{ended}: {said}");
    assert_eq!(user.sql("SELECT count(*) FROM raw_events"), "2\n");
}

#[test]
fn acknowledged_events_that_a_database_cannot_store_are_counted_as_lost() {
    for outputs in [&["--to", "sqlite:o.db"][..], &["--to", "o.jsonl", "--to", "sqlite:o.db"]] {
        let dir = Dir::new("lost-sqlite");
        let listener = Listener::open(&dir, &[&["-q", "--ack", "memory"], outputs].concat());
        post(&listener, 1);
        let count = |db: &Connection| db.query_row("SELECT count(*) FROM raw_events", [], |row| row.get::<_, i64>(0));
        eventually("the first event is stored", || {
            dir.path("o.db").exists()
                && Connection::open(dir.path("o.db")).is_ok_and(|db| count(&db).is_ok_and(|count| count == 1))
        });
        let db = Connection::open(dir.path("o.db")).expect("a database");
        db.busy_timeout(std::time::Duration::from_secs(60)).expect("a setting");
        db.execute_batch("ALTER TABLE raw_events RENAME TO events_of_before").expect("SQL");
        post(&listener, 2);
        let (ended, said) = listener.wait();
        assert!(ended != 0 && said.contains(ONE), "{ended}: {said}");
    }
}

/// A file that is replaced at the end of a run is removed if the run fails.
#[test]
fn acknowledged_events_in_a_file_that_a_failed_run_removes_are_counted_as_lost() {
    let dir = Dir::new("lost-file");
    let outputs = ["--to", "o.parquet", "--to", "sqlite:o.db"];
    let listener = Listener::open(&dir, &[&["-q", "--ack", "memory"], &outputs[..]].concat());
    post(&listener, 1);
    let is_stored = || {
        let db = Connection::open(dir.path("o.db")).ok()?;
        db.query_row("SELECT count(*) FROM raw_events", [], |row| row.get::<_, i64>(0)).ok()
    };
    eventually("the first event is stored", || dir.path("o.db").exists() && is_stored() == Some(1));
    let db = Connection::open(dir.path("o.db")).expect("a database");
    db.busy_timeout(std::time::Duration::from_secs(60)).expect("a setting");
    db.execute_batch("DROP TABLE raw_events").expect("SQL");
    post(&listener, 2);
    let (ended, said) = listener.wait();
    let lost = "evt-ingest: 2 acknowledged records were not confirmed by every output and are lost (--ack memory)\n";
    assert!(ended != 0 && said.contains(lost), "{ended}: {said}");
    assert!(!dir.path("o.parquet").exists());
}
