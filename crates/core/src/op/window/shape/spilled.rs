//! The windows of a metric whose state is in files: judges rows without the state, and knows when the state is needed.
//!
//! The windows of slices judge a row by the stamps of the row. A row that is late for a session by its stamps may still
//! join an open session, so only the state can judge it: such a row is undecided.

use super::closing::Closing;
use super::ends::{EndRange, Ends};
use super::session::SessionRule;
use super::window_spec::WindowSpec;
use crate::error::{Error, Result};
use crate::op::snapshot::{Reader, Writer};
use crate::op::window::metric::WindowSpan;
use crate::op::window::outcome::RowRef;
use arrow::buffer::BooleanBuffer;

/// A session in files fires at most gap / DEFERRED after it is due: each firing reads all states, so several firings
/// are done together.
const DEFERRED: i64 = 4;

/// The windows of a metric whose state is in files.
#[derive(Debug)]
pub(crate) struct SpilledWindows {
    rule: AwayRule,
    /// How long after its end (µs) a window fires.
    delay: i64,
    /// Rows of the current batch that count for the state.
    kept: Vec<bool>,
    /// Rows of the current batch that only the state can judge.
    undecided: Vec<usize>,
}

/// The windows, with the ends or counts of those in files.
#[derive(Debug)]
enum AwayRule {
    Slices {
        spec: WindowSpec,
        /// Ends of windows that have rows and have not fired.
        waiting: Ends,
        /// Ends of windows that have rows and are open.
        open: Ends,
        /// The windows of the last row.
        last: EndRange,
    },
    Sessions {
        rule: SessionRule,
        /// No session fires or ends before this instant (µs).
        earliest: Option<i64>,
        /// Number of sessions with rows to fire, as of the last reading of the state.
        held: u64,
    },
}

impl SpilledWindows {
    /// Makes the windows of a sliding metric without state.
    pub(crate) fn slices(spec: WindowSpec, delay: i64) -> Self {
        Self::new(
            AwayRule::Slices { spec, waiting: Ends::default(), open: Ends::default(), last: EndRange::EMPTY },
            delay,
        )
    }

    /// Makes the windows of a session metric without state.
    pub(crate) fn sessions(rule: SessionRule, delay: i64) -> Self {
        Self::new(AwayRule::Sessions { rule, earliest: None, held: 0 }, delay)
    }

    fn new(rule: AwayRule, delay: i64) -> Self {
        Self { rule, delay, kept: vec![], undecided: vec![] }
    }

    /// Returns how long after its end (µs) a window fires.
    pub(crate) fn delay(&self) -> i64 {
        self.delay
    }

    /// Returns the windows, if they are not sessions.
    pub(crate) fn spec(&self) -> Option<WindowSpec> {
        if let AwayRule::Slices { spec, .. } = &self.rule { Some(*spec) } else { None }
    }

    /// Returns the rule of sessions.
    pub(crate) fn session_rule(&self) -> Option<SessionRule> {
        if let AwayRule::Sessions { rule, .. } = &self.rule { Some(*rule) } else { None }
    }

    /// Begins a batch.
    pub(crate) fn begin(&mut self, rows: usize) {
        self.kept.clear();
        self.kept.resize(rows, false);
        self.undecided.clear();
    }

    /// Keeps a row that is in the slice of a row before it.
    #[inline(always)]
    pub(crate) fn keep_same(&mut self, row: usize) {
        self.kept[row] = true;
    }

    /// Keeps all rows of the batch, which are in the slice of `span`.
    pub(crate) fn keep_all(&mut self, span: WindowSpan, first_end: i64, fired: Option<i64>) {
        self.kept.fill(true);
        self.expect(span, first_end, fired);
    }

    /// Keeps a row. `first_end` is the end of the first window of `span` that counts the row.
    pub(crate) fn keep(&mut self, row: usize, span: WindowSpan, first_end: i64, fired: Option<i64>) {
        self.kept[row] = true;
        self.expect(span, first_end, fired);
    }

