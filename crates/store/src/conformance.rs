//! One test suite for every store in [`ALL`]: `commit`, `finish`, kills and replays.

use super::sample::{Pane, as_text, events, metrics, rows, scattered};
use crate::{ALL, CheckScope, OpenOptions, ReadRequest, RowsToWrite, Sink, SinkOutcome, Store};
use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use evt_core::counts::SinkCounts;
use evt_core::error::ErrorKind;
use evt_core::kind::Kind;
use evt_core::kind::dead::Rejected;
use evt_run::checkpoint::epoch::{Batches, Epoch, EpochFaults, EpochRows};
use evt_run::client::Location;
use evt_run::storage::disk::Disk;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// A store at a location of its own: a directory, or a schema or prefix on a server.
pub struct Bench {
    pub store: &'static Store,
    /// Removed with the bench.
    _directory: TempDir,
    pub location: Location,
    pub disk: Disk,
}

impl Bench {
    pub fn new(store: &'static Store) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let slash = if store.scheme == "iceberg" { "/" } else { "" };
        let path = format!("{}{slash}", directory.path().join(store.scheme).display());
        let scheme = store.scheme.to_owned();
        Self {
            store,
            _directory: directory,
            location: Location { scheme, path, ..Location::default() },
            disk: Disk::default(),
        }
    }

    /// Makes a bench on a server; `None` without a server, which is reported, and an error in CI.
    pub fn on_server(store: &'static Store) -> Option<Self> {
        let variable = format!("EVT_{}", store.scheme.to_uppercase());
        let Ok(uri) = std::env::var(&variable) else {
            assert!(!crate::in_ci::in_ci(), "{variable} is not set (scripts/services)");
            println!("skipped: {variable} is not set (scripts/services)");
            return None;
        };
        let mut bench = Self::new(store);
        bench.location.path = uri.split_once("://").unwrap().1.to_owned();
        (bench.location.slashes, bench.location.is_remote) = (true, true);
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let room = format!("evt_test_{}_{number}", std::process::id());
        let option = ["schema", "prefix"].into_iter().find(|option| store.options.contains(option)).unwrap();
        Some(bench.with(option, &room))
    }

    /// Returns `kind` if the store holds it, else one that it does.
    fn kind_or(&self, kind: Kind) -> Kind {
        if self.store.kinds.contains(&kind) { kind } else { self.store.kinds[0] }
    }

    pub fn with(mut self, option: &str, value: &str) -> Self {
        self.location.options.insert(option.to_owned(), value.to_owned());
        self
    }

    pub fn open_as(&self, run: &str, epochs: bool) -> Result<Box<dyn Sink>, evt_core::Error> {
        (self.store.open)(&self.location, &self.options_of(run, epochs))
    }

    pub fn options_of(&self, run: &str, epochs: bool) -> OpenOptions {
        OpenOptions { run: run.to_owned(), epochs, ..self.options() }
    }

    pub fn options(&self) -> OpenOptions {
        OpenOptions {
            up: evt_run::metrics::ServerStatus::default(),
            pipeline: "p".to_owned(),
            run: "run".to_owned(),
            epochs: false,
            is_at_once: false,
            clock: Arc::new(|| super::sample::START),
            disk: self.disk.clone(),
            parallelism: Default::default(),
        }
    }

    /// Opens the store with options that `change` has changed.
    pub fn open_with(&self, change: impl FnOnce(&mut OpenOptions)) -> Box<dyn Sink> {
        let mut options = self.options();
        change(&mut options);
        (self.store.open)(&self.location, &options).unwrap()
    }

    pub fn open(&self) -> Box<dyn Sink> {
        self.open_as("run", false).unwrap()
    }

    /// Makes a complete run.
    pub fn run(&self, kind: Kind, batches: &[RecordBatch]) -> SinkOutcome {
        let mut sink = self.open();
        for batch in batches {
            assert!(sink.write(kind, batch).unwrap().is_empty());
            sink.counts().check().unwrap();
        }
        let outcome = sink.finish().unwrap();
        outcome.counts.check().unwrap();
        outcome
    }

    pub fn read(&self, kind: Kind) -> Vec<RecordBatch> {
        (self.store.reader.read)(&self.location, kind, ReadRequest::default()).unwrap().map(Result::unwrap).collect()
    }

