//! Times that are rejected although they can be read, or that records lack.

use crate::harness::{Dir, Draws};
use serde_json::{Value, json};

/// 2026-03-01T00:00:00Z (s).
const MARCH: i64 = 1_772_323_200;

/// The properties `n` of the rows of evt-ingest and of its letters.
fn split(dir: &Dir, line: &str) -> (Vec<i64>, Vec<i64>) {
    dir.write("dead.jsonl", "");
    let run = dir.shell(&format!("evt-ingest {line} -q -o jsonl --dlq dead.jsonl")).succeeds();
    let rows = run.rows().iter().map(|row| row["properties"]["n"].as_i64().expect("a number")).collect();
    let letter = |row: &Value| {
        assert_eq!(row["error_type"], "TimestampError", "{row}");
        let payload: Value = serde_json::from_str(row["original_payload"].as_str().expect("text")).expect("JSON");
        payload["n"].as_i64().expect("a number")
    };
    (rows, dir.rows("dead.jsonl").iter().map(letter).collect())
}

fn lines(times: &[Value]) -> String {
    let line = |(n, t): (usize, &Value)| json!({"n": n, "t": t}).to_string() + "\n";
    times.iter().enumerate().map(line).collect()
}

#[test]
fn numbers_in_a_wrong_unit_are_letters_and_not_events_of_1970() {
    let dir = Dir::new("rejected-units");
    dir.write("mixed.jsonl", lines(&[json!(MARCH * 1_000_000), json!(MARCH * 1000), json!(MARCH.to_string())]));
    let run = dir.shell("evt-window mixed.jsonl --time t --time-unit us --size 1h -q -o jsonl").ends_with(1);
    assert_eq!(run.rows().len(), 1, "{run}");
    assert!(run.stderr().contains("before 1980; --time-unit ms may be right"), "{run}");
    assert_eq!(split(&dir, "mixed.jsonl --time t --time-unit us"), (vec![0], vec![1, 2]));
    let letters = dir.rows("dead.jsonl");
    let told = "1970-01-01T00:29:32.323200Z of a number is before 1980; --time-unit s may be right, --min-time 1970-01-01 accepts it";
    assert_eq!(letters[1]["error_message"], told);
    // All of them are letters, too, and the replay with the right unit loses none.
    dir.write("ms.jsonl", lines(&[json!(MARCH * 1000), json!(MARCH * 1000 + 1)]));
    dir.shell("evt-ingest ms.jsonl --time t --time-unit us -q --to null:").ends_with(1);
    assert_eq!(split(&dir, "ms.jsonl --time t --time-unit us"), (vec![], vec![0, 1]));
    dir.shell("evt-replay dead.jsonl --time t --time-unit us --to again.jsonl --ledger sqlite:l.db -q").ends_with(1);
    dir.shell("evt-replay dead.jsonl --time t --time-unit ms --to again.jsonl --ledger sqlite:l.db -q --append")
        .succeeds();
    assert_eq!(dir.rows("again.jsonl").len(), 2);
    assert_eq!(split(&dir, "ms.jsonl --time t --time-unit ms"), (vec![0, 1], vec![]));
}

