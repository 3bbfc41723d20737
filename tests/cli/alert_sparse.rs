//! evt-alert over sparse data: silence that lasts, groups that are forgotten, and windows without rows within `for`.

use crate::alert::{at, event, lines, once, rule, rules, series, transitions};
use crate::harness::{Dir, Run};
use crate::notify::webhook;
use crate::receivers::{Receiver, Reply};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Two hosts with a row each second: `a` to `end`, `b` to 60 s and from `back`.
fn hosts(end: f64, back: f64) -> String {
    let of = |host: &str, from: f64, to: f64| series(from, to, 1.0, &json!({"source": host, "v": 1}));
    lines(&[of("a", 0.0, end), of("b", 0.0, end.min(60.0)), of("b", back.min(end), end)])
}

/// The transitions with the host of each: `host rule state reason at since`.
fn by_host(rows: &[Value]) -> Vec<String> {
    let host = |row: &Value| {
        let dimensions: Value = match &row["dimensions"] {
            Value::String(text) => serde_json::from_str(text).expect("JSON"),
            other => other.clone(),
        };
        dimensions["source"].as_str().expect("text").to_owned()
    };
    rows.iter().map(host).zip(transitions(rows)).map(|(host, line)| format!("{host} {line}")).collect()
}

/// Rules that fire for a host without rows, by their names.
fn silent_rules(fields: &Value) -> String {
    let with = |own: Value| {
        let mut all = rule(&own);
        all["by"] = json!(["source"]);
        fields.as_object().expect("an object").iter().for_each(|(name, value)| all[name] = value.clone());
        all
    };
    rules(&[
        with(json!({"name": "no_data", "aggregate": "avg(v)", "condition": "gt", "threshold": 100, "no_data": true})),
        with(json!({"name": "none", "condition": "lt", "threshold": 1})),
    ])
}

