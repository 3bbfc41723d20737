//! The operator of a replay: each letter is replayed, was replayed before, is still faulty, or is passed over.

use super::target::{ReplayTarget, Replayed};
use crate::stage::feeds::FeedInput;
use crate::stage::operator::{Collector, InputEnded, Operator};
use crate::tool::pace::Pace;
use arrow::array::{ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int32Type, SchemaRef};
use evt_core::counts::{Counts, counted};
use evt_core::error::Result;
use evt_core::frame::Control;
use evt_core::json::text::write_uuid;
use evt_core::kind::dead::column::ATTEMPTS;
use evt_core::kind::dead::{Fault, KeptRows, Rejected, is_partial};
use evt_core::kind::event::column::EVENT_ID;
use evt_core::kind::selection_schema;
use evt_core::op::validate::Validator;
use evt_core::replay::hold::HeldLetters;
use evt_core::replay::ledger::{Id, Ledger, LetterState, ReplayEntry};
use evt_core::replay::record::replayed;
use evt_core::replay::repair::{LetterRows, Repair};
use evt_run::registry::Registry;
use evt_run::run::Run;
use serde_json::json;
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

/// Maximum number of letters of a batch of the ledger.
const BATCH: usize = 500;
/// Batches per second with `--rate`, so that the letters are spread over the second.
const BATCHES: u64 = 20;
/// Maximum number of letters that `--dry-run` remembers; it shows further copies of others as letters of their own.
const WOULD_REPLAY_MAX: usize = 1 << 20;

/// What is said of letters whose records are not JSON, of partial ones, and of those in a batch of another target.
const FOREIGN: &str = "not JSON; -f csv --header NAMES, -f syslog, clf, logfmt or regex:PATTERN reads records of the \
    format of the input";
const PARTIAL: &str = "passed over: other metrics have the event, and would count it twice; evt-backfill with --only and the \
    metrics that failed (column metrics) corrects these";
const OF_ANOTHER_TARGET: &str = "to an unfinished batch of another target; a replay to that target finishes it";

/// Repairs letters, validates them and writes them to the target.
pub(super) struct Replay {
    run: Rc<Run>,
    repair: Repair,
    /// The letters that wait; none with `--dry-run`.
    held: HeldLetters,
    validator: Validator,
    schemas: Option<Box<dyn Registry>>,
    /// `None` with `--dry-run`.
    target: Option<ReplayTarget>,
    /// The ledger. With `--dry-run` it is opened only for reading, and `None` if it does not exist.
    ledger: Option<Box<dyn Ledger>>,
    /// The ids of the letters that `--dry-run` would have replayed so far, at most [`WOULD_REPLAY_MAX`].
    would_replay: HashSet<Id>,
    /// The rate of letters that are tried.
    pace: Pace,
    totals: Totals,
    progress: LetterProgress,
}

/// Letters by outcome.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    replayed: u64,
    done: u64,
    faulty: u64,
    cut: u64,
    partial: u64,
    claimed: u64,
    left: u64,
}

/// The part of the input that was read.
#[derive(Clone, Copy, Debug)]
struct BytesRead {
    done: u64,
    total: u64,
}

/// How far the letters have come, for the progress line.
#[derive(Clone, Copy, Debug, Default)]
struct LetterProgress {
    /// The letters that were read, and those of them that were tried or passed over.
    received: u64,
    passed: u64,
    bytes: Option<BytesRead>,
}

impl LetterProgress {
    /// Returns the expected number of letters: what was read has as many per byte as the rest.
    fn expected(&self) -> u64 {
        let Some(BytesRead { done, total }) = self.bytes.filter(|read| (1..=read.total).contains(&read.done)) else {
            return self.received;
        };
        (self.received as f64 * (total as f64 / done as f64)) as u64
    }
}

/// A batch of letters that is being replayed.
struct Batch<'a> {
    letters: &'a RecordBatch,
    columns: LetterRows<'a>,
    /// The row that `--dry-run` shows for each letter, in the order of the letters.
    shown: Vec<Shown>,
}

