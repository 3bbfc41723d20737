//! Summary of dead letters by error type, origin and stage: their number, their times, and one sample.

use crate::error::{Error, Result};
use crate::format::table::{aligned, clean};
use crate::time::format_instant;
use ahash::AHashMap;
use arrow::array::{ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampMicrosecondType};
use std::collections::HashMap;
use std::sync::Arc;

/// Maximum number of groups; later dead letters are summed up together.
const GROUPS_MAX: usize = 10_000;
/// The origin and stage of dead letters beyond [`GROUPS_MAX`].
const OTHERS: &str = "(others)";
/// Bytes of a payload or message that a group keeps.
const EXCERPT_BYTES: usize = 400;

/// The key of a group: error type, origin, stage.
type Key = [String; 3];

struct Group {
    key: Key,
    letters: i64,
    first: i64,
    last: i64,
    message: String,
    payload: String,
}

/// Sums up dead letters, batch by batch.
#[derive(Default)]
pub struct DeadSummary {
    groups: Vec<Group>,
    index: AHashMap<Key, usize>,
}

impl DeadSummary {
    /// Adds the dead letters of a batch.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let broken = |name: &str| Error::broken(format!("dead letters without {name}"));
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| broken(name));
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut words = vec![];
        for name in ["error_type", "source_topic", "stage"] {
            let dictionary = column(name)?.as_any_dictionary_opt().ok_or_else(|| broken(name))?;
            words.push((dictionary.normalized_keys(), dictionary.values().as_string::<i32>()));
        }
        let times = column("failed_at")?.as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| broken("failed_at"))?.values();
        let messages: &StringArray = column("error_message")?.as_string_opt().ok_or_else(|| broken("error_message"))?;
        let payloads = column("original_payload")?.as_binary_opt().ok_or_else(|| broken("original_payload"))?;
        let mut known: AHashMap<Vec<usize>, usize> = AHashMap::new();
        for (row, time) in times.iter().enumerate() {
            let keys: Vec<usize> = words.iter().map(|(keys, _)| keys[row]).collect();
            let at = match known.get(&keys) {
                Some(at) => *at,
                None => {
                    let mut texts = words.iter().zip(&keys).map(|((_, values), key)| values.value(*key).to_owned());
                    let key = [(); 3].map(|()| texts.next().unwrap_or_default());
                    let at = self.group(key, *time, messages.value(row), payload_of(payloads, row));
                    known.insert(keys, at);
                    at
                }
            };
            let group = &mut self.groups[at];
            group.letters += 1;
            (group.first, group.last) = (group.first.min(*time), group.last.max(*time));
        }
        Ok(())
    }

    /// Returns the index of a key's group; a new group keeps this dead letter as its sample.
    fn group(&mut self, key: Key, time: i64, message: &str, payload: String) -> usize {
        if let Some(at) = self.index.get(&key) {
            return *at;
        }
        if self.groups.len() >= GROUPS_MAX && key[1] != OTHERS {
            let [error_type, ..] = key;
            return self.group([error_type, OTHERS.to_owned(), OTHERS.to_owned()], time, message, payload);
        }
        let at = self.groups.len();
        self.index.insert(key.clone(), at);
        let message = cut(message).to_owned();
        self.groups.push(Group { key, letters: 0, first: time, last: time, message, payload });
        at
    }

    fn sorted(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.groups.iter().collect();
        groups.sort_by(|a, b| b.letters.cmp(&a.letters).then_with(|| a.key.cmp(&b.key)));
        groups
    }

    /// Returns the schema of [`DeadSummary::rows`].
    pub fn schema() -> SchemaRef {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let instant = |name: &str| Field::new(name, crate::kind::instant_type(), false);
        let fields = vec![
            text("error_type"),
            text("source_topic"),
            text("stage"),
            Field::new("letters", DataType::Int64, false),
            instant("first_failed_at"),
            instant("last_failed_at"),
            text("sample_message"),
            text("sample_payload"),
        ];
        Arc::new(Schema::new_with_metadata(fields, HashMap::new()))
    }

    /// Returns one row per group, those with most dead letters first.
    pub fn rows(&self) -> Result<RecordBatch> {
        let groups = self.sorted();
        let text = |of: fn(&Group) -> &str| -> ArrayRef {
            Arc::new(groups.iter().map(|group| Some(of(group))).collect::<StringArray>())
        };
        let instant = |of: fn(&Group) -> i64| -> ArrayRef {
            let values = groups.iter().map(|group| of(group)).collect::<Vec<_>>();
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
        };
        let columns = vec![
            text(|group| &group.key[0]),
            text(|group| &group.key[1]),
            text(|group| &group.key[2]),
            Arc::new(groups.iter().map(|group| Some(group.letters)).collect::<Int64Array>()),
            instant(|group| group.first),
            instant(|group| group.last),
            text(|group| &group.message),
            text(|group| &group.payload),
        ];
        Ok(RecordBatch::try_new(Self::schema(), columns)?)
    }

    /// Returns the summary as text for a terminal `width` cells wide: a line per group, then one sample of each.
    pub fn report(&self, width: Option<usize>) -> String {
        let groups = self.sorted();
        let total: i64 = groups.iter().map(|group| group.letters).sum();
        if groups.is_empty() {
            return "no dead letters\n".to_owned();
        }
        let mut lines = vec![["letters", "error_type", "source_topic", "stage", "first", "last"].map(str::to_owned)];
        lines.extend(groups.iter().map(|group| {
            let [error_type, origin, stage] = &group.key;
            let (first, last) = (seconds(group.first), seconds(group.last));
            [group.letters.to_string(), error_type.clone(), origin.clone(), stage.clone(), first, last]
        }));
        let mut out = aligned(&lines, &[0], width);
        let many = if total == 1 { "" } else { "s" };
        out.push_str(&format!("\n{total} dead letter{many}; one of each kind:\n"));
        for group in groups {
            let [error_type, origin, _] = &group.key;
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

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(EXCERPT_BYTES)]
}

#[cfg(test)]
#[path = "dead_summary_tests.rs"]
mod tests;
