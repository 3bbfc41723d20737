//! The tables of a Postgres store and their migrations: numbered steps, each done once.
//!
//! Completed steps are listed in `evt_migrations`. A run that migrates holds an advisory lock, so that of several runs
//! that start together one does the work; all steps are one transaction.

use crate::error::{Error, Result};
use crate::store::postgres::link::{Failure, Link, PostgresServer};
use crate::store::remote::RetryError;

/// One migration.
pub struct Migration {
    /// Its number and name.
    pub name: &'static str,
    sql: &'static str,
}

/// All migrations in order. A released one is never changed.
const MIGRATIONS: [Migration; 11] = [
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
];

/// The key of the advisory lock: the bytes of `evt_migr`.
const LOCK: i64 = i64::from_be_bytes(*b"evt_migr");

/// Returns the pending migrations. Errors: exit status 78 if a newer evt has done others.
pub async fn pending(link: &Link) -> Result<Vec<&'static Migration>, Failure> {
    let exists = "SELECT to_regclass('evt_migrations') IS NOT NULL";
    if !link.client.query_one(exists, &[]).await?.get::<_, bool>(0) {
        return Ok(MIGRATIONS.iter().collect());
    }
    let rows = link.client.query("SELECT name FROM evt_migrations ORDER BY name", &[]).await?;
    let taken: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    if let Some(newer) = taken.iter().find(|name| MIGRATIONS.iter().all(|known| known.name != **name)) {
        return Err(Error::config(format!("the tables were created by a newer evt (migration {newer})")).into());
    }
    Ok(MIGRATIONS.iter().filter(|step| taken.iter().all(|name| name != step.name)).collect())
}

/// Joins the names of migrations, for messages.
pub fn names(steps: &[&Migration]) -> String {
    steps.iter().map(|step| step.name).collect::<Vec<_>>().join(", ")
}

/// Does the pending migrations.
pub fn migrate(link: &mut Link, server: &PostgresServer) -> Result<(), RetryError> {
    if link.run(pending)?.is_empty() {
        return Ok(());
    }
    link.transact(async |link| {
        link.client.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
        if let Some(schema) = server.schema() {
            link.client.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await?;
        }
        let table = "CREATE TABLE IF NOT EXISTS evt_migrations (name TEXT PRIMARY KEY, taken_at TIMESTAMPTZ NOT NULL)";
        link.client.batch_execute(table).await?;
        for step in pending(link).await? {
            link.client.batch_execute(step.sql).await?;
            link.client.execute("INSERT INTO evt_migrations VALUES ($1, now())", &[&step.name]).await?;
        }
        Ok(())
    })?;
    Ok(())
}
