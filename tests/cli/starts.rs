//! Servers that are away, or not ready yet, while a run starts.

use crate::harness::{Dir, Run};
use crate::servers::{postgres, redis};
use crate::services::EVENT;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// How often a server that starts says so before it is ready.
const NOT_READY: usize = 2;

/// An error that PostgreSQL sends to a new client: severity, SQLSTATE and text.
fn postgres_error(code: &str, text: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{code}\0M{text}\0\0");
    let length = u32::try_from(fields.len() + 4).expect("short").to_be_bytes();
    [b"E", &length[..], fields.as_bytes()].concat()
}

/// Accepts connections and answers a request of each: the first ones with `first`, all others with `then`.
fn answering(first: Vec<u8>, then: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound").to_string();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(if number < NOT_READY { &first } else { &then });
            let _ = stream.shutdown(Shutdown::Write);
            // To the end, so that the answer is not lost by a reset.
            let _ = stream.read_to_end(&mut vec![]);
        }
    });
    address
}

/// A PostgreSQL that starts, and then does not know the user.
fn starting_postgres() -> String {
    let starting = postgres_error("57P03", "the database system is starting up");
    answering(starting, postgres_error("28000", "role \"u\" does not exist"))
}

/// A Redis that loads its data, and then wants a password.
fn starting_redis() -> String {
    let loading = b"-LOADING Redis is loading the dataset in memory\r\n".to_vec();
    answering(loading, b"-NOAUTH Authentication required.\r\n".to_vec())
}

/// Asserts that a run announced its wait in one line and did not end because of it.
#[track_caller]
fn assert_waited(run: Run, cause: &str) {
    let run = run.ends_with(78);
    let said = run.stderr();
    let waits: Vec<&str> = said.lines().filter(|line| line.contains("retrying")).collect();
    let [wait] = waits[..] else { panic!("expected one line about the wait: {run}") };
    assert!(wait.ends_with(&format!("{cause}: retrying for up to 30s (?retry=)")), "{run}");
}

#[test]
fn every_use_of_a_server_waits_while_the_server_starts() {
    let dir = Dir::new("starts");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    dir.write("bad.jsonl", "no JSON\n");
    dir.shell("evt-ingest -q bad.jsonl --dlq dead.jsonl --to null:").succeeds();
    dir.shell("evt-window -q e.jsonl --size 1m --late null: --to m.jsonl").succeeds();
    dir.shell("evt-ingest -q e.jsonl --to sqlite:e.db").succeeds();
    dir.write("m.toml", "[[metric]]\nname = \"n\"\nsize = \"1m\"\n");
    let to_postgres = [
        "evt-sink e.jsonl --to URI",
        "evt-ingest e.jsonl --to null: --dlq URI",
        "evt-window e.jsonl --size 1m --to null: --late URI",
        "evt-window e.jsonl --size 1m --late null: --to URI --checkpoint ck",
        "evt-view URI",
        "evt-view 'URI?table=raw_events'",
        "evt-sink 'URI?table=raw_events' --to null:",
        "evt-reconcile e.jsonl 'URI?table=raw_events'",
        "evt-alert e.jsonl --state a.db --rules 'URI?table=rules' --once",
        "evt-alert 'URI?table=aggregated_metrics' --state b.db --rules rules.json --once",
        "evt-replay dead.jsonl --ledger URI --to replayed.jsonl",
        "evt-replay dead.jsonl --ledger URI --dry-run",
        "evt-backfill e.jsonl -m m.toml --to URI --all-closed",
        "evt-backfill e.jsonl -m m.toml --to URI --all-closed --dry-run",
        "evt-backfill URI -m m.toml --to sqlite:m.db --all-closed",
        "evt-alert e.jsonl --rules rules.json --state c.db --once --to URI",
    ];
    dir.write("rules.json", r#"[{"name": "a", "input": "metric", "threshold": 1, "window_seconds": 60}]"#);
    for line in to_postgres {
        let uri = format!("postgres://u@{}/d", starting_postgres());
        assert_waited(dir.shell(&line.replace("URI", &uri)), "the database system is starting up");
    }
    for line in ["evt-sink m.jsonl --to URI", "evt-view URI", "evt-view 'URI?table=aggregated_metrics'"] {
        let uri = format!("redis://{}", starting_redis());
        assert_waited(dir.shell(&line.replace("URI", &uri)), "LOADING Redis is loading the dataset in memory");
    }
}

#[test]
fn a_check_does_not_wait_and_a_limit_of_the_uri_ends_the_wait_of_a_run() {
    let dir = Dir::new("starts-limits");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    let starting = postgres_error("57P03", "the database system is starting up");
    let address = answering(starting.clone(), starting);
    let uri = format!("postgres://u@{address}/d?retry=300ms");
    let run = dir.run("evt-sink", &["e.jsonl", "--check", "--to", &uri]).ends_with(69);
    assert!(run.stderr().ends_with("/d: unavailable: the database system is starting up\n"), "{run}");
    assert_eq!(run.stderr().lines().count(), 1, "{run}");
    for args in [&["evt-sink", "e.jsonl", "--to", &uri][..], &["evt-view", &format!("{uri}&table=raw_events")]] {
        let run = dir.run(args[0], &args[1..]).ends_with(69);
        let said = run.stderr();
        let [wait, end] = said.lines().collect::<Vec<_>>()[..] else { panic!("{run}") };
        assert!(wait.ends_with("starting up: retrying for up to 300ms (?retry=)"), "{run}");
        let end_of_wait = "unavailable for 300ms (?retry= sets the limit): the database system is starting up";
        assert!(end.contains(end_of_wait), "{run}");
    }
}

/// A program that sends a byte now and then, or values without end, does not hold a run, nor fill its memory.
#[test]
fn a_server_whose_reply_does_not_end_is_given_up() {
    let dir = Dir::new("starts-endless");
    let fields = r#""dimensions":{},"value":1,"rows":1,"revision":0,"pane":0,"retracted":false"#;
    dir.write(
        "m.jsonl",
        format!(r#"{{"metric_id":"09c4c0d2-7f8e-58af-96a5-42df8aab1690","metric_name":"n","window_start":"2030-01-01T00:00:00Z","window_end":"2030-01-01T01:00:00Z",{fields}}}"#),
    );
    for (first, then, pause) in [
        (&b"+"[..], &b"R"[..], Duration::from_millis(100)),
        (b"*1000000000\r\n", &b":1\r\n".repeat(1 << 14), Duration::ZERO),
        (b"$500000000\r\n", &[b'x'; 1 << 16], Duration::ZERO),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let uri = format!("redis://{}?connect=1s&timeout=1s&retry=1s", listener.local_addr().expect("it is bound"));
        let then = then.to_vec();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut sent = stream.write_all(first);
                while sent.is_ok() {
                    thread::park_timeout(pause);
                    sent = stream.write_all(&then);
                }
            }
        });
        let run = dir.run("evt-sink", &["m.jsonl", "--kind", "metric", "--to", &uri]);
        assert!([69, 74].contains(&run.status()), "{run}");
    }
}

