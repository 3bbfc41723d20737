//! The disk of a run: every operation that changes files, and that makes them durable. A simulated disk fails at one of
//! them, and tells an observer what is durable.
//!
//! After a power failure a synced file is only found if the directory with its name was synced too.

use super::access;
use rustix::fs::{FlockOperation, flock, syncfs};
use rustix::io::Errno;
use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Error, ErrorKind, IoSlice, Result, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a run waits for a lock that others keep for one append or one commit. A process that is stopped, or hangs,
/// keeps it longer.
pub const LOCK_WAIT: Duration = Duration::from_secs(60);
/// Pauses between two attempts; each is twice the one before.
const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// The mode of a new file that only its owner may read. The umask of the process can only remove more.
pub const PRIVATE_FILE: u32 = 0o600;
/// The mode of a new directory that only its owner may enter.
pub const PRIVATE_DIRECTORY: u32 = 0o700;

/// The disk of a run. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    simulated: Option<Arc<Mutex<Simulated>>>,
    /// Whether new files and directories are for their owner only.
    is_private: bool,
}

/// A fault of a simulated disk.
#[derive(Clone, Copy, Debug)]
pub struct DiskFault {
    /// The number of operations before the one that fails.
    pub after: u64,
    /// How many bytes that operation writes before it fails, if it is a write.
    pub torn: usize,
    /// Its error. `NOSPC` is a full disk, where removals and truncations succeed.
    pub errno: Errno,
    /// Whether all later operations fail too.
    pub is_lasting: bool,
}

/// An observer of the syncs of a simulated disk.
pub trait SyncObserver: Debug + Send {
    /// A file, or the entries of a directory, are durable now.
    fn synced(&mut self, file: &File);

    /// Everything on the file system of this directory is durable now.
    fn synced_all(&mut self, directory: &File);
}

/// An observer, which several disks may share.
pub type SharedObserver = Arc<Mutex<dyn SyncObserver>>;

#[derive(Debug)]
struct Simulated {
    fault: Option<DiskFault>,
    has_failed: bool,
    /// The number of operations so far.
    operations: u64,
    observer: Option<SharedObserver>,
}

impl Disk {
    /// Makes a disk with this fault.
    pub fn failing(fault: DiskFault) -> Self {
        Self::simulated(Some(fault), None)
    }

    /// Makes a disk with or without a fault, whose syncs are observed.
    pub fn simulated(fault: Option<DiskFault>, observer: Option<SharedObserver>) -> Self {
        let simulated = Simulated { fault, has_failed: false, operations: 0, observer };
        Self { simulated: Some(Arc::new(Mutex::new(simulated))), is_private: false }
    }

    /// Returns the same disk for files that hold rows in transit or rejected records: new files and directories are for
    /// their owner only. Existing ones keep their mode.
    pub fn private(&self) -> Self {
        Self { is_private: true, ..self.clone() }
    }

    /// Whether an operation has failed.
    pub fn has_failed(&self) -> bool {
        self.simulated.as_ref().is_some_and(|disk| lock(disk).has_failed)
    }

    /// Returns the number of operations of a simulated disk.
    pub fn operations(&self) -> u64 {
        self.simulated.as_ref().map_or(0, |disk| lock(disk).operations)
    }

    /// Begins an operation. If it fails, returns how many bytes it writes before, and the error.
    fn begin(&self) -> Option<(usize, Error)> {
        let mut disk = lock(self.simulated.as_ref()?);
        disk.operations += 1;
        let DiskFault { after, torn, errno, is_lasting } = disk.fault?;
        if disk.operations <= after {
            return None;
        }
        match std::mem::replace(&mut disk.has_failed, true) {
            false => Some((torn, errno.into())),
            true => is_lasting.then(|| (0, errno.into())),
        }
    }

    /// Does an operation that makes something durable, and tells the observer of it.
    fn sync(
        &self,
        file: &File,
        operation: fn(&File) -> Result<()>,
        tell: fn(&mut dyn SyncObserver, &File),
    ) -> Result<()> {
        self.change(|| operation(file))?;
        let observer = self.simulated.as_ref().and_then(|disk| lock(disk).observer.clone());
        if let Some(observer) = observer {
            tell(&mut *observer.lock().unwrap_or_else(PoisonError::into_inner), file);
        }
        Ok(())
    }

    /// Does an operation that changes files.
    pub fn change<T>(&self, operation: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.begin() {
            Some((_, error)) => Err(error),
            None => operation(),
        }
    }

