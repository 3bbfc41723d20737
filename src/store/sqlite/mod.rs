//! `sqlite:PATH`: one file, one table per kind, rows visible as they come.
//!
//! Every row is guarded by its key, so a replay converges and nothing has to wait for an epoch: each call of
//! [`Sink::write`] is one transaction, and an epoch only records itself in `pipeline_checkpoints`. Rows of events,
//! letters, late events and alerts are inserted once and never overwritten (a letter only by one of more `attempts`);
//! other content under the key of an event is a conflict ([`super::repeat`]). Metrics follow [`super::guard`].
//!
//! WAL with `synchronous=NORMAL`: a crash of the process loses nothing, a loss of power may lose the last transactions
//! but never tears the file, and what was lost is sent again, because the source goes on from the last epoch. That one
//! is written with `synchronous=FULL`: its sync makes every transaction before it durable too.

mod cell;
mod read;
mod repeat;
mod schema;
mod write;

use crate::counts::SinkCounts;
use crate::error::{Error, ErrorKind, Result};
use crate::kind::Kind;
use crate::store::guard::Overlap;
use crate::store::repeat::Conflicts;
use crate::store::sqlite::read as sqlite_read;
use crate::store::sqlite::schema as sqlite_schema;
use crate::store::sqlite::write::{Metrics, insert_once};
use crate::store::{Epoch, Location, OpenOptions, Outcome, Refused, Sink, Store, room, rows};
use crate::time::{MILLISECOND, SECOND, format_duration, format_instant, parse_duration};
use arrow::array::RecordBatch;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// The row of [`super::ALL`].
pub static STORE: Store = Store {
    scheme: "sqlite",
    also: &[],
    about: "sqlite:PATH: tables in one file, rows visible at once, guarded by their keys",
    acknowledges: true,
    replaces: |_| false,
    options: &["table", "wait"],
    kinds: &Kind::ALL,
    check: |location| Place::try_new(location)?.check().map(|()| None),
    open: |location, options| Ok(Box::new(Sqlite::open(location, options)?)),
    tables: sqlite_read::tables,
    read: sqlite_read::read,
};

/// How long to wait for another writer, unless `?wait=` says otherwise.
const WAIT: i64 = 10 * SECOND;
/// How soon to ask again where SQLite does not wait by itself.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// A SQLite file and how long to wait for it.
#[derive(Clone)]
pub struct Place {
    path: String,
    wait: i64,
}

impl Place {
    /// What a URI says; exit 2 for an option that does not exist.
    pub fn try_new(location: &Location) -> Result<Self> {
        location.check_options(STORE.scheme, STORE.options)?;
        if location.path.is_empty() {
            return Err(Error::usage("sqlite: says no file: sqlite:PATH"));
        }
        let wait = location.options.get("wait").map_or(Ok(WAIT), |wait| parse_duration(wait))?;
        Ok(Self { path: location.path.clone(), wait })
    }

    /// Opens the file to read it. Readers share a log and its index with writers, and whoever leaves last removes both if
    /// it may write; where it may not, and nobody writes, there is nothing to share.
    pub fn connect_to_read(&self) -> Result<Connection> {
        let path = Path::new(&self.path);
        let log = format!("{}-wal", self.path);
        if !Path::new(&log).exists()
            && (room::for_file(path).is_err() || room::in_directory(room::parent(path)).is_err())
        {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            let path = self.shown().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
            return self.open(format!("file:{path}?immutable=1"), flags);
        }
        let db = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.execute_batch("PRAGMA query_only = ON").map_err(|e| self.failed("cannot open", &e))?;
        Ok(db)
    }

    /// Opens the file with `flags`.
    pub fn connect(&self, flags: OpenFlags) -> Result<Connection> {
        self.open(self.shown(), flags)
    }

    /// The path in a form that SQLite takes for one, unlike `:memory:` and `file:…`.
    fn shown(&self) -> String {
        if self.path.starts_with('/') { self.path.clone() } else { format!("./{}", self.path) }
    }

    fn open(&self, path: String, flags: OpenFlags) -> Result<Connection> {
        let failed = |e: rusqlite::Error| self.failed("cannot open", &e);
        let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
        let wait = u64::try_from(self.wait / MILLISECOND).unwrap_or(0);
        db.busy_timeout(Duration::from_millis(wait)).map_err(failed)?;
        Ok(db)
    }

    /// Has the file keep a log of writes. Of two that begin one at the same time SQLite refuses one at once, however long it
    /// shall wait for locks: that one asks again.
    fn log_writes(&self, db: &Connection) -> rusqlite::Result<()> {
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

    /// Looks whether rows could be written: a database of evt's, of another program's or none yet.
    fn check(&self) -> Result<()> {
        let path = Path::new(&self.path);
        let failed = |error: std::io::Error| Error::io(format!("{self}: cannot open"), &error);
        room::for_file(path).map_err(failed)?;
        // The log and its index stand beside it.
        room::in_directory(room::parent(path)).map_err(failed)?;
        match path.exists() {
            true => {
                let db = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
                sqlite_schema::check_tables(&db, self)?;
                sqlite_schema::check_version(&db, self).map(|_| ())
            }
            false => Ok(()),
        }
    }

    /// The error that ends a run: exit 75 where another run holds the lock, 65 where the file is no database, else 74.
    pub fn failed(&self, what: &str, error: &rusqlite::Error) -> Error {
        if is_busy(error) {
            let waited = format_duration(self.wait);
            let message = format!("{self}: {what}: another run has held the lock for {waited} (?wait= waits longer)");
            return Error::new(ErrorKind::Fenced, message);
        }
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => ErrorKind::Corrupt,
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("{self}: {what}")).because(error)
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite:{}", self.path)
    }
}

