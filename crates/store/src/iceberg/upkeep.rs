//! The upkeep of a warehouse: descriptions, old rows, old snapshots, files that nothing names, small files.
//!
//! A compaction is one commit for each day, so that a run that commits meanwhile repeats little. What expires leaves
//! the table first and the disk then; a run that is killed between both leaves files that nothing names, which the next
//! one removes by their age.

use crate::iceberg::commit::{TableChange, TableCommit};
use crate::iceberg::files::{SnapshotFiles, entries_of, manifests_of};
use crate::iceberg::pending::PendingCommit;
use crate::iceberg::publish::{DataDir, Publication};
use crate::iceberg::read::{KEPT_SINCE, existing, kept_since_of};
use crate::iceberg::warehouse::catalog::TableVersion;
use crate::iceberg::warehouse::storage::{ListedFile, normal};
use crate::iceberg::warehouse::{Warehouse, fit, property_columns};
use crate::lake::directory::{Lake, LakePart};
use crate::lake::file::Stream;
use crate::lake::metric::Results;
use crate::lake::waiting::Roll;
use crate::upkeep::{Compacted, Compaction, Expired, Expiry, Keeper, TableDescription, Upkeep};
use evt_core::counts::SinkCounts;
use evt_core::error::{Error, Result};
use evt_core::iceberg::manifest::Status;
use evt_core::iceberg::metadata::Snapshot;
use evt_core::kind::Kind;
use evt_core::kind::span::Span;
use evt_core::time::{DAY, format_instant};
use evt_run::client::Location;
use std::collections::{BTreeMap, BTreeSet};

/// The upkeep of a warehouse.
pub const UPKEEP: Upkeep = Upkeep { describe, expire, compact };

/// The size of files that compaction writes.
const TARGET: u64 = 128 << 20;
/// The size up to which a file is small.
const SMALL: u64 = TARGET * 3 / 4;
/// The directory of a compaction below `.evt`.
const COMPACTION: &str = "compact/";
/// The name of compactions where that of an output is needed: in a directory whose files no other run removes.
const OUTPUT: &str = "compact/compaction";
/// How often a commit is repeated after those of other writers.
const ATTEMPTS: usize = 100;

/// Returns the tables of a warehouse.
fn tables(warehouse: &Warehouse) -> Result<Vec<(Kind, TableVersion)>> {
    let found = Kind::ALL.into_iter().map(|kind| Ok(warehouse.find(kind)?.map(|version| (kind, version))));
    found.filter_map(Result::transpose).collect()
}

/// Returns the files of the present snapshot.
fn present(kind: Kind, version: &TableVersion) -> Result<Option<SnapshotFiles>> {
    let find = |snapshot| SnapshotFiles::find(kind, version, snapshot, Span::default());
    version.metadata.snapshot().map(find).transpose()
}

fn describe(location: &Location) -> Result<Vec<TableDescription>> {
    let warehouse = existing(location)?;
    let describe = |(kind, version): (Kind, TableVersion)| {
        let metadata = &version.metadata;
        let files = present(kind, &version)?;
        let rows = files.as_ref().map_or(Ok(0), SnapshotFiles::rows)?;
        let files = files.map_or(vec![], |files| files.files);
        let days: BTreeSet<i64> = files.iter().filter_map(|file| file.day).collect();
        let date = |day: &i64| format_instant(day.saturating_mul(DAY))[..10].to_owned();
        let epochs = metadata.properties.iter();
        let epochs =
            epochs.filter_map(|(name, epoch)| Some((name.strip_prefix("evt.epoch.")?.to_owned(), epoch.clone())));
        let oldest = metadata.snapshots.iter().map(|snapshot| snapshot.timestamp_ms).min();
        Ok(TableDescription {
            table: kind.table().to_owned(),
            rows,
            files: files.len() as u64,
            small_files: files.iter().filter(|file| file.bytes < SMALL).count() as u64,
            bytes: files.iter().map(|file| file.bytes).sum(),
            days: days.len() as u64,
            first_day: days.first().map(date),
            last_day: days.last().map(date),
            snapshots: metadata.snapshots.len() as u64,
            oldest_snapshot: oldest.map(|millis| format_instant(millis.saturating_mul(1000))),
            epochs: epochs.collect(),
            kept_since: kept_since_of(&version)?.map(format_instant),
            metadata_bytes: metadata.to_bytes().len() as u64,
        })
    };
    tables(&warehouse)?.into_iter().map(describe).collect()
}

