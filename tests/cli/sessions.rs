//! Sessions of events that are exactly a gap apart, which are one session whatever the out-of-orderness.

use crate::harness::{Dir, Draws, Run};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const GAP: u64 = 5;

/// Start, end (seconds of the day) and number of rows of each session of a key.
type Sessions = BTreeMap<String, Vec<(u64, u64, u64)>>;

fn event(second: u64, key: &str) -> String {
    format!(
        "{{\"event_time\":\"2024-01-01T{:02}:{:02}:{:02}Z\",\"source\":\"{key}\"}}\n",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// The last row of each session that no later row retracts.
fn sessions(run: &Run) -> Sessions {
    let second = |text: &str| {
        let part = |at: usize| text[at..at + 2].parse::<u64>().expect("digits");
        part(11) * 3600 + part(14) * 60 + part(17)
    };
    let mut found: BTreeMap<(String, u64, u64), Option<u64>> = BTreeMap::new();
    for row in run.rows() {
        let (start, end) = (row["window_start"].as_str().expect("a time"), row["window_end"].as_str().expect("a time"));
        let key = row["dimensions"].to_string();
        let rows = row["rows"].as_u64().filter(|_| row["retracted"] != true);
        found.insert((key, second(start), second(end)), rows);
    }
    let mut sessions = Sessions::new();
    for ((key, start, end), rows) in found {
        rows.into_iter().for_each(|rows| sessions.entry(key.clone()).or_default().push((start, end, rows)));
    }
    sessions
}

/// The sessions of events by the distance to the event before.
fn by_distance(events: &[(u64, String)]) -> Sessions {
    let mut sorted = events.to_vec();
    sorted.sort();
    let mut sessions = Sessions::new();
    for (second, key) in sorted {
        let of_key = sessions.entry(format!("{{\"source\":\"{key}\"}}")).or_default();
        match of_key.last_mut().filter(|(_, end, _)| second <= *end) {
            Some((_, end, rows)) => (*end, *rows) = (second + GAP, *rows + 1),
            None => of_key.push((second, second + GAP, 1)),
        }
    }
    sessions
}

#[test]
fn events_a_gap_apart_are_one_session_with_every_out_of_orderness() {
    let dir = Dir::new("sessions-gap");
    dir.write("g.jsonl", event(0, "x") + &event(5, "x"));
    // The event of x at 5 s is exactly 3 s behind.
    dir.write("behind.jsonl", event(0, "x") + &event(8, "y") + &event(5, "x"));
    // With a lateness the first session has fired when the event at its end comes.
    dir.write("late.jsonl", event(0, "x") + &event(7, "y") + &event(5, "x") + &event(20, "y"));
    let one = |run: &Run| sessions(run).remove("{\"source\":\"x\"}");
    for (file, flags) in [
        ("g.jsonl", "--out-of-orderness 0s"),
        ("g.jsonl", "--out-of-orderness 1us"),
        ("g.jsonl", "--out-of-orderness all"),
        ("behind.jsonl", "--out-of-orderness 3s"),
        ("behind.jsonl", "--out-of-orderness 1s --lateness 2s"),
        ("late.jsonl", "--out-of-orderness 0s --lateness 2s"),
        ("late.jsonl", "--out-of-orderness 2s"),
    ] {
        let run = dir.shell(&format!("evt-window {file} --gap 5s --by source {flags} -o jsonl")).succeeds();
        assert_eq!(one(&run), Some(vec![(0, 10, 2)]), "{file} {flags}: {run}");
    }
    // One instant later the session is closed, and the event begins another.
    let run =
        dir.shell("evt-window behind.jsonl --gap 5s --by source --out-of-orderness 2999999us -o jsonl").succeeds();
    assert_eq!(one(&run), Some(vec![(0, 5, 1), (5, 10, 1)]), "{run}");
    // An event is late once a session of its own would be closed, and the flag that is named counts it.
    dir.write("alone.jsonl", event(8, "y") + &event(2, "x"));
    let run = dir.shell("evt-window alone.jsonl --gap 5s --by source --out-of-orderness 0s -o jsonl").ends_with(1);
    assert!(run.stderr().contains("and 1s would have counted all"), "{run}");
    let run = dir.shell("evt-window alone.jsonl --gap 5s --by source --out-of-orderness 1s -o jsonl").succeeds();
    assert_eq!(one(&run), Some(vec![(2, 7, 1)]), "{run}");
}

/// Events in order of whole seconds: the bound, the lateness, the end of a run between two of them, and a correction of
/// stored rows make no difference.
#[test]
fn sessions_of_events_in_order_do_not_depend_on_the_bound() {
    let mut draws = Draws::new();
    let dir = Dir::new("sessions-order");
    dir.write("m.toml", "[[metric]]\nname = \"s\"\ngap = \"5s\"\nby = [\"source\"]\n");
    for case in 0..4 {
        let mut second = 0;
        let events: Vec<(u64, String)> = (0..120)
            .map(|_| {
                second += [0, 1, 2, 5, 5, 6][draws.below(6) as usize];
                (second, format!("k{}", draws.below(3)))
            })
            .collect();
        let text = |events: &[(u64, String)]| {
            events.iter().fold(String::new(), |mut text, (second, key)| {
                write!(text, "{}", event(*second, key)).expect("text");
                text
            })
        };
        dir.write("e.jsonl", text(&events));
        let wanted = by_distance(&events);
        let touching =
            wanted.values().flatten().filter(|(start, end, rows)| end - start >= 2 * GAP && *rows > 1).count();
        assert!(touching > 2, "{draws} case {case}");
        for flags in ["0s", "1us", "5s", "all", "0s --lateness 5s"] {
            let run = dir
                .shell(&format!("evt-window e.jsonl --gap 5s --by source --out-of-orderness {flags} -o jsonl"))
                .succeeds();
            assert_eq!(sessions(&run), wanted, "{draws} case {case} {flags}: {run}");
        }
        // Two runs over two files, of which the first ends between any two events.
        let cut = 1 + draws.below(events.len() as u64 - 1) as usize;
        let live = "evt-window -q -m m.toml --out-of-orderness 0s --checkpoint state --to sqlite:live.db";
        dir.shell("rm -rf state log.* *.db").succeeds();
        dir.write("log.1", text(&events[..cut]));
        dir.shell(&format!("{live} log.1")).succeeds();
        dir.write("log.2", text(&events[cut..]));
        dir.shell(&format!("{live} log.2")).succeeds();
        dir.shell(&format!("{live} --at-end fire /dev/null")).succeeds();
        let stored = || dir.shell("evt-view -q 'sqlite:live.db?table=aggregated_metrics' -o jsonl").succeeds();
        assert_eq!(sessions(&stored()), wanted, "{draws} case {case}, cut at {cut}");
        // A correction of the stored rows agrees, from the log and from a table.
        dir.shell("evt-ingest -q e.jsonl --to raw.db").succeeds();
        for input in ["e.jsonl", "sqlite:raw.db?table=raw_events"] {
            let line =
                format!("evt-backfill -m m.toml --out-of-orderness 0s --all-records '{input}' --to live.db --dry-run");
            let run = dir.shell(&line.replace("--all-records 'sqlite", "--all-closed 'sqlite")).succeeds();
            assert!(
                run.stderr().contains("0 would be corrected, 0 would be inserted, 0 would be retracted"),
                "{draws} case {case}: {run}"
            );
        }
    }
}
