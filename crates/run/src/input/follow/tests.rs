//! Random rotations of a followed name, in a simulated directory and with a simulated clock.

use super::name::{Change, Directory, HELD_MAX, Name, Opened};
use super::turns::{QUIET, ReadBytes, Turns};
use crate::input::position::FileId;
use evt_core::generate::random::Random;
use std::time::Duration;

/// Duration of a step of the simulation in milliseconds.
const STEP: u64 = 10;

/// A directory with one followed name. A file is represented by its number of lines.
#[derive(Default)]
struct Disk {
    files: Vec<u32>,
    named: Option<usize>,
    changes: Vec<Change>,
}

impl Disk {
    fn create(&mut self) -> usize {
        self.files.push(0);
        self.named = Some(self.files.len() - 1);
        self.changes.push(Change::Created);
        self.files.len() - 1
    }

    fn remove(&mut self) {
        if self.named.take().is_some() {
            self.changes.push(Change::Left);
        }
    }
}

fn id(file: usize) -> FileId {
    FileId { device: 0, inode: file as u64 }
}

impl Directory for Disk {
    type File = usize;

    fn id(&mut self) -> std::io::Result<Option<FileId>> {
        Ok(self.named.map(id))
    }

    fn open(&mut self) -> std::io::Result<Option<Opened<usize>>> {
        Ok(self.named.map(|file| Opened { id: id(file), file }))
    }
}

/// The watching thread and the reader; the test calls both.
#[derive(Default)]
struct Reader {
    name: Name<usize>,
    turns: Turns,
    /// The open files, each with the number of lines read from it.
    open: Vec<(usize, u32)>,
    /// All lines read: file number and line number.
    lines: Vec<(usize, u32)>,
}

impl Reader {
    fn watch(&mut self, disk: &mut Disk, is_notified: bool) {
        for change in std::mem::take(&mut disk.changes) {
            if is_notified {
                self.name.note(change);
            }
        }
        self.name.check(disk, is_notified).expect("the disk is sound");
    }

    /// Takes over the files that the thread has opened. A line is a byte.
    fn take(&mut self, disk: &Disk) {
        while let Some(opened) = self.name.pop() {
            let before = self.open.last().map(|(file, read)| (*read, disk.files[*file]));
            let before = before.map(|(done, length)| ReadBytes { done: Some(done.into()), length: length.into() });
            self.turns.push(opened.id, before.unwrap_or_default());
            self.open.push((opened.file, 0));
        }
    }

    /// Reads until all files are at their end, at most `most` lines of a file at once; then closes quiet files.
    fn read(&mut self, disk: &Disk, now: Duration, most: u32) {
        self.take(disk);
        while let Some(at) = self.turns.next() {
            let (file, read) = self.open[at];
            let end = disk.files[file].min(read + most);
            self.lines.extend((read..end).map(|line| (file, line)));
            self.open[at].1 = end;
            match end > read {
                true => self.turns.found_bytes(at, Some(end.into())),
                false => self.turns.ended(at, now),
            }
        }
        while let Some(at) = self.turns.to_close(self.name.owner(), now, self.name.is_full()) {
            let (file, read) = self.open.remove(at);
            assert_eq!(read, disk.files[file], "closed before its end");
            assert_eq!(self.turns.remove(at), id(file));
            self.name.close(id(file));
        }
    }
}

/// A simulation. Each writer has its open file and the time (ms) at which it closes it; 0 while the file has the name.
struct Script {
    disk: Disk,
    reader: Reader,
    random: Random,
    writers: Vec<(usize, u64)>,
    rotated: u64,
}

impl Script {
    fn new(seed: u64) -> Self {
        let mut script = Self {
            disk: Disk::default(),
            reader: Reader::default(),
            random: Random::at(seed, 0),
            writers: vec![],
            rotated: 0,
        };
        let first = script.disk.create();
        script.writers.push((first, 0));
        script
    }

    /// Replaces the file of the name by a new one. With probability 1/2 the old writer keeps appending to the old file
    /// for up to 30 s.
    fn rotate(&mut self, now: u64) {
        if self.random.below(2) == 0 {
            let late = now + self.random.below(30_000);
            if let Some(writer) = self.writers.last_mut() {
                writer.1 = late;
            }
        }
        self.disk.remove();
        let file = self.disk.create();
        self.writers.retain(|(_, until)| *until > now);
        self.writers.push((file, 0));
        self.rotated = now;
    }

