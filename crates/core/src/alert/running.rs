//! A rule with the states of its groups, and the transitions that it makes.

use super::rule::{Derived, Lags, Measure, RuleDefinition};
use super::state::{ActiveAlert, AlertChange, Observed, step};
use super::summary::{SummaryValues, render};
use super::view::{GroupValue, WindowView};
use crate::kind::Kind;
use crate::kind::alert::{Alert, AlertReason, AlertState};
use crate::time::{MINUTE, SECOND};
use std::collections::{BTreeMap, BTreeSet};

/// A firing that is further behind the wall time than this (µs) is not paged.
pub const PAGE_MAX: i64 = 5 * MINUTE;

/// The use of a transition: a row with its pages, or pages alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransitionUse {
    /// A row, and a page of each channel unless the alert is `caught_up`.
    Row,
    /// A page of an alert that already fires, because its row was `caught_up` and not paged, or because its rule has a
    /// new channel.
    Page,
    /// A repeated page of an alert that still fires.
    Repeat,
}

/// A change of an alert, or a page that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The alert.
    pub alert: Alert,
    /// The channels of its rule, for a firing. A resolve is for those that have the firing.
    pub channels: Vec<String>,
    /// Its use: a row with its pages, or pages alone.
    pub purpose: TransitionUse,
}

/// Returns the first instant of the grid (s) at or after `micros`.
pub fn grid_end(micros: i64) -> i64 {
    micros.div_euclid(SECOND) + i64::from(micros.rem_euclid(SECOND) > 0)
}

/// An instant of the grid (s), and the wall time (µs) at which it is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Instant {
    /// The instant.
    pub g: i64,
    /// The wall time.
    pub now: i64,
}

impl Instant {
    /// Returns the first instant whose firings are paged.
    fn paged_from(self) -> i64 {
        grid_end(self.now.saturating_sub(PAGE_MAX))
    }

    /// Whether the alert clock is so far behind the wall time that a firing is not paged.
    fn is_catching_up(self) -> bool {
        self.g < self.paged_from()
    }
}

/// Returns the measure that counts all rows of a kind.
pub fn all_rows(kind: Kind, window: i64) -> Measure {
    let aggregate = "count(*)".to_owned();
    Measure { input: kind, aggregate, filter: None, by: vec![], window, derived: Derived::Plain }
}

/// The most groups of a rule whose interruptions are counted one by one.
pub const INTERRUPTED_GROUPS: usize = 10;

/// How often NULL ended the time of `for` before an alert fired, since the engine was made or restored.
#[derive(Debug, Default)]
pub struct Interruptions {
    /// By the dimensions as canonical JSON: the first [`INTERRUPTED_GROUPS`] groups.
    pub groups: BTreeMap<String, u64>,
    /// Those of further groups.
    pub others: u64,
}

impl Interruptions {
    fn note(&mut self, dimensions: &str) {
        if self.groups.len() < INTERRUPTED_GROUPS || self.groups.contains_key(dimensions) {
            *self.groups.entry(dimensions.to_owned()).or_default() += 1;
        } else {
            self.others += 1;
        }
    }

    /// Returns the number of all of them.
    pub fn total(&self) -> u64 {
        self.groups.values().sum::<u64>() + self.others
    }
}

/// A rule and the states of its groups.
pub struct RunningRule {
    /// The rule.
    pub definition: RuleDefinition,
    /// The number of its view.
    pub view: usize,
    /// The number of the view with the count of all rows, for `share_of`.
    pub count: Option<usize>,
    /// The instant since which rows are known; `None` before the alert clock exists.
    pub start: Option<i64>,
    /// The greatest stream time of the rows before the rule existed, on the grid.
    pub(super) created: Option<i64>,
    /// Whether every group was evaluated with the present policy; if not, the next instant evaluates all.
    pub(super) is_started: bool,
    /// Groups whose condition holds or whose alert fires.
    pub(super) active: BTreeMap<u32, ActiveAlert>,
    /// Whether an alert has ended or ceased to wait since the engine looked for groups that only alerts keep.
    pub(super) has_ended: bool,
    /// Its alerts that NULL kept from firing.
    pub interruptions: Interruptions,
}

