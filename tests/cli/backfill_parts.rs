//! Inputs of evt-backfill that hold a part of what the live run read, or that are read with other flags: right results
//! stay, and the run says so.

use crate::harness::{Dir, Run};
use serde_json::Value;

const METRICS: &str =
    "[[metric]]\nname = \"day\"\nsize = \"1d\"\nby = [\"k\"]\n[[metric]]\nname = \"hour\"\nsize = \"1h\"\n";

/// Writes one file for each of five days, with an event at 10:00, 11:00 and 12:00, and the metrics.
fn write_days(name: &str) -> Dir {
    let dir = Dir::live(name);
    for day in 1..=5 {
        let event = |hour: u32| format!("{{\"t\":\"2026-01-0{day}T{hour}:00:00Z\",\"k\":\"k{}\"}}\n", hour % 2);
        dir.write(&format!("d{day}.jsonl"), [10, 11, 12].map(event).concat());
    }
    dir.write("m.toml", METRICS);
    dir.shell("evt-window -q d?.jsonl --time t -m m.toml --out-of-orderness all --to right.db").succeeds();
    dir
}

/// The stored rows by key: name, start and dimensions, with their value.
fn values(dir: &Dir, store: &str) -> Vec<String> {
    let rows =
        dir.run("evt-view", &["-q", "-o", "jsonl", &format!("sqlite:{store}?table=aggregated_metrics")]).succeeds();
    let shown =
        |row: &Value| format!("{} {} {} {}", row["metric_name"], row["window_start"], row["dimensions"], row["value"]);
    let mut rows: Vec<String> = rows.rows().iter().map(shown).collect();
    rows.sort();
    rows
}

fn sql(dir: &Dir, statement: &str) {
    let database = rusqlite::Connection::open(dir.path("m.db")).expect("a database");
    assert!(database.execute(statement, []).expect("it runs") > 0, "{statement}");
}

fn backfill(dir: &Dir, rest: &str) -> Run {
    dir.shell(&format!("evt-backfill -m m.toml --to m.db --out-of-orderness all {rest}"))
}

/// Damages the results of the fifth day: one is wrong, one is missing, and one of a key that has no event there was
/// added.
fn damage(dir: &Dir) {
    dir.shell("cp right.db m.db").succeeds();
    sql(dir, "UPDATE aggregated_metrics SET value = 9 WHERE window_start LIKE '2026-01-05%' AND metric_name = 'day'");
    sql(dir, "DELETE FROM aggregated_metrics WHERE window_start LIKE '2026-01-05T12%'");
    sql(
        dir,
        "UPDATE aggregated_metrics SET metric_id = replace(metric_id, '-', 'f'), dimensions = '{\"k\":\"x\"}'
         WHERE window_start LIKE '2026-01-05%' AND dimensions = '{\"k\":\"k1\"}'",
    );
}

#[test]
fn results_of_a_day_that_is_missing_in_the_middle_stay_and_those_of_other_days_are_corrected() {
    let dir = write_days("middle");
    let right = values(&dir, "right.db");
    dir.shell("for day in 1 3 5; do evt-ingest -q d$day.jsonl --time t --to parquet:lake --to raw.db; done").succeeds();
    let inputs = [
        "d1.jsonl d3.jsonl d5.jsonl --time t",
        "parquet:lake --all-closed",
        "'sqlite:raw.db?table=raw_events' --all-closed",
    ];
    for input in inputs {
        for quiet in ["-q", ""] {
            damage(&dir);
            let run = backfill(&dir, &format!("{input} {quiet}")).succeeds();
            assert_eq!(values(&dir, "m.db"), right, "{input}: {run}");
            let expected = "10 stored rows not retracted, first hour {} from 2026-01-02T10:00";
            assert!(run.stderr().contains(expected), "{input}: {run}");
            let way_out = "the windows have no event in the input, which may be incomplete; --since with --until, or --all-records if";
            assert!(run.stderr().contains(way_out), "{input}: {run}");
        }
        let dry = backfill(&dir, &format!("{input} --dry-run")).succeeds();
        assert_eq!(dry.text(), "", "{input}: {dry}");
        for whole in ["--since 2026-01-01 --until 2026-01-06", "--all-records"] {
            backfill(&dir, &format!("-q {input} {whole}")).succeeds();
            let left = values(&dir, "m.db");
            let expected: Vec<&String> =
                right.iter().filter(|row| !row.contains("-02T") && !row.contains("-04T")).collect();
            assert_eq!(left.iter().collect::<Vec<_>>(), expected, "{input} {whole}");
            dir.shell("cp right.db m.db").succeeds();
        }
    }
}

