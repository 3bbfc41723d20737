//! Metrics for Prometheus: one table of names ([`all`], evt(7)); values are set once per batch from the existing
//! counts. Those of the HTTP server are counted where requests are served.
//!
//! A value is set, not incremented: the counts of a stage are the truth, and a scrape shows them as of the last batch.
//! Labels are few and bounded by the command line: no ids, no keys.

use evt_core::op::state_storage::StateSize;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It only grows, from 0 when the process starts.
    Counter,
    /// It can increase and decrease.
    Gauge,
    /// Counts of values up to each of some bounds, their sum, and their number.
    Histogram,
}

impl Shape {
    /// Returns Prometheus' word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The lag of a partition that is read.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerLag<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition's number.
    pub partition: i32,
    /// Offsets not read yet.
    pub records: u64,
    /// If known.
    pub seconds: Option<f64>,
}

/// One metric: a row of the table in evt(7).
#[derive(Debug)]
pub struct Definition {
    /// Its name; that of a counter ends in `_total`.
    pub name: &'static str,
    /// Its type.
    pub shape: Shape,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// Its help text, one sentence.
    pub about: &'static str,
}

impl Definition {
    /// Returns the name without the suffix that the client library adds to counters.
    pub fn family(&self) -> &'static str {
        self.name.strip_suffix("_total").filter(|_| self.shape == Shape::Counter).unwrap_or(self.name)
    }
}

const fn counter(name: &'static str, labels: &'static [&'static str], about: &'static str) -> Definition {
    Definition { name, shape: Shape::Counter, labels, about }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], about: &'static str) -> Definition {
    Definition { name, shape: Shape::Gauge, labels, about }
}

/// Outcomes of records: `in`, and by the law of counts the sum of all other outcomes.
pub static EVENTS: Definition = counter(
    "evt_events_total",
    &["stage", "outcome"],
    "Records read (in) and their outcomes: in = out + dead + dropped + duplicate + late + filtered.",
);
/// Faults, by type.
pub static DEAD_LETTERS: Definition =
    counter("evt_dead_letters_total", &["error_type"], "Faulty records, written to --dlq or dropped.");
/// Outcomes of rows in an output.
pub static SINK_ROWS: Definition = counter(
    "evt_sink_rows_total",
    &["output", "outcome"],
    "Rows per output and outcome; files and topics have only the outcome written.",
);
/// Whether an output is available.
pub static OUTPUT_UP: Definition =
    gauge("evt_output_up", &["output"], "1 if the server of an output is available, 0 while the stage waits.");
/// Time blocked.
pub static BACKPRESSURE: Definition = counter(
    "evt_backpressure_seconds_total",
    &["side"],
    "Time blocked: waiting for input (side input) or writing to outputs (side output).",
);
/// The stream time.
pub static STREAM_TIME: Definition =
    gauge("evt_stream_time_seconds", &[], "The largest event time so far, in seconds since 1970.");
/// The distance of the watermark behind the clock.
pub static WATERMARK_LAG: Definition =
    gauge("evt_watermark_lag_seconds", &[], "The current time minus the watermark (evt-window).");
/// Records not yet read.
pub static CONSUMER_LAG_RECORDS: Definition =
    gauge("evt_consumer_lag_records", &["topic", "partition"], "Records of a topic partition not read yet.");
/// The lag in seconds.
pub static CONSUMER_LAG_SECONDS: Definition = gauge(
    "evt_consumer_lag_seconds",
    &["topic", "partition"],
    "The current time minus the timestamp of the last record read from a topic partition; 0 at its end.",
);
/// Windows with state.
pub static OPEN_WINDOWS: Definition =
    gauge("evt_open_windows", &[], "Windows that hold rows and have not fired (evt-window).");
/// The duration of the last epoch's end.
pub static CHECKPOINT_DURATION: Definition = gauge(
    "evt_checkpoint_duration_seconds",
    &[],
    "How long the last epoch took to be complete and committed (--checkpoint).",
);
/// The number of the last complete epoch.
pub static CHECKPOINT_EPOCH: Definition =
    gauge("evt_checkpoint_epoch", &[], "The number of the last complete epoch of this run (--checkpoint).");
/// The size of the last complete epoch.
pub static CHECKPOINT_BYTES: Definition =
    gauge("evt_checkpoint_bytes", &[], "The bytes of the last complete epoch (--checkpoint).");
