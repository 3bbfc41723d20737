//! No run that lost, dropped, replaced or refused a row exits 0 without a line on stderr, with `-q` or without, unless
//! a flag shows that the loss is intended.

use crate::harness::{Dir, Run, eventually};
use crate::servers;
use serde_json::Value;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Three events: the last one is late for its window by an hour, with an out-of-orderness of 30 seconds.
const LATE: &str =
    "{\"t\":\"2026-01-01T00:10:00Z\"}\n{\"t\":\"2026-01-01T02:00:00Z\"}\n{\"t\":\"2026-01-01T00:00:00Z\"}\n";

fn event(time: &str) -> String {
    format!("{{\"t\":\"2026-01-01T{time}Z\"}}\n")
}

/// The messages of evt-window about late rows.
fn said(run: &Run) -> Vec<String> {
    run.stderr().lines().filter(|line| line.contains(" late")).map(str::to_owned).collect()
}

#[test]
fn late_rows_with_nowhere_to_go_make_exit_1_and_a_line_that_q_keeps() {
    let dir = Dir::live("late-lost");
    dir.write("in.jsonl", LATE);
    let window = |flags: &str| dir.shell(&format!("evt-window in.jsonl --time t --size 1h {flags} -o jsonl"));
    let lost = "evt-window: 1 event was late (--out-of-orderness all counts every event of an input that ends, and 1h1us would have counted all; --late FILE keeps them)";
    let quiet = window("-q").ends_with(1);
    assert_eq!(quiet.stderr(), format!("{lost}\n"));
    assert_eq!(said(&window("").ends_with(1))[0], lost);
    // The bound is the least: a microsecond less loses the row.
    assert_eq!(window("-q --out-of-orderness 1h1us").succeeds().stderr(), "");
    assert_eq!(window("-q --out-of-orderness 1h").ends_with(1).stderr(), format!("{lost}\n"));
    for late in ["late.jsonl", "null:"] {
        let kept = window(&format!("-q --late {late}")).succeeds();
        assert_eq!(kept.stderr(), "");
        assert_eq!(kept.rows(), quiet.rows());
        window(&format!("-q --late {late} --strict")).ends_with(1);
    }
    assert_eq!(dir.rows("late.jsonl").len(), 2, "one from each of two runs");
}

#[test]
fn a_verdict_on_late_rows_reaches_the_last_stage() {
    let dir = Dir::live("late-verdict");
    dir.write("in.jsonl", LATE);
    let line = "evt-ingest in.jsonl --time t -q | evt-window --size 1h -q | evt-sink -q --to sqlite:m.db";
    let statuses = dir.shell(&format!("{line}; echo \"${{PIPESTATUS[@]}}\"")).succeeds();
    assert_eq!(statuses.text(), "0 1 1\n", "{statuses}");
}

#[test]
fn half_late_rows_are_lost_without_late_and_only_counted_with_it() {
    let dir = Dir::live("half-late");
    // 00:00:30 belongs to windows that end at 00:01 to 00:10; at 00:05:40, less 30 s, the first five have closed.
    dir.write("in.jsonl", event("00:05:40") + &event("00:00:30"));
    let window =
        |flags: &str| dir.shell(&format!("evt-window in.jsonl --time t --size 10m --slide 1m -q {flags} --to null:"));
    let lost = "evt-window: 1 event was late for some of its windows (--out-of-orderness all counts every event of an input that ends, and 4m40s1us would have counted all; --late FILE --late-partial keeps them)\n";
    assert_eq!(window("").ends_with(1).stderr(), lost);
    assert_eq!(window("--out-of-orderness 4m40s1us").succeeds().stderr(), "");
    assert_eq!(window("--out-of-orderness 4m40s").ends_with(1).stderr(), lost);
    assert_eq!(window("--late late.jsonl").succeeds().stderr(), "");
    assert!(!dir.path("late.jsonl").exists() || dir.rows("late.jsonl").is_empty(), "it is only counted");
    assert_eq!(window("--late late.jsonl --late-partial").succeeds().stderr(), "");
    assert_eq!(dir.rows("late.jsonl").len(), 1);
    window("--late late.jsonl --strict").ends_with(1);
}

