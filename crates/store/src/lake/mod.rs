//! `parquet:DIR`: a lake of one kind, one directory per day (`date=YYYY-MM-DD`), readable by DuckDB, Arrow and Spark.
//!
//! ```text
//! rows ─► file::Stream (metrics: metric::Results) ─► parts (.evt/NAME.part)
//! parts ─► repeat (which rows has the lake?) ─► sync ─► publish: rename into the day's directory
//!       │                                                (at the end, a roll, or the commit of an epoch)
//!       └► mode=replace: replace (may the days be replaced?) ─► exchange
//! ```
//!
//! Files appear at the proven end, when rolled (`?roll=128MiB,10m`: by size, which a repeated run repeats, or by age,
//! which it does not), or at the commit of an epoch; with a checkpoint and `?roll=`, several epochs join (module
//! `waiting`). A row whose key the lake has already is not stored again: the module `repeat` leaves it out of the new
//! file, and `metric` replaces a metric in the file that has it.
//!
//! With `?mode=replace` no file appears before the proven end, even if files are rolled. At that end the module
//! `replace` checks all days of the run together, and `exchange` exchanges them for versions that hold only the run's
//! rows.
//!
//! `correct` corrects metrics, also while a run writes others. `directory` is the lake's directory with its lock, parts
//! and epochs, `disk` its files and syncs, `file` writes Parquet files, `extents` notes their positions in the footers,
//! `metric` collects metrics, `read` reads a lake back, and `serving` answers with
//! its metrics.

mod correct;
pub(crate) mod directory;
pub(crate) mod disk;
mod exchange;
pub(crate) mod extents;
pub(crate) mod file;
pub(crate) mod metric;
pub(crate) mod read;
pub(crate) mod repeat;
mod replace;
pub(crate) mod serving;
pub(crate) mod waiting;

use crate::lake::directory::{Lake, LakePart, NamesLock, OPTIONS, Published, SCHEME, root};
use crate::lake::file::Stream;
use crate::lake::metric::Results;
use crate::lake::read as lake_read;
use crate::lake::read::Day;
use crate::lake::read::file::{LakeFile, check_kind};
use crate::lake::repeat::{KnownRows, NewRows, PartForm, StoredFiles};
use crate::lake::replace::{Loss, RunKeys};
use crate::lake::waiting::{CommittedEpochs, Roll, WaitingFile};
use crate::progress::NotedMetrics;
use crate::rows::{count_rejected, fit_rows};
use crate::sink::write_rows;
use crate::{
    CheckScope, CorrectionStore, Medium, Notice, OpenOptions, RowsToWrite, Sink, SinkOutcome, Store, StoreReader,
    Visibility, rows,
};
use arrow::array::RecordBatch;
use evt_core::counts::{SinkCounts, counted};
use evt_core::error::{Error, Result};
use evt_core::format::parquet::{check_columns, parse_columns};
use evt_core::frame::MetricProgress;
use evt_core::kind::Kind;
use evt_core::kind::dead::Rejected;
use evt_core::parse::size;
use evt_core::time::parse_duration;
use evt_run::checkpoint::epoch::{Epoch, EpochRows};
use evt_run::client::Location;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The row in [`super::ALL`].
pub static STORE: Store = Store {
    scheme: SCHEME,
    also: &[],
    about: "parquet:DIR: a lake of Parquet files by day, complete files only (?roll=128MiB,10m ?columns=auto ?mode=append|replace ?shrink=ok)",
    extensions: &[],
    magic: b"",
    client: None,
    medium: Medium::Directory,
    visibility: Visibility::AtEnd,
    replaces: |location| location.option("mode") == Some("replace"),
    options: &OPTIONS,
    kinds: &Kind::ALL,
    check: |location, scope| LakeOptions::try_new(location)?.check(scope).map(|()| None),
    open: |location, options| Ok(Box::new(Parquet::open(location, options)?)),
    reader: StoreReader {
        tables: lake_read::tables,
        read: lake_read::read,
        stream_extents: Some(lake_read::stream_extents),
        extent: Some(lake_read::extent),
        waits: Some(directory::waits),
        kept_since: None,
        serving: Some(serving::open),
    },
    corrections: Some(CorrectionStore { open: correct::open, open_to_compare: correct::open_to_compare }),
    ledger: None,
    rules: None,
    upkeep: None,
};

/// The number of files by outcome.
#[derive(Clone, Copy, Debug, Default)]
struct FileCounts {
    new: u64,
    replaced: u64,
    present: u64,
    removed: u64,
}

