//! Tables of Iceberg in a bucket, whose catalog is a server: a database, or one with the REST API. Nothing locks a
//! bucket, and every request may fail.

use crate::bucket::{Fault, Proxy};
use crate::documents::blocks;
use crate::harness::{Dir, Draws, Run, ask, ended, eventually, python};
use crate::iceberg::lines;
use crate::servers::server;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The catalogs of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rest,
    Postgres,
}

/// A namespace of a catalog, and the directory of a test.
struct Tables {
    dir: Dir,
    kind: Kind,
    namespace: String,
    python: String,
}

fn variable(name: &str) -> String {
    std::env::var(name).expect("scripts/services sets it")
}

/// The bucket of the catalog with the REST API.
const BUCKET: &str = "evt-catalog";

impl Tables {
    /// An empty namespace; `None`, with one message, if a server is missing.
    fn new(kind: Kind, name: &str) -> Option<Self> {
        let python = python()?;
        server("EVT_S3")?;
        server(if kind == Kind::Rest { "EVT_CATALOG" } else { "EVT_POSTGRES" })?;
        let dir = Dir::new(name);
        let root = dir.path("");
        let namespace = root.file_name().expect("a name").to_string_lossy().replace(['-', '.'], "_");
        // The server keeps buckets as directories.
        std::fs::create_dir_all(Path::new(&variable("EVT_SERVICES")).join("s3/data").join(BUCKET)).expect("a bucket");
        dir.write("s3.secret", variable("EVT_S3_SECRET_KEY"));
        let tables = Self { dir, kind, namespace, python };
        tables.configure(&variable("EVT_S3"), &tables.catalog());
        Some(tables)
    }

    fn catalog(&self) -> String {
        variable(if self.kind == Kind::Rest { "EVT_CATALOG" } else { "EVT_POSTGRES" })
    }

    /// Writes the section of the catalog, with these addresses of the servers.
    fn configure(&self, bucket: &str, catalog: &str) {
        let secret = self.dir.path("s3.secret").display().to_string();
        let (region, key) = (variable("EVT_S3_REGION"), variable("EVT_S3_ACCESS_KEY"));
        let options = format!(
            "endpoint={bucket}&region={region}&access_key={key}&secret_key={{file:{secret}}}&retry=1m&timeout=2s"
        );
        let of_kind = match self.kind {
            Kind::Rest => format!("type = \"rest\"\nuri = \"{catalog}?retry=1m&timeout=2s\""),
            Kind::Postgres => {
                format!("type = \"sql\"\nuri = \"{catalog}\"\nwarehouse = \"s3://{BUCKET}/{}\"", self.namespace)
            }
        };
        self.dir.write("evt.toml", format!("[catalog.lake]\n{of_kind}\nbucket-options = \"{options}\"\n"));
    }

    /// Returns the URI of the tables, with options.
    fn uri(&self, options: &str) -> String {
        format!("iceberg:lake?namespace={}{options}", self.namespace)
    }

    /// Runs a line in which `LAKE` is the URI.
    fn shell(&self, line: &str) -> Run {
        self.dir.shell(&format!("export EVT_CONFIG=evt.toml; {}", self.line(line)))
    }

    fn line(&self, line: &str) -> String {
        line.replace("LAKE", &self.uri(""))
    }

    /// Asks PyIceberg.
    fn table(&self, command: &str, args: &[&str]) -> Run {
        let mut properties = json!({
            "name": "lake", "namespace": self.namespace, "s3.endpoint": variable("EVT_S3"),
            "s3.access-key-id": variable("EVT_S3_ACCESS_KEY"), "s3.secret-access-key": variable("EVT_S3_SECRET_KEY"),
            "s3.region": variable("EVT_S3_REGION"),
        });
        match self.kind {
            Kind::Rest => {
                properties["type"] = json!("rest");
                properties["uri"] = json!(self.catalog());
            }
            Kind::Postgres => {
                properties["type"] = json!("sql");
                properties["uri"] = json!(self.catalog().replace("postgres://", "postgresql+pg8000://"));
            }
        }
        ask(&self.dir, &self.python, "iceberg_table.py", &[&[command, &properties.to_string()], args].concat())
    }

