//! Rows that pass through other programs and come back, and streams of very many partitions.

use crate::harness::{Dir, ROOT, ask, python};
use std::fmt::Write;

const TOOLS: [&str; 4] = ["pyarrow", "bare", "duckdb", "polars"];

/// Events of two partitions in `event.arrows` and `event.parquet`, their metrics in `metric.arrows` and
/// `metric.parquet`, and the rows of both in a store, as JSON lines.
fn sample(dir: &Dir) {
    let window = "evt-window event.arrows -q --size 10s --by event_type --late null:";
    for line in [
        "evt-gen --events 300 --seed 11 --rate 5 -q > a.jsonl; evt-gen --events 200 --seed 12 --rate 5 -q > b.jsonl",
        "evt-ingest a.jsonl b.jsonl -q > event.arrows",
        &format!("{window} > metric.arrows"),
    ] {
        dir.shell(line).succeeds();
    }
    for kind in ["event", "metric"] {
        dir.run("evt-sink", &[&format!("{kind}.arrows"), "-q", "--to", &format!("{kind}.parquet")]).succeeds();
        stored(dir, kind, &format!("{kind}.arrows"), &format!("{kind}.jsonl"));
        assert!(!dir.rows(&format!("{kind}.jsonl")).is_empty());
    }
}

/// Writes the rows of a file to SQLite, and reads them back in its order into `to`.
fn stored(dir: &Dir, kind: &str, from: &str, to: &str) -> String {
    let table = if kind == "event" { "raw_events" } else { "aggregated_metrics" };
    let run = dir.run("evt-sink", &[from, "--to", &format!("sqlite:{to}.db")]).succeeds();
    dir.shell(&format!("evt-view 'sqlite:{to}.db?table={table}' -q -o jsonl > {to}")).succeeds();
    run.stderr()
}

#[test]
fn a_parquet_file_that_another_program_rewrote_is_the_same_rows() {
    let Some(python) = python() else { return };
    let dir = Dir::new("rewritten");
    sample(&dir);
    for (kind, tool) in ["event", "metric"].into_iter().flat_map(|kind| TOOLS.map(|tool| (kind, tool))) {
        let rewritten = format!("{kind}-{tool}.parquet");
        ask(&dir, &python, "rewrite.py", &[tool, &format!("{kind}.parquet"), &rewritten]);
        stored(&dir, kind, &rewritten, &format!("{rewritten}.jsonl"));
        assert!(dir.bytes(&format!("{rewritten}.jsonl")) == dir.bytes(&format!("{kind}.jsonl")), "{kind} {tool}");
    }
}

#[test]
fn a_stream_that_another_program_passed_on_is_the_same_rows_with_an_end_that_is_not_proven() {
    let Some(python) = python() else { return };
    let dir = Dir::new("passed_on");
    sample(&dir);
    for (kind, tool) in ["event", "metric"].into_iter().flat_map(|kind| TOOLS.map(|tool| (kind, tool))) {
        let passed = format!("{kind}-{tool}.arrows");
        dir.shell(&format!("{python} {ROOT}/tests/oracle/rewrite.py {tool} < {kind}.arrows > {passed}")).succeeds();
        let said = stored(&dir, kind, &passed, &format!("{passed}.jsonl"));
        assert!(said.contains("; end not proven"), "{kind} {tool}: {said}");
        assert!(dir.bytes(&format!("{passed}.jsonl")) == dir.bytes(&format!("{kind}.jsonl")), "{kind} {tool}");
    }
}

