//! evt-flink: jobs on a cluster have the rows of evt-window although TaskManagers are killed, jobs are stopped and
//! continued with more tasks, and partitions are added.

use crate::broker::{Bench, Broker};
use crate::flink::{METRICS, events_from, flink, jar};
use crate::groups::add_partition;
use crate::harness::{Dir, LONG_WAIT, eventually_within};
use serde_json::Value;
use std::fmt::Write;

const FLAGS: &str = "--time client_timestamp --out-of-orderness 10s";

/// A cluster: a JobManager and two TaskManagers.
pub struct Cluster {
    broker: Broker,
    /// The URI of the REST interface.
    address: String,
}

impl Cluster {
    /// Starts one whose state is in a directory, which must outlive it.
    pub fn start(dir: &Dir) -> Self {
        let broker = Broker { state: dir.path("cluster"), name: "flink" };
        let address = broker.start();
        Self { broker, address }
    }

    /// Starts the job of a script.
    pub fn submit(&self, dir: &Dir, script: &str) {
        dir.write("submit.sql", script);
        dir.shell(&format!("EVT_FLINK={} {} submit.sql", self.address, flink("submit"))).succeeds();
    }

    /// Asks the REST interface.
    fn ask(&self, dir: &Dir, path: &str) -> Value {
        let run = dir.shell(&format!("curl -sS --fail --max-time 30 {}/{path}", self.address)).succeeds();
        serde_json::from_slice(run.stdout()).expect("it is JSON")
    }

