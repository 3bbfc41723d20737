//! The flags of evt-reconcile, and how they read inputs.

use super::read;
use crate::cli::args::{CommonArgs, MapArgs, RecordArgs, TextArgs, instant_of};
use crate::cli::values::parse_share;
use crate::output::identity::{Identities, Identity};
use crate::source::SourceOptions;
use crate::uri::Uri;
use clap::{Parser, ValueEnum};
use evt_core::error::{Error, Result};
use evt_core::kind::event::column;
use evt_core::kind::span::Span;
use evt_core::mapping::{self, Projection, Provenance, ReadColumns, TimeFrom};
use evt_core::reconcile::judge::MatchBy;
use evt_core::time::{format_instant, parse_duration};
use evt_kafka::address::TopicFormat;
use evt_run::input::unopened::FileOptions;
use evt_run::run::Run;
use std::ffi::OsString;

/// The arguments of a comparison, which a measurement does not have.
const OF_COMPARISON: [&str; 12] =
    ["a", "b", "plus", "by", "dedup", "settle", "tolerance", "since", "until", "last", "bucket", "ids"];

/// Prove that every record of A is in B or in a side output
#[derive(Parser, Debug)]
pub struct Args {
    /// Read the records that must be in B: a file, topic, lake or table
    #[arg(value_name = "A", required_unless_present_any = ["lag", "freshness"])]
    pub a: Option<OsString>,
    /// Compare them with these rows, which evt wrote
    #[arg(value_name = "B", required_unless_present_any = ["lag", "freshness"])]
    pub b: Option<OsString>,
    /// The flags of a comparison.
    #[command(flatten)]
    pub compare: CompareArgs,
    /// The flags of a measurement.
    #[command(flatten)]
    pub measure: MeasureArgs,
    /// The flags of the output.
    #[command(flatten)]
    pub show: ShowArgs,
    /// The flags that map records of A to events.
    #[command(flatten)]
    pub map: MapArgs,
    /// The limits and reports of records.
    #[command(flatten)]
    pub records: RecordArgs,
    /// The run.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The flags of a comparison: side outputs, matching, tolerance, range of time, and the format of A.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Comparison")]
pub struct CompareArgs {
    /// Accept records that are here: dead letters, late rows, duplicates (repeatable)
    #[arg(long, value_name = "URI")]
    pub plus: Vec<OsString>,
    /// Match by position (origin, partition, offset) or by event_id [default: by position if rows of B have A's origin]
    #[arg(long, value_name = "WHAT")]
    pub by: Option<ByArg>,
    /// Count a record apart if its event_id is in B from another position of A
    #[arg(long)]
    pub dedup: bool,
    /// Accept that a record which arrived less than DURATION before the start of the run is not in B yet
    #[arg(long, value_name = "DURATION", value_parser = parse_length)]
    pub settle: Option<i64>,
    /// Accept this share of wrong records: 0.01 or 1%
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    pub tolerance: f64,
    /// Compare records with an event time at or after INSTANT
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Compare records with an event time before INSTANT
    #[arg(long, value_name = "INSTANT")]
    pub until: Option<String>,
    /// Compare records of the last DURATION, like --since now-DURATION
    #[arg(long, value_name = "DURATION", value_parser = parse_length, conflicts_with = "since")]
    pub last: Option<i64>,
    /// Set the format of A: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default: detected]
    #[arg(short = 'f', long, value_name = "FORMAT")]
    pub input_format: Option<String>,
    /// The flags of text inputs, for A.
    #[command(flatten)]
    pub text: TextArgs,
}

/// The flags of a measurement, which takes the place of a comparison: lag or age.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Lag and age")]
pub struct MeasureArgs {
    /// Show how far the group of this topic is behind, per partition: kafka://HOST:PORT/TOPIC?group=NAME
    #[arg(long, value_name = "URI", conflicts_with_all = OF_COMPARISON, conflicts_with = "freshness")]
    pub lag: Option<OsString>,
    /// Exit with status 1 if a partition is further behind
    #[arg(long, value_name = "DURATION", value_parser = parse_length, conflicts_with_all = ["a", "b", "freshness"])]
    pub max_lag: Option<i64>,
    /// Show the age of the newest window of each metric of this store, or of its newest event
    #[arg(long, value_name = "URI", conflicts_with_all = OF_COMPARISON)]
    pub freshness: Option<OsString>,
    /// Exit with status 1 if one is older
    #[arg(long, value_name = "DURATION", value_parser = parse_length, conflicts_with_all = ["a", "b", "lag"])]
    pub max_age: Option<i64>,
    /// Measure this metric only (repeatable)
    #[arg(long, value_name = "METRIC", conflicts_with_all = ["a", "b", "lag"])]
    pub only: Vec<String>,
}

/// The flags of the output: its rows, its format and its file.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct ShowArgs {
    /// Write one row for each partition and bucket of event time of this length
    #[arg(long, value_name = "DURATION", value_parser = parse_bucket, conflicts_with = "ids")]
    pub bucket: Option<i64>,
    /// Write each event that is missing, extra, double or different; this also compares contents
    #[arg(long)]
    pub ids: bool,
    /// Write the results as table, jsonl or prometheus [default: table on a terminal, else jsonl]
    #[arg(short = 'o', long, value_name = "FORMAT")]
    pub output_format: Option<OutputForm>,
    /// Write the results to FILE, which is replaced; - is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub to: OsString,
}

