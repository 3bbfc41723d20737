//! The outbox: notifications that are due, and the outcome of those that are done, in the state file of evt-alert.
//!
//! [`enqueue`] runs in the transaction of the alert's transition, so a notification exists if and only if its
//! transition is stored. It decides which transitions are pages:
//!
//! - A firing that is `caught_up` is not a page. Once the alert clock has caught up, the engine calls [`enqueue`] for
//!   the alerts that still fire, with `caught_up` false.
//! - A resolve is a page if and only if the firing of the same alert was a page on this channel, whatever channels the
//!   rule has now ([`enqueue_resolve`]). Otherwise it is stored as skipped: the alert has ended, so its rows can be
//!   deleted later ([`Outbox::prune`]). The sender decides it again when it delivers: a resolve whose firing was
//!   refused is skipped.
//! - A notification is stored once for each (channel, alert, state); [`enqueue_repeat`] adds one to a firing.
//!
//! Notifications of one alert and channel are delivered in the order of `id`. If a receiver accepts a notification for
//! some recipients only, the table `outbox_recipients` has the recipients that still wait for it. The next notification
//! of the alert goes to the other recipients at once, and to the waiting recipients after they have the earlier
//! notification.

use crate::channel::{Missed, Notification, Recipients};
use evt_core::error::{Error, ErrorKind, Result};
use evt_core::format;
use evt_core::format::jsonl::Objects;
use evt_core::kind::Kind;
use evt_core::kind::alert::{Alert, AlertState};
use evt_core::kind::alerts;
use evt_core::time::DAY;
use evt_run::clock::Clock;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, ToSql, Transaction, params};
use std::path::Path;
use std::time::Duration;

/// The tables. `outcome` is NULL for a notification that is due; `alert` is the row as JSON; `due_at` and `tried_at`
/// (the first attempt of the run that tried last) are wall time in µs; `is_unclear` says that the notification may have
/// arrived, because an attempt is under way or ended without an answer, or that it has arrived for some recipients.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT NOT NULL,
    alert_id TEXT NOT NULL,
    state TEXT NOT NULL,
    repeat INTEGER NOT NULL,
    alert TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    is_unclear INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL DEFAULT 0,
    tried_at INTEGER,
    outcome TEXT,
    done_at INTEGER,
    cause TEXT,
    UNIQUE (channel, alert_id, state, repeat)
);
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (channel, id) WHERE outcome IS NULL;
CREATE INDEX IF NOT EXISTS outbox_alert ON outbox (alert_id);
CREATE TABLE IF NOT EXISTS outbox_recipients (
    id INTEGER NOT NULL,
    recipient TEXT NOT NULL,
    PRIMARY KEY (id, recipient)
) WITHOUT ROWID;";

/// Whether a due notification `o` waits for an earlier notification of its alert. An earlier notification that some
/// recipients have does not delay the first attempt, which leaves out the recipients that wait for the earlier one
/// ([`Recipients::later`]).
///
/// The unary plus keeps SQLite from the index of due notifications: an alert has few notifications, but the outbox may
/// have many that are due.
const WAITS: &str = "EXISTS (
    SELECT 1 FROM outbox AS e WHERE e.channel = o.channel AND e.alert_id = o.alert_id AND +e.outcome IS NULL
    AND e.id < o.id AND (EXISTS (SELECT 1 FROM outbox_recipients AS r WHERE r.id = o.id)
                         OR NOT EXISTS (SELECT 1 FROM outbox_recipients AS r WHERE r.id = e.id)))";

/// The outcome of [`enqueue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// The notification is in the outbox now.
    Queued,
    /// It was there already.
    Known,
    /// It is not paged: a firing that is `caught_up`, a resolve whose firing was not paged, or a repeat of a page that
    /// nobody has yet.
    NoPage,
}

/// How long a run waits for the lock of the file.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How long the notifications of a resolved alert are kept (µs), for people who ask what was sent.
const KEPT: i64 = 7 * DAY;

/// The final outcome of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver has accepted it.
    Sent,
    /// The receiver refused it permanently.
    Refused,
    /// It was retried for as long as the channel allows.
    Expired,
    /// A resolve of a firing that never arrived.
    Skipped,
}

