//! evt-gen: generates events with a given rate, disorder, lateness and faults from a seed. (`gen` is a keyword of
//! Rust.)

use crate::cli::Tool;
use crate::cli::args::{CommonArgs, StageArgs};
use crate::cli::check::CheckReport;
use crate::cli::open::{open, pass};
use crate::cli::resolve::StageSpec;
use crate::cli::values::{parse_count, parse_share, path};
use crate::output::identity::{Identities, Identity};
use crate::source::SourceOptions;
use crate::stage::Stage;
use clap::Args as ClapArgs;
use clap::{Parser, ValueEnum};
use evt_core::error::{Error, Result};
use evt_core::generate::truth::{Rules, TimeField, Truth, TruthDimension};
use evt_core::generate::{self, Generator};
use evt_core::time::{parse_duration, read_iso};
use evt_run::input::Input;
use evt_run::input::generated::{GeneratedInput, TruthFile};
use evt_run::run::Run;
use evt_run::run::io::Io;
use evt_run::storage::access;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Generate events from a seed, as JSON lines
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Generate this many records, faults and duplicates included
    #[arg(long, value_name = "COUNT", default_value = "1M", value_parser = parse_count::<u64>)]
    pub events: u64,
    /// Set the seed; the same seed and flags give the same bytes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Generate this many records per second of event time
    #[arg(long, value_name = "N", default_value = "1000", value_parser = rate)]
    pub rate: f64,
    /// Set the earliest event time of a record that is not late
    #[arg(long, value_name = "INSTANT", default_value = "2026-01-01T00:00:00Z", value_parser = instant)]
    pub start: i64,
    /// Use N partitions; with more than one, each record has a field `shard` for `--field partition=shard`
    #[arg(long, value_name = "N", default_value = "1", value_parser = table)]
    pub partitions: u32,
    /// Use this many distinct users; one record in ten has none
    #[arg(long, value_name = "COUNT", default_value = "100k", value_parser = table)]
    pub users: u32,
    /// Use this many distinct pages
    #[arg(long, value_name = "COUNT", default_value = "500", value_parser = table)]
    pub pages: u32,
    /// Use this many distinct countries, at most 40
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub countries: u32,
    /// Use this many distinct event types, at most 8
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub event_types: u32,
    /// Set the Zipf exponent for users, pages, countries and event types; with 0 all are equally likely
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    pub skew: f64,
    /// Mix this many versions of the schemas: 1 or 2
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub schema_versions: u32,
    /// Delay events by at most this much between event time and arrival
    #[arg(long, value_name = "D", default_value = "5s", value_parser = parse_duration)]
    pub disorder: i64,
    /// Make this share of records late: between --late-by and twice that behind the stream time of their partition
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    pub late: f64,
    /// Set the minimum delay of late records
    #[arg(long, value_name = "D", default_value = "2m", value_parser = parse_duration)]
    pub late_by: i64,
    /// Make this share of records repeat a recent one byte for byte
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    pub duplicates: f64,
    /// Set the client's clock ahead in this share of records, by --future-by to twice that
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    pub future: f64,
    /// Set the minimum lead of clocks that are ahead
    #[arg(long, value_name = "D", default_value = "1h", value_parser = parse_duration)]
    pub future_by: i64,
    /// Make this share of records invalid for evt-ingest, in twelve ways
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    pub malformed: f64,
    /// Make this share of records violate their schema
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    pub invalid: f64,
    /// Make this share of records longer than 1 MiB
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    pub too_large: f64,
    /// Write the expected results under the rules below to FILE, as JSON
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub truth: Option<PathBuf>,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl Tool for Args {
    const NAME: &'static str = "evt-gen";
    const USUAL_FLAGS: &'static [&'static str] =
        &["events", "seed", "rate", "partitions", "late", "duplicates", "malformed", "truth", "quiet"];
    const NEGATIVE: &'static str = "evt-gen does not use this status.";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Generate a thousand clean events.", "evt-gen --events 1k --seed 7 > events.jsonl"),
        (
            "Generate faults of every kind, with the expected results.",
            "evt-gen --events 10k --late 1% --duplicates 1% --malformed 0.1% --truth truth.json | evt-ingest -q --dlq dead.jsonl | evt-window --size 1m --by event_type --late late.jsonl | evt-view",
        ),
    ];

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        self.stage(run)?.run()
    }

    fn check(self, run: &Rc<Run>, findings: &mut CheckReport) {
        findings.take(Generator::new(self.options()));
        if let Some(path) = &self.truth {
            findings.take(Truth::new(self.rules()));
            if findings.take(check_truth(path, &run.io)).is_some() {
                findings.ready(path.display());
            }
        }
        findings.stage(StageSpec::new(&StageArgs::without_input(self.common)), None);
    }
}

