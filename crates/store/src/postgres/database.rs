//! A PostgreSQL server as a database of [`crate::sql`], open for corrections of metrics or as a ledger of
//! replays, which all hosts share.

use crate::OpenOptions;
use crate::correct::Corrections;
use crate::postgres::cell::{POSTGRES_EPOCH, canonical_dimensions, jsonb};
use crate::postgres::link::{Failure, Link};
use crate::postgres::metric::{self, MetricBatch, Writer};
use crate::postgres::read::Raw;
use crate::postgres::schema;
use crate::postgres::session::{PostgresSession, persist};
use crate::serving::ServedMetrics;
use crate::sql::correct::SqlCorrections;
use crate::sql::ledger::SqlLedger;
use crate::sql::serving::SqlServing;
use crate::sql::{SqlConnection, SqlDatabase, SqlRow, SqlValue};
use arrow::array::RecordBatch;
use bytes::BytesMut;
use evt_core::error::{Error, Result};
use evt_core::replay::ledger::Ledger;
use evt_run::client::Location;
use evt_run::metrics::ServerStatus;
use std::error::Error as StdError;
use tokio_postgres::Row;
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

/// The tables of a ledger, and its id.
const LEDGER: &str = r#"
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

/// The key of the advisory lock under which the tables of a ledger are created: the bytes of `evt_repl`.
const LOCK: i64 = i64::from_be_bytes(*b"evt_repl");

/// A server.
pub struct PostgresDatabase {
    session: PostgresSession,
    /// The place of its errors, for messages.
    place: String,
    /// What the server rejects when it rejects a row, for messages.
    rejects: &'static str,
}

impl PostgresDatabase {
    fn of_corrections(session: PostgresSession) -> Self {
        Self { place: session.server.shown.clone(), session, rejects: "cannot correct" }
    }

    fn of_ledger(location: &Location) -> Result<Self> {
        let session = PostgresSession::new(location, ServerStatus::default(), false)?.at_start();
        Ok(Self { place: format!("{}: the ledger", session.server.shown), session, rejects: "refused" })
    }
}

/// Opens the metrics of a store for a correction.
pub fn corrections(location: &Location, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
    let mut session = PostgresSession::new(location, options.up.clone(), true)?.at_start();
    session.with_link(|_| Ok(()))?;
    SqlCorrections::open(PostgresDatabase::of_corrections(session), options)
}

/// Opens the metrics of a store for a comparison; nothing is created, and no table is migrated.
pub fn comparison(location: &Location, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
    let mut session = PostgresSession::new(location, options.up.clone(), false)?;
    session.link = Some(schema::connect(&session.server)?.0);
    SqlCorrections::open(PostgresDatabase::of_corrections(session), options)
}

/// Opens the metrics of a store to answer with.
pub fn serving(location: &Location) -> Result<Box<dyn ServedMetrics>> {
    let session = PostgresSession::new(location, ServerStatus::default(), false)?;
    SqlServing::open(PostgresDatabase::of_corrections(session))
}

/// Opens a ledger, which is created if it is missing. Errors: exit status 78 if a newer evt made it.
pub fn ledger(location: &Location) -> Result<Box<dyn Ledger>> {
    let mut database = PostgresDatabase::of_ledger(location)?;
    let schema = database.session.server.schema();
    database.write(|link| {
        link.change("SELECT pg_advisory_xact_lock($1)", &[&LOCK])?;
        if let Some(schema) = &schema {
            link.batch(&format!("CREATE SCHEMA IF NOT EXISTS {schema}"))?;
        }
        link.batch(LEDGER)
    })?;
    SqlLedger::try_new(database)?.ok_or_else(|| Error::broken("a ledger without its row"))
}

/// Opens a ledger to read it, for `--dry-run`; `None` if there is none.
pub fn ledger_to_read(location: &Location) -> Result<Option<Box<dyn Ledger>>> {
    SqlLedger::try_new(PostgresDatabase::of_ledger(location)?)
}

/// Checks that a ledger can be opened and written. Creates nothing.
pub fn check_ledger(location: &Location) -> Result<()> {
    let PostgresDatabase { session: PostgresSession { server, .. }, .. } = PostgresDatabase::of_ledger(location)?;
    // Once, before anything that tries again.
    let link = server.connect().map_err(server.failed())?;
    ledger_to_read(location)?;
    let checked = schema::check_server(&link)
        .and_then(|()| schema::check_creation(&link, server.schema().as_deref()))
        .and_then(|()| schema::check_insert(&link, "replay_letters"));
    checked.map_err(server.failed())
}

