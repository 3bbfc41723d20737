//! evt-alert: rules that are wrong, renamed, unreadable or missing, and what is said of them.

use crate::alert::{event, lines, once, rule, rules, series, transitions};
use crate::harness::{Dir, ROOT, eventually};
use crate::servers::{postgres, psql};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::process::Stdio;

fn views(dir: &Dir, end: f64) {
    dir.write("in.jsonl", lines(&[series(0.0, end, 1.0, &json!({}))]));
}

/// The changes of rules in a state, in order; none before it has its tables.
fn edits(dir: &Dir) -> Vec<String> {
    let state = Connection::open(dir.path("alerts.db")).expect("it is a database");
    let sql = "SELECT change FROM rule_edits ORDER BY id";
    let read = |mut rows: rusqlite::Statement<'_>| rows.query_map([], |row| row.get(0))?.collect();
    state.prepare(sql).and_then(read).unwrap_or_default()
}

#[test]
fn a_table_of_postgres_with_a_column_rule_can_be_read() {
    let Some((_, uri, schema)) = postgres() else { return };
    let dir = Dir::new("alert-older-table");
    views(&dir, 100.0);
    // The table of migration 004, which only a run with an output in Postgres migrates.
    let create = format!(
        "CREATE TABLE {schema}.alert_rules (rule TEXT PRIMARY KEY, definition JSONB NOT NULL,
             enabled BOOLEAN NOT NULL DEFAULT true, updated_at TIMESTAMPTZ NOT NULL DEFAULT now());
         INSERT INTO {schema}.alert_rules (rule, definition) VALUES
             ('views', '{{\"aggregate\": \"count(*)\", \"condition\": \"gt\", \"threshold\": 5, \"window_seconds\": 10}}')"
    );
    psql(&dir, &uri, &schema, &format!("CREATE SCHEMA {schema}; {create}"));
    let table = format!("{uri}?schema={schema}&table=alert_rules");
    let run = once_with(&dir, &table).ends_with(1);
    assert_eq!(transitions(&run.rows()), ["views firing condition at 10 since 10"]);
    let run = once_with(&dir, &format!("{uri}?schema={schema}&table=no_rules")).ends_with(78);
    assert!(run.stderr().contains("no_rules"), "{run}");
    psql(&dir, &uri, &schema, &format!("DROP SCHEMA {schema} CASCADE"));
}

/// The rules of the table that versions before migration 010 made: one holds, one would fire, one that is disabled
/// would fire too.
const OLDER_RULES: &str = r#"INSERT INTO alert_rules (rule, definition, enabled) VALUES
    ('quiet', '{"aggregate": "count(*)", "condition": "gt", "threshold": 5000, "window_seconds": 10}', true),
    ('views', '{"aggregate": "count(*)", "condition": "gt", "threshold": 5, "window_seconds": 10, "severity": "page"}', true),
    ('off', '{"aggregate": "count(*)", "condition": "gt", "threshold": 5, "window_seconds": 10}', false);"#;

#[test]
fn the_migration_of_an_older_table_of_rules_keeps_their_definitions() {
    let Some((_, uri, schema)) = postgres() else { return };
    let dir = Dir::new("alert-older-migrated");
    views(&dir, 100.0);
    let store = format!("{uri}?schema={schema}");
    dir.write("m.toml", "[[metric]]\nname = \"views\"\nsize = \"10s\"\n");
    let sink = || {
        let window = format!("evt-window -q in.jsonl -m m.toml --late null: --to '{store}'");
        dir.shell(&window).stays_calm().succeeds();
    };
    sink();
    let older = "DROP TABLE alert_rules; DELETE FROM evt_migrations WHERE name = '010_alert_rules';
        CREATE TABLE alert_rules (rule TEXT PRIMARY KEY, definition JSONB NOT NULL,
            enabled BOOLEAN NOT NULL DEFAULT true, updated_at TIMESTAMPTZ NOT NULL DEFAULT now());";
    psql(&dir, &uri, &schema, &format!("{older} {OLDER_RULES}"));
    let kept = "SELECT string_agg(definition::text, ' ' ORDER BY definition::text) FROM alert_rules";
    let before = psql(&dir, &uri, &schema, kept);
    let fired = once_with(&dir, &format!("{store}&table=alert_rules")).ends_with(1).rows();
    assert_eq!(transitions(&fired), ["views firing condition at 10 since 10"]);
    sink();
    assert_eq!(psql(&dir, &uri, &schema, kept), before);
    let rest = "SELECT string_agg(name || ' ' || enabled || ' ' || (metric_name IS NULL) || ' ' || (created_at = updated_at), ', '
        ORDER BY name) FROM alert_rules";
    let rest = psql(&dir, &uri, &schema, rest);
    assert_eq!(rest.trim(), "off false true true, quiet true true true, views true true true");
    let migrated = once_with(&dir, &format!("{store}&table=alert_rules")).ends_with(1).rows();
    assert_eq!(transitions(&migrated), transitions(&fired));
    assert_eq!([&migrated[0]["rule"], &migrated[0]["severity"]], ["views", "page"]);
    psql(&dir, &uri, &schema, &format!("DROP SCHEMA {schema} CASCADE"));
}

