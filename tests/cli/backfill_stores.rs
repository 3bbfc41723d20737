//! evt-backfill reads stores in bounded memory, shows how far it is, and reads its file of metrics once.

use crate::backfill::{cells, run_live, stores};
use crate::harness::Dir;
use std::fmt::Write as _;

const METRICS: &str = r#"
[[metric]]
name = "visits"
by = ["user"]
aggregate = "sum(amount)"
gap = "3m"
lateness = "1m"
[[metric]]
name = "minutes"
aggregate = "sum(amount)"
size = "1m"
"#;
const MINUTES: &str = "[[metric]]\nname = 'minutes'\naggregate = 'sum(amount)'\nsize = '1m'\n";

/// Writes events of 5 s distance with properties of `filler` bytes; some are behind others, and some are late.
fn write_events(dir: &Dir, count: u32, filler: usize) {
    let (mut text, filler) = (String::new(), "x".repeat(filler));
    for n in 0..count {
        let behind = if n % 97 == 0 { 900 } else { 0 } + if n % 50 == 0 { 25 } else { 0 };
        let second = (n * 5).saturating_sub(behind);
        let (day, of_day) = (second / 86_400 + 1, second % 86_400);
        let time = format!("2026-01-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60);
        let (user, amount) = (n * 7919 % 40, n % 1000);
        writeln!(
            text,
            r#"{{"source":"s","event_type":"e","event_time":"{time}","user":{user},"amount":{amount},"filler":"{filler}"}}"#
        )
        .expect("a string");
    }
    dir.write("events.jsonl", text);
    dir.write("metrics.toml", METRICS);
    dir.write("minutes.toml", MINUTES);
}

#[test]
fn a_long_range_of_a_store_is_corrected_in_bounded_memory_with_sessions_and_without_and_equals_live() {
    let dir = Dir::live("bounded");
    write_events(&dir, 10_000, 12_000);
    dir.shell("evt-ingest -q events.jsonl --to parquet:raw --to sqlite:raw.db").succeeds();
    for (metrics, disorder, input) in [
        ("metrics.toml", "30s", "parquet:raw"),
        ("metrics.toml", "all", "parquet:raw"),
        ("metrics.toml", "30s", "sqlite:raw.db?table=raw_events"),
        ("minutes.toml", "30s", "sqlite:raw.db?table=raw_events"),
    ] {
        let flags = format!("-q -m {metrics} --out-of-orderness {disorder}");
        dir.shell(&format!("rm -f *m.db; evt-window {flags} events.jsonl --late null: --to sqlite:livem.db"))
            .succeeds();
        // The rows take more than this in memory. The limit counts what was written to, not the address space that the
        // allocator sets aside for each thread.
        let line = format!("ulimit -d 200000; evt-backfill {flags} --all-closed '{input}' --to sqlite:m.db");
        dir.shell(&line).succeeds();
        let (found, right) = (cells(&dir, "sqlite:m.db"), cells(&dir, "sqlite:livem.db"));
        assert!(found == right, "{metrics} {disorder} {input}: {} cells, expected {}", found.len(), right.len());
    }
}

#[test]
fn several_stores_are_corrected_in_bounded_memory_with_sessions_and_without_and_equal_live() {
    let dir = Dir::live("bounded_several");
    write_events(&dir, 10_000, 12_000);
    // Each user is in one of the files.
    dir.shell("awk 'NR % 2' events.jsonl > a.jsonl && awk 'NR % 2 == 0' events.jsonl > b.jsonl").succeeds();
    dir.shell("evt-ingest -q a.jsonl --to parquet:a && evt-ingest -q b.jsonl --to parquet:b --to sqlite:b.db")
        .succeeds();
    for (metrics, other) in [("metrics.toml", "parquet:b"), ("minutes.toml", "sqlite:b.db?table=raw_events")] {
        let live = format!("evt-window -q -m {metrics} a.jsonl b.jsonl --late null: --to sqlite:livem.db");
        dir.shell(&format!("rm -f m.db livem.db; {live}")).succeeds();
        // Each thread of each store holds batches of its own.
        let flags = format!("-q -m {metrics} --all-closed --threads 1");
        let line = format!("ulimit -d 200000; evt-backfill {flags} parquet:a '{other}' --to sqlite:m.db");
        dir.shell(&line).succeeds();
        let (found, right) = (cells(&dir, "sqlite:m.db"), cells(&dir, "sqlite:livem.db"));
        assert!(found == right, "{metrics} {other}: {} cells, expected {}", found.len(), right.len());
    }
}

#[test]
fn a_part_of_the_range_with_sessions_equals_live_in_that_part() {
    let dir = Dir::live("bounded_part");
    write_events(&dir, 40_000, 0);
    dir.shell("evt-ingest -q events.jsonl --to parquet:raw; evt-window -q -m metrics.toml events.jsonl --late null: --to sqlite:m.db")
        .succeeds();
    let line = "evt-backfill -q -m metrics.toml --since 2026-01-02T00:00:00Z --until 2026-01-03T00:00:00Z parquet:raw --to sqlite:m.db";
    dir.shell(&format!("{line} --dry-run")).succeeds();
    let right = cells(&dir, "sqlite:m.db");
    let database = rusqlite::Connection::open(dir.path("m.db")).expect("a database");
    let wrong = "UPDATE aggregated_metrics SET value = 1, rows = 1 WHERE window_start LIKE '2026-01-02T1%'";
    assert!(database.execute(wrong, []).expect("it runs") > 1000);
    dir.shell(line).succeeds();
    assert!(cells(&dir, "sqlite:m.db") == right, "the part is right again");
}

#[test]
fn progress_with_an_eta_is_shown_for_stores_of_any_order_and_for_dead_letters() {
    let dir = Dir::live("eta");
    write_events(&dir, 20_000, 0);
    dir.shell("evt-ingest -q events.jsonl --to parquet:raw --to sqlite:raw.db").succeeds();
    dir.write("broken.jsonl", "{\"event_time\":\n".repeat(60));
    dir.shell("evt-ingest -q broken.jsonl events.jsonl --dlq dead.jsonl --to null:").succeeds();
    let fast = "--rate 20000 --all-closed --to sqlite:m.db";
    for line in [
        format!("evt-backfill parquet:raw -m metrics.toml {fast}"),
        format!("evt-backfill parquet:raw -m minutes.toml {fast}"),
        format!("evt-backfill sqlite:raw.db?table=raw_events -m minutes.toml {fast}"),
        format!("evt-backfill parquet:raw -m metrics.toml {fast} --since 2026-01-01T02:00:00Z"),
        "evt-replay dead.jsonl --ledger sqlite:ledger.db --rate 100 --to replayed.jsonl".to_owned(),
    ] {
        let shown = dir.shell(&format!("script -qec \"{line}\" /dev/null < /dev/null")).text();
        assert!(shown.contains("% eta "), "{line}: {shown}");
    }
}

#[test]
fn a_metric_over_all_time_that_only_leaves_out_does_not_refuse_the_file() {
    let dir = Dir::live("only_all");
    write_events(&dir, 500, 0);
    dir.write("metrics.toml", format!("{MINUTES}[[metric]]\nname = 'total'\nsize = 'all'\n"));
    let live = "evt-window -q -m metrics.toml events.jsonl --late null: --to sqlite:m.db";
    dir.shell(live).succeeds();
    let line = "evt-backfill events.jsonl -m metrics.toml --to sqlite:m.db --dry-run";
    let refused = dir.shell(&format!("{line} --only total")).ends_with(2);
    assert!(refused.stderr().contains("metric 'total': expected windows that close"), "{refused}");
    dir.shell(line).ends_with(2);
    let said = dir.shell(&format!("{line} --only minutes")).succeeds();
    assert!(said.stderr().contains("cells: 0 would be corrected, 0 would be inserted, 0 would be retracted"), "{said}");
}

#[test]
fn the_file_of_metrics_is_read_once_and_may_be_a_pipe() {
    let dir = Dir::live("metrics_pipe");
    write_events(&dir, 500, 0);
    let line = "cat metrics.toml | evt-backfill events.jsonl -q -m /dev/stdin --to sqlite:m.db";
    dir.shell(line).succeeds();
    dir.shell("evt-window -q -m metrics.toml events.jsonl --late null: --to sqlite:live.db").succeeds();
    assert_eq!(cells(&dir, "sqlite:m.db"), cells(&dir, "sqlite:live.db"));
}

#[test]
fn rows_that_live_sends_later_for_corrected_cells_are_counted_as_stale_and_named_once() {
    let dir = Dir::live("stale");
    write_events(&dir, 2000, 0);
    dir.write("wrong.toml", MINUTES.replace("sum(amount)", "sum(amount * 2)"));
    let wrong = "evt-ingest -q events.jsonl | evt-window -q -m wrong.toml --late null: | evt-sink";
    for store in stores("stale") {
        run_live(&dir, "events.jsonl", "wrong.toml", &store);
        dir.shell(&format!("evt-backfill -q events.jsonl -m minutes.toml --to '{store}'")).succeeds();
        let right = cells(&dir, &store);
        let said = dir.shell(&format!("{wrong} --stats stats.json --to '{store}'")).succeeds().stderr();
        let counts = &dir.rows("stats.json")[0]["outputs"][0]["counts"];
        let stale = counts["stale"].as_u64().expect("a number");
        assert!(stale >= right.len() as u64 - 1, "{store}: {counts}\n{said}");
        assert_eq!(
            said.matches(
                "rows of this run were rejected, because evt-backfill has corrected the stored rows; first minutes"
            )
            .count(),
            1,
            "{said}"
        );
        assert!(cells(&dir, &store) == right, "{store}: {said}");
    }
}
