//! The file of a SQLite store: its path, how it is opened and locked.

use crate::sqlite::failure::Failure;
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::time::{MILLISECOND, SECOND, format_duration, parse_duration};
use evt_run::client::Location;
use evt_run::storage::access;
use evt_run::storage::disk::{Disk, LOCK_WAIT};
use percent_encoding::{AsciiSet, utf8_percent_encode};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The scheme of its URIs.
pub const SCHEME: &str = "sqlite";
/// The options of its URIs.
pub const OPTIONS: [&str; 4] = ["table", "key", "visible", "wait"];

/// How long to wait for another writer without `?wait=`.
const WAIT: i64 = 10 * SECOND;
/// The characters that the path of a URI of SQLite does not have.
const ESCAPED: AsciiSet = AsciiSet::EMPTY.add(b'%').add(b'?').add(b'#');
/// Interval of retries where SQLite does not wait.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// A SQLite file, and how long to wait for its lock.
#[derive(Clone)]
pub struct SqliteFile {
    path: String,
    wait: i64,
}

impl SqliteFile {
    /// Returns its path as given.
    pub fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// Parses a location. Errors: exit status 2 for an unknown option.
    pub fn try_new(location: &Location) -> Result<Self> {
        location.check_options(SCHEME, &OPTIONS)?;
        if location.path.is_empty() {
            return Err(Error::usage("sqlite: expected sqlite:PATH, found no path"));
        }
        let wait = location.option("wait").map_or(Ok(WAIT), parse_duration)?;
        Ok(Self { path: location.path.clone(), wait })
    }

    /// Checks that the file, the write-ahead log and its index can be written; creates nothing. Errors: exit status 74
    /// if they cannot.
    pub fn check_room(&self) -> Result<()> {
        let room = access::check_file(self.path())
            .and_then(|()| access::check_existing_directory(access::parent(self.path())));
        room.map_err(|error| Error::io(format!("{self}: cannot open"), &error))
    }

    /// Opens the file for reading. Readers share the write-ahead log and its index with writers, and the last one to
    /// close the file removes both, if permitted. If this process must not write there and there is no log, the file is
    /// opened as immutable.
    pub fn connect_to_read(&self) -> Result<Connection> {
        let path = Path::new(&self.path);
        let log = format!("{}-wal", self.path);
        if !Path::new(&log).exists()
            && (access::check_file(path).is_err() || access::check_existing_directory(access::parent(path)).is_err())
        {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            let shown = self.shown();
            return self.open(format!("file:{}?immutable=1", utf8_percent_encode(&shown, &ESCAPED)), flags);
        }
        let db = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.execute_batch("PRAGMA query_only = ON").map_err(self.failed("cannot open"))?;
        Ok(db)
    }

    /// Creates the file if its disk is private and it is missing. SQLite gives the log and its index the mode of the
    /// file.
    pub fn create(&self, disk: &Disk) -> Result<()> {
        let created = disk.create_before_library(self.path());
        created.map_err(|error| Error::io(format!("{self}: cannot open"), &error))
    }

    /// Opens the file with `flags`.
    pub fn connect(&self, flags: OpenFlags) -> Result<Connection> {
        self.open(self.shown(), flags)
    }

    /// Returns the path in a form that SQLite does not take for `:memory:` or `file:…`.
    fn shown(&self) -> String {
        if self.path.starts_with('/') { self.path.clone() } else { format!("./{}", self.path) }
    }

    fn open(&self, path: String, flags: OpenFlags) -> Result<Connection> {
        let failed = self.failed("cannot open");
        let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(&failed)?;
        self.limit_wait(&db).map_err(&failed)?;
        Ok(db)
    }

    /// Sets how long the connection waits for the lock.
    fn limit_wait(&self, db: &Connection) -> rusqlite::Result<()> {
        db.busy_timeout(Duration::from_millis(u64::try_from(self.wait / MILLISECOND).unwrap_or(0)))
    }

    /// Begins the transaction of an epoch. Another stage of the pipe may need the lock for a commit of any size, so
    /// this waits for at least [`LOCK_WAIT`], whatever `?wait=` is.
    pub fn begin_epoch<'a>(&self, db: &'a mut Connection) -> Result<Transaction<'a>> {
        let least = i64::try_from(LOCK_WAIT.as_micros()).unwrap_or(i64::MAX);
        let patient = Self { wait: self.wait.max(least), path: self.path.clone() };
        let failed = patient.failed("cannot commit the epoch");
        patient.limit_wait(db).map_err(&failed)?;
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
        self.limit_wait(&tx).map_err(&failed)?;
        Ok(tx)
    }

    /// Returns the turn to write the file in this process, which all outputs of the file share.
    pub fn turn(&self) -> WriteTurn {
        static TURNS: Mutex<BTreeMap<PathBuf, WriteTurn>> = Mutex::new(BTreeMap::new());
        let path = self.path().canonicalize().unwrap_or_else(|_| self.path().to_owned());
        TURNS.lock().unwrap_or_else(PoisonError::into_inner).entry(path).or_default().clone()
    }

    /// Switches the file to WAL. If two runs switch at the same time SQLite fails one at once, whatever its busy
    /// timeout is: that one retries.
    pub fn log_writes(&self, db: &Connection) -> rusqlite::Result<()> {
        let start = Instant::now();
        loop {
            match db.execute_batch("PRAGMA journal_mode = WAL") {
                Err(error) if is_busy(&error) && start.elapsed().as_micros() < self.wait.unsigned_abs().into() => {
                    std::thread::sleep(ASK_AGAIN);
                }
                done => return done,
            }
        }
    }

    /// Makes the error that ends a run, as `what` fails: exit status 75 if another writer holds the lock, 65 if the
    /// file is no database, else 74.
    pub fn failed<E: Into<Failure>>(&self, what: &str) -> impl Fn(E) -> Error {
        move |failure| {
            let error = match failure.into() {
                Failure::Ours(error) => return error,
                Failure::Rejected(cause) => return Error::failed(format!("{self}: {what}")).because(cause),
                Failure::Sqlite(error) => error,
            };
            if is_busy(&error) {
                let waited = format_duration(self.wait);
                return Error::busy(format!(
                    "{self}: {what}: another run, or another output of this run, has held the lock for {waited} \
                     (?wait= sets the limit)"
                ));
            }
            let kind = match error.sqlite_error_code() {
                Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => ErrorKind::Corrupt,
                _ => ErrorKind::Io,
            };
            Error::new(kind, format!("{self}: {what}")).because(error)
        }
    }
}

/// The turn to write a file. Outputs of one process commit in threads of their own; without a turn the transaction of
/// one would end the others, which wait for the lock of the file only as long as `?wait=` says.
#[derive(Clone, Default)]
pub struct WriteTurn(Arc<Mutex<()>>);

impl WriteTurn {
    /// Waits until no other output of the process writes the file.
    pub fn take(&self) -> MutexGuard<'_, ()> {
        // What a thread that panicked had begun is rolled back.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

impl fmt::Display for SqliteFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite:{}", self.path)
    }
}
