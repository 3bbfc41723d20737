//! Validates the records of a request before the server stores it, with the mapping and the validation of the stages.
//!
//! ```text
//! body ─► split ─► records ─► Mapper ─► Validator (subject and schema, if the server has schemas) ─► limits of outputs
//!                     │          │          │                                                          │
//!                     └──────────┴──────────┴─► fault: 4xx for this record alone  stored by the spool ◄┘
//! ```
//!
//! The stage loop accepts every event that the server accepts, because both use the same [`Mapper`] with the same
//! options. Only the stage loop derives the id of a record without one, from its offset. [`split`] splits a body into
//! its records.

pub mod split;

use arrow::array::RecordBatch;
use bytes::{Bytes, BytesMut};
use evt_core::error::{Error, Result};
use evt_core::format::one_line;
use evt_core::json::text::write_string;
use evt_core::kind::dead::{ErrorType, Fault, Rejected};
use evt_core::mapping::{self, Arrival, FutureVerdict, LastRow, Mapped, Mapper, PartitionTable, RecordMeta};
use evt_core::op::validate::Validator;
use evt_core::schema::subject::Schemas;
use evt_kafka::produce::limit::RowLimit;
use evt_run::registry::confluent::Confluent;
use evt_run::registry::confluent::recall::Recall;
use evt_run::registry::wire::WireDecoder;
use evt_run::spool::request::{self, RecordOutcome};
use std::sync::Arc;

/// Makes a validator of schemas and the schemas of a directory; no schemas if a registry has them.
pub type OpenSchemas = dyn Fn() -> Result<(Validator, Option<Box<dyn Schemas + Send>>)> + Send + Sync;

/// Validates the records of one request at a time.
pub struct RequestValidator {
    mapper: RequestMapper,
    validator: Option<Validator>,
    schemas: Option<Box<dyn Schemas + Send>>,
    wire: Option<WireDecoder>,
    record_max: usize,
    size_check: Option<SizeCheck>,
    /// Indices of the records that are rows of the present batch.
    rows: Vec<usize>,
    /// The source of the last record that had one.
    source: Bytes,
}

/// The options of the validation.
pub struct ValidationOptions {
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
    /// The registry, if `--schemas` names one. It has the schemas of Avro bodies; the validation never waits for it.
    pub registry: Option<Arc<Confluent>>,
}

/// The partition of records received over HTTP.
pub const PARTITION: &str = "0";

impl RequestValidator {
    /// Makes a validator. Errors: schemas that cannot be opened.
    pub fn new(options: &ValidationOptions) -> Result<Self> {
        let (validator, schemas) = options.schemas.as_ref().map(|open| open()).transpose()?.unzip();
        Ok(Self {
            mapper: RequestMapper::new(&options.mapping, &options.origin)?,
            validator,
            schemas: schemas.flatten(),
            wire: options.registry.clone().map(WireDecoder::new),
            record_max: options.record_max,
            size_check: (!options.limits.is_empty()).then(|| SizeCheck::new(options)).transpose()?,
            rows: vec![],
            source: Bytes::new(),
        })
    }

    /// Sets the number of bytes of headers that are passed on with each record of the following requests.
    pub fn set_headers(&mut self, bytes: usize) {
        if let Some(check) = &mut self.size_check {
            check.headers = bytes;
        }
    }

    /// Validates a request that is one Avro record after its schema id. A rejected record keeps its bytes as received.
    /// The result does not count if `recall` lacks an answer of the registry.
    pub fn validate_avro(&mut self, body: &Bytes, now: i64, recall: &mut Recall) -> Result<Vec<request::Record>> {
        let record = match self.wire.as_mut().map(|wire| wire.recalled(body, recall)).transpose()? {
            Some(Some(Ok(text))) => request::Record::new(Bytes::copy_from_slice(text.as_bytes())),
            Some(Some(Err(fault))) => request::Record::rejected(body.clone(), fault),
            Some(None) => return Ok(vec![]),
            None => return Err(Error::broken("Avro without a registry")),
        };
        let mut records = self.validate(vec![record], now, Some(recall))?;
        for record in records.iter_mut().filter(|record| record.fault().is_some()) {
            record.payload = body.clone();
            self.truncate(record);
        }
        Ok(records)
    }

    /// Validates the records of a request that arrived at `now` (µs). `recall` holds the answers of the registry, if it
    /// has the schemas; the result does not count if one is missing. Errors: only a schema that cannot be loaded.
    pub fn validate(
        &mut self,
        mut records: Vec<request::Record>,
        now: i64,
        mut recall: Option<&mut Recall>,
    ) -> Result<Vec<request::Record>> {
        for index in 0..records.len() {
            let before = self.mapper.mapper.rows();
            self.record(&mut records[index], now)?;
            if self.mapper.mapper.rows() > before {
                self.rows.push(index);
            }
            if self.mapper.mapper.is_full() {
                self.check_schemas(&mut records, recall.as_deref_mut())?;
            }
        }
        // Called without schemas too, because it drops the rows: an idle validator must keep nothing of its last
        // request.
        self.check_schemas(&mut records, recall)?;
        self.source = Bytes::new();
        detach(&mut records);
        Ok(records)
    }

