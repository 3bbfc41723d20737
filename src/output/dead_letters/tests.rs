//! Tests of the output of dead letters: what is counted, in which order letters are written, and when.

use super::{DeadLetters, LostLetters};
use crate::output::test_data::{letters, run, spec};
use crate::output::{OutputPlan, OutputSpec};
use crate::test_cases::cases;
use crate::test_events::events;
use evt_core::counts::Counts;
use evt_core::error::ErrorKind;
use evt_core::format::jsonl;
use evt_core::frame::{End, EndReason};
use evt_core::kind::dead::{ErrorType, Fault};
use evt_run::clock::{Clock, SimulatedClock};
use evt_run::emit::Dead;
use evt_run::run::Run;
use evt_run::storage::disk::{Disk, DiskFault};
use proptest::collection::vec;
use proptest::prelude::*;
use rustix::io::Errno;
use std::path::PathBuf;
use std::rc::Rc;
use tempfile::TempDir;

/// A full buffer (`HELD_ROWS`).
const FULL: usize = 1024;

/// Dead letters in a file of a directory.
struct Rig {
    dir: TempDir,
    clock: SimulatedClock,
    dead: DeadLetters,
}

impl Rig {
    fn new() -> Self {
        Self::on(Disk::default())
    }

    fn on(disk: Disk) -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), SimulatedClock::at(0));
        let run = run(disk, Clock::Simulated(clock.clone()));
        let plan = OutputPlan::try_new(dir.path().join("dead.jsonl"), &flags(), &run).unwrap();
        Self { dead: DeadLetters::new(run, Some(plan)), dir, clock }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("dead.jsonl")
    }

    /// The numbers of the letters in the file, in order.
    fn written(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(self.path()).unwrap_or_default();
        let number = |line: &str| {
            let letter: serde_json::Value = serde_json::from_str(line).unwrap();
            let payload: serde_json::Value =
                serde_json::from_str(letter["original_payload"].as_str().unwrap()).unwrap();
            payload["n"].as_u64().or(payload["properties"]["n"].as_u64()).unwrap()
        };
        text.lines().map(number).collect()
    }

    fn finish(&mut self) {
        self.dead.finish(&End { how: EndReason::Exhausted, rows: 0, verdict: 0 }).unwrap().expect("it has an output");
    }
}

fn flags() -> OutputSpec {
    spec(&jsonl::FORMAT)
}

/// Letters of the source with these numbers, each after so many rows.
fn of_source(numbers: impl IntoIterator<Item = u64>, after: Vec<u64>) -> Dead {
    let payloads: Vec<String> = numbers.into_iter().map(payload).collect();
    assert_eq!(payloads.len(), after.len());
    Dead { letters: letters(payloads.iter().map(String::as_str)), after }
}

fn payload(number: u64) -> String {
    format!("{{\"n\":{number}}}")
}

fn fault() -> Fault {
    Fault::new(ErrorType::SchemaValidationError, "n: expected a text, found 1")
}

#[test]
fn without_an_output_letters_are_counted_and_dropped() {
    let mut dead = DeadLetters::new(run(Disk::default(), Clock::Fixed(0)), None);
    dead.take(&of_source([1, 2], vec![0, 3])).unwrap();
    dead.push_row(&events(&[&payload(3)]), 0, &fault()).unwrap();
    let mut counts = Counts::default();
    dead.count(&mut counts);
    assert_eq!((counts.dead, counts.dropped), (0, 1));
    assert_eq!((dead.total(), dead.from_source, dead.lost), (3, 2, LostLetters::default()));
    assert_eq!(dead.by_type, [(ErrorType::ParseError, 2), (ErrorType::SchemaValidationError, 1)].into());
    assert!(
        !dead.is_written() && dead.finish(&End { how: EndReason::Exhausted, rows: 0, verdict: 0 }).unwrap().is_none()
    );
}

#[test]
fn an_output_that_was_not_opened_can_be_discarded() {
    let mut rig = Rig::new();
    rig.dead.take(&of_source([1], vec![0])).unwrap();
    assert!(rig.dead.is_written());
    rig.dead.discard();
    assert!(!rig.dead.is_written());
    drop(rig.dead);
    assert!(!rig.dir.path().join("dead.jsonl").exists(), "nothing was written");
}

#[test]
fn letters_that_wait_are_written_when_their_time_has_come_and_not_before_the_output_is_open() {
    let mut rig = Rig::new();
    rig.dead.take(&of_source([1], vec![0])).unwrap();
    rig.clock.advance(Run::LINGER * 2);
    rig.dead.flush_due().unwrap();
    assert!(!rig.path().exists(), "its output is opened by the first row, or by a full buffer");
    rig.dead.open().unwrap();
    rig.dead.flush_due().unwrap();
    assert_eq!(rig.written(), [1]);
    rig.dead.take(&of_source([2], vec![0])).unwrap();
    rig.clock.advance(Run::LINGER / 2);
    rig.dead.take(&of_source([3], vec![0])).unwrap();
    rig.dead.tick().unwrap();
    assert_eq!(rig.written(), [1], "the oldest has waited for half of the time");
    rig.clock.advance(Run::LINGER / 2);
    rig.dead.tick().unwrap();
    assert_eq!(rig.written(), [1, 2, 3]);
}

#[test]
fn a_full_buffer_opens_the_output_and_is_written() {
    let mut rig = Rig::new();
    let numbers = |count: usize| of_source(0..count as u64, vec![0; count]);
    rig.dead.take(&numbers(FULL - 1)).unwrap();
    assert!(!rig.path().exists());
    rig.dead.take(&numbers(1)).unwrap();
    assert_eq!(rig.written().len(), FULL);
    let large = format!("{{\"n\":1,\"text\":\"{}\"}}", "x".repeat(300 << 10));
    rig.dead.take(&Dead { letters: letters([large.as_str()]), after: vec![0] }).unwrap();
    assert_eq!(rig.written().len(), FULL + 1, "a buffer may be full of few bytes");
}

