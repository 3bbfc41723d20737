//! `iceberg:DIR/`: tables of Apache Iceberg, one for each kind of row, in a directory with a catalog that PyIceberg
//! opens; `iceberg:NAME`: in a catalog of the `--config` file, and perhaps in a bucket.
//!
//! ```text
//! rows ─► lake: parts (files of one day) ─► repeat: which rows has the table? ─► names of the table
//!                                                                                 │
//!   describe: counts and bounds ─► commit: manifests, list ─► warehouse: metadata.json, swap in the catalog
//! ```
//!
//! A run without a checkpoint commits one snapshot at its proven end, one with a checkpoint a snapshot for each epoch:
//! a property of the table names the last epoch of each output, and changes in the same commit. A commit is based on
//! the version that was read; if another one came first, the rows are compared with the new version and committed
//! again.
//!
//! `warehouse` has the catalogs and the access to files, `files.rs` the data files of a version, `commit.rs` a commit,
//! `publish.rs` the files that it adds, `describe.rs` what a manifest says of one, `pending.rs` removes what a killed
//! commit leaves, `correct.rs` corrects metrics, and `read.rs` reads tables back, without the rows of `deletes.rs`;
//! `serving.rs` answers with metrics; `upkeep.rs` removes old snapshots and joins small files. Files of rows are
//! written by the module `lake`: the directory `data` of a table is a lake whose files only the table names.

mod commit;
mod correct;
mod deletes;
mod describe;
mod files;
mod pending;
mod publish;
mod read;
mod serving;
mod upkeep;
mod warehouse;

use crate::iceberg::commit::TableChange;
use crate::iceberg::files::KnownFiles;
use crate::iceberg::pending::PendingCommit;
use crate::iceberg::publish::{DataDir, Publication};
use crate::iceberg::read as iceberg_read;
use crate::iceberg::warehouse::catalog::TableVersion;
use crate::iceberg::warehouse::{METRICS, OPTIONS, SCHEME, Warehouse, fit, metrics_of, property_columns};
use crate::lake::directory::{Lake, LakePart, pipeline_id};
use crate::lake::file::{Stream, Writing};
use crate::lake::metric::Results;
use crate::lake::read::file::LakeFile;
use crate::lake::repeat::{NewRows, PartForm, StoredFiles};
use crate::lake::waiting::Roll;
use crate::progress::{NotedMetrics, PipelineMetrics};
use crate::repeat::Conflicts;
use crate::rows::{count_rejected, fit_rows};
use crate::sink::write_rows;
use crate::{CorrectionStore, Medium, OpenOptions, Sink, SinkOutcome, Store, StoreReader, Visibility};
use arrow::array::RecordBatch;
use evt_core::counts::SinkCounts;
use evt_core::error::{Error, Result};
use evt_core::format::parquet::{TableColumns, check_columns, parse_columns};
use evt_core::frame::MetricProgress;
use evt_core::kind::Kind;
use evt_core::kind::dead::Rejected;
use evt_run::checkpoint::epoch::{Epoch, EpochRows};
use evt_run::client::Location;

/// The row in [`super::ALL`].
pub static STORE: Store = Store {
    scheme: SCHEME,
    also: &[],
    about: "iceberg:DIR/: tables of Apache Iceberg in a directory, a snapshot for each run or epoch (?namespace=), or in \
            a catalog of the configuration: iceberg:NAME",
    extensions: &[],
    magic: b"",
    client: None,
    medium: Medium::File,
    visibility: Visibility::AtEnd,
    replaces: |_| false,
    options: &OPTIONS,
    kinds: &Kind::ALL,
    check: |location, _| Warehouse::of_output(location, &Default::default())?.check().map(|()| None),
    open: |location, options| Ok(Box::new(Iceberg::open(location, options)?)),
    reader: StoreReader {
        tables: iceberg_read::tables,
        read: iceberg_read::read,
        stream_extents: Some(iceberg_read::stream_extents),
        extent: None,
        waits: None,
        kept_since: Some(iceberg_read::kept_since),
        serving: Some(serving::open),
    },
    corrections: Some(CorrectionStore { open: correct::open, open_to_compare: correct::open_to_compare }),
    ledger: None,
    rules: None,
    upkeep: Some(upkeep::UPKEEP),
};

