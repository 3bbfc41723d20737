//! The first signal while a server is unavailable: the run ends soon, reports the unwritten rows, and the next run
//! writes them.

use crate::broker::{Bench, Broker, Record, lines};
use crate::harness::{Dir, eventually, status};
use crate::kafka;
use crate::listener::{Listener, event, read, request};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Maximum time from the first signal to the end: far more than a run needs, far less than its wait for a server (5
/// minutes).
const SOON: Duration = Duration::from_secs(20);
/// The same for a stage that reads a pipe.
const SOON_BEHIND_PIPE: Duration = Duration::from_secs(60);
/// A run waits for its server longer than this after the signal. A round of a test that takes longer shows nothing.
const WAITS: Duration = Duration::from_secs(3);
/// The same for a stage that reads a pipe.
const WAITS_BEHIND_PIPE: Duration = Duration::from_secs(20);
/// Two signals within this time are one request.
const TOGETHER: Duration = Duration::from_millis(150);

/// A tool that writes its diagnostics to a file.
struct Tool<'a> {
    dir: &'a Dir,
    log: String,
    child: Child,
}

impl<'a> Tool<'a> {
    fn start(dir: &'a Dir, name: &str, args: &[&str]) -> Self {
        Self::of(dir, name, dir.command(name, args))
    }

    fn of(dir: &'a Dir, name: &str, mut command: Command) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let log = format!("{name}.{}.log", NUMBER.fetch_add(1, Ordering::Relaxed));
        let stderr = File::create(dir.path(&log)).expect("writable");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(stderr);
        Self { dir, log, child: command.spawn().expect("it starts") }
    }

    fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("it is piped")
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.dir.bytes(&self.log)).into_owned()
    }

    #[track_caller]
    fn wait_for_message(&self, what: &str) {
        let start = Instant::now();
        while !self.said().contains(what) {
            assert!(start.elapsed() < Duration::from_secs(60), "\"{what}\" in vain: {}", self.said());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn signal(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
    }

    /// Stops it by a signal, which must end it within `limit`; returns its messages.
    #[track_caller]
    fn stops_within(mut self, limit: Duration) -> String {
        let start = Instant::now();
        self.signal();
        let ended = status(self.child.wait().expect("it ends"));
        let said = self.said();
        assert_eq!(ended, 143, "{said}");
        assert!(start.elapsed() < limit, "{:?}: {said}", start.elapsed());
        said
    }
}

impl Drop for Tool<'_> {
    fn drop(&mut self) {
        // Otherwise a failed test would leave it running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that accepts connections and never answers.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound").to_string();
    (listener, address)
}

fn numbered(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|n| kafka::event(n, "s") + "\n").collect()
}

/// The numbers of the events in a topic.
fn numbers(bench: &Bench, topic: &str) -> BTreeSet<usize> {
    let number = |record: Record| {
        let row: Value = serde_json::from_slice(&record.value.expect("a value")).expect("JSON");
        row["event_id"].as_str().and_then(|id| id.rsplit('-').next()?.parse().ok()).expect("a number")
    };
    bench.records(topic).into_iter().map(number).collect()
}

#[test]
fn a_run_that_waits_for_its_first_answer_ends_at_a_signal() {
    let dir = Dir::new("never_there");
    dir.write("in.jsonl", numbered(0..3));
    let gone = "127.0.0.1:1";
    let (kafka, registry) = (format!("kafka://{gone}/t?wait=10m"), format!("http://{gone}?retry=10m"));
    let postgres = format!("postgres://evt@{gone}/evt?retry=10m");
    let nothing = "stopped: nothing was read or written: ";
    let stopped = "unavailable when the run was stopped: connection refused";
    let listener = ["http://127.0.0.1:0", "--spool", "spool", "--to", "null:", "--dlq", &postgres];
    let cases: [(&str, &[&str], &str); 5] = [
        ("evt-ingest", &["in.jsonl", "--to", &kafka], nothing),
        ("evt-ingest", &["in.jsonl", "--to", "out.jsonl", "--dlq", &kafka], nothing),
        ("evt-ingest", &[&kafka, "--to", "out.jsonl"], "no response: "),
        ("evt-validate", &["in.jsonl", "--schemas", &registry, "--to", "null:"], stopped),
        ("evt-ingest", &listener, stopped),
    ];
    for (name, args, outcome) in cases {
        let tool = Tool::start(&dir, name, args);
        tool.wait_for_message("retrying for up to 10m");
        let said = tool.stops_within(SOON);
        assert!(said.lines().any(|line| line.contains(gone) && line.contains(outcome)), "{said}");
    }
}

