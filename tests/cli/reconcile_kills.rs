//! evt-reconcile killed at random: no temporary file stays, a report is whole or absent, and no input is damaged.

use crate::harness::{Dir, Draws, is_killed_within};
use rusqlite::Connection;
use std::process::Stdio;
use std::time::Instant;

/// Kills this many runs that are alive. No run may leave a temporary file, or a report that is not that of an
/// undisturbed run.
fn kill(dir: &Dir, args: &[&str], kills: usize, draws: &mut Draws) {
    let args = |to: &'static str| [args, &["-q", "--now", "2026-01-01T00:00:00Z", "--to", to]].concat();
    let start = Instant::now();
    let calm = dir.run("evt-reconcile", &args("calm"));
    let mut millis = start.elapsed().as_millis() as u64;
    let right = dir.bytes("calm");
    assert!(calm.status() <= 1 && !right.is_empty(), "{calm}");
    let mut hits = 0;
    for _ in 0..10 * kills {
        let mut command = dir.command("evt-reconcile", &args("report"));
        command.env("TMPDIR", dir.path("tmp")).stdin(Stdio::null()).stderr(Stdio::null());
        let start = Instant::now();
        if is_killed_within(&mut command, draws.below(millis)) {
            hits += 1;
        } else {
            // The calm run may have been delayed. A kill after the end of this run would rarely find one alive.
            millis = millis.min(start.elapsed().as_millis() as u64 + 1);
        }
        let left: Vec<_> = std::fs::read_dir(dir.path("tmp")).expect("it is there").collect();
        assert!(left.is_empty(), "{draws}: {left:?} after {args:?}", args = args("report"));
        if let Ok(report) = std::fs::read(dir.path("report")) {
            let [found, right] = [&report, &right].map(|bytes| String::from_utf8_lossy(bytes));
            assert_eq!(found, right, "{draws}");
            std::fs::remove_file(dir.path("report")).expect("it is ours");
        }
        if hits == kills {
            return;
        }
    }
    panic!("{draws}: {hits} runs were alive when they were killed, expected {kills}");
}

#[test]
fn a_run_that_is_killed_leaves_no_temporary_file_and_no_part_of_a_report() {
    let dir = Dir::new("reconcile-kills");
    // Of a compressed file a temporary copy is made.
    let make = "evt-gen --events 20k --seed 3 -q | evt-ingest -q - --origin a --to parquet:lake --to m.db --to a.parquet \
                && gzip a.parquet && mkdir tmp && evt-view -q parquet:lake --where 'offset % 1000 <> 7' -o frames --to b.frames";
    dir.shell(make).succeeds();
    let mut draws = Draws::new();
    kill(&dir, &["a.parquet.gz", "b.frames", "--by", "id", "--ids", "-o", "jsonl"], 10, &mut draws);
    kill(&dir, &["m.db", "b.frames", "-o", "table"], 10, &mut draws);
    kill(&dir, &["parquet:lake", "m.db", "--by", "id", "-o", "prometheus"], 10, &mut draws);
    let database = Connection::open(dir.path("m.db")).expect("a database");
    let found: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it runs");
    assert_eq!(found, "ok", "{draws}");
}

/// More rows than are sorted in memory: runs are killed while they write, merge and read their sorted runs.
#[test]
fn a_run_that_is_killed_while_it_sorts_on_disk_leaves_no_temporary_file() {
    let dir = Dir::new("reconcile-kills-disk");
    let event = |n: u64| {
        let id = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!(
            "{{\"event_id\":\"{:08x}-0000-4000-8000-{n:012x}\",\"server_timestamp\":\"2024-01-15T10:00:00Z\"}}\n",
            id >> 32
        )
    };
    let lines: String = (0..270_000).map(event).collect();
    dir.write("a.jsonl", &lines);
    dir.write("b.jsonl", &lines[..lines.len() / 270_000 * 269_990]);
    dir.shell("mkdir tmp").succeeds();
    kill(&dir, &["a.jsonl", "b.jsonl", "--by", "id", "--ids", "-o", "jsonl"], 6, &mut Draws::new());
}
