//! Flags that tools share, one group each, and the values they take.

use super::prometheus::MetricsTarget;
use super::values::{parse_count, parse_min_time, parse_path, parse_positive, path_or};
use crate::source::{PartitionNames, SourceOptions};
use crate::uri::Uri;
use chrono::format::{Item, StrftimeItems};
use clap::{ArgMatches, Args, FromArgMatches, ValueEnum};
use encoding_rs::Encoding;
use evt_core::decompression::RATIO_MAX;
use evt_core::error::{Error, Result};
use evt_core::format::elements::ElementPath;
use evt_core::format::{self, CsvHeader, Format, TextOptions, pattern};
use evt_core::kind::Kind;
use evt_core::kind::span::Span;
use evt_core::mapping::{self, Provenance, TimeFrom, TimeUnit, When};
use evt_core::parse::size;
use evt_core::time::{Zone, parse_duration, parse_flag_instant};
use evt_run::checkpoint::header::CheckpointOptions;
use evt_run::emit::RecordOptions;
use evt_run::input::unopened::FileOptions;
use evt_run::run::{Report, Run};
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

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
    /// Whether output gets colour; `terminal`: the output goes to a terminal.
    pub fn is_on(self, terminal: bool) -> bool {
        match self {
            ColorArg::Always => true,
            ColorArg::Never => false,
            ColorArg::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

/// The format of diagnostics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text each.
    #[default]
    Text,
    /// One JSON object a line, with the ids of the run, the pipeline and the trace.
    Json,
    /// Commands that GitHub's workflows show at the lines of files.
    Github,
}

/// Flags of every tool.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Run")]
pub struct CommonArgs {
    /// Suppress the summary, notices and progress, but neither errors nor losses
    #[arg(short, long)]
    pub quiet: bool,
    /// Write the summary to FILE as JSON
    #[arg(long, value_name = "FILE", value_parser = parse_path)]
    pub stats: Option<String>,
    /// Use INSTANT as the current time, for repeatable output
    #[arg(long, value_name = "INSTANT")]
    pub now: Option<String>,
    /// Set the name of the pipeline in control messages, logs and metrics
    #[arg(long, value_name = "NAME", default_value = "evt")]
    pub pipeline: String,
    /// Verify that all inputs and outputs are reachable, then exit; no data is read or written
    #[arg(long)]
    pub check: bool,
    /// Read flags from a TOML file: for all tools at the top, for one tool under [evt-TOOL]
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
    /// Serve metrics at http://ADDR/metrics (:9100 listens on loopback), or write them to FILE every 5 seconds
    #[arg(long, value_name = "ADDR|FILE", value_parser = parse_metrics_target)]
    pub prometheus: Option<String>,
    /// Write diagnostics as text, as one JSON object per line, or as annotations for GitHub (::error file=…,line=…)
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Use colour on a terminal (auto), always or never
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: ColorArg,
}

/// Flags of the tools that read records or rows.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Run")]
pub struct RecordArgs {
    /// Exit with status 1 if any record became a dead letter
    #[arg(long)]
    pub strict: bool,
    /// Report the first N faulty records on stderr, or all [default: 10, then a count per minute]
    #[arg(long, value_name = "N|all", value_parser = parse_report)]
    pub report: Option<Report>,
    /// Limit the size of a record; a longer one becomes a dead letter
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size::parse_buffer)]
    pub max_record: usize,
    /// Fail if an input of more than 100 MiB decompressed is more than N times its compressed size
    #[arg(long, value_name = "N", default_value = "1000", value_parser = parse_count::<u64>)]
    pub max_decompression_ratio: u64,
    /// Use N threads for the records of inputs [default: the cores, at most 16; one for less than 4 MiB]
    #[arg(long, value_name = "N", value_parser = parse_positive::<u8>)]
    pub threads: Option<u8>,
    /// Read librdkafka settings for all topics from FILE, one NAME=VALUE per line
    #[arg(long, value_name = "FILE")]
    pub kafka_config: Option<String>,
}

