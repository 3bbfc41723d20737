//! Stored cells without a right one: retracted, or left because the input does not prove that they are wrong. Besides,
//! stored cells that count more events than the right ones, because these may be late in this run only.

use super::bounds::LateRules;
use crate::stage::operator::Collector;
use evt_core::backfill::{CellKey, Coverage, Difference, InputTimes, Orphan, SessionCells};
use evt_core::counts::counted;
use evt_core::time::{format_duration, format_instant};
use std::collections::{BTreeMap, BTreeSet};

/// The stored cells without a right one.
#[derive(Default)]
pub(super) struct Orphans {
    /// The event times of the input, which decide the cells that it can correct.
    pub times: InputTimes,
    /// Whether no event of a compared window can follow: the input has ended, or stores return its rows day by day.
    pub is_complete: bool,
    rules: LateRules,
    /// Rows of a stream that wait for its end, because late events of their windows may follow. Each has the number of
    /// its events. By window end.
    waiting: BTreeMap<CellKey, i64>,
    /// The waiting rows that are sessions.
    sessions: SessionCells,
    /// The waiting rows that a right session has replaced.
    replaced: BTreeSet<CellKey>,
    /// Stored rows before the first and after the last event.
    beyond: [u64; 2],
    without_events: LeftCells,
    late: LeftCells,
    changed: LateChanges,
    /// Cells that count more events than the right ones, of which some are late in this run and may not have been in
    /// the run that wrote them.
    undecided: LeftCells,
    /// Other ones that counted more events, of which some may turn out to be late in the rest of a stream.
    may_be_late: Vec<CellKey>,
}

/// Cells that changed because of late events.
#[derive(Clone, Default)]
struct LateChanges {
    /// Retracted ones, all of whose events are late in this run.
    retracted: LeftCells,
    /// Corrected ones that counted more events before, of which some are late.
    lowered: LeftCells,
}

/// Lowered cells whose late events are looked for at the end of a stream. More of them tell nothing new.
const LOWERED_MAX: usize = 10_000;

/// Stored cells that a line of the report is about.
#[derive(Clone, Default)]
struct LeftCells {
    count: u64,
    first: Option<CellKey>,
}

impl LeftCells {
    fn add(&mut self, key: &CellKey) {
        self.count += 1;
        self.first.get_or_insert_with(|| key.clone());
    }

    /// Returns their number and the first one for a message, if there are any.
    fn shown(&self) -> Option<(String, String)> {
        let CellKey { metric, dimensions, start, .. } = self.first.as_ref()?;
        let first = format!("first {metric} {dimensions} from {}", format_instant(*start));
        Some((counted(self.count, ["stored row", "stored rows"]), first))
    }
}

impl Orphans {
    /// Begins without cells; `is_complete` for rows that stores return day by day.
    pub fn new(times: InputTimes, is_complete: bool, rules: LateRules) -> Self {
        Self { times, is_complete, rules, ..Self::default() }
    }

    /// Whether a cell without a right one is retracted, once all events of its window have been read.
    fn is_retracted(&self, key: &CellKey, rows: i64) -> bool {
        match self.times.orphan(key, rows) {
            Orphan::Retracted => true,
            Orphan::Late => !self.rules.keeps_late && self.rules.known.has(&key.metric),
            Orphan::WithoutEvents => false,
        }
    }

    /// Notes the corrected cells of a step that counted more events than they do now.
    fn note_lowered(&mut self, difference: &Difference) {
        for change in &difference.changes {
            if let (Some(old), None, true) = (change.old, change.new, self.is_complete) {
                self.note_retracted(&change.key, old.content.rows);
            }
            let (Some(old), Some(new)) = (change.old, change.new) else { continue };
            if old.content.rows <= new.rows {
                continue;
            }
            if self.times.has_late(&change.key) {
                self.changed.lowered.add(&change.key);
            } else if !self.is_complete && self.may_be_late.len() < LOWERED_MAX {
                self.may_be_late.push(change.key.clone());
            }
        }
    }