/// Returns the files that snapshots name: lists, manifests, files of rows and of deletes. With `gone`, also files that
/// a manifest of theirs names as removed.
fn named<'a>(
    version: &TableVersion,
    snapshots: impl IntoIterator<Item = &'a Snapshot>,
    gone: bool,
) -> Result<BTreeSet<String>> {
    let (mut named, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for snapshot in snapshots {
        named.insert(normal(&snapshot.manifest_list));
        for manifest in manifests_of(&version.storage, snapshot)? {
            if !seen.insert(manifest.path.clone()) {
                continue;
            }
            let entries = entries_of(&version.storage, &manifest)?;
            let present = entries.iter().filter(|entry| gone || entry.status != Status::Deleted);
            named.extend(present.map(|entry| normal(&entry.file.path)));
            named.insert(normal(&manifest.path));
        }
    }
    Ok(named)
}

fn expire(location: &Location, expiry: &Expiry, keeper: &Keeper) -> Result<Vec<Expired>> {
    let warehouse = &Warehouse::of_output(location, &keeper.disk)?;
    existing(location)?;
    let clean = |(kind, version): (Kind, TableVersion)| {
        let expired = Expired { table: kind.table().to_owned(), ..Expired::default() };
        let mut cleaning = Cleaning { warehouse, kind, keeper, expired };
        let version = match expiry.keep {
            Some(keep) => cleaning.remove_days(version, keeper.now.saturating_sub(keep))?,
            None => version,
        };
        cleaning.expire_snapshots(version, keeper.now.saturating_sub(expiry.snapshots))?;
        cleaning.remove_orphans(keeper.now.saturating_sub(expiry.orphans))?;
        Ok(cleaning.expired)
    };
    tables(warehouse)?.into_iter().map(clean).collect()
}

/// The cleaning of a table.
struct Cleaning<'a> {
    warehouse: &'a Warehouse,
    kind: Kind,
    keeper: &'a Keeper,
    expired: Expired,
}

