//! Mistakes of new users, each with the message or the flag that helps.

use crate::harness::Dir;
use serde_json::json;

#[test]
fn dead_letters_of_csv_are_repaired_and_replayed_under_the_names_of_their_header() {
    let dir = Dir::new("remedy-csv");
    dir.write("u.csv", "Datum;Preis, netto;event_id\n2026-01-01;1,50;\ngestern;\"2;50\";\n2026-01-03;x\n");
    dir.shell("evt-ingest -q u.csv --delimiter ';' --time Datum --dlq bad.jsonl --to good.jsonl").succeeds();
    let payloads: Vec<_> = dir.rows("bad.jsonl").iter().map(|row| row["original_payload"].clone()).collect();
    assert_eq!(payloads, [json!("gestern;\"2;50\";"), json!("2026-01-03;x")]);
    // Without the format, the message names it; with it but without names, it asks for them.
    let replay = "evt-replay bad.jsonl --ledger sqlite:r.db --time Datum --to replayed.jsonl";
    let run = dir.shell(&format!("{replay} --dry-run")).ends_with(1);
    assert!(run.stderr().contains("2 letters are not JSON; -f csv --header NAMES, -f syslog"), "{run}");
    let run = dir.shell(&format!("{replay} -f csv")).ends_with(2);
    assert!(
        run.stderr()
            .contains("bad.jsonl: expected --header NAMES, because records of csv in dead letters have no header"),
        "{run}"
    );
    let names = "--delimiter ';' --header 'Datum,Preis,event_id'";
    let run = dir
        .shell(&format!("{replay} -f csv {names} --patch \"set Datum = '2026-01-02'\" --dlq left.jsonl"))
        .ends_with(1);
    assert!(run.stderr().contains("1 replayed to replayed.jsonl"), "{run}");
    let replayed = dir.rows("replayed.jsonl");
    assert_eq!(replayed.len(), 1);
    assert_eq!(replayed[0]["event_time"], "2026-01-02T00:00:00.000000Z");
    assert_eq!(replayed[0]["properties"], json!({"Datum": "2026-01-02", "Preis": "2;50"}));
    // What is still faulty keeps its bytes and tells why.
    let left = dir.rows("left.jsonl");
    assert_eq!((left.len(), &left[0]["original_payload"]), (1, &json!("2026-01-03;x")));
    assert!(left[0]["error_message"].as_str().unwrap().contains("expected 3 fields, found 2"), "{left:?}");
    // Again: the ledger knows the first one.
    let run = dir.shell(&format!("{replay} -f csv {names} --patch \"set Datum = '2026-01-02'\"")).ends_with(1);
    assert!(run.stderr().contains("1 was replayed before"), "{run}");
}

#[test]
fn letters_of_documents_are_replayed_on_one_line_each() {
    let dir = Dir::new("remedy-lines");
    dir.write("m.json", "{\"data\":[\n{\"t\":\"2026-01-01\"},{\"t\":null,\"o\":{\n\"a\":1},\r\n\"b\":2}]}\n");
    dir.shell("evt-ingest -q m.json --explode data --time t --dlq bad.jsonl --to null:").succeeds();
    let replay = "evt-replay -q bad.jsonl --time t --ledger sqlite:r.db --to replayed.jsonl";
    dir.shell(&format!("{replay} --patch \"set b = 3\" --patch \"set t = '2026-01-01'\"")).ends_with(2);
    dir.shell(&format!("{replay} --patch \"set t = '2026-01-01'\"")).succeeds();
    let rows = dir.rows("replayed.jsonl");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["properties"], json!({"t": "2026-01-01", "o": {"a": 1}, "b": 2}));
}

#[test]
fn a_selected_column_that_is_also_a_property_is_told() {
    let dir = Dir::new("remedy-columns");
    dir.write("f.csv", "origin,dest,n\nJFK,LAX,3\n");
    let run = dir.shell("evt-view -q f.csv --columns origin,dest,n -o csv").succeeds();
    let told = "origin is the column of the event; use properties.origin for the property of that name";
    assert!(run.stderr().contains(told) && run.text().ends_with("f.csv,LAX,3\n"), "{run}");
    let run = dir.shell("evt-view -q f.csv --columns properties.origin,dest -o csv").succeeds();
    assert!(run.stderr().is_empty() && run.text().ends_with("\nJFK,LAX\n"), "{run}");
}

#[test]
fn letters_of_broken_json_are_not_taken_for_another_format() {
    let dir = Dir::new("remedy-json");
    dir.write("u.jsonl", "{\"event_time\":\"2026-01-01T00:00:00Z\"}\n42\n\"x\"\n[1]\n{\"a\":\n");
    dir.shell("evt-ingest -q u.jsonl --dlq bad.jsonl --to good.jsonl").succeeds();
    let run = dir.shell("evt-replay bad.jsonl --ledger sqlite:r.db --to replayed.jsonl --dry-run").ends_with(1);
    assert!(run.stderr().contains("4 letters are still faulty") && !run.stderr().contains("not JSON"), "{run}");
}

