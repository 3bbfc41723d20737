//! Tables of Iceberg: commits that are killed or come second, snapshots, names that are gone.

use super::*;
use crate::conformance::{Bench, Rows};
use crate::iceberg::commit::TableCommit;
use crate::iceberg::warehouse::catalog::NextVersion;
use crate::iceberg::warehouse::storage::local_uri;
use crate::sample::{as_text, metrics, rows, scattered};
use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::TimestampMicrosecondType;
use evt_core::error::ErrorKind;
use evt_core::iceberg::manifest::{
    DataFile, FileContent, ManifestEntry, ManifestFile, Status, manifest, manifest_list,
};
use evt_core::iceberg::metadata::Snapshot;
use evt_run::storage::disk::{Disk, DiskFault};
use parquet::arrow::ArrowWriter;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn bench() -> Bench {
    Bench::new(&STORE)
}

fn warehouse(bench: &Bench) -> Warehouse {
    Warehouse::of(&bench.location, &Disk::default()).unwrap()
}

/// The directory of a table.
fn directory(bench: &Bench, kind: Kind) -> PathBuf {
    let root = fs::canonicalize(&bench.location.path).unwrap_or_else(|_| PathBuf::from(&bench.location.path));
    root.join("evt").join(kind.table())
}

/// The names of all files below a directory.
fn files_below(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.insert(path.display().to_string());
        }
    }
}

/// The files of a table that nothing names.
fn orphans(bench: &Bench, kind: Kind) -> BTreeSet<String> {
    let (warehouse, mut all) = (warehouse(bench), BTreeSet::new());
    files_below(&directory(bench, kind), &mut all);
    let Some(TableVersion { metadata, location, storage }) = warehouse.find(kind).unwrap() else { return all };
    let mut named: Vec<String> = vec![location];
    named.extend(metadata.metadata_log.iter().map(|version| version.metadata_file.clone()));
    for snapshot in &metadata.snapshots {
        named.push(snapshot.manifest_list.clone());
        for manifest in files::manifests_of(&storage, snapshot).unwrap() {
            named.extend(files::entries_of(&storage, &manifest).unwrap().into_iter().map(|entry| entry.file.path));
            named.push(manifest.path);
        }
    }
    all.retain(|path| !named.iter().any(|uri| uri.strip_prefix("file://") == Some(path)));
    all.retain(|path| !path.ends_with("/.evt/lock"));
    all
}

/// What a scripted run writes: epochs of events, or of metrics of which some replace those before.
fn epochs(kind: Kind) -> Vec<Vec<RecordBatch>> {
    match kind {
        Kind::Metric => vec![
            vec![metrics(&[(0, 0, 1, false), (1, 0, 1, false)])],
            vec![metrics(&[(0, 0, 2, false), (2, 0, 1, false)])],
            vec![metrics(&[(1, 0, 1, true)])],
        ],
        kind => {
            vec![vec![rows(kind, 0, 300), rows(kind, 300, 310)], vec![rows(kind, 310, 400)], vec![rows(kind, 0, 5)]]
        }
    }
}

/// Commits the epochs that the table has not; returns whether nothing failed.
fn run(bench: &Bench, kind: Kind, disk: Disk) -> bool {
    let done = || -> Result<()> {
        let mut sink =
            (STORE.open)(&bench.location, &OpenOptions { disk: disk.clone(), ..bench.options_of("1", true) })?;
        let committed = sink.committed()?.map_or(0, |epoch| epoch.number);
        for (number, batches) in (1..).zip(epochs(kind)) {
            if number > committed {
                sink.commit(Epoch { run: 1, number }, &mut Rows::new(kind, batches))?;
            }
        }
        sink.finish().map(|_| ())
    };
    done().is_ok()
}

