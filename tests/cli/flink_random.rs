//! evt-flink: random metrics of random events have, on a real Flink, the rows of evt-window. `EVT_FLINK_PIPELINES` is
//! the number of pipelines, and `EVT_SEED` the first one.

use crate::broker::Bench;
use crate::flink::{flink, jar};
use crate::flink_cluster::{Cluster, closing};
use crate::harness::{Dir, Draws};
use crate::servers::server;
use rdkafka::producer::BaseRecord;
use std::fmt::Write;

/// Numbers, texts and conditions of metrics.
const NUMBERS: [&str; 22] = [
    "amount",
    "coalesce(amount, 0.5)",
    "amount * 2 - 1",
    "amount / n",
    "n % 7",
    "-n",
    "abs(n - 5)",
    "round(amount / 3)",
    "floor(amount)",
    "ceil(n / 7)",
    "cast(substr(user_id, 2) as double)",
    "case when event_type = 'buy' then n else amount end",
    "case event_type when 'buy' then 1 when 'view' then n end",
    "length(t)",
    "try_cast(t as double)",
    "a.b[1]",
    "cast(client_timestamp as double) % 1000",
    "cast(replace(price, ',', '.') as double)",
    "length(regexp_extract(t, '([a-z]+)\\W?', 1))",
    "a.b[-1]",
    "\"odd.name;'`\"",
    "try_cast(price as double)",
];
const TEXTS: [&str; 18] = [
    "user_id",
    "t",
    "upper(trim(t))",
    "split_part(t, '-', 1)",
    "split_part(t, '-', -1)",
    "substr(t, 2, 3)",
    "replace(t, '-', '$1')",
    "regexp_extract(t, '([a-z]+)-?', 1)",
    "event_type || ':' || coalesce(t, 'none')",
    "cast(n as text)",
    "cast(flag as text)",
    "cast(date_trunc('hour', client_timestamp) as text)",
    "lower(t)",
    "a",
    "a.b",
    "cast(amount as text)",
    "\"odd.name;'`\"",
    "case when n > 5 then t else user_id end",
];
const CONDITIONS: [&str; 21] = [
    "event_type = 'buy'",
    "n > 3",
    "n between 2 and 9",
    "n not between 2 and 4",
    "t like '%-y%'",
    "t not like 'x_%'",
    "t ~ '^\\w+$'",
    "not t ~ '\\bz\\b'",
    "event_type in ('view', 'error')",
    "n in (1, 2, amount)",
    "user_id is not null",
    "flag",
    "not flag or n < 5",
    "amount <> 0",
    "starts_with(t, 'x') and n >= 1",
    "contains(t, 'ü')",
    "ends_with(t, 'z')",
    "date_trunc('minute', client_timestamp) <> client_timestamp",
    "case when n > 5 then flag else event_type = 'buy' end",
    "a.b[2] = 'x'",
    "try_cast(price as double) is null",
];
/// Lengths, slides and shifts of windows, and periods of zones.
const WINDOWS: [&str; 17] = [
    "size = '7s'",
    "size = '1m'",
    "size = '90s'",
    "size = '1h'",
    "size = '1d'",
    "size = '5m'\nslide = '1m'",
    "size = '70s'\nslide = '30s'",
    "size = '20s'\nslide = '45s'",
    "size = '2m'\nalign = '-7s'",
    "size = '10m'\nslide = '4m'\nalign = '13s'",
    "gap = '20s'",
    "gap = '3m'",
    "size = '1d'\nzone = 'America/New_York'",
    "size = '1w'\nzone = 'Europe/Zurich'",
    "size = '1mo'\nzone = 'Asia/Kolkata'",
    "size = '1q'",
    "size = '1y'\nzone = 'Pacific/Auckland'",
];
const NAMES: [&str; 6] = ["plain", "n'; DROP TABLE x; -- ", "\\\"q\\\" /* c */", "é`ü😀", "a.b", "CASE END"];
/// Values of properties in JSON.
const AMOUNTS: [&str; 16] = [
    "12.50",
    "0.1",
    "-0.0",
    "\" 7 \"",
    "1e-7",
    "0.30000000000000004",
    "123456789012345678901",
    "1e308",
    "-1e308",
    "null",
    "0",
    "\"+.5\"",
    "-3",
    "99.995",
    "1234.5678e-2",
    "\"007\"",
];
const ODD_AMOUNTS: [&str; 5] = ["\"n/a\"", "true", "[1]", "1e309", "\"\""];
const LETTERS: [&str; 10] =
    ["x-y-z", "\\u00fc;--'", "Trim \\t", "", "1.5", "x", "\\\"q\\\"", "\\ud83d\\ude00-z", "\\u0130stanbul", "12"];