impl DeliveryOutcome {
    /// Returns the word in the column `outcome`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Skipped => "skipped",
        }
    }
}

/// Creates the tables that do not exist. Errors: exit status 74, or 75 if another run holds the lock.
pub fn create_tables(db: &Connection) -> Result<()> {
    db.execute_batch(TABLES).map_err(|error| failed("cannot create the outbox", &error))
}

/// Adds the notification of an alert's transition to a channel, if it is a page (see the module). Errors: exit status
/// 74, or 75 if another run holds the lock.
pub fn enqueue(tx: &Transaction<'_>, channel: &str, alert: &Alert) -> Result<Enqueued> {
    match alert.state {
        AlertState::Firing if alert.caught_up => Ok(Enqueued::NoPage),
        AlertState::Resolved if !was_paged(tx, channel, alert)? => skip(tx, channel, alert),
        AlertState::Firing | AlertState::Resolved => insert(tx, channel, alert, 0),
    }
}

/// Adds the resolve of an alert to every channel on which its firing was a page. The channels of the rule may be other
/// ones by now, or this run may not have them: then the next run that has them sends the resolve. Errors: as
/// [`enqueue`].
pub fn enqueue_resolve(tx: &Transaction<'_>, alert: &Alert) -> Result<()> {
    let query = "SELECT DISTINCT channel FROM outbox WHERE alert_id = ?1 AND state = 'firing' ORDER BY channel";
    let mut statement = tx.prepare_cached(query).map_err(unreadable)?;
    let channels = statement.query_map([alert.id().to_string()], |row| row.get(0)).map_err(unreadable)?;
    let channels: Vec<String> = channels.collect::<Result<_, _>>().map_err(unreadable)?;
    channels.iter().try_for_each(|channel| enqueue(tx, channel, alert).map(drop))
}

/// Adds one more notification of an alert that still fires, unless nobody has the last one yet or the firing was not
/// paged. Errors: as [`enqueue`].
pub fn enqueue_repeat(tx: &Transaction<'_>, channel: &str, alert: &Alert) -> Result<Enqueued> {
    let query = "SELECT max(repeat), max(outcome IS NULL AND id NOT IN (SELECT id FROM outbox_recipients)) FROM outbox
                 WHERE channel = ?1 AND alert_id = ?2 AND state = 'firing' HAVING count(*) > 0";
    let found: rusqlite::Result<(i64, bool)> =
        tx.query_row(query, params![channel, alert.id().to_string()], |row| Ok((row.get(0)?, row.get(1)?)));
    match found.optional().map_err(unreadable)? {
        Some((last, false)) => insert(tx, channel, alert, last + 1),
        _ => Ok(Enqueued::NoPage),
    }
}

/// Whether a firing of this alert is due on this channel or may have arrived there.
fn was_paged(db: &Connection, channel: &str, alert: &Alert) -> Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM outbox WHERE channel = ?1 AND alert_id = ?2 AND state = 'firing'
                 AND (outcome IS NULL OR outcome = 'sent' OR is_unclear))";
    let found = db.query_row(query, params![channel, alert.id().to_string()], |row| row.get(0));
    found.map_err(unreadable)
}

/// Stores the resolve of an alert whose firing did not arrive as skipped, if the channel has rows of the alert.
fn skip(tx: &Transaction<'_>, channel: &str, alert: &Alert) -> Result<Enqueued> {
    let (id, row, now) = (alert.id().to_string(), json(alert)?, Clock::System.now());
    let insert = "INSERT INTO outbox (channel, alert_id, state, repeat, alert, outcome, done_at)
                  SELECT ?1, ?2, ?3, 0, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM outbox WHERE channel = ?1 AND alert_id = ?2)
                  ON CONFLICT DO NOTHING";
    let values = params![channel, id, alert.state.name(), row, DeliveryOutcome::Skipped.name(), now];
    tx.execute(insert, values).map_err(unwritable)?;
    Ok(Enqueued::NoPage)
}

