//! The front door and the rules of HTTP/1.1: hosts, heads, bodies that are announced, clients that stop writing; and SIGHUP.

use crate::door::{Door, Response, event, read, request};
use crate::harness::Dir;
use rustix::process::Signal;
use std::io::Write;
use std::net::Shutdown;

fn open(dir: &Dir) -> Door {
    Door::open(dir, &["-q", "--to", "out.jsonl", "--ack", "memory"])
}

#[test]
fn a_client_that_stops_writing_behind_its_request_is_answered() {
    let dir = Dir::new("rules_half_closed");
    let door = open(&dir);
    for number in 0..20 {
        let mut stream = door.connect();
        stream
            .write_all(&request(&[("content-type", "application/json")], event(number, "a").as_bytes()))
            .expect("sent");
        stream.shutdown(Shutdown::Write).expect("half closed");
        assert_eq!(read(&mut stream).map(|answer| answer.status), Some(200), "{number}");
    }
    door.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 20);
}

#[test]
fn a_request_says_its_host_once() {
    let dir = Dir::new("rules_host");
    let door = open(&dir);
    let status = |version: &str, hosts: &str| {
        let head = format!("GET /healthz HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
        door.raw(head.as_bytes()).map(|answer: Response| answer.status)
    };
    for hosts in ["host: h\r\n", "host: h:80\r\n", "host: [::1]:80\r\n", "host:\r\n"] {
        assert_eq!(status("1.1", hosts), Some(200), "{hosts}");
    }
    for hosts in ["", "host: a\r\nhost: b\r\n", "host: a b\r\n", "host: a/b\r\n"] {
        assert_eq!(status("1.1", hosts), Some(400), "{hosts}");
    }
    assert_eq!(status("1.0", ""), Some(200));
    assert_eq!(status("1.0", "host: a\r\nhost: b\r\n"), Some(400));
    door.stop();
}

#[test]
fn a_head_of_more_than_64_kib_is_refused() {
    let dir = Dir::new("rules_head");
    let door = open(&dir);
    let status = |bytes: usize| {
        let filler = "x".repeat(bytes / 50 - 20);
        let headers: String = (0..50).map(|n| format!("x-filler-{n:03}: {filler}\r\n")).collect();
        let head = format!("GET /healthz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{headers}\r\n");
        door.raw(head.as_bytes()).map(|answer| answer.status)
    };
    assert_eq!([status(60_000), status(70_000), status(100_000)], [Some(200), Some(431), Some(431)]);
    door.stop();
}

#[test]
fn a_body_that_is_announced_and_too_large_is_not_asked_for() {
    let dir = Dir::new("rules_expect");
    let door = open(&dir);
    let head = "POST /v1/events HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n\
                content-length: 99999999\r\n\r\n";
    assert_eq!(door.raw(head.as_bytes()).map(|answer| answer.status), Some(413), "and no 100 before it");
    door.stop();
}

#[test]
fn a_hangup_ends_no_front_door() {
    let dir = Dir::new("rules_hangup");
    let door = open(&dir);
    for _ in 0..3 {
        door.signal(Signal::HUP);
        assert_eq!(door.get("/healthz").status, 200);
    }
    assert_eq!(door.json(&event(1, "a")).status, 200);
    door.stop();
    assert_eq!(dir.rows("out.jsonl").len(), 1);
}