    /// Reads the table; empty if there is no table yet.
    pub fn table(&self, kind: Kind) -> Vec<String> {
        match (self.store.reader.read)(&self.location, kind, ReadRequest::default()) {
            Ok(batches) => as_text(&batches.map(Result::unwrap).collect::<Vec<_>>()),
            Err(_) => Vec::new(),
        }
    }
}

/// Stores on this machine.
fn local() -> impl Iterator<Item = Bench> {
    ALL.iter().filter(|store| !store.is_remote()).map(|store| Bench::new(store))
}

/// Returns every store whose server is reachable.
pub fn all() -> impl Iterator<Item = Bench> {
    local().chain(ALL.iter().filter(|store| store.is_remote()).filter_map(|store| Bench::on_server(store)))
}

/// Returns the stores that hold rows of `kind`.
fn holding(kind: Kind) -> impl Iterator<Item = Bench> {
    all().filter(move |bench| bench.store.kinds.contains(&kind))
}

fn law(sink: &dyn Sink, taken: u64) {
    sink.counts().check().unwrap();
    assert_eq!(sink.counts().taken, taken);
}

#[test]
fn looking_whether_it_can_be_written_makes_and_changes_nothing() {
    for bench in local() {
        let look = || (bench.store.check)(&bench.location, CheckScope::Rows(RowsToWrite::default()));
        look().unwrap();
        let path = std::path::Path::new(&bench.location.path);
        assert!(!path.exists(), "{}", bench.store.scheme);
        bench.run(Kind::Event, &[rows(Kind::Event, 0, 10)]);
        look().unwrap();
        assert_eq!(bench.table(Kind::Event).len(), 10);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "{}", bench.store.scheme);
        bench.run(Kind::Event, &[rows(Kind::Event, 10, 20)]);
    }
}

const N: usize = 1000;

#[test]
fn what_is_written_is_read_back_whatever_the_kind() {
    for kind in Kind::ALL {
        for bench in holding(kind) {
            let written = [rows(kind, 0, 300), rows(kind, 300, N as i64)];
            let outcome = bench.run(kind, &written);
            assert_eq!(outcome.counts.inserted, N as u64, "{} {kind:?}", bench.store.scheme);
            let read = bench.read(kind);
            assert!(read.iter().all(|batch| batch.schema() == kind.schema()), "{} {kind:?}", bench.store.scheme);
            assert_eq!(as_text(&read), as_text(&written), "{} {kind:?}", bench.store.scheme);
            let tables = (bench.store.reader.tables)(&bench.location).unwrap();
            assert!(tables.contains(&(kind.table().to_owned(), N as u64)), "{tables:?}");
        }
    }
}

#[test]
fn the_same_rows_again_change_nothing() {
    for kind in Kind::ALL {
        for bench in holding(kind) {
            bench.run(kind, &[rows(kind, 0, 200)]);
            let first = bench.table(kind);
            let again = bench.run(kind, &[rows(kind, 0, 123), rows(kind, 123, 200)]);
            assert_eq!((again.counts.taken, again.counts.unchanged), (200, 200), "{} {kind:?}", bench.store.scheme);
            assert_eq!(bench.table(kind), first);
        }
    }
}

#[test]
fn a_run_that_is_killed_and_started_again_ends_like_an_undisturbed_one() {
    for kind in Kind::ALL {
        for (bench, undisturbed) in holding(kind).zip(holding(kind)) {
            let batches = [rows(kind, 0, 100), rows(kind, 100, 300)];
            let mut killed = bench.open();
            killed.write(kind, &batches[0]).unwrap();
            drop(killed);
            let seen = bench.table(kind);
            let whole = as_text(&batches[..1]);
            assert!(seen.is_empty() || seen == whole, "{}: half a run looks whole", bench.store.scheme);
            bench.run(kind, &batches);
            undisturbed.run(kind, &batches);
            assert_eq!(bench.table(kind), undisturbed.table(kind), "{} {kind:?}", bench.store.scheme);
        }
    }
}

/// Rows of an epoch in memory.
pub struct Rows {
    pub kind: Kind,
    pub batches: Vec<RecordBatch>,
    pub rejected: EpochFaults,
    /// The batch at which reading fails, as if the run were killed there.
    pub fails_at: Option<usize>,
}