#[test]
fn a_run_that_is_killed_at_any_operation_ends_like_an_undisturbed_one_and_leaves_nothing() {
    for kind in [Kind::Event, Kind::Metric] {
        let whole = bench();
        let steps: Vec<Vec<String>> = {
            let mut steps = vec![vec![]];
            let mut sink = whole.open_as("1", true).unwrap();
            for (number, batches) in (1..).zip(epochs(kind)) {
                sink.commit(Epoch { run: 1, number }, &mut Rows::new(kind, batches)).unwrap();
                steps.push(whole.table(kind));
            }
            steps
        };
        let mut kills = 0;
        for after in 0.. {
            let bench = bench();
            let fault = DiskFault { after, torn: 10, errno: Errno::IO, is_lasting: true };
            if run(&bench, kind, Disk::failing(fault)) {
                break;
            }
            kills += 1;
            let seen = bench.table(kind);
            assert!(steps.contains(&seen), "{kind} after {after}: half an epoch: {seen:?}");
            assert!(run(&bench, kind, Disk::default()), "{kind} after {after}");
            assert_eq!(bench.table(kind), steps[steps.len() - 1], "{kind} after {after}");
            assert_eq!(orphans(&bench, kind), BTreeSet::new(), "{kind} after {after}");
        }
        assert!(kills > 30, "{kills}");
    }
}

#[test]
fn a_retraction_removes_the_row_of_an_earlier_epoch_but_not_that_of_another_run() {
    let bench = bench();
    let mut sink = bench.open_as("1", true).unwrap();
    let mut commit = |number: u64, batch: RecordBatch| {
        sink.commit(Epoch { run: 1, number }, &mut Rows::new(Kind::Metric, vec![batch])).unwrap();
        sink.counts().check().unwrap();
        sink.counts()
    };
    let [kept, gone] = [metrics(&[(0, 0, 3, false)]), metrics(&[(1, 0, 2, false)])];
    commit(1, metrics(&[(0, 0, 3, false), (1, 0, 2, false)]));
    commit(2, metrics(&[(5_000, 0, 1, false)]));
    // A session grows: the row of the shorter one is retracted, that of the longer one has another key.
    let counts = commit(3, metrics(&[(1, 0, 2, true), (2, 0, 4, false), (7, 0, 1, true)]));
    assert_eq!((counts.deleted, counts.unchanged, counts.inserted), (1, 1, 4));
    let counts = commit(4, metrics(&[(5_000, 0, 1, true)]));
    assert_eq!((counts.deleted, counts.taken), (2, 7));
    let left = metrics(&[(0, 0, 3, false), (2, 0, 4, false)]);
    assert_eq!(bench.table(Kind::Metric), as_text(std::slice::from_ref(&left)));
    // A later row of the key, and an old retraction of a row that has more events.
    commit(5, gone.clone());
    commit(6, metrics(&[(0, 0, 1, true)]));
    assert_eq!(bench.table(Kind::Metric), as_text(&[left, gone]));
    drop(sink);
    bench.run(Kind::Metric, &[metrics(&[(0, 0, 3, true)])]);
    assert!(bench.table(Kind::Metric).iter().any(|row| as_text(std::slice::from_ref(&kept)).contains(row)));
    let metadata = warehouse(&bench).find(Kind::Metric).unwrap().unwrap().metadata;
    let operations: Vec<_> = metadata.snapshots.iter().map(|snapshot| &*snapshot.summary["operation"]).collect();
    assert_eq!(operations, ["append", "append", "overwrite", "delete", "append"]);
    assert_eq!(orphans(&bench, Kind::Metric), BTreeSet::new());
}

/// Changes a property of a table, as another writer would.
fn commit_beside(bench: &Bench, kind: Kind) {
    let warehouse = warehouse(bench);
    let base = warehouse.find(kind).unwrap().unwrap();
    let change =
        TableChange { properties: [("owner".to_owned(), "other".to_owned())].into(), ..TableChange::default() };
    assert!(TableCommit::new(&warehouse, kind, &base, &[]).unwrap().run(&change, 0).unwrap());
}

