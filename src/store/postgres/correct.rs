//! Corrects the metrics of a Postgres store: each step is one transaction, which locks the stored rows that it
//! compares.

use crate::backfill::{CellContent, CellKey, Difference, LateCell, StoredCell, StoredCells};
use crate::error::{Error, ErrorKind, Result};
use crate::expr::canonical_dimensions;
use crate::kind::span::Span;
use crate::kind::{self, Kind};
use crate::store::correct::{
    Claim, Claimed, CorrectionCounts, CorrectionStep, Corrections, InFlight, LatePosition, Part, taken_over,
};
use crate::store::postgres::link::{Failure, Link, PostgresServer};
use crate::store::postgres::metric::{self, MetricBatch, Writer};
use crate::store::postgres::schema;
use crate::store::postgres::session::{PostgresSession, persist};
use crate::store::{Location, OpenOptions};
use crate::time::{EARLIEST, LATEST, format_instant};
use tokio_postgres::Row;

/// The migration that creates the tables of corrections.
const TABLES: &str = "008_corrections";

/// Opens the metrics of a store for a correction.
pub fn open(location: &Location, options: &OpenOptions) -> Result<Box<dyn Corrections>> {
    let mut session = PostgresSession::new(location, options)?.at_start();
    session.with_link(|_| Ok(()))?;
    Ok(Box::new(PostgresCorrections { session, options: options.clone(), id: String::new() }))
}

/// Opens the metrics of a store for a comparison; nothing is created, and no table is migrated.
pub fn open_to_compare(location: &Location) -> Result<Box<dyn Corrections>> {
    let server = PostgresServer::try_new(location)?;
    let mut link = server.connect().map_err(|trouble| server.failed(trouble))?;
    let pending = link.run(schema::pending).map_err(|failure| server.failed(failure))?;
    let is_pending = |name: &str| pending.iter().any(|step| step.name == name);
    let (has_metrics, has_corrections) = (!is_pending("001_metrics"), !is_pending(TABLES));
    Ok(Box::new(PostgresComparison { server, link, has_metrics, has_corrections }))
}

/// The metrics of a store that is only compared.
struct PostgresComparison {
    server: PostgresServer,
    link: Link,
    has_metrics: bool,
    has_corrections: bool,
}

impl Corrections for PostgresComparison {
    fn claim(&mut self, _claim: &Claim) -> Result<Claimed> {
        Ok(Claimed::default())
    }

    fn late_cells(&mut self, metrics: &[String]) -> Result<Vec<LateCell>> {
        if !self.has_corrections {
            return Ok(vec![]);
        }
        let found = self.link.run(async |link| late_cells(link, metrics).await);
        found.map_err(|failure| self.server.failed(failure))
    }

    fn late_position(&mut self, source: &str) -> Result<Option<LatePosition>> {
        if !self.has_corrections {
            return Ok(None);
        }
        let found = self.link.run(async |link| late_position(link, source).await);
        found.map_err(|failure| self.server.failed(failure))
    }

    fn set_late_position(&mut self, _source: &str, _position: &LatePosition) -> Result<()> {
        Ok(())
    }

    fn compare(&mut self, step: &CorrectionStep<'_>) -> Result<Difference> {
        if !self.has_metrics {
            return Ok(step.compare(&StoredCells::default()));
        }
        let stored = self.link.run(async |link| stored(link, step, "").await);
        Ok(step.compare(&stored.map_err(|failure| self.server.failed(failure))?))
    }

