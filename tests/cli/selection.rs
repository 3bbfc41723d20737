//! evt-view --columns: paths, all fields, names that no row has, and types in files of columns.

use crate::harness::{Dir, ask, python};
use serde_json::json;

const ISSUES: &str = r#"{"ts":"2026-01-01T00:00:00Z","id":1,"labels":[{"name":"bug"},{"name":"p1"}],"x.y":"dotted","closed":null}
{"ts":"2026-01-01T00:00:01Z","id":2,"labels":[],"x.y":"more"}
"#;

#[test]
fn columns_take_the_paths_of_expressions() {
    let dir = Dir::new("selection-paths");
    dir.write("i.jsonl", ISSUES);
    let shown =
        dir.shell("evt-view -q i.jsonl --columns 'id,labels[1].name, labels[-1].name,\"x.y\"' -o csv").succeeds();
    assert_eq!(shown.text(), "id,labels[1].name,labels[-1].name,x.y\n1,bug,p1,dotted\n2,,,more\n");
    assert_eq!(shown.stderr(), "");
    let sorted = dir.shell("evt-view -q i.jsonl --sort '-labels[1].name' --columns id -o csv").succeeds();
    assert_eq!(sorted.text(), "id\n1\n2\n");
    for wrong in ["labels[1", "'a,,b'", "'\"a'"] {
        let run = dir.shell(&format!("evt-view -q i.jsonl --columns {wrong} -o csv"));
        assert!(run.status() == 2 || run.stderr().contains("in no row shown"), "{run}");
    }
}

