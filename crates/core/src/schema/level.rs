//! Whether a schema may follow the earlier versions of its subject.

use super::language::{Incompatibility, Schema};
use std::sync::Arc;

/// The compatibility that a new schema must have with the earlier versions of its subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Every schema is allowed.
    None,
    /// The new schema reads data of the latest one.
    #[default]
    Backward,
    /// The latest schema reads data of the new one.
    Forward,
    /// Both.
    Full,
    /// As `Backward`, against every version.
    BackwardTransitive,
    /// As `Forward`, against every version.
    ForwardTransitive,
    /// As `Full`, against every version.
    FullTransitive,
}

impl Level {
    /// Every level, weakest first.
    pub const ALL: [Level; 7] = [
        Level::None,
        Level::Backward,
        Level::Forward,
        Level::Full,
        Level::BackwardTransitive,
        Level::ForwardTransitive,
        Level::FullTransitive,
    ];

    /// Returns the word of registries: `BACKWARD_TRANSITIVE`.
    pub fn name(self) -> &'static str {
        match self {
            Level::None => "NONE",
            Level::Backward => "BACKWARD",
            Level::Forward => "FORWARD",
            Level::Full => "FULL",
            Level::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Level::ForwardTransitive => "FORWARD_TRANSITIVE",
            Level::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    /// Returns the level of a word.
    pub fn from_name(name: &str) -> Option<Level> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }

    /// Whether every version counts, not only the latest.
    pub fn is_transitive(self) -> bool {
        matches!(self, Level::BackwardTransitive | Level::ForwardTransitive | Level::FullTransitive)
    }
}

/// One reason why a new schema may not follow an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The path in the schema that cannot read the other's data.
    pub path: String,
    /// The line that states it.
    pub message: String,
}

/// Returns every reason why `new` may not follow `history` at `level`; an empty history allows every schema. The
/// history is schemas with their names (`version 3`, a file's name), oldest first.
pub fn check_level(new: &dyn Schema, history: &[(String, Arc<dyn Schema>)], level: Level) -> Vec<Conflict> {
    use Level::{Backward, BackwardTransitive, Forward, ForwardTransitive, Full, FullTransitive};
    let first = if level.is_transitive() { 0 } else { history.len().saturating_sub(1) };
    let mut conflicts = vec![];
    let mut compare = |reader: &dyn Schema, writer: &dyn Schema, what: String| {
        let conflict = |Incompatibility { path, why }| Conflict { message: format!("{what}: {path}: {why}"), path };
        conflicts.extend(reader.incompatibilities(writer).into_iter().map(conflict));
    };
    for (name, old) in &history[first..] {
        if matches!(level, Backward | BackwardTransitive | Full | FullTransitive) {
            compare(new, old.as_ref(), format!("cannot read data of {name}"));
        }
        if matches!(level, Forward | ForwardTransitive | Full | FullTransitive) {
            compare(old.as_ref(), new, format!("{name} cannot read its data"));
        }
    }
    conflicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::test_data::expected;
    use crate::schema::AVRO;

    fn parsed(text: &str) -> Arc<dyn Schema> {
        (AVRO.parse)(text).unwrap()
    }

    #[test]
    fn all_histories_of_the_collection_get_their_verdict() {
        let histories = expected("compat/levels.jsonl");
        for case in &histories {
            let schema = |value: &serde_json::Value| parsed(&value.to_string());
            let history = case["history"].as_array().unwrap().iter().map(|old| (String::new(), schema(old)));
            let level = Level::from_name(case["level"].as_str().unwrap()).unwrap();
            let found = check_level(schema(&case["new"]).as_ref(), &history.collect::<Vec<_>>(), level);
            assert_eq!(found.is_empty(), case["expected"].as_bool().unwrap(), "{case} {found:?}");
        }
        assert!(histories.is_empty() || histories.len() == 75);
    }

    #[test]
    fn a_conflict_says_who_cannot_read_whose_data() {
        let old = parsed(r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#);
        let new = parsed(r#"{"type":"record","name":"R","fields":[{"name":"b","type":"int"}]}"#);
        let history = [("version 1".to_owned(), new.clone()), ("version 2".to_owned(), old)];
        let conflicts = check_level(new.as_ref(), &history, Level::FullTransitive);
        let lines: Vec<_> = conflicts.into_iter().map(|conflict| conflict.message).collect();
        assert_eq!(
            lines,
            [
                "cannot read data of version 2: R.b: the writer has no such field, and the field has no default",
                "version 2 cannot read its data: R.a: the writer has no such field, and the field has no default",
            ]
        );
    }

    #[test]
    fn every_level_is_found_by_its_name() {
        for level in Level::ALL {
            assert_eq!(Level::from_name(level.name()), Some(level));
        }
        assert_eq!(Level::from_name("backward"), None);
    }
}
