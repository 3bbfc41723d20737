//! Files for state beyond `--memory`, on the disk of the run.
//!
//! With a checkpoint, the files are in its directory, and the epochs that need a file have links to it: a file that
//! several epochs need is written once, and is removed with the last of these epochs. Without a checkpoint, the files
//! are unnamed files in the directory for temporary files (`TMPDIR`, else `/var/tmp`), which the system removes when
//! the process ends, however it ends.

use super::place::{CheckpointPlace, STATE_FILE};
use crate::checkpoint::epoch::Epoch;
use crate::storage::disk::{Disk, DiskFile, failed};
use evt_core::error::{Error, Result};
use evt_core::op::state_storage::{MemoryBound, NewStateFile, StateFile, StateStorage};
use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// The directory of temporary files that may be large.
const LARGE: &str = "/var/tmp";

/// Files without names, in the directory for temporary files.
#[derive(Debug)]
pub struct TemporaryFiles {
    disk: Disk,
    directory: PathBuf,
    made: u64,
    written: Rc<Cell<u64>>,
}

impl TemporaryFiles {
    /// Makes files in `TMPDIR`, or in `/var/tmp`: `/tmp` often is memory. Creates nothing.
    pub fn new(disk: Disk) -> Self {
        let directory = match std::env::var_os("TMPDIR") {
            None if Path::new(LARGE).is_dir() => PathBuf::from(LARGE),
            _ => std::env::temp_dir(),
        };
        Self { disk, directory, made: 0, written: Rc::default() }
    }
}

/// Returns a bound of `bytes` bytes for state in memory. State beyond the bound goes to temporary files.
pub fn memory_bound(bytes: usize, disk: Disk) -> MemoryBound {
    MemoryBound { bytes, storage: Box::new(TemporaryFiles::new(disk)) }
}

impl StateStorage for TemporaryFiles {
    fn create(&mut self) -> Result<Box<dyn NewStateFile>> {
        self.made += 1;
        let shown = format!("{}: state beyond --memory (TMPDIR)", self.directory.display());
        let file = self.disk.change(|| tempfile::tempfile_in(&self.directory));
        let file = self.disk.file(file.map_err(|error| Error::io(&shown, &error))?);
        let (name, written) = (self.made.to_string(), self.written.clone());
        Ok(Box::new(NewFile { file, path: shown.into(), is_named: false, name, length: 0, written }))
    }

    fn written(&self) -> u64 {
        self.written.get()
    }

    fn open(&mut self, name: &str) -> Result<Rc<dyn StateFile>> {
        Err(Error::broken(format!("file {name} of a state without a checkpoint")))
    }
}

/// Files of a checkpoint.
#[derive(Debug)]
pub struct CheckpointFiles {
    place: Arc<CheckpointPlace>,
    run: u64,
    /// The prefix of the names of new files. The stages of a run share a directory, so the prefix has the run and the
    /// stage.
    prefix: String,
    /// The epoch that the run continues.
    restored: Option<Epoch>,
    made: u64,
    written: Rc<Cell<u64>>,
}

impl CheckpointFiles {
    /// Makes files of `stage` in `place` for a run that continues the epoch `restored`.
    pub fn new(place: Arc<CheckpointPlace>, run: u64, stage: &str, restored: Option<Epoch>) -> Self {
        let prefix = format!("{STATE_FILE}{run}-{stage}-");
        Self { place, run, prefix, restored, made: 0, written: Rc::default() }
    }
}

impl StateStorage for CheckpointFiles {
    fn create(&mut self) -> Result<Box<dyn NewStateFile>> {
        self.made += 1;
        let name = format!("{}{}", self.prefix, self.made);
        let (file, path) = self.place.local().create_state(self.run, &name)?;
        Ok(Box::new(NewFile { file, path, is_named: true, name, length: 0, written: self.written.clone() }))
    }

    fn written(&self) -> u64 {
        self.written.get()
    }

