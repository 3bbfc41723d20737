//! The ledger of replays in a SQLite file: tables `replay_…`, which other tables may accompany.
//!
//! Every change is a transaction that is synced before it counts: a claim must be durable before its records are
//! written.

use crate::error::{Error, ErrorKind, Result};
use crate::replay::ledger::{self, BatchClaim, BatchOutcome, Id, Ledger, LetterState, ReplayEntry};
use crate::storage::disk::Disk;
use crate::store::Location;
use crate::store::sqlite::cell::write_id;
use crate::store::sqlite::file::SqliteFile;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

const TABLES: &str = r#"
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
"#;

/// The present version of the tables.
const VERSION: i64 = 1;

/// The current time as the tables store it.
const NOW: &str = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')";

/// The batch of letters that are marked without one.
const NO_BATCH: i64 = 0;

/// Opens a ledger, which is created if it is missing. Errors: exit status 78 if a newer evt made it.
pub fn open(location: &Location) -> Result<Box<dyn Ledger>> {
    let file = SqliteFile::try_new(location)?;
    file.create(&Disk::default().private())?;
    let mut db = file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let failed = |e: rusqlite::Error| file.failed("cannot open the ledger", &e);
    file.log_writes(&db).map_err(failed)?;
    db.execute_batch("PRAGMA synchronous = FULL").map_err(failed)?;
    let id = match read_id(&db, &file)? {
        Some(id) => id,
        None => {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
            tx.execute_batch(TABLES).map_err(failed)?;
            // Another run may have created it meanwhile.
            let new = "INSERT INTO replay_ledger SELECT lower(hex(randomblob(16))), ?1
                       WHERE NOT EXISTS (SELECT 1 FROM replay_ledger)";
            tx.execute(new, [VERSION]).map_err(failed)?;
            let id = tx.query_row("SELECT id FROM replay_ledger", [], |row| row.get(0)).map_err(failed)?;
            tx.commit().map_err(failed)?;
            id
        }
    };
    Ok(Box::new(SqliteLedger { file, db, id }))
}

/// Checks that the ledger can be read, or created if it is missing. Errors: exit status 74 if its file cannot be
/// written, 78 if a newer evt made it.
pub fn check(location: &Location) -> Result<()> {
    let file = SqliteFile::try_new(location)?;
    file.check_room()?;
    if file.path().exists() {
        read_id(&file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?, &file)?;
    }
    Ok(())
}

/// Opens a ledger to read it, for `--dry-run`; `None` if there is none.
pub fn open_to_read(location: &Location) -> Result<Option<Box<dyn Ledger>>> {
    let file = SqliteFile::try_new(location)?;
    if !file.path().exists() {
        return Ok(None);
    }
    let db = file.connect_to_read()?;
    Ok(read_id(&db, &file)?.map(|id| Box::new(SqliteLedger { file, db, id }) as Box<dyn Ledger>))
}

/// Returns the id of the ledger; `None` if the file has none.
fn read_id(db: &Connection, file: &SqliteFile) -> Result<Option<String>> {
    let failed = |e: rusqlite::Error| file.failed("cannot read the ledger", &e);
    let known = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'replay_ledger'";
    if db.query_row(known, [], |_| Ok(())).optional().map_err(failed)?.is_none() {
        return Ok(None);
    }
    let found: Option<(String, i64)> = db
        .query_row("SELECT id, version FROM replay_ledger", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(failed)?;
    match found {
        Some((_, newer)) if newer > VERSION => Err(Error::config(format!(
            "{file}: created by a newer evt: expected a ledger of version {VERSION}, found {newer}"
        ))),
        found => Ok(found.map(|(id, _)| id)),
    }
}

/// A ledger in a SQLite file.
struct SqliteLedger {
    file: SqliteFile,
    db: Connection,
    id: String,
}

impl SqliteLedger {
    /// Runs `work` in a transaction.
    fn transact<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        let Self { file, db, .. } = self;
        let done = db.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|tx| {
            let done = work(&tx)?;
            tx.commit()?;
            Ok(done)
        });
        done.map_err(|e| file.failed("the ledger cannot be written", &e))
    }

    fn failed(&self, error: &rusqlite::Error) -> Error {
        self.file.failed("the ledger cannot be read", error)
    }
}

