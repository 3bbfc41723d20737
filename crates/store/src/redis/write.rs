//! Writes rows to Redis: packs them, sends them through scripts, reads their outcomes.

use crate::guard::RowOutcome;
use crate::redis::address::RedisAddress;
use crate::redis::key;
use crate::redis::wire::{Answer, ErrorReply, Pipe, RedisServer, ServerClock, Wire, refused, text};
use ::redis::Value;
use ahash::AHashMap;
use arrow::array::Array;
use evt_core::error::{Error, Result};
use evt_core::kind::dead::Fault;
use evt_core::kind::metric::MetricColumns;
use evt_core::time::format_instant;
use evt_run::client::outage::RetryError;
use std::collections::VecDeque;
use xxhash_rust::xxh3::xxh3_128;

/// Maximum rows in a pipeline.
const DEPTH: usize = 128;
/// Pipelines in progress: while the server works on them, the next one is packed. Several short ones keep the server
/// busier between two batches than two long ones.
const UNDER_WAY: usize = 4;
/// A pipeline that reaches this many bytes ends with fewer rows.
const BYTES_MAX: usize = 4 << 20;
/// Maximum number of series in the cache of written index entries. A full cache is cleared, so the entries are written
/// again.
const SERIES_MAX: usize = 1 << 18;
/// The largest count of a script, whose numbers are float64.
const ROWS_MAX: i64 = 1 << 53;

/// A batch of metrics, written by a run.
pub struct RedisMetrics<'a> {
    /// Its columns.
    pub columns: MetricColumns<'a>,
    /// The name of the run.
    pub run: &'a str,
    /// When it writes the batch, as text.
    pub updated_at: String,
    /// Whether it has retracted rows.
    pub retracts: bool,
    /// Whether rows are written before their epoch is complete.
    pub is_at_once: bool,
}

impl RedisMetrics<'_> {
    /// Returns the run if rows are written before their epoch is complete, else an empty text.
    fn repeated_run(&self) -> &str {
        if self.is_at_once { self.run } else { "" }
    }

    /// Formats a value; NULL is empty, and the two zeros are one.
    fn value(&self, row: usize) -> String {
        let value = self.columns.value(row);
        value.map_or_else(String::new, |value| format!("{:?}", if value == 0.0 { 0.0 } else { value }))
    }
}

/// The outcome of a row.
pub struct WrittenRow {
    /// Its outcome.
    pub outcome: RowOutcome,
    /// The number of events in the row of another run that it replaced.
    pub rows_before: Option<i64>,
}

/// The SHA-1 names of the scripts on the server.
pub struct Scripts {
    put: String,
    retract: String,
    /// Adds a member to an index.
    pub index: String,
    commit: String,
    /// Writes a row of an alert.
    pub put_alert: String,
    /// Adds an alert to the set of those that fire, or removes it.
    pub firing: String,
}

/// A row in the pipe.
struct PackedRow {
    /// The number of commands before its own; `None` if the row cannot be sent.
    command: Option<usize>,
    /// Whether the commands before its own renew the index entries of its series.
    is_indexed: bool,
}

/// An answer of `put.lua`: the row is inserted as the first window of its series.
const FIRST_OF_SERIES: i64 = 7;

/// A connection, and what is known to be on its server.
pub struct RedisSession {
    /// The connection.
    pub wire: Wire,
    /// The scripts on its server.
    pub scripts: Scripts,
    clock: ServerClock,
    /// For digests of index keys: when the entry that leads to the key must be renewed (ms).
    indexed: AHashMap<u128, i64>,
    pipe: Pipe,
}

impl RedisSession {
    /// Connects and loads the scripts.
    pub fn open(server: &RedisServer) -> Result<Self, RetryError> {
        let mut wire = server.connect()?;
        let mut load = |script: &str| {
            let name = wire.call(&["SCRIPT", "LOAD", script])?;
            text(&name).map(str::to_owned).ok_or_else(|| RetryError::from(wire.strange("SCRIPT LOAD")))
        };
        let scripts = Scripts {
            put: load(include_str!("put.lua"))?,
            retract: load(include_str!("retract.lua"))?,
            index: load(include_str!("index.lua"))?,
            commit: load(include_str!("commit.lua"))?,
            put_alert: load(include_str!("put_alert.lua"))?,
            firing: load(include_str!("firing.lua"))?,
        };
        let clock = wire.clock()?;
        Ok(Self { wire, scripts, clock, indexed: AHashMap::new(), pipe: Pipe::default() })
    }

