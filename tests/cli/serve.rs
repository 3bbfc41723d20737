//! evt-serve answers with the windows of its stores, says how final they are, and shows nothing to who may not see it.

use crate::harness::{Dir, Draws, eventually};
use crate::listener::{Listener, Response, exchange};
use serde_json::{Value, json};
use std::io::Write as _;

const METRICS: &str = r#"
[[metric]]
name = "visits"
by = ["country", "device"]
size = "1m"
lateness = "1m"
[[metric]]
name = "latency"
aggregate = "avg(ms)"
size = "5m"
slide = "1m"
[[metric]]
name = "sessions"
by = ["country"]
gap = "2m"
"#;

/// Writes events of some hours from a day on, and metrics of them to a database.
pub fn fill(dir: &Dir, database: &str) {
    dir.write("metrics.toml", METRICS);
    let mut text = String::new();
    for n in 0..20_000u32 {
        let (hour, minute, second) = (n / 10_000, n / 170 % 59, n % 60);
        let country = ["\"DE\"", "\"US\"", "\"F,R\"", "null"][n as usize % 4];
        let device = if n % 3 == 0 { "\"ios\"" } else { "\"web\"" };
        let time = format!("2026-01-05T{hour:02}:{minute:02}:{second:02}Z");
        text +=
            &format!("{{\"event_time\":\"{time}\",\"country\":{country},\"device\":{device},\"ms\":{}}}\n", n % 997);
    }
    dir.write("events.jsonl", text);
    write_metrics(dir, &format!("sqlite:{database}"));
}

/// Writes metrics of the events to a store.
pub fn write_metrics(dir: &Dir, store: &str) {
    let line = format!("evt-window -q -m metrics.toml --out-of-orderness all events.jsonl --to '{store}'");
    dir.shell(&line).succeeds();
}

pub fn serve(dir: &Dir, args: &[&str]) -> Listener {
    Listener::of(&mut dir.command("evt-serve", &[&["http://127.0.0.1:0"], args].concat())).listening()
}

/// The windows of an answer, as rows of evt-view have them.
pub fn windows(answer: &Value) -> Vec<Value> {
    let window = |window: &Value| {
        let of = |name: &str| window[name].clone();
        json!({
            "metric_name": answer["metric_name"], "window_start": of("window_start"), "window_end": of("window_end"),
            "dimensions": of("dimensions"), "value": window["value"].as_f64(), "rows": of("rows"), "revision": of("revision"),
        })
    };
    answer["windows"].as_array().expect("windows").iter().map(window).collect()
}

/// The rows of a metric in a database, by start, end and dimensions.
fn rows(dir: &Dir, database: &str, metric: &str) -> Vec<Value> {
    let shown = dir.shell(&format!("evt-view -q 'sqlite:{database}?table=aggregated_metrics' -o jsonl")).succeeds();
    let of_metric = shown.rows().into_iter().filter(|row| row["metric_name"] == metric);
    let mut rows: Vec<Value> = of_metric
        .map(|mut row| {
            row["value"] = json!(row["value"].as_f64());
            for name in ["metric_id", "pane", "retracted"] {
                row.as_object_mut().expect("a row").remove(name);
            }
            row
        })
        .collect();
    rows.sort_by_key(|row| {
        let text = |name: &str| row[name].as_str().expect("a text").to_owned();
        (text("window_start"), text("window_end"), row["dimensions"].to_string())
    });
    rows
}

pub const DAY: &str = "window_start=2026-01-04T12:00:00Z&window_end=2026-01-06";

