//! Inputs that evt does not read without a flag: each message names a command, and the command works.

use crate::harness::{Dir, ended, eventually};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

const ROW: &str = "{\"t\":\"2026-01-01\",\"n\":1}\n";

/// Whether a program is installed.
fn has(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program}")]).output().is_ok_and(|found| found.status.success())
}

/// The command that the message of a refused run names.
fn command(dir: &Dir, line: &str) -> String {
    let run = dir.shell(&format!("{line} --to out.jsonl --dlq dead.jsonl")).ends_with(2);
    assert!(!dir.path("out.jsonl").exists() && !dir.path("dead.jsonl").exists(), "{run}");
    let said = run.stderr();
    assert_eq!(said.lines().count(), 1, "{run}");
    said.split_once("; use  ").unwrap_or_else(|| panic!("no command: {run}")).1.trim().to_owned()
}

#[test]
fn a_bracket_before_json_lines_is_a_dead_letter_and_the_lines_are_read() {
    let dir = Dir::new("bracket");
    let line = |n: u32| format!("{{\"t\":\"2026-01-01T00:00:0{n}Z\"}}\n");
    for start in ["[", "[1,", "\n [", "[1,\r"] {
        dir.write("a.jsonl", [format!("{start}\n"), line(1), line(2)].concat());
        for command in ["evt-ingest a.jsonl", "cat a.jsonl | evt-ingest"] {
            let run = dir.shell(&format!("rm -f d.jsonl; {command} -q --time t --dlq d.jsonl -o jsonl")).succeeds();
            assert_eq!((run.rows().len(), dir.rows("d.jsonl").len()), (2, 1), "{start:?} {command}: {run}");
        }
    }
    // An array of which a line has several, or that breaks off.
    for array in ["[\n{\"a\":1},\n{\"a\":2}\n]\n", "[\n{\"a\":1}\n,{\"a\":2}\n", "[{\"b\":\n{\"a\":1}\n}]\n"] {
        dir.write("a.jsonl", array);
        assert!(dir.shell("evt-ingest -q a.jsonl").ends_with(2).stderr().contains("--explode . reads"), "{array}");
    }
}

#[test]
fn archives_and_json_over_several_lines_name_the_program_that_unpacks_them() {
    let dir = Dir::new("archives");
    dir.write("in.jsonl", ROW);
    dir.write("in.csv", "t,n\n2026-01-01,1\n");
    dir.write("compose.log", "web-1  | {\"t\":\"2026-01-01\",\"n\":1}\nweb-2  | {\"t\":\"2026-01-01\",\"n\":{}}\n");
    dir.write("pretty.json", "{\n  \"t\": \"2026-01-01\",\n  \"n\": 1\n}\n");
    // Its array has no objects, which could be records.
    dir.write("tags.json", "{\n  \"tags\": [\n    \"a\",\n    \"b\"\n  ],\n  \"t\": \"2026-01-01\",\n  \"n\": 1\n}\n");
    dir.write("a b.json", "{\n  \"t\": \"2026-01-01\",\n  \"n\": {\"of\": [1]}\n}\n");
    for (program, make, name) in [
        ("sed", "true", "compose.log"),
        ("jq", "true", "pretty.json"),
        ("jq", "true", "tags.json"),
        ("jq", "true", "'a b.json'"),
        ("xz", "xz -k in.jsonl", "in.jsonl.xz"),
        ("xz", "xz -k in.csv", "in.csv.xz"),
        ("bzip2", "bzip2 -k in.jsonl", "in.jsonl.bz2"),
        ("tar", "tar -cf in.tar in.jsonl", "in.tar"),
        ("tar", "tar -czf in.tgz in.jsonl", "in.tgz"),
        ("zip", "zip -q in.zip in.jsonl", "in.zip"),
    ] {
        if !has(program) {
            continue;
        }
        dir.shell(make).succeeds();
        let line = command(&dir, &format!("evt-ingest {name} --time t"));
        assert!(line.contains("| evt-ingest"), "{line}");
        dir.shell(&format!("{line} --time t -q --strict -o jsonl | grep '\"n\":'")).succeeds();
        let piped = command(&dir, &format!("cat {name} | evt-view --time t"));
        assert!(piped.contains("| evt-view"), "{piped}");
    }
}