    /// What PyIceberg says of a table whose rows are those of evt-view.
    fn compared(&self, name: &str) -> Value {
        self.shell(&format!("evt-view 'LAKE&table={name}' -q -o arrow --to rows.arrow --overwrite")).succeeds();
        let rows = self.dir.path("rows.arrow").display().to_string();
        serde_json::from_str(&self.table("compare", &[name, &rows]).succeeds().text()).expect("it is JSON")
    }

    /// Returns the metrics of a store, in order.
    fn metrics(&self, uri: &str) -> String {
        let columns = "metric_name,window_start,dimensions,value,rows,revision";
        let mark = if uri.contains('?') { '&' } else { '?' };
        let line = format!("evt-view '{uri}{mark}table=aggregated_metrics' --columns {columns} -q -o csv | sort");
        self.shell(&line).succeeds().text()
    }

    /// Returns the descriptions of the tables after each day has one file and only the present snapshot is left.
    fn kept(&self) -> Vec<Value> {
        self.shell("evt-lake compact LAKE --now 2100-01-01").succeeds();
        self.shell("evt-lake expire LAKE --snapshots 0s --orphans-older-than 0s --now 2100-01-03").succeeds();
        let again = "evt-lake expire LAKE --snapshots 0s --orphans-older-than 0s --now 2100-01-03 --dry-run";
        let again = self.shell(again).succeeds().rows();
        assert!(again.iter().all(|table| table["orphans"] == 0 && table["files"] == 0), "{again:?}");
        self.shell("evt-lake describe LAKE").succeeds().rows()
    }

    /// The keys of the objects of its tables that are neither files of rows nor metadata.
    fn notes(&self) -> Vec<String> {
        let bucket = Path::new(&variable("EVT_SERVICES")).join("s3/data").join(BUCKET);
        let line = format!("find {} -path '*{}*' -name '*.pending'", bucket.display(), self.namespace);
        self.dir.shell(&line).text().lines().map(str::to_owned).collect()
    }
}

const METRICS: &str = "[[metric]]\nname = \"events\"\nsize = \"1h\"\nby = [\"user_id\"]\n";

#[test]
fn tables_in_a_bucket_are_those_of_a_directory() {
    for kind in [Kind::Rest, Kind::Postgres] {
        let Some(tables) = Tables::new(kind, &format!("catalog_{kind:?}").to_lowercase()) else { return };
        let dir = &tables.dir;
        dir.write("a.jsonl", lines(6_000));
        dir.write("m.toml", METRICS);
        let missing = tables.shell("evt-view 'LAKE&table=raw_events'").ends_with(2).stderr();
        let said = ["there is no table raw_events", "the catalog has no tables yet"];
        assert!(said.iter().any(|said| missing.contains(said)), "{missing}");
        let ingest = || tables.shell("evt-ingest a.jsonl --time at --dlq LAKE --to LAKE").ends_with(0).stderr();
        assert!(ingest().contains("in 5940 inserted 5940"));
        assert!(ingest().contains("in 5940 unchanged 5940"));
        let window = "evt-ingest a.jsonl --time at -q --dlq null: | evt-window -q -m m.toml --out-of-orderness 1m \
                      --late LAKE --to LAKE --to sqlite:m.db";
        tables.shell(window).succeeds();
        assert!(tables.metrics(&tables.uri("")) == tables.metrics("sqlite:m.db"));
        for (name, rows) in [("raw_events", 5_940), ("dead_letters", 60), ("late_events", 6)] {
            assert_eq!(tables.compared(name)["rows"], rows, "{kind:?} {name}");
        }
        let found = tables.compared("aggregated_metrics");
        let first = found["ids"][0].as_i64().expect("an id");
        // A correction is a snapshot, and the one before it is read as it was.
        let wrong = tables.metrics(&tables.uri(""));
        dir.write("sum.toml", METRICS.replace("by =", "aggregate = \"sum(n)\"\nby ="));
        tables.shell("evt-backfill 'LAKE&table=raw_events' -m sum.toml --all-closed --to LAKE").succeeds();
        let sums = window.replace("m.toml", "sum.toml").replace("--to LAKE --to sqlite:m.db", "--to sqlite:right.db");
        tables.shell(&sums).succeeds();
        let right = tables.metrics(&tables.uri(""));
        assert!(right != wrong);
        assert_eq!(tables.metrics(&tables.uri(&format!("&snapshot={first}"))), wrong);
        let values = |text: &str| {
            let mut lines: Vec<String> =
                text.lines().map(|line| line.rsplit_once(',').map_or(line, |(row, _)| row).to_owned()).collect();
            lines.sort();
            lines
        };
        assert_eq!(values(&right), values(&tables.metrics("sqlite:right.db")), "{kind:?}");
        for table in tables.kept() {
            assert_eq!((&table["snapshots"], &table["files"]), (&json!(1), &table["days"]), "{table}");
        }
        assert!(tables.metrics(&tables.uri("")) == right);
        tables.compared("aggregated_metrics");
        // One table of the namespace, by its name.
        let one = tables.shell(&format!("evt-view 'iceberg:lake/{}.dead_letters' -q -o jsonl", tables.namespace));
        assert_eq!(one.succeeds().rows().len(), 60);
    }
}