/// evt makes no table of rules in SQLite, so one of these columns stays as people made it.
#[test]
fn an_older_table_of_rules_in_sqlite_is_read_before_and_after_evt_writes_to_its_file() {
    let dir = Dir::new("alert-older-sqlite");
    views(&dir, 100.0);
    let create =
        "CREATE TABLE alert_rules (rule TEXT PRIMARY KEY, definition TEXT NOT NULL, enabled INTEGER NOT NULL DEFAULT 1,
        updated_at TEXT);";
    let database = Connection::open(dir.path("rules.db")).expect("writable");
    database.execute_batch(&format!("{create} {OLDER_RULES}")).expect("it runs");
    let read = || {
        let run = once_with(&dir, "sqlite:rules.db?table=alert_rules").ends_with(1);
        assert_eq!(transitions(&run.rows()), ["views firing condition at 10 since 10"]);
        run.rows()[0]["severity"].clone()
    };
    assert_eq!(read(), "page");
    dir.write("m.toml", "[[metric]]\nname = \"views\"\nsize = \"10s\"\n");
    dir.shell("evt-window -q in.jsonl -m m.toml --late null: --to rules.db").stays_calm().succeeds();
    assert_eq!(read(), "page");
    let kept: i64 = database
        .query_row("SELECT count(*) FROM alert_rules WHERE definition LIKE '{%'", [], |row| row.get(0))
        .expect("it is there");
    assert_eq!(kept, 3);
}

/// Runs with these rules.
fn once_with(dir: &Dir, rules: &str) -> crate::harness::Run {
    dir.run("evt-alert", &["--once", "--rules", rules, "in.jsonl"]).stays_calm()
}

#[test]
fn a_rule_that_is_renamed_and_broken_in_one_edit_keeps_its_former_definition() {
    let dir = Dir::new("alert-renamed");
    views(&dir, 100.0);
    let other = rule(&json!({"name": "other", "threshold": 1000}));
    let named = |name: &str, threshold: Value| rule(&json!({"rule_id": "id2", "name": name, "threshold": threshold}));
    dir.write("rules.json", rules(&[other.clone(), named("oldname", json!(10))]));
    once(&dir, &["--state", "alerts.db", "in.jsonl"]).ends_with(1);
    views(&dir, 120.0);
    dir.write("rules.json", rules(&[other.clone(), named("newname", json!("x"))]));
    let run = once(&dir, &["--state", "alerts.db", "in.jsonl"]).ends_with(1);
    assert_eq!(run.rows().len(), 0, "{run}");
    let told = "rule newname: threshold: expected a number, found \"x\" (its former definition stays in use)\n";
    assert!(run.stderr().contains(told), "{run}");
    // Another rule with the name of the former one keeps nothing alive.
    let stranger = rule(&json!({"rule_id": "id3", "name": "oldname", "threshold": "x"}));
    dir.write("rules.json", rules(&[other, stranger]));
    let run = once(&dir, &["--state", "alerts.db", "in.jsonl"]).succeeds();
    assert_eq!(transitions(&run.rows()), ["oldname resolved rule gone at 120 since 60"]);
    assert!(!run.stderr().contains("former definition"), "{run}");
}

