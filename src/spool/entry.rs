//! One entry of the spool as bytes: a request and the fates of its records.
//!
//! ```text
//! mark "evt" 01 | check u64 | length u32 | body
//! body: safe u64 | offset i64 | arrived_at i64 | token | once? | headers | records
//! ```
//!
//! Numbers are little-endian; texts and payloads are preceded by their length in bytes (`u32`). `check` is the XXH3 of length
//! and body with the seed of the segment, so that neither bytes sent by a client nor those of an older file on the disk pass
//! for an entry. `safe` is the byte of the segment up to which everything was durable when the entry was written: damage before
//! it is a loss, damage after it is a write that was never acknowledged.

use super::request::{Kept, Record, RecordFate, Request};
use crate::kind::dead::{ErrorType, Fault};
use crate::parse::bytes::Cursor;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The first bytes of an entry; the last one is the version of the format.
pub const MARK: [u8; 4] = *b"evt\x01";
/// Bytes before the body.
pub const HEAD: usize = 16;
/// Maximum size of a body in bytes.
pub const BODY_MAX: usize = 256 << 20;

/// Error types; their index is their code in an entry. Append only.
const TYPES: [ErrorType; 9] = [
    ErrorType::ParseError,
    ErrorType::EnvelopeError,
    ErrorType::TimestampError,
    ErrorType::FutureTimestampError,
    ErrorType::UnknownSchemaError,
    ErrorType::SchemaValidationError,
    ErrorType::TooLargeError,
    ErrorType::AggregationError,
    ErrorType::SinkError,
];

/// Bits of a record's flags: the fate, and which fields follow.
const FATE: u8 = 0b11;
const HAS_ID: u8 = 1 << 2;
const HAS_FAULT: u8 = 1 << 3;
/// The record was rejected with another fault than the one it came with.
const OWN_FAULT: u8 = 1 << 4;

/// Bit of an error code: the payload is only the beginning of a record, and the record's length follows.
const IS_CUT: u8 = 1 << 7;

/// The fields of an entry that do not come from its request.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    /// The seed of the segment.
    pub seed: u64,
    /// The byte of the segment up to which everything is durable.
    pub safe: u64,
    /// The offset of its first record.
    pub offset: i64,
}

/// A whole entry, parsed in place.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The byte of the segment up to which everything was durable when it was written.
    pub safe: u64,
    /// The offset of its first record.
    pub offset: i64,
    /// When it arrived (µs).
    pub arrived_at: i64,
    /// The name of the client's token.
    pub token: &'a str,
    /// The client's `Idempotency-Key` and the hash of the body.
    pub once: Option<(&'a str, u128)>,
    headers: Cursor<'a>,
    header_count: u32,
    records: Cursor<'a>,
    record_count: u32,
}

/// A record of an entry, parsed in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Its bytes.
    pub payload: &'a [u8],
    /// Its source.
    pub source: &'a str,
    /// Its `event_id`, if it has one.
    pub event_id: Option<[u8; 16]>,
    /// The fault that the HTTP server found.
    pub fault: Option<Fault>,
    /// Its fate.
    pub fate: RecordFate,
}

/// Returns an upper bound of the size of a request's entry in bytes.
pub fn size_max(request: &Request) -> usize {
    let text = |text: &str| text.len() + 4;
    let headers: usize = request.headers.iter().map(|(name, value)| text(name) + text(value)).sum();
    let fault = |record: &Record| record.fault.as_ref().map_or(0, |fault| 2 * (fault.message.len() + size_of::<u64>()));
    // 160 bytes cover the fixed fields and the fault of a reused id.
    let record = |record: &Record| record.payload.len() + record.source.len() + fault(record) + 160;
    let records: usize = request.records.iter().map(record).sum();
    HEAD + 64 + text(&request.token) + request.once.as_ref().map_or(0, |(key, _)| text(key) + 16) + headers + records
}

/// Appends an entry to `out`; returns its length.
pub fn encode(out: &mut Vec<u8>, spot: Spot, request: &Request, fates: &[RecordFate]) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.extend_from_slice(&spot.safe.to_le_bytes());
    out.extend_from_slice(&spot.offset.to_le_bytes());
    out.extend_from_slice(&request.arrived_at.to_le_bytes());
    put(out, request.token.as_bytes());
    match &request.once {
        None => out.push(0),
        Some((key, body)) => {
            out.push(1);
            put(out, key.as_bytes());
            out.extend_from_slice(&body.to_le_bytes());
        }
    }
    out.extend_from_slice(&count(request.headers.len()));
    for (name, value) in &request.headers {
        put(out, name.as_bytes());
        put(out, value.as_bytes());
    }
    out.extend_from_slice(&count(request.records.len()));
    request.records.iter().zip(fates).for_each(|(record, fate)| put_record(out, record, fate));
    seal(&mut out[start..], spot.seed);
    out.len() - start
}

/// Fills in the first [`HEAD`] bytes of an entry.
pub fn seal(entry: &mut [u8], seed: u64) {
    let Some(body) = entry.len().checked_sub(HEAD) else { return };
    entry[..4].copy_from_slice(&MARK);
    entry[12..HEAD].copy_from_slice(&count(body));
    let check = xxh3_64_with_seed(&entry[12..], seed);
    entry[4..12].copy_from_slice(&check.to_le_bytes());
}

