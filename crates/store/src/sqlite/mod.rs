//! `sqlite:PATH`: one file, one table per kind, rows visible as they are written.
//!
//! ```text
//! rows ─► write ─► transaction ─┬─► events, letters, late rows, alerts: insert once
//!                               └─► metrics: guard ─► insert, replace, delete, or stale
//! ```
//!
//! Every row is guarded by its key, so a replay converges: each call of [`Sink::write`] is one transaction. An epoch is
//! one transaction, too, which records itself in `checkpoint_epochs` and the positions of its input in
//! `pipeline_checkpoints`. Rows of events, letters, late events and alerts are inserted once and never overwritten (a
//! letter only by one with more `attempts`); other content under the key of an event is a conflict ([`super::repeat`]).
//! Metrics follow [`super::guard`]. A row that an index, a constraint or a trigger of the user does not permit is
//! rejected; the others are stored.
//!
//! Outputs of one process write a file in turn. Those of several processes wait for the lock of the file: `?wait=` says
//! how long, and the commit of an epoch waits for at least a minute.
//!
//! WAL with `synchronous=NORMAL`: a crash of the process loses nothing. A power failure may lose the last transactions
//! but never corrupts the file, and the lost rows are sent again, because the source continues from the last epoch.
//! Epochs are written with `synchronous=FULL`, which makes every earlier transaction durable too.
//!
//! `file` opens and locks the file, `schema` makes its tables, `cell` converts values, `write` and `repeat` write rows,
//! `read` reads them, and `failure` is the error of a write. `database` opens the file for corrections of metrics and
//! as a ledger of replays, `rules` reads the rules of evt-alert.

mod cell;
mod database;
mod failure;
pub(crate) mod file;
mod read;
mod repeat;
mod rules;
mod schema;
mod write;

use crate::progress::NotedMetrics;
use crate::repeat::has_event_key;
use crate::rows::{count_rejected, fit_rows};
use crate::sql::{epochs, progress};
use crate::sqlite::failure::Failure;
use crate::sqlite::file::{OPTIONS, SCHEME, SqliteFile, WriteTurn};
use crate::sqlite::read as sqlite_read;
use crate::sqlite::schema as sqlite_schema;
use crate::sqlite::write::{Metrics, insert_once};
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
use evt_run::checkpoint::epoch::{Epoch, EpochFaults, EpochRows};
use evt_run::client::Location;
use evt_run::storage::disk::found;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fs::File;

