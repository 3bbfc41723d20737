//! evt-flink: the job that it writes and, on a real Flink, that its rows are those of evt-window.

use crate::broker::Bench;
use crate::documents::blocks;
use crate::harness::{Dir, ROOT, in_ci};
use crate::servers::{postgres, psql};
use std::fmt::Write;

/// The flags of a job whose topics nobody opens.
const TOPICS: &str =
    "kafka://h:9092/events --to kafka://h:9092/metrics --late kafka://h:9092/late --dlq kafka://h:9092/dead";

/// A metric that a job cannot have, and one that it can.
const TWO: &str = "[[metric]]\nname = 'total'\nsize = 'all'\n[[metric]]\nname = 'n'\nsize = '1m'\n";

#[test]
fn a_job_is_the_same_text_for_the_same_metrics_and_no_text_of_a_metric_is_sql() {
    let dir = Dir::new("flink-text");
    let name = r#"name = "n'; DROP TABLE x; -- `\"é""#;
    let by = r#"by = ["\"a;'`b\"", "source"]"#;
    dir.write("m.toml", format!("[[metric]]\n{name}\n{by}\nwhere = \"event_type = 'a;''b'\"\nsize = '1m'\n"));
    let line = format!("evt-flink -m m.toml {TOPICS}");
    let job = dir.shell(&line).succeeds().text();
    assert_eq!(job, dir.shell(&line).succeeds().text());
    let statements: String = job.lines().filter(|line| !line.starts_with("-- ")).collect();
    assert!(job.is_ascii() && !statements.contains("DROP TABLE x") && !statements.contains("a;'"), "{job}");
    // The client cuts a script at the ends of lines.
    assert!(job.lines().all(|line| !line.trim_end().trim_end_matches(';').contains(';')), "{job}");
}

#[test]
fn a_metric_that_flink_cannot_have_is_refused_before_anything_is_written() {
    let dir = Dir::new("flink-refused");
    dir.write("m.toml", TWO);
    let line = format!("evt-flink -m m.toml {TOPICS}");
    let why = "a window over all time fires at the end, and the job has none; use a size such as 1d";
    let run = dir.shell(&format!("{line} --dir job --jar m.toml")).ends_with(2);
    assert!(run.stderr().contains(&format!("total: {why}; --only NAME leaves out all metrics but NAME")), "{run}");
    assert!(!dir.path("job").exists());
    let run = dir.shell(&format!("{line} --check"));
    assert_eq!(run.status(), 2, "{run}");
    assert!(run.text().starts_with(&format!("total: refused: {why}\nn: equal\n")), "{run}");
    dir.shell(&format!("{line} --only n")).succeeds();
    let run = dir.shell(&format!("{line} --only m")).ends_with(2);
    assert!(run.stderr().contains("--only m: no metric of m.toml has this name"), "{run}");
    for (expression, why) in [
        ("max(cast(ingested_at as double))", "ingested_at is the time at which evt-window reads a record"),
        ("count(*) filter (where source like event_type)", "like with a pattern that is not a constant"),
    ] {
        dir.write("no.toml", format!("[[metric]]\nname = 'n'\nsize = '1m'\naggregate = \"{expression}\"\n"));
        let run = dir.shell(&format!("evt-flink -m no.toml {TOPICS}")).ends_with(2);
        assert!(run.stderr().contains(&format!("n: {why}")), "{run}");
    }
    dir.write("all.toml", "[defaults]\nout_of_orderness = 'all'\n[[metric]]\nname = 'n'\nsize = '1m'\n");
    let run = dir.shell(&format!("evt-flink -m all.toml {TOPICS}")).ends_with(2);
    let bound = "out_of_orderness = all waits for the end of the input, which a job does not have; set --out-of-orderness DURATION";
    assert!(run.stderr().contains(bound), "{run}");
    dir.shell(&format!("evt-flink -m all.toml {TOPICS} --out-of-orderness 1m")).succeeds();
    let run = dir.shell(&line.replace("/metrics", "/metrics?key=none")).ends_with(2);
    assert!(run.stderr().contains("expected one topic without options"), "{run}");
    let run = dir.shell(&format!("{line} --only n --checkpoint-every 1us")).ends_with(2);
    assert!(run.stderr().contains("--checkpoint-every: expected at least 1ms"), "{run}");
}

