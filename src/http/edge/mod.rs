//! Validates the records of a request before it is kept, with the mapping and the validation of the stages.
//!
//! The stage loop accepts every event that is accepted here, because the same [`Mapper`] with the same options decides both
//! times. Only the id of a record without one is made later, from its offset. [`cut`] splits a body into its records.

pub mod cut;

use crate::error::{Error, Result};
use crate::format::jsonl::one_line;
use crate::json::text::write_string;
use crate::kafka::produce::limit::RowLimit;
use crate::kind::dead::{ErrorType, Fault, Rejected};
use crate::mapping::{self, Arrival, Mapped, Mapper, RecordPosition, Stamper};
use crate::op::validate::Validator;
use crate::registry::Schemas;
use crate::registry::confluent::Confluent;
use crate::registry::confluent::recall::Recall;
use crate::registry::wire::Wire;
use crate::spool::request::Record;
use cut::Piece;
use std::borrow::Cow;
use std::sync::Arc;

/// Makes a validator and the schemas of a directory for each edge; no schemas if a registry has them.
pub type OpenSchemas = dyn Fn() -> Result<(Validator, Option<Box<dyn Schemas + Send>>)> + Send + Sync;

/// A validator of the records of one request at a time.
pub struct Edge {
    mapper: Mapper,
    stamper: Stamper,
    partition: u32,
    validator: Option<Validator>,
    schemas: Option<Box<dyn Schemas + Send>>,
    wire: Option<Wire>,
    record_max: usize,
    gauge: Option<Gauge>,
    /// Indices of the records that are rows of the present batch.
    rows: Vec<usize>,
}

/// The options of the validation.
pub struct EdgeOptions {
    /// The mapping of the stage.
    pub mapping: mapping::Options,
    /// The origin of the records.
    pub origin: String,
    /// `--max-record`.
    pub record_max: usize,
    /// The size limits of the outputs; empty if some output takes events of any size.
    pub limits: Vec<RowLimit>,
    /// The mapping that makes rows as they are written, for their size.
    pub whole: mapping::Options,
    /// `--schemas`.
    pub schemas: Option<Box<OpenSchemas>>,
    /// The registry, if `--schemas` names one. It has the schemas of Avro bodies; an edge never waits for it.
    pub registry: Option<Arc<Confluent>>,
}

/// The partition of records received over HTTP.
pub const PARTITION: &str = "0";

impl Edge {
    /// Makes an edge. Errors: schemas that cannot be opened.
    pub fn new(options: &EdgeOptions) -> Result<Self> {
        let (validator, schemas) = options.schemas.as_ref().map(|open| open()).transpose()?.unzip();
        let mut stamper = Stamper::default();
        let partition = stamper.partition(&options.origin, PARTITION);
        let mapper = Mapper::new(options.mapping.clone())?;
        let wire = options.registry.clone().map(Wire::new);
        let gauge = (!options.limits.is_empty()).then(|| Gauge::new(options)).transpose()?;
        Ok(Self {
            mapper,
            stamper,
            partition,
            validator,
            schemas: schemas.flatten(),
            wire,
            record_max: options.record_max,
            gauge,
            rows: vec![],
        })
    }

    /// Sets the number of bytes of headers that are passed on with each record of the following requests.
    pub fn set_headers(&mut self, bytes: usize) {
        if let Some(gauge) = &mut self.gauge {
            gauge.headers = bytes;
        }
    }

    /// Validates a request that is one Avro record after its schema id. A refused record keeps its bytes as received. The
    /// result does not count if `recall` lacks an answer of the registry.
    pub fn judge_avro(&mut self, body: &[u8], now: i64, recall: &mut Recall) -> Result<Vec<Record>> {
        let piece = match self.wire.as_mut().map(|wire| wire.recalled(body, recall)).transpose()? {
            Some(Some(Ok(text))) => Piece { payload: Cow::Owned(text.as_bytes().to_vec()), fault: None },
            Some(Some(Err(fault))) => Piece::refused(body, fault),
            Some(None) => return Ok(vec![]),
            None => return Err(Error::broken("Avro without a registry")),
        };
        let mut records = self.judge(vec![piece], now, Some(recall))?;
        for record in records.iter_mut().filter(|record| record.fault.is_some()) {
            record.payload.clear();
            record.payload.extend_from_slice(body);
            self.cut(record);
        }
        Ok(records)
    }