#[test]
fn dead_letters_of_syslog_are_replayed_with_the_year_that_was_missing() {
    let dir = Dir::new("remedy-syslog-letters");
    dir.write("s.log", "<34>Feb 30 10:00:00 h a: b\n<34>Feb 28 10:00:00 h a: c\n");
    dir.shell("evt-ingest -q s.log -f syslog --time-year 2026 --dlq bad.jsonl --to null:").succeeds();
    let line = "evt-replay bad.jsonl -f syslog --time-year 2026 --ledger sqlite:r.db --to out.jsonl \
                --patch \"set server_timestamp = '2026-03-02T10:00:00Z'\"";
    dir.shell(line).succeeds();
    let rows = dir.rows("out.jsonl");
    assert_eq!((rows.len(), &rows[0]["properties"]["message"]), (1, &json!("b")));
}

#[test]
fn syslog_over_new_year_goes_on_in_the_next_year_after_a_restart_too() {
    let dir = Dir::new("remedy-new-year");
    let lines =
        ["Dec 31 23:59:58 h a: 1", "Jan  1 00:00:01 h a: 2", "Dec 31 23:59:59 h a: 3", "Jan  1 00:00:02 h a: 4"];
    dir.write("s.log", lines.join("\n") + "\n");
    let times = |line: &str| {
        let rows = dir.shell(line).succeeds().rows();
        rows.iter().map(|row| row["event_time"].as_str().unwrap()[..10].to_owned()).collect::<Vec<_>>()
    };
    let shown = times("evt-view -q s.log -f syslog --time-year 2025 -o jsonl");
    assert_eq!(shown, ["2025-12-31", "2026-01-01", "2025-12-31", "2026-01-01"]);
    // A second run of a checkpoint begins in January, at the position of the first.
    let ingest = "evt-ingest -q --checkpoint state/ s.log -f syslog --time-year 2025 --to out.jsonl";
    dir.shell(ingest).succeeds();
    dir.shell("printf 'Jan  2 00:00:00 h a: 5\\n' >> s.log").succeeds();
    dir.shell(ingest).succeeds();
    let last = dir.rows("out.jsonl").last().unwrap()["event_time"].clone();
    assert_eq!(last, "2026-01-02T00:00:00.000000Z");
}

#[test]
fn times_that_clocks_show_twice_are_told() {
    let dir = Dir::new("remedy-twice");
    let rows = [
        "2026-10-25 01:59:00",
        "2026-10-25 02:10:00",
        "2026-10-25 02:10:00",
        "2026-10-25 03:00:00",
        "2026-10-25T02:10:00Z",
    ];
    dir.write("in.csv", format!("t,n\n{}\n", rows.map(|row| format!("{row},1")).join("\n")));
    let line = "evt-window in.csv --time t --time-zone Europe/Berlin --size 1h --out-of-orderness all -q --to null:";
    let run = dir.shell(line).succeeds();
    let told = "2 times without an offset occur twice in Europe/Berlin, because clocks go back; evt uses the first of both instants";
    assert!(run.stderr().contains(told), "{run}");
    let run = dir.shell(&line.replace("Europe/Berlin", "UTC")).succeeds();
    assert_eq!(run.stderr(), "");
}

#[test]
fn windows_of_weeks_that_begin_on_thursdays_are_told() {
    let dir = Dir::new("remedy-weeks");
    dir.write("in.jsonl", "{\"t\":\"2026-04-01T00:00:00Z\"}\n");
    let window = |flags: &str| {
        let line =
            format!("evt-window in.jsonl --time t --out-of-orderness all -o csv {flags} | cut -d, -f2 | tail -n 1");
        let run = dir.shell(&line).succeeds();
        (run.text().trim().to_owned(), run.stderr().contains("begin on Thursdays"))
    };
    assert_eq!(window("--size 7d"), ("2026-03-26T00:00:00.000000Z".to_owned(), true));
    assert_eq!(window("--size 1w"), ("2026-03-26T00:00:00.000000Z".to_owned(), true));
    assert_eq!(window("--size 1w --window-zone UTC"), ("2026-03-30T00:00:00.000000Z".to_owned(), false));
    assert_eq!(window("--size 1w --align 4d"), ("2026-03-30T00:00:00.000000Z".to_owned(), false));
    assert_eq!(window("--size 1d"), ("2026-04-01T00:00:00.000000Z".to_owned(), false));
    assert!(!window("--size 7d -q").1);
}

