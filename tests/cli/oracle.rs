//! Real data compared with other programs: DuckDB, fastavro and SQLite's own shell return the same counts.

use crate::harness::{Dir, Run, ask, data, python};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Rows in the git changes.
const CHANGES: &str = "1134097";
/// How they are read: a row's partition is its repo.
const CHANGE_FLAGS: &str = "--time event_ts --time-unit s --field partition=repo --field event_type=op \
                            --origin changes --now 2026-09-01T00:00:00Z -q";

fn daily(dir: &Dir, input: &str, bound: &str, name: &str) -> Run {
    let line = format!(
        "evt-ingest {input} {CHANGE_FLAGS} | evt-window --size 1d --by repo,op --out-of-orderness {bound} \
         --late {name}.late.jsonl --to {name}.jsonl"
    );
    dir.shell(&line).succeeds()
}

#[test]
fn daily_counts_of_git_changes_equal_duckdb_at_every_bound_and_no_row_is_lost() {
    let (Some(changes), Some(python)) = (data("events/git-changes.jsonl.gz"), python()) else { return };
    let dir = Dir::new("changes");
    let changes = changes.display().to_string();
    for (name, bound, seconds) in [("zero", "0s", "0"), ("day", "1d", "86400"), ("year", "365d", "31536000")] {
        let run = daily(&dir, &changes, bound, name);
        assert!(run.stderr().contains(&format!("in {CHANGES} out ")), "{run}");
        let files = [format!("{name}.jsonl"), format!("{name}.late.jsonl")];
        let sum = ask(&dir, &python, "counts.py", &[&changes, &files[0], &files[1], seconds]);
        assert_eq!(sum.text().trim(), CHANGES);
    }
}

#[test]
fn git_changes_regrouped_or_interleaved_give_the_same_metrics_and_the_same_late_rows() {
    let Some(changes) = data("events/git-changes.jsonl.gz") else { return };
    let dir = Dir::new("interleaved");
    let mut text = vec![];
    let file = std::fs::File::open(&changes).expect("the data is complete");
    flate2::read::GzDecoder::new(file).read_to_end(&mut text).expect("gzip");
    let repos = by_repo(&text);
    dir.write("grouped.in", repos.values().flatten().copied().collect::<Vec<_>>().concat());
    dir.write("interleaved.in", interleaved(&repos).concat());
    drop(text);
    daily(&dir, &changes.display().to_string(), "1d", "given");
    let (metrics, late) = (dir.bytes("given.jsonl"), late_rows(&dir, "given"));
    for name in ["grouped", "interleaved"] {
        daily(&dir, &format!("{name}.in -f jsonl"), "1d", name);
        assert!(dir.bytes(&format!("{name}.jsonl")) == metrics, "{name}: the metrics differ");
        assert!(late_rows(&dir, name) == late, "{name}: the late rows differ");
    }
}

/// The lines of each repo, in their order.
fn by_repo(text: &[u8]) -> BTreeMap<&[u8], Vec<&[u8]>> {
    let mut repos: BTreeMap<&[u8], Vec<&[u8]>> = BTreeMap::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let repo = line.split(|byte| *byte == b'"').nth(3).expect("a row begins with its repo");
        repos.entry(repo).or_default().push(line);
    }
    repos
}

/// The lines of all repos in turns, `n` lines of the nth repo at a time.
fn interleaved<'a>(repos: &BTreeMap<&[u8], Vec<&'a [u8]>>) -> Vec<&'a [u8]> {
    let mut rest: Vec<&[&[u8]]> = repos.values().map(Vec::as_slice).collect();
    let mut lines = vec![];
    while rest.iter().any(|rows| !rows.is_empty()) {
        for (n, rows) in rest.iter_mut().enumerate() {
            let (taken, left) = rows.split_at(rows.len().min(n + 1));
            lines.extend_from_slice(taken);
            *rows = left;
        }
    }
    lines
}

/// The late rows, sorted, without their positions in the file.
fn late_rows(dir: &Dir, name: &str) -> Vec<Vec<u8>> {
    let bytes = dir.bytes(&format!("{name}.late.jsonl"));
    let mut rows: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()).map(bare).collect();
    rows.sort_unstable();
    rows
}

fn bare(row: &[u8]) -> Vec<u8> {
    let find = |needle: &[u8], from: usize| memchr::memmem::find(&row[from..], needle).expect("it is there") + from;
    let (source, offset) = (find(b"\"source\"", 0), find(b",\"offset\":", 0));
    [&row[source..offset], &row[find(b",\"stream_time\"", offset)..]].concat()
}

#[test]
fn one_bad_clock_does_not_make_a_day_of_edits_late() {
    let Some(edits) = data("events/wikiticker-2015-09-12-sampled.json.gz") else { return };
    let dir = Dir::new("edits");
    let line = format!(
        "evt-ingest {} --time time --max-future 1h --dlq dead.jsonl | evt-window --size 1d --late late.jsonl -o jsonl",
        edits.display()
    );
    let run = dir.shell(&line).succeeds();
    let dead = dir.rows("dead.jsonl");
    assert_eq!(dead.len(), 41, "{run}");
    assert!(dead.iter().all(|letter| letter["error_type"] == "FutureTimestampError"));
    let day = run.rows().into_iter().find(|row| row["window_start"] == "2015-09-12T00:00:00.000000Z");
    assert_eq!(day.expect("the day of the edits")["rows"], 39_244 - 45, "every edit but the 45 of other days");
}

