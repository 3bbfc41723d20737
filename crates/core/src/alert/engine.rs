//! The engine: rows in, transitions of alerts out.

use super::rule::{Derived, Lags, Measure, RuleDefinition};
use super::running::{Instant, Interruptions, RunningRule, Transition, all_rows, grid_end};
use super::series::{Arrival, EventSeries, Expressions, RowTimes};
use super::view::{GroupValue, WINDOWS_KNOWN, WindowView};
use crate::error::Result;
use crate::expr::{LeafBatch, Leaves, ObservedLeaves, WrongRows};
use crate::kind::Kind;
use crate::kind::alert::AlertReason;
use crate::time::SECOND;
use arrow::array::RecordBatch;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// Limits of an engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Maximum number of groups of a series.
    pub max_groups: usize,
    /// The beginning (µs) of the range in which rules are evaluated. Rows before it make groups known.
    pub since: Option<i64>,
}

/// The number of transitions after which [`AlertEngine::advance`] returns. A rule that fires and resolves at every
/// second makes a hundred million within three silent years.
const TRANSITIONS_MAX: usize = 10_000;

/// The rows of a batch with their times (µs).
pub struct TimedRows<'a> {
    /// The kind of the rows.
    pub kind: Kind,
    /// The rows.
    pub batch: &'a RecordBatch,
    /// The event time of each row.
    pub event_times: &'a [i64],
    /// The stream time of each row: the greatest event time of its partition so far.
    pub stream_times: &'a [i64],
    /// Whether each row is left out as late, because an earlier run may have read it; empty if none is.
    pub repeats: &'a [bool],
}

/// The rows of a batch by outcome.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RowsTaken {
    /// Rows that some rule counts.
    pub counted: u64,
    /// Rows that are behind every window that would count them.
    pub late: u64,
    /// Those of them that an earlier run may have read.
    pub repeated: u64,
    /// Rows that no rule counts.
    pub filtered: u64,
    /// Rows with a value of the wrong type.
    pub wrong: WrongRows,
}

/// An alert that fires.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FiringAlert {
    /// The name of its rule.
    pub rule: String,
    /// Its dimensions as canonical JSON.
    pub dimensions: String,
    /// Since when its condition holds (µs).
    pub since: i64,
}

/// The names that expressions read from rows of one kind, since the rules changed.
struct ObservedNames {
    leaves: ObservedLeaves,
    rows: u64,
}

/// The state of all rules.
pub struct AlertEngine {
    pub(super) options: EngineOptions,
    leaves: BTreeMap<Kind, Leaves>,
    observed: BTreeMap<Kind, ObservedNames>,
    pub(super) series: Vec<EventSeries>,
    pub(super) views: Vec<WindowView>,
    pub(super) rules: Vec<RunningRule>,
    /// The last instant of the grid that was evaluated (s); `None` before the alert clock exists.
    pub(super) evaluated: Option<i64>,
    /// The last instant at which something could change.
    pub(super) stepped: i64,
    /// The greatest stream time of all rows (µs).
    pub(super) read_to: Option<i64>,
}

impl AlertEngine {
    /// Makes an engine without rules.
    pub fn new(options: EngineOptions) -> Self {
        Self {
            options,
            leaves: BTreeMap::new(),
            observed: BTreeMap::new(),
            series: vec![],
            views: vec![],
            rules: vec![],
            evaluated: None,
            stepped: i64::MIN / 4,
            read_to: None,
        }
    }

    /// Returns the last instant (s) that was evaluated.
    pub fn evaluated(&self) -> Option<i64> {
        self.evaluated
    }

    /// Returns a lower bound (µs) of the alert clock: the last instant that was evaluated.
    pub fn clock(&self) -> Option<i64> {
        self.evaluated.map(|g| g * SECOND)
    }

    /// Returns the greatest stream time (µs) of the rows that were read.
    pub fn read_to(&self) -> Option<i64> {
        self.read_to
    }

    /// Returns the first instant (s) at which every row that was read counts.
    pub fn end(&self) -> Option<i64> {
        self.read_to.map(grid_end)
    }

    /// Returns the last instant (µs) of which rows may have been read: the last one that was evaluated, or that of the
    /// last row, which waits for its second to pass.
    pub fn known_to(&self) -> Option<i64> {
        self.clock().max(self.read_to)
    }