impl Default for RecordArgs {
    fn default() -> Self {
        let (max_record, max_decompression_ratio) = (Run::RECORD_MAX, RATIO_MAX);
        Self { strict: false, report: None, max_record, max_decompression_ratio, threads: None, kafka_config: None }
    }
}

impl RecordArgs {
    /// Returns the flags of a command line; the defaults for a tool that does not have them.
    pub fn of(found: &ArgMatches) -> Result<Self, clap::Error> {
        // It has a default, so it is there in every tool that has the flags.
        match found.ids().any(|id| id == "max_record") {
            true => Self::from_arg_matches(found),
            false => Ok(Self::default()),
        }
    }
}

impl CommonArgs {
    /// Returns the file of `--prometheus`, if it is one.
    pub fn prometheus_file(&self) -> Option<String> {
        match self.prometheus.as_deref().map(MetricsTarget::parse)? {
            MetricsTarget::File(path) => Some(path.display().to_string()),
            MetricsTarget::Address(_) => None,
        }
    }
}

/// Flags that select rows by their time.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Input")]
pub struct TimeRangeArgs {
    /// Take only rows at or after INSTANT, by event_time, window_start, failed_at or since
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Take only rows before INSTANT
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// Take only rows of the last DURATION, like --since now-DURATION
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "since")]
    pub last: Option<i64>,
}

impl TimeRangeArgs {
    /// Returns the span. Durations count back from `now`; `map` has the time zone of instants without an offset.
    pub fn span(&self, now: i64, map: &MapArgs) -> Result<Span> {
        let zone = map.zone()?;
        let since = self.last.map(|last| now.saturating_sub(last));
        let until = instant_of("--until", self.until.as_deref(), now, zone)?;
        Ok(Span { since: since.or(instant_of("--since", self.since.as_deref(), now, zone)?), until })
    }
}

/// Returns the instant of a flag, if it is given; `now` and `zone` are those of [`parse_flag_instant`].
///
/// Errors: exit status 2, with the name of the flag, if it is not an instant.
pub fn instant_of(flag: &str, text: Option<&str>, now: i64, zone: Option<Zone>) -> Result<Option<i64>> {
    text.map(|text| parse_flag_instant(text, now, zone).map_err(|error| error.at(flag))).transpose()
}

/// Flags of tools that read rows.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Input")]
pub struct InputArgs {
    /// Read these paths or URIs; - is standard input
    #[arg(value_name = "INPUT", default_value = "-")]
    pub inputs: Vec<OsString>,
    /// Set the input format: frames jsonl csv tsv avro parquet clf logfmt syslog regex:PATTERN arrow [default:
    /// detected]
    #[arg(short = 'f', long, value_name = "FORMAT")]
    pub input_format: Option<String>,
    /// Set the kind of the rows: event metric dead late alert [default: detected]
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Read control lines in JSONL; only they advance the watermark
    #[arg(long, conflicts_with = "explode")]
    pub control: bool,
    /// The flags of text inputs.
    #[command(flatten)]
    pub text: TextArgs,
}

/// Flags of text inputs.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Input")]
pub struct TextArgs {
    /// Separate the fields of CSV by C, or tab [default: a comma, or what the first line has: ; tab |]
    #[arg(long, value_name = "C", value_parser = parse_delimiter)]
    pub delimiter: Option<u8>,
    /// Name the fields of CSV without a header (comma-separated)
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with = "no_header")]
    pub header: Vec<String>,
    /// Read the first line of CSV as a record; its fields are c1, c2, …
    #[arg(long)]
    pub no_header: bool,
    /// Read each element of the array at PATH as a record; PATH is for example . (the document), Records or a.b.c
    #[arg(long, value_name = "PATH", value_parser = ElementPath::parse)]
    pub explode: Option<ElementPath>,
    /// Use N as the year of the first syslog time, which has none; a step back of more than 300 days begins the next
    /// year
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9999))]
    pub time_year: Option<u16>,
    /// Read text in this encoding, such as windows-1252 or utf-16 [default: utf-8]
    #[arg(long, value_name = "NAME", value_parser = parse_encoding)]
    pub encoding: Option<&'static Encoding>,
}

