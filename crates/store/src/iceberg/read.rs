//! Reads the tables of a warehouse back: files in the order of their days and commits, rows in the order they have
//! there.

use crate::iceberg::files::SnapshotFiles;
use crate::iceberg::warehouse::Warehouse;
use crate::iceberg::warehouse::catalog::TableVersion;
use crate::lake::read::StreamExtents;
use crate::lake::read::file::bits_of;
use crate::{ReadRequest, StreamExtent, Tables};
use evt_core::error::{Error, Result};
use evt_core::iceberg::metadata::Snapshot;
use evt_core::kind::Kind;
use evt_core::kind::span::Span;
use evt_core::time::{format_instant, parse_instant};
use evt_run::checkpoint::epoch::Batches;
use evt_run::client::Location;
use evt_run::storage::disk::Disk;

/// Which snapshot is read.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// The present one.
    Present,
    /// The one with this number (`?snapshot=`).
    Numbered(i64),
    /// The last one at an instant (µs) or before (`?as-of=`).
    AsOf(i64),
}

impl Wanted {
    /// Returns the one that a URI names. Errors: exit status 2 if that is none.
    pub fn of(location: &Location) -> Result<Self> {
        let wrong = |name: &str, expected: &str, found: &str| {
            Error::usage(format!("{location}: {name}: expected {expected}, found '{found}'"))
        };
        match (location.option("snapshot"), location.option("as-of")) {
            (None, None) => Ok(Self::Present),
            (Some(number), None) => match number.parse() {
                Ok(number) => Ok(Self::Numbered(number)),
                Err(_) => Err(wrong("snapshot", "the number of a snapshot", number)),
            },
            (None, Some(instant)) => match parse_instant(instant) {
                Some(micros) => Ok(Self::AsOf(micros)),
                None => Err(wrong("as-of", "an instant such as 2024-01-15T10:30:00Z", instant)),
            },
            (Some(_), Some(_)) => Err(Error::usage(format!("{location}: give snapshot or as-of, not both"))),
        }
    }

    /// Returns the snapshot of a version; `None` if the table had no rows then. Errors: exit status 65 if it is gone.
    pub fn choose(self, version: &TableVersion) -> Result<Option<&Snapshot>> {
        let metadata = &version.metadata;
        let oldest = || match metadata.snapshots.iter().min_by_key(|snapshot| snapshot.timestamp_ms) {
            Some(oldest) => format!("{} of {}", oldest.snapshot_id, format_instant(oldest.timestamp_ms * 1000)),
            None => "none".to_owned(),
        };
        match self {
            Self::Present => Ok(metadata.snapshot()),
            Self::Numbered(number) => {
                let found = metadata.snapshots.iter().find(|snapshot| snapshot.snapshot_id == number);
                let missing = || format!("{}: no snapshot {number}; the oldest one is {}", metadata.location, oldest());
                found.map(Some).ok_or_else(|| Error::corrupt(missing()))
            }
            Self::AsOf(micros) => {
                let millis = micros.div_euclid(1000);
                let found = metadata.snapshot_at(millis);
                // Once the first snapshot has expired it is unknown whether there was one.
                let is_first = |snapshot: &Snapshot| snapshot.parent_snapshot_id.is_none();
                let was_empty = metadata.snapshots.iter().any(|one| is_first(one) && one.timestamp_ms > millis);
                match found {
                    None if metadata.snapshots.is_empty() || was_empty => Ok(None),
                    None => {
                        let at = format_instant(micros);
                        let message = format!("{}: no snapshot of {at} is left; the oldest one is ", metadata.location);
                        Err(Error::corrupt(message + &oldest()))
                    }
                    found => Ok(found),
                }
            }
        }
    }
}

/// Opens the table of a kind. Errors: exit status 2 if there is none.
fn open(location: &Location, kind: Kind) -> Result<TableVersion> {
    let warehouse = existing(location)?;
    let found = warehouse.find(kind)?;
    found.ok_or_else(|| Error::usage(format!("{location}: there is no table {}", kind.table())))
}

