//! evt-backfill corrects the windows of a store: what it leaves equals one run over the whole input.

use crate::broker::Bench;
use crate::harness::{Dir, Draws, ROOT, ask, data, eventually, is_killed_within, python, status};
use crate::servers;
use rustix::io::ioctl_fionread;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Child, Stdio};

/// Key (metric, start, end, dimensions) → value and rows: what must be equal, whatever the revision.
pub type Cells = BTreeMap<String, (Value, Value)>;

/// Returns the valid cells of a store: of several rows of a key in a lake the one of the greatest revision and number
/// of rows.
pub fn cells(dir: &Dir, store: &str) -> Cells {
    let mut rows = stored(dir, store);
    rows.sort_by_key(|row| (row["revision"].as_i64(), row["rows"].as_i64()));
    rows.iter().map(|row| (key(row), (row["value"].clone(), row["rows"].clone()))).collect()
}

fn key(row: &Value) -> String {
    let [name, start, end] =
        ["metric_name", "window_start", "window_end"].map(|name| row[name].as_str().expect("text"));
    format!("{name} {start} {end} {}", row["dimensions"])
}

fn stored(dir: &Dir, store: &str) -> Vec<Value> {
    let sign = if store.contains('?') { '&' } else { '?' };
    let table = if store.starts_with("parquet:") { String::new() } else { format!("{sign}table=aggregated_metrics") };
    dir.run("evt-view", &["-q", "-o", "jsonl", &format!("{store}{table}")]).succeeds().rows()
}

/// The stores that can be corrected, with this name; Postgres if there is a server.
pub fn stores(name: &str) -> Vec<String> {
    let mut stores = vec![format!("sqlite:{name}.db"), format!("parquet:{name}"), format!("iceberg:{name}/")];
    stores.extend(servers::postgres().map(|(uri, ..)| uri));
    stores
}

pub fn run_live(dir: &Dir, inputs: &str, metrics: &str, store: &str) {
    let line = format!("evt-ingest -q {inputs} | evt-window -q -m {metrics} --late null: | evt-sink -q --to '{store}'");
    dir.shell(&line).succeeds();
}

const RETAIL: &str = r#"
[defaults]
by = ["Country"]
size = "1d"
[[metric]]
name = "revenue"
aggregate = "sum(Quantity * UnitPrice)"
lateness = "1h"
[[metric]]
name = "customers"
aggregate = "approx_distinct(CustomerID)"
size = "3d"
slide = "1d"
[[metric]]
name = "visits"
by = ["CustomerID"]
where = "CustomerID is not null"
gap = "2h"
"#;
pub const RETAIL_TIME: &str = "--time InvoiceDate --time-format '%Y-%m-%d %H:%M:%S'";

/// Writes `days` as one file of CSV.
fn write_days(dir: &Dir, name: &str, days: &[std::path::PathBuf]) {
    let mut all = String::new();
    for (at, day) in days.iter().enumerate() {
        let text = std::fs::read_to_string(day).expect("it was unpacked");
        all.push_str(if at == 0 { &text } else { text.split_once('\n').expect("a header").1 });
    }
    dir.write(name, all);
}

