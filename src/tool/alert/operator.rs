//! The operator of evt-alert: evaluates the rows of its feeds, advances the alert clock, stores the state, and writes
//! rows and notifications.

use super::feed::{Evaluation, Feed, FeedRun};
use super::load;
use super::messages::{
    LossReport, RuleMessages, dropped_records, interrupted, kept_groups, late_lines, lost_rows, not_evaluated, refused,
    rejected_rows,
};
use super::positions::FramePartitions;
use super::setup::{AlertSetup, Services};
use super::state::letters;
use super::state::{ChannelNotifications, Commit, CommitLetters, CommitPositions, RuleEdit, StateFile};
use super::writer::{Confirmed, Writer, WriterPlan};
use crate::source;
use crate::stage::feeds::{FeedInput, Feeds};
use crate::stage::operator::{Collector, FeedOperator, InputEnded, Note, Operator, OutputsEnded, StageEnd};
use arrow::array::RecordBatch;
use evt_core::alert::clock::HOLD;
use evt_core::alert::rule::RuleDefinition;
use evt_core::alert::rules::RuleSet;
use evt_core::alert::running::{Interruptions, Transition, TransitionUse};
use evt_core::alert::snapshot;
use evt_core::counts::Counts;
use evt_core::error::{Error, Result};
use evt_core::frame::{Control, End, EndReason};
use evt_core::kind::alert::AlertState;
use evt_core::kind::alerts;
use evt_core::time::{LATEST, SECOND, format_instant};
use evt_notify::sender::are_due;
use evt_run::emit::Dead;
use evt_run::metrics;
use evt_run::run::Run;
use std::time::Duration;

/// Interval between two commits without a transition.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// A snapshot takes at most this share of the time: a large state is stored less often.
const COMMIT_SHARE: u32 = 10;
/// How long the end of a run waits for channels.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// What was evaluated and is not stored yet.
#[derive(Default)]
struct Unstored {
    transitions: Vec<Transition>,
    /// Changes of rules.
    edits: Vec<RuleEdit>,
    /// The clock (µs) up to which instants are evaluated next; `None` if the transitions are all there are so far.
    rest: Option<i64>,
}

/// The progress of a run: its last commit, its counts, and the changes that are not stored yet.
#[derive(Default)]
struct RunProgress {
    store: StoreTimes,
    shown: Duration,
    fired: u64,
    resolved: u64,
    /// Whether anything has changed since the state was stored.
    is_dirty: bool,
    /// Whether the state is to be stored now, or as soon as it can.
    is_due: bool,
    unstored: Unstored,
    /// The first instant (s) that this run evaluates.
    first: Option<i64>,
    /// What the outputs have confirmed.
    confirmed: Confirmed,
    /// The rows of the run that were late, as far as the feeds have counted them.
    late: u64,
    losses: LossReport,
}

/// When the state was stored last, when that began, and how long it took, on the monotonic clock.
#[derive(Default)]
struct StoreTimes {
    stored: Duration,
    began: Duration,
    took: Duration,
}

/// The operator of evt-alert.
pub struct AlertOperator {
    /// The run, with what its rows have changed.
    setup: AlertSetup,
    outputs: Writer,
    progress: RunProgress,
    messages: RuleMessages,
}

impl AlertOperator {
    /// Opens the outputs, writes the rows that a killed run had stored and its outputs may not have, and reads the
    /// rules. Errors: those of opening, 78 if no rule can be used.
    pub fn start(setup: AlertSetup, plan: WriterPlan) -> Result<Self> {
        let (outputs, messages) = (Writer::open(plan, &setup.run)?, RuleMessages::new(setup.run.console.clone()));
        let mut operator = Self { setup, outputs, progress: RunProgress::default(), messages };
        let stored = operator.setup.services.state.as_ref().map_or(Ok(vec![]), StateFile::unwritten_letters)?;
        stored.into_iter().try_for_each(|letters| operator.outputs.stored_letters(letters))?;
        let unconfirmed = operator.setup.services.state.as_ref().map(StateFile::unconfirmed).transpose()?.flatten();
        unconfirmed.map_or(Ok(()), |rows| operator.emit(rows))?;
        let rules = operator.setup.services.rules.loader.load_at_start()?;
        operator.replace_rules(rules, true)?;
        operator.progress.is_due = true;
        Ok(operator)
    }

