//! Ranges of time (`--since`, `--until`, `--last`) of evt-alert and evt-backfill, whose meaning is more than a choice
//! of rows.

use crate::alert::{at, lines, once, rule, rules, series, transitions};
use crate::harness::{Dir, Draws};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Events every 10 seconds for half an hour, with a gap of two minutes from 840 s on, and one event half an hour later.
fn events(dir: &Dir) {
    let lines = [series(0.0, 850.0, 10.0, &json!({})), series(960.0, 1800.0, 10.0, &json!({}))].concat();
    let last = series(3600.0, 3601.0, 1.0, &json!({}));
    dir.write("in.jsonl", lines.iter().chain(&last).map(|(_, line)| line.as_str()).collect::<String>());
    let drop = rule(&json!({"name": "drop", "condition": "lt", "threshold": 5}));
    dir.write("rules.json", rules(&[drop]));
}

#[test]
fn a_range_of_evt_alert_has_the_alerts_of_the_whole_input_from_its_first_whole_window_on() {
    let dir = Dir::new("ranges-alert");
    events(&dir);
    let run = |flags: &[&str]| once(&dir, &[&["-o", "jsonl", "in.jsonl"], flags].concat());
    let within = |from: f64, to: f64| [format!("--since={}", at(from)), format!("--until={}", at(to))];
    let of = |from: f64, to: f64| {
        let [since, until] = within(from, to);
        transitions(&run(&[&since, &until]).rows())
    };
    let whole = transitions(&run(&[]).ends_with(1).rows());
    assert_eq!(whole.len(), 3, "{whole:?}");
    // The ends of the range are not drops: the windows there are not whole.
    let [since, until] = within(300.0, 600.0);
    let quiet = run(&[&since, &until]).ends_with(0);
    assert_eq!((quiet.text().as_str(), quiet.stderr().as_str()), ("", ""), "{quiet}");
    // A gap within the range is the same alert, and so is one up to its end.
    assert_eq!(of(300.0, 1200.0), whole[..2]);
    assert_eq!(of(1200.0, 1900.0), whole[2..3]);
    assert_eq!(of(1200.0, 1805.0), Vec::<String>::new());
    // A range that begins in a gap is evaluated once it has a whole window.
    let begun = run(&within(850.0, 1200.0).each_ref().map(String::as_str)).ends_with(1).rows();
    assert_eq!(begun[0]["at"], at(910.0), "{begun:?}");
    // Rows outside are counted as filtered, and none is lost.
    let [since, until] = within(300.0, 1200.0);
    let said = run(&[&since, &until]).stderr();
    assert!(said.contains("in 170 out 79 filtered 91"), "{said}");
}

/// Returns the alerts that fire after the rows up to a second.
fn firing(rows: &[Value], second: u32) -> BTreeSet<String> {
    let mut firing = BTreeSet::new();
    for row in rows.iter().filter(|row| row["at"].as_str().expect("an instant") <= at(f64::from(second)).as_str()) {
        let key = format!("{} {}", row["rule"], row["dimensions"]);
        match row["state"].as_str() {
            Some("firing") => _ = firing.insert(key),
            _ => _ = firing.remove(&key),
        }
    }
    firing
}

