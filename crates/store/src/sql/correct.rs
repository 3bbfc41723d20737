//! Corrects the metrics of a database: each step is one transaction, which locks the stored rows that it compares.

use super::{SqlConnection, SqlDatabase, SqlRow, SqlValue, list, progress};
use crate::OpenOptions;
use crate::correct::{
    Claim, Claimed, CorrectionCounts, CorrectionStep, Corrections, InFlight, LatePosition, Part, taken_over,
};
use crate::progress::KeptProgress;
use evt_core::backfill::{CellContent, CellKey, Difference, LateCell, StoredCell, StoredCells};
use evt_core::error::{Error, Result};
use evt_core::kind::span::Span;
use evt_core::kind::{Kind, metric};
use evt_core::time::{EARLIEST, LATEST, format_instant};

/// The metrics of a database, open for a correction or for a comparison.
pub struct SqlCorrections<D> {
    database: D,
    options: OpenOptions,
    /// Whether there is a table of metrics. A comparison creates none.
    has_metrics: bool,
    /// Whether there are the tables of corrections.
    has_corrections: bool,
    /// The id of the correction.
    id: String,
}

impl<D: SqlDatabase + 'static> SqlCorrections<D> {
    /// Takes the metrics of a database.
    pub fn open(mut database: D, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
        let [has_metrics, has_corrections] = [Kind::Metric.table(), "corrected_cells"]
            .map(|name| database.read(|connection| connection.has_table(name)));
        Ok(Box::new(Self {
            database,
            options: options.clone(),
            has_metrics: has_metrics?,
            has_corrections: has_corrections?,
            id: String::new(),
        }))
    }

    fn now(&self) -> String {
        format_instant((self.options.clock)())
    }
}

