//! A broker whose metadata name no broker, as those of one that has just started or was paused.
//!
//! It speaks as much of the [protocol of Kafka](https://kafka.apache.org/protocol) as a producer needs to learn its
//! brokers: ApiVersions 0 and Metadata 1. It does not answer other requests.

use crate::harness::{Dir, LONG_WAIT, ended_within};
use crate::kafka::event;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;

/// The number of topics in an answer without a broker. librdkafka forgets its brokers before it reads the topics, and
/// adds them again only if it notices their loss after it has read the last topic.
const TOPICS: usize = 5_000;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const UNSUPPORTED_VERSION: i16 = 35;
const LEADER_NOT_AVAILABLE: i16 = 5;

/// An answer in Kafka's encoding.
#[derive(Default)]
struct Answer(Vec<u8>);

impl Answer {
    fn int16(mut self, value: i16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn int32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn text(self, value: &str) -> Self {
        let mut answer = self.int16(value.len() as i16);
        answer.0.extend(value.as_bytes());
        answer
    }
}

/// Metadata of the topic `t` with one partition, with this broker or without any.
fn metadata(port: Option<u16>) -> Answer {
    const NULL: i16 = -1;
    let answer = match port {
        Some(port) => Answer::default().int32(1).int32(1).text("127.0.0.1").int32(i32::from(port)).int16(NULL).int32(1),
        None => Answer::default().int32(0).int32(-1),
    };
    let others = if port.is_some() { 0 } else { TOPICS };
    // librdkafka rejects many short names: it reserves memory for a multiple of the size of the answer.
    let names = (0..others).map(|number| format!("{number:064}")).chain(["t".to_owned()]);
    names.fold(answer.int32(others as i32 + 1), |answer, name| {
        let mut answer = answer.int16(0).text(&name);
        // It is no internal topic.
        answer.0.push(0);
        // Without a leader, the client asks again.
        answer.int32(1).int16(LEADER_NOT_AVAILABLE).int32(0).int32(-1).int32(1).int32(1).int32(1).int32(1)
    })
}

/// Answers the requests of one connection. The first metadata name the broker.
fn serve(mut client: TcpStream, port: u16) -> std::io::Result<()> {
    // A client that knows no broker yet forgets none.
    let mut is_named = false;
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        client.read_exact(&mut request)?;
        let int16 = |at: usize| i16::from_be_bytes([request[at], request[at + 1]]);
        let answer = match (int16(0), int16(2)) {
            // Produce 3 to 7, Fetch 4 to 11, Metadata 1, ApiVersions 0, InitProducerId 0 and 1.
            (API_VERSIONS, 0) => [(0, 3, 7), (1, 4, 11), (METADATA, 1, 1), (API_VERSIONS, 0, 0), (22, 0, 1)]
                .into_iter()
                .fold(Answer::default().int16(0).int32(5), |answer, (key, least, most)| {
                    answer.int16(key).int16(least).int16(most)
                }),
            (API_VERSIONS, _) => Answer::default().int16(UNSUPPORTED_VERSION).int32(0),
            (METADATA, _) => metadata((!std::mem::replace(&mut is_named, true)).then_some(port)),
            _ => continue,
        };
        client.write_all(&(answer.0.len() as u32 + 4).to_be_bytes())?;
        client.write_all(&request[4..8])?;
        client.write_all(&answer.0)?;
    }
}

/// The run waited for ever, because librdkafka had no broker left to ask.
#[test]
fn a_run_whose_client_has_lost_all_brokers_ends_although_it_would_wait_forever() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("a connection");
            // A client that closes its connection ends the thread.
            thread::spawn(move || serve(client, port));
        }
    });
    let dir = Dir::new("lost-brokers");
    dir.write("in.jsonl", event(1, "s") + "\n");
    let to = format!("kafka://127.0.0.1:{port}/t?wait=forever");
    let mut command = dir.command("evt-ingest", &["-q", "in.jsonl", "--to", &to, "--dlq", "null:"]);
    let mut run = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let status = ended_within(LONG_WAIT, "the run", &mut run);
    let mut said = String::new();
    run.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert_eq!(status, 69, "{said}");
    assert!(said.contains("librdkafka has lost all brokers and finds none again: a broker that had just"), "{said}");
}
