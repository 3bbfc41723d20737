//! The names of the columns of CSV, by its header.

use crate::error::{Error, Result};
use crate::json::scan::number_end;
use crate::time::read_iso;
use std::borrow::Cow;
use std::collections::HashSet;

/// Returns the names of columns by the fields of a header. A column without a name is named by its number: `c8`.
///
/// Errors: exit status 65 if two columns have one name, 2 if the line looks like a record and a flag is missing.
pub fn column_names<'a>(fields: &[&'a str]) -> Result<Vec<Cow<'a, str>>> {
    if let Some(line) = delimiter_of_excel(fields) {
        let remedy = "remove the line, as tail -n +2 does";
        return Err(Error::usage(format!(
            "the first line, {line}, tells Excel the delimiter and is no header; {remedy}"
        )));
    }
    let mut known: HashSet<&str> = HashSet::new();
    let twice = fields.iter().find(|name| !is_empty(name) && !known.insert(**name));
    if (twice.is_some() || fields.iter().any(|name| is_empty(name))) && is_record(fields) {
        let remedy = "--header NAMES or --no-header reads a file without a header";
        return Err(Error::usage(format!("the first line looks like a record, not like a header; {remedy}")));
    }
    if let Some(name) = twice {
        return Err(Error::corrupt(format!(
            "the header has two columns '{name}'; rename one, or name all with --header NAMES if this line is a record"
        )));
    }
    let name = |(number, field): (usize, &&'a str)| match is_empty(field) {
        true => {
            let mut name = format!("c{number}");
            while known.contains(name.as_str()) {
                name.push('_');
            }
            Cow::Owned(name)
        }
        false => Cow::Borrowed(*field),
    };
    Ok((1..).zip(fields).map(name).collect())
}

/// Returns a line `sep=;`, whatever delimiter it was split by.
fn delimiter_of_excel(fields: &[&str]) -> Option<String> {
    match fields {
        [one] if one.len() == 5 && one.starts_with("sep=") => Some((*one).to_owned()),
        ["sep=", ""] => Some("sep=…".to_owned()),
        _ => None,
    }
}

fn is_empty(field: &str) -> bool {
    field.trim_ascii().is_empty()
}

/// Whether a line without some names is a record: it has a time of day, or half of its texts are numbers. A table whose
/// first column has no name may have years or dates as the names of the others.
fn is_record(fields: &[&str]) -> bool {
    let texts = || fields.iter().map(|field| field.trim_ascii()).filter(|text| !text.is_empty());
    let is_number = |text: &&str| number_end(text.as_bytes(), 0) == Some(text.len());
    let is_table = fields.iter().skip(1).all(|name| !is_empty(name));
    texts().any(|text| text.len() > "2026-01-01".len() && read_iso(text, None).is_ok())
        || !is_table && texts().filter(is_number).count() * 2 >= texts().count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_without_names_are_numbered_unless_the_line_is_a_record() {
        let names = |line: &'static str| {
            column_names(&line.split(',').collect::<Vec<_>>()).map(|names| names.join(",")).map_err(|e| e.to_string())
        };
        assert_eq!(names("a,,b,,"), Ok("a,c2,b,c4,c5".into()));
        assert_eq!(names("a,c4,, "), Ok("a,c4,c3,c4_".into()));
        assert_eq!(names(",2024,2025"), Ok("c1,2024,2025".into()));
        assert_eq!(names(",2026-01-01,2026-01-02"), Ok("c1,2026-01-01,2026-01-02".into()));
        assert_eq!(
            names("a,b,a"),
            Err("the header has two columns 'a'; rename one, or name all with --header NAMES if this line is a record"
                .into())
        );
        for line in ["sep=,", "sep=;", "sep=|"] {
            assert!(names(line).is_err_and(|error| error.contains("is no header; remove the line")), "{line}");
        }
        assert_eq!(names("sep=,n"), Ok("sep=,n".into()));
        for record in ["2026-11-22 00:00:00.123 UTC,app,,", "1,,2.5,x", "2026-11-22T00:00:00Z,1,1"] {
            assert!(names(record).is_err_and(|error| error.contains("--no-header")), "{record}");
        }
    }
}
