//! Late rows of raw records: evt-window builds their columns only when they are late, from the text of the record.

use crate::harness::Dir;
use serde_json::Value;

const NOW: &str = "--now 2030-01-01T00:00:00Z";
const WINDOW: &str = "evt-window -q --size 10s --by event_type --where 'n is not null' --to null:";

/// The late rows of raw records that evt-window reads itself, and of the same records as frames of evt-ingest, which
/// have all columns.
fn both(dir: &Dir, input: &str, flags: &str) -> [Vec<Value>; 2] {
    dir.shell(&format!("{WINDOW} {input} {flags} {NOW} --late own.jsonl")).succeeds();
    dir.shell(&format!("evt-ingest -q {input} {flags} {NOW} --keep-raw | {WINDOW} --late framed.jsonl")).succeeds();
    without_raw(["own.jsonl", "framed.jsonl"].map(|name| dir.rows(name)))
}

/// Frames keep the raw record.
fn without_raw(mut both: [Vec<Value>; 2]) -> [Vec<Value>; 2] {
    both.iter_mut().flatten().for_each(|row| _ = row.as_object_mut().expect("a row").remove("raw"));
    both
}

/// Lines whose times go back by 40 s at every fifth one, of `text(number, seconds)`.
fn lines(text: impl Fn(usize, usize) -> String) -> String {
    (0..3_000).map(|n| text(n, 100 + n / 10 - if n % 5 == 4 { 40 } else { 0 }) + "\n").collect()
}

fn time(seconds: usize) -> String {
    format!("2024-01-15T10:{:02}:{:02}Z", seconds / 60, seconds % 60)
}