    /// Returns the time of this step and its limits for rows.
    fn context(&self) -> FeedRun {
        let AlertSetup { run, options, services, .. } = &self.setup;
        FeedRun {
            run: run.clone(),
            now: run.clock.monotonic(),
            latest: run.clock.now().saturating_add(options.max_future),
            range: options.range,
            is_live: !services.is_once,
        }
    }

    /// Evaluates the instants that the alert clock has passed.
    fn advance(&mut self) {
        let AlertSetup { run, to, .. } = &mut self.setup;
        to.clock.set_wall_time(run.clock.now());
        if let Some(clock) = to.clock.get(run.clock.monotonic()) {
            self.evaluate_before(clock);
        }
    }

    /// Evaluates the second of the last row once every input has ended. A later run of the same state may read rows of
    /// that second, which count from the next one on; so the wall time must be past it by as much as a partition would
    /// hold the clock.
    fn advance_to_end(&mut self) {
        // The second after the last one of the calendar is not an instant.
        let Some(end) = self.setup.to.engine.end().map(|end| end * SECOND).filter(|end| *end < LATEST) else { return };
        let hold = i64::try_from(HOLD.as_micros()).unwrap_or(i64::MAX);
        if self.setup.services.state.is_none() || end + hold <= self.setup.run.clock.now() {
            self.evaluate_before(end + 1);
        }
    }

    /// Evaluates the instants before `clock` (µs) that are in the range. If there are many transitions, the other
    /// instants follow when these are stored.
    fn evaluate_before(&mut self, clock: i64) {
        let Self { setup: AlertSetup { run, options, to, services, .. }, progress, .. } = self;
        if let Some(start) = to.clock.start().or(to.engine.clock()) {
            to.engine.begin(start);
        }
        let clock = options.range.until.map_or(clock, |until| clock.min(until));
        progress.first = progress.first.or(to.engine.evaluated().map(|g| g + 1));
        let before = to.engine.evaluated();
        let transitions = to.engine.advance(clock, run.clock.now());
        progress.is_dirty |= to.engine.evaluated() != before;
        progress.unstored.transitions.extend(transitions);
        // Alerts of the past page nobody, so a backlog stores many of them at once.
        let is_due = |one: &Transition| services.state.is_none() || !one.alert.caught_up;
        progress.is_due |= progress.unstored.transitions.iter().any(is_due);
        progress.unstored.rest = Some(clock).filter(|clock| !to.engine.has_reached(*clock));
        progress.is_due |= progress.unstored.rest.is_some();
    }

    /// Takes rules that were read; resolves what fires for rules that are gone. Errors: exit status 78 if no rule is
    /// left at the start of a run.
    fn replace_rules(&mut self, set: RuleSet, is_start: bool) -> Result<()> {
        let former: Vec<RuleDefinition> = self.setup.to.engine.rules().cloned().collect();
        let (rules, bad) = load::keep_former(set, former.iter());
        self.messages.read(&bad);
        if is_start && rules.is_empty() {
            return Err(self.setup.services.rules.loader.no_rule());
        }
        // The rows of a job of cron reach its owner without channels.
        if !self.setup.services.is_once || !self.setup.options.channels.is_empty() {
            self.messages.channels(&rules, &self.setup.options.channels);
        }
        let edits = load::edits(&former, &rules);
        if edits.is_empty() {
            return Ok(());
        }
        if rules.is_empty() {
            self.messages.emptied();
        }
        self.messages.changed(&former, &rules);
        let transitions = self.setup.to.engine.set_rules(rules, self.setup.run.clock.now())?;
        self.progress.unstored.transitions.extend(transitions);
        self.progress.unstored.edits.extend(edits);
        self.progress.is_due = true;
        Ok(())
    }

