//! Parses metrics as users write them: `metrics.toml` (evt-metrics(5)) or inline flags, which make the same spec.

use super::metric::{Dimension, Metric, Shape, split_name};
use super::watermark::OutOfOrderness;
use crate::error::{Error, Result};
use crate::expr::{Expr, Leaves, ValueKind, Want};
use crate::kind::Kind;
use crate::op::aggregate;
use crate::parse::nearest;
use crate::time::{Calendar, CalendarUnit, DAY, Zone, format_duration, parse_duration};
use serde::{Deserialize, Deserializer, Serialize};
use std::ops::Range;
use toml::Spanned;

/// The metrics of a run and the leaves they read.
pub struct Spec {
    /// The leaves of all expressions.
    pub leaves: Leaves,
    /// The metrics, in the order written.
    pub metrics: Vec<Metric>,
    /// The out-of-orderness of all of them, if the file has one.
    pub out_of_orderness: Option<OutOfOrderness>,
}

/// Checks that a text is the length of a window: `all`, a unit of the calendar or a duration.
///
/// Errors: exit status 2 if it is not.
pub fn window_size(text: &str) -> Result<String> {
    let is_known = text == ALL || calendar_unit(text).is_some() || parse_duration(text).is_ok();
    if is_known { Ok(text.to_owned()) } else { Err(Error::usage(format!("{SIZES}, found '{text}'"))) }
}

const ALL: &str = "all";
const SIZES: &str = "expected a duration like 30s, 5m, 1h or 1d, or 1w, 1mo, 1q, 1y or all";

/// Returns the calendar unit that a size names. Days and weeks are periods of the calendar only with a time zone
/// ([`unit_of`]).
fn calendar_unit(size: &str) -> Option<CalendarUnit> {
    match size {
        "1d" => Some(CalendarUnit::Day),
        "1w" => Some(CalendarUnit::Week),
        "1mo" => Some(CalendarUnit::Month),
        "1q" => Some(CalendarUnit::Quarter),
        "1y" => Some(CalendarUnit::Year),
        _ => None,
    }
}

/// Returns the unit of the calendar whose periods are the windows of this size.
fn unit_of(size: Option<&str>, has_zone: bool) -> Option<CalendarUnit> {
    let unit = size.and_then(calendar_unit)?;
    let is_length = matches!(unit, CalendarUnit::Day | CalendarUnit::Week);
    (has_zone || !is_length).then_some(unit)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSpec {
    #[serde(default)]
    defaults: MetricSpec,
    #[serde(default, rename = "metric")]
    metrics: Vec<Spanned<MetricSpec>>,
}

/// A `[[metric]]`, the `[defaults]` of all metrics, or the flags of the command line but `--agg`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MetricSpec {
    /// Its name; the flag `--agg` has it.
    pub name: Option<String>,
    /// The aggregate; `--agg`, too.
    pub aggregate: Option<String>,
    /// `--where`.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// `--by`: a list, or one text.
    #[serde(default, deserialize_with = "one_or_several")]
    pub by: Option<Vec<String>>,
    /// `--size`, as [`window_size`] accepts it.
    pub size: Option<String>,
    /// `--slide`.
    pub slide: Option<String>,
    /// `--gap`.
    pub gap: Option<String>,
    /// `--lateness`.
    pub lateness: Option<String>,
    /// `--align`.
    pub align: Option<String>,
    /// `--window-zone`.
    pub zone: Option<String>,
    /// `--out-of-orderness`, of all metrics of a file.
    pub out_of_orderness: Option<String>,
}

/// Reads a list of texts, or one text as a list.
fn one_or_several<'a, D: Deserializer<'a>>(value: D) -> std::result::Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a text or a list of texts")]
    enum OneOrSeveral {
        One(String),
        Several(Vec<String>),
    }
    Ok(Some(match OneOrSeveral::deserialize(value)? {
        OneOrSeveral::One(text) => vec![text],
        OneOrSeveral::Several(texts) => texts,
    }))
}

/// Maximum length of a window (µs). The ends of longer ones would leave the calendar.
const LENGTH_MAX: i64 = 400 * 366 * DAY;

/// Maximum number of windows that contain one event: each takes memory and fires.
const WINDOWS_MAX: i64 = 100_000;

