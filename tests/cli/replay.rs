//! The replay of dead letters: repaired, validated again, and written once.

use crate::broker::Bench;
use crate::harness::{Dir, Draws, Run, ask, eventually, python, status};
use crate::servers::{postgres, psql};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};

const SCHEMA: &str = r#"{"type":"record","name":"order","fields":[{"name":"amount","type":"double"}]}"#;
const PATCH: &str = "set amount = try_cast(amount as double)";
/// The clock of runs whose rows are compared.
const NOW: &str = "--now 2026-02-01T00:00:00Z";

/// The id of event `n`.
fn id(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

/// Orders of which every third has its amount as text, and every hundredth no amount that can be read.
fn orders(count: usize) -> String {
    let order = |n: usize| {
        let amount = match n {
            n if n % 100 == 7 => "\"n/a\"".to_owned(),
            n if n % 3 == 0 => format!("\"{n}.5\""),
            n => n.to_string(),
        };
        let (minute, second, id) = (n / 60 % 60, n % 60, id(n));
        let time = format!("2026-01-01T02:{minute:02}:{second:02}Z");
        format!(
            r#"{{"event_id":"{id}","event_type":"order","source":"shop","server_timestamp":"{time}","amount":{amount}}}"#
        )
    };
    (0..count).map(|n| order(n) + "\n").collect()
}

/// A directory with orders, of which the invalid ones are in `dead.jsonl`.
fn shop(name: &str, count: usize) -> Dir {
    let dir = Dir::new(name);
    dir.write("schemas/order/1.avsc", SCHEMA);
    dir.write("in.jsonl", orders(count));
    let line = "evt-validate in.jsonl --schemas schemas --subject =order --dlq dead.jsonl --to good.jsonl -q";
    dir.shell(line).succeeds();
    dir
}

/// Those of `count` orders whose amount is text that can be read.
fn repairable(count: usize) -> BTreeSet<String> {
    (0..count).filter(|n| n % 3 == 0 && n % 100 != 7).map(id).collect()
}

fn replay(dir: &Dir, rest: &str) -> Run {
    let line = format!("evt-replay dead.jsonl --patch '{PATCH}' --schemas schemas --subject =order {rest}");
    dir.shell(&line)
}

/// The ids of the events in a file; asserts that none occurs twice.
#[track_caller]
fn ids(dir: &Dir, name: &str) -> BTreeSet<String> {
    let rows = dir.rows(name);
    let ids: Vec<String> = rows.iter().map(|row| row["event_id"].as_str().expect("an id").to_owned()).collect();
    let unique = BTreeSet::from_iter(ids.iter().cloned());
    assert_eq!(unique.len(), ids.len(), "an event occurs twice in {name}");
    unique
}

/// One value from a SQLite database.
fn count(dir: &Dir, db: &str, sql: &str) -> i64 {
    let db = Connection::open(dir.path(db)).expect("it opens");
    db.query_row(sql, [], |row| row.get(0)).expect("one row")
}

#[test]
fn letters_are_repaired_and_replayed_once() {
    let dir = shop("replay-loop", 600);
    let run =
        replay(&dir, &format!("--ledger sqlite:replay.db --to replayed.jsonl --dlq again.jsonl {NOW}")).ends_with(1);
    let (repaired, faulty) = (repairable(600), 6);
    assert_eq!(ids(&dir, "replayed.jsonl"), repaired);
    let said = format!(
        "letters: {} replayed to replayed.jsonl, each once; 0 were replayed before, 6 are still faulty; exit \
         status 1, because 6 letters are still faulty",
        repaired.len()
    );
    assert!(run.stderr().contains(&said), "{run}");
    let row = dir.rows("replayed.jsonl").into_iter().find(|row| row["event_id"] == json!(id(3))).expect("it is there");
    let expected = json!({
        "event_id": id(3), "event_type": "order", "source": "shop", "properties": {"amount": 3.5},
        "server_timestamp": "2026-01-01T02:00:03.000000Z",
    });
    assert_eq!(row, expected, "no provenance");

    let again = dir.rows("again.jsonl");
    assert_eq!(again.len(), faulty);
    let first: BTreeMap<String, Value> =
        dir.rows("dead.jsonl").into_iter().map(|letter| (letter["letter_id"].to_string(), letter)).collect();
    for letter in &again {
        let before = &first[&letter["letter_id"].to_string()];
        for name in ["original_payload", "source_topic", "partition", "offset", "letter_id", "arrived_at"] {
            assert_eq!(letter[name], before[name], "{name}");
        }
        assert_eq!((&letter["stage"], &letter["attempts"]), (&json!("evt-replay"), &json!(2)));
        assert_eq!(letter["error_type"], "SchemaValidationError");
    }

    // Nothing is due any more, but the faulty ones are tried again.
    let before = dir.bytes("replayed.jsonl");
    let run = replay(&dir, "--ledger sqlite:replay.db --to replayed.jsonl --dlq third.jsonl").ends_with(1);
    assert_eq!(dir.bytes("replayed.jsonl"), before);
    assert!(run.stderr().contains("0 replayed") && run.stderr().contains("198 were replayed before"), "{run}");
    assert!(dir.rows("third.jsonl").iter().all(|letter| letter["attempts"] == 3));

    // A new schema repairs the rest.
    dir.write("schemas/order/2.avsc", SCHEMA.replace("\"double\"", "[\"null\",\"double\"]"));
    let line = "evt-replay again.jsonl --patch \"set amount = try_cast(amount as double)\" --schemas schemas \
                --subject =order --ledger sqlite:replay.db --to replayed.jsonl -q";
    dir.shell(line).succeeds();
    assert_eq!(ids(&dir, "replayed.jsonl").len(), repaired.len() + faulty);
    assert_eq!(count(&dir, "replay.db", "SELECT count(*) FROM replay_letters WHERE done_at IS NOT NULL"), 204);
    assert_eq!(count(&dir, "replay.db", "SELECT max(attempts) FROM replay_attempts"), 3);

    // The pipeline reads what was replayed like any other events: every order is in the table, once.
    let line = "evt-sink good.jsonl replayed.jsonl -q --to sqlite:events.db";
    dir.shell(line).succeeds();
    let sql = "SELECT count(DISTINCT event_id) * 100000 + count(*) FROM raw_events";
    assert_eq!(count(&dir, "events.db", sql), 600 * 100_000 + 600);
    assert!(
        !std::fs::read_dir(dir.path(""))
            .expect("it is there")
            .any(|entry| { entry.expect("an entry").file_name().to_string_lossy().contains(".evt.") }),
        "an intent is left"
    );
}

#[test]
fn a_letter_keeps_its_identity_through_jq() {
    let dir = shop("replay-jq", 30);
    // A record without an id gets that of its letter.
    let orders = orders(30).replace(&format!("\"event_id\":\"{}\",", id(9)), "");
    dir.write("in.jsonl", orders);
    std::fs::remove_file(dir.path("dead.jsonl")).expect("it is there");
    dir.shell("evt-validate in.jsonl --schemas schemas --subject =order --dlq dead.jsonl --to null: -q").succeeds();
    let repair = r#"sed 's/\\"amount\\":\\"\([0-9.]*\)\\"/\\"amount\\":\1/'"#;
    let line = format!(
        "evt-view dead.jsonl --rows -q -o jsonl | {repair} | evt-replay - --schemas schemas --subject =order \
         --ledger sqlite:replay.db --to replayed.jsonl -q"
    );
    dir.shell(&line).ends_with(1);
    let letters = dir.rows("dead.jsonl");
    let letter = letters.iter().find(|letter| letter["offset"] == 10).expect("the tenth line");
    let id = letter["letter_id"].as_str().expect("an id").to_owned();
    assert!(ids(&dir, "replayed.jsonl").contains(&id));
    // The same letters unrepaired, and repaired in another way, are the same letters.
    let run = replay(&dir, "--ledger sqlite:replay.db --to replayed.jsonl").ends_with(1);
    assert!(run.stderr().contains("0 replayed") && run.stderr().contains("10 were replayed before"), "{run}");
}

#[test]
fn the_ids_of_letters_are_those_that_python_computes() {
    let Some(python) = python() else { return };
    let dir = Dir::new("replay-ids");
    let good = "{\"b\":1,\"server_timestamp\":\"2026-01-01T00:00:00Z\"}\n";
    dir.write("in.jsonl", [b"broken\n\xff\xfe\n{\"a\":\"\xc3\xa9\"}\nbroken\n", good.as_bytes()].concat());
    dir.shell("evt-ingest in.jsonl -q --require b --to null: --dlq dead.jsonl").succeeds();
    let found = ask(&dir, &python, "letter_ids.py", &["dead.jsonl"]).succeeds().text();
    assert_eq!(found.lines().count(), 4);
    assert!(
        found.lines().all(|line| line.split_once(' ').is_some_and(|(expected, found)| expected == found)),
        "{found}"
    );
    let ids: BTreeSet<&str> = found.lines().collect();
    assert_eq!(ids.len(), 4, "equal lines have ids of their own");
    // In every format and store.
    for place in ["dead.csv", "dead.avro", "dead.parquet", "dead.frames", "sqlite:dead.db", "parquet:lake"] {
        dir.shell(&format!("evt-sink dead.jsonl -q --to {place}")).succeeds();
        let read = if place.starts_with("sqlite") { "sqlite:dead.db?table=dead_letters" } else { place };
        dir.shell(&format!("evt-view '{read}' --rows -q -o jsonl > back.jsonl")).succeeds();
        let back = ask(&dir, &python, "letter_ids.py", &["back.jsonl"]).succeeds().text();
        assert_eq!(back.lines().collect::<BTreeSet<_>>(), ids, "{place}");
    }
}

#[test]
fn a_database_of_an_older_version_is_migrated_and_its_letters_have_ids() {
    let dir = shop("replay-migration", 30);
    dir.shell("evt-sink dead.jsonl -q --to sqlite:dead.db").succeeds();
    let expected: BTreeSet<String> =
        dir.rows("dead.jsonl").iter().map(|letter| letter["letter_id"].to_string()).collect();
    let db = Connection::open(dir.path("dead.db")).expect("it opens");
    let older = "ALTER TABLE dead_letters DROP COLUMN letter_id;
        ALTER TABLE dead_letters DROP COLUMN metrics; ALTER TABLE dead_letters DROP COLUMN partial;
        DROP TABLE pipeline_checkpoints; DROP TABLE checkpoint_epochs; DROP TABLE metric_progress;
        CREATE TABLE pipeline_checkpoints (pipeline TEXT PRIMARY KEY, run INTEGER, epoch INTEGER, committed_at TEXT);
        UPDATE evt_schema SET version = 4";
    db.execute_batch(older).expect("older");
    drop(db);
    let read = |dir: &Dir| -> BTreeSet<String> {
        let run = dir.shell("evt-view 'sqlite:dead.db?table=dead_letters' --rows -q -o jsonl").succeeds();
        run.rows().iter().map(|letter| letter["letter_id"].to_string()).collect()
    };
    assert_eq!(read(&dir), expected, "before the migration");
    dir.write("one.jsonl", "broken\n");
    dir.shell("evt-ingest one.jsonl -q --time arrival --to null: --dlq sqlite:dead.db").succeeds();
    assert_eq!(count(&dir, "dead.db", "SELECT count(*) FROM dead_letters WHERE letter_id IS NULL"), 11);
    assert_eq!(read(&dir).len(), expected.len() + 1);
    assert!(read(&dir).is_superset(&expected));
}

#[test]
fn a_postgres_database_of_an_older_version_is_migrated_and_its_letters_have_ids() {
    let Some((output, uri, schema)) = postgres() else { return };
    let dir = shop("replay-migration-postgres", 30);
    let store = format!("evt-sink dead.jsonl -q --to '{output}'");
    dir.shell(&store).succeeds();
    let older =
        "ALTER TABLE dead_letters DROP COLUMN letter_id; DELETE FROM evt_migrations WHERE name = '009_letter_ids'";
    psql(&dir, &uri, &schema, older);
    // The stored letters are found again: none is inserted twice.
    dir.shell(&store).succeeds();
    assert_eq!(psql(&dir, &uri, &schema, "SELECT count(*), count(letter_id) FROM dead_letters"), "11|0\n");
    let run = dir.shell(&format!("evt-view '{output}&table=dead_letters' --rows -q -o jsonl")).succeeds();
    let ids = |rows: &[Value]| -> BTreeSet<String> { rows.iter().map(|row| row["letter_id"].to_string()).collect() };
    assert_eq!(ids(&run.rows()), ids(&dir.rows("dead.jsonl")));
}

#[test]
fn a_dry_run_shows_each_letter_and_writes_nothing() {
    let dir = shop("replay-dry", 30);
    let run = replay(&dir, "--dry-run").ends_with(1);
    let rows = run.rows();
    let outcomes: Vec<&str> = rows.iter().map(|row| row["outcome"].as_str().expect("an outcome")).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "replay").count(), 10);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "faulty").count(), 1);
    assert!(rows[0]["record"].as_str().is_some_and(|record| record.contains("\"amount\":0.5")), "{run}");
    let files: BTreeSet<String> = std::fs::read_dir(dir.path(""))
        .expect("it is there")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, ["dead.jsonl", "good.jsonl", "in.jsonl", "schemas"].map(str::to_owned).into());
    // An empty file of letters is nothing to do.
    dir.write("dead.jsonl", "");
    replay(&dir, "--dry-run").succeeds();
}

