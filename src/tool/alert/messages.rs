//! What a run says about its rules: each message once, until it changes.

use super::load::ReplacedRule;
use crate::alert::rule::RuleDefinition;
use crate::console::Console;
use std::collections::{BTreeMap, BTreeSet};

/// The messages that were said.
pub struct RuleMessages {
    console: Console,
    /// Rules that cannot be used, by name, with the reason.
    bad: BTreeMap<String, String>,
    /// Messages about channels.
    channels: BTreeSet<String>,
}

impl RuleMessages {
    /// Begins with nothing said.
    pub fn new(console: Console) -> Self {
        Self { console, bad: BTreeMap::new(), channels: BTreeSet::new() }
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
