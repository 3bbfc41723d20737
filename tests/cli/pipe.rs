//! Pipes of several stages: a reader that leaves, a verdict that travels.

use crate::harness::Dir;

#[test]
fn a_stage_whose_reader_leaves_dies_of_sigpipe_whatever_its_parent_ignores() {
    let dir = Dir::new("epipe");
    for line in ["", "trap '' PIPE; "] {
        let line =
            format!("{line}evt-gen -q | evt-ingest -q | evt-validate -q | head -c 9 > head; echo ${{PIPESTATUS[@]}}");
        assert_eq!(dir.shell(&line).text(), "141 141 141 0\n");
    }
}

#[test]
fn the_worst_verdict_of_the_stages_reaches_the_last_one() {
    let dir = Dir::new("verdict");
    dir.shell("evt-gen --events 1k --malformed 0.1 --seed 1 -q > in.jsonl").succeeds();
    // Without pipefail: sh sees the last stage alone.
    let run = dir.shell(
        "set +o pipefail; evt-ingest in.jsonl -q --report 0 | evt-validate -q | evt-window --size 1m -q --to null:",
    );
    run.ends_with(1);
    dir.shell("evt-ingest in.jsonl -q --dlq dead.jsonl | evt-window --size 1m -q --to null:").succeeds();
}