/// The row in [`super::ALL`].
pub static STORE: Store = Store {
    scheme: SCHEME,
    also: &[],
    about: "sqlite:PATH: tables in one file, rows visible at once, guarded by their keys",
    extensions: &["db", "sqlite", "sqlite3"],
    magic: b"SQLite format 3\0",
    client: Some("sqlite3"),
    medium: Medium::File,
    visibility: Visibility::WithEpoch,
    replaces: |_| false,
    options: &OPTIONS,
    kinds: &Kind::ALL,
    check,
    open: |location, options| Ok(Box::new(Sqlite::open(location, options)?)),
    reader: StoreReader {
        tables: sqlite_read::tables,
        read: sqlite_read::read,
        stream_extents: Some(sqlite_read::stream_extents),
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

/// Checks that rows could be written: to a database of evt or of another program, or to a new one.
fn check(location: &Location, _scope: CheckScope) -> Result<Option<String>> {
    has_event_key(location)?;
    let file = SqliteFile::try_new(location)?;
    file.check_room()?;
    match file.path().exists() {
        true => {
            let db = file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            sqlite_schema::check_tables(&db, &file)?;
            sqlite_schema::check_version(&db, &file).map(|_| None)
        }
        false => Ok(None),
    }
}

/// An open output in SQLite.
struct Sqlite {
    file: SqliteFile,
    turn: WriteTurn,
    db: Connection,
    options: OpenOptions,
    tally: Tally,
    noted: NotedMetrics,
}

impl Sqlite {
    fn open(location: &Location, options: &OpenOptions) -> Result<Self> {
        let has_event_key = has_event_key(location)?;
        let (file, mut db) = sqlite_schema::open(location, &options.disk)?;
        if has_event_key {
            let unique = sqlite_schema::make_events_unique(&mut db, &file);
            unique.map_err(file.failed("cannot create the index of event ids"))?;
        }
        let (options, tally, noted) = (options.clone(), Tally::default(), NotedMetrics::default());
        Ok(Self { turn: file.turn(), file, db, options, tally, noted })
    }

    /// Syncs the write-ahead log. Readers may keep a part of it from being copied to the file.
    fn sync_log(&self) -> Result<()> {
        let log = File::open(format!("{}-wal", self.file.path().display()));
        let synced = found(log.and_then(|log| log.sync_all())).map(drop);
        synced.map_err(|error| Error::io(format!("{}: cannot sync", self.file), &error))
    }

    /// Applies the rows of an epoch that is due and records it, in one synced transaction.
    fn apply(&mut self, epoch: Epoch, rows: &mut dyn EpochRows) -> Result<(), Failure> {
        let Self { file, turn, db, options, tally, noted } = self;
        let _turn = turn.take();
        db.execute_batch("PRAGMA synchronous = FULL")?;
        let tx = file.begin_epoch(db)?;
        if !epoch.is_due(epochs::committed(&*tx, &options.pipeline, "")?, &*file)? {
            return Ok(());
        }
        tx.execute(FORGET_PLACED, [])?;
        let mut rejected = EpochFaults::default();
        for batch in rows.batches()? {
            let batch = batch?;
            let mut fit = fit_rows(rows.kind(), &batch)?;
            write_rows(&tx, options, rows.kind(), &mut fit, tally).map_err(file.failed("cannot write"))?;
            rejected.add_batch(count_rejected(fit, &mut tally.counts), batch.num_rows());
        }
        rows.keep_rejected(rejected)?;
        epochs::record(&*tx, options, epoch, rows.positions())?;
        progress::record(&*tx, options, &noted.all())?;
        // The transaction is one operation of the disk, at which a simulated one fails.
        options
            .disk
            .change(|| Ok(()))
            .map_err(|error| Error::io(format!("{file}: cannot commit the epoch"), &error))?;
        tx.commit()?;
        noted.clear();
        Ok(db.execute_batch("PRAGMA synchronous = NORMAL")?)
    }

    /// Writes rows in one transaction; returns those that cannot be held.
    fn write_batch(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Rejected>, Failure> {
        let mut fit = fit_rows(kind, batch)?;
        let Self { turn, db, options, tally, noted, .. } = self;
        let _turn = turn.take();
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute(FORGET_PLACED, [])?;
        write_rows(&tx, options, kind, &mut fit, tally)?;
        progress::record(&*tx, options, &noted.all())?;
        tx.commit()?;
        noted.clear();
        Ok(count_rejected(fit, &mut tally.counts))
    }

    /// Keeps what was noted of metrics since their last rows.
    fn keep_noted(&mut self) -> Result<()> {
        let Self { turn, db, options, noted, file, .. } = self;
        if noted.is_empty() {
            return Ok(());
        }
        let _turn = turn.take();
        let mut kept = || -> Result<(), Failure> {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            progress::record(&*tx, options, &noted.all())?;
            Ok(tx.commit()?)
        };
        kept().map_err(file.failed("cannot write the progress of metrics"))?;
        noted.clear();
        Ok(())
    }

    /// Makes the error of a failure after which the counts are `before`: what is rolled back does not count.
    fn rolled_back<T>(&mut self, done: Result<T, Failure>, before: SinkCounts, what: &str) -> Result<T> {
        done.map_err(self.file.failed(what)).inspect_err(|_| self.tally.counts = before)
    }
}

/// Forgets the events that an earlier transaction has inserted.
const FORGET_PLACED: &str = "DELETE FROM temp.placed_events";

/// Writes the rows that fit, and adds those that the table rejects to `fit`.
fn write_rows(
    tx: &Connection,
    options: &OpenOptions,
    kind: Kind,
    fit: &mut KeptRows,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let rejected = match kind {
        Kind::Metric => Metrics::new(tx, options, tally)?.write(&fit.batch)?,
        _ => insert_once(tx, kind, &fit.batch, tally)?,
    };
    for one in rejected {
        fit.reject(one)?;
    }
    Ok(())
}

impl Sink for Sqlite {
    fn write(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        let before = self.tally.counts;
        let written = self.write_batch(kind, batch);
        self.rolled_back(written, before, "cannot write")
    }

    fn note_metrics(&mut self, metrics: &[MetricProgress]) {
        self.noted.add(metrics);
    }

    /// Makes the rows durable: syncs the write-ahead log, in which each batch is a transaction. The checkpoint is
    /// passive and waits for nothing. A full one would wait up to `wait=` for the writer of another program, and the
    /// stage would read nothing meanwhile.
    fn settle(&mut self) -> Result<()> {
        let checkpoint = self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        checkpoint.map_err(self.file.failed("cannot sync"))?;
        self.sync_log()
    }

    fn commit(&mut self, epoch: Epoch, rows: &mut dyn EpochRows) -> Result<()> {
        let before = self.tally.counts;
        let applied = self.apply(epoch, rows);
        self.rolled_back(applied, before, "cannot commit the epoch")
    }

    fn keeps_positions(&self) -> bool {
        true
    }

    fn committed(&mut self) -> Result<Option<Epoch>> {
        let committed = epochs::committed(&self.db, &self.options.pipeline, "");
        committed.map_err(self.file.failed("cannot read the epoch"))
    }

    fn counts(&self) -> SinkCounts {
        self.tally.counts
    }

    fn finish(mut self: Box<Self>) -> Result<SinkOutcome> {
        self.keep_noted()?;
        // Copies the log to the file as far as readers permit; what stays in the log is synced there.
        self.db
            .execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_checkpoint(PASSIVE)")
            .map_err(self.file.failed("cannot sync"))?;
        self.sync_log()?;
        Ok(self.tally.outcome())
    }
}

#[cfg(test)]
mod tests;
