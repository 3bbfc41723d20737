//! Requests to brokers and their answers as bytes: ApiVersions 0, Fetch 11 and Fetch 13.
//!
//! Source: the protocol guide of Apache Kafka (kafka.apache.org/protocol). Brokers from 2.3 on support Fetch 11, which
//! names topics, and brokers from 3.1 on Fetch 13, which has their ids. Fetch 13 is a flexible version: counts and
//! lengths have a variable length and are one greater, because 0 is null, and each structure ends with tagged fields.

use super::batch::{self, Aborted, AbortedTransaction};
use crate::position::PartitionId;
use evt_core::error::{Error, Result};
use evt_core::parse::bytes::Cursor;
use evt_run::input::topic_id::TopicId;
use std::ops::Range;

/// Bytes of the length field before every request and answer.
pub const LENGTH: usize = 4;

/// The key and the version of a request that evt sends.
#[derive(Clone, Copy)]
struct Api {
    key: i16,
    version: i16,
}

const API_VERSIONS: Api = Api { key: 18, version: 0 };
const FETCH: Api = Api { key: 1, version: 11 };
const FETCH_BY_ID: Api = Api { key: 1, version: 13 };
/// The tagged fields of a structure that has none.
const NO_TAGS: u8 = 0;
/// Isolation level: records of open and aborted transactions must not be read.
const READ_COMMITTED: u8 = 1;
/// Maximum milliseconds until an answer, if there are no records.
const MAX_WAIT_MS: i32 = 500;
/// Maximum bytes of records of all partitions; a broker sends a longer first batch whole. If the end of an answer
/// truncates a batch, the fetcher requests that batch again, so large answers waste less.
const MAX_BYTES: i32 = 4 << 20;
/// Maximum bytes of records of one partition, with the same exception.
const PARTITION_MAX_BYTES: i32 = 2 << 20;

/// Makes the error of an answer that is too short or holds invalid values.
#[cold]
fn malformed() -> Error {
    Error::corrupt("invalid response of a broker")
}

/// The fields of an answer.
struct Fields<'a> {
    cursor: Cursor<'a>,
    /// Whether the answer has a flexible version.
    is_flexible: bool,
}

impl<'a> Fields<'a> {
    /// Reads a string after its length of two bytes; `None` if too few bytes are left.
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.cursor.be::<i16>()?;
        self.cursor.take(usize::try_from(length).ok()?)
    }

    /// Reads the length of an array; 0 if the array is null.
    fn count(&mut self) -> Option<usize> {
        match self.is_flexible {
            true => usize::try_from(self.cursor.varint()?.saturating_sub(1)).ok(),
            false => Some(usize::try_from(self.cursor.be::<i32>()?).unwrap_or(0)),
        }
    }

    /// Skips the tagged fields at the end of a structure, which only flexible versions have.
    fn skip_tags(&mut self) -> Option<()> {
        let count = if self.is_flexible { self.cursor.varint()? } else { 0 };
        for _ in 0..count {
            let _tag = self.cursor.varint()?;
            let size = usize::try_from(self.cursor.varint()?).ok()?;
            self.cursor.take(size)?;
        }
        Some(())
    }

    /// Reads the head of a fetch answer: its error code and the number of its topics.
    fn head(&mut self) -> Option<(i16, usize)> {
        self.skip_tags()?;
        let (_throttle, code, _session) =
            (self.cursor.be::<i32>()?, self.cursor.be::<i16>()?, self.cursor.be::<i32>()?);
        Some((code, self.count()?))
    }

    /// Reads a partition of a topic from an answer of `size` bytes.
    fn partition(&mut self, topic: usize, size: usize) -> Option<FetchedRecords> {
        let (number, code) = (self.cursor.be::<i32>()?, self.cursor.be::<i16>()?);
        let (high, stable, _start) = (self.cursor.be::<i64>()?, self.cursor.be::<i64>()?, self.cursor.be::<i64>()?);
        let mut aborted = vec![];
        for _ in 0..self.count()? {
            aborted.push(AbortedTransaction { producer: self.cursor.be()?, first: self.cursor.be()? });
            self.skip_tags()?;
        }
        let (_replica, length) = (self.cursor.be::<i32>()?, self.count()?);
        let start = size - self.cursor.rest().len();
        self.cursor.take(length)?;
        self.skip_tags()?;
        // Records after the last stable offset belong to open transactions.
        let high = if stable < 0 { high } else { stable };
        let (id, aborted, range) = (PartitionId { topic, number }, Aborted::new(aborted), start..start + length);
        Some(FetchedRecords { id, code, high, aborted, range, next: None })
    }
}