#[test]
fn a_restart_notes_no_change_of_a_rule_with_many_digits() {
    let dir = Dir::new("alert-digits");
    views(&dir, 100.0);
    // serde_json reads some of these one bit off.
    let thresholds = [
        "51.24817837550540",
        "0.30000000000000004",
        "1.7976931348623157e308",
        "9007199254740993.5",
        "0.1234567890123456789",
        "2.2250738585072011e-308",
        "8.7971695894357e+01",
        "123456.78901234567",
    ];
    let rule = |(n, threshold): (usize, &&str)| {
        format!(
            "[[rule]]\nname = 'r{n}'\naggregate = 'count(*)'\ncondition = 'gt'\nthreshold = {threshold}\nresolve_threshold = {threshold}\nwindow_seconds = 60\n"
        )
    };
    let mut text: String = thresholds.iter().enumerate().map(rule).collect();
    let mut draws = crate::harness::Draws::of(15);
    for n in 0..200 {
        let threshold = f64::from_bits((1023 + draws.below(40)) << 52 | draws.below(1 << 52));
        text.push_str(&rule((100 + n, &threshold.to_string().as_str())));
    }
    dir.write("rules.toml", text);
    let args = ["--once", "-q", "--rules", "rules.toml", "--state", "alerts.db", "in.jsonl"];
    for _ in 0..3 {
        dir.run("evt-alert", &args).stays_calm();
    }
    assert_eq!(edits(&dir), vec!["added"; 208]);
}

#[test]
fn rules_that_cannot_be_read_for_a_while_are_reported_once_and_when_they_can_be_again() {
    let dir = Dir::new("alert-unreadable");
    // A run never sees half a file.
    let write = |text: &str| {
        dir.write("rules.new", text);
        std::fs::rename(dir.path("rules.new"), dir.path("rules.json")).expect("it is there");
    };
    let good = |threshold: usize| rules(&[rule(&json!({"threshold": threshold}))]);
    write(&good(1000));
    let args = ["-f", "jsonl", "-q", "--rules", "rules.json", "--refresh", "10ms", "--state", "alerts.db"];
    let said = File::create(dir.path("said")).expect("writable");
    let mut child = dir.command("evt-alert", &args).stdin(Stdio::piped()).stderr(said).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let said = || std::fs::read_to_string(dir.path("said")).expect("text");
    eventually("the rules are read", || edits(&dir).len() == 1);
    let mut second = 0;
    let mut until = |told: &str, count: usize| {
        eventually(told, || {
            second += 1;
            stdin.write_all(event(f64::from(second) * 0.01, &json!({})).as_bytes()).expect("it reads");
            said().matches(told).count() == count
        });
    };
    for round in 1..3 {
        write("[{]");
        until("the rules stay as they are: rules.json: ", round);
        write(&rules(&[rule(&json!({"threshold": "x"}))]));
        until("the rules can be read again", round);
        until("rule r: threshold: expected a number", round);
        write(&good(1000 + round));
        eventually("the rules are read", || edits(&dir).len() == 1 + round);
    }
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
    assert_eq!(said().lines().count(), 6, "{}", said());
}

