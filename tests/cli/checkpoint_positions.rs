//! The table pipeline_checkpoints of databases: how far each file was read, in the transaction of the rows.

use crate::checkpoint::{Job, METRICS, cut, generated, ordered, run_with_kills};
use crate::harness::{Dir, Draws};
use crate::servers::{postgres, psql};
use rusqlite::Connection;

/// Returns the first column of the rows of a query.
fn asked(dir: &Dir, sql: &str) -> Vec<String> {
    let db = Connection::open(dir.path("m.db")).expect("a database");
    let mut select = db.prepare(sql).expect("the tables");
    select.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a text")).collect()
}

const POSITIONS: &str = r#"SELECT consumer_group || ' ' || topic || ' ' || "partition" || ' ' || "offset" || ' ' ||
    coalesce(watermark, 'none') FROM pipeline_checkpoints ORDER BY topic"#;

#[test]
fn a_database_tells_how_far_each_file_was_read() {
    // One epoch in each run, however long it takes.
    let once = ["--checkpoint-every", "1h", "--pipeline", "shop", "--late", "null:", "--to", "sqlite:m.db"];
    let job = Job::new("positions", &once);
    job.dir.write("a.jsonl", ordered(0..5));
    job.dir.write("b.jsonl", ordered(5..6));
    job.run(&["-q", "a.jsonl"]).succeeds();
    // 75 events, the last one at 00:04:56, and 3 s of --out-of-orderness.
    assert_eq!(asked(&job.dir, POSITIONS), ["shop a.jsonl 0 76 2026-01-01T00:04:53.000000Z"]);
    let times = "SELECT updated_at FROM pipeline_checkpoints WHERE topic = 'a.jsonl'";
    let before = asked(&job.dir, times);
    job.run(&["-q", "b.jsonl"]).succeeds();
    let after = ["shop a.jsonl 0 76 2026-01-01T00:05:53.000000Z", "shop b.jsonl 0 16 2026-01-01T00:05:53.000000Z"];
    assert_eq!(asked(&job.dir, POSITIONS), after);
    assert_ne!(asked(&job.dir, times), before);
    job.run(&["-q", "--at-end", "fire", "/dev/null"]).succeeds();
    let closed = ["shop a.jsonl 0 76 2026-01-01T00:04:56.000000Z", "shop b.jsonl 0 16 2026-01-01T00:05:56.000000Z"];
    assert_eq!(asked(&job.dir, POSITIONS), closed, "all windows have fired");
    let epochs = "SELECT output || ' ' || run || ' ' || epoch FROM checkpoint_epochs";
    let [epoch] = asked(&job.dir, epochs).try_into().expect("one output");
    let run = &job.dir.rows("state/log/5")[0]["start"]["recorded_as"];
    assert!(epoch.ends_with(&format!("/1-evt-window/to-0 {run} 1")), "{epoch}");
}

/// The database is behind the stage with the windows, and has the watermark of that stage.
#[test]
fn a_database_behind_the_windows_has_their_watermark() {
    let dir = Dir::new("positions-pipe");
    dir.write("m.toml", METRICS);
    dir.write("a.jsonl", ordered(0..5));
    dir.write("b.jsonl", ordered(5..6));
    let pipe = |file: &str, at_end: &str| {
        let ingest = format!("evt-ingest -q --dlq null: --checkpoint state --checkpoint-every 1h {file}");
        let window = format!("evt-window -q -m m.toml --out-of-orderness 3s --late null: --at-end {at_end}");
        dir.shell(&format!("{ingest} | {window} | evt-sink -q --pipeline shop --to sqlite:m.db")).succeeds();
        asked(&dir, POSITIONS)
    };
    assert_eq!(pipe("a.jsonl", "hold"), ["shop a.jsonl 0 76 2026-01-01T00:04:53.000000Z"]);
    let after = ["shop a.jsonl 0 76 2026-01-01T00:05:53.000000Z", "shop b.jsonl 0 16 2026-01-01T00:05:53.000000Z"];
    assert_eq!(pipe("b.jsonl", "hold"), after);
    let closed = ["shop a.jsonl 0 76 2026-01-01T00:04:56.000000Z", "shop b.jsonl 0 16 2026-01-01T00:05:56.000000Z"];
    assert_eq!(pipe("/dev/null", "fire"), closed, "all windows have fired");
}

/// An epoch in which an output gets no rows moves the positions as well.
#[test]
fn positions_move_with_epochs_that_have_no_rows() {
    let job = Job::new("positions-quiet", &["--pipeline", "shop", "--late", "null:", "--to", "sqlite:m.db"]);
    job.dir.write("m.toml", "[[metric]]\nname = \"n\"\nsize = \"1d\"\n");
    for (minutes, next) in [(5, 76), (9, 136)] {
        job.dir.write("a.jsonl", ordered(0..minutes));
        job.run(&["-q", "a.jsonl"]).succeeds();
        let offsets = r#"SELECT "offset" || '' FROM pipeline_checkpoints"#;
        assert_eq!(asked(&job.dir, offsets), [next.to_string()]);
    }
    assert_eq!(asked(&job.dir, "SELECT metric_id FROM aggregated_metrics"), [""; 0]);
}