/// A host that has stopped before the range was unknown in it, so no rule fired.
#[test]
fn groups_that_fell_silent_before_a_range_of_evt_alert_fire_in_it_until_they_are_gone() {
    let dir = Dir::new("ranges-groups");
    let host = |host: &str, from: f64, to: f64| series(from, to, 1.0, &json!({"user_id": host}));
    let rows = [
        host("steady", 0.0, 1800.0),
        host("stopped", 0.0, 300.0),
        host("back", 0.0, 200.0),
        host("back", 900.0, 1000.0),
        host("brief", 40.0, 60.0),
    ];
    // A row that comes late, and is before most ranges.
    let late = (1000.0, series(250.0, 251.0, 1.0, &json!({"user_id": "late"}))[0].1.clone());
    dir.write("in.jsonl", lines(&[&rows[..], &[vec![late]]].concat()));
    dir.shell("evt-ingest -q in.jsonl --to sqlite:in.db").succeeds();
    let silent = |name: &str, window: u32| {
        let mut rule = rule(&json!({"name": name, "by": ["user_id"], "condition": "lt", "threshold": 1}));
        (rule["window_seconds"], rule["forget_after"]) = (json!(window), json!(10 * window));
        rule
    };
    let no_data =
        json!({"name": "no data", "by": ["user_id"], "threshold": 1000, "no_data": true, "forget_after": 600});
    let mut lasting = silent("lasting", 60);
    lasting["forget_after"] = Value::Null;
    dir.write("rules.json", rules(&[silent("minute", 60), silent("short", 20), rule(&no_data), lasting]));
    let run = |input: &str, flags: &[&str]| once(&dir, &[&["-q", "-o", "jsonl", input], flags].concat()).rows();
    let whole = run("in.jsonl", &[]);
    assert!(!firing(&whole, 700).is_empty() && whole.iter().any(|row| row["reason"] == "group gone"), "{whole:?}");
    let (mut draws, mut fired, mut lasted) = (Draws::new(), 0, 0);
    for case in 0..12 {
        let since = draws.below(1500) as u32;
        let until = since + 60 + draws.below(u64::from(1800 - since)) as u32;
        let range = [format!("--since={}", at(f64::from(since))), format!("--until={}", at(f64::from(until)))];
        let input = ["in.jsonl", "sqlite:in.db"][case % 2];
        let found = run(input, &range.each_ref().map(String::as_str));
        for (rule, window) in [("minute", 60), ("short", 20), ("no data", 60)] {
            let of_rule = |all: &[Value], second| -> BTreeSet<String> {
                firing(all, second).into_iter().filter(|key| key.contains(rule)).collect()
            };
            assert_eq!(of_rule(&found, since + window - 1), BTreeSet::new(), "{draws}: {range:?}");
            for second in (since + window..until).filter(|second| *second < 1800) {
                let wanted = of_rule(&whole, second);
                assert_eq!(of_rule(&found, second), wanted, "{draws}: {input} {range:?} at second {second}");
                fired += wanted.len();
            }
        }
        // An alert that lasts is found if its group had rows in the nine windows before the range.
        for second in (since + 60..until).filter(|second| *second < 1800) {
            let of_host = |all: &[Value], host: &str| {
                firing(all, second).iter().any(|key| key.contains("lasting") && key.contains(host))
            };
            for (host, lives) in
                [("stopped", &[[0, 300]][..]), ("back", &[[0, 200], [900, 1000]]), ("brief", &[[40, 60]])]
            {
                let lives = lives.iter().filter(|[start, _]| *start <= second);
                let last = lives.map(|[_, end]| (*end).min(second)).max();
                // While rows come back, an alert of which the range knows nothing is resolved.
                let Some(last) =
                    last.filter(|last| *last < second).filter(|last| last.abs_diff(since.saturating_sub(540)) > 2)
                else {
                    continue;
                };
                let is_known = last > since.saturating_sub(540);
                let is_found = of_host(&found, host);
                assert_eq!(is_found, is_known && of_host(&whole, host), "{draws}: {range:?} {host} at {second}");
                lasted += usize::from(is_found && second > last + 700);
            }
        }
    }
    assert!(fired > 1000 && lasted > 100, "{fired} and {lasted} alerts at instants of ranges");
}