#[test]
fn texts_with_a_year_negative_numbers_and_stamped_rows_are_no_mistake_of_a_unit() {
    let dir = Dir::new("rejected-forms");
    let times = [json!("1975-06-01"), json!(-86_400), json!("-1"), json!(0), json!("86400"), json!(315_532_800)];
    dir.write("in.jsonl", lines(&times));
    let unit = "in.jsonl --time t --time-unit s";
    assert_eq!(split(&dir, unit), (vec![0, 1, 2, 5], vec![3, 4]));
    let seconds = "in.jsonl --time t --time-format %s";
    assert_eq!(split(&dir, seconds), (vec![1, 2, 5], vec![0, 3, 4]));
    assert_eq!(split(&dir, "in.jsonl --time '=t' --time-unit s"), (vec![0, 1, 2, 5], vec![3, 4]));
    assert_eq!(split(&dir, &format!("{unit} --min-time 1970-01-01")), (vec![0, 3, 4, 5], vec![1, 2]));
    assert_eq!(split(&dir, &format!("{unit} --min-time 0001-01-01")).1, [0; 0]);
    assert_eq!(split(&dir, &format!("{unit} --min-time 1975-06-01 --time-zone Asia/Tokyo")).0, [0, 5]);
    let first = format!("{unit} --time-zone Europe/Zurich --min-time 0001-01-01");
    assert_eq!(split(&dir, &first).1, [0; 0], "it begins before the calendar there");
    for (zone, beyond) in [("Europe/Zurich", "0001-01-01T00:00:00"), ("America/New_York", "9999-12-31T23:00:00")] {
        let line = format!("evt-view -q {unit} --time-zone {zone} --min-time {beyond}");
        let said = dir.shell(&line).ends_with(2).stderr();
        assert!(said.contains(&format!("found '{beyond}'; it is outside the years 1 to 9999 UTC")), "{said}");
    }
    // The usual columns are numbers, too, and a column that is not the time may be any number.
    dir.write(
        "usual.jsonl",
        "{\"n\":0,\"event_time\":5}\n{\"n\":1,\"event_time\":\"1971-01-01\"}\n{\"n\":2,\"server_timestamp\":5}\n",
    );
    assert_eq!(split(&dir, "usual.jsonl --time-unit s"), (vec![1], vec![0, 2]));
    dir.write("other.jsonl", format!("{{\"n\":0,\"client_timestamp\":0,\"server_timestamp\":{MARCH}}}\n"));
    assert_eq!(split(&dir, "other.jsonl --time-unit s"), (vec![0], vec![]));
    // Rows that have stamps keep their times, and one line says so of frames.
    dir.shell(&format!("evt-ingest {unit} --min-time 1970-01-01 -q --dlq null: -o jsonl > rows.jsonl")).succeeds();
    let rows = "evt-window rows.jsonl --size all --out-of-orderness all --min-time 2000-01-01 -q -o jsonl";
    assert_eq!(dir.shell(rows).succeeds().rows()[0]["value"], 4.0);
    let frames = dir.shell(&format!(
        "evt-ingest {unit} --min-time 1970-01-01 -q --dlq null: | evt-view --min-time 2000-01-01 -o csv"
    ));
    let frames = frames.succeeds();
    assert_eq!(frames.text().lines().count(), 5, "{frames}");
    assert!(frames.stderr().contains("--min-time has no effect on rows that evt has stamped"), "{frames}");
}

/// Random times, units and limits, compared with a naive model.
#[test]
fn each_record_is_rejected_by_its_own_time_alone() {
    let dir = Dir::new("rejected-model");
    let mut draws = Draws::new();
    for _ in 0..8 {
        let (unit, scale) = [("s", 1), ("ms", 1000), ("us", 1_000_000)][draws.below(3) as usize];
        let limit = [None, Some(0), Some(-200_000_000), Some(400_000_000)][draws.below(4) as usize];
        let (mut times, mut dead) = (vec![], vec![]);
        for n in 0..200 {
            let seconds = draws.below(1_000_000_000) as i64 - 300_000_000;
            let form = draws.below(3);
            times.push(match form {
                0 => json!(seconds * scale),
                1 => json!((seconds * scale).to_string()),
                _ => json!(evt_core::time::format_instant(seconds * 1_000_000)),
            });
            let is_early = limit.map_or(form < 2 && (0..315_532_800).contains(&seconds), |limit| seconds < limit);
            dead.extend(is_early.then_some(n));
        }
        dir.write("in.jsonl", lines(&times));
        let flag = limit.map_or_else(String::new, |limit| {
            format!("--min-time {}", evt_core::time::format_instant(limit * 1_000_000))
        });
        let (rows, letters) = split(&dir, &format!("in.jsonl --time t --time-unit {unit} {flag}"));
        assert_eq!((rows.len() + letters.len(), letters), (200, dead), "{unit} {flag}");
    }
}

