//! `postgres://HOST/DATABASE`: one table per kind, rows visible as they are written, guarded by their keys.
//!
//! ```text
//! rows ─► cell (values) ─► write: pieces of a batch ─► session ─► transaction ─► server
//!                             ▲                            └─ connection lost: reconnect, repeat
//!                             └──── one half at a time ◄───── a value is rejected
//! ```
//!
//! As in SQLite every row is guarded, so a replay converges, and each piece of a batch is one transaction. An epoch is
//! one transaction, too, which records itself in `checkpoint_epochs` and the positions of its input in
//! `pipeline_checkpoints`. If a connection is lost the outcome of its transaction is unknown: it is repeated on a new
//! connection, which changes nothing if it had been committed (such rows are counted as `unchanged`; those of an epoch
//! as they were in the transaction).
//!
//! A batch with a value that PostgreSQL cannot hold, or that an index, a constraint or a trigger of the user rejects,
//! is halved until the row is found, which is rejected: whatever the server's reason, one row does not stop the others.
//!
//! Durability depends on the server: a transaction is acknowledged once it is on disk, unless `synchronous_commit` says
//! otherwise.
//!
//! `link` is the connection, `session` reconnects, `schema` migrates the tables, `cell` converts values, `write` writes
//! rows and `metric` those of metrics, `read` reads them back, `correct` corrects metrics. `ledger` is the
//! ledger of replays, `rules` reads the rules of evt-alert.

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
use crate::error::{Error, ErrorKind, Result};
use crate::kind::Kind;
use crate::kind::dead::{ErrorType, Fault, KeptRows, Rejected};
use crate::store::guard::ConflictReport;
use crate::store::postgres::link::{Failure, Link, OPTIONS, PostgresServer};
use crate::store::postgres::metric::{MetricBatch, ReplacedRow, Writer, WrittenMetrics};
use crate::store::postgres::read as postgres_read;
use crate::store::postgres::schema as postgres_schema;
use crate::store::postgres::session::{PostgresSession, RACES_MAX, persist, split_failure};
use crate::store::postgres::write::{
    WriteOutcome, holdable_letters, insert_new, insert_once, make_events_unique, unholdable,
};
use crate::store::repeat::{Conflicts, has_event_key};
use crate::store::rows::{count_rejected, fit_rows};
use crate::store::{
    CheckScope, CorrectionStore, Epoch, EpochFaults, EpochRows, LedgerStore, Location, Medium, OpenOptions,
    PartitionPosition, Sink, SinkOutcome, Store, StoreReader, Visibility,
};
use arrow::array::RecordBatch;
use tokio_postgres::Row;

/// The row in [`super::ALL`].
pub static STORE: Store = Store {
    scheme: "postgres",
    also: &["postgresql"],
    about: "postgres://HOST/DATABASE: tables, rows visible at once, guarded by their keys",
    options: &OPTIONS,
    kinds: &Kind::ALL,
    extensions: &[],
    magic: b"",
    client: Some("psql"),
    medium: Medium::Server,
    visibility: Visibility::WithEpoch,
    replaces: |_| false,
    check,
    open: |location, options| Ok(Box::new(Postgres::open(location, options)?)),
    reader: StoreReader {
        tables: postgres_read::tables,
        read: postgres_read::read,
        stream_extents: Some(postgres_read::stream_extents),
        extent: None,
        waits: None,
    },
    corrections: Some(CorrectionStore { open: correct::open, open_to_compare: correct::open_to_compare }),
    ledger: Some(LedgerStore { open: ledger::open, open_to_read: ledger::open_to_read, check: ledger::check }),
    rules: Some(rules::read),
};

/// Maximum rows of a transaction.
const ROWS_MAX: usize = 4096;