/// How often a commit is repeated after those of other writers.
const ATTEMPTS: usize = 100;

/// An open output in a table.
struct Iceberg {
    warehouse: Warehouse,
    options: OpenOptions,
    /// `columns=auto`: properties get columns.
    property_columns: bool,
    /// The name of this output in properties and names.
    output: String,
    table: Option<TableRows>,
    counts: SinkCounts,
    /// What the stream has said of its metrics before their first row.
    metrics: Vec<MetricProgress>,
}

/// The table of the rows of a run.
struct TableRows {
    kind: Kind,
    /// Its files of rows, and the rows that are in none yet.
    lake: Lake,
    /// Keeps the directory of the lake.
    _data: DataDir,
    may_add_columns: bool,
    stream: Stream,
    results: Results,
    /// Finished parts that no snapshot has.
    parts: Vec<LakePart>,
    known: KnownFiles,
    conflicts: Conflicts,
    noted: NotedMetrics,
}

/// What the parts of a commit became.
#[derive(Default)]
struct Prepared {
    parts: Vec<LakePart>,
    counts: SinkCounts,
    removed: Vec<String>,
}

impl Iceberg {
    fn open(location: &Location, options: &OpenOptions) -> Result<Self> {
        let warehouse = Warehouse::of_output(location, &options.disk)?;
        warehouse.create()?;
        // The path of a directory that did not exist may have had links.
        let warehouse = Warehouse::of(location, &options.disk)?;
        let property_columns = location.option("columns").map(parse_columns).transpose()?.is_some();
        let output = pipeline_id(&options.pipeline);
        if options.epochs {
            // A run that was killed in its last commit has no other after it.
            for kind in Kind::ALL {
                let Some(version) = warehouse.find(kind)? else { continue };
                if PendingCommit::is_left(&version, &output)? {
                    let data = DataDir::of(&version)?;
                    let mut lake = Lake::create(data.path(), &options.pipeline, options.disk.clone())?;
                    lake.lock()?;
                    PendingCommit::clean(&warehouse, kind, &output, (options.clock)())?;
                }
            }
        }
        Ok(Self {
            warehouse,
            options: options.clone(),
            property_columns,
            output,
            table: None,
            counts: SinkCounts::default(),
            metrics: vec![],
        })
    }

    /// Returns the table of a kind, which it opens first. Errors: exit status 2 if the run has rows of another kind.
    fn table(&mut self, kind: Kind) -> Result<&mut TableRows> {
        match &self.table {
            Some(table) if table.kind == kind => {}
            Some(table) => {
                let (shown, first) = (&self.warehouse.shown, table.kind);
                return Err(Error::usage(format!("{shown}: expected rows of kind {first}, found {kind}")));
            }
            None => {
                if self.property_columns {
                    check_columns(Some(kind))?;
                }
                let mut table = TableRows::open(&self.warehouse, kind, &self.options, self.property_columns)?;
                if !self.options.epochs {
                    PendingCommit::clean(&self.warehouse, kind, &self.output, (self.options.clock)())?;
                }
                table.noted.add(&std::mem::take(&mut self.metrics));
                self.table = Some(table);
            }
        }
        self.table.as_mut().ok_or_else(|| Error::broken("no table"))
    }

    /// The property with the last epoch of this output.
    fn epoch_property(&self) -> String {
        format!("evt.epoch.{}", self.output)
    }