#[test]
fn the_last_duration_of_evt_alert_ends_now_and_a_state_takes_no_range() {
    let dir = Dir::new("ranges-last");
    events(&dir);
    let now = format!("--now={}", at(1900.0));
    let rows = once(&dir, &["-q", "-o", "jsonl", "in.jsonl", "--last", "20m", &now, "--max-future", "1h"]).rows();
    let told = transitions(&rows);
    assert!(
        told.iter().all(|line| line.starts_with("drop")) && rows[0]["at"].as_str() >= Some(at(760.0).as_str()),
        "{told:?}"
    );
    for flags in [["--last", "20m"], ["--since", "2026-01-01"], ["--until", "2026-01-01"]] {
        let run = once(&dir, &[&["in.jsonl", "--state", "a.db"], &flags[..]].concat()).ends_with(2);
        assert!(run.stderr().contains("cannot be used with") && !dir.path("a.db").exists(), "{run}");
    }
    let run = once(&dir, &["in.jsonl", "--since", "soon"]).ends_with(2);
    assert!(run.stderr().starts_with("evt-alert: --since: "), "{run}");
    dir.run("evt-alert", &["--rules", "rules.json", "in.jsonl", "--since", "soon", "--check"]).ends_with(2);
}

#[test]
fn a_range_of_metrics_in_evt_alert_is_one_of_their_ends() {
    let dir = Dir::new("ranges-metrics");
    let line = |hour: u32| format!("{{\"t\":\"2026-01-05T{hour:02}:30:00Z\"}}\n");
    dir.write("in.jsonl", (0..6).map(line).collect::<String>());
    dir.shell("evt-window -q in.jsonl --time t --size 1h --agg 'n=count(*)' --to m.frames").succeeds();
    let each = rule(&json!({"input": "metric", "aggregate": "max(value)", "window_seconds": 3600}));
    dir.write("rules.json", rules(&[each]));
    let args = ["-o", "jsonl", "m.frames", "--since", "2026-01-05T02:00:00Z", "--until", "2026-01-05T04:30:00Z"];
    let run = once(&dir, &args);
    // Windows that end at 02:00, 03:00 and 04:00.
    assert!(run.stderr().contains("in 6 out 3 filtered 3"), "{run}");
}

#[test]
fn the_last_duration_of_evt_backfill_is_a_range_that_begins_so_long_ago() {
    let dir = Dir::new("ranges-backfill");
    let line = |day: u32, minute: u32| format!("{{\"t\":\"2026-01-{day:02}T10:{minute:02}:00Z\"}}\n");
    dir.write("part.jsonl", line(1, 0) + &line(2, 0));
    dir.write("all.jsonl", line(1, 0) + &line(1, 1) + &line(2, 0) + &line(2, 1));
    dir.write("m.toml", "[[metric]]\nname = 'n'\naggregate = 'count(*)'\nsize = '1d'\n");
    let build = "evt-window -q -m m.toml --time t part.jsonl --to sqlite:m.db";
    dir.shell(build).succeeds();
    let correct = "evt-backfill all.jsonl -m m.toml --time t --to sqlite:m.db --now 2026-01-03T00:00:00Z";
    let shown = dir.shell(&format!("{correct} --last 1d --dry-run -o jsonl")).ends_with(1).rows();
    assert!(shown.iter().all(|row| row.to_string().contains("2026-01-02")), "{shown:?}");
    dir.shell(&format!("{correct} --last 1d")).succeeds();
    let rows = "evt-view -q 'sqlite:m.db?table=aggregated_metrics' --sort window_start --columns value,revision -o csv";
    assert_eq!(dir.shell(rows).succeeds().text(), "value,revision\n1,0\n2,1\n");
    dir.shell(&format!("{correct} --last 2d")).succeeds();
    assert_eq!(dir.shell(rows).succeeds().text(), "value,revision\n2,1\n2,1\n");
    let run = dir.shell(&format!("{correct} --last 1d --since 2026-01-01")).ends_with(2);
    assert!(run.stderr().contains("cannot be used with"), "{run}");
}

