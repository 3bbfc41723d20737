//! `--dedup` beyond memory: no id within the span is forgotten.

use crate::bucket::CheckpointLocation;
use crate::checkpoint_pipes::Pipe;
use crate::harness::{Dir, Draws, Run, eventually};
use rustix::process::Signal;
use serde_json::Value;
use std::fmt::Write;
use std::ops::Range;

/// Events with these numbers as ids, two hundred a second.
fn events(numbers: Range<u32>, begin: u32) -> String {
    let mut text = String::new();
    for (at, number) in numbers.enumerate() {
        let second = (begin + at as u32) / 200;
        let time = format!("2026-01-01T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60);
        writeln!(text, "{{\"event_id\":\"00000000-0000-4000-8000-{number:012}\",\"t\":\"{time}\"}}").expect("a string");
    }
    text
}

fn stats(dir: &Dir) -> Value {
    serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON")
}

const VALIDATE: [&str; 8] = ["-q", "in.jsonl", "--time", "t", "--to", "null:", "--stats", "stats.json"];

#[test]
fn repeats_of_more_ids_than_fit_into_memory_are_all_found() {
    let dir = Dir::new("dedup-memory");
    // The default bound has room for fewer than a million ids.
    dir.write(
        "in.jsonl",
        events(0..1_000_000, 0) + &events(0..1_000, 1_000_000) + &events(999_000..1_001_000, 1_001_000),
    );
    for more in [&["--dedup", "10h"][..], &["--dedup", "10h", "--memory", "8MiB"]] {
        let run = dir.run("evt-validate", &[&VALIDATE[..], more].concat()).succeeds();
        assert_eq!(run.stderr(), "");
        let stats = stats(&dir);
        assert_eq!(
            (&stats["counts"]["duplicate"], &stats["counts"]["out"]),
            (&2_000.into(), &1_001_000.into()),
            "{stats}"
        );
        assert!(stats["state_written"].as_u64() > Some(20_000_000), "{stats}");
    }
    // A minute has 12,000 events: ids that are over leave memory before it is full.
    let run = dir.run("evt-validate", &[&VALIDATE[..], &["--dedup", "1m", "--memory", "8MiB"]].concat()).succeeds();
    assert_eq!((run.stderr(), &stats(&dir)["state_written"]), (String::new(), &0.into()));
}

#[test]
fn ids_beyond_memory_without_a_place_for_files_are_exit_status_74() {
    let dir = Dir::new("dedup-missing");
    dir.write("in.jsonl", events(0..80_000, 0));
    let args = [&VALIDATE[..], &["--dedup", "1h", "--memory", "8MiB"]].concat();
    let run = Run::of(dir.command("evt-validate", &args).env("TMPDIR", dir.path("none")));
    assert!(run.stderr().contains("TMPDIR"), "{run}");
    run.ends_with(74);
    dir.run("evt-validate", &[&VALIDATE[..], &["--memory", "8MiB"]].concat()).ends_with(2);
}

/// Ids that an epoch has in files are known after a kill, and with another bound.
#[test]
fn ids_in_files_of_a_checkpoint_survive_kills() {
    let dir = Dir::new("dedup-kills");
    let place = CheckpointLocation::directory(&dir);
    dir.write("in.jsonl", events(0..150_000, 0) + &events(0..30_000, 150_000) + &events(140_000..160_000, 180_000));
    let stages = |memory: &str| {
        let to_text = |args: &[&str]| args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>();
        let ingest = ["-q", "--checkpoint", &place.name, "--checkpoint-every", "20ms", "--time", "t", "in.jsonl"];
        vec![
            ("evt-ingest", to_text(&ingest)),
            ("evt-validate", to_text(&["-q", "--dedup", "1h", "--memory", memory])),
            ("evt-sink", to_text(&["-q", "--to", "rows.jsonl"])),
        ]
    };
    let files = || {
        let epochs =
            std::fs::read_dir(place.files.join("epochs")).into_iter().flatten().map(|one| one.expect("a file").path());
        let parts = epochs.flat_map(|epoch| std::fs::read_dir(epoch).into_iter().flatten());
        let names = parts.filter_map(|part| part.ok()?.file_name().into_string().ok());
        names.filter(|name| name.starts_with("state-")).count()
    };
    let mut draws = Draws::new();
    let (mut kills, mut most) = (0, 0);
    // On a slow disk an epoch has many rows, and the pipe reads all of them before a kill.
    let mut turn = 0;
    while turn < 8 || kills < 3 || most == 0 {
        assert!(turn < 200, "{draws}: only {kills} kills, {most} files");
        let before = place.entries();
        let mut pipe = Pipe::start(&dir, &stages(["8MiB", "64MiB"][turn % 2]));
        let wanted = before + 2 + draws.below(4) as usize;
        eventually("epochs are complete, or the pipe has ended", || place.entries() >= wanted || pipe.has_ended());
        let killed = draws.below(4) as usize;
        (0..3).filter(|stage| killed == 3 || *stage == killed).for_each(|stage| pipe.signal(stage, Signal::KILL));
        kills += pipe.wait().iter().filter(|status| **status == 137).count();
        most = files().max(most);
        turn += 1;
    }
    assert_eq!(Pipe::start(&dir, &stages("8MiB")).wait(), [0; 3], "{draws}");
    let rows = dir.rows("rows.jsonl");
    let ids: std::collections::BTreeSet<String> = rows.iter().map(|row| row["event_id"].to_string()).collect();
    assert_eq!((rows.len(), ids.len()), (160_000, 160_000), "{draws}");
    dir.run("evt-view", &[&place.name]).succeeds();
}

/// A job that gets a file with a name of its own each day.
#[test]
fn a_job_that_reads_a_new_file_each_day_keeps_the_ids_of_few_days() {
    let dir = Dir::new("dedup-days");
    let day =
        |at: u32| events(at * 1_000..at * 1_000 + 1_000, 0).replace("2026-01-01", &format!("2026-01-{:02}", at + 1));
    let run = |files: &str| {
        let first = format!("evt-ingest -q --checkpoint state --time t {files}");
        let run = dir.shell(&format!("set -o pipefail; {first} | evt-validate -q --dedup 1h --to rows.jsonl"));
        assert_eq!(run.succeeds().stderr(), "");
    };
    let size = || {
        let last = "cat $(ls -d state/epochs/*/2-evt-validate.state | sort -V | tail -1)";
        dir.shell(last).succeeds().stdout().len()
    };
    let mut sizes = vec![];
    for at in 0..7 {
        let name = format!("day-{at}.jsonl");
        dir.write(&name, day(at));
        run(&name);
        sizes.push(size());
    }
    assert!(sizes[0] > 28_000 && sizes[6] < sizes[0] + 1_000, "{sizes:?}");
    // Repeats in files that are read on are found: in the last one, and in one that is named beside the last one.
    let repeat = |at: u32| {
        let name = format!("day-{at}.jsonl");
        dir.write(&name, [dir.bytes(&name), day(at).into_bytes()].concat());
    };
    repeat(6);
    run("day-6.jsonl");
    dir.write("day-7.jsonl", day(7));
    run("day-6.jsonl day-7.jsonl");
    repeat(6);
    repeat(7);
    run("day-6.jsonl day-7.jsonl");
    let rows = dir.rows("rows.jsonl");
    let ids: std::collections::BTreeSet<String> = rows.iter().map(|row| row["event_id"].to_string()).collect();
    assert_eq!((rows.len(), ids.len()), (8_000, 8_000));
}
