//! evt-pipe: the same results, messages and statuses as the line in a shell.

use crate::checkpoint_pipes::Pipe;
use crate::harness::{Dir, Run, data, ended, eventually, is_killed_within, listens};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::Stdio;

/// Runs a line in a shell and by evt-pipe, each in a directory of its own with the files that `fill` writes. Both must
/// have the same output, messages, and statuses of the stages.
#[track_caller]
fn compared(name: &str, line: &str, fill: &dyn Fn(&Dir)) -> [(Dir, Run); 2] {
    let (shell, pipe) = (Dir::new(&format!("{name}-shell")), Dir::new(&format!("{name}-pipe")));
    [&shell, &pipe].into_iter().for_each(fill);
    let of_shell =
        shell.shell(&format!("export EVT_NOW=2024-01-15T11:00:00Z; {line}; echo ${{PIPESTATUS[@]}} > statuses"));
    let of_pipe = pipe.run("evt", &["pipe", "--now", "2024-01-15T11:00:00Z", "--stats", "stats.json", line]);
    assert_eq!(of_pipe.text(), of_shell.text(), "{of_pipe}");
    assert_eq!(sorted(&of_pipe), sorted(&of_shell), "{of_pipe}");
    assert_eq!(statuses(&pipe), String::from_utf8(shell.bytes("statuses")).expect("numbers").trim(), "{of_pipe}");
    [(shell, of_shell), (pipe, of_pipe)]
}

