//! An HTTP server for one test, and a client that may send any bytes.

use crate::harness::{Dir, eventually, status};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A running evt-ingest or evt-serve that listens.
pub struct Listener {
    child: Child,
    /// `HOST:PORT`.
    pub host: String,
    said: Arc<Mutex<String>>,
    /// The thread that reads its stderr to the end.
    hearing: Option<JoinHandle<()>>,
}

/// A response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Response {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
        self.head.lines().find(named).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Parses a response from all received bytes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head: head.to_owned(), body: body.to_owned() })
    }
}

impl Listener {
    /// Starts a server on a free port, and waits until it reports that it listens.
    pub fn open(dir: &Dir, args: &[&str]) -> Self {
        Self::at(dir, "http://127.0.0.1:0", args)
    }

    /// The same at an address.
    pub fn at(dir: &Dir, address: &str, args: &[&str]) -> Self {
        Self::start(dir, address, args).listening()
    }

    /// Starts a server, without waiting until it listens.
    pub fn start(dir: &Dir, address: &str, args: &[&str]) -> Self {
        Self::of(&mut dir.command("evt-ingest", &[&[address], args].concat()))
    }

    /// Starts a server by a command, without waiting until it listens.
    pub fn of(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let said = Arc::new(Mutex::new(String::new()));
        let (stderr, heard) = (child.stderr.take().expect("it is piped"), said.clone());
        let hearing = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                *heard.lock().expect("no panic") += &(line + "\n");
            }
        });
        Self { child, host: String::new(), said, hearing: Some(hearing) }
    }

    /// Returns its standard output, which must be a pipe.
    pub fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("it is piped")
    }

    /// Waits until it reports that it listens.
    pub fn listening(mut self) -> Self {
        self.wait_for_message("listening on ");
        let said = self.said();
        let address =
            said.split("listening on ").nth(1).and_then(|rest| rest.split(['\n', '"']).next()).expect("an address");
        self.host = address.split_once("://").expect("a URI").1.to_owned();
        self
    }

    /// Returns its messages so far.
    pub fn said(&self) -> String {
        self.said.lock().expect("no panic").clone()
    }

    /// Waits for this message.
    #[track_caller]
    pub fn wait_for_message(&mut self, what: &str) {
        let (said, child) = (self.said.clone(), &mut self.child);
        eventually(what, || {
            let found = said.lock().expect("no panic").contains(what);
            let ended = !found && child.try_wait().expect("it can be asked").is_some();
            assert!(!ended, "it ended without \"{what}\": {}", said.lock().expect("no panic"));
            found
        });
    }

    /// Waits for these words in its metrics.
    #[track_caller]
    pub fn wait_for_metric(&self, words: &str) {
        eventually(words, || self.get("/metrics").body.contains(words));
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is a child").is_none()
    }

    /// Connects to it.
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.host).expect("it listens")
    }

    /// Sends bytes on a new connection and reads it to its end; returns `None` if there was no response.
    pub fn raw(&self, bytes: &[u8]) -> Option<Response> {
        let mut stream = self.connect();
        // A server that has rejected the request may have closed the connection already.
        let _ = stream.write_all(bytes);
        read(&mut stream)
    }

    /// Posts a body with these headers.
    #[track_caller]
    pub fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.raw(&request(headers, body)).expect("an answer")
    }

    /// Posts JSON.
    #[track_caller]
    pub fn json(&self, body: &str) -> Response {
        self.post(&[("content-type", "application/json")], body.as_bytes())
    }

    /// Gets a path.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        self.raw(head.as_bytes()).expect("an answer")
    }

    /// A line of `/proc/PID/status` in KiB.
    pub fn memory(&self, line: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let found = text.lines().find_map(|found| found.strip_prefix(line)).expect("Linux says so");
        found.trim_matches([':', ' ', '\t', 'k', 'B']).parse().expect("a number")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, signal).expect("it runs");
    }

    /// Waits for its end; returns its status and all its messages.
    pub fn wait(mut self) -> (i32, String) {
        let ended = status(self.child.wait().expect("it ends"));
        self.hearing.take().expect("it is waited for once").join().expect("no panic");
        (ended, self.said())
    }

    /// Stops it; it must end as a signal ends it.
    #[track_caller]
    pub fn stop(self) -> String {
        self.signal(Signal::TERM);
        let (ended, said) = self.wait();
        assert_eq!(ended, 128 + 15, "{said}");
        said
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Otherwise a failed test would leave it running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A whole request that ends its connection.
pub fn request(headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n".to_owned();
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    head += &format!("content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Sends a request on a connection that stays open, and reads its response.
#[track_caller]
pub fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Response {
    stream.write_all(bytes).expect("it is open");
    let (mut answer, mut buffer) = (vec![], [0; 64 << 10]);
    loop {
        let count = stream.read(&mut buffer).expect("an answer");
        answer.extend_from_slice(&buffer[..count]);
        let found = Response::parse(&answer);
        let length = found.as_ref().and_then(|response| response.header("content-length")?.parse().ok());
        match found {
            Some(response) if length.is_some_and(|length: usize| response.body.len() >= length) => return response,
            found => assert!(count > 0, "expected a whole answer, found {found:?}"),
        }
    }
}

/// Reads to the end of a connection.
pub fn read(stream: &mut TcpStream) -> Option<Response> {
    let mut bytes = vec![];
    // After the response to a rejected request, the server may reset the connection.
    let _ = stream.read_to_end(&mut bytes);
    Response::parse(&bytes)
}

/// An event with a number.
pub fn event(number: usize, source: &str) -> String {
    format!(
        r#"{{"event_id":"00000000-0000-4000-8000-{number:012}","source":"{source}","event_type":"t","n":{number}}}"#
    )
}