#[test]
fn results_of_days_that_retention_removed_from_a_lake_or_a_table_stay() {
    let dir = write_days("retention");
    let right = values(&dir, "right.db");
    dir.shell("for day in 3 4 5; do evt-ingest -q d$day.jsonl --time t --to parquet:lake --to raw.db; done").succeeds();
    for input in ["parquet:lake", "'sqlite:raw.db?table=raw_events'"] {
        damage(&dir);
        let run = backfill(&dir, &format!("{input} --all-closed")).succeeds();
        assert_eq!(values(&dir, "m.db"), right, "{input}: {run}");
        let expected =
            "10 stored rows before 2026-01-03T10:00:00.000000Z, the first event of the input, stay as they are";
        assert!(run.stderr().contains(expected), "{input}: {run}");
    }
}

/// With other flags than those of the live run a window keeps some of its events. The run cannot know that the stored
/// row was right, so it says which rows it lowered, also with -q.
#[test]
fn rows_that_lose_late_events_without_the_flag_of_live_are_named() {
    let dir = Dir::live("forgotten-in-part");
    // Every third event is five minutes behind the one before it.
    let event = |n: u32| {
        let minute = if n % 3 == 2 { n - 5 } else { n };
        format!("{{\"t\":\"2026-01-01T{:02}:{:02}:00Z\",\"k\":\"k0\"}}\n", 10 + minute / 60, minute % 60)
    };
    dir.write("in.jsonl", (6..240).map(event).collect::<String>());
    dir.write("m.toml", METRICS);
    dir.shell("evt-window -q in.jsonl --time t -m m.toml --out-of-orderness all --to live.db").succeeds();
    dir.shell("evt-ingest -q in.jsonl --time t --to parquet:lake").succeeds();
    let right = values(&dir, "live.db");
    let named =
        "stored rows corrected to fewer events, because some are late in this run (--out-of-orderness 30s), first ";
    for input in ["in.jsonl --time t", "parquet:lake --all-closed"] {
        dir.shell("cp live.db m.db").succeeds();
        let line = format!("evt-backfill -q {input} -m m.toml --to m.db");
        let shown = dir.shell(&format!("{line} --dry-run")).ends_with(1);
        assert!(shown.stderr().contains(named), "{input}: {shown}");
        let run = dir.shell(&line).succeeds();
        assert!(run.stderr().contains(named) && run.stderr().contains("repeat with it"), "{input}: {run}");
        assert_ne!(values(&dir, "m.db"), right, "{input}");
        // The flag of the live run makes everything right again, without a line.
        let again = dir.shell(&format!("{line} --out-of-orderness all")).succeeds();
        assert!(again.stderr().is_empty(), "{input}: {again}");
        assert_eq!(values(&dir, "m.db"), right, "{input}");
        // A run whose flag leaves late events out needs no line.
        let without = dir.shell(&format!("{line} --without-late")).succeeds();
        assert!(!without.stderr().contains(named), "{input}: {without}");
    }
}

