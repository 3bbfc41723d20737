//! Requests to brokers and their answers as bytes: ApiVersions 0 and Fetch 11.
//!
//! Source: the protocol guide of Apache Kafka (kafka.apache.org/protocol). Brokers from 2.3 on support Fetch 11.

use crate::error::{Error, Result};
use std::ops::Range;

/// Bytes of the length field before every request and answer.
pub const LENGTH: usize = 4;

/// Key and version of the requests.
const API_VERSIONS: (i16, i16) = (18, 0);
const FETCH: (i16, i16) = (1, 11);
/// Isolation level: records of open and aborted transactions must not be read.
const READ_COMMITTED: u8 = 1;

/// Makes the error of an answer that is too short or holds invalid values.
#[cold]
fn malformed() -> Error {
    Error::corrupt("invalid response of a broker")
}

/// A reader of bytes; its methods return `None` if too few bytes are left.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    /// Reads the next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// Reads one byte.
    pub fn i8(&mut self) -> Option<i8> {
        self.array().map(i8::from_be_bytes)
    }

    /// Reads two bytes, big-endian like all numbers here.
    pub fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    /// Reads four bytes.
    pub fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// Reads four bytes without a sign.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Reads eight bytes.
    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// Reads a zigzag number of variable length.
    #[inline]
    pub fn varint(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        None
    }

    /// Reads bytes after their length of variable length; the inner `None` stands for a negative length, which is null.
    #[inline]
    pub fn bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint()? {
            length @ 0.. => self.take(usize::try_from(length).ok()?).map(Some),
            _ => Some(None),
        }
    }

    /// Reads a string after its length of two bytes.
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.i16()?;
        self.take(usize::try_from(length).ok()?)
    }

    /// Reads the length of an array; 0 if the array is null.
    fn count(&mut self) -> Option<usize> {
        Some(usize::try_from(self.i32()?).unwrap_or(0))
    }
}

/// Encodes the request for the supported versions.
pub fn ask_versions(correlation: i32, client: &str) -> Vec<u8> {
    closed(opened(API_VERSIONS, correlation, client))
}

/// The limits of a fetch.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Maximum milliseconds until an answer, if there are no records.
    pub wait: i32,
    /// Maximum bytes of records of all partitions; a first batch that is longer comes whole.
    pub bytes: i32,
    /// The same for one partition.
    pub partition_bytes: i32,
}

/// Encodes a fetch: per topic some partitions, each with its offset.
pub fn ask_records(
    (correlation, client): (i32, &str),
    limits: FetchLimits,
    wanted: &[(&str, Vec<(i32, i64)>)],
) -> Vec<u8> {
    let mut request = opened(FETCH, correlation, client);
    let length = |count: usize| i32::try_from(count).unwrap_or(i32::MAX).to_be_bytes();
    let (replica, at_least, session, epoch) = (-1_i32, 1_i32, 0_i32, -1_i32);
    for number in [replica, limits.wait, at_least, limits.bytes] {
        request.extend(number.to_be_bytes());
    }
    request.push(READ_COMMITTED);
    request.extend(session.to_be_bytes());
    request.extend(epoch.to_be_bytes());
    request.extend(length(wanted.len()));
    for (topic, partitions) in wanted {
        put_text(&mut request, topic);
        request.extend(length(partitions.len()));
        for (number, offset) in partitions {
            let (any_epoch, log_start) = (-1_i32, -1_i64);
            request.extend(number.to_be_bytes());
            request.extend(any_epoch.to_be_bytes());
            request.extend(offset.to_be_bytes());
            request.extend(log_start.to_be_bytes());
            request.extend(limits.partition_bytes.to_be_bytes());
        }
    }
    let forgotten = 0;
    request.extend(length(forgotten));
    put_text(&mut request, ""); // in no rack
    closed(request)
}

fn opened((key, version): (i16, i16), correlation: i32, client: &str) -> Vec<u8> {
    let mut request = vec![0; LENGTH];
    request.extend(key.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(correlation.to_be_bytes());
    put_text(&mut request, client);
    request
}

fn closed(mut request: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(request.len() - LENGTH).unwrap_or(u32::MAX);
    request[..LENGTH].copy_from_slice(&length.to_be_bytes());
    request
}

/// Appends a string. Topic names and client ids are short; a longer one is truncated.
fn put_text(request: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).unwrap_or(i16::MAX);
    request.extend(length.to_be_bytes());
    request.extend(&text.as_bytes()[..length.unsigned_abs().into()]);
}

