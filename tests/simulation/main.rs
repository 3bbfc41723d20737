//! Seeded simulation: pipes of two to four stages in one process, stepped in an order that a seed decides, under a
//! simulated clock, with random chunk sizes, delays, signals, killed stages and disks that fail.
//!
//! ```text
//! EVT_SIMULATION_SEEDS=10000 cargo test --release --test simulation     # so many seeds, from 0 on
//! EVT_SIMULATION_SEED=4711 cargo test --test simulation                 # one seed again
//! ```
//!
//! A run that ends completely must have the results of an undisturbed run: every stage keeps the law of counts (it ends
//! with 70 if not), and the counts of the stages, the last row per natural key, the dead letters and the late events
//! are the same. A stopped run must have fired no window early; a torn one also leaves no file that looks whole. Every
//! eighth seed is a story of evt-alert (`alerts.rs`).
#![forbid(unsafe_code)]

mod alerts;
mod checkpoints;
mod events;
mod jobs;
mod pipeline;
mod power;
mod results;

use events::Input;
use evt_core::ErrorKind;
use evt_core::generate::random::Random;
use pipeline::{Disturbance, Pipeline, Shape, Status};
use results::Results;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of so many seeds one is a story of evt-alert.
const ALERTS: u64 = 8;
/// Seeds of a run without EVT_SIMULATION_SEEDS.
const SEEDS: u64 = 300;

/// One seed: an undisturbed run and a disturbed one of the same input. Returns the disturbance that happened.
fn simulate(seed: u64, dir: &Path) -> Disturbance {
    let (mut random, mut later) = (Random::at(seed, 0), Random::at(seed, 1));
    let input = Input::random(&mut random, 0);
    let shape = Shape::random(&mut random, &mut later);
    let archive = shape.reads_archive().then(|| Input::random(&mut random, 1_000));
    let disturbance = Disturbance::random(&mut random, &mut later, &shape);
    let calm_dir = dir.join("calm");
    write_archive(archive.as_ref(), &calm_dir);
    let calm = Pipeline::new(&shape, &calm_dir, Disturbance::None).run_calmly(&input);
    assert!(calm.errors().is_empty(), "seed {seed}: an undisturbed run of {shape:?} fails: {:?}", calm.errors());
    let expected = Results::read(&calm_dir);
    assert!(!expected.is_empty(), "seed {seed}: an undisturbed run of {shape:?} has no results");
    expected.assert_counts_of(calm.statuses().len(), &format!("seed {seed}: {shape:?}"));

    let wild_dir = dir.join("wild");
    write_archive(archive.as_ref(), &wild_dir);
    let run = Pipeline::new(&shape, &wild_dir, disturbance).run_wildly(&input, disturbance, &mut random);
    let found = Results::read(&wild_dir);
    let context = format!("seed {seed}: {shape:?}, {disturbance:?}, {:?}", run.statuses());
    assert!(run.errors().iter().all(|kind| *kind != ErrorKind::Broken), "{context}: {}", run.messages());
    // No window ends behind the stream time of what was fed, unless the end of the input is proven where windows are.
    let horizon = if run.proves_end(&shape) { i64::MAX } else { input.stream_time(run.fed()) };
    found.assert_not_early(horizon.saturating_sub(shape.out_of_orderness()), &context);
    found.assert_part_of(&expected, &context);
    match disturbance {
        Disturbance::None => {
            assert!(run.is_whole(), "{context}: {}", run.messages());
            assert_eq!(run.statuses(), calm.statuses(), "{context}");
        }
        Disturbance::Signal { .. } => assert!(run.errors().is_empty(), "{context}: {}", run.messages()),
        Disturbance::Kill { stage, .. } => run.assert_torn_behind(stage, Status::Killed, &context),
        Disturbance::Disk { stage, .. } => run.assert_torn_behind(stage, Status::Failed(ErrorKind::Io), &context),
    }
    if run.is_whole() {
        found.assert_same(&expected, &context);
    }
    // A disk may fail after the file got its name, when the directory is synced or another output ends. Then the file
    // is whole.
    let may_be_named = run.last_stage_has_ended() || run.last_stage_alone_failed();
    assert!(run.has_whole_file() || !run.last_stage_has_ended(), "{context}: the whole file is missing");
    assert!(!run.has_whole_file() || may_be_named, "{context}: a file looks whole");
    if run.was_disturbed() { disturbance } else { Disturbance::None }
}

/// Writes the frames that the second stage reads before those of the first one. They name the same partition.
fn write_archive(input: Option<&Input>, dir: &Path) {
    std::fs::create_dir_all(dir).expect("a directory");
    let Some(input) = input else { return };
    let run = Pipeline::new(&Shape::of_archive(), dir, Disturbance::None).run_calmly(input);
    assert!(run.errors().is_empty(), "the archive cannot be written: {}", run.messages());
}

/// Reports the seed of a panic, and ends the other threads.
struct Announced<'a> {
    seed: u64,
    /// The next seed of any thread.
    next: &'a AtomicU64,
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.next.store(u64::MAX / 2, Ordering::Relaxed);
            eprintln!("again: EVT_SIMULATION_SEED={} cargo test --test simulation", self.seed);
        }
    }
}

/// Simulates seeds before `end` until there are none left; returns how many had each disturbance.
fn simulate_until(end: u64, next: &AtomicU64, base: &Path) -> [u64; 5] {
    let mut counts = [0; 5];
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return counts;
        }
        let dir = base.join(seed.to_string());
        let _announced = Announced { seed, next };
        let kind = match seed % ALERTS {
            0 => {
                alerts::simulate(seed, &dir);
                4
            }
            _ => simulate(seed, &dir).index(),
        };
        counts[kind] += 1;
        std::fs::remove_dir_all(&dir).expect("the directory of a seed");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn disturbed_pipes_lose_nothing_count_nothing_twice_and_fire_nothing_early() {
    // Files in memory, if there is such a directory: a disk would take most of the time.
    let shm = Path::new("/dev/shm");
    let base = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("a directory");
    let seeds = match number("EVT_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("EVT_SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let is_many = seeds.end - seeds.start >= SEEDS;
    let next = AtomicU64::new(seeds.start);
    let counts = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let simulating = || simulate_until(seeds.end, &next, base.path());
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(simulating)).collect();
        let counts = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        counts.reduce(|sum, one| std::array::from_fn(|index| sum[index] + one[index])).unwrap_or_default()
    });
    let [whole, signalled, killed, failing, alerts] = counts;
    println!("whole {whole} signalled {signalled} killed {killed} failing disks {failing} alerts {alerts}");
    assert!(!is_many || counts.iter().all(|count| *count >= 20), "too few of a kind: {counts:?}");
}
