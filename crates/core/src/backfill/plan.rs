//! The changes that sessions with named instants make in a step of a correction.
//!
//! Such a session replaces all sessions of its key that overlap it, right ones by the rule of the live run and stored
//! ones. If it is not corrected itself, because it is open or extends beyond what is corrected or read, the sessions
//! that overlap it are left alone too.

use super::cell::{CellContent, CellKey};
use super::late_cells::{LateCell, NamedSession};
use super::scope::Scope;
use super::session::NameOrigin;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The treatment of the sessions that overlap a session with named instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    /// They stay as they are stored.
    Left,
    /// The session with named instants replaces them.
    Replaced,
    /// The names of the session are removed. The sessions by the rule of the live run replace the stored ones.
    Restored,
}

/// The span of a session with named instants, by its start; the map has its end.
struct TreatedSpan {
    start: i64,
    treatment: Treatment,
}

/// The treated spans of one metric, by dimensions and end.
type TreatedSpans = HashMap<String, BTreeMap<i64, TreatedSpan>>;

/// The cells that a step can correct.
pub struct StepScope<'a> {
    /// The cells of the correction.
    pub scope: &'a Scope,
    /// The watermark of the step (µs).
    pub watermark: i64,
    /// Whether a cell is compared in this step.
    pub is_of_step: &'a dyn Fn(&CellKey) -> bool,
    /// Whether only cells that late events of this run name are corrected.
    pub only_late: bool,
}

/// The changes that sessions with named instants make in a step.
#[derive(Default)]
pub struct SessionPlan {
    treated: HashMap<Arc<str>, TreatedSpans>,
    right: BTreeMap<CellKey, CellContent>,
    /// The names to keep.
    pub kept: Vec<LateCell>,
    /// The names to remove.
    pub to_remove: Vec<CellKey>,
    /// Number of sessions that late events of this run name and that are not closed.
    pub open: u64,
    /// Number of those that extend beyond what is corrected or read.
    pub outside: u64,
}

impl SessionPlan {
    /// Decides the changes that the sessions make.
    pub fn new(sessions: Vec<NamedSession>, step: &StepScope<'_>) -> Self {
        let mut plan = Self::default();
        let of_step = |session: &NamedSession| !step.only_late || session.origin == NameOrigin::Input;
        for session in sessions.into_iter().filter(of_step) {
            let NamedSession { key, content, names, origin } = session;
            let Some(metric) = step.scope.metric(&key.metric) else { continue };
            let watermark = step.scope.closed_before.map_or(step.watermark, |closed| closed.min(step.watermark));
            let is_input = u64::from(origin == NameOrigin::Input);
            let treatment = if metric.closing().is_open(key.end, watermark) {
                plan.open += is_input;
                Treatment::Left
            } else if !(step.is_of_step)(&key) {
                plan.outside += is_input;
                Treatment::Left
            } else if origin == NameOrigin::Removed {
                plan.to_remove.extend(names.into_iter().map(|cell| cell.key));
                Treatment::Restored
            } else {
                plan.kept.extend(names);
                plan.right.extend(content.map(|content| (key.clone(), content)));
                Treatment::Replaced
            };
            if content.is_some() {
                let CellKey { end, start, metric, dimensions } = key;
                let spans = plan.treated.entry(metric).or_default().entry(dimensions).or_default();
                spans.insert(end, TreatedSpan { start, treatment });
            }
        }
        plan
    }

    /// Returns the treatment of a cell; `None` if it overlaps no session with named instants.
    fn treatment(&self, key: &CellKey) -> Option<Treatment> {
        let spans = self.treated.get(&key.metric)?.get(&key.dimensions)?;
        // Sessions that are the gap apart are one, so an end that is a start overlaps it.
        let treatments = spans.range(key.start..).map(|(_, span)| span).take_while(|span| span.start <= key.end);
        let treatments: Vec<Treatment> = treatments.map(|span| span.treatment).collect();
        if treatments.contains(&Treatment::Left) { Some(Treatment::Left) } else { treatments.first().copied() }
    }

    /// Whether a step compares a cell that overlaps a session with named instants; `None` if it overlaps none.
    pub fn compares(&self, key: &CellKey) -> Option<bool> {
        self.treatment(key).map(|treatment| treatment != Treatment::Left)
    }

    /// Replaces the right cells by the rule of the live run.
    pub fn replace(&mut self, right: &mut BTreeMap<CellKey, CellContent>) {
        right.retain(|key, _| self.treatment(key).is_none_or(|treatment| treatment == Treatment::Restored));
        right.append(&mut self.right);
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
