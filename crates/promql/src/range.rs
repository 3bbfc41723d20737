//! The instants of a query, and the texts that clients send for them.

use crate::error::{QueryError, Result};

/// The maximum number of steps of a query, which Prometheus has, too.
const STEPS_MAX: i64 = 11_000;

/// The instants at which a query is evaluated (ms since 1970).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryRange {
    start: i64,
    end: i64,
    step: i64,
}

impl QueryRange {
    /// Makes the range of one instant.
    pub fn instant(at: i64) -> Self {
        Self { start: at, end: at, step: 1 }
    }

    /// Makes a range with the instants start, start + step, …, at most `end`. Errors: the end is before the start, the
    /// step is none, or there are more than 11,000 instants.
    pub fn new(start: i64, end: i64, step: i64) -> Result<Self> {
        if end < start {
            return Err(QueryError::bad_data("invalid parameter \"end\": end timestamp must not be before start time"));
        }
        if step <= 0 {
            return Err(QueryError::bad_data(
                "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a \
                 positive integer",
            ));
        }
        if end.saturating_sub(start) / step > STEPS_MAX {
            return Err(QueryError::bad_data(
                "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution \
                 (?step=XX)",
            ));
        }
        Ok(Self { start, end, step })
    }

    /// Returns the first instant.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// Returns the end, which need not be an instant of the range.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Returns the instants.
    pub fn steps(&self) -> impl Iterator<Item = i64> + use<> {
        let Self { start, end, step } = *self;
        (0..=(end - start) / step).map(move |number| start + number * step)
    }

    /// Returns the last instant.
    pub fn last(&self) -> i64 {
        self.start + (self.end - self.start) / self.step * self.step
    }
}

/// The units of a duration, from the longest, in milliseconds.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Parses a duration as Prometheus has it in parameters: `1h30m`, or seconds; returns milliseconds. Errors name
/// `parameter`.
pub fn parse_duration(parameter: &str, text: &str) -> Result<i64> {
    let wrong = || {
        let message = format!("invalid parameter \"{parameter}\": cannot parse \"{text}\" to a valid duration");
        QueryError::bad_data(message)
    };
    if let Ok(seconds) = text.parse::<f64>() {
        return millis(seconds).ok_or_else(wrong);
    }
    let (mut rest, mut total, mut units) = (text, 0i64, UNITS.iter());
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|char: char| !char.is_ascii_lowercase()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, scale) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = number.parse::<i64>().ok().and_then(|number| number.checked_mul(*scale));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(total)
}

/// Parses an instant in seconds since 1970; returns milliseconds; `None` if it is no number or too large.
pub fn parse_seconds(text: &str) -> Option<i64> {
    millis(text.parse().ok()?)
}

/// Returns seconds as milliseconds, as far as they are in the years ±290,000.
fn millis(seconds: f64) -> Option<i64> {
    let millis = (seconds * 1_000.0).round();
    // The limit is a whole number of f64, so that the conversion is exact.
    (millis.abs() < 9.2e15).then_some(millis as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_instants_are_those_of_prometheus() {
        let parse = |text| parse_duration("step", text).ok();
        assert_eq!(
            ["5m", "1h30m", "0.5", "90", "1d12h", "250ms"].map(parse),
            [300_000, 5_400_000, 500, 90_000, 129_600_000, 250].map(Some)
        );
        assert_eq!(
            ["", "5", "m", "5x", "1m1h", "-5m", "NaN", "1e300", "999999999999y"].map(|text| parse(text).is_some()),
            [false, true, false, false, false, false, false, false, false]
        );
        let error = parse_duration("step", "1 m").unwrap_err().to_string();
        assert_eq!(error, "invalid parameter \"step\": cannot parse \"1 m\" to a valid duration");
        assert_eq!([parse_seconds("1.5"), parse_seconds("-1"), parse_seconds("x")], [Some(1_500), Some(-1_000), None]);
    }

    #[test]
    fn a_range_has_at_most_11_000_steps_and_ends_at_its_last_one() {
        let range = QueryRange::new(0, 95, 10).unwrap();
        assert_eq!((range.steps().count(), range.last(), range.end()), (10, 90, 95));
        assert_eq!(QueryRange::instant(7).steps().collect::<Vec<_>>(), [7]);
        assert!(QueryRange::new(0, 11_000, 1).is_ok());
        for (start, end, step) in [(0, 11_001, 1), (1, 0, 1), (0, 1, 0), (i64::MIN, i64::MAX, 1)] {
            assert!(QueryRange::new(start, end, step).is_err());
        }
    }
}
