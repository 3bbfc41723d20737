//! The connection to Redis through a relay: over TLS, and while the process is stopped and continued.

use crate::harness::{Dir, ended, eventually, python, suspend};
use crate::mail::certify;
use crate::python_server::PythonServer;
use crate::servers::redis;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// The host and the port of a URI.
fn host(uri: &str) -> &str {
    let (_, place) = uri.split_once("://").expect("a URI");
    place.rsplit('@').next().and_then(|place| place.split('/').next()).expect("a host")
}

/// Makes 100 metric rows in `metrics.arrows`.
fn make_metrics(dir: &Dir) {
    let event = |n: usize| {
        format!("{{\"event_type\":\"t\",\"user_id\":\"{n}\",\"server_timestamp\":\"2024-01-15T10:00:00Z\"}}\n")
    };
    dir.write("events.jsonl", (0..100).map(event).collect::<String>());
    dir.write(
        "metrics.toml",
        "[[metric]]\nname = \"n\"\naggregate = \"count(*)\"\nby = [\"user_id\"]\nsize = \"1m\"\n",
    );
    dir.shell("evt-ingest -q events.jsonl | evt-window -q -m metrics.toml > metrics.arrows").succeeds();
}

#[test]
fn a_run_that_is_stopped_and_continued_while_it_waits_for_redis_keeps_its_connection() {
    let (Some(python), Some((_, uri, prefix))) = (python(), redis()) else { return };
    let dir = Dir::new("redis-stopped");
    make_metrics(&dir);
    let relay = PythonServer::new(&dir, &python, "relay.py", &[host(&uri)]);
    dir.write("hold", "");
    let output = format!("redis://127.0.0.1:{}/0?prefix={prefix}&timeout=10m", relay.port);
    let mut sink = dir
        .command("evt-sink", &["metrics.arrows", "--to", &output])
        .stderr(std::fs::File::create(dir.path("said")).expect("a file"))
        .spawn()
        .expect("it starts");
    eventually("the answer to a script is held back", || dir.path("held").exists());
    let pid = Pid::from_child(&sink);
    suspend(&sink);
    kill_process(pid, Signal::CONT).expect("it is stopped");
    std::fs::remove_file(dir.path("hold")).expect("it is there");
    assert_eq!(ended("the sink", &mut sink), 0);
    let said = String::from_utf8(dir.bytes("said")).expect("text");
    assert!(said.contains("inserted 100\n") && said.lines().count() == 1, "{said}");
}

#[test]
fn rediss_trusts_the_certificates_of_its_ca_and_no_others() {
    let (Some(python), Some((_, uri, prefix))) = (python(), redis()) else { return };
    let dir = Dir::new("rediss");
    make_metrics(&dir);
    certify(&dir);
    let relay = PythonServer::new(&dir, &python, "relay.py", &[host(&uri), "cert.pem", "key.pem"]);
    let output = |host: &str, options: &str| format!("rediss://{host}:{}/0?prefix={prefix}{options}", relay.port);
    let sink = |output: &str| dir.run("evt-sink", &["metrics.arrows", "--to", output]);
    let trusted = output("localhost", "&ca=cert.pem");
    let run = sink(&trusted).succeeds();
    assert!(run.stderr().contains("inserted 100\n"), "{run}");
    assert_eq!(dir.run("evt-view", &["-q", "-o", "jsonl", &trusted]).succeeds().rows().len(), 100);
    for untrusted in [output("localhost", ""), output("127.0.0.1", "&ca=cert.pem")] {
        let run = sink(&untrusted).ends_with(78);
        assert!(run.stderr().contains("certificate"), "{run}");
    }
    dir.write("empty.pem", "");
    for (ca, cause) in [("empty.pem", "expected a PEM certificate"), ("none.pem", "none.pem")] {
        let run = sink(&output("localhost", &format!("&ca={ca}"))).ends_with(78);
        assert!(run.stderr().contains(cause), "{run}");
    }
}

#[test]
fn a_user_logs_in_with_a_password_and_uses_the_database_of_the_uri() {
    let Some((_, uri, prefix)) = redis() else { return };
    let dir = Dir::new("redis-login");
    make_metrics(&dir);
    let cli = |args: &[&str]| dir.run("redis-cli", &[&["-u", uri.as_str()], args].concat()).succeeds().text();
    let user = prefix.trim_end_matches(':');
    assert_eq!(cli(&["ACL", "SETUSER", user, "on", ">p@ss:w%rd", "~*", "+@all"]).trim(), "OK");
    let host = host(&uri);
    let output = format!("redis://{user}:p%40ss%3Aw%25rd@{host}/7?prefix={prefix}");
    let sink = |output: &str, status: i32| {
        let said = dir.run("evt-sink", &["metrics.arrows", "--to", output]).ends_with(status).stderr();
        assert!(!said.contains("p@ss") && !said.contains("p%40ss"), "{said}");
        said
    };
    let said = sink(&output, 0);
    assert!(said.contains("inserted 100\n"), "{said}");
    let names = format!("{prefix}metric:names");
    assert_eq!(
        [cli(&["-n", "7", "EXISTS", &names]), cli(&["EXISTS", &names])].map(|text| text.contains('1')),
        [true, false]
    );
    // A database that the server does not have.
    let said = sink(&output.replace("/7?", "/99?"), 78);
    assert!(said.contains("rejected: ERR DB index is out of range"), "{said}");
    // A user who may only do other things has connected; the first command that is not allowed ends the run.
    assert_eq!(cli(&["ACL", "SETUSER", user, "-ping", "-script"]).trim(), "OK");
    let said = sink(&output, 78);
    assert!(said.contains("rejected: NOPERM") && said.contains("script"), "{said}");
    assert!(cli(&["ACL", "DELUSER", user]).contains('1'));
}

/// Answers commands as a node of a cluster that has no slot of the keys.
fn serve_no_slot(stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut stream, mut line) = (stream, String::new());
    while reader.read_line(&mut line)? > 0 {
        let words: usize = line.trim_start_matches('*').trim_end().parse().unwrap_or_default();
        let mut command = vec![];
        for _ in 0..words {
            line.clear();
            reader.read_line(&mut line)?;
            let mut word = vec![0; line.trim_start_matches('$').trim_end().parse::<usize>().unwrap_or_default() + 2];
            reader.read_exact(&mut word)?;
            command.push(String::from_utf8_lossy(&word).trim_end().to_owned());
        }
        line.clear();
        let answer = match command.first().map(String::as_str) {
            Some("SELECT" | "PING") => "+OK\r\n".to_owned(),
            Some("TIME") => "*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n".to_owned(),
            Some("SCRIPT") => format!("$40\r\n{}\r\n", "a".repeat(40)),
            _ => "-MOVED 9434 127.0.0.1:31902\r\n".to_owned(),
        };
        stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}

#[test]
fn a_cluster_of_several_nodes_is_named_as_not_supported() {
    let dir = Dir::new("redis-cluster");
    make_metrics(&dir);
    let node = TcpListener::bind("127.0.0.1:0").expect("a port");
    let uri = format!("redis://{}/0", node.local_addr().expect("an address"));
    // It ends with the process.
    std::thread::spawn(move || {
        for stream in node.incoming().flatten() {
            std::thread::spawn(|| serve_no_slot(stream));
        }
    });
    let run = dir.run("evt-sink", &["metrics.arrows", "--to", &uri]).ends_with(78);
    let cause = "rejected: MOVED 9434 127.0.0.1:31902: a cluster of several nodes is not supported\n";
    assert!(run.stderr().contains(cause), "{run}");
}
