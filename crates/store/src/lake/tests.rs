use super::{Lake, Roll, STORE, Stream, parse_roll};
use crate::CheckScope;
use crate::conformance::Bench;
use crate::lake::LakePart;
use crate::lake::file::FileLimits;
use crate::lake::read::file::LakeFile;
use crate::sample::{as_text, events, metrics, rows, scattered};
use arrow::array::RecordBatch;
use evt_core::error::ErrorKind;
use evt_core::kind::Kind;
use evt_core::kind::span::Span;
use evt_core::time::HOUR;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

fn bench() -> Bench {
    Bench::new(&STORE)
}

/// Reads every file in the lake except the lock.
pub(super) fn contents(bench: &Bench) -> BTreeMap<String, Vec<u8>> {
    let root = Path::new(&bench.location.path);
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root).unwrap().map(Result::unwrap) {
        for file in std::fs::read_dir(entry.path()).unwrap().map(Result::unwrap) {
            let name = file.path().strip_prefix(root).unwrap().display().to_string();
            if name != ".evt/lock" {
                found.insert(name, std::fs::read(file.path()).unwrap());
            }
        }
    }
    found
}

fn cut(batch: &RecordBatch, sizes: &[usize]) -> Vec<RecordBatch> {
    let (mut parts, mut at) = (Vec::new(), 0);
    for size in sizes.iter().cycle() {
        let size = (*size).clamp(1, batch.num_rows() - at);
        parts.push(batch.slice(at, size));
        at += size;
        if at == batch.num_rows() {
            return parts;
        }
    }
    parts
}

/// Returns the parts that a stream makes of `batches`: day, name and bytes of each, in the order they were finished.
fn parts(batches: &[RecordBatch]) -> Vec<(i64, String, Vec<u8>)> {
    let limits = FileLimits {
        step_bytes: 100 << 10,
        scattered_bytes: 400 << 10,
        many_rows: 64,
        open_files: 8,
        row_groups: 3,
        row_group_bytes: 100 << 10,
    };
    let directory = tempfile::tempdir().unwrap();
    let mut lake = Lake::open(directory.path(), "p", evt_run::storage::disk::Disk::default()).unwrap();
    let roll = Roll { bytes: Some(100 << 10), age: None };
    let mut stream = Stream::new(Kind::Event, roll).with_limits(limits);
    let mut finished = Vec::new();
    for batch in batches {
        finished.extend(stream.push(&mut lake, batch, 0).unwrap());
    }
    finished.extend(stream.finish(&mut lake).unwrap());
    let bytes = |part: &LakePart| std::fs::read(directory.path().join(".evt").join(&part.part)).unwrap();
    finished.iter().map(|part| (part.day, part.name.clone(), bytes(part))).collect()
}

/// Many files: a file system searches long for a place of a new file among those that were just removed.
#[test]
fn every_byte_of_a_lake_is_a_function_of_the_rows_and_not_of_their_batches() {
    for days in [1, 3, 20, 60] {
        let events = scattered(6_000, days);
        let whole = parts(std::slice::from_ref(&events));
        // Scattered rows are written several times.
        assert!(whole.len() as i64 >= if days > 3 { 2 * days } else { days }, "{days} days: {} files", whole.len());
        let sizes = prop::collection::vec(1..3000usize, 1..5);
        let mut runner = TestRunner::new(ProptestConfig { cases: 6, failure_persistence: None, ..Default::default() });
        let is_same = |sizes: Vec<usize>| {
            prop_assert!(whole == parts(&cut(&events, &sizes)));
            Ok(())
        };
        runner.run(&sizes, is_same).unwrap();
    }
}

#[test]
fn rows_lie_in_the_directory_of_their_day_and_more_days_than_open_files_are_no_matter() {
    let bench = bench();
    let events = scattered(20_000, 150);
    bench.run(Kind::Event, std::slice::from_ref(&events));
    let files = contents(&bench);
    let days: Vec<&str> = files.keys().filter_map(|name| name.split('/').next()).collect();
    assert_eq!((days.len(), days[0], days[149]), (150, "date=2024-01-15", "date=2024-06-12"), "one file for each day");
    assert_eq!(as_text(&bench.read(Kind::Event)), as_text(&[events]));
}

