//! Metrics as people read them: a column for each dimension, whole numbers, final rows, metrics side by side.

use crate::harness::{Dir, Draws, ask, python};
use std::collections::BTreeMap;

/// Requests of an hour and the next, with a browser whose name needs quotes in SQL.
const REQUESTS: &str = r#"{"t":"2026-01-01T00:00:01Z","status":404,"user-agent":"curl","ms":10}
{"t":"2026-01-01T00:00:02Z","status":200,"user-agent":"","ms":0.25}
{"t":"2026-01-01T00:00:03Z","status":200,"ms":20}
{"t":"2026-01-01T01:00:00Z","status":200,"user-agent":"curl","ms":30}
"#;

const WINDOW: &str = "evt-window in.jsonl --time t --late null: -q";

fn requests(name: &str) -> Dir {
    let dir = Dir::new(name);
    dir.write("in.jsonl", REQUESTS);
    dir
}

/// The fields of the lines of a CSV file that has no quotes, but for these columns.
fn without(csv: &str, columns: &[&str]) -> Vec<String> {
    let header: Vec<&str> = csv.lines().next().expect("a header").split(',').collect();
    let kept = |line: &str| -> String {
        let cells = header.iter().zip(line.split(',')).filter(|(name, _)| !columns.contains(name));
        cells.map(|(_, cell)| cell).collect::<Vec<_>>().join(",")
    };
    csv.lines().map(kept).collect()
}