/// Counts an attempt of an event.
fn count(tx: &Transaction<'_>, event_id: &str) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT INTO replay_attempts VALUES (?1, 1, {NOW})
         ON CONFLICT DO UPDATE SET attempts = attempts + 1, last_at = excluded.last_at"
    );
    tx.prepare_cached(&sql)?.execute([event_id]).map(|_| ())
}

/// Returns the state of a letter, and its batch.
fn state(db: &Connection, letter_id: &str) -> rusqlite::Result<Option<(LetterState, i64)>> {
    let sql = "SELECT done_at IS NOT NULL, batch FROM replay_letters WHERE letter_id = ?1";
    let read = |row: &rusqlite::Row<'_>| {
        Ok((if row.get(0)? { LetterState::Done } else { LetterState::Claimed }, row.get::<_, i64>(1)?))
    };
    db.prepare_cached(sql)?.query_row([letter_id], read).optional()
}

impl Ledger for SqliteLedger {
    fn id(&self) -> &str {
        &self.id
    }

    fn own(&mut self, writer: ledger::Writer<'_>) -> Result<()> {
        self.transact(|tx| {
            let sql = "INSERT INTO replay_targets VALUES (?1, ?2) ON CONFLICT DO UPDATE SET owner = excluded.owner
                       WHERE owner <> excluded.owner";
            tx.execute(sql, (writer.target, writer.run)).map(|_| ())
        })
    }

    fn open_batches(&mut self, target: Option<&str>) -> Result<Vec<i64>> {
        let found = || -> rusqlite::Result<Vec<i64>> {
            let sql = "SELECT batch FROM replay_batches WHERE state = 'open' AND target = coalesce(?1, target)
                       ORDER BY batch";
            self.db.prepare_cached(sql)?.query_map([target], |row| row.get(0))?.collect()
        };
        found().map_err(|e| self.failed(&e))
    }

    fn close(&mut self, batch: i64, outcome: BatchOutcome) -> Result<()> {
        self.transact(|tx| {
            let state = if outcome == BatchOutcome::Done { "done" } else { "void" };
            let close =
                format!("UPDATE replay_batches SET state = ?2, closed_at = {NOW} WHERE batch = ?1 AND state = 'open'");
            if tx.execute(&close, params![batch, state])? == 0 {
                return Ok(());
            }
            match outcome {
                BatchOutcome::Void => {
                    tx.execute("DELETE FROM replay_letters WHERE batch = ?1 AND done_at IS NULL", [batch])?;
                }
                BatchOutcome::Done => {
                    let sql = "SELECT event_id FROM replay_letters WHERE batch = ?1 AND done_at IS NULL";
                    let mut statement = tx.prepare(sql)?;
                    let events = statement.query_map([batch], |row| row.get(0))?;
                    let events = events.collect::<rusqlite::Result<Vec<String>>>()?;
                    let done = "UPDATE replay_letters SET done_at = {NOW} WHERE batch = ?1 AND done_at IS NULL";
                    tx.execute(&done.replace("{NOW}", NOW), [batch])?;
                    events.iter().try_for_each(|event| count(tx, event))?;
                }
            }
            Ok(())
        })
    }