#[test]
fn a_late_row_of_a_raw_record_has_the_columns_of_any_other_row() {
    let dir = Dir::live("late-rows");
    let event = |n: usize, at: usize| {
        format!(
            r#"{{"t":"{}","event_type":"e\u0041{}","shard":"{}","id":"id {n}", "n":{n},"text":"é\n","nested":{{"a":[1, 2]}}}}"#,
            time(at),
            n % 3,
            n % 2
        )
    };
    dir.write("events.jsonl", lines(event));
    dir.write("crlf.jsonl", lines(|n, at| format!(" {}\r", event(n, at))));
    dir.write("array.json", format!("{{\"all\":[{}]}}", lines(event).trim().replace('\n', ",\n")));
    dir.write(
        "events.csv",
        "t,event_type,n,text\n".to_owned() + &lines(|n, at| format!("{},c,{n},\"a\nb {n}\"", time(at))),
    );
    dir.write("events.log", lines(|n, at| format!("t={} event_type=l n={n}", time(at))));
    dir.shell(&format!("evt-ingest -q events.jsonl --time t {NOW} -o jsonl > stamped.jsonl")).succeeds();
    dir.shell(&format!("evt-ingest -q events.jsonl --time t {NOW} --keep-raw -o jsonl > kept.jsonl")).succeeds();
    dir.shell("gzip -k events.jsonl").succeeds();
    // No flag names the time: it is a usual one, and some records have a time of their own, which comes first.
    let of_two = |n: usize, at| format!(r#"{{"{}":"{}","n":{n}}}"#, ["ts", "server_timestamp", "ts"][n % 3], time(at));
    dir.write("two.jsonl", lines(of_two));
    let cases = [
        ("events.jsonl", "--time t"),
        ("events.jsonl.gz", "--time t --require n"),
        ("crlf.jsonl", "--time t"),
        ("- < events.jsonl", "--time t --origin here"),
        ("events.jsonl crlf.jsonl", "--time t"),
        ("events.jsonl", "--time t --field partition=shard --partitions 0,1 --field user_id=id --set source=shop"),
        ("events.jsonl", "--time t --field event_id=id --hash-ids"),
        ("events.jsonl", "--time t --plain"),
        ("events.jsonl", "--time t --max-future 5m"),
        ("array.json", "--time t --explode all"),
        ("two.jsonl", "--origin here"),
        ("events.csv", "--time t"),
        ("events.log", "--time t -f logfmt"),
        ("stamped.jsonl", ""),
        ("kept.jsonl", ""),
    ];
    for (input, flags) in cases {
        dir.shell("rm -f own.jsonl framed.jsonl").succeeds();
        let [own, framed] = if flags.is_empty() { stamped(&dir, input) } else { both(&dir, input, flags) };
        assert!(own.len() > 500, "{input} {flags}: {}", own.len());
        assert_eq!(own.len(), framed.len(), "{input} {flags}");
        for (own, framed) in own.iter().zip(&framed) {
            assert_eq!(own, framed, "{input} {flags}");
        }
    }
}

/// As [`both`], for rows with stamps, which evt-ingest would stamp anew.
fn stamped(dir: &Dir, input: &str) -> [Vec<Value>; 2] {
    dir.shell(&format!("{WINDOW} {input} {NOW} --late own.jsonl")).succeeds();
    dir.shell(&format!("evt-view -q {input} -o frames | {WINDOW} --late framed.jsonl")).succeeds();
    let both = ["own.jsonl", "framed.jsonl"].map(|name| dir.rows(name));
    if input == "kept.jsonl" { both } else { without_raw(both) }
}

#[test]
fn a_late_row_and_a_letter_of_one_batch_each_have_their_record() {
    let dir = Dir::live("late-and-dead");
    let text = |n: usize, at: usize| {
        let amount = if n.is_multiple_of(7) { "\"none\"".to_owned() } else { n.to_string() };
        format!(
            r#"{{"event_id":"00000000-0000-4000-8000-{n:012}","server_timestamp":"{}","amount":{amount}}}"#,
            time(at)
        )
    };
    dir.write("events.jsonl", lines(text));
    let line = format!(
        "evt-window -q events.jsonl --report 0 --size 10s --agg 'sum(amount)' {NOW} --to null: --late late.jsonl --dlq dead.jsonl"
    );
    dir.shell(&line).succeeds();
    let letters = dir.rows("dead.jsonl");
    assert_eq!(letters.len(), 3_000_usize.div_ceil(7));
    for letter in letters {
        let n = letter["offset"].as_u64().expect("a line") as usize - 1;
        let at = 100 + n / 10 - if n % 5 == 4 { 40 } else { 0 };
        assert_eq!(letter["original_payload"], text(n, at));
        assert_eq!(letter["arrived_at"], time(at).replace('Z', ".000000Z"));
    }
    let late = dir.rows("late.jsonl");
    assert!(late.len() > 400, "{}", late.len());
    for row in late {
        let n = row["offset"].as_u64().expect("a line") as usize - 1;
        assert_eq!((&row["event_id"], n % 5), (&format!("00000000-0000-4000-8000-{n:012}").into(), 4));
        assert_eq!(row["properties"]["amount"], n);
    }
}

/// The clock of a run gives the event time, also where the record has a time of arrival of its own.
#[test]
fn a_late_row_keeps_its_event_time_where_that_is_the_arrival() {
    let dir = Dir::new("late-arrival");
    dir.write("g.jsonl", "{\"a\":1}\n");
    let window = "evt-window -q g.jsonl --time arrival --field ingested_at=x --size 10s --out-of-orderness 0s \
         --checkpoint ck --to sqlite:n.db --late l.jsonl";
    dir.shell(&format!("{window} --now 2024-01-01T01:00:00Z")).succeeds();
    dir.shell("echo '{\"a\":2,\"x\":\"2020-01-01T00:00:00Z\"}' >> g.jsonl").succeeds();
    // The clock went back, so the row is late.
    dir.shell(&format!("{window} --now 2024-01-01T00:00:00Z")).succeeds();
    let late = dir.rows("l.jsonl");
    assert_eq!(late.len(), 1, "{late:?}");
    assert_eq!(late[0]["event_time"], "2024-01-01T00:00:00.000000Z", "{late:?}");
    assert_eq!(late[0]["ingested_at"], "2020-01-01T00:00:00.000000Z", "{late:?}");
    assert_eq!(late[0]["lateness_ms"], 3_600_000, "{late:?}");
}
