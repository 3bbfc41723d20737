//! Suggests the `--time` flags for records without a readable time: lists the fields that read as times, and the
//! flags that read most records (`formats.rs`).

use super::formats::{flags, may_be_date};
use super::names::split_time;
use super::reader::is_number;
use crate::json::text::unescape;
use crate::json::walk::members;
use crate::mapping::envelope::Value;
use crate::parse::shell;

/// The number of fields that a message about a record names, and the characters of their names.
const NAMES_SHOWN: usize = 8;
const NAMES_LENGTH: usize = 60;
/// The bytes up to which the first record is kept.
const FIRST_LENGTH: usize = 64 << 10;
/// The number of ways to take the time that a message names.
const WAYS: usize = 5;
/// The number of ways that are counted of one record.
const WAYS_OF_RECORD: usize = 32;
/// Returns the ways to take the time of the record `text` (a JSON object). [`TimeSamples::remedy`] names up to five of
/// them.
pub fn time_fields(text: &str) -> TimeSamples {
    let mut samples = TimeSamples::default();
    samples.add(text);
    samples
}

/// One way to take the time of records.
struct Way {
    /// The field.
    path: String,
    /// The flags beside `--time`.
    flags: String,
    /// The number of records that it reads.
    records: u64,
}

/// A field whose text has a date.
struct DatedField {
    path: String,
    text: String,
}

/// The fields of records that may be their times, with the flags that read them.
#[derive(Default)]
pub struct TimeSamples {
    /// The number of records.
    records: u64,
    /// The names of the fields of the first record, for a message.
    names: String,
    ways: Vec<Way>,
    /// Numbers in quotes: each is taken for a time only if nothing else is one, because it may be an id.
    quoted: Vec<Way>,
    /// The first field whose text has a date in a form that no format reads.
    dated: Option<DatedField>,
    /// The first field that is an array of objects.
    list: Option<String>,
    /// The first record, unless it is long.
    first: String,
}

impl TimeSamples {
    /// Adds a record, a JSON object.
    pub fn add(&mut self, text: &str) {
        if self.records == 0 {
            self.names = shown_names(text);
            self.first = if text.len() <= FIRST_LENGTH { text.to_owned() } else { String::new() };
        }
        self.records += 1;
        self.visit(text, "", 0, &mut 0);
    }

    fn visit(&mut self, object: &str, prefix: &str, depth: u32, found: &mut usize) {
        members(object, |key, value| {
            let path = format!("{prefix}{}", unescape(key));
            match Value::of(value) {
                Value::Other(inner) if inner.starts_with('{') && depth < 3 => {
                    let inside = if depth == 0 && path == "properties" { String::new() } else { format!("{path}.") };
                    self.visit(inner, &inside, depth + 1, found);
                }
                Value::Other(list) if list.starts_with('[') && list[1..].trim_start().starts_with('{') => {
                    self.list.get_or_insert(path);
                }
                value => {
                    let all = flags(value);
                    if let (true, Value::Plain(text), None) = (all.is_empty(), value, &self.dated) {
                        self.dated =
                            may_be_date(text).then(|| DatedField { path: path.clone(), text: text.to_owned() });
                    }
                    *found += all.len();
                    let is_quoted = matches!(value, Value::Plain(text) if is_number(text));
                    let ways = if is_quoted { &mut self.quoted } else { &mut self.ways };
                    for flags in all {
                        match ways.iter_mut().find(|way| way.path == path && way.flags == flags) {
                            Some(way) => way.records += 1,
                            None => ways.push(Way { path: path.clone(), flags, records: 1 }),
                        }
                    }
                }
            }
            *found < WAYS_OF_RECORD
        });
    }

    /// Returns, for each field, the ways that read the most records; of all fields, those that read more records come
    /// first.
    fn best(&self) -> Vec<&Way> {
        let ways = if self.ways.is_empty() { &self.quoted } else { &self.ways };
        let most = |path: &str| ways.iter().filter(|way| way.path == path).map(|way| way.records).max();
        let mut best: Vec<&Way> = ways.iter().filter(|way| most(&way.path) == Some(way.records)).collect();
        best.sort_by_key(|way| std::cmp::Reverse(way.records));
        best
    }

    /// Returns the flags that read the time of a file's records, which may be the elements of an array, for a message.
    pub(super) fn way_out_of_file(&self) -> String {
        match self.explode() {
            None => self.remedy(),
            Some(explode) if self.best().is_empty() => explode,
            Some(explode) => format!("{}; {explode}", self.remedy()),
        }
    }

