//! Reads a Postgres store back: its tables, and the rows of one kind in key order, as one statement sees them.

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::store::postgres::address::PostgresAddress;
use crate::store::postgres::cell::Column;
use crate::store::postgres::link::{Failure, Link};
use crate::store::postgres::schema;
use crate::store::{Batches, Location, Tables, rows};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use futures_util::StreamExt;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Row, RowStream};

/// Maximum rows of a batch.
const PAGE: usize = 2048;

fn open(location: &Location) -> Result<(PostgresAddress, Link)> {
    let address = PostgresAddress::try_new(location)?;
    let mut link = address.server.connect().map_err(|trouble| address.failed(trouble))?;
    let pending = link.run(schema::pending).map_err(|failure| address.failed(failure.into_trouble()))?;
    match schema::names(&pending) {
        none if none.is_empty() => Ok((address, link)),
        steps => Err(Error::usage(format!("{}: missing migrations {steps}; run evt-sink first", address.shown))),
    }
}

/// Returns every kind's table and its number of rows.
pub fn tables(location: &Location) -> Result<Tables> {
    let (address, mut link) = open(location)?;
    let count = |kind: Kind| {
        let sql = format!("SELECT count(*) FROM {}", kind.table());
        let rows = link.run(async |link| Ok(link.client.query_one(&sql, &[]).await?.get::<_, i64>(0)));
        let rows = rows.map_err(|failure| address.failed(failure.into_trouble()))?;
        Ok((kind.table().to_owned(), u64::try_from(rows).unwrap_or(0)))
    };
    Kind::ALL.into_iter().map(count).collect()
}

/// Reads the rows of `kind`, as they are when reading begins.
pub fn read(location: &Location, kind: Kind) -> Result<Batches> {
    let (address, mut link) = open(location)?;
    let schema = kind.schema();
    let metric = kind == Kind::Metric;
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let stored: Vec<&str> = names.filter(|name| !(metric && *name == "retracted")).collect();
    let quoted = |names: &[&str]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let key = match kind {
        Kind::Dead => &["stage", "source_topic", "partition", "offset", "payload_hash"],
        kind => rows::key_columns(kind),
    };
    let sql = format!("SELECT {} FROM {} ORDER BY {}", quoted(&stored), kind.table(), quoted(key));
    let begin = link.run(async |link| {
        // A reader may pause between two batches, which must not end the statement.
        link.client.batch_execute("SET statement_timeout = 0").await?;
        Ok(link.client.query_raw(&sql, Vec::<i32>::new()).await?)
    });
    let stream = Box::pin(begin.map_err(|failure| address.failed(failure.into_trouble()))?);
    let columns = schema.fields().iter().filter(|field| !(metric && field.name() == "retracted"));
    let columns = columns.map(|field| Column::try_new(field)).collect::<Result<Vec<_>>>()?;
    Ok(Box::new(Pages { address, stream, link, columns, schema, done: false }))
}

/// The bytes of a value of any type.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// The rows of one table, page by page.
struct Pages {
    address: PostgresAddress,
    stream: Pin<Box<RowStream>>,
    link: Link,
    columns: Vec<Column>,
    schema: SchemaRef,
    done: bool,
}

impl Pages {
    /// Reads the next rows; fewer than a page are the last.
    fn page(&mut self) -> Result<Vec<Row>> {
        let stream = &mut self.stream;
        let rows = self.link.run(async |_| {
            let mut rows = Vec::with_capacity(PAGE);
            while rows.len() < PAGE {
                match stream.next().await {
                    Some(row) => rows.push(row?),
                    None => break,
                }
            }
            Ok(rows)
        });
        rows.map_err(|failure: Failure| self.address.failed(failure.into_trouble()))
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        let rows = self.page()?;
        self.done = rows.len() < PAGE;
        if rows.is_empty() {
            return Ok(None);
        }
        for row in &rows {
            for (index, column) in self.columns.iter_mut().enumerate() {
                let value: Option<Raw<'_>> = row.try_get(index).ok().flatten();
                column.push(value.map(|raw| raw.0)).ok_or_else(|| {
                    let name = row.columns().get(index).map_or("", |column| column.name());
                    Error::corrupt(format!("{}: column '{name}' has a value evt did not write", self.address.shown))
                })?;
            }
        }
        let mut stored = self.columns.iter_mut();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for field in self.schema.fields() {
            arrays.push(match field.name().as_str() {
                "retracted" => Arc::new(BooleanArray::from(vec![false; rows.len()])),
                _ => stored.next().ok_or_else(|| Error::broken("a column too few"))?.finish(),
            });
        }
        let foreign = || format!("{}: rows that evt did not write", self.address.shown);
        let batch = RecordBatch::try_new(self.schema.clone(), arrays);
        batch.map(Some).map_err(|error| Error::corrupt(foreign()).because(error))
    }
}

impl Iterator for Pages {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let batch = self.batch();
        self.done |= batch.is_err();
        batch.transpose()
    }
}