/// Parses a `metrics.toml`.
///
/// Errors: exit status 78 if it is wrong.
pub fn file(text: &str) -> Result<Spec> {
    let line = |span: Range<usize>| format!("line {}", 1 + text[..span.start].matches('\n').count());
    let file: FileSpec = toml::from_str(text).map_err(|error| {
        let message = unknown_field(error.message()).unwrap_or_else(|| error.message().to_owned());
        Error::config(message).at(line(error.span().unwrap_or_default()))
    })?;
    if file.metrics.is_empty() {
        return Err(Error::config("expected at least one [[metric]]"));
    }
    if file.defaults.name.is_some() {
        return Err(Error::config("[defaults]: unexpected name; names are set per [[metric]]"));
    }
    let bound = file.defaults.out_of_orderness.as_deref().map(OutOfOrderness::parse).transpose();
    let out_of_orderness = bound.map_err(|error| Error::config(format!("[defaults]: out_of_orderness: {error}")))?;
    let mut spec = Spec { out_of_orderness, ..Spec::empty() };
    for (index, metric) in file.metrics.iter().enumerate() {
        let place = match &metric.get_ref().name {
            Some(name) => format!("metric '{name}'"),
            None => format!("metric {}", index + 1),
        };
        let filled = fill(metric.get_ref(), &file.defaults);
        let added = match &metric.get_ref().out_of_orderness {
            Some(_) => Err(Error::config("out_of_orderness: expected it in [defaults], for all metrics of the file")),
            None => spec.add(&filled),
        };
        added.map_err(|error| error.at(place).at(line(metric.span())))?;
    }
    Ok(spec)
}

/// Returns a message that proposes a known field, given the message of serde about an unknown one; `None` for any other
/// message.
fn unknown_field(message: &str) -> Option<String> {
    let (name, rest) = message.strip_prefix("unknown field `")?.split_once("`, expected ")?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    Some(format!("unknown field {name}; {}", nearest::hint(name, &known, " ")))
}

/// Fills a metric's missing keys from the defaults. A metric with a size or a gap of its own ignores the size, slide
/// and gap of the defaults. Windows take the shift of the defaults only if all of them have the same length, and the
/// zone only if they are periods of the calendar.
fn fill(metric: &MetricSpec, defaults: &MetricSpec) -> MetricSpec {
    let own = metric.clone();
    let shaped = own.size.is_some() || own.gap.is_some();
    let shape = |own: Option<String>, default: &Option<String>| if shaped { own } else { own.or(default.clone()) };
    let gap = shape(own.gap, &defaults.gap);
    let size = shape(own.size, &defaults.size);
    let zone = defaults.zone.clone().filter(|_| gap.is_none() && unit_of(size.as_deref(), true).is_some());
    let zone = own.zone.or(zone);
    let is_even = gap.is_none() && size.as_deref() != Some(ALL) && unit_of(size.as_deref(), zone.is_some()).is_none();
    let shift = defaults.align.clone().filter(|_| is_even);
    MetricSpec {
        name: own.name,
        aggregate: own.aggregate.or(defaults.aggregate.clone()),
        filter: own.filter.or(defaults.filter.clone()),
        by: own.by.or(defaults.by.clone()),
        size,
        slide: shape(own.slide, &defaults.slide),
        gap,
        lateness: own.lateness.or(defaults.lateness.clone()),
        align: own.align.or(shift),
        zone,
        out_of_orderness: None,
    }
}

/// Builds the metrics of inline flags: one for each `--agg [NAME=]EXPR`.
///
/// Errors: exit status 2 if they make no spec, 78 if an expression is wrong.
pub fn inline(aggregates: &[String], flags: &MetricSpec) -> Result<Spec> {
    if flags.size.is_none() && flags.gap.is_none() {
        return Err(Error::usage("expected --size DURATION, --gap DURATION or --metrics FILE"));
    }
    let mut spec = Spec::empty();
    for metric in of_flags(aggregates, flags) {
        calendar(&metric).map_err(Error::usage)?;
        spec.add(&metric)?;
    }
    Ok(spec)
}