    /// Commits an epoch; `words` are run, number and time.
    pub fn commit(&mut self, key: &str, words: &[String; 3]) -> Result<Value, RetryError> {
        let [run, number, now] = words;
        self.wire.call(&["EVALSHA", &self.scripts.commit, "1", key, run, number, now])
    }

    /// Sends the rows after the first `outcomes.len()` ones, and appends the outcome of each as answers arrive. After a
    /// failure another call continues there.
    pub fn send(
        &mut self,
        address: &RedisAddress,
        batch: &RedisMetrics<'_>,
        outcomes: &mut Vec<Result<WrittenRow, Fault>>,
    ) -> Result<(), RetryError> {
        let (mut sent, rows) = (outcomes.len(), batch.columns.ids.len());
        let mut under_way = VecDeque::with_capacity(UNDER_WAY);
        loop {
            while sent < rows && under_way.len() < UNDER_WAY {
                let packed = self.pack(address, batch, sent);
                sent += packed.len();
                self.wire.send(&self.pipe)?;
                under_way.push_back((packed, self.pipe.len()));
            }
            let Some((packed, commands)) = under_way.pop_front() else { return Ok(()) };
            let answers = self.wire.receive(commands)?;
            let first = outcomes.len();
            self.judge(address, &packed, &answers, outcomes)?;
            if self.pack_lost(address, batch, first, &packed, &answers) {
                self.wire.send(&self.pipe)?;
                under_way.push_back((vec![], self.pipe.len()));
            }
        }
    }

    /// Packs the commands of rows from `from` on into the pipe: those of one pipeline, at most [`DEPTH`] rows and about
    /// [`BYTES_MAX`] bytes. Returns the position of each row's command.
    fn pack(&mut self, address: &RedisAddress, batch: &RedisMetrics<'_>, from: usize) -> Vec<PackedRow> {
        self.pipe.clear();
        let columns = &batch.columns;
        let mut packed = Vec::with_capacity(DEPTH);
        for row in from..columns.ids.len().min(from + DEPTH) {
            if self.pipe.bytes() >= BYTES_MAX && row > from {
                break;
            }
            if columns.rows.value(row).unsigned_abs() > ROWS_MAX.unsigned_abs() {
                packed.push(PackedRow { command: None, is_indexed: false });
                continue;
            }
            let before = self.pipe.len();
            let series = self.index(address, columns, row);
            let command = self.pipe.len();
            packed.push(PackedRow { command: Some(command), is_indexed: command > before });
            self.row(address, batch, row, &series);
        }
        packed
    }

    /// Appends the outcomes of the packed rows from their answers.
    fn judge(
        &self,
        address: &RedisAddress,
        packed: &[PackedRow],
        answers: &[Answer],
        outcomes: &mut Vec<Result<WrittenRow, Fault>>,
    ) -> Result<(), RetryError> {
        // A refused index, or a transient error, concerns more than one row.
        let of_row = |index: usize| packed.iter().any(|row| row.command == Some(index));
        for (index, answer) in answers.iter().enumerate() {
            if let Err(refusal) = answer
                && !(of_row(index) && is_about_a_row(refusal))
            {
                return Err(refused(&address.server.shown, refusal));
            }
        }
        for row in packed {
            outcomes.push(match row.command.and_then(|index| answers.get(index)) {
                None => Err(Fault::of_sink("Redis scripts count at most 2^53 rows")),
                Some(answer) => read_outcome(answer)?,
            });
        }
        Ok(())
    }

    /// Packs the index entries of series that the server has lost since this session has written them, as after
    /// FLUSHALL: their rows were the first ones of their series, although the session knows the series. Returns whether
    /// there are any.
    fn pack_lost(
        &mut self,
        address: &RedisAddress,
        batch: &RedisMetrics<'_>,
        first: usize,
        packed: &[PackedRow],
        answers: &[Answer],
    ) -> bool {
        self.pipe.clear();
        for (row, PackedRow { command, is_indexed }) in (first..).zip(packed) {
            let answer = command.and_then(|command| answers.get(command));
            if *is_indexed || !matches!(answer, Some(Ok(Value::Int(FIRST_OF_SERIES)))) {
                continue;
            }
            let (name, dimensions) = (batch.columns.names.value(row), batch.columns.dimensions.value(row));
            let windows = address.keys.windows(name, &key::hash(dimensions));
            for key in [windows, address.keys.series(name)] {
                self.indexed.remove(&xxh3_128(key.as_bytes()));
            }
            self.index(address, &batch.columns, row);
        }
        self.pipe.len() > 0
    }

