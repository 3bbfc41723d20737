//! Reads a SQLite store back: its tables, and the rows of one kind in key order, page by page in one transaction.

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::store::Batches;
use crate::store::sqlite::cell as sqlite_cell;
use crate::store::sqlite::file::SqliteFile;
use crate::store::sqlite::schema as sqlite_schema;
use crate::store::{Location, Tables};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use std::sync::Arc;

/// Maximum rows of a page and of its batch.
const PAGE: usize = 2048;

/// Opens the file; returns it with the version of its tables.
fn open(location: &Location) -> Result<(SqliteFile, Connection, i64)> {
    let file = SqliteFile::try_new(location)?;
    let db = file.connect_to_read()?;
    match sqlite_schema::version(&db, &file)? {
        Some(version) => Ok((file, db, version)),
        None => Err(Error::usage(format!("{file}: expected tables of evt, found none"))),
    }
}

/// Returns every kind's table and its number of rows.
pub fn tables(location: &Location) -> Result<Tables> {
    let (file, db, _) = open(location)?;
    let count = |kind: Kind| {
        let sql = format!("SELECT count(*) FROM {}", kind.table());
        let rows = db.query_row(&sql, [], |row| row.get(0)).map_err(|e| file.failed("cannot count", &e))?;
        Ok((kind.table().to_owned(), rows))
    };
    Kind::ALL.into_iter().map(count).collect()
}

/// Reads the rows of `kind`, as they are when the first page is read.
pub fn read(location: &Location, kind: Kind) -> Result<Batches> {
    let (file, db, version) = open(location)?;
    db.execute_batch("BEGIN").map_err(|e| file.failed("cannot read", &e))?;
    Ok(Box::new(Pages { file, db, version, kind, schema: kind.schema(), last_key: Vec::new(), done: false }))
}

/// The pages of one table; each begins after the last key of the previous one.
struct Pages {
    file: SqliteFile,
    db: Connection,
    version: i64,
    kind: Kind,
    schema: SchemaRef,
    last_key: Vec<Value>,
    done: bool,
}

impl Pages {
    /// Returns the primary key of the table, by which its rows are clustered.
    fn key(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Dead => &["stage", "source_topic", "partition", "offset", "payload_hash"],
            kind => super::rows::key_columns(kind),
        }
    }

    fn sql(&self) -> String {
        let quoted = |names: &[&str]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let key = quoted(self.key());
        // The key again at the end: the next page begins after it.
        let stored: Vec<&str> = self.stored_columns().chain(self.key().iter().copied()).collect();
        let behind = if self.last_key.is_empty() {
            String::new()
        } else {
            let marks: Vec<String> = (1..=self.last_key.len()).map(|index| format!("?{index}")).collect();
            format!("WHERE ({key}) > ({})", marks.join(", "))
        };
        let mut stored = quoted(&stored);
        if self.kind == Kind::Dead && self.version < sqlite_schema::WITH_LETTER_LENGTHS {
            stored = stored.replacen("\"original_length\"", "NULL", 1);
        }
        format!("SELECT {stored} FROM {} {behind} ORDER BY {key} LIMIT {PAGE}", self.kind.table())
    }

    /// Returns the kind's columns that the table has: a stored metric is never a retracted one.
    fn stored_columns(&self) -> impl Iterator<Item = &str> {
        let metric = self.kind == Kind::Metric;
        let names = self.schema.fields().iter().map(|field| field.name().as_str());
        names.filter(move |name| !(metric && *name == "retracted"))
    }

    /// Reads the values of the next rows by column, followed by the key.
    fn page(&self) -> rusqlite::Result<Vec<Vec<Value>>> {
        let mut statement = self.db.prepare_cached(&self.sql())?;
        let mut columns = vec![Vec::new(); statement.column_count()];
        let mut rows = statement.query(params_from_iter(&self.last_key))?;
        while let Some(row) = rows.next()? {
            for (index, column) in columns.iter_mut().enumerate() {
                column.push(row.get(index)?);
            }
        }
        Ok(columns)
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut columns = self.page().map_err(|e| self.file.failed("cannot read", &e))?;
        let key = columns.split_off(columns.len().saturating_sub(self.key().len()));
        let rows = columns.first().map_or(0, Vec::len);
        self.done = rows < PAGE;
        if rows == 0 {
            return Ok(None);
        }
        self.last_key = key.into_iter().filter_map(|mut column| column.pop()).collect();
        let mut stored = columns.iter();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for field in self.schema.fields() {
            arrays.push(match (self.kind, field.name().as_str()) {
                (Kind::Metric, "retracted") => Arc::new(BooleanArray::from(vec![false; rows])),
                _ => sqlite_cell::to_array(field, stored.next().map_or(&[], Vec::as_slice))
                    .map_err(|e| e.at(self.file.to_string()))?,
            });
        }
        Ok(Some(
            RecordBatch::try_new(self.schema.clone(), arrays)
                .map_err(|e| Error::corrupt(format!("{}: rows that evt did not write", self.file)).because(e))?,
        ))
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