impl TextArgs {
    /// Checks that documents come from files or standard input. Errors: exit status 2 if not.
    pub fn check_sources(&self, uris: &[Uri]) -> Result<()> {
        let is_text = |uri: &Uri| matches!(uri, Uri::File(_) | Uri::Bucket(_) | Uri::Standard | Uri::Null);
        match uris.iter().find(|uri| self.explode.is_some() && !is_text(uri)) {
            Some(other) => Err(Error::usage(format!("{other}: --explode reads files and standard input only"))),
            None => Ok(()),
        }
    }

    /// Returns the format, given that of `-f`, and how text is read. The flags of CSV select CSV.
    ///
    /// Errors: exit status 2 if a flag of CSV or syslog is given for another format, or a name twice.
    pub fn options(&self, format: Option<&str>) -> Result<(Option<&'static Format>, Rc<TextOptions>)> {
        let (name, pattern) = match format.and_then(format::split_pattern) {
            Some((name, pattern)) => (Some(name), Some(pattern::parse(pattern)?)),
            None => (format, None),
        };
        let format = name.map(format::to_read).transpose()?;
        if let Some(name) = format.filter(|format| format.takes_pattern && pattern.is_none()).map(|format| format.name)
        {
            let expected = format!("expected {name}:PATTERN with named groups");
            return Err(Error::usage(format!("-f {name}: {expected}, found no pattern")));
        }
        let flags = [
            ("--delimiter", self.delimiter.is_some()),
            ("--header", !self.header.is_empty()),
            ("--no-header", self.no_header),
        ];
        let csv = flags.iter().find(|(_, is_given)| *is_given);
        let format = match (csv, format) {
            (Some((flag, _)), Some(format)) if format.delimiter.is_none() => {
                return Err(Error::usage(format!("{flag} requires -f csv or tsv, found -f {}", format.name)));
            }
            (Some(_), None) => Some(&format::csv::CSV),
            (_, format) => format,
        };
        if self.time_year.is_some() && !format.is_some_and(|format| format.lacks_years) {
            return Err(Error::usage("--time-year requires -f syslog"));
        }
        let format = match (&self.explode, format) {
            (Some(_), Some(format)) if !format.is_json => {
                return Err(Error::usage(format!("--explode requires -f jsonl, found -f {}", format.name)));
            }
            (Some(_), None) => Some(&format::jsonl::FORMAT),
            (_, format) => format,
        };
        let twice = self.header.iter().enumerate().find(|(at, name)| self.header[..*at].contains(name));
        if let Some((_, name)) = twice {
            return Err(Error::usage(format!("--header: expected different names, found '{name}' twice")));
        }
        let is_list = |name: &String| {
            name.bytes()
                .any(|byte| Some(byte) == self.delimiter.filter(|byte| *byte != b',') || b";|\t".contains(&byte))
        };
        if let [only] = &self.header[..]
            && is_list(only)
        {
            return Err(Error::usage(format!("--header: expected names separated by commas, found '{only}'")));
        }
        let header = match (&self.header[..], self.no_header) {
            ([], false) => CsvHeader::FirstLine,
            ([], true) => CsvHeader::Numbers,
            (names, _) => CsvHeader::Names(names.to_vec()),
        };
        let Self { encoding, delimiter, time_year: year, .. } = *self;
        let explode = self.explode.clone();
        Ok((format, Rc::new(TextOptions { encoding, delimiter, header, pattern, year, explode, kind: None })))
    }
}

