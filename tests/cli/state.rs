//! Every later version restores the snapshots of earlier ones: `testdata/state/vN` has their bytes.

use crate::harness::ROOT;
use arrow::array::RecordBatch;
use evt_core::frame::{Control, Decoder, Frame, Progress};
use evt_core::kind::metric::Row;
use evt_core::op::aggregate::{self, Definition};
use evt_core::op::dedup::{self, Dedup};
use evt_core::op::state_storage::{MemoryBound, MemoryStorage};
use evt_core::op::window::metric::Emit;
use evt_core::op::window::{Options, Window, spec, watermark};
use evt_core::time::SECOND;
use evt_run::task_pool::TaskPool;
use evt_run::thread::Threads;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Rows per batch: few, so that the saved state lies between many batches.
pub const BATCH_ROWS: usize = 20;
/// The command that adds a version.
const BLESS: &str = "EVT_BLESS=1 cargo test --test cli -- state:: fuzz_seeds::";
/// The number of rows before the saved state.
const CUT: usize = 160;

/// The saved state of a run over the events of a version, and the results of the rest of the run.
#[derive(PartialEq)]
struct Saved {
    /// The windows' snapshot, then the result rows after it, one a line.
    window: (Vec<u8>, String),
    /// The snapshot of the ids seen, then a digit for each row after it: 1 where it stays.
    dedup: (Vec<u8>, String),
}

/// A directory of `testdata/state`.
pub struct Version(pub PathBuf);

impl Version {
    /// All of them, the oldest first.
    fn all() -> Vec<Self> {
        let numbered = (1..).map(|number| Path::new(ROOT).join(format!("testdata/state/v{number}")));
        numbered.take_while(|path| path.exists()).map(Self).collect()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap_or_else(|error| panic!("{}/{name}: {error}", self.0.display()))
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).expect("it is text")
    }

    /// Whether its state has been saved. A directory that is being added has only events and metrics.
    fn is_saved(&self) -> bool {
        self.0.join("window.state").exists()
    }

    fn saved(&self) -> Saved {
        Saved {
            window: (self.bytes("window.state"), self.text("window.rows")),
            dedup: (self.bytes("dedup.state"), self.text("dedup.kept")),
        }
    }

    /// The aggregates that its metrics do not use. A metric without an aggregate is count(*).
    fn missing(&self) -> Vec<&'static Definition> {
        let metrics = self.text("metrics.toml");
        let is_missing = |row: &&Definition| row.name != "count" && !metrics.contains(&format!("{}(", row.name));
        aggregate::ALL.iter().copied().filter(is_missing).collect()
    }

    /// Adds the version after this one, with the same events, the same metrics and one of each of these aggregates.
    fn add_next(&self, aggregates: &[&Definition]) -> Self {
        let metric = |row: &&Definition| {
            format!("\n[[metric]]\nname = \"{}\"\naggregate = \"{}\"\n", row.name, row.example("v"))
        };
        let metrics: String = std::iter::once(self.text("metrics.toml")).chain(aggregates.iter().map(metric)).collect();
        let next = Self(self.0.with_file_name(format!("v{}", Self::all().len() + 1)));
        std::fs::create_dir(&next.0).expect("a new version");
        next.add("events.frames", &self.bytes("events.frames"));
        next.add("metrics.toml", metrics.as_bytes());
        next
    }

    /// Writes the saved state; never overwrites an existing one.
    fn bless(&self, saved: &Saved) {
        self.add("window.rows", saved.window.1.as_bytes());
        self.add("dedup.state", &saved.dedup.0);
        self.add("dedup.kept", saved.dedup.1.as_bytes());
        // The last file, so that another test does not read a state of which a part is missing.
        self.add("window.state", &saved.window.0);
    }

    fn add(&self, name: &str, bytes: &[u8]) {
        let mut file = std::fs::File::create_new(self.0.join(name)).expect("it is not there yet");
        std::io::Write::write_all(&mut file, bytes).expect("writable");
    }

    pub fn options(&self) -> Options {
        let spec = spec::file(&self.text("metrics.toml")).expect("it was one, and is one for ever");
        let watermark =
            watermark::Options { out_of_orderness: Some(10 * SECOND), explicit: false, new_partitions: false };
        Options {
            leaves: spec.leaves,
            metrics: spec.metrics,
            watermark,
            emit: Emit::Panes,
            memory: None,
            parallelism: Default::default(),
        }
    }

    fn dedup_options() -> dedup::Options {
        let storage = Box::new(MemoryStorage::default());
        dedup::Options { span: 20 * SECOND, memory: MemoryBound { bytes: 8 << 20, storage } }
    }

    /// The events in small batches, and the control messages about partitions.
    pub fn events(&self) -> (Vec<RecordBatch>, Vec<Progress>) {
        let (mut batches, mut told) = (vec![], vec![]);
        let bytes = self.bytes("events.frames");
        let (mut rest, mut decoder) = (&bytes[..], Decoder::default());
        while !rest.is_empty() {
            let space = decoder.space();
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            match decoder.filled(count).expect("a frame") {
                Some(Frame::Batch(batch)) => batches.push(batch),
                Some(Frame::Control(Control::Progress(progress))) => told.push(progress),
                _ => {}
            }
        }
        decoder.finish().expect("a proven end");
        let small = |batch: &RecordBatch| {
            let starts = (0..batch.num_rows()).step_by(BATCH_ROWS);
            starts.map(|at| batch.slice(at, BATCH_ROWS.min(batch.num_rows() - at))).collect::<Vec<_>>()
        };
        (batches.iter().flat_map(small).collect(), told)
    }
}

