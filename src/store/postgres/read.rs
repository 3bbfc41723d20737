//! Reads a Postgres store back: its tables, and the rows of one kind in key order, as one statement sees them.

use crate::error::{Error, Result, UnreadableRows};
use crate::kind::Kind;
use crate::kind::span::Span;
use crate::store::postgres::cell::read as read_cell;
use crate::store::postgres::link::{Failure, Link, PostgresServer};
use crate::store::postgres::schema;
use crate::store::rows::{CellIndex, Page};
use crate::store::{Batches, Location, ReadRequest, StreamExtent, Tables, batches, rows};
use crate::time::{EARLIEST, LATEST, format_instant};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, FieldRef};
use futures_util::StreamExt;
use std::collections::VecDeque;
use std::error::Error as StdError;
use std::pin::Pin;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Row, RowStream};

/// Maximum rows of a batch.
const PAGE: usize = 2048;

fn open(location: &Location) -> Result<(PostgresServer, Link)> {
    let server = PostgresServer::try_new(location)?;
    let mut link = server.connect().map_err(|trouble| server.failed(trouble))?;
    let pending = link.run(schema::pending).map_err(|failure| server.failed(failure))?;
    match schema::names(&pending) {
        none if none.is_empty() => Ok((server, link)),
        steps => Err(Error::usage(format!("{}: missing migrations {steps}; run evt-sink first", server.shown))),
    }
}

/// Returns every kind's table and its number of rows.
pub fn tables(location: &Location) -> Result<Tables> {
    let (server, mut link) = open(location)?;
    let count = |kind: Kind| {
        let sql = format!("SELECT count(*) FROM {}", kind.table());
        let rows = link.run(async |link| Ok(link.client.query_one(&sql, &[]).await?.get::<_, i64>(0)));
        let rows = rows.map_err(|failure| server.failed(failure))?;
        Ok((kind.table().to_owned(), u64::try_from(rows).unwrap_or(0)))
    };
    Kind::ALL.into_iter().map(count).collect()
}

/// Returns the extent of each partition of the events.
pub fn stream_extents(location: &Location) -> Result<Vec<StreamExtent>> {
    let (server, mut link) = open(location)?;
    let sql = "SELECT origin, \"partition\", min(\"offset\"), (extract(epoch FROM min(stream_time)) * 1000000)::BIGINT,
        (extract(epoch FROM max(stream_time)) * 1000000)::BIGINT, count(*) FROM raw_events GROUP BY 1, 2 ORDER BY 1, 2";
    let rows = link.run(async |link| {
        link.client.batch_execute("SET statement_timeout = 0").await?;
        Ok(link.client.query(sql, &[]).await?)
    });
    let rows = rows.map_err(|failure| server.failed(failure))?;
    let extent = |row: &Row| StreamExtent {
        origin: row.get(0),
        partition: row.get(1),
        first_offset: row.get(2),
        first_time: row.get(3),
        last_time: row.get(4),
        rows: row.get::<_, i64>(5).unsigned_abs(),
    };
    Ok(rows.iter().map(extent).collect())
}

/// Returns the condition of rows in a span.
fn within(kind: Kind, span: Span) -> String {
    let bound = |sign: &str, bound: Option<i64>| {
        let bound = format_instant(bound?.clamp(EARLIEST, LATEST));
        Some(format!("\"{}\" {sign} '{bound}'", kind.time_column()))
    };
    let bounds = [bound(">=", span.since), bound("<", span.until.filter(|until| *until <= LATEST))];
    let bounds: Vec<String> = bounds.into_iter().flatten().collect();
    if bounds.is_empty() { String::new() } else { format!("WHERE {}", bounds.join(" AND ")) }
}

/// Reads the rows of `kind` in the span, as they are when reading begins.
pub fn read(location: &Location, kind: Kind, ReadRequest { span, .. }: ReadRequest) -> Result<Batches> {
    let (server, mut link) = open(location)?;
    let fields = rows::table_fields(kind);
    let stored = rows::quoted(fields.iter().map(|field| field.name().as_str()));
    let key = rows::quoted(rows::table_key(kind).iter().copied());
    let sql = format!("SELECT {stored} FROM {} {} ORDER BY {key}", kind.table(), within(kind, span));
    let begin = link.run(async |link| {
        // A reader may pause between two batches, which must not end the statement.
        link.client.batch_execute("SET statement_timeout = 0").await?;
        Ok(link.client.query_raw(&sql, Vec::<i32>::new()).await?)
    });
    let stream = Box::pin(begin.map_err(|failure| server.failed(failure))?);
    let mut pages = Pages { server, stream, link, kind, fields, is_over: false, ready: VecDeque::new() };
    Ok(batches(move || pages.batch()))
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
    server: PostgresServer,
    stream: Pin<Box<RowStream>>,
    link: Link,
    kind: Kind,
    fields: Vec<FieldRef>,
    /// Whether the stream has ended; it must not be polled again.
    is_over: bool,
    /// The rest of the last page.
    ready: VecDeque<Result<RecordBatch>>,
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
        rows.map_err(|failure: Failure| self.server.failed(failure))
    }

    /// Returns the next batch, after the errors of the rows of its page that cannot be read.
    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(ready) = self.ready.pop_front() {
            return ready.map(Some);
        }
        let rows = if self.is_over { vec![] } else { self.page()? };
        self.is_over = rows.len() < PAGE;
        if rows.is_empty() {
            return Ok(None);
        }
        let value = |field: &Field, place: Option<CellIndex>| {
            let value: Option<Raw<'_>> = place.and_then(|at| rows[at.row].try_get(at.column).ok().flatten());
            read_cell(field, value.map(|raw| raw.0))
        };
        let page = Page::read(&self.fields, rows.len(), &value)?;
        for at in &page.foreign {
            let position = Page::position(self.kind, &self.fields, at.row, &value);
            let (shown, table, name) = (&self.server.shown, self.kind.table(), self.fields[at.column].name());
            let place = place_of(&position);
            let message = format!("{shown}: {table}{place}: column '{name}' has a value evt did not write");
            self.ready.push_back(Err(Error::corrupt(message).of_rows(position)));
        }
        self.ready.push_back(rows::from_table(self.kind, page.columns, &self.server.shown));
        self.ready.pop_front().transpose()
    }
}

/// Describes the position of a row, as far as it can be read.
fn place_of(position: &UnreadableRows) -> String {
    let UnreadableRows { origin, partition, offset, .. } = position;
    let text = |name: &str, text: &Option<String>| text.as_ref().map(|text| format!(", {name} '{text}'"));
    let parts =
        [text("origin", origin), text("partition", partition), offset.map(|offset| format!(", offset {offset}"))];
    parts.into_iter().flatten().collect()
}
