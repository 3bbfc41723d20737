//! Flags that tools share, one group each, and the values they take.

use super::prometheus::Target;
use crate::error::{Error, Result};
use crate::format;
use crate::kind::Kind;
use crate::mapping::{self, KeepRaw, Provenance, TimeFrom, TimeUnit, When};
use crate::run::Report;
use crate::source::SourceOptions;
use crate::time::parse_duration;
pub use crate::time::parse_instant_or_now;
use crate::uri::Uri;
use chrono::format::{Item, StrftimeItems};
use clap::{Args, ValueEnum};
use std::ffi::OsString;

/// When colour is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorArg {
    /// Whether output gets colour; `terminal` tells whether it goes to a terminal.
    pub fn is_on(self, terminal: bool) -> bool {
        match self {
            ColorArg::Always => true,
            ColorArg::Never => false,
            ColorArg::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

/// How diagnostics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text each.
    #[default]
    Text,
    /// One JSON object a line, with the ids of the run, the pipeline and the trace.
    Json,
}

/// Flags of every tool.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Run")]
pub struct CommonArgs {
    /// Say nothing but errors: no summary, no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the summary as JSON
    #[arg(long, value_name = "FILE")]
    pub stats: Option<String>,
    /// Exit 1 if any record was dead
    #[arg(long)]
    pub strict: bool,
    /// Report the first N faulty records, or all
    #[arg(long, value_name = "N|all", value_parser = parse_report)]
    pub report: Option<Report>,
    /// The clock, for repeatable output
    #[arg(long, value_name = "INSTANT")]
    pub now: Option<String>,
    /// The name under which the stages of one pipe find each other
    #[arg(long, value_name = "NAME", default_value = "evt")]
    pub pipeline: String,
    /// The longest record that is read
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse_size)]
    pub max_record: usize,
    /// How many times its packed size an input may unpack to, once it is more than 100 MiB
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub max_ratio: u64,
    /// Settings of librdkafka for every topic, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub kafka_config: Option<String>,
    /// Look whether everything named is there and lets us in, say so, and stop; no data is touched
    #[arg(long)]
    pub check: bool,
    /// Flags in a file of TOML: for all tools at its top, for one under [evt-TOOL]
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
    /// Serve metrics at http://ADDR/metrics (:9100 is the loopback's), or write them to a file every few seconds
    #[arg(long, value_name = "ADDR|FILE")]
    pub prometheus: Option<String>,
    /// How diagnostics are written: text, or one JSON object a line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// When to use colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: ColorArg,
}

impl CommonArgs {
    /// Returns the file of `--prometheus`, if it is one.
    pub fn prometheus_file(&self) -> Option<String> {
        match self.prometheus.as_deref().map(Target::parse)? {
            Target::File(path) => Some(path.display().to_string()),
            Target::Address(_) => None,
        }
    }
}

/// Flags of tools that read rows.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Input")]
pub struct InputArgs {
    /// Paths or URIs; - is standard input
    #[arg(value_name = "INPUT", default_value = "-")]
    pub inputs: Vec<OsString>,
    /// Format of the input: frames jsonl csv tsv avro parquet clf arrow
    #[arg(short = 'f', long, value_name = "FORMAT")]
    pub input_format: Option<String>,
    /// Kind of the rows: event metric dead late alert
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Accept control lines in JSONL, and drive windows by them alone
    #[arg(long)]
    pub control: bool,
}

/// Flags of tools that write rows.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Where rows go, repeatable; - is standard output
    #[arg(long, value_name = "URI", default_value = "-")]
    pub to: Vec<OsString>,
    /// Format of the output: frames jsonl csv tsv avro parquet table raw
    #[arg(short = 'o', long, value_name = "FORMAT")]
    pub output_format: Option<String>,
    /// Replace an output file that exists
    #[arg(long)]
    pub overwrite: bool,
    /// Where dead letters go; without it they are reported and dropped
    #[arg(long, value_name = "URI")]
    pub dlq: Option<OsString>,
}

/// How a foreign record becomes an event.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Mapping of raw records")]
pub struct MapArgs {
    /// Copy a field into a column: COLUMN=PATH
    #[arg(long, value_name = "COLUMN=PATH", value_parser = parse_pair)]
    pub field: Vec<(String, String)>,
    /// Set a column: COLUMN=TEXT
    #[arg(long, value_name = "COLUMN=TEXT", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
    /// Where the event time stands: a column, a path, or arrival
    #[arg(long, value_name = "FIELD")]
    pub time: Option<String>,
    /// Unit of times that are numbers: s ms us ns d
    #[arg(long, value_name = "UNIT", value_parser = parse_unit)]
    pub time_unit: Option<TimeUnit>,
    /// Format of times that are not RFC 3339 (strftime)
    #[arg(long, value_name = "STRFTIME", value_parser = parse_strftime)]
    pub time_format: Option<String>,
    /// Zone of times without one (IANA name); UTC by default
    #[arg(long, value_name = "NAME")]
    pub time_zone: Option<String>,
    /// Dead: events more than this after their arrival
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_future: Option<i64>,
    /// Fields that must be there, comma-separated
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    pub require: Vec<String>,
    /// Make ids that are no UUID one, from source and text
    #[arg(long)]
    pub hash_ids: bool,
    /// Name of the origin instead of the input's
    #[arg(long, value_name = "NAME")]
    pub origin: Option<String>,
    /// Every partition there will be, where --field maps them
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub partitions: Option<Vec<String>>,
}