/// Encodes the request for the supported versions.
pub fn versions_request(correlation: i32, client: &str) -> Vec<u8> {
    request(API_VERSIONS, correlation, client, &[])
}

/// The partitions of one topic in a request, each with its offset.
pub struct WantedTopic<'a> {
    /// The name of the topic.
    pub name: &'a str,
    /// Its id, if it is known.
    pub id: Option<TopicId>,
    /// The partitions.
    pub partitions: Vec<(i32, i64)>,
}

/// Encodes a fetch by the names of the topics, or by their ids, which all of them have then.
pub fn fetch_request(is_by_id: bool, correlation: i32, client: &str, wanted: &[WantedTopic<'_>]) -> Vec<u8> {
    let tags: &[u8] = if is_by_id { &[NO_TAGS] } else { &[] };
    let mut body = tags.to_vec();
    let (replica, min_bytes, session, epoch) = (-1, 1, 0, -1);
    put(&mut body, &[replica, MAX_WAIT_MS, min_bytes, MAX_BYTES]);
    body.push(READ_COMMITTED);
    put(&mut body, &[session, epoch]);
    put_count(&mut body, is_by_id, wanted.len());
    for topic in wanted {
        match is_by_id {
            true => body.extend(topic.id.map_or([0; 16], |id| *id.as_ref())),
            false => put_text(&mut body, topic.name),
        }
        put_count(&mut body, is_by_id, topic.partitions.len());
        for (number, offset) in &topic.partitions {
            let (any_epoch, log_start) = (-1, -1_i64);
            put(&mut body, &[*number, any_epoch]);
            body.extend(offset.to_be_bytes());
            if is_by_id {
                put(&mut body, &[any_epoch]);
            }
            body.extend(log_start.to_be_bytes());
            put(&mut body, &[PARTITION_MAX_BYTES]);
            body.extend(tags);
        }
        body.extend(tags);
    }
    let (forgotten, rack) = (0, "");
    put_count(&mut body, is_by_id, forgotten);
    match is_by_id {
        true => put_count(&mut body, is_by_id, rack.len()),
        false => put_text(&mut body, rack),
    }
    body.extend(tags);
    request(if is_by_id { FETCH_BY_ID } else { FETCH }, correlation, client, &body)
}

/// Appends the length of an array.
fn put_count(request: &mut Vec<u8>, is_flexible: bool, count: usize) {
    if !is_flexible {
        return put(request, &[i32::try_from(count).unwrap_or(i32::MAX)]);
    }
    let mut rest = count as u64 + 1;
    while rest >= 0x80 {
        request.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    request.push(rest as u8);
}

/// Puts the length and the header before the body of a request.
fn request(api: Api, correlation: i32, client: &str, body: &[u8]) -> Vec<u8> {
    let mut header = [api.key.to_be_bytes(), api.version.to_be_bytes()].concat();
    put(&mut header, &[correlation]);
    put_text(&mut header, client);
    let length = u32::try_from(header.len() + body.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), header.as_slice(), body].concat()
}

fn put(request: &mut Vec<u8>, numbers: &[i32]) {
    numbers.iter().for_each(|number| request.extend(number.to_be_bytes()));
}

/// Appends a string. Topic names and client ids are short; a longer one is truncated.
fn put_text(request: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).unwrap_or(i16::MAX);
    request.extend(length.to_be_bytes());
    request.extend(&text.as_bytes()[..length.unsigned_abs().into()]);
}

/// The fetch requests that a broker supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Supported {
    /// Whether it supports those by name.
    pub by_name: bool,
    /// Whether it supports those by id.
    pub by_id: bool,
}

/// Returns the fetch requests that a broker with this answer supports.
pub fn supported(answer: &[u8]) -> Result<Supported> {
    let mut cursor = Cursor::new(answer);
    let mut supported = || {
        let (code, count) = (cursor.be::<i16>()?, cursor.be::<i32>()?);
        let mut found = Supported::default();
        for _ in 0..count {
            let (key, from, to) = (cursor.be::<i16>()?, cursor.be::<i16>()?, cursor.be::<i16>()?);
            let has = |api: Api| code == 0 && key == api.key && (from..=to).contains(&api.version);
            found.by_name |= has(FETCH);
            found.by_id |= has(FETCH_BY_ID);
        }
        Some(found)
    };
    supported().ok_or_else(malformed)
}

