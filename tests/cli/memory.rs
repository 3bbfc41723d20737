//! `--memory`: state in files has the results of state in memory.

use crate::bucket::{CheckpointLocation, left_behind};
use crate::checkpoint::kill_within;
use crate::containers::{Cost, cost_of};
use crate::edges::parsed;
use crate::harness::{Dir, Draws, Run, data, python};
use chrono::{DateTime, SecondsFormat, TimeDelta};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::DirEntry;
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::SystemTime;

pub(crate) const METRICS: &str = r#"
[defaults]
by = ["user_id"]
[[metric]]
name = "events"
size = "30m"
slide = "10m"
lateness = "5m"
[[metric]]
name = "pages"
aggregate = "approx_distinct(page)"
size = "1h"
[[metric]]
name = "spent"
aggregate = "sum(amount)"
size = "1h"
where = "event_type = 'purchase'"
[[metric]]
name = "visits"
gap = "20m"
lateness = "1m"
[[metric]]
name = "all"
by = []
size = "10m"
"#;

const BOUND: [&str; 2] = ["--memory", "8MiB"];
const FIXED: [&str; 5] = ["-q", "-m", "m.toml", "--out-of-orderness", "30s"];

/// Events of many users, a few late ones among them.
pub(crate) fn generated(dir: &Dir, events: &str) -> Vec<u8> {
    let faults = ["--users", "40000", "--skew", "0", "--rate", "20", "--late", "0.01", "--late-by", "2m", "-q"];
    dir.run("evt-gen", &[&["--events", events, "--seed", "11"], &faults[..]].concat()).succeeds().stdout().to_vec()
}

/// The last row of each window, sorted.
fn results(dir: &Dir, name: &str) -> Vec<String> {
    let mut rows = BTreeMap::new();
    for row in dir.rows(name) {
        let key = ["metric_name", "window_start", "window_end", "dimensions"].map(|column| row[column].to_string());
        if row["retracted"] == Value::Bool(true) {
            rows.remove(&key);
        } else {
            rows.insert(key, format!("{} {}", row["value"], row["rows"]));
        }
    }
    rows.into_iter().map(|(key, value)| format!("{} {value}", key.join(" "))).collect()
}

#[track_caller]
fn assert_same(found: &[String], expected: &[String]) {
    let difference = found.iter().zip(expected).find(|(found, expected)| found != expected);
    assert!(found == expected, "{} rows, expected {}: {difference:?}", found.len(), expected.len());
}

fn written(dir: &Dir, stats: &str) -> u64 {
    let stats = parsed(&dir.bytes(stats));
    stats["state_written"].as_u64().unwrap_or_else(|| panic!("{stats}"))
}

/// The files of state of a checkpoint, and when they were written.
fn objects(place: &CheckpointLocation) -> BTreeMap<OsString, SystemTime> {
    let within = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().map(|file| file.expect("a file"));
    // A bucket has each once; in a directory, the epochs that share one have a link to it.
    let of_epochs = within(place.files.join("epochs")).flat_map(|epoch| within(epoch.path()));
    let of_epochs = of_epochs.filter(|file| file.file_name().as_encoded_bytes().starts_with(b"state-"));
    // A directory has files of state by run, and a bucket has them all at one place.
    let of_run = |entry: DirEntry| match entry.path().is_dir() {
        true => within(entry.path()).collect::<Vec<_>>(),
        false => vec![entry],
    };
    let files = within(place.files.join("state")).flat_map(of_run).chain(of_epochs);
    files.map(|file| (file.file_name(), file.metadata().and_then(|found| found.modified()).expect("a time"))).collect()
}

/// The files of state that no complete epoch of the log names.
fn unnamed(place: &CheckpointLocation) -> Vec<String> {
    let entries = std::fs::read_dir(place.files.join("log")).expect("a log").map(|entry| entry.expect("a file").path());
    let log: String = entries.map(|path| std::fs::read_to_string(path).expect("an entry")).collect();
    let names = objects(place).into_keys().map(|name| name.into_string().expect("UTF-8"));
    names.filter(|name| !log.contains(&format!("\"{name}\""))).collect()
}

fn run(dir: &Dir, more: &[&str]) -> Run {
    dir.run("evt-window", &[&FIXED[..], more].concat())
}