#[test]
fn an_access_log_that_is_scrambled_within_a_minute_loses_nothing_with_a_minute_of_patience() {
    let Some(log) = data("events/apache_access_10k.log.gz") else { return };
    let dir = Dir::new("log");
    // Windows of ten seconds: with windows of a minute, no row would be late at any out-of-orderness.
    let counted = |bound: &str| {
        let line = format!(
            "evt-ingest {} -f clf | evt-window --size 10s --by status --out-of-orderness {bound} --late null: -o jsonl",
            log.display()
        );
        dir.shell(&line).succeeds().rows().iter().map(|row| row["rows"].as_u64().expect("a count")).sum::<u64>()
    };
    assert_eq!(counted("60s"), 10_000);
    assert!(counted("0s") < 10_000, "without patience some are late");
}

fn metrics_equal(dir: &Dir, case: &str, source: &Path, pipe: &str) {
    let Some(python) = python() else { return };
    let line = format!("{pipe} | evt-sink --to sqlite:{case}.db --to parquet:{case}");
    let run = dir.shell(&line).succeeds();
    assert!(!run.stderr().contains(" late "), "{run}");
    let seen = ask(dir, &python, "pipe.py", &[case, &source.display().to_string(), &format!("{case}.db"), case]);
    assert!(seen.text().trim().parse::<u32>().is_ok_and(|rows| rows > 0), "{seen}");
}

#[test]
fn retail_invoices_of_167_files_in_any_order_equal_duckdb() {
    let Some(archive) = data("events/online-retail-2010-12_2011-06.tar.gz") else { return };
    let dir = Dir::new("retail");
    dir.shell(&format!("tar -xzf {}", archive.display())).succeeds();
    let days = std::fs::read_dir(dir.path("by-day")).expect("it was unpacked");
    let mut days: Vec<PathBuf> = days.map(|day| day.expect("a file").path()).collect();
    assert_eq!(days.len(), 167);
    // An order that is neither ascending nor descending by date.
    days.sort_by_key(|day| xxhash_rust::xxh3::xxh3_64(day.file_name().expect("a name").as_encoded_bytes()));
    let names: Vec<String> = days.iter().map(|day| day.display().to_string()).collect();
    let pipe = format!(
        "evt-ingest {} --time InvoiceDate --time-format '%Y-%m-%d %H:%M:%S' -q | evt-window --size 1d --by Country \
         --agg 'quantity=sum(Quantity)' --agg 'revenue=sum(Quantity * UnitPrice)' --agg 'dearest=max(UnitPrice)'",
        names.join(" ")
    );
    metrics_equal(&dir, "retail", &dir.path("by-day"), &pipe);
}

#[test]
fn nested_events_of_an_archive_equal_duckdb() {
    let Some(archive) = data("events/gharchive-2015-01-01-0.json.gz") else { return };
    let dir = Dir::new("archive");
    dir.write(
        "metrics.toml",
        "[defaults]\nsize = '1m'\n[[metric]]\nname = 'events'\nby = ['type']\n\
         [[metric]]\nname = 'pushed'\naggregate = 'sum(payload.size)'\nwhere = \"type = 'PushEvent'\"\n\
         [[metric]]\nname = 'named'\naggregate = 'count(repo.name)'\n",
    );
    let pipe = format!("evt-ingest {} --time created_at -q | evt-window -m metrics.toml", archive.display());
    metrics_equal(&dir, "gharchive", &archive, &pipe);
}

#[test]
fn flights_of_an_avro_file_equal_another_reader() {
    let Some(flights) = data("events/airlineStats_2014-01.avro.gz") else { return };
    let dir = Dir::new("flights");
    dir.shell(&format!("gunzip -c {} > flights.avro", flights.display())).succeeds();
    let pipe = "evt-ingest flights.avro --time FlightDate --time-format %Y-%m-%d -q | evt-window --size 1d \
                --by Carrier --agg 'delay=avg(ArrDelay)' --agg 'flights=count(*)'";
    metrics_equal(&dir, "airline", &dir.path("flights.avro"), pipe);
}

