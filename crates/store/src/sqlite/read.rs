//! Reads a SQLite store back: its tables, and the rows of one kind in key order, page by page in one transaction.

use crate::rows::{CellIndex, Page};
use crate::sql::SqlDatabase;
use crate::sql::read as sql;
use crate::sqlite::cell as sqlite_cell;
use crate::sqlite::database::SqliteDatabase;
use crate::sqlite::file::SqliteFile;
use crate::sqlite::schema as sqlite_schema;
use crate::{ReadRequest, StreamExtent, Tables, batches, rows};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, FieldRef};
use evt_core::error::{Error, Result};
use evt_core::kind::Kind;
use evt_core::kind::span::Span;
use evt_core::time::Parser;
use evt_run::checkpoint::epoch::Batches;
use evt_run::client::Location;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, params_from_iter};
use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::path::Path;

/// Maximum rows of a page and of its batch.
const PAGE: usize = 2048;

/// Opens the file for reading; returns the version of its tables, too. Errors: exit status 2 if it has no tables of
/// evt.
fn open(location: &Location) -> Result<(SqliteFile, Connection, i64)> {
    let file = SqliteFile::try_new(location)?;
    let db = file.connect_to_read()?;
    match sqlite_schema::version(&db, &file)? {
        Some(version) => Ok((file, db, version)),
        None => {
            let found = foreign_tables(&db).unwrap_or_default();
            Err(Error::usage(format!("{file}: {}", refusal(&found, file.path()))))
        }
    }
}

/// Returns the names of the first tables of a database that evt has not written.
fn foreign_tables(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let query =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name LIMIT 20";
    db.prepare(query)?.query_map([], |row| row.get(0))?.collect()
}

/// Returns the message about a database without tables of evt, which has the tables `found`.
fn refusal(found: &[String], path: &Path) -> String {
    let path = path.display();
    let own = [("replay_ledger", "the ledger of evt-replay"), ("unconfirmed", "the state of evt-alert")];
    let own = own.iter().find(|(table, _)| found.iter().any(|name| name == table));
    match (own, found.first()) {
        (Some((_, what)), _) => format!("it is {what}, which evt-view does not show; sqlite3 {path} .dump does"),
        (None, Some(first)) => {
            let found = found.join(", ");
            format!(
                "expected tables of evt, found {found}; sqlite3 -header -csv {path} 'SELECT * FROM {first}' writes one as CSV"
            )
        }
        (None, None) => "expected tables of evt, found none".to_owned(),
    }
}

/// Returns every kind's table and its number of rows.
pub fn tables(location: &Location) -> Result<Tables> {
    let (file, db, _) = open(location)?;
    SqliteDatabase::new(file, db, "cannot count").read(sql::tables)
}

/// Returns the extent of each partition of the events.
pub fn stream_extents(location: &Location) -> Result<Vec<StreamExtent>> {
    let (file, db, _) = open(location)?;
    let shown = file.to_string();
    SqliteDatabase::new(file, db, "cannot read").read(|db| sql::stream_extents(db, &shown))
}

/// Reads the rows of `kind` in the span, as they are when the first page is read.
pub fn read(location: &Location, kind: Kind, ReadRequest { span, .. }: ReadRequest) -> Result<Batches> {
    let (file, db, version) = open(location)?;
    db.execute_batch("BEGIN").map_err(file.failed("cannot read"))?;
    let (fields, relation) = (rows::table_fields(kind), sqlite_schema::relation(kind, version));
    let stored = selected(&db, relation, &fields).map_err(file.failed("cannot read"))?;
    let mut pages =
        Pages { file, db, kind, fields, relation, stored, span, last_key: Vec::new(), ready: VecDeque::new() };
    Ok(batches(move || pages.batch()))
}

/// Returns the columns of a relation to select. A column that a table of an older version does not have is NULL.
fn selected(db: &Connection, relation: &str, fields: &[FieldRef]) -> rusqlite::Result<String> {
    let statement = db.prepare(&format!("SELECT * FROM {relation}"))?;
    let names: HashSet<&str> = statement.column_names().into_iter().collect();
    let column = |field: &FieldRef| match names.contains(field.name().as_str()) {
        true => rows::quoted([field.name().as_str()]),
        false => "NULL".to_owned(),
    };
    Ok(fields.iter().map(column).collect::<Vec<_>>().join(", "))
}