#[test]
fn a_run_that_waits_for_a_silent_server_ends_at_a_signal() {
    let dir = Dir::new("silent");
    dir.write("in.jsonl", numbered(0..3));
    let options = "connect=10m&timeout=10m&retry=10m";
    let cases = [
        ("evt-validate", "--schemas", format!("http://AT?{options}")),
        ("evt-sink", "--to", format!("redis://AT?{options}")),
        ("evt-sink", "--to", format!("postgres://evt@AT/evt?{options}")),
        ("evt-ingest", "--to", "kafka://AT/t?wait=10m".to_owned()),
    ];
    for (name, flag, uri) in cases {
        let (listener, address) = silent();
        let tool = Tool::start(&dir, name, &["in.jsonl", flag, &uri.replace("AT", &address)]);
        let _connection = listener.accept().expect("it connects");
        tool.stops_within(SOON);
    }
}

/// With a broker that is paused, then with one that is killed: the next run writes all acknowledged events.
#[test]
fn a_listener_whose_broker_is_away_closes_at_once_and_loses_nothing() {
    let Some(mut bench) = Bench::new("listener_stopped") else { return };
    let broker = Broker { state: bench.dir.path("services"), name: "kafka" };
    bench.brokers = broker.start();
    let (dir, topic) = (&bench.dir, bench.topic("t", 1, &[]));
    let to = bench.uri(&topic, "");
    let flags = ["--spool", "spool", "--to", &to];
    for (round, (down, up)) in [("pause", "resume"), ("kill", "start")].into_iter().enumerate() {
        let listener = Listener::open(dir, &flags);
        let post = |number| assert_eq!(listener.json(&event(number, "s")).status, 200);
        post(10 * round);
        eventually("the first event is there", || numbers(&bench, &topic).contains(&(10 * round)));
        broker.services(&[down, "kafka"]);
        (1..5).for_each(|number| post(10 * round + number));
        let start = Instant::now();
        listener.signal(Signal::TERM);
        eventually("it listens no more", || TcpStream::connect(&listener.host).is_err());
        let (ended, said) = listener.wait();
        assert_eq!(ended, 143, "{said}");
        assert!(start.elapsed() < SOON, "{:?}: {said}", start.elapsed());
        assert!(said.contains(" not counted as written"), "{said}");
        // The first event may be in the topic although the run has not settled it. This also holds for those of the
        // round before.
        let left = |count: usize| {
            said.contains(&format!("evt-ingest: {count} records remain in the spool for the next run\n"))
        };
        assert!((4..=5 + 5 * round).any(left), "{said}");
        broker.services(&[up, "kafka"]);
    }
    let listener = Listener::open(dir, &flags);
    let wanted: BTreeSet<usize> = (0..5).chain(10..15).collect();
    eventually("all that was acknowledged is there", || numbers(&bench, &topic) == wanted);
    listener.stop();
}