    /// Validates one record of the request.
    fn record(&mut self, record: &mut request::Record, now: i64) -> Result<()> {
        if record.fault().is_none()
            && let Some(fault) = self.fault(&record.payload, now)?
        {
            record.outcome = RecordOutcome::Rejected(fault);
        }
        if record.fault().is_some() {
            self.truncate(record);
        } else if let Some(LastRow { event_id, is_named, source }) = self.mapper.mapper.last() {
            // Most records of a request have the same source.
            if self.source != source {
                self.source = Bytes::copy_from_slice(source.as_bytes());
            }
            record.source = self.source.clone();
            record.event_id = is_named.then_some(event_id);
        }
        Ok(())
    }

    /// Maps a record to a row; returns its fault if it is not an event, or too large.
    fn fault(&mut self, payload: &[u8], now: i64) -> Result<Option<Fault>> {
        let (length, limit) = (payload.len(), self.record_max);
        if length > limit {
            let message = format!("the record has {length} bytes (--max-record {limit}); the payload is truncated");
            return Ok(Some(Fault::new(ErrorType::TooLargeError, message)));
        }
        match (self.map(payload, now)?, &mut self.size_check) {
            (None, Some(check)) => check.fault(payload, now),
            (fault, _) => Ok(fault),
        }
    }

    /// Truncates the payload of a rejected record to `--max-record` bytes.
    fn truncate(&self, record: &mut request::Record) {
        let length = record.payload.len();
        if let RecordOutcome::Rejected(fault) = &mut record.outcome
            && length > self.record_max
        {
            record.payload = Bytes::copy_from_slice(&record.payload[..self.record_max]);
            fault.original_length = Some(length as u64);
        }
    }

    /// Maps a record to a row; returns its fault if it is not an event.
    fn map(&mut self, payload: &[u8], now: i64) -> Result<Option<Fault>> {
        let text = match one_line(payload) {
            Ok(text) => text,
            Err(fault) => return Ok(Some(fault)),
        };
        Ok(match self.mapper.record(&text, payload, now)? {
            Mapped::Row => None,
            Mapped::Dead(fault) => Some(fault),
            Mapped::NoTime => Some(Fault::new(ErrorType::TimestampError, "missing event time (--time)")),
            // The arrival is known, so the mapper does not hold the record back.
            Mapped::Pending(_) => None,
        })
    }

    /// Takes the rows from the mapper and validates each by its schema; drops them if there are no schemas.
    fn check_schemas(&mut self, records: &mut [request::Record], recall: Option<&mut Recall>) -> Result<()> {
        let Some(validator) = &mut self.validator else {
            self.rows.clear();
            return self.mapper.mapper.clear();
        };
        let rows = std::mem::take(&mut self.rows);
        let Some(batch) = self.mapper.finish()? else { return Ok(()) };
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
            let record = rows.get(row).and_then(|index| records.get_mut(*index));
            // The batch also has rows of events that were rejected as too large; their faults stay.
            if let Some(record) = record.filter(|record| record.fault().is_none()) {
                record.outcome = RecordOutcome::Rejected(fault);
            }
        }
        Ok(())
    }
}

/// Copies the payloads into one buffer. Slices of the body would keep all of it in memory.
fn detach(records: &mut [request::Record]) {
    if let [record] = records
        && record.payload.is_unique()
    {
        return;
    }
    let mut all = BytesMut::with_capacity(records.iter().map(|record| record.payload.len()).sum());
    records.iter().for_each(|record| all.extend_from_slice(&record.payload));
    let mut all = all.freeze();
    for record in records {
        record.payload = all.split_to(record.payload.len());
    }
}

/// A check of events against the size limits of the outputs.
struct SizeCheck {
    limits: Vec<RowLimit>,
    mapper: RequestMapper,
    headers: usize,
}

impl SizeCheck {
    fn new(options: &ValidationOptions) -> Result<Self> {
        let mapper = RequestMapper::new(&options.whole, &options.origin)?;
        Ok(Self { limits: options.limits.clone(), mapper, headers: 0 })
    }

