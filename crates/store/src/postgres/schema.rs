//! The tables of a Postgres store and their migrations: numbered steps, each done once.
//!
//! Completed steps are listed in `evt_migrations`. A run that migrates holds an advisory lock, so that of several runs
//! that start together one does the work; all steps are one transaction.
//!
//! The functions `check_…` read the catalogs to find whether the server would reject the tables or rows of a run. They
//! report only faults at which every run would fail: a server may permit more than its catalogs show.

use crate::RowsToWrite;
use crate::postgres::link::{Failure, Link, PostgresServer};
use crate::rows::table_fields;
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use evt_run::client::outage::RetryError;
use std::collections::BTreeSet;

/// One migration.
pub struct Migration {
    /// Its number and name.
    pub name: &'static str,
    sql: &'static str,
}

/// All migrations in order. A released one is never changed.
const MIGRATIONS: [Migration; 13] = [
    Migration { name: "001_metrics", sql: include_str!("migrations/001_metrics.sql") },
    Migration { name: "002_events", sql: include_str!("migrations/002_events.sql") },
    Migration { name: "003_dead_letters", sql: include_str!("migrations/003_dead_letters.sql") },
    Migration { name: "004_alerts", sql: include_str!("migrations/004_alerts.sql") },
    Migration { name: "005_checkpoints", sql: include_str!("migrations/005_checkpoints.sql") },
    Migration { name: "006_letter_lengths", sql: include_str!("migrations/006_letter_lengths.sql") },
    Migration { name: "007_alerts", sql: include_str!("migrations/007_alerts.sql") },
    Migration { name: "008_corrections", sql: include_str!("migrations/008_corrections.sql") },
    Migration { name: "009_letter_ids", sql: include_str!("migrations/009_letter_ids.sql") },
    Migration { name: "010_alert_rules", sql: include_str!("migrations/010_alert_rules.sql") },
    Migration { name: "011_pipeline_checkpoints", sql: include_str!("migrations/011_pipeline_checkpoints.sql") },
    Migration { name: "012_partial_letters", sql: include_str!("migrations/012_partial_letters.sql") },
    Migration { name: "013_metric_progress", sql: include_str!("migrations/013_metric_progress.sql") },
];

/// The privileges for a table whose rows a run reads, inserts and changes.
const CHANGED: &[&str] = &["SELECT", "INSERT", "UPDATE"];
/// The key of the advisory lock: the bytes of `evt_migr`.
const LOCK: i64 = i64::from_be_bytes(*b"evt_migr");

/// Returns the pending migrations. Errors: exit status 78 if a newer evt has done others.
pub fn pending(link: &Link) -> Result<Vec<&'static Migration>, Failure> {
    if !link.has_relation("evt_migrations")? {
        return Ok(MIGRATIONS.iter().collect());
    }
    let rows = link.select("SELECT name FROM evt_migrations ORDER BY name", &[])?;
    let taken: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if let Some(newer) = taken.iter().find(|name| MIGRATIONS.iter().all(|known| known.name != **name)) {
        return Err(Error::config(format!("the tables were created by a newer evt (migration {newer})")).into());
    }
    Ok(MIGRATIONS.iter().filter(|step| taken.iter().all(|name| name != step.name)).collect())
}

/// Connects, and finds the pending migrations. A lost connection is not tried again.
pub fn connect(server: &PostgresServer) -> Result<(Link, Vec<&'static Migration>)> {
    let link = server.connect().map_err(server.failed())?;
    let pending = pending(&link).map_err(server.failed())?;
    Ok((link, pending))
}

/// Joins the names of migrations, for messages.
pub fn names(steps: &[&Migration]) -> String {
    steps.iter().map(|step| step.name).collect::<Vec<_>>().join(", ")
}

/// Does the pending migrations.
pub fn migrate(link: &Link, server: &PostgresServer) -> Result<(), RetryError> {
    if pending(link)?.is_empty() {
        return Ok(());
    }
    link.transact(|link| {
        link.change("SELECT pg_advisory_xact_lock($1)", &[&LOCK])?;
        if let Some(schema) = server.schema() {
            link.batch(&format!("CREATE SCHEMA IF NOT EXISTS {schema}"))?;
        }
        let table = "CREATE TABLE IF NOT EXISTS evt_migrations (name TEXT PRIMARY KEY, taken_at TIMESTAMPTZ NOT NULL)";
        link.batch(table)?;
        for step in pending(link)? {
            link.batch(step.sql)?;
            link.change("INSERT INTO evt_migrations VALUES ($1, now())", &[&step.name])?;
        }
        Ok(())
    })?;
    Ok(())
}

impl Migration {
    /// Returns the tables and indexes that the step always creates.
    fn created(&self) -> impl Iterator<Item = &'static str> {
        let name = |line: &'static str| {
            let rest = ["CREATE TABLE ", "CREATE INDEX ", "CREATE UNIQUE INDEX "]
                .iter()
                .find_map(|head| line.strip_prefix(head));
            rest?.split([' ', '(']).next().filter(|name| *name != "IF")
        };
        self.sql.lines().filter_map(name)
    }
}

