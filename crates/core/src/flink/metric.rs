//! One metric as a SELECT over the view of events.

use super::expression::{Translator, may_be_nan};
use super::text::{comment, identifier, interval, is_plain, text};
use crate::expr::Expr;
use crate::op::window::metric::{Metric, Shape};
use crate::time::format_duration;

/// A metric in SQL.
pub(super) struct MetricQuery {
    /// The name, as a constant.
    name: String,
    /// The name of its view.
    pub(super) view: String,
    /// The statement that creates its view.
    pub(super) create: String,
    /// The condition under which an event counts for it, but for its time.
    counts: String,
    /// The condition under which an event is late for all of its windows.
    closed: String,
    /// The condition under which it is late for some of them.
    half_closed: String,
    /// The condition under which an expression fails; `None` if none can.
    fails: Option<String>,
}

impl MetricQuery {
    /// Translates the metric with an index; `bound` is the out-of-orderness (µs).
    ///
    /// Returns why it cannot be equal, and what to do.
    pub(super) fn of(
        metric: &Metric,
        index: usize,
        bound: i64,
        translator: &mut Translator<'_>,
    ) -> Result<Self, String> {
        let (size, slide) = windows(metric)?;
        let span = interval(size)?;
        let windows = match size == slide {
            true => format!("TUMBLE(TABLE events, DESCRIPTOR(event_ts), {span})"),
            false => format!("HOP(TABLE events, DESCRIPTOR(event_ts), {}, {span})", interval(slide)?),
        };
        translator.take_faults();
        let mut keys = vec![];
        let mut named = vec![];
        for dimension in &metric.by {
            let key = translator.sql(&dimension.expr)?;
            named.extend([text(&dimension.name), key.clone()]);
            keys.push(key);
        }
        let filter = metric.filter.as_ref().map(|filter| translator.sql(filter)).transpose()?;
        let value = aggregate(metric, size, translator)?;
        let fails = translator.take_faults();
        let counts = [fails.as_ref().map(|fails| format!("NOT {fails}")), filter];
        let counts: Vec<String> = counts.into_iter().flatten().collect();
        let counts = if counts.is_empty() { "TRUE".to_owned() } else { format!("({})", counts.join(" AND ")) };
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        let dimensions = match named[..] {
            [] => "'{}'".to_owned(),
            _ => translator.call("evt_dimensions", &named),
        };
        let slack = bound + metric.lateness;
        let [start, end] = ["window_start", "window_end"].map(|edge| translator.call("evt_micros", &[edge]));
        let name = text(&metric.name);
        let id = translator.call("evt_metric_id", &[&name, "ws", "we", "dimensions"]);
        let [since, until] = ["ws", "we"].map(|edge| translator.call("evt_timestamp", &[edge]));
        let value = translator.call("evt_canonical", &[&value]);
        let group: String = keys.iter().map(|key| format!(", {key}")).collect();
        let last = translator.call("evt_last_end", &["event_time", &micros(size), &micros(slide)]);
        let view = if is_plain(&metric.name) { &metric.name } else { &(index + 1).to_string() };
        let view = identifier(&format!("metric.{view}"));
        let create = format!(
            "-- {}: {}\nCREATE TEMPORARY VIEW {view} AS\n\
             SELECT {id} AS metric_id, {name} AS metric_name, {since} AS window_start, {until} AS window_end, dimensions,\n  \
             v AS `value`, n AS `rows`, 0 AS revision, 0 AS pane, FALSE AS retracted\nFROM (\n  \
             SELECT {start} AS ws, {end} AS we, {dimensions} AS dimensions, {value} AS v, COUNT(*) AS n\n  \
             FROM TABLE({windows})\n  \
             WHERE stream_time < {end} + {slack} AND {counts}\n  \
             GROUP BY window_start, window_end{group});\n",
            comment(&metric.name),
            comment(&described(metric, size, slide)),
        );
        let closed = format!("(stream_time >= {last} + {slack})");
        let half_closed = format!("(stream_time >= {last} + {})", slack - size + slide);
        Ok(Self { name, view, create, counts, closed, half_closed, fails })
    }

    /// Returns its name where an event is late for all of its windows or, `with_half`, for some of them; else NULL.
    pub(super) fn late(&self, with_half: bool) -> String {
        let closed = if with_half { &self.half_closed } else { &self.closed };
        format!("CASE WHEN {} AND {closed} THEN {} END", self.counts, self.name)
    }

    /// Returns the condition under which one of its windows counts an event.
    pub(super) fn counted(&self) -> String {
        format!("({} AND NOT {})", self.counts, self.closed)
    }

    /// Returns its name where an expression fails, else NULL; `None` if none can.
    pub(super) fn failed(&self) -> Option<String> {
        Some(format!("CASE WHEN {} THEN {} END", self.fails.as_ref()?, self.name))
    }
}

