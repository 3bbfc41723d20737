//! The tables of a SQLite store, and their migrations.
//!
//! Instants are RFC 3339 UTC text with six digits, so that they sort and compare as text; ids are hyphenated text;
//! booleans are 0 or 1; dimensions, headers and names of metrics are JSON text; a payload is TEXT if it is UTF-8, else
//! BLOB. `value` is REAL, infinities included; SQLite turns a NaN into NULL, so a NaN is the text `NaN`.
//!
//! Rows of events, letters and late events are clustered by position (`WITHOUT ROWID`): a stream inserts at the end of
//! each partition, while an index by random id would touch the whole file. The id is part of the key, because standard
//! input has the same positions every day; so is the digest of a letter's payload (`payload_hash`, xxh3-64).

use crate::repeat::{CREATE_UNIQUE_EVENTS, UNIQUE_EVENTS, ids_not_unique};
use crate::sqlite::failure::Failure;
use crate::sqlite::file::SqliteFile;
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use evt_run::client::Location;
use evt_run::storage::disk::Disk;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

/// Selects the alerts of versions before [`WITH_ALERT_IDS`] from `$table` with the columns of today. These rows name
/// neither their alert nor their rule by an id, so both are numbered, as UUIDs of version 8; the nth firing and the nth
/// resolve with the same rule and `since` are one alert.
macro_rules! old_alerts {
    ($table:literal) => {
        concat!(
            r#"SELECT
    printf('00000000-0000-8000-8000-%012x', dense_rank() OVER (ORDER BY rule, since, n)) AS alert_id,
    printf('00000000-0000-8000-9000-%012x', dense_rank() OVER (ORDER BY rule)) AS rule_id,
    rule, '{}' AS dimensions, 'unknown' AS severity, state, 'condition' AS reason, value, NULL AS threshold,
    window_start, window_end, since, window_end AS at, '{}' AS labels, '' AS summary, 0 AS caught_up
FROM (SELECT *, row_number() OVER (PARTITION BY rule, since, state ORDER BY window_start, window_end) AS n FROM "#,
            $table,
            ")"
        )
    };
}

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
    concat!(
        r#"
ALTER TABLE alerts RENAME TO old_alerts;
CREATE TABLE alerts (
    alert_id TEXT NOT NULL,
    rule_id TEXT NOT NULL,
    rule TEXT NOT NULL,
    dimensions TEXT NOT NULL,
    severity TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    value REAL,
    threshold REAL,
    window_start TEXT NOT NULL,
    window_end TEXT NOT NULL,
    since TEXT NOT NULL,
    at TEXT NOT NULL,
    labels TEXT NOT NULL,
    summary TEXT NOT NULL,
    caught_up INTEGER NOT NULL,
    PRIMARY KEY (alert_id, state)
) WITHOUT ROWID;
CREATE INDEX alerts_at ON alerts (at);
INSERT INTO alerts "#,
        old_alerts!("old_alerts"),
        ";\nDROP TABLE old_alerts;"
    ),
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
    r#"
CREATE TABLE checkpoint_epochs (
    output TEXT NOT NULL PRIMARY KEY,
    run INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    committed_at TEXT
) WITHOUT ROWID;
INSERT INTO checkpoint_epochs SELECT pipeline, run, epoch, committed_at FROM pipeline_checkpoints WHERE run IS NOT NULL;
DROP TABLE pipeline_checkpoints;
CREATE TABLE pipeline_checkpoints (
    consumer_group TEXT NOT NULL,
    topic TEXT NOT NULL,
    "partition" INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    watermark TEXT,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (consumer_group, topic, "partition")
) WITHOUT ROWID;
"#,
    // NULL in older rows.
    "ALTER TABLE dead_letters ADD COLUMN metrics TEXT; ALTER TABLE dead_letters ADD COLUMN partial INTEGER;",
    r#"
CREATE TABLE metric_progress (
    pipeline TEXT NOT NULL,
    metric_name TEXT NOT NULL,
    size TEXT,
    slide TEXT,
    gap TEXT,
    lateness TEXT NOT NULL,
    out_of_orderness TEXT,
    watermark TEXT,
    complete_since TEXT,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (pipeline, metric_name)
) WITHOUT ROWID;
"#,
];