/// Flags of tools that write rows.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Write rows to URI (repeatable); - is standard output
    #[arg(long, value_name = "URI", default_value = "-")]
    pub to: Vec<OsString>,
    /// Set the output format: frames jsonl csv tsv avro parquet arrow table svg raw [default: by URI]
    #[arg(short = 'o', long, value_name = "FORMAT")]
    pub output_format: Option<String>,
    /// Replace output files that exist
    #[arg(long, conflicts_with = "append")]
    pub overwrite: bool,
    /// Add rows to output files of text that exist
    #[arg(long)]
    pub append: bool,
    /// Write dead letters to URI; without it they are reported and dropped
    #[arg(long, value_name = "URI")]
    pub dlq: Option<OsString>,
}

/// Flags of a checkpoint.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Checkpoint")]
pub struct CheckpointArgs {
    /// Keep state and positions in a directory or a bucket of S3, and write each row once, whatever stops the run
    /// (evt-checkpoint(5))
    #[arg(long, value_name = "DIR|s3://BUCKET/PREFIX", value_parser = path_or(&evt_run::bucket::address::SCHEMES))]
    pub checkpoint: Option<PathBuf>,
    /// End an epoch, whose rows become visible together, every DURATION
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "10s", requires = "checkpoint")]
    pub checkpoint_every: i64,
    /// Keep the last N complete epochs
    #[arg(long, value_name = "N", default_value = "2", value_parser = parse_positive::<usize>, requires = "checkpoint")]
    pub keep_epochs: usize,
    /// Continue from the K-th epoch before the last one, such as n-1 if the last one is damaged; outputs without keys
    /// get rows twice
    #[arg(long, value_name = "n-K", value_parser = parse_epoch_back, requires = "checkpoint")]
    pub restore: Option<usize>,
    /// Expect N last stages, because tee(1) splits the pipe
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_positive::<usize>, requires = "checkpoint")]
    pub ends: usize,
}

/// The flag of a stage that may stand behind tee(1) in a pipe with a checkpoint.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Checkpoint")]
pub struct BranchArgs {
    /// Name the branch behind tee(1) that begins with this stage, in the checkpoint of the pipe (evt-checkpoint(5))
    #[arg(long, value_name = "NAME", value_parser = parse_branch)]
    pub branch: Option<String>,
}

/// Checks that a target of metrics that ends in a colon and digits is the address that it seems to be.
fn parse_metrics_target(text: &str) -> Result<String, String> {
    let is_number = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match text.rsplit_once(':').filter(|(_, port)| !text.contains('/') && is_number(port)) {
        Some((_, port)) if port.parse::<u16>().is_err() => {
            Err(format!("expected a port of at most 65535, found {port} (for a file write ./{text})"))
        }
        _ => Ok(text.to_owned()),
    }
}

/// Parses the name of a branch, which is part of the names of files and of Kafka's groups.
fn parse_branch(text: &str) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match (1..=32).contains(&text.len()) && text.bytes().all(is_name) {
        true => Ok(text.to_owned()),
        false => Err("expected 1 to 32 letters, digits or underscores".to_owned()),
    }
}

/// Parses `n-K`: how many epochs before the last complete one.
fn parse_epoch_back(text: &str) -> Result<usize, String> {
    let back = text.strip_prefix("n-").and_then(|back| back.parse().ok()).filter(|back| *back > 0);
    back.ok_or_else(|| "expected n-1, the epoch before the last one, or n-2, …".to_owned())
}

impl CheckpointArgs {
    /// Returns the settings of the checkpoint, if there is one.
    pub fn options(&self) -> Option<CheckpointOptions> {
        let every = Duration::from_micros(self.checkpoint_every.unsigned_abs());
        let (kept, back, ends) = (self.keep_epochs, self.restore.unwrap_or(0), self.ends);
        self.checkpoint.clone().map(|path| CheckpointOptions { path, every, kept, back, ends })
    }
}