#[test]
fn a_commit_after_that_of_another_writer_is_based_on_it_and_counts_once() {
    for kind in [Kind::Event, Kind::Metric] {
        let bench = bench();
        let [first, second] = match kind {
            Kind::Metric => [metrics(&[(0, 0, 1, false)]), metrics(&[(0, 0, 2, false), (1, 0, 1, false)])],
            _ => [rows(kind, 0, 10), rows(kind, 5, 20)],
        };
        bench.run(kind, std::slice::from_ref(&first));
        let mut sink = Iceberg::open(&bench.location, &bench.options_of("2", false)).unwrap();
        sink.write(kind, &second).unwrap();
        let mut table = sink.table.take().unwrap();
        table.parts.extend(table.stream.finish(&mut table.lake).unwrap());
        let (base, results) = (sink.warehouse.find(kind).unwrap().unwrap(), table.results.clone());
        let mut prepared = table.prepare(&base, sink.counts).unwrap();
        commit_beside(&bench, kind);
        assert!(!sink.publish(&mut table, &base, &mut prepared, None).unwrap());
        table.remove_beside(&prepared).unwrap();
        table.results = results;
        sink.table = Some(table);
        let outcome = Box::new(sink).finish().unwrap();
        outcome.counts.check().unwrap();
        let counts = outcome.counts;
        match kind {
            Kind::Metric => {
                assert_eq!((counts.taken, counts.updated, counts.inserted), (2, 1, 1));
                assert_eq!(bench.table(kind), as_text(&[second]));
            }
            _ => {
                assert_eq!((counts.taken, counts.unchanged, counts.inserted), (15, 5, 10));
                assert_eq!(bench.table(kind), as_text(&[rows(kind, 0, 20)]));
            }
        }
        let metadata = warehouse(&bench).find(kind).unwrap().unwrap().metadata;
        assert_eq!(metadata.properties["owner"], "other");
        let operations: Vec<_> = metadata.snapshots.iter().map(|snapshot| &*snapshot.summary["operation"]).collect();
        assert_eq!(operations, if kind == Kind::Metric { ["append", "overwrite"] } else { ["append", "append"] });
        assert_eq!(orphans(&bench, kind), BTreeSet::new());
    }
}