#[test]
fn a_warning_about_a_name_names_its_flag_and_does_not_doubt_what_is_null_asks() {
    let dir = Dir::new("remedy-null");
    dir.write("in.jsonl", "{\"a\":1,\"closed\":null}\n{\"a\":2}\n");
    let said = |flags: &str| dir.shell(&format!("evt-view -q in.jsonl {flags} -o csv --columns a")).succeeds().stderr();
    assert_eq!(said("--where 'closed is null'"), "evt-view: --where: closed was NULL or absent in every row\n");
    assert_eq!(said("--where 'b > 1'"), "evt-view: --where: b was NULL in every row; check the name\n");
    assert_eq!(said("--let 'n=b * 2'"), "evt-view: --let n: b was NULL in every row; check the name\n");
    let uncast = "evt-view: --where: a was NULL in every row: try_cast reads none of its values\n";
    assert_eq!(said("--where 'coalesce(try_cast(a as boolean), true)'"), uncast);
    let run = dir.shell("evt-ingest -q in.jsonl --time arrival --let 'n=b * 2' --to null:").succeeds();
    assert_eq!(run.stderr(), "evt-ingest: --let n: b was NULL in every row; check the name\n");
}

#[test]
fn a_value_of_a_wrong_type_names_try_cast_which_helps() {
    let dir = Dir::new("remedy-cast");
    dir.write(
        "in.jsonl",
        "{\"t\":\"2026-01-01T00:00:00Z\",\"ms\":\"n/a\",\"a b\":\"x\"}\n{\"t\":\"2026-01-01T00:00:01Z\",\"ms\":7}\n",
    );
    let run = dir.shell("evt-view -q in.jsonl --where 'ms > 5' --columns ms -o csv --dlq d.jsonl").succeeds();
    assert_eq!(run.text(), "ms\n7\n");
    let letter = &dir.rows("d.jsonl")[0];
    assert_eq!(letter["error_type"], "AggregationError");
    assert_eq!(letter["error_message"], "ms: expected a number, found \"n/a\"; try_cast(ms as double) is NULL then");
    let run = dir.shell("evt-view -q in.jsonl --where 'try_cast(ms as double) > 5' --columns ms -o csv").succeeds();
    assert_eq!((run.text().as_str(), run.stderr().as_str()), ("ms\n7\n", ""));
    let run = dir.shell("evt-view -q in.jsonl --where '\"a b\" > 5' --columns ms").ends_with(1);
    assert!(run.stderr().contains("try_cast(\"a b\" as double) is NULL then"), "{run}");
    let run = dir.shell("evt-window in.jsonl --time t --size 1h --agg 'avg(ms)' -q --to null:").ends_with(1);
    assert!(run.stderr().contains("found \"n/a\"; try_cast(ms as double) is NULL then"), "{run}");
    dir.shell("evt-window in.jsonl --time t --size 1h --agg 'avg(try_cast(ms as double))' -q --to null:").succeeds();
}

#[test]
fn a_flag_of_another_tool_names_that_tool_and_a_tip_has_a_mark_before_it() {
    let dir = Dir::new("remedy-flags");
    let said = |line: &str| dir.shell(line).ends_with(2).stderr();
    assert_eq!(
        said("evt-window --follow in.jsonl"),
        "evt-window: unexpected argument '--follow' found; evt-ingest --follow FILE | evt-window reads files that grow (see evt-window --help)\n"
    );
    let tips = [
        ("evt-view --limit 5", "'--limit' found; --head N shows"),
        ("evt-view -n 5", "'-n' found; --head N shows"),
        ("evt-ingest --output=c.csv", "'--output' found; --to URI"),
        ("evt-window --group-by x", "'--group-by' found; --by NAMES groups"),
        ("evt-sink --tz UTC", "'--tz' found; --time-zone NAME"),
        ("evt-window --date d", "'--date' found; --time FIELD"),
        ("evt-window --groupby d", "'--groupby' found; --by NAMES groups"),
        ("evt-window --sep ';'", "'--sep' found; --delimiter C"),
        ("evt-validate --where x=1", "'--where' found; evt-ingest --where CONDITION … | evt-validate chooses"),
        ("evt-validate --let x=1", "'--let' found; evt-ingest --let NAME=EXPR … | evt-validate computes"),
        ("evt-window --explod a", "'--explod' found; tip: a similar argument exists: '--explode'"),
    ];
    tips.iter().for_each(|(line, words)| assert!(said(line).contains(words), "{}", said(line)));
    assert!(said("evt-window --sort n").contains("found; evt-window … | evt-view --sort NAME sorts rows"));
    let tip = said("evt-window --siz 1h");
    assert!(tip.contains("unexpected argument '--siz' found; tip: a similar argument exists: '--size'"), "{tip}");
}