#[test]
fn dimensions_in_csv_were_json_in_quotes_and_counts_had_a_fraction() {
    let dir = requests("columns");
    let run =
        dir.shell(&format!("{WINDOW} --size 1h --by '\"user-agent\",status' --agg 'count(*)' --agg 'sum(ms)' -o csv"));
    let expected = [
        "metric_name,window_start,window_end,user-agent,status,value,rows,revision,pane,retracted",
        "count(*),2026-01-01T00:00:00.000000Z,2026-01-01T01:00:00.000000Z,,200,1,1,0,0,false",
        "count(*),2026-01-01T00:00:00.000000Z,2026-01-01T01:00:00.000000Z,\"\",200,1,1,0,0,false",
        "count(*),2026-01-01T00:00:00.000000Z,2026-01-01T01:00:00.000000Z,curl,404,1,1,0,0,false",
        "sum(ms),2026-01-01T00:00:00.000000Z,2026-01-01T01:00:00.000000Z,,200,20,1,0,0,false",
        "sum(ms),2026-01-01T00:00:00.000000Z,2026-01-01T01:00:00.000000Z,\"\",200,0.25,1,0,0,false",
        "sum(ms),2026-01-01T00:00:00.000000Z,2026-01-01T01:00:00.000000Z,curl,404,10,1,0,0,false",
        "count(*),2026-01-01T01:00:00.000000Z,2026-01-01T02:00:00.000000Z,curl,200,1,1,0,0,false",
        "sum(ms),2026-01-01T01:00:00.000000Z,2026-01-01T02:00:00.000000Z,curl,200,30,1,0,0,false",
    ];
    let mut found = without(&run.succeeds().text(), &["metric_id"]);
    found[1..].sort_unstable();
    let mut expected = expected.map(str::to_owned);
    expected[1..].sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn every_output_for_people_has_the_dimensions_that_evt_window_names() {
    let dir = requests("outputs");
    dir.write(
        "m.toml",
        "[defaults]\nsize = '1h'\n[[metric]]\nname = 'a'\nby = ['status']\n[[metric]]\nname = 'b'\nby = ['\"user-agent\"', 'status']\n\
         [[metric]]\nname = 'total'\n",
    );
    let window = format!("{WINDOW} -m m.toml");
    dir.shell(&format!("{window} --to direct.csv")).succeeds();
    let direct = dir.bytes("direct.csv");
    let header = "metric_name,window_start,window_end,status,user-agent,value,rows,metric_id,revision,pane,retracted\n";
    assert!(direct.starts_with(header.as_bytes()));
    // A later stage writes the rows that it gets.
    dir.shell(&format!(
        "{window} --emit final | tee m.arrows | evt-sink -q --to sink.csv --to m.parquet --to sink.tsv"
    ))
    .succeeds();
    assert_eq!(dir.bytes("sink.csv"), direct);
    for line in ["evt-view m.arrows", "evt-view < m.arrows", "evt-view m.parquet"] {
        assert_eq!(dir.shell(&format!("{line} -q -o csv")).succeeds().stdout(), direct, "{line}");
    }
    let table = dir.shell("evt-view m.arrows -q -o table").succeeds().text();
    let words: Vec<&str> = table.lines().next().expect("a header").split_whitespace().collect();
    assert_eq!(words.join(","), header.trim_end());
    assert_eq!(dir.bytes("sink.tsv"), dir.shell("evt-view m.arrows -q -o tsv").succeeds().stdout());
    // Other formats stay as they are.
    assert!(dir.shell("evt-view m.arrows -q -o jsonl").succeeds().text().contains("\"value\":1.0,"));
    // Without the names: several streams, and a store.
    dir.shell("evt-sink m.arrows -q --to m.db").succeeds();
    for line in ["evt-view m.arrows m.arrows", "evt-view 'sqlite:m.db?table=aggregated_metrics'"] {
        let csv = dir.shell(&format!("{line} -q -o csv")).succeeds().text();
        assert!(csv.starts_with("metric_name,window_start,window_end,dimensions,value,rows,metric_id,"), "{csv}");
        dir.write("json.csv", csv);
        let rows = dir.shell("evt-view json.csv -q -o jsonl").succeeds().rows();
        assert!(rows.iter().any(|row| row["dimensions"]["status"] == "200"), "{line}");
    }
}

#[test]
fn a_stream_with_other_dimensions_than_it_names_is_damaged() {
    let Some(python) = python() else { return };
    let dir = requests("other-dimensions");
    dir.shell(&format!("{WINDOW} --size 1h --by status > m.arrows")).succeeds();
    let script = "import pyarrow.ipc as i, sys; s = i.open_stream('m.arrows'); t = s.read_all(); \
                  t = t.replace_schema_metadata({**t.schema.metadata, b'evt.dimensions': b'[\"a\"]'}); \
                  w = i.new_stream('o.arrows', t.schema); w.write_table(t); w.close()";
    dir.run(&python, &["-c", script]).succeeds();
    let run = dir.run("evt-view", &["o.arrows", "-o", "csv"]).ends_with(65);
    assert!(run.stderr().contains("expected the dimensions a, found 'status'"), "{run}");
    dir.run("evt-view", &["o.arrows", "-o", "jsonl", "-q"]).succeeds();
}

/// The stored rows of metrics, by everything that evt-window says of them.
fn stored(dir: &Dir, name: &str) -> BTreeMap<(String, String), String> {
    let db = rusqlite::Connection::open(dir.path(name)).expect("a database");
    let sql = "SELECT metric_id, dimensions, metric_name || window_start || window_end || quote(value) || rows || revision || pane \
               FROM aggregated_metrics";
    let mut select = db.prepare(sql).expect("the table");
    let row = |row: &rusqlite::Row<'_>| Ok(((row.get::<_, String>(0)?, row.get(1)?), row.get(2)?));
    select.query_map([], row).expect("rows").map(|row| row.expect("a row")).collect()
}

/// Values and names that CSV could change.
const VALUES: [&str; 12] =
    ["", " ", "a", "null", "a,b", "\"q\"", "line\nbreak", "cr\r\nlf", "\ttab", "ü\u{fffd}", "0", "{\"a\":1}"];
const NAMES: [&str; 12] = [
    "value",
    "dimensions",
    "dimensions.value",
    "offset",
    "properties",
    "labels",
    "user_id",
    "a b",
    "x,y",
    "quote'd",
    "metric_name",
    "ü",
];

#[test]
fn metrics_that_went_through_csv_were_other_rows_in_a_store() {
    let mut draws = Draws::new();
    for round in 0..6 {
        let dir = Dir::new("round-trip");
        let (mut toml, mut lines) = ("[defaults]\nsize = '1h'\n".to_owned(), String::new());
        for metric in 0..4 {
            // Each metric has dimensions of its own, so most columns are absent in most rows.
            let names: Vec<&str> = NAMES.into_iter().filter(|_| draws.below(3) == 0).collect();
            let by = names.iter().enumerate().map(|(at, name)| {
                match name.chars().all(|c| c.is_alphanumeric() || "._".contains(c)) {
                    true => format!("'''{name}=p.\"d{at}\"'''"),
                    false => format!("'''\"{name}\"'''"),
                }
            });
            let by: Vec<String> = by.collect();
            let aggregate = ["count(*)", "sum(p.n)", "min(p.n)", "avg(p.n)"][metric];
            toml.push_str(&format!(
                "[[metric]]\nname = 'm{metric}, \"x\"'\naggregate = '{aggregate}'\nby = [{}]\n",
                by.join(", ")
            ));
        }
        for event in 0..60 {
            let mut p = serde_json::Map::new();
            for at in 0..NAMES.len() {
                match draws.below(4) {
                    0 => continue,
                    1 => p.insert(format!("d{at}"), serde_json::Value::Null),
                    _ => p.insert(format!("d{at}"), VALUES[draws.below(VALUES.len() as u64) as usize].into()),
                };
            }
            let n = [-0.0, 0.1, 1e21, 1e-7, 123_456_789_012_345_680.0, 1.5e300, -73.0, 5e-324][draws.below(8) as usize];
            if draws.below(5) > 0 {
                p.insert("n".to_owned(), n.into());
            }
            let mut line =
                serde_json::json!({"t": format!("2026-01-01T0{}:00:{:02}Z", draws.below(2), event % 60), "p": p});
            for name in ["a b", "x,y", "quote'd"] {
                if draws.below(2) == 0 {
                    line[name] = VALUES[draws.below(VALUES.len() as u64) as usize].into();
                }
            }
            lines.push_str(&format!("{line}\n"));
        }
        dir.write("m.toml", toml);
        dir.write("in.jsonl", lines);
        dir.shell(&format!("{WINDOW} -m m.toml --out-of-orderness all > m.arrows")).succeeds();
        dir.shell("evt-view m.arrows -q -o csv > m.csv && evt-view m.arrows -q -o tsv > m.tsv").succeeds();
        for file in ["m.arrows", "m.csv", "m.tsv"] {
            dir.shell(&format!("evt-sink {file} -q --strict --to {file}.db")).succeeds();
        }
        let frames = stored(&dir, "m.arrows.db");
        assert!(frames.len() > 20, "{draws}");
        for name in ["m.csv.db", "m.tsv.db"] {
            assert!(
                stored(&dir, name) == frames,
                "round {round}: {name} of {draws} differs: {}",
                dir.path(name).display()
            );
        }
        if let Some(python) = python() {
            ask(&dir, &python, "metric_columns.py", &["m.csv", "m.arrows"]);
        }
    }
}

#[test]
fn a_row_whose_empty_fields_no_id_explains_is_a_dead_letter() {
    let dir = requests("no-id");
    dir.shell(&format!("{WINDOW} --size 1h --by '\"user-agent\",status' > m.csv -o csv")).succeeds();
    let text = String::from_utf8(dir.bytes("m.csv")).expect("text");
    let null = text.lines().find(|line| line.contains(",,200,")).expect("a row with NULL").to_owned();
    dir.write("m.csv", text.replace(&null, &null.replace(",,200,", ",,201,")));
    let run = dir.run("evt-sink", &["m.csv", "--to", "m.db", "--dlq", "dead.jsonl"]).succeeds();
    assert!(run.stderr().contains("dead 1"), "{run}");
    let message = &dir.rows("dead.jsonl")[0]["error_message"];
    let expected = "'metric_id': expected the id of the row with each empty dimension NULL or absent, found ";
    assert!(message.as_str().is_some_and(|message| message.starts_with(expected)), "{message}");
    // Read as events, the columns are what they are.
    let rows = dir.shell("evt-ingest m.csv --time window_start -q -o jsonl").succeeds().rows();
    let has = |row: &serde_json::Value| {
        row["properties"]["status"].is_string() && row["properties"].get("dimensions").is_none()
    };
    assert!(rows.len() == 4 && rows.iter().all(has), "{rows:?}");
}

#[test]
fn final_rows_are_the_default_where_people_read_them() {
    let dir = Dir::new("final");
    let at = |minute: u32| format!("{{\"server_timestamp\":\"2024-01-15T10:{minute:02}:00Z\"}}\n");
    // Rows of many batches lie between the first event of the window and the one that comes after it has fired.
    dir.write("in.jsonl", [at(0), at(10).repeat(30_000), at(1), at(20)].concat());
    let window = "evt-window in.jsonl --size 5m --out-of-orderness 0s --lateness 1h -q";
    for (flags, outputs, rows) in [
        ("-o csv > o1", "o1", 4),
        ("--to a.csv --to b.tsv --to c.txt", "a.csv b.tsv c.txt", 4),
        ("--to d.csv --to e.jsonl", "d.csv", 5),
        ("--to f.csv --emit panes", "f.csv", 5),
        ("-o jsonl > o2", "o2", 4),
    ] {
        dir.shell(&format!("{window} {flags}")).succeeds();
        for output in outputs.split(' ') {
            let lines = String::from_utf8(dir.bytes(output)).expect("text").lines().count();
            assert_eq!(lines, rows, "{flags}: {output}");
        }
    }
    // A later stage writes the rows that it gets.
    let run = dir.shell(&format!("{window} | evt-view -q -o csv")).succeeds();
    assert_eq!(run.text().lines().count(), 5, "{run}");
}

#[test]
fn two_metrics_of_a_key_stand_side_by_side() {
    let dir = requests("wide");
    let flags = "--size 1h --by status --agg 'n=count(*)' --agg 'avg(ms)' --wide";
    let expected = "\
window_start,window_end,status,n,avg(ms)
2026-01-01T00:00:00.000000Z,2026-01-01T01:00:00.000000Z,200,2,10.125
2026-01-01T00:00:00.000000Z,2026-01-01T01:00:00.000000Z,404,1,10
2026-01-01T01:00:00.000000Z,2026-01-01T02:00:00.000000Z,200,1,30
";
    for more in ["", "-o csv", "--memory 64MiB", "--emit final"] {
        assert_eq!(dir.shell(&format!("{WINDOW} {flags} {more}")).succeeds().text(), expected, "{more}");
    }
    dir.shell(&format!("{WINDOW} {flags} --to w.parquet --to w.jsonl")).succeeds();
    let row = &dir.rows("w.jsonl")[0];
    assert_eq!((&row["status"], &row["n"], &row["avg(ms)"]), (&"200".into(), &2.0.into(), &10.125.into()));
    assert_eq!(dir.run("evt-view", &["w.parquet", "-o", "jsonl", "-q"]).succeeds().rows().len(), 3);
    // The first keys, in the order of their ranks.
    let run = dir.shell(&format!("{WINDOW} {flags} --top 1 --of 'avg(ms)'")).succeeds();
    assert_eq!(without(&run.text(), &["window_start", "window_end"]), ["status,n,avg(ms)", "200,2,10.125", "200,1,30"]);
    let run = dir
        .shell(&format!("{WINDOW} --size all --by status --agg 'n=count(*)' --agg 'm=max(ms)' --wide --top 2 --of m"));
    assert_eq!(
        without(&run.succeeds().text(), &["window_start", "window_end"]),
        ["status,n,m", "200,3,30", "404,1,10"]
    );
    // A metric that counted no event of the key is empty, and sessions have the window of their own.
    dir.write(
        "m.toml",
        "[defaults]\ngap = '10m'\nby = ['status']\n[[metric]]\nname = 'all'\n[[metric]]\nname = 'status'\nwhere = 'ms > 15'\n",
    );
    let run = dir.shell(&format!("{WINDOW} -m m.toml --wide")).succeeds();
    let expected = [
        "window_start,window_end,dimensions.status,all,status",
        "2026-01-01T00:00:01.000000Z,2026-01-01T00:10:01.000000Z,404,1,",
        "2026-01-01T00:00:02.000000Z,2026-01-01T00:10:03.000000Z,200,2,",
        "2026-01-01T00:00:03.000000Z,2026-01-01T00:10:03.000000Z,200,,1",
        "2026-01-01T01:00:00.000000Z,2026-01-01T01:10:00.000000Z,200,1,1",
    ];
    assert_eq!(run.text().lines().collect::<Vec<_>>(), expected);
}

#[test]
fn metrics_that_cannot_stand_side_by_side_are_refused() {
    let dir = requests("not-wide");
    dir.write("by.toml", "[defaults]\nsize = '1h'\n[[metric]]\nname = 'a'\nby = ['status']\n[[metric]]\nname = 'b'\n");
    dir.write("size.toml", "[[metric]]\nname = 'a'\nsize = '1h'\n[[metric]]\nname = 'b'\nsize = '2h'\n");
    dir.write(
        "late.toml",
        "[defaults]\nsize = '1h'\n[[metric]]\nname = 'a'\n[[metric]]\nname = 'b'\nlateness = '1h'\n",
    );
    dir.write("name.toml", "[[metric]]\nname = 'window_end'\nsize = '1h'\n");
    let same = "--wide: expected metrics with the same by, windows and lateness, found a and b";
    let place = "--wide: expected a file or stdout in csv, tsv, table, jsonl, parquet or arrow";
    for (flags, said) in [
        ("-m by.toml", same),
        ("-m size.toml", same),
        ("-m late.toml", same),
        ("-m name.toml", "--wide: expected one column window_end, found two; give the metric another name"),
        ("--size 1h --emit panes", "--wide cannot be used with --emit panes, because"),
        ("--size 1h --to sqlite:m.db", place),
        ("--size 1h -o frames", place),
        ("--size 1h --to x.csv --to m.arrows", place),
        ("--size 1h --to kafka://127.0.0.1:1/metrics?format=json", place),
    ] {
        for check in ["", "--check"] {
            let run = dir.shell(&format!("{WINDOW} {flags} --wide {check}"));
            // --check reports a broker that does not answer first.
            if flags.contains("kafka") && !check.is_empty() {
                continue;
            }
            let run = run.ends_with(2);
            assert!(run.stderr().contains(said), "{run}");
        }
    }
    assert!(!dir.path("x.csv").exists() && !dir.path("m.db").exists());
}

/// What a terminal of this width shows of a command.
fn terminal(dir: &Dir, columns: u32, line: &str) -> String {
    let line = format!("stty cols {columns} rows 50; {line}");
    let run =
        dir.shell(&format!("script -qec \"{}\" /dev/null", line.replace('"', "\\\"").replace('$', "\\$"))).succeeds();
    run.text().replace("\r\n", "\n")
}

#[test]
fn a_terminal_shows_the_columns_that_tell_something_whole_if_there_is_room() {
    let dir = requests("terminal");
    dir.write("by.toml", "[[metric]]\nname = 'requests'\nsize = '1h'\nby = ['status', '\"user-agent\"']\n");
    let shown = terminal(&dir, 120, &format!("{WINDOW} -m by.toml"));
    let expected = "\
metric_name window_start window_end status user-agent value rows
requests 2026-01-01 00:00:00Z 2026-01-01 01:00:00Z 200 - 1 1
requests 2026-01-01 00:00:00Z 2026-01-01 01:00:00Z 200 1 1
requests 2026-01-01 00:00:00Z 2026-01-01 01:00:00Z 404 curl 1 1
requests 2026-01-01 01:00:00Z 2026-01-01 02:00:00Z 200 curl 1 1
";
    let words = |text: &str| {
        let mut lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(words(&shown), words(expected), "{shown}");
    let shown = terminal(&dir, 120, &format!("{WINDOW} -m by.toml | evt-view -q"));
    assert_eq!(words(&shown), words(expected), "{shown}");
    // The number of a pane tells which row of a window is the last one.
    let shown = terminal(&dir, 200, &format!("{WINDOW} -m by.toml --emit panes"));
    assert!(shown.lines().next().is_some_and(|line| line.trim_end().ends_with("revision  pane  retracted")), "{shown}");
    // A narrow terminal: whole lines, the widest columns first.
    let shown = terminal(&dir, 60, &format!("{WINDOW} -m by.toml"));
    assert!(shown.lines().all(|line| line.chars().count() <= 60), "{shown}");
    assert!(shown.contains("reques") && shown.contains("…") && !shown.contains("…+"), "{shown}");
}

#[test]
fn a_progress_line_stood_between_the_rows_on_a_terminal() {
    let dir = Dir::new("no-progress");
    let event = |n: usize| {
        format!("{{\"t\":\"2026-01-01T{:02}:{:02}:00Z\",\"k\":\"k{}\"}}\n", n / 6000 % 24, n / 100 % 60, n % 50)
    };
    dir.write("in.jsonl", (0..120_000).map(event).collect::<String>());
    for line in [
        "evt-window in.jsonl --time t --size 1m --by k --late null:",
        "evt-ingest in.jsonl --time t | evt-window --size 1m --by k --late null: | evt-view",
        "evt-view in.jsonl --time t",
    ] {
        let shown = terminal(&dir, 100, line);
        let (rows, _) = shown.rsplit_once("evt-").unwrap_or((&shown, ""));
        assert!(rows.lines().count() > 1000, "{line}");
        // Bold names are the only escapes.
        let drawn = shown.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
        assert!(!drawn.contains('\u{1b}') && !drawn.contains("eta"), "{line}: {}", &drawn[..400]);
    }
}

#[test]
fn computed_columns_of_metrics_stand_behind_their_dimensions() {
    let dir = requests("computed");
    dir.shell(&format!("{WINDOW} --size 1h --by status --agg 'n=count(*)' > m.arrows")).succeeds();
    let run = dir.shell("evt-view -q m.arrows --let 'half=value / 2' --let 'status=substr(status, 1, 1)' -o csv");
    let expected = [
        "metric_name,window_start,window_end,dimensions.status,value,rows,revision,pane,retracted,half,status",
        "n,2026-01-01T00:00:00.000000Z,2026-01-01T01:00:00.000000Z,200,2,2,0,0,false,1,2",
        "n,2026-01-01T00:00:00.000000Z,2026-01-01T01:00:00.000000Z,404,1,1,0,0,false,0.5,4",
        "n,2026-01-01T01:00:00.000000Z,2026-01-01T02:00:00.000000Z,200,1,1,0,0,false,0.5,2",
    ];
    assert_eq!(without(&run.succeeds().text(), &["metric_id"]), expected);
    let text = dir.shell("evt-view -q m.arrows --where 'value < 0' --let 'half=value / 2' -o csv").succeeds().text();
    assert_eq!(
        without(&text, &["metric_id"]),
        ["metric_name,window_start,window_end,status,value,rows,revision,pane,retracted,half"]
    );
}