#[test]
fn answers_have_the_rows_of_the_store_as_json_and_csv() {
    let dir = Dir::new("serve-rows");
    fill(&dir, "m.db");
    let server = serve(&dir, &["--from", "sqlite:m.db", "-m", "metrics.toml"]);
    for metric in ["visits", "latency", "sessions"] {
        let answer = server.get(&format!("/v1/metrics/{metric}?{DAY}")).json();
        let (found, right) = (windows(&answer), rows(&dir, "m.db", metric));
        assert!(!right.is_empty() && found == right, "{metric}: {found:?}\n{right:?}");
        assert_eq!(answer["watermark"], "9999-12-31T23:59:59.999999Z");
        assert!(answer["windows"].as_array().expect("windows").iter().all(|window| window["final"] == true));
        assert_eq!(answer["stores"][0]["store"], "sqlite:m.db");
    }
    let chosen =
        |dimensions: &str| windows(&server.get(&format!("/v1/metrics/visits?{DAY}&dimensions={dimensions}")).json());
    let wanted = |fits: &dyn Fn(&Value) -> bool| -> Vec<Value> {
        rows(&dir, "m.db", "visits").into_iter().filter(|row| fits(&row["dimensions"])).collect()
    };
    assert_eq!(chosen("country:DE"), wanted(&|of| of["country"] == "DE"));
    assert_eq!(chosen("country:,device:ios"), wanted(&|of| of["country"].is_null() && of["device"] == "ios"));
    assert_eq!(chosen("country:*"), wanted(&|of| !of["country"].is_null()));
    assert_eq!(chosen("country:%22F,R%22"), wanted(&|of| of["country"] == "F,R"));
    assert_eq!(chosen("country:XX"), wanted(&|_| false));

    let csv = server.get(&format!("/v1/metrics/visits?{DAY}&dimensions=country:DE,device:ios&format=csv"));
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    let mut lines = csv.body.lines();
    assert_eq!(lines.next(), Some("window_start,window_end,country,device,value,rows,revision,final"));
    let right = wanted(&|of| of["country"] == "DE" && of["device"] == "ios");
    let line = |row: &Value| {
        let text = |name: &str| row[name].as_str().expect("a text");
        let (value, rows) = (row["value"].as_f64().expect("a number"), &row["rows"]);
        format!("{},{},DE,ios,{value},{rows},0,true", text("window_start"), text("window_end"))
    };
    assert_eq!(lines.collect::<Vec<_>>(), right.iter().map(line).collect::<Vec<_>>());

    let list = server.get("/v1/metrics").json();
    let names: Vec<_> =
        list["metrics"].as_array().expect("a list").iter().map(|one| one["metric_name"].clone()).collect();
    assert_eq!(names, ["latency", "sessions", "visits"]);
    assert_eq!(list["metrics"][2]["sizes"], json!(["1m"]));
    assert_eq!(list["metrics"][2]["dimensions"], json!({"country": ["DE", "F,R", "US"], "device": ["ios", "web"]}));
    server.stop();
}

#[test]
fn an_answer_about_the_past_has_a_tag_that_a_correction_changes() {
    let dir = Dir::new("serve-tag");
    fill(&dir, "m.db");
    let server = serve(&dir, &["--from", "sqlite:m.db"]);
    let path = format!("/v1/metrics/visits?{DAY}&dimensions=country:DE");
    let first = server.get(&path);
    assert_eq!(first.header("cache-control"), Some("private, max-age=0, must-revalidate"));
    assert_eq!(first.header("vary"), Some("Authorization, Cookie, Accept"));
    let tag = first.header("etag").expect("a tag").to_owned();
    let again = |tag: &str| {
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nif-none-match: {tag}\r\nconnection: close\r\n\r\n");
        server.raw(head.as_bytes()).expect("an answer")
    };
    let same = again(&format!("\"x\", W/{tag}"));
    assert_eq!((same.status, same.body.as_str(), same.header("etag")), (304, "", Some(tag.as_str())));
    // Other parameters are another answer.
    assert!(server.get(&format!("{path}&size=1m")).header("etag").is_some_and(|other| other != tag));
    // A range that moves with the clock may be asked for at any time.
    assert_eq!(server.get("/v1/metrics/visits?window_start=now-9999d").header("cache-control"), Some("no-cache"));

    dir.shell("head -n -40 events.jsonl > fewer.jsonl").succeeds();
    let line = "evt-backfill -q -m metrics.toml --out-of-orderness all --all-closed --only visits fewer.jsonl --to sqlite:m.db";
    dir.shell(line).succeeds();
    let corrected = again(&tag);
    assert_eq!(corrected.status, 200);
    assert!(corrected.header("etag").is_some_and(|other| other != tag));
    assert!(windows(&corrected.json()).iter().any(|window| window["revision"] == 1));
    server.stop();
}

