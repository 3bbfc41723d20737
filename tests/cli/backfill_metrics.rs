//! evt-backfill gives late events to each of their metrics, whichever run has it.

use crate::backfill::stores;
use crate::harness::{Dir, Run};
use serde_json::Value;

/// Makes an event for each time, as minute and second; the third and the fourth are late for their first minutes.
fn write_events(dir: &Dir) {
    let event = |time: &str| format!("{{\"source\":\"a\",\"event_time\":\"2026-01-01T00:{time}Z\",\"size\":7}}\n");
    dir.write("e.jsonl", ["00:10", "05:00", "00:20", "00:30", "10:00"].map(event).concat());
    dir.write("n.toml", metric("n", "1m", ""));
    dir.write("z.toml", metric("z", "2m", ""));
    dir.write("m.toml", metric("n", "1m", "") + &metric("z", "2m", ""));
}

fn metric(name: &str, size: &str, rest: &str) -> String {
    format!("[[metric]]\nname = \"{name}\"\nsize = \"{size}\"\n{rest}\n")
}

fn live(dir: &Dir, metrics: &str, store: &str) {
    let line = format!("evt-window -q e.jsonl --time event_time -m {metrics} --late late.jsonl --to '{store}'");
    dir.shell(&line).succeeds();
}

fn backfill(dir: &Dir, metrics: &str, store: &str) -> Run {
    let late = "--late-events late.jsonl --stats stats.json";
    dir.shell(&format!("evt-backfill -q e.jsonl --time event_time {late} -m {metrics} --to '{store}'"))
}

/// Returns the number of late events that the last run has read.
fn read(dir: &Dir) -> u64 {
    let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
    stats["late_events"].as_u64().unwrap_or_else(|| panic!("{stats}"))
}

/// The stored results of the first window of each metric, by their names.
fn first_windows(dir: &Dir, store: &str) -> String {
    let sign = if store.contains('?') { '&' } else { '?' };
    let table = if store.starts_with("parquet:") { String::new() } else { format!("{sign}table=aggregated_metrics") };
    let mut rows = dir.shell(&format!("evt-view -q -o jsonl '{store}{table}'")).succeeds().rows();
    rows.retain(|row| row["window_start"] == "2026-01-01T00:00:00.000000Z");
    rows.sort_by_key(|row| (row["metric_name"].to_string(), row["revision"].as_i64()));
    // A lake may hold former revisions.
    let last = rows.chunk_by(|one, other| one["metric_name"] == other["metric_name"]).filter_map(<[Value]>::last);
    last.map(|row| format!("{}={} ", row["metric_name"].as_str().unwrap_or_default(), row["value"])).collect()
}

/// Two lines of cron, or a metrics file that was split.
#[test]
fn late_events_of_a_metric_that_one_run_lacks_are_counted_by_the_run_that_has_it() {
    for (number, store) in stores("late-split").into_iter().enumerate() {
        let dir = Dir::live(&format!("late_split{number}"));
        write_events(&dir);
        live(&dir, "m.toml", &store);
        assert_eq!(first_windows(&dir, &store), "n=1.0 z=1.0 ", "{store}");
        let said = backfill(&dir, "n.toml", &store).succeeds().stderr();
        let line = "late events of other metrics: 2; the file of --metrics does not have z; a run with these metrics \
                    counts them";
        assert!(said.contains(line), "{store} {said}");
        assert_eq!(first_windows(&dir, &store), "n=3.0 z=1.0 ", "{store}");
        // The run that the line advises.
        assert_eq!(backfill(&dir, "z.toml", &store).succeeds().stderr(), "", "{store}");
        assert_eq!(first_windows(&dir, &store), "n=3.0 z=3.0 ", "{store}");
        // The next night each run reads only what is new, and knows that the other metric has a run of its own.
        dir.shell("sed -n s/00:00:20/00:00:40/p e.jsonl >> e.jsonl; rm late.jsonl").succeeds();
        live(&dir, "m.toml", "sqlite:other.db");
        assert_eq!(dir.rows("late.jsonl").len(), 3);
        for metrics in ["n.toml", "z.toml"] {
            assert_eq!(backfill(&dir, metrics, &store).succeeds().stderr(), "", "{store} {metrics}");
            assert_eq!(read(&dir), 1, "{store} {metrics}");
        }
        assert_eq!(first_windows(&dir, &store), "n=4.0 z=4.0 ", "{store}");
    }
}