    fn apply(&mut self, _step: &CorrectionStep<'_>) -> Result<Difference> {
        Err(Error::broken("a store that is only compared"))
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The metrics of a store that is corrected.
struct PostgresCorrections {
    session: PostgresSession,
    options: OpenOptions,
    /// The id of the correction.
    id: String,
}

impl PostgresCorrections {
    /// Runs `work` in a transaction, and again on a new connection if the connection is lost.
    fn transact<T>(&mut self, work: impl AsyncFn(&Link) -> Result<T, Failure>) -> Result<T> {
        let shown = self.session.server.shown.clone();
        let done = self.session.with_link(|link| persist(link, &work))?;
        done.map_err(|cause| Error::new(ErrorKind::Io, format!("{shown}: cannot correct")).because(cause))
    }

    fn now(&self) -> String {
        format_instant((self.options.clock)())
    }
}

impl Corrections for PostgresCorrections {
    fn claim(&mut self, claim: &Claim) -> Result<Claimed> {
        let (now, run, shown) = (self.now(), self.options.run.clone(), self.session.server.shown.clone());
        let claimed = self.transact(async |link| {
            link.client.batch_execute("LOCK TABLE corrections IN SHARE ROW EXCLUSIVE MODE").await?;
            let claimed = claim.judge(in_flight(link).await?, &shown)?;
            for id in &claimed.ended {
                let end = "UPDATE corrections SET state = 'ended', updated_at = $2::TEXT::TIMESTAMPTZ WHERE id = $1";
                link.client.execute(end, &[id, &now]).await?;
            }
            match &claimed.resumed {
                Some(resumed) => {
                    let resume =
                        "UPDATE corrections SET run = $2, updated_at = $3::TEXT::TIMESTAMPTZ WHERE id = $1";
                    link.client.execute(resume, &[&resumed.id, &run, &now]).await?;
                }
                None => {
                    let Claim { metrics, range, spec, who, host, reason, .. } = claim;
                    let metrics = serde_json::json!(metrics).to_string();
                    let (since, until) = (range.since.map(format_instant), range.until.map(format_instant));
                    let insert = "INSERT INTO corrections (id, metrics, since, until, state, who, host, reason, spec, run,
                            started_at, updated_at)
                        VALUES ($1, $2::TEXT::JSONB, $3::TEXT::TIMESTAMPTZ, $4::TEXT::TIMESTAMPTZ, 'running', $5, $6, $7, $8,
                            $1, $9::TEXT::TIMESTAMPTZ, $9::TEXT::TIMESTAMPTZ)";
                    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 9] =
                        [&run, &metrics, &since, &until, who, host, reason, spec, &now];
                    link.client.execute(insert, &values).await?;
                }
            }
            Ok(claimed)
        })?;
        self.id = claimed.resumed.as_ref().map_or(run, |resumed| resumed.id.clone());
        Ok(claimed)
    }

    fn late_cells(&mut self, metrics: &[String]) -> Result<Vec<LateCell>> {
        self.transact(async |link| late_cells(link, metrics).await)
    }

    fn late_position(&mut self, source: &str) -> Result<Option<LatePosition>> {
        self.transact(async |link| late_position(link, source).await)
    }

    fn set_late_position(&mut self, source: &str, position: &LatePosition) -> Result<()> {
        let (now, next) = (self.now(), position.next.cast_signed());
        self.transact(async |link| {
            let put = "INSERT INTO late_positions VALUES ($1, $2, $3, $4::TEXT::TIMESTAMPTZ)
                ON CONFLICT (source) DO UPDATE SET \"rows\" = excluded.\"rows\", last = excluded.last,
                    updated_at = excluded.updated_at";
            link.client.execute(put, &[&source, &next, &position.last, &now]).await?;
            Ok(())
        })
    }

    fn compare(&mut self, step: &CorrectionStep<'_>) -> Result<Difference> {
        self.transact(async |link| Ok(step.compare(&stored(link, step, "").await?)))
    }

