//! The flags that name metrics: those of evt-window and of evt-flink.

use clap::Args;
use evt_core::error::{Error, Result};
use evt_core::op::window::spec::{self, MetricSpec, Spec, window_size};
use evt_core::time::{format_duration, parse_duration};
use evt_run::bucket::address::is_address;
use evt_run::bucket::objects;
use evt_run::client::Caller;

/// Metrics: those of a file, or one for each `--agg`.
#[derive(Args, Clone, Debug)]
pub struct MetricArgs {
    /// Read the metrics to compute from FILE (evt-metrics(5))
    ///
    /// FILE may also be an object of a bucket: s3://BUCKET/KEY, gs://BUCKET/KEY, az://CONTAINER/KEY.
    #[arg(short, long, value_name = "FILE", help_heading = "Metrics")]
    metrics: Option<String>,
    #[command(flatten)]
    inline: InlineArgs,
}

/// One metric on the command line.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Metrics")]
struct InlineArgs {
    /// Compute the aggregate EXPR (repeatable) [default: count(*)]
    #[arg(long, value_name = "[NAME=]EXPR")]
    agg: Vec<String>,
    /// Group by these columns, property paths and named expressions (comma-separated, repeatable)
    #[arg(long, value_name = "PATH|NAME=EXPR")]
    by: Vec<String>,
    /// Aggregate only events for which EXPR is true
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// Set the length of a window: a duration, a calendar month, quarter or year, or all, which fires at the end of the
    /// input
    #[arg(long, value_name = "DURATION|1mo|1q|1y|all", value_parser = window_size)]
    size: Option<String>,
    /// Use the calendar of this IANA time zone for --size 1d, 1w (from Monday), 1mo, 1q or 1y [default: UTC; no
    /// calendar for 1d, 1w]
    #[arg(long, value_name = "NAME")]
    window_zone: Option<String>,
    /// Start a window every DURATION [default: --size, tumbling windows]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    slide: Option<i64>,
    /// Use session windows that end after DURATION without an event of their key
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    gap: Option<i64>,
    /// Accept events until the watermark is this far past the end of a window [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    lateness: Option<i64>,
    /// Shift the start of all windows by DURATION, which may be negative
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, allow_hyphen_values = true)]
    align: Option<i64>,
}

impl MetricArgs {
    /// Returns the metrics.
    pub fn spec(&self, caller: &Caller) -> Result<Spec> {
        match self.file()? {
            None => spec::inline(&self.inline.agg, &self.flags()),
            Some(path) => spec::file(&read(path, caller)?).map_err(|error| error.at(shown(path).to_owned())),
        }
    }

    /// Returns the text of a file with the metrics.
    pub fn text(&self, caller: &Caller) -> Result<String> {
        match self.file()? {
            None => spec::inline_text(&self.inline.agg, &self.flags()),
            Some(path) => read(path, caller),
        }
    }

    /// Returns what names the metrics in messages.
    pub fn name(&self) -> &str {
        self.metrics.as_deref().map_or("--agg", shown)
    }

    /// Returns the condition of `--where`.
    pub fn filter(&self) -> Option<&str> {
        self.inline.filter.as_deref()
    }

    /// Returns the path of the file. Errors: exit status 2 if other flags name metrics, too.
    fn file(&self) -> Result<Option<&str>> {
        match &self.metrics {
            Some(_) if !self.inline.agg.is_empty() || self.flags() != MetricSpec::default() => Err(Error::usage(
                "--metrics FILE cannot be used with --agg, --by, --where, --size, --window-zone, --slide, --gap, --lateness or \
                 --align",
            )),
            metrics => Ok(metrics.as_deref()),
        }
    }

    fn flags(&self) -> MetricSpec {
        let InlineArgs { by, filter, size, window_zone: zone, slide, gap, lateness, align, .. } = self.inline.clone();
        let by = (!by.is_empty()).then_some(by);
        let [slide, gap, lateness, align] = [slide, gap, lateness, align].map(|time| time.map(format_duration));
        MetricSpec { filter, by, size, slide, gap, lateness, align, zone, ..MetricSpec::default() }
    }
}

/// Reads a file of metrics, or an object of a bucket.
pub fn read(path: &str, caller: &Caller) -> Result<String> {
    if is_address(path) {
        return objects::text(path, caller);
    }
    std::fs::read_to_string(path).map_err(|error| Error::config_file(path.to_owned(), &error))
}

/// Returns a path, or an address without its options.
pub fn shown(path: &str) -> &str {
    if is_address(path) { path.split('?').next().unwrap_or_default() } else { path }
}