/// The end of a pipe has no rules, and neither has a file that an editor is about to write.
#[test]
fn rules_of_a_pipe_are_read_once_and_an_empty_file_is_no_change() {
    for source in ["<(cat rules.toml)", "rules.toml"] {
        let dir = Dir::new("alert-pipe");
        let rule = "name = 'r'\naggregate = 'count(*)'\ncondition = 'ge'\nthreshold = 1\nwindow_seconds = 2\n";
        dir.write("rules.toml", format!("[[rule]]\n{rule}"));
        let line =
            format!("exec evt-alert -f jsonl --refresh 1ms --rules {source} --state alerts.db --to out.jsonl 2>said");
        let mut child = dir.command("bash", &["-c", &line]).stdin(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        let mut second = 0;
        let mut until = |what: &str, holds: &dyn Fn(i32) -> bool| {
            eventually(what, || {
                second += 1;
                stdin.write_all(event(f64::from(second), &json!({})).as_bytes()).expect("it reads");
                holds(second)
            });
        };
        let said = || std::fs::read_to_string(dir.path("said")).unwrap_or_default();
        until("the alert fires", &|_| dir.path("out.jsonl").exists() && !dir.rows("out.jsonl").is_empty());
        dir.write("rules.toml", "");
        match source {
            "rules.toml" => until("the file is read", &|_| said().contains("the rules stay as they are: rules.toml: ")),
            // Each event is an instant at which new rules would hold.
            _ => until("rules are due often", &|second| second > 300),
        }
        drop(stdin);
        assert!(child.wait().expect("it ends").success(), "{}", said());
        assert!(!said().contains("no rules are left"), "{}", said());
        assert!(dir.rows("out.jsonl").iter().all(|row| row["reason"] != "rule gone"), "{source}");
    }
}

#[test]
fn a_missing_file_or_table_of_the_configuration_is_exit_status_78() {
    let dir = Dir::new("alert-missing");
    views(&dir, 10.0);
    dir.write("rules.json", rules(&[rule(&json!({}))]));
    Connection::open(dir.path("empty.db")).and_then(|db| db.execute_batch("CREATE TABLE t (x)")).expect("a file");
    for (args, told) in [
        (&["--rules", "none.toml"][..], "none.toml: "),
        (&["--rules", "sqlite:empty.db"], "no such table: alert_rules"),
        (&["--rules", "sqlite:none.db"], "sqlite:none.db: no such file"),
        (&["--rules", "rules.json", "-m", "none.toml"], "none.toml: "),
        (&["--rules", "rules.json", "--state", "alerts.db", "--notify", "none.toml"], "none.toml: "),
    ] {
        let run = dir.run("evt-alert", &[args, &["--once", "in.jsonl"]].concat()).ends_with(78);
        assert!(run.stderr().contains(told), "{run}");
    }
    dir.run("evt-window", &["-m", "none.toml", "in.jsonl"]).ends_with(78);
    dir.write("one.toml", "[rule]\nname = 'r'\n");
    let run = once_with(&dir, "one.toml").ends_with(78);
    assert!(run.stderr().contains("expected a list of rules: [[rule]]"), "{run}");
    // Rules of which none can be used: the message names their file.
    dir.write("bad.json", rules(&[rule(&json!({"threshold": "x"}))]));
    let run = once_with(&dir, "bad.json").ends_with(78);
    assert!(run.stderr().contains("bad.json: expected at least one rule that can be used"), "{run}");
}

#[test]
fn an_unknown_field_is_reported_with_the_field_that_is_meant() {
    let dir = Dir::new("alert-field");
    views(&dir, 10.0);
    for (field, told) in [
        ("window", "rule r: unknown field window; did you mean window_seconds?"),
        ("treshold", "rule r: unknown field treshold; did you mean threshold?"),
        ("channel", "rule r: unknown field channel; did you mean notification_channel?"),
        ("agg", "rule r: unknown field agg; did you mean aggregate?"),
        ("colour", "rule r: unknown field colour; expected one of rule_id name metric_name"),
    ] {
        dir.write("rules.json", rules(&[rule(&json!({field: 1}))]));
        let run = once_with(&dir, "rules.json").ends_with(78);
        assert!(run.stderr().contains(told), "{run}");
    }
    dir.write("rules.json", rules(&[rule(&json!({"anomaly": {"z": 3, "baseline": "1h", "minimum": 3}}))]));
    let run = once_with(&dir, "rules.json").ends_with(78);
    assert!(run.stderr().contains("anomaly: unknown field minimum; expected z, baseline, min"), "{run}");
}

#[test]
fn a_rule_with_the_columns_of_the_table_alone_is_named_by_its_metric_and_condition() {
    let dir = Dir::new("alert-nameless");
    views(&dir, 200.0);
    dir.write("metrics.toml", "[[metric]]\nname = 'page_views'\nsize = '1m'\n");
    let db = Connection::open(dir.path("rules.db")).expect("it opens");
    db.execute_batch(
        "CREATE TABLE alert_rules (rule_id TEXT PRIMARY KEY, metric_name TEXT, condition TEXT, threshold REAL,
             window_seconds INTEGER, notification_channel TEXT, enabled INTEGER, created_at TEXT, updated_at TEXT);
         INSERT INTO alert_rules VALUES ('58aedb27-0000-4000-8000-000000000000', 'page_views', 'GREATER_THAN', 50, 60, NULL, 1,
             '2026-01-01', '2026-01-01')",
    )
    .expect("a table");
    let args = ["--once", "-m", "metrics.toml", "--rules", "sqlite:rules.db", "in.jsonl"];
    let rows = dir.run("evt-alert", &args).ends_with(1).rows();
    assert_eq!(rows[0]["rule_id"], "58aedb27-0000-4000-8000-000000000000");
    assert_eq!(
        (&rows[0]["rule"], &rows[0]["summary"]),
        (&json!("page_views gt 50"), &json!("page_views gt 50: 60 (threshold 50)"))
    );
}

