//! `--since` and `--until` select rows before anything else sees them: the rows outside are as if they were not there.

use crate::harness::{Dir, Draws};
use std::fmt::Write as _;

/// An event of a random file: its second after 2026-03-01 and its line.
struct Event {
    second: u64,
    line: String,
}

/// A random file of events, most of them in order.
fn events(draws: &mut Draws) -> Vec<Event> {
    let mut clock = draws.below(600);
    let count = 1 + draws.below(60);
    let one = |draws: &mut Draws, clock: &mut u64| {
        *clock = (*clock + draws.below(40)).min(3000);
        let second = match draws.below(8) {
            0 => draws.below(3600),
            1 => clock.saturating_sub(draws.below(300)),
            _ => *clock,
        };
        let (id, partition) = (draws.below(30), draws.below(2));
        // An expression fails for a few events.
        let value = if draws.below(12) == 0 { "\"x\"".to_owned() } else { draws.below(9).to_string() };
        let time = instant(second);
        Event { second, line: format!(r#"{{"t":"{time}","id":"{id}","p":"{partition}","v":{value}}}"#) }
    };
    (0..count).map(|_| one(draws, &mut clock)).collect()
}

fn instant(second: u64) -> String {
    format!("2026-03-01T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Returns the rows that a line of shell writes to its outputs, without the times of the run.
fn outcome(dir: &Dir, line: &str) -> Vec<String> {
    for name in ["rows.csv", "late.jsonl", "dead.jsonl", "same.jsonl"] {
        dir.write(name, "");
    }
    let run = dir.shell(line);
    assert!(matches!(run.status(), 0 | 1), "{line}: {run}");
    let mut found =
        String::from_utf8(dir.bytes("rows.csv")).expect("text").lines().map(str::to_owned).collect::<Vec<_>>();
    for name in ["late.jsonl", "dead.jsonl", "same.jsonl"] {
        let of_event = |row: &serde_json::Value| match row["payload"].as_str() {
            Some(payload) => payload.to_owned(),
            None => format!("{} {} {}", row["event_time"], row["properties"], row["stream_time"]),
        };
        found.extend(dir.rows(name).iter().map(|row| format!("{name} {}", of_event(row))));
    }
    found
}

#[test]
fn rows_outside_of_a_selection_change_nothing() {
    let dir = Dir::new("selections");
    let mut draws = Draws::new();
    let window = "evt-window --size 1m --by p --agg 'n=count(*)' --agg 's=sum(try_cast(v as double))' --wide -o csv";
    for case in 0..120 {
        let all = events(&mut draws);
        let since = (draws.below(3) > 0).then(|| draws.below(2400));
        let until = (draws.below(3) > 0).then(|| since.unwrap_or(0) + draws.below(1800));
        let is_selected =
            |event: &&Event| since.is_none_or(|at| event.second >= at) && until.is_none_or(|at| event.second < at);
        let text = |events: &mut dyn Iterator<Item = &Event>| {
            events.fold(String::new(), |mut text, event| {
                writeln!(text, "{}", event.line).expect("a string");
                text
            })
        };
        dir.write("all.jsonl", text(&mut all.iter()));
        dir.write("selected.jsonl", text(&mut all.iter().filter(is_selected)));
        let mut range = String::new();
        since.iter().for_each(|at| write!(range, " --since {}", instant(*at)).expect("a string"));
        until.iter().for_each(|at| write!(range, " --until {}", instant(*at)).expect("a string"));
        let bound = ["all", "0s", "30s", "5m"][draws.below(4) as usize];
        let more = ["", " --field partition=p"][draws.below(2) as usize];
        let ends = format!("--out-of-orderness {bound} --late late.jsonl --dlq dead.jsonl -q > rows.csv");
        let tool = draws.below(5);
        let line = |file: &str, range: &str| {
            let read = format!("{file} --time t{more} -q{range}");
            match tool {
                0 => format!("{window} {read} {ends}"),
                1 => format!(
                    "evt-ingest {read} --let 'w=cast(v as double)' --where 'w != 3' --dlq dead.jsonl | {window} {ends}"
                ),
                2 => format!("evt-view {read} -o frames | {window} {ends}"),
                3 => format!("evt-sink {read} -o frames | {window} {ends}"),
                _ => format!(
                    "evt-validate {read} --field event_id=id --hash-ids --dedup 1m --duplicates same.jsonl | {window} {ends}"
                ),
            }
        };
        let (wanted, selected) = (line("selected.jsonl", ""), line("all.jsonl", &range));
        assert_eq!(
            outcome(&dir, &selected),
            outcome(&dir, &wanted),
            "case {case}: {selected}\n{}",
            text(&mut all.iter())
        );
    }
}

#[test]
fn a_row_behind_the_range_of_a_pipe_moves_the_clock() {
    let dir = Dir::new("selections-pipe");
    dir.write(
        "e.jsonl",
        "{\"t\":\"2026-03-02T00:00:00Z\"}\n{\"t\":\"2026-03-01T00:00:00Z\"}\n{\"t\":\"2026-03-01T00:00:01Z\"}\n",
    );
    let window = "evt-window -q --time t --size 1h --until 2026-03-02 -o csv";
    let counted = |line: &str| dir.shell(line).text().lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let all = ["2026-03-01T00:00:00Z,2026-03-01T01:00:00Z,count,2"];
    assert_eq!(counted(&format!("{window} e.jsonl")).len(), all.len());
    assert_eq!(counted(&format!("cat e.jsonl | {window}")), Vec::<String>::new());
    assert_eq!(counted(&format!("cat e.jsonl | {window} --out-of-orderness all")).len(), all.len());
}