/// Clients would connect to another port, and send it the password.
#[test]
fn a_port_that_does_not_exist_is_refused_before_anything_is_sent() {
    let dir = Dir::new("starts-ports");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    for port in ["x", "99999", "-1", "0", "8081x", ""] {
        let registry = format!("http://u:geheim@127.0.0.1:{port}?retry=1s");
        let kafka = format!("kafka://127.0.0.1:9,127.0.0.1:{port}/t?wait=1s");
        let bucket =
            format!("s3://bucket/p?endpoint=http://127.0.0.1:{port}&region=r&access_key=a&secret_key={{env:HOME}}");
        for args in [
            &["evt-validate", "e.jsonl", "--schemas", &registry, "--to", "null:"][..],
            &["evt-sink", "e.jsonl", "--to", &kafka],
            &["evt-window", "e.jsonl", "--size", "1m", "--checkpoint", &bucket, "--to", "null:"],
        ] {
            let run = dir.run(args[0], &args[1..]).ends_with(2);
            let said = run.stderr();
            assert!(said.contains("expected a port from 1 to 65535") && !said.contains("geheim"), "{run}");
        }
    }
}

/// An output in Avro needs its registry before it has rows.
#[test]
fn a_run_waits_for_the_registry_of_an_output() {
    let dir = Dir::new("starts-registry");
    dir.write("e.jsonl", format!("{EVENT}\n"));
    let uri = "kafka://127.0.0.1:1/t?format=avro&wait=1s&schemas=http://127.0.0.1:1/apis?retry=300ms";
    for line in ["evt-sink e.jsonl --to URI", "evt-ingest e.jsonl --to null: --dlq URI"] {
        let run = dir.shell(&line.replace("URI", &format!("'{uri}'"))).ends_with(69);
        assert!(run.stderr().contains("retrying for up to 300ms (?retry=)"), "{run}");
        let run = dir.shell(&format!("{} --check", line.replace("URI", &format!("'{uri}'")))).ends_with(69);
        assert!(!run.stderr().contains("retrying"), "{run}");
    }
}

/// Passes connections on to a server, but closes the first ones.
fn door(server: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, server) = (listener.local_addr().expect("it is bound").to_string(), server.to_owned());
    thread::spawn(move || {
        for client in listener.incoming().skip(NOT_READY) {
            let client = client.expect("a connection");
            let server = TcpStream::connect(&server).expect("the server runs");
            let pairs = [(&client, &server), (&server, &client)];
            for (from, to) in pairs.map(|(from, to)| (from.try_clone(), to.try_clone())) {
                let (mut from, mut to) = (from.expect("a socket"), to.expect("a socket"));
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    address
}

/// The URI of a server through a door.
fn through_door(uri: &str) -> String {
    let (scheme, rest) = uri.split_once("://").expect("a URI");
    let host = rest.split(['/', '?']).next().expect("a host");
    let address = host.rsplit('@').next().expect("a host");
    format!("{scheme}://{}", rest.replacen(address, &door(address), 1))
}

#[test]
fn a_server_that_comes_back_while_a_run_starts_gets_all_rows_and_one_line_says_so() {
    let servers = [redis().map(|place| place.0), postgres().map(|place| place.0)];
    for server in servers.into_iter().flatten() {
        let dir = Dir::new("starts-again");
        dir.write("e.jsonl", format!("{EVENT}\n"));
        dir.shell("evt-window -q e.jsonl --size 1m --late null: --to m.jsonl").succeeds();
        let run = dir.run("evt-sink", &["m.jsonl", "--to", &through_door(&server)]).succeeds();
        let count = |words: &str| run.stderr().lines().filter(|line| line.contains(words)).count();
        assert_eq!((count("retrying for up to 30s"), count("available again after")), (1, 1), "{run}");
        let view = format!("{}&table=aggregated_metrics", through_door(&server));
        let read = dir.run("evt-view", &["-o", "jsonl", &view]).succeeds();
        assert_eq!(read.rows().len(), dir.rows("m.jsonl").len(), "{read}");
        assert!(read.stderr().contains("available again after"), "{read}");
    }
}
