//! Runs the examples of README and man pages unchanged.

use crate::code::CRATES;
use crate::documents::{blocks, read};
use crate::harness::{Dir, ROOT, in_ci};
use evt::tool;
use std::path::Path;

/// A directory with every file the examples name; some events are faulty or none.
pub fn stage(faulty: bool) -> Dir {
    let dir = Dir::new("docs");
    let examples = format!("{ROOT}/examples");
    let faults = if faulty { "--malformed 0.01 --invalid 0.01" } else { "--late 0.01" };
    // Events whose time has a second name, and whose schemas are those of the demo.
    dir.shell(&format!(
        "cp -r {examples}/schemas {examples}/metrics.toml {examples}/alerts/rules*.toml . \
         && cp schemas/click/1.avsc old.avsc \
         && evt-gen --events 3k --seed 7 --rate 20 {faults} -q \
         | sed -E 's/\"server_timestamp\":(\"[^\"]*\")\\}}$/\"server_timestamp\":\\1,\"created_at\":\\1}}/' > events.jsonl \
         && sed 's/\"name\":\"page\"/\"name\":\"added\",\"type\":\"int\",\"default\":0}},{{\"name\":\"page\"/' old.avsc > new.avsc \
         && evt-gen --events 1k --seed 8 --malformed 0.1 -q | evt-ingest --origin in -q --dlq dead.jsonl --to null: \
         && evt-ingest events.jsonl -q --dlq null: | evt-window -m metrics.toml -q --late null: --dlq null: --to all.frames \
         && evt-sink -q all.frames --to expected.jsonl --to sqlite:metrics.db \
         && evt-ingest events.jsonl -q --dlq null: --to sqlite:metrics.db --to valid.parquet"
    ))
    .succeeds();
    let line = |n: usize| {
        format!(
            "10.0.0.{} - - [15/Jan/2024:10:{:02}:00 +0000] \"GET / HTTP/1.1\" {} 7 \"-\" \"curl/8\"\n",
            n % 7,
            n / 5,
            200 + n % 2
        )
    };
    dir.write("access.log", (0..300).map(line).collect::<String>());
    dir.shell("gzip access.log").succeeds();
    dir
}

/// Whether this machine lacks a program that a line needs besides evt.
fn is_missing(line: &str) -> bool {
    line.contains("pyarrow") && std::env::var_os("EVT_PYTHON").is_none()
}

/// Returns the line with the servers of this machine instead of those in the example; `None` if one is missing, which
/// is an error in CI.
fn on_servers(line: &str) -> Option<String> {
    let mut line = line.to_owned();
    for (told, variable) in [
        ("redis://localhost/0", "EVT_REDIS"),
        ("postgres://evt@localhost/evt", "EVT_POSTGRES"),
        ("http://localhost:8081", "EVT_REGISTRY"),
    ] {
        if line.contains(told) {
            let uri = std::env::var(variable).ok();
            assert!(uri.is_some() || !in_ci(), "{variable} is not set (scripts/services)");
            line = line.replace(told, &uri?);
        }
    }
    Some(line)
}

fn run(told: &str, line: &str) {
    if is_missing(line) {
        eprintln!("skipped: no python with pyarrow: {line}");
        return;
    }
    let Some(line) = on_servers(line) else {
        eprintln!("skipped: EVT_REDIS, EVT_POSTGRES or EVT_REGISTRY is not set (scripts/services): {line}");
        return;
    };
    let faulty = told.contains("exit status 1") || told.contains("exit 1");
    let dir = stage(faulty);
    if line.starts_with("evt-lake ") {
        dir.shell("evt-ingest -q events.jsonl --to iceberg:lake/").succeeds();
    }
    let python = std::env::var("EVT_PYTHON").unwrap_or_default();
    let bin = Path::new(&python).parent().unwrap_or(Path::new("")).display();
    // Every stage must succeed, but a stage whose reader has all its rows (--head) ends by SIGPIPE.
    let check = "for status in ${PIPESTATUS[@]}; do [[ $status == 0 || $status == 141 ]] || exit $status; done";
    let run = dir.shell(&format!("set +o pipefail; PATH={bin}:$PATH; {line}\n{check}")).stays_calm();
    assert_eq!(run.status(), i32::from(faulty), "{told}\n{run}");
}

#[test]
fn every_one_liner_of_the_readme_works_as_written() {
    let [block] = blocks("README.md", "Thirteen one-liners").try_into().expect("one");
    let mut lines = 0;
    let mut told = "";
    let block = block.replace("\\\n", "");
    for line in block.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("# ") {
            Some(comment) => told = comment,
            None => {
                run(told, line);
                lines += 1;
            }
        }
    }
    assert_eq!(lines, 13, "thirteen one-liners");
}