#[test]
fn a_window_is_final_once_the_watermark_and_the_lateness_have_passed_it() {
    let dir = Dir::new("serve-final");
    dir.write("metrics.toml", METRICS);
    let event = |minute: u32| format!("{{\"event_time\":\"2026-01-05T00:{minute:02}:00Z\",\"country\":\"DE\"}}\n");
    dir.write("events.jsonl", (0..10).map(event).collect::<String>());
    let line = "evt-window -q -m metrics.toml --out-of-orderness 0s events.jsonl --checkpoint state --to sqlite:m.db";
    dir.shell(line).succeeds();
    let server = serve(&dir, &["--from", "sqlite:m.db"]);
    let answer = server.get(&format!("/v1/metrics/visits?{DAY}")).json();
    let last_final = answer["windows"].as_array().expect("windows").iter().filter(|one| one["final"] == true).count();
    // The watermark stands at 00:09; with a minute of lateness the windows that end by 00:08 are final.
    assert_eq!(answer["watermark"], "2026-01-05T00:09:00.000000Z", "{answer}");
    assert_eq!(last_final, 8, "{answer}");
    // Nothing is known of rows that came without a record.
    dir.shell(
        "evt-view -q 'sqlite:m.db?table=aggregated_metrics' -o jsonl | evt-sink -q --kind metric --to sqlite:copy.db",
    )
    .succeeds();
    let copy = serve(&dir, &["--from", "sqlite:copy.db"]);
    let answer = copy.get(&format!("/v1/metrics/visits?{DAY}")).json();
    assert!(answer["windows"].as_array().expect("windows").iter().all(|window| window["final"].is_null()), "{answer}");
    assert_eq!(answer["watermark"], Value::Null);
}

#[test]
fn the_first_store_that_keeps_a_window_answers_and_a_gap_there_stays_one() {
    let dir = Dir::new("serve-stores");
    fill(&dir, "cold.db");
    dir.shell("cp cold.db hot.db").succeeds();
    // The hot store has another value for one window, and none for another.
    let hot = rusqlite::Connection::open(dir.path("hot.db")).expect("a database");
    let one = "metric_name = 'latency' AND window_start = ";
    hot.execute(&format!("UPDATE aggregated_metrics SET value = -1 WHERE {one}'2026-01-05T00:30:00.000000Z'"), [])
        .expect("it runs");
    hot.execute(&format!("DELETE FROM aggregated_metrics WHERE {one}'2026-01-05T00:40:00.000000Z'"), [])
        .expect("it runs");
    let args = ["--from", "sqlite:hot.db?span=24h", "--from", "sqlite:cold.db"];
    let at = |now: &str, args: &[&str]| {
        let server = serve(&dir, &[args, &["--now", now]].concat());
        let answer = server.get(&format!("/v1/metrics/latency?{DAY}")).json();
        server.stop();
        answer
    };
    let value = |answer: &Value, start: &str| {
        let all = answer["windows"].as_array().expect("windows").clone();
        all.into_iter()
            .find(|one| one["window_start"] == format!("2026-01-05T{start}:00.000000Z"))
            .map(|one| one["value"].clone())
    };
    // A day later the hot store answers for the windows that end after 00:20.
    let answer = at("2026-01-06T00:20:00Z", &args);
    let whole = rows(&dir, "cold.db", "latency");
    assert_eq!(answer["windows"].as_array().expect("windows").len(), whole.len() - 1);
    assert_eq!((value(&answer, "00:30"), value(&answer, "00:40")), (Some(json!(-1)), None));
    let stores: Vec<_> = answer["stores"].as_array().expect("stores").iter().map(|one| one["store"].clone()).collect();
    assert_eq!(stores, ["sqlite:hot.db", "sqlite:cold.db"]);
    // Still later it answers for none.
    let answer = at("2026-01-08T00:00:00Z", &args);
    assert_eq!(windows(&answer), whole);
    // A store that keeps nothing about the metric may have been emptied.
    hot.execute("DELETE FROM metric_progress", []).expect("it runs");
    assert_eq!(windows(&at("2026-01-06T00:20:00Z", &args)), whole);
    // One that is complete since an instant answers for the windows that begin then.
    let since = "INSERT INTO metric_progress SELECT * FROM cold.metric_progress";
    hot.execute_batch(&format!("ATTACH '{}' AS cold; {since}", dir.path("cold.db").display())).expect("it runs");
    hot.execute("UPDATE metric_progress SET complete_since = '2026-01-05T00:35:00.000000Z'", []).expect("it runs");
    let answer = at("2026-01-06T00:20:00Z", &args);
    assert!(value(&answer, "00:30").is_some_and(|value| value != -1) && value(&answer, "00:40").is_none(), "{answer}");
}