#[test]
fn results_whose_events_are_late_in_the_correction_go_unless_keep_late_or_the_flag_of_live_keeps_them() {
    let dir = write_days("forgotten");
    dir.shell("cat d1.jsonl d2.jsonl d3.jsonl | sort -r > newest.jsonl").succeeds();
    dir.shell("evt-window -q newest.jsonl --time t -m m.toml --out-of-orderness all --to some.db").succeeds();
    let right = values(&dir, "some.db");
    dir.shell("evt-ingest -q newest.jsonl --time t --to parquet:lake").succeeds();
    for input in [
        "newest.jsonl --time t",
        "parquet:lake --all-closed",
        "newest.jsonl --time t --since 2026-01-01 --until 2026-01-05",
    ] {
        dir.shell("cp some.db m.db").succeeds();
        let line = format!("evt-backfill -q {input} -m m.toml --to m.db");
        let run = dir.shell(&format!("{line} --keep-late")).succeeds();
        let hours = |rows: &[String]| rows.iter().filter(|row| row.contains("\"hour\"")).cloned().collect::<Vec<_>>();
        assert_eq!(hours(&values(&dir, "m.db")), hours(&right), "{input}: {run}");
        assert!(
            run.stderr().contains("not retracted, because all their events may be late in this run, first"),
            "{input}: {run}"
        );
        assert!(run.stderr().contains("; --keep-late keeps them"), "{input}: {run}");
        let told = dir.shell(&format!("{line} --keep-late").replace("-q ", "")).succeeds();
        assert!(told.stderr().contains("hour: 7 late"), "{input}: {told}");
        // The flag of the live run makes everything right; without it these rows go.
        dir.shell(&format!("{line} --out-of-orderness all")).succeeds();
        assert_eq!(values(&dir, "m.db"), right, "{input}");
        let run = dir.shell(&line).succeeds();
        assert!(run.stderr().contains("retracted, because all their events are late in this run"), "{input}: {run}");
        assert_eq!(hours(&values(&dir, "m.db")).len(), 2, "{input}");
    }
}

#[test]
fn late_events_of_other_days_take_no_result_out() {
    let dir = write_days("late_elsewhere");
    dir.shell("cp right.db m.db; (cat d1.jsonl d5.jsonl d3.jsonl) > order.jsonl").succeeds();
    dir.shell("evt-window -q order.jsonl --time t -m m.toml --late late.jsonl --to live.db").succeeds();
    assert_eq!(dir.rows("late.jsonl").len(), 3);
    let right = values(&dir, "right.db");
    let line = "evt-backfill -m m.toml --late-events late.jsonl d1.jsonl d5.jsonl --time t --to m.db";
    let run = dir.shell(line).ends_with(1);
    assert!(run.stderr().contains("late events pending: 3"), "{run}");
    assert_eq!(values(&dir, "m.db"), right, "{run}");
}

#[test]
fn a_lake_of_daily_files_names_all_closed_if_a_stored_row_differs_and_is_not_corrected() {
    let dir = write_days("open_lake");
    dir.shell("for day in 1 2; do evt-ingest -q d$day.jsonl --time t --to parquet:lake; done").succeeds();
    dir.shell("evt-window -q d1.jsonl d2.jsonl --time t -m m.toml --out-of-orderness all --to m.db").succeeds();
    let quiet = backfill(&dir, "-q parquet:lake").succeeds();
    assert_eq!(quiet.stderr(), "", "the open windows are right");
    dir.write("more.jsonl", "{\"t\":\"2026-01-02T11:00:00Z\",\"k\":\"k1\"}\n");
    dir.shell("evt-ingest -q more.jsonl --time t --to parquet:lake").succeeds();
    for range in ["", "--since 2026-01-02", "--since 2026-01-02 --until 2026-01-03"] {
        let run = backfill(&dir, &format!("-q parquet:lake {range}")).succeeds();
        let expected = "windows that were open at 2026-01-01T12:00:00.000000Z are not corrected; 2 stored rows of them differ from the \
                        input; partition 0 of d1.jsonl ends there; --all-closed corrects them";
        assert!(run.stderr().contains(expected), "{range}: {run}");
    }
    let run = backfill(&dir, "parquet:lake --all-closed").succeeds();
    assert!(run.stderr().contains("cells: 2 corrected, 0 inserted, 0 retracted"), "{run}");
}