#[test]
fn cut_letters_are_passed_over_and_counted() {
    let dir = Dir::new("replay-cut");
    dir.write("in.jsonl", format!("{{\"a\":\"{}\"}}\n", "x".repeat(2000)));
    dir.shell("evt-ingest in.jsonl -q --time arrival --max-record 1KiB --to null: --dlq dead.jsonl").succeeds();
    let line = "evt-replay dead.jsonl --ledger sqlite:replay.db --to replayed.jsonl --dlq again.jsonl";
    let run = dir.shell(line).ends_with(1);
    assert!(run.stderr().contains("1 letter was passed over: only the beginning of the record is left"), "{run}");
    let last = run.stderr().lines().rfind(|line| line.contains("letters: ")).map(str::to_owned).expect("a summary");
    let why = "0 were replayed before, 0 are still faulty; exit status 1, because 1 letter was passed over";
    assert!(last.ends_with(why), "{run}");
    assert!(dir.bytes("replayed.jsonl").is_empty() && dir.bytes("again.jsonl").is_empty());
}

#[test]
fn a_command_line_that_cannot_replay_is_refused() {
    let dir = shop("replay-usage", 3);
    for (rest, status, why) in [
        ("--to x.jsonl", 2, "expected --ledger URI"),
        ("--ledger sqlite:l.db", 2, "expected --to URI"),
        ("--ledger sqlite:l.db --to x.parquet", 2, "does not acknowledge rows before the end"),
        ("--ledger sqlite:l.db --to null:", 2, "does not acknowledge rows before the end"),
        ("--ledger redis://localhost/0 --to x.jsonl", 2, "expected a ledger in sqlite:PATH"),
        ("--ledger sqlite:l.db --to a.jsonl --to b.jsonl", 2, "expected one --to"),
        ("--ledger sqlite:l.db --to dead.jsonl", 2, "dead.jsonl"),
        ("--ledger sqlite:l.db --to x.jsonl --rate 0", 2, "invalid value '0' for '--rate <N>'"),
        ("--ledger sqlite:l.db --to x.jsonl --dedup 1h", 2, "--dedup"),
    ] {
        let run = replay(&dir, rest).ends_with(status);
        assert!(run.stderr().contains(why), "{run}");
    }
    let run = dir.shell("evt-backfill --dead dead.jsonl --dry-run").ends_with(2);
    assert!(run.stderr().contains("evt-replay LETTERS replays dead letters"), "{run}");
    let run = dir.shell("evt-replay dead.jsonl --patch 'set amount' --dry-run").ends_with(78);
    assert!(run.stderr().contains("set amount"), "{run}");
    let run = dir.shell("evt-replay good.jsonl --dry-run").ends_with(2);
    assert!(run.stderr().contains("found rows of kind event"), "{run}");
    replay(&dir, "--ledger sqlite:l.db --to x.jsonl --check").succeeds();
    assert!(!dir.path("l.db").exists() && !dir.path("x.jsonl").exists());
}

