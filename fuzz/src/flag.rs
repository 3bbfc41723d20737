//! What stands on a command line: URIs with options, durations, instants, sizes, shares, names.

use chrono::{DateTime, Datelike, NaiveDate};
use evt::cli::values;
use evt::uri::Uri;
use evt_core::time::calendar::{CivilDate, civil_from_days, days_from_civil};
use evt_core::time::{Parser, format_duration, format_instant, parse_duration, parse_instant};
use evt_core::view::selection::parse_names;

/// One text, read as everything a flag may hold.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(uri) = Uri::parse(text, &Default::default()) {
        assert!(!uri.origin().is_empty());
    }
    let _ = (
        values::parse_share(text),
        evt_core::parse::size::parse_buffer(text),
        values::parse_count::<u64>(text),
        parse_names(text),
    );
    let _ = evt_core::time::parse_flag_instant(text, 1_700_000_000_000_000, None);
    let _ = evt_core::time::parse_flag_instant(
        text,
        1_700_000_000_000_000,
        evt_core::mapping::When::zone("Europe/Zurich").ok(),
    );
    if let Ok(micros) = parse_duration(text) {
        assert_eq!(parse_duration(&format_duration(micros)).expect("what is printed is read"), micros, "{text}");
    }
    for line in text.lines() {
        instant(line);
    }
}

/// An instant is chrono's, but that ours lies in the years 1 to 9999, UTC, takes no blank for the `T`, and ends a leap
/// second within its minute.
fn instant(text: &str) {
    let ours = parse_instant(text);
    // A parser that has just read the same date says the same.
    let mut parser = Parser::default();
    parser.parse(&format!("{}T00:00:00Z", text.get(..10).unwrap_or_default()));
    assert_eq!(parser.parse(text), ours, "{text}");
    let strict = text.is_ascii() && matches!(text.as_bytes().get(10), Some(b'T' | b't'));
    let oracle = DateTime::parse_from_rfc3339(text).ok().filter(|_| strict);
    let oracle = oracle.filter(|instant| (1..=9999).contains(&instant.to_utc().year()));
    assert_eq!(ours.is_some(), oracle.is_some(), "{text}");
    let (Some(ours), Some(oracle)) = (ours, oracle) else { return };
    if oracle.timestamp_subsec_nanos() < 1_000_000_000 {
        assert_eq!(ours, oracle.timestamp_micros(), "{text}");
    }
    assert_eq!(parse_instant(&format_instant(ours)), Some(ours), "{text}");
    let date = oracle.date_naive();
    let (year, month, day) = (i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
    let days = days_from_civil(year, month, day);
    let epoch = NaiveDate::default();
    assert_eq!(days, (date - epoch).num_days());
    assert_eq!(civil_from_days(days), CivilDate { year, month, day });
}