/// Without a spool no client has received an acknowledgement.
#[test]
fn a_listener_that_acknowledges_by_its_output_says_how_many_records_have_no_answer() {
    let Some(mut bench) = Bench::new("unanswered") else { return };
    let broker = Broker { state: bench.dir.path("services"), name: "kafka" };
    bench.brokers = broker.start();
    let to = bench.uri(&bench.topic("t", 1, &[]), "");
    let mut listener = Listener::open(&bench.dir, &["--to", &to]);
    assert_eq!(listener.json(&event(1, "s")).status, 200);
    broker.services(&["kill", "kafka"]);
    let mut client = listener.connect();
    client.write_all(&request(&[("content-type", "application/json")], event(2, "s").as_bytes())).expect("it reads");
    listener.wait_for_metric(r#"evt_events_total{stage="evt-ingest",outcome="in"} 2"#);
    listener.wait_for_message("retrying");
    listener.signal(Signal::TERM);
    let answer = read(&mut client);
    assert!(answer.is_none_or(|answer| answer.status == 503));
    let (ended, said) = listener.wait();
    assert_eq!(ended, 143, "{said}");
    let line = "evt-ingest: 1 record was not acknowledged; its client must send again\n";
    assert!(said.contains(line), "{said}");
}

/// The same while the stage loop waits for the output.
#[test]
fn a_listener_refuses_connections_while_it_still_waits_for_its_broker() {
    let is_seen = (0..10).any(|_| refuses_connections_while_it_waits());
    assert!(is_seen, "the run refused connections within {WAITS:?} in none of ten rounds");
}

/// One round; false if the run did not refuse connections within [`WAITS`].
fn refuses_connections_while_it_waits() -> bool {
    let dir = Dir::new("listener_closes");
    let (_listener, address) = silent();
    let to = format!("kafka://{address}/t");
    let mut listener = Listener::open(&dir, &["--spool", "spool", "--to", &to]);
    assert_eq!(listener.json(&event(1, "s")).status, 200);
    listener.wait_for_message("retrying without a limit");
    let start = Instant::now();
    listener.signal(Signal::TERM);
    eventually("it listens no more", || TcpStream::connect(&listener.host).is_err());
    let (is_running, closed) = (listener.is_running(), start.elapsed());
    let (ended, said) = listener.wait();
    assert_eq!(ended, 143, "{said}");
    assert!(start.elapsed() < SOON, "{:?}: {said}", start.elapsed());
    assert!(said.contains("evt-ingest: 1 record remains in the spool for the next run\n"), "{said}");
    assert!(is_running || closed > WAITS, "it ended {closed:?} after the signal: {said}");
    is_running && closed < WAITS
}

/// The next stage was stopped, or waits for something itself: it reads nothing, and no signal ends a write to a full
/// pipe.
#[test]
fn a_listener_whose_reader_does_not_read_ends_at_a_signal_and_says_what_is_left() {
    let dir = Dir::new("listener_unread");
    let open = |flags: &[&str]| {
        let args = [&["http://127.0.0.1:0"], flags].concat();
        let mut listener = Listener::of(dir.command("evt-ingest", &args).stdout(Stdio::piped())).listening();
        (listener.stdout(), listener)
    };
    let unread = " records remain in the spool for the next run";
    let lost = " acknowledged records were not confirmed by every output and are lost";
    let stages = [(open(&["--checkpoint", "state", "--spool", "spool"]), unread), (open(&["--ack", "memory"]), lost)];
    let pad = "x".repeat(200);
    let line = |n: usize| format!("{{\"source\":\"s\",\"event_type\":\"t\",\"n\":{n},\"pad\":\"{pad}\"}}\n");
    let lines: String = (0..2_000).map(line).collect();
    for ((stdout, listener), _) in &stages {
        let post = || {
            let answer = listener.post(&[("content-type", "application/x-ndjson")], lines.as_bytes());
            assert_eq!(answer.status, 200, "{answer:?}");
        };
        // One request is more than a pipe takes. The listener reads none after it while it waits for the reader.
        post();
        eventually("the pipe is full", || ioctl_fionread(stdout).expect("a pipe") >= 60_000);
        (1..20).for_each(|_| post());
    }
    let begun = Instant::now();
    for ((_, listener), _) in &stages {
        listener.signal(Signal::TERM);
        eventually("it listens no more", || TcpStream::connect(&listener.host).is_err());
    }
    for ((_stdout, listener), left) in stages {
        let (ended, said) = listener.wait();
        assert_eq!(ended, 143, "{said}");
        assert!(begun.elapsed() < SOON_BEHIND_PIPE, "{:?}: {said}", begun.elapsed());
        let rows = " rows, and those after them, are not written: stdout: the reader has read nothing for 30 s";
        assert!(said.contains(rows) && said.contains(left), "{said}");
    }
}

/// A load balancer sends repeated queries on one connection. The server is ready while its output is unavailable,
/// because the spool accepts requests.
#[test]
fn a_kept_connection_gets_503_after_the_signal() {
    let is_seen = (0..20).any(|_| answers_503_after_the_signal());
    assert!(is_seen, "the server had both requests within {WAITS:?} in none of 20 rounds");
}

/// One round; false if the server had the requests later than [`WAITS`], when its run may have ended.
fn answers_503_after_the_signal() -> bool {
    let dir = Dir::new("listener_ready");
    let (_listener, address) = silent();
    let to = format!("kafka://{address}/t");
    let mut listener = Listener::open(&dir, &["--spool", "spool", "--to", &to]);
    assert_eq!(listener.json(&event(1, "s")).status, 200);
    listener.wait_for_message("retrying without a limit");
    let (mut kept, mut begun) = (listener.connect(), listener.connect());
    for _ in 0..3 {
        assert_eq!(next(&mut kept, "GET /readyz HTTP/1.1\r\nhost: h\r\n\r\n"), Some(200));
    }
    // The first request of this connection is in progress when the signal arrives.
    let start = Instant::now();
    begun.write_all(b"GET /readyz HTTP/1.1\r\n").expect("it reads");
    // A connection from which the server has read nothing is closed without an answer.
    eventually("the server has read the beginning", || unread(&begun) == Some(0));
    listener.signal(Signal::TERM);
    eventually("it listens no more", || TcpStream::connect(&listener.host).is_err());
    let first = next(&mut begun, "host: h\r\n\r\n");
    let last = next(&mut kept, "GET /readyz HTTP/1.1\r\nhost: h\r\n\r\n");
    let is_in_time = start.elapsed() < WAITS;
    assert!(first == Some(503) || first.is_none() && !is_in_time, "{first:?}");
    assert!(matches!(last, None | Some(503)), "{last:?}");
    assert_eq!(listener.wait().0, 143);
    is_in_time
}

/// Returns the number of bytes of `client` that the server has not read; `None` before it has accepted the connection.
/// Source: proc(5), `/proc/net/tcp`.
fn unread(client: &TcpStream) -> Option<u64> {
    let port = client.local_addr().expect("it is connected").port();
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (remote, queues, inode) = (fields[2], fields[4], fields[9]);
        let (_, received) = queues.split_once(':')?;
        (remote.ends_with(&format!(":{port:04X}")) && inode != "0").then(|| u64::from_str_radix(received, 16).ok())?
    })
}