fn put_record(out: &mut Vec<u8>, record: &Record, fate: &RecordFate) {
    let own = match fate {
        RecordFate::Rejected(fault) if record.fault.as_ref() != Some(fault) => Some(fault),
        _ => None,
    };
    let mut flags = match fate {
        RecordFate::New => 0,
        RecordFate::Duplicate => 1,
        RecordFate::Rejected(_) => 2,
    };
    for (bit, is_set) in
        [(HAS_ID, record.event_id.is_some()), (HAS_FAULT, record.fault.is_some()), (OWN_FAULT, own.is_some())]
    {
        flags |= if is_set { bit } else { 0 };
    }
    out.push(flags);
    put(out, &record.payload);
    put(out, record.source.as_bytes());
    if let Some(id) = &record.event_id {
        out.extend_from_slice(id);
    }
    for fault in record.fault.iter().chain(own) {
        let code = TYPES.iter().position(|known| *known == fault.error_type).unwrap_or(0);
        let cut = if fault.original_length.is_some() { IS_CUT } else { 0 };
        out.push(u8::try_from(code).unwrap_or(0) | cut);
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
    /// Too few bytes to tell.
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

/// Parses the entry at the start of `bytes`; `None` if it is damaged or incomplete.
pub fn read(bytes: &[u8], seed: u64) -> Option<Entry<'_>> {
    let EntrySpan::Entry(length) = span(bytes) else { return None };
    let bytes = bytes.get(..length)?;
    let check: u64 = Cursor::new(bytes.get(4..)?).le()?;
    let checked = bytes.get(12..)?;
    if xxh3_64_with_seed(checked, seed) != check { None } else { body(bytes.get(HEAD..)?) }
}

/// Parses a body. It validates every part, so that the iterators of [`Entry`] cannot fail.
fn body(bytes: &[u8]) -> Option<Entry<'_>> {
    let mut rest = Cursor::new(bytes);
    let (safe, offset, arrived_at): (u64, i64, i64) = (rest.le()?, rest.le()?, rest.le()?);
    let token = text(&mut rest)?;
    let once = match rest.le::<u8>()? {
        0 => None,
        1 => Some((text(&mut rest)?, rest.le()?)),
        _ => return None,
    };
    let header_count = rest.le()?;
    let headers = rest;
    for _ in 0..header_count {
        header(&mut rest)?;
    }
    let record_count = rest.le()?;
    let records = rest;
    for _ in 0..record_count {
        record(&mut rest)?;
    }
    offset.checked_add(i64::from(record_count))?;
    let entry = Entry { safe, offset, arrived_at, token, once, headers, header_count, records, record_count };
    rest.rest().is_empty().then_some(entry)
}

impl<'a> Entry<'a> {
    /// Returns the offset after its last record.
    pub fn end(&self) -> i64 {
        self.offset + i64::from(self.record_count)
    }

    /// Returns its headers.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut rest = self.headers;
        (0..self.header_count).map_while(move |_| header(&mut rest))
    }

    /// Returns its records.
    pub fn records(&self) -> impl Iterator<Item = Seen<'a>> + use<'a> {
        let mut rest = self.records;
        (0..self.record_count).map_while(move |_| record(&mut rest))
    }

    /// Rebuilds the request.
    pub fn request(&self) -> Request {
        let record = |seen: Seen<'_>| Record {
            payload: seen.payload.to_vec(),
            source: seen.source.to_owned(),
            event_id: seen.event_id,
            fault: seen.fault,
        };
        Request {
            arrived_at: self.arrived_at,
            token: self.token.to_owned(),
            headers: self.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            once: self.once.map(|(key, body)| (key.to_owned(), body)),
            records: self.records().map(record).collect(),
        }
    }

    /// Returns the offset and the fates of its records.
    pub fn kept(&self) -> Kept {
        Kept { offset: self.offset, fates: self.records().map(|seen| seen.fate).collect() }
    }
}

fn bytes<'a>(rest: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let count: u32 = rest.le()?;
    rest.take(usize::try_from(count).ok()?)
}

fn text<'a>(rest: &mut Cursor<'a>) -> Option<&'a str> {
    std::str::from_utf8(bytes(rest)?).ok()
}

fn header<'a>(rest: &mut Cursor<'a>) -> Option<(&'a str, &'a str)> {
    Some((text(rest)?, text(rest)?))
}

fn fault(rest: &mut Cursor<'_>) -> Option<Fault> {
    let code: u8 = rest.le()?;
    let error_type = *TYPES.get(usize::from(code & !IS_CUT))?;
    let original_length = if code & IS_CUT == 0 { None } else { Some(rest.le()?) };
    Some(Fault { original_length, ..Fault::new(error_type, text(rest)?) })
}

fn record<'a>(rest: &mut Cursor<'a>) -> Option<Seen<'a>> {
    let flags: u8 = rest.le()?;
    if flags >= OWN_FAULT << 1 {
        return None;
    }
    let (payload, source) = (bytes(rest)?, text(rest)?);
    let event_id = if flags & HAS_ID == 0 { None } else { Some(rest.array()?) };
    let known = if flags & HAS_FAULT == 0 { None } else { Some(fault(rest)?) };
    let own = if flags & OWN_FAULT == 0 { None } else { Some(fault(rest)?) };
    let fate = match (flags & FATE, own) {
        (0, None) => RecordFate::New,
        (1, None) => RecordFate::Duplicate,
        (2, own) => RecordFate::Rejected(own.or_else(|| known.clone())?),
        _ => return None,
    };
    Some(Seen { payload, source, event_id, fault: known, fate })
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
