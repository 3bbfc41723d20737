//! The state machine of one rule and group: pending, firing, resolved.

use super::rule::{NullAs, Policy};
use super::view::GroupValue;
use crate::error::{Error, Result};
use crate::kind::alert::AlertReason;
use crate::op::snapshot;

/// A group whose condition holds, or whose alert fires.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveAlert {
    /// The first instant of the breach.
    pub since: i64,
    /// The alert, once it fires.
    pub firing: Option<Firing>,
}

/// An alert that fires.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    /// Why it began to fire.
    pub reason: AlertReason,
    /// Since when the condition has ceased to hold.
    pub clear_since: Option<i64>,
    /// The instant of its last notification; `None` before the first one.
    pub notified_at: Option<i64>,
}

/// A change of the state of an alert at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertChange {
    /// The alert fires now.
    Fires(AlertReason),
    /// The alert is resolved.
    Resolves(AlertReason),
}

/// The value of a rule for a group at an instant.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// The value of the rule; `None` is NULL.
    pub value: Option<f64>,
    /// Whether its window has rows.
    pub has_rows: bool,
    /// Whether the group had a row in the last windows.
    pub is_known: bool,
}

/// What a value means to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Breach(AlertReason),
    Clear,
    /// It changes nothing.
    Keep,
}

impl Observed {
    /// Observes the value that a rule has for a group.
    pub fn new(value: Option<f64>, group: &GroupValue) -> Self {
        Self { value, has_rows: group.rows > 0, is_known: !group.is_silent }
    }

    /// Whether it is a breach for an alert that does not fire.
    #[inline]
    pub fn is_breach(self, policy: &Policy) -> bool {
        matches!(self.meaning(policy, false), Meaning::Breach(_))
    }

    #[inline]
    fn meaning(self, policy: &Policy, is_firing: bool) -> Meaning {
        let absence = if self.has_rows { AlertReason::Condition } else { AlertReason::NoData };
        match (self.value, policy.null_as) {
            _ if policy.is_breach(self.value, is_firing) => Meaning::Breach(AlertReason::Condition),
            _ if policy.no_data && !self.has_rows => Meaning::Breach(absence),
            (None, NullAs::Breach) => Meaning::Breach(absence),
            // Nothing would ever end the wait of a group that is gone.
            (None, NullAs::Keep) if is_firing || self.is_known => Meaning::Keep,
            _ => Meaning::Clear,
        }
    }
}

/// Advances the state of a group to instant `g`.
pub fn step(policy: &Policy, active: &mut Option<ActiveAlert>, observed: Observed, g: i64) -> Option<AlertChange> {
    let meaning = observed.meaning(policy, active.as_ref().is_some_and(|active| active.firing.is_some()));
    let Some(state) = active else {
        let Meaning::Breach(reason) = meaning else { return None };
        *active = Some(ActiveAlert { since: g, firing: None });
        return fire(policy, active.as_mut()?, reason, g);
    };
    match (&mut state.firing, meaning) {
        (None, Meaning::Keep) => None,
        (None, Meaning::Clear) => {
            *active = None;
            None
        }
        (None, Meaning::Breach(reason)) => fire(policy, state, reason, g),
        (Some(firing), Meaning::Breach(_)) => {
            firing.clear_since = None;
            None
        }
        (Some(firing), Meaning::Keep) if firing.clear_since.is_none() => None,
        (Some(firing), Meaning::Clear | Meaning::Keep) => {
            let since = *firing.clear_since.get_or_insert(g);
            if g - since < policy.keep_firing {
                return None;
            }
            let reason = firing.reason;
            *active = None;
            Some(AlertChange::Resolves(reason))
        }
    }
}

/// Lets a pending alert fire if the condition has held long enough.
fn fire(policy: &Policy, state: &mut ActiveAlert, reason: AlertReason, g: i64) -> Option<AlertChange> {
    if g - state.since < policy.hold {
        return None;
    }
    state.firing = Some(Firing { reason, clear_since: None, notified_at: None });
    Some(AlertChange::Fires(reason))
}

impl ActiveAlert {
    /// Returns the next instant after `g` at which the state changes without a change of the value. Pages are not
    /// repeated before instant `paged_from`.
    pub fn timer(&self, policy: &Policy, repeat: Option<i64>, g: i64, paged_from: i64) -> Option<i64> {
        // An alert that NULL keeps waiting after its time fires at the next value.
        let Some(firing) = &self.firing else { return Some(self.since + policy.hold).filter(|end| *end > g) };
        let clear = firing.clear_since.map(|since| since + policy.keep_firing);
        let repeat = firing.notified_at.zip(repeat).map(|(at, repeat)| (at + repeat).max(paged_from));
        [clear, repeat].into_iter().flatten().min()
    }