#[test]
fn retail_files_cut_at_any_day_and_backfilled_across_the_seam_equal_one_run_over_the_whole() {
    let Some(archive) = data("events/online-retail-2010-12_2011-06.tar.gz") else { return };
    let dir = Dir::live("seam");
    dir.shell(&format!("tar -xzf {}", archive.display())).succeeds();
    dir.write("metrics.toml", RETAIL);
    let days = std::fs::read_dir(dir.path("by-day")).expect("it was unpacked");
    let mut days: Vec<_> = days.map(|day| day.expect("a file").path()).collect();
    days.sort();
    let days = &days[..12];
    let mut draws = Draws::new();
    let mut cuts = BTreeSet::from([1, days.len() - 1]);
    while cuts.len() < 5 {
        cuts.insert(1 + draws.below(days.len() as u64 - 1) as usize);
    }
    for (number, cut) in cuts.into_iter().enumerate() {
        write_days(&dir, "one.csv", &days[..cut]);
        write_days(&dir, "two.csv", &days[cut..]);
        let inputs = format!("one.csv two.csv {RETAIL_TIME}");
        let whole = format!("sqlite:whole{number}.db");
        run_live(&dir, &inputs, "metrics.toml", &whole);
        let whole = cells(&dir, &whole);
        for store in stores(&format!("seam{number}")) {
            run_live(&dir, &format!("one.csv {RETAIL_TIME}"), "metrics.toml", &store);
            assert_ne!(cells(&dir, &store), whole, "{store}: the first part lacks the second one");
            let line = format!("evt-backfill -q {inputs} -m metrics.toml --to '{store}'");
            dir.shell(&format!("{line} --dry-run > changes.jsonl")).ends_with(1);
            dir.shell(&line).succeeds();
            assert_eq!(cells(&dir, &store), whole, "{store} cut at {cut}, {draws}");
            let changes = dir.rows("changes.jsonl");
            let (known, now): (Vec<_>, _) = (changes.iter().map(key).collect(), cells(&dir, &store));
            for change in changes.iter().filter(|change| change["change"] != "retracted") {
                let found = (change["value"].clone(), change["rows"].clone());
                assert_eq!(now.get(&key(change)), Some(&found), "{store}: {change}");
            }
            assert!(known.windows(2).all(|pair| pair[0] != pair[1]), "{store}: a cell is shown twice");
            let again = dir.shell(&format!("{line} --dry-run")).succeeds();
            assert_eq!(again.text(), "", "{store}: nothing is wrong any more");
        }
    }
}

const METRICS: &str = r#"
[defaults]
size = "1m"
[[metric]]
name = "events"
by = ["event_type"]
[[metric]]
name = "latency"
aggregate = "sum(latency_ms)"
by = ["country"]
lateness = "2m"
[[metric]]
name = "visitors"
aggregate = "approx_distinct(user_id)"
size = "5m"
slide = "1m"
"#;
/// The same names with another meaning.
const WRONG: &str = r#"
[defaults]
size = "1m"
[[metric]]
name = "events"
by = ["country"]
[[metric]]
name = "latency"
aggregate = "max(latency_ms)"
by = ["country"]
lateness = "2m"
[[metric]]
name = "visitors"
aggregate = "approx_distinct(user_id)"
size = "5m"
slide = "1m"
"#;

/// Generates twenty minutes of events, one in a hundred late.
fn generate(dir: &Dir) {
    let flags = "--events 12k --seed 11 --rate 10 --late 0.01 --start 2026-01-01T00:00:00Z -q";
    dir.shell(&format!("evt-gen {flags} > events.jsonl")).succeeds();
    dir.write("metrics.toml", METRICS);
    dir.write("wrong.toml", WRONG);
}

