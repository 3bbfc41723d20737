//! `--check` of PostgreSQL and Redis finds what would refuse the tables or rows of a run, and writes nothing.

use crate::harness::{Dir, Run, eventually};
use crate::servers::{postgres, psql, redis, server};
use std::process::{Child, Stdio};

/// A user of PostgreSQL with a schema, which is removed at the end with all that the user owns.
pub struct User {
    dir: Dir,
    /// The URI of the administrator.
    pub admin: String,
    /// The name of the user, of the schema, and the password.
    pub name: String,
    /// The output in the schema, as this user.
    pub to: String,
}

impl User {
    /// Makes a user who may do what `attributes` say, and a schema that belongs to the administrator.
    pub fn new(name: &str, attributes: &str) -> Option<Self> {
        let (_, admin, room) = postgres()?;
        let (_, host) = admin.rsplit_once('@')?;
        let to = format!("postgres://{room}:{room}@{host}?schema={room}");
        let user = Self { dir: Dir::new(name), to, name: room, admin: admin.clone() };
        let User { name, .. } = &user;
        user.sql(&format!("CREATE ROLE {name} LOGIN {attributes} PASSWORD '{name}'; CREATE SCHEMA {name}"));
        user.dir.write("in.jsonl", "{\"source\":\"s\",\"event_type\":\"t\",\"event_time\":\"2026-01-01T00:00:00Z\"}\n");
        Some(user)
    }

    /// Runs statements of the administrator in the schema.
    pub fn sql(&self, sql: &str) -> String {
        psql(&self.dir, &self.admin, &self.name, sql)
    }

    /// Makes the tables of evt, which belong to the administrator.
    pub fn make_tables(&self) {
        let to = format!("{}?schema={}", self.admin, self.name);
        self.dir.run("evt-ingest", &["-q", "in.jsonl", "--origin", "first", "--to", &to]).succeeds();
    }

    /// Runs evt-ingest with `flags`.
    fn ingest(&self, flags: &[&str]) -> Run {
        self.dir.run("evt-ingest", &[&["-q", "in.jsonl"], flags].concat())
    }

    /// Asserts that a check and a run end with the same status, and that the check says `cause`.
    #[track_caller]
    fn assert_refused(&self, to: &str, status: i32, cause: &str) {
        let check = self.ingest(&["--check", "--to", to]).ends_with(status);
        assert!(check.stderr().contains(cause) && check.text() == "in.jsonl: ready\n", "{check}");
        self.ingest(&["--to", to]).ends_with(status);
    }

    /// Asserts that a check and a run succeed.
    #[track_caller]
    fn assert_ready(&self, flags: &[&str]) {
        self.ingest(&[&["--check"], flags].concat()).succeeds();
        self.ingest(flags).succeeds();
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let User { name, admin, .. } = self;
        let sql = format!("DROP SCHEMA {name} CASCADE; DROP OWNED BY {name}; DROP ROLE {name}");
        // A failure must not hide that of the test.
        _ = self.dir.command("psql", &["--no-psqlrc", "-qAt", "-c", &sql, admin]).stderr(Stdio::null()).status();
    }
}

#[test]
fn a_check_finds_that_a_database_is_read_only_for_the_user() {
    let Some(user) = User::new("check-read-only", "SUPERUSER") else { return };
    user.make_tables();
    user.sql(&format!("ALTER ROLE {} SET default_transaction_read_only = on", user.name));
    user.assert_refused(&format!("{}&retry=1s", user.to), 69, "unavailable: transactions are read-only");
}

#[test]
fn a_check_finds_that_a_user_may_only_read_the_tables() {
    let Some(user) = User::new("check-select", "") else { return };
    let name = &user.name;
    user.make_tables();
    user.sql(&format!("GRANT USAGE ON SCHEMA {name} TO {name}; GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {name}"));
    user.assert_refused(&user.to, 78, "expected the privilege INSERT on table ");
    let to = "sqlite:d.db".to_owned();
    let letters = user.ingest(&["--check", "--to", &to, "--dlq", &user.to]).ends_with(78);
    assert!(letters.stderr().contains("INSERT on table dead_letters, found none"), "{letters}");
    let metrics = ["--check", "in.jsonl", "--time", "event_time", "--size", "1m", "--to", &user.to];
    let metrics = user.dir.run("evt-window", &metrics).ends_with(78);
    assert!(metrics.stderr().contains("INSERT on table aggregated_metrics, found none"), "{metrics}");
    // These privileges are all that rows whose keys are new need.
    user.sql(&format!("GRANT INSERT ON raw_events TO {name}"));
    user.assert_ready(&["--to", &user.to, "--origin", "new"]);
    assert_eq!(user.sql("SELECT count(*) FROM raw_events"), "2\n");
}