/// The duration of the recovery.
pub static RECOVERY: Definition = gauge(
    "evt_recovery_seconds",
    &[],
    "The time from the start of the process until the last complete epoch was restored and committed (--checkpoint).",
);
/// Keys with state.
pub static STATE_KEYS: Definition = gauge(
    "evt_state_keys",
    &[],
    "Keys with state in windows; those in files are counted when they are read (evt-window). Ids of --dedup (evt-validate).",
);
/// The size of the state.
pub static STATE_BYTES: Definition = gauge(
    "evt_state_bytes",
    &["place"],
    "State in memory (approximate) and in files (disk): windows (evt-window), ids of --dedup (evt-validate).",
);
/// Alerts that fire.
pub static ALERTS_FIRING: Definition = gauge("evt_firing_alerts", &[], "Alerts that fire now (evt-alert).");
/// Rows of too many groups.
pub static ALERT_ROWS_REJECTED: Definition = counter(
    "evt_alert_rejected_rows_total",
    &[],
    "Rows that rules left out because their groups are beyond --max-groups, since the state began (evt-alert).",
);
/// Alerts that NULL kept from firing.
pub static ALERT_INTERRUPTIONS: Definition = counter(
    "evt_alert_interruptions_total",
    &["rule", "dimensions"],
    "How often NULL ended the time of for before the alert fired: the first ten groups of a rule, and all others (evt-alert).",
);
/// Notifications by channel and outcome.
pub static NOTIFICATIONS: Definition = gauge(
    "evt_alert_notifications",
    &["channel", "outcome"],
    "Notifications in the state file by outcome: due, or lost (refused or given up) (evt-alert).",
);
/// Bytes of the spool.
pub static SPOOL: Definition = gauge("evt_spool_bytes", &[], "Size of the spool (evt-ingest --spool).");
/// The running version.
pub static BUILD: Definition =
    gauge("evt_build_info", &["stage", "version"], "1; the labels are the stage and version.");
/// The start of the process.
pub static START: Definition =
    gauge("process_start_time_seconds", &[], "Start time of the process, in seconds since 1970.");
/// CPU time so far.
pub static CPU: Definition = counter("process_cpu_seconds_total", &[], "CPU time used, user and system.");
/// Its memory.
pub static MEMORY: Definition = gauge("process_resident_memory_bytes", &[], "Resident memory size.");

/// Events over HTTP, by outcome.
pub static HTTP_EVENTS: Definition = counter(
    "evt_http_events_total",
    &["outcome"],
    "Events received over HTTP: accepted, duplicate (same id or Idempotency-Key as before) or rejected.",
);
/// Requests over HTTP, by status.
pub static HTTP_REQUESTS: Definition =
    counter("evt_http_requests_total", &["status"], "HTTP requests by response status.");
/// Bytes of bodies over HTTP.
pub static HTTP_BODY: Definition =
    counter("evt_http_body_bytes_total", &[], "Bytes of HTTP request bodies as received, compressed or not.");
/// Open connections.
pub static HTTP_CONNECTIONS: Definition = gauge("evt_http_connections", &[], "Open client connections.");
/// Refused connections.
pub static HTTP_REFUSED: Definition = counter(
    "evt_http_refused_connections_total",
    &["reason"],
    "Connections refused or closed early: too_many, tls, malformed, slow_head, slow_reader, idle, broken, accept.",
);
/// Seconds per request over HTTP.
pub static HTTP_SECONDS: Definition = Definition {
    name: "evt_http_request_seconds",
    shape: Shape::Histogram,
    labels: &[],
    about: "Seconds from the head of an HTTP request to its response.",
};

/// The metrics of every run.
pub static STAGE: [&Definition; 25] = [
    &EVENTS,
    &DEAD_LETTERS,
    &SINK_ROWS,
    &OUTPUT_UP,
    &BACKPRESSURE,
    &STREAM_TIME,
    &WATERMARK_LAG,
    &CONSUMER_LAG_RECORDS,
    &CONSUMER_LAG_SECONDS,
    &OPEN_WINDOWS,
    &CHECKPOINT_DURATION,
    &CHECKPOINT_EPOCH,
    &CHECKPOINT_BYTES,
    &RECOVERY,
    &STATE_KEYS,
    &STATE_BYTES,
    &ALERTS_FIRING,
    &ALERT_ROWS_REJECTED,
    &ALERT_INTERRUPTIONS,
    &NOTIFICATIONS,
    &SPOOL,
    &BUILD,
    &START,
    &CPU,
    &MEMORY,
];