#[test]
fn arrays_name_the_flag_that_reads_their_elements() {
    let dir = Dir::new("arrays");
    dir.write("array.json", "[{\"t\":\"2026-01-01\",\"n\":1},\n {\"t\":\"2026-01-01\",\"n\":1}]\n");
    dir.write("lines.json", "[\n{\"t\":\"2026-01-01\",\"n\":1}\n]\n");
    let feature = "{\"t\":\"2026-01-01\",\"n\":1}";
    dir.write(
        "features.json",
        format!("{{\"type\":\"F\",\"meta\":{{}},\"features\":[{feature},\n{feature},\n{feature}]}}\n"),
    );
    dir.write("trail.json", "{\n \"v\": 1,\n \"Records\": [\n  {\"t\":\"2026-01-01\",\"n\":[2]}\n ]\n}\n");
    for (input, flag) in [
        ("array.json", "--explode ."),
        ("lines.json", "--explode ."),
        ("trail.json", "--explode Records"),
        ("features.json", "--explode features"),
    ] {
        let run = dir.shell(&format!("evt-ingest {input} --time t --to out.jsonl")).ends_with(2);
        assert!(run.stderr().contains(&format!("; {flag} reads")) && !dir.path("out.jsonl").exists(), "{run}");
        dir.shell(&format!("evt-ingest {input} {flag} --time t -q --strict -o jsonl | grep '\"n\":'")).succeeds();
    }
    // An element that is no object is a dead letter.
    dir.write("mixed.json", "[1,\n{\"t\":\"2026-01-01\"}]\n");
    let run = dir.shell("evt-ingest mixed.json --time t --to out.jsonl").ends_with(2);
    assert!(run.stderr().contains("a JSON array, not JSON lines; --explode . reads its elements"), "{run}");
    let run = dir.shell("evt-ingest mixed.json --explode . --time t -o jsonl --dlq null:").succeeds();
    assert_eq!(run.rows().len(), 1, "{run}");
    // The flag is named only where it reads events.
    for (name, array) in
        [("numbers", "[1,2,3]\n"), ("arrays", "[\n[{\"t\":\"2026-01-01\"}]\n]\n"), ("texts", "[\"{\",\n\"a\"]\n")]
    {
        dir.write(name, array);
        for input in [name.to_owned(), format!("- < {name}")] {
            let run = dir.shell(&format!("evt-ingest {input} --time t --to out.jsonl")).ends_with(2);
            let told = "a JSON array of values that are not objects; records are objects";
            assert!(run.stderr().contains(told) && !run.stderr().contains("--explode"), "{run}");
        }
        let run = dir.shell(&format!("evt-ingest {name} --explode . --time t -o jsonl --dlq null:"));
        assert!(run.rows().is_empty(), "{run}");
    }
    assert!(!dir.path("out.jsonl").exists());
}

/// The first line of a log may begin with a bracket: it is a faulty line, as any other text is.
#[test]
fn a_first_line_in_brackets_is_a_dead_letter_before_lines_of_json() {
    let dir = Dir::new("first-brackets");
    for first in [
        "[INFO] starting",
        "[2026-01-01 00:00:00] started",
        "[12345.678901] usb 1-1: new device",
        "[main] INFO {\"t\":1}",
        "[\"a\"] started",
        "[7] worker",
        "[[INFO]] {",
        "[1,2]",
        "[{\"n\":1}]",
        "[3, main] INFO started",
        "[{\"n\":1}] sent",
        "[]",
    ] {
        for begin in ["", "\u{feff}", "\n \n"] {
            dir.write("b.log", format!("{begin}{first}\n{ROW}{ROW}"));
            for input in ["b.log", "- < b.log"] {
                let run = dir.shell(&format!("evt-ingest {input} --time t -o jsonl --dlq dead.jsonl")).succeeds();
                assert_eq!(run.rows().len(), 2, "{first}: {run}");
                let letters = dir.rows("dead.jsonl");
                assert!(letters.len() == 1 && letters[0]["original_payload"] == first, "{first}: {run}");
                dir.shell("rm dead.jsonl").succeeds();
            }
        }
    }
}