/// Instants (s since 1970) shortly before clocks change or a year begins.
const BEGINNINGS: [i64; 4] = [1_774_746_000, 1_793_505_600, 1_798_700_400, 1_772_323_100];

/// A pipeline: metrics, events, and how both are run.
struct Pipeline {
    metrics: String,
    events: Vec<String>,
    /// Records that are no events.
    junk: Vec<&'static str>,
    partitions: i32,
    parallelism: u64,
    bound: i64,
    is_partial: bool,
    /// The flag that names the event time.
    time: &'static str,
    /// Whether the topic has Avro.
    is_avro: bool,
    /// Whether the job runs on a cluster, with checkpoints and without an end.
    is_endless: bool,
}

impl Pipeline {
    fn random(seed: u64) -> Self {
        let mut draws = Draws::of(seed);
        let partitions = 1 + draws.below(8) as i32;
        let bound = [0, 5, 30, 300][draws.below(4) as usize];
        let count = 1 + draws.below(12).min(draws.below(12));
        let metrics = (0..count).map(|number| metric(&mut draws, number)).collect();
        let events = events(&mut draws, bound);
        let junk = match draws.below(3) {
            0 => vec!["no JSON", "[1]", "{\"source\":\"s\"", ""],
            _ => vec![],
        };
        let parallelism = 1 + draws.below(4).min(partitions as u64 - 1);
        let is_partial = draws.below(2) == 0;
        let time = one(&mut draws, &["--time client_timestamp", ""]);
        let is_avro = draws.below(3) == 0;
        let is_endless = draws.below(5) == 0;
        Self { metrics, events, junk, partitions, parallelism, bound, is_partial, time, is_avro, is_endless }
    }
}

fn one<'a>(draws: &mut Draws, of: &[&'a str]) -> &'a str {
    of[draws.below(of.len() as u64) as usize]
}

fn metric(draws: &mut Draws, number: u64) -> String {
    let name = format!("{} {number}", one(draws, &NAMES));
    let aggregate = aggregate(draws);
    let windows = one(draws, &WINDOWS);
    let mut text = format!("[[metric]]\nname = \"{name}\"\naggregate = '''{aggregate}'''\n{windows}\n");
    if draws.below(2) == 0 {
        let lateness = one(draws, &["5s", "1m", "10m"]);
        _ = writeln!(text, "lateness = '{lateness}'");
    }
    if draws.below(3) == 0 {
        let condition = one(draws, &CONDITIONS);
        _ = writeln!(text, "where = '''{condition}'''");
    }
    let mut by: Vec<String> = (0..draws.below(3)).map(|at| format!("d{at}={}", one(draws, &TEXTS))).collect();
    // Sessions of a key in several partitions depend on their interleaving.
    by.extend(windows.starts_with("gap").then(|| "user_id".to_owned()));
    if !by.is_empty() {
        _ = writeln!(text, "by = [{}]", by.iter().map(|by| format!("'''{by}'''")).collect::<Vec<_>>().join(", "));
    }
    text
}

fn aggregate(draws: &mut Draws) -> String {
    let function = one(
        draws,
        &[
            "count(*)",
            "count(T)",
            "sum(N)",
            "avg(N)",
            "min(N)",
            "max(N)",
            "first(N)",
            "last(N)",
            "stddev(N)",
            "count_distinct(T)",
            "approx_distinct(T)",
            "approx_percentile(N, 0.5)",
            "approx_percentile(N, 0.99)",
            "rate(*)",
            "rate(T)",
            "ratio(C)",
            "ratio(C, C)",
        ],
    );
    let mut text = String::new();
    for letter in function.chars() {
        match letter {
            'N' => text.push_str(one(draws, &NUMBERS)),
            'T' => text.push_str(one(draws, &TEXTS)),
            'C' => text.push_str(one(draws, &CONDITIONS)),
            other => text.push(other),
        }
    }
    if draws.below(3) == 0 {
        _ = write!(text, " filter (where {})", one(draws, &CONDITIONS));
    }
    text
}

/// Events in the order in which they come; up to half of them are behind the out-of-orderness (s), some far more than
/// windows are long.
fn events(draws: &mut Draws, bound: i64) -> Vec<String> {
    let mut time = BEGINNINGS[draws.below(4) as usize] * 1_000_000;
    let step = [300_000, 2_000_000, 60_000_000, 40_000_000_000][draws.below(4) as usize];
    let (late, odd) = (draws.below(6) * 10, [0, 0, 2][draws.below(3) as usize]);
    let users = 1 + draws.below(40);
    let mut events = vec![];
    for _ in 0..600 + draws.below(600) {
        time += draws.below(step) as i64;
        let behind = match draws.below(100) < late {
            true => (bound as u64 * 1_000_000 + step) << draws.below(9),
            false => draws.below(bound as u64 * 1_000_000 + 1),
        };
        events.push(event(draws, time - behind as i64, odd, users));
    }
    events
}

