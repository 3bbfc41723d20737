//! The script of a job: settings, functions, tables, and one statement set that writes metrics, late events and dead
//! letters.

use super::expression::Translator;
use super::metric::{MetricQuery, SessionRule};
use super::output::{MetricOutput, Topic};
use super::text::{identifier, interval, text};
use crate::op::window::spec::Spec;

/// Where a job reads and writes.
#[derive(Clone, Debug)]
pub struct Topics {
    /// Events, as evt writes them.
    pub events: Topic,
    /// Metrics.
    pub metrics: MetricOutput,
    /// Late events.
    pub late: Topic,
    /// Dead letters.
    pub dead: Topic,
}

/// The records that a job reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// All, for ever.
    Endless,
    /// Those between two instants, which replace `@FROM@` and `@UNTIL@` (ms since 1970).
    Between,
}

/// What a job does beside its metrics.
#[derive(Clone, Debug)]
pub struct JobOptions {
    /// Where it reads and writes.
    pub topics: Topics,
    /// The records that it reads.
    pub range: Range,
    /// The field with the event time: a column of a record, or a path. Without it the event time is server_timestamp,
    /// else event_time, else Kafka's timestamp.
    pub time: Option<String>,
    /// The least event time (µs) of an event that it takes.
    pub since: Option<i64>,
    /// The out-of-orderness (µs).
    pub bound: i64,
    /// The time between two checkpoints (µs), at which rows become visible.
    pub checkpoint_every: i64,
    /// The name of the job; the prefixes of its transactions begin with it.
    pub name: String,
    /// Whether half-late events are late rows, too.
    pub late_partial: bool,
}

/// A metric that a job cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its name.
    pub metric: String,
    /// Why, and the nearest thing that works.
    pub why: String,
}