    /// Returns the corrected cells that counted more events, of which some are late in this run.
    fn lowered(&self) -> LeftCells {
        let mut lowered = self.changed.lowered.clone();
        self.may_be_late.iter().filter(|key| self.times.has_late(key)).for_each(|key| lowered.add(key));
        lowered
    }

    /// Returns whether a stored cell is compared. Those before the first event of a stream wait for its end: earlier
    /// events may follow.
    pub fn coverage(&self, key: &CellKey) -> Coverage {
        match self.times.coverage(key) {
            Coverage::Before if !self.is_complete => Coverage::Compared,
            found => found,
        }
    }

    /// Returns the first event so far (µs), if cells before it wait for the end of the stream.
    pub fn first_so_far(&self) -> Option<i64> {
        self.times.first_compared().filter(|_| !self.is_complete)
    }

    /// Whether a cell that counts so many events is retracted now.
    pub fn retracts(&self, key: &CellKey, rows: i64) -> bool {
        self.is_complete && self.is_retracted(key, rows)
    }

    /// Takes the cells of a step that were not retracted, and those that were lowered; `right` are its right ones, of
    /// which `is_session` tells the sessions.
    pub fn take<'a>(
        &mut self,
        difference: &Difference,
        right: impl Iterator<Item = &'a CellKey>,
        is_session: &dyn Fn(&CellKey) -> bool,
    ) {
        self.note_lowered(difference);
        self.beyond[0] += difference.before;
        self.beyond[1] += difference.after;
        if self.is_complete {
            difference.orphans.iter().for_each(|(key, rows)| self.leave(key, *rows));
        } else {
            difference.orphans.keys().filter(|key| is_session(key)).for_each(|key| self.sessions.add(key));
            self.waiting.extend(difference.orphans.iter().map(|(key, rows)| (key.clone(), *rows)));
        }
        for new in right.filter(|key| is_session(key)) {
            self.replaced.extend(self.sessions.overlapping(new).cloned());
        }
    }

    /// Returns the watermark up to which the correction is complete, if every window that does not wait is at
    /// `watermark` (µs).
    pub fn progress(&self, watermark: i64) -> i64 {
        self.waiting.first_key_value().map_or(watermark, |(key, _)| watermark.min(key.end.saturating_sub(1)))
    }

    /// Whether cells wait for the end of the stream, except those before its first event: what is not read may have
    /// them.
    pub fn are_waiting(&self) -> bool {
        self.waiting.last_key_value().is_some_and(|(key, _)| self.times.coverage(key) != Coverage::Before)
    }

    /// Returns up to `limit` waiting cells that are retracted, in the order of their ends, after the end of the stream.
    /// The others are left.
    pub fn next_retracted(&mut self, limit: usize) -> BTreeSet<CellKey> {
        let mut retracted = BTreeSet::new();
        while retracted.len() < limit {
            let Some((key, rows)) = self.waiting.pop_first() else { break };
            match self.replaced.remove(&key) {
                true => _ = retracted.insert(key),
                false if self.times.coverage(&key) == Coverage::Before => self.beyond[0] += 1,
                false if self.is_retracted(&key, rows) => {
                    self.note_retracted(&key, rows);
                    retracted.insert(key);
                }
                false => self.leave(&key, rows),
            }
        }
        retracted
    }

    /// Notes a retracted cell that counted so many events.
    fn note_retracted(&mut self, key: &CellKey, rows: i64) {
        if self.times.orphan(key, rows) == Orphan::Late {
            self.changed.retracted.add(key);
        }
    }

    fn leave(&mut self, key: &CellKey, rows: i64) {
        match self.times.orphan(key, rows) {
            Orphan::Late => self.late.add(key),
            Orphan::WithoutEvents | Orphan::Retracted => self.without_events.add(key),
        }
    }

    /// Whether a cell that counts more events than the right one stays, because nothing says that those of its events
    /// that are late in this run were late in the run that wrote it.
    pub fn is_undecided(&self, key: &CellKey) -> bool {
        !self.rules.known.has(&key.metric) && self.times.has_late(key)
    }

    /// Takes the cells of a step that stay although they count more events; returns the first one that is decided.
    pub fn take_kept(&mut self, kept: &BTreeSet<CellKey>) -> Option<CellKey> {
        let (undecided, decided): (Vec<_>, Vec<_>) = kept.iter().partition(|key| self.is_undecided(key));
        undecided.into_iter().for_each(|key| self.undecided.add(key));
        decided.first().copied().cloned()
    }

    /// Returns the number of cells that are not decided.
    pub fn undecided(&self) -> u64 {
        self.undecided.count
    }

    /// Returns the number of cells that stay as they are.
    pub fn left(&self) -> u64 {
        self.beyond[0] + self.beyond[1] + self.without_events.count + self.late.count
    }

    /// Reports the cells that stay as they are, and the lowered ones; `bound` is the out-of-orderness of this run (µs).
    pub fn report(&self, bound: Option<i64>, out: &mut dyn Collector) {
        let Some((first, last)) = self.times.ends() else {
            if self.times.is_empty() {
                let line = "the input has no events; nothing was compared (if the live run read none either, use \
                            --all-records)";
                out.warn(line);
                out.set_verdict(1);
            }
            return;
        };
        let rows = |count| counted(count, ["stored row", "stored rows"]);
        let side = |count, side: &str, time, event: &str, flag: &str| {
            let (rows, time) = (rows(count), format_instant(time));
            let (stay, them) = if count == 1 { ("stays as it is", "it") } else { ("stay as they are", "them") };
            format!("{rows} {side} {time}, the {event} event of the input, {stay}; {flag} includes {them}")
        };
        let whole = "--all-records if the input holds all records that the live run read";
        if self.beyond[0] > 0 {
            out.inform(format!("{}, and {whole}", side(self.beyond[0], "before", first, "first", "--since")));
        }
        if self.beyond[1] > 0 {
            out.inform(format!("{}, and {whole}", side(self.beyond[1], "after", last, "last", "--until")));
        }
        if let Some((rows, first)) = self.without_events.shown() {
            out.warn(format!(
                "{rows} not retracted, {first}: the windows have no event in the input, which may be incomplete; \
                 --since with --until, or {whole}, retracts them"
            ));
        }
        if let Some((rows, first)) = self.late.shown() {
            out.warn(format!(
                "{rows} not retracted, because all their events may be late in this run, {first}{}",
                if self.rules.keeps_late { "; --keep-late keeps them" } else { "" }
            ));
        }
        let bound = bound.map_or_else(|| "all".to_owned(), format_duration);
        if !self.rules.keeps_late && self.late.count > 0 {
            out.set_verdict(1);
        }
        if let Some((rows, first)) = self.changed.retracted.shown() {
            out.warn(format!(
                "{rows} retracted, because all their events are late in this run (--out-of-orderness {bound}), {first}; if the run \
                 that wrote them had another --out-of-orderness or lateness, repeat with it; --keep-late keeps such rows"
            ));
        }
        if let Some((rows, first)) = self.lowered().shown() {
            out.warn(format!(
                "{rows} corrected to fewer events, because some are late in this run (--out-of-orderness {bound}), {first}; if \
                 the run that wrote them had another --out-of-orderness or lateness, repeat with it"
            ));
        }
    }

    /// Reports the cells that are not decided.
    pub fn report_undecided(&self, bound: Option<i64>, out: &mut dyn Collector) {
        let Some((rows, first)) = self.undecided.shown() else { return };
        let bound = bound.map_or_else(|| "all".to_owned(), format_duration);
        out.warn(format!(
            "{rows} not changed, {first}: some of their events are late with --out-of-orderness {bound}, and nothing says \
             what the run that wrote them had; give its --out-of-orderness (all if its inputs ended)"
        ));
        out.set_verdict(1);
    }
}