#[test]
fn rows_in_a_bucket_are_there_once_although_runs_are_killed_and_others_commit() {
    for kind in [Kind::Rest, Kind::Postgres] {
        let Some(tables) = Tables::new(kind, &format!("catalog_killed_{kind:?}").to_lowercase()) else { return };
        let dir = &tables.dir;
        dir.write("a.jsonl", lines(40_000));
        dir.write("m.toml", METRICS);
        let line = "evt-window a.jsonl --time at -m m.toml --out-of-orderness 3h -q --checkpoint state \
                    --checkpoint-every 20ms --to LAKE --to sqlite:m.db --dlq LAKE";
        let upkeep = "for n in $(seq 12); do timeout -s KILL 1.$n evt-lake compact LAKE --now 2100-01-01; \
                      timeout -s KILL 0.9 evt-lake expire LAKE --snapshots 0s --orphans-older-than 0s --now 2100-01-02; \
                      done >/dev/null 2>&1; true";
        let upkeep = format!("export EVT_CONFIG=evt.toml; {}", tables.line(upkeep));
        let mut other = dir.command("bash", &["-c", &upkeep]).spawn().expect("it starts");
        let mut draws = Draws::new();
        for _ in 0..6 {
            let millis = 300 + draws.below(1_500);
            tables.shell(&format!("timeout -s KILL {}.{:03} {line}; true", millis / 1_000, millis % 1_000)).succeeds();
        }
        assert_eq!(ended("the upkeep", &mut other), 0);
        tables.shell(line).ends_with(0);
        let found = tables.metrics(&tables.uri(""));
        assert!(found.lines().count() > 1_000 && found == tables.metrics("sqlite:m.db"), "{kind:?}");
        assert_eq!(tables.compared("dead_letters")["rows"], 400, "{kind:?}");
        tables.compared("aggregated_metrics");
        // The upkeep may have been killed.
        tables.kept();
        assert_eq!(tables.notes(), Vec::<String>::new(), "{kind:?}");
        assert!(tables.metrics(&tables.uri("")) == found);
    }
}

#[test]
fn properties_get_columns_in_the_commit_of_their_rows() {
    for kind in [Kind::Rest, Kind::Postgres] {
        let Some(tables) = Tables::new(kind, &format!("catalog_columns_{kind:?}").to_lowercase()) else { return };
        tables.dir.write("a.jsonl", lines(1_000));
        tables.dir.write("b.jsonl", lines(3_000).replace("{\"", "{\"more\":0.5,\""));
        for file in ["a.jsonl", "b.jsonl"] {
            let line = format!("evt-ingest {file} --time at -q --dlq null: --to 'LAKE&columns=auto'");
            tables.shell(&line).succeeds();
        }
        let found: Value = serde_json::from_str(&tables.table("columns", &["raw_events"]).text()).expect("JSON");
        assert_eq!(found["rows"], 990 + 2_970, "{kind:?}");
        let columns = &found["columns"];
        assert_eq!(columns["n"], json!(["long", 3_960, 0, 2_999]), "{kind:?}");
        assert_eq!(columns["more"], json!(["double", 2_970, 0.5, 0.5]), "{kind:?}");
        let rows = tables.shell("evt-view 'LAKE&table=raw_events' -q -o jsonl").succeeds().rows();
        let is_more = |row: &&Value| row["properties"]["more"] == 0.5 && row["properties"]["n"].is_i64();
        assert_eq!(rows.iter().filter(is_more).count(), 2_970, "{kind:?}");
    }
}

