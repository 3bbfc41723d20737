//! `parquet:DIR`: a lake of one kind, one directory per day (`date=YYYY-MM-DD`), for DuckDB, Arrow and Spark to read.
//!
//! Files appear at the proven end, or when rolled (`?roll=128MiB,10m`: by size, which a repeated run repeats, or by age,
//! which it does not), or at the commit of an epoch. A file whose keys are those of one that is there changes nothing;
//! `?mode=replace` makes the days a run touches hold the run's rows and no others.

mod directory;
mod file;
mod metric;
mod read;

use crate::counts::SinkCounts;
use crate::error::{Error, ErrorKind, Result};
use crate::kind::Kind;
use crate::store::lake::directory::{Lake, Part, Published};
use crate::store::lake::file::{Roll, Stream};
use crate::store::lake::metric::Results;
use crate::store::lake::read as lake_read;
use crate::store::{Epoch, Location, Notice, OpenOptions, Outcome, Refused, Sink, Store, rows};
use crate::time::parse_duration;
use arrow::array::RecordBatch;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The row of [`super::ALL`].
pub static STORE: Store = Store {
    scheme: "parquet",
    also: &[],
    about: "parquet:DIR: a lake of Parquet files by day, whole files only (?roll=128MiB,10m ?mode=append|replace)",
    acknowledges: false,
    replaces: |location| location.options.get("mode").is_some_and(|mode| mode == "replace"),
    options: &["mode", "roll", "table"],
    kinds: &Kind::ALL,
    check: |location| Plan::try_new(location)?.check().map(|()| None),
    open: |location, options| Ok(Box::new(Parquet::open(location, options)?)),
    tables: lake_read::tables,
    read: lake_read::read,
};

/// The directory a URI names; exit 2 for an option that does not exist.
pub fn root(location: &Location) -> Result<PathBuf> {
    location.check_options(STORE.scheme, STORE.options)?;
    if location.path.is_empty() {
        return Err(Error::usage("parquet: says no directory: parquet:DIR"));
    }
    Ok(PathBuf::from(&location.path))
}

/// What became of the files.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    new: u64,
    replaced: u64,
    present: u64,
    removed: u64,
}

struct Parquet {
    lake: Lake,
    options: OpenOptions,
    roll: Option<Roll>,
    replace: bool,
    kind: Option<Kind>,
    stream: Option<Stream>,
    results: Results,
    /// Finished, not yet published and of no epoch.
    parts: Vec<Part>,
    /// Prepared, not yet committed.
    prepared: BTreeMap<Epoch, Vec<Part>>,
    /// Names of this run's files by day, and days that hold none; what `mode=replace` keeps.
    published: BTreeMap<i64, BTreeSet<String>>,
    counts: SinkCounts,
    tally: Tally,
}

/// What a URI asks for.
struct Plan {
    root: PathBuf,
    roll: Option<Roll>,
    replace: bool,
}

impl Plan {
    fn try_new(location: &Location) -> Result<Self> {
        let replace = match location.options.get("mode").map(String::as_str) {
            None | Some("append") => false,
            Some("replace") => true,
            Some(other) => return Err(Error::usage(format!("parquet: unknown mode '{other}': append or replace"))),
        };
        let roll = location.options.get("roll").map(|text| parse_roll(text)).transpose()?;
        Ok(Self { root: root(location)?, roll, replace })
    }

    /// Looks whether the lake could be opened for writing.
    fn check(&self) -> Result<()> {
        Lake::check(&self.root)?;
        lake_read::kind_of(&self.root).map(|_| ())
    }
}

impl Parquet {
    fn open(location: &Location, options: &OpenOptions) -> Result<Self> {
        let Plan { root, roll, replace } = Plan::try_new(location)?;
        if replace && options.epochs {
            let why = "mode=replace knows the files of one run only, a checkpoint outlives it: leave one out";
            return Err(Error::usage(format!("parquet:{}: {why}", root.display())));
        }
        let lake = Lake::open(&root, &options.pipeline)?;
        let kind = lake_read::kind_of(&root)?;
        Ok(Self {
            lake,
            options: options.clone(),
            roll,
            replace,
            kind,
            stream: None,
            results: Results::default(),
            parts: Vec::new(),
            prepared: BTreeMap::new(),
            published: BTreeMap::new(),
            counts: SinkCounts::default(),
            tally: Tally::default(),
        })
    }

    /// Shows the files that were rolled, unless they wait for an epoch.
    fn publish_rolled(&mut self) -> Result<()> {
        if self.roll.is_none() || self.options.epochs || self.parts.is_empty() {
            return Ok(());
        }
        let mut rolled = std::mem::take(&mut self.parts);
        rolled.iter_mut().for_each(|part| part.replace |= self.replace);
        self.lake.sync_parts(&rolled)?;
        self.publish(rolled)
    }

