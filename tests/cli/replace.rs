//! Replacing a file or the days of a lake: at a proven end, completely or not at all.

use crate::faults;
use crate::harness::{Dir, Draws, ROOT, Run, bin_dir, eventually, in_ci, listens, python, status};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Lines of events, a second apart, from 2026-01-01 on.
fn lines(count: usize) -> String {
    let line = |at: usize| format!("{{\"t\":\"2026-01-01T00:{:02}:{:02}Z\",\"n\":{at}}}\n", at / 60, at % 60);
    (0..count).map(line).collect()
}

/// A run that reads a pipe whose writer keeps it open.
struct Waiting {
    run: Child,
    input: ChildStdin,
}

impl Waiting {
    /// Starts `evt-ingest -` with these outputs, and returns when `count` rows have gone through all of them.
    fn after(dir: &Dir, outputs: &[&str], count: usize) -> Self {
        let mut args = vec!["-q", "-", "-f", "jsonl", "--time", "t"];
        args.extend(outputs);
        // evt writes the outputs in the order of the command line, so all outputs have the rows of the last one.
        args.extend(["--to", "seen.jsonl"]);
        let mut command = dir.command("evt-ingest", &args);
        let mut run =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut input = run.stdin.take().expect("it is piped");
        input.write_all(lines(count).as_bytes()).expect("it reads");
        let name = if outputs.contains(&"--overwrite") { "seen.jsonl.part" } else { "seen.jsonl" };
        let seen = || std::fs::read(dir.path(name)).unwrap_or_default();
        eventually("the rows are written", || memchr::memchr_iter(b'\n', &seen()).count() == count);
        Self { run, input }
    }

    /// Ends it by a signal; returns its stderr.
    fn stopped(self, signal: Signal) -> String {
        eventually("it listens", || listens(&self.run));
        kill_process(Pid::from_child(&self.run), signal).expect("it is our child");
        let output = self.run.wait_with_output().expect("it ends");
        drop(self.input);
        assert_eq!(status(output.status), 128 + signal.as_raw());
        String::from_utf8(output.stderr).expect("our messages are UTF-8")
    }
}

#[test]
fn a_stopped_run_replaces_no_file_and_leaves_what_it_read_in_a_whole_part() {
    for (name, signal) in ["x.parquet", "x.avro", "x.arrows", "x.csv", "x.jsonl"]
        .into_iter()
        .zip([Signal::TERM, Signal::INT].into_iter().cycle())
    {
        let dir = Dir::new("stopped");
        dir.write("old.jsonl", lines(60));
        let overwrite = ["--overwrite", "--to", name];
        dir.run("evt-ingest", &[&["-q", "old.jsonl", "--time", "t"], &overwrite[..]].concat()).succeeds();
        let old = dir.bytes(name);
        let said = Waiting::after(&dir, &overwrite, 40).stopped(signal);
        assert!(dir.bytes(name) == old, "{name}: the file is another");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(&format!("{name}: stopped before the end of the input: not replaced")), "{said}");
        assert!(said.trim_end().ends_with(&format!("{name}.part")), "{said}");
        let part = dir.run("evt-view", &["-q", &format!("{name}.part"), "-o", "jsonl"]).succeeds();
        assert_eq!(part.rows().len(), 40, "{name}: {part}");
        // The next complete run overwrites the part, and no row of the stopped run remains.
        dir.write("new.jsonl", lines(70));
        dir.run("evt-ingest", &[&["-q", "new.jsonl", "--time", "t"], &overwrite[..]].concat()).succeeds();
        assert_eq!(dir.run("evt-view", &["-q", name, "-o", "jsonl"]).succeeds().rows().len(), 70, "{name}");
        assert!(!dir.path(&format!("{name}.part")).exists(), "{name}");
    }
}

