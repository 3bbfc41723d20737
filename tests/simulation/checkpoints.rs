//! A job with a checkpoint whose disk fails at each of its operations: the next run restores the last complete epoch, and all
//! outputs end with the rows of an undisturbed job. Commits of epochs take a number of steps, in which the stage reads on or is held.

use crate::events::Input;
use clap::Parser;
use evt::ErrorKind;
use evt::clock::{Clock, SimulatedClock};
use evt::console::{Colour, Console};
use evt::error::Result;
use evt::generate::random::Random;
use evt::run::Run;
use evt::run::io::{Io, Pipe};
use evt::stage::Progress;
use evt::store::disk::{Disk, DiskFault};
use evt::tool::window;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The files of a job. A batch ends with each, so an epoch may end there.
const FILES: [&str; 3] = ["a.jsonl", "b.jsonl", "c.jsonl"];
/// The outputs that are files of lines.
const OUTPUTS: [&str; 4] = ["rows.jsonl", "rows.csv", "late.jsonl", "dead.jsonl"];
/// Operations of the disk after which a job without a fault has ended.
const OPERATIONS_MAX: u64 = 2_000;

/// A job in a directory of its own.
struct Job {
    dir: PathBuf,
}

/// What a run of a job meets.
#[derive(Clone, Copy, Default)]
struct Course {
    /// The steps that each commit of an output takes.
    lag: u32,
    /// Whether nothing is read while outputs commit.
    is_held: bool,
}

impl Course {
    fn random(random: &mut Random) -> Self {
        Self { lag: random.below(8) as u32, is_held: random.below(4) == 0 }
    }
}

impl Job {
    fn new(base: &Path, name: &str, inputs: &[Input]) -> Self {
        let dir = base.join(name);
        std::fs::create_dir_all(&dir).expect("a directory");
        for (file, input) in FILES.iter().zip(inputs) {
            std::fs::write(dir.join(file), &input.bytes).expect("a file");
        }
        Self { dir }
    }

    /// Runs the job once over all files; windows fire at their end.
    fn run(&self, disk: &Disk, course: Course) -> Result<u8> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let mut args: Vec<String> = ["evt-window", "-q", "--by", "event_type", "--agg", "sum(amount)", "--size", "1m"]
            .iter()
            .chain(&[
                "--out-of-orderness",
                "20s",
                "--at-end",
                "fire",
                "--checkpoint-every",
                "1us",
                "--keep-epochs",
                "1",
            ])
            .map(|&arg| arg.to_owned())
            .collect();
        args.extend(["--checkpoint".to_owned(), path("state")]);
        for (flag, name) in ["--to", "--to", "--late", "--dlq"].iter().zip(OUTPUTS) {
            args.extend([(*flag).to_owned(), path(name)]);
        }
        // The origin is the same in every directory.
        args.extend(FILES.iter().map(|name| path(name)));
        let clock = SimulatedClock::at(1_800_000_000_000_000);
        let run = Rc::new(Run {
            io: Io::Simulated { stdin: Pipe::default(), stdout: Pipe::default(), disk: disk.clone(), lag: course.lag },
            ahead_max: if course.is_held { 0 } else { u64::MAX },
            console: Console::new("evt-window", Colour::Off).captured(&std::sync::Arc::default()),
            ..Run::unwatched("evt-window", Clock::Simulated(clock.clone()))
        });
        let mut stage = window::Args::try_parse_from(args).expect("flags").stage(&run)?;
        loop {
            if let Progress::Ended(status) = stage.step()? {
                return Ok(status);
            }
            clock.advance(Duration::from_millis(1));
        }
    }

    /// Returns the sorted lines of each output, with paths of this job removed.
    fn results(&self) -> BTreeMap<&'static str, Vec<String>> {
        let base = self.dir.display().to_string();
        let read = |name: &'static str| {
            let text = std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
            // Ids of letters derive from their origins, which are paths here.
            let line = |line: &str| match serde_json::from_str::<serde_json::Value>(line) {
                Ok(mut row) => {
                    let row_fields = row.as_object_mut().expect("a row");
                    ["letter_id", "failed_at", "ingested_at"].iter().for_each(|name| drop(row_fields.remove(*name)));
                    row.to_string().replace(&base, "")
                }
                Err(_) => line.to_owned(),
            };
            let mut lines: Vec<String> = text.lines().map(line).collect();
            lines.sort();
            (name, lines)
        };
        OUTPUTS.into_iter().map(read).collect()
    }

    fn epochs(&self) -> u64 {
        let entries = std::fs::read_dir(self.dir.join("state/log")).expect("a log");
        let text = entries.map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).expect("an entry"));
        text.filter(|text| text.contains("\"complete\"")).count() as u64
    }
}

fn failing(after: u64, torn: usize) -> Disk {
    Disk::failing(DiskFault { after, torn, errno: Errno::IO, is_lasting: true })
}

#[test]
fn a_job_whose_disk_fails_at_any_operation_ends_as_if_it_had_not() {
    let shm = Path::new("/dev/shm");
    let base = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("a directory");
    let base = base.path();
    let mut random = Random::at(17, 0);
    let inputs = [0, 1_000, 2_000].map(|first| Input::random(&mut random, first));
    let calm = Job::new(base, "calm", &inputs);
    let status = calm.run(&Disk::default(), Course::default()).expect("a calm job");
    let (expected, epochs) = (calm.results(), calm.epochs());
    assert!(epochs >= 3, "{epochs} epochs");
    assert!(expected.values().all(|lines| lines.len() > 1), "{expected:?}");

    // While outputs commit, an epoch becomes longer, or nothing is read.
    for (name, is_held) in [("slow", false), ("held", true)] {
        let slow = Job::new(base, name, &inputs);
        assert_eq!(slow.run(&Disk::default(), Course { lag: 200, is_held }).expect("a slow job"), status);
        assert_eq!(slow.results(), expected, "{name}");
        assert_eq!(slow.epochs() < epochs, !is_held, "{name}: {} of {epochs} epochs", slow.epochs());
    }

    for after in 0..OPERATIONS_MAX {
        let torn = random.below(100) as usize;
        let job = Job::new(base, &format!("fault-{after}"), &inputs);
        let course = Course::random(&mut random);
        let first = match job.run(&failing(after, torn), course) {
            Err(error) => error,
            Ok(ended) => {
                assert_eq!((ended, &job.results()), (status, &expected), "a job without a fault");
                // A job with longer epochs has fewer operations.
                if course.lag > 0 {
                    continue;
                }
                println!("{after} operations, {epochs} epochs");
                assert!(after > 100, "only {after} operations");
                return;
            }
        };
        assert_eq!(first.kind(), ErrorKind::Io, "fault {after}: {first}");
        // Another fault while the second run recovers, in one case of four.
        if random.below(4) == 0 {
            let again = random.below(60);
            if let Err(error) = job.run(&failing(again, torn), Course::random(&mut random)) {
                assert_eq!(error.kind(), ErrorKind::Io, "faults {after} and {again}: {error}");
            }
        }
        let ended = job.run(&Disk::default(), Course::random(&mut random));
        assert_eq!(ended.unwrap_or_else(|error| panic!("fault {after}: {error}")), status, "fault {after}");
        for (name, lines) in job.results() {
            assert!(lines == expected[name], "fault {after}: {name}: {lines:#?}\ninstead of {:#?}", expected[name]);
        }
        std::fs::remove_dir_all(&job.dir).expect("the directory of a job");
    }
    panic!("a job has more than {OPERATIONS_MAX} operations");
}