    /// Validates the records of a request that arrived at `now` (µs). `recall` holds the answers of the registry, if it has the
    /// schemas; the result does not count if one is missing. Errors: only a schema that cannot be loaded.
    pub fn judge(&mut self, pieces: Vec<Piece<'_>>, now: i64, mut recall: Option<&mut Recall>) -> Result<Vec<Record>> {
        let mut records = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let record = self.one(piece, now, records.len())?;
            records.push(record);
            if self.mapper.is_full() {
                self.validate(&mut records, recall.as_deref_mut())?;
            }
        }
        if self.validator.is_some() {
            self.validate(&mut records, recall)?;
        }
        self.rows.clear();
        Ok(records)
    }

    /// Validates one record of the request.
    fn one(&mut self, piece: Piece<'_>, now: i64, index: usize) -> Result<Record> {
        let Piece { payload, fault } = piece;
        let fault = match fault {
            Some(fault) => Some(fault),
            None if payload.len() > self.record_max => Some(self.too_long(payload.len())),
            None => match (self.map(&payload, now)?, &mut self.gauge) {
                (None, Some(gauge)) => gauge.judge(&payload, now)?,
                (fault, _) => fault,
            },
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

    /// Truncates the payload of a refused record to `--max-record` bytes.
    fn cut(&self, record: &mut Record) {
        let length = record.payload.len();
        if length > self.record_max {
            record.payload.truncate(self.record_max);
            record.fault = record.fault.take().map(|fault| fault.of_cut(length as u64));
        }
    }

    /// Maps a record to a row; returns its fault if it is not an event.
    fn map(&mut self, payload: &[u8], now: i64) -> Result<Option<Fault>> {
        let text = match one_line(payload) {
            Ok(text) => text,
            Err(fault) => return Ok(Some(fault)),
        };
        let arrival = Some(Arrival { at: now, is_fact: true });
        let place = RecordPosition { raw: payload, offset: 0, partition: self.partition, now, judged: false, arrival };
        Ok(match self.mapper.record(&text, place, &mut self.stamper)? {
            Mapped::Row => None,
            Mapped::Dead(fault) => Some(fault),
            Mapped::NoTime => Some(Fault::new(ErrorType::TimestampError, "missing event time (--time)")),
            // The arrival is known, so the mapper does not hold the record back.
            Mapped::Held(_) => None,
        })
    }

    #[cold]
    fn too_long(&self, length: usize) -> Fault {
        let limit = self.record_max;
        let message = format!("the record has {length} bytes (--max-record {limit}); the payload is truncated");
        Fault::new(ErrorType::TooLargeError, message)
    }

    /// Takes the rows from the mapper and validates each by its schema, if there are schemas.
    fn validate(&mut self, records: &mut [Record], recall: Option<&mut Recall>) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let Some(batch) = self.mapper.batch(&mut self.stamper, None)? else { return Ok(()) };
        let Some(validator) = &mut self.validator else { return Ok(()) };
        let faults = match (recall, &mut self.schemas) {
            (Some(recall), _) => {
                let faults = validator.check(&batch, recall)?.faults;
                if !faults.is_empty() {
                    recall.refused();
                }
                faults
            }
            (None, Some(schemas)) => validator.check(&batch, schemas.as_mut())?.faults,
            (None, None) => return Ok(()),
        };
        for Rejected { row, fault } in faults {
            if let Some(record) = rows.get(row).and_then(|index| records.get_mut(*index)) {
                record.fault = Some(fault);
            }
        }
        Ok(())
    }
}

/// A check of events against the size limits of the outputs.
struct Gauge {
    limits: Vec<RowLimit>,
    mapper: Mapper,
    stamper: Stamper,
    partition: u32,
    headers: usize,
}

impl Gauge {
    fn new(options: &EdgeOptions) -> Result<Self> {
        let mut stamper = Stamper::default();
        let partition = stamper.partition(&options.origin, PARTITION);
        let (limits, mapper) = (options.limits.clone(), Mapper::new(options.whole.clone())?);
        Ok(Self { limits, mapper, stamper, partition, headers: 0 })
    }

    /// Checks an event; returns the fault if no output can hold it. The row is made and measured only if its size may exceed
    /// the limits: each byte of a record occurs in its row at most a few times.
    fn judge(&mut self, payload: &[u8], now: i64) -> Result<Option<Fault>> {
        let most = self.limits.iter().map(RowLimit::bytes).max().unwrap_or(usize::MAX);
        if payload.len().saturating_mul(TIMES_MAX).saturating_add(self.headers + BESIDE_MAX) <= most {
            return Ok(None);
        }
        let Ok(text) = one_line(payload) else { return Ok(None) };
        let arrival = Some(Arrival { at: now, is_fact: true });
        let place = RecordPosition { raw: payload, offset: 0, partition: self.partition, now, judged: false, arrival };
        self.mapper.record(&text, place, &mut self.stamper)?;
        let Some(row) = self.mapper.batch(&mut self.stamper, None)?.filter(|row| row.num_rows() == 1) else {
            return Ok(None);
        };
        let mut least = None;
        for limit in &self.limits {
            let (size, bytes) = (limit.size(&row, self.headers)?, limit.bytes());
            if size <= bytes {
                return Ok(None);
            }
            least = least.max(Some((bytes, size)));
        }
        Ok(least.map(|(bytes, size)| {
            let message = format!("the event takes {size} bytes in the output, limit {bytes} (max.message.bytes)");
            Fault::new(ErrorType::TooLargeError, message)
        }))
    }
}

/// Maximum number of times that the bytes of a record occur in its row: as properties, raw, and as columns and key.
const TIMES_MAX: usize = 8;
/// Maximum bytes of a row that do not come from the record: instants, ids, constants of flags.
const BESIDE_MAX: usize = 16 << 10;

/// Makes the fault of a record whose source its token is not for.
#[cold]
pub fn foreign(source: &str, token: &str) -> Fault {
    let mut shown = String::new();
    write_string(&mut shown, &source.chars().take(64).collect::<String>());
    Fault::new(ErrorType::EnvelopeError, format!("source: {shown} is not allowed for the token '{token}'"))
}
