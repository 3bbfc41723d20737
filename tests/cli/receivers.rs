//! Receivers of notifications: an HTTP server that answers as a test demands, and checks of the payloads that PagerDuty
//! and Slack document.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One request.
#[derive(Clone, Debug)]
pub struct Posted {
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Value,
    pub at: Instant,
}

impl Posted {
    /// Returns the idempotency key.
    pub fn key(&self) -> &str {
        &self.headers["idempotency-key"]
    }
}

/// How a receiver answers.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(u16),
    /// A status with one more header.
    With(u16, &'static str, String),
    /// A status with a body.
    Says(u16, Value),
    /// No answer while the test runs.
    Hang,
    /// The connection is closed without an answer.
    Drop,
}

/// A server that records its requests.
pub struct Receiver {
    pub base: String,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Receiver {
    /// Starts a server; `answer` is called with each request and the number of requests before it.
    pub fn new(answer: impl Fn(&Posted, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let posted: Arc<Mutex<Vec<Posted>>> = Arc::default();
        let (log, answer) = (posted.clone(), Arc::new(answer));
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                // A client may be killed at any time.
                std::thread::spawn(move || _ = serve(stream, &*answer, &log));
            }
        });
        Self { base, posted }
    }

    /// Returns the requests so far.
    pub fn posted(&self) -> Vec<Posted> {
        self.posted.lock().expect("no panic").clone()
    }

    /// Returns the number of requests so far.
    pub fn count(&self) -> usize {
        self.posted.lock().expect("no panic").len()
    }
}

fn serve(
    stream: TcpStream,
    answer: &(impl Fn(&Posted, usize) -> Reply + ?Sized),
    log: &Mutex<Vec<Posted>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut headers) = (String::new(), BTreeMap::new());
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            // A client that was killed: its request has no end.
            return Ok(());
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let posted = Posted { path, headers, body, at: Instant::now() };
    let before = {
        let mut log = log.lock().expect("no panic");
        log.push(posted.clone());
        log.len() - 1
    };
    let (status, header, body) = match answer(&posted, before) {
        Reply::Status(status) => (status, String::new(), String::new()),
        Reply::With(status, name, value) => (status, format!("{name}: {value}\r\n"), String::new()),
        Reply::Says(status, body) => (status, String::new(), body.to_string()),
        Reply::Drop => return Ok(()),
        Reply::Hang => {
            // Until the client gives up.
            reader.get_ref().set_read_timeout(Some(Duration::from_secs(60)))?;
            _ = reader.read(&mut [0]);
            return Ok(());
        }
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\n{header}content-length: {length}\r\nconnection: close\r\n\r\n");
    reader.get_mut().write_all((head + &body).as_bytes())
}

/// Answers as PagerDuty does: 202, or 400 with the faults of the event.
pub fn pagerduty(posted: &Posted) -> Reply {
    match event_faults(posted) {
        faults if faults.is_empty() => {
            let key = &posted.body["dedup_key"];
            Reply::Says(202, json!({"status": "success", "message": "Event processed", "dedup_key": key}))
        }
        faults => {
            let message = "Event object is invalid";
            Reply::Says(400, json!({"status": "invalid event", "message": message, "errors": faults}))
        }
    }
}

/// The fields of an event of the Events API v2, by its published schema: name, type, whether it is required.
const EVENT: [(&str, &str, bool); 8] = [
    ("routing_key", "string", true),
    ("event_action", "string", true),
    ("dedup_key", "string", false),
    ("payload", "object", false),
    ("client", "string", false),
    ("client_url", "string", false),
    ("links", "array", false),
    ("images", "array", false),
];
const PAYLOAD: [(&str, &str, bool); 8] = [
    ("summary", "string", true),
    ("source", "string", true),
    ("severity", "string", true),
    ("timestamp", "string", false),
    ("component", "string", false),
    ("group", "string", false),
    ("class", "string", false),
    ("custom_details", "object", false),
];