#[test]
fn a_correction_of_a_later_store_is_seen_within_the_refresh_also_where_it_adds_and_removes() {
    let dir = Dir::new("serve-corrections");
    fill(&dir, "cold.db");
    dir.shell("cp cold.db hot.db").succeeds();
    let hot = rusqlite::Connection::open(dir.path("hot.db")).expect("a database");
    let first = rows(&dir, "cold.db", "visits")[0]["window_start"].as_str().expect("a text").to_owned();
    let of_hot = "UPDATE aggregated_metrics SET value = -1 WHERE metric_name = 'visits' AND window_start = ";
    hot.execute(&format!("{of_hot}'{first}'"), []).expect("it runs");
    let args = ["--from", "sqlite:hot.db", "--from", "sqlite:cold.db", "--refresh", "100ms"];
    let server = serve(&dir, &args);
    let ask = || server.get(&format!("/v1/metrics/visits?{DAY}")).json();
    let before = windows(&ask());
    assert_eq!(before.iter().filter(|window| window["value"] == -1.0).count(), 8);
    // Events of France have come from elsewhere, those of NULL are gone, and one is new.
    dir.shell("sed '/:null,/d; s/F,R/FR/' events.jsonl > right.jsonl").succeeds();
    let backfill = "evt-backfill -q -m metrics.toml --out-of-orderness all --all-closed --only visits right.jsonl --to sqlite:cold.db";
    dir.shell(&format!("{backfill} --since 2026-01-05T00:10:00Z --until 2026-01-05T00:40:00Z")).succeeds();
    let corrected = rows(&dir, "cold.db", "visits");
    let is_in_range = |row: &Value| {
        let start = row["window_start"].as_str().expect("a text");
        ("2026-01-05T00:10".."2026-01-05T00:40").contains(&start)
    };
    let expected = || {
        let (inside, outside): (Vec<Value>, Vec<Value>) = (
            corrected.iter().filter(|row| is_in_range(row)).cloned().collect(),
            before.iter().filter(|row| !is_in_range(row)).cloned().collect(),
        );
        let mut all = [inside, outside].concat();
        all.sort_by_key(|row| (row["window_start"].to_string(), row["dimensions"].to_string()));
        all
    };
    let sorted = |mut all: Vec<Value>| {
        all.sort_by_key(|row| (row["window_start"].to_string(), row["dimensions"].to_string()));
        all
    };
    eventually("the correction", || sorted(windows(&ask())) == expected());
    let values = |answer: &Value| -> Vec<Value> {
        answer["data"]["result"]
            .as_array()
            .expect("series")
            .iter()
            .map(|one| one["metric"]["country"].clone())
            .collect()
    };
    let at = |minute: u32| {
        let query = format!("/api/v1/query?query=sum+by+(country)(visits)&time=2026-01-05T00:{minute}:00Z");
        values(&server.get(&query).json())
    };
    assert_eq!(at(20), [json!("DE"), json!("FR"), json!("US")]);
    let mut others = at(45);
    others.sort_by_key(Value::to_string);
    assert_eq!(others, [json!("DE"), json!("F,R"), json!("US"), Value::Null]);
    server.stop();
}

