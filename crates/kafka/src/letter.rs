//! Dead letters as records: payload, key and headers of the record as they were, and further headers that describe the
//! failure, named by evt (`evt.…`) and by Kafka Connect (`__connect.errors.…`). A letter that is read back equals the
//! one written.

use super::client::record::{ProducerRecord, insert};
use arrow::array::{Array, AsArray, RecordBatch};
use evt_core::format::cell::{CellForm, Column, write_base64};
use evt_core::format::jsonl::write_header;
use evt_core::json::text::write_string;
use evt_core::kind::dead::{COLUMNS, column};
use evt_core::kind::headers::{Headers, Stored};
use rdkafka::message::{Header, OwnedHeaders};

/// Prefix of evt's headers; the name of the column follows.
const OURS: &str = "evt.";
/// Prefix of Kafka Connect's headers.
const CONNECT: &str = "__connect.errors.";

/// The columns that become headers, with their names in Kafka Connect.
const HEADERS: [(usize, Option<&str>); 14] = [
    (column::ERROR_TYPE, Some("exception.class.name")),
    (column::ERROR_MESSAGE, Some("exception.message")),
    (column::STAGE, Some("stage")),
    (column::SOURCE_TOPIC, Some("topic")),
    (column::PARTITION, Some("partition")),
    (column::OFFSET, Some("offset")),
    (column::FAILED_AT, None),
    (column::PRODUCER_HOST, None),
    (column::ATTEMPTS, None),
    (column::ARRIVED_AT, None),
    (column::ORIGINAL_LENGTH, None),
    (column::LETTER_ID, None),
    (column::METRICS, None),
    (column::PARTIAL, None),
];

/// The dead letters of a batch as records.
pub struct Letters<'a> {
    batch: &'a RecordBatch,
    /// The columns that become headers, each with the names of its headers.
    columns: Vec<(Vec<String>, Column<'a>)>,
}

impl<'a> Letters<'a> {
    /// Wraps a batch of kind dead.
    pub fn new(batch: &'a RecordBatch) -> Self {
        let schema = batch.schema_ref();
        let columns = HEADERS.iter().map(|(at, connect)| {
            let own = format!("{OURS}{}", COLUMNS[*at]);
            let names = [own].into_iter().chain(connect.map(|connect| format!("{CONNECT}{connect}")));
            (names.collect(), Column::new(schema.field(*at), batch.column(*at).as_ref(), CellForm::Text))
        });
        Self { batch, columns: columns.collect() }
    }

    /// Returns the dead letter in a row: payload and key of its record, and the headers of both.
    pub fn record(&mut self, row: usize) -> ProducerRecord<'a> {
        let bytes = |at: usize| self.batch.column(at).as_binary::<i32>();
        let (payloads, keys) = (bytes(column::ORIGINAL_PAYLOAD), bytes(column::ORIGINAL_KEY));
        let key = keys.is_valid(row).then(|| keys.value(row).into());
        ProducerRecord {
            key,
            value: payloads.value(row).into(),
            headers: Some(self.headers(row)),
            ..ProducerRecord::default()
        }
    }

    /// Returns the headers of the record, then those that describe the failure.
    fn headers(&mut self, row: usize) -> OwnedHeaders {
        let mut headers = OwnedHeaders::new_with_capacity(2 * HEADERS.len());
        // A header of an earlier failure would be read as one of this failure.
        let own = Stored::new(self.batch.column(column::HEADERS).as_map(), row);
        headers = insert(headers, &own, |name| !is_of_failure(name));
        let mut text = String::new();
        for (names, column) in self.columns.iter_mut().filter(|(_, column)| !column.is_null(row)) {
            text.clear();
            column.write(row, &mut text);
            for key in &*names {
                headers = headers.insert(Header { key, value: Some(text.as_bytes()) });
            }
        }
        headers
    }
}

/// Whether a header describes a failure.
fn is_of_failure(name: &str) -> bool {
    name.starts_with(CONNECT) || column_of(name).is_some()
}

