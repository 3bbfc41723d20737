//! Records for a producer, and the headers that they get from input records.

use evt_core::kind::headers::{HeaderRows, Headers};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use std::borrow::Cow;

/// Overhead of a batch of one record: the header of the batch, and length, attributes, timestamp and offset of the
/// record at their longest.
const BATCH_OVERHEAD: usize = 61 + 36;
/// Lengths of a header's name and value at their longest.
const HEADER_OVERHEAD: usize = 10;
/// Prefixes of headers that describe the encoding or the failure of the input record's value; they are wrong for the
/// new value.
const OF_VALUE: [&str; 4] = ["__", "evt.", "ce_", "content-"];

/// Returns the maximum size of a batch of one record, in bytes.
pub fn size(value: usize, key: usize, headers: usize) -> usize {
    BATCH_OVERHEAD + value + key + headers
}

/// A record to be sent, or one that brokers rejected.
#[derive(Clone, Debug, Default)]
pub struct ProducerRecord<'a> {
    /// The partition; `None` lets the partitioner choose.
    pub partition: Option<i32>,
    /// Its key.
    pub key: Option<Cow<'a, [u8]>>,
    /// Its payload.
    pub value: Cow<'a, [u8]>,
    /// Its headers.
    pub headers: Option<OwnedHeaders>,
    /// Its timestamp (ms since 1970); `None` for the time at which it is sent.
    pub timestamp: Option<i64>,
}

/// A record that brokers rejected, or that was in a batch with such a record. None of the batch was written.
#[derive(Debug)]
pub struct ReturnedRecord {
    /// The record.
    pub record: ProducerRecord<'static>,
    /// Its topic.
    pub topic: String,
    /// Whether brokers found a record of the batch invalid; otherwise the batch was too large.
    pub is_invalid: bool,
}

impl ProducerRecord<'_> {
    /// Copies a record that librdkafka returned.
    pub fn returned(message: &BorrowedMessage<'_>) -> ProducerRecord<'static> {
        ProducerRecord {
            partition: Some(message.partition()),
            key: message.key().map(|key| key.to_vec().into()),
            value: message.payload().unwrap_or_default().to_vec().into(),
            headers: message.headers().map(|headers| headers.detach()),
            timestamp: None,
        }
    }

    /// Returns the record with copies of the data that it borrows.
    pub fn into_owned(self) -> ProducerRecord<'static> {
        let Self { partition, key, value, headers, timestamp } = self;
        let key = key.map(|key| key.into_owned().into());
        ProducerRecord { partition, key, value: value.into_owned().into(), headers, timestamp }
    }

    /// Returns the length of its key in bytes.
    pub fn key_size(&self) -> usize {
        self.key.as_ref().map_or(0, |key| key.len())
    }

    /// Returns the maximum size of its headers in bytes.
    pub fn headers_size(&self) -> usize {
        let size = |header: Header<'_, &[u8]>| HEADER_OVERHEAD + header.key.len() + header.value.map_or(0, <[u8]>::len);
        self.headers.iter().flat_map(OwnedHeaders::iter).map(size).sum()
    }

    /// Returns the maximum size of a batch of this record, in bytes.
    pub fn size(&self) -> usize {
        size(self.value.len(), self.key_size(), self.headers_size())
    }
}

impl Headers for ProducerRecord<'_> {
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        self.headers.iter().flat_map(OwnedHeaders::iter).for_each(|header| show(header.key, header.value));
    }
}

/// Adds the headers of `own` whose names satisfy `keeps`.
pub fn insert(headers: OwnedHeaders, own: &dyn Headers, keeps: impl Fn(&str) -> bool) -> OwnedHeaders {
    // `OwnedHeaders::insert` consumes the headers and returns them.
    let mut headers = Some(headers);
    own.each(&mut |key, value| {
        if keeps(key) {
            headers = headers.take().map(|headers| headers.insert(Header { key, value }));
        }
    });
    headers.unwrap_or_default()
}

/// Whether a header describes the value of the input record.
pub fn is_of_value(name: &str) -> bool {
    let begins = |with: &&str| name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    OF_VALUE.iter().any(begins)
}

/// The headers of rows' input records, converted for librdkafka; consecutive rows with the same headers share one
/// conversion.
pub struct ForwardedHeaders<'a> {
    rows: Option<HeaderRows<'a>>,
    last: Option<ConvertedHeaders>,
}

struct ConvertedHeaders {
    /// The code of the rows that have them.
    code: usize,
    /// `None` if there are none to forward.
    headers: Option<OwnedHeaders>,
}

impl<'a> ForwardedHeaders<'a> {
    /// Wraps the headers of these rows, if they have any.
    pub fn new(rows: Option<HeaderRows<'a>>) -> Self {
        Self { rows, last: None }
    }

    /// Returns the headers of a row; `None` if there are none to forward.
    pub fn of(&mut self, row: usize) -> Option<OwnedHeaders> {
        let rows = self.rows?;
        let code = rows.code(row)?;
        if self.last.as_ref().is_none_or(|last| last.code != code) {
            let made = insert(OwnedHeaders::new(), &rows.get(code), |name| !is_of_value(name));
            let headers = Some(made).filter(|made| made.count() > 0);
            self.last = Some(ConvertedHeaders { code, headers });
        }
        self.last.as_ref().and_then(|last| last.headers.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::RecordBatch;
    use arrow::datatypes::Schema;
    use evt_core::kind::headers::{self, CodedHeaders};
    use std::sync::Arc;

    struct Pairs<'a>(&'a [(&'a str, Option<&'a [u8]>)]);

    impl Headers for Pairs<'_> {
        fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
            self.0.iter().for_each(|(name, value)| show(name, *value));
        }
    }

    #[test]
    fn headers_are_forwarded_in_order_except_those_about_the_value() {
        let some = Pairs(&[("a", Some(b"1")), ("__TypeId__", Some(b"x")), ("b", None), ("a", Some(b""))]);
        let of_value = Pairs(&[("content-type", Some(b"x")), ("CE_type", None), ("evt.stage", Some(b"x"))]);
        let mut coded = CodedHeaders::default();
        for row in [Some(&some), Some(&some), None, Some(&of_value), Some(&some)] {
            coded.push(row.map(|row| row as &dyn Headers)).unwrap();
        }
        let schema = Arc::new(Schema::new(vec![headers::field()]));
        let batch = RecordBatch::try_new(schema, vec![coded.finish().unwrap()]).unwrap();
        let mut forwarded = ForwardedHeaders::new(HeaderRows::of(&batch));
        let mut of = |row| {
            let pair = |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
            forwarded.of(row).map(|headers| headers.iter().map(pair).collect::<Vec<_>>())
        };
        let wanted =
            Some(vec![("a".to_owned(), Some(b"1".to_vec())), ("b".to_owned(), None), ("a".to_owned(), Some(vec![]))]);
        assert_eq!([of(0), of(1), of(2), of(3), of(4)], [wanted.clone(), wanted.clone(), None, None, wanted]);
        assert!(ForwardedHeaders::new(None).of(0).is_none());
    }
}
