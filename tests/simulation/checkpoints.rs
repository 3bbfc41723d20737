//! Jobs with a checkpoint that crash at each operation of the disk: the next run restores the last complete epoch, and
//! all outputs end with the rows of an undisturbed job.
//!
//! ```text
//! EVT_SIMULATION_CRASHES=all cargo test --release --test simulation checkpoints    # at every operation, in every way
//! EVT_SIMULATION_CRASHES=7 cargo test --release --test simulation checkpoints      # at every seventh operation
//! ```
//!
//! One stage crashes, or all at once. The processes alone die, or the power fails too: then what was not synced is
//! gone, or partly kept ([`Unsynced`]). Commits of epochs take a number of steps, in which a stage reads on or is held.
//! A second crash may hit the recovery. After the last run the power fails once more.

use crate::events::Input;
use crate::jobs::{DATABASE, INPUTS, Job, JobShape, Rows};
use crate::number;
use crate::pipeline::{Course, Ended, Pipeline};
use crate::power::{DurableTree, Unsynced};
use evt_core::ErrorKind;
use evt_core::generate::random::Random;
use evt_run::clock::SimulatedClock;
use evt_run::storage::disk::{Disk, DiskFault, SharedObserver, SyncObserver};
use rustix::io::Errno;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// Every so many operations a job of the short form crashes.
const STEP: u64 = 5;
/// Operations of a recovery at which it may crash.
const RECOVERY: u64 = 60;

/// How a job crashes.
#[derive(Clone, Copy, Debug)]
struct Crash {
    /// The stage whose disk fails; `None` if it is the disk of all.
    stage: Option<usize>,
    /// The number of operations before.
    after: u64,
    /// Bytes that a write has written before.
    torn: usize,
    /// The part of the unsynced data that the disk keeps; `None` if only the processes die.
    power: Option<Unsynced>,
    /// The seed of the order in which the stages are stepped, and of the [`Course`] of the run.
    seed: u64,
}

/// A job, and the durable part of its files.
struct Bench {
    job: Job,
    /// The course of its runs; `None` if the random numbers of each run choose it.
    course: Option<Course>,
    durable: Arc<Mutex<DurableTree>>,
}

impl Bench {
    fn new(shape: JobShape, dir: &Path, inputs: &[Input]) -> Self {
        let job = Job::new(shape, dir.to_owned(), inputs);
        let durable = Arc::new(Mutex::new(DurableTree::new(&job.root(), DATABASE)));
        Self { job, course: None, durable }
    }

    fn disk(&self, crash: Option<Crash>) -> Disk {
        let fault = |crash: Crash| {
            let Crash { after, torn, .. } = crash;
            DiskFault { after, torn, errno: Errno::IO, is_lasting: true }
        };
        let observer: SharedObserver = self.durable.clone();
        Disk::simulated(crash.map(fault), Some(observer))
    }

    /// Runs the job, which crashes. Returns its end, and the disk of the fault.
    fn run(&self, shape: JobShape, crash: Option<Crash>, random: &mut Random) -> (Ended, Disk) {
        let (sound, failing) = (self.disk(None), self.disk(crash));
        let stages = 0..shape.tools().len();
        let is_hit = |stage: usize| crash.is_none_or(|crash| crash.stage.is_none_or(|hit| hit == stage));
        let disks: Vec<Disk> =
            stages.map(|stage| if is_hit(stage) { failing.clone() } else { sound.clone() }).collect();
        let course = self.course.unwrap_or_else(|| Course::random(random));
        let ended = self.job.run(&disks, course, Pipeline::clock(), random);
        drop(disks);
        if let Some(unsynced) = crash.and_then(|crash| crash.power).filter(|_| failing.has_failed()) {
            self.durable.lock().expect("a tree").fail_power(unsynced, random);
        }
        (ended, failing)
    }

    #[track_caller]
    fn assert_rows(&self, expected: &Rows, context: &str) {
        for (name, rows) in self.job.rows() {
            assert!(rows == expected[name], "{context}: {name}: {rows:#?}\ninstead of {:#?}", expected[name]);
        }
    }
}

