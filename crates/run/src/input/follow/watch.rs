//! The thread that opens files as they take a followed name, even while the stage is busy for a long time.
//!
//! inotify reports changes in the directory of a name. The thread also checks every name each 100 ms, because a
//! symbolic link may point into another directory, and the directory may not exist yet.

use super::name::{Change, Directory, Name, Opened};
use crate::input::position::FileId;
use crate::storage::disk::found;
use evt_core::error::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Interval between two checks of a name, and of a file at its end.
pub const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A followed name, shared with the thread that watches it.
#[derive(Clone)]
pub struct Watch {
    names: Arc<Mutex<Vec<WatchedName>>>,
    /// The index of the name in `names`.
    number: usize,
}

/// The state of a followed name, which the thread updates.
pub struct WatchedName {
    /// The files of the name.
    pub name: Name<File>,
    /// The error of opening the file of the name; the reader takes and reports the error.
    pub refusal: Option<std::io::Error>,
    /// Its path.
    pub path: PathBuf,
    file_name: OsString,
    /// The inotify watch of its directory; `None` if there is none.
    watch: Option<i32>,
    /// Whether the last attempt to open the file failed.
    is_refused: bool,
    /// Whether the name is no longer watched.
    is_forgotten: bool,
}

impl WatchedName {
    fn new(path: &Path) -> Self {
        let file_name = path.file_name().unwrap_or_default().to_owned();
        Self {
            name: Name::default(),
            refusal: None,
            path: path.to_owned(),
            file_name,
            watch: None,
            is_refused: false,
            is_forgotten: false,
        }
    }

    /// Starts an inotify watch of the directory of the name, unless there is one; returns whether this call has started
    /// it.
    fn begin(&mut self, inotify: &OwnedFd) -> bool {
        if self.watch.is_some() || self.is_forgotten {
            return false;
        }
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let changes = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
        let flags = changes | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
        self.watch = inotify::add_watch(inotify, parent.unwrap_or(Path::new(".")), flags).ok();
        self.watch.is_some()
    }

    fn check(&mut self) {
        if self.is_forgotten {
            return;
        }
        let is_notified = self.watch.is_some();
        match self.name.check(&mut NamedPath(&self.path), is_notified) {
            Ok(()) => self.is_refused = false,
            Err(error) if !std::mem::replace(&mut self.is_refused, true) => self.refusal = Some(error),
            Err(_) => {}
        }
    }

    /// Applies one inotify event of the directory with this watch.
    fn note(&mut self, watch: i32, name: Option<&[u8]>, flags: ReadFlags) {
        if self.watch != Some(watch) {
            return;
        }
        if flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED) {
            self.watch = None;
        } else if flags.contains(ReadFlags::ISDIR) {
            // A directory that takes the name is not a file that could be lost.
        } else if name == Some(self.file_name.as_bytes()) {
            self.name.note(match flags {
                flags if flags.contains(ReadFlags::CREATE) => Change::Created,
                flags if flags.contains(ReadFlags::MOVED_TO) => Change::MovedIn,
                _ => Change::Left,
            });
        }
    }
}

/// A path as a [`Directory`] that holds its last component.
struct NamedPath<'a>(&'a Path);

impl Directory for NamedPath<'_> {
    type File = File;

    fn id(&mut self) -> std::io::Result<Option<FileId>> {
        found(std::fs::metadata(self.0)).map(|metadata| metadata.as_ref().map(FileId::of))
    }

    fn open(&mut self) -> std::io::Result<Option<Opened<File>>> {
        let Some(file) = found(crate::input::bytes::open(self.0))? else { return Ok(None) };
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        Ok(Some(Opened { id: FileId::of(&metadata), file }))
    }
}

impl Watch {
    /// Opens the files that have these names now, and starts the thread that watches the names. Returns one watch per
    /// path.
    pub fn start(paths: &[PathBuf]) -> Result<Vec<Self>> {
        let mut names: Vec<_> = paths.iter().map(|path| WatchedName::new(path)).collect();
        // Without inotify the names are only checked every 100 ms.
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        check_all(&mut names, inotify.as_ref());
        let names = Arc::new(Mutex::new(names));
        let watched = Arc::downgrade(&names);
        let thread = std::thread::Builder::new().name("follow".into());
        let started = thread.spawn(move || while wait_and_check(&watched, inotify.as_ref()) {});
        started.map_err(|error| Error::io("watching files", &error))?;
        Ok((0..paths.len()).map(|number| Self { names: names.clone(), number }).collect())
    }

    /// Calls `act` with the state of the name, under the lock.
    pub fn with<T>(&self, act: impl FnOnce(&mut WatchedName) -> T) -> T {
        act(&mut lock(&self.names)[self.number])
    }

    /// Returns the result of `of` for each other followed name.
    pub fn others<T>(&self, of: impl Fn(&WatchedName) -> T) -> Vec<T> {
        let others = lock(&self.names);
        others.iter().enumerate().filter(|(number, _)| *number != self.number).map(|(_, other)| of(other)).collect()
    }

    /// Stops watching the name. The input does not follow its file, because the file is a pipe or not text.
    pub fn end(&self) {
        self.with(|watched| {
            watched.is_forgotten = true;
            watched.name = Name::default();
        });
    }
}

fn lock(names: &Mutex<Vec<WatchedName>>) -> MutexGuard<'_, Vec<WatchedName>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a change, at most [`POLL_INTERVAL`], then checks every name; returns false once all readers are dropped.
fn wait_and_check(watched: &Weak<Mutex<Vec<WatchedName>>>, inotify: Option<&OwnedFd>) -> bool {
    let mut fds: Vec<_> = inotify.iter().map(|inotify| PollFd::new(*inotify, PollFlags::IN)).collect();
    // An error does not matter: if a signal interrupts the wait, the names are only checked earlier.
    let _ = poll(&mut fds, Timespec::try_from(POLL_INTERVAL).ok().as_ref());
    let Some(names) = watched.upgrade() else { return false };
    let mut names = lock(&names);
    if let Some(inotify) = inotify {
        note_changes(inotify, &mut names);
    }
    check_all(&mut names, inotify);
    true
}

/// Checks every name, and watches the directories that are not watched yet.
fn check_all(names: &mut [WatchedName], inotify: Option<&OwnedFd>) {
    names.iter_mut().for_each(WatchedName::check);
    let Some(inotify) = inotify else { return };
    // All names in one directory share its inotify watch, which reports changes of every name, so the watch begins
    // after all names were checked.
    let begun: Vec<bool> = names.iter_mut().map(|name| name.begin(inotify)).collect();
    // inotify does not report changes from before the watch was added.
    names.iter_mut().zip(begun).filter(|(_, has_begun)| *has_begun).for_each(|(name, _)| name.check());
}

/// Reads the pending inotify events and applies them to the names.
fn note_changes(inotify: &OwnedFd, names: &mut [WatchedName]) {
    let mut buffer = [MaybeUninit::uninit(); 8 << 10];
    let mut changes = inotify::Reader::new(inotify, &mut buffer);
    // The reader returns EAGAIN once all events have been read.
    while let Ok(change) = changes.next() {
        let name = change.file_name().map(std::ffi::CStr::to_bytes);
        names.iter_mut().for_each(|watched| watched.note(change.wd(), name, change.events()));
    }
}