    /// Returns the first instant (s) for which rows that wait count; `None` if instants were evaluated, or if no rows
    /// wait.
    pub fn first_waiting(&self) -> Option<i64> {
        let waiting = self.series.iter().filter_map(EventSeries::next_arrival).min();
        waiting.filter(|_| self.evaluated.is_none())
    }

    /// Returns the rules.
    pub fn rules(&self) -> impl Iterator<Item = &RuleDefinition> {
        self.rules.iter().map(|rule| &rule.definition)
    }

    /// Returns the alerts that fire, in order.
    pub fn firing_alerts(&self) -> Vec<FiringAlert> {
        let of = |rule: &RunningRule| {
            let groups = &self.views[rule.view].groups;
            let firing = rule.active.iter().filter(|(_, active)| active.firing.is_some());
            let firing = firing.filter_map(|(key, active)| Some((groups.get(key)?, active.since)));
            let alert = |(group, since): (&GroupValue, i64)| FiringAlert {
                rule: rule.definition.rule.name.clone(),
                dimensions: group.dimensions.clone(),
                since: since * SECOND,
            };
            firing.map(alert).collect::<Vec<_>>()
        };
        let mut alerts: Vec<FiringAlert> = self.rules.iter().flat_map(of).collect();
        alerts.sort();
        alerts
    }

    /// Returns the number of alerts that fire.
    pub fn firing(&self) -> usize {
        self.rules.iter().map(RunningRule::firing).sum()
    }

    /// Returns pairs of a rule and the rows that it left out in this run, because their groups were too many.
    pub fn rejected(&self) -> Vec<(&str, u64)> {
        let of = |rule: &RunningRule| self.series[self.views[rule.view].series].rejected;
        let rejected = self.rules.iter().map(|rule| (rule.definition.rule.name.as_str(), of(rule)));
        rejected.filter(|(_, rows)| *rows > 0).collect()
    }

    /// Returns the groups that have had no row for so long that only their alerts keep them. They count for the limit
    /// of groups.
    pub fn silent(&self) -> usize {
        self.views.iter().map(|view| view.silent().len()).sum()
    }

    /// Returns the rules whose alerts NULL kept from firing, with how often.
    pub fn interruptions(&self) -> impl Iterator<Item = (&RuleDefinition, &Interruptions)> {
        let rules = self.rules.iter().map(|rule| (&rule.definition, &rule.interruptions));
        rules.filter(|(_, interruptions)| interruptions.total() > 0)
    }

    /// Returns the rules that were never evaluated although rows were read, with the lengths of their windows (s).
    pub fn waiting(&self) -> Vec<(&str, i64)> {
        let waits = |rule: &&RunningRule| self.evaluated.is_some_and(|g| rule.waits(g));
        let waiting = self.rules.iter().filter(waits).map(|rule| &rule.definition);
        waiting.map(|definition| (definition.rule.name.as_str(), definition.measure.window)).collect()
    }

