//! One entry of the spool as bytes: a request and the outcomes of its records.
//!
//! ```text
//! mark "evt" 01 | check u64 | length u32 | body
//! body: safe u64 | offset i64 | arrived_at i64 | token | key? | headers | records
//! ```
//!
//! Numbers are little-endian; texts and payloads are preceded by their length in bytes (`u32`). `check` is the XXH3 of
//! length and body with the seed of the segment, so that neither bytes sent by a client nor those of an older file on
//! the disk are mistaken for an entry. `safe` is the byte of the segment up to which everything was durable when the
//! entry was written: damage before it is a loss, damage after it is a write that was never acknowledged.

use super::request::{Entry, IdempotencyKey, Record, RecordOutcome, Request};
use bytes::Bytes;
use evt_core::kind::dead::{ErrorType, Fault};
use evt_core::parse::bytes::Cursor;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The first bytes of an entry; the last one is the version of the format.
pub const MARK: [u8; 4] = *b"evt\x01";
/// Bytes before the body.
pub const HEAD: usize = 16;
/// Minimum size of a record in a body in bytes.
const RECORD_MIN: usize = 9;
/// Maximum size of a body in bytes.
pub const BODY_MAX: usize = 256 << 20;

/// Bits of a record's flags: its outcome, and which fields follow.
const OUTCOME: u8 = 0b11;
const HAS_ID: u8 = 1 << 2;
const HAS_FAULT: u8 = 1 << 3;
/// An older flag of a fault that the spool found. It is still read, but no longer written.
const HAS_SPOOL_FAULT: u8 = 1 << 4;

/// Bit of an error code: the payload is only the beginning of a record, and the record's length follows.
const IS_TRUNCATED: u8 = 1 << 7;

/// Returns an upper bound of the size of a request's entry in bytes.
pub fn size_max(request: &Request) -> usize {
    let text = |text: &str| text.len() + 4;
    let headers: usize = request.headers.iter().map(|(name, value)| text(name) + text(value)).sum();
    let fault = |record: &Record| record.fault().map_or(0, |fault| fault.message.len() + size_of::<u64>());
    // 160 bytes cover the fixed fields and the fault of a reused id.
    let record = |record: &Record| record.payload.len() + record.source.len() + fault(record) + 160;
    let records: usize = request.records.iter().map(record).sum();
    HEAD + 64 + text(&request.token) + request.key.as_ref().map_or(0, |key| text(&key.text) + 16) + headers + records
}

/// Appends an entry of the segment with this seed to `out`.
pub fn encode(out: &mut Vec<u8>, seed: u64, entry: &Entry) {
    let Entry { safe, offset, request } = entry;
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.extend_from_slice(&safe.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&request.arrived_at.to_le_bytes());
    put(out, request.token.as_bytes());
    match &request.key {
        None => out.push(0),
        Some(key) => {
            out.push(1);
            put(out, key.text.as_bytes());
            out.extend_from_slice(&key.body.to_le_bytes());
        }
    }
    out.extend_from_slice(&count(request.headers.len()));
    for (name, value) in &request.headers {
        put(out, name.as_bytes());
        put(out, value.as_bytes());
    }
    out.extend_from_slice(&count(request.records.len()));
    request.records.iter().for_each(|record| put_record(out, record));
    seal(&mut out[start..], seed);
}

/// Fills in the first [`HEAD`] bytes of an entry.
pub fn seal(entry: &mut [u8], seed: u64) {
    let Some(body) = entry.len().checked_sub(HEAD) else { return };
    entry[..4].copy_from_slice(&MARK);
    entry[12..HEAD].copy_from_slice(&count(body));
    let check = xxh3_64_with_seed(&entry[12..], seed);
    entry[4..12].copy_from_slice(&check.to_le_bytes());
}

fn put_record(out: &mut Vec<u8>, record: &Record) {
    let outcome = match &record.outcome {
        RecordOutcome::New => 0,
        RecordOutcome::Duplicate => 1,
        RecordOutcome::Rejected(_) => 2 | HAS_FAULT,
    };
    out.push(outcome | if record.event_id.is_some() { HAS_ID } else { 0 });
    put(out, &record.payload);
    put(out, &record.source);
    out.extend_from_slice(record.event_id.as_ref().map_or(&[], |id| &id[..]));
    if let Some(fault) = record.fault() {
        let code = ErrorType::ALL.iter().position(|known| *known == fault.error_type).unwrap_or(0);
        let truncated = if fault.original_length.is_some() { IS_TRUNCATED } else { 0 };
        out.push(u8::try_from(code).unwrap_or(0) | truncated);
        if let Some(length) = fault.original_length {
            out.extend_from_slice(&length.to_le_bytes());
        }
        put(out, fault.message.as_bytes());
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&count(bytes.len()));
    out.extend_from_slice(bytes);
}