impl<D: SqlDatabase + 'static> Corrections for SqlCorrections<D> {
    fn claim(&mut self, claim: &Claim) -> Result<Claimed> {
        let (now, run, shown) = (&self.now(), &self.options.run, self.database.shown());
        let claimed = self.database.write(|tx| {
            tx.lock_corrections()?;
            let claimed = claim.judge(in_flight(tx)?, &shown)?;
            for id in &claimed.ended {
                let end = "UPDATE corrections SET state = 'ended', updated_at = $2 WHERE id = $1";
                tx.execute(end, &[id.into(), now.into()])?;
            }
            if let Some(resumed) = &claimed.resumed {
                let resume = "UPDATE corrections SET run = $2, updated_at = $3 WHERE id = $1";
                tx.execute(resume, &[(&resumed.id).into(), run.into(), now.into()])?;
                return Ok(claimed);
            }
            let insert = "INSERT INTO corrections (id, metrics, since, until, state, who, host, reason, spec, run,
                    started_at, updated_at)
                VALUES ($1, $2, $3, $4, 'running', $5, $6, $7, $8, $1, $9, $9)";
            let Claim { metrics, range, spec, who, host, reason, .. } = claim;
            let [since, until] = [range.since, range.until].map(|bound| bound.map(format_instant).into());
            let (who, host, reason, spec) = (who.into(), host.into(), reason.as_ref().into(), spec.into());
            tx.execute(insert, &[run.into(), list(metrics), since, until, who, host, reason, spec, now.into()])?;
            Ok(claimed)
        })?;
        self.id = claimed.resumed.as_ref().map_or(run, |resumed| &resumed.id).clone();
        Ok(claimed)
    }

    fn metric_progress(&mut self, metrics: &[String]) -> Result<Vec<KeptProgress>> {
        self.database.read(|connection| progress::kept(connection, metrics))
    }

    fn late_cells(&mut self, metrics: &[String]) -> Result<Vec<LateCell>> {
        if !self.has_corrections {
            return Ok(vec![]);
        }
        self.database.read(|connection| {
            let sql =
                "SELECT window_start, window_end, dimensions, late_until FROM corrected_cells WHERE metric_name = $1";
            let mut found = vec![];
            for metric in metrics {
                for row in connection.query(sql, &[metric.into()])? {
                    found.push(LateCell { key: key(metric, &row)?, late_until: instant(&row, 3)? });
                }
            }
            Ok(found)
        })
    }

    fn late_position(&mut self, source: &str) -> Result<Option<LatePosition>> {
        if !self.has_corrections {
            return Ok(None);
        }
        self.database.read(|connection| {
            let sql = "SELECT \"rows\", last FROM late_positions WHERE source = $1";
            let rows = connection.query(sql, &[source.into()])?;
            let Some(row) = rows.first() else { return Ok(None) };
            Ok(Some(LatePosition { next: long(row, 0)?.cast_unsigned(), last: text(row, 1)? }))
        })
    }

    fn compare(&mut self, step: &CorrectionStep<'_>) -> Result<Difference> {
        if !self.has_metrics {
            return Ok(step.compare(&StoredCells::default()));
        }
        self.database.read(|connection| Ok(step.compare(&stored(connection, step, "")?)))
    }

    fn apply(&mut self, step: &CorrectionStep<'_>) -> Result<Difference> {
        let (now, id, options) = (&self.now(), &self.id, &self.options);
        self.database.write(|tx| {
            let difference = step.compare(&stored(tx, step, D::Connection::LOCK_ROWS)?);
            write(tx, options, &difference)?;
            keep_late(tx, step, &difference, id)?;
            let mut counts = CorrectionCounts::default();
            counts.add(&difference);
            let CorrectionCounts { inserted, corrected, retracted, unchanged, .. } = counts;
            let [inserted, corrected, retracted, unchanged] =
                [inserted, corrected, retracted, unchanged].map(|count| count.cast_signed().into());
            let progress = &format_instant(step.progress_after(&difference).clamp(EARLIEST, LATEST));
            let update = "UPDATE corrections SET progress = $3, updated_at = $4, inserted = inserted + $5,
                    corrected = corrected + $6, retracted = retracted + $7, unchanged = unchanged + $8
                WHERE id = $1 AND run = $2 AND state = 'running'";
            let (id_of, run, progress, now) = (id.into(), (&options.run).into(), progress.into(), now.into());
            match tx.execute(update, &[id_of, run, progress, now, inserted, corrected, retracted, unchanged])? {
                0 => Err(taken_over(id).into()),
                _ => Ok(difference),
            }
        })
    }

    fn finish(&mut self, positions: &[(String, LatePosition)]) -> Result<()> {
        let (now, id, run) = (&self.now(), &self.id, &self.options.run);
        let put = "INSERT INTO late_positions VALUES ($1, $2, $3, $4)
            ON CONFLICT (source) DO UPDATE
            SET \"rows\" = excluded.\"rows\", last = excluded.last, updated_at = excluded.updated_at";
        self.database.write(|tx| {
            for (source, LatePosition { next, last }) in positions {
                tx.execute(put, &[source.into(), next.cast_signed().into(), last.into(), now.into()])?;
            }
            tx.forget_retractions(run)?;
            let done = "UPDATE corrections SET state = 'done', updated_at = $3
                WHERE id = $1 AND run = $2 AND state = 'running'";
            match tx.execute(done, &[id.into(), run.into(), now.into()])? {
                0 => Err(taken_over(id).into()),
                _ => Ok(()),
            }
        })?;
        self.database.sync()
    }
}

/// Writes the changes like rows of metrics, so that a stored row of a greater version stays.
fn write<C: SqlConnection>(tx: &C, options: &OpenOptions, difference: &Difference) -> Result<(), C::Failure> {
    let mut rows = metric::Builder::default();
    for change in &difference.changes {
        rows.push(&change.row())?;
    }
    if rows.is_empty() { Ok(()) } else { tx.write_metrics(&rows.finish(Kind::Metric.schema())?, options) }
}