/// Whether a broker with this answer supports the fetch request.
pub fn understands(answer: &[u8]) -> Result<bool> {
    let mut cursor = Cursor(answer);
    let mut understands = || {
        let (code, count) = (cursor.i16()?, cursor.count()?);
        let mut found = false;
        for _ in 0..count {
            let (key, from, to) = (cursor.i16()?, cursor.i16()?, cursor.i16()?);
            found |= key == FETCH.0 && (from..=to).contains(&FETCH.1);
        }
        Some(code == 0 && found)
    };
    understands().ok_or_else(malformed)
}

/// One partition in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched<'a> {
    /// The topic.
    pub topic: &'a [u8],
    /// The partition's number.
    pub number: i32,
    /// The error code; 0 is none.
    pub code: i16,
    /// The offset after the last one that may be read.
    pub high: i64,
    /// Producers whose transactions were aborted, and the first offset of each such transaction.
    pub aborted: Vec<(i64, i64)>,
    /// The range of its records in the answer.
    pub records: Range<usize>,
}

/// Parses a fetch answer into its partitions; the inner error is the error code of the whole answer. Errors: exit status 65 if
/// it is malformed.
pub fn fetched(answer: &[u8]) -> Result<Result<Vec<Fetched<'_>>, i16>> {
    let mut cursor = Cursor(answer);
    let mut head = || {
        let (_throttle, code, _session) = (cursor.i32()?, cursor.i16()?, cursor.i32()?);
        Some((code, cursor.count()?))
    };
    let (code, topics) = head().ok_or_else(malformed)?;
    if code != 0 {
        return Ok(Err(code));
    }
    let mut all = vec![];
    for _ in 0..topics {
        let (topic, count) = cursor.text().zip(cursor.count()).ok_or_else(malformed)?;
        for _ in 0..count {
            all.push(partition(&mut cursor, (answer, topic)).ok_or_else(malformed)?);
        }
    }
    Ok(Ok(all))
}

fn partition<'a>(cursor: &mut Cursor<'a>, (answer, topic): (&[u8], &'a [u8])) -> Option<Fetched<'a>> {
    let (number, code) = (cursor.i32()?, cursor.i16()?);
    let (high, stable, _start) = (cursor.i64()?, cursor.i64()?, cursor.i64()?);
    let mut aborted = vec![];
    for _ in 0..cursor.count()? {
        aborted.push((cursor.i64()?, cursor.i64()?));
    }
    let (_replica, length) = (cursor.i32()?, cursor.count()?);
    let start = answer.len() - cursor.0.len();
    cursor.take(length)?;
    // Records after the last stable offset belong to open transactions.
    let high = if stable < 0 { high } else { stable };
    Some(Fetched { topic, number, code, high, aborted, records: start..start + length })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let mut cursor = Cursor(bytes);
            assert_eq!((cursor.varint(), cursor.0.len()), (Some(value), 0), "{bytes:x?}");
            assert_eq!(Cursor(&bytes[..bytes.len() - 1]).varint(), None, "{bytes:x?} cut");
        }
        assert_eq!(Cursor(&[0x80; 11]).varint(), None);
    }

    #[test]
    fn a_request_has_the_bytes_of_the_protocol_guide() {
        let limits = FetchLimits { wait: 500, bytes: 4096, partition_bytes: 1024 };
        let request = ask_records((7, "c"), limits, &[("tt", vec![(3, 9)])]);
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
            "00001000",
            "01", // consumer, 500 ms, a byte, 4096, committed
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
            "00000400",
            "00000000",
            "0000",
        ];
        assert_eq!(hex, fields.concat());
        let versions: String = ask_versions(1, "c").iter().map(|byte| format!("{byte:02x}")).collect();
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
        assert!(understands(&answer(&[[0, 3, 12], [1, 4, 17]], 0)).unwrap());
        for (ranges, code) in [(&[[1, 12, 17]][..], 0), (&[[1, 0, 10]], 0), (&[[2, 0, 12]], 0), (&[[1, 4, 17]], 35)] {
            assert!(!understands(&answer(ranges, code)).unwrap(), "{ranges:?} {code}");
        }
        assert!(understands(&answer(&[[1, 4, 17]], 0)[..9]).is_err());
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
        let all = fetched(&answer).unwrap().unwrap();
        let [one] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((one.topic, one.number, one.code, one.high), (b"t".as_slice(), 2, 0, 8));
        assert_eq!(
            (one.aborted.as_slice(), &answer[one.records.clone()]),
            ([(77, 5)].as_slice(), [1, 2, 3].as_slice())
        );
        assert!((0..answer.len()).all(|length| fetched(&answer[..length]).is_err()));
        assert_eq!(fetched(&[0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap(), Err(6));
    }
}
