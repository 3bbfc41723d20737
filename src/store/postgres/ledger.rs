//! The ledger of replays in PostgreSQL: tables `replay_…` of the URI's schema, shared by all hosts.
//!
//! A request is repeated on a new connection if its answer is lost. Each may be repeated: a claim has a number in its
//! run, and a batch is closed once. Only an attempt that failed may be counted twice.

use crate::client::outage::RetryPolicy;
use crate::error::{Error, ErrorKind, Result};
use crate::replay;
use crate::replay::ledger::{BatchClaim, BatchOutcome, Id, Ledger, LetterState, ReplayEntry};
use crate::store::Location;
use crate::store::postgres::link::{Failure, Link, PostgresServer};
use crate::store::postgres::schema;
use std::collections::HashMap;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

const TABLES: &str = r#"
CREATE TABLE IF NOT EXISTS replay_ledger (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    id TEXT NOT NULL DEFAULT replace(gen_random_uuid()::text, '-', ''),
    version INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS replay_targets (target TEXT PRIMARY KEY, owner TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS replay_batches (
    batch BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target TEXT NOT NULL,
    run TEXT NOT NULL,
    claim BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'done', 'void')),
    claimed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    closed_at TIMESTAMPTZ,
    UNIQUE (run, claim)
);
CREATE INDEX IF NOT EXISTS replay_batches_open ON replay_batches (target) WHERE state = 'open';
CREATE TABLE IF NOT EXISTS replay_letters (
    letter_id UUID PRIMARY KEY,
    event_id UUID NOT NULL,
    batch BIGINT NOT NULL,
    done_at TIMESTAMPTZ
);
CREATE INDEX IF NOT EXISTS replay_letters_batch ON replay_letters (batch) WHERE done_at IS NULL;
CREATE TABLE IF NOT EXISTS replay_attempts (
    event_id UUID PRIMARY KEY,
    attempts BIGINT NOT NULL,
    last_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
INSERT INTO replay_ledger (version) VALUES (1) ON CONFLICT DO NOTHING;
"#;

/// The present version of the tables.
const VERSION: i32 = 1;
/// The key of the advisory lock under which tables are created: the bytes of `evt_repl`.
const LOCK: i64 = i64::from_be_bytes(*b"evt_repl");
/// The batch of letters that are marked without one.
const NO_BATCH: i64 = 0;

const COUNT: &str = "INSERT INTO replay_attempts (event_id, attempts)
    SELECT event, count(*) FROM unnest($1::text[]::uuid[]) AS event GROUP BY event ORDER BY event
    ON CONFLICT (event_id) DO UPDATE SET attempts = replay_attempts.attempts + excluded.attempts, last_at = now()";

/// Opens a ledger, which is created if it is missing. Errors: exit status 78 if a newer evt made it.
pub fn open(location: &Location) -> Result<Box<dyn Ledger>> {
    let mut ledger = PostgresLedger::new(location)?;
    let schema = ledger.server.schema();
    ledger.run(async |link| {
        link.client.batch_execute("BEGIN").await?;
        link.client.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
        if let Some(schema) = &schema {
            link.client.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await?;
        }
        link.client.batch_execute(TABLES).await?;
        Ok(link.client.batch_execute("COMMIT").await?)
    })?;
    ledger.read_id()?;
    Ok(Box::new(ledger))
}

/// Opens a ledger to read it, for `--dry-run`; `None` if there is none.
pub fn open_to_read(location: &Location) -> Result<Option<Box<dyn Ledger>>> {
    let mut ledger = PostgresLedger::new(location)?;
    let exists = "SELECT to_regclass('replay_ledger') IS NOT NULL";
    if !ledger.run(async |link| Ok(link.client.query_one(exists, &[]).await?.get::<_, bool>(0)))? {
        return Ok(None);
    }
    ledger.read_id()?;
    Ok(Some(Box::new(ledger)))
}

/// Checks that a ledger can be opened and written. Creates nothing.
pub fn check(location: &Location) -> Result<()> {
    let server = PostgresServer::try_new(location)?;
    // Once, before anything that tries again.
    let mut link = server.connect().map_err(|trouble| server.failed(trouble))?;
    open_to_read(location)?;
    let own = server.schema();
    let checked = link.run(async |link| {
        schema::check_server(link).await?;
        schema::check_creation(link, own.as_deref()).await?;
        schema::check_insert(link, "replay_letters").await
    });
    checked.map_err(|failure| server.failed(failure))
}

/// A ledger on a server.
struct PostgresLedger {
    server: PostgresServer,
    retries: RetryPolicy,
    link: Option<Link>,
    id: String,
}

impl PostgresLedger {
    fn new(location: &Location) -> Result<Self> {
        let server = PostgresServer::try_new(location)?;
        let retries = location.retries()?.at_start();
        Ok(Self { server, retries, link: None, id: String::new() })
    }

    /// Runs `work` with a connection, and again with a new one if the connection is lost.
    fn run<T>(&mut self, work: impl AsyncFn(&Link) -> Result<T, Failure>) -> Result<T> {
        let Self { server, retries, link, .. } = self;
        let shown = server.shown.clone();
        let done = retries.run(|| {
            let mut open = match link.take() {
                Some(open) => open,
                None => server.connect()?,
            };
            let done = open.run(async |link| work(link).await)?;
            *link = Some(open);
            Ok(done)
        });
        done.map_err(|error| error.at(format!("{shown}: the ledger")))
    }

    /// Runs `work` in a transaction.
    fn transact<T>(&mut self, work: impl AsyncFn(&Link) -> Result<T, Failure>) -> Result<T> {
        self.run(async |link| {
            link.client.batch_execute("BEGIN").await?;
            let done = work(link).await?;
            link.client.batch_execute("COMMIT").await?;
            Ok(done)
        })
    }

    fn read_id(&mut self) -> Result<()> {
        let found = self.run(async |link| {
            let row = link.client.query_one("SELECT id, version FROM replay_ledger", &[]).await?;
            Ok((row.get::<_, String>(0), row.get::<_, i32>(1)))
        })?;
        if found.1 > VERSION {
            let (shown, newer) = (&self.server.shown, found.1);
            let message =
                format!("{shown}: created by a newer evt: expected a ledger of version {VERSION}, found {newer}");
            return Err(Error::config(message));
        }
        self.id = found.0;
        Ok(())
    }
}

/// Returns ids as text, which the statements cast: `$1::text[]::uuid[]`.
fn texts(ids: impl Iterator<Item = Id>) -> Vec<String> {
    ids.map(|id| Uuid::from_bytes(id).hyphenated().to_string()).collect()
}

/// Returns the states of letters, each with its batch; letters that are due are missing.
async fn states(link: &Link, letters: &[String]) -> Result<HashMap<String, (LetterState, i64)>, Failure> {
    let select = "SELECT letter_id::text, done_at IS NOT NULL, batch FROM replay_letters WHERE letter_id = ANY($1::text[]::uuid[])";
    let rows = link.client.query(&link.prepare(select).await?, &[&letters]).await?;
    let state = |row: &tokio_postgres::Row| if row.get(1) { LetterState::Done } else { LetterState::Claimed };
    Ok(rows.iter().map(|row| (row.get(0), (state(row), row.get(2)))).collect())
}

/// Claims letters in the present transaction; `None` if another run owns the target.
async fn claim(
    link: &Link,
    writer: replay::ledger::Writer<'_>,
    entries: &[ReplayEntry],
) -> Result<Option<BatchClaim>, Failure> {
    // The lock on the row makes a run that takes over wait for this claim.
    let owner = "SELECT owner FROM replay_targets WHERE target = $1 FOR SHARE";
    let owner = link.client.query_opt(owner, &[&writer.target]).await?;
    if owner.is_none_or(|row| row.get::<_, &str>(0) != writer.run) {
        return Ok(None);
    }
    let number = i64::try_from(writer.claim).unwrap_or(i64::MAX);
    let known = "SELECT batch FROM replay_batches WHERE run = $1 AND claim = $2";
    let keys: [&(dyn ToSql + Sync); 2] = [&writer.run, &number];
    let batch: i64 = match link.client.query_opt(known, &keys).await? {
        Some(row) => row.get(0),
        None => {
            let new =
                "INSERT INTO replay_batches (target, run, claim, state) VALUES ($3, $1, $2, 'open') RETURNING batch";
            link.client.query_one(new, &[keys[0], keys[1], &writer.target]).await?.get(0)
        }
    };
    let letters = texts(entries.iter().map(|entry| entry.letter_id));
    let events = texts(entries.iter().map(|entry| entry.event_id));
    // In the order of ids, so that two runs that claim the same letters do not wait for each other.
    let insert = "INSERT INTO replay_letters (letter_id, event_id, batch)
        SELECT DISTINCT ON (letter) letter, event, $3::bigint FROM unnest($1::text[]::uuid[], $2::text[]::uuid[]) AS new (letter, event)
        ORDER BY letter ON CONFLICT DO NOTHING";
    link.client.execute(&link.prepare(insert).await?, &[&letters, &events, &batch]).await?;
    let (states, mut taken) = (states(link, &letters).await?, std::collections::HashSet::new());
    let found = letters.iter().map(|letter| match states.get(letter) {
        // The second of two equal letters is not claimed again.
        Some((LetterState::Claimed, of)) if *of == batch && taken.insert(letter.clone()) => LetterState::Due,
        Some((state, _)) => *state,
        None => LetterState::Claimed,
    });
    let found: Vec<LetterState> = found.collect();
    if found.contains(&LetterState::Due) {
        return Ok(Some(BatchClaim { batch, found }));
    }
    link.client.execute("DELETE FROM replay_batches WHERE batch = $1", &[&batch]).await?;
    Ok(Some(BatchClaim { batch: NO_BATCH, found }))
}

impl Ledger for PostgresLedger {
    fn id(&self) -> &str {
        &self.id
    }

    fn own(&mut self, writer: replay::ledger::Writer<'_>) -> Result<()> {
        let sql =
            "INSERT INTO replay_targets VALUES ($1, $2) ON CONFLICT (target) DO UPDATE SET owner = excluded.owner";
        self.run(async |link| link.client.execute(sql, &[&writer.target, &writer.run]).await.map_err(Failure::from))?;
        Ok(())
    }

    fn open_batches(&mut self, target: Option<&str>) -> Result<Vec<i64>> {
        let sql =
            "SELECT batch FROM replay_batches WHERE state = 'open' AND target = coalesce($1, target) ORDER BY batch";
        self.run(async |link| {
            let rows = link.client.query(sql, &[&target]).await?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        })
    }

    fn close(&mut self, batch: i64, outcome: BatchOutcome) -> Result<()> {
        self.transact(async |link| {
            let state = if outcome == BatchOutcome::Done { "done" } else { "void" };
            let close = "UPDATE replay_batches SET state = $2, closed_at = now() WHERE batch = $1 AND state = 'open'";
            if link.client.execute(close, &[&batch, &state]).await? == 0 {
                return Ok(());
            }
            if outcome == BatchOutcome::Void {
                let delete = "DELETE FROM replay_letters WHERE batch = $1 AND done_at IS NULL";
                link.client.execute(delete, &[&batch]).await?;
                return Ok(());
            }
            let done =
                "UPDATE replay_letters SET done_at = now() WHERE batch = $1 AND done_at IS NULL RETURNING event_id::text";
            let events: Vec<String> = link.client.query(done, &[&batch]).await?.iter().map(|row| row.get(0)).collect();
            link.client.execute(COUNT, &[&events]).await?;
            Ok(())
        })
    }

    fn claim(&mut self, writer: replay::ledger::Writer<'_>, entries: &[ReplayEntry]) -> Result<BatchClaim> {
        let claimed = self.transact(async |link| claim(link, writer, entries).await)?;
        claimed.ok_or_else(|| {
            let message = format!("{}: another replay with this ledger has taken over", self.server.shown);
            Error::new(ErrorKind::Fenced, message)
        })
    }

    fn states(&mut self, letters: &[Id]) -> Result<Vec<LetterState>> {
        let letters = texts(letters.iter().copied());
        let found = self.run(async |link| states(link, &letters).await)?;
        Ok(letters.iter().map(|id| found.get(id).map_or(LetterState::Due, |(state, _)| *state)).collect())
    }

    fn mark(&mut self, entries: &[ReplayEntry]) -> Result<()> {
        let letters = texts(entries.iter().map(|entry| entry.letter_id));
        let events = texts(entries.iter().map(|entry| entry.event_id));
        self.transact(async |link| {
            let insert = "INSERT INTO replay_letters
                SELECT DISTINCT ON (letter) letter, event, $3::bigint, now() FROM unnest($1::text[]::uuid[], $2::text[]::uuid[]) AS new (letter, event)
                ORDER BY letter ON CONFLICT DO NOTHING RETURNING event_id::text";
            let rows = link.client.query(insert, &[&letters, &events, &NO_BATCH]).await?;
            let marked: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            link.client.execute(COUNT, &[&marked]).await?;
            Ok(())
        })
    }

    fn attempts(&mut self, events: &[Id]) -> Result<Vec<i64>> {
        let events = texts(events.iter().copied());
        let found: HashMap<String, i64> = self.run(async |link| {
            let select =
                "SELECT event_id::text, attempts FROM replay_attempts WHERE event_id = ANY($1::text[]::uuid[])";
            let rows = link.client.query(select, &[&events]).await?;
            Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
        })?;
        Ok(events.iter().map(|id| found.get(id).copied().unwrap_or(0)).collect())
    }

    fn count_failed(&mut self, events: &[Id]) -> Result<()> {
        let events = texts(events.iter().copied());
        self.run(async |link| link.client.execute(COUNT, &[&events]).await.map_err(Failure::from))?;
        Ok(())
    }
}
