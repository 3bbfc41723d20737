//! evt-flink: the metrics of a file as a job of Apache Flink.

use crate::cli::Tool;
use crate::cli::args::{CommonArgs, instant_of};
use crate::cli::check::CheckReport;
use crate::tool::metrics::MetricArgs;
use clap::Parser;
use evt_core::error::{Error, Result};
use evt_core::flink::{
    JobOptions, MetricOutput, Range, Refusal, Topic, Topics, WrittenMetrics, files, reduced, script, verdicts,
};
use evt_core::op::window::spec::{self, Spec};
use evt_core::op::window::watermark::{LIVE, OutOfOrderness};
use evt_core::time::parse_duration;
use evt_run::run::Run;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// One millisecond (µs), the least time of Flink.
const MILLISECOND: i64 = 1000;
/// The name of the jar.
const JAR: &str = "evt-flink.jar";

/// Write a job of Apache Flink that computes metrics with the rows of evt-window
#[derive(Parser, Debug)]
pub struct Args {
    #[command(flatten)]
    metrics: MetricArgs,
    /// Leave out all metrics but NAME (repeatable)
    #[arg(long, value_name = "NAME", help_heading = "Metrics")]
    only: Vec<String>,
    /// Take the event time from a column of the records, or a path [default: server_timestamp, else event_time, else
    /// the timestamp of the record]
    #[arg(long, value_name = "FIELD", help_heading = "Time")]
    time: Option<String>,
    /// Allow events this far behind the stream time of their partition [default: that of the file, else 30s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "Time")]
    out_of_orderness: Option<i64>,
    /// Take only events at or after INSTANT
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true, help_heading = "Time")]
    since: Option<String>,
    /// Read events as evt writes them from this topic; in Avro with ?format=avro&schemas=URL
    #[arg(value_name = "kafka://HOST:PORT/TOPIC", help_heading = "Input")]
    events: String,
    #[command(flatten)]
    outputs: OutputArgs,
    /// Write the job, its functions and its proof to this directory [default: the job on standard output]
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    dir: Option<PathBuf>,
    /// Write a job of the metrics alone that the one in OLD_DIR does not have, to run beside it
    #[arg(long, value_name = "OLD_DIR", requires = "dir", help_heading = "Output")]
    upgrade: Option<PathBuf>,
    /// Replace a job of --dir that differs
    #[arg(long, requires = "dir", help_heading = "Output")]
    overwrite: bool,
    /// Copy the functions from this file [default: share/evt beside the directory of evt]
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    jar: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

/// The topics that a job writes.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Output")]
struct OutputArgs {
    /// Write metrics to this topic, or to evt's tables in PostgreSQL (postgres://USER@HOST/DATABASE)
    #[arg(long, value_name = "URI")]
    to: String,
    /// Write late events to this topic
    #[arg(long, value_name = "TOPIC")]
    late: String,
    /// Write events that only some of their windows counted to --late, too
    #[arg(long)]
    late_partial: bool,
    /// Write dead letters to this topic
    #[arg(long, value_name = "TOPIC")]
    dlq: String,
    /// Make rows visible every DURATION, at a checkpoint
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    checkpoint_every: i64,
}