#[test]
fn a_schema_instead_of_the_directory_and_a_subject_that_differs_from_the_only_one_are_told() {
    let dir = Dir::new("remedy-schemas");
    let schema = r#"{"type":"record","name":"issue","fields":[{"name":"n","type":"int"}]}"#;
    dir.shell("mkdir -p schemas/issue").succeeds();
    dir.write("schemas/issue/1.avsc", schema);
    dir.write("in.jsonl", "{\"n\":1}\n{\"n\":2}\n");
    let run = dir.shell("evt-validate in.jsonl --time arrival --schemas schemas/issue/1.avsc --to null:").ends_with(78);
    assert!(run.stderr().contains("found a file; for DIR/SUBJECT/1.avsc give DIR"), "{run}");
    let line = "evt-validate -q in.jsonl --time arrival --schemas schemas --dlq null: --append --to out.jsonl";
    let run = dir.shell(line).succeeds();
    let told = "2 events have a subject without a schema; --subject =issue takes the only one, for all events";
    assert!(run.stderr().contains(told), "{run}");
    let run = dir.shell(&format!("{line} --subject =issue")).succeeds();
    assert_eq!((run.stderr().as_str(), dir.rows("out.jsonl").len()), ("", 2));
    // Events of other subjects are not a reason to take the only one for all.
    dir.write("in.jsonl", "{\"n\":1,\"kind\":\"issue\"}\n{\"n\":2,\"kind\":\"other\"}\n");
    let run = dir.shell(&format!("{line} --subject kind")).succeeds();
    assert_eq!((run.stderr().as_str(), dir.rows("out.jsonl").len()), ("", 3));
    dir.write("schemas/other.avsc", schema);
    let run = dir.shell(&format!("{line} --subject kind")).ends_with(78);
    let told = "found the schema other.avsc; rename it to schemas/other/1.avsc";
    assert!(run.stderr().contains(told), "{run}");
}

#[test]
fn a_comment_for_a_header_is_shown_and_words_have_a_way_out_that_works() {
    let dir = Dir::new("remedy-headers");
    dir.write("c.csv", "# exported 2026\nalpha\nbeta\n");
    let run = dir.shell("evt-ingest c.csv --to null:").ends_with(2);
    assert!(run.stderr().contains("no field is a time (found # exported 2026); a comment before the header"), "{run}");
    dir.write("w.txt", "a b 3\nc d 4\n");
    let run = dir.shell("evt-view w.txt").ends_with(2);
    let said = run.stderr();
    let (_, flags) = said.split_once("-f 'regex:").expect("a way out");
    let pattern = flags.split('\'').next().unwrap_or_default();
    let shown = dir.shell(&format!("evt-view -q w.txt -f 'regex:{pattern}' --columns '*' -o csv")).succeeds();
    assert_eq!(shown.text(), "c1,c2,c3\na,b,3\nc,d,4\n");
    let shown = dir.shell("evt-view -q w.txt -f csv --delimiter ' ' --columns '*' -o csv").succeeds();
    assert_eq!(shown.text(), "a,b,3\nc,d,4\n");
}

#[test]
fn the_tables_of_a_foreign_database_are_listed_and_formats_that_are_only_read_are_not() {
    let dir = Dir::new("remedy-foreign");
    let db = rusqlite::Connection::open(dir.path("shop.db")).unwrap();
    db.execute_batch("CREATE TABLE orders (id); CREATE TABLE customers (id)").unwrap();
    let run = dir.shell("evt-view shop.db").ends_with(2);
    assert!(run.stderr().contains("sqlite:shop.db: expected tables of evt, found customers, orders"), "{run}");
    let told = "; sqlite3 -header -csv shop.db 'SELECT * FROM customers' writes one as CSV";
    assert!(run.stderr().contains(told), "{run}");
    dir.write("in.jsonl", "{\"n\":1}\n");
    let run = dir.shell("evt-view in.jsonl -o xlsx").ends_with(2);
    let told = "unknown format 'xlsx'; expected one of jsonl csv tsv avro parquet arrow frames table svg raw; spreadsheets read";
    assert!(run.stderr().contains(told), "{run}");
}

#[test]
fn a_database_that_evt_wrote_is_shown_by_its_file_name() {
    let dir = Dir::new("remedy-database");
    dir.write("in.jsonl", "{\"t\":\"2026-01-01T00:00:00Z\",\"n\":1}\n");
    dir.shell("evt-sink -q in.jsonl --time t --to orders.db").succeeds();
    let shown = dir.shell("evt-view -q orders.db --columns n -o csv").succeeds();
    assert_eq!(shown.text(), "n\n1\n");
    dir.shell("evt-window in.jsonl --time t --size 1h -q --late null: | evt-sink -q --to orders.db").succeeds();
    let listed = dir.shell("evt-view orders.db -o csv").succeeds();
    assert!(listed.text().contains("aggregated_metrics,1") && listed.stderr().contains("?table=NAME"), "{listed}");
    let run = dir.shell("evt-view 'sqlite:orders.db?table=corrections'").ends_with(2);
    assert!(run.stderr().contains("evt keeps table corrections for itself; sqlite3 shows it; expected"), "{run}");
}

