//! Tables of Iceberg: commits that are killed or come second, snapshots, names that are gone.

use super::*;
use crate::conformance::{Bench, Rows};
use crate::iceberg::commit::TableCommit;
use crate::iceberg::warehouse::read;
use crate::sample::{as_text, metrics, rows};
use evt_core::error::ErrorKind;
use evt_run::storage::disk::{Disk, DiskFault};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn bench() -> Bench {
    Bench::new(&STORE)
}

fn warehouse(bench: &Bench) -> Warehouse {
    Warehouse::of(&bench.location, &Disk::default()).unwrap()
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
    files_below(&warehouse.directory(kind), &mut all);
    let Some(TableVersion { metadata, location }) = warehouse.find(kind).unwrap() else { return all };
    let mut named: Vec<String> = vec![location];
    named.extend(metadata.metadata_log.iter().map(|version| version.metadata_file.clone()));
    for snapshot in &metadata.snapshots {
        named.push(snapshot.manifest_list.clone());
        for manifest in files::manifests_of(snapshot).unwrap() {
            named.extend(files::entries_of(&manifest).unwrap().into_iter().map(|entry| entry.file.path));
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

/// Changes a property of a table, as another writer would.
fn commit_beside(bench: &Bench, kind: Kind) {
    let warehouse = warehouse(bench);
    let base = warehouse.find(kind).unwrap().unwrap();
    let change =
        TableChange { properties: [("owner".to_owned(), "other".to_owned())].into(), ..TableChange::default() };
    assert!(TableCommit::new(&warehouse, kind, &base).run(&change, 0).unwrap());
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

#[test]
fn small_manifests_are_merged_and_say_the_same() {
    let bench = bench();
    let mut sink = bench.open_as("1", true).unwrap();
    let mut most = 0;
    for number in 1..=230 {
        let first = 10 * i64::try_from(number).unwrap();
        let mut rows = Rows::new(Kind::Event, vec![rows(Kind::Event, first, first + 10)]);
        sink.commit(Epoch { run: 1, number }, &mut rows).unwrap();
        let metadata = warehouse(&bench).find(Kind::Event).unwrap().unwrap().metadata;
        most = most.max(files::manifests_of(metadata.snapshot().unwrap()).unwrap().len());
    }
    assert_eq!(most, 100);
    assert_eq!(bench.table(Kind::Event), as_text(&[rows(Kind::Event, 10, 2310)]));
    assert_eq!(bench.run(Kind::Event, &[rows(Kind::Event, 10, 2310)]).counts.unchanged, 2300);
    assert_eq!((STORE.reader.tables)(&bench.location).unwrap(), [("raw_events".to_owned(), 2300)]);
    assert_eq!(orphans(&bench, Kind::Event), BTreeSet::new());
}

#[test]
fn versions_before_are_a_hundred_and_no_file_of_an_older_one_is_left() {
    let bench = bench();
    bench.run(Kind::Event, &[rows(Kind::Event, 0, 10)]);
    (0..120).for_each(|_| commit_beside(&bench, Kind::Event));
    let version = warehouse(&bench).find(Kind::Event).unwrap().unwrap();
    assert_eq!(version.metadata.metadata_log.len(), 100);
    assert!(version.location.contains("/00121-"), "{}", version.location);
    assert!(!read(&version.metadata.metadata_log[0].metadata_file).unwrap().is_empty());
    assert_eq!(orphans(&bench, Kind::Event), BTreeSet::new());
    assert_eq!(bench.table(Kind::Event).len(), 10);
}