#[test]
fn a_python_filter_between_two_stages_gives_the_metrics_of_the_rows_it_leaves() {
    let Some(python) = python() else { return };
    let dir = Dir::new("filter");
    sample(&dir);
    let window = "evt-window --size 10s --by event_type --late null: -o jsonl";
    let direct = dir.shell("evt-window event.arrows -q --size 10s --by event_type --late null: -o jsonl");
    let direct = direct.succeeds().text();
    for tool in TOOLS {
        let line = format!("evt-ingest a.jsonl b.jsonl -q | {python} {ROOT}/tests/oracle/rewrite.py {tool} | {window}");
        let run = dir.shell(&line).succeeds();
        assert_eq!(run.text(), direct, "{tool}");
        assert!(run.stderr().contains("end not proven"), "{tool}: {run}");
    }
    dir.write(
        "keep.py",
        "import pyarrow.compute as c, pyarrow.ipc as i, sys\n\
         t = i.open_stream(sys.stdin.buffer).read_all()\n\
         t = t.filter(c.equal(t['event_type'], 'purchase'))\n\
         t = t.append_column('kept', [[True] * t.num_rows])\n\
         w = i.new_stream(sys.stdout.buffer, t.schema); w.write_table(t); w.close()\n",
    );
    let line = format!("evt-ingest a.jsonl b.jsonl -q | {python} keep.py | {window} --where kept");
    let filtered = dir.shell(&line).succeeds().text();
    let wanted: String =
        direct.lines().filter(|row| row.contains("\"purchase\"")).map(|row| format!("{row}\n")).collect();
    assert!(!wanted.is_empty());
    assert_eq!(filtered, wanted, "a column that was added is a property");
}

#[test]
fn a_stream_with_control_messages_and_without_an_end_is_torn() {
    let Some(python) = python() else { return };
    let dir = Dir::new("torn_filter");
    dir.shell("evt-gen --events 300 --seed 11 -q | evt-ingest -q > whole.arrows").succeeds();
    // The bytes up to the `end` frame, then Arrow's marker.
    let whole = dir.bytes("whole.arrows");
    let end = memchr::memmem::rfind(&whole, b"evt.end").expect("it has an end");
    let frame = memchr::memmem::rfind(&whole[..end], &[0xff; 4]).expect("a frame starts with its mark");
    dir.write("torn.arrows", [&whole[..frame], &[0xff; 4], &[0; 4]].concat());
    let run = dir.run("evt-window", &["torn.arrows", "--size", "1m", "-o", "jsonl"]).ends_with(65);
    assert!(run.stdout().is_empty() && run.stderr().contains("Arrow's end without evt.end"), "{run}");
    let through = format!("{python} {ROOT}/tests/oracle/rewrite.py pyarrow < torn.arrows > hidden.arrows");
    dir.shell(&through).succeeds();
    dir.run("evt-window", &["hidden.arrows", "--size", "1m", "-q"]).succeeds();
}