    /// Whether the state is to be stored although nothing requests it.
    fn is_store_due(&self, now: Duration) -> bool {
        let StoreTimes { stored, took, .. } = self.progress.store;
        let interval = COMMIT_INTERVAL.max(took * COMMIT_SHARE);
        self.progress.is_dirty && self.setup.services.state.is_some() && now.saturating_sub(stored) >= interval
    }

    /// Whether the engine has rows of a store that is not read whole: the next run reads the store again, so the state
    /// must not have these rows without their positions.
    fn is_within_store(&self) -> bool {
        self.setup.feeds.iter().any(|feed| feed.is_within_store())
    }

    fn write(&mut self, transitions: &[Transition]) -> Result<()> {
        let is_row = |one: &&Transition| one.purpose == TransitionUse::Row;
        let changed: Vec<_> = transitions.iter().filter(is_row).map(|one| &one.alert).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let firing = changed.iter().filter(|alert| alert.state == AlertState::Firing).count() as u64;
        self.progress.fired += firing;
        self.progress.resolved += changed.len() as u64 - firing;
        let batch = alerts::batch(changed.iter().copied())?;
        self.emit(batch)
    }

    /// Gives rows to the outputs; they are forgotten once they are durable.
    fn emit(&mut self, rows: RecordBatch) -> Result<()> {
        let last = self.setup.services.state.as_ref().map(StateFile::last_unconfirmed).transpose()?.flatten();
        self.outputs.rows(rows, last)
    }

    /// Forgets the rows that are durable in the outputs.
    fn confirm(&mut self) -> Result<()> {
        let confirmed = self.outputs.confirmed();
        match &mut self.setup.services.state {
            Some(state) if confirmed != self.progress.confirmed => {
                self.progress.confirmed = confirmed;
                state.confirm(confirmed.row, confirmed.letters)
            }
            _ => Ok(()),
        }
    }

    /// Sets the metrics of alerts, and reports losses.
    fn show(&mut self) -> Result<()> {
        let Self { setup: AlertSetup { run, to, services, options, .. }, progress, .. } = self;
        let rejected: u64 = to.engine.rejected().iter().map(|(_, rows)| rows).sum();
        // A job of cron reports its losses at its end.
        if !services.is_once
            && let Some(line) = progress.losses.line(progress.late, rejected, run.clock.monotonic())
        {
            run.console.warn(line);
        }
        if !run.metrics.is_on() {
            return Ok(());
        }
        run.metrics.set(&metrics::ALERTS_FIRING, &[], to.engine.firing() as f64);
        run.metrics.set(&metrics::ALERT_ROWS_REJECTED, &[], rejected as f64);
        for (rule, Interruptions { groups, others }) in to.engine.interruptions() {
            let others = Some(("others", others)).filter(|(_, count)| **count > 0);
            for (group, count) in groups.iter().map(|(group, count)| (group.as_str(), count)).chain(others) {
                run.metrics.set(&metrics::ALERT_INTERRUPTIONS, &[&rule.rule.name, group], *count as f64);
            }
        }
        if let Some(state) = services.state.as_ref().filter(|_| !options.channels.is_empty()) {
            for ChannelNotifications { channel, due, lost } in state.notifications()? {
                run.metrics.set(&metrics::NOTIFICATIONS, &[&channel, "due"], due as f64);
                run.metrics.set(&metrics::NOTIFICATIONS, &[&channel, "lost"], lost as f64);
            }
        }
        Ok(())
    }

    /// Ends the channels, and reports those whose notifications were not all sent.
    fn end_channels(&mut self, end: &mut End) -> Result<()> {
        let AlertSetup { run, services, .. } = &mut self.setup;
        let Some(sender) = services.sender.take() else { return Ok(()) };
        for (name, found) in &sender.finish(SEND_LIMIT)? {
            if found.due > 0 {
                let due = are_due(found.due);
                run.console.warn(format!("channel '{name}': {due}; the next run sends what it can"));
            }
            if found.lost() > 0 {
                run.console.warn(refused(name, found.refused, found.expired));
                end.verdict = end.verdict.max(1);
            }
        }
        Ok(())
    }