#[test]
fn files_rolled_by_size_appear_at_once_and_the_same_again_after_a_kill() {
    let (bench, undisturbed) = (bench().with("roll", "200KiB"), bench().with("roll", "200KiB"));
    let events = scattered(60_000, 1);
    let mut killed = bench.open();
    killed.write(Kind::Event, &events.slice(0, 40_000)).unwrap();
    let rolled = contents(&bench).keys().filter(|name| name.ends_with(".parquet")).count();
    assert!(rolled >= 1);
    drop(killed);
    let counts = bench.run(Kind::Event, std::slice::from_ref(&events)).counts;
    assert!(counts.unchanged > 0 && counts.inserted > 0 && counts.unchanged + counts.inserted == 60_000, "{counts}");
    undisturbed.run(Kind::Event, &[events]);
    assert!(contents(&bench) == contents(&undisturbed));
}

#[test]
fn files_rolled_by_age_appear_without_an_end() {
    let bench = bench().with("roll", "1m");
    let clock = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let reading = clock.clone();
    let options = crate::OpenOptions {
        up: evt_run::metrics::ServerStatus::default(),
        pipeline: "p".to_owned(),
        run: "r".to_owned(),
        epochs: false,
        is_at_once: false,
        clock: Arc::new(move || reading.load(std::sync::atomic::Ordering::Relaxed)),
        disk: evt_run::storage::disk::Disk::default(),
        parallelism: Default::default(),
    };
    let mut sink = (STORE.open)(&bench.location, &options).unwrap();
    for (now, visible) in [(0, 0), (59, 0), (60, 30), (61, 30), (121, 50)] {
        clock.store(now * evt_core::time::SECOND, std::sync::atomic::Ordering::Relaxed);
        sink.write(Kind::Event, &rows(Kind::Event, now * 10, now * 10 + 10)).unwrap();
        assert_eq!(bench.table(Kind::Event).len(), visible);
    }
    clock.store(182 * evt_core::time::SECOND, std::sync::atomic::Ordering::Relaxed);
    sink.tick().unwrap();
    assert_eq!(bench.table(Kind::Event).len(), 50, "no row waits yet");
    sink.write(Kind::Event, &rows(Kind::Event, 1820, 1830)).unwrap();
    clock.store(242 * evt_core::time::SECOND, std::sync::atomic::Ordering::Relaxed);
    sink.tick().unwrap();
    assert_eq!(bench.table(Kind::Event).len(), 60, "time passes though nothing is written");
}

#[test]
fn parts_that_no_epoch_names_are_removed_by_the_run_that_fails_or_after_a_kill_by_the_next() {
    let bench = bench();
    let mut failed = bench.open();
    failed.write(Kind::Event, &scattered(60_000, 2)).unwrap();
    let left: Vec<String> = contents(&bench).into_keys().collect();
    assert!(!left.is_empty() && left.iter().all(|name| name.starts_with(".evt/")), "{left:?}");
    drop(failed);
    assert_eq!(contents(&bench).len(), 0);
    std::fs::write(Path::new(&bench.location.path).join(".evt/7.part"), "of a killed run").unwrap();
    bench.run(Kind::Event, &[rows(Kind::Event, 0, 1)]);
    let left: Vec<String> = contents(&bench).into_keys().collect();
    assert!(left.len() == 1 && left[0].starts_with("date="), "{left:?}");
}

#[test]
fn a_directory_is_for_one_run_and_one_kind() {
    let bench = bench();
    let mut first = bench.open();
    assert_eq!((STORE.check)(&bench.location, CheckScope::Opening).err().unwrap().kind(), ErrorKind::InUse);
    assert_eq!(bench.open_as("second", false).err().unwrap().kind(), ErrorKind::InUse);
    first.write(Kind::Event, &rows(Kind::Event, 0, 1)).unwrap();
    assert_eq!(first.write(Kind::Late, &rows(Kind::Late, 0, 1)).err().unwrap().kind(), ErrorKind::Usage);
    first.finish().unwrap();
    let error = bench.open().write(Kind::Metric, &rows(Kind::Metric, 0, 1)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("expected aggregated_metrics, found raw_events"), "{error}");
    assert_eq!(
        (STORE.reader.read)(&bench.location, Kind::Dead, Default::default()).err().unwrap().kind(),
        ErrorKind::Usage
    );
}

