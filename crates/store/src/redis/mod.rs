//! `redis://HOST/DATABASE`: metrics and alerts for dashboards, each a hash that expires, visible at once. Metrics are
//! guarded by their version, alerts by their state.
//!
//! A script on the server writes each row, so that no other writer can interfere between its read and its write. It
//! follows [`super::guard`]; a retraction leaves a tombstone beside the row. Scripts are sent in pipelines of bounded
//! depth. If a connection is lost the outcome of the commands in progress is unknown: they are sent again, which
//! changes nothing if they had arrived (such rows are counted as `unchanged`).
//!
//! ```text
//! rows ─► write: pack ─► pipe ─► wire ─► put.lua, retract.lua, index.lua ─► outcomes
//! read: names ─► series ─► windows ─► rows
//! ```
//!
//! Indexes lead a reader from names to series to windows without SCAN ([`key`]). Their members carry the time at which
//! the rows expire, and are removed then. The index is written before the row it leads to.
//!
//! With a checkpoint rows are written before their epoch is complete, unless `?visible=epoch`. Durability depends on
//! the server (`appendfsync`): an epoch is recorded, not synced.
//!
//! `address` parses the URI, `connection` sends and receives bytes, `wire` is a thread that owns a connection, `key`
//! names keys, `write` sends metrics and `alert` alerts, `read` reads both back, and `serving` answers with metrics;
//! `*.lua` are the scripts on the server.

mod address;
mod alert;
mod connection;
mod key;
mod read;
mod serving;
mod wire;
mod write;

use crate::progress::{self, NotedMetrics};
use crate::redis::address::{OPTIONS, RedisAddress};
use crate::redis::key::RedisKeys;
use crate::redis::read as redis_read;
use crate::redis::wire::{Answer, ErrorReply, Pipe, Wire, refused};
use crate::redis::write::{RedisMetrics, RedisSession};
use crate::rows::{count_rejected, fit_rows};
use crate::sink::write_rows;
use crate::tally::Tally;
use crate::{CheckScope, Medium, OpenOptions, RowsToWrite, Sink, SinkOutcome, Store, StoreReader, Visibility};
use ::redis::Value;
use arrow::array::RecordBatch;
use evt_core::counts::SinkCounts;
use evt_core::error::{Error, Result};
use evt_core::frame::MetricProgress;
use evt_core::kind::Kind;
use evt_core::kind::dead::Rejected;
use evt_core::kind::metric::MetricColumns;
use evt_core::time::format_instant;
use evt_run::checkpoint::epoch::{Epoch, EpochRows};
use evt_run::client::Location;
use evt_run::client::outage::{RetryError, RetryPolicy};

/// The row in [`super::ALL`].
pub static STORE: Store = Store {
    scheme: "redis",
    also: &["rediss"],
    about: "redis://HOST/DATABASE: metrics and alerts as hashes that expire, visible at once, guarded by their keys (rediss: TLS)",
    options: &OPTIONS,
    kinds: &[Kind::Metric, Kind::Alert],
    extensions: &[],
    magic: b"",
    client: None,
    medium: Medium::Server,
    visibility: Visibility::AtOnce,
    replaces: |_| false,
    check,
    open: |location, options| Ok(Box::new(Redis::open(location, options)?)),
    reader: StoreReader {
        tables: redis_read::tables,
        read: redis_read::read,
        stream_extents: None,
        extent: None,
        waits: None,
        kept_since: None,
        serving: Some(serving::open),
    },
    corrections: None,
    ledger: None,
    rules: None,
    upkeep: None,
};

/// Checks that the server answers, accepts the user and, for `--check`, that rows could be written.
fn check(location: &Location, scope: CheckScope) -> Result<Option<String>> {
    let address = RedisAddress::try_new(location)?;
    let mut wire = address.server.connect().map_err(address.server.failed())?;
    if let CheckScope::Rows(RowsToWrite { kind, .. }) = scope {
        check_writable(&mut wire, &address, kind).map_err(address.server.failed())?;
    }
    Ok(None)
}

/// Checks whether rows of `kind` could be written, or those of at least one kind if none is given.
///
/// ACL DRYRUN needs Redis 7 and a right of its own, and INFO another one. So this sends commands that a run sends, each
/// with an argument that the server refuses, but only after it has looked at its own state and the rights of the user:
/// a script that does not compile, one that does not exist, and a score that is no number. None of them changes
/// anything.
fn check_writable(wire: &mut Wire, address: &RedisAddress, kind: Option<Kind>) -> Result<(), RetryError> {
    let keys = match kind {
        Some(Kind::Alert) => vec![address.keys.firing()],
        Some(_) => vec![address.keys.names()],
        None => vec![address.keys.names(), address.keys.firing()],
    };
    let mut refusal = None;
    for key in keys {
        let mut pipe = Pipe::default();
        pipe.push(&["SCRIPT", "LOAD", "("]);
        pipe.push(&["EVALSHA", NO_SCRIPT, "1", &key]);
        pipe.push(&["ZADD", &key, "x", "evt"]);
        // The refused arguments are expected: ERR, NOSCRIPT, or WRONGTYPE for a key of another program.
        let answers = wire.query(&pipe)?;
        match answers.into_iter().filter_map(Answer::err).find(ErrorReply::is_about_server) {
            None => return Ok(()),
            Some(found) => refusal = refusal.or(Some(found)),
        }
    }
    refusal.map_or(Ok(()), |refusal| Err(refused(&address.server.shown, &refusal)))
}

/// The name of a script that no server has.
const NO_SCRIPT: &str = "0000000000000000000000000000000000000000";

/// An open output in Redis.
struct Redis {
    address: RedisAddress,
    retries: RetryPolicy,
    session: Option<RedisSession>,
    options: OpenOptions,
    tally: Tally,
    noted: NotedMetrics,
}

