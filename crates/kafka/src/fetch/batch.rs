//! Record batches of format 2, as brokers store them: each with a checksum, perhaps compressed.
//!
//! Source: the message format of Apache Kafka (kafka.apache.org/documentation/#messageformat). Records are views of the
//! received or the decompressed bytes: nothing is copied.

use super::unpack;
use crate::source::Message;
use evt_core::error::{Error, Result};
use evt_core::kind::headers::Headers;
use evt_core::parse::bytes::Cursor;
use std::collections::HashSet;

/// Bytes of the header of a batch.
const HEAD: usize = 61;
/// Bytes that the length field does not count.
const BEFORE_LENGTH: usize = 12;
/// Bytes that the checksum does not cover.
const BEFORE_CHECKED: usize = 21;
/// The supported format; older ones come from brokers before 0.11.
const FORMAT: i8 = 2;

/// Bits of a batch's attributes.
const COMPRESSION: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// The header of a batch, and its unparsed records.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The base offset: record offsets are relative to it.
    pub base: i64,
    /// Its last offset; compaction may have removed that record.
    pub last: i64,
    attributes: i16,
    /// The base timestamp (ms): record timestamps are relative to it.
    base_time: i64,
    max_time: i64,
    producer: i64,
    count: i32,
    /// Its size in bytes.
    pub size: usize,
    /// Its records, compressed or not.
    pub body: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads the batch that `records` begin with; `None` if it is cut off, because the answer was full. `checks`
    /// enables the checksum. Errors: exit status 65 if it is corrupt, or in a form that is not supported.
    pub fn first(records: &'a [u8], checks: bool) -> Result<Option<Self>> {
        let Some(&head) = records.first_chunk::<HEAD>() else { return Ok(None) };
        let mut cursor = Cursor::new(&head);
        let mut read = || {
            let (base, length, _epoch) = (cursor.be()?, cursor.be::<i32>()?, cursor.be::<i32>()?);
            let (format, checksum, attributes) = (cursor.be::<i8>()?, cursor.be::<u32>()?, cursor.be()?);
            let last = i64::checked_add(base, cursor.be::<i32>()?.into())?;
            let (base_time, max_time, producer) = (cursor.be()?, cursor.be()?, cursor.be()?);
            let (_epoch, _sequence, count) = (cursor.be::<i16>()?, cursor.be::<i32>()?, cursor.be()?);
            let size = usize::try_from(length).ok()?.checked_add(BEFORE_LENGTH)?;
            let batch = Self { base, last, attributes, base_time, max_time, producer, count, size, body: &[] };
            Some((batch, format, checksum))
        };
        let Some((batch, format, checksum)) = read() else { return Err(broken(0, "invalid length or offsets")) };
        if format != FORMAT {
            return Err(broken(batch.base, "a format before Kafka 0.11"));
        }
        if batch.size < HEAD || batch.last < batch.base || batch.base < 0 {
            return Err(broken(batch.base, "invalid length or offsets"));
        }
        if batch.compression() > unpack::LAST {
            return Err(broken(batch.base, "unknown compression"));
        }
        let Some(bytes) = records.get(..batch.size) else { return Ok(None) };
        if checks && crc32c::crc32c(&bytes[BEFORE_CHECKED..]) != checksum {
            return Err(broken(batch.base, "checksum mismatch"));
        }
        Ok(Some(Self { body: &bytes[HEAD..], ..batch }))
    }

    /// Returns its compression: 0 for none, else a number that [`unpack`](unpack::unpack) accepts.
    pub fn compression(&self) -> i16 {
        self.attributes & COMPRESSION
    }

    /// Returns its records. `body` is the batch's own record bytes, decompressed if necessary.
    pub fn records<'b>(&self, body: &'b [u8]) -> BatchRecords<'b> {
        let is_fact = self.attributes & LOG_APPEND_TIME != 0;
        let (base, base_time) = (self.base, if is_fact { self.max_time } else { self.base_time });
        let (rest, left, headers) = (Cursor::new(body), self.count, RecordHeaders::NONE);
        BatchRecords { rest, left, base, base_time, is_fact, headers }
    }
}

/// Returns the offset after the whole batches in `records`; `None` if there is no whole batch.
pub fn next_offset(mut records: &[u8]) -> Result<Option<i64>> {
    let mut next = None;
    while let Some(batch) = Batch::first(records, false)? {
        next = Some(batch.last.saturating_add(1));
        records = &records[batch.size..];
    }
    Ok(next)
}

/// Reads bytes after their length of variable length; the inner `None` stands for a negative length, which is null.
#[inline]
fn sized_bytes<'a>(cursor: &mut Cursor<'a>) -> Option<Option<&'a [u8]>> {
    match cursor.zigzag()? {
        length @ 0.. => cursor.take(usize::try_from(length).ok()?).map(Some),
        _ => Some(None),
    }
}