/// Returns the warehouse of a URI to read, which may not exist. Errors: exit status 2 for an option of outputs.
pub fn of_input(location: &Location) -> Result<Warehouse> {
    if let Some(name) = ["columns", "create"].into_iter().find(|name| location.option(name).is_some()) {
        return Err(Error::usage(format!("{location}: {name}= is an option of outputs only")));
    }
    Warehouse::of(location, &Disk::default())
}

/// Opens the warehouse of a URI. Errors: exit status 2 if there is none.
pub fn existing(location: &Location) -> Result<Warehouse> {
    let warehouse = of_input(location)?;
    match warehouse.exists()? {
        true => Ok(warehouse),
        false if location.path.ends_with('/') => {
            Err(Error::usage(format!("{location}: expected a warehouse with catalog.db, found none")))
        }
        false => Err(Error::usage(format!("{location}: the catalog has no tables yet"))),
    }
}

/// Returns its tables and the numbers of their rows.
pub fn tables(location: &Location) -> Result<Tables> {
    let (warehouse, wanted, mut tables) = (existing(location)?, Wanted::of(location)?, vec![]);
    for kind in Kind::ALL {
        let Some(version) = warehouse.find(kind)? else { continue };
        let rows = match wanted.choose(&version)? {
            None => 0,
            Some(snapshot) => SnapshotFiles::find(kind, &version, snapshot, Span::default())?.rows()?,
        };
        tables.push((kind.table().to_owned(), rows));
    }
    Ok(tables)
}

/// Reads the rows of the files that may have rows of the span.
pub fn read(location: &Location, kind: Kind, request: ReadRequest) -> Result<Batches> {
    let (version, wanted) = (open(location, kind)?, Wanted::of(location)?);
    match wanted.choose(&version)? {
        None => Ok(Box::new(std::iter::empty())),
        Some(snapshot) => Ok(SnapshotFiles::find(kind, &version, snapshot, request.span)?.batches(request)),
    }
}

/// Returns the instant since which the table of a kind keeps its rows.
pub fn kept_since(location: &Location, kind: Kind) -> Result<Option<i64>> {
    let (warehouse, wanted) = (Warehouse::of(location, &Disk::default())?, Wanted::of(location)?);
    let version = if warehouse.exists()? { warehouse.find(kind)? } else { None };
    version.map_or(Ok(None), |version| kept_since_in(&version, wanted))
}

/// Returns the instant since which a snapshot of a version keeps its rows.
pub fn kept_since_in(version: &TableVersion, wanted: Wanted) -> Result<Option<i64>> {
    match wanted {
        Wanted::Present => kept_since_of(version),
        // An earlier snapshot has rows that were removed later.
        _ => {
            let (mut snapshot, mut kept) = (wanted.choose(version)?, None);
            while let Some(one) = snapshot {
                kept = kept.max(parse_kept_since(version, one.summary.get(KEPT_SINCE))?);
                let parent = |other: &&Snapshot| Some(other.snapshot_id) == one.parent_snapshot_id;
                snapshot = version.metadata.snapshots.iter().find(parent);
            }
            Ok(kept)
        }
    }
}

/// The property that says since when a table keeps its rows; it is in the summary of the snapshot, too.
pub const KEPT_SINCE: &str = "evt.kept-since";

/// Returns the instant (µs) since which a version keeps its rows. Errors: exit status 65 if the property is none.
pub fn kept_since_of(version: &TableVersion) -> Result<Option<i64>> {
    parse_kept_since(version, version.metadata.properties.get(KEPT_SINCE))
}

fn parse_kept_since(version: &TableVersion, text: Option<&String>) -> Result<Option<i64>> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || format!("{}: {KEPT_SINCE}: expected an instant, found '{text}'", version.metadata.location);
    parse_instant(text).map(Some).ok_or_else(|| Error::corrupt(wrong()))
}

/// Returns the extent of each partition of the events.
pub fn stream_extents(location: &Location) -> Result<Vec<StreamExtent>> {
    let (mut extents, kind) = (StreamExtents::default(), Kind::Event);
    let columns = Some(bits_of(kind, StreamExtents::COLUMNS.into_iter())?);
    read(location, kind, ReadRequest { columns, ..ReadRequest::default() })?
        .try_for_each(|batch| extents.add(&batch?))?;
    Ok(extents.finish())
}
