//! Compares rows of events with the stored rows of the same keys, and keeps one row per id where ids are unique.

use super::cell::{bind, bind_row};
use super::failure::Failure;
use crate::cells::Cells;
use crate::guard::RowOutcome;
use crate::repeat::{CONTENT, COPY_ORDER, event_name, is_same_json};
use crate::rows;
use crate::tally::Tally;
use arrow::array::RecordBatch;
use evt_core::error::Result;
use evt_core::kind::Kind;
use evt_core::time::write_instant;
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection};

/// The result of comparing a row with the stored row of its key.
enum Found {
    Nothing,
    Same,
    Other,
}

/// The comparison of the rows of one batch.
pub struct Repeats<'a> {
    batch: &'a RecordBatch,
    select: CachedStatement<'a>,
    key: Vec<Cells<'a>>,
    content: Vec<Cells<'a>>,
    ingested_at: Cells<'a>,
    text: String,
    arrival: String,
}

impl<'a> Repeats<'a> {
    /// Prepares the comparison of `batch`, whose kind must have content.
    pub fn new(tx: &'a Connection, kind: Kind, batch: &'a RecordBatch) -> Result<Self, Failure> {
        let cells = |name: &&str| Cells::try_new(rows::column(batch, name)?);
        let key: Vec<String> = rows::key_columns(kind).iter().map(|name| format!("\"{name}\" = ?")).collect();
        let (content, key) = (CONTENT.join(", "), key.join(" AND "));
        let sql = format!("SELECT {content}, ingested_at FROM {} WHERE {key}", kind.table());
        Ok(Self {
            batch,
            select: tx.prepare_cached(&sql)?,
            key: rows::key_columns(kind).iter().map(cells).collect::<Result<_>>()?,
            content: CONTENT.iter().map(cells).collect::<Result<_>>()?,
            ingested_at: cells(&"ingested_at")?,
            text: String::new(),
            arrival: String::new(),
        })
    }

    /// Compares `row` with the stored row of its key.
    fn find(&mut self, row: usize) -> Result<Found, Failure> {
        let Self { select, key, content, ingested_at, text, arrival, .. } = self;
        bind_row(select, &*key, row, text)?;
        let mut found = select.raw_query();
        let Some(stored) = found.next()? else { return Ok(Found::Nothing) };
        for (index, (cells, name)) in content.iter().zip(CONTENT).enumerate() {
            let there = stored.get_ref(index)?;
            if is_same_text(cells, row, there, text)? {
                continue;
            }
            let is_same = match (name, there) {
                ("properties", ValueRef::Text(there)) => {
                    std::str::from_utf8(there).is_ok_and(|there| is_same_json(there, text))
                }
                // An event without a time of its own has the time of its arrival, which differs between runs.
                ("event_time", there) => {
                    is_same_text(ingested_at, row, ValueRef::Text(text.as_bytes()), arrival)?
                        && there == stored.get_ref(CONTENT.len())?
                }
                _ => false,
            };
            if !is_same {
                return Ok(Found::Other);
            }
        }
        Ok(Found::Same)
    }

    /// Counts the outcome of `row` if its key is stored; returns whether it is.
    pub fn judge(&mut self, row: usize, tally: &mut Tally) -> Result<bool, Failure> {
        match self.find(row)? {
            Found::Nothing => return Ok(false),
            Found::Same => RowOutcome::Unchanged.count_in(&mut tally.counts),
            Found::Other => {
                tally.counts.add_conflicts(1);
                tally.conflicts.add(1, || event_name(self.batch, row));
            }
        }
        Ok(true)
    }
}

/// Replaces a row that this transaction has inserted by a lesser copy of the same event. A row that was stored before
/// stays.
pub struct UniqueEvents<'a> {
    note: CachedStatement<'a>,
    replace: CachedStatement<'a>,
    select: CachedStatement<'a>,
    text: String,
}

impl<'a> UniqueEvents<'a> {
    /// Prepares the statements; `names` are the columns of the batches, the id first.
    pub fn new(tx: &'a Connection, names: &[&str]) -> Result<Self, Failure> {
        let number = |name: &&str| names.iter().position(|other| other == name).map_or(0, |index| index + 1);
        let set: Vec<String> = names.iter().map(|name| format!("\"{name}\" = ?{}", number(name))).collect();
        let order: Vec<String> = COPY_ORDER.iter().map(|name| format!("?{}", number(name))).collect();
        let (set, order, stored) = (set.join(", "), order.join(", "), rows::quoted(COPY_ORDER));
        let replace = format!(
            "UPDATE raw_events SET {set} WHERE event_id = ?1 AND ({order}) < ({stored})
             AND EXISTS (SELECT 1 FROM temp.placed_events AS placed WHERE placed.event_id = ?1)"
        );
        Ok(Self {
            note: tx.prepare_cached("INSERT INTO temp.placed_events VALUES (?1)")?,
            replace: tx.prepare_cached(&replace)?,
            select: tx.prepare_cached("SELECT 1 FROM raw_events WHERE event_id = ?1")?,
            text: String::new(),
        })
    }

    /// Notes a row that this transaction has inserted; `id` has the ids.
    pub fn inserted(&mut self, id: &Cells<'_>, row: usize) -> Result<(), Failure> {
        bind(&mut self.note, 1, id, row, &mut self.text)?;
        self.note.raw_execute()?;
        Ok(())
    }

    /// Stores the row in place of the copy that this transaction has inserted, if the row is less in the order of
    /// [`COPY_ORDER`]. Returns whether a copy is stored.
    pub fn replace(&mut self, cells: &[Cells<'_>], row: usize) -> Result<bool, Failure> {
        bind_row(&mut self.replace, cells, row, &mut self.text)?;
        if self.replace.raw_execute()? == 1 {
            return Ok(true);
        }
        bind(&mut self.select, 1, &cells[0], row, &mut self.text)?;
        Ok(self.select.raw_query().next()?.is_some())
    }
}

/// Whether a cell equals the stored value `there`; leaves its text in `text`.
fn is_same_text(cells: &Cells<'_>, row: usize, there: ValueRef<'_>, text: &mut String) -> Result<bool> {
    text.clear();
    if cells.is_null(row) {
        return Ok(there == ValueRef::Null);
    }
    match cells {
        Cells::Instant(instants) => write_instant(text, instants.value(row)),
        cells => text.push_str(cells.text(row)?),
    }
    Ok(matches!(there, ValueRef::Text(there) if there == text.as_bytes()))
}
