//! Files that are rotated, truncated or written anew while a run with a checkpoint reads them: the next run reads each
//! line that no run has read, and no other one.

use super::files::FilePositions;
use super::*;
use crate::source::{Polled, Source, SourceOptions};
use evt_core::mapping::TimeFrom;
use evt_run::clock::Clock;
use evt_run::console::{Colour, Console};
use evt_run::emit::{Item, QueuedItem, RecordOptions};
use evt_run::input::unopened::Continuation;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

/// Lines of a log that needs several reads.
const LINES: usize = 20_000;

/// A directory of logs, and the positions that the last run has stored.
struct Logs {
    dir: tempfile::TempDir,
    part: Vec<u8>,
    said: Arc<Mutex<String>>,
}

/// What a run has read: its rows, and the verdict of its end.
type RowsAndVerdict = (usize, u8);

impl Logs {
    /// Writes app.log.
    fn new() -> Self {
        let logs = Self { dir: tempfile::tempdir().unwrap(), part: vec![], said: Arc::default() };
        std::fs::write(logs.path("app.log"), lines("old", LINES)).unwrap();
        logs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, names: &[&str]) -> Source {
        let console = Console::new("evt-ingest", Colour::Off).captured(&self.said);
        let run = Rc::new(Run { console, ..Run::unwatched("evt-ingest", Clock::Fixed(0)) });
        let inputs: Vec<Uri> =
            names.iter().map(|name| Uri::parse(self.path(name), &Default::default()).unwrap()).collect();
        let mut options =
            SourceOptions { positions: Some(Positions::restore(&self.part).unwrap()), ..SourceOptions::default() };
        options.inputs.files.format = Some(&evt_core::format::jsonl::FORMAT);
        options.inputs.continuation = Continuation { is_continued: true, ..Continuation::default() };
        options.records.mapping.time = TimeFrom::Arrival;
        Source::open(&inputs, options, run).unwrap()
    }

    /// Runs to the end; does `work` when the first rows have been read and stored.
    fn run_with(&mut self, names: &[&str], work: impl FnOnce(&Self)) -> RowsAndVerdict {
        let mut source = self.open(names);
        let (mut rows, mut work) = (0, Some(work));
        let verdict = loop {
            match source.poll().unwrap() {
                Polled::Item(QueuedItem { item: Item::Batch(batch), .. }) => rows += batch.num_rows(),
                Polled::Item(QueuedItem { item: Item::End(end), .. }) => break end.verdict,
                _ => continue,
            }
            if let Some(work) = work.take() {
                // An epoch ends here.
                source.positions().unwrap();
                work(self);
            }
        };
        self.part = source.positions().unwrap();
        (rows, verdict)
    }

    fn run(&mut self, names: &[&str]) -> RowsAndVerdict {
        self.run_with(names, |_| {})
    }

    /// Takes what the runs have said.
    fn said(&self) -> String {
        std::mem::take(&mut self.said.lock().unwrap())
    }
}

fn lines(name: &str, count: usize) -> String {
    (0..count).map(|line| format!("{{\"{name}\":{line},\"text\":\"0123456789 0123456789 0123456789\"}}\n")).collect()
}

#[test]
fn the_lines_of_the_next_file_are_read_although_it_took_the_name_while_a_run_read_the_last_one() {
    for (next, order) in [(300, ["app.log", "app.log.1"]), (2 * LINES, ["app.log.1", "app.log"])] {
        let mut logs = Logs::new();
        let rotated = logs.run_with(&["app.log"], |logs| {
            std::fs::rename(logs.path("app.log"), logs.path("app.log.1")).unwrap();
            std::fs::write(logs.path("app.log"), lines("new", next)).unwrap();
        });
        assert_eq!(rotated, (LINES, 0));
        assert_eq!(logs.run(&order), (next, 0), "{order:?}: {}", logs.said());
        assert_eq!(logs.run(&order), (0, 0), "{order:?}");
    }
}

#[test]
fn a_file_that_takes_a_name_after_the_comparison_is_not_read_at_the_position_of_the_last_one() {
    let logs = Logs::new();
    let run = Rc::new(Run::unwatched("evt-ingest", Clock::Fixed(0)));
    let mut emitter = RecordEmitter::new(run.clone(), RecordOptions::default()).unwrap();
    let uri = Uri::parse(logs.path("app.log"), &Default::default()).unwrap();
    let opened = FilePositions::default().begin(&uri, 0, "app.log", &mut emitter, &run).unwrap();
    std::fs::rename(logs.path("app.log"), logs.path("app.log.1")).unwrap();
    std::fs::write(logs.path("app.log"), lines("new", 300)).unwrap();
    let mut read = String::new();
    opened.unwrap().read_to_string(&mut read).unwrap();
    assert!(read == lines("old", LINES), "the file that was compared is read");
}

