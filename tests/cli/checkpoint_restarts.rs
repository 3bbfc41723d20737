//! `--checkpoint` and a database that is restarted between the entry of an epoch and the end of its transaction.

use crate::broker::Broker;
use crate::checkpoint::{Job, generated};
use crate::harness::{Dir, ended, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use tempfile::TempDir;

/// A server of this test only.
struct Database {
    dir: Dir,
    server: Broker,
    uri: String,
    /// The directory of the server, which goes after it.
    _state: TempDir,
}

impl Database {
    /// Starts it; `None`, if there is no server for tests at all.
    fn start() -> Option<Self> {
        crate::servers::server("EVT_POSTGRES")?;
        let dir = Dir::new("restarted-postgres");
        // The user of the server cannot reach every directory of builds.
        let state = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(state.path(), Permissions::from_mode(0o755)).expect("it is ours");
        let server = Broker { state: state.path().join("services"), name: "postgres" };
        let uri = server.start();
        Some(Self { dir, server, uri, _state: state })
    }

    fn ask(&self, sql: &str) -> String {
        self.dir.run("psql", &["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", sql, &self.uri]).succeeds().text()
    }

    /// Lets a client hold a lock until the server goes: a transaction of an epoch waits for it.
    fn lock_rows(&self) -> Child {
        let sql = "BEGIN; LOCK TABLE aggregated_metrics IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3600)";
        let mut command = self.dir.command("psql", &["--no-psqlrc", "-qAt", "-c", sql, &self.uri]);
        let client = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let locks = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted \
                     AND relation = 'aggregated_metrics'::regclass";
        eventually("the table is locked", || self.ask(locks).trim() == "1");
        client.expect("it starts")
    }

    /// Whether a transaction waits for the lock.
    fn has_waiter(&self) -> bool {
        self.ask("SELECT count(*) FROM pg_locks WHERE NOT granted").trim() != "0"
    }

    fn rows(&self) -> Vec<String> {
        let columns = "metric_name, extract(epoch FROM window_start)::bigint, dimensions, value, \"rows\"";
        let mut rows: Vec<String> = self
            .ask(&format!("SELECT row_to_json(found) FROM (SELECT {columns} FROM aggregated_metrics) AS found"))
            .lines()
            .map(str::to_owned)
            .collect();
        rows.sort();
        rows
    }
}

#[test]
fn an_epoch_is_in_postgres_once_although_the_server_or_all_restart_before_its_transaction_ends() {
    let Some(database) = Database::start() else { return };
    let files = ["a.jsonl", "b.jsonl"];
    // A run has one epoch, at its end.
    let flags = ["--checkpoint-every", "1h", "--dlq", "null:", "--late", "null:", "--to", &database.uri];
    let job = Job::new("postgres-restarted", &flags);
    let events = generated(&job.dir, 8_000);
    let mut left = events.split_inclusive(|byte| *byte == b'\n');
    for file in files {
        job.dir.write(file, left.by_ref().take(4_000).collect::<Vec<_>>().concat());
    }
    // The undisturbed rows.
    job.run(&["-q", "--at-end", "fire", "a.jsonl", "b.jsonl"]).succeeds();
    let expected = database.rows();
    assert!(expected.len() > 500, "{}", expected.len());
    for is_killed in [false, true] {
        database.ask("TRUNCATE aggregated_metrics, checkpoint_epochs, pipeline_checkpoints");
        std::fs::remove_dir_all(job.dir.path("state")).expect("a checkpoint");
        job.run(&["-q", "a.jsonl"]).succeeds();
        let (mut client, before) = (database.lock_rows(), job.place.entries());
        let mut run = job.start(&["-q", "--at-end", "fire", "b.jsonl"]);
        eventually("the epoch is complete and its transaction waits", || {
            job.place.entries() >= before + 2 && database.has_waiter()
        });
        if is_killed {
            kill_process(Pid::from_child(&run), Signal::KILL).expect("it runs");
        }
        database.server.services(&["kill", "postgres"]);
        client.wait().expect("it ends");
        database.server.start();
        let status = ended("the run", &mut run);
        assert_eq!(status, if is_killed { 137 } else { 0 });
        if is_killed {
            job.run(&["-q", "--at-end", "fire", "/dev/null"]).succeeds();
        }
        let found = database.rows();
        assert!(found == expected, "{is_killed}: expected {} rows, found {}", expected.len(), found.len());
        let epochs = database.ask("SELECT count(*) FROM checkpoint_epochs");
        assert_eq!(epochs.trim(), "1", "{is_killed}");
    }
}
