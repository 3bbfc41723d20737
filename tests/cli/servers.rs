//! Redis and Postgres through the binaries: rows as their own clients read them, and restarts in the middle of a write.

use crate::harness::{Dir, ROOT, Run, in_ci};
use serde_json::Value;
use std::sync::atomic::{AtomicU32, Ordering};

/// The URI of a server; `None`, with one message, if there is none. CI requires one.
pub fn server(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok();
    if found.is_none() {
        assert!(!in_ci(), "{variable} is not set (scripts/services)");
        eprintln!("skipped: {variable} is not set (scripts/services)");
    }
    found
}

/// A unique name on the server.
fn room() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("evt_cli_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A unique prefix in Redis, and the URI of the output.
pub fn redis() -> Option<(String, String, String)> {
    let (uri, room) = (server("EVT_REDIS")?, room());
    Some((format!("{uri}?prefix={room}:"), uri, format!("{room}:")))
}

/// A unique schema in Postgres.
pub fn postgres() -> Option<(String, String, String)> {
    let (uri, room) = (server("EVT_POSTGRES")?, room());
    Some((format!("{uri}?schema={room}"), uri, room))
}

pub fn psql(dir: &Dir, uri: &str, schema: &str, sql: &str) -> String {
    let sql = format!("SET search_path = {schema}; {sql}");
    dir.run("psql", &["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", &sql, uri]).succeeds().text()
}

/// Names and values with everything that could end a key, a tag, a line or a string.
const NASTY: &str = "[[metric]]\nname = \"a:b{c} d%'\\\"\"\naggregate = \"count(*)\"\nby = [\"path\"]\nsize = \"1m\"\n";

fn nasty_events() -> String {
    let path = |n: usize| [r"x:{y}", r"\n\r\n$1\r\nx", r"' OR 1=1 --", r#"}{:\u00e9 \\ \" "#, "plain"][n % 5];
    let event = |n: usize| {
        let second = n * 180 / 600;
        format!(
            r#"{{"event_type":"t","source":"s","path":"{}","server_timestamp":"2024-01-15T10:{:02}:{:02}Z"}}"#,
            path(n),
            second / 60,
            second % 60
        )
    };
    (0..600).map(|n| event(n) + "\n").collect()
}

/// A directory with metrics of nasty names as frames.
fn nasty(dir: &Dir) -> Vec<Value> {
    dir.write("events.jsonl", nasty_events());
    dir.write("metrics.toml", NASTY);
    dir.shell("evt-ingest -q events.jsonl | evt-window -q -m metrics.toml > metrics.arrows").succeeds();
    sorted(dir.run("evt-view", &["-q", "-o", "jsonl", "metrics.arrows"]).succeeds())
}

/// Rows, sorted, without the columns that differ between two runs.
fn sorted(run: Run) -> Vec<Value> {
    let mut rows = run.rows();
    rows.sort_by_key(Value::to_string);
    rows
}

#[test]
fn metrics_of_any_name_are_read_back_from_every_server_and_a_replay_changes_nothing() {
    let outputs = [redis().map(|place| place.0), postgres().map(|place| place.0)];
    for output in outputs.into_iter().flatten() {
        let dir = Dir::new("nasty");
        let written = nasty(&dir);
        assert_eq!(written.len(), 15);
        let run = dir.run("evt-sink", &["metrics.arrows", "--to", &output, "--stats", "first.json"]).succeeds();
        assert!(run.stderr().contains("inserted 15"), "{run}");
        let table =
            if output.contains("schema=") { format!("{output}&table=aggregated_metrics") } else { output.clone() };
        assert_eq!(sorted(dir.run("evt-view", &["-q", "-o", "jsonl", &table]).succeeds()), written, "{output}");
        let again = dir.run("evt-sink", &["metrics.arrows", "--to", &output]).succeeds();
        assert!(again.stderr().contains("unchanged 15"), "{again}");
        assert!(!again.stderr().contains("evt:evt"), "{again}");
    }
}

#[test]
fn redis_cli_finds_a_row_through_the_indexes_and_every_key_expires() {
    let Some((output, uri, prefix)) = redis() else { return };
    let dir = Dir::new("redis-cli");
    nasty(&dir);
    dir.run("evt-sink", &["-q", "metrics.arrows", "--to", &output, "--ttl", "1h"]).succeeds();
    let cli = |args: &[&str]| {
        let run = dir.run("redis-cli", &[&["-u", &uri, "--no-raw"], args].concat()).succeeds();
        run.text()
    };
    assert_eq!(cli(&["ZCARD", &format!("{prefix}metric:names")]), "(integer) 1\n");
    let series = format!("{prefix}metric:{{a%3Ab%7Bc%7D%20d%25%27%22}}");
    let members = cli(&["ZRANGE", &series, "0", "-1"]);
    assert!(members.contains(r#":{\"path\":\"plain\"}"#) && members.lines().count() == 5, "{members}");
    let member = members.lines().find(|line| line.contains("plain")).unwrap();
    let hash = member.split('"').nth(1).unwrap().split(':').next().unwrap();
    let key = format!("{}:{hash}}}:1705312800000000/1705312860000000", series.trim_end_matches('}'));
    assert_eq!(
        cli(&["HMGET", &key, "value", "rows", "pane", "revision"]).replace(char::is_whitespace, ""),
        r#"1)"40.0"2)"40"3)"0"4)"0""#
    );
    assert_eq!(cli(&["HGET", &key, "window_end"]), "\"2024-01-15T10:01:00.000000Z\"\n");
    let keys = cli(&["KEYS", &format!("{prefix}*")]);
    assert_eq!(keys.lines().count(), 15 + 5 + 1 + 1 + 1, "{keys}");
    for line in keys.lines() {
        let name: String = serde_json::from_str(line.split_once(") ").unwrap().1).unwrap();
        let left: i64 = cli(&["TTL", &name]).trim().trim_start_matches("(integer) ").parse().unwrap();
        assert!((1..=3600 * 25 / 16).contains(&left), "{name}: {left}");
    }
}

#[test]
fn psql_sees_the_tables_and_what_they_hold() {
    let Some((output, uri, schema)) = postgres() else { return };
    let dir = Dir::new("psql");
    nasty(&dir);
    let check = dir.run("evt-sink", &["--check", "--to", &output]).succeeds().text();
    assert!(check.contains("pending migrations: 001_metrics, 002_events, "), "{check}");
    assert!(!check.contains(&uri[11..40]) && check.contains("***@"), "a password: {check}");
    dir.run("evt-sink", &["-q", "metrics.arrows", "--to", &output]).succeeds();
    assert!(dir.run("evt-sink", &["--check", "--to", &output]).succeeds().text().ends_with(": ready\n"));
    let tables = psql(
        &dir,
        &uri,
        &schema,
        "SELECT string_agg(table_name, ' ' ORDER BY table_name) FROM
        information_schema.tables WHERE table_schema = current_schema()",
    );
    let all = "aggregated_metrics alert_rules alerts checkpoint_epochs corrected_cells corrections dead_letters evt_migrations \
        late_events late_positions metric_progress metric_retractions pipeline_checkpoints raw_events\n";
    assert_eq!(tables, all);
    let sum = "SELECT sum(value), count(DISTINCT dimensions), min(window_start) FROM aggregated_metrics
        WHERE dimensions ? 'path'";
    assert_eq!(psql(&dir, &uri, &schema, sum), "600|5|2024-01-15 10:00:00+00\n");
    let drop = format!("DROP SCHEMA {schema} CASCADE");
    psql(&dir, &uri, &schema, &drop);
}

#[test]
fn many_that_start_at_once_make_the_tables_once() {
    let Some((output, uri, schema)) = postgres() else { return };
    let dir = Dir::new("migrations");
    nasty(&dir);
    let each = format!("evt-sink -q metrics.arrows --to '{output}' & ");
    let line = format!("{}for job in $(jobs -p); do wait $job || exit 1; done", each.repeat(6));
    dir.shell(&line).succeeds();
    assert_eq!(psql(&dir, &uri, &schema, "SELECT count(*), sum(value) FROM aggregated_metrics"), "15|600\n");
    assert_eq!(psql(&dir, &uri, &schema, "SELECT count(*) FROM evt_migrations"), "13\n");
}

#[test]
fn values_postgres_cannot_hold_become_dead_letters_and_the_others_stay() {
    let Some((output, uri, schema)) = postgres() else { return };
    let dir = Dir::new("unholdable");
    let time = r#""server_timestamp":"2024-01-15T10:00:00Z""#;
    let properties = [r#""s":"\u0000""#, r#""s":"\ud800""#, r#""n":1e400"#, r#""n":1e200000"#, r#""n":1"#];
    let mut events: String =
        properties.iter().map(|text| format!("{{\"event_type\":\"t\",{time},{text}}}\n")).collect();
    events += &format!("{{\"event_type\":\"t\",\"user_id\":\"a\\u0000b\",{time}}}\n");
    dir.write("events.jsonl", &events);
    let line = format!("evt-ingest -q events.jsonl | evt-sink --to '{output}' --dlq dead.jsonl");
    let run = dir.shell(&line).succeeds();
    assert!(run.stderr().contains("dead 4"), "{run}");
    let letters = dir.rows("dead.jsonl");
    assert!(letters.iter().all(|letter| letter["error_type"] == "SinkError"), "{letters:?}");
    let messages: Vec<&str> = letters.iter().map(|letter| letter["error_message"].as_str().unwrap()).collect();
    let starts =
        ["properties: Postgres text cannot contain U+0000", "Postgres: ", "Postgres: ", "user_id: Postgres text"];
    assert!(messages.iter().zip(starts).all(|(message, start)| message.starts_with(start)), "{messages:?}");
    assert_eq!(psql(&dir, &uri, &schema, "SELECT count(*) FROM raw_events WHERE properties->>'n' = '1'"), "1\n");
    assert_eq!(psql(&dir, &uri, &schema, "SELECT count(properties::jsonb) FROM raw_events"), "2\n");
}

/// Postgres must store every dead letter, with any texts, because a letter that it rejects is lost.
#[test]
fn dead_letters_go_into_postgres_whatever_names_they_have() {
    let Some((output, uri, schema)) = postgres() else { return };
    let dir = Dir::new("letters_of_any_name");
    let time = r#""server_timestamp":"2024-01-15T10:00:00Z""#;
    // The text must not compress well, because an index accepts a long value that is short when compressed.
    let long: String = (0..3000_u32).filter_map(|n| char::from_u32(0x4e00 + n * 7919 % 20_000)).collect();
    let events: String = [r"a\u0000b", &long]
        .iter()
        .map(|name| format!("{{\"event_type\":\"t\",\"p\":\"{name}\",\"x\":\"\\u0000\",{time}}}\n"))
        .collect();
    dir.write("events.jsonl", &events);
    let line = format!("evt-sink events.jsonl --kind event --field partition=p --to '{output}' --dlq '{output}'");
    let run = dir.shell(&line).succeeds();
    assert!(run.stderr().contains("dead 2"), "{run}");
    assert_eq!(psql(&dir, &uri, &schema, "SELECT count(*) FROM raw_events"), "0\n");
    let letters = "SELECT count(DISTINCT \"partition\"), min(\"partition\"), bool_and(length(\"partition\") < 700) FROM dead_letters";
    assert_eq!(psql(&dir, &uri, &schema, letters), "2|a\\u0000b|t\n");
    dir.shell(&format!("{line} --strict")).ends_with(1);
}

#[test]
fn events_into_redis_are_refused_before_anything_is_written() {
    let Some((output, ..)) = redis() else { return };
    let dir = Dir::new("kind");
    dir.write("events.jsonl", nasty_events());
    let run = dir.run("evt-sink", &["events.jsonl", "--to", &output, "--to", "out.jsonl"]).ends_with(2);
    assert!(run.stderr().contains("expected rows of kind metric, alert, found event"), "{run}");
}

#[test]
fn a_wrong_password_and_an_absent_server_are_said_at_once_without_secrets() {
    let (Some((_, redis, _)), Some((_, postgres, _))) = (redis(), postgres()) else { return };
    let dir = Dir::new("password");
    let wrong = |uri: &str| {
        let (scheme, rest) = uri.split_once("://").unwrap();
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        format!("{scheme}://evt:geheim@{host}")
    };
    for uri in [wrong(&redis), wrong(&postgres)] {
        let run = dir.run("evt-sink", &["--check", "--to", &uri]).ends_with(78);
        assert!(!run.stderr().contains("geheim") && run.stderr().lines().count() == 1, "{run}");
    }
    for uri in ["redis://:geheim@127.0.0.1:1/0", "postgres://evt:geheim@127.0.0.1:1/evt"] {
        let run = dir.run("evt-sink", &["--check", "--to", uri]).ends_with(69);
        assert!(!run.stderr().contains("geheim") && run.stderr().contains("connection refused"), "{run}");
    }
}

/// The servers are killed after half of the rows and restarted after the other half.
const OUTAGE: &str = r#"
set -euo pipefail
services() { "$SERVICES" "$@" >&2; }
half=$(($(wc -l <metrics.jsonl) / 2))
{
    head -n "$half" metrics.jsonl
    until [[ $(psql -qAt "$EVT_POSTGRES" -c "SELECT count(*) > 0 FROM aggregated_metrics" 2>/dev/null) == t ]]; do :; done
    services kill redis postgres
    tail -n +"$((half + 1))" metrics.jsonl & rest=$!
    services start redis postgres
    wait $rest
} | evt-sink -f jsonl --to "$EVT_REDIS?timeout=5s" --to "$EVT_POSTGRES?timeout=5s"
evt-view -q -o jsonl "$EVT_REDIS" >redis.jsonl
evt-view -q -o jsonl "$EVT_POSTGRES?table=aggregated_metrics" >postgres.jsonl
# Alive, but silent: every wait ends, and all continues when they do.
says() { until [[ $(grep -c "$2" "$1") -ge $3 ]]; do :; done; }
{
    head -n "$half" metrics.jsonl
    until [[ $(redis-cli -u "$EVT_REDIS" EXISTS silent:metric:names) == 1 ]]; do :; done
    services pause redis postgres
    tail -n +"$((half + 1))" metrics.jsonl & rest=$!
    says silent.log 'redis.*no response' 1
    services resume redis
    says silent.log 'postgres.*no response' 1
    services resume postgres
    wait $rest
} | evt-sink -f jsonl --to "$EVT_REDIS?timeout=2s&prefix=silent:" --to "$EVT_POSTGRES?timeout=2s&schema=silent" 2>silent.log
evt-view -q -o jsonl "$EVT_REDIS?prefix=silent:" >redis-silent.jsonl
evt-view -q -o jsonl "$EVT_POSTGRES?table=aggregated_metrics&schema=silent" >postgres-silent.jsonl
"#;

#[test]
fn servers_killed_in_the_middle_of_a_write_lose_nothing_and_count_nothing_twice() {
    if server("EVT_REDIS").is_none() || server("EVT_POSTGRES").is_none() {
        return;
    }
    let dir = Dir::new("outage");
    let line = "evt-gen --events 60k --seed 7 | evt-ingest -q | evt-window -q --size 1s --by event_type,source --agg 'count(*)' \
        | evt-view -q -o jsonl > metrics.jsonl";
    dir.shell(line).succeeds();
    dir.write("outage.sh", OUTAGE);
    let services = format!("{ROOT}/scripts/services");
    let mut command = dir.command(&services, &["run", "redis", "postgres", "--", "bash", "outage.sh"]);
    command.env("SERVICES", &services);
    command.envs(std::env::var_os("EVT_CACHE").map(|value| ("EVT_CACHE", value)));
    let run = Run::of(command.stdin(std::process::Stdio::null())).succeeds();
    let wanted = dir.rows("metrics.jsonl");
    assert!(wanted.len() > 2000, "{}", wanted.len());
    let by_id = |name: &str| {
        let mut rows = dir.rows(name);
        rows.sort_by_key(|row| row["metric_id"].to_string());
        rows
    };
    let wanted = by_id("metrics.jsonl");
    for name in ["redis.jsonl", "postgres.jsonl", "redis-silent.jsonl", "postgres-silent.jsonl"] {
        assert_eq!(by_id(name), wanted, "{name}: {run}");
    }
    for server in ["redis://", "postgres://"] {
        let said = |what: &str| run.stderr().lines().any(|line| line.contains(server) && line.contains(what));
        assert!(said("retrying") && said("available again after"), "{run}");
    }
}
