//! `--check` ends with the status that the run has, also where the run learns of the fault only when it has begun.

use crate::harness::Dir;
use crate::services::EVENT;

/// Checks that `--check` and the run of a line end with one status, and that both say why.
fn assert_same(dir: &Dir, line: &str, (status, cause): (i32, &str)) {
    let (tool, rest) = line.split_once(' ').expect("arguments");
    let checked = match tool {
        "evt" => line.replacen("evt pipe", "evt pipe --check", 1),
        _ => format!("{tool} --check {rest}"),
    };
    for line in [checked.as_str(), line] {
        let run = dir.shell(line).ends_with(status);
        assert!(run.stderr().contains(cause), "{line}: {run}");
    }
}

/// Returns a directory with an event and its schemas, of which one is not JSON.
fn with_events(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.write("e.jsonl", format!("{EVENT}\n"));
    std::fs::create_dir_all(dir.path("schemas/t")).expect("writable");
    dir.write("schemas/t/1.avsc", "{ no JSON");
    dir
}

#[test]
fn a_check_compares_the_options_of_the_state_in_a_checkpoint() {
    let dir = with_events("check-states");
    let window = "evt-window -q e.jsonl --checkpoint ck --to sqlite:m.db";
    dir.shell(&format!("{window} --size 1m")).succeeds();
    let cause = "as in the checkpoint, found --out-of-orderness 5s";
    assert_same(&dir, &format!("{window} --size 1m --out-of-orderness 5s"), (78, cause));
    assert_same(&dir, &format!("{window} --size 1m --emit final"), (78, "found --emit final"));
    for line in
        [format!("{window} --size 1m"), format!("{window} --size 2m"), format!("{window} --size 2m --by source")]
    {
        dir.shell(&format!("{line} --check")).succeeds();
        dir.shell(&line).succeeds();
    }
}

#[test]
fn a_check_of_a_pipeline_compares_the_stages_and_the_state_in_its_checkpoint() {
    let dir = with_events("check-stages");
    let pipe = |middle: &str| {
        format!("evt pipe 'evt-ingest -q e.jsonl --checkpoint ck | {middle}evt-sink -q --to sqlite:v.db'")
    };
    let right = pipe("evt-validate -q --dedup 1m | ");
    dir.shell(&right.replacen("evt pipe", "evt pipe --check", 1)).succeeds();
    dir.shell(&right).succeeds();
    assert_same(&dir, &pipe("evt-validate -q --dedup 2m | "), (78, "expected --dedup 1m"));
    assert_same(&dir, &pipe(""), (78, "evt-validate"));
    assert_same(&dir, &pipe("evt-validate -q --dedup 1m | evt-validate -q | "), (78, "evt-validate"));
    dir.shell(&right.replacen("evt pipe", "evt pipe --check", 1)).succeeds();
    dir.shell(&right).succeeds();
}

#[test]
fn a_check_of_a_pipeline_compares_each_stage_with_those_before_it() {
    let dir = with_events("check-neighbours");
    dir.write("bad.jsonl", "no JSON\n{\"event_time\":\"2024-01-15T10:00:00Z\",\"source\":5}\n");
    for (line, found) in [
        (
            "evt pipe 'evt-ingest -q e.jsonl --checkpoint c | evt-window -q --size 1m | evt-sink -q --to o.parquet'",
            (2, "o.parquet: --checkpoint: expected a file that is appended to"),
        ),
        (
            "evt pipe 'evt-ingest -q e.jsonl --checkpoint d | evt-sink -q - e.jsonl --to sqlite:o.db'",
            (2, "as the only input"),
        ),
        ("evt pipe 'evt-ingest -q e.jsonl --to null: | evt-sink -q --to o.jsonl'", (65, "-: ")),
    ] {
        assert_same(&dir, line, found);
    }
    // What the run says depends on which stage is done first.
    for (line, found) in [
        ("evt-ingest -q bad.jsonl --dlq d.parquet | evt-sink -q --to null: --dlq d.parquet", "d.parquet: "),
        ("evt-ingest -q e.jsonl --to - --to o.parquet | evt-sink -q --to o.parquet", "o.parquet: "),
    ] {
        let check = dir.shell(&format!("evt pipe --check '{line}'")).ends_with(75);
        assert!(check.stderr().contains(found), "{check}");
    }
    for line in [
        "evt pipe 'evt-ingest -q e.jsonl --checkpoint f | evt-window -q --size 1m | evt-sink -q --to w.jsonl'",
        "evt pipe 'evt-ingest -q e.jsonl --to null: | evt-sink -q e.jsonl --to p.jsonl'",
        "evt pipe 'evt-ingest -q e.jsonl --dlq q.jsonl | evt-sink -q --to null: --dlq q.jsonl'",
        "evt pipe 'evt-ingest -q e.jsonl --to - --to null: | evt-view -q -o jsonl'",
    ] {
        assert_same(&dir, line, (0, ""));
    }
}