/// Makes eight metrics of one day.
fn day(first: i64) -> RecordBatch {
    metrics(&(first..first + 8).map(|key| (key, 0, 5, false)).collect::<Vec<_>>())
}

/// Returns why a run with these rows must not replace the days, if so.
fn rejected(bench: &Bench, kind: Kind, batch: &RecordBatch) -> String {
    let before = contents(bench);
    let outcome = bench.run(kind, std::slice::from_ref(batch));
    assert_eq!((outcome.counts.stale, outcome.notices.len()), (batch.num_rows() as u64, 1));
    assert!(outcome.notices[0].fails && contents(bench) == before, "something was replaced");
    outcome.notices[0].text.clone()
}

#[test]
fn replace_leaves_the_days_of_the_run_with_its_rows_and_other_days_alone() {
    let bench = bench();
    bench.run(Kind::Metric, &[day(0), day(8), day(16)]);
    let replacing = bench.with("mode", "replace").with("shrink", "ok");
    // The second day gets one smaller row; the only row of the third is retracted.
    let outcome = replacing.run(Kind::Metric, &[metrics(&[(9, 0, 2, false), (17, 0, 1, false), (17, 0, 1, true)])]);
    assert_eq!(outcome.remark.as_deref(), Some("files: 1 new, 2 removed"));
    assert_eq!(replacing.table(Kind::Metric), as_text(&[day(0), metrics(&[(9, 0, 2, false)])]));
    let again = replacing.run(Kind::Metric, &[metrics(&[(9, 0, 1, false)])]);
    assert_eq!((again.counts.updated, again.remark.as_deref()), (1, Some("files: 1 replaced")));
}

#[test]
fn a_day_of_metrics_is_not_replaced_by_fewer_rows_or_without_one_of_its_keys() {
    let bench = bench().with("mode", "replace");
    bench.run(Kind::Metric, &[day(0), day(8)]);
    // One key of the second day is missing: the first day, which is complete, is not replaced either.
    let fewer = metrics(&(0..15).map(|key| (key, 0, 9, false)).collect::<Vec<_>>());
    let said = rejected(&bench, Kind::Metric, &fewer);
    assert!(
        said.starts_with("nothing was replaced: 2024-01-16 has 8 rows and would have 7; its row {\"metric_name\":"),
        "{said}"
    );
    // The same number of rows, with another key.
    let others = metrics(&(1..8).chain([100]).map(|key| (key, 0, 9, false)).collect::<Vec<_>>());
    let said = rejected(&bench, Kind::Metric, &others);
    assert!(said.contains("2024-01-15 has 8 rows and would have "), "{said}");
    let more = metrics(&(0..8).map(|key| (key, 0, 9, false)).collect::<Vec<_>>());
    assert_eq!(bench.run(Kind::Metric, std::slice::from_ref(&more)).counts.updated, 8);
    assert_eq!(bench.table(Kind::Metric), as_text(&[more, day(8)]));
}

#[test]
fn a_day_is_not_replaced_where_an_origin_would_have_fewer_rows() {
    let bench = bench().with("mode", "replace");
    let of = |origin: &str, rows: i64| events(origin, 0, rows);
    bench.run(Kind::Event, &[of("a", 30), of("b", 10)]);
    let said = rejected(&bench, Kind::Event, &of("a", 40));
    let expected = "nothing was replaced: 2024-01-15 has 40 rows and would have 40; rows of b: 10 before, 0 after \
                    (shrink=ok replaces it anyway)";
    assert_eq!(said, expected);
    assert!(rejected(&bench, Kind::Event, &of("b", 39)).contains("would have 39; rows of a: 30 before, 0 after"));
    let bench = bench.with("shrink", "ok");
    bench.run(Kind::Event, &[of("a", 40)]);
    assert_eq!(bench.table(Kind::Event), as_text(&[of("a", 40)]));
    for kind in [Kind::Late, Kind::Alert] {
        let bench = self::bench().with("mode", "replace");
        bench.run(kind, &[rows(kind, 0, 10)]);
        assert!(rejected(&bench, kind, &rows(kind, 0, 9)).contains(" 10 rows and would have 9"), "{kind:?}");
        bench.run(kind, &[rows(kind, 0, 11)]);
        assert_eq!(bench.table(kind), as_text(&[rows(kind, 0, 11)]), "{kind:?}");
    }
}

