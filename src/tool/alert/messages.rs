//! The messages of a run about its rules, each one once until it changes, and about rows that it leaves out.

use super::feed::{Feed, RepeatedRows};
use super::load::ReplacedRule;
use crate::source;
use evt_core::alert::engine::AlertEngine;
use evt_core::alert::rule::RuleDefinition;
use evt_core::alert::running::Interruptions;
use evt_core::counts::{Counts, counted};
use evt_core::time::{SECOND, format_duration, format_instant};
use evt_run::console::Console;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

/// The number of rows after which a rule whose name was NULL in all of them is reported by a run without an end.
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
                self.console.warn(format!("{}{end}", bad.message()));
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

    /// Reports the names of new and changed rules that were NULL in every row, each once: after [`NAMED_ROWS`] rows, or
    /// at the end of the run. A rule that an earlier run has evaluated is not reported again: the rows of one run of
    /// cron may lack a rare field.
    pub fn names(&mut self, engine: &AlertEngine, is_end: bool) {
        let least = if is_end { 1 } else { NAMED_ROWS };
        let console = &self.console;
        self.unchecked.retain(|id, rule| {
            let Some(lines) = engine.null_lines(*id, least) else { return true };
            lines.iter().for_each(|line| console.warn(format!("rule {rule}: {line}")));
            false
        });
    }

    /// Warns, once each, of channels that rules name and `--notify` does not define; `defined` is empty without it.
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
        self.console.warn(
            "no rules are left; evt-alert resolves the firing alerts and evaluates nothing until rules are added",
        );
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

/// Interval of the reports of rows left out.
const LOSS_INTERVAL: Duration = Duration::from_secs(60);

/// The losses that were reported, so that only new ones are, at most once a minute.
#[derive(Debug, Default)]
pub struct LossReport {
    said: Option<Duration>,
    /// The rows behind the alert clock in the last line.
    late: u64,
    /// The rows of groups beyond the limit in the last line.
    rejected: u64,
}

impl LossReport {
    /// Returns a line if the numbers have grown: rows behind the alert clock, and rows of groups beyond the limit.
    /// `now` is monotonic.
    pub fn line(&mut self, late: u64, rejected: u64, now: Duration) -> Option<String> {
        let is_due = self.said.is_none_or(|said| now.saturating_sub(said) >= LOSS_INTERVAL);
        if (late, rejected) == (self.late, self.rejected) || !is_due {
            return None;
        }
        *self = Self { said: Some(now), late, rejected };
        let late = (late > 0).then(|| late_rows(late));
        let rejected = (rejected > 0).then(|| rejected_rows(None, rejected));
        let parts: Vec<String> = late.into_iter().chain(rejected).collect();
        Some(format!("so far {}", parts.join(", ")))
    }

    /// Whether the last line had this number of rows behind the alert clock.
    pub fn has_told(&self, late: u64) -> bool {
        self.late == late
    }
}

/// Returns the line about rows of groups beyond the limit: of a rule, or of all.
pub fn rejected_rows(rule: Option<&str>, rows: u64) -> String {
    let of = rule.map_or_else(String::new, |rule| format!("rule {rule}: "));
    let verbs = ["row of a group beyond --max-groups was", "rows of groups beyond --max-groups were"];
    format!("{of}{} left out", counted(rows, verbs))
}

/// The most groups that the line about a rule names.
const GROUPS_NAMED: usize = 3;

/// Returns the line about a rule whose `for` (`hold` seconds) NULL has interrupted.
pub fn interrupted(rule: &str, hold: i64, interruptions: &Interruptions) -> String {
    let Interruptions { groups, others } = interruptions;
    let mut often: Vec<(&str, u64)> = groups.iter().map(|(group, count)| (group.as_str(), *count)).collect();
    often.sort_by_key(|(group, count)| (Reverse(*count), *group));
    let named = often.iter().take(GROUPS_NAMED).filter(|(group, _)| *group != "{}");
    let mut named: Vec<String> = named.map(|(group, count)| format!("{group} {count}")).collect();
    match others + often.iter().skip(GROUPS_NAMED).map(|(_, count)| count).sum::<u64>() {
        0 => {}
        rest => named.push(format!("other groups {rest}")),
    }
    let of = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
    let hold = format_duration(hold * SECOND);
    let times = counted(interruptions.total(), ["time", "times"]);
    format!(
        "rule {rule}: windows without a value interrupted for ({hold}) {times}{of}, each time before the alert fired; \
         null_as says what such a window means (evt-rules(5))"
    )
}

/// Returns the line about groups that only their alerts keep, if rows of other groups were left out.
pub fn kept_groups(silent: usize) -> String {
    format!(
        "groups without rows that count for --max-groups because of their alerts: {silent}; forget_after of a rule ends \
         such alerts (evt-rules(5))"
    )
}

/// Returns the line about a rule that no instant was evaluated for; `window` is the length of its window (s).
pub fn not_evaluated(rule: &str, window: i64) -> String {
    let window = format_duration(window * SECOND);
    format!("rule {rule} was not evaluated: the rows read so far span less than its window of {window}")
}

