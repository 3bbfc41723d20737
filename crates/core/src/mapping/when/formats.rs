//! The formats and units of times that evt proposes, and the flags that read a value. Each has been tried by the reader
//! of times itself.

use super::reader::{TimeUnit, When, is_number};
use crate::mapping::envelope::Value;
use crate::time::{SECOND, TimeFault, read_iso};

/// Formats of programs and spreadsheets, in the order in which they are tried.
const FORMATS: [&str; 43] = [
    "%d/%b/%Y:%H:%M:%S %z",
    "%d/%b/%Y:%H:%M:%S%.f %z",
    "%d/%b/%Y:%H:%M:%S%.f",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S GMT",
    "%a %b %e %H:%M:%S %Y",
    "%a %b %e %H:%M:%S UTC %Y",
    "%a, %d %b %Y %H:%M:%S %Z",
    "%a %b %e %H:%M:%S %Z %Y",
    "%Y-%m-%d %H:%M:%S%.f %z %Z",
    "%Y-%m-%d %H:%M:%S%.f %Z",
    "%b %e, %Y, %I:%M:%S %p",
    "%b %e, %Y, %I:%M %p",
    "%b %e, %Y %H:%M:%S",
    "%b %e, %Y %H:%M",
    "%b %e, %Y",
    "%e %b %Y %H:%M:%S",
    "%e %b %Y %H:%M",
    "%e %b %Y",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%Y.%m.%d %H:%M:%S%.f",
    "%Y.%m.%d %H:%M",
    "%Y.%m.%d",
    "%Y-%m-%d %I:%M:%S %p",
    "%Y%m%dT%H%M%S%z",
    "%Y%m%dT%H%M%SZ",
    "%Y%m%dT%H%M%S",
    "%Y-%m-%dT%H-%M-%S",
    "%Y-%m-%d-%H-%M-%S",
    "%Y-%m-%d_%H:%M:%S",
    "%d.%m.%Y %H:%M:%S%.f",
    "%d.%m.%Y %H:%M:%S,%3f",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y, %H:%M:%S",
    "%d.%m.%Y",
    "%d-%m-%Y %H:%M:%S%.f",
    "%d-%m-%Y %H:%M",
    "%d-%m-%Y",
    "%d-%b-%Y %H:%M:%S%.f",
    "%d-%b-%Y %H:%M",
    "%d-%b-%Y",
];
/// Formats of texts that are only digits.
const DIGITS: [&str; 3] = ["%Y%m%d", "%Y%m%d%H%M", "%Y%m%d%H%M%S"];
/// Times of day after a date whose parts may be in several orders, or whose year has two digits.
const TIMES_OF_DAY: [&str; 7] =
    ["", " %H:%M", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p", ", %I:%M:%S %p", ", %H:%M:%S"];
/// Dates whose order of day and month only some texts reveal. The formats of the first group that reads a text are
/// proposed.
const DATES: [&[&str]; 5] =
    [&["%m/%d/%Y", "%d/%m/%Y"], &["%m/%d/%y", "%d/%m/%y"], &["%d.%m.%y"], &["%d-%m-%y", "%y-%m-%d"], &["%d-%b-%y"]];
/// A proposal must make the time an instant between 1990 and 2100 (µs).
const PLAUSIBLE: std::ops::Range<i64> = 631_152_000 * SECOND..4_102_444_800 * SECOND;

/// Returns the flags, beside `--time`, with which a value reads as a time; several if a date may be read in several
/// ways. A number and a text in a format must be an instant between 1990 and 2100.
pub(super) fn flags(value: Value<'_>) -> Vec<String> {
    let of_format = |format: &String| format!(" --time-format '{format}'");
    match value {
        Value::Plain(text) if read_iso(text, None).is_ok() => vec![String::new()],
        Value::Plain(text) | Value::Other(text) if is_number(text) => match unit_of(text) {
            // It is read without a flag.
            Some(_) => vec![String::new()],
            None => first_of(&DIGITS, text).iter().map(of_format).collect(),
        },
        Value::Plain(text) => {
            let mut found: Vec<String> = formats_of(text).iter().map(of_format).collect();
            if let Some(format) = FORMATS.iter().find(|format| found.is_empty() && needs_zone(format, text)) {
                found.push(format!(" --time-format '{format}' --time-zone NAME"));
            }
            found
        }
        _ => vec![],
    }
}

/// Returns the first unit in which a number is an instant between 1990 and 2100.
fn unit_of(number: &str) -> Option<&'static str> {
    let is_plausible = |unit: &TimeUnit| unit.micros(number).is_some_and(|micros| PLAUSIBLE.contains(&micros));
    TimeUnit::FINE.into_iter().find(is_plausible).map(TimeUnit::name)
}

/// Returns the unit in which a time (µs) that was read in `unit` is between 1990 and 2100.
pub(super) fn other_unit(unit: TimeUnit, time: i64) -> Option<TimeUnit> {
    let given = TimeUnit::FINE.into_iter().position(|one| one == unit)?;
    let fits = |coarser: &usize| {
        let factor = 1000i64.pow((given - coarser) as u32);
        time.checked_mul(factor).is_some_and(|time| PLAUSIBLE.contains(&time))
    };
    (0..given).find(fits).map(|coarser| TimeUnit::FINE[coarser])
}

fn reads(format: &str, text: &str) -> bool {
    let when = When { format: Some(format.to_owned()), ..When::default() };
    when.text(text).is_ok_and(|instant| PLAUSIBLE.contains(&instant))
}