    /// Does an operation that frees space: a removal or a truncation.
    pub fn free<T>(&self, operation: impl FnOnce() -> Result<T>) -> Result<T> {
        let fault = self.simulated.as_ref().and_then(|disk| lock(disk).fault);
        let is_full = fault.is_some_and(|fault| fault.errno == Errno::NOSPC);
        if is_full { operation() } else { self.change(operation) }
    }

    /// Opens a file, which the options may create.
    pub fn open(&self, path: &Path, options: &OpenOptions) -> Result<DiskFile> {
        let opened = match self.is_private {
            true => self.change(|| options.clone().mode(PRIVATE_FILE).open(path)),
            false => self.change(|| options.open(path)),
        };
        opened.map(|file| self.file(file))
    }

    /// Writes a file whole or not at all, durably: to `part`, which is renamed.
    pub fn write_whole(&self, path: &Path, part: &Path, bytes: &[u8]) -> Result<()> {
        let mut file = self.open(part, OpenOptions::new().write(true).create(true).truncate(true))?;
        file.write_all(bytes)?;
        file.sync()?;
        self.change(|| fs::rename(part, path))?;
        self.sync_name(path)
    }

    /// Creates an empty file where a library would create one that others may read. An existing file is not opened:
    /// closing it would release the locks that SQLite holds on it in this process.
    pub fn create_before_library(&self, path: &Path) -> Result<()> {
        if !self.is_private {
            return Ok(());
        }
        match self.open(path, OpenOptions::new().write(true).create_new(true)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Creates a directory.
    pub fn create_directory(&self, path: &Path) -> Result<()> {
        match self.is_private {
            true => self.change(|| DirBuilder::new().mode(PRIVATE_DIRECTORY).create(path)),
            false => self.change(|| fs::create_dir(path)),
        }
    }

    /// Returns an open file as one of this disk.
    pub fn file(&self, file: File) -> DiskFile {
        DiskFile { file, disk: self.clone() }
    }

    /// Makes the entries of `directory` durable.
    pub fn sync_directory(&self, directory: &Path) -> Result<()> {
        match self.sync_path(directory) {
            // This file system cannot sync a directory.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }

    /// Makes a file, or the entries of a directory, durable.
    pub fn sync_path(&self, path: &Path) -> Result<()> {
        self.sync(&File::open(path)?, File::sync_all, |observer, file| observer.synced(file))
    }

    /// Makes everything on the file system of `path` durable.
    pub fn sync_file_system(&self, path: &Path) -> Result<()> {
        self.sync(&File::open(path)?, |file| Ok(syncfs(file)?), |observer, file| observer.synced_all(file))
    }

    /// Makes the name of the existing `path` durable.
    pub fn sync_name(&self, path: &Path) -> Result<()> {
        match self.sync_directory(access::parent(path)) {
            // A directory may be writable but not readable: sync its whole file system instead.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => self.sync_file_system(path),
            synced => synced,
        }
    }

    /// Creates the directory `path` and its missing parents, and makes their names durable: that of the deepest
    /// existing one too, because the process that has created it may have been killed before it synced the name.
    pub fn create_directories(&self, path: &Path) -> Result<()> {
        match self.create_directory(path) {
            Ok(()) => self.sync_name(access::parent(path)).and_then(|()| self.sync_name(path)),
            Err(error) if error.kind() == ErrorKind::NotFound && path != access::parent(path) => {
                self.create_directories(access::parent(path))?;
                // A removed working directory has no directories, although `.` exists.
                match self.create_directory(path) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => self.sync_name(path),
                    made => made.and_then(|()| self.sync_name(path)),
                }
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => self.sync_name(path),
            Err(error) => Err(error),
        }
    }
}

/// An open file on a disk.
#[derive(Debug)]
pub struct DiskFile {
    /// The file, to be read and locked.
    pub file: File,
    /// Its disk.
    pub disk: Disk,
}

impl DiskFile {
    /// Makes the bytes and the metadata durable.
    pub fn sync(&self) -> Result<()> {
        self.disk.sync(&self.file, File::sync_all, |observer, file| observer.synced(file))
    }

    /// Makes the bytes durable.
    pub fn sync_data(&self) -> Result<()> {
        self.disk.sync(&self.file, File::sync_data, |observer, file| observer.synced(file))
    }

    /// Truncates the file.
    pub fn truncate(&self, length: u64) -> Result<()> {
        self.disk.free(|| self.file.set_len(length))
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> Result<usize> {
        let Some((torn, error)) = self.disk.begin() else { return self.file.write_vectored(slices) };
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(torn).collect();
        self.file.write_all(&bytes)?;
        Err(error)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fn lock(disk: &Mutex<Simulated>) -> MutexGuard<'_, Simulated> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the error of an operation with a file.
pub fn failed(path: &Path) -> impl Fn(Error) -> evt_core::Error {
    |error| evt_core::Error::io(path.display().to_string(), &error)
}

/// Returns `None` if an operation has found no file.
pub fn found<T>(done: Result<T>) -> Result<Option<T>> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        done => done.map(Some),
    }
}

/// Waits for the lock of a file for at most `limit`. Returns whether it was obtained; closing the file releases it.
pub fn lock_within(file: &File, limit: Duration) -> std::result::Result<bool, Errno> {
    let start = Instant::now();
    let mut pause = SHORTEST_PAUSE;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if start.elapsed() < limit => {
                std::thread::sleep(pause);
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_level_is_made_and_one_that_is_there_stays() {
        let (root, disk) = (tempfile::tempdir().unwrap(), Disk::default());
        let deep = root.path().join("a/b/c");
        disk.create_directories(&deep).unwrap();
        disk.create_directories(&deep).unwrap();
        assert!(deep.is_dir());
        fs::write(root.path().join("file"), "").unwrap();
        assert!(disk.create_directories(&root.path().join("file")).is_err());
        assert!(disk.create_directories(&root.path().join("file/below")).is_err());
        disk.sync_name(&root.path().join("file")).unwrap();
        assert_eq!(disk.sync_directory(&root.path().join("none")).err().unwrap().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_simulated_fault_tears_one_write_and_a_full_disk_can_be_freed() {
        let root = tempfile::tempdir().unwrap();
        for (errno, is_lasting) in [(Errno::NOSPC, false), (Errno::NOSPC, true), (Errno::IO, false), (Errno::IO, true)]
        {
            let disk = Disk::failing(DiskFault { after: 2, torn: 3, errno, is_lasting });
            let path = root.path().join("file");
            let mut file = disk.open(&path, OpenOptions::new().create(true).append(true)).unwrap();
            file.write_all(b"whole ").unwrap();
            assert_eq!(file.write_all(b"torn").unwrap_err().raw_os_error(), Some(errno.raw_os_error()));
            assert!(disk.has_failed() && fs::read(&path).unwrap() == b"whole tor");
            assert_eq!(file.truncate(0).is_err(), is_lasting && errno == Errno::IO);
            assert_eq!(file.sync().is_err(), is_lasting);
            fs::remove_file(&path).unwrap();
        }
    }

    #[derive(Debug, Default)]
    struct Synced(Vec<std::path::PathBuf>);

    impl SyncObserver for Synced {
        fn synced(&mut self, file: &File) {
            let fd = std::os::fd::AsRawFd::as_raw_fd(file);
            self.0.push(fs::read_link(format!("/proc/self/fd/{fd}")).unwrap());
        }

        fn synced_all(&mut self, directory: &File) {
            self.synced(directory);
        }
    }

    #[test]
    fn the_name_of_a_directory_that_a_killed_process_has_made_is_synced() {
        let root = tempfile::tempdir().unwrap();
        let observer = Arc::new(Mutex::new(Synced::default()));
        let disk = Disk::simulated(None, Some(observer.clone()));
        for (existing, path) in [("a", "a"), ("b", "b/below")] {
            fs::create_dir(root.path().join(existing)).unwrap();
            disk.create_directories(&root.path().join(path)).unwrap();
        }
        let root = root.path().to_owned();
        assert_eq!(observer.lock().unwrap().0, [root.clone(), root.clone(), root.join("b")]);
    }

    #[test]
    fn a_lock_is_obtained_once_its_holder_has_gone_and_the_wait_for_it_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::options().create(true).append(true).open(dir.path().join("f")).unwrap();
        let (first, second) = (open(), open());
        assert_eq!(lock_within(&first, Duration::ZERO), Ok(true));
        assert_eq!(lock_within(&second, Duration::ZERO), Ok(false));
        assert_eq!(lock_within(&second, 3 * LONGEST_PAUSE), Ok(false));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| lock_within(&second, LOCK_WAIT));
            drop(first);
            assert_eq!(waits.join().unwrap(), Ok(true));
        });
    }
}