/// Checks that the server accepts the user and, for `--check`, that rows could be written; returns the pending
/// migrations.
fn check(location: &Location, scope: CheckScope) -> Result<Option<String>> {
    has_event_key(location)?;
    let server = PostgresServer::try_new(location)?;
    let mut link = server.connect().map_err(|trouble| server.failed(trouble))?;
    let pending = link.run(postgres_schema::pending);
    let pending = pending.map_err(|failure| server.failed(failure))?;
    if let CheckScope::Rows(kind) = scope {
        let checked = link.run(async |link| postgres_schema::check_writable(link, &server, &pending, kind).await);
        checked.map_err(|failure| server.failed(failure))?;
    }
    match postgres_schema::names(&pending) {
        none if none.is_empty() => Ok(None),
        steps => Ok(Some(format!("pending migrations: {steps}"))),
    }
}

/// An open output in PostgreSQL.
struct Postgres {
    session: PostgresSession,
    options: OpenOptions,
    tally: Tally,
    /// Whether this run has seen a retraction; only then rows look for them.
    retracts: bool,
    guess: Guess,
}

/// The outcomes of rows, for the summary and the lines at the end of a run.
#[derive(Clone, Default)]
struct Tally {
    counts: SinkCounts,
    overlap: ConflictReport,
    conflicts: Conflicts,
}

impl Tally {
    /// Counts the outcomes of written rows, except metrics.
    fn add(&mut self, written: WriteOutcome) {
        self.counts = self.counts.plus(&written.counts);
        self.conflicts.add(written.counts.conflict, || written.conflict.unwrap_or_default());
    }

    /// Counts the outcomes of written metrics.
    fn judge(&mut self, batch: &MetricBatch<'_>, written: WrittenMetrics) -> Result<()> {
        let columns = &batch.columns;
        for (row, outcome) in written.outcomes.into_iter().enumerate() {
            outcome.count_in(&mut self.counts);
            self.overlap.judged(columns.id(row)?, outcome, || columns.key(row));
        }
        for ReplacedRow { index, events_before } in written.replaced {
            self.overlap.replaced(|| columns.key(index), events_before, columns.rows.value(index));
        }
        Ok(())
    }
}

/// A prediction of whether the next rows are new. Most rows of a live stream are, and to COPY them without a look-up
/// takes half the work. After each wrong prediction twice as many batches are looked up before the next one.
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
            session: PostgresSession::new(location, options)?,
            options: options.clone(),
            tally: Tally::default(),
            retracts: false,
            guess: Guess::default(),
        };
        let is_unique = has_event_key(location)?;
        // Connects and makes the tables, whether rows will come or not.
        sink.session.with_link(|link| match is_unique {
            true => Ok(link.run(async |link| make_events_unique(link, &location.to_string()).await)?),
            false => Ok(()),
        })?;
        Ok(sink)
    }

    /// Writes `batch`, halving it if a row cannot be held. Returns the rejected rows, their indices counted from
    /// `from`.
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
        let mut rejected = self.write_piece(kind, &batch.slice(0, half), from)?;
        rejected.extend(self.write_piece(kind, &batch.slice(half, rows - half), from + half)?);
        Ok(rejected)
    }

    /// Writes `batch` in one transaction and counts it; the inner error is the cause if a value cannot be held.
    fn try_piece(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Result<(), String>> {
        if kind == Kind::Metric {
            return self.try_metrics(batch);
        }
        let is_new = self.guess.is_new();
        let insert = async |link: &Link| insert_new(link, kind, batch).await;
        let written = self.write_guessed(is_new, insert, async |link| insert_once(link, kind, batch).await)?;
        Ok(written.map(|written| self.tally.add(written)))
    }

    fn try_metrics(&mut self, batch: &RecordBatch) -> Result<Result<(), String>> {
        let batch = MetricBatch::try_new(batch)?;
        self.retracts |= batch.columns.retracted.true_count() > 0;
        let (run, now, retracts) = (self.options.run.clone(), (self.options.clock)(), self.retracts);
        let writer = Writer { run: &run, now, retracts, is_at_once: self.options.is_at_once };
        let is_new = !retracts && batch.has_distinct_keys()? && self.guess.is_new();
        let insert = async |link: &Link| metric::write_new(link, &batch, &writer).await;
        let written = self.write_guessed(is_new, insert, async |link| metric::write(link, &batch, &writer).await)?;
        let written = match written {
            Ok(written) => written,
            Err(cause) => return Ok(Err(cause)),
        };
        self.tally.judge(&batch, written)?;
        Ok(Ok(()))
    }

    /// Runs `insert` if the rows are predicted to be new, and `write` if they are not, each in a transaction.
    fn write_guessed<T>(
        &mut self,
        is_new: bool,
        insert: impl AsyncFn(&Link) -> Result<T, Failure>,
        write: impl AsyncFn(&Link) -> Result<T, Failure>,
    ) -> Result<Result<T, String>> {
        let mut inserts = is_new;
        let written = self.session.with_link(|link| {
            if inserts {
                match link.transact(&insert) {
                    Err(Failure::Raced(_) | Failure::Taken(_) | Failure::Conflict(_)) => inserts = false,
                    other => return split_failure(other),
                }
            }
            persist(link, &write)
        })?;
        if is_new {
            self.guess.was(inserts);
        }
        Ok(written)
    }
}