impl SqlDatabase for PostgresDatabase {
    type Connection = Link;

    fn shown(&self) -> String {
        self.session.server.shown.clone()
    }

    fn read<T>(&mut self, work: impl Fn(&Link) -> Result<T, Failure>) -> Result<T> {
        self.session.with_link(|link| Ok(work(link)?)).map_err(|error| error.at(&self.place))
    }

    fn write<T>(&mut self, work: impl Fn(&Link) -> Result<T, Failure>) -> Result<T> {
        let rejects = self.rejects;
        let done = self
            .session
            .with_link(|link| persist(link, &work))
            .and_then(|done| done.map_err(|cause| Error::failed(rejects).because(cause)));
        done.map_err(|error| error.at(&self.place))
    }
}

impl SqlConnection for Link {
    type Failure = Failure;

    const LOCK_ROWS: &'static str = " FOR UPDATE";
    const NOW: &'static str = "now()";
    const ID: &'static str = "UUID";
    const INSTANT: &'static str = "TIMESTAMPTZ";
    const EACH: &'static str = "json_array_elements";

    fn execute(&self, sql: &str, values: &[SqlValue]) -> Result<u64, Failure> {
        self.change(sql, &parameters(values))
    }

    fn query(&self, sql: &str, values: &[SqlValue]) -> Result<Vec<SqlRow>, Failure> {
        self.select(sql, &parameters(values))?.iter().map(row).collect()
    }

    fn has_table(&self, name: &str) -> Result<bool, Failure> {
        self.has_relation(name)
    }

    fn may_select(&self, table: &str) -> Result<bool, Failure> {
        let rows = self.select("SELECT has_table_privilege($1, 'SELECT')", &[&table])?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    fn write_metrics(&self, batch: &RecordBatch, options: &OpenOptions) -> Result<(), Failure> {
        let writer = Writer { options, now: (options.clock)(), retracts: false };
        metric::write(self, &MetricBatch::try_new(batch)?, &writer).map(drop)
    }

    fn lock_corrections(&self) -> Result<(), Failure> {
        self.batch("LOCK TABLE corrections IN SHARE ROW EXCLUSIVE MODE")
    }

    fn forget_retractions(&self, run: &str) -> Result<(), Failure> {
        self.change(metric::FORGET, &[&run]).map(drop)
    }
}

fn parameters(values: &[SqlValue]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn row(row: &Row) -> Result<SqlRow, Failure> {
    let value = |(index, column): (usize, &tokio_postgres::Column)| {
        let Some(Raw(raw)) = row.try_get(index)? else { return Ok(SqlValue::Null) };
        let foreign = || Error::corrupt(format!("column '{}' has a value evt did not write", column.name()));
        Ok(value(column.type_(), raw).ok_or_else(foreign)?)
    };
    Ok(SqlRow(row.columns().iter().enumerate().map(value).collect::<Result<_, Failure>>()?))
}

/// Reads a value in the binary format; `None` if it is not one that evt writes.
fn value(of: &Type, raw: &[u8]) -> Option<SqlValue> {
    Some(match *of {
        Type::BOOL => SqlValue::Long(i64::from(bool::from_sql(of, raw).ok()?)),
        Type::INT4 => SqlValue::Long(i32::from_sql(of, raw).ok()?.into()),
        Type::INT8 => SqlValue::Long(i64::from_sql(of, raw).ok()?),
        Type::FLOAT8 => SqlValue::Real(f64::from_sql(of, raw).ok()?),
        Type::TIMESTAMPTZ => SqlValue::Long(i64::from_be_bytes(raw.try_into().ok()?).checked_add(POSTGRES_EPOCH)?),
        Type::UUID => SqlValue::Text(Uuid::from_slice(raw).ok()?.to_string()),
        // The dimensions of a metric.
        Type::JSONB => SqlValue::Text(canonical_dimensions(jsonb(raw)?)?),
        _ => SqlValue::from(std::str::from_utf8(raw).ok()?),
    })
}

/// In the text format a value may have any type.
impl ToSql for SqlValue {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Long(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::Real(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}
