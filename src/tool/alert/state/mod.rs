//! The state file of evt-alert: a SQLite database with the engine's snapshot, the positions of the inputs, the rows
//! and letters that no output has confirmed yet (`letters.rs`), and the outbox of notifications. One transaction
//! changes all of them together. `tables.rs`: the tables.

pub mod letters;
mod tables;

use self::letters::StoredLetters;
use super::known::files::FileMark;
use super::known::older::OlderMark;
use super::positions::{
    Beginning, FramePartition, FramePartitions, PartitionTimes, Positions, RowPosition, add_position,
};
use super::topics::{ReadTopic, StoredTopics};
use arrow::array::RecordBatch;
use evt_core::alert::clock::{BegunPartition, BegunPartitions, PartitionKey};
use evt_core::alert::running::{Transition, TransitionUse};
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::format::row;
use evt_core::kind::alert::{Alert, AlertState};
use evt_core::kind::{Kind, PartitionName};
use evt_core::time::rounded;
use evt_core::time::{format_instant, parse_instant};
use evt_notify::outbox;
use evt_run::input::position::FileId;
use evt_run::input::topic_id::TopicId;
use evt_run::run::Run;
use evt_run::storage::access;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row, Transaction, TransactionBehavior, params};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The first bytes of a database of SQLite.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// How long opening the file waits for another program that holds its lock.
const OPEN_WAIT: Duration = Duration::from_secs(10);
/// How long an attempt of a transaction waits for the lock: the senders of notifications write to the same file.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long a run repeats the attempts while another program holds the lock.
const LOCK_LIMIT: Duration = Duration::from_secs(120);

/// A change of a rule, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleEdit {
    /// The rule's id.
    pub rule_id: String,
    /// Its name.
    pub rule: String,
    /// added, changed or removed.
    pub change: &'static str,
    /// The new definition.
    pub definition: Option<String>,
}

/// How far topics and stores were read.
#[derive(Clone, Copy)]
pub struct CommitPositions<'a> {
    /// The positions.
    pub reached: &'a BTreeMap<PartitionKey, RowPosition>,
    /// The topics of this run.
    pub topics: &'a [ReadTopic],
    /// The partitions in topics of frames.
    pub frames: &'a [FramePartitions],
}

/// The data that one transaction stores.
pub struct Commit<'a> {
    /// The engine's snapshot.
    pub snapshot: &'a [u8],
    /// The alert clock (µs).
    pub clock: Option<i64>,
    /// The wall time (µs).
    pub now: i64,
    /// How far topics and stores were read.
    pub positions: CommitPositions<'a>,
    /// The partitions of the inputs of all runs, by the names of these.
    pub inputs: &'a BTreeMap<String, PartitionTimes>,
    /// The first rows, until the first instant has been evaluated.
    pub first_rows: Option<&'a BegunPartitions>,
    /// Files that were read.
    pub files: &'a mut [FileMark],
    /// The channels of this run. Firings on other channels are not kept.
    pub channels: &'a BTreeSet<String>,
    /// Rows and pages.
    pub transitions: &'a [Transition],
    /// Letters, and up to which number they are durable.
    pub letters: CommitLetters<'a>,
    /// Changed rules.
    pub edits: &'a [RuleEdit],
    /// The first instant (µs) that is evaluated with them; `None` if it is not known yet. A later commit supplies it
    /// then.
    pub effective_from: Option<i64>,
}

/// Letters that one transaction stores.
#[derive(Clone, Copy)]
pub struct CommitLetters<'a> {
    /// The lines of letters of records that no later run reads again, by number.
    pub pending: &'a [(i64, String)],
    /// The number of the last letters that are durable.
    pub confirmed: i64,
}

/// The notifications of a channel in the outbox.
pub struct ChannelNotifications {
    /// The name of the channel.
    pub channel: String,
    /// Those without an outcome.
    pub due: u64,
    /// Those that the receiver rejected or that expired.
    pub lost: u64,
}