#[test]
fn databases_that_evt_keeps_for_itself_are_named() {
    let dir = Dir::new("remedy-own");
    dir.write("dead.jsonl", "");
    dir.shell("evt-replay -q dead.jsonl --ledger sqlite:ledger.db --to out.jsonl").succeeds();
    let run = dir.shell("evt-view ledger.db").ends_with(2);
    assert!(run.stderr().contains("it is the ledger of evt-replay, which evt-view does not show; sqlite3"), "{run}");
    let rule =
        "[[rule]]\nname = \"e\"\naggregate = \"count(*)\"\ncondition = \"ge\"\nthreshold = 3\nwindow_seconds = 60\n";
    dir.write("rules.toml", rule);
    dir.write("e.jsonl", "{\"t\":\"2026-01-01T00:00:00Z\"}\n");
    dir.shell("evt-alert -q --once --rules rules.toml --state state.db e.jsonl --time t").succeeds();
    let run = dir.shell("evt-view state.db").ends_with(2);
    assert!(run.stderr().contains("it is the state of evt-alert, which evt-view does not show; sqlite3"), "{run}");
}

#[test]
fn selected_columns_in_avro_have_types_and_names_that_avro_permits() {
    let dir = Dir::new("remedy-avro");
    dir.write("a.csv", "from,n\nSAT,3\nSUN,4\n");
    dir.shell("evt-view -q a.csv --columns '*' --let 'half=n / 2' --to a.avro").succeeds();
    let text = dir.shell("evt-view -q a.avro --columns '*' -o jsonl").succeeds().text();
    assert_eq!(text, "{\"from\":\"SAT\",\"n\":\"3\",\"half\":1.5}\n{\"from\":\"SUN\",\"n\":\"4\",\"half\":2.0}\n");
    dir.write("b.csv", "US Gross,n\n1,2\n");
    let run = dir.shell("evt-view -q b.csv --columns '*' --to b.avro").ends_with(2);
    let other = "expected a name of letters, digits and _ in Avro; evt-view --let NAME=EXPR --columns NAME,… gives it another one";
    assert!(run.stderr().contains(&format!("column 'US Gross': {other}")), "{run}");
    dir.shell("evt-view -q b.csv --let 'us_gross=\"US Gross\"' --columns us_gross,n --to b.avro").succeeds();
}

#[test]
fn a_name_of_sort_that_no_row_has_is_told() {
    let dir = Dir::new("remedy-sort");
    dir.write("f.csv", "k,delay\na,5\nb,90\n");
    let run = dir.shell("evt-view -q f.csv --sort -dely --head 1 -o csv --columns k").succeeds();
    assert!(run.stderr().contains("--sort: dely is in no row; check the name"), "{run}");
    let run = dir.shell("evt-view -q f.csv --sort -delay --head 1 -o csv --columns k").succeeds();
    assert_eq!((run.text().as_str(), run.stderr().as_str()), ("k\nb\n", ""));
}

#[test]
fn local_times_in_windows_of_a_zone_are_told() {
    let dir = Dir::new("remedy-zone");
    dir.write("w.csv", "date,rain\n2012-01-31,1\n2012-02-01,10\n2012-03-01,100\n");
    let window =
        "evt-window -q w.csv --time date --window-zone America/Los_Angeles --size 1mo --agg 'sum(rain)' --wide";
    let run = dir.shell(window).succeeds();
    assert!(run.stderr().contains("--time-zone America/Los_Angeles reads them as local times"), "{run}");
    let run = dir.shell(&format!("{window} --time-zone America/Los_Angeles")).succeeds();
    assert!(run.stderr().is_empty() && run.text().lines().count() == 4, "{run}");
    dir.write("w.csv", "date,rain\n2012-01-31T00:00:00Z,1\n");
    assert!(dir.shell(window).succeeds().stderr().is_empty());
}

#[test]
fn booleans_of_other_programs_and_years_are_read() {
    let dir = Dir::new("remedy-booleans");
    dir.write("l.csv", "year,ok\n1952,True\n1952,FALSE\n2007,true\n2007,maybe\n");
    let window = "evt-window l.csv --time year --time-format %Y --size 1y --wide --late null: -q";
    let run = dir.shell(&format!("{window} --agg 'r=ratio(ok)'")).ends_with(1);
    assert!(run.stderr().contains("r: ok: expected a boolean, found \"maybe\""), "{run}");
    let rows: Vec<_> = run.text().lines().skip(1).map(str::to_owned).collect();
    let expected = [
        "1952-01-01T00:00:00.000000Z,1953-01-01T00:00:00.000000Z,0.5",
        "2007-01-01T00:00:00.000000Z,2008-01-01T00:00:00.000000Z,1",
    ];
    assert_eq!(rows, expected);
    dir.write("m.csv", "m\n2026-02\n");
    let run = dir.shell("evt-ingest -q m.csv --time m --time-format %Y-%m -o jsonl").succeeds();
    assert_eq!(run.rows()[0]["event_time"], "2026-02-01T00:00:00.000000Z");
}

#[test]
fn an_empty_log_is_no_torn_stream() {
    let dir = Dir::new("remedy-empty");
    dir.write("app.log", "");
    dir.write("rows.arrows", "");
    dir.shell("evt-view -q app.log").succeeds();
    dir.shell("evt-view -q rows.arrows").ends_with(65);
}

