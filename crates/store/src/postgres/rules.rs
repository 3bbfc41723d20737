//! Reads the rules of evt-alert from a table: every column is a field, so a table of other columns works too.

use crate::postgres::link::PostgresServer;
use evt_core::error::{Error, Result};
use evt_run::client::Location;
use serde_json::{Map, Value};

/// Returns the rows of the table that `?table=` names, as they are now.
///
/// Errors: exit status 69 if the server is unavailable, 78 if the table cannot be read.
pub fn read(location: &Location) -> Result<Vec<Map<String, Value>>> {
    let server = PostgresServer::try_new(location)?;
    let table = location.option("table").unwrap_or("alert_rules").replace('"', "\"\"");
    // `.*` is the row even if the table has a column `rule`, as older tables have.
    let sql = format!("SELECT row_to_json(rule.*)::text FROM \"{table}\" AS rule ORDER BY 1");
    let link = server.connect().map_err(server.failed())?;
    let rows = link.select(&sql, &[]);
    let rows = rows.map_err(server.failed())?;
    let rule = |text: String| {
        let foreign = |error| Error::corrupt(format!("{}: a rule cannot be read", server.shown)).because(error);
        serde_json::from_str(&text).map_err(foreign)
    };
    rows.iter().map(|row| rule(row.get(0))).collect()
}
