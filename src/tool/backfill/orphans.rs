//! Stored cells without a right one: retracted, or left because the input does not tell that they are wrong.

use crate::backfill::{CellKey, Difference, InputTimes, Orphan};
use crate::counts::counted;
use crate::stage::operator::{Collector, Message};
use crate::time::format_instant;
use std::collections::BTreeSet;

/// The stored cells without a right one.
pub(super) struct Orphans {
    /// What the input tells of them.
    pub times: InputTimes,
    /// Whether no event of a compared window can follow: the input has ended, or its rows are in the order of stores.
    pub is_complete: bool,
    /// Those of a stream that wait for its end, because events of their windows may follow that are late. By window end.
    waiting: BTreeSet<CellKey>,
    /// Those of them that a right session has replaced since.
    replaced: BTreeSet<CellKey>,
    /// Stored rows before the first and after the last event.
    beyond: [u64; 2],
    without_events: LeftCells,
    late: LeftCells,
}

/// Stored cells that stay as they are.
#[derive(Default)]
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
    /// Begins without cells; `is_complete` for rows in the order of stores.
    pub fn new(times: InputTimes, is_complete: bool) -> Self {
        let (waiting, replaced) = (BTreeSet::new(), BTreeSet::new());
        let (without_events, late) = (LeftCells::default(), LeftCells::default());
        Self { times, is_complete, waiting, replaced, beyond: [0; 2], without_events, late }
    }

    /// Whether a cell is retracted now.
    pub fn retracts(&self, key: &CellKey) -> bool {
        self.is_complete && self.times.orphan(key) == Orphan::Retracted
    }

    /// Takes the cells of a step that were not retracted; `sessions` are the right ones of the step.
    pub fn take<'a>(&mut self, difference: &Difference, sessions: impl Iterator<Item = &'a CellKey>) {
        self.beyond[0] += difference.before;
        self.beyond[1] += difference.after;
        match self.is_complete {
            true => difference.orphans.iter().for_each(|key| self.leave(key)),
            false => self.waiting.extend(difference.orphans.iter().cloned()),
        }
        for new in sessions.filter(|_| !self.waiting.is_empty()) {
            let first = CellKey { end: new.start, start: i64::MIN, metric: "".into(), dimensions: String::new() };
            let overlaps = |old: &&CellKey| {
                old.start <= new.end && (&old.metric, &old.dimensions) == (&new.metric, &new.dimensions)
            };
            self.replaced.extend(self.waiting.range(first..).filter(overlaps).cloned());
        }
    }

    /// Returns the watermark up to which the correction is complete, if every window that does not wait is at `watermark` (µs).
    pub fn progress(&self, watermark: i64) -> i64 {
        self.waiting.first().map_or(watermark, |key| watermark.min(key.end.saturating_sub(1)))
    }

    /// Whether cells wait for the end of the stream.
    pub fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns up to `limit` waiting cells that are retracted, in the order of their ends, after the end of the stream. The others are left.
    pub fn next_retracted(&mut self, limit: usize) -> BTreeSet<CellKey> {
        let mut retracted = BTreeSet::new();
        while retracted.len() < limit {
            let Some(key) = self.waiting.pop_first() else { break };
            match self.replaced.remove(&key) || self.times.orphan(&key) == Orphan::Retracted {
                true => _ = retracted.insert(key),
                false => self.leave(&key),
            }
        }
        retracted
    }

    fn leave(&mut self, key: &CellKey) {
        match self.times.orphan(key) {
            Orphan::Late => self.late.add(key),
            Orphan::WithoutEvents | Orphan::Retracted => self.without_events.add(key),
        }
    }

    /// Returns the number of cells that stay as they are.
    pub fn left(&self) -> u64 {
        self.beyond[0] + self.beyond[1] + self.without_events.count + self.late.count
    }

    /// Reports the cells that stay as they are.
    pub fn report(&self, out: &mut dyn Collector) {
        let Some((first, last)) = self.times.ends() else {
            if self.times.is_empty() {
                let line =
                    "the input has no events; nothing was compared (if live read none either, use --all-records)";
                out.note(Message::Warning(line.to_owned()));
                out.set_verdict(1);
            }
            return;
        };
        let rows = |count| counted(count, ["stored row", "stored rows"]);
        let side = |count, side: &str, time, event: &str, flag: &str| {
            let (rows, time) = (rows(count), format_instant(time));
            format!("{rows} {side} {time}, the {event} event of the input, stay as they are; {flag} includes them")
        };
        let whole = "--all-records if the input holds all records that live read";
        if self.beyond[0] > 0 {
            out.note(Message::Info(format!(
                "{}, and {whole}",
                side(self.beyond[0], "before", first, "first", "--since")
            )));
        }
        if self.beyond[1] > 0 {
            out.note(Message::Info(format!("{}, and {whole}", side(self.beyond[1], "after", last, "last", "--until"))));
        }
        if let Some((rows, first)) = self.without_events.shown() {
            out.note(Message::Warning(format!(
                "{rows} of windows without an event in the input, {first}: not retracted, because the input may lack a part; \
                 --since with --until, or {whole}, retracts them"
            )));
        }
        if let Some((rows, first)) = self.late.shown() {
            out.note(Message::Warning(format!(
                "{rows} whose events are all late in this run, {first}: not retracted; give --out-of-orderness of the run that \
                 wrote them, or --without-late, which retracts them"
            )));
        }
    }
}
