//! Rows of kind metric to the series of a chart.

use crate::error::{Error, Result};
use crate::format::table::clean;
use crate::kind::metric::MetricColumns;
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

/// The name of a metric, and its dimensions as JSON.
type SeriesKey = (String, String);

/// The windows of rows.
#[derive(Default)]
pub struct Collected {
    numbers: HashMap<SeriesKey, usize>,
    /// The windows of each series by start and end.
    windows: Vec<BTreeMap<(i64, i64), Point>>,
    count: usize,
}

struct Point {
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
            let key = (columns.names.value(row).to_owned(), columns.dimensions.value(row).to_owned());
            let next = self.windows.len();
            let series = *self.numbers.entry(key).or_insert(next);
            if series == next {
                self.windows.push(BTreeMap::new());
            }
            let windows = &mut self.windows[series];
            let window = (columns.starts.value(row), columns.ends.value(row));
            let point = Point { value: columns.value(row), revision: columns.revisions.value(row) };
            if windows.get(&window).is_some_and(|known| known.revision > point.revision) {
                continue;
            }
            if columns.retracted.value(row) {
                self.count -= usize::from(windows.remove(&window).is_some());
            } else {
                self.count += usize::from(windows.insert(window, point).is_none());
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
        let mut metrics: BTreeMap<String, Vec<(String, Windows)>> = BTreeMap::new();
        for ((metric, dimensions), number) in numbers {
            let windows = std::mem::take(&mut windows[number]);
            if !windows.is_empty() {
                metrics.entry(metric).or_default().push((dimensions, windows));
            }
        }
        let all = metrics.values().flatten().flat_map(|(_, windows)| windows.keys());
        let range = all.fold(None, |range: Option<(i64, i64)>, (start, end)| {
            Some(range.map_or((*start, *end), |(first, last)| (first.min(*start), last.max(*end))))
        });
        let left_out = metrics.keys().skip(PANELS_MAX).cloned().collect();
        let panels = metrics.into_iter().take(PANELS_MAX).map(|(metric, all)| Panel::new(metric, all)).collect();
        Chart { panels, range, left_out }
    }
}

type Windows = BTreeMap<(i64, i64), Point>;

/// A chart: a panel for each metric, all over the same time.
#[derive(Debug)]
pub struct Chart {
    /// The panels.
    pub panels: Vec<Panel>,
    /// The first start and the last end (µs); `None` without windows.
    pub range: Option<(i64, i64)>,
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
    /// The series with the greatest sums of values, the greatest first.
    pub series: Vec<Series>,
    /// The number of series without a line.
    pub left_out: usize,
}

/// One combination of dimensions.
#[derive(Debug)]
pub struct Series {
    /// The dimensions as `name=value`, or the metric's name without dimensions.
    pub name: String,
    /// The points (start of the window in µs, value) of each unbroken part.
    pub parts: Vec<Vec<(i64, f64)>>,
    /// The value of the last window.
    pub last: Option<f64>,
    /// The least and the greatest value; `None` if all are NULL.
    pub extent: Option<(f64, f64)>,
}

impl Panel {
    fn new(metric: String, mut all: Vec<(String, Windows)>) -> Self {
        let sum = |windows: &Windows| windows.values().filter_map(finite).map(f64::abs).sum::<f64>();
        let mut ranked: Vec<(f64, String, Windows)> =
            all.drain(..).map(|(dimensions, windows)| (sum(&windows), dimensions, windows)).collect();
        ranked.sort_by(|(a, name, _), (b, other, _)| b.total_cmp(a).then_with(|| name.cmp(other)));
        let lengths = |windows: &Windows| windows.keys().map(|(start, end)| end - start).collect::<Vec<_>>();
        let mut lengths = ranked.iter().flat_map(|(_, _, windows)| lengths(windows));
        let first = lengths.next();
        let length = first.filter(|first| lengths.all(|length| length == *first)).map(format_duration);
        let steps = |windows: &Windows| {
            let starts: Vec<i64> = windows.keys().map(|(start, _)| *start).collect();
            starts.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 0).min()
        };
        let step = ranked.iter().filter_map(|(_, _, windows)| steps(windows)).min().unwrap_or(i64::MAX);
        let left_out = ranked.len().saturating_sub(SERIES_MAX);
        let chosen = ranked.into_iter().take(SERIES_MAX);
        let series = chosen.map(|(_, dimensions, windows)| Series::new(&metric, &dimensions, &windows, step)).collect();
        Self { metric, length, series, left_out }
    }

    /// Returns the name and the length of the windows.
    pub fn title(&self) -> String {
        let Self { metric, length, .. } = self;
        length.as_ref().map_or(metric.clone(), |length| format!("{metric}, windows of {length}"))
    }

    /// Returns what is said of series without a line.
    pub fn note(&self) -> Option<String> {
        let Self { left_out, series, .. } = self;
        let drawn = series.len();
        (*left_out > 0).then(|| format!("the {drawn} series with the greatest sums; {left_out} are left out"))
    }

    /// Returns the least and the greatest value of all series.
    pub fn extent(&self) -> Option<(f64, f64)> {
        let extents = self.series.iter().filter_map(|series| series.extent);
        extents.reduce(|(low, high), (least, greatest)| (low.min(least), high.max(greatest)))
    }
}

