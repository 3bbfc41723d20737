//! `postgres://HOST/DATABASE`: one table per kind, rows visible as they are written, guarded by their keys.
//!
//! As in SQLite every row is guarded, so a replay converges, and each piece of a batch is one transaction; an epoch records
//! itself in `pipeline_checkpoints`. If a connection is lost the outcome of its transaction is unknown: it is repeated on a new
//! connection, which changes nothing if it had been committed (such rows are counted as `unchanged`).
//!
//! A batch with a value that PostgreSQL cannot hold is halved until the row is found, which is refused: whatever the server's
//! reason, one row does not stop the others.
//!
//! Durability depends on the server: a transaction is acknowledged once it is on disk, unless `synchronous_commit` says
//! otherwise.
//!
//! `link` is the connection, `session` reconnects, `schema` migrates the tables, `cell` converts values, `write` writes
//! rows and `metric` those of metrics, `read` reads them back, `correct` corrects metrics.

mod cell;
mod correct;
pub mod ledger;
mod link;
mod metric;
mod read;
pub mod rules;
mod schema;
mod session;
mod write;

use crate::counts::SinkCounts;
use crate::error::Result;
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault, Rejected};
use crate::store::guard::Overlap;
use crate::store::postgres::link::{Failure, Link, OPTIONS, PostgresServer};
use crate::store::postgres::metric::{MetricBatch, Writer, WrittenMetrics};
use crate::store::postgres::read as postgres_read;
use crate::store::postgres::schema as postgres_schema;
use crate::store::postgres::session::{Session, held, persist};
use crate::store::postgres::write::{holdable_letters, insert_new, insert_once, unholdable};
use crate::store::repeat::Conflicts;
use crate::store::rows::FitRows;
use crate::store::{CorrectionStore, Epoch, Location, OpenOptions, Sink, SinkOutcome, Store, StoreReader};
use arrow::array::RecordBatch;

/// The row in [`super::ALL`].
pub static STORE: Store = Store {
    scheme: "postgres",
    also: &["postgresql"],
    about: "postgres://HOST/DATABASE: tables, rows visible at once, guarded by their keys",
    options: &OPTIONS,
    kinds: &Kind::ALL,
    is_remote: true,
    acknowledges: true,
    replaces: |_| false,
    check,
    open: |location, options| Ok(Box::new(Postgres::open(location, options)?)),
    reader: StoreReader {
        tables: postgres_read::tables,
        read: postgres_read::read,
        stream_extents: Some(postgres_read::stream_extents),
        extent: None,
    },
    corrections: Some(CorrectionStore { open: correct::open, open_to_compare: correct::open_to_compare }),
};

/// Maximum rows of a transaction.
const ROWS_MAX: usize = 4096;
/// Checks that the server accepts the user; returns the pending migrations.
fn check(location: &Location) -> Result<Option<String>> {
    let server = PostgresServer::try_new(location)?;
    let mut link = server.connect().map_err(|trouble| server.failed(trouble))?;
    let pending = link.run(postgres_schema::pending);
    let pending = pending.map_err(|failure| server.failed(failure))?;
    match postgres_schema::names(&pending) {
        none if none.is_empty() => Ok(None),
        steps => Ok(Some(format!("pending migrations: {steps}"))),
    }
}

/// An open output in PostgreSQL.
struct Postgres {
    session: Session,
    options: OpenOptions,
    counts: SinkCounts,
    overlap: Overlap,
    conflicts: Conflicts,
    /// Whether this run has seen a retraction; only then rows look for them.
    retracts: bool,
    guess: Guess,
}

/// A prediction of whether the next rows are new. Most rows of a live stream are, and to COPY them without a look-up takes half
/// the work. After each wrong prediction twice as many batches are looked up before the next one.
#[derive(Default)]
struct Guess {
    looks: u32,
    wrong: u32,
}