    /// Reports rows that were left out and rules that were not evaluated, and the figures of the line of counts, which
    /// a run without an alert in a job of cron leaves out.
    fn report(&self, counts: &Counts, out: &mut dyn Collector) {
        let AlertSetup { to, feeds, services, options, .. } = &self.setup;
        let rejected = to.engine.rejected();
        for (rule, rows) in &rejected {
            out.warn(rejected_rows(Some(rule), *rows));
        }
        let silent = to.engine.silent();
        if !rejected.is_empty() && silent > 0 {
            out.warn(kept_groups(silent));
        }
        let mut interruptions = 0;
        for (rule, found) in to.engine.interruptions() {
            interruptions += found.total();
            out.warn(interrupted(&rule.rule.name, rule.policy.hold, found));
        }
        if counts.late > 0 && !self.progress.losses.has_told(counts.late) {
            late_lines(counts.late, feeds).into_iter().for_each(|line| out.warn(line));
        }
        // With a state the next run continues.
        if services.is_once && services.state.is_none() {
            for (rule, window) in to.engine.waiting() {
                out.inform(not_evaluated(rule, window));
            }
        }
        let RunProgress { fired, resolved, .. } = self.progress;
        let firing = to.engine.firing();
        let is_silent = services.is_once && fired == 0 && resolved == 0 && firing == 0;
        if counts.dropped > options.faults_shown && (options.is_quiet || is_silent) {
            out.warn(dropped_records(counts));
        }
        out.figures((!is_silent).then(|| format!("; fired {fired}, resolved {resolved}, firing {firing}")));
        out.detail("fired", fired.into());
        out.detail("resolved", resolved.into());
        out.detail("firing", firing.into());
        out.detail("interruptions", interruptions.into());
        out.detail("clock", to.engine.clock().map(format_instant).into());
    }
}

/// Returns the letters that the state needs, because it passes their records and the outputs may not have them.
fn letters_for_state(feeds: &[Feed], outputs: &mut Writer, to: &Evaluation) -> Result<Vec<(i64, String)>> {
    let mut stored = vec![];
    for pending in outputs.pending().filter(|pending| !pending.is_stored) {
        let Some(feed) = pending.feed else { continue };
        let passed = feeds[feed].passed(&pending.letters, to)?;
        pending.is_stored = passed.num_rows() == pending.letters.num_rows();
        if passed.num_rows() > 0 {
            stored.push((pending.number, letters::to_text(&passed)?));
        }
    }
    Ok(stored)
}

impl Operator for AlertOperator {
    fn on_batch(&mut self, batch: RecordBatch, from: FeedInput, _out: &mut dyn Collector) -> Result<Counts> {
        let context = self.context();
        let AlertSetup { feeds, to, .. } = &mut self.setup;
        let (counts, faulty) = feeds[from.feed].take(batch, to, &context)?;
        faulty.into_iter().try_for_each(|row| self.outputs.letter_of(from.feed, row))?;
        self.progress.is_dirty |= counts.taken > 0;
        self.progress.late += counts.late;
        Ok(counts)
    }

    fn on_control(&mut self, message: Control, from: FeedInput, _out: &mut dyn Collector) -> Result<()> {
        let AlertSetup { feeds, to, run, .. } = &mut self.setup;
        match message {
            Control::Progress(progress) => {
                feeds[from.feed].on_progress(progress, &mut to.clock, run.clock.monotonic());
            }
            Control::Watermark(_) | Control::Barrier(_) | Control::Metrics(_) | Control::End(_) => {}
        }
        Ok(())
    }

    fn on_end(&mut self, ended: &InputEnded, _out: &mut dyn Collector) -> Result<Counts> {
        if ended.end.how == EndReason::Exhausted {
            self.advance();
            self.advance_to_end();
        }
        self.progress.is_due = true;
        Ok(Counts::default())
    }

    fn feeds(&mut self) -> Option<&mut dyn FeedOperator> {
        Some(self)
    }

