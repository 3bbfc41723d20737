//! The ledger of replays in a database: tables `replay_…`, which other tables may accompany.
//!
//! Each request may be repeated, because its answer may be lost: a claim has a number in its run, and a batch is closed
//! once. Only an attempt that failed may be counted twice.

use super::{SqlConnection, SqlDatabase, SqlResult, SqlValue, list};
use evt_core::error::{Error, Result};
use evt_core::replay::ledger::{self, BatchClaim, BatchOutcome, Id, Ledger, LetterState, ReplayEntry};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// The present version of the tables.
const VERSION: i64 = 1;

/// The batch of letters that are marked without one.
const NO_BATCH: i64 = 0;

/// A ledger in a database.
pub struct SqlLedger<D> {
    database: D,
    id: String,
}

impl<D: SqlDatabase + 'static> SqlLedger<D> {
    /// Takes the ledger of a database; `None` if it has none. Errors: exit status 78 if a newer evt made it.
    pub fn try_new(mut database: D) -> Result<Option<Box<dyn Ledger>>> {
        let found = database.read(|connection| match connection.has_table("replay_ledger")? {
            true => connection.query("SELECT id, version FROM replay_ledger", &[]),
            false => Ok(vec![]),
        })?;
        let Some(row) = found.first() else { return Ok(None) };
        match row.long(1).unwrap_or_default() {
            newer if newer > VERSION => Err(Error::config(format!(
                "{}: created by a newer evt: expected a ledger of version {VERSION}, found {newer}",
                database.shown()
            ))),
            _ => Ok(Some(Box::new(Self { database, id: row.text(0).unwrap_or_default().to_owned() }))),
        }
    }
}

/// Returns ids, each as a row of one column.
fn rows(ids: &[Id]) -> SqlValue {
    list(&Vec::from_iter(ids.iter().map(|id| [text(id)])))
}

/// Returns letters and their events as rows of two columns.
fn pairs(entries: &[ReplayEntry]) -> SqlValue {
    list(&Vec::from_iter(entries.iter().map(|entry| [text(&entry.letter_id), text(&entry.event_id)])))
}

fn text(id: &Id) -> String {
    Uuid::from_bytes(*id).hyphenated().to_string()
}

/// Counts an attempt of each event; the ids are the rows of a list, or of a result.
fn count<C: SqlConnection>(tx: &C, events: SqlValue) -> Result<(), C::Failure> {
    let (id, each, now) = (C::ID, C::EACH, C::NOW);
    // In the order of ids, so that two runs that count the same events do not wait for each other.
    let sql = format!(
        "INSERT INTO replay_attempts (event_id, attempts, last_at)
         SELECT CAST(value ->> 0 AS {id}), count(*), {now} FROM {each}($1) GROUP BY 1 ORDER BY 1
         ON CONFLICT (event_id) DO UPDATE
         SET attempts = replay_attempts.attempts + excluded.attempts, last_at = excluded.last_at"
    );
    tx.execute(&sql, &[events]).map(drop)
}

/// Counts an attempt of each event that a statement returns.
fn count_returned<C: SqlConnection>(tx: &C, sql: &str, values: &[SqlValue]) -> Result<(), C::Failure> {
    let returned = tx.query(sql, values)?;
    count(tx, list(&Vec::from_iter(returned.iter().map(|row| [row.text(0)]))))
}

/// Returns the states of letters, each with its batch; letters that are due are missing.
fn states<C: SqlConnection>(connection: &C, letters: &[Id]) -> Result<HashMap<String, (LetterState, i64)>, C::Failure> {
    let sql = format!(
        "SELECT letter_id, done_at IS NOT NULL, batch FROM replay_letters
         WHERE letter_id IN (SELECT CAST(value ->> 0 AS {}) FROM {}($1))",
        C::ID,
        C::EACH
    );
    let mut found = HashMap::new();
    for row in connection.query(&sql, &[rows(letters)])? {
        let state = if row.long(1) == Some(1) { LetterState::Done } else { LetterState::Claimed };
        found.insert(row.text(0).unwrap_or_default().to_owned(), (state, row.long(2).unwrap_or_default()));
    }
    Ok(found)
}

/// Inserts letters that are not in the table yet, in the order of their ids, so that two runs with the same letters do
/// not wait for each other. `done_at` is an expression, and `$2` the batch.
fn insert_letters<C: SqlConnection>(done_at: &str) -> String {
    let (id, each) = (C::ID, C::EACH);
    format!(
        "INSERT INTO replay_letters (letter_id, event_id, batch, done_at)
         SELECT CAST(value ->> 0 AS {id}), CAST(value ->> 1 AS {id}), CAST($2 AS BIGINT), {done_at} FROM {each}($1)
         ORDER BY 1 ON CONFLICT (letter_id) DO NOTHING RETURNING event_id"
    )
}