/// An open state file, which only this run uses.
pub struct StateFile {
    path: PathBuf,
    /// The file that was opened.
    id: FileId,
    db: Connection,
    run: Rc<Run>,
    _lock: File,
}

impl StateFile {
    /// Checks that a state file can be opened or created, without opening it.
    ///
    /// Errors: exit status 74 if it cannot.
    pub fn check(path: &Path) -> Result<()> {
        // The database and its lock have files beside it.
        let checked = access::check_file(path).and_then(|()| access::check_existing_directory(access::parent(path)));
        checked.map_err(|error| Error::io(format!("--state {}", path.display()), &error))?;
        let mut head = vec![];
        let read = File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut head));
        if read.is_ok() && !head.is_empty() && head != MAGIC {
            return Err(
                Error::corrupt("expected a state of evt-alert, found another file").at(path.display().to_string())
            );
        }
        Ok(())
    }

    /// Opens or creates a state file.
    ///
    /// Errors: exit status 75 if another run has it, 74 if it cannot be opened, 65 if it is not a database.
    pub fn open(path: &Path, run: &Rc<Run>) -> Result<Self> {
        let (name, disk) = (path.display().to_string(), run.io.disk().private());
        // Also where a link leads to no file yet, because the lock is beside the file. SQLite gives the log and its
        // index the mode of this file.
        let created = disk.open(path, File::options().create(true).truncate(false).write(true));
        drop(created.map_err(|error| Error::io(&name, &error))?);
        let lock_path = lock_path(path);
        let lock = disk.open(&lock_path, File::options().create(true).truncate(false).write(true));
        let lock = lock.map_err(|error| Error::io(lock_path.display().to_string(), &error))?.file;
        hold(&lock, path)?;
        let db = Connection::open(path).map_err(|error| failed(path, "cannot open the state", &error))?;
        let failed = |error: rusqlite::Error| failed(path, "cannot open the state", &error);
        let prepared = db.busy_timeout(OPEN_WAIT).and_then(|()| {
            db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")?;
            tables::create(&db)
        });
        prepared.map_err(failed)?;
        outbox::create_tables(&db)?;
        db.busy_timeout(ATTEMPT).map_err(failed)?;
        let id = std::fs::metadata(path).map(|found| FileId::of(&found)).map_err(|error| Error::io(&name, &error))?;
        Ok(Self { path: path.to_owned(), id, db, run: run.clone(), _lock: lock })
    }

    fn failed(&self, what: &str, error: &rusqlite::Error) -> Error {
        failed(&self.path, what, error)
    }

    /// Returns what `read` makes of the rows of a query; `what` is the message if it fails.
    fn rows<T>(
        &self,
        sql: &str,
        values: impl Params,
        what: &str,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let statement = self.db.prepare_cached(sql);
        let rows = statement.and_then(|mut statement| statement.query_map(values, read)?.collect());
        rows.map_err(|error| self.failed(what, &error))
    }

    /// Returns the engine's snapshot; `None` in a new file.
    pub fn snapshot(&self) -> Result<Option<Vec<u8>>> {
        let found = self.db.query_row("SELECT snapshot FROM engine", [], |row| row.get(0)).optional();
        found.map_err(|error| self.failed("cannot read the snapshot", &error))
    }

    /// Returns the wall time (µs) at which the state was stored; `None` in a new file.
    pub fn saved_at(&self) -> Result<Option<i64>> {
        let found = self.db.query_row("SELECT saved_at FROM engine", [], |row| row.get::<_, String>(0)).optional();
        let found = found.map_err(|error| self.failed("cannot read the state", &error))?;
        Ok(found.as_deref().and_then(parse_instant))
    }

    /// Returns the positions of all partitions.
    pub fn positions(&self) -> Result<Positions> {
        let sql = "SELECT topic, \"partition\", next_offset, stream_time, topic_id FROM positions";
        let positions = self.rows(sql, [], "cannot read the positions", |row| {
            let topic_id = row.get::<_, Option<String>>(4)?.and_then(|text| TopicId::parse(&text));
            let position = RowPosition { next: row.get(2)?, stream_time: row.get(3)?, topic_id };
            Ok(((row.get(0)?, row.get(1)?), position))
        })?;
        Ok(positions.into_iter().collect())
    }

    /// Returns what the state has of topics.
    pub fn topics(&self) -> Result<StoredTopics> {
        let sql = "SELECT topic, origin FROM topics";
        let origins = self.rows(sql, [], "cannot read the topics", |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(StoredTopics { positions: self.positions()?, origins: origins.into_iter().collect() })
    }

    /// Returns the partitions of the rows in a topic of frames.
    pub fn frame_partitions(&self, topic: &str) -> Result<Vec<FramePartition>> {
        let sql = "SELECT origin, \"partition\", stream_time FROM frame_partitions WHERE topic = ?1";
        self.rows(sql, [topic], "cannot read the positions", |row| {
            Ok(FramePartition { origin: row.get(0)?, partition: row.get(1)?, stream_time: row.get(2)? })
        })
    }

    /// Returns how far the inputs were read, and what decides the first instant while none has been evaluated.
    pub fn beginning(&self) -> Result<Beginning> {
        let what = "cannot read the first rows";
        // A state of an earlier version does not say of which partitions the rows of an input are.
        let sql = "SELECT name, coalesce(origin, ''), coalesce(\"partition\", ''), coalesce(one.read_to, i.read_to)
                   FROM inputs i LEFT JOIN input_partitions one USING (name)";
        let inputs = self.rows(sql, [], what, |row| {
            let (key, read_to) = ((row.get(1)?, row.get(2)?), row.get::<_, Option<i64>>(3)?);
            Ok((row.get::<_, String>(0)?, read_to.map(|read_to| (key, read_to))))
        })?;
        let mut beginning = Beginning::default();
        inputs.into_iter().for_each(|(name, read)| beginning.add_input(&name, read));
        let first = self.rows("SELECT origin, \"partition\", least, cut FROM first_rows", [], what, |row| {
            Ok(((row.get(0)?, row.get(1)?), BegunPartition { least: row.get(2)?, cut: row.get(3)? }))
        })?;
        beginning.first_rows = first.into_iter().collect();
        Ok(beginning)
    }

    /// Returns the files that an older version has read.
    pub fn older_files(&self) -> Result<Vec<OlderMark>> {
        let read = || {
            let columns = "name, head, tail_hash, length, last_offset, last_letter";
            let sql = format!("SELECT {columns} FROM older_files ORDER BY id");
            let Ok(mut statement) = self.db.prepare(&sql) else { return Ok(vec![]) };
            let rows = statement.query_map([], |row| {
                Ok(OlderMark {
                    name: row.get(0)?,
                    head: row.get(1)?,
                    tail_hash: row.get::<_, i64>(2)?.cast_unsigned(),
                    length: row.get::<_, i64>(3)?.cast_unsigned(),
                    last: row.get(4)?,
                    last_letter: row.get(5)?,
                })
            })?;
            rows.collect()
        };
        read().map_err(|error: rusqlite::Error| self.failed("cannot read the files", &error))
    }

    /// Returns the files that were read.
    pub fn files(&self) -> Result<Vec<FileMark>> {
        let what = "cannot read the files";
        let sql = "SELECT file, origin, \"partition\", last_offset FROM file_partitions";
        let partitions = self.rows(sql, [], what, |row| {
            let name = PartitionName { origin: row.get(1)?, partition: row.get(2)? };
            Ok((row.get::<_, i64>(0)?, (name, row.get(3)?)))
        })?;
        let of_file = |file: i64| partitions.iter().filter(move |(of, _)| *of == file).map(|(_, last)| last.clone());
        let sql = "SELECT id, name, content, last_offset, last_row, last_letter FROM files ORDER BY id";
        self.rows(sql, [], what, |row| {
            Ok(FileMark {
                id: Some(row.get(0)?),
                name: row.get(1)?,
                content: serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_default(),
                last_offset: row.get(3)?,
                last_row: row.get(4)?,
                last_letter: row.get(5)?,
                last_of_partitions: of_file(row.get(0)?).collect(),
            })
        })
    }

    /// Returns the rows that no output has confirmed, if there are any.
    pub fn unconfirmed(&self) -> Result<Option<RecordBatch>> {
        let sql = "SELECT alert FROM unconfirmed ORDER BY id";
        let rows: Vec<String> = self.rows(sql, [], "cannot read the rows", |row| row.get(0))?;
        let mut builder = row::Builder::with_schema(Kind::Alert.schema());
        for alert in &rows {
            let unreadable = || Error::corrupt("the state has a row that is not an alert");
            builder.push(alert).map_err(|fault| unreadable().because(fault.message))?;
        }
        if rows.is_empty() { Ok(None) } else { builder.finish().map(Some) }
    }

    /// Returns the letters that the outputs may not have.
    pub fn unwritten_letters(&self) -> Result<Vec<StoredLetters>> {
        let sql = "SELECT id, letters FROM unwritten_letters ORDER BY id";
        let found: Vec<(i64, String)> =
            self.rows(sql, [], "cannot read the letters", |row| Ok((row.get(0)?, row.get(1)?)))?;
        found.iter().map(|(number, text)| letters::from_text(*number, text)).collect()
    }

    /// Returns the number of the last row that no output has confirmed.
    pub fn last_unconfirmed(&self) -> Result<Option<i64>> {
        let last = self.db.query_row("SELECT max(id) FROM unconfirmed", [], |row| row.get(0));
        last.map_err(|error| self.failed("cannot read the rows", &error))
    }

    /// Returns the notifications in the outbox, counted by channel.
    pub fn notifications(&self) -> Result<Vec<ChannelNotifications>> {
        let sql = "SELECT channel, count(*) FILTER (WHERE outcome IS NULL),
                    count(*) FILTER (WHERE outcome IN ('refused', 'expired')) FROM outbox GROUP BY channel";
        let count = |row: &Row<'_>, at| row.get::<_, i64>(at).map(i64::unsigned_abs);
        self.rows(sql, [], "cannot read the outbox", |row| {
            Ok(ChannelNotifications { channel: row.get(0)?, due: count(row, 1)?, lost: count(row, 2)? })
        })
    }

    /// Forgets rows that every output has confirmed, up to number `last`, and letters, up to number `letters`.
    pub fn confirm(&mut self, last: i64, letters: i64) -> Result<()> {
        let failed = |error: rusqlite::Error| self.failed("cannot confirm rows", &error);
        let tx = self.begin("cannot confirm rows")?;
        tx.execute("DELETE FROM unconfirmed WHERE id <= ?1", [last]).map_err(failed)?;
        letters::confirm(&tx, letters).map_err(failed)?;
        tx.commit().map_err(failed)
    }

    /// Stores everything in one transaction.
    pub fn commit(&mut self, commit: Commit<'_>) -> Result<()> {
        // SQLite continues to write a file that was removed, and the next run would not find it.
        if std::fs::metadata(&self.path).ok().map(|found| FileId::of(&found)) != Some(self.id) {
            let message = "cannot store the state: the file was removed or replaced while this run used it";
            return Err(Error::failed(message).at(self.path.display().to_string()));
        }
        let failed = |error: &rusqlite::Error| self.failed("cannot store the state", error);
        let tx = self.begin("cannot store the state")?;
        store(&tx, commit, &failed)?;
        tx.commit().map_err(|error| failed(&error))
    }

    /// Begins a transaction that writes. While another program holds the lock of the file, the run waits.
    ///
    /// Errors: exit status 75 if it holds the lock for too long.
    fn begin(&self, what: &str) -> Result<Transaction<'_>> {
        let (wait, name, limit) = (self.run.stop.server_wait(), self.path.display(), rounded(LOCK_LIMIT));
        let mut has_said = false;
        loop {
            let error = match Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate) {
                Ok(tx) => {
                    if has_said {
                        let waited = rounded(wait.idle());
                        self.run.console.say(format!("{name}: the lock is free again after {waited}"));
                    }
                    return Ok(tx);
                }
                Err(error) if !is_busy(&error) => return Err(self.failed(what, &error)),
                Err(error) => error,
            };
            let waited = wait.idle();
            if waited >= LOCK_LIMIT || wait.is_over() {
                let advice =
                    "end its transaction and start evt-alert again, which continues where the state was stored last";
                let message =
                    format!("{name}: {what}: another program has held the lock for {}: {advice}", rounded(waited));
                return Err(Error::busy(message).because(error));
            }
            if !std::mem::replace(&mut has_said, true) {
                let line = format!("{name}: {what}: another program holds the lock: retrying for up to {limit}");
                self.run.console.warn(line);
            }
        }
    }
}