fn insert(tx: &Transaction<'_>, channel: &str, alert: &Alert, repeat: i64) -> Result<Enqueued> {
    let row = json(alert)?;
    let values = params![channel, alert.id().to_string(), alert.state.name(), repeat, row];
    let insert = "INSERT INTO outbox (channel, alert_id, state, repeat, alert) VALUES (?1, ?2, ?3, ?4, ?5)
                  ON CONFLICT DO NOTHING";
    let inserted = tx.execute(insert, values).map_err(unwritable)?;
    Ok(if inserted == 1 { Enqueued::Queued } else { Enqueued::Known })
}

/// Returns the row of an alert as JSON, as in every JSONL output.
pub fn json(alert: &Alert) -> Result<String> {
    let (batch, mut text) = (alerts::batch([alert])?, String::new());
    Objects::try_new(&batch)?.write(0, &mut text);
    Ok(text)
}

/// Reads the row of an alert back. Errors: exit status 65 if evt did not write it.
fn parse(row: &str) -> Result<Alert> {
    let mut builder = format::row::Builder::new(Kind::Alert);
    builder.push(row).map_err(|fault| Error::corrupt("outbox: not the row of an alert").because(fault.message))?;
    alerts::read(&builder.finish()?)?.pop().ok_or_else(|| Error::broken("a row without an alert"))
}

fn unreadable(error: rusqlite::Error) -> Error {
    failed("cannot read the outbox", &error)
}

fn unwritable(error: rusqlite::Error) -> Error {
    failed("cannot write the outbox", &error)
}

fn failed(what: &str, error: &rusqlite::Error) -> Error {
    let is_busy = matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked));
    Error::new(if is_busy { ErrorKind::Busy } else { ErrorKind::Io }, what).because(error)
}

/// A notification that is due.
#[derive(Clone, Debug)]
pub struct Due {
    /// Its place in the outbox.
    pub id: i64,
    /// The notification.
    pub notification: Notification,
    /// Attempts so far.
    pub attempts: u32,
    /// When the first one of the run that tried last began (µs, wall time).
    pub tried_at: Option<i64>,
    /// Whether an earlier attempt may have arrived.
    pub is_unclear: bool,
    /// Whether the notification is a resolve whose firing never arrived.
    pub firing_never_arrived: bool,
}

/// The next work of a channel.
#[derive(Debug)]
pub enum Next {
    /// This notification is due.
    Due(Box<Due>),
    /// The row of a due notification is not a row of an alert (exit status 65), for example because a newer version of
    /// evt wrote it. The outbox has stored the notification as refused.
    Unreadable(Error),
    /// No notification is due before this time (µs, wall time).
    Later(i64),
    /// Nothing is due, now or later.
    Idle,
}

/// The result of an attempt that may succeed later.
#[derive(Clone, Copy, Debug)]
pub struct Retry<'a> {
    /// When the first attempt of this run began (µs, wall time).
    pub tried_at: i64,
    /// When the next one is due (µs, wall time).
    pub due_at: i64,
    /// Why it failed.
    pub cause: &'a str,
    /// Whether the notification may have arrived.
    pub is_unclear: bool,
    /// The recipients that still wait for the notification, if other recipients have it now. Empty if the attempt
    /// reached nobody.
    pub waiting: &'a [Missed],
}

/// The outbox as the sender of one channel sees it, on a connection of its own.
pub struct Outbox {
    db: Connection,
    channel: String,
}

impl Outbox {
    /// Opens the state file at `path`. Errors: exit status 74.
    pub fn open(path: &Path, channel: &str) -> Result<Self> {
        let failed = |error: rusqlite::Error| failed("cannot open the outbox", &error).at(path.display().to_string());
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        // SQLite takes `file:…` for a URI only with a flag of its own, and no state file is called `:memory:`.
        let db = Connection::open_with_flags(path, flags).map_err(failed)?;
        db.busy_timeout(LOCK_WAIT).map_err(failed)?;
        Ok(Self { db, channel: channel.to_owned() })
    }

