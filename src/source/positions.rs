//! The positions of files in a checkpoint: what each file was when it was read, and the last record that was taken from it.

use crate::error::{Error, Result};
use crate::ingest::Ingest;
use crate::input::content::{FileContent, IdentifiedFile, identify};
use crate::run::Run;
use crate::uri::Uri;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Files whose positions are kept. The oldest are forgotten first: one of them would be read again.
const FILES_MAX: usize = 100_000;

/// The positions of the files that a checkpoint has read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    files: Vec<FilePosition>,
}

/// How far a file is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FilePosition {
    /// The name under which it was read last.
    name: String,
    /// Its content when it was opened.
    content: FileContent,
    /// The offset of the last record that is in a complete batch.
    last: i64,
    /// The stream times of its partitions.
    partitions: Vec<PartitionTime>,
}

/// The stream time of a partition of a file (µs).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PartitionTime {
    /// Its origin; `None` if it is the origin of the file.
    origin: Option<String>,
    name: String,
    stream_time: i64,
}

/// The positions of a run, with the file that is being read.
pub struct FilePositions {
    positions: Positions,
    /// The file that is being read: its input, its origin, and its index in `positions`, if it has records or a former position.
    current: Option<CurrentFile>,
}

struct CurrentFile {
    input: u32,
    origin: String,
    position: FilePosition,
    /// The index of its former position.
    former: Option<usize>,
}

impl FilePositions {
    /// Continues at the positions in a part of a checkpoint; an empty part has none. Errors: exit status 65 if it is damaged.
    pub fn restore(part: &[u8]) -> Result<Self> {
        let positions = match part.is_empty() {
            true => Positions::default(),
            false => serde_json::from_slice(part).map_err(|error| Error::corrupt("positions").because(error))?,
        };
        Ok(Self { positions, current: None })
    }

    /// Compares a file with those that were read, before it is opened; sets up `ingest` to continue behind its position.
    ///
    /// Errors: exit status 65 if it is shorter than it was under the same name.
    pub fn begin(&mut self, uri: &Uri, input: u32, origin: &str, ingest: &mut Ingest, run: &Run) -> Result<()> {
        let Uri::File(path) = uri else { return Ok(()) };
        if !is_regular(path) {
            return Ok(());
        }
        let name = uri.to_string();
        let contents: Vec<FileContent> = self.positions.files.iter().map(|file| file.content.clone()).collect();
        let IdentifiedFile { content, known, longer } = identify(path, &contents, run.ratio_max)?;
        if let Some(longer) = longer.map(|at| &self.positions.files[at]).filter(|longer| longer.name == name) {
            let (expected, found) = (longer.content.length, content.length);
            return Err(Error::corrupt(format!(
                "{name}: expected at least {expected} bytes, which an earlier run has read, found {found}"
            )));
        }
        let mut position = FilePosition { name, content, last: i64::MIN, partitions: vec![] };
        if let Some(former) = known.map(|at| &self.positions.files[at]) {
            position.last = former.last;
            position.partitions = former.partitions.clone();
            ingest.read.skip_to(former.last);
            for PartitionTime { origin: own, name, stream_time } in &former.partitions {
                let partition = ingest.stamper.partition(own.as_deref().unwrap_or(origin), name);
                ingest.stamper.resume(partition, Some(*stream_time));
            }
            if former.name != position.name {
                run.console.say(format!("{}: continues {}, which has the same content", position.name, former.name));
            }
        }
        self.current = Some(CurrentFile { input, origin: origin.to_owned(), position, former: known });
        Ok(())
    }

    /// Ends the file that is being read, and keeps its position.
    pub fn end(&mut self, ingest: &mut Ingest) {
        self.note(ingest);
        self.current = None;
    }

    /// Keeps the position of the file that is being read. The stage has taken every record before it.
    fn note(&mut self, ingest: &mut Ingest) {
        let Some(current) = &mut self.current else { return };
        let Some(last) = ingest.read.complete() else { return };
        let times = ingest.stamper.stream_times(current.input).map(|(origin, name, stream_time)| PartitionTime {
            origin: Some(origin.to_owned()).filter(|own| *own != current.origin),
            name: name.to_owned(),
            stream_time,
        });
        current.position.partitions = times.collect();
        current.position.last = last;
        let files = &mut self.positions.files;
        match current.former {
            Some(at) => files[at] = current.position.clone(),
            None => {
                if files.len() >= FILES_MAX {
                    files.remove(0);
                }
                current.former = Some(files.len());
                files.push(current.position.clone());
            }
        }
    }

    /// Returns the part of a checkpoint.
    pub fn to_part(&mut self, ingest: &mut Ingest) -> Result<Vec<u8>> {
        self.note(ingest);
        serde_json::to_vec(&self.positions).map_err(|error| Error::broken(format!("positions: {error}")))
    }
}

fn is_regular(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file())
}