#[test]
fn a_stopped_run_gives_a_new_file_its_name() {
    let dir = Dir::new("stopped");
    let said = Waiting::after(&dir, &["--overwrite", "--to", "x.parquet"], 40).stopped(Signal::TERM);
    assert_eq!(said, "");
    assert_eq!(dir.run("evt-view", &["-q", "x.parquet", "-o", "jsonl"]).succeeds().rows().len(), 40);
    assert!(!dir.path("x.parquet.part").exists());
}

#[test]
fn a_sink_behind_a_stopped_stage_replaces_nothing_and_its_verdict_is_no() {
    for (to, flags) in [("x.parquet", vec!["--overwrite"]), ("parquet:lake?mode=replace", vec![])] {
        let dir = Dir::new("behind");
        dir.write("old.jsonl", lines(30));
        dir.run("evt-ingest", &[&["-q", "old.jsonl", "--time", "t", "--to", to], &flags[..]].concat()).succeeds();
        let shown = to.split('?').next().expect("a name");
        let view = || dir.run("evt-view", &["-q", shown, "-o", "jsonl"]).succeeds().text();
        let old = view();
        let mut first = Waiting::after(&dir, &["--to", "-"], 40);
        let frames = first.run.stdout.take().expect("it is piped");
        let args = [&["-q", "--to", to], &flags[..]].concat();
        let sink = dir.command("evt-sink", &args).stdin(frames).stderr(Stdio::piped()).spawn().expect("it starts");
        assert_eq!(first.stopped(Signal::TERM), "");
        let ended = sink.wait_with_output().expect("it ends");
        let said = String::from_utf8(ended.stderr).expect("our messages are UTF-8");
        assert_eq!((status(ended.status), said.lines().count()), (1, 1), "{said}");
        assert!(said.contains(&format!("{shown}: stopped before the end of the input")), "{said}");
        assert!(view() == old, "{to}: what was there is replaced");
    }
}

#[test]
fn days_are_not_replaced_from_an_input_without_an_end() {
    let dir = Dir::new("endless");
    dir.write("in.jsonl", lines(3));
    let lake = "parquet:lake?mode=replace";
    let cases: [(&str, &[&str]); 6] = [
        ("evt-ingest", &["http://127.0.0.1:0", "--to", lake]),
        ("evt-ingest", &["http://127.0.0.1:0", "--spool", "spool", "--dlq", lake]),
        ("evt-ingest", &["in.jsonl", "--follow", "--time", "t", "--to", lake]),
        ("evt-sink", &["kafka://127.0.0.1:1/events", "--to", lake]),
        ("evt-window", &["kafka://127.0.0.1:1/events", "--size", "1m", "--late", lake]),
        ("evt-view", &["kafka://127.0.0.1:1/events", "--follow", "--to", lake]),
    ];
    for (tool, args) in cases {
        for check in [&[][..], &["--check"]] {
            if check.is_empty() || !args.contains(&"--follow") {
                let run = dir.run(tool, &[args, check].concat()).ends_with(2);
                assert!(run.stderr().contains("replaced only at the end of the input, but "), "{run}");
                assert!(!dir.path("lake").exists() && !dir.path("spool").exists(), "{run}");
            }
        }
    }
    // It has an end, but no server.
    dir.run("evt-sink", &["kafka://127.0.0.1:1/events?end=latest&wait=1s", "--to", lake]).ends_with(69);
}

/// Runs a tool in which one kind of system call fails. Returns `None`, with one message, without Python.
fn refusing(dir: &Dir, sort: &str, tool: &str, args: &[&str]) -> Option<Run> {
    let script = format!("{ROOT}/tests/oracle/refuse.py");
    let tool = bin_dir().join(tool).display().to_string();
    let mut command: Command = dir.command(&python()?, &[&[script.as_str(), sort, &tool], args].concat());
    Some(Run::of(command.stdin(Stdio::null())))
}

