//! CSV as spreadsheets and other programs write it: other delimiters, no header, other encodings.

use crate::harness::Dir;
use serde_json::{Value, json};

/// The properties of each event of a file.
fn properties(dir: &Dir, line: &str) -> Vec<Value> {
    let run = dir.shell(&format!("{line} -q --strict -o jsonl")).succeeds();
    run.rows().iter().map(|row| row["properties"].clone()).collect()
}

#[test]
fn a_spreadsheet_with_semicolons_needs_no_flag() {
    let dir = Dir::new("semicolons");
    dir.write("in.csv", "\u{feff}day;amount;\"a, b\"\r\n2026-01-01;1,5;x\r\n");
    let wanted = [json!({"day": "2026-01-01", "amount": "1,5", "a, b": "x"})];
    for tool in ["evt-ingest", "evt-view", "evt-validate"] {
        assert_eq!(properties(&dir, &format!("{tool} in.csv --time day --to -")), wanted, "{tool}");
    }
    dir.write("tabs.csv", "day\tn\n2026-01-01\t5\n");
    assert_eq!(properties(&dir, "evt-ingest tabs.csv --time day"), [json!({"day": "2026-01-01", "n": "5"})]);
    // A comma in the header decides, whatever the rows have.
    dir.write("comma.csv", "day,n;m\n2026-01-01,1;2\n");
    assert_eq!(properties(&dir, "evt-ingest comma.csv --time day"), [json!({"day": "2026-01-01", "n;m": "1;2"})]);
    assert_eq!(
        properties(&dir, "evt-ingest comma.csv --delimiter ';' --time 'day,n' --time-format '%Y-%m-%d,1'"),
        [json!({"day,n": "2026-01-01,1", "m": "2"})]
    );
}

#[test]
fn values_without_a_header_are_named_by_flags() {
    let dir = Dir::new("no-header");
    dir.write("in.txt", "1 2 1254192988\n3 1 1254194656\n");
    let first = json!({"src": "1", "dst": "2", "ts": "1254192988"});
    let line = "evt-ingest in.txt --delimiter ' ' --header src,dst,ts --time ts --time-unit s";
    let rows = dir.shell(&format!("{line} -q -o jsonl")).succeeds().rows();
    assert_eq!((rows.len(), &rows[0]["properties"], &rows[0]["offset"]), (2, &first, &json!(1)));
    // From standard input and through gzip.
    let piped = "gzip -c in.txt | evt-ingest --delimiter ' ' --header src,dst,ts --time ts --time-unit s";
    assert_eq!(properties(&dir, piped)[0], first);
    let numbered = properties(&dir, "evt-ingest in.txt --delimiter ' ' --no-header --time c3 --time-unit s");
    assert_eq!(numbered[1], json!({"c1": "3", "c2": "1", "c3": "1254194656"}));
    // Without --time the message names the column.
    let run = dir.shell("evt-ingest in.txt --delimiter ' ' --no-header --to null:").ends_with(2);
    assert!(run.stderr().contains("use --time c3\n"), "{run}");
    dir.write("in.tsv", "1\t2026-01-01\n");
    assert_eq!(properties(&dir, "evt-ingest in.tsv --header a,b --time b"), [json!({"a": "1", "b": "2026-01-01"})]);
    // Data may have decimal commas; the names tell how many fields there are.
    dir.write("comma.csv", "2026-01-01;1,50;A\n2026-01-02;2,50;B\n");
    for (flags, expected) in [
        ("--no-header --time c1", json!({"c1": "2026-01-01", "c2": "1,50", "c3": "A"})),
        ("--header day,price,key --time day", json!({"day": "2026-01-01", "price": "1,50", "key": "A"})),
    ] {
        assert_eq!(properties(&dir, &format!("evt-ingest comma.csv {flags}"))[0], expected);
    }
    let sum = "evt-window comma.csv --header day,price,key --time day --size all -q -o jsonl \
               --agg \"sum(try_cast(replace(price, ',', '.') as double))\"";
    assert_eq!(dir.shell(sum).succeeds().rows()[0]["value"], 4.0);
    dir.write("more.csv", "1,2026-01-01\n1,2026-01-01,3\n");
    let run = dir.shell("evt-ingest more.csv --no-header --time c2 --to null:").ends_with(1);
    assert!(run.stderr().contains("more.csv:2: ParseError: expected 2 fields, found 3"), "{run}");
}