/// Keeps the cells that count late events, and removes those that no longer do. A later run reads the late events of
/// these again.
fn keep_late<C: SqlConnection>(
    tx: &C,
    step: &CorrectionStep<'_>,
    difference: &Difference,
    id: &str,
) -> Result<(), C::Failure> {
    let values = |key: &CellKey| -> [SqlValue; 4] {
        let [start, end] = [key.start, key.end].map(format_instant);
        [&*key.metric, &start, &end, &key.dimensions].map(SqlValue::from)
    };
    let put = "INSERT INTO corrected_cells VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (metric_name, window_start, window_end, dimensions)
        DO UPDATE SET late_until = excluded.late_until, correction = excluded.correction";
    for LateCell { key, late_until } in &step.late {
        let more = [(&format_instant(*late_until)).into(), id.into()];
        tx.execute(put, &[&values(key)[..], &more].concat())?;
    }
    let delete = "DELETE FROM corrected_cells
        WHERE metric_name = $1 AND window_start = $2 AND window_end = $3 AND dimensions = $4";
    let mut is_any = false;
    for key in step.released(difference) {
        tx.execute(delete, &values(key))?;
        is_any = true;
    }
    if is_any {
        tx.execute("DELETE FROM late_positions", &[])?;
    }
    Ok(())
}

/// Returns the corrections in flight.
pub fn in_flight<C: SqlConnection>(tx: &C) -> Result<Vec<InFlight>, C::Failure> {
    let sql = "SELECT id, CAST(metrics AS TEXT), since, until, spec, who, host, started_at, progress FROM corrections
        WHERE state = 'running' ORDER BY started_at, id";
    let in_flight = |row: SqlRow| -> Result<InFlight> {
        let optional = |column: usize| (row.0[column] != SqlValue::Null).then(|| instant(&row, column)).transpose();
        let at = format_instant(instant(&row, 7)?);
        Ok(InFlight {
            id: text(&row, 0)?,
            metrics: serde_json::from_str(&text(&row, 1)?).map_err(|_| foreign("metrics"))?,
            range: Span { since: optional(2)?, until: optional(3)? },
            spec: text(&row, 4)?,
            by: format!("{} on {} since {at}", text(&row, 5)?, text(&row, 6)?),
            progress: optional(8)?,
        })
    };
    Ok(tx.query(sql, &[])?.into_iter().map(in_flight).collect::<Result<_>>()?)
}

/// Returns the stored cells of a step; `lock` is the end of the statement.
fn stored<C: SqlConnection>(connection: &C, step: &CorrectionStep<'_>, lock: &str) -> Result<StoredCells, C::Failure> {
    let sql = format!(
        r#"SELECT window_start, window_end, dimensions, value, "rows", revision FROM aggregated_metrics
           WHERE metric_name = $1 AND window_start >= $2 AND window_start <= $4 AND window_end > $3 AND window_end <= $4{lock}"#
    );
    let mut found = StoredCells::default();
    for Part { metric, after, to, since } in &step.parts {
        let [since, after, to] = [since, after, to].map(|instant| (&bound(*instant)).into());
        for row in connection.query(&sql, &[metric.into(), since, after, to])? {
            let key = key(metric, &row)?;
            if found.takes((step.covers)(&key)) {
                let content = CellContent { value: row.real(3), rows: long(&row, 4)? };
                let revision = i32::try_from(long(&row, 5)?).map_err(|_| foreign("revision"))?;
                found.cells.insert(key, StoredCell { content, revision });
            }
        }
    }
    Ok(found)
}

/// Makes the key of a row that begins with start, end and dimensions.
fn key(metric: &str, row: &SqlRow) -> Result<CellKey> {
    Ok(CellKey { start: instant(row, 0)?, end: instant(row, 1)?, metric: metric.into(), dimensions: text(row, 2)? })
}

/// Formats an instant for a comparison with stored ones, which works also outside the calendar: as text, too, the
/// infinite ones are before and after all others.
fn bound(micros: i64) -> String {
    match micros {
        ..EARLIEST => "-infinity".to_owned(),
        EARLIEST..=LATEST => format_instant(micros),
        _ => "infinity".to_owned(),
    }
}

fn text(row: &SqlRow, column: usize) -> Result<String> {
    row.text(column).map(str::to_owned).ok_or_else(|| foreign("text"))
}

fn long(row: &SqlRow, column: usize) -> Result<i64> {
    row.long(column).ok_or_else(|| foreign("number"))
}

fn instant(row: &SqlRow, column: usize) -> Result<i64> {
    row.instant(column).ok_or_else(|| foreign("instant"))
}

fn foreign(column: &str) -> Error {
    Error::corrupt(format!("the tables of corrections have a value evt did not write ({column})"))
}