#[test]
fn a_directory_keeps_a_job_that_differs() {
    let dir = Dir::new("flink-directory");
    dir.write("m.toml", TWO);
    dir.write("functions.jar", "a jar");
    let line = format!("evt-flink -m m.toml {TOPICS} --only n --dir job --jar functions.jar");
    dir.shell(&line).succeeds();
    // The proof has the metrics of the job alone.
    assert!(!dir.shell("cat job/metrics.toml").text().contains("total"));
    let names = dir.shell("ls job").text();
    assert_eq!(names, "README.md\nevt-flink.jar\njob.sql\nmetrics.toml\nproof.sql\nprove.sh\n");
    dir.shell(&format!("cp -r job before; {line}; diff -r before job")).succeeds();
    let run = dir.shell(&format!("{line} --time event_time")).ends_with(2);
    assert!(run.stderr().contains("--overwrite replaces it"), "{run}");
    dir.shell("diff -r before job").succeeds();
    dir.shell(&format!("{line} --time event_time --overwrite")).succeeds();
    assert!(dir.shell("cat job/job.sql").text().contains("'event_time'"));
    let run = dir.shell(&format!("evt-flink -m m.toml {TOPICS} --only n --dir new --jar no.jar")).ends_with(78);
    let missing = "no.jar: there is no such file; scripts/flink makes it, and --jar FILE names it";
    assert!(run.stderr().contains(missing), "{run}");
}

#[test]
fn a_check_says_what_may_differ_and_flags_may_name_a_metric() {
    let dir = Dir::new("flink-differences");
    let check = |flags: &str| dir.shell(&format!("evt-flink {flags} {TOPICS} --check")).succeeds().text();
    let sum = "--agg 'n=sum(amount)' --by 'c=lower(source)'";
    assert_eq!(check("--agg 'n=sum(amount)' --size 1m"), "n: equal\n");
    let letters = "n: equal but for the case of letters that Unicode has defined since version 13";
    assert_eq!(check(&format!("{sum} --size 1m")), format!("{letters}\n"));
    let clocks = "changes of clocks that only one of Java and evt-window --version knows";
    assert_eq!(check(&format!("{sum} --size 1d --window-zone Asia/Tokyo")), format!("{letters}, and {clocks}\n"));
    let interleaved = "sessions of a key in several partitions, which depend on how these are interleaved";
    assert_eq!(check("--agg 'n=count(*)' --gap 1m"), format!("n: equal but for {interleaved}\n"));
    dir.write("functions.jar", "a jar");
    let flags = "--agg 'n=sum(amount)' --size 1m --since 2026-01-05T10:00:00Z";
    dir.shell(&format!("evt-flink {flags} {TOPICS} --dir job --jar functions.jar")).succeeds();
    assert!(dir.shell("cat job/job.sql").text().contains("event.event_time >= 1767607200000000"));
    assert!(dir.shell("cat job/prove.sh").text().contains(" --since 2026-01-05T10:00:00.000000Z "));
    // The file of the directory has the same metric.
    let written = dir.shell(&format!("evt-flink -m job/metrics.toml {TOPICS} --since 2026-01-05T10:00:00Z")).text();
    assert_eq!(written, dir.shell(&format!("evt-flink {flags} {TOPICS}")).text());
    let run =
        dir.shell(&format!("evt-flink {} --size 1m", TOPICS.replace("events ", "events?format=avro "))).ends_with(2);
    assert!(run.stderr().contains("expected no options but format=avro&schemas=URL"), "{run}");
    for (to, why) in [
        ("postgres://u:secret@h/d", "the password would be in the script; put it into ~/.pgpass of Flink's user"),
        ("postgres://h", "expected postgres://[USER@]HOST[:PORT]/DATABASE"),
        ("postgres://h/d?table=x", "expected no options but schema=NAME and sslmode=disable|require"),
        ("postgres://h/d'", "expected letters, digits, '.', '_' and '-' in user, host and database"),
    ] {
        let topics = TOPICS.replace("kafka://h:9092/metrics", &format!("\"{to}\""));
        let run = dir.shell(&format!("evt-flink {topics} --size 1m")).ends_with(2);
        assert!(run.stderr().contains(why) && !run.stderr().contains("secret"), "{run}");
    }
    let job = dir
        .shell(&format!("evt-flink {} --size 1m", TOPICS.replace("kafka://h:9092/metrics", "postgres://h/d")))
        .text();
    assert!(job.contains("&sslmode=verify-full&sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory'"), "{job}");
}