/// Sends (the rest of) a request; returns the status of its answer, or `None` if the connection is closed.
fn next(stream: &mut TcpStream, text: &str) -> Option<u16> {
    stream.write_all(text.as_bytes()).ok()?;
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    stream.read_exact(&mut vec![0; length.parse().expect("a number")]).ok()?;
    head.split(' ').nth(1)?.parse().ok()
}

/// The server starts with a spool while outputs are unavailable, but reports every other fault.
#[test]
fn a_listener_with_a_spool_whose_output_refuses_it_ends_with_78_and_keeps_what_it_took() {
    let dir = Dir::new("listener_refused");
    let (registry, address) = silent();
    let to = format!("kafka://127.0.0.1:1/t?format=avro&schemas=http://{address}");
    let listener = Listener::open(&dir, &["--spool", "spool", "--to", &to]);
    for number in 1..=3 {
        assert_eq!(listener.json(&event(number, "s")).status, 200);
    }
    // Only now does the registry answer.
    let registry = std::thread::spawn(move || {
        let answer = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let (mut client, _) = registry.accept().expect("it asks");
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).expect("a request");
            head.push(byte[0]);
        }
        client.write_all(answer.as_bytes()).expect("it reads");
    });
    let (ended, said) = listener.wait();
    registry.join().expect("no panic");
    assert_eq!(ended, 78, "{said}");
    assert!(said.contains("401") && said.contains(&address), "{said}");
    assert!(said.contains("evt-ingest: 3 records remain in the spool for the next run\n"), "{said}");
    let listener = Listener::open(&dir, &["--spool", "spool", "--to", "out.jsonl"]);
    eventually("all of them are written", || lines(&dir, "out.jsonl") == 3);
    listener.stop();
}

