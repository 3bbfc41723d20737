//! Rows of kind metric to the series of a chart.

use super::scale::{TimeSpan, ValueRange};
use crate::error::{Error, Result};
use crate::kind::metric::MetricColumns;
use crate::parse::printable::clean;
use crate::time::format_duration;
use arrow::array::RecordBatch;
use std::collections::{BTreeMap, HashMap};

/// Maximum number of windows that are held.
const WINDOWS_MAX: usize = 500_000;
/// Maximum number of series of a panel.
pub const SERIES_MAX: usize = 10;
/// Maximum number of panels.
const PANELS_MAX: usize = 4;
/// A series with more points is drawn by the extremes of this many spans of time.
const SPANS: usize = 400;
/// Maximum characters of the name of a series.
const NAME_CHARS: usize = 60;

/// The metric and dimensions that all windows of a series have.
#[derive(PartialEq, Eq, Hash)]
struct SeriesKey {
    metric: String,
    /// As JSON.
    dimensions: String,
}

type SeriesWindows = BTreeMap<TimeSpan, WindowValue>;

/// The windows of rows.
#[derive(Default)]
pub struct Collected {
    numbers: HashMap<SeriesKey, usize>,
    /// The windows of each series.
    windows: Vec<SeriesWindows>,
    count: usize,
}

struct WindowValue {
    value: Option<f64>,
    revision: i32,
}

impl Collected {
    /// Takes rows of kind metric. Of several rows of a window the last one of the greatest revision counts.
    ///
    /// Errors: exit status 2 if there are too many windows.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = MetricColumns::try_new(batch)?;
        for row in 0..batch.num_rows() {
            let (metric, dimensions) = (columns.names.value(row), columns.dimensions.value(row));
            let key = SeriesKey { metric: metric.to_owned(), dimensions: dimensions.to_owned() };
            let next = self.windows.len();
            let series = *self.numbers.entry(key).or_insert(next);
            if series == next {
                self.windows.push(BTreeMap::new());
            }
            let windows = &mut self.windows[series];
            let window = TimeSpan { start: columns.starts.value(row), end: columns.ends.value(row) };
            let value = WindowValue { value: columns.value(row), revision: columns.revisions.value(row) };
            if windows.get(&window).is_some_and(|known| known.revision > value.revision) {
                continue;
            }
            if columns.retracted.value(row) {
                self.count -= usize::from(windows.remove(&window).is_some());
            } else {
                self.count += usize::from(windows.insert(window, value).is_none());
            }
        }
        if self.count > WINDOWS_MAX {
            return Err(Error::usage(format!(
                "expected at most {WINDOWS_MAX} windows to draw, found more; choose with --where or --since, or use evt-window --top"
            )));
        }
        Ok(())
    }

    /// Returns the chart of all rows.
    pub fn finish(self) -> Chart {
        let Self { numbers, mut windows, .. } = self;
        let mut metrics: BTreeMap<String, Vec<Unranked>> = BTreeMap::new();
        for (SeriesKey { metric, dimensions }, number) in numbers {
            let windows = std::mem::take(&mut windows[number]);
            if !windows.is_empty() {
                metrics.entry(metric).or_default().push(Unranked::new(dimensions, windows));
            }
        }
        let all = metrics.values().flatten().flat_map(|series| series.windows.keys());
        let span = all.copied().reduce(TimeSpan::join);
        let left_out = metrics.keys().skip(PANELS_MAX).cloned().collect();
        let panels = metrics.into_iter().take(PANELS_MAX).map(|(metric, all)| Panel::new(metric, all)).collect();
        Chart { panels, span, left_out }
    }
}

/// A series of a metric, before it is known which ones are drawn.
struct Unranked {
    dimensions: String,
    windows: SeriesWindows,
    /// The sum of the absolute values, of those that are finite.
    sum: f64,
}

impl Unranked {
    fn new(dimensions: String, windows: SeriesWindows) -> Self {
        let sum = windows.values().filter_map(WindowValue::finite).map(f64::abs).sum();
        Self { dimensions, windows, sum }
    }

    /// Returns the least distance of two starts (µs).
    fn step(&self) -> Option<i64> {
        let starts = self.windows.keys().map(|window| window.start);
        let steps = starts.clone().skip(1).zip(starts).map(|(next, start)| next - start);
        steps.filter(|step| *step > 0).min()
    }
}

impl WindowValue {
    fn finite(&self) -> Option<f64> {
        self.value.filter(|value| value.is_finite())
    }
}

/// A chart: a panel for each metric, all over the same time.
#[derive(Debug)]
pub struct Chart {
    /// The panels.
    pub panels: Vec<Panel>,
    /// The first start and the last end (µs); `None` without windows.
    pub span: Option<TimeSpan>,
    /// Metrics without a panel.
    pub left_out: Vec<String>,
}

/// One metric.
#[derive(Debug)]
pub struct Panel {
    /// Its name.
    pub metric: String,
    /// The length of its windows, if all have the same.
    pub length: Option<String>,
    /// The series with the greatest sums of absolute values, the greatest first.
    pub series: Vec<Series>,
    /// The number of series without a line.
    pub left_out: usize,
}