#[test]
fn a_row_late_for_one_metric_of_two_is_lost() {
    let dir = Dir::live("late-one");
    dir.write("in.jsonl", LATE);
    dir.write("m.toml", "[[metric]]\nname = \"short\"\nsize = \"1h\"\n[[metric]]\nname = \"day\"\nsize = \"1d\"\n");
    let run = dir.shell("evt-window in.jsonl --time t -m m.toml --to null:").ends_with(1);
    assert!(run.stderr().contains("1 event was late (--out-of-orderness all counts every event of an input that ends, and 1h1us would have counted all"), "{run}");
    assert!(run.stderr().contains("evt-window: short: 1 late\n"), "{run}");
}

#[test]
fn rows_late_because_a_partition_was_idle_are_lost() {
    let dir = Dir::new("late-idle");
    let row = |partition: &str, hour: u32| format!("{{\"t\":\"2026-01-01T{hour:02}:00:00Z\",\"p\":\"{partition}\"}}\n");
    dir.write("a.jsonl", row("a", 2) + &row("a", 5));
    dir.write("b.jsonl", row("b", 0));
    // The window of partition a fires when b has become idle; only then the test writes the records of b.
    let line = "mkfifo in; (evt-ingest in -f jsonl --time t --field partition=p --partitions a,b -q \
                | evt-window --size 1h --idle-after 1ms -q -o jsonl > out.jsonl) & pipe=$!; exec 3> in; cat a.jsonl >&3; \
                until [[ -s out.jsonl ]]; do sleep 0.02; done; cat b.jsonl >&3; exec 3>&-; wait $pipe";
    let run = dir.shell(line).ends_with(1);
    let lost = "evt-window: 1 event was late (1 because a partition was idle or new; --late FILE keeps them)\n";
    assert_eq!(run.stderr(), lost);
    assert_eq!(dir.rows("out.jsonl").len(), 2);
}

/// The pipe is quiet for longer than --idle-after, and the file is read once the pipe has ended.
#[test]
fn rows_of_a_file_that_is_read_after_a_quiet_pipe_are_not_late() {
    let dir = Dir::new("late-after-pipe");
    let rows = |minutes: std::ops::Range<u32>| -> String {
        minutes.map(|minute| format!("{{\"t\":\"2026-01-01T00:{minute:02}:00Z\"}}\n")).collect()
    };
    dir.write("b.jsonl", rows(0..6));
    let flags = ["-", "b.jsonl", "-f", "jsonl", "--time", "t", "--size", "1m", "--out-of-orderness", "0s"];
    let flags = [&flags[..], &["--idle-after", "300ms", "-o", "jsonl"]].concat();
    let mut window = dir.command("evt-window", &flags);
    let mut run =
        window.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut pipe = run.stdin.take().expect("a pipe");
    pipe.write_all(rows(0..6).as_bytes()).expect("it reads");
    let start = Instant::now();
    eventually("the pipe is quiet for longer than --idle-after", || start.elapsed() > Duration::from_millis(1500));
    pipe.write_all(rows(6..8).as_bytes()).expect("it reads");
    drop(pipe);
    let ended = run.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.contains("in 14 out 14"), "{said}");
}

#[test]
fn out_of_orderness_all_loses_no_row_and_fires_at_the_end() {
    let dir = Dir::new("all");
    dir.write("in.jsonl", LATE);
    let window = |flags: &str| format!("evt-window --time t --size 1h --out-of-orderness all {flags}");
    let run = dir.shell(&format!("{} in.jsonl", window("-q -o jsonl"))).succeeds();
    let rows: Vec<_> = run.rows().iter().map(|row| row["rows"].as_i64().unwrap()).collect();
    assert_eq!((rows, run.stderr()), (vec![2, 1], String::new()));
    // A file on standard input has an end. A pipe may end much later, which evt-window reports once.
    let waits = "waits for the end of the input; no window fires before";
    let read = dir.shell(&format!("{} < in.jsonl", window("-o jsonl -f jsonl"))).succeeds();
    assert!(!read.stderr().contains(waits), "{read}");
    let piped = dir.shell(&format!("cat in.jsonl | {}", window("-o jsonl -f jsonl"))).succeeds();
    assert_eq!(piped.stderr().matches(waits).count(), 1, "{piped}");
    assert_eq!(piped.rows().len(), 2);
    // The input must have no other source of watermarks, and must have an end.
    for (flags, told) in [
        ("--idle-after 1m in.jsonl", "--idle-after"),
        ("--control in.jsonl", "--control"),
        ("kafka://localhost:1/t", "set end= for"),
        ("'kafka://localhost:1/t?format=frames'", "set end= for"),
    ] {
        let run = dir.shell(&window(flags)).ends_with(2);
        assert!(run.stderr().contains("--out-of-orderness all") && run.stderr().contains(told), "{run}");
    }
    let promised = "{\"$evt\":{\"watermark\":\"2026-01-01T03:00:00Z\"}}\n";
    dir.write("promised.jsonl", event("02:00:00") + promised);
    let line = "evt-ingest promised.jsonl --time t --control -q | evt-window --size 1h --out-of-orderness all -q";
    let run = dir.shell(line).ends_with(2);
    assert!(run.stderr().contains("--out-of-orderness all cannot be used with an input that has watermarks"), "{run}");
}