    /// Returns the last epoch of this output in a version.
    fn epoch_in(&self, version: &TableVersion) -> Result<Option<Epoch>> {
        let property = self.epoch_property();
        let Some(text) = version.metadata.properties.get(&property) else { return Ok(None) };
        let numbers = text.split_once('-').and_then(|(run, number)| Some((run.parse().ok()?, number.parse().ok()?)));
        let wrong = || Error::corrupt(format!("{}: {property} is '{text}'", version.metadata.location));
        numbers.map(|(run, number)| Some(Epoch { run, number })).ok_or_else(wrong)
    }

    /// Adds the rows of the run, or of an epoch, to the table in one commit, unless it has the epoch.
    fn commit_rows(&mut self, epoch: Option<Epoch>) -> Result<()> {
        let Some(mut table) = self.table.take() else { return Ok(()) };
        let done = self.commit_table(&mut table, epoch);
        self.table = Some(table);
        done
    }

    fn commit_table(&mut self, table: &mut TableRows, epoch: Option<Epoch>) -> Result<()> {
        table.parts.extend(table.stream.finish(&mut table.lake)?);
        for _ in 0..ATTEMPTS {
            let now = (self.options.clock)();
            let base = self.warehouse.find_or_create(table.kind, now)?;
            if let Some(epoch) = epoch
                && !epoch.is_due(self.epoch_in(&base)?, &self.warehouse.shown)?
            {
                return table.drop_rows(&base, &self.output);
            }
            let results = table.results.clone();
            let mut prepared = match table.prepare(&base, self.counts) {
                Ok(prepared) => prepared,
                // What the version names may have expired since it was read.
                Err(_) if self.has_newer(table.kind, &base)? => {
                    table.results = results;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if self.publish(table, &base, &mut prepared, epoch)? {
                self.counts = prepared.counts;
                return table.drop_rows(&base, &self.output);
            }
            // Another writer was faster: compare again.
            table.remove_beside(&prepared)?;
            table.results = results;
        }
        let table = table.kind.table();
        Err(Error::busy(format!("{}: {table}: other writers committed first", self.warehouse.shown)))
    }

    /// Whether the table has another version than this one.
    fn has_newer(&self, kind: Kind, base: &TableVersion) -> Result<bool> {
        Ok(self.warehouse.find(kind)?.is_some_and(|version| version.location != base.location))
    }

    /// Says what a commit changes besides the files that it adds.
    fn change(
        &self,
        table: &TableRows,
        base: &TableVersion,
        prepared: &Prepared,
        epoch: Option<Epoch>,
    ) -> Result<TableChange> {
        let mut change = TableChange { removed: prepared.removed.iter().cloned().collect(), ..TableChange::default() };
        change.summary.insert("evt.pipeline".to_owned(), self.options.pipeline.clone());
        change.summary.insert("evt.run".to_owned(), self.options.run.clone());
        if let Some(epoch) = epoch {
            change.properties.insert(self.epoch_property(), epoch.to_string());
            change.summary.insert("evt.epoch".to_owned(), epoch.to_string());
        }
        let metrics = PipelineMetrics::changed(&metrics_of(base)?, &self.options.pipeline, &table.noted, true);
        for file in metrics {
            let json = serde_json::to_string(&file).map_err(|error| Error::broken("a property").because(error))?;
            change.properties.insert(format!("{METRICS}{}", pipeline_id(&file.pipeline)), json);
        }
        Ok(change)
    }

    /// Commits the parts of a version; returns whether no other commit came first.
    fn publish(
        &self,
        table: &mut TableRows,
        base: &TableVersion,
        prepared: &mut Prepared,
        epoch: Option<Epoch>,
    ) -> Result<bool> {
        // A file may have new columns although its rows have no value there.
        let columns = table.lake.table.as_ref().map_or(vec![], TableColumns::added);
        let columns = if prepared.parts.is_empty() { &[] } else { &columns[..] };
        let (warehouse, output) = (&self.warehouse, &*self.output);
        let publication = Publication { warehouse, kind: table.kind, base, output, columns };
        let mut change = self.change(table, base, prepared, epoch)?;
        change.added = publication.describe(&table.lake, &mut prepared.parts)?;
        if change.added.is_empty() && change.removed.is_empty() && change.properties.is_empty() {
            return Ok(true);
        }
        let is_done = publication.commit(&mut table.lake, &prepared.parts, &change, (self.options.clock)())?;
        if let Some(table) = table.lake.table.as_ref().filter(|_| is_done && !columns.is_empty()) {
            table.settle();
        }
        Ok(is_done)
    }
}

impl TableRows {
    fn open(warehouse: &Warehouse, kind: Kind, options: &OpenOptions, may_add_columns: bool) -> Result<Self> {
        let version = warehouse.find_or_create(kind, (options.clock)())?;
        let data = DataDir::of(&version)?;
        let open = if options.epochs { Lake::create } else { Lake::open };
        let mut lake = open(data.path(), &options.pipeline, options.disk.clone())?;
        lake.parallelism = options.parallelism.clone();
        lake.columns = Some(fit(&version, kind)?);
        lake.table = property_columns(&version, kind, may_add_columns)?;
        Ok(Self {
            kind,
            lake,
            _data: data,
            may_add_columns,
            stream: Stream::new(kind, Roll::default()),
            results: Results::new(options.epochs).of_table(),
            parts: vec![],
            known: KnownFiles::default(),
            conflicts: Conflicts::default(),
            noted: NotedMetrics::after(version.may_have_rows()),
        })
    }

    /// Finishes the rows of a commit that is based on a version: leaves out those that it has.
    fn prepare(&mut self, base: &TableVersion, counts: SinkCounts) -> Result<Prepared> {
        self.renumber(base)?;
        self.known.look_in(base, self.kind)?;
        let mut prepared = Prepared { counts, ..Prepared::default() };
        if self.kind == Kind::Metric {
            let parts = self.results.finish(&mut self.lake, Some(&mut self.known), &mut prepared.counts)?;
            for part in &parts {
                if part.replace {
                    // The part has the name of the file that it replaces.
                    prepared.removed.push(self.known.uri_of(&part.name)?);
                }
            }
            for name in std::mem::take(&mut self.results.emptied) {
                prepared.removed.push(self.known.uri_of(&name)?);
            }
            prepared.parts = parts;
        } else {
            for part in self.parts.clone() {
                self.keep_new(&part, &mut prepared)?;
            }
        }
        Ok(prepared)
    }

    /// Writes the parts again if their columns of properties do not fit to those of a version, which another writer has
    /// changed.
    fn renumber(&mut self, base: &TableVersion) -> Result<()> {
        let present = property_columns(base, self.kind, self.may_add_columns)?;
        let fits = match (&self.lake.table, &present) {
            (Some(own), Some(present)) => own.fits(present),
            (own, present) => own.is_none() && present.is_none(),
        };
        self.lake.columns = Some(fit(base, self.kind)?);
        if fits {
            return Ok(());
        }
        let files: Result<Vec<LakeFile>> =
            self.parts.iter().map(|part| LakeFile::of_part(&self.lake, part, self.kind)).collect();
        self.lake.table = present;
        for (part, file) in std::mem::take(&mut self.parts).into_iter().zip(files?) {
            let mut again = Writing::create(&mut self.lake, self.kind, part.day, false)?;
            file.rows()?.try_for_each(|batch| again.write(&self.lake, &batch?))?;
            self.parts.push(again.finish(&self.lake)?);
            self.lake.remove_hidden(&part.part)?;
        }
        Ok(())
    }

    /// Adds the rows of a part that neither the version nor an earlier part has.
    fn keep_new(&mut self, part: &LakePart, prepared: &mut Prepared) -> Result<()> {
        let mut stored = self.known.overlapping(&self.lake, part.day, self.kind, &part.extents)?;
        let beside = |other: &&LakePart| other.day == part.day && other.extents.overlaps(&part.extents);
        for other in prepared.parts.iter().filter(beside) {
            stored.push(LakeFile::of_part(&self.lake, other, self.kind)?);
        }
        let form = PartForm { kind: self.kind, property_columns: false };
        let new = NewRows::of(&mut self.lake, part, &stored, form)?;
        prepared.counts.inserted -= new.unchanged + new.conflicts;
        prepared.counts.unchanged += new.unchanged;
        prepared.counts.conflict += new.conflicts;
        self.conflicts.add(new.conflicts, || new.first_conflict.unwrap_or_default());
        prepared.parts.extend(new.part);
        Ok(())
    }

    /// Removes the parts that were made for a commit which another one preceded.
    fn remove_beside(&self, prepared: &Prepared) -> Result<()> {
        let is_own = |part: &&LakePart| !self.parts.iter().any(|kept| kept.part == part.part);
        prepared.parts.iter().filter(is_own).try_for_each(|part| self.lake.remove_hidden(&part.part))
    }

    /// Forgets the rows, which are committed.
    fn drop_rows(&mut self, base: &TableVersion, output: &str) -> Result<()> {
        self.noted.clear();
        // Those that were renamed are not there.
        std::mem::take(&mut self.parts).iter().try_for_each(|part| self.lake.remove_hidden(&part.part))?;
        PendingCommit::forget(base, output)
    }
}

impl Sink for Iceberg {
    fn write(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        let fit = fit_rows(kind, batch)?;
        let (now, mut counts) = ((self.options.clock)(), self.counts);
        let table = self.table(kind)?;
        let batch = &fit.batch;
        if kind == Kind::Metric {
            table.noted.write(batch)?;
            table.results.apply(batch, &mut counts)?;
        } else {
            let finished = table.stream.push(&mut table.lake, batch, now)?;
            table.parts.extend(finished);
            counts.taken += batch.num_rows() as u64;
            counts.inserted += batch.num_rows() as u64;
        }
        self.counts = counts;
        Ok(count_rejected(fit, &mut self.counts))
    }

    fn note_metrics(&mut self, metrics: &[MetricProgress]) {
        match &mut self.table {
            Some(table) => table.noted.add(metrics),
            None => self.metrics.extend_from_slice(metrics),
        }
    }

    /// Between two commits the table is not locked: a run that hangs there does not hold up its successor, whose epochs
    /// fence it.
    fn commit(&mut self, epoch: Epoch, rows: &mut dyn EpochRows) -> Result<()> {
        let kind = rows.kind();
        self.table(kind)?.lake.lock()?;
        PendingCommit::clean(&self.warehouse, kind, &self.output, (self.options.clock)())?;
        if epoch.is_due(self.committed()?, &self.warehouse.shown)? {
            write_rows(self, rows)?;
            self.commit_rows(Some(epoch))?;
        }
        self.table(kind)?.lake.unlock();
        Ok(())
    }

    fn committed(&mut self) -> Result<Option<Epoch>> {
        let mut last = None;
        for kind in Kind::ALL {
            if let Some(version) = self.warehouse.find(kind)? {
                last = last.max(self.epoch_in(&version)?);
            }
        }
        Ok(last)
    }

    fn counts(&self) -> SinkCounts {
        self.counts
    }

    fn finish(mut self: Box<Self>) -> Result<SinkOutcome> {
        let has_epochs = self.options.epochs;
        if !has_epochs {
            self.commit_rows(None)?;
        } else if let Some(table) = self.table.as_mut().filter(|table| !table.noted.is_empty()) {
            // Every row was in an epoch; the end of the stream may have said more of its metrics.
            table.lake.lock()?;
            self.commit_rows(None)?;
        }
        let notices = self.table.iter().flat_map(|table| {
            table.results.overlap.notices().into_iter().chain(table.conflicts.notice()).collect::<Vec<_>>()
        });
        Ok(SinkOutcome { counts: self.counts, remark: None, notices: notices.collect() })
    }
}

#[cfg(test)]
mod tests;
