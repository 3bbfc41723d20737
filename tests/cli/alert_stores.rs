//! evt-alert over tables and lakes: rows in the order of time, and runs that continue a store that grows.

use crate::alert::{at, event, lines, once, rule, rules, series, transitions};
use crate::harness::{Dir, eventually};
use crate::servers::{postgres, redis};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Stdio;

/// Six hours of metrics per minute and source under two names, in the order of time, in m.jsonl.
fn write_metrics(dir: &Dir) {
    let values = |n: i32| f64::from(n % 97) + if (150..160).contains(&n) { 500.0 } else { 0.0 };
    let of = |source: &'static str| {
        (0..360).map(move |n| (60.0 * f64::from(n) + 1.0, json!({"source": source, "v": values(n)})))
    };
    let all: Vec<(f64, String)> =
        ["ios", "tv", "web", "x"].into_iter().flat_map(of).map(|(time, fields)| (time, event(time, &fields))).collect();
    dir.write("e.jsonl", lines(&[all]));
    dir.write(
        "m.toml",
        "[defaults]\nsize = \"1m\"\nby = [\"source\"]\n[[metric]]\nname = \"a\"\n[[metric]]\nname = \"b\"\naggregate = \"max(v)\"\n",
    );
    dir.shell("evt-window -q -m m.toml e.jsonl --late null: --to m.jsonl").succeeds();
    let high = json!({"name": "high", "input": "metric", "aggregate": "max(value)", "where": "metric_name = 'b'",
        "by": ["dimensions"], "threshold": 400, "window_seconds": 120});
    let few = json!({"name": "few", "input": "metric", "aggregate": "count(*)", "where": "metric_name = 'a'",
        "condition": "lt", "threshold": 8, "window_seconds": 120});
    dir.write("rules.json", rules(&[rule(&high), rule(&few)]));
}

#[test]
fn metrics_of_a_table_or_a_lake_fire_as_those_of_a_file() {
    let dir = Dir::new("alert-stores");
    write_metrics(&dir);
    let file = once(&dir, &["m.jsonl"]).ends_with(1);
    let wanted = file.rows();
    assert!(wanted.len() >= 8, "{file}");
    let servers = [redis().map(|place| place.0), postgres().map(|place| place.0)];
    let stores = ["sqlite:m.db".to_owned(), "parquet:lake".to_owned()];
    for store in stores.into_iter().chain(servers.into_iter().flatten()) {
        dir.run("evt-sink", &["-q", "m.jsonl", "--to", &store]).succeeds();
        let sign = if store.contains('?') { '&' } else { '?' };
        let table = match store.starts_with("parquet") {
            true => store,
            false => format!("{store}{sign}table=aggregated_metrics"),
        };
        let run = once(&dir, &[&table]).ends_with(1);
        assert_eq!(run.rows(), wanted, "{table}");
        assert!(!run.stderr().contains("behind the alert clock"), "{run}");
    }
}

#[test]
fn several_tables_of_metrics_are_read_in_the_order_of_time() {
    let dir = Dir::new("alert-tables");
    write_metrics(&dir);
    let wanted = once(&dir, &["m.jsonl"]).ends_with(1).rows();
    for name in ["a", "b"] {
        dir.shell(&format!("evt-view m.jsonl --where \"metric_name = '{name}'\" -o jsonl > {name}.jsonl")).succeeds();
        dir.run("evt-sink", &["-q", &format!("{name}.jsonl"), "--to", &format!("sqlite:{name}.db")]).succeeds();
    }
    let [a, b] = ["a", "b"].map(|name| format!("sqlite:{name}.db?table=aggregated_metrics"));
    for inputs in [[&a, &b], [&b, &a]] {
        let run = once(&dir, &inputs.map(String::as_str)).ends_with(1);
        assert_eq!(run.rows(), wanted, "{run}");
    }
}