#[test]
fn stored_sessions_that_a_longer_right_one_takes_the_place_of_are_retracted() {
    let dir = Dir::live("longer_session");
    let times = ["01T00", "01T20", "02T16", "03T12", "04T08"];
    dir.write("e.jsonl", times.map(|time| format!("{{\"t\":\"2026-01-{time}:00:00Z\",\"k\":\"a\"}}\n")).concat());
    let metric = |gap: &str| format!("[[metric]]\nname = \"visits\"\nby = [\"k\"]\ngap = \"{gap}\"\n");
    dir.write("short.toml", metric("5h"));
    dir.write("m.toml", metric("24h"));
    dir.shell("evt-window -q e.jsonl --time t -m short.toml --out-of-orderness all --to m.db").succeeds();
    assert_eq!(values(&dir, "m.db").len(), 5);
    // With the default of 30 s the stored sessions end in earlier steps than the right one.
    let run = dir.shell("evt-backfill e.jsonl --time t -m m.toml --to m.db").succeeds();
    assert!(run.stderr().contains("cells: 0 corrected, 1 inserted, 5 retracted, 0 right"), "{run}");
    assert_eq!(values(&dir, "m.db"), ["\"visits\" \"2026-01-01T00:00:00.000000Z\" {\"k\":\"a\"} 5.0"]);
}

#[test]
fn results_before_the_first_event_so_far_are_judged_when_all_events_are_read() {
    let dir = Dir::live("earlier_events");
    dir.write("m.toml", "[[metric]]\nname = \"hour\"\nsize = \"1h\"\n[[metric]]\nname = \"day\"\nsize = \"1d\"\n");
    let day = |day: u32| {
        let event =
            |at: u32| format!("{{\"t\":\"2026-01-0{day}T{:02}:{:02}:{:02}Z\"}}\n", at / 3600, at / 60 % 60, at % 60);
        (0..8640).map(|number| event(number * 10)).collect::<String>()
    };
    // The first day comes last, after steps that have compared the days before the first event so far.
    dir.write("order.jsonl", [2, 3, 4, 5, 1].map(day).concat());
    dir.shell("evt-window -q order.jsonl --time t -m m.toml --out-of-orderness all --to right.db").succeeds();
    dir.shell("cp right.db m.db").succeeds();
    let run = dir.shell("evt-backfill -q order.jsonl --time t -m m.toml --keep-late --to m.db").succeeds();
    let expected = "25 stored rows not retracted, because all their events may be late in this run, first hour {} from 2026-01-01T00:00";
    assert!(run.stderr().contains(expected) && run.stderr().lines().count() == 1, "{run}");
    assert_eq!(values(&dir, "m.db"), values(&dir, "right.db"));
    // What is before the first event of all stays, with the number of rows.
    dir.shell("grep -v 2026-01-01 order.jsonl > part.jsonl").succeeds();
    let run = dir.shell("evt-backfill part.jsonl --time t -m m.toml --to m.db").succeeds();
    let expected = "25 stored rows before 2026-01-02T00:00:00.000000Z, the first event of the input, stay as they are";
    assert!(run.stderr().contains(expected), "{run}");
    assert_eq!(values(&dir, "m.db"), values(&dir, "right.db"));
}