#[test]
fn a_run_from_topic_to_topic_whose_broker_is_away_commits_nothing_that_is_not_written() {
    let Some(mut bench) = Bench::new("topics_stopped") else { return };
    let broker = Broker { state: bench.dir.path("services"), name: "kafka" };
    bench.brokers = broker.start();
    let [from, to] = ["from", "to"].map(|name| bench.topic(name, 1, &[]));
    // A member that could not leave its group blocks the next run until its session has expired.
    let settings = "rdkafka.auto.commit.interval.ms=100&rdkafka.session.timeout.ms=15000";
    let input = bench.uri(&from, &format!("?group=g&{settings}"));
    let output = bench.uri(&to, "");
    let (mut wanted, mut offset) = (0, 0);
    for (down, up) in [("pause", "resume"), ("kill", "start")] {
        let before = bench.records(&to).len();
        let tool = Tool::start(&bench.dir, "evt-ingest", &[&input, "--to", &output]);
        bench.dir.write("in.jsonl", numbered(wanted..wanted + 1000));
        wanted += 1000;
        bench.dir.run("evt-ingest", &["-q", "in.jsonl", "--to", &bench.uri(&from, "")]).succeeds();
        eventually("it writes", || bench.records(&to).len() > before);
        broker.services(&[down, "kafka"]);
        tool.stops_within(SOON);
        broker.services(&[up, "kafka"]);
        let committed = bench.committed("g", &from, 1)[0].0.unwrap_or(0);
        assert!(committed >= offset, "{committed} after {offset}");
        offset = committed;
        let written = numbers(&bench, &to);
        assert!(
            (0..committed as usize).all(|number| written.contains(&number)),
            "{committed} committed of {written:?}"
        );
    }
    bench.dir.run("evt-ingest", &["-q", &format!("{input}&end=latest"), "--to", &output]).succeeds();
    assert_eq!(numbers(&bench, &to), (0..wanted).collect());
}

/// A metric for each event, as frames.
fn metrics(dir: &Dir) -> Vec<u8> {
    let line = "evt-gen --events 60k --seed 7 | evt-ingest -q \
        | evt-window -q --size 1s --by event_type,source --agg 'count(*)' > metrics.arrows";
    dir.shell(line).succeeds();
    dir.bytes("metrics.arrows")
}

/// Stores of one test.
struct Stores {
    redis: Broker,
    postgres: Broker,
    addresses: [String; 2],
}

impl Stores {
    fn start(prefix: &str) -> Self {
        // A directory that PostgreSQL's own user may enter: root cannot run PostgreSQL.
        let state = std::env::temp_dir().join(format!("evt-{prefix}"));
        let [redis, postgres] = ["redis", "postgres"].map(|name| Broker { state: state.clone(), name });
        redis.services(&["start", "redis", "postgres"]);
        let addresses = [redis.start(), postgres.start()];
        Self { redis, postgres, addresses }
    }

    /// Empty outputs, and the inputs that read them back.
    fn place(&self, name: &str) -> ([String; 2], [String; 2]) {
        let [redis, postgres] = &self.addresses;
        let outputs = [format!("{redis}?prefix={name}:"), format!("{postgres}?schema={name}")];
        let inputs = [outputs[0].clone(), format!("{}&table=aggregated_metrics", outputs[1])];
        (outputs, inputs)
    }
}