/// How the rows of a metric in a job compare with those of evt-window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are equal, but for these.
    Equal(Vec<&'static str>),
    /// The job cannot have the metric: why, and the nearest thing that works.
    Refused(String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Equal(differences) if differences.is_empty() => f.write_str("equal"),
            Self::Equal(differences) => write!(f, "equal but for {}", differences.join(", and ")),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

/// The functions of the jar by their names in SQL.
const FUNCTIONS: [(&str, &str); 39] = [
    ("evt_approx_distinct", "ApproxDistinct"),
    ("evt_approx_percentile", "ApproxPercentile"),
    ("evt_avg", "Avg"),
    ("evt_boolean", "TextFunctions$ParseBoolean"),
    ("evt_canonical", "NumberFunctions$Canonical"),
    ("evt_compare", "NumberFunctions$Compare"),
    ("evt_date_trunc", "TimeFunctions$Truncate"),
    ("evt_dimensions", "MetricFunctions$Dimensions"),
    ("evt_ends", "MetricFunctions$Ends"),
    ("evt_event", "EventFunctions$Read"),
    ("evt_first", "First"),
    ("evt_instant", "TimeFunctions$Parse"),
    ("evt_instant_of_seconds", "TimeFunctions$OfSeconds"),
    ("evt_instant_text", "TimeFunctions$Format"),
    ("evt_last", "Last"),
    ("evt_late_row", "EventFunctions$LateRow"),
    ("evt_late_sessions", "LateSessions"),
    ("evt_lower", "TextFunctions$Lower"),
    ("evt_matches", "TextFunctions$Matches"),
    ("evt_max", "Max"),
    ("evt_metric_id", "MetricFunctions$Id"),
    ("evt_micros", "TimeFunctions$Micros"),
    ("evt_min", "Min"),
    ("evt_names", "MetricFunctions$Names"),
    ("evt_number", "NumberFunctions$Parse"),
    ("evt_number_text", "NumberFunctions$Format"),
    ("evt_regexp_extract", "TextFunctions$RegexpExtract"),
    ("evt_remainder", "NumberFunctions$Remainder"),
    ("evt_replace", "TextFunctions$Replace"),
    ("evt_round", "NumberFunctions$Round"),
    ("evt_sessions", "SessionWindows"),
    ("evt_split_part", "TextFunctions$SplitPart"),
    ("evt_stddev", "Stddev"),
    ("evt_substr", "TextFunctions$Substr"),
    ("evt_sum", "Sum"),
    ("evt_timestamp", "TimeFunctions$Timestamp"),
    ("evt_trim", "TextFunctions$Trim"),
    ("evt_upper", "TextFunctions$Upper"),
    ("evt_windows", "FixedWindows"),
];

/// Returns for each metric how its rows compare with those of evt-window.
pub fn verdicts(spec: &Spec, options: &JobOptions) -> Vec<Verdict> {
    let mut translator = Translator::new(&spec.leaves);
    let queries = queries(spec, options, &mut translator).into_iter();
    queries.map(|query| query.map_or_else(Verdict::Refused, |query| Verdict::Equal(query.differences))).collect()
}

fn queries(spec: &Spec, options: &JobOptions, translator: &mut Translator<'_>) -> Vec<Result<MetricQuery, String>> {
    let metrics = spec.metrics.iter().enumerate();
    metrics.map(|(index, metric)| MetricQuery::of(metric, index, options.bound, translator)).collect()
}

/// Returns the script of a job, or the metrics that it cannot have.
pub fn script(spec: &Spec, options: &JobOptions) -> Result<String, Vec<Refusal>> {
    let mut translator = Translator::new(&spec.leaves);
    let mut refusals = vec![];
    let mut found = vec![];
    for (metric, query) in spec.metrics.iter().zip(queries(spec, options, &mut translator)) {
        match query {
            Ok(query) => found.push(query),
            Err(why) => refusals.push(Refusal { metric: metric.name.clone(), why }),
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let queries = found;
    let lateness = spec.metrics.iter().map(|metric| metric.lateness).max().unwrap_or(0);
    // Flink closes a window when the watermark is a millisecond before its end; evt when stream time reaches it.
    let slack = match interval(options.bound + lateness + 1000) {
        Ok(slack) => slack,
        Err(why) => {
            return Err(spec
                .metrics
                .iter()
                .map(|metric| Refusal { metric: metric.name.clone(), why: why.clone() })
                .collect());
        }
    };
    let facts = facts(&queries, &translator);
    let views = queries.iter().map(|query| query.create.as_str()).collect::<Vec<_>>().join("\n");
    let others = outcomes(&queries, options, &mut translator);
    let inserts = inserts(&queries, options);
    let tables = tables(&translator, options, &slack);
    Ok([settings(options), functions(&translator), tables, facts, views, others, inserts].join("\n"))
}

fn settings(options: &JobOptions) -> String {
    format!(
        "SET 'pipeline.name' = {};\n\
         SET 'execution.runtime-mode' = 'streaming';\n\
         -- Rows are visible when a checkpoint is complete.\n\
         SET 'execution.checkpointing.interval' = '{} ms';\n\
         SET 'pipeline.object-reuse' = 'true';\n\
         SET 'table.local-time-zone' = 'UTC';\n\
         SET 'table.exec.state.ttl' = '0';\n",
        text(&options.name),
        options.checkpoint_every / 1000
    )
}

fn functions(translator: &Translator<'_>) -> String {
    let used = FUNCTIONS.iter().filter(|(name, _)| translator.functions.contains(name));
    used.map(|(name, class)| format!("CREATE TEMPORARY FUNCTION {name} AS 'evt.{class}';\n")).collect()
}

/// Returns the options that say where reading begins and ends.
fn range(range: Range) -> &'static str {
    match range {
        Range::Endless => "'scan.startup.mode' = 'earliest-offset'",
        Range::Between => {
            "'scan.startup.mode' = 'timestamp', 'scan.startup.timestamp-millis' = '@FROM@',\n  \
             'scan.bounded.mode' = 'timestamp', 'scan.bounded.timestamp-millis' = '@UNTIL@'"
        }
    }
}

/// Returns the options of an output, whose rows are visible when a checkpoint is complete.
fn exactly_once(what: &str, options: &JobOptions) -> String {
    format!(
        "'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = {}, \
         'properties.transaction.timeout.ms' = '900000'",
        text(&format!("{}-{what}", options.name))
    )
}

fn tables(translator: &Translator<'_>, options: &JobOptions, slack: &str) -> String {
    let Topics { events, metrics, late, dead } = &options.topics;
    let [events, late, dead] = [events, late, dead].map(Topic::address);
    let metrics = metrics.table(&exactly_once("metrics", options));
    let range = range(options.range);
    let columns = [
        "event_id",
        "source",
        "event_type",
        "user_id",
        "client_timestamp",
        "server_timestamp",
        "event_time",
        "kafka_partition",
        "`offset`",
        "`value`",
    ];
    let columns: String = columns.iter().map(|name| format!("event.{name} AS {name}, ")).collect();
    let paths: String = translator.properties.iter().map(|property| format!(", {}", text(&property.path()))).collect();
    let properties: String = (1..)
        .zip(&translator.properties)
        .map(|(at, property)| format!("    event.properties[{at}] AS {},\n", identifier(&property.column)))
        .collect();
    let time = options.time.as_deref().unwrap_or_default();
    let registry = options.topics.events.registry.as_deref().unwrap_or_default();
    let since = options.since.map(|since| format!(" AND event.event_time >= {since}")).unwrap_or_default();
    let event =
        format!("evt_event(`value`, kafka_partition, `offset`, arrival, {}, {}{paths})", text(registry), text(time));
    let topic = text(&options.topics.events.name);
    format!(
        "-- Records as evt writes them. A record that is no event has a fault, and becomes a dead letter.\n\
         CREATE TEMPORARY TABLE records (\n  `value` BYTES,\n  \
         kafka_partition INT METADATA FROM 'partition' VIRTUAL,\n  \
         `offset` BIGINT METADATA VIRTUAL,\n  \
         arrival TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,\n  \
         event AS {event},\n  \
         event_ts AS {event}.event_ts,\n  \
         read_at AS PROCTIME(),\n  \
         WATERMARK FOR event_ts AS event_ts - {slack}\n) WITH (\n  {events},\n  \
         {range},\n  'value.format' = 'raw',\n  \
         'scan.watermark.emit.strategy' = 'on-event', 'properties.isolation.level' = 'read_committed');\n\n\
         -- Events, with the stream time of their partition when they were read, as evt-window stamps them. All that a metric\n\
         -- reads is in one column, and the condition, which always holds, needs the other two: so Flink leaves none out, and\n\
         -- computes this once for all metrics.\n\
         CREATE TEMPORARY VIEW stamped AS SELECT event, event_ts, MAX(event.event_time) OVER (\n    \
         PARTITION BY event.kafka_partition ORDER BY read_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS stream_time\n\
         FROM records WHERE event.fault IS NULL{since};\n\
         CREATE TEMPORARY VIEW events AS SELECT {columns}\n\
         {properties}    {topic} AS origin, event_ts, stream_time\n\
         FROM stamped WHERE event_ts IS NOT NULL OR stream_time IS NOT NULL;\n\n\
         CREATE TEMPORARY TABLE {metrics}\n\
         CREATE TEMPORARY TABLE late (`value` BYTES) WITH (\n  {late},\n  'value.format' = 'raw',\n  {});\n\n\
         CREATE TEMPORARY TABLE dead (`value` BYTES, headers MAP<STRING, BYTES> METADATA) WITH (\n  {dead},\n  \
         'value.format' = 'raw',\n  {});\n",
        exactly_once("late", options),
        exactly_once("dead", options),
    )
}

/// Returns the views that add to events what decides for each metric whether it counts them. There is one for each
/// metric, because the client of Flink needs memory by the square of a statement.
fn facts(queries: &[MetricQuery], translator: &Translator<'_>) -> String {
    let mut out = String::from(
        "-- Events with facts for each metric: whether they pass its filter, whether an expression fails, and the ends of the first and the\n\
         -- last of their windows.\n",
    );
    let mut last = "events".to_owned();
    for (at, query) in (1..).zip(queries).filter(|(_, query)| !query.facts.is_empty()) {
        out.push_str(&format!("CREATE TEMPORARY VIEW facts_{at} AS SELECT *,\n  {}\nFROM {last};\n", query.facts));
        last = format!("facts_{at}");
    }
    let mut columns = translator.columns.clone();
    columns.extend(["event_time".to_owned(), "stream_time".to_owned()]);
    columns.extend(translator.properties.iter().map(|property| identifier(&property.column)));
    columns.extend(queries.iter().flat_map(MetricQuery::deciding).map(str::to_owned));
    let columns = columns.into_iter().collect::<Vec<_>>().join(", ");
    format!(
        "{out}CREATE TEMPORARY VIEW facts AS SELECT * FROM {last};\n\
         -- What Flink's windows need of them: they carry each column of their input.\n\
         CREATE TEMPORARY VIEW counting AS SELECT event_ts, {columns} FROM facts;\n"
    )
}

/// Returns the views of the outcome of each event, of late events and of dead letters.
fn outcomes(queries: &[MetricQuery], options: &JobOptions, translator: &mut Translator<'_>) -> String {
    translator.functions.extend(["evt_event", "evt_instant_text", "evt_late_row", "evt_timestamp"]);
    let late: Vec<String> = queries.iter().filter_map(|query| query.late(options.late_partial)).collect();
    let late = match late.is_empty() {
        true => "CAST(NULL AS ARRAY<STRING>)".to_owned(),
        false => translator.call("evt_names", &[&format!("\n    {}", late.join(",\n    "))]),
    };
    let failed: Vec<String> = queries.iter().filter_map(MetricQuery::failed).collect();
    let failed = match failed.is_empty() {
        true => "CAST(NULL AS STRING)".to_owned(),
        false => format!("NULLIF(CONCAT_WS(',',\n    {}), '')", failed.join(",\n    ")),
    };
    let counted: Vec<String> = queries.iter().filter_map(MetricQuery::counted).collect();
    let counted = match counted.is_empty() {
        true => "FALSE".to_owned(),
        false => format!("COALESCE({}, FALSE)", counted.join("\n    OR ")),
    };
    let sessions: Vec<&SessionRule> = queries.iter().filter_map(MetricQuery::session).collect();
    let keys = sessions.iter().map(|rule| format!("CASE WHEN {} THEN {} END", rule.counts, rule.key));
    let keys = match sessions.is_empty() {
        true => "CAST(NULL AS ARRAY<STRING>)".to_owned(),
        false => format!("ARRAY[{}]", keys.collect::<Vec<_>>().join(",\n    ")),
    };
    let columns = "`value`, kafka_partition, `offset`, server_timestamp, event_time, stream_time";
    let mut out = format!(
        "-- What becomes of each event: the metrics for which it is late, whether another one counts it, and the metrics\n\
         -- of which an expression failed.\n\
         CREATE TEMPORARY VIEW outcomes AS\nSELECT {columns},\n  {late} AS late_for,\n  {counted} AS partial,\n  \
         {failed} AS failed,\n  {keys} AS session_keys\nFROM facts;\n"
    );
    let mut last = "outcomes".to_owned();
    for (at, rule) in (1..).zip(&sessions) {
        translator.functions.insert("evt_late_sessions");
        out.push_str(&late_sessions(rule, at, &last));
        last = format!("outcomes_{at}");
    }
    format!("{out}\n{}\n{}", late_events(queries, &last, options, translator), dead_letters(&last, options))
}

/// Returns the view of the rows of late events.
fn late_events(
    queries: &[MetricQuery],
    outcomes: &str,
    options: &JobOptions,
    translator: &mut Translator<'_>,
) -> String {
    let [time, registry] =
        [&options.time, &options.topics.events.registry].map(|option| text(option.as_deref().unwrap_or_default()));
    let topic = text(&options.topics.events.name);
    let has_sessions = queries.iter().any(|query| query.session().is_some());
    // Sessions add their names at the end.
    let late_for = match has_sessions && queries.len() > 1 {
        true => {
            let names: Vec<String> = queries.iter().map(|query| query.named("late_for")).collect();
            translator.call("evt_names", &[&format!("\n    {}", names.join(",\n    "))])
        }
        false => "late_for".to_owned(),
    };
    format!(
        "CREATE TEMPORARY VIEW late_events AS\nSELECT evt_late_row(`value`, {registry}, {time}, {topic}, kafka_partition, \
         `offset`, server_timestamp, stream_time, {late_for}, partial) AS `value`\nFROM {outcomes} WHERE late_for IS NOT NULL;\n"
    )
}

/// Returns the view that adds to outcomes what the sessions of a metric, the one with that number, decide.
fn late_sessions(rule: &SessionRule, number: usize, outcomes: &str) -> String {
    let SessionRule { name, gap, slack, .. } = rule;
    // An event that does not count for the metric passes under any key.
    format!(
        "CREATE TEMPORARY VIEW session_input_{number} AS\nSELECT *, session_keys[{number}] IS NOT NULL AS counts,\n  \
         COALESCE(session_keys[{number}], CAST(MOD(`offset`, 64) AS STRING)) AS session_key\nFROM {outcomes};\n\
         CREATE TEMPORARY VIEW outcomes_{number} AS\n\
         SELECT `value`, kafka_partition, `offset`, server_timestamp, event_time, stream_time, late_for, partial, failed, session_keys\n\
         FROM evt_late_sessions(event => TABLE session_input_{number} PARTITION BY session_key,\n  \
         gap => CAST({gap} AS BIGINT), slack => CAST({slack} AS BIGINT), metric => {name}, uid => 'late-{number}');\n"
    )
}

/// Returns the view of records that are no events, and of events for which an expression failed.
fn dead_letters(outcomes: &str, options: &JobOptions) -> String {
    let headers = |of: &[(&str, &str)]| {
        let topic = text(&options.topics.events.name);
        let shared = [
            ("source_topic", topic.as_str()),
            ("partition", "CAST(kafka_partition AS STRING)"),
            ("offset", "CAST(`offset` AS STRING)"),
            ("failed_at", "evt_instant_text(UNIX_TIMESTAMP() * 1000000)"),
            ("stage", "'flink'"),
            ("attempts", "'1'"),
        ];
        let pair = |(name, value): &(&str, &str)| format!("'evt.{name}', ENCODE({value}, 'UTF-8')");
        format!("MAP[{}]", of.iter().chain(&shared).map(pair).collect::<Vec<_>>().join(",\n    "))
    };
    let of_records = headers(&[("error_type", "event.error_type"), ("error_message", "event.fault")]);
    let of_events = headers(&[
        ("error_type", "'AggregationError'"),
        ("error_message", "'an expression of these metrics cannot read a value: ' || failed"),
        ("metrics", "failed"),
        ("partial", "CASE WHEN partial OR late_for IS NOT NULL THEN 'true' ELSE 'false' END"),
    ]);
    format!(
        "-- Records that are no events, and events for which an expression of a metric failed.\n\
         CREATE TEMPORARY VIEW dead_letters AS\nSELECT `value`, {of_records} AS headers\n\
         FROM records WHERE event.fault IS NOT NULL\nUNION ALL\nSELECT `value`, {of_events} AS headers\n\
         FROM {outcomes} WHERE failed IS NOT NULL;\n"
    )
}

/// Returns the statement that starts the job. It has no CASE, at whose END the client would cut it.
fn inserts(queries: &[MetricQuery], options: &JobOptions) -> String {
    let columns = options.topics.metrics.columns(&options.name);
    let metrics: Vec<String> = queries.iter().map(|query| format!("SELECT {columns} FROM {}", query.view)).collect();
    format!(
        "-- One INSERT for each output: two into one output that is exactly once would restart for ever.\n\
         EXECUTE STATEMENT SET BEGIN\n\
         INSERT INTO metrics\n{};\n\
         INSERT INTO late SELECT * FROM late_events;\n\
         INSERT INTO dead SELECT * FROM dead_letters;\nEND;\n",
        metrics.join("\nUNION ALL\n")
    )
}