impl Cleaning<'_> {
    fn gone(&self) -> Error {
        Error::failed(format!("{}: {}: the table was removed", self.warehouse.shown, self.kind.table()))
    }

    /// Removes the rows of the days that ended before an instant (µs), in one commit that says since when the table
    /// keeps its rows. Returns the version after it.
    fn remove_days(&mut self, mut version: TableVersion, before: i64) -> Result<TableVersion> {
        let Self { warehouse, kind, keeper, .. } = *self;
        let kept_since = before.div_euclid(DAY).saturating_mul(DAY);
        for _ in 0..ATTEMPTS {
            let Some(mut files) = present(kind, &version)? else { return Ok(version) };
            files.files.retain(|file| file.is_before(kept_since));
            if files.files.is_empty() {
                return Ok(version);
            }
            let days: BTreeSet<i64> = files.files.iter().filter_map(|file| file.day).collect();
            let (days, rows) = (days.len() as u64, files.rows()?);
            let said = kept_since.max(kept_since_of(&version)?.unwrap_or(kept_since));
            let said = BTreeMap::from([(KEPT_SINCE.to_owned(), format_instant(said))]);
            let removed = files.files.into_iter().map(|file| file.uri).collect();
            let change = TableChange { removed, properties: said.clone(), summary: said, ..TableChange::default() };
            let is_done =
                keeper.is_dry || TableCommit::new(warehouse, kind, &version, &[])?.run(&change, keeper.time)?;
            if is_done {
                (self.expired.days, self.expired.rows) = (days, rows);
            }
            if keeper.is_dry {
                return Ok(version);
            }
            version = warehouse.find(kind)?.ok_or_else(|| self.gone())?;
            if is_done {
                return Ok(version);
            }
        }
        Err(Error::busy(format!("{}: other writers committed first", warehouse.shown)))
    }

    /// Removes the snapshots from before an instant (µs), then the files that only they named.
    fn expire_snapshots(&mut self, mut version: TableVersion, before: i64) -> Result<()> {
        let Self { warehouse, kind, keeper, .. } = *self;
        for _ in 0..ATTEMPTS {
            let old: Vec<Snapshot> = version.metadata.older(before.div_euclid(1000)).cloned().collect();
            if old.is_empty() {
                return Ok(());
            }
            let gone: BTreeSet<i64> = old.iter().map(|snapshot| snapshot.snapshot_id).collect();
            let is_done = keeper.is_dry || {
                let change = TableChange { expired: gone.clone(), ..TableChange::default() };
                TableCommit::new(warehouse, kind, &version, &[])?.run(&change, keeper.time)?
            };
            if is_done {
                self.expired.snapshots = old.len() as u64;
                let kept = version.metadata.snapshots.iter().filter(|snapshot| !gone.contains(&snapshot.snapshot_id));
                let (kept, files) = (named(&version, kept, false)?, named(&version, &old, true)?);
                // Files elsewhere were registered by another program, and may belong to it.
                for file in version.storage.list(&version.metadata.location)? {
                    let uri = normal(&file.uri);
                    if files.contains(&uri) && !kept.contains(&uri) {
                        self.expired.files += 1;
                        self.remove(&version, &file)?;
                    }
                }
                return Ok(());
            }
            version = warehouse.find(kind)?.ok_or_else(|| self.gone())?;
        }
        Err(Error::busy(format!("{}: other writers committed first", warehouse.shown)))
    }

    /// Removes a file of the table and adds its size.
    fn remove(&mut self, version: &TableVersion, file: &ListedFile) -> Result<()> {
        self.expired.bytes += file.bytes;
        if self.keeper.is_dry { Ok(()) } else { version.storage.remove(&file.uri) }
    }

    /// Removes the files in the directory of the table from before an instant (µs) that nothing names.
    ///
    /// The files are listed first, then the notes of commits are read, then the version: what a run has made meanwhile
    /// is in a note until it is in the version.
    fn remove_orphans(&mut self, before: i64) -> Result<()> {
        let Some(version) = self.warehouse.find(self.kind)? else { return Ok(()) };
        let mut found = version.storage.list(&version.metadata.location)?;
        let is_own = |uri: &str| {
            let below = uri.strip_prefix(&*version.metadata.location).unwrap_or(uri);
            below.contains("/.") || below.ends_with("/version-hint.text")
        };
        found.retain(|file| file.changed < before && !is_own(&file.uri));
        let pending = PendingCommit::all(&version)?;
        let Some(version) = self.warehouse.find(self.kind)? else { return Ok(()) };
        let metadata = &version.metadata;
        let mut known = named(&version, &metadata.snapshots, false)?;
        known.insert(normal(&version.location));
        known.extend(metadata.metadata_log.iter().map(|version| normal(&version.metadata_file)));
        known.extend(metadata.statistics_files().into_iter().map(normal));
        let is_pending =
            |uri: &str| pending.iter().any(|commit| uri.contains(&commit.uuid) || commit.data.contains(uri));
        for file in found {
            if !known.contains(&normal(&file.uri)) && !is_pending(&file.uri) {
                self.remove(&version, &file)?;
                self.expired.orphans += 1;
            }
        }
        Ok(())
    }
}

fn compact(location: &Location, compaction: &Compaction, keeper: &Keeper) -> Result<Vec<Compacted>> {
    let warehouse = Warehouse::of_output(location, &keeper.disk)?;
    existing(location)?;
    let mut all = vec![];
    for (kind, version) in tables(&warehouse)? {
        let mut compacted = Compacted { table: kind.table().to_owned(), ..Compacted::default() };
        let days = days_to_compact(kind, &version, compaction, keeper)?;
        if !days.is_empty() && !keeper.is_dry {
            let data = DataDir::of(&version)?;
            let mut lake = Lake::open_beside(data.path(), COMPACTION, keeper.disk.clone())?;
            lake.parallelism = keeper.parallelism.clone();
            PendingCommit::clean(&warehouse, kind, OUTPUT, keeper.time)?;
            for day in days.into_keys() {
                let place = DayOfTable { warehouse: &warehouse, kind, day };
                compact_day(place, &mut lake, keeper, &mut compacted)?;
            }
        } else {
            for files in days.into_values() {
                compacted.days += 1;
                compacted.files_before += files;
                compacted.files_after += 1;
            }
        }
        all.push(compacted);
    }
    Ok(all)
}