#[test]
fn the_sections_of_the_page_are_catalogs() {
    let tables = [Kind::Rest, Kind::Postgres].map(|kind| Tables::new(kind, "catalog_page"));
    let [Some(rest), Some(sql)] = tables else { return };
    let block = &blocks("man/evt.7", "CATALOGS")[0];
    let (bucket, options) = (format!("s3://{BUCKET}/page"), "\nbucket-options = \"endpoint=");
    let options = format!("{options}{}&region={}\"", variable("EVT_S3"), variable("EVT_S3_REGION"));
    let (server, database) = (rest.catalog(), sql.catalog());
    let (_, password) = database.split_once("postgres://evt:").expect("a user");
    let (password, database) = password.split_once('@').expect("a password");
    let text = block
        .replace("db.example.com/catalog", database)
        .replace("s3://company-lake/evt", &bucket)
        .replace("\nbucket-options = \"region=eu-central-1&retry=10m\"", &options)
        .replace("https://catalog.example.com/iceberg", &server)
        .replace("warehouse = \"company\"", &options);
    rest.dir.write("evt.toml", text);
    rest.dir.write("a.jsonl", lines(200));
    let secrets = [
        format!("export PGPASSWORD={password} CATALOG_TOKEN=secret"),
        format!(
            "AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={}",
            variable("EVT_S3_ACCESS_KEY"),
            variable("EVT_S3_SECRET_KEY")
        ),
    ]
    .join(" ");
    for name in ["lake", "shared"] {
        let uri = format!("iceberg:{name}?namespace={}", rest.namespace);
        rest.shell(&format!("{secrets}; evt-ingest a.jsonl --time at -q --dlq null: --to '{uri}'")).succeeds();
        let rows = rest.shell(&format!("{secrets}; evt-view '{uri}' -q -o jsonl")).succeeds().rows();
        assert_eq!(rows.len(), 198, "{name}");
    }
}

/// Each request of the catalog and of the bucket fails once, in each of three ways.
#[test]
fn each_request_may_fail_and_each_answer_may_be_lost() {
    let Some(tables) = Tables::new(Kind::Rest, "catalog_faults") else { return };
    let dir = &tables.dir;
    dir.write("a.jsonl", lines(3_000));
    dir.write("m.toml", METRICS);
    dir.write("sum.toml", METRICS.replace("by =", "aggregate = \"sum(n)\"\nby ="));
    let faults = [Fault::Fails, Fault::LosesAnswer, Fault::Cuts];
    let number = Arc::new(AtomicUsize::new(0));
    let decide = |offset: usize| {
        let number = number.clone();
        move |_: &str, _: usize| {
            let at = number.fetch_add(1, Ordering::Relaxed);
            (at % 3 == offset).then(|| faults[at / 3 % 3])
        }
    };
    let (bucket, catalog) =
        (Proxy::before(&variable("EVT_S3"), decide(0)), Proxy::before(&variable("EVT_CATALOG"), decide(1)));
    tables.configure(&bucket.address(), &catalog.address());
    let line = "evt-window a.jsonl --time at -m m.toml --out-of-orderness 3h -q --checkpoint state --checkpoint-every 1ms \
                --to LAKE --to sqlite:m.db --dlq LAKE";
    tables.shell(line).ends_with(0);
    tables.shell("evt-ingest a.jsonl --time at -q --dlq null: --to parquet:raw").ends_with(0);
    for to in ["LAKE", "sqlite:m.db"] {
        tables.shell(&format!("evt-backfill parquet:raw -m sum.toml --all-closed --to {to}")).succeeds();
    }
    tables.shell("evt-lake compact LAKE --now 2100-01-01").succeeds();
    assert!(bucket.requests() > 60 && catalog.requests() > 60, "{} {}", bucket.requests(), catalog.requests());
    tables.configure(&variable("EVT_S3"), &variable("EVT_CATALOG"));
    let found = tables.metrics(&tables.uri(""));
    assert!(found.lines().count() > 400 && found == tables.metrics("sqlite:m.db"), "{found}");
    assert_eq!(tables.compared("dead_letters")["rows"], 30);
    tables.compared("aggregated_metrics");
    assert_eq!(tables.notes(), Vec::<String>::new());
    // A request whose answer was lost has left nothing but what the table names.
    let before = "evt-lake expire LAKE --snapshots 9999d --orphans-older-than 0s --now 2100-01-01 --dry-run";
    let before = tables.shell(before).succeeds().rows();
    assert!(before.iter().all(|table| table["orphans"] == 0), "{before:?}");
}

