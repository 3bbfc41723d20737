//! A SQLite file as a database of [`crate::sql`], open for corrections of metrics or as a ledger of replays.

use crate::OpenOptions;
use crate::correct::Corrections;
use crate::serving::ServedMetrics;
use crate::sql::correct::SqlCorrections;
use crate::sql::ledger::SqlLedger;
use crate::sql::serving::SqlServing;
use crate::sql::{SqlConnection, SqlDatabase, SqlRow, SqlValue};
use crate::sqlite::failure::Failure;
use crate::sqlite::file::SqliteFile;
use crate::sqlite::schema;
use crate::sqlite::write::Metrics;
use crate::tally::Tally;
use arrow::array::RecordBatch;
use evt_core::error::{Error, Result};
use evt_core::replay::ledger::Ledger;
use evt_run::client::Location;
use evt_run::storage::disk::Disk;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OpenFlags, Row, TransactionBehavior, params_from_iter};

/// The tables of a ledger, and its id.
const LEDGER: &str = r#"
CREATE TABLE IF NOT EXISTS replay_ledger (id TEXT NOT NULL, version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS replay_targets (target TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replay_batches (
    batch INTEGER PRIMARY KEY AUTOINCREMENT,
    target TEXT NOT NULL,
    run TEXT NOT NULL,
    claim INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'done', 'void')),
    claimed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    closed_at TEXT,
    UNIQUE (run, claim)
);
CREATE INDEX IF NOT EXISTS replay_batches_open ON replay_batches (target) WHERE state = 'open';
CREATE TABLE IF NOT EXISTS replay_letters (
    letter_id TEXT NOT NULL PRIMARY KEY,
    event_id TEXT NOT NULL,
    batch INTEGER NOT NULL,
    done_at TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS replay_letters_batch ON replay_letters (batch) WHERE done_at IS NULL;
CREATE TABLE IF NOT EXISTS replay_attempts (
    event_id TEXT NOT NULL PRIMARY KEY,
    attempts INTEGER NOT NULL,
    last_at TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO replay_ledger SELECT lower(hex(randomblob(16))), 1 WHERE NOT EXISTS (SELECT 1 FROM replay_ledger);
"#;

/// A SQLite file and a connection to it.
pub struct SqliteDatabase {
    /// The file.
    pub file: SqliteFile,
    /// The connection.
    pub db: Connection,
    /// What fails if it cannot be read, for messages.
    reading: &'static str,
    /// What fails if it cannot be written, for messages.
    writing: &'static str,
}

impl SqliteDatabase {
    /// Takes a connection to a file. `reading` says what fails if it cannot be read.
    pub fn new(file: SqliteFile, db: Connection, reading: &'static str) -> Self {
        Self { file, db, reading, writing: "cannot write" }
    }

    fn of_ledger(file: SqliteFile, db: Connection) -> Self {
        Self { file, db, reading: "the ledger cannot be read", writing: "the ledger cannot be written" }
    }
}

/// Opens the metrics of a store for a correction.
pub fn corrections(location: &Location, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
    let (file, db) = schema::open(location, &options.disk)?;
    SqlCorrections::open(SqliteDatabase::new(file, db, "cannot read"), options)
}

/// Opens the metrics of a store for a comparison; nothing is created, and no table is migrated.
pub fn comparison(location: &Location, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
    let file = SqliteFile::try_new(location)?;
    let db = match file.path().exists() {
        true => file.connect_to_read()?,
        false => Connection::open_in_memory().map_err(file.failed("cannot open"))?,
    };
    SqlCorrections::open(SqliteDatabase::new(file, db, "cannot read"), options)
}

/// Opens the metrics of a store to answer with.
pub fn serving(location: &Location) -> Result<Box<dyn ServedMetrics>> {
    let file = SqliteFile::try_new(location)?;
    let db = file.connect_to_read()?;
    SqlServing::open(SqliteDatabase::new(file, db, "cannot read"))
}

/// Opens a ledger, which is created if it is missing. Every change is synced before it counts: a claim must be durable
/// before its records are written. Errors: exit status 78 if a newer evt made it.
pub fn ledger(location: &Location) -> Result<Box<dyn Ledger>> {
    let file = SqliteFile::try_new(location)?;
    file.create(&Disk::default().private())?;
    let mut db = file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    create_ledger(&file, &mut db).map_err(file.failed("cannot open the ledger"))?;
    let opened = SqlLedger::try_new(SqliteDatabase::of_ledger(file, db))?;
    opened.ok_or_else(|| Error::broken("a ledger without its row"))
}

/// Makes every change of a ledger durable at once, and creates its tables if they are missing.
fn create_ledger(file: &SqliteFile, db: &mut Connection) -> rusqlite::Result<()> {
    file.log_writes(db)?;
    db.execute_batch("PRAGMA synchronous = FULL")?;
    if !schema::has_relation(db, "replay_ledger")? {
        // Another run may create it meanwhile.
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(LEDGER)?;
        tx.commit()?;
    }
    Ok(())
}

/// Opens a ledger to read it, for `--dry-run`; `None` if there is none.
pub fn ledger_to_read(location: &Location) -> Result<Option<Box<dyn Ledger>>> {
    let file = SqliteFile::try_new(location)?;
    if !file.path().exists() {
        return Ok(None);
    }
    let db = file.connect_to_read()?;
    SqlLedger::try_new(SqliteDatabase::of_ledger(file, db))
}

/// Checks that the ledger can be read, or created if it is missing. Errors: exit status 74 if its file cannot be
/// written, 78 if a newer evt made it.
pub fn check_ledger(location: &Location) -> Result<()> {
    let file = SqliteFile::try_new(location)?;
    file.check_room()?;
    if file.path().exists() {
        let db = file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        SqlLedger::try_new(SqliteDatabase::of_ledger(file, db))?;
    }
    Ok(())
}

impl SqlDatabase for SqliteDatabase {
    type Connection = Connection;

    fn shown(&self) -> String {
        self.file.to_string()
    }

    fn read<T>(&mut self, work: impl Fn(&Connection) -> Result<T, Failure>) -> Result<T> {
        work(&self.db).map_err(self.file.failed(self.reading))
    }

    fn write<T>(&mut self, work: impl Fn(&Connection) -> Result<T, Failure>) -> Result<T> {
        let write = |db: &mut Connection| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&tx)?;
            tx.commit()?;
            Ok(done)
        };
        write(&mut self.db).map_err(self.file.failed::<Failure>(self.writing))
    }

    fn sync(&mut self) -> Result<()> {
        let synced = self.db.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()));
        synced.map_err(self.file.failed("cannot sync"))
    }
}

