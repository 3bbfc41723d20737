//! The parts of an epoch: files with a checksum, and outboxes, which are parts that hold rows.

use super::log::EpochPart;
use crate::storage::disk::{self, DiskFile};
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use evt_core::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::PathBuf;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Part with the state of the operator.
pub(super) const STATE: &str = "state";
/// Part with the positions of the inputs.
pub(super) const POSITIONS: &str = "positions";

/// Writes a value, called `what`, as JSON.
pub fn to_json<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::broken(what).because(error))
}

/// Reads what [`to_json`] wrote; `name` is that of its part or note. Errors: exit status 65 if it is damaged.
pub fn of_json<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::corrupt(name).because(error))
}

/// Returns the name of a part of a stage.
pub fn part_name(stage: &str, name: &str) -> String {
    format!("{stage}.{name}")
}

/// The state, positions and files that a stage writes when it ends an epoch.
pub struct SealedParts<'a> {
    /// When it began to end the epoch (µs).
    pub began: i64,
    /// The settings that its state depends on, as text; empty if it has no state.
    pub spec: &'a str,
    /// The state of the operator; empty if it has none.
    pub state: &'a [u8],
    /// The watermark of the operator (µs); `None` without windows.
    pub watermark: Option<i64>,
    /// The positions of the inputs; empty if the stage is not the first one.
    pub positions: &'a [u8],
    /// The rows of its outputs and the files of its state.
    pub outboxes: Vec<EpochPart>,
}

impl SealedParts<'_> {
    /// Returns XXH3-128 of the spec, hexadecimal; `None` without state.
    pub fn fingerprint(&self) -> Option<String> {
        (!self.spec.is_empty()).then(|| format!("{:032x}", xxh3_128(self.spec.as_bytes())))
    }
}

/// A part that is being written.
pub struct PartWriter {
    file: DiskFile,
    path: PathBuf,
    name: String,
    digest: Xxh3,
    bytes: u64,
}

impl PartWriter {
    /// Begins the part `name` in the empty `file` at `path`.
    pub fn new(file: DiskFile, path: PathBuf, name: &str) -> Self {
        Self { file, path, name: name.to_owned(), digest: Xxh3::new(), bytes: 0 }
    }

    /// Makes the bytes durable on this machine.
    pub fn finish(self) -> Result<EpochPart> {
        self.file.sync().map_err(disk::failed(&self.path))?;
        Ok(EpochPart { name: self.name, bytes: self.bytes, checksum: format!("{:032x}", self.digest.digest128()) })
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Rows of one output in one epoch, as a stream of Arrow IPC.
pub struct OutboxWriter {
    path: PathBuf,
    stream: StreamWriter<BufWriter<PartWriter>>,
}

impl OutboxWriter {
    /// Begins an outbox of rows with the schema of `batch`, and writes them.
    pub fn begin(part: PartWriter, batch: &RecordBatch) -> Result<Self> {
        let path = part.path.clone();
        let stream = StreamWriter::try_new(BufWriter::new(part), batch.schema_ref());
        let stream = stream.map_err(|error| failed(&path.display().to_string(), error))?;
        let mut outbox = Self { path, stream };
        outbox.write(batch)?;
        Ok(outbox)
    }

    /// Writes rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.stream.write(batch).map_err(|error| failed(&self.path.display().to_string(), error))
    }

    /// Returns the bytes of the rows so far, without those in its buffer.
    pub fn bytes(&self) -> u64 {
        self.stream.get_ref().get_ref().bytes
    }

    /// Ends the outbox, durably.
    pub fn finish(mut self) -> Result<EpochPart> {
        let path = self.path.display().to_string();
        let ended = self.stream.finish().and_then(|()| self.stream.into_inner());
        let buffer = ended.map_err(|error| failed(&path, error))?;
        buffer.into_inner().map_err(|error| Error::io(path, error.error()))?.finish()
    }
}

/// Reads the rows of an outbox.
pub fn read_outbox(file: File, name: &str) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let stream = StreamReader::try_new(BufReader::new(file), None).map_err(|error| failed(name, error))?;
    let name = name.to_owned();
    Ok(stream.map(move |batch| batch.map_err(|error| failed(&name, error))))
}

fn failed(name: &str, error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => Error::io(name, &error),
        other => Error::from(other).at(name),
    }
}