impl<'a> Batch<'a> {
    /// Returns the events of the batch with the entries of the ledger for them.
    fn replayed(&self, repaired: &'a KeptRows, entries: &'a [ReplayEntry]) -> Replayed<'a> {
        Replayed { events: &repaired.batch, letters: self.letters, rows: &repaired.places, entries }
    }
}

#[derive(Clone, Debug, Default)]
struct Shown {
    outcome: &'static str,
    event_id: Option<Id>,
    fault: Option<Fault>,
    record: Option<String>,
}

impl Replay {
    /// Makes an operator without a target, for `--dry-run`.
    pub fn new(
        repair: Repair,
        schemas: Option<Box<dyn Registry>>,
        validator: Validator,
        pace: Pace,
        run: Rc<Run>,
    ) -> Self {
        let (totals, progress) = (Totals::default(), LetterProgress::default());
        let (held, would_replay) = (HeldLetters::default(), HashSet::new());
        let (target, ledger) = (None, None);
        Self { run, repair, held, validator, schemas, target, ledger, would_replay, pace, totals, progress }
    }

    /// Adds the target and the ledger.
    pub fn with(self, target: Option<ReplayTarget>, ledger: Option<Box<dyn Ledger>>) -> Self {
        Self { target, ledger, ..self }
    }

    /// Returns the target, to be ended.
    pub fn take_target(&mut self) -> Option<ReplayTarget> {
        self.target.take()
    }

    /// Returns the schema of the rows that `--dry-run` shows, one per letter.
    pub fn report_schema() -> SchemaRef {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let mut fields = vec![text("letter_id"), text("event_id"), text("source_topic"), text("partition")];
        fields.push(Field::new("offset", DataType::Int64, false));
        fields.extend([text("outcome"), text("error_type"), text("error_message"), text("record")]);
        selection_schema(fields, "dead")
    }

    /// Returns the counts of the letters that have got an outcome since `before`. The stage counts faulty ones, unless
    /// `--dry-run` writes none.
    fn counts_since(&self, before: Totals) -> Counts {
        let faulty = |totals: Totals| if self.target.is_none() { totals.faulty } else { 0 };
        let passed = |totals: Totals| totals.cut + totals.partial + totals.claimed + totals.left + faulty(totals);
        Counts {
            out: self.totals.replayed - before.replayed,
            duplicate: self.totals.done - before.done,
            filtered: passed(self.totals) - passed(before),
            ..Counts::default()
        }
    }

    fn on_letters(&mut self, letters: RecordBatch, out: &mut dyn Collector) -> Result<Counts> {
        let (taken, before) = (letters.num_rows() as u64, self.totals);
        self.progress.received += taken;
        let mut ready = vec![];
        if self.target.is_none() {
            ready.push(letters);
        } else if self.repair.may_lose() {
            // Letters that were replayed have no names to check, and need not wait.
            let is_done = self.are_done(&letters)?;
            ready.push(filter_record_batch(&letters, &is_done)?);
            let due = filter_record_batch(&letters, &arrow::compute::not(&is_done)?)?;
            ready.extend(self.held.push(due, &mut self.repair)?);
        } else {
            ready.extend(self.held.push(letters, &mut self.repair)?);
        }
        ready.iter().try_for_each(|letters| self.on_ready(letters, out))?;
        Ok(Counts { taken, ..self.counts_since(before) })
    }

    /// Returns for each letter whether it was replayed before.
    fn are_done(&mut self, letters: &RecordBatch) -> Result<BooleanArray> {
        let columns = LetterRows::new(letters);
        let ids: Vec<Id> = (0..letters.num_rows()).map(|row| columns.id(row)).collect();
        let mut done = Vec::with_capacity(ids.len());
        for ids in ids.chunks(BATCH) {
            match &mut self.ledger {
                Some(ledger) => done.extend(ledger.states(ids)?.into_iter().map(|state| state == LetterState::Done)),
                None => done.extend(ids.iter().map(|_| false)),
            }
        }
        Ok(done.into())
    }