#[test]
fn a_job_of_cron_prints_what_fired_or_was_resolved_and_is_silent_otherwise() {
    let dir = Dir::new("alert-cron");
    let burst = series(0.0, 80.0, 0.5, &json!({"event_type": "error"}));
    let all = lines(&[burst, series(0.0, 200.0, 1.0, &json!({}))]);
    let fields = json!({"where": "event_type = 'error'", "threshold": 10, "window_seconds": 10, "keep_firing_for": 0});
    dir.write("rules.json", rules(&[rule(&fields)]));
    let run = |count: usize| {
        let end = all.match_indices('\n').nth(count - 1).map_or(all.len(), |(at, _)| at + 1);
        dir.write("in.jsonl", &all[..end]);
        once(&dir, &["--state", "alerts.db", "in.jsonl"])
    };
    let fired = run(120).ends_with(1);
    assert!(fired.rows().len() == 1 && fired.stderr().ends_with("fired 1, resolved 0, firing 1\n"), "{fired}");
    let firing = run(150).ends_with(1);
    assert!(firing.rows().is_empty() && firing.stderr().ends_with("fired 0, resolved 0, firing 1\n"), "{firing}");
    let resolved = run(340).succeeds();
    assert!(resolved.rows().len() == 1 && resolved.stderr().ends_with("fired 0, resolved 1, firing 0\n"), "{resolved}");
    let silent = run(360).succeeds();
    assert_eq!((silent.text(), silent.stderr()), (String::new(), String::new()));
}

#[test]
fn rows_beyond_the_limit_of_groups_are_reported_by_the_run_that_left_them_out() {
    let dir = Dir::new("alert-limit-once");
    let users: Vec<_> = (0..8).map(|n| series(0.0, 20.0, 1.0, &json!({"user_id": format!("u{n}")}))).collect();
    dir.write("in.jsonl", lines(&users));
    dir.write("rules.json", rules(&[rule(&json!({"by": ["user_id"], "threshold": 1000, "window_seconds": 10}))]));
    let args = ["--max-groups", "5", "--state", "alerts.db", "-q", "in.jsonl"];
    let run = once(&dir, &args).succeeds();
    // Losses are reported with -q too.
    assert!(run.stderr().contains("rule r: 60 rows of groups beyond --max-groups were left out"), "{run}");
    let run = once(&dir, &args).succeeds();
    assert_eq!(run.stderr(), "");
    // That a file is known under another name is not a loss.
    std::fs::rename(dir.path("in.jsonl"), dir.path("renamed.jsonl")).expect("it is there");
    let run = once(&dir, &["--state", "alerts.db", "-q", "renamed.jsonl"]).succeeds();
    assert_eq!(run.stderr(), "");
}

#[test]
fn a_file_of_tests_that_tests_nothing_or_an_unknown_rule_is_wrong() {
    let dir = Dir::new("alert-tests");
    let rules = format!("{ROOT}/examples/alerts/rules.toml");
    for (text, told) in [
        ("", "expected at least one [[test]], found none"),
        ("[[test]]\nname = 'a'\n", "test 'a': expected at least one [[test.expect]], found none"),
        (
            "[[test]]\nname = 'a'\n[[test.expect]]\nat = '1s'\nfiring = [{ rule = 'silenc' }]\n",
            "test 'a': expect: no rule has the name 'silenc'; did you mean silence?",
        ),
    ] {
        dir.write("test.toml", text);
        let run = dir.run("evt-alert", &["test", &rules, "test.toml"]).ends_with(78);
        assert!(run.stderr().contains(&format!("test.toml: {told}")), "{run}");
    }
}

#[test]
fn the_help_of_test_lists_only_its_own_options() {
    let dir = Dir::new("alert-help");
    let help = dir.run("evt-alert", &["test", "--help"]).succeeds().text();
    assert!(!help.contains("--once") && !help.contains("--state") && !help.contains("--to "), "{help}");
    assert!(help.contains("--metrics") && help.contains("--quiet") && help.contains("<TESTS>..."), "{help}");
    let help = dir.run("evt-alert", &["--help"]).succeeds().text();
    assert!(
        help.contains("evt-alert --rules <FILE|URI> [OPTIONS] [INPUT]...") && help.contains("evt-alert test"),
        "{help}"
    );
    // The flags of an action may follow or precede it.
    dir.write("metrics.toml", "[[metric]]\nname = 'n'\nsize = '1m'\n");
    dir.write(
        "rules.json",
        json!([{"name": "r", "metric_name": "n", "condition": "gt", "threshold": 1, "window_seconds": 9}]).to_string(),
    );
    dir.write("test.toml", "[[test]]\nname = 'a'\n[[test.expect]]\nat = '1s'\n");
    let run = dir.run("evt-alert", &["test", "rules.json", "test.toml", "-m", "metrics.toml"]).succeeds();
    assert_eq!(run.text(), "1 passed, 0 failed\n");
    let run = dir.run("evt-alert", &["test", "-q", "-m", "metrics.toml", "rules.json", "test.toml"]).succeeds();
    assert_eq!(run.text(), "");
}