#[test]
fn letters_of_a_run_that_fails_are_written_when_it_is_dropped() {
    let mut rig = Rig::new();
    rig.dead.push_row(&events(&[&payload(7)]), 0, &fault()).unwrap();
    let Rig { dir, dead, .. } = rig;
    drop(dead);
    assert!(std::fs::read_to_string(dir.path().join("dead.jsonl")).unwrap().contains("SchemaValidationError"));
}

#[test]
fn a_letter_that_fails_again_stays_one_letter_with_its_payload_and_the_new_fault() {
    let mut rig = Rig::new();
    rig.dead.push_row(&letters([payload(5).as_str(), payload(6).as_str()]), 1, &fault()).unwrap();
    rig.finish();
    assert_eq!(rig.written(), [6]);
    let text = std::fs::read_to_string(rig.path()).unwrap();
    assert!(text.contains("SchemaValidationError") && !text.contains("ParseError"), "{text}");
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    for after in 0..3 {
        let fault = DiskFault { after, torn: 10, errno: Errno::NOSPC, is_lasting: true };
        let disk = Disk::failing(fault);
        let mut rig = Rig::on(disk.clone());
        let mut write = || {
            rig.dead.take(&of_source([1], vec![0]))?;
            rig.dead.settle()?;
            rig.dead.finish(&End { how: EndReason::Exhausted, rows: 0, verdict: 0 })
        };
        let written = write();
        assert!(disk.has_failed(), "operation {after}");
        let error = written.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains("dead.jsonl"), "{error}");
    }
}

/// A step of a test: the stage adds letters or writes them, or time passes.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The source has so many faulty records.
    Take(u16),
    /// A row is faulty.
    Row,
    /// Time passes.
    Tick,
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..5_u16).prop_map(Step::Take),
        1 => (500..1100_u16).prop_map(Step::Take),
        4 => Just(Step::Row),
        1 => Just(Step::Tick),
        1 => Just(Step::Settle),
    ]
}

/// A letter of the source that waits: its number, and the rows before it.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    number: u64,
    after: u64,
}

proptest! {
    #![proptest_config(cases(25))]
    #[test]
    fn letters_of_the_source_and_of_the_stage_keep_their_order(steps in vec(step(), 0..25)) {
        let mut rig = Rig::new();
        rig.dead.open().unwrap();
        let mut made = 0;
        for step in steps {
            match step {
                Step::Take(count) => {
                    let count = u64::from(count);
                    rig.dead.take(&of_source(made..made + count, vec![0; count as usize])).unwrap();
                    made += count;
                }
                Step::Row => {
                    rig.dead.push_row(&events(&["{}", &payload(made)]), 1, &fault()).unwrap();
                    made += 1;
                }
                Step::Tick => {
                    rig.clock.advance(Run::LINGER);
                    rig.dead.tick().unwrap();
                    prop_assert_eq!(rig.written().len() as u64, made);
                }
                Step::Settle => {
                    rig.dead.settle().unwrap();
                    prop_assert_eq!(rig.written().len() as u64, made);
                }
            }
            let held = made as usize - rig.written().len();
            prop_assert!(held < FULL, "{} letters are held", held);
        }
        rig.finish();
        prop_assert_eq!(rig.written(), Vec::from_iter(0..made));
        prop_assert_eq!(rig.dead.total(), made);
    }

    /// The model keeps a list, and looks at each letter at each step.
    #[test]
    fn letters_of_the_source_wait_for_the_rows_before_them(
        steps in vec((vec(0..4_u64, 0..6), proptest::option::of(0..12_u64)), 0..20),
    ) {
        let mut rig = Rig::new();
        rig.dead.hold();
        let (mut waiting, mut released): (Vec<Waiting>, Vec<u64>) = (vec![], vec![]);
        let (mut made, mut rows, mut end) = (0, 0, 0);
        for (gaps, release) in steps {
            let mut after = vec![];
            for gap in gaps {
                rows += gap;
                after.push(rows);
                waiting.push(Waiting { number: made + after.len() as u64 - 1, after: rows });
            }
            let count = after.len() as u64;
            rig.dead.take(&of_source(made..made + count, after)).unwrap();
            made += count;
            if let Some(more) = release {
                end += more;
                rig.dead.release_before(end).unwrap();
            }
            let (ready, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|letter| letter.after < end);
            released.extend(ready.iter().map(|letter| letter.number));
            waiting = rest;
            prop_assert_eq!(rig.dead.from_source, released.len() as u64);
            prop_assert_eq!(rig.dead.total(), released.len() as u64);
        }
        rig.dead.flush().unwrap();
        prop_assert_eq!(rig.written(), released);
        rig.dead.release_before(u64::MAX).unwrap();
        rig.finish();
        prop_assert_eq!(rig.written(), Vec::from_iter(0..made));
    }
}

/// Two stages cannot append to one container.
#[test]
fn a_plan_of_a_container_is_opened_once() {
    let dir = tempfile::tempdir().unwrap();
    let run: Rc<Run> = run(Disk::default(), Clock::Fixed(0));
    let plan = || OutputPlan::try_new(dir.path().join("dead.parquet"), &flags(), &run).unwrap();
    let mut first = DeadLetters::new(run.clone(), Some(plan()));
    first.open().unwrap();
    let mut second = DeadLetters::new(run.clone(), Some(plan()));
    let error = second.open().unwrap_err();
    assert!(error.to_string().contains("only as JSONL, CSV or SQLite"), "{error}");
}
