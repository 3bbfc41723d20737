//! evt-backfill counts late events in sessions: what it leaves equals one run that knows no lateness.

use crate::backfill::{Cells, RETAIL_TIME, cells, kill_within, run_live, stores};
use crate::edges::parsed;
use crate::harness::{Dir, Draws, data};

/// The sums of a session are not integers, and the customers are counted approximately.
const METRICS: &str = r#"
[defaults]
by = ["CustomerID"]
where = "CustomerID is not null"
[[metric]]
name = "visits"
aggregate = "sum(Quantity * UnitPrice)"
gap = "2h"
lateness = "10m"
[[metric]]
name = "visitors"
aggregate = "approx_distinct(CustomerID)"
by = ["Country"]
gap = "30m"
[[metric]]
name = "revenue"
aggregate = "sum(Quantity * UnitPrice)"
by = ["Country"]
size = "1d"
lateness = "1h"
"#;
const DAYS: usize = 6;
/// The day before which live ran.
const SEAM: usize = 3;

/// Splits the rows of some days at the seam, but leaves one in thirty older rows to the second part; returns the number
/// of these.
fn split(dir: &Dir, archive: &std::path::Path) -> usize {
    dir.shell(&format!("tar -xzf {}", archive.display())).succeeds();
    let days = std::fs::read_dir(dir.path("by-day")).expect("it was unpacked");
    let mut days: Vec<_> = days.map(|day| day.expect("a file").path()).collect();
    days.sort();
    let mut draws = Draws::of(17);
    let (mut one, mut two, mut older) = (String::new(), String::new(), String::new());
    for (at, day) in days[..DAYS].iter().enumerate() {
        let text = std::fs::read_to_string(day).expect("it was unpacked");
        let (header, rows) = text.split_once('\n').expect("a header");
        if at == 0 {
            one = format!("{header}\n");
        }
        for (row, line) in rows.lines().enumerate() {
            let part = match (at < SEAM, row) {
                (true, _) if draws.below(30) == 0 => &mut older,
                (true, _) => &mut one,
                (false, _) => &mut two,
            };
            part.push_str(line);
            part.push('\n');
        }
    }
    // They arrive behind a row of the next day, so they are late.
    let (first, rest) = two.split_once('\n').expect("a row");
    dir.write("one.csv", &one);
    dir.write("whole.csv", format!("{one}{first}\n{older}{rest}"));
    dir.write("metrics.toml", METRICS);
    for name in ["one", "whole"] {
        let ingest = format!("evt-ingest -q - -f csv --origin in {RETAIL_TIME} -o frames < {name}.csv > {name}.frames");
        dir.shell(&ingest).succeeds();
    }
    older.lines().count()
}

/// Runs live over all rows, with and without lateness; the first run writes the late events.
fn whole_runs(dir: &Dir, late: usize) -> (Cells, Cells) {
    let window = "evt-window -q -m metrics.toml whole.frames";
    let live = format!("{window} --late late.jsonl | evt-sink -q --to sqlite:live.db");
    dir.shell(&live).succeeds();
    dir.shell(&format!("{window} --out-of-orderness all | evt-sink -q --to sqlite:right.db")).succeeds();
    assert!(dir.rows("late.jsonl").len() > late / 2, "those without a customer are of no metric");
    let (live, right) = (cells(dir, "sqlite:live.db"), cells(dir, "sqlite:right.db"));
    for name in ["visits ", "visitors ", "revenue "] {
        let of = |cells: &Cells| cells.clone().into_iter().filter(|(key, _)| key.starts_with(name)).collect::<Cells>();
        assert_ne!(of(&live), of(&right), "{name}: late events are missing");
    }
    (live, right)
}

#[test]
fn sessions_across_a_seam_count_the_late_events_and_equal_one_run_over_the_whole() {
    let Some(archive) = data("events/online-retail-2010-12_2011-06.tar.gz") else { return };
    let dir = Dir::live("session-seam");
    let late = split(&dir, &archive);
    let (_, right) = whole_runs(&dir, late);
    for store in stores("seam") {
        run_live(&dir, "one.frames", "metrics.toml", &store);
        assert_ne!(cells(&dir, &store), right, "{store}: the first part lacks the second one");
        let range = "--since 2010-11-30T00:00:00Z --until 2010-12-31T00:00:00Z";
        let line = format!("evt-backfill whole.frames -m metrics.toml --late-events late.jsonl {range} --to '{store}'");
        let said = dir.shell(&line).succeeds();
        assert_eq!(cells(&dir, &store), right, "{store}\n{said}");
        let again = dir.shell(&format!("{line} --dry-run")).succeeds();
        assert_eq!(again.text(), "", "{store}: nothing is wrong any more");
    }
}