#[test]
fn text_that_is_no_json_object_in_a_foreign_column_of_properties_is_a_dead_letter() {
    let Some(python) = python() else { return };
    let dir = Dir::new("no_object");
    let make = "import pyarrow as p, pyarrow.ipc as i; t = p.table({'event_time': ['2024-01-01T00:00:00Z'] * 3, \
                'properties': ['{\\n \\'k\\': 1}'.replace(chr(39), chr(34)), 'x', '[1]']}); \
                w = i.new_stream('in.arrows', t.schema); w.write_table(t); w.close()";
    dir.shell(&format!("{python} -c \"{make}\"")).succeeds();
    let run = dir.run("evt-ingest", &["in.arrows", "--dlq", "dead.jsonl", "-o", "jsonl", "-q"]).succeeds();
    assert_eq!(run.rows().len(), 1, "{run}");
    assert!(run.text().contains(r#""properties":{  "k": 1}"#), "{run}");
    assert_eq!(dir.rows("dead.jsonl").len(), 2);
}

#[test]
fn duckdb_sees_ids_as_uuids_and_properties_as_json() {
    let Some(python) = python() else { return };
    let dir = Dir::new("duckdb_types");
    sample(&dir);
    let look = "import duckdb; print([duckdb.sql(f\"SELECT typeof({c}) FROM '{f}' LIMIT 1\").fetchall()[0][0] for c, f in \
                [('event_id', 'event.parquet'), ('properties', 'event.parquet'), ('metric_id', 'metric.parquet')]])";
    let run = dir.run(&python, &["-c", look]).succeeds();
    assert_eq!(run.text().trim(), "['UUID', 'JSON', 'UUID']");
}

#[test]
fn a_stream_of_more_partitions_than_fit_in_a_header_is_read() {
    let dir = Dir::new("partitions");
    let mut lines = String::new();
    for user in 0..185_000 {
        let _ = writeln!(lines, r#"{{"event_time":"2024-01-01T00:00:00Z","p":"{user:0>60}"}}"#);
    }
    dir.write("in.jsonl", lines);
    let line = "evt-ingest in.jsonl -q --time event_time --field partition=p > in.arrows";
    dir.shell(line).succeeds();
    let run = dir.run("evt-window", &["in.arrows", "--size", "1m", "-o", "jsonl", "-q"]).succeeds();
    let rows = run.rows();
    assert!(rows.len() == 1 && rows[0]["value"] == 185_000.0, "{run}");
}

#[test]
fn an_empty_text_survives_a_csv_file() {
    let dir = Dir::new("empty_csv");
    dir.write(
        "in.jsonl",
        "{\"event_type\":\"\",\"user_id\":\"\",\"server_timestamp\":\"2024-01-01T00:00:00Z\"}\n\
         {\"server_timestamp\":\"2024-01-01T00:00:00Z\"}\n",
    );
    let args = "--by event_type,user_id --size 1m -q -o jsonl";
    let direct = dir.shell(&format!("evt-ingest in.jsonl -q | evt-window {args}")).succeeds().text();
    assert_eq!(direct.lines().count(), 2);
    for format in ["csv", "tsv"] {
        let line = format!("evt-ingest in.jsonl -q -o {format} | evt-window -f {format} {args}");
        assert_eq!(dir.shell(&line).succeeds().text(), direct, "{format}");
    }
}

#[test]
fn a_database_with_a_table_of_another_program_is_refused_in_one_short_line() {
    let dir = Dir::new("foreign_table");
    dir.write("in.jsonl", "{\"server_timestamp\":\"2024-01-01T00:00:00Z\"}\n");
    let db = rusqlite::Connection::open(dir.path("x.db")).expect("a new file");
    db.execute_batch("CREATE TABLE raw_events (x)").expect("a table");
    drop(db);
    for check in [&[][..], &["--check"]] {
        let run = dir.run("evt-ingest", &[&["in.jsonl", "--to", "sqlite:x.db"], check].concat()).ends_with(78);
        let told = "sqlite:x.db: another program created the table raw_events";
        assert!(run.stderr().contains(told) && run.stderr().len() < 200, "{run}");
    }
}

#[test]
fn all_fields_of_a_table_are_the_columns_that_its_file_declares() {
    let Some(python) = python() else { return };
    let dir = Dir::new("declared");
    dir.write(
        "make.py",
        "import pyarrow as pa, pyarrow.parquet as pq, pyarrow.feather as feather\n\
         rows = 200_000\n\
         table = pa.table({'a': range(rows), 'origin': ['x'] * rows, 'none': pa.nulls(rows, pa.int64()),\n\
         'late': pa.array([None] * (rows - 1) + [7.5]), 'a b': [1] * rows})\n\
         pq.write_table(table, 't.parquet')\n\
         feather.write_feather(table, 't.arrow')\n\
         pq.write_table(table.slice(0, 0), 'empty.parquet')\n",
    );
    dir.shell(&format!("{python} make.py")).succeeds();
    for table in ["t.parquet", "t.arrow"] {
        let run = dir.shell(&format!("evt-view {table} --columns '*' -o csv > {table}.csv")).succeeds();
        assert!(!run.stderr().contains("no column for"), "{run}");
        let ends = dir.shell(&format!("sed -n '1,2p;$p' {table}.csv")).succeeds();
        assert_eq!(ends.text(), "a,origin,none,late,a b\n0,x,,,1\n199999,x,,7.5,1\n", "{table}");
    }
    let run = dir.shell("evt-view empty.parquet --columns '*' -o csv").succeeds();
    assert_eq!(run.text(), "a,origin,none,late,a b\n");
}
