//! The axes of a chart: ticks at round times and values, and their labels. Times are UTC.

use crate::json::number::special_word;
use crate::time::calendar::{CivilDate, civil_from_days, days_from_civil};
use crate::time::{DAY, HOUR, MILLISECOND, MINUTE, MONTHS, SECOND};

/// Steps between ticks that are spans of time (µs).
const STEPS: [i64; 29] = [
    MILLISECOND,
    10 * MILLISECOND,
    100 * MILLISECOND,
    200 * MILLISECOND,
    500 * MILLISECOND,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    3 * DAY,
    4 * DAY,
    5 * DAY,
    7 * DAY,
    14 * DAY,
];
/// Steps that are months.
const MONTH_STEPS: [i64; 13] = [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1_200, 6_000, 24_000];

/// A range of time, both ends included (µs), in the order of starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan {
    /// The least instant.
    pub start: i64,
    /// The greatest instant.
    pub end: i64,
}

/// A range of values, both ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueRange {
    /// The least value.
    pub low: f64,
    /// The greatest value.
    pub high: f64,
}

/// A mark of an axis.
#[derive(Debug)]
pub struct Tick<T> {
    /// The instant (µs) or the value.
    pub at: T,
    /// Its text.
    pub label: String,
}

impl TimeSpan {
    /// Returns the least span that holds both.
    pub fn join(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// Returns the place of an instant in the span: 0 at the start, 1 at the end.
    pub fn fraction(self, time: i64) -> f64 {
        (time - self.start) as f64 / (self.end - self.start).max(1) as f64
    }
}

impl ValueRange {
    /// The range of an axis without values.
    pub const UNIT: Self = Self { low: 0.0, high: 1.0 };

    /// Returns the range of one value.
    pub fn of(value: f64) -> Self {
        Self { low: value, high: value }
    }

    /// Returns the least range that holds both.
    pub fn join(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// Returns the place of a value in the range: 0 at the low end, 1 at the high one. The range must not be empty.
    pub fn fraction(self, value: f64) -> f64 {
        // The range of finite values may be longer than the greatest number, but half of it is not.
        (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0)
    }
}

/// Returns at most about `count` ticks in a range of time.
pub fn time_ticks(span: TimeSpan, count: i64) -> Vec<Tick<i64>> {
    let TimeSpan { start, end } = span;
    let length = (end - start).max(1);
    match STEPS.into_iter().find(|step| length / step <= count) {
        Some(step) => {
            let low = start.div_euclid(step) + i64::from(start.rem_euclid(step) > 0);
            let ticks = (low..).map(|n| n * step).take_while(|at| *at <= end);
            ticks.map(|at| Tick { at, label: time_label(at, step) }).collect()
        }
        None => month_ticks(span, count),
    }
}

fn month_ticks(span: TimeSpan, count: i64) -> Vec<Tick<i64>> {
    let CivilDate { year, month, .. } = civil_from_days(span.start.div_euclid(DAY));
    let months = (span.end - span.start) / (30 * DAY);
    let step =
        MONTH_STEPS.into_iter().find(|step| months / step <= count).unwrap_or(MONTH_STEPS[MONTH_STEPS.len() - 1]);
    let begin = (year * 12 + month - 1).div_euclid(step) * step;
    let start = |n: i64| days_from_civil(n.div_euclid(12), n.rem_euclid(12) + 1, 1) * DAY;
    let ticks =
        (0..).map(|n| begin + n * step).take_while(|n| start(*n) <= span.end).filter(|n| start(*n) >= span.start);
    let label = |n: i64| match step % 12 {
        0 => n.div_euclid(12).to_string(),
        _ => format!("{} {}", MONTHS[n.rem_euclid(12) as usize], n.div_euclid(12)),
    };
    ticks.map(|n| Tick { at: start(n), label: label(n) }).collect()
}

/// Returns the label of a tick: the day at midnight, else the time of day, as precise as the step.
fn time_label(at: i64, step: i64) -> String {
    let (day, rest) = (at.div_euclid(DAY), at.rem_euclid(DAY));
    if rest == 0 {
        let CivilDate { month, day, .. } = civil_from_days(day);
        return format!("{day} {}", MONTHS[(month - 1) as usize]);
    }
    let (hour, minute, second) = (rest / HOUR, rest / MINUTE % 60, rest / SECOND % 60);
    match step {
        step if step < SECOND => format!("{minute:02}:{second:02}.{:03}", rest / MILLISECOND % 1_000),
        step if step < MINUTE => format!("{hour:02}:{minute:02}:{second:02}"),
        _ => format!("{hour:02}:{minute:02}"),
    }
}

/// Returns an instant as `2024-01-15 10:00`, with seconds if it has some.
pub fn instant(at: i64) -> String {
    let CivilDate { year, month, day } = civil_from_days(at.div_euclid(DAY));
    let rest = at.rem_euclid(DAY);
    let (hour, minute, second) = (rest / HOUR, rest / MINUTE % 60, rest / SECOND % 60);
    let date = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}");
    if second == 0 { date } else { format!("{date}:{second:02}") }
}

/// Returns the range of an axis for values in a range; it is never empty. The axis begins or ends at 0 if the values
/// then still cover at least half of it.
pub fn axis_range(values: ValueRange) -> ValueRange {
    let ValueRange { low: least, high: greatest } = values;
    let low = if least >= 0.0 && least <= greatest / 2.0 { 0.0 } else { least };
    let high = if greatest <= 0.0 && greatest >= least / 2.0 { 0.0 } else { greatest };
    match high / 2.0 - low / 2.0 {
        length if length > 0.0 && length.is_normal() => ValueRange { low, high },
        _ if low == 0.0 => ValueRange::UNIT,
        _ => ValueRange { low: low.min(0.0), high: low.max(0.0) },
    }
}

/// Returns about `count` ticks that enclose a range of values; the first and the last one are the ends of the axis.
pub fn value_ticks(range: ValueRange, count: f64) -> Vec<Tick<f64>> {
    let ValueRange { low, high } = range;
    let raw = high / count - low / count;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|round| round * power).find(|step| *step >= raw * 0.999);
    let step = step.unwrap_or(raw);
    let (first, last) = ((low / step).floor(), (high / step - 1e-9).ceil());
    let at = |n: i64| ((first + n as f64) * step).clamp(f64::MIN, f64::MAX);
    let ticks = (0..=(last - first) as i64).map(at);
    ticks.map(|at| Tick { at, label: value_label(at) }).collect()
}