#[test]
fn a_wrong_metric_is_corrected_in_its_range_only_and_revisions_say_so() {
    let dir = Dir::live("wrong");
    generate(&dir);
    run_live(&dir, "events.jsonl", "metrics.toml", "sqlite:right.db");
    let right = cells(&dir, "sqlite:right.db");
    for store in stores("wrong") {
        run_live(&dir, "events.jsonl", "wrong.toml", &store);
        let before = cells(&dir, &store);
        let range = "--since 2026-01-01T00:05:00Z --until 2026-01-01T00:10:00Z";
        let line = format!("evt-backfill events.jsonl -m metrics.toml {range} --to '{store}'");
        let said = dir.shell(&format!("{line} --reason 'wrong by' --stats stats.json")).succeeds();
        let after = cells(&dir, &store);
        for (key, cell) in right.iter().chain(&before).chain(&after) {
            let parts: Vec<&str> = key.split(' ').collect();
            let inside = parts[1] >= "2026-01-01T00:05:00" && parts[2] <= "2026-01-01T00:10:00.000000Z";
            let wanted = if inside { right.get(key) } else { before.get(key) };
            assert_eq!(after.get(key), wanted, "{store}: {key} {cell:?}\n{said}");
        }
        let rows = stored(&dir, &store);
        let revised = rows.iter().filter(|row| row["revision"] == 1).count();
        let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
        assert_eq!(stats["cells"]["corrected"], revised, "{store}: {stats}");
        assert!(revised > 0 && stats["cells"]["inserted"].as_u64() > Some(0), "{store}: {stats}");
        assert!(
            stats["cells"]["retracted"].as_u64() > Some(0) && stats["cells"]["unchanged"].as_u64() > Some(0),
            "{stats}"
        );
        // A second run finds nothing, and --only leaves the others.
        let again = dir.shell(&line).succeeds();
        assert!(again.stderr().contains("cells: 0 corrected, 0 inserted, 0 retracted"), "{again}");
    }
}

#[test]
fn one_metric_is_corrected_alone() {
    let dir = Dir::live("only");
    generate(&dir);
    run_live(&dir, "events.jsonl", "metrics.toml", "sqlite:right.db");
    run_live(&dir, "events.jsonl", "wrong.toml", "sqlite:m.db");
    let (right, before) = (cells(&dir, "sqlite:right.db"), cells(&dir, "sqlite:m.db"));
    dir.shell("evt-backfill -q events.jsonl -m metrics.toml --only latency --to sqlite:m.db").succeeds();
    for (key, cell) in cells(&dir, "sqlite:m.db") {
        let wanted = if key.starts_with("latency ") { right.get(&key) } else { before.get(&key) };
        assert_eq!(Some(&cell), wanted, "{key}");
    }
    let refused =
        dir.shell("evt-backfill -q events.jsonl -m metrics.toml --only tardiness --to sqlite:m.db").ends_with(2);
    assert!(
        refused.stderr().contains("--only: expected one of events, latency, visitors, found tardiness"),
        "{refused}"
    );
}

/// Adds the events of each minute to a pipe of the live run; waits until the store has its windows.
#[test]
fn a_correction_beside_a_live_run_equals_the_right_run_over_everything() {
    let dir = Dir::live("beside");
    generate(&dir);
    run_live(&dir, "events.jsonl --origin in", "metrics.toml", "sqlite:right.db");
    let right = cells(&dir, "sqlite:right.db");
    let text = String::from_utf8(dir.bytes("events.jsonl")).expect("JSON lines");
    let lines: Vec<&str> = text.lines().collect();
    let (first, second) = lines.split_at(lines.len() / 2);
    // The wrong run stops after the first half; the right one takes over with all events, and writes while they are
    // corrected.
    dir.write("first.jsonl", first.join("\n") + "\n");
    run_live(&dir, "first.jsonl --origin in", "wrong.toml", "sqlite:m.db");
    let pipe = "evt-ingest -q - -f jsonl --origin in | evt-window -q -m metrics.toml --late null: --new-partitions late \
                | evt-sink -q --to sqlite:m.db?wait=2m";
    let mut command = dir.command("bash", &["-o", "pipefail", "-c", pipe]);
    let mut live =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut input = live.stdin.take().expect("it is piped");
    input.write_all((first.join("\n") + "\n").as_bytes()).expect("it reads");
    let range = "--since 2026-01-01T00:00:00Z --until 2026-01-01T00:06:00Z";
    let line = format!("evt-backfill -q first.jsonl --origin in -m metrics.toml {range} --to sqlite:m.db?wait=2m");
    dir.shell(&line).succeeds();
    let corrected = cells(&dir, "sqlite:m.db");
    input.write_all((second.join("\n") + "\n").as_bytes()).expect("it reads");
    drop(input);
    let ended = live.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(status(ended.status), 0, "{said}");
    let after = cells(&dir, "sqlite:m.db");
    // One window ends at the begin of the range; the live run writes it whenever it comes to it.
    let inside = |key: &str| {
        let times: Vec<&str> = key.split(' ').skip(1).take(2).collect();
        times[0] >= "2026-01-01T00:00:00.000000Z" && times[1] <= "2026-01-01T00:06:00.000000Z"
    };
    let of = |cells: &Cells| cells.clone().into_iter().filter(|(key, _)| inside(key)).collect::<Cells>();
    assert_eq!(of(&corrected), of(&right));
    assert_eq!(of(&after), of(&right), "{said}");
}

