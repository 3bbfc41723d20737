//! evt reports unusable outputs before it waits for input. Also inputs and outputs that are closed or shared.

use crate::executables::link_tools;
use crate::harness::{Dir, eventually, listens, status};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

/// Starts a tool whose standard input stays open; ends it after a minute (status 124) if it waits for input.
fn start(dir: &Dir, tool: &str, args: &[&str]) -> Child {
    let all: Vec<&str> = ["60", tool].iter().chain(args).copied().collect();
    let mut command = dir.command("timeout", &all);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

fn names(dir: &Dir) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir.path(".")).expect("it is there");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

const EVENT: &str = r#"{"event_type":"click","source":"web","shard":"a","server_timestamp":"2024-01-15T10:00:00Z"}"#;

#[test]
fn an_output_that_cannot_be_written_ends_the_run_before_it_waits_for_input_and_leaves_nothing_behind() {
    let dir = Dir::new("early");
    dir.write("here.avro", "whole");
    dir.write("text", "no database, and no directory");
    dir.write("sub/x", "");
    dir.shell(
        "evt-gen --events 10 -q | evt-ingest -q --to newer.frames; evt-sink -q newer.frames --to sqlite:newer.db",
    )
    .succeeds();
    let newer = rusqlite::Connection::open(dir.path("newer.db")).expect("it opens");
    newer.execute_batch("UPDATE evt_schema SET version = 99").expect("it is ours");
    drop(newer);
    let before = names(&dir);
    let ingest = |flag, value| ("evt-ingest", vec!["--to", "new.jsonl", "--to", "new.avro", flag, value]);
    let cases = [
        (ingest("--to", "missing/out.parquet"), 74, "missing/out.parquet: no such file"),
        (ingest("--to", "text/out.jsonl"), 74, "not a directory"),
        (ingest("--to", "sub"), 74, "sub: is a directory"),
        (ingest("--to", "here.avro"), 2, "here.avro: already exists"),
        (ingest("--to", "out.clf"), 2, "input format only"),
        (ingest("--to", "sqlite:text"), 65, "sqlite:text"),
        (ingest("--to", "sqlite:newer.db"), 78, "newer evt"),
        (ingest("--to", "sqlite:missing/m.db"), 74, "sqlite:missing/m.db"),
        (ingest("--to", "parquet:text"), 74, "parquet:text"),
        (ingest("--to", "parquet:lake?roll=9"), 2, "found '9'"),
        (ingest("--to", "mysql:x"), 2, "is an unknown scheme"),
        (ingest("--dlq", "missing/dead.jsonl"), 74, "missing/dead.jsonl"),
        (ingest("--stats", "missing/stats"), 74, "missing/stats"),
        (("evt-window", vec!["--size", "1m", "--to", "sqlite:new.db", "--late", "missing/late"]), 74, "missing/late"),
        (("evt-gen", vec!["--truth", "missing/truth"]), 74, "missing/truth"),
    ];
    for ((tool, args), expected, told) in cases {
        let mut child = start(&dir, tool, &args);
        let stdin = child.stdin.take();
        let output = child.wait_with_output().expect("it ends");
        drop(stdin);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(status(output.status), expected, "{args:?}: {said}");
        assert!(said.contains(told) && said.lines().count() == 1, "{args:?}: {said}");
        assert_eq!(names(&dir), before, "{args:?}");
    }
}