/// The note of a run that hangs in its commit looks like that of a killed one.
#[test]
fn a_run_that_hangs_in_its_commit_does_not_name_files_that_its_successor_has_removed() {
    let Some(tables) = Tables::new(Kind::Rest, "catalog_fence") else { return };
    let dir = &tables.dir;
    dir.write("a.jsonl", lines(3_000));
    // The table is there, and empty.
    dir.write("none.jsonl", "{\"at\":1704067200,\"n\":-1}\n");
    let ingest = |file: &str| format!("evt-ingest {file} --time at --dlq null: --to LAKE");
    tables.shell(&ingest("none.jsonl")).succeeds();
    let hung = Arc::new(AtomicUsize::new(0));
    let seen = hung.clone();
    let proxy = Proxy::before(&variable("EVT_CATALOG"), move |line, _| {
        let is_commit = line.starts_with("POST ") && line.contains("/tables/");
        (is_commit && seen.fetch_add(1, Ordering::Relaxed) == 0).then_some(Fault::Hangs)
    });
    tables.configure(&variable("EVT_S3"), &proxy.address());
    let line = format!("export EVT_CONFIG=evt.toml; {}", tables.line(&ingest("a.jsonl")));
    let mut first = dir.command("bash", &["-c", &line]).spawn().expect("it starts");
    eventually("the first run commits", || hung.load(Ordering::Relaxed) > 0);
    tables.configure(&variable("EVT_S3"), &variable("EVT_CATALOG"));
    // It removes the files of the first one, and has nothing to add.
    let said = tables.shell(&ingest("none.jsonl")).succeeds().stderr();
    assert!(said.contains("in 1 unchanged 1"), "{said}");
    assert_eq!(ended("the first run", &mut first), 0);
    assert_eq!(tables.compared("raw_events")["rows"], 2_971);
    assert_eq!(tables.notes(), Vec::<String>::new());
}

/// Kills the tools that run in a directory.
fn kill_tools(dir: &Path) {
    let dir = dir.canonicalize().expect("a directory");
    for process in std::fs::read_dir("/proc").expect("processes").filter_map(Result::ok) {
        let link = |name: &str| std::fs::read_link(process.path().join(name)).unwrap_or_default();
        let is_tool = link("exe").file_name().is_some_and(|name| name.to_string_lossy().starts_with("evt"));
        let number = process.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        if let Some(number) = number.filter(|_| is_tool && link("cwd") == dir) {
            // It may have ended.
            let _ = kill_process(number, Signal::KILL);
        }
    }
}

