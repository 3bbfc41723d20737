//! evt-reconcile with stores whose rows are damaged: each is named, and the others are compared.

use crate::harness::{Dir, Run, python};
use crate::reconcile::{is_right, reconcile, verdicts};
use crate::servers;
use serde_json::Value;

/// A file of 30 events, in `m.db` and in a lake.
fn stored(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.shell("evt-gen --events 30 --seed 3 -q > a.jsonl && evt-ingest -q a.jsonl --to m.db --to parquet:lake")
        .succeeds();
    dir
}

fn change(dir: &Dir, what: &str) {
    let database = rusqlite::Connection::open(dir.path("m.db")).expect("a database");
    database.execute_batch("PRAGMA ignore_check_constraints = ON").expect("a setting");
    assert_eq!(database.execute(&format!("UPDATE raw_events SET {what}"), []).expect("it runs"), 1, "{what}");
}

/// The rows of the faults of `--ids`.
fn faults(run: &Run) -> Vec<(String, i64)> {
    let fault =
        |row: &Value| (row["verdict"].as_str().expect("a verdict").to_owned(), row["offset"].as_i64().expect("one"));
    run.rows().iter().map(fault).collect()
}

#[test]
fn a_row_of_sqlite_that_cannot_be_read_is_named_and_the_others_are_compared() {
    let named = "raw_events, origin 'a.jsonl', partition '0', offset 10";
    for (value, expected) in [
        ("event_time = 'yesterday'", format!("{named}, event_id")),
        ("client_timestamp = '2026-13-01'", named.to_owned()),
        ("event_type = x'ff00'", named.to_owned()),
        ("event_type = cast(x'ff00' as text)", named.to_owned()),
        ("event_id = 'nonsense'", format!("{named}: event_id: expected a UUID, found 'nonsense'; event_time 20")),
    ] {
        let dir = stored("reconcile-damaged");
        change(&dir, &format!("{value} WHERE offset = 10"));
        change(&dir, "user_id = 'other' WHERE offset = 20");
        let run = dir.run("evt-reconcile", &["a.jsonl", "m.db", "--ids", "-o", "jsonl"]).ends_with(1);
        assert_eq!(faults(&run), [("missing".to_owned(), 10), ("different".to_owned(), 20)], "{value}: {run}");
        assert!(run.stderr().contains(&expected), "{value}: {run}");
        assert!(run.stderr().contains("1 stored row cannot be read"), "{value}: {run}");
        // Other tools end at the row.
        dir.shell("evt-view m.db -q -o jsonl").ends_with(65);
    }
}

#[test]
fn a_row_whose_offset_cannot_be_read_does_not_hide_the_faults_after_it() {
    let dir = stored("reconcile-damaged-offset");
    change(&dir, "offset = 'abc' WHERE offset = 10");
    change(&dir, "user_id = 'other' WHERE offset = 20");
    let run = dir.run("evt-reconcile", &["a.jsonl", "m.db", "--ids", "-o", "jsonl"]).ends_with(1);
    assert_eq!(faults(&run), [("missing".to_owned(), 10), ("different".to_owned(), 20)], "{run}");
    assert!(run.stderr().contains("offset: expected a whole number, found 'abc'"), "{run}");
}

#[test]
fn a_row_of_a_that_cannot_be_read_is_a_fault_although_b_has_its_record() {
    let dir = stored("reconcile-damaged-a");
    dir.shell("evt-ingest -q a.jsonl --to b.jsonl").succeeds();
    let args = ["m.db", "b.jsonl", "-q"];
    dir.run("evt-reconcile", &args).succeeds();
    change(&dir, "event_id = 'x' WHERE offset = 10");
    let run = dir.run("evt-reconcile", &args).ends_with(1);
    assert!(run.stderr().contains("offset 10: event_id: expected a UUID, found 'x'"), "{run}");
    assert!(run.stderr().contains("(30 in B); 1 stored row cannot be read"), "{run}");
}

#[test]
fn pages_of_a_lake_that_cannot_be_read_are_counted_and_the_other_files_are_compared() {
    let dir = Dir::new("reconcile-damaged-lake");
    let event = |day: u32, n: u32| {
        format!("{{\"source\":\"s\",\"event_type\":\"e\",\"client_timestamp\":\"2026-01-0{day}T00:00:{n:02}Z\"}}\n")
    };
    dir.write("a.jsonl", (1..4).flat_map(|day| (0..10).map(move |n| event(day, n))).collect::<String>());
    dir.shell("evt-ingest -q --time client_timestamp a.jsonl --to parquet:lake").succeeds();
    let compare = ["a.jsonl", "parquet:lake", "--time", "client_timestamp"];
    dir.run("evt-reconcile", &compare).succeeds();
    let file =
        std::fs::read_dir(dir.path("lake/date=2026-01-02")).expect("a day").next().expect("a file").expect("an entry");
    let mut bytes = std::fs::read(file.path()).expect("a file");
    bytes[4..40].fill(0xff);
    std::fs::write(file.path(), bytes).expect("it is written");
    let run = dir.run("evt-reconcile", &compare).ends_with(1);
    assert!(
        run.stderr().contains("10 missing of 30 records (20 in B); a.jsonl/0@11 to 20: 10 missing since 2026-01-02T"),
        "{run}"
    );
    assert!(
        run.stderr().contains("date=2026-01-02") && run.stderr().contains("10 stored rows cannot be read"),
        "{run}"
    );
}