/// The next run continued behind them, and no line said so.
#[test]
fn rows_at_or_after_until_that_no_later_run_of_a_checkpoint_reads_are_reported() {
    let dir = Dir::new("ranges-checkpoint");
    let line = |time: &str| format!("{{\"t\":\"2026-01-{time}\"}}\n");
    dir.write("in.jsonl", line("01T23:59:00Z") + &line("02T00:00:00Z") + &line("02T00:01:00Z"));
    let said = "2 rows at or after --until left out; no later run of the checkpoint reads them\n";
    let ingest = |flags: &str| dir.shell(&format!("evt-ingest -q in.jsonl --time t {flags}")).succeeds().stderr();
    let epochs = "--checkpoint ck --to o.jsonl";
    assert_eq!(ingest(&format!("{epochs} --until 2026-01-02")), format!("evt-ingest: {said}"));
    assert_eq!(ingest(&format!("{epochs} --until 2026-01-03")), "");
    assert_eq!(dir.rows("o.jsonl").len(), 1);
    // A run without a checkpoint reads them again.
    assert_eq!(ingest("--to p.jsonl --until 2026-01-02"), "");
    assert_eq!(ingest("--checkpoint other --to q.jsonl --since 2026-01-02"), "");
    let window =
        "evt-window -q --time t --size 1m --late null: in.jsonl --checkpoint w --to w.jsonl --until 2026-01-02";
    assert_eq!(dir.shell(window).succeeds().stderr(), format!("evt-window: {said}"));
    // Of a later stage the position of the first one decides.
    let pipe = "evt-ingest -q in.jsonl --time t --checkpoint s | evt-sink -q --to s.jsonl --until 2026-01-02";
    assert_eq!(dir.shell(pipe).succeeds().stderr(), format!("evt-sink: {said}"));
}

/// Nothing else shows that the range of an input without an end is complete.
#[test]
fn rows_at_or_after_until_fire_the_windows_before_them_where_the_input_may_not_end() {
    let dir = Dir::new("ranges-until");
    let line = |second: u32| format!("{{\"t\":\"2026-01-01T00:00:{second:02}Z\"}}\n");
    dir.write("a.jsonl", [5, 10, 45].map(line).concat());
    dir.write("b.jsonl", [11, 13].map(line).concat());
    let (until, window) = ("--until 2026-01-01T00:00:30Z", "evt-window -q --size 10s --out-of-orderness 2s");
    for (at, run) in [
        format!("{window} --time t {until}"),
        format!("evt-ingest -q --time t | {window} {until}"),
        format!("evt-ingest -q --time t {until} | {window}"),
        format!("evt-ingest -q --time t {until} | evt-validate -q --dedup 1h | {window}"),
    ]
    .iter()
    .enumerate()
    {
        dir.shell(&format!("cat a.jsonl | {run} --at-end hold --to o{at}.jsonl")).succeeds();
        assert_eq!(dir.rows(&format!("o{at}.jsonl")).len(), 2, "{run}");
    }
    let run = format!("{window} --time t {until} --new-partitions late --checkpoint s --late late.jsonl --to w.jsonl");
    for files in ["a.jsonl", "b.jsonl", "b.jsonl --at-end fire"] {
        dir.shell(&format!("{run} {files}")).succeeds();
    }
    assert_eq!((dir.rows("w.jsonl").len(), dir.rows("late.jsonl").len()), (2, 2));
}

/// None fired of an input that had ended before its rows were looked at: a short topic with end=latest, or a pipe.
#[test]
fn what_is_closed_when_all_inputs_have_ended_is_fired_although_the_rest_is_held() {
    let dir = Dir::new("ranges-hold");
    let line = |second: u32| format!("{{\"t\":\"2026-01-01T00:00:{second:02}Z\"}}\n");
    dir.write("a.jsonl", [5, 15, 45].map(line).concat());
    dir.write("b.jsonl", [11, 13].map(line).concat());
    let window = "evt-window -q --size 10s --out-of-orderness 2s --at-end hold -o jsonl --late null:";
    for files in ["b.jsonl a.jsonl", "a.jsonl"] {
        for run in [format!("{window} --time t {files}"), format!("evt-ingest -q --time t {files} | {window}")] {
            let rows = dir.shell(&run).ends_with(1).rows();
            let counts: Vec<_> = rows.iter().map(|row| row["value"].as_f64().expect("a number")).collect();
            assert_eq!(counts, if files == "a.jsonl" { [1.0, 1.0] } else { [1.0, 3.0] }, "{run}");
        }
    }
}