/// The further metrics of the HTTP server, at its own `GET /metrics`.
pub static HTTP: [&Definition; 6] =
    [&HTTP_EVENTS, &HTTP_REQUESTS, &HTTP_BODY, &HTTP_CONNECTIONS, &HTTP_REFUSED, &HTTP_SECONDS];

/// Returns all metrics.
pub fn all() -> impl Iterator<Item = &'static Definition> {
    STAGE.into_iter().chain(HTTP)
}

/// The media type of [`Metrics::render`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Maximum number of label values of a run: a topic may have many partitions.
const SAMPLES_MAX: usize = 10_000;

type Samples = BTreeMap<(&'static str, Vec<String>), f64>;

/// Reports whether the server of one output is available.
#[derive(Clone, Default)]
pub struct ServerStatus {
    metrics: Metrics,
    output: String,
    /// The last report: 0 before the first.
    last: Arc<AtomicU8>,
}

impl ServerStatus {
    /// Creates a reporter for the output of this name.
    pub fn new(metrics: &Metrics, output: &str) -> Self {
        Self { metrics: metrics.clone(), output: output.to_owned(), last: Arc::default() }
    }

    /// Sets the metric if the state has changed.
    pub fn set(&self, is_up: bool) {
        let now = if is_up { 2 } else { 1 };
        if self.last.swap(now, Ordering::Relaxed) != now {
            self.metrics.set(&OUTPUT_UP, &[&self.output], f64::from(u8::from(is_up)));
        }
    }
}

/// The metrics of a run; clones share them. Disabled, it stores nothing and costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Option<Arc<Mutex<Samples>>>);

impl Metrics {
    /// Creates enabled metrics of `stage`.
    pub fn new(stage: &str) -> Self {
        let metrics = Self(Some(Arc::default()));
        metrics.set(&BUILD, &[stage, env!("CARGO_PKG_VERSION")], 1.0);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        metrics.set(&START, &[], since.as_secs_f64());
        metrics
    }

    /// Whether they are enabled.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn samples(&self) -> Option<MutexGuard<'_, Samples>> {
        // A panic between two sets leaves no partial update.
        self.0.as_ref().map(|samples| samples.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets a metric, for label values in the order of its definition.
    pub fn set(&self, definition: &'static Definition, labels: &[&str], value: f64) {
        self.change(definition, labels, |sample| *sample = value);
    }

    /// Adds to a counter that is not kept elsewhere.
    pub fn add(&self, definition: &'static Definition, labels: &[&str], value: f64) {
        self.change(definition, labels, |sample| *sample += value);
    }

    /// Adds time spent on one side, `input` or `output`.
    pub fn blocked(&self, side: &str, time: Duration) {
        self.add(&BACKPRESSURE, &[side], time.as_secs_f64());
    }

    /// Sets the size of the state of a stage.
    pub fn set_state(&self, size: &StateSize) {
        self.set(&STATE_KEYS, &[], size.keys as f64);
        self.set(&STATE_BYTES, &["memory"], size.memory as f64);
        self.set(&STATE_BYTES, &["disk"], size.disk as f64);
    }

    /// Sets the lag of each partition that is read. Any other partition loses its lag.
    pub fn set_consumer_lag<'a>(&self, lags: impl IntoIterator<Item = ConsumerLag<'a>>) {
        let Some(mut samples) = self.samples() else { return };
        let known = |name: &str| name == CONSUMER_LAG_RECORDS.name || name == CONSUMER_LAG_SECONDS.name;
        samples.retain(|(name, _), _| !known(name));
        let room = SAMPLES_MAX.saturating_sub(samples.len()) / 2;
        for ConsumerLag { topic, partition, records, seconds } in lags.into_iter().take(room) {
            let labels = vec![topic.to_owned(), partition.to_string()];
            if let Some(seconds) = seconds {
                samples.insert((CONSUMER_LAG_SECONDS.name, labels.clone()), seconds);
            }
            samples.insert((CONSUMER_LAG_RECORDS.name, labels), records as f64);
        }
    }

    fn change(&self, definition: &'static Definition, labels: &[&str], change: impl FnOnce(&mut f64)) {
        let Some(mut samples) = self.samples() else { return };
        let key = (definition.name, labels.iter().map(|label| (*label).to_owned()).collect());
        if samples.len() < SAMPLES_MAX || samples.contains_key(&key) {
            change(samples.entry(key).or_default());
        }
    }

    /// Returns all metrics as Prometheus' text ([`MEDIA_TYPE`]): each of the table with its help and type, even without
    /// a value.
    pub fn render(&self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        text(&registry)
    }
}

/// Returns a registry as text that all scrapers accept: OpenMetrics describes a counter without the suffix of its name.
pub fn text(registry: &Registry) -> String {
    let mut open = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut open, registry);
    let counters: BTreeSet<&str> =
        open.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let classic = |line: &str| {
        let mut words = line.splitn(4, ' ');
        match [words.next(), words.next(), words.next(), words.next()] {
            [Some("#"), Some(word), Some(family), Some(rest)] if counters.contains(family) => {
                format!("# {word} {family}_total {rest}\n")
            }
            _ => format!("{line}\n"),
        }
    };
    open.lines().filter(|line| *line != "# EOF").map(classic).collect()
}

