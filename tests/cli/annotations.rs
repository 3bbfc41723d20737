//! `--log-format github`: annotations name the file and the line that a person edits.

use crate::harness::Dir;

/// The first annotation of a line of shell with `--log-format github`.
fn annotation(dir: &Dir, line: &str) -> String {
    let run = dir.shell(&format!("EVT_LOG_FORMAT=github {line}"));
    assert_ne!(run.status(), 0, "{run}");
    let stderr = run.stderr();
    stderr.lines().find(|line| line.starts_with("::")).unwrap_or_else(|| panic!("{run}")).to_owned()
}

#[test]
fn files_of_metrics_rules_settings_and_schemas_are_annotated_at_their_line() {
    let dir = Dir::new("annotations");
    dir.write("in.jsonl", "{\"t\":\"2026-01-01\"}\n");
    dir.write("key.toml", "[[metric]]\nname = 'a'\nsize = '1h'\naggregate = 'count(*)'\nsiz = '3'\n");
    dir.write("syntax.toml", "[[metric]]\nname = 'a\n");
    dir.write(
        "call.toml",
        "[[metric]]\nname = 'a'\nsize = '1h'\n\n[[metric]]\nname = 'b'\nsize = '1h'\naggregate = 'summ(x)'\n",
    );
    let rule = "aggregate = 'count(*)'\ncondition = 'gt'\nthreshold = 1\n";
    let rules =
        format!("[[rule]]\nname = 'a'\n{rule}window_seconds = 60\n[[rule]]\nname = 'b'\n{rule}window_secnds = 60\n");
    dir.write("rules.toml", rules);
    dir.write("evt.toml", "# settings\nquite = true\n");
    dir.write("old.avsc", "{\"type\":\"record\",\"name\":\"r\",\"fields\":[]}");
    dir.write("new.avsc", "{\"type\":\"record\",\"name\":\"r\",\"fields\":[\n{\"name\":\"x\",\n\"type\":\"int\"}]}");
    dir.write("type.avsc", "{\"type\":\"record\",\"name\":\"r\",\"fields\":[\n{\"name\":\"x\",\"type\":\"itn\"}]}");
    dir.write("json.avsc", "{\n\"type\":\n");
    for (line, place) in [
        (
            "evt-window -m key.toml in.jsonl",
            "::error file=key.toml,line=5::evt-window: key.toml: line 5: unknown field siz; did you mean size?",
        ),
        ("evt-window -m key.toml in.jsonl --check", "::error file=key.toml,line=5::evt-window: "),
        ("evt-window -m syntax.toml in.jsonl", "::error file=syntax.toml,line=2::evt-window: "),
        (
            "evt-window -m call.toml in.jsonl",
            "::error file=call.toml,line=5::evt-window: call.toml: line 5: metric 'b': ",
        ),
        ("evt-backfill -m call.toml in.jsonl --to sqlite:m.db", "::error file=call.toml,line=5::evt-backfill: "),
        (
            "evt-alert --rules rules.toml in.jsonl --check",
            "::error file=rules.toml,line=7::evt-alert: rules.toml: line 7: rule b: unknown field window_secnds",
        ),
        (
            "evt-alert --rules rules.toml in.jsonl --once --time t; false",
            "::warning file=rules.toml,line=7::evt-alert: ",
        ),
        ("evt-alert test rules.toml rules.toml", "::error file=rules.toml,line=7::evt-alert: "),
        ("evt-window --config evt.toml in.jsonl --size 1h", "::error file=evt.toml,line=2::evt-window: "),
        (
            "evt-schema check new.avsc --against old.avsc",
            "::error file=new.avsc,line=2::evt-schema: new.avsc: line 2: cannot read data of old.avsc: ",
        ),
        ("evt-schema check type.avsc", "::error file=type.avsc,line=2::evt-schema: type.avsc: line 2: schema: r.x: "),
        ("evt-schema check json.avsc", "::error file=json.avsc,line=3::evt-schema: "),
        ("evt-schema check none.avsc", "::error::evt-schema: none.avsc: "),
    ] {
        let told = annotation(&dir, line);
        assert!(told.starts_with(place), "{line}: {told}");
    }
}

#[test]
fn a_record_of_a_compressed_file_is_annotated_at_the_file_that_exists() {
    let dir = Dir::new("annotations-packed");
    dir.write("real/v.jsonl", "{\"t\":\"2026-01-01\"}\nnope\n");
    dir.shell("gzip real/v.jsonl").succeeds();
    let told = annotation(&dir, "evt-ingest real/v.jsonl.gz --time t --to null:");
    assert!(
        told.starts_with("::error file=real/v.jsonl.gz,line=2::evt-ingest: real/v.jsonl:2: ParseError: "),
        "{told}"
    );
    dir.shell("gzip -d real/v.jsonl.gz").succeeds();
    let told = annotation(&dir, "evt-ingest real/v.jsonl --time t --to null:");
    assert!(told.starts_with("::error file=real/v.jsonl,line=2::evt-ingest: "), "{told}");
}
