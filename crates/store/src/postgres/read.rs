//! Reads a Postgres store back: its tables, and the rows of one kind in key order, as one statement sees them.

use crate::postgres::cell::read as read_cell;
use crate::postgres::link::{Link, PostgresServer};
use crate::postgres::schema;
use crate::rows::{CellIndex, Page};
use crate::sql::read as sql;
use crate::{ReadRequest, StreamExtent, Tables, batches, rows};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, FieldRef};
use evt_core::error::{Error, Result, UnreadableRows};
use evt_core::kind::Kind;
use evt_run::checkpoint::epoch::Batches;
use evt_run::client::Location;
use futures_util::StreamExt;
use std::collections::VecDeque;
use std::error::Error as StdError;
use std::pin::Pin;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Row, RowStream};

/// Maximum rows of a batch.
const PAGE: usize = 2048;
/// Ends no statement: some take long, and a reader may pause between two batches.
const UNLIMITED: &str = "SET statement_timeout = 0";

fn open(location: &Location) -> Result<(PostgresServer, Link)> {
    let server = PostgresServer::try_new(location)?;
    let (link, pending) = schema::connect(&server)?;
    match schema::names(&pending) {
        none if none.is_empty() => Ok((server, link)),
        steps => Err(Error::usage(format!("{}: missing migrations {steps}; run evt-sink first", server.shown))),
    }
}

/// Returns every kind's table and its number of rows.
pub fn tables(location: &Location) -> Result<Tables> {
    let (server, link) = open(location)?;
    sql::tables(&link).map_err(server.failed())
}

/// Returns the extent of each partition of the events.
pub fn stream_extents(location: &Location) -> Result<Vec<StreamExtent>> {
    let (server, link) = open(location)?;
    let extents = link.batch(UNLIMITED).and_then(|()| sql::stream_extents(&link, &server.shown));
    extents.map_err(server.failed())
}

/// Reads the rows of `kind` in the span, as they are when reading begins.
pub fn read(location: &Location, kind: Kind, ReadRequest { span, .. }: ReadRequest) -> Result<Batches> {
    let (server, link) = open(location)?;
    let fields = rows::table_fields(kind);
    let stored = rows::quoted(fields.iter().map(|field| field.name().as_str()));
    let key = rows::quoted(rows::table_key(kind).iter().copied());
    let conditions = match sql::within(kind, span) {
        none if none.is_empty() => String::new(),
        some => format!("WHERE {}", some.join(" AND ")),
    };
    let sql = format!("SELECT {stored} FROM {} {conditions} ORDER BY {key}", kind.table());
    let begun = link
        .batch(UNLIMITED)
        .and_then(|()| link.wait(async { Ok(link.client.query_raw(&sql, Vec::<i32>::new()).await?) }));
    let stream = Box::pin(begun.map_err(server.failed())?);
    let mut pages = Pages { server, stream, link, kind, fields, is_over: false, ready: VecDeque::new() };
    Ok(batches(move || pages.batch()))
}

/// The bytes of a value of any type.
pub struct Raw<'a>(pub &'a [u8]);

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
        let rows = self.link.wait(async {
            let mut rows = Vec::with_capacity(PAGE);
            while rows.len() < PAGE {
                match stream.next().await {
                    Some(row) => rows.push(row?),
                    None => break,
                }
            }
            Ok(rows)
        });
        rows.map_err(self.server.failed())
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