/// The flags that map foreign records to events.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Mapping")]
pub struct MapArgs {
    /// Copy the field PATH of each record into COLUMN (repeatable)
    #[arg(long, value_name = "COLUMN=PATH", value_parser = parse_pair)]
    pub field: Vec<(String, String)>,
    /// Set COLUMN to TEXT in each event (repeatable)
    #[arg(long, value_name = "COLUMN=TEXT", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
    /// Take the event time from a column or path (of several with commas, the first with a value), an expression
    /// (=EXPR), or the clock (arrival)
    #[arg(long, value_name = "FIELD")]
    pub time: Option<String>,
    /// Read numeric times in this unit: s ms us ns d, or the one of s to ns from 1980 to 2100 [default: auto]
    #[arg(long, value_name = "UNIT", value_parser = parse_unit)]
    pub time_unit: Option<NamedUnit>,
    /// Parse times that are not RFC 3339 with this strftime format [default: ISO 8601]
    #[arg(long, value_name = "STRFTIME", value_parser = parse_strftime)]
    pub time_format: Option<String>,
    /// Use this IANA time zone for times without an offset [default: UTC]
    #[arg(long, value_name = "NAME")]
    pub time_zone: Option<String>,
    /// Reject events before INSTANT [default: 1980-01-01 for numbers of 0 and more whose unit is given]
    #[arg(long, value_name = "INSTANT")]
    pub min_time: Option<String>,
    /// Reject events timestamped more than this after arrival
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub max_future: Option<i64>,
    /// Reject records in which one of these fields is missing or null (comma-separated)
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    pub require: Vec<String>,
    /// Make every field of a record a property; only --field and --set fill columns
    #[arg(long)]
    pub plain: bool,
    /// Derive a UUID from source and event_id when event_id is not a UUID
    #[arg(long)]
    pub hash_ids: bool,
    /// Use NAME as the origin instead of the name of the input
    #[arg(long, value_name = "NAME")]
    pub origin: Option<String>,
    /// List every partition in advance, if --field maps partitions (comma-separated)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub partitions: Option<Vec<String>>,
}

/// Flags of every tool that reads rows and writes rows.
#[derive(Args, Clone, Debug)]
pub struct StageArgs {
    /// The flags of the inputs.
    #[command(flatten)]
    pub input: InputArgs,
    /// The flags that map raw records to events.
    #[command(flatten)]
    pub map: MapArgs,
    /// The flags of the outputs.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The limits and reports of records.
    #[command(flatten)]
    pub records: RecordArgs,
    /// The run.
    #[command(flatten)]
    pub common: CommonArgs,
}

impl StageArgs {
    /// Returns the flags of a tool that reads no input and writes raw records to standard output.
    pub fn without_input(common: CommonArgs) -> Self {
        let input =
            InputArgs { inputs: vec![], input_format: None, kind: None, control: false, text: TextArgs::default() };
        let output = OutputArgs {
            to: vec!["-".into()],
            output_format: Some("raw".into()),
            overwrite: false,
            append: false,
            dlq: None,
        };
        Self { input, map: MapArgs::default(), output, records: RecordArgs::default(), common }
    }

    /// Returns the options of the source.
    pub fn source(&self, mapping: mapping::Options, run: &Run) -> Result<SourceOptions> {
        let Self { input, map, .. } = self;
        let (format, text) = input.text.options(input.input_format.as_deref())?;
        input.text.check_sources(&input.uris(run)?)?;
        let (mut options, kind, control) = (SourceOptions::default(), input.kind()?, input.control);
        options.records = RecordOptions { mapping, kind, named: kind, control, ..options.records };
        options.inputs.files = FileOptions { format, text, ..options.inputs.files };
        options.inputs.names = map.names();
        Ok(options)
    }

    /// Whether the tool would wait for input typed at a terminal.
    pub fn waits_at_terminal(&self) -> bool {
        self.input.inputs.iter().all(|input| input == "-") && self.input.input_format.is_none()
    }
}