impl Redis {
    fn open(location: &Location, options: &OpenOptions) -> Result<Self> {
        let address = RedisAddress::try_new(location)?;
        let retries = location.retries()?.with_metrics(options.up.clone());
        let (options, tally, noted) = (options.clone(), Tally::default(), NotedMetrics::default());
        let mut sink = Self { address, retries, session: None, options, tally, noted };
        sink.with_session(|_, _| Ok(()))?;
        Ok(sink)
    }

    /// Runs `work` with a connection, and again with a new one if the connection is lost.
    fn with_session<T>(
        &mut self,
        mut work: impl FnMut(&RedisAddress, &mut RedisSession) -> Result<T, RetryError>,
    ) -> Result<T> {
        let Self { address, retries, session, .. } = self;
        retries.run(|| {
            let mut open = match session.take() {
                Some(open) => open,
                None => RedisSession::open(&address.server)?,
            };
            let done = work(address, &mut open)?;
            *session = Some(open);
            Ok(done)
        })
    }

    fn write_metrics(&mut self, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        let mut fit = fit_rows(Kind::Metric, batch)?;
        let rows = fit.batch.clone();
        let columns = MetricColumns::try_new(&rows)?;
        self.tally.retracts |= columns.retracted.true_count() > 0;
        let (options, updated_at) = (self.options.clone(), format_instant((self.options.clock)()));
        let (run, is_at_once) = (&options.run, options.is_at_once);
        let batch = RedisMetrics { columns, run, updated_at, retracts: self.tally.retracts, is_at_once };
        let (columns, mut outcomes) = (&batch.columns, Vec::with_capacity(rows.num_rows()));
        self.with_session(|address, session| session.send(address, &batch, &mut outcomes))?;
        for (row, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(write::WrittenRow { outcome, rows_before }) => {
                    self.tally.judged(columns, row, outcome)?;
                    rows_before.into_iter().for_each(|before| self.tally.replaced(columns, row, before));
                }
                Err(fault) => fit.reject(Rejected { row, fault })?,
            }
        }
        Ok(count_rejected(fit, &mut self.tally.counts))
    }

    fn write_alerts(&mut self, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        let mut fit = fit_rows(Kind::Alert, batch)?;
        let (rows, mut outcomes) = (alert::rows(&self.address, &fit.batch)?, Vec::with_capacity(batch.num_rows()));
        self.with_session(|address, session| alert::send(session, address, &rows, &mut outcomes))?;
        for (row, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(done) => done.outcome.count_in(&mut self.tally.counts),
                Err(fault) => fit.reject(Rejected { row, fault })?,
            }
        }
        Ok(count_rejected(fit, &mut self.tally.counts))
    }

    /// Keeps how far the metrics are whose rows are written.
    fn keep_noted(&mut self) -> Result<()> {
        if self.noted.is_empty() {
            return Ok(());
        }
        let mut words = vec!["HSET".to_owned(), self.address.keys.progress()];
        for metric in self.noted.all() {
            words.push(RedisKeys::progress_field(&self.options.pipeline, &metric.metric));
            words.push(progress::to_json(&metric).to_string());
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.with_session(|address, session| {
            session.wire.call(&words)?;
            session.wire.call(&["PEXPIRE", words[1], &address.ttl.to_string()])
        })?;
        self.noted.clear();
        Ok(())
    }

    fn pipeline(&self) -> String {
        self.address.keys.pipeline(&self.options.pipeline)
    }
}

impl Sink for Redis {
    fn write(&mut self, kind: Kind, batch: &RecordBatch) -> Result<Vec<Rejected>> {
        // It is about rows that are written. With a checkpoint it belongs to the epoch.
        if !self.options.epochs {
            self.keep_noted()?;
        }
        match kind {
            Kind::Metric => self.write_metrics(batch),
            Kind::Alert => self.write_alerts(batch),
            _ => Err(STORE.other_kind(kind, &self.address.server.shown)),
        }
    }

    fn note_metrics(&mut self, metrics: &[MetricProgress]) {
        self.noted.add(metrics);
    }

    /// Redis has no transaction over many keys: rows become visible one by one, and a repeated commit finds them
    /// unchanged.
    fn commit(&mut self, epoch: Epoch, rows: &mut dyn EpochRows) -> Result<()> {
        if !epoch.is_due(self.committed()?, &self.address.server.shown)? {
            return Ok(());
        }
        write_rows(self, rows)?;
        self.keep_noted()?;
        let key = self.pipeline();
        let words = [epoch.run.to_string(), epoch.number.to_string(), format_instant((self.options.clock)())];
        match self.with_session(|_, session| session.commit(&key, &words))? {
            Value::Int(0) => Ok(()),
            Value::Int(newer) => Err(epoch.replaced_by(newer.unsigned_abs(), &self.address.server.shown)),
            _ => Err(Error::broken("expected a number from commit.lua, found another reply")),
        }
    }

    fn committed(&mut self) -> Result<Option<Epoch>> {
        let key = self.pipeline();
        let words = ["HMGET", &key, "run", "epoch"];
        let Value::Array(parts) = self.with_session(|_, session| session.wire.call(&words))? else { return Ok(None) };
        let part = |index: usize| parts.get(index).and_then(wire::text).and_then(|text| text.parse().ok());
        Ok(part(0).zip(part(1)).map(|(run, number)| Epoch { run, number }))
    }

    fn counts(&self) -> SinkCounts {
        self.tally.counts
    }

    fn finish(mut self: Box<Self>) -> Result<SinkOutcome> {
        self.keep_noted()?;
        Ok(self.tally.outcome())
    }
}

#[cfg(test)]
mod tests;