#[test]
fn an_alert_run_over_the_newest_records_first_tells_how_many_it_lost() {
    let dir = Dir::new("remedy-newest");
    let row =
        |minute: u32| format!("{{\"t\":\"2026-01-01T{:02}:{:02}:00Z\",\"v\":{minute}}}\n", minute / 60, minute % 60);
    dir.write("desc.jsonl", (1..=300).rev().map(row).collect::<String>());
    dir.write("r.toml", "[[rule]]\nname='r'\naggregate='max(v)'\ncondition='gt'\nthreshold=100\nwindow_seconds=600\n");
    let run = dir.shell("evt-alert -q --once --rules r.toml --time t desc.jsonl --state a.db").succeeds();
    assert!(run.stderr().contains("faulty records were not evaluated; if the newest records come first"), "{run}");
    // The line is left out if each record has a line of its own.
    for (report, has_line) in [("all", false), ("300", false), ("20", true)] {
        let args = ["--once", "-q", "--rules", "r.toml", "--time", "t", "--report", report, "desc.jsonl"];
        let run = dir.run("evt-alert", &args).succeeds();
        assert_eq!(run.stderr().contains("faulty records were not evaluated"), has_line, "{report}: {run}");
    }
    dir.shell("evt-view -q --time t desc.jsonl --sort event_time --columns '*' -o jsonl > asc.jsonl").succeeds();
    dir.shell("evt-alert -q --once --rules r.toml --time t asc.jsonl --state b.db").ends_with(1);
}

#[test]
fn a_removed_working_directory_is_an_error() {
    let dir = Dir::new("remedy-removed");
    dir.write("e.jsonl", "{\"event_time\":\"2026-01-01T00:00:00Z\"}\n");
    let ingest = "mkdir gone && cd gone && rmdir ../gone && evt-ingest -q";
    let run = dir.shell(&format!("{ingest} {} --to parquet:lake/events", dir.path("e.jsonl").display())).ends_with(74);
    assert!(run.stderr().contains("lake/events"), "{run}");
}

#[test]
fn a_misspelled_name_in_a_patch_is_told() {
    let dir = Dir::new("remedy-patch");
    let letters = "{\"event_time\":\"2026-01-01T00:00:00Z\"}\n{\"event_time\":\"never\",\"day\":\"2026-01-01\"}\n";
    dir.write("e.jsonl", letters);
    dir.shell("evt-ingest -q e.jsonl --dlq dead.jsonl --to null:").succeeds();
    let replay = "evt-replay -q dead.jsonl --dry-run --ledger sqlite:l.db --to r.jsonl";
    let run = dir.shell(&format!("{replay} --patch \"set event_time = dya || 'T00:00:00Z'\""));
    assert!(run.stderr().contains("--patch: dya was NULL in every row; check the name"), "{run}");
    let run = dir.shell(&format!("{replay} --patch \"set event_time = day || 'T00:00:00Z'\"")).ends_with(1);
    assert!(!run.stderr().contains("check the name"), "{run}");
    // Without --dry-run, a patch that removes a value by such a name stops before the ledger knows a letter.
    let letter = |temp: &str| format!("{{\"event_time\":\"never\",\"temp\":\"{temp}\"}}\n");
    dir.write("t.jsonl", format!("{{\"event_time\":\"2026-01-01\"}}\n{}{}", letter("20C"), letter("21C")));
    dir.shell("evt-ingest -q t.jsonl --dlq t_dead.jsonl --to null:").succeeds();
    let replay =
        "evt-replay t_dead.jsonl --ledger sqlite:t.db --to t_out.jsonl --patch \"set event_time = '2026-01-01', temp =";
    let run = dir.shell(&format!("{replay} replace(tmp, 'C', '')\"")).ends_with(1);
    let expected = "--patch: temp would lose its value in 2 letters: tmp was NULL in every letter; check the name; nothing was replayed";
    assert!(run.stderr().contains(expected), "{run}");
    assert_eq!(dir.shell("cat t_out.jsonl 2> gone || true").succeeds().text(), "");
    let run = dir.shell(&format!("{replay} replace(temp, 'C', '')\"")).succeeds();
    assert!(run.stderr().contains("2 replayed to t_out.jsonl, each once; 0 were replayed before"), "{run}");
    assert_eq!(dir.rows("t_out.jsonl")[1]["properties"]["temp"], "21");
}