#[test]
fn a_closed_standard_output_or_input_is_an_error_where_it_is_used_and_no_matter_elsewhere() {
    let dir = Dir::new("closed");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    let lines = [
        ("evt-ingest in.jsonl >&-", 74, "stdout"),
        ("evt-view in.jsonl >&-", 74, "stdout"),
        ("evt-gen --events 1 >&-", 74, "stdout"),
        ("evt-sink --list >&-", 74, "stdout"),
        ("evt-window --size 1m --check >&-", 74, "stdout"),
        ("evt-window --help >&-", 74, "stdout"),
        ("evt-ingest -q in.jsonl --to - 1< in.jsonl", 74, "stdout"),
        ("evt-ingest <&-", 74, "stdin"),
        ("evt-window --size 1m <&- > out.frames", 74, "stdin"),
        ("evt-ingest -q --append in.jsonl --to a.jsonl <&- >&-", 0, ""),
        ("evt-ingest --append in.jsonl --to b.jsonl <&- >&- 2>&-", 0, ""),
        ("evt-ingest nothing.jsonl 2>&-", 74, ""),
        ("evt-ingest -q in.jsonl < /dev/null > /dev/null", 0, ""),
        ("evt-ingest -q in.jsonl <> /dev/null 1<> /dev/null", 0, ""),
    ];
    // Through a launcher, and through links to evt, as a package has them.
    link_tools(&dir, "links");
    for path in ["", "PATH=\"$PWD/links:$PATH\"; "] {
        for (line, expected, told) in lines {
            let run = dir.shell(&format!("{path}{line}")).ends_with(expected).stays_calm();
            let said = run.stderr();
            assert!(said.contains(told) && said.lines().count() == usize::from(!told.is_empty()), "{run}");
        }
    }
    assert_eq!(dir.rows("a.jsonl")[0]["event_id"], dir.rows("b.jsonl")[0]["event_id"]);
}

#[test]
fn a_file_that_one_run_is_writing_is_refused_to_a_second_and_what_a_killed_run_left_is_taken_over() {
    let dir = Dir::new("shared");
    dir.write("out.avro.part", "what a killed run left, longer than what is to come");
    let mut first = start(&dir, "evt-ingest", &["-q", "-f", "jsonl", "--to", "out.avro", "--to", "-"]);
    let mut stdin = first.stdin.take().expect("it is piped");
    writeln!(stdin, "{EVENT}").expect("it reads");
    let mut stdout = first.stdout.take().expect("it is piped");
    stdout.read_exact(&mut [0]).expect("both outputs are open");
    dir.write("in.jsonl", format!("{EVENT}\n{EVENT}\n"));
    for flags in ["", "--overwrite"] {
        let run = dir.shell(&format!("evt-ingest -q in.jsonl --to out.avro {flags}")).ends_with(75);
        assert!(run.stderr().contains("out.avro: another run is writing it"), "{run}");
    }
    drop(stdin);
    std::io::copy(&mut stdout, &mut std::io::sink()).expect("it ends");
    assert_eq!(status(first.wait().expect("it ends")), 0);
    assert_eq!(dir.shell("evt-view -q out.avro -o jsonl").succeeds().rows().len(), 1);
    dir.shell("evt-ingest -q in.jsonl --to out.avro --overwrite").succeeds();
    assert_eq!(dir.shell("evt-view -q out.avro -o jsonl").succeeds().rows().len(), 2);
}