#[test]
fn a_store_without_rows_that_holds_all_records_retracts_what_is_stored() {
    let dir = write_days("empty_store");
    dir.shell("evt-ingest -q d1.jsonl --time t --to raw.db").succeeds();
    let raw = rusqlite::Connection::open(dir.path("raw.db")).expect("a database");
    raw.execute("DELETE FROM raw_events", []).expect("it runs");
    let input = "'sqlite:raw.db?table=raw_events'";
    let stored = values(&dir, "right.db").len();
    for flags in ["--all-records", "--all-records --all-closed"] {
        dir.shell("cp right.db m.db").succeeds();
        let run = backfill(&dir, &format!("{input} {flags}")).succeeds();
        assert!(run.stderr().contains(&format!("0 inserted, {stored} retracted")), "{run}");
        assert!(values(&dir, "m.db").is_empty(), "{run}");
    }
    // Without the flag nothing is compared, and the run says so.
    dir.shell("cp right.db m.db").succeeds();
    let run = backfill(&dir, &format!("-q {input} --all-closed")).ends_with(1);
    assert!(run.stderr().contains("the input has no events; nothing was compared"), "{run}");
    assert_eq!(values(&dir, "m.db").len(), stored);
}

/// A wrong metric counted events that the right one rejects. A late event of the window does not keep its row: that
/// counts more events than are late, so it cannot consist of them.
#[test]
fn a_stored_row_of_more_events_than_are_late_is_retracted() {
    let dir = Dir::live("late_and_wrong");
    let event = |time: &str, v: u32| format!("{{\"event_time\":\"2024-01-01T00:{time}Z\",\"v\":{v}}}\n");
    let wrong = [event("00:01", 1), event("00:02", 1), event("00:03", 2)].concat();
    for shape in ["size = \"10s\"", "size = \"10s\"\nslide = \"5s\"", "gap = \"5s\"", "size = \"1d\""] {
        let metric = |filter: &str| format!("[[metric]]\nname = \"m\"\n{filter}{shape}\n");
        dir.write("w.toml", metric(""));
        dir.write("m.toml", metric("where = \"v > 3\"\n"));
        let end = event("10:00", 5).replace("01-01", "01-02");
        dir.write("b.jsonl", format!("{wrong}{end}{}", event("00:04", 9)));
        for store in ["sqlite:m.db", "parquet:lake"] {
            dir.shell("rm -rf m.db lake").succeeds();
            dir.shell(&format!("evt-window -q -m w.toml b.jsonl --late null: --to {store}")).succeeds();
            let view = match store {
                "parquet:lake" => "parquet:lake".to_owned(),
                _ => format!("'{store}?table=aggregated_metrics'"),
            };
            let rows = || dir.shell(&format!("evt-view -q {view} -o jsonl")).succeeds().rows();
            let first = || rows().iter().filter(|row| row["window_start"].as_str() < Some("2024-01-02")).count();
            assert!(first() > 0, "{shape} {store}");
            let line = format!("evt-backfill -q -m m.toml b.jsonl --to {store}");
            let shown = dir.shell(&format!("{line} --dry-run")).ends_with(1);
            assert!(!shown.stderr().contains("not retracted"), "{shape} {store}: {shown}");
            let run = dir.shell(&line).succeeds();
            assert!(run.stderr().is_empty(), "{shape} {store}: {run}");
            assert_eq!(first(), 0, "{shape} {store}: {:?}", rows());
        }
        // As many events are late as the row counts: it may consist of them, and stays.
        dir.write("b.jsonl", format!("{end}{}", [1, 2, 3].map(|second| event(&format!("00:0{second}"), 9)).concat()));
        dir.shell("rm -f m.db; evt-window -q -m m.toml b.jsonl --out-of-orderness all --to m.db").succeeds();
        let kept = values(&dir, "m.db");
        let late = kept.iter().filter(|row| row.contains("\"2024-01-01") || row.contains("\"2023-12-31")).count();
        let run = dir.shell("evt-backfill -q -m m.toml b.jsonl --keep-late --to m.db").succeeds();
        assert!(run.stderr().contains("not retracted, because all their events may be late"), "{shape}: {run}");
        assert_eq!(values(&dir, "m.db"), kept, "{shape}: {run}");
        let run = dir.shell("evt-backfill -q -m m.toml b.jsonl --to m.db").succeeds();
        assert!(run.stderr().contains("retracted, because all their events are late"), "{shape}: {run}");
        assert_eq!(values(&dir, "m.db").len(), kept.len() - late, "{shape}: {run}");
    }
}
