//! A followed name in a real directory, with a simulated clock.

use super::watch::Watch;
use super::*;
use crate::clock::{Clock, SimulatedClock};
use crate::format::jsonl;
use crate::ingest::Item;
use crate::mapping::{Options, TimeFrom};
use std::path::Path;
use std::time::Instant;

/// A followed name, and what its reader needs.
struct Followed {
    input: FollowedInput,
    ingest: Ingest,
    clock: SimulatedClock,
}

impl Followed {
    /// Follows an existing file.
    fn new(path: &Path) -> Self {
        let clock = SimulatedClock::at(0);
        let run = Rc::new(Run::unwatched("evt-ingest", Clock::Simulated(clock.clone())));
        let options = Options { time: TimeFrom::Arrival, ..Options::default() };
        let mut ingest = Ingest::new(run.clone(), options, None, false, None).unwrap();
        let watch = Watch::start(&[path.to_owned()]).unwrap().remove(0);
        let opened = watch.with(|watched| watched.name.pop()).unwrap();
        let bytes = Bytes::of_file("f".into(), opened.file, run.clone()).unwrap();
        let options = Rc::new(TextOptions::default());
        let reading =
            TextReading { format: &jsonl::FORMAT, options, partition: ingest.partition("f"), is_continued: false };
        let input = WatchedFile { watch, id: opened.id, bytes, former: None };
        let input = FollowedInput::new(run, input, reading, Resumption::default()).unwrap();
        Self { input, ingest, clock }
    }

    /// Does one step; returns the number of rows so far.
    fn step(&mut self) -> u64 {
        assert!(matches!(self.input.step(&mut self.ingest).unwrap(), Step::More | Step::Idle));
        self.ingest.flush().unwrap();
        let batches = std::iter::from_fn(|| self.ingest.pop());
        batches.for_each(|sent| assert!(matches!(sent.item, Item::Batch(_) | Item::Control(_))));
        self.ingest.counts().out
    }

    /// Does steps until there are `rows` rows, and one more. The watching thread runs in real time, so this waits for it.
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
    followed.input.close_quiet(&mut followed.ingest).unwrap();
    assert_eq!(followed.input.progress().done, 8);
    followed.step_until(3);
}