    /// The id of the job that has not ended.
    fn id(&self, dir: &Dir) -> String {
        let jobs = self.ask(dir, "jobs");
        let mut jobs = jobs["jobs"].as_array().expect("a list").iter();
        let is_over = |job: &Value| ["FINISHED", "CANCELED"].iter().any(|status| job["status"] == *status);
        let job = jobs.find(|job| !is_over(job)).unwrap_or_else(|| panic!("no job runs: {jobs:?}"));
        job["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until a topic has so many rows. If they do not come, says what Flink says of the job.
    pub fn wait_for_rows(&self, dir: &Dir, topic: &str, number: usize) {
        let view = format!("evt-view '{topic}' --follow -q -o jsonl --head {number} >/dev/null");
        let run = dir.shell(&format!("timeout {} {view}", LONG_WAIT.as_secs()));
        let ask = |path: &str| self.ask(dir, &format!("jobs/{}{path}", self.id(dir))).to_string();
        let said = || ["", "/exceptions", "/checkpoints"].map(ask).join("\n");
        assert_eq!(run.status(), 0, "{topic}: expected {number} rows; {}", said());
    }

    /// Cancels the job.
    pub fn cancel(&self, dir: &Dir) {
        let id = self.id(dir);
        dir.shell(&format!("curl -sS --fail --max-time 30 -X PATCH {}/jobs/{id}", self.address)).succeeds();
        eventually_within(LONG_WAIT, "the job is cancelled", || {
            self.ask(dir, &format!("jobs/{id}"))["state"] == "CANCELED"
        });
    }
}

/// A job on a cluster of its own.
struct Job {
    /// Ends before the directory of its state is gone.
    cluster: Cluster,
    bench: Bench,
    events: String,
    outputs: [String; 3],
}

impl Job {
    /// Starts a cluster, and writes the files of a job. `None`, with one message, if something is not there.
    fn new(name: &str, partitions: i32) -> Option<Self> {
        let bench = Bench::new(name)?;
        let jar = jar()?;
        let cluster = Cluster::start(&bench.dir);
        let topic = |name: &str, partitions| bench.uri(&bench.topic(name, partitions, &[]), "");
        let (events, outputs) = (topic("events", partitions), ["metrics", "late", "dead"].map(|name| topic(name, 2)));
        let [metrics, late, dead] = &outputs;
        bench.dir.write("m.toml", METRICS);
        bench
            .dir
            .shell(&format!(
                "evt-flink -m m.toml {events} --to {metrics} --late {late} --dlq {dead} {FLAGS} --checkpoint-every 1s \
                 --dir job --jar '{jar}' --pipeline {}; echo \"ADD JAR '{jar}';\" > jar.sql",
                bench.prefix
            ))
            .succeeds();
        Some(Self { cluster, bench, events, outputs })
    }

    fn dir(&self) -> &Dir {
        &self.bench.dir
    }

    /// Starts the job with settings.
    fn submit(&self, settings: &str) {
        let [jar, job] = ["jar.sql", "job/job.sql"].map(|name| self.dir().shell(&format!("cat {name}")).text());
        self.cluster.submit(self.dir(), &format!("{jar}{settings}{job}"));
    }

    fn ingest(&self, events: &str) {
        self.dir().write("more.jsonl", events);
        let line = format!("evt-ingest more.jsonl --time client_timestamp -q --to '{}?key=user_id'", self.events);
        self.dir().shell(&line).succeeds();
    }

    /// Asks the REST interface.
    fn ask(&self, path: &str) -> Value {
        self.cluster.ask(self.dir(), path)
    }

    /// The id of the job that has not ended.
    fn id(&self) -> String {
        self.cluster.id(self.dir())
    }

    /// Stops the job with a savepoint; returns its place.
    fn stop(&self) -> String {
        let id = self.id();
        let trigger = self.ask(&format!("jobs/{id}/stop -H 'Content-Type: application/json' -d '{{\"drain\":false}}'"));
        let trigger = trigger["request-id"].as_str().expect("an id");
        let mut answer = Value::Null;
        eventually_within(LONG_WAIT, "the savepoint is complete", || {
            answer = self.ask(&format!("jobs/{id}/savepoints/{trigger}"));
            answer["status"]["id"] == "COMPLETED"
        });
        answer["operation"]["location"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// The rows that windows of Flink dropped because they came too late.
    fn dropped(&self) -> u64 {
        let id = self.id();
        let mut sum = 0;
        for vertex in self.ask(&format!("jobs/{id}"))["vertices"].as_array().expect("a list") {
            let path = format!("jobs/{id}/vertices/{}/subtasks/metrics", vertex["id"].as_str().expect("an id"));
            let names = self.ask(&path);
            let names = names.as_array().expect("a list").iter().filter_map(|metric| metric["id"].as_str());
            for name in names.filter(|name| name.ends_with("numLateRecordsDropped")) {
                let found = self.ask(&format!("{path} -G --data-urlencode 'get={name}'"));
                sum += found[0]["sum"].as_f64().expect("a number") as u64;
            }
        }
        sum
    }

    /// The metrics that are visible.
    fn metrics(&self) -> Vec<String> {
        metrics(self.dir(), &format!("{}?end=latest", self.outputs[0]))
    }

    /// Waits until so many metrics are visible.
    fn wait_for_metrics(&self, number: usize) {
        self.cluster.wait_for_rows(self.dir(), &self.outputs[0], number);
    }

    /// Waits until the job has written what evt-window writes for the windows that are closed, and no more.
    fn check(&self) {
        let dir = self.dir();
        dir.shell(&format!(
            "evt-window '{}?end=latest' -m m.toml {FLAGS} --emit final --at-end hold -q --late late.jsonl --dlq dead.jsonl \
             --to metrics.jsonl",
            self.events
        ));
        let wanted = metrics(dir, "metrics.jsonl");
        assert!(wanted.len() > 50, "{} rows", wanted.len());
        self.wait_for_metrics(wanted.len());
        assert_eq!(self.metrics(), wanted);
        for (topic, file) in self.outputs[1..].iter().zip(["late.jsonl", "dead.jsonl"]) {
            let rows =
                || dir.shell(&format!("evt-view '{topic}?end=latest' -q -o jsonl | wc -l")).text().trim().to_owned();
            let wanted = dir.rows(file).len().to_string();
            eventually_within(LONG_WAIT, "all late events and letters are visible", || rows() == wanted);
        }
        assert_eq!(self.dropped(), 0);
    }
}

/// When no window of the events is open any more.
const CLOSED: &str = "2026-01-09T00:00:00Z";

/// The rows of metrics, without what differs in every run.
fn metrics(dir: &Dir, uri: &str) -> Vec<String> {
    let columns = "metric_id,window_start,window_end,value,rows";
    let run = dir.shell(&format!("evt-view '{uri}' -q --columns {columns} -o csv | tail -n +2 | sort"));
    run.succeeds().text().lines().map(str::to_owned).collect()
}

/// The last events, at an instant, which close all windows before them: some for each partition.
pub fn closing(instant: &str) -> String {
    (0..64).fold(String::new(), |mut text, user| {
        let user = format!(r#""user_id":"e{user}""#);
        _ = writeln!(text, r#"{{"source":"s","event_type":"end",{user},"client_timestamp":"{instant}"}}"#);
        text
    })
}

#[test]
fn a_killed_task_manager_changes_no_row() {
    let Some(job) = Job::new("flink-killed", 2) else { return };
    let events = events_from(600_000);
    let lines: Vec<&str> = events.lines().collect();
    let (first, second) = lines.split_at(lines.len() / 2);
    job.submit("");
    job.ingest(&(first.join("\n") + "\n"));
    job.wait_for_metrics(1);
    job.cluster.broker.services(&["kill", "flink.1", "flink.2"]);
    job.ingest(&(second.join("\n") + "\n" + &closing(CLOSED)));
    job.cluster.broker.services(&["start", "flink.1", "flink.2"]);
    job.check();
}

#[test]
fn savepoints_a_new_partition_and_more_tasks_change_no_row() {
    let Some(job) = Job::new("flink-savepoint", 1) else { return };
    let submit = |tasks: u32, settings: &str| {
        job.submit(&format!("SET 'parallelism.default' = '{tasks}';\n{settings}"));
    };
    submit(1, "");
    job.ingest(&events_from(600_000));
    job.wait_for_metrics(1);
    let savepoint = job.stop();
    // As README.md of the job says: a partition is added while the job is stopped, and tasks after a savepoint of it.
    add_partition(&job.bench, job.events.rsplit('/').next().expect("a name"));
    submit(1, &format!("SET 'execution.state-recovery.path' = '{savepoint}';\n"));
    // Nothing closes before both partitions have a record; the new one has none that is older than what has been read.
    let before = job.metrics().len();
    job.ingest(&events_from(1_800_000));
    job.wait_for_metrics(before + 1);
    let savepoint = job.stop();
    submit(2, &format!("SET 'execution.state-recovery.path' = '{savepoint}';\n"));
    job.ingest(&closing(CLOSED));
    job.check();
}