    /// Returns the oldest notification that is due at `now`. A notification waits for the earlier ones of its alert,
    /// however long their next attempt takes; those of other alerts do not. Notifications that some recipients have
    /// come last: retries for a full mailbox do not use up the rate of the channel.
    pub fn next(&self, now: i64) -> Result<Next> {
        let query = format!(
            "
            SELECT o.id, o.alert, o.repeat, o.attempts, o.tried_at, o.is_unclear, o.state = 'resolved' AND NOT EXISTS (
                SELECT 1 FROM outbox AS f WHERE f.channel = o.channel AND f.alert_id = o.alert_id AND f.state = 'firing'
                AND (f.outcome = 'sent' OR f.is_unclear))
            FROM outbox AS o WHERE o.channel = ?1 AND o.outcome IS NULL AND o.due_at <= ?2 AND NOT {WAITS}
            ORDER BY EXISTS (SELECT 1 FROM outbox_recipients AS r WHERE r.id = o.id), o.id LIMIT 1"
        );
        let mut statement = self.db.prepare_cached(&query).map_err(unreadable)?;
        let mut rows = statement.query(params![self.channel, now]).map_err(unreadable)?;
        let Some(row) = rows.next().map_err(unreadable)? else { return self.later() };
        let (id, text): (i64, String) = (row.get(0).map_err(unreadable)?, row.get(1).map_err(unreadable)?);
        let alert = match parse(&text) {
            Ok(alert) => alert,
            Err(error) => {
                let refuse = "UPDATE outbox SET outcome = 'refused', done_at = ?2, cause = ?3 WHERE id = ?1";
                self.execute(refuse, params![id, now, error.to_string()])?;
                return Ok(Next::Unreadable(error));
            }
        };
        let repeat = row.get(2).map_err(unreadable)?;
        let recipients = self.recipients(id, &alert)?;
        let due = Due {
            id,
            notification: Notification { alert, row: text, repeat, recipients },
            attempts: row.get(3).map_err(unreadable)?,
            tried_at: row.get(4).map_err(unreadable)?,
            is_unclear: row.get(5).map_err(unreadable)?,
            firing_never_arrived: row.get(6).map_err(unreadable)?,
        };
        Ok(Next::Due(Box::new(due)))
    }

    /// Returns the recipients of the next attempt of a notification.
    fn recipients(&self, id: i64, alert: &Alert) -> Result<Recipients> {
        let list = |query: &str, values: &[&dyn ToSql]| -> Result<Vec<String>> {
            let mut statement = self.db.prepare_cached(query).map_err(unreadable)?;
            statement
                .query_map(values, |row| row.get(0))
                .map_err(unreadable)?
                .collect::<Result<_, _>>()
                .map_err(unreadable)
        };
        let of_earlier = "
            SELECT DISTINCT r.recipient FROM outbox AS e JOIN outbox_recipients AS r ON r.id = e.id
            WHERE e.channel = ?1 AND e.alert_id = ?2 AND +e.outcome IS NULL AND e.id < ?3 ORDER BY 1";
        Ok(Recipients {
            only: list("SELECT recipient FROM outbox_recipients WHERE id = ?1 ORDER BY 1", &[&id])?,
            later: list(of_earlier, &[&self.channel, &alert.id().to_string(), &id])?,
        })
    }

    /// Returns when the next notification that waits for no earlier one is due.
    fn later(&self) -> Result<Next> {
        let query =
            format!("SELECT min(o.due_at) FROM outbox AS o WHERE o.channel = ?1 AND o.outcome IS NULL AND NOT {WAITS}");
        let first: Option<i64> = self.db.query_row(&query, [&self.channel], |row| row.get(0)).map_err(unreadable)?;
        Ok(first.map_or(Next::Idle, Next::Later))
    }

    /// Makes each notification of the channel due whose pause is longer than `longest` (µs): the clock was set back
    /// after the pause was stored.
    pub fn end_pauses(&self, now: i64, longest: i64) -> Result<()> {
        let update = "UPDATE outbox SET due_at = ?2 WHERE channel = ?1 AND outcome IS NULL AND due_at > ?3";
        self.execute(update, params![self.channel, now, now.saturating_add(longest)]).map(drop)
    }

    /// Lets no notification of the channel be due before `until` (µs, wall time): a later run must respect what the
    /// receiver demands, too.
    pub fn pause(&self, until: i64) -> Result<()> {
        let update = "UPDATE outbox SET due_at = ?2 WHERE channel = ?1 AND outcome IS NULL AND due_at < ?2";
        self.execute(update, params![self.channel, until]).map(drop)
    }

