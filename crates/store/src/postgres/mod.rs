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
//! rows and `metric` those of metrics, `read` reads them back. `database` opens the server for corrections of metrics
//! and as a ledger of replays, `rules` reads the rules of evt-alert.

mod cell;
mod database;
mod link;
mod metric;
mod read;
mod rules;
mod schema;
pub mod session;
mod write;

use crate::postgres::link::{Failure, Link, OPTIONS, PostgresServer};
use crate::postgres::metric::{MetricBatch, ReplacedRow, Writer, WrittenMetrics};
use crate::postgres::read as postgres_read;
use crate::postgres::schema as postgres_schema;
use crate::postgres::session::{PostgresSession, RACES_MAX, persist, split_failure};
use crate::postgres::write::{WriteOutcome, holdable_letters, insert_new, insert_once, make_events_unique, unholdable};
use crate::progress::NotedMetrics;
use crate::repeat::has_event_key;
use crate::rows::{count_rejected, fit_rows};
use crate::sql::{SqlConnection, epochs, progress};
use crate::tally::Tally;
use crate::{
    CheckScope, CorrectionStore, LedgerStore, Medium, OpenOptions, Sink, SinkOutcome, Store, StoreReader, Visibility,
};
use arrow::array::RecordBatch;
use evt_core::counts::SinkCounts;
use evt_core::error::{Error, Result};
use evt_core::frame::MetricProgress;
use evt_core::kind::Kind;
use evt_core::kind::dead::{KeptRows, Rejected};
use evt_core::kind::metric::MetricColumns;
use evt_run::checkpoint::epoch::{Epoch, EpochFaults, EpochRows};
use evt_run::client::Location;

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
        kept_since: None,
        serving: Some(database::serving),
    },
    corrections: Some(CorrectionStore { open: database::corrections, open_to_compare: database::comparison }),
    ledger: Some(LedgerStore {
        open: database::ledger,
        open_to_read: database::ledger_to_read,
        check: database::check_ledger,
    }),
    rules: Some(rules::read),
    upkeep: None,
};

/// Maximum rows of a transaction.
const ROWS_MAX: usize = 4096;

/// Checks that the server accepts the user and, for `--check`, that rows could be written; returns the pending
/// migrations.
fn check(location: &Location, scope: CheckScope) -> Result<Option<String>> {
    has_event_key(location)?;
    let server = PostgresServer::try_new(location)?;
    let (link, pending) = postgres_schema::connect(&server)?;
    if let CheckScope::Rows(rows) = scope {
        let checked = postgres_schema::check_writable(&link, &server, &pending, rows);
        checked.map_err(server.failed())?;
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
    guess: Guess,
    noted: NotedMetrics,
}

/// The outcomes of the rows of a batch.
enum Written {
    Rows(WriteOutcome),
    Metrics(WrittenMetrics),
}

impl Written {
    /// Counts the outcomes.
    fn count_in(self, tally: &mut Tally, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Rows(WriteOutcome { counts, conflict }) => {
                tally.counts = tally.counts.plus(&counts);
                tally.conflicts.add(counts.conflict, || conflict.unwrap_or_default());
            }
            Self::Metrics(WrittenMetrics { outcomes, replaced }) => {
                let columns = MetricColumns::try_new(batch)?;
                for (row, outcome) in outcomes.into_iter().enumerate() {
                    tally.judged(&columns, row, outcome)?;
                }
                for ReplacedRow { index, events_before } in replaced {
                    tally.replaced(&columns, index, events_before);
                }
            }
        }
        Ok(())
    }
}

/// Writes rows in the present transaction; `is_new` says whether all their keys are expected to be new.
fn write_rows(
    link: &Link,
    kind: Kind,
    batch: &RecordBatch,
    writer: &Writer<'_>,
    is_new: bool,
) -> Result<Written, Failure> {
    Ok(match (kind, is_new) {
        (Kind::Metric, true) => Written::Metrics(metric::write_new(link, &MetricBatch::try_new(batch)?, writer)?),
        (Kind::Metric, false) => Written::Metrics(metric::write(link, &MetricBatch::try_new(batch)?, writer)?),
        (_, true) => Written::Rows(insert_new(link, kind, batch)?),
        (_, false) => Written::Rows(insert_once(link, kind, batch)?),
    })
}

/// Whether rows retract others.
fn has_retractions(kind: Kind, batch: &RecordBatch) -> Result<bool> {
    Ok(kind == Kind::Metric && MetricColumns::try_new(batch)?.retracted.true_count() > 0)
}