#[test]
fn a_store_that_is_away_makes_an_answer_partial_and_none_makes_it_503() {
    let dir = Dir::new("serve-away");
    fill(&dir, "cold.db");
    dir.shell("cp cold.db hot.db").succeeds();
    let server = serve(&dir, &["--from", "sqlite:hot.db", "--from", "sqlite:cold.db", "--refresh", "0s"]);
    let path = format!("/v1/metrics/visits?{DAY}");
    let whole = server.get(&path);
    assert!(whole.json()["partial"].is_null());
    let query = "/api/v1/query?query=sum(visits)&time=2026-01-05T00:10:00Z";
    assert!(server.get(query).json()["warnings"].is_null());
    // A file that is no database any more is away for ever.
    let break_it = || dir.write("hot.db", "no database".repeat(1000));
    break_it();
    let partial = server.get(&path);
    assert_eq!((partial.status, partial.header("cache-control")), (200, Some("no-store")));
    assert_eq!(partial.json()["partial"], true);
    assert_eq!(partial.json()["missing_stores"], json!(["sqlite:hot.db"]));
    assert_eq!(windows(&partial.json()), windows(&whole.json()));
    let warnings = server.get(query).json()["warnings"].clone();
    assert!(warnings[0].as_str().is_some_and(|text| text.starts_with("partial: sqlite:hot.db")), "{warnings}");
    let said = server.stop();
    assert!(said.contains("a store does not answer: sqlite:hot.db"), "{said}");

    dir.shell("cp cold.db hot.db").succeeds();
    let server = serve(&dir, &["--from", "sqlite:hot.db"]);
    break_it();
    let none = server.get(&path);
    assert_eq!((none.status, none.header("retry-after")), (503, Some("1")));
    assert_eq!(server.get(query).status, 503);
    assert_eq!(server.get(query).json()["errorType"], "unavailable");
    server.stop();
    // It does not start with a store that cannot be read.
    dir.shell("evt-serve http://127.0.0.1:0 --from sqlite:hot.db --check").ends_with(65);
    dir.shell("timeout 20 evt-serve http://127.0.0.1:0 --from sqlite:hot.db").ends_with(65);
    dir.shell("timeout 20 evt-serve http://127.0.0.1:0 --from sqlite:absent.db").ends_with(74);
    dir.shell("evt-serve http://127.0.0.1:0 --from sqlite:cold.db --check").succeeds();
}