#[test]
fn letters_of_a_table_fire_as_those_of_a_file() {
    let dir = Dir::new("alert-letters-table");
    let letter = |n: i32| {
        let letter = json!({
            "original_payload": "{", "error_type": "ParseError", "error_message": "test", "stage": "evt-ingest",
            "source_topic": (["a", "b"][n as usize % 2]), "partition": "0", "offset": n, "failed_at": at(f64::from(n)),
            "producer_host": "h", "attempts": 1,
        });
        (f64::from(n), format!("{letter}\n"))
    };
    dir.write("dead.jsonl", lines(&[(0..300).filter(|n| n % 3 > 0 || (100..150).contains(n)).map(letter).collect()]));
    dir.write("rules.json", rules(&[rule(&json!({"input": "dead", "threshold": 45}))]));
    let file = once(&dir, &["dead.jsonl"]).ends_with(1);
    assert!(file.rows().len() >= 2, "{file}");
    dir.run("evt-sink", &["-q", "dead.jsonl", "--to", "sqlite:d.db"]).succeeds();
    let run = once(&dir, &["sqlite:d.db?table=dead_letters"]).ends_with(1);
    assert_eq!(run.rows(), file.rows(), "{run}");
    assert!(!run.stderr().contains("behind the alert clock"), "{run}");
}

#[test]
fn an_alert_of_the_first_hour_fires_in_whatever_order_the_files_of_a_lake_are_read() {
    let dir = Dir::new("alert-lake-files");
    dir.write("rules.json", rules(&[rule(&json!({"where": "event_type = 'error'", "threshold": 5}))]));
    let hours: Vec<Vec<(f64, String)>> = (0..9)
        .map(|hour| {
            let from = 3600.0 * f64::from(hour);
            let errors = series(from + 300.0, from + 340.0, 4.0, &json!({"event_type": "error"}));
            [series(from, from + 3600.0, 30.0, &json!({})), errors].concat()
        })
        .collect();
    // One partition, in a file for each hour.
    for hour in &hours {
        dir.write("hour.jsonl", lines(std::slice::from_ref(hour)));
        dir.shell("evt-ingest -q -f jsonl --to parquet:lake < hour.jsonl").succeeds();
    }
    dir.write("all.jsonl", lines(&hours));
    let wanted = transitions(&once(&dir, &["all.jsonl"]).ends_with(1).rows());
    assert_eq!(wanted.len(), 18, "{wanted:?}");
    let run = once(&dir, &["parquet:lake"]).ends_with(1);
    assert_eq!(transitions(&run.rows()), wanted, "{run}");
}

/// The events of two hosts; what host b writes appears late.
fn hosts() -> [Vec<(f64, String)>; 2] {
    let errors =
        |host: &str, from: f64| series(from, from + 40.0, 4.0, &json!({"user_id": host, "event_type": "error"}));
    let of = |host: &str, from: f64| {
        let mut all = [series(0.0, 1200.0, 5.0, &json!({"user_id": host})), errors(host, from)].concat();
        all.sort_by(|one, other| one.0.total_cmp(&other.0));
        all
    };
    [of("a", 310.3), of("b", 700.2)]
}

fn write_until(dir: &Dir, file: &str, rows: &[(f64, String)], end: f64) {
    let text: String = rows.iter().filter(|(time, _)| *time < end).map(|(_, line)| line.as_str()).collect();
    dir.write(file, text);
}

#[test]
fn a_table_or_a_lake_of_events_that_grows_is_continued_and_no_row_counts_twice() {
    let [a, b] = hosts();
    for store in ["sqlite:e.db?table=raw_events", "parquet:lake"] {
        let dir = Dir::new("alert-grown-table");
        dir.write("rules.json", rules(&[rule(&json!({"where": "event_type = 'error'", "threshold": 9}))]));
        let mut found = vec![];
        for end in [200.0, 330.0, 400.0, 720.0, 800.0, 1200.0, 1200.0] {
            write_until(&dir, "a.jsonl", &a, end);
            write_until(&dir, "b.jsonl", &b, end - 30.0);
            dir.run("evt-ingest", &["-q", "a.jsonl", "b.jsonl", "--to", store.split('?').next().unwrap_or(store)]);
            let run = once(&dir, &["-q", "--state", "alerts.db", "--stats", "stats.json", store]);
            assert_eq!(run.stderr(), "", "{store} until {end}: {run}");
            found.extend(run.rows());
        }
        let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
        assert_eq!((&stats["counts"]["out"], &stats["counts"]["late"]), (&json!(0), &json!(0)), "{stats}");
        // Ten errors of each host fire one alert each; a row that counted twice would fire it too early.
        let count = |state: &str| found.iter().filter(|row| row["state"] == json!(state)).count();
        assert_eq!((count("firing"), count("resolved")), (2, 2), "{store}: {:?}", transitions(&found));
        assert!(found.iter().all(|row| row["value"].as_f64().is_some_and(|value| value <= 10.0)), "{found:?}");
    }
}