#[test]
fn a_file_that_loses_its_name_while_a_run_reads_it_is_read_to_its_end() {
    for renames in [true, false] {
        let mut logs = Logs::new();
        let gone = logs.run_with(&["app.log"], |logs| match renames {
            true => std::fs::rename(logs.path("app.log"), logs.path("app.log.1")).unwrap(),
            false => std::fs::remove_file(logs.path("app.log")).unwrap(),
        });
        assert_eq!(gone, (LINES, 0), "renames {renames}");
        let again = if renames { "app.log.1" } else { "app.log" };
        std::fs::write(logs.path(again), lines("old", LINES) + &lines("more", 5)).unwrap();
        assert_eq!(logs.run(&[again]), (5, 0), "renames {renames}");
    }
}

#[test]
fn a_file_that_is_truncated_while_a_run_reads_it_is_reported_and_no_line_of_it_or_its_copy_is_left_out() {
    let mut logs = Logs::new();
    let (read, verdict) = logs.run_with(&["app.log"], |logs| {
        std::fs::copy(logs.path("app.log"), logs.path("app.log.1")).unwrap();
        std::fs::write(logs.path("app.log"), lines("new", 300)).unwrap();
    });
    assert!(read < LINES, "the file has several reads");
    let said = logs.said();
    assert!(verdict == 1 && said.contains("app.log: truncated while it was read; lines may be lost"), "{said}");
    assert_eq!(logs.run(&["app.log"]), (300, 0), "{}", logs.said());
    assert_eq!(logs.run(&["app.log.1"]), (LINES - read, 0), "{}", logs.said());
}

#[test]
fn a_file_that_is_written_anew_beyond_its_former_end_while_a_run_reads_it_is_reported() {
    let mut logs = Logs::new();
    let (_, verdict) =
        logs.run_with(&["app.log"], |logs| std::fs::write(logs.path("app.log"), lines("new", 2 * LINES)).unwrap());
    let said = logs.said();
    assert!(verdict == 1 && said.contains("app.log: overwritten while it was read; lines may be lost"), "{said}");
    assert_eq!(logs.run(&["app.log"]), (2 * LINES, 0), "{}", logs.said());
}

#[test]
fn lines_that_are_appended_while_a_run_reads_a_file_are_read_once() {
    let mut logs = Logs::new();
    let grown = logs.run_with(&["app.log"], |logs| {
        let mut log = std::fs::File::options().append(true).open(logs.path("app.log")).unwrap();
        log.write_all(lines("more", 300).as_bytes()).unwrap();
    });
    assert_eq!(grown, (LINES + 300, 0));
    assert_eq!(logs.run(&["app.log"]), (0, 0));
}

#[test]
fn two_copies_keep_their_positions_and_each_goes_on_from_its_own() {
    let mut logs = Logs::new();
    std::fs::copy(logs.path("app.log"), logs.path("copy.log")).unwrap();
    assert_eq!(logs.run(&["app.log", "copy.log"]), (LINES, 0), "the same content is read once");
    std::fs::write(logs.path("copy.log"), lines("old", LINES) + &lines("more", 5)).unwrap();
    assert_eq!(logs.run(&["app.log", "copy.log"]), (5, 0), "{}", logs.said());
    std::fs::write(logs.path("app.log"), lines("old", LINES) + &lines("others", 7)).unwrap();
    assert_eq!(logs.run(&["app.log", "copy.log"]), (7, 0), "{}", logs.said());
}

#[test]
fn a_file_with_two_names_is_read_once_although_it_grows() {
    let mut logs = Logs::new();
    std::os::unix::fs::symlink(logs.path("app.log"), logs.path("current.log")).unwrap();
    let names = ["app.log", "current.log"];
    assert_eq!(logs.run(&names), (LINES, 0));
    for count in [5, 6] {
        std::fs::write(logs.path("app.log"), lines("old", LINES) + &lines("more", count)).unwrap();
        assert_eq!(logs.run(&names), (if count == 5 { 5 } else { 1 }, 0), "{}", logs.said());
    }
}