#[cold]
fn broken(base: i64, why: &str) -> Error {
    Error::corrupt(format!("the batch of records at offset {base}: {why}"))
}

/// The headers of a record, already validated.
#[derive(Clone, Copy, Debug)]
struct RecordHeaders<'a> {
    count: i64,
    bytes: &'a [u8],
}

impl<'a> RecordHeaders<'a> {
    const NONE: Self = Self { count: 0, bytes: &[] };

    fn check(count: i64, bytes: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        for _ in 0..count {
            sized_bytes(&mut cursor)??;
            sized_bytes(&mut cursor)?;
        }
        (count >= 0 && cursor.rest().is_empty()).then_some(Self { count, bytes })
    }
}

impl Headers for RecordHeaders<'_> {
    fn each(&self, show: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let mut cursor = Cursor::new(self.bytes);
        for _ in 0..self.count {
            let (Some(Some(name)), Some(value)) = (sized_bytes(&mut cursor), sized_bytes(&mut cursor)) else { return };
            // Brokers accept header names that are not UTF-8: such a header is skipped.
            if let Ok(name) = str::from_utf8(name) {
                show(name, value);
            }
        }
    }
}

/// The records of a batch, in order.
#[derive(Clone, Debug)]
pub struct BatchRecords<'a> {
    rest: Cursor<'a>,
    left: i32,
    base: i64,
    base_time: i64,
    is_fact: bool,
    /// The headers of the record that was read last.
    headers: RecordHeaders<'a>,
}

impl<'a> BatchRecords<'a> {
    /// Reads the next record; `None` after the last one. Errors: exit status 65 if the batch is corrupt, after which it
    /// has no more records.
    #[inline]
    pub fn read(&mut self) -> Result<Option<Message<'_>>> {
        if self.left <= 0 {
            let is_whole = std::mem::replace(&mut self.rest, Cursor::new(&[])).rest().is_empty();
            return if is_whole { Ok(None) } else { Err(broken(self.base, "bytes after the last record")) };
        }
        // A corrupt record leaves the batch without further ones.
        let (rest, left) = (std::mem::replace(&mut self.rest, Cursor::new(&[])), std::mem::take(&mut self.left));
        let base = self.base;
        self.read_from(rest, left).map(Some).ok_or_else(|| broken(base, "a record does not have its stated length"))
    }

    #[inline]
    fn read_from(&mut self, mut rest: Cursor<'a>, left: i32) -> Option<Message<'_>> {
        let mut record = Cursor::new(sized_bytes(&mut rest)??);
        let _attributes = record.be::<i8>()?;
        let (time, offset) = (record.zigzag()?, record.zigzag()?);
        let (key, value, count) = (sized_bytes(&mut record)?, sized_bytes(&mut record)?, record.zigzag()?);
        let time = if self.is_fact { self.base_time } else { self.base_time.checked_add(time)? };
        let offset = self.base.checked_add(offset)?;
        self.headers = RecordHeaders::check(count, record.rest())?;
        (self.rest, self.left) = (rest, left - 1);
        Some(Message { offset, key, value, headers: &self.headers, arrival: Message::arrival(time, self.is_fact) })
    }
}

/// An aborted transaction; transactions are in the order of their first offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbortedTransaction {
    /// The offset of its first record.
    pub first: i64,
    /// The id of its producer.
    pub producer: i64,
}

/// The aborted transactions that an answer lists: their records must not be read.
#[derive(Clone, Debug, Default)]
pub struct Aborted {
    /// Transactions not reached yet, in descending order.
    not_reached: Vec<AbortedTransaction>,
    /// Producers whose present transaction was aborted.
    open: HashSet<i64>,
}

impl Aborted {
    /// Makes the set from a list.
    pub fn new(mut not_reached: Vec<AbortedTransaction>) -> Self {
        not_reached.sort_unstable_by(|a, b| b.cmp(a));
        Self { not_reached, open: HashSet::new() }
    }

    /// Whether the records of the next batch must be skipped: they were aborted, or are markers of transactions. `body`
    /// is the decompressed body of the batch. Batches must be passed in order.
    pub fn hides(&mut self, batch: &Batch<'_>, body: &[u8]) -> bool {
        while let Some(AbortedTransaction { producer, .. }) = self.not_reached.pop_if(|one| one.first <= batch.last) {
            self.open.insert(producer);
        }
        if batch.attributes & CONTROL != 0 {
            if is_abort(batch.records(body)) {
                self.open.remove(&batch.producer);
            }
            return true;
        }
        batch.attributes & TRANSACTIONAL != 0 && self.open.contains(&batch.producer)
    }
}