#[test]
fn a_run_that_finds_a_csv_empty_and_writes_to_it_after_another_writes_no_second_header() {
    let dir = Dir::new("header");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    let flags = ["-q", "-f", "jsonl", "--size", "1m", "--to", "out.csv"];
    let mut first = start(&dir, "evt-window", &flags);
    let mut stdin = first.stdin.take().expect("it is piped");
    writeln!(stdin, "{EVENT}").expect("it reads");
    eventually("it has opened its output", || dir.path("out.csv").exists());
    assert!(dir.bytes("out.csv").is_empty());
    dir.run("evt-window", &[&["in.jsonl"], &flags[..]].concat()).succeeds();
    drop(stdin);
    assert_eq!(status(first.wait().expect("it ends")), 0);
    let text = String::from_utf8(dir.bytes("out.csv")).expect("it is text");
    assert!(text.starts_with("metric_name,") && text.matches("metric_id").count() == 1, "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn a_silent_partition_becomes_idle_though_nothing_at_all_arrives() {
    let dir = Dir::new("idle");
    let flags = ["-q", "-f", "jsonl", "--field", "partition=shard", "--partitions", "a,b", "--size", "1m"];
    let flags = [&flags[..], &["--idle-after", "300ms", "-o", "jsonl"]].concat();
    let mut window = start(&dir, "evt-window", &flags);
    let mut stdin = window.stdin.take().expect("it is piped");
    let event = |shard: &str, minute: u32| {
        EVENT.replace("\"a\"", &format!("\"{shard}\"")).replace("10:00", &format!("10:{minute:02}"))
    };
    writeln!(stdin, "{}\n{}\n{}", event("a", 0), event("b", 0), event("a", 30)).expect("it reads");
    let mut line = String::new();
    BufReader::new(window.stdout.take().expect("it is piped")).read_line(&mut line).expect("text");
    assert!(
        line.contains("10:00:00") && line.contains("\"rows\":2"),
        "fires while its input is open and silent: {line}"
    );
    drop(stdin);
    window.wait().expect("it ends");
}

#[test]
fn partitions_that_are_mapped_and_named_are_all_there_are() {
    let dir = Dir::new("mapped");
    let flags = ["-q", "-f", "jsonl", "--field", "partition=shard", "--partitions", "a", "--size", "1m", "-o", "jsonl"];
    let mut window = start(&dir, "evt-window", &flags);
    let mut stdin = window.stdin.take().expect("it is piped");
    writeln!(stdin, "{EVENT}\n{}", EVENT.replace("10:00", "10:30")).expect("it reads");
    let mut line = String::new();
    BufReader::new(window.stdout.take().expect("it is piped")).read_line(&mut line).expect("text");
    assert!(line.contains("10:00:00"), "fires before the end of its input: {line}");
    drop(stdin);
    window.wait().expect("it ends");
}

#[test]
fn a_byte_order_mark_before_text_is_skipped_once() {
    let dir = Dir::new("mark");
    dir.write("in.jsonl", format!("\u{feff}{EVENT}\n{EVENT}\n"));
    dir.write("in.csv", "\u{feff}event_type,source,server_timestamp\nclick,web,2024-01-15T10:00:00Z\n");
    dir.write("mark.jsonl", "\u{feff}");
    dir.write("array.jsonl", format!("\u{feff}[{EVENT}]\n"));
    dir.write("twice.jsonl", format!("\u{feff}\u{feff}{EVENT}\n{EVENT}\n"));
    assert_eq!(dir.run("evt-ingest", &["in.jsonl", "-q", "-o", "jsonl"]).succeeds().rows().len(), 2);
    let csv = dir.run("evt-ingest", &["in.csv", "-q", "-o", "jsonl"]).succeeds();
    assert_eq!(csv.rows()[0]["event_type"], "click", "{csv}");
    assert!(dir.run("evt-ingest", &["mark.jsonl", "-q", "-o", "jsonl"]).succeeds().stdout().is_empty());
    dir.run("evt-ingest", &["array.jsonl", "-q", "-o", "jsonl"]).ends_with(2);
    // A dead letter, which the mark does not change.
    let array = dir.run("evt-ingest", &["array.jsonl", "-f", "jsonl", "-q", "-o", "jsonl"]).ends_with(1);
    assert!(array.stderr().contains("expected a JSON object, found an array"), "{array}");
    assert_eq!(dir.run("evt-ingest", &["twice.jsonl", "-q", "-o", "jsonl"]).ends_with(1).rows().len(), 1);
    // One byte at a time.
    let mut slow = start(&dir, "evt-ingest", &["-f", "jsonl", "-q", "-o", "jsonl"]);
    let mut stdin = slow.stdin.take().expect("it is piped");
    for byte in dir.bytes("in.jsonl") {
        stdin.write_all(&[byte]).expect("it reads");
    }
    drop(stdin);
    let output = slow.wait_with_output().expect("it ends");
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 2);
}

