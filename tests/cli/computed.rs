//! `--let`: fields that expressions compute.

use crate::harness::Dir;
use serde_json::{Value, json};

const RECORDS: &str = r#"{"t":"2024-01-15T10:00:00Z","bytes":1200,"seconds":60,"user":"Ann","tags":{"a":[1.50]}}
{"t":"2024-01-15T10:00:01Z","bytes":30,"seconds":0,"user":null}
{"t":"2024-01-15T10:00:02Z","bytes":"n/a","seconds":1,"user":"Bob"}
{"t":"2024-01-15T10:00:03Z","seconds":2,"user":"Bob","rate":9,"name":"x"}
"#;

fn dir(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.write("in.jsonl", RECORDS);
    dir
}

#[test]
fn a_computed_property_is_read_by_later_ones_by_where_and_by_the_next_stage() {
    let dir = dir("let");
    let line = "evt-ingest in.jsonl --time t --dlq dead.jsonl --let 'rate=bytes / seconds' --let \"name=lower(user)\" \
                --let 'big=rate > 10' --let 'copy=tags.a' --let 'at=event_time' --where 'big is null or big' -o jsonl";
    let rows = dir.shell(line).succeeds().rows();
    let properties: Vec<&Value> = rows.iter().map(|row| &row["properties"]).collect();
    assert_eq!(properties.len(), 2, "{rows:?}");
    assert_eq!(
        (&properties[0]["rate"], &properties[0]["name"], &properties[0]["big"]),
        (&json!(20), &json!("ann"), &json!(true))
    );
    assert_eq!((&properties[0]["copy"], &properties[0]["at"]), (&json!([1.5]), &json!("2024-01-15T10:00:00.000000Z")));
    // NULL removes what the record had.
    assert_eq!((properties[1].get("rate"), properties[1].get("name")), (None, Some(&json!("bob"))));
    let letters: Vec<_> =
        dir.rows("dead.jsonl").iter().map(|row| (row["offset"].clone(), row["error_message"].clone())).collect();
    assert_eq!(
        letters,
        [
            (json!(2), json!("--let rate: expected a number that JSON can hold, found inf")),
            (
                json!(3),
                json!("--let rate: bytes: expected a number, found \"n/a\"; try_cast(bytes as double) is NULL then")
            ),
        ]
    );
    let counted = dir.shell(
        "evt-ingest in.jsonl --time t --let 'who=upper(user)' -q | evt-window --size 1d --by who -q -o csv | cut -d, -f4-8",
    );
    let mut counted: Vec<String> = counted.succeeds().text().lines().skip(1).map(str::to_owned).collect();
    counted.sort();
    assert_eq!(counted.len(), 3, "{counted:?}");
    assert!(counted.iter().any(|line| line.contains("BOB") && line.contains(",2,")), "{counted:?}");
}

#[test]
fn a_computed_column_is_shown_and_selected_for_rows_of_any_kind() {
    let dir = dir("let-view");
    let view = |flags: &str| dir.shell(&format!("evt-view in.jsonl --time t -q -o csv {flags}"));
    let shown =
        view("--let 'double=seconds * 2' --let 'more=double + 1' --columns user,double,more --where 'more > 2'")
            .succeeds();
    assert_eq!(shown.text(), "user,double,more\nAnn,120,121\nBob,2,3\nBob,4,5\n");
    let all = dir
        .shell("evt-view in.jsonl --time t -q -o jsonl --let \"day=date_trunc('day', event_time)\" --head 1")
        .succeeds();
    assert_eq!(all.rows()[0]["day"], "2024-01-15T00:00:00.000000Z");
    assert_eq!(all.rows()[0]["properties"]["user"], "Ann");
    let wrong = view("--let 'rate=bytes / seconds' --columns rate").ends_with(1);
    assert_eq!(wrong.text(), "rate\n20\nInfinity\n\"\"\n");
    assert!(wrong.stderr().contains("--let rate: bytes: expected a number, found \"n/a\""), "{wrong}");
    let metrics = dir.shell(
        "evt-ingest in.jsonl --time t -q | evt-window --size 1d -q | evt-view -q -o csv --let 'twice=value * 2' --columns metric_name,twice",
    );
    assert_eq!(metrics.succeeds().text(), "metric_name,twice\ncount(*),8\n");
}

#[test]
fn the_stream_time_is_not_known_before_the_fields_of_evt_ingest() {
    let dir = dir("let-stream-time");
    for flag in ["--let 'a=stream_time'", "--where 'event_time >= stream_time'"] {
        let run = dir.shell(&format!("evt-ingest in.jsonl --time t {flag} --to null:")).ends_with(78);
        assert!(run.stderr().contains("stream_time is not known before --let and --where"), "{run}");
    }
    let shown = dir.shell("evt-ingest in.jsonl --time t -q | evt-view -q -o csv --let 'a=stream_time' --columns a");
    let shown = shown.succeeds().text();
    assert!(shown.starts_with("a\n2024-01-15T10:00:00.000000Z\n"), "{shown}");
}

