//! Random requests for an HTTP server, with sizes around each of its limits, and the expected outcome of each.

use crate::harness::Draws;
use std::io::Read;

pub const RECORD_MAX: usize = 64 << 10;
pub const BODY_MAX: usize = 256 << 10;
/// The `max.message.bytes` of topics.
pub const TOPIC_MAX: usize = 48_000;
const HEAD_MAX: usize = 64 << 10;
const KEY_MAX: usize = 255;
const TRACESTATE_MAX: usize = 512;
/// Body sizes are random around these sizes, within this distance.
const AROUND: [usize; 5] = [1_500, 20_000, TOPIC_MAX, RECORD_MAX, BODY_MAX];
const SPREAD: usize = 3_000;
/// Maximum bytes of a row beyond those of its record.
const ROW_MORE: usize = 2_000;
/// Maximum difference in bytes between a CloudEvent and the event made of it.
const CLOUD_MORE: usize = 100;
/// Bytes of a head that the server does not count: versions, colons, line breaks.
const HEAD_UNCOUNTED: usize = 16;

/// The expected outcome of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ExpectedOutcome {
    Accepted,
    /// Rejected with this error type.
    Rejected(&'static str),
    /// Accepted or too large, because its size is close to a limit.
    Unsure,
}

/// One record of a request.
#[derive(Clone, Debug)]
pub struct Record {
    /// Unique; `None` if the record is not an event.
    pub source: Option<String>,
    /// Its id, if that is a UUID.
    pub id: Option<String>,
    pub outcome: ExpectedOutcome,
}

/// The content of a request, without its encoding.
#[derive(Clone, Debug)]
pub struct Content {
    kind: &'static str,
    plain: Vec<u8>,
    pub records: Vec<Record>,
}

/// An encoded request.
pub struct Request {
    head: String,
    body: Vec<u8>,
    pub content: Content,
    pub key: Option<String>,
    /// Statuses with which the server may reject the whole request.
    pub refusals: Vec<u16>,
    /// Whether the server must answer with one of them.
    pub is_refused: bool,
}

impl Request {
    fn new(content: Content, key: Option<String>) -> Self {
        let head = "POST /v1/events HTTP/1.1\r\nhost: h\r\nconnection: close\r\n".to_owned();
        let body = content.plain.clone();
        let mut request = Self { head, body, content, key, refusals: vec![], is_refused: false };
        request.add("content-type", request.content.kind);
        if request.body.len() > BODY_MAX {
            request.refuse(413);
        }
        request
    }

    pub fn wire(&self) -> Vec<u8> {
        [self.head.as_bytes(), b"\r\n", &self.body].concat()
    }

    fn add(&mut self, name: &str, value: &str) {
        self.head += &format!("{name}: {value}\r\n");
    }

    fn add_length(&mut self) {
        self.add("content-length", &self.body.len().to_string());
    }

    fn refuse(&mut self, status: u16) {
        self.refusals.push(status);
        self.is_refused = true;
    }

    /// Adds headers until the head has about this many bytes.
    fn pad(&mut self, bytes: usize) {
        let frame = "x-filler: \r\n".len();
        while let Some(missing) = bytes.checked_sub(self.head.len() + 2 + frame) {
            self.add("x-filler", &"x".repeat(missing.min(4_000)));
        }
        match self.head.len() + 2 {
            0..=HEAD_MAX => {}
            length if length <= HEAD_MAX + HEAD_UNCOUNTED => self.refusals.push(431),
            _ => self.refuse(431),
        }
    }
}

/// Makes requests.
pub struct Generator {
    pub draws: Draws,
    /// The largest row that any output accepts.
    pub row_max: Option<usize>,
    made: usize,
    keys: usize,
}

impl Generator {
    pub fn new(row_max: Option<usize>) -> Self {
        Self { draws: Draws::new(), row_max, made: 0, keys: 0 }
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.draws.below(end as u64) as usize
    }

