//! Stores keep how far metrics are, and evt-backfill takes the out-of-orderness of the run that wrote the rows from it.

use crate::backfill::{cells, stores};
use crate::harness::{Dir, Draws, ended, eventually, is_killed_within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::Write;
use std::process::Stdio;

const METRICS: &str = "[[metric]]\nname = 'n'\nby = ['event_type']\nsize = '1m'\n\
    [[metric]]\nname = 'hops'\nsize = '2m'\nslide = '30s'\nlateness = '10s'\n\
    [[metric]]\nname = 'visits'\nby = ['user_id']\ngap = '10s'\n";

/// Writes events of which some are far behind, and the metrics.
fn disordered(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.shell("evt-gen --events 6000 --seed 3 --late 0.05 --rate 50 -q > e.jsonl").succeeds();
    dir.write("m.toml", METRICS);
    dir
}

/// The rows of `metric_progress` of a SQLite store, without the time of their change.
fn kept(dir: &Dir, name: &str) -> Vec<Value> {
    let database = rusqlite::Connection::open(dir.path(name)).expect("a database");
    let columns = "pipeline, metric_name, size, slide, gap, lateness, out_of_orderness, watermark, complete_since";
    let mut query = database.prepare(&format!("SELECT {columns} FROM metric_progress ORDER BY 1, 2")).expect("a table");
    let text = |row: &rusqlite::Row<'_>, column: usize| row.get::<_, Option<String>>(column);
    let rows = query.query_map([], |row| (0..9).map(|column| text(row, column)).collect::<Result<Vec<_>, _>>());
    rows.expect("rows").map(|row| json!(row.expect("texts"))).collect()
}

#[test]
fn a_correction_without_flags_changes_nothing_whatever_the_run_had() {
    let dir = disordered("progress-same");
    dir.shell("evt-ingest e.jsonl -q --to parquet:raw").succeeds();
    for store in stores("m") {
        for (at, bound) in ["", "--out-of-orderness 30s", "--out-of-orderness 2s"].into_iter().enumerate() {
            let (named, window) =
                (format!("--pipeline p{at}"), format!("evt-window -q -m m.toml {bound} --late null:"));
            dir.shell("rm -rf m m.db").succeeds();
            let run = dir.shell(&format!("{window} e.jsonl {named} | evt-sink -q {named} --to '{store}'"));
            // Rows of the earlier pipeline that count more events stay on a server.
            run.ends_with(i32::from(store.starts_with("postgres") && at > 0));
            for input in ["e.jsonl", "parquet:raw --all-closed"] {
                let line = format!("evt-backfill -q {input} -m m.toml --to '{store}' --dry-run");
                let run = dir.shell(&line);
                if !store.starts_with("postgres") {
                    assert_eq!(run.succeeds().text(), "", "{store} {bound}");
                }
            }
            // Another pipeline has written the same rows to a server before.
            if store.starts_with("postgres") && at > 0 {
                let run = dir.shell(&format!("evt-backfill -q e.jsonl -m m.toml --only n --to '{store}'")).ends_with(2);
                assert!(run.stderr().contains("n of pipeline p0 was written with all"), "{run}");
            }
        }
    }
}

#[test]
fn a_row_whose_events_are_late_goes_and_a_correction_equals_the_run_with_the_bound_of_the_store() {
    let dir = disordered("progress-right");
    let live = "evt-window -q -m m.toml --out-of-orderness 5s --late null: e.jsonl --to";
    dir.shell(&format!("{live} sqlite:right.db; {live} sqlite:m.db")).succeeds();
    // Rows of a run that counted all events stand where the record says 5s.
    dir.shell("evt-window -q -m m.toml --out-of-orderness all e.jsonl --to sqlite:all.db").succeeds();
    let database = rusqlite::Connection::open(dir.path("m.db")).expect("a database");
    let all = dir.path("all.db").display().to_string();
    database
        .execute_batch(&format!(
            "ATTACH '{all}' AS a; DELETE FROM aggregated_metrics; INSERT INTO aggregated_metrics SELECT * FROM a.aggregated_metrics"
        ))
        .expect("it runs");
    drop(database);
    dir.shell("cp m.db kept.db; cp m.db old.db; cp m.db other.db").succeeds();
    let run = dir.shell("evt-backfill e.jsonl -m m.toml --to m.db").succeeds();
    assert!(run.stderr().contains("--out-of-orderness 5s, with which n of pipeline evt was written"), "{run}");
    assert_eq!(cells(&dir, "sqlite:m.db"), cells(&dir, "sqlite:right.db"), "{run}");
    assert!(run.stderr().contains("retracted, because all their events are late in this run"), "{run}");
    let run = dir.shell("evt-backfill -q e.jsonl -m m.toml --keep-late --to kept.db").succeeds();
    assert!(cells(&dir, "sqlite:kept.db").len() > cells(&dir, "sqlite:right.db").len(), "{run}");
    assert!(run.stderr().contains("not retracted, because all their events may be late"), "{run}");
    // Where nothing is recorded, no row is lowered or retracted.
    let database = rusqlite::Connection::open(dir.path("old.db")).expect("a database");
    database.execute("DELETE FROM metric_progress", []).expect("it runs");
    drop(database);
    let before = cells(&dir, "sqlite:old.db");
    let run = dir.shell("evt-backfill -q e.jsonl -m m.toml --to old.db").ends_with(1);
    let why = "nothing says what the run that wrote them had; give its --out-of-orderness (all if its inputs ended)";
    assert!(run.stderr().contains(why), "{run}");
    assert_eq!(cells(&dir, "sqlite:old.db"), before);
    // A key that is not that of the store is an error before anything is written, and the flag says which one is right.
    dir.write("k.toml", format!("[defaults]\nout_of_orderness = '1m'\n{METRICS}"));
    let run = dir.shell("evt-backfill -q e.jsonl -m k.toml --to other.db").ends_with(2);
    let why = "the metrics file has out_of_orderness 1m, but n of pipeline evt was written with 5s; --out-of-orderness says which one is right";
    assert!(run.stderr().contains(why), "{run}");
    assert_eq!(cells(&dir, "sqlite:other.db"), before);
    dir.shell("evt-backfill -q e.jsonl -m k.toml --out-of-orderness 5s --to other.db").succeeds();
    assert_eq!(cells(&dir, "sqlite:other.db"), cells(&dir, "sqlite:right.db"));
}

#[test]
fn two_pipelines_with_other_bounds_are_refused_and_one_metric_of_them_is_corrected() {
    let dir = disordered("progress-two");
    dir.write("a.toml", "[[metric]]\nname = 'a'\nsize = '1m'\n");
    dir.write("b.toml", "[[metric]]\nname = 'b'\nsize = '1m'\n");
    dir.write("ab.toml", "[[metric]]\nname = 'a'\nsize = '1m'\n[[metric]]\nname = 'b'\nsize = '1m'\n");
    dir.shell("evt-window -q -m a.toml e.jsonl --pipeline x --to m.db").succeeds();
    dir.shell("evt-window -q -m b.toml e.jsonl --out-of-orderness 5s --late null: --pipeline y --to m.db").succeeds();
    let run = dir.shell("evt-backfill -q e.jsonl -m ab.toml --to m.db").ends_with(2);
    let why = "a of pipeline x was written with all, b of pipeline y was written with 5s; --out-of-orderness says which one is right, \
               --only selects metrics";
    assert!(run.stderr().contains(why), "{run}");
    for metric in ["a", "b"] {
        let run = dir.shell(&format!("evt-backfill -q e.jsonl -m ab.toml --only {metric} --to m.db --dry-run"));
        assert_eq!(run.succeeds().text(), "", "{metric}");
    }
    let database = rusqlite::Connection::open(dir.path("m.db")).expect("a database");
    database.execute("DELETE FROM metric_progress WHERE metric_name = 'b'", []).expect("it runs");
    let before = cells(&dir, "sqlite:m.db");
    let run = dir.shell("evt-backfill -q e.jsonl -m ab.toml --to m.db").ends_with(2);
    let why = "a of pipeline x was written with all, and nothing says with which b was written; --out-of-orderness says which one \
               is right, --only selects metrics";
    assert!(run.stderr().contains(why), "{run}");
    assert_eq!(cells(&dir, "sqlite:m.db"), before);
}

#[test]
fn the_record_has_the_windows_and_is_infinite_after_a_proven_end_only() {
    let dir = disordered("progress-record");
    let window = "evt-window -q -m m.toml --late null:";
    dir.shell(&format!("{window} e.jsonl --to sqlite:m.db")).succeeds();
    let end = "9999-12-31T23:59:59.999999Z";
    let rows = [
        json!(["evt", "hops", "2m", "30s", null, "10s", "all", end, null]),
        json!(["evt", "n", "1m", null, null, "0s", "all", end, null]),
        json!(["evt", "visits", null, null, "10s", "0s", "all", end, null]),
    ];
    assert_eq!(kept(&dir, "m.db"), rows);
    // A checkpoint continues, so that not all has fired at the end.
    dir.shell("head -3000 e.jsonl > a.jsonl; tail -3000 e.jsonl > b.jsonl").succeeds();
    let mut watermarks = vec![];
    for file in ["a.jsonl", "b.jsonl"] {
        dir.shell(&format!("{window} {file} --checkpoint state --to sqlite:c.db")).succeeds();
        let [_, row, _] = &kept(&dir, "c.db")[..] else { panic!("three metrics") };
        assert!(row[6] == "30s" && row[8].is_null(), "{row}");
        watermarks.push(row[7].as_str().expect("a watermark").to_owned());
    }
    assert!(watermarks[0] < watermarks[1] && watermarks[1].as_str() < end, "{watermarks:?}");
    // Text of a pipe may begin anywhere: what began before its first event may lack events.
    dir.shell(&format!("cat e.jsonl | {window} -f jsonl --pipeline pipe --to sqlite:p.db")).succeeds();
    let [.., row] = &kept(&dir, "p.db")[..] else { panic!("rows") };
    let first = dir.shell("head -1 e.jsonl").succeeds().rows();
    let first = first[0]["server_timestamp"].as_str().expect("a time").to_owned();
    let since = row[8].as_str().expect("an instant");
    assert!(row[0] == "pipe" && row[6] == "30s" && row[7] == end && since > first.as_str(), "{row} {first}");
}

/// The watermark is in the transaction of the rows, so a store never says more than its rows do.
#[test]
fn a_killed_pipe_keeps_no_watermark_ahead_of_its_rows_and_the_next_run_equals_one_without_kills() {
    let dir = disordered("progress-kills");
    let window = "evt-window -q -m m.toml e.jsonl --out-of-orderness 30s --late null:";
    dir.shell(&format!("{window} --checkpoint whole --at-end fire --to sqlite:whole.db")).succeeds();
    let right = cells(&dir, "sqlite:whole.db");
    let mut draws = Draws::new();
    let run = format!("{window} --checkpoint state --checkpoint-every 20ms --at-end fire --to sqlite:m.db");
    let mut kills = 0;
    while is_killed_within(&mut dir.command("bash", &["-c", &format!("exec {run}")]), 50 + draws.below(400)) {
        kills += 1;
        if dir.path("m.db").exists() {
            behind(&dir, "m.db", &right);
        }
        assert!(kills < 500, "it never ends");
    }
    behind(&dir, "m.db", &right);
    assert_eq!((cells(&dir, "sqlite:m.db"), kept(&dir, "m.db").len()), (right, 3), "{kills} kills");
}

/// Asserts that each window of `right` that ends at or before the watermark is stored.
fn behind(dir: &Dir, name: &str, right: &crate::backfill::Cells) {
    let stored = cells(dir, &format!("sqlite:{name}"));
    // The windows of the other one fire again within their lateness.
    for row in kept(dir, name).iter().filter(|row| row[1] != "hops" && !row[7].is_null()) {
        let (metric, watermark) = (row[1].as_str().expect("a name"), row[7].as_str().expect("a watermark"));
        let due = right.keys().filter(|key| {
            let mut words = key.split(' ');
            words.next() == Some(metric) && words.nth(1).is_some_and(|end| end <= watermark)
        });
        due.for_each(|key| assert!(stored.contains_key(key), "{key} is not stored, but the watermark is {watermark}"));
    }
}

/// Writes events at these offsets (s).
fn events(dir: &Dir, name: &str, seconds: &[i64]) {
    let event = |at: &i64| format!("{}\n", json!({"t": 1_767_225_600 + at}));
    dir.write(name, seconds.iter().map(event).collect::<String>());
}

/// Writes two files of events, both as one, none, and two versions of a metric.
fn two_files(name: &str) -> Dir {
    let dir = Dir::new(name);
    events(&dir, "a.jsonl", &A);
    events(&dir, "b.jsonl", &B);
    events(&dir, "ab.jsonl", &[A, B].concat());
    dir.write("m.toml", "[[metric]]\nname = 'n'\nsize = '1m'\n");
    dir.write("l.toml", "[[metric]]\nname = 'n'\nsize = '1m'\nlateness = '1h'\n");
    dir.write("none.jsonl", "");
    dir
}

const A: [i64; 5] = [10, 310, 70, 20, 380];
const B: [i64; 5] = [610, 620, 670, 740, 800];

/// A correction of both files without a flag changes nothing, because the store knows of no one bound of all rows.
#[test]
fn rows_of_several_bounds_are_not_lowered_whatever_the_last_run_had() {
    let live = "evt-window -q --time t --out-of-orderness 10s --late null: -m m.toml";
    let all = "evt-window -q --time t -m m.toml";
    for (at, (first, second)) in [
        (all, live),
        // Rows of an older version have no record.
        ("old", live),
        // Watermarks of the input decided.
        ("control", live),
        // A run without rows says nothing.
        (live, "empty"),
        // Other windows: the lateness of the rows was another one.
        ("lateness", live),
    ]
    .into_iter()
    .enumerate()
    {
        for store in ["sqlite:m.db", "parquet:lake"] {
            let dir = two_files(&format!("progress-mixed-{at}-{}", store.len()));
            let sink = format!("| evt-sink -q --to {store}");
            let (mut input, mut lateness) = ("ab.jsonl", "");
            match first {
                "old" => {
                    dir.shell(&format!("{all} a.jsonl {sink}")).succeeds();
                    match store {
                        "sqlite:m.db" => {
                            let database = rusqlite::Connection::open(dir.path("m.db")).expect("a database");
                            database
                                .execute_batch(
                                    "DROP TABLE metric_progress; UPDATE evt_schema SET version = version - 1",
                                )
                                .expect("it runs");
                        }
                        _ => std::fs::remove_dir_all(dir.path("lake/.evt/progress")).expect("it is there"),
                    }
                }
                "control" => {
                    let text = dir.shell("cat a.jsonl").succeeds().text();
                    let mark = "{\"$evt\":{\"watermark\":\"2026-01-01T00:07:00Z\"}}\n";
                    dir.write("c.jsonl", format!("{text}{mark}"));
                    let line = format!(
                        "{all} --control --pipeline x c.jsonl --at-end fire | evt-sink -q --pipeline x --to {store}"
                    );
                    dir.shell(&line).succeeds();
                }
                "lateness" => {
                    lateness = "l";
                    dir.shell(&format!("{} a.jsonl {sink}", live.replace("m.toml", "l.toml"))).succeeds();
                }
                line => _ = dir.shell(&format!("{line} a.jsonl {sink}")).succeeds(),
            }
            if second == "empty" {
                input = "a.jsonl";
                dir.shell(&format!("{all} -f jsonl none.jsonl {sink}")).succeeds();
            } else {
                dir.shell(&format!("{second} b.jsonl {sink}")).succeeds();
            }
            let before = cells(&dir, store);
            let run = dir.shell(&format!("evt-backfill -q --time t -m m.toml {input} --to {store}"));
            let run = if second == "empty" { run.succeeds() } else { run.ends_with(1) };
            let what = format!("{first} then {second} {lateness} {store}: {run}");
            let after = cells(&dir, store);
            let stays = |(key, cell): (&String, &(Value, Value))| {
                after.get(key).is_some_and(|new| new.1.as_i64() >= cell.1.as_i64())
            };
            assert!(before.iter().all(stays), "{what}: {before:?} {after:?}");
            assert!(second != "empty" || before == after, "{what}");
        }
    }
}

/// A stream that never ends may begin anywhere, whatever run reads its first row.
#[test]
fn a_run_that_is_stopped_before_its_first_row_says_nothing_about_where_the_next_one_begins() {
    let mut seen = vec![];
    for is_stopped in [false, true] {
        let dir = Dir::new(&format!("progress-before-{is_stopped}"));
        dir.write("e.jsonl", "");
        let line = "evt-ingest -q -f jsonl --time t --follow e.jsonl --checkpoint ck --checkpoint-every 50ms \
                    | evt-window -q --size 1m --out-of-orderness 5s --late null: --to sqlite:m.db";
        let start = || dir.command("evt", &["pipe", line]).stdin(Stdio::null()).spawn().expect("it starts");
        let stops = |mut run: std::process::Child| {
            kill_process(Pid::from_child(&run), Signal::TERM).expect("it runs");
            assert_eq!(ended("it stops", &mut run), 143);
        };
        let mut run = start();
        if is_stopped {
            eventually("it has begun", || dir.path("ck/log/1").exists());
            stops(run);
            run = start();
        }
        let rows = || {
            let database = rusqlite::Connection::open(dir.path("m.db"))?;
            database.query_row("SELECT count(*) FROM aggregated_metrics", [], |row| row.get::<_, i64>(0))
        };
        events(&dir, "e.jsonl", &[30, 100, 200]);
        eventually("windows are stored", || dir.path("m.db").exists() && rows().is_ok_and(|rows| rows == 2));
        stops(run);
        seen.push(kept(&dir, "m.db").iter().map(|row| row[8].clone()).collect::<Vec<_>>());
    }
    assert!(seen.iter().all(|rows| rows.len() == 1 && rows[0].is_string()), "{seen:?}");
}

/// Rows that are left out are in no store, so no watermark may say so.
#[test]
fn a_part_of_the_rows_leaves_no_watermark() {
    let dir = disordered("progress-part");
    dir.shell("evt-window -q -m m.toml e.jsonl -o frames > m.frames").succeeds();
    dir.write("n.toml", "[[metric]]\nname = 'n'\nby = ['event_type']\nsize = '1m'\n");
    let window = "evt-window -q -m m.toml e.jsonl";
    for line in [
        "evt-view -q m.frames --where 'value > 1' -o frames | evt-sink -q --to part.db",
        "evt-sink -q m.frames --until 2026-01-01 --to part.db",
        &format!("{window} --until 2026-01-01 --to part.db"),
        "evt-window -q -m n.toml e.jsonl --top 1 --to part.db",
        "evt-ingest -q e.jsonl --until 2026-02-01 | evt-validate -q | evt-window -q -m m.toml --to part.db",
        "evt-ingest -q e.jsonl -o frames > a.frames; evt-ingest -q e.jsonl --until 2026-02-01 -o frames > b.frames; \
         evt-window -q -m m.toml a.frames b.frames --to part.db",
    ] {
        dir.shell(&format!("rm -f part.db*; {line}")).succeeds();
        assert!(kept(&dir, "part.db").iter().all(|row| row[7].is_null()), "{line}");
    }
    dir.shell("rm -f part.db*; evt-sink -q m.frames --to part.db").succeeds();
    assert!(kept(&dir, "part.db").iter().all(|row| !row[7].is_null()));
}

/// The record must be there with the first rows: those of a run without a record have no known bound for ever.
#[test]
fn a_run_that_is_killed_after_its_first_firing_has_kept_its_bound() {
    let dir = Dir::new("progress-first");
    dir.write("m.toml", "[[metric]]\nname = 'n'\nsize = '1m'\n");
    let live = ["-q", "-m", "m.toml", "--time", "t", "--out-of-orderness", "2s", "--late", "null:", "--to", "m.db"];
    let mut command = dir.command("evt-window", &[&live[..], &["-f", "jsonl"]].concat());
    let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
    let mut input = child.stdin.take().expect("a pipe");
    [10, 30, 70].iter().for_each(|at| writeln!(input, "{}", json!({"t": 1_767_225_600 + at})).expect("it reads"));
    let stored = || {
        let database = rusqlite::Connection::open(dir.path("m.db"))?;
        database.query_row("SELECT count(*) FROM aggregated_metrics", [], |row| row.get::<_, i64>(0))
    };
    // The tool makes the database and the table.
    eventually("the first window is stored", || dir.path("m.db").exists() && stored().is_ok_and(|rows| rows == 1));
    child.kill().expect("it runs");
    child.wait().expect("it has ended");
    let bounds = || kept(&dir, "m.db").iter().map(|row| row[6].clone()).collect::<Vec<_>>();
    assert_eq!(bounds(), ["2s"]);
    events(&dir, "e.jsonl", &[10, 30, 70, 200]);
    dir.run("evt-window", &[&live[..], &["e.jsonl"]].concat()).succeeds();
    assert_eq!(bounds(), ["2s"]);
}

/// Its history may be that of a correction, and other metrics have rows before it.
#[test]
fn a_metric_that_is_added_to_a_store_has_the_bound_of_its_runs() {
    for store in ["sqlite:m.db", "parquet:m"] {
        let dir = Dir::new("progress-added");
        let metric = |name| format!("[[metric]]\nname = '{name}'\nsize = '1m'\n");
        dir.write("n.toml", metric("n"));
        dir.write("np.toml", [metric("n"), metric("p")].concat());
        events(&dir, "a.jsonl", &[10, 70, 130]);
        events(&dir, "b.jsonl", &[10, 70, 130, 190, 250]);
        let rest = format!("--time t --out-of-orderness 2s --to {store}");
        dir.shell(&format!("evt-window -q -m n.toml a.jsonl --late null: {rest}")).succeeds();
        dir.shell(&format!("evt-backfill -q -m np.toml a.jsonl {rest}")).succeeds();
        dir.shell(&format!("evt-window -q -m np.toml b.jsonl --late null: {rest}")).succeeds();
        let run = dir.shell(&format!("evt-backfill -m np.toml b.jsonl --time t --to {store} --dry-run")).succeeds();
        assert!(run.text().is_empty() && run.stderr().contains("--out-of-orderness 2s, with which"), "{store}: {run}");
    }
}

/// A lake does not know which metrics it has, so rows that came without a statement count for all.
#[test]
fn rows_of_a_lake_without_a_statement_have_no_bound_beside_metrics_that_have_one() {
    let dir = Dir::new("progress-lake");
    for name in ["a", "b"] {
        dir.write(&format!("{name}.toml"), format!("[[metric]]\nname = '{name}'\nsize = '1m'\n"));
    }
    events(&dir, "e.jsonl", &[10, 70, 130]);
    let window =
        |name: &str, bound: &str| format!("evt-window -q -m {name}.toml --time t --out-of-orderness {bound} e.jsonl");
    dir.shell(&format!("{} --to parquet:m", window("a", "2s"))).succeeds();
    dir.shell(&format!("{} -o frames | evt-sink -q --since 2020-01-01 --to parquet:m", window("b", "5s"))).succeeds();
    dir.shell(&format!("{} --to parquet:m --pipeline p", window("b", "1s"))).succeeds();
    let said = dir.shell("evt-backfill -m b.toml e.jsonl --time t --to parquet:m --dry-run").stderr();
    assert!(!said.contains("with which b"), "{said}");
    let said = dir.shell("evt-backfill -m a.toml e.jsonl --time t --to parquet:m --dry-run").stderr();
    assert!(said.contains("--out-of-orderness 2s, with which a of pipeline evt was written"), "{said}");
}

#[test]
fn a_damaged_record_of_a_lake_says_what_to_do() {
    let dir = disordered("progress-damaged");
    let write = "evt-window -q -m m.toml --late null: e.jsonl --to parquet:m";
    dir.shell(write).succeeds();
    let path = String::from_utf8(dir.shell("ls m/.evt/progress/*.json").succeeds().stdout().to_vec()).expect("text");
    for damaged in ["", "{", "[]"] {
        dir.write(path.trim(), damaged);
        for line in [write, "evt-backfill -q e.jsonl -m m.toml --to parquet:m --dry-run"] {
            let said = dir.shell(line).ends_with(65).stderr();
            let advice = "restore it, or move it away, and give evt-backfill --out-of-orderness";
            assert!(said.contains(path.trim()) && said.contains(advice), "{line}: {said}");
        }
    }
    dir.shell(&format!("rm {path}")).succeeds();
    let correct = "evt-backfill -q e.jsonl -m m.toml --out-of-orderness all --to parquet:m --dry-run";
    assert_eq!(dir.shell(correct).succeeds().text(), "");
}
