//! Names of fields that are stamps in rows of evt, and names of columns that are also properties.

use crate::harness::{Dir, Run, row_tools};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Records with some of the six names of stamps, and one record with all of them.
const RECORDS: &str = r#"{"t":"2026-01-01T00:00:00Z","offset":100,"partition":"a"}
{"t":"2026-01-01T00:00:01Z","topic":"x","partition":3,"offset":7,"ts":5}
{"t":"2026-01-01T00:00:02Z","origin":"web","ingested_at":"now","schema_id":"s"}
"#;

fn run(dir: &Dir, line: &str) -> Run {
    dir.shell(line).succeeds().stays_calm()
}

/// The properties of each row.
fn properties(run: &Run) -> Vec<Value> {
    run.rows().iter().map(|row| row["properties"].clone()).collect()
}

#[test]
fn a_record_with_the_name_of_a_stamp_is_the_same_event_in_every_tool() {
    let dir = Dir::new("stamp-names");
    dir.write("p.jsonl", RECORDS);
    let ingested = run(&dir, "evt-ingest p.jsonl --time t -q --now 2026-01-02T00:00:00Z -o jsonl");
    let wanted: Vec<Value> = RECORDS.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(properties(&ingested), wanted);
    for tool in ["evt-view", "evt-validate", "evt-sink"] {
        let same = run(&dir, &format!("{tool} p.jsonl --time t -q --now 2026-01-02T00:00:00Z -o jsonl"));
        assert_eq!(same.text(), ingested.text(), "{tool}");
    }
    for (by, argument, value, warned) in [
        ("partition", "offset", r#"{"partition":"0"}"#, true),
        ("properties.partition", "properties.offset", r#"{"properties.partition":"a"}"#, false),
    ] {
        let window = format!("--size 1d --by {by} --agg 'v=sum({argument})' -q -o jsonl");
        let one = run(&dir, &format!("evt-window p.jsonl --time t {window}"));
        let two = run(&dir, &format!("evt-ingest p.jsonl --time t -q | evt-window {window}"));
        assert_eq!(one.text(), two.text());
        assert!(one.text().contains(value), "{one}");
        for run in [&one, &two] {
            let said = run.stderr();
            let both =
                ["partition", "offset"].map(|name| said.matches(&format!("{name} is the column of the event")).count());
            assert_eq!(both, [usize::from(warned); 2], "{run}");
            assert_eq!(said.contains("use properties.offset for"), warned, "{run}");
        }
    }
}

#[test]
fn a_row_that_carries_stamps_keeps_them_without_those_that_may_be_absent() {
    let dir = Dir::live("stamps");
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z");
    let row = |offset: usize| json!({"event_time": early, "origin": "o", "partition": "p", "offset": offset, "stream_time": late});
    let whole = [1, 2].map(|offset| row(offset).to_string() + "\n").concat();
    dir.write("s.jsonl", &whole);
    dir.write(
        "s.csv",
        format!("event_time,origin,partition,offset,stream_time\n{early},o,p,1,{late}\n{early},o,p,2,{late}\n"),
    );
    for file in ["s.jsonl", "s.csv"] {
        let seen = run(&dir, &format!("evt-view {file} -q -o jsonl"));
        let stamps: Vec<_> = seen.rows().iter().map(|row| [row["origin"].clone(), row["offset"].clone()]).collect();
        assert_eq!(stamps, [[json!("o"), json!(1)], [json!("o"), json!(2)]], "{seen}");
        // The stream time is an hour later, so a window of one minute counts neither event.
        let late = run(&dir, &format!("evt-window {file} --size 1m -q -o jsonl --late late.jsonl"));
        assert_eq!((late.rows().len(), dir.rows("late.jsonl").len()), (0, 2), "{late}");
        std::fs::remove_file(dir.path("late.jsonl")).expect("it was written");
    }
    // A flag maps the partition, so evt ignores the stamps of the records and stamps the rows by their event times.
    let mapped = run(&dir, "evt-window s.jsonl --size 1m --set partition=x -q -o jsonl");
    assert_eq!(mapped.rows()[0]["value"], 2.0, "{mapped}");
}

#[test]
fn a_value_that_hash_ids_or_set_replaces_stays_a_property_through_every_stage() {
    let dir = Dir::new("replaced");
    dir.write("r.jsonl", r#"{"t":"2026-01-01T00:00:00Z","event_id":"order-17","source":{"ip":"1.1.1.1"}}"#);
    let flags = "--time t --hash-ids --set source=web -q";
    let row =
        run(&dir, &format!("evt-ingest r.jsonl {flags} -o jsonl | evt-view -f jsonl -q -o jsonl")).rows().remove(0);
    let wanted = json!({"t": "2026-01-01T00:00:00Z", "source": {"ip": "1.1.1.1"}, "event_id": "order-17"});
    assert_eq!((&row["properties"], &row["source"]), (&wanted, &json!("web")));
    let by = "--size 1d --by properties.event_id,properties.source.ip -o jsonl";
    let one = run(&dir, &format!("evt-window r.jsonl {flags} {by}"));
    let two = run(&dir, &format!("evt-ingest r.jsonl {flags} | evt-window {by} -q"));
    assert_eq!(one.text(), two.text());
    assert_eq!(one.rows()[0]["dimensions"]["properties.event_id"], "order-17", "{one}");
}

#[test]
fn a_bare_name_that_is_a_column_and_a_property_is_warned_of_once_wherever_the_rows_come_from() {
    let dir = Dir::new("shadows");
    let lines: String = (0..3000)
        .map(|n| {
            let beside = if n >= 2500 { json!({"user_id": n, "n": n}) } else { json!({"n": n, "m": "user_id"}) };
            json!({"server_timestamp": "2026-01-01T00:00:00Z", "user_id": "u", "properties": beside}).to_string() + "\n"
        })
        .collect();
    dir.write("e.jsonl", lines);
    run(&dir, "evt-ingest e.jsonl -q --to e.parquet --to e.avro --to e.csv --to - > e.arrows");
    run(&dir, "evt-sink e.jsonl -q --to sqlite:e.db");
    let inputs = ["e.jsonl", "e.csv", "e.arrows", "e.parquet", "e.avro", "'sqlite:e.db?table=raw_events'"];
    for input in inputs {
        for tool in [
            "evt-ingest {} --where \"EXPR\"",
            "evt-view {} --where \"EXPR\"",
            "evt-window {} --size 1d --where \"EXPR\"",
        ] {
            if tool.starts_with("evt-ingest") && input.contains("sqlite") {
                continue;
            }
            for (expr, warnings) in [("user_id = 'u'", 1), ("properties.user_id is null", 0), ("source = 'x'", 0)] {
                let line = tool.replace("{}", input).replace("EXPR", expr) + " -q -o jsonl";
                let said = dir.shell(&line).succeeds().stderr();
                assert_eq!(said.matches("use properties.user_id for").count(), warnings, "{line}: {said}");
                assert_eq!(said.lines().count(), warnings, "{line}: {said}");
            }
        }
    }
}

/// The origins of the rows of a run.
fn origins(run: &Run) -> Vec<String> {
    run.rows().iter().map(|row| row["origin"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn a_file_has_one_origin_and_the_same_ids_however_its_path_is_typed() {
    let dir = Dir::new("origins");
    dir.write("logs/a.jsonl", "{\"server_timestamp\":\"2026-01-01T00:00:00Z\"}\n");
    run(&dir, "gzip -k logs/a.jsonl");
    let ids = |path: &str| {
        let seen = run(&dir, &format!("evt-ingest {path} -q -o jsonl"));
        assert_eq!(origins(&seen), ["logs/a.jsonl"], "{path}");
        (seen.rows()[0]["event_id"].clone(), seen.rows()[0]["source"].clone())
    };
    let first = ids("logs/a.jsonl");
    for path in
        ["./logs/a.jsonl", "logs//a.jsonl", "logs/../logs/./a.jsonl.gz", "file:logs/a.jsonl", "file://./logs/a.jsonl"]
    {
        assert_eq!(ids(path), first, "{path}");
    }
    let absolute = dir.path("logs/a.jsonl").display().to_string();
    assert_eq!(origins(&run(&dir, &format!("evt-ingest {absolute} -q -o jsonl"))), [absolute.as_str()]);
    assert_eq!(
        origins(&run(&dir, "cd logs && evt-ingest a.jsonl -q -o jsonl --origin logs/a.jsonl")),
        ["logs/a.jsonl"]
    );
    // Each input ends its own partition: windows of the first fire before the second one begins.
    dir.write("b.jsonl", "{\"server_timestamp\":\"2026-01-01T00:00:00Z\"}\n");
    let both = run(&dir, "evt-ingest ./logs/a.jsonl.gz ./b.jsonl -q | evt-view --control -q -o jsonl");
    let ended = |line: &&str| line.contains("logs/a.jsonl\"") && line.contains("ended");
    assert_eq!(both.text().lines().filter(ended).count(), 1, "{both}");
}

#[test]
fn two_raw_inputs_of_one_origin_are_refused_with_both_names() {
    let dir = Dir::new("one-origin");
    dir.write("a.jsonl", "{\"server_timestamp\":\"2026-01-01T00:00:00Z\",\"n\":1}\n");
    dir.write("b.jsonl", "{\"server_timestamp\":\"2026-01-01T00:00:00Z\",\"n\":2}\n");
    run(&dir, "gzip -k a.jsonl; evt-ingest a.jsonl -q --to s.jsonl --to s.arrows --to s.parquet");
    run(&dir, "evt-window a.jsonl --size 1m -q --to m.jsonl");
    for (line, first, second) in [
        ("evt-ingest a.jsonl ./a.jsonl", "a.jsonl", "a.jsonl"),
        ("evt-ingest a.jsonl b.jsonl a.jsonl.gz", "a.jsonl", "a.jsonl.gz"),
        ("evt-window --size 1m a.jsonl a.jsonl", "a.jsonl", "a.jsonl"),
        ("evt-view - -", "-", "-"),
        ("evt-ingest --origin x a.jsonl b.jsonl", "a.jsonl", "b.jsonl"),
        ("evt-ingest s.jsonl ./s.jsonl", "s.jsonl", "s.jsonl"),
    ] {
        let refused = dir.shell(&format!("{line} -o jsonl < /dev/null")).ends_with(2).stays_calm();
        let said = refused.stderr();
        assert!(
            said.contains("two raw inputs have the same origin")
                && said.contains("; read them in two runs, with --origin NAME for one"),
            "{refused}"
        );
        assert!(said.contains(first) && said.contains(&format!("{second}: two")), "{refused}");
        assert!(refused.stdout().is_empty(), "{refused}");
    }
    for line in [
        "evt-view s.jsonl ./s.jsonl",
        "evt-view s.arrows s.arrows",
        "evt-view s.parquet s.parquet",
        "evt-view m.jsonl ./m.jsonl",
        "evt-view --origin x s.jsonl s.arrows",
    ] {
        assert_eq!(run(&dir, &format!("{line} -q -o jsonl")).rows().len(), 2, "{line}");
    }
}

#[test]
fn a_file_name_of_any_bytes_is_an_input_or_an_output_of_every_tool() {
    let dir = Dir::new("bytes");
    let odd = |name: &[u8]| OsStr::from_bytes(name).to_owned();
    let (input, output, dead) = (odd(b"in\xff\xfe 100%.jsonl"), odd(b"out\xff.jsonl"), odd(b"dead\xff.jsonl"));
    std::fs::write(dir.path("").join(&input), "{\"server_timestamp\":\"2026-01-01T00:00:00Z\"}\nbad\n")
        .expect("writable");
    let flag = |flag: &str| OsStr::new(flag).to_owned();
    let args = [input.clone(), flag("-q"), flag("--to"), output.clone(), flag("--dlq"), dead.clone()];
    for tool in row_tools() {
        let mut args = args.to_vec();
        if tool == "evt-window" {
            let late = [&b"file:"[..], b"late\xff.jsonl"].concat();
            args.extend([flag("--size=1m"), flag("--late"), odd(&late)]);
        }
        dir.run(tool, &args).succeeds().stays_calm();
        let written = |name: &OsStr| std::fs::read_to_string(dir.path("").join(name)).expect("it was written");
        assert_eq!((written(&output).lines().count(), written(&dead).lines().count()), (1, 1), "{tool}");
        if tool != "evt-window" {
            assert!(written(&output).contains(r#""origin":"in%FF%FE 100%25.jsonl""#), "{tool}: {}", written(&output));
        }
        assert!(written(&dead).contains(r#""source_topic":"in%FF%FE 100%25.jsonl""#), "{tool}");
        [&output, &dead].iter().for_each(|name| std::fs::remove_file(dir.path("").join(name)).expect("it is there"));
    }
    let part = odd(b"p\xff.parquet");
    dir.run("evt-ingest", &[&input, &flag("-q"), &flag("--dlq=null:"), &flag("--to"), &part]).succeeds();
    assert_eq!(dir.run("evt-view", &[&part, &flag("-q"), &flag("-o"), &flag("jsonl")]).succeeds().rows().len(), 1);
    let mut letters = dir.command("evt-ingest", &[&input, &flag("-q")]);
    Run::of(letters.env("EVT_DLQ", &dead)).succeeds();
    assert!(dir.path("").join(&dead).exists());
}

#[test]
fn a_flag_that_is_no_name_of_a_file_and_not_utf_8_is_refused() {
    let dir = Dir::new("flags");
    for tool in evt::tool::ALL {
        for flag in [&b"--pipeline=\xff"[..], b"--config=\xff", b"--log-format=\xff", b"--stats=\xff", b"--\xff"] {
            let run = dir.run(tool.name, &[OsStr::from_bytes(flag)]).ends_with(2).stays_calm();
            assert_eq!(run.stderr().lines().count(), 1, "{run}");
        }
    }
    for name in [&b"sqlite:\xff.db"[..], b"parquet:\xff", b"kafka://h/\xff"] {
        let run = dir.run("evt-view", &[OsStr::from_bytes(name)]).ends_with(2).stays_calm();
        assert!(run.stderr().contains("only file names may be other bytes"), "{run}");
    }
}

#[test]
fn metric_rows_that_another_program_spelled_anew_are_the_rows_they_were() {
    let dir = Dir::new("spelled");
    dir.write("e.jsonl", "{\"t\":\"2026-01-01T00:00:00Z\",\"k\":\"é\\n\",\"j\":\"\\\"x\\\"\"}\n");
    run(&dir, "evt-window -q e.jsonl --time t --size 1m --by k,j,none -o jsonl > m.jsonl");
    run(&dir, "evt-sink m.jsonl -q --to sqlite:m.db");
    let row = dir.rows("m.jsonl").remove(0);
    let rest = row.as_object().expect("an object").iter().filter(|(name, _)| *name != "dimensions");
    let rest: Vec<String> = rest.map(|(name, value)| format!("{} : {value}", json!(name))).collect();
    for dimensions in [
        r#"{ "none" : null, "k" : "é\n" , "j" : "\"x\"" }"#,
        r#"{"j":"\u0022x\u0022","\u006b":"\u00e9\u000a","none":null}"#,
        &json!(r#"{"none": null, "k": "\u00e9\n", "j": "\"x\""}"#).to_string(),
    ] {
        dir.write("again.jsonl", format!("{{\"dimensions\": {dimensions}, {}}}\n", rest.join(" , ")));
        let said = run(&dir, "evt-sink again.jsonl --to sqlite:m.db").stderr();
        assert!(said.contains("unchanged 1"), "{dimensions}: {said}");
    }
    dir.write("other.jsonl", format!("{{\"dimensions\":{{\"k\":\"e\"}},{}}}\n", rest.join(",")));
    let refused = dir.shell("evt-sink other.jsonl --to sqlite:m.db").ends_with(1);
    let said = refused.stderr();
    assert!(said.contains(r#"dimensions ({"k":"e"})"#) && said.contains("2026-01-01T00:00:00.000000Z to"), "{refused}");
    assert!(!said.contains("count(*):0"), "{refused}");
}

/// Records of other programs whose fields have names of columns, but other values.
const OTHERS: &str = r#"{"t":"2026-01-01","user_id":17,"event_id":42,"source":{"ip":"10.0.0.1"},"event_type":["a"]}
{"t":"2026-01-01","user_id":18.50,"event_id":-1,"server_timestamp":{"$date":"2026-01-01"}}
"#;

#[test]
fn numbers_are_ids_and_nested_values_under_a_name_of_a_column_are_properties() {
    let dir = Dir::new("other-values");
    dir.write("in.jsonl", OTHERS);
    let dead = dir.shell("evt-ingest in.jsonl --time t --to null:").ends_with(1);
    assert!(dead.stderr().contains("event_id: expected a UUID, found \"42\"; --hash-ids derives one"), "{dead}");
    for tool in ["evt-ingest", "evt-view", "evt-validate", "evt-sink"] {
        let rows =
            run(&dir, &format!("{tool} in.jsonl --time t --hash-ids -q -o jsonl --to - --now 2026-01-02")).rows();
        let users: Vec<&Value> = rows.iter().map(|row| &row["user_id"]).collect();
        assert_eq!(users, ["17", "18.50"], "{tool}");
        assert_eq!(rows[0]["source"], "in.jsonl", "{tool}");
        assert_eq!(rows[0]["event_type"], "event", "{tool}");
        let wanted: Vec<Value> = vec![
            json!({"t": "2026-01-01", "event_id": 42, "source": {"ip": "10.0.0.1"}, "event_type": ["a"]}),
            json!({"t": "2026-01-01", "event_id": -1, "server_timestamp": {"$date": "2026-01-01"}}),
        ];
        assert_eq!(rows.iter().map(|row| row["properties"].clone()).collect::<Vec<_>>(), wanted, "{tool}");
    }
    // The same id in the same source is the same event.
    let ids = |name: &str| {
        dir.write(name, "{\"t\":\"2026-01-01\",\"source\":\"s\",\"event_id\":42}\n{\"t\":\"2026-01-01\",\"source\":\"s\",\"event_id\":\"42\"}\n");
        let rows = run(&dir, &format!("evt-ingest {name} --time t --hash-ids -q -o jsonl")).rows();
        rows.iter().map(|row| row["event_id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    let ids = ids("ids.jsonl");
    assert_eq!(ids[0], ids[1]);
    // A value is reached as a property, in expressions and by flags.
    let filter = "evt-ingest in.jsonl --time t --hash-ids -q -o jsonl --where \"properties.source.ip = '10.0.0.1'\"";
    assert_eq!(run(&dir, filter).rows().len(), 1);
    let mapped = run(&dir, "evt-ingest in.jsonl --time t --hash-ids -q -o jsonl --field source=source.ip").rows();
    assert_eq!(
        (&mapped[0]["source"], &mapped[0]["properties"]["source"]),
        (&json!("10.0.0.1"), &json!({"ip": "10.0.0.1"}))
    );
    // A time inside an object is named.
    dir.write("one.jsonl", "{\"server_timestamp\":{\"$date\":\"2026-01-01\"}}\n");
    let untimed = dir.shell("evt-ingest one.jsonl --to null:").ends_with(2);
    assert!(untimed.stderr().contains("use --time 'server_timestamp.$date'\n"), "{untimed}");
    run(&dir, "evt-ingest one.jsonl --time 'server_timestamp.$date' -q --strict --to null:");
}

#[test]
fn two_fields_of_one_column_are_a_fault_even_if_one_is_nested() {
    let dir = Dir::new("nested-twice");
    dir.write("in.jsonl", "{\"t\":\"2026-01-01\",\"source\":{\"a\":1},\"source\":\"web\"}\n");
    let run = dir.shell("evt-ingest in.jsonl --time t --to null:").ends_with(1);
    assert!(run.stderr().contains("source: duplicate name in the record"), "{run}");
}

#[test]
fn plain_records_have_properties_only() {
    let dir = Dir::new("plain");
    let record = r#"{"event_id":"order-17","source":5,"user_id":true,"properties":"x","server_timestamp":"2026-01-01","partition":2,"window_start":1}"#;
    dir.write("in.jsonl", record.to_owned() + "\n");
    dir.write("in.csv", "event_id,properties,server_timestamp\na,b,2026-01-01\n");
    for tool in ["evt-ingest", "evt-view", "evt-sink"] {
        let rows = run(&dir, &format!("{tool} in.jsonl --plain --time server_timestamp -q -o jsonl --to -")).rows();
        assert_eq!(rows[0]["properties"], serde_json::from_str::<Value>(record).expect("JSON"), "{tool}");
        assert_eq!((&rows[0]["partition"], &rows[0]["source"]), (&json!("0"), &json!("in.jsonl")), "{tool}");
        assert_eq!(rows[0]["event_time"], "2026-01-01T00:00:00.000000Z", "{tool}");
        assert_eq!(rows[0].get("server_timestamp"), None, "{tool}");
    }
    let rows =
        run(&dir, "evt-ingest in.csv --plain --time server_timestamp --field user_id=event_id -q -o jsonl").rows();
    assert_eq!(rows[0]["properties"], json!({"event_id": "a", "properties": "b", "server_timestamp": "2026-01-01"}));
    assert_eq!(rows[0]["user_id"], "a");
    // Without --time the message names the field.
    let untimed = dir.shell("evt-ingest in.jsonl --plain --to null:").ends_with(2);
    assert!(untimed.stderr().contains("use --time server_timestamp\n"), "{untimed}");
    // A filter and a window read the properties.
    let line = "evt-window in.jsonl --plain --time server_timestamp --size 1d --by properties.source --agg 'n=count(*)' -q -o jsonl";
    assert_eq!(run(&dir, line).rows()[0]["value"], 1.0);
}

#[test]
fn a_name_with_a_hyphen_is_proposed_in_quotes() {
    let dir = Dir::new("hyphens");
    dir.write("in.jsonl", "{\"t\":\"2026-01-01\",\"h\":{\"User-Agent\":[\"curl/8\"]}}\n");
    let run = dir.shell("evt-view in.jsonl --where \"h.User-Agent[1] like 'curl%'\"").ends_with(78);
    assert!(run.stderr().contains("if h.User-Agent[1] is one name, write h.\"User-Agent\"[1]"), "{run}");
    let written = ["-q", "in.jsonl", "--time", "t", "--where", "h.\"User-Agent\"[1] like 'curl%'", "-o", "jsonl"];
    assert_eq!(dir.run("evt-view", &written).succeeds().rows().len(), 1);
    let run = dir.shell("evt-window in.jsonl --time t --size all --by Bestell-Nr").ends_with(78);
    assert!(run.stderr().contains("if Bestell-Nr is one name, write \"Bestell-Nr\""), "{run}");
}

#[test]
fn a_name_with_blanks_or_signs_is_proposed_in_quotes() {
    let dir = Dir::new("blanks");
    dir.write("in.jsonl", "{\"t\":\"2026-01-01\",\"Bounce rate\":1}\n");
    let window = |flags: &[&str]| {
        let all = [&["in.jsonl", "--time", "t", "--size", "all"][..], flags].concat();
        dir.run("evt-window", &all)
    };
    for (flags, said) in [
        (["--agg", "sum(Bounce rate)"], "a name with blanks or signs is written in double quotes: \"Bounce rate\""),
        (["--agg", "sum(Betrag (€))"], "a name with blanks or signs is written in double quotes: \"...\""),
        (["--by", "Bestell-Nr."], "a name with blanks or signs is written in double quotes: \"...\""),
        (["--agg", "sum(x) as rev"], "a name stands before its expression: NAME=..."),
        (["--agg", "median(x)"], "approx_percentile(x, 0.5) is the median"),
    ] {
        let run = window(&flags).ends_with(78);
        assert!(run.stderr().contains(said), "{run}");
    }
    window(&["--agg", "sum(\"Bounce rate\")"]).succeeds();
}