#[test]
fn late_events_are_counted_once_in_the_windows_that_they_were_late_for() {
    let Some(python) = python() else { return };
    for target in 0..stores("x").len() {
        let dir = Dir::live("late");
        generate(&dir);
        let store = stores("late").swap_remove(target);
        let live = format!(
            "evt-ingest -q events.jsonl --to parquet:raw --to events.frames; \
             evt-window -q -m metrics.toml --late late.jsonl --late-partial events.frames | evt-sink -q --to '{store}'"
        );
        dir.shell(&live).succeeds();
        assert!(dir.rows("late.jsonl").len() > 50);
        let before = cells(&dir, &store);
        let line = format!(
            "evt-backfill parquet:raw --late-events late.jsonl -m metrics.toml --out-of-orderness 30s --to '{store}'"
        );
        dir.shell(&format!("{line} --dry-run > changes.jsonl")).ends_with(1);
        assert_eq!(cells(&dir, &store), before);
        let said = dir.shell(&line).succeeds();
        let after = cells(&dir, &store);
        let mut wanted = before.clone();
        for change in dir.rows("changes.jsonl") {
            wanted.insert(key(&change), (change["value"].clone(), change["rows"].clone()));
        }
        assert_eq!(after, wanted, "{said}");
        // Every event counts now: the oracle knows no lateness.
        dir.write("cells.jsonl", stored_valid(&dir, &store));
        ask(&dir, &python, "backfill.py", &["events.jsonl", "cells.jsonl"]);
        // Repeated runs change nothing; a run over the range agrees with the correction; --without-late goes back.
        for again in [&line, &format!("evt-backfill parquet:raw -m metrics.toml --to '{store}' --dry-run")] {
            let again = dir.shell(again).succeeds();
            assert!(again.stderr().contains("cells: 0 "), "{again}");
        }
        assert_eq!(cells(&dir, &store), after);
        let back = format!("evt-backfill parquet:raw -m metrics.toml --all-records --without-late --to '{store}'");
        let said = dir.shell(&back).succeeds();
        assert!(said.stderr().contains("cells no longer count late events"), "{said}");
        assert_eq!(cells(&dir, &store), before, "{said}");
    }
}

/// The valid cells as JSON lines.
fn stored_valid(dir: &Dir, store: &str) -> String {
    let mut rows = stored(dir, store);
    rows.sort_by_key(|row| (row["revision"].as_i64(), row["rows"].as_i64()));
    let rows: BTreeMap<String, Value> = rows.into_iter().map(|row| (key(&row), row)).collect();
    rows.values().fold(String::new(), |mut text, row| {
        writeln!(text, "{row}").expect("a string");
        text
    })
}

