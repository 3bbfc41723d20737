//! Values of flags: counts, shares, instants, paths.

use crate::uri::check_path;
use clap::builder::{PathBufValueParser, TypedValueParser};
use evt_core::error::{Error, Result};
use evt_core::time::{EARLIEST, Zone, read_iso};
use std::path::PathBuf;

/// Parses a count that fits the type of a flag: `10`, `5k`, `1M`.
pub fn parse_count<T: TryFrom<u64>>(text: &str) -> std::result::Result<T, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let scale = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return Err("expected a count like 500, 10k, 5M or 1G".to_owned()),
    };
    let count = number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale));
    let count = count.ok_or_else(|| "expected a count like 10k".to_owned())?;
    T::try_from(count).map_err(|_| "expected a smaller count".to_owned())
}

/// Parses a count of at least 1.
pub fn parse_positive<T: TryFrom<u64>>(text: &str) -> std::result::Result<T, String> {
    match parse_count::<u64>(text)? {
        0 => Err("expected a count of at least 1".to_owned()),
        _ => parse_count(text),
    }
}

/// Parses a share: `0.01` or `1%`, between 0 and 1.
pub fn parse_share(text: &str) -> std::result::Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = number.parse::<f64>().map_err(|_| "expected a share like 0.01 or 1%".to_owned())? / scale;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("expected a share between 0 and 1".to_owned()) }
}

/// Parses the path of a file or a directory. A URI is a mistake: a directory would have its name.
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    path_or(&[])
}

/// Parses a path or the URI of one of these schemes.
pub fn path_or(schemes: &'static [&'static str]) -> impl TypedValueParser<Value = PathBuf> {
    // A path that is not UTF-8 is no URI.
    PathBufValueParser::new().try_map(|path| match path.to_str().map(|text| check_path(text, schemes)) {
        Some(Err(why)) => Err(why),
        _ => Ok(path),
    })
}

/// Parses the path of a file that is written, as text.
pub fn parse_path(text: &str) -> std::result::Result<String, String> {
    check_path(text, &[]).map(|()| text.to_owned())
}

/// Parses the place of schemas: a directory, or the URL of a registry.
pub fn parse_registry(text: &str) -> std::result::Result<String, String> {
    check_path(text, &["http", "https"]).map(|()| text.to_owned())
}

/// Parses `--min-time`. Results do not depend on the clock, so the instant is absolute. The first date accepts every
/// time in any zone, also where it begins before the calendar or after its first instant.
pub fn parse_min_time(text: &str, zone: Option<Zone>) -> Result<i64> {
    if text == "0001-01-01" {
        return Ok(EARLIEST);
    }
    read_iso(text, zone).map_err(|fault| {
        let cause = fault.cause().map_or_else(String::new, |cause| format!("; {cause}"));
        Error::usage(format!("--min-time: expected an instant like 2024-01-15T10:00:00Z, found '{text}'{cause}"))
    })
}