/// Returns the path of the lock of a state, which is beside the file itself, whatever links lead there.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).into_os_string();
    name.push(".lock");
    name.into()
}

/// Takes the lock of a state. Errors: exit status 75 if another run has it.
fn hold(lock: &File, path: &Path) -> Result<()> {
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(Error::busy(format!("{}: another evt-alert uses this state", path.display())))
        }
        Err(TryLockError::Error(error)) => Err(Error::io(lock_path(path).display().to_string(), &error)),
    }
}

/// Executes the statements of a commit.
fn store(tx: &Transaction<'_>, commit: Commit<'_>, failed: &dyn Fn(&rusqlite::Error) -> Error) -> Result<()> {
    let CommitPositions { reached, topics, frames } = commit.positions;
    let stored = store_frames(tx, frames).and_then(|()| store_beginning(tx, &commit));
    let CommitLetters { pending, confirmed } = commit.letters;
    let stored = stored.and_then(|()| store_topics(tx, topics));
    let stored = stored.and_then(|()| letters::store(tx, pending, confirmed));
    stored.map_err(|error| failed(&error))?;
    let Commit { snapshot, clock, now, files, transitions, edits, effective_from, .. } = commit;
    let known = commit.channels;
    let (clock, effective_from) = (clock.map(format_instant), effective_from.map(format_instant));
    let execute = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        tx.prepare_cached(sql).and_then(|mut statement| statement.execute(values)).map_err(|error| failed(&error))
    };
    execute("INSERT OR REPLACE INTO engine VALUES (1, ?1, ?2, ?3)", params![snapshot, clock, format_instant(now)])?;
    let mut merged = BTreeMap::new();
    for (PartitionKey { origin: topic, partition, .. }, position) in reached {
        add_position(&mut merged, (topic, partition), *position);
    }
    for ((topic, partition), RowPosition { next, stream_time, topic_id }) in merged {
        execute(
            "INSERT OR REPLACE INTO positions (topic, \"partition\", next_offset, stream_time, topic_id)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![topic, partition, next, stream_time, topic_id.map(String::from)],
        )?;
    }
    for file in files {
        let FileMark { id, name, content, last_offset, last_row, last_letter, last_of_partitions } = &*file;
        let content = serde_json::json!(content).to_string();
        execute(
            "INSERT OR REPLACE INTO files VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![id, name, content, last_offset, last_row, last_letter],
        )?;
        let id = id.unwrap_or_else(|| tx.last_insert_rowid());
        for (PartitionName { origin, partition }, last) in last_of_partitions {
            execute(
                "INSERT OR REPLACE INTO file_partitions VALUES (?1, ?2, ?3, ?4)",
                params![id, origin, partition, last],
            )?;
        }
        file.id = Some(id);
    }
    if effective_from.is_some() {
        execute("UPDATE rule_edits SET effective_from = ?1 WHERE effective_from IS NULL", params![effective_from])?;
    }
    for edit in edits {
        let RuleEdit { rule_id, rule, change, definition } = edit;
        execute(
            "INSERT INTO rule_edits (effective_from, rule_id, rule, change, definition) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![effective_from, rule_id, rule, change, definition],
        )?;
    }
    for Transition { alert, channels, purpose } in transitions {
        if *purpose == TransitionUse::Row {
            execute("INSERT INTO unconfirmed (alert) VALUES (?1)", params![outbox::json(alert)?])?;
        }
        if alert.state == AlertState::Resolved {
            outbox::enqueue_resolve(tx, alert)?;
            continue;
        }
        for channel in channels.iter().filter(|channel| known.contains(*channel)) {
            match purpose {
                TransitionUse::Row => outbox::enqueue(tx, channel, alert)?,
                TransitionUse::Page => outbox::enqueue(tx, channel, &Alert { caught_up: false, ..alert.clone() })?,
                TransitionUse::Repeat => outbox::enqueue_repeat(tx, channel, alert)?,
            };
        }
    }
    Ok(())
}