#[test]
fn a_check_names_the_state_and_every_channel() {
    let dir = Dir::new("alert-check-state");
    views(&dir, 10.0);
    dir.write("rules.json", rules(&[rule(&json!({}))]));
    dir.write("channels.toml", "[[channel]]\nname = \"ops\"\ntype = \"exec\"\ncommand = [\"cat\"]\n");
    let check = |state: &str| {
        let args = ["--check", "--rules", "rules.json", "--notify", "channels.toml", "--state", state, "in.jsonl"];
        dir.run("evt-alert", &args)
    };
    let run = check("alerts.db").succeeds();
    assert!(run.text().contains("channel 'ops': ready\n") && run.text().contains("alerts.db: ready\n"), "{run}");
    assert!(!dir.path("alerts.db").exists());
    let run = check("none/alerts.db").ends_with(74);
    assert!(run.stderr().contains("--state none/alerts.db: "), "{run}");
}

#[test]
fn a_table_of_rules_that_people_made_stays_while_its_database_is_an_output() {
    let Some((target, uri, schema)) = postgres() else { return };
    let dir = Dir::new("alert-own-table");
    views(&dir, 100.0);
    let create = format!(
        "CREATE SCHEMA {schema}; CREATE TABLE {schema}.alert_rules (rule_id uuid primary key, metric_name text, condition text,
             threshold numeric, window_seconds int, notification_channel text, enabled boolean,
             created_at timestamptz default now(), updated_at timestamptz default now());
         INSERT INTO {schema}.alert_rules VALUES (gen_random_uuid(), 'views', 'GREATER_THAN', 5, 10, null, true)"
    );
    psql(&dir, &uri, &schema, &create);
    dir.write("metrics.toml", "[[metric]]\nname = \"views\"\nsize = \"1m\"\n");
    let rules = format!("{uri}?schema={schema}&table=alert_rules");
    let args = ["--once", "--rules", &rules, "-m", "metrics.toml", "--to", &target, "in.jsonl"];
    for _ in 0..2 {
        dir.run("evt-alert", &args).ends_with(1);
    }
    dir.run("evt-sink", &["-q", "in.jsonl", "--to", &target]).succeeds();
    assert_eq!(
        psql(&dir, &uri, &schema, "SELECT count(*) FROM alerts; SELECT metric_name FROM alert_rules").trim(),
        "1\nviews"
    );
    psql(&dir, &uri, &schema, &format!("DROP SCHEMA {schema} CASCADE"));
}

#[test]
fn a_misspelled_field_that_is_required_is_named() {
    let dir = Dir::new("alert-typos");
    views(&dir, 1.0);
    for (wrong, right) in [
        ("treshold", "threshold"),
        ("window_second", "window_seconds"),
        ("conditon", "condition"),
        ("agregate", "aggregate"),
    ] {
        let mut fields = rule(&json!({}));
        let value = fields.as_object_mut().expect("an object").remove(right).expect("a field");
        fields[wrong] = value;
        dir.write("rules.json", rules(&[fields]));
        let run = once(&dir, &["in.jsonl"]).ends_with(78);
        assert!(run.stderr().contains(&format!("unknown field {wrong}; did you mean {right}?")), "{run}");
    }
    dir.write("rules.json", rules(&[rule(&json!({"aggregate": "avg(latency)", "share_of": "event"}))]));
    let run = once(&dir, &["in.jsonl"]).ends_with(78);
    assert!(run.stderr().contains("share_of: expected the aggregate count(…), found avg(latency)"), "{run}");
}

#[test]
fn a_check_names_a_channel_that_is_not_defined() {
    let dir = Dir::new("alert-check-channel");
    views(&dir, 1.0);
    dir.write("rules.json", rules(&[rule(&json!({"notification_channel": "pager"}))]));
    dir.write("channels.toml", "[[channel]]\nname = \"other\"\ntype = \"exec\"\ncommand = [\"true\"]\n");
    let args = ["--check", "--rules", "rules.json", "--state", "alerts.db", "--notify", "channels.toml", "in.jsonl"];
    let run = dir.run("evt-alert", &args).ends_with(78);
    assert!(run.stderr().contains("rule r: channel 'pager' is not defined (--notify)"), "{run}");
}