/// Continues from this state over these batches to the end; returns the rows.
pub fn results(mut window: Window, batches: &[RecordBatch], end: &[Progress]) -> String {
    let mut rows = String::new();
    let mut emit = |row: &Row<'_>| {
        let Row { name, start, end, dimensions, value, rows: count, revision: _, pane, retracted } = row;
        writeln!(rows, "{name} {start} {end} {dimensions} {value:?} {count} {pane} {retracted}").expect("a string");
        Ok(())
    };
    for batch in batches {
        window.on_batch(batch, 0).expect("events");
        window.fire(&mut emit).expect("it fires");
    }
    end.iter().for_each(|progress| window.on_progress(progress).expect("partitions"));
    window.on_exhausted(&mut emit).expect("it fires");
    rows
}

/// Whether result rows are equal, but for the last digit of standard deviations: those of version 7 and before were
/// rounded twice.
fn are_same(now: &str, then: &str) -> bool {
    let is_same = |(now, then): (&str, &str)| now == then || now.starts_with("stddev ") && is_near(now, then);
    now.lines().count() == then.lines().count() && now.lines().zip(then.lines()).all(is_same)
}

/// Whether two rows differ only in the last digit of their values.
fn is_near(now: &str, then: &str) -> bool {
    let parts = |row: &'_ str| row.split(['(', ')']).map(str::to_owned).collect::<Vec<_>>();
    let (now, then) = (parts(now), parts(then));
    let bits = |parts: &[String]| parts.get(1).and_then(|value| value.parse::<f64>().ok()).map(f64::to_bits);
    let is_value = matches!((bits(&now), bits(&then)), (Some(now), Some(then)) if now.abs_diff(then) <= 1);
    is_value && now.len() == 3 && (&now[0], &now[2]) == (&then[0], &then[2])
}

pub fn kept(mut dedup: Dedup, batches: &[RecordBatch]) -> String {
    let digits = batches.iter().flat_map(|batch| dedup.on_batch(batch).expect("events").iter().collect::<Vec<_>>());
    digits.map(|keep| if keep == Some(true) { '1' } else { '0' }).collect()
}