/// The rows that can be read; none if the table does not exist yet.
fn rows(dir: &Dir, input: &str) -> usize {
    let run = dir.run("evt-view", &["-q", "-o", "jsonl", input]);
    if run.status() == 0 { run.rows().len() } else { 0 }
}

/// The server was available when the run began, and is unavailable when the first rows arrive.
#[test]
fn a_run_whose_store_is_away_when_it_is_opened_says_how_many_rows_are_not_written() {
    let Some(bench) = Bench::new("never_opened") else { return };
    let stores = Stores::start(&bench.prefix);
    let dir = &bench.dir;
    let manager = UnixDatagram::bind(dir.path("notify")).expect("a socket");
    let mut command = dir.command("evt-ingest", &["-f", "jsonl", "--to", &stores.addresses[1]]);
    command.env("NOTIFY_SOCKET", dir.path("notify"));
    let mut tool = Tool::of(dir, "evt-ingest", command);
    let mut stdin = tool.stdin();
    // The stage is ready, so its server has answered.
    let mut told = [0; 4096];
    while !manager.recv(&mut told).is_ok_and(|count| told[..count].starts_with(b"READY=1")) {}
    stores.postgres.services(&["kill", "postgres"]);
    stdin.write_all(numbered(0..3).as_bytes()).expect("it reads");
    tool.wait_for_message("retrying");
    let said = tool.stops_within(SOON_BEHIND_PIPE);
    let line = said.lines().find(|line| line.contains("none of the 3 rows that were read is counted as written"));
    assert!(line.is_some_and(|line| line.contains("postgres://")), "{said}");
}

/// A sink behind a pipe, one of whose stores was killed in the middle of its rows.
struct BrokenSink<'a> {
    tool: Tool<'a>,
    /// The thread that writes the other rows; its reader may stop before it has read all of them.
    writer: JoinHandle<std::io::Result<()>>,
    /// The inputs that read the stores back.
    inputs: [String; 2],
    /// The killed store.
    server: &'a Broker,
}

impl<'a> BrokenSink<'a> {
    /// Starts a sink into empty outputs, and kills `server` when both stores have some of the rows of `frames`.
    fn start(dir: &'a Dir, stores: &Stores, server: &'a Broker, frames: &[u8]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (outputs, inputs) = stores.place(&format!("round_{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let mut tool = Tool::start(dir, "evt-sink", &["--to", &outputs[0], "--to", &outputs[1]]);
        let mut stdin = tool.stdin();
        let (half, rest) = frames.split_at(frames.len() / 2);
        stdin.write_all(half).expect("it reads");
        eventually("the first rows are written", || inputs.iter().all(|input| rows(dir, input) > 0));
        server.services(&["kill", server.name]);
        let rest = rest.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&rest));
        tool.wait_for_message("retrying");
        Self { tool, writer, inputs, server }
    }

    /// Stops the sink and restarts its store: both stores then have all rows. Returns false if the store restarted
    /// later than [`WAITS_BEHIND_PIPE`], when the sink may have given up.
    fn continues(self, wanted: usize) -> bool {
        let Self { mut tool, writer, inputs, server } = self;
        let start = Instant::now();
        tool.signal();
        server.services(&["start", server.name]);
        let is_in_time = start.elapsed() < WAITS_BEHIND_PIPE;
        assert_eq!(status(tool.child.wait().expect("it ends")), 143, "{}", tool.said());
        let written = writer.join().expect("no panic");
        if is_in_time {
            assert!(tool.said().contains("available again after"), "{}", tool.said());
            written.expect("it reads all");
            assert_eq!(inputs.map(|input| rows(tool.dir, &input)), [wanted, wanted], "{}", tool.said());
        }
        is_in_time
    }

    /// Stops the sink while its store is away: it says which store has not acknowledged its rows.
    fn ends_torn(self, scheme: &str) {
        let Self { tool, writer, server, .. } = self;
        let said = tool.stops_within(SOON_BEHIND_PIPE);
        let line = said.lines().find(|line| line.contains(" not acknowledged"));
        assert!(line.is_some_and(|line| line.contains(scheme)), "{said}");
        let _ = writer.join().expect("no panic");
        server.services(&["start", server.name]);
    }
}