impl RunningRule {
    /// Makes a rule without state. Rows up to `created` were read before the rule existed.
    pub fn new(definition: RuleDefinition, view: usize, count: Option<usize>, created: Option<i64>) -> Self {
        let (active, interruptions) = (BTreeMap::new(), Interruptions::default());
        // The views may have groups that an alert of a former rule kept.
        let has_ended = true;
        Self { definition, view, count, start: None, created, is_started: false, active, has_ended, interruptions }
    }

    /// Returns the rule with another definition of the same measure. Every group is evaluated anew if its policy
    /// differs. Alerts that fire are paged again if the rule has a new channel; the outbox leaves out the channels that
    /// have the page.
    pub fn redefined(mut self, definition: RuleDefinition, view: usize, count: Option<usize>) -> Self {
        let is_started = self.is_started && definition.policy == self.definition.policy;
        if definition.channels.iter().any(|channel| !self.definition.channels.contains(channel)) {
            let firing = self.active.values_mut().filter_map(|active| active.firing.as_mut());
            firing.for_each(|firing| firing.notified_at = None);
        }
        Self { definition, view, count, is_started, has_ended: true, ..self }
    }

    /// Sets the instant since which rows are known.
    pub fn begin(&mut self, start: i64) {
        self.start = Some(self.created.map_or(start, |created| created.max(start)));
    }

    /// Returns the number of alerts that fire.
    pub fn firing(&self) -> usize {
        self.active.values().filter(|active| active.firing.is_some()).count()
    }

    /// Whether rows were read, and none of its windows has been seen whole up to instant `g`.
    pub fn waits(&self, g: i64) -> bool {
        self.first().is_some_and(|first| g < first)
    }

    /// Returns the first instant whose window has been seen whole.
    fn first(&self) -> Option<i64> {
        Some(self.start? + self.definition.measure.window)
    }

    /// Returns the first instant after `at` at which its states may change without a change of a value.
    pub fn next(&self, at: Instant, views: &[WindowView]) -> Option<i64> {
        let g = at.g;
        let first = self.first().filter(|_| !self.is_started);
        // From this instant on there is one more earlier value to compare with.
        let compared = self.first().zip(self.definition.measure.lags());
        let compared = compared.and_then(|(first, lags)| Some(first + lags.after(g - first)?));
        let (policy, repeat) = (&self.definition.policy, self.definition.repeat);
        let timers = self.active.values().filter_map(|active| active.timer(policy, repeat, g, at.paged_from()));
        let forgotten = policy.forget_after.into_iter().flat_map(|_| {
            let groups = self.active.keys().filter_map(|key| views[self.view].groups.get(key));
            groups.filter_map(|group| self.forgets_at(group))
        });
        first.into_iter().chain(compared).chain(timers).chain(forgotten).min().map(|next| next.max(g + 1))
    }

    /// Returns the instant from which on the rule has forgotten a group if this gets no row.
    fn forgets_at(&self, group: &GroupValue) -> Option<i64> {
        let after = self.definition.policy.forget_after?;
        // The group without dimensions may have had no row, or none that the rule has seen.
        let has_row = self.created.is_none() && group.last > i64::MIN;
        Some(after + if has_row { group.last } else { group.last.max(self.start?) })
    }

    /// Whether a group is known to the rule at instant `g`: it has had a row that the rule has seen, in the last
    /// windows unless the rule has an alert of it, and within `forget_after`.
    fn knows(&self, view: &WindowView, key: u32, group: &GroupValue, g: i64) -> bool {
        // A rule that was there before the first row has seen all of them; another one may share its view with older
        // rules.
        let has_seen = self.created.is_none() || self.start.is_some_and(|start| group.last > start);
        (view.by.is_empty() || has_seen && (!group.is_silent || self.active.contains_key(&key)))
            && self.forgets_at(group).is_none_or(|end| g < end)
    }

