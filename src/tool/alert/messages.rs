//! What a run says about its rules: each message once, until it changes.

use super::load::ReplacedRule;
use crate::alert::engine::AlertEngine;
use crate::alert::rule::RuleDefinition;
use crate::console::Console;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// The number of rows after which a rule whose name was NULL in all of them is reported by a run that goes on.
const NAMED_ROWS: u64 = 10_000;

/// The messages that were said.
pub struct RuleMessages {
    console: Console,
    /// New and changed rules whose names have not been looked for yet.
    unchecked: BTreeMap<Uuid, String>,
    /// Rules that cannot be used, by name, with the reason.
    bad: BTreeMap<String, String>,
    /// Messages about channels.
    channels: BTreeSet<String>,
}

impl RuleMessages {
    /// Begins with nothing said.
    pub fn new(console: Console) -> Self {
        Self { console, unchecked: BTreeMap::new(), bad: BTreeMap::new(), channels: BTreeSet::new() }
    }

    /// The rules were read; `bad` are those that cannot be used.
    pub fn read(&mut self, bad: &[ReplacedRule]) {
        let mut said = BTreeMap::new();
        for ReplacedRule { bad, is_kept } in bad {
            let why = bad.error.to_string();
            let end = if *is_kept { " (its former definition stays in use)" } else { "" };
            if self.bad.get(&bad.name) != Some(&why) {
                self.console.warn(format!("rule {}: {why}{end}", bad.name));
            }
            said.insert(bad.name.clone(), why);
        }
        self.bad = said;
    }

    /// Rules have changed.
    pub fn changed(&mut self, former: &[RuleDefinition], rules: &[RuleDefinition]) {
        for rule in rules.iter().filter(|rule| rule.is_enabled && !former.contains(rule)) {
            self.unchecked.insert(rule.rule.rule_id, rule.rule.name.clone());
        }
    }

    /// Reports the names of new and changed rules that were NULL in every row, each once: after [`NAMED_ROWS`] rows, or at the end of
    /// the run. A rule that an earlier run has evaluated is not reported again: the rows of one run of cron may lack a rare field.
    pub fn names(&mut self, engine: &AlertEngine, is_end: bool) {
        let least = if is_end { 1 } else { NAMED_ROWS };
        let console = &self.console;
        self.unchecked.retain(|id, rule| {
            let Some(names) = engine.always_null(*id, least) else { return true };
            for name in names {
                console.warn(format!("rule {rule}: {name} was NULL in every row; check the name"));
            }
            false
        });
    }

    /// Rules name channels; `defined` are those of `--notify`, none without it.
    pub fn channels(&mut self, rules: &[RuleDefinition], defined: &BTreeSet<String>) {
        if defined.is_empty() {
            let mut named = rules.iter().filter(|rule| rule.is_enabled && !rule.channels.is_empty());
            if let Some(first) = named.next() {
                let (name, channels) = (&first.rule.name, first.channels.join(", "));
                let others = match named.count() {
                    0 => String::new(),
                    1 => " (and another rule)".to_owned(),
                    more => format!(" (and {more} other rules)"),
                };
                let line = format!("rule {name} has notification_channel {channels}{others}, but there is no --notify");
                // The first rule and their number change with every edit: this is said once.
                if self.channels.is_empty() {
                    self.console.warn(&line);
                }
                self.channels.insert(line);
            }
            return;
        }
        for line in undefined_channels(rules, defined) {
            if self.channels.insert(line.clone()) {
                self.console.warn(line);
            }
        }
    }

    /// No rule is left.
    pub fn emptied(&self) {
        self.console
            .warn("no rule is left: what fires is resolved, and nothing is evaluated until there are rules again");
    }
}

/// Returns a line for each channel that a rule names and that is not among those of `--notify`.
pub fn undefined_channels(rules: &[RuleDefinition], defined: &BTreeSet<String>) -> Vec<String> {
    let undefined = |rule: &RuleDefinition| {
        let name = rule.rule.name.clone();
        let channels = rule.channels.iter().filter(|channel| !defined.contains(*channel)).cloned();
        channels
            .map(move |channel| format!("rule {name}: channel '{channel}' is not defined (--notify)"))
            .collect::<Vec<_>>()
    };
    rules.iter().flat_map(undefined).collect()
}