    /// Notes that the windows of a row have rows. `fired` is the watermark up to which windows have fired.
    fn expect(&mut self, span: WindowSpan, first_end: i64, fired: Option<i64>) {
        let AwayRule::Slices { spec, waiting, open, last } = &mut self.rule else { return };
        let ends = EndRange { first: first_end, last: span.last_end };
        if std::mem::replace(last, ends) == ends {
            return;
        }
        let step = spec.layout.step();
        open.insert(first_end, span.last_end, step);
        spec.thin(open);
        // Windows that have fired fire again when the state is read, at the latest when they close.
        let first_waiting = match fired.filter(|fired| *fired >= first_end) {
            None => first_end,
            Some(fired) => first_end + ((fired - first_end).div_euclid(step) + 1) * step,
        };
        if first_waiting <= span.last_end {
            waiting.insert(first_waiting, span.last_end, step);
            spec.thin(waiting);
        }
    }

    /// Judges a row for sessions; returns false if it is undecided.
    pub(crate) fn keep_session(&mut self, coming: RowRef) -> bool {
        let AwayRule::Sessions { rule, earliest, .. } = &mut self.rule else { return false };
        let end = coming.time.saturating_add(rule.gap);
        if !rule.closing().is_open(end, coming.bound) {
            self.undecided.push(coming.row);
            return false;
        }
        self.kept[coming.row] = true;
        let acts = Closing::of_sessions(self.delay).at(end);
        *earliest = Some(earliest.map_or(acts, |known| known.min(acts)));
        true
    }

    /// Returns the kept rows of the batch.
    pub(crate) fn kept(&self) -> BooleanBuffer {
        BooleanBuffer::from(self.kept.as_slice())
    }

    /// Returns the undecided rows of the batch.
    pub(crate) fn undecided(&self) -> &[usize] {
        &self.undecided
    }

    /// Whether windows fire or close at this watermark.
    pub(crate) fn is_due(&self, watermark: i64) -> bool {
        self.acts().is_some_and(|at| at <= watermark)
    }

    /// Whether the state must be read at this watermark: sessions wait until more of them are due.
    pub(crate) fn is_overdue(&self, watermark: i64) -> bool {
        self.acts().is_some_and(|at| at.saturating_add(self.deferral()) <= watermark)
    }

    /// Returns the first instant (µs) at which a window fires or closes.
    fn acts(&self) -> Option<i64> {
        match &self.rule {
            AwayRule::Slices { spec, waiting, open, .. } => {
                let fires = waiting.first().map(|end| Closing::of_windows(self.delay).at(end));
                let closes = open.first().map(|end| spec.closing().at(end));
                fires.into_iter().chain(closes).min()
            }
            AwayRule::Sessions { earliest, .. } => *earliest,
        }
    }

    /// Whether windows that end within a range fire for the first time or close at this watermark.
    pub(crate) fn is_due_within(&self, range: EndRange, watermark: i64) -> bool {
        let AwayRule::Slices { spec, waiting, open, .. } = &self.rule else { return true };
        [(waiting, Closing::of_windows(self.delay)), (open, spec.closing())].into_iter().any(|(ends, closing)| {
            let first = ends.first_within(range, spec.layout.step());
            first.is_some_and(|end| !closing.is_open(end, watermark))
        })
    }

    /// Returns the approximate bytes in memory.
    pub(crate) fn allocated(&self) -> usize {
        match &self.rule {
            AwayRule::Slices { waiting, open, .. } => waiting.allocated() + open.allocated(),
            AwayRule::Sessions { .. } => 0,
        }
    }

    /// Returns how far behind the watermark (µs) a window in files may fire that fires for the first time.
    pub(crate) fn deferral(&self) -> i64 {
        self.session_rule().map_or(0, |rule| rule.gap / DEFERRED)
    }