    fn open(&mut self, name: &str) -> Result<Rc<dyn StateFile>> {
        let Some(epoch) = self.restored else { return Err(Error::broken("a state without an epoch")) };
        let is_plain_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_plain = name.strip_prefix(STATE_FILE).is_some_and(|rest| rest.bytes().all(is_plain_byte));
        if !is_plain {
            return Err(Error::corrupt(format!("snapshot: expected the name of a file of state, found {name}")));
        }
        let path = self.place.local().restore_state(self.run, epoch, name)?;
        let length = std::fs::metadata(&path).map_err(failed(&path))?.len();
        Ok(Rc::new(WrittenFile { file: None, path, name: name.to_owned(), length }))
    }
}

/// A whole file.
#[derive(Debug)]
struct WrittenFile {
    /// The open file, if it has no path.
    file: Option<File>,
    /// Its path, or its name in messages.
    path: PathBuf,
    name: String,
    length: u64,
}

impl StateFile for WrittenFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, at: Range<u64>) -> Result<Vec<u8>> {
        let read = |file: &File| {
            let mut bytes = vec![0; (at.end - at.start) as usize];
            file.read_exact_at(&mut bytes, at.start).map(|()| bytes)
        };
        let bytes = self.file.as_ref().map_or_else(|| read(&File::open(&self.path)?), read);
        bytes.map_err(failed(&self.path))
    }
}