/// Returns the text of a metrics file with the metrics of inline flags.
///
/// Errors: as [`inline`].
pub fn inline_text(aggregates: &[String], flags: &MetricSpec) -> Result<String> {
    #[derive(Serialize)]
    struct InlineFile {
        metric: Vec<MetricSpec>,
    }
    inline(aggregates, flags)?;
    let written = InlineFile { metric: of_flags(aggregates, flags).collect() };
    toml::to_string(&written).map_err(|error| Error::config(error.to_string()))
}

fn of_flags<'a>(aggregates: &'a [String], flags: &'a MetricSpec) -> impl Iterator<Item = MetricSpec> + 'a {
    let default = aggregates.is_empty().then_some("count(*)");
    aggregates.iter().map(String::as_str).chain(default).map(|aggregate| {
        let (name, expr) = split_name(aggregate);
        MetricSpec { name: name.map(str::to_owned), aggregate: Some(expr.to_owned()), ..flags.clone() }
    })
}

impl Spec {
    fn empty() -> Self {
        Self { leaves: Leaves::new(&Kind::Event.schema()), metrics: vec![], out_of_orderness: None }
    }

    /// Returns the names of the dimensions of all metrics, in the order written.
    pub fn dimensions(&self) -> Vec<String> {
        let mut names: Vec<String> = vec![];
        for dimension in self.metrics.iter().flat_map(|metric| &metric.by) {
            if !names.contains(&dimension.name) {
                names.push(dimension.name.clone());
            }
        }
        names
    }

    /// Returns the names of the metrics whose windows are sessions.
    pub fn sessions(&self) -> Vec<&str> {
        let sessions = self.metrics.iter().filter(|metric| metric.shape.layout().is_none());
        sessions.map(|metric| metric.name.as_str()).collect()
    }

    /// Returns the names of the metrics whose windows are open after they have fired.
    pub fn with_lateness(&self) -> Vec<&str> {
        let late = self.metrics.iter().filter(|metric| metric.lateness > 0);
        late.map(|metric| metric.name.as_str()).collect()
    }

    fn add(&mut self, spec: &MetricSpec) -> Result<()> {
        let aggregate = spec.aggregate.as_deref().unwrap_or("count(*)");
        let call = aggregate::parse(aggregate, &mut self.leaves)?;
        let filter = spec.filter.as_deref();
        let filter = filter.map(|text| Expr::parse(text, Want::Kind(ValueKind::Bool), &mut self.leaves)).transpose()?;
        let by = Dimension::parse_all(spec.by.as_deref().unwrap_or(&[]), &mut self.leaves)?;
        let name = spec.name.clone().unwrap_or_else(|| call.text().to_owned());
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(Error::config("expected a metric name that is not empty and has no control characters"));
        }
        if self.metrics.iter().any(|other| other.name == name) {
            return Err(Error::config(format!("duplicate metric name {name}; rename one")));
        }
        let lateness = time("lateness", spec.lateness.as_deref(), 0)?.unwrap_or(0);
        let shape = shape(spec)?;
        if shape == Shape::ALL && call.definition().needs_length {
            let name = call.definition().name;
            return Err(Error::config(format!(
                "{name} is a count per second of a window, and size = all has no length; use count"
            )));
        }
        let filter_text = filter.as_ref().map_or("", |filter| filter.text());
        let names: Vec<&str> = by.iter().map(|dimension| dimension.text.as_str()).collect();
        let text = format!("{name}: {} where {filter_text} by {names:?} {shape:?} lateness {lateness}", call.text());
        self.metrics.push(Metric { name, call, filter, by, shape, lateness, text });
        Ok(())
    }

    /// Returns the text that `--check` prints.
    pub fn explain(&self) -> String {
        let mut out = String::new();
        if let Some(bound) = self.out_of_orderness {
            out.push_str(&format!("all metrics: out-of-orderness {bound}\n"));
        }
        for metric in &self.metrics {
            out.push_str(&format!("{}: {}\n", metric.name, metric.call.text()));
            if let Some(filter) = &metric.filter {
                out.push_str(&format!("  where {}\n", filter.text()));
            }
            if !metric.by.is_empty() {
                let names: Vec<&str> = metric.by.iter().map(|dimension| dimension.text.as_str()).collect();
                out.push_str(&format!("  by {}\n", names.join(", ")));
            }
            out.push_str(&format!("  {}", describe(metric.shape)));
            match metric.shape {
                Shape::ALL => out.push_str("; it fires at the end of the input\n"),
                _ => out.push_str(&format!("; open {} past the end\n", format_duration(metric.lateness))),
            }
            let parts = metric.filter.iter().chain(metric.by.iter().map(|by| &by.expr)).chain(metric.call.args());
            for expr in parts {
                out.push_str(&expr.explain(&self.leaves));
            }
        }
        out
    }
}