#[test]
fn an_abbreviation_of_a_zone_decides_or_the_record_is_a_letter() {
    let dir = Dir::new("rejected-zones");
    let read = |text: &str, flags: &str| {
        dir.write("in.csv", format!("t,n\n{text},1\n2026-01-01T00:00:00Z,2\n"));
        dir.write("dead.jsonl", "");
        let run = dir.shell(&format!("evt-ingest in.csv --time t {flags} -q -o jsonl --dlq dead.jsonl")).succeeds();
        match &dir.rows("dead.jsonl")[..] {
            [] => run.rows()[0]["event_time"].as_str().map(|time| time[..16].to_owned()),
            letters => {
                assert!(
                    letters[0]["error_message"].as_str().is_some_and(|said| said.contains("abbreviation")),
                    "{letters:?}"
                );
                None
            }
        }
    };
    let format = "--time-format '%Y-%m-%d %H:%M %Z'";
    for (text, zone, time) in [
        ("2026-03-01 10:00 UTC", "", Some("2026-03-01T10:00")),
        ("2026-03-01 10:00 GMT", "", Some("2026-03-01T10:00")),
        ("2026-03-01 10:00 Z", "Europe/Zurich", Some("2026-03-01T10:00")),
        ("2026-07-01 10:00 GMT", "Europe/London", Some("2026-07-01T10:00")),
        ("2026-07-01 10:00 BST", "Europe/London", Some("2026-07-01T09:00")),
        ("2026-07-01 10:00 BST", "", None),
        ("2026-03-01 10:00 CET", "Europe/Zurich", Some("2026-03-01T09:00")),
        ("2026-07-01 10:00 CEST", "Europe/Zurich", Some("2026-07-01T08:00")),
        ("2026-07-01 10:00 CET", "Europe/Zurich", None),
        ("2026-07-01 10:00 EST", "Europe/Zurich", None),
        // Clocks show the hour twice, or skip it.
        ("2026-10-25 02:30 CEST", "Europe/Zurich", Some("2026-10-25T00:30")),
        ("2026-10-25 02:30 CET", "Europe/Zurich", Some("2026-10-25T01:30")),
        ("2026-03-29 02:30 CET", "Europe/Zurich", None),
        ("2026-11-01 01:30 PDT", "America/Los_Angeles", Some("2026-11-01T08:30")),
        ("2026-11-01 01:30 PST", "America/Los_Angeles", Some("2026-11-01T09:30")),
        ("2026-03-01 10:00 IST", "Asia/Kolkata", Some("2026-03-01T04:30")),
        ("2026-03-01 10:00 +04", "Asia/Dubai", Some("2026-03-01T06:00")),
        ("2026-03-01 10:00 CET", "UTC", None),
    ] {
        let zone = if zone.is_empty() { String::new() } else { format!("--time-zone {zone}") };
        assert_eq!(read(text, &format!("{format} {zone}")).as_deref(), time, "{text} {zone}");
    }
    // Beside an offset an abbreviation says nothing more; a date begins in its zone; a text has letters, not blanks.
    let offset = "--time-format '%Y-%m-%d %H:%M %z %Z'";
    assert_eq!(read("2026-03-01 10:00 +0100 CET", offset).as_deref(), Some("2026-03-01T09:00"));
    let day = "--time-format '%Z %d.%m.%Y' --time-zone Europe/Zurich";
    assert_eq!(read("CEST 01.07.2026", day).as_deref(), Some("2026-06-30T22:00"));
    assert_eq!(read("CET 01.07.2026", day), None);
    for text in ["2026-03-01 10:00 +0100 UTC", "2026-03-01 10:00 +0100 ", "2026-03-01 10:00 +0100 CET x"] {
        dir.write("in.csv", format!("t,n\n2026-01-01T00:00:00Z,2\n{text},1\n"));
        dir.shell(&format!("evt-ingest in.csv --time t {offset} -q --to null:")).ends_with(1);
    }
    // The abbreviation decides which of two instants it is, so no line says that evt chose.
    dir.write("in.csv", "t,n\n2026-10-25 02:30 CET,1\n");
    dir.shell(&format!("evt-ingest in.csv --time t {format} --time-zone Europe/Zurich --to null: -q"))
        .succeeds()
        .stays_calm();
}