#[test]
fn the_alert_of_a_silent_source_fires_to_the_end_of_the_file() {
    let dir = Dir::new("sparse-silent");
    let mut rows = String::new();
    for second in 0..1800 {
        for source in if second < 60 { &["a", "b"][..] } else { &["a"] } {
            let time = 1_772_323_200 + second;
            _ = writeln!(rows, r#"{{"t":{time},"source":"{source}","event_type":"hb","v":1}}"#);
        }
    }
    dir.write("hb.jsonl", rows);
    for rule in [
        "aggregate=\"avg(v)\"\ncondition=\"gt\"\nthreshold=100\nno_data=true",
        "aggregate=\"count(*)\"\ncondition=\"lt\"\nthreshold=1",
        "aggregate=\"count(*)\"\ncondition=\"<\"\nthreshold=1\nfor=\"20m\"",
        "aggregate=\"avg(v)\"\ncondition=\">\"\nthreshold=100\nnull_as=\"breach\"",
    ] {
        let text = format!("[[rule]]\nname=\"silent\"\nby=[\"source\"]\nwindow_seconds=60\n{rule}\n");
        dir.write("r.toml", text);
        let args = ["--once", "--rules", "r.toml", "hb.jsonl", "--time", "t", "--time-unit", "s", "-o", "jsonl"];
        let run = dir.run("evt-alert", &args).stays_calm().ends_with(1);
        let rows = run.rows();
        assert_eq!(rows.len(), 1, "{rule}: {run}");
        let fires = if rule.contains("20m") { "2026-03-01T00:21:59.000000Z" } else { "2026-03-01T00:01:59.000000Z" };
        assert_eq!(
            [&rows[0]["state"], &rows[0]["since"], &rows[0]["at"]],
            ["firing", "2026-03-01T00:01:59.000000Z", fires],
            "{rule}"
        );
        assert!(run.stderr().contains("fired 1, resolved 0, firing 1"), "{rule}: {run}");
    }
}

#[test]
fn rows_that_come_back_and_a_rule_that_goes_end_the_alert_of_a_silent_group() {
    let dir = Dir::new("sparse-back");
    dir.write("rules.json", silent_rules(&json!({})));
    dir.write("in.jsonl", hosts(1800.0, 1700.0));
    let run = once(&dir, &["in.jsonl"]).ends_with(1);
    let wanted = [
        "b no_data firing no_data at 119 since 119",
        "b none firing condition at 119 since 119",
        "b no_data resolved no_data at 1730 since 119",
        "b none resolved condition at 1730 since 119",
    ];
    assert_eq!(by_host(&run.rows()), wanted);
    // The same in several runs: the state keeps the silent group, and each run ends with the firing alert.
    let mut found = vec![];
    for end in [100.0, 400.0, 1000.0, 1699.0, 1800.0] {
        dir.write("in.jsonl", hosts(end, 1700.0));
        let run =
            once(&dir, &["--state", "alerts.db", "in.jsonl"]).ends_with(i32::from((101.0..1800.0).contains(&end)));
        found.extend(by_host(&run.rows()));
    }
    assert_eq!(found, wanted);
    // A rule that is deleted is resolved; the other one still fires.
    dir.write("in.jsonl", hosts(1000.0, 2000.0));
    once(&dir, &["--state", "other.db", "in.jsonl"]).ends_with(1);
    let all: Value = serde_json::from_str(&silent_rules(&json!({}))).expect("JSON");
    dir.write("rules.json", rules(&[all["rule"][1].clone()]));
    dir.write("in.jsonl", hosts(1100.0, 2000.0));
    let run = once(&dir, &["--state", "other.db", "in.jsonl"]).ends_with(1);
    assert_eq!(by_host(&run.rows()), ["b no_data resolved rule gone at 1000 since 119"]);
    assert!(run.stderr().contains("fired 0, resolved 1, firing 1"), "{run}");
}

#[test]
fn the_limit_of_groups_ends_no_alert_of_a_silent_group() {
    let dir = Dir::new("sparse-limit");
    let of = |host: &str, from: f64, to: f64| series(from, to, 1.0, &json!({"source": host, "v": 1}));
    // `c` comes while the alert of `b` fires, `d` when nothing is silent.
    dir.write("in.jsonl", lines(&[of("a", 0.0, 1500.0), of("b", 0.0, 60.0), of("c", 1000.0, 1010.0)]));
    let run = |forget: Value, groups: &str| {
        let mut fields = json!({"by": ["source"], "condition": "lt", "threshold": 1});
        if !forget.is_null() {
            fields["forget_after"] = forget;
        }
        dir.write("rules.json", rules(&[rule(&fields)]));
        once(&dir, &["--max-groups", groups, "in.jsonl"]).ends_with(1)
    };
    let found = run(Value::Null, "2");
    assert_eq!(by_host(&found.rows()), ["b r firing condition at 119 since 119"]);
    assert!(found.stderr().contains("rule r: 10 rows of groups beyond --max-groups were left out"), "{found}");
    let kept = "groups without rows that count for --max-groups because of their alerts: 1; forget_after of a rule";
    assert!(found.stderr().contains(kept), "{found}");
    // A rule that forgets the group makes room.
    let found = run(json!("12m"), "2");
    let wanted = [
        "b r firing condition at 119 since 119",
        "b r resolved group gone at 779 since 119",
        "c r firing condition at 1069 since 1069",
    ];
    assert_eq!(by_host(&found.rows()), wanted);
    assert!(!found.stderr().contains("--max-groups"), "{found}");
}

#[test]
fn forget_after_ends_the_alert_of_a_group_that_is_gone_and_notifies() {
    let dir = Dir::new("sparse-forget");
    let receiver = Receiver::new(|_, _| Reply::Status(200));
    dir.write("channels.toml", webhook(&receiver, ""));
    let fields = json!({"forget_after": "15m", "notification_channel": "hook"});
    dir.write("rules.json", silent_rules(&fields));
    let mut found = vec![];
    for end in [300.0, 800.0, 1100.0, 1300.0] {
        dir.write("in.jsonl", hosts(end, 1200.0));
        let now = at(end);
        let args = ["--now", &now, "--state", "alerts.db", "--notify", "channels.toml", "in.jsonl"];
        found.extend(by_host(&once(&dir, &args).rows()));
    }
    // A group that comes back is a new one.
    let wanted = [
        "b no_data firing no_data at 119 since 119",
        "b none firing condition at 119 since 119",
        "b no_data resolved group gone at 959 since 119",
        "b none resolved group gone at 959 since 119",
    ];
    assert_eq!(found, wanted);
    let posted: Vec<[Value; 2]> =
        receiver.posted().iter().map(|one| ["state", "reason"].map(|name| one.body[name].clone())).collect();
    let gone = posted.iter().filter(|[state, reason]| state == "resolved" && reason == "group gone").count();
    assert_eq!((posted.len(), gone), (4, 2), "{posted:?}");
    // The group of a rule without by is forgotten as well, and not before it had a chance to fire.
    let one = rule(&json!({"condition": "lt", "threshold": 1, "where": "source = 'b'", "forget_after": 900}));
    dir.write("rules.json", rules(&[one]));
    dir.write("in.jsonl", hosts(1100.0, 1200.0));
    let rows = once(&dir, &["in.jsonl"]).ends_with(1).rows();
    assert_eq!(transitions(&rows), ["r firing condition at 119 since 119", "r resolved group gone at 959 since 119"]);
    for (after, hold) in [(60, 0), (90, 30)] {
        let fields = json!({"condition": "lt", "threshold": 1, "forget_after": after, "for": hold});
        dir.write("rules.json", rules(&[rule(&fields)]));
        let run = once(&dir, &["in.jsonl"]).ends_with(78);
        let told = format!("rule r: forget_after: expected more than window_seconds and for ({after}s): ");
        assert!(run.stderr().contains(&told), "{run}");
    }
}

/// Sensors that report every two minutes: `hot` is always hot, `cold` never, `once` is hot at first.
fn sensors() -> String {
    let mut rows: Vec<(f64, String)> = vec![];
    for step in 0..15 {
        for (offset, sensor) in ["hot", "cold", "once"].iter().enumerate() {
            let is_hot = *sensor == "hot" || *sensor == "once" && step == 0;
            let time = f64::from(step) * 120.0 + offset as f64;
            rows.push((time, event(time, &json!({"source": sensor, "v": if is_hot { 200 } else { 1 }}))));
        }
    }
    lines(&[rows, series(0.0, 1800.0, 1.0, &json!({"source": "clock", "v": 1}))])
}

/// Runs a rule whose `for` is longer than the time between two rows of a sensor.
fn hot(dir: &Dir, fields: &Value, args: &[&str]) -> Run {
    let mut hot = rule(&json!({"name": "hot", "aggregate": "avg(v)", "by": ["source"], "threshold": 100, "for": "5m"}));
    fields.as_object().expect("an object").iter().for_each(|(name, value)| hot[name] = value.clone());
    dir.write("rules.json", rules(&[hot]));
    once(dir, &[args, &["--stats", "stats.json", "--prometheus", "metrics.prom", "in.jsonl"]].concat())
}

#[test]
fn windows_without_rows_that_interrupt_for_are_reported_at_the_end_and_in_metrics() {
    let dir = Dir::new("sparse-for");
    dir.write("in.jsonl", sensors());
    let counted = |name: &str| {
        let text = String::from_utf8(dir.bytes("metrics.prom")).expect("text");
        let line = format!(r#"evt_alert_interruptions_total{{rule="hot",dimensions="{name}"}} "#);
        text.lines().find_map(|found| found.strip_prefix(&line).map(str::to_owned))
    };
    let stats = || {
        let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
        stats["interruptions"].as_u64().expect("a number")
    };
    let [of_hot, of_once, of_cold] = ["hot", "once", "cold"].map(|name| format!(r#"{{\"source\":\"{name}\"}}"#));
    for fields in [json!({}), json!({"null_as": "ok"})] {
        let run = hot(&dir, &fields, &[]).succeeds();
        assert_eq!(run.rows().len(), 0, "{run}");
        // The rows of `hot` from 120 s to 1680 s, and the first row of `once`, which is in the first whole window.
        let told = "rule hot: windows without a value interrupted for (5m) 15 times \
                    ({\"source\":\"hot\"} 14, {\"source\":\"once\"} 1), each time before the alert fired; null_as ";
        assert!(run.stderr().contains(told), "{run}");
        assert_eq!(stats(), 15);
        assert_eq!(
            (counted(&of_hot), counted(&of_once), counted(&of_cold)),
            (Some("14.0".to_owned()), Some("1.0".to_owned()), None)
        );
    }
    // The alert waits while there is no value, and fires at the first value five minutes after the first breach.
    let run = hot(&dir, &json!({"null_as": "keep"}), &[]).ends_with(1);
    assert_eq!(by_host(&run.rows()), ["hot hot firing condition at 480 since 120"]);
    assert_eq!((stats(), counted(&of_hot)), (0, None), "{run}");
    // A window without rows is a breach: a value in between ends the time of `cold`.
    let run = hot(&dir, &json!({"null_as": "breach"}), &[]).ends_with(1);
    assert_eq!(by_host(&run.rows()), ["hot hot firing condition at 360 since 60"]);
    let run = hot(&dir, &json!({"null_as": "maybe"}), &[]).ends_with(78);
    assert!(run.stderr().contains("rule hot: null_as: expected breach, keep or ok, found 'maybe'"), "{run}");
}

#[test]
fn interruptions_of_many_groups_are_counted_together() {
    let dir = Dir::new("sparse-many");
    // Sensors in the order of their first rows.
    let mut rows: Vec<(f64, String)> = vec![];
    for sensor in 0..25 {
        for step in 0..2 {
            let time = 10.0 + f64::from(sensor) + 60.0 * f64::from(step);
            rows.push((time, event(time, &json!({"source": format!("s{sensor:02}"), "v": 200}))));
        }
    }
    dir.write("in.jsonl", lines(&[rows, series(0.0, 300.0, 1.0, &json!({"source": "clock", "v": 1}))]));
    let run = hot(&dir, &json!({"window_seconds": 5, "for": 20}), &[]).succeeds();
    let named = r#"50 times ({"source":"s00"} 2, {"source":"s01"} 2, {"source":"s02"} 2, other groups 44)"#;
    assert!(run.stderr().contains(named), "{run}");
    let text = String::from_utf8(dir.bytes("metrics.prom")).expect("text");
    let found: Vec<&str> = text.lines().filter(|line| line.starts_with("evt_alert_interruptions_total{")).collect();
    assert_eq!(found.len(), 11, "{text}");
    assert!(text.contains(r#"evt_alert_interruptions_total{rule="hot",dimensions="others"} 30"#), "{text}");
}

#[test]
fn signs_are_conditions_in_runs_checks_and_tests() {
    let dir = Dir::new("sparse-signs");
    dir.write("in.jsonl", lines(&[series(0.0, 100.0, 1.0, &json!({}))]));
    // The value is 10 at every instant.
    for (sign, word, fires_at) in
        [(">", "gt", 9), ("<", "lt", 11), (">=", "ge", 10), ("<=", "le", 10), ("==", "eq", 10), ("!=", "ne", 9)]
    {
        for (threshold, fires) in [(fires_at, true), (if word == "ne" { 10 } else { 20 - fires_at }, false)] {
            if !fires && matches!(word, "ge" | "le" | "eq") {
                continue;
            }
            let of = |condition: &str| {
                format!(
                    "[[rule]]\naggregate = \"count(*)\"\nrule_id = \"r\"\nby = \"level\"\ncondition = \"{condition}\"\n\
                     threshold = {threshold}\nwindow_seconds = 10\n"
                )
            };
            dir.write("r.toml", of(sign));
            let [found, wanted] = [sign, word].map(|condition| {
                dir.write("w.toml", of(condition));
                dir.run("evt-alert", &["--once", "--rules", "w.toml", "in.jsonl"]).stays_calm().stdout().to_vec()
            });
            assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(&wanted), "{sign} {threshold}");
            assert_eq!(!found.is_empty(), fires, "{sign} {threshold}");
            let check = dir.run("evt-alert", &["--check", "--rules", "r.toml", "in.jsonl"]).succeeds();
            let name = format!("rule count(*) {word} {threshold}");
            assert!(check.text().contains(&name) || check.stderr().contains(&name), "{check}");
            let alert = format!("{{ rule = \"count(*) {word} {threshold}\", since = \"10s\" }}");
            let firing =
                if fires { alert.replace("since", "dimensions = { level = \"x\" }, since") } else { String::new() };
            let test = format!(
                "[[test]]\nname = \"t\"\n[[test.series]]\ncount = 100\nset = {{ level = \"x\" }}\n[[test.expect]]\nat = \"50s\"\n\
                 firing = [{firing}]\n"
            );
            dir.write("t.toml", test);
            dir.run("evt-alert", &["test", "r.toml", "t.toml"]).succeeds();
        }
    }
    dir.write(
        "r.toml",
        "[[rule]]\nname = \"r\"\naggregate = \"count(*)\"\ncondition = \"=>\"\nthreshold = 1\nwindow_seconds = 10\n",
    );
    let run = dir.run("evt-alert", &["--once", "--rules", "r.toml", "in.jsonl"]).ends_with(78);
    let told = "condition: expected gt lt ge le eq ne, > < >= <= == != or GREATER_THAN …, found '=>'";
    assert!(run.stderr().contains(told), "{run}");
    // A metrics file accepts one text, too.
    for by in ["\"level\"", "[\"level\"]"] {
        dir.write("m.toml", format!("[[metric]]\nname = \"m\"\naggregate = \"count(*)\"\nsize = \"1m\"\nby = {by}\n"));
        let run = dir.run("evt-window", &["-q", "-m", "m.toml", "-o", "jsonl", "in.jsonl"]).succeeds();
        assert_eq!(run.rows()[0]["dimensions"], json!({"level": null}), "{run}");
    }
    dir.write("m.toml", "[[metric]]\nname = \"m\"\naggregate = \"count(*)\"\nsize = \"1m\"\nby = 1\n");
    let run = dir.run("evt-window", &["-q", "-m", "m.toml", "-o", "jsonl", "in.jsonl"]).ends_with(78);
    assert!(run.stderr().contains("line 5: expected a text or a list of texts"), "{run}");
}
