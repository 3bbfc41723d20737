//! The rules of a run: where they are read from, and what has changed since they were read last. A thread of its own
//! reads them again: a database that does not answer stops no evaluation.

use super::state::RuleEdit;
use crate::uri::Uri;
use evt_core::alert::rule::{NamedMetric, RuleDefinition};
use evt_core::alert::rules::{self, BadRule, RuleSet, RuleText};
use evt_core::error::{Error, Result};
use evt_core::op::window::spec;
use evt_core::time::whole_seconds;
use evt_run::client::Caller;
use evt_run::client::Location;
use evt_run::console::Console;
use evt_run::metrics::ServerStatus;
use evt_run::thread;
use evt_store::Store;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;
use uuid::Uuid;

/// The file or table with the rules (`--rules`).
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
    std::fs::read_to_string(path).map_err(|error| Error::config_file(path.display().to_string(), &error))
}

impl RuleLoader {
    /// Makes a loader for `--rules` and `-m`.
    ///
    /// Errors: exit status 2 if `--rules` names neither a file nor a table.
    pub fn new(rules: &OsStr, metrics: Option<&str>, caller: &Caller) -> Result<Self> {
        let source = match Uri::of_input(rules, false, caller)? {
            Uri::File(path) => RuleSource::File(path.path),
            Uri::Store(store, location) => RuleSource::Table(store, location),
            other => return Err(Error::usage(format!("--rules {other}: expected a file, sqlite: or postgres:"))),
        };
        Ok(Self { source, metrics: metrics.map(PathBuf::from) })
    }

    /// Makes the error of a run that has no rule: exit status 78.
    pub fn no_rule(&self) -> Error {
        let name = match &self.source {
            RuleSource::File(path) => path.display().to_string(),
            RuleSource::Table(_, location) => location.to_string(),
        };
        Error::config(format!("{name}: expected at least one rule that can be used"))
    }

    fn metrics(&self) -> Result<Option<Vec<NamedMetric>>> {
        let Some(path) = &self.metrics else { return Ok(None) };
        let spec = spec::file(&read(path)?).map_err(|error| error.at(path.display().to_string()))?;
        Ok(Some(rules::named(&spec)))
    }