fn finite(point: &Point) -> Option<f64> {
    point.value.filter(|value| value.is_finite())
}

impl Series {
    /// Makes the series of windows that usually begin `step` µs apart: where the next one is missing, or its value is, a part ends.
    fn new(metric: &str, dimensions: &str, windows: &Windows, step: i64) -> Self {
        let mut parts: Vec<Vec<(i64, f64)>> = vec![];
        let mut is_open = false;
        for ((start, _), point) in windows {
            let Some(value) = finite(point) else {
                is_open = false;
                continue;
            };
            let last = parts.last_mut().filter(|_| is_open);
            let near = |part: &&mut Vec<(i64, f64)>| {
                // The months of a calendar differ by a tenth; half a step is no gap.
                part.last().is_some_and(|(before, _)| start - before <= step.saturating_add(step / 2))
            };
            match last.filter(near) {
                Some(part) => part.push((*start, value)),
                None => parts.push(vec![(*start, value)]),
            }
            is_open = true;
        }
        let values = || parts.iter().flatten().map(|(_, value)| *value);
        let extent =
            values().map(|value| (value, value)).reduce(|(low, high), (value, _)| (low.min(value), high.max(value)));
        let last = values().next_back();
        let count: usize = parts.iter().map(Vec::len).sum();
        if count > 2 * SPANS {
            let (first, end) =
                windows.keys().next().zip(windows.keys().next_back()).map_or((0, 0), |(a, b)| (a.0, b.0));
            let span = ((end - first) / SPANS as i64).max(1);
            parts.iter_mut().for_each(|part| *part = thinned(part, first, span));
        }
        Self { name: name(metric, dimensions), parts, last, extent }
    }
}

/// Keeps the first, the least and the greatest point of each span of time, so that no peak is lost.
fn thinned(part: &[(i64, f64)], first: i64, span: i64) -> Vec<(i64, f64)> {
    let mut kept: Vec<(i64, f64)> = vec![];
    for points in part.chunk_by(|(a, _), (b, _)| (a - first) / span == (b - first) / span) {
        let by_value = |a: &&(i64, f64), b: &&(i64, f64)| a.1.total_cmp(&b.1);
        let extremes = [points.first(), points.iter().min_by(by_value), points.iter().max_by(by_value)];
        let mut few: Vec<(i64, f64)> = extremes.into_iter().flatten().copied().collect();
        few.sort_by_key(|(start, _)| *start);
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
            series.parts.iter().map(|part| part.iter().map(|(start, _)| start / HOUR).collect()).collect();
        assert_eq!(hours, [vec![0, 1, 2], vec![5, 6], vec![8]]);
        assert_eq!((series.extent, series.last), (Some((0.0, 8.0)), Some(8.0)));
        assert_eq!(chart.range, Some((0, 9 * HOUR)));
        assert_eq!(chart.panels[0].title(), "m, windows of 1h");
    }

    #[test]
    fn the_ten_series_with_the_greatest_sums_have_a_line_and_the_number_of_others_is_said() {
        let dimensions: Vec<String> = (0..14).map(|n| format!("{{\"k\":\"{n}\"}}")).collect();
        let rows: Vec<Row<'_>> = dimensions.iter().zip(0..).map(|(text, n)| row(text, 0, Some(f64::from(n)))).collect();
        let chart = collected(&rows).finish();
        let panel = &chart.panels[0];
        let names: Vec<&str> = panel.series.iter().map(|series| series.name.as_str()).collect();
        assert_eq!((names.len(), names[0], names[9]), (10, "k=13", "k=4"));
        assert_eq!(panel.note().unwrap(), "the 10 series with the greatest sums; 4 are left out");
    }

    #[test]
    fn the_last_pane_of_the_greatest_revision_counts_and_a_retracted_window_has_no_point() {
        let mut rows = vec![row("{}", 0, Some(1.0)), row("{}", 0, Some(2.0)), row("{}", 1, Some(3.0))];
        rows.push(Row { revision: 1, ..row("{}", 0, Some(9.0)) });
        rows.push(row("{}", 0, Some(4.0)));
        rows.push(Row { retracted: true, ..row("{}", 1, None) });
        let chart = collected(&rows).finish();
        assert_eq!(chart.panels[0].series[0].parts, [vec![(0, 9.0)]]);
    }

    #[test]
    fn a_long_series_keeps_its_peaks() {
        let rows: Vec<Row<'_>> =
            (0..20_000).map(|hour| row("{}", hour, Some(if hour == 12_345 { 1e6 } else { 1.0 }))).collect();
        let chart = collected(&rows).finish();
        let part = &chart.panels[0].series[0].parts[0];
        assert!(part.len() < 3 * SPANS + 3 && part.contains(&(12_345 * HOUR, 1e6)), "{}", part.len());
    }

    #[test]
    fn names_of_series_have_no_control_characters_and_a_bounded_length() {
        assert_eq!(name("m", "{\"a\":\"x\\u001b[1m\",\"b\":null}"), "a=x␛[1m, b=null");
        assert_eq!(name("m", "{}"), "m");
        assert_eq!(name("m", &format!("{{\"a\":\"{}\"}}", "é".repeat(99))).chars().count(), NAME_CHARS);
    }
}