#[test]
fn a_late_event_that_the_input_does_not_hold_stays_pending_until_it_does() {
    let dir = Dir::live("pending");
    generate(&dir);
    let live = "evt-ingest -q events.jsonl --to events.frames; evt-window -q -m metrics.toml --late late.jsonl events.frames \
                | evt-sink -q --to sqlite:m.db";
    dir.shell(live).succeeds();
    let late = dir.rows("late.jsonl");
    let missing = &late[late.len() / 2];
    let id = missing["event_id"].as_str().expect("an id");
    dir.shell(&format!("evt-view -q events.frames --where \"event_id <> '{id}'\" -o frames --to some.frames"))
        .succeeds();
    let line = "--late-events late.jsonl -m metrics.toml --to sqlite:m.db";
    let said = dir.shell(&format!("evt-backfill some.frames {line}")).ends_with(1);
    assert!(said.stderr().contains("late events pending: 1;") && said.stderr().contains(id), "{said}");
    let said = dir.shell(&format!("evt-backfill events.frames {line}")).succeeds();
    assert!(!said.stderr().contains("cells: 0 corrected, 0 inserted"), "{said}");
    let said = dir.shell(&format!("evt-backfill events.frames {line}")).succeeds();
    assert!(said.stderr().contains("cells: 0 corrected, 0 inserted, 0 retracted"), "{said}");
}

#[test]
fn raw_records_with_the_flags_of_live_equal_the_whole_pipe() {
    let dir = Dir::live("raw");
    let flags = "--events 12k --seed 5 --rate 10 --late 0.01 --duplicates 0.02 --malformed 0.01 --invalid 0.01 -q";
    dir.shell(&format!("evt-gen {flags} > events.jsonl")).succeeds();
    dir.write("metrics.toml", METRICS);
    let schemas = format!("{ROOT}/examples/schemas");
    let live = format!(
        "evt-ingest -q events.jsonl --dlq null: --max-future 5m --now 2026-02-01T00:00:00Z \
         | evt-validate -q --schemas {schemas} --dedup 10m --dlq null: | evt-window -q -m metrics.toml --late null: \
         | evt-sink -q --to sqlite:right.db"
    );
    dir.shell(&live).succeeds();
    let backfill = format!(
        "evt-backfill events.jsonl --max-future 5m --now 2026-02-01T00:00:00Z --schemas {schemas} --dedup 10m \
         -m metrics.toml --to sqlite:m.db"
    );
    let said = dir.shell(&backfill).succeeds();
    let right = cells(&dir, "sqlite:right.db");
    assert!(right.len() > 100);
    assert_eq!(cells(&dir, "sqlite:m.db"), right, "{said}");
}

#[test]
fn only_windows_that_the_input_of_a_store_closes_are_corrected() {
    let dir = Dir::live("closed");
    generate(&dir);
    run_live(&dir, "events.jsonl", "metrics.toml", "sqlite:right.db");
    let right = cells(&dir, "sqlite:right.db");
    dir.shell("evt-ingest -q events.jsonl --to parquet:raw --to sqlite:raw.db").succeeds();
    for (input, name) in [("parquet:raw", "lake"), ("'sqlite:raw.db?table=raw_events'", "table")] {
        let said = dir.shell(&format!("evt-backfill {input} -m metrics.toml --to sqlite:{name}.db")).succeeds();
        assert!(said.stderr().contains("are not corrected; partition 0 of events.jsonl ends there"), "{said}");
        let got = cells(&dir, &format!("sqlite:{name}.db"));
        assert!(got.len() < right.len() && got.iter().all(|(key, cell)| right.get(key) == Some(cell)), "{said}");
        let last = |name: &str| got.keys().filter(|key| key.starts_with(name)).map(|key| key.split(' ').nth(2)).max();
        assert!(last("events ") > last("latency "), "its windows stay open for longer");
        let bound =
            format!("evt-backfill {input} -m metrics.toml --closed-before 2026-01-01T00:10:00Z --to sqlite:{name}2.db");
        let said = dir.shell(&bound).succeeds();
        assert!(
            said.stderr().contains("open at 2026-01-01T00:10:00.000000Z (--closed-before) are not corrected"),
            "{said}"
        );
        let got = cells(&dir, &format!("sqlite:{name}2.db"));
        let ends = got.keys().filter(|key| key.starts_with("latency ")).filter_map(|key| key.split(' ').nth(2));
        assert_eq!(ends.max(), Some("2026-01-01T00:08:00.000000Z"));
    }
}

