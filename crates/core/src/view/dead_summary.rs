//! Summary of dead letters by error type, origin, stage and message: their number, their times, the first position, and
//! one sample.
//!
//! Numbers, instants, UUIDs and quoted text of a message are masked, so that a kind of fault is one group whatever
//! values it met.

use crate::error::{Error, Result};
use crate::format::table::aligned;
use crate::parse::printable::clean;
use crate::time::format_instant;
use ahash::AHashMap;
use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use regex::Regex;
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

/// Maximum number of groups; later dead letters are summed up together.
const GROUPS_MAX: usize = 10_000;
/// The origin and stage of dead letters beyond [`GROUPS_MAX`].
const OTHERS: &str = "(others)";
/// Bytes of a payload or message that a group keeps.
const EXCERPT_BYTES: usize = 400;

/// The parts in which messages of one kind of fault differ: quoted text, UUIDs, instants, numbers, `true` and `false`.
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
    let quoted = r#""(?:[^"\\]|\\.)*"|`[^`]*`|\B'[^']*'\B"#;
    let uuid = r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b";
    let instant = r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d\b)?";
    let number = r"\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b";
    Regex::new(&format!(r"{quoted}|{uuid}|{instant}|{number}|\b(?:true|false)\b")).expect("the pattern is constant")
});

/// The key of a group.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct GroupKey {
    error_type: String,
    origin: String,
    stage: String,
    /// The masked message.
    message: String,
}

struct LetterGroup {
    key: GroupKey,
    letters: i64,
    /// The position of the first letter that was read.
    partition: String,
    offset: i64,
    first: i64,
    last: i64,
    message: String,
    payload: String,
}

/// Sums up dead letters, batch by batch.
#[derive(Default)]
pub struct DeadSummary {
    groups: Vec<LetterGroup>,
    index: AHashMap<GroupKey, usize>,
}