#[test]
fn a_new_file_is_not_done_before_its_name_is_on_disk() {
    let dir = Dir::new("names");
    dir.write("in.jsonl", lines(3) + "no event\n");
    // Rows are synced by fdatasync, names by fsync.
    for output in [["--to", "new.jsonl"], ["--dlq", "dead.jsonl"]] {
        let args = [&["-q", "in.jsonl", "--time", "t", "--append"], &output[..]].concat();
        let Some(run) = refusing(&dir, "fsync", "evt-ingest", &args) else { return };
        let run = run.ends_with(74);
        assert!(run.stderr().contains(output[1]), "{run}");
        // A name that is on disk already needs no fsync.
        dir.write(output[1], "");
        dir.run("evt-ingest", &args);
        let again = refusing(&dir, "fsync", "evt-ingest", &args).expect("it is there");
        assert!(again.status() <= 1, "{again}");
    }
}

/// Runs `evt-ingest -q` on lines of this text into the lake, replacing days.
fn replaced(dir: &Dir, name: &str, text: &str, options: &str) -> Run {
    dir.write(name, text);
    let lake = format!("parquet:lake?mode=replace{options}");
    dir.run("evt-ingest", &["-q", name, "--time", "t", "--to", &lake])
}

fn rows_of_lake(dir: &Dir) -> usize {
    dir.run("evt-view", &["-q", "parquet:lake", "-o", "jsonl"]).succeeds().rows().len()
}

#[test]
fn a_day_that_is_a_link_or_a_mount_point_is_not_replaced_and_later_runs_write_the_lake() {
    let dir = Dir::new("linked-day");
    faults::lake_with_a_linked_day(&dir);
    let days = || dir.shell("find lake other | grep -v .evt | sort").succeeds().text();
    let rows = || dir.run("evt-view", &["-q", "parquet:lake", "-o", "jsonl"]).succeeds().rows().len();
    let append = |at: u8| {
        dir.write("more.jsonl", format!("{{\"server_timestamp\":\"2026-01-01T00:00:0{at}Z\"}}\n"));
        let args = ["-q", "more.jsonl", "--origin", &format!("more{at}"), "--to", "parquet:lake"];
        dir.run("evt-ingest", &args).succeeds();
    };
    let told = "parquet:lake/date=2026-01-01: cannot be replaced: expected a directory on the disk of the lake";
    for (at, options) in [(1, ""), (2, ",shrink=ok")] {
        let before = days();
        let lake = format!("parquet:lake?mode=replace{options}");
        let run = dir.run("evt-ingest", &["-q", "a.jsonl", "--to", &lake]).ends_with(78);
        assert!(run.stderr().contains(&format!("{told}, found a symbolic link")), "{run}");
        assert_eq!(days(), before);
        append(at);
        assert_eq!(rows(), 2 + usize::from(at));
    }
    dir.shell("mv other/disk other/away").succeeds();
    dir.run("evt-ingest", &["-q", "a.jsonl", "--to", "parquet:lake?mode=replace,shrink=ok"]).ends_with(78);
    dir.shell("mv other/away other/disk").succeeds();
    append(3);
    assert_eq!(rows(), 5);
}

#[test]
fn a_correction_of_a_day_that_is_a_link_replaces_nothing_and_later_runs_write_the_lake() {
    let dir = Dir::new("linked-metrics");
    faults::lake_with_a_linked_day(&dir);
    let live = "evt-window -q a.jsonl -m metrics.toml --late null: | evt-sink -q --to parquet:m";
    dir.shell(&format!("{live}; mv m/date=2026-01-01 other; ln -s ../other/date=2026-01-01 m")).succeeds();
    dir.shell("sed s/:00Z/:01Z/ a.jsonl | sort a.jsonl - > b.jsonl").succeeds();
    let correct = "evt-backfill -q b.jsonl -m metrics.toml --all-closed --to parquet:m";
    let before = dir.shell("evt-view -q parquet:m -o jsonl").succeeds().text();
    let run = dir.shell(correct).ends_with(78);
    assert!(run.stderr().contains("parquet:m/date=2026-01-01: cannot be replaced"), "{run}");
    assert_eq!(dir.shell("evt-view -q parquet:m -o jsonl").succeeds().text(), before);
    dir.shell(live).succeeds();
    dir.shell("rm m/date=2026-01-01; mv other/date=2026-01-01 m").succeeds();
    dir.shell(correct).succeeds();
    assert_ne!(dir.shell("evt-view -q parquet:m -o jsonl").succeeds().text(), before);
}