    /// Returns the flags that read the time, for a message.
    pub fn remedy(&self) -> String {
        let share = |way: &Way| match way.records == self.records {
            true => String::new(),
            false => format!(" (in {} of {} records)", way.records, self.records),
        };
        let ways = self.best().into_iter().take(WAYS);
        let ways: Vec<String> = ways
            .map(|way| match split_time(&self.first, &way.path) {
                Some(split) => format!("{}{}", split.joined, share(way)),
                None => format!("--time {}{}{}", shell::word(&way.path), way.flags, share(way)),
            })
            .collect();
        if !ways.is_empty() {
            return format!("use {}", ways.join("  or  "));
        }
        match &self.dated {
            Some(DatedField { path: name, text }) => {
                let time = shell::word(name);
                format!("no known format reads {name} ('{text}'); --time {time} --time-format FORMAT names its format")
            }
            None => {
                let cause = match self.names.starts_with('#') {
                    true => "; a comment before the header must be left out: tail -n +2",
                    false => "",
                };
                format!("no field is a time (found {}){cause}; --time arrival uses the clock of the run", self.names)
            }
        }
    }

    /// Returns the names of the fields that are times.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.best().into_iter().take(WAYS).map(|way| way.path.as_str()).collect();
        names.dedup();
        names
    }

    /// Returns the flag that reads the elements of an array, if the file is one record with such an array, for a
    /// message.
    pub fn explode(&self) -> Option<String> {
        let list = self.list.as_ref().filter(|_| self.records == 1)?;
        Some(format!("--explode {} reads the elements of that array as records", shell::word(list)))
    }

    /// Returns the flags that read most values of a field, and what they read, for a message; `None` if no known flags
    /// read any.
    pub fn reads(&self, field: &str) -> Option<String> {
        let field = field.strip_prefix("properties.").unwrap_or(field);
        let of_field = || self.ways.iter().chain(&self.quoted).filter(|way| way.path == field && !way.flags.is_empty());
        let most = of_field().map(|way| way.records).max()?;
        let flags: Vec<&str> = of_field().filter(|way| way.records == most).map(|way| way.flags.trim()).collect();
        let what = match most == self.records {
            true => "reads it".to_owned(),
            false => format!("reads {most} of the {} records", self.records),
        };
        Some(format!("{} {what}", flags.join(" or ")))
    }
}

/// Returns the names of the first fields of a record.
fn shown_names(record: &str) -> String {
    let mut names = vec![];
    members(record, |key, _| {
        names.push(unescape(key));
        names.len() <= NAMES_SHOWN
    });
    let mut shown = names[..names.len().min(NAMES_SHOWN)].join(", ");
    let mut is_cut = names.len() > NAMES_SHOWN;
    if let Some((end, _)) = shown.char_indices().nth(NAMES_LENGTH) {
        shown.truncate(end);
        is_cut = true;
    }
    if is_cut { format!("{shown} …") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_flags_to_type() {
        let record = r#"{"id":"2489368070","created_at":"2015-01-01 00:00","a":{"ts":1101258284},"day":"31.12.2014",
            "properties":{"my t":1442018818771},"n":5}"#;
        assert_eq!(
            time_fields(record).remedy(),
            "use --time created_at  or  --time a.ts  or  --time day --time-format '%d.%m.%Y'  or  --time 'my t'"
        );
    }

    #[test]
    fn proposals_read_most_records_and_come_in_this_order() {
        let mut samples = TimeSamples::default();
        for record in [
            r#"{"last":null,"d":"01/02/2026","made":"2026-01-02T00:00:00Z"}"#,
            r#"{"last":"2026-01-02T00:00:00Z","d":"13/02/2026","made":"2026-01-02T00:00:00Z"}"#,
        ] {
            samples.add(record);
        }
        let wanted = "use --time d --time-format '%d/%m/%Y'  or  --time made  or  --time last (in 1 of 2 records)";
        assert_eq!(samples.remedy(), wanted);
        assert_eq!(samples.reads("d").as_deref(), Some("--time-format '%d/%m/%Y' reads it"));
        samples.add(r#"{"d":"2026"}"#);
        assert_eq!(samples.reads("d").as_deref(), Some("--time-format '%d/%m/%Y' reads 2 of the 3 records"));
    }

    #[test]
    fn a_field_with_a_date_is_named_before_the_clock_is() {
        let remedy = |record: &str| time_fields(record).remedy();
        assert!(remedy(r#"{"w":"22. November 2026"}"#).starts_with("no known format reads w ('22. November 2026')"));
        assert!(
            remedy(r#"{"w":"v1.2","u":"/2014/01/x"}"#).starts_with("no field is a time (found w, u); --time arrival")
        );
    }
}