    /// Saves the state.
    pub fn save(&self, out: &mut snapshot::Writer) {
        out.number(self.since);
        out.flag(self.firing.is_some());
        if let Some(Firing { reason, clear_since, notified_at }) = &self.firing {
            out.text(reason.name());
            out.optional(*clear_since);
            out.optional(*notified_at);
        }
    }

    /// Restores a state that [`ActiveAlert::save`] saved.
    pub fn load(saved: &mut snapshot::Reader<'_>) -> Result<Self> {
        let since = saved.number()?;
        let firing = match saved.flag()? {
            false => None,
            true => {
                let reason = AlertReason::from_name(&saved.text()?);
                let reason = reason.ok_or_else(|| Error::corrupt("snapshot: unknown reason of an alert"))?;
                Some(Firing { reason, clear_since: saved.optional()?, notified_at: saved.optional()? })
            }
        };
        Ok(Self { since, firing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::rule::Condition;

    fn policy(hold: i64, keep_firing: i64) -> Policy {
        let condition = Some(Condition::Gt);
        let (null_as, forget_after) = (NullAs::Ok, None);
        Policy {
            condition,
            threshold: 5.0,
            resolve_threshold: 3.0,
            hold,
            keep_firing,
            no_data: false,
            null_as,
            forget_after,
        }
    }

    fn run(policy: &Policy, values: &[Option<f64>]) -> Vec<(i64, AlertChange)> {
        let mut active = None;
        let mut changes = vec![];
        for (g, value) in (0..).zip(values) {
            let observed = Observed { value: *value, has_rows: value.is_some(), is_known: true };
            changes.extend(step(policy, &mut active, observed, g).map(|change| (g, change)));
        }
        changes
    }

    const FIRES: AlertChange = AlertChange::Fires(AlertReason::Condition);
    const RESOLVES: AlertChange = AlertChange::Resolves(AlertReason::Condition);

    #[test]
    fn the_condition_must_hold_at_every_instant_of_for() {
        let values = [Some(6.0), Some(6.0), Some(4.0), Some(6.0), Some(6.0), Some(6.0)];
        assert_eq!(run(&policy(2, 0), &values), [(5, FIRES)]);
        assert_eq!(run(&policy(0, 0), &[Some(6.0), None, Some(6.0)]), [(0, FIRES), (1, RESOLVES), (2, FIRES)]);
    }

    #[test]
    fn an_alert_goes_on_firing_until_it_was_clear_for_long_enough() {
        // 4 is not a breach of 5, but not beyond the threshold of the resolve.
        let values = [6.0, 4.0, 4.0, 2.0, 2.0, 4.0, 2.0, 2.0, 2.0].map(Some);
        assert_eq!(run(&policy(0, 2), &values), [(0, FIRES), (8, RESOLVES)]);
    }

    #[test]
    fn null_interrupts_counts_or_is_left_out() {
        let values = [Some(6.0), None, Some(6.0), None, None, Some(6.0), Some(1.0), None];
        let null_as = |null_as| Policy { null_as, ..policy(3, 0) };
        assert_eq!(run(&null_as(NullAs::Ok), &values), []);
        let no_data = AlertReason::NoData;
        let fires = [(3, AlertChange::Fires(no_data)), (6, AlertChange::Resolves(no_data))];
        assert_eq!(run(&null_as(NullAs::Breach), &values), fires);
        // NULL itself neither fires nor resolves.
        assert_eq!(run(&null_as(NullAs::Keep), &values), [(5, FIRES), (6, RESOLVES)]);
        let values = [Some(6.0), None, Some(1.0), None, None];
        assert_eq!(
            run(&Policy { keep_firing: 2, hold: 0, ..null_as(NullAs::Keep) }, &values),
            [(0, FIRES), (4, RESOLVES)]
        );
        assert_eq!(run(&Policy { hold: 0, ..null_as(NullAs::Keep) }, &[None, None]), []);
    }

    #[test]
    fn a_window_without_rows_is_a_breach_if_the_rule_says_so() {
        let policy = Policy { no_data: true, ..policy(0, 0) };
        let no_data = AlertReason::NoData;
        let changes = [(1, AlertChange::Fires(no_data)), (2, AlertChange::Resolves(no_data))];
        assert_eq!(run(&policy, &[Some(1.0), None, Some(1.0)]), changes);
    }
}