/// Returns what PagerDuty's documentation of the Events API v2 rules out.
fn event_faults(posted: &Posted) -> Vec<String> {
    let mut faults = vec![];
    let Some(event) = posted.body.as_object() else { return vec!["the body is not an object".to_owned()] };
    fields(event, &EVENT, &mut faults);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if text(&event["routing_key"]).len() != 32 {
        faults.push("Length of 'routing_key' is incorrect (should be 32 characters)".to_owned());
    }
    let key = event.get("dedup_key").map(text);
    if key.as_ref().is_some_and(|key| key.is_empty() || key.chars().count() > 255) {
        faults.push("'dedup_key' has at most 255 characters".to_owned());
    }
    if posted.body.to_string().len() > 512 << 10 {
        faults.push("an event has at most 512 KB".to_owned());
    }
    match text(&event["event_action"]).as_str() {
        "trigger" => match event.get("payload").and_then(Value::as_object) {
            None => faults.push("'payload' is missing".to_owned()),
            Some(payload) => {
                fields(payload, &PAYLOAD, &mut faults);
                if !(1..=1024).contains(&text(&payload["summary"]).encode_utf16().count()) {
                    faults.push("'payload.summary' has 1 to 1024 characters".to_owned());
                }
                if !["critical", "error", "warning", "info"].contains(&text(&payload["severity"]).as_str()) {
                    faults.push("'payload.severity' is invalid (must be one of the following: …)".to_owned());
                }
                if payload.get("timestamp").is_some_and(|at| evt_core::time::parse_instant(&text(at)).is_none()) {
                    faults.push("'payload.timestamp' is not an ISO 8601 instant".to_owned());
                }
            }
        },
        "resolve" | "acknowledge" if key.is_none() => faults.push("'dedup_key' is missing".to_owned()),
        "resolve" | "acknowledge" => {}
        other => faults.push(format!("'event_action' {other}")),
    }
    faults
}

fn fields(object: &Map<String, Value>, known: &[(&str, &str, bool)], faults: &mut Vec<String>) {
    for (name, value) in object {
        let is_of = |wanted: &str| match wanted {
            "string" => value.is_string(),
            "object" => value.is_object(),
            _ => value.is_array(),
        };
        match known.iter().find(|(known, ..)| known == name) {
            None => faults.push(format!("unknown field '{name}'")),
            Some((_, wanted, _)) if !is_of(wanted) => faults.push(format!("'{name}' is no {wanted}")),
            Some(_) => {}
        }
    }
    let missing = known.iter().filter(|(name, _, is_required)| *is_required && !object.contains_key(*name));
    faults.extend(missing.map(|(name, ..)| format!("'{name}' is missing or blank")));
}

/// Answers as an incoming webhook of Slack does: 200, or 400 `invalid_payload` and similar.
pub fn slack(posted: &Posted) -> Reply {
    match message_fault(&posted.body) {
        None => Reply::Says(200, json!("ok")),
        Some(fault) => Reply::Says(400, json!(fault)),
    }
}

/// Returns what Slack's documentation of messages and blocks rules out.
fn message_fault(message: &Value) -> Option<String> {
    let text = message["text"].as_str().filter(|text| (1..=40_000).contains(&text.chars().count()));
    let Some(text) = text else { return Some("no_text".to_owned()) };
    if !is_escaped(text) {
        return Some("invalid_payload: text".to_owned());
    }
    let blocks = message["blocks"].as_array()?;
    if blocks.is_empty() || blocks.len() > 50 {
        return Some("invalid_blocks".to_owned());
    }
    let is_text = |object: &Value, max: usize| {
        let text = object["text"].as_str().unwrap_or_default();
        let is_typed = ["mrkdwn", "plain_text"].contains(&object["type"].as_str().unwrap_or_default());
        is_typed && (1..=max).contains(&text.encode_utf16().count()) && is_escaped(text)
    };
    let are_texts = |list: &Value, max: usize| {
        list.as_array().is_some_and(|list| (1..=10).contains(&list.len()) && list.iter().all(|one| is_text(one, max)))
    };
    let is_block = |block: &Value| match block["type"].as_str().unwrap_or_default() {
        "section" => match (block.get("text"), block.get("fields")) {
            (Some(text), None) => is_text(text, 3000),
            (None, Some(fields)) => are_texts(fields, 2000),
            (Some(text), Some(fields)) => is_text(text, 3000) && are_texts(fields, 2000),
            (None, None) => false,
        },
        "context" => are_texts(&block["elements"], 3000),
        _ => false,
    };
    let wrong = blocks.iter().find(|block| !is_block(block));
    wrong.map(|block| format!("invalid_blocks: {block}"))
}

/// Whether the three reserved characters are written as entities.
fn is_escaped(text: &str) -> bool {
    let plain = text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
    !plain.contains(['&', '<', '>'])
}
