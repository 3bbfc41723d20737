//! One metric as a view over the facts: events with what decides whether they count for each metric.

use super::aggregate::Arguments;
use super::expression::Translator;
use super::text::{comment, identifier, interval, is_plain, text};
use crate::op::window::metric::{Metric, Shape};
use crate::time::{Zone, format_duration};

/// A metric in SQL.
pub(super) struct MetricQuery {
    /// The name, as a constant.
    name: String,
    /// The name of its view.
    pub(super) view: String,
    /// The statements that create its view.
    pub(super) create: String,
    /// The columns that the view of facts has for it.
    pub(super) facts: String,
    /// The condition under which an event counts for it, but for its time.
    counts: String,
    /// The column that says whether an expression fails; `None` if none can.
    fails: Option<String>,
    /// The column that says whether an event passes the filter; `None` without one.
    passes: Option<String>,
    lateness: Lateness,
    /// What may differ from evt-window.
    pub(super) differences: Vec<&'static str>,
}

/// How it is decided whether an event is late for a metric.
enum Lateness {
    /// By conditions of the event: when it is late for all of its windows, and for some of them.
    Event { all: String, some: String },
    /// By the sessions of its key.
    Session(SessionRule),
}

/// What decides which session of a key counts an event.
#[derive(Clone, Debug)]
pub(super) struct SessionRule {
    /// The condition under which an event counts for the metric.
    pub(super) counts: String,
    /// The dimensions, as one text.
    pub(super) key: String,
    /// The name of the metric, as a constant.
    pub(super) name: String,
    /// The gap, and the out-of-orderness plus the lateness (µs).
    pub(super) gap: i64,
    pub(super) slack: i64,
}

/// The windows of a metric in SQL.
enum Windows {
    /// Flink's own.
    Native(String),
    /// Those of a function of the jar: its call without the input.
    Function(String),
    Session {
        gap: i64,
    },
}

/// The parts of a metric that its windows do not change.
struct MetricParts<'a> {
    metric: &'a Metric,
    index: usize,
    /// The expressions of its dimensions.
    keys: Vec<String>,
    /// The object of its dimensions.
    dimensions: String,
    counts: String,
    slack: i64,
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
        translator.take_faults();
        translator.take_changes_case();
        let filter = metric.filter.as_ref().map(|filter| translator.sql(filter)).transpose()?;
        let fails_in_filter = translator.take_faults();
        let keys = metric.by.iter().map(|dimension| translator.sql(&dimension.expr)).collect::<Result<Vec<_>, _>>()?;
        let windows = windows(metric)?;
        let arguments = Arguments::of(&metric.call, translator)?;
        let fails = fails(fails_in_filter, filter.as_deref(), translator.take_faults());
        let slack = bound + metric.lateness;
        let dimensions = dimensions(metric, &keys, translator);
        let mut parts = MetricParts { metric, index, keys, dimensions, counts: String::new(), slack };
        let (name, view) = (text(&metric.name), parts.name("metric"));
        let [passing, failing, ends] = ["passes", "fails", "ends"].map(|fact| parts.name(fact));
        let mut facts = vec![];
        facts.extend(filter.map(|filter| format!("{filter} AS {passing}")));
        facts.extend(fails.as_ref().map(|fails| format!("{fails} AS {failing}")));
        let has_ends = !matches!(windows, Windows::Session { .. });
        facts.extend(has_ends.then(|| {
            let call = translator.call("evt_ends", &["event_time", &layout(metric.shape)]);
            format!("{call} AS {ends}")
        }));
        let facts = facts.join(",\n  ");
        let fails = fails.map(|_| failing);
        let passes = metric.filter.as_ref().map(|_| passing);
        let counts = [fails.as_ref().map(|fails| format!("NOT {fails}")), passes.clone()];
        let counts: Vec<String> = counts.into_iter().flatten().collect();
        parts.counts = if counts.is_empty() { "TRUE".to_owned() } else { format!("({})", counts.join(" AND ")) };
        let lateness = parts.lateness(&windows);
        let rows = match windows {
            Windows::Native(windows) => parts.native(&windows, &arguments, translator),
            Windows::Function(call) => parts.by_function("evt_windows", &call, &arguments, translator),
            Windows::Session { gap } => {
                let call = format!("gap => {}", micros(gap));
                parts.by_function("evt_sessions", &call, &arguments, translator)
            }
        };
        let create =
            format!("-- {}: {}\n{}", comment(&metric.name), comment(&described(metric)), parts.rows(&rows, translator));
        let mut differences = vec![];
        if translator.take_changes_case() {
            differences.push("the case of letters that Unicode has defined since version 13");
        }
        if matches!(metric.shape, Shape::Calendar(calendar) if calendar.zone != Zone::UTC) {
            differences.push("changes of clocks that only one of Java and evt-window --version knows");
        }
        if matches!(metric.shape, Shape::Session { .. }) {
            differences.push("sessions of a key in several partitions, which depend on how these are interleaved");
        }
        Ok(Self { name, view, create, facts, counts: parts.counts, fails, passes, lateness, differences })
    }

    /// Returns its name where an event is late for all of its windows or, `with_half`, for some of them; else NULL.
    /// `None` if its sessions decide.
    pub(super) fn late(&self, with_half: bool) -> Option<String> {
        let Lateness::Event { all, some } = &self.lateness else { return None };
        let closed = if with_half { some } else { all };
        Some(format!("CASE WHEN {} AND {closed} THEN {} END", self.counts, self.name))
    }

    /// Returns its name if a list of names has it, else NULL.
    pub(super) fn named(&self, names: &str) -> String {
        let name = &self.name;
        format!("CASE WHEN ARRAY_CONTAINS({names}, {name}) THEN {name} END")
    }

    /// Returns the condition under which one of its windows counts an event; `None` if its sessions decide.
    pub(super) fn counted(&self) -> Option<String> {
        let Lateness::Event { all, .. } = &self.lateness else { return None };
        Some(format!("({} AND NOT {all})", self.counts))
    }

    /// Returns the columns that decide whether an event counts for it, but for its time.
    pub(super) fn deciding(&self) -> impl Iterator<Item = &str> {
        [&self.fails, &self.passes].into_iter().filter_map(|column| column.as_deref())
    }

    /// Returns the rule of its sessions.
    pub(super) fn session(&self) -> Option<&SessionRule> {
        if let Lateness::Session(rule) = &self.lateness { Some(rule) } else { None }
    }

    /// Returns its name where an expression fails, else NULL; `None` if none can.
    pub(super) fn failed(&self) -> Option<String> {
        Some(format!("CASE WHEN {} THEN {} END", self.fails.as_ref()?, self.name))
    }
}

