//! `--threads`: output, letters, counts, messages and exit status are the same for every number of threads.

use crate::edges::parsed;
use crate::harness::{Dir, Run, python};
use serde_json::Value;

const NUMBERS: [&str; 4] = ["1", "2", "3", "8"];

/// What the clock decides in rows and letters.
const CLOCKED: [&str; 3] = ["ingested_at", "failed_at", "producer_host"];

/// Faulty, late and repeated events of three partitions.
fn events(dir: &Dir, count: &str) -> Vec<u8> {
    let faults = ["--late", "0.02", "--duplicates", "0.01", "--malformed", "0.05", "--partitions", "3", "-q"];
    dir.run("evt-gen", &[&["--events", count, "--seed", "5"], &faults[..]].concat()).succeeds().stdout().to_vec()
}

/// The rows of JSON lines, without what the clock decides.
fn rows(bytes: &[u8]) -> Vec<Value> {
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let row = |line: &str| {
        let mut row = parsed(line.as_bytes());
        CLOCKED.iter().for_each(|name| _ = row.as_object_mut().expect("an object").remove(*name));
        row
    };
    text.lines().map(row).collect()
}

/// The outcome of a run that writes rows to its output, and letters and late rows to files if it has any.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: i32,
    stderr: String,
    rows: Vec<Value>,
    files: Vec<Vec<Value>>,
    counts: Value,
}

fn outcome(dir: &Dir, line: &str, threads: &str) -> Outcome {
    for name in ["dead.jsonl", "late.jsonl", "stats.json"] {
        _ = std::fs::remove_file(dir.path(name));
    }
    let run: Run = dir.shell(&format!("EVT_THREADS={threads} {line} --stats stats.json"));
    let files = ["dead.jsonl", "late.jsonl"].map(|name| {
        let path = dir.path(name);
        if path.exists() { rows(&dir.bytes(name)) } else { vec![] }
    });
    let has_stats = dir.path("stats.json").exists();
    assert!(has_stats || run.status() != 0, "{run}");
    let stats = if has_stats { parsed(&dir.bytes("stats.json")) } else { Value::Null };
    Outcome {
        status: run.status(),
        stderr: run.stderr(),
        rows: rows(run.stdout()),
        files: files.into(),
        counts: serde_json::json!([stats["counts"], stats["dead_by_type"], stats["verdict"], stats["end"]]),
    }
}

/// Asserts that a line has one outcome for every number of threads; returns it.
#[track_caller]
fn same(dir: &Dir, line: &str) -> Outcome {
    let expected = outcome(dir, line, NUMBERS[0]);
    for threads in &NUMBERS[1..] {
        let found = outcome(dir, line, threads);
        let first = found.rows.iter().zip(&expected.rows).position(|(found, expected)| found != expected);
        assert!(first.is_none(), "{line}: {threads} threads: row {first:?} differs");
        assert!(found.files == expected.files, "{line}: {threads} threads: letters or late rows differ");
        assert_eq!(
            (found.status, found.stderr, found.counts),
            (expected.status, expected.stderr.clone(), expected.counts.clone())
        );
        assert!(found.rows.len() == expected.rows.len(), "{line}: {threads} threads: {} rows", found.rows.len());
    }
    expected
}

#[test]
fn every_tool_gives_the_same_for_every_number_of_threads() {
    let dir = Dir::live("threads");
    dir.write("e.jsonl", events(&dir, "9000"));
    std::fs::create_dir_all(dir.path("schemas/all")).expect("a directory");
    let schema = r#"{"type":"record","name":"any","fields":[{"name":"page","type":"string"},{"name":"country","type":["null","string"],"default":null}]}"#;
    dir.write("schemas/all/1.avsc", schema);
    let both = "--report 3 --dlq dead.jsonl";
    for line in [
        format!("evt-ingest e.jsonl --field partition=shard -o jsonl {both}"),
        format!(
            "evt-ingest e.jsonl --where \"properties.country = 'DE'\" --let 'n=event_type' --keep-raw -o jsonl {both}"
        ),
        format!("evt-ingest e.jsonl --max-record 1KiB --max-future 1h -o jsonl {both}"),
        format!("evt-validate e.jsonl --schemas schemas --subject =all --dedup 1h -o jsonl {both}"),
        format!(
            "evt-window e.jsonl --size 1s --by event_type,country --late late.jsonl --out-of-orderness 1s -o jsonl {both}"
        ),
        format!("evt-window - --gap 2s --by user_id -o jsonl --late late.jsonl {both} < e.jsonl"),
        format!("evt-sink e.jsonl -o jsonl {both}"),
    ] {
        let outcome = same(&dir, &line);
        assert!(outcome.rows.len() > 5 && !outcome.files[0].is_empty(), "{line}: {outcome:?}");
    }
}