    /// Returns lines about names of a rule that were NULL in every row since the rules changed; `None` if fewer than
    /// `least` rows were read.
    pub fn null_lines(&self, rule: Uuid, least: u64) -> Option<Vec<String>> {
        let rule = self.rules.iter().find(|one| one.definition.rule.rule_id == rule)?;
        let series = &self.series[self.views[rule.view].series];
        let observed = self.observed.get(&series.kind).filter(|observed| observed.rows >= least)?;
        let lines = series.expressions.all().flat_map(|expr| observed.leaves.null_lines(expr, "row"));
        Some(lines.collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// Returns the names that the expressions read from rows of a kind.
    pub fn leaves(&self, kind: Kind) -> Option<&Leaves> {
        self.leaves.get(&kind)
    }

    /// Adds rows. If the instant of a row was evaluated before, the row counts from the next instant on, as far as a
    /// window contains it then.
    pub fn add(&mut self, rows: &TimedRows<'_>) -> Result<RowsTaken> {
        let count = rows.batch.num_rows();
        self.read_to = self.read_to.max(rows.stream_times.iter().copied().max());
        let times = self.times(rows);
        let mut taken = RowsTaken::default();
        let Some(leaves) = self.leaves.get(&rows.kind) else {
            taken.filtered = count as u64;
            return Ok(taken);
        };
        let batch = LeafBatch::read(leaves, rows.batch)?;
        let new = || ObservedNames { leaves: ObservedLeaves::new(leaves), rows: 0 };
        let observed = self.observed.entry(rows.kind).or_insert_with(new);
        observed.leaves.observe(&batch);
        observed.rows += count as u64;
        let (mut counted, mut passed) = (vec![false; count], vec![false; count]);
        for series in self.series.iter_mut().filter(|series| series.kind == rows.kind) {
            let outcome = series.add(&batch, &times, self.options.max_groups)?;
            counted.iter_mut().zip(outcome.counted).for_each(|(sum, one)| *sum |= one);
            passed.iter_mut().zip(outcome.passed).for_each(|(sum, one)| *sum |= one);
            for (row, message) in outcome.wrong {
                taken.wrong.entry(row).or_insert(message);
            }
        }
        for row in (0..count).filter(|row| !taken.wrong.contains_key(row)) {
            match (counted[row], passed[row]) {
                (true, _) => taken.counted += 1,
                (false, true) if times.counts_from[row] == i64::MAX || self.is_behind(&times, row, rows.kind) => {
                    taken.late += 1;
                    taken.repeated += u64::from(times.counts_from[row] == i64::MAX);
                }
                (false, _) => taken.filtered += 1,
            }
        }
        Ok(taken)
    }

    /// Returns the instant (µs) from which on rows before the range make groups known that are not gone when the range
    /// begins: a rule is evaluated one window later. `None` if no rule counts rows of this kind, or without a range.
    pub fn known_from(&self, kind: Kind) -> Option<i64> {
        Some(self.options.since?.saturating_sub((WINDOWS_KNOWN - 1) * self.longest(kind)? * SECOND))
    }

    /// Adds rows before the range. They make their groups known, and no window that is evaluated has them.
    pub fn add_before(&mut self, rows: &TimedRows<'_>) -> Result<()> {
        self.read_to = self.read_to.max(rows.stream_times.iter().copied().max());
        let times = self.times(rows);
        let Some(leaves) = self.leaves.get(&rows.kind) else { return Ok(()) };
        let batch = LeafBatch::read(leaves, rows.batch)?;
        for series in self.series.iter_mut().filter(|series| series.kind == rows.kind) {
            series.add(&batch, &times, self.options.max_groups)?;
        }
        Ok(())
    }

    /// Whether no window contains the row at the first instant that would count it.
    fn is_behind(&self, times: &RowTimes, row: usize, kind: Kind) -> bool {
        self.longest(kind).is_some_and(|longest| times.slices[row] <= times.counts_from[row] - longest)
    }

    /// Returns the longest window (s) over rows of a kind.
    fn longest(&self, kind: Kind) -> Option<i64> {
        self.series.iter().filter(|series| series.kind == kind).map(|series| series.length).max()
    }

    fn times(&self, rows: &TimedRows<'_>) -> RowTimes {
        let from = |(row, micros): (usize, &i64)| {
            let own = grid_end(*micros);
            match self.evaluated {
                _ if rows.repeats.get(row) == Some(&true) => i64::MAX,
                Some(g) => own.max(g + 1),
                None => own,
            }
        };
        let slices = rows.event_times.iter().map(|micros| grid_end(*micros)).collect();
        RowTimes { slices, counts_from: rows.stream_times.iter().enumerate().map(from).collect() }
    }

    /// Begins to evaluate: rows before `start` (µs) may be unknown. Does nothing if it has begun.
    ///
    /// The second that ends at `start` is the first instant. No rule has a whole window there, but its rows make their
    /// groups known. With a range the first instant is that of the first row that makes a group known, and rules begin
    /// with the range.
    pub fn begin(&mut self, start: i64) {
        if self.evaluated.is_some() {
            return;
        }
        let known_from = self.series.iter().filter_map(|series| self.known_from(series.kind)).min();
        let first = grid_end(known_from.or(self.options.since).map_or(start, |from| from.max(start)));
        self.evaluated = Some(first - 1);
        self.stepped = first - 1;
        let start = self.in_range(grid_end(start));
        self.rules.iter_mut().for_each(|rule| rule.begin(start));
    }

    /// Returns an instant (s), but at least the beginning of the range.
    fn in_range(&self, g: i64) -> i64 {
        self.options.since.map_or(g, |since| grid_end(since).max(g))
    }

    /// Evaluates every instant before `clock` (µs), up to one by which there are [`TRANSITIONS_MAX`] transitions: call
    /// it again until [`AlertEngine::has_reached`] the clock. `now` is the wall time (µs), which decides what is a
    /// page.
    pub fn advance(&mut self, clock: i64, now: i64) -> Vec<Transition> {
        let (mut transitions, Some(evaluated)) = (vec![], self.evaluated) else { return vec![] };
        // g < clock
        let last = (clock - 1).div_euclid(SECOND);
        let mut at = evaluated;
        while let Some(g) = self.next(Instant { g: at, now }).filter(|g| *g <= last) {
            self.evaluate(g, now, &mut transitions);
            at = g;
            if transitions.len() >= TRANSITIONS_MAX {
                return transitions;
            }
        }
        if last > evaluated {
            self.evaluated = Some(last);
            self.page_waiting(Instant { g: last, now }, &mut transitions);
        }
        transitions
    }

    /// Whether every instant before `clock` (µs) is evaluated, or none can be.
    pub fn has_reached(&self, clock: i64) -> bool {
        self.evaluated.is_none_or(|g| g >= (clock - 1).div_euclid(SECOND))
    }

    /// Pages the alerts that fire and were not paged, once the alert clock has caught up.
    pub(super) fn page_waiting(&mut self, at: Instant, transitions: &mut Vec<Transition>) {
        self.rules.iter_mut().for_each(|rule| rule.page_waiting(&self.views, at, transitions));
    }

    /// Returns the first instant after `at` at which anything may change.
    fn next(&self, at: Instant) -> Option<i64> {
        let arrivals = self.series.iter().filter_map(EventSeries::next_arrival);
        let views = self.views.iter().filter_map(|view| view.next(&self.series[view.series], self.stepped));
        let rules = self.rules.iter().filter_map(|rule| rule.next(at, &self.views));
        arrivals.chain(views).chain(rules).min().map(|next| next.max(at.g + 1))
    }

    pub(super) fn evaluate(&mut self, g: i64, now: i64, transitions: &mut Vec<Transition>) {
        self.evaluated = Some(g);
        let arrive = |series: &mut EventSeries| series.arrive(g, self.options.max_groups);
        let arrivals: Vec<Vec<Arrival>> = self.series.iter_mut().map(arrive).collect();
        let mut changed: Vec<Vec<u32>> = vec![];
        for view in &mut self.views {
            let series = &mut self.series[view.series];
            changed.push(view.evaluate(series, &arrivals[view.series], self.stepped, g));
        }
        let first = transitions.len();
        for rule in &mut self.rules {
            rule.evaluate(&self.views, &changed[rule.view], Instant { g, now }, transitions);
        }
        self.forget_silent(g);
        let order = |one: &Transition| (one.alert.rule.name.clone(), one.alert.dimensions.clone());
        transitions[first..].sort_by_key(order);
        self.series.iter_mut().for_each(|series| series.prune(g));
        self.stepped = g;
    }

    /// Forgets the silent groups of which no rule has an alert, and earlier values that nothing needs.
    fn forget_silent(&mut self, g: i64) {
        let mut kept: Vec<BTreeSet<u32>> = vec![];
        let has_ended = self.rules.iter_mut().fold(false, |any, rule| std::mem::take(&mut rule.has_ended) | any);
        let has_silent = self.views.iter().any(|view| !view.silent().is_empty());
        if has_silent && (has_ended || self.views.iter().any(WindowView::has_fallen_silent)) {
            kept.resize_with(self.views.len(), BTreeSet::new);
            for rule in &self.rules {
                let silent = self.views[rule.view].silent();
                if !silent.is_empty() {
                    kept[rule.view].extend(rule.active.keys().filter(|key| silent.contains(key)));
                }
            }
        }
        for (view, kept) in self.views.iter_mut().zip(kept) {
            view.forget_silent(&mut self.series[view.series], kept, g);
        }
        self.views.iter_mut().for_each(|view| view.forget_gone(g, self.options.max_groups));
    }

    /// Replaces the rules from the next instant on. Resolves the alerts of a rule that is deleted, disabled or has
    /// another measure. A rule with the same measure keeps its state.
    ///
    /// Errors: exit status 78 if an expression is wrong, which [`super::rules::resolve`] has excluded.
    pub fn set_rules(&mut self, definitions: Vec<RuleDefinition>, now: i64) -> Result<Vec<Transition>> {
        let mut transitions = vec![];
        let at = Instant { g: self.evaluated.map_or(0, |g| g + 1), now };
        let mut old = std::mem::take(&mut self.rules);
        let new: HashMap<Uuid, &RuleDefinition> = definitions.iter().map(|new| (new.rule.rule_id, new)).collect();
        for rule in &mut old {
            let reason = match new.get(&rule.definition.rule.rule_id) {
                None => Some(AlertReason::RuleGone),
                Some(new) if !new.is_enabled => Some(AlertReason::Disabled),
                Some(new) if new.measure != rule.definition.measure => Some(AlertReason::RuleChanged),
                Some(_) => None,
            };
            if let Some(reason) = reason {
                rule.resolve_all(&self.views, reason, at, &mut transitions);
            }
        }
        let old = old.into_iter().map(|rule| (rule.definition.rule.rule_id, rule)).collect();
        self.rebuild(definitions, old)?;
        Ok(transitions)
    }

    /// Makes series, views and rules; those of `old` rules keep their state.
    pub(super) fn rebuild(
        &mut self,
        definitions: Vec<RuleDefinition>,
        mut old: HashMap<Uuid, RunningRule>,
    ) -> Result<()> {
        let (mut series, mut views) = (std::mem::take(&mut self.series), std::mem::take(&mut self.views));
        let old_identities: Vec<String> = series.iter().map(|series| series.identity.clone()).collect();
        self.leaves.clear();
        self.observed.clear();
        let created = self.end();
        for definition in definitions.into_iter().filter(|definition| definition.is_enabled) {
            let measure = definition.measure.clone();
            let view = self.view_of(&measure, &mut series, &mut views, &old_identities)?;
            let count = match measure.derived {
                Derived::ShareOf(kind) => {
                    let all = all_rows(kind, measure.window);
                    Some(self.view_of(&all, &mut series, &mut views, &old_identities)?)
                }
                _ => None,
            };
            let known = old.remove(&definition.rule.rule_id).filter(|known| known.definition.measure == measure);
            let mut rule = match known {
                Some(known) => known.redefined(definition, view, count),
                None => RunningRule::new(definition, view, count, created),
            };
            if let (None, Some(evaluated)) = (rule.start, self.evaluated) {
                rule.begin(self.in_range(evaluated));
            }
            self.rules.push(rule);
        }
        for view in views {
            let identity = &old_identities[view.series];
            if let Some(series) = self.series.iter_mut().find(|series| series.identity == *identity) {
                view.close(series);
            }
        }
        self.measure_spans();
        Ok(())
    }

    /// Sets the lags of the earlier values that views keep, and the length of the longest window of each series.
    fn measure_spans(&mut self) {
        for view in 0..self.views.len() {
            let of_view = self.rules.iter().filter(|rule| rule.view == view);
            let lags: BTreeSet<Lags> = of_view.filter_map(|rule| rule.definition.measure.lags()).collect();
            self.views[view].set_lags(lags, self.evaluated.unwrap_or(i64::MIN / 4));
        }
        for series in &mut self.series {
            series.length = 0;
        }
        for view in &self.views {
            let length = &mut self.series[view.series].length;
            *length = view.window.max(*length);
        }
    }

    /// Returns the number of the view of a measure: one that exists, one of `views`, or a new one.
    fn view_of(
        &mut self,
        measure: &Measure,
        series: &mut Vec<EventSeries>,
        views: &mut Vec<WindowView>,
        old: &[String],
    ) -> Result<usize> {
        let identity = Expressions::identity(measure);
        let number = match self.series.iter().position(|one| one.identity == identity) {
            Some(number) => number,
            None => {
                let leaves = self.leaves.entry(measure.input).or_insert_with(|| Leaves::new(&measure.input.schema()));
                let known = series.iter().position(|one| one.identity == identity).map(|at| series.swap_remove(at));
                self.series.push(match known {
                    Some(known) => known.with(Expressions::parse(measure, leaves)?),
                    None => EventSeries::new(measure, leaves)?,
                });
                self.series.len() - 1
            }
        };
        let is_it = |view: &WindowView| view.series == number && view.window == measure.window;
        if let Some(view) = self.views.iter().position(is_it) {
            return Ok(view);
        }
        let was_it = |view: &WindowView| old[view.series] == identity && view.window == measure.window;
        let view = match views.iter().position(was_it).map(|at| views.swap_remove(at)) {
            Some(known) => known.of_series(number),
            None => WindowView::new(number, &mut self.series[number], measure.window)?,
        };
        self.views.push(view);
        Ok(self.views.len() - 1)
    }
}