/// The answer to a GET with headers.
fn get(server: &Listener, path: &str, headers: &str) -> Response {
    let head = format!("GET {path} HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
    server.raw(head.as_bytes()).expect("an answer")
}

#[test]
fn a_token_shows_the_metrics_of_its_patterns_in_every_route_and_others_do_not_exist() {
    let dir = Dir::new("serve-tokens");
    fill(&dir, "m.db");
    dir.write(
        "tokens.toml",
        "[[token]]\nname = 'all'\nsecret = 'secret-of-all'\nscopes = ['read']\n\
         [[token]]\nname = 'some'\nsecret = 'secret-of-some'\nmetrics = ['vis*', 'lat*cy']\n\
         [[token]]\nname = 'none'\nsecret = 'secret-of-none'\nscopes = []\n",
    );
    let server = serve(&dir, &["--from", "sqlite:m.db", "--tokens", "tokens.toml"]);
    let ask = |path: &str, token: &str| get(&server, path, &format!("host: localhost\r\nauthorization: {token}\r\n"));
    let (all, some, none) = ("Bearer secret-of-all", "Bearer secret-of-some", "Bearer secret-of-none");
    let asked = "/api/v1/query?time=2026-01-05T00:10:00Z&query=count(";
    let count = |query: &str, token: &str| {
        ask(&format!("{asked}{query})"), token).json()["data"]["result"][0]["value"][1].clone()
    };
    assert_eq!(ask("/v1/metrics/sessions", all).status, 200);
    let hidden = ask("/v1/metrics/sessions", some);
    assert_eq!(hidden.status, 404);
    assert_eq!(hidden.body.replace("sessions", "nothing"), ask("/v1/metrics/nothing", some).body);
    assert_eq!(ask("/v1/metrics/visits", some).status, 200);
    assert_eq!(ask("/v1/metrics", some).json()["metrics"].as_array().map(Vec::len), Some(2));
    assert_eq!(ask("/api/v1/label/__name__/values", some).json()["data"], json!(["latency", "visits"]));
    assert_eq!(ask("/api/v1/metadata", some).json()["data"].as_object().map(serde_json::Map::len), Some(2));
    assert_eq!((count("visits", all), count("visits", some)), (json!("8"), json!("8")));
    assert_eq!(ask("/api/v1/query?query=sessions", some).json()["data"]["result"], json!([]));
    for path in ["/v1/metrics", "/v1/metrics/visits", "/api/v1/query?query=1", "/api/v1/labels"] {
        assert_eq!(ask(path, none).status, 403, "{path}");
        assert_eq!(ask(path, "Bearer unknown").status, 401, "{path}");
        assert_eq!(get(&server, path, "host: localhost\r\n").status, 401, "{path}");
    }
    // Grafana sends a user and a password: grafana:secret-of-some.
    assert_eq!(ask("/v1/metrics/visits", "Basic Z3JhZmFuYTpzZWNyZXQtb2Ytc29tZQ==").status, 200);
    assert_eq!(ask("/v1/metrics/visits", "Basic Z3JhZmFuYTpzZWNyZXQ=").status, 401);
    assert_eq!(get(&server, "/healthz", "host: localhost\r\n").status, 200);
    let said = server.stop();
    assert!(!said.contains("secret-of"), "{said}");
    // Off the loopback a server needs tokens, or --anonymous.
    dir.shell("evt-serve http://0.0.0.0:0 --from sqlite:m.db").ends_with(2);
}

#[test]
fn a_request_for_another_host_is_refused() {
    let dir = Dir::new("serve-host");
    fill(&dir, "m.db");
    let server = serve(&dir, &["--from", "sqlite:m.db", "--host", "Metrics.Example"]);
    let status = |host: &str| get(&server, "/v1/metrics", &format!("host: {host}\r\n")).status;
    for host in ["localhost", "LOCALHOST:8090", "127.0.0.1:1", "10.0.0.9", "[::1]:8090", "metrics.example:80", ""] {
        assert_eq!(status(host), 200, "{host}");
    }
    for host in ["evil.example", "metrics.example.evil", "localhost.evil", "1.2.3.4.5", "metrics"] {
        assert_eq!(status(host), 421, "{host}");
    }
    let refused = get(&server, "/v1/metrics", "host: metrics\r\n");
    assert!(refused.body.contains("host: expected an address, localhost, or a name of --host"), "{refused:?}");
}

#[test]
fn a_refusal_names_the_parameter() {
    let dir = Dir::new("serve-refusals");
    fill(&dir, "m.db");
    let server = serve(&dir, &["--from", "sqlite:m.db", "--max-windows", "50"]);
    for (path, status, parameter, message) in [
        ("/v1/metrics?x=1", 422, "x", "expected none"),
        ("/v1/metrics/visits?window=1", 422, "window", "unknown parameter"),
        ("/v1/metrics/visits?window_start=x", 422, "window_start", "expected an instant"),
        ("/v1/metrics/visits?dimensions=contry:DE", 422, "dimensions", "did you mean country?"),
        ("/v1/metrics/latency?dimensions=country:DE", 422, "dimensions", "the metric has none"),
        ("/v1/metrics/visits?size=2m", 422, "size", "expected one of 1m"),
        (
            "/v1/metrics/visits?window_start=2026-01-05",
            422,
            "window_start",
            "expected at most 50 windows (--max-windows); use less time",
        ),
        ("/v1/metrics/visit", 404, "", "did you mean visits?"),
        ("/v1/metrics/%ff", 400, "", "expected UTF-8"),
        ("/v1/metric", 404, "", "expected /v1/metrics"),
    ] {
        let refused = server.get(path);
        assert_eq!(refused.status, status, "{path}: {refused:?}");
        let found = refused.json();
        assert_eq!(found["parameter"].as_str().unwrap_or_default(), parameter, "{path}");
        assert!(found["error"].as_str().is_some_and(|error| error.contains(message)), "{path}: {found}");
    }
    for (path, status, message) in [
        ("query?query=rate(visits[5m])", 400, "sum_over_time(m[5m]) / 300"),
        ("query?query=visits%20visits", 400, ""),
        ("query?query=1&time=x", 400, "invalid parameter \"time\""),
        ("query_range?query=1&start=0&end=1", 400, "invalid parameter \"step\""),
        ("query_range?query=1&start=0&end=9999999&step=1", 400, "11,000 points"),
        ("query?query=sessions&time=2026-01-05T00:10:00Z", 422, "GET /v1/metrics has them"),
        (
            "query?query=sum_over_time(visits[1d])&time=2026-01-06T00:00:00Z",
            422,
            "needs more than 50 windows (--max-windows); use fewer series or less time",
        ),
        ("series", 400, "match[]"),
    ] {
        let refused = server.get(&format!("/api/v1/{path}"));
        assert_eq!(refused.status, status, "{path}: {refused:?}");
        let found = refused.json();
        assert_eq!(found["status"], "error", "{path}");
        assert!(found["error"].as_str().is_some_and(|error| error.contains(message)), "{path}: {found}");
    }
    assert_eq!(server.post(&[("content-type", "application/json")], b"{}").status, 404);
}

/// The requests of Grafana's data source of Prometheus: its health check, its variables, its builder and its panels.
#[test]
fn the_requests_of_grafana_get_what_it_needs() {
    let dir = Dir::new("serve-grafana");
    fill(&dir, "m.db");
    let server = serve(&dir, &["--from", "sqlite:m.db", "-m", "metrics.toml"]);
    let post = |path: &str, form: &str| {
        let head = format!(
            "POST /api/v1/{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{form}",
            form.len()
        );
        let answer = server.raw(head.as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{path} {form}: {answer:?}");
        answer.json()
    };
    let range = "start=1767571200&end=1767578400";
    let health = post("query", "query=1%2B1&time=1767571800.123");
    assert_eq!(health["data"], json!({"resultType": "scalar", "result": [1767571800.123, "2"]}));
    let panel = post("query_range", &format!("query=sum+by+(country)+(visits)&{range}&step=60"));
    assert_eq!(panel["data"]["resultType"], "matrix");
    assert_eq!(panel["data"]["result"].as_array().map(Vec::len), Some(4));
    let variable = post("series", &format!("match[]=visits%7Bcountry%3D%22DE%22%7D&{range}"));
    assert_eq!(
        variable["data"],
        json!([
            {"__name__": "visits", "country": "DE", "device": "ios"},
            {"__name__": "visits", "country": "DE", "device": "web"},
        ])
    );
    assert_eq!(post("labels", range)["data"], json!(["__name__", "country", "device"]));
    let values = |path: &str| server.get(&format!("/api/v1/label/{path}")).json()["data"].clone();
    assert_eq!(values(&format!("country/values?{range}&match[]=visits")), json!(["DE", "F,R", "US"]));
    assert_eq!(values(&format!("__name__/values?{range}&match[]=%7Bcountry%3D%22DE%22%7D")), json!(["visits"]));
    let info = server.get("/api/v1/status/buildinfo").json();
    assert_eq!(info["data"]["version"], "2.42.0");
    let warned = post("query", "query=sum_over_time(latency[5m])&time=1767571800");
    assert!(warned["warnings"][0].as_str().is_some_and(|text| text.contains("averages of latency")), "{warned}");
    server.stop();
}

/// Parts of requests that are right, wrong, huge or hostile.
const NAMES: [&str; 12] = [
    "window_start",
    "window_end",
    "dimensions",
    "size",
    "format",
    "wide",
    "query",
    "time",
    "start",
    "end",
    "step",
    "match[]",
];
const VALUES: [&str; 30] = [
    "",
    "now",
    "now-1h",
    "2026-01-05",
    "1767571200",
    "-1e300",
    "NaN",
    "9223372036854775807",
    "country:DE",
    "country:*",
    "country:",
    "%22%22:%22",
    "a:b:c",
    ",,,",
    "1m",
    "0s",
    "-5m",
    "csv",
    "json",
    "true",
    "visits",
    "sum(visits)",
    "sum_over_time(visits[5m])",
    "{__name__=~\".*\"}",
    "((((((((((",
    "%ff%fe",
    "%00",
    "visits%7Bcountry=~%22(a%2B)%2B$%22%7D",
    "99999999999999999y",
    "topk(1e308,visits)",
];
const PATHS: [&str; 14] = [
    "/v1/metrics",
    "/v1/metrics/visits",
    "/v1/metrics/sessions",
    "/v1/metrics/%00",
    "/v1/metrics/..%2f..%2fetc",
    "/v1/metrics/%F0%9F",
    "/api/v1/query",
    "/api/v1/query_range",
    "/api/v1/series",
    "/api/v1/labels",
    "/api/v1/label/country/values",
    "/api/v1/label/%22/values",
    "/api/v1/metadata",
    "//",
];

#[test]
fn ten_thousand_random_requests_crash_nothing_and_each_refusal_is_told() {
    let dir = Dir::new("serve-random");
    fill(&dir, "m.db");
    let mut server = serve(&dir, &["--from", "sqlite:m.db"]);
    let mut random = Draws::of(55);
    let mut pick = |from: &'static [&'static str]| from[random.below(from.len() as u64) as usize];
    let (mut stream, mut count) = (server.connect(), 0);
    let before = server.memory("VmHWM");
    while count < 10_000 {
        let pairs = (0..count % 5).map(|_| format!("{}={}", pick(&NAMES), pick(&VALUES))).collect::<Vec<_>>().join("&");
        let path = pick(&PATHS);
        let request = match count % 3 {
            0 => format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
                 content-length: {}\r\n\r\n{pairs}",
                pairs.len()
            ),
            // A target has no spaces, quotes or braces.
            _ => format!("GET {path}?{} HTTP/1.1\r\nhost: localhost\r\n\r\n", pairs.replace(['"', '{', '}', ' '], "")),
        };
        let answer = exchange(&mut stream, request.as_bytes());
        let text = || format!("{request}: {answer:?}");
        assert!(matches!(answer.status, 200 | 400 | 404 | 405 | 422), "{}", text());
        if answer.status >= 400 {
            assert!(answer.json()["error"].as_str().is_some_and(|error| !error.is_empty()), "{}", text());
        }
        count += 1;
        if answer.header("connection") == Some("close") {
            stream = server.connect();
        }
    }
    assert!(server.is_running());
    let grown = server.memory("VmHWM") - before;
    assert!(grown < 150 << 10, "{grown} KiB");
    drop(stream);
    let said = server.stop();
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_server_ends_at_a_signal_after_the_requests_in_progress() {
    let dir = Dir::new("serve-end");
    fill(&dir, "m.db");
    let server = serve(&dir, &["--from", "sqlite:m.db"]);
    let mut stream = server.connect();
    stream.write_all(b"GET /v1/metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("it is open");
    eventually("an answer", || server.get("/readyz").status == 200);
    assert!(server.get("/metrics").body.contains("evt_http_requests_total"));
    server.stop();
}
