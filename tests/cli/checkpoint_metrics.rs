//! Metrics that are added to a checkpoint: each begins with the first window that no earlier event can be in.

use crate::edges::parsed;
use crate::harness::{Dir, Draws};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use std::fmt::Write;

/// 2024-01-01T00:00:00Z.
const MIDNIGHT: i64 = 1_704_067_200;
const COUNT: [&str; 2] = ["--agg", "n=count(*)"];
/// The metrics of a run that has one more than the runs before.
const ADDED: [&str; 4] = ["--agg", "n=count(*)", "--agg", "s=count(*)"];

/// The instant of a number of seconds after midnight, as rows show it.
fn instant(second: i64) -> String {
    let found = DateTime::from_timestamp(MIDNIGHT + second, 0).expect("an instant");
    found.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// One event at each of these seconds after midnight.
fn events(seconds: &[i64]) -> String {
    let line = |second: &i64| format!("{}\n", json!({"event_time": instant(*second)}));
    seconds.iter().map(line).collect()
}

fn run(dir: &Dir, windows: [&str; 2], metrics: &[&str], file: &str) {
    let fixed = ["-q", "--time", "event_time", "--checkpoint", "state", "--to", "rows.jsonl", "--stats", "stats.json"];
    dir.run("evt-window", &[&fixed[..], &windows, metrics, &[file]].concat()).succeeds();
}

/// The start and the value of each window of a metric.
fn windows(dir: &Dir, name: &str) -> Vec<String> {
    let rows = dir.rows("rows.jsonl").into_iter().filter(|row| row["metric_name"] == name);
    rows.map(|row| format!("{} {}", row["window_start"].as_str().expect("an instant"), row["value"])).collect()
}

/// The results of the added metric that the last run has not written.
fn skipped(dir: &Dir) -> Value {
    parsed(&dir.bytes("stats.json"))["metrics"]["s"]["partial"].clone()
}

/// The last event before the change is in the window that starts at this very instant.
#[test]
fn an_added_metric_lacked_the_event_at_the_start_of_its_first_window() {
    let dir = Dir::new("added-start");
    let size = ["--size", "1m"];
    dir.write("a.jsonl", events(&[10, 60]));
    run(&dir, size, &COUNT, "a.jsonl");
    dir.write("a.jsonl", events(&[10, 60, 80, 120, 600]));
    run(&dir, size, &ADDED, "a.jsonl");
    assert_eq!(windows(&dir, "n"), [0, 60, 120].map(|start| format!("{} {}.0", instant(start), 1 + start % 120 / 60)));
    assert_eq!(windows(&dir, "s"), [format!("{} 1.0", instant(120))]);
    assert_eq!(skipped(&dir), 1);
}

/// An event joins a session that ended a gap after the last event, and none that ended earlier.
#[test]
fn an_added_metric_had_the_tail_of_a_session_that_began_before_it() {
    let by = [&ADDED[..], &["--by", "k"]].concat();
    let line = |second: &str, key: &str| format!(r#"{{"event_time":"2024-01-01T{second}Z","k":"{key}"}}"#) + "\n";
    let dir = Dir::new("added-session");
    let gap = ["--gap", "1m"];
    let before = ["a", "b"].map(|key| line("00:00:40", key)).concat();
    dir.write("a.jsonl", &before);
    run(&dir, gap, &[&COUNT[..], &["--by", "k"]].concat(), "a.jsonl");
    let after = [line("00:01:40", "a"), line("00:01:40.000001", "b"), line("01:00:00", "c")].concat();
    dir.write("a.jsonl", before + &after);
    run(&dir, gap, &by, "a.jsonl");
    let starts = ["00:00:40.000000Z 1.0", "00:00:40.000000Z 2.0", "00:01:40.000001Z 1.0"];
    let mut found = windows(&dir, "n");
    found.sort();
    assert_eq!(found, starts.map(|start| format!("2024-01-01T{start}")));
    assert_eq!(windows(&dir, "s"), ["2024-01-01T00:01:40.000001Z 1.0"]);
    assert_eq!(skipped(&dir), 1);
}

/// A run forgets the partitions of the files that it does not read, but not how far they were.
#[test]
fn an_added_metric_began_too_early_after_runs_over_other_files() {
    for between in [&["b.jsonl"][..], &["/dev/null", "/dev/null"], &["b.jsonl", "/dev/null", "b.jsonl"], &[]] {
        let dir = Dir::new("added-files");
        let size = ["--size", "1m"];
        dir.write("a.jsonl", events(&[10, 70]));
        dir.write("b.jsonl", events(&[50]));
        dir.write("c.jsonl", events(&[100, 130, 580]));
        for file in [&["a.jsonl"], between].concat() {
            run(&dir, size, &COUNT, file);
        }
        run(&dir, size, &ADDED, "c.jsonl");
        assert!(windows(&dir, "n").contains(&format!("{} 2.0", instant(60))), "{between:?}");
        assert_eq!(windows(&dir, "s"), [format!("{} 1.0", instant(120))], "{between:?}");
        assert_eq!(skipped(&dir), 1, "{between:?}");
    }
}

/// The gap of sessions (s).
const GAP: i64 = 30;
/// Runs of one checkpoint; each but the first one adds metrics.
const RUNS: usize = 4;

/// Metrics of all kinds of windows; their names end with the number of the run that added them.
fn metrics(runs: usize) -> String {
    let mut text = "[defaults]\nby = [\"k\"]\naggregate = \"sum(v)\"\n".to_owned();
    for run in 0..runs {
        for (name, windows) in [
            ("tumbling", "size = \"1m\"\nlateness = \"20s\"".to_owned()),
            ("sliding", "size = \"90s\"\nslide = \"20s\"".to_owned()),
            ("session", format!("gap = \"{GAP}s\"\nlateness = \"30s\"")),
        ] {
            writeln!(text, "[[metric]]\nname = \"{name}-{run}\"\n{windows}").expect("a text");
        }
    }
    text
}

/// A file of events, and the second of the latest one. Times are multiples of 10 s, so that they are often boundaries
/// of windows.
fn generated(draws: &mut Draws, run: usize) -> (String, i64) {
    let (mut text, mut greatest) = (String::new(), 0);
    let behind = draws.below(12) as i64;
    let mut clock = run as i64 * 30 - behind;
    for _ in 0..=draws.below(40) {
        clock += i64::from(draws.below(3) == 0) * (1 + draws.below(5) as i64);
        let back = if draws.below(4) == 0 { draws.below(15) as i64 } else { 0 };
        let second = (clock - back).max(0) * 10;
        let (key, value) = (draws.below(3).to_string(), draws.below(100));
        writeln!(text, "{}", json!({"event_time": instant(second), "k": key, "v": value})).expect("a text");
        greatest = greatest.max(second);
    }
    (text, greatest)
}

/// The rows of a metric whose windows begin later than an instant, sorted.
fn written(dir: &Dir, name: &str, after: Option<i64>) -> Vec<String> {
    let columns = ["window_start", "window_end", "dimensions", "value", "rows", "pane", "retracted"];
    let after = after.map(instant).unwrap_or_default();
    let rows = dir.rows("rows.jsonl").into_iter();
    let rows = rows.filter(|row| row["metric_name"] == name && row["window_start"].as_str() > Some(&after));
    let mut rows: Vec<String> = rows.map(|row| columns.map(|column| row[column].to_string()).join(" ")).collect();
    rows.sort();
    rows
}

/// A metric has the rows of the same metric that was there from the start, of the windows in which no event of the runs
/// before it can be: pane by pane, with the retractions.
#[test]
fn added_metrics_have_each_row_of_their_whole_windows_and_no_others() {
    let (mut draws, mut compared) = (Draws::new(), 0);
    for round in 0..12 {
        let dir = Dir::new("added-random");
        let (mut greatest, mut before) = (None, vec![]);
        let emit = ["panes", "final"][draws.below(2) as usize];
        for run in 0..RUNS {
            before.push(greatest);
            let mut files = vec![];
            for file in 0..draws.below(4) {
                let (text, latest) = generated(&mut draws, run);
                let name = format!("{run}-{file}.jsonl");
                dir.write(&name, text);
                greatest = greatest.max(Some(latest));
                files.push(name);
            }
            if files.is_empty() {
                files.push("/dev/null".to_owned());
            }
            dir.write("m.toml", metrics(run + 1));
            let at_end = if run + 1 == RUNS { "fire" } else { "hold" };
            let fixed = ["-q", "--time", "event_time", "--checkpoint", "state", "--to", "rows.jsonl", "-m", "m.toml"];
            let flags = ["--out-of-orderness", "20s", "--late", "null:", "--emit", emit, "--at-end", at_end];
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            dir.run("evt-window", &[&fixed[..], &flags, &files].concat()).succeeds();
        }
        for (run, greatest) in before.into_iter().enumerate().skip(1) {
            for (name, reach) in [("tumbling", 0), ("sliding", 0), ("session", GAP)] {
                let found = written(&dir, &format!("{name}-{run}"), None);
                let expected = written(&dir, &format!("{name}-0"), greatest.map(|greatest| greatest + reach));
                assert_eq!(found, expected, "{draws}: round {round}: {name}-{run} {emit}");
                compared += found.len();
            }
        }
    }
    assert!(compared > 1000, "{draws}: {compared} rows");
}