/// The format of results (`-o`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// A table.
    Table,
    /// JSON lines.
    Jsonl,
    /// The text format of Prometheus.
    Prometheus,
}

/// The key that rows of A and B are matched by (`--by`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ByArg {
    /// Origin, partition and offset.
    Position,
    /// The event_id.
    Id,
}

impl ByArg {
    /// Returns the key that the flag names.
    pub fn key(self) -> MatchBy {
        match self {
            Self::Position => MatchBy::Position,
            Self::Id => MatchBy::Id,
        }
    }
}

fn parse_bucket(text: &str) -> Result<i64, String> {
    parse_length(text).and_then(|length| if length > 0 { Ok(length) } else { Err("expected more than 0s".to_owned()) })
}

fn parse_length(text: &str) -> Result<i64, String> {
    let length = parse_duration(text).map_err(|error| error.to_string())?;
    if length >= 0 { Ok(length) } else { Err("expected a duration of 0s or more".to_owned()) }
}

impl Args {
    /// Returns the range of event time; `now` is the current time (µs).
    pub fn range(&self, now: i64) -> Result<Span> {
        let CompareArgs { since, until, last, .. } = &self.compare;
        let zone = self.map.zone()?;
        let since = match last {
            Some(last) => Some(now.saturating_sub(*last)),
            None => instant_of("--since", since.as_deref(), now, zone)?,
        };
        let range = Span { since, until: instant_of("--until", until.as_deref(), now, zone)? };
        match (range.since, range.until) {
            (Some(since), Some(until)) if since >= until => {
                let (since, until) = (format_instant(since), format_instant(until));
                Err(Error::usage(format!("expected a range that ends after {since}, where it begins, found {until}")))
            }
            _ => Ok(range),
        }
    }

    /// Returns the options for reading A: it is read as evt-ingest reads a topic or a raw file; rows that evt wrote
    /// keep their stamps.
    pub fn options_of_a(&self, uri: &Uri) -> Result<SourceOptions> {
        let is_raw_topic = is_raw_topic(uri);
        let provenance = if is_raw_topic { Provenance::Overwrite } else { Provenance::Keep };
        let mapping = mapping::Options {
            is_compared: true,
            ingested_at_arrival: is_raw_topic,
            reads: self.reads(),
            ..self.map.options(provenance)?
        };
        self.compare.text.check_sources(std::slice::from_ref(uri))?;
        let (format, text) = self.compare.text.options(self.compare.input_format.as_deref())?;
        let mut options = read::options();
        options.records.mapping = mapping;
        options.inputs.files = FileOptions { format, text, ..options.inputs.files };
        options.inputs.names = self.map.names();
        Ok(options)
    }