/// A run with a checkpoint records its epochs, and a correction itself and what it read.
#[test]
fn a_check_finds_that_a_user_may_not_change_the_tables_of_epochs_and_corrections() {
    let Some(user) = User::new("check-own-tables", "") else { return };
    let (name, dir, to) = (&user.name, &user.dir, &user.to);
    user.make_tables();
    user.sql(&format!(
        "GRANT USAGE ON SCHEMA {name} TO {name};
        GRANT SELECT ON evt_migrations, raw_events TO {name};
        GRANT SELECT, INSERT, UPDATE, DELETE ON aggregated_metrics, metric_retractions TO {name}"
    ));
    dir.write("m.toml", "[[metric]]\nname = \"n\"\nsize = \"1m\"\n");
    let lines = [
        "evt-window -q in.jsonl --time event_time -m m.toml --late null: --checkpoint state --to",
        "evt-backfill -q in.jsonl --time event_time -m m.toml --to",
    ];
    let both = |line: &str, status: i32| {
        let said = ["--check", ""].map(|check| dir.shell(&format!("{line} '{to}' {check}")).ends_with(status).stderr());
        said.into_iter().next().unwrap_or_default()
    };
    let tables = ["checkpoint_epochs", "pipeline_checkpoints", "metric_progress", "corrections"];
    for (line, table) in [lines[0], lines[0], lines[0], lines[1]].into_iter().zip(tables) {
        for missing in ["SELECT", "INSERT", "UPDATE"] {
            user.sql(&format!(
                "GRANT SELECT, INSERT, UPDATE ON {table} TO {name}; REVOKE {missing} ON {table} FROM {name}"
            ));
            let said = both(line, 78);
            assert!(said.contains(&format!("expected the privilege {missing} on table {table}, found none")), "{said}");
        }
        user.sql(&format!("GRANT SELECT, INSERT, UPDATE ON {table} TO {name}"));
        if table == "metric_progress" {
            // A writer need not read corrections.
            both(lines[0], 0);
        }
    }
    let said = both(lines[1], 78);
    assert!(said.contains("expected the privilege SELECT on table corrected_cells, found none"), "{said}");
    user.sql(&format!("GRANT SELECT, INSERT, DELETE ON corrected_cells, late_positions TO {name}"));
    both(lines[1], 0);
    // A reader needs the table that it names, and no other.
    user.sql(&format!("REVOKE ALL ON ALL TABLES IN SCHEMA {name} FROM {name}"));
    user.sql(&format!("GRANT SELECT ON raw_events, evt_migrations TO {name}"));
    for check in ["--check", ""] {
        dir.shell(&format!("evt-view -q '{to}&table=raw_events' {check}")).succeeds();
    }
    let refused = dir.run("evt-view", &["-q", &format!("{to}&table=aggregated_metrics"), "--check"]).ends_with(78);
    assert!(refused.stderr().contains("permission denied for table aggregated_metrics"), "{refused}");
}

#[test]
fn a_check_finds_that_a_user_may_not_create_the_tables() {
    let Some(user) = User::new("check-create", "") else { return };
    let name = &user.name;
    let ledger = |status: i32| {
        let flags = ["--check", "in.jsonl", "--to", "o.jsonl", "--ledger", &user.to];
        user.dir.run("evt-replay", &flags).ends_with(status).stderr()
    };
    user.sql(&format!("GRANT USAGE ON SCHEMA {name} TO {name}"));
    user.assert_refused(&user.to, 78, "expected the privilege CREATE on the database");
    assert!(ledger(78).contains("expected the privilege CREATE on the database"));
    user.sql(&format!("GRANT CREATE ON DATABASE {} TO {name}", database(&user.admin)));
    user.assert_refused(&user.to, 78, &format!("expected the privilege CREATE on schema {name}, found none"));
    assert!(ledger(78).contains("expected the privilege CREATE on schema"));
    user.sql(&format!("GRANT CREATE ON SCHEMA {name} TO {name}"));
    assert_eq!(ledger(0), "");
    user.assert_ready(&["--to", &user.to]);
    assert_eq!(ledger(0), "");
}