fn event(draws: &mut Draws, micros: i64, odd: u64, users: u64) -> String {
    let time = evt_core::time::format_instant(micros);
    let mut properties = vec![];
    let is_odd = |draws: &mut Draws| draws.below(100) < odd;
    let amounts: &[&str] = if is_odd(draws) { &ODD_AMOUNTS } else { &AMOUNTS };
    properties.push(format!("\"amount\":{}", one(draws, amounts)));
    properties.push(format!("\"t\":\"{}\"", one(draws, &LETTERS)));
    properties.push(match is_odd(draws) {
        true => "\"n\":\"many\"".to_owned(),
        false => format!("\"n\":{}", draws.below(12)),
    });
    properties.push(format!("\"flag\":{}", one(draws, &["true", "false", "\"t\"", "null"])));
    properties.push(format!("\"price\":\"{},5\"", draws.below(100)));
    properties.push(format!(
        "\"a\":{{\"b\":[{}, \"{}\", {}]}}",
        draws.below(5),
        one(draws, &["x", "y"]),
        draws.below(3)
    ));
    properties.push(format!("\"odd.name;'`\":{}", draws.below(4)));
    // Any of them may be absent.
    properties.retain(|_| draws.below(12) > 0);
    let kind = one(draws, &["view", "buy", "error"]);
    format!(
        r#"{{"source":"s","event_type":"{kind}","user_id":"u{}","properties":{{{}}},"client_timestamp":"{time}"}}"#,
        draws.below(users),
        properties.join(",")
    )
}

/// When no window of the events is open any more.
const CLOSED: &str = "2200-01-01T00:00:00Z";

/// Where the parts of a pipeline are.
struct Place {
    pipeline: Pipeline,
    number: u64,
    seed: u64,
    /// The topic of events, and its options.
    events: String,
    options: String,
    outputs: [String; 3],
}

impl Place {
    fn new(bench: &Bench, registry: &str, number: u64, seed: u64) -> Self {
        let pipeline = Pipeline::random(seed);
        let topic = |name: &str, partitions: i32| bench.topic(name, partitions, &[]);
        let events = topic(&format!("events-{number}"), pipeline.partitions);
        let end = if pipeline.is_endless { "" } else { "-proof" };
        let outputs = ["metrics", "late", "dead"].map(|name| topic(&format!("{name}-{number}{end}"), 1));
        let options =
            if pipeline.is_avro { format!("?format=avro&schemas={registry}") } else { "?format=json".to_owned() };
        Self { pipeline, number, seed, events, options, outputs }
    }

    /// Fills its topic; returns the script of its job.
    fn job(&self, bench: &Bench, jar: &str) -> String {
        let (dir, pipeline, number) = (&bench.dir, &self.pipeline, self.number);
        let end = if pipeline.is_endless { closing(CLOSED) } else { String::new() };
        dir.write("events.jsonl", pipeline.events.join("\n") + "\n" + &end);
        dir.write(&format!("m-{number}.toml"), &pipeline.metrics);
        let input = bench.uri(&self.events, &self.options);
        dir.shell(&format!("evt-ingest events.jsonl --time client_timestamp -q --to '{input}&key=user_id'")).succeeds();
        bench.produce(
            pipeline.junk.iter().map(|junk| BaseRecord::to(&self.events).key(&b""[..]).payload(junk.as_bytes())),
        );
        let [metrics, late, dead] = self.outputs.each_ref().map(|topic| bench.uri(topic, ""));
        // The script of the proof adds the end of these names.
        let [metrics, late, dead] = [metrics, late, dead].map(|uri| uri.replace("-proof", ""));
        dir.shell(&format!(
            "evt-flink -m m-{number}.toml '{input}' --to {metrics} --late {late} --dlq {dead} {} --dir job-{number} \
             --jar '{jar}' --checkpoint-every 1s --pipeline {}-{number}",
            self.flags(),
            bench.prefix
        ))
        .succeeds();
        let parallelism = format!("SET 'parallelism.default' = '{}';\n", pipeline.parallelism);
        if pipeline.is_endless {
            let script = dir.shell(&format!("cat job-{number}/job.sql")).text();
            return format!("ADD JAR '{jar}';\n{parallelism}{script}");
        }
        let script = dir.shell(&format!("sed 's/@FROM@/0/; s/@UNTIL@/4102444800000/' job-{number}/proof.sql")).text();
        // A catalog for each job: all have the same names.
        format!(
            "CREATE CATALOG job_{number} WITH ('type' = 'generic_in_memory');\nUSE CATALOG job_{number};\n\
             {parallelism}{script}"
        )
    }