#[test]
fn the_line_that_tells_excel_the_delimiter_is_no_header() {
    let dir = Dir::new("excel");
    for delimiter in [',', ';', '|', '\t'] {
        let table = format!("t{delimiter}n\r\n2026-01-01{delimiter}1\r\n");
        dir.write("e.csv", format!("sep={delimiter}\r\n{table}"));
        for flags in ["", "-f csv", "-f csv --delimiter ,"] {
            let run = dir.shell(&format!("evt-ingest e.csv {flags} --time t --to out.jsonl")).ends_with(2);
            let said = run.stderr();
            assert!(
                said.contains("tells Excel the delimiter and is no header; remove the line, as tail -n +2 does"),
                "{run}"
            );
            assert!(!said.contains("--time") && !dir.path("out.jsonl").exists(), "{run}");
        }
        let run = dir.shell("tail -n +2 e.csv | evt-ingest -f csv --time t -q --strict -o jsonl").succeeds();
        assert_eq!(run.rows().len(), 1, "{delimiter}: {run}");
    }
}

/// A flag names the format, or the file grows: a line that is not an object is a dead letter, wherever it is.
#[test]
fn a_first_line_that_is_an_array_is_a_dead_letter_of_json_lines() {
    let dir = Dir::new("first-array");
    let line = "{\"t\":\"2026-01-01T00:00:00Z\",\"n\":1}\n";
    dir.write("a.json", format!("[1,2]\n{line}[{{\"n\":1}}]\n{line}"));
    for input in ["a.json", "- < a.json"] {
        let run = dir.shell(&format!("evt-ingest -f jsonl {input} --time t -o jsonl --dlq dead.jsonl")).succeeds();
        assert_eq!(run.text().lines().count(), 2, "{run}");
        assert!(run.stderr().contains("in 4 out 2 dead 2"), "{run}");
        let letters = dir.rows("dead.jsonl");
        let dead: Vec<_> = letters.iter().map(|row| row["original_payload"].as_str()).collect();
        assert_eq!(dead, [Some("[1,2]"), Some("[{\"n\":1}]")], "{run}");
        dir.shell("rm dead.jsonl").succeeds();
    }
    dir.shell("evt-view -f jsonl a.json --time t -o csv").ends_with(1);
}

#[test]
fn logs_name_their_format() {
    let dir = Dir::new("logs");
    dir.write("access.log", "1.2.3.4 - - [17/May/2015:10:05:03 +0000] \"GET / HTTP/1.1\" 200 5\n");
    dir.write("app.log", "ts=2026-01-01T00:00:00Z level=info msg=\"a b\"\nts=2026-01-02 level=warn msg=c\n");
    dir.write("sys.log", "Dec 10 06:55:46 LabSZ sshd[24200]: Invalid user x\n<34>Dec 31 23:59:59 LabSZ su: failed\n");
    dir.write("new.log", "<34>1 2003-10-11T22:14:15.003Z host su 17 ID47 [id a=\"1\"] failed\n");
    dir.write(
        "java.log",
        "2026-01-01 00:00:00,123 ERROR [main] x.y: a, b\n2026-01-01 00:00:01,5 INFO [main] x.y: c, d\n",
    );
    dir.write("flags.log", "ts=2026-01-01T00:00:00Z level=info msg=\"a b\" n=1 cached\n");
    dir.write("plain.log", "2026-01-01 00:00:00 INFO started, at last\n2026-01-01 00:00:01 WARN: slow, again\n");
    dir.write("table.txt2", "t,n\n2026-01-01,1\n2026-01-02,2\n");
    dir.write("west.csv", b"t;city\n2026-01-01;Z\xfcrich\n");
    // The euro sign in the header.
    dir.write("euro.csv", b"t;EUR \x80\n2026-01-01;1\n");
    let wide: Vec<u8> = "t;n\n2026-01-01;1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    dir.write("wide.csv", [&[0xff, 0xfe][..], &wide].concat());
    for (input, flags, more) in [
        ("access.log", "-f clf", ""),
        ("app.log", "-f logfmt", "--time ts"),
        ("sys.log", "-f syslog --time-year 2016", ""),
        ("new.log", "-f syslog", ""),
        ("java.log", r"-f 'regex:^(?<time>\S+ \S+) +(?<message>.*)' --time time", ""),
        ("flags.log", "-f logfmt", "--time ts"),
        ("plain.log", r"-f 'regex:^(?<time>\S+ \S+) +(?<message>.*)' --time time", ""),
        ("table.txt2", "-f csv", "--time t"),
        ("west.csv", "--encoding windows-1252", "--time t"),
        ("euro.csv", "--encoding windows-1252", "--time t"),
        ("wide.csv", "--encoding utf-16le", "--time t"),
    ] {
        let run = dir.shell(&format!("evt-ingest {input} {more} --to out.jsonl")).ends_with(2);
        let said = flags.replace("2016", "N");
        assert!(run.stderr().contains(&format!("; {said} reads")) && !dir.path("out.jsonl").exists(), "{run}");
        dir.shell(&format!("evt-ingest {input} {flags} {more} -q --strict --to null:")).succeeds();
        if !input.ends_with(".csv") {
            let run = dir.shell(&format!("cat {input} | evt-window --size 1h {more}")).ends_with(2);
            assert!(run.stderr().contains("-: ") && run.stderr().contains(&said), "{run}");
        }
    }
    let line = r"evt-ingest java.log -f 'regex:^(?<time>\S+ \S+) +(?<message>.*)' --time time -q -o jsonl";
    let rows = dir.shell(line).succeeds().rows();
    assert_eq!(
        (&rows[0]["properties"]["message"], &rows[0]["event_time"]),
        (&"ERROR [main] x.y: a, b".into(), &"2026-01-01T00:00:00.123000Z".into())
    );
    let line = "evt-ingest sys.log -f syslog --time-year 2016 --time-zone America/New_York -q -o jsonl";
    let rows = dir.shell(line).succeeds().rows();
    assert_eq!(
        (&rows[0]["event_type"], &rows[0]["event_time"]),
        (&"syslog".into(), &"2016-12-10T11:55:46.000000Z".into())
    );
    assert_eq!((&rows[1]["properties"]["severity"], &rows[1]["properties"]["appname"]), (&"crit".into(), &"su".into()));
    let run = dir.shell("evt-ingest sys.log -f syslog --to out.jsonl").ends_with(2);
    assert!(run.stderr().contains("--time-year") && !dir.path("out.jsonl").exists(), "{run}");
    let rows = dir.shell("evt-ingest flags.log -f logfmt --time ts -q -o jsonl").succeeds().rows();
    assert_eq!(rows[0]["properties"]["cached"], true);
    let rows = dir.shell("evt-ingest app.log -f logfmt --time ts -q -o jsonl").succeeds().rows();
    assert_eq!(rows[0]["properties"]["msg"], "a b");
}