    /// Returns true once in `times` calls, at random.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn near(&mut self, size: usize, spread: usize) -> usize {
        (size + self.below(spread)).saturating_sub(spread / 2)
    }

    /// Makes a new request.
    pub fn request(&mut self) -> Request {
        let content = self.content();
        let key = self.once_in(5).then(|| self.key());
        self.dress(content, key)
    }

    /// Makes a request of one small event.
    pub fn small(&mut self) -> Request {
        self.undrawn(10, ExpectedOutcome::Accepted)
    }

    /// Makes a request of one event that is larger than [`TOPIC_MAX`]; the server may not know this limit yet.
    pub fn oversized(&mut self) -> Request {
        self.undrawn((TOPIC_MAX + RECORD_MAX) / 2, ExpectedOutcome::Unsure)
    }

    /// Makes a request of one event with this many bytes of filler, without a random draw, because the number of these
    /// requests depends on timing.
    fn undrawn(&mut self, filler: usize, outcome: ExpectedOutcome) -> Request {
        self.made += 1;
        let (source, filler) = (format!("s{}", self.made), "x".repeat(filler));
        let plain = format!(r#"{{"source":"{source}","event_type":"t","filler":"{filler}"}}"#).into_bytes();
        let records = vec![Record { source: Some(source), id: None, outcome }];
        let mut request = Request::new(Content { kind: "application/json", plain, records }, None);
        request.add_length();
        request
    }

    /// A new key; some are too long.
    fn key(&mut self) -> String {
        self.keys += 1;
        let length = if self.once_in(4) { self.near(KEY_MAX, 6) } else { 12 };
        format!("{:0length$}", self.keys)
    }

    /// The expected outcome of an event of this many bytes; its row's record may have up to `more` bytes more or less.
    fn outcome(&self, bytes: usize, more: usize) -> ExpectedOutcome {
        let row_max = self.row_max.unwrap_or(usize::MAX);
        if bytes > RECORD_MAX.min(row_max) + more {
            ExpectedOutcome::Rejected("TooLargeError")
        } else if bytes + more <= RECORD_MAX && bytes + ROW_MORE <= row_max {
            ExpectedOutcome::Accepted
        } else {
            ExpectedOutcome::Unsure
        }
    }

    /// Text between `head` and `tail` that brings the total to this many bytes; some characters are longer when
    /// escaped.
    fn fill(&mut self, bytes: usize, head: &str, tail: &str) -> String {
        let filler = ["x", "ü", "\\\"", "\\u00e9"][self.below(4)];
        let missing = bytes.saturating_sub(head.len() + tail.len());
        format!("{head}{}{tail}", filler.repeat(missing / filler.len()))
    }

    fn event(&mut self, bytes: usize) -> (String, Record) {
        self.made += 1;
        let (source, id) = (format!("s{}", self.made), format!("00000000-0000-4000-8000-{:012}", self.made));
        let is_named = !self.once_in(6);
        let named = if is_named { format!(r#""event_id":"{id}","#) } else { String::new() };
        let head = format!(r#"{{{named}"source":"{source}","event_type":"t","filler":""#);
        let text = self.fill(bytes, &head, "\"}");
        let outcome = self.outcome(text.len(), 0);
        (text, Record { source: Some(source), id: is_named.then_some(id), outcome })
    }

    fn cloud_event(&mut self, bytes: usize) -> (String, Record) {
        self.made += 1;
        let (source, uuid) = (format!("s{}", self.made), format!("00000000-0000-4000-8000-{:012}", self.made));
        let is_named = !self.once_in(4);
        let id = if is_named { uuid } else { format!("n{}", self.made) };
        let head = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"{source}","type":"t","time":"2024-01-15T00:00:00Z","data":{{"filler":""#
        );
        let text = self.fill(bytes, &head, "\"}}");
        let outcome = self.outcome(text.len(), CLOUD_MORE);
        (text, Record { source: Some(source), id: is_named.then_some(id), outcome })
    }

    /// A record that is not an event.
    fn defect(&mut self, bytes: usize) -> (String, Record) {
        let (text, error) = match self.below(2) {
            0 => ("x".repeat(bytes.max(1)), "ParseError"),
            _ => (self.fill(bytes, r#"{"source":"s","filler":""#, "\"}"), "EnvelopeError"),
        };
        let error = if text.len() > RECORD_MAX { "TooLargeError" } else { error };
        (text, Record { source: None, id: None, outcome: ExpectedOutcome::Rejected(error) })
    }

    /// Several records, about this many bytes together.
    fn several(&mut self, most: usize, one: fn(&mut Self, usize) -> (String, Record)) -> (Vec<String>, Vec<Record>) {
        let (count, bytes) = (1 + self.below(most), AROUND[self.below(AROUND.len())]);
        let bytes = self.near(bytes, SPREAD);
        (0..count).map(|_| one(self, bytes / count)).unzip()
    }

    /// Makes the content of a request.
    pub fn content(&mut self) -> Content {
        let size = AROUND[self.below(AROUND.len())];
        let size = self.near(size, SPREAD);
        let of = |kind, plain: String, records| Content { kind, plain: plain.into_bytes(), records };
        let json = "application/json";
        match self.below(12) {
            0 => {
                let (text, record) = self.defect(size);
                of(json, text, vec![record])
            }
            1..4 => {
                let any = |own: &mut Self, bytes| if own.once_in(8) { own.defect(bytes) } else { own.event(bytes) };
                let (lines, records) = self.several(12, any);
                of("application/x-ndjson", lines.join("\n"), records)
            }
            4..6 => {
                let (small, large) = (self.event(300), self.event(size));
                of(json, format!("{{\"events\":[{},{}]}}", small.0, large.0), vec![small.1, large.1])
            }
            6 => {
                let (text, record) = self.cloud_event(size);
                of("application/cloudevents+json", text, vec![record])
            }
            7 => {
                let (events, records) = self.several(8, Self::cloud_event);
                of("application/cloudevents-batch+json", format!("[{}]", events.join(",")), records)
            }
            _ => {
                let (text, record) = self.event(size);
                of(json, text, vec![record])
            }
        }
    }

    /// Encodes a content in a random form.
    pub fn dress(&mut self, content: Content, key: Option<String>) -> Request {
        let mut request = Request::new(content, key);
        if let Some(key) = request.key.clone() {
            request.add("idempotency-key", &key);
            if key.len() > KEY_MAX {
                request.refuse(400);
            }
        }
        if self.once_in(6) {
            request.add("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
            let state = self.near(TRACESTATE_MAX - 2, 20);
            request.add("tracestate", &format!("a={}", "x".repeat(state)));
        }
        if self.once_in(3) {
            self.pack(&mut request);
        }
        self.frame(&mut request);
        if self.once_in(10) {
            let bytes = self.near(HEAD_MAX, SPREAD);
            request.pad(bytes);
        }
        request
    }

    /// Compresses a body; sometimes truncates it.
    fn pack(&mut self, request: &mut Request) {
        let gzip = |bytes: &[u8]| {
            let mut packed = vec![];
            let mut encoder = flate2::bufread::GzEncoder::new(bytes, flate2::Compression::fast());
            encoder.read_to_end(&mut packed).expect("it packs");
            packed
        };
        let (first, second) = request.body.split_at(request.body.len() / 2);
        let (name, mut packed) = match self.below(3) {
            0 => ("gzip", gzip(&request.body)),
            1 => ("gzip", [gzip(first), gzip(second)].concat()),
            _ => ("zstd", zstd::encode_all(&request.body[..], 1).expect("it packs")),
        };
        if self.once_in(10) {
            packed.truncate(packed.len() - 5);
            request.refuse(400);
        }
        request.body = packed;
        request.add("content-encoding", name);
    }

    /// Adds the content length, or sends the body in chunks.
    fn frame(&mut self, request: &mut Request) {
        if !self.once_in(6) {
            return request.add_length();
        }
        let size = 1 + self.below(20_000);
        let chunk = |chunk: &[u8]| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        let chunks: Vec<Vec<u8>> = request.body.chunks(size).map(chunk).collect();
        request.body = [&chunks.concat()[..], b"0\r\n\r\n"].concat();
        request.add("transfer-encoding", "chunked");
    }
}