#[test]
fn a_name_whose_values_try_cast_cannot_read_is_not_taken_for_a_wrong_name() {
    let dir = shop("replay-uncast", 8);
    // Only the amount of the last order cannot be read.
    dir.shell("grep n/a dead.jsonl > one.jsonl; mv one.jsonl dead.jsonl").succeeds();
    let patched = |patch: &str| {
        let line = format!("evt-replay dead.jsonl --patch '{patch}' --schemas schemas --subject =order -q");
        dir.shell(&format!("{line} --dry-run")).stderr()
    };
    let said = patched("set amount = coalesce(try_cast(amount as double), 0)");
    assert!(said.contains("--patch: amount was NULL in every row: try_cast reads none of its values"), "{said}");
    assert!(!said.contains("check the name"), "{said}");
    let said = patched("set amount = coalesce(try_cast(amuont as double), 0)");
    assert!(said.contains("--patch: amuont was NULL in every row; check the name"), "{said}");
}

#[test]
fn other_outputs_get_letters_at_least_once_and_say_so() {
    let dir = shop("replay-other", 30);
    let run = replay(&dir, "--ledger sqlite:replay.db --to sqlite:events.db").ends_with(1);
    assert!(run.stderr().contains("sqlite:events.db: at least once"), "{run}");
    let keys = "SELECT count(*) FROM raw_events WHERE origin = 'in.jsonl' AND partition = '0' AND offset % 3 = 1";
    assert_eq!(count(&dir, "events.db", keys), 10, "the rows have the positions of their records");
    let run = replay(&dir, "--ledger sqlite:replay.db --to out.csv").ends_with(1);
    assert!(run.stderr().contains("0 replayed"), "{run}");
}

