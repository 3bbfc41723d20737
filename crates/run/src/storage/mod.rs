//! Where data is kept: objects by their keys, in a directory or a bucket, and the disk of a run.
//!
//! ```text
//! checkpoint ─► Objects ─┬─► DirectoryObjects ─► Disk    simulated: fails, loses what was not synced
//!                        └─► bucket::client::Bucket      tests: servers that fail, hang and lose answers
//! ```
//!
//! - `directory.rs`: objects that are the files of a directory. `conformance.rs` tests both implementations.
//! - `disk.rs`: changes and syncs files; also a simulated disk. `access.rs`: checks what can be written.

pub mod access;
#[cfg(test)]
mod conformance;
pub mod directory;
pub mod disk;

use evt_core::error::Result;
use std::fmt::Debug;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::ops::Range;
use std::path::Path;

/// Returns 16 random hexadecimal digits: a name that no other process gets, whatever its host.
pub fn token() -> String {
    format!("{:016x}", RandomState::new().hash_one(0))
}

/// Bytes of a range of a download.
const BLOCK: u64 = 8 << 20;

/// Objects: byte strings, each under a key, such as `log/1`. Several processes, on several machines, may use the same
/// objects.
///
/// - **Keys** have parts between slashes, as paths do. No part is empty or begins with a dot, and no key is the
///   beginning of another key up to a slash.
/// - **Atomicity.** A reader gets the whole bytes of one `put`. Nothing joins two operations.
/// - **Durability.** When a `put` or a [`put_if_absent`](Self::put_if_absent) has returned, the object survives the
///   end of the process and a power failure. An object that another process is writing may be visible before it is
///   durable. A `delete` need not be durable: after a power failure the object may be there again.
/// - **Faults.** An operation that fails may have changed something: an object is the old one, or the new one, or the
///   delete has removed some of the keys. Repeating the operation is right.
/// - **Consistency.** After an operation has returned, every process sees its effect in every later operation, lists
///   included.
/// - **Time.** A bucket retries transient faults; `?retry=` of its address bounds them, and a signal ends them. A
///   directory waits as long as its file system does.
/// - **Memory.** An operation has the bytes of its objects, or the keys of its list, in memory: large objects are read
///   in ranges ([`download`]), and a bucket writes them from files (`bucket::upload`).
///
/// Errors: exit status 74 for files; for servers 69 after the last attempt, 78 if they refuse a request. A missing
/// object is none.
pub trait Objects: Debug + Send + Sync {
    /// Returns the name of an object for messages.
    fn name(&self, key: &str) -> String;

    /// Returns an object; `None` if there is none.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.get_all(&[key.to_owned()])?.pop().flatten())
    }

    /// Returns several objects, in the order of their keys here. It may get them in any order.
    fn get_all(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>>;

    /// Returns the bytes of an object in a range; `None` if there is no object. Where the object ends, the bytes end:
    /// they are fewer if it ends in the range, and none if it ends before it.
    fn range(&self, key: &str, at: Range<u64>) -> Result<Option<Vec<u8>>>;

    /// Writes an object, or replaces one. In a directory, that of the object must exist.
    fn put(&self, key: &str, bytes: &[u8]) -> Result<()>;

    /// Writes an object unless there is one under its key. Returns whether this process has written the object; of
    /// several processes at most one has. If one is killed, or fails, the object is absent or whole.
    ///
    /// In a bucket the answer to a request may be lost, and the repeated request finds an object. So it is taken for
    /// that of this process if it has the same bytes, and the bytes must have a [`token`](Self::token) if another
    /// process might write the same ones.
    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<bool>;

    /// Returns a new random text by which a process recognizes its own bytes; `None` if
    /// [`put_if_absent`](Self::put_if_absent) needs none.
    fn token(&self) -> Option<String>;

    /// Returns the keys that begin with `start`, in the order of their bytes. Objects that are written or removed
    /// meanwhile may be in the list or not.
    fn list(&self, start: &str) -> Result<Vec<String>>;

    /// Returns one key that begins with `start`.
    fn any(&self, start: &str) -> Result<Option<String>> {
        Ok(self.list(start)?.into_iter().next())
    }

    /// Removes objects, in any order. A missing one is no fault.
    fn delete(&self, keys: &[String]) -> Result<()>;
}

/// Writes an object to the file `path`, range by range; returns false if there is no object, and then the file has no
/// meaning. If the object is replaced meanwhile, the file may have bytes of both. The file is not durable. Errors:
/// those of [`Objects`], and 74 for the file.
pub fn download(objects: &dyn Objects, key: &str, path: &Path) -> Result<bool> {
    let failed = disk::failed(path);
    let mut file = File::create(path).map_err(&failed)?;
    let mut length = 0;
    while let Some(bytes) = objects.range(key, length..length + BLOCK)? {
        file.write_all(&bytes).map_err(&failed)?;
        length += bytes.len() as u64;
        if (bytes.len() as u64) < BLOCK {
            return Ok(true);
        }
    }
    Ok(false)
}