/// Returns the closed days with files to join, and the numbers of these.
fn days_to_compact(
    kind: Kind,
    version: &TableVersion,
    compaction: &Compaction,
    keeper: &Keeper,
) -> Result<BTreeMap<i64, u64>> {
    let Some(files) = present(kind, version)? else { return Ok(BTreeMap::new()) };
    let end = keeper.now.saturating_sub(compaction.closed_after);
    let mut days: BTreeMap<i64, u64> = BTreeMap::new();
    for file in files.files.iter().filter(|file| file.bytes < SMALL) {
        if let Some(day) = file.day.filter(|day| day.saturating_add(1).saturating_mul(DAY) <= end) {
            *days.entry(day).or_default() += 1;
        }
    }
    days.retain(|_, files| *files > 1);
    Ok(days)
}

/// A day of a table.
#[derive(Clone, Copy)]
struct DayOfTable<'a> {
    warehouse: &'a Warehouse,
    kind: Kind,
    day: i64,
}

/// Joins the small files of a day in one commit.
fn compact_day(place: DayOfTable<'_>, lake: &mut Lake, keeper: &Keeper, compacted: &mut Compacted) -> Result<()> {
    let DayOfTable { warehouse, kind, day } = place;
    let start = day.saturating_mul(DAY);
    let span = Span { since: Some(start), until: Some(start.saturating_add(DAY)) };
    for _ in 0..ATTEMPTS {
        let gone = || Error::failed(format!("{}: the table was removed", kind.table()));
        let base = warehouse.find(kind)?.ok_or_else(gone)?;
        let Some(snapshot) = base.metadata.snapshot() else { return Ok(()) };
        let mut files = SnapshotFiles::find(kind, &base, snapshot, span)?;
        files.files.retain(|file| file.bytes < SMALL && file.day == Some(day));
        let (number, rows) = (files.files.len() as u64, files.rows()?);
        if number < 2 {
            return Ok(());
        }
        lake.columns = Some(fit(&base, kind)?);
        lake.table = property_columns(&base, kind, false)?;
        let removed = files.files.iter().map(|file| file.uri.clone()).collect();
        let mut parts = joined(kind, lake, files)?;
        let written: u64 = parts.iter().map(|part| part.inserted).sum();
        if written != rows {
            return Err(Error::broken(format!("{}: {rows} rows of a day became {written}", kind.table())));
        }
        let publication = Publication { warehouse, kind, base: &base, output: OUTPUT, columns: &[] };
        let added = publication.describe(lake, &mut parts)?;
        let summary = [("evt.compaction".to_owned(), format_instant(start)[..10].to_owned())].into();
        let change = TableChange { added, removed, summary, keeps_rows: true, ..TableChange::default() };
        if publication.commit(lake, &parts, &change, keeper.time)? {
            PendingCommit::forget(&base, OUTPUT)?;
            compacted.days += 1;
            compacted.files_before += number;
            compacted.files_after += parts.len() as u64;
            compacted.rows += rows;
            return Ok(());
        }
        parts.iter().try_for_each(|part| lake.remove_hidden(&part.part))?;
    }
    Err(Error::busy(format!("{}: other writers committed first", warehouse.shown)))
}

/// Writes the rows of files to as few as possible.
fn joined(kind: Kind, lake: &mut Lake, files: SnapshotFiles) -> Result<Vec<LakePart>> {
    if kind == Kind::Metric {
        let (mut results, mut counts) = (Results::default().of_table(), SinkCounts::default());
        files.batches(Default::default()).try_for_each(|batch| results.apply(&batch?, &mut counts))?;
        return results.finish(lake, None, &mut counts);
    }
    let target = usize::try_from(TARGET).unwrap_or(usize::MAX);
    let (mut stream, mut parts) = (Stream::new(kind, Roll { bytes: Some(target), age: None }), vec![]);
    for batch in files.batches(Default::default()) {
        parts.extend(stream.push(lake, &batch?, 0)?);
    }
    parts.extend(stream.finish(lake)?);
    Ok(parts)
}
