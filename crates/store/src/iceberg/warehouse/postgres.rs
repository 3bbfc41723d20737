//! The rows of a catalog in PostgreSQL.

use super::catalog::{CatalogRows, Swapped, TABLES, TableKey};
use crate::postgres::session::PostgresSession;
use evt_core::error::Result;
use evt_run::client::Location;
use evt_run::metrics::ServerStatus;
use std::cell::RefCell;
use tokio_postgres::types::ToSql;

/// A catalog in a database.
pub struct PostgresCatalog(RefCell<PostgresSession>);

impl PostgresCatalog {
    /// Makes a client; sends nothing. Errors: exit status 2 for a wrong address.
    pub fn try_new(location: &Location) -> Result<Self> {
        Ok(Self(RefCell::new(PostgresSession::new(location, ServerStatus::default(), false)?.at_start())))
    }
}

impl CatalogRows for PostgresCatalog {
    fn check(&self) -> Result<()> {
        self.exists().map(drop)
    }

    fn exists(&self) -> Result<bool> {
        self.0.borrow_mut().with_link(|link| Ok(link.has_relation("iceberg_tables")?))
    }

    fn create(&self, key: &TableKey) -> Result<()> {
        let namespace = "INSERT INTO iceberg_namespace_properties VALUES ($1, $2, 'exists', 'true') \
                         ON CONFLICT DO NOTHING";
        self.0.borrow_mut().with_link(|link| {
            if !link.has_relation("iceberg_tables")? || !link.has_relation("iceberg_namespace_properties")? {
                // Two that make a table at once may fail by its row in the system's tables.
                link.batch("SELECT pg_advisory_lock(7305181)")?;
                let made = link.batch(TABLES);
                link.batch("SELECT pg_advisory_unlock(7305181)")?;
                made?;
            }
            link.change(namespace, &[&key.catalog, &key.namespace])?;
            Ok(())
        })
    }

    fn location(&self, key: &TableKey) -> Result<Option<String>> {
        let query = "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = $1 AND table_namespace = $2 AND \
                     table_name = $3";
        self.0.borrow_mut().with_link(|link| {
            if !link.has_relation("iceberg_tables")? {
                return Ok(None);
            }
            let rows = link.select(query, &[&key.catalog, &key.namespace, &key.table])?;
            Ok(rows.first().and_then(|row| row.get::<_, Option<String>>(0)))
        })
    }

    fn insert(&self, key: &TableKey, location: &str) -> Result<bool> {
        let row = "INSERT INTO iceberg_tables VALUES ($1, $2, $3, $4, NULL, 'TABLE') ON CONFLICT DO NOTHING";
        // An answer that was lost is that of a row with this location.
        let TableKey { catalog, namespace, table } = key;
        self.0.borrow_mut().with_link(|link| {
            let values: [&(dyn ToSql + Sync); 4] = [catalog, namespace, table, &location];
            Ok(link.change(row, &values)?)
        })?;
        Ok(self.location(key)?.as_deref() == Some(location))
    }

    fn swap(&self, key: &TableKey, base: &str, next: &str) -> Result<Swapped> {
        let query = "UPDATE iceberg_tables SET metadata_location = $1, previous_metadata_location = $2 WHERE \
                     catalog_name = $3 AND table_namespace = $4 AND table_name = $5 AND metadata_location = $2";
        let TableKey { catalog, namespace, table } = key;
        let mut is_repeated = false;
        self.0.borrow_mut().with_link(|link| {
            let is_again = std::mem::replace(&mut is_repeated, true);
            let values: [&(dyn ToSql + Sync); 5] = [&next, &base, catalog, namespace, table];
            let changed = link.change(query, &values)?;
            Ok(match (changed, is_again) {
                (1, _) => Swapped::Done,
                (_, false) => Swapped::Late,
                // The answer to an earlier attempt was lost.
                (_, true) => Swapped::Unknown,
            })
        })
    }
}
