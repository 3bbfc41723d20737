//! The loop of evt-alert: reads the inputs, advances the alert clock, stores the state, and writes rows and
//! notifications.

use super::feed::{Feed, FeedOutput, FeedRun, FeedStep, FeedTarget};
use super::load::{self, RuleRefresh};
use super::messages::{
    LossReport, RuleMessages, dropped_records, failed_rows, late_lines, lost_rows, not_evaluated, refused,
    rejected_rows,
};
use super::positions::{Beginning, FramePartitions, KeptTopics, Positions, RowPosition, UnmarkedInput};
use super::state::{ChannelNotifications, Commit, RuleEdit, StateFile};
use super::writer::{Writer, WriterPlan, WriterReport};
use crate::alert::clock::{AlertClock, EarlierClock, HOLD, PartitionKey};
use crate::alert::engine::AlertEngine;
use crate::alert::rule::RuleDefinition;
use crate::alert::rules::RuleSet;
use crate::alert::running::{Transition, TransitionUse};
use crate::alert::snapshot;
use crate::counts::Counts;
use crate::error::Result;
use crate::frame::{End, EndReason};
use crate::kind::alert::AlertState;
use crate::kind::alerts;
use crate::kind::span::Span;
use crate::metrics;
use crate::notify::sender::{Sender, are_due};
use crate::run::{Run, report_file};
use crate::stage::summary::{Totals, lag_of};
use crate::time::{LATEST, SECOND, format_instant};
use crate::uri::kafka::Address;
use arrow::array::RecordBatch;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// Interval between two commits without a transition.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// A snapshot takes at most this share of the time: a large state is stored less often.
const COMMIT_SHARE: u32 = 10;

/// The parts of a run beside its inputs and outputs: its state file, notifications and rules.
pub struct Services {
    /// The run.
    pub run: Rc<Run>,
    /// The state file.
    pub state: Option<StateFile>,
    /// The wall time (µs) at which the state was stored.
    pub saved_at: Option<i64>,
    /// The threads that send notifications.
    pub sender: Option<Sender>,
    /// Reads the rules.
    pub rules: RuleRefresh,
    /// Whether the run is one of a cron job (`--once`).
    pub is_once: bool,
}

/// The options of a run, from its flags.
pub struct RunOptions {
    /// `-q`.
    pub is_quiet: bool,
    /// `--strict`.
    pub is_strict: bool,
    /// The number of faulty records that are reported one by one (`--report`).
    pub faults_shown: u64,
    /// `--stats`.
    pub stats: Option<String>,
    /// The names of the channels; none without `--notify`.
    pub channels: BTreeSet<String>,
    /// How far rows may be ahead of the wall time (µs).
    pub max_future: i64,
    /// How long the end of a run waits for channels.
    pub send_limit: Duration,
    /// The range of time whose rows are evaluated.
    pub range: Span,
}

/// A running evt-alert.
pub struct AlertRun {
    run: Rc<Run>,
    options: RunOptions,
    engine: AlertEngine,
    clock: AlertClock,
    feeds: Vec<Feed>,
    positions: BTreeMap<PartitionKey, RowPosition>,
    /// What earlier runs have read, if no instant has been evaluated.
    beginning: Beginning,
    outputs: Writer,
    services: Services,
    progress: RunProgress,
    messages: RuleMessages,
}

/// The progress of a run: its last commit, its counts, and the changes that are not stored yet.
#[derive(Default)]
pub struct RunProgress {
    /// When the state was stored last, and how long that took, on the monotonic clock.
    committed: Duration,
    commit_took: Duration,
    shown: Duration,
    fired: u64,
    resolved: u64,
    /// Whether anything has changed since the last commit.
    is_dirty: bool,
    /// Transitions that are not stored yet, and changes of rules.
    waiting: Vec<Transition>,
    edits: Vec<RuleEdit>,
    how: Option<EndReason>,
    /// The first instant (s) that this run evaluates.
    first: Option<i64>,
    /// The number of the last row that the outputs have confirmed.
    confirmed: i64,
    losses: LossReport,
}