#[test]
fn raw_records_are_written_as_they_were_received() {
    let dir = Dir::new("raw");
    let good = [EVENT, r#"{ "event_type":"x" , "server_timestamp":"2024-01-15T10:00:01Z", "n": 1e400, "e":"\u00e9" }"#];
    dir.write("in.jsonl", format!("{}\r\n{{torn\n\n{}", good[0], good[1]));
    let kept = format!("{}\n{}\n", good[0], good[1]);
    let split = dir.shell("evt-validate in.jsonl -o raw --dlq dead.jsonl").succeeds();
    assert_eq!(split.text(), kept);
    let passed =
        dir.shell("evt-ingest in.jsonl --keep-raw -q --dlq null: | evt-view -q -o raw --where \"event_type = 'x'\"");
    assert_eq!(passed.succeeds().text(), format!("{}\n", good[1]));
    let refused = dir.shell("evt-ingest in.jsonl -q --dlq null: | evt-view -o raw").ends_with(2);
    assert!(refused.stderr().contains("--keep-raw"), "{}", refused.stderr());
    // A store takes the same rows without them.
    dir.shell("evt-ingest in.jsonl --keep-raw -q --dlq null: | evt-sink -q --to sqlite:a.db --to parquet:lake")
        .succeeds();
    dir.shell("evt-ingest in.jsonl -q --dlq null: | evt-sink -q --to sqlite:b.db").succeeds();
    let rows = |name: &str| {
        dir.shell(&format!("evt-view 'sqlite:{name}?table=raw_events' -q -o jsonl --columns event_id,properties"))
            .text()
    };
    assert_eq!(rows("a.db"), rows("b.db"));
    assert_eq!(rows("a.db").lines().count(), 2);
}

#[test]
fn an_output_that_is_an_input_or_is_named_twice_is_refused_before_anything_is_read_or_made() {
    let dir = Dir::new("same");
    dir.write("a.jsonl", format!("{EVENT}\n"));
    dir.shell(
        "mkdir sub; ln -s a.jsonl link.jsonl; ln a.jsonl hard.jsonl; ln -s new.jsonl dangling.jsonl; mkfifo fifo",
    )
    .succeeds();
    dir.shell("ln -s sub linked").succeeds();
    let before = names(&dir);
    let lines = [
        ("evt-ingest a.jsonl --to null: --dlq a.jsonl", "a.jsonl: also an input"),
        ("evt-ingest a.jsonl --to a.jsonl", "a.jsonl: also an input"),
        ("evt-ingest a.jsonl --to ./sub/../a.jsonl --overwrite", "also an input"),
        ("evt-ingest link.jsonl --to a.jsonl", "also an input"),
        ("evt-ingest a.jsonl --to link.jsonl", "also an input"),
        ("evt-ingest a.jsonl --to hard.jsonl", "also an input"),
        ("evt-ingest --to a.jsonl < a.jsonl", "also an input"),
        ("evt-ingest --to - < a.jsonl >> a.jsonl", "-: also an input"),
        ("evt-view a.jsonl --follow --to a.jsonl", "also an input"),
        ("evt-ingest fifo --to fifo", "also an input"),
        ("evt-window a.jsonl --size 1m --to null: --late a.jsonl", "also an input"),
        ("evt-ingest a.jsonl --to null: --stats a.jsonl", "also an input"),
        ("evt-ingest a.jsonl --to - --to -", "-: duplicate output"),
        ("evt-ingest a.jsonl --dlq -", "-: duplicate output"),
        ("evt-ingest a.jsonl --to x.jsonl --to ./x.jsonl", "./x.jsonl: duplicate output"),
        ("evt-ingest a.jsonl --to x.csv --dlq x.csv", "x.csv: duplicate output"),
        ("evt-ingest a.jsonl --to dangling.jsonl --to new.jsonl", "new.jsonl: duplicate output"),
        ("evt-window a.jsonl --size 1m --to null: --late x --dlq sub/../x", "x: duplicate output"),
        ("evt-gen --events 1 --truth sub/x > sub/x", "duplicate output"),
        ("evt-ingest a.jsonl --to parquet:lx --dlq parquet:./lx", "parquet:./lx: duplicate output"),
        ("evt-ingest a.jsonl --to parquet:new/lx --to 'parquet:sub/../new/lx?roll=1MiB'", "duplicate output"),
        ("evt-window a.jsonl --size 1m --to parquet:sub --late parquet:linked", "parquet:linked: duplicate output"),
    ];
    for (line, told) in lines {
        let run = dir.shell(line).ends_with(2).stays_calm();
        assert!(run.stderr().contains(told) && run.stderr().lines().count() == 1, "{line}: {run}");
        dir.shell("rm -f x sub/x").succeeds();
        assert_eq!(names(&dir), before, "{line}");
    }
    assert_eq!(dir.bytes("a.jsonl"), format!("{EVENT}\n").as_bytes());
    dir.shell("evt-ingest -q a.jsonl --to /dev/null --to /dev/null --to null: --to null: --dlq /dev/stderr").succeeds();
    dir.shell("evt-ingest a.jsonl --to parquet:lx --dlq parquet:./lx --check").ends_with(2);
    dir.shell("evt-ingest -q a.jsonl --to sqlite:m.db --dlq sqlite:m.db --to parquet:lx --to parquet:ly").succeeds();
}

#[test]
fn the_place_of_all_dead_letters_is_shared_by_stages_and_can_be_read() {
    let dir = Dir::new("letters");
    dir.write("in.jsonl", format!("{EVENT}\nbroken\n"));
    let pipe = "evt-ingest in.jsonl -q | evt-validate -q | evt-window --size 1m -q --to null:";
    for place in ["dead.jsonl", "dead.csv", "sqlite:dead.db"] {
        dir.shell(&format!("export EVT_DLQ={place}; {pipe}")).succeeds();
    }
    let looked = dir.shell("export EVT_DLQ=dead.jsonl; echo torn >> dead.jsonl; evt-view dead.jsonl --rows -q");
    let looked = looked.ends_with(1);
    assert!(looked.rows().len() == 1 && looked.stderr().contains("dead.jsonl:2: ParseError"), "{looked}");
    assert_eq!(dir.bytes("dead.jsonl").iter().filter(|byte| **byte == b'\n').count(), 2, "nothing was added");
    // A container has one writer at a time, here a first stage that is still running.
    for place in ["dead.parquet", "parquet:dead"] {
        let mut first = start(&dir, "evt-ingest", &["-q", "-f", "jsonl", "--to", "-", "--dlq", place]);
        let mut stdin = first.stdin.take().expect("it is piped");
        writeln!(stdin, "{EVENT}").expect("it reads");
        let mut stdout = first.stdout.take().expect("it is piped");
        stdout.read_exact(&mut [0]).expect("its outputs are open");
        let second = dir.shell(&format!("evt-validate in.jsonl --dlq {place}")).ends_with(75);
        let told = "stages can share a dead-letter output only as JSONL, CSV or SQLite";
        assert!(second.stderr().contains(told) && second.stderr().lines().count() == 1, "{second}");
        drop(stdin);
        std::io::copy(&mut stdout, &mut std::io::sink()).expect("it ends");
        assert_eq!(status(first.wait().expect("it ends")), 0);
    }
}

#[test]
fn a_locked_database_of_dead_letters_is_not_said_to_be_one_that_stages_cannot_share() {
    let dir = Dir::new("locked-letters");
    dir.write("in.jsonl", format!("{EVENT}\nbroken\n"));
    let database = rusqlite::Connection::open(dir.path("dead.db")).expect("it opens");
    database.execute_batch("CREATE TABLE other (a); BEGIN EXCLUSIVE").expect("nothing else has it open");
    let locked = dir.shell("evt-ingest in.jsonl --to null: --dlq 'sqlite:dead.db?wait=1s'").ends_with(75);
    let told = "another run, or another output of this run, has held the lock for 1s (?wait= sets the limit)\n";
    assert!(locked.stderr().ends_with(told) && locked.stderr().lines().count() == 1, "{locked}");
}

#[test]
fn a_fifo_that_nobody_writes_or_reads_can_be_told_to_stop() {
    let dir = Dir::new("lonely");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    dir.shell("mkfifo fifo").succeeds();
    let cases: [(&str, &[&str]); 5] = [
        ("evt-ingest", &["fifo"]),
        ("evt-view", &["fifo"]),
        ("evt-view", &["-f", "frames", "fifo"]),
        ("evt-sink", &["fifo", "in.jsonl", "--to", "out.jsonl"]),
        ("evt-ingest", &["in.jsonl", "--to", "fifo"]),
    ];
    for (tool, args) in cases {
        for (signal, expected) in [(Signal::INT, 130), (Signal::TERM, 143)] {
            let mut command = dir.command(tool, args);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
            let pid = Pid::from_child(&child);
            eventually("it listens for signals", || listens(&child));
            kill_process(pid, signal).expect("it is our child");
            let output = child.wait_with_output().expect("it ends");
            assert_eq!(status(output.status), expected, "{tool} {args:?}: {output:?}");
        }
    }
}

/// Long values exceed one read, views hold short values inline, and an omitted value leaves a gap between its
/// neighbours.
#[test]
fn records_pass_byte_for_byte_however_they_are_read() {
    let dir = Dir::new("raw");
    let record = |n: usize, length: usize| {
        let kind = ["click", "view", "order"][n % 3];
        let text = "x".repeat(length);
        format!(
            r#"{{"source":"s","event_type":"{kind}","server_timestamp":"2026-01-01T00:00:00Z","n":{n},"t":"{text}"}}"#
        )
    };
    let length = |n: usize| [10, 400, 5_000, 200_000, 700_000][n * 7 % 5];
    let records: Vec<String> = (0..60).map(|n| record(n, length(n))).collect();
    let lines = |keep: fn(usize) -> bool, end: &str| -> String {
        records.iter().enumerate().filter(|(n, _)| keep(*n)).map(|(_, record)| record.clone() + end).collect()
    };
    let all = lines(|_| true, "\n");
    dir.write("in.jsonl", &all);
    dir.write("crlf.jsonl", lines(|_| true, "\r\n"));
    dir.write("gaps.jsonl", lines(|_| true, "\n \n\n"));
    dir.write("torn.jsonl", all.trim_end());
    dir.shell("gzip -k in.jsonl").succeeds();
    for (tool, input) in [
        ("evt-ingest", "in.jsonl"),
        ("evt-validate", "in.jsonl"),
        ("evt-view", "in.jsonl"),
        ("evt-validate", "crlf.jsonl"),
        ("evt-validate", "gaps.jsonl"),
        ("evt-validate", "torn.jsonl"),
        ("evt-ingest", "in.jsonl.gz"),
    ] {
        let run = dir.run(tool, &[input, "-o", "raw"]).succeeds();
        assert!(run.stdout() == all.as_bytes(), "{tool} {input}");
    }
    let run = dir.shell("cat in.jsonl | evt-validate -o raw").succeeds();
    assert!(run.stdout() == all.as_bytes(), "from a pipe");
    let run = dir.shell("evt-ingest in.jsonl --keep-raw | evt-validate -o raw").succeeds();
    assert!(run.stdout() == all.as_bytes(), "through frames");
    let run = dir.run("evt-ingest", &["in.jsonl", "--where", "event_type == 'view'", "-o", "raw"]).succeeds();
    assert!(run.stdout() == lines(|n| n % 3 == 1, "\n").as_bytes(), "by a rule");
    let args = ["in.jsonl", "--max-record", "300KiB", "--dlq", "dead.jsonl", "-o", "raw", "--to", "short.out"];
    dir.run("evt-validate", &args).succeeds();
    assert!(dir.bytes("short.out") == lines(|n| n * 7 % 5 != 4, "\n").as_bytes(), "without those that are too long");
    assert_eq!(dir.rows("dead.jsonl").len(), 12);
}

#[test]
fn a_file_name_that_promises_another_format_is_refused_before_anything_is_read() {
    let dir = Dir::new("misnomers");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    for (name, said) in [
        ("out.csv.xz", "evt compresses files as out.csv.gz or out.csv.zst, not as .xz"),
        ("out.data.gz", "unknown extension; use -o FORMAT or one of .jsonl "),
        ("out.xlsx", "unknown extension; use -o FORMAT or one of .jsonl "),
    ] {
        let run = dir.run("evt-ingest", &["in.jsonl", "--to", name]).ends_with(2);
        assert!(run.stderr().contains(&format!("{name}: {said}")), "{run}");
        assert!(!dir.path(name).exists(), "{name}");
    }
    dir.run("evt-ingest", &["in.jsonl", "-o", "csv", "--to", "out.data"]).succeeds();
    assert!(String::from_utf8_lossy(&dir.bytes("out.data")).starts_with("event_id,"));
    dir.run("evt-ingest", &["in.jsonl", "--to", "frames_without_extension"]).succeeds();
    dir.shell("mkfifo out.pipe; evt-ingest in.jsonl -q --to out.pipe & evt-view -q out.pipe -o csv; wait").succeeds();
}

#[test]
fn a_csv_without_rows_has_its_header() {
    let dir = Dir::new("no-rows");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    let window = "evt-window in.jsonl --size 1h --where \"source = 'nowhere'\" -q";
    for format in ["csv", "tsv"] {
        dir.shell(&format!("{window} --to out.{format}")).succeeds();
        let text = String::from_utf8(dir.bytes(&format!("out.{format}"))).expect("UTF-8");
        assert!(text.starts_with("metric_name") && text.lines().count() == 1, "{text:?}");
    }
    let run = dir.shell(&format!("{window} -o csv | evt-view -f csv --kind metric -o jsonl")).succeeds();
    assert_eq!(run.text(), "");
    // A later run appends its rows below the same header.
    dir.shell("evt-window in.jsonl --size 1h -q --append --to out.csv").succeeds();
    assert_eq!(String::from_utf8_lossy(&dir.bytes("out.csv")).lines().count(), 2);
}

#[test]
fn a_compressed_file_is_whole_and_is_never_appended_to() {
    let dir = Dir::new("packed");
    dir.write("in.jsonl", format!("{EVENT}\n").repeat(3000));
    let args = ["in.jsonl", "-q", "--now", "2026-01-02"];
    dir.run("evt-ingest", &[&args[..], &["-o", "csv", "--to", "plain"]].concat()).succeeds();
    for (name, unpack) in [("out.csv.gz", "gzip -dc"), ("out.csv.zst", "zstd -dc"), ("OUT.CSV.GZ", "gzip -dc")] {
        dir.run("evt-ingest", &[&args[..], &["--to", name]].concat()).succeeds();
        let unpacked = dir.shell(&format!("{unpack} < {name}")).succeeds();
        assert!(unpacked.stdout() == dir.bytes("plain"), "{name}");
        let again = dir.run("evt-ingest", &[&args[..], &["--to", name]].concat()).ends_with(2);
        assert!(again.stderr().contains(&format!("{name}: already exists; --overwrite replaces it")), "{again}");
        dir.run("evt-ingest", &[&args[..], &["--overwrite", "--to", name]].concat()).succeeds();
        assert_eq!(dir.shell(&format!("{unpack} < {name} | wc -l")).succeeds().text().trim(), "3001", "{name}");
        assert!(!dir.path(&format!("{name}.part")).exists());
        assert_eq!(dir.run("evt-view", &[name, "-q", "-o", "jsonl"]).succeeds().rows().len(), 3000, "{name}");
    }
    for name in ["out.jsonl.zst", "out.arrows.gz", "out.parquet.zst"] {
        dir.run("evt-ingest", &[&args[..], &["--to", name]].concat()).succeeds();
        assert_eq!(dir.run("evt-view", &[name, "-q", "-o", "jsonl"]).succeeds().rows().len(), 3000, "{name}");
    }
    dir.shell("evt-ingest in.jsonl -q --time nosuch --to null: --dlq none.jsonl.gz").ends_with(2);
    assert!(!dir.path("none.jsonl.gz").exists());
    dir.shell("(echo x; cat in.jsonl) | evt-ingest -q --to null: --dlq dead.jsonl.gz").succeeds();
    assert_eq!(dir.run("evt-view", &["dead.jsonl.gz", "-q", "--rows", "-o", "jsonl"]).succeeds().rows().len(), 1);
}

#[test]
fn an_output_that_names_a_table_is_refused_because_the_kind_of_its_rows_decides_it() {
    let dir = Dir::new("table");
    dir.write("a.jsonl", format!("{EVENT}\n"));
    dir.write("metrics.toml", "[[metric]]\nname = \"n\"\nsize = \"1m\"\n");
    let before = names(&dir);
    let lines = [
        "evt-ingest a.jsonl --to 'sqlite:z.db?table=my_events'",
        "evt-ingest a.jsonl --to 'z.db?table=raw_events'",
        "evt-ingest a.jsonl --to 'parquet:lk?table=dead'",
        "evt-ingest a.jsonl --to null: --dlq 'sqlite:z.db?table=dead_letters'",
        "evt-ingest a.jsonl --to 'postgres://127.0.0.1:1/d?table=raw_events'",
        "evt-backfill a.jsonl -m metrics.toml --to 'sqlite:z.db?table=aggregated_metrics' --all-closed",
    ];
    for line in lines {
        for line in [line.to_owned(), format!("{line} --check")] {
            let run = dir.shell(&line).ends_with(2).stays_calm();
            assert!(run.stderr().contains(": table= is an option of inputs only"), "{line}: {run}");
            assert_eq!(names(&dir), before, "{line}");
        }
    }
}

#[test]
fn a_name_of_a_database_is_the_sqlite_store() {
    let dir = Dir::new("by-name");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    for name in ["a.db", "b.sqlite", "sub.dir/c.DB"] {
        std::fs::create_dir_all(dir.path("sub.dir")).expect("a directory");
        for _ in 0..2 {
            dir.shell(&format!("evt-window in.jsonl --size 1h -q --to {name}")).succeeds();
        }
        let table = format!("sqlite:{name}?table=aggregated_metrics");
        assert_eq!(dir.run("evt-view", &[&table, "-q", "-o", "jsonl"]).succeeds().rows().len(), 1, "{name}");
    }
}

#[test]
fn a_redirected_file_gets_the_format_of_its_name() {
    let dir = Dir::new("redirected");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    for (name, first) in
        [("o.csv", "event_id,"), ("o.tsv", "event_id\t"), ("o.jsonl", "{\"event_id\""), ("o.arrows", "\u{fffd}")]
    {
        let run = dir.shell(&format!("evt-ingest in.jsonl > {name}")).succeeds();
        let text = dir.bytes(name);
        assert!(String::from_utf8_lossy(&text).starts_with(first), "{name}: {run}");
        assert!(!run.stderr().contains("stdout is"), "{run}");
    }
    dir.shell("evt-ingest in.jsonl -q -o jsonl > p.csv").succeeds();
    assert!(dir.bytes("p.csv").starts_with(b"{"));
    dir.shell("EVT_OUTPUT_FORMAT=tsv evt-ingest in.jsonl -q > q.csv").succeeds();
    assert!(dir.bytes("q.csv").starts_with(b"event_id\t"));
    for name in ["o.parquet", "o.db", "o.csv.gz", "o.zst"] {
        let run = dir.shell(&format!("evt-ingest in.jsonl > {name}")).ends_with(2);
        assert!(run.stderr().contains(&format!("use --to {name} instead of > {name}")), "{run}");
        assert_eq!(dir.bytes(name).len(), 0, "{name}");
        std::fs::remove_file(dir.path(name)).expect("it was created");
        if name != "o.zst" {
            dir.shell(&format!("evt-ingest in.jsonl -q --to {name}")).succeeds();
        }
    }
    let run = dir.shell("evt-ingest in.jsonl > o.bin").succeeds();
    assert!(run.stderr().contains("stdout is the file o.bin, which gets frames; -o csv writes text"), "{run}");
    assert!(!dir.shell("evt-ingest in.jsonl -q > o.bin").succeeds().stderr().contains("stdout"));
}

#[test]
fn evt_window_writes_a_table_to_a_terminal() {
    let dir = Dir::new("table");
    dir.write("in.jsonl", format!("{EVENT}\n"));
    let run = dir.shell("script -qec 'evt-window in.jsonl --size 1h -q' /dev/null").succeeds();
    assert!(run.text().contains("window_start") && !run.text().contains("{\"metric_id\""), "{run}");
}
