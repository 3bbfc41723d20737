//! Tests that only Redis needs: foreign keys, scripts that the server lost, indexes that expire.

use super::wire::Wire;
use super::*;
use crate::conformance::Bench;
use crate::sample::{as_text, metrics, rows};
use evt_core::ErrorKind;
use evt_core::time::HOUR;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

fn wire(bench: &Bench) -> (RedisAddress, Wire) {
    let address = RedisAddress::try_new(&bench.location).unwrap();
    let wire = address.server.connect().ok().unwrap();
    (address, wire)
}

fn query(wire: &mut Wire, words: &[&str]) -> Value {
    wire.call(words).ok().unwrap()
}

/// Returns the keys of the only row of `metrics(&[(0, 0, 1, false)])`: of the row and of its series.
fn keys(address: &RedisAddress) -> (String, String) {
    let series = address.keys.windows("per minute", &key::hash(r#"{"country":"0"}"#));
    let start = crate::sample::START;
    (format!("{series}:{}", key::window(start, start + HOUR)), series)
}

#[test]
fn a_row_whose_key_is_somebody_elses_comes_back_and_the_others_stay() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    let (address, mut wire) = wire(&bench);
    query(&mut wire, &["SET", &keys(&address).0, "theirs", "EX", "60"]);
    let mut sink = bench.open();
    let rejected = sink.write(Kind::Metric, &rows(Kind::Metric, 0, 5)).unwrap();
    assert_eq!(rejected.iter().map(|rejected| rejected.row).collect::<Vec<_>>(), [0]);
    assert!(rejected[0].fault.message.contains("WRONGTYPE"), "{}", rejected[0].fault.message);
    sink.counts().check().unwrap();
    assert_eq!(bench.table(Kind::Metric), as_text(&[rows(Kind::Metric, 1, 5)]));
}

#[test]
fn scripts_that_the_server_forgot_are_brought_again() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    let mut sink = bench.open();
    sink.write(Kind::Metric, &rows(Kind::Metric, 0, 5)).unwrap();
    query(&mut wire(&bench).1, &["SCRIPT", "FLUSH"]);
    sink.write(Kind::Metric, &rows(Kind::Metric, 5, 9)).unwrap();
    assert_eq!(sink.finish().unwrap().counts.inserted, 9);
    assert_eq!(bench.table(Kind::Metric), as_text(&[rows(Kind::Metric, 0, 9)]));
}

#[test]
fn a_repetition_with_a_longer_life_gives_it_to_what_it_finds() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    let rows = metrics(&[(0, 0, 1, false)]);
    let bench = bench.with("ttl", "1m");
    bench.run(Kind::Metric, std::slice::from_ref(&rows));
    let bench = bench.with("ttl", "2h");
    assert_eq!(bench.run(Kind::Metric, std::slice::from_ref(&rows)).counts.unchanged, 1);
    let bench = bench.with("ttl", "1m");
    assert_eq!(bench.run(Kind::Metric, std::slice::from_ref(&rows)).counts.unchanged, 1);
    let (address, mut wire) = wire(&bench);
    let (row, windows) = keys(&address);
    for key in [row, windows] {
        let Value::Int(left) = query(&mut wire, &["TTL", &key]) else { panic!("{key}") };
        assert!(left > 7000, "{key}: {left}");
    }
}

#[test]
fn a_longer_life_is_not_cut_by_a_run_with_a_shorter_one() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    let bench = bench.with("ttl", "2h");
    bench.run(Kind::Metric, &[metrics(&[(0, 0, 1, false)])]);
    let bench = bench.with("ttl", "1m");
    bench.run(Kind::Metric, &[metrics(&[(24, 0, 1, false)])]);
    let (address, mut wire) = wire(&bench);
    let (row, windows) = keys(&address);
    for key in [row, windows, address.keys.series("per minute"), address.keys.names()] {
        let Value::Int(left) = query(&mut wire, &["TTL", &key]) else { panic!("{key}") };
        assert!(left > 7000, "{key}: {left}");
    }
}

#[test]
fn what_has_expired_is_in_no_index_and_not_counted() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    let bench = bench.with("ttl", "1ms");
    bench.run(Kind::Metric, &[metrics(&[(0, 0, 1, false)])]);
    let (address, mut wire) = wire(&bench);
    while query(&mut wire, &["EXISTS", &address.keys.names()]) != Value::Int(0) {}
    assert_eq!((STORE.reader.tables)(&bench.location).unwrap(), [("aggregated_metrics".to_owned(), 0)]);
    assert!(bench.read(Kind::Metric).is_empty());
    let (_, windows) = keys(&address);
    while query(&mut wire, &["EXISTS", &windows]) != Value::Int(0) {}
}

