//! Alerts in Redis: one hash for both rows of an alert, the set of those that fire, and an index.
//!
//! The three are in different slots of a cluster, so no script can change them at once: the hash is written first, then
//! the index and the set by the state that the hash shows. Rows whose answers are lost are sent again, which completes
//! them.

use crate::guard::RowOutcome;
use crate::redis::address::RedisAddress;
use crate::redis::wire::{Pipe, Wire, refused, text};
use crate::redis::write::{RedisSession, WrittenRow, is_about_a_row};
use ::redis::Value;
use arrow::array::RecordBatch;
use evt_core::error::{Error, Result};
use evt_core::format;
use evt_core::format::jsonl::Objects;
use evt_core::json::text::unescape;
use evt_core::json::walk::{members, string_content};
use evt_core::kind::Kind;
use evt_core::kind::alert::AlertState;
use evt_core::kind::dead::Fault;
use evt_run::client::outage::RetryError;
use std::borrow::Cow;

/// Maximum rows in a pipeline.
const DEPTH: usize = 128;
/// The fields of a hash that hold its rows as JSON.
const STATES: [AlertState; 2] = AlertState::ALL;

/// One row, ready to be sent.
pub struct AlertRow {
    /// The key of its alert.
    key: String,
    /// The row as JSON.
    json: String,
    /// Names and values of its columns, in turn; NULL has neither.
    fields: Vec<String>,
    state: String,
}

/// Prepares the rows of a batch.
pub fn rows(address: &RedisAddress, batch: &RecordBatch) -> Result<Vec<AlertRow>> {
    let mut objects = Objects::try_new(batch)?;
    let row = |row| {
        let (mut json, mut fields) = (String::new(), vec![]);
        objects.write(row, &mut json);
        members(&json, |name, value| {
            let value = string_content(value).map_or(Cow::Borrowed(value), unescape);
            fields.extend([unescape(name).into_owned(), value.into_owned()]);
            true
        });
        let field = |name: &str| fields.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone());
        let column = |name: &str| field(name).ok_or_else(|| Error::broken(format!("an alert without {name}")));
        let key = address.keys.alert(&column("rule_id")?, &column("alert_id")?);
        let state = column("state")?;
        Ok(AlertRow { key, json, fields, state })
    };
    (0..batch.num_rows()).map(row).collect()
}

/// Removes the alerts whose hash has expired from the set of those that fire.
fn forget_expired(address: &RedisAddress, wire: &mut Wire) -> Result<(), RetryError> {
    let firing = address.keys.firing();
    let Value::Array(found) = wire.call(&["SMEMBERS", &firing])? else { return Err(wire.strange("SMEMBERS").into()) };
    for members in found.iter().filter_map(text).collect::<Vec<_>>().chunks(DEPTH) {
        let mut pipe = Pipe::default();
        members.iter().for_each(|key| pipe.push(&["EXISTS", key]));
        let answers = wire.query(&pipe)?;
        for (key, _) in members.iter().zip(answers).filter(|(_, answer)| matches!(answer, Ok(Value::Int(0)))) {
            wire.call(&["SREM", &firing, key])?;
        }
    }
    Ok(())
}

/// Sends the rows after the first `outcomes.len()` ones, and appends the outcome of each. After a failure another call
/// continues there.
pub fn send(
    session: &mut RedisSession,
    address: &RedisAddress,
    rows: &[AlertRow],
    outcomes: &mut Vec<Result<WrittenRow, Fault>>,
) -> Result<(), RetryError> {
    if outcomes.is_empty() {
        forget_expired(address, &mut session.wire)?;
    }
    let sent = outcomes.len();
    for rows in rows[sent..].chunks(DEPTH) {
        let states = put(session, address, rows)?;
        link(session, address, rows, &states)?;
        outcomes
            .extend(states.into_iter().map(|put| put.map(|(outcome, _)| WrittenRow { outcome, rows_before: None })));
    }
    Ok(())
}

/// The outcome of a row, and the state that its hash shows now.
type Put = Result<(RowOutcome, String), Fault>;

/// Writes the hashes.
fn put(session: &mut RedisSession, address: &RedisAddress, rows: &[AlertRow]) -> Result<Vec<Put>, RetryError> {
    let (script, ttl) = (&session.scripts.put_alert, address.ttl.to_string());
    let mut pipe = Pipe::default();
    for AlertRow { key, json, fields, state } in rows {
        let head = ["EVALSHA", script, "1", key, state, json, &ttl];
        pipe.push(&head.into_iter().chain(fields.iter().map(String::as_str)).collect::<Vec<_>>());
    }
    let mut states = Vec::with_capacity(rows.len());
    for answer in session.wire.query(&pipe)? {
        states.push(match answer {
            Err(refusal) if is_about_a_row(&refusal) => Err(Fault::of_sink(format!("Redis: {}", refusal.text))),
            Err(refusal) => return Err(refused(&address.server.shown, &refusal)),
            Ok(answer) => {
                Ok(read_answer(&answer)
                    .ok_or_else(|| Error::broken("put_alert.lua: expected an answer of two values"))?)
            }
        });
    }
    Ok(states)
}

fn read_answer(answer: &Value) -> Option<(RowOutcome, String)> {
    let Value::Array(parts) = answer else { return None };
    let [Value::Int(outcome), state] = parts.as_slice() else { return None };
    let outcome = if *outcome == 0 { RowOutcome::Inserted } else { RowOutcome::Unchanged };
    Some((outcome, text(state)?.to_owned()))
}

/// Writes the entries of the index and of the set.
fn link(
    session: &mut RedisSession,
    address: &RedisAddress,
    rows: &[AlertRow],
    states: &[Put],
) -> Result<(), RetryError> {
    let (index, firing, ttl) = (address.keys.alerts(), address.keys.firing(), address.ttl.to_string());
    let now = session.wire.clock()?.now();
    let (now, ends) = (now.to_string(), now.saturating_add(address.ttl).to_string());
    let mut pipe = Pipe::default();
    for (row, put) in rows.iter().zip(states) {
        let Ok((_, state)) = put else { continue };
        pipe.push(&["EVALSHA", &session.scripts.index, "1", &index, &row.key, &now, &ends]);
        pipe.push(&["EVALSHA", &session.scripts.firing, "1", &firing, &row.key, state, &ttl]);
    }
    for answer in session.wire.query(&pipe)? {
        answer.map_err(|refusal| refused(&address.server.shown, &refusal))?;
    }
    Ok(())
}

/// Reads the rows of alerts from the answers to [`fields`], one answer for each hash. Errors: exit status 65 if evt did
/// not write them.
pub fn read(answers: &[Value]) -> Result<RecordBatch> {
    let mut builder = format::row::Builder::new(Kind::Alert);
    for json in answers.iter().flat_map(both).filter(|json| **json != Value::Nil) {
        let row = text(json).ok_or_else(|| Error::corrupt("an alert that is not text"))?;
        builder.push(row).map_err(|fault| Error::corrupt(fault.message))?;
    }
    builder.finish()
}

/// Returns the rows of one hash.
fn both(answer: &Value) -> &[Value] {
    if let Value::Array(rows) = answer { rows } else { &[] }
}

/// Adds the command that reads the rows of a hash.
pub fn fields(key: &str, pipe: &mut Pipe) {
    let [firing, resolved] = STATES.map(AlertState::name);
    pipe.push(&["HMGET", key, firing, resolved]);
}
