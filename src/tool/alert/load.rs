//! The rules of a run: where they are read from, and what has changed since they were read last.

use super::state::RuleEdit;
use crate::alert::rule::{NamedMetric, RuleDefinition};
use crate::alert::rules::{self, BadRule, RuleSet, RuleText};
use crate::error::{Error, Result};
use crate::op::window::spec;
use crate::store::{self, Location, Store};
use crate::uri::Uri;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Where rules are read from.
pub enum RuleSource {
    /// A TOML file, or a JSON file by its name.
    File(PathBuf),
    /// A table.
    Table(&'static Store, Location),
}

/// Reads rules, with the metrics that they name.
pub struct RuleLoader {
    source: RuleSource,
    metrics: Option<PathBuf>,
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::io(path.display().to_string(), &error))
}

impl RuleLoader {
    /// Makes a loader for `--rules` and `-m`.
    ///
    /// Errors: exit status 2 if `--rules` names neither a file nor a table.
    pub fn new(rules: &OsStr, metrics: Option<&str>) -> Result<Self> {
        let source = match Uri::parse(rules)? {
            Uri::File(path) => RuleSource::File(path),
            Uri::Store(store, location) => RuleSource::Table(store, location),
            other => return Err(Error::usage(format!("--rules {other}: expected a file, sqlite: or postgres:"))),
        };
        Ok(Self { source, metrics: metrics.map(PathBuf::from) })
    }

    fn metrics(&self) -> Result<Option<Vec<NamedMetric>>> {
        let Some(path) = &self.metrics else { return Ok(None) };
        let spec = spec::file(&read(path)?).map_err(|error| error.at(path.display().to_string()))?;
        Ok(Some(rules::named(&spec)))
    }

    /// Reads the rules as they are now.
    ///
    /// Errors: exit status 78 if the file is wrong as a whole, 69, 74 or 75 if it or the table cannot be read.
    pub fn load(&self) -> Result<RuleSet> {
        let metrics = self.metrics()?;
        let texts = match &self.source {
            RuleSource::File(path) => {
                let text = read(path)?;
                let is_json = path.extension().is_some_and(|extension| extension == "json");
                let texts = if is_json { json(&text) } else { rules::of_toml(&text) };
                texts.map_err(|error| error.at(path.display().to_string()))?
            }
            RuleSource::Table(store, location) => store::rules(store, location)?.into_iter().map(of_row).collect(),
        };
        Ok(rules::resolve(texts, metrics.as_deref()))
    }
}

fn json(text: &str) -> Result<Vec<RuleText>> {
    let value = serde_json::from_str(text).map_err(|error| Error::config("expected JSON").because(error))?;
    rules::of_json(value)
}

/// Returns the fields of a row. The members of a column `definition` are fields too, and the column `rule` is the name.
fn of_row(mut row: Map<String, Value>) -> RuleText {
    let definition = match row.remove("definition") {
        Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other.unwrap_or(Value::Null),
    };
    if let Some(name) = row.remove("rule").filter(|_| !row.contains_key("name")) {
        row.insert("name".to_owned(), name);
    }
    row.retain(|_, value| !value.is_null());
    match definition {
        Value::Object(fields) => {
            for (name, value) in fields {
                row.entry(name).or_insert(value);
            }
        }
        Value::Null => {}
        // RuleDefinition::parse names the column.
        other => _ = row.insert("definition".to_owned(), other),
    }
    row
}

/// Replaces rules that became bad by their former definitions; returns those that are bad now.
pub fn keep_former<'a>(
    set: RuleSet,
    former: impl Iterator<Item = &'a RuleDefinition>,
) -> (Vec<RuleDefinition>, Vec<BadRule>) {
    let RuleSet { mut rules, bad } = set;
    for rule in former {
        let is_bad = bad.iter().any(|bad| bad.name == rule.rule.name || bad.name == rule.rule.rule_id.to_string());
        if is_bad && !rules.iter().any(|known| known.rule.rule_id == rule.rule.rule_id) {
            rules.push(rule.clone());
        }
    }
    (rules, bad)
}

/// Returns the differences between the rules that are evaluated and those that were read.
pub fn edits(old: &[RuleDefinition], new: &[RuleDefinition]) -> Vec<RuleEdit> {
    let edit = |rule: &RuleDefinition, change, with: bool| RuleEdit {
        rule_id: rule.rule.rule_id.to_string(),
        rule: rule.rule.name.clone(),
        change,
        definition: with.then(|| rule.to_fields().to_string()),
    };
    let by_id = |rules: &[RuleDefinition]| -> HashMap<Uuid, usize> {
        rules.iter().enumerate().map(|(at, rule)| (rule.rule.rule_id, at)).collect()
    };
    let (old_ids, new_ids) = (by_id(old), by_id(new));
    let mut edits: Vec<RuleEdit> = old
        .iter()
        .filter(|rule| !new_ids.contains_key(&rule.rule.rule_id))
        .map(|rule| edit(rule, "removed", false))
        .collect();
    for rule in new.iter().filter(|rule| rule.is_enabled || old_ids.contains_key(&rule.rule.rule_id)) {
        match old_ids.get(&rule.rule.rule_id) {
            None => edits.push(edit(rule, "added", true)),
            Some(at) if old[*at] != *rule => edits.push(edit(rule, "changed", true)),
            Some(_) => {}
        }
    }
    edits
}