/// An open output in a lake.
struct Parquet {
    lake: Lake,
    options: OpenOptions,
    roll: Option<Roll>,
    property_columns: bool,
    replace: Option<Replace>,
    kind: Option<Kind>,
    stream: Option<Stream>,
    results: Results,
    stored: KnownRows,
    /// Finished parts that are not published.
    parts: Vec<LakePart>,
    /// The file for the rows of the epoch that is being committed, if they wait for those of other epochs.
    waiting: Option<WaitingFile>,
    /// When the oldest rows that wait were written (µs), as far as this run knows.
    since: Option<i64>,
    counts: SinkCounts,
    tally: FileCounts,
    noted: NotedMetrics,
}

/// The state of `mode=replace`.
struct Replace {
    /// `shrink=ok`: the run replaces days without comparing them.
    may_shrink: bool,
    run_keys: RunKeys,
    /// The days of the run's rows, retracted ones included.
    touched: BTreeSet<i64>,
}

/// The options of a URI.
struct LakeOptions {
    root: PathBuf,
    roll: Option<Roll>,
    /// `columns=auto`: properties get columns.
    property_columns: bool,
    replace: bool,
    may_shrink: bool,
}

impl LakeOptions {
    fn try_new(location: &Location) -> Result<Self> {
        let replace = match location.option("mode") {
            None | Some("append") => false,
            Some("replace") => true,
            Some(other) => {
                return Err(Error::usage(format!("parquet: mode: expected append or replace, found '{other}'")));
            }
        };
        let may_shrink = match location.option("shrink") {
            None => false,
            Some("ok") if replace => true,
            Some("ok") => return Err(Error::usage("parquet: shrink=ok requires mode=replace")),
            Some(other) => return Err(Error::usage(format!("parquet: shrink: expected ok, found '{other}'"))),
        };
        let roll = location.option("roll").map(parse_roll).transpose();
        let roll = roll.map_err(|error| error.at(format!("{location}: roll")))?;
        let property_columns = location.option("columns").map(parse_columns).transpose()?;
        let property_columns = property_columns.is_some();
        Ok(Self { root: root(location)?, roll, property_columns, replace, may_shrink })
    }

    /// Checks that the lake could be opened for writing, and takes the rows of the scope.
    fn check(&self, scope: CheckScope) -> Result<()> {
        Lake::check(&self.root)?;
        if self.replace {
            exchange::check(&self.root)?;
        }
        match (lake_read::kind_of(&self.root)?, scope) {
            (Some(found), CheckScope::Rows(RowsToWrite { kind: Some(kind), .. })) => {
                check_kind(&self.root, found, kind)
            }
            _ => Ok(()),
        }
    }
}

impl Parquet {
    fn open(location: &Location, options: &OpenOptions) -> Result<Self> {
        let LakeOptions { root, roll, property_columns, replace, may_shrink } = LakeOptions::try_new(location)?;
        let open = if options.epochs { Lake::create } else { Lake::open };
        let mut lake = open(&root, &options.pipeline, options.disk.clone())?;
        lake.parallelism = options.parallelism.clone();
        let kind = lake_read::kind_of(&root)?;
        let replace = replace.then(|| Replace { may_shrink, run_keys: RunKeys::default(), touched: BTreeSet::new() });
        let mut opened = Self {
            lake,
            options: options.clone(),
            roll,
            property_columns,
            replace,
            kind,
            stream: None,
            results: Results::new(options.epochs),
            stored: KnownRows::default(),
            parts: Vec::new(),
            waiting: None,
            since: None,
            counts: SinkCounts::default(),
            tally: FileCounts::default(),
            noted: NotedMetrics::after(kind.is_some()),
        };
        if opened.options.epochs {
            let committed = opened.begin_commit()?;
            opened.lake.remove_shown(&committed)?;
            opened.end_commit(&committed);
        }
        Ok(opened)
    }

    /// Begins a commit: locks the lake, and reads what is committed.
    fn begin_commit(&mut self) -> Result<CommittedEpochs> {
        self.lake.lock()?;
        if self.kind.is_none() {
            // Another run may have begun the lake meanwhile.
            self.kind = lake_read::kind_of(&self.lake.dir.root)?;
        }
        self.lake.committed()
    }

    /// Ends a commit, which leaves these rows waiting.
    fn end_commit(&mut self, committed: &CommittedEpochs) {
        self.since = committed.since;
        self.lake.unlock();
    }