#[test]
fn every_example_of_a_man_page_works_as_written() {
    for tool in tool::ALL {
        tool.examples.iter().for_each(|(told, line)| run(&format!("{}: {told}", tool.name), line));
    }
}

#[test]
fn the_rule_of_evt_rules_passes_the_test_of_the_same_page() {
    let dir = Dir::new("rules_page");
    dir.write("rules.toml", &blocks("man/evt-rules.5", "DESCRIPTION")[0]);
    dir.write("rules_test.toml", &blocks("man/evt-rules.5", "TESTS")[0]);
    let said = dir.shell("evt-alert test rules.toml rules_test.toml 2>&1").succeeds().text();
    assert!(said.contains("1 passed, 0 failed"), "{said}");
}

/// Other tests run the commands: demo.rs runs the incident of scripts/demo, and scripts/test runs this test.
#[test]
fn the_two_commands_are_there_and_tested() {
    let [block, _] = blocks("README.md", "Two commands").try_into().expect("two");
    let commands: Vec<&str> = block.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(commands, ["scripts/demo", "scripts/test"]);
    let dir = Dir::new("commands");
    for command in commands {
        dir.shell(&format!("test -x {ROOT}/{command} && bash -n {ROOT}/{command}")).succeeds();
    }
}

#[test]
fn the_lines_that_install_pages_and_completions_work_for_a_new_user() {
    let (dir, [_, block]) = (Dir::new("install"), blocks("README.md", "Two commands").try_into().expect("two"));
    // The first line compiles all tools in another directory.
    let lines = block.strip_prefix("cargo install --path .\n").expect("the line that installs the tools");
    dir.shell(&format!("export HOME=$PWD; cd {ROOT} && {}", lines.trim())).succeeds();
    let installed =
        dir.shell("ls .local/share/man/man*/evt* .local/share/bash-completion/completions/evt*").succeeds().text();
    for tool in tool::ALL {
        assert!(installed.contains(&format!("/man1/{}.1\n", tool.name)), "{installed}");
        assert!(installed.contains(&format!("/completions/{}\n", tool.name)), "{installed}");
    }
}

#[test]
fn the_daily_jobs_of_the_manual_count_each_event_once_whatever_the_pieces() {
    let dir = Dir::new("daily");
    let blocks = blocks("man/evt.7", "DAILY JOBS");
    let [_, pieces, day, overlapping] = &blocks[..] else { panic!("{blocks:?}") };
    // Two days of events, out of order by up to an hour; each piece begins before the other has ended.
    dir.shell(&format!(
        "cp {ROOT}/examples/metrics.toml . \
         && evt-gen -q --events 3k --rate 0.02 --seed 5 --start 2026-01-05T00:00:00Z --late 0.1 --late-by 1h > all.jsonl \
         && awk 'NR % 3 == 0' all.jsonl > morning.jsonl && awk 'NR % 3 != 0' all.jsonl > evening.jsonl"
    ))
    .succeeds();
    let metrics = || dir.shell("evt-view -q 'sqlite:metrics.db?table=aggregated_metrics' -o jsonl").succeeds().rows();
    // A repetition of both jobs changes nothing and prints nothing.
    for _ in 0..2 {
        assert_eq!(dir.shell(pieces).succeeds().stderr(), "");
        assert_eq!(dir.shell(day).succeeds().stderr(), "");
    }
    let counted: i64 =
        metrics().iter().filter(|row| row["metric_name"] == "events").map(|row| row["rows"].as_i64().unwrap()).sum();
    let day_of = |row: &serde_json::Value| row["server_timestamp"].as_str().expect("a time").starts_with("2026-01-05");
    let events = dir.rows("all.jsonl").iter().filter(|row| day_of(row)).count();
    assert!(events > 1000 && events < 2900, "{events} of the day");
    assert_eq!(counted, i64::try_from(events).expect("few"));
    // A piece that holds the other one too.
    dir.shell(&format!(
        "cp evening.jsonl part.jsonl && cp all.jsonl evening.jsonl\n{overlapping}\nmv part.jsonl evening.jsonl"
    ))
    .succeeds();
    assert_eq!(dir.rows("exports.jsonl").len(), 3_000);
    // Run one after the other, the pieces lose a part of the windows that they share.
    let wrong = "for piece in morning evening; do evt-window -q $piece.jsonl --size 1h --out-of-orderness all \
                 | evt-sink -q --to sqlite:wrong.db; echo $?; done";
    let run = dir.shell(wrong).succeeds();
    assert!(run.stderr().contains("replaced") && run.stderr().contains("rows of other runs"), "{run}");
}

