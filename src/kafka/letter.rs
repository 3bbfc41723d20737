//! Dead letters as messages: payload, key and headers of the record as they were, and further headers that describe the
//! failure, named by evt (`evt.…`) and by Kafka Connect (`__connect.errors.…`). A letter that is read back equals the one
//! written.

use crate::format::cell::{Column, Form};
use crate::json::base64;
use crate::json::text::write_string;
use crate::kind::dead::{COLUMNS, column};
use crate::kind::headers::{Headers, Stored};
use arrow::array::{Array, AsArray, RecordBatch};
use rdkafka::message::{Header, OwnedHeaders};

/// Prefix of evt's headers; the name of the column follows.
const OURS: &str = "evt.";
/// Prefix of Kafka Connect's headers.
const CONNECT: &str = "__connect.errors.";

/// The columns that become headers, with their names in Kafka Connect.
const TOLD: [(usize, Option<&str>); 11] = [
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
];

/// The letters of a batch as messages.
pub struct Letters<'a> {
    batch: &'a RecordBatch,
    told: Vec<(String, Option<String>, Column<'a>)>,
}

impl<'a> Letters<'a> {
    /// Wraps a batch of kind dead.
    pub fn new(batch: &'a RecordBatch) -> Self {
        let schema = batch.schema_ref();
        let told = TOLD.iter().map(|(at, connect)| {
            let name = format!("{OURS}{}", COLUMNS[*at]);
            let connect = connect.map(|connect| format!("{CONNECT}{connect}"));
            (name, connect, Column::new(schema.field(*at), batch.column(*at).as_ref(), Form::Text))
        });
        Self { batch, told: told.collect() }
    }

    /// Returns the payload of the record.
    pub fn payload(&self, row: usize) -> &'a [u8] {
        self.batch.column(column::ORIGINAL_PAYLOAD).as_binary::<i32>().value(row)
    }

    /// Returns the key of the record, if it had one.
    pub fn key(&self, row: usize) -> Option<&'a [u8]> {
        let keys = self.batch.column(column::ORIGINAL_KEY).as_binary::<i32>();
        keys.is_valid(row).then(|| keys.value(row))
    }

    /// Returns the headers of the record, then those that describe the failure.
    pub fn headers(&mut self, row: usize) -> OwnedHeaders {
        let mut headers = OwnedHeaders::new_with_capacity(2 * TOLD.len());
        // A header of an earlier failure would be read as one of this failure.
        let own = Stored::new(self.batch.column(column::HEADERS).as_map(), row);
        headers = insert(headers, &own, |name| !is_told(name));
        let mut text = String::new();
        for (name, connect, column) in self.told.iter_mut().filter(|(.., column)| !column.is_null(row)) {
            text.clear();
            column.write(row, &mut text);
            headers = headers.insert(Header { key: name, value: Some(text.as_bytes()) });
            if let Some(connect) = connect {
                headers = headers.insert(Header { key: connect, value: Some(text.as_bytes()) });
            }
        }
        headers
    }
}

/// Adds the headers of `own` whose names satisfy `stays`.
pub fn insert(headers: OwnedHeaders, own: &dyn Headers, stays: impl Fn(&str) -> bool) -> OwnedHeaders {
    // `OwnedHeaders::insert` consumes the headers and returns them.
    let mut headers = Some(headers);
    own.each(&mut |key, value| {
        if stays(key) {
            headers = headers.take().map(|headers| headers.insert(Header { key, value }));
        }
    });
    headers.unwrap_or_default()
}

/// Whether a header describes a failure.
fn is_told(name: &str) -> bool {
    name.starts_with(CONNECT) || column_of(name).is_some()
}

/// Returns the column that an `evt.` header holds.
fn column_of(name: &str) -> Option<usize> {
    let name = name.strip_prefix(OURS)?;
    TOLD.iter().map(|(at, _)| *at).find(|at| COLUMNS[*at] == name)
}