/// Returns the database of a URI.
fn database(uri: &str) -> &str {
    uri.rsplit_once('/').expect("a path").1
}

#[test]
fn a_check_finds_a_table_of_another_program() {
    let Some(user) = User::new("check-foreign", "SUPERUSER") else { return };
    user.sql("CREATE TABLE raw_events (id INT)");
    user.assert_refused(&user.to, 78, "rejected: raw_events exists already, and evt did not create it");
    user.sql("DROP TABLE raw_events; CREATE VIEW late_events AS SELECT 1");
    user.assert_refused(&user.to, 78, "late_events exists already");
    user.sql("DROP VIEW late_events; CREATE TABLE alert_rules (name TEXT)");
    user.assert_ready(&["--to", &user.to]);
    user.sql("ALTER TABLE aggregated_metrics RENAME value TO v");
    let metrics = ["--check", "in.jsonl", "--time", "event_time", "--size", "1m", "--to", &user.to];
    let metrics = user.dir.run("evt-window", &metrics).ends_with(78);
    assert!(metrics.stderr().contains("expected column value in table aggregated_metrics, found none"), "{metrics}");
    user.sql("DROP TABLE aggregated_metrics");
    let metrics = ["--check", "in.jsonl", "--time", "event_time", "--size", "1m", "--to", &user.to];
    let metrics = user.dir.run("evt-window", &metrics).ends_with(78);
    assert!(metrics.stderr().contains("table aggregated_metrics does not exist"), "{metrics}");
    user.assert_ready(&["--to", &user.to]);
}

#[test]
fn tables_that_an_older_evt_created_are_not_those_of_another_program() {
    let Some(user) = User::new("check-older", "SUPERUSER") else { return };
    user.make_tables();
    // The steps from 008 on were not done.
    user.sql("DELETE FROM evt_migrations WHERE name > '008'; DROP TABLE checkpoint_epochs, corrections, corrected_cells, late_positions, metric_progress");
    user.ingest(&["--check", "--to", &user.to]).succeeds();
}

#[test]
fn a_check_finds_that_a_schema_has_a_name_that_the_server_reserves() {
    let Some(user) = User::new("check-reserved", "SUPERUSER") else { return };
    user.assert_refused(&user.to.replace("?schema=", "?schema=pg_"), 78, "found a name that begins with pg_");
}

#[test]
fn a_check_finds_that_a_table_of_an_input_is_unknown_or_holds_other_rows() {
    let dir = Dir::new("check-tables");
    let uris = [postgres().map(|(_, uri, schema)| format!("{uri}?schema={schema}&"))];
    let uris = uris.into_iter().chain([redis().map(|(_, uri, prefix)| format!("{uri}?prefix={prefix}&"))]);
    for uri in uris.flatten() {
        dir.write("in.jsonl", "{\"event_time\":\"2026-01-01T00:00:00Z\"}\n");
        let to = uri.trim_end_matches('&');
        dir.run("evt-window", &["-q", "in.jsonl", "--time", "event_time", "--size", "1m", "--to", to]).succeeds();
        let (unknown, metrics) = (format!("{uri}table=nosuch"), format!("{uri}table=aggregated_metrics"));
        let window = ["evt-window", &metrics, "--size", "1m", "--to", "s.jsonl"];
        for (line, cause) in
            [(&["evt-view", &unknown][..], "unknown table"), (&window, "expected events, found rows of kind metric")]
        {
            for check in [&["--check"][..], &[]] {
                let run = dir.run(line[0], &[&line[1..], check].concat()).ends_with(2);
                assert!(run.stderr().contains(cause), "{run}");
            }
        }
        dir.run("evt-view", &[metrics.as_str(), "--check"]).succeeds();
        dir.run("evt-view", &[to, "--check"]).succeeds();
    }
}

/// Metrics in `m.arrows`, and the URI of the same server and prefix as user `name`.
fn metrics_for(dir: &Dir, uri: &str, prefix: &str, name: &str) -> String {
    dir.write("in.jsonl", "{\"event_time\":\"2026-01-01T00:00:00Z\"}\n");
    dir.shell("evt-window -q in.jsonl --time event_time --size 1m > m.arrows").succeeds();
    let (_, host) = uri.split_once("://").expect("a URI");
    let host = host.rsplit('@').next().expect("a host");
    format!("redis://{name}:pw@{host}?prefix={prefix}&retry=1s")
}