    /// Evaluates an instant.
    pub fn evaluate(&mut self, views: &[WindowView], changed: &[u32], at: Instant, transitions: &mut Vec<Transition>) {
        if self.first().is_none_or(|first| at.g < first) {
            return;
        }
        let view = &views[self.view];
        let all = !std::mem::replace(&mut self.is_started, true) || self.definition.measure.derived != Derived::Plain;
        if !all && self.active.is_empty() {
            // The common case: nothing is active, and few values have changed.
            let policy = &self.definition.policy;
            let is_breach = |key: &u32| match view.groups.get(key) {
                Some(group) => Observed::new(group.value, group).is_breach(policy),
                None => false,
            };
            if !changed.iter().any(is_breach) {
                return;
            }
        }
        let keys: BTreeSet<u32> = match all {
            true => view.groups.keys().copied().collect(),
            false => changed.iter().copied().chain(self.due(view, at)).collect(),
        };
        for key in keys {
            let Some(group) = view.groups.get(&key) else { continue };
            if self.knows(view, key, group, at.g) {
                let value = self.value(views, group, at.g);
                self.step(key, group, value, at, transitions);
            } else if let Some(active) = self.active.remove(&key) {
                self.has_ended = true;
                if active.firing.is_none() {
                    continue;
                }
                let observed = ValueSince { value: None, since: active.since };
                let change = AlertChange::Resolves(AlertReason::GroupGone);
                transitions.push(self.transition(group, change, observed, at));
            }
        }
    }

    /// Returns the groups whose alert may change at an instant although the value is as before. Thousands of alerts may
    /// fire for months.
    fn due<'a>(&'a self, view: &'a WindowView, at: Instant) -> impl Iterator<Item = u32> {
        let (policy, repeat) = (&self.definition.policy, self.definition.repeat);
        let is_past = move |end: Option<i64>| end.is_some_and(|end| end <= at.g);
        let forgets = move |key: u32| policy.forget_after.and_then(|_| self.forgets_at(view.groups.get(&key)?));
        let is_due = move |(key, active): &(&u32, &ActiveAlert)| {
            active.firing.is_none()
                || is_past(active.timer(policy, repeat, at.g, at.paged_from()))
                || is_past(forgets(**key))
        };
        self.active.iter().filter(is_due).map(|(key, _)| *key)
    }

    /// Advances one group.
    fn step(
        &mut self,
        key: u32,
        group: &GroupValue,
        value: Option<f64>,
        at: Instant,
        transitions: &mut Vec<Transition>,
    ) {
        let mut active = self.active.remove(&key);
        let since = active.as_ref().map_or(at.g, |active| active.since);
        let was_active = active.is_some();
        let was_pending = active.as_ref().is_some_and(|active| active.firing.is_none());
        let change = step(&self.definition.policy, &mut active, Observed::new(value, group), at.g);
        if was_pending && active.is_none() && value.is_none() {
            self.interruptions.note(&group.dimensions);
        }
        if let Some(change) = change {
            transitions.push(self.transition(group, change, ValueSince { value, since }, at));
        }
        if let Some(firing) = active.as_mut().and_then(|active| active.firing.as_mut()) {
            match (firing.notified_at, self.definition.repeat) {
                (None, _) if change.is_some() && !at.is_catching_up() => firing.notified_at = Some(at.g),
                (Some(last), Some(repeat)) if at.g - last >= repeat && !at.is_catching_up() => {
                    firing.notified_at = Some(at.g);
                    let fires = AlertChange::Fires(firing.reason);
                    let repeated = self.transition(group, fires, ValueSince { value, since }, at);
                    transitions.push(Transition { purpose: TransitionUse::Repeat, ..repeated });
                }
                _ => {}
            }
        }
        match active {
            Some(active) => _ = self.active.insert(key, active),
            None => self.has_ended |= was_active,
        }
        // If the resolve threshold is on the other side of the threshold, a value that fires is clear, and one that is
        // resolved is a breach, at the next instant and without a change of the value.
        self.is_started &= change.is_none();
    }

    /// Pages the alerts that fire and were not paged, once the alert clock has caught up.
    pub fn page_waiting(&mut self, views: &[WindowView], at: Instant, transitions: &mut Vec<Transition>) {
        if self.active.is_empty() || at.is_catching_up() {
            return;
        }
        let mut active = std::mem::take(&mut self.active);
        for (key, state) in &mut active {
            let (since, Some(group)) = (state.since, views[self.view].groups.get(key)) else { continue };
            let Some(firing) = state.firing.as_mut().filter(|firing| firing.notified_at.is_none()) else { continue };
            firing.notified_at = Some(at.g);
            let fires = AlertChange::Fires(firing.reason);
            let value = self.value(views, group, at.g);
            let page = self.transition(group, fires, ValueSince { value, since }, at);
            transitions.push(Transition { purpose: TransitionUse::Page, ..page });
        }
        self.active = active;
    }

    /// Resolves every alert.
    pub fn resolve_all(
        &mut self,
        views: &[WindowView],
        reason: AlertReason,
        at: Instant,
        transitions: &mut Vec<Transition>,
    ) {
        for (key, active) in std::mem::take(&mut self.active) {
            let group = views[self.view].groups.get(&key).filter(|_| active.firing.is_some());
            let Some(group) = group else { continue };
            let observed = ValueSince { value: self.value(views, group, at.g - 1), since: active.since };
            transitions.push(self.transition(group, AlertChange::Resolves(reason), observed, at));
        }
    }

    /// Returns the value of the rule for a group.
    fn value(&self, views: &[WindowView], group: &GroupValue, g: i64) -> Option<f64> {
        let first = self.first()?;
        let before = |before: i64| if g - before >= first { group.at(g - before) } else { None };
        let by = |divisor: Option<f64>| Some(group.value? / divisor.filter(|divisor| *divisor != 0.0)?);
        match self.definition.measure.derived {
            Derived::Plain => group.value,
            Derived::ShareOf(_) => by(views[self.count?].groups.values().next()?.value),
            Derived::Compare(span) => by(before(span)),
            Derived::Anomaly { min, .. } => {
                let lags = self.definition.measure.lags();
                let values: Vec<f64> = lags.into_iter().flat_map(Lags::each).filter_map(before).collect();
                z_score(group.value?, &values, min)
            }
        }
    }

    fn transition(&self, group: &GroupValue, change: AlertChange, seen: ValueSince, at: Instant) -> Transition {
        let ValueSince { value, since } = seen;
        let RuleDefinition { rule, measure, channels, summary, policy, .. } = &self.definition;
        let values = SummaryValues {
            rule: &rule.name,
            value,
            threshold: policy.threshold,
            severity: &rule.severity,
            window: measure.window,
            dimensions: &group.dimensions,
            by: &measure.by,
            values: &group.values,
        };
        let (state, reason) = match change {
            AlertChange::Fires(reason) => (AlertState::Firing, reason),
            AlertChange::Resolves(reason) => (AlertState::Resolved, reason),
        };
        let alert = Alert {
            rule: rule.clone(),
            dimensions: group.dimensions.clone(),
            state,
            reason,
            value,
            window_start: (at.g - measure.window) * SECOND,
            window_end: at.g * SECOND,
            since: since * SECOND,
            at: at.g * SECOND,
            summary: render(summary, &values),
            caught_up: at.is_catching_up(),
        };
        Transition { alert, channels: channels.clone(), purpose: TransitionUse::Row }
    }
}