#[test]
fn every_format_is_read_the_same_by_every_number_of_threads() {
    let dir = Dir::live("threads-formats");
    dir.write("e.jsonl", events(&dir, "7000"));
    dir.shell(
        "evt-ingest -q e.jsonl --dlq dead.jsonl --report 0 --to e.frames --to e.csv --to e.tsv --to e.avro --to e.parquet --to e.arrow",
    )
    .succeeds();
    let log = |line: &str| match line.len() % 11 {
        0 => "not a line of a log".to_owned(),
        n => format!("10.0.0.{n} - - [02/Jan/2026:10:00:0{} +0000] \"GET /{} HTTP/1.1\" 200 {n}", n % 10, line.len()),
    };
    let text = String::from_utf8_lossy(&dir.bytes("e.jsonl")).into_owned();
    dir.write("access.log", text.lines().map(|line| log(line) + "\n").collect::<String>());
    let pairs =
        |(n, line): (usize, &str)| format!("time=2026-01-02T10:00:00Z n={n} text=\"{}\" {}\n", line.len(), n % 7);
    dir.write("e.logfmt", text.lines().enumerate().map(pairs).collect::<String>());
    let quoted = |n: usize| {
        format!(
            "2026-01-02T10:00:00Z,\"line {n}\nof \"\"two\"\"\",{}\n",
            if n.is_multiple_of(13) { "a,b" } else { "c" }
        )
    };
    dir.write("q.csv", format!("time,text,c\n{}", (0..6000).map(quoted).collect::<String>()));
    let elements = |n: usize| format!("{{\"time\":\"2026-01-02T10:00:00Z\",\"n\":{n}}}");
    let document = format!("{{\"all\":[{}]}}\n", (0..5000).map(elements).collect::<Vec<_>>().join(","));
    // Documents without records are among others, and at the end.
    let empty = "{\"all\":[]}\n{\"none\":1}\n";
    dir.write(
        "doc.json",
        [&document, empty, &document, &empty.repeat(3), "{\"all\":[{\"time\":1}]}\n", empty].concat(),
    );
    let packed = "gzip -k e.jsonl; zstd -q e.jsonl -o e.jsonl.zst; head -c -100 e.jsonl.gz > torn.jsonl.gz";
    dir.shell(&format!("{packed}; split -n l/40 -d e.jsonl part-")).succeeds();
    let both = "-o jsonl --report 3 --dlq dead.jsonl";
    for input in [
        "e.frames",
        "e.csv",
        "e.tsv",
        "e.avro",
        "e.parquet",
        "e.arrow",
        "e.jsonl.gz",
        "e.jsonl.zst",
        "torn.jsonl.gz",
        "access.log -f clf",
        "e.logfmt --time time",
        "q.csv --time time",
        "doc.json --explode all --time time",
        "part-* -f jsonl",
        "e.jsonl e.csv e.parquet",
    ] {
        let outcome = same(&dir, &format!("evt-ingest {input} {both}"));
        assert!(outcome.rows.len() > 4000, "{input}: {} rows, {}", outcome.rows.len(), outcome.stderr);
    }
}

/// Containers of another program, whose rows are text: several row groups and batches, and one that is corrupt.
#[test]
fn row_groups_and_batches_that_several_threads_read_are_those_of_one_thread() {
    let Some(python) = python() else { return };
    let dir = Dir::live("threads-containers");
    let make = "import pyarrow as p, pyarrow.parquet as q\n\
                n = range(60000)\n\
                t = p.table({'time': p.array([1767261600000000 + i for i in n], p.timestamp('us', 'UTC')), 'n': n,\n\
                             'text': [None if i % 7 == 0 else 'x' * (i % 50) for i in n]})\n\
                q.write_table(t, 'g.parquet', row_group_size=9000)\n\
                q.write_table(t, 'small.parquet', row_group_size=500)\n\
                with p.ipc.new_file('b.arrow', t.schema) as w: w.write_table(t, max_chunksize=3000)\n\
                b = bytearray(open('g.parquet', 'rb').read())\n\
                at = q.ParquetFile('g.parquet').metadata.row_group(4).column(1).data_page_offset\n\
                b[at:at + 40] = b'\\xff' * 40\n\
                open('torn.parquet', 'wb').write(b)\n";
    dir.write("make.py", make);
    dir.run(&python, &["make.py"]).succeeds();
    for (input, rows) in
        [("g.parquet", 60_000), ("small.parquet", 60_000), ("b.arrow", 60_000), ("torn.parquet", 34_816)]
    {
        let outcome = same(&dir, &format!("evt-ingest {input} --time time -o jsonl --dlq dead.jsonl"));
        assert_eq!((outcome.rows.len(), outcome.status), (rows, if rows < 60_000 { 65 } else { 0 }), "{outcome:?}");
    }
    let explained = dir.shell("evt-ingest torn.parquet --time time --to null: --threads 3").ends_with(65);
    assert!(explained.stderr().contains("torn.parquet: after row 36000: rows cannot be read"), "{explained}");
}