#[test]
fn positions_in_databases_are_right_although_runs_are_killed() {
    let Some((postgres, server, schema)) = postgres() else { return };
    let mut draws = Draws::new();
    let flags = ["--pipeline", "shop", "--late", "null:", "--dlq", "null:", "--to", "sqlite:m.db", "--to", &postgres];
    let job = Job::new("positions-kills", &flags);
    let events = generated(&job.dir, 12_000);
    cut(&job.dir, &events, &[("a.jsonl", 6_000), ("b.jsonl", 7_000)]);
    let lines = |name: &str| job.dir.bytes(name).iter().filter(|byte| **byte == b'\n').count();
    let (a, b) = (lines("a.jsonl"), lines("b.jsonl"));
    let mut kills = 0;
    for file in ["a.jsonl", "b.jsonl"] {
        kills += run_with_kills(&job, &["-q", file], &mut draws, 5);
    }
    assert!(kills >= 2, "{draws}: only {kills} runs were killed");
    let offsets = r#"SELECT topic || ' ' || "offset" FROM pipeline_checkpoints ORDER BY topic"#;
    let expected = [format!("a.jsonl {}", a + 1), format!("b.jsonl {}", b + 1)];
    assert_eq!(asked(&job.dir, offsets), expected, "{draws}");
    assert_eq!(psql(&job.dir, &server, &schema, offsets), expected.map(|row| row + "\n").concat(), "{draws}");
    let watermark = "SELECT max(watermark) FROM pipeline_checkpoints";
    let text = "to_char(max(watermark) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
    let of_postgres = psql(&job.dir, &server, &schema, &watermark.replace("max(watermark)", text));
    assert_eq!([of_postgres.trim()], *asked(&job.dir, watermark));
    psql(&job.dir, &server, &schema, &format!("DROP SCHEMA {schema} CASCADE"));
}

/// Two files begin with the same lines, and their other lines differ.
#[test]
fn a_file_that_begins_like_another_one_of_the_run_does_not_take_its_position() {
    let same = ordered(0..2);
    assert!(same.len() > 1024, "{}", same.len());
    for inputs in [["a.jsonl", "b.jsonl"], ["b.jsonl", "a.jsonl"]] {
        let dir = Dir::new("positions-alike");
        let ingest = |files: &[&str]| {
            let line = format!("evt-ingest {} --checkpoint state --to sqlite:m.db", files.join(" "));
            dir.shell(&line).succeeds().stderr()
        };
        dir.write("a.jsonl", &same);
        ingest(&["a.jsonl"]);
        dir.write("a.jsonl", same.clone() + &ordered(2..3));
        dir.write("b.jsonl", same.clone() + &ordered(5..7));
        let said = ingest(&inputs);
        assert!(!said.contains("continues"), "{said}");
        let stored = "SELECT origin || ' ' || count(*) FROM raw_events GROUP BY origin ORDER BY origin";
        assert_eq!(asked(&dir, stored), ["a.jsonl 45", "b.jsonl 60"], "{inputs:?}");
        // A file that has grown under another name only, as after a rotation, continues.
        dir.shell("mv a.jsonl a.jsonl.1").succeeds();
        dir.write("a.jsonl.1", same.clone() + &ordered(2..4));
        let said = ingest(&["a.jsonl.1", "b.jsonl"]);
        assert!(said.contains("a.jsonl.1: continues a.jsonl, with whose content it begins"), "{said}");
        assert!(said.contains("in 15 "), "{said}");
    }
}

/// One file is the beginning of the other one, and has not grown.
#[test]
fn a_file_that_is_the_beginning_of_another_one_of_the_run_keeps_its_position_in_any_order() {
    let [short, long] = [ordered(0..2), ordered(0..6)];
    assert!(short.len() > 1024, "{}", short.len());
    for inputs in [["a.jsonl", "b.jsonl"], ["b.jsonl", "a.jsonl"]] {
        for begins_alone in [true, false] {
            let dir = Dir::new("positions-beginning");
            let ingest = |files: &[&str]| {
                let line = format!("evt-ingest {} --checkpoint state --to sqlite:m.db", files.join(" "));
                dir.shell(&line).succeeds().stderr()
            };
            dir.write("a.jsonl", &short);
            dir.write("b.jsonl", &long);
            if begins_alone {
                ingest(&["a.jsonl"]);
            }
            let new = if begins_alone { 90 } else { 120 };
            for count in [new, 0] {
                let said = ingest(&inputs);
                let is_right = !said.contains("continues") && said.contains(&format!("in {count} "));
                assert!(is_right, "{inputs:?}, {begins_alone}, {count}: {said}");
                let stored = "SELECT origin || ' ' || count(*) FROM raw_events GROUP BY origin ORDER BY origin";
                assert_eq!(asked(&dir, stored), ["a.jsonl 30", "b.jsonl 90"], "{inputs:?}, {begins_alone}");
            }
        }
    }
}
