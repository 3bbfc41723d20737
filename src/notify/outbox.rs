//! The outbox: notifications that are due, and the outcome of those that are done, in the state file of evt-alert.
//!
//! [`enqueue`] runs in the transaction of the alert's transition, so a notification exists if and only if its transition is
//! stored. It decides what is a page:
//!
//! - A firing that is `caught_up` is none. Once the alert clock has caught up, the engine calls [`enqueue`] for what still
//!   fires, with `caught_up` false.
//! - A resolve is one if and only if the firing of the same alert was one on this channel. The sender decides it again when it
//!   delivers: a resolve whose firing was refused is skipped.
//! - A notification is stored once for each (channel, alert, state); [`enqueue_repeat`] adds one to a firing.
//!
//! Notifications of one alert and channel are delivered in the order of `id`.

use crate::error::{Error, ErrorKind, Result};
use crate::format::jsonl::Objects;
use crate::format::row::Builder;
use crate::kind::Kind;
use crate::kind::alert::{self, Alert, AlertState};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

/// The tables. `outcome` is NULL for a notification that is due; `alert` is the row as JSON; `due_at` and `tried_at` (the first
/// attempt) are wall time in µs; `is_unclear` says that an attempt ended without an answer, so it may have arrived.
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
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (channel, due_at) WHERE outcome IS NULL;";

/// What [`enqueue`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// The notification is in the outbox now.
    Queued,
    /// It was there already.
    Known,
    /// It is no page: a firing that is `caught_up`, a resolve whose firing was no page, or a repeat of what is still due.
    NoPage,
}

/// How a notification ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has accepted it.
    Sent,
    /// The receiver refused it for good.
    Refused,
    /// It was retried for as long as the channel allows.
    Expired,
    /// A resolve, or a repeat, of a firing that never arrived.
    Skipped,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Sent, Self::Refused, Self::Expired, Self::Skipped];

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

/// Adds the notification of an alert's transition to a channel, unless it is no page (see the module). Errors: exit status 74,
/// or 75 if another run holds the lock.
pub fn enqueue(tx: &Transaction, channel: &str, alert: &Alert) -> Result<Enqueued> {
    let is_page = match alert.state {
        AlertState::Firing => !alert.caught_up,
        AlertState::Resolved => was_paged(tx, channel, alert)?,
    };
    if is_page { insert(tx, channel, alert, 0) } else { Ok(Enqueued::NoPage) }
}

/// Adds one more notification of an alert that still fires, unless the last one is still due or the first one was no page.
/// Errors: as [`enqueue`].
pub fn enqueue_repeat(tx: &Transaction, channel: &str, alert: &Alert) -> Result<Enqueued> {
    let query = "SELECT max(repeat), max(outcome IS NULL) FROM outbox
                 WHERE channel = ?1 AND alert_id = ?2 AND state = 'firing' HAVING count(*) > 0";
    let found = tx.query_row(query, params![channel, alert.id().to_string()], |row| Ok((row.get(0)?, row.get(1)?)));
    match found.optional().map_err(|error| failed("cannot read the outbox", &error))? {
        Some((last, false)) => insert(tx, channel, alert, i64::wrapping_add(last, 1)),
        _ => Ok(Enqueued::NoPage),
    }
}

/// Whether a firing of this alert is due on this channel or may have arrived there.
fn was_paged(db: &Connection, channel: &str, alert: &Alert) -> Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM outbox WHERE channel = ?1 AND alert_id = ?2 AND state = 'firing'
                 AND (outcome IS NULL OR outcome = 'sent' OR is_unclear))";
    let found = db.query_row(query, params![channel, alert.id().to_string()], |row| row.get(0));
    found.map_err(|error| failed("cannot read the outbox", &error))
}

fn insert(tx: &Transaction, channel: &str, alert: &Alert, repeat: i64) -> Result<Enqueued> {
    let row = json(alert)?;
    let values = params![channel, alert.id().to_string(), alert.state.name(), repeat, row];
    let insert = "INSERT INTO outbox (channel, alert_id, state, repeat, alert) VALUES (?1, ?2, ?3, ?4, ?5)
                  ON CONFLICT DO NOTHING";
    let inserted = tx.execute(insert, values).map_err(|error| failed("cannot write the outbox", &error))?;
    Ok(if inserted == 1 { Enqueued::Queued } else { Enqueued::Known })
}

/// Returns the row of an alert as JSON, as in every JSONL output.
pub fn json(alert: &Alert) -> Result<String> {
    let (batch, mut text) = (alert::batch([alert])?, String::new());
    Objects::try_new(&batch)?.write(0, &mut text);
    Ok(text)
}