fn micros(value: i64) -> String {
    format!("CAST({value} AS BIGINT)")
}

/// Returns the size and the slide of the windows (µs), or why Flink has none.
fn windows(metric: &Metric) -> Result<(i64, i64), String> {
    match metric.shape {
        shape if shape == Shape::ALL => {
            Err("a window over all time fires at the end, and this job has none; use a size such as 1d".to_owned())
        }
        Shape::Sliding { slide, align, .. } if align % slide != 0 => {
            Err(format!("Flink 2.2 loses rows with align {}; leave it out", format_duration(align)))
        }
        Shape::Sliding { size, slide, .. } if size % slide != 0 => Err(format!(
            "Flink needs a size that is a multiple of the slide, found {} and {}",
            format_duration(size),
            format_duration(slide)
        )),
        Shape::Sliding { size, slide, .. } => Ok((size, slide)),
        Shape::Calendar(calendar) => {
            let unit = calendar.unit.text();
            Err(format!("periods of the calendar ({unit}) are not translated yet; sizes of fixed length are"))
        }
        Shape::Session { .. } => Err("session windows are not translated yet; use size".to_owned()),
    }
}

fn described(metric: &Metric, size: i64, slide: i64) -> String {
    let slide = if slide == size { String::new() } else { format!(" every {}", format_duration(slide)) };
    let lateness = match metric.lateness {
        0 => String::new(),
        lateness => format!(", open {} longer", format_duration(lateness)),
    };
    format!("{}, windows of {}{slide}{lateness}", metric.call.text(), format_duration(size))
}

/// Returns the value of the aggregate of a metric, a DOUBLE.
fn aggregate(metric: &Metric, size: i64, translator: &mut Translator<'_>) -> Result<String, String> {
    let call = &metric.call;
    let args: Vec<&Expr> = call.args().iter().collect();
    Ok(match (call.definition().name, &args[..]) {
        ("count", args) => format!("CAST({} AS DOUBLE)", count(args, translator)?),
        ("rate", args) => {
            let count = count(args, translator)?;
            // Below 2^53 both operands are exact, so the quotient is rounded once.
            format!("CAST({count} * 1000000 AS DOUBLE) / CAST({size} AS DOUBLE)")
        }
        ("sum", [x]) => of(translator, "evt_sum", x)?,
        ("avg", [x]) => of(translator, "evt_avg", x)?,
        ("stddev", [x]) => of(translator, "evt_stddev", x)?,
        ("min" | "max", [x]) => {
            let (native, own) = if call.definition().name == "min" { ("MIN", "evt_min") } else { ("MAX", "evt_max") };
            let may_be_nan = may_be_nan(x.tree());
            let x = translator.sql(x)?;
            if may_be_nan { translator.call(own, &[&x]) } else { format!("{native}({x})") }
        }
        (name @ ("first" | "last"), [x, time, id, shown]) => {
            let [x, time, id, shown] = [x, time, id, shown].map(|arg| translator.sql(arg));
            let function = if name == "first" { "evt_first" } else { "evt_last" };
            translator.call(function, &[&x?, &time?, &id?, &shown?])
        }
        ("count_distinct", [x]) => {
            let count = format!("COUNT(DISTINCT {})", translator.sql(x)?);
            format!("CASE WHEN {count} <= {} THEN CAST({count} AS DOUBLE) END", crate::op::aggregate::TEXTS_MAX)
        }
        ("approx_distinct", [x]) => {
            let x = translator.sql(x)?;
            translator.call("evt_approx_distinct", &[&x])
        }
        ("approx_percentile", [x]) => {
            let (x, q) = (translator.sql(x)?, format!("'{}'", call.quantile()));
            translator.call("evt_approx_percentile", &[&x, &q])
        }
        ("ratio", [condition, of]) => {
            let [hits, all] = [condition, of].map(|condition| {
                let condition = translator.sql(condition)?;
                Ok::<_, String>(format!("CAST(COUNT(*) FILTER (WHERE {condition}) AS DOUBLE)"))
            });
            format!("{} / NULLIF({}, 0E0)", hits?, all?)
        }
        (name, _) => return Err(format!("the aggregate {name} is not translated yet")),
    })
}

fn of(translator: &mut Translator<'_>, function: &'static str, x: &Expr) -> Result<String, String> {
    let x = translator.decimals(x)?;
    Ok(translator.call(function, &[&x]))
}

fn count(args: &[&Expr], translator: &mut Translator<'_>) -> Result<String, String> {
    Ok(match args {
        [] => "COUNT(*)".to_owned(),
        [x, ..] => format!("COUNT({})", translator.sql(x)?),
    })
}
