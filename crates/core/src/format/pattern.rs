//! Lines of any text, read by a regular expression (`-f regex:PATTERN`): its named groups are the fields.
//!
//! The pattern may match anywhere in a line. A group that takes no part in the match is absent. A line that does not
//! match is a fault.

use super::definition::{Format, InputForm};
use super::lines::ReadLines;
use super::record::RecordReader;
use crate::error::{Error, Result};
use crate::json::text::{key, write_string};
use crate::kind::dead::{ErrorType, Fault};
use regex::Regex;

/// Lines that match a pattern.
pub const FORMAT: Format = Format {
    name: "regex",
    input: InputForm::Text(|options| Box::new(ReadLines::new(Matches::new(options.pattern.as_ref())))),
    takes_pattern: true,
    ..Format::BASE
};

/// Parses a pattern.
///
/// Errors: exit status 2 if it is not a regular expression or has no named group.
pub fn parse(text: &str) -> Result<Regex> {
    let refused = |why: &str| Error::usage(format!("-f regex:{text}: {why}"));
    let pattern = Regex::new(text).map_err(|error| {
        let message = error.to_string();
        refused(message.lines().last().unwrap_or_default().trim_start_matches("error: "))
    })?;
    match pattern.capture_names().flatten().next() {
        Some(_) => Ok(pattern),
        None => Err(refused("expected a named group for each field, such as (?<name>\\w+)")),
    }
}

/// Reads the groups of lines.
struct Matches {
    pattern: Option<Regex>,
    /// The number of each named group, and its name as a JSON key.
    groups: Vec<(usize, String)>,
}

impl Matches {
    fn new(pattern: Option<&Regex>) -> Self {
        let names = pattern.into_iter().flat_map(|pattern| pattern.capture_names().enumerate());
        let groups = names.filter_map(|(at, name)| Some((at, key(name?)))).collect();
        Self { pattern: pattern.cloned(), groups }
    }
}

impl RecordReader for Matches {
    /// Writes the groups of a line.
    fn read(&self, line: &str, out: &mut String) -> Result<(), Fault> {
        let Some(found) = self.pattern.as_ref().and_then(|pattern| pattern.captures(line)) else {
            return Err(Fault::new(ErrorType::ParseError, "the line does not match the pattern of -f regex"));
        };
        out.push('{');
        for (group, key) in &self.groups {
            if let Some(found) = found.get(*group) {
                out.push_str(if out.ends_with('{') { &key[1..] } else { key });
                write_string(out, found.as_str());
            }
        }
        out.push('}');
        Ok(())
    }
}