#[test]
fn windows_that_wait_for_the_end_cannot_be_used_with_a_checkpoint() {
    let dir = Dir::new("all-checkpoint");
    dir.write("in.jsonl", LATE);
    for line in [
        "evt-window in.jsonl --time t --checkpoint ck --size 1h --out-of-orderness all --to out.jsonl -q",
        "evt-ingest in.jsonl --time t --checkpoint ck -q | evt-window --size 1h --out-of-orderness all --to out.jsonl -q",
    ] {
        let run = dir.shell(line).ends_with(2);
        assert!(run.stderr().contains("--out-of-orderness all") && run.stderr().contains("--checkpoint"), "{run}");
        assert!(!dir.path("out.jsonl").exists(), "{run}");
        dir.shell("rm -rf ck").succeeds();
    }
    let check =
        ["--check", "in.jsonl", "--checkpoint", "ck", "--size", "1h", "--out-of-orderness", "all", "--time", "t"];
    dir.run("evt-window", &check).ends_with(2);
}

#[test]
fn windows_that_wait_for_the_end_are_held_where_the_input_was_told_to_stop() {
    let dir = Dir::live("all-stopped");
    dir.write("in.jsonl", LATE);
    let stop = "evt-ingest --follow in.jsonl --time t -q > s.frames & ingest=$!; \
                until [[ $(evt-view -q s.frames -o jsonl 2>/dev/null | wc -l) == 3 ]]; do sleep 0.02; done; \
                kill -TERM $ingest; wait $ingest";
    dir.shell(stop).ends_with(143);
    let run = dir.shell("evt-window s.frames --size 1h --out-of-orderness all -q -o jsonl").ends_with(1);
    assert_eq!(run.text(), "");
    let said = "nothing has fired, 2 open windows held: --out-of-orderness all, the default for inputs that end, waits for the end; \
                --out-of-orderness 30s fires windows before it, --at-end fire also at a signal";
    assert!(run.stderr().contains(said), "{run}");
}

/// Stores that are empty: SQLite, the lake, and the servers there are.
fn stores(name: &str) -> Vec<String> {
    let servers = [servers::redis(), servers::postgres()].into_iter().flatten().map(|(output, ..)| output);
    [format!("sqlite:{name}.db"), format!("parquet:{name}")].into_iter().chain(servers).collect()
}

/// Ends a run over `events` in `store`.
fn store(dir: &Dir, events: &str, store: &str) -> Run {
    dir.shell(&format!("evt-window {events} --time t --size 1h -q | evt-sink -q --to '{store}'"))
}