impl AlertRun {
    /// Makes a run from its parts.
    pub fn new(options: RunOptions, engine: AlertEngine, outputs: WriterPlan, services: Services) -> Result<Self> {
        let run = services.run.clone();
        let earlier = engine.clock().zip(services.saved_at).map(|(clock, saved_at)| EarlierClock {
            clock,
            passed: run.clock.now() - saved_at,
            start: run.clock.monotonic(),
        });
        let mut beginning = Beginning::default();
        if let Some(state) = &services.state {
            beginning = state.beginning()?;
            beginning.complete(&engine, state.positions()?);
        }
        let mut clock = AlertClock::new(earlier);
        clock.resume(beginning.first_rows.clone(), engine.read_to());
        let (progress, outputs) = (RunProgress::default(), Writer::new(outputs, &run));
        let messages = RuleMessages::new(run.console.clone());
        let (feeds, positions) = (vec![], BTreeMap::new());
        Ok(Self { run, options, engine, clock, feeds, positions, beginning, outputs, services, progress, messages })
    }

    /// Returns the alert clock, to which feeds are announced.
    pub fn clock(&mut self) -> &mut AlertClock {
        &mut self.clock
    }

    /// Returns the context of the run.
    pub fn run_context(&self) -> &Rc<Run> {
        &self.run
    }

    /// Returns the positions and partitions that the state has for the topics of an input. `origin`, if given, is the
    /// origin of all rows instead of the name of their topic.
    pub fn kept(&self, address: &Address, origin: Option<&str>) -> Result<KeptTopics> {
        self.services.state.as_ref().map_or_else(|| Ok(KeptTopics::default()), |state| state.kept(address, origin))
    }

    /// Returns the positions that the state has; `None` without a state.
    pub fn positions(&self) -> Result<Option<Positions>> {
        self.services.state.as_ref().map(StateFile::positions).transpose()
    }

    /// Returns the last instant (µs) of which an earlier run may have read rows of an input without a position. The
    /// state knows how far each pipe was read and, while no instant has been evaluated, every input: one that it does
    /// not know was never read. The rows of a store are known only together with their positions.
    pub fn known_to(&self, name: &str, form: UnmarkedInput) -> Option<i64> {
        match (form, self.engine.evaluated()) {
            (UnmarkedInput::Pipe, _) | (UnmarkedInput::Other, None) => self.beginning.read_to(name),
            (UnmarkedInput::Store, None) => None,
            _ => self.engine.known_to(),
        }
    }

    /// Adds an input.
    pub fn push(&mut self, feed: Feed) {
        self.feeds.push(feed);
    }

    /// Runs to the end; returns the exit status.
    pub fn run(mut self) -> Result<u8> {
        if let Err(error) = self.evaluate() {
            if self.services.state.is_some() {
                failed_rows(&self.feeds).for_each(|line| self.run.console.warn(line));
            }
            return Err(error);
        }
        self.finish()
    }

    /// Reads and evaluates to the end, and stores the state.
    fn evaluate(&mut self) -> Result<()> {
        self.outputs.open()?;
        self.write_unconfirmed()?;
        let rules = self.services.rules.load_at_start()?;
        self.replace_rules(rules, true)?;
        while self.feeds.iter().any(|feed| !feed.is_ended) {
            self.step()?;
        }
        if self.progress.how != Some(EndReason::Stopped) {
            self.advance()?;
            self.advance_to_end()?;
        }
        self.commit(&[])?;
        self.messages.names(&self.engine, true);
        Ok(())
    }