#[test]
fn late_events_correct_only_their_sessions_and_every_later_run_agrees_until_they_are_removed() {
    let Some(archive) = data("events/online-retail-2010-12_2011-06.tar.gz") else { return };
    let dir = Dir::live("session-late");
    let late = split(&dir, &archive);
    let (live, right) = whole_runs(&dir, late);
    dir.shell("evt-view -q whole.frames -o frames | evt-sink -q --to parquet:raw").succeeds();
    for (store, input) in stores("late").into_iter().zip(["whole.frames", "parquet:raw", "whole.frames"]) {
        run_live(&dir, "whole.frames", "metrics.toml", &store);
        assert_eq!(cells(&dir, &store), live);
        let line = format!("evt-backfill {input} -m metrics.toml --to '{store}'");
        let with_late = format!("{line} --late-events late.jsonl");
        let shown = dir.shell(&format!("{with_late} --dry-run")).ends_with(1);
        assert_eq!(cells(&dir, &store), live);
        let said = dir.shell(&with_late).succeeds();
        assert_eq!(cells(&dir, &store), right, "{store}\n{said}");
        // What differs is what was shown.
        let differs = |key: &&String| live.get(*key) != right.get(*key);
        let keys: std::collections::BTreeSet<&String> = live.keys().chain(right.keys()).filter(differs).collect();
        assert_eq!(shown.rows().len(), keys.len(), "{store}: {shown}");
        let range = "--since 2010-12-02T00:00:00Z --until 2010-12-03T12:00:00Z";
        for again in [&with_late, &format!("{line} --dry-run"), &format!("{line} {range} --dry-run")] {
            let again = dir.shell(again).succeeds();
            let said = again.stderr().replace("would be ", "");
            assert!(!said.contains("sessions of late events"), "{again}");
            assert!(said.contains("cells: 0 corrected, 0 inserted, 0 retracted"), "{again}");
        }
        assert_eq!(cells(&dir, &store), right, "{store}");
        // The first records of a lake may be gone: then it does not lower what is stored.
        let said = dir.shell(&format!("{line} --without-late --all-records")).succeeds();
        assert!(said.stderr().contains("cells no longer count late events"), "{said}");
        assert_eq!(cells(&dir, &store), live, "{store}\n{said}");
        dir.shell(&format!("{line} --dry-run")).succeeds();
    }
}

#[test]
fn a_correction_of_sessions_that_is_killed_at_any_point_ends_equal_after_the_next_run() {
    let Some(archive) = data("events/online-retail-2010-12_2011-06.tar.gz") else { return };
    let dir = Dir::live("session-killed");
    let late = split(&dir, &archive);
    let (live, right) = whole_runs(&dir, late);
    let mut draws = Draws::new();
    for store in stores("killed") {
        run_live(&dir, "whole.frames", "metrics.toml", &store);
        for round in 0..4 {
            // The position in a stream of late events is kept; another name is another stream.
            let late = format!("late{round}.jsonl");
            dir.write(&late, dir.bytes("late.jsonl"));
            let args =
                ["-q", "whole.frames", "-m", "metrics.toml", "--late-events", &late, "--rate", "20000", "--to", &store];
            kill_within(&dir, &args, 400, 3, &mut draws);
            let line = format!("evt-backfill whole.frames -m metrics.toml --to '{store}'");
            let said = dir.shell(&format!("{line} --late-events {late}")).succeeds();
            assert_eq!(cells(&dir, &store), right, "{store} {draws}\n{said}");
            let said = dir.shell(&format!("{line} --without-late")).succeeds();
            assert_eq!(cells(&dir, &store), live, "{store} {draws}\n{said}");
        }
    }
}

const SMALL: &str = r#"
[[metric]]
name = "visit"
by = ["k"]
gap = "90s"
[[metric]]
name = "minute"
size = "1m"
"#;