    fn restore(self: Box<Self>, _state: &[u8]) -> Result<Box<dyn Operator>> {
        Err(Error::broken("evt-alert has no checkpoint; it resumes from its state file"))
    }
}

impl FeedOperator for AlertOperator {
    /// Of the feeds that is first whose rows are furthest behind, so that rows wait for few others.
    fn read_to(&self, feed: usize) -> Option<i64> {
        let AlertSetup { feeds, to, .. } = &self.setup;
        let keys = to.clock.of_input(feeds[feed].number());
        keys.iter().filter_map(|key| to.clock.stream_time(key)).min()
    }

    fn before_poll(&mut self, feed: usize, source: &mut source::Source) -> Result<()> {
        let context = self.context();
        self.setup.to.clock.note_time(context.now);
        self.setup.feeds[feed].before_poll(source, &mut self.setup.to, &context)
    }

    fn on_waiting(&mut self, feed: usize, source: &mut source::Source) -> Result<()> {
        let context = self.context();
        self.setup.feeds[feed].on_waiting(source, &mut self.setup.to.clock, &context)
    }

    fn on_letters(&mut self, feed: usize, letters: Dead) -> Result<()> {
        let letters = self.setup.feeds[feed].new_letters(letters)?;
        letters.map_or(Ok(()), |letters| self.outputs.letters(feed, letters))
    }

    fn on_feed_end(&mut self, feed: usize, source: &mut source::Source, how: EndReason) -> Result<()> {
        let AlertSetup { run, to, feeds, .. } = &mut self.setup;
        let settles = feeds[feed].end(source, how, to, run.clock.monotonic())?;
        self.progress.late += feeds[feed].known.late();
        if settles { self.outputs.settle_letters() } else { Ok(()) }
    }

    fn on_step(&mut self, _out: &mut dyn Collector) -> Result<()> {
        self.advance();
        let now = self.setup.run.clock.monotonic();
        self.outputs.tick(now, self.setup.to.clock.resumed())?;
        self.confirm()?;
        let Services { rules, is_once, .. } = &mut self.setup.services;
        let is_live = !*is_once;
        if let Some(rules) = is_live.then(|| rules.poll(now, &self.setup.run.console)).flatten() {
            self.replace_rules(rules, false)?;
        }
        if now.saturating_sub(self.progress.shown) >= Run::TICK {
            self.progress.shown = now;
            if is_live {
                self.messages.names(&self.setup.to.engine, false);
            }
            self.show()?;
        }
        Ok(())
    }

    /// The offsets of topics are committed for people: the positions that count are in the state.
    fn is_stored(&mut self, feed: usize) -> bool {
        if self.setup.feeds[feed].is_silent() {
            return false;
        }
        self.progress.is_due |= self.progress.is_dirty;
        !self.progress.is_dirty
    }

    fn begin_store(&mut self, feeds: &mut Feeds) -> Result<Option<Vec<(usize, u64)>>> {
        let now = self.setup.run.clock.monotonic();
        if !self.progress.is_due && !self.is_store_due(now) {
            return Ok(None);
        }
        if self.is_within_store() {
            self.progress.is_dirty = true;
            return Ok(None);
        }
        self.progress.store.began = now;
        let AlertSetup { feeds: of_run, to, services, .. } = &mut self.setup;
        let mut wanted = vec![];
        if services.state.is_some() {
            for (number, feed) in of_run.iter_mut().enumerate() {
                wanted.extend(feed.begin_store(feeds.source(number), to)?.map(|items| (number, items)));
            }
        }
        Ok(Some(wanted))
    }