#[test]
fn a_computed_field_needs_a_new_name_and_an_expression() {
    let dir = dir("let-usage");
    for (flags, status, message) in [
        ("--let 'bytes / 60'", 2, "expected NAME=EXPR"),
        ("--let 'offset=1'", 2, "--let offset: expected a new name, found the name of a column"),
        ("--let 'raw=1'", 2, "found the name of a column"),
        ("--let 'a=1' --let 'a=2'", 2, "--let a: expected"),
        ("--let 'a=bytes +'", 78, "bytes +"),
        ("--let 'a=properties'", 2, "--let a: expected a property, found all properties"),
    ] {
        for tool in ["evt-ingest", "evt-view"] {
            let run = dir.shell(&format!("{tool} in.jsonl --time t {flags} --to null:")).ends_with(status);
            assert!(run.stderr().contains(message), "{run}");
        }
    }
}

#[test]
fn a_misspelled_name_is_a_warning() {
    let dir = dir("let-null");
    for tool in ["evt-ingest", "evt-view"] {
        let run = dir.shell(&format!("{tool} in.jsonl --time t --let 'a=byts * 2' --to null:")).succeeds();
        assert!(run.stderr().contains("byts"), "{run}");
    }
}

/// The rows of these inputs have stamps, so nothing maps them; the rules apply to them as to raw records.
#[test]
fn evt_ingest_computes_and_filters_rows_that_have_stamps() {
    let dir = dir("let-stamped");
    let outputs = ["s.arrows", "s.arrow", "s.parquet", "sqlite:s.db", "parquet:lake"];
    for output in outputs {
        dir.run("evt-ingest", &["-q", "in.jsonl", "--time", "t", "--to", output]).succeeds();
        let input = if output == "sqlite:s.db" { "sqlite:s.db?table=raw_events" } else { output };
        let args = [input, "--let", "more=bytes + 1", "--where", "more > 31", "-o", "jsonl", "--dlq", "dead.jsonl"];
        let run = dir.run("evt-ingest", &args).succeeds();
        let shown: Vec<_> = run.rows().iter().map(|row| row["properties"]["more"].clone()).collect();
        assert_eq!(shown, [json!(1201)], "{output}: {run}");
        assert!(run.stderr().contains("in 4 out 1 dead 1 filtered 2"), "{output}: {run}");
        let letters: Vec<_> = dir.rows("dead.jsonl").iter().map(|row| row["error_message"].clone()).collect();
        let told = "--let more: bytes: expected a number, found \"n/a\"; try_cast(bytes as double) is NULL then";
        assert_eq!(letters, [json!(told)], "{output}");
        std::fs::remove_file(dir.path("dead.jsonl")).expect("it is there");
    }
    let metrics = "evt-window -q s.arrows --size 1m --late null: | evt-ingest --where 'bytes > 1'";
    let run = dir.shell(metrics).ends_with(2);
    assert!(run.stderr().contains("expected events, found rows of kind metric"), "{run}");
}

/// Else windows are silently by the other time.
#[test]
fn a_mapping_flag_that_meets_stamped_rows_is_a_warning_also_when_quiet() {
    let dir = dir("flags-stamped");
    dir.run("evt-ingest", &["-q", "in.jsonl", "--time", "t", "--to", "s.arrows", "--to", "s.jsonl"]).succeeds();
    let warning = "no effect on rows that evt has stamped";
    let args = ["-q", "s.arrows", "--time", "nonsense", "--size", "1d", "--late", "null:"];
    let run = dir.run("evt-window", &args).succeeds();
    assert!(run.stderr().contains(&format!("s.arrows: --time has {warning}; use it where")), "{run}");
    let run = dir.run("evt-view", &["-q", "s.arrows", "--set", "source=x", "--require", "y"]).succeeds();
    assert!(run.stderr().contains(&format!("s.arrows: --set and --require have {warning}; use them")), "{run}");
    let run = dir.run("evt-window", &["-q", "s.jsonl", "--time", "nonsense", "--size", "1d", "--late", "null:"]);
    assert_eq!(run.succeeds().stderr().matches(warning).count(), 1);
    // Raw records obey the flags, and evt-ingest makes raw records of text.
    for input in ["in.jsonl", "s.jsonl"] {
        let field = if input == "in.jsonl" { "t" } else { "event_time" };
        let run = dir.run("evt-ingest", &["-q", input, "--time", field, "--set", "source=x", "--to", "null:"]);
        assert_eq!(run.succeeds().stderr(), "");
    }
}