/// Stores which topics were read. The positions that an earlier version has stored become those of the topic.
fn store_topics(tx: &Transaction<'_>, topics: &[ReadTopic]) -> rusqlite::Result<()> {
    for ReadTopic { topic, origin, stored_as } in topics {
        let known = "SELECT 1 FROM topics WHERE topic = ?1";
        if !tx.prepare_cached(known)?.exists([topic])? {
            let sql = "UPDATE OR REPLACE positions SET topic = ?1 WHERE topic = ?2";
            tx.execute(sql, params![topic, stored_as])?;
        }
        tx.prepare_cached("INSERT OR REPLACE INTO topics VALUES (?1, ?2)")?.execute(params![topic, origin])?;
    }
    Ok(())
}

/// Replaces the partitions of topics of frames.
fn store_frames(tx: &Transaction<'_>, frames: &[FramePartitions]) -> rusqlite::Result<()> {
    for FramePartitions { topic, open } in frames {
        tx.prepare_cached("DELETE FROM frame_partitions WHERE topic = ?1")?.execute([topic])?;
        let mut insert = tx.prepare_cached("INSERT INTO frame_partitions VALUES (?1, ?2, ?3, ?4)")?;
        for FramePartition { origin, partition, stream_time } in open {
            insert.execute(params![topic, origin, partition, stream_time])?;
        }
    }
    Ok(())
}