    fn store(&mut self, feeds: &mut Feeds) -> Result<()> {
        let Self { setup, outputs, progress, .. } = self;
        let AlertSetup { run, options, to, feeds: of_run, beginning, services, topics, .. } = setup;
        let mut settles = false;
        for (feed, source) in of_run.iter_mut().zip(feeds.sources()) {
            settles |= feed.settle(source, to);
        }
        if settles {
            outputs.settle_letters()?;
        }
        let confirmed = outputs.confirmed().letters;
        let letters = letters_for_state(of_run, outputs, to)?;
        let Unstored { transitions, edits, rest } = std::mem::take(&mut progress.unstored);
        let first = progress.first.max(to.engine.evaluated().map(|g| g + 1));
        let effective_from = if edits.is_empty() { progress.first } else { first };
        let mut marks: Vec<_> = of_run.iter().filter_map(|feed| feed.read_mark()).cloned().collect();
        let frames: Vec<FramePartitions> = of_run.iter().filter_map(|feed| feed.frames(&to.clock)).collect();
        of_run.iter().for_each(|feed| beginning.add_input(&feed.name, feed.partitions(&to.clock)));
        beginning.first_rows = to.clock.first_rows();
        if let Some(state) = &mut services.state {
            state.commit(Commit {
                snapshot: &snapshot::save(&to.engine),
                clock: to.engine.clock(),
                now: run.clock.now(),
                positions: CommitPositions { reached: &to.positions, topics, frames: &frames },
                inputs: &beginning.inputs,
                first_rows: Some(&beginning.first_rows).filter(|_| to.engine.evaluated().is_none()),
                channels: &options.channels,
                files: &mut marks,
                transitions: &transitions,
                letters: CommitLetters { pending: &letters, confirmed },
                edits: &edits,
                effective_from: effective_from.map(|g| g * SECOND),
            })?;
        }
        let read = of_run.iter_mut().filter(|feed| feed.read_mark().is_some());
        read.zip(marks).for_each(|(feed, mark)| feed.set_mark(mark));
        of_run.iter_mut().for_each(|feed| feed.set_stored());
        let now = run.clock.monotonic();
        (progress.store.stored, progress.store.took) = (now, now.saturating_sub(progress.store.began));
        (progress.is_dirty, progress.is_due) = (false, false);
        if let Some(sender) = services.sender.as_ref().filter(|_| !transitions.is_empty()) {
            sender.wake();
        }
        self.write(&transitions)?;
        match rest {
            // At a signal, the next run evaluates the other instants.
            Some(clock) if self.setup.run.stop.signal().is_none() => self.evaluate_before(clock),
            _ => {}
        }
        Ok(())
    }

    fn recount(&self, counts: &mut Counts) {
        let feeds = &self.setup.feeds;
        let known: u64 = feeds.iter().map(|feed| feed.letters.known).sum();
        let late: u64 = feeds.iter().map(|feed| feed.known.late()).sum();
        counts.dead -= known;
        counts.duplicate += known;
        counts.duplicate -= late;
        counts.late += late;
        self.outputs.count_lost(counts);
    }

    fn status(&self) -> String {
        format!("; firing {}", self.setup.to.engine.firing())
    }

    fn conclude(&mut self, out: &mut dyn Collector) -> Result<()> {
        self.messages.names(&self.setup.to.engine, true);
        self.outputs.conclude()?;
        self.confirm()?;
        self.show()?;
        // Faulty records were reported; in a run of cron only alerts decide the status.
        let has_fired = self.progress.fired > 0 || self.setup.to.engine.firing() > 0;
        out.set_verdict(u8::from(self.setup.services.is_once && has_fired));
        Ok(())
    }

    fn lost(&self, feeds: &Feeds) -> Vec<String> {
        match self.setup.services.state {
            Some(_) => lost_rows(&self.setup.feeds, feeds.sources(), "the run failed before"),
            None => vec![],
        }
    }

    fn close(&mut self, end: &mut End, run: &StageEnd<'_>, out: &mut dyn Collector) -> Result<OutputsEnded> {
        let (written, ended) = self.outputs.finish(*end)?;
        *end = written;
        self.end_channels(end)?;
        if self.is_within_store() {
            for line in lost_rows(&self.setup.feeds, run.feeds.sources(), "the run was stopped within a store") {
                out.report(Note::Warning(line));
                end.verdict = end.verdict.max(1);
            }
        }
        self.report(run.counts, out);
        Ok(ended)
    }
}
