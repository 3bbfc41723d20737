//! Checks and opens what a URI names for reading: a file or standard input.

use super::Uri;
use evt_core::error::{Error, Result};
use evt_run::input::bytes::{self, Bytes};
use evt_run::run::Run;
use evt_run::run::byte_stream::ByteStream;
use rustix::fs::{Access, access};
use std::path::Path;
use std::rc::Rc;

/// Maximum number of names in a directory that `is_lake` checks.
const ENTRIES: usize = 1000;

/// Checks that the file exists and is readable, so that a missing file ends the run at its start instead of hours
/// later. A followed file (`follow`) may be created later. Errors: exit status 74.
pub fn check(uri: &Uri, follow: bool) -> Result<()> {
    let Uri::File(path) = uri else { return Ok(()) };
    let looked_at = std::fs::metadata(path).and_then(|found| match found.is_dir() {
        true => Err(std::io::ErrorKind::IsADirectory.into()),
        false => Ok(access(&path.path, Access::READ_OK)?),
    });
    if is_lake(path) {
        return Err(Error::usage(format!("{uri}: a directory of Parquet files; use parquet:{uri}")));
    }
    match looked_at {
        Err(error) if follow && error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| Error::io(uri.to_string(), &error)),
    }
}

/// Whether a path is a directory with Parquet files, or with one directory for each day.
fn is_lake(path: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(path) else { return false };
    entries.take(ENTRIES).flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("date=") || name.ends_with(".parquet")
    })
}

/// Opens a path or standard input. `stops_at_signals`: a signal stops the reading. Errors: exit status 2 for any
/// other URI, 74 if the file cannot be opened.
pub fn open(uri: &Uri, run: Rc<Run>, stops_at_signals: bool) -> Result<Bytes> {
    let name = uri.to_string();
    let failed = |error: std::io::Error| Error::io(name.clone(), &error);
    let stream: Box<dyn ByteStream> = match uri {
        Uri::Standard => run.io.stdin()?,
        Uri::File(path) => Box::new(bytes::open(path).map_err(failed)?),
        Uri::Bucket(objects) => match &objects.found {
            Some(found) => Box::new(found.clone().stream()),
            None => return Err(Error::broken(format!("{name}: opened before it was found"))),
        },
        Uri::Http(_) => return Err(Error::usage(format!("{name}: a listener requires evt-ingest"))),
        _ => return Err(Error::usage(format!("{name}: this tool cannot read rows from here"))),
    };
    Bytes::of(name, stream, run, stops_at_signals)
}
