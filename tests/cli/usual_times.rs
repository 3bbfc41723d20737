//! Times that are read without a flag: usual names, units, dates beside times of day; expressions; doubled local times.

use crate::harness::Dir;

/// Writes a file of these lines, and returns the event times that evt-view shows with flags.
fn times(dir: &Dir, name: &str, lines: &[&str], flags: &str) -> Vec<String> {
    dir.write(name, lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    let run = dir.shell(&format!("evt-view {name} -q -o csv --columns event_time {flags}")).succeeds();
    run.text().lines().skip(1).map(str::to_owned).collect()
}

const MIDNIGHT: &str = "2026-03-01T00:00:00.000000Z";

#[test]
fn a_number_has_the_unit_in_which_it_is_from_1980_to_2100() {
    let dir = Dir::new("times-units");
    let lines = [
        r#"{"ts":1772323200}"#,
        r#"{"ts":1772323200000}"#,
        r#"{"ts":"1772323200000000"}"#,
        r#"{"ts":1772323200000000000}"#,
        r#"{"ts":1772323200.0}"#,
    ];
    for flags in ["--time ts", "--time ts --time-unit auto", ""] {
        assert_eq!(times(&dir, "mixed.jsonl", &lines, flags), [MIDNIGHT; 5], "{flags}");
    }
    // The mixed file of the first hour: three records of one minute.
    let run = dir.shell("evt-window mixed.jsonl --time ts --size 1m -q -o csv").succeeds();
    assert!(run.text().lines().count() == 2 && run.text().contains(",5,"), "{run}");
    // What is in no unit is a dead letter that names the flag which reads it.
    dir.write("odd.jsonl", "{\"ts\":1772323200}\n{\"ts\":5}\n{\"ts\":20260301000000}\n{\"ts\":-1772323200}\n");
    dir.shell("evt-ingest odd.jsonl --time ts -q --dlq dead.jsonl --to null:").succeeds();
    let letters = dir.rows("dead.jsonl");
    let message = |at: usize| letters[at]["error_message"].as_str().expect("text").to_owned();
    assert_eq!(letters.len(), 3);
    assert!(
        message(0).contains(
            "in no unit it is from 1980 to 2100; --time-unit s|ms|us|ns|d with --min-time 1970-01-01 reads any number"
        ),
        "{}",
        message(0)
    );
    assert!(message(1).contains("--time-format '%Y%m%d%H%M%S' reads it"), "{}", message(1));
    assert_eq!(
        times(&dir, "old.jsonl", &[r#"{"ts":0}"#], "--time ts --time-unit s --min-time 1970-01-01"),
        ["1970-01-01T00:00:00.000000Z"]
    );
    assert_eq!(times(&dir, "day.jsonl", &[r#"{"ts":20260301}"#], "--time ts --time-format %Y%m%d"), [MIDNIGHT]);
    dir.shell("evt-view odd.jsonl --time ts --time-unit minutes").ends_with(2);
}

#[test]
fn a_usual_name_is_the_time_of_a_file_and_one_line_says_so() {
    let dir = Dir::new("times-names");
    for (at, line) in [
        r#"{"timestamp":"2026-03-01T00:00:00Z","v":1}"#,
        r#"{"v":1,"ts":1772323200,"date":"2026-02-28"}"#,
        r#"{"time":"later","@timestamp":"2026-03-01T00:00:00Z","v":1}"#,
        r#"{"Date":"2026-03-01","v":1}"#,
        r#"{"eventTime":"2026-03-01T00:00:00Z","v":1}"#,
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{at}.jsonl");
        assert_eq!(times(&dir, &name, &[line], ""), [MIDNIGHT], "{line}");
        let run = dir.shell(&format!("evt-window {name} --size 1h -o csv")).succeeds();
        let said = run.stderr();
        assert_eq!(said.lines().filter(|line| line.contains("the event time is the field ")).count(), 1, "{said}");
        assert!(
            !dir.shell(&format!("evt-window {name} --size 1h -o csv -q")).succeeds().stderr().contains("event time")
        );
    }
    // A time of its own comes first; the other is a property.
    let own = r#"{"ts":1772323200,"server_timestamp":"2026-03-02T00:00:00Z"}"#;
    assert_eq!(times(&dir, "own.jsonl", &[own], ""), ["2026-03-02T00:00:00.000000Z"]);
    let mapped = r#"{"ts":1772323200,"at":"2026-03-02T00:00:00Z"}"#;
    for flag in ["--field server_timestamp=at", "--set server_timestamp=2026-03-02T00:00:00Z"] {
        assert_eq!(times(&dir, "mapped.jsonl", &[mapped], flag), ["2026-03-02T00:00:00.000000Z"], "{flag}");
    }
    // So it does in later records, and a tool that needs no time takes none that has to be joined.
    let later = [
        r#"{"ts":1772323200}"#,
        r#"{"event_time":"2026-03-02T00:00:00Z"}"#,
        r#"{"server_timestamp":"2026-03-03T00:00:00Z"}"#,
    ];
    let found = times(&dir, "later.jsonl", &later, "");
    assert_eq!(found, [MIDNIGHT, "2026-03-02T00:00:00.000000Z", "2026-03-03T00:00:00.000000Z"]);
    dir.write("q.csv", "date,open,price\n2026-03-01,09:30,5\n");
    assert!(dir.shell("evt-view q.csv -q -o csv").succeeds().text().contains("09:30"));
    // The first record decides for all of the run.
    dir.write("two.jsonl", "{\"ts\":1772323200}\n{\"time\":\"2026-03-01T00:00:00Z\"}\n");
    let run = dir.shell("evt-ingest two.jsonl -q --dlq dead.jsonl -o jsonl").succeeds();
    assert_eq!((run.rows().len(), dir.rows("dead.jsonl").len()), (1, 1));
}

#[test]
fn a_usual_name_is_taken_by_every_tool_and_for_late_rows_too() {
    let dir = Dir::new("times-tools");
    dir.write("e.csv", "ts,v\n1772326800,1\n1772323200,2\n1772326801,3\n");
    dir.shell("evt-window e.csv --size 1m -q --out-of-orderness 0s --late late.jsonl -o csv").succeeds();
    let late = dir.rows("late.jsonl");
    assert_eq!((late.len(), &late[0]["event_time"], &late[0]["properties"]["v"]), (1, &MIDNIGHT.into(), &"2".into()));
    dir.shell("evt-ingest e.csv -q --to sqlite:e.db").succeeds();
    dir.shell("evt-reconcile e.csv 'sqlite:e.db?table=raw_events'").succeeds();
    dir.write("m.toml", "[[metric]]\nname = 'n'\nsize = '1h'\n");
    dir.shell("evt-window e.csv -q -m m.toml --to sqlite:m.db").succeeds();
    let same = dir.shell("evt-backfill e.csv -m m.toml --to sqlite:m.db --out-of-orderness all").succeeds();
    assert!(same.stderr().contains("0 corrected, 0 inserted, 0 retracted"), "{same}");
    assert_eq!(dir.shell("evt-validate e.csv -q -o jsonl").succeeds().rows()[1]["event_time"], MIDNIGHT);
}

#[test]
fn a_run_that_continues_and_a_pipe_need_the_flag_and_are_told_the_name() {
    let dir = Dir::new("times-continued");
    dir.write("e.jsonl", "{\"ts\":1772323200}\n{\"ts\":1772323201}\n");
    for line in [
        "evt-ingest e.jsonl -q --checkpoint state --to rows.jsonl",
        "cat e.jsonl | evt-window -q --size 1h",
        "evt-window <(cat e.jsonl) -q --size 1h",
    ] {
        let run = dir.shell(line).ends_with(2);
        assert!(run.stderr().contains("use --time ts"), "{line}: {run}");
    }
}

#[test]
fn a_date_beside_a_time_of_day_is_refused_with_the_flags_that_join_them() {
    let dir = Dir::new("times-split");
    dir.write("dz.csv", "Datum,Zeit,v\n2026-03-01,10:00:00,1\n2026-03-01,11:30:00,2\n");
    dir.write("de.csv", "Datum;Zeit;v\n01.03.2026;10:00;1\n01.03.2026;11:30;2\n");
    dir.write("date.csv", "date,time,v\n2026-03-01,10:00:00,1\n2026-03-01,11:30:00,2\n");
    for (line, flags) in [
        ("evt-window dz.csv --time Datum,Zeit", r#"--time "=Datum || ' ' || Zeit""#),
        ("evt-window dz.csv --time Datum", r#"--time "=Datum || ' ' || Zeit""#),
        ("evt-window date.csv", r#"--time "=date || ' ' || time""#),
        ("evt-window de.csv", r#"--time "=Datum || ' ' || Zeit" --time-format '%d.%m.%Y %H:%M'"#),
        ("evt-window de.csv --time Datum", "--time-format '%d.%m.%Y'"),
    ] {
        let run = dir.shell(&format!("{line} --size 1h -q -o csv")).ends_with(2);
        assert!(run.stderr().contains(flags), "{line}: {run}");
        if !flags.starts_with("--time ") {
            continue;
        }
        let file = line.split(' ').nth(1).expect("a file");
        let run = dir.shell(&format!("evt-window {file} {flags} --size 1h --agg 'sum(v)' -q -o csv")).succeeds();
        let rows: Vec<String> = run.text().lines().skip(1).map(str::to_owned).collect();
        assert!(rows.len() == 2 && rows[0].contains("2026-03-01T10:00:00") && rows[1].contains("T11:00:00"), "{run}");
    }
    for midnight in ["--time '=Datum'", "--time Datum --time-format %Y-%m-%d"] {
        let run = dir.shell(&format!("evt-window dz.csv {midnight} --size 1h -q -o csv")).succeeds();
        assert_eq!(run.text().lines().count(), 2, "{midnight}: {run}");
    }
}

#[test]
fn an_expression_gives_the_time_of_each_record() {
    let dir = Dir::new("times-expr");
    let lines = [r#"{"a":{"day":"2026-03-01"},"hour":"00:00","n":1,"s":1772323200}"#];
    for expr in ["a.day || ' ' || hour", "s", "s * 1000", "case when n = 1 then s else s / 1000 end"] {
        assert_eq!(times(&dir, "e.jsonl", &lines, &format!("--time \"={expr}\"")), [MIDNIGHT], "{expr}");
    }
    let zone = times(&dir, "e.jsonl", &lines, "--time \"=a.day || ' ' || hour\" --time-zone Europe/Zurich");
    assert_eq!(zone, ["2026-02-28T23:00:00.000000Z"]);
    // A value that fails, or is NULL, is a dead letter.
    dir.write("f.jsonl", "{\"s\":1772323200,\"n\":1}\n{\"s\":\"x\",\"n\":2}\n{\"n\":3}\n");
    dir.shell("evt-ingest f.jsonl --time '=s + 0' -q --dlq dead.jsonl --to ok.jsonl").succeeds();
    let letters = dir.rows("dead.jsonl");
    assert_eq!((dir.rows("ok.jsonl").len(), letters.len()), (1, 2));
    assert!(letters.iter().all(|letter| letter["error_type"] == "TimestampError"), "{letters:?}");
    assert!(
        letters[0]["error_message"].as_str().is_some_and(|text| text.contains("s: expected a number, found \"x\""))
    );
    for wrong in ["=", "=a ||", "=n > 1"] {
        let run = dir.shell(&format!("evt-view e.jsonl --time '{wrong}'")).ends_with(2).stays_calm();
        assert!(run.stderr().contains("--time ="), "{run}");
    }
    // A late row is mapped again, by the same expression.
    dir.write("late.csv", "day,hour\n2026-03-01,01:00\n2026-03-01,00:00\n");
    let late =
        "evt-window late.csv --time \"=day || ' ' || hour\" --out-of-orderness 0s --size 1m -q --late l.jsonl -o csv";
    dir.shell(late).succeeds();
    assert_eq!(dir.rows("l.jsonl")[0]["event_time"], MIDNIGHT);
}

#[test]
fn the_only_record_of_an_input_is_a_dead_letter_where_letters_are_written() {
    let dir = Dir::new("times-alone");
    dir.write("one.jsonl", "{\"t\":\"never\"}\n");
    dir.write("garbage.jsonl", "garbage\n");
    dir.write("two.jsonl", "{\"t\":\"never\"}\n{\"t\":\"ever\"}\n");
    for file in ["one.jsonl", "garbage.jsonl"] {
        dir.write("dead.jsonl", "");
        dir.shell(&format!("evt-window {file} --time t --size 1h -q -o csv --dlq dead.jsonl")).succeeds();
        assert_eq!(dir.rows("dead.jsonl").len(), 1, "{file}");
        dir.write("dead.jsonl", "");
        let rules =
            "[[rule]]\nname = \"r\"\naggregate = \"count(*)\"\ncondition = \">\"\nthreshold = 5\nwindow_seconds = 60\n";
        dir.write("rules.toml", rules);
        dir.shell(&format!("evt-alert --once -q --rules rules.toml {file} --time t --dlq dead.jsonl")).ends_with(0);
        assert_eq!(dir.rows("dead.jsonl").len(), 1, "evt-alert {file}");
    }
    assert!(
        dir.shell("evt-window one.jsonl --time t --size 1h -q -o csv")
            .ends_with(2)
            .stderr()
            .contains("the only record")
    );
    let several = dir.shell("evt-window two.jsonl --time t --size 1h -q -o csv --dlq none.jsonl").ends_with(2);
    assert!(several.stderr().contains("none of the 2 records has a readable time"), "{several}");
    assert!(!dir.path("none.jsonl").exists());
}

#[test]
fn a_letter_of_a_file_whose_time_has_a_usual_name_is_replayed_with_the_flag_of_the_message() {
    let dir = Dir::new("times-replay");
    dir.write("e.jsonl", "{\"ts\":1772323200}\n{\"ts\":\"never\"}\n");
    dir.shell("evt-ingest e.jsonl -q --to ok.jsonl --dlq dead.jsonl").succeeds();
    assert_eq!(dir.rows("dead.jsonl").len(), 1, "the record without a time");
    let replay = "evt-replay dead.jsonl --patch 'set ts = 1772323201' --ledger sqlite:l.db --to again.jsonl";
    let faulty = dir.shell(replay).ends_with(1);
    let why = "server_timestamp: missing or null, and no flag names another field; --time ts reads the field ts";
    assert!(faulty.stderr().contains(why), "{faulty}");
    dir.shell("rm l.db*").succeeds();
    dir.shell(&format!("{replay} --time ts")).succeeds();
    assert_eq!(dir.rows("again.jsonl")[0]["event_time"], "2026-03-01T00:00:01.000000Z");
}

/// A format reads numbers as text, so seconds with a fraction are not in `%s`.
#[test]
fn a_number_that_a_format_does_not_read_names_the_format() {
    let dir = Dir::new("format-number");
    dir.write("in.jsonl", "{\"t\":1700000000.5}\n{\"t\":1700000001}\n");
    let run = dir.shell("evt-ingest in.jsonl --time t --time-format %s -q -o jsonl").ends_with(1);
    let message = "t: expected a time in the format '%s', found 1700000000.5; it is read without --time-format";
    assert!(run.stderr().contains(message), "{run}");
    let run = dir.shell("evt-ingest in.jsonl --time t -q -o jsonl").succeeds();
    let times: Vec<_> = run.rows().iter().map(|row| row["event_time"].to_string()).collect();
    assert_eq!(times, ["\"2023-11-14T22:13:20.500000Z\"", "\"2023-11-14T22:13:21.000000Z\""]);
}

#[test]
fn local_times_that_clocks_show_twice_are_counted_where_the_offset_is_that_of_any_other_zone() {
    let dir = Dir::new("doubled");
    for (zone, text) in [
        ("Pacific/Apia", "2012-04-01T03:30"),
        ("Pacific/Tongatapu", "2017-01-15T02:30"),
        ("America/Adak", "1980-10-26T01:30"),
        ("Pacific/Kiritimati", "2024-10-27T02:30"),
        ("Europe/Berlin", "2024-10-27T02:30"),
    ] {
        dir.write("a.csv", format!("t\n{text}\n{text}Z\n"));
        let run = dir.shell(&format!("evt-view a.csv --time t --min-time 1970-01-01 --time-zone {zone}")).succeeds();
        let is_doubled = zone != "Pacific/Kiritimati";
        assert_eq!(run.stderr().contains("occurs twice"), is_doubled, "{zone}: {run}");
    }
}
