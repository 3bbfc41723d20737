//! Compares A and B: reads A, the side outputs, and B, then judges every unit.

use super::args::{Args, ByArg, is_raw_topic};
use super::foreign::ForeignFile;
use super::join::{Join, Matches};
use super::read::{ReadItem, Reading};
use super::report::ComparisonReport;
use super::sort::EntrySorter;
use crate::source::SourceOptions;
use crate::uri::Uri;
use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use evt_core::error::{Error, Result};
use evt_core::kind::event::{COLUMNS, column};
use evt_core::kind::{Kind, array};
use evt_core::mapping::TimeFrom;
use evt_core::reconcile::entry::ComparedRows;
use evt_core::reconcile::entry::{NOT_IN_B, PartitionNames, RowEntry, RowPosition, Side};
use evt_core::reconcile::judge::{JudgeRules, MatchBy, UnitExtent};
use evt_core::reconcile::metrics;
use evt_core::reconcile::rows::{self, RowFacts, RowOptions};
use evt_core::reconcile::verdict::Unjudged;
use evt_core::time::format_instant;
use evt_kafka::client::Topics;
use evt_kafka::produce::limit::topic_settings;
use evt_run::run::Run;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::rc::Rc;

/// Rows of stores that cannot be read and are named, each in a line; further ones are counted.
const UNREADABLE_SHOWN: u64 = 10;

/// Compares A and B; returns the exit status.
pub fn compare(args: &Args, run: &Rc<Run>) -> Result<u8> {
    let [a, b] = args.sides()?;
    // A file that does not exist ends the run before the others are read.
    args.inputs().try_for_each(|text| args.uri(text, run).map(|_| ()))?;
    let mut inputs = Inputs::new(args, run)?;
    inputs.read_a(a)?;
    for text in &args.compare.plus {
        inputs.read_plus(text)?;
    }
    inputs.read_b(b)?;
    let foreign_plus = inputs.foreign_plus();
    inputs.find_removed(a, b)?;
    let Inputs { subject, entries, rules, extent, names, origins, taken, unjudged, .. } = inputs;
    let Entries { by, is_by_id_alone, by_position, by_id } = entries;
    let foreign = by.is_none() && taken[0] > 0;
    let by = by.unwrap_or(if taken[1] == 0 { MatchBy::Position } else { MatchBy::Id });
    let report = ComparisonReport::new(args, run, names, subject.unwrap_or_default());
    let report = report.with_expired(rules.kept_since.is_some());
    let refusal = foreign.then(|| {
        let origins = first_origins(&origins);
        format!(
            "no row of B has an origin of A ({origins}), and no event_id is in both; set --origin to the origin in B, or \
             --by position or id"
        )
    });
    let join = Join { rules: JudgeRules { by, ..rules }, extent, ids: args.show.ids, refusal };
    let Matches { summary, not_judged, hint } = match by {
        _ if subject == Some(ComparedRows::Metrics) => join.metrics(by_id, &report)?,
        MatchBy::Position => join.by_position(by_position, &report)?,
        MatchBy::Id if is_by_id_alone => join.by_id(by_id, &report)?,
        MatchBy::Id => join.positions_then_ids(by_position, by_id, &report)?,
    };
    let foreign_plus = foreign_plus.filter(|_| summary.faults.total.missing > 0);
    hint.or(foreign_plus).into_iter().for_each(|hint| run.console.warn(hint));
    let unjudged = Unjudged { rows: unjudged.rows + not_judged, is_nothing: taken[0] == 0 && taken[1] > 0, ..unjudged };
    report.finish(&summary, unjudged)
}

/// The entries of all inputs, by the key that they match by.
struct Entries {
    /// The key that rows are matched by: that of `--by`, or [`MatchBy::Id`] for metrics. Without either it is `None`
    /// until a row of B has an origin of A.
    by: Option<MatchBy>,
    /// Whether nothing is matched by position.
    is_by_id_alone: bool,
    /// Units and records of plus, and rows of B that match by position.
    by_position: EntrySorter,
    /// The other rows of B, metrics, and units if nothing is matched by position.
    by_id: EntrySorter,
}

impl Entries {
    /// Adds a unit of A to the entries and to the extent of all units, and counts it.
    fn unit(&mut self, facts: RowFacts, extent: &mut UnitExtent, count: &mut u64) -> Result<()> {
        let entry = facts.entry(Side::A, self.is_by_id_alone);
        extent.add(facts.position, entry.time());
        *count += 1;
        if self.is_by_id_alone { self.by_id.push(entry) } else { self.by_position.push(entry) }
    }
}