impl Sink for Postgres {
    fn write(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        let mut fit = fitting(kind, batch)?;
        for from in (0..fit.batch.num_rows()).step_by(ROWS_MAX) {
            let piece = fit.batch.slice(from, ROWS_MAX.min(fit.batch.num_rows() - from));
            for (row, cause) in self.write_piece(kind, &piece, from)? {
                fit.reject(not_held(row, &cause))?;
            }
        }
        Ok(count_rejected(fit, &mut self.tally.counts))
    }

    fn commit(&mut self, epoch: Epoch, rows: &mut dyn EpochRows) -> Result<()> {
        let Self { session, options, tally, retracts, .. } = self;
        let (shown, now, kind) = (session.server.shown.clone(), (options.clock)(), rows.kind());
        // The outcomes of rows in a transaction whose own outcome is unknown.
        let mut unknown = None;
        for _ in 0..=RACES_MAX {
            let done = session.with_link(|link| {
                let mut writer = EpochWriter { options, now, kind, tally: tally.clone(), retracts };
                let written = writer.begin(link, epoch, rows, &shown).and_then(|is_due| {
                    // The transaction of an earlier attempt was committed.
                    let written = if is_due { writer.tally } else { unknown.take().unwrap_or(writer.tally) };
                    execute(link, "COMMIT").inspect_err(|_| unknown = Some(written.clone())).map(|()| written)
                });
                match written {
                    Ok(written) => *tally = written,
                    Err(Failure::Raced(_) | Failure::Conflict(_)) => return Ok(false),
                    Err(failure) => return Err(failure.into()),
                }
                Ok(true)
            })?;
            if done {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Unavailable, format!("{shown}: the epoch conflicts with transactions of other runs")))
    }

    fn keeps_positions(&self) -> bool {
        true
    }

    fn committed(&mut self) -> Result<Option<Epoch>> {
        let pipeline = self.options.pipeline.clone();
        let sql = "SELECT run, epoch FROM checkpoint_epochs WHERE output = $1 AND run IS NOT NULL";
        let found = self
            .session
            .with_link(|link| Ok(link.run(async |link| Ok(link.client.query_opt(sql, &[&pipeline]).await?))?))?;
        Ok(found.as_ref().and_then(epoch_of))
    }

    fn counts(&self) -> SinkCounts {
        self.tally.counts
    }

    fn finish(mut self: Box<Self>) -> Result<SinkOutcome> {
        if self.retracts {
            let run = self.options.run.clone();
            self.session.with_link(|link| {
                Ok(link.run(async |link| Ok(link.client.execute(metric::FORGET, &[&run]).await?))?)
            })?;
        }
        let Tally { counts, overlap, conflicts } = self.tally;
        let notices = overlap.notices().into_iter().chain(conflicts.notice()).collect();
        Ok(SinkOutcome { counts, notices, ..SinkOutcome::default() })
    }
}

/// Writes the rows of one epoch in one transaction.
struct EpochWriter<'a> {
    options: &'a OpenOptions,
    /// When it writes (µs).
    now: i64,
    kind: Kind,
    /// The outcomes of the rows so far, those of this transaction included.
    tally: Tally,
    retracts: &'a mut bool,
}