/// The length of a week (µs).
const WEEK: i64 = 7 * DAY;

impl Spec {
    /// Returns the zone of the first windows that have one.
    pub fn zone(&self) -> Option<Zone> {
        self.metrics.iter().find_map(|metric| match metric.shape {
            Shape::Calendar(calendar) => Some(calendar.zone),
            _ => None,
        })
    }

    /// Returns a message if windows of weeks begin on Thursdays, as 1970 did, which few people expect.
    pub fn thursdays(&self) -> Option<String> {
        let length = |metric: &Metric| match metric.shape {
            Shape::Sliding { size, slide, align } if slide % WEEK == 0 && align % WEEK == 0 => Some(size),
            _ => None,
        };
        let size = format_duration(self.metrics.iter().find_map(length)?);
        Some(format!(
            "windows of {size} begin on Thursdays, as 1970 did; 1w with --window-zone UTC (zone in a metrics file), or --align 4d, \
             begins them on Mondays"
        ))
    }
}

fn describe(shape: Shape) -> String {
    match shape {
        Shape::ALL => "one window over all time".to_owned(),
        Shape::Calendar(Calendar { unit, zone }) => format!("tumbling windows of calendar {} in {zone}", unit.plural()),
        Shape::Session { gap } => format!("sessions that end after {} without an event", format_duration(gap)),
        Shape::Sliding { size, slide, align } => {
            let mut text = match size == slide {
                true => format!("tumbling windows of {}", format_duration(size)),
                false => format!("sliding windows of {} every {}", format_duration(size), format_duration(slide)),
            };
            if align != 0 {
                text.push_str(&format!(", shifted by {}", format_duration(align)));
            }
            text
        }
    }
}

fn time(name: &str, text: Option<&str>, least: i64) -> Result<Option<i64>> {
    let Some(text) = text else { return Ok(None) };
    let value = parse_duration(text).map_err(|error| Error::config(format!("{name}: {error}")))?;
    if !(least..=LENGTH_MAX).contains(&value) {
        return Err(Error::config(format!(
            "{name}: expected a duration between {} and {}, found {text}",
            format_duration(least),
            format_duration(LENGTH_MAX)
        )));
    }
    Ok(Some(value))
}

/// Returns the calendar whose periods are the windows; `None` if they have a length.
///
/// Errors: why the size, the zone or both make no windows.
fn calendar(spec: &MetricSpec) -> std::result::Result<Option<Calendar>, String> {
    let size = spec.size.as_deref();
    let zone = match spec.zone.as_deref() {
        None => None,
        Some(name) => Some(name.parse::<Zone>().map_err(|fault| format!("zone (--window-zone): {fault}"))?),
    };
    let Some(unit) = unit_of(size, zone.is_some()) else {
        return match (zone, size, &spec.gap) {
            (None, ..) => Ok(None),
            (Some(zone), Some(size), None) => {
                Err(format!("zone {zone}: expected size 1d, 1w, 1mo, 1q or 1y, found {size}; other sizes have no zone"))
            }
            (Some(zone), ..) => Err(format!("zone {zone}: expected size 1d, 1w, 1mo, 1q or 1y")),
        };
    };
    if spec.slide.is_some() || spec.gap.is_some() || spec.align.is_some() {
        let size = size.unwrap_or_default();
        return Err(format!("size = {size} is a unit of the calendar; it cannot be used with slide, gap or align"));
    }
    Ok(Some(Calendar { unit, zone: zone.unwrap_or(Zone::UTC) }))
}