#[test]
fn earlier_snapshots_are_read_by_number_and_by_time() {
    let bench = bench();
    bench.run(Kind::Event, &[rows(Kind::Event, 0, 10)]);
    bench.run(Kind::Event, &[rows(Kind::Event, 10, 20)]);
    let metadata = warehouse(&bench).find(Kind::Event).unwrap().unwrap().metadata;
    let [first, second] = &metadata.snapshots[..] else { panic!("{:?}", metadata.snapshots) };
    let read = |option: &str, value: String| {
        let mut location = bench.location.clone();
        location.options.insert(option.to_owned(), value);
        let batches = (STORE.reader.read)(&location, Kind::Event, Default::default());
        batches.map(|batches| batches.map(|batch| batch.unwrap().num_rows()).sum::<usize>())
    };
    assert_eq!(read("snapshot", first.snapshot_id.to_string()).unwrap(), 10);
    assert_eq!(read("snapshot", second.snapshot_id.to_string()).unwrap(), 20);
    assert_eq!(read("snapshot", "7".to_owned()).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(read("snapshot", "x".to_owned()).unwrap_err().kind(), ErrorKind::Usage);
    let at = |millis: i64| evt_core::time::format_instant(millis * 1000);
    assert_eq!(read("as-of", at(second.timestamp_ms)).unwrap(), 20);
    assert_eq!(read("as-of", at(first.timestamp_ms - 1)).unwrap(), 0, "the table was empty");
    assert_eq!(read("as-of", "yesterday".to_owned()).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn a_warehouse_that_was_moved_is_a_fault_of_the_configuration() {
    let mut bench = bench();
    bench.run(Kind::Event, &[rows(Kind::Event, 0, 10)]);
    let path = bench.location.path.trim_end_matches('/').to_owned();
    fs::rename(&path, format!("{path}-moved")).unwrap();
    bench.location.path = format!("{path}-moved/");
    let error = (STORE.reader.read)(&bench.location, Kind::Event, Default::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("cannot be moved"), "{error}");
    let error = bench.open().write(Kind::Event, &rows(Kind::Event, 0, 10)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn a_location_without_a_slash_or_with_a_character_of_uris_is_wrong_usage() {
    for path in ["lake", "a?b/", "a#b/", "a%20b/"] {
        let location = Location { scheme: SCHEME.to_owned(), path: path.to_owned(), ..Location::default() };
        assert_eq!(Warehouse::of(&location, &Disk::default()).err().unwrap().kind(), ErrorKind::Usage, "{path}");
    }
}

/// Deletes rows of data files by their positions, as Spark does with merge-on-read.
fn delete_by_position(bench: &Bench, kind: Kind, rows: &[(&str, i64)]) {
    let warehouse = warehouse(bench);
    let base = warehouse.find(kind).unwrap().unwrap();
    let path = directory(bench, kind).join("data").join(format!("deletes-{}.parquet", rows.len()));
    let columns: [(&str, ArrayRef); 2] = [
        ("file_path", Arc::new(StringArray::from_iter_values(rows.iter().map(|(uri, _)| uri)))),
        ("pos", Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, position)| *position)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let uri = base.metadata_uri(name);
        base.storage.write(&uri, bytes).map(|()| uri).unwrap()
    };
    let mut next = base.metadata.clone();
    let (sequence, snapshot_id) = (next.last_sequence_number + 1, 4_711 + next.last_sequence_number);
    let uri = local_uri(&path);
    let file = DataFile { content: FileContent::PositionDeletes, path: uri, rows: 1, ..DataFile::default() };
    let entry =
        ManifestEntry { status: Status::Added, snapshot: snapshot_id, sequence: None, file_sequence: None, file };
    let bytes = manifest(&[entry], next.schema().unwrap(), next.partitions().unwrap());
    let before = next.snapshot().unwrap().clone();
    let mut all = files::manifests_of(&base.storage, &before).unwrap();
    all.push(ManifestFile {
        path: write(&format!("deletes-{sequence}.avro"), &bytes),
        bytes: bytes.len() as i64,
        spec: 0,
        has_deletes: true,
        sequence,
        least_sequence: sequence,
        snapshot: snapshot_id,
        files: [1, 0, 0],
        rows: [1, 0, 0],
        days: None,
    });
    let mut snapshot = Snapshot { snapshot_id, sequence_number: sequence, ..before };
    let bytes = manifest_list(&all, &snapshot);
    snapshot.manifest_list = write(&format!("snap-{sequence}.avro"), &bytes);
    next.add(snapshot);
    let (expired, properties) = (&BTreeSet::new(), &BTreeMap::new());
    let (schema, snapshot) = (None, None);
    let next = NextVersion { base: &base, metadata: next, uuid: "x", schema, snapshot, expired, properties };
    assert!(warehouse.commit(kind, next).unwrap());
}

#[test]
fn rows_that_were_deleted_by_position_are_not_there_and_may_be_stored_again() {
    for kind in [Kind::Event, Kind::Metric] {
        let bench = bench();
        let whole = match kind {
            Kind::Metric => metrics(&(0..1000).map(|key| (key % 1440, 0, 5, false)).collect::<Vec<_>>()),
            _ => rows(kind, 0, 1000),
        };
        bench.run(kind, std::slice::from_ref(&whole));
        let all = bench.table(kind);
        let TableVersion { metadata, storage, .. } = warehouse(&bench).find(kind).unwrap().unwrap();
        let manifest = files::manifests_of(&storage, metadata.snapshot().unwrap()).unwrap().swap_remove(0);
        let files = files::entries_of(&storage, &manifest).unwrap().into_iter().map(|entry| entry.file);
        let DataFile { path: first, rows, .. } = files.max_by_key(|file| file.rows).unwrap();
        delete_by_position(&bench, kind, &[(&first, 0), (&first, 1), (&first, rows - 1), ("file:///other", 1)]);
        delete_by_position(&bench, kind, &[(&first, 1), (&first, 2)]);
        assert_eq!(bench.table(kind).len(), 996, "{kind}");
        assert!((STORE.reader.tables)(&bench.location).unwrap().contains(&(kind.table().to_owned(), 996)));
        let counts = bench.run(kind, &[whole]).counts;
        assert_eq!((counts.inserted, counts.unchanged), (4, 996), "{kind}");
        // The deletes hold for files of earlier commits.
        assert_eq!(bench.table(kind), all, "{kind}");
    }
}

#[test]
fn small_manifests_are_merged_and_say_the_same() {
    let bench = bench();
    let mut sink = bench.open_as("1", true).unwrap();
    let mut most = 0;
    for number in 1..=230 {
        let first = 10 * i64::try_from(number).unwrap();
        let mut rows = Rows::new(Kind::Event, vec![rows(Kind::Event, first, first + 10)]);
        sink.commit(Epoch { run: 1, number }, &mut rows).unwrap();
        let version = warehouse(&bench).find(Kind::Event).unwrap().unwrap();
        most = most.max(files::manifests_of(&version.storage, version.metadata.snapshot().unwrap()).unwrap().len());
    }
    assert_eq!(most, 100);
    assert_eq!(bench.table(Kind::Event), as_text(&[rows(Kind::Event, 10, 2310)]));
    assert_eq!(bench.run(Kind::Event, &[rows(Kind::Event, 10, 2310)]).counts.unchanged, 2300);
    assert_eq!((STORE.reader.tables)(&bench.location).unwrap(), [("raw_events".to_owned(), 2300)]);
    assert_eq!(orphans(&bench, Kind::Event), BTreeSet::new());
}

/// An upkeep of the tables of a bench at an instant.
fn keeper(now: i64) -> crate::upkeep::Keeper {
    crate::upkeep::Keeper { is_dry: false, time: now, now, disk: Disk::default(), parallelism: Default::default() }
}

#[test]
fn small_files_of_closed_days_are_joined_and_say_the_same() {
    use crate::upkeep::{Compacted, Compaction};
    for kind in Kind::ALL {
        let bench = bench();
        let mut sink = bench.open_as("1", true).unwrap();
        for number in 1..=12 {
            let first = 10 * i64::try_from(number).unwrap();
            let mut rows = Rows::new(kind, vec![rows(kind, first, first + 10)]);
            sink.commit(Epoch { run: 1, number }, &mut rows).unwrap();
        }
        let (all, described) =
            (bench.table(kind), || (upkeep::UPKEEP.describe)(&bench.location).unwrap().swap_remove(0));
        let (before, epochs) = (described(), described().epochs);
        assert_eq!((before.rows, before.files >= 12), (120, true), "{kind}");
        let end = crate::sample::START + 400 * evt_core::time::DAY;
        let compact = |now: i64, is_dry: bool| {
            let keeper = crate::upkeep::Keeper { is_dry, ..keeper(now) };
            (upkeep::UPKEEP.compact)(&bench.location, &Compaction { closed_after: 0 }, &keeper).unwrap().swap_remove(0)
        };
        let nothing = Compacted { table: kind.table().to_owned(), ..Compacted::default() };
        assert_eq!(compact(crate::sample::START - evt_core::time::DAY, false), nothing, "no day is closed");
        let dry = compact(end, true);
        assert_eq!(described().files, before.files, "nothing was done");
        let compacted = compact(end, false);
        assert_eq!((dry.days, dry.files_before), (compacted.days, compacted.files_before), "{kind}");
        assert_eq!(compacted.days, compacted.files_after, "{kind}: {compacted:?}");
        assert_eq!(compact(end, false), nothing, "{kind}");
        let after = described();
        assert_eq!((after.files, after.rows, after.epochs), (before.days, 120, epochs));
        assert_eq!(bench.table(kind), all, "{kind}");
        let counts = bench.run(kind, &[rows(kind, 10, 130)]).counts;
        assert_eq!(counts.unchanged, 120, "{kind}: a repeated run finds its rows");
        let last = warehouse(&bench).find(kind).unwrap().unwrap().metadata.snapshot().unwrap().clone();
        assert_eq!((&*last.summary["operation"], &*last.summary["total-records"]), ("replace", "120"));
        assert_eq!(orphans(&bench, kind), BTreeSet::new(), "{kind}");
    }
}

#[test]
fn old_snapshots_go_with_their_files_and_what_nothing_names_goes_by_its_age() {
    use crate::upkeep::{Compaction, Expiry};
    for kind in [Kind::Event, Kind::Metric] {
        let bench = bench();
        for batches in epochs(kind) {
            bench.run(kind, &batches);
        }
        let end = crate::sample::START + 400 * evt_core::time::DAY;
        (upkeep::UPKEEP.compact)(&bench.location, &Compaction { closed_after: 0 }, &keeper(end)).unwrap();
        let table = bench.table(kind);
        let left = directory(&bench, kind).join("data").join("left.parquet");
        fs::write(&left, "of a killed run of another program").unwrap();
        // Ages of files are those of the machine.
        let now =
            i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros())
                .unwrap();
        let snapshots = warehouse(&bench).find(kind).unwrap().unwrap().metadata.snapshots.len() as u64;
        let expire = |snapshots: i64, orphans: i64, is_dry: bool| {
            let keeper = crate::upkeep::Keeper { is_dry, ..keeper(now.max(end) + 1_000_000) };
            (upkeep::UPKEEP.expire)(&bench.location, &Expiry { snapshots, orphans, keep: None }, &keeper)
                .unwrap()
                .swap_remove(0)
        };
        let old = 1_000 * evt_core::time::DAY * 100;
        let none = expire(old, old, false);
        assert_eq!((none.snapshots, none.files, none.orphans), (0, 0, 0));
        let dry = expire(0, 0, true);
        assert_eq!((dry.snapshots, dry.orphans), (snapshots - 1, 1), "{kind}: {dry:?}");
        let done = expire(0, 0, false);
        assert_eq!(done, dry, "{kind}: a dry run says what is done");
        assert!(done.files > 0 && done.bytes > 0 && !left.exists(), "{done:?}");
        assert_eq!(bench.table(kind), table, "{kind}");
        assert_eq!(orphans(&bench, kind), BTreeSet::new(), "{kind}");
        let read = |option: &str, value: &str| {
            let mut location = bench.location.clone();
            location.options.insert(option.to_owned(), value.to_owned());
            (STORE.reader.read)(&location, kind, Default::default()).map(drop)
        };
        let error = read("as-of", "2000-01-01T00:00:00Z").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("is left; the oldest one is "), "{error}");
        assert_eq!(expire(0, 0, false).files + expire(0, 0, false).orphans, 0);
        assert_eq!(bench.run(kind, &epochs(kind)[..2].concat()).counts.inserted, 0, "{kind}");
    }
}

#[test]
fn days_that_ended_lose_their_rows_in_one_commit_that_says_since_when_rows_are_kept() {
    use crate::upkeep::Expiry;
    use evt_core::time::{DAY, format_instant};
    for kind in Kind::ALL {
        let bench = bench();
        bench.run(kind, &epochs(kind).concat());
        let (before, kept_since) =
            (bench.table(kind), || (STORE.reader.kept_since.unwrap())(&bench.location, kind).unwrap());
        assert_eq!(kept_since(), None, "{kind}");
        // The first day has ended an hour longer ago than its rows are kept, the second one has not.
        let since = crate::sample::START.div_euclid(DAY) * DAY + DAY;
        let expire = |is_dry: bool| {
            let keeper = crate::upkeep::Keeper { is_dry, ..keeper(since + 10 * DAY + DAY / 24) };
            let expiry = Expiry { snapshots: 900 * DAY, orphans: 900 * DAY, keep: Some(10 * DAY) };
            (upkeep::UPKEEP.expire)(&bench.location, &expiry, &keeper).unwrap().swap_remove(0)
        };
        let dry = expire(true);
        assert_eq!((kept_since(), bench.table(kind)), (None, before.clone()), "{kind}: a dry run");
        assert_eq!((expire(false), dry.days), (dry, 1), "{kind}");
        assert_eq!(kept_since(), Some(since), "{kind}");
        let described = (upkeep::UPKEEP.describe)(&bench.location).unwrap().swap_remove(0);
        assert_eq!(described.kept_since, Some(format_instant(since)), "{kind}");
        let read = crate::ReadRequest::default();
        let rows = (STORE.reader.read)(&bench.location, kind, read).unwrap().map(|batch| batch.unwrap());
        let times = rows.flat_map(|batch| {
            let times = batch.column_by_name(kind.time_column()).unwrap().as_primitive::<TimestampMicrosecondType>();
            times.values().to_vec()
        });
        assert!(times.min().is_none_or(|first| first >= since), "{kind}");
        let left = bench.table(kind);
        assert!(
            left.iter().all(|row| before.contains(row))
                && described.rows == left.len() as u64
                && left.len() < before.len(),
            "{kind}"
        );
        assert_eq!((expire(false).days, bench.table(kind)), (0, left), "{kind}");
        // A snapshot from before has them still.
        let earlier = warehouse(&bench).find(kind).unwrap().unwrap().metadata.snapshots[0].snapshot_id;
        let mut location = bench.location.clone();
        location.options.insert("snapshot".to_owned(), earlier.to_string());
        assert_eq!((STORE.reader.kept_since.unwrap())(&location, kind).unwrap(), None, "{kind}");
        assert_eq!(orphans(&bench, kind), BTreeSet::new(), "{kind}");
    }
}

#[test]
fn the_standing_of_an_earlier_snapshot_is_not_that_of_the_table() {
    use crate::progress::KeptProgress;
    use crate::serving::WindowsRequest;
    use evt_core::time::{DAY, LATEST};
    let (bench, nothing) = (bench(), BTreeMap::new());
    bench.run(Kind::Metric, &[rows(Kind::Metric, 0, 20)]);
    let mut sink = bench.open_as("another", false).unwrap();
    sink.write(Kind::Metric, &rows(Kind::Metric, 20, 30)).unwrap();
    let noted = MetricProgress { watermark: Some(LATEST), ..KeptProgress::of_rows("per minute").metric };
    sink.note_metrics(std::slice::from_ref(&noted));
    sink.finish().unwrap();
    let since = crate::sample::START.div_euclid(DAY) * DAY + DAY;
    let expiry = crate::upkeep::Expiry { snapshots: 900 * DAY, orphans: 900 * DAY, keep: Some(10 * DAY) };
    (upkeep::UPKEEP.expire)(&bench.location, &expiry, &keeper(since + 10 * DAY)).unwrap();
    let found = |location: &Location| {
        let (metric, starts, dimensions) = ("per minute", Default::default(), &nothing);
        let request = WindowsRequest { metric, starts, last_end: LATEST, dimensions, limit: 100 };
        let found = (STORE.reader.serving.unwrap())(location).unwrap().windows(&request).unwrap();
        (found.windows.len(), found.standing)
    };
    let (windows, standing) = found(&bench.location);
    assert_eq!((windows, standing.kept_since), (22, Some(since)));
    assert_eq!(standing.progress, [KeptProgress { pipeline: "p".to_owned(), metric: noted }]);
    let snapshots = warehouse(&bench).find(Kind::Metric).unwrap().unwrap().metadata.snapshots;
    for (snapshot, rows) in snapshots.iter().zip([20, 30]) {
        let mut location = bench.location.clone();
        location.options.insert("snapshot".to_owned(), snapshot.snapshot_id.to_string());
        let (windows, standing) = found(&location);
        assert_eq!((windows, standing.kept_since), (rows, None));
        assert_eq!(standing.progress, [KeptProgress::of_rows("per minute")]);
    }
}

#[test]
fn versions_before_are_a_hundred_and_no_file_of_an_older_one_is_left() {
    let bench = bench();
    bench.run(Kind::Event, &[rows(Kind::Event, 0, 10)]);
    (0..120).for_each(|_| commit_beside(&bench, Kind::Event));
    let version = warehouse(&bench).find(Kind::Event).unwrap().unwrap();
    assert_eq!(version.metadata.metadata_log.len(), 100);
    assert!(version.location.contains("/00121-"), "{}", version.location);
    assert!(!version.storage.read(&version.metadata.metadata_log[0].metadata_file).unwrap().is_empty());
    assert_eq!(orphans(&bench, Kind::Event), BTreeSet::new());
    assert_eq!(bench.table(Kind::Event).len(), 10);
}

/// The bytes of metadata that the last commit of a table has written.
fn metadata_bytes(bench: &Bench, kind: Kind) -> u64 {
    let TableVersion { metadata, location, storage } = warehouse(bench).find(kind).unwrap().unwrap();
    let snapshot = metadata.snapshot().unwrap();
    let manifests = files::manifests_of(&storage, snapshot).unwrap();
    let own = manifests.iter().filter(|manifest| manifest.snapshot == snapshot.snapshot_id);
    let names = own.map(|manifest| &manifest.path).chain([&location, &snapshot.manifest_list]);
    names.map(|uri| storage.read(uri).unwrap().len() as u64).sum()
}

/// Epochs of events of three days with upkeep after each tenth of them: the last tenth writes as much as the third,
/// before which the table gets to name a hundred versions. With EVT_ICEBERG_COMMITS=5000 they are more.
#[test]
fn what_a_commit_writes_does_not_grow_with_those_before_and_a_day_is_a_file() {
    use crate::upkeep::{Compaction, Expiry};
    let commits: u64 = std::env::var("EVT_ICEBERG_COMMITS").map_or(500, |text| text.parse().unwrap());
    let (bench, kind, period) = (bench(), Kind::Event, commits / 10);
    let events = scattered(i64::try_from(commits).unwrap(), 3);
    let mut sink = bench.open_as("1", true).unwrap();
    let end = crate::sample::START + 400 * evt_core::time::DAY;
    let mut written = vec![];
    for tenth in 0..10 {
        let mut bytes = 0;
        for number in 1 + tenth * period..=(tenth + 1) * period {
            let mut rows = Rows::new(kind, vec![events.slice(usize::try_from(number).unwrap() - 1, 1)]);
            sink.commit(Epoch { run: 1, number }, &mut rows).unwrap();
            bytes += metadata_bytes(&bench, kind);
        }
        written.push(bytes / period);
        let keeper = crate::upkeep::Keeper { time: crate::sample::START, ..keeper(end) };
        (upkeep::UPKEEP.compact)(&bench.location, &Compaction { closed_after: 0 }, &keeper).unwrap();
        (upkeep::UPKEEP.expire)(&bench.location, &Expiry { snapshots: 0, orphans: 0, keep: None }, &keeper).unwrap();
        let described = (upkeep::UPKEEP.describe)(&bench.location).unwrap().swap_remove(0);
        assert_eq!((described.files, described.days, described.rows), (3, 3, (tenth + 1) * period));
    }
    assert!(written[9] <= written[2] + written[2] / 50, "bytes of metadata per commit, by tenths: {written:?}");
    println!("bytes of metadata per commit, by tenths: {written:?}");
}