    fn on_ready(&mut self, letters: &RecordBatch, out: &mut dyn Collector) -> Result<()> {
        let rows = letters.num_rows();
        let of_rate = |rate: u64| usize::try_from(rate / BATCHES).unwrap_or(BATCH).clamp(1, BATCH);
        let size = self.pace.rate.map_or(BATCH, of_rate);
        let columns = LetterRows::new(letters);
        let mut start = 0;
        while start < rows && !out.is_stopping() {
            let size = distinct(&columns, start, size.min(rows - start));
            self.on_batch_of(&letters.slice(start, size), out)?;
            start += size;
            self.progress.passed += size as u64;
            let LetterProgress { passed, .. } = self.progress;
            out.show_part(passed, self.progress.expected().max(passed));
        }
        // The source stops at a signal; so does this batch.
        self.totals.left += (rows - start) as u64;
        Ok(())
    }

    fn on_batch_of(&mut self, letters: &RecordBatch, out: &mut dyn Collector) -> Result<()> {
        let shown = vec![Shown::default(); letters.num_rows()];
        let mut batch = Batch { letters, columns: LetterRows::new(letters), shown };
        let due = self.due(&mut batch)?;
        self.pace.wait(due.len() as u64, &self.run)?;
        let mut repaired = self.repair.repair(&batch.columns, &due, out.now())?;
        self.validate(&mut repaired)?;
        self.replay(&mut batch, &mut repaired)?;
        self.reject(&mut batch, &repaired.rejected, out)?;
        if self.target.is_none() {
            out.rows(&self.report(&batch)?)?;
        }
        Ok(())
    }

    /// Returns the rows of the letters that are due: whole, not partial, and not replayed before.
    fn due(&mut self, batch: &mut Batch<'_>) -> Result<Vec<usize>> {
        let ids: Vec<Id> = (0..batch.letters.num_rows()).map(|row| batch.columns.id(row)).collect();
        let found = match &mut self.ledger {
            Some(ledger) => ledger.states(&ids)?,
            None => vec![LetterState::Due; ids.len()],
        };
        let (mut due, partial) = (vec![], is_partial(batch.letters));
        for (row, found) in found.into_iter().enumerate() {
            batch.shown[row].outcome = if found == LetterState::Done || self.would_replay.contains(&ids[row]) {
                self.totals.done += 1;
                "done"
            } else if batch.columns.is_cut(row) {
                self.totals.cut += 1;
                "cut"
            } else if partial.value(row) {
                self.totals.partial += 1;
                "partial"
            } else {
                due.push(row);
                "replay"
            };
        }
        Ok(due)
    }

    /// Moves events that violate their schema to the faults.
    fn validate(&mut self, repaired: &mut KeptRows) -> Result<()> {
        match &mut self.schemas {
            Some(schemas) if repaired.batch.num_rows() > 0 => {
                let verdicts = self.validator.check(&repaired.batch, schemas.as_mut())?;
                repaired.remove(verdicts.faults)
            }
            _ => Ok(()),
        }
    }

    /// Writes the events to the target.
    fn replay(&mut self, batch: &mut Batch<'_>, repaired: &mut KeptRows) -> Result<()> {
        if let Some(target) = self.target.as_ref().filter(|_| repaired.batch.num_rows() > 0) {
            let entries = entries(batch, repaired);
            let rejected = target.rejected(&batch.replayed(repaired, &entries))?;
            repaired.remove(rejected)?;
        }
        if repaired.batch.num_rows() == 0 {
            return Ok(());
        }
        let entries = entries(batch, repaired);
        let found = match (&mut self.target, &mut self.ledger) {
            (Some(target), Some(ledger)) => {
                let written = target.write(&batch.replayed(repaired, &entries), ledger.as_mut())?;
                let mut found: Vec<Option<LetterState>> = written.found.into_iter().map(Some).collect();
                for rejected in written.rejected {
                    found[rejected.row] = None;
                    repaired.reject(rejected)?;
                }
                found
            }
            _ => {
                let records = replayed(&repaired.batch)?;
                let mut objects = evt_core::format::jsonl::Objects::try_new(&records)?;
                for (at, row) in repaired.places.iter().enumerate() {
                    objects.write(at, batch.shown[*row].record.get_or_insert_default());
                    batch.shown[*row].event_id = Some(entries[at].event_id);
                    if self.would_replay.len() < WOULD_REPLAY_MAX {
                        self.would_replay.insert(entries[at].letter_id);
                    }
                }
                vec![Some(LetterState::Due); entries.len()]
            }
        };
        for found in found.into_iter().flatten() {
            *match found {
                LetterState::Due => &mut self.totals.replayed,
                LetterState::Done => &mut self.totals.done,
                LetterState::Claimed => &mut self.totals.claimed,
            } += 1;
        }
        Ok(())
    }

