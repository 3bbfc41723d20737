//! Objects that are written from files: large ones in parts, so that a failure repeats one part, not gigabytes, and
//! memory has a few parts.

use super::client::{Bucket, block_on};
use crate::client::outage::RetryError;
use crate::storage::Objects;
use crate::storage::disk::failed;
use evt_core::error::{Error, Result};
use object_store::{ObjectStoreExt, PutMode, PutPayload};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Length of a part, unless there would be too many. A shorter object is written by one request.
const PART: u64 = 8 << 20;
/// Maximum number of parts of an object.
const PARTS_MAX: u64 = 10_000;
/// Uploads that are under way at once.
const THREADS: usize = 4;

/// An object to be written, and the file that has its bytes.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The key.
    pub key: String,
    /// The file.
    pub path: PathBuf,
}

/// A part of a file.
#[derive(Clone, Debug)]
struct FilePart {
    file: Arc<File>,
    /// The path of the file, for messages.
    path: PathBuf,
    /// Its first byte.
    start: u64,
    length: u64,
}

impl FilePart {
    /// Reads it. The error of the file is permanent.
    fn read(&self) -> Result<bytes::Bytes, RetryError> {
        let mut bytes = vec![0; usize::try_from(self.length).unwrap_or(usize::MAX)];
        let read = self.file.read_exact_at(&mut bytes, self.start);
        read.map_err(failed(&self.path))?;
        Ok(bytes.into())
    }
}

/// Returns the parts of a file.
fn cut(whole: &FilePart) -> Vec<FilePart> {
    let most = PART.max(whole.length.div_ceil(PARTS_MAX));
    let starts = (0..whole.length.div_ceil(most)).map(|number| number * most);
    let part = |start| FilePart { start, length: most.min(whole.length - start), ..whole.clone() };
    starts.map(part).collect()
}

/// Writes objects from files.
pub fn upload(bucket: &Bucket, uploads: &[Upload]) -> Result<()> {
    let mut small = vec![];
    for Upload { key, path } in uploads {
        let file = Arc::new(File::open(path).map_err(failed(path))?);
        let length = file.metadata().map_err(failed(path))?.len();
        let part = FilePart { file, path: path.clone(), start: 0, length };
        match length > PART {
            true => put_in_parts(bucket, key, &part)?,
            false => small.push((key, part)),
        }
    }
    bucket.each(&small, THREADS, |(key, part)| bucket.try_put(key, part.read()?, PutMode::Overwrite)).map(drop)
}

/// Writes one object from a file. Returns whether it was written: unless it `replaces`, not if there is one. Of large
/// objects no server makes that a condition, so another one may have been written meanwhile and is replaced.
pub fn upload_one(bucket: &Bucket, key: &str, path: &Path, replaces: bool) -> Result<bool> {
    let file = Arc::new(File::open(path).map_err(failed(path))?);
    let length = file.metadata().map_err(failed(path))?.len();
    let part = FilePart { file, path: path.to_owned(), start: 0, length };
    match (length > PART, replaces) {
        (false, false) => bucket.put_if_absent(key, &part.read().map_err(|fault| fault.into_error(key))?),
        (true, false) if bucket.head(key)?.is_some() => Ok(false),
        (true, _) => put_in_parts(bucket, key, &part).map(|()| true),
        (false, true) => bucket.put(key, &part.read().map_err(|fault| fault.into_error(key))?).map(|()| true),
    }
}

/// Writes an object in parts. The parts that a killed process uploaded remain until the bucket's rule removes
/// incomplete uploads.
fn put_in_parts(bucket: &Bucket, key: &str, whole: &FilePart) -> Result<()> {
    let (store, fault) = (&bucket.store, |error| bucket.failed(key, &error));
    let path = bucket.path(key).map_err(|fault| fault.into_error(key))?;
    let id = bucket.retries.run(|| block_on(store.create_multipart(&path)).map_err(fault))?;
    let numbered: Vec<(usize, FilePart)> = cut(whole).into_iter().enumerate().collect();
    let sent = bucket.each(&numbered, THREADS, |(at, part)| {
        block_on(store.put_part(&path, &id, *at, PutPayload::from(part.read()?))).map_err(fault)
    });
    let parts = sent.inspect_err(|_| {
        // The error of the upload is the one to be reported.
        _ = block_on(store.abort_multipart(&path, &id));
    })?;
    let mut is_repeated = false;
    bucket.retries.run(|| {
        // Its answer may be lost.
        let was_repeated = std::mem::replace(&mut is_repeated, true);
        match block_on(store.complete_multipart(&path, &id, parts.clone())).map_err(fault) {
            Ok(_) => Ok(()),
            // An earlier attempt, whose answer was lost, has ended the upload.
            Err(RetryError::Permanent(error)) if was_repeated => match block_on(store.head(&path)) {
                Ok(found) if found.size == whole.length => Ok(()),
                _ => Err(error.into()),
            },
            Err(RetryError::Permanent(error)) => Err(Error::config(bucket.name(key)).because(error).into()),
            Err(transient) => Err(transient),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_and_are_never_too_many() {
        let file = Arc::new(File::open("/dev/null").unwrap());
        for length in [PART + 1, 3 * PART, PART * PARTS_MAX, PART * PARTS_MAX + 5, 5 << 40] {
            let parts = cut(&FilePart { file: file.clone(), path: PathBuf::new(), start: 0, length });
            assert!(parts.len() as u64 <= PARTS_MAX && parts.len() > 1, "{length}: {}", parts.len());
            let mut next = 0;
            for part in &parts {
                assert!(part.start == next && part.length > 0);
                next += part.length;
            }
            assert_eq!(next, length);
        }
    }
}
