//! The tables of a SQLite store, and their migrations.
//!
//! Instants are RFC 3339 UTC text with six digits, so that they sort and compare as text; ids are hyphenated text; booleans are
//! 0 or 1; dimensions, headers and names of metrics are JSON text; a payload is TEXT if it is UTF-8, else BLOB. `value` is
//! REAL, infinities included; SQLite turns a NaN into NULL, so a NaN is the text `NaN`.
//!
//! Rows of events, letters and late events are clustered by position (`WITHOUT ROWID`): a stream inserts at the end of each
//! partition, while an index by random id would touch the whole file. The id is part of the key, because standard input has the
//! same positions every day; so is the digest of a letter's payload (`payload_hash`, xxh3-64).

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::store::location::Location;
use crate::store::sqlite::file::SqliteFile;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

/// One migration per version: entry n leads from version n to n + 1. An entry is never changed once released.
const MIGRATIONS: &[&str] = &[
    r#"
CREATE TABLE aggregated_metrics (
    metric_id TEXT NOT NULL,
    metric_name TEXT NOT NULL,
    window_start TEXT NOT NULL,
    window_end TEXT NOT NULL,
    dimensions TEXT NOT NULL,
    value REAL,
    "rows" INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    pane INTEGER NOT NULL,
    run TEXT NOT NULL,
    PRIMARY KEY (metric_name, window_start, window_end, dimensions)
) WITHOUT ROWID;
CREATE TABLE raw_events (
    event_id TEXT NOT NULL,
    source TEXT NOT NULL,
    event_type TEXT NOT NULL,
    user_id TEXT,
    properties TEXT NOT NULL,
    client_timestamp TEXT,
    server_timestamp TEXT,
    ingested_at TEXT NOT NULL,
    event_time TEXT NOT NULL,
    origin TEXT NOT NULL,
    "partition" TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    stream_time TEXT NOT NULL,
    schema_id INTEGER,
    PRIMARY KEY (origin, "partition", "offset", event_id)
) WITHOUT ROWID;
CREATE TABLE dead_letters (
    original_payload NOT NULL,
    original_key,
    headers TEXT,
    arrived_at TEXT,
    error_type TEXT NOT NULL,
    error_message TEXT NOT NULL,
    stage TEXT NOT NULL,
    source_topic TEXT NOT NULL,
    "partition" TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    failed_at TEXT NOT NULL,
    producer_host TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    payload_hash INTEGER NOT NULL,
    PRIMARY KEY (stage, source_topic, "partition", "offset", payload_hash)
) WITHOUT ROWID;
CREATE TABLE late_events (
    event_id TEXT NOT NULL,
    source TEXT NOT NULL,
    event_type TEXT NOT NULL,
    user_id TEXT,
    properties TEXT NOT NULL,
    client_timestamp TEXT,
    server_timestamp TEXT,
    ingested_at TEXT NOT NULL,
    event_time TEXT NOT NULL,
    origin TEXT NOT NULL,
    "partition" TEXT NOT NULL,
    "offset" INTEGER NOT NULL,
    stream_time TEXT NOT NULL,
    schema_id INTEGER,
    late_for TEXT NOT NULL,
    lateness_ms INTEGER NOT NULL,
    partial INTEGER NOT NULL,
    PRIMARY KEY (origin, "partition", "offset", event_id, late_for)
) WITHOUT ROWID;
CREATE TABLE alerts (
    rule TEXT NOT NULL,
    state TEXT NOT NULL,
    value REAL,
    window_start TEXT NOT NULL,
    window_end TEXT NOT NULL,
    since TEXT NOT NULL,
    PRIMARY KEY (rule, window_start, window_end, state)
) WITHOUT ROWID;
CREATE TABLE pipeline_checkpoints (
    pipeline TEXT NOT NULL PRIMARY KEY,
    prepared_run INTEGER,
    prepared_epoch INTEGER,
    prepared_at TEXT,
    run INTEGER,
    epoch INTEGER,
    committed_at TEXT
) WITHOUT ROWID;
"#,
    "ALTER TABLE dead_letters ADD COLUMN original_length INTEGER;",
    r#"
CREATE TABLE corrections (
    id TEXT NOT NULL PRIMARY KEY,
    metrics TEXT NOT NULL,
    since TEXT,
    until TEXT,
    state TEXT NOT NULL,
    who TEXT NOT NULL,
    host TEXT NOT NULL,
    reason TEXT,
    spec TEXT NOT NULL,
    run TEXT NOT NULL,
    started_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    progress TEXT,
    inserted INTEGER NOT NULL DEFAULT 0,
    corrected INTEGER NOT NULL DEFAULT 0,
    retracted INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE corrected_cells (
    metric_name TEXT NOT NULL,
    window_start TEXT NOT NULL,
    window_end TEXT NOT NULL,
    dimensions TEXT NOT NULL,
    late_until TEXT NOT NULL,
    correction TEXT NOT NULL,
    PRIMARY KEY (metric_name, window_start, window_end, dimensions)
) WITHOUT ROWID;
CREATE TABLE late_positions (
    source TEXT NOT NULL PRIMARY KEY,
    "rows" INTEGER NOT NULL,
    last TEXT NOT NULL,
    updated_at TEXT NOT NULL
) WITHOUT ROWID;
"#,
    // NULL in older rows: the id is derived when they are read.
    "ALTER TABLE dead_letters ADD COLUMN letter_id TEXT;",
];

/// The first version with tables of corrections.
pub const WITH_CORRECTIONS: i64 = 3;

/// The present version, stored in `evt_schema`.
const VERSION: i64 = MIGRATIONS.len() as i64;

/// The tables that hold no rows of a kind.
const OTHERS: [&str; 4] = ["pipeline_checkpoints", "corrections", "corrected_cells", "late_positions"];

/// Opens or creates the file of a location for writing, with the present tables.
pub fn open(location: &Location) -> Result<(SqliteFile, Connection)> {
    let file = SqliteFile::try_new(location)?;
    let mut db = file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    // Retractions of this run are in a temporary table: they may be many, and end with the run.
    file.log_writes(&db).map_err(|e| file.failed("cannot open", &e))?;
    db.execute_batch(
        "PRAGMA synchronous = NORMAL;
             CREATE TEMP TABLE taken_back (metric_id TEXT NOT NULL PRIMARY KEY, revision INTEGER NOT NULL,
                 \"rows\" INTEGER NOT NULL) WITHOUT ROWID;",
    )
    .map_err(|e| file.failed("cannot open", &e))?;
    migrate(&mut db, &file)?;
    Ok((file, db))
}

/// Migrates the file to the present version, in one transaction. The version has its own table, because `user_version` belongs
/// to whichever program shares the file. Errors: exit status 78 if the file has a newer version.
fn migrate(db: &mut Connection, file: &SqliteFile) -> Result<()> {
    if check_version(db, file)? == Some(VERSION) {
        return Ok(());
    }
    let failed = |e: rusqlite::Error| file.failed("cannot create the tables", &e);
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    check_tables(&tx, file)?;
    let found = usize::try_from(check_version(&tx, file)?.unwrap_or(0)).unwrap_or(0);
    for step in MIGRATIONS.iter().skip(found) {
        tx.execute_batch(step).map_err(failed)?;
    }
    tx.execute_batch("CREATE TABLE IF NOT EXISTS evt_schema (version INTEGER NOT NULL); DELETE FROM evt_schema;")
        .map_err(failed)?;
    tx.execute("INSERT INTO evt_schema VALUES (?1)", [VERSION]).map_err(failed)?;
    tx.commit().map_err(failed)
}

/// Checks that no table of another program has the name of one of evt's. Errors: exit status 78.
pub fn check_tables(db: &Connection, file: &SqliteFile) -> Result<()> {
    let mut names: Vec<String> = Kind::ALL.iter().map(|kind| format!("'{}'", kind.table())).collect();
    names.extend(OTHERS.iter().map(|name| format!("'{name}'")));
    let names = names.join(", ");
    // In one statement, because another run may be creating the tables.
    let query = format!(
        "SELECT name FROM sqlite_schema WHERE name IN ({names})
         AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'evt_schema') ORDER BY name"
    );
    let found: Option<String> =
        db.query_row(&query, [], |row| row.get(0)).optional().map_err(|e| file.failed("cannot read", &e))?;
    match found {
        None => Ok(()),
        Some(name) => Err(Error::config(format!(
            "{file}: another program created the table {name}; use another file or rename the table"
        ))),
    }
}

/// Returns the version of the tables. Errors: exit status 78 if a newer evt made them.
pub fn check_version(db: &Connection, file: &SqliteFile) -> Result<Option<i64>> {
    match version(db, file)? {
        Some(newer) if !(0..=VERSION).contains(&newer) => Err(Error::config(format!(
            "{file}: created by a newer evt: expected tables of version {VERSION}, found {newer}"
        ))),
        found => Ok(found),
    }
}

/// Returns the version of the tables; `None` if there are none.
pub fn version(db: &Connection, file: &SqliteFile) -> Result<Option<i64>> {
    let failed = |e: rusqlite::Error| file.failed("cannot read", &e);
    let known = db
        .query_row("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'evt_schema'", [], |_| Ok(()))
        .optional()
        .map_err(failed)?;
    match known {
        None => Ok(None),
        Some(()) => db.query_row("SELECT version FROM evt_schema", [], |row| row.get(0)).optional().map_err(failed),
    }
}