/// The way in which the pipeline receives the records (`--truth-as`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HandOver {
    /// As lines of a file or a pipe.
    File,
    /// As requests over HTTP.
    Http,
}

/// Flags that say how the records will be read, named as in evt-ingest, evt-validate and evt-window.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Rules for --truth")]
struct RuleArgs {
    /// Set the length of a window
    #[arg(long, value_name = "D", default_value = "1m", value_parser = parse_duration, requires = "truth")]
    size: i64,
    /// Start a window every D [default: --size]
    #[arg(long, value_name = "D", value_parser = parse_duration, requires = "truth")]
    slide: Option<i64>,
    /// Group by these fields: event_type, source, user_id, page, country, device
    #[arg(long, value_name = "FIELD", default_value = "event_type", value_delimiter = ',', requires = "truth")]
    by: Vec<TruthDimension>,
    /// Allow events this far behind the stream time of their partition
    // EVT_OUT_OF_ORDERNESS is for evt-window, too, so it needs no --truth.
    #[arg(long, value_name = "D", default_value = "30s", value_parser = parse_duration)]
    out_of_orderness: i64,
    /// Accept events until the watermark is this far past the end of a window
    #[arg(long, value_name = "D", default_value = "0s", value_parser = parse_duration, requires = "truth")]
    lateness: i64,
    /// Take the event time from server_timestamp or client_timestamp
    #[arg(long, value_name = "FIELD", default_value = "server_timestamp", value_parser = time_field, requires = "truth")]
    time: TimeField,
    /// Reject events timestamped more than this after their server_timestamp [default: no limit]
    #[arg(long, value_name = "D", value_parser = parse_duration, requires = "truth")]
    max_future: Option<i64>,
    /// Treat an event_id seen within this much stream time as a duplicate [default: no dedup]
    #[arg(long, value_name = "D", value_parser = parse_duration, requires = "truth")]
    dedup: Option<i64>,
    /// Expect evt-validate to reject --invalid records
    #[arg(long, requires = "truth")]
    validated: bool,
    /// Expect `shard` to be mapped to the partition
    #[arg(long, requires = "truth")]
    sharded: bool,
    /// Expect the records to arrive as a file, or over HTTP (evt-ingest http://...), where server_timestamp is the
    /// arrival and --time must be client_timestamp
    #[arg(long, value_name = "FORM", default_value = "file", requires = "truth")]
    truth_as: HandOver,
}

impl Args {
    /// Opens the stage. Errors: exit status 2 if an option or a rule is out of range.
    pub fn stage(self, run: &Rc<Run>) -> Result<Stage> {
        let generator = Generator::new(self.options())?;
        let truth = match self.truth.clone() {
            Some(path) => {
                check_truth(&path, &run.io)?;
                Some(TruthFile { truth: Truth::new(self.rules())?, path })
            }
            None => None,
        };
        let generated: Box<dyn Input> = Box::new(GeneratedInput::new(generator, truth));
        let options = SourceOptions { generated: Some(generated), ..SourceOptions::default() };
        open(StageSpec::new(&StageArgs::without_input(self.common)), options, run, Box::new(pass))
    }

    /// Returns the options of the generator.
    pub fn options(&self) -> generate::Options {
        generate::Options {
            events: self.events,
            seed: self.seed,
            rate: self.rate,
            start: self.start,
            partitions: self.partitions,
            users: self.users,
            pages: self.pages,
            countries: self.countries,
            event_types: self.event_types,
            skew: self.skew,
            schema_versions: self.schema_versions,
            disorder: self.disorder,
            late: self.late,
            late_by: self.late_by,
            duplicates: self.duplicates,
            future: self.future,
            future_by: self.future_by,
            malformed: self.malformed,
            invalid: self.invalid,
            too_large: self.too_large,
        }
    }

    /// Returns the rules of the expected results.
    pub fn rules(&self) -> Rules {
        let rules = self.rules.clone();
        Rules {
            size: rules.size,
            slide: rules.slide,
            by: rules.by,
            out_of_orderness: rules.out_of_orderness,
            lateness: rules.lateness,
            time: rules.time,
            max_future: rules.max_future,
            dedup: rules.dedup,
            validated: rules.validated,
            sharded: rules.sharded,
            over_http: rules.truth_as == HandOver::Http,
        }
    }
}

