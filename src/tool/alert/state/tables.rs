//! The tables of a state, of this version and of older ones.

use rusqlite::Connection;

/// The tables. Instants are RFC 3339 text, for people; numbers that the engine reads back are integers.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS engine (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    snapshot BLOB NOT NULL,
    clock TEXT,
    saved_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT NOT NULL,
    \"partition\" TEXT NOT NULL,
    next_offset INTEGER NOT NULL,
    stream_time INTEGER,
    topic_id TEXT,
    PRIMARY KEY (topic, \"partition\")
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS topics (
    topic TEXT PRIMARY KEY,
    origin TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS frame_partitions (
    topic TEXT NOT NULL,
    origin TEXT NOT NULL,
    \"partition\" TEXT NOT NULL,
    stream_time INTEGER,
    PRIMARY KEY (topic, origin, \"partition\")
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inputs (
    name TEXT PRIMARY KEY,
    read_to INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS input_partitions (
    name TEXT NOT NULL, origin TEXT NOT NULL, \"partition\" TEXT NOT NULL, read_to INTEGER NOT NULL,
    PRIMARY KEY (name, origin, \"partition\")
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS first_rows (
    origin TEXT NOT NULL,
    \"partition\" TEXT NOT NULL,
    least INTEGER NOT NULL,
    cut INTEGER,
    PRIMARY KEY (origin, \"partition\")
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    content TEXT NOT NULL,
    last_offset INTEGER NOT NULL,
    last_row INTEGER NOT NULL,
    last_letter INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS file_partitions (
    file INTEGER NOT NULL,
    origin TEXT NOT NULL,
    \"partition\" TEXT NOT NULL,
    last_offset INTEGER NOT NULL,
    PRIMARY KEY (file, origin, \"partition\")
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unconfirmed (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    alert TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS rule_edits (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    effective_from TEXT,
    rule_id TEXT NOT NULL,
    rule TEXT NOT NULL,
    change TEXT NOT NULL,
    definition TEXT
);";

/// Makes the tables that a state lacks.
pub fn create(db: &Connection) -> rusqlite::Result<()> {
    set_older_files_aside(db)?;
    db.execute_batch(TABLES)?;
    db.execute_batch(super::letters::TABLE)?;
    // A state of an older version lacks the column.
    if db.prepare("SELECT topic_id FROM positions").is_err() {
        db.execute_batch("ALTER TABLE positions ADD COLUMN topic_id TEXT")?;
    }
    Ok(())
}

/// Gives the table of files of an older version another name, if the state has it.
fn set_older_files_aside(db: &Connection) -> rusqlite::Result<()> {
    if db.prepare("SELECT head FROM files").is_err() {
        return Ok(());
    }
    if db.prepare("SELECT last_letter FROM files").is_err() {
        db.execute_batch("ALTER TABLE files ADD COLUMN last_letter INTEGER NOT NULL DEFAULT -1")?;
    }
    db.execute_batch("ALTER TABLE files RENAME TO older_files")
}