#[test]
fn a_day_on_which_something_is_mounted_is_not_replaced_and_later_runs_write_the_lake() {
    let dir = Dir::new("mounted-day");
    faults::lake_with_a_linked_day(&dir);
    dir.shell("rm lake/date=2026-01-01; mkdir lake/date=2026-01-01").succeeds();
    let day = "$PWD/lake/date=2026-01-01";
    for mount in [format!("mount -t tmpfs none {day}"), format!("mount --bind other/disk/date=2026-01-01 {day}")] {
        if dir.shell(&format!("unshare -rm bash -c '{mount}'")).status() != 0 {
            assert!(!in_ci(), "a user must be able to mount a file system in CI (unshare, tmpfs)");
            return eprintln!("skipped: no file system can be mounted here");
        }
        let replace = "evt-ingest -q a.jsonl --to parquet:lake?mode=replace,shrink=ok";
        let append = "sed s/-02T/-03T/ a.jsonl | tail -1 | evt-ingest -q - -f jsonl --to parquet:lake";
        let line = format!("{mount} && {replace}; echo $?; ls lake/.evt; {append}; echo $?");
        let run = dir.shell(&format!("unshare -rm bash -c '{line}'"));
        let said = run.text();
        let [first, .., last] = *said.lines().collect::<Vec<_>>() else { panic!("{run}") };
        assert!(["74", "78"].contains(&first) && last == "0", "{mount}: {run}");
        assert!(run.stderr().contains("parquet:lake/date=2026-01-01: cannot"), "{mount}: {run}");
        assert!(!said.contains("exchange.json") && !said.contains("next"), "{mount}: {run}");
    }
}

#[test]
fn the_next_run_removes_what_a_killed_trial_of_an_exchange_left_in_the_lake() {
    let dir = Dir::new("trial");
    for options in ["", "?mode=replace"] {
        std::fs::create_dir_all(dir.path("lake/.evt/.exchange-dead/left")).expect("writable");
        dir.write("in.jsonl", "{\"t\":\"2026-01-01T00:00:00Z\"}\n");
        let run = dir.run("evt-ingest", &["-q", "in.jsonl", "--time", "t", "--to", &format!("parquet:lake{options}")]);
        assert_eq!(run.succeeds().stderr(), "");
        let hidden = std::fs::read_dir(dir.path("lake/.evt")).expect("it is there").flatten();
        assert_eq!(hidden.map(|entry| entry.file_name()).collect::<Vec<_>>(), ["lock"], "{options}");
    }
}