/// The entries of all inputs, and what was learnt of them.
struct Inputs<'a> {
    args: &'a Args,
    run: &'a Rc<Run>,
    names: PartitionNames,
    options: RowOptions,
    rules: JudgeRules,
    /// The kind of rows in A; `None` before its first row.
    subject: Option<ComparedRows>,
    extent: UnitExtent,
    /// The origins of A's units.
    origins: BTreeSet<String>,
    entries: Entries,
    /// The number of units, and of rows of B.
    taken: [u64; 2],
    unjudged: Unjudged,
    plus: PlusOrigins,
}

/// Whether records of `--plus` can match a unit.
#[derive(Clone, Copy, Default)]
struct PlusOrigins {
    /// Whether some record of `--plus` is of a partition of A.
    matches: bool,
    /// The partition of the first record that is of no partition of A.
    foreign: Option<u32>,
}

impl<'a> Inputs<'a> {
    fn new(args: &'a Args, run: &'a Rc<Run>) -> Result<Self> {
        let now = run.clock.now();
        let compare = &args.compare;
        let by = compare.by.map(ByArg::key);
        let compares = args.show.ids;
        let settled = compare.settle.map(|settle| now.saturating_sub(settle));
        Ok(Self {
            args,
            run,
            names: PartitionNames::default(),
            options: RowOptions { compares, settled, run_start: now, ..RowOptions::default() },
            rules: JudgeRules { range: args.range(now)?, dedup: compare.dedup, compares, ..JudgeRules::default() },
            subject: None,
            extent: UnitExtent::default(),
            origins: BTreeSet::new(),
            entries: Entries {
                by,
                is_by_id_alone: by == Some(MatchBy::Id) && compare.plus.is_empty(),
                by_position: EntrySorter::default(),
                by_id: EntrySorter::default(),
            },
            taken: [0, 0],
            unjudged: Unjudged::default(),
            plus: PlusOrigins::default(),
        })
    }

    /// Reads A. Every record is a unit, even if it cannot be read.
    fn read_a(&mut self, text: &OsString) -> Result<()> {
        let uri = self.args.uri(text, self.run)?;
        self.options.is_appended = is_raw_topic(&uri);
        let read = self.args.options_of_a(&uri)?;
        let takes_arrival = read.records.mapping.time == TimeFrom::Arrival;
        let reading = self.reading(&uri, read)?;
        self.extent.is_compacted = is_compacted(&uri, self.run)?;
        reading.each(&mut |piece| {
            let Self { names, options, subject, extent, entries, taken, .. } = self;
            let mut unit = |facts: RowFacts| entries.unit(facts, extent, &mut taken[0]);
            match piece {
                ReadItem::Rows(Kind::Metric, batch) => self.metrics(batch, Side::A),
                ReadItem::Columns(rows) => {
                    subject.get_or_insert(ComparedRows::Events);
                    rows.each(*options, names, &mut unit)
                }
                ReadItem::Rows(Kind::Event | Kind::Late, batch) => {
                    if subject.replace(ComparedRows::Events).is_none() {
                        // Rows that carry stamps keep their event time.
                        options.omits_time = takes_arrival && first_time(batch) >= Some(options.run_start);
                    }
                    rows::events(batch, *options, names, &mut unit)
                }
                ReadItem::Unreadable(letters) => rows::letters(letters, *options, names, &mut unit),
                ReadItem::UnreadableRows(error) => {
                    let facts = self.unreadable(error);
                    let Self { extent, entries, taken, .. } = self;
                    facts.map_or(Ok(()), |facts| entries.unit(facts, extent, &mut taken[0]))
                }
                ReadItem::Rows(kind, _) => Err(unexpected(kind)),
            }
        })?;
        for index in 0..self.names.count() as u32 {
            self.origins.extend(self.names.name(index).map(|name| name.origin.clone()));
        }
        Ok(())
    }

    /// Opens an input.
    fn reading(&self, uri: &Uri, options: SourceOptions) -> Result<Reading> {
        let foreign = ForeignFile::open(uri, &options, self.options, self.run);
        Ok(Reading::open(uri, options, self.run, self.args.common.quiet)?.by_columns(foreign))
    }