#[test]
fn an_upgrade_leaves_the_old_job_as_it_is_and_refuses_what_would_lose_its_state() {
    let dir = Dir::new("flink-upgrade");
    dir.write("functions.jar", "a jar");
    let metric = |name: &str, size: &str| format!("[[metric]]\nname = '{name}'\nsize = '{size}'\n");
    let write = |metrics: &[(&str, &str)]| {
        dir.write("m.toml", metrics.iter().map(|(name, size)| metric(name, size)).collect::<String>());
    };
    write(&[("a", "1m"), ("b", "5m")]);
    let line = format!("evt-flink -m m.toml {TOPICS} --jar functions.jar");
    dir.shell(&format!("{line} --dir old")).succeeds();
    let upgrade = format!("{line} --dir new --upgrade old --pipeline second");
    write(&[("c", "1h"), ("a", "1m"), ("b", "5m"), ("d", "1d")]);
    dir.shell(&upgrade).succeeds();
    let written = dir.shell("cat new/metrics.toml").text();
    assert!(["c", "d"].iter().all(|name| written.contains(&format!("name = \"{name}\""))), "{written}");
    assert!(!written.contains("\"a\"") && !dir.shell("cat new/job.sql").text().contains("metric.b"), "{written}");
    let run = dir.shell(&upgrade.replace("second", "evt")).ends_with(2);
    assert!(
        run.stderr().contains("--pipeline evt: the job of old has this name, and would end the transactions"),
        "{run}"
    );
    write(&[("a", "2m"), ("d", "1d")]);
    let run = dir.shell(&upgrade).ends_with(2);
    let advice = "write a new job without --upgrade and start it without a savepoint";
    assert!(
        run.stderr().contains("old: changed or removed: a, b; no savepoint") && run.stderr().contains(advice),
        "{run}"
    );
    write(&[("a", "1m"), ("b", "5m")]);
    let run = dir.shell(&upgrade).ends_with(2);
    assert!(run.stderr().contains("no metric is new; the old job computes them all"), "{run}");
}

/// Events of six minutes for a job: some late, some with values that expressions cannot read.
fn events() -> String {
    events_from(600_000)
}

/// Such events from an instant (ms after 10 o'clock).
pub fn events_from(start: u64) -> String {
    let mut text = String::new();
    let mut seed = 7u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for number in 0..4000u64 {
        let late = if random(20) == 0 { 40 + random(300) } else { random(5) };
        let millis = (number * 90 + start).saturating_sub(late * 1000);
        let (minute, second, milli) = (millis / 60_000, millis / 1000 % 60, millis % 1000);
        let amount =
            ["12.50", "\" 7 \"", "0.1", "1e-7", "\"n/a\"", "null", "123456789012345678901"][random(7) as usize];
        let text_of = ["a", "\\u00fc;--'", "x-y-z", "Trim \\t"][random(4) as usize];
        let (user, kind) = (random(30), ["view", "buy", "error"][random(3) as usize]);
        _ = writeln!(
            text,
            r#"{{"source":"s","event_type":"{kind}","user_id":"u{user}","properties":{{"amount":{amount},"t":"{text_of}","a":{{"b":[{user},"{kind}"]}}}},"client_timestamp":"2026-01-05T10:{minute:02}:{second:02}.{milli:03}Z"}}"#
        );
    }
    text
}

