//! The HTTP server under attack: its limits hold, and it rejects clients without a valid token.

use crate::harness::{Dir, Run, eventually};
use crate::listener::{Listener, Response, event, exchange, read, request};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::json;
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;

const KEEP: [&str; 6] = ["--ack", "memory", "--to", "out.jsonl", "--dlq", "dead.jsonl"];
const JSON: (&str, &str) = ("content-type", "application/json");

fn open(dir: &Dir, more: &[&str]) -> Listener {
    Listener::open(dir, &[&KEEP[..], more].concat())
}

#[test]
fn a_body_beyond_the_bound_is_refused_whether_its_length_is_told_or_not() {
    let dir = Dir::new("http-large");
    let listener = open(&dir, &["--max-body", "64KiB", "--max-record", "1KiB"]);
    assert_eq!(listener.post(&[JSON], &vec![b' '; 64 << 10]).status, 400);
    assert_eq!(listener.post(&[JSON], &vec![b'7'; 64 << 10]).status, 422);
    assert_eq!(listener.post(&[JSON], &vec![b' '; (64 << 10) + 1]).status, 413);
    let mut chunked = b"POST /v1/events HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..9 {
        chunked.extend_from_slice(b"2000\r\n");
        chunked.extend_from_slice(&[b' '; 0x2000]);
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(listener.raw(&[&chunked[..], b"0\r\n\r\n"].concat()).expect("an answer").status, 413);
    let long = format!(r#"{{"source":"s","event_type":"t","x":"{}"}}"#, "x".repeat(2000));
    let response = listener.json(&long);
    assert_eq!((response.status, &response.json()["errors"][0]["error_type"]), (422, &json!("TooLargeError")));
    listener.stop();
    let letters = dir.rows("dead.jsonl");
    assert_eq!(letters.last().expect("a letter")["original_payload"].as_str(), Some(&long[..1024]));
}

/// The client sends nothing after the size of the chunk, so only the size can decide.
#[test]
fn a_chunk_that_is_too_large_is_refused_before_it_arrives() {
    let dir = Dir::new("http-chunk");
    let listener = open(&dir, &["--max-body", "64KiB", "--request-timeout", "60s"]);
    let head = "POST /v1/events HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
    let body = event(1, "s");
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let whole = format!("{head}{}0\r\n\r\n", chunk(&body));
    for size in ["10001", "0FFFFFFF;name=value", "ffffffffffffffff"] {
        for before in [String::new(), chunk(&body[..9])] {
            let text = format!("{head}{before}{size}\r\n");
            let response = listener.raw(text.as_bytes()).expect("an answer");
            assert_eq!((response.status, response.header("connection")), (413, Some("close")), "{before:?} {size}");
            // A later request of a connection, also after empty lines.
            for empty in ["", "\r\n\r\n"] {
                let mut stream = listener.connect();
                assert_eq!(exchange(&mut stream, whole.as_bytes()).status, 200);
                let text = format!("{empty}{text}");
                assert_eq!(exchange(&mut stream, text.as_bytes()).status, 413, "{empty:?} {before:?} {size}");
            }
        }
    }
    // Chunks of exactly the limit, and a text that looks like the size of a chunk.
    let (half, line) = (" ".repeat(32 << 10), format!("{head}{}0\r\n\r\n", chunk("\r\n\r\nffffffff\r\n")));
    let exact = format!("{head}{}{}0\r\n\r\n", chunk(&half), chunk(&half));
    let mut stream = listener.connect();
    for text in [&exact, &line, &exact] {
        let response = exchange(&mut stream, text.as_bytes());
        assert!([400, 422].contains(&response.status), "{response:?}");
    }
    listener.stop();
}

/// The body of the second request may be read before that request is served. Which comes first differs from round to
/// round.
#[test]
fn a_chunk_of_a_request_whose_head_came_with_the_request_before_it_is_not_taken_for_a_head() {
    let dir = Dir::new("http-pipelined");
    let listener = open(&dir, &["--max-body", "64KiB"]);
    let body = "[\r\n\r\nfffffff\r\n]";
    let head = "POST /v1/events HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let first = event(1, "s");
    let first = format!("POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{first}", first.len());
    for round in 0..300 {
        let mut stream = listener.connect();
        stream.set_nodelay(true).expect("an option");
        stream.write_all(format!("{first}{head}").as_bytes()).expect("it reads");
        stream.write_all(chunk.as_bytes()).expect("it reads");
        let mut all = String::new();
        stream.read_to_string(&mut all).expect("it answers");
        let statuses: Vec<&str> = all.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(statuses, ["200", "400"], "round {round}: {all}");
    }
    listener.stop();
}

#[test]
fn a_zip_bomb_is_refused_with_flat_memory() {
    let dir = Dir::new("http-bomb");
    let listener = open(&dir, &[]);
    let zeros = || std::io::repeat(b' ').take(1 << 30);
    let zstd = zstd::encode_all(zeros(), 1).expect("it packs");
    let mut gzip = vec![];
    let mut encoder = flate2::read::GzEncoder::new(zeros(), flate2::Compression::fast());
    encoder.read_to_end(&mut gzip).expect("it packs");
    assert!(gzip.len() < 10 << 20 && zstd.len() < 1 << 20);
    listener.json(&event(1, "s"));
    let before = listener.memory("VmHWM");
    for (name, bomb) in [("gzip", &gzip), ("zstd", &zstd)] {
        for _ in 0..3 {
            assert_eq!(listener.post(&[JSON, ("content-encoding", name)], bomb).status, 413, "{name}");
        }
    }
    let grown = listener.memory("VmHWM") - before;
    assert!(grown < 64 << 10, "{grown} KiB more");
    listener.stop();
}

/// Without `malloc_trim` this process has kept 100 MiB more.
#[test]
fn memory_goes_back_after_a_burst_of_large_bodies() {
    let dir = Dir::new("http-burst");
    let listener = open(&dir, &["--request-timeout", "10m"]);
    listener.json(&event(1, "s"));
    let before = listener.memory("VmRSS");
    let lines: String = (0..60_000).map(|number| event(number, "s") + "\n").collect();
    let mut body = vec![];
    let packed = flate2::read::GzEncoder::new(lines.as_bytes(), flate2::Compression::fast()).read_to_end(&mut body);
    packed.expect("it packs");
    let headers = [("content-type", "application/x-ndjson"), ("content-encoding", "gzip")];
    std::thread::scope(|scope| {
        let post = || assert!([200, 503].contains(&listener.post(&headers, &body).status));
        (0..12).for_each(|_| drop(scope.spawn(post)));
    });
    eventually("its memory has gone back", || listener.memory("VmRSS") < before + (48 << 10));
    listener.stop();
}

#[test]
fn a_request_that_two_readers_could_cut_differently_is_refused() {
    let dir = Dir::new("http-smuggling");
    let listener = open(&dir, &[]);
    let body = event(1, "s");
    let length = body.len();
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n";
    for headers in [
        format!("content-length: {length}\r\ntransfer-encoding: chunked"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}"),
        format!("content-length: {length}\r\ncontent-length: {}", length + 1),
        format!("content-length: {length}, {}", length + 1),
        format!("content-length: +{length}"),
        format!("content-length: {length}\r\n folded: x"),
        format!("content-length: {length}\r\nx: y\r\n z"),
        "transfer-encoding: chunked, identity".to_owned(),
        "transfer-encoding: xchunked".to_owned(),
        format!("content-length : {length}"),
        format!("content-length: {length}\r\nbad name: x"),
        format!("content-length: {length}\r\nx: a\rb"),
    ] {
        let text = format!("POST /v1/events HTTP/1.1\r\nhost: h\r\n{headers}\r\n\r\n{body}{smuggled}");
        let response = listener.raw(text.as_bytes());
        let status = response.as_ref().map(|response| response.status);
        assert_eq!(status, Some(400), "{headers:?}: {response:?}");
        let once = response.is_some_and(|response| !response.body.contains("HTTP/1.1"));
        assert!(once, "{headers:?}: more than one answer");
    }
    // If a request has both framings, the server uses the chunks and takes no bytes after them as a request.
    let chunks = format!("{length:x}\r\n{body}\r\n0\r\n\r\n{smuggled}");
    for both in ["content-length: 5\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 5"] {
        let text = format!("POST /v1/events HTTP/1.1\r\nhost: h\r\n{both}\r\n\r\n{chunks}");
        let response = listener.raw(text.as_bytes()).expect("an answer");
        assert!(response.status == 200 && !response.body.contains("HTTP/1.1"), "{both:?}: {response:?}");
    }
    for line in ["POST /v1/events", "POST  /v1/events HTTP/1.1", "POST /v1/events HTTP/9.9", "\0\u{1}\u{2}"] {
        let status = listener.raw(format!("{line}\r\nhost: h\r\n\r\n").as_bytes()).map(|response| response.status);
        assert!(matches!(status, None | Some(400..=505)), "{line:?}: {status:?}");
    }
    let large = format!("GET /healthz HTTP/1.1\r\nhost: h\r\nx: {}\r\n\r\n", "x".repeat(128 << 10));
    assert_eq!(listener.raw(large.as_bytes()).map(|response| response.status), Some(431));
    assert_eq!(listener.get("/healthz").status, 200);
    listener.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 2);
}

