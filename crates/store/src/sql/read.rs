//! Counts the rows of a database, and reads the extents of its events.

use super::{SqlConnection, SqlRow};
use crate::{StreamExtent, Tables};
use evt_core::error::Error;
use evt_core::kind::Kind;
use evt_core::kind::span::Span;
use evt_core::time::{EARLIEST, LATEST, format_instant};

/// Returns every kind's table and its number of rows.
pub fn tables<C: SqlConnection>(connection: &C) -> Result<Tables, C::Failure> {
    let count = |kind: Kind| {
        let rows = connection.query(&format!("SELECT count(*) FROM {}", kind.table()), &[])?;
        let count = rows.first().and_then(|row| row.long(0)).unwrap_or_default();
        Ok((kind.table().to_owned(), count.unsigned_abs()))
    };
    Kind::ALL.into_iter().map(count).collect()
}

/// Returns the extent of each partition of the events; `shown` names the database.
pub fn stream_extents<C: SqlConnection>(connection: &C, shown: &str) -> Result<Vec<StreamExtent>, C::Failure> {
    let sql = r#"SELECT origin, "partition", min("offset"), min(stream_time), max(stream_time), count(*)
        FROM raw_events GROUP BY 1, 2 ORDER BY 1, 2"#;
    let extent = |row: &SqlRow| {
        Some(StreamExtent {
            origin: row.text(0)?.to_owned(),
            partition: row.text(1)?.to_owned(),
            first_offset: row.long(2)?,
            first_time: row.instant(3)?,
            last_time: row.instant(4)?,
            rows: row.long(5)?.unsigned_abs(),
        })
    };
    let foreign = || Error::corrupt(format!("{shown}: column 'stream_time' has a value evt did not write"));
    let extents: Option<Vec<StreamExtent>> = connection.query(sql, &[])?.iter().map(extent).collect();
    Ok(extents.ok_or_else(foreign)?)
}

/// Returns the conditions of rows of a kind in a span; empty, or with WHERE.
pub fn within(kind: Kind, span: Span) -> Vec<String> {
    let bound = |sign: &str, bound: Option<i64>| {
        let bound = format_instant(bound?.clamp(EARLIEST, LATEST));
        Some(format!("\"{}\" {sign} '{bound}'", kind.time_column()))
    };
    [bound(">=", span.since), bound("<", span.until.filter(|until| *until <= LATEST))].into_iter().flatten().collect()
}