/// The letters (`n`) and the count of filtered records of a run.
fn left_out(dir: &Dir, line: &str) -> (Vec<i64>, u64) {
    dir.write("dead.jsonl", "");
    dir.shell(&format!("{line} -q --dlq dead.jsonl --stats stats.json --overwrite")).succeeds();
    let number = |row: &Value| {
        let payload: Value = serde_json::from_str(row["original_payload"].as_str().expect("text")).expect("JSON");
        payload["n"].as_i64().expect("a number")
    };
    let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
    (dir.rows("dead.jsonl").iter().map(number).collect(), stats["counts"]["filtered"].as_u64().expect("a count"))
}

#[test]
fn a_record_without_a_time_that_where_excludes_is_filtered() {
    let dir = Dir::new("rejected-where");
    dir.write(
        "in.jsonl",
        r#"{"n":0,"kind":"a","t":"2026-03-01T00:00:00Z"}
{"n":1,"kind":"b","t":"2026-03-01T00:00:00Z"}
{"n":2,"kind":"a"}
{"n":3,"kind":"b"}
{"n":4,"kind":"b","t":"soon","client_timestamp":"never"}
{"n":5}
{"n":6,"kind":"b","event_id":"x"}
{"n":7,"kind":["b"]}
{"n":8,"kind":"b","source":"s","client_timestamp":"2026-03-01T00:00:00Z"}
"#,
    );
    let ingest = "evt-ingest in.jsonl --time t --to rows.jsonl";
    // NULL, a failure and another fault of the record leave the letter.
    for (filter, dead, filtered) in [
        ("", &[2, 3, 4, 5, 6, 7, 8][..], 0),
        ("--where \"kind = 'a'\"", &[2, 5, 6], 5),
        ("--let 'low=n < 3' --where low", &[2, 6], 5),
        ("--where \"not event_time > timestamp '2020-01-01T00:00:00Z'\"", &[2, 3, 4, 5, 6, 7, 8], 2),
        // An expression that names a time decides nothing where the time is unknown.
        ("--where \"event_time > timestamp '2020-01-01T00:00:00Z' and kind = 'a'\"", &[2, 3, 4, 5, 6, 7, 8], 1),
        ("--where \"event_time is not null\"", &[2, 3, 4, 5, 6, 7, 8], 0),
        ("--where \"client_timestamp is null\"", &[2, 3, 4, 5, 6, 7, 8], 0),
        ("--where 'kind + 1 > 0'", &[2, 3, 4, 5, 6, 7, 8, 0, 1], 0),
        ("--where \"source <> 's' -- of others\"", &[2, 3, 4, 5, 6, 7], 1),
    ] {
        assert_eq!(left_out(&dir, &format!("{ingest} {filter}")), (dead.to_vec(), filtered), "{filter}");
    }
    let kind = "--where \"kind = 'a'\"";
    assert_eq!(left_out(&dir, &format!("evt-window in.jsonl --time t --size 1h --to w.jsonl {kind}")).0, [2, 5, 6]);
    dir.shell(&format!("cat in.jsonl | evt-view --time t {kind} -o jsonl -q")).ends_with(1);
    // Numbers that are rejected because they are too early, too.
    dir.write("early.jsonl", lines(&[json!(MARCH), json!(5), json!(6)]));
    let early = "evt-ingest early.jsonl --time t --time-unit s --to rows.jsonl --where 'n < 2'";
    assert_eq!(left_out(&dir, early), (vec![1], 1));
}

#[test]
fn first_records_that_where_excludes_show_no_missing_flag() {
    let dir = Dir::new("rejected-first");
    let beats = |count: usize| "{\"n\":1,\"kind\":\"beat\"}\n".repeat(count);
    dir.write("in.jsonl", beats(150) + "{\"n\":2,\"kind\":\"a\",\"t\":\"2026-03-01T00:00:00Z\"}\n" + &beats(50));
    let flags = "--time t --to rows.jsonl --where \"kind = 'a'\"";
    assert_eq!(left_out(&dir, &format!("evt-ingest in.jsonl {flags}")), (vec![], 200));
    assert_eq!(dir.rows("rows.jsonl").len(), 1);
    dir.shell("evt-ingest in.jsonl --time t --to null:").ends_with(2);
    dir.write("none.jsonl", beats(150));
    assert_eq!(left_out(&dir, &format!("evt-ingest none.jsonl {flags}")), (vec![], 150));
}