    /// Writes the rows that wait, as if their epochs were one.
    fn write_waiting(&mut self, committed: &CommittedEpochs) -> Result<()> {
        for file in &committed.waiting {
            for batch in file.read(&self.lake.dir)? {
                let (kind, batch) = batch?;
                self.write(kind, &batch)?;
            }
        }
        Ok(())
    }

    /// Publishes all rows that were written, and records that none waits. The name of a file is a digest of its rows,
    /// so a repeated call finds the files that a killed one has published, and the rows that are in them.
    fn publish_epochs(&mut self, committed: &mut CommittedEpochs) -> Result<()> {
        let names = self.lake.lock_names()?;
        self.finish_parts()?;
        self.keep_noted(false)?;
        self.publish(&names)?;
        drop(names);
        (committed.waiting, committed.since) = (vec![], None);
        self.lake.write_committed(committed)?;
        self.lake.remove_shown(committed)?;
        self.keep_noted(true)
    }

    /// Keeps what was noted of metrics, before and after their rows become visible.
    fn keep_noted(&mut self, are_visible: bool) -> Result<()> {
        self.lake.keep_metrics(&self.options.pipeline, &self.noted, are_visible)?;
        if are_visible {
            self.noted.clear();
        }
        Ok(())
    }

    /// Publishes the rows that wait if `is_due`.
    fn publish_waiting(&mut self, is_due: impl Fn(&CommittedEpochs) -> bool) -> Result<()> {
        let mut committed = self.begin_commit()?;
        if is_due(&committed) {
            self.write_waiting(&committed)?;
            self.publish_epochs(&mut committed)?;
        }
        self.end_commit(&committed);
        Ok(())
    }

    /// Publishes rolled files, unless they wait for an epoch or for the end.
    fn publish_rolled(&mut self) -> Result<()> {
        if self.roll.is_none() || self.options.epochs || self.replace.is_some() || self.parts.is_empty() {
            return Ok(());
        }
        let names = self.lake.lock_names()?;
        self.publish(&names)
    }

    /// Finishes all open files.
    fn finish_parts(&mut self) -> Result<()> {
        if let Some(stream) = &mut self.stream {
            self.parts.extend(stream.finish(&mut self.lake)?);
        }
        let known = if self.replace.is_some() { None } else { Some(&mut self.stored.days as &mut dyn StoredFiles) };
        self.parts.extend(self.results.finish(&mut self.lake, known, &mut self.counts)?);
        Ok(())
    }

    /// Syncs the finished parts, renames them to their names, and syncs the directories. Rows that the lake has are
    /// left out.
    fn publish(&mut self, _names: &NamesLock) -> Result<()> {
        let mut parts: Vec<LakePart> = vec![];
        for part in std::mem::take(&mut self.parts) {
            // Metrics have been merged with the files of their days.
            let kind = self.kind.filter(|kind| *kind != Kind::Metric);
            let kept = match kind {
                Some(kind) => self.without_repeats(kind, part, &parts)?,
                None => Some(part),
            };
            parts.extend(kept);
        }
        self.lake.sync_parts(&parts)?;
        for part in &parts {
            let published = self.lake.publish(part)?;
            self.count(published, part);
        }
        self.stored.days.published(&self.lake, &parts)?;
        self.lake.sync_names()
    }

    /// Returns a part without the rows that the lake, or an earlier part, has; `None` if it has all of them.
    fn without_repeats(&mut self, kind: Kind, part: LakePart, earlier: &[LakePart]) -> Result<Option<LakePart>> {
        self.lake.rely_on(part.day);
        let mut stored = self.stored.days.overlapping(&self.lake, part.day, kind, &part.extents)?;
        let is_same = |file: &LakeFile| file.file.path() == self.lake.file(part.day, &part.name);
        if let Some(same) = stored.iter().position(is_same) {
            // It has the same keys.
            stored = vec![stored.swap_remove(same)];
        } else {
            let beside = |other: &&LakePart| other.day == part.day && other.extents.overlaps(&part.extents);
            for other in earlier.iter().filter(beside) {
                stored.push(LakeFile::of_part(&self.lake, other, kind)?);
            }
        }
        let form = PartForm { kind, property_columns: self.property_columns };
        let new = NewRows::of(&mut self.lake, &part, &stored, form)?;
        self.counts.inserted -= new.unchanged + new.conflicts;
        self.counts.unchanged += new.unchanged;
        self.counts.conflict += new.conflicts;
        self.stored.conflicts.add(new.conflicts, || new.first_conflict.unwrap_or_default());
        if new.part.is_none() {
            self.tally.present += 1;
        }
        if new.part.as_ref().is_none_or(|new| new.part != part.part) {
            self.lake.remove_hidden(&part.part)?;
        }
        Ok(new.part)
    }