/// Expressions of evt, and the same ones of DuckDB.
const GROUPS: [(&str, &str); 12] = [
    ("lower(type)", "lower(type)"),
    ("upper(actor.login)", "upper(actor->>'login')"),
    ("floor(payload.size / 2)", "floor((payload->>'size')::double / 2)::bigint"),
    ("split_part(repo.name, '/', -1)", "split_part(repo->>'name', '/', -1)"),
    ("regexp_extract(repo.name, '([a-z]+)[0-9]*$', 1)", "regexp_extract(repo->>'name', '([a-z]+)[0-9]*$', 1)"),
    ("substr(actor.login, 2, 3)", "substr(actor->>'login', 2, 3)"),
    ("payload.commits[1].author.name", "payload->>'$.commits[0].author.name'"),
    ("payload.commits[-1].author.name", "payload->>'$.commits[#-1].author.name'"),
    (
        "coalesce(payload.ref_type, payload.action, 'none')",
        "coalesce(payload->>'ref_type', payload->>'action', 'none')",
    ),
    (
        "case when payload.size > 1 then 'many' when payload.size = 1 then 'one' end",
        "case when (payload->>'size')::int > 1 then 'many' when (payload->>'size')::int = 1 then 'one' end",
    ),
    ("date_trunc('minute', created_at)", "strftime(date_trunc('minute', created_at), '%Y-%m-%dT%H:%M:%S.000000Z')"),
    ("length(actor.login) % 7 > 2", "length(actor->>'login') % 7 > 2"),
];

#[test]
fn groups_by_expressions_are_those_of_duckdb() {
    let (Some(archive), Some(python)) = (data("events/gharchive-2015-01-01-0.json.gz"), python()) else { return };
    let dir = Dir::new("groups");
    let archive = archive.display().to_string();
    let args: Vec<&str> = [archive.as_str()].into_iter().chain(GROUPS.iter().map(|(_, sql)| *sql)).collect();
    let told = ask(&dir, &python, "groups.py", &args).text();
    for ((expr, _), wanted) in GROUPS.iter().zip(told.lines()) {
        let wanted: Vec<(Option<String>, u64)> = serde_json::from_str(wanted).expect("a list");
        let wanted: BTreeMap<_, _> = wanted.into_iter().collect();
        let by = format!("it={expr}");
        let args = [&archive, "--plain", "--time", "created_at", "--size", "all", "-q"];
        let rows = dir.run("evt-window", &[&args[..], &["-o", "jsonl", "--by", &by]].concat()).succeeds().rows();
        let found = rows.iter().map(|row| {
            (row["dimensions"]["it"].as_str().map(str::to_owned), row["rows"].as_u64().expect("a number of rows"))
        });
        assert_eq!(found.clone().count(), wanted.len(), "{expr}");
        for (value, rows) in found {
            assert_eq!(wanted.get(&value), Some(&rows), "{expr} is {value:?}");
        }
    }
}

#[test]
fn the_first_repositories_of_ten_minutes_are_those_of_duckdb() {
    let (Some(archive), Some(python)) = (data("events/gharchive-2015-01-01-0.json.gz"), python()) else { return };
    let dir = Dir::new("top");
    let archive = archive.display().to_string();
    let told = ask(&dir, &python, "top.py", &[&archive, "10"]).text();
    let wanted: Vec<(String, String, f64)> =
        told.lines().map(|line| serde_json::from_str(line).expect("a list")).collect();
    assert_eq!(wanted.len(), 60);
    let args = [archive.as_str(), "--plain", "--time", "created_at", "--size", "10m", "--by", "repo.name"];
    let rest = ["--top", "10", "--out-of-orderness", "all", "-q", "-o", "jsonl"];
    for memory in [&[][..], &["--memory", "8MiB"]] {
        let rows = dir.run("evt-window", &[&args[..], &rest, memory].concat()).succeeds().rows();
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        let found = rows.iter().map(|row| {
            let value = row["value"].as_f64().expect("a number");
            (text(&row["window_start"]), text(&row["dimensions"]["repo.name"]), value)
        });
        assert_eq!(found.collect::<Vec<_>>(), wanted, "{memory:?}");
    }
}

#[test]
fn percentiles_are_the_values_of_the_ranks_that_duckdb_takes() {
    let Some(python) = python() else { return };
    let dir = Dir::new("quantiles");
    let shares = ["0.01", "0.07", "0.25", "0.29", "0.5", "0.57", "0.9", "0.99", "0.999", "1.0"];
    for count in [1, 2, 3, 7, 10, 99, 100, 101, 400] {
        // The distance of neighbouring values is larger than the permitted error of the result.
        let line = |n: i32| format!("{{\"t\":\"2026-01-01T00:00:00Z\",\"v\":{}}}\n", 1.05f64.powi(n));
        dir.write("v.jsonl", (0..count).map(line).collect::<String>());
        let wanted: Vec<f64> = {
            let args: Vec<&str> = [&["v.jsonl"], &shares[..]].concat();
            let told = ask(&dir, &python, "quantiles.py", &args).text();
            told.lines().map(|line| line.parse().expect("a number")).collect()
        };
        assert_eq!(wanted.len(), shares.len());
        for (share, wanted) in shares.iter().zip(wanted) {
            let call = format!("approx_percentile(v, {share})");
            let args = ["v.jsonl", "--time", "t", "--size", "1h", "-q", "-o", "jsonl", "--agg", &call];
            let found = dir.run("evt-window", &args).succeeds().rows()[0]["value"].as_f64().expect("a number");
            assert!((found / wanted - 1.0).abs() < 0.01, "{share} of {count}: {found}, DuckDB {wanted}");
        }
    }
}