impl Tool for Args {
    const NAME: &'static str = "evt-flink";
    const USUAL_FLAGS: &'static [&'static str] =
        &["metrics", "only", "time", "out-of-orderness", "to", "late", "dlq", "dir", "quiet"];
    const NEGATIVE: &'static str = "Not used.";
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "Show whether Flink can compute the metrics of a file.",
            "evt-flink -m metrics.toml kafka://localhost:9092/events --to kafka://localhost:9092/metrics --late \
             kafka://localhost:9092/late --dlq kafka://localhost:9092/dead --check",
        ),
        (
            "Show the job.",
            "evt-flink -m metrics.toml kafka://localhost:9092/events --to kafka://localhost:9092/metrics --late \
             kafka://localhost:9092/late --dlq kafka://localhost:9092/dead --out-of-orderness 1m",
        ),
    ];

    fn run(self, run: &Rc<Run>) -> Result<u8> {
        let whole = self.metrics.text(&run.caller())?;
        let (text, spec) = self.chosen(&whole)?;
        let options = self.options(&spec, run)?;
        let Some(dir) = &self.dir else {
            run.io.print(&script(&spec, &options).map_err(|refusals| refused(&refusals))?)?;
            return Ok(0);
        };
        let jar = self.jar()?;
        let definition = WrittenMetrics { text: &text, spec: &spec };
        let files = files(&definition, &options).map_err(|refusals| refused(&refusals))?;
        self.check_old(dir, &files)?;
        let wrong = |path: &Path, error: &std::io::Error| Error::io(path.display().to_string(), error);
        fs::create_dir_all(dir).map_err(|error| wrong(dir, &error))?;
        for (name, text) in &files {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|error| wrong(&path, &error))?;
            if Path::new(name).extension() == Some(OsStr::new("sh")) {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(|error| wrong(&path, &error))?;
            }
        }
        fs::copy(&jar, dir.join(JAR)).map_err(|error| wrong(&jar, &error))?;
        if !self.common.quiet {
            run.console.say(format!(
                "{}: {} metrics; README.md says how to run them",
                dir.display(),
                spec.metrics.len()
            ));
        }
        Ok(0)
    }

    /// Also says of each metric whether its rows are equal.
    fn check(self, run: &Rc<Run>, findings: &mut CheckReport) {
        let Some(text) = findings.take(self.metrics.text(&run.caller())) else { return };
        let Some((_, spec)) = findings.take(self.chosen(&text)) else { return };
        let Some(options) = findings.take(self.options(&spec, run)) else { return };
        let verdicts = spec.metrics.iter().zip(verdicts(&spec, &options));
        let verdicts: String = verdicts.map(|(metric, verdict)| format!("{}: {verdict}\n", metric.name)).collect();
        findings.take(run.io.print(&verdicts));
        findings.take(script(&spec, &options).map_err(|refusals| refused(&refusals)));
        if self.dir.is_some() {
            findings.take(self.jar());
        }
    }
}

/// Returns the error for metrics that a job cannot have.
fn refused(refusals: &[Refusal]) -> Error {
    let each: Vec<String> = refusals.iter().map(|refusal| format!("{}: {}", refusal.metric, refusal.why)).collect();
    Error::usage(format!("{}; --only NAME leaves out all metrics but NAME", each.join("; ")))
}

impl Args {
    /// Returns the metrics, without those that `--only` and `--upgrade` leave out, and their text.
    fn chosen(&self, text: &str) -> Result<(String, Spec)> {
        let mut spec = self.read(text)?;
        for name in &self.only {
            if !spec.metrics.iter().any(|metric| metric.name == *name) {
                return Err(Error::usage(format!("--only {name}: no metric of {} has this name", self.metrics.name())));
            }
        }
        let old = self.upgrade.as_deref().map(|old| self.old_metrics(old, &spec)).transpose()?.unwrap_or_default();
        let is_kept = |name: &String| (self.only.is_empty() || self.only.contains(name)) && !old.contains(name);
        let kept: Vec<bool> = spec.metrics.iter().map(|metric| is_kept(&metric.name)).collect();
        if kept.iter().all(|kept| *kept) {
            return Ok((text.to_owned(), spec));
        }
        spec.metrics.retain(|metric| is_kept(&metric.name));
        if spec.metrics.is_empty() {
            return Err(Error::usage(format!(
                "{}: no metric is new; the old job computes them all",
                self.metrics.name()
            )));
        }
        Ok((reduced(text, &kept)?, spec))
    }

    fn read(&self, text: &str) -> Result<Spec> {
        spec::file(text).map_err(|error| error.at(self.metrics.name().to_owned()))
    }