/// Returns the line about rows behind the alert clock.
pub fn late_rows(late: u64) -> String {
    let rows = ["row behind the alert clock was", "rows behind the alert clock were"];
    format!("{} not evaluated", counted(late, rows))
}

/// Returns the lines about late rows at the end of a run: those behind the alert clock, and those of each input that an
/// earlier run may have read. All process substitutions are one input.
pub fn late_lines(late: u64, feeds: &[Feed]) -> Vec<String> {
    let (mut behind, mut lines, mut unnamed) = (late, vec![], RepeatedRows { count: 0, up_to: i64::MIN });
    for (feed, RepeatedRows { count, up_to }) in feeds.iter().filter_map(|feed| Some((feed, feed.repeats()?))) {
        behind -= count;
        if feed.known.is_substitution() {
            unnamed = RepeatedRows { count: unnamed.count + count, up_to: unnamed.up_to.max(up_to) };
            continue;
        }
        let (rows, to) = (counted(count, ["row was", "rows were"]), format_instant(up_to));
        let name = &feed.name;
        lines.push(format!("{name}: {rows} not evaluated: earlier runs have read rows up to {to}, maybe also these"));
    }
    if unnamed.count > 0 {
        let verbs = ["row of a process substitution was", "rows of process substitutions were"];
        let (rows, to) = (counted(unnamed.count, verbs), format_instant(unnamed.up_to));
        lines.push(format!(
            "{rows} not evaluated: earlier runs have read rows of process substitutions up to {to}, and their numbers \
             (/dev/fd/63) do not say which; give evt-alert files or FIFOs, which have names"
        ));
    }
    (behind > 0).then(|| late_rows(behind)).into_iter().chain(lines).collect()
}

/// Returns the line about notifications of a channel that no receiver got.
pub fn refused(channel: &str, refused: u64, expired: u64) -> String {
    format!("channel '{channel}': notifications refused: {refused}, given up: {expired}")
}

/// Returns a line for each pipe of which rows were read that no later run can read again; `why` says why the state does
/// not have them. `sources` are those of the feeds.
pub fn lost_rows<'a>(feeds: &[Feed], sources: impl Iterator<Item = &'a source::Source>, why: &str) -> Vec<String> {
    let line = |(feed, source): (&Feed, &source::Source)| {
        let read = source.counts();
        let lost = feed.known.lost(read.taken - read.dead);
        let (name, rows) = (&feed.name, counted(lost, ["row was", "rows were"]));
        (lost > 0).then(|| {
            format!(
                "{name}: {rows} read and not stored, because {why}; a pipe does not have them again: let its writer send \
                 them to the next run"
            )
        })
    };
    feeds.iter().zip(sources).filter_map(line).collect()
}

/// Returns the line about faulty records that were lost, for a run that prints no line of counts.
pub fn dropped_records(counts: &Counts) -> String {
    let faulty = counted(counts.dropped, ["faulty record was", "faulty records were"]);
    let remedy = match counts.dropped * 2 > counts.taken {
        true => "; if the newest records come first, evt-view FILE --sort event_time --columns '*' -o jsonl sorts them",
        false => "",
    };
    format!("{faulty} not evaluated{remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_with_the_most_interruptions_are_named() {
        let of = |groups: &[(&str, u64)], others| {
            let groups = groups.iter().map(|(group, count)| ((*group).to_owned(), *count)).collect();
            interrupted("hot", 300, &Interruptions { groups, others })
        };
        let end = ", each time before the alert fired; null_as says what such a window means (evt-rules(5))";
        let begin = "rule hot: windows without a value interrupted for (5m)";
        assert_eq!(of(&[("{}", 1)], 0), format!("{begin} 1 time{end}"));
        let few = of(&[(r#"{"k":"a"}"#, 2), (r#"{"k":"b"}"#, 9)], 0);
        assert_eq!(few, format!(r#"{begin} 11 times ({{"k":"b"}} 9, {{"k":"a"}} 2){end}"#));
        let many = of(&[("{a}", 5), ("{b}", 3), ("{c}", 5), ("{d}", 4)], 7);
        assert_eq!(many, format!("{begin} 24 times ({{a}} 5, {{c}} 5, {{d}} 4, other groups 10){end}"));
    }

    #[test]
    fn growing_losses_are_reported_once_a_minute() {
        let mut report = LossReport::default();
        let mut line = |late, rejected, second| report.line(late, rejected, Duration::from_secs(second));
        assert_eq!(line(0, 0, 0), None);
        assert_eq!(line(3, 0, 1).as_deref(), Some("so far 3 rows behind the alert clock were not evaluated"));
        assert_eq!(line(9, 1, 60), None);
        assert_eq!(
            line(9, 2, 61).as_deref(),
            Some(
                "so far 9 rows behind the alert clock were not evaluated, 2 rows of groups beyond --max-groups were left \
                 out"
            )
        );
        assert_eq!(line(9, 2, 500), None);
        assert_eq!(
            LossReport::default().line(1, 1, Duration::ZERO).as_deref(),
            Some(
                "so far 1 row behind the alert clock was not evaluated, 1 row of a group beyond --max-groups was left out"
            )
        );
    }
}
