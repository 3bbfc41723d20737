//! Writes rows to their tables: metrics by the rules of [`crate::guard`], rows of other kinds once per key.

use crate::postgres::cell::{CopyColumn, CopyText, canonical_dimensions, cells_of};
use crate::postgres::link::{Failure, Link};
use crate::repeat::{CONTENT, COPY_ORDER, CREATE_UNIQUE_EVENTS, UNIQUE_EVENTS, has_content, ids_not_unique};
use crate::rows;
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use evt_core::counts::SinkCounts;
use evt_core::error::Result;
use evt_core::kind::Kind;
use evt_core::kind::dead::Rejected;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Returns the cause of the failure of rows that a trigger of `table` has left out.
pub fn left_out(table: &str) -> String {
    format!("a trigger of {table} did not store the row")
}

/// Returns the rows with values that PostgreSQL cannot hold, as far as they are known here; the server rejects others.
pub fn unholdable(kind: Kind, batch: &RecordBatch) -> Result<Vec<Rejected>> {
    let schema = batch.schema();
    let mut rejected = Vec::new();
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        let cells = CopyColumn::try_new(field.name(), array)?;
        for row in (0..batch.num_rows()).filter(|row| cells.has_nul(*row)) {
            let message = format!("{}: Postgres text cannot contain U+0000", field.name());
            rejected.push(Rejected::by_sink(row, message));
        }
    }
    if matches!(kind, Kind::Metric | Kind::Alert) {
        let dimensions = rows::column(batch, "dimensions")?.as_string::<i32>();
        for row in 0..batch.num_rows() {
            let text = dimensions.value(row);
            if canonical_dimensions(text).is_none_or(|canonical| canonical != text) {
                let message = "dimensions: expected canonical JSON of an object of strings (without U+0000) and nulls";
                rejected.push(Rejected::by_sink(row, message));
            }
        }
    }
    Ok(rejected)
}

/// The text columns of a letter's key, and the maximum bytes of a text there: an index entry of PostgreSQL holds 2,704
/// bytes in all.
const POSITION: [&str; 3] = ["stage", "source_topic", "partition"];
const POSITION_MAX: usize = 600;