#[test]
fn a_check_finds_what_the_flags_of_records_and_the_names_of_inputs_show() {
    let dir = with_events("check-flags");
    for (line, found) in [
        ("evt-window --size 1m e.jsonl ./e.jsonl", (2, "two raw inputs have the same origin")),
        ("evt-ingest e.jsonl ./e.jsonl --to null:", (2, "two raw inputs have the same origin")),
        ("evt-ingest e.jsonl --to null: --field nix=v", (2, "nix")),
        ("evt-ingest e.jsonl --to null: --set nix=v", (2, "nix")),
        ("evt-ingest e.jsonl --to null: --set event_time=v", (2, "event_time")),
        ("evt-sink e.jsonl --to null: --field nix=v", (2, "nix")),
        ("evt-view e.jsonl --where 'nix='", (78, "`nix=`")),
        ("evt-view e.jsonl --kind event --where 'a > b'", (78, "`a > b`")),
        ("evt-view e.jsonl --let 1", (2, "--let 1: expected NAME=EXPR")),
        ("evt-view e.jsonl --let 'a=1 +'", (78, "`1 +`")),
        ("evt-view e.jsonl --columns a,", (2, "--columns")),
        ("evt-view e.jsonl --sort a,b", (2, "--sort: expected one name")),
        ("evt-validate e.jsonl --to null: --schemas schemas", (78, "schemas/t/1.avsc: ")),
        ("evt-validate e.jsonl --to null: --schemas schemas --subject =t", (78, "schemas/t/1.avsc: ")),
    ] {
        assert_same(&dir, line, found);
    }
    dir.shell("evt-ingest -q e.jsonl --to a.jsonl").succeeds();
    for line in [
        "evt-view -q a.jsonl ./a.jsonl --where 'event_id = event_type'",
        "evt-view -q e.jsonl --where 'amount > 5' --let 'b=amount + 1' --columns b,source --sort -b",
        "evt-validate -q e.jsonl --to null: --dlq null: --schemas schemas --subject =other",
    ] {
        let checked = format!("{line} --check");
        assert_eq!(dir.shell(&checked).succeeds().stderr(), "", "{line}");
        dir.shell(line).succeeds();
    }
}

/// A name or an expression of any length is data; a message shows at most 200 bytes of it.
#[test]
fn messages_show_the_beginning_of_long_names_and_expressions() {
    let dir = Dir::new("long-names");
    dir.write("e.jsonl", format!("{}\n", EVENT.replace('}', ",\"b\":\"x\"}")));
    let (long, max) = ("n".repeat(9000), 1500);
    for line in [
        format!("evt-window e.jsonl --size 1m --late null: --agg \"sum(case when a='{long}' then 1 else b end)\""),
        format!("evt-window e.jsonl --size 1m --late null: --agg '{long}=sum(b)'"),
        format!("evt-window e.jsonl --size 1m --late null: --by {long}"),
        format!("evt-view e.jsonl --time '={long}('"),
        format!("evt-view e.jsonl --where '{long} = 1'"),
        format!("evt-view e.jsonl --let 'c={long} + 1'"),
        format!("evt-view e.jsonl --sort {long}"),
        format!("evt-view e.jsonl --columns {long}"),
    ] {
        let said = dir.shell(&line).stderr();
        let longest = said.lines().map(str::len).max().unwrap_or(0);
        assert!(longest > 0 && longest < max, "{}: {longest} bytes: {}", &line[..40], &said[..said.len().min(300)]);
    }
}