    /// Reads from the input that is furthest behind, and does what is due.
    fn step(&mut self) -> Result<()> {
        let mut wait = Run::TICK;
        let mut has_read = false;
        self.clock.note_time(self.run.clock.monotonic());
        for at in self.order() {
            match self.read(at)? {
                FeedStep::More => {
                    has_read = true;
                    break;
                }
                FeedStep::Waiting(time) => wait = wait.min(time.max(Duration::from_millis(1))),
                FeedStep::Ended(how) => {
                    self.progress.how = Some(self.progress.how.filter(|how| *how == EndReason::Stopped).unwrap_or(how));
                    has_read = true;
                    break;
                }
            }
        }
        self.advance()?;
        let now = self.run.clock.monotonic();
        self.outputs.tick(now, self.clock.resumed())?;
        self.confirm()?;
        let is_live = !self.services.is_once;
        if let Some(rules) = is_live.then(|| self.services.rules.poll(now, &self.run.console)).flatten() {
            self.replace_rules(rules, false)?;
        }
        if self.is_commit_due(now) {
            self.commit(&[])?;
        }
        if now.saturating_sub(self.progress.shown) >= Run::TICK {
            self.progress.shown = now;
            if is_live {
                self.messages.names(&self.engine, false);
            }
            self.show()?;
        }
        self.commit_offsets()?;
        if has_read { Ok(()) } else { self.wait(wait) }
    }

    /// Returns the open inputs, that with the least stream time first, so that rows wait for few others.
    fn order(&self) -> Vec<usize> {
        let least = |feed: &Feed| {
            let keys = self.clock.of_input(feed.number);
            keys.iter().filter_map(|key| self.clock.stream_time(key)).min()
        };
        let mut open: Vec<usize> = (0..self.feeds.len()).filter(|at| !self.feeds[*at].is_ended).collect();
        if open.len() > 1 {
            open.sort_by_key(|at| least(&self.feeds[*at]));
        }
        open
    }

    fn read(&mut self, at: usize) -> Result<FeedStep> {
        let before = self.feeds[at].counts.taken;
        let FeedOutput { step, letters } = self.with_feed(at, Feed::step)?;
        self.outputs.letters(letters)?;
        self.progress.is_dirty |= self.feeds[at].counts.taken != before;
        Ok(step)
    }

    /// Calls a method of a feed with what its rows change.
    fn with_feed<T>(
        &mut self,
        at: usize,
        call: impl FnOnce(&mut Feed, &mut FeedTarget<'_>, &FeedRun<'_>) -> Result<T>,
    ) -> Result<T> {
        let Self { engine, clock, positions, run, .. } = self;
        let context = FeedRun {
            run,
            now: run.clock.monotonic(),
            latest: run.clock.now().saturating_add(self.options.max_future),
            range: self.options.range,
            is_live: !self.services.is_once,
        };
        call(&mut self.feeds[at], &mut FeedTarget { engine, clock, positions }, &context)
    }

    fn wait(&mut self, time: Duration) -> Result<()> {
        let mut open = self.feeds.iter_mut().filter(|feed| !feed.is_ended);
        match (open.next(), open.next()) {
            (Some(only), None) => only.source.wait(time),
            (None, _) => Ok(()),
            _ => self.run.stop.sleep(time.min(Duration::from_millis(20))).map(|_| ()),
        }
    }

    /// Evaluates the instants that the alert clock has passed.
    fn advance(&mut self) -> Result<()> {
        self.clock.set_wall_time(self.run.clock.now());
        match self.clock.get(self.run.clock.monotonic()) {
            Some(clock) => self.evaluate_before(clock),
            None => Ok(()),
        }
    }

    /// Evaluates the second of the last row once every input has ended. A later run of the same state may read rows of
    /// that second, which count from the next one on; so the wall time must be past it by as much as a partition would
    /// hold the clock.
    fn advance_to_end(&mut self) -> Result<()> {
        // The second after the last one of the calendar is not an instant.
        let Some(end) = self.engine.end().map(|end| end * SECOND).filter(|end| *end < LATEST) else { return Ok(()) };
        let hold = i64::try_from(HOLD.as_micros()).unwrap_or(i64::MAX);
        match self.services.state.is_none() || end + hold <= self.run.clock.now() {
            true => self.evaluate_before(end + 1),
            false => Ok(()),
        }
    }