impl Guess {
    fn is_new(&mut self) -> bool {
        let new = self.looks == 0;
        self.looks = self.looks.saturating_sub(1);
        new
    }

    fn was(&mut self, right: bool) {
        self.wrong = if right { 0 } else { (self.wrong + 1).min(10) };
        self.looks = if right { 0 } else { 1 << self.wrong };
    }
}

impl Postgres {
    fn open(location: &Location, options: &OpenOptions) -> Result<Self> {
        let mut sink = Self {
            session: Session::new(location, options)?,
            options: options.clone(),
            counts: SinkCounts::default(),
            overlap: Overlap::default(),
            conflicts: Conflicts::default(),
            retracts: false,
            guess: Guess::default(),
        };
        sink.session.with_link(|_| Ok(()))?;
        Ok(sink)
    }

    /// Writes `batch`, halving it if a row cannot be held. Returns the refused rows, their indices counted from `from`.
    fn write_piece(&mut self, kind: Kind, batch: &RecordBatch, from: usize) -> Result<Vec<(usize, String)>> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(Vec::new());
        }
        let cause = match self.try_piece(kind, batch)? {
            Ok(()) => return Ok(Vec::new()),
            Err(cause) => cause,
        };
        if rows == 1 {
            return Ok(vec![(from, cause)]);
        }
        let half = rows / 2;
        let mut refused = self.write_piece(kind, &batch.slice(0, half), from)?;
        refused.extend(self.write_piece(kind, &batch.slice(half, rows - half), from + half)?);
        Ok(refused)
    }

    /// Writes `batch` in one transaction and counts it; the inner error is the cause if a value cannot be held.
    fn try_piece(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Result<(), String>> {
        if kind == Kind::Metric {
            return self.try_metrics(batch);
        }
        let is_new = self.guess.is_new();
        let insert = async |link: &Link| insert_new(link, kind, batch).await;
        let written = self.write_guessed(is_new, insert, async |link| insert_once(link, kind, batch).await)?;
        Ok(written.map(|written| {
            self.counts = self.counts.plus(&written.counts);
            self.conflicts.add(written.counts.conflict, || written.conflict.unwrap_or_default());
        }))
    }

    fn try_metrics(&mut self, batch: &RecordBatch) -> Result<Result<(), String>> {
        let batch = MetricBatch::try_new(batch)?;
        let columns = &batch.columns;
        self.retracts |= columns.retracted.true_count() > 0;
        let (run, now, retracts) = (self.options.run.clone(), (self.options.clock)(), self.retracts);
        let writer = Writer { run: &run, now, retracts };
        let is_new = !retracts && batch.has_distinct_keys()? && self.guess.is_new();
        let insert = async |link: &Link| metric::write_new(link, &batch, &writer).await;
        let written = self.write_guessed(is_new, insert, async |link| metric::write(link, &batch, &writer).await)?;
        let WrittenMetrics { outcomes, replaced } = match written {
            Ok(written) => written,
            Err(cause) => return Ok(Err(cause)),
        };
        for (row, outcome) in outcomes.into_iter().enumerate() {
            outcome.count_in(&mut self.counts);
            self.overlap.judged(columns.id(row)?, outcome, || columns.key(row));
        }
        for (row, before) in replaced {
            self.overlap.replaced(|| columns.key(row), before, columns.rows.value(row));
        }
        Ok(Ok(()))
    }

    /// Runs `insert` if the rows are predicted to be new, and `write` in a transaction if they are not.
    fn write_guessed<T>(
        &mut self,
        is_new: bool,
        insert: impl AsyncFn(&Link) -> Result<T, Failure>,
        write: impl AsyncFn(&Link) -> Result<T, Failure>,
    ) -> Result<Result<T, String>> {
        let mut inserts = is_new;
        let written = self.session.with_link(|link| {
            if inserts {
                match link.run(&insert) {
                    Err(Failure::Raced(_)) => inserts = false,
                    other => return held(other),
                }
            }
            persist(link, &write)
        })?;
        if is_new {
            self.guess.was(inserts);
        }
        Ok(written)
    }

    /// Runs `statement` with pipeline, run, number and time.
    fn record(&mut self, statement: &str, epoch: Epoch) -> Result<()> {
        let (pipeline, now) = (self.options.pipeline.clone(), (self.options.clock)());
        let (run, number) = epoch.signed()?;
        self.session.with_link(|link| {
            link.run(async |link| {
                let statement = link.prepare(statement).await?;
                Ok(link.client.execute(&statement, &[&pipeline, &run, &number, &now]).await?)
            })?;
            Ok(())
        })
    }
}