#[test]
fn slow_clients_are_let_go() {
    let dir = Dir::new("http-slow");
    let listener = open(&dir, &["--head-timeout", "300ms", "--idle-timeout", "5s", "--request-timeout", "300ms"]);
    let unanswered = Cell::new(0_usize);
    // The server also closes the connection of a client that a loaded machine stops before it writes.
    let ask = |bytes: &[u8]| {
        let answer = listener.raw(bytes);
        unanswered.set(unanswered.get() + usize::from(answer.is_none()));
        answer
    };
    let closed = || -> Option<usize> {
        let metrics = ask(b"GET /metrics HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")?.body;
        let sample = "evt_http_refused_connections_total{reason=\"slow_head\"} ";
        let count = metrics.lines().find_map(|line| line.strip_prefix(sample));
        Some(count.map_or(0, |count| count.parse().expect("a number")))
    };
    // A new connection is not one between two requests: its first byte is due, too.
    for sent in [&b"POST /v1/events HTTP/1.1\r\nho"[..], b""] {
        let before = unanswered.get();
        eventually("a client that does not complete a head is counted", || {
            assert!(ask(sent).is_none(), "that is not a request");
            closed().is_some_and(|count| {
                assert_eq!(count, unanswered.get());
                count > before
            })
        });
    }
    eventually("a body that does not end has an answer", || {
        let answer = ask(b"POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n{");
        answer.is_some_and(|answer| {
            assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
            true
        })
    });
    listener.stop();
}