/// Whether these are the headers of a dead letter.
pub fn is_letter(headers: &dyn Headers) -> bool {
    let mut found = false;
    headers.each(&mut |name, _| found |= column_of(name) == Some(column::ERROR_TYPE));
    found
}

/// Returns the length of the original record if these are the headers of a dead letter that keeps only its beginning.
pub fn whole_length(headers: &dyn Headers) -> Option<u64> {
    let (mut found, mut length) = (false, None);
    headers.each(&mut |name, value| match column_of(name) {
        Some(column::ERROR_TYPE) => found = true,
        Some(column::ORIGINAL_LENGTH) => length = std::str::from_utf8(value.unwrap_or_default()).ok().map(str::parse),
        _ => {}
    });
    length.filter(|_| found)?.ok()
}

/// Writes a letter as the JSON object that `-o jsonl` writes for it.
pub fn to_json(payload: &[u8], key: Option<&[u8]>, headers: &dyn Headers) -> String {
    let mut json = String::from("{");
    bytes(&mut json, COLUMNS[column::ORIGINAL_PAYLOAD], payload);
    if let Some(key) = key {
        json.push(',');
        bytes(&mut json, COLUMNS[column::ORIGINAL_KEY], key);
    }
    let mut own = String::new();
    headers.each(&mut |name, value| match (column_of(name), value) {
        (Some(at), Some(value)) => {
            json.push_str(",\"");
            json.push_str(COLUMNS[at]);
            json.push_str("\":");
            write_string(&mut json, &String::from_utf8_lossy(value));
        }
        _ if is_told(name) => {}
        (_, value) => header(&mut own, name, value),
    });
    if !own.is_empty() {
        json.push_str(",\"headers\":{");
        json.push_str(&own[1..]);
        json.push('}');
    }
    json.push('}');
    json
}

/// Writes a member with bytes: as a string if they are UTF-8, else in base64 under `NAME_base64`.
fn bytes(json: &mut String, name: &str, value: &[u8]) {
    match std::str::from_utf8(value) {
        Ok(text) => {
            write_string(json, name);
            json.push(':');
            write_string(json, text);
        }
        Err(_) => {
            write_string(json, &format!("{name}_base64"));
            json.push_str(":\"");
            base64::encode(value, json);
            json.push('"');
        }
    }
}

/// Writes a header as a member, its value like that of `-o jsonl`.
fn header(json: &mut String, name: &str, value: Option<&[u8]>) {
    json.push(',');
    write_string(json, name);
    json.push(':');
    match value.map(|value| (value, std::str::from_utf8(value))) {
        None => json.push_str("null"),
        Some((_, Ok(text))) => write_string(json, text),
        Some((value, Err(_))) => {
            json.push_str("{\"base64\":\"");
            base64::encode(value, json);
            json.push_str("\"}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::row;
    use crate::kind::Kind;
    use crate::kind::dead::{ErrorType, Fault, Letter};
    use crate::kind::letters::Builder;
    use rdkafka::message::Headers as _;

    type Pairs = Vec<(String, Option<Vec<u8>>)>;

    struct Kept(Pairs);

    impl Headers for Kept {
        fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
            self.0.iter().for_each(|(name, value)| show(name, value.as_deref()));
        }
    }

    #[test]
    fn a_letter_comes_back_as_it_was() {
        let own =
            Kept(vec![("a".into(), Some(b"\xff".to_vec())), ("b".into(), None), ("a".into(), Some(b"x".to_vec()))]);
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
        let headers = letters.headers(0);
        let kept = Kept(headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect());
        assert!(is_letter(&kept) && !is_letter(&own));
        let mut rows = row::Builder::new(Kind::Dead);
        rows.push(&to_json(letters.payload(0), letters.key(0), &kept)).unwrap();
        assert_eq!(rows.finish().unwrap(), batch);
    }
}