impl EpochWriter<'_> {
    /// Begins a transaction that applies the rows of `epoch` and records it. Returns false if that has been done.
    fn begin(&mut self, link: &mut Link, epoch: Epoch, rows: &mut dyn EpochRows, shown: &str) -> Result<bool, Failure> {
        execute(link, "BEGIN")?;
        self.write(link, epoch, rows, shown).inspect_err(|_| {
            // If the connection is lost the server rolls back anyway.
            _ = execute(link, "ROLLBACK");
        })
    }

    fn write(&mut self, link: &mut Link, epoch: Epoch, rows: &mut dyn EpochRows, shown: &str) -> Result<bool, Failure> {
        let key = &self.options.pipeline;
        let committed = link.run(async |link| {
            // The row is locked, so that of two runs one waits for the other.
            let insert = "INSERT INTO checkpoint_epochs (output) VALUES ($1) ON CONFLICT DO NOTHING";
            link.client.execute(insert, &[key]).await?;
            let select = "SELECT run, epoch FROM checkpoint_epochs WHERE output = $1 FOR UPDATE";
            Ok(epoch_of(&link.client.query_one(select, &[key]).await?))
        })?;
        if !epoch.is_due(committed, shown)? {
            return Ok(false);
        }
        let mut rejected = EpochFaults::default();
        for batch in rows.batches()? {
            let batch = batch?;
            rejected.add_batch(self.write_batch(link, &batch)?, batch.num_rows());
        }
        rows.keep_rejected(rejected)?;
        let epoch = epoch.signed()?;
        link.run(async |link| {
            let update = "UPDATE checkpoint_epochs SET run = $2, epoch = $3,
                committed_at = to_timestamp($4::BIGINT / 1000000.0) WHERE output = $1";
            link.client.execute(update, &[key, &epoch.run, &epoch.number, &self.now]).await?;
            record_positions(link, rows.positions(), self.now).await
        })?;
        Ok(true)
    }

    /// Writes a batch; returns the rows that cannot be held.
    fn write_batch(&mut self, link: &mut Link, batch: &RecordBatch) -> Result<Vec<Rejected>, Failure> {
        let mut fit = fitting(self.kind, batch)?;
        let rows = fit.batch.clone();
        for from in (0..rows.num_rows()).step_by(ROWS_MAX) {
            let piece = rows.slice(from, ROWS_MAX.min(rows.num_rows() - from));
            for (row, cause) in self.write_piece(link, &piece, from, RACES_MAX)? {
                fit.reject(not_held(row, &cause))?;
            }
        }
        Ok(count_rejected(fit, &mut self.tally.counts))
    }

    /// Writes rows, halving them if one cannot be held. If an unexpected key is stored they are tried again up to
    /// `races` times, because each statement sees what other runs have committed until then. If all of these fail it
    /// was no race, and halving finds the row. Returns the rejected rows, their indices counted from `from`.
    fn write_piece(
        &mut self,
        link: &mut Link,
        batch: &RecordBatch,
        from: usize,
        races: u32,
    ) -> Result<Vec<(usize, String)>, Failure> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(vec![]);
        }
        let mut left = if rows == 1 { RACES_MAX } else { races };
        let (cause, races) = loop {
            execute(link, "SAVEPOINT piece")?;
            let (cause, is_race) = match self.try_piece(link, batch) {
                Ok(()) => {
                    execute(link, "RELEASE piece")?;
                    return Ok(vec![]);
                }
                Err(Failure::Data(cause) | Failure::Taken(cause)) => (cause, false),
                Err(Failure::Raced(cause)) => (cause, true),
                Err(failure) => return Err(failure),
            };
            // Without its release, each failed piece would stay a level of nesting for all those after it.
            execute(link, "ROLLBACK TO piece; RELEASE piece")?;
            if !is_race || left == 0 {
                break (cause, if is_race { 1 } else { races });
            }
            left -= 1;
        };
        if rows == 1 {
            return Ok(vec![(from, cause)]);
        }
        let half = rows / 2;
        let mut rejected = self.write_piece(link, &batch.slice(0, half), from, races)?;
        rejected.extend(self.write_piece(link, &batch.slice(half, rows - half), from + half, races)?);
        Ok(rejected)
    }

    fn try_piece(&mut self, link: &mut Link, batch: &RecordBatch) -> Result<(), Failure> {
        let kind = self.kind;
        if kind != Kind::Metric {
            let written = link.run(async |link| {
                let written = insert_once(link, kind, batch).await?;
                // The table of incoming rows is emptied at the end of the transaction only.
                link.client.batch_execute(&format!("TRUNCATE evt_incoming_{}", kind.table())).await?;
                Ok(written)
            })?;
            self.tally.add(written);
            return Ok(());
        }
        let batch = MetricBatch::try_new(batch)?;
        *self.retracts |= batch.columns.retracted.true_count() > 0;
        let OpenOptions { run, is_at_once, .. } = self.options;
        let writer = Writer { run, now: self.now, retracts: *self.retracts, is_at_once: *is_at_once };
        let written = link.run(async |link| metric::write(link, &batch, &writer).await)?;
        self.tally.judge(&batch, written)?;
        Ok(())
    }
}