    fn run(mut self, is_notified: bool) -> Reader {
        let (end, mut busy) = (40_000, 0);
        let after = (end..end + 2 * QUIET.as_millis() as u64).step_by(1_000);
        for now in (0..end).step_by(STEP as usize).chain(after) {
            self.writers.retain(|(_, until)| *until == 0 || *until > now);
            if now < end {
                if now >= self.rotated + 200 && self.random.below(100) == 0 {
                    self.rotate(now);
                }
                let at = self.random.below(self.writers.len() as u64 * 2) as usize;
                if let Some((file, _)) = self.writers.get(at) {
                    self.disk.files[*file] += self.random.below(4) as u32;
                }
            }
            // The thread is notified of changes, or checks every 100 ms; the reader may be busy for seconds.
            if is_notified || now.is_multiple_of(100) {
                self.reader.watch(&mut self.disk, is_notified);
            }
            if now >= busy && now.is_multiple_of(100) {
                self.reader.read(&self.disk, Duration::from_millis(now), 1 + self.random.below(50) as u32);
                busy = if self.random.below(50) == 0 { now + self.random.below(5_000) } else { now };
            }
        }
        assert!(self.disk.files.len() > 10, "{} rotations", self.disk.files.len());
        let written = self.disk.files.iter().enumerate();
        let mut written: Vec<_> = written.flat_map(|(file, lines)| (0..*lines).map(move |line| (file, line))).collect();
        let mut read = self.reader.lines.clone();
        written.sort_unstable();
        read.sort_unstable();
        assert!(read == written, "{} of {} lines", read.len(), written.len());
        self.reader
    }
}

#[test]
fn two_hundred_scripts_of_rotations_lose_no_line_and_read_none_twice() {
    for seed in 0..200 {
        let mut reader = Script::new(seed).run(seed % 4 != 0);
        assert_eq!(reader.name.take_missed(), 0, "seed {seed}");
        assert_eq!(reader.open.len(), 1, "seed {seed}: renamed files stay open");
    }
}

#[test]
fn a_file_that_came_and_went_between_two_looks_is_counted() {
    let (mut disk, mut reader) = (Disk::default(), Reader::default());
    disk.create();
    reader.watch(&mut disk, true);
    for _ in 0..3 {
        disk.remove();
        disk.create();
    }
    reader.watch(&mut disk, true);
    assert_eq!(reader.name.take_missed(), 2);
    disk.remove();
    disk.create();
    disk.remove();
    reader.watch(&mut disk, true);
    assert_eq!((reader.name.take_missed(), reader.name.is_gone()), (1, true));
}

#[test]
fn a_file_that_is_opened_before_its_arrival_is_told_is_not_counted_as_missed() {
    let (mut disk, mut reader) = (Disk::default(), Reader::default());
    disk.create();
    reader.watch(&mut disk, true);
    disk.remove();
    disk.create();
    let told_later = disk.changes.pop();
    reader.watch(&mut disk, true);
    disk.changes.extend(told_later);
    reader.watch(&mut disk, true);
    assert_eq!((reader.name.take_missed(), reader.name.pop().is_some()), (0, true));
}

#[test]
fn a_file_that_gets_its_name_back_is_not_read_again() {
    let (mut disk, mut reader) = (Disk::default(), Reader::default());
    let first = disk.create();
    disk.files[first] = 2;
    reader.watch(&mut disk, true);
    for now in [0, 200] {
        disk.named = None;
        disk.changes.push(Change::Left);
        disk.named = Some(first);
        disk.changes.push(Change::MovedIn);
        reader.watch(&mut disk, true);
        reader.read(&disk, Duration::from_secs(now), 100);
    }
    assert_eq!((reader.lines.len(), reader.open.len(), reader.name.take_missed()), (2, 1, 0));
}

/// Lines of a file that are older than the next file come before it, even if the reader had been at their end once.
/// Those that its writer appends afterwards must not hold the next file up.
#[test]
fn lines_from_before_the_next_file_come_before_it_and_later_ones_do_not_hold_it_up() {
    let (mut disk, mut reader) = (Disk::default(), Reader::default());
    let old = disk.create();
    disk.files[old] = 10;
    reader.watch(&mut disk, true);
    reader.read(&disk, Duration::ZERO, 1);
    disk.remove();
    disk.files[old] = 40;
    let new = disk.create();
    reader.watch(&mut disk, true);
    reader.take(&disk);
    disk.files[old] = 100;
    disk.files[new] = 100;
    reader.read(&disk, Duration::ZERO, 1);
    assert!(reader.lines[..40].iter().copied().eq((0..40).map(|line| (old, line))), "{:?}", &reader.lines[..40]);
    assert!(reader.lines[40..45].contains(&(new, 0)), "{:?}", &reader.lines[40..60]);
    assert_eq!(reader.lines.len(), 200);
}

#[test]
fn no_more_files_are_held_open_than_the_bound() {
    let (mut disk, mut reader) = (Disk::default(), Reader::default());
    for _ in 0..3 * HELD_MAX {
        disk.remove();
        let file = disk.create();
        disk.files[file] = 1;
        reader.watch(&mut disk, true);
        reader.read(&disk, Duration::ZERO, 1);
        assert!(reader.open.len() <= HELD_MAX);
    }
    assert_eq!((reader.lines.len(), reader.name.take_missed()), (3 * HELD_MAX, 0));
}

#[test]
fn a_reader_that_is_held_up_finds_what_the_bound_left_under_the_name() {
    let (mut disk, mut reader) = (Disk::default(), Reader::default());
    for _ in 0..HELD_MAX + 3 {
        disk.remove();
        let file = disk.create();
        disk.files[file] = 1;
        reader.watch(&mut disk, true);
    }
    reader.read(&disk, Duration::ZERO, 1);
    reader.watch(&mut disk, true);
    reader.read(&disk, Duration::ZERO, 1);
    assert_eq!((reader.lines.len(), reader.name.take_missed()), (HELD_MAX + 1, 2));
}