#[test]
fn two_tables_with_events_of_the_same_partition_have_positions_of_their_own() {
    let dir = Dir::new("alert-same-partition");
    dir.write("rules.json", rules(&[rule(&json!({"where": "event_type = 'error'", "threshold": 100}))]));
    for (name, end) in [("a", 900.0), ("b", 300.0)] {
        dir.write("in.jsonl", lines(&[series(0.0, end, 3.0, &json!({"event_type": "error"}))]));
        // Both are partition 0 of standard input.
        dir.shell(&format!("evt-ingest -q -f jsonl --to sqlite:{name}.db < in.jsonl")).succeeds();
    }
    let tables = ["a", "b"].map(|name| format!("sqlite:{name}.db?table=raw_events"));
    let counts = |tables: &[&String]| {
        let mut args = vec!["-q", "--state", "alerts.db", "--stats", "stats.json"];
        args.extend(tables.iter().map(|table| table.as_str()));
        let run = once(&dir, &args).succeeds();
        let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
        let count = |name: &str| stats["counts"][name].as_u64().unwrap_or(9999);
        (["out", "duplicate", "late"].map(count), run.stderr())
    };
    let [a, b] = &tables;
    assert_eq!(counts(&[a, b]), ([400, 0, 0], String::new()));
    for tables in [[a, b], [b, a]] {
        assert_eq!(counts(&tables), ([0, 400, 0], String::new()), "{tables:?}");
    }
    assert_eq!(counts(&[a]), ([0, 300, 0], String::new()));
    let twice = "evt-alert: sqlite:b.db: named twice, read once\n".to_owned();
    assert_eq!(counts(&[b, b]), ([0, 100, 0], twice));
}

#[test]
fn a_table_of_metrics_that_grows_is_continued_and_rows_that_were_added_behind_are_counted_once() {
    let dir = Dir::new("alert-grown-metrics");
    write_metrics(&dir);
    let wanted = transitions(&once(&dir, &["m.jsonl"]).ends_with(1).rows());
    let text = String::from_utf8(dir.bytes("m.jsonl")).expect("text");
    let metrics: Vec<&str> = text.lines().collect();
    let table = "sqlite:m.db?table=aggregated_metrics";
    let grow = |rows: &[&str]| {
        dir.write("part.jsonl", rows.iter().map(|row| format!("{row}\n")).collect::<String>());
        dir.run("evt-sink", &["-q", "part.jsonl", "--to", "sqlite:m.db"]).succeeds();
        once(&dir, &["-q", "--state", "alerts.db", table])
    };
    let mut found = vec![];
    // Eight rows each have the same end of their window.
    for part in metrics.chunks(8 * 40) {
        let run = grow(part);
        assert_eq!(run.stderr(), "", "{run}");
        found.extend(transitions(&run.rows()));
    }
    assert_eq!(found, wanted);
    // Another pipeline writes three metrics of the past.
    dir.shell("head -12 e.jsonl > first.jsonl").succeeds();
    let args = ["-q", "--agg", "c=count(*)", "--size", "1m", "--late", "null:", "first.jsonl", "--to", "sqlite:m.db"];
    dir.run("evt-window", &args).succeeds();
    let run = once(&dir, &["-q", "--state", "alerts.db", table]);
    assert!(run.stderr().contains("3 rows behind the alert clock were not evaluated"), "{run}");
    let run = once(&dir, &["-q", "--state", "alerts.db", table]);
    assert_eq!(run.stderr(), "", "they are reported once");
    // The same table under a name that the state does not know: its rows may have been evaluated.
    let other = "sqlite:./m.db?table=aggregated_metrics";
    let run = once(&dir, &["-q", "--state", "alerts.db", other]);
    assert!(run.stderr().contains("rows were not evaluated: earlier runs have read rows up to"), "{run}");
    assert_eq!((run.rows().len(), once(&dir, &["-q", "--state", "alerts.db", other]).stderr()), (0, String::new()));
}