impl DeadSummary {
    /// Adds the dead letters of a batch.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let broken = |name: &str| Error::broken(format!("dead letters without {name}"));
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| broken(name));
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let words = |name: &str| {
            let dictionary = column(name)?.as_any_dictionary_opt().ok_or_else(|| broken(name))?;
            Ok::<_, Error>((dictionary.normalized_keys(), dictionary.values().as_string::<i32>()))
        };
        let [types, origins, stages, partitions] =
            [words("error_type")?, words("source_topic")?, words("stage")?, words("partition")?];
        let times = column("failed_at")?.as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| broken("failed_at"))?.values();
        let offsets = column("offset")?.as_primitive_opt::<Int64Type>().ok_or_else(|| broken("offset"))?.values();
        let messages: &StringArray = column("error_message")?.as_string_opt().ok_or_else(|| broken("error_message"))?;
        let payloads = column("original_payload")?.as_binary_opt().ok_or_else(|| broken("original_payload"))?;
        let word = |words: &(Vec<usize>, &StringArray), row: usize| words.1.value(words.0[row]).to_owned();
        // A message is masked once per batch: masking costs a regular expression and four texts.
        let mut known = AHashMap::new();
        for (row, time) in times.iter().enumerate() {
            let message = messages.value(row);
            let keys = (types.0[row], origins.0[row], stages.0[row], message);
            let at = *known.entry(keys).or_insert_with(|| {
                let key = GroupKey {
                    error_type: word(&types, row),
                    origin: word(&origins, row),
                    stage: word(&stages, row),
                    message: masked(message).into_owned(),
                };
                self.group(key, || LetterGroup {
                    key: GroupKey::default(),
                    letters: 0,
                    partition: word(&partitions, row),
                    offset: offsets[row],
                    first: *time,
                    last: *time,
                    message: cut(message).to_owned(),
                    payload: payload_of(payloads, row),
                })
            });
            let group = &mut self.groups[at];
            group.letters += 1;
            (group.first, group.last) = (group.first.min(*time), group.last.max(*time));
        }
        Ok(())
    }

    /// Returns the index of the group of a key; `new` makes it from its first dead letter.
    fn group(&mut self, key: GroupKey, new: impl FnOnce() -> LetterGroup) -> usize {
        let is_new = !self.index.contains_key(&key);
        let key = match is_new && self.groups.len() >= GROUPS_MAX {
            true => GroupKey { origin: OTHERS.to_owned(), stage: OTHERS.to_owned(), message: String::new(), ..key },
            false => key,
        };
        *self.index.entry(key.clone()).or_insert_with(|| {
            self.groups.push(LetterGroup { key, ..new() });
            self.groups.len() - 1
        })
    }

    fn sorted(&self) -> Vec<&LetterGroup> {
        let mut groups: Vec<&LetterGroup> = self.groups.iter().collect();
        groups.sort_by(|a, b| b.letters.cmp(&a.letters).then_with(|| a.key.cmp(&b.key)));
        groups
    }

    /// Returns one row per group, those with most dead letters first.
    pub fn rows(&self) -> Result<RecordBatch> {
        let groups = self.sorted();
        let text = |of: fn(&LetterGroup) -> &str| -> ArrayRef {
            Arc::new(groups.iter().map(|group| Some(of(group))).collect::<StringArray>())
        };
        let number = |of: fn(&LetterGroup) -> i64| -> ArrayRef {
            Arc::new(groups.iter().map(|group| Some(of(group))).collect::<Int64Array>())
        };
        let instant = |of: fn(&LetterGroup) -> i64| -> ArrayRef {
            let values = groups.iter().map(|group| of(group)).collect::<Vec<_>>();
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
        };
        Ok(RecordBatch::try_from_iter([
            ("error_type", text(|group| &group.key.error_type)),
            ("source_topic", text(|group| &group.key.origin)),
            ("stage", text(|group| &group.key.stage)),
            ("letters", number(|group| group.letters)),
            ("message", text(|group| &group.key.message)),
            ("first_partition", text(|group| &group.partition)),
            ("first_offset", number(|group| group.offset)),
            ("first_failed_at", instant(|group| group.first)),
            ("last_failed_at", instant(|group| group.last)),
            ("sample_message", text(|group| &group.message)),
            ("sample_payload", text(|group| &group.payload)),
        ])?)
    }

    /// Returns the summary as text for a terminal `width` cells wide: a line per group, then one sample of each.
    pub fn report(&self, width: Option<usize>) -> String {
        let groups = self.sorted();
        let total: i64 = groups.iter().map(|group| group.letters).sum();
        if groups.is_empty() {
            return "no dead letters\n".to_owned();
        }
        let head = ["letters", "error_type", "source_topic", "stage", "first", "last", "first at", "message"];
        let mut lines = vec![head.map(str::to_owned)];
        lines.extend(groups.iter().map(|group| {
            let GroupKey { error_type, origin, stage, message } = group.key.clone();
            let (first, last) = (seconds(group.first), seconds(group.last));
            let at = match group.partition.as_str() {
                "0" => group.offset.to_string(),
                partition => format!("{partition}@{}", group.offset),
            };
            [group.letters.to_string(), error_type, origin, stage, first, last, at, message]
        }));
        let mut out = aligned(&lines, &[0], width);
        let many = if total == 1 { "" } else { "s" };
        out.push_str(&format!("\n{total} dead letter{many}; one of each kind:\n"));
        for group in groups {
            let GroupKey { error_type, origin, .. } = &group.key;
            let sample = [[format!("{error_type} in {origin}: {}", group.message)], [format!("    {}", group.payload)]];
            out.push_str(&aligned(&sample, &[], width));
        }
        out
    }
}

/// Formats an instant to the second: `2024-01-15 10:00:00Z`.
fn seconds(micros: i64) -> String {
    let text = format_instant(micros);
    let text = text.split_once('.').map_or(text.as_str(), |(whole, _)| whole);
    format!("{}Z", text.replacen('T', " ", 1))
}

fn payload_of(payloads: &BinaryArray, row: usize) -> String {
    let payload = payloads.value(row);
    let text = String::from_utf8_lossy(&payload[..payload.len().min(EXCERPT_BYTES)]);
    let mark = if payload.len() > EXCERPT_BYTES { "…" } else { "" };
    clean(&format!("{text}{mark}"))
}

/// Masks the parts that differ between messages of one kind: quoted text, UUIDs, instants, numbers and truth values.
fn masked(message: &str) -> Cow<'_, str> {
    VARIABLE.replace_all(cut(message), |found: &regex::Captures<'_>| match found[0].chars().next() {
        Some(quote @ ('"' | '\'' | '`')) => format!("{quote}…{quote}"),
        _ => "N".to_owned(),
    })
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(EXCERPT_BYTES)]
}

#[cfg(test)]
#[path = "dead_summary_tests.rs"]
mod tests;