#[test]
fn a_spreadsheet_is_exported_and_not_unzipped() {
    let dir = Dir::new("spreadsheets");
    let zip = |name: &[u8]| [&b"PK\x03\x04\x14\0\0\0\x08\0"[..], &[0; 20], name].concat();
    dir.write("a.xlsx", zip(b"[Content_Types].xml"));
    dir.write("b.xlsx", [zip(b"_rels/.rels"), zip(b"xl/workbook.xml")].concat());
    dir.write("c.ods", zip(b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet"));
    dir.write("d.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0");
    dir.write("e.zip", zip(b"sheet.csv"));
    for name in ["a.xlsx", "b.xlsx", "c.ods", "d.xls"] {
        let run = dir.shell(&format!("evt-ingest {name} --to out.jsonl")).ends_with(2);
        let told = format!("evt-ingest: {name}: a spreadsheet; export it as CSV, which evt-ingest reads\n");
        assert_eq!((run.stderr(), dir.path("out.jsonl").exists()), (told, false));
    }
    let run = dir.shell("evt-ingest e.zip --to out.jsonl").ends_with(2);
    assert!(run.stderr().contains("a zip archive; use  unzip -p e.zip"), "{run}");
}

#[test]
fn a_log_of_postgresql_without_a_header_names_the_flag_that_reads_it() {
    let dir = Dir::new("csvlog");
    dir.write("pg.csv", "2026-11-22 00:00:00.123 UTC,app,,1,,started\n2026-11-22 00:00:01.123 UTC,app,,1,,ready\n");
    let run = dir.shell("evt-ingest pg.csv --to out.jsonl --dlq dead.jsonl").ends_with(2);
    assert!(run.stderr().contains("--header NAMES or --no-header reads a file without a header"), "{run}");
    assert!(!dir.path("out.jsonl").exists() && !dir.path("dead.jsonl").exists(), "{run}");
    let line = "evt-ingest pg.csv --no-header --time c1 -q --strict -o jsonl";
    assert_eq!(dir.shell(line).succeeds().rows().len(), 2);
}

#[test]
fn databases_and_lakes_name_their_scheme() {
    let dir = Dir::new("stores");
    dir.write("in.jsonl", ROW);
    dir.shell("evt-ingest in.jsonl --time t -q --to sqlite:m.db --to parquet:lake").succeeds();
    dir.run("evt-ingest", &["m.db", "--to", "null:"]).succeeds();
    dir.shell("cp m.db m.data").succeeds();
    let run = dir.run("evt-ingest", &["m.data", "--to", "null:"]).ends_with(2);
    assert!(run.stderr().contains("m.data: a SQLite database; use sqlite:m.data\n"), "{run}");
    dir.run("evt-view", &["sqlite:m.db", "-q"]).succeeds();
    let run = dir.run("evt-view", &["lake"]).ends_with(2);
    assert!(run.stderr().contains("lake: a directory of Parquet files; use parquet:lake\n"), "{run}");
    assert_eq!(dir.run("evt-view", &["parquet:lake", "-q", "-o", "jsonl"]).succeeds().rows().len(), 1);
}

#[test]
fn text_with_an_object_in_its_first_lines_is_json_lines() {
    let dir = Dir::new("objects");
    for (name, head) in
        [("a.log", "not json\n"), ("b.log", "a=1 b=2\n"), ("c.log", "x,y\n1,2\n"), ("d.log", "Z\u{fc}rich\n")]
    {
        dir.write(name, format!("{head}{ROW}"));
        let run = dir.shell(&format!("evt-ingest {name} --time t -o jsonl")).ends_with(1);
        assert_eq!(run.rows().len(), 1, "{run}");
    }
    // A pipe that continues is read at once; without the row, the timeout ends the wait for it.
    let mut command = dir.command("timeout", &["60", "evt-ingest", "--time", "t", "-q", "-o", "jsonl"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut pipe = child.stdin.take().expect("it is piped");
    pipe.write_all(ROW.as_bytes()).expect("it reads");
    let mut first = String::new();
    // The reader stays: without one an idle run ends.
    let mut rows = BufReader::new(child.stdout.take().expect("it is piped"));
    rows.read_line(&mut first).expect("it writes text");
    assert!(first.contains("\"n\":1"), "{first}");
    drop(pipe);
    assert!(child.wait().expect("it ends").success());
    drop(rows);
}

#[test]
fn a_pattern_reads_any_lines() {
    let dir = Dir::new("pattern");
    dir.write("in.log", "2026-01-01 00:00:05 [warn] disk full\nbroken\n2026-01-01 00:00:06 [info] \n");
    let pattern = r"^(?<at>\S+ \S+) \[(?<level>\w+)\] (?<text>.+)?$";
    let args = ["in.log", "-f", &format!("regex:{pattern}"), "--time", "at", "-o", "jsonl"];
    let run = dir.run("evt-ingest", &args).ends_with(1);
    let rows = run.rows();
    assert_eq!(rows[0]["properties"]["text"], "disk full");
    assert_eq!((rows.len(), rows[1]["properties"].get("text")), (2, None));
    assert!(run.stderr().contains("in.log:2: ParseError: the line does not match the pattern"), "{run}");
    for (format, said) in [
        ("regex:\\w+", "expected a named group for each field"),
        ("regex:(?<a>", "unclosed group"),
        ("regex", "expected regex:PATTERN with named groups"),
    ] {
        let run = dir.run("evt-ingest", &["in.log", "-f", format]).ends_with(2);
        assert!(run.stderr().contains(said), "{run}");
    }
}

/// No stage of evt wrote these bytes, which are too few to recognise a format.
#[test]
fn text_of_no_known_format_on_stdin_does_not_keep_a_tool_from_ending_at_the_first_signal() {
    let dir = Dir::new("recognise_signal");
    dir.write(
        "rules.toml",
        "[[rule]]\nname = \"r\"\naggregate = \"count(*)\"\ncondition = \"gt\"\nthreshold = 1\nwindow_seconds = 60\n",
    );
    let event = "{\"server_timestamp\":\"2026-01-01T00:00:00Z\"}\n";
    let text = format!("Listening on port 80\n{}", event.repeat(8));
    for (name, args) in
        [("evt-view", vec![]), ("evt-sink", vec!["--to", "out.jsonl"]), ("evt-alert", vec!["--rules", "rules.toml"])]
    {
        let mut command = dir.command(name, &args);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(text.as_bytes()).expect("it reads");
        eventually("it has read the text", || ioctl_fionread(&stdin).is_ok_and(|left| left == 0));
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
        assert_eq!(ended(name, &mut child), 143);
        let mut said = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        assert!(said.contains(&format!("stopped before its format was known; {} bytes", text.len())), "{said}");
    }
}