#[test]
fn the_daily_jobs_with_a_checkpoint_count_each_event_once_or_call_it_late() {
    let dir = Dir::new("daily-checkpoint");
    dir.shell(&format!(
        "cp {ROOT}/examples/metrics.toml . \
         && evt-gen -q --events 3k --rate 0.02 --seed 5 --start 2026-01-05T00:00:00Z --late 0.1 --late-by 1h > all.jsonl \
         && head -n 1400 all.jsonl > morning.jsonl && tail -n +1401 all.jsonl > evening.jsonl"
    ))
    .succeeds();
    let jobs = &blocks("man/evt.7", "DAILY JOBS")[0];
    let fires =
        "evt-window -q --checkpoint state/ -m metrics.toml --at-end fire /dev/null --late late.jsonl --to sqlite:m.db";
    for line in [jobs, jobs, fires, fires] {
        assert_eq!(dir.shell(line).succeeds().stderr(), "");
    }
    let metrics = dir.shell("evt-view -q 'sqlite:m.db?table=aggregated_metrics' -o jsonl").succeeds().rows();
    let of_events = metrics.iter().filter(|row| row["metric_name"] == "events");
    let counted: i64 = of_events.map(|row| row["rows"].as_i64().expect("a number")).sum();
    let late = dir.rows("late.jsonl");
    let late = late.iter().filter(|row| row["late_for"].as_array().expect("names").contains(&"events".into())).count();
    assert!(late > 20, "{late} late events");
    assert_eq!(counted, 3000 - i64::try_from(late).expect("few"));
}

#[test]
fn dead_letters_are_repaired_and_replayed_as_the_manual_says() {
    let lines = blocks("man/evt.7", "REPAIR AND REPLAY");
    assert_eq!(lines.len(), 7, "{lines:?}");
    let dir = stage(false);
    dir.write("orders.csv", "day,amount,customer\n2026-02-01,5,ann\n2026-02-30,7,bob\n");
    for line in lines.iter().filter(|line| !line.contains("kafka:")) {
        // Some letters stay faulty.
        dir.shell(line).ends_with(i32::from(line.contains("evt-replay") && !line.contains("orders")));
    }
    assert_eq!(dir.rows("orders.jsonl")[0]["event_time"], "2026-03-02T00:00:00.000000Z");
    let count = |name: &str| String::from_utf8_lossy(&dir.bytes(name)).lines().count();
    let failed = count("failed.txt");
    assert!(count("repaired.jsonl") > 0 && failed == count("repaired.jsonl") + count("again.jsonl"), "{failed}");
    let (late, events) = (dir.bytes("late.txt"), dir.bytes("events.jsonl"));
    let late: Vec<&[u8]> = late.split_inclusive(|byte| *byte == b'\n').collect();
    assert!(!late.is_empty() && late.iter().all(|line| memchr::memmem::find(&events, line).is_some()));
}

#[test]
fn every_file_that_a_document_links_to_is_there() {
    let link = regex::Regex::new(r"\]\(([^)#:]+)\)").expect("a pattern");
    for name in ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/design.md", "docs/decisions/README.md"] {
        let path = Path::new(ROOT).join(name);
        let directory = path.parent().expect("it lies in a directory");
        for found in link.captures_iter(&read(name)) {
            assert!(directory.join(&found[1]).exists(), "{name}: {} is not there", &found[1]);
        }
    }
}

#[test]
fn the_design_has_a_row_for_every_directory_of_the_source() {
    let design = read("docs/design.md");
    for (_, root) in CRATES {
        let source = root.strip_suffix("/lib.rs").expect("it is the root of a library");
        // The files of a crate about one thing are described in its root.
        let is_single = source.starts_with("crates/") && source != "crates/core/src" && source != "crates/run/src";
        let mut directories = vec![source.to_owned()];
        if !is_single {
            let entries = std::fs::read_dir(Path::new(ROOT).join(source)).expect("it is committed");
            let entries = entries.map(|entry| entry.expect("an entry")).filter(|entry| entry.path().is_dir());
            directories = entries.map(|entry| format!("{source}/{}", entry.file_name().to_string_lossy())).collect();
        }
        for directory in directories.iter().filter(|directory| *directory != "src/bin") {
            let has_row =
                design.lines().any(|line| line.starts_with("| `") && line.contains(&format!("`{directory}`")));
            assert!(has_row, "docs/design.md: the table of directories has no row with `{directory}`");
        }
    }
}