    /// Opens B or an input of `--plus`.
    fn reading_rows(&self, text: &OsString) -> Result<Reading> {
        self.reading(&self.args.uri(text, self.run)?, self.args.options_of_rows()?)
    }

    /// Reads a side output. Its records match by position.
    fn read_plus(&mut self, text: &OsString) -> Result<()> {
        self.reading_rows(text)?.each(&mut |piece| {
            let Self { names, extent, entries, plus, .. } = self;
            let mut left = |facts: RowFacts| match extent.has_partition(facts.position.partition) {
                true => {
                    plus.matches = true;
                    entries.by_position.push(facts.entry(Side::Plus, false))
                }
                false => {
                    plus.foreign.get_or_insert(facts.position.partition);
                    Ok(())
                }
            };
            let options = RowOptions::default();
            match piece {
                ReadItem::Rows(Kind::Event | Kind::Late, batch) => rows::events(batch, options, names, &mut left),
                ReadItem::Columns(rows) => rows.each(options, names, &mut left),
                ReadItem::Rows(Kind::Dead, batch) => rows::letters(batch, options, names, &mut left),
                ReadItem::Rows(kind, _) => {
                    Err(Error::usage(format!("expected dead letters, late rows or events, found rows of kind {kind}")))
                }
                ReadItem::UnreadableRows(error) => Err(error),
                ReadItem::Unreadable(_) => {
                    Err(Error::corrupt("expected rows that evt wrote, found records that cannot be read"))
                }
            }
        })?;
        Ok(())
    }

    /// Says why no record of `--plus` can match a unit, if none is of a partition of A.
    fn foreign_plus(&self) -> Option<String> {
        let partition = self.plus.foreign.filter(|_| !self.plus.matches)?;
        let name = self.names.name(partition)?;
        let (found, origins) = (&name.origin, first_origins(&self.origins));
        Some(match self.origins.contains(found) {
            true => format!("no record of --plus is of a partition of A; found {found}/{}", name.partition),
            false => {
                format!("no record of --plus has an origin of A ({origins}); set --origin to theirs, such as {found}")
            }
        })
    }

    /// Reads B. Its first row with an origin of A decides that rows are matched by position.
    fn read_b(&mut self, text: &OsString) -> Result<()> {
        let reading = self.reading_rows(text)?;
        // Whether the origin of each partition is one of A's.
        let mut is_of_a: Vec<bool> = vec![];
        reading.each(&mut |piece| {
            let mut facts = vec![];
            let mut take = |one| {
                facts.push(one);
                Ok(())
            };
            match piece {
                ReadItem::Rows(Kind::Metric, batch) => return self.metrics(batch, Side::B),
                ReadItem::Rows(Kind::Event | Kind::Late, _) | ReadItem::Columns(_)
                    if self.subject == Some(ComparedRows::Metrics) =>
                {
                    return Err(unlike(Kind::Event));
                }
                ReadItem::Rows(Kind::Event | Kind::Late, batch) => {
                    rows::events(batch, self.options, &mut self.names, &mut take)?;
                }
                ReadItem::Columns(rows) => rows.each(self.options, &mut self.names, &mut take)?,
                ReadItem::Rows(kind, _) => return Err(unexpected(kind)),
                ReadItem::UnreadableRows(error) => {
                    self.unreadable(error);
                    return Ok(());
                }
                ReadItem::Unreadable(letters) => {
                    self.unjudged.unreadable += letters.num_rows() as u64;
                    return Ok(());
                }
            }
            let known = is_of_a.len() as u32..self.names.count() as u32;
            is_of_a.extend(
                known.map(|index| self.names.name(index).is_some_and(|name| self.origins.contains(&name.origin))),
            );
            facts.into_iter().try_for_each(|facts| self.row(facts, &is_of_a))
        })?;
        Ok(())
    }

    /// Counts rows of a store that cannot be read, and names the first ones; returns what is known of a row whose
    /// position can be read.
    fn unreadable(&mut self, error: Error) -> Option<RowFacts> {
        let rows = error.rows().cloned().unwrap_or_default();
        if self.unjudged.damaged < UNREADABLE_SHOWN {
            let time = rows.time.map_or(String::new(), |time| format!("; event_time {}", format_instant(time)));
            self.run.console.deny(format!("{error}{time}"));
        }
        self.unjudged.damaged += rows.count;
        let (Some(origin), Some(partition), Some(offset)) = (rows.origin, rows.partition, rows.offset) else {
            return None;
        };
        let position = RowPosition { partition: self.names.index(&origin, &partition), offset };
        let (id, time) = (rows::id_of_unreadable(position), rows.time.unwrap_or(RowEntry::NO_TIME));
        Some(RowFacts { position, id, time, content: 0, flags: NOT_IN_B })
    }