#[test]
fn windows_and_sessions_beyond_the_bound_have_the_rows_of_those_in_memory() {
    let dir = Dir::new("memory");
    dir.write("m.toml", METRICS);
    dir.write("in.jsonl", generated(&dir, "90000"));
    for emit in ["panes", "final"] {
        let input = ["in.jsonl", "--emit", emit, "--late"];
        run(&dir, &[&input[..], &["late-memory.jsonl", "--to", "memory.jsonl"]].concat()).succeeds();
        let files = ["late-files.jsonl", "--to", "files.jsonl", "--stats", "stats.json"];
        run(&dir, &[&input[..], &files, &BOUND].concat()).succeeds();
        assert!(written(&dir, "stats.json") > 4 << 20, "{} bytes", written(&dir, "stats.json"));
        let expected = results(&dir, "memory.jsonl");
        assert!(expected.len() > 50_000, "{emit}: {} rows", expected.len());
        assert_same(&results(&dir, "files.jsonl"), &expected);
        let late = |name| dir.rows(name).into_iter().map(|row| row["event_id"].to_string()).collect::<Vec<_>>();
        assert!(late("late-memory.jsonl").len() > 100);
        assert_same(&late("late-files.jsonl"), &late("late-memory.jsonl"));
        for name in ["memory.jsonl", "files.jsonl", "late-memory.jsonl", "late-files.jsonl"] {
            std::fs::remove_file(dir.path(name)).expect("removed");
        }
    }
}

/// All metrics of a group, several groups, hops and sessions.
#[test]
fn final_rows_of_state_beyond_the_bound_are_the_bytes_of_those_in_memory() {
    let dir = Dir::new("memory-order");
    dir.write("in.jsonl", generated(&dir, "60000"));
    let more = format!(
        "{METRICS}[[metric]]\nname = \"amounts\"\naggregate = \"max(amount)\"\nsize = \"1h\"\n\
         [[metric]]\nname = \"by_page\"\nby = [\"page\", \"user_id\"]\nsize = \"7m\"\n"
    );
    dir.write("m.toml", more);
    for bound in ["all", "30s"] {
        let fixed =
            ["-q", "-m", "m.toml", "--out-of-orderness", bound, "in.jsonl", "--emit", "final", "--late", "null:"];
        let rows = |name: &str, memory: &str| {
            let (to, stats) = (format!("{name}-{bound}.jsonl"), format!("{name}.json"));
            dir.run("evt-window", &[&fixed[..], &["--memory", memory, "--to", &to, "--stats", &stats]].concat())
                .succeeds();
            (dir.bytes(&to), written(&dir, &stats))
        };
        let ((expected, none), (found, bytes)) = (rows("memory", "1GiB"), rows("files", "8MiB"));
        assert!(none == 0 && bytes > 4 << 20, "{none} and {bytes} bytes in files");
        let count = memchr::memchr_iter(b'\n', &expected).count();
        assert!(count > 50_000, "{count} rows");
        let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect::<Vec<_>>();
        assert_same(&lines(&found), &lines(&expected));
        assert!(found == expected);
    }
}

#[test]
fn git_changes_by_commit_beyond_the_bound_have_the_rows_of_those_in_memory() {
    let Some(changes) = data("events/git-changes.jsonl.gz") else { return };
    let dir = Dir::new("memory-changes");
    let mut text = String::new();
    let file = std::fs::File::open(changes).expect("the data is complete");
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("gzip");
    let end = text.match_indices('\n').nth(300_000).map_or(text.len(), |(at, _)| at + 1);
    dir.write("in.jsonl", &text[..end]);
    dir.write(
        "m.toml",
        "[defaults]\nby=['repo','commit']\n[[metric]]\nname='year'\nsize='365d'\n[[metric]]\nname='authors'\n\
         aggregate='approx_distinct(author)'\nsize='365d'\n[[metric]]\nname='work'\ngap='30d'",
    );
    let flags = "in.jsonl --time arrival_ts --time-unit s --set source=git --set event_type=change --late null:";
    let flags: Vec<&str> = flags.split(' ').collect();
    let run = |more: &[&str]| {
        dir.run("evt-window", &[&["-q", "-m", "m.toml", "--out-of-orderness", "all"], &flags[..], more].concat())
    };
    run(&["--to", "memory.jsonl"]).succeeds();
    run(&[&["--to", "files.jsonl", "--stats", "stats.json"], &BOUND[..]].concat()).succeeds();
    assert!(written(&dir, "stats.json") > 1 << 20);
    let expected = results(&dir, "memory.jsonl");
    assert!(expected.len() > 20_000, "{} rows", expected.len());
    assert_same(&results(&dir, "files.jsonl"), &expected);
}

