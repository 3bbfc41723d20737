//! Writes a part behind the run: a task compresses and writes some bytes while the run encodes the next ones.
//!
//! One task has the file at a time, so the bytes keep their order. Nobody reads a part before its end.

use super::pack::Packer;
use super::pieces::{CALL_BYTES, write_all};
use arrow::buffer::Buffer;
use evt_core::error::Result;
use evt_run::storage::disk::{DiskFile, failed};
use evt_run::task_pool::{OrderedResults, TaskPool};
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes that one task writes, and those that wait while it does at most.
const TASK_BYTES: usize = 1 << 20;
const WAITING_BYTES: usize = 8 << 20;

/// Writes the bytes of a part.
pub struct PartWriter {
    file: DiskFile,
    /// Compresses them, if the name of the file says so.
    packer: Option<Box<Packer>>,
}

impl PartWriter {
    fn write(&mut self, pieces: &[&[u8]]) -> std::io::Result<()> {
        match &mut self.packer {
            None => write_all(&mut self.file, pieces, CALL_BYTES),
            Some(packer) => {
                let packed = packer.pack(pieces)?;
                write_all(&mut self.file, &[&packed], CALL_BYTES)
            }
        }
    }
}

/// A part that tasks write, if there are several threads.
pub struct WriteBehind {
    /// `None` while a task has it.
    writer: Option<PartWriter>,
    /// The path of the file, for messages.
    path: PathBuf,
    writing: OrderedResults<(PartWriter, std::io::Result<()>)>,
    /// Whether there are several threads.
    has_tasks: bool,
    /// The bytes of the next task.
    pieces: Vec<Buffer>,
    bytes: usize,
}

impl WriteBehind {
    /// Begins with an empty file; `path` is for messages.
    pub fn new(file: DiskFile, path: PathBuf, packer: Option<Packer>, pool: &Arc<TaskPool>) -> Self {
        let writer = Some(PartWriter { file, packer: packer.map(Box::new) });
        let (writing, has_tasks) = (OrderedResults::new(pool), pool.threads().count > 1);
        Self { writer, path, writing, has_tasks, pieces: vec![], bytes: 0 }
    }

    /// Writes some bytes. An error may be that of bytes before.
    pub fn write(&mut self, pieces: &[&[u8]]) -> Result<()> {
        if self.has_tasks {
            return self.write_buffers(vec![Buffer::from_vec(pieces.concat())]);
        }
        self.now(|writer| writer.write(pieces))
    }

    /// The same without a copy.
    pub fn write_buffers(&mut self, pieces: Vec<Buffer>) -> Result<()> {
        if !self.has_tasks {
            return self.now(|writer| writer.write(&slices(&pieces)));
        }
        self.bytes += pieces.iter().map(Buffer::len).sum::<usize>();
        self.pieces.extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
        if self.bytes < TASK_BYTES {
            return Ok(());
        }
        if let Some(written) = self.writing.take()? {
            self.take_back(written)?;
        }
        if self.writer.is_some() || self.bytes >= WAITING_BYTES { self.begin() } else { Ok(()) }
    }

    /// Lets a task write the bytes so far, because none come for now.
    pub fn flush(&mut self) -> Result<()> {
        if self.bytes > 0 { self.begin() } else { Ok(()) }
    }

    /// Waits until all bytes are written, and writes the last ones of a compressed file.
    pub fn finish(mut self) -> Result<()> {
        self.begin()?;
        self.now(|writer| match writer.packer.take() {
            None => Ok(()),
            Some(packer) => write_all(&mut writer.file, &[&packer.finish()?], CALL_BYTES),
        })
    }

    /// Lets a task write the bytes so far.
    fn begin(&mut self) -> Result<()> {
        let Some(mut writer) = self.take()? else { return Ok(()) };
        let pieces = std::mem::take(&mut self.pieces);
        self.bytes = 0;
        let write = move || {
            let written = writer.write(&slices(&pieces));
            (writer, written)
        };
        self.writing.begin(write)
    }

    /// Does something with the file now.
    fn now(&mut self, job: impl FnOnce(&mut PartWriter) -> std::io::Result<()>) -> Result<()> {
        let Some(mut writer) = self.take()? else { return Ok(()) };
        let done = job(&mut writer);
        self.writer = Some(writer);
        done.map_err(failed(&self.path))
    }

    /// Takes the file, for which it waits; `None` after an error, which the run has.
    fn take(&mut self) -> Result<Option<PartWriter>> {
        if let Some(written) = self.writing.wait()? {
            self.take_back(written)?;
        }
        Ok(self.writer.take())
    }

    /// Takes the file back from a task that has written.
    fn take_back(&mut self, (writer, written): (PartWriter, std::io::Result<()>)) -> Result<()> {
        self.writer = Some(writer);
        written.map_err(failed(&self.path))
    }
}

fn slices(pieces: &[Buffer]) -> Vec<&[u8]> {
    pieces.iter().map(Buffer::as_slice).collect()
}