/// The undisturbed run of a job.
struct Calm<'a> {
    shape: JobShape,
    inputs: &'a [Input],
    expected: Rows,
}

impl<'a> Calm<'a> {
    /// Runs the job, whose runs are stepped in an order of `seed`.
    fn run(shape: JobShape, base: &Path, inputs: &'a [Input], seed: u64) -> Self {
        let bench = Bench::new(shape, &base.join("calm"), inputs);
        let (ended, _) = bench.run(shape, None, &mut Random::at(seed, 1));
        assert!(ended.is_whole(), "{shape:?}: {:?}: {}", ended.statuses(), ended.messages());
        let (expected, epochs) = (bench.job.rows(), bench.job.epochs());
        assert!(epochs >= 2, "{shape:?}: {epochs} epochs");
        assert!(expected.values().all(|rows| rows.len() > 1), "{shape:?}: {expected:?}");
        Self { shape, inputs, expected }
    }

    /// Lets the job crash, once or twice, and then run to its end. Returns whether it came to the operation of the
    /// crash.
    fn crash(&self, base: &Path, crash: Crash, then: Option<Crash>) -> bool {
        let context = format!("{:?}: {crash:?}, {then:?}", self.shape);
        let dir = base.join("wild");
        let bench = Bench::new(self.shape, &dir, self.inputs);
        let (ended, disk) = bench.run(self.shape, Some(crash), &mut Random::at(crash.seed, 1));
        let is_hit = disk.has_failed();
        if is_hit {
            // The others find their input torn, or their reader gone.
            let known = [ErrorKind::Io, ErrorKind::Corrupt, ErrorKind::Fenced, ErrorKind::Incomplete];
            assert!(ended.errors().iter().all(|kind| known.contains(kind)), "{context}: {}", ended.messages());
            if let Some(then) = then {
                bench.run(self.shape, Some(then), &mut Random::at(crash.seed, 2));
            }
        }
        let (ended, _) = bench.run(self.shape, None, &mut Random::at(crash.seed, 3));
        assert!(ended.is_whole(), "{context}: {:?}: {}", ended.statuses(), ended.messages());
        bench.assert_rows(&self.expected, &context);
        // An exit status of 0 says that all rows are durable.
        bench.durable.lock().expect("a tree").fail_power(Unsynced::Lost, &mut Random::at(0, 0));
        bench.assert_rows(&self.expected, &format!("{context}: after the end"));
        // The checkpoint is durable, too: another run finds nothing to do.
        let (ended, _) = bench.run(self.shape, None, &mut Random::at(crash.seed, 4));
        assert!(ended.is_whole(), "{context}: again: {:?}: {}", ended.statuses(), ended.messages());
        bench.assert_rows(&self.expected, &format!("{context}: again"));
        std::fs::remove_dir_all(&dir).expect("the directory of a job");
        is_hit
    }
}

/// The files that a job of a shape reads.
fn inputs(shape: JobShape) -> Vec<Input> {
    let mut random = Random::at(17, shape as u64);
    (0..INPUTS).map(|file| Input::random(&mut random, 1_000 * file as u64)).collect()
}

/// A directory in memory, if there is such a file system: a disk would take most of the time.
fn directory() -> TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("a directory")
}

/// Crashes jobs of a shape at every `step`th operation of each disk, and returns the number of crashes.
fn crash_each(shape: JobShape, step: u64, is_all: bool) -> u64 {
    let (base, inputs, mut random) = (directory(), inputs(shape), Random::at(18, shape as u64));
    let calm = Calm::run(shape, base.path(), &inputs, 23 + shape as u64);
    let stages = shape.tools().len();
    let of_one = if stages == 1 { 0 } else { stages };
    let mut crashes = 0;
    for stage in (0..of_one).map(Some).chain([None]) {
        let seed = 100 * shape as u64 + stage.map_or(0, |stage| stage as u64 + 1);
        let mut after = random.below(step);
        let mut is_hit = true;
        while is_hit {
            let powers = [None, Some(Unsynced::Lost), Some(Unsynced::PartlyKept)];
            let one = powers[random.below(3) as usize];
            for power in powers.into_iter().filter(|power| is_all || *power == one) {
                let crash = Crash { stage, after, torn: random.below(100) as usize, power, seed };
                let again = Crash { stage: None, after: random.below(RECOVERY), ..crash };
                let again = Crash { power: powers[random.below(3) as usize], ..again };
                is_hit = calm.crash(base.path(), crash, (random.below(3) == 0).then_some(again));
                crashes += u64::from(is_hit);
            }
            after += step;
        }
    }
    crashes
}