/// Checks that the truth can be written at `path`, and that standard output is another file.
fn check_truth(path: &Path, io: &Io) -> Result<()> {
    let shown = path.display().to_string();
    let mut named = Identities::default();
    named.output("-", Some(Identity::of_output(io)))?;
    named.output(&shown, Identity::of_path(path))?;
    access::check_file(path).map_err(|error| Error::io(shown, &error))
}

fn table(text: &str) -> Result<u32, String> {
    u32::try_from(parse_count::<u64>(text)?).map_err(|_| format!("expected a count below 2^32, found '{text}'"))
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse().or_else(|_| parse_count::<u64>(text).map(|count| count as f64))
}

fn instant(text: &str) -> Result<i64> {
    read_iso(text, None).map_err(|_| {
        Error::usage(format!("expected an instant like 2026-01-01T00:00:00Z or 2026-01-01, found '{text}'"))
    })
}

fn time_field(text: &str) -> Result<TimeField> {
    match text {
        "server_timestamp" => Ok(TimeField::Server),
        "client_timestamp" => Ok(TimeField::Client),
        _ => Err(Error::usage(format!("expected server_timestamp or client_timestamp, found '{text}'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::error::ErrorKind;
    use evt_run::clock::Clock;
    use evt_run::run::io::Pipe;
    use evt_run::storage::disk::Disk;
    use std::io::Read;

    fn parse(flags: &[&str]) -> Option<Args> {
        Args::try_parse_from(["evt-gen"].iter().chain(flags)).ok()
    }

    #[test]
    fn without_flags_options_and_rules_are_the_defaults() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.options(), generate::Options::default());
        assert_eq!(args.rules(), Rules::default());
    }

    #[test]
    fn values_are_written_as_everywhere_in_the_house() {
        let args = parse(&["--events", "2k", "--late", "1%", "--truth", "t", "--by", "country,page", "--slide", "10s"]);
        let args = args.unwrap();
        assert_eq!((args.options().events, args.options().late), (2000, 0.01));
        assert_eq!(args.rules().by, [TruthDimension::Country, TruthDimension::Page]);
        for bad in [["--late", "2"], ["--late", "nan"], ["--events", "1é"], ["--disorder", "5"]] {
            assert!(parse(&bad).is_none(), "{bad:?}");
        }
        assert!(parse(&["--size", "1h"]).is_none(), "a rule without a truth would do nothing");
    }

    /// Runs the tool on pipes in memory; returns what it writes.
    fn run(flags: &[&str]) -> Result<Vec<u8>> {
        let mut stdout = Pipe::default();
        let io = Io::Simulated { stdin: Pipe::default(), stdout: stdout.clone(), disk: Disk::default(), lag: 0 };
        let run = Rc::new(Run { io, ..Run::unwatched("evt-gen", Clock::System) });
        let status = parse(&[flags, &["-q"]].concat()).unwrap().stage(&run)?.run()?;
        assert_eq!(status, 0);
        stdout.close();
        let mut lines = vec![];
        stdout.read_to_end(&mut lines).unwrap();
        Ok(lines)
    }

    #[test]
    fn the_stage_writes_the_bytes_of_the_generator_and_their_truth() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("truth.json");
        let flags = ["--events", "1k", "--late", "0.1", "--malformed", "0.1", "--too-large", "0.001"];
        let mut generator = Generator::new(parse(&flags).unwrap().options()).unwrap();
        let mut wanted = vec![];
        while generator.next(&mut wanted).is_some() {
            wanted.push(b'\n');
        }
        let lines = run(&[&flags[..], &["--truth", path.to_str().unwrap()]].concat()).unwrap();
        assert!(lines == wanted && run(&flags).unwrap() == wanted, "the truth changes no byte");
        let truth: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(truth["records"], 1000);
        assert_eq!(truth["bytes"], lines.len());
        assert!(run(&["--events", "0"]).unwrap().is_empty());
    }

    #[test]
    fn nothing_is_written_when_a_rule_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("truth.json");
        let error = run(&["--truth", path.to_str().unwrap(), "--size", "0s"]).unwrap_err();
        assert_eq!((error.kind(), path.exists()), (ErrorKind::Usage, false));
    }
}