    /// Evaluates the instants before `clock` (µs) that are in the range.
    fn evaluate_before(&mut self, clock: i64) -> Result<()> {
        if let Some(start) = self.clock.start().or(self.engine.clock()) {
            self.engine.begin(start);
        }
        let clock = self.options.range.until.map_or(clock, |until| clock.min(until));
        self.progress.first = self.progress.first.or(self.engine.evaluated().map(|g| g + 1));
        let before = self.engine.evaluated();
        let transitions = self.engine.advance(clock, self.run.clock.now());
        self.progress.is_dirty |= self.engine.evaluated() != before;
        self.progress.waiting.extend(transitions);
        // Alerts of the past page nobody, so a backlog stores many of them at once.
        let is_due = |one: &Transition| self.services.state.is_none() || !one.alert.caught_up;
        if self.progress.waiting.iter().any(is_due) { self.commit(&[]) } else { Ok(()) }
    }

    /// Takes rules that were read; resolves what fires for rules that are gone. Errors: exit status 78 if no rule is
    /// left at the start of a run.
    fn replace_rules(&mut self, set: RuleSet, is_start: bool) -> Result<()> {
        let former: Vec<RuleDefinition> = self.engine.rules().cloned().collect();
        let (rules, bad) = load::keep_former(set, former.iter());
        self.messages.read(&bad);
        if is_start && rules.is_empty() {
            return Err(self.services.rules.no_rule());
        }
        // The rows of a job of cron reach its owner without channels.
        if !self.services.is_once || !self.options.channels.is_empty() {
            self.messages.channels(&rules, &self.options.channels);
        }
        let edits = load::edits(&former, &rules);
        if edits.is_empty() {
            return Ok(());
        }
        if rules.is_empty() {
            self.messages.emptied();
        }
        self.messages.changed(&former, &rules);
        let transitions = self.engine.set_rules(rules, self.run.clock.now())?;
        self.progress.waiting.extend(transitions);
        self.commit(&edits)
    }