/// As part of a larger registry, the values are those at the time of rendering.
impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.set(&CPU, &[], cpu_seconds());
        self.set(&MEMORY, &[], resident_bytes());
        let samples = self.samples().map(|samples| samples.clone()).unwrap_or_default();
        for definition in STAGE {
            let shape = match definition.shape {
                Shape::Counter => MetricType::Counter,
                Shape::Gauge => MetricType::Gauge,
                Shape::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(definition.family(), definition.about, None, shape)?;
            if definition.labels.is_empty() {
                if let Some(value) = samples.get(&(definition.name, vec![])) {
                    encode_value(metric, definition.shape, *value)?;
                }
                continue;
            }
            for ((_, values), value) in samples.iter().filter(|((name, _), _)| *name == definition.name) {
                let labels: Vec<(&str, &str)> =
                    definition.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
                encode_value(metric.encode_family(&labels)?, definition.shape, *value)?;
            }
        }
        Ok(())
    }
}

fn encode_value(encoder: MetricEncoder<'_>, shape: Shape, value: f64) -> Result<(), std::fmt::Error> {
    match shape {
        Shape::Counter => ConstCounter::new(value).encode(encoder),
        // A histogram is not a single value; histograms keep their own.
        Shape::Gauge | Shape::Histogram => ConstGauge::new(value).encode(encoder),
    }
}

/// Returns the CPU time of this process in seconds.
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Returns the resident memory of this process in bytes; 0 if the system does not report it.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or_default() * 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_count_and_their_unit() {
        let units = [
            "_seconds",
            "_bytes",
            "_records",
            "_info",
            "_windows",
            "_connections",
            "_alerts",
            "_notifications",
            "_total",
            "_up",
            "_epoch",
            "_keys",
        ];
        for definition in all() {
            assert!(units.iter().any(|unit| definition.name.ends_with(unit)), "{}", definition.name);
            assert_eq!(definition.name.ends_with("_total"), definition.shape == Shape::Counter);
        }
    }

    #[test]
    fn what_is_set_is_rendered_and_label_values_are_escaped() {
        let metrics = Metrics::new("evt-x");
        metrics.set(&EVENTS, &["evt-x", "in"], 3.0);
        metrics.set(&SINK_ROWS, &["a\"b\\c\nd", "written"], 1.0);
        metrics.blocked("input", Duration::from_millis(500));
        metrics.blocked("input", Duration::from_millis(250));
        let text = metrics.render();
        for line in [
            "# TYPE evt_events_total counter",
            "evt_events_total{stage=\"evt-x\",outcome=\"in\"} 3.0",
            "evt_sink_rows_total{output=\"a\\\"b\\\\c\\nd\",outcome=\"written\"} 1.0",
            "evt_backpressure_seconds_total{side=\"input\"} 0.75",
            "# TYPE evt_consumer_lag_records gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("# EOF"));
    }

    #[test]
    fn a_partition_that_is_read_no_more_has_no_lag() {
        let metrics = Metrics::new("evt-x");
        let lag = |partition, records, seconds| ConsumerLag { topic: "t", partition, records, seconds };
        metrics.set_consumer_lag([lag(3, 17, Some(1.5)), lag(4, 2, None)]);
        let text = metrics.render();
        assert!(text.contains("evt_consumer_lag_records{topic=\"t\",partition=\"3\"} 17.0"), "{text}");
        assert!(text.contains("evt_consumer_lag_seconds{topic=\"t\",partition=\"3\"} 1.5"), "{text}");
        assert_eq!(text.matches("partition=\"4\"").count(), 1, "{text}");
        metrics.set_consumer_lag([lag(4, 0, Some(0.0))]);
        assert!(!metrics.render().contains("partition=\"3\""));
        assert!(!Metrics::default().is_on());
    }
}