/// Whether a marker aborts a transaction: its key holds a version and a type, and type 0 is an abort.
fn is_abort(mut marks: BatchRecords<'_>) -> bool {
    matches!(marks.read(), Ok(Some(Message { key: Some([_, _, 0, 0, ..]), .. })))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use evt_core::mapping::Arrival;

    fn put_varint(bytes: &mut Vec<u8>, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while rest >= 0x80 {
            bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }

    fn put_bytes(bytes: &mut Vec<u8>, value: Option<&[u8]>) {
        put_varint(bytes, value.map_or(-1, |value| value.len() as i64));
        bytes.extend(value.unwrap_or_default());
    }

    /// Encodes records (offset from the base, time from the base, value), each with a key and two headers.
    pub fn body(records: &[(i64, i64, Option<&str>)]) -> Vec<u8> {
        let mut bytes = vec![];
        for (offset, time, value) in records {
            let mut record = vec![0];
            put_varint(&mut record, *time);
            put_varint(&mut record, *offset);
            put_bytes(&mut record, Some(b"\0\0\0\0key"));
            put_bytes(&mut record, value.map(str::as_bytes));
            put_varint(&mut record, 2);
            put_bytes(&mut record, Some(b"name"));
            put_bytes(&mut record, None);
            put_bytes(&mut record, Some(&[0xff]));
            put_bytes(&mut record, Some(b"of no text"));
            put_bytes(&mut bytes, Some(&record));
        }
        bytes
    }

    /// The attributes of a batch and the id of its producer.
    #[derive(Clone, Copy)]
    pub struct Attributes {
        pub bits: i16,
        pub producer: i64,
    }

    impl Attributes {
        /// An uncompressed batch outside of transactions.
        pub const NONE: Self = Self { bits: 0, producer: -1 };
        /// The same with timestamps of the broker.
        const APPEND_TIME: Self = Self { bits: 0x08, producer: -1 };

        /// A batch in a transaction of `producer`.
        pub const fn transactional(producer: i64) -> Self {
            Self { bits: 0x10, producer }
        }

        /// The marker that commits or aborts a transaction of `producer`.
        const fn marker(producer: i64) -> Self {
            Self { bits: 0x30, producer }
        }
    }

    /// Encodes a batch whose last offset is `base + last`.
    pub fn batch(base: i64, last: i32, attributes: Attributes, count: i32, body: &[u8]) -> Vec<u8> {
        let mut checked = attributes.bits.to_be_bytes().to_vec();
        checked.extend(last.to_be_bytes());
        [1000_i64, 9000, attributes.producer].iter().for_each(|number| checked.extend(number.to_be_bytes()));
        checked.extend(0_i16.to_be_bytes());
        checked.extend(0_i32.to_be_bytes());
        checked.extend(count.to_be_bytes());
        checked.extend(body);
        let mut bytes = base.to_be_bytes().to_vec();
        bytes.extend(i32::try_from(checked.len() + 9).unwrap().to_be_bytes());
        bytes.extend(7_i32.to_be_bytes());
        bytes.push(FORMAT.cast_unsigned());
        bytes.extend(crc32c::crc32c(&checked).to_be_bytes());
        bytes.extend(checked);
        bytes
    }

    /// Returns the number of records that can be read, and whether the batch then ends as it must.
    fn read_all(batch: &Batch<'_>) -> (usize, bool) {
        let (mut records, mut count) = (batch.records(batch.body), 0);
        loop {
            match records.read() {
                Ok(Some(_)) => count += 1,
                end => return (count, end.is_ok()),
            }
        }
    }

    fn one(bytes: &[u8]) -> Batch<'_> {
        match Batch::first(bytes, true).unwrap() {
            Some(batch) if batch.size == bytes.len() => batch,
            _ => panic!("no batch of {} bytes", bytes.len()),
        }
    }

    #[test]
    fn a_number_of_variable_length_ends_where_it_says() {
        for (bytes, value) in [
            (&[0x00][..], 0),
            (&[0x01], -1),
            (&[0x02], 1),
            (&[0xac, 0x02], 150),
            (&[0xfe, 0xff, 0xff, 0xff, 0x0f], i64::from(i32::MAX)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], i64::MIN),
        ] {
            let mut cursor = Cursor::new(bytes);
            assert_eq!((cursor.zigzag(), cursor.rest().len()), (Some(value), 0), "{bytes:x?}");
            assert_eq!(Cursor::new(&bytes[..bytes.len() - 1]).zigzag(), None, "{bytes:x?} cut");
        }
        assert_eq!(Cursor::new(&[0x80; 11]).zigzag(), None);
    }

    #[test]
    fn records_have_offset_time_key_value_and_headers() {
        let bytes = batch(40, 9, Attributes::NONE, 2, &body(&[(0, 5, Some("a")), (7, -3, None)]));
        let batch = one(&bytes);
        assert_eq!((batch.base, batch.last, batch.compression()), (40, 49, 0));
        let (mut records, mut seen) = (batch.records(batch.body), vec![]);
        while let Some(record) = records.read().unwrap() {
            assert_eq!(record.key, Some(b"\0\0\0\0key".as_slice()));
            let mut headers = vec![];
            record.headers.each(&mut |name, value| headers.push((name.to_owned(), value.map(<[u8]>::to_vec))));
            assert_eq!(headers, [("name".to_owned(), None)]);
            seen.push((record.offset, record.arrival, record.value.map(<[u8]>::to_vec)));
        }
        let at = |at: i64| Some(Arrival { at, is_fact: false });
        assert_eq!(seen, [(40, at(1_005_000), Some(b"a".to_vec())), (47, at(997_000), None)]);
    }

    #[test]
    fn a_broker_that_stamps_records_gives_all_of_a_batch_one_time() {
        let bytes = batch(0, 1, Attributes::APPEND_TIME, 2, &body(&[(0, 5, Some("a")), (1, 6, Some("b"))]));
        let batch = one(&bytes);
        let (mut records, mut arrivals) = (batch.records(batch.body), vec![]);
        while let Some(record) = records.read().unwrap() {
            arrivals.push(record.arrival);
        }
        assert_eq!(arrivals, [Some(Arrival { at: 9_000_000, is_fact: true }); 2]);
    }

    #[test]
    fn a_batch_is_whole_or_cut_or_broken() {
        let bytes = batch(3, 1, Attributes::NONE, 2, &body(&[(0, 0, Some("a")), (1, 0, Some("b"))]));
        for length in 0..bytes.len() {
            assert!(Batch::first(&bytes[..length], true).unwrap().is_none(), "{length}");
        }
        // The checksum does not cover offset, length, epoch and format.
        for at in BEFORE_CHECKED - 4..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x10;
            let error = Batch::first(&wrong, true).expect_err("a checksum");
            assert!(error.to_string().contains("offset 3"), "{at}: {error}");
        }
        for (at, value, why) in [(16, 1, "a format before Kafka 0.11"), (22, 5, "unknown compression")] {
            let mut other = bytes.clone();
            other[at] = value;
            let error = next_offset(&other).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        let mut two = bytes.clone();
        two.extend(batch(5, 4, Attributes::NONE, 0, &[]));
        assert_eq!(next_offset(&two).unwrap(), Some(10));
        assert_eq!(next_offset(&two[..two.len() - 1]).unwrap(), Some(5));
        assert_eq!(next_offset(&bytes[..20]).unwrap(), None);
    }

    #[test]
    fn a_batch_that_says_more_or_fewer_records_than_it_has_is_broken() {
        let two = body(&[(0, 0, Some("a")), (1, 0, Some("b"))]);
        for (count, records) in [(3, 2), (1, 1)] {
            let bytes = batch(0, 9, Attributes::NONE, count, &two);
            let batch = one(&bytes);
            assert_eq!(read_all(&batch), (records, false), "{count}");
        }
        for cut in 1..two.len() {
            let bytes = batch(0, 9, Attributes::NONE, 2, &two[..cut]);
            let batch = one(&bytes);
            assert!(!read_all(&batch).1, "{cut}");
        }
    }

    #[test]
    fn what_was_aborted_is_hidden_until_its_mark_and_other_producers_are_not() {
        let values = body(&[(0, 0, Some("a"))]);
        let mark = |kind: u8| {
            let mut mark = body(&[(0, 0, None)]);
            // After length, attributes, time, offset and length of the key (5 bytes) come version and type (2 bytes
            // each).
            mark[8] = kind;
            mark
        };
        let log = [
            (batch(0, 0, Attributes::transactional(5), 1, &values), false), // committed later
            (batch(1, 0, Attributes::transactional(7), 1, &values), true),  // aborted
            (batch(2, 0, Attributes::NONE, 1, &values), false),             // not transactional
            (batch(3, 0, Attributes::marker(5), 1, &mark(1)), true),        // commit marker of 5
            (batch(4, 0, Attributes::transactional(7), 1, &values), true),  // still aborted
            (batch(5, 0, Attributes::marker(7), 1, &mark(0)), true),        // abort marker of 7
            (batch(6, 0, Attributes::transactional(7), 1, &values), false), // its next transaction
            (batch(7, 0, Attributes::transactional(5), 1, &values), true),  // 5 is aborted now
        ];
        let mut aborted = Aborted::new(vec![
            AbortedTransaction { producer: 5, first: 7 },
            AbortedTransaction { producer: 7, first: 1 },
        ]);
        for (bytes, hidden) in &log {
            let batch = one(bytes);
            assert_eq!(aborted.hides(&batch, batch.body), *hidden, "{}", batch.base);
        }
    }
}
