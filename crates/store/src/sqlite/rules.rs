//! Reads the rules of evt-alert from a table: every column is a field, so a table of other columns works too.

use crate::sqlite::file::SqliteFile;
use evt_core::error::{Error, Result};
use evt_run::client::Location;
use rusqlite::ErrorCode;
use rusqlite::types::ValueRef;
use serde_json::{Map, Value};

/// Returns the rows of the table that `?table=` names, as they are now.
///
/// Errors: exit status 78 if there is no such table, 74 if it cannot be read, 75 if it is locked.
pub fn read(location: &Location) -> Result<Vec<Map<String, Value>>> {
    let file = SqliteFile::try_new(location)?;
    let table = location.option("table").unwrap_or("alert_rules").replace('"', "\"\"");
    if !file.path().exists() {
        return Err(Error::config(format!("{file}: no such file")));
    }
    let db = file.connect_to_read()?;
    let failed = file.failed("cannot read the rules");
    let mut statement = db.prepare(&format!("SELECT * FROM \"{table}\" ORDER BY 1")).map_err(|error| {
        // The statement is right if the table exists.
        let is_missing = error.sqlite_error_code() == Some(ErrorCode::Unknown);
        if is_missing { Error::config(format!("{file}: cannot read the rules")).because(error) } else { failed(error) }
    })?;
    let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let mut rows = statement.query([]).map_err(&failed)?;
    let mut rules = vec![];
    while let Some(row) = rows.next().map_err(&failed)? {
        let mut fields = Map::new();
        for (at, name) in names.iter().enumerate() {
            let value = match row.get_ref(at).map_err(&failed)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(number) => number.into(),
                ValueRef::Real(number) => number.into(),
                ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned().into(),
            };
            fields.insert(name.clone(), value);
        }
        rules.push(fields);
    }
    Ok(rules)
}