/// A row of metrics.
fn metric(name: &str, [start, end]: [&str; 2], value: f64) -> String {
    let micros = |time: &str| evt_core::time::parse_instant(time).expect("an instant");
    let id = uuid::Uuid::from_bytes(evt_core::kind::metric::metric_id(name, micros(start), micros(end), "{}"));
    let row = json!({"metric_id": id.to_string(), "metric_name": name, "window_start": start, "window_end": end, "dimensions": {},
        "value": value, "rows": 1, "revision": 0, "pane": 0, "retracted": false});
    format!("{row}\n")
}

/// A row of metrics of the minute that ends at a second.
fn minute(name: &str, end: f64, value: f64) -> String {
    metric(name, [&at(end - 60.0), &at(end)], value)
}

#[test]
fn rows_ahead_of_the_wall_time_do_not_move_the_alert_clock_and_are_evaluated_when_their_time_has_come() {
    let dir = Dir::new("alert-ahead");
    let high = json!({"input": "metric", "aggregate": "max(value)", "threshold": 400, "window_seconds": 60});
    dir.write("rules.json", rules(&[rule(&high)]));
    let minutes = (1..10).map(|n| minute("m", 60.0 * f64::from(n), 1.0)).collect::<String>();
    // Metrics over all time end in the year 9999.
    let all = metric("all", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"], 900.0);
    let hour = metric("hour", [&at(0.0), &at(3600.0)], 800.0);
    dir.write("in.jsonl", minutes + &all + &hour);
    let flags = ["--now", &at(600.0), "--stats", "stats.json"];
    let run = once(&dir, &[&flags[..], &["in.jsonl"]].concat()).succeeds();
    let told =
        "rows that are ahead of the wall time (--max-future) are not evaluated, first window_end 2026-01-05T11:00:00";
    assert!(run.stderr().contains(told) && run.stderr().lines().count() == 1, "{run}");
    let stats = dir.rows("stats.json");
    assert_eq!((&stats[0]["counts"]["filtered"], &stats[0]["clock"]), (&json!(2), &json!(at(540.0))), "{stats:?}");
    // Of a table later runs evaluate what has come.
    dir.run("evt-sink", &["-q", "in.jsonl", "--to", "sqlite:m.db"]).succeeds();
    let table = "sqlite:m.db?table=aggregated_metrics";
    for (now, count) in [(600.0, 0), (900.0, 0), (3700.0, 1), (3800.0, 0)] {
        let run = once(&dir, &["-q", "--now", &at(now), "--state", "alerts.db", table]);
        let firing = run.rows().iter().filter(|row| row["state"] == json!("firing")).count();
        assert_eq!(firing, count, "{now}: {run}");
        assert_eq!(run.stderr().contains("ahead"), now < 3600.0, "{now}: {run}");
        dir.write("more.jsonl", minute("m", now, 1.0));
        dir.run("evt-sink", &["-q", "more.jsonl", "--to", "sqlite:m.db"]).succeeds();
    }
}

#[test]
fn metrics_that_are_added_behind_the_clock_are_reported_although_as_many_old_ones_were_removed() {
    let dir = Dir::new("alert-retention");
    let high = json!({"input": "metric", "aggregate": "max(value)", "threshold": 400, "window_seconds": 60});
    dir.write("rules.json", rules(&[rule(&high)]));
    let day = 86_400.0;
    let hours = (1..72).map(|hour| minute("m", 3600.0 * f64::from(hour), 1.0)).collect::<String>();
    let store = |rows: &str| {
        dir.write("in.jsonl", rows);
        dir.run("evt-sink", &["-q", "in.jsonl", "--to", "sqlite:m.db"]).succeeds();
    };
    let run =
        || once(&dir, &["-q", "--state", "alerts.db", "sqlite:m.db?table=aggregated_metrics"]).succeeds().stderr();
    store(&hours);
    assert_eq!(run(), "");
    let database = rusqlite::Connection::open(dir.path("m.db")).expect("a database");
    let sql = format!("DELETE FROM aggregated_metrics WHERE window_end <= '{}'", at(3.0 * 3600.0));
    assert_eq!(database.execute(&sql, []).expect("it runs"), 3);
    let added = |name: &str| [1.0, 2.0, 3.0].map(|hour| minute(name, 2.0 * day + 3600.0 * hour, 900.0)).concat();
    store(&added("late"));
    assert_eq!(run(), "evt-alert: 3 rows behind the alert clock were not evaluated\n");
    assert_eq!(run(), "");
    assert_eq!(database.execute("DELETE FROM aggregated_metrics", []).expect("it runs"), 71);
    assert_eq!(run(), "");
    store(&added("again"));
    assert_eq!(run(), "evt-alert: 3 rows behind the alert clock were not evaluated\n");
}

#[test]
fn a_table_that_was_empty_is_known_to_the_next_run() {
    let dir = Dir::new("alert-empty-table");
    let high = json!({"input": "metric", "aggregate": "max(value)", "threshold": 400, "window_seconds": 60});
    let errors = json!({"name": "e", "where": "event_type = 'error'", "window_seconds": 60});
    dir.write("rules.json", rules(&[rule(&high), rule(&errors)]));
    dir.write("m.jsonl", minute("m", 60.0, 1.0));
    dir.run("evt-sink", &["-q", "m.jsonl", "--to", "sqlite:m.db"]).succeeds();
    let database = rusqlite::Connection::open(dir.path("m.db")).expect("a database");
    assert_eq!(database.execute("DELETE FROM aggregated_metrics", []).expect("it runs"), 1);
    let table = "sqlite:m.db?table=aggregated_metrics";
    dir.write("e.jsonl", lines(&[series(0.0, 600.0, 10.0, &json!({}))]));
    once(&dir, &["-q", "--state", "alerts.db", "e.jsonl", table]).succeeds();
    // Its first rows are not rows that the run before may have evaluated under another name.
    dir.write("m.jsonl", minute("m", 560.0, 900.0) + &minute("m", 580.0, 900.0));
    dir.write("e.jsonl", lines(&[series(0.0, 630.0, 10.0, &json!({}))]));
    dir.run("evt-sink", &["-q", "m.jsonl", "--to", "sqlite:m.db"]).succeeds();
    let run = once(&dir, &["-q", "--state", "alerts.db", "e.jsonl", table]).ends_with(1);
    assert_eq!((run.rows().len(), run.stderr()), (1, String::new()), "{run}");
}

#[test]
fn a_run_that_is_killed_while_it_reads_a_table_stores_nothing_of_it() {
    let dir = Dir::new("alert-killed-table");
    write_metrics(&dir);
    let wanted = transitions(&once(&dir, &["m.jsonl"]).ends_with(1).rows());
    dir.run("evt-sink", &["-q", "m.jsonl", "--to", "sqlite:m.db"]).succeeds();
    let table = "sqlite:m.db?table=aggregated_metrics";
    let args = ["-q", "--once", "--rules", "rules.json", "--state", "alerts.db", "--to", "out.jsonl", table];
    for _ in 0..5 {
        let mut child = dir.command("evt-alert", &args).stdout(Stdio::null()).spawn().expect("it starts");
        eventually("the state is there, or it ends", || {
            dir.path("alerts.db").exists() || child.try_wait().expect("it is ours").is_some()
        });
        child.kill().and_then(|()| child.wait()).expect("it is ours");
    }
    dir.run("evt-alert", &args).stays_calm();
    // A run that was killed after it stored them may have written them too.
    let found: BTreeSet<String> = transitions(&dir.rows("out.jsonl")).into_iter().collect();
    assert_eq!(found, wanted.into_iter().collect());
}

#[test]
fn windows_that_may_fire_again_are_refused_and_final_rows_do_not_depend_on_how_fast_the_events_came() {
    let dir = Dir::new("alert-refiring");
    let events = [-600.0, 0.0, 70.0, 30.0, 160.0, 40.0, 640.0].map(|second| event(second, &json!({})));
    dir.write("e.jsonl", events.concat());
    let twice = json!({"name": "twice", "threshold": 1, "window_seconds": 1, "input": "metric"});
    let many =
        json!({"name": "many", "aggregate": "max(value)", "threshold": 2, "window_seconds": 1, "input": "metric"});
    let sum = json!({"name": "sum", "aggregate": "sum(value)", "threshold": 3, "window_seconds": 1, "input": "metric"});
    dir.write("rules.json", rules(&[rule(&twice), rule(&many), rule(&sum)]));
    let alerts = |feed: &str, flags: &str| {
        dir.shell(&format!(
            "{feed} | evt-window -q -f jsonl --time server_timestamp --size 1m --lateness 5m --out-of-orderness 0s {flags} \
             | evt-alert -q --once --rules rules.json"
        ))
    };
    let (fast, slow) = ("cat e.jsonl", "while read -r line; do echo \"$line\"; sleep .3; done < e.jsonl");
    for feed in [fast, slow] {
        // The window of the first minute has three events, whenever it fires.
        let run = alerts(feed, "--emit final").ends_with(1);
        let wanted = ["many firing condition at 60 since 60", "many resolved condition at 91 since 60"];
        assert_eq!(transitions(&run.rows()), wanted, "{run}");
        let run = alerts(feed, "").ends_with(2);
        let told = "metric count(*) has a lateness: its windows may fire again, and rules would count each row; give evt-window \
                    --emit final";
        assert!(run.stderr().contains(told) && run.rows().is_empty(), "{run}");
    }
}

#[test]
fn later_panes_and_retractions_of_a_window_are_not_further_rows_of_a_rule() {
    let dir = Dir::new("alert-panes");
    let pane = |end: f64, pane: i32, value: f64, retracted: bool| {
        let mut row: Value = serde_json::from_str(&minute("m", end, value)).expect("JSON");
        (row["pane"], row["rows"], row["retracted"]) = (pane.into(), (pane + 1).into(), retracted.into());
        format!("{row}\n")
    };
    let first = [pane(0.0, 0, 1.0, false), pane(60.0, 0, 1.0, false), pane(60.0, 1, 3.0, false)];
    let more = [pane(120.0, 0, 1.0, false), pane(120.0, 1, 1.0, true), pane(240.0, 0, 1.0, false)];
    dir.write("m.jsonl", [first, more].concat().concat());
    let twice = json!({"name": "twice", "threshold": 1, "window_seconds": 1, "input": "metric"});
    let high =
        json!({"name": "high", "aggregate": "max(value)", "threshold": 2, "window_seconds": 60, "input": "metric"});
    dir.write("rules.json", rules(&[rule(&twice), rule(&high)]));
    let run = once(&dir, &["--stats", "stats.json", "m.jsonl"]).succeeds();
    let told =
        "m.jsonl: only the first row of a window is evaluated; later panes and retractions are left out, first of m";
    assert!(run.stderr().contains(told) && run.stderr().contains("evt-window --emit final writes one row"), "{run}");
    assert_eq!(dir.rows("stats.json")[0]["counts"]["filtered"], json!(2));
    // A store has the results: a second pane of the first minute, and none of the second one.
    dir.run("evt-sink", &["-q", "m.jsonl", "--to", "sqlite:m.db"]).succeeds();
    let run = once(&dir, &["--stats", "stats.json", "sqlite:m.db?table=aggregated_metrics"]).ends_with(1);
    let wanted = ["high firing condition at 60 since 60", "high resolved condition at 150 since 60"];
    assert_eq!(transitions(&run.rows()), wanted);
    assert_eq!(dir.rows("stats.json")[0]["counts"]["out"], json!(3));
}