/// The records of one partition in an answer.
#[derive(Clone, Debug)]
pub struct FetchedRecords {
    /// The partition.
    pub id: PartitionId,
    /// The error code; 0 is none.
    pub code: i16,
    /// The offset after the last one that may be read.
    pub high: i64,
    /// The aborted transactions among the records.
    pub aborted: Aborted,
    /// The range of the records in the answer. Its start advances while they are read.
    pub range: Range<usize>,
    /// The offset after the records; `None` if there is no whole batch.
    pub next: Option<i64>,
}

/// Makes the error of an answer with an error code that is not transient.
#[cold]
pub fn refused(code: i16) -> Error {
    Error::corrupt(format!("a broker responds with error {code}"))
}

/// The topics that are read, as the request has them.
pub enum RequestedTopics<'a> {
    /// Their names.
    ByName(&'a [String]),
    /// The id and the number of each.
    ById(Vec<(TopicId, usize)>),
}

/// Parses a fetch answer into the records of its partitions, of these topics. Topics whose id is not among them are
/// left out: their id has changed since the request. Errors: exit status 65 if the answer is malformed or an error
/// code, or if its records are in a form that is not supported.
pub fn fetched(answer: &[u8], topics: &RequestedTopics<'_>) -> Result<Vec<FetchedRecords>> {
    let is_flexible = matches!(topics, RequestedTopics::ById(_));
    let mut fields = Fields { cursor: Cursor::new(answer), is_flexible };
    let (code, topic_count) = fields.head().ok_or_else(malformed)?;
    if code != 0 {
        return Err(refused(code));
    }
    let mut all = vec![];
    for _ in 0..topic_count {
        let topic = match topics {
            RequestedTopics::ByName(names) => {
                let name = fields.text().ok_or_else(malformed)?;
                Some(names.iter().position(|known| known.as_bytes() == name).ok_or_else(malformed)?)
            }
            RequestedTopics::ById(ids) => {
                let id: [u8; 16] = fields.cursor.array().ok_or_else(malformed)?;
                ids.iter().find(|(known, _)| *known.as_ref() == id).map(|(_, topic)| *topic)
            }
        };
        for _ in 0..fields.count().ok_or_else(malformed)? {
            let fetched = fields.partition(topic.unwrap_or(0), answer.len()).ok_or_else(malformed)?;
            if topic.is_some() {
                let next = batch::next_offset(&answer[fetched.range.clone()])?;
                all.push(FetchedRecords { next, ..fetched });
            }
        }
        fields.skip_tags().ok_or_else(malformed)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sVv-a5OcT9-0w_YkfEzn3g";

    #[test]
    fn a_request_by_id_has_the_bytes_of_the_protocol_guide() {
        let id = TopicId::parse(ID);
        let wanted = |id| [WantedTopic { name: "tt", id, partitions: vec![(3, 9)] }];
        let request = fetch_request(true, 7, "c", &wanted(id));
        let hex: String = request.iter().map(|byte| format!("{byte:02x}")).collect();
        let id: String = id.unwrap().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let fields = [
            "0000005c",
            "0001",
            "000d",
            "00000007",
            "0001",
            "63",
            "00", // length, Fetch 13, 7, "c", no tagged fields
            "ffffffff",
            "000001f4",
            "00000001",
            "00400000",
            "01", // consumer, 500 ms, a byte, 4 MiB, committed
            "00000000",
            "ffffffff",
            "02",
            id.as_str(), // no session, one topic
            "02",
            "00000003",
            "ffffffff",
            "0000000000000009",
            "ffffffff", // one partition 3 from 9, of any epoch
            "ffffffffffffffff",
            "00200000",
            "00",
            "00", // 2 MiB, no tagged fields
            "01",
            "01",
            "00", // no forgotten topics, no rack
        ];
        assert_eq!(hex, fields.concat());
    }

    #[test]
    fn an_answer_by_id_that_is_cut_anywhere_is_none() {
        let id = TopicId::parse(ID).unwrap();
        let topics = RequestedTopics::ById(vec![(id, 1)]);
        let mut answer = [0; 11].to_vec();
        answer.push(2);
        answer.extend(id.as_ref());
        answer.push(2);
        answer.extend([0, 0, 0, 2, 0, 0]); // partition 2, no error
        [9_i64, 8, 0].iter().for_each(|number| answer.extend(number.to_be_bytes()));
        answer.push(2);
        [77_i64, 5].iter().for_each(|number| answer.extend(number.to_be_bytes()));
        answer.push(0);
        answer.extend([0xff; 4]);
        answer.extend([4, 1, 2, 3]);
        answer.extend([1, 0, 2, 7, 7, 0, 0]); // a tagged field of two bytes, the ends of topic and answer
        let all = fetched(&answer, &topics).unwrap();
        let [one] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((one.id, one.code, one.high), (PartitionId { topic: 1, number: 2 }, 0, 8));
        assert_eq!((one.next, &answer[one.range.clone()]), (None, [1, 2, 3].as_slice()));
        assert!((0..answer.len() - 1).all(|length| fetched(&answer[..length], &topics).is_err()));
        assert!(fetched(&answer, &RequestedTopics::ById(vec![])).unwrap().is_empty(), "a topic whose id has changed");
        let error = fetched(&[0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 1, 0], &topics).unwrap_err();
        assert_eq!(error.to_string(), "a broker responds with error 6");
    }

    #[test]
    fn a_request_has_the_bytes_of_the_protocol_guide() {
        let request = fetch_request(false, 7, "c", &[WantedTopic { name: "tt", id: None, partitions: vec![(3, 9)] }]);
        let hex: String = request.iter().map(|byte| format!("{byte:02x}")).collect();
        let fields = [
            "00000052",
            "0001",
            "000b",
            "00000007",
            "0001",
            "63", // length, Fetch 11, 7, "c"
            "ffffffff",
            "000001f4",
            "00000001",
            "00400000",
            "01", // consumer, 500 ms, a byte, 4 MiB, committed
            "00000000",
            "ffffffff",
            "00000001",
            "0002",
            "7474", // no session, one topic "tt"
            "00000001",
            "00000003",
            "ffffffff",
            "0000000000000009", // one partition 3 from 9
            "ffffffffffffffff",
            "00200000",
            "00000000",
            "0000",
        ];
        assert_eq!(hex, fields.concat());
        let versions: String = versions_request(1, "c").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(versions, "0000000b00120000000000010001".to_owned() + "63");
    }

    #[test]
    fn a_broker_says_what_it_understands() {
        let answer = |ranges: &[[i16; 3]], code: i16| {
            let mut answer = code.to_be_bytes().to_vec();
            answer.extend(i32::try_from(ranges.len()).unwrap().to_be_bytes());
            ranges.iter().flatten().for_each(|number| answer.extend(number.to_be_bytes()));
            answer
        };
        for (ranges, code, by_name, by_id) in [
            (&[[0, 3, 12], [1, 4, 17]][..], 0, true, true),
            (&[[1, 4, 12]], 0, true, false),
            (&[[1, 12, 17]], 0, false, true),
            (&[[1, 0, 10]], 0, false, false),
            (&[[2, 0, 13]], 0, false, false),
            (&[[1, 4, 17]], 35, false, false),
        ] {
            let found = supported(&answer(ranges, code)).unwrap();
            assert_eq!(found, Supported { by_name, by_id }, "{ranges:?} {code}");
        }
        assert!(supported(&answer(&[[1, 4, 17]], 0)[..9]).is_err());
    }

    #[test]
    fn an_answer_that_is_cut_anywhere_is_none() {
        let mut answer = [0; 10].to_vec();
        answer.extend([0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1]);
        answer.extend([0, 0, 0, 2, 0, 0]); // partition 2, no error
        [9_i64, 8, 0].iter().for_each(|number| answer.extend(number.to_be_bytes()));
        answer.extend([0, 0, 0, 1]);
        [77_i64, 5].iter().for_each(|number| answer.extend(number.to_be_bytes()));
        answer.extend([0xff; 4]);
        answer.extend([0, 0, 0, 3, 1, 2, 3]);
        let names = ["s".to_owned(), "t".to_owned()];
        let topics = RequestedTopics::ByName(&names);
        let all = fetched(&answer, &topics).unwrap();
        let [one] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((one.id, one.code, one.high), (PartitionId { topic: 1, number: 2 }, 0, 8));
        assert_eq!((one.next, &answer[one.range.clone()]), (None, [1, 2, 3].as_slice()));
        assert!((0..answer.len()).all(|length| fetched(&answer[..length], &topics).is_err()));
        assert!(fetched(&answer, &RequestedTopics::ByName(&names[..1])).is_err(), "a topic that was not requested");
        let error = fetched(&[0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0], &topics).unwrap_err();
        assert_eq!(error.to_string(), "a broker responds with error 6");
    }
}