    /// Ends every file that is open.
    fn finish_parts(&mut self) -> Result<()> {
        let replace = self.replace;
        if let Some(stream) = &mut self.stream {
            self.parts.extend(stream.finish(&mut self.lake)?);
        }
        self.parts.extend(self.results.finish(&mut self.lake, replace, &mut self.counts)?);
        for day in self.results.take_touched() {
            self.published.entry(day).or_default();
        }
        self.parts.iter_mut().for_each(|part| part.replace |= replace);
        Ok(())
    }

    /// Gives parts that are synced their names and makes that durable.
    fn publish(&mut self, parts: Vec<Part>) -> Result<()> {
        for part in parts {
            match self.lake.publish(&part)? {
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
            if self.replace {
                self.published.entry(part.day).or_default().insert(part.name);
            }
        }
        self.lake.sync_names()
    }

    fn remark(&self) -> String {
        let words = [
            (self.tally.new, "new"),
            (self.tally.replaced, "replaced"),
            (self.tally.present, "there already"),
            (self.tally.removed, "removed"),
        ];
        let said: Vec<String> = words.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
        format!("files: {}", if said.is_empty() { "none".to_owned() } else { said.join(", ") })
    }
}

impl Sink for Parquet {
    fn write(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Refused>> {
        lake_read::check_kind(self.lake.root(), *self.kind.get_or_insert(kind), kind)?;
        let (fit, refused) = rows::split_unfit(kind, rows::align(kind, batch)?)?;
        if kind == Kind::Metric {
            self.results.apply(&fit, &mut self.counts)?;
        } else {
            let stream = self.stream.get_or_insert_with(|| Stream::new(kind, self.roll.unwrap_or_default()));
            self.parts.extend(stream.push(&mut self.lake, &fit, (self.options.clock)())?);
            self.counts.taken += fit.num_rows() as u64;
            self.counts.inserted += fit.num_rows() as u64;
        }
        self.counts.taken += refused.len() as u64;
        self.counts.dead += refused.len() as u64;
        self.publish_rolled()?;
        Ok(refused)
    }

    fn tick(&mut self) -> Result<()> {
        if let Some(stream) = &mut self.stream {
            self.parts.extend(stream.roll_old(&mut self.lake, (self.options.clock)())?);
        }
        self.publish_rolled()
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<()> {
        self.finish_parts()?;
        let parts = std::mem::take(&mut self.parts);
        self.lake.sync_parts(&parts)?;
        self.lake.write_prepared(epoch, &parts)?;
        self.prepared.insert(epoch, parts);
        Ok(())
    }

    fn commit(&mut self, epoch: Epoch) -> Result<()> {
        if let Some(done) = self.committed()? {
            if done.run > epoch.run {
                let message = format!("run {} has been replaced by run {}", epoch.run, done.run);
                return Err(Error::new(
                    ErrorKind::Fenced,
                    format!("parquet:{}: {message}", self.lake.root().display()),
                ));
            }
            if done >= epoch {
                return Ok(());
            }
        }
        let parts = match self.prepared.remove(&epoch) {
            Some(parts) => parts,
            None => self.lake.prepared(epoch)?,
        };
        self.publish(parts)?;
        self.lake.write_committed(epoch)
    }

    fn committed(&mut self) -> Result<Option<Epoch>> {
        self.lake.committed()
    }

    fn counts(&self) -> SinkCounts {
        self.counts
    }

    fn finish(mut self: Box<Self>) -> Result<Outcome> {
        self.finish_parts()?;
        let parts = std::mem::take(&mut self.parts);
        self.lake.sync_parts(&parts)?;
        self.publish(parts)?;
        if self.replace {
            for (day, names) in std::mem::take(&mut self.published) {
                self.tally.removed += self.lake.remove_others(day, &names)?;
            }
            self.lake.sync_names()?;
        }
        Ok(Outcome { counts: self.counts, remark: Some(self.remark()), ..Outcome::default() })
    }

    fn finish_stopped(self: Box<Self>) -> Result<Outcome> {
        if !self.replace {
            return self.finish();
        }
        let text = "stopped before the end of the input: no day was replaced, and what was read is not kept".to_owned();
        let Self { mut counts, .. } = *self;
        counts.refuse_all();
        let notices = vec![Notice { text, fails: true }];
        Ok(Outcome { counts, remark: Some("files: none".to_owned()), notices })
    }
}

/// `128MiB`, `10m` or both.
fn parse_roll(text: &str) -> Result<Roll> {
    let mut roll = Roll::default();
    for word in text.split(',') {
        match parse_size(word) {
            Some(bytes) => roll.bytes = Some(bytes),
            None => roll.age = Some(parse_duration(word)?),
        }
    }
    Ok(roll)
}

fn parse_size(word: &str) -> Option<usize> {
    let units = [("KiB", 1usize << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let (digits, scale) = units.iter().find_map(|(unit, scale)| Some((word.strip_suffix(unit)?, scale)))?;
    digits.parse::<usize>().ok()?.checked_mul(*scale)
}

#[cfg(test)]
mod tests;
