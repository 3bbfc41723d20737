//! Outputs that do not take rows of the kind that the tool writes: `--check` and the run refuse them alike, if the
//! kind is known before the first row.

use crate::harness::Dir;
use crate::services::EVENT;

/// Redis holds metrics and alerts. No server is needed to refuse other kinds: nothing listens at the address.
#[test]
fn a_check_refuses_an_output_for_rows_of_another_kind_as_the_run_does() {
    let redis = "'redis://127.0.0.1:1/0?retry=100ms'";
    let dir = Dir::new("check-kinds");
    dir.write("e.jsonl", format!("{EVENT}\nno JSON\n"));
    dir.write(
        "rules.toml",
        "[[rule]]\nname = \"a\"\naggregate = \"count(*)\"\ncondition = \"gt\"\nthreshold = 1\nwindow_seconds = 60\n",
    );
    dir.shell("evt-ingest -q e.jsonl --dlq dead.jsonl --to sqlite:e.db").succeeds();
    let known = [
        ("evt-ingest http://127.0.0.1:0 --spool spool --dlq null: --to REDIS", "event"),
        ("evt-ingest http://127.0.0.1:0 --ack memory --dlq null: --to REDIS", "event"),
        ("evt-ingest e.jsonl --kind event --dlq null: --to REDIS", "event"),
        ("evt-ingest e.jsonl --to null: --dlq REDIS", "dead"),
        ("evt-sink e.jsonl --kind event --dlq null: --to REDIS", "event"),
        ("evt-sink 'sqlite:e.db?table=raw_events' --dlq null: --to REDIS", "event"),
        ("evt-view 'sqlite:e.db?table=raw_events' --to REDIS", "event"),
        ("evt-view dead.jsonl --kind dead --to REDIS", "dead"),
        ("evt-validate e.jsonl --dlq null: --to REDIS", "event"),
        ("evt-validate e.jsonl --dlq null: --to null: --dedup 1h --duplicates REDIS", "event"),
        ("evt-window e.jsonl --size 1m --dlq null: --to null: --late REDIS", "late"),
        ("evt-alert e.jsonl --rules rules.toml --state a.db --once --to null: --dlq REDIS", "dead"),
        ("evt-backfill --dead dead.jsonl --ledger sqlite:l.db --to REDIS", "event"),
    ];
    for (line, kind) in known {
        let line = line.replace("REDIS", redis);
        for line in [format!("{line} --check"), line] {
            let run = dir.shell(&line).ends_with(2);
            assert!(run.stderr().contains(&format!("expected rows of kind metric, alert, found {kind}")), "{run}");
        }
    }
    assert!(!dir.path("spool").exists() && !dir.path("l.db").exists());
    // Rows of these kinds, and of kinds that the first row decides, need the server, which is away.
    let right = [
        "evt-window e.jsonl --size 1m --dlq null: --late null: --to REDIS",
        "evt-alert e.jsonl --rules rules.toml --state a.db --once --dlq null: --to REDIS",
        "evt-sink e.jsonl --dlq null: --to REDIS",
        "evt-sink e.jsonl --kind metric --dlq null: --to REDIS",
    ];
    for line in right {
        let run = dir.shell(&format!("{} --check", line.replace("REDIS", redis))).ends_with(69);
        assert!(!run.stderr().contains("expected rows"), "{run}");
    }
}