#[test]
fn a_misspelled_name_in_a_patch_is_told_after_any_number_of_letters_that_lack_the_field() {
    let dir = Dir::new("remedy-patch-many");
    let records = |first: usize, count: usize, temp: &str| -> String {
        (first..first + count).map(|n| format!("{{\"event_time\":\"never\",\"n\":{n}{temp}}}\n")).collect()
    };
    let (old, new) = (
        "{\"event_time\":\"2026-01-01\"}\n".to_owned() + &records(0, 25_000, ""),
        records(25_000, 3, ",\"temp\":\"20C\""),
    );
    dir.write("e.jsonl", old.clone());
    dir.shell("evt-ingest -q e.jsonl --dlq dead.jsonl --to null:").succeeds();
    let replay = |ledger: &str, name: &str| {
        let patch = format!("set event_time = '2026-01-01', temp = replace({name}, 'C', '')");
        dir.shell(&format!("evt-replay dead.jsonl --ledger sqlite:{ledger}.db --to {ledger}.jsonl --patch \"{patch}\""))
    };
    replay("l", "temp").succeeds();
    dir.write("e.jsonl", old + &new);
    dir.shell("rm dead.jsonl; evt-ingest -q e.jsonl --dlq dead.jsonl --to null:").succeeds();
    // Letters that were replayed do not use up what may wait.
    let run = replay("l", "tmp").ends_with(1);
    let expected = "temp would lose its value in 3 letters: tmp was NULL in every letter; check the name; ";
    assert!(run.stderr().contains(&format!("{expected}nothing was replayed")), "{run}");
    assert_eq!(dir.rows("l.jsonl").len(), 25_000);
    // Beyond what may wait the check continues.
    let run = replay("m", "tmp").ends_with(1);
    assert!(run.stderr().contains(expected) && run.stderr().contains("were replayed before them"), "{run}");
    let run = replay("m", "temp").succeeds();
    assert!(run.stderr().contains("each once"), "{run}");
    assert_eq!(dir.shell("cat m.jsonl | grep -c '\"temp\":\"20\"'").succeeds().text().trim(), "3");
}

#[test]
fn one_late_row_at_the_end_does_not_reject_the_row_before_it() {
    let dir = Dir::new("remedy-future");
    let rows =
        |times: &[&str]| times.iter().map(|time| format!("{{\"t\":\"2026-01-01T{time}:00Z\"}}\n")).collect::<String>();
    for (name, times, dead) in [
        ("late.jsonl", &["10:30", "10:40", "10:50", "10:05"][..], 0),
        ("later.jsonl", &["10:46", "10:48", "10:50", "10:05", "10:05"], 0),
        ("wrong.jsonl", &["10:30", "23:00", "10:32", "10:33"], 1),
    ] {
        dir.write(name, rows(times));
        let run =
            dir.shell(&format!("evt-ingest {name} --time t --max-future 5m --dlq dead.{name} --to null:")).succeeds();
        assert_eq!(dir.rows(&format!("dead.{name}")).len(), dead, "{run}");
    }
}

#[test]
fn formats_with_the_letters_of_utc_do_not_read_local_times() {
    let dir = Dir::new("remedy-utc");
    for (text, format) in [
        ("20260301T101112Z", "%Y%m%dT%H%M%SZ"),
        ("Sun, 01 Mar 2026 10:11:12 GMT", "%a, %d %b %Y %H:%M:%S GMT"),
        ("Sun Mar  1 10:11:12 UTC 2026", "%a %b %e %H:%M:%S UTC %Y"),
    ] {
        dir.write("in.jsonl", format!("{{\"t\":\"{text}\"}}\n"));
        let read = "evt-ingest -q in.jsonl --time t --time-zone America/New_York -o jsonl --time-format";
        let run = dir.shell(&format!("{read} '{format}'")).succeeds();
        assert_eq!(run.rows()[0]["event_time"], "2026-03-01T10:11:12.000000Z", "{run}");
    }
}

#[test]
fn held_windows_name_the_partition_that_holds_them() {
    let dir = Dir::new("remedy-held");
    let row = |hour: u32, name: &str| format!("{{\"t\":\"2026-01-01T{hour:02}:30:00Z\",\"s\":\"{name}\"}}\n");
    dir.write("in.jsonl", (0..4).map(|hour| row(hour, "a")).chain([row(0, "b")]).collect::<String>());
    let window = "evt-window in.jsonl --time t --field partition=s --size 1h --late null: --to w.jsonl --checkpoint";
    let run = dir.shell(&format!("{window} c1 --partitions a,b")).succeeds();
    let told = "open windows are held in the checkpoint; partition b of in.jsonl is at 2026-01-01T00:30:00.000000Z, \
                the partition furthest ahead at 2026-01-01T03:30:00.000000Z";
    assert!(run.stderr().contains(told), "{run}");
    let run = dir.shell(&format!("{window} c2 --partitions a,b,c")).succeeds();
    assert!(run.stderr().contains("partition c of in.jsonl has no events, the partition furthest ahead at"), "{run}");
    let run = dir.shell(&format!("{window} c3")).succeeds();
    assert!(
        run.stderr()
            .contains("none can fire: --field maps the partition; list the mapped partitions with --partitions NAME,…"),
        "{run}"
    );
    // The second run of a pipe reads nothing new.
    for rows in [5, 0] {
        let window = "evt-window --size 1h --late null: --to w4.jsonl";
        let run = dir.shell(&format!("evt-ingest in.jsonl --time t --checkpoint c4 | {window}")).succeeds();
        assert!(run.stderr().contains(&format!("evt-window: in {rows} ")), "{run}");
        assert!(run.stderr().contains("1 open window is held in the checkpoint\n"), "{run}");
    }
}