    /// Returns the counts of rows by outcome.
    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for feed in &self.feeds {
            counts.add(&feed.counts);
            counts.add_lost(&feed.source.counts());
            let known = feed.letters.known;
            counts.dead -= known;
            counts.duplicate += known;
        }
        self.outputs.count_lost(&mut counts);
        counts
    }

    /// Sets the metrics and the status of the service manager, and reports losses.
    fn show(&mut self) -> Result<()> {
        let (counts, run) = (self.counts(), self.run.clone());
        let rejected: u64 = self.engine.rejected().iter().map(|(_, rows)| rows).sum();
        // A job of cron reports its losses at its end.
        if !self.services.is_once
            && let Some(line) = self.progress.losses.line(counts.late, rejected, run.clock.monotonic())
        {
            run.console.warn(line);
        }
        if run.stop.signal().is_some() {
            run.service.stopping();
        }
        run.service.status(|| format!("{counts}; firing {}", self.engine.firing()));
        if !run.metrics.is_on() {
            return Ok(());
        }
        for (outcome, records) in counts.outcomes() {
            run.metrics.set(&metrics::EVENTS, &[run.console.tool(), outcome], records as f64);
        }
        run.metrics.set(&metrics::ALERTS_FIRING, &[], self.engine.firing() as f64);
        run.metrics.set(&metrics::ALERT_ROWS_REJECTED, &[], rejected as f64);
        if let Some(state) = self.services.state.as_ref().filter(|_| !self.options.channels.is_empty()) {
            for ChannelNotifications { channel, due, lost } in state.notifications()? {
                run.metrics.set(&metrics::NOTIFICATIONS, &[&channel, "due"], due as f64);
                run.metrics.set(&metrics::NOTIFICATIONS, &[&channel, "lost"], lost as f64);
            }
        }
        let lags = lag_of(self.feeds.iter().map(|feed| &feed.source));
        run.metrics.set_consumer_lag(lags.iter().map(Into::into));
        Ok(())
    }

    fn is_commit_due(&self, now: Duration) -> bool {
        let RunProgress { committed, commit_took, is_dirty, .. } = &self.progress;
        let interval = COMMIT_INTERVAL.max(*commit_took * COMMIT_SHARE);
        *is_dirty && self.services.state.is_some() && now.saturating_sub(*committed) >= interval
    }

    /// Stores the state with the transitions that wait, then writes their rows.
    fn commit(&mut self, edits: &[RuleEdit]) -> Result<()> {
        let start = self.run.clock.monotonic();
        self.progress.edits.extend_from_slice(edits);
        if self.feeds.iter().any(Feed::is_within_store) {
            // The next run reads the store again: it must not have its rows without their positions.
            self.progress.is_dirty = true;
            return Ok(());
        }
        let edits = &std::mem::take(&mut self.progress.edits);
        if self.services.state.is_some() {
            for at in 0..self.feeds.len() {
                let letters = self.with_feed(at, Feed::settle)?;
                self.outputs.letters(letters)?;
            }
        }
        let transitions = std::mem::take(&mut self.progress.waiting);
        let first = self.progress.first.max(self.engine.evaluated().map(|g| g + 1));
        let effective_from = if edits.is_empty() { self.progress.first } else { first };
        let mut marks: Vec<_> = self.feeds.iter().filter_map(Feed::read_mark).cloned().collect();
        let frames: Vec<FramePartitions> = self.feeds.iter().filter_map(|feed| feed.frames(&self.clock)).collect();
        self.feeds.iter().for_each(|feed| self.beginning.add(feed.number, &feed.name, &self.clock));
        self.beginning.first_rows = self.clock.first_rows();
        if let Some(state) = &mut self.services.state {
            state.commit(Commit {
                snapshot: &snapshot::save(&self.engine),
                clock: self.engine.clock(),
                now: self.run.clock.now(),
                positions: &self.positions,
                inputs: &self.beginning.inputs,
                first_rows: Some(&self.beginning.first_rows).filter(|_| self.engine.evaluated().is_none()),
                frames: &frames,
                channels: &self.options.channels,
                files: &mut marks,
                transitions: &transitions,
                edits,
                effective_from: effective_from.map(|g| g * SECOND),
            })?;
        }
        let read = self.feeds.iter_mut().filter(|feed| feed.read_mark().is_some());
        read.zip(marks).for_each(|(feed, mark)| feed.set_mark(mark));
        let now = self.run.clock.monotonic();
        (self.progress.committed, self.progress.commit_took) = (now, now.saturating_sub(start));
        self.progress.is_dirty = false;
        self.feeds.iter_mut().for_each(|feed| feed.known.set_stored(feed.counts.taken));
        if let Some(sender) = self.services.sender.as_ref().filter(|_| !transitions.is_empty()) {
            sender.wake();
        }
        self.write(&transitions)
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
        let last = self.services.state.as_ref().map(StateFile::last_unconfirmed).transpose()?.flatten();
        self.outputs.rows(rows, last)
    }

    /// Forgets the rows that are durable in the outputs.
    fn confirm(&mut self) -> Result<()> {
        let confirmed = self.outputs.confirmed();
        match &mut self.services.state {
            Some(state) if confirmed > self.progress.confirmed => {
                self.progress.confirmed = confirmed;
                state.confirm(confirmed)
            }
            _ => Ok(()),
        }
    }

    /// Writes the rows that a killed run had stored and its outputs may not have.
    fn write_unconfirmed(&mut self) -> Result<()> {
        let rows = self.services.state.as_ref().map(StateFile::unconfirmed).transpose()?.flatten();
        rows.map_or(Ok(()), |rows| self.emit(rows))
    }

    /// Commits the offsets of topics, which only shows them: the positions are in the state.
    fn commit_offsets(&mut self) -> Result<()> {
        for at in 0..self.feeds.len() {
            if !self.feeds[at].is_silent() && self.feeds[at].source.can_commit() {
                if self.progress.is_dirty {
                    self.commit(&[])?;
                }
                if self.progress.is_dirty {
                    return Ok(());
                }
                self.feeds[at].source.commit()?;
            }
        }
        Ok(())
    }

    /// Ends the outputs, reports, and returns the exit status.
    fn finish(mut self) -> Result<u8> {
        self.outputs.conclude()?;
        self.confirm()?;
        let counts = self.counts();
        counts.check()?;
        self.show()?;
        // Faulty records were reported; in a run of cron only alerts decide the status.
        let has_fired = self.progress.fired > 0 || self.engine.firing() > 0;
        let verdict = if self.services.is_once { has_fired } else { counts.dropped > 0 };
        let verdict = u8::from(verdict || self.options.is_strict && counts.dead + counts.dropped > 0);
        let end = End { how: self.progress.how.unwrap_or(EndReason::Exhausted), rows: counts.out, verdict };
        let mut ended = self.outputs.finish(end)?;
        for feed in &mut self.feeds {
            feed.source.commit_end()?;
        }
        let channels = match self.services.sender.take() {
            Some(sender) => sender.finish(self.options.send_limit)?,
            None => BTreeMap::new(),
        };
        for (name, found) in &channels {
            if found.due > 0 {
                let due = are_due(found.due);
                self.run.console.warn(format!("channel '{name}': {due}; the next run sends what it can"));
            }
            if found.lost() > 0 {
                self.run.console.warn(refused(name, found.refused, found.expired));
                ended.end.verdict = ended.end.verdict.max(1);
            }
        }
        let lost = lost_rows(&self.feeds);
        ended.end.verdict = ended.end.verdict.max(u8::from(!lost.is_empty()));
        lost.into_iter().for_each(|line| self.run.console.warn(line));
        self.report(&counts, &ended)?;
        Ok(ended.end.verdict)
    }

    /// Prints warnings about rows that were left out and rules that were not evaluated, and a line of counts unless the
    /// run is quiet, or reads its input once (`--once`) and no alert has fired, fires or was resolved. Writes the file
    /// of `--stats`.
    fn report(&self, counts: &Counts, ended: &WriterReport) -> Result<()> {
        let console = &self.run.console;
        self.engine.rejected().into_iter().for_each(|(rule, rows)| console.warn(rejected_rows(Some(rule), rows)));
        if counts.late > 0 && !self.progress.losses.has_told(counts.late) {
            let unnamed = self.feeds.iter().filter_map(|feed| feed.known.unnamed());
            late_lines(counts.late, unnamed).into_iter().for_each(|line| console.warn(line));
        }
        for (rule, window) in self.engine.waiting() {
            // With a state the next run continues.
            if self.services.is_once && self.services.state.is_none() && !self.options.is_quiet {
                console.say(not_evaluated(rule, window));
            }
        }
        let firing = self.engine.firing();
        let (fired, resolved) = (self.progress.fired, self.progress.resolved);
        let is_silent = self.services.is_once && fired == 0 && resolved == 0 && firing == 0;
        if counts.dropped > self.options.faults_shown && (self.options.is_quiet || is_silent) {
            console.warn(dropped_records(counts));
        }
        let totals = Totals {
            run: &self.run,
            counts,
            dead: &ended.dead,
            end: &ended.end,
            outputs: &ended.outputs,
            lag: lag_of(self.feeds.iter().map(|feed| &feed.source)),
        };
        if !self.options.is_quiet && !is_silent {
            let counts = totals.counts_text();
            let mut line = format!("{counts}; fired {fired}, resolved {resolved}, firing {firing}");
            line += &totals.outputs_text();
            if ended.end.how == EndReason::Stopped {
                line.push_str("; stopped");
            }
            console.say(line);
        }
        let Some(path) = &self.options.stats else { return Ok(()) };
        let mut stats = totals.stats();
        stats.extend([
            ("fired".to_owned(), fired.into()),
            ("resolved".to_owned(), resolved.into()),
            ("firing".to_owned(), firing.into()),
            ("clock".to_owned(), self.engine.clock().map(format_instant).into()),
        ]);
        report_file::write(path, &format!("{}\n", serde_json::Value::from(stats)))
    }
}
