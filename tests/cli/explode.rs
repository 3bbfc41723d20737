//! `--explode`: elements of arrays in JSON documents as records.

use crate::harness::{Dir, data};
use serde_json::json;

const TRAIL: &str = r#"{
  "source": "cloudtrail",
  "Records": [
    {"t": "2024-01-15T10:00:00Z", "name": "a", "who": {
      "id": 1
    }},
    {"t": "2024-01-15T10:00:01Z", "name": "b"}
  ]
}
{"Records":[]}
{"Other":[1]}
{"Records":[{"t":"2024-01-15T10:00:02Z","name":"c"}
{"Records":[{"t":"2024-01-15T10:00:03Z","name":"d"},{"t":"?"}]}
"#;

#[test]
fn elements_of_documents_are_events_and_every_document_without_them_is_counted() {
    let dir = Dir::new("explode");
    dir.write("trail.json", TRAIL);
    let run = dir.shell(
        "evt-ingest trail.json --explode Records --time t --keep-raw --dlq dead.jsonl --stats stats.json -o jsonl",
    );
    let rows = run.succeeds().rows();
    let seen: Vec<_> = rows.iter().map(|row| (row["offset"].as_u64(), row["properties"]["name"].as_str())).collect();
    assert_eq!(seen, [(Some(1), Some("a")), (Some(2), Some("b")), (Some(5), Some("c")), (Some(7), Some("d"))]);
    assert_eq!(
        rows[0]["raw"],
        "{\"t\": \"2024-01-15T10:00:00Z\", \"name\": \"a\", \"who\": {\n      \"id\": 1\n    }}"
    );
    assert_eq!(rows[0]["properties"]["who"], json!({"id": 1}));
    let letters = dir.rows("dead.jsonl");
    let seen: Vec<_> = letters
        .iter()
        .map(|row| (row["offset"].as_u64(), row["error_type"].as_str(), row["original_payload"].as_str()))
        .collect();
    let broken = r#"{"Records":[{"t":"2024-01-15T10:00:02Z","name":"c"}
"#;
    assert_eq!(
        seen,
        [
            (Some(4), Some("EnvelopeError"), Some(r#"{"Other":[1]}"#)),
            (Some(6), Some("ParseError"), Some(broken)),
            (Some(8), Some("TimestampError"), Some(r#"{"t":"?"}"#)),
        ]
    );
    let stats = &dir.rows("stats.json")[0]["counts"];
    assert_eq!(
        (&stats["in"], &stats["out"], &stats["dead"], &stats["filtered"]),
        (&json!(8), &json!(4), &json!(3), &json!(1)),
        "{stats}"
    );
}

#[test]
fn a_packed_array_on_standard_input_is_read_and_the_ids_are_those_of_the_elements() {
    let dir = Dir::new("explode-stdin");
    let array = "[\n {\"t\":\"2024-01-15T10:00:00Z\",\"n\":1},\n {\"t\":\"2024-01-15T10:00:01Z\",\"n\":2}\n]\n";
    dir.write("dump.json", array);
    dir.shell("gzip -k dump.json; tr -d ' \\n' < dump.json | sed 's/},{/}\\n{/; s/^.//; s/.$//' > lines.jsonl")
        .succeeds();
    let flags = "--time t --origin o --now 2024-01-15T11:00:00Z -q -o jsonl";
    let elements = dir.shell(&format!("evt-ingest --explode . {flags} < dump.json.gz")).succeeds().text();
    assert_eq!(elements.lines().count(), 2);
    assert_eq!(elements, dir.shell(&format!("evt-ingest lines.jsonl {flags}")).succeeds().text());
}

#[test]
fn an_array_larger_than_the_longest_record_is_read_and_a_long_element_is_a_letter() {
    let dir = Dir::new("explode-large");
    let element = |n: usize, pad: usize| format!("{{\"t\":{n},\"pad\":\"{}\"}}", "x".repeat(pad));
    let elements: Vec<String> = (0..40_000).map(|n| element(n, if n == 7 { 3 << 20 } else { 100 })).collect();
    dir.write("large.json", format!("{{\"skipped\":\"{}\",\"items\":[{}]}}", "y".repeat(5 << 20), elements.join(", ")));
    let line = "evt-ingest large.json --explode items --time t --time-unit s --min-time 1970-01-01 --max-record 64KiB --dlq dead.jsonl -o jsonl | wc -l";
    assert_eq!(dir.shell(line).text().trim(), "39999");
    let letters = dir.rows("dead.jsonl");
    assert_eq!(letters.len(), 1);
    let wanted = json!({"type": "TooLargeError", "offset": 8, "length": element(7, 3 << 20).len()});
    let letter = &letters[0];
    assert_eq!(
        json!({"type": letter["error_type"], "offset": letter["offset"], "length": letter["original_length"]}),
        wanted
    );
}

#[test]
fn explode_reads_json_in_files_and_pipes_only() {
    let dir = Dir::new("explode-usage");
    dir.write("in.json", "[]");
    for (line, message) in [
        ("evt-ingest in.json --explode . -f csv", "--explode requires -f jsonl, found -f csv"),
        ("evt-ingest in.json --explode a..b", "--explode: expected . or names"),
        ("evt-ingest kafka://localhost/t --explode .", "--explode reads files and standard input only"),
        ("evt-ingest sqlite:x.db --explode .", "--explode reads files and standard input only"),
        ("evt-ingest http://127.0.0.1:0 --anonymous --explode .", "--explode reads files and standard input only"),
    ] {
        let run = dir.shell(line).ends_with(2);
        assert!(run.stderr().contains(message), "{run}");
    }
}

#[test]
fn a_checkpoint_leaves_a_document_that_is_still_written() {
    let dir = Dir::new("explode-checkpoint");
    let ingest =
        "evt-ingest in.json --explode a --time t --time-unit s --min-time 1970-01-01 --checkpoint cp --to out.jsonl -q";
    dir.write("in.json", "{\"a\":[{\"t\":1},{\"t\":2},");
    dir.shell(ingest).succeeds();
    dir.write("in.json", "{\"a\":[{\"t\":1},{\"t\":2},{\"t\":3}]}\n");
    dir.shell(ingest).succeeds();
    let offsets: Vec<_> = dir.rows("out.jsonl").iter().map(|row| row["offset"].as_u64()).collect();
    assert_eq!(offsets, [Some(1), Some(2), Some(3)]);
}

#[test]
fn a_document_that_breaks_off_is_torn_and_fires_no_window() {
    let dir = Dir::new("explode-torn");
    let whole = r#"{"data":[{"t":"2026-01-01","a":1},{"t":"2026-01-01","a":2}]}"#;
    for length in [1, 8, 9, 12, 33, 34, 40, whole.len() - 2, whole.len() - 1] {
        dir.write("in.json", &whole[..length]);
        let read = "evt-window in.json --explode data --time t --size 1d --dlq dead.jsonl";
        let run = dir.shell(&format!("{read} --to out.csv")).ends_with(65);
        assert!(run.stderr().contains("in.json: torn document: it breaks off after record "), "{length}: {run}");
        assert!(!dir.path("out.csv").exists(), "{length}: {run}");
        assert!(!dir.path("dead.jsonl").exists() || dir.rows("dead.jsonl").is_empty(), "{length}: {run}");
    }
    dir.write("in.json", whole);
    dir.shell("evt-window in.json --explode data --time t --size 1d --to out.csv").succeeds();
}

#[test]
fn documents_of_third_parties_never_crash_the_reader() {
    let Some(suite) = data("json/JSONTestSuite") else { return };
    let dir = Dir::new("explode-suite");
    let line = format!(
        "for file in $(find {} -name '*.json' | sort | head -400); do evt-ingest $file --explode . --time arrival -q --dlq null: \
         -o jsonl > out 2> err; status=$?; [ $status -le 1 ] || grep -q 'torn document' err || echo $file $status $(cat err); done",
        suite.display()
    );
    assert_eq!(dir.shell(&line).succeeds().text(), "");
}

/// Whatever is not an element is in a letter, with its bytes: a repair needs them.
#[test]
fn letters_have_the_value_that_is_refused_and_what_is_passed_over_after_broken_json() {
    let dir = Dir::new("explode-letters");
    dir.write("bom.json", "\u{feff}{\"Records\":[{\"a\":1},{\"a\":2}]}\n");
    let run = dir.shell("evt-ingest bom.json --time arrival --explode Records -q --strict -o jsonl").succeeds();
    assert_eq!(run.rows().len(), 2);
    for (path, text, elements, payloads) in [
        (".", "{\"a\":1}\n {\"b\":2}\n", 0, &["{\"a\":1}", "{\"b\":2}"][..]),
        ("Records", "{\"Records\":\"hello\",\"x\":1}", 0, &["{\"Records\":\"hello\""]),
        ("R", "hello world\nand more\n{\"R\":[{\"a\":1}]}", 1, &["hello world\nand more\n"]),
        (
            ".",
            "[\n{\"a\":1}\n{\"a\":2},\n{\"a\":3}\n]\n",
            1,
            &["[\n{\"a\":1}\n", "{\"a\":2}", ",\n", "{\"a\":3}", "]\n"],
        ),
    ] {
        dir.write("in.json", text);
        let line = format!("rm -f d.jsonl; evt-ingest in.json --time arrival --explode {path} --dlq d.jsonl -o jsonl");
        assert_eq!(dir.shell(&line).succeeds().rows().len(), elements, "{text}");
        let letters = dir.rows("d.jsonl");
        let found: Vec<_> = letters.iter().map(|row| row["original_payload"].as_str().expect("text")).collect();
        assert_eq!(found, payloads, "{text}");
    }
}

#[test]
fn a_misspelled_array_names_the_arrays_that_are_there() {
    let dir = Dir::new("explode-name");
    dir.write(
        "in.json",
        "{\"a\":\"x\\\"[\",\"o\":{\"in\":[1]},\"Records\":[{\"t\":\"2026-01-01\"}],\"more\" : [ {}],\"n\":[2]}\n",
    );
    let run = dir.shell("evt-ingest in.json --explode Record --time t --to null:").ends_with(1);
    let said = "expected an array at Record, found none; --explode Records or --explode more reads one that is there";
    assert!(run.stderr().contains(said), "{run}");
    let run = dir.shell("evt-ingest in.json --explode .Records --time t --to null:").ends_with(2);
    assert!(run.stderr().contains("found '.Records'; write --explode Records"), "{run}");
}

#[test]
fn an_array_whose_name_is_escaped_is_named_as_the_flag_reads_it() {
    let dir = Dir::new("explode-escaped");
    let element = "[{\"t\":\"2026-01-01\"}]";
    for (key, hint) in [
        (r"Rec\u006frds", "; --explode Records reads one that is there"),
        (r"my list\u0021", "; --explode 'my list!' reads one that is there"),
    ] {
        dir.write("in.json", format!("{{\"{key}\":{element}}}"));
        let run = dir.shell("evt-ingest in.json --explode z.q --time t --to null:").ends_with(1);
        assert!(run.stderr().contains(hint), "{run}");
        let flag = hint.trim_start_matches("; ").trim_end_matches(" reads one that is there");
        dir.shell(&format!("evt-ingest in.json {flag} --time t --to null:")).succeeds();
    }
    // The flag cannot name these.
    for key in [r"a\u002eb", "a.b", "", r"a\u001b[1m"] {
        dir.write("in.json", format!("{{\"{key}\":{element}}}"));
        let run = dir.shell("evt-ingest in.json --explode z.q --time t --to null:").ends_with(1);
        assert!(run.stderr().contains("found none") && !run.stderr().contains("reads one that is there"), "{run}");
    }
}

#[test]
fn the_only_record_of_a_file_names_the_array_in_it() {
    let dir = Dir::new("explode-line");
    dir.write("one.json", "{\"kind\":\"List\",\"items\":[{\"t\":\"2026-01-01T00:00:00Z\"}]}\n");
    let run = dir.shell("evt-ingest one.json --to null:").ends_with(2);
    assert!(run.stderr().contains("; --explode items reads the elements of that array as records"), "{run}");
    dir.shell("evt-ingest one.json --explode items --time t --to null:").succeeds();
}