    fn count(&mut self, published: Published, part: &LakePart) {
        match published {
            Published::New => self.tally.new += 1,
            Published::Replaced => {
                self.tally.replaced += 1;
                self.counts.inserted -= part.inserted;
                self.counts.updated += part.inserted;
            }
            Published::Present => {
                self.tally.present += 1;
                self.counts.inserted -= part.inserted;
                self.counts.unchanged += part.inserted;
            }
        }
    }

    /// Replaces all days of the run by its rows, or none.
    fn replace_days(&mut self, replace: Replace) -> Result<SinkOutcome> {
        let mut days: BTreeMap<i64, Vec<LakePart>> = replace.touched.iter().map(|day| (*day, vec![])).collect();
        for part in std::mem::take(&mut self.parts) {
            let parts = days.entry(part.day).or_default();
            // Two rolled files have the same keys: their rows were read twice.
            if parts.iter().any(|other| other.name == part.name) {
                self.count(Published::Present, &part);
            } else {
                parts.push(part);
            }
        }
        if let Some(loss) = self.first_loss(&replace, &days)? {
            return Ok(self.reject(loss.to_string()));
        }
        for (day, parts) in &days {
            let mut old = self.lake.names(*day)?;
            for part in parts {
                let published = if old.remove(&part.name) { Published::Replaced } else { Published::New };
                self.count(published, part);
            }
            self.tally.removed += old.len() as u64;
        }
        let parts: Vec<LakePart> =
            days.values().flatten().map(|part| LakePart { replace: true, ..part.clone() }).collect();
        self.lake.sync_parts(&parts)?;
        self.keep_noted(false)?;
        self.lake.replace(&days)?;
        self.keep_noted(true)?;
        Ok(self.outcome())
    }

    /// Returns the first day that would lose rows, unless `shrink=ok`.
    fn first_loss(&self, replace: &Replace, days: &BTreeMap<i64, Vec<LakePart>>) -> Result<Option<Loss>> {
        let Some(kind) = self.kind.filter(|_| !replace.may_shrink) else { return Ok(None) };
        for (day, parts) in days {
            let path = self.lake.day(*day);
            if disk::found(&path)?.is_some() {
                let new = Day::of_parts(&self.lake, parts)?;
                let loss = replace.run_keys.judge(kind, Day::open(&path)?, new)?;
                if loss.is_some() {
                    return Ok(loss);
                }
            }
        }
        Ok(None)
    }

    /// Ends the run without publishing any of its rows.
    fn reject(&mut self, why: String) -> SinkOutcome {
        self.counts.reject_all();
        self.tally = FileCounts::default();
        let mut outcome = self.outcome();
        outcome.notices.push(Notice { text: why, fails: true });
        outcome
    }

    fn outcome(&self) -> SinkOutcome {
        let mut notices: Vec<Notice> =
            self.results.overlap.notices().into_iter().chain(self.stored.conflicts.notice()).collect();
        if self.lake.finished > 0 {
            let days = counted(self.lake.finished as u64, ["day", "days"]);
            let text = format!("finished the replacement of {days} that a killed run had begun");
            notices.push(Notice { text, fails: false });
        }
        SinkOutcome { counts: self.counts, remark: Some(self.remark()), notices }
    }

    fn remark(&self) -> String {
        let words = [
            (self.tally.new, "new"),
            (self.tally.replaced, "replaced"),
            (self.tally.present, "already present"),
            (self.tally.removed, "removed"),
        ];
        let said: Vec<String> = words.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
        format!("files: {}", if said.is_empty() { "none".to_owned() } else { said.join(", ") })
    }
}

impl Sink for Parquet {
    fn write(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        check_kind(&self.lake.dir.root, *self.kind.get_or_insert(kind), kind)?;
        if self.property_columns {
            check_columns(Some(kind))?;
        }
        let fit = fit_rows(kind, batch)?;
        let batch = &fit.batch;
        if let Some(replace) = &mut self.replace {
            replace.run_keys.take(kind, batch)?;
            let mut days = rows::days(kind, batch)?;
            days.dedup();
            for day in days {
                if replace.touched.insert(day) {
                    // Otherwise the run would fail only at its end.
                    exchange::check_day(&self.lake.dir, day)?;
                }
            }
        }
        if kind == Kind::Metric {
            self.noted.write(batch)?;
        }
        if let Some(waiting) = &mut self.waiting {
            // They are counted when they are published.
            waiting.write(batch)?;
        } else if kind == Kind::Metric {
            self.results.apply(batch, &mut self.counts)?;
        } else {
            let (roll, columns) = (self.roll.unwrap_or_default(), self.property_columns);
            let stream = self.stream.get_or_insert_with(|| Stream::new(kind, roll).with_property_columns(columns));
            self.parts.extend(stream.push(&mut self.lake, batch, (self.options.clock)())?);
            self.counts.taken += batch.num_rows() as u64;
            self.counts.inserted += batch.num_rows() as u64;
        }
        let rejected = count_rejected(fit, &mut self.counts);
        self.publish_rolled()?;
        Ok(rejected)
    }

