//! Times as standards and people write them, valid and invalid, through evt-ingest.

use crate::broker::Bench;
use crate::harness::{Dir, Run, cases, data};
use crate::listener::Listener;
use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use serde_json::{Value, json};
use std::sync::Arc;

/// The event times of texts, in µs text form; `None` if evt rejected a text with a TimestampError.
fn times(texts: &[&str]) -> Vec<Option<String>> {
    let dir = Dir::new("time");
    let line = |at: &&str| json!({"event_type": "t", "at": at, "server_timestamp": "2024-01-15T10:00:00Z"}).to_string();
    // The first line is valid, because a first record without a time ends the run.
    let lines: String = std::iter::once(&"2024-01-15T10:00:00Z").chain(texts).map(|at| line(at) + "\n").collect();
    dir.write("in.jsonl", lines);
    let args = ["in.jsonl", "--time", "at", "-q", "-o", "jsonl", "--dlq", "dead.jsonl"];
    let run = dir.run("evt-ingest", &args).succeeds().stays_calm();
    let mut times = vec![None; texts.len()];
    for row in run.rows().iter().skip(1) {
        times[row["offset"].as_u64().expect("a line") as usize - 2] = row["event_time"].as_str().map(str::to_owned);
    }
    for letter in dir.rows("dead.jsonl") {
        assert_eq!(letter["error_type"], "TimestampError", "{letter}");
    }
    times
}