impl Sink for Postgres {
    fn write(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        let mut fit = FitRows::of(kind, batch)?;
        if kind == Kind::Dead {
            fit.batch = holdable_letters(&fit.batch)?;
        }
        fit.remove(unholdable(kind, &fit.batch)?)?;
        for from in (0..fit.batch.num_rows()).step_by(ROWS_MAX) {
            let piece = fit.batch.slice(from, ROWS_MAX.min(fit.batch.num_rows() - from));
            for (row, cause) in self.write_piece(kind, &piece, from)? {
                let fault = Fault::new(ErrorType::SinkError, format!("Postgres: {cause}"));
                fit.refuse(Rejected { row, fault })?;
            }
        }
        Ok(fit.finish(&mut self.counts))
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<()> {
        self.record(
            "INSERT INTO pipeline_checkpoints (pipeline, prepared_run, prepared_epoch, prepared_at)
             VALUES ($1, $2, $3, to_timestamp($4::BIGINT / 1000000.0))
             ON CONFLICT (pipeline) DO UPDATE SET prepared_run = excluded.prepared_run,
                 prepared_epoch = excluded.prepared_epoch, prepared_at = excluded.prepared_at",
            epoch,
        )
    }

    fn commit(&mut self, epoch: Epoch) -> Result<()> {
        self.record(
            "INSERT INTO pipeline_checkpoints AS old (pipeline, run, epoch, committed_at)
             VALUES ($1, $2, $3, to_timestamp($4::BIGINT / 1000000.0))
             ON CONFLICT (pipeline) DO UPDATE SET run = excluded.run, epoch = excluded.epoch,
                 committed_at = excluded.committed_at
             WHERE old.run IS NULL OR (old.run, old.epoch) < (excluded.run, excluded.epoch)",
            epoch,
        )?;
        match self.committed()?.filter(|done| done.run > epoch.run) {
            None => Ok(()),
            Some(newer) => Err(epoch.replaced_by(newer.run, &self.session.server.shown)),
        }
    }

    fn committed(&mut self) -> Result<Option<Epoch>> {
        let pipeline = self.options.pipeline.clone();
        let sql = "SELECT run, epoch FROM pipeline_checkpoints WHERE pipeline = $1 AND run IS NOT NULL";
        let found = self
            .session
            .with_link(|link| Ok(link.run(async |link| Ok(link.client.query_opt(sql, &[&pipeline]).await?))?))?;
        let Some(row) = found else { return Ok(None) };
        let number = |index: usize| u64::try_from(row.get::<_, i64>(index)).unwrap_or(0);
        Ok(Some(Epoch { run: number(0), number: number(1) }))
    }

    fn counts(&self) -> SinkCounts {
        self.counts
    }

    fn finish(mut self: Box<Self>) -> Result<SinkOutcome> {
        if self.retracts {
            let run = self.options.run.clone();
            self.session.with_link(|link| {
                Ok(link.run(async |link| Ok(link.client.execute(metric::FORGET, &[&run]).await?))?)
            })?;
        }
        let notices = self.overlap.notices().into_iter().chain(self.conflicts.notice()).collect();
        Ok(SinkOutcome { counts: self.counts, notices, ..SinkOutcome::default() })
    }
}

#[cfg(test)]
mod tests;