/// Returns a value with at most four digits and a prefix of the SI, or the word for one that is not finite.
pub fn value_label(value: f64) -> String {
    const PREFIXES: [(f64, &str); 5] = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    if let Some(word) = special_word(value) {
        return word.to_owned();
    }
    let size = value.abs();
    if size >= 1e18 || (size > 0.0 && size < 1e-4) {
        return format!("{value:.2e}");
    }
    let prefix = PREFIXES.into_iter().find(|(scale, _)| size >= *scale && size >= 10_000.0);
    let (scale, prefix) = prefix.unwrap_or((1.0, ""));
    let scaled = value / scale;
    let digits = match scaled.abs() {
        size if size >= 1_000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        size if size >= 1.0 || size == 0.0 => 3,
        size => 3 + (-size.log10()).ceil() as usize,
    };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{prefix}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{EARLIEST, LATEST, parse_instant};

    fn labels(start: &str, end: &str) -> String {
        let at = |text| parse_instant(text).unwrap();
        let ticks = time_ticks(TimeSpan { start: at(start), end: at(end) }, 8);
        ticks.into_iter().map(|tick| tick.label).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn ticks_of_time_are_round_and_name_the_day_at_midnight() {
        for (start, end, expected) in [
            (
                "2024-01-15T22:10:00Z",
                "2024-01-16T02:10:00Z",
                "22:30 | 23:00 | 23:30 | 16 Jan | 00:30 | 01:00 | 01:30 | 02:00",
            ),
            (
                "2024-01-15T00:00:00Z",
                "2024-01-15T00:00:30Z",
                "15 Jan | 00:00:05 | 00:00:10 | 00:00:15 | 00:00:20 | 00:00:25 | 00:00:30",
            ),
            (
                "2024-01-01T00:00:00Z",
                "2024-06-15T00:00:00Z",
                "Jan 2024 | Feb 2024 | Mar 2024 | Apr 2024 | May 2024 | Jun 2024",
            ),
            ("1990-05-01T00:00:00Z", "2024-06-15T00:00:00Z", "1995 | 2000 | 2005 | 2010 | 2015 | 2020"),
        ] {
            assert_eq!(labels(start, end), expected);
        }
        let all = time_ticks(TimeSpan { start: EARLIEST, end: LATEST }, 8);
        assert!((2..10).contains(&all.len()), "{all:?}");
        assert!(time_ticks(TimeSpan { start: 5, end: 5 }, 8).len() <= 1);
    }

    #[test]
    fn values_have_few_digits_and_ticks_enclose_them() {
        for (value, label) in [
            (0.0, "0"),
            (12.0, "12"),
            (9_999.0, "9999"),
            (12_300.0, "12.3k"),
            (1_234_567.0, "1.235M"),
            (-0.25, "-0.25"),
            (0.00123, "0.00123"),
            (1e-9, "1.00e-9"),
            (2e20, "2.00e20"),
            (99.96, "99.96"),
        ] {
            assert_eq!(value_label(value), label);
        }
        for (low, high) in [(0.0, 7.0), (-3.5, 12.0), (500.0, 512.0), (0.0, 1e-7), (0.0, 3e17)] {
            let ticks = value_ticks(ValueRange { low, high }, 5.0);
            assert!((3..9).contains(&ticks.len()), "{low} {high} {ticks:?}");
            assert!(ticks[0].at <= low && ticks[ticks.len() - 1].at >= high * (1.0 - 1e-9), "{low} {high} {ticks:?}");
        }
        // The distance of the ends is beyond the greatest number.
        for (low, high) in [(-1e308, 1e308), (f64::MIN, f64::MAX), (-1e308, 1.5e308)] {
            let axis = axis_range(ValueRange { low, high });
            assert_eq!(axis, ValueRange { low, high });
            assert_eq!([low, high].map(|value| axis.fraction(value)), [0.0, 1.0], "{low} {high}");
            let ticks = value_ticks(axis, 5.0);
            assert!((3..9).contains(&ticks.len()), "{low} {high} {ticks:?}");
            assert!(ticks[0].at <= low && ticks[ticks.len() - 1].at >= high, "{low} {high} {ticks:?}");
        }
        for (values, axis) in [
            ([3.0, 3.0], [0.0, 3.0]),
            ([0.0, 0.0], [0.0, 1.0]),
            ([500.0, 512.0], [500.0, 512.0]),
            ([-8.0, -1.0], [-8.0, 0.0]),
            ([-8.0, -7.0], [-8.0, -7.0]),
        ] {
            let range = |[low, high]: [f64; 2]| ValueRange { low, high };
            assert_eq!(axis_range(range(values)), range(axis));
        }
    }
}
