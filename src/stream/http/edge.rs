//! Verdicts at the edge: the mapping and the validation of the stages, record by record, before a request is kept.
//!
//! What is accepted here is an event in the stage loop, because the same [`Mapper`] with the same options decides both
//! times; only the id of a record that names none has to wait until its offset is known.

use super::cut::Piece;
use crate::error::{Error, Result};
use crate::format::jsonl::one_line;
use crate::json::text::write_string;
use crate::kind::dead::{ErrorType, Fault};
use crate::mapping::{self, Arrival, Mapper, Outcome, Place, Stamper};
use crate::op::validate::Validator;
use crate::registry::Schemas;
use crate::registry::confluent::Confluent;
use crate::registry::wire::Wire;
use crate::stream::spool::request::Record;
use std::borrow::Cow;
use std::sync::Arc;

/// A source of schemas for one thread, made anew for each.
pub type OpenSchemas = dyn Fn() -> Result<(Validator, Box<dyn Schemas + Send>)> + Send + Sync;

/// Judges records for one request at a time.
pub struct Edge {
    mapper: Mapper,
    stamper: Stamper,
    partition: u32,
    schemas: Option<(Validator, Box<dyn Schemas + Send>)>,
    wire: Option<Wire>,
    record_max: usize,
    /// Records of this request that are rows of the batch under construction.
    rows: Vec<usize>,
}

/// How an edge judges.
pub struct EdgeOptions {
    /// The mapping of the stage.
    pub mapping: mapping::Options,
    /// The origin of the records.
    pub origin: String,
    /// `--max-record`.
    pub record_max: usize,
    /// `--schemas`.
    pub schemas: Option<Box<OpenSchemas>>,
    /// The registry, where `--schemas` names one: it knows the schemas of Avro, and may have to be waited for.
    pub registry: Option<Arc<Confluent>>,
}

/// The partition of what comes in over HTTP.
pub const PARTITION: &str = "0";

impl Edge {
    /// An edge that judges by these options; fails where schemas cannot be opened.
    pub fn new(options: &EdgeOptions) -> Result<Self> {
        let schemas = options.schemas.as_ref().map(|open| open()).transpose()?;
        let mut stamper = Stamper::default();
        let partition = stamper.partition(&options.origin, PARTITION);
        let mapper = Mapper::new(options.mapping.clone())?;
        let wire = options.registry.clone().map(Wire::new);
        Ok(Self { mapper, stamper, partition, schemas, wire, record_max: options.record_max, rows: vec![] })
    }

    /// Judges a request that is one record in Avro behind its schema's id. What is refused stays as it came.
    pub fn judge_avro(&mut self, body: &[u8], now: i64) -> Result<Vec<Record>> {
        let piece = match self.wire.as_mut().map(|wire| wire.text(body, None, 0)).transpose()? {
            Some(Ok(text)) => Piece { payload: Cow::Owned(text.as_bytes().to_vec()), fault: None },
            Some(Err(fault)) => Piece::refused(body, fault),
            None => return Err(Error::broken("Avro came in, and no registry is known")),
        };
        let mut records = self.judge(vec![piece], now)?;
        for record in records.iter_mut().filter(|record| record.fault.is_some()) {
            record.payload.clear();
            record.payload.extend_from_slice(body);
            self.cut(record);
        }
        Ok(records)
    }

    /// Judges the records of a request that arrived at `now` (µs). Fails only where a schema cannot be had.
    pub fn judge(&mut self, pieces: Vec<Piece<'_>>, now: i64) -> Result<Vec<Record>> {
        let mut records = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let record = self.one(piece, now, records.len())?;
            records.push(record);
            if self.mapper.is_full() {
                self.validate(&mut records)?;
            }
        }
        if self.schemas.is_some() {
            self.validate(&mut records)?;
        }
        self.rows.clear();
        Ok(records)
    }

    fn one(&mut self, piece: Piece<'_>, now: i64, index: usize) -> Result<Record> {
        let Piece { payload, fault } = piece;
        let fault = match fault {
            Some(fault) => Some(fault),
            None if payload.len() > self.record_max => Some(self.too_long(payload.len())),
            None => self.map(&payload, now)?,
        };
        let mut record = Record { payload: payload.into_owned(), source: String::new(), event_id: None, fault };
        if record.fault.is_some() {
            self.cut(&mut record);
        } else if let Some((id, named, source)) = self.mapper.last() {
            record.source.push_str(source);
            record.event_id = named.then_some(id);
            self.rows.push(index);
        }
        Ok(record)
    }

    /// Keeps no more than the first `--max-record` bytes of a record that was refused.
    fn cut(&self, record: &mut Record) {
        let length = record.payload.len();
        if length > self.record_max {
            record.payload.truncate(self.record_max);
            record.fault = record.fault.take().map(|fault| fault.of_cut(length as u64));
        }
    }

    /// Maps one record onto a row; why it is none.
    fn map(&mut self, payload: &[u8], now: i64) -> Result<Option<Fault>> {
        let text = match one_line(payload) {
            Ok(text) => text,
            Err(fault) => return Ok(Some(fault)),
        };
        let arrival = Some(Arrival { at: now, is_fact: true });
        let place = Place { raw: payload, offset: 0, partition: self.partition, now, judged: false, arrival };
        Ok(match self.mapper.record(&text, place, &mut self.stamper)? {
            Outcome::Row => None,
            Outcome::Dead(fault) => Some(fault),
            Outcome::NoTime => Some(Fault::new(ErrorType::TimestampError, "the event has no time where --time looks")),
            // Whoever knows its arrival does not wait.
            Outcome::Held(_) => None,
        })
    }

    #[cold]
    fn too_long(&self, length: usize) -> Fault {
        let limit = self.record_max;
        let message = format!("the record has {length} bytes, --max-record is {limit}; the payload is cut there");
        Fault::new(ErrorType::TooLargeError, message)
    }

    /// Takes the rows so far out of the mapper; with schemas each is judged by its own.
    fn validate(&mut self, records: &mut [Record]) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let Some(batch) = self.mapper.batch(&mut self.stamper, None)? else { return Ok(()) };
        let Some((validator, schemas)) = &mut self.schemas else { return Ok(()) };
        for (row, fault) in validator.check(&batch, schemas.as_mut())?.faults {
            if let Some(record) = rows.get(row).and_then(|index| records.get_mut(*index)) {
                record.fault = Some(fault);
            }
        }
        Ok(())
    }
}

/// The fault of a record whose source its token may not speak for.
#[cold]
pub fn foreign(source: &str, token: &str) -> Fault {
    let mut shown = String::new();
    write_string(&mut shown, &source.chars().take(64).collect::<String>());
    Fault::new(ErrorType::EnvelopeError, format!("source: {shown} is none that the token '{token}' is for"))
}