impl SqlConnection for Connection {
    type Failure = Failure;

    // A transaction locks the whole file.
    const LOCK_ROWS: &'static str = "";
    const NOW: &'static str = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";
    const ID: &'static str = "TEXT";
    const INSTANT: &'static str = "TEXT";
    const EACH: &'static str = "json_each";

    fn execute(&self, sql: &str, values: &[SqlValue]) -> Result<u64, Failure> {
        Ok(prepare(self, sql)?.execute(params_from_iter(values))? as u64)
    }

    fn query(&self, sql: &str, values: &[SqlValue]) -> Result<Vec<SqlRow>, Failure> {
        let mut statement = prepare(self, sql)?;
        let columns = statement.column_count();
        let row = |row: &Row<'_>| {
            let values = (0..columns).map(|column| Ok(value(row.get_ref(column)?)));
            Ok(SqlRow(values.collect::<rusqlite::Result<_>>()?))
        };
        Ok(statement.query_map(params_from_iter(values), row)?.collect::<rusqlite::Result<_>>()?)
    }

    fn has_table(&self, name: &str) -> Result<bool, Failure> {
        Ok(schema::has_relation(self, name)?)
    }

    fn write_metrics(&self, batch: &RecordBatch, options: &OpenOptions) -> Result<(), Failure> {
        let rejected = Metrics::new(self, options, &mut Tally::default())?.write(batch)?;
        rejected.into_iter().next().map_or(Ok(()), |one| Err(Failure::Rejected(one.fault.message)))
    }
}

/// Prepares a statement. SQLite numbers parameters as `?1`.
fn prepare<'a>(db: &'a Connection, sql: &str) -> rusqlite::Result<CachedStatement<'a>> {
    db.prepare_cached(&sql.replace('$', "?"))
}

/// Reads a value; a text that is not UTF-8 is none.
fn value(value: ValueRef<'_>) -> SqlValue {
    match value {
        ValueRef::Integer(number) => SqlValue::Long(number),
        ValueRef::Real(number) => SqlValue::Real(number),
        ValueRef::Text(text) => std::str::from_utf8(text).map_or(SqlValue::Null, SqlValue::from),
        ValueRef::Null | ValueRef::Blob(_) => SqlValue::Null,
    }
}

impl ToSql for SqlValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Long(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}
