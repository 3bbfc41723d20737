//! With `?roll=`, epochs join before they show: the rows of a committed epoch wait in a file until there are enough of
//! them.
//!
//! ```text
//! rows of epoch R-N ─► .evt/KEY-R-N.rows ─synced─► KEY.committed: R-N, and the files that wait
//!                     └─(enough bytes, old enough, or the end of the run)─► published ─► KEY.committed: none waits
//! ```
//!
//! An epoch is committed when its rows are durable here, so a run that is killed loses none. If it is killed while rows
//! are published, the next one publishes them again: it finds the rows that the lake has.

use crate::lake::disk::{LakeDir, failed};
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use evt_run::checkpoint::epoch::Epoch;
use evt_run::storage::disk::{Disk, DiskFile};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

/// Maximum number of rows that wait: rows of metrics must be in memory when they are published.
const ROWS_MAX: u64 = 1 << 20;
/// Maximum number of files whose rows wait: each commit writes the names of these files.
const FILES_MAX: usize = 1000;

/// When a file is finished before the end of the run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Roll {
    /// At this many bytes.
    pub bytes: Option<usize>,
    /// At this age of its first row (µs of processing time).
    pub age: Option<i64>,
}

/// The epochs that an output of a checkpoint has committed to a lake.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct CommittedEpochs {
    /// The last epoch.
    pub epoch: Option<Epoch>,
    /// The files of epochs whose rows do not show yet, in order.
    pub waiting: Vec<WaitingRows>,
    /// When the first of them was written (µs).
    pub since: Option<i64>,
}

/// A file with the rows of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingRows {
    /// Its name in the hidden directory.
    pub name: String,
    rows: u64,
    bytes: u64,
}

impl CommittedEpochs {
    /// Whether the rows that wait are to be published.
    pub fn is_due(&self, roll: Option<Roll>, now: i64) -> bool {
        let Some(roll) = roll else { return !self.waiting.is_empty() };
        let bytes = self.waiting.iter().map(|file| file.bytes).sum::<u64>();
        let rows = self.waiting.iter().map(|file| file.rows).sum::<u64>();
        roll.bytes.is_some_and(|limit| bytes >= limit as u64)
            || self.is_old(roll, now)
            || rows >= ROWS_MAX
            || self.waiting.len() >= FILES_MAX
    }

    /// Whether the oldest rows have waited long enough.
    pub fn is_old(&self, roll: Roll, now: i64) -> bool {
        self.since.zip(roll.age).is_some_and(|(since, age)| now.saturating_sub(since) >= age)
    }

    /// Adds an epoch whose rows wait, or which has none.
    pub fn add(&mut self, epoch: Epoch, file: Option<WaitingRows>, now: i64) {
        self.epoch = Some(epoch);
        if let Some(file) = file {
            self.since.get_or_insert(now);
            self.waiting.push(file);
        }
    }
}

impl WaitingRows {
    /// Reads the rows of the file, each batch with its kind.
    pub fn read(&self, dir: &LakeDir) -> Result<impl Iterator<Item = Result<(Kind, RecordBatch)>> + use<>> {
        let path = dir.hidden(&self.name);
        let file = File::open(&path).map_err(failed(&path, "cannot open"))?;
        let stream = StreamReader::try_new(BufReader::new(file), None).map_err(|error| unreadable(&path, error))?;
        let kind = Kind::of(&stream.schema()).ok_or_else(|| {
            Error::corrupt(format!("{}: expected rows of a kind, found a schema without one", path.display()))
        })?;
        Ok(stream.map(move |batch| Ok((kind, batch.map_err(|error| unreadable(&path, error))?))))
    }
}

/// The rows of an epoch that are being written.
pub struct WaitingFile {
    name: String,
    path: PathBuf,
    disk: Disk,
    stream: Option<StreamWriter<BufWriter<DiskFile>>>,
    rows: u64,
}

impl WaitingFile {
    /// Prepares the file of an epoch. It is created with the first rows.
    pub fn new(dir: &LakeDir, name: String) -> Self {
        Self { path: dir.hidden(&name), disk: dir.disk.clone(), name, stream: None, rows: 0 }
    }

    /// Appends rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.rows += batch.num_rows() as u64;
        let unwritten = |error| unwritten(&self.path, error);
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                // A commit that failed may have left a part of it.
                let opened = self.disk.open(&self.path, OpenOptions::new().write(true).create(true).truncate(true));
                let file = opened.map_err(failed(&self.path, "cannot open"))?;
                let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME));
                let options = options.map_err(unwritten)?;
                let stream = StreamWriter::try_new_with_options(BufWriter::new(file), &batch.schema(), options);
                none.insert(stream.map_err(unwritten)?)
            }
        };
        stream.write(batch).map_err(unwritten)
    }

    /// Ends the file and makes it durable; `None` if there are no rows.
    pub fn finish(self) -> Result<Option<WaitingRows>> {
        let Self { name, path, disk: _, stream, rows } = self;
        let Some(mut stream) = stream else { return Ok(None) };
        stream.finish().map_err(|error| unwritten(&path, error))?;
        let buffer = stream.into_inner().map_err(|error| unwritten(&path, error))?;
        let failed = failed(&path, "cannot write");
        let file = buffer.into_inner().map_err(|error| failed(error.into_error()))?;
        let synced = file.sync().and_then(|()| file.disk.sync_name(&path));
        synced
            .and_then(|()| fs::metadata(&path))
            .map_err(&failed)
            .map(|found| Some(WaitingRows { name, rows, bytes: found.len() }))
    }
}

fn unwritten(path: &Path, error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => failed(path, "cannot write")(error),
        other => Error::from(other).at(path.display().to_string()),
    }
}

fn unreadable(path: &Path, error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => failed(path, "cannot read")(error),
        other => Error::corrupt(path.display().to_string()).because(other),
    }
}