impl MetricParts<'_> {
    /// Returns the name of one of its views or columns.
    fn name(&self, kind: &str) -> String {
        match is_plain(&self.metric.name) {
            true => identifier(&format!("{kind}.{}", self.metric.name)),
            false => identifier(&format!("{kind}.{}", self.index + 1)),
        }
    }

    /// Returns the view of its rows; `rows` has ws and we (µs), dimensions, v and n.
    fn rows(&self, rows: &Rows, translator: &mut Translator<'_>) -> String {
        let name = text(&self.metric.name);
        let id = translator.call("evt_metric_id", &[&name, "ws", "we", "dimensions"]);
        let [since, until] = ["ws", "we"].map(|edge| translator.call("evt_timestamp", &[edge]));
        format!(
            "{}CREATE TEMPORARY VIEW {} AS\n\
             SELECT {id} AS metric_id, {name} AS metric_name, {since} AS window_start, {until} AS window_end, dimensions,\n  \
             v AS `value`, n AS `rows`, 0 AS revision, 0 AS pane, FALSE AS retracted\nFROM {};\n",
            rows.before,
            self.name("metric"),
            rows.select
        )
    }

    /// Returns the rows of Flink's own windows.
    fn native(&self, windows: &str, arguments: &Arguments, translator: &mut Translator<'_>) -> Rows {
        let [start, end] = ["window_start", "window_end"].map(|edge| translator.call("evt_micros", &[edge]));
        let value = arguments.value(translator);
        let value = translator.call("evt_canonical", &[&value]);
        let group: String = self.keys.iter().map(|key| format!(", {key}")).collect();
        let (dimensions, slack, counts) = (&self.dimensions, self.slack, &self.counts);
        let select = format!(
            "(\n  SELECT {start} AS ws, {end} AS we, {dimensions} AS dimensions, {value} AS v, COUNT(*) AS n\n  \
             FROM TABLE({windows})\n  WHERE stream_time < {end} + {slack} AND {counts}\n  \
             GROUP BY window_start, window_end{group})"
        );
        Rows { before: String::new(), select }
    }

    /// Returns the rows of the windows of a function, whose input is a view.
    fn by_function(
        &self,
        function: &'static str,
        call: &str,
        arguments: &Arguments,
        translator: &mut Translator<'_>,
    ) -> Rows {
        translator.functions.insert(function);
        let input = self.name("input");
        let (x, y) = arguments.texts(translator);
        let before = format!(
            "CREATE TEMPORARY VIEW {input} AS\nSELECT {} AS dimensions, event_time, stream_time, event_id,\n  \
             {x} AS x, {y} AS y\nFROM facts WHERE {};\n",
            self.dimensions, self.counts
        );
        let select = format!(
            "{function}(event => TABLE {input} PARTITION BY dimensions, {call}, slack => {},\n  \
             aggregate => '{}', quantile => '{}', uid => 'metric-{}')",
            micros(self.slack),
            arguments.name,
            arguments.quantile,
            self.index + 1
        );
        Rows { before, select }
    }

    fn lateness(&self, windows: &Windows) -> Lateness {
        if let Windows::Session { gap } = *windows {
            let (counts, key, name) = (self.counts.clone(), self.dimensions.clone(), text(&self.metric.name));
            return Lateness::Session(SessionRule { counts, key, name, gap, slack: self.slack });
        }
        let ends = self.name("ends");
        let late = |end: &str| format!("(stream_time >= {ends}.{end} + {})", self.slack);
        Lateness::Event { all: late("last_end"), some: late("first_end") }
    }
}