/// Every shape of window, and many aggregates and expressions.
pub const METRICS: &str = r#"
[[metric]]
name = "revenue; 'of' `all`"
aggregate = "sum(amount) filter (where event_type = 'buy')"
by = ["t", "n=cast(length(t) as text)"]
size = "1m"
lateness = "1m"
[[metric]]
name = "spread"
aggregate = "stddev(coalesce(amount, 0.5))"
where = "a.b[2] <> 'error' and not t ~ '^\\w-'"
size = "5m"
slide = "1m"
[[metric]]
name = "p90"
aggregate = "approx_percentile(try_cast(amount as double) % 7, 0.9)"
size = "2m"
align = "-7s"
[[metric]]
name = "users"
aggregate = "approx_distinct(upper(trim(user_id)))"
size = "70s"
slide = "30s"
[[metric]]
name = "visits"
aggregate = "last(cast(substr(user_id, 2) as double))"
by = ["user_id"]
gap = "20s"
[[metric]]
name = "share"
aggregate = "ratio(event_type = 'error', event_type in ('error', 'view'))"
by = ["k=split_part(t, '-', -1)"]
size = "1d"
zone = "Asia/Tokyo"
"#;

/// Returns the path of the functions. `None`, with one message, if nobody has made them. CI requires them, and a Flink.
pub fn jar() -> Option<String> {
    let jar = std::env::var("EVT_FLINK_JAR").ok();
    if jar.is_none() {
        assert!(!in_ci(), "EVT_FLINK_JAR must be set in CI (scripts/flink)");
        eprintln!("skipped: EVT_FLINK_JAR is not set (scripts/flink)");
    }
    jar
}

/// Returns the command that runs scripts/flink with the Flink that this test is for: commands of tests have no variable
/// of evt.
pub fn flink(action: &str) -> String {
    let variable = |name: &str| std::env::var(name).map_or_else(|_| String::new(), |value| format!("{name}={value} "));
    format!("env {}{}{ROOT}/scripts/flink {action}", variable("EVT_FLINK_VERSION"), variable("EVT_CACHE"))
}

#[test]
fn a_job_on_a_real_flink_has_the_rows_of_evt_window() {
    let Some(bench) = Bench::new("flink") else { return };
    let Some(jar) = jar() else { return };
    let dir = &bench.dir;
    dir.write("events.jsonl", events());
    dir.write("m.toml", METRICS);
    let uri = |name: &str, partitions: i32| format!("kafka://{}/{}", bench.brokers, bench.topic(name, partitions, &[]));
    let input = uri("events", 2);
    let outputs = ["metrics", "late", "dead"].map(|name| uri(&format!("{name}-proof"), 1).replace("-proof", ""));
    let [metrics, late, dead] = outputs;
    dir.shell(&format!("evt-ingest events.jsonl --time client_timestamp -q --to '{input}?key=user_id'")).succeeds();
    dir.shell(&format!(
        "evt-flink -m m.toml {input} --to {metrics} --late {late} --dlq {dead} --time client_timestamp \
         --out-of-orderness 10s --checkpoint-every 1s --dir job --jar '{jar}' --pipeline {}",
        bench.prefix
    ))
    .succeeds();
    let proof = format!("FLINK_SQL='{}' job/prove.sh 2020-01-01T00:00:00Z 2100-01-01T00:00:00Z", flink("sql"));
    let run = dir.shell(&proof);
    assert_eq!(run.status(), 0, "{run}");
    let lines: Vec<String> = run.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 3, "{run}");
    assert!(lines.iter().all(|line| line.ends_with(" equal")), "{run}");
    // The proof sees a job that computes something else.
    dir.shell("sed -i 's/ + 70000000 AND/ + 60000000 AND/' job/proof.sql").succeeds();
    let run = dir.shell(&proof).ends_with(1);
    assert!(run.stderr().contains("metrics: not equal"), "{run}");
    assert!(run.text().contains("late: "), "{run}");
}