/// Flags of every tool that reads rows and writes rows.
#[derive(Args, Clone, Debug)]
pub struct StageArgs {
    /// What comes in.
    #[command(flatten)]
    pub input: InputArgs,
    /// What becomes of raw records.
    #[command(flatten)]
    pub map: MapArgs,
    /// What goes out.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The run.
    #[command(flatten)]
    pub common: CommonArgs,
}

impl StageArgs {
    /// Returns the options of the source.
    pub fn source(&self, mapping: mapping::Options) -> Result<SourceOptions> {
        let Self { input, map, .. } = self;
        Ok(SourceOptions {
            mapping,
            format: input.input_format.as_deref().map(format::by_name).transpose()?,
            kind: input.kind()?,
            origin: map.origin.clone(),
            partitions: map.partitions.clone(),
            control: input.control,
            ..SourceOptions::default()
        })
    }

    /// Whether the tool would wait for input typed at a terminal.
    pub fn waits_at_terminal(&self) -> bool {
        self.input.inputs.iter().all(|input| input == "-") && self.input.input_format.is_none()
    }
}

impl MapArgs {
    /// Returns the mapping options of these flags.
    pub fn options(&self, provenance: Provenance) -> Result<mapping::Options> {
        if self.time_zone.is_some() && self.time_format.is_none() {
            return Err(Error::usage("--time-zone speaks of text without a zone: it needs --time-format"));
        }
        let zone = self.time_zone.as_deref().map(When::zone).transpose()?;
        let when = When { unit: self.time_unit, format: self.time_format.clone(), zone };
        when.check()?;
        let time = match self.time.as_deref() {
            None => TimeFrom::Default,
            Some("arrival") => TimeFrom::Arrival,
            Some(field) => TimeFrom::Field(field.to_owned()),
        };
        Ok(mapping::Options {
            fields: self.field.clone(),
            sets: self.set.clone(),
            time,
            when,
            hash_ids: self.hash_ids,
            partitions: self.partitions.clone(),
            require: self.require.clone(),
            provenance,
            keep_raw: KeepRaw::No,
            headers: false,
            max_future: self.max_future,
            stamped_at_arrival: false,
            watch: vec![],
            coded: 0,
            distinct: false,
            lean: None,
        })
    }
}

impl InputArgs {
    /// Returns the inputs.
    pub fn uris(&self) -> Result<Vec<Uri>> {
        self.inputs.iter().map(Uri::parse).collect()
    }

    fn kind(&self) -> Result<Option<Kind>> {
        let parse = |name: &str| {
            let unknown = || Error::usage(format!("--kind {name}: one of event metric dead late alert"));
            Kind::from_name(name).ok_or_else(unknown)
        };
        self.kind.as_deref().map(parse).transpose()
    }
}

/// Parses a duration (µs).
pub fn duration(text: &str) -> Result<i64> {
    parse_duration(text)
}

fn parse_strftime(text: &str) -> Result<String, String> {
    match StrftimeItems::new(text).any(|item| item == Item::Error) {
        true => Err("a % is followed by no letter that strftime knows".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn parse_report(text: &str) -> Result<Report, String> {
    match text {
        "all" => Ok(Report::All),
        _ => text.parse().map(Report::First).map_err(|_| "a number or all".to_owned()),
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("say COLUMN=VALUE".to_owned()),
    }
}

fn parse_unit(text: &str) -> Result<TimeUnit, String> {
    TimeUnit::from_name(text).ok_or_else(|| "one of s ms us ns d".to_owned())
}

/// Parses a number of bytes in memory: `1MiB`, `64KiB`, `10B`, up to `1GiB`.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(parse_room(text)?).ok();
    bytes.filter(|bytes| (1..=1 << 30).contains(bytes)).ok_or_else(|| "between 1B and 1GiB".to_owned())
}

/// Parses a number of bytes on a disk: `64MiB`, `10GiB`.
pub fn parse_room(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let scale = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("a size has a unit: B KiB MiB GiB".to_owned()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale)).ok_or_else(|| "not a size".to_owned())
}

/// Parses a count: `10`, `5k`, `1M`.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let scale = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return Err("a count is a number with or without k, M or G".to_owned()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale)).ok_or_else(|| "not a count".to_owned())
}

/// Parses a share: `0.01` or `1%`, between 0 and 1.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = number.parse::<f64>().map_err(|_| "a share is 0.01 or 1%".to_owned())? / scale;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share lies between 0 and 1".to_owned()) }
}