/// One combination of dimensions.
#[derive(Debug)]
pub struct Series {
    /// The dimensions as `name=value`, or the metric's name without dimensions.
    pub name: String,
    /// The points of each unbroken part.
    pub parts: Vec<Vec<ChartPoint>>,
    /// The value of the last window that has one; it may be infinite or NaN.
    pub last: Option<f64>,
    /// The least and the greatest value, as `min` and `max` order them; `None` if all are NULL.
    pub extremes: Option<ValueRange>,
    /// The least and the greatest value that is drawn, which is finite; `None` if there is none.
    pub extent: Option<ValueRange>,
}

/// The value of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChartPoint {
    /// The start of the window (µs).
    pub time: i64,
    /// Its value, which is finite.
    pub value: f64,
}

impl Panel {
    fn new(metric: String, mut all: Vec<Unranked>) -> Self {
        all.sort_by(|a, b| b.sum.total_cmp(&a.sum).then_with(|| a.dimensions.cmp(&b.dimensions)));
        let mut lengths = all.iter().flat_map(|series| series.windows.keys()).map(|window| window.end - window.start);
        let first = lengths.next();
        let length = first.filter(|first| lengths.all(|length| length == *first)).map(format_duration);
        let step = all.iter().filter_map(Unranked::step).min().unwrap_or(i64::MAX);
        let left_out = all.len().saturating_sub(SERIES_MAX);
        let series = all.iter().take(SERIES_MAX).map(|series| Series::new(&metric, series, step)).collect();
        Self { metric, length, series, left_out }
    }

    /// Returns the name and the length of the windows.
    pub fn title(&self) -> String {
        let Self { metric, length, .. } = self;
        length.as_ref().map_or(metric.clone(), |length| format!("{metric}, windows of {length}"))
    }

    /// Returns the note about series without a line; `None` if every series has one.
    pub fn note(&self) -> Option<String> {
        let Self { left_out, series, .. } = self;
        let drawn = series.len();
        (*left_out > 0)
            .then(|| format!("the {drawn} series with the greatest sums of absolute values; {left_out} are left out"))
    }

    /// Returns the least and the greatest value that is drawn.
    pub fn extent(&self) -> Option<ValueRange> {
        self.series.iter().filter_map(|series| series.extent).reduce(ValueRange::join)
    }
}

impl Series {
    /// Makes the series of windows that usually begin `step` µs apart: where the next one is missing, or its value is,
    /// a part ends.
    fn new(metric: &str, series: &Unranked, step: i64) -> Self {
        let Unranked { dimensions, windows, .. } = series;
        let mut parts: Vec<Vec<ChartPoint>> = vec![];
        let mut is_open = false;
        for (TimeSpan { start, .. }, value) in windows {
            let Some(value) = value.finite() else {
                is_open = false;
                continue;
            };
            let last = parts.last_mut().filter(|_| is_open);
            let near = |part: &&mut Vec<ChartPoint>| {
                // The months of a calendar differ by a tenth; half a step is not a gap.
                part.last().is_some_and(|before| start - before.time <= step.saturating_add(step / 2))
            };
            let point = ChartPoint { time: *start, value };
            match last.filter(near) {
                Some(part) => part.push(point),
                None => parts.push(vec![point]),
            }
            is_open = true;
        }
        let extent = parts.iter().flatten().map(|point| ValueRange::of(point.value)).reduce(ValueRange::join);
        let values = || windows.values().filter_map(|window| window.value);
        let extremes = values().min_by(f64::total_cmp).zip(values().max_by(f64::total_cmp));
        let extremes = extremes.map(|(low, high)| ValueRange { low, high });
        let last = values().next_back();
        let count: usize = parts.iter().map(Vec::len).sum();
        if count > 2 * SPANS {
            let (first, last) = (windows.keys().next(), windows.keys().next_back());
            let (first, last) = first.zip(last).map_or((0, 0), |(first, last)| (first.start, last.start));
            let span = ((last - first) / SPANS as i64).max(1);
            parts.iter_mut().for_each(|part| *part = thinned(part, first, span));
        }
        Self { name: name(metric, dimensions), parts, last, extremes, extent }
    }
}

/// Keeps the first, the least and the greatest point of each span of time, so that no peak is lost.
fn thinned(part: &[ChartPoint], first: i64, span: i64) -> Vec<ChartPoint> {
    let mut kept: Vec<ChartPoint> = vec![];
    for points in part.chunk_by(|a, b| (a.time - first) / span == (b.time - first) / span) {
        let by_value = |a: &&ChartPoint, b: &&ChartPoint| a.value.total_cmp(&b.value);
        let extremes = [points.first(), points.iter().min_by(by_value), points.iter().max_by(by_value)];
        let mut few: Vec<ChartPoint> = extremes.into_iter().flatten().copied().collect();
        few.sort_by_key(|point| point.time);
        few.dedup();
        kept.extend(few);
    }
    kept
}