    /// Finds the time before which rows have been removed from A, and from B and plus.
    fn find_removed(&mut self, a: &OsString, b: &OsString) -> Result<()> {
        let kind = match self.subject {
            Some(ComparedRows::Metrics) => Kind::Metric,
            Some(ComparedRows::Events) | None => Kind::Event,
        };
        let kept_since = |text: &OsString| match self.args.uri(text, self.run)? {
            Uri::Store(store, location) => store.kept_since(&location, kind),
            _ => Ok(None),
        };
        self.extent.kept_since = kept_since(a)?;
        for text in self.args.compare.plus.iter().chain([b]) {
            self.rules.kept_since = self.rules.kept_since.max(kept_since(text)?);
        }
        Ok(())
    }

    /// Adds metrics of A or B. They match by their natural key.
    fn metrics(&mut self, batch: &RecordBatch, side: Side) -> Result<()> {
        if *self.subject.get_or_insert(ComparedRows::Metrics) != ComparedRows::Metrics {
            return Err(unlike(Kind::Metric));
        }
        if !self.args.compare.plus.is_empty() {
            return Err(Error::usage("--plus: expected events in A and B, found metrics"));
        }
        (self.entries.by, self.rules.compares) = (Some(MatchBy::Id), true);
        let Self { names, extent, entries, taken, .. } = self;
        let first = taken[0] + taken[1];
        taken[usize::from(side == Side::B)] += batch.num_rows() as u64;
        metrics::rows(batch, side, first, names, &mut |entry| {
            let position = RowPosition::of_key(entry.other);
            if side == Side::A {
                extent.add_time(position.offset);
            }
            entries.by_id.push(entry)
        })
    }

    /// Adds a row of B.
    fn row(&mut self, facts: RowFacts, is_of_a: &[bool]) -> Result<()> {
        self.taken[1] += 1;
        let is_of_a = is_of_a.get(facts.position.partition as usize).copied().unwrap_or_default();
        if self.entries.by.is_none() && is_of_a {
            self.entries.by = Some(MatchBy::Position);
            let mut before = std::mem::take(&mut self.entries.by_id).finish()?;
            while let Some(entry) = before.next_entry()? {
                self.row_by_position(entry.turned())?;
            }
        }
        match self.entries.by {
            Some(MatchBy::Position) => self.row_by_position(facts.entry(Side::B, false)),
            Some(MatchBy::Id) | None => self.entries.by_id.push(facts.entry(Side::B, true)),
        }
    }

    /// Adds a row of B that matches by position, unless A has nothing of its partition.
    fn row_by_position(&mut self, entry: RowEntry) -> Result<()> {
        if self.extent.has_partition(RowPosition::of_key(entry.key).partition) {
            return self.entries.by_position.push(entry);
        }
        self.unjudged.rows += 1;
        Ok(())
    }
}

/// Returns the first origins, for messages.
fn first_origins(origins: &BTreeSet<String>) -> String {
    origins.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Returns the event time of the first row (µs).
fn first_time(batch: &RecordBatch) -> Option<i64> {
    array::<TimestampMicrosecondArray>(batch, COLUMNS[column::EVENT_TIME])?.iter().next()?
}

/// Whether a topic of an input is compacted.
fn is_compacted(uri: &Uri, run: &Rc<Run>) -> Result<bool> {
    let Uri::Kafka(address) = uri else { return Ok(false) };
    let topics = Topics::new(address, run);
    for topic in 0..address.topics.len() {
        let [policy] = topic_settings(&topics, topic, ["cleanup.policy"])?;
        if policy.is_some_and(|policy| policy.contains("compact")) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn unlike(kind: Kind) -> Error {
    Error::usage(format!("expected rows of one kind in A and B, found rows of kind {kind} too"))
}

fn unexpected(kind: Kind) -> Error {
    Error::usage(format!("expected events or metrics, found rows of kind {kind}"))
}