impl MapArgs {
    /// Returns the names that these flags give to records.
    pub fn names(&self) -> PartitionNames {
        PartitionNames { origin: self.origin.clone(), partitions: self.partitions.clone() }
    }

    /// Returns the zone of times without an offset, if a flag names one.
    ///
    /// Errors: exit status 2 if there is none of that name.
    pub fn zone(&self) -> Result<Option<Zone>> {
        self.time_zone.as_deref().map(When::zone).transpose()
    }

    /// Returns the mapping options of these flags.
    pub fn options(&self, provenance: Provenance) -> Result<mapping::Options> {
        let when = When {
            unit: self.time_unit.and_then(|NamedUnit(unit)| unit),
            format: self.time_format.clone(),
            zone: self.zone()?,
        };
        when.check()?;
        let min_time = self.min_time.as_deref().map(|text| parse_min_time(text, when.zone)).transpose()?;
        Ok(mapping::Options {
            fields: self.field.clone(),
            sets: self.set.clone(),
            time: self.time.as_deref().map_or(Ok(TimeFrom::Default), TimeFrom::parse)?,
            when,
            plain: self.plain,
            hash_ids: self.hash_ids,
            partitions: self.partitions.clone(),
            require: self.require.clone(),
            provenance,
            min_time,
            max_future: self.max_future,
            ..mapping::Options::default()
        })
    }
}

impl InputArgs {
    /// Returns the inputs.
    pub fn uris(&self, run: &Run) -> Result<Vec<Uri>> {
        let (has_format, caller) = (self.input_format.is_some(), run.caller());
        self.inputs.iter().map(|text| Uri::of_input(text, has_format, &caller)).collect()
    }

    /// Replaces the names of files that are SQLite databases by those of their stores; returns whether there were any.
    pub fn name_databases(&mut self, run: &Run) -> bool {
        let has_format = self.input_format.is_some();
        let mut is_any = false;
        for input in self.inputs.iter_mut().filter(|_| !has_format) {
            if let Some(name) = Uri::name_of_database(input, &run.caller()) {
                *input = name.into();
                is_any = true;
            }
        }
        is_any
    }

    /// Returns the kind that `--kind` names, if it is given. Errors: exit status 2 for an unknown kind.
    pub fn kind(&self) -> Result<Option<Kind>> {
        let parse = |name: &str| {
            let unknown = || Error::usage(format!("--kind: expected event, metric, dead, late or alert, found {name}"));
            Kind::from_name(name).ok_or_else(unknown)
        };
        self.kind.as_deref().map(parse).transpose()
    }
}

fn parse_strftime(text: &str) -> Result<String, String> {
    match StrftimeItems::new(text).any(|item| item == Item::Error) {
        true => Err("expected a strftime format, found an unknown % sequence".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ => Err("expected one ASCII character, such as ';', or tab".to_owned()),
    }
}

fn parse_encoding(text: &str) -> Result<&'static Encoding, String> {
    let known =
        || "expected the name of an encoding, such as windows-1252, iso-8859-15, utf-16 or shift_jis".to_owned();
    Encoding::for_label_no_replacement(text.as_bytes()).ok_or_else(known)
}

fn parse_report(text: &str) -> Result<Report, String> {
    match text {
        "all" => Ok(Report::All),
        _ => parse_count(text).map(Report::First).map_err(|_| "expected a number or all".to_owned()),
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected COLUMN=VALUE".to_owned()),
    }
}

/// `--time-unit`; `None` is auto.
#[derive(Clone, Copy, Debug)]
pub struct NamedUnit(Option<TimeUnit>);

fn parse_unit(text: &str) -> Result<NamedUnit, String> {
    match text {
        "auto" => Ok(NamedUnit(None)),
        _ => TimeUnit::from_name(text)
            .map(|unit| NamedUnit(Some(unit)))
            .ok_or_else(|| "expected one of auto s ms us ns d".to_owned()),
    }
}
