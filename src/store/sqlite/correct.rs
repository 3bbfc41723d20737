//! Corrects the metrics of a SQLite store: each step is one transaction.

use crate::backfill::{CellContent, CellKey, Difference, LateCell, StoredCell, StoredCells};
use crate::error::{Error, Result};
use crate::kind::span::Span;
use crate::kind::{self, Kind};
use crate::store::correct::{
    Claim, Claimed, CorrectionCounts, CorrectionStep, Corrections, InFlight, LatePosition, Part, taken_over,
};
use crate::store::guard::ConflictReport;
use crate::store::sqlite::cell::real;
use crate::store::sqlite::failure::Failure;
use crate::store::sqlite::file::SqliteFile;
use crate::store::sqlite::schema::{self, WITH_CORRECTIONS, version};
use crate::store::sqlite::write::{Metrics, RunOfRows};
use crate::store::{Location, OpenOptions};
use crate::time::{EARLIEST, LATEST, format_instant, parse_instant};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

/// Opens the metrics of a store for a correction.
pub fn open(location: &Location, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
    let (file, db) = schema::open(location, &options.disk)?;
    Ok(Box::new(SqliteCorrections { file, db, options: options.clone(), id: String::new() }))
}

/// Opens the metrics of a store for a comparison; nothing is created, and no table is migrated.
pub fn open_to_compare(location: &Location) -> Result<Box<dyn Corrections>> {
    let file = SqliteFile::try_new(location)?;
    let db = if file.path().exists() { Some(file.connect_to_read()?) } else { None };
    let found = db.as_ref().map_or(Ok(None), |db| version(db, &file))?;
    Ok(Box::new(SqliteComparison { db: db.zip(found), file }))
}

/// The metrics of a store that is only compared.
struct SqliteComparison {
    file: SqliteFile,
    /// The database and the version of its tables; `None` if there are none.
    db: Option<(Connection, i64)>,
}

impl Corrections for SqliteComparison {
    fn claim(&mut self, _claim: &Claim) -> Result<Claimed> {
        Ok(Claimed::default())
    }

    fn late_cells(&mut self, metrics: &[String]) -> Result<Vec<LateCell>> {
        let Some((db, _)) = self.db.as_ref().filter(|(_, version)| *version >= WITH_CORRECTIONS) else {
            return Ok(vec![]);
        };
        late_cells(db, metrics).map_err(|failure| failure.into_error(&self.file))
    }

    fn late_position(&mut self, source: &str) -> Result<Option<LatePosition>> {
        let Some((db, _)) = self.db.as_ref().filter(|(_, version)| *version >= WITH_CORRECTIONS) else {
            return Ok(None);
        };
        late_position(db, source).map_err(|error| self.file.failed("cannot read", &error))
    }

    fn set_late_position(&mut self, _source: &str, _position: &LatePosition) -> Result<()> {
        Ok(())
    }

    fn compare(&mut self, step: &CorrectionStep<'_>) -> Result<Difference> {
        let stored = self.db.as_ref().map_or(Ok(StoredCells::default()), |(db, _)| stored(db, step));
        Ok(step.compare(&stored.map_err(|failure| failure.into_error(&self.file))?))
    }

    fn apply(&mut self, _step: &CorrectionStep<'_>) -> Result<Difference> {
        Err(Error::broken("a store that is only compared"))
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The metrics of a store that is corrected.
struct SqliteCorrections {
    file: SqliteFile,
    db: Connection,
    options: OpenOptions,
    /// The id of the correction.
    id: String,
}

impl SqliteCorrections {
    /// Runs `work` in a transaction.
    fn transact<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>) -> Result<T> {
        let Self { db, file, .. } = self;
        let failed = |e: rusqlite::Error| file.failed("cannot write", &e);
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let done = work(&tx).map_err(|failure| failure.into_error(file))?;
        tx.commit().map_err(failed)?;
        Ok(done)
    }

    fn now(&self) -> String {
        format_instant((self.options.clock)())
    }
}

impl Corrections for SqliteCorrections {
    fn claim(&mut self, claim: &Claim) -> Result<Claimed> {
        let (now, run, shown) = (self.now(), self.options.run.clone(), self.file.to_string());
        let claimed = self.transact(|tx| {
            let claimed = claim.judge(in_flight(tx)?, &shown)?;
            for id in &claimed.ended {
                let end = "UPDATE corrections SET state = 'ended', updated_at = ?2 WHERE id = ?1";
                tx.execute(end, params![id, now])?;
            }
            match &claimed.resumed {
                Some(resumed) => {
                    let resume = "UPDATE corrections SET run = ?2, updated_at = ?3 WHERE id = ?1";
                    tx.execute(resume, params![resumed.id, run, now])?;
                }
                None => {
                    let Claim { metrics, range, spec, who, host, reason, .. } = claim;
                    let metrics = serde_json::json!(metrics).to_string();
                    let (since, until) = (range.since.map(format_instant), range.until.map(format_instant));
                    let insert =
                        "INSERT INTO corrections (id, metrics, since, until, state, who, host, reason, spec, run,
                        started_at, updated_at) VALUES (?1, ?2, ?3, ?4, 'running', ?5, ?6, ?7, ?8, ?1, ?9, ?9)";
                    tx.execute(insert, params![run, metrics, since, until, who, host, reason, spec, now])?;
                }
            }
            Ok(claimed)
        })?;
        self.id = claimed.resumed.as_ref().map_or(run, |resumed| resumed.id.clone());
        Ok(claimed)
    }