#[test]
fn a_job_writes_into_the_tables_of_evt_and_keeps_corrected_rows() {
    let Some(bench) = Bench::new("flink-postgres") else { return };
    let Some(jar) = jar() else { return };
    let Some((store, server, schema)) = postgres() else { return };
    let dir = &bench.dir;
    dir.write("events.jsonl", events());
    dir.write("m.toml", METRICS);
    let [input, late, dead] = ["events", "late", "dead"].map(|name| bench.uri(&bench.topic(name, 1, &[]), ""));
    dir.shell(&format!("evt-ingest events.jsonl --time client_timestamp -q --to '{input}'")).succeeds();
    let (user, rest) = server.strip_prefix("postgres://").and_then(|rest| rest.split_once(':')).expect("a user");
    let (password, address) = rest.split_once('@').expect("a password");
    dir.write("pgpass", format!("*:*:*:{user}:{password}\n"));
    let flags = "--time client_timestamp --out-of-orderness 10s";
    dir.shell(&format!(
        "chmod 600 pgpass; evt-flink -m m.toml {input} --to 'postgres://{user}@{address}?schema={schema}' --late {late} \
         --dlq {dead} {flags} --checkpoint-every 1s --dir job --jar '{jar}' --pipeline {}",
        bench.prefix
    ))
    .succeeds();
    assert!(!dir.shell("cat job/*.sql job/*.sh job/README.md").text().contains(password));
    // As README.md of the job says.
    dir.shell(&format!("evt-sink -f jsonl --kind metric /dev/null --to '{store}'")).succeeds();
    let trigger = dir.shell("cat job/store.sql").text();
    psql(dir, &server, &schema, &trigger);
    let bounded = "'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset'";
    let job = format!(
        "(echo \"ADD JAR '{jar}';\"; sed \"s/'scan.startup.mode' = 'earliest-offset'/{bounded}/\" job/job.sql) > job.sql; \
         PGPASSFILE=$PWD/pgpass {} job.sql > flink.log 2>&1",
        flink("sql")
    );
    dir.shell(&job).succeeds();
    dir.shell(&format!(
        "evt-window '{input}?end=latest' -m m.toml {flags} --emit final -q --late l --dlq d --to rows.jsonl"
    ));
    let same = || dir.shell(&format!("evt-reconcile rows.jsonl '{store}&table=aggregated_metrics'"));
    let run = same();
    assert_eq!(run.status(), 0, "{run}\n{}", dir.shell("grep -a 'Caused by' flink.log | tail -n 5"));
    let first = "WHERE metric_id = (SELECT metric_id FROM aggregated_metrics ORDER BY metric_id LIMIT 1)";
    psql(dir, &server, &schema, &format!("UPDATE aggregated_metrics SET value = -7, revision = 1 {first}"));
    dir.shell(&job.replace(&bench.prefix, &format!("{}-again", bench.prefix))).succeeds();
    let corrected = psql(dir, &server, &schema, &format!("SELECT value, revision FROM aggregated_metrics {first}"));
    assert_eq!(corrected.trim(), "-7|1");
    same().ends_with(1);
}