#[test]
fn every_text_of_the_standard_is_the_instant_it_says_or_a_dead_letter() {
    let cases = cases("time/rfc3339.jsonl");
    if cases.is_empty() {
        return;
    }
    let texts: Vec<&str> = cases.iter().map(|case| case["s"].as_str().expect("a text")).collect();
    let mut failed = vec![];
    for (case, time) in cases.iter().zip(times(&texts)) {
        let everyday = everyday(case["s"].as_str().expect("a text"));
        let right = match (&time, case["valid"] == true) {
            (None, valid) => !valid && everyday.is_none(),
            (Some(time), false) => Some(micros(time)) == everyday,
            (Some(time), true) if case["leap_second"] == true => time.ends_with(":59.999999Z"),
            (Some(time), true) => Some(micros(time).div_euclid(1000)) == case["epoch_ms"].as_i64(),
        };
        if !right {
            failed.push(format!("{case}: {time:?}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Texts on which the suite and evt differ: the suite requires a leap second at 23:59 UTC, evt reads every `:60`.
fn differs(text: &str) -> bool {
    text.contains(":60")
}

#[test]
fn the_json_schema_suite_agrees_but_for_leap_seconds() {
    let Some(path) = data("time/json-schema-date-time.json") else { return };
    let suite: Value = serde_json::from_slice(&std::fs::read(path).expect("the data is complete")).expect("JSON");
    let tests = suite[0]["tests"].as_array().expect("tests");
    let tests: Vec<(&str, bool)> = tests
        .iter()
        .filter_map(|test| Some((test["data"].as_str()?, test["valid"] == true)))
        .filter(|(text, _)| !differs(text))
        .collect();
    let texts: Vec<&str> = tests.iter().map(|(text, _)| *text).collect();
    let is_valid = |text, valid| valid || everyday(text).is_some();
    let wrong: Vec<_> = tests
        .iter()
        .zip(times(&texts))
        .filter(|((text, valid), time)| time.is_some() != is_valid(text, *valid))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The instant (µs) of a text of ISO 8601 that RFC 3339 does not allow: with a blank, a comma, a short offset, or
/// without seconds, offset or time of day.
fn everyday(text: &str) -> Option<i64> {
    let form = r"^(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(:\d\d)?([.,]\d+)?(?: ?(Z|z|UTC|[+-]\d\d):?(\d\d)?)?)?$";
    let parts = regex::Regex::new(form).expect("a form").captures(text)?;
    let part =
        |at: usize, default: &'static str| parts.get(at).map_or(default.to_owned(), |part| part.as_str().to_owned());
    let offset = match part(5, "Z").as_str() {
        "Z" | "z" | "UTC" if parts.get(6).is_some() => return None,
        "Z" | "z" | "UTC" => "+00:00".to_owned(),
        hours => format!("{hours}:{}", part(6, "00")),
    };
    if parts.get(3).is_none() && parts.get(4).is_some() {
        return None;
    }
    let text =
        format!("{}T{}{}{}{offset}", part(1, ""), part(2, "00:00"), part(3, ":00"), part(4, "").replace(',', "."));
    let instant = chrono::DateTime::parse_from_rfc3339(&text).ok()?.timestamp_micros();
    (-62_135_596_800_000_000..253_402_300_800_000_000).contains(&instant).then_some(instant)
}

fn micros(text: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(text).expect("an instant").timestamp_micros()
}

/// Texts of RFC 3339 outside of the years 1 to 9999 in UTC.
const BEYOND: [&str; 3] = ["0001-01-01T00:00:00+01:00", "0000-06-01T00:00:00Z", "9999-12-31T23:59:59-00:01"];
/// The same as numbers, for containers.
const BEYOND_MICROS: [i64; 3] = [-62_135_596_800_000_001, -62_150_000_000_000_000, 253_402_300_800_000_000];
const GOOD_MICROS: i64 = 1_705_312_800_000_000;

/// `input` gives three letters of one type with one stage or two; evt reads its output again.
#[track_caller]
fn three_are_dead(dir: &Dir, input: &str) {
    let one = dir.run("evt-window", &[&input.split(' ').collect::<Vec<_>>()[..], &ONE_STAGE].concat());
    let one = one.succeeds();
    assert_letters(dir, &one);
    std::fs::remove_file(dir.path("dead.jsonl")).expect("it was written");
    let line = format!(
        "evt-ingest {input} -q --dlq dead.jsonl --to in.parquet --to in.avro --to in.csv --to - \
         | evt-validate -q | evt-window {WINDOW}"
    );
    let pipe = dir.shell(&line).succeeds();
    assert_letters(dir, &pipe);
    std::fs::remove_file(dir.path("dead.jsonl")).expect("it was written");
    assert_eq!(pipe.text(), one.text(), "{pipe}");
    for file in ["in.parquet", "in.avro", "in.csv"] {
        let again = dir.shell(&format!("evt-window {file} {WINDOW}")).succeeds();
        assert_eq!(again.text(), one.text(), "{file}: {again}");
        std::fs::remove_file(dir.path(file)).expect("it was written");
    }
}

const WINDOW: &str = "--size 1m -o jsonl -q";
const ONE_STAGE: [&str; 7] = ["--size", "1m", "-o", "jsonl", "-q", "--dlq", "dead.jsonl"];

#[track_caller]
fn assert_letters(dir: &Dir, run: &Run) {
    let letters = dir.rows("dead.jsonl");
    let beyond = |letter: &&Value| {
        letter["error_type"] == "TimestampError"
            && letter["error_message"].as_str().is_some_and(|why| why.contains("outside the years 1 to 9999"))
    };
    assert_eq!((letters.len(), letters.iter().filter(beyond).count()), (3, 3), "{letters:?}\n{run}");
    assert_eq!(run.rows().len(), 1, "{run}");
}

#[test]
fn an_instant_that_its_offset_or_zone_moves_out_of_the_calendar_is_a_dead_letter_and_stops_no_stage() {
    let dir = Dir::new("beyond");
    let good = "2024-01-15T10:00:00Z";
    let instants: Vec<&str> = [good].into_iter().chain(BEYOND).collect();
    let lines = |instants: &[&str]| -> String {
        instants.iter().map(|at| json!({"server_timestamp": good, "at": at}).to_string() + "\n").collect()
    };
    dir.write("in.jsonl", lines(&instants));
    dir.write(
        "in.tsv",
        instants.iter().fold("server_timestamp\tat\n".to_owned(), |all, at| all + good + "\t" + at + "\n"),
    );
    for input in ["in.jsonl", "in.tsv"] {
        three_are_dead(&dir, &format!("{input} --time at"));
        three_are_dead(&dir, &format!("{input} --field client_timestamp=at"));
    }
    dir.write("in.jsonl", lines(&["2024-01-15_10:00", "9999-12-31_20:00", "9999-12-31_21:00", "9999-12-31_23:00"]));
    three_are_dead(&dir, "in.jsonl --time at --time-format %Y-%m-%d_%H:%M --time-zone America/New_York");
    dir.write("in.jsonl", "{\"at\":0}\n{\"at\":-62135596801}\n{\"at\":253402300800}\n{\"at\":1e30}\n");
    three_are_dead(&dir, "in.jsonl --time at --time-unit s --min-time 1970-01-01");
}

#[test]
fn an_instant_of_a_container_outside_the_calendar_is_a_dead_letter_and_stops_no_stage() {
    let dir = Dir::new("beyond-container");
    let instants: Vec<i64> = [GOOD_MICROS].into_iter().chain(BEYOND_MICROS).collect();
    let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(instants.clone()).with_timezone("UTC"));
    let batch = RecordBatch::try_from_iter([("at", column)]).expect("a batch");
    let mut file = arrow_ipc::writer::FileWriter::try_new(vec![], &batch.schema()).expect("a file");
    file.write(&batch).expect("rows");
    dir.write("a.arrow", file.into_inner().expect("an end"));
    let mut stream = arrow_ipc::writer::StreamWriter::try_new(vec![], &batch.schema()).expect("a stream");
    stream.write(&batch).expect("rows");
    dir.write("a.arrows", stream.into_inner().expect("an end"));
    let mut parquet = parquet::arrow::ArrowWriter::try_new(vec![], batch.schema(), None).expect("a file");
    parquet.write(&batch).expect("rows");
    dir.write("a.parquet", parquet.into_inner().expect("an end"));
    let schema = r#"{"type":"record","name":"r","fields":[{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}}]}"#;
    let schema = apache_avro::Schema::parse_str(schema).expect("a schema");
    let mut avro = apache_avro::Writer::new(&schema, vec![]).expect("a writer");
    for instant in instants {
        let at = apache_avro::types::Value::TimestampMicros(instant);
        avro.append_value(apache_avro::types::Value::Record(vec![("at".to_owned(), at)])).expect("a row");
    }
    dir.write("a.avro", avro.into_inner().expect("an end"));
    for file in ["a.arrow", "a.arrows", "a.parquet", "a.avro"] {
        three_are_dead(&dir, &format!("{file} --time at"));
    }
}

#[test]
fn an_instant_outside_the_calendar_is_rejected_at_the_listener() {
    let dir = Dir::new("beyond-http");
    let listener = Listener::open(&dir, &["--ack", "memory", "--to", "out.jsonl", "--dlq", "dead.jsonl"]);
    let event = |instant: &str| json!({"source": "s", "event_type": "t", "client_timestamp": instant});
    let events: Vec<Value> = ["2024-01-15T10:00:00Z"].iter().chain(&BEYOND).map(|text| event(text)).collect();
    let answer = listener.json(&json!({ "events": events }).to_string()).json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(1), &json!(3)), "{answer}");
    assert!(answer["errors"].as_array().expect("errors").iter().all(|error| error["error_type"] == "TimestampError"));
    listener.stop();
    assert_eq!((dir.rows("out.jsonl").len(), dir.rows("dead.jsonl").len()), (1, 3));
}

#[test]
fn an_instant_outside_the_calendar_is_a_dead_letter_of_a_topic() {
    let Some(bench) = Bench::new("beyond") else { return };
    let topic = bench.topic("t", 1, &[]);
    let event = |instant: &str| json!({"event_type": "t", "server_timestamp": instant}).to_string();
    let events: Vec<String> = ["2024-01-15T10:00:00Z"].iter().chain(&BEYOND).map(|text| event(text)).collect();
    bench.produce(events.iter().map(|value| crate::kafka::record(&topic, 0, value)));
    let from = bench.uri(&topic, "?end=latest");
    let run = bench.dir.run("evt-window", &[&[from.as_str()], &ONE_STAGE[..]].concat()).succeeds();
    assert_letters(&bench.dir, &run);
}

/// Windows at both ends of the calendar, in text, in frames and in SQLite.
#[test]
fn a_window_that_reaches_beyond_the_calendar_is_cut_there_and_stored_like_any_other() {
    let dir = Dir::new("edges-of-time");
    let (first, last) = ("0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z");
    dir.write("in.jsonl", [first, last].map(|at| json!({"server_timestamp": at}).to_string() + "\n").concat());
    for (shape, rows) in [
        ("--size 1m", 2),
        ("--size 1m --slide 20s", 6),
        ("--gap 30s", 2),
        ("--size 1m --align 17s", 2),
        ("--size 1d --align=-146000d", 2),
        ("--size 146000d", 2),
        ("--size 146000d --slide 73000d", 4),
        ("--gap 146000d", 2),
    ] {
        let window = format!("evt-window in.jsonl {shape}");
        let text = dir.shell(&format!("{window} -q -o jsonl > m.jsonl && cat m.jsonl")).succeeds();
        assert_eq!(text.rows().len(), rows, "{shape}: {text}");
        for row in text.rows() {
            let (start, end) = (row["window_start"].as_str().expect("text"), row["window_end"].as_str().expect("text"));
            assert!(first <= start && start <= end && end <= last, "{shape}: {row}");
        }
        assert!(text.rows().iter().any(|row| row["window_end"] == last), "{shape}: {text}");
        let frames = dir.shell(&format!("{window} -q | evt-view -q -o jsonl")).succeeds();
        assert_eq!(frames.text(), text.text(), "{shape}");
        for way in ["evt-sink m.jsonl".to_owned(), format!("{window} -q | evt-sink")] {
            let stored = dir
                .shell(&format!(
                    "{way} --to sqlite:m.db -q && evt-view 'sqlite:m.db?table=aggregated_metrics' -q -o jsonl"
                ))
                .succeeds();
            assert_eq!(stored.rows().len(), rows, "{shape}: {stored}");
            std::fs::remove_file(dir.path("m.db")).expect("it was written");
        }
    }
}

/// A file of one record with `"t":value`.
fn of_one(name: &str, value: &str) -> Dir {
    let dir = Dir::new(name);
    dir.write("in.jsonl", format!("{{\"t\":{value}}}\n"));
    dir
}

#[test]
fn a_time_that_needs_a_flag_is_reported_with_the_flag_that_reads_it() {
    for (value, flags) in [
        (r#""01.07.2011 08:16""#, "--time-format '%d.%m.%Y %H:%M'"),
        (r#""12/31/2010 8:16""#, "--time-format '%m/%d/%Y %H:%M'"),
        (r#""31/12/10 8:16 PM""#, "--time-format '%d/%m/%y %I:%M %p'"),
        (r#""17/May/2015:10:05:03 +0000""#, "--time-format '%d/%b/%Y:%H:%M:%S %z'"),
        (r#""Thu, 01 Jan 2015 00:00:00 GMT""#, "--time-format '%a, %d %b %Y %H:%M:%S GMT'"),
        ("20150517100503", "--time-format '%Y%m%d%H%M%S'"),
        (r#""20150517""#, "--time-format '%Y%m%d'"),
    ] {
        let dir = Dir::new("advice");
        dir.write("in.jsonl", format!("{{\"t\":{value}}}\n").repeat(2));
        let run = dir
            .run("evt-ingest", &["in.jsonl", "--time", "t", "--to", "out.jsonl", "--dlq", "dead.jsonl"])
            .ends_with(2);
        assert!(run.stderr().contains(&format!("; {flags} reads it\n")), "{run}");
        assert!(!dir.path("out.jsonl").exists() && !dir.path("dead.jsonl").exists(), "{run}");
        dir.shell(&format!("evt-ingest in.jsonl --time t {flags} -q --strict --to null:")).succeeds();
        // Without --time, the message names the field, too.
        let run = dir.run("evt-ingest", &["in.jsonl", "--to", "null:"]).ends_with(2);
        assert!(run.stderr().contains(&format!("use --time t {flags}\n")), "{run}");
    }
    let dir = of_one("advice-two", r#""01/02/2010""#);
    let run = dir.run("evt-ingest", &["in.jsonl", "--time", "t", "--to", "null:"]).ends_with(2);
    assert!(run.stderr().contains("; --time-format '%m/%d/%Y' or --time-format '%d/%m/%Y' reads it\n"), "{run}");
    let dir = of_one("advice-none", r#""Nov  1 09:42:05""#);
    let run = dir.run("evt-ingest", &["in.jsonl", "--time", "t", "--to", "null:"]).ends_with(2);
    assert!(
        run.stderr().contains("found \"Nov  1 09:42:05\"; it names no year (-f syslog has --time-year)\n"),
        "{run}"
    );
}

#[test]
fn times_of_every_day_need_no_flag_and_are_in_the_zone() {
    let dir = Dir::new("everyday");
    let texts = [
        ("2026-07-01 08:16:00", "2026-07-01T06:16:00.000000Z"),
        ("2026-07-01T08:16", "2026-07-01T06:16:00.000000Z"),
        ("2026-07-01", "2026-06-30T22:00:00.000000Z"),
        ("2026-07-01 08:16:00,5+0000", "2026-07-01T08:16:00.500000Z"),
        ("2026-07-01 08:16:00 +00", "2026-07-01T08:16:00.000000Z"),
        ("2026-07-01T08:16:00Z", "2026-07-01T08:16:00.000000Z"),
    ];
    dir.write("in.csv", texts.iter().fold("t\n".to_owned(), |all, (text, _)| all + "\"" + text + "\"\n"));
    let run = dir.shell("evt-ingest in.csv --time t --time-zone Europe/Zurich -q -o jsonl").succeeds();
    let found: Vec<_> = run.rows().iter().map(|row| row["event_time"].as_str().expect("text").to_owned()).collect();
    assert_eq!(found, texts.map(|(_, instant)| instant));
    // The columns of the envelope, and expressions: UTC without a flag.
    dir.write("e.jsonl", "{\"server_timestamp\":\"2026-07-01 08:16\",\"at\":\"2026-07-02\"}\n");
    let count = |filter: &str| {
        dir.run("evt-view", &["e.jsonl", "-q", "-o", "jsonl", "--where", filter]).succeeds().rows().len()
    };
    assert_eq!(count("event_time = '2026-07-01 08:16+00'"), 1);
    assert_eq!(count("event_time >= '2026-07-02'"), 0);
    assert_eq!(count("cast(at as timestamp) = timestamp '2026-07-02 00:00'"), 1);
    let run = dir.run("evt-view", &["e.jsonl", "--where", "event_time > 'noon'"]).ends_with(78);
    assert!(run.stderr().contains("expected a time like 2024-01-15T10:00:00Z or 2024-01-15, found 'noon'"), "{run}");
}

#[test]
fn dates_and_relative_times_select_rows() {
    let dir = Dir::new("since");
    let days = ["2026-06-29", "2026-06-30", "2026-07-01 00:00", "2026-07-01 23:59:59.999999", "2026-07-02"];
    dir.write("in.csv", days.iter().fold("t\n".to_owned(), |all, day| all + day + "\n"));
    let count = |flags: &str| {
        let line = format!("evt-view in.csv --time t --now 2026-07-02T10:00:00Z {flags} -q -o jsonl");
        dir.shell(&line).succeeds().rows().len()
    };
    assert_eq!(count("--since 2026-06-30 --until 2026-07-01"), 1);
    assert_eq!(count("--since yesterday --until today"), 2);
    assert_eq!(count("--since yesterday --time-zone Europe/Zurich"), 3);
    assert_eq!(count("--since now-35h"), 3);
    assert_eq!(count("--since '2026-07-01 12:00'"), 2);
    let run = dir.run("evt-view", &["in.csv", "--since", "2026-02-30"]).ends_with(2);
    assert!(run.stderr().contains("found '2026-02-30'; this day does not exist"), "{run}");
}

#[test]
fn a_time_that_the_clocks_skip_names_the_zone() {
    let dir = Dir::new("skipped");
    dir.write("in.csv", "t\n2026-03-29 01:30\n2026-03-29 02:30\n");
    for flags in ["", "--time-format '%Y-%m-%d %H:%M'"] {
        let run =
            dir.shell(&format!("evt-ingest in.csv --time t {flags} --time-zone Europe/Zurich --to null:")).ends_with(1);
        assert!(run.stderr().contains("this time does not exist in Europe/Zurich"), "{run}");
    }
}

#[test]
fn records_without_readable_times_end_a_run_only_if_no_record_of_a_file_has_one() {
    let dir = Dir::new("first-times");
    let bad = "{\"t\":\"soon\"}\n";
    let good = "{\"t\":\"2026-01-01\"}\n";
    let args = ["--time", "t", "-q", "--to", "out.jsonl", "--overwrite", "--dlq", "dead.jsonl"];
    let letters = || dir.path("dead.jsonl").exists().then(|| dir.rows("dead.jsonl").len());
    // A readable time among the first 100 records: the others are letters, the first too.
    dir.write("in.jsonl", bad.repeat(99) + good + &bad.repeat(50));
    dir.run("evt-ingest", &[&["in.jsonl"][..], &args].concat()).ends_with(0);
    assert_eq!((dir.rows("out.jsonl").len(), letters()), (1, Some(149)));
    std::fs::remove_file(dir.path("dead.jsonl")).expect("it was written");
    // The 101st record is too late.
    dir.write("in.jsonl", bad.repeat(100) + good);
    for run in [
        dir.run("evt-ingest", &[&["in.jsonl"][..], &args].concat()),
        dir.feed("evt-ingest", &args, &std::fs::read(dir.path("in.jsonl")).expect("it is there")),
    ] {
        let run = run.ends_with(2);
        assert!(
            run.stderr().contains(":1: none of the first 100 records has a readable time: t: expected a time"),
            "{run}"
        );
        assert_eq!(letters(), None, "{run}");
    }
    // Records with other faults have no time either.
    dir.write("in.jsonl", "{\n".repeat(120));
    let run = dir.run("evt-ingest", &[&["in.jsonl"][..], &args].concat()).ends_with(2);
    assert!(run.stderr().contains("in.jsonl:1: none of the first 100 records can be read: byte 1: EOF"), "{run}");
    assert_eq!(letters(), None);
    // The flags are right if an earlier file has times.
    dir.write("good.jsonl", good);
    dir.write("in.jsonl", bad);
    dir.run("evt-ingest", &[&["good.jsonl", "in.jsonl"][..], &args].concat()).ends_with(0);
    assert_eq!(letters(), Some(1));
    dir.write("in.jsonl", bad.repeat(2));
    let run = dir.run("evt-ingest", &[&["in.jsonl", "good.jsonl"][..], &args].concat()).ends_with(2);
    assert!(run.stderr().contains("in.jsonl:1: none of the 2 records has a readable time: t: expected"), "{run}");
}

/// evt must not assume a part of a time that the text does not have.
#[test]
fn a_time_format_without_minutes_keeps_the_hour_and_one_with_half_an_hour_of_day_is_a_fault() {
    let dir = Dir::new("partial");
    for (format, text, wanted) in [
        ("%Y-%m-%d %H", "2026-01-05 22", Some("2026-01-05T22:00:00.000000Z")),
        ("%Y%m%d%H", "2026010510", Some("2026-01-05T10:00:00.000000Z")),
        ("%Y-%m-%d %I%p", "2026-01-05 3PM", Some("2026-01-05T15:00:00.000000Z")),
        ("%Y-%m-%d %H %z", "2026-01-05 10 +0200", Some("2026-01-05T08:00:00.000000Z")),
        ("%Y-%m-%d %z", "2026-01-05 +0200", Some("2026-01-04T22:00:00.000000Z")),
        ("%Y-%m-%d", "2026-01-05", Some("2026-01-05T00:00:00.000000Z")),
        ("%s", "1767571200", Some("2026-01-05T00:00:00.000000Z")),
        ("%Y-%m-%d %I:%M:%S", "2026-01-05 10:30:07", None),
        ("%Y-%m-%d %M", "2026-01-05 30", None),
        ("%Y-%m-%d %H %S", "2026-01-05 10 30", None),
    ] {
        dir.write("in.csv", format!("t\n{text}\n"));
        let run = dir.run("evt-ingest", &["in.csv", "-q", "--time", "t", "--time-format", format, "-o", "jsonl"]);
        assert_eq!(run.status(), if wanted.is_none() { 2 } else { 0 }, "{format}: {run}");
        let found = run.rows().first().map(|row| row["event_time"].as_str().expect("text").to_owned());
        assert_eq!(found.as_deref(), wanted, "{format}");
    }
    for (format, said) in [
        ("%Y-%m-%d %H:%M:%S.%f", "use %.f for a fraction"),
        ("%Y-%m-%d %H:%M:%S %Z %Z", "it has %Z twice"),
        ("%b %d %H:%M:%S", "it names no year"),
        ("%Y-%m-%d %I:%M", "it names no AM or PM (%p)"),
    ] {
        let run = dir.run("evt-ingest", &["in.csv", "--time", "t", "--time-format", format, "--to", "null:"]);
        assert!(run.status() == 2 && run.stderr().contains(said), "{run}");
    }
}

#[test]
fn a_day_or_a_time_of_day_that_does_not_exist_is_told_as_that() {
    let dir = Dir::new("no_such_day");
    for (text, part) in [
        ("2026-02-29T00:00:00Z", "day"),
        ("2026-13-01T00:00:00+02:00", "day"),
        ("2026-01-01T24:00:00Z", "time of day"),
        ("2026-01-01T00:60:00.5Z", "time of day"),
        ("2026-01-01T00:00:00+24:00", "offset"),
    ] {
        dir.write("in.jsonl", format!("{{\"t\":\"{text}\"}}\n"));
        let run = dir.run("evt-ingest", &["in.jsonl", "--time", "t", "--to", "null:"]).ends_with(2);
        let said = format!("expected a time like 2024-01-15T10:00:00Z, found \"{text}\"; this {part} does not exist\n");
        assert!(run.stderr().contains(&said), "{run}");
    }
}

#[test]
fn every_tool_that_reads_rows_takes_a_range_of_time() {
    let dir = Dir::new("range");
    let lines = (0..24).map(|hour| format!("{{\"server_timestamp\":\"2026-01-01T{hour:02}:30:00Z\",\"n\":{hour}}}\n"));
    dir.write("day.jsonl", lines.collect::<String>());
    let range = "--since '2026-01-01 06:00' --until 2026-01-01T09:00:00Z";
    for tool in ["evt-ingest", "evt-view", "evt-sink", "evt-validate"] {
        let run = dir.shell(&format!("{tool} day.jsonl {range} -o jsonl --to -")).succeeds();
        let hours: Vec<i64> = run.rows().iter().map(|row| row["properties"]["n"].as_i64().expect("a number")).collect();
        assert_eq!(hours, [6, 7, 8], "{run}");
        assert!(run.stderr().contains("in 24 out 3 filtered 21"), "{run}");
    }
    // A later stage selects from frames, and a lake reads only the days that it needs.
    let count = "evt-window --size 1d --out-of-orderness all -q -o jsonl";
    for line in [
        format!("{count} day.jsonl {range}"),
        format!("evt-ingest day.jsonl -q | {count} {range}"),
        format!("evt-ingest day.jsonl -q --to parquet:lake && {count} parquet:lake {range}"),
        format!("{count} day.jsonl --last 18h --now '2026-01-02' --until '2026-01-01T09:00Z'"),
    ] {
        let rows = dir.shell(&line).succeeds().rows();
        assert_eq!(rows.iter().map(|row| &row["value"]).collect::<Vec<_>>(), [&json!(3.0)], "{line}");
    }
    let run = dir.shell("evt-ingest day.jsonl --since soon --to null:").ends_with(2);
    assert!(run.stderr().contains("soon"), "{run}");
}

#[test]
fn only_an_end_that_could_have_been_proven_is_reported_as_unproven() {
    let dir = Dir::new("unproven");
    dir.write("in.jsonl", "{\"server_timestamp\":\"2026-01-01T06:30:00Z\"}\n");
    for (line, is_reported) in [
        ("evt-ingest in.jsonl --to null:", false),
        ("evt-ingest --to null: < in.jsonl", false),
        ("cat in.jsonl | evt-ingest --to null:", true),
        ("evt-ingest -q in.jsonl | evt-sink --to null:", false),
        ("evt-ingest -q in.jsonl -o jsonl | evt-sink --to null:", true),
        // A file of Avro may end behind any block.
        ("evt-ingest -q in.jsonl -o avro | evt-sink --to null:", true),
        ("evt-ingest -q in.jsonl -o avro > in.avro; evt-sink in.avro --to null:", false),
        ("evt-ingest -q in.jsonl --to in.parquet; cat in.parquet | evt-sink --to null:", false),
    ] {
        let run = dir.shell(line).succeeds();
        assert_eq!(run.stderr().contains("end not proven"), is_reported, "{run}");
    }
}

/// The flags that a refused run proposes, without the part before them.
fn proposal(dir: &Dir, line: &str) -> String {
    let run = dir.shell(line).ends_with(2);
    let said = run.stderr();
    let (_, flags) = said.rsplit_once("; --time-").unwrap_or_else(|| panic!("no proposal: {run}"));
    let (flags, _) = flags.split_once(" reads it").unwrap_or_else(|| panic!("no proposal: {run}"));
    format!("--time-{flags}")
}

#[test]
fn a_proposed_format_reads_a_year_of_two_digits_as_one_of_our_time() {
    let dir = Dir::new("short-years");
    for (text, flags, instant) in [
        ("13.01.26", "--time-format '%d.%m.%y'", "2026-01-13T00:00:00.000000Z"),
        ("25/12/26 10:00", "--time-format '%d/%m/%y %H:%M'", "2026-12-25T10:00:00.000000Z"),
        ("02-Jan-26", "--time-format '%d-%b-%y'", "2026-01-02T00:00:00.000000Z"),
        ("20260102", "--time-format '%Y%m%d'", "2026-01-02T00:00:00.000000Z"),
        ("22/Nov/2026:00:00:01.015", "--time-format '%d/%b/%Y:%H:%M:%S%.f'", "2026-11-22T00:00:01.015000Z"),
        ("02.01.2026 15:04:05,123", "--time-format '%d.%m.%Y %H:%M:%S,%3f'", "2026-01-02T15:04:05.123000Z"),
    ] {
        dir.write("in.csv", format!("d;v\n{text};1\n"));
        assert_eq!(proposal(&dir, "evt-ingest in.csv --time d --to null:"), flags, "{text}");
        let run = dir.shell(&format!("evt-view -q in.csv --time d {flags} --columns event_time -o csv")).succeeds();
        assert_eq!(run.text(), format!("event_time\n{instant}\n"));
    }
    dir.write("in.jsonl", "{\"d\":20260102}\n");
    assert_eq!(proposal(&dir, "evt-ingest in.jsonl --time d --to null:"), "--time-format '%Y%m%d'");
    let read = "evt-view -q in.jsonl --time d --time-format '%Y%m%d' --columns event_time -o csv";
    assert_eq!(dir.shell(read).succeeds().text(), "event_time\n2026-01-02T00:00:00.000000Z\n");
    // %Y of another format would read the year 1.
    dir.write("in.csv", "d,v\n1/2/26,1\n");
    let run = dir.shell("evt-ingest in.csv --time d --time-format '%Y/%m/%d' --to null:").ends_with(2);
    assert!(run.stderr().contains("%Y needs a year of four digits"), "{run}");
    assert!(run.stderr().contains("--time-format '%m/%d/%y' or --time-format '%d/%m/%y' reads it"), "{run}");
}

#[test]
fn a_proposed_format_reads_all_records_that_were_examined() {
    let dir = Dir::new("all-examined");
    dir.write("in.csv", "d,v\n01/02/2026,1\n13/02/2026,5\n");
    assert_eq!(proposal(&dir, "evt-ingest in.csv --time d --to null:"), "--time-format '%d/%m/%Y'");
    let run = dir.shell("evt-ingest in.csv --to null:").ends_with(2);
    assert!(run.stderr().trim_end().ends_with("use --time d --time-format '%d/%m/%Y'"), "{run}");
    dir.write("in.csv", "d,v\n01/02/2026,1\n13/02/2026,5\n02/28/2026,5\n");
    let run = dir.shell("evt-ingest in.csv --time d --to null:").ends_with(2);
    assert!(run.stderr().contains("reads 2 of the 3 records"), "{run}");
}

#[test]
fn fields_are_proposed_by_the_share_of_records_that_have_them() {
    let dir = Dir::new("shares");
    let both = "{\"first\":\"2026-01-01T00:00:00Z\",\"made\":\"2026-01-01T00:00:00Z\"}\n";
    dir.write("in.jsonl", both.to_owned() + "{\"first\":null,\"made\":\"2026-01-01T00:00:01Z\"}\n");
    let run = dir.shell("evt-ingest in.jsonl --to null:").ends_with(2);
    assert!(run.stderr().contains("use --time made  or  --time first (in 1 of 2 records)"), "{run}");
    // The record without the field that was chosen has another time.
    let run = dir.shell("evt-ingest in.jsonl --time first --to null:").ends_with(1);
    assert!(run.stderr().contains("first: missing or null; the event has other times: made"), "{run}");
}

#[test]
fn the_clock_is_not_proposed_while_a_field_has_a_date() {
    let dir = Dir::new("dated");
    dir.write("in.jsonl", "{\"when\":\"22. November 2026\"}\n");
    let run = dir.shell("evt-ingest in.jsonl --to null:").ends_with(2);
    assert!(run.stderr().contains("no known format reads when") && !run.stderr().contains("arrival"), "{run}");
    let run = dir.shell("evt-ingest in.jsonl --time when --to null:").ends_with(2);
    assert!(run.stderr().contains("--time-format FORMAT (strftime) names one"), "{run}");
    dir.write("in.jsonl", "{\"when\":\"soon\"}\n");
    let run = dir.shell("evt-ingest in.jsonl --to null:").ends_with(2);
    assert!(
        run.stderr().contains("no field is a time (found when); --time arrival uses the clock of the run"),
        "{run}"
    );
}

/// Events of Kubernetes have one of several times.
#[test]
fn the_first_field_of_several_with_a_value_is_the_time() {
    let dir = Dir::new("times");
    dir.write(
        "in.jsonl",
        r#"{"last":"2026-01-01T00:00:01Z","event":"2026-01-01T00:00:09Z","n":1}
{"last":null,"event":"2026-01-01T00:00:02Z","n":2}
{"client_timestamp":"2026-01-01T00:00:03Z","a, b":"2026-01-01T00:00:08Z","n":3}
{"a, b":"2026-01-01T00:00:04Z","n":4}
{"last":"soon","event":"2026-01-01T00:00:05Z","n":5}
{"n":6}
"#,
    );
    let flags = "--time 'last, event,client_timestamp,\"a, b\"' -q -o jsonl --dlq dead.jsonl";
    let run = dir.shell(&format!("evt-ingest in.jsonl {flags}")).succeeds();
    let seconds: Vec<_> =
        run.rows().iter().map(|row| row["event_time"].as_str().expect("a time")[17..19].to_owned()).collect();
    assert_eq!(seconds, ["01", "02", "03", "04"], "{run}");
    let letters: Vec<_> = dir.rows("dead.jsonl").iter().map(|row| row["error_message"].clone()).collect();
    assert!(letters[0].as_str().is_some_and(|text| text.starts_with("last: ") && text.contains("soon")), "{letters:?}");
    let told = "last, event,client_timestamp,\"a, b\": missing or null";
    assert!(letters[1].as_str().is_some_and(|text| text.starts_with(told)), "{letters:?}");
}