/// When nothing in this run refers to a file of a checkpoint, the name in the directory of this run is removed; epochs
/// and other runs have links of their own.
impl Drop for WrittenFile {
    fn drop(&mut self) {
        if self.file.is_none() {
            // The next run removes the file if this fails.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A file that is being written.
struct NewFile {
    file: DiskFile,
    /// Its path, or its name in messages.
    path: PathBuf,
    /// Whether it has a path.
    is_named: bool,
    name: String,
    length: u64,
    /// Bytes of all files of the run.
    written: Rc<Cell<u64>>,
}

impl NewStateFile for NewFile {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.length += bytes.len() as u64;
        self.file.write_all(bytes).map_err(failed(&self.path))
    }

    fn finish(self: Box<Self>) -> Result<Rc<dyn StateFile>> {
        let Self { file, path, is_named, name, length, written } = *self;
        written.set(written.get() + length);
        Ok(Rc::new(WrittenFile { file: (!is_named).then_some(file.file), path, name, length }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::disk::DiskFault;
    use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
    use evt_core::kind::event::column;
    use evt_core::op::window::metric::Emit;
    use evt_core::op::window::{Options, Window, spec, watermark};
    use evt_core::time::SECOND;
    use rustix::io::Errno;
    use std::sync::Arc;

    /// Returns the result rows of windows and sessions over more keys than fit into the bound. A group of few keys
    /// would stay in memory.
    fn results(storage: Option<Box<dyn StateStorage>>) -> Result<Vec<String>> {
        let spec =
            spec::file("[[metric]]\nname='n'\nby=['k']\nsize='1m'\n[[metric]]\nname='visit'\nby=['k']\ngap='20s'")?;
        let watermark = watermark::Options { out_of_orderness: Some(0), explicit: false, new_partitions: false };
        let memory = storage.map(|storage| MemoryBound { bytes: 2_000, storage });
        let mut window = Window::new(Options {
            leaves: spec.leaves,
            metrics: spec.metrics,
            watermark,
            emit: Emit::Panes,
            memory,
            parallelism: Default::default(),
        });
        window.on_progress(&evt_core::frame::Progress { complete: true, ..Default::default() })?;
        let mut rows = vec![];
        let mut emit = |row: &evt_core::kind::metric::Row<'_>| {
            rows.push(format!("{} {} {} {}", row.name, row.start, row.dimensions, row.rows));
            Ok(())
        };
        for batch in 0..12i64 {
            let properties: Vec<String> =
                (0..400).map(|at| format!(r#"{{"k":"{}"}}"#, (at * 7 + batch) % 300)).collect();
            let made = crate::test_events::events(&properties.iter().map(String::as_str).collect::<Vec<_>>());
            let times =
                TimestampMicrosecondArray::from_iter_values((0..400).map(|at| (batch * 60 + at % 60) * SECOND / 2));
            let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
            let mut columns = made.columns().to_vec();
            (columns[column::EVENT_TIME], columns[column::STREAM_TIME]) = (times.clone(), times);
            window.on_batch(&RecordBatch::try_new(made.schema(), columns)?, 0)?;
            window.fire(&mut emit)?;
        }
        window.on_exhausted(&mut emit)?;
        rows.sort();
        Ok(rows)
    }

    fn written(files: &mut CheckpointFiles, bytes: &[u8]) -> Rc<dyn StateFile> {
        let mut file = files.create().unwrap();
        file.write(bytes).unwrap();
        file.finish().unwrap()
    }

    /// An old run, which a process stopped by SIGSTOP may be, removes its files when it ends.
    #[test]
    fn files_that_an_old_run_removes_stay_those_of_the_newest_one() {
        let dir = tempfile::tempdir().unwrap();
        let place = Arc::new(CheckpointPlace::directory(dir.path().join("ckpt"), &Disk::default()));
        place.files.create().unwrap();
        let [first, second, third] = [1, 2, 3].map(|run| Epoch { run, number: 1 });
        let made = written(&mut CheckpointFiles::new(place.clone(), 1, "1-a", None), b"gigabytes");
        let name = made.name().to_owned();
        let part = place.local().link_part(first, &name, None).unwrap();
        let restore = |run| {
            place.clear(run, &[]).unwrap();
            let mut files = CheckpointFiles::new(place.clone(), run, "1-a", Some(first));
            (files.open(&name).unwrap(), files)
        };
        let (of_second, mut second_files) = restore(2);
        assert_eq!(place.local().link_part(second, &name, Some(&part)).unwrap(), part);
        let (of_third, _files) = restore(3);
        // Until it notices that a newer run has begun, an old one may also write files.
        let late = written(&mut second_files, b"late");
        drop((made, of_second, late));
        place.clear(2, &[]).unwrap();
        assert_eq!(of_third.read(0..9).unwrap(), b"gigabytes");
        assert_eq!(place.local().link_part(third, &name, Some(&part)).unwrap(), part);
        drop(of_third);
        assert_eq!(place.local().read_part(third, &name).unwrap(), b"gigabytes");
    }

    #[test]
    fn a_run_removes_the_files_of_runs_before_it_and_of_earlier_versions() {
        let dir = tempfile::tempdir().unwrap();
        let place = CheckpointPlace::directory(dir.path().join("ckpt"), &Disk::default());
        place.files.create().unwrap();
        for run in [1, 2, 9, 10] {
            place.local().create_state(run, "state-1-1-a-1").unwrap();
        }
        std::fs::write(dir.path().join("ckpt/state/state-1-1-a-2"), "").unwrap();
        place.clear(9, &[]).unwrap();
        let left = std::fs::read_dir(dir.path().join("ckpt/state")).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["10", "9"]);
    }

    #[test]
    fn a_disk_that_fails_at_any_operation_ends_the_run_with_an_io_error() {
        let expected = results(None).unwrap();
        assert!(expected.len() > 500, "{}", expected.len());
        let disk = |fault| Box::new(TemporaryFiles::new(Disk::failing(fault))) as Box<dyn StateStorage>;
        // All of the first operations, and a sample of the others.
        let mut after = 0;
        loop {
            let fault = DiskFault { after, torn: 3, errno: Errno::NOSPC, is_lasting: true };
            match results(Some(disk(fault))) {
                Err(error) => assert_eq!(error.kind(), evt_core::ErrorKind::Io, "{after}: {error}"),
                Ok(rows) => {
                    assert!(rows == expected && after > 100, "{after} operations, {} rows", rows.len());
                    return;
                }
            }
            after += 1 + after / 8;
        }
    }
}