/// Records the positions of the input at `now` (µs); a row changes only with its position.
async fn record_positions(link: &Link, positions: &[PartitionPosition], now: i64) -> Result<(), Failure> {
    if positions.is_empty() {
        return Ok(());
    }
    // All runs change the rows in one order, so that two of them do not wait for each other.
    let sql = r#"INSERT INTO pipeline_checkpoints
        SELECT consumer_group, topic, "partition", "offset", to_timestamp(watermark / 1000000.0), to_timestamp($6::BIGINT / 1000000.0)
        FROM unnest($1::TEXT[], $2::TEXT[], $3::INTEGER[], $4::BIGINT[], $5::BIGINT[])
            AS new (consumer_group, topic, "partition", "offset", watermark)
        ON CONFLICT (consumer_group, topic, "partition") DO UPDATE
        SET "offset" = excluded."offset", watermark = excluded.watermark, updated_at = excluded.updated_at
        WHERE (pipeline_checkpoints."offset", pipeline_checkpoints.watermark)
            IS DISTINCT FROM (excluded."offset", excluded.watermark)"#;
    let of = |text: fn(&PartitionPosition) -> &String| -> Vec<String> {
        // No text of PostgreSQL holds this character.
        positions.iter().map(|position| text(position).replace('\0', "\u{fffd}")).collect()
    };
    let (groups, topics) = (of(|position| &position.group), of(|position| &position.topic));
    let partitions: Vec<i32> = positions.iter().map(|position| position.partition).collect();
    let offsets: Vec<i64> = positions.iter().map(|position| position.offset).collect();
    let watermarks: Vec<Option<i64>> = positions.iter().map(|position| position.watermark).collect();
    link.client.execute(sql, &[&groups, &topics, &partitions, &offsets, &watermarks, &now]).await?;
    Ok(())
}

/// Returns the rows that PostgreSQL may hold.
fn fitting(kind: Kind, batch: &RecordBatch) -> Result<KeptRows> {
    let mut fit = fit_rows(kind, batch)?;
    if kind == Kind::Dead {
        fit.batch = holdable_letters(&fit.batch)?;
    }
    fit.remove(unholdable(kind, &fit.batch)?)?;
    Ok(fit)
}

fn not_held(row: usize, cause: &str) -> Rejected {
    Rejected { row, fault: Fault::new(ErrorType::SinkError, format!("Postgres: {cause}")) }
}

fn execute(link: &mut Link, statement: &str) -> Result<(), Failure> {
    link.run(async |link| Ok(link.client.batch_execute(statement).await?))
}

/// Returns the epoch in the columns run and epoch, which are NULL before the first one.
fn epoch_of(row: &Row) -> Option<Epoch> {
    let number = |index: usize| row.get::<_, Option<i64>>(index).and_then(|number| u64::try_from(number).ok());
    number(0).zip(number(1)).map(|(run, number)| Epoch { run, number })
}

#[cfg(test)]
mod tests;