/// The clock of the run would decide which rows are shown.
#[test]
fn a_range_of_time_over_records_without_a_time_ends_with_the_flag_that_reads_it() {
    let dir = Dir::new("range-untimed");
    dir.write("in.jsonl", "{\"at\":1795305601.5,\"k\":1}\n{\"at\":1795309201.5,\"k\":2}\n");
    for range in [["--last", "1h"], ["--until", "2026-11-22T00:30"], ["--since", "2026-11-22T00:30"]] {
        let args = [&["-q", "in.jsonl", "--columns", "k"], &range[..]].concat();
        let run = dir.run("evt-view", &args).ends_with(2);
        assert!(run.stderr().contains("use --time at"), "{run}");
    }
    let args = ["in.jsonl", "--time", "at", "--until", "2026-11-22T00:30", "--columns", "k"];
    assert_eq!(dir.run("evt-view", &args).succeeds().text(), "{\"k\":1}\n");
    assert_eq!(dir.run("evt-view", &["-q", "in.jsonl", "--columns", "k"]).succeeds().text().lines().count(), 2);
}

#[test]
fn a_cast_of_a_computed_text_loses_no_value_silently() {
    let dir = Dir::new("let-cast");
    dir.write("b.csv", "betrag,d\n-100.00,2026-01-01\n+1'500.00,2026-01-02\n007,2026-01-03\nn/a,2026-01-04\n");
    let window = |call: &str| {
        let agg = format!("s=sum({call}(replace(betrag, '''', '') as double))");
        dir.run(
            "evt-window",
            &["b.csv", "--time", "d", "--size", "1mo", "--agg", &agg, "--wide", "--dlq", "dead.jsonl"],
        )
    };
    let run = window("cast").succeeds();
    assert!(run.text().trim_end().ends_with(",1407"), "{run}");
    let letters = dir.rows("dead.jsonl");
    assert_eq!((letters.len(), &letters[0]["error_message"]), (1, &json!("s: cast: expected a number, found 'n/a'")));
    assert!(window("try_cast").succeeds().text().trim_end().ends_with(",1407"));
    assert_eq!(dir.rows("dead.jsonl").len(), 1, "try_cast makes no letter");
    // --let and --where too.
    let cast = "cast(replace(betrag, '''', '') as double)";
    for flags in [["--let", &format!("n={cast}")], ["--where", &format!("{cast} > -1000")]] {
        let run = dir.run("evt-ingest", &[&["b.csv", "--time", "d", "-q", "-o", "jsonl"][..], &flags].concat());
        let run = run.ends_with(1);
        assert!(run.rows().len() == 3 && run.stderr().contains("expected a number, found 'n/a'"), "{run}");
    }
}

#[test]
fn a_number_with_separators_names_the_cast_that_reads_it() {
    let dir = Dir::new("let-separators");
    dir.write("b.csv", "d,Betrag (€)\n2026-01-01,\"1.188,61\"\n");
    let sum = |expr: &str| {
        let agg = format!("s=sum({expr})");
        dir.run("evt-window", &["b.csv", "--time", "d", "--size", "all", "--agg", &agg, "--wide"])
    };
    let run = sum("\"Betrag (€)\"").ends_with(1);
    let said = run.stderr();
    let (_, cast) = said.split_once("; cast(").unwrap_or_else(|| panic!("no cast: {run}"));
    let (cast, _) = cast.split_once(" reads it").unwrap_or_else(|| panic!("no cast: {run}"));
    assert!(sum(&format!("cast({cast}")).succeeds().text().trim_end().ends_with(",1188.61"), "{cast}");
}

#[test]
fn an_infinite_number_is_the_same_word_as_a_text_a_dimension_and_a_value() {
    let dir = dir("let-infinity");
    let line = "evt-view in.jsonl --time t -q --head 1 -o jsonl --let 'x=cast(1 / 0 as text)' \
                --let 'y=cast(-1 / 0 as text)' --columns x,y";
    assert_eq!(dir.shell(line).succeeds().rows(), [json!({"x": "Infinity", "y": "-Infinity"})]);
    let line = "evt-window in.jsonl --time t -q --size 1d --where 'seconds = 0' --by 'share=seconds + 1 / 0' \
                --agg 'v=max(1 / 0)' -o jsonl";
    let rows = dir.shell(line).succeeds().rows();
    assert_eq!((&rows[0]["dimensions"], &rows[0]["value"]), (&json!({"share": "Infinity"}), &json!("Infinity")));
}