#[test]
fn a_sink_behind_a_pipe_ends_torn_or_goes_on_where_its_store_comes_back() {
    let Some(bench) = Bench::new("sink_stopped") else { return };
    let stores = Stores::start(&bench.prefix);
    let (dir, frames) = (&bench.dir, metrics(&bench.dir));
    let wanted = rows(dir, "metrics.arrows");
    for (server, scheme) in [(&stores.redis, "redis://"), (&stores.postgres, "postgres://")] {
        let broken = || BrokenSink::start(dir, &stores, server, &frames);
        let is_seen = (0..5).any(|_| broken().continues(wanted));
        assert!(is_seen, "{scheme}: the store restarted within {WAITS_BEHIND_PIPE:?} in none of five rounds");
        broken().ends_torn(scheme);
    }
}

#[test]
fn a_sink_that_reads_a_topic_ends_at_a_signal_and_commits_no_row_that_is_not_written() {
    let Some(bench) = Bench::new("sink_topic") else { return };
    let stores = Stores::start(&bench.prefix);
    let (dir, topic) = (&bench.dir, bench.topic("t", 1, &[]));
    dir.write("in.jsonl", numbered(0..2000));
    let ingest = ["-q", "in.jsonl", "--to", &bench.uri(&topic, "")];
    dir.run("evt-ingest", &ingest).succeeds();
    let from = bench.uri(&topic, &format!("?group={}-g&rdkafka.auto.commit.interval.ms=100", bench.prefix));
    let args = [&from, "--kind", "event", "--to", &stores.addresses[1], "--to", "out.jsonl"];
    let tool = Tool::start(dir, "evt-sink", &args);
    eventually("it writes", || lines(dir, "out.jsonl") > 0);
    stores.postgres.services(&["pause", "postgres"]);
    dir.write("in.jsonl", numbered(2000..4000));
    dir.run("evt-ingest", &ingest).succeeds();
    tool.stops_within(SOON);
    stores.postgres.services(&["resume", "postgres"]);
    dir.run("evt-sink", &["-q", &format!("{from}&end=latest"), "--kind", "event", "--to", &stores.addresses[1]])
        .succeeds();
    let uri = format!("{}?table=raw_events", stores.addresses[1]);
    let rows = dir.run("evt-view", &["-q", "-o", "jsonl", &uri]).succeeds().rows();
    assert_eq!(rows.len(), 4000);
}

/// timeout(1) sends its signal to the process, then to the group that the process is in.
#[test]
fn two_signals_at_once_are_one_request_and_the_file_gets_its_name() {
    let dir = Dir::new("two-signals");
    dir.write("in.jsonl", "{\"server_timestamp\":\"2026-01-01T00:00:00Z\"}\n");
    let (mut round, mut judged) = (0, 0);
    while judged < 10 {
        round += 1;
        assert!(round < 100, "in all but {judged} rounds the signals were too far apart, or the file got no name");
        let name = format!("{round}.parquet");
        let args = ["-q", "--follow", "in.jsonl", "--to", &name];
        let mut run = dir.command("evt-ingest", &args).stdin(Stdio::null()).spawn().expect("it starts");
        eventually("it has opened its output", || dir.path(&format!("{name}.part")).exists());
        let (pid, start) = (Pid::from_child(&run), Instant::now());
        for _ in 0..2 {
            // The first signal may have ended it.
            let _ = kill_process(pid, Signal::TERM);
            std::thread::yield_now();
        }
        // A loaded machine may stop this thread between them, or the process before it handles the second one.
        let are_together = start.elapsed() < TOGETHER;
        assert_eq!(status(run.wait().expect("it is ours")), 143);
        let is_soon = start.elapsed() < TOGETHER;
        let is_whole = dir.path(&name).exists();
        assert!(is_whole || !is_soon, "round {round}");
        judged += usize::from(are_together && is_whole);
    }
}