    fn claim(&mut self, writer: ledger::Writer<'_>, entries: &[ReplayEntry]) -> Result<BatchClaim> {
        let claimed = self.transact(|tx| {
            let owner = "SELECT owner FROM replay_targets WHERE target = ?1";
            let owner: Option<String> = tx.query_row(owner, [writer.target], |row| row.get(0)).optional()?;
            if owner.as_deref() != Some(writer.run) {
                return Ok(None);
            }
            let claim = i64::try_from(writer.claim).unwrap_or(i64::MAX);
            let new = "INSERT INTO replay_batches (target, run, claim, state) VALUES (?1, ?2, ?3, 'open')";
            tx.execute(new, params![writer.target, writer.run, claim])?;
            let (batch, mut found, mut text) = (tx.last_insert_rowid(), vec![], String::new());
            for entry in entries {
                let letter_id = write_id(&entry.letter_id, &mut text).to_owned();
                found.push(match state(tx, &letter_id)? {
                    Some((state, _)) => state,
                    None => {
                        let event_id = write_id(&entry.event_id, &mut text);
                        let sql = "INSERT INTO replay_letters (letter_id, event_id, batch) VALUES (?1, ?2, ?3)";
                        tx.prepare_cached(sql)?.execute(params![letter_id, event_id, batch])?;
                        LetterState::Due
                    }
                });
            }
            if found.contains(&LetterState::Due) {
                return Ok(Some(BatchClaim { batch, found }));
            }
            tx.execute("DELETE FROM replay_batches WHERE batch = ?1", [batch])?;
            Ok(Some(BatchClaim { batch: NO_BATCH, found }))
        })?;
        claimed.ok_or_else(|| {
            let message = format!("{}: another replay with this ledger has taken over", self.file);
            Error::new(ErrorKind::Fenced, message)
        })
    }

    fn states(&mut self, letters: &[Id]) -> Result<Vec<LetterState>> {
        let mut text = String::new();
        let mut one = |id: &Id| {
            let state = state(&self.db, write_id(id, &mut text))?;
            Ok(state.map_or(LetterState::Due, |(state, _)| state))
        };
        letters.iter().map(&mut one).collect::<rusqlite::Result<_>>().map_err(|e| self.failed(&e))
    }

    fn mark(&mut self, entries: &[ReplayEntry]) -> Result<()> {
        self.transact(|tx| {
            let sql = format!("INSERT INTO replay_letters VALUES (?1, ?2, ?3, {NOW}) ON CONFLICT DO NOTHING");
            let (mut text, mut other) = (String::new(), String::new());
            for entry in entries {
                let event_id = write_id(&entry.event_id, &mut other);
                let letter_id = write_id(&entry.letter_id, &mut text);
                if tx.prepare_cached(&sql)?.execute(params![letter_id, event_id, NO_BATCH])? == 1 {
                    count(tx, event_id)?;
                }
            }
            Ok(())
        })
    }

    fn attempts(&mut self, events: &[Id]) -> Result<Vec<i64>> {
        let mut text = String::new();
        let mut one = |id: &Id| {
            let sql = "SELECT attempts FROM replay_attempts WHERE event_id = ?1";
            let found =
                self.db.prepare_cached(sql)?.query_row([write_id(id, &mut text)], |row| row.get(0)).optional()?;
            Ok(found.unwrap_or(0))
        };
        events.iter().map(&mut one).collect::<rusqlite::Result<_>>().map_err(|e| self.failed(&e))
    }

    fn count_failed(&mut self, events: &[Id]) -> Result<()> {
        self.transact(|tx| {
            let mut text = String::new();
            events.iter().try_for_each(|id| count(tx, write_id(id, &mut text)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ledger_conformance;

    #[test]
    fn the_ledger_does_what_a_naive_one_does() {
        for seed in 1..6 {
            let directory = tempfile::TempDir::new().unwrap();
            let path = directory.path().join("ledger.db").display().to_string();
            let location = Location { scheme: "sqlite".into(), path, ..Location::default() };
            assert!(open_to_read(&location).unwrap().is_none());
            ledger_conformance::check(&mut || open(&location).unwrap(), seed);
            assert!(open_to_read(&location).unwrap().is_some());
        }
    }
}