#[test]
fn a_flag_of_csv_with_another_format_or_a_wrong_value_is_a_usage_error() {
    let dir = Dir::new("csv-flags");
    dir.write("in.csv", "a\n1\n");
    for (flags, said) in [
        ("--delimiter ';' -f jsonl", "--delimiter requires -f csv or tsv, found -f jsonl"),
        ("--no-header -f clf", "--no-header requires -f csv or tsv, found -f clf"),
        ("--delimiter ';;'", "expected one ASCII character, such as ';', or tab"),
        ("--header a,b,a", "--header: expected different names, found 'a' twice"),
        ("--header a --no-header", "cannot be used with"),
        ("--encoding klingon", "expected the name of an encoding, such as windows-1252"),
    ] {
        let run = dir.shell(&format!("evt-ingest in.csv {flags} --to null:")).ends_with(2);
        assert!(run.stderr().contains(said), "{run}");
    }
}

#[test]
fn other_encodings_are_read_with_a_flag() {
    let dir = Dir::new("encodings");
    dir.write("west.csv", b"t;city\n2026-01-01;Z\xfcrich \x80\n");
    let wanted = [json!({"t": "2026-01-01", "city": "Zürich €"})];
    assert_eq!(properties(&dir, "evt-ingest west.csv --encoding windows-1252 --time t"), wanted);
    assert_eq!(properties(&dir, "gzip -c west.csv | evt-ingest -f csv --encoding cp1252 --time t"), wanted);
    let text = "\u{feff}t\tcity\n2026-01-01\tZürich €\n";
    let bytes = |big: bool| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    for (name, big, encoding) in
        [("le.csv", false, "utf-16"), ("be.csv", true, "utf-16be"), ("le2.csv", false, "utf-16le")]
    {
        dir.write(name, bytes(big));
        assert_eq!(properties(&dir, &format!("evt-ingest {name} --encoding {encoding} --time t")), wanted, "{name}");
    }
    // A record with bytes that are not text is a dead letter, the others are rows.
    let mut broken = bytes(false);
    broken.extend([0x00, 0xd8, b'\n', 0]);
    broken.extend("2026-01-02\tx\n".encode_utf16().flat_map(u16::to_le_bytes));
    dir.write("broken.csv", broken);
    let run = dir.shell("evt-ingest broken.csv --encoding utf-16 --time t -o jsonl").ends_with(1);
    assert!(run.rows().len() == 2 && run.stderr().contains("broken.csv:3: ParseError: byte 1: invalid UTF-8"), "{run}");
}

#[test]
fn columns_without_names_are_numbered() {
    let dir = Dir::new("unnamed");
    dir.write("in.csv", "t,c4,,\n2026-01-01,a,b,c\n");
    assert_eq!(
        properties(&dir, "evt-ingest in.csv --time t"),
        [json!({"t": "2026-01-01", "c4": "a", "c3": "b", "c4_": "c"})]
    );
    // csvlog of PostgreSQL has no header.
    let line = "2026-11-22 00:00:00.123 UTC,\"app\",\"shop\",1234,\"10.0.0.1:5432\",6560.4d2,1,\"SELECT\",,,,\"\"\n";
    dir.write("in.csv", line.repeat(2));
    let run = dir.shell("evt-ingest in.csv --to null:").ends_with(2);
    let way_out = "--header NAMES or --no-header reads a file without a header";
    assert!(run.stderr().contains(&format!("looks like a record, not like a header; {way_out}")), "{run}");
    let rows = properties(&dir, "evt-ingest in.csv --no-header --time c1");
    assert_eq!((rows.len(), &rows[0]["c4"]), (2, &json!("1234")));
}

#[test]
fn names_of_a_header_with_another_separator_are_a_usage_error() {
    let dir = Dir::new("header-names");
    dir.write("in.csv", "1;2\n3;4\n");
    let run = dir.run("evt-view", &["in.csv", "--header", "x;y", "--delimiter", ";"]).ends_with(2);
    assert!(run.stderr().contains("--header: expected names separated by commas, found 'x;y'"), "{run}");
}