/// The first version in which alerts have an id.
const WITH_ALERT_IDS: i64 = 3;

/// Returns the SQL after FROM with which a reader selects rows of `kind`, in tables of `version`: a table, or a query
/// with the columns of today.
pub fn relation(kind: Kind, version: i64) -> &'static str {
    match kind {
        Kind::Alert if version < WITH_ALERT_IDS => concat!("(", old_alerts!("alerts"), ")"),
        kind => kind.table(),
    }
}

/// The present version, stored in `evt_schema`.
const VERSION: i64 = MIGRATIONS.len() as i64;

/// The tables that hold no rows of a kind.
const OTHERS: [&str; 6] = [
    "pipeline_checkpoints",
    "checkpoint_epochs",
    "corrections",
    "corrected_cells",
    "late_positions",
    "metric_progress",
];

/// Opens or creates the file of a location for writing, with the present tables.
pub fn open(location: &Location, disk: &Disk) -> Result<(SqliteFile, Connection)> {
    let file = SqliteFile::try_new(location)?;
    file.create(disk)?;
    let mut db = file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    // Retractions of this run are in a temporary table: they may be many, and end with the run. So are the ids of the
    // events that a transaction has inserted.
    let temporary = "PRAGMA synchronous = NORMAL;
         CREATE TEMP TABLE taken_back (metric_id TEXT NOT NULL PRIMARY KEY, revision INTEGER NOT NULL,
             \"rows\" INTEGER NOT NULL) WITHOUT ROWID;
         CREATE TEMP TABLE placed_events (event_id TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;";
    file.log_writes(&db).and_then(|()| db.execute_batch(temporary)).map_err(file.failed("cannot open"))?;
    if check_version(&db, &file)? != Some(VERSION) {
        migrate(&mut db, &file).map_err(file.failed("cannot create the tables"))?;
    }
    Ok((file, db))
}

/// Migrates the file to the present version, in one transaction. The version has its own table, because `user_version`
/// belongs to whichever program shares the file. Errors: exit status 78 if the file has a newer version.
fn migrate(db: &mut Connection, file: &SqliteFile) -> Result<(), Failure> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    check_tables(&tx, file)?;
    let found = usize::try_from(check_version(&tx, file)?.unwrap_or(0)).unwrap_or(0);
    for step in MIGRATIONS.iter().skip(found) {
        tx.execute_batch(step)?;
    }
    tx.execute_batch("CREATE TABLE IF NOT EXISTS evt_schema (version INTEGER NOT NULL); DELETE FROM evt_schema;")?;
    tx.execute("INSERT INTO evt_schema VALUES (?1)", [VERSION])?;
    Ok(tx.commit()?)
}

/// Makes the ids of stored events unique, unless they are. Errors: exit status 78 if one is stored twice.
pub fn make_events_unique(db: &mut Connection, file: &SqliteFile) -> Result<(), Failure> {
    // Without the lock, which another output may keep for a commit.
    if has_relation(db, UNIQUE_EVENTS)? {
        return Ok(());
    }
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if has_relation(&tx, UNIQUE_EVENTS)? {
        return Ok(());
    }
    let copies = "SELECT event_id FROM raw_events GROUP BY event_id HAVING count(*) > 1 LIMIT 1";
    let id: Option<String> = tx.query_row(copies, [], |row| row.get(0)).optional()?;
    if let Some(id) = id {
        return Err(ids_not_unique(file, &id).into());
    }
    tx.execute_batch(CREATE_UNIQUE_EVENTS)?;
    Ok(tx.commit()?)
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
        db.query_row(&query, [], |row| row.get(0)).optional().map_err(file.failed("cannot read"))?;
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
    let version = || match has_relation(db, "evt_schema")? {
        true => db.query_row("SELECT version FROM evt_schema", [], |row| row.get(0)).optional(),
        false => Ok(None),
    };
    version().map_err(file.failed("cannot read"))
}

/// Whether the file has a table or an index of this name.
pub fn has_relation(db: &Connection, name: &str) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'index') AND name = ?1")?.exists([name])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReadRequest;

    /// Makes the tables of an older version.
    fn old(version: usize) -> (tempfile::TempDir, SqliteFile, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old.db").display().to_string();
        let location = evt_run::client::Location { path, ..Default::default() };
        let file = SqliteFile::try_new(&location).unwrap();
        let db = Connection::open(file.path()).unwrap();
        for step in &MIGRATIONS[..version] {
            db.execute_batch(step).unwrap();
        }
        let table =
            format!("CREATE TABLE evt_schema (version INTEGER NOT NULL); INSERT INTO evt_schema VALUES ({version})");
        db.execute_batch(&table).unwrap();
        (dir, file, db)
    }

    fn rows(db: &Connection, sql: &str) -> Vec<String> {
        let mut statement = db.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn alerts_without_ids_keep_their_columns_and_are_read_before_the_migration_as_after_it() {
        let (_dir, file, mut db) = old(2);
        db.execute_batch(
            "INSERT INTO alerts VALUES
                ('r', 'firing', 0.5, '2024-01-15T10:00:00.000000Z', '2024-01-15T10:01:00.000000Z', '2024-01-15T10:01:00.000000Z'),
                ('r', 'resolved', NULL, '2024-01-15T10:05:00.000000Z', '2024-01-15T10:06:00.000000Z', '2024-01-15T10:01:00.000000Z'),
                ('r', 'firing', 'NaN', '2024-01-15T10:02:00.000000Z', '2024-01-15T10:03:00.000000Z', '2024-01-15T10:01:00.000000Z'),
                ('q', 'firing', 1, '2024-01-15T10:00:00.000000Z', '2024-01-15T10:01:00.000000Z', '2024-01-15T10:01:00.000000Z')",
        )
        .unwrap();
        let path = file.path().display().to_string();
        let location = evt_run::client::Location { path, scheme: "sqlite".to_owned(), ..Default::default() };
        let read = || {
            let read = crate::sqlite::STORE.reader.read;
            let batches: Vec<_> =
                read(&location, Kind::Alert, ReadRequest::default()).unwrap().map(Result::unwrap).collect();
            crate::sample::as_text(&batches)
        };
        let before = read();
        migrate(&mut db, &file).unwrap();
        assert_eq!(version(&db, &file).unwrap(), Some(VERSION));
        let keys = "SELECT substr(alert_id, -2) || ' ' || substr(rule_id, -2) || ' ' || rule || ' ' || state || ' ' ||
            coalesce(value, '-') || ' ' || substr(window_end, 12, 5) || ' ' || substr(at, 12, 5) FROM alerts ORDER BY 1";
        assert_eq!(
            rows(&db, keys),
            [
                "01 01 q firing 1.0 10:01 10:01",
                "02 02 r firing 0.5 10:01 10:01",
                "02 02 r resolved - 10:06 10:06",
                "03 02 r firing NaN 10:03 10:03",
            ]
        );
        assert_eq!(read(), before);
        assert_eq!(rows(&db, "SELECT name FROM sqlite_schema WHERE name LIKE 'old%'"), Vec::<String>::new());
    }

    #[test]
    fn epochs_of_older_versions_move_to_a_table_of_another_name() {
        let (_dir, file, mut db) = old(5);
        db.execute_batch(
            "INSERT INTO pipeline_checkpoints VALUES ('id/evt-window/to-0', NULL, NULL, NULL, 7, 3, 'now'),
                ('id/evt-window/late', 1, 2, 'then', NULL, NULL, NULL)",
        )
        .unwrap();
        migrate(&mut db, &file).unwrap();
        let epochs = "SELECT output || ' ' || run || ' ' || epoch || ' ' || committed_at FROM checkpoint_epochs";
        assert_eq!(rows(&db, epochs), ["id/evt-window/to-0 7 3 now"]);
        assert_eq!(rows(&db, "SELECT topic FROM pipeline_checkpoints"), Vec::<String>::new());
    }

    #[test]
    fn new_tables_and_migrated_ones_are_the_same() {
        let (_dir, file, mut db) = old(1);
        migrate(&mut db, &file).unwrap();
        let (_other, fresh, mut empty) = old(0);
        empty.execute_batch("DROP TABLE evt_schema").unwrap();
        migrate(&mut empty, &fresh).unwrap();
        let schema = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
        assert_eq!(rows(&db, schema), rows(&empty, schema));
    }
}