/// Changes dead letters so that PostgreSQL can hold all of them, because there is no other output for them: NUL in a
/// text becomes `\u0000`, and a key text that is too long is cut and ends in its hash. Payload, key and headers stay as
/// they are.
pub fn holdable_letters(letters: &RecordBatch) -> Result<RecordBatch> {
    let schema = letters.schema();
    let mut columns = letters.columns().to_vec();
    for (field, column) in schema.fields().iter().zip(&mut columns) {
        let max = if POSITION.contains(&field.name().as_str()) { POSITION_MAX } else { usize::MAX };
        let coded = column.as_any_dictionary_opt();
        let texts = coded.map_or(&*column, |coded| coded.values());
        let Some(texts) = texts.as_string_opt::<i32>() else { continue };
        if !texts.iter().flatten().any(|text| text.len() > max || text.contains('\0')) {
            continue;
        }
        let held: StringArray = texts.iter().map(|text| text.map(|text| holdable(text, max))).collect();
        let held: ArrayRef = Arc::new(held);
        *column = coded.map_or(held.clone(), |coded| coded.with_values(held));
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn holdable(text: &str, max: usize) -> String {
    let clean = text.replace('\0', "\\u0000");
    if clean.len() <= max {
        return clean;
    }
    format!("{}…{:016x}", &clean[..clean.floor_char_boundary(max)], xxh3_64(text.as_bytes()))
}

/// Returns the quoted names of the columns that rows are copied into.
fn columns(batch: &RecordBatch) -> String {
    rows::quoted(batch.schema_ref().fields().iter().map(|field| field.name().as_str()))
}

/// The outcome of a batch.
pub struct WriteOutcome {
    /// The outcomes of its rows.
    pub counts: SinkCounts,
    /// One of the rows whose key is stored with other content, for messages.
    pub conflict: Option<String>,
}

/// Inserts rows whose keys are expected to be new, with one COPY, in the present transaction. A stored key is a
/// conflict, [`Failure::Raced`]; so is a row that the table does not take.
pub fn insert_new(link: &Link, kind: Kind, batch: &RecordBatch) -> Result<WriteOutcome, Failure> {
    let batch = &rows::table_rows(kind, batch)?;
    let copy = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", kind.table(), columns(batch));
    let rows = batch.num_rows() as u64;
    if link.copy_in(&copy, copy_text(batch)?)? < rows {
        return Err(Failure::Raced(left_out(kind.table())));
    }
    Ok(WriteOutcome { counts: SinkCounts { taken: rows, inserted: rows, ..SinkCounts::default() }, conflict: None })
}

/// Makes the ids of stored events unique if they are not.
///
/// Errors: exit status 78 if one is stored twice.
pub fn make_events_unique(link: &Link, shown: &str) -> Result<(), Failure> {
    if link.has_relation(UNIQUE_EVENTS)? {
        return Ok(());
    }
    // Nothing is written until the index exists.
    link.batch("BEGIN; LOCK raw_events IN SHARE ROW EXCLUSIVE MODE")?;
    if !link.has_relation(UNIQUE_EVENTS)? {
        let copies = "SELECT event_id::TEXT FROM raw_events GROUP BY event_id HAVING count(*) > 1 LIMIT 1";
        if let Some(copy) = link.select(copies, &[])?.first() {
            return Err(ids_not_unique(shown, copy.get(0)).into());
        }
        link.batch(CREATE_UNIQUE_EVENTS)?;
    }
    link.batch("COMMIT")?;
    Ok(())
}

/// Inserts the events of the table `incoming` whose id is not stored. Of copies in one transaction the least is stored.
fn insert_unique(link: &Link, incoming: &str, names: &str) -> Result<u64, Failure> {
    let placed = "CREATE TEMP TABLE IF NOT EXISTS evt_placed_events (event_id UUID PRIMARY KEY) ON COMMIT DELETE ROWS";
    link.batch(placed)?;
    // Texts compare by their bytes, as in other stores, whatever the collation of the database is.
    let order = |table: &str| {
        let column = |name: &&str| match *name {
            "origin" | "partition" => format!("{table}\"{name}\" COLLATE \"C\""),
            name => format!("{table}\"{name}\""),
        };
        COPY_ORDER.iter().map(column).collect::<Vec<_>>().join(", ")
    };
    let set: Vec<String> = names.split(", ").map(|name| format!("{name} = excluded.{name}")).collect();
    let (set, order, new, old) = (set.join(", "), order(""), order("excluded."), order("old."));
    let insert = format!(
        "WITH written AS (
            INSERT INTO raw_events AS old ({names})
            SELECT DISTINCT ON (event_id) {names} FROM {incoming} ORDER BY event_id, {order}
            ON CONFLICT (event_id) DO UPDATE SET {set}
            WHERE EXISTS (SELECT 1 FROM evt_placed_events AS placed WHERE placed.event_id = old.event_id) AND ({new}) < ({old})
            RETURNING event_id
        )
        INSERT INTO evt_placed_events SELECT event_id FROM written ON CONFLICT DO NOTHING"
    );
    link.change(&insert, &[])
}

/// Inserts the rows whose key is not stored, in the present transaction; a letter replaces one with fewer attempts.
/// COPY cannot handle conflicts, so the rows are first copied into a temporary table. Only a stored key leaves a row
/// out: a conflict in an index of the user is [`Failure::Taken`].
pub fn insert_once(link: &Link, kind: Kind, batch: &RecordBatch) -> Result<WriteOutcome, Failure> {
    let batch = &rows::table_rows(kind, batch)?;
    let (table, names) = (kind.table(), columns(batch));
    // Another run may have made them so since this one began.
    let is_unique = kind == Kind::Event && link.has_relation(UNIQUE_EVENTS)?;
    let key = rows::quoted(rows::table_key(kind).iter().copied());
    let incoming = format!("evt_incoming_{table}");
    // This must come first: statements that name the table are prepared once per connection.
    let create = format!("CREATE TEMP TABLE IF NOT EXISTS {incoming} (LIKE {table}) ON COMMIT DELETE ROWS");
    link.batch(&create)?;
    let text = copy_text(batch)?;
    link.copy_in(&format!("COPY {incoming} ({names}) FROM STDIN (FORMAT binary)"), text)?;
    let insert = if kind == Kind::Dead {
        format!(
            "INSERT INTO {table} AS old ({names})
            SELECT DISTINCT ON ({key}) {names} FROM {incoming} ORDER BY {key}, attempts DESC
            ON CONFLICT ({key}) DO UPDATE SET
                error_type = excluded.error_type, error_message = excluded.error_message,
                failed_at = excluded.failed_at, producer_host = excluded.producer_host, attempts = excluded.attempts,
                original_length = excluded.original_length, letter_id = excluded.letter_id,
                metrics = excluded.metrics, partial = excluded.partial
            WHERE old.attempts < excluded.attempts
            RETURNING xmax = 0"
        )
    } else {
        format!("INSERT INTO {table} ({names}) SELECT {names} FROM {incoming} ON CONFLICT ({key}) DO NOTHING")
    };
    let rows = batch.num_rows() as u64;
    let (mut counts, mut conflict) = (SinkCounts { taken: rows, ..SinkCounts::default() }, None);
    if kind == Kind::Dead {
        let changed = link.select(&insert, &[])?;
        counts.inserted = changed.iter().filter(|row| row.get::<_, bool>(0)).count() as u64;
        counts.updated = changed.len() as u64 - counts.inserted;
    } else {
        counts.inserted = match is_unique {
            true => insert_unique(link, &incoming, &names)?,
            false => link.change(&insert, &[])?,
        };
        if counts.inserted < rows && has_content(kind) {
            (counts.conflict, conflict) = conflicts_of(link, kind, &incoming)?;
        }
    }
    if counts.inserted + counts.updated < rows {
        let key: &[&str] = if is_unique { &["event_id"] } else { rows::table_key(kind) };
        check_stored(link, table, &incoming, key)?;
    }
    counts.unchanged = rows - counts.inserted - counts.updated - counts.conflict;
    Ok(WriteOutcome { counts, conflict })
}

/// Fails if a row of the table `incoming` is not stored, because a trigger has left it out. Triggers may also store it
/// elsewhere, in a table that inherits, so the number of inserted rows does not say so.
fn check_stored(link: &Link, table: &str, incoming: &str, key: &[&str]) -> Result<(), Failure> {
    let same: Vec<String> = key.iter().map(|name| format!("old.\"{name}\" = new.\"{name}\"")).collect();
    let same = same.join(" AND ");
    // Most tables have no triggers, and no row of theirs is looked up.
    let sql = format!(
        "SELECT (SELECT relhastriggers OR relkind <> 'r' FROM pg_class WHERE oid = to_regclass('{table}'))
        AND EXISTS (SELECT FROM {incoming} AS new WHERE NOT EXISTS (SELECT FROM {table} AS old WHERE {same}))"
    );
    match link.one(&sql, &[])?.get(0) {
        true => Err(Failure::Data(left_out(table))),
        false => Ok(()),
    }
}

/// Counts the rows of the table `incoming` that differ from the stored row of their key, and returns one of them.
/// Properties are compared as text first, because most repetitions are equal byte for byte.
fn conflicts_of(link: &Link, kind: Kind, incoming: &str) -> Result<(u64, Option<String>), Failure> {
    let (table, key) = (kind.table(), rows::quoted(rows::key_columns(kind).iter().copied()));
    let plain = CONTENT.iter().filter(|name| !matches!(**name, "properties" | "event_time"));
    let differ: Vec<String> = plain.map(|name| format!("old.{name} IS DISTINCT FROM new.{name}")).collect();
    let differ = differ.join(" OR ");
    let sql = format!(
        r#"SELECT count(*) OVER (), format('%s at %s/%s@%s', event_id, origin, "partition", "offset")
        FROM {incoming} AS new JOIN {table} AS old USING ({key})
        WHERE {differ}
            OR old.event_time <> new.event_time
                AND (old.event_time <> old.ingested_at OR new.event_time <> new.ingested_at)
            OR old.properties::text <> new.properties::text AND old.properties::jsonb <> new.properties::jsonb
        LIMIT 1"#
    );
    let rows = link.select(&sql, &[])?;
    let Some(found) = rows.first() else { return Ok((0, None)) };
    Ok((u64::try_from(found.get::<_, i64>(0)).unwrap_or(0), Some(found.get(1))))
}

fn copy_text(batch: &RecordBatch) -> Result<CopyText> {
    let cells = cells_of(batch, batch.num_columns())?;
    let mut text = CopyText::new(batch.get_array_memory_size());
    (0..batch.num_rows()).try_for_each(|row| text.row(&cells, row, &[]))?;
    Ok(text)
}