    fn apply(&mut self, step: &CorrectionStep<'_>) -> Result<Difference> {
        let (now, id, run) = (self.now(), self.id.clone(), self.options.run.clone());
        let micros = (self.options.clock)();
        self.transact(async |link| {
            let difference = step.compare(&stored(link, step, "FOR UPDATE").await?);
            write(link, &Writer { run: &run, now: micros, retracts: false, is_at_once: false }, &difference).await?;
            keep_late(link, step, &difference, &id).await?;
            let mut counts = CorrectionCounts::default();
            counts.add(&difference);
            let progress = format_instant(step.progress.clamp(EARLIEST, LATEST));
            let CorrectionCounts { inserted, corrected, retracted, unchanged, .. } = counts;
            let update = "UPDATE corrections SET progress = $3::TEXT::TIMESTAMPTZ, updated_at = $4::TEXT::TIMESTAMPTZ,
                    inserted = inserted + $5, corrected = corrected + $6, retracted = retracted + $7, unchanged = unchanged + $8
                WHERE id = $1 AND run = $2 AND state = 'running'";
            let counts = [inserted, corrected, retracted, unchanged].map(u64::cast_signed);
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
                [&id, &run, &progress, &now, &counts[0], &counts[1], &counts[2], &counts[3]];
            match link.client.execute(update, &values).await? {
                0 => Err(taken_over(&id).into()),
                _ => Ok(difference),
            }
        })
    }

    fn finish(&mut self) -> Result<()> {
        let (now, id, run) = (self.now(), self.id.clone(), self.options.run.clone());
        self.transact(async |link| {
            let done = "UPDATE corrections SET state = 'done', updated_at = $3::TEXT::TIMESTAMPTZ
                WHERE id = $1 AND run = $2 AND state = 'running'";
            link.client.execute(metric::FORGET, &[&run]).await?;
            match link.client.execute(done, &[&id, &run, &now]).await? {
                0 => Err(taken_over(&id).into()),
                _ => Ok(()),
            }
        })
    }
}

/// Writes the changes like rows of metrics, so that a stored row of a greater version stays.
async fn write(link: &Link, writer: &Writer<'_>, difference: &Difference) -> Result<(), Failure> {
    let mut rows = kind::metric::Builder::default();
    for change in &difference.changes {
        rows.push(&change.row())?;
    }
    if rows.is_empty() {
        return Ok(());
    }
    let batch = rows.finish(Kind::Metric.schema())?;
    metric::write(link, &MetricBatch::try_new(&batch)?, writer).await?;
    Ok(())
}

/// Keeps the cells that count late events, and removes those that no longer do.
async fn keep_late(link: &Link, step: &CorrectionStep<'_>, difference: &Difference, id: &str) -> Result<(), Failure> {
    let put = "INSERT INTO corrected_cells
        VALUES ($1, $2::TEXT::TIMESTAMPTZ, $3::TEXT::TIMESTAMPTZ, $4::TEXT::JSONB, $5::TEXT::TIMESTAMPTZ, $6)
        ON CONFLICT (metric_name, window_start, window_end, dimensions)
        DO UPDATE SET late_until = excluded.late_until, correction = excluded.correction";
    for LateCell { key, late_until } in &step.late {
        let put = link.prepare(put).await?;
        let (start, end) = (format_instant(key.start), format_instant(key.end));
        let late_until = format_instant(*late_until);
        link.client.execute(&put, &[&&*key.metric, &start, &end, &key.dimensions, &late_until, &id]).await?;
    }
    let delete = "DELETE FROM corrected_cells WHERE metric_name = $1 AND window_start = $2::TEXT::TIMESTAMPTZ
        AND window_end = $3::TEXT::TIMESTAMPTZ AND dimensions = $4::TEXT::JSONB";
    let mut is_any = false;
    for key in step.released(difference) {
        let delete = link.prepare(delete).await?;
        let (start, end) = (format_instant(key.start), format_instant(key.end));
        link.client.execute(&delete, &[&&*key.metric, &start, &end, &key.dimensions]).await?;
        is_any = true;
    }
    if is_any {
        link.client.execute("DELETE FROM late_positions", &[]).await?;
    }
    Ok(())
}

/// Returns an SQL expression for the microseconds of an instant.
fn micros(column: &str) -> String {
    format!("(extract(epoch FROM {column}) * 1000000)::BIGINT")
}