impl Rows {
    pub fn new(kind: Kind, batches: Vec<RecordBatch>) -> Self {
        Self { kind, batches, rejected: EpochFaults::default(), fails_at: None }
    }
}

impl EpochRows for Rows {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn batches(&self) -> Result<Batches, evt_core::Error> {
        let fails_at = self.fails_at;
        let batches = self.batches.clone().into_iter().enumerate();
        Ok(Box::new(batches.map(move |(at, batch)| match fails_at == Some(at) {
            true => Err(evt_core::Error::failed("killed")),
            false => Ok(batch),
        })))
    }

    fn keep_rejected(&mut self, rejected: EpochFaults) -> Result<(), evt_core::Error> {
        self.rejected = rejected;
        Ok(())
    }
}

#[test]
fn an_epoch_is_committed_once_and_read_back_by_the_next_run() {
    let epochs = [Epoch { run: 3, number: 1 }, Epoch { run: 3, number: 2 }];
    for bench in all() {
        let kind = bench.kind_or(Kind::Event);
        let mut sink = bench.open_as("3", true).unwrap();
        assert_eq!(sink.committed().unwrap(), None);
        for (epoch, from) in epochs.into_iter().zip([0, 400]) {
            let mut rows = Rows::new(kind, vec![rows(kind, from, from + 150), rows(kind, from + 150, from + 400)]);
            sink.commit(epoch, &mut rows).unwrap();
            law(&*sink, from as u64 + 400);
            let table = bench.table(kind);
            assert_eq!(table.len(), from as usize + 400, "{}", bench.store.scheme);
            sink.commit(epoch, &mut rows).unwrap();
            assert_eq!(bench.table(kind), table);
            law(&*sink, from as u64 + 400);
            assert_eq!(sink.committed().unwrap(), Some(epoch));
        }
        drop(sink);
        let mut next = bench.open_as("4", true).unwrap();
        assert_eq!(next.committed().unwrap(), Some(epochs[1]));
        let old = next.commit(epochs[0], &mut Rows::new(kind, vec![rows(kind, 900, 950)]));
        assert_eq!(old.unwrap_err().kind(), ErrorKind::Fenced, "{}", bench.store.scheme);
        assert_eq!(next.committed().unwrap(), Some(epochs[1]), "an old epoch is not committed again");
        assert_eq!(next.finish().unwrap().counts.taken, 0);
    }
}

