//! Events whose key is stored already: the same once more, or other content under the same key, which is a conflict.

use super::Notice;
use crate::kind::Kind;
use serde_json::{Number, Value};

/// Columns that a repetition must not change. Those beside them are of the run that read the event, not of the event.
pub const CONTENT: [&str; 7] =
    ["source", "event_type", "user_id", "properties", "client_timestamp", "server_timestamp", "event_time"];

/// Whether rows of this kind have content beside their key. A letter's content is its payload, which is of its key.
pub fn has_content(kind: Kind) -> bool {
    matches!(kind, Kind::Event | Kind::Late)
}

/// Rows of a run that differ from the stored row of their key, which stays.
#[derive(Default)]
pub struct Conflicts {
    rows: u64,
    first: Option<String>,
}

impl Conflicts {
    /// Counts `rows`; `first` names one of them for a person.
    pub fn add(&mut self, rows: u64, first: impl FnOnce() -> String) {
        self.rows += rows;
        if rows > 0 && self.first.is_none() {
            self.first = Some(first());
        }
    }

    /// The line for the end of the run.
    pub fn notice(&self) -> Option<Notice> {
        let first = self.first.as_ref()?;
        let text = format!(
            "conflict: {} rows differ from the stored row of the same origin, partition, offset and event_id, which stays; \
             first {first}",
            self.rows
        );
        Some(Notice { text, fails: true })
    }
}

/// Whether two JSON texts hold the same value, in whatever order of members and spelling of numbers.
pub fn is_same_json(left: &str, right: &str) -> bool {
    let parse = |text| serde_json::from_str::<Value>(text).ok();
    left == right || parse(left).zip(parse(right)).is_some_and(|(left, right)| is_same(&left, &right))
}

fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => is_same_number(left, right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let has = |(name, left)| right.get(name).is_some_and(|right| is_same(left, right));
            left.len() == right.len() && left.iter().all(has)
        }
        _ => left == right,
    }
}

/// Whole numbers are compared in full: a double does not hold them all.
fn is_same_number(left: &Number, right: &Number) -> bool {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right || left.as_f64().zip(right.as_f64()).is_some_and(|(left, right)| left == right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_same_in_another_order_and_spelling() {
        for (left, right, same) in [
            (r#"{"a":1,"b":[1.50,"x"]}"#, r#"{ "b": [1.5, "\u0078"], "a": 1.0 }"#, true),
            (r#"{"a":1}"#, r#"{"a":2}"#, false),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#, false),
            (r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#, false),
            (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#, false),
            (r#"{"a":"1"}"#, r#"{"a":1}"#, false),
        ] {
            assert_eq!(is_same_json(left, right), same, "{left} {right}");
        }
    }

    #[test]
    fn the_first_conflict_is_named_and_the_line_changes_the_verdict() {
        let mut conflicts = Conflicts::default();
        conflicts.add(0, || "none".to_owned());
        assert_eq!(conflicts.notice(), None);
        conflicts.add(2, || "one".to_owned());
        conflicts.add(1, || "two".to_owned());
        let notice = conflicts.notice().unwrap();
        assert!(notice.fails && notice.text.starts_with("conflict: 3 rows") && notice.text.ends_with("first one"));
    }
}