    /// Forgets the windows that have fired at this watermark, and those that have closed.
    pub(crate) fn on_fired(&mut self, watermark: i64) {
        let delay = self.delay;
        let AwayRule::Slices { spec, waiting, open, last } = &mut self.rule else { return };
        *last = EndRange::EMPTY;
        for (ends, closing) in [(waiting, Closing::of_windows(delay)), (open, spec.closing())] {
            ends.remove_to(closing.closed_end(watermark), spec.layout.step());
        }
    }

    /// Adds the windows of slices that move to files: the ends in `moved` have not fired, those in `spans` are open.
    /// `fired` is the watermark up to which windows have fired.
    pub(crate) fn take_ends(&mut self, moved: &Ends, spans: impl Iterator<Item = EndRange>, fired: Option<i64>) {
        let AwayRule::Slices { spec, waiting, open, .. } = &mut self.rule else { return };
        let step = spec.layout.step();
        moved.runs().for_each(|run| waiting.insert(run.first, run.last, step));
        spans.for_each(|ends| open.insert(ends.first, ends.last, step));
        spec.thin(waiting);
        spec.thin(open);
        fired.into_iter().for_each(|fired| self.on_fired(fired));
    }

    /// Forgets the first due instant and the number of waiting sessions, before all sessions in files are read.
    pub(crate) fn begin_reading(&mut self) {
        if let AwayRule::Sessions { earliest, held, .. } = &mut self.rule {
            (*earliest, *held) = (None, 0);
        }
    }

    /// Adds some of the sessions in files: `acts` is the first instant (µs) at which one of them fires or ends,
    /// `waiting` the number of those with rows to fire.
    pub(crate) fn on_sessions(&mut self, acts: Option<i64>, waiting: u64) {
        if let AwayRule::Sessions { earliest, held, .. } = &mut self.rule {
            *earliest = earliest.iter().copied().chain(acts).min();
            *held += waiting;
        }
    }

    /// Returns the number of windows that hold rows and have not fired, or somewhat more if they are sparse; for
    /// sessions, as of the last reading.
    pub(crate) fn held(&self) -> u64 {
        match &self.rule {
            AwayRule::Slices { spec, waiting, .. } => waiting.len(spec.layout.step()) as u64,
            AwayRule::Sessions { held, .. } => *held,
        }
    }

    /// Saves the ends of windows; for sessions, the first due instant and the number that wait.
    pub(crate) fn snapshot(&self, out: &mut Writer) {
        match &self.rule {
            AwayRule::Slices { spec: _, waiting, open, last: _ } => {
                for ends in [waiting, open] {
                    out.count(ends.runs().len());
                    for run in ends.runs() {
                        out.number(run.first);
                        out.number(run.last);
                    }
                }
            }
            AwayRule::Sessions { rule: _, earliest, held } => {
                out.optional(*earliest);
                out.count(*held as usize);
            }
        }
    }

    /// Restores the values that [`SpilledWindows::snapshot`] saved. Without `has_runs` it saved each end.
    pub(crate) fn restore(&mut self, saved: &mut Reader<'_>, has_runs: bool) -> Result<()> {
        match &mut self.rule {
            AwayRule::Slices { spec, waiting, open, last: _ } => {
                for ends in [waiting, open] {
                    for _ in 0..saved.count()? {
                        let first = saved.instant()?;
                        let last = if has_runs { saved.instant()? } else { first };
                        spec.check_end(first)?;
                        spec.check_end(last)?;
                        if first > last {
                            return Err(Error::corrupt("snapshot: expected window ends in order"));
                        }
                        ends.insert(first, last, spec.layout.step());
                    }
                }
            }
            AwayRule::Sessions { rule: _, earliest, held } => {
                *earliest = saved.optional()?;
                *held = saved.rows()?;
            }
        }
        Ok(())
    }
}