/// The pages of one table; each begins after the last key of the previous one.
struct Pages {
    file: SqliteFile,
    db: Connection,
    kind: Kind,
    fields: Vec<FieldRef>,
    /// The table, or a query with the columns of today.
    relation: &'static str,
    /// The selected columns, in SQL.
    stored: String,
    span: Span,
    last_key: Vec<Value>,
    /// The rest of the last page.
    ready: VecDeque<Result<RecordBatch>>,
}

impl Pages {
    /// Returns the statement for the next page. The key follows the columns, because the page after it begins there.
    fn sql(&self) -> String {
        let key = rows::quoted(rows::table_key(self.kind).iter().copied());
        let stored = &self.stored;
        let mut conditions = sql::within(self.kind, self.span);
        if !self.last_key.is_empty() {
            let marks: Vec<String> = (1..=self.last_key.len()).map(|index| format!("?{index}")).collect();
            conditions.push(format!("({key}) > ({})", marks.join(", ")));
        }
        let behind = match conditions.is_empty() {
            true => String::new(),
            false => format!("WHERE {}", conditions.join(" AND ")),
        };
        format!("SELECT {stored}, {key} FROM {} {behind} ORDER BY {key} LIMIT {PAGE}", self.relation)
    }

    /// Reads the values of the next rows by column, followed by the key, which is text in UTF-8.
    fn page(&self) -> rusqlite::Result<Vec<Vec<Value>>> {
        let mut statement = self.db.prepare_cached(&self.sql())?;
        let mut columns = vec![Vec::new(); statement.column_count()];
        let mut rows = statement.query(params_from_iter(&self.last_key))?;
        while let Some(row) = rows.next()? {
            for (index, column) in columns.iter_mut().enumerate() {
                // A key that is not UTF-8 could not be bound as it is to find the next page.
                let is_key = index >= self.fields.len();
                column.push(if is_key { row.get(index)? } else { readable(row.get_ref(index)?) });
            }
        }
        Ok(columns)
    }

    /// Returns the next batch, after the errors of the rows of its page that cannot be read.
    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(ready) = self.ready.pop_front() {
            return ready.map(Some);
        }
        let mut columns = self.page().map_err(self.file.failed("cannot read"))?;
        let key = columns.split_off(self.fields.len());
        let parser = RefCell::new(Parser::default());
        let value = |field: &Field, place: Option<CellIndex>| {
            let value = place.map_or(&Value::Null, |at| &columns[at.column][at.row]);
            sqlite_cell::read(field.data_type(), value, &parser)
        };
        let page = Page::read(&self.fields, key[0].len(), &value)?;
        for at in &page.foreign {
            let (field, found) = (&self.fields[at.column], &columns[at.column][at.row]);
            let error = Error::corrupt(self.foreign(field, found, &key, at.row));
            self.ready.push_back(Err(error.of_rows(Page::position(self.kind, &self.fields, at.row, &value))));
        }
        self.last_key = key.into_iter().filter_map(|mut column| column.pop()).collect();
        if !self.last_key.is_empty() {
            self.ready.push_back(rows::from_table(self.kind, page.columns, &self.file));
        }
        self.ready.pop_front().transpose()
    }

    /// Describes a value of a column that evt does not write; `key` has the columns of the key.
    fn foreign(&self, field: &Field, found: &Value, key: &[Vec<Value>], row: usize) -> String {
        let names = rows::table_key(self.kind).iter().zip(key).filter(|(name, _)| **name != field.name().as_str());
        let key = names.filter_map(|(name, values)| Some(format!("{name} {}", shown(values.get(row)?))));
        let (key, found) = (key.collect::<Vec<_>>().join(", "), shown(found));
        let (table, column, expected) = (self.kind.table(), field.name(), sqlite_cell::expected(field.data_type()));
        format!("{}: {table}, {key}: {column}: expected {expected}, found {found}", self.file)
    }
}

/// Returns a value; text that is not UTF-8 is bytes, which no column of text has.
fn readable(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Blob(text.to_owned()),
        },
        other => Value::from(other),
    }
}

/// Shows a value in a message.
fn shown(value: &Value) -> String {
    let mut shown = match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => format!("'{}'", text.escape_debug()),
        Value::Blob(bytes) => format!("{} bytes", bytes.len()),
    };
    if let Some((end, _)) = shown.char_indices().nth(60) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
}