/// The rows of a metric: statements before, and what its view selects from.
struct Rows {
    before: String,
    select: String,
}

/// Returns the condition under which an expression fails: that of the filter in any row, others in rows that pass it.
fn fails(in_filter: Option<String>, filter: Option<&str>, in_others: Option<String>) -> Option<String> {
    let in_others = in_others.map(|fault| match filter {
        Some(filter) => format!("({filter} IS TRUE AND {fault})"),
        None => fault,
    });
    match (in_filter, in_others) {
        (Some(first), Some(second)) => Some(format!("({first} OR {second})")),
        (first, second) => first.or(second),
    }
}

fn micros(value: i64) -> String {
    format!("CAST({value} AS BIGINT)")
}

fn dimensions(metric: &Metric, keys: &[String], translator: &mut Translator<'_>) -> String {
    let names = metric.by.iter().map(|dimension| text(&dimension.name));
    let named: Vec<String> = names.zip(keys).flat_map(|(name, key)| [name, key.clone()]).collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    if named.is_empty() { "'{}'".to_owned() } else { translator.call("evt_dimensions", &named) }
}

/// Returns the arguments of functions of windows.
fn layout(shape: Shape) -> String {
    let (unit, zone, [size, slide, align]) = match shape {
        Shape::Sliding { size, slide, align } => (String::new(), String::new(), [size, slide, align]),
        Shape::Calendar(calendar) => (calendar.unit.text().to_owned(), calendar.zone.to_string(), [0; 3]),
        Shape::Session { .. } => (String::new(), String::new(), [0; 3]),
    };
    format!("{}, {}, {}, {}, {}", text(&unit), text(&zone), micros(size), micros(slide), micros(align))
}

/// Returns the windows of a metric, or why a job has none.
fn windows(metric: &Metric) -> Result<Windows, String> {
    let of_function = |shape: Shape| {
        let layout = layout(shape);
        let names = ["unit", "zone", "size", "slide", "align"];
        let named = names.iter().zip(layout.split(", ")).map(|(name, value)| format!("{name} => {value}"));
        Windows::Function(named.collect::<Vec<_>>().join(", "))
    };
    Ok(match metric.shape {
        shape if shape == Shape::ALL => {
            return Err(
                "a window over all time fires at the end, and the job has none; use a size such as 1d".to_owned()
            );
        }
        Shape::Session { gap } => Windows::Session { gap },
        shape @ Shape::Calendar(_) => of_function(shape),
        shape @ Shape::Sliding { size, slide, align } => match (interval(size), interval(slide)) {
            // In Flink 2.2 windows with an offset lose rows.
            (Ok(size_text), Ok(slide_text)) if align % slide == 0 && size % slide == 0 => {
                let events = "TABLE counting, DESCRIPTOR(event_ts)";
                Windows::Native(match size == slide {
                    true => format!("TUMBLE({events}, {size_text})"),
                    false => format!("HOP({events}, {slide_text}, {size_text})"),
                })
            }
            _ => of_function(shape),
        },
    })
}

fn described(metric: &Metric) -> String {
    let windows = match metric.shape {
        Shape::Sliding { size, slide, .. } if size == slide => format!("windows of {}", format_duration(size)),
        Shape::Sliding { size, slide, .. } => {
            format!("windows of {} every {}", format_duration(size), format_duration(slide))
        }
        Shape::Calendar(calendar) => format!("periods of {} in {}", calendar.unit.text(), calendar.zone),
        Shape::Session { gap } => format!("sessions with a gap of {}", format_duration(gap)),
    };
    let lateness = match metric.lateness {
        0 => String::new(),
        lateness => format!(", open {} longer", format_duration(lateness)),
    };
    format!("{}, {windows}{lateness}", metric.call.text())
}