/// Returns the column that an `evt.` header holds.
fn column_of(name: &str) -> Option<usize> {
    let name = name.strip_prefix(OURS)?;
    HEADERS.iter().map(|(at, _)| *at).find(|at| COLUMNS[*at] == name)
}

/// Whether these are the headers of a dead letter.
pub fn is_letter(headers: &dyn Headers) -> bool {
    let mut found = false;
    headers.each(&mut |name, _| found |= column_of(name) == Some(column::ERROR_TYPE));
    found
}

/// Returns the length of the original record if these are the headers of a dead letter that keeps only its beginning.
pub fn whole_length(headers: &dyn Headers) -> Option<u64> {
    let mut length = None;
    if is_letter(headers) {
        headers.each(&mut |name, value| {
            if column_of(name) == Some(column::ORIGINAL_LENGTH) {
                length = str::from_utf8(value.unwrap_or_default()).ok().and_then(|text| text.parse().ok());
            }
        });
    }
    length
}

/// Writes a letter as the JSON object that `-o jsonl` writes for it.
pub fn to_json(payload: &[u8], key: Option<&[u8]>, headers: &dyn Headers) -> String {
    let (mut json, mut own) = (String::from("{"), String::from("{"));
    for (at, value) in [(column::ORIGINAL_PAYLOAD, Some(payload)), (column::ORIGINAL_KEY, key)] {
        match value.map(|value| (value, str::from_utf8(value))) {
            None => {}
            Some((_, Ok(text))) => write_string(name_member(&mut json, COLUMNS[at]), text),
            Some((value, Err(_))) => {
                let name = format!("{}_base64", COLUMNS[at]);
                write_base64(value, CellForm::Json, name_member(&mut json, &name));
            }
        }
    }
    headers.each(&mut |name, value| match (column_of(name), value) {
        (Some(at), Some(value)) => {
            write_string(name_member(&mut json, COLUMNS[at]), &String::from_utf8_lossy(value));
        }
        _ if is_of_failure(name) => {}
        (_, value) => write_header(value, CellForm::Json, name_member(&mut own, name)),
    });
    if own.len() > 1 {
        own.push('}');
        name_member(&mut json, COLUMNS[column::HEADERS]).push_str(&own);
    }
    json.push('}');
    json
}

/// Appends the name of a member to an object; returns the object.
fn name_member<'a>(json: &'a mut String, name: &str) -> &'a mut String {
    if json.len() > 1 {
        json.push(',');
    }
    write_string(json, name);
    json.push(':');
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use evt_core::format::row;
    use evt_core::kind::Kind;
    use evt_core::kind::dead::{ErrorType, Fault, Letter};
    use evt_core::kind::letters::Builder;

    type Pairs = Vec<(String, Option<Vec<u8>>)>;

    struct StoredPairs(Pairs);

    impl Headers for StoredPairs {
        fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
            self.0.iter().for_each(|(name, value)| show(name, value.as_deref()));
        }
    }

    #[test]
    fn a_letter_comes_back_as_it_was() {
        let own = StoredPairs(vec![
            ("a".into(), Some(b"\xff".to_vec())),
            ("b".into(), None),
            ("a".into(), Some(b"x".to_vec())),
        ]);
        let fault = Fault::new(ErrorType::EnvelopeError, "no \"object\"\n");
        let letter = Letter {
            payload: b"\xfe{",
            key: Some(b""),
            headers: Some(&own),
            arrived_at: Some(1_700_000_000_000_001),
            fault: &fault,
            origin: "t",
            partition: "3",
            offset: 17,
        };
        let mut builder = Builder::new("evt-test", "host");
        builder.push(&letter, 7).unwrap();
        let batch = builder.finish().unwrap();
        let mut letters = Letters::new(&batch);
        let record = letters.record(0);
        assert!(is_letter(&record) && !is_letter(&own));
        let mut rows = row::Builder::new(Kind::Dead);
        rows.push(&to_json(&record.value, record.key.as_deref(), &record)).unwrap();
        assert_eq!(rows.finish().unwrap(), batch);
    }
}