#[test]
fn many_small_files_are_read_side_by_side_and_their_rows_and_ends_keep_their_order() {
    let dir = Dir::live("threads-files");
    dir.write("e.jsonl", events(&dir, "6000"));
    dir.shell(
        "split -n l/30 -d --additional-suffix=.jsonl e.jsonl part-; : > part-07a.jsonl;  head -c -9 part-03.jsonl > part-03a.jsonl; \
         echo no > part-11a.jsonl; for n in 00 05 12; do gzip < part-$n.jsonl > g-$n.jsonl.gz; \
         evt-ingest -q part-$n.jsonl --dlq null: --to c-$n.csv --to c-$n.frames --to c-$n.parquet; done; \
         evt-ingest -q part-00.jsonl --dlq null: --to t.avro; head -c 20000 t.avro > torn.avro",
    )
    .succeeds();
    let window =
        "--size 1s --by event_type --out-of-orderness 1s --late late.jsonl -o jsonl --report 2 --dlq dead.jsonl";
    for (files, status) in [
        ("part-*.jsonl", 0),
        ("part-*.jsonl c-*.csv g-1*.jsonl.gz", 0),
        ("part-0*.jsonl c-*.parquet part-1*.jsonl c-00.csv", 0),
        ("part-0*.jsonl torn.avro g-00.jsonl.gz", 65),
        ("part-*.jsonl e.jsonl --partitions 0,1", 0),
    ] {
        for line in [
            format!("evt-window {files} {window}"),
            format!("evt-ingest {files} -q -o frames --dlq dead.jsonl | evt-window -q {window}"),
        ] {
            let outcome = same(&dir, &line);
            let is_ended = outcome.status == status || line.contains('|') && outcome.status > 0;
            assert!(is_ended && (status > 0 || outcome.rows.len() > 5), "{line}: {outcome:?}");
        }
    }
    // Dictionaries have the names of partitions in the order of the rows.
    for field in ["partition=shard", "origin=source"] {
        let frames = |threads: &str| {
            let line =
                format!("evt-ingest part-*.jsonl --field {field} -q -o frames --dlq null: --now 2026-02-01T00:00:00Z");
            dir.shell(&format!("EVT_THREADS={threads} {line}")).succeeds().stdout().to_vec()
        };
        let expected = frames("1");
        assert!((0..5).all(|_| frames("8") == expected), "{field}");
    }
}

#[test]
fn a_job_that_is_killed_continues_with_another_number_of_threads() {
    let dir = Dir::live("threads-kill");
    dir.write("e.jsonl", events(&dir, "40000"));
    let flags = "--size 1s --by event_type --out-of-orderness 2m --report 0 -q --dlq null: --late null:";
    dir.shell(&format!("EVT_THREADS=1 evt-window e.jsonl {flags} -o jsonl --to all.jsonl")).succeeds();
    let job = |threads: &str| {
        format!(
            "EVT_THREADS={threads} exec evt-window e.jsonl {flags} --at-end fire --checkpoint state --checkpoint-every 10ms --to sqlite:m.db"
        )
    };
    let mut kills = 0;
    for (at, threads) in ["3", "1", "2", "8", "3"].into_iter().enumerate() {
        let mut command = dir.command("bash", &["-c", &job(threads)]);
        kills += u32::from(crate::harness::is_killed_within(&mut command, 30 + 40 * at as u64));
    }
    dir.shell(&job("3")).succeeds();
    let expected = rows(&dir.bytes("all.jsonl"));
    let sum: u64 = expected.iter().map(|row| row["rows"].as_u64().expect("a number")).sum();
    let database = rusqlite::Connection::open(dir.path("m.db")).expect("a database");
    let totals = "SELECT count(*), sum(rows) FROM aggregated_metrics";
    let found = database.query_row(totals, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("totals");
    assert_eq!(found, (expected.len() as u64, sum), "after {kills} kills");
}

#[test]
fn the_stages_of_evt_pipe_share_threads_and_give_what_a_shell_gives_with_one() {
    let dir = Dir::live("threads-pipe");
    dir.write("e.jsonl", events(&dir, "9000"));
    let stages = "evt-ingest e.jsonl --field partition=shard --report 2 --dlq dead.jsonl | evt-validate --dedup 1h -q | \
                  evt-window -q --size 1s --by event_type --out-of-orderness 1s --late late.jsonl -o jsonl";
    let outcome = |line: &str| {
        let run = dir.shell(&format!("rm -f dead.jsonl late.jsonl; {line}"));
        let files = ["dead.jsonl", "late.jsonl"].map(|name| rows(&dir.bytes(name)));
        (run.status(), run.stderr(), rows(run.stdout()), files)
    };
    let expected = outcome(&format!("export EVT_THREADS=1; {stages}"));
    assert!(expected.2.len() > 5 && expected.3.iter().all(|rows| rows.len() > 5), "{}", expected.1);
    for threads in NUMBERS {
        assert!(outcome(&format!("evt pipe --threads {threads} '{stages}'")) == expected, "{threads} threads");
    }
}

#[test]
fn no_thread_is_no_number_of_threads() {
    let dir = Dir::new("threads-none");
    for number in ["0", "-1", "x", "300"] {
        let run = dir.shell(&format!("evt-ingest e.jsonl --threads={number}")).ends_with(2);
        assert!(run.stderr().contains("--threads"), "{run}");
    }
}