    /// Returns the key of the row's series; adds the commands that renew its index entries, if due.
    fn index(&mut self, address: &RedisAddress, columns: &MetricColumns<'_>, row: usize) -> String {
        let (name, dimensions) = (columns.names.value(row), columns.dimensions.value(row));
        let hash = key::hash(dimensions);
        let windows = address.keys.windows(name, &hash);
        if !self.renews(&windows, address) {
            return windows;
        }
        let now = self.clock.now();
        // The entry outlives every row that is written before its renewal.
        let ends = now.saturating_add(address.ttl / 4).saturating_add(address.ttl).to_string();
        let (now, series, member) = (now.to_string(), address.keys.series(name), format!("{hash}:{dimensions}"));
        if self.renews(&series, address) {
            for (key, member) in [(address.keys.names(), name), (series, &member)] {
                let words = ["EVALSHA", &self.scripts.index, "1", &key, member, &now, &ends];
                self.pipe.push(&words);
            }
        } else {
            self.pipe.push(&["ZADD", &series, "GT", &ends, &member]);
        }
        self.pipe.push(&["ZREMRANGEBYSCORE", &windows, "-inf", &now]);
        windows
    }

    /// Whether the index entry of `key` must be renewed; if so, notes the renewal.
    fn renews(&mut self, key: &str, address: &RedisAddress) -> bool {
        let (digest, now) = (xxh3_128(key.as_bytes()), self.clock.now());
        if self.indexed.get(&digest).is_some_and(|renew| now < *renew) {
            return false;
        }
        if self.indexed.len() >= SERIES_MAX {
            self.indexed.clear();
        }
        self.indexed.insert(digest, now.saturating_add(address.ttl / 4));
        true
    }

    /// Adds the command of one row.
    fn row(&mut self, address: &RedisAddress, batch: &RedisMetrics<'_>, row: usize, series: &str) {
        let (columns, run) = (&batch.columns, batch.run);
        let (start, end) = (columns.starts.value(row), columns.ends.value(row));
        let window = key::window(start, end);
        let key = format!("{series}:{window}");
        let gone = format!("{key}:gone");
        let (ttl, rows) = (address.ttl.to_string(), columns.rows.value(row).to_string());
        let revision = columns.revisions.value(row).to_string();
        if columns.retracted.value(row) {
            let (script, own) = (&self.scripts.retract, batch.repeated_run());
            self.pipe.push(&["EVALSHA", script, "3", &key, &gone, series, run, &revision, &rows, &ttl, &window, own]);
            return;
        }
        let (value, window_end) = (batch.value(row), format_instant(end));
        let ends = self.clock.now().saturating_add(address.ttl).to_string();
        let owner = if batch.retracts { run } else { "" };
        let dimensions = columns.dimensions.value(row);
        let pane = columns.panes.value(row).to_string();
        self.pipe.push(&[
            "EVALSHA",
            &self.scripts.put,
            "3",
            &key,
            &gone,
            series,
            run,
            &revision,
            &rows,
            &value,
            owner,
            &ttl,
            &ends,
            &window,
            dimensions,
            &window_end,
            &pane,
            &batch.updated_at,
            batch.repeated_run(),
        ]);
    }
}

/// Whether a refusal concerns only this row: another program owns its key.
pub fn is_about_a_row(refusal: &ErrorReply) -> bool {
    refusal.code == "SAMEKEY" || refusal.text.contains("WRONGTYPE")
}

fn read_outcome(answer: &Answer) -> Result<Result<WrittenRow, Fault>> {
    let outcome = match answer {
        Err(refusal) => return Ok(Err(Fault::of_sink(format!("Redis: {}", refusal.text)))),
        Ok(Value::Array(before)) => {
            let rows_before = before.first().and_then(text).and_then(|rows| rows.parse().ok());
            return Ok(Ok(WrittenRow { outcome: RowOutcome::Updated, rows_before }));
        }
        Ok(Value::Int(0 | FIRST_OF_SERIES)) => RowOutcome::Inserted,
        Ok(Value::Int(1)) => RowOutcome::Updated,
        Ok(Value::Int(2)) => RowOutcome::Unchanged,
        Ok(Value::Int(3)) => RowOutcome::Deleted,
        Ok(Value::Int(4)) => RowOutcome::Stale,
        Ok(Value::Int(5)) => RowOutcome::Outnumbered,
        Ok(Value::Int(6)) => RowOutcome::Corrected,
        Ok(_) => return Err(Error::broken("expected a number from put.lua, found another reply")),
    };
    Ok(Ok(WrittenRow { outcome, rows_before: None }))
}