    /// Checks an event; returns the fault if no output can hold it. The row is made and measured only if its size may
    /// exceed the limits: each byte of a record occurs in its row at most a few times.
    fn fault(&mut self, payload: &[u8], now: i64) -> Result<Option<Fault>> {
        let most = self.limits.iter().map(RowLimit::bytes).max().unwrap_or(usize::MAX);
        if payload.len().saturating_mul(TIMES_MAX).saturating_add(self.headers + BESIDE_MAX) <= most {
            return Ok(None);
        }
        let Ok(text) = one_line(payload) else { return Ok(None) };
        self.mapper.record(&text, payload, now)?;
        let Some(row) = self.mapper.finish()?.filter(|row| row.num_rows() == 1) else { return Ok(None) };
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

/// A mapper of records that arrive over HTTP, in their only partition.
struct RequestMapper {
    mapper: Mapper,
    partition_table: PartitionTable,
    partition: u32,
}

impl RequestMapper {
    fn new(options: &mapping::Options, origin: &str) -> Result<Self> {
        let (mut mapper, mut partition_table) = (Mapper::new(options.clone())?, PartitionTable::default());
        let partition = partition_table.partition(origin, PARTITION);
        mapper.turn_to(partition, (origin, PARTITION));
        Ok(Self { mapper, partition_table, partition })
    }

    /// Maps a record that arrives now.
    fn record(&mut self, text: &str, raw: &[u8], now: i64) -> Result<Mapped> {
        let arrival = Some(Arrival { at: now, is_fact: true });
        let meta = RecordMeta { arrival, ..RecordMeta::of_file("", self.partition) };
        self.mapper.record(mapping::Record { text, raw, meta, now, verdict: FutureVerdict::ByArrival })
    }

    /// Takes the rows.
    fn finish(&mut self) -> Result<Option<RecordBatch>> {
        self.mapper.finish()?.stamp(&mut self.partition_table, None)
    }
}

/// Maximum number of times that the bytes of a record occur in its row: as properties, raw, and as columns and key.
const TIMES_MAX: usize = 8;
/// Maximum bytes of a row that do not come from the record: instants, ids, constants of flags.
const BESIDE_MAX: usize = 16 << 10;

/// Makes the fault of a record with a source that its token does not allow.
#[cold]
pub fn wrong_source(source: &[u8], token: &str) -> Fault {
    let mut shown = String::new();
    write_string(&mut shown, &String::from_utf8_lossy(source).chars().take(64).collect::<String>());
    Fault::new(ErrorType::EnvelopeError, format!("source: {shown} is not allowed for the token '{token}'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::op::validate;
    use evt_kafka::produce::limit::Limit;
    use evt_run::clock::Clock;
    use evt_run::registry::place;
    use evt_run::run::Run;

    #[test]
    fn a_validator_keeps_no_row_and_no_source_of_a_request_that_is_done() {
        let mapping = mapping::Options { stamped_at_arrival: true, ..mapping::Options::default() };
        let mut validator = RequestValidator::new(&ValidationOptions {
            mapping: mapping.clone(),
            origin: "http".to_owned(),
            record_max: 1 << 20,
            limits: vec![],
            whole: mapping,
            schemas: None,
            registry: None,
        })
        .unwrap();
        let event = |text: &str| request::Record::new(text.to_owned().into());
        let records = vec![event(r#"{"source":"a","event_type":"t"}"#), event("{"), event(r#"{"source":"b"}"#)];
        let records = validator.validate(records, 0, None).unwrap();
        assert_eq!(records.iter().map(|record| &record.source[..]).collect::<Vec<_>>(), [&b"a"[..], b"", b"b"]);
        assert_eq!((validator.mapper.mapper.rows(), validator.rows.len(), validator.source.len()), (0, 0, 0));
    }

    #[test]
    fn an_event_that_is_too_large_does_not_shift_the_faults_of_schemas() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("known")).unwrap();
        std::fs::write(dir.path().join("known/1.avsc"), r#"{"type":"record","name":"r","fields":[]}"#).unwrap();
        let schemas = dir.path().to_str().unwrap().to_owned();
        let open = move || -> Result<(Validator, Option<Box<dyn Schemas + Send>>)> {
            Ok((
                Validator::new(validate::Options::default()),
                Some(Box::new(place::directory(&schemas, &Default::default())?)),
            ))
        };
        let mut run = Run::unwatched("evt-ingest", Clock::Fixed(0));
        run.kafka.push(("message.max.bytes".to_owned(), "20000".to_owned()));
        let Ok(address) = evt_kafka::address::Address::parse("//host/topic", &Default::default()) else {
            panic!("an address")
        };
        let mapping = mapping::Options { stamped_at_arrival: true, ..mapping::Options::default() };
        let mut validator = RequestValidator::new(&ValidationOptions {
            mapping: mapping.clone(),
            origin: "http".to_owned(),
            record_max: 1 << 20,
            limits: vec![RowLimit::new(&address, &Limit::new(&address, &run))],
            whole: mapping,
            schemas: Some(Box::new(open)),
            registry: None,
        })
        .unwrap();
        let event = |event_type: &str, text: &str| {
            let event = format!(r#"{{"source":"s","event_type":"{event_type}","a":"{text}"}}"#);
            request::Record::new(event.into())
        };
        let records = vec![event("known", &"x".repeat(30_000)), event("unknown", ""), event("known", "")];
        let records = validator.validate(records, 0, None).unwrap();
        let faults: Vec<_> = records.iter().map(|record| record.fault().map(|fault| fault.error_type)).collect();
        assert_eq!(faults, [Some(ErrorType::TooLargeError), Some(ErrorType::UnknownSchemaError), None]);
    }
}