    /// Whether another reading finds what this one has found: a pipe is read once.
    fn is_read_again(&self) -> bool {
        let is_file = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|found| found.is_file());
        let is_table = matches!(&self.source, RuleSource::Table(..));
        let files = match &self.source {
            RuleSource::File(path) => Some(path),
            RuleSource::Table(..) => None,
        };
        (is_table || files.is_some_and(is_file)) && self.metrics.iter().all(is_file)
    }

    /// Reads the rules as [`RuleLoader::load`] does, at the start of a run: waits for the server of a table that is
    /// away.
    pub fn load_at_start(&self) -> Result<RuleSet> {
        match &self.source {
            RuleSource::File(_) => self.load(),
            RuleSource::Table(store, location) => store.at_start(location, ServerStatus::default(), || self.load()),
        }
    }

    /// Reads the rules as they are now.
    ///
    /// Errors: exit status 78 if the file or the table is missing or wrong as a whole, 69, 74 or 75 if the table cannot
    /// be read.
    pub fn load(&self) -> Result<RuleSet> {
        let metrics = self.metrics()?;
        let path = match &self.source {
            RuleSource::File(path) => path,
            RuleSource::Table(store, location) => {
                let texts = evt_store::rules(store, location)?.into_iter().map(of_row).collect();
                return Ok(rules::resolve(texts, metrics.as_deref()));
            }
        };
        let (text, name) = (read(path)?, path.display().to_string());
        if text.trim().is_empty() {
            // An editor may write it at this moment.
            return Err(Error::config(format!(
                "{name}: expected at least one rule that can be used; the file is empty"
            )));
        }
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let texts = if is_json { json(&text) } else { rules::of_toml(&text) };
        let mut set = rules::resolve(texts.map_err(|error| error.at(&name))?, metrics.as_deref());
        let lines = if is_json || set.bad.is_empty() { vec![] } else { rules::lines_of_toml(&text) };
        for bad in &mut set.bad {
            let line = lines.get(bad.number - 1).map_or_else(String::new, |line| format!(": line {line}"));
            bad.place = Some(format!("{name}{line}"));
        }
        Ok(set)
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

/// A bad rule, and whether its former definition stays in use.
#[derive(Debug)]
pub struct ReplacedRule {
    /// The bad rule.
    pub bad: BadRule,
    /// Whether it had a definition that could be used.
    pub is_kept: bool,
}

/// Replaces rules that became bad by their former definitions, which have the same ids; returns those that are bad now.
pub fn keep_former<'a>(
    set: RuleSet,
    former: impl Iterator<Item = &'a RuleDefinition>,
) -> (Vec<RuleDefinition>, Vec<ReplacedRule>) {
    let RuleSet { mut rules, bad } = set;
    let former: HashMap<Uuid, &RuleDefinition> = former.map(|rule| (rule.rule.rule_id, rule)).collect();
    let mut replaced = vec![];
    for bad in bad {
        let known = bad.rule_id.and_then(|rule_id| former.get(&rule_id));
        // A second rule with an id that another one has replaces nothing.
        let kept = known.filter(|known| !rules.iter().any(|rule| rule.rule.rule_id == known.rule.rule_id));
        rules.extend(kept.map(|kept| (*kept).clone()));
        replaced.push(ReplacedRule { bad, is_kept: kept.is_some() });
    }
    (rules, replaced)
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

/// The rules of a run, which are read every `--refresh`. At most one reading is in progress.
pub struct RuleRefresh {
    /// Reads the rules.
    pub loader: Arc<RuleLoader>,
    /// `None` if the rules are read once.
    every: Option<Duration>,
    /// When the last reading began, on the monotonic clock.
    begun: Duration,
    pending: Option<Receiver<Result<RuleSet>>>,
    /// Why the rules cannot be read.
    failure: Option<ReadFailure>,
}

/// The failure of all readings since some time.
struct ReadFailure {
    /// On the monotonic clock.
    since: Duration,
    why: String,
}

impl RuleRefresh {
    /// Begins with rules that are read at monotonic time `now`.
    pub fn new(loader: RuleLoader, every: Duration, now: Duration) -> Self {
        let every = loader.is_read_again().then_some(every);
        Self { loader: Arc::new(loader), every, begun: now, pending: None, failure: None }
    }

    /// Begins a reading if one is due; returns the rules of one that has ended. Reports once that the rules cannot be
    /// read, and once that they can be read again.
    pub fn poll(&mut self, now: Duration, console: &Console) -> Option<RuleSet> {
        let Some(pending) = &self.pending else {
            if self.every.is_some_and(|every| now.saturating_sub(self.begun) >= every) {
                self.begun = now;
                self.pending = Some(self.start());
            }
            return None;
        };
        let loaded = match pending.try_recv() {
            Ok(loaded) => loaded,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(Error::broken("the thread that reads the rules has ended")),
        };
        self.pending = None;
        match loaded {
            Ok(rules) => {
                if let Some(ReadFailure { since, .. }) = self.failure.take() {
                    let duration = whole_seconds(now.saturating_sub(since));
                    console.say(format!("the rules can be read again after {duration}"));
                }
                Some(rules)
            }
            Err(error) => {
                let why = error.to_string();
                if self.failure.as_ref().is_none_or(|known| known.why != why) {
                    console.warn(format!("the rules stay as they are: {why}"));
                }
                let since = self.failure.take().map_or(self.begun, |failure| failure.since);
                self.failure = Some(ReadFailure { since, why });
                None
            }
        }
    }

    fn start(&self) -> Receiver<Result<RuleSet>> {
        let (sender, receiver) = channel();
        let loader = self.loader.clone();
        // Without a thread the sender is dropped, which is an error of the reading.
        _ = thread::spawn("rules", move || {
            // The run may have ended.
            _ = sender.send(loader.load());
        });
        receiver
    }
}
