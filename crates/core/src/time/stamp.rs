//! Formats instants, dates and seconds fast: writes only the parts that changed since the last instant.

use super::calendar::{DAY, SECOND};
use super::instant::write_instant;
use arrow::datatypes::TimeUnit;
use std::fmt::Write;

/// Formats instants as `2024-01-15T10:00:00.000000Z`. The instants of a column are close together, so the last text is
/// kept and only the differences are written (a quarter of the time of writing each one anew).
pub struct Stamp {
    micros: i64,
    day: i64,
    text: String,
}

impl Default for Stamp {
    fn default() -> Self {
        Self { micros: 0, day: 0, text: "1970-01-01T00:00:00.000000Z".to_owned() }
    }
}

impl Stamp {
    /// Appends the instant `micros` (µs) as [`write_instant`] does.
    #[inline]
    pub fn write(&mut self, out: &mut String, micros: i64) {
        out.push_str(self.text(micros));
    }

    /// Returns the text of the instant `micros` (µs).
    #[inline]
    pub fn text(&mut self, micros: i64) -> &str {
        if micros != self.micros {
            self.update(micros);
        }
        &self.text
    }

    /// Appends an instant in ticks of `unit`; one beyond the range of microseconds is written as the bare count.
    pub fn write_ticks(&mut self, out: &mut String, ticks: i64, unit: TimeUnit) {
        let micros = match unit {
            TimeUnit::Second => ticks.checked_mul(SECOND),
            TimeUnit::Millisecond => ticks.checked_mul(1_000),
            TimeUnit::Microsecond => Some(ticks),
            TimeUnit::Nanosecond => Some(ticks.div_euclid(1_000)),
        };
        let Some(micros) = micros else {
            let _ = write!(out, "{ticks}");
            return;
        };
        self.write(out, micros);
        if unit == TimeUnit::Nanosecond && ticks.rem_euclid(1_000) != 0 {
            out.pop();
            let _ = write!(out, "{:03}Z", ticks.rem_euclid(1_000));
        }
    }

    /// Appends a local time in ticks of `unit`, without a zone.
    pub fn write_local(&mut self, out: &mut String, ticks: i64, unit: TimeUnit) {
        self.write_ticks(out, ticks, unit);
        // A bare count has no zone.
        if out.ends_with('Z') {
            out.pop();
        }
    }

    fn update(&mut self, micros: i64) {
        let (day, within) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
        self.micros = micros;
        if day != self.day {
            self.day = day;
            self.text.clear();
            return write_instant(&mut self.text, micros);
        }
        let seconds = within / SECOND;
        let fraction = within % SECOND;
        // One append: twelve short ones cost more than the digits.
        let mut time = *b"00:00:00.000000Z";
        for (at, pair) in [
            (0, seconds / 3_600),
            (3, seconds / 60 % 60),
            (6, seconds % 60),
            (9, fraction / 10_000),
            (11, fraction / 100 % 100),
            (13, fraction % 100),
        ] {
            time[at] = b'0' + (pair / 10) as u8;
            time[at + 1] = b'0' + (pair % 10) as u8;
        }
        // A year outside 0000–9999 has a longer date, so the position of the time is found from the end.
        self.text.truncate(self.text.len() - time.len());
        self.text.push_str(str::from_utf8(&time).expect("only ASCII"));
    }
}

/// Appends a time of day, `10:00:00` and the digits of its unit.
pub fn write_time_of_day(out: &mut String, ticks: i64, unit: TimeUnit) {
    let scale = 10i64.pow(fraction_digits(unit));
    let seconds = ticks.div_euclid(scale);
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds.div_euclid(3_600), seconds / 60 % 60, seconds % 60);
    write_fraction(out, ticks.rem_euclid(scale), unit);
}

/// Appends `ticks` of a unit as seconds; a fraction has as many digits as the unit.
pub fn write_seconds(out: &mut String, ticks: i64, unit: TimeUnit) {
    let scale = 10u64.pow(fraction_digits(unit));
    if ticks < 0 {
        out.push('-');
    }
    let _ = write!(out, "{}", ticks.unsigned_abs() / scale);
    write_fraction(out, (ticks.unsigned_abs() % scale) as i64, unit);
}

fn write_fraction(out: &mut String, fraction: i64, unit: TimeUnit) {
    let width = fraction_digits(unit) as usize;
    if width > 0 && fraction != 0 {
        let _ = write!(out, ".{fraction:0width$}");
    }
}

fn fraction_digits(unit: TimeUnit) -> u32 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::instant::write_date;
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn units_keep_their_digits() {
        let stamp = |ticks, unit| text(|out| Stamp::default().write_ticks(out, ticks, unit));
        assert_eq!(stamp(1, TimeUnit::Nanosecond), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(stamp(-1, TimeUnit::Nanosecond), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(stamp(1_000, TimeUnit::Nanosecond), "1970-01-01T00:00:00.000001Z");
        assert_eq!(stamp(-1, TimeUnit::Second), "1969-12-31T23:59:59.000000Z");
        assert_eq!(stamp(i64::MAX, TimeUnit::Second), i64::MAX.to_string());
        assert_eq!(text(|out| write_seconds(out, -1_500, TimeUnit::Millisecond)), "-1.500");
        assert_eq!(text(|out| write_seconds(out, i64::MIN, TimeUnit::Second)), i64::MIN.to_string());
        assert_eq!(text(|out| write_time_of_day(out, 36_000_000_001, TimeUnit::Microsecond)), "10:00:00.000001");
        assert_eq!(text(|out| write_date(out, -1)), "1969-12-31");
        assert_eq!(text(|out| write_date(out, 2_932_897)), "+10000-01-01");
    }

    proptest! {
        #![proptest_config(crate::test_cases::cases(300))]

        #[test]
        fn a_kept_text_equals_one_written_from_nothing(
            instants in proptest::collection::vec(prop_oneof![0i64..200_000_000_000, any::<i64>()], 1..50),
        ) {
            let mut stamp = Stamp::default();
            for micros in instants {
                prop_assert_eq!(text(|out| stamp.write(out, micros)), crate::time::format_instant(micros));
            }
        }
    }
}