    /// Stores that an attempt begins: if the process is killed before it ends, the notification may have arrived.
    pub fn begin(&self, due: &Due) -> Result<()> {
        self.execute("UPDATE outbox SET is_unclear = 1 WHERE id = ?1", [due.id]).map(drop)
    }

    /// Stores the outcome of a notification, which removes it from what is due.
    pub fn finish(&self, due: &Due, outcome: DeliveryOutcome, now: i64, cause: Option<&str>) -> Result<()> {
        let attempts = due.attempts + u32::from(outcome != DeliveryOutcome::Skipped);
        let was_unclear = (outcome == DeliveryOutcome::Refused).then_some(due.is_unclear);
        let update = "UPDATE outbox SET outcome = ?2, done_at = ?3, cause = ?4, attempts = ?5,
                      is_unclear = coalesce(?6, is_unclear) WHERE id = ?1";
        self.execute(update, params![due.id, outcome.name(), now, cause, attempts, was_unclear]).map(drop)
    }

    /// Stores a failed attempt.
    pub fn retry(&self, due: &Due, retry: &Retry<'_>) -> Result<()> {
        let Retry { tried_at, due_at, cause, is_unclear, waiting } = *retry;
        // Stores the waiting recipients and the next attempt in one transaction; otherwise an attempt after a crash
        // would go to all recipients again.
        let tx = self.db.unchecked_transaction().map_err(unwritable)?;
        let update =
            "UPDATE outbox SET attempts = attempts + 1, tried_at = ?2, due_at = ?3, cause = ?4, is_unclear = ?5
                      WHERE id = ?1";
        self.execute(update, params![due.id, tried_at, due_at, cause, is_unclear || due.is_unclear])?;
        if !waiting.is_empty() {
            self.execute("DELETE FROM outbox_recipients WHERE id = ?1", [due.id])?;
        }
        for Missed { recipient, .. } in waiting {
            let insert = "INSERT INTO outbox_recipients (id, recipient) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            self.execute(insert, params![due.id, recipient])?;
        }
        tx.commit().map_err(unwritable)
    }

    /// Returns the number of notifications without an outcome, of every channel that has some.
    pub fn due_by_channel(&self) -> Result<Vec<(String, u64)>> {
        let query = "SELECT channel, count(*) FROM outbox WHERE outcome IS NULL GROUP BY channel ORDER BY channel";
        let mut statement = self.db.prepare(query).map_err(unreadable)?;
        let count = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()));
        statement.query_map([], count).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)
    }

    /// Deletes the notifications of alerts that ended long ago, old repeats of alerts that fire, and the recipients of
    /// notifications that are done, on all channels: no thread sees those of a channel that the file no longer has.
    pub fn prune(&self, now: i64) -> Result<()> {
        let ended = "
            DELETE FROM outbox WHERE done_at < ?1 AND EXISTS (
                SELECT 1 FROM outbox AS r WHERE r.channel = outbox.channel AND r.alert_id = outbox.alert_id
                AND r.state = 'resolved' AND r.done_at < ?1)";
        self.execute(ended, [now - KEPT])?;
        // Keeps the last repeat, from which the next repeat gets its number, and the last one that arrived, which
        // `was_paged` needs.
        let repeated = "
            DELETE FROM outbox WHERE done_at < ?1 AND repeat > 0 AND EXISTS (
                SELECT 1 FROM outbox AS r WHERE r.channel = outbox.channel AND r.alert_id = outbox.alert_id
                AND r.state = outbox.state AND r.repeat > outbox.repeat
                AND (r.outcome = 'sent' OR r.is_unclear OR NOT (outbox.outcome = 'sent' OR outbox.is_unclear)))";
        self.execute(repeated, [now - KEPT])?;
        let delete = "DELETE FROM outbox_recipients WHERE id NOT IN (SELECT id FROM outbox WHERE outcome IS NULL)";
        self.execute(delete, []).map(drop)
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize> {
        self.db.prepare_cached(sql).map_err(unwritable)?.execute(values).map_err(unwritable)
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
