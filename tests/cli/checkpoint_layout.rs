//! The bytes of the files of a checkpoint are those of LAYOUTS in evt-checkpoint(5): a parser of its own, in Python,
//! reads all of them.

use crate::follow_begun::{LONG, killed_early};
use crate::follow_checkpoint::Log;
use crate::harness::{Dir, Draws, ROOT, ask, python};
use std::path::Path;

/// Windows with and without `where`, without dimensions, and sessions: more state than `--memory` takes.
const METRICS: &str = r#"
[defaults]
by = ["event_id"]
size = "1m"
lateness = "10s"
[[metric]]
name = "spread"
aggregate = "stddev(latency_ms)"
where = "latency_ms > 10"
[[metric]]
name = "tail"
aggregate = "approx_percentile(latency_ms, 0.99)"
[[metric]]
name = "first"
aggregate = "first(latency_ms)"
[[metric]]
name = "users"
aggregate = "count(distinct user_id)"
by = []
[[metric]]
name = "visits"
aggregate = "max(latency_ms)"
by = ["user_id"]
gap = "10s"
"#;

/// Asserts that the parser has found each of these.
fn assert_found(said: &str, wanted: &[&str]) {
    for what in wanted {
        let is_found = said.lines().any(|line| line.strip_prefix(what).is_some_and(|rest| rest.starts_with(' ')));
        assert!(is_found, "expected {what} in\n{said}");
    }
}

#[test]
fn saved_states_of_all_versions_have_the_bytes_of_the_manual() {
    let Some(python) = python() else { return };
    let dir = Dir::new("layout-versions");
    let versions = (1..).map(|version| Path::new(ROOT).join(format!("testdata/state/v{version}")));
    for version in versions.take_while(|path| path.join("window.state").exists()) {
        let paths = ["window.state", "dedup.state"].map(|name| version.join(name).display().to_string());
        let said = ask(&dir, &python, "checkpoint_layout.py", &[&paths[0], &paths[1]]).text();
        assert_found(&said, &["slices", "sessions", "panes", "sum", "stddev", "approx_distinct", "ratio", "ids"]);
    }
}

#[test]
fn the_files_of_a_checkpoint_have_the_bytes_of_the_manual() {
    let Some(python) = python() else { return };
    let dir = Dir::new("layout-files");
    dir.write("m.toml", METRICS);
    dir.shell(
        "evt-gen --events 20000 --seed 7 --rate 500 -q > e.jsonl; evt-ingest -q --checkpoint state e.jsonl --dlq null: \
         | evt-validate -q --dedup 10m --dlq null: | evt-window -q -m m.toml --memory 8MiB --late null: --to m.jsonl; \
         mv m.jsonl.evt.* m.jsonl.evt.intent",
    )
    .succeeds();
    let said = ask(&dir, &python, "checkpoint_layout.py", &["state", "m.jsonl.evt.intent"]).text();
    // Each form that LAYOUTS of the page describes.
    let in_files = ["ranges in files", "ranges of windows", "rows of logs", "ids in files"];
    let others = ["slices", "sessions", "stddev", "first", "max", "count_distinct", "rows of outputs", "intents"];
    assert_found(&said, &[&in_files[..], &others].concat());
}

/// The last run reads none of the files that were read before.
#[test]
fn the_state_of_a_run_over_other_files_has_the_bytes_of_the_manual() {
    let Some(python) = python() else { return };
    let dir = Dir::new("layout-forgotten");
    dir.shell("evt-gen --events 100 --seed 7 -q > e.jsonl").succeeds();
    for file in ["e.jsonl", "/dev/null"] {
        dir.run("evt-window", &["-q", "--size", "1m", "--checkpoint", "state", "--to", "null:", file]).succeeds();
    }
    let said = ask(&dir, &python, "checkpoint_layout.py", &["state"]).text();
    assert_found(&said, &["forgotten partitions"]);
}

/// The first run is killed before its first epoch, so the second one takes its name over, and it begins another one.
#[test]
fn the_notes_of_followed_names_have_the_members_of_the_manual() {
    let Some(python) = python() else { return };
    let mut log = Log::new("layout-followed", Draws::new());
    log.write("app.log", 30);
    killed_early(&log, log.start(&LONG), &["app.log"]);
    log.write("b.log", 30);
    let run = log.start(&["--checkpoint-every", "5ms", "b.log"]);
    log.is_read();
    // A run that is killed may leave a part of an entry.
    assert_eq!(run.stopped(), 143, "{}", log.said());
    let said = ask(&log.dir, &python, "checkpoint_layout.py", &["state"]).text();
    // In an entry and in a note; the note of the first run goes with its epochs.
    let count = said.lines().find_map(|line| line.strip_prefix("begun names ")?.parse().ok());
    assert!(matches!(count, Some(2 | 3)), "{said}");
}