/// The stores that apply an epoch in one transaction show none of its rows after a failure; the others show rows that a
/// repeated commit finds again.
#[test]
fn an_epoch_whose_commit_fails_is_committed_by_the_next_run() {
    let epoch = Epoch { run: 1, number: 1 };
    for bench in all() {
        let kind = bench.kind_or(Kind::Late);
        let batches = vec![rows(kind, 0, 200), rows(kind, 200, 300), rows(kind, 300, 310)];
        let mut dies = bench.open_as("1", true).unwrap();
        let mut torn = Rows { fails_at: Some(2), ..Rows::new(kind, batches.clone()) };
        assert_eq!(dies.commit(epoch, &mut torn).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(dies.committed().unwrap(), None, "{}", bench.store.scheme);
        drop(dies);
        let is_atomic = bench.store.scheme != "redis";
        assert!(!is_atomic || bench.table(kind).is_empty(), "{}: a part of an epoch is visible", bench.store.scheme);
        let mut next = bench.open_as("1", true).unwrap();
        next.commit(epoch, &mut Rows::new(kind, batches)).unwrap();
        assert_eq!(bench.table(kind), as_text(&[rows(kind, 0, 310)]), "{}", bench.store.scheme);
        assert_eq!(next.committed().unwrap(), Some(epoch));
        next.finish().unwrap().counts.check().unwrap();
        assert_eq!(bench.table(kind), as_text(&[rows(kind, 0, 310)]), "{}", bench.store.scheme);
    }
}

#[test]
fn rows_of_an_epoch_that_a_store_cannot_hold_are_kept_by_their_number_and_the_others_stay() {
    let epoch = Epoch { run: 1, number: 1 };
    for bench in holding(Kind::Event) {
        let good = rows(Kind::Event, 0, 3);
        let mut columns = good.columns().to_vec();
        let times = TimestampMicrosecondArray::from(vec![Some(0), Some(i64::MAX), Some(1)]);
        columns[8] = Arc::new(times.with_timezone("UTC")) as ArrayRef;
        let bad = RecordBatch::try_new(good.schema(), columns).unwrap();
        let mut batches = Rows::new(Kind::Event, vec![rows(Kind::Event, 10, 15), bad]);
        let mut sink = bench.open_as("1", true).unwrap();
        sink.commit(epoch, &mut batches).unwrap();
        assert_eq!(batches.rejected.rows.iter().map(|one| one.row).collect::<Vec<_>>(), [6], "{}", bench.store.scheme);
        law(&*sink, 8);
        assert_eq!(sink.finish().unwrap().counts.dead, 1);
        assert_eq!(bench.table(Kind::Event).len(), 7);
    }
}

#[test]
fn a_run_that_has_been_replaced_is_fenced() {
    for bench in all() {
        let kind = bench.kind_or(Kind::Event);
        let mut sink = bench.open_as("9", true).unwrap();
        for run in [9, 8] {
            let epoch = Epoch { run, number: 1 };
            match sink.commit(epoch, &mut Rows::new(kind, vec![rows(kind, 0, 10)])) {
                Ok(()) => assert_eq!(run, 9),
                Err(error) => assert_eq!((run, error.kind()), (8, ErrorKind::Fenced)),
            }
        }
    }
}

#[test]
fn two_days_of_standard_input_overwrite_nothing() {
    for bench in holding(Kind::Event) {
        let (monday, tuesday) = (events("-", 0, 100), events("-", 5000, 5100));
        bench.run(Kind::Event, std::slice::from_ref(&monday));
        assert_eq!(bench.run(Kind::Event, std::slice::from_ref(&tuesday)).counts.inserted, 100);
        assert_eq!(bench.table(Kind::Event), as_text(&[monday, tuesday]));
    }
}

#[test]
fn an_instant_no_reader_can_hold_comes_back_and_the_other_rows_stay() {
    for bench in holding(Kind::Event) {
        let good = rows(Kind::Event, 0, 3);
        let mut columns = good.columns().to_vec();
        let times = TimestampMicrosecondArray::from(vec![Some(0), Some(i64::MAX), Some(1)]);
        columns[8] = Arc::new(times.with_timezone("UTC")) as ArrayRef;
        let batch = RecordBatch::try_new(good.schema(), columns).unwrap();
        let mut sink = bench.open();
        let rejected = sink.write(Kind::Event, &batch).unwrap();
        assert_eq!(rejected.iter().map(|rejected| rejected.row).collect::<Vec<_>>(), [1]);
        assert_eq!(rejected[0].fault.message, "event_time is outside the years 1 to 9999");
        law(&*sink, 3);
        assert_eq!(sink.finish().unwrap().counts.dead, 1);
        assert_eq!(bench.table(Kind::Event).len(), 2);
    }
}

#[test]
fn a_metric_under_the_id_of_another_key_comes_back() {
    for bench in all() {
        let good = metrics(&[(0, 0, 1, false), (1, 0, 1, false)]);
        let mut columns = good.columns().to_vec();
        columns[0] = metrics(&[(0, 0, 1, false), (2, 0, 1, false)]).column(0).clone();
        let mut sink = bench.open();
        let rejected = sink.write(Kind::Metric, &RecordBatch::try_new(good.schema(), columns).unwrap()).unwrap();
        assert_eq!(rejected.iter().map(|rejected| rejected.row).collect::<Vec<_>>(), [1]);
        assert_eq!(
            sink.finish().unwrap().counts,
            SinkCounts { taken: 2, inserted: 1, dead: 1, ..SinkCounts::default() }
        );
    }
}

#[test]
fn a_value_the_store_has_no_room_for_comes_back_and_the_other_rows_stay() {
    for bench in holding(Kind::Event) {
        let good = rows(Kind::Event, 0, 40);
        let mut columns = good.columns().to_vec();
        let texts = (0..40).map(|row| match row {
            7 => r#"{"s":"\u0000"}"#,
            8 => r#"{"s":"\ud800"}"#,
            30 => r#"{"n":1e400}"#,
            _ => "{}",
        });
        columns[4] = Arc::new(texts.map(Some).collect::<StringArray>()) as ArrayRef;
        let batch = RecordBatch::try_new(good.schema(), columns).unwrap();
        let mut sink = bench.open();
        let rejected: Vec<usize> =
            sink.write(Kind::Event, &batch).unwrap().iter().map(|rejected| rejected.row).collect();
        law(&*sink, 40);
        assert_eq!(sink.finish().unwrap().counts.dead, rejected.len() as u64);
        assert!(rejected.iter().all(|row| [7, 8, 30].contains(row)), "{rejected:?}");
        let held =
            evt_core::kind::dead::without(&batch, &rejected.iter().map(|row| rejection(*row)).collect::<Vec<_>>());
        assert_eq!(bench.table(Kind::Event), as_text(&[held.unwrap()]), "{}", bench.store.scheme);
    }
}

fn rejection(row: usize) -> Rejected {
    Rejected::by_sink(row, "")
}

const FULL_DISK: &str = "EVT_TEST_FULL_DISK";

/// A limit of the file size simulates a full disk. It applies to a whole process, so the test runs itself as a process.
#[test]
fn a_full_disk_is_one_line_and_74_and_leaves_nothing_that_looks_whole() {
    if let Ok(path) = std::env::var(FULL_DISK) {
        return fill_up(&path);
    }
    let name = "conformance::a_full_disk_is_one_line_and_74_and_leaves_nothing_that_looks_whole";
    for bench in local() {
        let child = std::process::Command::new("sh")
            .args(["-c", r#"trap "" XFSZ; exec "$0" --exact "$1" --nocapture"#])
            .arg(std::env::current_exe().unwrap())
            .arg(name)
            .env(FULL_DISK, &bench.location.path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        let scheme = bench.store.scheme;
        let line = said.lines().find(|line| line.starts_with(&format!("{scheme} failed "))).expect(&said);
        assert!(line.contains("74") && line.contains(&bench.location.path), "{line}");
        let seen = bench.table(Kind::Event);
        let events = scattered(30_000, 1);
        let all_rows = as_text(std::slice::from_ref(&events));
        assert!(seen.len() < all_rows.len() && seen.iter().all(|row| all_rows.binary_search(row).is_ok()));
        assert!(seen.is_empty() || scheme != "parquet", "a file is there that is not whole");
        bench.run(Kind::Event, &[events]);
        assert_eq!(bench.table(Kind::Event), all_rows);
    }
}

/// Writes until the first error and prints it; files are limited to 400 KiB.
fn fill_up(path: &str) {
    let limit = rustix::process::Rlimit { current: Some(400 << 10), maximum: Some(400 << 10) };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    let store = ALL.iter().find(|store| path.trim_end_matches('/').ends_with(store.scheme)).unwrap();
    let location = Location { scheme: store.scheme.to_owned(), path: path.to_owned(), ..Location::default() };
    let clock = Arc::new(|| super::sample::START);
    let options = OpenOptions {
        up: evt_run::metrics::ServerStatus::default(),
        pipeline: "p".to_owned(),
        run: "full".to_owned(),
        epochs: false,
        is_at_once: false,
        clock,
        disk: Disk::default(),
        parallelism: Default::default(),
    };
    let mut sink = (store.open)(&location, &options).unwrap();
    let events = scattered(30_000, 1);
    let failed = (0..30).find_map(|step| sink.write(Kind::Event, &events.slice(step * 1000, 1000)).err());
    let error = failed.unwrap_or_else(|| sink.finish().unwrap_err());
    println!("\n{} failed {} {error}", store.scheme, error.kind().exit_status());
}

#[test]
fn an_unknown_option_names_those_there_are() {
    for bench in all() {
        let bench = bench.with("colour", "red");
        let error = bench.open_as("run", false).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(bench.store.options.iter().all(|known| error.to_string().contains(known)), "{error}");
    }
}

#[test]
fn a_batch_without_a_column_is_our_own_fault() {
    for bench in all() {
        let kind = bench.kind_or(Kind::Event);
        let short = rows(kind, 0, 1).project(&[0, 1, 2]).unwrap();
        assert_eq!(bench.open().write(kind, &short).err().unwrap().kind(), ErrorKind::Broken);
    }
}

#[test]
fn a_column_a_stage_added_is_left_behind() {
    for bench in holding(Kind::Event) {
        let row = rows(Kind::Event, 0, 1);
        let mut fields = row.schema().fields().to_vec();
        fields.insert(3, Arc::new(evt_core::kind::event::raw_field()));
        let mut columns = row.columns().to_vec();
        columns.insert(3, arrow::array::new_null_array(&arrow::datatypes::DataType::Binary, 1));
        let schema = arrow::datatypes::Schema::new(fields);
        bench.run(Kind::Event, &[RecordBatch::try_new(Arc::new(schema), columns).unwrap()]);
        assert_eq!(bench.table(Kind::Event), as_text(&[row]));
    }
}

#[test]
fn a_later_run_replaces_what_is_smaller_and_is_rejected_where_it_is_smaller() {
    for bench in all() {
        let first: Vec<Pane> = (0..8).map(|key| (key, 0, 10, false)).collect();
        bench.run(Kind::Metric, &[metrics(&first)]);
        let second: Vec<Pane> =
            (0..8).map(|key| (key, i32::from(key < 2), if key < 4 { 9 } else { 11 }, false)).collect();
        let counts = bench.run(Kind::Metric, &[metrics(&second)]).counts;
        assert_eq!((counts.updated, counts.stale), (6, 2), "{}", bench.store.scheme);
        let kept: Vec<Pane> = (0..8).map(|key| if (2..4).contains(&key) { first[key] } else { second[key] }).collect();
        assert_eq!(bench.table(Kind::Metric), as_text(&[metrics(&kept)]));
    }
}

/// A tombstone belongs to its run: a retraction of the same row by another run does not remove that of the first one.
#[test]
fn rows_that_concurrent_runs_retract_stay_retracted() {
    // A lake applies the guard within one run.
    for bench in all().filter(|bench| bench.store.acknowledges()) {
        let (there, gone) = (metrics(&[(0, 0, 5, false)]), metrics(&[(0, 0, 5, true)]));
        let mut runs = ["1", "2"].map(|run| bench.open_as(run, false).unwrap());
        for rows in [&gone, &there] {
            for run in &mut runs {
                assert!(run.write(Kind::Metric, rows).unwrap().is_empty());
            }
        }
        let stale = runs.map(|run| run.finish().unwrap().counts.stale);
        assert_eq!(stale, [1, 1], "{}", bench.store.scheme);
        assert!(bench.table(Kind::Metric).is_empty(), "{}", bench.store.scheme);
    }
}

/// Panes of one key as a window emits them: rows grow, a last one may be retracted, a backfill may follow.
fn panes(key: i64) -> impl Strategy<Value = (Vec<Pane>, Option<Pane>)> {
    (1..4i64, any::<bool>(), 0..3i64).prop_map(move |(live, gone, backfill)| {
        let mut made: Vec<Pane> = (1..=live).map(|rows| (key, 0, rows, false)).collect();
        if gone {
            made.push((key, 0, live, true));
        }
        made.extend((1..=backfill).map(|rows| (key, 1, rows, false)));
        let last = made.last().copied().filter(|pane| !pane.3);
        (made, last)
    })
}

fn all_panes() -> Vec<impl Strategy<Value = (Vec<Pane>, Option<Pane>)>> {
    (0..8).map(panes).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn metrics_converge_whatever_the_order_and_however_often_they_come(
        (stream, results) in all_panes().prop_flat_map(|keys| {
            let results: Vec<Pane> = keys.iter().filter_map(|(_, last)| *last).collect();
            let made: Vec<Pane> = keys.into_iter().flat_map(|(made, _)| made).collect();
            let twice: Vec<Pane> = made.iter().chain(&made).copied().collect();
            (Just(twice).prop_shuffle(), Just(results))
        }),
        cut in any::<prop::sample::Index>(),
    ) {
        let (left, right) = stream.split_at(cut.index(stream.len()));
        for bench in all() {
            let outcome = bench.run(Kind::Metric, &[metrics(left), metrics(right)]);
            prop_assert_eq!(outcome.counts.taken, stream.len() as u64);
            prop_assert_eq!(bench.table(Kind::Metric), as_text(&[metrics(&results)]), "{}", bench.store.scheme);
        }
    }
}