struct Sqlite {
    place: Place,
    db: Connection,
    options: OpenOptions,
    counts: SinkCounts,
    overlap: Overlap,
    conflicts: Conflicts,
    /// Whether this run has seen a retraction; without one, no row asks for it.
    retracts: bool,
}

impl Sqlite {
    fn open(location: &Location, options: &OpenOptions) -> Result<Self> {
        let place = Place::try_new(location)?;
        let mut db = place.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        // Retractions of this run live in a temporary table: they may be many, and end with the run.
        place.log_writes(&db).map_err(|e| place.failed("cannot open", &e))?;
        db.execute_batch(
            "PRAGMA synchronous = NORMAL;
             CREATE TEMP TABLE taken_back (metric_id TEXT NOT NULL PRIMARY KEY, revision INTEGER NOT NULL,
                 \"rows\" INTEGER NOT NULL) WITHOUT ROWID;",
        )
        .map_err(|e| place.failed("cannot open", &e))?;
        sqlite_schema::migrate(&mut db, &place)?;
        Ok(Self {
            place,
            db,
            options: options.clone(),
            counts: SinkCounts::default(),
            overlap: Overlap::default(),
            conflicts: Conflicts::default(),
            retracts: false,
        })
    }

    /// Runs `statement` with the pipeline, the epoch's run and number, and the time, as a transaction that is synced.
    fn record(&mut self, statement: &str, epoch: Epoch) -> Result<()> {
        let failed = |e: rusqlite::Error| self.place.failed("cannot record the epoch", &e);
        let now = format_instant((self.options.clock)());
        let (run, number) = (signed(epoch.run)?, signed(epoch.number)?);
        self.db.execute_batch("PRAGMA synchronous = FULL").map_err(failed)?;
        self.db.execute(statement, (&self.options.pipeline, run, number, now)).map_err(failed)?;
        self.db.execute_batch("PRAGMA synchronous = NORMAL").map_err(failed)
    }
}

impl Sink for Sqlite {
    fn write(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Refused>> {
        let (fit, refused) = rows::split_unfit(kind, rows::align(kind, batch)?)?;
        let Self { place, db, options, counts, overlap, conflicts, retracts } = self;
        let failed = |e: rusqlite::Error| place.failed("cannot write", &e);
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let mut sum = *counts;
        if kind == Kind::Metric {
            Metrics::new(&tx, &options.run, overlap, retracts).and_then(|mut metrics| metrics.write(&fit, &mut sum))
        } else {
            insert_once(&tx, kind, &fit, &mut sum, conflicts)
        }
        .map_err(|e| e.into_error(place))?;
        tx.commit().map_err(failed)?;
        sum.taken += refused.len() as u64;
        sum.dead += refused.len() as u64;
        *counts = sum;
        Ok(refused)
    }

    /// Every batch is a transaction; what the log of writes holds is moved and synced here.
    fn settle(&mut self) -> Result<()> {
        let failed = |e: rusqlite::Error| self.place.failed("cannot sync", &e);
        self.db.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(())).map_err(failed)
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<()> {
        self.record(
            "INSERT INTO pipeline_checkpoints (pipeline, prepared_run, prepared_epoch, prepared_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET prepared_run = excluded.prepared_run, prepared_epoch = excluded.prepared_epoch,
                 prepared_at = excluded.prepared_at",
            epoch,
        )
    }

    fn commit(&mut self, epoch: Epoch) -> Result<()> {
        if let Some(newer) = self.committed()?.filter(|done| done.run > epoch.run) {
            let message = format!("{}: run {} has been replaced by run {}", self.place, epoch.run, newer.run);
            return Err(Error::new(ErrorKind::Fenced, message));
        }
        self.record(
            "INSERT INTO pipeline_checkpoints (pipeline, run, epoch, committed_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET run = excluded.run, epoch = excluded.epoch, committed_at = excluded.committed_at
             WHERE run IS NULL OR (run, epoch) < (excluded.run, excluded.epoch)",
            epoch,
        )
    }

    fn committed(&mut self) -> Result<Option<Epoch>> {
        let found = self
            .db
            .query_row(
                "SELECT run, epoch FROM pipeline_checkpoints WHERE pipeline = ?1 AND run IS NOT NULL",
                [&self.options.pipeline],
                |row| Ok(Epoch { run: row.get(0)?, number: row.get(1)? }),
            )
            .optional();
        found.map_err(|e| self.place.failed("cannot read the epoch", &e))
    }

    fn counts(&self) -> SinkCounts {
        self.counts
    }

    fn finish(self: Box<Self>) -> Result<Outcome> {
        // Folds the log into the file as far as readers let it; whatever stays in the log is synced there.
        self.db
            .execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_checkpoint(PASSIVE)")
            .map_err(|e| self.place.failed("cannot sync", &e))?;
        match File::open(format!("{}-wal", self.place.path)).and_then(|log| log.sync_all()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format!("{}: cannot sync", self.place), &error));
            }
            _ => {}
        }
        let notices = self.overlap.notices().into_iter().chain(self.conflicts.notice()).collect();
        Ok(Outcome { counts: self.counts, notices, ..Outcome::default() })
    }
}

fn signed(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| Error::broken(format!("epoch number {number}")))
}

#[cfg(test)]
mod tests;