#[test]
fn a_check_finds_what_a_user_of_redis_may_not_do() {
    let Some((_, uri, prefix)) = redis() else { return };
    let dir = Dir::new("check-redis-user");
    let name = prefix.trim_end_matches(':');
    let to = metrics_for(&dir, &uri, &prefix, name);
    let cli = |args: &[&str]| dir.run("redis-cli", &[&["-u", uri.as_str()], args].concat()).succeeds().text();
    let sink = |flags: &[&str], status: i32| {
        dir.run("evt-sink", &[&["-q", "m.arrows", "--to", &to], flags].concat()).ends_with(status).stderr()
    };
    let all_keys = "~*".to_owned();
    let other_keys = format!("~{prefix}alert:*");
    for (keys, rights, cause) in [
        (&all_keys, &["+@read"][..], "script|load"),
        (&all_keys, &["+@all", "-script"], "script|load"),
        (&all_keys, &["+@all", "-evalsha"], "evalsha"),
        (&all_keys, &["+@all", "-zadd"], "zadd"),
        (&other_keys, &["+@read"], "script|load"),
    ] {
        cli(&[&["ACL", "SETUSER", name, "reset", "on", ">pw", keys], rights].concat());
        let said = sink(&["--check"], 78);
        assert!(said.contains("rejected: NOPERM") && said.contains(cause), "{said}");
        sink(&[], 78);
    }
    // The kind of the rows is not known, and alerts could be written.
    cli(&["ACL", "SETUSER", name, "reset", "on", ">pw", &other_keys, "+@all"]);
    sink(&["--check"], 0);
    let window = ["--check", "in.jsonl", "--time", "event_time", "--size", "1m", "--to", &to];
    let said = dir.run("evt-window", &window).ends_with(78).stderr();
    assert!(said.contains("rejected: NOPERM") && said.contains("access one of the keys"), "{said}");
    // Neither INFO nor ACL is needed.
    let own_keys = format!("~{prefix}*");
    let needed = ["+@scripting", "+@read", "+@write", "+time", "-info", "-acl"];
    cli(&[&["ACL", "SETUSER", name, "reset", "on", ">pw", &own_keys], &needed[..]].concat());
    // Runs that were refused in the middle may have written a row.
    let keys = || cli(&["KEYS", &format!("{prefix}*")]);
    let before = keys();
    assert_eq!(sink(&["--check"], 0), "");
    assert_eq!(keys(), before, "the check wrote nothing");
    sink(&[], 0);
    assert_eq!(sink(&["--check"], 0), "");
    cli(&["ACL", "DELUSER", name]);
}

/// A server of Redis for one test, which is a replica of a server that does not exist.
struct Replica {
    process: Child,
    uri: String,
}

impl Replica {
    fn start(dir: &Dir) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        let (port, home) = (port.to_string(), dir.path("."));
        let home = home.to_str().expect("UTF-8");
        let flags = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir", home, "--replicaof", "127.0.0.1 1"];
        let process = dir.command("redis-server", &flags).stdout(Stdio::null()).spawn().expect("it starts");
        let replica = Self { process, uri: format!("redis://127.0.0.1:{port}/0") };
        eventually("the replica answers", || {
            dir.run("redis-cli", &["-u", &replica.uri, "PING"]).text().contains("PONG")
        });
        replica
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It may have ended.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

#[test]
fn a_check_finds_that_a_server_of_redis_is_a_read_only_replica() {
    if server("EVT_REDIS").is_none() {
        return;
    }
    let dir = Dir::new("check-redis-replica");
    let replica = Replica::start(&dir);
    metrics_for(&dir, &replica.uri, "", "unused");
    let to = format!("{}?retry=1s", replica.uri);
    for flags in [&["--check"][..], &[]] {
        let run = dir.run("evt-sink", &[&["-q", "m.arrows", "--to", &to], flags].concat()).ends_with(69);
        assert!(run.stderr().contains("READONLY"), "{run}");
    }
    let set = ["-u", &replica.uri, "CONFIG", "SET", "replica-read-only", "no"];
    dir.run("redis-cli", &set).succeeds();
    dir.run("evt-sink", &["-q", "m.arrows", "--to", &to, "--check"]).succeeds();
}
