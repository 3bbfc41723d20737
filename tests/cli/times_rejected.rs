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
    assert_eq!(split(&dir, &format!("{seconds} --where 'n > 0'")).1, [0, 3, 4]);
    assert_eq!(split(&dir, "in.jsonl --time '=t' --time-unit s"), (vec![0, 1, 2, 5], vec![3, 4]));
    assert_eq!(split(&dir, &format!("{unit} --min-time 1970-01-01")), (vec![0, 3, 4, 5], vec![1, 2]));
    assert_eq!(split(&dir, &format!("{unit} --min-time 0001-01-01")).1, [0; 0]);
    assert_eq!(split(&dir, &format!("{unit} --min-time 1975-06-01 --time-zone Asia/Tokyo")).0, [0, 5]);
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
