//! Values of Parquet that no type of Arrow holds whole. They are read as their bytes, and a mark in the metadata of the
//! field says what the bytes are.
//!
//! | Parquet  | as a type of Arrow                               |
//! |----------|--------------------------------------------------|
//! | INT96    | nanoseconds, which end in the years 1677 and 2262 |
//! | INTERVAL | days and milliseconds, without the months        |
//! | ENUM     | bytes, although it is text                       |

use crate::time::calendar::DAY;
use crate::time::instant::write_date;
use crate::time::stamp::{Stamp, write_seconds, write_time_of_day};
use arrow::datatypes::{DataType, Field, TimeUnit};
use std::fmt::Write;

/// Key in the metadata of a field whose values are bytes of Parquet.
const KEY: &str = "evt.physical";

/// The day of 1970-01-01 in INT96, which counts the days of the Julian period.
const EPOCH: i64 = 2_440_588;
const DAY_NANOS: i64 = DAY * 1_000;

/// What the bytes of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Physical {
    /// INT96: a local time.
    LocalTime,
    /// INT96: an instant.
    Instant,
    /// INTERVAL.
    Interval,
    /// ENUM: text, unless the bytes are not UTF-8.
    Text,
}

impl Physical {
    const ALL: [(Self, &'static str); 4] = [
        (Self::LocalTime, "local time"),
        (Self::Instant, "instant"),
        (Self::Interval, "interval"),
        (Self::Text, "text"),
    ];

    /// Returns the type of the bytes.
    fn data_type(self) -> DataType {
        match self {
            Self::LocalTime | Self::Instant | Self::Interval => DataType::FixedSizeBinary(12),
            Self::Text => DataType::BinaryView,
        }
    }

    /// Returns the field that is read in place of `field`.
    pub fn mark(self, field: &Field) -> Field {
        let mut metadata = field.metadata().clone();
        if let Some((_, name)) = Self::ALL.into_iter().find(|(physical, _)| *physical == self) {
            metadata.insert(KEY.to_owned(), name.to_owned());
        }
        field.clone().with_data_type(self.data_type()).with_metadata(metadata)
    }

    /// Returns the mark of a field.
    pub fn of(field: &Field) -> Option<Self> {
        let name = field.metadata().get(KEY)?;
        let (physical, _) = Self::ALL.into_iter().find(|(_, each)| each == name)?;
        (physical.data_type() == *field.data_type()).then_some(physical)
    }
}

/// A timestamp of INT96.
#[derive(Clone, Copy)]
pub struct Int96 {
    /// Days from 1970-01-01.
    days: i64,
    /// Nanoseconds within the day.
    nanos: i64,
}

impl Int96 {
    /// Reads nanoseconds within a day, and the day.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let (nanos, day) = (bytes.first_chunk()?, bytes.last_chunk()?);
        let nanos = i64::from_le_bytes(*nanos);
        // The nanoseconds may be more than a day.
        let days = i64::from(i32::from_le_bytes(*day)) - EPOCH + nanos.div_euclid(DAY_NANOS);
        Some(Self { days, nanos: nanos.rem_euclid(DAY_NANOS) })
    }

    /// Returns the instant (µs), rounded down; `None` beyond the range of microseconds.
    pub fn micros(self) -> Option<i64> {
        self.days.checked_mul(DAY)?.checked_add(self.nanos / 1_000)
    }

    /// Appends the instant, RFC 3339 with `Z`.
    pub fn write(self, stamp: &mut Stamp, out: &mut String) {
        let Some(micros) = self.micros() else {
            write_date(out, self.days);
            out.push('T');
            write_time_of_day(out, self.nanos, TimeUnit::Nanosecond);
            return out.push('Z');
        };
        stamp.write(out, micros);
        if self.nanos % 1_000 != 0 {
            out.pop();
            let _ = write!(out, "{:03}Z", self.nanos % 1_000);
        }
    }
}

/// Appends an interval of Parquet: months, days and milliseconds.
pub fn write_parts(out: &mut String, bytes: &[u8]) {
    let mut parts = bytes.as_chunks().0.iter().map(|part| i64::from(u32::from_le_bytes(*part)));
    let [months, days, millis] = [(); 3].map(|()| parts.next().unwrap_or_default());
    write_interval(out, [months, days], millis, TimeUnit::Millisecond);
}

/// Appends an interval of months and days, and ticks of a unit: `P1M2DT3.004S`.
pub fn write_interval(out: &mut String, [months, days]: [i64; 2], ticks: i64, unit: TimeUnit) {
    let _ = write!(out, "P{months}M{days}DT");
    write_seconds(out, ticks, unit);
    out.push('S');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int96(nanos: i64, day: i32) -> String {
        let bytes = [&nanos.to_le_bytes()[..], &day.to_le_bytes()].concat();
        let mut out = String::new();
        Int96::new(&bytes).unwrap().write(&mut Stamp::default(), &mut out);
        out
    }

    #[test]
    fn a_timestamp_of_96_bits_is_its_own_date_in_every_year() {
        assert_eq!(int96(0, 2_440_588), "1970-01-01T00:00:00.000000Z");
        assert_eq!(int96(1, 2_440_587), "1969-12-31T00:00:00.000000001Z");
        assert_eq!(int96(0, 1_721_426), "0001-01-01T00:00:00.000000Z");
        assert_eq!(int96(86_399_999_999_999, 5_373_484), "9999-12-31T23:59:59.999999999Z");
        assert_eq!(int96(0, i32::MAX), "+5874898-06-03T00:00:00Z", "beyond the range of microseconds");
        assert_eq!(int96(-1, 2_440_588), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(int96(2 * 86_400_000_000_000, 2_440_588), "1970-01-03T00:00:00.000000Z");
    }

    #[test]
    fn a_field_that_is_marked_and_has_another_type_is_not_read_as_bytes() {
        let field = Field::new("x", DataType::Utf8, true);
        let marked = Physical::Interval.mark(&field);
        assert_eq!(Physical::of(&marked), Some(Physical::Interval));
        assert_eq!(Physical::of(&marked.with_data_type(DataType::Utf8)), None);
        assert_eq!(Physical::of(&field), None);
    }
}