/// The state that the present code saves after the first rows of these events, and the results after it.
fn today(version: &Version) -> Saved {
    let (batches, told) = version.events();
    let (first, rest) = batches.split_at(CUT / BATCH_ROWS);
    // The control messages before the first row announce the partitions.
    let (begin, end) = told.split_at(told.len() - 1);
    let mut window = Window::new(version.options());
    begin.iter().for_each(|progress| window.on_progress(progress).expect("partitions"));
    for batch in first {
        window.on_batch(batch, 0).expect("events");
        window.fire(&mut |_| Ok(())).expect("it fires");
    }
    let state = window.snapshot();
    let mut dedup = Dedup::new(Version::dedup_options());
    first.iter().for_each(|batch| drop(dedup.on_batch(batch).expect("events")));
    let ids = dedup.snapshot();
    Saved { window: (state, results(window, rest, end)), dedup: (ids, kept(dedup, rest)) }
}

#[test]
fn every_snapshot_ever_saved_is_restored_and_goes_on_to_the_same_results() {
    for version in Version::all().into_iter().filter(Version::is_saved) {
        let (batches, told) = version.events();
        let rest = &batches[CUT / BATCH_ROWS..];
        let saved = version.saved();
        for threads in [1, 3] {
            let parallelism = TaskPool::new(Threads::new(Some(threads))).parallelism();
            let options = Options { parallelism, ..version.options() };
            let window = Window::restore(options, &saved.window.0).expect("it restores");
            let found = results(window, rest, &told[told.len() - 1..]);
            assert!(are_same(&found, &saved.window.1), "{}, {threads} threads: {found}", version.0.display());
        }
        let dedup = Dedup::restore(Version::dedup_options(), &saved.dedup.0).expect("it restores");
        assert_eq!(kept(dedup, rest), saved.dedup.1, "{}", version.0.display());
    }
}

#[test]
fn every_aggregate_has_a_saved_state_and_a_form_that_has_changed_has_a_new_version() {
    let all = Version::all();
    let last = all.last().expect("a version is kept");
    let bless = std::env::var_os("EVT_BLESS").is_some();
    let missing = last.missing();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|row| row.name).collect();
        assert!(bless, "{} has no metric of {}: {BLESS} adds a version that has", last.0.display(), names.join(", "));
        let next = last.add_next(&missing);
        return next.bless(&today(&next));
    }
    let now = today(last);
    if !last.is_saved() {
        assert!(bless, "{} has no saved state: {BLESS} saves it", last.0.display());
        return last.bless(&now);
    }
    let then = last.saved();
    if now == then {
        return;
    }
    let same = |now: &[u8], then: &[u8]| now == then || now[0] != then[0];
    let numbered = same(&now.window.0, &then.window.0) && same(&now.dedup.0, &then.dedup.0);
    assert!(
        numbered,
        "a saved form has changed, but not its version, its first byte (VERSION in crates/core/src/op/window/mod.rs, crates/core/src/op/dedup/mod.rs). If {} was \
         edited, restore it: {BLESS} adds a version for a new aggregate",
        last.0.display()
    );
    assert!(are_same(&now.window.1, &then.window.1) && now.dedup.1 == then.dedup.1, "the results have changed");
    assert!(bless, "a saved form has a new version: {BLESS} keeps a snapshot of it beside the older ones");
    last.add_next(&[]).bless(&now);
}

#[test]
fn a_snapshot_that_is_cut_or_longer_is_refused() {
    let saved = Version::all().into_iter().filter(Version::is_saved);
    // Every cut of the last version, and some of those before it.
    for (age, version) in saved.rev().enumerate() {
        let step = if age == 0 { 1 } else { 97 };
        let saved = version.saved();
        for end in (0..saved.window.0.len()).step_by(step) {
            assert!(Window::restore(version.options(), &saved.window.0[..end]).is_err(), "cut at {end}");
        }
        for end in 0..saved.dedup.0.len() {
            assert!(Dedup::restore(Version::dedup_options(), &saved.dedup.0[..end]).is_err(), "cut at {end}");
        }
        let longer = |bytes: &[u8]| [bytes, &[0]].concat();
        assert!(Window::restore(version.options(), &longer(&saved.window.0)).is_err());
        assert!(Dedup::restore(Version::dedup_options(), &longer(&saved.dedup.0)).is_err());
    }
}