    fn late_cells(&mut self, metrics: &[String]) -> Result<Vec<LateCell>> {
        late_cells(&self.db, metrics).map_err(|failure| failure.into_error(&self.file))
    }

    fn late_position(&mut self, source: &str) -> Result<Option<LatePosition>> {
        late_position(&self.db, source).map_err(|error| self.file.failed("cannot read", &error))
    }

    fn set_late_position(&mut self, source: &str, position: &LatePosition) -> Result<()> {
        let (now, next) = (self.now(), position.next.cast_signed());
        self.transact(|tx| {
            let put = "INSERT INTO late_positions VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT DO UPDATE SET \"rows\" = excluded.\"rows\", last = excluded.last, updated_at = excluded.updated_at";
            tx.execute(put, params![source, next, position.last, now])?;
            Ok(())
        })
    }

    fn compare(&mut self, step: &CorrectionStep<'_>) -> Result<Difference> {
        let stored = stored(&self.db, step).map_err(|failure| failure.into_error(&self.file))?;
        Ok(step.compare(&stored))
    }

    fn apply(&mut self, step: &CorrectionStep<'_>) -> Result<Difference> {
        let (now, id, run) = (self.now(), self.id.clone(), self.options.run.clone());
        self.transact(|tx| {
            let difference = step.compare(&stored(tx, step)?);
            write(tx, &run, &difference)?;
            keep_late(tx, step, &difference, &id)?;
            let mut counts = CorrectionCounts::default();
            counts.add(&difference);
            let progress = format_instant(step.progress.clamp(EARLIEST, LATEST));
            let owned = tx.execute(
                "UPDATE corrections SET progress = ?3, updated_at = ?4, inserted = inserted + ?5, corrected = corrected + ?6,
                     retracted = retracted + ?7, unchanged = unchanged + ?8
                 WHERE id = ?1 AND run = ?2 AND state = 'running'",
                params![
                    id,
                    run,
                    progress,
                    now,
                    counts.inserted.cast_signed(),
                    counts.corrected.cast_signed(),
                    counts.retracted.cast_signed(),
                    counts.unchanged.cast_signed()
                ],
            )?;
            if owned == 0 {
                return Err(taken_over(&id).into());
            }
            Ok(difference)
        })
    }

    fn finish(&mut self) -> Result<()> {
        let (now, id, run) = (self.now(), self.id.clone(), self.options.run.clone());
        self.transact(|tx| {
            let done = "UPDATE corrections SET state = 'done', updated_at = ?3
                WHERE id = ?1 AND run = ?2 AND state = 'running'";
            match tx.execute(done, params![id, run, now])? {
                0 => Err(taken_over(&id).into()),
                _ => Ok(()),
            }
        })?;
        let failed = |e: rusqlite::Error| self.file.failed("cannot sync", &e);
        self.db.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(())).map_err(failed)
    }
}

/// Writes the changes like rows of metrics, so that a stored row of a greater version stays.
fn write(tx: &Transaction<'_>, run: &str, difference: &Difference) -> Result<(), Failure> {
    let (mut rows, mut overlap, mut retracts) = (kind::metric::Builder::default(), ConflictReport::default(), false);
    for change in &difference.changes {
        rows.push(&change.row())?;
    }
    if rows.is_empty() {
        return Ok(());
    }
    let batch = rows.finish(Kind::Metric.schema())?;
    let mut counts = Default::default();
    let run = RunOfRows { name: run, is_at_once: false };
    let rejected = Metrics::new(tx, run, &mut overlap, &mut retracts)?.write(&batch, &mut counts)?;
    // A correction is complete or not made at all.
    rejected.into_iter().next().map_or(Ok(()), |one| Err(Failure::Rejected(one.fault.message)))
}

