//! The client against a server in memory whose faults a test chooses.

use super::address::S3Address;
use super::bucket::{S3Bucket, Upload};
use crate::client::Caller;
use crate::storage::{Objects, download};
use evt_core::ErrorKind;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    let request = format!("{method} {}", target.strip_prefix("/bucket").unwrap_or(target));
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "if-none-match" => is_new = true,
            "range" => range = Some(value.to_owned()),
            "transfer-encoding" => panic!("servers of S3 need the length"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
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
    let head =
        format!("HTTP/1.1 {status} X\r\nconnection: close\r\netag: \"e\"\r\ncontent-length: {}\r\n\r\n", body.len());
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
                (200, b"<R/>".to_vec())
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
            (_, "") => self.objects.get(&key).map_or((404, vec![]), |found| part_of(found, range)),
            _ => {
                let start = value("prefix").unwrap().replace("%2F", "/");
                let after = value("continuation-token").unwrap_or_default().replace("%2F", "/");
                let all = self.objects.keys().filter(|key| key.starts_with(&start) && **key > after);
                let keys: Vec<&String> = all.take(PAGE).collect();
                let mut xml: String = keys.iter().map(|key| format!("<Contents><Key>{key}</Key></Contents>")).collect();
                if keys.len() == PAGE {
                    xml += &format!("<NextContinuationToken>{}</NextContinuationToken>", keys[PAGE - 1]);
                }
                (200, format!("<ListBucketResult>{xml}</ListBucketResult>").into_bytes())
            }
        }
    }
}

fn bucket(server: &FakeS3, options: &str) -> S3Bucket {
    let address = S3Address::parse(&server.uri(options), &Caller::default()).unwrap();
    S3Bucket::try_new(address).unwrap()
}

#[test]
fn objects_are_written_read_listed_and_removed() {
    let server = FakeS3::new(|_, _| None);
    let bucket = bucket(&server, "");
    let keys: Vec<String> = (0..20).map(|number| format!("log/{number}")).collect();
    for key in &keys {
        bucket.put(key, key.as_bytes()).unwrap();
    }
    bucket.put("other", b"").unwrap();
    assert_eq!(bucket.list("log/").unwrap().len(), 20);
    assert_eq!(bucket.list("").unwrap().len(), 21);
    let found = bucket.get_all(&[keys.clone(), vec!["none".to_owned()]].concat()).unwrap();
    let expected = keys.iter().map(|key| Some(key.clone().into_bytes())).chain([None]);
    assert_eq!(found, expected.collect::<Vec<_>>());
    bucket.delete(&keys).unwrap();
    assert_eq!(bucket.list("").unwrap(), ["other"]);
    assert_eq!(server.state().objects.keys().collect::<Vec<_>>(), ["a/other"]);
}

#[test]
fn a_request_whose_answer_was_lost_is_not_taken_for_that_of_another_process() {
    for fault in [FakeFault::LoseAnswer, FakeFault::Drop, FakeFault::Status(500), FakeFault::Status(409)] {
        let server = FakeS3::new(move |request, before| (request.starts_with("PUT") && before < 2).then_some(fault));
        let bucket = bucket(&server, "");
        assert!(bucket.put_if_absent("log/1", b"ours").unwrap(), "{fault:?}");
        assert!(!bucket.put_if_absent("log/1", b"theirs").unwrap(), "{fault:?}");
        assert_eq!(server.state().objects["a/log/1"], b"ours");
    }
}

#[test]
fn a_server_that_hangs_or_refuses_ends_the_wait() {
    let server = FakeS3::new(|_, _| Some(FakeFault::Hang));
    let error = bucket(&server, "&timeout=100ms&retry=300ms").get("x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no response for 100ms") && error.to_string().contains("?retry="), "{error}");
    let secret = std::env::var("PATH").unwrap();
    for (status, kind, words) in [
        (403, ErrorKind::Config, "access denied: status 403: InternalError"),
        (301, ErrorKind::Config, "request refused: status 301"),
        (503, ErrorKind::Unavailable, "status 503"),
    ] {
        let server = FakeS3::new(move |_, _| Some(FakeFault::Status(status)));
        for error in [
            bucket(&server, "&retry=200ms").get("x").map(drop).unwrap_err(),
            bucket(&server, "&retry=200ms").delete(&["x".to_owned(), "y".to_owned()]).unwrap_err(),
        ] {
            assert!(error.kind() == kind && error.to_string().contains(words), "{status}: {error}");
            assert!(error.to_string().contains("s3://bucket/a") && !error.to_string().contains(&secret), "{error}");
        }
        if status != 503 {
            assert_eq!(server.state().requests.len(), 3, "such requests are not repeated");
        }
    }
}

#[test]
fn files_are_uploaded_and_downloaded_and_large_ones_in_parts_of_which_each_is_repeated() {
    let server = FakeS3::new(|request, before| {
        let is_hit =
            request.contains("partNumber=2") || request.starts_with("PUT /a/small") || request.starts_with("GET");
        let fault = if request.starts_with("POST") { FakeFault::LoseAnswer } else { FakeFault::Drop };
        ((is_hit || request.contains("uploadId=u") && !request.contains("part")) && before == 0).then_some(fault)
    });
    let bucket = bucket(&server, "");
    let dir = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..130u32 << 20).map(|at| (at >> 20) as u8).collect();
    for (name, bytes) in [("small", &b"abc"[..]), ("empty", b""), ("large", &large)] {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let uploads = ["small", "empty", "large"].map(|key| Upload { key: key.to_owned(), path: dir.path().join(key) });
    bucket.upload(&uploads).unwrap();
    let counted = |words: &str| server.state().requests.iter().filter(|request| request.contains(words)).count();
    assert_eq!([counted("partNumber=1"), counted("partNumber=2"), counted("partNumber=3")], [1, 2, 1]);
    for name in ["small", "empty", "large"] {
        let path = dir.path().join("again");
        assert!(download(&bucket, name, &path).unwrap());
        assert!(std::fs::read(path).unwrap() == std::fs::read(dir.path().join(name)).unwrap(), "{name}");
    }
    assert!(!download(&bucket, "none", &dir.path().join("none")).unwrap());
}

/// Another attempt does not mend a full disk of this machine.
#[test]
fn a_full_disk_while_an_object_is_downloaded_is_74_at_once() {
    let server = FakeS3::new(|_, _| None);
    server.state().objects.insert("a/big".to_owned(), vec![7; 300_000]);
    let bucket = bucket(&server, "&retry=1m");
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join("big")).unwrap();
    let error = download(&bucket, "big", &dir.path().join("big")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_eq!(server.state().requests.len(), 1);
    let error = download(&bucket, "big", &dir.path().join("missing/big")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(download(&bucket, "big", &dir.path().join("other")).unwrap());
    assert_eq!(std::fs::read(dir.path().join("other")).unwrap().len(), 300_000);
}

/// Otherwise each range of an object would be all of it.
#[test]
fn a_server_without_ranges_is_refused() {
    let server = FakeS3::new(|request, _| request.starts_with("GET").then_some(FakeFault::Status(200)));
    let bucket = bucket(&server, "");
    let refused = |at| bucket.range("x", at).unwrap_err();
    for error in [refused(0..4), refused(1..1_000)] {
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("expected a range"), "{error}");
    }
    // The whole object is the range.
    assert!(bucket.range("x", 0..1_000).unwrap().unwrap().starts_with(b"<Error>"));
}
