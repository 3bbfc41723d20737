//! evt-gen: generates events with a given rate, disorder, lateness and faults from a seed. (`gen` is a keyword of
//! Rust.)

use crate::cli::Tool;
use crate::cli::args::{CommonArgs, parse_count, parse_share};
use crate::cli::check::Findings;
use crate::error::{Error, Result};
use crate::generate::truth::{Rules, TimeField, Truth, TruthDimension};
use crate::generate::{Generator, Options};
use crate::output::identity::{Identity, Named};
use crate::run::Run;
use crate::run::standard;
use crate::store::room;
use crate::time::{parse_duration, parse_instant};
use clap::Args as ClapArgs;
use clap::{Parser, ValueEnum};
use std::io::Write;
use std::path::PathBuf;
use std::rc::Rc;

/// Generate events from a seed, as JSON lines
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Generate this many records, faults and duplicates included
    #[arg(long, value_name = "COUNT", default_value = "1M", value_parser = parse_count)]
    pub events: u64,
    /// Set the seed; the same seed and flags give the same bytes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Generate this many records per second of event time
    #[arg(long, value_name = "N", default_value_t = 1000.0)]
    pub rate: f64,
    /// Set the earliest event time of a record that is not late
    #[arg(long, value_name = "INSTANT", default_value = "2026-01-01T00:00:00Z", value_parser = instant)]
    pub start: i64,
    /// Use N partitions; with more than one, each record has a field `shard` for `--field partition=shard`
    #[arg(long, value_name = "N", default_value_t = 1)]
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
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl Tool for Args {
    const NAME: &'static str = "evt-gen";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Generate a thousand clean events.", "evt-gen --events 1k --seed 7 > events.jsonl"),
        (
            "Generate faults of every kind, with the expected results.",
            "evt-gen --events 10k --late 1% --duplicates 1% --malformed 0.1% --truth truth.json | evt-ingest -q --dlq dead.jsonl | evt-window --size 1m --by event_type --late late.jsonl | evt-view",
        ),
    ];

    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn run(self, run: Rc<Run>) -> Result<u8> {
        let stop = || run.stop.signal().is_some();
        let options = self.options();
        if self.common.check {
            return self.check(&run);
        }
        run.service.ready();
        let mut out = standard::output()?;
        let Some(path) = &self.truth else {
            write(options, &mut out, &stop, None)?;
            return Ok(0);
        };
        let shown = path.display().to_string();
        let failed = |error: std::io::Error| Error::io(shown.clone(), &error);
        let mut named = Named::default();
        named.output("-", Some(Identity::of_output()))?;
        named.output(&shown, Identity::of_path(path))?;
        room::for_file(path).map_err(failed)?;
        let mut truth = vec![];
        write(options, &mut out, &stop, Some((self.rules(), &mut truth)))?;
        std::fs::write(path, truth).map_err(failed)?;
        Ok(0)
    }
}

/// How records are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
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
    #[arg(long, value_name = "D", default_value = "30s", value_parser = parse_duration, requires = "truth")]
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
    /// Expect the records to arrive as a file, or over HTTP (evt-ingest http://...), where server_timestamp is the arrival
    /// and --time must be client_timestamp
    #[arg(long, value_name = "FORM", default_value = "file", requires = "truth")]
    truth_as: Form,
}

impl Args {
    /// `--check`: checks that options and rules are in range, and that the truth file can be written.
    fn check(&self, run: &Rc<Run>) -> Result<u8> {
        let mut findings = Findings::new(run);
        findings.take(Generator::new(self.options()));
        if let Some(path) = &self.truth {
            findings.take(Truth::new(self.rules()));
            let room = room::for_file(path).map_err(|error| Error::io(path.display().to_string(), &error));
            if findings.take(room).is_some() {
                findings.ready(path.display());
            }
        }
        findings.tell()
    }

    /// Returns the options of the generator.
    pub fn options(&self) -> Options {
        Options {
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
            over_http: rules.truth_as == Form::Http,
        }
    }
}

/// Bytes that are buffered before a write.
const CHUNK_BYTES: usize = 1 << 16;

/// Writes the records to `out` as JSON lines and, once all are generated, the expected results as JSON to `truth`. When
/// `stop` returns true, it ends after a whole line, and the expected results are those of the lines written.
///
/// Errors: exit status 2 if an option or a rule is out of range, before anything is written.
pub fn write(
    options: Options,
    out: &mut dyn Write,
    stop: &dyn Fn() -> bool,
    truth: Option<(Rules, &mut dyn Write)>,
) -> Result<()> {
    let mut generator = Generator::new(options)?;
    let mut truth = match truth {
        Some((rules, target)) => Some((Truth::new(rules)?, target)),
        None => None,
    };
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + (1 << 12));
    let mut start = 0;
    while let Some(made) = generator.next(&mut chunk) {
        chunk.push(b'\n');
        if let Some((truth, _)) = &mut truth {
            truth.record(&made, (chunk.len() - start) as u64);
        }
        if chunk.len() >= CHUNK_BYTES {
            out.write_all(&chunk).map_err(|error| Error::io("events", &error))?;
            chunk.clear();
            if stop() {
                break;
            }
        }
        start = chunk.len();
    }
    out.write_all(&chunk).and_then(|()| out.flush()).map_err(|error| Error::io("events", &error))?;
    match truth {
        Some((truth, target)) => write_truth(truth, target),
        None => Ok(()),
    }
}

fn write_truth(truth: Truth, target: &mut dyn Write) -> Result<()> {
    let text = serde_json::to_string_pretty(&truth.finish()?).map_err(|error| Error::broken("truth").because(error))?;
    target
        .write_all(text.as_bytes())
        .and_then(|()| target.write_all(b"\n"))
        .and_then(|()| target.flush())
        .map_err(|error| Error::io("truth", &error))
}

fn table(text: &str) -> Result<u32, String> {
    u32::try_from(parse_count(text)?).map_err(|_| format!("expected a count below 2^32, found '{text}'"))
}

fn instant(text: &str) -> Result<i64> {
    parse_instant(text)
        .ok_or_else(|| Error::usage(format!("expected an RFC 3339 instant like 2026-01-01T00:00:00Z, found '{text}'")))
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
    fn parse(flags: &[&str]) -> Option<Args> {
        Args::try_parse_from(["evt-gen"].iter().chain(flags)).ok()
    }

    #[test]
    fn without_flags_options_and_rules_are_the_defaults() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.options(), Options::default());
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

    #[test]
    fn lines_and_truth_agree_in_number() {
        let options = Options { events: 1000, late: 0.1, malformed: 0.1, too_large: 0.001, ..Options::default() };
        let (mut lines, mut truth) = (vec![], vec![]);
        write(options.clone(), &mut lines, &|| false, Some((Rules::default(), &mut truth))).unwrap();
        let truth: serde_json::Value = serde_json::from_slice(&truth).unwrap();
        assert_eq!(truth["records"], lines.iter().filter(|byte| **byte == b'\n').count());
        assert_eq!(truth["bytes"], lines.len());
        let mut alone = vec![];
        write(options, &mut alone, &|| false, None).unwrap();
        assert!(alone == lines, "the truth changes no byte");
    }

    #[test]
    fn nothing_is_written_when_a_rule_is_wrong() {
        let mut lines = vec![];
        let rules = Rules { size: 0, ..Rules::default() };
        assert!(write(Options::default(), &mut lines, &|| false, Some((rules, &mut vec![]))).is_err());
        assert!(lines.is_empty());
    }
}