/// Keeps the cells that count late events, and removes those that no longer do. A later run reads the late events of
/// these again.
fn keep_late(
    tx: &Transaction<'_>,
    step: &CorrectionStep<'_>,
    difference: &Difference,
    id: &str,
) -> Result<(), Failure> {
    let mut put = tx.prepare_cached(
        "INSERT INTO corrected_cells VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET late_until = excluded.late_until, correction = excluded.correction",
    )?;
    for LateCell { key, late_until } in &step.late {
        let (start, end) = (format_instant(key.start), format_instant(key.end));
        put.execute(params![&*key.metric, start, end, key.dimensions, format_instant(*late_until), id])?;
    }
    let mut delete = tx.prepare_cached(
        "DELETE FROM corrected_cells WHERE metric_name = ?1 AND window_start = ?2 AND window_end = ?3 AND dimensions = ?4",
    )?;
    let mut is_any = false;
    for key in step.released(difference) {
        delete.execute(params![&*key.metric, format_instant(key.start), format_instant(key.end), key.dimensions])?;
        is_any = true;
    }
    if is_any {
        tx.execute("DELETE FROM late_positions", [])?;
    }
    Ok(())
}

/// Returns the corrections in flight.
fn in_flight(db: &Connection) -> Result<Vec<InFlight>, Failure> {
    let sql = "SELECT id, metrics, since, until, spec, who, host, started_at, progress FROM corrections
        WHERE state = 'running' ORDER BY started_at, id";
    let mut select = db.prepare(sql)?;
    let mut rows = select.query([])?;
    let mut found = vec![];
    while let Some(row) = rows.next()? {
        let optional = |index: usize| -> Result<Option<i64>, Failure> {
            let text: Option<String> = row.get(index)?;
            text.map(|text| instant(&text)).transpose()
        };
        let metrics: String = row.get(1)?;
        let metrics = serde_json::from_str(&metrics).map_err(|_| foreign("metrics"))?;
        let (who, host, at): (String, String, String) = (row.get(5)?, row.get(6)?, row.get(7)?);
        found.push(InFlight {
            id: row.get(0)?,
            metrics,
            range: Span { since: optional(2)?, until: optional(3)? },
            spec: row.get(4)?,
            by: format!("{who} on {host} since {at}"),
            progress: optional(8)?,
        });
    }
    Ok(found)
}

/// Returns the stored cells of a step.
fn stored(db: &Connection, step: &CorrectionStep<'_>) -> Result<StoredCells, Failure> {
    let mut select = db.prepare_cached(
        r#"SELECT window_start, window_end, dimensions, value, "rows", revision FROM aggregated_metrics
           WHERE metric_name = ?1 AND window_start >= ?2 AND window_start <= ?4 AND window_end > ?3 AND window_end <= ?4"#,
    )?;
    let mut found = StoredCells::default();
    for Part { metric, after, to, since } in &step.parts {
        let mut rows = select.query(params![metric, bound(*since), bound(*after), bound(*to)])?;
        while let Some(row) = rows.next()? {
            let key = CellKey {
                start: instant_of(row, 0)?,
                end: instant_of(row, 1)?,
                metric: metric.as_str().into(),
                dimensions: row.get(2)?,
            };
            if found.takes((step.covers)(&key)) {
                let content = CellContent { value: real(row.get_ref(3)?), rows: row.get(4)? };
                found.cells.insert(key, StoredCell { content, revision: row.get(5)? });
            }
        }
    }
    Ok(found)
}

/// Returns the cells of `metrics` that count late events.
fn late_cells(db: &Connection, metrics: &[String]) -> Result<Vec<LateCell>, Failure> {
    let mut select = db.prepare(
        "SELECT window_start, window_end, dimensions, late_until FROM corrected_cells WHERE metric_name = ?1",
    )?;
    let mut found = vec![];
    for metric in metrics {
        let mut rows = select.query([metric])?;
        while let Some(row) = rows.next()? {
            let (start, end) = (instant_of(row, 0)?, instant_of(row, 1)?);
            let key = CellKey { start, end, metric: metric.as_str().into(), dimensions: row.get(2)? };
            found.push(LateCell { key, late_until: instant_of(row, 3)? });
        }
    }
    Ok(found)
}

fn late_position(db: &Connection, source: &str) -> rusqlite::Result<Option<LatePosition>> {
    let sql = "SELECT \"rows\", last FROM late_positions WHERE source = ?1";
    let position = |row: &Row<'_>| Ok(LatePosition { next: row.get::<_, i64>(0)?.cast_unsigned(), last: row.get(1)? });
    db.query_row(sql, [source], position).optional()
}

/// Returns the text that compares with stored instants as the instant does, also outside the calendar.
fn bound(micros: i64) -> String {
    match micros {
        ..EARLIEST => String::new(),
        EARLIEST..=LATEST => format_instant(micros),
        _ => "~".to_owned(),
    }
}

fn instant_of(row: &Row<'_>, index: usize) -> Result<i64, Failure> {
    instant(row.get_ref(index)?.as_str().map_err(|_| foreign("instant"))?)
}

fn instant(text: &str) -> Result<i64, Failure> {
    parse_instant(text).ok_or_else(|| foreign("instant").into())
}

fn foreign(column: &str) -> Error {
    Error::corrupt(format!("the tables of corrections have a value evt did not write ({column})"))
}