/// Writes events of two keys, two of them late: `a` has one long session, and a late event connects two sessions of
/// `b`.
fn small(dir: &Dir) {
    let mut rows: Vec<(&str, u32)> = (0..=10).map(|minute| ("a", minute * 60)).collect();
    rows.extend([("b", 660), ("b", 810), ("z", 7200), ("a", 330), ("b", 735), ("z", 7201)]);
    let row = |(key, second): &(&str, u32)| {
        format!("{},2026-01-01T{:02}:{:02}:{:02}Z\n", key, second / 3600, second / 60 % 60, second % 60)
    };
    dir.write("events.csv", format!("k,at\n{}", rows.iter().map(row).collect::<String>()));
    dir.shell("evt-ingest -q events.csv --time at -o frames > events.frames").succeeds();
    dir.write("metrics.toml", SMALL);
    dir.shell("evt-window -q events.frames -m metrics.toml --late late.jsonl | evt-sink -q --to sqlite:live.db")
        .succeeds();
    assert_eq!(dir.rows("late.jsonl").len(), 2);
}

/// The sessions of a store: key, clock times of start and end, and number of events.
fn visits(dir: &Dir, store: &str) -> Vec<(String, String, String)> {
    let cells = cells(dir, store).into_iter().filter(|(key, _)| key.starts_with("visit "));
    let part = |key: &str, at: usize| key.split(' ').nth(at).expect("a key")[11..19].to_owned();
    cells
        .map(|(key, (_, rows))| {
            (
                format!("{} {}", part(&key, 1), part(&key, 2)),
                key[key.find('{').expect("JSON")..].to_owned(),
                rows.to_string(),
            )
        })
        .collect()
}