    /// Makes letters of those that are still faulty, with one attempt more.
    fn reject(&mut self, batch: &mut Batch<'_>, faults: &[Rejected], out: &mut dyn Collector) -> Result<()> {
        if faults.is_empty() {
            return Ok(());
        }
        self.totals.faulty += faults.len() as u64;
        if self.target.is_none() {
            for Rejected { row, fault } in faults {
                (batch.shown[*row].outcome, batch.shown[*row].fault) = ("faulty", Some(fault.clone()));
            }
            return Ok(());
        }
        let events: Vec<Id> = faults.iter().map(|rejected| batch.columns.event_id(rejected.row)).collect();
        let mut attempts: Vec<i32> = batch.letters.column(ATTEMPTS).as_primitive::<Int32Type>().values().to_vec();
        if let Some(ledger) = &mut self.ledger {
            ledger.count_failed(&events)?;
            for (rejected, tried) in faults.iter().zip(ledger.attempts(&events)?) {
                let tried = i32::try_from(tried.saturating_add(1)).unwrap_or(i32::MAX);
                let before = &mut attempts[rejected.row];
                *before = tried.max(before.saturating_add(1));
            }
        }
        let mut columns = batch.letters.columns().to_vec();
        columns[ATTEMPTS] = Arc::new(Int32Array::from(attempts));
        let letters = RecordBatch::try_new(batch.letters.schema(), columns)?;
        faults.iter().try_for_each(|Rejected { row, fault }| out.dead(&letters, *row, fault))
    }

    /// Returns the rows that `--dry-run` shows for a batch.
    fn report(&self, batch: &Batch<'_>) -> Result<RecordBatch> {
        let rows = 0..batch.letters.num_rows();
        let uuid = |id: Id| {
            let mut text = String::new();
            write_uuid(&mut text, &id);
            text
        };
        let texts = |text: &dyn Fn(usize) -> Option<String>| -> ArrayRef {
            Arc::new(rows.clone().map(text).collect::<StringArray>())
        };
        let (columns, shown) = (&batch.columns, &batch.shown);
        let columns: Vec<ArrayRef> = vec![
            texts(&|row| Some(uuid(columns.id(row)))),
            texts(&|row| Some(uuid(shown[row].event_id.unwrap_or_else(|| columns.event_id(row))))),
            texts(&|row| Some(columns.position(row).origin.to_owned())),
            texts(&|row| Some(columns.position(row).partition.to_owned())),
            Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| columns.position(row).offset))),
            texts(&|row| Some(shown[row].outcome.to_owned())),
            texts(&|row| shown[row].fault.as_ref().map(|fault| fault.error_type.name().to_owned())),
            texts(&|row| shown[row].fault.as_ref().map(|fault| fault.message.clone())),
            texts(&|row| shown[row].record.clone()),
        ];
        Ok(RecordBatch::try_new(Self::report_schema(), columns)?)
    }

    /// Reports the letters by outcome at the end.
    fn conclude(&self, out: &mut dyn Collector) {
        let Totals { replayed, done, faulty, cut, partial, claimed, left } = self.totals;
        let detail = json!({
            "replayed": replayed, "done": done, "faulty": faulty, "cut": cut, "partial": partial, "claimed": claimed, "left": left
        });
        out.detail("letters", detail);
        let outcome = match &self.target {
            Some(target) if target.is_once() => format!("{replayed} replayed to {}, each once", target.shown),
            Some(target) => format!("{replayed} replayed to {}, each at least once", target.shown),
            None => format!("{replayed} would be replayed"),
        };
        let would_change = if self.target.is_none() { replayed } else { 0 };
        let (was, is) = (["was", "were"], ["is", "are"]);
        let counts = [
            (self.repair.foreign(), is, FOREIGN),
            (claimed, ["belongs", "belong"], OF_ANOTHER_TARGET),
            (left, was, "not tried, because the run was stopped"),
            (partial, was, PARTIAL),
        ];
        let shown = |(count, verbs, what): (u64, [&str; 2], &str)| {
            (count > 0).then(|| format!("{} {what}", counted_letters(count, verbs)))
        };
        let cut_letters = shown((cut, was, "passed over: only the beginning of the record is left"));
        let lines = cut_letters.into_iter().chain(self.repair.warnings()).chain(counts.into_iter().filter_map(shown));
        lines.for_each(|line| out.warn(line));
        let mut line =
            format!("letters: {outcome}; {} replayed before, {} still faulty", counted(done, was), counted(faulty, is));
        let reasons = [
            (faulty, is, "still faulty"),
            (cut + partial, was, "passed over"),
            (claimed, is, "in a batch of another target"),
            (would_change, is, "not replayed yet"),
        ];
        let reasons = Vec::from_iter(reasons.into_iter().filter_map(shown));
        if reasons.is_empty() {
            return out.inform(line);
        }
        line += &format!("; exit status 1, because {}", reasons.join(", "));
        out.set_verdict(1);
        out.warn(line);
    }
}