/// The value of a group, and since when its condition holds.
#[derive(Clone, Copy)]
struct ValueSince {
    value: Option<f64>,
    since: i64,
}

/// Returns how many standard deviations `value` is from the mean of earlier ones; `None` if these are fewer than `min`
/// or all equal but for rounding.
fn z_score(value: f64, earlier: &[f64], min: usize) -> Option<f64> {
    if earlier.len() < min || earlier.len() < 2 {
        return None;
    }
    let count = earlier.len() as f64;
    let mean = earlier.iter().sum::<f64>() / count;
    let variance = earlier.iter().map(|one| (one - mean) * (one - mean)).sum::<f64>() / (count - 1.0);
    let deviation = variance.sqrt();
    // The mean of equal values differs from them by the rounding of their sum.
    (deviation > count * f64::EPSILON * mean.abs()).then(|| (value - mean) / deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_without_variance_or_with_few_windows_has_no_score() {
        assert_eq!(z_score(5.0, &[1.0, 1.0, 1.0], 2), None);
        assert_eq!(z_score(5.0, &[1.0, 2.0], 3), None);
        for constant in [0.1, 0.7, 4.7, 19.99, -12.34, 99.9, 0.0] {
            for count in 2..60 {
                assert_eq!(z_score(5.0, &vec![constant; count], 2), None, "{count} times {constant}");
            }
        }
        assert!(z_score(20.0, &[19.99, 19.99, 19.98, 19.99], 4).is_some());
        assert_eq!(z_score(5.0, &[1.0, 2.0, 3.0], 3), Some(3.0));
    }
}