#[test]
fn a_connection_between_two_requests_is_closed_when_it_was_idle() {
    let dir = Dir::new("http-kept");
    let listener = open(&dir, &["--idle-timeout", "300ms", "--head-timeout", "1h"]);
    let mut stream = listener.connect();
    assert_eq!(exchange(&mut stream, b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").status, 200);
    assert!(read(&mut stream).is_none(), "it has no more requests");
    assert!(listener.get("/metrics").body.contains("reason=\"idle\"} 1\n"));
    listener.stop();
}

/// The server closes the connection of a client that never reads its answers, once the buffers are full.
#[test]
fn a_client_that_does_not_read_is_let_go() {
    let dir = Dir::new("http-unread");
    let listener = open(&dir, &["--head-timeout", "500ms"]);
    let body = format!("{{\"events\":[{}]}}", vec!["7"; 10_000].join(","));
    let whole = format!("POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    // A client that a loaded machine stops within a head counts as slow_head: another one follows.
    eventually("a client that does not read is counted", || {
        let mut stream = listener.connect();
        eventually("the connection is ended", || stream.write_all(whole.as_bytes()).is_err());
        listener.get("/metrics").body.contains("reason=\"slow_reader\"")
    });
    listener.stop();
}

fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the maximum it is allowed");
}

#[test]
fn a_thousand_idle_connections_cost_little_and_keep_nobody_out() {
    raise_descriptors();
    let dir = Dir::new("http-idle");
    let listener = open(&dir, &["--head-timeout", "10m"]);
    listener.json(&event(1, "s"));
    let before = listener.memory("VmRSS");
    let idle: Vec<TcpStream> = (0..1000).map(|_| listener.connect()).collect();
    eventually("all are open", || listener.get("/metrics").body.contains("evt_http_connections 1001"));
    assert_eq!(listener.json(&event(2, "s")).status, 200);
    let grown = listener.memory("VmRSS").saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more");
    drop(idle);
    eventually("all are closed", || listener.get("/metrics").body.contains("evt_http_connections 1\n"));
    listener.stop();
}

#[test]
fn silent_connections_leave_enough_files_to_the_spool() {
    raise_descriptors();
    let dir = Dir::new("http-descriptors");
    let line = "ulimit -n 320; exec evt-ingest http://127.0.0.1:0 --head-timeout 10m --spool spool --to out.jsonl --dlq dead.jsonl";
    let listener = Listener::of(&mut dir.command("sh", &["-c", line])).listening();
    let said = "at most 64 connections, not 4096 (--max-connections): the process may open 320 files (RLIMIT_NOFILE)";
    assert!(listener.said().contains(said), "{}", listener.said());
    let mut open = listener.connect();
    let mut metrics = || exchange(&mut open, b"GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n").body;
    metrics();
    let silent: Vec<TcpStream> = (0..400).map(|_| listener.connect()).collect();
    eventually("all others are refused", || metrics().contains("reason=\"too_many\"} 337\n"));
    assert!(!metrics().contains("reason=\"accept\""), "{}", metrics());
    for number in 0..100 {
        let body = event(number, "s");
        let head = "POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length";
        let response = exchange(&mut open, format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes());
        assert_eq!(response.status, 200, "{response:?}");
    }
    drop(silent);
    let said = listener.stop();
    assert!(said.contains("connections are rejected: 64 are open (RLIMIT_NOFILE)"), "{said}");
    assert_eq!(dir.rows("out.jsonl").len(), 100);
}

#[test]
fn a_limit_of_files_that_leaves_no_connection_ends_the_run_at_its_start() {
    let dir = Dir::new("http-few-descriptors");
    let why = "expected a limit of at least 257 open files (RLIMIT_NOFILE), found 256; raise it with ulimit -n or LimitNOFILE=";
    let line = "evt-ingest http://127.0.0.1:0 --ack memory --to out.jsonl --dlq null:";
    for more in ["", " --check"] {
        let run = dir.shell(&format!("ulimit -n 256; {line}{more}")).ends_with(78);
        assert!(run.stderr().contains(why), "{run}");
    }
    dir.shell(&format!("ulimit -n 257; {line} --check")).succeeds();
}

#[test]
fn one_connection_too_many_is_sent_away_and_said_once() {
    let dir = Dir::new("http-many");
    let listener = open(&dir, &["--max-connections", "2", "--head-timeout", "10m"]);
    let held = [listener.connect(), listener.connect()];
    for _ in 0..3 {
        let mut stream = listener.connect();
        assert_eq!(read(&mut stream).map(|response| response.status), Some(503));
    }
    held.iter().for_each(|stream| stream.shutdown(Shutdown::Both).expect("it is open"));
    eventually("there is room again", || {
        listener.raw(&request(&[JSON], event(1, "s").as_bytes())).is_some_and(|r| r.status == 200)
    });
    let said = listener.stop();
    assert_eq!(said.matches("connections are rejected: 2 are open (--max-connections)").count(), 1, "{said}");
}

#[test]
fn bodies_under_way_are_bounded_all_together() {
    let dir = Dir::new("http-pending");
    let listener = open(&dir, &["--max-pending", "64KiB", "--max-body", "1MiB"]);
    let response = listener.post(&[JSON], &vec![b' '; 100 << 10]);
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
    assert_eq!(listener.json(&event(1, "s")).status, 200);
    listener.stop();
}

fn bearer(listener: &Listener, secret: &str, body: &str) -> Response {
    listener.post(&[JSON, ("authorization", &format!("Bearer {secret}"))], body.as_bytes())
}

/// Posts until the server rejects a request; returns the number of accepted requests and the other answer. A pause
/// between two requests makes room for further ones: a rate is whole again after a second.
fn first_refusal(mut post: impl FnMut() -> Response) -> (usize, Response) {
    for accepted in 0..100 {
        let answer = post();
        if answer.status != 200 {
            return (accepted, answer);
        }
    }
    panic!("expected a refusal, found 100 accepted requests");
}

#[test]
fn a_token_opens_the_listener_for_its_sources_at_its_rate_and_is_never_told() {
    let dir = Dir::new("http-tokens");
    let tokens = "[[token]]\nname = \"ios\"\nsecret = \"secret-of-ios\"\nsources = [\"ios\"]\n\
                  [[token]]\nname = \"slow\"\nsecret = \"secret-of-slow\"\nrate = 2\n";
    dir.write("tokens.toml", tokens);
    let listener = open(&dir, &["--tokens", "tokens.toml", "--log-requests"]);
    for response in [listener.json(&event(1, "ios")), bearer(&listener, "secret-of-io", &event(1, "ios"))] {
        assert_eq!((response.status, response.header("www-authenticate")), (401, Some("Bearer")));
    }
    assert_eq!(bearer(&listener, "secret-of-ios", &event(1, "ios")).status, 200);
    let both = bearer(&listener, "secret-of-ios", &format!("{{\"events\":[{},{}]}}", event(2, "ios"), event(3, "web")));
    assert_eq!(
        (both.status, &both.json()["accepted"], &both.json()["errors"][0]["index"]),
        (200, &json!(1), &json!(1))
    );
    assert_eq!(bearer(&listener, "secret-of-ios", &event(4, "web")).status, 403);
    let two = format!("{{\"events\":[{},{}]}}", event(5, "x"), event(6, "x"));
    let (accepted, denied) = first_refusal(|| bearer(&listener, "secret-of-slow", &two));
    assert!(accepted > 0, "{denied:?}");
    assert_eq!((denied.status, denied.header("retry-after")), (429, Some("1")));
    let three = format!("{{\"events\":[{0},{0},{0}]}}", event(7, "x"));
    assert_eq!(bearer(&listener, "secret-of-slow", &three).status, 413);
    let said = listener.stop();
    assert!(said.contains("token=ios") && !said.contains("secret-of"), "{said}");
    assert_eq!(dir.rows("out.jsonl").len(), 2 + 2 * accepted);
    assert_eq!(dir.rows("dead.jsonl").len(), 1);
}

#[test]
fn tokens_are_read_again_on_hangup_and_a_wrong_file_changes_nothing() {
    let dir = Dir::new("http-reload");
    let token = |name: &str| format!("[[token]]\nname = \"{name}\"\nsecret = \"secret-of-{name}\"\n");
    dir.write("tokens.toml", token("a"));
    let mut listener = open(&dir, &["--tokens", "tokens.toml"]);
    dir.write("tokens.toml", token("b"));
    assert_eq!(bearer(&listener, "secret-of-a", &event(1, "s")).status, 200);
    listener.signal(Signal::HUP);
    listener.wait_for_message("tokens reloaded: 1");
    assert_eq!(bearer(&listener, "secret-of-a", &event(1, "s")).status, 401);
    assert_eq!(bearer(&listener, "secret-of-b", &event(2, "s")).status, 200);
    dir.write("tokens.toml", "[[token]]\nname = \"c\"\nsecret = \"secret-of-c\n");
    listener.signal(Signal::HUP);
    listener.wait_for_message("reload failed, the tokens are unchanged: tokens.toml: line 3");
    assert_eq!(bearer(&listener, "secret-of-b", &event(3, "s")).status, 200);
    assert!(!listener.stop().contains("secret-of"));
}

#[test]
fn the_rate_of_all_holds_for_everybody() {
    let dir = Dir::new("http-rate");
    let listener = open(&dir, &["--rate", "1"]);
    let (accepted, denied) = first_refusal(|| listener.json(&event(1, "s")));
    assert!(accepted > 0, "{denied:?}");
    assert_eq!((denied.status, denied.header("retry-after")), (429, Some("1")));
    listener.stop();
}

#[test]
fn a_full_spool_puts_requests_off_and_says_so_at_readyz() {
    let dir = Dir::new("http-full");
    // The run settles its outputs once a second: two of these requests do not fit in between.
    let listener =
        Listener::open(&dir, &["--spool", "spool", "--spool-max", "64KiB", "--to", "out.jsonl", "--dlq", "dead.jsonl"]);
    let body = format!(r#"{{"source":"s","event_type":"t","x":"{}"}}"#, "x".repeat(40 << 10));
    let (mut kept, response) = first_refusal(|| listener.json(&body));
    assert_eq!(response.status, 503, "{response:?}");
    assert!(response.header("retry-after").is_some());
    let why = "the spool is full (--spool-max): its records are waiting for the outputs";
    assert_eq!(response.json()["error"], why);
    // The server is ready again five seconds after a refusal, or once it accepts a request.
    eventually("the server is not ready after a refusal", || {
        let is_unready = listener.get("/readyz").status == 503;
        if !is_unready {
            kept += usize::from(listener.json(&body).status == 200);
        }
        is_unready
    });
    eventually("there is room again", || listener.json(&event(1, "s")).status == 200);
    assert_eq!(listener.get("/readyz").status, 200);
    listener.stop();
    assert_eq!(dir.rows("out.jsonl").len(), kept + 1);
}

/// Posts an event over TLS; returns the answer if the certificate is in `trusted`.
fn post_over_tls(dir: &Dir, listener: &Listener, trusted: &str, number: usize) -> Option<Response> {
    let args =
        ["s_client", "-quiet", "-verify_return_error", "-CAfile", trusted, "-verify_ip", "127.0.0.1", "-connect"];
    let mut command = dir.command("openssl", &[&args[..], &[&listener.host]].concat());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("openssl is there");
    let mut stdin = child.stdin.take().expect("it is piped");
    // A client that does not trust the certificate has disconnected.
    let _ = stdin.write_all(&request(&[JSON], event(number, "s").as_bytes()));
    let mut answer = vec![];
    child.stdout.take().expect("it is piped").read_to_end(&mut answer).expect("it ends");
    drop(stdin);
    child.wait().expect("it ends");
    Response::parse(&answer)
}

/// Makes `cert.pem` and `key.pem`.
fn certify(dir: &Dir) {
    let line = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
                -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem";
    dir.shell(line).succeeds();
}

fn open_tls(dir: &Dir) -> Listener {
    certify(dir);
    Listener::at(dir, "https://127.0.0.1:0", &[&KEEP[..], &["--tls-cert", "cert.pem", "--tls-key", "key.pem"]].concat())
}

#[test]
fn a_renewed_certificate_needs_a_hangup_and_no_restart() {
    let dir = Dir::new("http-renewed");
    let mut listener = open_tls(&dir);
    dir.shell("cp cert.pem old.pem").succeeds();
    certify(&dir);
    assert_eq!(post_over_tls(&dir, &listener, "old.pem", 1).map(|response| response.status), Some(200));
    listener.signal(Signal::HUP);
    listener.wait_for_message("cert.pem: certificate reloaded");
    assert_eq!(post_over_tls(&dir, &listener, "cert.pem", 2).map(|response| response.status), Some(200));
    assert!(post_over_tls(&dir, &listener, "old.pem", 3).is_none());
    // An invalid certificate file does not replace the old certificate.
    dir.shell("cp cert.pem good.pem; echo junk > cert.pem").succeeds();
    listener.signal(Signal::HUP);
    listener.wait_for_message("reload failed, the certificate is unchanged");
    assert_eq!(post_over_tls(&dir, &listener, "good.pem", 4).map(|response| response.status), Some(200));
    // Half of it, as a program leaves it that still writes.
    dir.shell("head -n 3 good.pem > cert.pem").succeeds();
    listener.signal(Signal::HUP);
    listener.wait_for_message("cert.pem: expected a PEM certificate or key: missing line -----END CERTIFICATE-----\n");
    listener.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 3);
}

#[test]
fn tls_is_spoken_with_a_certificate() {
    let dir = Dir::new("http-tls");
    let listener = open_tls(&dir);
    assert_eq!(post_over_tls(&dir, &listener, "cert.pem", 1).map(|response| response.status), Some(200));
    // Plain HTTP is not a TLS handshake.
    let plain = listener.raw(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n");
    assert!(plain.is_none(), "{plain:?}");
    listener.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 1);
    let args = ["http://127.0.0.1:0", "--tls-cert", "cert.pem", "--tls-key", "key.pem", "--ack", "memory"];
    let run: Run = dir.run("evt-ingest", &args).ends_with(2);
    assert!(run.stderr().contains("https://127.0.0.1:0"), "{run}");
}

#[test]
fn a_request_that_the_spool_can_never_hold_is_refused_for_good_and_the_listener_stays_ready() {
    let dir = Dir::new("beyond-spool");
    let listener =
        Listener::open(&dir, &["--spool", "spool", "--spool-max", "64KiB", "--to", "out.jsonl", "--dlq", "null:"]);
    let large = format!(r#"{{"source":"s","event_type":"t","filler":"{}"}}"#, "x".repeat(70_000));
    let answer = listener.json(&large);
    assert!(answer.status == 413 && answer.header("retry-after").is_none(), "{answer:?}");
    assert!(answer.body.contains("more than 65536 (--spool-max)"), "{answer:?}");
    assert_eq!(listener.get("/readyz").status, 200);
    assert_eq!(listener.json(r#"{"source":"s","event_type":"t"}"#).status, 200);
    listener.stop();
}