/// Checks that the late events of a job correct a table as those of evt-window do.
fn check_corrections(dir: &Dir, input: &str, late: &str, flags: &str) {
    dir.shell(&format!(
        "evt-window '{input}?end=latest' {flags} -q --emit final --late late.jsonl --dlq null: --to null:"
    ));
    for (late, store) in [(format!("{late}?end=latest").as_str(), "flink.db"), ("late.jsonl", "own.db")] {
        dir.shell(&format!(
            "cp live.db {store}; evt-backfill '{input}?end=latest' {flags} --late-events '{late}' --dlq null: -q \
             --since 2026-01-05T10:15:00Z --until 2026-01-05T10:20:00Z --to sqlite:{store}"
        ))
        .succeeds();
    }
    dir.shell("evt-reconcile sqlite:own.db sqlite:flink.db").succeeds();
    dir.shell("evt-reconcile sqlite:live.db sqlite:flink.db").ends_with(1);
}

#[test]
fn a_pipeline_moves_to_flink_and_back_without_a_gap_or_a_double() {
    let Some(bench) = Bench::new("flink-moving") else { return };
    let Some(jar) = jar() else { return };
    let dir = &bench.dir;
    let [input, metrics, late, dead] =
        ["events", "metrics", "late", "dead"].map(|name| bench.uri(&bench.topic(name, 1, &[]), ""));
    let metric = |name: &str, size: &str| {
        format!("[[metric]]\nname = '{name}'\naggregate = 'sum(amount)'\nsize = '{size}'\nby = ['t']\n")
    };
    dir.write("metrics.toml", metric("minutes", "1m") + &metric("fives", "5m"));
    // The commands of the page.
    let page = blocks("man/evt.7", "SCALING").concat();
    let named = [
        ("events", &input),
        ("flink?group=sink", &format!("{metrics}?end=latest")),
        ("flink", &metrics),
        ("late", &late),
        ("dead", &dead),
    ];
    let page = named.iter().fold(page, |page, (name, uri)| page.replace(&format!("kafka://h:9092/{name}"), uri));
    let page: Vec<&str> = page.split_inclusive('\n').collect();
    let [job, options, compare, store] = page[..] else { panic!("{page:?}") };
    let flags = "-m metrics.toml --time client_timestamp --out-of-orderness 10s";
    let ingest = |start: u64| {
        dir.write("events.jsonl", events_from(start));
        dir.shell(&format!("evt-ingest events.jsonl --time client_timestamp -q --to '{input}'")).succeeds();
    };
    let window = |more: &str, to: &str| {
        let run = dir.shell(&format!(
            "evt-window '{input}?end=latest' {flags} {more} -q --emit final --late null: --dlq null: --to {to}"
        ));
        assert!(matches!(run.status(), 0 | 1), "{run}");
    };
    // evt-window writes the table, from 10:10.
    ingest(600_000);
    window("--checkpoint old", "sqlite:live.db");
    // The job begins at a boundary of all windows beside it; both continue.
    ingest(960_000);
    window("--checkpoint old", "sqlite:live.db");
    ingest(1_320_000);
    let more = format!("--time client_timestamp --out-of-orderness 10s --jar '{jar}' --pipeline {}", bench.prefix);
    dir.shell(&format!(
        "{job}{} {more}; (echo \"ADD JAR '{jar}';\"; sed \"s/'earliest-offset'/&, 'scan.bounded.mode' = 'latest-offset'/\" \
         job/job.sql) > job.sql; {} job.sql > flink.log 2>&1",
        options.trim_end(),
        flink("sql")
    ))
    .succeeds();
    let compared = dir.shell(compare).succeeds();
    assert!(
        compared.stderr().contains("results are accounted for") && !compared.stderr().contains("all 0 "),
        "{compared}"
    );
    dir.shell(store).succeeds();
    check_corrections(dir, &input, &late, flags);
    // And back, from a boundary that the job has passed.
    ingest(1_680_000);
    window("--checkpoint new --since 2026-01-05T10:25:00Z --at-end fire", "sqlite:live.db");
    window("", "all.jsonl");
    let all = dir.shell("evt-reconcile all.jsonl sqlite:live.db");
    assert_eq!(all.status(), 0, "{all}");
}