    fn note_metrics(&mut self, metrics: &[MetricProgress]) {
        self.noted.add(metrics);
    }

    fn tick(&mut self) -> Result<()> {
        if self.options.epochs {
            let now = (self.options.clock)();
            let known = CommittedEpochs { since: self.since, ..CommittedEpochs::default() };
            let roll = self.roll;
            let is_due = |committed: &CommittedEpochs| match roll {
                Some(roll) => committed.is_old(roll, now),
                // A run with `?roll=` was killed.
                None => committed.since.is_some(),
            };
            return if is_due(&known) { self.publish_waiting(is_due) } else { Ok(()) };
        }
        if let Some(stream) = &mut self.stream {
            self.parts.extend(stream.roll_old(&mut self.lake, (self.options.clock)())?);
        }
        self.publish_rolled()
    }

    /// Between two commits the lake is not locked: a run that hangs there does not hold up its successor, whose epochs
    /// fence it.
    fn commit(&mut self, epoch: Epoch, rows: &mut dyn EpochRows) -> Result<()> {
        let mut committed = self.begin_commit()?;
        let now = (self.options.clock)();
        if epoch.is_due(committed.epoch, format!("parquet:{}", self.lake.dir.root.display()))? {
            if self.roll.is_some() {
                self.waiting = Some(self.lake.waiting_file(epoch));
                write_rows(self, rows)?;
                let file = self.waiting.take().map_or(Ok(None), WaitingFile::finish)?;
                committed.add(epoch, file, now);
                self.lake.write_committed(&committed)?;
            } else {
                self.write_waiting(&committed)?;
                write_rows(self, rows)?;
                committed.add(epoch, None, now);
                self.publish_epochs(&mut committed)?;
            }
        }
        if committed.is_due(self.roll, now) {
            self.write_waiting(&committed)?;
            self.publish_epochs(&mut committed)?;
        }
        self.end_commit(&committed);
        Ok(())
    }

    fn committed(&mut self) -> Result<Option<Epoch>> {
        Ok(self.lake.committed()?.epoch)
    }

    fn counts(&self) -> SinkCounts {
        self.counts
    }

    fn finish(mut self: Box<Self>) -> Result<SinkOutcome> {
        if self.options.epochs {
            // Every row was in an epoch, and all are committed.
            if self.since.is_some() {
                self.publish_waiting(|committed| !committed.waiting.is_empty())?;
            }
            self.keep_noted(true)?;
            return Ok(self.outcome());
        }
        // Metrics are merged with the files of their days, which no correction may exchange meanwhile.
        let names = self.lake.lock_names()?;
        self.finish_parts()?;
        if let Some(replace) = self.replace.take() {
            return self.replace_days(replace);
        }
        self.keep_noted(false)?;
        self.publish(&names)?;
        self.keep_noted(true)?;
        Ok(self.outcome())
    }

    fn finish_stopped(mut self: Box<Self>) -> Result<SinkOutcome> {
        if self.replace.is_none() {
            return self.finish();
        }
        let why = "stopped before the end of the input; no day was replaced, and the rows of this run were discarded";
        Ok(self.reject(why.to_owned()))
    }
}

/// Parses `128MiB`, `10m` or both.
fn parse_roll(text: &str) -> Result<Roll> {
    let expected = "expected a size like 128MiB, a duration like 10m, or both like 128MiB,10m";
    let wrong = |_| Error::usage(format!("{expected}, found '{text}'"));
    let mut roll = Roll::default();
    for word in text.split(',') {
        match size::parse(word) {
            Ok(bytes) => roll.bytes = Some(usize::try_from(bytes).unwrap_or(usize::MAX)),
            Err(_) => roll.age = Some(parse_duration(word).map_err(wrong)?),
        }
    }
    Ok(roll)
}

#[cfg(test)]
mod tests;