fn shape(spec: &MetricSpec) -> Result<Shape> {
    if let Some(calendar) = calendar(spec).map_err(Error::config)? {
        return Ok(Shape::Calendar(calendar));
    }
    if spec.size.as_deref() == Some(ALL) {
        return match (&spec.slide, &spec.gap, &spec.align) {
            (None, None, None) => Ok(Shape::ALL),
            _ => Err(Error::config("size = all is one window; it cannot be used with slide, gap or align")),
        };
    }
    spec.size.as_deref().map(window_size).transpose().map_err(|error| Error::config(format!("size: {error}")))?;
    let (size, slide, gap) = (
        time("size", spec.size.as_deref(), 1)?,
        time("slide", spec.slide.as_deref(), 1)?,
        time("gap", spec.gap.as_deref(), 1)?,
    );
    let align = time("align", spec.align.as_deref(), -LENGTH_MAX)?;
    match (size, slide, gap) {
        (Some(size), Some(slide), None) if size / slide > WINDOWS_MAX => {
            Err(Error::config(format!("each event would be in {} windows; the maximum is {WINDOWS_MAX}", size / slide)))
        }
        (Some(size), slide, None) => {
            Ok(Shape::Sliding { size, slide: slide.unwrap_or(size), align: align.unwrap_or(0) })
        }
        (None, None, Some(gap)) if align.is_none() => Ok(Shape::Session { gap }),
        (None, None, None) => Err(Error::config("expected size, or gap for session windows")),
        (None, Some(_), None) => Err(Error::config("slide requires size")),
        _ => Err(Error::config("gap (session windows) cannot be used with size, slide or align")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        let error = file(text).err().expect(text);
        assert_eq!(error.kind(), crate::ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn a_file_has_one_out_of_orderness() {
        let bound = |value: &str| {
            let text = format!("[defaults]\nsize = '1m'\nout_of_orderness = '{value}'\n[[metric]]\nname = 'a'");
            file(&text).map(|spec| spec.out_of_orderness)
        };
        assert_eq!(bound("90s").unwrap(), Some(OutOfOrderness(Some(90_000_000))));
        assert_eq!(bound("all").unwrap(), Some(OutOfOrderness(None)));
        assert!(bound("soon").is_err_and(|error| error.to_string().contains("[defaults]: out_of_orderness: ")));
        let own = file("[[metric]]\nsize = '1m'\nout_of_orderness = '1m'");
        assert!(own.is_err_and(|error| error.to_string().contains("expected it in [defaults]")));
    }

    #[test]
    fn defaults_fill_what_a_metric_does_not_say_and_shapes_go_as_a_whole() {
        let spec = file(
            "[defaults]\nsize = '5m'\nslide = '1m'\nby = ['country']\n[[metric]]\nname = 'a'\n\
             [[metric]]\nname = 'b'\nsize = '1h'\nby = []\naggregate = 'sum(amount)'\n[[metric]]\nname = 'c'\ngap = '30s'",
        )
        .unwrap();
        let shapes: Vec<Shape> = spec.metrics.iter().map(|metric| metric.shape).collect();
        let (minute, hour) = (60_000_000, 3_600_000_000);
        assert_eq!(shapes[0], Shape::Sliding { size: 5 * minute, slide: minute, align: 0 });
        assert_eq!(shapes[1], Shape::Sliding { size: hour, slide: hour, align: 0 });
        assert_eq!(shapes[2], Shape::Session { gap: 30_000_000 });
        assert_eq!(spec.metrics[1].by.len(), 0);
        assert_eq!(spec.metrics[2].by.len(), 1);
    }

    #[test]
    fn a_slide_alone_goes_with_the_default_size_and_sessions_take_no_default_shift() {
        let spec = file(
            "[defaults]\nsize = '1m'\nslide = '10s'\nalign = '5s'\n[[metric]]\nname = 'a'\nslide = '5s'\n\
             [[metric]]\nname = 'b'\ngap = '30s'",
        )
        .unwrap();
        let shapes: Vec<Shape> = spec.metrics.iter().map(|metric| metric.shape).collect();
        let second = 1_000_000;
        assert_eq!(shapes[0], Shape::Sliding { size: 60 * second, slide: 5 * second, align: 5 * second });
        assert_eq!(shapes[1], Shape::Session { gap: 30 * second });
        assert!(wrong("[[metric]]\ngap='1m'\nalign='5s'").contains("gap (session windows) cannot be used with"));
    }

    #[test]
    fn one_window_over_all_time_takes_no_default_slide_or_shift() {
        let spec = file("[defaults]\nsize = '1m'\nslide = '10s'\nalign = '5s'\n[[metric]]\nsize = 'all'").unwrap();
        assert_eq!(spec.metrics[0].shape, Shape::ALL);
        assert!(spec.explain().contains("one window over all time; it fires at the end of the input"));
    }

    #[test]
    fn days_and_weeks_are_units_of_the_calendar_only_with_a_zone() {
        let spec = file(
            "[defaults]\nzone = 'Europe/Zurich'\nalign = '5s'\nsize='1h'\n[[metric]]\nname='a'\n\
             [[metric]]\nname='b'\nsize='1d'\n[[metric]]\nname='c'\nsize='1mo'\nzone='UTC'\n[[metric]]\nname='d'\ngap='1d'",
        )
        .unwrap();
        let calendar = |unit, zone| Shape::Calendar(Calendar { unit, zone });
        let shapes: Vec<Shape> = spec.metrics.iter().map(|metric| metric.shape).collect();
        let expected = [
            Shape::Sliding { size: DAY / 24, slide: DAY / 24, align: 5_000_000 },
            calendar(CalendarUnit::Day, "Europe/Zurich".parse().unwrap()),
            calendar(CalendarUnit::Month, Zone::UTC),
            Shape::Session { gap: DAY },
        ];
        assert_eq!(shapes, expected);
        assert!(spec.explain().contains("tumbling windows of calendar days in Europe/Zurich"));
        let length = file("[[metric]]\nsize = '1w'").unwrap().metrics[0].shape;
        assert_eq!(length, Shape::Sliding { size: 7 * DAY, slide: 7 * DAY, align: 0 });
    }

    #[test]
    fn a_size_that_is_no_unit_has_no_zone_and_a_unit_no_slide() {
        for size in ["24h", "7d", "2d", "1h", "all", "30d"] {
            let fault = wrong(&format!("[[metric]]\nsize='{size}'\nzone='Europe/Zurich'"));
            assert!(fault.contains("zone Europe/Zurich: expected size 1d, 1w, 1mo, 1q or 1y"), "{fault}");
        }
        assert!(wrong("[[metric]]\ngap='1h'\nzone='UTC'").contains("zone UTC: expected size 1d"));
        assert!(
            wrong("[[metric]]\nsize='1d'\nzone='Europe/Bern'")
                .contains("an IANA time zone like Europe/Zurich, found 'Europe/Bern'")
        );
        for key in ["slide='1h'", "gap='1h'", "align='1h'"] {
            let fault = wrong(&format!("[[metric]]\nsize='1mo'\n{key}"));
            assert!(fault.contains("size = 1mo is a unit of the calendar; it cannot be used with"), "{fault}");
        }
        for size in ["2mo", "1mo1d", "0y", "12mo"] {
            assert!(wrong(&format!("[[metric]]\nsize='{size}'")).contains("1mo, 1q, 1y or all, found"), "{size}");
        }
        let flags = MetricSpec { size: Some("24h".into()), zone: Some("UTC".into()), ..MetricSpec::default() };
        assert_eq!(inline(&[], &flags).err().unwrap().kind(), crate::ErrorKind::Usage);
    }

    #[test]
    fn a_wrong_spec_says_where_and_why() {
        let fault = wrong("[[metric]]\nname = 'a'\nsise = '1m'");
        assert!(fault.starts_with("line 3: unknown field sise; did you mean size?"), "{fault}");
        assert!(wrong("[[metric]]\nname = 'a'").contains("expected size, or gap"));
        assert!(wrong("[[metric]]\nsize = '90'").contains("found '90'"));
        assert!(wrong("[[metric]]\nsize = '0s'").contains("expected a duration between"));
        assert!(wrong("[[metric]]\nsize='1m'\ngap='1m'").contains("gap (session windows) cannot be used with"));
        assert!(wrong("[[metric]]\nsize='1m'\n[[metric]]\nsize='2m'").contains("duplicate metric name count(*)"));
        assert!(wrong("[[metric]]\nsize='1d'\nslide='1us'").contains("the maximum is 100000"));
        assert!(wrong("").contains("expected at least one [[metric]]"));
        assert!(
            wrong("[[metric]]\nsize='all'\nslide='1h'").contains("size = all is one window; it cannot be used with")
        );
        assert!(wrong("[[metric]]\nsize='all'\naggregate='rate(*)'").contains("size = all has no length; use count"));
    }
}
