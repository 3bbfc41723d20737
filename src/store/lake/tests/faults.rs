//! Runs that write a lake on a disk that fails at one operation: at the first, at the second, and so on to the last.

use super::contents;
use crate::error::{Error, ErrorKind};
use crate::kind::Kind;
use crate::store::Epoch;
use crate::store::conformance::{Bench, Rows};
use crate::store::disk::{Disk, DiskFault};
use crate::store::lake::STORE;
use crate::store::lake::disk::{days, entries, is_whole};
use crate::store::sample::{as_text, metrics, scattered};
use arrow::array::RecordBatch;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Calls `check` with disks that fail at operation 0, 1, … in every way, until a run no longer reaches the fault. `check` returns
/// whether its run has reached it.
fn at_each_operation(check: impl Fn(Disk, &str) -> bool) {
    for (errno, is_lasting) in [(Errno::NOSPC, false), (Errno::NOSPC, true), (Errno::IO, false), (Errno::IO, true)] {
        let fault = |after| DiskFault { after, torn: 100, errno, is_lasting };
        let operations = (0..).find(|after| !check(Disk::failing(fault(*after)), &format!("{:?}", fault(*after))));
        assert!(operations.is_some_and(|operations| operations > 15), "only {operations:?} operations");
    }
}

/// The complete files that a reader sees.
fn shown(bench: &Bench) -> BTreeMap<String, Vec<u8>> {
    let root = Path::new(&bench.location.path);
    let files = days(root).unwrap().into_iter().flat_map(|day| entries(&day).unwrap());
    let read = |path: PathBuf| (path.strip_prefix(root).unwrap().display().to_string(), std::fs::read(&path).unwrap());
    files.filter(|path| is_whole(path)).map(read).collect()
}

/// Makes a complete run with the bench's disk.
fn run(bench: &Bench, kind: Kind, batches: &[RecordBatch]) -> Result<(), Error> {
    let mut sink = bench.open_as("run", false)?;
    for batch in batches {
        sink.write(kind, batch)?;
        sink.tick()?;
    }
    sink.finish().map(|_| ())
}

fn assert_names_the_lake(error: &Error, bench: &Bench, context: &str) {
    assert_eq!(error.kind(), ErrorKind::Io, "{context}: {error}");
    assert!(error.to_string().contains(&format!("parquet:{}", bench.location.path)), "{context}: {error}");
}

#[test]
fn a_lake_whose_disk_fails_shows_whole_files_and_the_next_run_completes_it() {
    let batches: Vec<RecordBatch> = (0..3).map(|step| scattered(600, 3).slice(step * 200, 200)).collect();
    let bench = || Bench::new(&STORE).with("roll", "10KiB");
    let undisturbed = bench();
    run(&undisturbed, Kind::Event, &batches).unwrap();
    let wanted = contents(&undisturbed);
    assert!(wanted.len() >= 3);
    at_each_operation(|disk, context| {
        let mut bench = bench();
        bench.disk = disk.clone();
        let ended = run(&bench, Kind::Event, &batches);
        for (name, bytes) in shown(&bench) {
            assert!(wanted.get(&name) == Some(&bytes), "{context}: {name} is not whole");
        }
        match ended {
            Ok(()) => assert!(contents(&bench) == wanted, "{context}"),
            Err(error) => assert_names_the_lake(&error, &bench, context),
        }
        bench.disk = Disk::default();
        run(&bench, Kind::Event, &batches).unwrap();
        assert!(contents(&bench) == wanted, "{context}: the next run");
        disk.has_failed()
    });
}

#[test]
fn days_whose_replacement_fails_are_old_or_new_and_the_next_run_replaces_them() {
    let day = |first: i64, rows| metrics(&(first..first + 8).map(|key| (key, 0, rows, false)).collect::<Vec<_>>());
    let bench = || {
        let bench = Bench::new(&STORE).with("mode", "replace");
        run(&bench, Kind::Metric, &[day(0, 5), day(8, 5)]).unwrap();
        bench
    };
    let (old, new) = (bench(), bench());
    run(&new, Kind::Metric, &[day(0, 6), day(8, 6)]).unwrap();
    let (old, new) = (contents(&old), contents(&new));
    at_each_operation(|disk, context| {
        let mut bench = bench();
        bench.disk = disk.clone();
        let ended = run(&bench, Kind::Metric, &[day(0, 6), day(8, 6)]);
        for (name, bytes) in shown(&bench) {
            assert!([&old, &new].iter().any(|whole| whole.get(&name) == Some(&bytes)), "{context}: {name}");
        }
        match ended {
            Ok(()) => assert!(contents(&bench) == new, "{context}"),
            Err(error) => assert_names_the_lake(&error, &bench, context),
        }
        bench.disk = Disk::default();
        drop(bench.open());
        let left = contents(&bench);
        assert!(left == old || left == new, "{context}: some days are replaced: {:?}", left.keys());
        run(&bench, Kind::Metric, &[day(0, 6), day(8, 6)]).unwrap();
        assert!(contents(&bench) == new, "{context}: the next run");
        disk.has_failed()
    });
}

/// Commits two epochs, except those that are committed.
fn epochs(bench: &Bench) -> Result<(), Error> {
    let mut sink = bench.open_as("run", true)?;
    let committed = sink.committed()?;
    for number in 1..=2 {
        let epoch = Epoch { run: 1, number };
        if committed.is_none_or(|committed| committed < epoch) {
            let rows = scattered(400, 2).slice((number as usize - 1) * 200, 200);
            sink.commit(epoch, &mut Rows::new(Kind::Event, vec![rows]))?;
        }
    }
    sink.finish().map(|_| ())
}

#[test]
fn an_epoch_whose_disk_fails_is_committed_once_by_the_next_run() {
    let undisturbed = Bench::new(&STORE);
    epochs(&undisturbed).unwrap();
    let wanted = contents(&undisturbed);
    at_each_operation(|disk, context| {
        let mut bench = Bench::new(&STORE);
        bench.disk = disk.clone();
        match epochs(&bench) {
            Ok(()) => assert!(contents(&bench) == wanted, "{context}"),
            Err(error) => assert_names_the_lake(&error, &bench, context),
        }
        for (name, bytes) in shown(&bench) {
            assert!(wanted.get(&name) == Some(&bytes), "{context}: {name} is not whole");
        }
        bench.disk = Disk::default();
        epochs(&bench).unwrap();
        assert!(contents(&bench) == wanted, "{context}: the next run: {:?}", contents(&bench).keys());
        assert_eq!(as_text(&bench.read(Kind::Event)), as_text(&undisturbed.read(Kind::Event)), "{context}");
        disk.has_failed()
    });
}
