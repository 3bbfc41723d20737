//! Faults of the machine: a full disk, missing permissions; and the same input on two days.

use crate::harness::{Dir, Run, ask, eventually, in_ci, python, status};
use serde_json::Value;
use std::fs::File;
use std::io::Write;

/// More bytes than fit on the disk, in any format.
const EVENTS: &str = "evt-gen --events 20k --seed 3 -q > in.jsonl; evt-ingest in.jsonl --origin in -q > in.frames";
/// Every kind of output, each below `small/`.
const WRITERS: [&str; 9] = [
    "evt-sink in.frames -q --to small/out.jsonl",
    "evt-sink in.frames -q --to small/out.csv",
    "evt-sink in.frames -q --to small/out.avro",
    "evt-sink in.frames -q --to small/out.frames",
    "evt-sink in.frames -q --to small/out.parquet",
    "evt-sink in.frames -q --to sqlite:small/out.db",
    "evt-sink in.frames -q --to parquet:small/lake",
    "evt-sink in.frames -q --to 'parquet:small/lake?roll=100KiB'",
    "evt-window in.frames --size 1s --by user_id -q --to small/out.jsonl",
];

/// Asserts one line that names the fault, and the exit status of failed I/O.
#[track_caller]
fn one_line(run: Run, told: &str) {
    let run = run.ends_with(74).stays_calm();
    assert!(run.stderr().to_lowercase().contains(told) && run.stderr().lines().count() == 1, "{run}");
}

/// Asserts that no incomplete file below `small/` looks complete, and that no unfinished file still fills the disk.
fn assert_nothing_looks_whole(dir: &Dir, line: &str) {
    let found = dir.shell("find small -type f").succeeds().text();
    for file in found.lines() {
        match file.rsplit_once('.').map_or("", |(_, extension)| extension) {
            "db-wal" | "db-shm" | "" => {}
            // A line is complete or absent; rows() parses every line.
            "jsonl" => drop(dir.rows(file)),
            "csv" => assert!(dir.bytes(file).is_empty() || dir.bytes(file).ends_with(b"\n"), "{line}: {file} is cut"),
            "db" => {
                let db = rusqlite::Connection::open(dir.path(file)).expect("it opens");
                let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it answers");
                assert_eq!(check, "ok", "{line}");
            }
            "parquet" if file.contains("/date=") => {
                if let Some(python) = python() {
                    ask(dir, &python, "whole.py", &["small"]);
                }
            }
            _ => assert!(file.ends_with("/lock"), "{line}: {file} looks whole"),
        }
    }
}

#[test]
fn a_file_that_may_not_grow_is_one_clear_line_and_nothing_looks_whole() {
    let dir = Dir::new("limit");
    dir.shell(EVENTS).succeeds();
    for line in WRITERS {
        dir.shell("rm -rf small; mkdir small").succeeds();
        // By default SIGXFSZ ends a process without a word.
        let run = dir.shell(&format!("ulimit -f 200; exec {line}"));
        one_line(run, if line.contains("sqlite") { "cannot write" } else { "file too large" });
        assert_nothing_looks_whole(&dir, line);
    }
}

#[test]
fn a_full_disk_is_one_clear_line_and_nothing_looks_whole() {
    let dir = Dir::new("disk");
    dir.shell(EVENTS).succeeds();
    dir.shell("mkdir small").succeeds();
    let mount = "mount -t tmpfs -o size=200k none small";
    if dir.shell(&format!("unshare -rm sh -c '{mount}'")).status() != 0 {
        assert!(!in_ci(), "unshare -rm must be allowed to mount a tmpfs in CI");
        eprintln!("skipped: unshare -rm may not mount a small tmpfs here; the limit on files stands in for it");
        return;
    }
    for line in WRITERS {
        // The file system ends with its namespace, so its files are copied out first.
        dir.shell("rm -rf taken").succeeds();
        let all = format!("{mount} && {{ {line}; status=$?; cp -r small taken; exit $status; }}");
        let run = dir.run("unshare", &["-rm", "bash", "-c", &all]);
        one_line(run, if line.contains("sqlite") { "disk is full" } else { "no space left on device" });
        dir.shell("rm -rf small; mv taken small").succeeds();
        assert_nothing_looks_whole(&dir, line);
        dir.shell("rm -rf small; mkdir small").succeeds();
    }
}