#[test]
fn two_runs_over_parts_of_a_window_are_told_apart_from_one_run_twice() {
    let dir = Dir::new("parts");
    let part = |from: u32, to: u32| (from..to).map(|n| event(&format!("00:10:{n:02}"))).collect::<String>();
    dir.write("three.jsonl", part(0, 3));
    dir.write("one.jsonl", part(3, 4));
    dir.write("four.jsonl", part(0, 4));
    let replaced = "replaced 1 row of another run (a metric row covers its whole window), first count(*) \
                    2026-01-01T00:00:00.000000Z {}: rows 3 before, 4 now\n";
    let conflict = "conflict: 1 key keeps a stored row with more events than the last row of this run \
                    (a metric row covers its whole window), first count(*) 2026-01-01T00:00:00.000000Z {}; \
                    evt-backfill computes the right rows\n";
    for output in stores("parts") {
        let run = |events: &str| store(&dir, events, &output);
        assert_eq!(run("three.jsonl").succeeds().stderr(), "", "{output}");
        assert_eq!(run("three.jsonl").succeeds().stderr(), "", "{output}");
        let refused = run("one.jsonl").ends_with(1);
        assert!(refused.stderr().ends_with(conflict) && refused.stderr().lines().count() == 1, "{refused}");
        let grown = run("four.jsonl").succeeds();
        assert!(grown.stderr().ends_with(replaced) && grown.stderr().lines().count() == 1, "{grown}");
    }
}

#[test]
fn one_run_with_lateness_and_sessions_twice_is_no_conflict() {
    let dir = Dir::new("lateness-twice");
    dir.write(
        "m.toml",
        "[[metric]]\nname = \"n\"\nsize = \"10s\"\nlateness = \"1h\"\n\
         [[metric]]\nname = \"s\"\ngap = \"200ms\"\nlateness = \"1h\"\nby = [\"user_id\"]\n",
    );
    dir.shell(
        "evt-gen -q --events 8k --rate 50 --late 0.05 --seed 3 \
         | evt-window -f jsonl -m m.toml --out-of-orderness 1s --late null: -q --to panes.jsonl",
    )
    .succeeds();
    let rows = dir.rows("panes.jsonl");
    assert!(rows.iter().any(|row| row["pane"] == 1 && row["metric_name"] == "n"), "some windows fire twice");
    assert!(rows.iter().any(|row| row["retracted"] == true), "some sessions merge");
    for output in stores("twice") {
        let run = || dir.shell(&format!("evt-sink -q panes.jsonl --to '{output}' --stats s.json")).succeeds();
        assert_eq!(run().stderr(), "", "{output}");
        assert_eq!(run().stderr(), "", "{output}");
    }
    let run = dir.shell("evt-sink panes.jsonl --to sqlite:twice.db").succeeds();
    assert!(run.stderr().contains(" stale "), "the first panes are refused on the way: {run}");
}

#[test]
fn late_rows_that_their_store_cannot_hold_are_dropped_and_told() {
    let dir = Dir::live("late-refused");
    let Some((output, ..)) = servers::postgres() else { return };
    dir.write("in.jsonl", LATE.replace("00:00:00Z\"", "00:00:00Z\",\"user_id\":\"a\\u0000b\""));
    let window = format!("evt-window in.jsonl --time t --size 1h --to null: -q --late '{output}'");
    let run = dir.shell(&window).ends_with(1);
    assert!(run.stderr().contains("in.jsonl:3: SinkError: user_id"), "{run}");
    assert_eq!(dir.shell(&format!("{window} --dlq dead.jsonl")).succeeds().stderr(), "");
    assert_eq!(dir.rows("dead.jsonl").len(), 1);
}

#[test]
fn rows_refused_for_a_greater_revision_are_counted_and_named_once() {
    let dir = Dir::new("revision");
    dir.write("in.jsonl", event("00:10:00") + &event("00:20:00"));
    dir.shell(
        "evt-window in.jsonl --time t --size 1h -q -o jsonl > live.jsonl; \
         sed 's/\"revision\":0/\"revision\":1/; s/\"rows\":2/\"rows\":1/' live.jsonl > repaired.jsonl",
    )
    .succeeds();
    for output in stores("revision") {
        let run = |rows: &str| dir.shell(&format!("evt-sink -q {rows} --to '{output}'")).succeeds().stderr();
        assert_eq!(run("repaired.jsonl"), "", "{output}");
        let said = run("live.jsonl");
        assert_eq!(said.lines().count(), 1, "{output}: {said}");
        assert!(
            said.contains("1 row of this run was rejected, because evt-backfill has corrected the stored row; first "),
            "{said}"
        );
    }
}

/// A way to lose a row: the shell command (`QUIET` becomes `-q` or nothing), its exit status, and its message about the
/// loss; no message if a flag shows that the loss is intended.
struct Loss {
    line: &'static str,
    status: i32,
    said: &'static str,
}