/// Encodes a length. One that does not fit belongs to an entry longer than [`BODY_MAX`], which is never written.
fn count(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes()
}

/// The result of looking for an entry at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntrySpan {
    /// An entry of this many bytes, provided that all of them are present and valid.
    Entry(usize),
    /// Too few bytes to decide.
    Short,
    /// Not an entry.
    Damaged,
}

/// Returns the length of the entry that `bytes` begin with.
pub fn span(bytes: &[u8]) -> EntrySpan {
    let known = bytes.len().min(MARK.len());
    if bytes[..known] != MARK[..known] {
        return EntrySpan::Damaged;
    }
    let Some(length) = bytes.get(12..).and_then(|rest| Cursor::new(rest).le::<u32>()) else { return EntrySpan::Short };
    match usize::try_from(length) {
        Ok(length) if length <= BODY_MAX => EntrySpan::Entry(HEAD + length),
        _ => EntrySpan::Damaged,
    }
}

/// Returns `safe` of the entry that `bytes` begin with, which may be damaged.
pub fn safe(bytes: &[u8]) -> Option<u64> {
    bytes.get(HEAD..).and_then(|body| Cursor::new(body).le())
}

/// Parses the entry at the start of `bytes`, whose memory its payloads share; `None` if it is damaged or incomplete.
pub fn read(bytes: &Bytes, seed: u64) -> Option<Entry> {
    let EntrySpan::Entry(length) = span(bytes) else { return None };
    let entry = bytes.get(..length)?;
    let check: u64 = Cursor::new(entry.get(4..)?).le()?;
    let is_whole = xxh3_64_with_seed(entry.get(12..)?, seed) == check;
    if is_whole { body(&bytes.slice(HEAD..length)) } else { None }
}

fn body(bytes: &Bytes) -> Option<Entry> {
    let mut rest = Cursor::new(bytes);
    let (safe, offset, arrived_at): (u64, i64, i64) = (rest.le()?, rest.le()?, rest.le()?);
    let token = text(&mut rest)?;
    let key = match rest.le::<u8>()? {
        0 => None,
        1 => Some(IdempotencyKey { text: text(&mut rest)?, body: rest.le()? }),
        _ => return None,
    };
    let header_count: u32 = rest.le()?;
    let headers = (0..header_count).map(|_| Some((text(&mut rest)?, text(&mut rest)?))).collect::<Option<_>>()?;
    let record_count: u32 = rest.le()?;
    offset.checked_add(i64::from(record_count))?;
    // Each record has at least its flags and two lengths.
    let room = usize::try_from(record_count).ok()?.min(rest.rest().len() / RECORD_MIN);
    let mut records = Vec::with_capacity(room);
    for _ in 0..record_count {
        records.push(record(bytes, &mut rest)?);
    }
    let request = Request { arrived_at, token, headers, key, records };
    rest.rest().is_empty().then_some(Entry { safe, offset, request })
}

fn slice<'a>(rest: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let count: u32 = rest.le()?;
    rest.take(usize::try_from(count).ok()?)
}

fn text(rest: &mut Cursor<'_>) -> Option<String> {
    str::from_utf8(slice(rest)?).ok().map(str::to_owned)
}

fn record(body: &Bytes, rest: &mut Cursor<'_>) -> Option<Record> {
    let flags: u8 = rest.le()?;
    if flags >= HAS_SPOOL_FAULT << 1 {
        return None;
    }
    let payload = body.slice_ref(slice(rest)?);
    let source = slice(rest).filter(|source| str::from_utf8(source).is_ok())?;
    let event_id = if flags & HAS_ID == 0 { None } else { Some(rest.array()?) };
    let has_fault = flags & (HAS_FAULT | HAS_SPOOL_FAULT) != 0;
    let outcome = match (flags & OUTCOME, has_fault) {
        (0, false) => RecordOutcome::New,
        (1, false) => RecordOutcome::Duplicate,
        (2, true) => RecordOutcome::Rejected(fault(rest)?),
        _ => return None,
    };
    Some(Record { payload, source: body.slice_ref(source), event_id, outcome })
}

fn fault(rest: &mut Cursor<'_>) -> Option<Fault> {
    let code: u8 = rest.le()?;
    let error_type = *ErrorType::ALL.get(usize::from(code & !IS_TRUNCATED))?;
    let original_length = if code & IS_TRUNCATED == 0 { None } else { Some(rest.le()?) };
    Some(Fault { original_length, ..Fault::new(error_type, text(rest)?) })
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