#[test]
fn jobs_with_state_in_files_continue_and_survive_kills() {
    let calm = Dir::new("memory-calm");
    let events = generated(&calm, "60000");
    let middle = memchr::memchr_iter(b'\n', &events).nth(29_999).expect("a line") + 1;
    let fixed = ["--late", "late.jsonl", "--to", "rows.jsonl", "--checkpoint"];
    let files = [("a.jsonl", "hold"), ("b.jsonl", "hold"), ("/dev/null", "fire")];
    let prepare = |dir: &Dir| {
        dir.write("m.toml", METRICS);
        dir.write("a.jsonl", &events[..middle]);
        dir.write("b.jsonl", &events[middle..]);
    };
    prepare(&calm);
    for (file, at_end) in files {
        run(&calm, &[&fixed[..], &["state", "--at-end", at_end, file]].concat()).succeeds();
    }
    let expected = results(&calm, "rows.jsonl");
    assert!(expected.len() > 50_000, "{} rows", expected.len());
    let mut draws = Draws::new();
    let of_directory = Dir::new("memory-wild");
    let of_bucket = Dir::new("memory-wild-s3");
    let in_bucket = CheckpointLocation::bucket(&of_bucket).map(|place| (place, &of_bucket));
    for (place, wild) in std::iter::once((CheckpointLocation::directory(&of_directory), &of_directory)).chain(in_bucket)
    {
        prepare(wild);
        wild.write("tmp/x", "");
        let mut kills = 0;
        for (file, at_end) in files {
            let args = [&FIXED[..], &fixed, &[&place.name, "--at-end", at_end, file], &BOUND].concat();
            let before = objects(&place);
            let command = |more: &[&str]| {
                let mut command = wild.command("evt-window", &[&args[..], more].concat());
                command.env("TMPDIR", wild.path("tmp")).stdin(Stdio::null());
                command
            };
            for _ in 0..4 {
                let entries = place.entries();
                let mut child = command(&["--checkpoint-every", "20ms"]).spawn().expect("it starts");
                kills += u32::from(kill_within(&place, entries, &mut child, &mut draws));
            }
            let mut run = Run::of(&mut command(&[]));
            if place.is_bucket() && run.status() == 75 {
                // The server may execute the last request of a killed run after the next run has read the log.
                run = Run::of(&mut command(&[]));
            }
            run.succeeds();
            assert_eq!(left_behind(&wild.path("tmp")), 0, "killed processes have left directories");
            let after = objects(&place);
            let has_changed = |(name, time): (&OsString, &SystemTime)| before.get(name).is_some_and(|one| one != time);
            assert!(!after.iter().any(has_changed), "{file}: a file of state was written again");
        }
        assert!(kills >= 3, "{draws}: only {kills} runs were killed");
        assert_same(&results(wild, "rows.jsonl"), &expected);
        wild.run("evt-view", &[&place.name]).succeeds();
        assert_eq!(unnamed(&place), Vec::<String>::new(), "objects that no epoch names");
    }
}