    /// Returns the names of the metrics of an old job. Errors: exit status 2 if one of them has changed or is gone,
    /// because no savepoint fits another set of metrics.
    fn old_metrics(&self, old: &Path, new: &Spec) -> Result<Vec<String>> {
        let path = old.join("metrics.toml");
        let text = fs::read_to_string(&path).map_err(|error| Error::config_file(path.display().to_string(), &error))?;
        let written = self.read(&text)?;
        let is_same = |text: &String| new.metrics.iter().any(|metric| metric.text == *text);
        let changed: Vec<&str> =
            written.metrics.iter().filter(|metric| !is_same(&metric.text)).map(|metric| metric.name.as_str()).collect();
        if !changed.is_empty() {
            return Err(Error::usage(format!(
                "{}: changed or removed: {}; no savepoint of this job fits: write a new job without --upgrade and start it \
                 without a savepoint, or give what has changed another name",
                old.display(),
                changed.join(", ")
            )));
        }
        let name = format!("SET 'pipeline.name' = '{}';", self.common.pipeline);
        if fs::read_to_string(old.join("job.sql")).is_ok_and(|job| job.lines().next() == Some(&name)) {
            return Err(Error::usage(format!(
                "--pipeline {}: the job of {} has this name, and would end the transactions of the new one; choose another",
                self.common.pipeline,
                old.display()
            )));
        }
        Ok(written.metrics.into_iter().map(|metric| metric.name).collect())
    }

    fn options(&self, spec: &Spec, run: &Run) -> Result<JobOptions> {
        let bound = match (self.out_of_orderness, spec.out_of_orderness) {
            (Some(bound), _) | (None, Some(OutOfOrderness(Some(bound)))) => bound,
            (None, None) => LIVE,
            (None, Some(OutOfOrderness(None))) => {
                let why = "out_of_orderness = all waits for the end of the input, which a job does not have";
                return Err(Error::usage(format!("{}: {why}; set --out-of-orderness DURATION", self.metrics.name())));
            }
        };
        let topics = Topics {
            events: Topic::parse_input(&self.events)?,
            metrics: MetricOutput::parse(&self.outputs.to)?,
            late: Topic::parse(&self.outputs.late)?,
            dead: Topic::parse(&self.outputs.dlq)?,
        };
        let time = self.time.clone();
        let name = self.common.pipeline.clone();
        let OutputArgs { late_partial, checkpoint_every, .. } = self.outputs;
        if checkpoint_every < MILLISECOND {
            return Err(Error::usage("--checkpoint-every: expected at least 1ms"));
        }
        let since = instant_of("--since", self.since.as_deref(), run.clock.now(), None)?;
        Ok(JobOptions { topics, range: Range::Endless, time, since, bound, checkpoint_every, name, late_partial })
    }

    /// Refuses to replace a job that differs: its state does not fit the new one.
    fn check_old(&self, dir: &Path, files: &[(&str, String)]) -> Result<()> {
        let differs = |(name, text): &&(&str, String)| fs::read(dir.join(name)).is_ok_and(|old| old != text.as_bytes());
        match files.iter().filter(|(name, _)| *name == "job.sql").find(differs) {
            Some(_) if !self.overwrite => Err(Error::usage(format!(
                "{}: has another job, whose savepoints do not fit this one; --overwrite replaces it",
                dir.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Returns the path of the functions.
    fn jar(&self) -> Result<PathBuf> {
        if let Some(jar) = &self.jar {
            return if jar.is_file() { Ok(jar.clone()) } else { Err(missing(jar)) };
        }
        let executable = std::env::current_exe().unwrap_or_default();
        let beside = executable.parent().map(|bin| bin.join("../share/evt").join(JAR)).unwrap_or_default();
        if beside.is_file() { Ok(beside) } else { Err(missing(&beside)) }
    }
}

fn missing(jar: &Path) -> Error {
    Error::config(format!("{}: there is no such file; scripts/flink makes it, and --jar FILE names it", jar.display()))
}