/// An attempt to write rows; the inner error is the cause if a value cannot be held.
type Attempt<'a, E> = dyn FnMut(&RecordBatch) -> Result<Result<(), String>, E> + 'a;

/// Writes the rows that fit, in pieces, and adds those that cannot be held to `fit`.
fn write_pieces<E: From<Error>>(fit: &mut KeptRows, attempt: &mut Attempt<'_, E>) -> Result<(), E> {
    for from in (0..fit.batch.num_rows()).step_by(ROWS_MAX) {
        let piece = fit.batch.slice(from, ROWS_MAX.min(fit.batch.num_rows() - from));
        for (row, cause) in write_halves(&piece, from, attempt)? {
            fit.reject(Rejected::by_sink(row, format!("Postgres: {cause}")))?;
        }
    }
    Ok(())
}

/// Writes rows, halving them if one cannot be held. Returns the rejected rows, their indices counted from `from`.
fn write_halves<E>(batch: &RecordBatch, from: usize, attempt: &mut Attempt<'_, E>) -> Result<Vec<(usize, String)>, E> {
    let rows = batch.num_rows();
    let cause = match if rows == 0 { Ok(()) } else { attempt(batch)? } {
        Ok(()) => return Ok(vec![]),
        Err(cause) => cause,
    };
    if rows == 1 {
        return Ok(vec![(from, cause)]);
    }
    let half = rows / 2;
    let mut rejected = write_halves(&batch.slice(0, half), from, attempt)?;
    rejected.extend(write_halves(&batch.slice(half, rows - half), from + half, attempt)?);
    Ok(rejected)
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
            session: PostgresSession::new(location, options.up.clone(), true)?,
            options: options.clone(),
            tally: Tally::default(),
            guess: Guess::default(),
            noted: NotedMetrics::default(),
        };
        let is_unique = has_event_key(location)?;
        // Connects and makes the tables, whether rows will come or not.
        sink.session.with_link(|link| match is_unique {
            true => Ok(make_events_unique(link, &location.to_string())?),
            false => Ok(()),
        })?;
        Ok(sink)
    }

    /// Writes `batch` in one transaction and counts it: if its rows are predicted to be new, first without a look-up of
    /// their keys.
    fn try_piece(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Result<(), String>> {
        let Self { session, options, tally, guess, noted } = self;
        let noted_now = noted.all();
        tally.retracts |= has_retractions(kind, batch)?;
        let writer = Writer { options, now: (options.clock)(), retracts: tally.retracts };
        let may_be_new = kind != Kind::Metric || !tally.retracts && MetricBatch::try_new(batch)?.has_distinct_keys()?;
        let is_new = may_be_new && guess.is_new();
        let mut inserts = is_new;
        let written = session.with_link(|link| {
            if inserts {
                let written = link.transact(|link| {
                    let written = write_rows(link, kind, batch, &writer, true)?;
                    progress::record(link, options, &noted_now).map(|()| written)
                });
                match written {
                    Err(Failure::Raced(_) | Failure::Taken(_) | Failure::Conflict(_)) => inserts = false,
                    other => return split_failure(other),
                }
            }
            persist(link, |link| {
                let written = write_rows(link, kind, batch, &writer, false)?;
                progress::record(link, options, &noted_now).map(|()| written)
            })
        })?;
        if is_new {
            guess.was(inserts);
        }
        match written {
            Ok(written) => {
                noted.clear();
                written.count_in(tally, batch).map(Ok)
            }
            Err(cause) => Ok(Err(cause)),
        }
    }

    /// Keeps what was noted of metrics since their last rows.
    fn keep_noted(&mut self) -> Result<()> {
        let Self { session, options, noted, .. } = self;
        if !noted.is_empty() {
            let all = noted.all();
            session.with_link(|link| Ok(progress::record(link, options, &all)?))?;
            noted.clear();
        }
        Ok(())
    }
}

impl Sink for Postgres {
    fn write(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        let mut fit = fitting(kind, batch)?;
        write_pieces(&mut fit, &mut |piece| self.try_piece(kind, piece))?;
        Ok(count_rejected(fit, &mut self.tally.counts))
    }

    fn note_metrics(&mut self, metrics: &[MetricProgress]) {
        self.noted.add(metrics);
    }