/// Waits until a correction has read all that its pipe holds. It claims its metrics after the first batch, before it
/// reads the rest, so another run cannot claim them first.
pub fn reads_all(run: &Child) {
    let stdin = run.stdin.as_ref().expect("it is piped");
    eventually("it reads all", || ioctl_fionread(stdin).expect("a pipe") == 0);
}

#[test]
fn an_overlapping_correction_in_flight_is_refused_and_a_dead_one_is_ended_or_resumed() {
    let dir = Dir::live("flight");
    generate(&dir);
    for store in stores("flight") {
        run_live(&dir, "events.jsonl", "wrong.toml", &store);
        let line = format!("evt-backfill -q events.jsonl -m metrics.toml --to '{store}'");
        // It waits for its input until it is killed.
        let mut command =
            dir.command("evt-backfill", &["-q", "-", "-f", "jsonl", "-m", "metrics.toml", "--to", &store]);
        let mut waiting = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let events = dir.bytes("events.jsonl");
        waiting.stdin.as_mut().expect("it is piped").write_all(&events[..events.len() / 2]).expect("it reads");
        reads_all(&waiting);
        eventually("it is in flight", || {
            let other = format!("evt-backfill -q events.jsonl -m wrong.toml --only events --to '{store}'");
            matches!(dir.shell(&other).status(), 75)
        });
        waiting.kill().expect("it runs");
        waiting.wait().expect("it ends");
        // The first run has the lock of a directory.
        if !["parquet:", "iceberg:"].iter().any(|scheme| store.starts_with(scheme)) {
            let other = format!("evt-backfill -q events.jsonl -m wrong.toml --to '{store}'");
            let refused = dir.shell(&other).ends_with(75);
            assert!(
                refused.stderr().contains("is in flight, by")
                    && refused.stderr().contains("; if that run is dead, --take-over ends its correction"),
                "{refused}"
            );
        }
        let said = dir.shell(&line.replace("-q ", "")).succeeds();
        assert!(said.stderr().contains("resuming correction"), "{said}");
        let other = format!("evt-backfill events.jsonl -m wrong.toml --only events --to '{store}'");
        dir.shell(&other).succeeds();
    }
}

/// Kills runs of evt-backfill at random times below `millis` until `kills` of them were alive.
pub fn kill_within(dir: &Dir, args: &[&str], millis: u64, kills: usize, draws: &mut Draws) {
    let mut hits = 0;
    for _ in 0..10 * kills {
        let mut command = dir.command("evt-backfill", args);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        hits += usize::from(is_killed_within(&mut command, draws.below(millis)));
        if hits == kills {
            return;
        }
    }
    panic!("{draws}: {hits} runs were alive when they were killed, expected {kills}");
}

#[test]
fn a_correction_that_is_killed_at_any_point_ends_equal_after_the_next_run() {
    let dir = Dir::live("killed");
    generate(&dir);
    run_live(&dir, "events.jsonl", "metrics.toml", "sqlite:right.db");
    let right = cells(&dir, "sqlite:right.db");
    let mut draws = Draws::new();
    for store in stores("killed") {
        for _ in 0..4 {
            run_live(&dir, "events.jsonl", "wrong.toml", &store);
            let args = ["-q", "events.jsonl", "-m", "metrics.toml", "--rate", "20000", "--to", &store];
            kill_within(&dir, &args, 600, 6, &mut draws);
            let said =
                dir.shell(&format!("evt-backfill events.jsonl -m metrics.toml --rate 40000 --to '{store}'")).succeeds();
            assert_eq!(cells(&dir, &store), right, "{store} {draws}\n{said}");
        }
    }
}

