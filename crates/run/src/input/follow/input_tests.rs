//! A followed name in a real directory, with a simulated clock.

use super::watch::Watch;
use super::*;
use crate::clock::{Clock, SimulatedClock};
use crate::emit::Item;
use crate::emit::RecordOptions;
use evt_core::format::jsonl;
use evt_core::mapping::{Options, TimeFrom};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// A followed name, and what its reader needs.
struct Followed {
    input: FollowedInput,
    emitter: RecordEmitter,
    clock: SimulatedClock,
}

impl Followed {
    /// Follows an existing file.
    fn new(path: &Path) -> Self {
        let clock = SimulatedClock::at(0);
        let run = Rc::new(Run::unwatched("evt-ingest", Clock::Simulated(clock.clone())));
        let options = Options { time: TimeFrom::Arrival, ..Options::default() };
        let mut emitter =
            RecordEmitter::new(run.clone(), RecordOptions { mapping: options, ..Default::default() }).unwrap();
        let watch = Watch::start(&[path.to_owned()]).unwrap().remove(0);
        let opened = watch.with(|watched| watched.name.pop()).unwrap();
        let bytes = Bytes::of_file("f".into(), opened.file, run.clone()).unwrap().with_content(FileContent::default());
        let options = Rc::new(TextOptions::default());
        let reading = TextReading {
            format: &jsonl::FORMAT,
            options,
            partition: emitter.stamp_mut().unnamed("f"),
            is_continued: true,
        };
        let input = WatchedFile { watch, id: opened.id, bytes, former: None };
        let input = FollowedInput::new(run, input, reading, Resumption::default()).unwrap();
        Self { input, emitter, clock }
    }

    /// Does one step; returns the number of rows so far.
    fn step(&mut self) -> u64 {
        assert!(matches!(self.input.step(&mut self.emitter).unwrap(), Step::More | Step::Idle));
        self.emitter.flush().unwrap();
        let batches = std::iter::from_fn(|| self.emitter.pop());
        batches.for_each(|sent| assert!(matches!(sent.item, Item::Batch(_) | Item::Control(_))));
        self.emitter.counts().out
    }

    /// Does steps until there are `rows` rows, and one more. The watching thread runs in real time, so this waits for
    /// it.
    fn step_until(&mut self, rows: u64) {
        wait_for(|| self.step() == rows);
        self.step();
    }
}

/// Waits until `is_done`, at most a minute.
fn wait_for(mut is_done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < Duration::from_secs(60), "not done after a minute");
        std::thread::yield_now();
    }
}

#[test]
fn the_only_open_file_is_not_closed_while_its_successor_waits_in_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "{\"a\":1}\n").unwrap();
    let mut followed = Followed::new(&path);
    followed.step_until(1);
    let owner = |input: &FollowedInput| input.watch.with(|watched| watched.name.owner());
    let first = owner(&followed.input);
    std::fs::rename(&path, dir.path().join("f.1")).unwrap();
    std::fs::write(&path, "{\"a\":2}\n{\"a\":3}\n").unwrap();
    wait_for(|| owner(&followed.input) != first);
    followed.clock.advance(turns::QUIET * 2);
    followed.input.close_quiet(&mut followed.emitter).unwrap();
    assert_eq!(followed.input.progress().done, 8);
    followed.step_until(3);
}

#[test]
fn a_deleted_file_is_reported_after_a_time_of_the_clock_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "{\"a\":1}\n").unwrap();
    let mut followed = Followed::new(&path);
    followed.step_until(1);
    assert_eq!(followed.input.absence, Absence::None);
    std::fs::remove_file(&path).unwrap();
    wait_for(|| followed.input.watch.with(|watched| watched.name.is_gone()));
    followed.step();
    assert!(matches!(followed.input.absence, Absence::Since(_)));
    followed.clock.advance(GONE);
    followed.step();
    assert_eq!(followed.input.absence, Absence::Reported);
}

/// A log of which evt has read and closed one file, and reads the next one.
fn position_after_a_closed_file(path: &Path, lines: usize) -> FollowPosition {
    std::fs::write(path, "{\"a\":\"0123456789\"}\n".repeat(lines)).unwrap();
    let mut followed = Followed::new(path);
    followed.step_until(lines as u64);
    std::fs::rename(path, path.with_extension("1")).unwrap();
    std::fs::write(path, "{\"b\":1}\n").unwrap();
    followed.step_until(lines as u64 + 1);
    followed.clock.advance(turns::QUIET * 2);
    followed.step();
    assert_eq!(followed.input.files.len(), 1, "the renamed file is closed");
    match followed.input.checkpoint_position().unwrap() {
        Some(InputPosition::Followed(position)) => position,
        _ => panic!("a followed name has a position"),
    }
}

/// Finds the files of a position; returns how many lines of each were read, and the number of those that stay closed.
fn resumed(path: &Path, position: &FollowPosition) -> (Vec<Option<i64>>, usize) {
    let run = Run::unwatched("evt-ingest", Clock::Simulated(SimulatedClock::at(0)));
    let watch = Watch::start(&[path.to_owned()]).unwrap().remove(0);
    let found = resume::resume("f", path, position.clone(), &watch, &run).unwrap();
    let lines = |file: &ResumedFile| file.former.as_ref().map(|former| former.line);
    (found.files.iter().map(lines).collect(), found.closed.iter().count())
}

#[test]
fn lines_that_were_appended_to_a_closed_file_are_read_by_the_next_run() {
    // Less and more than the bytes by which a copy is known.
    for lines in [2, 200] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let position = position_after_a_closed_file(&path, lines);
        assert_eq!(resumed(&path, &position), (vec![Some(1)], 1), "nothing has come");
        let mut late = std::fs::OpenOptions::new().append(true).open(path.with_extension("1")).unwrap();
        late.write_all(b"{\"a\":2}\n").unwrap();
        let expected = (vec![Some(lines as i64), Some(1)], 0);
        assert_eq!(resumed(&path, &position), expected);
        std::fs::rename(path.with_extension("1"), dir.path().join("archived")).unwrap();
        assert_eq!(resumed(&path, &position), expected, "under another name");
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(dir.path().join("archived"), &path).unwrap();
        let (found, _) = resumed(&path, &position);
        assert_eq!(found, [Some(lines as i64)], "under the followed name");
    }
}