    fn commit(&mut self, epoch: Epoch, rows: &mut dyn EpochRows) -> Result<()> {
        let Self { session, options, tally, noted, .. } = self;
        let all = noted.all();
        let (shown, now, kind) = (session.server.shown.clone(), (options.clock)(), rows.kind());
        // The outcomes of rows in a transaction whose own outcome is unknown.
        let mut unknown = None;
        for _ in 0..=RACES_MAX {
            let done = session.with_link(|link| {
                let mut writer = EpochWriter { options, now, kind, tally: tally.clone(), races: RACES_MAX };
                let written = link.transact(|link| {
                    // If the epoch is not due, the transaction of an earlier attempt was committed.
                    if writer.write(link, epoch, rows, &shown)? {
                        progress::record(link, options, &all)?;
                        unknown = Some(std::mem::take(&mut writer.tally));
                    }
                    Ok(())
                });
                match written {
                    Ok(()) => {
                        unknown.take().into_iter().for_each(|written| *tally = written);
                        Ok(true)
                    }
                    Err(Failure::Raced(_) | Failure::Conflict(_)) => Ok(false),
                    Err(failure) => Err(failure.into()),
                }
            })?;
            if done {
                noted.clear();
                return Ok(());
            }
        }
        Err(Error::unavailable(format!("{shown}: the epoch conflicts with transactions of other runs")))
    }

    fn keeps_positions(&self) -> bool {
        true
    }

    fn committed(&mut self) -> Result<Option<Epoch>> {
        let pipeline = &self.options.pipeline;
        self.session.with_link(|link| Ok(epochs::committed(link, pipeline, "")?))
    }

    fn counts(&self) -> SinkCounts {
        self.tally.counts
    }

    fn finish(mut self: Box<Self>) -> Result<SinkOutcome> {
        self.keep_noted()?;
        if self.tally.retracts {
            let run = &self.options.run;
            self.session.with_link(|link| Ok(link.forget_retractions(run)?))?;
        }
        Ok(self.tally.outcome())
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
    /// How often several rows are tried again.
    races: u32,
}

impl EpochWriter<'_> {
    /// Applies the rows of `epoch` in the present transaction and records it. Returns false if that has been done.
    fn write(&mut self, link: &Link, epoch: Epoch, rows: &mut dyn EpochRows, shown: &str) -> Result<bool, Failure> {
        let key = &self.options.pipeline;
        // The row is locked, so that of two runs one waits for the other.
        link.change("INSERT INTO checkpoint_epochs (output) VALUES ($1) ON CONFLICT DO NOTHING", &[key])?;
        if !epoch.is_due(epochs::committed(link, key, Link::LOCK_ROWS)?, shown)? {
            return Ok(false);
        }
        let mut rejected = EpochFaults::default();
        for batch in rows.batches()? {
            let batch = batch?;
            let mut fit = fitting(self.kind, &batch)?;
            write_pieces(&mut fit, &mut |piece| self.try_piece(link, piece))?;
            rejected.add_batch(count_rejected(fit, &mut self.tally.counts), batch.num_rows());
        }
        rows.keep_rejected(rejected)?;
        epochs::record(link, self.options, epoch, rows.positions()).map(|()| true)
    }

    /// Writes rows behind a savepoint. If an unexpected key is stored they are tried again, because each statement sees
    /// what other runs have committed until then. If all attempts fail it was no race, and halving finds the row.
    fn try_piece(&mut self, link: &Link, batch: &RecordBatch) -> Result<Result<(), String>, Failure> {
        let mut left = if batch.num_rows() == 1 { RACES_MAX } else { self.races };
        loop {
            link.batch("SAVEPOINT piece")?;
            let (cause, is_race) = match self.write_piece(link, batch) {
                Ok(()) => return link.batch("RELEASE piece").map(Ok),
                Err(Failure::Data(cause) | Failure::Taken(cause)) => (cause, false),
                Err(Failure::Raced(cause)) => (cause, true),
                Err(failure) => return Err(failure),
            };
            // Without its release, each failed piece would stay a level of nesting for all those after it.
            link.batch("ROLLBACK TO piece; RELEASE piece")?;
            if !is_race {
                return Ok(Err(cause));
            }
            if left == 0 {
                self.races = 1;
                return Ok(Err(cause));
            }
            left -= 1;
        }
    }

    fn write_piece(&mut self, link: &Link, batch: &RecordBatch) -> Result<(), Failure> {
        self.tally.retracts |= has_retractions(self.kind, batch)?;
        let writer = Writer { options: self.options, now: self.now, retracts: self.tally.retracts };
        let written = write_rows(link, self.kind, batch, &writer, false)?;
        if self.kind != Kind::Metric {
            // The table of incoming rows is emptied at the end of the transaction only.
            link.batch(&format!("TRUNCATE evt_incoming_{}", self.kind.table()))?;
        }
        Ok(written.count_in(&mut self.tally, batch)?)
    }
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

#[cfg(test)]
mod tests;