/// Replaces how far the inputs were read, and what decides the first instant.
fn store_beginning(tx: &Transaction<'_>, commit: &Commit<'_>) -> rusqlite::Result<()> {
    tx.execute_batch("DELETE FROM inputs; DELETE FROM input_partitions; DELETE FROM first_rows")?;
    for (name, partitions) in commit.inputs {
        let read_to = partitions.values().max();
        tx.prepare_cached("INSERT INTO inputs VALUES (?1, ?2)")?.execute(params![name, read_to])?;
        let mut insert = tx.prepare_cached("INSERT INTO input_partitions VALUES (?1, ?2, ?3, ?4)")?;
        for ((origin, partition), read_to) in partitions {
            insert.execute(params![name, origin, partition, read_to])?;
        }
    }
    for ((origin, partition), BegunPartition { least, cut }) in commit.first_rows.into_iter().flatten() {
        let mut insert = tx.prepare_cached("INSERT INTO first_rows VALUES (?1, ?2, ?3, ?4)")?;
        insert.execute(params![origin, partition, least, cut])?;
    }
    Ok(())
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn failed(path: &Path, what: &str, error: &rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        _ if is_busy(error) => ErrorKind::Busy,
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => ErrorKind::Corrupt,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("{}: {what}", path.display())).because(error)
}