/// The test queries `/readyz` before any request has failed.
#[test]
fn a_listener_that_starts_on_a_full_disk_is_not_ready() {
    let dir = Dir::new("disk-listener");
    dir.shell("mkdir small").succeeds();
    let mount = "mount -t tmpfs -o size=400k none small";
    if dir.shell(&format!("unshare -rm sh -c '{mount}'")).status() != 0 {
        assert!(!in_ci(), "unshare -rm must be allowed to mount a tmpfs in CI");
        eprintln!("skipped: unshare -rm may not mount a small tmpfs here");
        return;
    }
    dir.write(
        "listener.sh",
        format!(
            r#"{mount} && mkdir small/spool
            [[ $1 == full ]] && cat /dev/zero > small/filler 2> none
            coproc listener {{ exec evt-ingest http://127.0.0.1:0 --spool small/spool --to null: 2>&1; }}
            read -r line <&${{listener[0]}} && host=${{line##*//}}
            exec 3<> "/dev/tcp/${{host%:*}}/${{host##*:}}"
            printf 'GET /readyz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n' >&3
            head -1 <&3
            kill $listener_PID"#
        ),
    );
    for (disk, status) in [("free", "200"), ("full", "503")] {
        let run = dir.run("unshare", &["-rm", "bash", "listener.sh", disk]);
        assert!(run.text().starts_with(&format!("HTTP/1.1 {status} ")), "{disk}: {run}");
    }
}

#[test]
fn a_full_device_on_standard_output_a_directory_and_a_missing_file_are_one_clear_line() {
    let dir = Dir::new("device");
    dir.shell(EVENTS).succeeds();
    let lines = [
        ("evt-ingest in.jsonl -q > /dev/full", "no space left"),
        ("evt-ingest in.jsonl -q -o jsonl > /dev/full", "no space left"),
        ("evt-validate in.frames -q > /dev/full", "no space left"),
        ("evt-window in.frames --size 1s -q > /dev/full", "no space left"),
        ("evt-view in.frames -q > /dev/full", "no space left"),
        ("evt-gen -q > /dev/full", "no space left"),
        ("evt-sink in.frames -q --to /dev/full", "no space left"),
        ("evt-ingest .", "is a directory"),
        ("evt-ingest nothing.jsonl", "nothing.jsonl: no such file"),
        ("evt-sink in.frames --to missing/out.parquet", "missing/out.parquet"),
    ];
    for (line, told) in lines {
        one_line(dir.shell(line), told);
    }
}

/// The prefix of a command that makes permissions apply to it: root bypasses them by its capabilities.
pub(crate) fn unprivileged(dir: &Dir) -> Option<&'static str> {
    dir.shell("echo > secret; chmod 000 secret").succeeds();
    for before in ["", "setpriv --bounding-set=-all --inh-caps=-all "] {
        if dir.shell(&format!("{before}cat secret")).status() != 0 && dir.shell(&format!("{before}true")).status() == 0
        {
            return Some(before);
        }
    }
    assert!(!in_ci(), "permissions must hold in CI: setpriv (util-linux) takes root's capabilities away");
    eprintln!("skipped: permissions do not hold for root here, and setpriv cannot take its capabilities away");
    None
}

#[test]
fn what_may_not_be_read_or_written_is_one_clear_line() {
    let dir = Dir::new("denied");
    dir.shell(EVENTS).succeeds();
    let Some(before) = unprivileged(&dir) else { return };
    dir.shell("mkdir -p closed/lake; echo '{}' > closed/old.jsonl; evt-sink in.frames -q --to sqlite:closed/old.db")
        .succeeds();
    dir.shell("chmod -R a-w closed; ls -lR closed > before").succeeds();
    let lines = [
        ("evt-ingest secret", "secret: permission denied"),
        ("evt-validate secret", "secret: permission denied"),
        ("evt-view secret", "secret: permission denied"),
        ("evt-view sqlite:secret", "sqlite:secret: cannot open"),
        ("evt-sink in.frames -q --to closed/new.jsonl", "closed/new.jsonl: permission denied"),
        ("evt-sink in.frames -q --to closed/old.jsonl", "closed/old.jsonl: permission denied"),
        ("evt-sink in.frames -q --to closed/new.parquet", "closed/new.parquet: permission denied"),
        ("evt-sink in.frames -q --to closed/new.frames", "closed/new.frames: permission denied"),
        ("evt-sink in.frames -q --to sqlite:closed/new.db", "sqlite:closed/new.db: cannot open"),
        ("evt-sink in.frames -q --to sqlite:closed/old.db", "sqlite:closed/old.db: cannot open"),
        ("evt-sink in.frames -q --to parquet:closed/new", "closed/new: cannot make the directory: permission denied"),
        ("evt-sink in.frames -q --to parquet:closed/lake", "closed/lake: cannot make the directory: permission denied"),
        ("evt-ingest in.jsonl -q --to null: --dlq closed/dead.jsonl", "closed/dead.jsonl: permission denied"),
        ("evt-window in.frames --size 1m -q --to null: --late closed/late.csv", "closed/late.csv: permission denied"),
    ];
    for (line, told) in lines {
        one_line(dir.shell(&format!("{before}{line}")), told);
    }
    let refused = dir.shell(&format!("{before}evt-window in.frames -m secret")).ends_with(78);
    assert_eq!(refused.stderr(), "evt-window: secret: permission denied\n", "a configuration file that cannot be read");
    dir.shell("ls -lR closed | diff - before").succeeds();
    dir.shell("chmod -R u+w closed").succeeds();
}

/// A lake of two days, of which the first is on another disk. Its events are those of `a.jsonl`.
pub(crate) fn lake_with_a_linked_day(dir: &Dir) {
    let line = |day: u8| format!("{{\"server_timestamp\":\"2026-01-0{day}T00:00:00Z\",\"a\":1}}\n");
    dir.write("a.jsonl", line(1) + &line(2));
    dir.write("metrics.toml", "[[metric]]\nname = \"n\"\nsize = \"1h\"\n");
    let link = "mkdir -p other/disk; mv lake/date=2026-01-01 other/disk; ln -s ../other/disk/date=2026-01-01 lake";
    dir.shell(&format!("evt-ingest -q a.jsonl --to parquet:lake; {link}")).succeeds();
}

#[test]
fn a_day_of_a_lake_that_cannot_be_reached_is_an_error_and_not_a_day_without_rows() {
    let dir = Dir::new("away");
    let Some(before) = unprivileged(&dir) else { return };
    lake_with_a_linked_day(&dir);
    let readers = [
        "evt-view -q parquet:lake",
        "evt-view -q parquet:lake -o jsonl",
        "evt-view --check parquet:lake",
        "evt-window -q parquet:lake --size 1h -o jsonl",
        "evt-backfill -q parquet:lake -m metrics.toml --all-closed --to sqlite:m.db",
        "evt-reconcile -q a.jsonl parquet:lake",
    ];
    assert_eq!(dir.shell(readers[1]).succeeds().rows().len(), 2);
    let absences = [
        ("mv other/disk other/away", "mv other/away other/disk", "cannot follow the link: no such file"),
        ("chmod 000 other/disk", "chmod 755 other/disk", "cannot read: permission denied"),
    ];
    for (leave, arrive, told) in absences {
        dir.shell(leave).succeeds();
        for line in readers {
            let run = dir.shell(&format!("{before}{line}")).ends_with(74).stays_calm();
            let told = format!("parquet:lake/date=2026-01-01: {told}");
            assert!(run.stderr().contains(&told), "{line}: {run}");
        }
        // What does not need the day does not miss it.
        let other = "evt-window -q parquet:lake?table=event --size 1h --since 2026-01-02T00:00:00Z -o jsonl";
        assert_eq!(dir.shell(&format!("{before}{other}")).succeeds().rows().len(), 1);
        dir.shell(&format!("tail -1 a.jsonl > b.jsonl; {before}evt-ingest -q b.jsonl --to parquet:lake")).succeeds();
        dir.shell(&format!("{before}evt-ingest -q a.jsonl --to parquet:lake")).ends_with(74);
        dir.shell(arrive).succeeds();
    }
    dir.shell("mv other/disk/date=2026-01-01/* file; ln -s gone.parquet lake/date=2026-01-01/a.parquet").succeeds();
    let run = dir.shell("evt-view -q parquet:lake -o jsonl").ends_with(74);
    assert!(run.stderr().contains("date=2026-01-01/a.parquet: cannot follow the link"), "a file that is away: {run}");
}

/// Events without ids; the files of both days share some lines, at different positions.
fn day(numbers: std::ops::Range<u32>) -> String {
    let line = |n: u32| {
        let (minute, second) = (n / 60 % 60, n % 60);
        format!("{{\"event_type\":\"a\",\"server_timestamp\":\"2026-01-05T10:{minute:02}:{second:02}Z\",\"n\":{n}}}\n")
    };
    numbers.map(line).chain(["broken\n".to_owned()]).collect()
}

/// The key and the values of each row, by evt-view, without the columns that identify its run.
fn rows(dir: &Dir, store: &str) -> Vec<String> {
    let run = dir.run("evt-view", &[store, "-q", "--columns", "event_id,partition,offset,n"]).succeeds();
    let mut rows: Vec<String> = run.text().lines().map(str::to_owned).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn the_same_file_twice_changes_nothing_and_two_days_of_standard_input_do_not_meet() {
    let dir = Dir::new("twice");
    dir.write("monday", day(0..1000));
    dir.write("tuesday", day(500..1500));
    let load = |file: &str, date: u32| {
        dir.shell(&format!(
            "export EVT_NOW=2026-01-{date:02}T23:00:00Z; evt-ingest --dlq sqlite:dead.db < {file} \
             | evt-sink --to sqlite:raw.db --to parquet:raw"
        ))
        .succeeds()
    };
    let stores = ["sqlite:raw.db?table=raw_events", "parquet:raw"];
    load("monday", 5);
    let monday = stores.map(|store| rows(&dir, store));
    load("tuesday", 6);
    let both = stores.map(|store| rows(&dir, store));
    assert!(both[0] == both[1], "the stores hold the same");
    assert_eq!(both[0].len(), 2000, "no row has overwritten another");
    assert!(monday[0].iter().all(|row| both[0].binary_search(row).is_ok()), "monday is as it was");
    for (file, date) in [("monday", 7), ("tuesday", 8), ("monday", 9)] {
        let run = load(file, date);
        for store in ["sqlite:raw.db", "parquet:raw"] {
            assert!(run.stderr().contains(&format!("{store}: in 1000 unchanged 1000")), "{run}");
        }
    }
    assert!(stores.map(|store| rows(&dir, store)) == both, "the same file again changes nothing");
    let dead =
        dir.run("evt-view", &["sqlite:dead.db?table=dead_letters", "-q", "--rows", "-o", "jsonl"]).succeeds().rows();
    let failed: Vec<&Value> = dead.iter().map(|letter| &letter["failed_at"]).collect();
    assert_eq!(failed, ["2026-01-05T23:00:00.000000Z"], "the same letter of both days, once");
}

#[test]
fn a_packed_file_that_is_cut_anywhere_is_torn_whatever_is_left_of_it() {
    let dir = Dir::new("packed");
    dir.write("in.jsonl", day(0..200));
    dir.shell("gzip -k in.jsonl").succeeds();
    let gzip = dir.bytes("in.jsonl.gz");
    let zstd = zstd::encode_all(&dir.bytes("in.jsonl")[..], 1).expect("it packs");
    for (name, packed) in [("cut.jsonl.gz", gzip), ("cut.jsonl.zst", zstd)] {
        for end in (0..20).chain((20..packed.len()).step_by(packed.len() / 10)).chain([packed.len() - 1]) {
            dir.write(name, &packed[..end]);
            let run = dir
                .run("evt-ingest", &[name, "-q", "--dlq", "null:", "--to", "out.parquet"])
                .ends_with(65)
                .stays_calm();
            assert!(run.stderr().contains(name) && run.stderr().lines().count() == 1, "cut at {end}: {run}");
            assert!(!dir.path("out.parquet").exists());
        }
    }
}

#[test]
fn a_fifo_that_is_followed_ends_when_its_writers_have_closed_it() {
    let dir = Dir::new("fifo");
    dir.write("in.jsonl", day(0..10));
    let line = "mkfifo fifo; cat in.jsonl > fifo & exec evt-ingest -f jsonl --follow fifo --to null: --dlq null:";
    let run = dir.shell(line).succeeds();
    assert!(run.stderr().contains("in 11 out 10 dead 1"), "{run}");
}

#[test]
fn an_input_that_cannot_be_read_is_found_before_the_first_one_is() {
    let dir = Dir::new("later");
    dir.write("in.jsonl", day(0..10));
    dir.write("sub/x", "");
    let lines = [
        ("evt-ingest in.jsonl nothing.jsonl --to out.jsonl --dlq dead.jsonl", "nothing.jsonl: no such file"),
        ("evt-ingest in.jsonl sub --to out.jsonl", "sub: is a directory"),
        ("evt-view in.jsonl in.jsonl/x --to out.jsonl", "in.jsonl/x: not a directory"),
        ("evt-ingest --to out.jsonl - nothing.jsonl < in.jsonl", "nothing.jsonl: no such file"),
    ];
    for (line, told) in lines {
        one_line(dir.shell(line), told);
        assert!(!dir.path("out.jsonl").exists() && !dir.path("dead.jsonl").exists(), "{line}");
    }
}

#[test]
fn a_file_that_is_followed_may_come_later() {
    let dir = Dir::new("await");
    dir.write("here.jsonl", day(0..3));
    let args = ["--follow", "later.jsonl", "here.jsonl", "-f", "jsonl", "--to", "out.jsonl", "--dlq", "null:"];
    let mut command = dir.command("evt-ingest", &args);
    command.stderr(File::create(dir.path("said")).expect("writable"));
    let mut child = command.spawn().expect("it starts");
    let lines = || std::fs::read_to_string(dir.path("out.jsonl")).map_or(0, |text| text.lines().count());
    eventually("the file that is there is read", || lines() == 3);
    dir.write("later.jsonl", day(3..5));
    eventually("the other one is read", || lines() == 5);
    dir.shell(&format!("kill -INT {}", child.id())).succeeds();
    assert_eq!(status(child.wait().expect("it ends")), 130);
    let said = String::from_utf8(dir.bytes("said")).expect("it is text");
    assert_eq!(said.matches("later.jsonl: waiting for the file to be created").count(), 1, "{said}");
}

/// A log that has just been rotated is empty; its name does not tell the format.
#[test]
fn an_empty_file_that_is_followed_is_text_in_every_tool() {
    let dir = Dir::new("empty-followed");
    dir.write("app.log", "");
    let mut command = dir.command("evt-view", &["--follow", "app.log", "-o", "jsonl", "--columns", "n"]);
    command.stdout(File::create(dir.path("rows")).expect("writable"));
    command.stderr(File::create(dir.path("said")).expect("writable"));
    let mut child = command.spawn().expect("it starts");
    let mut log = std::fs::OpenOptions::new().append(true).open(dir.path("app.log")).expect("writable");
    // It may have seen the empty file before, or not.
    for number in 1..=3 {
        writeln!(log, "{{\"n\":{number}}}").expect("writable");
        eventually("the line is shown", || {
            assert!(child.try_wait().expect("it is ours").is_none(), "{:?}", dir.bytes("said"));
            dir.bytes("rows").iter().filter(|byte| **byte == b'\n').count() == number
        });
    }
    dir.shell(&format!("kill -INT {}", child.id())).succeeds();
    assert_eq!(status(child.wait().expect("it ends")), 130);
}

#[test]
fn what_does_not_grow_is_not_followed() {
    let dir = Dir::new("not-followed");
    dir.write("in.jsonl", day(0..3));
    dir.run("evt-ingest", &["-q", "in.jsonl", "--dlq", "null:", "--to", "x.parquet", "--to", "sqlite:x.db"]).succeeds();
    for (line, told) in [
        ("evt-view --follow x.parquet", "x.parquet: expected text with --follow, found parquet"),
        ("evt-view --follow 'sqlite:x.db?table=raw_events'", "expected a file or a topic with --follow, found a store"),
    ] {
        let run = dir.shell(line).ends_with(2);
        assert!(run.stderr().contains(told), "{run}");
    }
}

#[test]
fn records_that_wait_for_a_verdict_are_told_of() {
    let dir = Dir::new("held");
    let records = |range: std::ops::Range<u32>| {
        range
            .map(|n| format!("{{\"event_type\":\"t\",\"at\":\"2026-01-01T00:{:02}:00Z\"}}\n", n % 60))
            .collect::<String>()
    };
    dir.write("in.jsonl", records(0..103));
    let flags = "--follow --time at --max-future 1d --to out.jsonl --dlq null:";
    let mut command = dir.command("evt-ingest", &["in.jsonl"]);
    command.args(flags.split(' ')).stderr(File::create(dir.path("said")).expect("writable"));
    let mut child = command.spawn().expect("it starts");
    let said = || String::from_utf8(dir.bytes("said")).expect("it is text");
    eventually("it is said", || {
        said().contains(
            "100 records without an arrival time are held until their partition has 101 records (--max-future compares",
        )
    });
    let lines = || std::fs::read_to_string(dir.path("out.jsonl")).map_or(0, |text| text.lines().count());
    eventually("the others are written", || lines() == 3);
    dir.write("more.jsonl", records(0..100));
    dir.shell("cat more.jsonl >> in.jsonl").succeeds();
    eventually("each new record releases one", || lines() == 103);
    dir.shell(&format!("kill -INT {}", child.id())).succeeds();
    assert_eq!(status(child.wait().expect("it ends")), 130);
    assert_eq!((lines(), said().matches("records without an arrival time").count()), (203, 1), "{}", said());
}

#[test]
fn a_report_of_none_says_nothing_but_the_summary() {
    let dir = Dir::new("silent");
    dir.write("in.jsonl", "broken\n".repeat(30));
    let run = dir.run("evt-ingest", &["in.jsonl", "--report", "0", "--to", "null:"]).ends_with(1);
    assert!(run.stderr().lines().count() == 1 && run.stderr().contains("dropped 30"), "{run}");
}

#[test]
fn the_letter_of_a_record_that_is_too_large_is_read_again_in_every_format() {
    let dir = Dir::new("large");
    let gen_flags = "--events 3k --too-large 1% --malformed 1% --seed 9 -q";
    dir.shell(&format!("evt-gen {gen_flags} | evt-ingest -q --dlq all.jsonl --to null:")).succeeds();
    let letters = |name: &str| {
        let mut letters = dir.rows(name);
        letters.iter_mut().for_each(|letter| drop(letter.as_object_mut().map(|letter| letter.remove("failed_at"))));
        letters
    };
    let all = letters("all.jsonl");
    let large = all.iter().filter(|letter| letter["error_type"] == "TooLargeError").count();
    assert!(large > 10 && all.len() > large, "{large} of {}", all.len());
    for format in ["jsonl", "csv", "avro", "parquet"] {
        dir.shell(&format!("evt-view all.jsonl --rows -o {format} -q > again.{format}")).succeeds();
        dir.shell(&format!("evt-view again.{format} --rows -o jsonl -q > back.jsonl")).succeeds();
        assert!(letters("back.jsonl") == all, "{format}");
    }
    dir.shell("evt-sink all.jsonl --to sqlite:dead.db").succeeds();
    let summary = dir.shell("evt-view all.jsonl --summary").succeeds().text();
    assert!(summary.contains("TooLargeError"), "{summary}");
}