#[test]
fn a_straggler_of_the_day_before_does_not_wipe_that_day() {
    let dir = Dir::new("straggler");
    let hours = |hours: [u8; 3]| hours.map(|hour| format!("{{\"t\":\"2026-01-01T{hour}:00:00Z\"}}\n")).concat();
    replaced(&dir, "d1.jsonl", &hours([11, 12, 13]), "").succeeds();
    let straggler = "{\"t\":\"2026-01-01T23:59:59Z\"}\n{\"t\":\"2026-01-02T01:00:00Z\"}\n";
    let run = replaced(&dir, "d2.jsonl", straggler, "").ends_with(1);
    let said = "evt-ingest: parquet:lake: nothing was replaced: 2026-01-01 has 3 rows and would have 1; rows of \
                d1.jsonl: 3 before, 0 after (shrink=ok replaces it anyway)\n";
    assert_eq!(run.stderr(), said);
    assert_eq!(rows_of_lake(&dir), 3, "a day of the run that loses nothing stays with the others");
    // Another file with as many rows may not replace the day; the same file with more rows may.
    assert!(replaced(&dir, "d3.jsonl", &hours([14, 15, 16]), "").ends_with(1).stderr().contains("rows of d1.jsonl"));
    let fewer = replaced(&dir, "d1.jsonl", &hours([11, 12, 13])[..60], "").ends_with(1);
    assert!(fewer.stderr().contains("would have 2; rows of d1.jsonl: 3 before, 2 after (shrink=ok"), "{fewer}");
    replaced(&dir, "d1.jsonl", &(hours([11, 12, 13]) + &hours([14, 15, 16])), "").succeeds();
    assert_eq!(rows_of_lake(&dir), 6);
    let lake = "parquet:lake?mode=replace";
    let args = ["d2.jsonl", "--time", "t", "--to", lake, "--stats", "stats.json"];
    let stated = dir.run("evt-ingest", &args).ends_with(1);
    assert!(stated.stderr().contains("parquet:lake: in 2 stale 2, files: none"), "{stated}");
    assert_eq!(dir.rows("stats.json")[0]["outputs"][0]["counts"]["stale"], 2);
    assert_eq!(replaced(&dir, "d2.jsonl", straggler, "&shrink=ok").succeeds().stderr(), "");
    assert_eq!(rows_of_lake(&dir), 2);
    for wrong in ["parquet:lake?shrink=ok", "parquet:lake?mode=replace&shrink=yes"] {
        dir.run("evt-ingest", &["d2.jsonl", "--time", "t", "--to", wrong]).ends_with(2);
    }
}

#[test]
fn metrics_of_a_part_of_a_day_do_not_replace_the_whole_day() {
    let dir = Dir::new("part");
    dir.write("day.jsonl", lines(180));
    dir.write("part.jsonl", &lines(180)[..lines(59).len()]);
    let window = |file: &str, options: &str| {
        let lake = format!("parquet:lake?mode=replace{options}");
        dir.run("evt-window", &["-q", file, "--time", "t", "--size", "1m", "--to", &lake])
    };
    window("day.jsonl", "").succeeds();
    window("day.jsonl", "").succeeds();
    let run = window("part.jsonl", "").ends_with(1);
    let expected = "2026-01-01 has 3 rows and would have 1; its row {\"metric_name\":\"count(*)\",";
    assert!(run.stderr().contains(expected), "{run}");
    assert_eq!(rows_of_lake(&dir), 3);
    window("part.jsonl", "&shrink=ok").succeeds();
    assert_eq!(rows_of_lake(&dir), 1);
}

#[test]
fn windows_of_a_part_of_their_events_do_not_replace_whole_windows_of_the_same_keys() {
    let dir = Dir::new("windows");
    dir.write("all.jsonl", lines(180));
    let window = |file: &str, options: &str| {
        let lake = format!("parquet:lake?mode=replace{options}");
        dir.run("evt-window", &["-q", file, "--time", "t", "--size", "1m", "--to", &lake, "--stats", "stats.json"])
    };
    let counts = || -> Vec<i64> {
        let rows = dir.run("evt-view", &["-q", "parquet:lake", "-o", "jsonl"]).succeeds().rows();
        rows.iter().map(|row| row["rows"].as_i64().expect("a number")).collect()
    };
    window("all.jsonl", "").succeeds();
    assert_eq!(counts(), [60, 60, 60]);
    // Every window has a row, but the second window has fewer events.
    let is_left = |at: &usize| !(70..90).contains(at);
    let all = lines(180);
    let part = all.split_inclusive('\n').enumerate().filter(|(at, _)| is_left(at)).map(|(_, line)| line);
    dir.write("part.jsonl", part.collect::<String>());
    let run = window("part.jsonl", "").ends_with(1);
    let said = run.stderr();
    assert_eq!(said.lines().count(), 1, "{run}");
    let expected = "nothing was replaced: 2026-01-01 has 3 rows and would have 3; 1 key has more events there than \
                    in this run (a metric row covers its whole window), first {\"metric_name\":\"count(*)\",\
                    \"window_start\":\"2026-01-01T00:01:00.000000Z\",";
    assert!(said.contains(expected), "{run}");
    assert!(said.ends_with(": rows 60 before, 40 after (shrink=ok replaces it anyway)\n"), "{run}");
    assert_eq!(dir.rows("stats.json")[0]["outputs"][0]["counts"]["stale"], 3);
    assert_eq!(counts(), [60, 60, 60]);
    assert_eq!(window("part.jsonl", "&shrink=ok").succeeds().stderr(), "");
    assert_eq!(counts(), [60, 40, 60]);
    // A row with more events may replace that of its window.
    window("all.jsonl", "").succeeds();
    assert_eq!(counts(), [60, 60, 60]);
}