/// Returns the corrections in flight.
async fn in_flight(link: &Link) -> Result<Vec<InFlight>, Failure> {
    let (since, until, progress) = (micros("since"), micros("until"), micros("progress"));
    let sql = format!(
        "SELECT id, metrics::TEXT, {since}, {until}, spec, who, host, {}, {progress} FROM corrections
         WHERE state = 'running' ORDER BY started_at, id",
        micros("started_at")
    );
    let mut found = vec![];
    for row in link.client.query(&sql, &[]).await? {
        let metrics: String = row.try_get(1)?;
        let metrics = serde_json::from_str(&metrics).map_err(|_| foreign("metrics"))?;
        let (who, host, at): (String, String, i64) = (row.try_get(5)?, row.try_get(6)?, row.try_get(7)?);
        found.push(InFlight {
            id: row.try_get(0)?,
            metrics,
            range: Span { since: row.try_get(2)?, until: row.try_get(3)? },
            spec: row.try_get(4)?,
            by: format!("{who} on {host} since {}", format_instant(at)),
            progress: row.try_get(8)?,
        });
    }
    Ok(found)
}

/// Returns the stored cells of a step; `lock` is the end of the statement.
async fn stored(link: &Link, step: &CorrectionStep<'_>, lock: &str) -> Result<StoredCells, Failure> {
    let sql = format!(
        r#"SELECT {}, {}, dimensions::TEXT, value, "rows", revision FROM aggregated_metrics
           WHERE metric_name = $1 AND window_start >= $2::TEXT::TIMESTAMPTZ AND window_start <= $4::TEXT::TIMESTAMPTZ
               AND window_end > $3::TEXT::TIMESTAMPTZ AND window_end <= $4::TEXT::TIMESTAMPTZ {lock}"#,
        micros("window_start"),
        micros("window_end")
    );
    let mut found = StoredCells::default();
    for Part { metric, after, to, since } in &step.parts {
        let select = link.prepare(&sql).await?;
        for row in link.client.query(&select, &[metric, &bound(*since), &bound(*after), &bound(*to)]).await? {
            let key = key(metric, &row)?;
            if found.takes((step.covers)(&key)) {
                let content = CellContent { value: row.try_get(3)?, rows: row.try_get(4)? };
                found.cells.insert(key, StoredCell { content, revision: row.try_get(5)? });
            }
        }
    }
    Ok(found)
}

/// Makes the key of a row that begins with start, end and dimensions.
fn key(metric: &str, row: &Row) -> Result<CellKey, Failure> {
    let dimensions: &str = row.try_get(2)?;
    let dimensions = canonical_dimensions(dimensions).ok_or_else(|| foreign("dimensions"))?;
    Ok(CellKey { start: row.try_get(0)?, end: row.try_get(1)?, metric: metric.into(), dimensions })
}

/// Returns the cells of `metrics` that count late events.
async fn late_cells(link: &Link, metrics: &[String]) -> Result<Vec<LateCell>, Failure> {
    let sql = format!(
        "SELECT {}, {}, dimensions::TEXT, {} FROM corrected_cells WHERE metric_name = $1",
        micros("window_start"),
        micros("window_end"),
        micros("late_until")
    );
    let mut found = vec![];
    for metric in metrics {
        for row in link.client.query(&sql, &[metric]).await? {
            found.push(LateCell { key: key(metric, &row)?, late_until: row.try_get(3)? });
        }
    }
    Ok(found)
}

async fn late_position(link: &Link, source: &str) -> Result<Option<LatePosition>, Failure> {
    let sql = "SELECT \"rows\", last FROM late_positions WHERE source = $1";
    let Some(row) = link.client.query_opt(sql, &[&source]).await? else { return Ok(None) };
    Ok(Some(LatePosition { next: row.try_get::<_, i64>(0)?.cast_unsigned(), last: row.try_get(1)? }))
}

/// Formats an instant for PostgreSQL; `infinity` or `-infinity` if it is outside the calendar.
fn bound(micros: i64) -> String {
    match micros {
        ..EARLIEST => "-infinity".to_owned(),
        EARLIEST..=LATEST => format_instant(micros),
        _ => "infinity".to_owned(),
    }
}

fn foreign(column: &str) -> Error {
    Error::corrupt(format!("the tables of corrections have a value evt did not write ({column})"))
}