#[test]
fn a_row_of_postgres_that_cannot_be_read_is_named_and_the_others_are_compared() {
    let Some((postgres, uri, schema)) = servers::postgres() else { return };
    let dir = stored("reconcile-damaged-postgres");
    dir.run("evt-ingest", &["-q", "a.jsonl", "--to", &postgres]).succeeds();
    servers::psql(&dir, &uri, &schema, "UPDATE raw_events SET event_time = 'infinity' WHERE \"offset\" = 10");
    let table = format!("{postgres}&table=raw_events");
    let run = dir.run("evt-reconcile", &["a.jsonl", &table, "--ids", "-o", "jsonl"]).ends_with(1);
    assert_eq!(faults(&run), [("missing".to_owned(), 10)], "{run}");
    assert!(run.stderr().contains("origin 'a.jsonl', partition '0', offset 10: column 'event_time'"), "{run}");
}

/// Letters match by position: those of another name match nothing.
#[test]
fn letters_of_another_origin_than_a_are_no_silent_reason_for_missing_records() {
    let dir = Dir::new("reconcile-plus-origin");
    std::fs::create_dir(dir.path("other")).expect("a directory");
    dir.shell(
        "evt-gen --events 500 --malformed 0.1 --seed 4 -q > events.jsonl && cp events.jsonl other/copy.jsonl \
         && evt-ingest -q events.jsonl --dlq dead.jsonl --to rows.db",
    )
    .succeeds();
    let compare = "evt-reconcile other/copy.jsonl 'rows.db?table=raw_events' --plus dead.jsonl";
    let run = dir.shell(compare).ends_with(1);
    let hint =
        "no record of --plus has an origin of A (other/copy.jsonl); set --origin to theirs, such as events.jsonl";
    assert!(run.stderr().contains(hint), "{run}");
    let run = dir.shell(&format!("{compare} --origin events.jsonl")).succeeds();
    assert!(!run.stderr().contains("--origin"), "{run}");
}

#[test]
fn options_follow_the_name_of_a_sqlite_file_in_every_tool() {
    let dir = stored("short-table");
    let tools = [
        "evt-reconcile a.jsonl 'm.db?table=raw_events'",
        "evt-view 'm.db?table=raw_events' -q",
        "evt-window -q 'm.db?table=raw_events' --size 1h --late null: --to 'n.db?visible=now'",
        "evt-reconcile --freshness 'n.db?table=aggregated_metrics' -q",
        "evt-sink -q 'm.db?table=raw_events' --to 'o.db?key=event_id'",
    ];
    tools.iter().for_each(|tool| _ = dir.shell(tool).succeeds());
    assert!(!dir.path("n.db?visible=now").exists() && dir.path("n.db").exists());
    let run = dir.shell("evt-view 'm.db?tabel=raw_events'").ends_with(2);
    assert!(run.stderr().contains("unknown option 'tabel'"), "{run}");
    // A file whose own name has a question mark is that file.
    dir.shell("cp a.jsonl 'm.db?table=x' && evt-ingest -q 'm.db?table=x' --to null:").succeeds();
}

/// Files of another program are read by their columns, and from a row that needs the mapping on by the mapping: the
/// faults are the same, and the rows are those that other tools read.
#[test]
fn files_of_another_program_are_compared_as_other_tools_read_them() {
    let Some(python) = python() else { return };
    let dir = Dir::new("reconcile-foreign");
    let write = r#"
import duckdb
event = """SELECT {id} AS event_id, 's' AS source, 'u' || n % 7 AS user_id, {price} AS price, n % 3 = 0 AS ok, [n, n + 1] AS list,
    {{'a': n, 'b': 'x"y'}}::JSON AS properties, TIMESTAMPTZ '2024-01-15 00:00:00Z' + to_seconds(n) AS server_timestamp
    FROM range(5000) AS t(n) WHERE {where} ORDER BY n"""
uuid = "md5(n::VARCHAR)::UUID"
for name, id, price, where in [
    ("a", uuid, "n / 100.0", "true"),
    ("b", uuid, "n / 100.0 + (n = 4000)::INTEGER", "n <> 17"),
    ("c", f"CASE n WHEN 4500 THEN 'nonsense' ELSE {uuid}::VARCHAR END", "n / 100.0", "true"),
]:
    query = event.format(id=id, price=price, where=where)
    duckdb.sql(f"SET TimeZone = 'UTC'; COPY ({query}) TO '{name}.parquet' (FORMAT parquet)")
"#;
    dir.run(&python, &["-c", write]).succeeds();
    dir.shell("evt-view -q a.parquet -o jsonl --to a.jsonl && evt-ingest -q a.parquet --to parquet:lake").succeeds();
    for other in ["a.jsonl", "parquet:lake"] {
        is_right(&dir, &["a.parquet", other, "--ids"]);
        is_right(&dir, &[other, "a.parquet", "--ids", "--by", "id"]);
    }
    let expected = [("missing".to_owned(), 18), ("different".to_owned(), 4001)];
    for a in ["a.parquet", "a.jsonl"] {
        let found = reconcile(&dir, &[a, "b.parquet", "--ids", "--by", "id"]).ends_with(1);
        assert_eq!(verdicts(&found), expected, "{found}");
    }
    let found = reconcile(&dir, &["a.parquet", "c.parquet", "--ids", "--by", "id"]).ends_with(1);
    assert_eq!(verdicts(&found), [("missing".to_owned(), 4501)], "{found}");
    assert!(found.stderr().contains("1 record of B cannot be read"), "{found}");
    // A record of A that cannot be read is a unit too.
    let found = reconcile(&dir, &["c.parquet", "a.parquet", "--by", "id"]).ends_with(1);
    assert!(found.stderr().contains("c.parquet/0@4501: 1 missing; a.parquet/0@4501: 1 extra"), "{found}");
}