/// Checks whether rows could be written. Writes nothing.
///
/// Errors: exit status 69 if the server accepts no writes, 78 if the user may not write or a table of another program
/// is in the way.
pub fn check_writable(
    link: &Link,
    server: &PostgresServer,
    pending: &[&Migration],
    rows: RowsToWrite,
) -> Result<(), Failure> {
    check_server(link)?;
    if !pending.is_empty() {
        check_creation(link, server.schema().as_deref())?;
        check_names(link, pending)?;
        check_insert(link, "evt_migrations")?;
    }
    if rows.in_epochs {
        check_privileges(link, "checkpoint_epochs", CHANGED)?;
        check_privileges(link, "pipeline_checkpoints", CHANGED)?;
    }
    if rows.corrects {
        check_privileges(link, "corrections", CHANGED)?;
        check_privileges(link, "corrected_cells", &["SELECT"])?;
        check_privileges(link, Kind::Metric.table(), CHANGED)?;
    }
    let mut first = None;
    for kind in rows.kind.map_or(Kind::ALL.to_vec(), |kind| vec![kind]) {
        match check_table(link, kind, pending) {
            Ok(()) => return Ok(()),
            Err(failure) => first = first.or(Some(failure)),
        }
    }
    first.map_or(Ok(()), Err)
}

/// Checks that the server accepts writes: a standby does not, and a database or a user may be read-only.
pub fn check_server(link: &Link) -> Result<(), Failure> {
    let sql = "SELECT current_setting('transaction_read_only') = 'on'";
    match link.one(sql, &[])?.get(0) {
        true => Err(Failure::RetryError(RetryError::Transient("transactions are read-only".to_owned()))),
        false => Ok(()),
    }
}

/// Checks that the user may create tables; `schema` is the one of the URI, which a run creates.
pub fn check_creation(link: &Link, schema: Option<&str>) -> Result<(), Failure> {
    let sql = "SELECT current_schema()::TEXT, has_schema_privilege(current_schema(), 'CREATE'),
        has_database_privilege(current_database(), 'CREATE'),
        current_setting('allow_system_table_mods', true) IS NOT DISTINCT FROM 'on'";
    let row = link.one(sql, &[])?;
    if schema.is_some_and(|schema| schema.starts_with("\"pg_")) && !row.get::<_, bool>(3) {
        return Err(rejected("expected a schema that may be created, found a name that begins with pg_"));
    }
    // PostgreSQL requires this privilege of CREATE SCHEMA IF NOT EXISTS even if the schema exists.
    if schema.is_some() && !row.get::<_, bool>(2) {
        return Err(rejected("expected the privilege CREATE on the database, which a schema needs, found none"));
    }
    match (row.get::<_, Option<String>>(0), row.get::<_, Option<bool>>(1)) {
        (Some(_), Some(true)) => Ok(()),
        (Some(name), _) => Err(rejected(format!("expected the privilege CREATE on schema {name}, found none"))),
        (None, _) if schema.is_some() => Ok(()),
        (None, _) => Err(rejected("expected a schema in which to create tables, found none (search_path)")),
    }
}

/// Checks that no table of another program has the name of one that the pending steps create.
fn check_names(link: &Link, pending: &[&Migration]) -> Result<(), Failure> {
    let is_done = |step: &&Migration| pending.iter().all(|one| one.name != step.name);
    let made: BTreeSet<&str> = MIGRATIONS.iter().filter(is_done).flat_map(Migration::created).collect();
    let wanted: Vec<&str> =
        pending.iter().flat_map(|step| step.created()).filter(|name| !made.contains(name)).collect();
    let sql = "SELECT relname::TEXT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = current_schema() AND relname::TEXT = ANY($1) ORDER BY 1 LIMIT 1";
    match link.select(sql, &[&wanted])?.first() {
        Some(row) => Err(rejected(format!("{} exists already, and evt did not create it", row.get::<_, &str>(0)))),
        None => Ok(()),
    }
}

/// Checks that the user may insert rows into a table, if it exists.
pub fn check_insert(link: &Link, table: &str) -> Result<(), Failure> {
    check_privileges(link, table, &["INSERT"])
}

/// Checks that the user has these privileges on a table, if it exists.
fn check_privileges(link: &Link, table: &str, privileges: &[&str]) -> Result<(), Failure> {
    // A grant of columns is enough for these columns.
    let sql = "SELECT name FROM unnest($2::TEXT[]) AS name WHERE NOT has_any_column_privilege(to_regclass($1), name)";
    match link.select(sql, &[&table, &privileges])?.first() {
        Some(row) => {
            let privilege: &str = row.get(0);
            Err(rejected(format!("expected the privilege {privilege} on table {table}, found none")))
        }
        None => Ok(()),
    }
}

/// Checks that the table of `kind` takes the rows of this user, unless a pending step changes the tables.
fn check_table(link: &Link, kind: Kind, pending: &[&Migration]) -> Result<(), Failure> {
    let table = kind.table();
    check_insert(link, table)?;
    if kind == Kind::Metric {
        check_privileges(link, "metric_progress", CHANGED)?;
    }
    if !pending.is_empty() {
        return Ok(());
    }
    let fields = table_fields(kind);
    let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    let sql = "SELECT to_regclass($1) IS NULL, ARRAY(
            SELECT name FROM unnest($2::TEXT[]) AS name WHERE NOT EXISTS (
                SELECT FROM pg_attribute
                WHERE attrelid = to_regclass($1) AND attname::TEXT = name AND attnum > 0 AND NOT attisdropped
            )
        )";
    let row = link.one(sql, &[&table, &names])?;
    let missing: Vec<&str> = row.get(1);
    match (row.get(0), missing.first()) {
        (true, _) => Err(rejected(format!("table {table} does not exist, although evt has created it"))),
        (false, Some(column)) => Err(rejected(format!("expected column {column} in table {table}, found none"))),
        (false, None) => Ok(()),
    }
}

/// Makes the error for what the server would reject.
fn rejected(cause: impl Into<String>) -> Failure {
    Error::config("rejected").because(cause.into()).into()
}
