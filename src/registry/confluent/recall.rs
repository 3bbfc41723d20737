//! What is known of a registry without asking it, and the questions that are left.
//!
//! A caller that may not wait judges with a [`Recall`]. Where something is lacking its verdict does not count: it asks
//! the questions, adds the answers, and judges again.

use super::{Confluent, Found, Key, can_be_subject};
use crate::error::Result;
use crate::registry::{Lookup, Schemas};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Something that a registry can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Question {
    /// The subject of this very name.
    Subject(String),
    /// The schema with this key.
    Schema(Key),
    /// Whether it answers at all.
    Check,
}

/// What it answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// What is known of the subject.
    Subject(Lookup),
    /// What is known of the key.
    Schema(Found),
    /// It answers.
    Check,
}

impl Question {
    /// Asks the registry, unless it remembers the answer.
    pub fn ask(&self, registry: &Confluent) -> Result<Answer> {
        match self {
            Self::Subject(name) => registry.exactly(name).map(Answer::Subject),
            Self::Schema(key) => registry.schema(*key).map(Answer::Schema),
            Self::Check => registry.check().map(|()| Answer::Check),
        }
    }
}

/// What is remembered of a registry, and what was answered since. It never asks.
pub struct Recall {
    registry: Arc<Confluent>,
    subjects: HashMap<String, Lookup>,
    schemas: HashMap<Key, Found>,
    lacking: BTreeSet<Question>,
    /// Subjects that may have got another version since they were fetched: they prove events valid, not invalid.
    old: BTreeSet<String>,
    /// Whether a schema has refused an event.
    refused: bool,
}

impl Recall {
    /// What this registry has answered before.
    pub fn new(registry: Arc<Confluent>) -> Self {
        Self {
            registry,
            subjects: HashMap::new(),
            schemas: HashMap::new(),
            lacking: BTreeSet::new(),
            old: BTreeSet::new(),
            refused: false,
        }
    }

    /// Adds the answer to a question; it counts however soon it is out of date.
    pub fn learn(&mut self, question: Question, answer: Answer) {
        match (question, answer) {
            (Question::Subject(name), Answer::Subject(lookup)) => drop(self.subjects.insert(name, lookup)),
            (Question::Schema(key), Answer::Schema(found)) => drop(self.schemas.insert(key, found)),
            _ => {}
        }
    }

    /// A schema has refused an event: that counts only where it cannot have got another version.
    pub fn refused(&mut self) {
        self.refused = true;
    }

    /// The questions that verdicts since the last call depend on.
    pub fn lacking(&mut self) -> Vec<Question> {
        let old = std::mem::take(&mut self.old);
        if std::mem::take(&mut self.refused) {
            self.lacking.extend(old.into_iter().map(Question::Subject));
        }
        std::mem::take(&mut self.lacking).into_iter().collect()
    }

    /// What is known of a key; none where the registry has to be asked.
    pub fn schema(&mut self, key: Key) -> Option<Found> {
        let remembered = || {
            let (found, age) = self.registry.schemas.look(&key)?;
            (age < self.registry.schema_good_for(&found)).then_some(found)
        };
        let known = self.schemas.get(&key).cloned().or_else(remembered);
        if known.is_none() {
            self.lacking.insert(Question::Schema(key));
        }
        known
    }
}

impl Schemas for Recall {
    fn subject(&mut self, name: &str) -> Result<Lookup> {
        let name = self.registry.subject_of(name)?;
        if let Some(answered) = self.subjects.get(name.as_ref()) {
            return Ok(answered.clone());
        }
        if !can_be_subject(&name) {
            return Ok(Lookup::Unknown);
        }
        match self.registry.subjects.look(&name.clone().into_owned()) {
            Some((lookup, age)) if age < self.registry.subject_good_for(&lookup) => Ok(lookup),
            Some((Lookup::Found(subject), _)) => {
                self.old.insert(name.into_owned());
                Ok(Lookup::Found(subject))
            }
            _ => {
                self.lacking.insert(Question::Subject(name.into_owned()));
                Ok(Lookup::Away("it was not asked".into()))
            }
        }
    }
}
