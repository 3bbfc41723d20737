//! Dates by a format and by ISO 8601, on every day of every zone from 1970 to 2099.

use super::When;
use crate::mapping::envelope::Value;
use crate::time::{DAY, Parser, SECOND, format_instant, in_zone};
use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};

/// Formats without a time of day.
const FORMATS: [&str; 6] = ["%d/%m/%Y", "%F", "%x", "%Y%j", "%G-W%V-%u", "%A, %e %B %Y"];

/// The local time (µs since 1970) that the clocks of a zone show at an instant.
fn shown(instant: i64, zone: Tz) -> i64 {
    let utc = DateTime::from_timestamp_micros(instant).expect("an instant").naive_utc();
    instant + i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()) * SECOND
}

/// Asserts that `start` is the first instant of the day that begins at the local time `midnight`, or that the zone has
/// no such day.
#[track_caller]
fn assert_first(start: Option<i64>, midnight: i64, zone: Tz) {
    let is_in_day = |instant: i64| shown(instant, zone).div_euclid(DAY) == midnight.div_euclid(DAY);
    let from = midnight - 26 * 3600 * SECOND;
    let until = start.unwrap_or(midnight + 26 * 3600 * SECOND);
    let mut quarters = (from..until).step_by((900 * SECOND) as usize);
    let text = start.map(format_instant);
    assert!(!quarters.any(is_in_day), "{zone} {}: {text:?} is not the first instant", format_instant(midnight));
    if let Some(start) = start {
        assert!(is_in_day(start) && !is_in_day(start - 1), "{zone} {}: {text:?}", format_instant(midnight));
    }
}

#[test]
fn a_date_of_any_format_is_the_first_instant_of_its_day_in_every_zone() {
    let (mut skipped, mut gone) = (0, 0);
    for zone in TZ_VARIANTS {
        let whens = FORMATS.map(|format| When { format: Some(format.into()), zone: Some(zone), unit: None });
        let iso = When { zone: Some(zone), ..When::default() };
        let mut offsets = [-1, 0, 1].map(|day| shown(day * DAY, zone) - day * DAY);
        for day in 0..47_482 {
            let midnight = day * DAY;
            let next = (day + 2) * DAY;
            let steady = offsets.iter().all(|offset| *offset == offsets[0]);
            // Where clocks do not change, a date is its midnight, as the time of day 00:00 is.
            if steady {
                assert_eq!(in_zone(midnight, zone), Ok(midnight - offsets[0]), "{zone} {}", format_instant(midnight));
            }
            if !steady || day % 4096 == 0 {
                let date = DateTime::from_timestamp_micros(midnight).expect("an instant").date_naive();
                let text = date.format("%F").to_string();
                let start = iso.read(Value::Plain(&text), &mut Parser::default());
                assert_first(start, midnight, zone);
                for (when, format) in whens.iter().zip(FORMATS) {
                    let text = date.format(format).to_string();
                    let read = when.read(Value::Plain(&text), &mut Parser::default());
                    assert_eq!(read, start, "{zone} {text} by {format}");
                }
                skipped += u32::from(in_zone(midnight, zone).is_err());
                gone += u32::from(start.is_none());
            }
            offsets = [offsets[1], offsets[2], shown(next, zone) - next];
        }
    }
    assert!(skipped > 1000 && gone > 2, "{skipped} days without a midnight, {gone} that zones skip");
}

#[test]
fn a_time_of_day_that_clocks_skip_does_not_exist() {
    let when = |format: &str| When { format: Some(format.into()), zone: Some(Tz::America__Sao_Paulo), unit: None };
    let read = |format, text| when(format).read(Value::Plain(text), &mut Parser::default());
    for (format, text) in
        [("%F %H", "2018-11-04 00"), ("%d/%m/%Y %R", "04/11/2018 00:30"), ("%c", "Sun Nov  4 00:00:00 2018")]
    {
        assert_eq!(read(format, text), None, "{text}");
    }
    assert_eq!(read("%s", "1541300400"), Some(1_541_300_400 * SECOND));
    assert_eq!(read("%Y-%m", "2018-11"), read("%F", "2018-11-01"));
    let apia = When { format: Some("%d.%m.%Y".into()), zone: Some(Tz::Pacific__Apia), unit: None };
    let message = super::unreadable(&apia, "t", Value::Plain("30.12.2011")).message;
    assert!(message.contains("this day does not exist"), "{message}");
}