/// The stages of a run share a directory or a prefix, and each writes files of state of its own.
#[test]
fn windows_beyond_the_bound_in_two_branches_keep_their_state_apart() {
    let job = |dir: &Dir, place: Option<&CheckpointLocation>, [file, at_end]: [&str; 2]| {
        let (bound, every) = (place.map_or("", |_| "--memory 8MiB"), "--checkpoint-every 100ms");
        let checkpoint = format!("--checkpoint '{}' {every} --ends 2", place.map_or("calm", |place| &place.name));
        let fixed = format!("-q --out-of-orderness 30s --late null: --at-end {at_end} {bound}");
        dir.shell(&format!(
            "rm -f branch; mkfifo branch; evt-window {fixed} -m m.toml --branch one --to one.jsonl < branch & \
             evt-ingest -q --dlq null: {checkpoint} {file} | tee branch | evt-window {fixed} -m other.toml --to two.jsonl \
             && wait $!"
        ))
        .succeeds();
    };
    let of_directory = Dir::new("memory-branches");
    let of_bucket = Dir::new("memory-branches-s3");
    let calm = Dir::new("memory-branches-calm");
    let events = generated(&calm, "60000");
    let middle = memchr::memchr_iter(b'\n', &events).nth(29_999).expect("a line") + 1;
    let files = [["a.jsonl", "hold"], ["b.jsonl", "hold"], ["/dev/null", "fire"]];
    let prepare = |dir: &Dir| {
        dir.write("m.toml", METRICS);
        dir.write("other.toml", METRICS.replace("30m", "20m").replace("1h", "2h"));
        dir.write("a.jsonl", &events[..middle]);
        dir.write("b.jsonl", &events[middle..]);
    };
    prepare(&calm);
    files.into_iter().for_each(|file| job(&calm, None, file));
    let in_bucket = CheckpointLocation::bucket(&of_bucket).map(|place| (place, &of_bucket));
    for (place, dir) in std::iter::once((CheckpointLocation::directory(&of_directory), &of_directory)).chain(in_bucket)
    {
        prepare(dir);
        for file in files {
            job(dir, Some(&place), file);
            dir.run("evt-view", &[&place.name]).succeeds();
            let names: Vec<_> = objects(&place).into_keys().map(|name| name.to_string_lossy().into_owned()).collect();
            // A file of the stage `evt-window` has its number there where one of `evt-window-one` has its branch.
            let stage_of = |name: &str| match name.split_once("-2-evt-window-").map(|(_, rest)| rest) {
                Some(rest) if rest.starts_with("one-") => Some("evt-window-one"),
                Some(rest) if rest.starts_with(|first: char| first.is_ascii_digit()) => Some("evt-window"),
                _ => None,
            };
            let is_there = |stage: &str| names.iter().any(|name| stage_of(name) == Some(stage));
            let has_both = is_there("evt-window") && is_there("evt-window-one");
            assert!(file[1] == "fire" || has_both, "{names:?}");
        }
        for name in ["one.jsonl", "two.jsonl"] {
            assert_same(&results(dir, name), &results(&calm, name));
        }
    }
}

#[test]
fn a_directory_for_temporary_files_that_is_missing_is_exit_status_74() {
    let dir = Dir::new("memory-missing");
    dir.write("m.toml", METRICS);
    dir.write("in.jsonl", generated(&dir, "60000"));
    let args = [&FIXED[..], &["in.jsonl", "--late", "null:", "--to", "rows.jsonl"], &BOUND].concat();
    let run = Run::of(dir.command("evt-window", &args).env("TMPDIR", dir.path("none")));
    assert!(run.stderr().contains("TMPDIR"), "{run}");
    run.ends_with(74);
}

#[test]
fn state_in_files_restores_with_the_default_bound() {
    let dir = Dir::new("memory-unbounded");
    dir.write("m.toml", METRICS);
    dir.write("in.jsonl", generated(&dir, "60000"));
    let job = ["--late", "null:", "--to", "rows.jsonl", "--checkpoint", "state"];
    run(&dir, &[&job[..], &["in.jsonl"], &BOUND].concat()).succeeds();
    run(&dir, &[&job[..], &["/dev/null"]].concat()).succeeds();
}