#[test]
fn a_job_that_crashes_at_any_operation_ends_as_if_it_had_not() {
    let is_all = std::env::var("EVT_SIMULATION_CRASHES").is_ok_and(|text| text == "all");
    let step = if is_all { 1 } else { number("EVT_SIMULATION_CRASHES").unwrap_or(STEP) };
    std::thread::scope(|scope| {
        let jobs = JobShape::ALL.map(|shape| (shape, scope.spawn(move || crash_each(shape, step, is_all))));
        for (shape, job) in jobs {
            let crashes = job.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            println!("{shape:?}: {crashes} crashes");
            assert!(crashes > 30, "{shape:?}: only {crashes} crashes");
        }
    });
}

/// While outputs commit, an epoch becomes longer until it has the bytes of the bound; then nothing is read.
#[test]
fn slow_outputs_make_epochs_longer_or_hold_the_reading() {
    let base = tempfile::tempdir().expect("a directory");
    let mut random = Random::at(17, 0);
    let inputs: Vec<Input> = (0..INPUTS).map(|file| Input::random(&mut random, 1_000 * file as u64)).collect();
    let run = |name: &str, lag: u32, ahead_max: u64| {
        let mut bench = Bench::new(JobShape::One, &base.path().join(name), &inputs);
        bench.course = Some(Course { lag, ahead_max, ..Course::default() });
        let (ended, _) = bench.run(JobShape::One, None, &mut Random::at(17, 1));
        assert!(ended.is_whole(), "{name}: {:?}: {}", ended.statuses(), ended.messages());
        (bench.job.rows(), bench.job.epochs())
    };
    let (rows, epochs) = run("prompt", 0, u64::MAX);
    let late = [("held", 0), ("bounded", 1_000), ("slow", u64::MAX)].map(|(name, ahead_max)| {
        let (of_slow, epochs_of_slow) = run(name, 200, ahead_max);
        assert_eq!(of_slow, rows, "{name}");
        epochs_of_slow
    });
    let [of_held, of_bounded, of_slow] = late;
    assert!(of_held >= epochs && epochs > of_bounded && of_bounded > of_slow, "{epochs} epochs, {late:?}");
}

/// Syncs that take long.
#[derive(Debug)]
struct SlowSyncs(SimulatedClock);

impl SyncObserver for SlowSyncs {
    fn synced(&mut self, _file: &File) {
        self.0.advance(Duration::from_secs(20));
    }

    fn synced_all(&mut self, directory: &File) {
        self.synced(directory);
    }
}

#[test]
fn syncs_that_take_twenty_seconds_change_no_row() {
    for shape in JobShape::ALL {
        let (base, inputs, clock) = (directory(), inputs(shape), Pipeline::clock());
        let calm = Calm::run(shape, base.path(), &inputs, 23);
        let dir: PathBuf = base.path().join("slow");
        let observer: SharedObserver = Arc::new(Mutex::new(SlowSyncs(clock.clone())));
        let bench = Bench::new(shape, &dir, &inputs);
        let disks = vec![Disk::simulated(None, Some(observer)); shape.tools().len()];
        let ended = bench.job.run(&disks, Course::default(), clock.clone(), &mut Random::at(23, 5));
        assert!(ended.is_whole(), "{shape:?}: {:?}: {}", ended.statuses(), ended.messages());
        assert!(disks[0].operations() > 50, "{shape:?}: {} operations", disks[0].operations());
        bench.assert_rows(&calm.expected, &format!("{shape:?}"));
    }
}
