//! The files of a job.

use super::job::{JobOptions, Range, Refusal, script};
use super::output::{MetricOutput, Topic};
use crate::error::Error;
use crate::op::window::spec::Spec;
use crate::time::{format_duration, format_instant};

const README: &str = include_str!("README.md");
const PROOF: &str = include_str!("prove.sh");
const STORE: &str = include_str!("store.sql");

/// What README.md says if metrics go to a database.
const JDBC: &str = ", `flink-connector-jdbc-core`, `flink-connector-jdbc-postgres` and the driver of PostgreSQL";
const STORE_NOTE: &str = "
Metrics go to the table aggregated_metrics, one row for each key. `evt-sink -f jsonl --kind metric /dev/null --to 'postgres://…'` makes it, and
`psql -f store.sql` lets rows that evt-backfill has corrected stay when the job, after a failure, writes an older one again.
The password is that of ~/.pgpass of the user who runs Flink (or PGPASSFILE). The rows of the proof go to a topic.
";

/// The metrics of a job, as they are written and as they are read.
pub struct WrittenMetrics<'a> {
    /// The text of the file.
    pub text: &'a str,
    /// What it means.
    pub spec: &'a Spec,
}

/// Returns the text of a metrics file with those metrics alone whose places are kept.
///
/// Errors: exit status 78 if it is none.
pub fn reduced(text: &str, kept: &[bool]) -> crate::error::Result<String> {
    let wrong = |error: &dyn std::fmt::Display| Error::config(error.to_string());
    let mut file: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(&error))?;
    if let Some(toml::Value::Array(metrics)) = file.get_mut("metric") {
        let mut kept = kept.iter();
        metrics.retain(|_| kept.next().copied().unwrap_or(true));
    }
    toml::to_string(&file).map_err(|error| wrong(&error))
}

/// Returns the names and the texts of the files of a job, or the metrics that it cannot have. The same definition and
/// options give the same bytes.
pub fn files(
    definition: &WrittenMetrics<'_>,
    options: &JobOptions,
) -> Result<Vec<(&'static str, String)>, Vec<Refusal>> {
    let of_proof = |topic: &Topic| Topic { name: format!("{}-proof", topic.name), ..topic.clone() };
    let mut proof = options.clone();
    proof.range = Range::Between;
    proof.name = format!("{}-proof", options.name);
    let topics = &mut proof.topics;
    let metrics = match &topics.metrics {
        MetricOutput::Topic(topic) => of_proof(topic),
        // Beside the late events.
        MetricOutput::Database(_) => {
            of_proof(&Topic { name: format!("{}-metrics", options.name), ..topics.late.clone() })
        }
    };
    topics.metrics = MetricOutput::Topic(metrics.clone());
    for topic in [&mut topics.late, &mut topics.dead] {
        *topic = of_proof(topic);
    }
    let store = matches!(options.topics.metrics, MetricOutput::Database(_)).then(|| ("store.sql", STORE.to_owned()));
    let texts = [
        ("@EVENTS@", options.topics.events.uri()),
        ("@AND@", if options.topics.events.registry.is_some() { "&" } else { "?" }.to_owned()),
        ("@METRICS@", metrics.uri()),
        ("@LATE@", proof.topics.late.uri()),
        ("@DEAD@", proof.topics.dead.uri()),
        ("@NAME@", options.name.clone()),
        (
            "@TIME@",
            options.time.as_ref().map(|time| format!(" --time '{}'", time.replace('\'', "'\\''"))).unwrap_or_default(),
        ),
        ("@BOUND@", format_duration(options.bound)),
        ("@SINCE@", options.since.map(|since| format!(" --since {}", format_instant(since))).unwrap_or_default()),
        ("@JDBC@", if store.is_some() { JDBC } else { "" }.to_owned()),
        ("@STORE@", if store.is_some() { STORE_NOTE } else { "" }.to_owned()),
        ("@PARTIAL@", if options.late_partial { " --late-partial".to_owned() } else { String::new() }),
    ];
    let filled = |text: &str| texts.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    let files = vec![
        ("job.sql", script(definition.spec, options)?),
        ("proof.sql", script(definition.spec, &proof)?),
        ("prove.sh", filled(PROOF)),
        ("README.md", filled(README)),
        ("metrics.toml", definition.text.to_owned()),
    ];
    Ok(files.into_iter().chain(store).collect())
}