#[test]
fn an_input_that_grows_does_not_make_up_for_another_that_shrinks() {
    let dir = Dir::new("trade");
    let ingest = |sizes: [usize; 2], options: &str| {
        for (name, size) in ["a.jsonl", "b.jsonl"].into_iter().zip(sizes) {
            dir.write(name, lines(size));
        }
        let lake = format!("parquet:lake?mode=replace{options}");
        dir.run("evt-ingest", &["-q", "a.jsonl", "b.jsonl", "--time", "t", "--to", &lake])
    };
    ingest([20, 40], "").succeeds();
    for (a, after) in [(10, 70), (0, 60)] {
        let run = ingest([a, 60], "").ends_with(1);
        let said = format!(
            "evt-ingest: parquet:lake: nothing was replaced: 2026-01-01 has 60 rows and would have {after}; rows of \
             a.jsonl: 20 before, {a} after (shrink=ok replaces it anyway)\n"
        );
        assert_eq!(run.stderr(), said);
        assert_eq!(rows_of_lake(&dir), 60);
    }
    ingest([20, 60], "").succeeds();
    assert_eq!(rows_of_lake(&dir), 80);
    ingest([10, 60], "&shrink=ok").succeeds();
    assert_eq!(rows_of_lake(&dir), 70);
}

#[test]
fn a_second_piece_through_standard_input_does_not_wipe_the_first() {
    let dir = Dir::new("nameless");
    let ingest = |count: usize, flags: &str, options: &str| {
        dir.write("piece.jsonl", lines(count));
        let lake = format!("parquet:lake?mode=replace{options}");
        dir.shell(&format!("evt-ingest -q - -f jsonl --time t {flags} --to '{lake}' < piece.jsonl"))
    };
    ingest(20, "", "").succeeds();
    for flags in ["", "--origin piece"] {
        let run = ingest(40, flags, "").ends_with(1);
        let said = "evt-ingest: parquet:lake: nothing was replaced: 2026-01-01 has 20 rows and would have 40; 20 of \
                    its rows come from standard input, which has no name, so evt cannot tell whether both runs read \
                    the same input (set --origin NAME) (shrink=ok replaces it anyway)\n";
        assert_eq!(run.stderr(), said);
        assert_eq!(rows_of_lake(&dir), 20);
    }
    ingest(30, "--origin piece", "&shrink=ok").succeeds();
    assert_eq!(rows_of_lake(&dir), 30);
    // With --origin it is the same input, also after another stage.
    ingest(40, "--origin piece", "").succeeds();
    assert_eq!(rows_of_lake(&dir), 40);
    let behind =
        "evt-ingest -q - -f jsonl --time t --to - < piece.jsonl | evt-sink -q --to 'parquet:behind?mode=replace'";
    dir.shell(behind).succeeds();
    let run = dir.shell(behind).ends_with(1);
    assert!(run.stderr().contains("40 of its rows come from standard input"), "{run}");
}