/// Epochs, a correction, a compaction and an expiry; the tool is killed at one request, before or after the server gets
/// it, and runs again. Returns the number of requests.
fn killed_at_request(kind: Kind, name: &str, files: &Path, killed: Option<usize>) -> Option<(Tables, usize)> {
    let tables = Tables::new(kind, name)?;
    let dir = tables.dir.path("");
    let number = Arc::new(AtomicUsize::new(0));
    let decide = || {
        let (number, dir) = (number.clone(), dir.clone());
        move |_: &str, _: usize| {
            let at = number.fetch_add(1, Ordering::SeqCst);
            killed.filter(|killed| *killed == at)?;
            kill_tools(&dir);
            Some(if at % 2 == 0 { Fault::Fails } else { Fault::LosesAnswer })
        }
    };
    let bucket = Proxy::before(&variable("EVT_S3"), decide());
    let catalog = match kind {
        Kind::Rest => Proxy::before(&variable("EVT_CATALOG"), decide()).address(),
        Kind::Postgres => tables.catalog(),
    };
    tables.configure(&bucket.address(), &catalog);
    let files = files.display();
    let lines = [
        format!(
            "evt-window {files}/a.jsonl --time at -m {files}/m.toml --out-of-orderness 3h -q --checkpoint state \
             --checkpoint-every 1ms --to LAKE --dlq LAKE"
        ),
        format!("evt-backfill parquet:{files}/raw -m {files}/sum.toml --all-closed -q --to LAKE"),
        "evt-lake compact LAKE --now 2100-01-01".to_owned(),
        "evt-lake expire LAKE --snapshots 0s --orphans-older-than 0s --now 2100-01-03".to_owned(),
    ];
    let again = |line: &String| format!("{{ {line} || {line} || {line}; }}");
    tables.shell(&lines.each_ref().map(again).join(" && ")).succeeds();
    tables.configure(&variable("EVT_S3"), &tables.catalog());
    Some((tables, number.load(Ordering::SeqCst)))
}

/// One in twenty requests; with EVT_ICEBERG_KILLS=all each of them.
#[test]
fn a_kill_at_any_request_leaves_the_rows_of_an_undisturbed_run() {
    let Some(base) = Tables::new(Kind::Rest, "catalog_kill") else { return };
    let files = base.dir.path("");
    base.dir.write("a.jsonl", lines(1_000));
    base.dir.write("m.toml", METRICS);
    base.dir.write("sum.toml", METRICS.replace("by =", "aggregate = \"sum(n)\"\nby ="));
    let run = |line: &str| base.shell(line).succeeds();
    // Windows that the end of the file leaves open stay open.
    let epochs = "--checkpoint state --checkpoint-every 1ms";
    run(&format!(
        "evt-window a.jsonl --time at -m m.toml --out-of-orderness 3h -q {epochs} --to sqlite:m.db --dlq null:"
    ));
    run("evt-ingest a.jsonl --time at -q --dlq null: --to parquet:raw");
    run("evt-backfill parquet:raw -m sum.toml --all-closed -q --to sqlite:m.db");
    let right = base.metrics(&format!("sqlite:{}/m.db", files.display()));
    let step = if std::env::var("EVT_ICEBERG_KILLS").is_ok_and(|text| text == "all") { 1 } else { 20 };
    for kind in [Kind::Rest, Kind::Postgres] {
        let name = |at: usize| format!("catalog_kill_{kind:?}_{at}").to_lowercase();
        let all = killed_at_request(kind, &name(usize::MAX), &files, None).expect("the servers are there").1;
        assert!(all > 100, "{kind:?}: {all} requests");
        for at in (step / 2..all).step_by(step) {
            let (tables, _) = killed_at_request(kind, &name(at), &files, Some(at)).expect("the servers are there");
            let is_right = || {
                let found = tables.metrics(&tables.uri(""));
                let differs = found.lines().find(|line| !right.lines().any(|other| other == *line));
                let told = format!("{kind:?}: killed at request {at} of {all}: {differs:?}");
                assert!(found == right, "{told}, {} rows of {}", found.lines().count(), right.lines().count());
            };
            is_right();
            let letters = tables.shell("evt-view 'LAKE&table=dead_letters' -q -o jsonl").succeeds().rows().len();
            assert_eq!(letters, 10, "{kind:?}: killed at request {at} of {all}");
            for table in tables.kept() {
                let told = format!("{kind:?}: killed at request {at} of {all}: {table}");
                assert_eq!((&table["snapshots"], &table["files"]), (&json!(1), &table["days"]), "{told}");
            }
            is_right();
            assert_eq!(tables.notes(), Vec::<String>::new(), "{kind:?}: killed at request {at} of {all}");
        }
    }
}