#[test]
fn rows_of_standard_input_are_not_replaced_by_any_run() {
    for kind in [Kind::Event, Kind::Dead] {
        let bench = bench().with("mode", "replace");
        bench.run(kind, &[rows(kind, 0, 10)]);
        let said = rejected(&bench, kind, &rows(kind, 0, 11));
        assert!(said.contains("would have 11; 10 of its rows come from standard input"), "{kind:?}: {said}");
        let bench = bench.with("shrink", "ok");
        bench.run(kind, &[rows(kind, 0, 11)]);
        assert_eq!(bench.table(kind), as_text(&[rows(kind, 0, 11)]), "{kind:?}");
    }
}

#[test]
fn a_metric_is_replaced_by_one_of_fewer_events_only_where_its_revision_is_greater() {
    let bench = bench().with("mode", "replace");
    bench.run(Kind::Metric, &[metrics(&[(0, 1, 5, false), (1, 1, 5, false)])]);
    // A smaller revision, the same one, and a retraction with fewer events.
    for other in [vec![(1, 0, 4, false)], vec![(1, 1, 4, false)], vec![(1, 1, 4, true), (2, 1, 1, false)]] {
        let batch = metrics(&[vec![(0, 1, 6, false)], other].concat());
        let outcome = bench.run(Kind::Metric, &[batch]);
        let said = outcome.notices.first().map(|notice| notice.text.as_str()).unwrap_or_default();
        assert!(said.contains("; 1 key has more events there") && said.contains(": rows 5 before, 4 after"), "{said}");
    }
    bench.run(Kind::Metric, &[metrics(&[(0, 2, 1, false), (1, 1, 5, true), (2, 1, 1, false)])]);
    assert_eq!(bench.table(Kind::Metric), as_text(&[metrics(&[(0, 2, 1, false), (2, 1, 1, false)])]));
}

#[test]
fn replacing_shows_no_file_before_the_end_however_it_rolls_and_nothing_at_a_stopped_one() {
    let bench = bench().with("mode", "replace").with("roll", "200KiB");
    bench.run(Kind::Event, &[scattered(1000, 1)]);
    let before = contents(&bench);
    let shown =
        || contents(&bench).into_iter().filter(|(name, _)| !name.starts_with(".evt/")).collect::<BTreeMap<_, _>>();
    let mut sink = bench.open();
    sink.write(Kind::Event, &scattered(60_000, 1)).unwrap();
    assert!(shown() == before && contents(&bench).len() > 2);
    let outcome = sink.finish_stopped().unwrap();
    assert_eq!((outcome.counts.stale, outcome.notices.len()), (60_000, 1));
    assert!(contents(&bench) == before, "nothing is left");
    bench.run(Kind::Event, &[scattered(60_000, 1)]);
    assert!(contents(&bench).len() > 1);
    assert_eq!(bench.table(Kind::Event).len(), 60_000);
}