#[test]
fn options_that_make_no_sense_are_exit_2() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    let mut bench = bench;
    for (option, value) in [("ttl", "0s"), ("ttl", "2"), ("prefix", "{a}"), ("timeout", "0s"), ("ca", "cert.pem")] {
        let before = bench.location.clone();
        bench = bench.with(option, value);
        assert_eq!(bench.open_as("run", false).err().unwrap().kind(), ErrorKind::Usage, "{option}={value}");
        bench.location = before;
    }
}

#[test]
fn an_alert_is_in_the_set_while_it_fires_and_shows_its_last_row() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    // Rows 0 and 1 are both rows of one alert; rows 2 and 4 are the firings of two others.
    let all = rows(Kind::Alert, 0, 5);
    let (address, mut wire) = wire(&bench);
    let found = evt_core::kind::alerts::read(&all).unwrap();
    let key = |row: usize| address.keys.alert(&found[row].rule.rule_id.to_string(), &found[row].id().to_string());
    let set = |wire: &mut Wire| {
        let Value::Array(keys) = query(wire, &["SMEMBERS", &address.keys.firing()]) else { panic!("a set") };
        let mut keys: Vec<String> = keys.iter().filter_map(super::wire::text).map(str::to_owned).collect();
        keys.sort();
        keys
    };
    let sorted = |mut keys: Vec<String>| {
        keys.sort();
        keys
    };
    let run = |row: usize| bench.run(Kind::Alert, &[all.slice(row, 1)]).counts;
    assert_eq!((run(0).inserted, run(4).inserted), (1, 1));
    assert_eq!(set(&mut wire), sorted(vec![key(0), key(4)]));
    assert_eq!(run(1).inserted, 1);
    assert_eq!(set(&mut wire), [key(4)]);
    // A replay: the older row does not come back.
    assert_eq!(run(0).unchanged, 1);
    let state = query(&mut wire, &["HGET", &key(0), "state"]);
    assert_eq!(super::wire::text(&state), Some("resolved"));
    assert_eq!(set(&mut wire), [key(4)]);
    // An alert that has expired leaves the set with the next run.
    query(&mut wire, &["DEL", &key(4)]);
    assert_eq!(run(2).inserted, 1);
    assert_eq!(set(&mut wire), [key(2)]);
    let Value::Int(left) = query(&mut wire, &["PTTL", &address.keys.firing()]) else { panic!("a time") };
    assert!(left > 48 * 3600 * 1000, "{left}");
    assert_eq!(bench.table(Kind::Alert), as_text(&[all.slice(0, 3)]));
}

#[test]
fn a_server_that_has_too_many_clients_is_retried() {
    for login in ["", "user:password@"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = format!("{login}{}/0", listener.local_addr().unwrap());
        let scheme = "redis".to_owned();
        let location = Location { scheme, path, slashes: true, is_remote: true, ..Location::default() };
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            client.read_exact(&mut [0]).unwrap();
            client.write_all(b"-ERR max number of clients reached\r\n").unwrap();
            client.read_to_end(&mut vec![]).unwrap();
        });
        let connected = RedisAddress::try_new(&location).unwrap().server.connect();
        let Err(RetryError::Transient(cause)) = connected else { panic!("{login}: connected, or failed for good") };
        assert_eq!(cause, "ERR max number of clients reached");
        server.join().unwrap();
    }
}

#[test]
fn metrics_are_served_without_expired_rows_and_are_unavailable_once_the_connection_is_lost() {
    let Some(bench) = Bench::on_server(&STORE) else { return };
    bench.run(Kind::Metric, &[metrics(&[(0, 0, 1, false)])]);
    let (listener, mut location) = (TcpListener::bind("127.0.0.1:0").unwrap(), bench.location.clone());
    let (address, _) = location.path.split_once('/').unwrap_or((&location.path, ""));
    let server = TcpStream::connect(address.rsplit('@').next().unwrap()).unwrap();
    location.path = location.path.replacen(address, &listener.local_addr().unwrap().to_string(), 1);
    let between = std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server);
        std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
        client
    });
    let mut served = (STORE.reader.serving.unwrap())(&location).unwrap();
    let nothing = std::collections::BTreeMap::new();
    let request = crate::serving::WindowsRequest {
        metric: "per minute",
        starts: Default::default(),
        last_end: evt_core::time::LATEST,
        dimensions: &nothing,
        limit: 10,
    };
    assert_eq!(served.windows(&request).unwrap().windows.len(), 1);
    assert_eq!(served.keeps(), Some(48 * HOUR));
    // A row that has expired since the index was read.
    let (own, mut other) = wire(&bench);
    query(&mut other, &["DEL", &keys(&own).0]);
    assert_eq!(served.windows(&request).unwrap().windows, []);
    between.join().unwrap().shutdown(Shutdown::Both).unwrap();
    for _ in 0..2 {
        assert_eq!(served.windows(&request).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(served.metrics().unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