/// Whether a text has the format, and an abbreviation that only a zone explains.
fn needs_zone(format: &str, text: &str) -> bool {
    let when = When { format: Some(format.to_owned()), ..When::default() };
    let is_abbreviation = |word: &str| (3..6).contains(&word.len()) && word.bytes().all(|c| c.is_ascii_uppercase());
    text.len() <= 64
        && text.split_ascii_whitespace().any(is_abbreviation)
        && when.text(text) == Err(TimeFault::Abbreviation(None))
}

fn first_of(formats: &[&str], text: &str) -> Option<String> {
    formats.iter().find(|format| reads(format, text)).map(|format| (*format).to_owned())
}

/// Returns the formats that read a text: one, or two if a date has its parts in either order.
fn formats_of(text: &str) -> Vec<String> {
    if !text.bytes().any(|byte| byte.is_ascii_digit()) || text.len() > 64 {
        return vec![];
    }
    if let Some(format) = first_of(&FORMATS, text) {
        return vec![format];
    }
    let of_date =
        |date: &&str| TIMES_OF_DAY.iter().map(|time| format!("{date}{time}")).find(|format| reads(format, text));
    let of_group = |dates: &&[&str]| dates.iter().filter_map(of_date).collect::<Vec<_>>();
    DATES.iter().map(of_group).find(|formats| !formats.is_empty()).unwrap_or_default()
}

/// Whether a text that no format reads may be a date: it has a year, and other digits.
pub(super) fn may_be_date(text: &str) -> bool {
    let mut runs = text.split(|char: char| !char.is_ascii_digit()).filter(|run| !run.is_empty());
    let is_year = |run: &str| run.len() == 4 && (run.starts_with("19") || run.starts_with("20"));
    text.len() <= 64
        && !text.contains('/') | !text.starts_with('/')
        && !text.contains("://")
        && runs.clone().any(is_year)
        && runs.nth(1).is_some()
}

/// Whether a text is a time of syslog or the like, whose date has no year.
pub(super) fn names_no_year(text: &str) -> bool {
    let with_year = format!("2000 {text}");
    [
        "%Y %b %e %H:%M:%S%.f",
        "%Y %a %b %e %H:%M:%S%.f",
        "%Y %m-%d %H:%M:%S%.f",
        "%Y %m/%d %H:%M:%S%.f",
        "%Y %e %b %H:%M:%S%.f",
    ]
    .iter()
    .any(|format| chrono::NaiveDateTime::parse_from_str(&with_year, format).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_that_makes_an_early_time_one_of_our_years_is_found() {
        let other = |number: &str, unit: TimeUnit| other_unit(unit, unit.micros(number).unwrap()).map(TimeUnit::name);
        assert_eq!(other("1795305601", TimeUnit::Milliseconds), Some("s"));
        assert_eq!(other("1795305601.5", TimeUnit::Microseconds), Some("s"));
        assert_eq!(other("1795305601000", TimeUnit::Microseconds), Some("ms"));
        assert_eq!(other("1795305601", TimeUnit::Seconds), None);
        assert_eq!(other("5", TimeUnit::Milliseconds), None);
    }

    #[test]
    fn every_suggested_format_is_one_that_reads_and_names_a_whole_date() {
        let dates = DATES.iter().flat_map(|dates| dates.iter());
        let all = dates.flat_map(|date| TIMES_OF_DAY.iter().map(move |time| format!("{date}{time}")));
        for format in FORMATS.iter().chain(&DIGITS).map(|format| (*format).to_owned()).chain(all) {
            assert!(When { format: Some(format.clone()), ..When::default() }.check().is_ok(), "{format}");
        }
    }

    #[test]
    fn an_order_that_a_text_does_not_tell_gives_two_formats() {
        assert_eq!(formats_of("31/12/2014 10:00"), ["%d/%m/%Y %H:%M"]);
        assert_eq!(formats_of("12/31/14 10:00 PM"), ["%m/%d/%y %I:%M %p"]);
        assert_eq!(formats_of("01/02/2014"), ["%m/%d/%Y", "%d/%m/%Y"]);
        assert_eq!(formats_of("17/May/2015:10:05:03 +0000"), ["%d/%b/%Y:%H:%M:%S %z"]);
        assert_eq!(formats_of("Thu, 01 Jan 2015 00:00:00 GMT"), ["%a, %d %b %Y %H:%M:%S GMT"]);
        assert_eq!(formats_of("22/Nov/2026:00:00:01.015"), ["%d/%b/%Y:%H:%M:%S%.f"]);
        for (text, formats) in [
            ("13.01.26", &["%d.%m.%y"][..]),
            ("25/12/26", &["%d/%m/%y"]),
            ("1/2/26", &["%m/%d/%y", "%d/%m/%y"]),
            ("26-01-02", &["%d-%m-%y", "%y-%m-%d"]),
            ("02-Jan-26 10:00", &["%d-%b-%y %H:%M"]),
            ("02.01.2026 15:04:05,123", &["%d.%m.%Y %H:%M:%S,%3f"]),
            ("Jan 2, 2026, 3:04 PM", &["%b %e, %Y, %I:%M %p"]),
            ("01/02/1026", &[]),
            ("v1.2", &[]),
        ] {
            assert_eq!(formats_of(text), formats, "{text}");
        }
        let digits = |value| flags(value).join("");
        assert_eq!(digits(Value::Plain("20260102")), " --time-format '%Y%m%d'");
        assert_eq!(digits(Value::Other("20260102150405")), " --time-format '%Y%m%d%H%M%S'");
        assert_eq!(digits(Value::Other("20261302")), "");
        assert!(names_no_year("Nov  1 09:42:05") && !names_no_year("2026-11-01 09:42:05"));
    }
}