/// Returns how many of the next `size` letters have different ids. A further copy of a letter, which may be repaired in
/// another way, is in the next batch: then the ledger knows whether the first one was replayed.
fn distinct(columns: &LetterRows<'_>, start: usize, size: usize) -> usize {
    let mut seen = HashSet::new();
    (start..start + size).take_while(|row| seen.insert(columns.id(*row))).count()
}

/// Returns a number of letters with the verb in its singular or plural form.
fn counted_letters(count: u64, [one, many]: [&str; 2]) -> String {
    counted(count, [&format!("letter {one}"), &format!("letters {many}")])
}

/// Returns the ids of letters and of the events that replace them.
fn entries(batch: &Batch<'_>, repaired: &KeptRows) -> Vec<ReplayEntry> {
    let ids = repaired.batch.column(EVENT_ID).as_fixed_size_binary();
    let entry = |(at, row): (usize, &usize)| ReplayEntry {
        letter_id: batch.columns.id(*row),
        event_id: ids.value(at).try_into().unwrap_or_default(),
    };
    repaired.places.iter().enumerate().map(entry).collect()
}

/// The run keeps the operator after the stage, to end its target.
impl Operator for Rc<RefCell<Replay>> {
    fn on_batch(&mut self, batch: RecordBatch, _from: FeedInput, out: &mut dyn Collector) -> Result<Counts> {
        self.borrow_mut().on_letters(batch, out)
    }

    fn on_control(&mut self, message: Control, _from: FeedInput, _out: &mut dyn Collector) -> Result<()> {
        if let Control::Progress(read) = message {
            self.borrow_mut().progress.bytes = read.bytes_total.map(|total| BytesRead { done: read.bytes_done, total });
        }
        Ok(())
    }

    fn on_end(&mut self, _end: &InputEnded, out: &mut dyn Collector) -> Result<Counts> {
        let mut replay = self.borrow_mut();
        let before = replay.totals;
        let Replay { held, repair, .. } = &mut *replay;
        let rest = held.release(repair)?;
        rest.iter().try_for_each(|letters| replay.on_ready(letters, out))?;
        replay.conclude(out);
        Ok(replay.counts_since(before))
    }

    fn restore(self: Box<Self>, _state: &[u8]) -> Result<Box<dyn Operator>> {
        Ok(self)
    }
}