#[test]
fn days_are_not_replaced_where_the_file_system_cannot_exchange_directories() {
    let dir = Dir::new("exchange");
    let args = ["-q", "none.jsonl", "--time", "t", "--to", "parquet:lake?mode=replace"];
    dir.write("none.jsonl", lines(3));
    for more in [&[][..], &["--check"]] {
        let Some(run) = refusing(&dir, "exchange", "evt-ingest", &[&args, more].concat()) else { return };
        let run = run.ends_with(78);
        assert!(run.stderr().contains("can exchange two directories"), "{run}");
        assert_eq!(std::fs::read_dir(dir.path(".")).expect("it is there").count(), 1, "nothing is made");
    }
    let args = ["-q", "none.jsonl", "--time", "t", "--to", "parquet:lake"];
    refusing(&dir, "exchange", "evt-ingest", &args).expect("it is there").succeeds();
    dir.run("evt-ingest", &["--check", "none.jsonl", "--time", "t", "--to", "parquet:lake?mode=replace"]).succeeds();
}

/// Version `version` of three days of `rows` + `version` rows each, in many rolled files.
fn version(version: usize, rows: usize) -> String {
    let pad = "x".repeat(800);
    let line = |at: usize| {
        let (day, second) = (at % 3 + 1, at / 3);
        let time = format!("2026-01-0{day}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60);
        format!("{{\"t\":\"{time}\",\"version\":{version},\"pad\":\"{pad}\"}}\n")
    };
    (0..3 * (rows + version)).map(line).collect()
}

#[test]
fn a_reader_of_a_day_that_is_replaced_sees_one_version_of_it() {
    const ROWS: usize = 4500;
    let Some(python) = python() else { return };
    let dir = Dir::new("readers");
    replaced(&dir, "in.jsonl", &version(0, ROWS), "&roll=20KiB").succeeds();
    let files = std::fs::read_dir(dir.path("lake/date=2026-01-02")).expect("it is there").count();
    assert!(files > 2, "{files} files");
    let script = format!("{ROOT}/tests/oracle/versions.py");
    let mut reader = dir.command(&python, &[script.as_str(), "lake", &ROWS.to_string()]);
    let mut reader = reader.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let good = || std::fs::read_to_string(dir.path("good")).ok()?.parse::<u64>().ok();
    let mut number = 0;
    // A slow reader gets further replacements.
    while number < 5 || good() < Some(3) {
        number += 1;
        assert!(number < 200, "three reads do not go well: {:?}", good());
        assert_eq!(reader.try_wait().expect("it is ours"), None, "a reader saw what never was");
        replaced(&dir, "in.jsonl", &version(number, ROWS), "&roll=20KiB").succeeds();
        let seen = dir.run("evt-view", &["-q", "parquet:lake", "-o", "jsonl"]).succeeds();
        assert_eq!(seen.rows().len(), 3 * (ROWS + number));
    }
    drop(reader.stdin.take());
    let read = reader.wait_with_output().expect("it ends");
    assert!(read.status.success(), "a reader saw what never was");
    let read: serde_json::Value = serde_json::from_slice(&read.stdout).expect("JSON");
    assert!(read["good"].as_u64() > Some(2), "{read}");
    let left: Vec<_> = std::fs::read_dir(dir.path("lake/.evt")).expect("it is there").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// The complete files of each day.
fn days(dir: &Dir) -> BTreeMap<String, BTreeSet<(String, Vec<u8>)>> {
    let files = dir.shell("cd lake && find date=* -name '*.parquet'").succeeds().text();
    let mut days: BTreeMap<String, BTreeSet<(String, Vec<u8>)>> = BTreeMap::new();
    for file in files.lines() {
        let (day, name) = file.split_once('/').expect("a file of a day");
        days.entry(day.to_owned()).or_default().insert((name.to_owned(), dir.bytes(&format!("lake/{file}"))));
    }
    days
}

#[test]
fn a_run_that_is_killed_while_it_replaces_days_leaves_each_day_whole_and_the_next_run_finishes_it() {
    const DAYS: usize = 150;
    let text = |version: usize| -> String {
        let day = |at: usize| format!("2025-{:02}-{:02}", at % 12 + 1, at / 12 % 28 + 1);
        (0..DAYS).map(|at| format!("{{\"t\":\"{}T10:00:00Z\",\"v\":{version}}}\n", day(at))).collect()
    };
    let dir = Dir::new("killed");
    let ingest = |name: &str, to: &str| {
        let mut command = dir.command("evt-ingest", &["-q", name, "--time", "t", "--origin", "in", "--to", to]);
        command.env("EVT_NOW", "2026-02-01T00:00:00Z").stdin(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let lake = "parquet:lake?mode=replace";
    let mut versions = vec![];
    for number in 0..2 {
        dir.write(&format!("{number}.jsonl"), text(number));
        Run::of(&mut ingest(&format!("{number}.jsonl"), lake)).succeeds();
        versions.push(days(&dir));
    }
    assert!(versions.iter().all(|days| days.len() == DAYS));
    dir.write("none.jsonl", "");
    let manifest = || std::fs::read_to_string(dir.path("lake/.evt/exchange.json")).unwrap_or_default();
    let (mut draws, mut halfway, mut finished) = (Draws::new(), 0, 0);
    let mut at = 0;
    // On a busy machine an exchange may be over before this thread looks.
    while at < 6 || finished == 0 {
        assert!(at < 100, "{draws}: no run was killed in its exchange, {halfway} were halfway");
        let (old, new) = (&versions[(at + 1) % 2], &versions[at % 2]);
        let is_new = |day: &str| dir.path(&format!("lake/{day}/.new")).exists();
        let chosen = old.keys().nth(draws.below(DAYS as u64) as usize).expect("a day");
        let mut run = ingest(&format!("{}.jsonl", at % 2), lake).spawn().expect("it starts");
        let holds = || match at % 3 {
            0 => !manifest().is_empty(),
            1 => is_new(chosen),
            _ => manifest().contains("\"exchanged\":true"),
        };
        // Poll without a pause, because the exchange takes only milliseconds.
        while !holds() && run.try_wait().expect("it is our child").is_none() {
            std::hint::spin_loop();
        }
        if run.try_wait().expect("it is our child").is_none() {
            kill_process(Pid::from_child(&run), Signal::KILL).expect("it is our child, not waited for");
        }
        assert!([0, 137].contains(&status(run.wait().expect("it ends"))), "{draws}");
        let seen = days(&dir);
        assert_eq!(seen.len(), DAYS, "{draws}");
        let count = |version: &BTreeMap<_, _>| seen.iter().filter(|(day, files)| version[*day] == **files).count();
        assert_eq!(count(old) + count(new), DAYS, "{draws}: a day is of no version");
        halfway += usize::from(count(old) > 0 && count(new) > 0);
        // The next run of any kind completes the exchange; a complete run after it has none to complete.
        let left = !manifest().is_empty();
        let next = Run::of(&mut ingest("none.jsonl", "parquet:lake")).succeeds();
        assert_eq!(next.stderr().contains("finished the replacement of 150 days"), left, "{next}");
        finished += usize::from(left);
        if !left {
            Run::of(&mut ingest(&format!("{}.jsonl", at % 2), lake)).succeeds();
        }
        assert!(days(&dir) == *new, "{draws}: days are not those of the run");
        let hidden: Vec<_> = std::fs::read_dir(dir.path("lake/.evt")).expect("it is there").flatten().collect();
        assert_eq!(hidden.len(), 1, "{draws}: {hidden:?}");
        at += 1;
    }
}