#[test]
fn a_late_event_that_connects_two_sessions_retracts_them() {
    let dir = Dir::live("session-bridge");
    small(&dir);
    for store in stores("bridge") {
        dir.shell(&format!(
            "evt-view -q 'sqlite:live.db?table=aggregated_metrics' -o frames | evt-sink -q --to '{store}'"
        ))
        .succeeds();
        let line = format!("evt-backfill events.frames -m metrics.toml --late-events late.jsonl --to '{store}'");
        let said = dir.shell(&line).succeeds();
        assert!(said.stderr().contains("cells: 2 corrected, 2 inserted, 2 retracted, 0 right"), "{said}");
        let visit =
            |span: &str, key: &str, rows: &str| (span.to_owned(), format!(r#"{{"k":"{key}"}}"#), rows.to_owned());
        let wanted = [
            visit("00:00:00 00:11:30", "a", "12"),
            visit("00:11:00 00:15:00", "b", "3"),
            visit("02:00:00 02:01:31", "z", "2"),
        ];
        assert_eq!(visits(&dir, &store), wanted, "{said}");
    }
}

#[test]
fn a_session_of_a_late_event_that_may_extend_beyond_what_was_read_is_left_alone_and_tried_again() {
    let dir = Dir::live("session-edge");
    small(&dir);
    dir.shell("grep '\"a\"' late.jsonl > one.jsonl").succeeds();
    let before = cells(&dir, "sqlite:live.db");
    let line = "evt-backfill events.frames -m metrics.toml --only visit --late-events one.jsonl --to sqlite:live.db";
    let said = dir.shell(&format!("{line} --before 1m")).ends_with(1);
    assert!(
        said.stderr()
            .contains("1 session of late events not corrected, because it may extend beyond what was read (--before)"),
        "{said}"
    );
    assert_eq!(cells(&dir, "sqlite:live.db"), before);
    let said = dir.shell(line).succeeds();
    assert!(said.stderr().contains("cells: 1 corrected, 0 inserted, 0 retracted, 0 right"), "{said}");
    // A range that ends inside of the session leaves it as it was corrected.
    let line = "evt-backfill events.frames -m metrics.toml --to sqlite:live.db --dry-run --since 2026-01-01T00:05:00Z";
    let said = dir.shell(line).succeeds();
    assert!(said.stderr().contains("0 would be inserted, 0 would be retracted"), "{said}");
}

#[test]
fn late_events_that_one_run_left_out_are_corrected_by_the_next() {
    let dir = Dir::live("late-left-out");
    small(&dir);
    let line = "evt-backfill events.frames -m metrics.toml --late-events late.jsonl --to sqlite:live.db";
    let only = dir.shell(&format!("{line} --only visit")).succeeds();
    assert!(only.stderr().contains("cells: 1 corrected, 1 inserted, 2 retracted"), "{only}");
    let closed = dir.shell(&format!("{line} --only minute --closed-before 2026-01-01T00:11:00Z")).succeeds();
    assert!(closed.stderr().contains("cells: 1 corrected, 0 inserted, 0 retracted"), "{closed}");
    let rest = dir.shell(line).succeeds();
    assert!(rest.stderr().contains("cells: 0 corrected, 1 inserted, 0 retracted, 1 right"), "{rest}");
    let again = dir.shell(line).succeeds();
    assert!(again.stderr().contains("cells: 0 corrected, 0 inserted, 0 retracted, 0 right"), "{again}");
}

#[test]
fn an_event_that_was_late_because_its_partition_was_idle_corrects_its_windows_and_its_session() {
    let dir = Dir::live("late-idle");
    let row =
        |n: u32, p: &str, second: u32| format!("{n},{p},k,2026-01-01T00:{:02}:{:02}Z\n", second / 60, second % 60);
    let one: String = (0..10).map(|minute| row(minute, "p0", minute * 60)).collect();
    dir.write("one.csv", format!("n,p,k,at\n{one}"));
    // By its own partition this event is in time.
    dir.write("all.csv", format!("n,p,k,at\n{one}{}", row(0, "p1", 330)));
    dir.write("metrics.toml", SMALL);
    for name in ["one", "all"] {
        let line = format!(
            "evt-ingest -q - -f csv --origin in --time at --field partition=p --field offset=n -o frames < {name}.csv \
             > {name}.frames; \
             evt-window -q {name}.frames -m metrics.toml --out-of-orderness all | evt-sink -q --to sqlite:{name}.db"
        );
        dir.shell(&line).succeeds();
    }
    let rows = dir.run("evt-view", &["-q", "-o", "jsonl", "all.frames"]).succeeds().rows();
    let mut late = rows.into_iter().find(|row| row["partition"] == "p1").expect("it is there");
    late["late_for"] = serde_json::json!(["visit", "minute"]);
    late["lateness_ms"] = 0.into();
    late["partial"] = false.into();
    dir.write("late.jsonl", format!("{late}\n"));
    let line = "evt-backfill all.frames -m metrics.toml --late-events late.jsonl --to sqlite:one.db";
    let said = dir.shell(line).succeeds();
    assert!(said.stderr().contains("cells: 2 corrected, 0 inserted, 0 retracted, 0 right"), "{said}");
    assert_eq!(cells(&dir, "sqlite:one.db"), cells(&dir, "sqlite:all.db"), "{said}");
}

#[test]
fn windows_that_wait_for_late_events_go_to_files_beyond_the_bound_of_memory_and_give_the_same_cells() {
    let dir = Dir::live("session-memory");
    let metric = |name: &str, shape: &str| {
        format!("[[metric]]\nname = \"{name}\"\naggregate = \"count(*)\"\nby = [\"event_id\"]\n{shape}\n")
    };
    dir.write("metrics.toml", metric("visits", "gap = \"1m\"") + &metric("events", "size = \"1m\""));
    dir.shell("evt-gen --events 60k --seed 9 --late 2% | evt-ingest -q -o frames > raw.frames").succeeds();
    dir.shell("evt-view -q raw.frames -o frames | evt-sink -q --to parquet:raw").succeeds();
    let live = "evt-window -q -m metrics.toml raw.frames --late late.jsonl | evt-sink -q --to sqlite:live.db";
    dir.shell(live).succeeds();
    let before = cells(&dir, "sqlite:live.db");
    let mut found = vec![];
    for (input, memory) in [("raw.frames", ""), ("raw.frames", "--memory 8MiB"), ("parquet:raw", "--memory 8MiB")] {
        dir.shell("cp live.db right.db").succeeds();
        let line =
            format!("evt-backfill -q {input} -m metrics.toml --late-events late.jsonl {memory} --to sqlite:right.db");
        dir.shell(&format!("{line} --stats stats.json")).succeeds();
        let written = parsed(&dir.bytes("stats.json"))["state_written"].as_u64();
        assert_eq!(written > Some(0), !memory.is_empty(), "{input}: {written:?}");
        found.push(cells(&dir, "sqlite:right.db"));
        assert_eq!(dir.shell(&format!("{line} --dry-run")).succeeds().text(), "", "{input} {memory}");
    }
    assert!(found[0].len() > before.len() + 1000, "{} {}", found[0].len(), before.len());
    assert!(found[1] == found[0] && found[2] == found[0], "the bound of memory changes cells");
}