    /// Returns the options for reading B and the inputs of `--plus`. Rows that evt wrote have their stamps; of other
    /// rows the flags read only the times.
    pub fn options_of_rows(&self) -> Result<SourceOptions> {
        let all = self.map.options(Provenance::Keep)?;
        let time = if all.time == TimeFrom::Default { TimeFrom::Untimed } else { all.time };
        let mapping = mapping::Options {
            time,
            when: all.when,
            hash_ids: all.hash_ids,
            provenance: Provenance::Keep,
            is_compared: true,
            reads: self.reads(),
            ..Default::default()
        };
        let mut options = read::options();
        options.records.mapping = mapping;
        Ok(options)
    }

    /// Returns the columns that are read of raw records: all only if contents are compared.
    fn reads(&self) -> ReadColumns {
        let columns = 1 << column::EVENT_ID | 1 << column::SERVER_TIMESTAMP;
        let columns = (!self.show.ids).then_some(Projection { columns, dictionaries: 0 });
        ReadColumns { columns, ..ReadColumns::default() }
    }

    /// Returns A and B. Errors: exit status 2 if one is missing.
    pub fn sides(&self) -> Result<[&OsString; 2]> {
        let sides = self.a.as_ref().zip(self.b.as_ref());
        sides.map(|(a, b)| [a, b]).ok_or_else(|| Error::usage("expected A and B"))
    }

    /// Returns all inputs.
    pub fn inputs(&self) -> impl Iterator<Item = &OsString> {
        let measured = self.measure.lag.iter().chain(&self.measure.freshness);
        self.a.iter().chain(&self.b).chain(&self.compare.plus).chain(measured)
    }

    /// Checks the inputs and outputs; a run ends with the first fault, and `--check` reports all.
    pub fn checks(&self, run: &Run) -> [Result<()>; 2] {
        [self.check_outputs(run), self.check_standard_input()]
    }

    /// Checks that at most one input is standard input. Errors: exit status 2.
    fn check_standard_input(&self) -> Result<()> {
        match self.inputs().filter(|input| *input == "-").count() {
            0 | 1 => Ok(()),
            count => Err(Error::usage(format!("-: expected standard input as one input, found it as {count}"))),
        }
    }

    /// Whether results are written even if nothing is wrong: `-q` keeps standard output empty, but a file is replaced.
    pub fn shows_right_results(&self) -> bool {
        !self.common.quiet || self.show.to != "-"
    }

    /// Checks that the results go to a file, and that no input is overwritten. Errors: exit status 2.
    fn check_outputs(&self, run: &Run) -> Result<()> {
        let (io, caller) = (&run.io, run.caller());
        let inputs = self.inputs().map(|text| Uri::of_input(text, false, &caller)).collect::<Result<Vec<Uri>>>()?;
        let mut named = Identities::inputs(&inputs, io);
        let identity = match Uri::parse(&self.show.to, &caller)? {
            Uri::Standard => Some(Identity::of_output(io)),
            Uri::File(path) => Identity::of_path(&path),
            Uri::Null => None,
            other => return Err(Error::usage(format!("--to: expected a file, found {other}"))),
        };
        named.output(&format!("--to {}", self.show.to.display()), identity)?;
        for path in self.common.stats.iter().cloned().chain(self.common.prometheus_file()) {
            named.output(&path, Identity::of_path(path.as_ref()))?;
        }
        Ok(())
    }

    /// Parses the URI of an input, and checks that a file exists.
    pub fn uri(&self, text: &OsString, run: &Run) -> Result<Uri> {
        let uri = Uri::of_input(text, false, &run.caller())?;
        match uri {
            Uri::Null | Uri::Http(_) => Err(Error::usage(format!("{uri}: expected a file, topic or store"))),
            uri => crate::uri::readable::check(&uri, false).map(|()| uri),
        }
    }
}

/// Whether the records of an input get new stamps although they may carry some.
pub fn is_raw_topic(uri: &Uri) -> bool {
    matches!(uri, Uri::Kafka(address) if address.options.form != Some(TopicFormat::Frames))
}