#[test]
fn a_time_and_a_field_are_taken_from_the_element_of_an_array() {
    let dir = Dir::new("selection-time");
    dir.write("e.jsonl", r#"{"at":[{"t":"2026-01-02T03:04:05Z"}],"who.am":"ann","Temp [C]":5}"#);
    let line = "evt-view -q e.jsonl --time 'at[1].t' --field 'user_id=\"who.am\"' --require 'Temp [C]' \
                --columns event_time,user_id -o csv";
    let shown = dir.shell(line).succeeds();
    assert_eq!(shown.text(), "event_time,user_id\n2026-01-02T03:04:05.000000Z,ann\n");
}

#[test]
fn a_column_that_no_row_has_is_told_and_one_that_is_null_is_not() {
    let dir = Dir::new("selection-missing");
    dir.write("i.jsonl", ISSUES);
    let run = dir.shell("evt-view -q i.jsonl --columns id,closed,Betrag,Stück -o csv").succeeds();
    assert_eq!(run.text(), "id,closed,Betrag,Stück\n1,,,\n2,,,\n");
    assert_eq!(run.stderr(), "evt-view: --columns: Betrag, Stück are in no row shown; check the names\n");
    let none = dir.shell("evt-view -q i.jsonl --columns nope --where 'id > 5' -o csv").succeeds();
    assert_eq!(none.stderr(), "", "without rows there is nothing to tell");
}

#[test]
fn all_fields_of_a_csv_file_are_its_columns_in_its_order() {
    let dir = Dir::new("selection-all-csv");
    let header = "user_id;Datum;Preis, netto;offset;leer;event_id;event_time";
    let id = "0190a5b4-0000-7000-8000-000000000001";
    let row = format!("u1;2026-01-01;1,50;7;;{id};2026-01-05T00:00:00.000000Z");
    let other = format!("u2;2026-01-02;2,50;8;;{};2026-01-06T00:00:00.000000Z", id.replace('1', "2"));
    dir.write("in.csv", format!("{header}\n{row}\n{other}\n"));
    let shown =
        dir.shell("evt-view -q in.csv --delimiter ';' --columns '*' --where \"user_id = 'u1'\" -o csv").succeeds();
    let fields = "user_id,Datum,\"Preis, netto\",offset,leer,event_id,event_time";
    assert_eq!(shown.text(), format!("{fields}\nu1,2026-01-01,\"1,50\",7,,{id},2026-01-05T00:00:00.000000Z\n"));
    assert_eq!(shown.stderr(), "");
    // Another time, a name before the others, and a computed field.
    let line =
        "evt-view -q in.csv --delimiter ';' --time Datum --let 'n=offset * 2' --columns 'Datum,*' --head 1 -o csv";
    let fields = "Datum,user_id,\"Preis, netto\",offset,leer,event_id,event_time,n";
    let shown = dir.shell(line).succeeds();
    assert_eq!(shown.text().lines().next(), Some(fields), "{shown}");
    // The columns that only a later file has.
    dir.write("more.csv", "user_id,new\nu,1\n");
    dir.write("less.csv", "Datum\n1\n");
    let shown = dir.shell("evt-view -q less.csv more.csv --columns '*' -o csv").succeeds();
    assert_eq!(shown.text(), "Datum\n1\n\"\"\n");
    assert!(shown.stderr().contains("--columns *: no column for new, user_id, which the first rows"), "{shown}");
    // A header alone.
    dir.write("empty.csv", "a,b\n");
    assert_eq!(dir.shell("evt-view -q empty.csv --columns '*' -o csv").succeeds().text(), "a,b\n");
}

#[test]
fn all_fields_of_json_are_those_of_the_first_rows_and_later_ones_are_told() {
    let dir = Dir::new("selection-all-json");
    let mut lines = String::from("{\"b\":1,\"a\":{\"c\":2}}\n{\"d\":[3],\"b\":4,\"source\":\"web\"}\n");
    lines += &"{\"b\":5}\n".repeat(3000);
    lines += "{\"b\":6,\"late\":7}\n";
    dir.write("in.jsonl", &lines);
    let shown = dir.shell("evt-view -q in.jsonl --columns '*' -o csv").succeeds();
    let text = shown.text();
    // A column that only some records fill has the default in the others.
    let rows = "source,b,a,d\nin.jsonl,1,\"{\"\"c\"\":2}\",\nweb,4,,[3]\nin.jsonl,5,,\n";
    assert!(text.starts_with(rows), "{text}");
    let told =
        "evt-view: --columns *: no column for late, which the first rows do not have; name all fields in --columns\n";
    assert_eq!(shown.stderr(), told);
    // Events of a pipe have the columns that producers fill.
    dir.write("p.jsonl", ISSUES);
    let piped = dir.shell("evt-ingest -q p.jsonl --time ts | evt-view -q --columns '*' -o csv").succeeds();
    let header = piped.text().lines().next().map(str::to_owned);
    assert_eq!(header.as_deref(), Some("event_id,source,event_type,event_time,ts,id,labels,x.y,closed"));
    let tables = dir.shell("evt-view -q p.jsonl --columns '*' --sort '*' -o csv").ends_with(2);
    assert!(tables.stderr().contains("--sort: expected one name, found *"), "{tables}");
}

#[test]
fn selected_columns_have_types_in_parquet_and_arrow() {
    let dir = Dir::new("selection-types");
    let rows = "day;n;note\n27.03.2026;5;a\n28.03.2026;6;\n";
    dir.write("in.csv", rows);
    dir.write(
        "in.jsonl",
        "{\"i\":1,\"f\":1,\"s\":\"x\",\"b\":true,\"mixed\":1,\"o\":{\"p\":1}}\n{\"i\":2,\"f\":1.5,\"mixed\":\"y\"}\n",
    );
    for end in ["parquet", "arrow"] {
        dir.shell(&format!("evt-view -q in.csv --columns day,n,note --to csv.{end}")).succeeds();
        dir.shell(&format!("evt-view -q in.jsonl --columns i,f,s,b,mixed,o,source --to json.{end}")).succeeds();
        let back = dir.shell(&format!("evt-view -q json.{end} --columns '*' -o jsonl")).succeeds().rows();
        assert_eq!((&back[0]["i"], &back[1]["f"], &back[1]["s"]), (&json!(1), &json!(1.5), &json!(null)), "{back:?}");
        let Some(python) = python() else { continue };
        let csv = ask(&dir, &python, "column_types.py", &[&format!("csv.{end}")]).rows();
        assert_eq!(csv[0], json!({"day": "string", "n": "string", "note": "string"}));
        assert_eq!(csv[1], json!({"day": "27.03.2026", "n": "5", "note": "a"}));
        let typed = ask(&dir, &python, "column_types.py", &[&format!("json.{end}")]).rows();
        for (name, wanted) in [("i", "int64"), ("f", "double"), ("s", "string"), ("b", "bool")] {
            assert_eq!(typed[0][name], wanted, "{name} in {end}: {typed:?}");
        }
        assert_ne!(typed[0]["mixed"], "string", "what one type does not hold stays JSON: {typed:?}");
    }
}

#[test]
fn a_value_that_the_type_of_its_column_cannot_hold_ends_the_run_with_a_way_out() {
    let dir = Dir::new("selection-misfit");
    let mut lines = "{\"n\":1}\n".repeat(131_072);
    lines += &"{\"n\":2}\n".repeat(4096);
    lines += "{\"n\":\"many\"}\n";
    dir.write("in.jsonl", &lines);
    let run = dir.shell("evt-view -q in.jsonl --columns n --to out.parquet").ends_with(65);
    let told = "column n: expected an integer, like the first rows of the file, found \"many\"; \
                a column of --let NAME='cast(n as text)' holds all values";
    assert!(run.stderr().contains(told), "{run}");
    assert!(!dir.path("out.parquet").exists());
    dir.shell("evt-view -q in.jsonl --let t='cast(n as text)' --columns t --to out.parquet").succeeds();
}

/// A walk over the record for each column did not end in minutes.
#[test]
fn a_record_with_sixty_thousand_fields_is_shown_with_all_of_them() {
    let dir = Dir::new("selection-wide");
    let names = || (0..60_000).map(|n| format!("c{n}"));
    let record: String = names().map(|name| format!("\"{name}\":\"{name}\",")).collect();
    dir.write("wide.jsonl", format!("{{{record}\"c7\":[1]}}\n"));
    let run = dir.shell("evt-view -q wide.jsonl --time arrival --max-record 4MiB --columns '*' -o csv").succeeds();
    let (header, row) = (names().collect::<Vec<_>>().join(","), run.text());
    assert_eq!(row, format!("{header}\n{}\n", header.replacen(",c7,", ",[1],", 1)));
}
