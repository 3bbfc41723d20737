//! Avro and Parquet files of many programs: evt reads their rows, or reports one clear error.

use crate::harness::{Dir, ROOT, ask, cases, data, python};
use serde_json::Value;

fn assert_files(folder: &str, count: &str, may_fail: impl Fn(&Value) -> bool) {
    let Some(root) = data(folder) else { return };
    let dir = Dir::new("containers");
    let mut failed = vec![];
    // A case with a note has a file that is of no container format: skip it.
    for case in cases(&format!("{folder}/expected.jsonl")).iter().filter(|case| case["note"].is_null()) {
        let file = case["file"].as_str().expect("a file");
        let path = root.join(file);
        let args = [path.as_os_str(), "--time=arrival".as_ref(), "-q".as_ref(), "-o".as_ref(), "jsonl".as_ref()];
        let run = dir.run("evt-ingest", &args).stays_calm();
        let rows = memchr::memchr_iter(b'\n', run.stdout()).count() as u64;
        let right = match run.status() {
            // A file that the other reader could not open has no count.
            0 => case[count].as_u64().is_none_or(|count| count == rows),
            65 => may_fail(case) && run.stderr().lines().count() == 1 && run.stderr().contains(file),
            _ => false,
        };
        if !right {
            failed.push(format!("{case}: {rows} rows: {run}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_avro_file_gives_its_records_or_a_clear_error() {
    assert_files("avro", "records", |case| case["records"].is_null());
}

/// The schema in a file's header, where it is one of records.
fn record_schema(path: &std::path::Path) -> Option<String> {
    let file = std::fs::File::open(path).expect("the data is complete");
    let schema = apache_avro::Reader::new(file).ok()?.writer_schema().clone();
    matches!(schema, apache_avro::Schema::Record(_)).then(|| serde_json::to_string(&schema).expect("it is JSON"))
}

#[test]
fn every_record_of_an_avro_file_passes_the_schema_it_was_written_with() {
    let Some(root) = data("avro") else { return };
    let (dir, mut judged) = (Dir::new("passes"), 0);
    for case in cases("avro/expected.jsonl").iter().filter(|case| case["records"].as_u64() > Some(0)) {
        let path = root.join(case["file"].as_str().expect("a file"));
        let Some(schema) = record_schema(&path) else { continue };
        dir.write("schemas/any/1.avsc", &schema);
        let flags = "--schemas schemas --subject =any -o jsonl -q";
        let line = format!("evt-ingest '{}' --time arrival -q | evt-validate {flags}", path.display());
        let run = dir.shell(&line).succeeds();
        assert_eq!(memchr::memchr_iter(b'\n', run.stdout()).count() as u64, case["records"], "{schema}: {run}");
        judged += 1;
    }
    assert!(judged >= 20, "only {judged} files were judged");
}

#[test]
fn every_parquet_file_gives_its_rows_or_a_clear_error() {
    assert_files("parquet", "rows", |_| true);
}

#[test]
fn a_file_cut_within_its_magic_or_of_another_version_is_one_clear_line() {
    let dir = Dir::new("magic");
    let mut heads: Vec<Vec<u8>> = (1..8).map(|end| b"Obj\x01\x04\x14avro"[..end].to_vec()).collect();
    heads.extend([0, 2, 0xff].map(|version| vec![b'O', b'b', b'j', version, 1, 2, 3, 4]));
    // Programs wrote such a header before the format had a version.
    let older = data("avro/share/test/data/test.avro12").map(|path| std::fs::read(path).expect("the data is complete"));
    if let Some(older) = older {
        heads.extend((0..=8).chain([older.len()]).map(|end| older[..end].to_vec()));
    }
    for head in heads {
        dir.write("head.avro", &head);
        for args in [&["head.avro"][..], &["head.avro", "-f", "avro"]] {
            let run = dir.run("evt-ingest", args).ends_with(65).stays_calm();
            assert_eq!(run.stderr().lines().count(), 1, "{head:?}: {run}");
            let told = [": the file is torn\n", "head.avro: expected an Avro object container file"];
            assert!(told.iter().any(|told| run.stderr().contains(told)), "{head:?}: {run}");
        }
    }
}

/// What `large.py run` prints of a command.
pub(crate) struct Cost {
    pub(crate) status: i32,
    pub(crate) peak_kib: u64,
    cpu_seconds: f64,
}

/// Runs evt-ingest; returns what it costs and its lines.
pub(crate) fn cost(dir: &Dir, python: &str, args: &[&str]) -> (Cost, String) {
    cost_of("evt-ingest", dir, python, args)
}

/// Runs a tool; returns what it costs and its lines.
pub(crate) fn cost_of(tool: &str, dir: &Dir, python: &str, args: &[&str]) -> (Cost, String) {
    let script = format!("{ROOT}/tests/oracle/large.py");
    let tool = crate::harness::bin_dir().join(tool).display().to_string();
    let run = dir.run(python, &[&[script.as_str(), "run", &tool], args].concat()).succeeds().stays_calm();
    let text = run.text();
    let mut numbers = text.split_whitespace().map(|number| number.parse::<f64>().expect("a number"));
    let mut next = || numbers.next().expect("three numbers");
    let (status, peak_kib, cpu_seconds) = (next() as i32, next() as u64, next());
    (Cost { status, peak_kib, cpu_seconds }, run.stderr())
}

#[test]
fn a_small_container_that_stands_for_gigabytes_takes_little_memory() {
    let Some(python) = python() else { return };
    let dir = Dir::new("large");
    ask(&dir, &python, "large.py", &[]);
    let mut whole = 0.0;
    for (file, status, told) in [
        ("dictionary.arrows", 0, "in 3000 out 3000"),
        ("dictionary.arrow", 0, "in 2000 out 2000"),
        ("dictionary.parquet", 0, "in 2000 out 2000"),
        ("constant.parquet", 0, "in 2000000 out 2000000"),
        ("packed.arrows", 65, "a batch decompresses to 32101 times its size; --max-decompression-ratio"),
        ("packed.parquet", 65, "rows cannot be read: a row group decompresses to "),
        ("list.parquet", 65, "rows cannot be read: a page decompresses to "),
        ("nested.parquet", 65, "rows cannot be read: a page decompresses to "),
        ("struct.parquet", 65, "rows cannot be read: a page decompresses to "),
        ("map.parquet", 65, "rows cannot be read: a page decompresses to "),
        ("wide.parquet", 65, "rows cannot be read: a page decompresses to "),
        ("lists.parquet", 0, "in 20000 out 20000"),
        ("row.arrows", 1, "row.arrows:1: TooLargeError: the record has more than 3153920 bytes (--max-record 1048576)"),
    ] {
        let (cost, said) = cost(&dir, &python, &["--time", "t", "--to", "null:", file]);
        let Cost { status: ended, peak_kib, cpu_seconds } = cost;
        assert_eq!(ended, status, "{file}: {said}");
        assert!(said.contains(told), "{file}: {said}");
        assert!(peak_kib < 300 << 10, "{file}: {peak_kib} KiB");
        if file == "constant.parquet" {
            whole = cpu_seconds;
        }
        // Two million rows take more than a second on most machines; what is refused takes much less on any.
        let limit = f64::max(1.0, whole / 2.0);
        assert!(status != 65 || cpu_seconds < limit, "{file}: {cpu_seconds} s, limit {limit} s");
    }
}

#[test]
fn max_decompression_ratio_lets_a_page_and_a_batch_through() {
    let Some(python) = python() else { return };
    let dir = Dir::new("ratio");
    ask(&dir, &python, "large.py", &["packed"]);
    for file in ["packed.arrows", "packed.parquet"] {
        let args =
            ["--time", "t", "--max-decompression-ratio", "100000", "--dlq", "dead.jsonl", "--to", "null:", "-q", file];
        dir.run("evt-ingest", &args).succeeds();
    }
    let dead = dir.rows("dead.jsonl");
    assert!(dead.len() == 2 && dead.iter().all(|letter| letter["error_type"] == "TooLargeError"), "{}", dead.len());
    let payload = dead[1]["original_payload"].as_str().expect("text");
    assert_eq!(payload.len(), 1 << 20, "cut at --max-record");
}

#[test]
fn gzip_that_a_tape_padded_with_zeros_is_whole() {
    let dir = Dir::new("padded");
    let line = r#"{"event_type":"a","server_timestamp":"2024-01-01T00:00:00Z"}"#;
    dir.shell(&format!("printf '%s\\n' '{line}' | gzip > in.jsonl.gz; head -c 5000 /dev/zero >> in.jsonl.gz"))
        .succeeds();
    let run = dir.run("evt-ingest", &["in.jsonl.gz", "-o", "jsonl", "-q"]).succeeds();
    assert_eq!(run.rows().len(), 1);
    dir.shell("echo x >> in.jsonl.gz").succeeds();
    let run = dir.run("evt-ingest", &["in.jsonl.gz", "-o", "jsonl", "-q"]).ends_with(65);
    assert!(run.stderr().contains("corrupt gzip data: expected zero padding, found other bytes"), "{run}");
    dir.shell(&format!("(printf '%s\\n' '{line}' | gzip; echo x) > junk.jsonl.gz")).succeeds();
    let run = dir.run("evt-view", &["junk.jsonl.gz", "-o", "jsonl", "-q"]).ends_with(65);
    assert_eq!(run.rows().len(), 1);
    let why = "corrupt gzip data: expected the end, zero padding or another member, found other bytes";
    assert!(run.stderr().contains(why), "{run}");
}

#[test]
fn timestamps_without_a_zone_are_local_times_in_parquet_arrow_and_csv() {
    let Some(python) = python() else { return };
    let dir = Dir::new("local-times");
    let make = "import pyarrow as p, pyarrow.parquet as q, pyarrow.feather as f\n\
                from datetime import datetime as d\n\
                t = p.table({'ts': p.array([d(2026, 7, 1, 0, 30), d(2026, 7, 1, 23, 30, 0, 5)], p.timestamp('us')),\n\
                             'utc': p.array([d(2026, 7, 1), None], p.timestamp('ns', 'UTC')), 'v': [1, 2]})\n\
                q.write_table(t, 'in.parquet'); f.write_feather(t, 'in.feather', compression='uncompressed')\n";
    dir.write("make.py", make);
    dir.run(&python, &["make.py"]).succeeds();
    dir.write("in.csv", "ts,utc,v\n2026-07-01 00:30,2026-07-01T00:00:00.000000Z,1\n2026-07-01T23:30:00.000005,,2\n");
    let zone = "--time-zone Europe/Zurich";
    for (flags, first) in [("", "2026-07-01T00:30:00.000000Z"), (zone, "2026-06-30T22:30:00.000000Z")] {
        let read = |file: &str, what: &str| {
            dir.shell(&format!("evt-view -q {file} --time ts {flags} --columns {what} -o csv")).succeeds().text()
        };
        let wanted = read("in.csv", "event_time,utc,v");
        assert!(wanted.contains(first), "{wanted}");
        for file in ["in.parquet", "'in.feather' -f arrow"] {
            assert_eq!(read(file, "event_time,utc,v"), wanted, "{file} {flags}");
        }
    }
    assert_eq!(
        dir.shell("evt-view -q in.parquet --time ts --columns ts,utc -o csv").succeeds().text(),
        "ts,utc\n2026-07-01T00:30:00.000000,2026-07-01T00:00:00.000000Z\n2026-07-01T23:30:00.000005,\n"
    );
    // Both local times are of one day of their zone.
    let window =
        "evt-window in.parquet --time ts --time-zone Europe/Zurich --window-zone Europe/Zurich --size 1d -q -o csv";
    assert_eq!(dir.shell(&format!("{window} --agg 'sum(v)'")).succeeds().text().lines().count(), 2);
}