/// In groups of metrics whose state is in files, one ends, one is defined in another way, and one is new. The others
/// have each row, and those that began have the rows of whole windows, as if all state had been in memory.
#[test]
fn metrics_that_change_beside_others_whose_state_is_in_files_begin_and_end_alone() {
    let before = format!("{METRICS}[[metric]]\nname = \"least\"\naggregate = \"min(amount)\"\nsize = \"1h\"\n");
    let after = format!(
        "{}[[metric]]\nname = \"greatest\"\naggregate = \"max(amount)\"\nsize = \"30m\"\nslide = \"10m\"\nlateness = \"5m\"\n",
        METRICS.replace("approx_distinct(page)", "count(*)").replace("gap = \"20m\"", "gap = \"21m\"")
    );
    let dir = Dir::new("memory-changed");
    let events = generated(&dir, "60000");
    let middle = memchr::memchr_iter(b'\n', &events).nth(29_999).expect("a line") + 1;
    dir.write("a.jsonl", &events[..middle]);
    dir.write("b.jsonl", &events[middle..]);
    for (name, bound) in [("memory", &[][..]), ("files", &BOUND[..])] {
        let (rows, stats) = (format!("{name}.jsonl"), format!("{name}.json"));
        let job = ["--late", "null:", "--to", &rows, "--stats", &stats, "--checkpoint", name];
        dir.write("m.toml", &before);
        run(&dir, &[&job[..], &["a.jsonl"], bound].concat()).succeeds();
        assert_eq!(written(&dir, &stats) > 1 << 20, !bound.is_empty(), "{name}");
        dir.write("m.toml", &after);
        let said = run(&dir, &[&job[..], &["--at-end", "fire", "b.jsonl"], bound].concat()).succeeds().stderr();
        let recovery = parsed(&dir.bytes(&stats))["recovery_seconds"].as_f64();
        assert!(recovery.is_some_and(|seconds| seconds > 0.0), "{name}: {recovery:?}");
        let ended: Vec<&str> = said.lines().filter(|line| line.ends_with("its open windows are dropped")).collect();
        assert_eq!(ended.len(), 3, "{name}: {said}");
        for metric in ["least", "pages", "visits"] {
            assert!(ended.iter().any(|line| line.contains(metric)), "{name}: {said}");
        }
    }
    let expected = results(&dir, "memory.jsonl");
    for metric in ["events", "spent", "visits", "all", "greatest"] {
        let count = expected.iter().filter(|row| row.starts_with(&format!("\"{metric}\""))).count();
        assert!(count > 0, "{metric}");
    }
    assert_same(&results(&dir, "files.jsonl"), &expected);
    // A metric that began later has the rows of one that was there from the start, of its whole windows.
    let job = ["--late", "null:", "--to", "whole.jsonl", "--checkpoint", "whole"];
    run(&dir, &[&job[..], &["a.jsonl"]].concat()).succeeds();
    run(&dir, &[&job[..], &["--at-end", "fire", "b.jsonl"]].concat()).succeeds();
    let whole = results(&dir, "whole.jsonl");
    let before = dir.run("evt-ingest", &["-q", "-o", "jsonl", "a.jsonl"]).succeeds().rows();
    let last = before.iter().filter_map(|event| event["event_time"].as_str()).max().expect("events");
    let last = DateTime::parse_from_rfc3339(last).expect("a time");
    for (metric, gap) in [("greatest", 0), ("visits", 21)] {
        let after = |rows: &[String], minutes: i64| -> Vec<String> {
            let instant = (last + TimeDelta::minutes(minutes)).to_utc().to_rfc3339_opts(SecondsFormat::Micros, true);
            let (of_metric, bound) = (format!("\"{metric}\" "), format!("\"{metric}\" \"{instant}\"~"));
            rows.iter().filter(|row| row.starts_with(&of_metric) && **row > bound).cloned().collect()
        };
        // The former definition has written sessions that begin earlier.
        let found = after(&expected, 0);
        assert!(found.len() > 1000, "{metric}: {} rows", found.len());
        assert_same(&found, &after(&whole, gap));
    }
}

/// The windows of one key cannot be divided by keys. In memory these take more than 300 MiB.
#[test]
fn many_windows_of_one_key_are_in_files() {
    let Some(python) = python() else { return };
    let dir = Dir::new("memory-windows");
    let windows = 600_000;
    let times = (0..windows).map(|at| format!("{}\n", 1_700_000_000 + at * 7_919 % windows));
    dir.write("in.csv", ["time\n".to_owned()].into_iter().chain(times).collect::<String>());
    let flags = ["-q", "--size", "1s", "--memory", "16MiB", "--stats", "stats.json", "--to", "out.csv", "in.csv"];
    let (Cost { status, peak_kib, .. }, said) = cost_of("evt-window", &dir, &python, &flags);
    assert_eq!(status, 0, "{said}");
    assert!(peak_kib < (16 + 100) << 10, "{peak_kib} KiB");
    assert!(written(&dir, "stats.json") > 16 << 20, "{} bytes", written(&dir, "stats.json"));
    let rows = String::from_utf8(dir.bytes("out.csv")).expect("text");
    let starts: Vec<&str> = rows.lines().skip(1).map(|row| row.split(',').nth(1).expect("a start")).collect();
    assert_eq!(starts.len(), windows);
    assert!(starts.is_sorted() && starts[0].starts_with("2023-11-14T22:13:20"), "{:?}", &starts[..3]);
}