const fn loss(line: &'static str, status: i32, said: &'static str) -> Loss {
    Loss { line, status, said }
}

const LOSSES: [Loss; 42] = [
    // Records that are not events.
    loss("evt-ingest QUIET faulty.jsonl --time t --to null:", 1, "faulty.jsonl:2: ParseError"),
    loss("evt-ingest QUIET faulty.jsonl --time t --to null: --report 0", 1, ""),
    loss("evt-ingest QUIET faulty.jsonl --time t --to null: --dlq dead.jsonl", 0, ""),
    loss("evt-ingest QUIET faulty.jsonl --time t --to null: --dlq null:", 0, ""),
    loss("evt-ingest QUIET faulty.jsonl --time t --to null: --dlq dead.jsonl --strict", 1, ""),
    loss("evt-validate QUIET faulty.jsonl --time t --to null:", 1, "faulty.jsonl:2: ParseError"),
    loss("evt-window QUIET faulty.jsonl --time t --size 1h --to null:", 1, "faulty.jsonl:2: ParseError"),
    loss("evt-view QUIET faulty.jsonl --time t --to null:", 1, "faulty.jsonl:2: ParseError"),
    loss("evt-sink QUIET faulty.jsonl --time t --to sqlite:faulty.db", 1, "faulty.jsonl:2: ParseError"),
    loss("evt-sink QUIET faulty.jsonl --time t --to sqlite:faulty.db --dlq dead.jsonl", 0, ""),
    loss("evt-ingest QUIET times.jsonl --time t --to null:", 1, "TimestampError"),
    loss("evt-ingest QUIET long.jsonl --time t --max-record 1KiB --to null:", 1, "TooLargeError"),
    loss("evt-ingest QUIET future.jsonl --time t --max-future 1m --to null:", 1, "FutureTimestampError"),
    loss("evt-ingest QUIET fields.csv --time t --to null:", 1, "ParseError"),
    loss("evt-ingest QUIET access.log -f clf --to null:", 1, "ParseError"),
    loss("evt-ingest QUIET faulty.jsonl --time t | evt-sink QUIET --to null:", 1, "faulty.jsonl:2: ParseError"),
    // Events that a stage rejects.
    loss("evt-validate QUIET invalid.jsonl --schemas schemas --to null:", 1, "SchemaValidationError"),
    loss("evt-validate QUIET invalid.jsonl --schemas schemas --to null: --dlq dead.jsonl", 0, ""),
    loss("evt-window QUIET texts.jsonl --time t --size 1h --agg 'max(v)' --to null:", 1, "AggregationError"),
    loss("evt-ingest QUIET twice.jsonl --time t --where 'v = 1' --to null:", 0, ""),
    loss("evt-window QUIET twice.jsonl --time t --size 1h --where 'v = 1' --to null:", 0, ""),
    loss("evt-validate QUIET twice.jsonl --time t --dedup 1h --to null:", 0, ""),
    loss("evt-view QUIET twice.jsonl --time t --head 1 --to null:", 0, ""),
    // Events that come too late.
    loss(
        "evt-window QUIET late.jsonl --time t --size 1h --to null:",
        1,
        "1 event was late (--out-of-orderness all counts every event of an input that ends, and 1h1us ",
    ),
    loss("evt-window QUIET late.jsonl --time t --size 1h --late null: --to null:", 0, ""),
    loss("evt-window QUIET late.jsonl --time t --size 1h --late null: --strict --to null:", 1, ""),
    loss("evt-window QUIET late.jsonl --time t --gap 1m --to null:", 1, "1 event was late (--out-of-orderness "),
    loss(
        "evt-window QUIET late.jsonl --time t --size 4h --slide 1h --to null:",
        1,
        "1 event was late for some of its windows (--out-of-orderness ",
    ),
    loss("evt-window QUIET late.jsonl --time t --size 4h --slide 1h --late null: --to null:", 0, ""),
    loss("evt-window QUIET late.jsonl --time t --size 1h --out-of-orderness all --to null:", 0, ""),
    loss("evt-window QUIET one.jsonl --time t --size 1h --at-end hold --to null:", 1, "1 open window held"),
    // Truncated streams.
    loss("head -c 2000 whole.frames | evt-window QUIET --size 1h --to null:", 65, "torn stream"),
    loss("head -c 60 packed.jsonl.gz | evt-ingest QUIET - -f jsonl --time t --to null:", 65, "gzip"),
    // Rows that a store rejects or replaces.
    loss("evt-sink QUIET foreign.jsonl --to sqlite:foreign.db", 1, "SinkError"),
    loss("evt-sink QUIET foreign.jsonl --to sqlite:foreign.db --dlq dead.jsonl", 0, ""),
    loss("evt-sink QUIET foreign.jsonl --to sqlite:foreign.db --dlq dead.jsonl --strict", 1, ""),
    loss("evt-sink -q two.jsonl --to parquet:LAKE; evt-sink QUIET first.jsonl --to parquet:LAKE", 1, "conflict: 1 key"),
    loss("evt-sink -q two.jsonl --to sqlite:DB; evt-sink QUIET first.jsonl --to sqlite:DB", 1, "conflict: 1 key"),
    loss(
        "evt-sink -q first.jsonl --to sqlite:DB; evt-sink QUIET two.jsonl --to sqlite:DB",
        0,
        "replaced 1 row of another",
    ),
    loss(
        "evt-sink -q first.jsonl --to parquet:LAKE; evt-sink QUIET two.jsonl --to parquet:LAKE",
        0,
        "replaced 1 row of",
    ),
    loss(
        "evt-ingest -q told.jsonl --time t --to sqlite:DB; \
         evt-ingest QUIET retold.jsonl --time t --origin told.jsonl --to sqlite:DB",
        1,
        "conflict: 1 row differs",
    ),
    loss("printf '{\"a' > torn.jsonl; evt-ingest QUIET one.jsonl --time t --append --to torn.jsonl", 0, "torn.jsonl"),
];