    fn flags(&self) -> String {
        let partial = if self.pipeline.is_partial { " --late-partial" } else { "" };
        format!("{} --out-of-orderness {}s{partial}", self.pipeline.time, self.pipeline.bound)
    }

    /// The names of the files of evt-window.
    fn files(&self) -> [String; 3] {
        ["metrics", "late", "dead"].map(|name| format!("{name}-{}.jsonl", self.number))
    }

    /// Runs evt-window.
    fn window(&self, bench: &Bench) {
        let input = bench.uri(&self.events, &format!("{}&end=latest", self.options));
        let [metrics, late, dead] = &self.files();
        let at_end = if self.pipeline.is_endless { " --at-end hold" } else { "" };
        let run = bench.dir.shell(&format!(
            "evt-window '{input}' -m m-{}.toml {}{at_end} --emit final -q --to {metrics} --late {late} --dlq {dead}",
            self.number,
            self.flags()
        ));
        assert!(matches!(run.status(), 0 | 1), "{run}");
    }

    /// Runs a job that has no end until it has written as many rows as evt-window.
    fn run_endless(&self, bench: &Bench, cluster: &Cluster, jar: &str) {
        cluster.submit(&bench.dir, &self.job(bench, jar));
        self.window(bench);
        for (kind, file) in self.files().iter().enumerate() {
            let wanted = rows(&bench.dir, kind, file).len();
            if wanted > 0 {
                cluster.wait_for_rows(&bench.dir, &bench.uri(&self.outputs[kind], ""), wanted);
            }
        }
        cluster.cancel(&bench.dir);
    }

    /// Compares what the job wrote with the rows of evt-window; returns their numbers.
    fn check(&self, bench: &Bench) -> [usize; 3] {
        let (dir, files) = (&bench.dir, self.files());
        std::array::from_fn(|kind| {
            let wanted = rows(dir, kind, &files[kind]);
            let found = rows(dir, kind, &format!("'{}'", bench.uri(&self.outputs[kind], "?end=latest")));
            if wanted != found {
                let only = |these: &[String], those: &[String]| these.iter().find(|row| !those.contains(row)).cloned();
                panic!(
                    "seed {}, {}: {} rows of evt-window, {} of Flink\nonly of evt-window: {:?}\nonly of Flink: {:?}\n{}",
                    self.seed,
                    files[kind],
                    wanted.len(),
                    found.len(),
                    only(&wanted, &found),
                    only(&found, &wanted),
                    self.pipeline.metrics
                );
            }
            wanted.len()
        })
    }
}

/// The columns that a job and evt-window must agree about, for metrics, late events and dead letters.
const COLUMNS: [&str; 3] = [
    "metric_id,metric_name,window_start,window_end,dimensions,value,rows,revision,retracted",
    "partition,offset,event_id,event_time,server_timestamp,properties,late_for,partial,stream_time",
    "partition,offset,error_type,metrics,partial",
];

fn rows(dir: &Dir, kind: usize, input: &str) -> Vec<String> {
    let view = format!("evt-view {input} -q --columns {} -o csv | tail -n +2 | sort", COLUMNS[kind]);
    dir.shell(&view).succeeds().text().lines().map(str::to_owned).collect()
}

#[test]
fn random_metrics_of_random_events_are_equal() {
    let Some(bench) = Bench::new("flink-random") else { return };
    let Some(jar) = jar() else { return };
    let Some(registry) = server("EVT_REGISTRY") else { return };
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (first, count) = (number("EVT_SEED", 1), number("EVT_FLINK_PIPELINES", 20));
    let places: Vec<Place> = (0..count).map(|at| Place::new(&bench, &registry, at, first + at)).collect();
    let (endless, bounded): (Vec<_>, Vec<_>) = places.iter().partition(|place| place.pipeline.is_endless);
    let jobs: String = bounded.iter().map(|place| place.job(&bench, &jar)).collect();
    bench.dir.write("all.sql", format!("ADD JAR '{jar}';\n{jobs}"));
    let run = bench.dir.shell(&format!("{} all.sql >flink.log 2>&1", flink("sql")));
    let log = || bench.dir.shell("grep -a 'Caused by\\|ERROR' flink.log | tail -n 5").text();
    assert_eq!(run.status(), 0, "{}", log());
    bounded.iter().for_each(|place| place.window(&bench));
    if !endless.is_empty() {
        let cluster = Cluster::start(&bench.dir);
        endless.iter().for_each(|place| place.run_endless(&bench, &cluster, &jar));
    }
    let mut sums = [0; 3];
    for place in &places {
        let found = place.check(&bench);
        println!("seed {}: {found:?} metrics, late events and dead letters", first + place.number);
        sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
    }
    assert!(sums.iter().all(|sum| *sum > 50), "{sums:?}: too few rows to say something; {}", log());
}
