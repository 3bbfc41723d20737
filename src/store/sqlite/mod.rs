//! `sqlite:PATH`: one file, one table per kind, rows visible as they are written.
//!
//! Every row is guarded by its key, so a replay converges and no row waits for an epoch: each call of [`Sink::write`] is one
//! transaction, and an epoch only records itself in `pipeline_checkpoints`. Rows of events, letters, late events and alerts are
//! inserted once and never overwritten (a letter only by one with more `attempts`); other content under the key of an event is
//! a conflict ([`super::repeat`]). Metrics follow [`super::guard`].
//!
//! WAL with `synchronous=NORMAL`: a crash of the process loses nothing. A power failure may lose the last transactions but
//! never corrupts the file, and the lost rows are sent again, because the source continues from the last epoch. Epochs are
//! written with `synchronous=FULL`, which makes every earlier transaction durable too.
//!
//! `file` opens and locks the file, `schema` makes its tables, `cell` converts values, `write` and `repeat` write rows, `read`
//! reads them, `correct` corrects metrics, and `failure` is the error of a write.

mod cell;
mod correct;
mod failure;
mod file;
pub mod ledger;
mod read;
mod repeat;
pub mod rules;
mod schema;
mod write;

use crate::counts::SinkCounts;
use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::kind::dead::Rejected;
use crate::store::guard::Overlap;
use crate::store::repeat::Conflicts;
use crate::store::rows::FitRows;
use crate::store::sqlite::file::{OPTIONS, SCHEME, SqliteFile};
use crate::store::sqlite::read as sqlite_read;
use crate::store::sqlite::schema as sqlite_schema;
use crate::store::sqlite::write::{Metrics, insert_once};
use crate::store::{CorrectionStore, Epoch, Location, OpenOptions, Sink, SinkOutcome, Store, StoreReader};
use crate::time::format_instant;
use arrow::array::RecordBatch;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};
use std::fs::File;

/// The row in [`super::ALL`].
pub static STORE: Store = Store {
    scheme: SCHEME,
    also: &[],
    about: "sqlite:PATH: tables in one file, rows visible at once, guarded by their keys",
    is_remote: false,
    acknowledges: true,
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
    },
    corrections: Some(CorrectionStore { open: correct::open, open_to_compare: correct::open_to_compare }),
};

/// Checks that rows could be written: to a database of evt or of another program, or to a new one.
fn check(location: &Location) -> Result<Option<String>> {
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
    db: Connection,
    options: OpenOptions,
    counts: SinkCounts,
    overlap: Overlap,
    conflicts: Conflicts,
    /// Whether this run has seen a retraction; only then rows look for them.
    retracts: bool,
}

impl Sqlite {
    fn open(location: &Location, options: &OpenOptions) -> Result<Self> {
        let (file, db) = sqlite_schema::open(location)?;
        Ok(Self {
            file,
            db,
            options: options.clone(),
            counts: SinkCounts::default(),
            overlap: Overlap::default(),
            conflicts: Conflicts::default(),
            retracts: false,
        })
    }

    /// Runs `statement` with pipeline, run, number and time as a synced transaction.
    fn record(&mut self, statement: &str, epoch: Epoch) -> Result<()> {
        let failed = |e: rusqlite::Error| self.file.failed("cannot record the epoch", &e);
        let now = format_instant((self.options.clock)());
        let (run, number) = epoch.signed()?;
        self.db.execute_batch("PRAGMA synchronous = FULL").map_err(failed)?;
        self.db.execute(statement, (&self.options.pipeline, run, number, now)).map_err(failed)?;
        self.db.execute_batch("PRAGMA synchronous = NORMAL").map_err(failed)
    }
}

impl Sink for Sqlite {
    fn write(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        let fit = FitRows::of(kind, batch)?;
        let Self { file, db, options, counts, overlap, conflicts, retracts } = self;
        let failed = |e: rusqlite::Error| file.failed("cannot write", &e);
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let mut sum = *counts;
        if kind == Kind::Metric {
            Metrics::new(&tx, &options.run, overlap, retracts)
                .and_then(|mut metrics| metrics.write(&fit.batch, &mut sum))
        } else {
            insert_once(&tx, kind, &fit.batch, &mut sum, conflicts)
        }
        .map_err(|e| e.into_error(file))?;
        tx.commit().map_err(failed)?;
        let refused = fit.finish(&mut sum);
        *counts = sum;
        Ok(refused)
    }

    /// Copies the write-ahead log to the file and syncs it; each batch is already a transaction.
    fn settle(&mut self) -> Result<()> {
        let failed = |e: rusqlite::Error| self.file.failed("cannot sync", &e);
        self.db.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(())).map_err(failed)
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<()> {
        self.record(
            "INSERT INTO pipeline_checkpoints (pipeline, prepared_run, prepared_epoch, prepared_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET prepared_run = excluded.prepared_run, prepared_epoch = excluded.prepared_epoch,
                 prepared_at = excluded.prepared_at",
            epoch,
        )
    }

    fn commit(&mut self, epoch: Epoch) -> Result<()> {
        if let Some(newer) = self.committed()?.filter(|done| done.run > epoch.run) {
            return Err(epoch.replaced_by(newer.run, &self.file));
        }
        self.record(
            "INSERT INTO pipeline_checkpoints (pipeline, run, epoch, committed_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET run = excluded.run, epoch = excluded.epoch, committed_at = excluded.committed_at
             WHERE run IS NULL OR (run, epoch) < (excluded.run, excluded.epoch)",
            epoch,
        )
    }

    fn committed(&mut self) -> Result<Option<Epoch>> {
        let found = self
            .db
            .query_row(
                "SELECT run, epoch FROM pipeline_checkpoints WHERE pipeline = ?1 AND run IS NOT NULL",
                [&self.options.pipeline],
                |row| Ok(Epoch { run: row.get(0)?, number: row.get(1)? }),
            )
            .optional();
        found.map_err(|e| self.file.failed("cannot read the epoch", &e))
    }

    fn counts(&self) -> SinkCounts {
        self.counts
    }

    fn finish(self: Box<Self>) -> Result<SinkOutcome> {
        // Copies the log to the file as far as readers permit; what stays in the log is synced there.
        self.db
            .execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_checkpoint(PASSIVE)")
            .map_err(|e| self.file.failed("cannot sync", &e))?;
        match File::open(format!("{}-wal", self.file.path().display())).and_then(|log| log.sync_all()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format!("{}: cannot sync", self.file), &error));
            }
            _ => {}
        }
        let notices = self.overlap.notices().into_iter().chain(self.conflicts.notice()).collect();
        Ok(SinkOutcome { counts: self.counts, notices, ..SinkOutcome::default() })
    }
}

#[cfg(test)]
mod tests;