/// Returns the dimensions as `name=value`, without characters that control a terminal or that XML refuses.
fn name(metric: &str, dimensions: &str) -> String {
    let Ok(serde_json::Value::Object(members)) = serde_json::from_str(dimensions) else { return metric.to_owned() };
    let member = |(name, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    };
    let text = members.iter().map(member).collect::<Vec<_>>().join(", ");
    let text = if text.is_empty() { metric } else { &text };
    let mut shown: String = clean(text).chars().take(NAME_CHARS).collect();
    if text.chars().count() > NAME_CHARS {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kind::metric::{Builder, Row};
    use crate::time::HOUR;

    pub fn row<'a>(dimensions: &'a str, hour: i64, value: Option<f64>) -> Row<'a> {
        let (start, end) = (hour * HOUR, (hour + 1) * HOUR);
        Row { name: "m", start, end, dimensions, value, rows: 1, revision: 0, pane: 0, retracted: false }
    }

    pub fn collected(rows: &[Row<'_>]) -> Collected {
        let mut collected = Collected::default();
        for rows in rows.chunks(900) {
            let mut builder = Builder::default();
            rows.iter().for_each(|row| builder.push(row).unwrap());
            collected.push(&builder.finish(crate::kind::Kind::Metric.schema()).unwrap()).unwrap();
        }
        collected
    }

    #[test]
    fn a_line_has_a_gap_where_windows_are_missing_or_null() {
        let rows = [0, 1, 2, 5, 6, 7, 8].map(|hour| row("{}", hour, (hour != 7).then_some(hour as f64)));
        let chart = collected(&rows).finish();
        let series = &chart.panels[0].series[0];
        let hours: Vec<Vec<i64>> =
            series.parts.iter().map(|part| part.iter().map(|point| point.time / HOUR).collect()).collect();
        assert_eq!(hours, [vec![0, 1, 2], vec![5, 6], vec![8]]);
        assert_eq!((series.extent, series.last), (Some(ValueRange { low: 0.0, high: 8.0 }), Some(8.0)));
        assert_eq!(chart.span, Some(TimeSpan { start: 0, end: 9 * HOUR }));
        assert_eq!(chart.panels[0].title(), "m, windows of 1h");
    }

    #[test]
    fn more_windows_than_memory_should_hold_are_refused() {
        let mut collected = Collected::default();
        let mut push = |hours: std::ops::Range<usize>| {
            let mut builder = Builder::default();
            hours.for_each(|hour| builder.push(&row("{}", hour as i64, Some(1.0))).unwrap());
            collected.push(&builder.finish(crate::kind::Kind::Metric.schema()).unwrap())
        };
        push(0..WINDOWS_MAX).unwrap();
        let error = push(WINDOWS_MAX..WINDOWS_MAX + 1).unwrap_err().to_string();
        assert!(error.contains("choose with --where or --since, or use evt-window --top"), "{error}");
    }

    #[test]
    fn the_ten_series_with_the_greatest_sums_have_a_line_and_the_number_of_others_is_said() {
        let dimensions: Vec<String> = (0..14).map(|n| format!("{{\"k\":\"{n}\"}}")).collect();
        let rows: Vec<Row<'_>> = dimensions.iter().zip(0..).map(|(text, n)| row(text, 0, Some(f64::from(n)))).collect();
        let chart = collected(&rows).finish();
        let panel = &chart.panels[0];
        let names: Vec<&str> = panel.series.iter().map(|series| series.name.as_str()).collect();
        assert_eq!((names.len(), names[0], names[9]), (10, "k=13", "k=4"));
        assert_eq!(panel.note().unwrap(), "the 10 series with the greatest sums of absolute values; 4 are left out");
    }

    #[test]
    fn the_last_pane_of_the_greatest_revision_counts_and_a_retracted_window_has_no_point() {
        let mut rows = vec![row("{}", 0, Some(1.0)), row("{}", 0, Some(2.0)), row("{}", 1, Some(3.0))];
        rows.push(Row { revision: 1, ..row("{}", 0, Some(9.0)) });
        rows.push(row("{}", 0, Some(4.0)));
        rows.push(Row { retracted: true, ..row("{}", 1, None) });
        let chart = collected(&rows).finish();
        assert_eq!(chart.panels[0].series[0].parts, [vec![ChartPoint { time: 0, value: 9.0 }]]);
    }

    #[test]
    fn a_long_series_keeps_its_peaks() {
        let rows: Vec<Row<'_>> =
            (0..20_000).map(|hour| row("{}", hour, Some(if hour == 12_345 { 1e6 } else { 1.0 }))).collect();
        let chart = collected(&rows).finish();
        let part = &chart.panels[0].series[0].parts[0];
        assert!(
            part.len() < 3 * SPANS + 3 && part.contains(&ChartPoint { time: 12_345 * HOUR, value: 1e6 }),
            "{}",
            part.len()
        );
    }

    #[test]
    fn names_of_series_have_no_control_characters_and_a_bounded_length() {
        assert_eq!(name("m", "{\"a\":\"x\\u001b[1m\",\"b\":null}"), "a=x␛[1m, b=null");
        assert_eq!(name("m", "{}"), "m");
        assert_eq!(name("m", &format!("{{\"a\":\"{}\"}}", "é".repeat(99))).chars().count(), NAME_CHARS);
    }
}