#[test]
fn late_events_of_a_metric_under_another_name_are_told_and_counted_once_the_name_is_right() {
    let dir = Dir::live("late_renamed");
    write_events(&dir);
    live(&dir, "m.toml", "sqlite:m.db");
    dir.write("renamed.toml", metric("count", "1m", "") + &metric("z", "2m", ""));
    for _ in 0..2 {
        let said = backfill(&dir, "renamed.toml", "sqlite:m.db").succeeds().stderr();
        assert_eq!(
            said.contains("late events of other metrics: 2; the file of --metrics does not have n"),
            read(&dir) > 0
        );
    }
    assert_eq!(read(&dir), 0);
    assert_eq!(backfill(&dir, "m.toml", "sqlite:m.db").succeeds().stderr(), "");
    assert_eq!(first_windows(&dir, "sqlite:m.db"), "n=3.0 z=3.0 ");
}

/// The store gets only one of the metrics, for good.
#[test]
fn a_store_that_shares_its_late_events_with_another_store_reads_each_of_them_once() {
    let dir = Dir::live("late_shared");
    write_events(&dir);
    live(&dir, "n.toml", "sqlite:n.db");
    dir.shell("mv late.jsonl n.jsonl").succeeds();
    live(&dir, "z.toml", "sqlite:z.db");
    dir.shell("cat n.jsonl >> late.jsonl").succeeds();
    for (store, metrics, right) in [("sqlite:n.db", "n.toml", "n=3.0 "), ("sqlite:z.db", "z.toml", "z=3.0 ")] {
        let said = backfill(&dir, metrics, store).succeeds().stderr();
        assert!(said.contains("late events of other metrics: 2;"), "{said}");
        assert_eq!((read(&dir), first_windows(&dir, store).as_str()), (4, right));
        assert_eq!(backfill(&dir, metrics, store).succeeds().stderr(), "");
        assert_eq!(read(&dir), 0, "{store}");
    }
}

#[test]
fn late_events_that_where_rejects_are_told_and_a_run_over_their_range_counts_them() {
    let dir = Dir::live("late_where");
    write_events(&dir);
    live(&dir, "m.toml", "sqlite:m.db");
    dir.write("wrong.toml", metric("n", "1m", "where = \"size > 9\"") + &metric("z", "2m", ""));
    let said = backfill(&dir, "wrong.toml", "sqlite:m.db").succeeds().stderr();
    let line = "late events rejected: 2; `where` of n does not select them; if `where` was wrong, a run with --since and --until \
                counts them";
    assert!(said.contains(line), "{said}");
    assert_eq!(first_windows(&dir, "sqlite:m.db"), "n=1.0 z=3.0 ");
    // It is said once: where may have been changed on purpose.
    assert_eq!(backfill(&dir, "wrong.toml", "sqlite:m.db").succeeds().stderr(), "");
    backfill(&dir, "m.toml --since 2026-01-01 --until 2026-01-02", "sqlite:m.db").succeeds();
    assert_eq!(first_windows(&dir, "sqlite:m.db"), "n=3.0 z=3.0 ");
}

/// Retention has removed the events that were corrected; the run reads the late events for the new metric only.
#[test]
fn a_new_metric_does_not_make_corrected_late_events_pending() {
    let dir = Dir::live("late_new_metric");
    write_events(&dir);
    live(&dir, "n.toml", "sqlite:m.db");
    backfill(&dir, "n.toml", "sqlite:m.db").succeeds();
    dir.shell("grep -v :00:[23]0 e.jsonl > rest.jsonl; mv rest.jsonl e.jsonl").succeeds();
    let said = backfill(&dir, "m.toml", "sqlite:m.db").succeeds();
    assert_eq!((said.stderr().as_str(), read(&dir)), ("", 2));
    assert_eq!(first_windows(&dir, "sqlite:m.db"), "n=3.0 ");
}

#[test]
fn a_pipe_of_late_events_is_read_once_although_its_metrics_have_several_positions() {
    let dir = Dir::live("late_pipe");
    write_events(&dir);
    live(&dir, "m.toml", "sqlite:m.db");
    dir.shell("mv late.jsonl all.jsonl; mkfifo late.jsonl").succeeds();
    let piped = |metrics: &str| {
        dir.shell(&format!(
            "cat all.jsonl > late.jsonl & \
             timeout 60 evt-backfill -q e.jsonl --time event_time --late-events late.jsonl -m {metrics} --to sqlite:m.db"
        ))
    };
    piped("n.toml").succeeds();
    piped("m.toml").succeeds();
    assert_eq!(first_windows(&dir, "sqlite:m.db"), "n=3.0 z=3.0 ");
}