#[test]
fn a_hot_store_is_left_alone_until_evt_sink_writes_the_corrected_rows_to_it() {
    let Some((redis, ..)) = servers::redis() else { return };
    let dir = Dir::live("hot");
    generate(&dir);
    let other = METRICS.replace("sum(latency_ms)", "max(latency_ms)");
    dir.write("other.toml", &other);
    run_live(&dir, "events.jsonl", "other.toml", "sqlite:m.db");
    let table = "'sqlite:m.db?table=aggregated_metrics'";
    dir.shell(&format!("evt-view -q {table} -o frames | evt-sink -q --to '{redis}'")).succeeds();
    dir.shell("evt-backfill -q events.jsonl -m metrics.toml --to sqlite:m.db").succeeds();
    let compare = format!("evt-reconcile -q {table} '{redis}'");
    dir.shell(&compare).ends_with(1);
    dir.shell(&format!("evt-view -q {table} --where 'revision > 0' -o frames | evt-sink -q --to '{redis}'")).succeeds();
    dir.shell(&compare).succeeds();
}

#[test]
fn windows_that_a_topic_closes_equal_those_of_live_and_records_that_are_gone_are_named() {
    let Some(bench) = Bench::live("backfill") else { return };
    let (dir, topic) = (&bench.dir, bench.topic("t", 2, &[]));
    generate(dir);
    dir.shell(&format!("evt-ingest -q events.jsonl --to '{}'", bench.uri(&topic, "?key=user_id"))).succeeds();
    let live = format!(
        "evt-window -q '{}' --time event_time -m metrics.toml --late null: | evt-sink -q --to sqlite:right.db",
        bench.uri(&topic, "?end=latest")
    );
    dir.shell(&live).succeeds();
    let backfill =
        format!("evt-backfill '{}' --time event_time -m metrics.toml --to sqlite:m.db", bench.uri(&topic, ""));
    let said = dir.shell(&backfill).succeeds();
    let (right, got) = (cells(dir, "sqlite:right.db"), cells(dir, "sqlite:m.db"));
    assert!(said.stderr().contains("windows that were open at") && !said.stderr().contains("are gone"), "{said}");
    assert!(said.stderr().contains("are not corrected; partition ") && said.stderr().contains(" ends there"), "{said}");
    assert!(got.len() > 100 && got.len() < right.len(), "{} of {}\n{said}", got.len(), right.len());
    assert!(got.iter().all(|(key, cell)| right.get(key) == Some(cell)), "{said}");
    let some = backfill.replace(&topic, &format!("{topic}?start=0:5,1:0")).replace("m.db", "some.db");
    let said = dir.shell(&some).succeeds();
    assert_eq!(said.stderr().matches("/0@5: records before it are missing").count(), 1, "{said}");
}

#[test]
fn flags_that_exclude_each_other_are_refused() {
    let dir = Dir::live("flags");
    dir.write("metrics.toml", METRICS);
    dir.write("events.jsonl", "");
    let cases = [
        ("events.jsonl --to sqlite:m.db", "--metrics FILE is required"),
        ("events.jsonl -m metrics.toml", "expected a store whose metrics can be corrected"),
        ("events.jsonl -m metrics.toml --to redis://localhost", "expected a store whose metrics can be corrected"),
        ("events.jsonl parquet:raw -m metrics.toml --to sqlite:m.db", "found both"),
        ("events.jsonl -m metrics.toml --to sqlite:a.db --to sqlite:b.db", "expected one --to"),
        (
            "events.jsonl -m metrics.toml --to sqlite:m.db --since 2026-01-02T00:00:00Z --until 2026-01-01T00:00:00Z",
            "expected --since before --until",
        ),
        (
            "'sqlite:raw.db?table=raw_events' -m metrics.toml --dedup 1h --to sqlite:m.db",
            "--dedup requires raw records",
        ),
    ];
    for (flags, said) in cases {
        let refused = dir.shell(&format!("evt-backfill {flags}")).ends_with(2);
        assert!(refused.stderr().contains(said), "{refused}");
    }
    assert!(!dir.path("m.db").exists());
}
