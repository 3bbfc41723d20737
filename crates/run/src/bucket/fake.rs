//! A server of S3 in memory whose faults a test chooses.

use evt_core::parse::query::unescaped;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// When each object was written.
const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";
/// Keys in a page of a list.
const PAGE: usize = 3;

/// A fault of the server in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FakeFault {
    /// It answers with this status and does nothing.
    Status(u16),
    /// It closes the connection and does nothing.
    Drop,
    /// It does what is requested, and closes the connection.
    LoseAnswer,
    /// It does nothing, also not answer.
    Hang,
}

/// Objects and what was requested.
#[derive(Default)]
pub struct FakeState {
    /// The objects by key.
    pub objects: BTreeMap<String, Vec<u8>>,
    /// The requests: method, key and query.
    pub requests: Vec<String>,
    parts: BTreeMap<String, Vec<u8>>,
    /// The length of the object of the last answer.
    length: usize,
}

type Fault = dyn Fn(&str, usize) -> Option<FakeFault> + Send + Sync;

/// A server with one bucket.
pub struct FakeS3 {
    port: u16,
    state: Arc<Mutex<FakeState>>,
}

impl FakeS3 {
    /// Starts a server; `fault` decides by the request and the number of equal requests before it.
    pub fn new(fault: impl Fn(&str, usize) -> Option<FakeFault> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<FakeState>> = Arc::default();
        let (shared, fault): (_, Arc<Fault>) = (state.clone(), Arc::new(fault));
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, fault) = (shared.clone(), fault.clone());
                std::thread::spawn(move || _ = serve(&stream, &state, &*fault));
            }
        });
        Self { port, state }
    }

    /// Returns the URI of the same prefix for the client of Google Cloud Storage, with a file of credentials.
    pub fn google_uri(&self, credentials: &std::path::Path, options: &str) -> String {
        let account = "{\"private_key\":\"\",\"private_key_id\":\"\",\"client_email\":\"\",\"disable_oauth\":true}";
        std::fs::write(credentials, account).unwrap();
        let credentials = credentials.display();
        format!("gs://bucket/a?endpoint=http://127.0.0.1:{}&credentials={credentials}{options}", self.port)
    }

    /// Returns the URI of a prefix.
    pub fn uri(&self, options: &str) -> String {
        format!("s3://bucket/a?endpoint=http://127.0.0.1:{}&access_key=id&secret_key={{env:PATH}}{options}", self.port)
    }

    /// Returns the objects and requests, locked.
    pub fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(stream: &TcpStream, state: &Mutex<FakeState>, fault: &Fault) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length, mut is_new, mut range) = (String::new(), 0, false, None);
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let target = target.strip_prefix("/bucket").unwrap_or(target);
    let (path, query) =
        target.split_once('?').map_or((target, String::new()), |(path, query)| (path, format!("?{query}")));
    // The client of Google encodes all but letters and digits.
    let request = format!("{method} {}{query}", unescaped(path).unwrap());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "if-none-match" | "x-goog-if-generation-match" => is_new = true,
            "range" => range = Some(value.to_owned()),
            "transfer-encoding" => panic!("servers of S3 need the length"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let first = range.as_deref().and_then(|range: &str| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
    let first: Option<usize> = first;
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let before = state.requests.iter().filter(|other| **other == request).count();
    state.requests.push(request.clone());
    let fault = fault(&request, before);
    let (status, body) = match fault {
        Some(FakeFault::Drop) => return Ok(()),
        Some(FakeFault::Status(status)) => (status, b"<Error><Code>InternalError</Code></Error>".to_vec()),
        Some(FakeFault::Hang) => {
            drop(state);
            return reader.read(&mut [0]).map(drop);
        }
        Some(FakeFault::LoseAnswer) | None => state.answer(&request, is_new, range, body),
    };
    if fault == Some(FakeFault::LoseAnswer) {
        return Ok(());
    }
    let (length, all) = (body.len(), state.length);
    let part = first.filter(|_| status == 206);
    let part = part.map(|first| format!("content-range: bytes {first}-{}/{all}\r\n", first + length - 1));
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\netag: \"e\"\r\nlast-modified: {DATE}\r\ncontent-length: {length}\r\n{}\r\n",
        part.unwrap_or_default()
    );
    let body = if method == "HEAD" { vec![] } else { body };
    let mut stream = stream;
    stream.write_all(&[head.as_bytes(), &body].concat())
}

/// Returns the part of an object that a header requests.
fn part_of(object: &[u8], range: Option<String>) -> (u16, Vec<u8>) {
    let Some(range) = range else { return (200, object.to_vec()) };
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    match object.get(first..object.len().min(last + 1)) {
        Some(part) if !part.is_empty() => (206, part.to_vec()),
        _ => (416, b"<Error><Code>InvalidRange</Code></Error>".to_vec()),
    }
}

impl FakeState {
    fn answer(&mut self, request: &str, is_new: bool, range: Option<String>, body: Vec<u8>) -> (u16, Vec<u8>) {
        let (method, target) = request.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let key = path.trim_start_matches('/').to_owned();
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        match (method, query) {
            ("POST", "uploads=") => (200, b"<R><UploadId>u</UploadId></R>".to_vec()),
            // The upload has ended.
            ("POST", _) if self.parts.is_empty() => (404, b"<Error><Code>NoSuchUpload</Code></Error>".to_vec()),
            ("POST", _) => {
                let whole = std::mem::take(&mut self.parts).into_values().flatten().collect();
                self.objects.insert(key, whole);
                (200, b"<R><ETag>e</ETag></R>".to_vec())
            }
            ("PUT", "") if is_new && self.objects.contains_key(&key) => (412, vec![]),
            ("PUT", "") => {
                self.objects.insert(key, body);
                (200, vec![])
            }
            ("PUT", _) => {
                self.parts.insert(format!("{:0>5}", value("partNumber").unwrap()), body);
                (200, vec![])
            }
            ("DELETE", _) => {
                self.objects.remove(&key);
                (204, vec![])
            }
            (_, "") => {
                let Some(found) = self.objects.get(&key) else { return (404, vec![]) };
                self.length = found.len();
                part_of(found, range)
            }
            _ => {
                let start = value("prefix").unwrap_or_default().replace("%2F", "/");
                let after = value("continuation-token").unwrap_or_default().replace("%2F", "/");
                let all = self.objects.keys().filter(|key| key.starts_with(&start) && **key > after);
                let keys: Vec<&String> = all.take(PAGE).collect();
                let entry = |key: &&String| {
                    let (size, at) = (self.objects[*key].len(), "2026-01-01T00:00:00.000Z");
                    format!("<Contents><Key>{key}</Key><LastModified>{at}</LastModified><Size>{size}</Size></Contents>")
                };
                let mut xml: String = keys.iter().map(entry).collect();
                if keys.len() == PAGE {
                    xml += &format!("<NextContinuationToken>{}</NextContinuationToken>", keys[PAGE - 1]);
                }
                (200, format!("<ListBucketResult>{xml}</ListBucketResult>").into_bytes())
            }
        }
    }
}