#[test]
fn integers_that_no_double_is_equal_to_are_told() {
    let dir = Dir::new("remedy-integers");
    dir.write(
        "in.jsonl",
        "{\"v\":9007199254740993,\"s\":\"1772361808227538377\"}\n{\"v\":9007199254740992,\"s\":\"1\"}\n",
    );
    let told = |name: &str| {
        format!(
            "integers of {name} beyond 2^53 were rounded, because numbers are doubles; cast({name} as text) is exact"
        )
    };
    let window = "evt-window in.jsonl --time arrival --size all --to null: --agg";
    let run = dir.shell(&format!("{window} 'm=max(v)'")).succeeds();
    assert!(run.stderr().contains(&format!("m: {}", told("v"))), "{run}");
    let run = dir.shell(&format!("{window} 'count(distinct v)' --agg 'n=max(length(s))'"));
    assert!(!run.succeeds().stderr().contains("rounded"));
    let run = dir.shell("evt-view in.jsonl --time arrival --let 'd=s - 1' --columns d -o csv").succeeds();
    assert!(run.stderr().contains(&format!("--let d: {}", told("s"))), "{run}");
}

#[test]
fn a_comparison_with_null_and_a_zone_without_its_continent_are_refused_with_what_to_type() {
    let dir = Dir::new("remedy-null");
    dir.write("in.csv", "t,x,sex\n2026-01-01,1,\n2026-01-02,2,m\n");
    for (flags, status, told) in [
        ("--where 'sex = null'", 78, "use sex is null"),
        ("--where 'null <> lower(sex)'", 78, "is not null"),
        ("--time-zone Zurich", 2, "found 'Zurich'; did you mean Europe/Zurich?"),
        ("--time-zone 'new york'", 2, "did you mean America/New_York?"),
    ] {
        let run = dir.shell(&format!("evt-view in.csv --time t {flags}")).ends_with(status);
        assert!(run.stderr().contains(told), "{run}");
    }
    let run = dir.shell("evt-window in.csv --time t --size 1d --window-zone Berlin").ends_with(2);
    assert!(run.stderr().contains("zone (--window-zone): expected an IANA time zone like Europe/Zurich"), "{run}");
    dir.write("h.jsonl", "{\"t\":\"2026-01-01\",\"h\":{\"X-GitHub-Event\":\"push\"}}\n");
    let run = dir.shell("evt-window h.jsonl --time t --size all --by h.X-GitHub-Event").ends_with(78);
    assert!(run.stderr().contains("if h.X-GitHub-Event is one name, write h.\"X-GitHub-Event\""), "{run}");
}

#[test]
fn instants_of_flags_and_years_that_are_not_read_name_their_flag() {
    let dir = Dir::new("remedy-years");
    dir.write("in.csv", "t,year\n2026-01-01,1955\n2026-01-02,1956\n");
    for flag in ["--since", "--until"] {
        let run = dir.shell(&format!("evt-view in.csv --time t {flag} soon")).ends_with(2);
        assert!(run.stderr().starts_with(&format!("evt-view: {flag}: ")), "{run}");
        let run = dir.shell(&format!("evt-reconcile in.csv in.csv --time t {flag} soon")).ends_with(2);
        assert!(run.stderr().starts_with(&format!("evt-reconcile: {flag}: ")), "{run}");
    }
    let run = dir.shell("evt-view in.csv --time year").ends_with(2);
    assert!(run.stderr().contains("--time-format %Y reads a year"), "{run}");
    let run = dir.shell("evt-view in.csv --time year --time-format %Y --columns event_time -o csv").succeeds();
    assert_eq!(run.text(), "event_time\n1955-01-01T00:00:00.000000Z\n1956-01-01T00:00:00.000000Z\n");
    let run = dir.shell("evt-window in.csv --time t --size 5x").ends_with(2);
    assert!(run.stderr().contains("5m, 1h or 1d, or 1w, 1mo"), "{run}");
}

#[test]
fn a_file_called_json_to_which_the_shell_redirects_gets_json_lines() {
    let dir = Dir::new("remedy-json");
    dir.write("in.csv", "t,n\n2026-01-01,1\n");
    for name in ["out.json", "out.ndjson"] {
        dir.shell(&format!("evt-ingest -q in.csv --time t > {name}")).succeeds();
        let text = std::fs::read_to_string(dir.path(name)).unwrap();
        let row: serde_json::Value = serde_json::from_str(&text).expect("one row in JSON");
        assert_eq!(row["properties"], json!({"t": "2026-01-01", "n": "1"}));
    }
}