/// Starts a replay with these further flags.
fn start(dir: &Dir, args: &[&str]) -> Child {
    start_in(dir, &[], args)
}

/// Starts a replay below another program, such as timeout(1).
fn start_in(dir: &Dir, outer: &[&str], args: &[&str]) -> Child {
    let own = ["evt-replay", "dead.jsonl", "--patch", PATCH, "--schemas", "schemas", "--subject", "=order", "-q"];
    let all = [outer, &own, args].concat();
    let mut command = dir.command(all[0], &all[1..]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// Kills a replay after a random time, `kills` times, then runs it to its end. In batches of one letter the letters
/// take far longer than all kills, so that each kill hits a live process.
fn kill_and_finish(dir: &Dir, draws: &mut Draws, kills: usize, args: &[&str]) {
    let mut killed = 0;
    let slow = [args, &["--rate", "20"]].concat();
    for _ in 0..kills {
        let seconds = format!("{:.6}", 1e-6 * (1 + draws.below(600_000)) as f64);
        let mut child = start_in(dir, &["timeout", "-s", "KILL", &seconds], &slow);
        killed += usize::from(status(child.wait().expect("it ends")) == 137);
    }
    assert_eq!(killed, kills, "{draws}: a replay ended before it was killed");
    let run = start(dir, args).wait_with_output().expect("it ends");
    assert_eq!(status(run.status), 1, "{draws}: {}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn kills_at_random_times_replay_no_letter_twice_into_a_file() {
    let dir = shop("replay-kill", 3000);
    let mut draws = Draws::new();
    for round in 0..5 {
        let (to, ledger) = (format!("out{round}.jsonl"), format!("sqlite:ledger{round}.db?wait=2m"));
        kill_and_finish(&dir, &mut draws, 10, &["--ledger", &ledger, "--to", &to]);
        assert_eq!(ids(&dir, &to), repairable(3000), "{draws}, round {round}");
        let check: String = Connection::open(dir.path(&format!("ledger{round}.db")))
            .expect("it opens")
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .expect("a row");
        assert_eq!(check, "ok");
    }
}

#[test]
fn two_replays_at_once_replay_each_letter_once() {
    let dir = shop("replay-two", 3000);
    for (first, second) in [("out.jsonl", "out.jsonl"), ("a.jsonl", "b.jsonl")] {
        // One replay may hold the lock for as long as it gets no processor.
        let ledger = format!("sqlite:{first}.db?wait=2m");
        let children: Vec<Child> =
            [first, second].map(|to| start(&dir, &["--ledger", &ledger, "--to", to])).into_iter().collect();
        for child in children {
            let run = child.wait_with_output().expect("it ends");
            assert_eq!(status(run.status), 1, "{}", String::from_utf8_lossy(&run.stderr));
        }
        let mut found = ids(&dir, first);
        if second != first {
            let others = ids(&dir, second);
            assert!(found.is_disjoint(&others));
            found.extend(others);
        }
        assert_eq!(found, repairable(3000));
    }
}

/// The files of a replay that was killed before it appended: an intent with bytes, an open batch, and the target.
fn interrupted(name: &str) -> (Dir, String, String) {
    let dir = shop(name, 30);
    replay(&dir, "--ledger sqlite:replay.db --to out.jsonl -q").ends_with(1);
    let whole = String::from_utf8(dir.bytes("out.jsonl")).expect("JSON");
    let db = Connection::open(dir.path("replay.db")).expect("it opens");
    let id: String = db.query_row("SELECT id FROM replay_ledger", [], |row| row.get(0)).expect("an id");
    db.execute_batch("UPDATE replay_batches SET state = 'open'; UPDATE replay_letters SET done_at = NULL")
        .expect("open");
    let intent = format!("out.jsonl.evt.{}", &id[..8]);
    (dir, whole, intent)
}

#[test]
fn a_damaged_intent_changes_nothing() {
    let (dir, whole, intent) = interrupted("replay-damaged");
    dir.write("out.jsonl", &whole[..40]);
    dir.write(
        &intent,
        format!("{{\"evt_intent\":2,\"ledger\":\"x\",\"run\":0,\"batch\":1,\"piece\":0,\"done\":false,\"length\":0,\"checksum\":\"0\"}}\n{whole}"),
    );
    let run = replay(&dir, "--ledger sqlite:replay.db --to out.jsonl").ends_with(65);
    assert!(run.stderr().contains(&intent) && run.stderr().contains("nothing was changed"), "{run}");
    assert_eq!(dir.bytes("out.jsonl"), &whole.as_bytes()[..40]);
    assert_eq!(count(&dir, "replay.db", "SELECT count(*) FROM replay_batches WHERE state = 'open'"), 1);
    // Without its intent, the batch is void, and the torn line is removed: its letters are replayed.
    std::fs::remove_file(dir.path(&intent)).expect("it is there");
    replay(&dir, "--ledger sqlite:replay.db --to out.jsonl").ends_with(1);
    assert_eq!(ids(&dir, "out.jsonl"), repairable(30));
}

#[test]
fn letters_are_replayed_into_a_topic_once() {
    let Some(bench) = Bench::new("replay-topic") else { return };
    let dir = shop("replay-topic", 3000);
    let topic = bench.topic("events", 3, &[]);
    let uri = bench.uri(&topic, "");
    let mut draws = Draws::new();
    kill_and_finish(&dir, &mut draws, 6, &["--ledger", "sqlite:replay.db?wait=2m", "--to", &uri]);
    // The broker shows the records of a transaction some time after it has acknowledged the commit.
    let (expected, mut records) = (repairable(3000), vec![]);
    eventually("all transactions are visible", || {
        records = bench.committed_records(&topic);
        records.len() >= expected.len()
    });
    let found: Vec<String> =
        records.iter().map(|record| record["event_id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(found.len(), BTreeSet::from_iter(&found).len(), "{draws}: a record occurs twice");
    assert_eq!(BTreeSet::from_iter(found), expected, "{draws}");
    let db = Connection::open(dir.path("replay.db")).expect("it opens");
    let id: String = db.query_row("SELECT id FROM replay_ledger", [], |row| row.get(0)).expect("an id");
    let last = count(&dir, "replay.db", "SELECT max(batch) FROM replay_batches WHERE state = 'done'");
    // The offset is in another partition than the records, with a marker of its own.
    let committed = || bench.committed(&format!("evt.{id}"), &topic, 1)[0].0;
    eventually("the offset is visible", || committed() == Some(last));
}

#[test]
fn a_replayed_record_has_the_key_the_headers_and_the_time_of_its_record() {
    let Some(bench) = Bench::new("replay-record") else { return };
    let (raw, dead, again) = (bench.topic("raw", 1, &[]), bench.topic("dead", 1, &[]), bench.topic("again", 2, &[]));
    let value = br#"{"event_type":"order","source":"shop","user_id":true}"#;
    let headers =
        rdkafka::message::OwnedHeaders::new().insert(rdkafka::message::Header { key: "trace", value: Some("t-1") });
    let record = rdkafka::producer::BaseRecord::to(&raw).key(b"key".as_slice()).payload(value.as_slice());
    bench.produce([record.timestamp(1_767_232_800_123).headers(headers)]);
    let dir = &bench.dir;
    let (raw, dead) = (bench.uri(&raw, &format!("?end=latest&group={}", bench.prefix)), bench.uri(&dead, ""));
    dir.shell(&format!("evt-ingest '{raw}' --to null: --dlq '{dead}' -q")).succeeds();
    let line = format!(
        "evt-replay '{dead}' --patch 'set user_id = cast(user_id as text)' --ledger sqlite:replay.db --to '{}'",
        bench.uri(&again, "")
    );
    dir.shell(&line).succeeds();
    // The broker shows the records of a transaction some time after it has acknowledged the commit.
    let mut records = vec![];
    eventually("the transaction is visible", || {
        records = bench.records(&again);
        !records.is_empty()
    });
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].key.as_deref(), Some(b"key".as_slice()));
    assert_eq!(records[0].headers, [("trace".to_owned(), Some(b"t-1".to_vec()))]);
    let row: Value = serde_json::from_slice(records[0].value.as_deref().expect("a value")).expect("JSON");
    assert_eq!(row["server_timestamp"], "2026-01-01T02:00:00.123000Z");
    assert_eq!(row["user_id"], "true");
    let letters = dir.shell(&format!("evt-view '{dead}' --rows -q -o jsonl")).succeeds().rows();
    assert_eq!(row["event_id"], letters[0]["letter_id"], "a record without an id gets that of its letter");
    // The letters of a topic are known again.
    let run = dir.shell(&line).succeeds();
    assert!(run.stderr().contains("1 was replayed before"), "{run}");
}

/// Brokers deleted a record that was replayed with a timestamp older than the retention of its topic, after they had
/// acknowledged it.
#[test]
fn brokers_kept_no_replayed_record_that_was_older_than_the_retention_of_its_topic() {
    let Some(bench) = Bench::new("replay-old") else { return };
    let dir = shop("replay-old", 10);
    for (name, settings, is_kept) in [
        ("week", vec![("retention.ms", "604800000")], false),
        ("ever", vec![("retention.ms", "-1")], true),
        ("before", vec![("retention.ms", "-1"), ("message.timestamp.before.max.ms", "604800000")], false),
    ] {
        let topic = bench.topic(name, 1, &settings);
        let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
        let (ledger, uri) = (format!("sqlite:{name}.db"), bench.uri(&topic, ""));
        let run = replay(&dir, &format!("--ledger {ledger} --to '{uri}'")).ends_with(1);
        let line = "the timestamps of 4 records are older than the topic keeps or accepts (retention.ms, \
                    message.timestamp.before.max.ms); the time of the replay is used";
        assert_eq!(run.stderr().contains(line), !is_kept, "{name}: {run}");
        let mut records = vec![];
        eventually("the transaction is visible", || {
            records = bench.records(&topic);
            records.len() == 4
        });
        for record in records {
            let row: Value = serde_json::from_slice(record.value.as_deref().expect("a value")).expect("JSON");
            let id = row["event_id"].as_str().expect("an id");
            let seconds: i64 = id.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a number");
            let timestamp = record.timestamp.expect("a timestamp");
            assert_eq!(timestamp == 1_767_232_800_000 + seconds * 1000, is_kept, "{name}: {timestamp}");
            assert_eq!(timestamp as u128 >= start, !is_kept, "{name}: {timestamp}");
        }
    }
}

#[test]
fn a_check_finds_a_ledger_that_cannot_be_opened() {
    let dir = shop("replay-check", 7);
    let run = replay(&dir, "--ledger sqlite:/nonexist/x.db --to replayed.jsonl --check").ends_with(74);
    assert!(run.stderr().contains("/nonexist/x.db"), "{run}");
    replay(&dir, "--ledger sqlite:replay.db --to replayed.jsonl --check").succeeds();
    assert!(!dir.path("replay.db").exists(), "a check creates nothing");
    replay(&dir, "--ledger sqlite:replay.db --to replayed.jsonl").succeeds();
    replay(&dir, "--ledger sqlite:replay.db --to replayed.jsonl --check").succeeds();
}

#[test]
fn a_ledger_in_postgres_is_shared() {
    let Some((uri, _, _)) = postgres() else { return };
    let dir = shop("replay-postgres", 3000);
    let mut draws = Draws::new();
    kill_and_finish(&dir, &mut draws, 6, &["--ledger", &uri, "--to", "out.jsonl"]);
    assert_eq!(ids(&dir, "out.jsonl"), repairable(3000), "{draws}");
    let children = ["a.jsonl", "b.jsonl"].map(|to| start(&dir, &["--ledger", &uri, "--to", to]));
    for child in children {
        assert_eq!(status(child.wait_with_output().expect("it ends").status), 1);
    }
    assert!(!dir.path("a.jsonl").exists() || dir.bytes("a.jsonl").is_empty());
    let run = replay(&dir, &format!("--ledger '{uri}' --dry-run")).ends_with(1);
    assert_eq!(run.rows().iter().filter(|row| row["outcome"] == "done").count(), repairable(3000).len());
}

#[test]
fn flags_of_the_correction_of_windows_are_refused_with_letters() {
    let dir = shop("replay-flags", 30);
    let range = "--since 2030-01-01T00:00:00Z --until 2030-01-02T00:00:00Z";
    for flags in [range, "--only n", "--all-closed", "--late-events late.jsonl", "--without-late"] {
        replay(&dir, &format!("{flags} --ledger sqlite:replay.db --to replayed.jsonl")).ends_with(2);
    }
    assert!(!dir.path("replayed.jsonl").exists());
}

#[test]
fn a_repaired_copy_of_a_letter_is_replayed_although_the_first_copy_is_faulty() {
    let dir = Dir::new("replay-copies");
    dir.write("in.jsonl", "{\"source\":\"a\",\"server_timestamp\":\"yesterday\"}\n");
    dir.write("good.jsonl", "{\"server_timestamp\":\"2026-01-01\"}\n");
    dir.shell("evt-ingest -q good.jsonl in.jsonl --dlq dead.jsonl --to null:").succeeds();
    // The unrepaired letter, the repaired one, and that again.
    let repaired = "sed 's/yesterday/2026-01-01T00:00:00Z/' dead.jsonl";
    dir.shell(&format!("(cat dead.jsonl; {repaired}; {repaired}) > copies.jsonl")).succeeds();
    let line = "evt-replay copies.jsonl";
    let run = dir.shell(&format!("{line} --dry-run")).ends_with(1);
    assert!(run.stderr().contains("1 would be replayed; 1 was replayed before, 1 is still faulty"), "{run}");
    let run = dir.shell(&format!("{line} --ledger sqlite:replay.db --to replayed.jsonl")).ends_with(1);
    assert!(
        run.stderr().contains("1 replayed to") && run.stderr().contains("1 was replayed before, 1 is still faulty"),
        "{run}"
    );
    assert_eq!(ids(&dir, "replayed.jsonl").len(), 1);
    let run = dir.shell(&format!("{line} --ledger sqlite:replay.db --to replayed.jsonl")).succeeds();
    assert!(run.stderr().contains("0 replayed") && run.stderr().contains("3 were replayed before"), "{run}");
}

#[test]
fn events_in_place_of_letters_are_one_error_and_nothing_is_written() {
    let dir = shop("replay-events", 30);
    dir.shell("evt-ingest -q in.jsonl --to in.csv --to in.frames").succeeds();
    dir.shell("(echo '{'; cat in.jsonl) > torn.jsonl").succeeds();
    for name in ["in.jsonl", "good.jsonl", "in.csv", "in.frames", "torn.jsonl"] {
        let line = format!("evt-replay {name} --ledger sqlite:replay.db --to replayed.jsonl --dlq again.jsonl");
        let run = dir.shell(&line).ends_with(2);
        assert!(run.stderr().contains(", found rows of kind event"), "{run}");
        assert_eq!(run.stderr().lines().count(), 1, "{run}");
        for name in ["replayed.jsonl", "again.jsonl"] {
            assert!(!dir.path(name).exists() || dir.bytes(name).is_empty(), "{name} {run}");
        }
        for table in ["replay_letters", "replay_batches"] {
            assert_eq!(count(&dir, "replay.db", &format!("SELECT count(*) FROM {table}")), 0, "{run}");
        }
    }
    dir.write("none.jsonl", "");
    dir.shell("evt-replay none.jsonl --ledger sqlite:replay.db --to replayed.jsonl").succeeds();
}