/// The messages of a run. The stages write theirs independently of each other.
fn sorted(run: &Run) -> Vec<String> {
    let mut lines: Vec<String> = run.stderr().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// The statuses in `stats.json`, as a shell prints them.
fn statuses(dir: &Dir) -> String {
    let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
    let stages = stats["stages"].as_array().expect("it is a list");
    stages.iter().map(|stage| stage["status"].to_string()).collect::<Vec<_>>().join(" ")
}

/// Writes generated events with all kinds of faults.
fn events(dir: &Dir) {
    let line =
        "evt-gen --events 20k --malformed 0.01 --late 0.01 --duplicates 0.01 --partitions 3 --seed 1 -q > in.jsonl";
    dir.shell(line).succeeds();
}

/// Counts of `--stats`, without the time that the run took.
fn counts(dir: &Dir, name: &str) -> Value {
    let mut stats: Value = serde_json::from_slice(&dir.bytes(name)).expect("JSON");
    let fields = stats.as_object_mut().expect("an object");
    ["cpu_seconds", "cpu_seconds_per_million"].iter().for_each(|field| _ = fields.remove(*field));
    stats
}

#[test]
fn a_pipeline_has_the_results_of_the_shell() {
    let window = "evt-window -q --agg 'n=count(*)' --by event_type --size 1m --late late.jsonl --out-of-orderness 10s";
    let ingest = "evt-ingest -q in.jsonl --report 3 --dlq dead.jsonl --stats 1.json";
    for (name, line, files) in [
        (
            "frames",
            format!("{ingest} | evt-validate --dedup 1h --stats 2.json | {window} | evt-sink -q --to rows.csv"),
            5,
        ),
        ("view", format!("{ingest} | evt validate -q | {window} | evt-view -o csv"), 3),
        ("text", format!("{ingest} -o jsonl | evt-view -q -o csv | evt-ingest -q -f csv | evt-view -o jsonl"), 2),
        ("store", format!("{ingest} | {window} --to sqlite:m.db --to - | evt-view -o jsonl --where 'value > 1'"), 3),
    ] {
        let [(shell, of_shell), (pipe, of_pipe)] = compared(name, &line, &events);
        assert_eq!(of_pipe.status(), of_shell.status(), "{of_pipe}");
        let names = ["dead.jsonl", "late.jsonl", "rows.csv", "1.json", "2.json"];
        let written = names.iter().filter(|name| shell.path(name).exists());
        let written: Vec<_> = written
            .inspect(|name| match name.ends_with(".json") {
                true => assert_eq!(counts(&pipe, name), counts(&shell, name), "{name}"),
                false => assert!(pipe.bytes(name) == shell.bytes(name), "{name}: {line}"),
            })
            .collect();
        assert_eq!(written.len(), files, "{line}: {written:?}");
        if name == "store" {
            let table = "evt-view -q -o csv 'sqlite:m.db?table=aggregated_metrics'";
            assert_eq!(pipe.shell(table).text(), shell.shell(table).text());
        }
    }
}

/// The stage before writes frames without their bytes, and this one reads bytes.
#[test]
fn a_stage_that_reads_frames_as_text_gets_their_bytes() {
    // So few rows that the load of the machine does not decide how many batches have them.
    let event = r#"{"source":"s","event_type":"t","server_timestamp":"2024-01-15T10:00:00Z"}"#;
    let fill = |dir: &Dir| dir.write("in.jsonl", format!("{event}\n").repeat(3));
    let text = "-f 'regex:(?<kind>evt\\.[a-z]+)' --encoding latin1";
    let line = format!("evt-ingest -q in.jsonl | evt-view -q {text} --dlq letters.jsonl -o csv");
    let [(shell, _), (pipe, run)] = compared("as-text", &line, &fill);
    assert!(run.text().contains("evt.stages") && run.text().contains("evt.end"), "{run}");
    assert!(pipe.bytes("letters.jsonl") == shell.bytes("letters.jsonl"));
}

#[test]
fn real_data_has_the_results_of_the_shell() {
    let Some(path) = data("events/wikiticker-2015-09-12-sampled.json.gz") else { return };
    let line = format!(
        "evt-ingest -q '{}' --time time --set source=wiki --field event_type=channel | evt-validate -q | \
         evt-window -q --agg 'n=count(*)' --agg 'added=sum(added)' --by event_type --size 1h | evt-view -q -o csv",
        path.display()
    );
    let [(_, run), _] = compared("real", &line, &|_| {});
    assert!(run.text().lines().count() > 500, "{run}");
}

/// The stages of a line that ends with tables and files in epochs.
fn stages_in_epochs() -> Vec<(&'static str, Vec<String>)> {
    [
        (
            "evt-ingest",
            "-q in.jsonl --checkpoint state --checkpoint-every 20ms --dlq dead.jsonl --now 2024-01-15T11:00:00Z",
        ),
        ("evt-validate", "-q --dedup 1h --dlq dead.jsonl"),
        (
            "evt-window",
            "-q --agg n=count(*) --by event_type --size 1m --out-of-orderness 10s --late late.jsonl --emit final",
        ),
        ("evt-sink", "-q --to sqlite:m.db --to rows.csv"),
    ]
    .map(|(tool, args)| (tool, args.split(' ').map(str::to_owned).collect()))
    .to_vec()
}

#[test]
fn lines_of_a_file_may_end_with_cr_lf() {
    let dir = Dir::new("pipe-crlf");
    let text = "# A comment.\n\nevt-gen -q --events 5 |   \n  evt-ingest -q \\\n -f jsonl \\\n | evt-view -q --columns \\\nevent_type -o \"js\\\nonl\"\n";
    dir.write("lf", text);
    let right = dir.shell("evt pipe --now 2024-01-15T11:00:00Z -f lf").succeeds().text();
    assert_eq!(right.lines().count(), 5, "{right}");
    for text in [text.replace('\n', "\r\n"), text.trim_end().replace('\n', "\r\n") + "\r"] {
        dir.write("crlf", text);
        let run = dir.shell("evt pipe --now 2024-01-15T11:00:00Z -f crlf").succeeds();
        assert_eq!(run.text(), right);
    }
}

/// Kills a pipeline in a shell and by evt-pipe in turn; each continues the checkpoint of the other.
#[test]
fn a_checkpoint_of_the_shell_is_continued_and_the_reverse() {
    let (whole, dir) = (Dir::new("one-process-whole"), Dir::new("one-process-kills"));
    let stages = stages_in_epochs();
    let line =
        stages.iter().map(|(tool, args)| format!("{tool} '{}'", args.join("' '"))).collect::<Vec<_>>().join(" | ");
    [&whole, &dir].into_iter().for_each(events);
    whole.shell(&line).succeeds();
    for (round, millis) in [90, 130, 170, 110, 150].into_iter().enumerate() {
        if round % 2 == 0 {
            let mut command = dir.command("evt", &["pipe", &line]);
            is_killed_within(command.stdin(Stdio::null()).stderr(Stdio::null()), millis);
            continue;
        }
        let mut pipe = Pipe::start(&dir, &stages);
        std::thread::park_timeout(std::time::Duration::from_millis(millis));
        (0..stages.len()).for_each(|stage| pipe.signal(stage, Signal::KILL));
        pipe.wait();
    }
    dir.run("evt", &["pipe", &line]).succeeds();
    let table =
        "evt-view -q -o csv 'sqlite:m.db?table=aggregated_metrics' --columns window_start,dimensions,value,rows";
    assert_eq!(dir.shell(table).succeeds().text(), whole.shell(table).succeeds().text());
    let lines = |dir: &Dir, name: &str| {
        let mut lines: Vec<String> =
            String::from_utf8(dir.bytes(name)).expect("text").lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    // Stages append to one file of dead letters in any order.
    for name in ["dead.jsonl", "late.jsonl", "rows.csv"] {
        assert!(lines(&dir, name) == lines(&whole, name), "{name}");
    }
}

#[test]
fn a_stage_that_fails_decides_and_its_neighbours_end_as_in_a_shell() {
    let ingest = "evt-ingest -q in.jsonl --report 0";
    for (name, line, status, stages) in [
        ("middle", format!("{ingest} | evt-window -q --size 1x | evt-view -q -o csv"), 2, Some("141 2 65")),
        (
            "first",
            "evt-ingest -q missing.jsonl | evt-validate -q | evt-view -q -o csv".to_owned(),
            74,
            Some("74 65 65"),
        ),
        ("last", format!("{ingest} | evt-validate -q | evt-sink -q --to sqlite:missing/m.db"), 74, Some("141 141 74")),
        ("verdict", format!("{ingest} --strict | evt-validate -q | evt-view -q -o csv"), 1, Some("1 1 1")),
        ("head", format!("{ingest} | evt-validate -q | evt-view -q --head 1 -o csv"), 0, None),
        (
            "bytes",
            format!("{ingest} | evt-view -q -o jsonl | evt-view -q --head 1 -o csv -f jsonl"),
            0,
            Some("141 141 0"),
        ),
    ] {
        let [_, (pipe, run)] = compared(name, &line, &events);
        let run = run.ends_with(status);
        assert!(stages.is_none_or(|stages| statuses(&pipe) == stages), "{}: {run}", statuses(&pipe));
    }
}

#[test]
fn a_reader_that_leaves_ends_the_process_as_a_shell_says() {
    let dir = Dir::new("one-process-epipe");
    let line = "evt pipe 'evt-gen -q | evt-ingest -q | evt-view -q -o jsonl'";
    for line in [line.to_owned(), format!("trap '' PIPE; {line}")] {
        assert_eq!(dir.shell(&format!("{line} | head -c 9 > head; echo ${{PIPESTATUS[@]}}")).text(), "141 0\n");
    }
    // No row comes, so no write shows that the reader has gone.
    dir.write("in.jsonl", "{\"server_timestamp\":\"2024-01-15T10:00:00Z\"}\n");
    let line = "evt pipe 'evt-ingest -q --follow in.jsonl | evt-validate -q | evt-window -q --size 1h' | true";
    assert_eq!(dir.shell(&format!("{line}; echo ${{PIPESTATUS[@]}}")).text(), "141 0\n");
}

/// The first stage stops reading, and the others get all rows that it has read.
#[test]
fn a_signal_ends_all_stages_in_order_and_the_process_dies_of_it() {
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let dir = Dir::new("one-process-signal");
        let line = "evt-ingest -q - | evt-validate -q | evt-window -q --agg 'n=count(*)' --size 1m | \
                    evt-sink --to rows.jsonl";
        let mut command = dir.command("evt", &["pipe", "--stats", "stats.json", line]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        writeln!(stdin, r#"{{"source":"s","event_type":"t","server_timestamp":"2024-01-15T10:00:00Z"}}"#)
            .expect("read");
        eventually("it listens", || listens(&child));
        eventually("it has read", || rustix::io::ioctl_fionread(&stdin).is_ok_and(|left| left == 0));
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        let mut said = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        assert_eq!(ended("the pipeline", &mut child), status, "{said}");
        assert_eq!(statuses(&dir), [status; 4].map(|status| status.to_string()).join(" "));
        assert!(said.contains("stopped"), "{said}");
    }
}

#[test]
fn faults_of_the_text_are_named_with_their_place() {
    let dir = Dir::new("one-process-text");
    dir.write("faulty.evt", "evt-ingest $EVENTS |\n# all of them\n  evt-view *.csv\n");
    for (line, status, message) in [
        (
            "evt pipe 'evt-ingest a > b'",
            2,
            "line 1, column 14: found > outside of quotes: a shell would redirect standard output; --to FILE names an output; '>' stands for itself",
        ),
        ("evt pipe 'evt-ingest a | evt-view $NOT_SET'", 78, "line 1, column 25: the variable NOT_SET is not set"),
        (
            "EVENTS=a evt pipe -f faulty.evt",
            78,
            "faulty.evt: line 3, column 12: found * outside of quotes: a shell would replace the pattern by names of files; '*' stands for itself",
        ),
        ("evt pipe -f missing.evt", 78, "missing.evt: no such file or directory"),
        (
            "evt pipe 'evt-ingest a | evt-wiew'",
            2,
            "line 1, column 16: expected a tool of evt, found 'evt-wiew': did you mean evt-view?",
        ),
        (
            "evt pipe 'ingest a'",
            2,
            "line 1, column 1: expected a tool of evt, found 'ingest': did you mean evt-ingest?",
        ),
        (
            "evt pipe 'evt pipe x'",
            2,
            "line 1, column 1: expected a stage, found evt-pipe: its stages can be written here",
        ),
    ] {
        let run = dir.shell(line).ends_with(status);
        assert_eq!(run.stderr(), format!("evt-pipe: {message}\n"));
    }
    let run = dir.shell("evt pipe").ends_with(2);
    assert!(
        run.stderr().starts_with("evt-pipe: the following required arguments were not provided: <PIPELINE>"),
        "{run}"
    );
}

#[test]
fn a_check_checks_all_stages_and_creates_nothing() {
    let dir = Dir::new("one-process-check");
    events(&dir);
    let line = "evt-ingest in.jsonl | evt-window --agg 'n=count(*)' --size 1m | evt-sink --to sqlite:m.db";
    let run = dir.run("evt", &["pipe", "--check", line]).succeeds();
    let text = run.text();
    assert!(text.starts_with("in.jsonl: ready\n") && text.contains("sqlite:m.db: ready"), "{run}");
    let faulty = line.replace("in.jsonl", "missing.jsonl").replace("1m", "1x");
    let run = dir.run("evt", &["pipe", "--check", &faulty]).ends_with(2);
    assert!(run.stderr().contains("evt-ingest: missing.jsonl: "), "{run}");
    assert!(
        run.stderr().contains("evt-window: invalid value '1x'") && run.text().contains("sqlite:m.db: ready"),
        "{run}"
    );
    assert!(!dir.path("m.db").exists());
}

#[test]
fn flags_of_the_pipeline_reach_the_stages_that_do_not_have_them() {
    let dir = Dir::new("one-process-flags");
    events(&dir);
    dir.write("evt.toml", "report = '0'\n[evt-view]\noutput-format = 'csv'\n");
    dir.write("p.evt", "evt-ingest in.jsonl --pipeline mine | # all\n evt-view --head 1\n");
    let args = ["pipe", "-f", "p.evt", "--log-format", "json", "--pipeline", "ours", "--config", "evt.toml"];
    let run = dir.run("evt", &args).succeeds();
    assert_eq!(run.text().lines().count(), 2, "{run}");
    let said: Vec<Value> = run.stderr().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: BTreeMap<&str, &str> = said
        .iter()
        .map(|line| (line["tool"].as_str().unwrap_or_default(), line["pipeline"].as_str().unwrap_or_default()))
        .collect();
    assert!(names.get("evt-ingest").is_none_or(|name| *name == "mine"), "{run}");
    assert!(names.get("evt-view").is_none_or(|name| *name == "ours") && !names.is_empty(), "{run}");
    assert_eq!(dir.run("evt", &[&args[..], &["-q"]].concat()).succeeds().stderr(), "");
    let help = dir.run("evt", &["pipe", "evt-ingest --help"]).succeeds();
    assert_eq!(help.text(), dir.run("evt-ingest", &["--help"]).succeeds().text());
}