/// Claims letters in the present transaction; `None` if another run owns the target.
fn claim<C: SqlConnection>(
    tx: &C,
    writer: ledger::Writer<'_>,
    entries: &[ReplayEntry],
) -> Result<Option<BatchClaim>, C::Failure> {
    let ledger::Writer { target, run, claim } = writer;
    // The lock on the row makes a run that takes over wait for this claim.
    let owner = format!("SELECT owner FROM replay_targets WHERE target = $1{}", C::LOCK_ROWS);
    if tx.query(&owner, &[target.into()])?.first().is_none_or(|row| row.text(0) != Some(run)) {
        return Ok(None);
    }
    let new = "INSERT INTO replay_batches (target, run, claim, state) VALUES ($1, $2, $3, 'open')
        ON CONFLICT (run, claim) DO UPDATE SET run = excluded.run RETURNING batch";
    let claim = i64::try_from(claim).unwrap_or(i64::MAX);
    let made = tx.query(new, &[target.into(), run.into(), claim.into()])?;
    let batch = made.first().and_then(|row| row.long(0)).unwrap_or_default();
    tx.query(&insert_letters::<C>("NULL"), &[pairs(entries), batch.into()])?;
    let letters = Vec::from_iter(entries.iter().map(|entry| entry.letter_id));
    let (states, mut taken) = (states(tx, &letters)?, HashSet::new());
    let found = letters.iter().map(|letter| match states.get(&text(letter)) {
        // The second of two equal letters is not claimed again.
        Some((LetterState::Claimed, of)) if *of == batch && taken.insert(letter) => LetterState::Due,
        Some((state, _)) => *state,
        None => LetterState::Claimed,
    });
    let found: Vec<LetterState> = found.collect();
    if found.contains(&LetterState::Due) {
        return Ok(Some(BatchClaim { batch, found }));
    }
    tx.execute("DELETE FROM replay_batches WHERE batch = $1", &[batch.into()])?;
    Ok(Some(BatchClaim { batch: NO_BATCH, found }))
}

/// Closes a batch that is open.
fn close<C: SqlConnection>(tx: &C, batch: i64, outcome: BatchOutcome) -> Result<(), C::Failure> {
    let (now, state) = (C::NOW, if outcome == BatchOutcome::Done { "done" } else { "void" });
    let close = format!("UPDATE replay_batches SET state = $2, closed_at = {now} WHERE batch = $1 AND state = 'open'");
    let batch = [batch.into()];
    if tx.execute(&close, &[&batch[..], &[state.into()]].concat())? == 0 {
        return Ok(());
    }
    if outcome == BatchOutcome::Void {
        let delete = "DELETE FROM replay_letters WHERE batch = $1 AND done_at IS NULL";
        return tx.execute(delete, &batch).map(drop);
    }
    let done = "UPDATE replay_letters SET done_at = {now} WHERE batch = $1 AND done_at IS NULL RETURNING event_id";
    count_returned(tx, &done.replace("{now}", now), &batch)
}

impl<D: SqlDatabase> Ledger for SqlLedger<D> {
    fn id(&self) -> &str {
        &self.id
    }

    fn own(&mut self, writer: ledger::Writer<'_>) -> Result<()> {
        let sql = "INSERT INTO replay_targets VALUES ($1, $2) ON CONFLICT (target) DO UPDATE SET owner = excluded.owner
            WHERE replay_targets.owner <> excluded.owner";
        self.database.write(|tx| tx.execute(sql, &[writer.target.into(), writer.run.into()]).map(drop))
    }

    fn open_batches(&mut self, target: Option<&str>) -> Result<Vec<i64>> {
        let sql =
            "SELECT batch FROM replay_batches WHERE state = 'open' AND target = coalesce($1, target) ORDER BY batch";
        let found = self.database.read(|connection| connection.query(sql, &[target.into()]))?;
        Ok(found.iter().filter_map(|row| row.long(0)).collect())
    }

    fn close(&mut self, batch: i64, outcome: BatchOutcome) -> Result<()> {
        self.database.write(|tx| close(tx, batch, outcome))
    }

    fn claim(&mut self, writer: ledger::Writer<'_>, entries: &[ReplayEntry]) -> Result<BatchClaim> {
        let claimed = self.database.write(|tx| claim(tx, writer, entries))?;
        claimed.ok_or_else(|| {
            let message = format!("{}: another replay with this ledger has taken over", self.database.shown());
            Error::fenced(message)
        })
    }

    fn states(&mut self, letters: &[Id]) -> Result<Vec<LetterState>> {
        let found = self.database.read(|connection| states(connection, letters))?;
        let state = |id: &Id| found.get(&text(id)).map_or(LetterState::Due, |(state, _)| *state);
        Ok(letters.iter().map(state).collect())
    }

    fn mark(&mut self, entries: &[ReplayEntry]) -> Result<()> {
        self.database.write(|tx| {
            let insert = insert_letters::<D::Connection>(D::Connection::NOW);
            count_returned(tx, &insert, &[pairs(entries), NO_BATCH.into()])
        })
    }

    fn attempts(&mut self, events: &[Id]) -> Result<Vec<i64>> {
        let attempts = |connection: &D::Connection| -> SqlResult<HashMap<String, i64>, D> {
            let (id, each) = (D::Connection::ID, D::Connection::EACH);
            let sql = format!(
                "SELECT event_id, attempts FROM replay_attempts
                 WHERE event_id IN (SELECT CAST(value ->> 0 AS {id}) FROM {each}($1))"
            );
            let found = connection.query(&sql, &[rows(events)])?;
            Ok(found.iter().filter_map(|row| Some((row.text(0)?.to_owned(), row.long(1)?))).collect())
        };
        let found = self.database.read(attempts)?;
        Ok(events.iter().map(|id| found.get(&text(id)).copied().unwrap_or(0)).collect())
    }

    fn count_failed(&mut self, events: &[Id]) -> Result<()> {
        self.database.write(|tx| count(tx, rows(events)))
    }
}