#[test]
fn a_file_that_is_not_ours_is_left_alone_and_said() {
    let bench = bench();
    let day = Path::new(&bench.location.path).join("date=2024-01-15");
    std::fs::create_dir_all(&day).unwrap();
    std::fs::write(day.join("x.parquet"), "PAR1").unwrap();
    assert_eq!(bench.open_as("r", false).err().unwrap().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_roll_is_a_size_an_age_or_both() {
    let roll = parse_roll("128MiB,10m").unwrap();
    assert_eq!((roll.bytes, roll.age), (Some(128 << 20), Some(600 * evt_core::time::SECOND)));
    assert!(parse_roll("128").is_err() && parse_roll("").is_err());
}

mod faults {
    //! Runs that write a lake on a disk that fails at one operation: at the first, at the second, and so on to the
    //! last.

    use super::contents;
    use crate::conformance::{Bench, Rows};
    use crate::lake::STORE;
    use crate::lake::disk::{days, entries, is_whole};
    use crate::sample::{as_text, metrics, scattered};
    use arrow::array::RecordBatch;
    use evt_core::error::{Error, ErrorKind};
    use evt_core::kind::Kind;
    use evt_run::checkpoint::epoch::Epoch;
    use evt_run::storage::disk::{Disk, DiskFault};
    use rustix::io::Errno;
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    /// Calls `check` with disks that fail at operation 0, 1, … in every way, until a run no longer reaches the fault.
    /// `check` returns whether its run has reached it.
    fn at_each_operation(check: impl Fn(Disk, &str) -> bool) {
        for (errno, is_lasting) in [(Errno::NOSPC, false), (Errno::NOSPC, true), (Errno::IO, false), (Errno::IO, true)]
        {
            let fault = |after| DiskFault { after, torn: 100, errno, is_lasting };
            let operations = (0..).find(|after| !check(Disk::failing(fault(*after)), &format!("{:?}", fault(*after))));
            assert!(operations.is_some_and(|operations| operations > 15), "only {operations:?} operations");
        }
    }

    /// The complete files that a reader sees.
    fn shown(bench: &Bench) -> BTreeMap<String, Vec<u8>> {
        let root = Path::new(&bench.location.path);
        let files = days(root).unwrap().into_iter().flat_map(|day| entries(&day).unwrap());
        let read =
            |path: PathBuf| (path.strip_prefix(root).unwrap().display().to_string(), std::fs::read(&path).unwrap());
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

    /// Epochs that join at the end of the run.
    fn joining() -> Bench {
        Bench::new(&STORE).with("roll", "1MiB")
    }

    #[test]
    fn epochs_join_in_files_that_show_once_although_the_disk_fails() {
        let (alone, undisturbed) = (Bench::new(&STORE), joining());
        epochs(&alone).unwrap();
        epochs(&undisturbed).unwrap();
        let wanted = as_text(&alone.read(Kind::Event));
        assert_eq!(as_text(&undisturbed.read(Kind::Event)), wanted);
        let (files, joined) = (shown(&alone).len(), shown(&undisturbed).len());
        assert!(joined > 0 && joined < files, "{joined} of {files} files");
        at_each_operation(|disk, context| {
            let mut bench = joining();
            bench.disk = disk.clone();
            let ended = epochs(&bench);
            let read = || as_text(&bench.read(Kind::Event));
            match ended {
                Ok(()) => assert!(read() == wanted, "{context}"),
                Err(error) => assert_names_the_lake(&error, &bench, context),
            }
            if !shown(&bench).is_empty() {
                let known = read();
                assert!(known.iter().all(|row| wanted.contains(row)), "{context}: other rows");
                let mut once = known.clone();
                once.dedup();
                assert_eq!(once.len(), known.len(), "{context}: a row twice");
            }
            bench.disk = Disk::default();
            epochs(&bench).unwrap();
            assert!(as_text(&bench.read(Kind::Event)) == wanted, "{context}: the next run");
            let hidden = entries(&Path::new(&bench.location.path).join(".evt")).unwrap();
            let waits = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rows");
            assert!(!hidden.iter().any(waits), "{context}: {hidden:?}");
            disk.has_failed()
        });
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
}

#[test]
fn row_groups_outside_of_a_span_are_not_read() {
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let (path, all) = (dir.path().join("a.parquet"), rows(kind, 0, 100));
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(10)).build();
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), all.schema(), Some(properties)).unwrap();
        writer.write(&all).unwrap();
        writer.close().unwrap();
        let file = LakeFile::open(path, kind).unwrap();
        for (since, until, most) in
            [(None, None, 100), (Some(0), Some(1), 10), (Some(2), Some(8), 40), (Some(20), None, 90)]
        {
            let instant = |hour: i64| crate::sample::START + hour * HOUR;
            let span = Span { since: since.map(instant), until: until.map(instant) };
            let read: Vec<_> = file.batches(None, span).unwrap().map(Result::unwrap).collect();
            let count: usize = read.iter().map(RecordBatch::num_rows).sum();
            // The rows of the sample of metrics are not in the order of their windows.
            assert!(count <= most || kind == Kind::Metric, "{kind}: {count}");
            let inside = |batch: &RecordBatch| span.select(batch.clone()).unwrap();
            let found = as_text(&read.iter().map(inside).collect::<Vec<_>>());
            assert_eq!(found, as_text(&[inside(&all)]), "{kind}");
        }
    }
}