fn losing() -> Dir {
    let dir = Dir::live("losses");
    let good = event("00:10:00");
    dir.write("one.jsonl", &good);
    dir.write("faulty.jsonl", good.clone() + "{broken\n");
    dir.write("times.jsonl", good.clone() + "{\"t\":\"never\"}\n");
    dir.write(
        "long.jsonl",
        good.clone() + &format!("{{\"t\":\"2026-01-01T00:11:00Z\",\"v\":\"{}\"}}\n", "x".repeat(2000)),
    );
    let arrived = "\"server_timestamp\":\"2026-01-01T00:10:00Z\"}\n";
    let at = |hour: u32| format!("{{\"t\":\"2026-01-01T{hour:02}:10:00Z\",{arrived}");
    dir.write("future.jsonl", at(0) + &at(9));
    dir.write("fields.csv", "t,v\n2026-01-01T00:10:00Z,1\n2026-01-01T00:10:00Z,1,2\n");
    dir.write(
        "access.log",
        "10.0.0.1 - - [15/Jan/2024:10:00:00 +0000] \"GET / HTTP/1.1\" 200 7 \"-\" \"curl/8\"\nno such line\n",
    );
    let id = "\"event_id\":\"00000000-0000-4000-8000-000000000001\"";
    dir.write(
        "twice.jsonl",
        format!("{{\"t\":\"2026-01-01T00:10:00Z\",{id},\"v\":1}}\n{{\"t\":\"2026-01-01T00:10:00Z\",{id},\"v\":2}}\n"),
    );
    dir.write("told.jsonl", format!("{{\"t\":\"2026-01-01T00:10:00Z\",{id},\"v\":1}}\n"));
    dir.write("retold.jsonl", format!("{{\"t\":\"2026-01-01T00:10:00Z\",{id},\"v\":2}}\n"));
    dir.write(
        "texts.jsonl",
        "{\"t\":\"2026-01-01T00:10:00Z\",\"v\":1}\n{\"t\":\"2026-01-01T00:10:00Z\",\"v\":\"x\"}\n",
    );
    dir.write("schemas/tick/1.avsc", r#"{"type":"record","name":"tick","fields":[{"name":"n","type":"int"}]}"#);
    dir.write("invalid.jsonl", "{\"event_type\":\"tick\",\"n\":1}\n{\"event_type\":\"tick\",\"n\":\"x\"}\n");
    dir.write("late.jsonl", LATE);
    dir.write("pair.jsonl", good.clone() + &good);
    dir.shell(
        "evt-ingest one.jsonl --time t -q > whole.frames; gzip -c faulty.jsonl > packed.jsonl.gz; \
         evt-window one.jsonl --time t --size 1h -q -o jsonl > first.jsonl; \
         evt-window pair.jsonl --time t --size 1h -q -o jsonl > two.jsonl; \
         sed 's/\"metric_name\":\"/&other/' first.jsonl > foreign.jsonl",
    )
    .succeeds();
    dir
}

#[test]
fn no_run_that_lost_a_row_ends_with_0_and_no_line_unless_a_flag_says_so() {
    let dir = losing();
    let mut faults = vec![];
    for (number, Loss { line, status, said }) in LOSSES.iter().enumerate() {
        for quiet in ["-q", ""] {
            let place = format!("{number}{quiet}");
            let line = line.replace("QUIET", quiet);
            let line = line.replace("DB", &format!("{place}.db")).replace("LAKE", &format!("lake{place}"));
            // The status of the last stage: it has the worst verdict.
            let run = dir.shell(&format!("set +o pipefail; {line}")).stays_calm();
            let silent = quiet == "-q" && said.is_empty();
            if run.status() != *status || !run.stderr().contains(said) || silent && !run.stderr().is_empty() {
                faults.push(format!("expected {status} and '{said}': {run}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let intended = LOSSES.iter().filter(|loss| loss.status == 0 && loss.said.is_empty());
    assert!(intended.clone().count() > 5);
    for Loss { line, .. } in intended {
        let flags = ["--dlq", "--late", "--where", "--dedup", "--head", "--out-of-orderness all"];
        assert!(flags.iter().any(|flag| line.contains(flag)), "no flag says that it is intended: {line}");
    }
}

/// An event under an id of its own, with these members.
fn identified(number: u32, members: &str) -> String {
    format!("{{\"event_id\":\"00000000-0000-4000-8000-{number:012}\",\"t\":\"2026-01-01T00:10:00Z\",{members}}}\n")
}

#[test]
fn an_event_that_is_stored_with_other_content_is_a_conflict_and_a_repetition_is_none() {
    let dir = Dir::new("content");
    let (first, third) = (identified(1, r#""a":1,"b":[1.50]"#), identified(3, r#""source":"x","user_id":"u""#));
    dir.write("first.jsonl", first.clone() + &identified(2, r#""source":"x""#) + &third);
    let respelled = identified(1, r#""b":[1.5], "a":1.0"#);
    dir.write("same.jsonl", respelled + &identified(2, r#""source":"x""#) + &third);
    dir.write("source.jsonl", first.clone() + &identified(2, r#""source":"y""#) + &third);
    let other = identified(1, r#""a":2,"b":[1.50]"#);
    dir.write("two.jsonl", other + &identified(2, r#""source":"x""#) + &identified(3, r#""source":"x""#));
    dir.write("time.jsonl", first.replace("00:10:00", "00:11:00"));
    dir.write("new.jsonl", identified(9, r#""a":2"#));
    let postgres = servers::postgres().map(|(output, ..)| output);
    for store in ["sqlite:content.db".to_owned(), "parquet:content".to_owned()].into_iter().chain(postgres) {
        let told = |rows: u32, first: u32| {
            let id = format!("00000000-0000-4000-8000-{first:012} at in/0@{first}");
            let rows = if rows == 1 { "1 row differs".to_owned() } else { format!("{rows} rows differ") };
            let rule = "from the stored row of the same origin, partition, offset and event_id, which is kept";
            format!("conflict: {rows} {rule}; first {id}\n")
        };
        let run = |name: &str| {
            let flags = ["--time", "t", "--origin", "in", "--stats", "stats.json", "--to", &store];
            dir.run("evt-ingest", &[&["-q", name], &flags[..]].concat())
        };
        let outcomes = || {
            let stats: Value = serde_json::from_slice(&dir.bytes("stats.json")).expect("JSON");
            let counts = stats["outputs"][0]["counts"].clone();
            ["inserted", "unchanged", "conflict"].map(|outcome| counts[outcome].as_u64().expect("a count"))
        };
        for (name, wanted) in [("first.jsonl", [3, 0, 0]), ("first.jsonl", [0, 3, 0]), ("same.jsonl", [0, 3, 0])] {
            assert_eq!((run(name).succeeds().stderr(), outcomes()), (String::new(), wanted), "{store} {name}");
        }
        for (name, wanted, first) in
            [("source.jsonl", [0, 2, 1], 2), ("two.jsonl", [0, 1, 2], 1), ("time.jsonl", [0, 0, 1], 1)]
        {
            let refused = run(name).ends_with(1);
            assert!(outcomes() == wanted && refused.stderr().lines().count() == 1, "{:?} {refused}", outcomes());
            let conflicts = u32::try_from(wanted[2]).expect("small");
            let named = (1..=3).any(|first| refused.stderr().ends_with(&told(conflicts, first)));
            assert!(named && (conflicts > 1 || refused.stderr().ends_with(&told(1, first))), "{refused}");
        }
        // Another event at the same position is a new row, because standard input has the same positions on every day.
        assert_eq!((run("new.jsonl").succeeds().stderr(), outcomes()), (String::new(), [1, 0, 0]), "{store}");
        assert_eq!((run("first.jsonl").succeeds().stderr(), outcomes()), (String::new(), [0, 3, 0]), "{store}");
    }
}

/// An event whose time is that of its arrival has another one in every run.
#[test]
fn an_event_without_a_time_is_no_conflict_in_the_next_run() {
    let dir = Dir::new("arrival");
    dir.write("in.jsonl", "{\"a\":1}\n{\"a\":2}\n");
    for store in ["sqlite:arrival.db".to_owned()].into_iter().chain(servers::postgres().map(|(output, ..)| output)) {
        for (day, outcome) in [(1, "inserted 2"), (2, "unchanged 2")] {
            let now = format!("2026-01-0{day}T00:00:00Z");
            let run = dir.run("evt-view", &["in.jsonl", "--now", &now, "--to", &store]).succeeds();
            assert!(run.stderr().contains(outcome), "{run}");
        }
    }
}

/// The end of a stage's stream holds its verdict, even if only dead letters make the verdict fail.
#[test]
fn the_next_stage_knows_that_dead_letters_could_not_be_written() {
    let dir = Dir::new("letters-refused");
    dir.write("two.jsonl", "broken\nbroken too\n");
    dir.write("one.jsonl", "broken\n");
    let ingest = |name: &str| {
        let flags = "-q --now 2026-01-01T00:00:00Z --time t --dlq 'parquet:dead?mode=replace'";
        dir.shell(&format!("evt-ingest {name} {flags} | evt-view -q --to null:; echo ${{PIPESTATUS[@]}}"))
    };
    assert_eq!(ingest("two.jsonl").text(), "0 0\n");
    let refused = ingest("one.jsonl");
    assert!(refused.stderr().contains("parquet:dead: nothing was replaced"), "{refused}");
    assert_eq!(refused.text(), "1 1\n", "{refused}");
}

/// Their ids are derived from their positions, which differ.
#[test]
fn repeats_of_records_without_ids_cannot_be_found_and_dedup_says_so_with_the_flags_that_find_them() {
    let dir = Dir::new("no-ids");
    dir.write("in.jsonl", "{\"t\":\"2026-01-01T00:00:00Z\",\"s\":\"a\"}\n".repeat(2));
    let line = "evt-validate -q in.jsonl --time t --dedup 1h --to null:";
    let said = "2 records have no event_id, so --dedup cannot find repeats; --field event_id=FIELD --hash-ids derives";
    for flags in ["", "--field event_id=nosuch --hash-ids"] {
        let run = dir.shell(&format!("{line} {flags}")).succeeds();
        assert!(run.stderr().contains(said) && run.stderr().lines().count() == 1, "{run}");
    }
    let found = dir.shell(&format!("{line} --field event_id=s --hash-ids --stats stats")).succeeds();
    assert_eq!(found.stderr(), "");
    assert_eq!(dir.rows("stats")[0]["counts"]["duplicate"], 1);
    let silent = dir.shell("evt-validate -q in.jsonl --time t --to null:").succeeds();
    assert_eq!(silent.stderr(), "");
}
